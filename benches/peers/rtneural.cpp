// Times RTNeural's LSTM and GRU, whose sizes are fixed when they are compiled, a sample a call:
//
//   rtneural DATA RESULT LSTM|GRU FEATURES UNITS
//
// It is asked and answers like stream.c, and knows the sizes of cases.py. RTNeural is no part of elman:
// compare.py --rtneural says where its headers are, and compiles this once for each of its backends.
#include <RTNeural/RTNeural.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "stream_clock.h"

namespace {

using Rows = std::vector<std::vector<float>>;

Rows read_rows(std::ifstream &file, std::size_t count, std::size_t width)
{
    Rows rows(count, std::vector<float>(width));
    for (auto &row : rows) file.read(reinterpret_cast<char *>(row.data()), std::streamsize(width * sizeof(float)));
    return rows;
}

template <typename Layer>
void set_bias(Layer &layer, const Rows &bias)
{
    layer.setBVals(bias);
}

template <int features, int units>
void set_bias(RTNeural::LSTMLayerT<float, features, units> &layer, const Rows &bias)
{
    layer.setBVals(bias[0]);
}

template <template <typename, int, int, RTNeural::SampleRateCorrectionMode, typename> class Layer, int features,
          int units, std::size_t gates>
int run(char **arguments)
{
    using ThisLayer
        = Layer<float, features, units, RTNeural::SampleRateCorrectionMode::None, RTNeural::DefaultMathsProvider>;
    static RTNeural::ModelT<float, features, units, ThisLayer> model;
    std::ifstream file(arguments[1], std::ios::binary);
    const std::size_t columns = gates * units;
    const Rows kernel = read_rows(file, features, columns), recurrent_kernel = read_rows(file, units, columns);
    const Rows bias = read_rows(file, gates == 4 ? 1 : 2, columns);
    // It loads whole vectors.
    alignas(64) static float samples[SAMPLES][(features + 15) / 16 * 16];
    for (auto &sample : samples) file.read(reinterpret_cast<char *>(sample), features * sizeof(float));
    if (!file) {
        std::fprintf(stderr, "cannot read %s\n", arguments[1]);
        return 1;
    }
    auto &layer = model.template get<0>();
    layer.setWVals(kernel);
    layer.setUVals(recurrent_kernel);
    set_bias(layer, bias);
    model.reset();

    for (const auto &sample : samples) model.forward(sample);
    std::ofstream result(arguments[2], std::ios::binary);
    result.write(reinterpret_cast<const char *>(model.getOutputs()), units * sizeof(float));
    result.close();
    if (!result) {
        std::fprintf(stderr, "cannot write %s\n", arguments[2]);
        return 1;
    }
    std::printf("ready %s\n", RTNEURAL_VERSION);
    std::fflush(stdout);

    static stream_turn turn;
    // Read by nobody, so that no call is left out.
    volatile float heard = 0;
    while (next_turn(&turn)) {
        do {
            for (std::size_t i = 0; i < CALLS_A_SLICE; i++) heard = model.forward(samples[i % SAMPLES]);
        } while (next_slice(&turn));
        answer(&turn);
    }
    (void)heard;
    return 0;
}

template <int features, int units>
int run_cell(const std::string &cell, char **arguments)
{
    return cell == "LSTM" ? run<RTNeural::LSTMLayerT, features, units, 4>(arguments)
                          : run<RTNeural::GRULayerT, features, units, 3>(arguments);
}

}  // namespace

int main(int count, char **arguments)
{
    const std::string cell = count == 6 ? arguments[3] : "";
    const std::string sizes = count == 6 ? std::string(arguments[4]) + "-" + arguments[5] : "";
    if (sizes == "1-20") return run_cell<1, 20>(cell, arguments);
    if (sizes == "1-40") return run_cell<1, 40>(cell, arguments);
    if (sizes == "40-40") return run_cell<40, 40>(cell, arguments);
    std::fprintf(stderr, "usage: rtneural DATA RESULT LSTM|GRU 1|40 20|40\n");
    return 2;
}
