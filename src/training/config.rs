//! How a model is trained.

use super::output::check_output;
use super::{Clipping, Loss, Optimizer, Schedule, Truncation};
use crate::error::{Error, Result};
use crate::sequential::Sequential;

/// How a model is trained: Keras's defaults, until its methods say otherwise.
///
/// ```
/// use elman::{Clipping, Loss, Optimizer, Schedule, TrainerConfig};
///
/// let config = TrainerConfig::new(Optimizer::adam(), Loss::BinaryCrossentropy { from_logits: false })
///     .schedule(Schedule::Constant(2e-3))
///     .clipping(Clipping::GlobalNorm(1.0))
///     .l2(1e-4)
///     .seed(7);
/// assert_eq!(config.l1, 0.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "files", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "files", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct TrainerConfig {
    /// What moves the weights.
    pub optimizer: Optimizer,
    /// The learning rate of each step.
    pub schedule: Schedule,
    /// What is made small.
    pub loss: Loss,
    /// What is done to gradients first.
    pub clipping: Clipping,
    /// `l1 · Σ|w|` over all kernels and recurrent kernels is added to the loss.
    pub l1: f32,
    /// `l2 · Σw²` over all kernels and recurrent kernels is added to the loss.
    pub l2: f32,
    /// Whether only those rows of an embedding move whose tokens a batch holds; Keras moves all, by their
    /// momentum.
    pub lazy_embeddings: bool,
    /// What dropout masks, and the order of rows in `fit`, are drawn from.
    pub seed: u64,
    /// How far gradients run back; `None`: through the whole sequence.
    #[cfg_attr(feature = "files", serde(default, skip_serializing_if = "Option::is_none"))]
    pub truncation: Option<Truncation>,
}

impl TrainerConfig {
    /// Keras's defaults: the optimizer's own constant learning rate, nothing clipped, no penalties.
    pub fn new(optimizer: Optimizer, loss: Loss) -> Self {
        Self {
            optimizer,
            schedule: Schedule::Constant(optimizer.default_rate()),
            loss,
            clipping: Clipping::None,
            l1: 0.0,
            l2: 0.0,
            lazy_embeddings: false,
            seed: 0,
            truncation: None,
        }
    }

    /// Sets [`optimizer`](Self::optimizer), and leaves the schedule as it is.
    pub fn optimizer(mut self, optimizer: Optimizer) -> Self {
        self.optimizer = optimizer;
        self
    }

    /// Sets [`schedule`](Self::schedule).
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Sets [`loss`](Self::loss).
    pub fn loss(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    /// Sets [`clipping`](Self::clipping).
    pub fn clipping(mut self, clipping: Clipping) -> Self {
        self.clipping = clipping;
        self
    }

    /// Sets [`l1`](Self::l1).
    pub fn l1(mut self, factor: f32) -> Self {
        self.l1 = factor;
        self
    }

    /// Sets [`l2`](Self::l2).
    pub fn l2(mut self, factor: f32) -> Self {
        self.l2 = factor;
        self
    }

    /// Sets [`lazy_embeddings`](Self::lazy_embeddings).
    pub fn lazy_embeddings(mut self, yes: bool) -> Self {
        self.lazy_embeddings = yes;
        self
    }

    /// Sets [`seed`](Self::seed).
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets [`truncation`](Self::truncation).
    pub fn truncation(mut self, truncation: impl Into<Option<Truncation>>) -> Self {
        self.truncation = truncation.into();
        self
    }

    pub(super) fn validate(&self, model: &Sequential) -> Result<()> {
        self.optimizer.validate()?;
        self.schedule.validate()?;
        self.clipping.validate()?;
        self.truncation.map_or(Ok(()), |truncation| truncation.validate(model))?;
        check_output(self.loss, model.layers(), model.network("trainer")?.output.features)?;
        match [self.l1, self.l2].into_iter().find(|penalty| !(*penalty >= 0.0 && penalty.is_finite())) {
            Some(wrong) => {
                Err(Error::InvalidArgument(format!("l1 and l2 must be finite and at least 0, got {wrong}")))
            }
            None => Ok(()),
        }
    }
}
