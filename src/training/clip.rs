//! Gradients that explode are cut back: by their common norm, weight by weight, or value by value.

use crate::error::{Error, Result};
use crate::sequence::{clip_factor, scale, sum_of_squares};

/// What is done to gradients before the optimizer sees them: Keras's `global_clipnorm`, `clipnorm`,
/// `clipvalue`.
///
/// ```
/// use elman::Clipping;
///
/// let (mut kernel, mut bias) = ([3.0], [4.0]); // their common norm is 5
/// Clipping::GlobalNorm(2.5).apply(&mut [&mut kernel, &mut bias]);
/// assert_eq!((kernel, bias), ([1.5], [2.0]));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "files", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "files", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Clipping {
    /// Nothing.
    #[default]
    None,
    /// All gradients are scaled by one factor, so that their common L2 norm is at most this.
    GlobalNorm(f32),
    /// Each weight's gradient is scaled by itself, so that its L2 norm is at most this.
    Norm(f32),
    /// Each value is cut to `-limit..=limit`.
    Value(f32),
}

impl Clipping {
    /// Clips `gradients`, one slice for each weight.
    pub fn apply(&self, gradients: &mut [&mut [f32]]) {
        match *self {
            Clipping::None => {}
            Clipping::GlobalNorm(limit) => {
                let squares: f64 = gradients.iter().map(|gradient| sum_of_squares(gradient)).sum();
                for gradient in gradients {
                    scale(gradient, clip_factor(squares.sqrt(), limit));
                }
            }
            Clipping::Norm(limit) => {
                for gradient in gradients {
                    scale(gradient, clip_factor(sum_of_squares(gradient).sqrt(), limit));
                }
            }
            Clipping::Value(limit) => {
                for value in gradients.iter_mut().flat_map(|gradient| gradient.iter_mut()) {
                    *value = value.clamp(-limit, limit);
                }
            }
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for one outside its range.
    pub fn validate(&self) -> Result<()> {
        match *self {
            Clipping::GlobalNorm(limit) | Clipping::Norm(limit) | Clipping::Value(limit)
                if !(limit > 0.0 && limit.is_finite()) =>
            {
                Err(Error::InvalidArgument(format!("a clipping limit must be above 0, got {limit}")))
            }
            _ => Ok(()),
        }
    }
}
