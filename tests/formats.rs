//! elman's safetensors files: what is saved comes back, and nothing damaged gets in.

use std::fs;
use std::path::Path;

use elman::{
    Activation, Bidirectional, Dense, Dropout, Embedding, Error, Gru, Initializer, Layer, Lstm, Masking,
    MergeMode, Sequential, SimpleRnn, Unroll, Weight,
};
use proptest::prelude::*;

/// Biases that are not zeros, so that a mixed-up array cannot go unseen.
const RANDOM: Initializer = Initializer::RandomNormal { mean: 0.0, stddev: 1.0 };

fn networks() -> Vec<Sequential> {
    networks_with(RANDOM)
}

/// Each layer type, and each option at a value that is not its default.
fn networks_with(bias: Initializer) -> Vec<Sequential> {
    let rnn = |units| SimpleRnn::new(units).bias_initializer(bias);
    let dense = |units| Dense::new(units).bias_initializer(bias);
    let lstm = |units| Lstm::new(units).bias_initializer(bias);
    let gru = |units| Gru::new(units).bias_initializer(bias);
    vec![
        Sequential::new(1)
            .add(Embedding::new(11, 5).mask_zero(true))
            .add(rnn(4).dropout(0.5).recurrent_dropout(0.1).return_sequences(true).unroll(Unroll::Unrolled))
            .add(Dropout::new(0.3))
            .add(rnn(3).unroll(Unroll::Looped).activation(Activation::Relu).zero_output_for_mask(true))
            .add(dense(1).activation(Activation::Sigmoid)),
        Sequential::new(3)
            .add(Masking::new(-1.5))
            .add(Bidirectional::new(rnn(2).return_sequences(true)).merge_mode(MergeMode::Ave))
            .add(Bidirectional::new(rnn(2).use_bias(false))),
        Sequential::new(2)
            .add(rnn(3).go_backwards(true).return_sequences(true).activation(Activation::Linear))
            .add(rnn(3).stateful(true).use_bias(false))
            .add(dense(4).use_bias(false).activation(Activation::Softmax)),
        Sequential::new(4).add(rnn(2)),
        Sequential::new(1)
            .add(Embedding::new(11, 5).mask_zero(true))
            .add(lstm(4).dropout(0.5).recurrent_dropout(0.1).return_sequences(true).unroll(Unroll::Unrolled))
            .add(Dropout::new(0.3))
            .add(gru(3).unroll(Unroll::Looped).activation(Activation::Elu).zero_output_for_mask(true))
            .add(dense(1).activation(Activation::Softplus)),
        Sequential::new(3)
            .add(Masking::new(-1.5))
            .add(Bidirectional::new(lstm(2).unit_forget_bias(false).return_sequences(true)))
            .add(
                Bidirectional::new(gru(2).reset_after(false).return_sequences(true))
                    .merge_mode(MergeMode::Mul),
            )
            .add(Bidirectional::new(gru(2).use_bias(false))),
        Sequential::new(2)
            .add(gru(3).go_backwards(true).return_sequences(true).activation(Activation::LeakyRelu))
            .add(lstm(3).recurrent_activation(Activation::HardSigmoid).return_sequences(true))
            .add(gru(2).recurrent_activation(Activation::HardSigmoidKeras2).return_sequences(true))
            .add(lstm(3).stateful(true).use_bias(false))
            .add(dense(4).use_bias(false).activation(Activation::HardSigmoid)),
    ]
}

fn build(network: Sequential) -> Sequential {
    network.build(7).unwrap()
}

fn save(network: &Sequential) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("network.safetensors");
    network.save(&path).unwrap();
    let names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["network.safetensors"], "save left something beside its file");
    fs::read(path).unwrap()
}

/// Every weight a layer has, with the bits of its values.
fn weights(network: &Sequential) -> Vec<(usize, Weight, [usize; 2], Vec<u32>)> {
    let mut all = Vec::new();
    for layer in 0..network.layers().len() {
        for which in Weight::ALL {
            if let Ok(variable) = network.weight(layer, which) {
                let bits = variable.values().iter().map(|value| value.to_bits()).collect();
                all.push((layer, which, variable.shape(), bits));
            }
        }
    }
    all
}

