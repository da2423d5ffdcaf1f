/*
 * elman for C++17: the handles of elman.h as objects that free themselves, failures as exceptions, and arrays as views
 * that know their length. Nothing more: each function here calls its namesake in elman.h, whose documentation holds.
 */
#ifndef ELMAN_HPP
#define ELMAN_HPP

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "elman.h"

namespace elman {

/// A call that failed: its status, and the library's sentence as what().
class error : public std::runtime_error {
public:
    error(elman_status status, const char *message) : std::runtime_error(message), status_(status) {}
    elman_status status() const noexcept { return status_; }

private:
    elman_status status_;
};

/// Throws where a call of elman.h has failed.
inline void check(elman_status status) {
    if (status != ELMAN_STATUS_OK) throw error(status, elman_last_error());
}

/// Somebody else's array: a pointer and a length. Made of std::vector, std::array, std::span, C arrays and whatever else
/// std::data and std::size take; the array must outlive the view.
template <class T>
class view {
    // A pointer to an array converts to more const elements, and to nothing else.
    template <class Array>
    using elements_of = std::remove_pointer_t<decltype(std::data(std::declval<Array &>()))>[];

public:
    constexpr view() noexcept = default;
    constexpr view(T *data, std::size_t size) noexcept : data_(data), size_(size) {}

    template <class Array, class = std::enable_if_t<!std::is_same_v<std::decay_t<Array>, view> &&
                                                    std::is_convertible_v<elements_of<Array> *, T (*)[]>>>
    constexpr view(Array &&array) noexcept : data_(std::data(array)), size_(std::size(array)) {}

    constexpr T *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr T *begin() const noexcept { return data_; }
    constexpr T *end() const noexcept { return data_ + size_; }
    constexpr T &operator[](std::size_t index) const { return data_[index]; }

private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};

/// Keras's defaults for a layer or cell of `units` outputs; change the fields you want.
inline elman_simple_rnn_config simple_rnn_config(std::size_t units) {
    elman_simple_rnn_config config;
    check(elman_simple_rnn_config_init(&config, sizeof config, units));
    return config;
}

/// Options of a run: nothing masked, states zero and not kept; set the fields you want.
inline elman_run_options run_options() {
    elman_run_options options;
    check(elman_run_options_init(&options, sizeof options));
    return options;
}

/// How a network is trained: Adam, Keras's defaults; change the fields you want.
inline elman_trainer_config trainer_config() {
    elman_trainer_config config;
    check(elman_trainer_config_init(&config, sizeof config));
    return config;
}

/// One recurrent step by hand. A const cell may be shared by threads.
class simple_rnn_cell {
public:
    simple_rnn_cell(const elman_simple_rnn_config &config, std::size_t input_size, std::uint64_t seed) {
        elman_simple_rnn_cell *cell = nullptr;
        check(elman_simple_rnn_cell_new(&config, input_size, seed, &cell));
        handle_.reset(cell);
    }

    /// h_next may be h.
    void step(view<const float> x, view<const float> h, std::size_t batch, view<float> h_next) const {
        check(elman_simple_rnn_cell_step(get(), x.data(), x.size(), h.data(), h.size(), batch, h_next.data(),
                                         h_next.size()));
    }
    void get_weight(elman_weight which, view<float> values) const {
        check(elman_simple_rnn_cell_get_weight(get(), which, values.data(), values.size()));
    }
    void set_weight(elman_weight which, view<const float> values) {
        check(elman_simple_rnn_cell_set_weight(get(), which, values.data(), values.size()));
    }

