/*
 * elman for C++17 and newer: the handles of elman.h as objects that free themselves, failures as exceptions, and arrays
 * as views that know their length. Nothing more: each function here calls its namesake in elman.h, whose documentation
 * holds.
 *
 * Without exceptions (-fno-exceptions, or ELMAN_NO_EXCEPTIONS defined before this header): every call that can fail
 * gives an elman::outcome, which holds its status and its answer; elman_last_error() has the sentence. Objects are made
 * by their static make() or load() then, for a constructor has nowhere to put a status; an object whose making failed
 * holds NULL, and its calls answer NULL_POINTER. Memory that runs out in a std::vector or std::string is the C++
 * library's to handle. Files of both kinds may meet in one program.
 */
#ifndef ELMAN_HPP
#define ELMAN_HPP

#if !defined(ELMAN_NO_EXCEPTIONS) && !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#define ELMAN_NO_EXCEPTIONS
#endif

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#ifndef ELMAN_NO_EXCEPTIONS
#include <exception>
#include <stdexcept>
#endif
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "elman.h"

namespace elman {

// The two kinds of classes have names of their own for the linker.
#ifdef ELMAN_NO_EXCEPTIONS
inline namespace without_exceptions {

/// How a call ended, and its answer.
template <class T>
class [[nodiscard]] outcome {
public:
    outcome(elman_status status, T value) : status_(status), value_(std::move(value)) {}
    bool ok() const noexcept { return status_ == ELMAN_STATUS_OK; }
    elman_status status() const noexcept { return status_; }
    /// What the call gives; empty or zero where it has failed.
    T &value() & noexcept { return value_; }
    const T &value() const & noexcept { return value_; }
    T &&value() && noexcept { return std::move(value_); }

private:
    elman_status status_;
    T value_;
};

/// How a call without an answer ended.
template <>
class [[nodiscard]] outcome<void> {
public:
    explicit outcome(elman_status status) noexcept : status_(status) {}
    bool ok() const noexcept { return status_ == ELMAN_STATUS_OK; }
    elman_status status() const noexcept { return status_; }

private:
    elman_status status_;
};

/// What calls give that can be written in a chain where failures are exceptions.
template <class Self>
using chained = outcome<void>;

inline outcome<void> check(elman_status status) noexcept { return outcome<void>(status); }
template <class T>
outcome<T> check(elman_status status, T value) {
    return outcome<T>(status, std::move(value));
}
template <class Self>
chained<Self> check_chained(elman_status status, Self &) noexcept {
    return outcome<void>(status);
}
#else
inline namespace with_exceptions {

/// A call that failed: its status, and the library's sentence as what().
class error : public std::runtime_error {
public:
    error(elman_status status, const char *message) : std::runtime_error(message), status_(status) {}
    elman_status status() const noexcept { return status_; }

private:
    elman_status status_;
};

/// What a call gives: its answer, for failures are thrown.
template <class T>
using outcome = T;

/// What calls give that can be written in a chain: their object.
template <class Self>
using chained = Self &;

/// Throws where a call of elman.h has failed.
inline void check(elman_status status) {
    if (status != ELMAN_STATUS_OK) throw error(status, elman_last_error());
}
template <class T>
T check(elman_status status, T value) {
    check(status);
    return value;
}
template <class Self>
Self &check_chained(elman_status status, Self &self) {
    check(status);
    return self;
}
#endif

/// The version of the library that runs; ELMAN_VERSION_NUMBER is this header's.
inline std::uint32_t version_number() noexcept { return elman_version_number(); }

/// Somebody else's array: a pointer and a length. Made of std::vector, std::array, std::span, C arrays and whatever
/// else std::data and std::size take; the array must outlive the view.
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
inline outcome<elman_simple_rnn_config> simple_rnn_config(std::size_t units) {
    elman_simple_rnn_config value{};
    const elman_status status = elman_simple_rnn_config_init(&value, sizeof value, units);
    return check(status, value);
}
inline outcome<elman_lstm_config> lstm_config(std::size_t units) {
    elman_lstm_config value{};
    const elman_status status = elman_lstm_config_init(&value, sizeof value, units);
    return check(status, value);
}
inline outcome<elman_gru_config> gru_config(std::size_t units) {
    elman_gru_config value{};
    const elman_status status = elman_gru_config_init(&value, sizeof value, units);
    return check(status, value);
}

/// Keras's defaults for a fully connected layer of `units` outputs; change the fields you want.
inline outcome<elman_dense_config> dense_config(std::size_t units) {
    elman_dense_config value{};
    const elman_status status = elman_dense_config_init(&value, sizeof value, units);
    return check(status, value);
}

/// Keras's defaults for an embedding; change the fields you want.
inline outcome<elman_embedding_config> embedding_config(std::size_t vocabulary, std::size_t size) {
    elman_embedding_config value{};
    const elman_status status = elman_embedding_config_init(&value, sizeof value, vocabulary, size);
    return check(status, value);
}

/// Options of a run: nothing masked, no initial states given and no final ones asked for; set the fields you want.
inline outcome<elman_run_options> run_options() {
    elman_run_options value{};
    const elman_status status = elman_run_options_init(&value, sizeof value);
    return check(status, value);
}

/// What PyTorch's state dicts do not say: all tensors, the last step, tanh; set the fields you want.
inline outcome<elman_load_options> load_options() {
    elman_load_options value{};
    const elman_status status = elman_load_options_init(&value, sizeof value);
    return check(status, value);
}

/// How a network is trained: Adam, Keras's defaults; change the fields you want.
inline outcome<elman_trainer_config> trainer_config() {
    elman_trainer_config value{};
    const elman_status status = elman_trainer_config_init(&value, sizeof value);
    return check(status, value);
}

/// Rows to learn from, with their targets; set further fields where rows have weights, masks or states. The arrays
/// stay yours.
inline outcome<elman_examples> examples(view<const float> x, std::size_t batch, std::size_t steps,
                                        view<const float> target) {
    elman_examples value{};
    const elman_status status = elman_examples_init(&value, sizeof value);
    value.x = x.data();
    value.x_len = x.size();
    value.batch = batch;
    value.steps = steps;
    value.target = target.data();
    value.target_len = target.size();
    return check(status, value);
}
inline outcome<elman_examples> examples_tokens(view<const std::int32_t> ids, std::size_t batch, std::size_t steps,
                                               view<const float> target) {
    elman_examples value{};
    const elman_status status = elman_examples_init(&value, sizeof value);
    value.ids = ids.data();
    value.ids_len = ids.size();
    value.batch = batch;
    value.steps = steps;
    value.target = target.data();
    value.target_len = target.size();
    return check(status, value);
}

/// How trainer::fit goes about it: one epoch, 32 rows a step, shuffled; change the fields you want.
inline outcome<elman_fit_config> fit_config() {
    elman_fit_config value{};
    const elman_status status = elman_fit_config_init(&value, sizeof value);
    return check(status, value);
}

/// One step of a SimpleRNN by hand. A const cell may be shared by threads.
class simple_rnn_cell {
public:
    static outcome<simple_rnn_cell> make(const elman_simple_rnn_config &config, std::size_t input_size,
                                         std::uint64_t seed) {
        elman_simple_rnn_cell *cell = nullptr;
        const elman_status status = elman_simple_rnn_cell_new(&config, input_size, seed, &cell);
        return check(status, simple_rnn_cell(cell));
    }
#ifndef ELMAN_NO_EXCEPTIONS
    simple_rnn_cell(const elman_simple_rnn_config &config, std::size_t input_size, std::uint64_t seed)
        : simple_rnn_cell(make(config, input_size, seed)) {}
#endif

    /// h_next may be h.
    outcome<void> step(view<const float> x, view<const float> h, std::size_t batch, view<float> h_next) const {
        return check(elman_simple_rnn_cell_step(get(), x.data(), x.size(), h.data(), h.size(), batch, h_next.data(),
                                                h_next.size()));
    }
    outcome<void> get_weight(elman_weight which, view<float> values) const {
        return check(elman_simple_rnn_cell_get_weight(get(), which, values.data(), values.size()));
    }
    outcome<void> set_weight(elman_weight which, view<const float> values) {
        return check(elman_simple_rnn_cell_set_weight(get(), which, values.data(), values.size()));
    }

    /// The handle, for functions of elman.h; it stays this object's. NULL after a move.
    elman_simple_rnn_cell *get() noexcept { return handle_.get(); }
    const elman_simple_rnn_cell *get() const noexcept { return handle_.get(); }

private:
    explicit simple_rnn_cell(elman_simple_rnn_cell *cell) noexcept : handle_(cell) {}

    struct deleter {
        void operator()(elman_simple_rnn_cell *cell) const noexcept { elman_simple_rnn_cell_free(cell); }
    };
    std::unique_ptr<elman_simple_rnn_cell, deleter> handle_;
};

/// One step of an LSTM by hand. A const cell may be shared by threads.
class lstm_cell {
public:
    static outcome<lstm_cell> make(const elman_lstm_config &config, std::size_t input_size, std::uint64_t seed) {
        elman_lstm_cell *cell = nullptr;
        const elman_status status = elman_lstm_cell_new(&config, input_size, seed, &cell);
        return check(status, lstm_cell(cell));
    }
#ifndef ELMAN_NO_EXCEPTIONS
    lstm_cell(const elman_lstm_config &config, std::size_t input_size, std::uint64_t seed)
        : lstm_cell(make(config, input_size, seed)) {}
#endif

    /// h_next may be h, and c_next may be c.
    outcome<void> step(view<const float> x, view<const float> h, view<const float> c, std::size_t batch,
                       view<float> h_next, view<float> c_next) const {
        return check(elman_lstm_cell_step(get(), x.data(), x.size(), h.data(), h.size(), c.data(), c.size(), batch,
                                          h_next.data(), h_next.size(), c_next.data(), c_next.size()));
    }
    outcome<void> get_weight(elman_weight which, view<float> values) const {
        return check(elman_lstm_cell_get_weight(get(), which, values.data(), values.size()));
    }
    outcome<void> set_weight(elman_weight which, view<const float> values) {
        return check(elman_lstm_cell_set_weight(get(), which, values.data(), values.size()));
    }

    /// The handle, for functions of elman.h; it stays this object's. NULL after a move.
    elman_lstm_cell *get() noexcept { return handle_.get(); }
    const elman_lstm_cell *get() const noexcept { return handle_.get(); }

private:
    explicit lstm_cell(elman_lstm_cell *cell) noexcept : handle_(cell) {}

    struct deleter {
        void operator()(elman_lstm_cell *cell) const noexcept { elman_lstm_cell_free(cell); }
    };
    std::unique_ptr<elman_lstm_cell, deleter> handle_;
};

/// One step of a GRU by hand. A const cell may be shared by threads.
class gru_cell {
public:
    static outcome<gru_cell> make(const elman_gru_config &config, std::size_t input_size, std::uint64_t seed) {
        elman_gru_cell *cell = nullptr;
        const elman_status status = elman_gru_cell_new(&config, input_size, seed, &cell);
        return check(status, gru_cell(cell));
    }
#ifndef ELMAN_NO_EXCEPTIONS
    gru_cell(const elman_gru_config &config, std::size_t input_size, std::uint64_t seed)
        : gru_cell(make(config, input_size, seed)) {}
#endif

    /// h_next may be h.
    outcome<void> step(view<const float> x, view<const float> h, std::size_t batch, view<float> h_next) const {
        return check(elman_gru_cell_step(get(), x.data(), x.size(), h.data(), h.size(), batch, h_next.data(),
                                         h_next.size()));
    }
    outcome<void> get_weight(elman_weight which, view<float> values) const {
        return check(elman_gru_cell_get_weight(get(), which, values.data(), values.size()));
    }
    outcome<void> set_weight(elman_weight which, view<const float> values) {
        return check(elman_gru_cell_set_weight(get(), which, values.data(), values.size()));
    }

    /// The handle, for functions of elman.h; it stays this object's. NULL after a move.
    elman_gru_cell *get() noexcept { return handle_.get(); }
    const elman_gru_cell *get() const noexcept { return handle_.get(); }

private:
    explicit gru_cell(elman_gru_cell *cell) noexcept : handle_(cell) {}

    struct deleter {
        void operator()(elman_gru_cell *cell) const noexcept { elman_gru_cell_free(cell); }
    };
    std::unique_ptr<elman_gru_cell, deleter> handle_;
};

/// A network: add layers, build, then set weights or predict. A const network may be shared by threads.
class sequential {
public:
    static outcome<sequential> make(std::size_t input_size) {
        elman_sequential *network = nullptr;
        const elman_status status = elman_sequential_new(input_size, &network);
        return check(status, sequential(network));
    }
#ifndef ELMAN_NO_EXCEPTIONS
    explicit sequential(std::size_t input_size) : sequential(make(input_size)) {}
#endif
    static outcome<sequential> load(const std::string &path) {
        elman_sequential *network = nullptr;
        const elman_status status = elman_sequential_load(path.c_str(), &network);
        return check(status, sequential(network));
    }
    static outcome<sequential> load_bytes(view<const std::uint8_t> contents) {
        elman_sequential *network = nullptr;
        const elman_status status = elman_sequential_load_bytes(contents.data(), contents.size(), &network);
        return check(status, sequential(network));
    }
    /// With what a state dict does not say.
    static outcome<sequential> load(const std::string &path, const elman_load_options &options) {
        elman_sequential *network = nullptr;
        const elman_status status = elman_sequential_load_with(path.c_str(), &options, &network);
        return check(status, sequential(network));
    }
    static outcome<sequential> load_bytes(view<const std::uint8_t> contents, const elman_load_options &options) {
        elman_sequential *network = nullptr;
        const elman_status status =
            elman_sequential_load_bytes_with(contents.data(), contents.size(), &options, &network);
        return check(status, sequential(network));
    }
    /// The weights of a .weights.h5 file into this network of the same layers; all or none.
    outcome<void> load_weights(const std::string &path) {
        return check(elman_sequential_load_weights(get(), path.c_str()));
    }
    outcome<void> save(const std::string &path) const { return check(elman_sequential_save(get(), path.c_str())); }
    /// Writes the network, or its weights, to a file for another framework.
    outcome<void> export_to(const std::string &path, elman_format format) const {
        return check(elman_sequential_export(get(), path.c_str(), format));
    }
    /// The bytes that save writes.
    outcome<std::vector<std::uint8_t>> save_bytes() const {
        std::vector<std::uint8_t> file;
        std::size_t needed = 0;
        elman_status status = elman_sequential_save_bytes(get(), nullptr, 0, &needed);
        if (status == ELMAN_STATUS_OK) {
            file.resize(needed);
            status = elman_sequential_save_bytes(get(), file.data(), file.size(), &needed);
        }
        return check(status, std::move(file));
    }

    chained<sequential> add_embedding(std::size_t vocabulary, std::size_t size, bool mask_zero) {
        return check_chained(elman_sequential_add_embedding(get(), vocabulary, size, mask_zero), *this);
    }
    chained<sequential> add_last_step() { return check_chained(elman_sequential_add_last_step(get()), *this); }
    chained<sequential> add_masking(float mask_value) {
        return check_chained(elman_sequential_add_masking(get(), mask_value), *this);
    }
    chained<sequential> add_simple_rnn(const elman_simple_rnn_config &config) {
        return check_chained(elman_sequential_add_simple_rnn(get(), &config), *this);
    }
    chained<sequential> add_bidirectional(const elman_simple_rnn_config &config, elman_merge_mode merge_mode) {
        return check_chained(elman_sequential_add_bidirectional(get(), &config, merge_mode), *this);
    }
    chained<sequential> add_lstm(const elman_lstm_config &config) {
        return check_chained(elman_sequential_add_lstm(get(), &config), *this);
    }
    chained<sequential> add_bidirectional_lstm(const elman_lstm_config &config, elman_merge_mode merge_mode) {
        return check_chained(elman_sequential_add_bidirectional_lstm(get(), &config, merge_mode), *this);
    }
    chained<sequential> add_gru(const elman_gru_config &config) {
        return check_chained(elman_sequential_add_gru(get(), &config), *this);
    }
    chained<sequential> add_bidirectional_gru(const elman_gru_config &config, elman_merge_mode merge_mode) {
        return check_chained(elman_sequential_add_bidirectional_gru(get(), &config, merge_mode), *this);
    }
    chained<sequential> add_dense(std::size_t units, elman_activation activation) {
        return check_chained(elman_sequential_add_dense(get(), units, activation), *this);
    }
    chained<sequential> add_dense(const elman_dense_config &config) {
        return check_chained(elman_sequential_add_dense_with(get(), &config), *this);
    }
    chained<sequential> add_embedding(const elman_embedding_config &config) {
        return check_chained(elman_sequential_add_embedding_with(get(), &config), *this);
    }
    chained<sequential> add_dropout(float rate) {
        return check_chained(elman_sequential_add_dropout(get(), rate), *this);
    }
    chained<sequential> build(std::uint64_t seed) { return check_chained(elman_sequential_build(get(), seed), *this); }
    chained<sequential> set_threads(std::size_t threads) {
        return check_chained(elman_sequential_set_threads(get(), threads), *this);
    }

    std::size_t layer_count() const noexcept { return elman_sequential_layer_count(get()); }
    outcome<std::string> summary() const {
        std::string text;
        std::size_t needed = 0;
        elman_status status = elman_sequential_summary(get(), nullptr, 0, &needed);
        if (status == ELMAN_STATUS_OK) {
            text.resize(needed);
            status = elman_sequential_summary(get(), &text[0], text.size(), &needed);
            text.resize(needed - 1);
        }
        return check(status, std::move(text));
    }

    struct shape {
        std::size_t rows, columns;
    };
    outcome<shape> weight_shape(std::size_t layer, elman_weight which) const {
        shape result{};
        const elman_status status = elman_sequential_weight_shape(get(), layer, which, &result.rows, &result.columns);
        return check(status, result);
    }
    outcome<std::vector<float>> get_weight(std::size_t layer, elman_weight which) const {
        std::vector<float> values;
        std::size_t rows = 0, columns = 0;
        elman_status status = elman_sequential_weight_shape(get(), layer, which, &rows, &columns);
        if (status == ELMAN_STATUS_OK) {
            values.resize(rows * columns);
            status = elman_sequential_get_weight(get(), layer, which, values.data(), values.size());
        }
        return check(status, std::move(values));
    }
    outcome<void> set_weight(std::size_t layer, elman_weight which, view<const float> values) {
        return check(elman_sequential_set_weight(get(), layer, which, values.data(), values.size()));
    }

    struct bytes {
        std::size_t plain, packed;
    };
    outcome<bytes> weight_bytes() const {
        bytes result{};
        const elman_status status = elman_sequential_weight_bytes(get(), &result.plain, &result.packed);
        return check(status, result);
    }
    /// For a network that will only run.
    outcome<void> drop_weights() { return check(elman_sequential_drop_weights(get())); }

    outcome<std::size_t> parameter_count() const {
        std::size_t count = 0;
        const elman_status status = elman_sequential_parameter_count(get(), &count);
        return check(status, count);
    }
    /// All weights, one behind the other.
    outcome<std::vector<float>> get_parameters() const {
        std::vector<float> values;
        std::size_t count = 0;
        elman_status status = elman_sequential_parameter_count(get(), &count);
        if (status == ELMAN_STATUS_OK) {
            values.resize(count);
            status = elman_sequential_get_parameters(get(), values.data(), values.size());
        }
        return check(status, std::move(values));
    }
    outcome<void> set_parameters(view<const float> values) {
        return check(elman_sequential_set_parameters(get(), values.data(), values.size()));
    }

    /// Forgets the states that stateful layers keep.
    outcome<void> reset_states() { return check(elman_sequential_reset_states(get())); }

    struct kept_states {
        /// 0 where none are kept.
        std::size_t batch;
        /// Laid out as state_len says.
        std::vector<float> values;
    };
    /// The states that stateful layers keep.
    outcome<kept_states> get_states() const {
        kept_states result{};
        std::size_t len = 0;
        elman_status status = elman_sequential_get_states(get(), nullptr, 0, &result.batch);
        if (status == ELMAN_STATUS_OK && result.batch > 0)
            status = elman_sequential_state_len(get(), result.batch, &len);
        if (status == ELMAN_STATUS_OK && result.batch > 0) {
            result.values.resize(len);
            status = elman_sequential_get_states(get(), result.values.data(), len, &result.batch);
        }
        return check(status, std::move(result));
    }
    outcome<void> set_states(std::size_t batch, view<const float> states) {
        return check(elman_sequential_set_states(get(), batch, states.data(), states.size()));
    }

    outcome<std::size_t> output_len(std::size_t batch, std::size_t steps) const {
        std::size_t len = 0;
        const elman_status status = elman_sequential_output_len(get(), batch, steps, &len);
        return check(status, len);
    }
    outcome<std::size_t> state_len(std::size_t batch) const {
        std::size_t len = 0;
        const elman_status status = elman_sequential_state_len(get(), batch, &len);
        return check(status, len);
    }

    /// Into an array of output_len floats.
    outcome<void> predict(view<const float> x, std::size_t batch, std::size_t steps, view<float> y) const {
        return check(elman_sequential_predict(get(), x.data(), x.size(), batch, steps, y.data(), y.size()));
    }
    outcome<void> predict_tokens(view<const std::int32_t> ids, std::size_t batch, std::size_t steps,
                                 view<float> y) const {
        return check(elman_sequential_predict_tokens(get(), ids.data(), ids.size(), batch, steps, y.data(), y.size()));
    }
    /// Into a new vector.
    outcome<std::vector<float>> predict(view<const float> x, std::size_t batch, std::size_t steps) const {
        std::vector<float> y;
        std::size_t len = 0;
        elman_status status = elman_sequential_output_len(get(), batch, steps, &len);
        if (status == ELMAN_STATUS_OK) {
            y.resize(len);
            status = elman_sequential_predict(get(), x.data(), x.size(), batch, steps, y.data(), y.size());
        }
        return check(status, std::move(y));
    }
    outcome<std::vector<float>> predict_tokens(view<const std::int32_t> ids, std::size_t batch,
                                               std::size_t steps) const {
        std::vector<float> y;
        std::size_t len = 0;
        elman_status status = elman_sequential_output_len(get(), batch, steps, &len);
        if (status == ELMAN_STATUS_OK) {
            y.resize(len);
            status = elman_sequential_predict_tokens(get(), ids.data(), ids.size(), batch, steps, y.data(), y.size());
        }
        return check(status, std::move(y));
    }
    outcome<void> run(view<const float> x, std::size_t batch, std::size_t steps, const elman_run_options &options,
                      view<float> y) const {
        return check(elman_sequential_run(get(), x.data(), x.size(), batch, steps, &options, y.data(), y.size()));
    }
    outcome<void> run_tokens(view<const std::int32_t> ids, std::size_t batch, std::size_t steps,
                             const elman_run_options &options, view<float> y) const {
        return check(
            elman_sequential_run_tokens(get(), ids.data(), ids.size(), batch, steps, &options, y.data(), y.size()));
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

/// States kept from call to call; run is real-time safe. A const stream may be shared by threads; otherwise
/// one thread at a time. It keeps the network's weights alive.
class stream {
public:
    static outcome<stream> make(const sequential &network, std::size_t batch) {
        elman_stream *made = nullptr;
        const elman_status status = elman_stream_new(network.get(), batch, &made);
        return check(status, stream(made));
    }
    /// In memory of yours, of memory_for's size and alignment, which must outlive the stream. Takes nothing from the
    /// heap.
    static outcome<stream> make(const sequential &network, std::size_t batch, void *memory, std::size_t bytes) {
        elman_stream *made = nullptr;
        const elman_status status = elman_stream_new_in(network.get(), batch, memory, bytes, &made);
        return check(status, stream(made));
    }
#ifndef ELMAN_NO_EXCEPTIONS
    stream(const sequential &network, std::size_t batch) : stream(make(network, batch)) {}
    stream(const sequential &network, std::size_t batch, void *memory, std::size_t bytes)
        : stream(make(network, batch, memory, bytes)) {}
#endif

    struct memory_size {
        std::size_t bytes, alignment;
    };
    static outcome<memory_size> memory_for(const sequential &network, std::size_t batch) {
        memory_size size{};
        const elman_status status = elman_stream_size(network.get(), batch, &size.bytes, &size.alignment);
        return check(status, size);
    }

    outcome<std::size_t> output_len(std::size_t steps) const {
        std::size_t len = 0;
        const elman_status status = elman_stream_output_len(get(), steps, &len);
        return check(status, len);
    }
    outcome<void> run(view<const float> x, std::size_t steps, view<float> y) {
        return check(elman_stream_run(get(), x.data(), x.size(), steps, y.data(), y.size()));
    }
    outcome<void> run_tokens(view<const std::int32_t> ids, std::size_t steps, view<float> y) {
        return check(elman_stream_run_tokens(get(), ids.data(), ids.size(), steps, y.data(), y.size()));
    }
    outcome<void> reset() { return check(elman_stream_reset(get())); }
    outcome<void> reset_row(std::size_t row) { return check(elman_stream_reset_row(get(), row)); }
    /// Laid out as sequential::state_len says.
    outcome<void> get_state(view<float> state) const {
        return check(elman_stream_get_state(get(), state.data(), state.size()));
    }
    outcome<void> set_state(view<const float> state) {
        return check(elman_stream_set_state(get(), state.data(), state.size()));
    }

    /// The handle, for functions of elman.h; it stays this object's. NULL after a move.
    elman_stream *get() noexcept { return handle_.get(); }
    const elman_stream *get() const noexcept { return handle_.get(); }

private:
    explicit stream(elman_stream *handle) noexcept : handle_(handle) {}

    struct deleter {
        void operator()(elman_stream *stream) const noexcept { elman_stream_free(stream); }
    };
    std::unique_ptr<elman_stream, deleter> handle_;
};

/// Forward passes that can be gone back, for gradients. A const tape may be shared by threads; otherwise one
/// thread at a time. It keeps the network's weights alive, as they were when it was made.
class tape {
public:
    /// For batches of up to `batch` rows and up to `steps` steps.
    static outcome<tape> make(const sequential &network, std::size_t batch, std::size_t steps) {
        elman_tape *made = nullptr;
        const elman_status status = elman_tape_new(network.get(), batch, steps, &made);
        return check(status, tape(made));
    }
#ifndef ELMAN_NO_EXCEPTIONS
    tape(const sequential &network, std::size_t batch, std::size_t steps) : tape(make(network, batch, steps)) {}
#endif

    /// Into an array of sequential::output_len floats. No options: those of predict.
    outcome<void> forward(view<const float> x, std::size_t batch, std::size_t steps, bool training, std::uint64_t seed,
                          view<float> y, const elman_run_options *options = nullptr) {
        return check(
            elman_tape_forward(get(), x.data(), x.size(), batch, steps, options, training, seed, y.data(), y.size()));
    }
    outcome<void> forward_tokens(view<const std::int32_t> ids, std::size_t batch, std::size_t steps, bool training,
                                 std::uint64_t seed, view<float> y, const elman_run_options *options = nullptr) {
        return check(elman_tape_forward_tokens(get(), ids.data(), ids.size(), batch, steps, options, training, seed,
                                               y.data(), y.size()));
    }
    /// dx receives the gradient by the input, where it is wanted.
    outcome<void> backward(view<const float> dy, view<float> dx = {}) {
        return check(elman_tape_backward(get(), dy.data(), dy.size(), dx.data(), dx.size()));
    }

    /// Into an array as large as the weight.
    outcome<void> get_gradient(std::size_t layer, elman_weight which, view<float> values) const {
        return check(elman_tape_get_gradient(get(), layer, which, values.data(), values.size()));
    }
    /// Into an array of sequential::parameter_count floats.
    outcome<void> get_gradients(view<float> values) const {
        return check(elman_tape_get_gradients(get(), values.data(), values.size()));
    }
    /// Into an array of sequential::state_len floats.
    outcome<void> get_initial_state_gradient(view<float> values) const {
        return check(elman_tape_get_initial_state_gradient(get(), values.data(), values.size()));
    }
    /// One norm for each step of the last forward pass.
    outcome<void> gradient_norms(std::size_t layer, view<float> norms) const {
        return check(elman_tape_gradient_norms(get(), layer, norms.data(), norms.size()));
    }
    /// Gives the norm that the gradients had.
    outcome<float> clip_by_global_norm(float max_norm) {
        float norm = 0;
        const elman_status status = elman_tape_clip_by_global_norm(get(), max_norm, &norm);
        return check(status, norm);
    }

    /// The handle, for functions of elman.h; it stays this object's. NULL after a move.
    elman_tape *get() noexcept { return handle_.get(); }
    const elman_tape *get() const noexcept { return handle_.get(); }

private:
    explicit tape(elman_tape *handle) noexcept : handle_(handle) {}

    struct deleter {
        void operator()(elman_tape *tape) const noexcept { elman_tape_free(tape); }
    };
    std::unique_ptr<elman_tape, deleter> handle_;
};

/// The training of a network, which it changes in each step and keeps alive. A const trainer may be shared by
/// threads; otherwise one thread at a time.
class trainer {
public:
    static outcome<trainer> make(sequential &network, const elman_trainer_config &config) {
        elman_trainer *made = nullptr;
        const elman_status status = elman_trainer_new(network.get(), &config, &made);
        return check(status, trainer(made));
    }
#ifndef ELMAN_NO_EXCEPTIONS
    trainer(sequential &network, const elman_trainer_config &config) : trainer(make(network, config)) {}
#endif
    /// Gives `network` the weights of a checkpoint, and goes on from there.
    static outcome<trainer> load(sequential &network, const std::string &path) {
        elman_trainer *loaded = nullptr;
        const elman_status status = elman_trainer_load(network.get(), path.c_str(), &loaded);
        return check(status, trainer(loaded));
    }
    /// From the bytes of a checkpoint.
    static outcome<trainer> load_bytes(sequential &network, view<const std::uint8_t> contents) {
        elman_trainer *loaded = nullptr;
        const elman_status status =
            elman_trainer_load_bytes(network.get(), contents.data(), contents.size(), &loaded);
        return check(status, trainer(loaded));
    }
    outcome<void> save(const std::string &path) const { return check(elman_trainer_save(get(), path.c_str())); }
    /// The bytes that save writes.
    outcome<std::vector<std::uint8_t>> save_bytes() const {
        std::vector<std::uint8_t> file;
        std::size_t needed = 0;
        elman_status status = elman_trainer_save_bytes(get(), nullptr, 0, &needed);
        if (status == ELMAN_STATUS_OK) {
            file.resize(needed);
            status = elman_trainer_save_bytes(get(), file.data(), file.size(), &needed);
        }
        return check(status, std::move(file));
    }

    /// Gives the batch's loss before the weights moved.
    outcome<float> step(view<const float> x, std::size_t batch, std::size_t steps, view<const float> target,
                        const elman_run_options *options = nullptr) {
        float loss = 0;
        const elman_status status =
            elman_trainer_step(get(), x.data(), x.size(), batch, steps, target.data(), target.size(), options, &loss);
        return check(status, loss);
    }
    outcome<float> step_tokens(view<const std::int32_t> ids, std::size_t batch, std::size_t steps,
                               view<const float> target, const elman_run_options *options = nullptr) {
        float loss = 0;
        const elman_status status = elman_trainer_step_tokens(get(), ids.data(), ids.size(), batch, steps,
                                                              target.data(), target.size(), options, &loss);
        return check(status, loss);
    }
    /// Each row, or each step of each row where the network gives sequences, counting by its weight.
    outcome<float> step_weighted(view<const float> x, std::size_t batch, std::size_t steps, view<const float> target,
                                 view<const float> weights, const elman_run_options *options = nullptr) {
        float loss = 0;
        const elman_status status =
            elman_trainer_step_weighted(get(), x.data(), x.size(), batch, steps, target.data(), target.size(),
                                        weights.data(), weights.size(), options, &loss);
        return check(status, loss);
    }
    outcome<float> step_weighted_tokens(view<const std::int32_t> ids, std::size_t batch, std::size_t steps,
                                        view<const float> target, view<const float> weights,
                                        const elman_run_options *options = nullptr) {
        float loss = 0;
        const elman_status status =
            elman_trainer_step_weighted_tokens(get(), ids.data(), ids.size(), batch, steps, target.data(),
                                               target.size(), weights.data(), weights.size(), options, &loss);
        return check(status, loss);
    }

    /// The accuracy of a mean squared error is a NaN.
    struct score {
        float loss, accuracy;
    };
    /// Of the network as it is. No weights: all rows count alike.
    outcome<score> evaluate(view<const float> x, std::size_t batch, std::size_t steps, view<const float> target,
                            view<const float> weights = {}) const {
        score result{};
        const elman_status status =
            elman_trainer_evaluate(get(), x.data(), x.size(), batch, steps, target.data(), target.size(),
                                   weights.data(), weights.size(), &result.loss, &result.accuracy);
        return check(status, result);
    }
    outcome<score> evaluate_tokens(view<const std::int32_t> ids, std::size_t batch, std::size_t steps,
                                   view<const float> target, view<const float> weights = {}) const {
        score result{};
        const elman_status status =
            elman_trainer_evaluate_tokens(get(), ids.data(), ids.size(), batch, steps, target.data(), target.size(),
                                          weights.data(), weights.size(), &result.loss, &result.accuracy);
        return check(status, result);
    }

    /// The accuracies of a mean squared error are NaN.
    struct scores {
        float loss, accuracy, weighted_accuracy;
    };
    /// A step on everything that `rows` says.
    outcome<scores> step(const elman_examples &rows) {
        scores result{};
        const elman_status status = elman_trainer_step_examples(get(), &rows, &result.loss, &result.accuracy,
                                                                &result.weighted_accuracy);
        return check(status, result);
    }
    outcome<scores> evaluate(const elman_examples &rows) const {
        scores result{};
        const elman_status status = elman_trainer_evaluate_examples(get(), &rows, &result.loss, &result.accuracy,
                                                                    &result.weighted_accuracy);
        return check(status, result);
    }

    /// The first half of a step: gives its loss, and its gradients into an array of sequential::parameter_count floats.
    outcome<float> backward(view<const float> x, std::size_t batch, std::size_t steps, view<const float> target,
                            view<float> gradients, const elman_run_options *options = nullptr) {
        float loss = 0;
        const elman_status status =
            elman_trainer_backward(get(), x.data(), x.size(), batch, steps, target.data(), target.size(), options,
                                   gradients.data(), gradients.size(), &loss);
        return check(status, loss);
    }
    outcome<float> backward_tokens(view<const std::int32_t> ids, std::size_t batch, std::size_t steps,
                                   view<const float> target, view<float> gradients,
                                   const elman_run_options *options = nullptr) {
        float loss = 0;
        const elman_status status =
            elman_trainer_backward_tokens(get(), ids.data(), ids.size(), batch, steps, target.data(), target.size(),
                                          options, gradients.data(), gradients.size(), &loss);
        return check(status, loss);
    }
    /// The second half.
    outcome<void> apply(view<const float> gradients) {
        return check(elman_trainer_apply(get(), gradients.data(), gradients.size()));
    }

    /// How many were taken.
    outcome<std::uint64_t> steps() const {
        std::uint64_t taken = 0;
        const elman_status status = elman_trainer_steps(get(), &taken);
        return check(status, taken);
    }
    /// Of the next step.
    outcome<float> learning_rate() const {
        float rate = 0;
        const elman_status status = elman_trainer_get_learning_rate(get(), &rate);
        return check(status, rate);
    }
    outcome<void> set_learning_rate(float rate) { return check(elman_trainer_set_learning_rate(get(), rate)); }
    outcome<void> set_trainable(std::size_t layer, bool trainable) {
        return check(elman_trainer_set_trainable(get(), layer, trainable));
    }
    outcome<void> set_weight_decay(std::size_t layer, elman_weight which, bool decays) {
        return check(elman_trainer_set_weight_decay(get(), layer, which, decays));
    }

    /// Epochs of steps; gives how many came to their end.
    outcome<std::size_t> fit(const elman_examples &rows, const elman_fit_config &config) {
        std::size_t epochs = 0;
        const elman_status status = elman_trainer_fit(get(), &rows, &config, &epochs);
        return check(status, epochs);
    }
    /// The same, calling on_batch(const elman_batch_end &) after each step and on_epoch(const elman_epoch_end &)
    /// after each epoch: false ends the training. What they throw ends it too, and is thrown on from here.
    template <class OnBatch, class OnEpoch>
    outcome<std::size_t> fit(const elman_examples &rows, elman_fit_config config, OnBatch &&on_batch,
                             OnEpoch &&on_epoch) {
        using both = callbacks<std::remove_reference_t<OnBatch>, std::remove_reference_t<OnEpoch>>;
        both functions{&on_batch, &on_epoch};
        config.on_batch = &both::batch;
        config.on_epoch = &both::epoch;
        config.user = &functions;
        std::size_t epochs = 0;
        const elman_status status = elman_trainer_fit(get(), &rows, &config, &epochs);
#ifndef ELMAN_NO_EXCEPTIONS
        if (functions.thrown) std::rethrow_exception(functions.thrown);
#endif
        return check(status, epochs);
    }

    /// The handle, for functions of elman.h; it stays this object's. NULL after a move.
    elman_trainer *get() noexcept { return handle_.get(); }
    const elman_trainer *get() const noexcept { return handle_.get(); }

private:
    explicit trainer(elman_trainer *handle) noexcept : handle_(handle) {}

    // No exception may pass through C.
    template <class OnBatch, class OnEpoch>
    struct callbacks {
        OnBatch *on_batch;
        OnEpoch *on_epoch;
#ifndef ELMAN_NO_EXCEPTIONS
        std::exception_ptr thrown = nullptr;
#endif

        template <class Function>
        bool guarded(Function &&function) noexcept {
#ifndef ELMAN_NO_EXCEPTIONS
            try {
                return function();
            } catch (...) {
                thrown = std::current_exception();
                return false;
            }
#else
            return function();
#endif
        }
        static bool batch(void *user, const elman_batch_end *end) {
            callbacks &self = *static_cast<callbacks *>(user);
            return self.guarded([&] { return (*self.on_batch)(*end); });
        }
        static bool epoch(void *user, const elman_epoch_end *end) {
            callbacks &self = *static_cast<callbacks *>(user);
            return self.guarded([&] { return (*self.on_epoch)(*end); });
        }
    };

    struct deleter {
        void operator()(elman_trainer *trainer) const noexcept { elman_trainer_free(trainer); }
    };
    std::unique_ptr<elman_trainer, deleter> handle_;
};

}  // inline namespace
}  // namespace elman

#endif  // ELMAN_HPP
