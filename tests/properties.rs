//! Random networks, shapes, masks and states against the oracle; what NaN and infinity do; tiny states.

mod common;

use common::arms;
use common::network::{Network, Rnn, Spec};
use common::numbers::{assert_same_bits, distance, values};
use common::questions::{Question, config, onnx_question, question};
use common::reference::{self, Call, Input};
use common::vectors::{TOLERANCE, run_elman};
use elman::{Activation, Padding, SimpleRnnCell, Unroll, Weight};
use proptest::prelude::*;

/// 2^-100: a state below it is stored as zero.
const TINY: f32 = f32::from_bits((127 - 100) << 23);

/// What a relu leaves of a sum can be far smaller than the terms that were rounded: an array's largest value counts as
/// this at the least.
const FLOOR: f64 = 0.1;

/// elman's output and states against the oracle's, in `TOLERANCE` of each array's largest value.
///
/// Some networks are worse than that by themselves: linear layers and sigmoids in a row, where what many units have in
/// common cancels in the layer above and what they were rounded by does not. The oracle tells which they are: an answer may
/// be as far away as the exact one goes when each weight moves by 2^-20 of itself, which is what 16 roundings may do to
/// each term, and so a sum of some hundreds of terms to itself. Of 100,000 questions, on AVX-512 and on the portable
/// arm, each answer further away than 5e-7 was nearer than that.
fn agree(question: &Question, padding: Padding, spoil: impl Fn(&mut [f32])) -> Result<(), TestCaseError> {
    let mut data = question.data();
    spoil(&mut data.x);
    let exact = |network: &Network| {
        let outcome = reference::run(network, data.for_oracle(question, padding));
        [outcome.state(), outcome.output]
    };
    let (output, state) = run_elman(&question.network.elman(), data.for_elman(question, padding));
    let expected = exact(&question.network);
    for (i, (what, got)) in [("state", state), ("output", output)].into_iter().enumerate() {
        let apart = distance(&got, &expected[i], FLOOR);
        if apart <= TOLERANCE {
            continue;
        }
        let goes = |draw| {
            let moved: Vec<f32> =
                exact(&moved(&question.network, draw))[i].iter().map(|&y| y as f32).collect();
            distance(&moved, &expected[i], FLOOR)
        };
        let room = (0..3).map(goes).fold(0.0, f64::max);
        let furthest = |&(a, b): &(f32, f64), &(c, d): &(f32, f64)| {
            (f64::from(a) - b).abs().total_cmp(&(f64::from(c) - d).abs())
        };
        let pairs = got.iter().copied().zip(expected[i].iter().copied());
        prop_assert!(
            apart <= room && room.is_finite(),
            "{what} on {}, {padding:?}: {apart:e} of the largest value, with room for {room:e}; the furthest, got and \
             exact: {:?}",
            elman::isa().expect("an arm was chosen").name(),
            pairs.max_by(furthest)
        );
    }
    Ok(())
}

/// Each weight moved by 2^-20 of itself, up or down.
fn moved(network: &Network, draw: u64) -> Network {
    let mut moved = network.clone();
    for (i, array) in moved.weights.iter_mut().flatten().enumerate() {
        let ways = values(1000 * draw + i as u64, array.values.len(), 1.0);
        let each = array.values.iter_mut().zip(ways);
        each.for_each(|(value, way)| *value *= 1.0 + way.signum() / (1 << 20) as f32);
    }
    moved
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_network_agrees_with_the_oracle(question in question()) {
        agree(&question, Padding::Keras, |_| {})?;
    }

    #[test]
    fn onnx_padding_agrees_with_the_oracle(question in onnx_question()) {
        agree(&question, Padding::Onnx, |_| {})?;
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
        agree(&question, Padding::Keras, spoil)?;
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
