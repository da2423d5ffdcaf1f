// Times oneDNN's vanilla RNN in a process of its own, as compare.py asks for it:
//
//   onednn DATA RESULT BATCH STEPS FEATURES UNITS LAYERS forward|state|training
//
// DATA holds, as float32, each layer's kernel, recurrent kernel and bias in Keras's layout, the input with
// the batch first, and [batch, units] values: with `state` the first state (of one layer), with `training`
// the loss's gradient by the last state. To RESULT go the last states, or the gradients in the order of DATA:
// of the weights, of the input. A line "ready" with oneDNN's version follows on standard output. Then every
// line on standard input is a number of seconds: calls follow each other for so long, and the median
// nanoseconds of a call are answered.
//
// oneDNN gets what it likes best: weights in the layout that it asks for, reordered before the clock starts;
// input and output with time first; a single primitive for all layers where it can have one (all widths
// equal), else one a layer. Gradients stay in its layouts, too, but it adds to those of weights, so that
// clearing them is a part of a call. It computes in float32, with as many threads as OMP_NUM_THREADS says.
#include <dnnl.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using Floats = std::vector<float>;

struct Case {
    std::size_t batch, steps, features, units, layers;
    bool with_state, training;

    std::size_t width(std::size_t layer) const { return layer == 0 ? features : units; }
};

/// Weights in Keras's layout, an input with the batch first, and the first state or the last one's gradient.
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
        const std::size_t units = shape.units;
        for (std::size_t layer = 0; layer < shape.layers; layer++) {
            Floats kernel = read(shape.width(layer) * units), recurrent_kernel = read(units * units);
            layers.push_back({std::move(kernel), std::move(recurrent_kernel), read(units)});
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
        const auto batch = dim(shape.batch), steps = dim(shape.steps);
        kernels = {{n, 1, width, 1, units}, f32, tag::ldigo};
        recurrent_kernels = {{n, 1, units, 1, units}, f32, tag::ldigo};
        biases = {{n, 1, 1, units}, f32, tag::ldgo};
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
        const auto kind = shape.training ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
        // Without a first state, oneDNN 3.2 gives a wrong gradient of the recurrent kernel: then there is one
        // of zeros.
        const bool starts = shape.with_state || shape.training;
        const dnnl::memory::desc first_state = starts ? plain_.states : dnnl::memory::desc();
        const auto description = describe<dnnl::vanilla_rnn_forward>(
            engine, kind, tanh_, direction_, plain_.source, first_state, any(plain_.kernels),
            any(plain_.recurrent_kernels), plain_.biases, plain_.destination, plain_.states);
        forward_ = dnnl::vanilla_rnn_forward(description);
        destination = dnnl::memory(plain_.destination, engine);
        last_state = dnnl::memory(plain_.states, engine);
        there_ = {
            {DNNL_ARG_SRC_LAYER, source},
            {DNNL_ARG_WEIGHTS_LAYER, placed(description.weights_layer_desc(), plain_.kernels, kernels)},
            {DNNL_ARG_WEIGHTS_ITER,
             placed(description.weights_iter_desc(), plain_.recurrent_kernels, recurrent_kernels)},
            {DNNL_ARG_BIAS, placed(plain_.biases, plain_.biases, biases)},
            {DNNL_ARG_DST_LAYER, destination},
            {DNNL_ARG_DST_ITER, last_state},
        };
        if (shape.with_state) {
            Floats h = data.given;
            there_.insert({DNNL_ARG_SRC_ITER, placed(plain_.states, plain_.states, h)});
        }
        if (!shape.training) return;

        there_.insert({DNNL_ARG_SRC_ITER, zeros(plain_.states, engine)});
        const auto back = describe_after<dnnl::vanilla_rnn_backward>(
            description, engine, dnnl::prop_kind::backward, tanh_, direction_, plain_.source, first_state,
            any(plain_.kernels), any(plain_.recurrent_kernels), plain_.biases, plain_.destination, plain_.states,
            plain_.source, first_state, any(plain_.kernels), any(plain_.recurrent_kernels), plain_.biases,
            plain_.destination, plain_.states);
        backward_ = dnnl::vanilla_rnn_backward(back);
        there_.insert({DNNL_ARG_WORKSPACE, dnnl::memory(description.workspace_desc(), engine)});
        back_ = there_;
        back_[DNNL_ARG_WEIGHTS_LAYER] = placed(back.weights_layer_desc(), plain_.kernels, kernels);
        back_[DNNL_ARG_WEIGHTS_ITER] = placed(back.weights_iter_desc(), plain_.recurrent_kernels, recurrent_kernels);
        back_[DNNL_ARG_DIFF_WEIGHTS_LAYER] = dnnl::memory(back.diff_weights_layer_desc(), engine);
        back_[DNNL_ARG_DIFF_WEIGHTS_ITER] = dnnl::memory(back.diff_weights_iter_desc(), engine);
        back_[DNNL_ARG_DIFF_BIAS] = dnnl::memory(plain_.biases, engine);
        back_[DNNL_ARG_DIFF_SRC_ITER] = dnnl::memory(plain_.states, engine);
        back_[DNNL_ARG_DIFF_SRC_LAYER] = dnnl::memory(plain_.source, engine);
        // Where nobody says otherwise, the loss knows the sequence and the last states not.
        back_[DNNL_ARG_DIFF_DST_LAYER] = zeros(plain_.destination, engine);
        back_[DNNL_ARG_DIFF_DST_ITER] = zeros(plain_.states, engine);
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
    void append_gradients(Floats &to, dnnl::stream &stream) const
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

    static constexpr auto tanh_ = dnnl::algorithm::eltwise_tanh;
    static constexpr auto direction_ = dnnl::rnn_direction::unidirectional_left2right;
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
        for (const auto &layers : stack_) layers.append_gradients(gradients, stream_);
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
        std::fprintf(stderr, "usage: onednn DATA RESULT BATCH STEPS FEATURES UNITS LAYERS forward|state|training\n");
        return 2;
    }
    const auto size = [arguments](int at) { return std::size_t(std::strtoull(arguments[at], nullptr, 10)); };
    const std::string what = arguments[8];
    const Case shape = {size(3), size(4), size(5), size(6), size(7), what == "state", what == "training"};
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
