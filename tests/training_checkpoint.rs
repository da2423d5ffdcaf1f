//! A training that was saved and loaded goes on to the bits of one that was not interrupted, whatever has been
//! changed in it; and what no training leaves in a file is refused.

mod common;

use common::numbers::{assert_same_bits, values};
use elman::{
    Bidirectional, Dense, Error, Examples, Fit, Gru, Loss, Lstm, Optimizer, RunOptions, Schedule, Sequential,
    SimpleRnn, Trainer, TrainerConfig, Truncation, Weight,
};

const BATCH: usize = 3;
const STEPS: usize = 6;
const MSE: Loss = Loss::MeanSquaredError;

/// The second of its three directions keeps no states.
fn walked(seed: u64) -> Sequential {
    let rnn = |units| SimpleRnn::new(units).dropout(0.2).return_sequences(true);
    let model = Sequential::new(3).add(rnn(5).stateful(true)).add(rnn(3)).add(rnn(4).stateful(true));
    model.add(Dense::new(2)).build(seed).unwrap()
}

/// As `walked`, of gated cells: h and c of each.
fn gated_walk(seed: u64) -> Sequential {
    let lstm = Lstm::new(5).dropout(0.2).recurrent_dropout(0.1).return_sequences(true).stateful(true);
    let gru = |units| Gru::new(units).recurrent_dropout(0.2).return_sequences(true);
    let model = Sequential::new(3).add(lstm).add(Lstm::new(3).return_sequences(true));
    model.add(gru(4).stateful(true).reset_after(false)).add(gru(3)).add(Dense::new(2)).build(seed).unwrap()
}

fn gated_both_ways(seed: u64) -> Sequential {
    let gru = Gru::new(2).return_sequences(true);
    let both = Bidirectional::new(Lstm::new(4).return_sequences(true).stateful(true));
    Sequential::new(3).add(gru).add(both).add(Dense::new(2)).build(seed).unwrap()
}

fn both_ways(seed: u64) -> Sequential {
    let rnn = |units| SimpleRnn::new(units).return_sequences(true);
    let model = Sequential::new(3).add(rnn(2)).add(Bidirectional::new(rnn(4).stateful(true)));
    model.add(Dense::new(2)).build(seed).unwrap()
}

fn config(optimizer: Optimizer) -> TrainerConfig {
    let schedule =
        Schedule::Exponential { initial: 0.013, decay_steps: 3, decay_rate: 0.7, staircase: false };
    TrainerConfig::new(optimizer, MSE).schedule(schedule).l2(0.01).seed(9)
}

fn adamw() -> Optimizer {
    Optimizer::AdamW { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-7, amsgrad: true, weight_decay: 0.3 }
}

fn parameters(model: &Sequential) -> Vec<f32> {
    let mut values = vec![0.0; model.parameter_count().unwrap()];
    model.get_parameters(&mut values).unwrap();
    values
}

/// The losses of steps `first` and on.
fn steps(trainer: &mut Trainer, model: &mut Sequential, first: u64, count: u64) -> Vec<f32> {
    let step = |number| {
        let x = values(number, BATCH * STEPS * 3, 1.0);
        let target = values(number + 100, BATCH * STEPS * 2, 1.0);
        let examples = Examples::floats(&x, BATCH, STEPS, &target);
        trainer.step(model, examples, RunOptions::default()).unwrap()
    };
    (first..first + count).map(step).collect()
}

type Change = fn(&mut Trainer);

const CHANGES: [Change; 5] = [
    |_| {},
    |trainer| trainer.set_trainable(1, false).unwrap(),
    |trainer| {
        trainer.set_decays(0, Weight::Bias, false).unwrap();
        trainer.set_decays(1, Weight::RecurrentKernel, false).unwrap();
    },
    |trainer| trainer.set_learning_rate(0.1 / 3.0).unwrap(),
    |trainer| {
        trainer.set_trainable(0, false).unwrap();
        trainer.set_trainable(1, false).unwrap();
        trainer.set_decays(1, Weight::Kernel, false).unwrap();
        trainer.set_decays(2, Weight::Bias, false).unwrap();
        let (initial, warmup) = (0.1, Some((0.3, 2)));
        trainer.set_schedule(Schedule::Cosine { initial, decay_steps: 9, alpha: 0.1, warmup }).unwrap();
    },
];

