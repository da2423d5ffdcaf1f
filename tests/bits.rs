//! Same bits, whatever the road: rows alone or in any batch, looped or unrolled, one thread or more, step by step, in
//! chunks or whole, layer by layer or stacked, masked or short, AVX2 or AVX-512. Equality, not tolerance.

mod common;

use common::backends::{self, report};
use common::cells::Cell;
use common::network::{ACTIVATIONS, CELLS, Network, Recurrent, Rnn, Spec};
use common::numbers::{Choices, assert_same_bits, to_bits, values};
use common::programs::thinned;
use common::reference::{Call, Input};
use common::vectors::run_elman;
use elman::{Activation, Isa, MergeMode, Padding, RunOptions, Sequential, Unroll};

/// Widths around every edge: of a vector, of a panel, of the segments, of the panels of one call.
const WIDTHS: [usize; 25] =
    [1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 33, 39, 40, 41, 47, 48, 49, 64, 65, 100, 112, 113, 129, 257, 700];

/// Every cell at every width, activations in turn; with the case's number.
fn cells_of_all_widths() -> impl Iterator<Item = (usize, Recurrent)> {
    let each = WIDTHS.into_iter().flat_map(|units| CELLS.into_iter().map(move |cell| (units, cell)));
    each.enumerate().map(|(i, (units, cell))| {
        // Numbers that share no factor with that of the cells, so that each meets all.
        let (activation, recurrent_activation) = (ACTIVATIONS[i % 9], ACTIVATIONS[(i / 3 + 2) % 9]);
        (i, cell(Rnn { activation, recurrent_activation, ..sequence(units) }))
    })
}

fn sequence(units: usize) -> Rnn {
    Rnn { return_sequences: true, ..Rnn::new(units) }
}

/// Output and final states as one array.
fn run(model: &Sequential, x: &[f32], batch: usize, steps: usize, mask: Option<&[u8]>) -> Vec<f32> {
    let (y, state) = run_elman(model, Call { mask, ..Call::new(Input::Floats(x), batch, steps) });
    [y, state].concat()
}

/// Arrays `[batch, len]` one behind the other: of each the rows `first..first + count`.
fn rows_of(result: &[f32], batch: usize, lens: &[usize], first: usize, count: usize) -> Vec<f32> {
    let mut base = 0;
    let mut rows = Vec::new();
    for len in lens {
        rows.extend_from_slice(&result[base + first * len..][..count * len]);
        base += batch * len;
    }
    assert_eq!(base, result.len());
    rows
}

/// For each array that `run` gives, its floats a row.
fn lens(network: &Network, model: &Sequential, steps: usize) -> Vec<usize> {
    let output = model.output_len(1, steps).expect("the sizes are right");
    let arrays = match network.layers.last() {
        Some(Spec::Bidirectional { merge_mode: MergeMode::None, .. }) => 2,
        _ => 1,
    };
    let mut lens = vec![output / arrays; arrays];
    lens.extend(network.states().iter().map(|of| of.units));
    lens
}

/// Rows padded on the right, on the left, with holes, masked throughout and not at all.
fn random_mask(choices: &mut Choices, batch: usize, steps: usize) -> Vec<u8> {
    let mut mask = Vec::new();
    for _ in 0..batch {
        let kind = choices.between(0, 4);
        let cut = choices.between(0, steps);
        mask.extend((0..steps).map(|t| match kind {
            0 => u8::from(t < cut),
            1 => u8::from(t >= cut),
            2 => choices.between(0, 1) as u8,
            3 => 1,
            _ => u8::from(t % 3 == cut % 3),
        }));
    }
    mask
}

#[test]
fn a_row_has_the_same_bits_in_any_batch() {
    const BATCH: usize = 33;
    let mut choices = Choices::new(1);
    for (i, layer) in thinned(cells_of_all_widths()) {
        let features = choices.between(1, 300);
        let steps = choices.between(1, 4);
        let network = Network::single(features, layer, 10 * i as u64);
        let model = network.elman();
        let lens = lens(&network, &model, steps);
        let x = values(i as u64, BATCH * steps * features, 1.0);
        let whole = run(&model, &x, BATCH, steps, None);
        // All of them for some, and the edges of tiles for each.
        let sizes =
            (1..=BATCH).filter(|batch| i % 5 == 0 || [1, 2, 3, 4, 5, 6, 7, 8, 12, 17].contains(batch));
        for batch in sizes {
            let first = choices.between(0, BATCH - batch);
            let some =
                run(&model, &x[first * steps * features..][..batch * steps * features], batch, steps, None);
            let expected = rows_of(&whole, BATCH, &lens, first, batch);
            assert_same_bits(
                &format!("{features} -> {layer:?}, {batch} rows from {first}"),
                &some,
                &expected,
            );
        }
    }
}

