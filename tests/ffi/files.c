/*
 * Files from a C host: a thread that is cancelled while it saves and loads, a file larger than the process may write,
 * and files in memory. tests/files.rs builds and runs it, and gives it an empty directory.
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "elman.h"

#define EXPECT(condition)                                                                             \
    do {                                                                                              \
        if (!(condition)) {                                                                           \
            fprintf(stderr, "line %d: not so: %s: %s\n", __LINE__, #condition, elman_last_error()); \
            exit(EXIT_FAILURE);                                                                       \
        }                                                                                             \
    } while (0)
#define OK(call) EXPECT((call) == ELMAN_STATUS_OK)

static char network_path[4096], checkpoint_path[4096];
static volatile int calls_done;

static elman_sequential *make(size_t units) {
    elman_sequential *network = NULL;
    elman_simple_rnn_config config;
    OK(elman_simple_rnn_config_init(&config, sizeof config, units));
    OK(elman_sequential_new(3, &network));
    OK(elman_sequential_add_simple_rnn(network, &config));
    OK(elman_sequential_build(network, 1));
    return network;
}

static elman_trainer *train(elman_sequential *network) {
    elman_trainer *trainer = NULL;
    elman_trainer_config config;
    OK(elman_trainer_config_init(&config, sizeof config));
    OK(elman_trainer_new(network, &config, &trainer));
    return trainer;
}

/* Cancels itself, then does with files all that the library does with them. */
static void *cancelled(void *unused) {
    elman_sequential *network = make(20), *loaded = NULL;
    elman_trainer *trainer = train(network), *resumed = NULL;
    int before = 0;
    pthread_cancel(pthread_self());
    EXPECT(elman_sequential_save(network, "/no/such/directory/file") == ELMAN_STATUS_IO);
    OK(elman_sequential_save(network, network_path));
    OK(elman_sequential_save(network, network_path));
    OK(elman_sequential_load(network_path, &loaded));
    OK(elman_sequential_set_threads(loaded, 0));
    OK(elman_sequential_set_threads(loaded, 1));
    OK(elman_trainer_save(trainer, checkpoint_path));
    OK(elman_trainer_load(loaded, checkpoint_path, &resumed));
    elman_trainer_free(trainer);
    elman_trainer_free(resumed);
    elman_sequential_free(network);
    elman_sequential_free(loaded);
    calls_done = 1;
    /* As it was before the calls. */
    EXPECT(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &before) == 0 && before == PTHREAD_CANCEL_ENABLE);
    pthread_testcancel();
    return unused;
}

static void cancel(void) {
    pthread_t thread;
    void *outcome = NULL;
    EXPECT(pthread_create(&thread, NULL, cancelled, NULL) == 0);
    EXPECT(pthread_join(thread, &outcome) == 0);
    EXPECT(calls_done && outcome == PTHREAD_CANCELED);
}

/* No file may have more than 64 KB: the old ones stay whole, and none is left half. */
static void limit(void) {
    struct rlimit before, few;
    elman_sequential *large = make(200), *loaded = NULL;
    elman_trainer *trainer = train(large);
    signal(SIGXFSZ, SIG_IGN);
    EXPECT(getrlimit(RLIMIT_FSIZE, &before) == 0);
    few = before;
    few.rlim_cur = 65536;
    EXPECT(setrlimit(RLIMIT_FSIZE, &few) == 0);
    EXPECT(elman_sequential_save(large, network_path) == ELMAN_STATUS_IO);
    EXPECT(elman_trainer_save(trainer, checkpoint_path) == ELMAN_STATUS_IO);
    EXPECT(setrlimit(RLIMIT_FSIZE, &before) == 0);
    OK(elman_sequential_load(network_path, &loaded));
    elman_trainer_free(trainer);
    OK(elman_trainer_load(loaded, checkpoint_path, &trainer));
    elman_trainer_free(trainer);
    elman_sequential_free(loaded);
    elman_sequential_free(large);
}

typedef elman_status (*save_bytes)(const void *, uint8_t *, size_t, size_t *);

static elman_status save_network(const void *network, uint8_t *bytes, size_t capacity, size_t *needed) {
    return elman_sequential_save_bytes(network, bytes, capacity, needed);
}

static elman_status save_trainer(const void *trainer, uint8_t *bytes, size_t capacity, size_t *needed) {
    return elman_trainer_save_bytes(trainer, bytes, capacity, needed);
}

