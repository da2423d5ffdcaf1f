//! Weights by name and shape, and what a wrong call is told: the right kind of error, the numbers that were wrong,
//! and nothing written.

mod common;

use common::backends;
use common::cells::Cell;
use common::network::{GATED, Network, Recurrent, Rnn, Spec};
use common::numbers::{assert_same_bits, values};
use elman::{
    Activation, Bidirectional, Dense, Dropout, Embedding, Error, Isa, Layer, Masking, MergeMode, Padding,
    RunOptions, Sequential, SimpleRnn, SimpleRnnCell, Weight,
};

/// What every float holds that a refused call must not write.
const MARK: f32 = 1234.5;

fn model() -> Sequential {
    Sequential::new(3).add(SimpleRnn::new(5)).add(Dense::new(2)).build(1).expect("the model is valid")
}

fn reader() -> Sequential {
    let layers = Sequential::new(1).add(Embedding::new(10, 4)).add(SimpleRnn::new(5));
    layers.build(1).expect("the model is valid")
}

#[track_caller]
fn assert_says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
}

#[track_caller]
fn invalid<T>(result: Result<T, Error>, words: &[&str]) {
    match result {
        Err(Error::InvalidArgument(message)) => assert_says(&message, words),
        Err(other) => panic!("{other:?} where an argument is invalid"),
        Ok(_) => panic!("taken, and it should say {words:?}"),
    }
}

#[track_caller]
fn mismatch<T>(result: Result<T, Error>, name: &str, right: usize, wrong: usize) {
    match result {
        Err(error @ Error::LengthMismatch { .. }) => {
            assert_says(&error.to_string(), &[name, &right.to_string(), &wrong.to_string()]);
            let Error::LengthMismatch { what, expected, got, .. } = error else { return };
            assert_eq!((what, expected, got), (name, right, wrong));
        }
        Err(other) => panic!("{other:?} where {name} has another length"),
        Ok(_) => panic!("{name} of {wrong} taken for {right}"),
    }
}

#[track_caller]
fn not_built<T>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::NotBuilt(_))), "a model that is not built must say so");
}

#[test]
fn every_weight_has_its_name_and_shape() {
    let rnn = Rnn { return_sequences: true, ..Rnn::new(6) };
    let layers = vec![
        Spec::Embedding { vocabulary: 9, size: 4, mask_zero: true },
        Spec::SimpleRnn(rnn),
        Spec::Dropout { rate: 0.5 },
        Spec::bidirectional(MergeMode::Concat, Rnn { units: 5, ..rnn }),
        Spec::SimpleRnn(Rnn { use_bias: false, ..Rnn::new(3) }),
        Spec::Dense { units: 2, activation: Activation::Softmax, use_bias: true },
    ];
    check_names(
        layers,
        &[
            ("layers.0.embedding", [9, 4]),
            ("layers.1.kernel", [4, 6]),
            ("layers.1.recurrent_kernel", [6, 6]),
            ("layers.1.bias", [1, 6]),
            ("layers.3.kernel", [6, 5]),
            ("layers.3.recurrent_kernel", [5, 5]),
            ("layers.3.bias", [1, 5]),
            ("layers.3.backward_kernel", [6, 5]),
            ("layers.3.backward_recurrent_kernel", [5, 5]),
            ("layers.3.backward_bias", [1, 5]),
            ("layers.4.kernel", [10, 3]),
            ("layers.4.recurrent_kernel", [3, 3]),
            ("layers.5.kernel", [3, 2]),
            ("layers.5.bias", [1, 2]),
        ],
        &["embedding", "simple_rnn", "bidirectional", "dense", "[batch, 2]"],
    );
}