    /// The handle, for functions of elman.h; it stays this object's. NULL after a move.
    elman_simple_rnn_cell *get() noexcept { return handle_.get(); }
    const elman_simple_rnn_cell *get() const noexcept { return handle_.get(); }

private:
    struct deleter {
        void operator()(elman_simple_rnn_cell *cell) const noexcept { elman_simple_rnn_cell_free(cell); }
    };
    std::unique_ptr<elman_simple_rnn_cell, deleter> handle_;
};

/// A network: add layers, build, then set weights or predict. A const network may be shared by threads.
class sequential {
public:
    explicit sequential(std::size_t input_size) {
        elman_sequential *network = nullptr;
        check(elman_sequential_new(input_size, &network));
        handle_.reset(network);
    }
    static sequential load(const std::string &path) {
        elman_sequential *network = nullptr;
        check(elman_sequential_load(path.c_str(), &network));
        return sequential(network);
    }
    static sequential load_bytes(view<const std::uint8_t> bytes) {
        elman_sequential *network = nullptr;
        check(elman_sequential_load_bytes(bytes.data(), bytes.size(), &network));
        return sequential(network);
    }
    void save(const std::string &path) const { check(elman_sequential_save(get(), path.c_str())); }
    /// The bytes that save writes.
    std::vector<std::uint8_t> save_bytes() const {
        std::size_t needed = 0;
        check(elman_sequential_save_bytes(get(), nullptr, 0, &needed));
        std::vector<std::uint8_t> file(needed);
        check(elman_sequential_save_bytes(get(), file.data(), file.size(), &needed));
        return file;
    }

    sequential &add_embedding(std::size_t vocabulary, std::size_t size, bool mask_zero) {
        check(elman_sequential_add_embedding(get(), vocabulary, size, mask_zero));
        return *this;
    }
    sequential &add_masking(float mask_value) {
        check(elman_sequential_add_masking(get(), mask_value));
        return *this;
    }
    sequential &add_simple_rnn(const elman_simple_rnn_config &config) {
        check(elman_sequential_add_simple_rnn(get(), &config));
        return *this;
    }
    sequential &add_bidirectional(const elman_simple_rnn_config &config, elman_merge_mode merge_mode) {
        check(elman_sequential_add_bidirectional(get(), &config, merge_mode));
        return *this;
    }
    sequential &add_dense(std::size_t units, elman_activation activation) {
        check(elman_sequential_add_dense(get(), units, activation));
        return *this;
    }
    sequential &add_dropout(float rate) {
        check(elman_sequential_add_dropout(get(), rate));
        return *this;
    }
    sequential &build(std::uint64_t seed) {
        check(elman_sequential_build(get(), seed));
        return *this;
    }
    sequential &set_threads(std::size_t threads) {
        check(elman_sequential_set_threads(get(), threads));
        return *this;
    }

    std::size_t layer_count() const noexcept { return elman_sequential_layer_count(get()); }
    std::string summary() const {
        std::size_t needed = 0;
        check(elman_sequential_summary(get(), nullptr, 0, &needed));
        std::string text(needed, '\0');
        check(elman_sequential_summary(get(), &text[0], text.size(), &needed));
        text.resize(needed - 1);
        return text;
    }

    struct shape {
        std::size_t rows, columns;
    };
    shape weight_shape(std::size_t layer, elman_weight which) const {
        shape result{};
        check(elman_sequential_weight_shape(get(), layer, which, &result.rows, &result.columns));
        return result;
    }
    std::vector<float> get_weight(std::size_t layer, elman_weight which) const {
        const shape size = weight_shape(layer, which);
        std::vector<float> values(size.rows * size.columns);
        check(elman_sequential_get_weight(get(), layer, which, values.data(), values.size()));
        return values;
    }
    void set_weight(std::size_t layer, elman_weight which, view<const float> values) {
        check(elman_sequential_set_weight(get(), layer, which, values.data(), values.size()));
    }

    struct bytes {
        std::size_t plain, packed;
    };
    bytes weight_bytes() const {
        bytes result{};
        check(elman_sequential_weight_bytes(get(), &result.plain, &result.packed));
        return result;
    }
    /// For a network that will only run.
    void drop_weights() { check(elman_sequential_drop_weights(get())); }

    std::size_t parameter_count() const {
        std::size_t count = 0;
        check(elman_sequential_parameter_count(get(), &count));
        return count;
    }
    /// All weights, one behind the other.
    std::vector<float> get_parameters() const {
        std::vector<float> values(parameter_count());
        check(elman_sequential_get_parameters(get(), values.data(), values.size()));
        return values;
    }
    void set_parameters(view<const float> values) {
        check(elman_sequential_set_parameters(get(), values.data(), values.size()));
    }

