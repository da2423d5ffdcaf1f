//! The oracle of the other suites against what real Keras, PyTorch and ONNX Runtime gave, forwards and backwards, and
//! its derivatives against differences where no framework gives them.

mod common;

use common::network::{ACTIVATIONS, Network, Recurrent, Rnn, Spec};
use common::numbers::values;
use common::reference::{self, Call, Exact, Input};
use common::vectors::{ORACLE_TOLERANCE, TOLERANCE, each_case, mask_of};
use elman::{Activation, MergeMode, Padding};

fn check(file: &str, tolerance: f64) -> usize {
    each_case(file, |case, tensors| case.check_oracle(tensors, tolerance))
}

#[test]
fn keras() {
    assert_eq!(check("keras_gated_cells.safetensors", ORACLE_TOLERANCE), 147);
    assert_eq!(check("keras_gated_masks.safetensors", ORACLE_TOLERANCE), 78);
    assert_eq!(check("keras_gated_sequences.safetensors", ORACLE_TOLERANCE), 125);
}

#[test]
fn keras_gradients() {
    assert_eq!(check("keras_lstm_gradients.safetensors", ORACLE_TOLERANCE), 50);
    assert_eq!(check("keras_gru_gradients.safetensors", ORACLE_TOLERANCE), 96);
}

#[test]
fn pytorch() {
    assert_eq!(check("pytorch_gated.safetensors", ORACLE_TOLERANCE), 48);
}

#[test]
fn onnx_runtime() {
    assert_eq!(check("onnx_gated.safetensors", TOLERANCE), 110);
}

/// The simple cell and the layers around it, of which the older files have more.
#[test]
fn older_files() {
    assert_eq!(check("forward.safetensors", ORACLE_TOLERANCE), 90);
    assert_eq!(check("sequences.safetensors", ORACLE_TOLERANCE), 89);
    assert_eq!(check("training.safetensors", ORACLE_TOLERANCE), 34);
    assert_eq!(check("pytorch.safetensors", ORACLE_TOLERANCE), 10);
    assert_eq!(check("onnx.safetensors", TOLERANCE), 58);
}

#[test]
fn activations() {
    let (f, half) = (<Activation as Exact>::value, 0.5);
    assert_eq!(
        [-3.0, 0.0, 1.5, 3.0, 9.0].map(|x| f(Activation::HardSigmoid, x)),
        [0.0, half, 0.75, 1.0, 1.0]
    );
    assert_eq!([-2.5, 0.0, 1.25, 2.5].map(|x| f(Activation::HardSigmoidKeras2, x)), [0.0, half, 0.75, 1.0]);
    assert_eq!([-1.0, 0.0, 2.0].map(|x| f(Activation::LeakyRelu, x)), [-0.2, 0.0, 2.0]);
    assert_eq!([-800.0, 0.0, 800.0].map(|x| f(Activation::Softplus, x)), [0.0, f64::ln(2.0), 800.0]);
    for activation in ACTIVATIONS {
        assert!(activation.value(f64::NAN).is_nan(), "{activation:?}");
        // Steps of 0.07 meet no kink.
        for x in (-80..80).map(|i| f64::from(i) * 0.07 + 0.013) {
            let difference = (activation.value(x + 1e-6) - activation.value(x - 1e-6)) / 2e-6;
            assert!((activation.slope(x) - difference).abs() < 1e-8, "{activation:?} at {x}");
        }
    }
}

const SIZES: [usize; 3] = [4, 5, 3];

/// By ONNX's padding.
fn call<'a>(x: &'a [f32], initial: &'a [f32], mask: &'a [u8]) -> Call<'a> {
    let [batch, steps, _] = SIZES;
    Call {
        mask: Some(mask),
        padding: Padding::Onnx,
        initial_state: Some(initial),
        ..Call::new(Input::Floats(x), batch, steps)
    }
}

/// Layers with Keras 2's gates, rows without a step, halves that are not merged: along a random direction for each
/// array.
#[test]
fn gradients_foretell_differences() {
    let [batch, steps, features] = SIZES;
    let options =
        Rnn { recurrent_activation: Activation::HardSigmoidKeras2, return_sequences: true, ..Rnn::new(4) };
    let before = Rnn { reset_after: false, go_backwards: true, ..options };
    let both = |layer: Recurrent| Spec::bidirectional(MergeMode::None, layer);
    let last = Rnn { return_sequences: false, ..options };
    for layers in [
        vec![Spec::Gru(before), Spec::Lstm(options), both(Recurrent::Gru(options))],
        vec![Spec::Lstm(options), Spec::Gru(options), both(Recurrent::Lstm(last))],
    ] {
        let network = Network::new(features, layers, 1000);
        let x = values(1, batch * steps * features, 1.0);
        let initial = values(2, batch * network.state_len(), 0.5);
        let mask = mask_of(&[3, 0, 5, 1], steps);
        let outputs = reference::run(&network, call(&x, &initial, &mask)).output.len();
        let (g, state_g) = (values(3, outputs, 1.0), values(4, initial.len(), 1.0));
        let loss = |network: &Network, x: &[f32], initial: &[f32]| {
            let outcome = reference::run(network, call(x, initial, &mask));
            let dot = |a: &[f64], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * f64::from(*b)).sum::<f64>();
            dot(&outcome.output, &g) + dot(&outcome.state(), &state_g)
        };
        let found = reference::gradients(&network, call(&x, &initial, &mask), &g, Some(&state_g));
        let check = |what: &str, array: &[f32], gradient: &[f64], loss: &dyn Fn(&[f32]) -> f64| {
            let step = values(5, array.len(), 1.0 / 1024.0);
            let moved = |sign: f32| -> Vec<f32> {
                array.iter().zip(&step).map(|(value, step)| value + sign * step).collect()
            };
            let (up, down) = (moved(1.0), moved(-1.0));
            let apart = up.iter().zip(&down).map(|(up, down)| f64::from(*up) - f64::from(*down));
            let foretold: f64 = apart.zip(gradient).map(|(apart, g)| apart * g).sum();
            let change = loss(&up) - loss(&down);
            assert!(
                (change - foretold).abs() < 1e-4 * change.abs() + 1e-9,
                "{what}: {change} for {foretold}"
            );
        };
        check("x", &x, &found.input, &|x| loss(&network, x, &initial));
        check("states", &initial, &found.states.concat(), &|initial| loss(&network, &x, initial));
        for (i, arrays) in network.weights.iter().enumerate() {
            for (k, array) in arrays.iter().enumerate() {
                let with = |values: &[f32]| {
                    let mut changed = network.clone();
                    changed.weights[i][k].values = values.to_vec();
                    loss(&changed, &x, &initial)
                };
                check(&format!("{i}.{}", array.which.name()), &array.values, &found.weights[i][k], &with);
            }
        }
        // The second row has no step.
        for (of, state) in network.states().iter().zip(&found.states) {
            assert!(state[of.units..2 * of.units].iter().all(|&gradient| gradient == 0.0));
        }
    }
}
