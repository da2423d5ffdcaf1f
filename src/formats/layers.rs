//! A network's layers as JSON, in model files and in checkpoints.
//!
//! `{"input_size": N, "layers": [...]}`: features a step (1 where an embedding comes first) and the layers
//! from input to output, each one of
//!
//! ```json
//! {"type": "embedding", "vocabulary": 5000, "size": 100, "mask_zero": false}
//! {"type": "masking", "mask_value": 0.0}
//! {"type": "simple_rnn", "units": 64, "activation": "tanh", "use_bias": true, "return_sequences": false,
//!  "go_backwards": false, "stateful": false, "zero_output_for_mask": false, "unroll": "auto", "dropout": 0.0,
//!  "recurrent_dropout": 0.0}
//! {"type": "lstm", "units": 64, "recurrent_activation": "sigmoid", "unit_forget_bias": true}
//! {"type": "gru", "units": 64, "recurrent_activation": "sigmoid", "reset_after": true}
//! {"type": "bidirectional", "merge_mode": "concat", "simple_rnn": {"units": 64}}
//! {"type": "dense", "units": 1, "activation": "linear", "use_bias": true}
//! {"type": "dropout", "rate": 0.5}
//! {"type": "last_step"}
//! ```
//!
//! The values above are the defaults (Keras's), taken where a field is missing; `vocabulary`, `size`, `units`
//! and `rate` have none. `lstm` and `gru` have the fields of `simple_rnn` besides. A bidirectional layer has one
//! of `simple_rnn`, `lstm` and `gru`, with the fields of such a layer without `type`. `activation` and
//! `recurrent_activation` are `linear`, `tanh`, `relu`, `sigmoid`, `hard_sigmoid`, `hard_sigmoid_keras2`,
//! `softplus`, `elu`, `leaky_relu` or, in a dense layer, `softmax`; `unroll` is `auto`, `looped` or `unrolled`; `merge_mode` is `concat`, `sum`, `mul`, `ave` or `none`. An unknown field,
//! type or name is an error, and so is a field that is there twice. `return_state`, which earlier versions
//! wrote, is read and means nothing: a run that wants the final states asks for them.

use serde::de::Deserializer;
use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};

use super::json::{self, Json, Quoted};
use super::{bad, prefixed};
use crate::error::Result;
use crate::layers::{
    Activation, Bidirectional, Dense, Dropout, Embedding, Gru, LastStep, Layer, Lstm, Masking, MergeMode,
    Options, Recurrent, SimpleRnn, Unroll,
};
use crate::memory::with_room;
use crate::sequential::{MOST_LAYERS, Sequential};

/// The JSON of a model's layers.
pub(super) fn write(model: &Sequential) -> Result<String> {
    json::to_json(&Network { input_size: model.input_size(), layers: model.layers() })
}

/// The features a step and the layers that such JSON says. They are not validated.
pub(super) fn read(text: &str) -> Result<(usize, Vec<Layer>)> {
    json::small(text)?;
    let network = Json::new(text).object()?;
    if let Some((key, _)) = network.iter().find(|(key, _)| !["input_size", "layers"].contains(key)) {
        return Err(bad(format_args!("unknown field {}", Quoted(key))));
    }
    let get = |key| network.get(key).ok_or_else(|| bad(format_args!("missing field \"{key}\"")));
    let input_size = get("input_size")?.size().map_err(|error| prefixed(error, "input_size"))?;
    let list = get("layers")?;
    let mut count = 0;
    list.clone().list(|json| {
        count += 1;
        json.value().map(|_| ())
    })?;
    if count > MOST_LAYERS {
        return Err(bad(format_args!("a network has at most {MOST_LAYERS} layers, got {count}")));
    }
    let mut layers = with_room(count)?;
    list.clone().list(|json| {
        let layer = read_layer(json.value()?);
        layers.push(layer.map_err(|error| prefixed(error, format_args!("layers.{}", layers.len())))?);
        Ok(())
    })?;
    Ok((input_size, layers))
}

fn read_layer(text: &str) -> Result<Layer> {
    let object: LayerObject = serde_json::from_str(text).map_err(|error| match error.is_data() {
        true => bad(error),
        // It says where, and not what is there.
        false => bad(format_args!("{error} of {}", Quoted(text))),
    })?;
    object.layer()
}

/// Whether a model has these layers, initialisers and the driver aside, which no result depends on; else what
/// differs.
pub(super) fn check_same(model: &Sequential, input_size: usize, layers: &[Layer]) -> Result<()> {
    if input_size != model.input_size() {
        return Err(bad(format_args!(
            "it is of a network with input size {input_size}, and this one has {}",
            model.input_size()
        )));
    }
    for (i, (saved, here)) in layers.iter().zip(model.layers()).enumerate() {
        let [saved, here] = [saved, here].map(|layer| LayerObject::from(layer).without_driver());
        if saved != here {
            let [saved, here] = [json::to_json(&saved)?, json::to_json(&here)?];
            return Err(bad(format_args!("its layer {i} is {saved}, and this network's is {here}")));
        }
    }
    if layers.len() != model.layers().len() {
        return Err(bad(format_args!(
            "it is of a network of {} layers, and this one has {}",
            layers.len(),
            model.layers().len()
        )));
    }
    Ok(())
}

