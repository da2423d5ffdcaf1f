//! Gradients: against Keras's and PyTorch's (`tests/vectors`), against central differences of the f64 oracle on
//! random networks, and with dropout against differences of elman itself.

mod common;

use common::arms;
use common::network::{Network, Rnn, Spec};
use common::numbers::{Choices, assert_same_bits, distance, tokens, values};
use common::reference::{self, Call, Input};
use common::vectors::{Case, Wrong, each_case};
use elman::{Activation, MergeMode, RunOptions, Sequential, Tape, Weight};
use safetensors::SafeTensors;

/// Of a gradient's largest magnitude: what it may differ by.
const TOLERANCE: f64 = 1e-4;

/// A tape that has gone forwards and backwards for the loss `sum(y · g)`.
struct Ran {
    tape: Tape,
    y: Vec<f32>,
    state: Vec<f32>,
    dx: Option<Vec<f32>>,
}

fn options<'a>(call: Call<'a>, state: &'a mut [f32]) -> RunOptions<'a> {
    RunOptions {
        mask: call.mask,
        lengths: call.lengths,
        padding: call.padding,
        initial_state: call.initial_state,
        final_state: Some(state),
    }
}

/// `training` holds a seed where dropout is active.
fn forward(tape: &mut Tape, call: Call<'_>, training: Option<u64>, y: &mut [f32], state: &mut [f32]) {
    let (batch, steps) = (call.batch, call.steps);
    let (active, seed) = (training.is_some(), training.unwrap_or(0));
    match call.input {
        Input::Floats(x) => tape.forward(x, batch, steps, options(call, state), active, seed, y),
        Input::Tokens(ids) => tape.forward_tokens(ids, batch, steps, options(call, state), active, seed, y),
    }
    .expect("the call is right");
}

fn run(model: &Sequential, call: Call<'_>, g: &[f32], state_g: Option<&[f32]>, training: Option<u64>) -> Ran {
    // A larger tape than needed, and a call before that leaves something in every buffer.
    let mut tape = Tape::new(model, call.batch + 1, call.steps + 2).expect("the sizes are right");
    let mut y = vec![f32::NAN; model.output_len(call.batch, call.steps).unwrap()];
    let mut state = vec![f32::NAN; model.state_len(call.batch).unwrap()];
    let floats = matches!(call.input, Input::Floats(_));
    let mut dx = floats.then(|| vec![f32::NAN; call.batch * call.steps * model.input_size()]);
    for _ in 0..2 {
        forward(&mut tape, call, training, &mut y, &mut state);
        tape.backward_with_state(g, state_g, dx.as_deref_mut()).expect("a forward pass came before");
    }
    Ran { tape, y, state, dx }
}

#[test]
fn keras() {
    assert_eq!(each_case("training.safetensors", check_case), 34);
}

#[test]
fn pytorch() {
    assert_eq!(each_case("pytorch.safetensors", check_case), 10);
}

fn check_case(case: &Case, tensors: &SafeTensors<'_>) -> Wrong {
    let network = case.network();
    let directions = network.directions();
    let (mask, given) = case.mask(tensors);
    let data = case.data(mask.as_deref());
    let initial = case.initial_state.then(|| case.states(990, 0.5));
    let state_g = case.state_gradient.then(|| case.states(980, 1.0));
    let call = Call {
        mask: mask.as_deref().filter(|_| given),
        initial_state: initial.as_deref(),
        ..Call::new(data.input(), case.batch, case.steps)
    };
    let y = case.floats(tensors, "y");
    let g = values(case.seed() + 998, y.len(), 1.0);
    let ran = run(&network.elman(), call, &g, state_g.as_deref(), None);

    let mut wrong = Wrong::new();
    let mut check = |what: &str, got: &[f32], tolerance: f64| {
        let apart = distance(got, &case.floats(tensors, what), 1e-6);
        if apart > tolerance {
            wrong.push(format!("{}.{what}: {apart:.1e} of the largest value", case.name));
        }
    };
    check("y", &ran.y, 1e-5);
    let initial_gradient = ran.tape.initial_state_gradient().unwrap();
    let mut base = 0;
    for (k, rnn) in directions.iter().enumerate() {
        let part = base..base + case.batch * rnn.units;
        base = part.end;
        check(&format!("state.{k}"), &ran.state[part.clone()], 1e-5);
        if case.initial_state {
            check(&format!("grad.state.{k}"), &initial_gradient[part], TOLERANCE);
        }
    }
    for (i, arrays) in network.weights.iter().enumerate() {
        for array in arrays {
            let what = format!("grad.{i}.{}", array.which.name());
            check(&what, ran.tape.gradient(i, array.which).unwrap(), TOLERANCE);
        }
    }
    if let Some(dx) = &ran.dx {
        check("grad.x", dx, TOLERANCE);
    }
    wrong
}

