//! Every operation with every allocation failing that depends on the caller's sizes, one after the other:
//! each failure is said, nothing has been written, and the same object then does the same as one that never
//! failed, bit by bit.
//!
//! With `ELMAN_EVERY=10`, for an emulator, it is every tenth allocation that fails.
//!
//! What is too small to fail here would end the process, as in any Rust program: see
//! [`LARGE`](common::failing::LARGE).

mod common;

use std::process::Stdio;

use common::cells::Cell;
use common::failing::{Failing, failing};
use common::network::{GATED, Recurrent, Rnn};
use common::numbers::values;
use common::programs::{text, this_executable};
use elman::{
    Activation, Bidirectional, Clipping, Dense, Dropout, Embedding, Error, Examples, Fit, Gru, Initializer,
    LastStep, Layer, Loss, Lstm, Masking, MergeMode, Optimizer, Padding, RunOptions, Sequential, SimpleRnn,
    SimpleRnnCell, Stream, Tape, Trainer, TrainerConfig, Truncation, Weight,
};

#[global_allocator]
static ALLOCATOR: Failing = Failing;

type Outcome = Result<(), Error>;

const SENTINEL: f32 = 12345.678;
const FEATURES: usize = 10;
const UNITS: usize = 24;
const VOCABULARY: usize = 600;

/// Of how many allocations one is to fail.
fn every() -> usize {
    std::env::var("ELMAN_EVERY").map_or(1, |every| every.parse().expect("ELMAN_EVERY is a number above 0"))
}

/// `run` on what `fresh` makes, with each of its allocations failing, alone and with all behind it. `len`
/// floats of output.
fn survives<T>(
    what: &str,
    len: usize,
    fresh: impl Fn() -> T,
    mut run: impl FnMut(&mut T, &mut [f32]) -> Outcome,
) {
    let mut expected = vec![SENTINEL; len];
    run(&mut fresh(), &mut expected).unwrap_or_else(|why| panic!("{what}: {why}"));
    let same = |a: &[f32]| a.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
    let mut refused = 0;
    for for_good in [false, true] {
        for n in (0..).step_by(every()) {
            assert!(n < 2000, "{what} does not end");
            let mut object = fresh();
            let mut output = vec![SENTINEL; len];
            let (outcome, failed) = failing(n, for_good, || run(&mut object, &mut output));
            match outcome {
                Ok(()) => {
                    assert!(same(&output), "{what}: other bits, {failed} allocations from {n} on failing")
                }
                Err(Error::OutOfMemory { .. }) => {
                    assert!(failed > 0, "{what}: out of memory without cause");
                    let written = output.iter().filter(|x| x.to_bits() != SENTINEL.to_bits()).count();
                    assert_eq!(written, 0, "{what}: written although allocation {n} failed");
                    run(&mut object, &mut output).unwrap_or_else(|why| panic!("{what} after {n}: {why}"));
                    assert!(same(&output), "{what}: other bits after allocation {n} failed");
                    refused += 1;
                }
                Err(why) => panic!("{what}, allocation {n}: {why}"),
            }
            if failed == 0 {
                break;
            }
        }
    }
    assert!(refused > 0, "{what}: nothing failed");
}

fn sequences(units: usize) -> SimpleRnn {
    SimpleRnn::new(units).return_sequences(true)
}

fn model(threads: usize, input: usize, layers: &[Layer]) -> Sequential {
    let mut model = Sequential::new(input);
    for layer in layers {
        model.push(layer.clone()).expect("the layer fits");
    }
    model.initialize(7).expect("there is memory");
    model.set_threads(threads).expect("threads can be started");
    model
}

/// Stacks that reach every buffer of a run, with the name of each.
fn stacks() -> Vec<(&'static str, Vec<Layer>)> {
    let head = || Dense::new(5).activation(Activation::Softmax).into();
    // Masks of each gate, and one for all.
    let lstm = Lstm::new(UNITS).return_sequences(true).dropout(0.25).recurrent_dropout(0.25);
    let gru = Gru::new(UNITS).return_sequences(true).dropout(0.25);
    vec![
        ("last", vec![sequences(UNITS).into(), SimpleRnn::new(UNITS).into(), head()]),
        ("sequence", vec![sequences(UNITS).into(), sequences(UNITS).into(), head()]),
        ("halves", vec![Bidirectional::new(sequences(UNITS)).into(), head(), SimpleRnn::new(UNITS).into()]),
        (
            "last step",
            vec![
                Bidirectional::new(sequences(UNITS)).into(),
                Dropout::new(0.25).into(),
                LastStep::new().into(),
                head(),
            ],
        ),
        (
            "unmerged",
            vec![
                sequences(UNITS).into(),
                Bidirectional::new(sequences(UNITS)).merge_mode(MergeMode::None).into(),
            ],
        ),
        ("backwards", vec![sequences(UNITS).into(), sequences(UNITS).go_backwards(true).into(), head()]),
        (
            "dropout",
            vec![
                Dropout::new(0.25).into(),
                sequences(UNITS).dropout(0.25).recurrent_dropout(0.25).into(),
                Dropout::new(0.25).into(),
                head(),
            ],
        ),
        ("gated", vec![gru.into(), Lstm::new(UNITS).into(), head()]),
        ("gated halves", vec![lstm.into(), Bidirectional::new(gru.reset_after(false)).into(), head()]),
    ]
}

