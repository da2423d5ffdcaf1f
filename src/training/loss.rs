//! Losses: Keras's formulas, with their gradients.
//!
//! A row of predictions has one loss; rows may carry weights and may be masked. The value is `Σ loss · weight
//! · mask / n`, where n counts the rows, or the rows that the mask lets through; weights do not change it
//! (Keras's `sum_over_batch_size`). Inside a row the arithmetic is `f64`, rounded once. A logit of minus
//! infinity excludes its class: where the target excludes it too, it costs nothing.

use super::score::weigh_classes;
use crate::error::{Error, Result};
use crate::memory::{check_len, refill};

/// What training makes small.
///
/// ```
/// use elman::{Loss, Optimizer, TrainerConfig};
///
/// // Behind a layer without softmax, of class numbers.
/// let loss = Loss::SparseCategoricalCrossentropy { from_logits: true };
/// let config = TrainerConfig::new(Optimizer::adam(), loss);
/// assert_eq!(config.loss.target_columns(10), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "files", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "files", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Loss {
    /// The mean of the squared differences of a row.
    MeanSquaredError,
    /// The mean over a row of `-t · ln p - (1 - t) · ln(1 - p)`.
    BinaryCrossentropy {
        /// Whether predictions are logits, and `p` their sigmoid.
        from_logits: bool,
    },
    /// `-Σ t · ln p` over the row; targets are one-hot (or any distribution).
    CategoricalCrossentropy {
        /// Whether predictions are logits, and `p` their softmax.
        from_logits: bool,
    },
    /// [`CategoricalCrossentropy`](Self::CategoricalCrossentropy) with one class number a row as the target.
    SparseCategoricalCrossentropy {
        /// Whether predictions are logits, and `p` their softmax.
        from_logits: bool,
    },
}

/// Predictions and what they should be, for [`Loss::evaluate`].
///
/// ```
/// use elman::{Batch, Loss};
///
/// # fn main() -> Result<(), elman::Error> {
/// let (prediction, target) = ([0.5, 1.0, 2.0, 4.0], [0.5, 1.0, 2.0, 2.0]); // two rows of two
/// let mut gradient = [0.0; 4];
/// let loss = Loss::MeanSquaredError.evaluate(Batch::new(&prediction, &target, 2), &mut gradient)?;
/// assert_eq!((loss, gradient), (1.0, [0.0, 0.0, 0.0, 1.0]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Batch<'a> {
    /// `[rows, columns]`.
    pub prediction: &'a [f32],
    /// `[rows, columns]`; class numbers `[rows]` for the sparse loss.
    pub target: &'a [f32],
    /// Numbers a row.
    pub columns: usize,
    /// `[rows]`.
    pub weights: Option<&'a [f32]>,
    /// `[rows]`, 1 = the row counts.
    pub mask: Option<&'a [u8]>,
}

impl<'a> Batch<'a> {
    /// Predictions `[rows, columns]` with their targets; every row counts, and each as much as another.
    pub fn new(prediction: &'a [f32], target: &'a [f32], columns: usize) -> Self {
        Self { prediction, target, columns, weights: None, mask: None }
    }

    /// Sets [`weights`](Self::weights).
    pub fn weights(self, weights: &'a [f32]) -> Self {
        Self { weights: Some(weights), ..self }
    }

    /// Sets [`mask`](Self::mask).
    pub fn mask(self, mask: &'a [u8]) -> Self {
        Self { mask: Some(mask), ..self }
    }

    fn rows(&self) -> usize {
        self.prediction.len() / self.columns
    }

    /// The rows that the mask lets through.
    pub(super) fn counted(&self) -> usize {
        self.mask.map_or(self.rows(), |mask| mask.iter().filter(|&&used| used != 0).count())
    }

