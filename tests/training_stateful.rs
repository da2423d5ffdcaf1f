//! Stateful layers in training, against what Keras 3.15 gives; and masks, lengths and states in evaluation
//! and in fit.

mod common;

use common::numbers::{assert_same_bits, tokens, values};
use elman::{
    Activation, Dense, Embedding, Error, Examples, Fit, Gru, Layer, Loss, Lstm, Optimizer, RunOptions,
    Schedule, Sequential, SimpleRnn, Trainer, TrainerConfig, Truncation, Weight,
};

const MSE: Loss = Loss::MeanSquaredError;

/// SimpleRNN(1, linear, no bias, W = U = 1, stateful, sequences).
fn counter() -> Sequential {
    let rnn = SimpleRnn::new(1).activation(Activation::Linear).use_bias(false).stateful(true);
    let mut model = Sequential::new(1).add(rnn.return_sequences(true)).build(1).unwrap();
    model.set_weight(0, Weight::Kernel, &[1.0]).unwrap();
    model.set_weight(0, Weight::RecurrentKernel, &[1.0]).unwrap();
    model
}

fn config(rate: f32) -> TrainerConfig {
    TrainerConfig::new(Optimizer::sgd(), MSE).schedule(Schedule::Constant(rate))
}

const X: [f32; 3] = [1.0; 3];
const TARGET: [f32; 3] = [0.0; 3];

fn examples() -> Examples<'static> {
    Examples::floats(&X, 1, 3, &TARGET)
}

#[track_caller]
fn near(got: f32, expected: f32) {
    assert!((got / expected - 1.0).abs() < 1e-6, "{got} for {expected}");
}

#[test]
fn training_evaluation_and_prediction_go_on_from_one_state() {
    for threads in [1, 2] {
        let mut model = counter();
        model.set_threads(threads).unwrap();
        let mut trainer = Trainer::new(&model, config(0.0)).unwrap();
        for expected in [4.666_666_5, 25.666_666, 64.666_664] {
            near(trainer.step(&mut model, examples(), RunOptions::default()).unwrap(), expected);
        }
        assert_eq!(model.states().unwrap(), Some((1, vec![9.0])));
        model.reset_states();
        assert_eq!(model.states().unwrap(), None);
        near(trainer.step(&mut model, examples(), RunOptions::default()).unwrap(), 4.666_666_5);
        assert_eq!(model.predict(&X, 1, 3).unwrap(), [4.0, 5.0, 6.0]);
        near(trainer.evaluate(&model, examples()).unwrap().loss, 64.666_664);
        near(trainer.step(&mut model, examples(), RunOptions::default()).unwrap(), 121.666_664);
        // A state that is given wins, and its end is kept.
        let mut end = [0.0];
        let options = RunOptions::default().initial_state(&[3.0]).final_state(&mut end);
        near(trainer.step(&mut model, examples(), options).unwrap(), 25.666_666);
        assert_eq!(end, [6.0]);
        near(trainer.evaluate(&model, examples()).unwrap().loss, 64.666_664);
        // Another batch is refused, as by predict, until the states are reset.
        let two = Examples::floats(&[1.0; 6], 2, 3, &[0.0; 6]);
        assert!(matches!(
            trainer.step(&mut model, two, RunOptions::default()),
            Err(Error::InvalidArgument(_))
        ));
        assert!(matches!(trainer.evaluate(&model, two), Err(Error::InvalidArgument(_))));
        assert_eq!(model.states().unwrap(), Some((1, vec![9.0])));
        // What is kept can be put back.
        model.set_states(1, &[6.0]).unwrap();
        near(trainer.step(&mut model, examples(), RunOptions::default()).unwrap(), 64.666_664);
        assert!(model.set_states(2, &[6.0]).is_err());
        model.reset_states();
        near(trainer.step(&mut model, two, RunOptions::default()).unwrap(), 4.666_666_5);
    }
}