fn mask(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::from(i % 7 != 2)).collect()
}

fn lengths(rows: usize, steps: usize) -> Vec<usize> {
    (0..rows).map(|row| steps - row * 5 % steps).collect()
}

fn ids(len: usize) -> Vec<i32> {
    (0..len).map(|i| (i * 37 % VOCABULARY) as i32).collect()
}

fn runs(threads: usize, rows: usize, steps: usize) {
    let x = values(1, rows * steps * FEATURES, 1.0);
    let (mask, lengths, ids) = (mask(rows * steps), lengths(rows, steps), ids(rows * steps));
    let mut stacks = stacks();
    if steps < 100 {
        // So wide that threads share its columns; orthogonal weights would take long to make.
        let wide = sequences(520).recurrent_initializer(Initializer::Identity { gain: 0.5 });
        stacks.push(("wide", vec![wide.into()]));
        let wide = Lstm::new(260).recurrent_initializer(Initializer::Identity { gain: 0.5 });
        stacks.push(("wide LSTM", vec![wide.into()]));
    }
    for (name, layers) in stacks {
        let made = || model(threads, FEATURES, &layers);
        let len = made().output_len(rows, steps).unwrap();
        let states = made().state_len(rows).unwrap();
        let initial = values(2, states, 1.0);
        let what = |how: &str| format!("{name}, {how}, {rows} rows, {steps} steps, {threads} threads");
        survives(&what("predict"), len, made, |model, y| {
            y.copy_from_slice(&model.predict(&x, rows, steps)?);
            Ok(())
        });
        // What is there is too small.
        let used = || {
            let model = made();
            model.predict(&x[..FEATURES], 1, 1).unwrap();
            model
        };
        for (how, mask, lengths, padding) in [
            ("plain", None, None, Padding::Keras),
            ("mask", Some(&mask[..]), None, Padding::Keras),
            ("lengths", None, Some(&lengths[..]), Padding::Onnx),
        ] {
            survives(&what(how), len + states, used, |model, y| {
                let (y, states) = y.split_at_mut(len);
                let mut options =
                    RunOptions::default().padding(padding).initial_state(&initial).final_state(states);
                (options.mask, options.lengths) = (mask, lengths);
                model.run(&x, rows, steps, options, y)
            });
        }
    }
    let words =
        [Embedding::new(VOCABULARY, UNITS).mask_zero(true).into(), sequences(UNITS).stateful(true).into()];
    let len = rows * steps * UNITS;
    let what = |how: &str| format!("{how}, {rows} rows, {steps} steps, {threads} threads");
    survives(
        &what("stateful tokens"),
        len,
        || model(threads, 1, &words),
        |model, y| model.predict_tokens_into(&ids, rows, steps, y),
    );
    let masked = [Masking::new(x[3]).into(), sequences(UNITS).into()];
    survives(
        &what("masking"),
        len,
        || model(threads, FEATURES, &masked),
        |model, y| model.predict_into(&x, rows, steps, y),
    );
}