struct Network<'a> {
    input_size: usize,
    layers: &'a [Layer],
}

impl Serialize for Network<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut network = serializer.serialize_struct("Network", 2)?;
        network.serialize_field("input_size", &self.input_size)?;
        network.serialize_field("layers", &Objects(self.layers))?;
        network.end()
    }
}

struct Objects<'a>(&'a [Layer]);

impl Serialize for Objects<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(LayerObject::from))
    }
}

/// The kinds of recurrent layers.
#[derive(Clone, Copy)]
enum Kind {
    SimpleRnn,
    Lstm,
    Gru,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LayerType {
    Embedding,
    Masking,
    SimpleRnn,
    Lstm,
    Gru,
    Bidirectional,
    Dense,
    Dropout,
    LastStep,
}

/// A struct of fields that are there or not.
macro_rules! object {
    ($(#[$doc:meta])* struct $name:ident { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name {$(
            #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
            $field: Option<$type>,
        )*}
    };
}

object! {
    /// The fields of all layer types, in the order they are written in. One struct for all, because an enum
    /// with a tag makes serde keep a layer's whole JSON until it has found the tag.
    struct LayerObject {
        r#type: LayerType,
        vocabulary: usize,
        size: usize,
        mask_zero: bool,
        mask_value: f32,
        merge_mode: MergeMode,
        simple_rnn: Box<LayerObject>,
        lstm: Box<LayerObject>,
        gru: Box<LayerObject>,
        units: usize,
        activation: Activation,
        recurrent_activation: Activation,
        use_bias: bool,
        return_sequences: bool,
        return_state: bool,
        go_backwards: bool,
        stateful: bool,
        zero_output_for_mask: bool,
        unroll: Unroll,
        dropout: f32,
        recurrent_dropout: f32,
        unit_forget_bias: bool,
        reset_after: bool,
        rate: f32,
    }
}

/// A field that is there is not `null`.
fn given<'de, D, T>(deserializer: D) -> std::result::Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

fn needed<T>(field: &mut Option<T>, name: &str) -> Result<T> {
    field.take().ok_or_else(|| bad(format_args!("missing field `{name}`")))
}

impl LayerObject {
    fn layer(mut self) -> Result<Layer> {
        let layer = match needed(&mut self.r#type, "type")? {
            LayerType::Embedding => {
                let (vocabulary, size) =
                    (needed(&mut self.vocabulary, "vocabulary")?, needed(&mut self.size, "size")?);
                Embedding::new(vocabulary, size).mask_zero(self.mask_zero.take().unwrap_or(false)).into()
            }
            LayerType::Masking => Masking::new(self.mask_value.take().unwrap_or(0.0)).into(),
            LayerType::SimpleRnn => self.take_rnn(Kind::SimpleRnn)?.into(),
            LayerType::Lstm => self.take_rnn(Kind::Lstm)?.into(),
            LayerType::Gru => self.take_rnn(Kind::Gru)?.into(),
            LayerType::Bidirectional => {
                let layer = Bidirectional::new(self.take_inner()?);
                layer.merge_mode(self.merge_mode.take().unwrap_or_default()).into()
            }
            LayerType::Dense => Dense::new(needed(&mut self.units, "units")?)
                .activation(self.activation.take().unwrap_or(Activation::Linear))
                .use_bias(self.use_bias.take().unwrap_or(true))
                .into(),
            LayerType::Dropout => Dropout::new(needed(&mut self.rate, "rate")?).into(),
            LayerType::LastStep => LastStep::new().into(),
        };
        self.finish()?;
        Ok(layer)
    }

    /// The layer inside a bidirectional one.
    fn take_inner(&mut self) -> Result<Recurrent> {
        let inner = [
            (Kind::SimpleRnn, self.simple_rnn.take()),
            (Kind::Lstm, self.lstm.take()),
            (Kind::Gru, self.gru.take()),
        ];
        let mut found = inner.into_iter().filter_map(|(kind, object)| Some((kind, object?)));
        match (found.next(), found.next()) {
            (Some((kind, mut object)), None) => {
                let layer = object.take_rnn(kind)?;
                object.finish()?;
                Ok(layer)
            }
            (None, _) => Err(bad("missing field `simple_rnn`, `lstm` or `gru`")),
            (Some(_), Some(_)) => {
                Err(bad("a bidirectional layer has one of `simple_rnn`, `lstm` and `gru`, got several"))
            }
        }
    }

    fn take_rnn(&mut self, kind: Kind) -> Result<Recurrent> {
        let options = self.take_options()?;
        let gates = |object: &mut Self| object.recurrent_activation.take().unwrap_or(Activation::Sigmoid);
        Ok(match kind {
            Kind::SimpleRnn => SimpleRnn { options }.into(),
            Kind::Lstm => Lstm {
                options,
                recurrent_activation: gates(self),
                unit_forget_bias: self.unit_forget_bias.take().unwrap_or(true),
            }
            .into(),
            Kind::Gru => Gru {
                options,
                recurrent_activation: gates(self),
                reset_after: self.reset_after.take().unwrap_or(true),
            }
            .into(),
        })
    }

