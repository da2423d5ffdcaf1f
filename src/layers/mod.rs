//! Layers: what a user describes.
//!
//! A layer here is a configuration in Keras's words with Keras's defaults, validated once, and after building the
//! weights that belong to it: [`Variables`] in Keras's layout, and [`Packed`] for the kernels. Nothing in this room
//! runs; running is `sequence`'s work.

#![forbid(unsafe_code)]

mod activation;
mod bidirectional;
mod dense;
mod dropout;
mod embedding;
mod gates;
mod gru;
mod initializer;
mod last_step;
mod lstm;
mod masking;
mod packed;
mod recurrent;
mod simple_rnn;
mod variables;

pub use activation::Activation;
pub use bidirectional::{Bidirectional, MergeMode};
pub use dense::Dense;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use gru::Gru;
pub use initializer::Initializer;
pub use last_step::LastStep;
pub use lstm::Lstm;
pub use masking::Masking;
pub use recurrent::{Recurrent, Unroll};
pub use simple_rnn::SimpleRnn;
pub use variables::{Variable, Weight};

pub(crate) use gates::GateOrder;
pub(crate) use packed::{BuiltLayer, Gated, Packed, PackedCell, PackedDense, PackedRnn};
pub(crate) use recurrent::{Cell, Options};
pub(crate) use variables::Variables;

use crate::error::{Error, Result};

/// One layer of a [`Sequential`](crate::Sequential).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Layer {
    /// Token ids to vectors; first layer only.
    Embedding(Embedding),
    /// Marks steps to be skipped; first layer only.
    Masking(Masking),
    /// A recurrent layer of any kind.
    Recurrent(Recurrent),
    /// A recurrent layer run in both directions.
    Bidirectional(Bidirectional),
    /// A fully connected layer, on every step where it is given a sequence.
    Dense(Dense),
    /// Drops inputs in training; does nothing in inference.
    Dropout(Dropout),
    /// The last step of a sequence.
    LastStep(LastStep),
}

macro_rules! into_layer {
    ($($name:ident),*) => {$(
        impl From<$name> for Layer {
            fn from(layer: $name) -> Self {
                Layer::$name(layer)
            }
        }
    )*};
}
into_layer!(Embedding, Masking, Recurrent, Bidirectional, Dense, Dropout, LastStep);

macro_rules! recurrent_into_layer {
    ($($name:ident),*) => {$(
        impl From<$name> for Layer {
            fn from(layer: $name) -> Self {
                Layer::Recurrent(layer.into())
            }
        }
    )*};
}
recurrent_into_layer!(SimpleRnn, Lstm, Gru);

/// What flows between layers: the width of a row, and whether there is a row for every step or for the last one only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shape {
    /// Floats a row; where a [`Bidirectional`] layer does not merge its halves, of one of them.
    pub features: usize,
    /// Whether there is a row for every step.
    pub sequence: bool,
}

