//! elman's own file: one safetensors file with the configuration in its metadata. Layout version 1.
//!
//! # Layout
//! The metadata has three entries:
//!
//! | key | value |
//! |---|---|
//! | `format` | `elman` |
//! | `version` | `1` |
//! | `config` | a JSON object, below |
//!
//! Other metadata keys are remarks, without effect. The config is `{"input_size": N, "layers": [...]}`: features a
//! step (1 where an embedding comes first) and the layers from input to output, each one of
//!
//! ```json
//! {"type": "embedding", "vocabulary": 5000, "size": 100, "mask_zero": false}
//! {"type": "masking", "mask_value": 0.0}
//! {"type": "simple_rnn", "units": 64, "activation": "tanh", "use_bias": true, "return_sequences": false,
//! "go_backwards": false, "stateful": false, "zero_output_for_mask": false, "unroll": "auto", "dropout": 0.0,
//! "recurrent_dropout": 0.0}
//! {"type": "bidirectional", "merge_mode": "concat", "simple_rnn": {"units": 64}}
//! {"type": "dense", "units": 1, "activation": "linear", "use_bias": true}
//! {"type": "dropout", "rate": 0.5}
//! ```
//!
//! The values above are the defaults (Keras's), taken where a field is missing; `vocabulary`, `size`, `units`
//! and `rate` have none. `simple_rnn` in a bidirectional layer has the fields of a `simple_rnn` layer without
//! `type`. `activation` is `linear`, `tanh`, `relu`, `sigmoid` or, in a dense layer, `softmax`; `unroll` is
//! `auto`, `looped` or `unrolled`; `merge_mode` is `concat`, `sum`, `mul`, `ave` or `none`. An unknown field,
//! type or name is an error. `return_state` is read, true or false, and means nothing: a run that wants the
//! final states asks for them.
//!
//! Each weight is a tensor `layers.{i}.{name}`, `i` counting all layers from 0 and the name being
//! [`Weight::name`](crate::Weight::name): F32, in Keras's layout and shape, so a bias has one dimension. No tensor may
//! be missing and none may be left over.
//!
//! Values are taken as they are: a NaN or an infinity among the weights loads, as it may be just what somebody wants
//! to look at. Initialisers are not kept, since the weights they made are; a loaded layer has Keras's defaults.
//! The state of a stateful layer is not kept either.
//!
//! One model gives the same bytes each time it is saved: tensors stand in layer order, and nothing of the time, the
//! place or the machine goes in.

use std::collections::HashSet;
use std::fmt;
use std::io::Write;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use super::{read_file, replace_file};
use crate::error::{Error, Result};
use crate::layers::{
    Activation, Bidirectional, Dense, Dropout, Embedding, Layer, Masking, MergeMode, Shape, SimpleRnn,
    Unroll, Variable, Variables, Weight,
};
use crate::memory::{AlignedVec, checked_product};
use crate::sequential::Sequential;

const FORMAT: &str = "elman";
const VERSION: &str = "1";

impl Sequential {
    /// Writes the layers and their weights to a safetensors file, layout version 1.
    ///
    /// The file appears at `path` complete or not at all: it is written beside `path` under another name and then
    /// renamed, and a file that was there before stays whole if anything fails. The same model always gives the same
    /// bytes. Initialisers and the states of stateful layers are not kept.
    ///
    /// # Errors
    /// [`Error::NotBuilt`], [`Error::Io`], [`Error::Unsupported`] after [`drop_weights`](Self::drop_weights).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let network = self.whole_network("save")?;
        let config = Config {
            input_size: self.input_size(),
            layers: LayerObjects(self.layers().iter().map(LayerObject::from).collect()),
        };
        let mut tensors = Vec::new();
        for (layer, built) in network.layers.iter().enumerate() {
            let variables = built.variables.0.iter();
            tensors.extend(variables.map(|variable| (tensor_name(layer, variable.which), variable)));
        }
        let header = Header { config: to_json(&config)?, tensors: &tensors };
        let mut header = to_json(&header)?;
        // Spaces at the end of the header are the format's own way to align the data.
        let aligned = header.len().next_multiple_of(size_of::<u64>());
        header.extend(std::iter::repeat_n(' ', aligned - header.len()));
        replace_file(path.as_ref(), |file| {
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(header.as_bytes())?;
            for value in tensors.iter().flat_map(|(_, variable)| variable.values()) {
                file.write_all(&value.to_le_bytes())?;
            }
            Ok(())
        })
    }

    /// Reads what [`save`](Self::save) wrote; the model comes back built.
    ///
    /// Anything in the file that is missing, left over, of another shape or type, or unknown is
    /// [`Error::BadFormat`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::load_bytes(&read_file(path)?).map_err(|error| match error {
            Error::BadFormat(message) => Error::BadFormat(format!("{}: {message}", path.display())),
            other => other,
        })
    }

    /// [`load`](Self::load) from the bytes of a file, at any alignment.
    pub fn load_bytes(bytes: &[u8]) -> Result<Self> {
        let tensors = Tensors::parse(bytes)?;
        let config = tensors.config()?;
        let layers: Vec<Layer> = config.layers.0.into_iter().map(Layer::from).collect();
        let found = tensors.of_layers(config.input_size, &layers)?;
        let variables = found.into_iter().map(read_variables).collect::<Result<_>>()?;
        Sequential::from_variables(config.input_size, layers, variables).map_err(as_bad_format)
    }
}

