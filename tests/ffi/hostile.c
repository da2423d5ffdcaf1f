/*
 * Right and wrong calls of the C functions at random, in orders that nobody planned: hostile CALLS SEED.
 *
 * Every array ends where a page that nobody may touch begins, so reading or writing one element too many ends the program.
 * A refused call must leave its outputs as they were, and no call may answer PANIC or a status that is not in the header.
 * Lengths are wrong now and then, pointers NULL or misaligned, numbers NaN, infinite or subnormal, enums unknown, sizes
 * absurd, handles freed in any order.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "elman.h"

enum { ROOM = 1 << 20, ARRAYS = 12, SLOTS = 6, CANARY = 0xA5, STATUSES = 100 };

static unsigned char *rooms[ARRAYS];
static size_t used;
/* Outputs of the call that is being made. */
static struct {
    unsigned char *at;
    size_t bytes;
} outputs[ARRAYS];
static size_t output_count;
static unsigned long calls, by_status[STATUSES];
static uint64_t state;

static uint64_t chance(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return below == 0 ? 0 : (state >> 11) % below;
}

static _Noreturn void fail(const char *call, const char *what)
{
    fprintf(stderr, "call %lu, %s: %s; %s\n", calls, call, what, elman_last_error());
    exit(EXIT_FAILURE);
}

static void make_rooms(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < ARRAYS; i++) {
        unsigned char *room = mmap(NULL, ROOM + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (room == MAP_FAILED || mprotect(room + ROOM, page, PROT_NONE) != 0)
            fail("mmap", "no memory");
        rooms[i] = room;
    }
}

/* Room for an array whose last byte is the last before the guard; one that is larger than the room must be refused unread. */
static unsigned char *place(size_t bytes)
{
    unsigned char *room = rooms[used++ % ARRAYS];
    return bytes <= ROOM ? room + ROOM - bytes : room;
}

/* Mostly what is right; never so much as is right and not there. */
static size_t length(size_t right)
{
    if (right > ROOM / sizeof(double))
        return chance(100);
    static const size_t absurd[] = {0, 1, SIZE_MAX, SIZE_MAX / 4, SIZE_MAX / 4 + 1, (size_t)1 << 40, (size_t)1 << 62};
    switch (chance(24)) {
    case 0:
        return right + 1;
    case 1:
        return right > 0 ? right - 1 : 0;
    case 2:
        return absurd[chance(sizeof absurd / sizeof *absurd)];
    default:
        return right;
    }
}

/* NULL or misaligned now and then. */
static void *spoil(void *at, size_t bytes)
{
    switch (chance(60)) {
    case 0:
        return NULL;
    case 1:
        return bytes > 4 && bytes <= ROOM ? (unsigned char *)at - 1 : at;
    default:
        return at;
    }
}

static float number(void)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, 1e-42f, -1e-42f, 3e38f, -3e38f, -0.0f, 0.0f, 1.0f};
    if (chance(40) == 0)
        return odd[chance(sizeof odd / sizeof *odd)];
    return (float)chance(2048) / 1024.0f - 1.0f;
}

static size_t times(size_t count, size_t size)
{
    return count > SIZE_MAX / size ? SIZE_MAX : count * size;
}

static const float *input(size_t count)
{
    size_t bytes = times(count, sizeof(float));
    float *at = (float *)(void *)place(bytes);
    /* Whole arrays of ordinary numbers mostly, so that calls get far. */
    int odd = chance(8) == 0;
    for (size_t i = 0; bytes <= ROOM && i < count; i++)
        at[i] = odd ? number() : (float)chance(2048) / 1024.0f - 1.0f;
    return spoil(at, bytes);
}

static const int32_t *tokens(size_t count)
{
    size_t bytes = times(count, sizeof(int32_t));
    int32_t *at = (int32_t *)(void *)place(bytes);
    int odd = chance(8) == 0;
    for (size_t i = 0; bytes <= ROOM && i < count; i++)
        at[i] = odd && chance(10) == 0 ? (int32_t)chance(UINT32_MAX) : (int32_t)chance(5);
    return spoil(at, bytes);
}