#[test]
fn every_gated_weight_has_its_name_and_shape() {
    let rnn = Rnn { return_sequences: true, ..Rnn::new(6) };
    let layers = vec![
        Spec::Embedding { vocabulary: 9, size: 4, mask_zero: true },
        Spec::Lstm(rnn),
        Spec::bidirectional(MergeMode::Concat, Recurrent::Gru(Rnn { units: 5, ..rnn })),
        Spec::Gru(Rnn { reset_after: false, units: 7, ..rnn }),
        Spec::Gru(Rnn { use_bias: false, units: 8, ..rnn }),
        Spec::Lstm(Rnn { use_bias: false, ..Rnn::new(3) }),
    ];
    check_names(
        layers,
        &[
            ("layers.0.embedding", [9, 4]),
            ("layers.1.kernel", [4, 24]),
            ("layers.1.recurrent_kernel", [6, 24]),
            ("layers.1.bias", [1, 24]),
            ("layers.2.kernel", [6, 15]),
            ("layers.2.recurrent_kernel", [5, 15]),
            ("layers.2.bias", [2, 15]),
            ("layers.2.backward_kernel", [6, 15]),
            ("layers.2.backward_recurrent_kernel", [5, 15]),
            ("layers.2.backward_bias", [2, 15]),
            ("layers.3.kernel", [10, 21]),
            ("layers.3.recurrent_kernel", [7, 21]),
            ("layers.3.bias", [1, 21]),
            ("layers.4.kernel", [7, 24]),
            ("layers.4.recurrent_kernel", [8, 24]),
            ("layers.5.kernel", [8, 12]),
            ("layers.5.recurrent_kernel", [3, 12]),
        ],
        &["embedding", "lstm", "gru", "bidirectional", "[batch, 3]"],
    );
}

fn check_names(layers: Vec<Spec>, expected: &[(&str, [usize; 2])], of_summary: &[&str]) {
    let network = Network::new(1, layers, 5);
    let model = network.elman();
    let found: Vec<(String, [usize; 2])> =
        model.trainable_variables().map(|(name, shape, _)| (name, shape)).collect();
    let expected: Vec<_> = expected.iter().map(|&(name, shape)| (name.to_owned(), shape)).collect();
    assert_eq!(found, expected);

    // The values are those that were set, in both ways of asking.
    let given: Vec<&[f32]> = network.weights.iter().flatten().map(|array| &array.values[..]).collect();
    for ((name, _, values), given) in model.trainable_variables().zip(given) {
        assert_same_bits(&name, values, given);
    }
    for (i, arrays) in network.weights.iter().enumerate() {
        for array in arrays {
            let variable = model.weight(i, array.which).expect("the layer has the weight");
            assert_eq!((variable.weight(), variable.shape()), (array.which, array.shape));
            assert_same_bits("one weight", variable.values(), &array.values);
            assert_eq!(model.weight_shape(i, array.which).expect("the layer has the weight"), array.shape);
        }
    }
    let summary = model.summary();
    let total: usize = network.weights.iter().flatten().map(|array| array.values.len()).sum();
    assert_says(&summary, of_summary);
    assert_says(&summary, &[&format!("total parameters: {total}")]);
}

#[test]
fn numbers_of_weights_are_the_c_abis() {
    let names = ["kernel", "recurrent_kernel", "bias", "embedding"];
    let names = names.into_iter().chain(["backward_kernel", "backward_recurrent_kernel", "backward_bias"]);
    for (i, (which, name)) in Weight::ALL.into_iter().zip(names).enumerate() {
        assert_eq!((which as usize, which.name()), (i, name));
    }
}

#[test]
fn a_wrong_weight_changes_nothing() {
    let mut model = model();
    let x = values(1, 12, 1.0);
    let before = model.predict(&x, 2, 2).expect("the call is right");
    mismatch(model.set_weight(0, Weight::Kernel, &[1.0; 14]), "kernel", 15, 14);
    mismatch(model.set_weight(0, Weight::RecurrentKernel, &[1.0; 26]), "recurrent_kernel", 25, 26);
    mismatch(model.set_weight(1, Weight::Bias, &[]), "bias", 2, 0);
    invalid(model.set_weight(1, Weight::RecurrentKernel, &[1.0; 4]), &["recurrent_kernel", "kernel, bias"]);
    invalid(model.set_weight(2, Weight::Kernel, &[1.0; 4]), &["layer 2", "has 2"]);
    invalid(model.weight(0, Weight::BackwardBias), &["backward_bias"]);
    invalid(model.weight(7, Weight::Kernel), &["layer 7"]);
    invalid(model.weight_shape(0, Weight::Embedding), &["embedding"]);
    assert_same_bits("after errors", &model.predict(&x, 2, 2).expect("the call is right"), &before);

    model.set_weight(1, Weight::Bias, &[10.0, 20.0]).expect("the weight fits");
    let after = model.predict(&x, 2, 2).expect("the call is right");
    for (i, (before, after)) in before.iter().zip(after).enumerate() {
        let bias = [10.0, 20.0][i % 2];
        assert!((after - before - bias).abs() < 1e-5, "a new bias of {bias} took {before} to {after}");
    }
}

