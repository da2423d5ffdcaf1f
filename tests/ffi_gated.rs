//! LSTM and GRU through the C ABI: the bits of Rust's, and each mistake has its status, its sentence, and writes nothing.

mod common;

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use common::c::{UNTOUCHED, fails, last_error, misaligned, ok, trainer_config, untouched};
use elman::ffi::*;
use elman::{
    Activation, Bidirectional, Dense, Examples, Gru, GruCell, Initializer, Layer, Loss, Lstm, LstmCell,
    MergeMode, Optimizer, RunOptions, Sequential, Stream, Tape, Trainer, TrainerConfig, Unroll, Weight,
};

const BATCH: usize = 3;
const STEPS: usize = 5;
const FEATURES: usize = 4;
/// No multiple of any number of lanes.
const UNITS: usize = 6;

const ONES: elman_initializer = elman_initializer { kind: ELMAN_INITIALIZER_ONES, a: 0.0, b: 0.0 };

fn x() -> Vec<f32> {
    (0..BATCH * STEPS * FEATURES).map(|i| (i as f32 * 0.37).sin()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The functions of one kind of layer, so that what holds for both is said once.
struct Functions<Config, Cell> {
    name: &'static str,
    gates: usize,
    bias_rows: usize,
    states: usize,
    init: unsafe extern "C" fn(*mut Config, usize, usize) -> elman_status,
    add: unsafe extern "C" fn(*mut elman_sequential, *const Config) -> elman_status,
    both: unsafe extern "C" fn(*mut elman_sequential, *const Config, elman_merge_mode) -> elman_status,
    new: unsafe extern "C" fn(*const Config, usize, u64, *mut *mut Cell) -> elman_status,
    get: unsafe extern "C" fn(*const Cell, elman_weight, *mut f32, usize) -> elman_status,
    set: unsafe extern "C" fn(*mut Cell, elman_weight, *const f32, usize) -> elman_status,
    free: unsafe extern "C" fn(*mut Cell),
}

const LSTM: Functions<elman_lstm_config, elman_lstm_cell> = Functions {
    name: "lstm",
    gates: 4,
    bias_rows: 1,
    states: 2,
    init: elman_lstm_config_init,
    add: elman_sequential_add_lstm,
    both: elman_sequential_add_bidirectional_lstm,
    new: elman_lstm_cell_new,
    get: elman_lstm_cell_get_weight,
    set: elman_lstm_cell_set_weight,
    free: elman_lstm_cell_free,
};

const GRU: Functions<elman_gru_config, elman_gru_cell> = Functions {
    name: "gru",
    gates: 3,
    bias_rows: 2,
    states: 1,
    init: elman_gru_config_init,
    add: elman_sequential_add_gru,
    both: elman_sequential_add_bidirectional_gru,
    new: elman_gru_cell_new,
    get: elman_gru_cell_get_weight,
    set: elman_gru_cell_set_weight,
    free: elman_gru_cell_free,
};

impl<Config, Cell> Functions<Config, Cell> {
    fn config(&self, units: usize) -> Config {
        let mut config = MaybeUninit::uninit();
        // SAFETY: room for the struct, and on success it is filled.
        unsafe {
            ok((self.init)(config.as_mut_ptr(), size_of::<Config>(), units));
            config.assume_init()
        }
    }

    fn cell(&self, config: &Config, input_size: usize) -> Handle<Cell> {
        let mut cell = null_mut();
        // SAFETY: a live configuration and a place for the handle.
        ok(unsafe { (self.new)(config, input_size, 1, &mut cell) });
        Handle(cell, self.free)
    }

    /// A built network of one such layer.
    fn network(&self, config: &Config) -> Network {
        // SAFETY: a live handle and configuration.
        network(FEATURES, |network| unsafe { (self.add)(network, config) })
    }
}

/// A handle that frees itself, for tests only.
struct Handle<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: made by the library, freed here only.
        unsafe { (self.1)(self.0) }
    }
}

type Network = Handle<elman_sequential>;

fn empty(input_size: usize) -> Network {
    let mut network = null_mut();
    // SAFETY: a place for the handle.
    ok(unsafe { elman_sequential_new(input_size, &mut network) });
    Handle(network, elman_sequential_free)
}

/// A network whose layers `add` adds, built with seed 7.
fn network(input_size: usize, add: impl FnOnce(*mut elman_sequential) -> elman_status) -> Network {
    let network = empty(input_size);
    ok(add(network.0));
    // SAFETY: a live handle.
    ok(unsafe { elman_sequential_build(network.0, 7) });
    network
}

/// A network's output for [`x`], and its last states.
fn run(network: &Network) -> [Vec<f32>; 2] {
    let (x, mut y_len, mut state_len) = (x(), 0, 0);
    let mut options = MaybeUninit::uninit();
    // SAFETY: live handles, arrays of the lengths given, and a struct that is filled on success.
    unsafe {
        ok(elman_sequential_output_len(network.0, BATCH, STEPS, &mut y_len));
        ok(elman_sequential_state_len(network.0, BATCH, &mut state_len));
        let (mut y, mut states) = (vec![UNTOUCHED; y_len], vec![UNTOUCHED; state_len]);
        ok(elman_run_options_init(options.as_mut_ptr(), size_of::<elman_run_options>()));
        let mut options: elman_run_options = options.assume_init();
        (options.final_state, options.final_state_len) = (states.as_mut_ptr(), state_len);
        let (xp, yp) = (x.as_ptr(), y.as_mut_ptr());
        ok(elman_sequential_run(network.0, xp, x.len(), BATCH, STEPS, &options, yp, y_len));
        [y, states]
    }
}

fn parameters(network: &Network) -> Vec<f32> {
    let mut count = 0;
    // SAFETY: a live handle, and an array of the length given.
    unsafe {
        ok(elman_sequential_parameter_count(network.0, &mut count));
        let mut values = vec![UNTOUCHED; count];
        ok(elman_sequential_get_parameters(network.0, values.as_mut_ptr(), count));
        values
    }
}

fn model(layer: impl Into<Layer>) -> Sequential {
    Sequential::new(FEATURES).add(layer).build(7).unwrap()
}

fn rust_run(model: &Sequential) -> [Vec<f32>; 2] {
    let mut y = vec![UNTOUCHED; model.output_len(BATCH, STEPS).unwrap()];
    let mut states = vec![UNTOUCHED; model.state_len(BATCH).unwrap()];
    model.run(&x(), BATCH, STEPS, RunOptions::default().final_state(&mut states), &mut y).unwrap();
    [y, states]
}

/// Weights, output and states have the bits of Rust's.
#[track_caller]
fn same(network: &Network, model: &Sequential) {
    let mut weights = vec![UNTOUCHED; model.parameter_count().unwrap()];
    model.get_parameters(&mut weights).unwrap();
    assert_eq!(bits(&parameters(network)), bits(&weights), "weights");
    assert_eq!(run(network).map(|values| bits(&values)), rust_run(model).map(|values| bits(&values)));
}

