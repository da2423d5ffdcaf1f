/* A program outside the tree: the header and the library are of one version, and a network runs. */
#include <elman.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    elman_sequential *network;
    elman_simple_rnn_config config;
    float x[6] = {1, 2, 3, 4, 5, 6}, y[4];
    if (elman_version_number() != ELMAN_VERSION_NUMBER || strcmp(elman_version(), ELMAN_VERSION_STRING) != 0) {
        fprintf(stderr, "the header is %s, the library %s\n", ELMAN_VERSION_STRING, elman_version());
        return 1;
    }
    if (elman_sequential_new(3, &network) || elman_simple_rnn_config_init(&config, sizeof config, 4) ||
        elman_sequential_add_simple_rnn(network, &config) || elman_sequential_build(network, 1) ||
        elman_sequential_predict(network, x, 6, 1, 2, y, 4)) {
        fprintf(stderr, "%s\n", elman_last_error());
        return 1;
    }
    elman_sequential_free(network);
    printf("elman %s: %g %g %g %g\n", elman_version(), y[0], y[1], y[2], y[3]);
    return 0;
}
