//! What training asks of the allocator, and what a host's control word does to gradients.

mod common;

use common::backends;
use common::counting::{Counting, asked, held};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use common::host::flushing;
use common::network::{CELLS, Network, Recurrent, Rnn, Spec};
use common::numbers::{distance, tokens, values};
use elman::{
    Activation, Clipping, Examples, Loss, MergeMode, Optimizer, RunOptions, Sequential, Tape, Trainer,
    TrainerConfig, Truncation,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BATCH: usize = 5;
const STEPS: usize = 17;

/// A network to train.
struct Given {
    network: Network,
    /// Whether it gives a sequence without looking ahead.
    walks: bool,
}

/// Every layer and option of training.
fn networks() -> Vec<Given> {
    let rnn = Rnn { return_sequences: true, ..Rnn::new(20) };
    let dropped = Rnn { dropout: 0.3, recurrent_dropout: 0.2, ..rnn };
    let dense = |activation| Spec::Dense { units: 3, activation, use_bias: true };
    let embedding = Spec::Embedding { vocabulary: 9, size: 6, mask_zero: true };
    let both = Spec::bidirectional(MergeMode::Concat, rnn);
    let dropout = Spec::Dropout { rate: 0.5 };
    let backwards = Spec::SimpleRnn(Rnn { go_backwards: true, ..rnn });
    let masking = Spec::Masking { mask_value: 0.0 };
    let both_gated = Spec::bidirectional(MergeMode::Concat, Recurrent::Lstm(Rnn { dropout: 0.3, ..rnn }));
    let reset_before = Spec::Gru(Rnn { reset_after: false, ..dropped });
    let stacks = [
        (4, vec![Spec::SimpleRnn(rnn), dense(Activation::Sigmoid)], true),
        (4, vec![Spec::SimpleRnn(dropped), Spec::SimpleRnn(Rnn::new(33))], false),
        (1, vec![embedding, Spec::SimpleRnn(dropped), dropout, dense(Activation::Softmax)], true),
        (4, vec![both, backwards, dense(Activation::Linear)], false),
        (4, vec![masking, Spec::SimpleRnn(rnn), dense(Activation::Tanh)], true),
        (4, vec![Spec::Lstm(rnn), dense(Activation::Sigmoid)], true),
        (4, vec![Spec::Gru(dropped), Spec::Lstm(Rnn::new(33))], false),
        (1, vec![embedding, Spec::Lstm(dropped), dropout, dense(Activation::Softmax)], true),
        (4, vec![both_gated, Spec::Gru(Rnn { go_backwards: true, ..rnn }), dense(Activation::Linear)], false),
        (4, vec![masking, reset_before, Spec::SimpleRnn(rnn), dense(Activation::Tanh)], true),
    ];
    let made = stacks.into_iter().zip(0..);
    made.map(|((features, layers, walks), seed)| Given {
        network: Network::new(features, layers, seed),
        walks,
    })
    .collect()
}

/// Input for a network, floats and token ids.
fn input(network: &Network) -> (Vec<f32>, Option<Vec<i32>>) {
    let x = values(1, BATCH * STEPS * network.input_size, 1.0);
    let is_tokens = matches!(network.layers[0], Spec::Embedding { .. });
    (x, is_tokens.then(|| tokens(2, BATCH * STEPS, 9)))
}

#[test]
fn a_tape_allocates_nothing_after_its_first_pass() {
    let mask: Vec<u8> = (0..BATCH * STEPS).map(|i| u8::from(i % 4 != 1)).collect();
    for Given { network, .. } in networks() {
        let model = network.elman();
        let (x, ids) = input(&network);
        let mut tape = Tape::new(&model, BATCH, STEPS).unwrap();
        let mut y = vec![0.0; model.output_len(BATCH, STEPS).unwrap()];
        let mut pass = |masked: bool, seed: u64| {
            let options = || match masked {
                true => RunOptions::default().mask(&mask),
                false => RunOptions::default(),
            };
            match &ids {
                Some(ids) => tape.forward_tokens(ids, BATCH, STEPS, options(), true, seed, &mut y),
                None => tape.forward(&x, BATCH, STEPS, options(), true, seed, &mut y),
            }
            .unwrap();
            tape.backward(&y, None).unwrap();
        };
        pass(false, 0);
        pass(true, 1);
        let asked = asked(|| {
            pass(true, 2);
            pass(false, 3);
        });
        assert_eq!(asked, 0, "{:?}", network.layers);
    }
}

#[test]
fn a_trainer_allocates_nothing_after_its_first_step() {
    let plain = TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError);
    for Given { network, walks } in networks() {
        let (x, ids) = input(&network);
        for config in [
            plain,
            plain.clipping(Clipping::GlobalNorm(0.1)),
            plain.clipping(Clipping::Norm(0.1)),
            plain.clipping(Clipping::Value(0.1)),
            plain.l1(0.1).l2(0.1),
            plain.lazy_embeddings(true),
            plain.truncation(walks.then_some(Truncation::new(4, 6))),
        ] {
            let mut model: Sequential = network.elman();
            let target = values(3, model.output_len(BATCH, STEPS).unwrap(), 1.0);
            let mut state = vec![0.0; model.state_len(BATCH).unwrap()];
            let mut trainer = Trainer::new(&model, config).unwrap();
            let examples = match &ids {
                Some(ids) => Examples::tokens(ids, BATCH, STEPS, &target),
                None => Examples::floats(&x, BATCH, STEPS, &target),
            };
            let mut step = || {
                let options = RunOptions::default().final_state(&mut state);
                trainer.step(&mut model, examples, options).unwrap();
            };
            step();
            let asked = asked(&mut step);
            assert_eq!(asked, 0, "{config:?}, {:?}", network.layers);
        }
    }
}

