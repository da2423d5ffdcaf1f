// Times elman beside oneDNN's vanilla RNN: same weights, same input, one process, in turn; prints a markdown table.
//
//   onednn [--rounds N] [--turn SECONDS] [--threads 1,2] [CASE...]       (cases: seed b1small mid wide b1wide step)
//
// oneDNN gets what it likes best: weights in the layout that it asks for, reordered before the clock starts; input and output with
// time first; a single primitive for all layers where it can have one (all widths equal), else one a layer. Both
// compute in float32. A round gives each of the two a short while of calls and takes the median; the table has the medians over
// the rounds. The outputs must agree to 1e-4.
#include <dnnl.hpp>
#include <elman.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace {

using Floats = std::vector<float>;

struct Case {
    const char *name;
    std::size_t batch, steps, features, units, layers;

    std::size_t width(std::size_t layer) const { return layer == 0 ? features : units; }
    double flops() const
    {
        return 2.0 * double(batch) * double(steps) * double(units) * double(features + (2 * layers - 1) * units);
    }
};

const Case cases[] = {
    {"seed", 8, 80, 100, 64, 2},        {"b1small", 1, 256, 64, 64, 1},    {"mid", 32, 100, 256, 256, 2},
    {"wide", 64, 128, 1024, 1024, 1},   {"b1wide", 1, 256, 1024, 1024, 1}, {"step", 1, 1, 64, 64, 1},
};

/// Weights in Keras's layout, and an input with the batch first.
struct Data {
    struct Layer {
        Floats kernel, recurrent_kernel, bias;
    };
    std::vector<Layer> layers;
    Floats x, h;

    explicit Data(const Case &shape)
    {
        std::mt19937_64 random(0);
        const auto fill = [&random](std::size_t count, double bound) {
            std::uniform_real_distribution<float> spread(float(-bound), float(bound));
            Floats values(count);
            for (float &value : values) value = spread(random);
            return values;
        };
        const double units = double(shape.units);
        for (std::size_t layer = 0; layer < shape.layers; layer++) {
            const std::size_t width = shape.width(layer);
            // The variance of an orthogonal matrix, so that states neither die nor stick to +-1.
            layers.push_back({fill(width * shape.units, std::sqrt(6.0 / (double(width) + units))),
                              fill(shape.units * shape.units, std::sqrt(3.0 / units)), fill(shape.units, 0.1)});
        }
        x = fill(shape.batch * shape.steps * shape.features, 1.7);
        h = fill(shape.batch * shape.units, 1.0);
    }
};

void check(elman_status status)
{
    if (status == ELMAN_STATUS_OK) return;
    std::fprintf(stderr, "elman: %s: %s\n", elman_status_name(status), elman_last_error());
    std::exit(1);
}

/// What is timed: run() fills the last states [batch, units].
struct Engine {
    std::function<void()> run;
    std::function<Floats()> output;
};

Engine make_elman_step(const Case &shape, const Data &data)
{
    elman_simple_rnn_config config;
    elman_simple_rnn_cell *cell = nullptr;
    check(elman_simple_rnn_config_init(&config, sizeof config, shape.units));
    check(elman_simple_rnn_cell_new(&config, shape.features, 1, &cell));
    const auto &layer = data.layers[0];
    check(elman_simple_rnn_cell_set_weight(cell, ELMAN_WEIGHT_KERNEL, layer.kernel.data(), layer.kernel.size()));
    check(elman_simple_rnn_cell_set_weight(cell, ELMAN_WEIGHT_RECURRENT_KERNEL, layer.recurrent_kernel.data(),
                                           layer.recurrent_kernel.size()));
    check(elman_simple_rnn_cell_set_weight(cell, ELMAN_WEIGHT_BIAS, layer.bias.data(), layer.bias.size()));
    const std::shared_ptr<elman_simple_rnn_cell> owner(cell, elman_simple_rnn_cell_free);
    const auto y = std::make_shared<Floats>(shape.batch * shape.units);
    return {[=, &data] {
                check(elman_simple_rnn_cell_step(owner.get(), data.x.data(), data.x.size(), data.h.data(),
                                                 data.h.size(), shape.batch, y->data(), y->size()));
            },
            [y] { return *y; }};
}

