// Times oneDNN's vanilla RNN, LSTM or linear-before-reset GRU in a process of its own, as compare.py asks for it:
//
//   onednn DATA RESULT SimpleRNN|LSTM|GRU BATCH STEPS FEATURES UNITS LAYERS forward|state|training
//
// DATA holds, as float32, each layer's kernel, recurrent kernel and bias in Keras's layout, the input with
// the batch first, and [batch, units] values: with `state` the first state (of one layer of SimpleRNN), with
// `training` the loss's gradient by the last state. To RESULT go the last states, or the gradients in the order
// of DATA: of the weights, of the input. A line "ready" with oneDNN's version follows on standard output. Then
// every line on standard input is a number of seconds: calls follow each other for so long, and the median
// nanoseconds of a call are answered.
//
// oneDNN gets what it likes best: weights in the layout that it asks for, reordered before the clock starts;
// input and output with time first; a single primitive for all layers where it can have one (all widths
// equal), else one a layer. Gradients stay in its layouts, too, but it adds to those of weights, so that
// clearing them is a part of a call. It computes in float32, with as many threads as OMP_NUM_THREADS says. Its
// gates stand in Keras's order. GRU has one bias of z and r, and two of the candidate.
#include <dnnl.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using Floats = std::vector<float>;

struct Case {
    enum class Cell { simple_rnn, lstm, gru } cell;
    std::size_t batch, steps, features, units, layers;
    bool with_state, training;

    std::size_t gates() const { return cell == Cell::lstm ? 4 : cell == Cell::gru ? 3 : 1; }
    /// oneDNN's rows of biases.
    std::size_t biases() const { return cell == Cell::gru ? 4 : gates(); }
    std::size_t width(std::size_t layer) const { return layer == 0 ? features : units; }
};

/// Keras's two rows of three biases as oneDNN's four; those of z and r are only ever added to each other.
Floats four_biases(const Floats &two_rows, std::size_t units)
{
    Floats four(two_rows.begin(), two_rows.begin() + 3 * std::ptrdiff_t(units));
    const float *recurrent = &two_rows[3 * units];
    for (std::size_t i = 0; i < 2 * units; i++) four[i] += recurrent[i];
    four.insert(four.end(), recurrent + 2 * units, recurrent + 3 * units);
    return four;
}

/// The gradients of four biases as those of Keras's two rows of three.
void append_two_rows(Floats &to, const float *four, std::size_t units)
{
    to.insert(to.end(), four, four + 3 * units);
    to.insert(to.end(), four, four + 2 * units);
    to.insert(to.end(), four + 3 * units, four + 4 * units);
}

/// Weights in Keras's layout, but for GRU's biases, an input with the batch first, and the first state or the last
/// one's gradient.
struct Data {
    struct Layer {
        Floats kernel, recurrent_kernel, bias;
    };
    std::vector<Layer> layers;
    Floats x, given;

    Data(const Case &shape, const char *path)
    {
        std::ifstream file(path, std::ios::binary);
        const auto read = [&file](std::size_t count) {
            Floats values(count);
            file.read(reinterpret_cast<char *>(values.data()), std::streamsize(count * sizeof(float)));
            return values;
        };
        const std::size_t units = shape.units, columns = shape.gates() * units;
        for (std::size_t layer = 0; layer < shape.layers; layer++) {
            Floats kernel = read(shape.width(layer) * columns), recurrent_kernel = read(units * columns);
            Floats bias = shape.cell == Case::Cell::gru ? four_biases(read(2 * columns), units) : read(columns);
            layers.push_back({std::move(kernel), std::move(recurrent_kernel), std::move(bias)});
        }
        x = read(shape.batch * shape.steps * shape.features);
        given = read(shape.batch * units);
        if (!file) {
            std::fprintf(stderr, "%s does not hold what these sizes need\n", path);
            std::exit(1);
        }
    }
};

