/*
 * Faults on purpose, which a tool that looks for such things must find before its silence on other programs means anything:
 *
 *     planted [overread | leak | race]
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "elman.h"

static elman_sequential *new_network(void)
{
    elman_simple_rnn_config config;
    elman_sequential *network;
    if (elman_simple_rnn_config_init(&config, sizeof config, 2) || elman_sequential_new(3, &network) ||
        elman_sequential_add_simple_rnn(network, &config) || elman_sequential_build(network, 1))
        exit(2);
    return network;
}

/* A caller that says of three floats that they are six. */
static int overread(void)
{
    elman_sequential *network = new_network();
    float *x = calloc(3, sizeof *x), y[4];
    return x == NULL || elman_sequential_predict(network, x, 6, 2, 1, y, 4);
}

static void *go_on(void *stream)
{
    float x[3] = {1.0f, 2.0f, 3.0f}, y[2];
    /* Now and then: the tool must still know what the other thread did, and it remembers little. */
    struct timespec pause = {0, 1000000};
    for (int i = 0; i < 50; i++) {
        if (elman_stream_run(stream, x, 3, 1, y, 2))
            exit(2);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

/* Two threads in one stream. */
static int race(void)
{
    elman_sequential *network = new_network();
    elman_stream *stream;
    pthread_t threads[2];
    if (elman_stream_new(network, 1, &stream) || pthread_create(&threads[0], NULL, go_on, stream) ||
        pthread_create(&threads[1], NULL, go_on, stream))
        return 2;
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    elman_stream_free(stream);
    elman_sequential_free(network);
    return 0;
}

int main(int argc, char **argv)
{
    const char *fault = argc > 1 ? argv[1] : "overread";
    if (strcmp(fault, "race") == 0)
        return race();
    if (strcmp(fault, "leak") == 0) {
        /* Nobody knows where it is. */
        new_network();
        return 0;
    }
    return overread();
}