fn message(result: Result<Sequential, Error>) -> String {
    match result {
        Err(error @ Error::BadFormat(_)) => error.to_string(),
        Err(other) => panic!("should be BadFormat, is {other:?}"),
        Ok(_) => panic!("a damaged file was loaded"),
    }
}

/// A tensor of a file made by hand: name, dtype, shape, bytes.
type Tensor = (String, &'static str, Vec<usize>, Vec<u8>);

/// A file made by hand, independently of the library's writer.
fn file(metadata: &serde_json::Value, tensors: &[Tensor]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), metadata.clone());
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(
            name.clone(),
            serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}),
        );
        data.extend(bytes);
    }
    let header = serde_json::to_string(&header).unwrap();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

fn metadata(config: &str) -> serde_json::Value {
    serde_json::json!({"format": "elman", "version": "1", "config": config})
}

fn f32s(name: &str, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let bytes = (0..count).flat_map(|i| (i as f32 * 0.25 - 1.0).to_le_bytes()).collect();
    (name.into(), "F32", shape.to_vec(), bytes)
}

fn rnn_tensors() -> Vec<Tensor> {
    vec![
        f32s("layers.0.kernel", &[3, 2]),
        f32s("layers.0.recurrent_kernel", &[2, 2]),
        f32s("layers.0.bias", &[2]),
    ]
}

fn load_config(config: &str) -> Result<Sequential, Error> {
    Sequential::load_bytes(&file(&metadata(config), &rnn_tensors()))
}

const RNN: &str = r#"{"input_size": 3, "layers": [{"type": "simple_rnn", "units": 2}]}"#;

#[test]
fn what_is_saved_comes_back() {
    // Files do not keep initialisers: what is loaded has Keras's, whose bias is zeros.
    for (network, expected) in networks().into_iter().zip(networks_with(Initializer::Zeros)) {
        let network = build(network);
        let bytes = save(&network);
        let loaded = Sequential::load_bytes(&bytes).unwrap();
        assert!(loaded.is_built());
        assert_eq!(loaded.input_size(), network.input_size());
        assert_eq!(loaded.layers(), expected.layers());
        assert_eq!(weights(&loaded), weights(&network));
        assert_eq!(save(&loaded), bytes, "saved, loaded and saved again");
    }
}

#[test]
fn a_loaded_network_computes_the_same() {
    for network in networks().into_iter().map(build) {
        let loaded = Sequential::load_bytes(&save(&network)).unwrap();
        let ids: Vec<i32> = (0..21).map(|i| i % 11).collect();
        let x: Vec<f32> = (0..21 * network.input_size()).map(|i| i as f32 * 0.37 % 1.3).collect();
        let bits = |network: &Sequential| {
            let y = match network.layers()[0] {
                Layer::Embedding(_) => network.predict_tokens(&ids, 3, 7),
                _ => network.predict(&x, 3, 7),
            };
            y.unwrap().iter().map(|value| value.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(bits(&loaded), bits(&network));
    }
}

#[test]
fn saving_is_deterministic() {
    for make in 0..networks().len() {
        let first = save(&build(networks().remove(make)));
        for _ in 0..5 {
            assert_eq!(save(&build(networks().remove(make))), first);
        }
    }
}

#[test]
fn files_are_plain_safetensors() {
    let network = build(networks().remove(0));
    let bytes = save(&network);
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "layers.0.embedding",
            "layers.1.bias",
            "layers.1.kernel",
            "layers.1.recurrent_kernel",
            "layers.3.bias",
            "layers.3.kernel",
            "layers.3.recurrent_kernel",
            "layers.4.bias",
            "layers.4.kernel",
        ]
    );
    assert_eq!(file.tensor("layers.1.bias").unwrap().shape(), [4], "a bias has one dimension");
    let kernel = file.tensor("layers.1.kernel").unwrap();
    assert_eq!((kernel.dtype(), kernel.shape()), (safetensors::Dtype::F32, [5, 4].as_slice()));
    let values = network.weight(1, Weight::Kernel).unwrap().values();
    assert_eq!(kernel.data(), values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap());
    assert_eq!(header % 8, 0, "the data begins aligned");
}

