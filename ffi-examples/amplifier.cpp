// Sound, sample by sample, in C++: an LSTM of 40 units and a Dense of 1, the size of a guitar amplifier's
// model, at 48 kHz. The same samples go through a stream, one call each, and through a cell by hand; the states
// are equal bit for bit.
//
//     amplifier [samples]
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <vector>

#include "elman.hpp"

int main(int argc, char **argv) {
    constexpr std::size_t units = 40, rate = 48000;
    const std::size_t samples = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 10 * rate;

    auto lstm = elman::lstm_config(units);
    lstm.return_sequences = 1;
    elman::sequential network(1);
    network.add_lstm(lstm).add_dense(1, ELMAN_ACTIVATION_LINEAR).build(1);

    // A saw tooth of 220 Hz.
    std::vector<float> sound(samples), heard(samples);
    for (std::size_t i = 0; i < samples; ++i) sound[i] = static_cast<float>(i * 220 % rate) / rate - 0.5f;

    elman::stream stream(network, 1);
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < samples; ++i)
        stream.run(elman::view<const float>(&sound[i], 1), 1, elman::view<float>(&heard[i], 1));
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    std::cout << "1 -> " << units << " -> 1: " << 1e9 * time.count() / static_cast<double>(samples)
              << " ns a sample, " << static_cast<double>(samples) / rate / time.count()
              << " times as fast as the sound\n";

    // By hand: a cell with the network's weights keeps h and c in two arrays, which it steps in place.
    elman::lstm_cell cell(lstm, 1, 1);
    for (const elman_weight which : {ELMAN_WEIGHT_KERNEL, ELMAN_WEIGHT_RECURRENT_KERNEL, ELMAN_WEIGHT_BIAS})
        cell.set_weight(which, network.get_weight(0, which));
    std::vector<float> h(units), c(units), state(2 * units);
    for (const float &sample : sound) cell.step(elman::view<const float>(&sample, 1), h, c, 1, h, c);
    stream.get_state(state);
    h.insert(h.end(), c.begin(), c.end());
    if (h != state) {
        std::cerr << "the states of the stream and of the cell DIFFER\n";
        return EXIT_FAILURE;
    }
    std::cout << "the states of the stream and of the cell are equal\n";
    return EXIT_SUCCESS;
}
