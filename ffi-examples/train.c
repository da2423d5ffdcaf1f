/*
 * Trains the sentiment network on the movie reviews from nothing, as train.rs does in Rust and data/train_keras.py in
 * Keras: six epochs, then the share of the test sentences it is right about.
 *
 *     train          seed 0
 *     train 1        another seed
 */
#define _POSIX_C_SOURCE 200809L

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "elman.h"

#ifndef DATA_DIR
#define DATA_DIR "data"
#endif

enum { VOCABULARY = 5000, STEPS = 80, BATCH = 128, EPOCHS = 6, UNKNOWN = 1 };

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "train: %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

static void check(elman_status status)
{
    if (status != ELMAN_STATUS_OK)
        fail(elman_status_name(status), elman_last_error());
}

static void *resize(void *old, size_t count, size_t size)
{
    void *memory = count <= SIZE_MAX / size ? realloc(old, count * size) : NULL;
    if (memory == NULL)
        fail("memory", "there is not enough");
    return memory;
}

static FILE *open_data(const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL)
        fail(path, "cannot be read");
    return file;
}

/* --- words --- */

typedef struct {
    char word[64];
    int32_t token;
} entry;

static int compare(const void *left, const void *right)
{
    return strcmp(((const entry *)left)->word, ((const entry *)right)->word);
}

/* Line i, counted from 0, is the word of token i; sorted by word for the search. */
static size_t read_vocabulary(entry *entries)
{
    FILE *file = open_data(DATA_DIR "/vocabulary.txt");
    size_t count = 0;
    while (count < VOCABULARY && fscanf(file, "%63s", entries[count].word) == 1) {
        entries[count].token = (int32_t)count;
        count++;
    }
    fclose(file);
    qsort(entries, count, sizeof *entries, compare);
    return count;
}

/* The words of a text, runs of a-z, 0-9 and apostrophes in lower case, as STEPS tokens with the padding in front. */
static void tokenize(const entry *entries, size_t count, const char *text, int32_t ids[STEPS])
{
    entry wanted = {"", UNKNOWN};
    size_t length = 0;

    memset(ids, 0, STEPS * sizeof *ids);
    for (;; text++) {
        char c = *text >= 'A' && *text <= 'Z' ? (char)(*text - 'A' + 'a') : *text;
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '\'') {
            if (length + 1 < sizeof wanted.word)
                wanted.word[length++] = c;
        } else if (length > 0) {
            const entry *found;
            wanted.word[length] = '\0';
            length = 0;
            found = bsearch(&wanted, entries, count, sizeof *entries, compare);
            memmove(ids, ids + 1, (STEPS - 1) * sizeof *ids);
            ids[STEPS - 1] = found != NULL ? found->token : UNKNOWN;
        }
        if (*text == '\0')
            return;
    }
}

/* --- rows --- */

typedef struct {
    int32_t *ids; /* count x STEPS */
    float *labels;
    size_t count, room;
} rows;

static void add_row(rows *to, const int32_t ids[STEPS], float label)
{
    if (to->count == to->room) {
        to->room = to->room == 0 ? 1024 : 2 * to->room;
        to->ids = resize(to->ids, to->room * STEPS, sizeof *to->ids);
        to->labels = resize(to->labels, to->room, sizeof *to->labels);
    }
    memcpy(to->ids + to->count * STEPS, ids, STEPS * sizeof *ids);
    to->labels[to->count++] = label;
}

/* Reviews that take no side are left out; every fifth of the others is for the test. */
static void read_reviews(rows *training, rows *test)
{
    entry *entries = resize(NULL, VOCABULARY, sizeof *entries);
    size_t words = read_vocabulary(entries), capacity = 0;
    FILE *file = open_data(DATA_DIR "/movie_reviews.tsv");
    char *line = NULL;
    int32_t ids[STEPS];

    while (getline(&line, &capacity, file) > 0) {
        char *rating_text = strchr(line, '\t');
        char *text = rating_text != NULL ? strchr(rating_text + 1, '\t') : NULL;
        long number = strtol(line, NULL, 10);
        double rating = rating_text != NULL ? strtod(rating_text + 1, NULL) : 0.0;
        if (text == NULL || (rating > -0.2 && rating < 0.2))
            continue;
        tokenize(entries, words, text + 1, ids);
        add_row(number % 5 == 0 ? test : training, ids, rating > 0.0 ? 1.0f : 0.0f);
    }
    free(line);
    fclose(file);
    free(entries);
}

