//! Streams and kept states: however a sequence is cut into calls, whichever rows share a stream, the bits are those of the
//! whole sequence; states are got, set and reset; faded states cost nothing; masked steps are not paid for.

mod common;

use std::time::{Duration, Instant};

use common::backends::{self, report};
use common::network::{CELLS, GATED, Network, Recurrent, Rnn, Spec};
use common::numbers::{Choices, assert_same_bits, tokens, values};
use common::reference::{Call, Input};
use common::vectors::run_elman;
use elman::{Activation, Error, MergeMode, RunOptions, Sequential, Stream, Weight};

/// A network that needs no future, with every layer that a stream can meet.
fn causal(choices: &mut Choices, units: usize) -> Network {
    let mut layers = Vec::new();
    let mut features = choices.between(1, 70);
    match choices.between(0, 3) {
        0 => {
            let (vocabulary, size) = (choices.between(2, 6), features);
            layers.push(Spec::Embedding { vocabulary, size, mask_zero: choices.between(0, 3) > 0 });
            features = 1;
        }
        1 => layers.push(Spec::Masking { mask_value: 0.5 }),
        _ => {}
    }
    let recurrent = choices.between(1, 3);
    for i in 0..recurrent {
        let top = i + 1 == recurrent;
        let cell = choices.one_of(&CELLS);
        let activations = [Activation::Tanh, Activation::Sigmoid, Activation::Relu, Activation::HardSigmoid];
        layers.push(
            cell(Rnn {
                activation: choices.one_of(&activations),
                return_sequences: !top || choices.coin(),
                zero_output_for_mask: choices.between(0, 3) == 0,
                ..Rnn::random(choices, units)
            })
            .into(),
        );
        if choices.coin() {
            let activation = choices.one_of(&[Activation::Linear, Activation::Softmax, Activation::Sigmoid]);
            layers.push(Spec::Dense { units: choices.between(1, 40), activation, use_bias: true });
            layers.push(Spec::Dropout { rate: 0.5 });
        }
    }
    Network::new(features, layers, choices.between(0, 1 << 20) as u64)
}

/// An input of either kind, `[batch, steps, …]`.
#[derive(Clone)]
enum Data {
    Floats(Vec<f32>, usize),
    Tokens(Vec<i32>),
}

impl Data {
    /// With masked steps wherever the network knows any: at the beginning, the end and between.
    fn new(choices: &mut Choices, network: &Network, batch: usize, steps: usize) -> Self {
        let seed = choices.between(0, 1 << 20) as u64;
        match network.layers[0] {
            Spec::Embedding { vocabulary, .. } => Self::Tokens(tokens(seed, batch * steps, vocabulary)),
            Spec::Masking { mask_value } => {
                let mut x = values(seed, batch * steps * network.input_size, 1.0);
                for step in x.chunks_exact_mut(network.input_size) {
                    if choices.between(0, 2) == 0 {
                        step.fill(mask_value);
                    }
                }
                Self::Floats(x, network.input_size)
            }
            _ => Self::Floats(values(seed, batch * steps * network.input_size, 1.0), network.input_size),
        }
    }

    /// Of each given row the steps `first..first + count`.
    fn cut(&self, rows: &[usize], steps: usize, first: usize, count: usize) -> Self {
        let at = |row: usize| row * steps + first;
        match self {
            Self::Floats(x, width) => {
                let part = |&row: &usize| &x[at(row) * width..][..count * width];
                Self::Floats(rows.iter().flat_map(part).copied().collect(), *width)
            }
            Self::Tokens(ids) => {
                Self::Tokens(rows.iter().flat_map(|&row| &ids[at(row)..][..count]).copied().collect())
            }
        }
    }

    fn input(&self) -> Input<'_> {
        match self {
            Self::Floats(x, _) => Input::Floats(x),
            Self::Tokens(ids) => Input::Tokens(ids),
        }
    }
}

fn run(stream: &mut Stream, data: &Data, steps: usize) -> Vec<f32> {
    let mut y = vec![f32::NAN; stream.output_len(steps).expect("the sizes are right")];
    match data {
        Data::Floats(x, _) => stream.run(x, steps, &mut y),
        Data::Tokens(ids) => stream.run_tokens(ids, steps, &mut y),
    }
    .expect("the call is right");
    y
}

