//! Training through the C ABI has the bits of training in Rust, and its mistakes have their statuses.

mod common;

use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};

use common::c::{UNTOUCHED, fails, ok, trainer_config as config};
use elman::ffi::*;
use elman::{
    Activation, Clipping, Dense, Embedding, Examples, Fit, Loss, Optimizer, RunOptions, Schedule, Sequential,
    SimpleRnn, Tape, Trainer, TrainerConfig, Truncation, Weight,
};

const BATCH: usize = 3;
const STEPS: usize = 5;

fn x() -> Vec<f32> {
    (0..BATCH * STEPS * 4).map(|i| (i as f32 * 0.37).sin()).collect()
}

fn model() -> Sequential {
    let rnn = SimpleRnn::new(6).dropout(0.5);
    Sequential::new(4).add(rnn).add(Dense::new(1).activation(Activation::Sigmoid)).build(7).unwrap()
}

/// The same network by C's functions.
fn network() -> *mut elman_sequential {
    let mut network = null_mut();
    // SAFETY: every pointer is to a live local of the right type.
    unsafe {
        let mut config = std::mem::zeroed::<elman_simple_rnn_config>();
        ok(elman_simple_rnn_config_init(&mut config, size_of_val(&config), 6));
        config.dropout = 0.5;
        ok(elman_sequential_new(4, &mut network));
        ok(elman_sequential_add_simple_rnn(network, &config));
        ok(elman_sequential_add_dense(network, 1, ELMAN_ACTIVATION_SIGMOID));
        ok(elman_sequential_build(network, 7));
    }
    network
}

const TARGET: [f32; BATCH] = [1.0, 0.0, 1.0];

/// The weights after three steps through C's functions.
///
/// # Safety
/// `config` points to as many bytes as its first field says.
unsafe fn c_trained(config: *const elman_trainer_config) -> Vec<f32> {
    let (network, x, mut trainer, mut loss) = (network(), x(), null_mut(), 0.0);
    // SAFETY: every array is as long as its length says, handles are live; the configuration is the caller's
    // duty.
    unsafe {
        ok(elman_trainer_new(network, config, &mut trainer));
        for _ in 0..3 {
            let (x, target) = ((x.as_ptr(), x.len()), TARGET.as_ptr());
            ok(elman_trainer_step(trainer, x.0, x.1, BATCH, STEPS, target, BATCH, null(), &mut loss));
        }
        let mut count = 0;
        ok(elman_sequential_parameter_count(network, &mut count));
        let mut parameters = vec![0.0; count];
        ok(elman_sequential_get_parameters(network, parameters.as_mut_ptr(), count));
        elman_trainer_free(trainer);
        elman_sequential_free(network);
        parameters
    }
}

/// The weights after three steps in Rust.
fn trained(config: TrainerConfig) -> Vec<f32> {
    let (mut model, x) = (model(), x());
    let mut trainer = Trainer::new(&model, config).unwrap();
    for _ in 0..3 {
        let examples = Examples::floats(&x, BATCH, STEPS, &TARGET);
        trainer.step(&mut model, examples, RunOptions::default()).unwrap();
    }
    let mut parameters = vec![0.0; model.parameter_count().unwrap()];
    model.get_parameters(&mut parameters).unwrap();
    parameters
}

