//! Dropout between layers.

use super::rate;
use crate::error::Result;

/// Sets inputs to zero with probability `rate` in training and scales the others by `1 / (1 - rate)`; the identity in
/// inference.
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
