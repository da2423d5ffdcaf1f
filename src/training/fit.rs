//! Epochs: rows in a shuffled order, batch by batch, with a look at rows kept apart.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::{Examples, Score, Trainer};
use crate::error::{Error, Result};
use crate::memory::{List, check_len, refill, zeros};
use crate::sequence::Input;
use crate::sequential::{RunOptions, Sequential};

/// How [`Sequential::fit`] goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Fit<'a> {
    /// Times that every row is seen, at most.
    pub epochs: usize,
    /// Rows a step; the last step of an epoch takes what is left.
    pub batch_size: usize,
    /// Whether rows come in a new order in each epoch, drawn from the trainer's seed.
    pub shuffle: bool,
    /// Rows that are only looked at.
    pub validation: Option<Examples<'a>>,
    /// Ends the training after so many epochs without a smaller loss (on the validation rows where there are any).
    pub patience: Option<usize>,
    /// Whether a line on the standard error shows how far it is, where that is a terminal. Nothing is printed
    /// unasked.
    pub progress: bool,
}

impl Default for Fit<'_> {
    /// Keras's: one epoch, 32 rows a step, shuffled; but no progress line.
    fn default() -> Self {
        Self { epochs: 1, batch_size: 32, shuffle: true, validation: None, patience: None, progress: false }
    }
}

/// What an epoch came to.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    /// Its number, from 0.
    pub number: usize,
    /// The mean over the epoch's steps, with dropout active and weights on the move.
    pub training: Score,
    /// On the rows that are only looked at, after the epoch.
    pub validation: Option<Score>,
    /// Of the steps alone.
    pub took: Duration,
}

impl Sequential {
    /// Trains on `examples` and gives what each epoch came to.
    ///
    /// # Errors
    /// As [`Trainer::step`]; what earlier steps did to the weights stays.
    pub fn fit(&mut self, trainer: &mut Trainer, examples: Examples<'_>, fit: Fit<'_>) -> Result<Vec<Epoch>> {
        self.fit_with(trainer, examples, fit, |_, _, _| true)
    }

    /// [`fit`](Self::fit), calling `after` with the model and the trainer after each epoch: to save a checkpoint, to draw a
    /// curve, or to end the training by `false`.
    ///
    /// # Errors
    /// As [`fit`](Self::fit).
    pub fn fit_with(
        &mut self,
        trainer: &mut Trainer,
        examples: Examples<'_>,
        fit: Fit<'_>,
        mut after: impl FnMut(&Self, &Trainer, &Epoch) -> bool,
    ) -> Result<Vec<Epoch>> {
        let rows = examples.batch;
        if fit.batch_size == 0 || rows == 0 {
            return Err(Error::InvalidArgument(format!(
                "fit needs rows and a batch size of at least 1, got {rows} rows and batch size {}",
                fit.batch_size
            )));
        }
        let mut gatherer = Gatherer::new(self, trainer, examples, fit.batch_size.min(rows))?;
        let mut order = List::collected((0..rows).map(Ok))?;
        let mut history: Vec<Epoch> = Vec::new();
        let (mut best, mut since) = (f32::INFINITY, 0);
        for number in 0..fit.epochs {
            if fit.shuffle {
                // From the steps taken and not from the epoch: a run that was resumed goes on as if it had not stopped.
                shuffle(&mut order, trainer.config().seed, trainer.steps());
            }
            let bar = bar(&fit, number, rows.div_ceil(fit.batch_size) as u64);
            let start = Instant::now();
            let (mut loss, mut right) = (0.0f64, Some(0.0f64));
            for chosen in order.chunks(fit.batch_size) {
                let batch = gatherer.gather(examples, chosen);
                let score = trainer.scored_step(self, batch, RunOptions::default())?;
                loss += f64::from(score.loss) * chosen.len() as f64;
                right = right.zip(score.accuracy).map(|(sum, a)| sum + f64::from(a) * chosen.len() as f64);
                bar.inc(1);
                bar.set_message(format!("loss {:.4}", score.loss));
            }
            let took = start.elapsed();
            bar.finish_and_clear();
            let mean = |sum: f64| (sum / rows as f64) as f32;
            let training = Score { loss: mean(loss), accuracy: right.map(mean) };
            let validation = fit.validation.map(|rows| trainer.evaluate(self, rows)).transpose()?;
            let epoch = Epoch { number, training, validation, took };
            history.push(epoch);
            let watched = validation.unwrap_or(training).loss;
            (best, since) = if watched < best { (watched, 0) } else { (best, since + 1) };
            let go_on = after(self, trainer, &epoch);
            if !go_on || fit.patience.is_some_and(|patience| since >= patience) {
                break;
            }
        }
        Ok(history)
    }
}