#[test]
fn a_row_of_any_network_has_the_same_bits_alone() {
    for case in thinned(0..100) {
        let mut choices = Choices::new(100 + case);
        let network = Network::random(&mut choices, 130);
        let model = network.elman();
        let (batch, steps) = (choices.between(1, 33), choices.between(1, 9));
        let row = steps * network.input_size;
        let x = values(case, batch * row, 1.0);
        let mask = choices.coin().then(|| random_mask(&mut choices, batch, steps));
        let lens = lens(&network, &model, steps);
        let whole = run(&model, &x, batch, steps, mask.as_deref());
        for b in 0..batch {
            let mask = mask.as_ref().map(|mask| &mask[b * steps..][..steps]);
            let alone = run(&model, &x[b * row..][..row], 1, steps, mask);
            assert_same_bits(
                &format!("{:?}: row {b} of {batch}, mask {mask:?}", network.layers),
                &alone,
                &rows_of(&whole, batch, &lens, b, 1),
            );
        }
    }
}

#[test]
fn looped_and_unrolled_and_auto() {
    let mut choices = Choices::new(2);
    for (i, units) in thinned(WIDTHS.into_iter().chain([20, 300]).enumerate()) {
        for (k, activation) in ACTIVATIONS.into_iter().enumerate() {
            // The widest take as long as all others.
            if units > 300 && k % 3 > 0 {
                continue;
            }
            let features = choices.between(1, 100);
            let (batch, steps) = (choices.one_of(&[1, 2, 5, 17]), choices.between(1, 9));
            // The gates' functions in another order than the candidates'.
            let recurrent_activation = ACTIVATIONS[(k + i) % 9];
            // The simple cell has the fewest edges of its own.
            let cell = CELLS[(k + i) % 4];
            let layer = cell(Rnn { activation, recurrent_activation, ..sequence(units) });
            let network = Network::single(features, layer, i as u64);
            let x = values(i as u64, batch * steps * features, 1.0);
            let mask = choices.coin().then(|| random_mask(&mut choices, batch, steps));
            let of = |unroll| {
                let model = network.with(|rnn| rnn.unroll = unroll).elman();
                run(&model, &x, batch, steps, mask.as_deref())
            };
            let looped = of(Unroll::Looped);
            let what = format!("{features} -> {layer:?}, batch {batch}, steps {steps}");
            assert_same_bits(&what, &of(Unroll::Unrolled), &looped);
            assert_same_bits(&what, &of(Unroll::Auto), &looped);
        }
    }
}

