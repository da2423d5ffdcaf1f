/* How stream.c and rtneural.cpp time calls: so many together that the clock's own cost does not show. */
#ifndef STREAM_CLOCK_H
#define STREAM_CLOCK_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Samples that follow each other again and again. */
enum { SAMPLES = 64, CALLS_A_SLICE = 8 * SAMPLES, MOST_SLICES = 20000 };

struct stream_turn {
    double end, begun, slices[MOST_SLICES];
    size_t count;
};

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Waits for a line of standard input with seconds, and starts the clock; false where there is no line. */
static int next_turn(struct stream_turn *turn)
{
    char line[64];
    if (fgets(line, sizeof line, stdin) == NULL) return 0;
    turn->count = 0;
    turn->begun = now_ns();
    turn->end = turn->begun + atof(line) * 1e9;
    return 1;
}

/* Notes what a slice of calls took; whether there is time for another one. */
static int next_slice(struct stream_turn *turn)
{
    const double ended = now_ns();
    turn->slices[turn->count++] = (ended - turn->begun) / CALLS_A_SLICE;
    turn->begun = ended;
    return ended < turn->end && turn->count < MOST_SLICES;
}

static int by_value(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* The median nanoseconds of a call, on standard output. */
static void answer(struct stream_turn *turn)
{
    qsort(turn->slices, turn->count, sizeof turn->slices[0], by_value);
    printf("%.3f\n", turn->slices[turn->count / 2]);
    fflush(stdout);
}

#endif
