//! What people change while training: learning rates, frozen layers, weights without decay, weights of
//! classes; and a step in two halves.

mod common;

use common::numbers::{assert_same_bits, tokens, values};
use elman::{
    Activation, Advance, Clipping, Dense, Embedding, Error, Examples, Fit, Fitting, Gru, Layer, Loss, Lstm,
    Optimizer, RunOptions, Schedule, Sequential, SimpleRnn, Trainer, TrainerConfig, Truncation, Weight,
};

const BATCH: usize = 6;
const STEPS: usize = 7;
const MSE: Loss = Loss::MeanSquaredError;

fn model() -> Sequential {
    Sequential::new(3).add(SimpleRnn::new(5)).add(Dense::new(2)).build(4).unwrap()
}

fn parameters(model: &Sequential) -> Vec<f32> {
    let mut values = vec![0.0; model.parameter_count().unwrap()];
    model.get_parameters(&mut values).unwrap();
    values
}

struct Data {
    x: Vec<f32>,
    target: Vec<f32>,
}

impl Data {
    fn new() -> Self {
        Self { x: values(1, BATCH * STEPS * 3, 1.0), target: values(2, BATCH * 2, 1.0) }
    }

    fn examples(&self) -> Examples<'_> {
        Examples::floats(&self.x, BATCH, STEPS, &self.target)
    }
}

#[test]
fn the_learning_rate_is_read_and_set() {
    let data = Data::new();
    let schedule = Schedule::Exponential { initial: 0.5, decay_steps: 1, decay_rate: 0.5, staircase: false };
    let config = TrainerConfig::new(Optimizer::sgd(), MSE).schedule(schedule);
    let (mut model, mut other) = (model(), model());
    let mut trainer = Trainer::new(&model, config).unwrap();
    assert_eq!(trainer.learning_rate(), 0.5);
    trainer.step(&mut model, data.examples(), RunOptions::default()).unwrap();
    assert_eq!((trainer.learning_rate(), trainer.steps()), (0.25, 1));
    let before = parameters(&model);
    trainer.set_learning_rate(0.0).unwrap();
    trainer.step(&mut model, data.examples(), RunOptions::default()).unwrap();
    assert_same_bits("weights", &parameters(&model), &before);
    assert_eq!((trainer.learning_rate(), trainer.steps()), (0.0, 2));
    for wrong in [-0.1, f32::NAN, f32::INFINITY] {
        assert!(matches!(trainer.set_learning_rate(wrong), Err(Error::InvalidArgument(_))));
    }
    assert_eq!(trainer.learning_rate(), 0.0);
    trainer.set_learning_rate(0.25).unwrap();
    trainer.step(&mut model, data.examples(), RunOptions::default()).unwrap();
    let constant = config.schedule(Schedule::Constant(0.25));
    other.set_parameters(&before).unwrap();
    let mut fresh = Trainer::new(&other, constant).unwrap();
    fresh.step(&mut other, data.examples(), RunOptions::default()).unwrap();
    assert_same_bits("weights", &parameters(&model), &parameters(&other));
    // Between the steps of a fit.
    let fit = Fit::default().epochs(5).batch_size(4);
    let mut fitting = Fitting::new(&model, &trainer, data.examples(), fit).unwrap();
    let mut seen = Vec::new();
    loop {
        match fitting.advance(&mut model, &mut trainer).unwrap() {
            Advance::Batch(end) => seen.push((end.epoch, end.number, end.batches)),
            Advance::Epoch(epoch) => {
                trainer.set_learning_rate(trainer.learning_rate() * 0.5).unwrap();
                if epoch.number == 2 {
                    fitting.stop();
                }
            }
            Advance::Done => break,
        }
    }
    assert_eq!(seen, [(0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 2), (2, 0, 2), (2, 1, 2)]);
    assert_eq!(trainer.learning_rate(), 0.25 / 8.0);
}

