//! Epochs: rows in a shuffled order, batch by batch, with a look at rows kept apart.

use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::evaluate::each_block;
use super::examples::Rows;
use super::progress::Line;
use super::score::Tally;
use super::{Examples, Score, Trainer};
use crate::error::{Error, Result};
use crate::memory::{refill, zeros};
use crate::sequence::Input;
use crate::sequential::{RunOptions, Sequential};

/// How [`Sequential::fit`] goes about it: Keras's defaults, until its methods say otherwise.
///
/// ```
/// use elman::Fit;
///
/// let fit = Fit::default().epochs(20).batch_size(16).patience(3);
/// assert!(fit.shuffle && fit.validation.is_none());
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Fit<'a> {
    /// Times that every row is seen, at most.
    pub epochs: usize,
    /// Rows a step; the last step of an epoch takes what is left. With stateful layers it must divide the
    /// rows.
    pub batch_size: usize,
    /// Whether rows come in a new order in each epoch, drawn from the trainer's seed. Stateful layers go on
    /// from row to row of one batch after the other, and want `false`, as in Keras.
    pub shuffle: bool,
    /// Rows that are only looked at.
    pub validation: Option<Examples<'a>>,
    /// Ends the training after so many epochs without a smaller loss (on the validation rows where there are
    /// any).
    pub patience: Option<usize>,
    /// Whether a line on the standard error shows how far it is, where that is a terminal and the crate has the feature
    /// `progress`.
    pub progress: bool,
}

impl Default for Fit<'_> {
    /// Keras's: one epoch, 32 rows a step, shuffled; and nothing printed.
    fn default() -> Self {
        Self { epochs: 1, batch_size: 32, shuffle: true, validation: None, patience: None, progress: false }
    }
}

impl<'a> Fit<'a> {
    /// Sets [`epochs`](Self::epochs).
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.epochs = epochs;
        self
    }

    /// Sets [`batch_size`](Self::batch_size).
    pub fn batch_size(mut self, rows: usize) -> Self {
        self.batch_size = rows;
        self
    }

    /// Sets [`shuffle`](Self::shuffle).
    pub fn shuffle(mut self, yes: bool) -> Self {
        self.shuffle = yes;
        self
    }

    /// Sets [`validation`](Self::validation).
    pub fn validation(mut self, rows: impl Into<Option<Examples<'a>>>) -> Self {
        self.validation = rows.into();
        self
    }

    /// Sets [`patience`](Self::patience).
    pub fn patience(mut self, epochs: impl Into<Option<usize>>) -> Self {
        self.patience = epochs.into();
        self
    }

    /// Sets [`progress`](Self::progress).
    pub fn progress(mut self, yes: bool) -> Self {
        self.progress = yes;
        self
    }
}

/// What an epoch came to.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Epoch {
    /// Its number, from 0.
    pub number: usize,
    /// With dropout active and weights on the move: the loss is the mean over the rows of what their steps
    /// had, accuracies are over all outputs that count.
    pub training: Score,
    /// On the rows that are only looked at, after the epoch.
    pub validation: Option<Score>,
    /// Of the steps alone.
    pub took: Duration,
}

/// What a step of [`Fitting`] came to.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct BatchEnd {
    /// The epoch's number, from 0.
    pub epoch: usize,
    /// The batch's number in its epoch, from 0.
    pub number: usize,
    /// Batches of an epoch.
    pub batches: usize,
    /// The batch's, before the weights moved.
    pub score: Score,
}

/// What [`Fitting::advance`] has done.
#[derive(Clone, Copy, Debug)]
pub enum Advance {
    /// A step.
    Batch(BatchEnd),
    /// The last step of an epoch, told of before, and the look at the validation rows.
    Epoch(Epoch),
    /// Nothing: it is over.
    Done,
}

impl Sequential {
    /// Trains on `examples` and gives what each epoch came to.
    ///
    /// # Errors
    /// As [`Trainer::step`]; what earlier steps did to the weights stays.
    pub fn fit(&mut self, trainer: &mut Trainer, examples: Examples<'_>, fit: Fit<'_>) -> Result<Vec<Epoch>> {
        self.fit_with(trainer, examples, fit, |_, _, _| true)
    }

    /// [`fit`](Self::fit), calling `after` with the model and the trainer after each epoch: to save a
    /// checkpoint, to draw a curve, or to end the training by `false`. [`Fitting`] is the same loop in your
    /// own hands.
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
        let mut history: Vec<Epoch> = Vec::new();
        let mut fitting = Fitting::new(self, trainer, examples, fit)?;
        let mut line = Line::default();
        loop {
            match fitting.advance(self, trainer)? {
                Advance::Batch(end) if fit.progress => line.step(&end, fit.epochs),
                Advance::Batch(_) => {}
                Advance::Epoch(epoch) => {
                    line.end();
                    history.push(epoch);
                    if !after(self, trainer, &epoch) {
                        fitting.stop();
                    }
                }
                Advance::Done => return Ok(history),
            }
        }
    }
}

