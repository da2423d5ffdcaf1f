//! Training that is right or refused: nothing that is not finite passes for a success, what does not count
//! does not count, and what cannot be meant is said.

mod common;

use common::numbers::assert_same_bits;
use elman::{
    Activation, Batch, Bidirectional, Dense, Dropout, Error, Examples, Initializer, Loss, MergeMode,
    Optimizer, OptimizerState, RunOptions, Schedule, Sequential, SimpleRnn, Trainer, TrainerConfig, Weight,
};

const MSE: Loss = Loss::MeanSquaredError;

fn binary(from_logits: bool) -> Loss {
    Loss::BinaryCrossentropy { from_logits }
}

fn categorical(from_logits: bool) -> Loss {
    Loss::CategoricalCrossentropy { from_logits }
}

fn sparse(from_logits: bool) -> Loss {
    Loss::SparseCategoricalCrossentropy { from_logits }
}

fn parameters(model: &Sequential) -> Vec<f32> {
    let mut values = vec![0.0; model.parameter_count().unwrap()];
    model.get_parameters(&mut values).unwrap();
    values
}

fn adam(beta_1: f32, beta_2: f32, epsilon: f32) -> Optimizer {
    Optimizer::Adam { beta_1, beta_2, epsilon, amsgrad: false }
}

#[test]
fn optimizers_that_end_in_nan_are_refused() {
    let centered = |rho, epsilon| Optimizer::RmsProp { rho, momentum: 0.0, epsilon, centered: true };
    let decayed = |beta_1, epsilon| Optimizer::AdamW {
        beta_1,
        beta_2: 0.999,
        epsilon,
        amsgrad: true,
        weight_decay: 0.0,
    };
    for (wrong, word) in [
        (adam(1.0, 0.999, 1e-7), "beta_1"),
        (adam(0.9, 1.0, 1e-7), "beta_2"),
        (adam(-0.1, 0.999, 1e-7), "beta_1"),
        (adam(0.9, 0.999, 0.0), "epsilon"),
        (adam(0.9, 0.999, f32::INFINITY), "epsilon"),
        (decayed(1.0, 1e-7), "beta_1"),
        (decayed(0.9, 0.0), "epsilon"),
        (centered(1.0, 1e-7), "rho"),
        (centered(0.9, 0.0), "epsilon"),
        (centered(0.9, f32::NAN), "epsilon"),
        (Optimizer::Sgd { momentum: 1.5, nesterov: false }, "momentum"),
    ] {
        let error = OptimizerState::new(wrong, 1).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{wrong:?}: {error:?}");
        assert!(error.to_string().contains(word), "{wrong:?}: {error}");
    }
    for right in [adam(0.0, 0.0, 1e-7), Optimizer::Sgd { momentum: 1.0, nesterov: true }] {
        right.validate().unwrap();
    }
}

/// Roundings make the variance of a gradient of 7 negative, at step 140 for one.
#[test]
fn a_constant_gradient_has_no_negative_variance() {
    for momentum in [0.0, 0.5] {
        let optimizer = Optimizer::RmsProp { rho: 0.9, momentum, epsilon: 1e-7, centered: true };
        let mut state = OptimizerState::new(optimizer, 1).unwrap();
        let mut weight = [1.0];
        for step in 0..1000 {
            state.step(0.001).update(0, &mut weight, &[7.0]);
            assert!(weight[0].is_finite(), "momentum {momentum}, step {step}: {}", weight[0]);
        }
    }
}

/// One weight, whose gradient for an input of x and a target of t is 2 · (w · x - t) · x.
fn single(kernel: f32) -> Sequential {
    let mut model = Sequential::new(1).add(Dense::new(1).use_bias(false)).build(1).unwrap();
    model.set_weight(0, Weight::Kernel, &[kernel]).unwrap();
    model
}

