//! Models for other frameworks: what `export` writes, `load` reads back as the same model; what a format cannot
//! say is named. `tests/vectors/import/check_export.py` has the frameworks themselves read them.

#![cfg(all(feature = "keras", feature = "torch", feature = "onnx"))]

mod export_networks;

use std::fs;
use std::path::Path;

use elman::{
    Activation, Bidirectional, Dense, Dropout, Embedding, Error, Format, Gru, LoadOptions, Lstm, Masking,
    MergeMode, Sequential, SimpleRnn,
};
use export_networks::{Case, networks, predicted};

const ALL: [Format; 2] = [Format::Elman, Format::Torch];

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