impl Layer {
    /// Keras's name of the layer type, as files carry it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Layer::Embedding(_) => "embedding",
            Layer::Masking(_) => "masking",
            Layer::Recurrent(layer) => layer.type_name(),
            Layer::Bidirectional(_) => "bidirectional",
            Layer::Dense(_) => "dense",
            Layer::Dropout(_) => "dropout",
            Layer::LastStep(_) => "last_step",
        }
    }

    /// Whether a call goes on from the states that the last one left.
    pub(crate) fn is_stateful(&self) -> bool {
        self.recurrent().is_some_and(|layer| layer.options().stateful)
    }

    /// The recurrent layer that this is, or that it runs both ways.
    pub(crate) fn recurrent(&self) -> Option<&Recurrent> {
        match self {
            Layer::Recurrent(layer) | Layer::Bidirectional(Bidirectional { layer, .. }) => Some(layer),
            Layer::Embedding(_)
            | Layer::Masking(_)
            | Layer::Dense(_)
            | Layer::Dropout(_)
            | Layer::LastStep(_) => None,
        }
    }

    /// Checks the layer's own numbers; its place among others is checked by [`Layer::output_shape`].
    pub(crate) fn validate(&self) -> Result<()> {
        match self {
            Layer::Embedding(layer) => layer.validate(),
            Layer::Masking(layer) => layer.validate(),
            Layer::Recurrent(layer) => layer.validate(),
            Layer::Bidirectional(layer) => layer.validate(),
            Layer::Dense(layer) => layer.validate(),
            Layer::Dropout(layer) => layer.validate(),
            Layer::LastStep(_) => Ok(()),
        }
    }

    /// What the layer gives for `input`, or why it cannot stand at position `index`.
    pub(crate) fn output_shape(&self, index: usize, input: Shape) -> Result<Shape> {
        let needs_sequence = |shape: Shape| {
            if input.sequence {
                Ok(shape)
            } else {
                Err(Error::InvalidArgument(format!(
                    "layer {index} ({}) needs a sequence, and layer {} gives only the last step; \
                     set return_sequences there",
                    self.type_name(),
                    index.saturating_sub(1)
                )))
            }
        };
        match self {
            Layer::Embedding(layer) if index == 0 && input.features == 1 => {
                Ok(Shape { features: layer.size, ..input })
            }
            Layer::Embedding(_) if index == 0 => Err(Error::InvalidArgument(format!(
                "an embedding reads one token id a step: input size must be 1, got {}",
                input.features
            ))),
            Layer::Embedding(_) => Err(Error::InvalidArgument(format!(
                "an embedding must be the first layer, got it as layer {index}"
            ))),
            Layer::Masking(_) if index == 0 => Ok(input),
            // In Keras it masks what the layers below it give; here it reads the model's own input.
            Layer::Masking(_) => needs_sequence(input).and_then(|_| {
                Err(Error::Unsupported(format!(
                    "a masking layer must be the first layer, got it as layer {index}"
                )))
            }),
            Layer::Recurrent(layer) => needs_sequence(Shape {
                features: layer.options().units,
                sequence: layer.options().return_sequences,
            }),
            Layer::Bidirectional(layer) => needs_sequence(Shape {
                features: layer.output_features(),
                sequence: layer.layer.options().return_sequences,
            }),
            Layer::Dense(layer) => Ok(Shape { features: layer.units, ..input }),
            Layer::Dropout(_) => Ok(input),
            Layer::LastStep(_) => needs_sequence(Shape { sequence: false, ..input }),
        }
    }

    /// The variables of the layer for rows of `input` features, in Keras's order.
    pub(crate) fn variable_shapes(&self, input: usize) -> Vec<(Weight, [usize; 2])> {
        match self {
            Layer::Embedding(layer) => vec![(Weight::Embedding, [layer.vocabulary, layer.size])],
            Layer::Recurrent(layer) => layer.variable_shapes(input),
            Layer::Bidirectional(layer) => layer.variable_shapes(input),
            Layer::Dense(layer) => layer.variable_shapes(input),
            Layer::Masking(_) | Layer::Dropout(_) | Layer::LastStep(_) => Vec::new(),
        }
    }

    /// How a variable starts.
    pub(crate) fn initializer(&self, which: Weight) -> Initializer {
        match self {
            Layer::Recurrent(layer) => layer.initializer(which),
            Layer::Bidirectional(layer) => layer.layer.initializer(which.forward()),
            Layer::Dense(layer) => layer.initializer(which),
            Layer::Embedding(layer) => layer.embeddings_initializer,
            Layer::Masking(_) | Layer::Dropout(_) | Layer::LastStep(_) => Initializer::Zeros,
        }
    }

    /// What is done to a variable after its initialiser.
    pub(crate) fn finish_initial(&self, which: Weight, values: &mut [f32]) {
        if let Some(layer) = self.recurrent() {
            layer.finish_initial(which.forward(), values);
        }
    }
}

/// A size that must be at least one.
fn positive(what: &str, size: usize) -> Result<()> {
    if size > 0 { Ok(()) } else { Err(Error::InvalidArgument(format!("{what} must be at least 1, got 0"))) }
}

/// A share between 0 and 1, both allowed.
fn rate(what: &str, rate: f32) -> Result<()> {
    if (0.0..=1.0).contains(&rate) {
        Ok(())
    } else {
        Err(Error::InvalidArgument(format!("{what} must be between 0 and 1, got {rate}")))
    }
}
