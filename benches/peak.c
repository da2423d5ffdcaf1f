/*
 * What this processor's core can do: answers one line for each line of standard input.
 *
 *   flops        floating-point operations a second of independent fused multiply-adds
 *   read BYTES   bytes a second read again and again from an array of that size
 *
 * Compile it for the vectors that are meant (-mavx512f, or -mavx2 -mfma) with VECTOR_BYTES set to their size.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifndef VECTOR_BYTES
#define VECTOR_BYTES 16
#endif

typedef float vector __attribute__((vector_size(VECTOR_BYTES)));
enum { LANES = VECTOR_BYTES / 4, CHAINS = 12 };

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* Where results go, so that nobody thinks them unused. */
static volatile float sink;

static double flops(void)
{
    enum { LENGTH = 40000 };
    vector sums[CHAINS], factor, term;
    double best = 0;
    for (int lane = 0; lane < LANES; lane++) factor[lane] = 0.999F + sink * 0, term[lane] = 0.001F;
    for (int repeat = 0; repeat < 20; repeat++) {
        /* All different: where sums are equal, GCC keeps one of them. */
        for (int chain = 0; chain < CHAINS; chain++) sums[chain] = term * (float)(chain + 1);
        const double begun = now();
        for (int i = 0; i < LENGTH; i++)
#pragma GCC unroll 12
            for (int chain = 0; chain < CHAINS; chain++) sums[chain] = sums[chain] * factor + term;
        const double rate = 2.0 * LANES * CHAINS * LENGTH / (now() - begun);
        for (int chain = 0; chain < CHAINS; chain++) sink = sums[chain][0] * 0;
        if (rate > best) best = rate;
    }
    return best;
}

static double read_rate(size_t bytes)
{
    const size_t unit = 8 * sizeof(vector), count = (bytes + unit - 1) / unit * 8;
    vector *values = aligned_alloc(64, count * sizeof *values);
    const size_t repeats = 1 + (4u << 20) / bytes;
    double best = 0;
    if (values == NULL) exit(1);
    for (size_t i = 0; i < count; i++)
        for (int lane = 0; lane < LANES; lane++) values[i][lane] = 1;
    for (int sample = 0; sample < 7; sample++) {
        vector sums[8] = {{0}};
        const double begun = now();
        for (size_t repeat = 0; repeat < repeats; repeat++) {
            for (size_t i = 0; i < count; i += 8)
#pragma GCC unroll 8
                for (int k = 0; k < 8; k++) sums[k] += values[i + (size_t)k];
            /* The next pass reads anew. */
            __asm__ volatile("" ::: "memory");
        }
        const double rate = (double)repeats * (double)count * sizeof *values / (now() - begun);
        for (int k = 0; k < 8; k++) sink = sums[k][0] * 0;
        if (rate > best) best = rate;
    }
    free(values);
    return best;
}

int main(void)
{
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned long bytes = 0;
        if (sscanf(line, "read %lu", &bytes) == 1 && bytes > 0)
            printf("%.6g\n", read_rate(bytes));
        else
            printf("%.6g\n", flops());
        fflush(stdout);
    }
    return 0;
}
