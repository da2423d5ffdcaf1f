//! The trainer: weights move as the formulas say, or not at all; `fit` repeats, stops early, and learns.

mod common;

use std::path::Path;

use common::backends;
use common::network::{CELLS, GATED, Network, Recurrent, Rnn, Spec, parameters};
use common::numbers::{assert_same_bits, tokens, values};
use elman::{
    Activation, Batch, Clipping, Error, Examples, Fit, Loss, Optimizer, RunOptions, Schedule, Sequential,
    Tape, Trainer, TrainerConfig, Weight,
};

const BATCH: usize = 6;
const STEPS: usize = 7;

fn network() -> Network {
    network_of(Rnn::new(9).into())
}

fn network_of(layer: Recurrent) -> Network {
    let dense = Spec::Dense { units: 2, activation: Activation::Linear, use_bias: true };
    Network::new(3, vec![layer.into(), dense], 11)
}

#[test]
fn a_step_is_the_tape_s_gradient_times_the_rate() {
    for cell in CELLS {
        step_is_gradient_times_rate(&network_of(cell(Rnn::new(9))));
    }
}

fn step_is_gradient_times_rate(network: &Network) {
    let mut model = network.elman();
    let (x, target) = (values(1, BATCH * STEPS * 3, 1.0), values(2, BATCH * 2, 1.0));
    let loss = Loss::MeanSquaredError;
    let config = TrainerConfig::new(Optimizer::sgd(), loss).schedule(Schedule::Constant(0.1));

    let mut y = vec![0.0; BATCH * 2];
    let mut dy = vec![0.0; BATCH * 2];
    let mut tape = Tape::new(&model, BATCH, STEPS).unwrap();
    tape.forward(&x, BATCH, STEPS, RunOptions::default(), true, 0, &mut y).unwrap();
    let batch = Batch::new(&y, &target, 2);
    let expected_loss = loss.evaluate(batch, &mut dy).unwrap();
    tape.backward(&dy, None).unwrap();
    let mut expected = parameters(&model);
    expected.iter_mut().zip(tape.gradients().unwrap()).for_each(|(w, g)| *w -= 0.1 * g);

    let mut trainer = Trainer::new(&model, config).unwrap();
    let examples = Examples::floats(&x, BATCH, STEPS, &target);
    let got = trainer.step(&mut model, examples, RunOptions::default()).unwrap();
    assert_eq!(got, expected_loss);
    assert_same_bits("weights", &parameters(&model), &expected);
    assert_eq!(trainer.steps(), 1);
}

#[test]
fn what_is_not_finite_changes_nothing() {
    for cell in CELLS {
        refuses_what_is_not_finite(&network_of(cell(Rnn::new(9))));
    }
}

fn refuses_what_is_not_finite(network: &Network) {
    let mut model = network.elman();
    let target = values(2, BATCH * 2, 1.0);
    let good = values(1, BATCH * STEPS * 3, 1.0);
    let config = TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError);
    let mut trainer = Trainer::new(&model, config).unwrap();
    let examples = Examples::floats(&good, BATCH, STEPS, &target);
    trainer.step(&mut model, examples, RunOptions::default()).unwrap();
    let before = parameters(&model);
    for wrong in [f32::NAN, f32::INFINITY] {
        let mut x = good.clone();
        x[17] = wrong;
        let mut target = target.clone();
        if wrong == f32::INFINITY {
            x = good.clone();
            target[3] = wrong;
        }
        let examples = Examples::floats(&x, BATCH, STEPS, &target);
        let outcome = trainer.step(&mut model, examples, RunOptions::default());
        assert!(matches!(outcome, Err(Error::NotFinite(_))), "{outcome:?}");
        assert_same_bits("weights", &parameters(&model), &before);
        assert_eq!(trainer.steps(), 1);
    }
    // And the next good step is what it would have been.
    trainer.step(&mut model, examples, RunOptions::default()).unwrap();
    let mut other = network.elman();
    let mut fresh = Trainer::new(&other, config).unwrap();
    for _ in 0..2 {
        fresh.step(&mut other, examples, RunOptions::default()).unwrap();
    }
    assert_same_bits("weights", &parameters(&model), &parameters(&other));
}

