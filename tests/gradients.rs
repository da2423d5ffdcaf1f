//! Gradients: against Keras's and PyTorch's (`tests/vectors`), and against those of the f64 oracle on random networks with
//! every cell and option, dropout too.

mod common;

use common::backends;
use common::network::{Array, CELLS, Network, Recurrent, Rnn, Spec};
use common::numbers::{assert_same_bits, distance, to_bits, tokens, values};
use common::questions::{Question, config, onnx_question, question};
use common::reference::{self, Call, Input, elman_masks};
use common::vectors::{Case, GRADIENT_TOLERANCE, each_case, run_elman, tape_forward};
use elman::{Activation, MergeMode, Padding, RunOptions, Sequential, Tape, Weight};
use proptest::prelude::*;

/// A tape that has gone forwards and backwards for the loss `sum(y · g)`.
struct Ran {
    tape: Tape,
    y: Vec<f32>,
    state: Vec<f32>,
    dx: Option<Vec<f32>>,
}

fn run(model: &Sequential, call: Call<'_>, g: &[f32], state_g: Option<&[f32]>, training: Option<u64>) -> Ran {
    // A larger tape than needed, and a call before that leaves something in every buffer.
    let mut tape = Tape::new(model, call.batch + 1, call.steps + 2).expect("the sizes are right");
    let mut y = vec![f32::NAN; model.output_len(call.batch, call.steps).unwrap()];
    let mut state = vec![f32::NAN; model.state_len(call.batch).unwrap()];
    let floats = matches!(call.input, Input::Floats(_));
    let mut dx = floats.then(|| vec![f32::NAN; call.batch * call.steps * model.input_size()]);
    for _ in 0..2 {
        tape_forward(&mut tape, call, training, &mut y, &mut state);
        tape.backward_with_state(g, state_g, dx.as_deref_mut()).expect("a forward pass came before");
    }
    Ran { tape, y, state, dx }
}

#[test]
fn keras() {
    assert_eq!(each_case("training.safetensors", Case::check_elman), 34);
}

#[test]
fn pytorch() {
    assert_eq!(each_case("pytorch.safetensors", Case::check_elman), 10);
}

/// The oracle's gradients by array, with a name for each.
fn exact(network: &Network, call: Call<'_>, g: &[f32], state_g: &[f32]) -> Vec<(String, Vec<f64>)> {
    let found = reference::gradients(network, call, g, Some(state_g));
    let mut named = Vec::new();
    for (i, (arrays, gradients)) in network.weights.iter().zip(found.weights).enumerate() {
        let names = arrays.iter().map(|array| format!("layer {i}, {}", array.which.name()));
        named.extend(names.zip(gradients));
    }
    if matches!(call.input, Input::Floats(_)) {
        named.push(("dx".to_owned(), found.input));
    }
    if call.initial_state.is_some() {
        named.push(("initial states".to_owned(), found.states.concat()));
    }
    named
}

/// The same arrays of a tape that has gone back.
fn computed(network: &Network, ran: &Ran, initial: bool) -> Vec<Vec<f32>> {
    let tape = &ran.tape;
    let arrays = network.weights.iter().enumerate();
    let of = |(i, arrays): (usize, &Vec<Array>)| {
        let each = arrays.iter().map(|array| tape.gradient(i, array.which).unwrap().to_vec());
        each.collect::<Vec<_>>()
    };
    let states = initial.then(|| tape.initial_state_gradient().unwrap().to_vec());
    arrays.flat_map(of).chain(ran.dx.clone()).chain(states).collect()
}

/// All gradients of a question against the oracle's, element by element.
///
/// As for outputs (`tests/properties.rs`), some networks are worse than the tolerance by themselves: where terms cancel, and
/// where a kink lies between what f32 and f64 make of a sum. A gradient may be as far away as the exact one goes when each
/// weight moves by 2^-20 of itself.
fn agree(question: &Question, padding: Padding, training: Option<u64>) -> Result<(), TestCaseError> {
    let Question { network, seed, .. } = question;
    let computes = |layer: &Spec| {
        !matches!(layer, Spec::Embedding { .. } | Spec::Masking { .. } | Spec::Dropout { rate: 0.0 })
    };
    prop_assume!(network.layers.iter().any(computes));
    let data = question.data();
    let call = data.for_elman(question, padding);
    let model = network.elman();
    let g = values(seed + 3, model.output_len(call.batch, call.steps).unwrap(), 1.0);
    let state_g = values(seed + 2, data.initial.len(), 1.0);
    let ran = run(&model, call, &g, Some(&state_g), training);
    if training.is_none() {
        let (y, state) = run_elman(&model, call);
        prop_assert_eq!(to_bits(&ran.y), to_bits(&y), "the way forward has the bits of run");
        prop_assert_eq!(to_bits(&ran.state), to_bits(&state), "the way forward has the bits of run");
    }
    let masks = elman_masks(training.unwrap_or(0));
    let call = data.for_oracle(question, padding);
    let call = if training.is_some() { Call { dropout: Some(&masks), ..call } } else { call };
    let exact = |network: &Network| exact(network, call, &g, &state_g);
    let expected = exact(network);
    // What has outgrown f32 is no question of precision.
    prop_assume!(expected.iter().flat_map(|(_, array)| array).all(|value| value.abs() < LARGE));
    let got = computed(network, &ran, call.initial_state.is_some());
    prop_assert_eq!(got.len(), expected.len());
    let mut moves = None;
    for (i, ((what, expected), got)) in expected.iter().zip(&got).enumerate() {
        let apart = distance(got, expected, FLOOR);
        if apart <= GRADIENT_TOLERANCE {
            continue;
        }
        let moves: &Vec<Vec<(String, Vec<f64>)>> =
            moves.get_or_insert_with(|| (0..3).map(|draw| exact(&network.moved(draw))).collect());
        let goes = |moved: &Vec<(String, Vec<f64>)>| {
            let moved: Vec<f32> = moved[i].1.iter().map(|&value| value as f32).collect();
            distance(&moved, expected, FLOOR)
        };
        let room = moves.iter().map(goes).fold(0.0, f64::max);
        prop_assert!(apart <= room, "{what}: {apart:e} of the largest value, with room for {room:e}");
    }
    Ok(())
}