#[test]
fn frozen_layers_stay_and_count_nowhere() {
    let data = Data::new();
    for optimizer in [Optimizer::sgd(), Optimizer::adam(), Optimizer::adamw()] {
        let mut model = model();
        let config = TrainerConfig::new(optimizer, MSE).clipping(Clipping::GlobalNorm(1e-3)).l2(0.1);
        let mut trainer = Trainer::new(&model, config).unwrap();
        let step = |trainer: &mut Trainer, model: &mut Sequential| {
            trainer.step(model, data.examples(), RunOptions::default()).unwrap()
        };
        let all = step(&mut trainer, &mut model);
        trainer.set_trainable(0, false).unwrap();
        assert_eq!([trainer.is_trainable(0), trainer.is_trainable(1)], [false, true]);
        let before = parameters(&model);
        let penalty = |model: &Sequential, layer, which| {
            let squares = model.weight(layer, which).unwrap().values().iter().map(|w| 0.1 * w * w);
            squares.sum::<f32>()
        };
        let mut gradients = vec![7.0; before.len()];
        let loss = trainer.backward(&model, data.examples(), RunOptions::default(), &mut gradients).unwrap();
        let first = 3 * 5 + 5 * 5 + 5;
        assert!(gradients[..first].iter().all(|&gradient| gradient == 0.0));
        // Only what moves is in the penalty, and in the norm that clipping sees.
        let plain = Trainer::new(&model, config.l2(0.0)).unwrap();
        let plain = plain.evaluate(&model, data.examples()).unwrap().loss;
        assert!((loss - plain - penalty(&model, 1, Weight::Kernel)).abs() < 1e-6, "{loss} {plain}");
        assert_eq!(trainer.evaluate(&model, data.examples()).unwrap().loss, loss);
        assert_eq!(step(&mut trainer, &mut model), loss);
        let after = parameters(&model);
        assert_same_bits("the frozen layer", &after[..first], &before[..first]);
        assert!(after[first..].iter().zip(&before[first..]).all(|(a, b)| a != b), "{optimizer:?}");
        if optimizer == Optimizer::sgd() {
            let moved: f32 = after.iter().zip(&before).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
            assert!((moved / (0.01 * 1e-3) - 1.0).abs() < 0.01, "{moved}");
        }
        trainer.set_trainable(0, true).unwrap();
        assert!(step(&mut trainer, &mut model) < all);
        assert_ne!(parameters(&model)[..first], before[..first]);
        assert!(matches!(trainer.set_trainable(7, false), Err(Error::InvalidArgument(_))));
    }
}

#[test]
fn weights_are_kept_out_of_decay() {
    let data = Data::new();
    let decayed = |weight_decay| Optimizer::AdamW {
        beta_1: 0.9,
        beta_2: 0.999,
        epsilon: 1e-7,
        amsgrad: false,
        weight_decay,
    };
    let run = |decay: f32, excluded: bool| {
        let mut model = model();
        model.set_weight(0, Weight::Bias, &[0.5; 5]).unwrap();
        let config = TrainerConfig::new(decayed(decay), MSE).schedule(Schedule::Constant(0.1));
        let mut trainer = Trainer::new(&model, config).unwrap();
        assert!(trainer.decays(0, Weight::Bias));
        if excluded {
            trainer.set_decays(0, Weight::Bias, false).unwrap();
            assert!(!trainer.decays(0, Weight::Bias) && trainer.decays(0, Weight::Kernel));
        }
        trainer.step(&mut model, data.examples(), RunOptions::default()).unwrap();
        assert!(trainer.set_decays(0, Weight::Embedding, false).is_err());
        assert!(trainer.set_decays(9, Weight::Kernel, false).is_err());
        let of = |which| model.weight(0, which).unwrap().values().to_vec();
        [of(Weight::Kernel), of(Weight::Bias)]
    };
    let (none, some, excluded) = (run(0.0, false), run(0.5, false), run(0.5, true));
    assert_eq!(excluded[1], none[1]);
    assert_eq!(excluded[0], some[0]);
    assert_ne!(some[1], none[1]);
}