    /// Forgets the states that stateful layers keep.
    void reset_states() { check(elman_sequential_reset_states(get())); }

    std::size_t output_len(std::size_t batch, std::size_t steps) const {
        std::size_t len = 0;
        check(elman_sequential_output_len(get(), batch, steps, &len));
        return len;
    }
    std::size_t state_len(std::size_t batch) const {
        std::size_t len = 0;
        check(elman_sequential_state_len(get(), batch, &len));
        return len;
    }

    /// Into an array of output_len floats.
    void predict(view<const float> x, std::size_t batch, std::size_t steps, view<float> y) const {
        check(elman_sequential_predict(get(), x.data(), x.size(), batch, steps, y.data(), y.size()));
    }
    void predict_tokens(view<const std::int32_t> ids, std::size_t batch, std::size_t steps, view<float> y) const {
        check(elman_sequential_predict_tokens(get(), ids.data(), ids.size(), batch, steps, y.data(), y.size()));
    }
    /// Into a new vector.
    std::vector<float> predict(view<const float> x, std::size_t batch, std::size_t steps) const {
        std::vector<float> y(output_len(batch, steps));
        predict(x, batch, steps, y);
        return y;
    }
    std::vector<float> predict_tokens(view<const std::int32_t> ids, std::size_t batch, std::size_t steps) const {
        std::vector<float> y(output_len(batch, steps));
        predict_tokens(ids, batch, steps, y);
        return y;
    }
    void run(view<const float> x, std::size_t batch, std::size_t steps, const elman_run_options &options,
             view<float> y) const {
        check(elman_sequential_run(get(), x.data(), x.size(), batch, steps, &options, y.data(), y.size()));
    }
    void run_tokens(view<const std::int32_t> ids, std::size_t batch, std::size_t steps,
                    const elman_run_options &options, view<float> y) const {
        check(elman_sequential_run_tokens(get(), ids.data(), ids.size(), batch, steps, &options, y.data(), y.size()));
    }

    /// The handle, for functions of elman.h; it stays this object's. NULL after a move.
    elman_sequential *get() noexcept { return handle_.get(); }
    const elman_sequential *get() const noexcept { return handle_.get(); }

private:
    explicit sequential(elman_sequential *network) noexcept : handle_(network) {}

    struct deleter {
        void operator()(elman_sequential *network) const noexcept { elman_sequential_free(network); }
    };
    std::unique_ptr<elman_sequential, deleter> handle_;
};

/// States kept from call to call; run is real-time safe. One thread at a time. It keeps the network's weights alive.
class stream {
public:
    stream(const sequential &network, std::size_t batch) {
        elman_stream *stream = nullptr;
        check(elman_stream_new(network.get(), batch, &stream));
        handle_.reset(stream);
    }
    /// In memory of yours, of memory_for's size and alignment, which must outlive the stream. Takes nothing from the heap.
    stream(const sequential &network, std::size_t batch, void *memory, std::size_t bytes) {
        elman_stream *stream = nullptr;
        check(elman_stream_new_in(network.get(), batch, memory, bytes, &stream));
        handle_.reset(stream);
    }

    struct memory_size {
        std::size_t bytes, alignment;
    };
    static memory_size memory_for(const sequential &network, std::size_t batch) {
        memory_size size{};
        check(elman_stream_size(network.get(), batch, &size.bytes, &size.alignment));
        return size;
    }

    std::size_t output_len(std::size_t steps) const {
        std::size_t len = 0;
        check(elman_stream_output_len(get(), steps, &len));
        return len;
    }
    void run(view<const float> x, std::size_t steps, view<float> y) {
        check(elman_stream_run(get(), x.data(), x.size(), steps, y.data(), y.size()));
    }
    void run_tokens(view<const std::int32_t> ids, std::size_t steps, view<float> y) {
        check(elman_stream_run_tokens(get(), ids.data(), ids.size(), steps, y.data(), y.size()));
    }
    void reset() { check(elman_stream_reset(get())); }
    void reset_row(std::size_t row) { check(elman_stream_reset_row(get(), row)); }
    /// Laid out as sequential::state_len says.
    void get_state(view<float> state) const { check(elman_stream_get_state(get(), state.data(), state.size())); }
    void set_state(view<const float> state) { check(elman_stream_set_state(get(), state.data(), state.size())); }