#[test]
fn clipping_and_penalties_reach_the_step() {
    let (x, target) = (values(1, BATCH * STEPS * 3, 1.0), values(2, BATCH * 2, 9.0));
    let examples = Examples::floats(&x, BATCH, STEPS, &target);
    let plain =
        TrainerConfig::new(Optimizer::sgd(), Loss::MeanSquaredError).schedule(Schedule::Constant(1.0));
    let moved = |config: TrainerConfig| {
        let mut model = network().elman();
        let before = parameters(&model);
        let mut trainer = Trainer::new(&model, config).unwrap();
        let loss = trainer.step(&mut model, examples, RunOptions::default()).unwrap();
        let after = parameters(&model);
        (loss, after.iter().zip(&before).map(|(a, b)| f64::from(a - b)).collect::<Vec<_>>())
    };
    let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    let (loss, free) = moved(plain);
    assert!(norm(&free) > 0.2);
    let (_, clipped) = moved(plain.clipping(Clipping::GlobalNorm(0.1)));
    assert!((norm(&clipped) - 0.1).abs() < 1e-4, "{}", norm(&clipped));
    let (_, clipped) = moved(plain.clipping(Clipping::Value(0.01)));
    assert!(clipped.iter().all(|value| value.abs() < 0.0101));
    let (penalized, _) = moved(plain.l2(0.5).l1(0.25));
    let kernels = network().weights.into_iter().flatten().filter(|array| array.which != Weight::Bias);
    let penalty = |w: f32| 0.5 * f64::from(w).powi(2) + 0.25 * f64::from(w).abs();
    let expected: f64 = kernels.flat_map(|array| array.values).map(penalty).sum();
    assert!((f64::from(penalized - loss) / expected - 1.0).abs() < 1e-4);
}

#[test]
fn embeddings_move_whole_or_by_touched_rows() {
    let layers = vec![
        Spec::Embedding { vocabulary: 30, size: 20, mask_zero: true },
        Spec::SimpleRnn(Rnn { dropout: 0.3, ..Rnn::new(8) }),
        Spec::Dense { units: 1, activation: Activation::Sigmoid, use_bias: true },
    ];
    let (first, second) = (tokens(1, BATCH * STEPS, 10), tokens(2, BATCH * STEPS, 5));
    let target = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0];
    let loss = Loss::BinaryCrossentropy { from_logits: false };
    let row = |model: &Sequential, row: usize| {
        model.weight(0, Weight::Embedding).unwrap().values()[row * 20..][..20].to_vec()
    };
    for lazy_embeddings in [false, true] {
        let mut model = Network::new(1, layers.clone(), 4).elman();
        let config = TrainerConfig::new(Optimizer::adam(), loss).lazy_embeddings(lazy_embeddings);
        let mut trainer = Trainer::new(&model, config).unwrap();
        let mut step = |model: &mut Sequential, ids: &[i32]| {
            trainer.step(model, Examples::tokens(ids, BATCH, STEPS, &target), RunOptions::default()).unwrap()
        };
        // A token of the first batch that the second does not hold.
        let once =
            *first.iter().find(|id| **id >= 5).expect("42 tokens of 10 hold one of the upper five") as usize;
        let start = [row(&model, once), row(&model, 20)];
        step(&mut model, &first);
        let met = row(&model, once);
        assert_ne!(met, start[0]);
        step(&mut model, &second);
        // Adam's momentum goes on moving a row that a batch does not hold, as in Keras.
        assert_eq!(row(&model, once) == met, lazy_embeddings);
        assert_eq!(row(&model, 20), start[1]);
    }
}

/// Masked steps, weights by step, dropout and an embedding, over several steps.
#[test]
fn threads_train_to_the_same_bits() {
    let (batch, steps) = (17, 29);
    let rnn = Rnn { dropout: 0.3, recurrent_dropout: 0.2, return_sequences: true, ..Rnn::new(70) };
    threads_train(batch, steps, rnn.into());
    // As many columns.
    for cell in GATED {
        threads_train(batch, steps, cell(Rnn { units: 24, ..rnn }));
    }
    threads_train(batch, steps, Recurrent::Lstm(Rnn { units: 24, recurrent_dropout: 0.0, ..rnn }));
}