fn tapes(threads: usize, rows: usize, steps: usize) {
    let x = values(1, rows * steps * FEATURES, 1.0);
    let mask = mask(rows * steps);
    for (name, layers) in stacks() {
        let model = model(threads, FEATURES, &layers);
        let len = model.output_len(rows, steps).unwrap();
        let states = model.state_len(rows).unwrap();
        let parameters = model.parameter_count().unwrap();
        let (dy, dstates) = (values(3, len, 1.0), values(4, states, 1.0));
        for mask in [None, Some(&mask[..])] {
            let how = if mask.is_some() { "masked" } else { "plain" };
            let what =
                |op: &str| format!("tape {op}, {name}, {how}, {rows} rows, {steps} steps, {threads} threads");
            let forward = |tape: &mut Tape, y: &mut [f32], states: &mut [f32]| {
                let mut options = RunOptions::default().final_state(states);
                options.mask = mask;
                tape.forward(&x, rows, steps, options, true, 9, y)
            };
            survives(
                &what("new"),
                len + states,
                || (),
                |(), y| {
                    let mut tape = Tape::new(&model, rows, steps)?;
                    let (y, states) = y.split_at_mut(len);
                    forward(&mut tape, y, states)
                },
            );
            let new = || Tape::new(&model, rows, steps).unwrap();
            survives(&what("forward"), len + states, new, |tape, y| {
                let (y, states) = y.split_at_mut(len);
                forward(tape, y, states)
            });
            let gone = || {
                let mut tape = new();
                forward(&mut tape, &mut vec![0.0; len], &mut vec![0.0; states]).unwrap();
                tape
            };
            survives(&what("backward"), x.len() + parameters + states + steps, gone, |tape, out| {
                let (dx, out) = out.split_at_mut(x.len());
                tape.backward_with_state(&dy, Some(&dstates), Some(dx))?;
                let (gradients, out) = out.split_at_mut(parameters);
                gradients.copy_from_slice(tape.gradients()?);
                let (initial, norms) = out.split_at_mut(states);
                initial.copy_from_slice(tape.initial_state_gradient()?);
                let layer = layers.iter().position(|layer| !matches!(layer, Layer::Dropout(_))).unwrap();
                tape.gradient_norms(layer, norms)
            });
        }
    }
    let words = [
        Embedding::new(VOCABULARY, UNITS).mask_zero(true).into(),
        Dropout::new(0.25).into(),
        Bidirectional::new(SimpleRnn::new(UNITS)).into(),
    ];
    let model = model(threads, 1, &words);
    let (len, parameters) = (model.output_len(rows, steps).unwrap(), model.parameter_count().unwrap());
    let (ids, dy) = (ids(rows * steps), values(3, len, 1.0));
    let what = format!("tape, tokens, {rows} rows, {steps} steps, {threads} threads");
    survives(
        &what,
        len,
        || Tape::new(&model, rows, steps).unwrap(),
        |tape, y| tape.forward_tokens(&ids, rows, steps, RunOptions::default(), true, 9, y),
    );
    let gone = || {
        let mut tape = Tape::new(&model, rows, steps).unwrap();
        tape.forward_tokens(&ids, rows, steps, RunOptions::default(), true, 9, &mut vec![0.0; len]).unwrap();
        tape
    };
    survives(&what, parameters, gone, |tape, gradients| {
        tape.backward(&dy, None)?;
        gradients.copy_from_slice(tape.gradients()?);
        Ok(())
    });
}

fn training(threads: usize, rows: usize, steps: usize) {
    for (name, recurrent) in [
        ("SimpleRNN", Layer::from(sequences(UNITS).dropout(0.25))),
        ("LSTM", Lstm::new(UNITS).return_sequences(true).recurrent_dropout(0.25).into()),
    ] {
        training_of(name, recurrent, [threads, rows, steps]);
    }
}

