//! Models of other frameworks and what these compute, as the scripts in `tests/vectors/import` wrote them.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use elman::{Input, Padding, RunOptions, Sequential};
use safetensors::{Dtype, SafeTensors};

/// Where the models of a framework are.
pub(crate) fn directory(framework: &str) -> PathBuf {
    vectors().join(framework)
}

fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/import")
}

/// An array of a case.
#[derive(Debug)]
struct Array {
    shape: Vec<usize>,
    floats: Vec<f32>,
    ints: Vec<i32>,
}

/// The cases of a framework, by name.
#[derive(Debug)]
pub(crate) struct Cases(BTreeMap<String, BTreeMap<String, Array>>);

impl Cases {
    pub(crate) fn read(framework: &str) -> Self {
        let path = vectors().join(format!("{framework}.safetensors"));
        let bytes = std::fs::read(&path).expect("the vectors are there");
        let file = SafeTensors::deserialize(&bytes).expect("the vectors are safetensors");
        let mut cases: BTreeMap<String, BTreeMap<String, Array>> = BTreeMap::new();
        for (name, tensor) in file.tensors() {
            let (case, key) = name.rsplit_once('.').expect("names have a case and a key");
            let words = tensor.data().as_chunks::<4>().0;
            let is_float = tensor.dtype() == Dtype::F32;
            let array = Array {
                shape: tensor.shape().to_vec(),
                floats: words.iter().filter(|_| is_float).map(|word| f32::from_le_bytes(*word)).collect(),
                ints: words.iter().filter(|_| !is_float).map(|word| i32::from_le_bytes(*word)).collect(),
            };
            cases.entry(case.to_owned()).or_default().insert(key.to_owned(), array);
        }
        assert!(!cases.is_empty());
        Self(cases)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// A case's input and output, of floats.
    pub(crate) fn floats(&self, name: &str) -> (&[f32], &[f32]) {
        let case = &self.0[name];
        (&case["x"].floats, &case["y"].floats)
    }

    /// A case's input and output, of token ids.
    pub(crate) fn tokens(&self, name: &str) -> (&[i32], &[f32]) {
        let case = &self.0[name];
        (&case["ids"].ints, &case["y"].floats)
    }

    /// Runs a case's input through a model, and compares what comes out with what its framework computes.
    pub(crate) fn check(&self, name: &str, model: &Sequential) {
        let case = &self.0[name];
        let (x, input) = match (case.get("x"), case.get("ids")) {
            (Some(x), None) => (x, Input::Floats(&x.floats)),
            (None, Some(ids)) => (ids, Input::Tokens(&ids.ints)),
            _ => panic!("{name}: one input"),
        };
        let (batch, steps) = (x.shape[0], x.shape[1]);
        let lengths: Option<Vec<usize>> =
            case.get("lengths").map(|lengths| lengths.ints.iter().map(|&length| length as usize).collect());
        let mut last = case.get("hn").map(|last| vec![0.0; last.floats.len()]);
        let options = RunOptions::default();
        let options = match &lengths {
            Some(lengths) => options.lengths(lengths).padding(Padding::Onnx),
            None => options,
        };
        let options = match case.get("h0") {
            Some(first) => options.initial_state(&first.floats),
            None => options,
        };
        let options = match &mut last {
            Some(last) => options.final_state(last),
            None => options,
        };
        let expected = &case["y"];
        let len = model.output_len(batch, steps).expect("the model is built");
        assert_eq!(len, expected.floats.len(), "{name}: {:?}", expected.shape);
        let mut y = vec![0.0; len];
        model.run(input, batch, steps, options, &mut y).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_close(name, &y, &expected.floats);
        if let (Some(last), Some(expected)) = (&last, case.get("hn")) {
            assert_close(&format!("{name}, states"), last, &expected.floats);
        }
    }
}

/// What issue and design promise: 1e-5, relative to numbers above 1.
fn assert_close(name: &str, ours: &[f32], theirs: &[f32]) {
    for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let far = (ours - theirs).abs() / theirs.abs().max(1.0);
        assert!(far <= 1e-5, "{name}: value {i} is {ours}, should be {theirs}");
    }
}

impl Cases {
    /// The case of this name, if it is there and has nothing but an input and an output.
    pub(crate) fn plain(&self, name: &str) -> Option<&str> {
        let (name, case) = self.0.get_key_value(name)?;
        let more = ["lengths", "h0", "hn"].iter().any(|key| case.contains_key(*key));
        (!more).then_some(name)
    }

    /// A case's input, its batch and steps, and the output.
    pub(crate) fn question(&self, name: &str) -> (Input<'_>, [usize; 2], &[f32]) {
        let case = &self.0[name];
        let (input, shape) = match case.get("x") {
            Some(x) => (Input::Floats(&x.floats), &x.shape),
            None => (Input::Tokens(&case["ids"].ints), &case["ids"].shape),
        };
        (input, [shape[0], shape[1]], &case["y"].floats)
    }
}