pub(super) fn bad(message: impl fmt::Display) -> Error {
    Error::BadFormat(message.to_string())
}

/// What is an invalid argument in a program is a bad format in a file.
pub(super) fn as_bad_format(error: Error) -> Error {
    match error {
        Error::InvalidArgument(message) => Error::BadFormat(message),
        other => other,
    }
}

fn tensor_name(layer: usize, which: Weight) -> String {
    format!("layers.{layer}.{}", which.name())
}

/// The shape in a file: Keras's, where a bias has one dimension.
fn tensor_shape(which: Weight, shape: [usize; 2]) -> Vec<usize> {
    match which {
        Weight::Bias | Weight::BackwardBias => vec![shape[1]],
        _ => shape.to_vec(),
    }
}

/// Serialising our own plain structures into a string has no way to fail; if it did, it would be no format's fault.
pub(super) fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::InvalidArgument(format!("cannot be saved: {error}")))
}

/// The header of a file to be written. The safetensors crate keeps metadata in a hash map, in an order that changes
/// from run to run, and wants all bytes in memory; this writes the same structure in a fixed order.
struct Header<'a> {
    config: String,
    tensors: &'a [(String, &'a Variable)],
}

#[derive(Serialize)]
struct HeaderMetadata<'a> {
    format: &'a str,
    version: &'a str,
    config: &'a str,
}

#[derive(Serialize)]
struct HeaderTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + self.tensors.len()))?;
        let metadata = HeaderMetadata { format: FORMAT, version: VERSION, config: &self.config };
        map.serialize_entry("__metadata__", &metadata)?;
        let mut start = 0;
        for (name, variable) in self.tensors {
            let end = start + size_of_val(variable.values());
            let shape = tensor_shape(variable.which, variable.shape);
            map.serialize_entry(
                name,
                &HeaderTensor { dtype: Dtype::F32, shape, data_offsets: [start, end] },
            )?;
            start = end;
        }
        map.end()
    }
}

/// A parsed file: the header, and the bytes it speaks about.
pub(super) struct Tensors<'a> {
    metadata: Metadata,
    data: &'a [u8],
}

/// A weight whose type and shape were found to be right, with its bytes.
struct Found<'a> {
    which: Weight,
    shape: [usize; 2],
    bytes: &'a [u8],
}

