/* A caller that says of three floats that they are six: what a tool that looks for such things must find. */
#include <stdlib.h>
#include "elman.h"
int main(void)
{
    elman_sequential *network;
    float *x = calloc(3, sizeof *x), y[4];
    if (x == NULL || elman_sequential_new(3, &network) || elman_sequential_add_dense(network, 2, 0) ||
        elman_sequential_build(network, 1))
        return 2;
    return (int)elman_sequential_predict(network, x, 6, 2, 1, y, 4);
}
