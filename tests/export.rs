//! Models for other frameworks: what `export` writes, `load` reads back as the same model; what a format cannot
//! say is named. `tests/vectors/import/check_export.py` has the frameworks themselves read them.

#![cfg(all(feature = "keras", feature = "torch", feature = "onnx"))]

mod export_networks;

use std::fs;
use std::path::Path;

use elman::{
    Activation, Bidirectional, Dense, Dropout, Embedding, Error, Format, Gru, LoadOptions, Lstm, Masking,
    MergeMode, RunOptions, Sequential, SimpleRnn,
};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use export_networks::{BATCH, Case, STEPS, networks, predicted};

const ALL: [Format; 4] = [Format::Elman, Format::Torch, Format::Onnx, Format::KerasWeights];

/// A file name that fits a format.
fn file(format: Format) -> &'static str {
    match format {
        Format::Torch => "model.pt",
        Format::Onnx => "model.onnx",
        Format::KerasWeights => "model.weights.h5",
        _ => "model.safetensors",
    }
}

fn exported(model: &Sequential, format: Format, name: &str, options: &LoadOptions) -> Sequential {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(name);
    model.export(&path, format).unwrap_or_else(|error| panic!("{format:?}: {error}"));
    Sequential::load_with(&path, options).unwrap_or_else(|error| panic!("{format:?}: {error}"))
}

fn same_bits(case: &Case, other: &Sequential, what: &str) {
    let [ours, theirs] = [predicted(&case.model, case), predicted(other, case)];
    assert_eq!(ours.len(), theirs.len(), "{what}: {}", case.model.summary());
    for (a, b) in ours.iter().zip(&theirs) {
        assert_eq!(a.to_bits(), b.to_bits(), "{what}: {a} and {b}: {}", case.model.summary());
    }
}

#[test]
fn a_state_dict_is_the_same_model_again() {
    for case in networks(80, Format::Torch) {
        for name in ["model.pt", "model.safetensors", "MODEL.SafeTensors", "model"] {
            let again = exported(&case.model, Format::Torch, name, &case.options);
            same_bits(&case, &again, name);
        }
    }
}

#[test]
fn an_onnx_graph_is_the_same_model_again() {
    for case in networks(150, Format::Onnx) {
        // Loaded, they stand side by side.
        if case.two_arrays {
            continue;
        }
        let again = exported(&case.model, Format::Onnx, "model.onnx", &LoadOptions::default());
        same_bits(&case, &again, "ONNX");
    }
}

/// States that a stateful layer keeps are inputs and outputs of the graph, and initial and final states of a
/// run once it is loaded.
#[test]
fn the_states_of_a_stateful_layer_are_inputs_and_outputs() {
    let model = Sequential::new(3)
        .add(Lstm::new(4).stateful(true).return_sequences(true))
        .add(Gru::new(2).stateful(true))
        .build(1)
        .expect("the layers fit");
    let again = exported(&model, Format::Onnx, "model.onnx", &LoadOptions::default());
    let x = [0.5; BATCH * STEPS * 3];
    let mut states = vec![0.0; again.state_len(BATCH).expect("it is built")];
    for _ in 0..3 {
        let expected = model.predict(&x, BATCH, STEPS).expect("it fits");
        let (first, mut y) = (states.clone(), vec![0.0; expected.len()]);
        let options = RunOptions::default().initial_state(&first).final_state(&mut states);
        again.run(&x, BATCH, STEPS, options, &mut y).expect("it fits");
        assert_eq!(y, expected);
    }
}

