/*
 * What hosts do to a library: fork, limit its processors, change how numbers are rounded, block signals. The first
 * argument says which, the second with how many threads. Whatever hangs is killed by its own alarm.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "elman.h"

enum { FEATURES = 24, UNITS = 65, STEPS = 300, FORKS = 40, SECONDS = 20 };

static float x[64 * STEPS * FEATURES], y[64 * STEPS * UNITS], expected[64 * STEPS * UNITS], target[STEPS * UNITS], states[32 * UNITS];
static atomic_bool stop;
static atomic_ulong rounds;

static void fail(const char *what)
{
    fprintf(stderr, "%s (process %d): %s\n", what, (int)getpid(), elman_last_error());
    _exit(EXIT_FAILURE);
}

#define CHECK(call) ((call) == ELMAN_STATUS_OK ? (void)0 : fail(#call))
#define HOLDS(condition) ((condition) ? (void)0 : fail(#condition))

/* Layers of each kind in turn. */
static elman_sequential *stack(size_t layers, size_t units, size_t features, unsigned char stateful, size_t threads)
{
    elman_simple_rnn_config simple;
    elman_lstm_config lstm;
    elman_gru_config gru;
    elman_sequential *network;
    CHECK(elman_simple_rnn_config_init(&simple, sizeof simple, units));
    CHECK(elman_lstm_config_init(&lstm, sizeof lstm, units));
    CHECK(elman_gru_config_init(&gru, sizeof gru, units));
    simple.return_sequences = lstm.return_sequences = gru.return_sequences = 1;
    simple.stateful = lstm.stateful = gru.stateful = stateful;
    CHECK(elman_sequential_new(features, &network));
    for (size_t i = 0; i < layers; i++) {
        if (i % 3 == 0)
            CHECK(elman_sequential_add_simple_rnn(network, &simple));
        else if (i % 3 == 1)
            CHECK(elman_sequential_add_lstm(network, &lstm));
        else
            CHECK(elman_sequential_add_gru(network, &gru));
    }
    CHECK(elman_sequential_build(network, 3));
    CHECK(elman_sequential_set_threads(network, threads));
    return network;
}

static elman_status predict(const elman_sequential *network, size_t batch, size_t steps, float *to)
{
    size_t len;
    elman_status status = elman_sequential_output_len(network, batch, steps, &len);
    if (status != ELMAN_STATUS_OK)
        return status;
    return elman_sequential_predict(network, x, batch * steps * FEATURES, batch, steps, to, len);
}

static elman_trainer *new_trainer(elman_sequential *network)
{
    elman_trainer_config config;
    elman_trainer *trainer;
    CHECK(elman_trainer_config_init(&config, sizeof config));
    config.optimizer = ELMAN_OPTIMIZER_ADAM;
    config.loss = ELMAN_LOSS_MEAN_SQUARED_ERROR;
    CHECK(elman_trainer_new(network, &config, &trainer));
    return trainer;
}

static elman_status train(elman_trainer *trainer, size_t batch, size_t steps)
{
    float loss;
    return elman_trainer_step(trainer, x, batch * steps * FEATURES, batch, steps, target, batch * steps * UNITS, NULL,
                              &loss);
}

static size_t bytes(size_t batch, size_t steps, size_t units)
{
    return batch * steps * units * sizeof(float);
}

/* Forks, and the child does `work` or hangs. */
static void in_child(void (*work)(void *), void *data)
{
    int status;
    pid_t child = fork();
    HOLDS(child >= 0);
    if (child == 0) {
        alarm(SECONDS);
        work(data);
        _exit(EXIT_SUCCESS);
    }
    HOLDS(waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
        fprintf(stderr, "a child hangs\n");
        _exit(EXIT_FAILURE);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SUCCESS) {
        fprintf(stderr, "a child ended with status %d\n", status);
        _exit(EXIT_FAILURE);
    }
}

