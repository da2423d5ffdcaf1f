// Times oneDNN's vanilla RNN in a process of its own, as compare.py asks for it:
//
//   onednn DATA RESULT BATCH STEPS FEATURES UNITS LAYERS STATE
//
// DATA holds, as float32, each layer's kernel, recurrent kernel and bias in Keras's layout, the input with the batch first, and the
// first state [batch, units], which is used where STATE is 1 and there is one layer. The last states are written to RESULT, and
// a line "ready" with oneDNN's version to standard output. Then every line on standard input is a number of seconds: calls follow
// each other for so long, and the median nanoseconds of a call are answered.
//
// oneDNN gets what it likes best: weights in the layout that it asks for, reordered before the clock starts; input and output with
// time first; a single primitive for all layers where it can have one (all widths equal), else one a layer. It computes
// in float32, with as many threads as OMP_NUM_THREADS says.
#include <dnnl.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

using Floats = std::vector<float>;

struct Case {
    std::size_t batch, steps, features, units, layers;
    bool with_state;

    std::size_t width(std::size_t layer) const { return layer == 0 ? features : units; }
};

/// Weights in Keras's layout, an input with the batch first, and the first state.
struct Data {
    struct Layer {
        Floats kernel, recurrent_kernel, bias;
    };
    std::vector<Layer> layers;
    Floats x, h;

    Data(const Case &shape, const char *path)
    {
        std::ifstream file(path, std::ios::binary);
        const auto read = [&file](std::size_t count) {
            Floats values(count);
            file.read(reinterpret_cast<char *>(values.data()), std::streamsize(count * sizeof(float)));
            return values;
        };
        const std::size_t units = shape.units;
        for (std::size_t layer = 0; layer < shape.layers; layer++) {
            Floats kernel = read(shape.width(layer) * units), recurrent_kernel = read(units * units);
            layers.push_back({std::move(kernel), std::move(recurrent_kernel), read(units)});
        }
        x = read(shape.batch * shape.steps * shape.features);
        h = read(shape.batch * units);
        if (!file) {
            std::fprintf(stderr, "%s does not hold what these sizes need\n", path);
            std::exit(1);
        }
    }
};

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

        const memory::desc any_kernel({n, 1, width, 1, units}, f32, tag::any);
        const memory::desc any_recurrent({n, 1, units, 1, units}, f32, tag::any);
        const memory::desc bias({n, 1, 1, units}, f32, tag::ldgo);
        const memory::desc state({n, 1, batch, units}, f32, tag::ldnc);
        const memory::desc src({steps, batch, width}, f32, tag::tnc);
        const memory::desc dst({steps, batch, units}, f32, tag::tnc);
        const memory::desc first_state = shape.with_state ? state : memory::desc();
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
        if (shape.with_state) {
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

/// All layers of a case.
class OneDnn {
public:
    OneDnn(const Case &shape, const Data &data)
        : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_), count_(shape.batch * shape.units)
    {
        using dnnl::memory;
        memory source({{memory::dim(shape.steps), memory::dim(shape.batch), memory::dim(shape.features)},
                       memory::data_type::f32,
                       memory::format_tag::tnc},
                      engine_);
        auto *x = static_cast<float *>(source.get_data_handle());
        for (std::size_t step = 0; step < shape.steps; step++)
            for (std::size_t row = 0; row < shape.batch; row++)
                x = std::copy_n(&data.x[(row * shape.steps + step) * shape.features], shape.features, x);
        together_ = shape.features == shape.units ? shape.layers : 1;
        for (std::size_t layer = 0; layer < shape.layers; layer += together_) {
            stack_.emplace_back(shape, data, layer, together_, engine_, stream_, source);
            source = stack_.back().destination;
        }
    }

    void run()
    {
        for (const auto &layers : stack_) layers.run(stream_);
        stream_.wait();
    }

    /// The last layer's last states.
    Floats output() const
    {
        const auto *states = static_cast<const float *>(stack_.back().last_state.get_data_handle());
        states += (together_ - 1) * count_;
        return Floats(states, states + count_);
    }

private:
    dnnl::engine engine_;
    dnnl::stream stream_;
    std::size_t count_, together_ = 1;
    std::vector<OneDnnLayers> stack_;
};

double seconds_now()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// The median seconds of a call.
double time_turn(OneDnn &net, double turn)
{
    double begun = seconds_now();
    net.run();
    // Calls that are timed together, so that the clock's own cost does not show.
    const int together = std::max(1, int(2e-5 / (seconds_now() - begun)));
    std::vector<double> times;
    const double end = seconds_now() + turn;
    begun = seconds_now();
    do {
        for (int call = 0; call < together; call++) net.run();
        const double now = seconds_now();
        times.push_back((now - begun) / together);
        begun = now;
    } while (begun < end || times.size() < 3);
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

}  // namespace

int main(int count, char **arguments)
{
    if (count != 9) {
        std::fprintf(stderr, "usage: onednn DATA RESULT BATCH STEPS FEATURES UNITS LAYERS STATE\n");
        return 2;
    }
    const auto size = [arguments](int at) { return std::size_t(std::strtoull(arguments[at], nullptr, 10)); };
    const Case shape = {size(3), size(4), size(5), size(6), size(7), size(8) == 1};
    const Data data(shape, arguments[1]);
    OneDnn net(shape, data);
    net.run();
    const Floats y = net.output();
    std::ofstream result(arguments[2], std::ios::binary);
    result.write(reinterpret_cast<const char *>(y.data()), std::streamsize(y.size() * sizeof(float)));
    result.close();
    if (!result) {
        std::fprintf(stderr, "cannot write %s\n", arguments[2]);
        return 1;
    }
    const dnnl_version_t *version = dnnl_version();
    std::printf("ready %d.%d.%d\n", version->major, version->minor, version->patch);
    std::fflush(stdout);
    char line[64];
    while (std::fgets(line, sizeof line, stdin) != nullptr) {
        std::printf("%.3f\n", 1e9 * time_turn(net, std::atof(line)));
        std::fflush(stdout);
    }
    return 0;
}
