//! The readers of files, one [`Parser`] each: files that they take, and what they must do with damaged ones. The suite
//! `hostile` and the targets in `fuzz` share it.

#![allow(dead_code, reason = "the suite and each target use their own part of this")]

use std::path::PathBuf;

use elman::{
    Activation, Bidirectional, Dense, Dropout, Embedding, Error, Examples, Gru, LastStep, LoadOptions, Loss,
    Lstm, Masking, Optimizer, RunOptions, Sequential, SimpleRnn, Trainer, TrainerConfig,
};

/// A reader of one kind of file.
pub(crate) struct Parser {
    pub(crate) name: &'static str,
    /// How its files are put together.
    pub(crate) frame: Frame,
    /// Files below `tests/vectors/import`.
    files: &'static [&'static str],
    /// Files that are made here.
    made: fn() -> Vec<Vec<u8>>,
    /// Reads one. On an error everything is as it was before.
    read: fn(&[u8]) -> Result<Option<Sequential>, Error>,
}

/// What a file's checksums and lengths are about: a damaged file in which these are right gets further.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    Plain,
    Zip,
    Safetensors,
}

pub(crate) const PARSERS: [Parser; 11] = [
    Parser {
        name: "keras_zip",
        frame: Frame::Zip,
        files: &[
            "keras/gru_last.keras",
            "keras/forms_deflated.keras",
            "keras/functional.keras",
            "keras/functional_masked.keras",
            "keras/lstm_cells.keras",
            "keras/normalised.keras",
        ],
        made: Vec::new,
        read: load,
    },
    Parser {
        name: "keras_h5",
        frame: Frame::Plain,
        files: &[
            "keras/lstm_cells.h5",
            "keras/cudnn.h5",
            "keras/keras_1.h5",
            "keras/keras_2_2.h5",
            "keras/many_new.h5",
            "keras/functional.h5",
        ],
        made: Vec::new,
        read: load,
    },
    Parser {
        name: "keras_weights",
        frame: Frame::Plain,
        files: &["keras/forms.weights.h5", "keras/forms_new.weights.h5"],
        made: Vec::new,
        read: load_weights,
    },
    Parser {
        name: "torch_zip",
        frame: Frame::Zip,
        files: &[
            "torch/forms.pt",
            "torch/forms_deflated.pt",
            "torch/forms_views.pt",
            "torch/forms_checkpoint.pt",
            "torch/half.pt",
        ],
        made: Vec::new,
        read: load,
    },
    Parser {
        name: "torch_legacy",
        frame: Frame::Plain,
        files: &["torch/forms_old.pt", "torch/lstm_old.pt"],
        made: Vec::new,
        read: load,
    },
    Parser {
        name: "torch_safetensors",
        frame: Frame::Safetensors,
        files: &[
            "torch/normal.safetensors",
            "torch/bfloat16.safetensors",
            "torch/lstm_last_both.safetensors",
        ],
        made: Vec::new,
        read: load,
    },
    Parser {
        name: "onnx",
        frame: Frame::Plain,
        files: &[
            "onnx/legacy_rnn_state_both.onnx",
            "onnx/dynamo_lstm_states.onnx",
            "onnx/keras_lstm_ids.onnx",
            "onnx/keras_gru_loop.onnx",
            "onnx/folded.onnx",
            "onnx/legacy_gru_last_both.onnx",
            "onnx/lengths.onnx",
        ],
        made: Vec::new,
        read: load,
    },
    Parser {
        name: "rtneural",
        frame: Frame::Plain,
        files: &["audio/gru.json", "audio/lstm.json"],
        made: Vec::new,
        read: load,
    },
    Parser { name: "nam", frame: Frame::Plain, files: &["audio/nam.nam"], made: Vec::new, read: load },
    Parser { name: "elman_model", frame: Frame::Safetensors, files: &[], made: models, read: load },
    Parser {
        name: "elman_checkpoint",
        frame: Frame::Safetensors,
        files: &[],
        made: checkpoints,
        read: load_checkpoint,
    },
];