    fn take_options(&mut self) -> Result<Options> {
        self.return_state = None;
        let defaults = Options::new(needed(&mut self.units, "units")?);
        Ok(Options {
            activation: self.activation.take().unwrap_or(defaults.activation),
            use_bias: self.use_bias.take().unwrap_or(defaults.use_bias),
            return_sequences: self.return_sequences.take().unwrap_or(defaults.return_sequences),
            go_backwards: self.go_backwards.take().unwrap_or(defaults.go_backwards),
            stateful: self.stateful.take().unwrap_or(defaults.stateful),
            zero_output_for_mask: self.zero_output_for_mask.take().unwrap_or(defaults.zero_output_for_mask),
            unroll: self.unroll.take().unwrap_or(defaults.unroll),
            dropout: self.dropout.take().unwrap_or(defaults.dropout),
            recurrent_dropout: self.recurrent_dropout.take().unwrap_or(defaults.recurrent_dropout),
            ..defaults
        })
    }

    /// No field is left that the layer type does not have.
    fn finish(&self) -> Result<()> {
        let left = json::to_json(self)?;
        match Json::new(&left).object()?.iter().next() {
            Some((field, _)) => {
                Err(bad(format_args!("unknown field `{field}`, this layer type does not have it")))
            }
            None => Ok(()),
        }
    }

    fn without_driver(mut self) -> Self {
        self.unroll = None;
        for inner in [&mut self.simple_rnn, &mut self.lstm, &mut self.gru] {
            *inner = inner.take().map(|rnn| Box::new(rnn.without_driver()));
        }
        self
    }
}

impl From<&Layer> for LayerObject {
    fn from(layer: &Layer) -> Self {
        // Every field by name, here and below, so that a new one cannot be forgotten.
        match *layer {
            Layer::Embedding(Embedding { vocabulary, size, mask_zero, embeddings_initializer: _ }) => Self {
                r#type: Some(LayerType::Embedding),
                vocabulary: Some(vocabulary),
                size: Some(size),
                mask_zero: Some(mask_zero),
                ..Self::default()
            },
            Layer::Masking(Masking { mask_value }) => {
                Self { r#type: Some(LayerType::Masking), mask_value: Some(mask_value), ..Self::default() }
            }
            Layer::Recurrent(layer) => {
                let r#type = match layer {
                    Recurrent::SimpleRnn(_) => LayerType::SimpleRnn,
                    Recurrent::Lstm(_) => LayerType::Lstm,
                    Recurrent::Gru(_) => LayerType::Gru,
                };
                Self { r#type: Some(r#type), ..layer.into() }
            }
            Layer::Bidirectional(Bidirectional { layer, merge_mode }) => {
                let mut object = Self {
                    r#type: Some(LayerType::Bidirectional),
                    merge_mode: Some(merge_mode),
                    ..Self::default()
                };
                let inner = match layer {
                    Recurrent::SimpleRnn(_) => &mut object.simple_rnn,
                    Recurrent::Lstm(_) => &mut object.lstm,
                    Recurrent::Gru(_) => &mut object.gru,
                };
                *inner = Some(Box::new(layer.into()));
                object
            }
            Layer::Dense(Dense {
                units,
                activation,
                use_bias,
                kernel_initializer: _,
                bias_initializer: _,
            }) => Self {
                r#type: Some(LayerType::Dense),
                units: Some(units),
                activation: Some(activation),
                use_bias: Some(use_bias),
                ..Self::default()
            },
            Layer::Dropout(Dropout { rate }) => {
                Self { r#type: Some(LayerType::Dropout), rate: Some(rate), ..Self::default() }
            }
            Layer::LastStep(LastStep) => Self { r#type: Some(LayerType::LastStep), ..Self::default() },
        }
    }
}

impl From<Recurrent> for LayerObject {
    fn from(layer: Recurrent) -> Self {
        match layer {
            Recurrent::SimpleRnn(SimpleRnn { options }) => options.into(),
            Recurrent::Lstm(Lstm { options, recurrent_activation, unit_forget_bias }) => Self {
                recurrent_activation: Some(recurrent_activation),
                unit_forget_bias: Some(unit_forget_bias),
                ..options.into()
            },
            Recurrent::Gru(Gru { options, recurrent_activation, reset_after }) => Self {
                recurrent_activation: Some(recurrent_activation),
                reset_after: Some(reset_after),
                ..options.into()
            },
        }
    }
}

impl From<Options> for LayerObject {
    fn from(options: Options) -> Self {
        let Options {
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
        } = options;
        Self {
            units: Some(units),
            activation: Some(activation),
            use_bias: Some(use_bias),
            return_sequences: Some(return_sequences),
            go_backwards: Some(go_backwards),
            stateful: Some(stateful),
            zero_output_for_mask: Some(zero_output_for_mask),
            unroll: Some(unroll),
            dropout: Some(dropout),
            recurrent_dropout: Some(recurrent_dropout),
            ..Self::default()
        }
    }
}