#[test]
fn a_step_into_infinity_changes_nothing() {
    let amsgrad = Optimizer::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, amsgrad: true };
    for optimizer in [
        Optimizer::sgd(),
        Optimizer::Sgd { momentum: 0.9, nesterov: true },
        Optimizer::rmsprop(),
        Optimizer::RmsProp { rho: 0.9, momentum: 0.5, epsilon: 1e-7, centered: true },
        Optimizer::adam(),
        Optimizer::adamw(),
        amsgrad,
    ] {
        let config = TrainerConfig::new(optimizer, MSE).schedule(Schedule::Constant(1e-3));
        let (mut model, mut other) = (single(0.5), single(0.5));
        let mut trainer = Trainer::new(&model, config).unwrap();
        let mut fresh = Trainer::new(&other, config).unwrap();
        let good = Examples::floats(&[1.0], 1, 1, &[0.25]);
        for _ in 0..3 {
            trainer.step(&mut model, good, RunOptions::default()).unwrap();
            fresh.step(&mut other, good, RunOptions::default()).unwrap();
            // The gradient is finite, and its square is not: the mean of squares, or the weight by a rate of
            // 1e38, would not be finite.
            let rate = if matches!(optimizer, Optimizer::Sgd { .. }) { 1e38 } else { 1e-3 };
            trainer.set_learning_rate(rate).unwrap();
            let before = parameters(&model);
            let bad = Examples::floats(&[1e9], 1, 1, &[3e14]);
            let outcome = trainer.step(&mut model, bad, RunOptions::default());
            assert!(matches!(outcome, Err(Error::NotFinite(_))), "{optimizer:?}: {outcome:?}");
            assert_same_bits("weights", &parameters(&model), &before);
            trainer.set_learning_rate(1e-3).unwrap();
            assert_eq!(trainer.steps(), fresh.steps());
            assert_same_bits("weights", &parameters(&model), &parameters(&other));
        }
    }
}

/// What is near the end of the range is looked at parameter by parameter, and moves by the same bits where it
/// stays finite.
#[test]
fn large_weights_move_as_small_ones_do() {
    let run = |kernel: f32| {
        let mut model = Sequential::new(2).add(Dense::new(1).use_bias(false)).build(1).unwrap();
        model.set_weight(0, Weight::Kernel, &[0.5, kernel]).unwrap();
        let mut trainer = Trainer::new(&model, TrainerConfig::new(Optimizer::adam(), MSE)).unwrap();
        for _ in 0..50 {
            let examples = Examples::floats(&[1.0, 0.0], 1, 1, &[0.25]);
            trainer.step(&mut model, examples, RunOptions::default()).unwrap();
        }
        parameters(&model)
    };
    let (near, far) = (run(1.0), run(3e38));
    assert_eq!(near[0], far[0]);
    assert_eq!((near[1], far[1]), (1.0, 3e38));
    assert_ne!(near[0], 0.5);
}

/// Dense(3, softmax), bias 0 0 -inf.
fn excluding(activation: Activation) -> Sequential {
    let zeros = Dense::new(3).activation(activation).kernel_initializer(Initializer::Zeros);
    let mut model = Sequential::new(2).add(zeros).build(1).unwrap();
    model.set_weight(0, Weight::Bias, &[0.0, 0.0, f32::NEG_INFINITY]).unwrap();
    model
}

#[test]
fn a_class_excluded_by_target_and_bias_costs_nothing() {
    let dense = [1.0, 0.0, 0.0];
    for (loss, activation, target) in [
        (categorical(false), Activation::Softmax, &dense[..]),
        (categorical(true), Activation::Linear, &dense[..]),
        (sparse(false), Activation::Softmax, &[0.0][..]),
        (sparse(true), Activation::Linear, &[0.0][..]),
    ] {
        for optimizer in [Optimizer::sgd(), Optimizer::adam(), Optimizer::adamw(), Optimizer::rmsprop()] {
            let mut model = excluding(activation);
            assert_eq!(
                model.predict(&[1.0, 1.0], 1, 1).unwrap()[2],
                match activation {
                    Activation::Softmax => 0.0,
                    _ => f32::NEG_INFINITY,
                }
            );
            let mut trainer = Trainer::new(&model, TrainerConfig::new(optimizer, loss)).unwrap();
            let examples = Examples::floats(&[1.0, 1.0], 1, 1, target);
            let score = trainer.evaluate(&model, examples).unwrap();
            assert!((score.loss - std::f32::consts::LN_2).abs() < 1e-6, "{loss:?}: {}", score.loss);
            let first = trainer.step(&mut model, examples, RunOptions::default()).unwrap();
            assert_eq!(first, score.loss);
            let second = trainer.step(&mut model, examples, RunOptions::default()).unwrap();
            assert!(second < first, "{loss:?}, {optimizer:?}: {second}");
            let after = parameters(&model);
            assert_eq!(after[8], f32::NEG_INFINITY);
            assert!(after[..8].iter().all(|value| value.is_finite()), "{after:?}");
            // The kernel's last column has no gradient.
            assert_eq!([after[2], after[5]], [0.0; 2]);
        }
    }
    // Where the target asks for what is excluded, the loss is infinite.
    let mut model = excluding(Activation::Softmax);
    let mut trainer =
        Trainer::new(&model, TrainerConfig::new(Optimizer::adam(), categorical(false))).unwrap();
    let examples = Examples::floats(&[1.0, 1.0], 1, 1, &[0.0, 0.5, 0.5]);
    let outcome = trainer.step(&mut model, examples, RunOptions::default());
    assert!(matches!(outcome, Err(Error::NotFinite(_))), "{outcome:?}");
}

