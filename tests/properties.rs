//! Random networks, shapes, masks and states against the oracle; what NaN and infinity do; tiny states.

mod common;

use common::arms;
use common::network::{Network, Rnn, Spec};
use common::numbers::{assert_same_bits, distance};
use common::questions::{Question, config, question};
use common::reference::{self, Call, Input};
use common::vectors::{TOLERANCE, run_elman};
use elman::{Activation, Padding, SimpleRnnCell, Unroll, Weight};
use proptest::prelude::*;

/// 2^-100: a state below it is stored as zero.
const TINY: f32 = f32::from_bits((127 - 100) << 23);

/// What `elman` and the oracle answer.
struct Answers {
    output: Vec<f32>,
    state: Vec<f32>,
    oracle: reference::Outcome,
}

fn ask(question: &Question, padding: Padding, spoil: impl Fn(&mut [f32])) -> Answers {
    let mut data = question.data();
    spoil(&mut data.x);
    let oracle = reference::run(&question.network, data.for_oracle(question, padding));
    let (output, state) = run_elman(&question.network.elman(), data.for_elman(question, padding));
    Answers { output, state, oracle }
}

impl Answers {
    fn compare(&self) -> Result<(), TestCaseError> {
        for (what, got, expected) in
            [("output", &self.output, &self.oracle.output), ("state", &self.state, &self.oracle.state())]
        {
            // What a relu leaves of a sum can be far smaller than the terms that were rounded: hence the floor.
            let distance = distance(got, expected, 0.1);
            prop_assert!(
                distance <= TOLERANCE,
                "{what}: {distance:e} of the largest value\n{got:?}\n{expected:?}"
            );
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_network_agrees_with_the_oracle(question in question()) {
        ask(&question, Padding::Keras, |_| {}).compare()?;
    }

    #[test]
    fn onnx_padding_agrees_with_the_oracle(question in question()) {
        prop_assume!(question.goes_with_onnx());
        ask(&question, Padding::Onnx, |_| {}).compare()?;
    }

    #[test]
    fn what_is_not_finite_goes_where_arithmetic_carries_it(
        question in question(),
        spoilt in prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize), 1..=3),
    ) {
        let spoil = |x: &mut [f32]| {
            for (at, kind) in &spoilt {
                x[at.index(x.len())] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][*kind];
            }
        };
        ask(&question, Padding::Keras, spoil).compare()?;
    }
}

/// Identity kernels and no recurrence: the state is the function of the input, and what is left is how it is stored.
fn identity(units: usize, activation: Activation, return_sequences: bool) -> Network {
    let rnn = Rnn { activation, return_sequences, ..Rnn::new(units) };
    let mut network = Network::single(units, rnn, 1);
    for array in &mut network.weights[0] {
        let one = |(i, value): (usize, &mut f32)| {
            *value = if array.which == Weight::Kernel && i / units == i % units { 1.0 } else { 0.0 };
        };
        array.values.iter_mut().enumerate().for_each(one);
    }
    network
}

#[test]
fn tiny_states_become_zero() {
    let below = TINY.next_down();
    let inputs = [
        TINY,
        below,
        -TINY,
        -below,
        TINY / 2.0,
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        -f32::from_bits(77),
        0.0,
        1e-20,
    ];
    for units in [1, 3, 16, 20, 64, 65, 129] {
        for batch in [1, 2, 9] {
            let x: Vec<f32> = (0..batch * units).map(|i| inputs[(i / 3 + i) % inputs.len()]).collect();
            for activation in [Activation::Tanh, Activation::Linear, Activation::Relu] {
                let network = identity(units, activation, false);
                let function = |x: f32| if activation == Activation::Relu { x.max(0.0) } else { x };
                let stored = |x: f32| if x.abs() < TINY { 0.0 } else { x };
                let expected: Vec<f32> = x.iter().map(|&x| stored(function(x))).collect();
                let (y, state) = run_elman(&network.elman(), Call::new(Input::Floats(&x), batch, 1));
                let what = format!("{units} units, {activation:?}, batch {batch}");
                assert_same_bits(&what, &y, &expected);
                assert_same_bits(&what, &state, &expected);

                let mut cell = SimpleRnnCell::new(Rnn { activation, ..Rnn::new(units) }.elman(), units, 1)
                    .expect("the cell is valid");
                for array in &network.weights[0] {
                    cell.set_weight(array.which, &array.values).expect("the weight fits");
                }
                let mut h = vec![0.0; batch * units];
                cell.step_in_place(&x, batch, &mut h).expect("the step is right");
                assert_same_bits(&what, &h, &expected);
            }
        }
    }
}

/// A sigmoid state too: `sigmoid(-80)` is 1.8e-35.
#[test]
fn tiny_sigmoid_states_become_zero() {
    for units in [1, 17, 64] {
        let x: Vec<f32> = (0..units).map(|i| -60.0 - i as f32).collect();
        let network = identity(units, Activation::Sigmoid, false);
        let (y, _) = run_elman(&network.elman(), Call::new(Input::Floats(&x), 1, 1));
        for (x, y) in x.iter().zip(y) {
            let exact = reference::sigmoid(f64::from(*x));
            let stored = if exact < f64::from(TINY) { 0.0 } else { exact };
            assert!(
                (f64::from(y) - stored).abs() <= 1e-6 * stored,
                "sigmoid({x}) is stored as {y:e}, not {stored:e}"
            );
        }
    }
}

/// A state that halves at each step is there down to 2^-100 and gone at 2^-101, on every step of an unrolled run.
#[test]
fn a_fading_state_ends_at_zero() {
    for unroll in [Unroll::Looped, Unroll::Unrolled] {
        for units in [1, 20, 64, 129] {
            let mut network = identity(units, Activation::Linear, true).with(|rnn| rnn.unroll = unroll);
            for (i, value) in network.weights[0][1].values.iter_mut().enumerate() {
                *value = if i / units == i % units { 0.5 } else { 0.0 };
            }
            let steps = 120;
            let mut x = vec![0.0; steps * units];
            x[..units].fill(1.0);
            let (y, _) = run_elman(&network.elman(), Call::new(Input::Floats(&x), 1, steps));
            let expected: Vec<f32> = (0..steps * units)
                .map(
                    |i| if i / units <= 100 { f32::from_bits((127 - (i / units) as u32) << 23) } else { 0.0 },
                )
                .collect();
            assert_same_bits(&format!("{units} units, {unroll:?}"), &y, &expected);
        }
    }
}

/// A Dense is not a state: what it gives is stored as it is.
#[test]
fn a_dense_layer_keeps_tiny_values() {
    let dense = Spec::Dense { units: 1, activation: Activation::Linear, use_bias: false };
    let mut network = Network::new(1, vec![dense], 1);
    network.weights[0][0].values = vec![1.0];
    let x = [TINY / 2.0, 1e-38, -1e-37, TINY];
    let (y, _) = run_elman(&network.elman(), Call::new(Input::Floats(&x), 4, 1));
    assert_same_bits("dense", &y, &x);
}

#[test]
fn every_arm() {
    arms::run_others("properties");
}