fn threads_train(batch: usize, steps: usize, layer: Recurrent) {
    let layers = vec![
        Spec::Embedding { vocabulary: 12, size: 50, mask_zero: true },
        layer.into(),
        Spec::Dense { units: 3, activation: Activation::Softmax, use_bias: true },
    ];
    let network = Network::new(1, layers, 6);
    let classes: Vec<f32> = tokens(1, batch * steps, 3).iter().map(|&class| class as f32).collect();
    let weights = values(2, batch * steps, 1.0);
    let loss = Loss::SparseCategoricalCrossentropy { from_logits: false };
    for lazy_embeddings in [false, true] {
        let trained = |threads: usize| {
            let mut model = network.elman();
            model.set_threads(threads).unwrap();
            let config = TrainerConfig::new(Optimizer::adam(), loss).lazy_embeddings(lazy_embeddings);
            let mut trainer = Trainer::new(&model, config).unwrap();
            let mut all = Vec::new();
            for seed in 0..4 {
                let ids = tokens(10 + seed, batch * steps, 12);
                let examples = Examples::tokens(&ids, batch, steps, &classes).weights(&weights);
                all.push(trainer.step(&mut model, examples, RunOptions::default()).unwrap());
                all.push(trainer.evaluate(&model, examples).unwrap().loss);
            }
            [all, parameters(&model)].concat()
        };
        let alone = trained(1);
        for threads in [2, 3, 5] {
            assert_same_bits(&format!("{threads} threads"), &trained(threads), &alone);
        }
    }
}

#[test]
fn fit_learns_repeats_and_stops() {
    // Whether the mean of the first feature is above 0.
    let rows = 120;
    let x = values(5, rows * STEPS * 3, 1.0);
    let label = |row: &[f32]| f32::from(row.iter().step_by(3).sum::<f32>() > 0.0);
    let target: Vec<f32> = x.chunks(STEPS * 3).map(label).collect();
    let (train, test) = (90, 30);
    let training = Examples::floats(&x[..train * STEPS * 3], train, STEPS, &target[..train]);
    let validation = Examples::floats(&x[train * STEPS * 3..], test, STEPS, &target[train..]);
    let dense = Spec::Dense { units: 1, activation: Activation::Sigmoid, use_bias: true };
    let rnn = Spec::SimpleRnn(Rnn { dropout: 0.1, recurrent_dropout: 0.1, ..Rnn::new(12) });
    let loss = Loss::BinaryCrossentropy { from_logits: false };
    let config = TrainerConfig::new(Optimizer::adam(), loss).schedule(Schedule::Constant(0.01));
    let fit = Fit::default().epochs(25).batch_size(16).validation(validation);
    let run = |config: TrainerConfig, fit: Fit<'_>| {
        let mut model = Network::new(3, vec![rnn, dense], 21).elman();
        let mut trainer = Trainer::new(&model, config).unwrap();
        let history = model.fit(&mut trainer, training, fit).unwrap();
        (parameters(&model), history)
    };
    let (first, history) = run(config, fit);
    assert_eq!(history.len(), 25);
    let accuracy = history[24].validation.unwrap().accuracy.unwrap();
    assert!(accuracy > 0.85, "{accuracy}");
    let (again, _) = run(config, fit);
    assert_same_bits("the same seed", &again, &first);
    let (other, _) = run(config.seed(1), fit);
    assert_ne!(other, first);
    // A rate of 0 never gets better.
    let frozen = config.schedule(Schedule::Constant(0.0));
    let (_, history) = run(frozen, fit.patience(3));
    assert_eq!(history.len(), 4);
    let mut model = Network::new(3, vec![rnn, dense], 21).elman();
    let mut trainer = Trainer::new(&model, config).unwrap();
    let history = model.fit_with(&mut trainer, training, fit, |_, _, epoch| epoch.number < 2).unwrap();
    assert_eq!(history.len(), 3);
}

#[test]
fn a_checkpoint_goes_on_to_the_same_bits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("training.safetensors");
    for cell in CELLS {
        checkpoint_goes_on(&path, cell(Rnn { dropout: 0.4, recurrent_dropout: 0.2, ..Rnn::new(9) }));
    }
}