/// A tape's output with dropout active, and all its gradients: by the weights, the input and the initial states.
fn tape(network: &Network) -> [Vec<f32>; 5] {
    let (x, mut y_len, mut state_len) = (x(), 0, 0);
    let weights = parameters(network).len();
    // SAFETY: live handles, and arrays of the lengths given.
    unsafe {
        ok(elman_sequential_output_len(network.0, BATCH, STEPS, &mut y_len));
        ok(elman_sequential_state_len(network.0, BATCH, &mut state_len));
        let mut tape = null_mut();
        ok(elman_tape_new(network.0, BATCH, STEPS, &mut tape));
        let tape = Handle(tape, elman_tape_free);
        let (t, n) = (tape.0, x.len());
        let [mut y, mut dx, mut gradients, mut initial, mut norms] =
            [y_len, n, weights, state_len, STEPS].map(|len| vec![UNTOUCHED; len]);
        let yes = elman_bool(1);
        ok(elman_tape_forward(t, x.as_ptr(), n, BATCH, STEPS, null(), yes, 11, y.as_mut_ptr(), y_len));
        ok(elman_tape_backward(t, y.as_ptr(), y_len, dx.as_mut_ptr(), n));
        ok(elman_tape_get_gradients(t, gradients.as_mut_ptr(), weights));
        ok(elman_tape_get_initial_state_gradient(t, initial.as_mut_ptr(), state_len));
        ok(elman_tape_gradient_norms(t, 0, norms.as_mut_ptr(), STEPS));
        [y, dx, gradients, initial, norms]
    }
}

fn rust_tape(model: &Sequential) -> [Vec<f32>; 5] {
    let mut tape = Tape::new(model, BATCH, STEPS).unwrap();
    let mut y = vec![UNTOUCHED; model.output_len(BATCH, STEPS).unwrap()];
    let (x, mut norms) = (x(), vec![UNTOUCHED; STEPS]);
    let mut dx = vec![UNTOUCHED; x.len()];
    tape.forward(&x, BATCH, STEPS, RunOptions::default(), true, 11, &mut y).unwrap();
    tape.backward(&y, Some(&mut dx)).unwrap();
    tape.gradient_norms(0, &mut norms).unwrap();
    let gradients = tape.gradients().unwrap().to_vec();
    [y, dx, gradients, tape.initial_state_gradient().unwrap().to_vec(), norms]
}

/// Sets fields of a configuration in C and in Rust, and expects the same bits of weights, outputs, states and gradients.
macro_rules! every_field_is_rust_s {
    ($functions:ident, $layer:ident, { $($field:ident = $value:expr, $method:ident($rust:expr);)* }) => {{
        let mut seen = Vec::new();
        let mut check = |name: &str, config, layer: $layer| {
            let (network, model) = ($functions.network(&config), model(layer));
            same(&network, &model);
            let (got, expected) = (tape(&network), rust_tape(&model));
            assert_eq!(got.each_ref().map(|v| bits(v)), expected.each_ref().map(|v| bits(v)), "{name}");
            let mut all = [parameters(&network), run(&network).concat(), got.concat()].concat();
            all.push(run(&network)[0].iter().sum());
            seen.push((name.to_owned(), bits(&all)));
        };
        check("", $functions.config(UNITS), $layer::new(UNITS));
        $(
            let mut config = $functions.config(UNITS);
            config.$field = $value;
            check(stringify!($field), config, $layer::new(UNITS).$method($rust));
        )*
        // How the steps are walked changes no bit, and a first call of a stateful layer is like any other's.
        for (i, (name, outcome)) in seen.iter().enumerate() {
            let silent = ["", "unroll"].contains(&name.as_str());
            let same = seen[..i].iter().find(|(other, before)| before == outcome && !(silent && other.is_empty()));
            assert!(same.is_none(), "{name} changes nothing beside {same:?}");
        }
        assert_eq!(seen[0].1, seen.iter().find(|(name, _)| name == "unroll").expect("it is tried").1);
    }};
}

#[test]
fn every_field_of_an_lstm_s_config_is_rust_s() {
    let (constant, rust_constant) = (ELMAN_INITIALIZER_CONSTANT, Initializer::Constant { value: 0.25 });
    let initializer = elman_initializer { kind: constant, a: 0.25, b: 0.0 };
    every_field_is_rust_s!(LSTM, Lstm, {
        activation = ELMAN_ACTIVATION_ELU, activation(Activation::Elu);
        use_bias = 0, use_bias(false);
        return_sequences = 1, return_sequences(true);
        go_backwards = 1, go_backwards(true);
        unroll = ELMAN_UNROLL_LOOPED, unroll(Unroll::Looped);
        dropout = 0.5, dropout(0.5);
        recurrent_dropout = 0.5, recurrent_dropout(0.5);
        kernel_initializer = initializer, kernel_initializer(rust_constant);
        recurrent_initializer = initializer, recurrent_initializer(rust_constant);
        bias_initializer = initializer, bias_initializer(rust_constant);
        recurrent_activation = ELMAN_ACTIVATION_HARD_SIGMOID, recurrent_activation(Activation::HardSigmoid);
        unit_forget_bias = 0, unit_forget_bias(false);
    });
}

#[test]
fn every_field_of_a_gru_s_config_is_rust_s() {
    let (constant, rust_constant) = (ELMAN_INITIALIZER_CONSTANT, Initializer::Constant { value: 0.25 });
    let initializer = elman_initializer { kind: constant, a: 0.25, b: 0.0 };
    every_field_is_rust_s!(GRU, Gru, {
        activation = ELMAN_ACTIVATION_ELU, activation(Activation::Elu);
        use_bias = 0, use_bias(false);
        return_sequences = 1, return_sequences(true);
        go_backwards = 1, go_backwards(true);
        unroll = ELMAN_UNROLL_LOOPED, unroll(Unroll::Looped);
        dropout = 0.5, dropout(0.5);
        recurrent_dropout = 0.5, recurrent_dropout(0.5);
        kernel_initializer = initializer, kernel_initializer(rust_constant);
        recurrent_initializer = initializer, recurrent_initializer(rust_constant);
        bias_initializer = initializer, bias_initializer(rust_constant);
        recurrent_activation = ELMAN_ACTIVATION_HARD_SIGMOID, recurrent_activation(Activation::HardSigmoid);
        reset_after = 0, reset_after(false);
    });
}

