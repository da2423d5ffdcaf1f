//! What a call reads: its values, and what says which steps are used.

use super::network::Network;
use super::pipeline::Map;
use super::schedule::Mask;
use crate::error::{Error, Result};
use crate::layers::Layer;

/// What padding means to outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Padding {
    /// Keras: a masked step repeats the output before it; walking backwards begins at the last step of the
    /// batch.
    #[default]
    Keras,
    /// ONNX: outputs past a row's end are zero; walking backwards begins at the row's own end.
    Onnx,
}

/// The input of a call. Slices, arrays and vectors of `f32` or `i32` turn into it by themselves.
///
/// ```
/// use elman::{Embedding, Sequential, SimpleRnn};
///
/// # fn main() -> Result<(), elman::Error> {
/// let of_floats = Sequential::new(2).add(SimpleRnn::new(4)).build(1)?;
/// let of_tokens = Sequential::new(1).add(Embedding::new(10, 2)).add(SimpleRnn::new(4)).build(1)?;
/// assert_eq!(of_floats.predict(&[0.5, -0.5, 0.25, 1.0], 1, 2)?.len(), 4);
/// assert_eq!(of_tokens.predict(&[7, 2], 1, 2)?.len(), 4);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// `[batch, steps, features]`.
    Floats(&'a [f32]),
    /// Token ids `[batch, steps]`, for a model that begins with an embedding.
    Tokens(&'a [i32]),
}

macro_rules! into_input {
    ($($element:ty => $variant:ident),*) => {$(
        impl<'a> From<&'a [$element]> for Input<'a> {
            fn from(values: &'a [$element]) -> Self {
                Input::$variant(values)
            }
        }

        impl<'a, const N: usize> From<&'a [$element; N]> for Input<'a> {
            fn from(values: &'a [$element; N]) -> Self {
                Input::$variant(values)
            }
        }

        impl<'a> From<&'a Vec<$element>> for Input<'a> {
            fn from(values: &'a Vec<$element>) -> Self {
                Input::$variant(values)
            }
        }
    )*};
}
into_input!(f32 => Floats, i32 => Tokens);

/// A checked call: every length fits the network, the batch and the steps.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) input: Input<'a>,
    pub(crate) batch: usize,
    pub(crate) steps: usize,
    /// `[batch, steps]`, 1 = use the step.
    pub(crate) mask: Option<&'a [u8]>,
    /// `[batch]`.
    pub(crate) lengths: Option<&'a [usize]>,
    pub(crate) padding: Padding,
    /// By recurrent direction, array by array, each `[batch, units]`.
    pub(crate) initial_state: Option<&'a [f32]>,
    /// As the initial states.
    pub(crate) final_state: Option<&'a mut [f32]>,
    /// `[batch, steps, features]` or `[batch, features]`.
    pub(crate) output: &'a mut [f32],
}

/// What a call reads, for all of its rows or some.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) input: Input<'a>,
    pub(super) mask: Option<&'a [u8]>,
    pub(super) lengths: Option<&'a [usize]>,
}

impl<'a> Inputs<'a> {
    /// What there is to read, checked against the network, every step of it used.
    pub(super) fn read_unmasked(&self, network: &'a Network) -> Result<Given<'a>> {
        let (values, map) = values_of(network, self.input)?;
        Ok(Given { values, map, mask: Mask::default() })
    }

    /// What there is to read, checked against the network.
    pub(super) fn read(&self, network: &'a Network) -> Result<Given<'a>> {
        let given = self.read_unmasked(network)?;
        // Without a recurrent layer nothing skips a step.
        if network.recurrent().next().is_none() {
            return Ok(given);
        }
        let masking = network.layers.iter().find_map(|layer| match &layer.layer {
            Layer::Masking(masking) => Some((given.values, network.input.features, masking.mask_value)),
            _ => None,
        });
        let tokens = match self.input {
            Input::Tokens(ids) if network.embedding().is_some_and(|(layer, _)| layer.mask_zero) => Some(ids),
            Input::Tokens(_) | Input::Floats(_) => None,
        };
        let mask = Mask { given: self.mask, lengths: self.lengths, tokens, features: masking };
        Ok(Given { mask, ..given })
    }

    /// Of some rows of `steps` steps of `features` floats.
    pub(super) fn of_rows(&self, rows: &std::ops::Range<usize>, steps: usize, features: usize) -> Self {
        let positions = rows.start * steps..rows.end * steps;
        Self {
            input: match self.input {
                Input::Floats(x) => Input::Floats(&x[positions.start * features..positions.end * features]),
                Input::Tokens(ids) => Input::Tokens(&ids[positions.clone()]),
            },
            mask: self.mask.map(|mask| &mask[positions]),
            lengths: self.lengths.map(|lengths| &lengths[rows.clone()]),
        }
    }
}

/// What a call reads, checked: where its values lie, and which steps are used.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) values: &'a [f32],
    pub(super) map: Map<'a>,
    pub(super) mask: Mask<'a>,
}

/// Whether all ids are inside the vocabulary.
pub(crate) fn check_tokens(ids: &[i32], vocabulary: usize) -> Result<()> {
    match ids.iter().position(|&id| usize::try_from(id).map_or(true, |id| id >= vocabulary)) {
        None => Ok(()),
        Some(at) => Err(Error::InvalidArgument(format!(
            "token {} at index {at} is outside the vocabulary 0..{vocabulary}",
            ids[at]
        ))),
    }
}

/// What the first layer reads, and how.
fn values_of<'a>(network: &'a Network, input: Input<'a>) -> Result<(&'a [f32], Map<'a>)> {
    match (input, network.embedding()) {
        (Input::Tokens(ids), Some((embedding, table))) => Ok((table, Map::Tokens(ids, embedding.size))),
        (Input::Floats(x), None) => Ok((x, Map::Features(network.input.features))),
        (Input::Floats(_), Some(_)) => {
            Err(Error::InvalidArgument("the model begins with an embedding: give it token ids".into()))
        }
        (Input::Tokens(_), None) => {
            Err(Error::InvalidArgument("the model has no embedding: give it floats".into()))
        }
    }
}
