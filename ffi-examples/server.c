/*
 * A server: 1,000 conversations, each with a stream of its own on one shared model, served by 2 threads. Messages of
 * different lengths arrive in turns; each goes on from where the conversation's last one ended. At the end, some of the
 * conversations are run once more as a whole, and the results are equal bit for bit, or the program ends with 1.
 *
 *     server [rounds]
 */
#define _POSIX_C_SOURCE 199309L

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "elman.h"

enum { STREAMS = 1000, THREADS = 2, FEATURES = 16, UNITS = 32, CLASSES = 4, LONGEST = 7 };

typedef struct {
    elman_stream *stream;
    uint32_t noise;
    size_t steps;
    float answer[CLASSES];
} conversation;

typedef struct {
    conversation *conversations;
    size_t first, end, rounds, steps;
} worker;

static void check(elman_status status)
{
    if (status != ELMAN_STATUS_OK) {
        fprintf(stderr, "elman: %s: %s\n", elman_status_name(status), elman_last_error());
        exit(EXIT_FAILURE);
    }
}

static elman_sequential *new_network(void)
{
    elman_simple_rnn_config config;
    elman_sequential *network;
    check(elman_sequential_new(FEATURES, &network));
    check(elman_simple_rnn_config_init(&config, sizeof config, UNITS));
    config.return_sequences = 1;
    check(elman_sequential_add_simple_rnn(network, &config));
    config.return_sequences = 0;
    check(elman_sequential_add_simple_rnn(network, &config));
    check(elman_sequential_add_dense(network, CLASSES, ELMAN_ACTIVATION_SOFTMAX));
    check(elman_sequential_build(network, 1));
    return network;
}

/* The next message of a conversation; gives its number of steps. */
static size_t receive(uint32_t *noise, float *message)
{
    size_t steps;
    *noise = *noise * 1664525u + 1013904223u;
    steps = 1 + (*noise >> 16) % LONGEST;
    for (size_t i = 0; i < steps * FEATURES; i++) {
        *noise = *noise * 1664525u + 1013904223u;
        message[i] = (float)(*noise >> 8) / 8388608.0f - 1.0f;
    }
    return steps;
}

/* Each thread serves its own conversations: a stream belongs to one thread at a time, the model to all. */
static void *serve(void *argument)
{
    worker *me = argument;
    float message[LONGEST * FEATURES];
    for (size_t round = 0; round < me->rounds; round++) {
        for (size_t i = me->first; i < me->end; i++) {
            conversation *with = &me->conversations[i];
            size_t steps = receive(&with->noise, message);
            check(elman_stream_run(with->stream, message, steps * FEATURES, steps, with->answer, CLASSES));
            with->steps += steps;
            me->steps += steps;
        }
    }
    return NULL;
}

/* The same conversation as a whole. */
static int is_right(const elman_sequential *network, size_t index, size_t rounds, const conversation *was)
{
    uint32_t noise = (uint32_t)index;
    float answer[CLASSES];
    size_t at = 0;
    float *x = malloc(rounds * LONGEST * FEATURES * sizeof *x);
    if (x == NULL)
        return 0;
    for (size_t round = 0; round < rounds; round++)
        at += FEATURES * receive(&noise, x + at);
    check(elman_sequential_predict(network, x, at, 1, at / FEATURES, answer, CLASSES));
    free(x);
    return at / FEATURES == was->steps && memcmp(answer, was->answer, sizeof answer) == 0;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int main(int argc, char **argv)
{
    static conversation conversations[STREAMS];
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 50;
    elman_sequential *network = new_network();
    worker workers[THREADS];
    pthread_t threads[THREADS];
    size_t steps = 0, checked = 0, right = 0;
    double start, took;

    if (rounds == 0) {
        fprintf(stderr, "usage: server [rounds]\n");
        return EXIT_FAILURE;
    }
    for (size_t i = 0; i < STREAMS; i++) {
        conversations[i].noise = (uint32_t)i;
        check(elman_stream_new(network, 1, &conversations[i].stream));
    }
    start = seconds();
    for (size_t i = 0; i < THREADS; i++) {
        worker *each = &workers[i];
        each->conversations = conversations;
        each->first = i * STREAMS / THREADS;
        each->end = (i + 1) * STREAMS / THREADS;
        each->rounds = rounds;
        each->steps = 0;
        if (pthread_create(&threads[i], NULL, serve, each) != 0) {
            fprintf(stderr, "no thread can be started\n");
            return EXIT_FAILURE;
        }
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        steps += workers[i].steps;
    }
    took = seconds() - start;
    printf("%d streams on one model, %d threads: %lu messages, %lu steps\n", STREAMS, THREADS,
           (unsigned long)(rounds * STREAMS), (unsigned long)steps);
    printf("messages per second: %.0f\n", (double)(rounds * STREAMS) / took);
    for (size_t i = 0; i < STREAMS; i += 97, checked++)
        right += (size_t)is_right(network, i, rounds, &conversations[i]);
    printf("%lu of %lu conversations are equal bit for bit to their run as a whole\n", (unsigned long)right,
           (unsigned long)checked);
    for (size_t i = 0; i < STREAMS; i++)
        elman_stream_free(conversations[i].stream);
    elman_sequential_free(network);
    return right == checked ? EXIT_SUCCESS : EXIT_FAILURE;
}