fn training_of(name: &str, recurrent: Layer, [threads, rows, steps]: [usize; 3]) {
    let layers = [recurrent, Dense::new(3).into()];
    let x = values(1, rows * steps * FEATURES, 1.0);
    let target = values(2, rows * steps * 3, 1.0);
    let mask = mask(rows * steps);
    let examples = Examples::floats(&x, rows, steps, &target);
    let small = Examples::floats(&x[..FEATURES], 1, 1, &target[..3]);
    let parameters = model(1, FEATURES, &layers).parameter_count().unwrap();
    let states = model(1, FEATURES, &layers).state_len(rows).unwrap();
    for (how, truncation) in [("whole", None), ("truncated", Some(Truncation::new(3, 5)))] {
        let what =
            |op: &str| format!("trainer {op}, {name}, {how}, {rows} rows, {steps} steps, {threads} threads");
        let config = TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError)
            .truncation(truncation)
            .clipping(Clipping::GlobalNorm(1.0))
            .l2(0.01);
        let made = || {
            let mut model = model(threads, FEATURES, &layers);
            let mut trainer = Trainer::new(&model, config).unwrap();
            trainer.step(&mut model, small, RunOptions::default()).unwrap();
            // Somebody holds the weights, so that the step has to copy them.
            let stream = Stream::new(&model, 1).unwrap();
            (model, trainer, stream)
        };
        survives(&what("step"), 1 + states + parameters, made, |(model, trainer, _), out| {
            let (final_state, out) = out.split_at_mut(states);
            let options = RunOptions::default().mask(&mask).final_state(final_state);
            let before = fingerprint(model);
            match trainer.step(model, examples, options) {
                Ok(loss) => {
                    out[0] = loss;
                    let weights = model.trainable_variables().flat_map(|(_, _, values)| values);
                    out[1..].iter_mut().zip(weights).for_each(|(to, from)| *to = *from);
                    Ok(())
                }
                Err(why) => {
                    assert_eq!(trainer.steps(), 1, "counted although it failed");
                    assert_eq!(before, fingerprint(model), "weights moved by a step that failed");
                    Err(why)
                }
            }
        });
        survives(&what("evaluate"), 1, made, |(model, trainer, _), out| {
            out[0] = trainer.evaluate(model, examples)?.loss;
            Ok(())
        });
    }
    let made = || {
        let model = model(threads, FEATURES, &layers);
        let config = TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError);
        let trainer = Trainer::new(&model, config).unwrap();
        (model, trainer)
    };
    survives(
        &format!("trainer new, {name}, {threads} threads"),
        0,
        || model(1, FEATURES, &layers),
        |model, _| {
            let config = TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError);
            Trainer::new(model, config).map(|_| ())
        },
    );
    let what = format!("fit, {name}, {rows} rows, {steps} steps, {threads} threads");
    // Steps that were taken stay, so the second attempt is another one's.
    survives(
        &what,
        1,
        || (made(), made()),
        |(once, again), out| {
            let (model, trainer) = if once.1.steps() > 0 { again } else { once };
            let fit = Fit::default().epochs(2).batch_size(rows).progress(false);
            out[0] = model.fit(trainer, examples, fit)?[1].training.loss;
            Ok(())
        },
    );
}

/// Of all weights; takes no memory that could fail.
fn fingerprint(model: &Sequential) -> u64 {
    let values = model.trainable_variables().flat_map(|(_, _, values)| values);
    values.fold(7, |all, value| (all ^ u64::from(value.to_bits())).wrapping_mul(0x100_0000_01b3))
}

fn others() {
    let layers: [Layer; 3] = [
        Embedding::new(VOCABULARY, UNITS).into(),
        Bidirectional::new(sequences(UNITS)).into(),
        Dense::new(UNITS).into(),
    ];
    survives(
        "build",
        1,
        || (),
        |(), out| {
            let mut model = Sequential::new(1);
            for layer in &layers {
                model.push(layer.clone())?;
            }
            let model = model.build(3)?;
            out[0] = model.weight(2, Weight::Kernel)?.values()[7];
            Ok(())
        },
    );
    survives(
        "initialize",
        1,
        || model(1, 1, &layers),
        |model, out| {
            let before = model.weight(2, Weight::Kernel)?.values()[7].to_bits();
            if let Err(why) = model.initialize(4) {
                assert_eq!(before, model.weight(2, Weight::Kernel)?.values()[7].to_bits(), "half a model");
                return Err(why);
            }
            out[0] = model.weight(2, Weight::Kernel)?.values()[7];
            Ok(())
        },
    );
    let kernel = values(5, 2 * UNITS * UNITS, 1.0);
    survives(
        "set_weight",
        kernel.len(),
        || model(1, 1, &layers),
        |model, out| {
            model.set_weight(2, Weight::Kernel, &kernel)?;
            out.copy_from_slice(model.weight(2, Weight::Kernel)?.values());
            Ok(())
        },
    );
    let shared = || {
        let model = model(1, FEATURES, &[sequences(UNITS).into()]);
        let stream = Stream::new(&model, 1).unwrap();
        (model, stream)
    };
    survives("drop_weights", 1, shared, |(model, _), out| {
        model.drop_weights()?;
        out[0] = model.predict(&[0.5; FEATURES], 1, 1)?[3];
        Ok(())
    });

    let (rows, steps) = (300, 5);
    let x = values(1, rows * steps * FEATURES, 1.0);
    for layers in [
        vec![Lstm::new(UNITS).return_sequences(true).into(), Dense::new(4).into()],
        vec![Gru::new(UNITS).return_sequences(true).reset_after(false).into(), Dense::new(4).into()],
        vec![sequences(UNITS).into(), Dense::new(4).into()],
        vec![Masking::new(x[3]).into(), sequences(UNITS).into(), Dense::new(4).into()],
    ] {
        let model = model(1, FEATURES, &layers);
        let len = rows * steps * 4;
        survives("stream", len, || (), |(), y| Stream::new(&model, rows)?.run(&x, steps, y));
    }

    survives(
        "cell new",
        0,
        || (),
        |(), _| SimpleRnnCell::new(SimpleRnn::new(UNITS), FEATURES, 1).map(|_| ()),
    );
    for units in [UNITS, 19] {
        let h = values(2, rows * units, 1.0);
        let cell = || (SimpleRnnCell::new(SimpleRnn::new(units), FEATURES, 1).unwrap(), h.clone());
        survives("cell step in place", h.len(), cell, |(cell, state), out| {
            let outcome = cell.step_in_place(&x[..rows * FEATURES], rows, state);
            match &outcome {
                Ok(()) => out.copy_from_slice(state),
                Err(_) => assert!(*state == h, "the state moved"),
            }
            outcome
        });
    }
    let cell = || SimpleRnnCell::new(SimpleRnn::new(19), FEATURES, 1).unwrap();
    let h = values(2, rows * 19, 1.0);
    survives("cell step", h.len(), cell, |cell, out| cell.step(&x[..rows * FEATURES], &h, rows, out));
    let wide = values(5, FEATURES * 100, 1.0);
    let new_cell = || SimpleRnnCell::new(SimpleRnn::new(100), FEATURES, 1).unwrap();
    survives("cell set_weight", wide.len(), new_cell, |cell, out| {
        cell.set_weight(Weight::Kernel, &wide)?;
        out.copy_from_slice(cell.weight(Weight::Kernel)?.values());
        Ok(())
    });
    for layer in GATED.map(|cell| cell(Rnn::new(UNITS))) {
        gated_cells(layer, &x[..rows * FEATURES], rows);
    }
    survives("softmax", 700, || (), |(), out| elman::activate(Activation::Softmax, out));
}