#[test]
fn what_was_saved_goes_on_to_the_same_bits() {
    let momentum = Optimizer::RmsProp { rho: 0.9, momentum: 0.5, epsilon: 1e-7, centered: true };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("training");
    let truncation = Some(Truncation::new(2, 3));
    for (build, truncation) in [
        (walked as fn(u64) -> Sequential, None),
        (walked, truncation),
        (both_ways, None),
        (gated_walk, None),
        (gated_walk, truncation),
        (gated_both_ways, None),
    ] {
        for optimizer in [adamw(), momentum] {
            for change in CHANGES {
                let config = config(optimizer).truncation(truncation);
                let mut model = build(1);
                let mut trainer = Trainer::new(&model, config).unwrap();
                steps(&mut trainer, &mut model, 0, 2);
                change(&mut trainer);
                steps(&mut trainer, &mut model, 2, 2);
                let bytes = trainer.to_bytes(&model).unwrap();
                trainer.save(&model, &path).unwrap();
                assert_eq!(std::fs::read(&path).unwrap(), bytes);
                let mut expected = steps(&mut trainer, &mut model, 4, 3);

                // Into a model of other weights, with states of another batch.
                let mut other = build(2);
                other.set_states(7, &vec![0.5; other.state_len(7).unwrap()]).unwrap();
                let mut resumed = Trainer::load(&mut other, &path).unwrap();
                assert_eq!(resumed.to_bytes(&other).unwrap(), bytes);
                assert_eq!(resumed.config(), trainer.config());
                let mut losses = steps(&mut resumed, &mut other, 4, 3);
                // What was frozen moves again, by what the optimizer had kept beside it.
                for (trainer, model, losses) in
                    [(&mut trainer, &mut model, &mut expected), (&mut resumed, &mut other, &mut losses)]
                {
                    trainer.set_trainable(0, true).unwrap();
                    losses.extend(steps(trainer, model, 7, 2));
                }
                assert_same_bits("losses", &losses, &expected);
                assert_same_bits("weights", &parameters(&other), &parameters(&model));
                assert_eq!(other.states().unwrap(), model.states().unwrap());
                // Weights, slots, states and all that was changed.
                assert_eq!(resumed.to_bytes(&other).unwrap(), trainer.to_bytes(&model).unwrap());
            }
        }
    }
}

#[test]
fn fit_goes_on_to_the_same_bits() {
    let (x, target) = (values(1, 6 * STEPS * 3, 1.0), values(2, 6 * STEPS * 2, 1.0));
    let examples = Examples::floats(&x, 6, STEPS, &target);
    let fit = Fit::default().epochs(2).batch_size(BATCH);
    for build in [walked, gated_walk] {
        fit_goes_on(build, examples, fit);
    }
}

fn fit_goes_on(build: fn(u64) -> Sequential, examples: Examples<'_>, fit: Fit<'_>) {
    let (mut model, mut other) = (build(1), build(2));
    let mut trainer = Trainer::new(&model, config(adamw())).unwrap();
    CHANGES[4](&mut trainer);
    model.fit(&mut trainer, examples, fit).unwrap();
    let bytes = trainer.to_bytes(&model).unwrap();
    let expected = model.fit(&mut trainer, examples, fit).unwrap();
    let mut resumed = Trainer::load_bytes(&mut other, &bytes).unwrap();
    let losses = other.fit(&mut resumed, examples, fit).unwrap();
    for (got, expected) in losses.iter().zip(&expected) {
        assert_eq!(got.training, expected.training);
    }
    assert_eq!(resumed.to_bytes(&other).unwrap(), trainer.to_bytes(&model).unwrap());
}

#[test]
fn states_that_were_not_kept_are_reset() {
    let mut model = walked(1);
    let trainer = Trainer::new(&model, config(adamw())).unwrap();
    let bytes = trainer.to_bytes(&model).unwrap();
    model.set_states(1, &[0.5; 12]).unwrap();
    Trainer::load_bytes(&mut model, &bytes).unwrap();
    assert_eq!(model.states().unwrap(), None);
}

/// The header's text, and where the data begins.
fn header(bytes: &[u8]) -> (String, usize) {
    let size = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    (String::from_utf8(bytes[8..8 + size].to_vec()).unwrap(), 8 + size)
}

fn edited(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let (text, data) = header(bytes);
    assert!(text.contains(from), "{from} in {text}");
    let text = text.replacen(from, to, 1);
    [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &bytes[data..]].concat()
}

/// With another value at a place of a tensor.
fn patched(bytes: &[u8], tensor: &str, at: usize, value: f32) -> Vec<u8> {
    let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
    let data = file.tensor(tensor).unwrap().data().as_ptr() as usize;
    let at = data - bytes.as_ptr() as usize + 4 * at;
    let mut bytes = bytes.to_vec();
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    bytes
}