/// Keras's LSTM and GRU drop nothing at a share of 1.
#[test]
fn a_share_of_one_drops_everything() {
    fn check<Config, Cell>(functions: &Functions<Config, Cell>, [of_inputs, of_states]: [&Config; 2]) {
        let kernel = FEATURES * functions.gates * UNITS;
        let recurrent = kernel..kernel + UNITS * functions.gates * UNITS;
        let [_, dx, gradients, ..] = tape(&functions.network(of_inputs));
        assert!(dx.iter().chain(&gradients[..kernel]).all(|&value| value == 0.0), "{}", functions.name);
        assert!(gradients[recurrent.clone()].iter().any(|&value| value != 0.0));
        let [_, dx, gradients, ..] = tape(&functions.network(of_states));
        assert!(gradients[recurrent].iter().all(|&value| value == 0.0), "{}", functions.name);
        assert!(dx.iter().any(|&value| value != 0.0));
    }
    let (mut inputs, mut states) = (LSTM.config(UNITS), LSTM.config(UNITS));
    (inputs.dropout, states.recurrent_dropout) = (1.0, 1.0);
    // Without inputs a state that begins with zeros would stay there.
    (inputs.bias_initializer, states.bias_initializer) = (ONES, ONES);
    check(&LSTM, [&inputs, &states]);
    let (mut inputs, mut states) = (GRU.config(UNITS), GRU.config(UNITS));
    (inputs.dropout, states.recurrent_dropout) = (1.0, 1.0);
    (inputs.bias_initializer, states.bias_initializer) = (ONES, ONES);
    check(&GRU, [&inputs, &states]);
}

/// What needs two calls, or a mask, to be seen.
#[test]
fn stateful_and_zero_output_for_mask_reach_the_layer() {
    fn check<Config, Cell>(functions: &Functions<Config, Cell>, stateful: &Config, zeros: &Config) {
        let network = functions.network(stateful);
        let [first, states] = run(&network);
        let ([second, _], mut rows) = (run(&network), 0);
        assert_ne!(first, second, "the second call goes on");
        let mut kept = vec![UNTOUCHED; functions.states * BATCH * UNITS];
        // SAFETY: live handles, and arrays of the lengths given.
        unsafe {
            ok(elman_sequential_reset_states(network.0));
            assert_eq!(run(&network)[0], first);
            ok(elman_sequential_get_states(network.0, kept.as_mut_ptr(), kept.len(), &mut rows));
            assert_eq!((rows, &kept), (BATCH, &states));
            ok(elman_sequential_reset_states(network.0));
            ok(elman_sequential_set_states(network.0, BATCH, states.as_ptr(), states.len()));
            assert_eq!(run(&network)[0], second);
            let status = elman_sequential_set_states(network.0, BATCH, states.as_ptr(), states.len() - UNITS);
            fails(status, ELMAN_STATUS_LENGTH_MISMATCH, &["states"]);
        }

        let (network, x, mask) = (functions.network(zeros), x(), [1u8, 0, 1, 0, 1]);
        let (mut options, mut y) = (MaybeUninit::uninit(), [UNTOUCHED; STEPS * UNITS]);
        // SAFETY: live handles, arrays of the lengths given, and a struct that is filled on success.
        unsafe {
            ok(elman_run_options_init(options.as_mut_ptr(), size_of::<elman_run_options>()));
            let mut options: elman_run_options = options.assume_init();
            (options.mask, options.mask_len) = (mask.as_ptr(), STEPS);
            let (n, yp) = (STEPS * FEATURES, y.as_mut_ptr());
            ok(elman_sequential_run(network.0, x.as_ptr(), n, 1, STEPS, &options, yp, y.len()));
        }
        for (row, used) in y.chunks(UNITS).zip(mask) {
            assert_eq!(row.iter().any(|&value| value != 0.0), used == 1, "{}", functions.name);
        }
    }
    let (mut stateful, mut zeros) = (LSTM.config(UNITS), LSTM.config(UNITS));
    stateful.stateful = 1;
    (zeros.return_sequences, zeros.zero_output_for_mask) = (1, 1);
    check(&LSTM, &stateful, &zeros);
    let (mut stateful, mut zeros) = (GRU.config(UNITS), GRU.config(UNITS));
    stateful.stateful = 1;
    (zeros.return_sequences, zeros.zero_output_for_mask) = (1, 1);
    check(&GRU, &stateful, &zeros);
}

#[test]
fn bidirectional_layers_are_rust_s() {
    let modes = [
        (ELMAN_MERGE_MODE_CONCAT, MergeMode::Concat),
        (ELMAN_MERGE_MODE_SUM, MergeMode::Sum),
        (ELMAN_MERGE_MODE_MUL, MergeMode::Mul),
        (ELMAN_MERGE_MODE_AVE, MergeMode::Ave),
        (ELMAN_MERGE_MODE_NONE, MergeMode::None),
    ];
    for (mode, rust_mode) in modes {
        for sequences in [0, 1] {
            let (mut lstm, mut gru) = (LSTM.config(UNITS), GRU.config(UNITS));
            (lstm.return_sequences, gru.return_sequences) = (sequences, sequences);
            // SAFETY: live handles and configurations.
            let (lstm, gru) = unsafe {
                let lstm = network(FEATURES, |network| (LSTM.both)(network, &lstm, mode));
                (lstm, network(FEATURES, |network| (GRU.both)(network, &gru, mode)))
            };
            let rust = Lstm::new(UNITS).return_sequences(sequences == 1);
            same(&lstm, &model(Bidirectional::new(rust).merge_mode(rust_mode)));
            let rust = Gru::new(UNITS).return_sequences(sequences == 1);
            same(&gru, &model(Bidirectional::new(rust).merge_mode(rust_mode)));
        }
    }
    // Forward h, forward c, backward h, backward c; h is the last output of its half.
    // SAFETY: live handles and configurations.
    let network =
        network(FEATURES, |network| unsafe { (LSTM.both)(network, &LSTM.config(UNITS), modes[0].0) });
    let [y, states] = run(&network);
    let state = |array: usize, row: usize| &states[(array * BATCH + row) * UNITS..][..UNITS];
    assert_eq!(states.len(), 4 * BATCH * UNITS);
    for (row, y) in y.chunks(2 * UNITS).enumerate() {
        assert_eq!((&y[..UNITS], &y[UNITS..]), (state(0, row), state(2, row)));
        assert_ne!(state(0, row), state(1, row));
    }
    let mut backwards = LSTM.config(3);
    backwards.go_backwards = 1;
    let refused = empty(2);
    // SAFETY: a live handle and configuration.
    let status = unsafe { (LSTM.both)(refused.0, &backwards, ELMAN_MERGE_MODE_SUM) };
    fails(status, ELMAN_STATUS_INVALID_ARGUMENT, &["go_backwards"]);
}

