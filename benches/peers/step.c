/*
 * Times elman_simple_rnn_cell_step from C, where a call costs nothing beside it.
 *
 *   step DATA RESULT
 *
 * DATA holds, as float32, the kernel and the recurrent kernel [64, 64] each, the bias [64], x [64] and h [64]. One step's
 * h_next is written to RESULT, and a line "ready" to standard output. Then every line on standard input is a number of
 * seconds: so long, steps follow each other, each from the state that the last one left, and the median nanoseconds of
 * a step are answered.
 */
#include <elman.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { UNITS = 64, SQUARE = UNITS * UNITS, STEPS_A_SLICE = 500, MOST_SLICES = 20000 };

static void check(elman_status status, const char *what)
{
    if (status != ELMAN_STATUS_OK) {
        fprintf(stderr, "%s: %s: %s\n", what, elman_status_name(status), elman_last_error());
        exit(1);
    }
}

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

int main(int argc, char **argv)
{
    static struct {
        float kernel[SQUARE], recurrent_kernel[SQUARE], bias[UNITS], x[UNITS], h[UNITS];
    } data;
    static double slices[MOST_SLICES];
    elman_simple_rnn_config config;
    elman_simple_rnn_cell *cell = NULL;
    float h_next[UNITS];
    char line[64];
    FILE *file;

    if (argc != 3) {
        fprintf(stderr, "usage: step DATA RESULT\n");
        return 2;
    }
    file = fopen(argv[1], "rb");
    if (file == NULL || fread(&data, sizeof data, 1, file) != 1) {
        fprintf(stderr, "cannot read %s\n", argv[1]);
        return 1;
    }
    fclose(file);

    check(elman_simple_rnn_config_init(&config, sizeof config, UNITS), "config");
    check(elman_simple_rnn_cell_new(&config, UNITS, 1, &cell), "cell");
    check(elman_simple_rnn_cell_set_weight(cell, ELMAN_WEIGHT_KERNEL, data.kernel, SQUARE), "kernel");
    check(elman_simple_rnn_cell_set_weight(cell, ELMAN_WEIGHT_RECURRENT_KERNEL, data.recurrent_kernel, SQUARE),
          "recurrent kernel");
    check(elman_simple_rnn_cell_set_weight(cell, ELMAN_WEIGHT_BIAS, data.bias, UNITS), "bias");
    check(elman_simple_rnn_cell_step(cell, data.x, UNITS, data.h, UNITS, 1, h_next, UNITS), "step");

    file = fopen(argv[2], "wb");
    if (file == NULL || fwrite(h_next, sizeof h_next, 1, file) != 1 || fclose(file) != 0) {
        fprintf(stderr, "cannot write %s\n", argv[2]);
        return 1;
    }
    puts("ready");
    fflush(stdout);

    while (fgets(line, sizeof line, stdin) != NULL) {
        const double end = now_ns() + atof(line) * 1e9;
        size_t count = 0;
        double begun = now_ns();
        do {
            for (int step = 0; step < STEPS_A_SLICE; step++)
                check(elman_simple_rnn_cell_step(cell, data.x, UNITS, data.h, UNITS, 1, data.h, UNITS), "step");
            const double ended = now_ns();
            slices[count++] = (ended - begun) / STEPS_A_SLICE;
            begun = ended;
        } while (begun < end && count < MOST_SLICES);
        qsort(slices, count, sizeof slices[0], by_value);
        printf("%.3f\n", slices[count / 2]);
        fflush(stdout);
    }
    elman_simple_rnn_cell_free(cell);
    return 0;
}
