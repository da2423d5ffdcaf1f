//! Random networks, shapes, masks and states against the oracle; what NaN and infinity do; tiny states.

mod common;

use common::backends;
use common::cells::Cell;
use common::network::{BOUNDED, CELLS, GATED, Network, Recurrent, Rnn, Spec};
use common::numbers::{assert_same_bits, distance, values};
use common::questions::{Question, config, onnx_question, question};
use common::reference::{self, Call, Input};
use common::vectors::{TOLERANCE, run_elman};
use elman::{Activation, Padding, Unroll, Weight};
use proptest::prelude::*;

/// 2^-100: a state below it is stored as zero.
const TINY: f32 = f32::from_bits((127 - 100) << 23);

/// What a relu leaves of a sum can be far smaller than the terms that were rounded: an array's largest value counts as
/// this at the least.
const FLOOR: f64 = 0.1;

/// Growing states make values that are far beyond f32.
const LARGE: f64 = 1e20;

/// elman's output and states against the oracle's, in `TOLERANCE` of each array's largest value.
///
/// Some networks are worse than that by themselves: linear layers and sigmoids in a row, where what many units have in
/// common cancels in the layer above and what they were rounded by does not. The oracle tells which they are: an answer may
/// be as far away as the exact one goes when each weight moves by 2^-20 of itself, which is what 16 roundings may do to
/// each term, and so a sum of some hundreds of terms to itself. Of 100,000 questions, on AVX-512 and on the portable
/// backend, each answer further away than 5e-7 was nearer than that.
fn agree(question: &Question, padding: Padding, spoil: impl Fn(&mut [f32])) -> Result<(), TestCaseError> {
    let mut data = question.data();
    spoil(&mut data.x);
    let exact = |network: &Network| {
        let outcome = reference::run(network, data.for_oracle(question, padding));
        [outcome.state(), outcome.output]
    };
    let (output, state) = run_elman(&question.network.elman(), data.for_elman(question, padding));
    let expected = exact(&question.network);
    // What has outgrown f32 is no question of precision.
    prop_assume!(expected.iter().flatten().all(|value| !value.is_finite() || value.abs() < LARGE));
    for (i, (what, got)) in [("state", state), ("output", output)].into_iter().enumerate() {
        let apart = distance(&got, &expected[i], FLOOR);
        if apart <= TOLERANCE {
            continue;
        }
        let goes = |draw| {
            let moved: Vec<f32> = exact(&question.network.moved(draw))[i].iter().map(|&y| y as f32).collect();
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
            elman::isa().expect("a backend was chosen").name(),
            pairs.max_by(furthest)
        );
    }
    Ok(())
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
        // Infinity times what f32 takes for nothing, and f64 does not, is no question of how it is carried.
        let mut question = question;
        for rnn in question.network.layers.iter_mut().filter_map(Spec::rnn_mut) {
            if !BOUNDED.contains(&rnn.recurrent_activation) {
                rnn.recurrent_activation = Activation::HardSigmoid;
            }
        }
        let spoil = |x: &mut [f32]| {
            for (at, kind) in &spoilt {
                x[at.index(x.len())] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][*kind];
            }
        };
        agree(&question, Padding::Keras, spoil)?;
    }
}

/// Layers whose state is the function of the input, so that what is left is how it is stored: an identity kernel, and gates
/// that pass everything on and keep nothing of the state before; `keep` is the bias of the gate that would.
fn identity(layer: impl Into<Recurrent>, keep: f32) -> Network {
    let layer = layer.into();
    let (units, gates) = (layer.options().units, layer.gates());
    let mut network = Network::single(units, layer, 1);
    let candidate = if gates > 1 { 2 } else { 0 };
    let biases: &[f32] = match layer {
        Recurrent::SimpleRnn(_) => &[0.0],
        Recurrent::Lstm(_) => &[OPEN, keep, 0.0, OPEN],
        Recurrent::Gru(_) => &[keep, OPEN, 0.0],
    };
    for array in &mut network.weights[0] {
        let columns = array.shape[1];
        for (i, value) in array.values.iter_mut().enumerate() {
            let (row, gate, unit) = (i / columns, i % columns / units, i % units);
            *value = match array.which {
                Weight::Kernel if gate == candidate && row == unit => 1.0,
                Weight::Bias if row == 0 => biases[gate],
                _ => 0.0,
            };
        }
    }
    network
}

/// A hard sigmoid's bias that makes it exactly one; its negative makes it nothing.
const OPEN: f32 = 10.0;