impl Parser {
    pub(crate) fn named(name: &str) -> &'static Parser {
        PARSERS.iter().find(|parser| parser.name == name).expect("a parser of this name")
    }

    /// Files that the reader takes, with their names.
    pub(crate) fn seeds(&self) -> Vec<(String, Vec<u8>)> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        // The targets are a package below this one.
        let root = if root.join("tests").is_dir() { root } else { root.join("..") };
        let read = |name: &&str| {
            let bytes = std::fs::read(root.join("tests/vectors/import").join(name));
            ((*name).to_owned(), bytes.expect("the file is there"))
        };
        let made = (self.made)().into_iter().enumerate();
        let made = made.map(|(i, bytes)| (format!("{}-{i}", self.name), bytes));
        self.files.iter().map(read).chain(made).collect()
    }

    /// Reads a file, and runs the model if it has become one. Whether it did.
    ///
    /// # Panics
    /// Where the reader does anything but give a model or one of the two errors of damaged files.
    pub(crate) fn read(&self, bytes: &[u8]) -> bool {
        match (self.read)(bytes) {
            Ok(Some(model)) => {
                run(&model);
                true
            }
            Ok(None) => true,
            Err(Error::BadFormat(_) | Error::Unsupported(_)) => false,
            // A weight of another shape than the network's.
            Err(Error::InvalidArgument(_)) if self.name == "keras_weights" => false,
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn load(bytes: &[u8]) -> Result<Option<Sequential>, Error> {
    Sequential::load_bytes_with(bytes, &LoadOptions::default()).map(Some)
}

/// Two steps of whatever it reads.
fn run(model: &Sequential) {
    let x = vec![0.5; 2 * model.input_size()];
    match model.predict(&x, 1, 2) {
        // It reads tokens. (A model with states for one row takes one row.)
        Err(Error::InvalidArgument(_)) => match model.predict(&[0, 0], 1, 2) {
            Ok(_) => {}
            Err(error) => panic!("the model does not run: {error}"),
        },
        Ok(_) => {}
        Err(error) => panic!("the model does not run: {error}"),
    }
}

/// The network of `forms.weights.h5`, weights of `bytes` put into it.
fn load_weights(bytes: &[u8]) -> Result<Option<Sequential>, Error> {
    let both = Bidirectional::new(Gru::new(6).return_sequences(true));
    let mut model = Sequential::new(5).add(both).add(Lstm::new(4)).add(Dense::new(3)).build(1)?;
    let before = first_weight(&model);
    match model.load_weights_bytes(bytes) {
        Ok(()) => Ok(Some(model)),
        Err(error) => {
            assert_eq!(first_weight(&model), before, "a refused file has left weights behind");
            Err(error)
        }
    }
}

fn first_weight(model: &Sequential) -> Vec<f32> {
    model.trainable_variables().next().expect("there are weights").2.to_vec()
}

/// A model with a layer of each kind, and one that reads tokens.
fn models() -> Vec<Vec<u8>> {
    let floats = Sequential::new(3)
        .add(Masking::new(-1.0))
        .add(Bidirectional::new(
            Lstm::new(4).return_sequences(true).recurrent_activation(Activation::HardSigmoid),
        ))
        .add(Dropout::new(0.25))
        .add(Gru::new(5).reset_after(false).return_sequences(true))
        .add(SimpleRnn::new(3).stateful(true).return_sequences(true))
        .add(LastStep::new())
        .add(Dense::new(2).activation(Activation::Softmax));
    let models = [floats, trained()];
    models.map(|model| model.build(1).and_then(|model| model.to_bytes()).expect("the layers fit")).into()
}

/// What the checkpoints train.
fn trained() -> Sequential {
    Sequential::new(1).add(Embedding::new(7, 3).mask_zero(true)).add(Gru::new(4)).add(Dense::new(2))
}

fn checkpoints() -> Vec<Vec<u8>> {
    let optimizers = [Optimizer::adam(), Optimizer::sgd()];
    let checkpoint = |optimizer| -> Result<Vec<u8>, Error> {
        let mut model = trained().build(1)?;
        let mut trainer = Trainer::new(&model, TrainerConfig::new(optimizer, Loss::MeanSquaredError))?;
        let examples = Examples::new(&[1, 2, 3, 4, 5, 0], 2, 3, &[0.5; 4]);
        trainer.step(&mut model, examples, RunOptions::default())?;
        trainer.to_bytes(&model)
    };
    optimizers.map(|optimizer| checkpoint(optimizer).expect("a step can be taken")).into()
}

fn load_checkpoint(bytes: &[u8]) -> Result<Option<Sequential>, Error> {
    let mut model = trained().build(1)?;
    let before = first_weight(&model);
    match Trainer::load_bytes(&mut model, bytes) {
        Ok(mut trainer) => {
            // A step from whatever numbers were read may be NOT_FINITE, and is nothing worse.
            let examples = Examples::new(&[1, 2], 1, 2, &[0.5; 2]);
            let step = trainer.step(&mut model, examples, RunOptions::default());
            assert!(matches!(step, Ok(_) | Err(Error::NotFinite(_))), "{step:?}");
            Ok(Some(model))
        }
        Err(error) => {
            assert_eq!(first_weight(&model), before, "a refused checkpoint has left weights behind");
            Err(error)
        }
    }
}

impl Frame {
    /// The parts of a file, each with its name; none where there are no frames.
    pub(crate) fn parts(self, bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut parts = Vec::new();
        match self {
            Frame::Plain => {}
            Frame::Safetensors => {
                let Some(len) = bytes.first_chunk().map(|len| u64::from_le_bytes(*len)) else { return parts };
                let end = usize::try_from(len).unwrap_or(usize::MAX).saturating_add(8).min(bytes.len());
                parts.push((b"header".to_vec(), bytes[8..end].to_vec()));
                parts.push((b"data".to_vec(), bytes[end..].to_vec()));
            }
            Frame::Zip => {
                for entry in entries(bytes) {
                    if let Some((name, content)) = stored(bytes, entry) {
                        parts.push((name.to_vec(), bytes[content].to_vec()));
                    }
                }
            }
        }
        parts
    }

    /// The file of these parts.
    pub(crate) fn join(self, parts: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        match self {
            Frame::Plain => parts.iter().flat_map(|(_, part)| part).copied().collect(),
            Frame::Safetensors => {
                let mut bytes = (parts[0].1.len() as u64).to_le_bytes().to_vec();
                parts.iter().for_each(|(_, part)| bytes.extend_from_slice(part));
                bytes
            }
            Frame::Zip => zip(parts),
        }
    }

    /// Makes the checksums of a damaged file right again.
    pub(crate) fn mend(self, bytes: &mut [u8]) {
        if self != Frame::Zip {
            return;
        }
        for entry in entries(bytes) {
            if let Some((_, content)) = stored(bytes, entry) {
                let checksum = crc32fast::hash(&bytes[content]);
                bytes[entry + 16..entry + 20].copy_from_slice(&checksum.to_le_bytes());
            }
        }
    }
}

/// Where the entries of an archive's directory begin.
fn entries(bytes: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(4).enumerate();
    windows.filter(|(_, four)| *four == b"PK\x01\x02").map(|(at, _)| at).collect()
}

/// The name of a member, and where its content is, if it is stored as it is.
fn stored(bytes: &[u8], entry: usize) -> Option<(&[u8], std::ops::Range<usize>)> {
    let number = |at: usize, len: usize| -> Option<usize> {
        let digits = bytes.get(at..at.checked_add(len)?)?;
        Some(digits.iter().rev().fold(0, |number, &digit| number << 8 | usize::from(digit)))
    };
    if number(entry + 10, 2)? != 0 {
        return None;
    }
    let name = bytes.get(entry + 46..entry + 46 + number(entry + 28, 2)?)?;
    let header = number(entry + 42, 4)?;
    let begin = header + 30 + number(header + 26, 2)? + number(header + 28, 2)?;
    let content = begin..begin + number(entry + 20, 4)?;
    bytes.get(content.clone()).map(|_| (name, content))
}

/// An archive of stored members.
fn zip(members: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let at = bytes.len() as u32;
        let mut about = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        about.extend(crc32fast::hash(content).to_le_bytes());
        about.extend([content.len() as u32; 2].iter().flat_map(|len| len.to_le_bytes()));
        about.extend((name.len() as u16).to_le_bytes());
        about.extend([0, 0]);
        bytes.extend(b"PK\x03\x04".iter().chain(&about).chain(name).chain(content));
        directory.extend(b"PK\x01\x02\x14\x00".iter().chain(&about).chain(&[0; 10]));
        directory.extend(at.to_le_bytes().iter().chain(name));
    }
    let [at, len] = [bytes.len(), directory.len()].map(|number| (number as u32).to_le_bytes());
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([members.len() as u16; 2].iter().flat_map(|count| count.to_le_bytes()));
    bytes.extend(len.iter().chain(&at).chain(&[0, 0]));
    bytes
}
