//! Models for other frameworks: a built [`Sequential`] in, a file that the framework reads out.
//!
//! Each writer (`torch`, `onnx`, `keras`, behind the features of their names) makes the whole file in memory,
//! and it appears at its path as [`save`](Sequential::save) has one appear. What a framework's file cannot
//! say is [`Error::Unsupported`], which names the layer, the attribute and its value; nothing is left out.

#![forbid(unsafe_code)]

#[cfg(any(feature = "keras", feature = "torch", feature = "onnx"))]
mod bytes;
#[cfg(feature = "keras")]
mod keras;
#[cfg(feature = "onnx")]
mod onnx;
#[cfg(any(feature = "torch", feature = "onnx"))]
mod tensor;
#[cfg(feature = "torch")]
mod torch;

use std::fmt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::sequential::Sequential;

/// A kind of file that [`Sequential::export`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// What [`Sequential::save`] writes.
    Elman,
    /// A state dict of PyTorch, for `load_state_dict(torch.load(path, weights_only=True))`, or, where the
    /// name ends in `.safetensors`, for `load_state_dict(safetensors.torch.load_file(path))`.
    ///
    /// The names begin with the layer's number, as those of `nn.ModuleList` and `nn.Sequential` do: a list of
    /// one module a layer takes it, `nn.RNN`, `nn.LSTM` or `nn.GRU` of one layer with `batch_first=True` for
    /// recurrent ones (`3.weight_ih_l0`, and `3.weight_ih_l0_reverse` with `bidirectional=True`), `nn.Linear`
    /// for [`Dense`](crate::Dense), `nn.Embedding`, `nn.Dropout`; `bias=False` where the layer has no bias. What a state
    /// dict does not say stays with the module's `forward`: the functions of `nn.RNN` and behind `nn.Linear`,
    /// which output of a recurrent module goes on, and states that are kept from call to call.
    ///
    /// [`Error::Unsupported`] are what these modules do not have: masks, walking backwards alone, other
    /// merge modes than concat, [`reset_after`](crate::Gru::reset_after) = false, and other functions inside
    /// recurrent layers than theirs. A dense layer without a bias at the bottom has one of zeros in the file,
    /// since a matrix alone is what an embedding has.
    Torch,
    /// An ONNX model (opset 14), for ONNX Runtime and others, which gives the same results. Its input is `x`,
    /// floats `[batch, steps, features]`, or, where the model begins with an embedding, `ids`, 64-bit integers
    /// `[batch, steps]`; its output `y` is as [`predict`](Sequential::predict) gives it. Of layer `i`, where it is
    /// [stateful](crate::Lstm::stateful), the states come in as `layers.{i}.h0` (and `.c0`) and go out as
    /// `layers.{i}.hn` (and `.cn`), `[directions, batch, units]`.
    ///
    /// [`Error::Unsupported`] are masks ([`mask_zero`](crate::Embedding::mask_zero) below a recurrent layer,
    /// [`Masking`](crate::Masking)), and models beyond the 2 GiB that such a file may have.
    Onnx,
    /// A `.weights.h5` file, for `load_weights` of a Keras 3 model of the same layers; it has their weights
    /// alone. [`Error::Unsupported`] are more than 2048 layers with weights.
    KerasWeights,
}

impl Sequential {
    /// Writes the model, or its weights, to a file for another framework. It appears at `path` complete or
    /// not at all, as [`save`](Self::save) has it.
    ///
    /// [`load`](Self::load) reads these files too, but for [`Format::KerasWeights`], which
    /// [`load_weights`](Self::load_weights) reads.
    ///
    /// ```
    /// use elman::{Format, Sequential, SimpleRnn};
    ///
    /// # fn main() -> Result<(), elman::Error> {
    /// # let path = std::env::temp_dir().join(format!("elman-export-{}.pt", std::process::id()));
    /// let model = Sequential::new(3).add(SimpleRnn::new(4)).build(1)?;
    /// # #[cfg(feature = "torch")] {
    /// model.export(&path, Format::Torch)?;
    /// let loaded = Sequential::load(&path)?;
    /// assert_eq!(loaded.predict(&[0.5; 6], 1, 2)?, model.predict(&[0.5; 6], 1, 2)?);
    /// # std::fs::remove_file(&path).ok();
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotBuilt`]; [`Error::Unsupported`] for what the format cannot say, by layer, attribute and
    /// value, for a format that this build was made without, and after [`drop_weights`](Self::drop_weights);
    /// [`Error::Io`]; [`Error::OutOfMemory`].
    pub fn export(&self, path: impl AsRef<Path>, format: Format) -> Result<()> {
        let path = path.as_ref();
        self.whole_network("export")?;
        match format {
            Format::Elman => self.save(path),
            #[cfg(feature = "torch")]
            Format::Torch => torch::export(self, path),
            #[cfg(not(feature = "torch"))]
            Format::Torch => Err(left_out("torch")),
            #[cfg(feature = "onnx")]
            Format::Onnx => onnx::export(self, path),
            #[cfg(not(feature = "onnx"))]
            Format::Onnx => Err(left_out("onnx")),
            #[cfg(feature = "keras")]
            Format::KerasWeights => keras::export(self, path),
            #[cfg(not(feature = "keras"))]
            Format::KerasWeights => Err(left_out("keras")),
        }
    }
}

fn unsupported(message: impl fmt::Display) -> Error {
    Error::Unsupported(message.to_string())
}

/// What a layer has and a format has not.
fn refused(index: usize, layer: &Layer, attribute: &str, value: impl fmt::Display, format: &str) -> Error {
    unsupported(format_args!(
        "layer {index} ({}): {attribute} = {value}, which {format} cannot say",
        layer.type_name()
    ))
}

/// What a build without a feature says of its files.
#[cfg(not(all(feature = "keras", feature = "torch", feature = "onnx")))]
fn left_out(feature: &str) -> Error {
    unsupported(format_args!("this build was made without the feature `{feature}`"))
}
