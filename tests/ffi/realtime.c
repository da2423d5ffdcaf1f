/*
 * Streams in this program's memory, run between two markers; tests/realtime.rs builds it, looks on with a trace of
 * system calls, and gives the markers' words. Whatever a program needs from the system it has before the first marker.
 */
/* For write beside -std=c99. */
#define _POSIX_C_SOURCE 200809L

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "elman.h"

enum { FEATURES = 3, OUTPUTS = 2, VOCABULARY = 7, MOST_ROWS = 40, MOST_STEPS = 100, ROUNDS = 100, FEW_ROUNDS = 10 };

/* The streams live here: no byte of the heap. */
static unsigned char room[1 << 21];
static float x[MOST_ROWS * MOST_STEPS * FEATURES], y[MOST_ROWS * MOST_STEPS * OUTPUTS], state[MOST_ROWS * 600];
static int32_t ids[MOST_ROWS * MOST_STEPS];

static void check(elman_status status)
{
    if (status != ELMAN_STATUS_OK) {
        fprintf(stderr, "elman: %s: %s\n", elman_status_name(status), elman_last_error());
        exit(EXIT_FAILURE);
    }
}

static void mark(const char *words)
{
    if (write(STDERR_FILENO, words, strlen(words)) < 0)
        exit(EXIT_FAILURE);
}

/* Tokens where it has an embedding; otherwise a second recurrent layer, or an LSTM and a GRU, with masked steps. */
static elman_sequential *new_network(size_t units, bool tokens, bool gated)
{
    elman_simple_rnn_config config;
    elman_lstm_config lstm;
    elman_gru_config gru;
    elman_sequential *network;
    check(elman_simple_rnn_config_init(&config, sizeof config, units));
    check(elman_lstm_config_init(&lstm, sizeof lstm, units));
    check(elman_gru_config_init(&gru, sizeof gru, units));
    config.return_sequences = lstm.return_sequences = gru.return_sequences = 1;
    check(elman_sequential_new(tokens ? 1 : FEATURES, &network));
    if (tokens) {
        check(elman_sequential_add_embedding(network, VOCABULARY, 9, true));
    } else {
        check(elman_sequential_add_masking(network, 0.0f));
        if (!gated)
            check(elman_sequential_add_simple_rnn(network, &config));
    }
    if (gated) {
        check(elman_sequential_add_lstm(network, &lstm));
        check(elman_sequential_add_gru(network, &gru));
    }
    check(elman_sequential_add_simple_rnn(network, &config));
    check(elman_sequential_add_dense(network, OUTPUTS, ELMAN_ACTIVATION_SOFTMAX));
    check(elman_sequential_build(network, 1));
    return network;
}

static void run(elman_sequential *network, bool tokens, size_t batch, size_t steps)
{
    const size_t places = batch * steps;
    /* Long calls would take all the time there is. */
    const int rounds = places > 100 ? FEW_ROUNDS : ROUNDS;
    elman_stream *stream;
    size_t bytes, alignment, states;
    unsigned char *memory = room;
    check(elman_sequential_state_len(network, batch, &states));
    if (states > sizeof state / sizeof *state) {
        fprintf(stderr, "%lu states are more than there is room for\n", (unsigned long)states);
        exit(EXIT_FAILURE);
    }
    check(elman_stream_size(network, batch, &bytes, &alignment));
    while ((uintptr_t)memory % alignment != 0)
        memory++;
    if (bytes > sizeof room - (size_t)(memory - room)) {
        fprintf(stderr, "%lu bytes are more than there is room for\n", (unsigned long)bytes);
        exit(EXIT_FAILURE);
    }
    check(elman_stream_new_in(network, batch, memory, bytes, &stream));
    elman_sequential_free(network);

    mark(BEGIN);
    for (int round = 0; round < rounds; round++) {
        if (tokens)
            check(elman_stream_run_tokens(stream, ids, places, steps, y, places * OUTPUTS));
        else
            check(elman_stream_run(stream, x, places * FEATURES, steps, y, places * OUTPUTS));
        check(elman_stream_get_state(stream, state, states));
        check(elman_stream_set_state(stream, state, states));
        check(elman_stream_reset_row(stream, batch - 1));
        if (round % 4 == 0)
            check(elman_stream_reset(stream));
    }
    mark(END);
    elman_stream_free(stream);
}

int main(void)
{
    const size_t batches[] = {1, 3, MOST_ROWS}, steps[] = {1, 2, 33, MOST_STEPS};
    const struct { size_t units; bool tokens, gated; } networks[] = {
        {20, false, false}, {20, true, false}, {129, false, false},
        {129, true, false}, {20, true, true},  {129, false, true},
    };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        ids[i] = (int32_t)(i * i % VOCABULARY);
    /* Each fifth step is masked. */
    for (size_t i = 0; i < sizeof x / sizeof *x; i++)
        x[i] = i / FEATURES % 5 == 0 ? 0.0f : (float)(i % 17) / 8.0f - 1.0f;
    for (size_t n = 0; n < sizeof networks / sizeof *networks; n++)
        for (size_t b = 0; b < sizeof batches / sizeof *batches; b++)
            for (size_t s = 0; s < sizeof steps / sizeof *steps; s++)
                run(new_network(networks[n].units, networks[n].tokens, networks[n].gated), networks[n].tokens,
                    batches[b], steps[s]);
    return EXIT_SUCCESS;
}
