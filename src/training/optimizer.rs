//! Optimizers: Keras's formulas and defaults.
//!
//! Each keeps a few floats beside every parameter (its *slots*: momentum, squares, ...), all zero at first. All
//! arithmetic is correctly rounded `f32` in a fixed order, so a run repeats to the same bits anywhere. The bias
//! corrections of Adam are taken in `f64`.

use crate::error::{Error, Result};
use crate::memory::AlignedVec;

/// How gradients move the weights. The learning rate is the [`Schedule`](super::Schedule)'s.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Optimizer {
    /// `w -= rate · g`; with momentum `m = momentum · m - rate · g`, then `w += m`, or with Nesterov's look ahead
    /// `w += momentum · m - rate · g`.
    Sgd {
        /// 0: none.
        momentum: f32,
        /// Whether the gradient is taken as if the momentum had moved the weights already.
        nesterov: bool,
    },
    /// `v = rho · v + (1 - rho) · g²`, then `w -= rate · g / sqrt(v + epsilon)`.
    RmsProp {
        /// How much of the old squares stays.
        rho: f32,
        /// 0: none.
        momentum: f32,
        /// Keeps the divisor from zero.
        epsilon: f32,
        /// Whether the squared mean of the gradients is taken off the squares.
        centered: bool,
    },
    /// `m += (1 - beta_1) · (g - m)`, `v += (1 - beta_2) · (g² - v)`, then
    /// `w -= rate · sqrt(1 - beta_2^t) / (1 - beta_1^t) · m / (sqrt(v) + epsilon)`.
    Adam {
        /// How much of the old mean stays.
        beta_1: f32,
        /// How much of the old squares stays.
        beta_2: f32,
        /// Keeps the divisor from zero.
        epsilon: f32,
        /// Whether the largest `v` so far stands in the divisor.
        amsgrad: bool,
    },
    /// [`Adam`](Self::Adam) after `w -= rate · weight_decay · w`.
    AdamW {
        /// How much of the old mean stays.
        beta_1: f32,
        /// How much of the old squares stays.
        beta_2: f32,
        /// Keeps the divisor from zero.
        epsilon: f32,
        /// Whether the largest `v` so far stands in the divisor.
        amsgrad: bool,
        /// The share that a rate of 1 takes off a weight.
        weight_decay: f32,
    },
}

impl Optimizer {
    /// Plain gradient descent.
    pub fn sgd() -> Self {
        Optimizer::Sgd { momentum: 0.0, nesterov: false }
    }

    /// Keras's RMSprop.
    pub fn rmsprop() -> Self {
        Optimizer::RmsProp { rho: 0.9, momentum: 0.0, epsilon: 1e-7, centered: false }
    }

    /// Keras's Adam.
    pub fn adam() -> Self {
        Optimizer::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, amsgrad: false }
    }

    /// Keras's AdamW.
    pub fn adamw() -> Self {
        Optimizer::AdamW { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, amsgrad: false, weight_decay: 0.004 }
    }

    /// Keras's default learning rate for it.
    pub fn default_rate(&self) -> f32 {
        if matches!(self, Optimizer::Sgd { .. }) { 0.01 } else { 0.001 }
    }

    /// Floats kept beside each parameter.
    fn slots(&self) -> usize {
        match *self {
            Optimizer::Sgd { momentum, .. } => usize::from(momentum > 0.0),
            Optimizer::RmsProp { momentum, centered, .. } => {
                1 + usize::from(momentum > 0.0) + usize::from(centered)
            }
            Optimizer::Adam { amsgrad, .. } | Optimizer::AdamW { amsgrad, .. } => 2 + usize::from(amsgrad),
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for one outside its range.
    pub fn validate(&self) -> Result<()> {
        let (shares, others) = match *self {
            Optimizer::Sgd { momentum, .. } => ([momentum, 0.0], [0.0, 0.0]),
            Optimizer::RmsProp { rho, momentum, epsilon, .. } => ([rho, momentum], [epsilon, 0.0]),
            Optimizer::Adam { beta_1, beta_2, epsilon, .. } => ([beta_1, beta_2], [epsilon, 0.0]),
            Optimizer::AdamW { beta_1, beta_2, epsilon, weight_decay, .. } => {
                ([beta_1, beta_2], [epsilon, weight_decay])
            }
        };
        let share = |share: &f32| !(0.0..=1.0).contains(share);
        if let Some(wrong) = shares.iter().find(|value| share(value)) {
            return Err(Error::InvalidArgument(format!(
                "an optimizer's momentum, rho and betas must be between 0 and 1, got {wrong}"
            )));
        }
        if let Some(wrong) = others.iter().find(|value| !(**value >= 0.0 && value.is_finite())) {
            return Err(Error::InvalidArgument(format!(
                "an optimizer's epsilon and weight decay must be finite and at least 0, got {wrong}"
            )));
        }
        Ok(())
    }
}

/// An optimizer at work: its slots, and how many steps it has taken.
#[derive(Debug)]
pub struct OptimizerState {
    optimizer: Optimizer,
    pub(super) steps: u64,
    pub(super) slots: Vec<AlignedVec>,
}

impl OptimizerState {
    /// For so many parameters, before the first step.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a number outside its range; [`Error::OutOfMemory`].
    pub fn new(optimizer: Optimizer, parameters: usize) -> Result<Self> {
        optimizer.validate()?;
        let slots = (0..optimizer.slots()).map(|_| AlignedVec::zeroed(parameters)).collect::<Result<_>>()?;
        Ok(Self { optimizer, steps: 0, slots })
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Begins a step at this learning rate: every parameter is then to be moved once by [`Step::update`].
    pub fn step(&mut self, rate: f32) -> Step<'_> {
        self.steps += 1;
        let corrected = match self.optimizer {
            Optimizer::Adam { beta_1, beta_2, .. } | Optimizer::AdamW { beta_1, beta_2, .. } => {
                let left = |beta: f32| 1.0 - f64::from(beta).powf(self.steps as f64);
                (f64::from(rate) * left(beta_2).sqrt() / left(beta_1)) as f32
            }
            _ => rate,
        };
        Step { optimizer: self.optimizer, rate, corrected, slots: &mut self.slots }
    }
}

/// One step of an optimizer.
#[derive(Debug)]
pub struct Step<'a> {
    optimizer: Optimizer,
    rate: f32,
    /// Adam's rate with its bias corrections.
    corrected: f32,
    slots: &'a mut [AlignedVec],
}