/// The loss that the random networks are tried with: weighted sums of the output and the final states.
fn loss(network: &Network, call: Call<'_>, g: &[f32], state_g: &[f32]) -> f64 {
    let outcome = reference::run(network, call);
    let dot = |a: &[f64], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * f64::from(*b)).sum::<f64>();
    dot(&outcome.output, g) + dot(&outcome.state(), state_g)
}

/// `values` moved by a small random step up and down, and the steps as they came out in f32.
fn moved(values: &[f32], seed: u64, size: f32) -> (Vec<f32>, Vec<f32>, Vec<f64>) {
    let step = common::numbers::values(seed, values.len(), size);
    let up: Vec<f32> = values.iter().zip(&step).map(|(value, step)| value + step).collect();
    let down: Vec<f32> = values.iter().zip(&step).map(|(value, step)| value - step).collect();
    let apart = up.iter().zip(&down).map(|(up, down)| f64::from(*up) - f64::from(*down)).collect();
    (up, down, apart)
}

/// Asserts that a gradient foretells how the loss changes along a random direction.
fn assert_foretells(what: &str, gradient: &[f32], apart: &[f64], change: f64, tolerance: f64) {
    let foretold: f64 = gradient.iter().zip(apart).map(|(g, d)| f64::from(*g) * d).sum();
    let size: f64 = gradient.iter().zip(apart).map(|(g, d)| (f64::from(*g) * d).abs()).sum();
    let room = tolerance * size + 1e-9;
    assert!((foretold - change).abs() <= room, "{what}: the loss changes by {change:e}, not {foretold:e}");
}

#[test]
fn central_differences_of_the_oracle() {
    const SMALL: f32 = 1.0 / 16384.0;
    for seed in 0..40 {
        let mut choices = Choices::new(7000 + seed);
        let mut network = Network::random(&mut choices, 40);
        // A large input would only make the oracle slow.
        if network.input_size > 24 {
            network = Network::new(network.input_size % 24 + 1, network.layers, seed);
        }
        // A kink inside the step would be no error of the gradient.
        for layer in &mut network.layers {
            match layer {
                Spec::SimpleRnn(rnn) | Spec::Bidirectional { simple_rnn: rnn, .. }
                    if rnn.activation == Activation::Relu =>
                {
                    rnn.activation = Activation::Sigmoid;
                }
                Spec::Dense { activation, .. } if *activation == Activation::Relu => {
                    *activation = Activation::Tanh;
                }
                _ => {}
            }
        }
        let (batch, steps) = (choices.between(1, 9), choices.between(1, 12));
        let x = values(seed, batch * steps * network.input_size, 1.0);
        let mask: Vec<u8> = (0..batch * steps).map(|_| u8::from(choices.between(0, 3) > 0)).collect();
        let width: usize = network.directions().iter().map(|rnn| rnn.units).sum();
        let initial = values(seed + 1, batch * width, 0.5);
        let state_g = values(seed + 2, batch * width, 1.0);
        let call = Call {
            mask: choices.coin().then_some(&mask[..]),
            initial_state: Some(&initial),
            ..Call::new(Input::Floats(&x), batch, steps)
        };
        let model = network.elman();
        let g = values(seed + 3, model.output_len(batch, steps).unwrap(), 1.0);
        let ran = run(&model, call, &g, Some(&state_g), None);
        let of = |network: &Network, call: Call<'_>| loss(network, call, &g, &state_g);
        for (i, arrays) in network.weights.iter().enumerate() {
            for (k, array) in arrays.iter().enumerate() {
                let (up, down, apart) = moved(&array.values, seed + 10, SMALL);
                let with = |values: Vec<f32>| {
                    let mut changed = network.clone();
                    changed.weights[i][k].values = values;
                    of(&changed, call)
                };
                let change = with(up) - with(down);
                let gradient = ran.tape.gradient(i, array.which).unwrap();
                let what = format!("network {seed}, layer {i}, {}", array.which.name());
                assert_foretells(&what, gradient, &apart, change, TOLERANCE);
            }
        }
        let (up, down, apart) = moved(&x, seed + 11, SMALL);
        let change = of(&network, Call { input: Input::Floats(&up), ..call })
            - of(&network, Call { input: Input::Floats(&down), ..call });
        assert_foretells(&format!("network {seed}, dx"), &ran.dx.unwrap(), &apart, change, TOLERANCE);
        let (up, down, apart) = moved(&initial, seed + 12, SMALL);
        let change = of(&network, Call { initial_state: Some(&up), ..call })
            - of(&network, Call { initial_state: Some(&down), ..call });
        let gradient = ran.tape.initial_state_gradient().unwrap();
        assert_foretells(&format!("network {seed}, initial state"), gradient, &apart, change, TOLERANCE);
    }
}

