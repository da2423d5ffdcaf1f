//! Models of other frameworks: their files in, a built [`Sequential`] out.
//!
//! The content of a file says what it is. Each reader (`keras`, `torch`, `onnx`, behind the features of their
//! names; and `audio` behind `keras` and `torch`) makes a [`network::Network`], a line of parts with weights
//! in Keras's layout, and that becomes layers. What a file asks for and layers cannot carry out is
//! [`Error::Unsupported`], which names the layer or node, the attribute and its value; nothing is passed
//! over.
//!
//! Files come from strangers: every size is compared with the bytes that are there before anything is
//! allocated by it, and what is made of a file takes a small multiple of its bytes.

#![forbid(unsafe_code)]

#[cfg(any(feature = "keras", feature = "torch"))]
mod audio;
#[cfg(any(feature = "keras", feature = "torch", feature = "onnx"))]
mod bytes;
#[cfg(any(feature = "keras", feature = "torch"))]
mod json;
#[cfg(feature = "keras")]
mod keras;
#[cfg(any(feature = "keras", feature = "torch", feature = "onnx"))]
mod network;
#[cfg(feature = "onnx")]
mod onnx;
mod origin;
#[cfg(feature = "torch")]
mod torch;
#[cfg(any(feature = "keras", feature = "torch", feature = "onnx"))]
mod values;
#[cfg(any(feature = "keras", feature = "torch"))]
mod zip;

pub use origin::Origin;

use std::fmt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::formats;
use crate::layers::Activation;
use crate::sequential::Sequential;

#[cfg(feature = "keras")]
pub(crate) use keras::{Names as KerasFolders, places as keras_places};
#[cfg(any(feature = "torch", feature = "onnx"))]
pub(crate) use network::GateOrder;

fn bad(message: impl fmt::Display) -> Error {
    Error::BadFormat(message.to_string())
}

fn unsupported(message: impl fmt::Display) -> Error {
    Error::Unsupported(message.to_string())
}

/// Says in which part of a file it is.
fn prefixed(error: Error, part: impl fmt::Display) -> Error {
    match error {
        Error::BadFormat(message) => Error::BadFormat(format!("{part}: {message}")),
        Error::Unsupported(message) => Error::Unsupported(format!("{part}: {message}")),
        other => other,
    }
}

/// What the topmost recurrent layer of a state dict hands on, to the layers above it or out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Every step's output.
    Sequence,
    /// The output of the last step, `out[:, -1]`. Of a bidirectional layer that is the last state of the
    /// forward half, and of the backward half its *first* output, which [`LastStep`](crate::LastStep) hands on.
    #[default]
    LastStep,
    /// The last state of each direction, `h_n`.
    LastState,
}

/// What PyTorch's state dicts do not say. Files of other kinds say everything themselves.
///
/// ```
/// use elman::{Activation, LoadOptions, Output};
///
/// let options =
/// LoadOptions::default().prefix("encoder.").output(Output::Sequence).activation(Activation::Relu);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Only the tensors whose names begin so are read, without that beginning.
    pub prefix: String,
    /// What the topmost recurrent layer hands on.
    pub output: Output,
    /// `nn.RNN`'s nonlinearity: tanh or relu.
    pub activation: Activation,
    /// What stands between two linear layers. Where it is not given, a file that has one behind another is
    /// [`Error::Unsupported`].
    pub between: Option<Activation>,
    /// What stands behind the last layer.
    pub last: Activation,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            output: Output::default(),
            activation: Activation::Tanh,
            between: None,
            last: Activation::Linear,
        }
    }
}

impl LoadOptions {
    /// Sets [`prefix`](Self::prefix).
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets [`output`](Self::output).
    pub fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// Sets [`activation`](Self::activation).
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Sets [`between`](Self::between).
    pub fn between(mut self, activation: Activation) -> Self {
        self.between = Some(activation);
        self
    }

    /// Sets [`last`](Self::last).
    pub fn last(mut self, activation: Activation) -> Self {
        self.last = activation;
        self
    }
}