/// A stack of all kinds of cells below a dense layer.
fn stack() -> (Network, Sequential) {
    let network = network(FEATURES, |network| {
        let (mut lstm, mut gru) = (LSTM.config(UNITS), GRU.config(5));
        (lstm.return_sequences, gru.return_sequences) = (1, 1);
        let mut simple = MaybeUninit::uninit();
        // SAFETY: live handles and configurations, one of which is filled here.
        unsafe {
            ok(elman_simple_rnn_config_init(simple.as_mut_ptr(), size_of::<elman_simple_rnn_config>(), 3));
            ok((LSTM.add)(network, &lstm));
            ok((GRU.add)(network, &gru));
            ok(elman_sequential_add_simple_rnn(network, simple.as_ptr()));
            elman_sequential_add_dense(network, 1, ELMAN_ACTIVATION_LINEAR)
        }
    });
    let model = Sequential::new(FEATURES)
        .add(Lstm::new(UNITS).return_sequences(true))
        .add(Gru::new(5).return_sequences(true))
        .add(elman::SimpleRnn::new(3))
        .add(Dense::new(1))
        .build(7)
        .unwrap();
    (network, model)
}

#[test]
fn stacks_files_streams_and_trainers_are_rust_s() {
    let (network, model) = stack();
    same(&network, &model);
    let x = x();
    assert_eq!(run(&network)[1].len(), BATCH * (2 * UNITS + 5 + 3));

    // The file is the one that Rust writes, and comes back.
    let (mut needed, mut loaded) = (0, null_mut());
    // SAFETY: live handles, and arrays of the lengths given.
    let loaded = unsafe {
        ok(elman_sequential_save_bytes(network.0, null_mut(), 0, &mut needed));
        let mut bytes = vec![0; needed];
        ok(elman_sequential_save_bytes(network.0, bytes.as_mut_ptr(), needed, &mut needed));
        assert_eq!(bytes, model.to_bytes().unwrap());
        ok(elman_sequential_load_bytes(bytes.as_ptr(), bytes.len(), &mut loaded));
        Handle(loaded, elman_sequential_free)
    };
    same(&loaded, &model);

    // A stream, in pieces of 2 and 3 steps, with the state handed to another stream between.
    let row = STEPS * FEATURES;
    let mut rust = Stream::new(&model, 1).unwrap();
    let (mut y, mut expected, mut state) =
        ([UNTOUCHED; 2], [UNTOUCHED; 2], vec![UNTOUCHED; rust.state_len()]);
    rust.run(&x[..2 * FEATURES], 2, &mut expected[..1]).unwrap();
    let mut rust_state = state.clone();
    rust.get_state(&mut rust_state).unwrap();
    rust.run(&x[2 * FEATURES..row], 3, &mut expected[1..]).unwrap();
    // SAFETY: live handles, and arrays of the lengths given.
    unsafe {
        let (mut first, mut second) = (null_mut(), null_mut());
        ok(elman_stream_new(network.0, 1, &mut first));
        ok(elman_stream_new(network.0, 1, &mut second));
        let (first, second) = (Handle(first, elman_stream_free), Handle(second, elman_stream_free));
        ok(elman_stream_run(first.0, x.as_ptr(), 2 * FEATURES, 2, y.as_mut_ptr(), 1));
        ok(elman_stream_get_state(first.0, state.as_mut_ptr(), state.len()));
        assert_eq!(bits(&state), bits(&rust_state));
        let short = elman_stream_set_state(second.0, state.as_ptr(), state.len() - UNITS);
        fails(short, ELMAN_STATUS_LENGTH_MISMATCH, &["state"]);
        ok(elman_stream_set_state(second.0, state.as_ptr(), state.len()));
        ok(elman_stream_run(second.0, x[2 * FEATURES..].as_ptr(), 3 * FEATURES, 3, y[1..].as_mut_ptr(), 1));
    }
    assert_eq!(bits(&y), bits(&expected));
    assert_eq!(y[1].to_bits(), run(&network)[0][0].to_bits(), "and of the whole sequence");
    a_trainer_is_rust_s(&network, model);
}

fn a_trainer_is_rust_s(network: &Network, mut model: Sequential) {
    let (x, target) = (x(), [1.0, 0.0, 1.0]);
    let config = TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError);
    let mut rust = Trainer::new(&model, config).unwrap();
    let (mut trainer, mut loss) = (null_mut(), 0.0);
    // SAFETY: live handles, and arrays of the lengths given.
    unsafe {
        ok(elman_trainer_new(network.0, &trainer_config(), &mut trainer));
        let trainer = Handle(trainer, elman_trainer_free);
        for _ in 0..3 {
            let (xp, n, t) = (x.as_ptr(), x.len(), target.as_ptr());
            ok(elman_trainer_step(trainer.0, xp, n, BATCH, STEPS, t, BATCH, null(), &mut loss));
            let examples = Examples::floats(&x, BATCH, STEPS, &target);
            let expected = rust.step(&mut model, examples, RunOptions::default()).unwrap();
            assert_eq!(loss.to_bits(), expected.to_bits());
        }
    }
    same(network, &model);
}

/// Weights, what the optimizer keeps of them, and both states of an LSTM come back from a checkpoint.
#[test]
fn checkpoints_of_stateful_layers_go_on() {
    let stateful = || {
        let (mut lstm, mut gru) = (LSTM.config(UNITS), GRU.config(1));
        (lstm.return_sequences, lstm.stateful, gru.stateful) = (1, 1, 1);
        network(FEATURES, |network| {
            // SAFETY: live handles and configurations.
            unsafe {
                ok((LSTM.both)(network, &lstm, ELMAN_MERGE_MODE_CONCAT));
                ok((LSTM.add)(network, &lstm));
                (GRU.add)(network, &gru)
            }
        })
    };
    let (x, target, mut needed) = (x(), [0.5, 0.0, -0.5], 0);
    let step = |trainer: &Handle<elman_trainer>| {
        let (xp, t, mut loss) = (x.as_ptr(), target.as_ptr(), 0.0);
        // SAFETY: live handles, and arrays of the lengths given.
        ok(unsafe { elman_trainer_step(trainer.0, xp, x.len(), BATCH, STEPS, t, BATCH, null(), &mut loss) });
        loss.to_bits()
    };
    let (network, other, mut trainer, mut loaded) = (stateful(), stateful(), null_mut(), null_mut());
    // SAFETY: live handles, and arrays of the lengths given.
    let (trainer, loaded) = unsafe {
        ok(elman_trainer_new(network.0, &trainer_config(), &mut trainer));
        let trainer = Handle(trainer, elman_trainer_free);
        let first = step(&trainer);
        assert_ne!(step(&trainer), first);
        ok(elman_trainer_save_bytes(trainer.0, null_mut(), 0, &mut needed));
        let mut bytes = vec![0; needed];
        ok(elman_trainer_save_bytes(trainer.0, bytes.as_mut_ptr(), needed, &mut needed));
        ok(elman_trainer_load_bytes(other.0, bytes.as_ptr(), bytes.len(), &mut loaded));
        (trainer, Handle(loaded, elman_trainer_free))
    };
    assert_eq!(step(&loaded), step(&trainer));
    assert_eq!(bits(&parameters(&other)), bits(&parameters(&network)));
    assert_eq!(run(&other).map(|values| bits(&values)), run(&network).map(|values| bits(&values)));
}

