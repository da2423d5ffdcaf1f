// The C++ header: a network is built, described and run; a wrong call is an exception that says what was wrong.
#include <array>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <vector>

#include "elman.hpp"

int main() {
    constexpr std::size_t batch = 2, steps = 5, features = 3;

    auto lower = elman::simple_rnn_config(16);
    lower.return_sequences = 1;
    auto upper = elman::simple_rnn_config(8);
    upper.activation = ELMAN_ACTIVATION_RELU;

    elman::sequential network(features);
    network.add_simple_rnn(lower).add_dropout(0.25f).add_simple_rnn(upper).add_dense(4, ELMAN_ACTIVATION_SOFTMAX).build(7);
    std::cout << network.summary() << '\n';

    // Weights are in Keras's layout; here every class of the softmax starts a little more likely than the one before.
    network.set_weight(3, ELMAN_WEIGHT_BIAS, std::array<float, 4>{0.0f, 0.1f, 0.2f, 0.3f});

    std::vector<float> x(batch * steps * features);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));

    const std::vector<float> y = network.predict(x, batch, steps);
    for (std::size_t row = 0; row < batch; ++row) {
        std::cout << "row " << row << ':';
        for (std::size_t i = 0; i < 4; ++i) std::cout << ' ' << y[row * 4 + i];
        std::cout << '\n';
    }

    try {
        network.predict(x, batch, steps + 1);
    } catch (const elman::error &error) {
        std::cout << "as it should be, " << elman_status_name(error.status()) << ": " << error.what() << '\n';
        return EXIT_SUCCESS;
    }
    std::cerr << "a wrong length was not noticed\n";
    return EXIT_FAILURE;
}
