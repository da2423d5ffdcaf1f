/*
 * Times elman_stream_run from C, a sample a call, as compare.py asks for it:
 *
 *   stream DATA RESULT LSTM|GRU FEATURES UNITS
 *
 * DATA holds, as float32, a layer's kernel, recurrent kernel and bias in Keras's layout, and 64 samples. The output
 * after the first 64 is written to RESULT, and a line "ready" to standard output. Then every line on standard
 * input is a number of seconds: so long, samples follow each other, and the median nanoseconds of a call are answered.
 */
#include <elman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream_clock.h"

static void check(elman_status status, const char *what)
{
    if (status != ELMAN_STATUS_OK) {
        fprintf(stderr, "%s: %s: %s\n", what, elman_status_name(status), elman_last_error());
        exit(1);
    }
}

static void add_layer(elman_sequential *network, const char *cell, size_t units)
{
    if (strcmp(cell, "LSTM") == 0) {
        elman_lstm_config config;
        check(elman_lstm_config_init(&config, sizeof config, units), "config");
        config.return_sequences = 1;
        check(elman_sequential_add_lstm(network, &config), "layer");
    } else {
        elman_gru_config config;
        check(elman_gru_config_init(&config, sizeof config, units), "config");
        config.return_sequences = 1;
        check(elman_sequential_add_gru(network, &config), "layer");
    }
}

int main(int argc, char **argv)
{
    elman_sequential *network = NULL;
    elman_stream *stream = NULL;

    if (argc != 6) {
        fprintf(stderr, "usage: stream DATA RESULT LSTM|GRU FEATURES UNITS\n");
        return 2;
    }
    const size_t features = strtoul(argv[4], NULL, 10), units = strtoul(argv[5], NULL, 10);
    check(elman_sequential_new(features, &network), "network");
    add_layer(network, argv[3], units);
    check(elman_sequential_build(network, 1), "build");

    const int is_lstm = strcmp(argv[3], "LSTM") == 0;
    const size_t columns = (is_lstm ? 4 : 3) * units;
    const size_t sizes[] = {features * columns, units * columns, (is_lstm ? 1 : 2) * columns, SAMPLES * features};
    float *arrays[4], *y = calloc(units, sizeof *y);
    FILE *file = fopen(argv[1], "rb");
    for (int i = 0; i < 4; i++) {
        arrays[i] = calloc(sizes[i], sizeof(float));
        if (file == NULL || y == NULL || arrays[i] == NULL
            || fread(arrays[i], sizeof(float), sizes[i], file) != sizes[i]) {
            fprintf(stderr, "cannot read %s\n", argv[1]);
            return 1;
        }
    }
    fclose(file);
    for (elman_weight which = ELMAN_WEIGHT_KERNEL; which <= ELMAN_WEIGHT_BIAS; which++)
        check(elman_sequential_set_weight(network, 0, which, arrays[which], sizes[which]), "weight");
    check(elman_stream_new(network, 1, &stream), "stream");
    elman_sequential_free(network);

    const float *samples = arrays[3];
    for (size_t i = 0; i < SAMPLES; i++)
        check(elman_stream_run(stream, samples + i * features, features, 1, y, units), "run");
    file = fopen(argv[2], "wb");
    if (file == NULL || fwrite(y, sizeof(float), units, file) != units || fclose(file) != 0) {
        fprintf(stderr, "cannot write %s\n", argv[2]);
        return 1;
    }
    printf("ready %s\n", elman_version());
    fflush(stdout);

    struct stream_turn turn;
    while (next_turn(&turn)) {
        do {
            for (size_t i = 0; i < CALLS_A_SLICE; i++)
                check(elman_stream_run(stream, samples + i % SAMPLES * features, features, 1, y, units), "run");
        } while (next_slice(&turn));
        answer(&turn);
    }
    elman_stream_free(stream);
    for (int i = 0; i < 4; i++) free(arrays[i]);
    free(y);
    return 0;
}