#[test]
fn activations_have_their_numbers_everywhere() {
    let all = [
        (ELMAN_ACTIVATION_LINEAR, 0, Activation::Linear),
        (ELMAN_ACTIVATION_TANH, 1, Activation::Tanh),
        (ELMAN_ACTIVATION_RELU, 2, Activation::Relu),
        (ELMAN_ACTIVATION_SIGMOID, 3, Activation::Sigmoid),
        (ELMAN_ACTIVATION_HARD_SIGMOID, 5, Activation::HardSigmoid),
        (ELMAN_ACTIVATION_HARD_SIGMOID_KERAS2, 6, Activation::HardSigmoidKeras2),
        (ELMAN_ACTIVATION_SOFTPLUS, 7, Activation::Softplus),
        (ELMAN_ACTIVATION_ELU, 8, Activation::Elu),
        (ELMAN_ACTIVATION_LEAKY_RELU, 9, Activation::LeakyRelu),
    ];
    let mut outputs = Vec::new();
    for (activation, number, rust) in all {
        assert_eq!(activation.0, number);
        let (mut lstm, mut gru) = (LSTM.config(UNITS), GRU.config(UNITS));
        (lstm.recurrent_activation, gru.activation) = (activation, activation);
        (lstm.return_sequences, gru.recurrent_activation) = (1, activation);
        let network = network(FEATURES, |network| {
            // SAFETY: live handles and configurations.
            unsafe {
                ok((LSTM.add)(network, &lstm));
                ok((GRU.add)(network, &gru));
                elman_sequential_add_dense(network, 2, activation)
            }
        });
        let lstm = Lstm::new(UNITS).recurrent_activation(rust).return_sequences(true);
        let gru = Gru::new(UNITS).recurrent_activation(rust).activation(rust);
        let stack = Sequential::new(FEATURES).add(lstm).add(gru).add(Dense::new(2).activation(rust));
        same(&network, &stack.build(7).unwrap());
        outputs.push(bits(&run(&network)[0]));
        assert!(!outputs[..outputs.len() - 1].contains(&outputs[outputs.len() - 1]), "{rust:?} is another's");
    }
}

/// A step of C's cell: h and c, of which a GRU has none.
fn lstm_step(cell: &Handle<elman_lstm_cell>, x: &[f32], states: [&[f32]; 2]) -> [Vec<f32>; 2] {
    let [mut h, mut c] = states.map(|state| vec![UNTOUCHED; state.len()]);
    let batch = states[0].len() / UNITS;
    let [hp, cp] = states.map(<[f32]>::as_ptr);
    let (hn, cn) = (h.as_mut_ptr(), c.as_mut_ptr());
    let n = h.len();
    // SAFETY: live handles, and arrays of the lengths given.
    ok(unsafe { elman_lstm_cell_step(cell.0, x.as_ptr(), x.len(), hp, n, cp, n, batch, hn, n, cn, n) });
    [h, c]
}

#[test]
fn an_lstm_cell_has_the_bits_of_rust_s_and_of_the_layer() {
    let (config, x) = (LSTM.config(UNITS), x());
    let cell = LSTM.cell(&config, FEATURES);
    let rust = LstmCell::new(Lstm::new(UNITS), FEATURES, 1).unwrap();
    let network = LSTM.network(&config);
    // The network's weights have another seed.
    for (which, rust_which) in [
        (ELMAN_WEIGHT_KERNEL, Weight::Kernel),
        (ELMAN_WEIGHT_RECURRENT_KERNEL, Weight::RecurrentKernel),
        (ELMAN_WEIGHT_BIAS, Weight::Bias),
    ] {
        let expected = rust.weight(rust_which).unwrap();
        let mut values = vec![UNTOUCHED; expected.values().len()];
        let n = values.len();
        // SAFETY: live handles, and arrays of the lengths given.
        unsafe {
            ok(elman_lstm_cell_get_weight(cell.0, which, values.as_mut_ptr(), n));
            assert_eq!(values, expected.values());
            ok(elman_sequential_set_weight(network.0, 0, which, values.as_ptr(), n));
        }
    }
    let (mut h, mut c) = (vec![0.0; BATCH * UNITS], vec![0.0; BATCH * UNITS]);
    for step in 0..STEPS {
        let now: Vec<f32> =
            (0..BATCH).flat_map(|row| &x[(row * STEPS + step) * FEATURES..][..FEATURES]).copied().collect();
        let apart = lstm_step(&cell, &now, [&h, &c]);
        let (mut rust_h, mut rust_c) = (vec![0.0; h.len()], vec![0.0; c.len()]);
        rust.step(&now, [&h, &c], BATCH, [&mut rust_h, &mut rust_c]).unwrap();
        assert_eq!(bits(&apart.concat()), bits(&[rust_h, rust_c].concat()));
        // In place: h alone, c alone, both.
        let (xp, m, n) = (now.as_ptr(), now.len(), h.len());
        for [h_in_place, c_in_place] in [[true, false], [false, true], [true, true]] {
            let [mut h_before, mut c_before] = [h.clone(), c.clone()];
            let [mut h_next, mut c_next] = [vec![UNTOUCHED; n], vec![UNTOUCHED; n]];
            let (hp, cp) = (h_before.as_mut_ptr(), c_before.as_mut_ptr());
            let hn = if h_in_place { hp } else { h_next.as_mut_ptr() };
            let cn = if c_in_place { cp } else { c_next.as_mut_ptr() };
            // SAFETY: live handles, and arrays of the lengths given.
            unsafe {
                ok(elman_lstm_cell_step(cell.0, xp, m, hp, n, cp, n, BATCH, hn, n, cn, n));
                let got = [hn, cn].map(|state| std::slice::from_raw_parts(state, n).to_vec());
                assert_eq!(bits(&got.concat()), bits(&apart.concat()), "{h_in_place} {c_in_place}");
            }
        }
        [h, c] = apart;
    }
    let [y, states] = run(&network);
    assert_eq!(bits(&h), bits(&y));
    assert_eq!(bits(&[h, c].concat()), bits(&states));
}

