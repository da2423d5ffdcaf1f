//! Optimizers: Keras's formulas and defaults.
//!
//! Each keeps a few floats beside every parameter (its *slots*: momentum, squares, ...), all zero at first.
//! All arithmetic is correctly rounded `f32` in a fixed order, so a run repeats to the same bits anywhere.
//! The bias corrections of Adam are taken in `f64`.

use crate::error::{Error, Result};
use crate::memory::AlignedVec;

/// How gradients move the weights. The learning rate is the [`Schedule`](super::Schedule)'s.
///
/// ```
/// use elman::Optimizer;
///
/// let with_momentum = Optimizer::Sgd { momentum: 0.9, nesterov: true };
/// assert!(with_momentum.validate().is_ok());
/// assert_eq!(Optimizer::adam().default_rate(), 0.001);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "files", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "files", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Optimizer {
    /// `w -= rate · g`; with momentum `m = momentum · m - rate · g`, then `w += m`, or with Nesterov's look
    /// ahead `w += momentum · m - rate · g`.
    Sgd {
        /// 0: none.
        momentum: f32,
        /// Whether the gradient is taken as if the momentum had moved the weights already.
        nesterov: bool,
    },
    /// `v = rho · v + (1 - rho) · g²`, then `w -= rate · g / sqrt(v + epsilon)`.
    RmsProp {
        /// How much of the old squares stays; below 1.
        rho: f32,
        /// 0: none.
        momentum: f32,
        /// Keeps the divisor from zero; above 0.
        epsilon: f32,
        /// Whether the squared mean of the gradients is taken off the squares.
        centered: bool,
    },
    /// `m += (1 - beta_1) · (g - m)`, `v += (1 - beta_2) · (g² - v)`, then
    /// `w -= rate · sqrt(1 - beta_2^t) / (1 - beta_1^t) · m / (sqrt(v) + epsilon)`.
    Adam {
        /// How much of the old mean stays; below 1.
        beta_1: f32,
        /// How much of the old squares stays; below 1.
        beta_2: f32,
        /// Keeps the divisor from zero; above 0.
        epsilon: f32,
        /// Whether the largest `v` so far stands in the divisor.
        amsgrad: bool,
    },
    /// [`Adam`](Self::Adam) after `w -= rate · weight_decay · w`.
    AdamW {
        /// How much of the old mean stays; below 1.
        beta_1: f32,
        /// How much of the old squares stays; below 1.
        beta_2: f32,
        /// Keeps the divisor from zero; above 0.
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

    /// Whether a slot holds squares.
    fn has_squares(&self, slot: usize) -> bool {
        match self {
            Optimizer::Sgd { .. } => false,
            Optimizer::RmsProp { .. } => slot == 0,
            Optimizer::Adam { .. } | Optimizer::AdamW { .. } => slot > 0,
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for one outside its range.
    pub fn validate(&self) -> Result<()> {
        let within = |what: &str, value: f32, fine: bool, range: &str| match fine {
            true => Ok(()),
            false => {
                Err(Error::InvalidArgument(format!("an optimizer's {what} must be {range}, got {value}")))
            }
        };
        let momentum_fits = |momentum: f32| {
            within("momentum", momentum, (0.0..=1.0).contains(&momentum), "between 0 and 1, both allowed")
        };
        // A mean that keeps all of the old and nothing of the new stays 0, and its bias correction divides by
        // 0.
        let keeps = |what, share: f32| {
            within(what, share, (0.0..1.0).contains(&share), "between 0 and 1, and below 1")
        };
        // A weight whose gradients have all been 0 is divided 0 by the root of 0 otherwise.
        let divisor_fits = |epsilon: f32| {
            within("epsilon", epsilon, epsilon > 0.0 && epsilon.is_finite(), "finite and above 0")
        };
        match *self {
            Optimizer::Sgd { momentum, .. } => momentum_fits(momentum),
            Optimizer::RmsProp { rho, momentum, epsilon, .. } => {
                keeps("rho", rho)?;
                momentum_fits(momentum)?;
                divisor_fits(epsilon)
            }
            Optimizer::Adam { beta_1, beta_2, epsilon, .. } => {
                keeps("beta_1", beta_1)?;
                keeps("beta_2", beta_2)?;
                divisor_fits(epsilon)
            }
            Optimizer::AdamW { beta_1, beta_2, epsilon, amsgrad, weight_decay } => {
                Optimizer::Adam { beta_1, beta_2, epsilon, amsgrad }.validate()?;
                let fits = weight_decay >= 0.0 && weight_decay.is_finite();
                within("weight decay", weight_decay, fits, "finite and at least 0")
            }
        }
    }
}

/// An optimizer at work: its slots, and how many steps it has taken.
///
/// ```
/// use elman::{Optimizer, OptimizerState};
///
/// # fn main() -> Result<(), elman::Error> {
/// let (mut weights, gradient) = ([1.0, 2.0], [0.5, -0.5]);
/// let mut state = OptimizerState::new(Optimizer::sgd(), 2)?;
/// state.step(0.5).update(0, &mut weights, &gradient);
/// assert_eq!(weights, [0.75, 2.25]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct OptimizerState {
    optimizer: Optimizer,
    pub(super) steps: u64,
    pub(super) slots: Vec<AlignedVec>,
    /// No value of a slot is larger than this; infinite where that is not known.
    bounds: [f64; SLOTS],
}

/// The most slots that an optimizer has.
pub(super) const SLOTS: usize = 3;

/// So large may a weight or a slot become without being looked at: far enough below the largest `f32` that
/// the sums on the way are finite too.
const SAFE: f64 = 1e37;

impl OptimizerState {
    /// For so many parameters, before the first step.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a number outside its range; [`Error::OutOfMemory`].
    pub fn new(optimizer: Optimizer, parameters: usize) -> Result<Self> {
        optimizer.validate()?;
        let slots = (0..optimizer.slots()).map(|_| AlignedVec::zeroed(parameters)).collect::<Result<_>>()?;
        Ok(Self { optimizer, steps: 0, slots, bounds: [0.0; SLOTS] })
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Begins a step at this learning rate: every parameter is then to be moved once by [`Step::update`].
    pub fn step(&mut self, rate: f32) -> Step<'_> {
        let rule = self.rule(rate);
        self.steps = self.steps.saturating_add(1);
        // Nobody has looked at what comes.
        self.bounds = [f64::INFINITY; SLOTS];
        Step { rule, slots: &mut self.slots }
    }

    /// How the next step moves a parameter at this learning rate.
    pub(super) fn rule(&self, rate: f32) -> Rule {
        let step = self.steps.saturating_add(1);
        let corrected = match self.optimizer {
            Optimizer::Adam { beta_1, beta_2, .. } | Optimizer::AdamW { beta_1, beta_2, .. } => {
                let left = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
                (f64::from(rate) * left(beta_2).sqrt() / left(beta_1)) as f32
            }
            _ => rate,
        };
        Rule { optimizer: self.optimizer, rate, corrected, decays: true }
    }

    /// Goes on after so many steps, with other slots, which are to be filled in.
    pub(super) fn resume(&mut self, steps: u64) -> &mut [AlignedVec] {
        self.steps = steps;
        self.bounds = [f64::INFINITY; SLOTS];
        &mut self.slots
    }

    /// The first value of a slot that no step leaves there, with the slot and its place: one that is not finite, or a mean of
    /// squares below 0, whose root would be NaN.
    pub(super) fn impossible(&self) -> Option<(usize, usize, f32)> {
        let fits =
            |slot, value: f32| value.is_finite() && (value >= 0.0 || !self.optimizer.has_squares(slot));
        self.slots.iter().enumerate().find_map(|(slot, values)| {
            let at = values.iter().position(|&value| !fits(slot, value))?;
            Some((slot, at, values[at]))
        })
    }

    /// What no slot exceeds after the next step, if no gradient exceeds `gradient` and no weight `weight`:
    /// nothing where a weight or a slot might not be finite then.
    pub(super) fn bounds_after(&self, rule: &Rule, gradient: f64, weight: f64) -> Option<[f64; SLOTS]> {
        let (bounds, weight) = rule.bounds(gradient, weight, self.bounds);
        let safe = |bound: f64| bound < SAFE;
        (safe(weight) && bounds.into_iter().all(safe)).then_some(bounds)
    }

    /// What no slot exceeds now.
    pub(super) fn largest(&self) -> [f64; SLOTS] {
        let mut bounds = [0.0; SLOTS];
        for (bound, slot) in bounds.iter_mut().zip(&self.slots) {
            let largest = f64::from(largest_magnitude(slot));
            *bound = if largest.is_nan() { f64::INFINITY } else { largest };
        }
        bounds
    }

    /// Whether `rule` leaves all of these weights and their slots finite, or infinite as they were. Nothing
    /// is moved. `weights` are the parameters from number `first` on; `bounds` grow to what the slots would
    /// hold.
    pub(super) fn try_update(
        &self,
        rule: &Rule,
        first: usize,
        (weights, gradient): (&[f32], &[f32]),
        bounds: &mut [f64; SLOTS],
    ) -> bool {
        /// Parameters at a time: so few that the copies stay in the first cache.
        const CHUNK: usize = 512;
        let mut moved = [0.0; CHUNK];
        let mut copies = [[0.0; CHUNK]; SLOTS];
        let chunks = weights.chunks(CHUNK).zip(gradient.chunks(CHUNK));
        for (i, (weights, gradient)) in chunks.enumerate() {
            let first = first + i * CHUNK;
            let moved = &mut moved[..weights.len()];
            moved.copy_from_slice(weights);
            for (copy, slot) in copies.iter_mut().zip(&self.slots) {
                copy[..weights.len()].copy_from_slice(&slot[first..first + weights.len()]);
            }
            rule.apply(moved, gradient, copies.iter_mut().map(|copy| &mut copy[..weights.len()]));
            // A weight of minus infinity that excludes a class stays what it is.
            let fine = |(new, old): (&f32, &f32)| new.is_finite() || new == old;
            if !moved.iter().zip(weights).all(fine) {
                return false;
            }
            for ((copy, bound), _) in copies.iter().zip(&mut *bounds).zip(&self.slots) {
                let largest = largest_magnitude(&copy[..weights.len()]);
                if !largest.is_finite() {
                    return false;
                }
                *bound = bound.max(f64::from(largest));
            }
        }
        true
    }

    /// Takes the step that `rule` is of: `moves` moves parameters by it. Slots stay within `bounds`.
    pub(super) fn take<T>(
        &mut self,
        rule: Rule,
        bounds: [f64; SLOTS],
        moves: impl FnOnce(Step<'_>) -> Result<T>,
    ) -> Result<T> {
        let outcome = moves(Step { rule, slots: &mut self.slots })?;
        self.steps = self.steps.saturating_add(1);
        self.bounds = bounds;
        Ok(outcome)
    }
}

/// The largest magnitude; not finite where any value is not.
pub(super) fn largest_magnitude(values: &[f32]) -> f32 {
    // Without their signs, floats are ordered as integers, NaN behind infinity; integers are compared many at
    // once.
    let bits = values.iter().fold(0i32, |most, value| most.max(value.abs().to_bits() as i32));
    f32::from_bits(bits as u32)
}

/// How one step of an optimizer moves a parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    optimizer: Optimizer,
    rate: f32,
    /// Adam's rate with its bias corrections.
    corrected: f32,
    /// Whether weight decay acts.
    decays: bool,
}

/// One step of an optimizer.
#[derive(Debug)]
pub struct Step<'a> {
    rule: Rule,
    slots: &'a mut [AlignedVec],
}