#[test]
fn any_alignment_will_do() {
    let network = build(networks().remove(1));
    let bytes = save(&network);
    for shift in 0..8 {
        let shifted = [vec![0; shift], bytes.clone()].concat();
        assert_eq!(weights(&Sequential::load_bytes(&shifted[shift..]).unwrap()), weights(&network));
    }
}

#[test]
fn weights_that_are_not_finite_come_back() {
    let mut network = build(Sequential::new(2).add(Dense::new(2)));
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0];
    network.set_weight(0, Weight::Kernel, &odd).unwrap();
    let loaded = Sequential::load_bytes(&save(&network)).unwrap();
    assert_eq!(weights(&loaded), weights(&network));
}

#[test]
fn missing_fields_take_the_defaults_of_keras() {
    let network = load_config(RNN).unwrap();
    let expected = Layer::from(SimpleRnn::new(2));
    assert_eq!(network.layers(), [expected]);
    assert_eq!(network.weight(0, Weight::Kernel).unwrap().values(), [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25]);

    let config = r#"{"input_size": 1, "layers": [{"type": "embedding", "vocabulary": 4, "size": 3},
        {"type": "bidirectional", "simple_rnn": {"units": 2}}, {"type": "dense", "units": 1},
        {"type": "dropout", "rate": 0.25}]}"#;
    let half = |prefix: &str| {
        [("kernel", vec![3, 2]), ("recurrent_kernel", vec![2, 2]), ("bias", vec![2])]
            .map(|(name, shape)| f32s(&format!("layers.1.{prefix}{name}"), &shape))
    };
    let mut tensors = vec![f32s("layers.0.embedding", &[4, 3])];
    tensors.extend(half("").into_iter().chain(half("backward_")));
    tensors.extend([f32s("layers.2.kernel", &[4, 1]), f32s("layers.2.bias", &[1])]);
    let network = Sequential::load_bytes(&file(&metadata(config), &tensors)).unwrap();
    let expected: [Layer; 4] = [
        Embedding::new(4, 3).into(),
        Bidirectional::new(SimpleRnn::new(2)).into(),
        Dense::new(1).into(),
        Dropout::new(0.25).into(),
    ];
    assert_eq!(network.layers(), expected);

    let config = r#"{"input_size": 3, "layers": [{"type": "lstm", "units": 2, "return_sequences": true},
        {"type": "gru", "units": 2, "return_sequences": true}, {"type": "bidirectional", "gru": {"units": 1}}]}"#;
    let tensors = [
        f32s("layers.0.kernel", &[3, 8]),
        f32s("layers.0.recurrent_kernel", &[2, 8]),
        f32s("layers.0.bias", &[8]),
        f32s("layers.1.kernel", &[2, 6]),
        f32s("layers.1.recurrent_kernel", &[2, 6]),
        f32s("layers.1.bias", &[2, 6]),
        f32s("layers.2.kernel", &[2, 3]),
        f32s("layers.2.recurrent_kernel", &[1, 3]),
        f32s("layers.2.bias", &[2, 3]),
        f32s("layers.2.backward_kernel", &[2, 3]),
        f32s("layers.2.backward_recurrent_kernel", &[1, 3]),
        f32s("layers.2.backward_bias", &[2, 3]),
    ];
    let network = Sequential::load_bytes(&file(&metadata(config), &tensors)).unwrap();
    let expected: [Layer; 3] = [
        Lstm::new(2).return_sequences(true).into(),
        Gru::new(2).return_sequences(true).into(),
        Bidirectional::new(Gru::new(1)).into(),
    ];
    assert_eq!(network.layers(), expected);

    let config = r#"{"input_size": 3, "layers": [{"type": "masking"}, {"type": "simple_rnn", "units": 2}]}"#;
    let tensors = [("kernel", vec![3, 2]), ("recurrent_kernel", vec![2, 2]), ("bias", vec![2])]
        .map(|(name, shape)| f32s(&format!("layers.1.{name}"), &shape));
    let network = Sequential::load_bytes(&file(&metadata(config), &tensors)).unwrap();
    assert_eq!(network.layers()[0], Masking::new(0.0).into());
}