Engine make_elman(const Case &shape, const Data &data, int threads)
{
    if (std::strcmp(shape.name, "step") == 0) return make_elman_step(shape, data);
    elman_sequential *made = nullptr;
    check(elman_sequential_new(shape.features, &made));
    const std::shared_ptr<elman_sequential> network(made, elman_sequential_free);
    for (std::size_t layer = 0; layer < shape.layers; layer++) {
        elman_simple_rnn_config config;
        check(elman_simple_rnn_config_init(&config, sizeof config, shape.units));
        config.return_sequences = layer + 1 < shape.layers;
        // The weights are set below: none that cost time to make.
        config.recurrent_initializer.kind = ELMAN_INITIALIZER_ZEROS;
        check(elman_sequential_add_simple_rnn(made, &config));
    }
    check(elman_sequential_build(made, 1));
    for (std::size_t i = 0; i < shape.layers; i++) {
        const auto &layer = data.layers[i];
        check(elman_sequential_set_weight(made, i, ELMAN_WEIGHT_KERNEL, layer.kernel.data(), layer.kernel.size()));
        check(elman_sequential_set_weight(made, i, ELMAN_WEIGHT_RECURRENT_KERNEL, layer.recurrent_kernel.data(),
                                          layer.recurrent_kernel.size()));
        check(elman_sequential_set_weight(made, i, ELMAN_WEIGHT_BIAS, layer.bias.data(), layer.bias.size()));
    }
    check(elman_sequential_set_threads(made, std::size_t(threads)));
    const auto y = std::make_shared<Floats>(shape.batch * shape.units);
    return {[=, &data] {
                check(elman_sequential_predict(network.get(), data.x.data(), data.x.size(), shape.batch, shape.steps,
                                               y->data(), y->size()));
            },
            [y] { return *y; }};
}