static void *output(size_t bytes)
{
    unsigned char *at = place(bytes);
    if (bytes <= ROOM && output_count < ARRAYS) {
        memset(at, CANARY, bytes);
        outputs[output_count].at = at;
        outputs[output_count++].bytes = bytes;
    }
    return chance(60) == 0 ? NULL : at;
}

static float *floats_out(size_t count)
{
    return output(times(count, sizeof(float)));
}

static void begin(void)
{
    used = 0;
    output_count = 0;
}

/* What every call must keep to. */
static elman_status ended(const char *call, elman_status status)
{
    calls++;
    if (status >= STATUSES || strcmp(elman_status_name(status), "UNKNOWN") == 0)
        fail(call, "a status that is not in the header");
    if (status == ELMAN_STATUS_PANIC)
        fail(call, "PANIC");
    if (status != ELMAN_STATUS_OK && elman_last_error()[0] == '\0')
        fail(call, "no message");
    by_status[status]++;
    for (size_t i = 0; status != ELMAN_STATUS_OK && i < output_count; i++)
        for (size_t at = 0; at < outputs[i].bytes; at++)
            if (outputs[i].at[at] != CANARY)
                fail(call, "a refused call wrote");
    return status;
}

#define CALL(function, ...) ended(#function, function(__VA_ARGS__))

typedef struct {
    elman_sequential *handle;
    size_t features;
    bool tokens;
} network;

static network networks[SLOTS];
static elman_stream *streams[SLOTS];
static void *stream_rooms[SLOTS];
static elman_tape *tapes[SLOTS];
static elman_trainer *trainers[SLOTS];
static elman_simple_rnn_cell *simple_cells[SLOTS];
static elman_lstm_cell *lstm_cells[SLOTS];
static elman_gru_cell *gru_cells[SLOTS];
/* What streams, tapes and trainers were made of. */
static size_t stream_features[SLOTS], tape_features[SLOTS], trainer_features[SLOTS];

static size_t units(void)
{
    static const size_t absurd[] = {0, SIZE_MAX, SIZE_MAX / 4, (size_t)1 << 33, (size_t)1 << 61};
    return chance(40) == 0 ? absurd[chance(sizeof absurd / sizeof *absurd)] : 1 + chance(20);
}

static size_t few(void)
{
    static const size_t absurd[] = {0, SIZE_MAX, (size_t)1 << 31, (size_t)1 << 40, SIZE_MAX / 8};
    return chance(40) == 0 ? absurd[chance(sizeof absurd / sizeof *absurd)] : 1 + chance(5);
}

static uint32_t choice(uint32_t known)
{
    return chance(40) == 0 ? (uint32_t)chance(UINT32_MAX) : (uint32_t)chance(known);
}

static uint8_t flag(void)
{
    return chance(40) == 0 ? (uint8_t)chance(256) : (uint8_t)chance(2);
}

static float rate(void)
{
    return chance(4) == 0 ? number() : 0.0f;
}

static elman_initializer initializer(elman_initializer usual)
{
    if (chance(6) == 0) {
        usual.kind = choice(14);
        usual.a = number();
        usual.b = number();
    }
    return usual;
}

/* The fields that all recurrent configurations have. */
#define VARY(config)                                                                \
    do {                                                                            \
        (config).activation = choice(10);                                           \
        (config).use_bias = flag();                                                 \
        (config).return_sequences = flag();                                         \
        (config).go_backwards = chance(6) == 0 ? flag() : 0;                        \
        (config).stateful = chance(4) == 0 ? flag() : 0;                            \
        (config).zero_output_for_mask = flag();                                     \
        (config).unroll = choice(3);                                                \
        (config).dropout = rate();                                                  \
        (config).recurrent_dropout = rate();                                        \
        (config).kernel_initializer = initializer((config).kernel_initializer);     \
        (config).recurrent_initializer = initializer((config).recurrent_initializer); \
        if (chance(40) == 0)                                                        \
            (config).struct_size = chance(2 * sizeof(config));                      \
    } while (0)

