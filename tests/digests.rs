//! Digests of results on hundreds of shapes, made once and committed (`tests/vectors/digests`): AVX2, AVX-512
//! and NEON must have these very bits, on whatever machine this runs. The portable backend is bit-stable within
//! itself only, where the target has no fused multiply-add; it is left out.
//!
//! `ELMAN_BLESS=1 cargo test --test digests` writes them anew: a change of what a result means, which needs a reason.

mod common;

use std::path::Path;

use common::backends::{self, report};
use common::network::{ACTIVATIONS, CELLS, Network, Recurrent, Rnn, Spec, parameters};
use common::numbers::{Choices, values};
use common::reference::{Call, Input};
use common::vectors::run_elman;
use elman::{
    Activation, Clipping, Examples, Isa, Loss, MergeMode, Optimizer, RunOptions, Schedule, Stream, Tape,
    Trainer, TrainerConfig,
};

/// What `ELMAN_BLESS` is set for.
fn blesses() -> bool {
    std::env::var_os("ELMAN_BLESS").is_some()
}

/// FNV-1a over bit patterns. Which NaN an operation gives is no part of a result, and differs between processors.
fn digest(results: &[f32]) -> u64 {
    let bits = |value: &f32| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() };
    let bytes = results.iter().map(bits).flat_map(u32::to_le_bytes);
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// Compares digests, each with what it is of, with the committed ones of `file`, or writes them.
fn compare(file: &str, digests: &[(String, u64)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/digests").join(file);
    if blesses() && !backends::is_forced() {
        let lines: String = digests.iter().map(|(_, digest)| format!("{digest:016x}\n")).collect();
        std::fs::write(&path, lines).expect("the file can be written");
        report(&format!("digests: {file} written, {} digests", digests.len()));
        return;
    }
    let committed = std::fs::read_to_string(&path).expect("the committed digests");
    let committed: Vec<&str> = committed.lines().collect();
    assert_eq!(committed.len(), digests.len(), "{file} has another number of digests");
    let of = |(number, (what, digest)): (usize, &(String, u64))| {
        let got = format!("{digest:016x}");
        (got != committed[number])
            .then(|| format!("line {}: {got} for {}: {what}", number + 1, committed[number]))
    };
    let different: Vec<String> = digests.iter().enumerate().filter_map(of).collect();
    let isa = elman::isa().expect("a backend can be chosen").name();
    let some = different.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        different.is_empty(),
        "{isa}: {} of {} differ in {file}:\n{some}",
        different.len(),
        digests.len()
    );
    report(&format!("digests: backend {isa}: {} of {} are those of {file}", digests.len(), digests.len()));
}

/// Whether this backend promises the committed bits; says so where not.
fn promises(file: &str) -> bool {
    let promises = elman::isa().expect("a backend can be chosen") != Isa::Portable;
    if !promises {
        report(&format!("digests: backend portable: SKIPPED for {file}, its bits are its own"));
    }
    promises
}

/// Any cell, whatever its activations, that gives its outputs.
fn cell(choices: &mut Choices, units: usize) -> Recurrent {
    let rnn = Rnn { return_sequences: true, ..Rnn::random(choices, units) };
    let cell = choices.one_of(&CELLS);
    cell(rnn)
}

#[test]
fn forward() {
    if !promises("forward.txt") {
        return;
    }
    let mut digests = Vec::new();
    // Every cell at every width up to the edges of all vectors and panels, and some beyond.
    let widths = (1..50).chain([63, 64, 65, 80, 96, 100, 112, 113, 128, 129, 200, 257]);
    let cells = widths.flat_map(|units| CELLS.map(|cell| (units, cell)));
    for (i, (units, cell)) in cells.enumerate() {
        let mut choices = Choices::new(600 + i as u64);
        let (activation, recurrent_activation) = (ACTIVATIONS[i % 9], ACTIVATIONS[i / 9 % 9]);
        // The usual ones have kernels of their own.
        let (activation, recurrent_activation) = match choices.coin() {
            true => (Activation::Tanh, Activation::Sigmoid),
            false => (activation, recurrent_activation),
        };
        let rnn = Rnn { activation, recurrent_activation, return_sequences: true, ..Rnn::new(units) };
        let network = Network::single(choices.between(1, 70), cell(rnn), i as u64);
        let (batch, steps) = (choices.one_of(&[1, 1, 2, 3, 4, 6, 7, 8, 9, 17]), choices.between(1, 5));
        let x = values(i as u64, batch * steps * network.input_size, 1.0);
        let (y, state) = run_elman(&network.elman(), Call::new(Input::Floats(&x), batch, steps));
        let what = format!("{} -> {:?}, batch {batch}, steps {steps}", network.input_size, network.layers);
        digests.push((what, digest(&[y, state].concat())));
    }
    for i in 0..100 {
        let mut choices = Choices::new(1000 + i);
        let network = Network::random(&mut choices, 100);
        let (batch, steps) = (choices.between(1, 17), choices.between(1, 9));
        let x = values(i, batch * steps * network.input_size, 2.0);
        let mask: Vec<u8> = (0..batch * steps).map(|_| u8::from(choices.between(0, 3) > 0)).collect();
        let mask = choices.coin().then_some(mask.as_slice());
        let call = Call { mask, ..Call::new(Input::Floats(&x), batch, steps) };
        let (y, state) = run_elman(&network.elman(), call);
        let what = format!("{:?}, batch {batch}, steps {steps}", network.layers);
        digests.push((what, digest(&[y, state].concat())));
    }
    // Every half binade of the activations, far out too.
    for activation in ACTIVATIONS.into_iter().chain([Activation::Softmax]) {
        let mut x: Vec<f32> = (0..1 << 18).map(|i: u32| f32::from_bits(i << 14 | i)).collect();
        // Whose sign counts.
        x.extend([-0.0, 0.0, 1.0, -0.0]);
        x.retain(|x| !x.is_nan() && (activation != Activation::Softmax || x.abs() < 1e4));
        elman::activate(activation, &mut x).expect("a backend can be chosen");
        digests.push((format!("{activation:?}"), digest(&x)));
    }
    compare("forward.txt", &digests);
}