#[test]
fn a_gru_cell_has_the_bits_of_rust_s_and_of_the_layer() {
    for reset_after in [true, false] {
        let (mut config, x) = (GRU.config(UNITS), x());
        config.reset_after = reset_after.into();
        let cell = GRU.cell(&config, FEATURES);
        let rust = GruCell::new(Gru::new(UNITS).reset_after(reset_after), FEATURES, 1).unwrap();
        let network = GRU.network(&config);
        for (which, rust_which) in [
            (ELMAN_WEIGHT_KERNEL, Weight::Kernel),
            (ELMAN_WEIGHT_RECURRENT_KERNEL, Weight::RecurrentKernel),
            (ELMAN_WEIGHT_BIAS, Weight::Bias),
        ] {
            let expected = rust.weight(rust_which).unwrap();
            let mut values = vec![UNTOUCHED; expected.values().len()];
            let (mut rows, mut columns, n) = (0, 0, values.len());
            // SAFETY: live handles, and arrays of the lengths given.
            unsafe {
                ok(elman_gru_cell_get_weight(cell.0, which, values.as_mut_ptr(), n));
                assert_eq!(values, expected.values());
                ok(elman_sequential_set_weight(network.0, 0, which, values.as_ptr(), n));
                ok(elman_sequential_weight_shape(network.0, 0, which, &mut rows, &mut columns));
            }
            assert_eq!([rows, columns], expected.shape());
        }
        let mut h = vec![0.0; BATCH * UNITS];
        let n = h.len();
        for step in 0..STEPS {
            let now: Vec<f32> = (0..BATCH)
                .flat_map(|row| &x[(row * STEPS + step) * FEATURES..][..FEATURES])
                .copied()
                .collect();
            let (mut next, mut rust_next, mut in_place) = (vec![UNTOUCHED; n], vec![0.0; n], h.clone());
            rust.step(&now, &h, BATCH, &mut rust_next).unwrap();
            let (xp, m, same) = (now.as_ptr(), now.len(), in_place.as_mut_ptr());
            // SAFETY: live handles, and arrays of the lengths given.
            unsafe {
                ok(elman_gru_cell_step(cell.0, xp, m, h.as_ptr(), n, BATCH, next.as_mut_ptr(), n));
                ok(elman_gru_cell_step(cell.0, xp, m, same, n, BATCH, same, n));
            }
            assert_eq!(bits(&next), bits(&rust_next));
            assert_eq!(bits(&in_place), bits(&rust_next));
            h = next;
        }
        assert_eq!(run(&network).map(|values| bits(&values)), [bits(&h), bits(&h)]);
    }
}

#[test]
fn weights_of_cells_go_in_and_come_out() {
    fn check<Config, Cell>(functions: &Functions<Config, Cell>) {
        let cell = functions.cell(&functions.config(3), 2);
        let columns = functions.gates * 3;
        let weights = [
            (ELMAN_WEIGHT_KERNEL, 2 * columns),
            (ELMAN_WEIGHT_RECURRENT_KERNEL, 3 * columns),
            (ELMAN_WEIGHT_BIAS, functions.bias_rows * columns),
        ];
        let invalid = ELMAN_STATUS_INVALID_ARGUMENT;
        let mut room = [UNTOUCHED; 64];
        // SAFETY: live handles, and arrays that are at least as long as is asked for.
        unsafe {
            for (which, len) in weights {
                let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
                let mut read = vec![UNTOUCHED; len];
                ok((functions.set)(cell.0, which, values.as_ptr(), len));
                ok((functions.get)(cell.0, which, read.as_mut_ptr(), len));
                assert_eq!(read, values);
                for wrong in [len - 1, len + 1, 0, usize::MAX] {
                    let words = ["values", &wrong.to_string()];
                    let (set, get) = (functions.set, functions.get);
                    fails(set(cell.0, which, room.as_ptr(), wrong), ELMAN_STATUS_LENGTH_MISMATCH, &words);
                    fails(get(cell.0, which, room.as_mut_ptr(), wrong), ELMAN_STATUS_LENGTH_MISMATCH, &words);
                }
                ok((functions.get)(cell.0, which, read.as_mut_ptr(), len));
                assert_eq!(read, values, "a refused weight changes nothing");
            }
            let (room, embedding) = (room.as_mut_ptr(), ELMAN_WEIGHT_EMBEDDING);
            fails((functions.get)(cell.0, elman_weight(7), room, 6), invalid, &["7", "weight"]);
            fails((functions.set)(cell.0, elman_weight(7), room, 6), invalid, &["7", "weight"]);
            fails((functions.get)(cell.0, embedding, room, 6), invalid, &["embedding"]);
            fails((functions.set)(cell.0, embedding, room, 6), invalid, &["embedding"]);
            let bad = misaligned::<f32>(room);
            fails((functions.get)(cell.0, weights[0].0, bad, 6), invalid, &["values", "multiple of"]);
            fails((functions.set)(cell.0, weights[0].0, bad, 6), invalid, &["values", "multiple of"]);
        }
        untouched(&room);
    }
    check(&LSTM);
    check(&GRU);
}

#[test]
fn null_and_zero_sizes_are_named() {
    fn check<Config, Cell>(functions: &Functions<Config, Cell>, zero_units: &Config) {
        let (config, network) = (functions.config(3), empty(2));
        let cell = functions.cell(&config, 2);
        let null_pointer = |status, word| fails(status, ELMAN_STATUS_NULL_POINTER, &[word, "NULL"]);
        let invalid = |status, word| fails(status, ELMAN_STATUS_INVALID_ARGUMENT, &[word]);
        let (sum, kernel, mut y) = (ELMAN_MERGE_MODE_SUM, ELMAN_WEIGHT_KERNEL, [UNTOUCHED; 64]);
        let (mut out, yp, len) = (null_mut(), y.as_mut_ptr(), 2 * 3 * functions.gates);
        let mut filled = functions.config(3);
        let Functions { init, add, both, new, get, set, free, .. } = *functions;
        // SAFETY: what is not NULL is live and long enough; NULL is the mistake that the library catches.
        unsafe {
            free(null_mut());
            null_pointer(init(null_mut(), size_of::<Config>(), 3), "config");
            null_pointer(add(null_mut(), &config), "network");
            null_pointer(add(network.0, null()), "config");
            null_pointer(both(null_mut(), &config, sum), "network");
            null_pointer(both(network.0, null(), sum), "config");
            null_pointer(new(null(), 2, 1, &mut out), "config");
            null_pointer(new(&config, 2, 1, null_mut()), "out");
            null_pointer(get(null(), kernel, yp, len), "cell");
            null_pointer(get(cell.0, kernel, null_mut(), len), "values");
            null_pointer(set(null_mut(), kernel, yp, len), "cell");
            null_pointer(set(cell.0, kernel, null(), len), "values");

            invalid(init(&mut filled, size_of::<Config>(), 0), "units");
            invalid(add(network.0, zero_units), "units");
            invalid(both(network.0, zero_units, sum), "units");
            invalid(new(zero_units, 2, 1, &mut out), "units");
            invalid(new(&config, 0, 1, &mut out), "input size");
            invalid(new(&config, usize::MAX, 1, &mut out), "overflow");
            invalid(both(network.0, &config, elman_merge_mode(5)), "merge mode");
            invalid(add(misaligned(network.0), &config), "network");
            assert_eq!(elman_sequential_layer_count(network.0), 0, "a refused layer is not added");
        }
        assert!(out.is_null());
        untouched(&y);
    }
    let (mut lstm, mut gru) = (LSTM.config(3), GRU.config(3));
    (lstm.units, gru.units) = (0, 0);
    check(&LSTM, &lstm);
    check(&GRU, &gru);
    // A number of columns that overflows where the units do not.
    let (mut lstm, mut gru) = (LSTM.config(usize::MAX / 3), GRU.config(usize::MAX / 2));
    (lstm.use_bias, gru.use_bias) = (0, 0);
    let network = empty(2);
    // SAFETY: live handles and configurations.
    unsafe {
        fails((LSTM.add)(network.0, &lstm), ELMAN_STATUS_INVALID_ARGUMENT, &["overflow"]);
        fails((GRU.add)(network.0, &gru), ELMAN_STATUS_INVALID_ARGUMENT, &["overflow"]);
        assert_eq!(elman_sequential_layer_count(network.0), 0);
    }
}