struct handles {
    elman_sequential *network;
    elman_trainer *trainer;
    elman_simple_rnn_cell *cell;
    size_t threads;
};

/* All that a child may want of a network that its parent was reading. */
static void child_of_readers(void *data)
{
    struct handles *handles = data;
    CHECK(predict(handles->network, 1, STEPS, y));
    HOLDS(memcmp(y, expected, bytes(1, STEPS, UNITS)) == 0);
    CHECK(elman_sequential_set_threads(handles->network, handles->threads));
    for (int i = 0; i < 20; i++) {
        CHECK(predict(handles->network, 1, STEPS, y));
        HOLDS(memcmp(y, expected, bytes(1, STEPS, UNITS)) == 0);
    }
    elman_trainer *trainer = new_trainer(handles->network);
    CHECK(train(trainer, 1, STEPS));
    CHECK(predict(handles->network, 1, STEPS, y));
    elman_trainer_free(trainer);
    elman_sequential_free(handles->network);
    if (handles->cell != NULL) {
        CHECK(elman_simple_rnn_cell_step(handles->cell, x, 32 * FEATURES, states, 32 * UNITS, 32, y, 32 * UNITS));
        elman_simple_rnn_cell_free(handles->cell);
    }
}

static void fork_idle(size_t threads)
{
    struct handles handles = {stack(4, UNITS, FEATURES, 0, threads), NULL, NULL, threads};
    for (int i = 0; i < 20; i++)
        CHECK(predict(handles.network, 1, STEPS, expected));
    for (int i = 0; i < 5; i++)
        in_child(child_of_readers, &handles);
    CHECK(predict(handles.network, 1, STEPS, y));
    HOLDS(memcmp(y, expected, bytes(1, STEPS, UNITS)) == 0);
    elman_sequential_free(handles.network);
}