#[test]
fn every_field_of_the_config_reaches_the_trainer() {
    let plain = |optimizer| TrainerConfig::new(optimizer, Loss::MeanSquaredError);
    let adam = plain(Optimizer::adam());
    let scheduled = |schedule| adam.schedule(schedule);
    let exponential =
        |staircase| Schedule::Exponential { initial: 0.02, decay_steps: 2, decay_rate: 0.25, staircase };
    type Change = fn(&mut elman_trainer_config);
    let cases: [(Change, TrainerConfig); 20] = [
        (|_| (), adam),
        (|c| c.optimizer = ELMAN_OPTIMIZER_SGD, plain(Optimizer::sgd())),
        (
            |c| (c.optimizer, c.momentum, c.nesterov) = (ELMAN_OPTIMIZER_SGD, 0.5, 1),
            plain(Optimizer::Sgd { momentum: 0.5, nesterov: true }),
        ),
        (|c| c.optimizer = ELMAN_OPTIMIZER_RMSPROP, plain(Optimizer::rmsprop())),
        (
            |c| {
                (c.optimizer, c.beta_2, c.momentum) = (ELMAN_OPTIMIZER_RMSPROP, 0.75, 0.5);
                (c.epsilon, c.centered) = (1e-3, 1);
            },
            plain(Optimizer::RmsProp { rho: 0.75, momentum: 0.5, epsilon: 1e-3, centered: true }),
        ),
        (
            |c| (c.beta_1, c.beta_2, c.epsilon, c.amsgrad) = (0.5, 0.25, 1e-3, 1),
            plain(Optimizer::Adam { beta_1: 0.5, beta_2: 0.25, epsilon: 1e-3, amsgrad: true }),
        ),
        (|c| c.optimizer = ELMAN_OPTIMIZER_ADAMW, plain(Optimizer::adamw())),
        (
            |c| {
                (c.optimizer, c.weight_decay, c.amsgrad) = (ELMAN_OPTIMIZER_ADAMW, 0.5, 1);
                c.beta_2 = 0.25;
            },
            plain(Optimizer::AdamW {
                beta_1: 0.9,
                beta_2: 0.25,
                epsilon: 1e-7,
                amsgrad: true,
                weight_decay: 0.5,
            }),
        ),
        (|c| c.learning_rate = 0.5, scheduled(Schedule::Constant(0.5))),
        (
            |c| {
                (c.schedule, c.learning_rate) = (ELMAN_SCHEDULE_EXPONENTIAL, 0.02);
                (c.decay_steps, c.decay_rate) = (2, 0.25);
            },
            scheduled(exponential(false)),
        ),
        (
            |c| {
                (c.schedule, c.learning_rate) = (ELMAN_SCHEDULE_EXPONENTIAL, 0.02);
                (c.decay_steps, c.decay_rate, c.staircase) = (2, 0.25, 1);
            },
            scheduled(exponential(true)),
        ),
        (
            |c| (c.schedule, c.decay_steps, c.alpha) = (ELMAN_SCHEDULE_COSINE, 4, 0.125),
            scheduled(Schedule::Cosine { initial: 0.001, decay_steps: 4, alpha: 0.125, warmup: None }),
        ),
        (
            |c| {
                (c.schedule, c.decay_steps) = (ELMAN_SCHEDULE_COSINE, 4);
                (c.warmup_steps, c.warmup_target) = (2, 0.0625);
            },
            scheduled(Schedule::Cosine {
                initial: 0.0,
                decay_steps: 4,
                alpha: 0.0,
                warmup: Some((0.0625, 2)),
            }),
        ),
        (
            |c| (c.clipping, c.clip_limit) = (ELMAN_CLIPPING_GLOBAL_NORM, 1e-7),
            adam.clipping(Clipping::GlobalNorm(1e-7)),
        ),
        (|c| (c.clipping, c.clip_limit) = (ELMAN_CLIPPING_NORM, 1e-7), adam.clipping(Clipping::Norm(1e-7))),
        (|c| (c.clipping, c.clip_limit) = (ELMAN_CLIPPING_VALUE, 1e-7), adam.clipping(Clipping::Value(1e-7))),
        (|c| c.l1 = 0.5, adam.l1(0.5)),
        (|c| c.l2 = 0.5, adam.l2(0.5)),
        (|c| c.seed = 3, adam.seed(3)),
        (
            |c| c.loss = ELMAN_LOSS_BINARY_CROSSENTROPY,
            adam.loss(Loss::BinaryCrossentropy { from_logits: false }),
        ),
    ];
    let mut all = Vec::new();
    for (i, (change, expected)) in cases.into_iter().enumerate() {
        let mut config = config();
        change(&mut config);
        // SAFETY: the configuration is whole.
        let got = unsafe { c_trained(&config) };
        assert_eq!(got, trained(expected), "case {i}");
        assert!(!all.contains(&got), "case {i} changes nothing");
        all.push(got);
    }
}

/// Truncation through C: a network whose output is a sequence, in pieces of 2 of its 5 steps.
#[test]
fn truncation_reaches_the_trainer() {
    let x = x();
    let target: Vec<f32> = (0..BATCH * STEPS * 2).map(|i| (i as f32 * 0.7).cos()).collect();
    let plain = TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError);
    for (every, back, same) in [(0, 0, None), (2, 0, Some((2, 2))), (2, 3, Some((2, 3)))] {
        let rnn = SimpleRnn::new(2).return_sequences(true);
        let mut model = Sequential::new(4).add(rnn).build(7).unwrap();
        let truncation = same.map(|(every, back)| Truncation::new(every, back));
        let mut trainer = Trainer::new(&model, plain.truncation(truncation)).unwrap();
        let examples = Examples::floats(&x, BATCH, STEPS, &target);
        let expected = trainer.step(&mut model, examples, RunOptions::default()).unwrap();
        let mut expected_parameters = vec![0.0; model.parameter_count().unwrap()];
        model.get_parameters(&mut expected_parameters).unwrap();

        let (mut network, mut c, mut loss) = (null_mut(), null_mut(), 0.0);
        // SAFETY: every array is as long as its length says, handles are live.
        unsafe {
            let mut layer = std::mem::zeroed::<elman_simple_rnn_config>();
            ok(elman_simple_rnn_config_init(&mut layer, size_of_val(&layer), 2));
            layer.return_sequences = 1;
            ok(elman_sequential_new(4, &mut network));
            ok(elman_sequential_add_simple_rnn(network, &layer));
            ok(elman_sequential_build(network, 7));
            let wrong = elman_trainer_config { truncate_every: 3, truncate_back: 2, ..config() };
            assert_eq!(elman_trainer_new(network, &wrong, &mut c), ELMAN_STATUS_INVALID_ARGUMENT);
            let config = elman_trainer_config { truncate_every: every, truncate_back: back, ..config() };
            ok(elman_trainer_new(network, &config, &mut c));
            let (x, target) = ((x.as_ptr(), x.len()), (target.as_ptr(), target.len()));
            ok(elman_trainer_step(c, x.0, x.1, BATCH, STEPS, target.0, target.1, null(), &mut loss));
            let mut parameters = vec![0.0; expected_parameters.len()];
            ok(elman_sequential_get_parameters(network, parameters.as_mut_ptr(), parameters.len()));
            assert_eq!((loss, parameters), (expected, expected_parameters), "every {every}, back {back}");
            elman_trainer_free(c);
            elman_sequential_free(network);
        }
    }
}