    /// The handle, for functions of elman.h; it stays this object's. NULL after a move.
    elman_stream *get() noexcept { return handle_.get(); }
    const elman_stream *get() const noexcept { return handle_.get(); }

private:
    struct deleter {
        void operator()(elman_stream *stream) const noexcept { elman_stream_free(stream); }
    };
    std::unique_ptr<elman_stream, deleter> handle_;
};

/// Forward passes that can be gone back, for gradients. One thread at a time. It keeps the network's weights alive, as they
/// were when it was made.
class tape {
public:
    /// For batches of up to `batch` rows and up to `steps` steps.
    tape(const sequential &network, std::size_t batch, std::size_t steps) {
        elman_tape *tape = nullptr;
        check(elman_tape_new(network.get(), batch, steps, &tape));
        handle_.reset(tape);
    }

    /// Into an array of sequential::output_len floats. No options: those of predict.
    void forward(view<const float> x, std::size_t batch, std::size_t steps, bool training, std::uint64_t seed,
                 view<float> y, const elman_run_options *options = nullptr) {
        check(elman_tape_forward(get(), x.data(), x.size(), batch, steps, options, training, seed, y.data(), y.size()));
    }
    void forward_tokens(view<const std::int32_t> ids, std::size_t batch, std::size_t steps, bool training,
                        std::uint64_t seed, view<float> y, const elman_run_options *options = nullptr) {
        check(elman_tape_forward_tokens(get(), ids.data(), ids.size(), batch, steps, options, training, seed, y.data(),
                                        y.size()));
    }
    /// dx receives the gradient by the input, where it is wanted.
    void backward(view<const float> dy, view<float> dx = {}) {
        check(elman_tape_backward(get(), dy.data(), dy.size(), dx.data(), dx.size()));
    }

    /// Into an array as large as the weight.
    void get_gradient(std::size_t layer, elman_weight which, view<float> values) const {
        check(elman_tape_get_gradient(get(), layer, which, values.data(), values.size()));
    }
    /// Into an array of sequential::parameter_count floats.
    void get_gradients(view<float> values) const {
        check(elman_tape_get_gradients(get(), values.data(), values.size()));
    }
    /// Into an array of sequential::state_len floats.
    void get_initial_state_gradient(view<float> values) const {
        check(elman_tape_get_initial_state_gradient(get(), values.data(), values.size()));
    }
    /// One norm for each step of the last forward pass.
    void gradient_norms(std::size_t layer, view<float> norms) const {
        check(elman_tape_gradient_norms(get(), layer, norms.data(), norms.size()));
    }
    /// Gives the norm that the gradients had.
    float clip_by_global_norm(float max_norm) {
        float norm = 0;
        check(elman_tape_clip_by_global_norm(get(), max_norm, &norm));
        return norm;
    }