fn hard(units: usize, activation: Activation) -> Rnn {
    Rnn { activation, recurrent_activation: Activation::HardSigmoid, ..Rnn::new(units) }
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
            for (cell, activation) in CELLS.into_iter().flat_map(|cell| {
                [Activation::Tanh, Activation::Linear, Activation::Relu].map(|activation| (cell, activation))
            }) {
                let layer = cell(hard(units, activation));
                let network = identity(layer, -OPEN);
                let function = |x: f32| if activation == Activation::Relu { x.max(0.0) } else { x };
                let stored = |x: f32| if x.abs() < TINY { 0.0 } else { x };
                let expected: Vec<f32> = x.iter().map(|&x| stored(function(x))).collect();
                let (y, state) = run_elman(&network.elman(), Call::new(Input::Floats(&x), batch, 1));
                let what = format!("{layer:?}, batch {batch}");
                assert_same_bits(&what, &y, &expected);
                // An LSTM's c is the same.
                let states = expected.repeat(layer.states());
                assert_same_bits(&what, &state, &states);

                let mut state = vec![vec![0.0; batch * units]; layer.states()];
                Cell::of(&network).step_in_place(&x, batch, &mut state).expect("the step is right");
                assert_same_bits(&what, &state.concat(), &states);
            }
        }
    }
}

/// A sigmoid state too: `sigmoid(-80)` is 1.8e-35.
#[test]
fn tiny_sigmoid_states_become_zero() {
    for (units, cell) in [1, 17, 64].into_iter().flat_map(|units| CELLS.map(|cell| (units, cell))) {
        let x: Vec<f32> = (0..units).map(|i| -60.0 - i as f32).collect();
        let layer = cell(hard(units, Activation::Sigmoid));
        let network = identity(layer, -OPEN);
        let (_, state) = run_elman(&network.elman(), Call::new(Input::Floats(&x), 1, 1));
        // An LSTM's h is the sigmoid of c.
        for (x, y) in x.iter().zip(&state[state.len() - units..]) {
            let exact = reference::sigmoid(f64::from(*x));
            let stored = if exact < f64::from(TINY) { 0.0 } else { exact };
            assert!(
                (f64::from(*y) - stored).abs() <= 1e-6 * stored,
                "{layer:?}: sigmoid({x}) is stored as {y:e}, not {stored:e}"
            );
        }
    }
}

/// A state that halves at each step is there down to 2^-100 and gone at 2^-101, on every step of an unrolled run.
#[test]
fn a_fading_state_ends_at_zero() {
    let all = [1, 20, 64, 129].into_iter().flat_map(|units| CELLS.map(|cell| (units, cell)));
    for (units, cell) in all {
        for unroll in [Unroll::Looped, Unroll::Unrolled] {
            let rnn = Rnn { unroll, return_sequences: true, ..hard(units, Activation::Linear) };
            let layer = cell(rnn);
            // The gate that keeps half of the state.
            let mut network = identity(layer, 0.0);
            if layer.is_simple() {
                for (i, value) in network.weights[0][1].values.iter_mut().enumerate() {
                    *value = if i / units == i % units { 0.5 } else { 0.0 };
                }
            }
            let steps = 120;
            let mut x = vec![0.0; steps * units];
            x[..units].fill(1.0);
            let (y, _) = run_elman(&network.elman(), Call::new(Input::Floats(&x), 1, steps));
            // A GRU takes half of its first candidate.
            let first = if matches!(layer, Recurrent::Gru(_)) { 1 } else { 0 };
            let halved = |i: usize| match first + i / units {
                halvings @ 0..=100 => f32::from_bits((127 - halvings as u32) << 23),
                _ => 0.0,
            };
            let expected: Vec<f32> = (0..steps * units).map(halved).collect();
            assert_same_bits(&format!("{layer:?}"), &y, &expected);
        }
    }
}

/// A gate that lets nothing in keeps what is there, however much smaller it is than what would come: to the bit, step after
/// step.
#[test]
fn a_closed_gate_keeps_the_state() {
    for (units, cell) in [1, 7, 20, 64, 129].into_iter().flat_map(|units| GATED.map(|cell| (units, cell))) {
        let layer = cell(hard(units, Activation::Linear));
        let mut network = identity(layer, OPEN);
        if let Recurrent::Lstm(_) = layer {
            let bias = network.weights[0].iter_mut().find(|array| array.which == Weight::Bias);
            bias.expect("there is one").values[..units].fill(-OPEN);
        }
        for batch in [1, 9] {
            let x = values(2, batch * 5 * units, 1.0);
            let small: Vec<f32> = values(1, batch * units, 1.0).iter().map(|h| 1e-6 * h * h * h).collect();
            let initial = small.repeat(layer.states());
            let call = Call { initial_state: Some(&initial), ..Call::new(Input::Floats(&x), batch, 5) };
            let (y, state) = run_elman(&network.elman(), call);
            assert_same_bits(&format!("{layer:?}, batch {batch}"), &y, &small);
            assert_same_bits(&format!("{layer:?}, batch {batch}"), &state, &initial);
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
fn every_backend() {
    backends::run_others("properties");
}