static void *keep_predicting(void *data)
{
    static float mine[STEPS * UNITS];
    struct handles *handles = data;
    while (!atomic_load(&stop)) {
        CHECK(predict(handles->network, 1, STEPS, mine));
        if (handles->cell != NULL)
            CHECK(elman_simple_rnn_cell_step(handles->cell, x, 32 * FEATURES, states, 32 * UNITS, 32, mine, 32 * UNITS));
        atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

static void *keep_training(void *data)
{
    struct handles *handles = data;
    while (!atomic_load(&stop)) {
        CHECK(train(handles->trainer, 1, 50));
        atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

static void *keep_reading_and_training(void *data)
{
    pthread_t reader;
    HOLDS(pthread_create(&reader, NULL, keep_predicting, data) == 0);
    keep_training(data);
    HOLDS(pthread_join(reader, NULL) == 0);
    return NULL;
}

/* Forks again and again while another thread is at work, at ever other moments of it. */
static void fork_beside(void *(*work)(void *), void (*child)(void *), struct handles *handles)
{
    pthread_t other;
    HOLDS(pthread_create(&other, NULL, work, handles) == 0);
    for (int i = 0; i < FORKS; i++) {
        unsigned long before = atomic_load(&rounds);
        while (atomic_load(&rounds) == before)
            sched_yield();
        struct timespec pause = {0, 7000 * i};
        nanosleep(&pause, NULL);
        in_child(child, handles);
    }
    atomic_store(&stop, true);
    HOLDS(pthread_join(other, NULL) == 0);
}

static void fork_in_call(size_t threads)
{
    elman_simple_rnn_config config;
    struct handles handles = {stack(4, UNITS, FEATURES, 0, threads), NULL, NULL, threads};
    CHECK(elman_simple_rnn_config_init(&config, sizeof config, UNITS));
    CHECK(elman_simple_rnn_cell_new(&config, FEATURES, 5, &handles.cell));
    CHECK(predict(handles.network, 1, STEPS, expected));
    fork_beside(keep_predicting, child_of_readers, &handles);
    elman_sequential_free(handles.network);
    elman_simple_rnn_cell_free(handles.cell);
}

static void child_of_stateful(void *data)
{
    struct handles *handles = data;
    elman_status status = predict(handles->network, 1, STEPS, y);
    HOLDS(status == ELMAN_STATUS_OK || status == ELMAN_STATUS_UNSUPPORTED);
    CHECK(elman_sequential_reset_states(handles->network));
    CHECK(predict(handles->network, 1, STEPS, y));
    HOLDS(memcmp(y, expected, bytes(1, STEPS, UNITS)) == 0);
    elman_sequential_free(handles->network);
}

static void fork_in_stateful_call(size_t threads)
{
    struct handles handles = {stack(4, UNITS, FEATURES, 1, threads), NULL, NULL, threads};
    CHECK(predict(handles.network, 1, STEPS, expected));
    fork_beside(keep_predicting, child_of_stateful, &handles);
    elman_sequential_free(handles.network);
}

static void child_of_training(void *data)
{
    struct handles *handles = data;
    elman_status status = predict(handles->network, 1, STEPS, y);
    HOLDS(status == ELMAN_STATUS_OK || status == ELMAN_STATUS_UNSUPPORTED);
    if (status == ELMAN_STATUS_OK)
        CHECK(train(handles->trainer, 1, 50));
    else
        HOLDS(train(handles->trainer, 1, 50) == ELMAN_STATUS_UNSUPPORTED);
    elman_trainer_free(handles->trainer);
    elman_sequential_free(handles->network);
    elman_sequential *another = stack(4, UNITS, FEATURES, 0, handles->threads);
    CHECK(predict(another, 1, STEPS, y));
    HOLDS(memcmp(y, expected, bytes(1, STEPS, UNITS)) == 0);
    elman_sequential_free(another);
}

static void fork_in_training(size_t threads)
{
    struct handles handles = {stack(4, UNITS, FEATURES, 0, threads), NULL, NULL, threads};
    CHECK(predict(handles.network, 1, STEPS, expected));
    handles.trainer = new_trainer(handles.network);
    fork_beside(keep_training, child_of_training, &handles);
    atomic_store(&stop, false);
    fork_beside(keep_reading_and_training, child_of_training, &handles);
    elman_trainer_free(handles.trainer);
    elman_sequential_free(handles.network);
}

/* Bits of predictions and of trained weights must not depend on threads, in whatever mode the host computes. */
static void compare_modes(size_t threads, const char *mode)
{
    static const struct { size_t layers, units, batch, steps; } shapes[] = {
        {1, UNITS, 64, 40}, {4, UNITS, 1, STEPS}, {1, 600, 1, 20}, {1, UNITS, 7, 200},
    };
    /* Of the second layer, an LSTM. */
    static float weights[2][UNITS * 4 * UNITS];
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t layers = shapes[i].layers, units = shapes[i].units, batch = shapes[i].batch, steps = shapes[i].steps;
        elman_sequential *alone = stack(layers, units, FEATURES, 0, 1);
        elman_sequential *together = stack(layers, units, FEATURES, 0, threads);
        CHECK(predict(alone, batch, steps, expected));
        for (int round = 0; round < 30; round++) {
            memset(y, 0, sizeof y);
            CHECK(predict(together, batch, steps, y));
            if (memcmp(y, expected, bytes(batch, steps, units)) != 0) {
                fprintf(stderr, "%s: shape %lu differs with threads\n", mode, (unsigned long)i);
                exit(EXIT_FAILURE);
            }
        }
        elman_sequential_free(alone);
        elman_sequential_free(together);
    }
    for (int i = 0; i < 2; i++) {
        elman_sequential *network = stack(2, UNITS, FEATURES, 0, i == 0 ? 1 : threads);
        elman_trainer *trainer = new_trainer(network);
        for (int step = 0; step < 20; step++)
            CHECK(train(trainer, 20, 15));
        CHECK(elman_sequential_get_weight(network, 1, ELMAN_WEIGHT_RECURRENT_KERNEL, weights[i],
                                          UNITS * 4 * UNITS));
        elman_trainer_free(trainer);
        elman_sequential_free(network);
    }
    if (memcmp(weights[0], weights[1], sizeof weights[0]) != 0) {
        fprintf(stderr, "%s: trained weights differ with threads\n", mode);
        exit(EXIT_FAILURE);
    }
}

static void rounding(size_t threads)
{
    compare_modes(threads, "to nearest");
    /* One pool is made before, as by a host that changes the mode in the middle. */
    static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    static const char *const names[] = {"upward", "downward", "toward zero"};
    for (int i = 0; i < 3; i++) {
        elman_sequential *before = stack(1, UNITS, FEATURES, 0, threads);
        elman_sequential *alone = stack(1, UNITS, FEATURES, 0, 1);
        CHECK(predict(before, 64, 40, y));
        HOLDS(fesetround(modes[i]) == 0);
        for (int round = 0; round < 30; round++) {
            CHECK(predict(alone, 64, 40, expected));
            CHECK(predict(before, 64, 40, y));
            if (memcmp(y, expected, bytes(64, 40, UNITS)) != 0) {
                fprintf(stderr, "%s: a pool that was there before differs\n", names[i]);
                exit(EXIT_FAILURE);
            }
        }
        compare_modes(threads, names[i]);
        HOLDS(fesetround(FE_TONEAREST) == 0);
        elman_sequential_free(alone);
        elman_sequential_free(before);
    }
#if defined(__x86_64__)
    unsigned word, flushing;
    __asm__ volatile("stmxcsr %0" : "=m"(word));
    flushing = word | 0x8040;
    for (size_t i = 0; i < sizeof x / sizeof *x; i++)
        x[i] *= 1e-38f;
    elman_sequential *before = stack(1, UNITS, FEATURES, 0, threads);
    CHECK(predict(before, 64, 40, y));
    __asm__ volatile("ldmxcsr %0" : : "m"(flushing));
    compare_modes(threads, "flushing");
    __asm__ volatile("ldmxcsr %0" : : "m"(word));
    elman_sequential_free(before);
#endif
}

static atomic_int delivered;

static void on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&delivered, 1);
}

/* The pool's threads block all that can be blocked: 64 signals but SIGKILL, SIGSTOP and the two of the C library. */
static int pool_threads_block_all(void)
{
    int pool = 0;
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL)
        return -1;
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char path[300], line[256], name[64] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *status = fopen(path, "r");
        if (status == NULL)
            continue;
        while (fgets(line, sizeof line, status) != NULL) {
            unsigned long long blocked;
            sscanf(line, "Name: %63s", name);
            if (strncmp(name, "elman-", 6) == 0 && sscanf(line, "SigBlk: %llx", &blocked) == 1) {
                pool++;
                /* Bit 0 is signal 1; 9 and 19 cannot be blocked, 32 and 33 are glibc's own, 34 musl's. */
                if ((blocked | 1ull << 8 | 1ull << 18 | 7ull << 31) != ~0ull)
                    fail("a pool thread takes signals");
            }
        }
        fclose(status);
    }
    closedir(tasks);
    return pool;
}