fn gated_cells(layer: Recurrent, x: &[f32], rows: usize) {
    let what = |op: &str| format!("{} cell {op}", layer.elman().type_name());
    let new = || Cell::new(layer, FEATURES, 1);
    survives(&what("new"), 0, || (), |(), _| new().map(|_| ()));
    let states = vec![values(2, rows * UNITS, 1.0); layer.states()];
    let len = states.concat().len();
    let cell = || (new().unwrap(), states.clone());
    survives(&what("step in place"), len, cell, |(cell, state), out| {
        let outcome = cell.step_in_place(x, rows, state);
        match &outcome {
            Ok(()) => out.iter_mut().zip(state.iter().flatten()).for_each(|(to, state)| *to = *state),
            Err(_) => assert!(*state == states, "the states moved"),
        }
        outcome
    });
    survives(&what("step"), len, cell, |(cell, next), out| {
        next.iter_mut().for_each(|next| next.fill(SENTINEL));
        let outcome = cell.step(x, &states, rows, next);
        out.iter_mut().zip(next.iter().flatten()).for_each(|(to, next)| *to = *next);
        outcome
    });
    let wide = values(5, FEATURES * UNITS * layer.gates(), 1.0);
    survives(&what("set_weight"), wide.len(), cell, |(cell, _), out| {
        cell.set_weight(Weight::Kernel, &wide)?;
        out.copy_from_slice(cell.weight(Weight::Kernel)?);
        Ok(())
    });
}

fn with_threads(threads: usize) {
    for (rows, steps) in [(300, 8), (3, 700)] {
        runs(threads, rows, steps);
        tapes(threads, rows, steps);
        training(threads, rows, steps);
    }
}

#[test]
#[ignore = "run by every_operation_survives_every_failed_allocation, in a process of its own"]
fn on_one_thread() {
    others();
    with_threads(1);
}

#[test]
#[ignore = "run by every_operation_survives_every_failed_allocation, in a process of its own"]
fn on_three_threads() {
    with_threads(3);
}

/// Each part in a process of its own, since the allocator fails whoever asks; both at once.
#[test]
fn every_operation_survives_every_failed_allocation() {
    let start = |part: &str| {
        let mut process = this_executable();
        process.args(["--ignored", "--exact", part]).stdout(Stdio::piped()).stderr(Stdio::piped());
        process.spawn().expect("the executable can be started again")
    };
    for process in ["on_one_thread", "on_three_threads"].map(start) {
        let output = process.wait_with_output().expect("it ends");
        let said = [output.stdout, output.stderr].map(|said| text(&said)).concat();
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
}