#[test]
fn layers_with_wrong_numbers() {
    let build = |input: usize, layer: Layer| Sequential::new(input).add(layer).build(1);
    invalid(build(0, SimpleRnn::new(4).into()), &["input size", "got 0"]);
    invalid(build(3, SimpleRnn::new(0).into()), &["units", "got 0"]);
    invalid(build(3, Dense::new(0).into()), &["units", "got 0"]);
    invalid(build(1, Embedding::new(0, 4).into()), &["vocabulary", "got 0"]);
    invalid(build(1, Embedding::new(4, 0).into()), &["size", "got 0"]);
    invalid(build(3, SimpleRnn::new(4).dropout(1.5).into()), &["dropout", "1.5"]);
    invalid(build(3, SimpleRnn::new(4).recurrent_dropout(-0.25).into()), &["recurrent_dropout", "-0.25"]);
    invalid(build(3, Dropout::new(f32::NAN).into()), &["rate", "NaN"]);
    invalid(build(3, Masking::new(f32::INFINITY).into()), &["mask_value", "inf"]);
    invalid(build(3, SimpleRnn::new(4).activation(Activation::Softmax).into()), &["softmax"]);
    for cell in GATED {
        let of = |rnn: Rnn| build(3, Spec::from(cell(rnn)).elman());
        invalid(of(Rnn::new(0)), &["units", "got 0"]);
        invalid(of(Rnn { dropout: 1.5, ..Rnn::new(4) }), &["dropout", "1.5"]);
        invalid(of(Rnn { recurrent_dropout: f32::NAN, ..Rnn::new(4) }), &["recurrent_dropout", "NaN"]);
        invalid(of(Rnn { activation: Activation::Softmax, ..Rnn::new(4) }), &["softmax"]);
        invalid(of(Rnn { recurrent_activation: Activation::Softmax, ..Rnn::new(4) }), &["softmax"]);
        invalid(of(Rnn::new(usize::MAX)), &["overflows", &usize::MAX.to_string()]);
        let both = Spec::bidirectional(MergeMode::Sum, cell(Rnn { go_backwards: true, ..Rnn::new(4) }));
        invalid(build(3, both.elman()), &["go_backwards"]);
    }
    invalid(build(3, Bidirectional::new(SimpleRnn::new(4).go_backwards(true)).into()), &["go_backwards"]);
    for rate in [0.0, 1.0] {
        build(3, SimpleRnn::new(4).dropout(rate).recurrent_dropout(rate).into())
            .expect("both ends are rates");
    }
}

/// Refused where it is added, with those before it left as they are.
#[test]
fn masking_above_another_layer() {
    let mut network = Sequential::new(3);
    network.push(Dropout::new(0.5)).unwrap();
    match network.push(Masking::new(0.0)).unwrap_err() {
        Error::Unsupported(message) => assert!(message.contains("layer 1"), "{message}"),
        other => panic!("{other}"),
    }
    assert_eq!(network.layers().len(), 1);
    network.push(SimpleRnn::new(2)).unwrap();
    network.initialize(1).unwrap();
    // Without a recurrent layer nothing skips a step, which shows where the last layer has been added.
    let alone = Sequential::new(3).add(Masking::new(0.0)).add(Dense::new(2)).build(1);
    assert!(matches!(alone, Err(Error::Unsupported(_))));
}