/* The bytes of what is in a file, by every way to ask for them. */
static uint8_t *in_memory(save_bytes save, const void *handle, const char *path, size_t *size) {
    size_t needed = 0, i;
    uint8_t *bytes, *file;
    FILE *read = fopen(path, "rb");
    EXPECT(read != NULL);
    OK(save(handle, NULL, 0, &needed));
    bytes = malloc(needed + 1);
    file = malloc(needed + 1);
    EXPECT(bytes != NULL && file != NULL);
    EXPECT(fread(file, 1, needed + 1, read) == needed);
    fclose(read);
    memset(bytes, 0xAB, needed + 1);
    *size = needed;
    needed = 0;
    EXPECT(save(handle, bytes, *size - 1, &needed) == ELMAN_STATUS_LENGTH_MISMATCH && needed == *size);
    EXPECT(save(handle, bytes, 0, NULL) == ELMAN_STATUS_LENGTH_MISMATCH);
    EXPECT(save(handle, NULL, 1, &needed) == ELMAN_STATUS_NULL_POINTER);
    EXPECT(save(handle, NULL, 0, NULL) == ELMAN_STATUS_NULL_POINTER);
    EXPECT(save(NULL, bytes, *size, &needed) == ELMAN_STATUS_NULL_POINTER);
    for (i = 0; i <= *size; ++i) EXPECT(bytes[i] == 0xAB);
    OK(save(handle, bytes, *size, NULL));
    EXPECT(memcmp(bytes, file, *size) == 0 && bytes[*size] == 0xAB);
    memset(bytes, 0, *size);
    needed = 0;
    OK(save(handle, bytes, *size + 1, &needed));
    EXPECT(needed == *size && memcmp(bytes, file, *size) == 0 && bytes[*size] == 0xAB);
    free(file);
    return bytes;
}

static void memory(void) {
    elman_sequential *network = make(5), *loaded = NULL, *unbuilt = NULL;
    elman_trainer *trainer = train(network), *resumed = NULL;
    uint8_t *bytes;
    size_t size = 0, needed = 0;
    OK(elman_sequential_save(network, network_path));
    OK(elman_trainer_save(trainer, checkpoint_path));
    bytes = in_memory(save_network, network, network_path, &size);
    OK(elman_sequential_load_bytes(bytes, size, &loaded));
    free(bytes);
    bytes = in_memory(save_trainer, trainer, checkpoint_path, &size);
    OK(elman_trainer_load_bytes(loaded, bytes, size, &resumed));
    elman_trainer_free(resumed);
    resumed = NULL;
    EXPECT(elman_trainer_load_bytes(loaded, bytes, size - 1, &resumed) == ELMAN_STATUS_BAD_FORMAT);
    EXPECT(elman_trainer_load_bytes(loaded, NULL, size, &resumed) == ELMAN_STATUS_NULL_POINTER);
    EXPECT(elman_trainer_load_bytes(NULL, bytes, size, &resumed) == ELMAN_STATUS_NULL_POINTER);
    EXPECT(elman_trainer_load_bytes(loaded, bytes, size, NULL) == ELMAN_STATUS_NULL_POINTER);
    OK(elman_sequential_new(3, &unbuilt));
    EXPECT(elman_trainer_load_bytes(unbuilt, bytes, size, &resumed) == ELMAN_STATUS_NOT_BUILT);
    EXPECT(elman_sequential_save_bytes(unbuilt, NULL, 0, &needed) == ELMAN_STATUS_NOT_BUILT);
    OK(elman_sequential_drop_weights(loaded));
    EXPECT(elman_sequential_save_bytes(loaded, NULL, 0, &needed) == ELMAN_STATUS_UNSUPPORTED);
    EXPECT(resumed == NULL && needed == 0);
    free(bytes);
    elman_trainer_free(trainer);
    elman_sequential_free(network);
    elman_sequential_free(loaded);
    elman_sequential_free(unbuilt);
}

int main(int count, char **arguments) {
    EXPECT(count == 2);
    snprintf(network_path, sizeof network_path, "%s/network", arguments[1]);
    snprintf(checkpoint_path, sizeof checkpoint_path, "%s/checkpoint", arguments[1]);
    cancel();
    limit();
    memory();
    return EXIT_SUCCESS;
}