fn state(stream: &Stream) -> Vec<f32> {
    let mut state = vec![f32::NAN; stream.state_len()];
    stream.get_state(&mut state).expect("the length is right");
    state
}

fn new(model: &Sequential, batch: usize) -> Stream {
    Stream::new(model, batch).expect("a stream can be made")
}

#[test]
fn any_chunking_gives_the_bits_of_the_whole() {
    for case in 0..250 {
        let mut choices = Choices::new(case);
        let network = causal(&mut choices, 130);
        let model = network.elman();
        let (batch, steps) = (choices.one_of(&[1, 1, 2, 3, 9, 33, 40]), choices.between(1, 80));
        let rows: Vec<usize> = (0..batch).collect();
        let data = Data::new(&mut choices, &network, batch, steps);
        let (whole, last) = run_elman(&model, Call::new(data.input(), batch, steps));
        let mut stream = new(&model, batch);
        let most = choices.one_of(&[1, 3, 50]);
        let mut first = 0;
        while first < steps {
            let count = choices.between(1, most).min(steps - first);
            let y = run(&mut stream, &data.cut(&rows, steps, first, count), count);
            let what = format!(
                "case {case}: {:?}, batch {batch}, steps {first} + {count} of {steps}",
                network.layers
            );
            if network.gives_sequence() {
                let width = whole.len() / (batch * steps);
                let part = |row: &usize| whole[(row * steps + first) * width..][..count * width].to_vec();
                assert_same_bits(&what, &y, &rows.iter().flat_map(part).collect::<Vec<_>>());
            } else {
                let past = data.cut(&rows, steps, 0, first + count);
                let (expected, _) = run_elman(&model, Call::new(past.input(), batch, first + count));
                assert_same_bits(&what, &y, &expected);
            }
            first += count;
        }
        assert_same_bits("the last state", &state(&stream), &last);
    }
}

#[test]
fn rows_of_a_stream_do_not_know_each_other() {
    for case in 0..100 {
        let mut choices = Choices::new(1000 + case);
        let network = causal(&mut choices, 100);
        let model = network.elman();
        let (batch, steps) = (choices.between(2, 12), choices.between(1, 40));
        let data = Data::new(&mut choices, &network, batch, steps);
        let mut order: Vec<usize> = (0..batch).collect();
        for i in (1..batch).rev() {
            order.swap(i, choices.between(0, i));
        }
        let y = run(&mut new(&model, batch), &data.cut(&order, steps, 0, steps), steps);
        let len = y.len() / batch;
        for (place, &row) in order.iter().enumerate() {
            let alone = run(&mut new(&model, 1), &data.cut(&[row], steps, 0, steps), steps);
            let what = format!("case {case}: {:?}, row {row} at {place} of {batch}", network.layers);
            assert_same_bits(&what, &alone, &y[place * len..][..len]);
        }
    }
}

#[test]
fn states_are_saved_restored_and_reset() {
    for case in 0..100 {
        let mut choices = Choices::new(2000 + case);
        let network = causal(&mut choices, 60);
        let model = network.elman();
        let (batch, steps) = (choices.between(1, 6), choices.between(1, 20));
        let rows: Vec<usize> = (0..batch).collect();
        let data = Data::new(&mut choices, &network, batch, 2 * steps);
        let parts = [0, steps].map(|first| data.cut(&rows, 2 * steps, first, steps));
        let what = format!("case {case}: {:?}, batch {batch}, steps {steps}", network.layers);

        let mut stream = new(&model, batch);
        let first = run(&mut stream, &parts[0], steps);
        let kept = state(&stream);
        let second = run(&mut stream, &parts[1], steps);

        let mut other = new(&model, batch);
        run(&mut other, &parts[1], steps);
        other.set_state(&kept).expect("the length is right");
        assert_same_bits(&what, &state(&other), &kept);
        assert_same_bits(&what, &run(&mut other, &parts[1], steps), &second);

        other.reset();
        assert!(state(&other).iter().all(|&value| value.to_bits() == 0));
        assert_same_bits(&what, &run(&mut other, &parts[0], steps), &first);

        // One row begins anew, the others go on.
        let row = choices.between(0, batch - 1);
        other.reset_row(row).expect("there is such a row");
        let mixed = run(&mut other, &parts[1], steps);
        let alone = run(&mut new(&model, 1), &data.cut(&[row], 2 * steps, steps, steps), steps);
        let len = mixed.len() / batch;
        let mut expected = second;
        expected[row * len..][..len].copy_from_slice(&alone);
        assert_same_bits(&what, &mixed, &expected);
    }
}