/// Files that were written before there was more to say, and their readers, have no new fields.
#[test]
fn what_is_as_usual_is_not_said() {
    let mut model = Sequential::new(3).add(SimpleRnn::new(4)).add(Dense::new(2)).build(1).unwrap();
    let mut trainer = Trainer::new(&model, config(adamw())).unwrap();
    trainer.set_trainable(0, false).unwrap();
    trainer.set_trainable(0, true).unwrap();
    let (text, _) = header(&trainer.to_bytes(&model).unwrap());
    assert!(text.contains(r#"\"lazy_embeddings\":false,\"seed\":9},\"steps\":0}""#), "{text}");
    trainer.set_trainable(0, false).unwrap();
    trainer.set_decays(1, Weight::Bias, false).unwrap();
    let bytes = trainer.to_bytes(&model).unwrap();
    let said = r#",\"frozen\":[0],\"without_decay\":[\"layers.1.bias\"]"#;
    let old = edited(&bytes, said, "");
    let resumed = Trainer::load_bytes(&mut model, &old).unwrap();
    assert!(resumed.is_trainable(0) && resumed.decays(1, Weight::Bias));
    let resumed = Trainer::load_bytes(&mut model, &bytes).unwrap();
    assert!(!resumed.is_trainable(0) && !resumed.decays(1, Weight::Bias));
}

#[test]
fn what_no_training_leaves_is_refused() {
    let mut model = walked(1);
    let mut trainer = Trainer::new(&model, config(adamw())).unwrap();
    trainer.set_trainable(1, false).unwrap();
    trainer.set_decays(2, Weight::Bias, false).unwrap();
    steps(&mut trainer, &mut model, 0, 2);
    let bytes = trainer.to_bytes(&model).unwrap();
    let (text, _) = header(&bytes);
    let state = r#""state.2":{"dtype":"F32","shape":[3,4]"#;
    assert!(text.contains(state) && !text.contains("state.1"), "{text}");
    let edit = |from, to| edited(&bytes, from, to);
    let rows = r#"\"state_rows\":3"#;
    let frozen = r#"\"frozen\":[1]"#;
    let kept_out = r#"[\"layers.2.bias\"]"#;
    let nan = f32::NAN;
    let files: Vec<(Vec<u8>, &[&str])> = vec![
        // A mean of squares below 0 has no root, and would make NaN of a weight.
        (patched(&bytes, "slot.1.layers.0.kernel", 4, -1.0), &["slot 1", "-1", "parameter 4"]),
        (patched(&bytes, "slot.2.layers.3.bias", 1, -1e-30), &["slot 2", "parameter"]),
        (patched(&bytes, "slot.0.layers.0.kernel", 0, nan), &["slot 0", "NaN"]),
        (patched(&bytes, "slot.1.layers.0.kernel", 0, f32::INFINITY), &["slot 1", "inf"]),
        (patched(&bytes, "state.0", 14, nan), &["state.0", "NaN"]),
        (patched(&bytes, "state.2", 0, f32::NEG_INFINITY), &["state.2", "-inf"]),
        (edit(rows, r#"\"state_rows\":4"#), &["state.0", "[4, 5]", "[3, 5]"]),
        (edit(rows, r#"\"state_rows\":0"#), &["state_rows", "batch"]),
        (edit(rows, r#"\"state_rows\":9223372036854775807"#), &["overflows"]),
        (edit(rows, r#"\"state_rows\":-3"#), &["trainer", "size"]),
        (edit(rows, r#"\"state_rows\":null"#), &["trainer", "size"]),
        (edit(&format!(",{rows}"), ""), &["state.0", "belongs to nothing"]),
        (edit("\"state.0\"", "\"state.1\""), &["state.0", "missing"]),
        (edit(state, r#""state.2":{"dtype":"F32","shape":[4,3]"#), &["state.2", "[3, 4]", "[4, 3]"]),
        (edit(frozen, r#"\"frozen\":[1,1]"#), &["trainer", "layer 1", "twice"]),
        (edit(frozen, r#"\"frozen\":[4]"#), &["trainer", "layer 4", "no weights"]),
        (edit(frozen, r#"\"frozen\":[1.5]"#), &["trainer", "whole number"]),
        (edit(frozen, r#"\"frozen\":1"#), &["trainer", "list"]),
        (edit(frozen, r#"\"frozen\":[1],\"frozen\":[1]"#), &["trainer", "frozen", "twice"]),
        (edit(frozen, r#"\"frosen\":[1]"#), &["trainer", "frosen"]),
        (edit(kept_out, r#"[\"layers.2.bias\",\"layers.2.bias\"]"#), &["trainer", "layers.2.bias", "twice"]),
        (edit(kept_out, r#"[\"layers.02.bias\"]"#), &["trainer", "layers.02.bias"]),
        (edit(kept_out, r#"[\"layers.2.embedding\"]"#), &["trainer", "layers.2.embedding"]),
        (edit(kept_out, r#"[\"layers.9.bias\"]"#), &["trainer", "layers.9.bias"]),
        (edit(kept_out, "[2]"), &["trainer", "string"]),
    ];
    let before = (parameters(&model), model.states().unwrap(), trainer.to_bytes(&model).unwrap());
    for (file, words) in files {
        match Trainer::load_bytes(&mut model, &file) {
            Err(Error::BadFormat(message)) => {
                assert!(words.iter().all(|word| message.contains(word)), "{message}, not {words:?}");
            }
            other => panic!("{words:?}: {other:?}"),
        }
    }
    let after = (parameters(&model), model.states().unwrap(), trainer.to_bytes(&model).unwrap());
    assert!(before == after);
    // Nobody keeps states here.
    let mut plain = Sequential::new(3).add(SimpleRnn::new(4)).build(1).unwrap();
    let bytes = Trainer::new(&plain, config(adamw())).unwrap().to_bytes(&plain).unwrap();
    let stated = edited(&bytes, r#"\"steps\":0"#, r#"\"steps\":0,\"state_rows\":1"#);
    let outcome = Trainer::load_bytes(&mut plain, &stated);
    assert!(matches!(&outcome, Err(Error::BadFormat(message)) if message.contains("states")), "{outcome:?}");
}

/// The state arrays of an LSTM in the file, h and c, each checked as the others are.
#[test]
fn gated_states_that_no_training_leaves_are_refused() {
    let mut model = gated_walk(1);
    let mut trainer = Trainer::new(&model, config(adamw())).unwrap();
    steps(&mut trainer, &mut model, 0, 2);
    let bytes = trainer.to_bytes(&model).unwrap();
    let (_, kept) = model.states().unwrap().unwrap();
    let before = (parameters(&model), trainer.to_bytes(&model).unwrap());
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let states: Vec<&str> = file.names().into_iter().filter(|name| name.starts_with("state.")).collect();
    // The first layer's h and c, and the third's h: those that are stateful.
    let len: usize = states.iter().map(|name| file.tensor(name).unwrap().data().len() / 4).sum();
    assert_eq!(len, BATCH * (2 * 5 + 4), "{states:?}");
    for name in states {
        let outcome = Trainer::load_bytes(&mut model, &patched(&bytes, name, 3, f32::NAN));
        let refused = matches!(&outcome, Err(Error::BadFormat(message)) if message.contains(name));
        assert!(refused, "{name}: {outcome:?}");
    }
    assert!((parameters(&model), trainer.to_bytes(&model).unwrap()) == before);
    Trainer::load_bytes(&mut model, &bytes).unwrap();
    assert_same_bits("states", &model.states().unwrap().unwrap().1, &kept);
}

/// Momenta and means may be of either sign.
#[test]
fn slots_without_squares_take_every_finite_value() {
    let sgd = Optimizer::Sgd { momentum: 0.9, nesterov: false };
    let rms = Optimizer::RmsProp { rho: 0.9, momentum: 0.5, epsilon: 1e-7, centered: true };
    for (optimizer, slots) in
        [(sgd, &[true][..]), (rms, &[false, true, true]), (adamw(), &[true, false, false])]
    {
        let mut model = both_ways(1);
        let bytes = Trainer::new(&model, config(optimizer)).unwrap().to_bytes(&model).unwrap();
        for (slot, &fits) in slots.iter().enumerate() {
            let file = patched(&bytes, &format!("slot.{slot}.layers.0.bias"), 1, -0.5);
            let loaded = Trainer::load_bytes(&mut model, &file);
            assert_eq!(loaded.is_ok(), fits, "{optimizer:?}, slot {slot}");
        }
    }
}

/// As from a model file, and no step moves by them.
#[test]
fn weights_are_taken_as_they_are() {
    let mut model = both_ways(1);
    let bytes = Trainer::new(&model, config(adamw())).unwrap().to_bytes(&model).unwrap();
    let file = patched(&bytes, "layers.2.bias", 1, f32::NAN);
    let mut trainer = Trainer::load_bytes(&mut model, &file).unwrap();
    let (x, target) = (values(1, BATCH * STEPS * 3, 1.0), values(2, BATCH * STEPS * 2, 1.0));
    let examples = Examples::floats(&x, BATCH, STEPS, &target);
    let outcome = trainer.step(&mut model, examples, RunOptions::default());
    assert!(matches!(outcome, Err(Error::NotFinite(_))), "{outcome:?}");
}

/// What could not be loaded is not saved.
#[test]
fn states_that_are_not_finite_are_not_saved() {
    let model = walked(1);
    let trainer = Trainer::new(&model, config(adamw())).unwrap();
    let mut states = [0.5; 12];
    states[11] = f32::INFINITY;
    model.set_states(1, &states).unwrap();
    let outcome = trainer.to_bytes(&model);
    assert!(matches!(&outcome, Err(Error::NotFinite(message)) if message.contains("inf")), "{outcome:?}");
    // Those of the layer that keeps none do not matter.
    states[11] = 0.5;
    states[6] = f32::INFINITY;
    model.set_states(1, &states).unwrap();
    trainer.to_bytes(&model).unwrap();
}