/// Makes a primitive's description, which version 2 does in two steps.
template <typename Primitive, typename... Arguments>
typename Primitive::primitive_desc describe(const dnnl::engine &engine, const Arguments &...arguments)
{
#if DNNL_VERSION_MAJOR >= 3
    return {engine, arguments...};
#else
    return {typename Primitive::desc(arguments...), engine};
#endif
}

template <typename Primitive, typename Hint, typename... Arguments>
typename Primitive::primitive_desc describe_after(const Hint &hint, const dnnl::engine &engine,
                                                  const Arguments &...arguments)
{
#if DNNL_VERSION_MAJOR >= 3
    return {engine, arguments..., hint};
#else
    return {typename Primitive::desc(arguments...), engine, hint};
#endif
}

using Arguments = std::unordered_map<int, dnnl::memory>;

/// Layouts of some layers as they are given and taken.
struct Plain {
    dnnl::memory::desc kernels, recurrent_kernels, biases, states, source, destination;

    Plain(const Case &shape, std::size_t first, std::size_t count)
    {
        using tag = dnnl::memory::format_tag;
        const auto f32 = dnnl::memory::data_type::f32;
        const auto dim = [](std::size_t size) { return dnnl::memory::dim(size); };
        const auto n = dim(count), width = dim(shape.width(first)), units = dim(shape.units);
        const auto batch = dim(shape.batch), steps = dim(shape.steps), gates = dim(shape.gates());
        kernels = {{n, 1, width, gates, units}, f32, tag::ldigo};
        recurrent_kernels = {{n, 1, units, gates, units}, f32, tag::ldigo};
        biases = {{n, 1, dim(shape.biases()), units}, f32, tag::ldgo};
        states = {{n, 1, batch, units}, f32, tag::ldnc};
        source = {{steps, batch, width}, f32, tag::tnc};
        destination = {{steps, batch, units}, f32, tag::tnc};
    }
};

/// The same sizes, in the layout that oneDNN likes best.
dnnl::memory::desc any(const dnnl::memory::desc &plain)
{
#if DNNL_VERSION_MAJOR >= 3
    const auto sizes = plain.get_dims();
#else
    const auto sizes = plain.dims();
#endif
    return {sizes, dnnl::memory::data_type::f32, dnnl::memory::format_tag::any};
}

dnnl::memory reordered(const dnnl::memory::desc &wanted, dnnl::memory from, dnnl::stream &stream)
{
    dnnl::memory to(wanted, from.get_engine());
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
    return to;
}

void clear(const dnnl::memory &memory)
{
    std::memset(memory.get_data_handle(), 0, memory.get_desc().get_size());
}

dnnl::memory zeros(const dnnl::memory::desc &description, const dnnl::engine &engine)
{
    dnnl::memory memory(description, engine);
    clear(memory);
    return memory;
}

/// The primitives of some layers, and the layouts that they want.
struct Described {
    dnnl::primitive forward, backward;
    dnnl::memory::desc kernels, recurrent_kernels, workspace;
    dnnl::memory::desc back_kernels, back_recurrent_kernels, kernel_gradients, recurrent_kernel_gradients;
};