impl Step<'_> {
    /// Moves `weights`, which are the parameters from number `first` on.
    pub fn update(&mut self, first: usize, weights: &mut [f32], gradient: &[f32]) {
        let (rate, alpha) = (self.rate, self.corrected);
        let mine = first..first + weights.len();
        let mut slots = self.slots.iter_mut().map(|slot| &mut slot[mine.clone()]);
        let mut slot = || slots.next().unwrap_or_default();
        let pairs = weights.iter_mut().zip(gradient);
        match self.optimizer {
            Optimizer::Sgd { momentum, nesterov } => {
                if momentum == 0.0 {
                    pairs.for_each(|(w, &g)| *w -= rate * g);
                } else {
                    for ((w, &g), m) in pairs.zip(slot()) {
                        *m = momentum * *m - rate * g;
                        *w += if nesterov { momentum * *m - rate * g } else { *m };
                    }
                }
            }
            Optimizer::RmsProp { rho, momentum, epsilon, centered } => {
                let squares = slot();
                let mut means = centered.then(&mut slot);
                let mut momenta = (momentum > 0.0).then(&mut slot);
                for (i, ((w, &g), v)) in pairs.zip(squares).enumerate() {
                    *v = rho * *v + (1.0 - rho) * g * g;
                    let mut below = *v + epsilon;
                    if let Some(means) = &mut means {
                        let mean = rho * means[i] + (1.0 - rho) * g;
                        means[i] = mean;
                        below = *v - mean * mean + epsilon;
                    }
                    let mut move_by = rate * g / below.sqrt();
                    if let Some(momenta) = &mut momenta {
                        move_by += momentum * momenta[i];
                        momenta[i] = move_by;
                    }
                    *w -= move_by;
                }
            }
            Optimizer::Adam { beta_1, beta_2, epsilon, amsgrad }
            | Optimizer::AdamW { beta_1, beta_2, epsilon, amsgrad, .. } => {
                let keep = match self.optimizer {
                    Optimizer::AdamW { weight_decay, .. } => 1.0 - weight_decay * rate,
                    _ => 1.0,
                };
                let (one, two) = (1.0 - beta_1, 1.0 - beta_2);
                let (means, squares) = (slot(), slot());
                let each = pairs.zip(means).zip(squares);
                if amsgrad {
                    for ((((w, &g), m), v), most) in each.zip(slot()) {
                        *m += one * (g - *m);
                        *v += two * (g * g - *v);
                        *most = most.max(*v);
                        *w = *w * keep - alpha * *m / (most.sqrt() + epsilon);
                    }
                } else {
                    for (((w, &g), m), v) in each {
                        *m += one * (g - *m);
                        *v += two * (g * g - *v);
                        *w = *w * keep - alpha * *m / (v.sqrt() + epsilon);
                    }
                }
            }
        }
    }
}