/// [`Sequential::fit`] step by step, for what has to happen between the steps: other learning rates, frozen
/// layers, an end in the middle of an epoch.
///
/// ```
/// use elman::{Advance, Dense, Examples, Fit, Fitting, Loss, Optimizer, Sequential, SimpleRnn, Trainer, TrainerConfig};
///
/// # fn main() -> Result<(), elman::Error> {
/// let mut net = Sequential::new(3).add(SimpleRnn::new(8)).add(Dense::new(1)).build(1)?;
/// let mut trainer = Trainer::new(&net, TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError))?;
/// let (x, target) = (vec![0.5; 40 * 10 * 3], vec![1.0; 40]);
/// let examples = Examples::new(&x, 40, 10, &target);
/// let mut fitting = Fitting::new(&net, &trainer, examples, Fit::default().epochs(3))?;
/// loop {
///     match fitting.advance(&mut net, &mut trainer)? {
///         Advance::Batch(_) => {}
///         Advance::Epoch(_) => trainer.set_learning_rate(trainer.learning_rate() * 0.5)?,
///         Advance::Done => break,
///     }
/// }
/// assert_eq!(trainer.steps(), 6);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Fitting<'a> {
    examples: Examples<'a>,
    fit: Fit<'a>,
    gatherer: Gatherer,
    /// Of the validation rows, where they come batch by batch.
    looker: Option<Gatherer>,
    order: Vec<usize>,
    epoch: usize,
    /// Rows seen of this epoch.
    at: usize,
    /// Losses times rows.
    loss: f64,
    tally: Tally,
    took: Duration,
    best: f32,
    since: usize,
    stopped: bool,
}

impl<'a> Fitting<'a> {
    /// Before the first step. `fit.progress` is not looked at.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for no rows, a batch size of 0, or one that does not divide the rows of a
    /// model with stateful layers; [`Error::LengthMismatch`]; [`Error::NotBuilt`]; [`Error::OutOfMemory`].
    pub fn new(model: &Sequential, trainer: &Trainer, examples: Examples<'a>, fit: Fit<'a>) -> Result<Self> {
        let rows = examples.batch;
        if fit.batch_size == 0 || rows == 0 {
            return Err(Error::InvalidArgument(format!(
                "fit needs rows and a batch size of at least 1, got {rows} rows and batch size {}",
                fit.batch_size
            )));
        }
        let stateful = model.is_stateful();
        for (what, rows) in [("rows", Some(rows)), ("validation rows", fit.validation.map(|rows| rows.batch))]
        {
            if let Some(rows) = rows.filter(|rows| stateful && rows % fit.batch_size != 0) {
                return Err(Error::InvalidArgument(format!(
                    "stateful layers need batches of one size: {rows} {what} are no multiple of {}",
                    fit.batch_size
                )));
            }
        }
        let gatherer = |of: Examples<'_>| Gatherer::new(model, trainer, of, fit.batch_size.min(of.batch));
        let validation = fit.validation.filter(|_| stateful);
        Ok(Self {
            examples,
            fit,
            gatherer: gatherer(examples)?,
            looker: validation.map(gatherer).transpose()?,
            order: numbered(rows)?,
            epoch: 0,
            at: 0,
            loss: 0.0,
            tally: Tally::new(trainer.config().loss),
            took: Duration::ZERO,
            best: f32::INFINITY,
            since: 0,
            stopped: false,
        })
    }

    /// Takes the next step, or ends an epoch. `model` and `trainer` are those that it was made for.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn advance(&mut self, model: &mut Sequential, trainer: &mut Trainer) -> Result<Advance> {
        if self.stopped || self.epoch >= self.fit.epochs {
            return Ok(Advance::Done);
        }
        let rows = self.examples.batch;
        if self.at == rows {
            return self.end_epoch(model, trainer).map(Advance::Epoch);
        }
        if self.at == 0 && self.fit.shuffle {
            // From the steps taken and not from the epoch: a run that was resumed goes on as if it had not
            // stopped.
            shuffle(&mut self.order, trainer.config().seed, trainer.steps());
        }
        let start = Instant::now();
        let next = self.at.saturating_add(self.fit.batch_size).min(rows);
        let chosen = &self.order[self.at..next];
        let batch = self.gatherer.gather(model, self.examples, chosen)?;
        let (score, tally) = trainer.tallied_step(model, batch, RunOptions::default())?;
        self.took += start.elapsed();
        self.loss += f64::from(score.loss) * chosen.len() as f64;
        self.tally.add(tally);
        let number = self.at / self.fit.batch_size;
        self.at = next;
        let batches = rows.div_ceil(self.fit.batch_size);
        Ok(Advance::Batch(BatchEnd { epoch: self.epoch, number, batches, score }))
    }

    /// Has [`advance`](Self::advance) do nothing more.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    fn end_epoch(&mut self, model: &Sequential, trainer: &Trainer) -> Result<Epoch> {
        let validation = self.fit.validation.map(|rows| match &mut self.looker {
            None => trainer.evaluate(model, rows),
            Some(looker) => look(model, trainer, rows, (looker, self.fit.batch_size)),
        });
        let validation = validation.transpose()?;
        let loss = (self.loss / self.examples.batch as f64) as f32;
        let training = Score { loss, ..self.tally.score() };
        let epoch = Epoch { number: self.epoch, training, validation, took: self.took };
        let watched = validation.unwrap_or(training).loss;
        (self.best, self.since) =
            if watched < self.best { (watched, 0) } else { (self.best, self.since + 1) };
        self.stopped |= self.fit.patience.is_some_and(|patience| self.since >= patience);
        (self.epoch, self.at, self.loss) = (self.epoch + 1, 0, 0.0);
        (self.tally, self.took) = (Tally::new(trainer.config().loss), Duration::ZERO);
        Ok(epoch)
    }
}

