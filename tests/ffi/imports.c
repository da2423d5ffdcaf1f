/*
 * Models of other frameworks in a C host. tests/import_c.rs builds and runs it, and gives it a list of files on standard
 * input, a line each:
 *
 *     same PATH OUTPUT ACTIVATION HAS_BETWEEN BETWEEN LAST floats|tokens BATCH STEPS LEN x ... LEN y ...
 *     fails PATH STATUS
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "elman.h"

static char path[4096];

#define EXPECT(condition)                                                                                           \
    do {                                                                                                            \
        if (!(condition)) {                                                                                         \
            fprintf(stderr, "%s, line %d: not so: %s: %s\n", path, __LINE__, #condition, elman_last_error());      \
            exit(EXIT_FAILURE);                                                                                     \
        }                                                                                                           \
    } while (0)
#define OK(call) EXPECT((call) == ELMAN_STATUS_OK)

static unsigned long number(void)
{
    unsigned long number;
    EXPECT(scanf("%lu", &number) == 1);
    return number;
}

/* As many numbers as stand before them. */
static void *numbers(size_t size, const char *format, size_t *len)
{
    char *values;
    *len = number();
    values = malloc(*len * size);
    EXPECT(values != NULL);
    for (size_t i = 0; i < *len; i++)
        EXPECT(scanf(format, values + i * size) == 1);
    return values;
}

static uint8_t *contents(size_t *len)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes;
    EXPECT(file != NULL && fseek(file, 0, SEEK_END) == 0);
    *len = (size_t)ftell(file);
    rewind(file);
    bytes = malloc(*len + 1);
    EXPECT(bytes != NULL && fread(bytes, 1, *len, file) == *len);
    fclose(file);
    return bytes;
}

/* By path and from bytes that begin at an odd address, which may be freed before the network runs. */
static void load(const elman_load_options *options, elman_sequential *networks[2])
{
    size_t len;
    uint8_t *bytes = contents(&len);
    OK(elman_sequential_load_with(path, options, &networks[0]));
    memmove(bytes + 1, bytes, len);
    OK(elman_sequential_load_bytes_with(bytes + 1, len, options, &networks[1]));
    free(bytes);
}

static void same(void)
{
    elman_load_options options;
    elman_sequential *networks[2];
    char kind[16];
    size_t batch, steps, x_len, y_len, needed;
    void *x;
    float *y, *expected;

    OK(elman_load_options_init(&options, sizeof options));
    options.output = (elman_output)number();
    options.activation = (elman_activation)number();
    options.has_between = (uint8_t)number();
    options.between = (elman_activation)number();
    options.last = (elman_activation)number();
    EXPECT(scanf("%15s", kind) == 1);
    batch = number();
    steps = number();
    x = strcmp(kind, "floats") == 0 ? numbers(sizeof(float), "%f", &x_len) : numbers(sizeof(int32_t), "%d", &x_len);
    expected = numbers(sizeof(float), "%f", &y_len);
    y = malloc(y_len * sizeof *y);
    EXPECT(y != NULL);
    load(&options, networks);
    for (int i = 0; i < 2; i++) {
        OK(elman_sequential_output_len(networks[i], batch, steps, &needed));
        EXPECT(needed == y_len);
        if (strcmp(kind, "floats") == 0)
            OK(elman_sequential_predict(networks[i], x, x_len, batch, steps, y, y_len));
        else
            OK(elman_sequential_predict_tokens(networks[i], x, x_len, batch, steps, y, y_len));
        for (size_t at = 0; at < y_len; at++)
            EXPECT(fabsf(y[at] - expected[at]) <= 1e-5f * fmaxf(1.0f, fabsf(expected[at])));
        elman_sequential_free(networks[i]);
    }
    free(x);
    free(y);
    free(expected);
}

/* What is refused says its status and why, and leaves the handle as it was. */
static void fails(void)
{
    char status[32];
    int there;
    elman_sequential *untouched = (elman_sequential *)(void *)&there, *network = untouched;
    elman_status got = elman_sequential_load(path, &network);
    EXPECT(scanf("%31s", status) == 1);
    EXPECT(strcmp(elman_status_name(got), status) == 0);
    EXPECT(network == untouched);
    EXPECT(strlen(elman_last_error()) > 10);
    if (got != ELMAN_STATUS_IO) {
        size_t len;
        uint8_t *bytes = contents(&len);
        EXPECT(elman_sequential_load_bytes(bytes, len, &network) == got);
        EXPECT(network == untouched);
        /* And nothing of it stays behind: another call succeeds or fails by itself. */
        EXPECT(elman_sequential_load_bytes(bytes, 0, &network) == ELMAN_STATUS_BAD_FORMAT);
        free(bytes);
    }
}

int main(void)
{
    char word[8];
    int count = 0;
    for (; scanf("%7s %4095s", word, path) == 2; count++)
        strcmp(word, "same") == 0 ? same() : fails();
    printf("%d files\n", count);
    return EXIT_SUCCESS;
}