#[test]
fn layers_in_wrong_places() {
    invalid(Sequential::new(3).build(1), &["at least one layer"]);
    invalid(Sequential::new(3).add(Embedding::new(9, 4)).build(1), &["input size must be 1", "3"]);
    let embedding_above = Sequential::new(3).add(SimpleRnn::new(4)).add(Embedding::new(9, 4));
    invalid(embedding_above.build(1), &["first layer", "layer 1"]);
    let last_below = Sequential::new(3).add(SimpleRnn::new(4)).add(SimpleRnn::new(4));
    invalid(last_below.build(1), &["layer 1", "return_sequences"]);
    let both = Bidirectional::new(SimpleRnn::new(4).return_sequences(true)).merge_mode(MergeMode::None);
    invalid(Sequential::new(3).add(both).add(Dense::new(2)).build(1), &["layer 0", "last layer"]);
    // The first thing that is wrong is the one that is told.
    let twice = Sequential::new(3).add(SimpleRnn::new(0)).add(Dropout::new(7.0));
    invalid(twice.build(1), &["units", "got 0"]);
    invalid(model().push(Dense::new(1)), &["built already"]);
}

#[test]
fn sizes_that_no_machine_has() {
    invalid(
        Sequential::new(3).add(SimpleRnn::new(usize::MAX)).build(1),
        &["overflows", &usize::MAX.to_string()],
    );
    invalid(Sequential::new(usize::MAX).add(Dense::new(3)).build(1), &["overflows", &usize::MAX.to_string()]);
    let half = usize::MAX / 2;
    for features in [usize::MAX, isize::MAX as usize / 4] {
        let model = Sequential::new(features).add(elman::Dropout::new(0.5));
        invalid(model.build(1), &["overflows", &features.to_string()]);
    }
    invalid(Sequential::new(1).add(Embedding::new(half, half)).build(1), &["overflows", &half.to_string()]);
    // In range as a number, beyond any address space.
    for layer in [
        Layer::from(SimpleRnn::new(1 << 24)),
        Dense::new(1 << 58).into(),
        Embedding::new(1 << 50, 1 << 8).into(),
    ] {
        // Not asked of the system, which may promise it.
        invalid(Sequential::new(1).add(layer).build(1), &["2^38"]);
    }
    let model = model();
    invalid(model.output_len(half, half), &["overflows", &half.to_string()]);
    invalid(model.state_len(half), &["overflows"]);
    let mut y = [MARK; 4];
    invalid(model.predict_into(&[0.0; 12], half, half, &mut y), &["overflows"]);
    invalid(model.predict(&[0.0; 12], usize::MAX, 1), &["overflows"]);
    invalid(reader().predict_tokens(&[1], half, half), &["overflows"]);
    assert_eq!(y, [MARK; 4]);
}

#[test]
fn a_model_that_is_not_built() {
    let mut model = Sequential::new(3).add(SimpleRnn::new(4));
    assert!(!model.is_built());
    not_built(model.predict(&[0.0; 3], 1, 1));
    not_built(model.predict_into(&[0.0; 3], 1, 1, &mut [0.0; 4]));
    not_built(model.predict_tokens(&[0], 1, 1));
    not_built(model.output_len(1, 1));
    not_built(model.state_len(1));
    not_built(model.weight(0, Weight::Kernel));
    not_built(model.set_weight(0, Weight::Kernel, &[0.0; 12]));
    assert_eq!(model.trainable_variables().count(), 0);
    assert_says(&model.summary(), &["not built"]);
    model.initialize(1).expect("the model is valid");
    assert!(model.is_built());
}

#[test]
fn inputs_and_outputs_of_wrong_lengths() {
    let model = model();
    let mut y = [MARK; 8];
    mismatch(model.predict_into(&[0.0; 11], 2, 2, &mut y[..4]), "x", 12, 11);
    mismatch(model.predict_into(&[0.0; 13], 2, 2, &mut y[..4]), "x", 12, 13);
    mismatch(model.predict_into(&[0.0; 12], 2, 2, &mut y[..3]), "y", 4, 3);
    mismatch(model.predict_into(&[0.0; 12], 2, 2, &mut y[..5]), "y", 4, 5);
    mismatch(model.predict_into(&[0.0; 0], 2, 2, &mut y[..4]), "x", 12, 0);
    mismatch(model.predict(&[0.0; 3], 1, 2), "x", 6, 3);
    invalid(model.predict_into(&[0.0; 0], 0, 2, &mut []), &["batch 0", "steps 2"]);
    invalid(model.predict_into(&[0.0; 0], 2, 0, &mut []), &["batch 2", "steps 0"]);
    invalid(model.predict_tokens(&[1, 2], 1, 2), &["no embedding"]);
    invalid(reader().predict(&[1.0, 2.0], 1, 2), &["token ids"]);
    mismatch(reader().predict_tokens(&[1, 2, 3], 1, 2), "ids", 2, 3);
    assert_eq!(y, [MARK; 8]);
}

