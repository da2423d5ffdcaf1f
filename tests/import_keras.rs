//! Keras's files (`tests/vectors/import/make_keras.py`): what Keras computes, elman computes.

#![cfg(feature = "keras")]

mod import_cases;

use elman::{Activation, Bidirectional, Dense, Dropout, Error, Gru, Lstm, Sequential};
use import_cases::{Cases, directory};

fn load(file: &str) -> Result<Sequential, Error> {
    Sequential::load(directory("keras").join(file))
}

fn loaded(file: &str) -> Sequential {
    load(file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The files whose names begin with a case's.
fn files() -> Vec<String> {
    let entries = std::fs::read_dir(directory("keras")).expect("the files are there");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("readable").file_name().into_string().expect("ASCII")).collect();
    names.sort();
    names
}

#[test]
fn files_compute_what_keras_computes() {
    let cases = Cases::read("keras");
    let mut ran = 0;
    for file in files() {
        let (name, extension) = file.split_once('.').expect("files have extensions");
        if name.starts_with("refused") || extension == "weights.h5" || name.ends_with("_weights") {
            continue;
        }
        let name = name.trim_end_matches("_new").trim_end_matches("_deflated");
        cases.check(name, &loaded(&file));
        ran += 1;
    }
    assert_eq!(ran, 35);
}

#[test]
fn weights_go_into_a_network_that_is_there() {
    let cases = Cases::read("keras");
    let network = |units| {
        Sequential::new(5)
            .add(Bidirectional::new(Gru::new(6).return_sequences(true)))
            .add(Lstm::new(4))
            .add(Dense::new(units))
            .build(1)
            .expect("the layers fit")
    };
    for file in ["forms.weights.h5", "forms_new.weights.h5"] {
        let mut model = network(3);
        model.load_weights(directory("keras").join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        cases.check("forms", &model);
    }
    // All or nothing.
    let path = directory("keras").join("forms.weights.h5");
    let mut wrong = network(2);
    let before = wrong.to_bytes().expect("it is built");
    let message = wrong.load_weights(&path).expect_err("another shape").to_string();
    assert!(message.contains("layers.2.kernel") && message.contains("[4, 2]"), "{message}");
    assert_eq!(wrong.to_bytes().expect("it is built"), before);
    let mut fewer = Sequential::new(5).add(Bidirectional::new(Gru::new(6))).build(1).expect("it fits");
    let message = fewer.load_weights(&path).expect_err("layers are left over").to_string();
    assert!(message.contains("\"dense\"") || message.contains("\"lstm\""), "{message}");
    let mut unbuilt = Sequential::new(5).add(Dense::new(3));
    assert!(matches!(unbuilt.load_weights(&path), Err(Error::NotBuilt(_))));
}

#[test]
fn older_weights_go_into_a_network_that_is_there() {
    let hard = Activation::HardSigmoidKeras2;
    let network = |reset_after| {
        let lstm = Lstm::new(6).return_sequences(true).recurrent_activation(hard);
        let gru = Gru::new(4).recurrent_activation(hard).reset_after(reset_after);
        Sequential::new(5)
            .add(lstm)
            .add(Dropout::new(0.5))
            .add(gru)
            .add(Dense::new(3))
            .build(1)
            .expect("they fit")
    };
    let path = directory("keras").join("keras_2_2_weights.h5");
    let mut model = network(false);
    model.load_weights(&path).unwrap_or_else(|error| panic!("{error}"));
    Cases::read("keras").check("keras_2_2", &model);
    let message = network(true).load_weights(&path).expect_err("another kind of GRU").to_string();
    assert!(message.contains("layers.2.bias") && message.contains("[12]"), "{message}");
    let mut fewer = Sequential::new(5).add(Lstm::new(6)).build(1).expect("it fits");
    let message = fewer.load_weights(&path).expect_err("layers are left over").to_string();
    assert!(message.contains("gru_1"), "{message}");
}

#[test]
fn many_layers_are_found_in_every_kind_of_group() {
    let cases = Cases::read("keras");
    for file in ["many.weights.h5", "many_new.weights.h5"] {
        let mut model = Sequential::new(5);
        for i in 0..12 {
            model.push(Dense::new(3 + i % 2)).expect("it fits");
        }
        let mut model = model.build(1).expect("it fits");
        model.load_weights(directory("keras").join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        cases.check("many", &model);
    }
}

#[test]
fn what_is_not_carried_out_is_named() {
    for (file, words) in [
        ("refused_selu.keras", &["\"second\" (Dense)", "activation = \"selu\""][..]),
        ("refused_flatten.keras", &["\"pool\" (GlobalMaxPooling1D)"]),
        ("refused_layer_norm.keras", &["\"norm\" (LayerNormalization)"]),
        ("refused_graph.h5", &["no line"]),
        ("refused_chunks.h5", &["compression"]),
        ("refused_mask.keras", &["(LSTM)", "mask = another"]),
        ("refused_step.keras", &["(GetItem)", "key = ", "2]"]),
        ("forms.weights.h5", &["load_weights"]),
    ] {
        match load(file) {
            Err(Error::Unsupported(message)) => {
                for word in words {
                    assert!(message.contains(word), "{file}: {message}");
                }
            }
            other => panic!("{file}: {other:?}"),
        }
    }
}
