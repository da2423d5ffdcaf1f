/*
 * Sound, sample by sample: a network of 1 feature, a recurrent layer and a Dense of 1 (the size of a guitar
 * amplifier's model) runs at 48 kHz, one call a sample, as on an audio thread. The stream lies in memory that
 * the program gives, so nothing touches the heap. Prints how the time of a call is distributed, and how many
 * such streams one core runs in real time.
 *
 *     audio                    a million calls, a SimpleRNN of 20 units
 *     audio 1000000 lstm 40    calls, kind of layer (simple_rnn, lstm or gru), units
 */
/* For clock_gettime beside -std=c99. */
#define _POSIX_C_SOURCE 199309L

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "elman.h"

enum { RATE = 48000, BLOCK = 64 };

static void check(elman_status status)
{
    if (status != ELMAN_STATUS_OK) {
        fprintf(stderr, "elman: %s: %s\n", elman_status_name(status), elman_last_error());
        exit(EXIT_FAILURE);
    }
}

static void *new_memory(size_t bytes)
{
    void *memory = malloc(bytes);
    if (memory == NULL) {
        fprintf(stderr, "out of memory: %lu bytes\n", (unsigned long)bytes);
        exit(EXIT_FAILURE);
    }
    return memory;
}

static void usage(void)
{
    fprintf(stderr, "usage: audio [calls [simple_rnn|lstm|gru [units]]]\n");
    exit(EXIT_FAILURE);
}

static elman_sequential *new_network(const char *cell, size_t units)
{
    elman_sequential *network;
    check(elman_sequential_new(1, &network));
    if (strcmp(cell, "simple_rnn") == 0) {
        elman_simple_rnn_config config;
        check(elman_simple_rnn_config_init(&config, sizeof config, units));
        config.return_sequences = 1;
        check(elman_sequential_add_simple_rnn(network, &config));
    } else if (strcmp(cell, "lstm") == 0) {
        elman_lstm_config config;
        check(elman_lstm_config_init(&config, sizeof config, units));
        config.return_sequences = 1;
        check(elman_sequential_add_lstm(network, &config));
    } else if (strcmp(cell, "gru") == 0) {
        elman_gru_config config;
        check(elman_gru_config_init(&config, sizeof config, units));
        config.return_sequences = 1;
        check(elman_sequential_add_gru(network, &config));
    } else {
        usage();
    }
    check(elman_sequential_add_dense(network, 1, ELMAN_ACTIVATION_LINEAR));
    check(elman_sequential_build(network, 1));
    return network;
}

/* A plucked string, struck once a second: Karplus and Strong's noise that goes round and is averaged. */
static void pluck(float *sound, size_t count)
{
    enum { PERIOD = RATE / 220 };
    float string[PERIOD];
    uint32_t noise = 1;
    for (size_t i = 0; i < count; i++) {
        size_t here = i % PERIOD, next = (i + 1) % PERIOD;
        if (i % RATE == 0)
            for (size_t k = 0; k < PERIOD; k++) {
                noise = noise * 1664525u + 1013904223u;
                string[k] = (float)(noise >> 8) / 8388608.0f - 1.0f;
            }
        sound[i] = string[here];
        string[here] = 0.498f * (string[here] + string[next]);
    }
}

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    size_t calls = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000;
    const char *cell = argc > 2 ? argv[2] : "simple_rnn";
    size_t units = argc > 3 ? strtoul(argv[3], NULL, 10) : 20;
    size_t bytes, alignment;
    unsigned char *memory;
    float *sound, *heard, *at_once;
    uint32_t *times, clock_cost = UINT32_MAX;
    uint64_t start, all, blocks;
    elman_sequential *network;
    elman_stream *stream;
    int equal;

    if (calls == 0 || units == 0)
        usage();
    network = new_network(cell, units);
    sound = new_memory(calls * sizeof *sound);
    heard = new_memory(calls * sizeof *heard);
    at_once = new_memory(calls * sizeof *at_once);
    times = new_memory(calls * sizeof *times);
    pluck(sound, calls);
    /* Written once, so that the system has handed out every page before the clock runs. */
    memset(heard, 0, calls * sizeof *heard);
    memset(times, 0, calls * sizeof *times);

    check(elman_stream_size(network, 1, &bytes, &alignment));
    memory = new_memory(bytes + alignment);
    check(elman_stream_new_in(network, 1, memory + (alignment - (uintptr_t)memory % alignment) % alignment, bytes,
                              &stream));
    printf("elman %s on %s: 1 -> %lu -> 1 (%s) in %lu bytes a stream\n", elman_version(), elman_isa(),
           (unsigned long)units, cell, (unsigned long)bytes);

    for (int i = 0; i < 1000; i++) {
        uint64_t before = nanoseconds(), cost = nanoseconds() - before;
        if (cost < clock_cost)
            clock_cost = (uint32_t)cost;
    }

    /* Every call by itself. */
    for (size_t i = 0; i < calls; i++) {
        uint64_t before = nanoseconds(), took;
        check(elman_stream_run(stream, sound + i, 1, 1, heard + i, 1));
        took = nanoseconds() - before;
        took = took > clock_cost ? took - clock_cost : 0;
        times[i] = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
    }

    /* The same without looking at the clock between, and in blocks as a host hands them over. */
    check(elman_stream_reset(stream));
    start = nanoseconds();
    for (size_t i = 0; i < calls; i++)
        check(elman_stream_run(stream, sound + i, 1, 1, at_once + i, 1));
    all = nanoseconds() - start;
    check(elman_stream_reset(stream));
    start = nanoseconds();
    for (size_t i = 0; i < calls; i += BLOCK) {
        size_t count = calls - i < BLOCK ? calls - i : BLOCK;
        check(elman_stream_run(stream, sound + i, count, count, at_once + i, count));
    }
    blocks = nanoseconds() - start;

    qsort(times, calls, sizeof *times, by_size);
    printf("%lu calls of one sample\n", (unsigned long)calls);
    printf("median ns: %lu\n", (unsigned long)times[calls / 2]);
    printf("99.9th percentile ns: %lu\n", (unsigned long)times[calls - 1 - calls / 1000]);
    printf("maximum ns: %lu\n", (unsigned long)times[calls - 1]);
    printf("mean ns without a clock between: %.1f\n", (double)all / (double)calls);
    printf("streams in real time on one core, by sample: %.0f\n", 1e9 / RATE / ((double)all / (double)calls));
    printf("streams in real time on one core, in blocks of %d: %.0f\n", BLOCK,
           1e9 / RATE / ((double)blocks / (double)calls));

    equal = memcmp(heard, at_once, calls * sizeof *heard) == 0;
    printf(equal ? "samples and blocks are equal bit for bit\n" : "samples and blocks DIFFER\n");

    elman_stream_free(stream);
    elman_sequential_free(network);
    free(memory);
    free(times);
    free(at_once);
    free(heard);
    free(sound);
    return equal ? EXIT_SUCCESS : EXIT_FAILURE;
}