/// `leading` is what stands between the kind and the layouts; `cell_state` holds the layout of c of an LSTM. Both are
/// tuples.
template <typename Forward, typename Backward, typename Leading, typename CellState>
Described describe_cell(const Plain &plain, const dnnl::engine &engine, bool training, bool starts,
                        const Leading &leading, const CellState &cell_state)
{
    using desc = dnnl::memory::desc;
    const auto or_none = [starts](const auto &...states) { return std::make_tuple((starts ? states : desc())...); };
    const auto layouts = std::tuple_cat(
        std::make_tuple(plain.source), or_none(plain.states), std::apply(or_none, cell_state),
        std::make_tuple(any(plain.kernels), any(plain.recurrent_kernels), plain.biases),
        std::make_tuple(plain.destination, plain.states), cell_state);
    const auto kind = training ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
    const auto forward = std::apply(
        [&](const auto &...arguments) { return describe<Forward>(engine, kind, arguments...); },
        std::tuple_cat(leading, layouts));
    Described described;
    described.forward = Forward(forward);
    described.kernels = forward.weights_layer_desc();
    described.recurrent_kernels = forward.weights_iter_desc();
    if (!training) return described;

    const auto backward = std::apply(
        [&](const auto &...arguments) {
            return describe_after<Backward>(forward, engine, dnnl::prop_kind::backward, arguments...);
        },
        std::tuple_cat(leading, layouts, layouts));
    described.backward = Backward(backward);
    described.workspace = forward.workspace_desc();
    described.back_kernels = backward.weights_layer_desc();
    described.back_recurrent_kernels = backward.weights_iter_desc();
    described.kernel_gradients = backward.diff_weights_layer_desc();
    described.recurrent_kernel_gradients = backward.diff_weights_iter_desc();
    return described;
}

Described describe_layers(const Case &shape, const Plain &plain, const dnnl::engine &engine, bool starts)
{
    const auto direction = std::make_tuple(dnnl::rnn_direction::unidirectional_left2right);
    switch (shape.cell) {
    case Case::Cell::lstm:
        return describe_cell<dnnl::lstm_forward, dnnl::lstm_backward>(
            plain, engine, shape.training, starts, direction, std::make_tuple(plain.states));
    case Case::Cell::gru:
        return describe_cell<dnnl::lbr_gru_forward, dnnl::lbr_gru_backward>(
            plain, engine, shape.training, starts, direction, std::tuple<>());
    default:
        const auto leading = std::tuple_cat(std::make_tuple(dnnl::algorithm::eltwise_tanh), direction);
        return describe_cell<dnnl::vanilla_rnn_forward, dnnl::vanilla_rnn_backward>(
            plain, engine, shape.training, starts, leading, std::tuple<>());
    }
}