#[test]
fn infinite_logits_cost_what_they_say() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for (logit, target, loss, gradient) in [
        (-inf, 0.0, 0.0, 0.0),
        (inf, 1.0, 0.0, 0.0),
        (-inf, 1.0, inf, -1.0),
        (inf, 0.0, inf, 1.0),
        (nan, 0.0, nan, nan),
        (0.0, 1.0, std::f32::consts::LN_2, -0.5),
    ] {
        let mut got = [7.0];
        let (prediction, target) = ([logit], [target]);
        let batch = Batch::new(&prediction, &target, 1);
        let value = binary(true).evaluate(batch, &mut got).unwrap();
        let same = |a: f32, b: f32| a == b || (a.is_nan() && b.is_nan());
        assert!(same(value, loss) && same(got[0], gradient), "{logit}: {value}, {}", got[0]);
    }
    let mut gradient = [7.0; 3];
    let prediction = [0.0, 0.0, -inf];
    let batch = Batch::new(&prediction, &[1.0, 0.0, 0.0], 3);
    let value = categorical(true).evaluate(batch, &mut gradient).unwrap();
    assert!((value - std::f32::consts::LN_2).abs() < 1e-6, "{value}");
    assert_eq!(gradient, [-0.5, 0.5, 0.0]);
}

/// A network that gives its input out again, step by step.
fn handed_on(columns: usize) -> Sequential {
    let same = Dense::new(columns).use_bias(false).kernel_initializer(Initializer::Identity { gain: 1.0 });
    Sequential::new(columns).add(same).build(1).unwrap()
}

/// Accuracy and weighted accuracy of one step of a row for each row of `predictions`.
#[track_caller]
fn accuracies(loss: Loss, columns: usize, examples: Examples<'_>) -> [f32; 2] {
    let model = handed_on(columns);
    let trainer = Trainer::new(&model, TrainerConfig::new(Optimizer::sgd(), loss)).unwrap();
    let score = match trainer.evaluate(&model, examples) {
        Ok(s) => s,
        Err(e) => panic!("{e}"),
    };
    let got = [score.accuracy.unwrap(), score.weighted_accuracy.unwrap()];
    // A step says the same of them.
    let mut model = handed_on(columns);
    let mut trainer = Trainer::new(&model, TrainerConfig::new(Optimizer::sgd(), loss)).unwrap();
    let score = trainer.step_scored(&mut model, examples, RunOptions::default()).unwrap();
    assert_eq!([score.accuracy.unwrap(), score.weighted_accuracy.unwrap()], got);
    got
}

#[test]
fn ties_take_the_first_maximum() {
    let x = [2.0, 2.0, 1.0, 0.0, 3.0, 3.0, -0.0, 0.0, -1.0];
    let first = [0.0, 1.0, 0.0];
    let examples = Examples::floats(&x, 3, 1, &first);
    // A model without a sequence layer takes one step a row.
    assert_eq!(accuracies(sparse(true), 3, examples), [1.0, 1.0]);
    let second = [1.0, 2.0, 1.0];
    assert_eq!(accuracies(sparse(true), 3, Examples::floats(&x, 3, 1, &second)), [0.0, 0.0]);
    let one_hot = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0];
    assert_eq!(accuracies(categorical(true), 3, Examples::floats(&x, 3, 1, &one_hot)), [1.0, 1.0]);
    // Of a target too.
    let even = [0.5, 0.5, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.0];
    assert_eq!(accuracies(categorical(true), 3, Examples::floats(&x, 3, 1, &even)), [1.0, 1.0]);
}

