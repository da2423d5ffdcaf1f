//! ONNX's padding: ONNX Runtime's outputs and final states (`tests/vectors/onnx.safetensors`), and the rule itself: a row
//! is what it is alone, as long as it is, walked from its first step or from its last, and blank behind that; a row of
//! no steps is blank and ends at zero, wherever it began.

mod common;

use common::backends;
use common::network::{Network, Rnn, Spec};
use common::numbers::{Choices, assert_same_bits, distance, values};
use common::reference::{self, Call, Input};
use common::vectors::{Case, TOLERANCE, each_case, run_elman};
use elman::{Activation, MergeMode, Padding, RunOptions, Tape, Weight};

#[test]
fn onnx_runtime() {
    assert_eq!(each_case("onnx.safetensors", Case::check_elman), 58);
}

/// `h = x + 10 h`: a state's digits tell which steps came, and in which order.
fn digits(layers: &[Spec]) -> Network {
    let mut network = Network::new(1, layers.to_vec(), 0);
    for array in network.weights.iter_mut().flatten() {
        let value = match array.which {
            Weight::Kernel | Weight::BackwardKernel => 1.0,
            Weight::RecurrentKernel | Weight::BackwardRecurrentKernel => 10.0,
            _ => 0.0,
        };
        array.values.fill(value);
    }
    network
}

#[test]
fn steps_are_walked_from_a_rows_own_ends() {
    let (steps, lengths) = (4, [4, 3, 1, 0]);
    let x = [1.0, 2.0, 3.0, 4.0].repeat(lengths.len());
    let started = [5.0; 8];
    let run = |layers: &[Spec], started: Option<&[f32]>| {
        let call = Call {
            lengths: Some(&lengths),
            padding: Padding::Onnx,
            initial_state: started,
            ..Call::new(Input::Floats(&x), lengths.len(), steps)
        };
        run_elman(&digits(layers).elman(), call)
    };
    let forward = Rnn { activation: Activation::Linear, return_sequences: true, ..Rnn::new(1) };
    let backward = Rnn { go_backwards: true, ..forward };
    let both = |merge_mode, rnn: Rnn| Spec::bidirectional(merge_mode, rnn);

    let (y, state) = run(&[Spec::SimpleRnn(forward)], None);
    assert_eq!(y.concat_rows(4), ["1 12 123 1234", "1 12 123 0", "1 0 0 0", "0 0 0 0"]);
    assert_eq!(state, [1234.0, 123.0, 1.0, 0.0]);

    let reversed = ["4 43 432 4321", "3 32 321 0", "1 0 0 0", "0 0 0 0"];
    let (y, state) = run(&[Spec::SimpleRnn(backward)], None);
    assert_eq!(y.concat_rows(4), reversed);
    assert_eq!(state, [4321.0, 321.0, 1.0, 0.0]);

    let (_, state) = run(&[Spec::SimpleRnn(backward)], Some(&started[..4]));
    assert_eq!(state, [54321.0, 5321.0, 51.0, 0.0]);

    let (y, state) = run(&[Spec::SimpleRnn(Rnn { return_sequences: false, ..backward })], None);
    assert_eq!(y, [4321.0, 321.0, 1.0, 0.0]);
    assert_eq!(state, y);

    // Time order: the backward half of the first step has seen them all.
    let (y, state) = run(&[both(MergeMode::None, forward)], None);
    assert_eq!(y[..16].concat_rows(4), ["1 12 123 1234", "1 12 123 0", "1 0 0 0", "0 0 0 0"]);
    assert_eq!(y[16..].concat_rows(4), ["4321 432 43 4", "321 32 3 0", "1 0 0 0", "0 0 0 0"]);
    assert_eq!(state, [1234.0, 123.0, 1.0, 0.0, 4321.0, 321.0, 1.0, 0.0]);

    let last = Rnn { return_sequences: false, ..forward };
    let (y, state) = run(&[both(MergeMode::Concat, last)], Some(&started));
    assert_eq!(y.concat_rows(2), ["51234 54321", "5123 5321", "51 51", "0 0"]);
    assert_eq!(state, [51234.0, 5123.0, 51.0, 0.0, 54321.0, 5321.0, 51.0, 0.0]);

    // The second layer reads what the first one gave, in the order that it gave it, from the other end.
    let (y, _) = run(&[Spec::SimpleRnn(backward), Spec::SimpleRnn(backward)], None);
    assert_eq!(y.concat_rows(4), ["4321 43642 436463 4364634", "321 3242 32423 0", "1 0 0 0", "0 0 0 0"]);
}