fn small(sequence: bool) -> Network {
    Network::single(2, Rnn { return_sequences: sequence, ..Rnn::new(5) }, 3)
}

#[test]
fn a_stream_keeps_its_weights_and_its_model_alive() {
    let network = small(true);
    let mut model = network.elman();
    let x = Data::Floats(values(1, 2 * 9, 1.0), 2);
    let before = run(&mut new(&model, 1), &x, 9);
    let mut stream = new(&model, 1);
    model.set_weight(0, Weight::Kernel, &[0.25; 10]).expect("the weight fits");
    let mut later = new(&model, 1);
    let after = run(&mut later, &x, 9);
    assert_ne!(before, after);
    assert_same_bits(
        "the model as it is now",
        &after,
        &model.predict(&values(1, 2 * 9, 1.0), 1, 9).expect("fine"),
    );
    drop(model);
    assert_same_bits("the weights it was made with", &run(&mut stream, &x, 9), &before);
    later.reset();
    assert_same_bits("the weights it was made with", &run(&mut later, &x, 9), &after);
}

#[test]
fn many_streams_on_one_model_from_many_threads() {
    for network in [Network::random_causal(), Network::gated_causal()] {
        many_streams(&network);
    }
}

fn many_streams(network: &Network) {
    let model = network.elman();
    let steps = 50;
    let expected: Vec<Vec<f32>> = (0..8)
        .map(|i| model.predict(&values(i, steps * network.input_size, 1.0), 1, steps).expect("fine"))
        .collect();
    std::thread::scope(|scope| {
        for (i, expected) in expected.iter().enumerate() {
            let (model, features) = (&model, network.input_size);
            scope.spawn(move || {
                let x = values(i as u64, steps * features, 1.0);
                for _ in 0..20 {
                    let mut stream = new(model, 1);
                    let y: Vec<f32> = x
                        .chunks_exact(features)
                        .flat_map(|x| run(&mut stream, &Data::Floats(x.to_vec(), features), 1))
                        .collect();
                    assert_same_bits("a stream among others", &y, expected);
                }
            });
        }
    });
}

trait RandomCausal {
    fn random_causal() -> Network;
    fn gated_causal() -> Network;
}

impl RandomCausal for Network {
    /// Two layers of odd widths and a softmax, for every step.
    fn random_causal() -> Network {
        let rnn = |units| Spec::SimpleRnn(Rnn { return_sequences: true, ..Rnn::new(units) });
        let dense = Spec::Dense { units: 7, activation: Activation::Softmax, use_bias: true };
        Network::new(3, vec![rnn(33), rnn(20), dense], 8)
    }

    /// The same of gated cells, each kind once.
    fn gated_causal() -> Network {
        let rnn = |units| Rnn { return_sequences: true, ..Rnn::new(units) };
        let dense = Spec::Dense { units: 7, activation: Activation::Softmax, use_bias: true };
        let [lstm, gru, before] = GATED;
        Network::new(3, vec![lstm(rnn(33)).into(), gru(rnn(20)).into(), before(rnn(9)).into(), dense], 8)
    }
}

#[track_caller]
fn refused<T>(result: elman::Result<T>, words: &[&str]) -> Error {
    let Err(error) = result else { panic!("it was not refused") };
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "no {word:?} in {message:?}");
    }
    error
}

