//! The last step of a sequence: what the sequence has there, whatever is below, masked or not; and its gradient.

mod common;

use common::backends;
use elman::{
    Bidirectional, Dense, Dropout, Error, Gru, LastStep, Layer, Lstm, MergeMode, Padding, RunOptions,
    Sequential, SimpleRnn, Unroll,
};

const BATCH: usize = 5;
const STEPS: usize = 7;
const FEATURES: usize = 3;

/// What walks over the sequence below, of every kind of cell and in every direction.
fn below() -> Vec<Layer> {
    let mut layers: Vec<Layer> = Vec::new();
    for unroll in [Unroll::Looped, Unroll::Unrolled] {
        macro_rules! of {
            ($($layer:expr),*) => {$({
                let layer = $layer.return_sequences(true).unroll(unroll);
                layers.push(layer.into());
                layers.push(layer.zero_output_for_mask(true).into());
                layers.push(layer.go_backwards(true).into());
                for mode in [MergeMode::Concat, MergeMode::Sum, MergeMode::Mul, MergeMode::Ave] {
                    layers.push(Bidirectional::new(layer).merge_mode(mode).into());
                }
            })*};
        }
        of!(SimpleRnn::new(4), Lstm::new(4), Gru::new(4), Gru::new(4).reset_after(false));
    }
    layers
}

/// The sequence, and its last step, of the same weights.
fn pair(layer: &Layer) -> [Sequential; 2] {
    let deep = || Sequential::new(FEATURES).add(Lstm::new(3).return_sequences(true)).add(layer.clone());
    let sequence = deep().add(Dropout::new(0.0)).add(Dense::new(2)).build(7).expect("the layers fit");
    let mut last = deep().add(LastStep::new()).add(Dense::new(2)).build(7).expect("the layers fit");
    let mut parameters = vec![0.0; sequence.parameter_count().expect("it is built")];
    sequence.get_parameters(&mut parameters).expect("it is built");
    last.set_parameters(&parameters).expect("the same layers have weights");
    [sequence, last]
}

fn values(count: usize, salt: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + salt * 11) % 23) as f32 / 23.0 - 0.5).collect()
}

fn each_call(mut call: impl FnMut(&dyn Fn() -> RunOptions<'static>, &str)) {
    const LENGTHS: [usize; BATCH] = [7, 3, 0, 5, 1];
    const MASK: [u8; BATCH * STEPS] = {
        let mut mask = [1; BATCH * STEPS];
        let mut at = 0;
        while at < mask.len() {
            // Of the second and third row the last steps, of the fourth one in between.
            if at / STEPS == 1 && at % STEPS > 3 || at / STEPS == 2 && at % 2 == 0 || at == 3 * STEPS + 2 {
                mask[at] = 0;
            }
            at += 1;
        }
        mask
    };
    call(&RunOptions::default, "all steps");
    call(&|| RunOptions::default().lengths(&LENGTHS), "lengths");
    call(&|| RunOptions::default().lengths(&LENGTHS).padding(Padding::Onnx), "lengths of ONNX");
    call(&|| RunOptions::default().mask(&MASK), "a mask");
}

#[test]
fn it_is_what_the_sequence_has_there() {
    let x = values(BATCH * STEPS * FEATURES, 1);
    for layer in below() {
        let [sequence, mut last] = pair(&layer);
        each_call(|options, what| {
            let mut all = vec![f32::NAN; BATCH * STEPS * 2];
            sequence.run(&x, BATCH, STEPS, options(), &mut all).expect("it fits");
            let expected: Vec<f32> =
                all.chunks_exact(2).skip(STEPS - 1).step_by(STEPS).flatten().copied().collect();
            for threads in [1, 2] {
                last.set_threads(threads).expect("few");
                let mut y = vec![f32::NAN; BATCH * 2];
                last.run(&x, BATCH, STEPS, options(), &mut y).expect("it fits");
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&y), bits(&expected), "{what}: {layer:?}");
            }
        });
    }
}