#[test]
fn configs_of_every_size_are_read_and_written_within_it() {
    let (full, least) = (size_of::<elman_trainer_config>(), 16);
    let plain = trained(TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError));
    for size in 0..=full + 16 {
        let mut memory = vec![0xABAB_ABAB_ABAB_ABAB_u64; 32];
        // SAFETY: the memory is larger than the struct and aligned for it.
        let status = unsafe { elman_trainer_config_init(memory.as_mut_ptr().cast(), size) };
        let bytes: Vec<u8> = memory.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let filled = if size < least { 0 } else { size.min(full) };
        assert!(bytes[filled..].iter().all(|&byte| byte == 0xAB), "size {size}: wrote behind {filled}");
        let wanted = if filled == 0 { ELMAN_STATUS_INVALID_ARGUMENT } else { ELMAN_STATUS_OK };
        assert_eq!(status, wanted, "size {size}");
        if filled > 0 {
            // What lies behind struct_size is no valid flag or enum; the defaults stand in for it.
            // SAFETY: the memory is larger than the struct.
            assert_eq!(unsafe { c_trained(memory.as_ptr().cast()) }, plain, "size {size}");
        }
    }
}

#[test]
fn a_tape_gives_rust_s_gradients() {
    let x = x();
    let mut y = [0.0; BATCH];
    let mut tape = Tape::new(&model(), BATCH, STEPS).unwrap();
    tape.forward(&x, BATCH, STEPS, RunOptions::default(), true, 9, &mut y).unwrap();
    let mut dx = vec![0.0; x.len()];
    tape.backward(&y, Some(&mut dx)).unwrap();
    let mut norms = [0.0; STEPS];
    tape.gradient_norms(0, &mut norms).unwrap();

    let network = network();
    // SAFETY: every array is as long as its length says, handles are live.
    unsafe {
        let mut c = null_mut();
        ok(elman_tape_new(network, BATCH, STEPS, &mut c));
        let mut count = 0;
        ok(elman_sequential_parameter_count(network, &mut count));
        assert_eq!(count, tape.gradients().unwrap().len());
        let mut parameters = vec![0.0; count];
        ok(elman_sequential_get_parameters(network, parameters.as_mut_ptr(), count));
        let status = elman_sequential_set_parameters(network, parameters.as_ptr(), count - 1);
        assert_eq!(status, ELMAN_STATUS_LENGTH_MISMATCH);
        ok(elman_sequential_set_parameters(network, parameters.as_ptr(), count));
        // The tape keeps the weights alive.
        elman_sequential_free(network);

        let mut c_y = [0.0; BATCH];
        let status = elman_tape_backward(c, y.as_ptr(), BATCH, null_mut(), 0);
        assert_eq!(status, ELMAN_STATUS_INVALID_ARGUMENT, "no forward pass yet");
        let training = elman_bool(1);
        ok(elman_tape_forward(
            c,
            x.as_ptr(),
            x.len(),
            BATCH,
            STEPS,
            null(),
            training,
            9,
            c_y.as_mut_ptr(),
            BATCH,
        ));
        assert_eq!(c_y, y);
        let mut c_dx = vec![0.0; x.len()];
        ok(elman_tape_backward(c, c_y.as_ptr(), BATCH, c_dx.as_mut_ptr(), c_dx.len()));
        assert_eq!(c_dx, dx);
        let mut gradients = vec![0.0; count];
        ok(elman_tape_get_gradients(c, gradients.as_mut_ptr(), count));
        assert_eq!(gradients, tape.gradients().unwrap());
        let mut one = vec![0.0; 36];
        let which = ELMAN_WEIGHT_RECURRENT_KERNEL;
        ok(elman_tape_get_gradient(c, 0, which, one.as_mut_ptr(), 36));
        assert_eq!(one, tape.gradient(0, Weight::RecurrentKernel).unwrap());
        let mut c_norms = [0.0; STEPS];
        ok(elman_tape_gradient_norms(c, 0, c_norms.as_mut_ptr(), STEPS));
        assert_eq!(c_norms, norms);
        let mut initial = vec![0.0; BATCH * 6];
        ok(elman_tape_get_initial_state_gradient(c, initial.as_mut_ptr(), initial.len()));
        assert_eq!(initial, tape.initial_state_gradient().unwrap());
        let mut norm = 0.0;
        ok(elman_tape_clip_by_global_norm(c, 1e-3, &mut norm));
        assert_eq!(norm, tape.clip_by_global_norm(1e-3).unwrap());
        elman_tape_free(c);
        elman_tape_free(null_mut());
    }
}