#[test]
fn what_does_not_count_is_no_answer() {
    // Right, right, wrong, and a target that is no class.
    let x = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0];
    let target = [0.0, 1.0, 1.0, 99.0];
    let weights = [1.0, 0.0, 3.0, 0.0];
    let examples = Examples::floats(&x, 4, 1, &target).weights(&weights);
    assert_eq!(accuracies(sparse(true), 2, examples), [0.5, 0.25]);
    // As steps of one row, of which the mask takes two.
    let examples = Examples::floats(&x, 1, 4, &target).mask(&[1, 0, 1, 0]);
    assert_eq!(accuracies(sparse(true), 2, examples), [0.5, 0.5]);
    let examples = Examples::floats(&x, 1, 4, &target).lengths(&[2]);
    assert_eq!(accuracies(sparse(true), 2, examples), [1.0, 1.0]);
    let weights = [2.0, 6.0, 0.0, 0.0];
    assert_eq!(accuracies(binary(true), 2, Examples::floats(&x, 4, 1, &x).weights(&weights)), [1.0, 1.0]);
    let half = [1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0];
    assert_eq!(
        accuracies(binary(true), 2, Examples::floats(&x, 4, 1, &half).weights(&weights)),
        [0.75, 0.875]
    );
    // Nothing counts.
    let weights = [0.0; 4];
    let examples = Examples::floats(&x, 4, 1, &target).weights(&weights);
    assert_eq!(accuracies(sparse(true), 2, examples), [0.0, 0.0]);
    // A class that does not exist is an error where its weight is not 0.
    let mut model = handed_on(2);
    let mut trainer = Trainer::new(&model, TrainerConfig::new(Optimizer::sgd(), sparse(true))).unwrap();
    for examples in [
        Examples::floats(&x, 4, 1, &target),
        Examples::floats(&x, 4, 1, &target).weights(&[1.0, 0.0, 1.0, 0.5]),
    ] {
        let outcome = trainer.step(&mut model, examples, RunOptions::default());
        assert!(matches!(outcome, Err(Error::InvalidArgument(_))), "{outcome:?}");
        assert!(matches!(trainer.evaluate(&model, examples), Err(Error::InvalidArgument(_))));
    }
}

#[test]
fn losses_that_do_not_fit_the_output_are_refused() {
    let dense = |units, activation| Dense::new(units).activation(activation);
    let of = |layer: Dense| Sequential::new(3).add(layer).build(1).unwrap();
    let try_on = |model: &Sequential, loss| {
        Trainer::new(model, TrainerConfig::new(Optimizer::adam(), loss)).map(|_| ())
    };
    use Activation::{Linear, Relu, Sigmoid, Softmax, Tanh};
    for (units, activation, loss, fits) in [
        (1, Sigmoid, binary(false), true),
        (1, Sigmoid, binary(true), false),
        (3, Softmax, categorical(true), false),
        (3, Softmax, sparse(true), false),
        (3, Softmax, binary(true), false),
        (3, Sigmoid, categorical(true), false),
        (1, Linear, binary(false), false),
        (1, Linear, binary(true), true),
        (1, Relu, binary(false), false),
        (1, Tanh, binary(false), false),
        (1, Tanh, binary(true), true),
        (3, Linear, categorical(false), false),
        (3, Linear, sparse(false), false),
        (3, Relu, sparse(false), false),
        (3, Linear, sparse(true), true),
        (3, Softmax, sparse(false), true),
        (3, Sigmoid, categorical(false), true),
        (3, Softmax, binary(false), true),
        // One class is no choice.
        (1, Softmax, sparse(false), false),
        (1, Linear, sparse(true), false),
        (1, Sigmoid, categorical(false), false),
        (1, Softmax, binary(false), false),
        (1, Linear, MSE, true),
        (1, Sigmoid, MSE, true),
    ] {
        let outcome = try_on(&of(dense(units, activation)), loss);
        let said = format!("{units} {activation:?} {loss:?}: {outcome:?}");
        assert_eq!(outcome.is_ok(), fits, "{said}");
        assert!(fits || matches!(outcome, Err(Error::InvalidArgument(_))), "{said}");
    }
    let rnn = |activation| SimpleRnn::new(2).activation(activation);
    let model = |layer: elman::Layer| Sequential::new(3).add(layer).build(1).unwrap();
    let both = |mode| Bidirectional::new(rnn(Sigmoid)).merge_mode(mode);
    for (layer, loss, fits) in [
        (rnn(Sigmoid).into(), binary(false), true),
        (rnn(Tanh).into(), binary(false), false),
        (rnn(Tanh).into(), sparse(true), true),
        (both(MergeMode::Concat).into(), binary(false), true),
        (both(MergeMode::Sum).into(), binary(false), false),
        (both(MergeMode::Sum).into(), sparse(false), true),
        (both(MergeMode::Ave).into(), binary(true), false),
    ] {
        assert_eq!(try_on(&model(layer), loss).is_ok(), fits, "{loss:?}");
    }
    // A dropout behind probabilities scales them.
    let top = |rate| {
        let model = Sequential::new(3).add(dense(3, Softmax)).add(Dropout::new(rate));
        try_on(&model.build(1).unwrap(), categorical(false)).is_ok()
    };
    assert_eq!([top(0.0), top(0.5)], [true, false]);
}
