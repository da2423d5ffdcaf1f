//! What is reported of predictions: their loss, and how often they are right.

use super::loss::class_of;
use super::{Batch, Loss};
use crate::error::{Error, Result};
use crate::memory::{check_len, zeros};

/// A loss, and how often the model was right where that can be said.
///
/// What a mask leaves out, and what has weight 0, counts in neither accuracy.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Score {
    /// The mean loss. 0, but for penalties, where a mask leaves out everything.
    pub loss: f32,
    /// The share of right answers: the class of the largest prediction (the first one of several that are
    /// equally large), or a probability on the right side of one half. `None` for the mean squared error; 0
    /// where nothing counts.
    pub accuracy: Option<f32>,
    /// The sum of weight · rightness divided by the sum of the weights, those of classes included: Keras's
    /// `weighted_metrics=["accuracy"]`. [`accuracy`](Self::accuracy) where there are no weights.
    pub weighted_accuracy: Option<f32>,
}

/// The sums that a score is made of; those of several batches add up to one score.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    /// The mean loss times `outputs`.
    pub(super) loss: f64,
    /// Outputs that a mask lets through.
    pub(super) outputs: f64,
    answers: Option<Answers>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    right: f64,
    all: f64,
    weighted: f64,
    weights: f64,
}

impl Tally {
    pub(super) fn new(loss: Loss) -> Self {
        let answers = (loss != Loss::MeanSquaredError).then(Answers::default);
        Self { loss: 0.0, outputs: 0.0, answers }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.loss += other.loss;
        self.outputs += other.outputs;
        if let (Some(all), Some(more)) = (&mut self.answers, other.answers) {
            all.right += more.right;
            all.all += more.all;
            all.weighted += more.weighted;
            all.weights += more.weights;
        }
    }

    pub(super) fn score(&self) -> Score {
        // As Keras's mean of nothing.
        let share = |part: f64, of: f64| if of == 0.0 { 0.0 } else { (part / of) as f32 };
        Score {
            loss: share(self.loss, self.outputs),
            accuracy: self.answers.map(|answers| share(answers.right, answers.all)),
            weighted_accuracy: self.answers.map(|answers| share(answers.weighted, answers.weights)),
        }
    }

    /// Counts the right answers of a batch.
    pub(super) fn count_answers(&mut self, loss: Loss, batch: Batch<'_>) {
        let Some(answers) = &mut self.answers else { return };
        let Batch { prediction, target, columns, weights, mask } = batch;
        for (i, row) in prediction.chunks_exact(columns).enumerate() {
            let weight = weights.map_or(1.0, |weights| f64::from(weights[i]));
            if weight == 0.0 || mask.is_some_and(|mask| mask[i] == 0) {
                continue;
            }
            let right = match loss {
                Loss::MeanSquaredError => 0.0,
                Loss::BinaryCrossentropy { from_logits } => {
                    let threshold = if from_logits { 0.0 } else { 0.5 };
                    let pairs = row.iter().zip(&target[i * columns..]);
                    pairs.filter(|(p, t)| (**p > threshold) == (**t > 0.5)).count() as f64 / columns as f64
                }
                Loss::CategoricalCrossentropy { .. } => {
                    f64::from(largest(row) == largest(&target[i * columns..][..columns]))
                }
                // The loss has refused a target that is no class.
                Loss::SparseCategoricalCrossentropy { .. } => f64::from(largest(row) == target[i] as usize),
            };
            answers.right += right;
            answers.all += 1.0;
            answers.weighted += weight * right;
            answers.weights += weight;
        }
    }
}

/// Where the largest value stands: the first of several, and the first NaN where there is one.
fn largest(row: &[f32]) -> usize {
    let mut at = 0;
    for (i, value) in row.iter().enumerate() {
        if *value > row[at] || (value.is_nan() && !row[at].is_nan()) {
            at = i;
        }
    }
    at
}

/// Each output's weight times its class's, into `to`, which is as long as there are outputs. `batch.weights`
/// are the outputs' own.
pub(super) fn weigh_classes(
    loss: Loss,
    batch: Batch<'_>,
    class_weights: &[f32],
    to: &mut Vec<f32>,
) -> Result<()> {
    let Batch { prediction, target, columns, weights, mask } = batch;
    let classes = match loss {
        Loss::BinaryCrossentropy { .. } if columns == 1 => 2,
        Loss::CategoricalCrossentropy { .. } | Loss::SparseCategoricalCrossentropy { .. } => columns,
        Loss::BinaryCrossentropy { .. } | Loss::MeanSquaredError => {
            return Err(Error::InvalidArgument(format!(
                "class weights need one class for each output, and {loss:?} over {columns} columns has none"
            )));
        }
    };
    check_len("class_weights", class_weights.len(), "classes", &[classes])?;
    let rows = prediction.len() / columns;
    if to.len() < rows {
        *to = zeros(rows)?;
    }
    for (i, to) in to.iter_mut().enumerate().take(rows) {
        let weight = weights.map_or(1.0, |weights| weights[i]);
        // What does not count may have a target that is no class.
        if weight == 0.0 || mask.is_some_and(|mask| mask[i] == 0) {
            *to = 0.0;
            continue;
        }
        let class = match loss {
            Loss::BinaryCrossentropy { .. } => usize::from(target[i] > 0.5),
            Loss::SparseCategoricalCrossentropy { .. } => class_of(target[i], columns)?,
            _ => largest(&target[i * columns..][..columns]),
        };
        *to = weight * class_weights[class];
    }
    Ok(())
}