fn dropped(dropout: f32, recurrent_dropout: f32) -> Rnn {
    Rnn { dropout, recurrent_dropout, return_sequences: true, ..Rnn::new(9) }
}

#[test]
fn dropout_s_gradients_use_the_masks_of_the_forward_pass() {
    let top = |rnn: Rnn| Spec::SimpleRnn(Rnn { return_sequences: false, ..rnn });
    let stacks = [
        vec![top(dropped(0.5, 0.0))],
        vec![top(dropped(0.0, 0.4))],
        vec![Spec::SimpleRnn(dropped(0.3, 0.3)), Spec::Dropout { rate: 0.4 }, top(dropped(0.5, 0.2))],
        vec![Spec::Dropout { rate: 0.5 }, Spec::SimpleRnn(dropped(0.0, 0.0)), Spec::Dropout { rate: 0.5 }],
        vec![
            Spec::Bidirectional { merge_mode: MergeMode::Concat, simple_rnn: dropped(0.4, 0.4) },
            top(dropped(0.5, 0.0)),
        ],
    ];
    let (batch, steps) = (4, 6);
    let mask: Vec<u8> = (0..batch * steps).map(|i| u8::from(i % 5 != 0)).collect();
    for (n, layers) in stacks.into_iter().enumerate() {
        for mask in [None, Some(&mask[..])] {
            let network = Network::new(5, layers.clone(), 300 + n as u64);
            let model = network.elman();
            let x = values(1, batch * steps * 5, 1.0);
            let call = Call { mask, ..Call::new(Input::Floats(&x), batch, steps) };
            let g = values(2, model.output_len(batch, steps).unwrap(), 1.0);
            let ran = run(&model, call, &g, None, Some(42));
            let again = run(&model, call, &g, None, Some(42));
            assert_same_bits("the same seed", &ran.y, &again.y);
            let other = run(&model, call, &g, None, Some(43));
            assert_ne!(ran.y, other.y, "another seed must drop others");
            let loss = |model: &Sequential| {
                let mut tape = Tape::new(model, batch, steps).unwrap();
                let (mut y, mut state) = (vec![0.0; g.len()], vec![0.0; model.state_len(batch).unwrap()]);
                forward(&mut tape, call, Some(42), &mut y, &mut state);
                y.iter().zip(&g).map(|(y, g)| f64::from(*y) * f64::from(*g)).sum::<f64>()
            };
            for (i, arrays) in network.weights.iter().enumerate() {
                for array in arrays {
                    let (up, down, apart) = moved(&array.values, 10, 1.0 / 256.0);
                    let mut with = network.elman();
                    with.set_weight(i, array.which, &up).unwrap();
                    let above = loss(&with);
                    with.set_weight(i, array.which, &down).unwrap();
                    let change = above - loss(&with);
                    let gradient = ran.tape.gradient(i, array.which).unwrap();
                    let what = format!("stack {n}, layer {i}, {}", array.which.name());
                    assert_foretells(&what, gradient, &apart, change, 3e-3);
                }
            }
        }
    }
}