#[test]
fn class_weights_multiply_the_weights_of_rows() {
    let x = values(1, BATCH * 3, 1.0);
    let classes = [0.0, 1.0, 2.0, 1.0, 0.0, 2.0];
    let one_hot: Vec<f32> =
        classes.iter().flat_map(|&class| (0..3).map(move |i| f32::from(i as f32 == class))).collect();
    let sides = [0.0, 1.0, 1.0, 1.0, 0.0, 0.0];
    let of_rows = [1.0, 0.5, 2.0, 1.0, 0.0, 3.0];
    let build = |units, activation| {
        Sequential::new(3)
            .add(SimpleRnn::new(4))
            .add(Dense::new(units).activation(activation))
            .build(1)
            .unwrap()
    };
    for (loss, units, activation, target, numbers, by_class) in [
        (
            Loss::SparseCategoricalCrossentropy { from_logits: false },
            3,
            Activation::Softmax,
            &classes[..],
            &classes[..],
            &[1.0, 4.0, 0.25][..],
        ),
        (
            Loss::CategoricalCrossentropy { from_logits: true },
            3,
            Activation::Linear,
            &one_hot[..],
            &classes[..],
            &[1.0, 4.0, 0.25][..],
        ),
        (
            Loss::BinaryCrossentropy { from_logits: false },
            1,
            Activation::Sigmoid,
            &sides[..],
            &sides[..],
            &[0.5, 3.0][..],
        ),
    ] {
        let (mut model, mut other) = (build(units, activation), build(units, activation));
        let config = TrainerConfig::new(Optimizer::adam(), loss);
        let mut trainer = Trainer::new(&model, config).unwrap();
        let mut by_hand = Trainer::new(&other, config).unwrap();
        let weights: Vec<f32> =
            numbers.iter().zip(of_rows).map(|(&class, weight)| by_class[class as usize] * weight).collect();
        let plain = Examples::floats(&x, BATCH, 1, target);
        for weighed in [false, true] {
            let weights: Vec<f32> = match weighed {
                true => weights.clone(),
                false => numbers.iter().map(|&class| by_class[class as usize]).collect(),
            };
            let examples = plain.class_weights(by_class);
            let examples = if weighed { examples.weights(&of_rows) } else { examples };
            let expected = plain.weights(&weights);
            assert_eq!(
                trainer.evaluate(&model, examples).unwrap(),
                by_hand.evaluate(&other, expected).unwrap()
            );
            let loss = trainer.step(&mut model, examples, RunOptions::default()).unwrap();
            assert_eq!(loss, by_hand.step(&mut other, expected, RunOptions::default()).unwrap());
            assert_same_bits("weights", &parameters(&model), &parameters(&other));
            let fit = Fit::default().batch_size(4);
            model.fit(&mut trainer, examples, fit).unwrap();
            other.fit(&mut by_hand, expected, fit).unwrap();
            assert_same_bits("weights", &parameters(&model), &parameters(&other));
        }
        let wrong = trainer.step(&mut model, plain.class_weights(&[1.0; 5]), RunOptions::default());
        assert!(matches!(wrong, Err(Error::LengthMismatch { .. })), "{wrong:?}");
    }
    let mut model = build(2, Activation::Linear);
    let mut trainer = Trainer::new(&model, TrainerConfig::new(Optimizer::adam(), MSE)).unwrap();
    let examples = Examples::floats(&x, BATCH, 1, &[0.0; 12]).class_weights(&[1.0; 2]);
    let wrong = trainer.step(&mut model, examples, RunOptions::default());
    assert!(matches!(wrong, Err(Error::InvalidArgument(_))), "{wrong:?}");
}