/// Networks with enough work for several threads, and some that are too small for any.
#[test]
fn one_thread_or_more() {
    let rnn = |units| Spec::SimpleRnn(sequence(units));
    let lstm = |units| Spec::Lstm(sequence(units));
    let [gru, before] =
        [true, false].map(|reset_after| move |units| Spec::Gru(Rnn { reset_after, ..sequence(units) }));
    let both = |merge_mode, rnn: Rnn| Spec::bidirectional(merge_mode, rnn);
    let dense = Spec::Dense { units: 5, activation: Activation::Softmax, use_bias: true };
    let cases = [
        (vec![rnn(64), Spec::SimpleRnn(Rnn::new(64)), dense], 100, 33, 40),
        (vec![rnn(129), rnn(65)], 60, 7, 40),
        (vec![rnn(700)], 300, 3, 12),
        (vec![rnn(300)], 10, 1, 60),
        (vec![rnn(20)], 1, 2, 5),
        (vec![both(MergeMode::Concat, sequence(80)), rnn(50)], 40, 19, 30),
        (vec![both(MergeMode::None, sequence(100))], 70, 11, 30),
        (vec![rnn(90), both(MergeMode::None, Rnn::new(100))], 70, 12, 30),
        (vec![Spec::SimpleRnn(Rnn { go_backwards: true, ..sequence(100) }), dense], 100, 16, 20),
        (vec![lstm(64), gru(64), dense], 100, 33, 40),
        (vec![before(65), lstm(60), rnn(40)], 60, 7, 40),
        (vec![lstm(300)], 100, 3, 12),
        (vec![gru(350)], 100, 3, 12),
        (vec![before(330)], 100, 4, 12),
        (vec![gru(200)], 10, 1, 40),
        (vec![lstm(200)], 10, 1, 40),
        (vec![lstm(10), gru(7)], 1, 2, 5),
        (vec![Spec::bidirectional(MergeMode::Concat, Recurrent::Lstm(sequence(50))), before(50)], 40, 19, 30),
        (vec![Spec::bidirectional(MergeMode::None, Recurrent::Gru(sequence(60)))], 70, 11, 30),
        (vec![Spec::Gru(Rnn { go_backwards: true, reset_after: false, ..sequence(80) }), dense], 100, 16, 20),
    ];
    for (i, (layers, features, batch, steps)) in cases.into_iter().enumerate() {
        let network = Network::new(features, layers, 50 * i as u64);
        let mut model = network.elman();
        let x = values(i as u64, batch * steps * features, 1.0);
        let mask = random_mask(&mut Choices::new(i as u64), batch, steps);
        let lengths: Vec<usize> = (0..batch).map(|row| row * 7 % (steps + 1)).collect();
        let initial = values(i as u64, model.state_len(batch).expect("the sizes are right"), 0.5);
        let plain = Call::new(Input::Floats(&x), batch, steps);
        let short = Call { lengths: Some(&lengths), initial_state: Some(&initial), ..plain };
        for (of, call) in [
            ("all steps", plain),
            ("masked", Call { mask: Some(&mask), ..plain }),
            ("lengths, initial states", short),
            ("lengths, initial states, ONNX padding", Call { padding: Padding::Onnx, ..short }),
        ] {
            model.set_threads(1).expect("one thread");
            let one = run_elman(&model, call);
            for threads in [2, 3, 8] {
                model.set_threads(threads).expect("threads can be started");
                let what = format!("{:?}, {batch} rows, {of}, {threads} threads", network.layers);
                // Few rows are cut only where somebody is awake, which the first call's partners are for the next.
                for _ in 0..6 {
                    let more = run_elman(&model, call);
                    assert_same_bits(&what, &more.0, &one.0);
                    assert_same_bits(&what, &more.1, &one.1);
                }
            }
        }
    }
}

#[test]
fn step_by_step_and_whole() {
    let mut choices = Choices::new(3);
    for (i, layer) in thinned(cells_of_all_widths()) {
        let features = choices.between(1, 300);
        let (batch, steps) = (choices.one_of(&[1, 2, 3, 8, 33]), choices.between(1, 6));
        let mut layer = Spec::from(layer);
        let rnn = layer.rnn_mut().expect("it is recurrent");
        rnn.use_bias = i % 3 != 0;
        let units = rnn.units;
        let network = Network::new(features, vec![layer], 7 * i as u64);
        let x = values(i as u64, batch * steps * features, 1.0);
        let (whole, last) = run_elman(&network.elman(), Call::new(Input::Floats(&x), batch, steps));

        let cell = Cell::of(&network);
        let mut states = vec![vec![0.0; batch * units]; network.states().len()];
        for t in 0..steps {
            let now: Vec<f32> =
                (0..batch).flat_map(|b| &x[(b * steps + t) * features..][..features]).copied().collect();
            let mut next = vec![vec![f32::NAN; batch * units]; states.len()];
            cell.step(&now, &states, batch, &mut next).expect("the step is right");
            cell.step_in_place(&now, batch, &mut states).expect("the step is right");
            let what = format!("{features} -> {layer:?}, batch {batch}, step {t}");
            assert_same_bits(&what, &states.concat(), &next.concat());
            let expected: Vec<f32> =
                (0..batch).flat_map(|b| &whole[(b * steps + t) * units..][..units]).copied().collect();
            assert_same_bits(&what, &next[0], &expected);
        }
        assert_same_bits("the last states", &states.concat(), &last);
    }
}

/// The steps `first..first + count` of `[batch, steps, features]`.
fn steps_of(x: &[f32], steps: usize, features: usize, first: usize, count: usize) -> Vec<f32> {
    x.chunks_exact(steps * features)
        .flat_map(|row| &row[first * features..][..count * features])
        .copied()
        .collect()
}