#[test]
fn a_trainer_takes_rust_s_steps() {
    let x = x();
    let mut rust = model();
    let loss = Loss::BinaryCrossentropy { from_logits: false };
    let rust_config = TrainerConfig::new(Optimizer::adam(), loss).seed(5);
    let mut trainer = Trainer::new(&rust, rust_config).unwrap();
    let network = network();
    // SAFETY: every array is as long as its length says, handles are live.
    unsafe {
        let mut config = config();
        config.loss = ELMAN_LOSS_BINARY_CROSSENTROPY;
        config.seed = 5;
        let mut c = null_mut();
        let wrong = elman_trainer_config { optimizer: elman_optimizer(77), ..config };
        assert_eq!(elman_trainer_new(network, &wrong, &mut c), ELMAN_STATUS_INVALID_ARGUMENT);
        ok(elman_trainer_new(network, &config, &mut c));
        let step = |x: &[f32], loss: &mut f32| {
            elman_trainer_step(c, x.as_ptr(), x.len(), BATCH, STEPS, TARGET.as_ptr(), BATCH, null(), loss)
        };
        let mut loss = 0.0;
        for _ in 0..3 {
            assert_eq!(step(&x, &mut loss), ELMAN_STATUS_OK);
            let examples = Examples::floats(&x, BATCH, STEPS, &TARGET);
            assert_eq!(loss, trainer.step(&mut rust, examples, RunOptions::default()).unwrap());
        }
        let mut parameters = vec![0.0; rust.parameter_count().unwrap()];
        let mut c_parameters = parameters.clone();
        rust.get_parameters(&mut parameters).unwrap();
        let read = |to: &mut [f32]| {
            ok(elman_sequential_get_parameters(network, to.as_mut_ptr(), to.len()));
        };
        read(&mut c_parameters);
        assert_eq!(c_parameters, parameters);
        let mut bad = x.clone();
        bad[3] = f32::NAN;
        assert_eq!(step(&bad, &mut loss), ELMAN_STATUS_NOT_FINITE);
        assert_eq!(step(&x[1..], &mut loss), ELMAN_STATUS_LENGTH_MISMATCH);
        read(&mut c_parameters);
        assert_eq!(c_parameters, parameters);
        elman_trainer_free(c);
        elman_trainer_free(null_mut());
        elman_sequential_free(network);
    }
}

/// On a network whose output is a sequence, so that weights are by step, and on one that reads tokens.
#[test]
fn weights_and_evaluation_are_rust_s() {
    let x = x();
    let ids: Vec<i32> = (0..BATCH * STEPS).map(|i| i as i32 % 9).collect();
    let outputs = BATCH * STEPS;
    let target: Vec<f32> = (0..outputs * 2).map(|i| ((i / 2 + i) % 2) as f32).collect();
    let weights: Vec<f32> = (0..outputs).map(|i| (i % 4) as f32 * 0.5).collect();
    let loss = Loss::CategoricalCrossentropy { from_logits: false };
    for (of_words, loss) in [(false, loss), (true, loss), (false, Loss::MeanSquaredError)] {
        let rnn = SimpleRnn::new(6).return_sequences(true);
        let top = Dense::new(2).activation(Activation::Softmax);
        let mut rust = match of_words {
            true => Sequential::new(1).add(Embedding::new(9, 4).mask_zero(true)),
            false => Sequential::new(4),
        };
        rust = rust.add(rnn).add(top).build(7).unwrap();
        let mut trainer = Trainer::new(&rust, TrainerConfig::new(Optimizer::adam(), loss)).unwrap();
        let plain = match of_words {
            true => Examples::tokens(&ids, BATCH, STEPS, &target),
            false => Examples::floats(&x, BATCH, STEPS, &target),
        };
        let (mut network, mut c) = (null_mut(), null_mut());
        let (mut got, mut accuracy) = (0.0, 0.0);
        let (t, tn, w, wn) = (target.as_ptr(), target.len(), weights.as_ptr(), weights.len());
        let (x, xn, i, n) = (x.as_ptr(), x.len(), ids.as_ptr(), ids.len());
        // SAFETY: every array is as long as its length says, handles are live.
        unsafe {
            let mut config = config();
            if loss != Loss::MeanSquaredError {
                config.loss = ELMAN_LOSS_CATEGORICAL_CROSSENTROPY;
            }
            let mut layer = std::mem::zeroed::<elman_simple_rnn_config>();
            ok(elman_simple_rnn_config_init(&mut layer, size_of_val(&layer), 6));
            layer.return_sequences = 1;
            ok(elman_sequential_new(if of_words { 1 } else { 4 }, &mut network));
            if of_words {
                ok(elman_sequential_add_embedding(network, 9, 4, elman_bool(1)));
            }
            ok(elman_sequential_add_simple_rnn(network, &layer));
            ok(elman_sequential_add_dense(network, 2, ELMAN_ACTIVATION_SOFTMAX));
            ok(elman_sequential_build(network, 7));
            ok(elman_trainer_new(network, &config, &mut c));
            for _ in 0..3 {
                for (w, wn, examples) in [(w, wn, plain.weights(&weights)), (null(), 0, plain)] {
                    let (got, accuracy) = (&mut got, &mut accuracy);
                    ok(match of_words {
                        true => {
                            elman_trainer_evaluate_tokens(c, i, n, BATCH, STEPS, t, tn, w, wn, got, accuracy)
                        }
                        false => elman_trainer_evaluate(c, x, xn, BATCH, STEPS, t, tn, w, wn, got, accuracy),
                    });
                    let score = trainer.evaluate(&rust, examples).unwrap();
                    assert_eq!(*got, score.loss);
                    assert_eq!(Some(*accuracy).filter(|share| !share.is_nan()), score.accuracy);
                    assert_eq!(score.accuracy.is_none(), loss == Loss::MeanSquaredError);
                }
                let (before, got, no) = (got, &mut got, null());
                ok(match of_words {
                    true => elman_trainer_step_weighted_tokens(c, i, n, BATCH, STEPS, t, tn, w, wn, no, got),
                    false => elman_trainer_step_weighted(c, x, xn, BATCH, STEPS, t, tn, w, wn, no, got),
                });
                let examples = plain.weights(&weights);
                assert_eq!(*got, trainer.step(&mut rust, examples, RunOptions::default()).unwrap());
                assert_ne!(*got, before, "weights count");
            }
            // Without a place for it there is no accuracy.
            if !of_words {
                let last = got;
                ok(elman_trainer_evaluate(c, x, xn, BATCH, STEPS, t, tn, w, wn, &mut got, null_mut()));
                assert!(got < last);
            }
            elman_trainer_free(c);
            elman_sequential_free(network);
        }
    }
}

