/* Two libraries in Rust in one program. Both catch panics, and both start threads. */
#include <elman.h>
#include <stdint.h>
#include <stdio.h>

extern uint32_t other_sum(uint32_t n);

int main(void) {
    elman_sequential *network;
    if (other_sum(5) != 10 || other_sum(7) != 99) return 1;
    if (elman_sequential_new(3, &network) || elman_sequential_add_dense(network, 2, ELMAN_ACTIVATION_TANH) ||
        elman_sequential_set_threads(network, 2) || elman_sequential_build(network, 1)) {
        fprintf(stderr, "%s\n", elman_last_error());
        return 1;
    }
    if (elman_sequential_load("missing", &network) != ELMAN_STATUS_IO || other_sum(5) != 10) return 1;
    printf("elman %s: beside another\n", elman_version());
    return 0;
}