    /// Checks every length against that of the predictions.
    pub(super) fn check(&self, loss: Loss) -> Result<()> {
        let Self { prediction, target, columns, weights, mask } = *self;
        if columns == 0 || prediction.is_empty() {
            return Err(Error::InvalidArgument("a loss needs at least one prediction".into()));
        }
        let rows = self.rows();
        check_len("prediction", prediction.len(), "rows x columns", &[rows, columns])?;
        check_len("target", target.len(), "rows x columns", &[rows, loss.target_columns(columns)])?;
        if let Some(weights) = weights {
            check_len("weights", weights.len(), "rows", &[rows])?;
        }
        mask.map_or(Ok(()), |mask| check_len("mask", mask.len(), "rows", &[rows]))
    }

    /// The same with each row's weight times its class's, in `buffer`.
    pub(super) fn weighed(
        self,
        loss: Loss,
        class_weights: Option<&[f32]>,
        buffer: &'a mut Vec<f32>,
    ) -> Result<Self> {
        let Some(class_weights) = class_weights else { return Ok(self) };
        weigh_classes(loss, self, class_weights, buffer)?;
        Ok(Self { weights: Some(&buffer[..self.rows()]), ..self })
    }
}

/// Keras's epsilon: probabilities are kept this far from 0 and 1, and a probability that was cut has no
/// gradient. In `f32`, as Keras has it: the upper one is 1 - 2^-23.
const LEAST: f64 = 1e-7f32 as f64;
const MOST: f64 = (1.0f32 - 1e-7) as f64;

impl Loss {
    /// Target numbers for each row of `columns` predictions.
    pub fn target_columns(&self, columns: usize) -> usize {
        if matches!(self, Loss::SparseCategoricalCrossentropy { .. }) { 1 } else { columns }
    }

    /// The loss; its gradient by each prediction is written to `gradient`.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`]; [`Error::InvalidArgument`] where a class number is none in a row that
    /// counts. Where the mask leaves no row the loss is 0, and so is its gradient.
    pub fn evaluate(&self, batch: Batch<'_>, gradient: &mut [f32]) -> Result<f32> {
        self.evaluate_in(batch, gradient, &mut Vec::new())
    }

    /// [`evaluate`](Self::evaluate), with a buffer for the gradient of one row.
    pub(super) fn evaluate_in(
        &self,
        batch: Batch<'_>,
        gradient: &mut [f32],
        row_gradient: &mut Vec<f64>,
    ) -> Result<f32> {
        let Batch { prediction, target, columns, weights, mask } = batch;
        batch.check(*self)?;
        let rows = batch.rows();
        let target_columns = self.target_columns(columns);
        check_len("gradient", gradient.len(), "rows x columns", &[rows, columns])?;
        let counted = batch.counted();
        if counted == 0 {
            gradient.fill(0.0);
            return Ok(0.0);
        }
        let mut total = 0.0;
        refill(row_gradient, columns, 0.0)?;
        for row in 0..rows {
            let to = &mut gradient[row * columns..][..columns];
            let share = if mask.is_some_and(|mask| mask[row] == 0) {
                0.0
            } else {
                f64::from(weights.map_or(1.0, |weights| weights[row])) / counted as f64
            };
            // A row that does not count may hold anything, a NaN too.
            if share == 0.0 {
                to.fill(0.0);
                continue;
            }
            let prediction = &prediction[row * columns..][..columns];
            let target = &target[row * target_columns..][..target_columns];
            total += share * self.of_row(prediction, target, row_gradient)?;
            for (to, from) in to.iter_mut().zip(&*row_gradient) {
                *to = (share * from) as f32;
            }
        }
        Ok(total as f32)
    }