/// One primitive over `count` layers of one input width.
class OneDnnLayers {
public:
    OneDnnLayers(const Case &shape, const Data &data, std::size_t first, std::size_t count, const dnnl::engine &engine,
                 dnnl::stream &stream, dnnl::memory source)
    {
        using dnnl::memory;
        using tag = memory::format_tag;
        const auto f32 = memory::data_type::f32;
        const auto dim = [](std::size_t size) { return memory::dim(size); };
        const auto n = dim(count), width = dim(shape.width(first)), units = dim(shape.units);
        const auto batch = dim(shape.batch), steps = dim(shape.steps);
        const bool with_state = std::strcmp(shape.name, "step") == 0;

        const memory::desc any_kernel({n, 1, width, 1, units}, f32, tag::any);
        const memory::desc any_recurrent({n, 1, units, 1, units}, f32, tag::any);
        const memory::desc bias({n, 1, 1, units}, f32, tag::ldgo);
        const memory::desc state({n, 1, batch, units}, f32, tag::ldnc);
        const memory::desc src({steps, batch, width}, f32, tag::tnc);
        const memory::desc dst({steps, batch, units}, f32, tag::tnc);
        const memory::desc first_state = with_state ? state : memory::desc();
        const auto kind = dnnl::prop_kind::forward_inference;
        const auto tanh = dnnl::algorithm::eltwise_tanh;
        const auto direction = dnnl::rnn_direction::unidirectional_left2right;
#if DNNL_VERSION_MAJOR >= 3
        const dnnl::vanilla_rnn_forward::primitive_desc description(engine, kind, tanh, direction, src, first_state,
                                                                    any_kernel, any_recurrent, bias, dst, state);
#else
        const dnnl::vanilla_rnn_forward::primitive_desc description(
            dnnl::vanilla_rnn_forward::desc(kind, tanh, direction, src, first_state, any_kernel, any_recurrent, bias,
                                            dst, state),
            engine);
#endif
        primitive_ = dnnl::vanilla_rnn_forward(description);

        Floats kernels, recurrent_kernels, biases;
        for (std::size_t layer = first; layer < first + count; layer++) {
            const auto append = [](Floats &to, const Floats &from) { to.insert(to.end(), from.begin(), from.end()); };
            append(kernels, data.layers[layer].kernel);
            append(recurrent_kernels, data.layers[layer].recurrent_kernel);
            append(biases, data.layers[layer].bias);
        }
        const auto placed = [&](const memory::desc &wanted, const memory::desc &plain, Floats &values) {
            memory from(plain, engine, values.data());
            memory to(wanted, engine);
            dnnl::reorder(from, to).execute(stream, from, to);
            stream.wait();
            return to;
        };
        destination = memory(dst, engine);
        last_state = memory(state, engine);
        arguments_ = {
            {DNNL_ARG_SRC_LAYER, source},
            {DNNL_ARG_WEIGHTS_LAYER,
             placed(description.weights_layer_desc(), {{n, 1, width, 1, units}, f32, tag::ldigo}, kernels)},
            {DNNL_ARG_WEIGHTS_ITER,
             placed(description.weights_iter_desc(), {{n, 1, units, 1, units}, f32, tag::ldigo}, recurrent_kernels)},
            {DNNL_ARG_BIAS, placed(bias, bias, biases)},
            {DNNL_ARG_DST_LAYER, destination},
            {DNNL_ARG_DST_ITER, last_state},
        };
        if (with_state) {
            Floats h = data.h;
            arguments_.insert({DNNL_ARG_SRC_ITER, placed(state, state, h)});
        }
    }

    void run(dnnl::stream &stream) const { primitive_.execute(stream, arguments_); }

    dnnl::memory destination, last_state;

private:
    dnnl::primitive primitive_;
    std::unordered_map<int, dnnl::memory> arguments_;
};

Engine make_onednn(const Case &shape, const Data &data)
{
    using dnnl::memory;
    const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    const auto stream = std::make_shared<dnnl::stream>(engine);
    memory source({{memory::dim(shape.steps), memory::dim(shape.batch), memory::dim(shape.features)},
                   memory::data_type::f32,
                   memory::format_tag::tnc},
                  engine);
    auto *x = static_cast<float *>(source.get_data_handle());
    for (std::size_t step = 0; step < shape.steps; step++)
        for (std::size_t row = 0; row < shape.batch; row++)
            x = std::copy_n(&data.x[(row * shape.steps + step) * shape.features], shape.features, x);

    const auto stack = std::make_shared<std::vector<OneDnnLayers>>();
    const std::size_t together = shape.features == shape.units ? shape.layers : 1;
    for (std::size_t layer = 0; layer < shape.layers; layer += together) {
        stack->emplace_back(shape, data, layer, together, engine, *stream, source);
        source = stack->back().destination;
    }
    return {[=] {
                for (const auto &layers : *stack) layers.run(*stream);
                stream->wait();
            },
            [=] {
                const std::size_t count = shape.batch * shape.units;
                const auto *states = static_cast<const float *>(stack->back().last_state.get_data_handle());
                states += (together - 1) * count;
                return Floats(states, states + count);
            }};
}

double seconds_now()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values)
{
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

/// The median seconds of a call.
double time_turn(const Engine &engine, double turn)
{
    // What the other one left spinning has time to fall asleep.
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    double begun = seconds_now();
    engine.run();
    // Calls that are timed together, so that the clock's own cost does not show.
    const int together = std::max(1, int(2e-5 / (seconds_now() - begun)));
    std::vector<double> times;
    const double end = seconds_now() + turn;
    begun = seconds_now();
    do {
        for (int call = 0; call < together; call++) engine.run();
        const double now = seconds_now();
        times.push_back((now - begun) / together);
        begun = now;
    } while (begun < end || times.size() < 3);
    return median(times);
}

}  // namespace