#[test]
fn rates_0_and_1() {
    let (batch, steps) = (3, 4);
    let x = values(1, batch * steps * 5, 1.0);
    let call = Call::new(Input::Floats(&x), batch, steps);
    let model = |dropout, recurrent| Network::single(5, dropped(dropout, recurrent), 9).elman();
    let g = values(2, batch * steps * 9, 1.0);
    let plain = run(&model(0.0, 0.0), call, &g, None, None);
    let none = run(&model(0.0, 0.0), call, &g, None, Some(1));
    assert_same_bits("nothing is dropped", &none.y, &plain.y);
    // Inference drops nothing at any rate.
    let inference = run(&model(0.5, 0.5), call, &g, None, None);
    assert_same_bits("inference", &inference.y, &plain.y);
    let all = run(&model(1.0, 0.0), call, &g, None, Some(1));
    assert!(all.tape.gradient(0, Weight::Kernel).unwrap().iter().all(|&value| value == 0.0));
    assert!(all.dx.unwrap().iter().all(|&value| value == 0.0));
    let all = run(&model(0.0, 1.0), call, &g, None, Some(1));
    assert!(all.tape.gradient(0, Weight::RecurrentKernel).unwrap().iter().all(|&value| value == 0.0));
}

#[test]
fn the_way_forward_has_the_bits_of_run() {
    for seed in 0..12 {
        let mut choices = Choices::new(9000 + seed);
        let network = Network::random(&mut choices, 80);
        let model = network.elman();
        let (batch, steps) = (choices.between(1, 12), choices.between(1, 9));
        let x = values(seed, batch * steps * network.input_size, 1.0);
        let mask: Vec<u8> = (0..batch * steps).map(|_| u8::from(choices.between(0, 3) > 0)).collect();
        let mask = choices.coin().then_some(&mask[..]);
        let call = Call { mask, ..Call::new(Input::Floats(&x), batch, steps) };
        let (y, state) = common::vectors::run_elman(&model, call);
        let ran = run(&model, call, &vec![0.0; y.len()], None, None);
        assert_same_bits("y", &ran.y, &y);
        assert_same_bits("states", &ran.state, &state);
    }
}

#[test]
fn padding_does_not_change_gradients() {
    // Rows of different lengths, padded on either side: the same sums over the same steps.
    let layers = vec![
        Spec::Embedding { vocabulary: 20, size: 6, mask_zero: true },
        Spec::SimpleRnn(Rnn { return_sequences: true, ..Rnn::new(17) }),
        Spec::SimpleRnn(Rnn::new(8)),
    ];
    let model = Network::new(1, layers, 5).elman();
    let (batch, steps) = (3, 5);
    let ids = tokens(3, batch * steps, 19).iter().map(|id| id + 1).collect::<Vec<_>>();
    let padded: Vec<i32> = ids.chunks(steps).flat_map(|row| [&[0; 4], row].concat()).collect();
    let g = values(4, batch * 8, 1.0);
    let plain = run(&model, Call::new(Input::Tokens(&ids), batch, steps), &g, None, None);
    let padded = run(&model, Call::new(Input::Tokens(&padded), batch, steps + 4), &g, None, None);
    assert_same_bits("gradients", padded.tape.gradients().unwrap(), plain.tape.gradients().unwrap());
}