/// The least that counts as an array's largest gradient: what cancels to less has larger terms.
const FLOOR: f64 = 1e-3;

/// Of gradients: growing states make such that are far beyond f32.
const LARGE: f64 = 1e20;

proptest! {
    #![proptest_config(config())]

    #[test]
    fn gradients_are_the_oracles(question in question(), training in any::<Option<u64>>()) {
        agree(&question, Padding::Keras, training)?;
    }

    #[test]
    fn gradients_are_the_oracles_with_onnx_padding(question in onnx_question(), training in any::<Option<u64>>()) {
        agree(&question, Padding::Onnx, training)?;
    }
}

#[test]
fn onnx_rows_of_length_0_end_at_zero() {
    for layer in CELLS.map(|cell| cell(Rnn::new(4))) {
        row_of_length_0(layer);
    }
}

fn row_of_length_0(layer: Recurrent) {
    let model = Network::single(3, layer, 1).elman();
    let states = 4 * layer.states();
    let (x, initial) = (values(1, 2 * 3, 1.0), values(2, states, 0.5));
    let call = Call {
        lengths: Some(&[0]),
        padding: Padding::Onnx,
        initial_state: Some(&initial),
        ..Call::new(Input::Floats(&x), 1, 2)
    };
    let ran = run(&model, call, &[0.0; 4], Some(&vec![1.0; states]), None);
    assert_same_bits("the state", &ran.state, &run_elman(&model, call).1);
    assert_same_bits("its gradient", ran.tape.initial_state_gradient().unwrap(), &vec![0.0; states]);
}

/// Networks that are large enough for threads, with every layer that has rows of its own.
fn large() -> Vec<Network> {
    let rnn = |units| Rnn { return_sequences: true, ..Rnn::new(units) };
    let backwards = |units| Spec::SimpleRnn(Rnn { go_backwards: true, ..rnn(units) });
    let dense = Spec::Dense { units: 5, activation: Activation::Softmax, use_bias: true };
    let embedding = Spec::Embedding { vocabulary: 40, size: 50, mask_zero: true };
    let masked = Spec::SimpleRnn(Rnn { dropout: 0.3, recurrent_dropout: 0.2, ..rnn(70) });
    let both = |merge_mode| Spec::bidirectional(merge_mode, rnn(66));
    let dropout = Spec::Dropout { rate: 0.4 };
    // Masks of each gate, of the inputs too, and the input's alone.
    let dropped = Rnn { dropout: 0.3, recurrent_dropout: 0.2, ..rnn(40) };
    let both_gated = Spec::bidirectional(MergeMode::Mul, Recurrent::Gru(Rnn { dropout: 0.2, ..rnn(30) }));
    let reset_before = Spec::Gru(Rnn { reset_after: false, recurrent_dropout: 0.3, ..rnn(45) });
    let backwards_rnn = Rnn { go_backwards: true, ..rnn(65) };
    vec![
        Network::new(33, vec![masked, dropout, Spec::SimpleRnn(rnn(64)), dense], 1),
        Network::new(1, vec![embedding, masked, Spec::SimpleRnn(Rnn::new(64)), dense], 2),
        Network::new(1, vec![embedding, dropout, both(MergeMode::Concat), backwards(65)], 3),
        Network::new(20, vec![backwards(90), both(MergeMode::None)], 4),
        Network::new(600, vec![Spec::SimpleRnn(rnn(130))], 5),
        Network::new(70, vec![Spec::SimpleRnn(Rnn::new(130)), dropout, dense], 6),
        Network::new(33, vec![Spec::Lstm(dropped), dropout, Spec::Gru(rnn(40)), dense], 7),
        Network::new(1, vec![embedding, Spec::Gru(dropped), both_gated, Spec::Lstm(Rnn::new(30))], 8),
        Network::new(
            20,
            vec![reset_before, Spec::bidirectional(MergeMode::None, Recurrent::Lstm(rnn(40)))],
            9,
        ),
        Network::new(200, vec![Spec::Gru(rnn(100)), dropout, Spec::Lstm(backwards_rnn)], 10),
    ]
}

