//! The learning rate as a function of the step.

use crate::error::{Error, Result};

/// How the learning rate goes from step to step: Keras's schedules of the same names. Steps count from 0.
///
/// ```
/// use elman::Schedule;
///
/// let halved = Schedule::Exponential { initial: 0.1, decay_steps: 100, decay_rate: 0.5, staircase: true };
/// assert_eq!((halved.rate(99), halved.rate(100)), (0.1, 0.05));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "files", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "files", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Schedule {
    /// The same rate throughout.
    Constant(f32),
    /// `initial · decay_rate^(step / decay_steps)`; with `staircase` the exponent is rounded down.
    Exponential {
        /// The rate at step 0.
        initial: f32,
        /// Steps for one factor of `decay_rate`.
        decay_steps: u64,
        /// The factor.
        decay_rate: f32,
        /// Whether the rate falls in stairs.
        staircase: bool,
    },
    /// Half a cosine from the highest rate down to `alpha` times it, after an optional straight line up.
    Cosine {
        /// The rate at step 0.
        initial: f32,
        /// Steps of the half cosine.
        decay_steps: u64,
        /// What remains at the end, as a share of the highest rate.
        alpha: f32,
        /// The rate that the warm-up ends at, and its steps.
        warmup: Option<(f32, u64)>,
    },
}

impl Schedule {
    /// The rate at `step`.
    pub fn rate(&self, step: u64) -> f32 {
        let share = |done: u64, of: u64| done as f64 / of as f64;
        let rate = match *self {
            Schedule::Constant(rate) => return rate,
            Schedule::Exponential { initial, decay_steps, decay_rate, staircase } => {
                let exponent = share(step, decay_steps);
                let exponent = if staircase { exponent.floor() } else { exponent };
                f64::from(initial) * f64::from(decay_rate).powf(exponent)
            }
            Schedule::Cosine { initial, decay_steps, alpha, warmup } => {
                let (highest, warmup_steps) = warmup.unwrap_or((initial, 0));
                if step < warmup_steps {
                    let climb = f64::from(highest) - f64::from(initial);
                    climb * share(step, warmup_steps) + f64::from(initial)
                } else {
                    let done = share((step - warmup_steps).min(decay_steps), decay_steps);
                    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
                    let alpha = f64::from(alpha);
                    f64::from(highest) * ((1.0 - alpha) * cosine + alpha)
                }
            }
        };
        rate as f32
    }

    /// Checks the numbers: finite, rates at least zero, counts of steps at least one.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for one outside its range.
    pub fn validate(&self) -> Result<()> {
        let (rates, steps) = match *self {
            Schedule::Constant(rate) => ([rate, 0.0, 0.0], 1),
            Schedule::Exponential { initial, decay_steps, decay_rate, .. } => {
                ([initial, decay_rate, 0.0], decay_steps)
            }
            Schedule::Cosine { initial, decay_steps, alpha, warmup } => {
                ([initial, alpha, warmup.map_or(0.0, |(highest, _)| highest)], decay_steps)
            }
        };
        if let Some(wrong) = rates.into_iter().find(|rate| !rate.is_finite() || *rate < 0.0) {
            return Err(Error::InvalidArgument(format!(
                "the numbers of a learning rate must be finite and at least 0, got {wrong}"
            )));
        }
        if steps == 0 {
            return Err(Error::InvalidArgument("decay_steps must be at least 1, got 0".into()));
        }
        Ok(())
    }
}