/// Expects a configuration with a wrong field to be refused wherever one is taken.
macro_rules! refused {
    ($functions:ident, $own:ident) => {{
        let softmax = ELMAN_ACTIVATION_SOFTMAX;
        refused!($functions, activation = elman_activation(10), ["10", "activation"]);
        refused!($functions, recurrent_activation = elman_activation(u32::MAX), ["4294967295", "activation"]);
        refused!($functions, activation = softmax, ["softmax"]);
        refused!($functions, recurrent_activation = softmax, ["softmax"]);
        refused!($functions, unroll = elman_unroll(3), ["3", "unroll"]);
        refused!($functions, use_bias = 2, ["use_bias", "2"]);
        refused!($functions, return_sequences = 255, ["return_sequences", "255"]);
        refused!($functions, go_backwards = 7, ["go_backwards", "7"]);
        refused!($functions, stateful = 7, ["stateful", "7"]);
        refused!($functions, zero_output_for_mask = 7, ["zero_output_for_mask", "7"]);
        refused!($functions, $own = 7, [stringify!($own), "7"]);
        refused!($functions, dropout = 1.5, ["dropout", "1.5"]);
        refused!($functions, dropout = f32::NAN, ["dropout", "NaN"]);
        refused!($functions, recurrent_dropout = -0.25, ["recurrent_dropout", "-0.25"]);
        let unknown = elman_initializer { kind: elman_initializer_kind(13), a: 0.0, b: 0.0 };
        refused!($functions, kernel_initializer = unknown, ["13", "kernel_initializer"]);
        refused!($functions, recurrent_initializer = unknown, ["13", "recurrent_initializer"]);
        refused!($functions, bias_initializer = unknown, ["13", "bias_initializer"]);
        let orthogonal = elman_initializer { kind: ELMAN_INITIALIZER_ORTHOGONAL, a: 1.0, b: 0.0 };
        refused!($functions, bias_initializer = orthogonal, ["bias"]);
        refused!($functions, struct_size = 8, ["struct_size is 8"]);
    }};
    ($functions:ident, $field:ident = $value:expr, $words:expr) => {{
        let (mut wrong, mut out, network) = ($functions.config(3), null_mut(), empty(2));
        wrong.$field = $value;
        let invalid = |status| fails(status, ELMAN_STATUS_INVALID_ARGUMENT, &$words);
        // SAFETY: every pointer is live.
        unsafe {
            invalid(($functions.new)(&wrong, 2, 1, &mut out));
            invalid(($functions.add)(network.0, &wrong));
            invalid(($functions.both)(network.0, &wrong, ELMAN_MERGE_MODE_SUM));
            assert!(out.is_null());
            assert_eq!(elman_sequential_layer_count(network.0), 0);
        }
    }};
}

#[test]
fn wrong_fields_are_refused() {
    refused!(LSTM, unit_forget_bias);
    refused!(GRU, reset_after);
}

/// A struct as an older or newer program has it: `size` bytes filled, and bytes behind them that are not the struct's.
#[test]
fn configs_of_every_size_are_read_and_written_within_it() {
    fn check<Config, Cell>(functions: &Functions<Config, Cell>) {
        let (full, len) = (size_of::<Config>(), functions.bias_rows * functions.gates * 3);
        let bias = |config: *const Config| {
            let (mut cell, mut values) = (null_mut(), vec![UNTOUCHED; len]);
            // SAFETY: the configuration is as long as it says; live handles, and an array of the length given.
            unsafe {
                ok((functions.new)(config, 2, 1, &mut cell));
                let cell = Handle(cell, functions.free);
                ok((functions.get)(cell.0, ELMAN_WEIGHT_BIAS, values.as_mut_ptr(), len));
            }
            values
        };
        let expected = bias(&functions.config(3));
        for size in 0..=full + 40 {
            // No valid flag or enum; the defaults stand in for what lies behind struct_size.
            let mut memory = vec![0xABAB_ABAB_ABAB_ABAB_u64; 64];
            // SAFETY: the memory is larger than the struct and aligned for it.
            let status = unsafe { (functions.init)(memory.as_mut_ptr().cast(), size, 3) };
            let bytes: Vec<u8> = memory.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let filled = if size < 2 * size_of::<usize>() { 0 } else { size.min(full) };
            assert!(bytes[filled..].iter().all(|&byte| byte == 0xAB), "size {size}: wrote behind {filled}");
            if filled == 0 {
                fails(status, ELMAN_STATUS_INVALID_ARGUMENT, &["struct_size", &size.to_string()]);
                continue;
            }
            ok(status);
            assert_eq!(memory[0] as usize, filled, "struct_size is what is filled");
            assert_eq!(bias(memory.as_ptr().cast()), expected, "size {size}");
        }
    }
    check(&LSTM);
    check(&GRU);
}

/// The array of a step by hand that is wrong, and how.
#[derive(Clone, Copy)]
struct Arrays {
    x: (*const f32, usize),
    h: (*const f32, usize),
    c: (*const f32, usize),
    h_next: (*mut f32, usize),
    c_next: (*mut f32, usize),
    batch: usize,
}

impl Arrays {
    /// # Safety
    /// What is not wrong is live and long enough.
    unsafe fn lstm(self, cell: *const elman_lstm_cell) -> elman_status {
        let Self { x, h, c, h_next, c_next, batch } = self;
        // SAFETY: the caller's duty is the same.
        unsafe {
            elman_lstm_cell_step(
                cell, x.0, x.1, h.0, h.1, c.0, c.1, batch, h_next.0, h_next.1, c_next.0, c_next.1,
            )
        }
    }