#[test]
fn refusals_have_the_numbers_and_change_nothing() {
    for cell in CELLS {
        let backwards = Network::single(2, cell(Rnn { go_backwards: true, ..Rnn::new(3) }), 1).elman();
        let error = refused(Stream::new(&backwards, 1), &["layer 0", "go_backwards"]);
        assert!(matches!(error, Error::Unsupported(_)));
        let both = Spec::bidirectional(MergeMode::Sum, cell(Rnn::new(3)));
        let error =
            refused(Stream::new(&Network::new(2, vec![both], 1).elman(), 1), &["layer 0", "bidirectional"]);
        assert!(matches!(error, Error::Unsupported(_)));
    }
    let not_built = Stream::new(&Sequential::new(2).add(elman::SimpleRnn::new(3)), 1);
    assert!(matches!(not_built, Err(Error::NotBuilt(_))));

    let model = small(true).elman();
    refused(Stream::new(&model, 0), &["batch", "0"]);
    refused(Stream::new(&model, usize::MAX / 8), &["overflow"]);
    let mut stream = new(&model, 3);
    run(&mut stream, &Data::Floats(values(1, 12, 1.0), 2), 2);
    let before = state(&stream);
    let mut y = [-1.0; 30];
    refused(stream.run(&[0.0; 11], 2, &mut y), &["x", "12", "11"]);
    refused(stream.run(&[0.0; 12], 2, &mut y[..29]), &["y", "30", "29"]);
    refused(stream.run(&[0.0; 0], 0, &mut y), &["steps", "0"]);
    refused(stream.run_tokens(&[0; 6], 2, &mut y), &["embedding"]);
    refused(stream.reset_row(3), &["row 3", "has 3"]);
    refused(stream.set_state(&[0.0; 14]), &["15", "14"]);
    refused(stream.get_state(&mut [0.0; 16]), &["15", "16"]);
    assert!(y.iter().all(|&y| y == -1.0));
    assert_same_bits("the state", &state(&stream), &before);

    let embedding = Spec::Embedding { vocabulary: 4, size: 2, mask_zero: true };
    let model = Network::new(1, vec![embedding, Spec::SimpleRnn(Rnn::new(3))], 1).elman();
    let mut stream = new(&model, 1);
    refused(stream.run_tokens(&[1, 4], 2, &mut y[..3]), &["token 4", "index 1", "0..4"]);
    refused(stream.run_tokens(&[1, -1], 2, &mut y[..3]), &["token -1"]);
    refused(stream.run(&[1.0, 2.0], 2, &mut y[..3]), &["embedding"]);
    assert!(state(&stream).iter().all(|&value| value == 0.0));
}

#[test]
fn a_stateful_model_goes_on_where_it_ended() {
    for cell in CELLS {
        stateful_goes_on(cell);
    }
}