#[test]
fn fit_goes_on_through_epochs_and_validation() {
    let (mut model, fit) = (counter(), Fit::default().epochs(3).batch_size(1).shuffle(false));
    let mut trainer = Trainer::new(&model, config(0.0)).unwrap();
    let fit = fit.validation(examples());
    let history = model.fit(&mut trainer, examples(), fit).unwrap();
    let expected = [(4.666_666_5, 25.666_666), (64.666_664, 121.666_664), (196.666_67, 289.666_66)];
    for (epoch, (loss, validation)) in history.iter().zip(expected) {
        near(epoch.training.loss, loss);
        near(epoch.validation.unwrap().loss, validation);
    }
    // Two batches of one row: the second goes on where the first ended.
    let mut model = counter();
    let two = Examples::floats(&[1.0; 6], 2, 3, &[0.0; 6]);
    let history = model.fit(&mut trainer, two, fit.epochs(1).validation(two)).unwrap();
    near(history[0].training.loss, (4.666_666_5 + 25.666_666) / 2.0);
    near(history[0].validation.unwrap().loss, (64.666_664 + 121.666_664) / 2.0);
    // A last batch of another size is refused before anything is done.
    let mut model = counter();
    let wrong = model.fit(&mut trainer, two, fit.batch_size(3));
    assert!(matches!(wrong, Err(Error::InvalidArgument(_))), "{wrong:?}");
}

/// Gradients do not run back into the states of the step before: a step has those of the same one from a
/// given state.
#[test]
fn a_stateful_step_has_the_gradients_of_one_from_that_state() {
    let rnn = |stateful| SimpleRnn::new(5).return_sequences(true).stateful(stateful);
    stateful_gradients(|stateful| [rnn(stateful).into(), SimpleRnn::new(4).return_sequences(true).into()], 5);
    let lstm = |units| Lstm::new(units).return_sequences(true);
    // Of an LSTM h and c.
    stateful_gradients(|stateful| [lstm(5).stateful(stateful).into(), lstm(4).into()], 2 * 5);
    for reset_after in [true, false] {
        let gru = Gru::new(5).return_sequences(true).reset_after(reset_after);
        stateful_gradients(|stateful| [gru.stateful(stateful).into(), lstm(4).into()], 5);
    }
}

/// Of a layer that is told whether it is stateful, with states of `first` floats a row, and one above that is not.
fn stateful_gradients(layers: impl Fn(bool) -> [Layer; 2], first: usize) {
    let build = |stateful| {
        let [below, above] = layers(stateful);
        Sequential::new(3).add(below).add(above).add(Dense::new(2)).build(3).unwrap()
    };
    for truncation in [None, Some(Truncation::new(2, 3))] {
        let config = TrainerConfig::new(Optimizer::adam(), MSE).truncation(truncation);
        let (mut model, mut other) = (build(true), build(false));
        let mut trainer = Trainer::new(&model, config).unwrap();
        let mut by_hand = Trainer::new(&other, config).unwrap();
        let target = values(2, 2 * 6 * 2, 1.0);
        let mut state = vec![0.0; model.state_len(2).unwrap()];
        for round in 0..4 {
            let x = values(round, 2 * 6 * 3, 1.0);
            let examples = Examples::floats(&x, 2, 6, &target);
            // A failed step leaves the states alone.
            let mut bad = x.clone();
            bad[35] = f32::NAN;
            let wrong = Examples::floats(&bad, 2, 6, &target);
            assert!(trainer.step(&mut model, wrong, RunOptions::default()).is_err());
            let begin = state.clone();
            let options = RunOptions::default().initial_state(&begin).final_state(&mut state);
            let expected = by_hand.step(&mut other, examples, options).unwrap();
            // The second layer is not stateful.
            state[2 * first..].fill(0.0);
            assert_eq!(trainer.step(&mut model, examples, RunOptions::default()).unwrap(), expected);
            let parameters = |model: &Sequential| {
                let mut values = vec![0.0; model.parameter_count().unwrap()];
                model.get_parameters(&mut values).unwrap();
                values
            };
            assert_same_bits("weights", &parameters(&model), &parameters(&other));
            assert_same_bits("states", &model.states().unwrap().unwrap().1, &state);
        }
    }
}

