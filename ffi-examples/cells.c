/*
 * Recurrent cells by hand, and the same network as a whole.
 *
 * First a cell of 4 features and 3 units: its weights, and one step of it. Then 8 rows of 80 steps of 100 features
 * through two cells of 64 units, step by step; then through a network of two such layers with the same weights. The
 * results are equal bit for bit, or the program ends with 1.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "elman.h"

enum { BATCH = 8, STEPS = 80, FEATURES = 100, UNITS = 64 };

static void check(elman_status status)
{
    if (status != ELMAN_STATUS_OK) {
        fprintf(stderr, "elman: %s: %s\n", elman_status_name(status), elman_last_error());
        exit(EXIT_FAILURE);
    }
}

static float *new_floats(size_t count)
{
    float *floats = calloc(count, sizeof *floats);
    if (floats == NULL) {
        fprintf(stderr, "out of memory: %lu floats\n", (unsigned long)count);
        exit(EXIT_FAILURE);
    }
    return floats;
}

static elman_simple_rnn_cell *new_cell(size_t input_size, size_t units, uint64_t seed)
{
    elman_simple_rnn_config config;
    elman_simple_rnn_cell *cell;
    check(elman_simple_rnn_config_init(&config, sizeof config, units));
    check(elman_simple_rnn_cell_new(&config, input_size, seed, &cell));
    return cell;
}

static void print_matrix(const char *name, const float *values, size_t rows, size_t columns)
{
    printf("%s [%lu, %lu]\n", name, (unsigned long)rows, (unsigned long)columns);
    for (size_t row = 0; row < rows; row++) {
        for (size_t column = 0; column < columns; column++)
            printf(" %9.6f", (double)values[row * columns + column]);
        printf("\n");
    }
}

static void show_small_cell(void)
{
    enum { SMALL_INPUT = 4, SMALL_UNITS = 3 };
    elman_simple_rnn_cell *cell = new_cell(SMALL_INPUT, SMALL_UNITS, 1);
    float kernel[SMALL_INPUT * SMALL_UNITS], recurrent[SMALL_UNITS * SMALL_UNITS], bias[SMALL_UNITS];
    const float x[SMALL_INPUT] = {0.5f, -1.0f, 0.25f, 2.0f};
    float h[SMALL_UNITS] = {0};

    check(elman_simple_rnn_cell_get_weight(cell, ELMAN_WEIGHT_KERNEL, kernel, SMALL_INPUT * SMALL_UNITS));
    check(elman_simple_rnn_cell_get_weight(cell, ELMAN_WEIGHT_RECURRENT_KERNEL, recurrent, SMALL_UNITS * SMALL_UNITS));
    check(elman_simple_rnn_cell_get_weight(cell, ELMAN_WEIGHT_BIAS, bias, SMALL_UNITS));
    printf("a cell of %d features and %d units\n", SMALL_INPUT, SMALL_UNITS);
    print_matrix("kernel", kernel, SMALL_INPUT, SMALL_UNITS);
    print_matrix("recurrent_kernel", recurrent, SMALL_UNITS, SMALL_UNITS);
    print_matrix("bias", bias, 1, SMALL_UNITS);

    /* h and h_next may be the same array. */
    check(elman_simple_rnn_cell_step(cell, x, SMALL_INPUT, h, SMALL_UNITS, 1, h, SMALL_UNITS));
    print_matrix("x", x, 1, SMALL_INPUT);
    print_matrix("h after one step from zeros", h, 1, SMALL_UNITS);
    elman_simple_rnn_cell_free(cell);
}

/* The same numbers from -1 to 1 on every machine. */
static void fill(float *values, size_t count)
{
    uint32_t state = 12345;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
}