fn stateful_goes_on(cell: fn(Rnn) -> Recurrent) {
    let rnn = |units, stateful| Spec::from(cell(Rnn { stateful, return_sequences: true, ..Rnn::new(units) }));
    let network = Network::new(2, vec![rnn(20, true), rnn(7, true)], 4);
    let (model, features, steps) = (network.elman(), 2, 30);
    let x = values(5, 3 * steps * features, 1.0);
    let rows = [0, 1, 2];
    let data = Data::Floats(x.clone(), features);
    let whole = network.with(|rnn| rnn.stateful = false).elman().predict(&x, 3, steps).expect("fine");
    let width = whole.len() / (3 * steps);
    let piece = |first: usize, count: usize| match data.cut(&rows, steps, first, count) {
        Data::Floats(x, _) => x,
        Data::Tokens(_) => unreachable!("it was cut from floats"),
    };
    let expected = |first: usize, count: usize| {
        let part = |&row: &usize| whole[(row * steps + first) * width..][..count * width].to_vec();
        rows.iter().flat_map(part).collect::<Vec<f32>>()
    };
    for round in 0..2 {
        for (first, count) in [(0, 7), (7, 1), (8, 22)] {
            let y = model.predict(&piece(first, count), 3, count).expect("fine");
            assert_same_bits(&format!("round {round}, steps {first} + {count}"), &y, &expected(first, count));
            // Refused calls change nothing.
            refused(model.predict(&x[..2 * features], 2, 1), &["3 rows", "has 2"]);
            refused(model.predict(&x[..1], 3, 1), &["got 1"]);
        }
        model.reset_states();
    }
    // Another batch after a reset, and a state of the caller's, which wins.
    model.predict(&x[..2 * features], 2, 1).expect("there are no states to fit");
    let zeros = vec![0.0; model.state_len(2).expect("fine")];
    let mut again = vec![0.0; 2 * 7];
    let mut last = vec![0.0; zeros.len()];
    let options = RunOptions::default().initial_state(&zeros).final_state(&mut last);
    model.run(&x[..2 * features], 2, 1, options, &mut again).expect("fine");
    let from_zeros = network.elman().predict(&x[..2 * features], 2, 1).expect("fine");
    assert_same_bits("a state given wins", &again, &from_zeros);
    // What it left is kept.
    let next = model.predict(&x[..2 * features], 2, 1).expect("fine");
    let plain = network.with(|rnn| rnn.stateful = false).elman();
    let options = RunOptions::default().initial_state(&last);
    plain.run(&x[..2 * features], 2, 1, options, &mut again).expect("fine");
    assert_same_bits("the state it left", &next, &again);

    // Only stateful layers keep theirs.
    let half = Network::new(2, vec![rnn(20, true), rnn(7, false)], 4);
    let (model, plain) = (half.elman(), half.with(|rnn| rnn.stateful = false).elman());
    let states = cell(Rnn::new(1)).states();
    let mut last = vec![0.0; 27 * states];
    let options = RunOptions::default().final_state(&mut last);
    let mut y = [0.0; 7];
    model.run(&x[..2], 1, 1, options, &mut y).expect("fine");
    last[20 * states..].fill(0.0);
    let options = RunOptions::default().initial_state(&last);
    plain.run(&x[..2], 1, 1, options, &mut y).expect("fine");
    assert_same_bits("half", &model.predict(&x[..2], 1, 1).expect("fine"), &y);
}

#[test]
fn callers_of_a_stateful_model_follow_each_other() {
    let network =
        Network::single(1, Rnn { stateful: true, activation: Activation::Linear, ..Rnn::new(1) }, 0);
    let mut model = network.elman();
    // A counter: h = x + h.
    for which in [Weight::Kernel, Weight::RecurrentKernel] {
        model.set_weight(0, which, &[1.0]).expect("the weight fits");
    }
    model.set_weight(0, Weight::Bias, &[0.0]).expect("the weight fits");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| drop(model.predict(&[1.0], 1, 1).expect("fine"))));
        }
    });
    assert_eq!(model.predict(&[1.0], 1, 1).expect("fine"), [2001.0]);
}

fn fastest(rounds: usize, mut run: impl FnMut()) -> Duration {
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..rounds).map(time).min().expect("at least one round")
}

#[test]
fn a_decayed_stream_is_as_fast_as_a_live_one() {
    for cell in CELLS {
        decays(cell(Rnn { use_bias: false, return_sequences: true, ..Rnn::new(64) }));
    }
}

fn decays(layer: Recurrent) {
    let model = Network::single(1, layer, 5).elman();
    let sound = values(1, 2000, 1.0);
    let silence = vec![0.0; 2000];
    let mut y = vec![0.0; 2000 * 64];
    let (mut stream, mut faded_stream) = (new(&model, 1), new(&model, 1));
    // Taken in turns and the fastest of each, in as many rounds as it takes: other work on the machine only ever adds.
    let [mut live, mut fading, mut faded] = [Duration::MAX; 3];
    for round in 1.. {
        live = live.min(fastest(1, || stream.run(&sound, 2000, &mut y).expect("fine")));
        // Through everything that lies between a state and nothing.
        fading = fading.min(fastest(1, || stream.run(&silence, 2000, &mut y).expect("fine")));
        let mut subnormal = y.iter().filter(|y| y.is_subnormal());
        assert_eq!(subnormal.next(), None);
        assert!(state(&stream).iter().all(|&h| h == 0.0), "it has not faded");
        faded = faded.min(fastest(1, || faded_stream.run(&silence, 2000, &mut y).expect("fine")));
        let slow = faded.max(fading) >= 3 * live;
        if round >= 9 && !slow {
            break;
        }
        assert!(round < 100, "fading {fading:?}, faded {faded:?}, live {live:?}");
    }
    report(&format!(
        "streams: {}: 2000 steps live {live:?}, fading {fading:?}, faded {faded:?}",
        layer.elman().type_name()
    ));
}