/// A network of sequences, with rows of several lengths.
struct Rows {
    x: Vec<f32>,
    target: Vec<f32>,
    weights: Vec<f32>,
    lengths: Vec<usize>,
    mask: Vec<u8>,
    states: Vec<f32>,
}

const BATCH: usize = 150;
const STEPS: usize = 6;

impl Rows {
    fn new() -> Self {
        Self {
            x: values(1, BATCH * STEPS * 3, 1.0),
            target: values(2, BATCH * STEPS * 2, 1.0),
            weights: values(3, BATCH * STEPS, 1.0),
            lengths: tokens(4, BATCH, 7).iter().map(|&length| length as usize).collect(),
            mask: tokens(5, BATCH * STEPS, 2).iter().map(|&used| used as u8).collect(),
            states: values(6, BATCH * 9, 1.0),
        }
    }

    fn model() -> Sequential {
        let rnn = |units| SimpleRnn::new(units).return_sequences(true);
        Sequential::new(3).add(rnn(5)).add(rnn(4)).add(Dense::new(2)).build(3).unwrap()
    }

    fn plain(&self) -> Examples<'_> {
        Examples::floats(&self.x, BATCH, STEPS, &self.target)
    }
}

#[test]
fn evaluation_takes_what_a_step_takes() {
    let rows = Rows::new();
    let by_options = |mask, lengths| {
        let mut options = RunOptions::default().initial_state(&rows.states);
        (options.mask, options.lengths) = (mask, lengths);
        options
    };
    let config = config(0.0).l2(0.1);
    let mut seen = Vec::new();
    for (examples, mask, lengths) in [
        (rows.plain().lengths(&rows.lengths), None, Some(&rows.lengths[..])),
        (rows.plain().mask(&rows.mask), Some(&rows.mask[..]), None),
        (rows.plain(), None, None),
    ] {
        let mut model = Rows::model();
        let mut trainer = Trainer::new(&model, config).unwrap();
        let plain = rows.plain().weights(&rows.weights);
        let step = trainer.step(&mut model, plain, by_options(mask, lengths)).unwrap();
        // The states of 150 rows in two parts are put together again.
        let (mut ends, mut expected) = (vec![0.0; rows.states.len()], vec![0.0; rows.states.len()]);
        let options = by_options(mask, lengths).final_state(&mut ends);
        let score = trainer.evaluate_with(&model, plain, options).unwrap();
        near(score.loss, step);
        let mut y = vec![0.0; BATCH * STEPS * 2];
        let options = by_options(mask, lengths).final_state(&mut expected);
        model.run(&rows.x, BATCH, STEPS, options, &mut y).unwrap();
        assert_same_bits("states", &ends, &expected);
        let own = examples.weights(&rows.weights).initial_state(&rows.states);
        assert_eq!(trainer.evaluate(&model, own).unwrap(), score);
        assert_eq!(trainer.step(&mut model, own, RunOptions::default()).unwrap(), step);
        seen.push(score.loss);
        // Said twice is a mistake.
        let twice = trainer.step(&mut model, own, by_options(mask, lengths));
        assert!(matches!(twice, Err(Error::InvalidArgument(_))), "{twice:?}");
    }
    assert!(seen[0] != seen[1] && seen[1] != seen[2], "{seen:?}");
}