trait ConcatRows {
    /// The rows as text, numbers with a space between.
    fn concat_rows(&self, width: usize) -> Vec<String>;
}

impl ConcatRows for [f32] {
    fn concat_rows(&self, width: usize) -> Vec<String> {
        let row = |row: &[f32]| row.iter().map(f32::to_string).collect::<Vec<_>>().join(" ");
        self.chunks_exact(width).map(row).collect()
    }
}

/// A network that is as likely to walk backwards as forwards.
fn random(choices: &mut Choices) -> Network {
    let mut network = Network::random(choices, 70);
    for layer in &mut network.layers {
        if !matches!(layer, Spec::Bidirectional { .. })
            && let Some(rnn) = layer.rnn_mut()
        {
            rnn.go_backwards = choices.coin();
        }
    }
    network
}

/// What the oracle, which is told nothing of padding, gives for each row alone, put into their places; the output, and
/// the states by direction.
fn rows_alone(
    network: &Network,
    x: &[f32],
    steps: usize,
    lengths: &[usize],
    initial: &[f32],
) -> [Vec<f64>; 2] {
    let batch = lengths.len();
    let directions = network.states();
    let halves =
        matches!(network.layers.last(), Some(Spec::Bidirectional { merge_mode: MergeMode::None, .. }));
    let halves = if halves { 2 } else { 1 };
    let places = if directions.last().is_some_and(|rnn| rnn.return_sequences) { steps } else { 1 };
    // What the layers above the recurrent ones make of a blank.
    let top = 1 + network.layers.iter().rposition(|layer| layer.recurrent().is_some()).expect("there is one");
    let above = network.part(top, network.layers.len());
    let blank = reference::run(&above, Call::new(Input::Floats(&vec![0.0; above.input_size]), 1, 1)).output;
    let width = blank.len();

    let mut output = blank.repeat(halves * batch * places);
    let mut state = Vec::new();
    for rnn in &directions {
        state.push(vec![0.0; batch * rnn.units]);
    }
    for (row, &length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
        let (mut own, mut base) = (Vec::new(), 0);
        for rnn in &directions {
            own.extend_from_slice(&initial[base + row * rnn.units..][..rnn.units]);
            base += batch * rnn.units;
        }
        let x = &x[row * steps * network.input_size..][..length * network.input_size];
        let call = Call { initial_state: Some(&own), ..Call::new(Input::Floats(x), 1, length) };
        let alone = reference::run(network, call);
        let part = alone.output.len() / halves;
        for (half, values) in alone.output.chunks_exact(part).enumerate() {
            output[(half * batch + row) * places * width..][..part].copy_from_slice(values);
        }
        for ((all, own), rnn) in state.iter_mut().zip(&alone.states).zip(&directions) {
            all[row * rnn.units..][..rnn.units].copy_from_slice(own);
        }
    }
    [output, state.concat()]
}

#[test]
fn each_row_is_what_it_is_alone() {
    for case in 0..150 {
        let mut choices = Choices::new(4000 + case);
        let mut network = random(&mut choices);
        // Halves may stay apart.
        if let Some(Spec::Bidirectional { merge_mode, .. }) = network.layers.last_mut()
            && choices.coin()
        {
            *merge_mode = MergeMode::None;
        }
        let (batch, steps) = (choices.between(1, 20), choices.between(1, 12));
        let lengths: Vec<usize> = (0..batch).map(|_| choices.between(0, steps)).collect();
        let x = values(case, batch * steps * network.input_size, 1.0);
        let model = network.elman();
        let initial = values(case + 1, model.state_len(batch).expect("the sizes are right"), 0.5);
        let call = Call {
            lengths: Some(&lengths),
            padding: Padding::Onnx,
            initial_state: Some(&initial),
            ..Call::new(Input::Floats(&x), batch, steps)
        };
        let (output, state) = run_elman(&model, call);
        let what = format!("case {case}: {:?}, lengths {lengths:?} of {steps}", network.layers);
        let expected = rows_alone(&network, &x, steps, &lengths, &initial);
        for (which, got, expected) in [("output", &output, &expected[0]), ("state", &state, &expected[1])] {
            let apart = distance(got, expected, 0.1);
            assert!(
                apart <= TOLERANCE,
                "{what}: {which}: {apart:e} of the largest value\n{got:?}\n{expected:?}"
            );
        }

        let mut recorded = vec![f32::NAN; output.len()];
        let options = RunOptions::default().lengths(&lengths).padding(Padding::Onnx).initial_state(&initial);
        let mut tape = Tape::new(&model, batch, steps).expect("there is memory");
        tape.forward(&x, batch, steps, options, false, 0, &mut recorded).expect("the call is right");
        assert_same_bits(&format!("{what}, recorded"), &recorded, &output);
    }
}