static void signals(size_t threads)
{
    sigset_t usr1, mask;
    struct sigaction action = {0};
    action.sa_handler = on_signal;
    HOLDS(sigaction(SIGUSR1, &action, NULL) == 0);
    /* The pool is made by a thread that takes signals, and then all threads of the host block this one. */
    elman_sequential *network = stack(4, UNITS, FEATURES, 0, threads);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    HOLDS(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0);
    HOLDS(sigismember(&mask, SIGUSR1) == 0 && sigismember(&mask, SIGTERM) == 0);
    HOLDS(pthread_sigmask(SIG_BLOCK, &usr1, NULL) == 0);
    for (int i = 0; i < 200; i++) {
        HOLDS(kill(getpid(), SIGUSR1) == 0);
        CHECK(predict(network, 1, STEPS, y));
    }
    struct timespec pause = {0, 50000000};
    nanosleep(&pause, NULL);
    HOLDS(atomic_load(&delivered) == 0);
    printf("pool threads seen: %d\n", pool_threads_block_all());
    HOLDS(pthread_sigmask(SIG_UNBLOCK, &usr1, NULL) == 0);
    HOLDS(atomic_load(&delivered) == 1);
    elman_sequential_free(network);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double processor_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

struct shape { size_t layers, units, batch, steps; const char *name; };

static const struct shape shapes[] = {
    {1, 700, 1, 60, "[1, 60] 700"},
    {3, 64, 1, 200, "[1, 200] 3 x 64"},
    {4, 65, 1, 300, "[1, 300] 4 x 65"},
    {1, 64, 33, 40, "[33, 40] 64"},
    {1, 64, 7, 200, "[7, 200] 64"},
};

/* Calls of one network and of another in turn, for so many seconds each shape; gives the worst ratio of the sums. */
static double ratios(size_t threads, double time)
{
    double worst = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct shape *shape = &shapes[i];
        elman_sequential *networks[2] = {stack(shape->layers, shape->units, FEATURES, 0, 1),
                                         stack(shape->layers, shape->units, FEATURES, 0, threads)};
        double sums[2] = {0, 0}, begun = seconds();
        unsigned long calls[2] = {0, 0};
        while (seconds() - begun < time) {
            for (int which = 0; which < 2; which++) {
                /* Both get the same time, in pieces that are long beside the scheduler's. */
                double piece = seconds();
                while (seconds() - piece < 0.1) {
                    CHECK(predict(networks[which], shape->batch, shape->steps, y));
                    calls[which]++;
                }
                sums[which] += seconds() - piece;
            }
        }
        double ratio = (sums[1] / (double)calls[1]) / (sums[0] / (double)calls[0]);
        printf("%s: %.1f us with one thread, times %.2f with %lu\n", shape->name, 1e6 * sums[0] / (double)calls[0], ratio,
               (unsigned long)threads);
        fflush(stdout);
        worst = ratio > worst ? ratio : worst;
        elman_sequential_free(networks[0]);
        elman_sequential_free(networks[1]);
    }
    return worst;
}