#[test]
fn what_onnx_cannot_say_is_named() {
    let refused = |model, words: &[&str]| self::refused(Format::Onnx, model, words);
    let embedding = Sequential::new(1).add(Embedding::new(9, 2).mask_zero(true));
    refused(embedding.add(Lstm::new(2)), &["layer 0 (embedding)", "mask_zero = true", "ONNX"]);
    let masking = Sequential::new(3).add(Masking::new(-1.0));
    refused(masking.add(Lstm::new(2)), &["layer 0 (masking)", "mask_value = -1"]);
    // Where nothing skips a step, a mask is none.
    let plain = Sequential::new(1).add(Embedding::new(9, 2).mask_zero(true)).build(1).expect("it fits");
    let again = exported(&plain, Format::Onnx, "model.onnx", &LoadOptions::default());
    let ids = [0, 3, 8, 0];
    assert_eq!(again.predict(&ids, 2, 2).expect("it fits"), plain.predict(&ids, 2, 2).expect("it fits"));
}

/// A model of the same layers, with other weights.
fn same_layers(model: &Sequential) -> Sequential {
    let layers = model.layers().iter().cloned();
    layers.fold(Sequential::new(model.input_size()), Sequential::add).build(99).expect("the layers fit")
}

#[test]
fn weights_for_keras_go_into_a_model_of_the_same_layers() {
    for case in networks(100, Format::KerasWeights) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("model.weights.h5");
        case.model.export(&path, Format::KerasWeights).expect("any model");
        let mut again = same_layers(&case.model);
        again.load_weights(&path).unwrap_or_else(|error| panic!("{error}: {}", case.model.summary()));
        same_bits(&case, &again, "Keras");
    }
}

/// So many dense layers.
fn deep(count: usize) -> Sequential {
    let dense = |at: usize| Dense::new(1 + at % 2);
    let model = (0..count).map(dense).fold(Sequential::new(1), Sequential::add);
    model.build(1).expect("the layers fit")
}