impl Sequential {
    /// Reads a model from a file; it comes back built. The content says what the file is, not its name:
    ///
    /// - what [`save`](Self::save) wrote;
    /// - with the feature `keras`, a `.keras` file, or an `.h5` file with layers, of Keras 1 to 3;
    /// - with the feature `torch`, a state dict of PyTorch: a safetensors file, or what `torch.save` wrote,
    ///   the old way or the new; see [`LoadOptions`] for what it does not say;
    /// - with the feature `onnx`, an ONNX model;
    /// - with `keras` or `torch`, what audio plug-ins load: RTNeural's JSON, and the LSTMs of Neural Amp
    ///   Modeler (`.nam`). The latter begin at states of their own, for one row, and go on from call to call:
    ///   the model is [stateful](crate::SimpleRnn::stateful), and a [`Stream`](crate::Stream) is given its
    ///   [`states`](Self::states) first.
    ///
    /// A model of another framework computes what it computes there, to 1e-5. What cannot be carried out is
    /// [`Error::Unsupported`], with the layer or node, the attribute and its value. The model reads `[batch,
    /// steps, features]`, whatever order of axes it has at home.
    ///
    /// Anything in one of elman's own files that is missing, left over, there twice, of another shape or
    /// type, or unknown is [`Error::BadFormat`]. Every size in a file is compared with the file before it is
    /// allocated: reading takes at most six times the bytes of an elman file, and some twenty times those of
    /// others. The model that comes of it takes its weights once plain and once packed, where columns are
    /// padded to a multiple of up to 16, and 2 KB a layer, of which there are at most 65,536.
    ///
    /// # Errors
    /// [`Error::BadFormat`]; [`Error::Unsupported`], also when `ELMAN_ISA` cannot be carried out; [`Error::Io`], also
    /// for what is no regular file; [`Error::OutOfMemory`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path, &LoadOptions::default())
    }

    /// [`load`](Self::load) from the bytes of a file, at any alignment.
    ///
    /// # Errors
    /// As [`load`](Self::load), but for those of files.
    pub fn load_bytes(bytes: &[u8]) -> Result<Self> {
        Self::load_bytes_with(bytes, &LoadOptions::default())
    }

    /// [`load`](Self::load) with what a state dict does not say.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self> {
        let path = path.as_ref();
        let format = match Format::of(&formats::read_head(path, HEAD)?) {
            Some(format) => format,
            None if formats::is_of_others(path)? => Format::TorchSafetensors,
            None => return formats::load(path),
        };
        let bytes = formats::read_file(path)?;
        read(format, &bytes, options).map_err(|error| prefixed(error, path.display()))
    }

    /// [`load_with`](Self::load_with) from the bytes of a file, at any alignment.
    ///
    /// # Errors
    /// As [`load`](Self::load), but for those of files.
    pub fn load_bytes_with(bytes: &[u8], options: &LoadOptions) -> Result<Self> {
        match Format::of(&bytes[..bytes.len().min(HEAD)]) {
            Some(format) => read(format, bytes, options),
            None if formats::is_of_others_bytes(bytes) => read(Format::TorchSafetensors, bytes, options),
            None => formats::load_bytes(bytes),
        }
    }
}

impl Sequential {
    /// Reads the weights of a `.weights.h5` file of Keras 3, or of an `.h5` file of weights alone of Keras 1
    /// and 2, into this model, whose layers must be those of the file; all of them, or none.
    ///
    /// # Errors
    /// [`Error::NotBuilt`]; [`Error::BadFormat`], also where a weight is missing or left over;
    /// [`Error::InvalidArgument`] for a weight of another shape; [`Error::Unsupported`] for chunked or compressed ones,
    /// after [`drop_weights`](Self::drop_weights) and without the feature `keras`; [`Error::Io`]; [`Error::OutOfMemory`]. The model is unchanged then.
    pub fn load_weights(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = formats::read_file(path)?;
        self.load_weights_bytes(&bytes).map_err(|error| prefixed(error, path.display()))
    }