    /// The handle, for functions of elman.h; it stays this object's. NULL after a move.
    elman_tape *get() noexcept { return handle_.get(); }
    const elman_tape *get() const noexcept { return handle_.get(); }

private:
    struct deleter {
        void operator()(elman_tape *tape) const noexcept { elman_tape_free(tape); }
    };
    std::unique_ptr<elman_tape, deleter> handle_;
};

/// The training of a network, which it changes in each step and keeps alive. One thread at a time.
class trainer {
public:
    trainer(sequential &network, const elman_trainer_config &config) {
        elman_trainer *trainer = nullptr;
        check(elman_trainer_new(network.get(), &config, &trainer));
        handle_.reset(trainer);
    }
    /// Gives `network` the weights of a checkpoint, and goes on from there.
    static trainer load(sequential &network, const std::string &path) {
        elman_trainer *loaded = nullptr;
        check(elman_trainer_load(network.get(), path.c_str(), &loaded));
        return trainer(loaded);
    }
    /// From the bytes of a checkpoint.
    static trainer load_bytes(sequential &network, view<const std::uint8_t> bytes) {
        elman_trainer *loaded = nullptr;
        check(elman_trainer_load_bytes(network.get(), bytes.data(), bytes.size(), &loaded));
        return trainer(loaded);
    }
    void save(const std::string &path) const { check(elman_trainer_save(get(), path.c_str())); }
    /// The bytes that save writes.
    std::vector<std::uint8_t> save_bytes() const {
        std::size_t needed = 0;
        check(elman_trainer_save_bytes(get(), nullptr, 0, &needed));
        std::vector<std::uint8_t> file(needed);
        check(elman_trainer_save_bytes(get(), file.data(), file.size(), &needed));
        return file;
    }

    /// Gives the batch's loss before the weights moved.
    float step(view<const float> x, std::size_t batch, std::size_t steps, view<const float> target,
               const elman_run_options *options = nullptr) {
        float loss = 0;
        check(elman_trainer_step(get(), x.data(), x.size(), batch, steps, target.data(), target.size(), options, &loss));
        return loss;
    }
    float step_tokens(view<const std::int32_t> ids, std::size_t batch, std::size_t steps, view<const float> target,
                      const elman_run_options *options = nullptr) {
        float loss = 0;
        check(elman_trainer_step_tokens(get(), ids.data(), ids.size(), batch, steps, target.data(), target.size(),
                                        options, &loss));
        return loss;
    }
    /// Each row, or each step of each row where the network gives sequences, counting by its weight.
    float step_weighted(view<const float> x, std::size_t batch, std::size_t steps, view<const float> target,
                        view<const float> weights, const elman_run_options *options = nullptr) {
        float loss = 0;
        check(elman_trainer_step_weighted(get(), x.data(), x.size(), batch, steps, target.data(), target.size(),
                                          weights.data(), weights.size(), options, &loss));
        return loss;
    }
    float step_weighted_tokens(view<const std::int32_t> ids, std::size_t batch, std::size_t steps,
                               view<const float> target, view<const float> weights,
                               const elman_run_options *options = nullptr) {
        float loss = 0;
        check(elman_trainer_step_weighted_tokens(get(), ids.data(), ids.size(), batch, steps, target.data(),
                                                 target.size(), weights.data(), weights.size(), options, &loss));
        return loss;
    }

    /// The accuracy of a mean squared error is a NaN.
    struct score {
        float loss, accuracy;
    };
    /// Of the network as it is. No weights: all rows count alike.
    score evaluate(view<const float> x, std::size_t batch, std::size_t steps, view<const float> target,
                   view<const float> weights = {}) const {
        score result{};
        check(elman_trainer_evaluate(get(), x.data(), x.size(), batch, steps, target.data(), target.size(),
                                     weights.data(), weights.size(), &result.loss, &result.accuracy));
        return result;
    }
    score evaluate_tokens(view<const std::int32_t> ids, std::size_t batch, std::size_t steps, view<const float> target,
                          view<const float> weights = {}) const {
        score result{};
        check(elman_trainer_evaluate_tokens(get(), ids.data(), ids.size(), batch, steps, target.data(), target.size(),
                                            weights.data(), weights.size(), &result.loss, &result.accuracy));
        return result;
    }

    /// The handle, for functions of elman.h; it stays this object's. NULL after a move.
    elman_trainer *get() noexcept { return handle_.get(); }
    const elman_trainer *get() const noexcept { return handle_.get(); }

private:
    explicit trainer(elman_trainer *trainer) noexcept : handle_(trainer) {}

    struct deleter {
        void operator()(elman_trainer *trainer) const noexcept { elman_trainer_free(trainer); }
    };
    std::unique_ptr<elman_trainer, deleter> handle_;
};

}  // namespace elman

#endif  // ELMAN_HPP