#[test]
fn tokens_outside_the_vocabulary() {
    let model = reader();
    let mut y = [MARK; 10];
    for (at, id) in [(0, 10), (3, -1), (1, i32::MAX), (2, i32::MIN)] {
        let mut ids = [0, 9, 5, 1];
        ids[at] = id;
        let message = [id.to_string(), format!("index {at}"), "0..10".into()];
        invalid(model.predict_tokens_into(&ids, 2, 2, &mut y), &message.each_ref().map(|words| &words[..]));
    }
    assert_eq!(y, [MARK; 10]);
    model.predict_tokens_into(&[0, 9, 5, 1], 2, 2, &mut y).expect("all are words");
}

#[test]
fn wrong_options() {
    let model = model();
    let (x, mut y, mut state) = ([0.0; 12], [MARK; 4], [MARK; 11]);
    let none = RunOptions::default;
    let mut run = |options: RunOptions<'_>| model.run(&x, 2, 2, options, &mut y);
    mismatch(run(none().mask(&[1; 3])), "mask", 4, 3);
    mismatch(run(none().lengths(&[1; 3])), "lengths", 2, 3);
    invalid(run(none().lengths(&[2, 3])), &["lengths[1] is 3", "2 steps"]);
    invalid(run(none().mask(&[1; 4]).lengths(&[2, 2])), &["mask", "lengths"]);
    invalid(run(none().mask(&[1; 4]).padding(Padding::Onnx)), &["ONNX", "lengths"]);
    mismatch(run(none().initial_state(&[0.0; 5])), "initial_state", 10, 5);
    mismatch(run(none().final_state(&mut state)), "final_state", 10, 11);
    assert_eq!((y, state), ([MARK; 4], [MARK; 11]));
}

#[test]
fn wrong_threads() {
    invalid(model().set_threads(1025), &["1024", "1025"]);
    model().set_threads(0).expect("one for each core");
}

#[test]
fn a_cells_weights_and_errors() {
    invalid(SimpleRnnCell::new(SimpleRnn::new(4), 0, 1), &["input size", "got 0"]);
    invalid(SimpleRnnCell::new(SimpleRnn::new(0), 3, 1), &["units", "got 0"]);
    invalid(SimpleRnnCell::new(SimpleRnn::new(usize::MAX), 3, 1), &["overflows"]);
    let mut cell = SimpleRnnCell::new(SimpleRnn::new(4), 3, 1).expect("the cell is valid");
    let found: Vec<_> = cell.trainable_variables().map(|(name, shape, _)| (name, shape)).collect();
    assert_eq!(found, [("kernel", [3, 4]), ("recurrent_kernel", [4, 4]), ("bias", [1, 4])]);

    let (x, h, mut next) = ([0.5; 6], [0.25; 8], [MARK; 8]);
    mismatch(cell.step(&x[..5], &h, 2, &mut next), "x", 6, 5);
    mismatch(cell.step(&x, &h[..7], 2, &mut next), "h", 8, 7);
    mismatch(cell.step(&x, &h, 2, &mut next[..4]), "h_next", 8, 4);
    invalid(cell.step(&[], &[], 0, &mut []), &["batch", "got 0"]);
    mismatch(cell.step_in_place(&x, 2, &mut next[..7]), "h", 8, 7);
    invalid(cell.step(&x, &h, usize::MAX, &mut next), &["overflows"]);
    mismatch(cell.set_weight(Weight::Bias, &[0.0; 3]), "bias", 4, 3);
    invalid(cell.set_weight(Weight::Embedding, &[0.0; 3]), &["embedding", "kernel, recurrent_kernel, bias"]);
    assert_eq!(next, [MARK; 8]);

    cell.set_weight(Weight::Kernel, &[0.0; 12]).expect("the weight fits");
    cell.set_weight(Weight::RecurrentKernel, &[0.0; 16]).expect("the weight fits");
    cell.set_weight(Weight::Bias, &[-10.0, 0.0, 0.5, 10.0]).expect("the weight fits");
    cell.step(&x, &h, 2, &mut next).expect("the step is right");
    for (next, bias) in next.iter().zip([-10.0_f64, 0.0, 0.5, 10.0].into_iter().cycle()) {
        assert!((f64::from(*next) - bias.tanh()).abs() < 1e-6, "{next} is not tanh({bias})");
    }
}