/* --- training --- */

static elman_sequential *make_network(uint64_t seed)
{
    elman_sequential *network;
    elman_simple_rnn_config rnn;
    check(elman_simple_rnn_config_init(&rnn, sizeof rnn, 64));
    rnn.dropout = 0.5f;
    check(elman_sequential_new(1, &network));
    check(elman_sequential_add_embedding(network, VOCABULARY, 100, true));
    rnn.return_sequences = 1;
    check(elman_sequential_add_simple_rnn(network, &rnn));
    rnn.return_sequences = 0;
    check(elman_sequential_add_simple_rnn(network, &rnn));
    check(elman_sequential_add_dense(network, 1, ELMAN_ACTIVATION_SIGMOID));
    check(elman_sequential_build(network, seed));
    return network;
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static double accuracy(const elman_sequential *network, const rows *test)
{
    float *scores = resize(NULL, test->count, sizeof *scores);
    size_t right = 0;
    check(elman_sequential_predict_tokens(network, test->ids, test->count * STEPS, test->count, STEPS, scores,
                                          test->count));
    for (size_t i = 0; i < test->count; i++)
        right += (scores[i] > 0.5f) == (test->labels[i] > 0.5f);
    free(scores);
    return (double)right / (double)test->count;
}

/* One epoch in a new order; the mean loss of its steps. */
static double epoch(elman_trainer *trainer, const rows *training, size_t *order, uint64_t *random)
{
    static int32_t ids[BATCH * STEPS];
    static float labels[BATCH];
    double total = 0.0;

    for (size_t i = training->count - 1; i > 0; i--) {
        size_t other = (size_t)(next_random(random) % (i + 1)), kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
    for (size_t first = 0; first < training->count; first += BATCH) {
        size_t batch = training->count - first < BATCH ? training->count - first : BATCH;
        float loss;
        for (size_t i = 0; i < batch; i++) {
            memcpy(ids + i * STEPS, training->ids + order[first + i] * STEPS, STEPS * sizeof *ids);
            labels[i] = training->labels[order[first + i]];
        }
        check(elman_trainer_step_tokens(trainer, ids, batch * STEPS, batch, STEPS, labels, batch, NULL, &loss));
        total += (double)loss * (double)batch;
    }
    return total / (double)training->count;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 0, random = seed;
    rows training = {NULL, NULL, 0, 0}, test = {NULL, NULL, 0, 0};
    elman_trainer_config config;
    elman_sequential *network;
    elman_trainer *trainer;
    clock_t start = clock();
    size_t *order;

    read_reviews(&training, &test);
    if (training.count == 0 || test.count == 0)
        fail("reviews", "there are none");
    printf("%zu rows to train on, %zu to test\n", training.count, test.count);
    order = resize(NULL, training.count, sizeof *order);
    for (size_t i = 0; i < training.count; i++)
        order[i] = i;
    network = make_network(seed);
    check(elman_trainer_config_init(&config, sizeof config));
    config.loss = ELMAN_LOSS_BINARY_CROSSENTROPY;
    config.seed = seed;
    check(elman_trainer_new(network, &config, &trainer));
    for (int i = 1; i <= EPOCHS; i++) {
        double loss = epoch(trainer, &training, order, &random);
        printf("epoch %d: loss %.4f, test accuracy %.4f\n", i, loss, accuracy(network, &test));
    }
    printf("%.2f s\n", (double)(clock() - start) / CLOCKS_PER_SEC);

    elman_trainer_free(trainer);
    elman_sequential_free(network);
    free(order);
    free(training.ids);
    free(training.labels);
    free(test.ids);
    free(test.labels);
    return EXIT_SUCCESS;
}