/// Copies chosen rows side by side.
struct Gatherer {
    floats: Vec<f32>,
    ids: Vec<i32>,
    target: Vec<f32>,
    weights: Vec<f32>,
    /// Of one row: input, target, weights.
    lens: [usize; 3],
}

impl Gatherer {
    fn new(model: &Sequential, trainer: &Trainer, examples: Examples<'_>, most: usize) -> Result<Self> {
        let Examples { input, batch, steps, target, weights } = examples;
        let output = model.network("fit")?.output;
        let outputs = if output.sequence { steps } else { 1 };
        let columns = trainer.config().loss.target_columns(output.features);
        check_len("target", target.len(), "rows x target", &[batch, outputs, columns])?;
        if let Some(weights) = weights {
            check_len("weights", weights.len(), "rows x outputs", &[batch, outputs])?;
        }
        let lens = [steps * model.input_size(), outputs * columns, outputs];
        let (floats, ids) = match input {
            Input::Floats(x) => {
                check_len("x", x.len(), "rows x steps x features", &[batch, steps, model.input_size()])?;
                (zeros(most * lens[0])?, Vec::new())
            }
            Input::Tokens(ids) => {
                check_len("ids", ids.len(), "rows x steps", &[batch, steps])?;
                let mut chosen = Vec::new();
                refill(&mut chosen, most * lens[0], 0)?;
                (Vec::new(), chosen)
            }
        };
        Ok(Self { floats, ids, target: zeros(most * lens[1])?, weights: zeros(most * lens[2])?, lens })
    }

    fn gather<'a>(&'a mut self, from: Examples<'_>, rows: &[usize]) -> Examples<'a> {
        let [input, target, outputs] = self.lens;
        copy_rows(&mut self.target, from.target, target, rows);
        if let Some(weights) = from.weights {
            copy_rows(&mut self.weights, weights, outputs, rows);
        }
        Examples {
            input: match from.input {
                Input::Floats(x) => {
                    copy_rows(&mut self.floats, x, input, rows);
                    Input::Floats(&self.floats[..rows.len() * input])
                }
                Input::Tokens(ids) => {
                    copy_rows(&mut self.ids, ids, input, rows);
                    Input::Tokens(&self.ids[..rows.len() * input])
                }
            },
            batch: rows.len(),
            steps: from.steps,
            target: &self.target[..rows.len() * target],
            weights: from.weights.map(|_| &self.weights[..rows.len() * outputs]),
        }
    }
}

fn copy_rows<T: Copy>(to: &mut [T], from: &[T], len: usize, rows: &[usize]) {
    for (to, &row) in to.chunks_exact_mut(len).zip(rows) {
        to.copy_from_slice(&from[row * len..][..len]);
    }
}

/// Fisher and Yates's shuffle of the rows' own order.
fn shuffle(order: &mut [usize], seed: u64, steps: u64) {
    order.iter_mut().enumerate().for_each(|(i, row)| *row = i);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // Dropout has the low streams.
    random.set_stream(!steps);
    for i in (1..order.len()).rev() {
        // The high half of the product: even to one part in 2^64 / len.
        let other = (u128::from(random.next_u64()) * (i as u128 + 1)) >> 64;
        order.swap(i, other as usize);
    }
}

fn bar(fit: &Fit<'_>, number: usize, steps: u64) -> ProgressBar {
    if !fit.progress {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {msg} {eta}") {
        bar.set_style(style);
    }
    bar.set_prefix(format!("epoch {}/{}", number + 1, fit.epochs));
    bar
}