#[test]
fn fit_gathers_what_belongs_to_the_rows() {
    let rows = Rows::new();
    for by_mask in [false, true] {
        let examples = match by_mask {
            true => rows.plain().mask(&rows.mask),
            false => rows.plain().lengths(&rows.lengths),
        };
        let examples = examples.weights(&rows.weights).initial_state(&rows.states);
        let (mut model, mut other) = (Rows::model(), Rows::model());
        let config = config(0.01);
        let mut trainer = Trainer::new(&model, config).unwrap();
        let fit = Fit::default().batch_size(64).shuffle(false).validation(examples);
        let history = model.fit(&mut trainer, examples, fit).unwrap();
        let mut by_hand = Trainer::new(&other, config).unwrap();
        for part in [0..64, 64..128, 128..150] {
            let (n, steps) = (part.len(), part.start * STEPS..part.end * STEPS);
            // Two layers' states, one behind the other.
            let second = BATCH * 5;
            let states = [
                &rows.states[part.start * 5..part.end * 5],
                &rows.states[second + part.start * 4..second + part.end * 4],
            ]
            .concat();
            let x = &rows.x[steps.start * 3..steps.end * 3];
            let part_of = Examples::floats(x, n, STEPS, &rows.target[steps.start * 2..steps.end * 2]);
            let part_of = match by_mask {
                true => part_of.mask(&rows.mask[steps.clone()]),
                false => part_of.lengths(&rows.lengths[part.clone()]),
            };
            let part_of = part_of.weights(&rows.weights[steps]).initial_state(&states);
            by_hand.step(&mut other, part_of, RunOptions::default()).unwrap();
        }
        let parameters = |model: &Sequential| {
            let mut values = vec![0.0; model.parameter_count().unwrap()];
            model.get_parameters(&mut values).unwrap();
            values
        };
        assert_same_bits("weights", &parameters(&model), &parameters(&other));
        assert_eq!(history[0].validation.unwrap(), by_hand.evaluate(&other, examples).unwrap());
    }
}

/// Keras: loss 0.
#[test]
fn a_batch_that_is_masked_throughout_costs_nothing() {
    for recurrent in [true, false] {
        let mut model = Sequential::new(1).add(Embedding::new(4, 2).mask_zero(true));
        if recurrent {
            model = model.add(SimpleRnn::new(3).return_sequences(true));
        }
        let mut model = model.add(Dense::new(3)).build(1).unwrap();
        let mut before = vec![0.0; model.parameter_count().unwrap()];
        let mut after = before.clone();
        let plain = TrainerConfig::new(Optimizer::adam(), MSE);
        for (l2, penalty) in [(0.0, false), (0.5, true)] {
            let mut trainer = Trainer::new(&model, plain.l2(l2)).unwrap();
            let some = Examples::tokens(&[1, 0, 2, 3, 0, 1, 1, 1, 2, 0], 2, 5, &[0.5; 30]);
            trainer.step(&mut model, some, RunOptions::default()).unwrap();
            model.get_parameters(&mut before).unwrap();
            let nothing = Examples::tokens(&[0; 10], 2, 5, &[0.5; 30]);
            let loss = trainer.step(&mut model, nothing, RunOptions::default()).unwrap();
            assert_eq!(loss > 0.0, penalty);
            assert_eq!(trainer.evaluate(&model, nothing).unwrap().loss, loss);
            assert_eq!(trainer.steps(), 1);
            let mut gradients = vec![7.0; before.len()];
            let half = trainer.backward(&model, nothing, RunOptions::default(), &mut gradients).unwrap();
            assert_eq!(half, loss);
            assert!(gradients.iter().all(|&gradient| gradient == 0.0));
            trainer.apply(&mut model, &gradients).unwrap();
            assert_eq!(trainer.steps(), 1);
            model.get_parameters(&mut after).unwrap();
            assert_same_bits("weights", &after, &before);
        }
        // In the middle of an epoch it stops nothing.
        let mut trainer = Trainer::new(&model, plain).unwrap();
        let ids = [[0; 5], [1; 5], [2; 5], [0; 5]].concat();
        let fit = Fit::default().batch_size(1).epochs(2);
        model.fit(&mut trainer, Examples::tokens(&ids, 4, 5, &[0.5; 60]), fit).unwrap();
        assert_eq!(trainer.steps(), 4);
    }
}
