// The C++ header without exceptions: every call gives a status. Compiled twice: with THROWING, for a function
// that uses the header in its other kind, and without exceptions, for the program.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "elman.hpp"

elman_status status_of_a_throw(std::size_t units);

#ifdef THROWING

elman_status status_of_a_throw(std::size_t units) {
    try {
        elman::sequential network(2);
        network.add_simple_rnn(elman::simple_rnn_config(units)).build(1);
        return ELMAN_STATUS_OK;
    } catch (const elman::error &error) {
        return error.status();
    }
}

#else

#define EXPECT(condition)                                                                                \
    do {                                                                                                 \
        if (!(condition)) {                                                                              \
            std::fprintf(stderr, "line %d: not so: %s: %s\n", __LINE__, #condition, elman_last_error()); \
            return 1;                                                                                    \
        }                                                                                                \
    } while (false)

static int networks(const std::string &path) {
    auto made = elman::sequential::make(3);
    EXPECT(made.ok() && made.status() == ELMAN_STATUS_OK);
    elman::sequential network = std::move(made).value();
    EXPECT(network.predict(std::vector<float>(3), 1, 1).status() == ELMAN_STATUS_NOT_BUILT);
    EXPECT(elman::simple_rnn_config(0).status() == ELMAN_STATUS_INVALID_ARGUMENT);
    EXPECT(network.add_simple_rnn(elman::simple_rnn_config(4).value()).ok());
    EXPECT(network.add_dropout(2.0f).status() == ELMAN_STATUS_INVALID_ARGUMENT);
    EXPECT(network.add_dense(2, ELMAN_ACTIVATION_LINEAR).ok() && network.build(5).ok());

    const std::vector<float> x(2 * 6 * 3, 0.5f);
    const auto y = network.predict(x, 2, 6);
    EXPECT(y.ok() && y.value().size() == 4);
    EXPECT(network.predict(x, 2, 7).status() == ELMAN_STATUS_LENGTH_MISMATCH);
    EXPECT(network.predict(x, 2, 7).value().size() == 4 && std::strstr(elman_last_error(), "42"));
    EXPECT(network.predict_tokens(std::vector<std::int32_t>(1), 1, 1).status() == ELMAN_STATUS_INVALID_ARGUMENT);
    EXPECT(network.summary().value().find("simple_rnn") != std::string::npos ||
           network.summary().value().find("SimpleRNN") != std::string::npos);
    EXPECT(network.get_weight(9, ELMAN_WEIGHT_BIAS).status() == ELMAN_STATUS_INVALID_ARGUMENT);
    EXPECT(network.get_weight(0, ELMAN_WEIGHT_BIAS).value().size() == 4);
    EXPECT(network.get_parameters().value().size() == network.parameter_count().value());

    EXPECT(elman::sequential::load(path + ".missing").status() == ELMAN_STATUS_IO);
    EXPECT(network.save(path).ok());
    auto loaded = elman::sequential::load(path);
    EXPECT(loaded.ok() && loaded.value().predict(x, 2, 6).value() == y.value());
    EXPECT(network.export_to(path + ".pt", ELMAN_FORMAT_TORCH).ok());
    EXPECT(elman::sequential::load(path + ".pt").value().predict(x, 2, 6).value() == y.value());
    EXPECT(network.export_to(path + ".pt", 9).status() == ELMAN_STATUS_INVALID_ARGUMENT);
    EXPECT(network.add_last_step().status() == ELMAN_STATUS_INVALID_ARGUMENT);
    // A network whose making failed is none.
    auto missing = elman::sequential::load(path + ".missing");
    EXPECT(missing.value().build(1).status() == ELMAN_STATUS_NULL_POINTER);
    EXPECT(missing.value().predict(x, 2, 6).status() == ELMAN_STATUS_NULL_POINTER);

    auto stream = elman::stream::make(network, 2);
    EXPECT(stream.ok());
    std::vector<float> last(stream.value().output_len(6).value());
    EXPECT(stream.value().run(x, 6, last).ok() && last == y.value());
    EXPECT(stream.value().reset_row(2).status() == ELMAN_STATUS_INVALID_ARGUMENT);
    EXPECT(elman::stream::make(network, 0).status() == ELMAN_STATUS_INVALID_ARGUMENT);
    return 0;
}

static int training() {
    auto network = elman::sequential::make(1);
    EXPECT(network.ok() && network.value().add_simple_rnn(elman::simple_rnn_config(2).value()).ok());
    EXPECT(elman::tape::make(network.value(), 1, 1).status() == ELMAN_STATUS_NOT_BUILT);
    EXPECT(network.value().build(1).ok());
    auto tape = elman::tape::make(network.value(), 1, 2);
    std::vector<float> y(2);
    EXPECT(tape.value().backward(y).status() == ELMAN_STATUS_INVALID_ARGUMENT);
    EXPECT(tape.value().forward(std::vector<float>{1, 2}, 1, 2, false, 0, y).ok() && tape.value().backward(y).ok());
    EXPECT(tape.value().clip_by_global_norm(1.0f).ok());

    const elman_trainer_config config = elman::trainer_config().value();
    auto trainer = elman::trainer::make(network.value(), config);
    EXPECT(trainer.ok());
    const auto loss = trainer.value().step(std::vector<float>{1, 2}, 1, 2, std::vector<float>{0, 0});
    EXPECT(loss.ok() && loss.value() > 0);
    const auto wrong = trainer.value().step(std::vector<float>{1, 2}, 1, 2, std::vector<float>{0});
    EXPECT(wrong.status() == ELMAN_STATUS_LENGTH_MISMATCH);
    EXPECT(trainer.value().evaluate(std::vector<float>{1, 2}, 1, 2, std::vector<float>{0, 0}).value().loss >= 0);

    auto cell = elman::simple_rnn_cell::make(elman::simple_rnn_config(2).value(), 1, 3);
    EXPECT(cell.ok() && cell.value().step(std::vector<float>{1}, std::vector<float>{0, 0}, 1, y).ok());
    EXPECT(cell.value().step(std::vector<float>{}, std::vector<float>{0, 0}, 1, y).status() != ELMAN_STATUS_OK);
    return 0;
}

static int gated() {
    EXPECT(elman::lstm_config(0).status() == ELMAN_STATUS_INVALID_ARGUMENT);
    EXPECT(elman::gru_config(0).status() == ELMAN_STATUS_INVALID_ARGUMENT);
    elman_lstm_config lstm = elman::lstm_config(3).value();
    const elman_gru_config gru = elman::gru_config(2).value();
    lstm.return_sequences = 1;
    auto made = elman::sequential::make(2);
    EXPECT(made.ok());
    elman::sequential network = std::move(made).value();
    EXPECT(network.add_lstm(lstm).ok());
    EXPECT(network.add_bidirectional_lstm(lstm, ELMAN_MERGE_MODE_CONCAT).ok());
    EXPECT(network.add_bidirectional_lstm(lstm, static_cast<elman_merge_mode>(5)).status() ==
           ELMAN_STATUS_INVALID_ARGUMENT);
    EXPECT(network.add_gru(gru).ok());
    EXPECT(network.add_gru(gru).status() == ELMAN_STATUS_INVALID_ARGUMENT);
    EXPECT(network.add_bidirectional_gru(gru, ELMAN_MERGE_MODE_SUM).status() == ELMAN_STATUS_INVALID_ARGUMENT);
    EXPECT(network.build(1).ok());
    // h and c of the LSTM, of its successor's halves, and the GRU's h.
    EXPECT(network.state_len(4).value() == 4 * (2 * 3 + 2 * 2 * 3 + 2));
    EXPECT(network.weight_shape(2, ELMAN_WEIGHT_BIAS).value().rows == 2);
    EXPECT(network.weight_shape(0, ELMAN_WEIGHT_KERNEL).value().columns == 4 * 3);

    auto first = elman::lstm_cell::make(lstm, 2, 3);
    auto second = elman::gru_cell::make(gru, 2, 3);
    EXPECT(first.ok() && second.ok());
    const std::vector<float> x{1, -1};
    std::vector<float> h(3), c(3), kernel(2 * 4 * 3), state(2), bias(2 * 3 * 2);
    EXPECT(first.value().step(x, h, c, 1, h, c).ok() && h[0] != 0 && c[0] != 0 && h[0] != c[0]);
    EXPECT(first.value().step(x, h, c, 1, c, h).status() == ELMAN_STATUS_OVERLAP);
    EXPECT(first.value().get_weight(ELMAN_WEIGHT_KERNEL, kernel).ok());
    EXPECT(first.value().set_weight(ELMAN_WEIGHT_KERNEL, kernel).ok());
    EXPECT(second.value().step(x, state, 1, state).ok() && state[0] != 0);
    EXPECT(second.value().get_weight(ELMAN_WEIGHT_BIAS, bias).ok());
    EXPECT(second.value().set_weight(ELMAN_WEIGHT_BIAS, state).status() == ELMAN_STATUS_LENGTH_MISMATCH);
    return 0;
}

int main(int, char **arguments) {
    EXPECT(elman::version_number() == ELMAN_VERSION_NUMBER);
    EXPECT(std::strcmp(elman_version(), ELMAN_VERSION_STRING) == 0);
    EXPECT(status_of_a_throw(4) == ELMAN_STATUS_OK);
    EXPECT(status_of_a_throw(0) == ELMAN_STATUS_INVALID_ARGUMENT);
    if (networks(arguments[1]) != 0 || training() != 0 || gated() != 0) return 1;
    std::puts("everything is as it should be");
    return 0;
}

#endif