    /// [`load_weights`](Self::load_weights) from the bytes of a file.
    ///
    /// # Errors
    /// As [`load_weights`](Self::load_weights), but for those of files.
    pub fn load_weights_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if !self.is_built() {
            return Err(Error::NotBuilt("load_weights"));
        }
        #[cfg(feature = "keras")]
        return keras::load_weights(self, bytes);
        #[cfg(not(feature = "keras"))]
        Err(left_out("keras"))
    }
}

/// Bytes at the beginning of a file that tell its format.
const HEAD: usize = 16;

/// The formats of other frameworks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Onnx,
    TorchSafetensors,
    TorchLegacy,
    Hdf5,
    /// RTNeural's or Neural Amp Modeler's.
    Json,
    /// Keras's or PyTorch's.
    Zip,
}

impl Format {
    /// What a file is that begins so; `None` for safetensors files, and for what is nothing that is known.
    fn of(head: &[u8]) -> Option<Self> {
        // A header of this length begins with any bytes.
        let is_safetensors = matches!(head, [_, _, _, _, 0, 0, 0, 0, b'{', ..]);
        if is_safetensors {
            return None;
        }
        match head {
            // The first field of every exporter's file is the version of the format: 08, and a small number.
            [8, 1..=0x20, ..] => Some(Format::Onnx),
            [0x89, b'H', b'D', b'F', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Format::Hdf5),
            // A header of a safetensors file that is so long has zeros behind it.
            [b'{', b' ' | b'\n' | b'\r' | b'\t' | b'"', ..] => Some(Format::Json),
            [b'P', b'K', 3, 4, ..] => Some(Format::Zip),
            // A pickle of PyTorch's number.
            [0x80, 2, 0x8a, 0x0a, b'l', 0xfc, 0x9c, b'F', 0xf9, ..] => Some(Format::TorchLegacy),
            _ => None,
        }
    }
}

fn read(format: Format, bytes: &[u8], options: &LoadOptions) -> Result<Sequential> {
    match format {
        #[cfg(feature = "onnx")]
        Format::Onnx => onnx::read(bytes)?.build(bytes.len()),
        #[cfg(not(feature = "onnx"))]
        Format::Onnx => Err(left_out("onnx")),
        #[cfg(feature = "torch")]
        Format::TorchSafetensors => torch::safetensors(bytes, options)?.build(bytes.len()),
        #[cfg(feature = "torch")]
        Format::TorchLegacy => torch::legacy(bytes, options)?.build(bytes.len()),
        #[cfg(not(feature = "torch"))]
        Format::TorchSafetensors | Format::TorchLegacy => Err(left_out("torch")),
        #[cfg(feature = "keras")]
        Format::Hdf5 => keras::h5(bytes)?.build(bytes.len()),
        #[cfg(not(feature = "keras"))]
        Format::Hdf5 => Err(left_out("keras")),
        #[cfg(any(feature = "keras", feature = "torch"))]
        Format::Json => audio::read(bytes),
        #[cfg(not(any(feature = "keras", feature = "torch")))]
        Format::Json => Err(left_out("keras")),
        Format::Zip => zipped(bytes, options),
    }
}

/// A model in a zip.
#[cfg(any(feature = "keras", feature = "torch"))]
fn zipped(bytes: &[u8], options: &LoadOptions) -> Result<Sequential> {
    let archive = zip::Archive::open(bytes)?;
    #[cfg(feature = "keras")]
    if archive.names().any(|name| name == keras::CONFIG) {
        return keras::zip(&archive)?.build(bytes.len());
    }
    #[cfg(feature = "torch")]
    return torch::zip(&archive, bytes.len(), options)?.build(bytes.len());
    #[cfg(not(feature = "torch"))]
    Err(left_out("torch"))
}

#[cfg(not(any(feature = "keras", feature = "torch")))]
fn zipped(_: &[u8], _: &LoadOptions) -> Result<Sequential> {
    Err(left_out("keras"))
}

/// What a build without a feature says of its files.
#[cfg(not(all(feature = "keras", feature = "torch", feature = "onnx")))]
fn left_out(feature: &str) -> Error {
    unsupported(format_args!("this build was made without the feature `{feature}`"))
}