fn checkpoint_goes_on(path: &Path, layer: Recurrent) {
    let network = Network::new(
        3,
        vec![layer.into(), Spec::Dense { units: 2, activation: Activation::Linear, use_bias: true }],
        1,
    );
    let (x, target) = (values(1, BATCH * STEPS * 3, 1.0), values(2, BATCH * 2, 1.0));
    let examples = Examples::floats(&x, BATCH, STEPS, &target);
    let fit = Fit::default().epochs(2).batch_size(4);
    for optimizer in [
        Optimizer::Sgd { momentum: 0.9, nesterov: true },
        Optimizer::RmsProp { rho: 0.9, momentum: 0.5, epsilon: 1e-7, centered: true },
        Optimizer::Adam { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-7, amsgrad: true },
        Optimizer::adamw(),
    ] {
        let schedule =
            Schedule::Exponential { initial: 0.013, decay_steps: 3, decay_rate: 0.7, staircase: false };
        let config = TrainerConfig::new(optimizer, Loss::MeanSquaredError)
            .schedule(schedule)
            .clipping(Clipping::GlobalNorm(0.3))
            .seed(u64::MAX);
        let mut model = network.elman();
        let mut trainer = Trainer::new(&model, config).unwrap();
        model.fit(&mut trainer, examples, fit).unwrap();
        trainer.save(&model, path).unwrap();
        model.fit(&mut trainer, examples, fit).unwrap();

        let mut other = network.elman();
        let mut resumed = Trainer::load(&mut other, path).unwrap();
        assert_eq!((resumed.config(), resumed.steps()), (&config, 4));
        other.fit(&mut resumed, examples, fit).unwrap();
        assert_same_bits("weights", &parameters(&other), &parameters(&model));
    }
    // Another model, a truncated file, no file, a model file: the model stays as it is.
    let mut other = Network::single(3, Rnn::new(4), 1).elman();
    let before = parameters(&other);
    assert!(matches!(Trainer::load(&mut other, path), Err(Error::BadFormat(_))));
    let whole = std::fs::read(path).unwrap();
    for len in [0, 7, 8, 100, whole.len() - 1] {
        std::fs::write(path, &whole[..len]).unwrap();
        assert!(matches!(Trainer::load(&mut network.elman(), path), Err(Error::BadFormat(_))), "{len} bytes");
    }
    other.save(path).unwrap();
    assert!(matches!(Trainer::load(&mut other, path), Err(Error::BadFormat(_))));
    assert!(matches!(Trainer::load(&mut other, path.with_file_name("no")), Err(Error::Io { .. })));
    assert_same_bits("weights", &parameters(&other), &before);
}

#[test]
fn wrong_calls_are_refused() {
    let mut model = network().elman();
    let loss = Loss::MeanSquaredError;
    let plain = TrainerConfig::new(Optimizer::adam(), loss);
    for wrong in [
        plain.clipping(Clipping::Norm(0.0)),
        plain.schedule(Schedule::Constant(f32::NAN)),
        plain.l1(-1.0),
        plain.optimizer(Optimizer::Sgd { momentum: 2.0, nesterov: false }),
    ] {
        assert!(matches!(Trainer::new(&model, wrong), Err(Error::InvalidArgument(_))), "{wrong:?}");
    }
    assert!(matches!(Trainer::new(&Sequential::new(3), plain), Err(Error::NotBuilt(_))));
    let mut trainer = Trainer::new(&model, plain).unwrap();
    let (x, target) = (values(1, BATCH * STEPS * 3, 1.0), values(2, BATCH * 2, 1.0));
    let before = parameters(&model);
    for examples in [
        Examples::floats(&x[1..], BATCH, STEPS, &target),
        Examples::floats(&x, BATCH, STEPS, &target[1..]),
        Examples::floats(&x, BATCH, STEPS, &target).weights(&target),
        Examples::floats(&x, 0, STEPS, &target),
    ] {
        assert!(trainer.step(&mut model, examples, RunOptions::default()).is_err());
        assert!(trainer.evaluate(&model, examples).is_err());
    }
    assert_same_bits("weights", &parameters(&model), &before);
    let mut other = Network::single(3, Rnn::new(8), 1).elman();
    let examples = Examples::floats(&x, BATCH, STEPS, &target);
    assert!(trainer.step(&mut other, examples, RunOptions::default()).is_err(), "another shape");
}

#[test]
fn every_backend() {
    backends::run_others("training_trainer");
}

/// As the README says: no line of output that nobody asked for.
#[test]
fn fit_draws_no_line_unless_it_is_asked() {
    assert!(!Fit::default().progress);
}