#[test]
fn threads_change_no_bit() {
    for network in large() {
        let (batch, steps) = (19, 23);
        let x = values(1, batch * steps * network.input_size, 1.0);
        let ids = tokens(2, batch * steps, 40);
        let input = match network.layers[0] {
            Spec::Embedding { .. } => Input::Tokens(&ids),
            _ => Input::Floats(&x),
        };
        let mask: Vec<u8> = tokens(3, batch * steps, 4).iter().map(|&id| u8::from(id > 0)).collect();
        let initial = values(4, batch * network.state_len(), 0.5);
        // Rows without a step in every part.
        let lengths: Vec<usize> = (0..batch).map(|row| row * 8 % (steps + 1)).collect();
        let plain = Call { initial_state: Some(&initial), ..Call::new(input, batch, steps) };
        let short = Call { lengths: Some(&lengths), ..plain };
        for call in
            [plain, Call { mask: Some(&mask), ..plain }, short, Call { padding: Padding::Onnx, ..short }]
        {
            let answer = |threads: usize| {
                let mut model = network.elman();
                model.set_threads(threads).expect("threads can be started");
                let g = values(5, model.output_len(batch, steps).unwrap(), 1.0);
                let state_g = values(6, initial.len(), 1.0);
                let ran = run(&model, call, &g, Some(&state_g), Some(7));
                let mut norms = Vec::new();
                for layer in 0..network.layers.len() {
                    let mut of_layer = vec![0.0; steps];
                    if ran.tape.gradient_norms(layer, &mut of_layer).is_ok() {
                        norms.extend(of_layer);
                    }
                }
                let gradients = ran.tape.gradients().unwrap();
                let states = ran.tape.initial_state_gradient().unwrap();
                let dx = ran.dx.unwrap_or_default();
                [&ran.y[..], &ran.state, gradients, states, &dx, &norms].concat()
            };
            let alone = answer(1);
            for threads in [2, 3, 5] {
                assert_same_bits(&format!("{threads} threads"), &answer(threads), &alone);
            }
        }
    }
}

fn dropped(dropout: f32, recurrent_dropout: f32) -> Rnn {
    Rnn { dropout, recurrent_dropout, return_sequences: true, ..Rnn::new(9) }
}

#[test]
fn one_seed_one_mask() {
    let (batch, steps) = (4, 6);
    let x = values(1, batch * steps * 5, 1.0);
    let call = Call::new(Input::Floats(&x), batch, steps);
    let layers = |cell: fn(Rnn) -> Recurrent| {
        [
            vec![cell(dropped(0.5, 0.0)).into()],
            vec![cell(dropped(0.0, 0.4)).into()],
            vec![cell(dropped(0.0, 0.0)).into(), Spec::Dropout { rate: 0.5 }],
            vec![Spec::bidirectional(MergeMode::Concat, cell(dropped(0.4, 0.4)))],
        ]
    };
    for layers in CELLS.into_iter().flat_map(layers) {
        let model = Network::new(5, layers, 300).elman();
        let g = values(2, model.output_len(batch, steps).unwrap(), 1.0);
        let [first, again, other] = [42, 42, 43].map(|seed| run(&model, call, &g, None, Some(seed)));
        assert_same_bits("the same seed", &first.y, &again.y);
        let gradients = |ran: &Ran| ran.tape.gradients().unwrap().to_vec();
        assert_same_bits("the same seed", &gradients(&first), &gradients(&again));
        assert_ne!(first.y, other.y, "another seed must drop others");
    }
}

#[test]
fn rates_0_and_1() {
    let (batch, steps) = (3, 4);
    let x = values(1, batch * steps * 5, 1.0);
    let call = Call::new(Input::Floats(&x), batch, steps);
    for cell in CELLS {
        rates_0_and_1_of(cell, call);
    }
}

fn rates_0_and_1_of(cell: fn(Rnn) -> Recurrent, call: Call<'_>) {
    let (batch, steps) = (call.batch, call.steps);
    let model = |dropout, recurrent| Network::single(5, cell(dropped(dropout, recurrent)), 9).elman();
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
fn padding_does_not_change_gradients() {
    // Rows of different lengths, padded on either side: the same sums over the same steps.
    for cell in CELLS {
        padding_before(cell);
    }
}

fn padding_before(cell: fn(Rnn) -> Recurrent) {
    let layers = vec![
        Spec::Embedding { vocabulary: 20, size: 6, mask_zero: true },
        cell(Rnn { return_sequences: true, ..Rnn::new(17) }).into(),
        cell(Rnn::new(8)).into(),
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
fn every_backend() {
    backends::run_others("gradients");
}