impl Step<'_> {
    /// Moves `weights`, which are the parameters from number `first` on.
    ///
    /// Numbers too large for `f32` make weights or slots infinite or NaN, which is not looked for here.
    pub fn update(&mut self, first: usize, weights: &mut [f32], gradient: &[f32]) {
        self.update_by(self.rule, first, weights, gradient);
    }

    pub(super) fn update_by(&mut self, rule: Rule, first: usize, weights: &mut [f32], gradient: &[f32]) {
        let mine = first..first + weights.len();
        rule.apply(weights, gradient, self.slots.iter_mut().map(|slot| &mut slot[mine.clone()]));
    }
}

impl Rule {
    /// The same, with or without weight decay.
    pub(super) fn decaying(self, decays: bool) -> Self {
        Self { decays, ..self }
    }

    /// What weights are multiplied by first.
    fn keeps(&self) -> f32 {
        match self.optimizer {
            Optimizer::AdamW { weight_decay, .. } if self.decays => 1.0 - weight_decay * self.rate,
            _ => 1.0,
        }
    }

    /// What no slot and no weight exceeds after [`apply`](Self::apply), if none exceeded these before.
    fn bounds(&self, gradient: f64, weight: f64, slots: [f64; SLOTS]) -> ([f64; SLOTS], f64) {
        /// More than roundings can add in a step.
        const SLACK: f64 = 1.0 + 1e-6;
        let step = f64::from(self.rate.abs()) * gradient;
        let (slots, weight) = match self.optimizer {
            Optimizer::Sgd { momentum, .. } => {
                let moved = f64::from(momentum) * slots[0] + step;
                ([moved, 0.0, 0.0], weight + moved + step)
            }
            Optimizer::RmsProp { momentum, epsilon, centered, .. } => {
                let squares = slots[0].max(gradient * gradient);
                let step = step / f64::from(epsilon).sqrt();
                let (mean, before) =
                    if centered { (slots[1].max(gradient), slots[2]) } else { (0.0, slots[1]) };
                let moved = f64::from(momentum) * before + step;
                let slots = if centered { [squares, mean, moved] } else { [squares, moved, 0.0] };
                // The mean's square is taken off the squares.
                (slots, weight + moved + mean * mean)
            }
            Optimizer::Adam { epsilon, .. } | Optimizer::AdamW { epsilon, .. } => {
                let mean = slots[0].max(gradient);
                let squares = slots[1].max(gradient * gradient);
                let moved = f64::from(self.corrected.abs()) * mean / f64::from(epsilon);
                let kept = weight * f64::from(self.keeps().abs()).max(1.0);
                ([mean, squares, slots[2].max(squares)], kept + moved)
            }
        };
        (slots.map(|bound| bound * SLACK), weight * SLACK)
    }

    /// Moves `weights`. `slots` are as long.
    fn apply<'a>(
        &self,
        weights: &mut [f32],
        gradient: &[f32],
        mut slots: impl Iterator<Item = &'a mut [f32]>,
    ) {
        let (rate, alpha) = (self.rate, self.corrected);
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
                        // Roundings can make the variance of a constant gradient negative.
                        below = (*v - mean * mean).max(0.0) + epsilon;
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
                let keep = self.keeps();
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