/// Floats that `Tape`'s documentation says, in bytes: what a new tape holds, and the rest that a first pass adds.
fn documented(network: &Network, turned: usize) -> (usize, usize) {
    let rows = LONG_BATCH * LONG_STEPS;
    let stride = |width: usize| width.next_multiple_of(16);
    let widths = || network.states().into_iter().map(|rnn| stride(rnn.units));
    let states: usize = widths().map(|stride| 2 * (LONG_BATCH + rows) * stride).sum();
    let weights: usize = network.weights.iter().flatten().map(|array| array.values.len()).sum();
    let scratch = rows * widths().max().unwrap_or(0);
    let sequence = 2 * rows * stride(turned);
    (
        (states + sequence + weights) * size_of::<f32>(),
        (rows * network.input_size + scratch) * size_of::<f32>(),
    )
}

const LONG_BATCH: usize = 16;
const LONG_STEPS: usize = 400;

#[test]
fn a_tape_is_as_large_as_its_documentation_says() {
    let rnn = |units| Rnn { return_sequences: true, ..Rnn::new(units) };
    let upper = Rnn { return_sequences: false, ..rnn(40) };
    // With the width of the sequence that somebody reads in the order of time.
    for (layers, turned) in [
        (vec![Spec::SimpleRnn(rnn(64)), Spec::SimpleRnn(upper)], 0),
        (vec![Spec::SimpleRnn(rnn(50))], 50),
        (vec![Spec::SimpleRnn(rnn(70)), Spec::SimpleRnn(Rnn { go_backwards: true, ..upper })], 70),
    ] {
        let network = Network::new(12, layers, 1);
        let model = network.elman();
        let (new, more) = documented(&network, turned);
        let (mut tape, got) = held(|| Tape::new(&model, LONG_BATCH, LONG_STEPS).unwrap());
        // Small beside the rest: the weights once more for the way back, and a few rows for each row of the batch.
        let weights: usize = network.weights.iter().flatten().map(|array| array.values.len()).sum();
        let (got, room) = (got as f64, 2.0 * (weights * size_of::<f32>()) as f64 + 32768.0);
        let (least, most) = (0.98 * new as f64, 1.02 * new as f64 + room);
        assert!((least..most).contains(&got), "{got} bytes, not {new}: {:?}", network.layers);

        let (_, after) = held(|| {
            let x = values(1, LONG_BATCH * LONG_STEPS * 12, 1.0);
            let mut y = vec![0.0; model.output_len(LONG_BATCH, LONG_STEPS).unwrap()];
            tape.forward(&x, LONG_BATCH, LONG_STEPS, RunOptions::default(), false, 0, &mut y).unwrap();
            tape.backward(&y, None).unwrap();
        });
        // The documentation leaves out lists of places, at most ten numbers for each row and step.
        let (after, lists) = (after as f64, (10 * LONG_BATCH * LONG_STEPS * size_of::<usize>()) as f64);
        assert!(
            after < 1.02 * more as f64 + lists + room,
            "{after} bytes more, not {more}: {:?}",
            network.layers
        );
    }
}

#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn a_host_that_flushes_subnormals_gets_the_same_gradients() {
    // A gradient that fades on its way back until it is nothing, and inputs that are subnormal themselves.
    let fading = CELLS.map(|cell| {
        let mut network = Network::single(4, cell(Rnn::new(20)), 3);
        network.weights[0][1].values.iter_mut().for_each(|value| *value *= 0.3);
        Given { network, walks: false }
    });
    for Given { network, .. } in networks().into_iter().chain(fading) {
        let model = network.elman();
        let (batch, steps) = (BATCH, 300);
        let mut x = values(1, batch * steps * network.input_size, 1.0);
        x.iter_mut().step_by(3).for_each(|x| *x *= f32::MIN_POSITIVE);
        let ids = tokens(2, batch * steps, 9);
        let is_tokens = matches!(network.layers[0], Spec::Embedding { .. });
        let dy = values(4, model.output_len(batch, steps).unwrap(), 1.0);
        let pass = || {
            let mut tape = Tape::new(&model, batch, steps).unwrap();
            let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
            if is_tokens {
                tape.forward_tokens(&ids, batch, steps, RunOptions::default(), true, 5, &mut y).unwrap();
                tape.backward(&dy, None).unwrap();
            } else {
                tape.forward(&x, batch, steps, RunOptions::default(), true, 5, &mut y).unwrap();
                tape.backward(&dy, Some(&mut dx)).unwrap();
            }
            [y, dx, tape.gradients().unwrap().to_vec(), tape.initial_state_gradient().unwrap().to_vec()]
        };
        let plain = pass();
        let mut flushed = None;
        flushing(|| flushed = Some(pass()));
        for (what, (plain, flushed)) in ["y", "dx", "gradients", "initial states"]
            .into_iter()
            .zip(plain.iter().zip(&flushed.expect("it ran")))
        {
            let exact: Vec<f64> = plain.iter().copied().map(f64::from).collect();
            let apart = distance(flushed, &exact, 1e-30);
            assert!(apart < 1e-6, "{what}: {apart:e} of the largest value, {:?}", network.layers);
        }
    }
}

#[test]
fn every_backend() {
    backends::run_others("training_memory");
}