/// Evaluates batch by batch, each going on from the states of the one before.
fn look(
    model: &Sequential,
    trainer: &Trainer,
    rows: Examples<'_>,
    (gatherer, batch_size): (&mut Gatherer, usize),
) -> Result<Score> {
    let mut tally = Tally::new(trainer.config().loss);
    for chosen in numbered(rows.batch)?.chunks(batch_size) {
        let batch = gatherer.gather(model, rows, chosen)?;
        tally.add(trainer.tally(model, batch, RunOptions::default())?);
    }
    let mut score = tally.score();
    score.loss += trainer.penalty(model.network("fit")?);
    Ok(score)
}

/// Copies chosen rows side by side.
#[derive(Debug)]
struct Gatherer {
    floats: Vec<f32>,
    ids: Vec<i32>,
    target: Vec<f32>,
    weights: Vec<f32>,
    mask: Vec<u8>,
    lengths: Vec<usize>,
    states: Vec<f32>,
    /// Of one row: input, target, weights.
    lens: [usize; 3],
}

impl Gatherer {
    fn new(model: &Sequential, trainer: &Trainer, examples: Examples<'_>, most: usize) -> Result<Self> {
        let Examples { input, batch, steps, weights, .. } = examples;
        let output = model.network("fit")?.output;
        let outputs = if output.sequence { steps } else { 1 };
        let len = model.checked_output(input, batch, steps)?;
        trainer.check_targets(model, examples, len)?;
        model.check_options(batch, steps, &examples.options_with(RunOptions::default())?)?;
        let columns = trainer.config().loss.target_columns(output.features);
        let features = if matches!(input, Input::Tokens(_)) { 1 } else { model.input_size() };
        let lens = [steps * features, outputs * columns, outputs];
        let (floats, ids) = match input {
            Input::Floats(_) => (zeros(most * lens[0])?, Vec::new()),
            Input::Tokens(_) => (Vec::new(), filled(most * lens[0])?),
        };
        let Rows { mask, lengths, initial_state, .. } = examples.rows;
        let len_if = |given: bool, len: usize| if given { most * len } else { 0 };
        Ok(Self {
            floats,
            ids,
            target: zeros(most * lens[1])?,
            weights: zeros(len_if(weights.is_some(), lens[2]))?,
            mask: filled(len_if(mask.is_some(), steps))?,
            lengths: filled(len_if(lengths.is_some(), 1))?,
            states: zeros(if initial_state.is_some() { model.state_len(most)? } else { 0 })?,
            lens,
        })
    }

    fn gather<'a>(
        &'a mut self,
        model: &Sequential,
        from: Examples<'a>,
        rows: &[usize],
    ) -> Result<Examples<'a>> {
        let [input, target, outputs] = self.lens;
        let Rows { mask, lengths, padding, initial_state } = from.rows;
        copy_rows(&mut self.target, from.target, target, rows);
        if let Some(weights) = from.weights {
            copy_rows(&mut self.weights, weights, outputs, rows);
        }
        if let Some(mask) = mask {
            copy_rows(&mut self.mask, mask, from.steps, rows);
        }
        if let Some(lengths) = lengths {
            copy_rows(&mut self.lengths, lengths, 1, rows);
        }
        let states = match initial_state {
            None => 0,
            Some(all) => {
                let network = model.network("fit")?;
                for (i, &row) in rows.iter().enumerate() {
                    each_block(network, from.batch, &(row..row + 1), |whole, part| {
                        let units = part.len();
                        let to = part.start * rows.len() + i * units;
                        self.states[to..to + units].copy_from_slice(&all[whole]);
                    });
                }
                model.state_len(rows.len())?
            }
        };
        Ok(Examples {
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
            target: &self.target[..rows.len() * target],
            weights: from.weights.map(|_| &self.weights[..rows.len() * outputs]),
            rows: Rows {
                mask: mask.map(|_| &self.mask[..rows.len() * from.steps]),
                lengths: lengths.map(|_| &self.lengths[..rows.len()]),
                padding,
                initial_state: initial_state.map(|_| &self.states[..states]),
            },
            ..from
        })
    }
}

/// The numbers of so many rows.
fn numbered(rows: usize) -> Result<Vec<usize>> {
    let mut order = filled(rows)?;
    order.iter_mut().enumerate().for_each(|(i, row)| *row = i);
    Ok(order)
}

fn filled<T: Copy + Default>(len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    refill(&mut values, len, T::default())?;
    Ok(values)
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