impl<'a> Tensors<'a> {
    /// Splits a file by hand and leaves only the header to the safetensors crate: its own reader adds up sizes from
    /// the file unchecked, and its errors do not carry them.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let total = bytes.len();
        let Some((size, rest)) = bytes.split_first_chunk() else {
            return Err(bad(format_args!(
                "{total} bytes are too few for a safetensors file: it begins with 8"
            )));
        };
        let size = u64::from_le_bytes(*size);
        let header_and_data = usize::try_from(size).ok().and_then(|size| rest.split_at_checked(size));
        let Some((header, data)) = header_and_data else {
            return Err(bad(format_args!(
                "the header should have {size} bytes, and only {} follow its length: not a safetensors file, or \
                 truncated",
                rest.len()
            )));
        };
        let metadata: Metadata = serde_json::from_slice(header)
            .map_err(|error| bad(format_args!("safetensors header of {size} bytes: {error}")))?;
        if metadata.data_len() != data.len() {
            return Err(bad(format_args!(
                "the tensors should have {} bytes together, got {}: truncated, or something was appended",
                metadata.data_len(),
                data.len()
            )));
        }
        Ok(Self { metadata, data })
    }

    /// The value of a metadata key.
    pub(super) fn metadata_entry(&self, key: &str) -> Result<&str> {
        let value = self.metadata.metadata().as_ref().and_then(|metadata| metadata.get(key));
        value
            .map(String::as_str)
            .ok_or_else(|| bad(format_args!("not an elman file: the metadata has no \"{key}\"")))
    }

    fn config(&self) -> Result<Config> {
        let get = |key| self.metadata_entry(key);
        for (key, expected) in [("format", FORMAT), ("version", VERSION)] {
            let value = get(key)?;
            if value != expected {
                return Err(bad(format_args!("\"{key}\" should be \"{expected}\", got \"{value}\"")));
            }
        }
        serde_json::from_str(get("config")?).map_err(|error| bad(format_args!("config: {error}")))
    }

    /// Finds the weights of all layers. Nothing is allocated by the config's sizes: each is compared first with a
    /// tensor that is really there, and only then used to reckon the next layer's.
    fn of_layers(&self, input_size: usize, layers: &[Layer]) -> Result<Vec<Vec<Found<'a>>>> {
        let mut input = Shape { features: input_size, sequence: true };
        let mut names = HashSet::new();
        let mut found = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            layer.validate().map_err(|error| match error {
                Error::InvalidArgument(message) => bad(format_args!("config: layers.{index}: {message}")),
                other => other,
            })?;
            let mut of_layer = Vec::new();
            for (which, shape) in layer.variable_shapes(input.features) {
                let name = tensor_name(index, which);
                of_layer.push(Found { which, shape, bytes: self.bytes(&name, &tensor_shape(which, shape))? });
                names.insert(name);
            }
            found.push(of_layer);
            input = layer.output_shape(index, input).map_err(as_bad_format)?;
        }
        let surplus = self.metadata.offset_keys().into_iter().find(|name| !names.contains(name));
        match surplus {
            Some(name) => Err(bad(format_args!(
                "tensor \"{name}\" belongs to no weight of the {} layers",
                layers.len()
            ))),
            None => Ok(found),
        }
    }

    /// The bytes of a tensor of this name, F32 and of this shape.
    pub(super) fn bytes(&self, name: &str, shape: &[usize]) -> Result<&'a [u8]> {
        let Some(info) = self.metadata.info(name) else {
            return Err(bad(format_args!("tensor \"{name}\" of shape {shape:?} is missing")));
        };
        if info.dtype != Dtype::F32 {
            return Err(bad(format_args!("tensor \"{name}\" should be F32, got {}", info.dtype)));
        }
        if info.shape != shape {
            return Err(bad(format_args!(
                "tensor \"{name}\" should have the shape {shape:?}, got {:?}",
                info.shape
            )));
        }
        let (start, end) = info.data_offsets;
        self.data.get(start..end).ok_or_else(|| {
            bad(format_args!("tensor \"{name}\" lies at {start}..{end} of {} bytes", self.data.len()))
        })
    }
}

fn read_variables(found: Vec<Found<'_>>) -> Result<Variables> {
    let read = |Found { which, shape, bytes }: Found<'_>| {
        let mut values = AlignedVec::zeroed(checked_product(which.name(), &shape)?)?;
        for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        Ok(Variable { which, shape, values })
    };
    found.into_iter().map(read).collect::<Result<_>>().map(Variables)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    input_size: usize,
    layers: LayerObjects,
}

/// A list that says which of its layers was wrong.
#[derive(Serialize)]
#[serde(transparent)]
struct LayerObjects(Vec<LayerObject>);