/// Runs `x` in pieces whose lengths `next` gives, the states handed on, and compares with the whole.
fn compare_pieces(network: &Network, x: &[f32], batch: usize, steps: usize, mut next: impl FnMut() -> usize) {
    let model = network.elman();
    let features = network.input_size;
    let (whole, last) = run_elman(&model, Call::new(Input::Floats(x), batch, steps));
    let width = whole.len() / (batch * steps);
    let mut state: Option<Vec<f32>> = None;
    let mut first = 0;
    while first < steps {
        let count = next().min(steps - first);
        let piece = steps_of(x, steps, features, first, count);
        let call = Call { initial_state: state.as_deref(), ..Call::new(Input::Floats(&piece), batch, count) };
        let (y, after) = run_elman(&model, call);
        let what = format!("{:?}, batch {batch}, steps {first} to {}", network.layers, first + count);
        assert_same_bits(&what, &y, &steps_of(&whole, steps, width, first, count));
        state = Some(after);
        first += count;
    }
    assert_same_bits("the last state", &state.expect("there was a step"), &last);
}

#[test]
fn in_pieces_and_whole() {
    let mut choices = Choices::new(4);
    let activations = [Activation::Tanh, Activation::Relu, Activation::Sigmoid];
    for case in thinned(0..80) {
        let (batch, steps) = (choices.one_of(&[1, 1, 2, 5, 9, 33]), choices.between(2, 30));
        let mut layers = Vec::new();
        for _ in 0..choices.between(1, 3) {
            let (cell, activation) = (choices.one_of(&CELLS), choices.one_of(&activations));
            layers.push(cell(Rnn { activation, ..sequence(choices.between(1, 140)) }).into());
            if choices.coin() {
                let activation = choices.one_of(&[Activation::Linear, Activation::Softmax]);
                layers.push(Spec::Dense { units: choices.between(1, 40), activation, use_bias: true });
            }
        }
        let network = Network::new(choices.between(1, 80), layers, 60 * case);
        let x = values(case, batch * steps * network.input_size, 1.0);
        compare_pieces(&network, &x, batch, steps, || choices.between(1, 7));
    }
}

/// Long enough that a call walks its steps in several chunks of its own, for one layer and for a pipeline of three.
#[test]
fn long_sequences() {
    let mut choices = Choices::new(5);
    let three =
        vec![Spec::SimpleRnn(sequence(20)), Spec::SimpleRnn(sequence(64)), Spec::SimpleRnn(sequence(7))];
    for (layers, batch, steps) in [
        (vec![Spec::SimpleRnn(sequence(20))], 1, 20_000),
        (vec![Spec::SimpleRnn(sequence(20))], 5, 4_000),
        (three, 3, 3_000),
        (vec![Spec::SimpleRnn(sequence(300))], 9, 400),
        (vec![Spec::Lstm(sequence(20))], 1, 5_000),
        (vec![Spec::Gru(sequence(20))], 5, 2_000),
        (vec![Spec::Gru(Rnn { reset_after: false, ..sequence(20) }), Spec::Lstm(sequence(33))], 3, 1_500),
        (vec![Spec::Lstm(sequence(150))], 9, 300),
    ] {
        let network = Network::new(3, layers, 9);
        let x = values(77, batch * steps * 3, 1.0);
        compare_pieces(&network, &x, batch, steps, || choices.between(1, steps / 3));
    }
}

/// The used steps of a row, alone and without a mask, give the outputs of these steps and the same state.
#[test]
fn a_masked_row_and_its_own_steps() {
    for case in thinned(0..90) {
        let mut choices = Choices::new(200 + case);
        let (batch, steps) = (choices.between(1, 33), choices.between(1, 20));
        let mut layers = vec![choices.one_of(&CELLS)(sequence(choices.between(1, 140))).into()];
        if choices.coin() {
            layers.push(Spec::Dense { units: 9, activation: Activation::Sigmoid, use_bias: true });
            layers.push(choices.one_of(&CELLS)(sequence(choices.between(1, 70))).into());
        }
        let network = Network::new(choices.between(1, 40), layers, 3 * case);
        let (features, model) = (network.input_size, network.elman());
        let x = values(case, batch * steps * features, 1.0);
        let mask = random_mask(&mut choices, batch, steps);
        let (y, state) =
            run_elman(&model, Call { mask: Some(&mask), ..Call::new(Input::Floats(&x), batch, steps) });
        let width = y.len() / (batch * steps);
        for b in 0..batch {
            let used: Vec<usize> = (0..steps).filter(|t| mask[b * steps + t] == 1).collect();
            if used.is_empty() {
                continue;
            }
            let own: Vec<f32> =
                used.iter().flat_map(|t| &x[(b * steps + t) * features..][..features]).copied().collect();
            let (own_y, own_state) = run_elman(&model, Call::new(Input::Floats(&own), 1, used.len()));
            let expected: Vec<f32> =
                used.iter().flat_map(|t| &y[(b * steps + t) * width..][..width]).copied().collect();
            let what = format!("{:?}, row {b} of {batch}, steps {used:?} of {steps}", network.layers);
            assert_same_bits(&what, &own_y, &expected);
            let units: Vec<usize> = network.states().iter().map(|of| of.units).collect();
            assert_same_bits(&what, &own_state, &rows_of(&state, batch, &units, b, 1));
        }
    }
}