#[test]
fn a_gated_cells_errors() {
    for layer in GATED.map(|cell| cell(Rnn::new(4))) {
        invalid(Cell::new(layer, 0, 1), &["input size", "got 0"]);
        let none = GATED.map(|cell| cell(Rnn::new(0)));
        none.into_iter().for_each(|layer| invalid(Cell::new(layer, 3, 1), &["units", "got 0"]));
        let mut cell = Cell::new(layer, 3, 1).expect("the cell is valid");
        let arrays = |len: usize, value: f32| vec![vec![value; len]; layer.states()];
        let (x, before, mut next) = ([0.5; 6], arrays(8, 0.25), arrays(8, MARK));
        mismatch(cell.step(&x[..5], &before, 2, &mut next), "x", 6, 5);
        mismatch(cell.step(&x, &arrays(7, 0.0), 2, &mut next), "h", 8, 7);
        mismatch(cell.step(&x, &before, 2, &mut arrays(4, 0.0)), "h_next", 8, 4);
        invalid(cell.step(&[], &arrays(0, 0.0), 0, &mut arrays(0, 0.0)), &["batch", "got 0"]);
        mismatch(cell.step_in_place(&x[..5], 2, &mut next), "x", 6, 5);
        invalid(cell.step(&x, &before, usize::MAX, &mut next), &["overflows"]);
        if layer.states() == 2 {
            let short = [vec![0.25; 8], vec![0.25; 7]];
            mismatch(cell.step(&x, &short, 2, &mut next), "c", 8, 7);
            let mut short = [vec![MARK; 8], vec![MARK; 9]];
            mismatch(cell.step(&x, &before, 2, &mut short), "c_next", 8, 9);
            assert!(short.concat().iter().all(|&value| value == MARK));
        }
        let columns = 4 * layer.gates();
        mismatch(cell.set_weight(Weight::Kernel, &[0.0; 3]), "kernel", 3 * columns, 3);
        invalid(
            cell.set_weight(Weight::Embedding, &[0.0; 3]),
            &["embedding", "kernel, recurrent_kernel, bias"],
        );
        assert!(next.concat().iter().all(|&value| value == MARK), "a refused step has written");
        let kernel = values(1, 3 * columns, 1.0);
        cell.set_weight(Weight::Kernel, &kernel).expect("the weight fits");
        assert_same_bits("the kernel", cell.weight(Weight::Kernel).expect("there is one"), &kernel);
    }
}

/// What a process can do whose `ELMAN_ISA` names no backend of this machine.
#[test]
#[ignore = "run by a_backend_that_is_not_there, with ELMAN_ISA=avx9"]
fn with_a_wrong_backend() {
    if std::env::var_os("ELMAN_ISA").is_none_or(|name| name != "avx9") {
        // `--ignored` alone starts this too.
        return;
    }
    let refused = |result: Result<(), Error>| match result {
        Err(Error::Unsupported(message)) => {
            assert_says(&message, &["ELMAN_ISA", "avx9", "portable", "avx512"])
        }
        other => panic!("{other:?} where the backend is unknown"),
    };
    refused(elman::isa().map(|_: Isa| ()));
    refused(Sequential::new(3).add(SimpleRnn::new(4)).build(1).map(|_| ()));
    refused(SimpleRnnCell::new(SimpleRnn::new(4), 3, 1).map(|_| ()));
    refused(elman::activate(Activation::Tanh, &mut [0.0]));
    assert_says(&Sequential::new(3).add(SimpleRnn::new(4)).summary(), &["unavailable"]);
}

#[test]
fn a_backend_that_is_not_there() {
    backends::child_with("avx9", &["--ignored", "--exact", "with_a_wrong_backend"]);
}

#[test]
fn every_backend() {
    backends::run_others("weights");
}