#[test]
fn gradients_are_those_of_rows_alone() {
    for case in 0..60 {
        let mut choices = Choices::new(5000 + case);
        let mut network = random(&mut choices);
        // Blanks have an output through a Dense, and so a gradient: that is not this test's question.
        let top =
            1 + network.layers.iter().rposition(|layer| layer.recurrent().is_some()).expect("there is one");
        network = network.part(0, top);
        let (batch, steps) = (choices.between(1, 12), choices.between(1, 12));
        let lengths: Vec<usize> = (0..batch).map(|_| choices.between(0, steps)).collect();
        let (model, features) = (network.elman(), network.input_size);
        let x = values(case, batch * steps * features, 1.0);
        let dy = values(case + 1, model.output_len(batch, steps).expect("the sizes are right"), 1.0);
        let mut tape = Tape::new(&model, batch, steps).expect("there is memory");
        let mut gradients = |x: &[f32], lengths: &[usize], steps: usize, dy: &[f32]| {
            let options = RunOptions::default().lengths(lengths).padding(Padding::Onnx);
            let (mut y, mut dx) = (vec![0.0; dy.len()], vec![f32::NAN; x.len()]);
            tape.forward(x, lengths.len(), steps, options, true, 0, &mut y).expect("the call is right");
            tape.backward(dy, Some(&mut dx)).expect("a forward pass came before");
            let gradients = tape.gradients().expect("there are some").to_vec();
            (gradients, dx, tape.initial_state_gradient().expect("there is one").to_vec())
        };
        let (got, dx, dh) = gradients(&x, &lengths, steps, &dy);

        let mut expected = vec![0.0; got.len()];
        let (mut expected_dx, mut expected_dh) = (vec![0.0; dx.len()], vec![0.0; dh.len()]);
        let [row_x, row_y] = [x.len() / batch, dy.len() / batch];
        let sequence = network.states().last().is_some_and(|rnn| rnn.return_sequences);
        for (row, &length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
            let own = row * row_x..row * row_x + length * features;
            let dy = &dy[row * row_y..][..if sequence { row_y / steps * length } else { row_y }];
            let (part, dx, dh) = gradients(&x[own.clone()], &[length], length, dy);
            expected.iter_mut().zip(part).for_each(|(sum, part)| *sum += f64::from(part));
            expected_dx[own].iter_mut().zip(dx).for_each(|(to, dx)| *to = f64::from(dx));
            let (mut base, mut dh) = (0, &dh[..]);
            for rnn in network.states() {
                let (own, others) = dh.split_at(rnn.units);
                let to = &mut expected_dh[base + row * rnn.units..][..rnn.units];
                to.iter_mut().zip(own).for_each(|(to, &dh)| *to = f64::from(dh));
                (base, dh) = (base + batch * rnn.units, others);
            }
        }
        for (which, got, expected) in
            [("weights", got, expected), ("input", dx, expected_dx), ("states", dh, expected_dh)]
        {
            let apart = distance(&got, &expected, 0.1);
            let what = format!("case {case}: {:?}, lengths {lengths:?} of {steps}", network.layers);
            assert!(apart <= TOLERANCE, "{what}: {which}: {apart:e} of the largest value");
        }
    }
}

#[test]
fn every_backend() {
    backends::run_others("onnx");
}