#[test]
fn a_trainer_keeps_its_network_alive() {
    let directory = tempfile::tempdir().unwrap();
    let path = CString::new(directory.path().join("training").into_os_string().into_encoded_bytes()).unwrap();
    let (x, mut losses) = (x(), [[0.0; 2]; 2]);
    for (freed_first, losses) in [false, true].into_iter().zip(&mut losses) {
        let (network, mut trainer) = (network(), null_mut());
        // SAFETY: every array is as long as its length says, handles are live, the path is nul-terminated.
        unsafe {
            ok(elman_trainer_new(network, &config(), &mut trainer));
            if freed_first {
                elman_sequential_free(network);
            }
            for loss in losses {
                let (x, target) = ((x.as_ptr(), x.len()), TARGET.as_ptr());
                ok(elman_trainer_step(trainer, x.0, x.1, BATCH, STEPS, target, BATCH, null(), loss));
            }
            ok(elman_trainer_save(trainer, path.as_ptr()));
            elman_trainer_free(trainer);
            if !freed_first {
                elman_sequential_free(network);
            }
        }
    }
    assert_eq!(losses[0], losses[1]);
    // What was saved last, into a network that is freed before the trainer is used.
    let (network, mut trainer, mut loss) = (network(), null_mut(), 0.0);
    // SAFETY: as above.
    unsafe {
        ok(elman_trainer_load(network, path.as_ptr(), &mut trainer));
        elman_sequential_free(network);
        let (x, target) = ((x.as_ptr(), x.len()), TARGET.as_ptr());
        ok(elman_trainer_step(trainer, x.0, x.1, BATCH, STEPS, target, BATCH, null(), &mut loss));
        elman_trainer_free(trainer);
    }
}

/// A stateful network of 3 and 2 units, the second without states.
fn stateful(seed: u64) -> *mut elman_sequential {
    let mut network = null_mut();
    // SAFETY: every pointer is to a live local of the right type.
    unsafe {
        let mut config = std::mem::zeroed::<elman_simple_rnn_config>();
        ok(elman_simple_rnn_config_init(&mut config, size_of_val(&config), 3));
        (config.stateful, config.return_sequences) = (1, 1);
        ok(elman_sequential_new(4, &mut network));
        ok(elman_sequential_add_simple_rnn(network, &config));
        ok(elman_simple_rnn_config_init(&mut config, size_of_val(&config), 2));
        ok(elman_sequential_add_simple_rnn(network, &config));
        ok(elman_sequential_add_dense(network, 1, ELMAN_ACTIVATION_SIGMOID));
        ok(elman_sequential_build(network, seed));
    }
    network
}