/// One primitive over `count` layers of one input width; one more for the way back.
class OneDnnLayers {
public:
    OneDnnLayers(const Case &shape, const Data &data, std::size_t first, std::size_t count, const dnnl::engine &engine,
                 dnnl::stream &stream, dnnl::memory source)
        : plain_(shape, first, count)
    {
        Floats kernels, recurrent_kernels, biases;
        for (std::size_t layer = first; layer < first + count; layer++) {
            const auto append = [](Floats &to, const Floats &from) { to.insert(to.end(), from.begin(), from.end()); };
            append(kernels, data.layers[layer].kernel);
            append(recurrent_kernels, data.layers[layer].recurrent_kernel);
            append(biases, data.layers[layer].bias);
        }
        const auto placed = [&](const dnnl::memory::desc &wanted, const dnnl::memory::desc &plain, Floats &values) {
            return reordered(wanted, dnnl::memory(plain, engine, values.data()), stream);
        };
        // Without a first state, oneDNN 3.2 gives a wrong gradient of the recurrent kernel: then there is one
        // of zeros.
        const bool starts = shape.with_state || shape.training;
        const Described described = describe_layers(shape, plain_, engine, starts);
        forward_ = described.forward;
        destination = dnnl::memory(plain_.destination, engine);
        last_state = dnnl::memory(plain_.states, engine);
        there_ = {
            {DNNL_ARG_SRC_LAYER, source},
            {DNNL_ARG_WEIGHTS_LAYER, placed(described.kernels, plain_.kernels, kernels)},
            {DNNL_ARG_WEIGHTS_ITER, placed(described.recurrent_kernels, plain_.recurrent_kernels, recurrent_kernels)},
            {DNNL_ARG_BIAS, placed(plain_.biases, plain_.biases, biases)},
            {DNNL_ARG_DST_LAYER, destination},
            {DNNL_ARG_DST_ITER, last_state},
        };
        const bool has_cell_state = shape.cell == Case::Cell::lstm;
        if (has_cell_state) there_.insert({DNNL_ARG_DST_ITER_C, dnnl::memory(plain_.states, engine)});
        if (shape.with_state) {
            Floats h = data.given;
            there_.insert({DNNL_ARG_SRC_ITER, placed(plain_.states, plain_.states, h)});
        }
        if (!shape.training) return;

        there_.insert({DNNL_ARG_SRC_ITER, zeros(plain_.states, engine)});
        if (has_cell_state) there_.insert({DNNL_ARG_SRC_ITER_C, zeros(plain_.states, engine)});
        backward_ = described.backward;
        there_.insert({DNNL_ARG_WORKSPACE, dnnl::memory(described.workspace, engine)});
        back_ = there_;
        back_[DNNL_ARG_WEIGHTS_LAYER] = placed(described.back_kernels, plain_.kernels, kernels);
        back_[DNNL_ARG_WEIGHTS_ITER]
            = placed(described.back_recurrent_kernels, plain_.recurrent_kernels, recurrent_kernels);
        back_[DNNL_ARG_DIFF_WEIGHTS_LAYER] = dnnl::memory(described.kernel_gradients, engine);
        back_[DNNL_ARG_DIFF_WEIGHTS_ITER] = dnnl::memory(described.recurrent_kernel_gradients, engine);
        back_[DNNL_ARG_DIFF_BIAS] = dnnl::memory(plain_.biases, engine);
        back_[DNNL_ARG_DIFF_SRC_ITER] = dnnl::memory(plain_.states, engine);
        back_[DNNL_ARG_DIFF_SRC_LAYER] = dnnl::memory(plain_.source, engine);
        // Where nobody says otherwise, the loss knows the sequence and the last states not.
        back_[DNNL_ARG_DIFF_DST_LAYER] = zeros(plain_.destination, engine);
        back_[DNNL_ARG_DIFF_DST_ITER] = zeros(plain_.states, engine);
        if (!has_cell_state) return;
        back_[DNNL_ARG_DIFF_SRC_ITER_C] = dnnl::memory(plain_.states, engine);
        back_[DNNL_ARG_DIFF_DST_ITER_C] = zeros(plain_.states, engine);
    }

    void run(dnnl::stream &stream) const { forward_.execute(stream, there_); }

    void run_back(dnnl::stream &stream) const
    {
        for (const int weights : {DNNL_ARG_DIFF_WEIGHTS_LAYER, DNNL_ARG_DIFF_WEIGHTS_ITER, DNNL_ARG_DIFF_BIAS})
            clear(back_.at(weights));
        backward_.execute(stream, back_);
    }

    /// The gradient by the sequence comes from the layers above.
    void take_from(const OneDnnLayers &above)
    {
        back_[DNNL_ARG_DIFF_DST_LAYER] = above.back_.at(DNNL_ARG_DIFF_SRC_LAYER);
    }

    /// The last layer's states.
    float *last_layer(const dnnl::memory &states) const
    {
        const std::size_t all = plain_.states.get_size() / sizeof(float);
        return static_cast<float *>(states.get_data_handle()) + all - all / layers();
    }

    /// The loss's gradient by the last layer's last states.
    void set_gradient(const Floats &values)
    {
        std::copy(values.begin(), values.end(), last_layer(back_[DNNL_ARG_DIFF_DST_ITER]));
    }

    /// Each layer's gradients as the weights are laid out.
    void append_gradients(Floats &to, const Case &shape, dnnl::stream &stream) const
    {
        const std::pair<int, dnnl::memory::desc> wanted[] = {{DNNL_ARG_DIFF_WEIGHTS_LAYER, plain_.kernels},
                                                             {DNNL_ARG_DIFF_WEIGHTS_ITER, plain_.recurrent_kernels},
                                                             {DNNL_ARG_DIFF_BIAS, plain_.biases}};
        std::vector<dnnl::memory> all;
        for (const auto &[name, plain] : wanted) all.push_back(reordered(plain, back_.at(name), stream));
        for (std::size_t layer = 0; layer < layers(); layer++)
            for (const auto &memory : all) {
                const std::size_t size = memory.get_desc().get_size() / sizeof(float) / layers();
                const float *values = static_cast<const float *>(memory.get_data_handle()) + layer * size;
                if (shape.cell == Case::Cell::gru && &memory == &all.back())
                    append_two_rows(to, values, shape.units);
                else
                    to.insert(to.end(), values, values + size);
            }
    }

