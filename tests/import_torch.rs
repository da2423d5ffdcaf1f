//! PyTorch's state dicts (`tests/vectors/import/make_torch.py`): what PyTorch computes, elman computes.

#![cfg(feature = "torch")]

mod import_cases;

use elman::{Activation, Error, LoadOptions, Output, Sequential};
use import_cases::{Cases, directory};

fn load(file: &str, options: &LoadOptions) -> Result<Sequential, Error> {
    let path = directory("torch").join(file);
    let from_path = Sequential::load_with(&path, options);
    let bytes = std::fs::read(path).expect("the file is there");
    let from_bytes = Sequential::load_bytes_with(&bytes, options);
    assert_eq!(from_path.is_ok(), from_bytes.is_ok(), "{file}");
    from_bytes
}

fn loaded(file: &str, options: &LoadOptions) -> Sequential {
    load(file, options).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Recurrent modules of every kind, from both kinds of file, with each of the three outputs.
#[test]
fn modules_compute_what_pytorch_computes() {
    let cases = Cases::read("torch");
    let options = LoadOptions::default();
    for kind in ["rnn", "lstm", "gru"] {
        for (name, options) in [
            (format!("{kind}_last"), options.clone()),
            (format!("{kind}_sequence_both"), options.clone().output(Output::Sequence)),
            (format!("{kind}_state_both"), options.clone().output(Output::LastState)),
            (format!("{kind}_last_both"), options.clone()),
            (format!("{kind}_bare"), options.clone().output(Output::Sequence)),
        ] {
            for extension in ["pt", "safetensors"] {
                cases.check(&name, &loaded(&format!("{name}.{extension}"), &options));
            }
        }
    }
}

#[test]
fn every_form_of_a_file_is_the_same_model() {
    let cases = Cases::read("torch");
    let options = LoadOptions::default();
    for form in ["", "_old", "_deflated", "_checkpoint", "_views"] {
        cases.check("forms", &loaded(&format!("forms{form}.pt"), &options));
    }
    for prefix in ["encoder.deep.", "encoder.deep"] {
        cases.check("forms", &loaded("forms_prefix.pt", &options.clone().prefix(prefix)));
    }
    for kind in ["half", "bfloat16", "double"] {
        for extension in ["pt", "safetensors"] {
            cases.check(kind, &loaded(&format!("{kind}.{extension}"), &options));
        }
    }
    cases.check("cell", &loaded("cell.pt", &options.clone().output(Output::LastState)));
}

#[test]
fn what_a_file_does_not_say_is_an_option() {
    let cases = Cases::read("torch");
    let options = LoadOptions::default().activation(Activation::Relu).last(Activation::Softmax);
    cases.check("head", &loaded("head.pt", &options.clone().between(Activation::Relu)));
    let message = load("head.pt", &options).expect_err("what stands between is not said").to_string();
    assert!(message.contains("\"fc\" and \"out\"") && message.contains("between"), "{message}");
    for extension in ["pt", "safetensors"] {
        cases.check("normal", &loaded(&format!("normal.{extension}"), &LoadOptions::default()));
    }
}

#[test]
fn what_is_not_carried_out_is_named() {
    for (file, words) in [
        ("refused_projection.pt", &["weight_hr_l0", "proj_size"][..]),
        ("refused_conv.pt", &["module \"0\"", "[6, 5, 3]"]),
        ("refused_module.pt", &["torch.nn.modules.rnn.RNN", "state_dict()"]),
        ("refused_order.safetensors", &["\"first\", \"other\"", "several orders"]),
        ("refused_fit.pt", &["\"rnn\", \"fc\"", "5 to 6", "7"]),
        ("refused_sparse.pt", &["\"weight_ih_l0\"", "_rebuild_sparse_tensor"]),
    ] {
        match load(file, &LoadOptions::default()) {
            Err(Error::Unsupported(message)) => {
                for word in words {
                    assert!(message.contains(word), "{file}: {message}");
                }
            }
            other => panic!("{file}: {other:?}"),
        }
    }
    let nothing = load("forms.pt", &LoadOptions::default().prefix("decoder."));
    assert!(matches!(nothing, Err(Error::BadFormat(message)) if message.contains("decoder.")));
}