#[test]
fn states_are_got_and_set() {
    const LEN: usize = BATCH * 5;
    let (x, [first, second]) = (x(), [stateful(7), stateful(7)]);
    let (mut states, mut rows, mut y) = ([UNTOUCHED; LEN], 77, [[0.0; BATCH]; 2]);
    let predict = |network: *mut elman_sequential, y: &mut [f32; BATCH]| {
        // SAFETY: every array is as long as its length says, the handle is live.
        ok(unsafe {
            elman_sequential_predict(network, x.as_ptr(), x.len(), BATCH, STEPS, y.as_mut_ptr(), BATCH)
        });
    };
    let to = states.as_mut_ptr();
    // SAFETY: every array is as long as its length says, or the library finds the mistake; handles are live.
    unsafe {
        // None yet.
        ok(elman_sequential_get_states(first, to, LEN, &mut rows));
        assert_eq!((rows, *to), (0, UNTOUCHED));
        predict(first, &mut y[0]);
        rows = 77;
        ok(elman_sequential_get_states(first, null_mut(), 0, &mut rows));
        assert_eq!(rows, BATCH);
        rows = 77;
        for wrong in [LEN - 1, 0] {
            let status = elman_sequential_get_states(first, to, wrong, &mut rows);
            fails(status, ELMAN_STATUS_LENGTH_MISMATCH, &["states", "15"]);
        }
        assert_eq!((rows, *to), (77, UNTOUCHED));
        ok(elman_sequential_get_states(first, to, LEN, &mut rows));
    }
    assert_eq!(rows, BATCH);
    assert!(states[..BATCH * 3].iter().all(|&state| state != 0.0 && state != UNTOUCHED), "{states:?}");
    assert_eq!(states[BATCH * 3..], [0.0; BATCH * 2], "they are not kept");
    // SAFETY: as above.
    unsafe {
        let from = states.as_ptr();
        let wrong = elman_sequential_set_states(second, BATCH, from, LEN - 1);
        fails(wrong, ELMAN_STATUS_LENGTH_MISMATCH, &["states", "15", "14"]);
        fails(elman_sequential_set_states(second, 0, from, 0), ELMAN_STATUS_INVALID_ARGUMENT, &["batch"]);
        let huge = elman_sequential_set_states(second, usize::MAX / 2, from, LEN);
        fails(huge, ELMAN_STATUS_INVALID_ARGUMENT, &["overflows"]);
        ok(elman_sequential_get_states(second, null_mut(), 0, &mut rows));
        assert_eq!(rows, 0);
        ok(elman_sequential_set_states(second, BATCH, from, LEN));
    }
    let [one, other] = &mut y;
    predict(first, one);
    predict(second, other);
    assert_eq!(one, other);

    // With a checkpoint.
    let (mut trainer, mut again, mut loss, mut needed) = (null_mut(), null_mut(), [0.0; 2], 0);
    let third = stateful(8);
    // SAFETY: as above.
    unsafe {
        ok(elman_trainer_new(first, &config(), &mut trainer));
        ok(elman_trainer_set_trainable(trainer, 1, elman_bool(0)));
        ok(elman_trainer_save_bytes(trainer, null_mut(), 0, &mut needed));
        let mut bytes = vec![0u8; needed];
        ok(elman_trainer_save_bytes(trainer, bytes.as_mut_ptr(), needed, &mut needed));
        ok(elman_trainer_load_bytes(third, bytes.as_ptr(), needed, &mut again));
        for (trainer, loss) in [trainer, again].into_iter().zip(&mut loss) {
            for _ in 0..2 {
                let (x, target) = ((x.as_ptr(), x.len()), TARGET.as_ptr());
                ok(elman_trainer_step(trainer, x.0, x.1, BATCH, STEPS, target, BATCH, null(), loss));
            }
        }
        ok(elman_sequential_get_states(third, to, LEN, &mut rows));
        elman_trainer_free(trainer);
        elman_trainer_free(again);
        for network in [first, second, third] {
            elman_sequential_free(network);
        }
    }
    assert_eq!((loss[0], rows), (loss[1], BATCH));
}

/// A handle that other threads may use.
struct Shared(*const elman_sequential);

// SAFETY: it is used by functions that take it const.
unsafe impl Sync for Shared {}

impl Shared {
    /// A closure that calls this holds the whole struct, not the pointer in it.
    fn get(&self) -> *const elman_sequential {
        self.0
    }
}

#[test]
fn others_predict_while_a_trainer_steps() {
    const ROUNDS: usize = 300;
    let (x, mut rust) = (x(), model());
    // What a network that is between two steps says.
    let mut answers = vec![rust.predict(&x, BATCH, STEPS).unwrap()];
    let mut by_rust =
        Trainer::new(&rust, TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError)).unwrap();
    for _ in 0..ROUNDS {
        let examples = Examples::floats(&x, BATCH, STEPS, &TARGET);
        by_rust.step(&mut rust, examples, RunOptions::default()).unwrap();
        answers.push(rust.predict(&x, BATCH, STEPS).unwrap());
    }
    let (network, mut trainer, mut loss) = (network(), null_mut(), 0.0);
    // SAFETY: every array is as long as its length says, handles are live.
    assert_eq!(unsafe { elman_trainer_new(network, &config(), &mut trainer) }, ELMAN_STATUS_OK);
    let (shared, done) = (Shared(network), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let network = shared.get();
                let mut at = 0;
                while !done.load(Ordering::Acquire) {
                    let mut y = vec![0.0; BATCH];
                    // SAFETY: as above; the trainer's steps and this wait for each other.
                    let status = unsafe {
                        let (x, y) = ((x.as_ptr(), x.len()), (y.as_mut_ptr(), y.len()));
                        elman_sequential_predict(network, x.0, x.1, BATCH, STEPS, y.0, y.1)
                    };
                    ok(status);
                    let later = answers[at..].iter().position(|answer| *answer == y);
                    at += later.expect("an answer of no network between two steps");
                }
            });
        }
        for _ in 0..ROUNDS {
            // SAFETY: as above.
            let status = unsafe {
                let (x, target) = ((x.as_ptr(), x.len()), TARGET.as_ptr());
                elman_trainer_step(trainer, x.0, x.1, BATCH, STEPS, target, BATCH, null(), &mut loss)
            };
            ok(status);
        }
        done.store(true, Ordering::Release);
    });
    // SAFETY: nobody uses them any more.
    unsafe {
        elman_sequential_free(network);
        elman_trainer_free(trainer);
    }
}