static void one_processor(pid_t of)
{
    cpu_set_t set;
    /* A thread of a pool that was freed may be gone by now. */
    if (sched_getaffinity(of, sizeof set, &set) != 0) {
        HOLDS(errno == ESRCH);
        return;
    }
    int first = 0;
    while (!CPU_ISSET(first, &set))
        first++;
    CPU_ZERO(&set);
    CPU_SET(first, &set);
    HOLDS(sched_setaffinity(of, sizeof set, &set) == 0 || errno == ESRCH);
}

static int count_threads(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task; tasks != NULL && (task = readdir(tasks)) != NULL;)
        count += task->d_name[0] != '.';
    if (tasks != NULL)
        closedir(tasks);
    return count;
}

/* One processor before the threads are made: none is. */
static void affinity(size_t threads)
{
    one_processor(0);
    elman_sequential *network = stack(4, UNITS, FEATURES, 0, threads);
    CHECK(predict(network, 1, STEPS, y));
    HOLDS(count_threads() == 1);
    elman_sequential_free(network);
}

/* One processor for all threads when they are there already: the scheduler's word is the only one. */
static void confine_all(void)
{
    DIR *tasks = opendir("/proc/self/task");
    HOLDS(tasks != NULL);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;)
        if (task->d_name[0] != '.')
            one_processor((pid_t)atoi(task->d_name));
    closedir(tasks);
}

