//! Masking: steps that every later layer skips.

use crate::error::{Error, Result};

/// Masks each step whose features all equal `mask_value`, as Keras's Masking layer does. First layer only,
/// below a recurrent one that skips the steps.
///
/// ```
/// use elman::{Masking, Sequential, SimpleRnn};
///
/// # fn main() -> Result<(), elman::Error> {
/// let model = Sequential::new(2).add(Masking::new(-1.0)).add(SimpleRnn::new(8)).build(1)?;
/// let short = model.predict(&[0.5, 0.25], 1, 1)?;
/// assert_eq!(short, model.predict(&[0.5, 0.25, -1.0, -1.0], 1, 2)?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Masking {
    pub(crate) mask_value: f32,
}

impl Masking {
    /// Steps full of `mask_value` are skipped.
    pub fn new(mask_value: f32) -> Self {
        Self { mask_value }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if self.mask_value.is_finite() {
            Ok(())
        } else {
            Err(Error::InvalidArgument(format!("mask_value must be finite, got {}", self.mask_value)))
        }
    }
}