/* A configuration before the guard; NULL where its init refuses. */
#define CONFIG(type, name)                                                                        \
    elman_##type##_config *name = (elman_##type##_config *)(void *)place(sizeof(elman_##type##_config)); \
    elman_status name##_status = CALL(elman_##type##_config_init, name, sizeof *name, units());  \
    if (name##_status == ELMAN_STATUS_OK)                                                         \
        VARY(*name);                                                                              \
    else                                                                                          \
        name = NULL;                                                                              \
    if (name != NULL && name->struct_size > sizeof *name)                                         \
        name->struct_size = sizeof *name

static void add_layer(network *to)
{
    elman_sequential *n = to->handle;
    begin();
    switch (chance(11)) {
    case 0:
    case 1: {
        CONFIG(simple_rnn, config);
        if (chance(4) == 0)
            CALL(elman_sequential_add_bidirectional, n, config, choice(5));
        else
            CALL(elman_sequential_add_simple_rnn, n, config);
        break;
    }
    case 2:
    case 3: {
        CONFIG(lstm, config);
        if (config != NULL)
            config->unit_forget_bias = flag();
        if (chance(4) == 0)
            CALL(elman_sequential_add_bidirectional_lstm, n, config, choice(5));
        else
            CALL(elman_sequential_add_lstm, n, config);
        break;
    }
    case 4:
    case 5: {
        CONFIG(gru, config);
        if (config != NULL)
            config->reset_after = flag();
        if (chance(4) == 0)
            CALL(elman_sequential_add_bidirectional_gru, n, config, choice(5));
        else
            CALL(elman_sequential_add_gru, n, config);
        break;
    }
    case 6:
    case 7:
        CALL(elman_sequential_add_dense, n, units(), choice(10));
        break;
    case 8:
        CALL(elman_sequential_add_dropout, n, number());
        break;
    case 9:
        CALL(elman_sequential_add_masking, n, number());
        break;
    default:
        CALL(elman_sequential_add_last_step, n);
        break;
    }
}

static void new_network(network *to)
{
    elman_sequential_free(to->handle);
    memset(to, 0, sizeof *to);
    begin();
    to->features = units();
    if (CALL(elman_sequential_new, to->features, &to->handle) != ELMAN_STATUS_OK) {
        to->handle = NULL;
        return;
    }
    if (chance(4) == 0) {
        size_t vocabulary = units();
        to->tokens = CALL(elman_sequential_add_embedding, to->handle, vocabulary, units(), chance(2)) == 0;
    }
    for (uint64_t layers = 1 + chance(4); layers > 0; layers--)
        add_layer(to);
    if (chance(20) != 0) {
        begin();
        CALL(elman_sequential_build, to->handle, chance(1000));
    }
    if (chance(4) == 0)
        CALL(elman_sequential_set_threads, to->handle, few());
}

/* Options for a batch, in arrays before guards; NULL now and then, which is allowed. */
static const elman_run_options *options(const elman_sequential *n, size_t batch, size_t steps)
{
    elman_run_options *o = (elman_run_options *)(void *)place(sizeof(elman_run_options));
    size_t states = 0;
    if (chance(2) == 0 || elman_run_options_init(o, sizeof *o) != ELMAN_STATUS_OK)
        return NULL;
    if (n == NULL || elman_sequential_state_len(n, batch, &states) != ELMAN_STATUS_OK)
        states = chance(50);
    if (chance(3) == 0) {
        o->mask_len = length(times(batch, steps));
        uint8_t *mask = place(o->mask_len);
        for (size_t i = 0; o->mask_len <= ROOM && i < o->mask_len; i++)
            mask[i] = (uint8_t)chance(2);
        o->mask = spoil(mask, 0);
    }
    if (chance(3) == 0) {
        o->lengths_len = length(batch);
        size_t *lengths = (size_t *)(void *)place(times(o->lengths_len, sizeof *lengths));
        for (size_t i = 0; o->lengths_len <= 1000 && i < o->lengths_len; i++)
            lengths[i] = chance(steps + 1);
        o->lengths = lengths;
        o->padding = choice(2);
    }
    if (chance(3) == 0) {
        o->initial_state_len = length(states);
        o->initial_state = input(o->initial_state_len);
    }
    if (chance(3) == 0) {
        o->final_state_len = length(states);
        o->final_state = floats_out(o->final_state_len);
    }
    return o;
}

/* Batch and steps, and the length of the input. */
typedef struct {
    size_t batch, steps, in, out;
} sizes;

static sizes call_sizes(const network *n)
{
    sizes s = {few(), few(), 0, 0};
    size_t rows = times(s.batch, s.steps), width = n->tokens ? 1 : n->features;
    s.in = length(width == 0 ? 0 : times(rows, width));
    if (n->handle == NULL || elman_sequential_output_len(n->handle, s.batch, s.steps, &s.out) != ELMAN_STATUS_OK)
        s.out = chance(100);
    s.out = length(s.out);
    return s;
}

static void predict(network *n)
{
    sizes s = call_sizes(n);
    begin();
    if (n->tokens != (chance(20) == 0)) {
        const int32_t *ids = tokens(s.in);
        if (chance(2) == 0) {
            CALL(elman_sequential_predict_tokens, n->handle, ids, s.in, s.batch, s.steps, floats_out(s.out), s.out);
        } else {
            const elman_run_options *o = options(n->handle, s.batch, s.steps);
            CALL(elman_sequential_run_tokens, n->handle, ids, s.in, s.batch, s.steps, o, floats_out(s.out), s.out);
        }
        return;
    }
    const float *x = input(s.in);
    if (chance(20) == 0) {
        /* Overlapping: the output is the input. */
        CALL(elman_sequential_predict, n->handle, x, s.in, s.batch, s.steps, (float *)(uintptr_t)x, s.out < s.in ? s.out : s.in);
    } else if (chance(2) == 0) {
        CALL(elman_sequential_predict, n->handle, x, s.in, s.batch, s.steps, floats_out(s.out), s.out);
    } else {
        const elman_run_options *o = options(n->handle, s.batch, s.steps);
        CALL(elman_sequential_run, n->handle, x, s.in, s.batch, s.steps, o, floats_out(s.out), s.out);
    }
}

static void look_and_change(network *n)
{
    size_t rows = 0, columns = 0, count = 0, layer = chance(6);
    elman_weight which = choice(12);
    begin();
    switch (chance(12)) {
    case 0:
        if (n->handle != NULL && elman_sequential_weight_shape(n->handle, layer, which, &rows, &columns) != ELMAN_STATUS_OK)
            rows = columns = chance(6);
        count = length(rows * columns);
        CALL(elman_sequential_set_weight, n->handle, layer, which, input(count), count);
        break;
    case 1:
        if (n->handle != NULL)
            (void)elman_sequential_weight_shape(n->handle, layer, which, &rows, &columns);
        count = length(rows * columns);
        CALL(elman_sequential_get_weight, n->handle, layer, which, floats_out(count), count);
        break;
    case 2:
    case 3:
        if (n->handle != NULL)
            (void)elman_sequential_parameter_count(n->handle, &count);
        count = length(count);
        if (chance(2) == 0)
            CALL(elman_sequential_get_parameters, n->handle, floats_out(count), count);
        else
            CALL(elman_sequential_set_parameters, n->handle, input(count), count);
        break;
    case 4:
        count = chance(4000);
        CALL(elman_sequential_summary, n->handle, output(count), count, NULL);
        break;
    case 5:
        CALL(elman_sequential_weight_bytes, n->handle, output(sizeof(size_t)), output(sizeof(size_t)));
        break;
    case 6:
        if (chance(10) == 0)
            CALL(elman_sequential_drop_weights, n->handle);
        break;
    case 7:
        CALL(elman_sequential_reset_states, n->handle);
        break;
    case 8:
    case 9: {
        size_t batch = few();
        if (n->handle != NULL)
            (void)elman_sequential_state_len(n->handle, batch, &count);
        count = length(count);
        if (chance(2) == 0)
            CALL(elman_sequential_set_states, n->handle, batch, input(count), count);
        else
            CALL(elman_sequential_get_states, n->handle, floats_out(count), count, output(sizeof(size_t)));
        break;
    }
    case 10:
        (void)elman_sequential_layer_count(n->handle);
        CALL(elman_sequential_output_len, n->handle, few(), few(), output(sizeof(size_t)));
        break;
    default:
        add_layer(n);
        break;
    }
}

/* Saved bytes, damaged now and then, and read again. */
static void bytes(network *n)
{
    static unsigned char file[ROOM];
    size_t needed = 0;
    elman_sequential *loaded = NULL;
    begin();
    if (CALL(elman_sequential_save_bytes, n->handle, file, sizeof file, &needed) != ELMAN_STATUS_OK)
        return;
    if (chance(2) == 0)
        for (uint64_t flips = 1 + chance(4); flips > 0; flips--)
            file[chance(needed)] ^= (unsigned char)(1 << chance(8));
    if (chance(4) == 0)
        needed = chance(needed + 1);
    unsigned char *guarded = place(needed);
    memcpy(guarded, file, needed);
    if (CALL(elman_sequential_load_bytes, guarded, needed, &loaded) == ELMAN_STATUS_OK)
        elman_sequential_free(loaded);
}

static void stream(size_t at)
{
    network *n = &networks[chance(SLOTS)];
    begin();
    if (streams[at] == NULL || chance(30) == 0) {
        size_t needed = 0, alignment = 0, batch = few();
        elman_stream_free(streams[at]);
        streams[at] = NULL;
        free(stream_rooms[at]);
        stream_rooms[at] = NULL;
        stream_features[at] = n->tokens ? 1 : n->features;
        if (chance(2) == 0) {
            CALL(elman_stream_new, n->handle, batch, &streams[at]);
        } else if (CALL(elman_stream_size, n->handle, batch, &needed, &alignment) == ELMAN_STATUS_OK &&
                   needed < ROOM && (stream_rooms[at] = aligned_alloc(alignment, (needed + alignment - 1) / alignment * alignment)) != NULL) {
            CALL(elman_stream_new_in, n->handle, batch, stream_rooms[at], length(needed) % (needed + 1), &streams[at]);
        }
        return;
    }
    elman_stream *s = streams[at];
    size_t steps = few(), batch = few(), out = 0, in;
    switch (chance(8)) {
    case 0:
        CALL(elman_stream_reset, s);
        break;
    case 1:
        CALL(elman_stream_reset_row, s, few());
        break;
    case 2:
    case 3:
        out = length(chance(3) == 0 ? chance(60) : 20 * batch);
        if (chance(2) == 0)
            CALL(elman_stream_get_state, s, floats_out(out), out);
        else
            CALL(elman_stream_set_state, s, input(out), out);
        break;
    default:
        if (elman_stream_output_len(s, steps, &out) != ELMAN_STATUS_OK)
            out = chance(30);
        in = length(times(times(batch, steps), stream_features[at] == 0 ? 1 : stream_features[at]));
        out = length(out);
        if (chance(6) == 0)
            CALL(elman_stream_run_tokens, s, tokens(in), in, steps, floats_out(out), out);
        else
            CALL(elman_stream_run, s, input(in), in, steps, floats_out(out), out);
        break;
    }
}

static void tape(size_t at)
{
    network *n = &networks[chance(SLOTS)];
    begin();
    if (tapes[at] == NULL || chance(30) == 0) {
        elman_tape_free(tapes[at]);
        tapes[at] = NULL;
        tape_features[at] = n->tokens ? 1 : n->features;
        CALL(elman_tape_new, n->handle, 1 + chance(5), 1 + chance(5), &tapes[at]);
        return;
    }
    elman_tape *t = tapes[at];
    network like = *n;
    like.features = tape_features[at];
    sizes s = call_sizes(&like);
    size_t count = length(chance(400));
    switch (chance(7)) {
    case 0:
        CALL(elman_tape_backward, t, input(s.out), s.out, chance(2) == 0 ? NULL : floats_out(s.in), s.in);
        break;
    case 1:
        CALL(elman_tape_backward, t, input(s.out), s.out, NULL, 0);
        break;
    case 2:
        CALL(elman_tape_get_gradient, t, chance(5), choice(12), floats_out(count), count);
        break;
    case 3:
        CALL(elman_tape_gradient_norms, t, chance(5), floats_out(s.steps), s.steps);
        break;
    case 4:
        CALL(elman_tape_clip_by_global_norm, t, number(), floats_out(1));
        break;
    default:
        if (n->tokens)
            CALL(elman_tape_forward_tokens, t, tokens(s.in), s.in, s.batch, s.steps, options(n->handle, s.batch, s.steps), chance(2), chance(9), floats_out(s.out), s.out);
        else
            CALL(elman_tape_forward, t, input(s.in), s.in, s.batch, s.steps, options(n->handle, s.batch, s.steps), chance(2), chance(9), floats_out(s.out), s.out);
        break;
    }
}

static void train(size_t at)
{
    network *n = &networks[chance(SLOTS)];
    begin();
    if (trainers[at] == NULL || chance(30) == 0) {
        elman_trainer_config *config = (elman_trainer_config *)(void *)place(sizeof *config);
        elman_trainer_free(trainers[at]);
        trainers[at] = NULL;
        trainer_features[at] = n->tokens ? 1 : n->features;
        if (CALL(elman_trainer_config_init, config, sizeof *config) != ELMAN_STATUS_OK)
            return;
        config->optimizer = choice(4);
        config->loss = choice(4);
        config->clipping = choice(4);
        config->clip_limit = chance(4) == 0 ? number() : 1.0f;
        config->schedule = choice(5);
        config->decay_steps = chance(20);
        config->l2 = rate();
        config->lazy_embeddings = flag();
        config->truncate_every = chance(8) == 0 ? few() : 0;
        config->truncate_back = chance(8) == 0 ? few() : 0;
        CALL(elman_trainer_new, n->handle, config, &trainers[at]);
        return;
    }
    elman_trainer *t = trainers[at];
    network like = *n;
    like.features = trainer_features[at];
    sizes s = call_sizes(&like);
    size_t count = 0;
    const elman_run_options *o = options(n->handle, s.batch, s.steps);
    switch (chance(9)) {
    case 0:
        if (n->handle != NULL)
            (void)elman_sequential_parameter_count(n->handle, &count);
        count = length(count);
        CALL(elman_trainer_apply, t, input(count), count);
        break;
    case 1:
        if (n->handle != NULL)
            (void)elman_sequential_parameter_count(n->handle, &count);
        count = length(count);
        CALL(elman_trainer_backward, t, input(s.in), s.in, s.batch, s.steps, input(s.out), s.out, o, floats_out(count), count, floats_out(1));
        break;
    case 2:
        CALL(elman_trainer_set_learning_rate, t, number());
        break;
    case 3:
        CALL(elman_trainer_set_trainable, t, chance(5), chance(2));
        break;
    case 4:
        CALL(elman_trainer_evaluate, t, input(s.in), s.in, s.batch, s.steps, input(s.out), s.out, NULL, 0, floats_out(1), floats_out(1));
        break;
    case 5:
        CALL(elman_trainer_step_tokens, t, tokens(s.in), s.in, s.batch, s.steps, input(s.out), s.out, o, floats_out(1));
        break;
    default:
        CALL(elman_trainer_step, t, input(s.in), s.in, s.batch, s.steps, input(s.out), s.out, o, floats_out(1));
        break;
    }
}

static void cells(size_t at)
{
    size_t features = units(), batch = few(), in = length(times(batch, 7)), states = length(times(batch, 9));
    begin();
    switch (chance(6)) {
    case 0: {
        CONFIG(simple_rnn, config);
        elman_simple_rnn_cell_free(simple_cells[at]);
        simple_cells[at] = NULL;
        CALL(elman_simple_rnn_cell_new, config, features, chance(9), &simple_cells[at]);
        break;
    }
    case 1: {
        CONFIG(lstm, config);
        elman_lstm_cell_free(lstm_cells[at]);
        lstm_cells[at] = NULL;
        if (config != NULL && chance(2) == 0)
            config->units = 9, features = 7;
        CALL(elman_lstm_cell_new, config, features, chance(9), &lstm_cells[at]);
        break;
    }
    case 2: {
        CONFIG(gru, config);
        elman_gru_cell_free(gru_cells[at]);
        gru_cells[at] = NULL;
        if (config != NULL && chance(2) == 0)
            config->units = 9, features = 7;
        CALL(elman_gru_cell_new, config, features, chance(9), &gru_cells[at]);
        break;
    }
    case 3:
        CALL(elman_simple_rnn_cell_step, simple_cells[at], input(in), in, input(states), states, batch, floats_out(states), states);
        break;
    case 4:
        CALL(elman_lstm_cell_step, lstm_cells[at], input(in), in, input(states), states, input(states), states, batch, floats_out(states), states, floats_out(states), states);
        break;
    default:
        CALL(elman_gru_cell_step, gru_cells[at], input(in), in, input(states), states, batch, floats_out(states), states);
        break;
    }
}

static void end(size_t at)
{
    elman_sequential_free(networks[at].handle);
    memset(&networks[at], 0, sizeof networks[at]);
    elman_stream_free(streams[at]);
    streams[at] = NULL;
    free(stream_rooms[at]);
    stream_rooms[at] = NULL;
    elman_tape_free(tapes[at]);
    tapes[at] = NULL;
    elman_trainer_free(trainers[at]);
    trainers[at] = NULL;
    elman_simple_rnn_cell_free(simple_cells[at]);
    simple_cells[at] = NULL;
    elman_lstm_cell_free(lstm_cells[at]);
    lstm_cells[at] = NULL;
    elman_gru_cell_free(gru_cells[at]);
    gru_cells[at] = NULL;
}

int main(int argc, char **argv)
{
    unsigned long wanted = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    state = (seed + 1) * 0x9E3779B97F4A7C15u;
    make_rooms();
    while (calls < wanted) {
        size_t at = chance(SLOTS);
        network *n = &networks[at];
        if (n->handle == NULL || chance(60) == 0)
            new_network(n);
        else if (chance(500) == 0)
            end(at);
        switch (chance(12)) {
        case 0:
        case 1:
        case 2:
            predict(n);
            break;
        case 3:
        case 4:
            look_and_change(n);
            break;
        case 5:
            bytes(n);
            break;
        case 6:
        case 7:
            stream(at);
            break;
        case 8:
            tape(at);
            break;
        case 9:
        case 10:
            train(at);
            break;
        default:
            cells(at);
            break;
        }
    }
    for (size_t at = 0; at < SLOTS; at++)
        end(at);
    printf("calls: %lu\n", calls);
    for (elman_status status = 0; status < STATUSES; status++)
        if (by_status[status] > 0)
            printf("%s: %lu\n", elman_status_name(status), by_status[status]);
    return EXIT_SUCCESS;
}