    /// # Safety
    /// What is not wrong is live and long enough.
    unsafe fn gru(self, cell: *const elman_gru_cell) -> elman_status {
        let Self { x, h, h_next, batch, .. } = self;
        // SAFETY: the caller's duty is the same.
        unsafe { elman_gru_cell_step(cell, x.0, x.1, h.0, h.1, batch, h_next.0, h_next.1) }
    }
}

/// Two rows of two features and three units: what a step is refused for, by each array.
#[test]
fn wrong_arrays_of_a_step_are_refused() {
    let (lstm, gru) = (LSTM.cell(&LSTM.config(3), 2), GRU.cell(&GRU.config(3), 2));
    let (input, mut room) = ([0.5f32; 16], [UNTOUCHED; 32]);
    let (p, out) = (input.as_ptr(), room.as_mut_ptr());
    let right = Arrays {
        x: (p, 4),
        h: (p, 6),
        c: (p, 6),
        h_next: (out, 6),
        c_next: (out.wrapping_add(6), 6),
        batch: 2,
    };
    let wrong = |arrays: Arrays, of_gru: bool, status: elman_status, words: &[&str]| {
        // SAFETY: live handles and arrays, but for the mistake that the library catches.
        unsafe {
            fails(arrays.lstm(lstm.0), status, words);
            if of_gru {
                fails(arrays.gru(gru.0), status, words);
            }
        }
    };
    let null_pointer = ELMAN_STATUS_NULL_POINTER;
    // SAFETY: NULL is the mistake that the library catches.
    unsafe {
        fails(right.lstm(null()), null_pointer, &["cell", "NULL"]);
        fails(right.gru(null()), null_pointer, &["cell", "NULL"]);
    }
    wrong(Arrays { x: (null(), 4), ..right }, true, null_pointer, &["x", "NULL"]);
    wrong(Arrays { h: (null(), 6), ..right }, true, null_pointer, &["h", "NULL"]);
    wrong(Arrays { c: (null(), 6), ..right }, false, null_pointer, &["c", "NULL"]);
    wrong(Arrays { h_next: (null_mut(), 6), ..right }, true, null_pointer, &["h_next", "NULL"]);
    wrong(Arrays { c_next: (null_mut(), 6), ..right }, false, null_pointer, &["c_next", "NULL"]);

    let invalid = ELMAN_STATUS_INVALID_ARGUMENT;
    let (bad, bad_out) = (misaligned(p), misaligned::<f32>(out));
    wrong(Arrays { x: (bad, 4), ..right }, true, invalid, &["x", "multiple of"]);
    wrong(Arrays { h: (bad, 6), ..right }, true, invalid, &["h", "multiple of"]);
    wrong(Arrays { c: (bad, 6), ..right }, false, invalid, &["c", "multiple of"]);
    wrong(Arrays { h_next: (bad_out, 6), ..right }, true, invalid, &["h_next", "multiple of"]);
    wrong(Arrays { c_next: (bad_out, 6), ..right }, false, invalid, &["c_next", "multiple of"]);
    let none = Arrays { x: (p, 0), h: (p, 0), c: (p, 0), h_next: (out, 0), c_next: (out, 0), batch: 0 };
    wrong(none, true, invalid, &["batch"]);
    wrong(Arrays { batch: usize::MAX, ..right }, true, invalid, &["overflow"]);
    // 2 x batch is 0 when it wraps.
    wrong(Arrays { batch: usize::MAX / 2 + 1, ..none }, true, invalid, &["overflow"]);

    let mismatch = ELMAN_STATUS_LENGTH_MISMATCH;
    for len in [5, 7, 0, usize::MAX] {
        let words = |what| [what, if len == usize::MAX { "18446744073709551615" } else { "expected 6" }];
        wrong(Arrays { h: (p, len), ..right }, true, mismatch, &words("h")[..1]);
        wrong(Arrays { c: (p, len), ..right }, false, mismatch, &words("c")[..1]);
        wrong(Arrays { h_next: (out, len), ..right }, true, mismatch, &words("h_next")[..1]);
        wrong(Arrays { c_next: (out, len), ..right }, false, mismatch, &words("c_next")[..1]);
    }
    for len in [3, 5, 0, usize::MAX] {
        wrong(Arrays { x: (p, len), ..right }, true, mismatch, &["x", &len.to_string()]);
    }

    // Inputs may share; of the outputs each may be its own state, and nothing else.
    let overlap = ELMAN_STATUS_OVERLAP;
    for shift in [0usize, 1, 5] {
        let near = out.wrapping_add(shift).cast_const();
        wrong(Arrays { x: (near, 4), ..right }, true, overlap, &["h_next", "x"]);
        wrong(Arrays { c: (near, 6), ..right }, false, overlap, &["h_next", "c"]);
        let near = near.wrapping_add(6);
        wrong(Arrays { x: (near, 4), ..right }, false, overlap, &["c_next", "x"]);
        wrong(Arrays { h: (near, 6), ..right }, false, overlap, &["c_next", "h"]);
        let c_next = (out.wrapping_add(shift), 6);
        wrong(Arrays { c_next, ..right }, false, overlap, &["c_next", "h_next"]);
    }
    wrong(Arrays { h: (out.wrapping_add(1), 6), ..right }, true, overlap, &["h_next", "h"]);
    wrong(Arrays { c: (out.wrapping_add(7), 6), ..right }, false, overlap, &["c_next", "c"]);
    untouched(&room);
    // SAFETY: live handles and arrays.
    unsafe {
        ok(right.lstm(lstm.0));
        ok(Arrays { h: (out, 6), ..right }.gru(gru.0));
    }
}

#[test]
fn the_summary_and_errors_name_the_layers() {
    let (network, mut text, mut len) = (stack().0, vec![0u8; 4096], 0);
    // SAFETY: live handles, and text with the room it claims.
    unsafe {
        ok(elman_sequential_summary(network.0, text.as_mut_ptr().cast(), text.len(), null_mut()));
        let text = CStr::from_bytes_until_nul(&text).expect("a nul byte").to_str().expect("UTF-8");
        assert!(text.contains("lstm") && text.contains("gru") && text.contains("simple_rnn"), "{text}");
        // Sequences are asked of the layer below.
        let flat = empty(2);
        ok((LSTM.add)(flat.0, &LSTM.config(3)));
        fails((GRU.add)(flat.0, &GRU.config(3)), ELMAN_STATUS_INVALID_ARGUMENT, &["return_sequences"]);
        assert!(!last_error().is_empty());
        fails(elman_sequential_state_len(flat.0, 1, &mut len), ELMAN_STATUS_NOT_BUILT, &["build"]);
        // A file that is none.
        let mut none = null_mut();
        let path = CString::new("no/such/lstm.safetensors").expect("no nul byte");
        fails(elman_sequential_load(path.as_ptr(), &mut none), ELMAN_STATUS_IO, &["lstm.safetensors"]);
    }
}
