//! Gradients that explode are cut back: by their common norm, weight by weight, or value by value.

use crate::error::{Error, Result};

/// What is done to gradients before the optimizer sees them: Keras's `global_clipnorm`, `clipnorm`, `clipvalue`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
                let squares: f64 = gradients.iter().map(|gradient| squares(gradient)).sum();
                for gradient in gradients {
                    scale(gradient, factor(squares.sqrt(), limit));
                }
            }
            Clipping::Norm(limit) => {
                for gradient in gradients {
                    scale(gradient, factor(squares(gradient).sqrt(), limit));
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

/// What a gradient of this norm is multiplied by.
pub(crate) fn factor(norm: f64, limit: f32) -> f32 {
    if norm > f64::from(limit) { (f64::from(limit) / norm) as f32 } else { 1.0 }
}

pub(crate) fn scale(values: &mut [f32], factor: f32) {
    if factor != 1.0 {
        values.iter_mut().for_each(|value| *value *= factor);
    }
}

/// The sum of the squares, which no finite values can make infinite. Eight sums go side by side, in an order that
/// depends on the length alone.
pub(crate) fn squares(values: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    let chunks = values.chunks_exact(sums.len());
    let rest: f64 = chunks.remainder().iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    for chunk in chunks {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    sums.iter().sum::<f64>() + rest
}
