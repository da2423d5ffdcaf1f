//! A recurrent layer run in both directions.

use super::{Recurrent, Weight};
use crate::error::{Error, Result};

/// How a [`Bidirectional`] layer joins its two halves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "files", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "files", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum MergeMode {
    /// Side by side: twice the features.
    #[default]
    Concat,
    /// Element-wise sum.
    Sum,
    /// Element-wise product.
    Mul,
    /// Element-wise mean.
    Ave,
    /// Not joined: the forward array, then the backward array. Last layer only.
    None,
}

impl MergeMode {
    /// Keras's name, and `none`.
    #[cfg(feature = "files")]
    pub(crate) fn name(self) -> &'static str {
        match self {
            MergeMode::Concat => "concat",
            MergeMode::Sum => "sum",
            MergeMode::Mul => "mul",
            MergeMode::Ave => "ave",
            MergeMode::None => "none",
        }
    }
}

/// Keras's Bidirectional around a recurrent layer: a forward half and a backward half of the same
/// configuration. As in Keras its masked steps give zeros.
///
/// ```
/// use elman::{Bidirectional, MergeMode, Sequential, SimpleRnn};
///
/// # fn main() -> Result<(), elman::Error> {
/// let both = Bidirectional::new(SimpleRnn::new(8).return_sequences(true)).merge_mode(MergeMode::Sum);
/// let model = Sequential::new(3).add(both).build(1)?;
/// assert_eq!(model.predict(&[0.5; 5 * 3], 1, 5)?.len(), 5 * 8);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bidirectional {
    pub(crate) layer: Recurrent,
    pub(crate) merge_mode: MergeMode,
}

impl Bidirectional {
    /// Both directions of `layer`, concatenated.
    pub fn new(layer: impl Into<Recurrent>) -> Self {
        Self { layer: layer.into(), merge_mode: MergeMode::Concat }
    }

    /// How the halves are joined.
    pub fn merge_mode(mut self, mode: MergeMode) -> Self {
        self.merge_mode = mode;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        self.layer.validate()?;
        if self.layer.options().go_backwards {
            return Err(Error::InvalidArgument(
                "the layer inside a Bidirectional runs both ways already; go_backwards must be false".into(),
            ));
        }
        Ok(())
    }

    pub(crate) fn output_features(&self) -> usize {
        match self.merge_mode {
            // Saturated here, refused with the weights' sizes.
            MergeMode::Concat => self.layer.options().units.saturating_mul(2),
            _ => self.layer.options().units,
        }
    }

    pub(crate) fn variable_shapes(&self, input: usize) -> Vec<(Weight, [usize; 2])> {
        let forward = self.layer.variable_shapes(input);
        let backward = forward.clone().into_iter().map(|(which, shape)| (which.backward(), shape));
        forward.iter().copied().chain(backward).collect()
    }
}