#[test]
fn norms_run_back_through_time() {
    // A linear layer whose recurrent kernel halves the state: each step back halves the gradient.
    let rnn = Rnn { activation: Activation::Linear, use_bias: false, ..Rnn::new(20) };
    let mut model = Network::single(3, rnn, 1).elman();
    let mut half = vec![0.0; 400];
    half.iter_mut().step_by(21).for_each(|value| *value = 0.5);
    model.set_weight(0, Weight::RecurrentKernel, &half).unwrap();
    let (batch, steps) = (2, 60);
    let x = values(1, batch * steps * 3, 1.0);
    let g = values(2, batch * 20, 1.0);
    let ran = run(&model, Call::new(Input::Floats(&x), batch, steps), &g, None, None);
    let mut norms = vec![0.0; steps];
    ran.tape.gradient_norms(0, &mut norms).unwrap();
    let last = g.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    for (t, norm) in norms.iter().enumerate() {
        let expected = last * 0.5f64.powi((steps - 1 - t) as i32);
        assert!((f64::from(*norm) / expected - 1.0).abs() < 1e-5, "step {t}: {norm:e}, not {expected:e}");
    }
    assert!(ran.tape.gradient_norms(1, &mut norms).is_err());
}

#[test]
fn clipping_and_flat_arrays() {
    let network = Network::new(4, vec![Spec::SimpleRnn(Rnn::new(6))], 3);
    let mut model = network.elman();
    let x = values(1, 2 * 3 * 4, 1.0);
    let g = values(2, 2 * 6, 1.0);
    let mut ran = run(&model, Call::new(Input::Floats(&x), 2, 3), &g, None, None);
    let before = ran.tape.gradients().unwrap().to_vec();
    assert_eq!(before.len(), model.parameter_count().unwrap());
    assert_eq!(&before[..24], ran.tape.gradient(0, Weight::Kernel).unwrap());
    let norm = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let told = ran.tape.clip_by_global_norm(0.5).unwrap();
    assert!((f64::from(told) - norm(&before)).abs() < 1e-5);
    assert!((norm(ran.tape.gradients().unwrap()) - 0.5).abs() < 1e-6);

    let mut parameters = vec![0.0; before.len()];
    model.get_parameters(&mut parameters).unwrap();
    assert_eq!(&parameters[..24], model.weight(0, Weight::Kernel).unwrap().values());
    let y = model.predict(&x, 2, 3).unwrap();
    parameters.iter_mut().for_each(|value| *value *= 0.5);
    model.set_parameters(&parameters).unwrap();
    let mut by_hand = network.elman();
    for array in &network.weights[0] {
        let halved: Vec<f32> = array.values.iter().map(|value| value * 0.5).collect();
        by_hand.set_weight(0, array.which, &halved).unwrap();
    }
    assert_ne!(model.predict(&x, 2, 3).unwrap(), y);
    assert_eq!(model.predict(&x, 2, 3).unwrap(), by_hand.predict(&x, 2, 3).unwrap());
    // The tape keeps the weights it was made with.
    let mut again = vec![0.0; y.len()];
    ran.tape.forward(&x, 2, 3, RunOptions::default(), false, 0, &mut again).unwrap();
    assert_eq!(again, y);
    assert!(model.set_parameters(&parameters[1..]).is_err());
}

#[test]
fn wrong_calls_are_refused() {
    let model = Network::new(4, vec![Spec::SimpleRnn(Rnn::new(6))], 3).elman();
    let mut tape = Tape::new(&model, 2, 3).unwrap();
    let x = values(1, 3 * 3 * 4, 1.0);
    let mut y = vec![0.0; 3 * 6];
    assert!(tape.backward(&y[..12], None).is_err(), "no forward pass yet");
    assert!(tape.gradients().is_err(), "no gradients yet");
    assert!(tape.forward(&x, 3, 3, RunOptions::default(), false, 0, &mut y).is_err(), "too many rows");
    tape.forward(&x[..24], 2, 3, RunOptions::default(), false, 0, &mut y[..12]).unwrap();
    assert!(tape.gradients().is_err(), "no gradients yet");
    assert!(tape.backward(&y[..11], None).is_err(), "dy too short");
    assert!(tape.backward(&y[..12], Some(&mut [0.0; 23])).is_err(), "dx too short");
    tape.backward(&y[..12], None).unwrap();
    assert!(tape.gradient(0, Weight::Embedding).is_err());
    assert!(Tape::new(&model, 0, 3).is_err() && Tape::new(&model, usize::MAX, 2).is_err());
    assert!(tape.clip_by_global_norm(0.0).is_err());
}

#[test]
fn every_arm() {
    arms::run_others("gradients");
}