/// Files of earlier versions have it, and what it says never had an effect.
#[test]
fn return_state_is_read_and_not_written() {
    for said in [true, false] {
        let old = RNN.replace(r#""units""#, &format!(r#""return_state": {said}, "units""#));
        assert_ne!(old, RNN);
        let network = load_config(&old).unwrap();
        assert_eq!(network.layers(), load_config(RNN).unwrap().layers());
        let saved = save(&network);
        assert!(!String::from_utf8_lossy(&saved).contains("return_state"));
    }
    message(load_config(&RNN.replace(r#""units""#, r#""return_state": 2, "units""#)));
}

/// A sparse file takes nothing of the disk, and no machine has room for what this one says that it holds.
#[test]
#[expect(clippy::print_stdout, reason = "a test that did not run says so")]
fn a_file_larger_than_memory_is_out_of_memory() {
    const BYTES: u64 = 1 << 40;
    // Where the system promises any amount of memory, it would begin to read.
    let promises = fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim() == "1");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large");
    let inputs = BYTES / 4;
    let config = format!(r#"{{"input_size": {inputs}, "layers": [{{"type": "dense", "units": 1}}]}}"#);
    let header = serde_json::json!({
        "__metadata__": metadata(&config),
        "layers.0.kernel": {"dtype": "F32", "shape": [inputs, 1], "data_offsets": [0, BYTES]},
        "layers.0.bias": {"dtype": "F32", "shape": [1], "data_offsets": [BYTES, BYTES + 4]},
    });
    let header = header.to_string();
    fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    if promises || file.set_len(8 + header.len() as u64 + BYTES + 4).is_err() {
        println!("SKIPPED: no files of 1 TiB here, or memory that is promised and not there");
        return;
    }
    match Sequential::load(&path).unwrap_err() {
        Error::OutOfMemory { bytes } => assert!(bytes as u64 >= BYTES, "{bytes}"),
        other => panic!("{other}"),
    }
}

#[test]
fn remarks_in_the_metadata_are_allowed() {
    let mut metadata = metadata(RNN);
    metadata["trained_by"] = "a script".into();
    Sequential::load_bytes(&file(&metadata, &rnn_tensors())).unwrap();
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = save(&build(networks().remove(0)));
    for length in (0..bytes.len()).step_by(97).chain(0..64).chain(bytes.len() - 64..bytes.len()) {
        message(Sequential::load_bytes(&bytes[..length]));
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    let data = bytes.len() - 8 - u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let text = message(Sequential::load_bytes(&longer));
    assert!(text.contains(&data.to_string()) && text.contains(&(data + 1).to_string()), "{text}");
}

#[test]
fn unknown_things_are_named() {
    let layers = |layers: &str| format!(r#"{{"input_size": 3, "layers": [{layers}]}}"#);
    for (config, names) in [
        (layers(r#"{"type": "simple_rnn", "units": 2, "kernel_size": 3}"#), ["layers.0", "kernel_size"]),
        (layers(r#"{"type": "dense", "units": 2, "unit": 3}"#), ["layers.0", "unit"]),
        (layers(r#"{"type": "masking", "value": 3}"#), ["layers.0", "value"]),
        (
            layers(r#"{"type": "dropout", "rate": 0.5}, {"type": "conv1d", "units": 2}"#),
            ["layers.1", "conv1d"],
        ),
        (layers(r#"{"type": "lstm", "units": 2, "reset_after": true}"#), ["layers.0", "reset_after"]),
        (
            layers(r#"{"type": "gru", "units": 2, "unit_forget_bias": true}"#),
            ["layers.0", "unit_forget_bias"],
        ),
        (
            layers(r#"{"type": "simple_rnn", "units": 2, "recurrent_activation": "tanh"}"#),
            ["layers.0", "recurrent_activation"],
        ),
        (layers(r#"{"type": "lstm", "units": 2, "recurrent_activation": "gelu"}"#), ["layers.0", "gelu"]),
        (layers(r#"{"type": "gru"}"#), ["layers.0", "units"]),
        (
            layers(r#"{"type": "bidirectional", "lstm": {"units": 2}, "gru": {"units": 2}}"#),
            ["layers.0", "several"],
        ),
        (
            layers(r#"{"type": "bidirectional", "lstm": {"type": "lstm", "units": 2}}"#),
            ["layers.0", "`type`"],
        ),
        (layers(r#"{"type": "lstm", "units": 2, "gru": {"units": 2}}"#), ["layers.0", "gru"]),
        (layers(r#"{"type": "simple_rnn", "units": 2, "activation": "gelu"}"#), ["layers.0", "gelu"]),
        (layers(r#"{"type": "simple_rnn", "units": 2, "unroll": true}"#), ["layers.0", "true"]),
        (layers(r#"{"type": "simple_rnn", "units": -2}"#), ["layers.0", "-2"]),
        (layers(r#"{"type": "simple_rnn", "units": 2.5}"#), ["layers.0", "2.5"]),
        (layers(r#"{"type": "simple_rnn", "units": 2, "units": 3}"#), ["layers.0", "units"]),
        (layers(r#"{"type": "simple_rnn"}"#), ["layers.0", "units"]),
        (layers(r#"{"units": 2}"#), ["layers.0", "type"]),
        (layers(r#"{"type": "dropout"}"#), ["layers.0", "rate"]),
        (
            layers(r#"{"type": "bidirectional", "simple_rnn": {"type": "simple_rnn", "units": 2}}"#),
            ["layers.0", "`type`"],
        ),
        (
            layers(r#"{"type": "bidirectional", "merge_mode": "max", "simple_rnn": {"units": 2}}"#),
            ["layers.0", "max"],
        ),
        (r#"{"input_size": 3, "layers": [], "optimizer": "adam"}"#.into(), ["config", "optimizer"]),
        (r#"{"layers": []}"#.into(), ["config", "input_size"]),
        (r#"{"input_size": 3}"#.into(), ["config", "layers"]),
        (format!("{RNN} and more"), ["config", "trailing"]),
        ("".into(), ["config", "EOF"]),
    ] {
        let text = message(load_config(&config));
        assert!(names.iter().all(|name| text.contains(name)), "{config}: {text}");
    }
}

#[test]
fn impossible_configurations_are_bad_formats() {
    let layers = |layers: &str| format!(r#"{{"input_size": 3, "layers": [{layers}]}}"#);
    for (config, part) in [
        (layers(r#"{"type": "simple_rnn", "units": 0}"#), "got 0"),
        (layers(r#"{"type": "simple_rnn", "units": 2, "dropout": 1.5}"#), "1.5"),
        (layers(r#"{"type": "simple_rnn", "units": 2, "recurrent_dropout": -1}"#), "-1"),
        (layers(r#"{"type": "simple_rnn", "units": 2, "activation": "softmax"}"#), "softmax"),
        (layers(r#"{"type": "lstm", "units": 2, "recurrent_activation": "softmax"}"#), "softmax"),
        (layers(r#"{"type": "gru", "units": 2, "activation": "softmax"}"#), "softmax"),
        (layers(r#"{"type": "lstm", "units": 0}"#), "got 0"),
        (layers(r#"{"type": "gru", "units": 2, "recurrent_dropout": -1}"#), "-1"),
        (layers(r#"{"type": "simple_rnn", "units": 2}, {"type": "masking"}"#), "layer 1"),
        (layers(r#"{"type": "masking", "mask_value": 1e39}"#), "inf"),
    ] {
        let text = message(load_config(&config));
        assert!(text.contains(part), "{config}: {text}");
    }
    for config in [layers(""), r#"{"input_size": 0, "layers": [{"type": "dropout", "rate": 0.5}]}"#.into()] {
        message(Sequential::load_bytes(&file(&metadata(&config), &[])));
    }
}

#[test]
fn tensors_must_be_the_ones_the_layers_have() {
    let load = |tensors: &[Tensor]| message(Sequential::load_bytes(&file(&metadata(RNN), tensors)));
    let check = |tensors: &[Tensor], parts: &[&str]| {
        let text = load(tensors);
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    };
    for missing in 0..3 {
        let mut tensors = rnn_tensors();
        let (name, ..) = tensors.remove(missing);
        check(&tensors, &[&name, "missing"]);
    }
    for surplus in ["layers.0.backward_bias", "layers.1.bias", "layers.0.embedding", "extra"] {
        let mut tensors = rnn_tensors();
        tensors.push(f32s(surplus, &[2]));
        check(&tensors, &[surplus]);
    }
    let mut tensors = rnn_tensors();
    tensors[0] = f32s("layers.0.kernel", &[2, 3]);
    check(&tensors, &["layers.0.kernel", "[3, 2]", "[2, 3]"]);
    tensors[0] = f32s("layers.0.kernel", &[6]);
    check(&tensors, &["layers.0.kernel", "[3, 2]", "[6]"]);
    let mut tensors = rnn_tensors();
    tensors[2] = f32s("layers.0.bias", &[1, 2]);
    check(&tensors, &["layers.0.bias", "[2]", "[1, 2]"]);
    for (dtype, size) in [("F64", 8), ("F16", 2), ("BF16", 2), ("I32", 4)] {
        let mut tensors = rnn_tensors();
        tensors[0] = ("layers.0.kernel".into(), dtype, vec![3, 2], vec![0; 6 * size]);
        check(&tensors, &["layers.0.kernel", "F32", dtype]);
    }
}

#[test]
fn the_metadata_must_be_elmans() {
    let load =
        |metadata: &serde_json::Value| message(Sequential::load_bytes(&file(metadata, &rnn_tensors())));
    for (key, value) in [("format", "pt"), ("version", "2"), ("version", "")] {
        let mut metadata = metadata(RNN);
        metadata[key] = value.into();
        let text = load(&metadata);
        assert!(text.contains(key) && text.contains(&format!("\"{value}\"")), "{text}");
    }
    for key in ["format", "version", "config"] {
        let mut metadata = metadata(RNN);
        metadata.as_object_mut().unwrap().remove(key);
        assert!(load(&metadata).contains(key));
    }
    // A safetensors file of somebody else, without metadata.
    message(Sequential::load_bytes(b"\x02\0\0\0\0\0\0\0{}"));
}

/// Sizes beyond any memory: each must be refused by comparison with the tensors, long before an allocation.
#[test]
fn absurd_sizes_fail_at_once() {
    let huge = usize::MAX;
    let half = usize::MAX / 2 + 1;
    for layer in [
        format!(r#"{{"type": "simple_rnn", "units": {huge}}}"#),
        format!(r#"{{"type": "simple_rnn", "units": {half}}}"#),
        format!(r#"{{"type": "bidirectional", "simple_rnn": {{"units": {half}}}}}"#),
        format!(r#"{{"type": "dense", "units": {huge}}}"#),
        format!(r#"{{"type": "lstm", "units": {huge}}}"#),
        format!(r#"{{"type": "gru", "units": {half}}}"#),
        format!(r#"{{"type": "lstm", "units": {}}}"#, huge / 4 + 1),
        format!(r#"{{"type": "gru", "units": {}}}"#, huge / 3 + 1),
        format!(r#"{{"type": "bidirectional", "lstm": {{"units": {half}}}}}"#),
    ] {
        message(load_config(&format!(r#"{{"input_size": 3, "layers": [{layer}]}}"#)));
        message(load_config(&format!(r#"{{"input_size": {huge}, "layers": [{layer}]}}"#)));
    }
    message(load_config(&format!(
        r#"{{"input_size": 1, "layers": [{{"type": "embedding", "vocabulary": {huge}, "size": {huge}}}]}}"#
    )));
    message(load_config(&format!(
        r#"{{"input_size": {huge}, "layers": [{{"type": "simple_rnn", "units": 2}}]}}"#
    )));
    message(load_config(
        r#"{"input_size": 3, "layers": [{"type": "dense", "units": 18446744073709551616}]}"#,
    ));
    // The header's own sizes: a header longer than the file, and tensors whose ends overflow when added up.
    message(Sequential::load_bytes(&[0xff; 64]));
    let eighth = u64::MAX / 8;
    let mut header = String::from("{");
    for tensor in 0..8 {
        let (start, end) = (tensor * eighth, (tensor + 1) * eighth);
        let comma = if tensor == 0 { "" } else { "," };
        header += &format!(
            r#"{comma}"{tensor}":{{"dtype":"U8","shape":[{eighth}],"data_offsets":[{start},{end}]}}"#
        );
    }
    header += "}";
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    message(Sequential::load_bytes(&bytes));
    // Deep nesting must not exhaust the stack.
    let deep = format!(r#"{{"input_size": 3, "layers": {}"#, "[".repeat(100_000));
    message(load_config(&deep));
}

#[test]
fn overlapping_tensors_are_refused() {
    let header = format!(
        r#"{{"__metadata__":{},"layers.0.kernel":{{"dtype":"F32","shape":[3,2],"data_offsets":[0,24]}},
        "layers.0.recurrent_kernel":{{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]}},
        "layers.0.bias":{{"dtype":"F32","shape":[2],"data_offsets":[24,32]}}}}"#,
        metadata(RNN)
    );
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 32]].concat();
    message(Sequential::load_bytes(&bytes));
}

#[test]
fn a_failed_save_leaves_the_old_file() {
    let network = build(networks().remove(0));
    let directory = tempfile::tempdir().unwrap();
    // A directory cannot be replaced by a file: the last step fails, after everything was written.
    let target = directory.path().join("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("kept"), "kept").unwrap();
    let Err(Error::Io { path, .. }) = network.save(&target) else { panic!("a directory was replaced") };
    assert_eq!(path, target, "the error names the file asked for");
    assert_eq!(fs::read(target.join("kept")).unwrap(), b"kept");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "the unfinished file is gone");

    assert!(matches!(network.save(directory.path().join("none/file")), Err(Error::Io { .. })));
    assert!(matches!(network.save(""), Err(Error::Io { .. })));
    assert!(matches!(network.save(".."), Err(Error::Io { .. })));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn save_replaces_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("network");
    fs::write(&path, vec![1; 100_000]).unwrap();
    let network = build(networks().remove(2));
    network.save(&path).unwrap();
    assert_eq!(weights(&Sequential::load(&path).unwrap()), weights(&network));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn saving_needs_weights_and_loading_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("network");
    assert!(matches!(networks().remove(0).save(&path), Err(Error::NotBuilt(_))));
    assert!(!path.exists());
    let Err(error @ Error::Io { .. }) = Sequential::load(&path) else {
        panic!("loaded a file that is not there")
    };
    assert!(error.to_string().contains("network"), "{error}");
    fs::write(&path, "seven b").unwrap();
    let text = message(Sequential::load(&path));
    assert!(text.contains("network") && text.contains('7'), "{text}");
}

/// The network that Keras trained and a Python script wrote.
#[test]
fn the_file_from_keras_loads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ffi-examples/data/sentiment.safetensors");
    let network = Sequential::load(path).unwrap();
    let rnn = SimpleRnn::new(64).dropout(0.5).unroll(Unroll::Unrolled);
    let expected: [Layer; 4] = [
        Embedding::new(5000, 100).mask_zero(true).into(),
        rnn.return_sequences(true).into(),
        rnn.into(),
        Dense::new(1).activation(Activation::Sigmoid).into(),
    ];
    assert_eq!(network.layers(), expected);
    assert_eq!(weights(&Sequential::load_bytes(&save(&network)).unwrap()), weights(&network));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        message(Sequential::load_bytes(&bytes));
    }

    #[test]
    fn random_headers_are_errors(header in "[\\[\\]{}\",:a-z0-9_.]{0,60}", data in proptest::collection::vec(any::<u8>(), 0..20)) {
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
        message(Sequential::load_bytes(&bytes));
    }

    /// A few bytes of a good file changed: an error, or a network of the same shape, never a panic.
    #[test]
    fn damage_is_an_error_or_another_value(places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = file(&metadata(RNN), &rnn_tensors());
        for (place, value) in places {
            let length = bytes.len();
            bytes[place.index(length)] = value;
        }
        match Sequential::load_bytes(&bytes) {
            Ok(network) => prop_assert_eq!(network.weight(0, Weight::Kernel).unwrap().shape(), [3, 2]),
            Err(error) => prop_assert!(matches!(error, Error::BadFormat(_)), "{error:?}"),
        }
    }

}

proptest! {
    // Each case waits for the disk.
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Rates and mask values come back with their bits.
    #[test]
    fn numbers_survive(mask_value in any::<f32>(), rate in 0f32..=1.0) {
        prop_assume!(mask_value.is_finite());
        let network = Sequential::new(1).add(Masking::new(mask_value)).add(SimpleRnn::new(1)).add(Dropout::new(rate));
        let network = build(network);
        let loaded = Sequential::load_bytes(&save(&network)).unwrap();
        prop_assert_eq!(loaded.layers(), network.layers());
    }
}