#[test]
fn lengths_and_the_mask_they_mean() {
    for case in thinned(0..60) {
        let mut choices = Choices::new(300 + case);
        let network = Network::random(&mut choices, 70);
        let model = network.elman();
        let (batch, steps) = (choices.between(1, 20), choices.between(1, 12));
        let x = values(case, batch * steps * network.input_size, 1.0);
        let lengths: Vec<usize> = (0..batch).map(|_| choices.between(0, steps)).collect();
        let mask: Vec<u8> =
            lengths.iter().flat_map(|&len| (0..steps).map(move |t| u8::from(t < len))).collect();
        let masked = run(&model, &x, batch, steps, Some(&mask));
        let mut y = vec![f32::NAN; model.output_len(batch, steps).expect("the sizes are right")];
        let mut state = vec![f32::NAN; model.state_len(batch).expect("the sizes are right")];
        let options = RunOptions::default().lengths(&lengths).final_state(&mut state);
        model.run(&x, batch, steps, options, &mut y).expect("the call is right");
        assert_same_bits(&format!("{:?}, {lengths:?}", network.layers), &[y, state].concat(), &masked);
    }
}

#[test]
fn layer_by_layer_and_stacked() {
    for case in thinned(0..90) {
        let mut choices = Choices::new(400 + case);
        let network = Network::random(&mut choices, 130);
        let (batch, steps) = (choices.between(1, 20), choices.between(1, 12));
        let x = values(case, batch * steps * network.input_size, 1.0);
        let mask = choices.coin().then(|| random_mask(&mut choices, batch, steps));
        let stacked = run(&network.elman(), &x, batch, steps, mask.as_deref());

        let (mut y, mut states) = (x, Vec::new());
        // Above the last step there is one step, and no mask.
        let mut steps_left = steps;
        for i in 0..network.layers.len() {
            let model = network.part(i, i + 1).elman();
            let mask = mask.as_deref().filter(|_| steps_left == steps && !network.states().is_empty());
            let mask = mask.filter(|_| !matches!(network.layers[i], Spec::Dense { .. }));
            let (output, state) =
                run_elman(&model, Call { mask, ..Call::new(Input::Floats(&y), batch, steps_left) });
            if network.layers[i].recurrent().is_some_and(|(layer, _)| !layer.options().return_sequences) {
                steps_left = 1;
            }
            (y, states) = (output, [states, state].concat());
        }
        assert_same_bits(&format!("{:?}, mask {mask:?}", network.layers), &[y, states].concat(), &stacked);
    }
}

/// A model that has run a larger batch, NaN and all, gives the same bits as a fresh one.
#[test]
fn what_ran_before_leaves_nothing() {
    for case in thinned(0..40) {
        let mut choices = Choices::new(500 + case);
        let network = Network::random(&mut choices, 70);
        let (batch, steps) = (choices.between(1, 9), choices.between(1, 9));
        let features = network.input_size;
        let x = values(case, batch * steps * features, 1.0);
        let mask = choices.coin().then(|| random_mask(&mut choices, batch, steps));
        let fresh = run(&network.elman(), &x, batch, steps, mask.as_deref());
        let used = network.elman();
        run(&used, &vec![f32::NAN; 40 * 15 * features], 40, 15, None);
        assert_same_bits(
            &format!("{:?}", network.layers),
            &run(&used, &x, batch, steps, mask.as_deref()),
            &fresh,
        );
    }
}

