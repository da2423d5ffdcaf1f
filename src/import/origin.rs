//! What a file is, told without reading all of it.

use super::{Format, HEAD};
use crate::formats;

/// Whose file it is, by its content.
///
/// ```
/// use elman::{Origin, Sequential, SimpleRnn};
///
/// # fn main() -> Result<(), elman::Error> {
/// let model = Sequential::new(3).add(SimpleRnn::new(4)).build(1)?;
/// assert_eq!(Origin::of(&model.to_bytes()?), Some(Origin::Elman));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// What [`Sequential::save`](crate::Sequential::save) writes.
    Elman,
    /// What [`Trainer::save`](crate::Trainer::save) writes, which is no model.
    Checkpoint,
    /// A `.keras` file.
    Keras,
    /// An `.h5` file of Keras, with layers or of weights alone.
    KerasH5,
    /// A safetensors file of PyTorch's tensors.
    TorchSafetensors,
    /// What `torch.save` writes.
    Torch,
    /// What `torch.save` wrote before PyTorch 1.6.
    TorchLegacy,
    /// An ONNX model.
    Onnx,
    /// RTNeural's JSON.
    RtNeural,
    /// A model of Neural Amp Modeler.
    NeuralAmpModeler,
}

impl Origin {
    /// What the bytes of a file are; `None` for what is nothing that is known. Nothing says yet that the file
    /// is whole, or that this build reads its kind.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let contains = |words: &[u8]| bytes.windows(words.len()).any(|window| window == words);
        let origin = match Format::of(&bytes[..bytes.len().min(HEAD)]) {
            Some(Format::Onnx) => Origin::Onnx,
            Some(Format::TorchSafetensors) => Origin::TorchSafetensors,
            Some(Format::TorchLegacy) => Origin::TorchLegacy,
            Some(Format::Hdf5) => Origin::KerasH5,
            // The names of members stand in an archive as they are, whatever is compressed.
            Some(Format::Zip) if contains(b"config.json") => Origin::Keras,
            Some(Format::Zip) => Origin::Torch,
            Some(Format::Json) if contains(b"\"in_shape\"") => Origin::RtNeural,
            Some(Format::Json) if contains(b"\"architecture\"") => Origin::NeuralAmpModeler,
            Some(Format::Json) => return None,
            None => return Self::of_safetensors(bytes),
        };
        Some(origin)
    }

    fn of_safetensors(bytes: &[u8]) -> Option<Self> {
        if formats::is_of_others_bytes(bytes) {
            return Some(Origin::TorchSafetensors);
        }
        match formats::format_of(bytes)?.as_str() {
            "elman" => Some(Origin::Elman),
            "elman-trainer" => Some(Origin::Checkpoint),
            _ => None,
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Elman => "elman's own",
            Origin::Checkpoint => "a checkpoint of an elman trainer",
            Origin::Keras => "Keras 3 (.keras)",
            Origin::KerasH5 => "Keras (HDF5)",
            Origin::TorchSafetensors => "PyTorch (safetensors)",
            Origin::Torch => "PyTorch (torch.save)",
            Origin::TorchLegacy => "PyTorch (torch.save before 1.6)",
            Origin::Onnx => "ONNX",
            Origin::RtNeural => "RTNeural (JSON)",
            Origin::NeuralAmpModeler => "Neural Amp Modeler",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::SimpleRnn;
    use crate::sequential::Sequential;

    #[test]
    fn what_is_nothing_known_has_no_origin() {
        let model = Sequential::new(2).add(SimpleRnn::new(3)).build(1).unwrap().to_bytes().unwrap();
        assert_eq!(Origin::of(&model), Some(Origin::Elman));
        for nothing in [&b""[..], b"{}", b"{\"a\": 1}", b"elman", &model[..40]] {
            assert_eq!(Origin::of(nothing), None);
        }
    }
}