/// 0 is 0, in the configuration and later.
#[test]
fn learning_rates_of_zero_and_of_the_optimizer() {
    let plain = |optimizer| TrainerConfig::new(optimizer, Loss::MeanSquaredError);
    let mut c = config();
    assert_eq!((c.learning_rate, c.beta_2), (ELMAN_LEARNING_RATE_DEFAULT, ELMAN_BETA_2_DEFAULT));
    c.learning_rate = 0.0;
    let frozen = plain(Optimizer::adam()).schedule(Schedule::Constant(0.0));
    // SAFETY: the configuration is whole.
    assert_eq!(unsafe { c_trained(&c) }, trained(frozen));
    (c.learning_rate, c.beta_2) = (ELMAN_LEARNING_RATE_DEFAULT, 0.0);
    let adam = Optimizer::Adam { beta_1: 0.9, beta_2: 0.0, epsilon: 1e-7, amsgrad: false };
    // SAFETY: as above.
    assert_eq!(unsafe { c_trained(&c) }, trained(plain(adam)));
}

/// Rows by lengths, with states, weights of steps and of classes: a step, an evaluation and a fit in Rust and
/// in C.
#[test]
fn examples_carry_everything_through_c() {
    let x = x();
    let outputs = BATCH * STEPS;
    let target: Vec<f32> = (0..outputs).map(|i| (i % 2) as f32).collect();
    let weights: Vec<f32> = (0..outputs).map(|i| (i % 4) as f32 * 0.5).collect();
    let (lengths, states, by_class) = ([5, 0, 3], [0.25; BATCH * 6], [1.0, 3.0]);
    let build = || {
        let rnn = SimpleRnn::new(6).return_sequences(true);
        Sequential::new(4).add(rnn).add(Dense::new(2).activation(Activation::Softmax)).build(7).unwrap()
    };
    let mut rust = build();
    let loss = Loss::SparseCategoricalCrossentropy { from_logits: false };
    let mut trainer = Trainer::new(&rust, TrainerConfig::new(Optimizer::adam(), loss)).unwrap();
    let examples = Examples::floats(&x, BATCH, STEPS, &target)
        .weights(&weights)
        .class_weights(&by_class)
        .lengths(&lengths)
        .initial_state(&states);
    let (mut network, mut c) = (null_mut(), null_mut());
    // SAFETY: every array is as long as its length says, handles are live.
    unsafe {
        let mut layer = std::mem::zeroed::<elman_simple_rnn_config>();
        ok(elman_simple_rnn_config_init(&mut layer, size_of_val(&layer), 6));
        layer.return_sequences = 1;
        ok(elman_sequential_new(4, &mut network));
        ok(elman_sequential_add_simple_rnn(network, &layer));
        ok(elman_sequential_add_dense(network, 2, ELMAN_ACTIVATION_SOFTMAX));
        ok(elman_sequential_build(network, 7));
        let config = elman_trainer_config { loss: ELMAN_LOSS_SPARSE_CATEGORICAL_CROSSENTROPY, ..config() };
        ok(elman_trainer_new(network, &config, &mut c));
        let mut options = std::mem::zeroed::<elman_run_options>();
        ok(elman_run_options_init(&mut options, size_of_val(&options)));
        (options.lengths, options.lengths_len) = (lengths.as_ptr(), BATCH);
        (options.initial_state, options.initial_state_len) = (states.as_ptr(), states.len());
        let mut rows = std::mem::zeroed::<elman_examples>();
        ok(elman_examples_init(&mut rows, size_of_val(&rows)));
        (rows.x, rows.x_len, rows.batch, rows.steps) = (x.as_ptr(), x.len(), BATCH, STEPS);
        (rows.target, rows.target_len) = (target.as_ptr(), target.len());
        (rows.weights, rows.weights_len) = (weights.as_ptr(), weights.len());
        (rows.class_weights, rows.class_weights_len) = (by_class.as_ptr(), 2);
        rows.options = &options;
        let [mut loss, mut accuracy, mut weighted] = [0.0; 3];
        let score = trainer.evaluate(&rust, examples).unwrap();
        assert_ne!(score.accuracy, score.weighted_accuracy);
        ok(elman_trainer_evaluate_examples(c, &rows, &mut loss, &mut accuracy, &mut weighted));
        assert_eq!(
            (loss, Some(accuracy), Some(weighted)),
            (score.loss, score.accuracy, score.weighted_accuracy)
        );
        let score = trainer.step_scored(&mut rust, examples, RunOptions::default()).unwrap();
        ok(elman_trainer_step_examples(c, &rows, &mut loss, &mut accuracy, &mut weighted));
        assert_eq!(
            (loss, Some(accuracy), Some(weighted)),
            (score.loss, score.accuracy, score.weighted_accuracy)
        );
        ok(elman_trainer_step_examples(c, &rows, &mut loss, null_mut(), null_mut()));
        trainer.step(&mut rust, examples, RunOptions::default()).unwrap();

        let history =
            rust.fit(&mut trainer, examples, Fit::default().epochs(4).batch_size(2).validation(examples));
        let mut fit = std::mem::zeroed::<elman_fit_config>();
        ok(elman_fit_config_init(&mut fit, size_of_val(&fit)));
        let mut seen = Seen { trainer: c, batches: 0, losses: Vec::new(), most: 4 };
        (fit.epochs, fit.batch_size, fit.validation) = (4, 2, &rows);
        fit.on_batch = Some(on_batch);
        fit.on_epoch = Some(on_epoch);
        fit.user = (&raw mut seen).cast();
        let mut epochs = 0;
        ok(elman_trainer_fit(c, &rows, &fit, &mut epochs));
        let expected = history.unwrap();
        let expected: Vec<_> =
            expected.iter().map(|epoch| (epoch.training.loss, epoch.validation.unwrap().loss)).collect();
        assert_eq!((epochs, seen.batches, seen.losses.clone()), (4, 8, expected));
        let mut steps = 0;
        ok(elman_trainer_steps(c, &mut steps));
        assert_eq!(steps, trainer.steps());
        let mut parameters = vec![0.0; rust.parameter_count().unwrap()];
        let mut got = parameters.clone();
        rust.get_parameters(&mut parameters).unwrap();
        ok(elman_sequential_get_parameters(network, got.as_mut_ptr(), got.len()));
        assert_eq!(got, parameters);
        // An answer of false ends it.
        seen.most = 5;
        ok(elman_trainer_fit(c, &rows, &fit, &mut epochs));
        assert_eq!((epochs, seen.losses.len()), (1, 5));
        // What is wrong is said, and the outputs are as they were.
        let mut refused = |change: fn(&mut elman_examples), wanted, words: &[&str]| {
            let mut wrong = rows;
            change(&mut wrong);
            loss = UNTOUCHED;
            fails(elman_trainer_step_examples(c, &wrong, &mut loss, null_mut(), null_mut()), wanted, words);
            fails(
                elman_trainer_evaluate_examples(c, &wrong, &mut loss, null_mut(), null_mut()),
                wanted,
                words,
            );
            fails(elman_trainer_fit(c, &wrong, &fit, null_mut()), wanted, words);
            assert_eq!(loss, UNTOUCHED);
        };
        refused(|wrong| wrong.x_len -= 1, ELMAN_STATUS_LENGTH_MISMATCH, &["x", "59"]);
        refused(|wrong| wrong.target_len += 1, ELMAN_STATUS_LENGTH_MISMATCH, &["target", "16"]);
        refused(|wrong| wrong.weights_len = 3, ELMAN_STATUS_LENGTH_MISMATCH, &["weights", "3"]);
        refused(|wrong| wrong.class_weights_len = 1, ELMAN_STATUS_LENGTH_MISMATCH, &["class_weights", "1"]);
        refused(|wrong| wrong.batch = 0, ELMAN_STATUS_INVALID_ARGUMENT, &["batch"]);
        refused(|wrong| wrong.struct_size = 3, ELMAN_STATUS_INVALID_ARGUMENT, &["struct_size is 3"]);
        refused(|wrong| wrong.target = null(), ELMAN_STATUS_NULL_POINTER, &["target"]);
        refused(|wrong| (wrong.x, wrong.x_len) = (null(), 0), ELMAN_STATUS_NULL_POINTER, &["x"]);
        let both = |wrong: &mut elman_examples| (wrong.ids, wrong.ids_len) = (wrong.x.cast(), 15);
        refused(both, ELMAN_STATUS_INVALID_ARGUMENT, &["exclude"]);
        let place = x.as_ptr().cast_mut();
        let status = elman_trainer_evaluate_examples(c, &rows, place, null_mut(), null_mut());
        fails(status, ELMAN_STATUS_OVERLAP, &["loss", "x"]);
        let (one, other) = (&raw mut loss, &raw mut accuracy);
        let status = elman_trainer_evaluate_examples(c, &rows, one, other, other);
        fails(status, ELMAN_STATUS_OVERLAP, &["weighted_accuracy", "accuracy"]);
        elman_trainer_free(c);
        elman_sequential_free(network);
    }
}

/// What the functions called between the steps have seen.
struct Seen {
    trainer: *mut elman_trainer,
    batches: usize,
    losses: Vec<(f32, f32)>,
    most: usize,
}

unsafe extern "C" fn on_batch(user: *mut c_void, end: *const elman_batch_end) -> elman_bool {
    // SAFETY: what was handed to `fit`, and a struct that is valid during the call.
    let (seen, end) = unsafe { (&mut *user.cast::<Seen>(), &*end) };
    assert_eq!((end.batches, end.batch), (2, seen.batches % 2));
    seen.batches += 1;
    elman_bool(1)
}

unsafe extern "C" fn on_epoch(user: *mut c_void, end: *const elman_epoch_end) -> elman_bool {
    // SAFETY: as above.
    let (seen, end) = unsafe { (&mut *user.cast::<Seen>(), &*end) };
    let mut rate = 0.0;
    // SAFETY: a live handle that the call in progress does not hold.
    unsafe {
        ok(elman_trainer_get_learning_rate(seen.trainer, &mut rate));
        ok(elman_trainer_set_learning_rate(seen.trainer, rate));
    }
    seen.losses.push((end.loss, end.validation_loss));
    elman_bool(u8::from(seen.losses.len() < seen.most))
}