    fn of_row(&self, prediction: &[f32], target: &[f32], gradient: &mut [f64]) -> Result<f64> {
        let columns = prediction.len() as f64;
        let pairs = || prediction.iter().zip(target).map(|(&p, &t)| (f64::from(p), f64::from(t)));
        Ok(match *self {
            Loss::MeanSquaredError => {
                let each = pairs().zip(gradient).map(|((p, t), gradient)| {
                    *gradient = 2.0 * (p - t) / columns;
                    (p - t) * (p - t)
                });
                each.sum::<f64>() / columns
            }
            Loss::BinaryCrossentropy { from_logits: true } => {
                let each = pairs().zip(gradient).map(|((z, t), gradient)| {
                    let e = (-z.abs()).exp();
                    let p = if z >= 0.0 { 1.0 } else { e } / (1.0 + e);
                    *gradient = (p - t) / columns;
                    if z.is_infinite() {
                        // What the target gives no share to costs nothing, however far away it is.
                        return unless_zero(if z > 0.0 { 1.0 - t } else { t }, f64::INFINITY);
                    }
                    // NaN must come out as NaN, and max would drop it.
                    (if z > 0.0 { z } else { z * 0.0 }) - z * t + e.ln_1p()
                });
                each.sum::<f64>() / columns
            }
            Loss::BinaryCrossentropy { from_logits: false } => {
                let each = pairs().zip(gradient).map(|((p, t), gradient)| {
                    let (p, inside) = cut(p);
                    *gradient = inside * ((1.0 - t) / (1.0 - p) - t / p) / columns;
                    -t * p.ln() - (1.0 - t) * (1.0 - p).ln()
                });
                each.sum::<f64>() / columns
            }
            Loss::CategoricalCrossentropy { from_logits: true } => {
                let log_sum = log_sum_exp(prediction);
                let whole: f64 = target.iter().map(|&t| f64::from(t)).sum();
                let each = pairs().zip(gradient).map(|((z, t), gradient)| {
                    *gradient = (z - log_sum).exp() * whole - t;
                    unless_zero(-t, z - log_sum)
                });
                each.sum()
            }
            Loss::CategoricalCrossentropy { from_logits: false } => {
                let sum: f64 = prediction.iter().map(|&p| f64::from(p)).sum();
                let mut loss = 0.0;
                let mut mean = 0.0;
                for ((p, t), gradient) in pairs().zip(gradient.iter_mut()) {
                    let (cut, inside) = cut(p / sum);
                    loss -= t * cut.ln();
                    *gradient = -inside * t / cut;
                    mean += *gradient * p / sum;
                }
                gradient.iter_mut().for_each(|gradient| *gradient = (*gradient - mean) / sum);
                loss
            }
            Loss::SparseCategoricalCrossentropy { from_logits } => {
                let class = class_of(target[0], prediction.len())?;
                if from_logits {
                    let log_sum = log_sum_exp(prediction);
                    for (gradient, &z) in gradient.iter_mut().zip(prediction) {
                        *gradient = (f64::from(z) - log_sum).exp();
                    }
                    gradient[class] -= 1.0;
                    log_sum - f64::from(prediction[class])
                } else {
                    let sum: f64 = prediction.iter().map(|&p| cut(f64::from(p)).0).sum();
                    for (i, (gradient, &p)) in gradient.iter_mut().zip(prediction).enumerate() {
                        let (p, inside) = cut(f64::from(p));
                        *gradient = inside * (1.0 / sum - if i == class { 1.0 / p } else { 0.0 });
                    }
                    sum.ln() - cut(f64::from(prediction[class])).0.ln()
                }
            }
        })
    }
}

/// `share · cost`, and 0 where the share is 0: a class that the target excludes may be excluded by the logits
/// too.
fn unless_zero(share: f64, cost: f64) -> f64 {
    if share == 0.0 && !cost.is_nan() { 0.0 } else { share * cost }
}

/// A probability kept away from 0 and 1, and 1 where nothing was cut off, 0 where it was. NaN stays.
fn cut(p: f64) -> (f64, f64) {
    let kept = p.clamp(LEAST, MOST);
    (kept, if kept == p { 1.0 } else { 0.0 })
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = f64::from(most);
    most + logits.iter().map(|&z| (f64::from(z) - most).exp()).sum::<f64>().ln()
}

/// A class number that comes as a float, as targets do.
pub(super) fn class_of(target: f32, classes: usize) -> Result<usize> {
    let class = target as usize;
    if class as f32 == target && class < classes {
        Ok(class)
    } else {
        Err(Error::InvalidArgument(format!("target {target} is not one of the classes 0..{classes}")))
    }
}