impl<'de> Deserialize<'de> for LayerObjects {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = LayerObjects;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of layers")
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> std::result::Result<LayerObjects, A::Error> {
                let mut layers = Vec::new();
                loop {
                    let at = |error| A::Error::custom(format_args!("layers.{}: {error}", layers.len()));
                    match list.next_element().map_err(at)? {
                        Some(layer) => layers.push(layer),
                        None => return Ok(LayerObjects(layers)),
                    }
                }
            }
        }

        deserializer.deserialize_seq(List)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum LayerObject {
    Embedding {
        vocabulary: usize,
        size: usize,
        #[serde(default)]
        mask_zero: bool,
    },
    Masking {
        #[serde(default)]
        mask_value: f32,
    },
    SimpleRnn(RnnObject),
    Bidirectional {
        #[serde(default)]
        merge_mode: MergeMode,
        simple_rnn: RnnObject,
    },
    Dense {
        units: usize,
        #[serde(default = "linear")]
        activation: Activation,
        #[serde(default = "yes")]
        use_bias: bool,
    },
    Dropout {
        rate: f32,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RnnObject {
    units: usize,
    #[serde(default)]
    activation: Activation,
    #[serde(default = "yes")]
    use_bias: bool,
    #[serde(default)]
    return_sequences: bool,
    /// Written by earlier versions.
    #[serde(default, skip_serializing)]
    #[expect(dead_code, reason = "read, so that such files load, and without effect")]
    return_state: bool,
    #[serde(default)]
    go_backwards: bool,
    #[serde(default)]
    stateful: bool,
    #[serde(default)]
    zero_output_for_mask: bool,
    #[serde(default)]
    unroll: Unroll,
    #[serde(default)]
    dropout: f32,
    #[serde(default)]
    recurrent_dropout: f32,
}

fn yes() -> bool {
    true
}

fn linear() -> Activation {
    Activation::Linear
}

impl From<&Layer> for LayerObject {
    fn from(layer: &Layer) -> Self {
        // Every field by name, here and below, so that a new one cannot be forgotten.
        match *layer {
            Layer::Embedding(Embedding { vocabulary, size, mask_zero, embeddings_initializer: _ }) => {
                LayerObject::Embedding { vocabulary, size, mask_zero }
            }
            Layer::Masking(Masking { mask_value }) => LayerObject::Masking { mask_value },
            Layer::SimpleRnn(layer) => LayerObject::SimpleRnn(layer.into()),
            Layer::Bidirectional(Bidirectional { layer, merge_mode }) => {
                LayerObject::Bidirectional { merge_mode, simple_rnn: layer.into() }
            }
            Layer::Dense(Dense {
                units,
                activation,
                use_bias,
                kernel_initializer: _,
                bias_initializer: _,
            }) => LayerObject::Dense { units, activation, use_bias },
            Layer::Dropout(Dropout { rate }) => LayerObject::Dropout { rate },
        }
    }
}

impl From<LayerObject> for Layer {
    fn from(object: LayerObject) -> Self {
        match object {
            LayerObject::Embedding { vocabulary, size, mask_zero } => {
                Embedding::new(vocabulary, size).mask_zero(mask_zero).into()
            }
            LayerObject::Masking { mask_value } => Masking::new(mask_value).into(),
            LayerObject::SimpleRnn(object) => SimpleRnn::from(object).into(),
            LayerObject::Bidirectional { merge_mode, simple_rnn } => {
                Bidirectional::new(simple_rnn.into()).merge_mode(merge_mode).into()
            }
            LayerObject::Dense { units, activation, use_bias } => {
                Dense::new(units).activation(activation).use_bias(use_bias).into()
            }
            LayerObject::Dropout { rate } => Dropout::new(rate).into(),
        }
    }
}

impl From<SimpleRnn> for RnnObject {
    fn from(layer: SimpleRnn) -> Self {
        let SimpleRnn {
            units,
            activation,
            use_bias,
            return_sequences,
            go_backwards,
            stateful,
            zero_output_for_mask,
            unroll,
            dropout,
            recurrent_dropout,
            kernel_initializer: _,
            recurrent_initializer: _,
            bias_initializer: _,
        } = layer;
        Self {
            units,
            activation,
            use_bias,
            return_sequences,
            return_state: false,
            go_backwards,
            stateful,
            zero_output_for_mask,
            unroll,
            dropout,
            recurrent_dropout,
        }
    }
}

impl From<RnnObject> for SimpleRnn {
    fn from(object: RnnObject) -> Self {
        SimpleRnn::new(object.units)
            .activation(object.activation)
            .use_bias(object.use_bias)
            .return_sequences(object.return_sequences)
            .go_backwards(object.go_backwards)
            .stateful(object.stateful)
            .zero_output_for_mask(object.zero_output_for_mask)
            .unroll(object.unroll)
            .dropout(object.dropout)
            .recurrent_dropout(object.recurrent_dropout)
    }
}
