// A program outside the tree, by the C++ header.
#include <elman.hpp>
#include <iostream>

int main() {
    if (elman::version_number() != ELMAN_VERSION_NUMBER) return 1;
    elman::sequential network(3);
    network.add_simple_rnn(elman::simple_rnn_config(4)).build(1);
    const std::vector<float> y = network.predict(std::vector<float>{1, 2, 3, 4, 5, 6}, 1, 2);
    std::cout << "elman " << elman_version() << ": " << y[0] << ' ' << y[1] << ' ' << y[2] << ' ' << y[3] << '\n';
}
