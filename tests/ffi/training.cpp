// Every wrapper of elman.hpp for training, for states that are kept and for dropping weights, called once and its answer looked at.
// tests/ffi_examples.rs builds and runs it.
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "elman.hpp"

namespace {

constexpr std::size_t batch = 3, steps = 5, features = 2, units = 4;

#define EXPECT(condition)                                                       \
    do {                                                                        \
        if (!(condition)) {                                                     \
            std::fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition); \
            std::exit(EXIT_FAILURE);                                            \
        }                                                                       \
    } while (false)

template <class Call>
elman_status failure(Call call) {
    try {
        call();
    } catch (const elman::error &error) {
        EXPECT(std::string(error.what()).size() > 0);
        return error.status();
    }
    return ELMAN_STATUS_OK;
}

elman::sequential floats() {
    elman::sequential network(features);
    network.add_simple_rnn(elman::simple_rnn_config(units)).add_dense(1, ELMAN_ACTIVATION_LINEAR).build(3);
    return network;
}

elman::sequential tokens() {
    elman::sequential network(1);
    network.add_embedding(6, features, true).add_simple_rnn(elman::simple_rnn_config(units)).build(3);
    return network;
}

std::vector<float> waves(std::size_t size) {
    std::vector<float> values(size);
    for (std::size_t i = 0; i < size; ++i) values[i] = std::sin(static_cast<float>(i));
    return values;
}

float sum(const std::vector<float> &values) {
    float total = 0;
    for (float value : values) total += value;
    return total;
}

void tapes() {
    elman::sequential network = floats();
    const std::vector<float> x = waves(batch * steps * features), ones(batch, 1.0f);
    std::vector<float> y(network.output_len(batch, steps)), dx(x.size());

    elman::tape made(network, batch, steps);
    elman::tape tape = std::move(made);
    EXPECT(made.get() == nullptr && tape.get() != nullptr);
    EXPECT(failure([&] { tape.backward(ones); }) == ELMAN_STATUS_INVALID_ARGUMENT);
    tape.forward(x, batch, steps, false, 0, y);
    EXPECT(y == network.predict(x, batch, steps));
    tape.backward(ones, dx);

    // The gradient of the sum of the outputs foretells what a small step along it does.
    std::vector<float> parameters = network.get_parameters();
    EXPECT(parameters.size() == network.parameter_count());
    std::vector<float> gradients(parameters.size());
    tape.get_gradients(gradients);
    float squares = 0;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
        squares += gradients[i] * gradients[i];
        parameters[i] += 1e-3f * gradients[i];
    }
    network.set_parameters(parameters);
    EXPECT(network.get_parameters() == parameters);
    const float change = sum(network.predict(x, batch, steps)) - sum(y);
    EXPECT(std::fabs(change / (1e-3f * squares) - 1) < 0.05f);

    std::array<float, units * units> recurrent{};
    tape.get_gradient(0, ELMAN_WEIGHT_RECURRENT_KERNEL, recurrent);
    EXPECT(recurrent[0] == gradients[features * units]);
    std::vector<float> initial(network.state_len(batch));
    tape.get_initial_state_gradient(initial);
    EXPECT(sum(initial) != 0);
    std::array<float, steps> norms{};
    tape.gradient_norms(0, norms);
    EXPECT(norms[0] > 0 && norms[steps - 1] > 0);
    EXPECT(std::fabs(tape.clip_by_global_norm(0.5f) - std::sqrt(squares)) < 1e-4f);
    tape.get_gradients(gradients);
    squares = 0;
    for (float gradient : gradients) squares += gradient * gradient;
    EXPECT(std::fabs(std::sqrt(squares) - 0.5f) < 1e-4f);

    // A row of length 0 has no part in anything.
    const std::array<std::size_t, batch> lengths{steps, 0, 2};
    elman_run_options options = elman::run_options();
    options.lengths = lengths.data();
    options.lengths_len = lengths.size();
    tape.forward(x, batch, steps, false, 0, y, &options);
    tape.backward(ones, dx);
    for (std::size_t i = 0; i < steps * features; ++i) EXPECT(dx[steps * features + i] == 0);

    const std::array<std::int32_t, 4> ids{1, 2, 0, 5};
    const elman::sequential words = tokens();
    elman::tape of_words(words, 1, ids.size());
    std::vector<float> last(units);
    of_words.forward_tokens(ids, 1, ids.size(), true, 7, last);
    EXPECT(last == words.predict_tokens(ids, 1, ids.size()));
    EXPECT(failure([&] { of_words.backward(last, dx); }) != ELMAN_STATUS_OK);
}