#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn a_host_that_flushes_subnormals_gets_the_same() {
    let activations = [Activation::Tanh, Activation::Relu, Activation::Sigmoid];
    for (cell, activation) in CELLS.into_iter().flat_map(|cell| activations.map(|of| (cell, of))) {
        let layer = cell(Rnn { activation, use_bias: false, return_sequences: true, ..Rnn::new(48) });
        let network = Network::single(2, layer, 6);
        let model = network.elman();
        // An impulse that fades, and inputs that are subnormal themselves.
        let mut x = values(3, 2 * 1500, 1.0);
        x[60..].iter_mut().for_each(|x| *x *= f32::MIN_POSITIVE / 8.0);
        let (mut plain, mut flushed) = (vec![0.0; 1500 * 48], vec![0.0; 1500 * 48]);
        new(&model, 1).run(&x, 1500, &mut plain).expect("fine");
        let mut stream = new(&model, 1);
        common::host::flushing(|| stream.run(&x, 1500, &mut flushed).expect("fine"));
        let apart = plain.iter().zip(&flushed).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(
            apart < 1e-7 * 2.0_f32.powi(-70) || activation == Activation::Sigmoid && apart < 1e-7,
            "{layer:?}: {apart:e}"
        );
    }
}

/// The words of each review, at most 80.
fn words() -> Vec<usize> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ffi-examples/data/movie_reviews.tsv");
    let text = std::fs::read_to_string(path).expect("the reviews are committed");
    text.lines().map(|line| line.split_whitespace().count().clamp(2, 81) - 1).collect()
}

#[test]
fn padding_is_not_paid_for() {
    const BATCH: usize = 64;
    const STEPS: usize = 80;
    let rnn = |units, return_sequences| Spec::SimpleRnn(Rnn { return_sequences, ..Rnn::new(units) });
    let layers = |mask_zero| {
        let embedding = Spec::Embedding { vocabulary: 5000, size: 100, mask_zero };
        let dense = Spec::Dense { units: 1, activation: Activation::Sigmoid, use_bias: true };
        vec![embedding, rnn(64, true), rnn(64, false), dense]
    };
    let [masked, unmasked] = [true, false].map(|mask_zero| Network::new(1, layers(mask_zero), 7).elman());
    let words = words();
    let lengths: Vec<usize> = words.iter().step_by(words.len() / BATCH).take(BATCH).copied().collect();
    let mut ids = vec![0; BATCH * STEPS];
    for (row, (ids, &length)) in ids.chunks_exact_mut(STEPS).zip(&lengths).enumerate() {
        let some = tokens(row as u64, length, 4999);
        ids[..length].iter_mut().zip(some).for_each(|(id, token)| *id = token + 1);
    }
    let mut y = vec![0.0; BATCH];
    let mut time = |model: &Sequential| {
        fastest(1, || model.predict_tokens_into(&ids, BATCH, STEPS, &mut y).expect("fine"))
    };
    // Taken in turns and the fastest of each: other work on the machine only ever adds.
    let times: Vec<[Duration; 2]> = (0..25).map(|_| [time(&masked), time(&unmasked)]).collect();
    let [masked, unmasked] = [0, 1].map(|i| times.iter().map(|pair| pair[i]).min().expect("there are some"));
    let mean = lengths.iter().sum::<usize>() as f64 / BATCH as f64;
    let ratio = unmasked.as_secs_f64() / masked.as_secs_f64();
    report(&format!(
        "streams: {BATCH} sentences of {mean:.1} words in {STEPS} steps: masked {masked:?}, unmasked {unmasked:?}, {ratio:.2} times"
    ));
    assert!(ratio > 2.0, "only {ratio:.2} times as fast");
}

#[test]
fn every_backend() {
    backends::run_others("streams");
}
