//! Token ids to vectors.

use super::{Initializer, Weight, positive};
use crate::error::Result;

/// A table `[vocabulary, size]`; each token id picks a row. First layer only.
///
/// ```
/// use elman::{Embedding, Sequential, SimpleRnn};
///
/// # fn main() -> Result<(), elman::Error> {
/// let model = Sequential::new(1).add(Embedding::new(100, 16).mask_zero(true)).add(SimpleRnn::new(8)).build(1)?;
/// let short = model.predict(&[7, 42], 1, 2)?;
/// assert_eq!(short, model.predict(&[7, 42, 0, 0], 1, 4)?); // zeros are padding
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Embedding {
    pub(crate) vocabulary: usize,
    pub(crate) size: usize,
    pub(crate) mask_zero: bool,
    pub(crate) embeddings_initializer: Initializer,
}

impl Embedding {
    /// `vocabulary` rows of `size` floats, starting as Keras's "uniform": U(-0.05, 0.05).
    pub fn new(vocabulary: usize, size: usize) -> Self {
        Self {
            vocabulary,
            size,
            mask_zero: false,
            embeddings_initializer: Initializer::RandomUniform { low: -0.05, high: 0.05 },
        }
    }

    /// Token 0 means "no step here": the layers above skip it.
    pub fn mask_zero(mut self, yes: bool) -> Self {
        self.mask_zero = yes;
        self
    }

    /// How the table starts.
    pub fn embeddings_initializer(mut self, initializer: Initializer) -> Self {
        self.embeddings_initializer = initializer;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        positive("embedding vocabulary", self.vocabulary)?;
        positive("embedding size", self.size)?;
        self.embeddings_initializer.validate(Weight::Embedding, [self.vocabulary, self.size])
    }
}