static double confined(size_t threads, double time)
{
    double worst = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct shape *shape = &shapes[i];
        elman_sequential *alone = stack(shape->layers, shape->units, FEATURES, 0, 1);
        elman_sequential *together = stack(shape->layers, shape->units, FEATURES, 0, threads);
        cpu_set_t before;
        HOLDS(sched_getaffinity(0, sizeof before, &before) == 0);
        confine_all();
        double sums[2] = {0, 0}, begun = seconds();
        unsigned long calls[2] = {0, 0};
        while (seconds() - begun < time) {
            for (int which = 0; which < 2; which++) {
                double piece = seconds();
                while (seconds() - piece < 0.1) {
                    CHECK(predict(which == 0 ? alone : together, shape->batch, shape->steps, y));
                    calls[which]++;
                }
                sums[which] += seconds() - piece;
            }
        }
        double ratio = (sums[1] / (double)calls[1]) / (sums[0] / (double)calls[0]);
        printf("%s: times %.2f with %lu on one processor\n", shape->name, ratio, (unsigned long)threads);
        fflush(stdout);
        worst = ratio > worst ? ratio : worst;
        HOLDS(sched_setaffinity(0, sizeof before, &before) == 0);
        elman_sequential_free(alone);
        elman_sequential_free(together);
    }
    return worst;
}

/* Threads and their caller in a real-time class, which yields to nobody, on one processor. */
static void fifo(size_t threads)
{
    struct sched_param param = {.sched_priority = 1};
    elman_sequential *network = stack(4, UNITS, FEATURES, 0, threads);
    for (int i = 0; i < 5; i++)
        CHECK(predict(network, 1, STEPS, expected));
    confine_all();
    if (sched_setscheduler(0, SCHED_FIFO, &param) != 0) {
        printf("SKIPPED: no real-time class: %s\n", strerror(errno));
        return;
    }
    for (int i = 0; i < 50; i++) {
        CHECK(predict(network, 1, STEPS, y));
        HOLDS(memcmp(y, expected, bytes(1, STEPS, UNITS)) == 0);
    }
    elman_sequential_free(network);
}

/* What is burnt after the last call. */
static void idle(size_t threads)
{
    elman_sequential *network = stack(4, UNITS, FEATURES, 0, threads);
    for (int i = 0; i < 20; i++)
        CHECK(predict(network, 1, STEPS, y));
    double before = processor_seconds();
    struct timespec pause = {0, 500000000};
    nanosleep(&pause, NULL);
    elman_sequential_free(network);
    nanosleep(&pause, NULL);
    double burnt = processor_seconds() - before;
    printf("burnt: %.4f s\n", burnt);
    HOLDS(burnt < 0.1);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    size_t threads = argc > 2 ? strtoul(argv[2], NULL, 10) : 2;
    for (size_t i = 0; i < sizeof x / sizeof *x; i++)
        x[i] = (float)((i * 7919) % 1000) / 500.0f - 1.0f;
    for (size_t i = 0; i < sizeof target / sizeof *target; i++)
        target[i] = (float)(i % 17) / 17.0f;
    if (strcmp(what, "fork-idle") == 0)
        fork_idle(threads);
    else if (strcmp(what, "fork-in-call") == 0)
        fork_in_call(threads);
    else if (strcmp(what, "fork-in-stateful-call") == 0)
        fork_in_stateful_call(threads);
    else if (strcmp(what, "fork-in-training") == 0)
        fork_in_training(threads);
    else if (strcmp(what, "rounding") == 0)
        rounding(threads);
    else if (strcmp(what, "signals") == 0)
        signals(threads);
    else if (strcmp(what, "affinity") == 0)
        affinity(threads);
    else if (strcmp(what, "confined") == 0)
        HOLDS(confined(threads, 1.0) < 3.0);
    else if (strcmp(what, "ratios") == 0)
        ratios(threads, argc > 3 ? strtod(argv[3], NULL) : 2.0);
    else if (strcmp(what, "fifo") == 0)
        fifo(threads);
    else if (strcmp(what, "idle") == 0)
        idle(threads);
    else {
        fprintf(stderr, "%s is not known\n", what);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