/// Groups of one list, of several, and of lists that are longer than the format's default; and more than that.
#[test]
fn weights_for_keras_may_be_of_many_layers() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.weights.h5");
    for count in [1, 8, 9, 256, 257, 2048] {
        let model = deep(count);
        model.export(&path, Format::KerasWeights).unwrap_or_else(|error| panic!("{count}: {error}"));
        let mut again = same_layers(&model);
        again.load_weights(&path).unwrap_or_else(|error| panic!("{count}: {error}"));
        let parameters = |model: &Sequential| {
            let mut values = vec![0.0; model.parameter_count().expect("it is built")];
            model.get_parameters(&mut values).expect("it is built");
            values
        };
        assert_eq!(parameters(&model), parameters(&again), "{count}");
    }
    match deep(2049).export(&path, Format::KerasWeights) {
        Err(Error::Unsupported(message)) => {
            assert!(message.contains("2049 layers") && message.contains("2048"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

/// Models, inputs and outputs for `tests/vectors/import/check_export.py`, in `target/tmp/export`.
#[test]
#[ignore = "for the script, which has the frameworks"]
fn files_for_the_frameworks() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("export");
    fs::remove_dir_all(&directory).ok();
    fs::create_dir_all(&directory).expect("a directory");
    for format in [Format::Torch, Format::Onnx, Format::KerasWeights] {
        let mut cases = networks(200, format);
        if format == Format::KerasWeights {
            // A group of more members than the format's default has room for.
            let x = vec![0.5; BATCH * STEPS];
            let options = LoadOptions::default();
            cases.push(Case { model: deep(300), options, x, ids: Vec::new(), two_arrays: false });
        }
        for (at, case) in cases.iter().enumerate() {
            let path = |end: &str| directory.join(format!("{format:?}_{at}{end}"));
            case.model.export(path(".elman"), Format::Elman).expect("any model");
            let y = predicted(&case.model, case);
            let shape = |len: usize| vec![BATCH, STEPS, len / (BATCH * STEPS)];
            let bytes = |values: &[[u8; 4]]| values.concat();
            let floats = |values: &[f32]| bytes(&values.iter().map(|v| v.to_le_bytes()).collect::<Vec<_>>());
            let ids = bytes(&case.ids.iter().map(|id| id.to_le_bytes()).collect::<Vec<_>>());
            let (x, y_bytes) = (floats(&case.x), floats(&y));
            let input = match case.reads_ids() {
                true => ("ids", TensorView::new(Dtype::I32, vec![BATCH, STEPS], &ids)),
                false => ("x", TensorView::new(Dtype::F32, shape(case.x.len()), &x)),
            };
            let y = ("y", TensorView::new(Dtype::F32, vec![y.len()], &y_bytes));
            let views = [input, y].map(|(name, view)| (name, view.expect("of this size")));
            safetensors::serialize_to_file(views, None, &path(".io")).expect("it is written");
            for end in ends(format) {
                case.model.export(path(end), format).expect("the format has all of it");
            }
        }
    }
}

fn ends(format: Format) -> &'static [&'static str] {
    match format {
        Format::Torch => &[".pt", ".safetensors"],
        Format::Onnx => &[".onnx"],
        _ => &[".weights.h5"],
    }
}

#[test]
fn elmans_own_format_is_what_save_writes() {
    for case in networks(5, Format::Onnx) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("model");
        case.model.export(&path, Format::Elman).expect("any model");
        assert_eq!(fs::read(&path).expect("it is there"), case.model.to_bytes().expect("small"));
    }
}

/// The names and shapes that PyTorch has for such modules.
#[test]
fn a_state_dict_has_pytorchs_names_and_shapes() {
    let model = Sequential::new(1)
        .add(Embedding::new(11, 5))
        .add(Dropout::new(0.5))
        .add(Bidirectional::new(Gru::new(4).return_sequences(true)))
        .add(Lstm::new(3).use_bias(false))
        .add(Dense::new(2).use_bias(false))
        .build(1)
        .expect("the layers fit");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.safetensors");
    model.export(&path, Format::Torch).expect("PyTorch has all of it");
    let bytes = fs::read(&path).expect("it is there");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("it is what it says");
    let mut found: Vec<_> = file.tensors().into_iter().map(|(n, t)| (n, t.shape().to_vec())).collect();
    found.sort();
    let expected = [
        ("0.weight", vec![11, 5]),
        ("2.bias_hh_l0", vec![12]),
        ("2.bias_hh_l0_reverse", vec![12]),
        ("2.bias_ih_l0", vec![12]),
        ("2.bias_ih_l0_reverse", vec![12]),
        ("2.weight_hh_l0", vec![12, 4]),
        ("2.weight_hh_l0_reverse", vec![12, 4]),
        ("2.weight_ih_l0", vec![12, 5]),
        ("2.weight_ih_l0_reverse", vec![12, 5]),
        ("3.weight_hh_l0", vec![12, 3]),
        ("3.weight_ih_l0", vec![12, 8]),
        ("4.weight", vec![2, 3]),
    ];
    assert_eq!(found, expected.map(|(name, shape)| (name.to_owned(), shape)));
}

/// A matrix alone at the bottom would be read as an embedding's.
#[test]
fn a_dense_layer_at_the_bottom_has_a_bias_in_a_state_dict() {
    let model = Sequential::new(3).add(Dense::new(4).use_bias(false)).add(SimpleRnn::new(2)).build(1);
    let model = model.expect("the layers fit");
    let again = exported(&model, Format::Torch, "model.safetensors", &LoadOptions::default());
    assert_eq!(again.input_size(), 3);
    let x = [0.25; 2 * 5 * 3];
    assert_eq!(again.predict(&x, 2, 5).expect("it fits"), model.predict(&x, 2, 5).expect("it fits"));
}

/// Models that a format cannot say, and the words of the message.
fn refused(format: Format, model: Sequential, words: &[&str]) {
    let model = model.build(1).expect("the layers fit");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(file(format));
    fs::write(&path, b"old").expect("a file");
    match model.export(&path, format) {
        Err(Error::Unsupported(message)) => {
            for word in words {
                assert!(message.contains(word), "{message}");
            }
        }
        other => panic!("{format:?}: {other:?} for {}", model.summary()),
    }
    assert_eq!(fs::read(&path).expect("it is there"), b"old");
    assert_eq!(fs::read_dir(&directory).expect("it is there").count(), 1);
}

#[test]
fn what_pytorch_has_no_module_for_is_named() {
    let refused = |model, words: &[&str]| self::refused(Format::Torch, model, words);
    let on = |input| Sequential::new(input);
    let both = |mode| Bidirectional::new(Lstm::new(2)).merge_mode(mode);
    refused(on(3).add(Gru::new(2).reset_after(false)), &["layer 0 (gru)", "reset_after = false"]);
    refused(on(3).add(Lstm::new(2).activation(Activation::Relu)), &["layer 0 (lstm)", "activation = relu"]);
    let gates = Gru::new(2).recurrent_activation(Activation::HardSigmoid);
    refused(
        on(3).add(Dense::new(2)).add(gates),
        &["layer 1 (gru)", "recurrent_activation = hard_sigmoid", "PyTorch"],
    );
    refused(on(3).add(SimpleRnn::new(2).activation(Activation::Elu)), &["(simple_rnn)", "activation = elu"]);
    refused(on(3).add(SimpleRnn::new(2).go_backwards(true)), &["layer 0", "go_backwards = true"]);
    for (mode, name) in
        [(MergeMode::Sum, "sum"), (MergeMode::Mul, "mul"), (MergeMode::Ave, "ave"), (MergeMode::None, "none")]
    {
        let words = format!("merge_mode = {name}");
        refused(on(3).add(both(mode)), &["layer 0 (bidirectional)", &words]);
    }
    let inside = Bidirectional::new(Gru::new(2).reset_after(false));
    refused(on(3).add(inside), &["layer 0 (bidirectional)", "reset_after = false"]);
    refused(on(1).add(Embedding::new(9, 2).mask_zero(true)).add(Lstm::new(2)), &["(embedding)", "mask_zero"]);
    refused(on(3).add(Masking::new(-1.0)).add(Lstm::new(2)), &["layer 0 (masking)", "mask_value = -1"]);
    refused(on(3).add(Dropout::new(0.5)), &["no weights"]);
}

#[test]
fn a_failed_export_leaves_the_old_file() {
    let model = Sequential::new(3).add(SimpleRnn::new(2)).build(1).expect("the layer fits");
    let directory = tempfile::tempdir().expect("a directory");
    for format in ALL {
        for path in [directory.path(), Path::new("/nowhere/at/all"), Path::new("")] {
            assert!(matches!(model.export(path, format), Err(Error::Io { .. })), "{format:?} {path:?}");
        }
        let unbuilt = Sequential::new(3).add(SimpleRnn::new(2));
        let path = directory.path().join(file(format));
        assert!(matches!(unbuilt.export(&path, format), Err(Error::NotBuilt("export"))));
        let mut dropped = Sequential::new(3).add(SimpleRnn::new(2)).build(1).expect("the layer fits");
        dropped.drop_weights().expect("it is built");
        let message = dropped.export(&path, format).expect_err("there is nothing to write").to_string();
        assert!(message.contains("drop_weights"), "{message}");
    }
    assert_eq!(fs::read_dir(&directory).expect("it is there").count(), 0);
}

/// The same model gives the same bytes, and replaces what was there.
#[test]
fn an_export_replaces_a_file_and_is_the_same_each_time() {
    let model = Sequential::new(3).add(SimpleRnn::new(2)).build(1).expect("the layer fits");
    let directory = tempfile::tempdir().expect("a directory");
    for format in ALL {
        let path = directory.path().join(file(format));
        let written = || {
            model.export(&path, format).unwrap_or_else(|error| panic!("{format:?}: {error}"));
            fs::read(&path).expect("it is there")
        };
        assert_eq!(written(), written());
    }
    assert_eq!(fs::read_dir(&directory).expect("it is there").count(), ALL.len());
}