/// Dropout, states, an embedding whose rows move alone or all, penalties, clipping, every optimizer.
#[test]
fn two_halves_are_a_step() {
    for optimizer in [
        Optimizer::Sgd { momentum: 0.9, nesterov: true },
        Optimizer::RmsProp { rho: 0.9, momentum: 0.5, epsilon: 1e-7, centered: true },
        Optimizer::adamw(),
    ] {
        for (lazy_embeddings, clipping) in [(false, Clipping::GlobalNorm(0.1)), (true, Clipping::Norm(0.1))] {
            let config = TrainerConfig::new(optimizer, MSE)
                .lazy_embeddings(lazy_embeddings)
                .clipping(clipping)
                .l2(0.01)
                .schedule(Schedule::Exponential {
                    initial: 0.05,
                    decay_steps: 2,
                    decay_rate: 0.5,
                    staircase: false,
                });
            let rnn = SimpleRnn::new(5).dropout(0.3).recurrent_dropout(0.2).stateful(true);
            halves_are_a_step(config, rnn.into());
            let lstm = Lstm::new(5).dropout(0.3).recurrent_dropout(0.2).stateful(true);
            halves_are_a_step(config, lstm.into());
            let gru = Gru::new(5).dropout(0.3).recurrent_dropout(0.2).stateful(true);
            halves_are_a_step(config, gru.into());
        }
    }
    let truncation = Some(Truncation::new(2, 2));
    let mut model = Sequential::new(3).add(SimpleRnn::new(2).return_sequences(true)).build(1).unwrap();
    let config = TrainerConfig::new(Optimizer::sgd(), MSE).truncation(truncation);
    let mut trainer = Trainer::new(&model, config).unwrap();
    let mut gradients = vec![0.0; model.parameter_count().unwrap()];
    let (x, target) = (values(1, 4 * 3, 1.0), values(2, 4 * 2, 1.0));
    let examples = Examples::floats(&x, 1, 4, &target);
    let outcome = trainer.backward(&model, examples, RunOptions::default(), &mut gradients);
    assert!(matches!(outcome, Err(Error::Unsupported(_))), "{outcome:?}");
    trainer.step(&mut model, examples, RunOptions::default()).unwrap();
}

fn halves_are_a_step(config: TrainerConfig, layer: Layer) {
    let build = || {
        let model = Sequential::new(1).add(Embedding::new(30, 4).mask_zero(true)).add(layer.clone());
        model.add(Dense::new(2)).build(4).unwrap()
    };
    let (mut model, mut other) = (build(), build());
    let mut whole = Trainer::new(&model, config).unwrap();
    let mut halves = Trainer::new(&other, config).unwrap();
    let mut gradients = vec![0.0; model.parameter_count().unwrap()];
    let target = values(1, BATCH * 2, 1.0);
    for round in 0..5 {
        let ids = tokens(round, BATCH * STEPS, 10 + 5 * round as usize % 21);
        let examples = Examples::tokens(&ids, BATCH, STEPS, &target);
        let expected = whole.step(&mut model, examples, RunOptions::default()).unwrap();
        let before = (parameters(&other), other.states().unwrap());
        let mut bad = target.clone();
        bad[3] = f32::INFINITY;
        let wrong = Examples::tokens(&ids, BATCH, STEPS, &bad);
        gradients.fill(7.0);
        let outcome = halves.backward(&other, wrong, RunOptions::default(), &mut gradients);
        assert!(matches!(outcome, Err(Error::NotFinite(_))), "{outcome:?}");
        assert!(gradients.iter().all(|&gradient| gradient == 7.0));
        let loss = halves.backward(&other, examples, RunOptions::default(), &mut gradients).unwrap();
        assert_eq!(loss, expected);
        assert_eq!((parameters(&other), other.states().unwrap()), before, "nothing moves until apply");
        let good = gradients.clone();
        gradients[17] = f32::NAN;
        let outcome = halves.apply(&mut other, &gradients);
        assert!(matches!(outcome, Err(Error::NotFinite(_))), "{outcome:?}");
        assert_eq!((parameters(&other), other.states().unwrap()), before, "nothing moves");
        halves.apply(&mut other, &good).unwrap();
        assert_same_bits("weights", &parameters(&other), &parameters(&model));
        assert_eq!(other.states().unwrap(), model.states().unwrap());
        assert_eq!(halves.steps(), whole.steps());
    }
    assert!(halves.apply(&mut other, &gradients[1..]).is_err());
}
