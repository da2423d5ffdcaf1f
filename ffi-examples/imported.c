/*
 * Models of other frameworks: one call loads what Keras, PyTorch or an ONNX exporter wrote.
 *
 *     imported           the files of data/imported.txt (data/save_*.py made them), and what their frameworks computed
 *     imported FILE      what a model computes from the same five steps of three features
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "elman.h"

#ifndef DATA_DIR
#define DATA_DIR "data"
#endif

enum { STEPS = 5, FEATURES = 3, OUTPUTS = 2 };

static void check(const char *path, elman_status status)
{
    if (status == ELMAN_STATUS_OK)
        return;
    fprintf(stderr, "%s: %s: %s\n", path, elman_status_name(status), elman_last_error());
    exit(EXIT_FAILURE);
}

static void predict(const char *path, float y[OUTPUTS])
{
    elman_sequential *network;
    float x[STEPS * FEATURES];

    for (int i = 0; i < STEPS * FEATURES; i++)
        x[i] = (float)i / (STEPS * FEATURES);
    check(path, elman_sequential_load(path, &network));
    check(path, elman_sequential_predict(network, x, STEPS * FEATURES, 1, STEPS, y, OUTPUTS));
    elman_sequential_free(network);
}

int main(int argc, char **argv)
{
    char name[64], path[1024];
    float y[OUTPUTS], expected[OUTPUTS];
    double largest = 0;
    int files = 0;
    FILE *list;

    if (argc > 1) {
        predict(argv[1], y);
        printf("%.8f %.8f\n", (double)y[0], (double)y[1]);
        return EXIT_SUCCESS;
    }
    list = fopen(DATA_DIR "/imported.txt", "r");
    if (list == NULL) {
        fprintf(stderr, "%s: cannot be read\n", DATA_DIR "/imported.txt");
        return EXIT_FAILURE;
    }
    while (fscanf(list, "%63s %f %f", name, &expected[0], &expected[1]) == 3) {
        snprintf(path, sizeof path, "%s/%s", DATA_DIR, name);
        predict(path, y);
        printf("%-10s  here %11.8f %11.8f  there %11.8f %11.8f\n", name, (double)y[0], (double)y[1],
               (double)expected[0], (double)expected[1]);
        for (int i = 0; i < OUTPUTS; i++)
            largest = fmax(largest, fabs((double)y[i] - (double)expected[i]));
        files++;
    }
    fclose(list);
    printf("files: %d\nlargest difference from their frameworks: %.1e\n", files, largest);
    return files > 0 && largest <= 1e-5 ? EXIT_SUCCESS : EXIT_FAILURE;
}