    const float *source_gradient() const
    {
        return static_cast<const float *>(back_.at(DNNL_ARG_DIFF_SRC_LAYER).get_data_handle());
    }

    dnnl::memory destination, last_state;

private:
    std::size_t layers() const
    {
#if DNNL_VERSION_MAJOR >= 3
        return std::size_t(plain_.states.get_dims()[0]);
#else
        return std::size_t(plain_.states.dims()[0]);
#endif
    }

    Plain plain_;
    dnnl::primitive forward_, backward_;
    Arguments there_, back_;
};

/// All layers of a case.
class OneDnn {
public:
    OneDnn(const Case &shape, const Data &data)
        : shape_(shape), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_)
    {
        dnnl::memory source(Plain(shape, 0, 1).source, engine_);
        auto *x = static_cast<float *>(source.get_data_handle());
        for (std::size_t step = 0; step < shape.steps; step++)
            for (std::size_t row = 0; row < shape.batch; row++)
                x = std::copy_n(&data.x[(row * shape.steps + step) * shape.features], shape.features, x);
        const std::size_t together = shape.features == shape.units ? shape.layers : 1;
        for (std::size_t layer = 0; layer < shape.layers; layer += together) {
            stack_.emplace_back(shape, data, layer, together, engine_, stream_, source);
            source = stack_.back().destination;
        }
        if (!shape.training) return;
        stack_.back().set_gradient(data.given);
        for (std::size_t i = stack_.size() - 1; i > 0; i--) stack_[i - 1].take_from(stack_[i]);
    }

    void run()
    {
        for (const auto &layers : stack_) layers.run(stream_);
        if (shape_.training)
            for (auto layers = stack_.rbegin(); layers != stack_.rend(); ++layers) layers->run_back(stream_);
        stream_.wait();
    }

    /// The last layer's last states, or the gradients.
    Floats output()
    {
        if (!shape_.training) {
            const float *states = stack_.back().last_layer(stack_.back().last_state);
            return Floats(states, states + shape_.batch * shape_.units);
        }
        Floats gradients;
        for (const auto &layers : stack_) layers.append_gradients(gradients, shape_, stream_);
        const float *dx = stack_.front().source_gradient();
        for (std::size_t row = 0; row < shape_.batch; row++)
            for (std::size_t step = 0; step < shape_.steps; step++) {
                const float *values = dx + (step * shape_.batch + row) * shape_.features;
                gradients.insert(gradients.end(), values, values + shape_.features);
            }
        return gradients;
    }

private:
    Case shape_;
    dnnl::engine engine_;
    dnnl::stream stream_;
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
    const double once = seconds_now() - begun;
    if (once >= turn) return once;
    // Calls that are timed together, so that the clock's own cost does not show.
    const int together = std::max(1, int(2e-5 / once));
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
    if (count != 10) {
        std::fprintf(stderr, "usage: onednn DATA RESULT SimpleRNN|LSTM|GRU BATCH STEPS FEATURES UNITS LAYERS "
                             "forward|state|training\n");
        return 2;
    }
    const auto size = [arguments](int at) { return std::size_t(std::strtoull(arguments[at], nullptr, 10)); };
    const std::string cell = arguments[3], what = arguments[9];
    const Case shape = {cell == "LSTM"  ? Case::Cell::lstm
                        : cell == "GRU" ? Case::Cell::gru
                                        : Case::Cell::simple_rnn,
                        size(4), size(5), size(6), size(7), size(8), what == "state", what == "training"};
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