void trainers(const std::string &path) {
    elman_trainer_config config = elman::trainer_config();
    EXPECT(config.optimizer == ELMAN_OPTIMIZER_ADAM && config.struct_size == sizeof config);
    config.learning_rate = 0.05f;
    elman::sequential network = floats(), other = floats();
    const std::vector<float> x = waves(batch * steps * features), target{1, -1, 0.5f};

    elman::trainer trainer(network, config);
    const float first = trainer.step(x, batch, steps, target);
    elman_run_options options = elman::run_options();
    for (int i = 0; i < 50; ++i) trainer.step(x, batch, steps, target, &options);
    EXPECT(trainer.step(x, batch, steps, target) < 0.1f * first);
    EXPECT(failure([&] { trainer.step(x, batch, steps + 1, target); }) == ELMAN_STATUS_LENGTH_MISMATCH);

    // A row of weight 0 moves nothing, whatever it holds, and the accuracy of a mean squared error is none.
    const std::vector<float> weights{1, 0, 2};
    std::vector<float> odd = target;
    odd[1] = 1000;
    const float even = trainer.evaluate(x, batch, steps, target, weights).loss;
    EXPECT(trainer.evaluate(x, batch, steps, odd, weights).loss == even);
    EXPECT(trainer.evaluate(x, batch, steps, odd).loss > 1000);
    EXPECT(std::isnan(trainer.evaluate(x, batch, steps, target).accuracy));
    EXPECT(trainer.step_weighted(x, batch, steps, odd, weights) == even);
    EXPECT(trainer.step_weighted(x, batch, steps, odd, weights, &options) < even);

    trainer.save(path);
    elman::trainer resumed = elman::trainer::load(other, path);
    EXPECT(other.get_parameters() == network.get_parameters());
    EXPECT(resumed.step(x, batch, steps, target) == trainer.step(x, batch, steps, target));
    EXPECT(other.get_parameters() == network.get_parameters());
    EXPECT(failure([&] { elman::trainer::load(other, path + ".missing"); }) == ELMAN_STATUS_IO);

    // The same without files.
    const std::vector<std::uint8_t> checkpoint = trainer.save_bytes(), model = network.save_bytes();
    elman::sequential third = elman::sequential::load_bytes(model), fourth = floats();
    EXPECT(third.get_parameters() == network.get_parameters() && third.save_bytes() == model);
    elman::trainer again = elman::trainer::load_bytes(fourth, checkpoint);
    EXPECT(again.save_bytes() == checkpoint);
    EXPECT(again.step(x, batch, steps, target) == trainer.step(x, batch, steps, target));
    elman::sequential narrow(features);
    narrow.add_dense(1, ELMAN_ACTIVATION_LINEAR).build(1);
    EXPECT(failure([&] { elman::trainer::load_bytes(narrow, checkpoint); }) == ELMAN_STATUS_BAD_FORMAT);

    const std::array<std::int32_t, 4> ids{1, 2, 0, 5};
    elman::sequential words = tokens();
    elman::trainer of_words(words, config);
    const std::vector<float> wanted(units, 0.5f);
    const float before = of_words.step_tokens(ids, 1, ids.size(), wanted);
    const float once = of_words.evaluate_tokens(ids, 1, ids.size(), wanted).loss;
    const std::vector<float> twice{2};
    EXPECT(of_words.step_weighted_tokens(ids, 1, ids.size(), wanted, twice) == 2 * once);
    words = tokens();  // The trainer keeps the network that it was made for.
    EXPECT(of_words.step_tokens(ids, 1, ids.size(), wanted) < before);
}

/// A recurrent layer and a dense one without a bias, of ones.
elman::sequential plain_dense() {
    elman::sequential network(features);
    elman_dense_config dense = elman::dense_config(2);
    dense.use_bias = 0;
    dense.kernel_initializer.kind = ELMAN_INITIALIZER_ONES;
    network.add_simple_rnn(elman::simple_rnn_config(units)).add_dense(dense).build(3);
    return network;
}