#[test]
fn streams() {
    if !promises("streams.txt") {
        return;
    }
    let mut digests = Vec::new();
    for i in 0..120 {
        let mut choices = Choices::new(2000 + i);
        let mut layers: Vec<Spec> =
            (0..choices.between(1, 2)).map(|_| cell(&mut choices, 70).into()).collect();
        if choices.coin() {
            layers.push(Spec::Dense { units: 3, activation: Activation::Sigmoid, use_bias: true });
        }
        let features = choices.one_of(&[1, 2, 5, 16, 40]);
        let network = Network::new(features, layers, i);
        let batch = choices.one_of(&[1, 1, 1, 2, 5]);
        let mut stream = Stream::new(&network.elman(), batch).expect("small");
        let mut results = Vec::new();
        for steps in [1, 1, choices.between(1, 9), 1, 1, choices.between(1, 40)] {
            let x = values(choices.between(0, 1 << 20) as u64, batch * steps * features, 1.0);
            let mut y = vec![f32::NAN; stream.output_len(steps).expect("small")];
            stream.run(&x, steps, &mut y).expect("the call is right");
            results.extend(y);
        }
        let mut state = vec![f32::NAN; stream.state_len()];
        stream.get_state(&mut state).expect("as long as it says");
        results.extend(state);
        digests.push((format!("{features} -> {:?}, batch {batch}", network.layers), digest(&results)));
    }
    compare("streams.txt", &digests);
}

/// Its own gradients from a tape, those of the input among them, and the weights after some steps of a trainer.
#[test]
fn training() {
    if !promises("training.txt") {
        return;
    }
    let optimizers = [
        Optimizer::sgd(),
        Optimizer::Sgd { momentum: 0.9, nesterov: true },
        Optimizer::rmsprop(),
        Optimizer::adam(),
        Optimizer::adamw(),
    ];
    let clippings =
        [Clipping::None, Clipping::GlobalNorm(0.01), Clipping::Norm(0.01), Clipping::Value(0.001)];
    let mut digests = Vec::new();
    for i in 0..120 {
        let mut choices = Choices::new(3000 + i);
        let hidden = cell(&mut choices, 40);
        let top = Rnn { return_sequences: choices.coin(), ..Rnn::random(&mut choices, 40) };
        let top = choices.one_of(&CELLS)(top);
        let mut layers: Vec<Spec> = vec![hidden.into()];
        layers.push(match choices.between(0, 3) {
            0 => Spec::bidirectional(MergeMode::Concat, top),
            _ => top.into(),
        });
        layers.push(Spec::Dense { units: 3, activation: Activation::Linear, use_bias: true });
        let features = choices.between(1, 30);
        let mut network = Network::new(features, layers, i);
        let (batch, steps) = (choices.one_of(&[1, 2, 5, 8, 9]), choices.between(1, 7));
        let x = values(i, batch * steps * features, 1.0);
        let what = format!("{features} -> {:?}, batch {batch}, steps {steps}", network.layers);

        let model = network.elman();
        let mut y = vec![f32::NAN; model.output_len(batch, steps).expect("small")];
        let mut tape = Tape::new(&model, batch, steps).expect("small");
        tape.forward(&x, batch, steps, RunOptions::default(), true, 7, &mut y).expect("the call is right");
        let mut dx = vec![f32::NAN; x.len()];
        tape.backward(&y.clone(), Some(&mut dx)).expect("after forward");
        let mut results = [y.clone(), dx, tape.gradients().expect("after backward").to_vec()].concat();

        // Dropout's masks come from seeds.
        network = network.with(|rnn| (rnn.dropout, rnn.recurrent_dropout) = (0.1, 0.1));
        let mut model = network.elman();
        let config = TrainerConfig::new(choices.one_of(&optimizers), Loss::MeanSquaredError)
            .schedule(Schedule::Constant(0.01))
            .clipping(choices.one_of(&clippings));
        let mut trainer = Trainer::new(&model, config).expect("the options are right");
        let target = values(i + 1, y.len(), 1.0);
        for _ in 0..3 {
            let examples = Examples::floats(&x, batch, steps, &target);
            let loss = trainer.step(&mut model, examples, RunOptions::default()).expect("all is finite");
            results.push(loss);
        }
        results.extend(parameters(&model));
        digests.push((what, digest(&results)));
    }
    compare("training.txt", &digests);
}

#[test]
fn every_backend() {
    if blesses() {
        report("digests: written on one backend; the others are compared in the next run");
        return;
    }
    backends::run_others("digests");
}