int main(int count, char **arguments)
{
    int rounds = 9;
    double turn = 0.15;
    std::vector<int> threads = {1, 2};
    std::vector<std::string> chosen;
    for (int i = 1; i < count; i++) {
        const std::string argument = arguments[i];
        const char *value = i + 1 < count ? arguments[i + 1] : "";
        if (argument == "--rounds") {
            rounds = std::max(1, std::atoi(value)), i++;
        } else if (argument == "--turn") {
            turn = std::atof(value), i++;
        } else if (argument == "--threads") {
            threads.clear();
            for (const char *at = value; *at != '\0'; at += *at == ',') {
                char *end = nullptr;
                threads.push_back(int(std::strtol(at, &end, 10)));
                if (end == at || threads.back() < 1) {
                    std::fprintf(stderr, "not a list of threads: %s\n", value);
                    return 2;
                }
                at = end;
            }
            i++;
        } else if (std::any_of(std::begin(cases), std::end(cases), [&](const Case &c) { return argument == c.name; })) {
            chosen.push_back(argument);
        } else {
            std::fprintf(stderr, "unknown: %s; see the top of onednn.cpp\n", argument.c_str());
            return 2;
        }
    }

    const dnnl_version_t *version = dnnl_version();
    std::printf("elman %s (%s) beside oneDNN %d.%d.%d; medians; ratio: oneDNN's time to elman's\n\n", elman_version(),
                elman_isa(), version->major, version->minor, version->patch);
    std::printf("| case: batch, steps, features, units, layers | threads | elman | GF/s | oneDNN | ratio | largest "
                "difference |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    float worst = 0;
    for (const int with_threads : threads) {
        omp_set_num_threads(with_threads);
        for (const Case &shape : cases) {
            const bool one_step = std::strcmp(shape.name, "step") == 0;
            if (!chosen.empty() && std::find(chosen.begin(), chosen.end(), shape.name) == chosen.end()) continue;
            // A step of one row has nothing to share out.
            if (one_step && with_threads > 1) continue;
            const Data data(shape);
            const Engine own = make_elman(shape, data, with_threads), rival = make_onednn(shape, data);
            own.run(), rival.run();
            const Floats y = own.output(), theirs = rival.output();
            float difference = 0;
            for (std::size_t i = 0; i < y.size(); i++) {
                // A NaN is no agreement.
                const float here = std::abs(y[i] - theirs[i]);
                difference = here <= difference ? difference : here;
                if (std::isnan(here)) difference = INFINITY;
            }
            worst = std::max(worst, difference);
            std::vector<double> own_times, rival_times;
            for (int round = 0; round < rounds; round++) {
                own_times.push_back(time_turn(own, turn));
                rival_times.push_back(time_turn(rival, turn));
            }
            const double seconds = median(own_times), rival_seconds = median(rival_times);
            const double scale = one_step ? 1e6 : 1e3;
            const char *unit = one_step ? "us" : "ms";
            std::printf("| %s: %zu, %zu, %zu, %zu, %zu | %d | %.3g %s | %.1f | %.3g %s | **%.2f** | %.1e |\n",
                        shape.name, shape.batch, shape.steps, shape.features, shape.units, shape.layers, with_threads,
                        seconds * scale, unit, shape.flops() / seconds / 1e9, rival_seconds * scale, unit,
                        rival_seconds / seconds, double(difference));
            std::fflush(stdout);
        }
    }
    if (!(worst < 1e-4F)) {
        std::fprintf(stderr, "the outputs differ by %.1e\n", double(worst));
        return 1;
    }
    return 0;
}