void halves_and_changes() {
    elman::sequential network = plain_dense(), other = plain_dense();
    EXPECT(network.get_weight(1, ELMAN_WEIGHT_KERNEL) == std::vector<float>(units * 2, 1.0f));
    EXPECT(failure([&] { network.get_weight(1, ELMAN_WEIGHT_BIAS); }) == ELMAN_STATUS_INVALID_ARGUMENT);
    const std::vector<float> x = waves(batch * steps * features), target = waves(batch * 2);
    elman_trainer_config config = elman::trainer_config();
    config.optimizer = ELMAN_OPTIMIZER_ADAMW;
    elman::trainer whole(network, config), halves(other, config);
    std::vector<float> gradients(network.parameter_count());
    for (int i = 0; i < 3; i++) {
        const float loss = whole.step(elman::examples(x, batch, steps, target)).loss;
        EXPECT(halves.backward(x, batch, steps, target, gradients) == loss);
        EXPECT((other.get_parameters() == network.get_parameters()) == false);
        halves.apply(gradients);
        EXPECT(other.get_parameters() == network.get_parameters());
    }
    EXPECT(whole.steps() == 3 && halves.steps() == 3);
    EXPECT(whole.learning_rate() == 0.001f);
    whole.set_learning_rate(0.5f);
    EXPECT(whole.learning_rate() == 0.5f);
    whole.set_learning_rate(ELMAN_LEARNING_RATE_DEFAULT);
    EXPECT(whole.learning_rate() == 0.001f);
    EXPECT(failure([&] { whole.set_learning_rate(-0.5f); }) == ELMAN_STATUS_INVALID_ARGUMENT);
    whole.set_weight_decay(0, ELMAN_WEIGHT_BIAS, false);
    whole.set_trainable(0, false);
    const std::vector<float> kernel = network.get_weight(0, ELMAN_WEIGHT_KERNEL);
    const std::vector<float> top = network.get_weight(1, ELMAN_WEIGHT_KERNEL);
    whole.step(x, batch, steps, target);
    EXPECT(network.get_weight(0, ELMAN_WEIGHT_KERNEL) == kernel && network.get_weight(1, ELMAN_WEIGHT_KERNEL) != top);

    elman::sequential words(1);
    elman_embedding_config embedding = elman::embedding_config(9, 2);
    embedding.mask_zero = 1;
    embedding.embeddings_initializer.kind = ELMAN_INITIALIZER_ONES;
    words.add_embedding(embedding).add_simple_rnn(elman::simple_rnn_config(units)).build(1);
    EXPECT(words.get_weight(0, ELMAN_WEIGHT_EMBEDDING) == std::vector<float>(18, 1.0f));
    elman::trainer of_words(words, config);
    const std::array<std::int32_t, 4> ids{1, 2, 0, 5};
    const std::vector<float> wanted(units, 0.5f);
    std::vector<float> of_ids(words.parameter_count());
    const float loss = of_words.evaluate(elman::examples_tokens(ids, 1, ids.size(), wanted)).loss;
    EXPECT(of_words.backward_tokens(ids, 1, ids.size(), wanted, of_ids) == loss);
}

void fits() {
    elman::sequential network = plain_dense();
    elman::trainer trainer(network, elman::trainer_config());
    const std::vector<float> x = waves(batch * steps * features), target = waves(batch * 2);
    const elman_examples rows = elman::examples(x, batch, steps, target);
    elman_fit_config config = elman::fit_config();
    config.epochs = 3;
    config.batch_size = 1;
    config.validation = &rows;
    EXPECT(trainer.fit(rows, config) == 3 && trainer.steps() == 3 * batch);
    std::size_t batches = 0;
    const auto on_batch = [&](const elman_batch_end &end) {
        batches++;
        return end.batches == batch && end.loss >= 0;
    };
    // The trainer and its network may be used in between.
    const auto on_epoch = [&](const elman_epoch_end &end) {
        EXPECT(trainer.evaluate(rows).loss == end.validation_loss);
        trainer.set_learning_rate(trainer.learning_rate() / 2);
        return end.epoch < 1;
    };
    EXPECT(trainer.fit(rows, config, on_batch, on_epoch) == 2 && batches == 2 * batch);
    EXPECT(trainer.learning_rate() == 0.00025f);
    const auto fails = [&](const elman_batch_end &) -> bool { throw 7; };
    int caught = 0;
    try {
        trainer.fit(rows, config, fails, on_epoch);
    } catch (int thrown) {
        caught = thrown;
    }
    EXPECT(caught == 7 && trainer.steps() == 5 * batch + 1);
}

void dropped() {
    elman::sequential network = floats();
    const std::vector<float> x = waves(batch * steps * features), before = network.predict(x, batch, steps);
    const elman::sequential::bytes whole = network.weight_bytes();
    EXPECT(whole.plain == network.parameter_count() * sizeof(float) && whole.packed > 0);
    network.drop_weights();
    EXPECT(network.weight_bytes().plain == 0 && network.weight_bytes().packed == whole.packed);
    EXPECT(network.predict(x, batch, steps) == before);
    EXPECT(failure([&] { network.get_parameters(); }) == ELMAN_STATUS_UNSUPPORTED);
}

void states() {
    elman_simple_rnn_config rnn = elman::simple_rnn_config(units);
    rnn.stateful = 1;
    elman::sequential network(features), other(features);
    network.add_simple_rnn(rnn).build(3);
    other.add_simple_rnn(rnn).build(3);
    EXPECT(network.get_states().batch == 0 && network.get_states().values.empty());
    const std::vector<float> x = waves(batch * steps * features);
    const std::vector<float> last = network.predict(x, batch, steps);
    const elman::sequential::kept_states kept = network.get_states();
    EXPECT(kept.batch == batch && kept.values == last);
    other.set_states(kept.batch, kept.values);
    EXPECT(other.predict(x, batch, steps) == network.predict(x, batch, steps));
    EXPECT(failure([&] { other.set_states(batch + 1, last); }) == ELMAN_STATUS_LENGTH_MISMATCH);
    other.reset_states();
    EXPECT(other.get_states().batch == 0 && other.predict(x, batch, steps) == last);
}

}  // namespace

int main(int, char **arguments) {
    tapes();
    trainers(arguments[1]);
    halves_and_changes();
    fits();
    dropped();
    states();
    std::puts("everything is as it should be");
}