/// The gradient of the last step is that of a sequence of whose other steps nothing depends.
#[cfg(feature = "training")]
#[test]
fn its_gradient_is_that_of_the_last_position() {
    use elman::Tape;
    let x = values(BATCH * STEPS * FEATURES, 2);
    let g = values(BATCH * 2, 3);
    let mut spread = vec![0.0; BATCH * STEPS * 2];
    for (to, from) in spread.chunks_exact_mut(2).skip(STEPS - 1).step_by(STEPS).zip(g.chunks_exact(2)) {
        to.copy_from_slice(from);
    }
    for layer in below() {
        let [sequence, last] = pair(&layer);
        each_call(|options, what| {
            let gradients = |model: &Sequential, g: &[f32]| {
                let mut tape = Tape::new(model, BATCH, STEPS + 1).expect("it fits");
                let mut dx = vec![f32::NAN; x.len()];
                let mut y = vec![f32::NAN; g.len()];
                // A pass before leaves something in every buffer.
                for _ in 0..2 {
                    tape.forward(&x, BATCH, STEPS, options(), false, 0, &mut y).expect("it fits");
                    tape.backward(g, Some(&mut dx)).expect("it fits");
                }
                (y, dx, tape.gradients().expect("it has gone back").to_vec())
            };
            let (all, dx_all, of_all) = gradients(&sequence, &spread);
            let (y, dx, of_last) = gradients(&last, &g);
            let ends: Vec<f32> =
                all.chunks_exact(2).skip(STEPS - 1).step_by(STEPS).flatten().copied().collect();
            assert_eq!(y, ends, "{what}: {layer:?}");
            assert_eq!(dx, dx_all, "{what}: {layer:?}");
            assert_eq!(of_last, of_all, "{what}: {layer:?}");
        });
    }
}

/// Where the layer below walks forwards, its last state is the last step: training goes the same way.
#[cfg(feature = "training")]
#[test]
fn it_trains_as_a_last_state_does() {
    use elman::{Examples, Loss, Optimizer, Trainer, TrainerConfig};
    let x = values(BATCH * STEPS * FEATURES, 4);
    let target = values(BATCH * 2, 5);
    let trained = |layer: Layer, last_step: bool| {
        let mut model = Sequential::new(FEATURES).add(layer);
        if last_step {
            model = model.add(LastStep::new());
        }
        let mut model = model.add(Dense::new(2)).build(3).expect("the layers fit");
        let mut parameters = values(model.parameter_count().expect("it is built"), 6);
        model.set_parameters(&parameters).expect("as many as it has");
        let config = TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError);
        let mut trainer = Trainer::new(&model, config).expect("it can be trained");
        for _ in 0..5 {
            let examples = Examples::new(&x, BATCH, STEPS, &target);
            trainer.step(&mut model, examples, RunOptions::default()).expect("it fits");
        }
        model.get_parameters(&mut parameters).expect("it is built");
        parameters
    };
    macro_rules! same {
        ($($layer:expr),*) => {$(
            assert_eq!(trained($layer.return_sequences(true).into(), true), trained($layer.into(), false));
        )*};
    }
    same!(SimpleRnn::new(4), Lstm::new(4), Gru::new(4), Gru::new(4).reset_after(false));
}

#[test]
fn it_stands_above_a_sequence_of_a_recurrent_layer() {
    let wrong = |model: Sequential| match model.build(1) {
        Err(Error::InvalidArgument(message)) => message,
        other => panic!("{other:?}"),
    };
    let message = wrong(Sequential::new(3).add(LastStep::new()));
    assert!(message.contains("layer 0 (last_step)") && message.contains("none below"), "{message}");
    let message = wrong(Sequential::new(3).add(Dense::new(2)).add(LastStep::new()));
    assert!(message.contains("layer 1 (last_step)"), "{message}");
    let message = wrong(Sequential::new(3).add(Lstm::new(2)).add(LastStep::new()));
    assert!(message.contains("layer 1 (last_step)") && message.contains("return_sequences"), "{message}");
    let sequence = || Sequential::new(3).add(Lstm::new(2).return_sequences(true)).add(LastStep::new());
    let message = wrong(sequence().add(LastStep::new()));
    assert!(message.contains("layer 2 (last_step)"), "{message}");
    let message = wrong(sequence().add(Gru::new(2)));
    assert!(message.contains("layer 2 (gru)"), "{message}");

    let model = sequence().build(1).expect("the layers fit");
    assert!(model.summary().contains("1 last_step"), "{}", model.summary());
    assert_eq!(model.output_len(3, 9).expect("it is built"), 3 * 2);
    let refused = elman::Stream::new(&model, 1).expect_err("a stream has no end");
    assert!(matches!(&refused, Error::Unsupported(why) if why.contains("layer 1 (last_step)")), "{refused}");
}

#[cfg(feature = "files")]
#[test]
fn it_is_saved_and_loaded() {
    let both = Bidirectional::new(Gru::new(2).return_sequences(true));
    let model = Sequential::new(3).add(both).add(LastStep::new()).build(1).expect("the layers fit");
    let again = Sequential::load_bytes(&model.to_bytes().expect("small")).expect("it was saved");
    assert_eq!(again.layers()[1], LastStep::new().into());
    let x = values(2 * STEPS * 3, 1);
    let [ours, theirs] = [&model, &again].map(|model| model.predict(&x, 2, STEPS).expect("it fits"));
    assert_eq!(ours, theirs);
}

#[test]
fn every_backend() {
    backends::run_others("last_step");
}