/* x [BATCH, STEPS, FEATURES] through both cells; h receives the last output of the upper one, [BATCH, UNITS]. */
static void run_by_hand(const elman_simple_rnn_cell *lower, const elman_simple_rnn_cell *upper, const float *x, float *h)
{
    float *x_t = new_floats(BATCH * FEATURES);
    float *h_lower = new_floats(BATCH * UNITS);

    memset(h, 0, BATCH * UNITS * sizeof *h);
    for (size_t t = 0; t < STEPS; t++) {
        for (size_t row = 0; row < BATCH; row++)
            memcpy(x_t + row * FEATURES, x + (row * STEPS + t) * FEATURES, FEATURES * sizeof *x);
        check(elman_simple_rnn_cell_step(lower, x_t, BATCH * FEATURES, h_lower, BATCH * UNITS, BATCH,
                                         h_lower, BATCH * UNITS));
        check(elman_simple_rnn_cell_step(upper, h_lower, BATCH * UNITS, h, BATCH * UNITS, BATCH, h, BATCH * UNITS));
    }
    free(h_lower);
    free(x_t);
}

/* Copies one weight of a cell to a layer of the network. */
static void copy_weight(const elman_simple_rnn_cell *cell, elman_sequential *network, size_t layer, elman_weight which)
{
    size_t rows, columns;
    float *values;
    check(elman_sequential_weight_shape(network, layer, which, &rows, &columns));
    values = new_floats(rows * columns);
    check(elman_simple_rnn_cell_get_weight(cell, which, values, rows * columns));
    check(elman_sequential_set_weight(network, layer, which, values, rows * columns));
    free(values);
}

static elman_sequential *new_network(const elman_simple_rnn_cell *lower, const elman_simple_rnn_cell *upper)
{
    const elman_simple_rnn_cell *cells[2];
    elman_simple_rnn_config config;
    elman_sequential *network;

    cells[0] = lower;
    cells[1] = upper;
    check(elman_sequential_new(FEATURES, &network));
    check(elman_simple_rnn_config_init(&config, sizeof config, UNITS));
    config.return_sequences = 1;
    check(elman_sequential_add_simple_rnn(network, &config));
    config.return_sequences = 0;
    check(elman_sequential_add_simple_rnn(network, &config));
    check(elman_sequential_build(network, 0));
    for (size_t layer = 0; layer < 2; layer++) {
        copy_weight(cells[layer], network, layer, ELMAN_WEIGHT_KERNEL);
        copy_weight(cells[layer], network, layer, ELMAN_WEIGHT_RECURRENT_KERNEL);
        copy_weight(cells[layer], network, layer, ELMAN_WEIGHT_BIAS);
    }
    return network;
}

int main(void)
{
    elman_simple_rnn_cell *lower, *upper;
    elman_sequential *network;
    float *x, *by_hand, *at_once;
    int equal;

    printf("elman %s on %s\n\n", elman_version(), elman_isa());
    show_small_cell();

    lower = new_cell(FEATURES, UNITS, 2);
    upper = new_cell(UNITS, UNITS, 3);
    network = new_network(lower, upper);
    x = new_floats((size_t)BATCH * STEPS * FEATURES);
    by_hand = new_floats(BATCH * UNITS);
    at_once = new_floats(BATCH * UNITS);
    fill(x, (size_t)BATCH * STEPS * FEATURES);

    run_by_hand(lower, upper, x, by_hand);
    check(elman_sequential_predict(network, x, (size_t)BATCH * STEPS * FEATURES, BATCH, STEPS, at_once, BATCH * UNITS));

    equal = memcmp(by_hand, at_once, BATCH * UNITS * sizeof *by_hand) == 0;
    printf("\n[%d, %d, %d] through two layers of %d units\n", BATCH, STEPS, FEATURES, UNITS);
    printf("first outputs, cells:   %.9g %.9g %.9g\n", (double)by_hand[0], (double)by_hand[1], (double)by_hand[2]);
    printf("first outputs, network: %.9g %.9g %.9g\n", (double)at_once[0], (double)at_once[1], (double)at_once[2]);
    printf(equal ? "the results are equal bit for bit\n" : "the results DIFFER\n");

    free(at_once);
    free(by_hand);
    free(x);
    elman_sequential_free(network);
    elman_simple_rnn_cell_free(upper);
    elman_simple_rnn_cell_free(lower);
    return equal ? EXIT_SUCCESS : EXIT_FAILURE;
}
