/*
 * Sequences of different lengths in one batch: each row is padded to the longest one, and lengths says how much of it
 * counts. The padding costs nothing, and each row's result is the one that it has alone, bit for bit, or the program
 * ends with 1.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "elman.h"

enum { BATCH = 5, STEPS = 12, FEATURES = 3, UNITS = 24 };

static void check(elman_status status)
{
    if (status != ELMAN_STATUS_OK) {
        fprintf(stderr, "elman: %s: %s\n", elman_status_name(status), elman_last_error());
        exit(EXIT_FAILURE);
    }
}

int main(void)
{
    static const size_t lengths[BATCH] = {3, 12, 1, 0, 7};
    static float x[BATCH][STEPS][FEATURES];
    float y[BATCH], state[BATCH * UNITS];
    uint32_t noise = 7;
    size_t wrong = 0;
    elman_simple_rnn_config config;
    elman_run_options options;
    elman_sequential *network;

    check(elman_sequential_new(FEATURES, &network));
    check(elman_simple_rnn_config_init(&config, sizeof config, UNITS));
    check(elman_sequential_add_simple_rnn(network, &config));
    check(elman_sequential_add_dense(network, 1, ELMAN_ACTIVATION_SIGMOID));
    check(elman_sequential_build(network, 1));

    for (size_t row = 0; row < BATCH; row++)
        for (size_t step = 0; step < lengths[row]; step++)
            for (size_t i = 0; i < FEATURES; i++) {
                noise = noise * 1664525u + 1013904223u;
                x[row][step][i] = (float)(noise >> 8) / 8388608.0f - 1.0f;
            }

    check(elman_run_options_init(&options, sizeof options));
    options.lengths = lengths;
    options.lengths_len = BATCH;
    options.final_state = state;
    options.final_state_len = BATCH * UNITS;
    check(elman_sequential_run(network, &x[0][0][0], sizeof x / sizeof(float), BATCH, STEPS, &options, y, BATCH));

    for (size_t row = 0; row < BATCH; row++) {
        float alone = y[row];
        /* A row of no steps has no run of its own: its state stays at zeros. */
        if (lengths[row] > 0)
            check(elman_sequential_predict(network, &x[row][0][0], lengths[row] * FEATURES, 1, lengths[row], &alone, 1));
        printf("row %lu, %2lu steps: %.7f, state begins %10.7f\n", (unsigned long)row, (unsigned long)lengths[row],
               (double)y[row], (double)state[row * UNITS]);
        wrong += memcmp(&alone, &y[row], sizeof alone) != 0;
    }
    printf(wrong == 0 ? "each row is equal bit for bit to itself alone\n" : "rows DIFFER\n");
    elman_sequential_free(network);
    return wrong == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
