//! Dropout between layers.

use super::rate;
use crate::error::Result;

/// Sets inputs to zero with probability `rate` in training and scales the others by `1 / (1 - rate)`; the identity in
/// inference.
///
/// ```
/// use elman::{Dense, Dropout, Sequential, SimpleRnn};
///
/// # fn main() -> Result<(), elman::Error> {
/// let model = Sequential::new(3).add(SimpleRnn::new(8)).add(Dropout::new(0.5)).add(Dense::new(1)).build(1)?;
/// let x = [0.5; 4 * 3];
/// assert_eq!(model.predict(&x, 1, 4)?, model.predict(&x, 1, 4)?); // nothing is dropped outside training
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    pub(crate) rate: f32,
}

impl Dropout {
    /// Drops with probability `rate`, 0 to 1.
    pub fn new(rate: f32) -> Self {
        Self { rate }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        rate("dropout rate", self.rate)
    }
}