/// FNV-1a over bit patterns.
fn digest(results: &[f32]) -> u64 {
    let bytes = to_bits(results).into_iter().flat_map(u32::to_le_bytes);
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[test]
#[ignore = "prints; run by avx2_and_avx512"]
fn print_digests() {
    let mut lines = String::new();
    let mut add =
        |what: String, results: &[f32]| lines += &format!("digest {:016x} {what}\n", digest(results));
    for i in 0..300 {
        let mut choices = Choices::new(600 + i);
        let layer = if i < 120 { CELLS[0] } else { CELLS[1 + i as usize % 3] };
        let (activation, recurrent_activation) =
            (ACTIVATIONS[i as usize % 9], ACTIVATIONS[i as usize / 9 % 9]);
        let units = choices.between(1, if i < 120 { 700 } else { 300 });
        let layer = layer(Rnn { activation, recurrent_activation, ..sequence(units) });
        let network = Network::single(choices.between(1, 300), layer, i);
        let (batch, steps) = (choices.between(1, 33), choices.between(1, 5));
        let x = values(i, batch * steps * network.input_size, 1.0);
        let results = run(&network.elman(), &x, batch, steps, None);
        add(format!("{} -> {layer:?}, batch {batch}, steps {steps}", network.input_size), &results);
    }
    for i in 0..150 {
        let mut choices = Choices::new(800 + i);
        let network = Network::random(&mut choices, 200);
        let (batch, steps) = (choices.between(1, 17), choices.between(1, 12));
        let x = values(i, batch * steps * network.input_size, 2.0);
        let mask = choices.coin().then(|| random_mask(&mut choices, batch, steps));
        let results = run(&network.elman(), &x, batch, steps, mask.as_deref());
        add(format!("{:?}, batch {batch}, steps {steps}", network.layers), &results);
    }
    // Every half binade of the activations, far out too.
    for activation in ACTIVATIONS.into_iter().chain([Activation::Softmax]) {
        let mut x: Vec<f32> =
            (0..1 << 20).map(|i: u32| f32::from_bits(i << 12)).filter(|x| !x.is_nan()).collect();
        if activation == Activation::Softmax {
            x.retain(|x| x.abs() < 1e4);
        }
        elman::activate(activation, &mut x).expect("a backend can be chosen");
        add(format!("{activation:?}"), &x);
    }
    // The parent reads this child's captured output, so it goes where the harness does not catch it.
    report(&lines);
}

#[test]
fn avx2_and_avx512() {
    if backends::is_forced() {
        return;
    }
    let both = [Isa::Avx2, Isa::Avx512];
    if !both.map(|isa| backends::is_there("bits of avx2 and avx512", isa)).into_iter().all(|there| there) {
        return;
    }
    let digests = both.map(|isa| {
        let output = backends::child(isa, &["--ignored", "--exact", "print_digests"]);
        output.lines().filter(|line| line.starts_with("digest ")).map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(digests[0].len(), 460, "every shape has a digest");
    let different: Vec<_> =
        digests[0].iter().zip(&digests[1]).filter(|(avx2, avx512)| avx2 != avx512).collect();
    assert!(different.is_empty(), "{} of 460 differ: {:#?}", different.len(), different);
    report("bits: backends avx2 and avx512 agree in 460 digests");
}

/// ONNX's rule reaches the same bits through lengths: each row alone at its own length, backwards too.
#[test]
fn onnx_padding_and_each_row_alone() {
    for case in thinned(0..60) {
        let mut choices = Choices::new(700 + case);
        let (batch, steps) = (choices.between(1, 12), choices.between(1, 10));
        let rnn = Rnn { go_backwards: choices.coin(), ..sequence(choices.between(1, 70)) };
        let cell = choices.one_of(&CELLS);
        let layer = match choices.coin() {
            true => cell(rnn).into(),
            false => Spec::bidirectional(MergeMode::Concat, cell(Rnn { go_backwards: false, ..rnn })),
        };
        let network = Network::new(choices.between(1, 20), vec![layer], case);
        let (features, model) = (network.input_size, network.elman());
        let x = values(case, batch * steps * features, 1.0);
        let lengths: Vec<usize> = (0..batch).map(|_| choices.between(1, steps)).collect();
        let mut y = vec![f32::NAN; model.output_len(batch, steps).expect("the sizes are right")];
        let options = RunOptions::default().lengths(&lengths).padding(Padding::Onnx);
        model.run(&x, batch, steps, options, &mut y).expect("the call is right");
        let width = y.len() / (batch * steps);
        for (b, &len) in lengths.iter().enumerate() {
            let own = &x[b * steps * features..][..len * features];
            let (mut expected, _) = run_elman(&model, Call::new(Input::Floats(own), 1, len));
            expected.resize(steps * width, 0.0);
            let what = format!("{:?}, row {b}, {len} of {steps} steps", network.layers);
            assert_same_bits(&what, &y[b * steps * width..][..steps * width], &expected);
        }
    }
}

#[test]
fn every_backend() {
    backends::run_others("bits");
}
