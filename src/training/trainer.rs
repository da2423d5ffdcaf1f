//! The training step: forward, loss, backward, clipping, and the weights moved, or nothing changed at all.

use super::loss::no_row;
use super::truncation::Walk;
use super::{Batch, Clipping, Loss, Optimizer, OptimizerState, Schedule, Truncation};
use crate::error::{Error, Result};
use crate::layers::{Activation, Bidirectional, Layer, MergeMode, Weight};
use crate::memory::{AlignedVec, check_len, refill, zeros};
use crate::sequence::{self, Input, Mode, Network, Threads, clip_factor, scale, sum_of_squares};
use crate::sequential::{Padding, RunOptions, Sequential};

/// How a model is trained.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// Whether only those rows of an embedding move whose tokens a batch holds; Keras moves all, by their momentum.
    pub lazy_embeddings: bool,
    /// What dropout masks, and the order of rows in `fit`, are drawn from.
    pub seed: u64,
    /// How far gradients run back; `None`: through the whole sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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

    fn validate(&self, model: &Sequential) -> Result<()> {
        self.optimizer.validate()?;
        self.schedule.validate()?;
        self.clipping.validate()?;
        self.truncation.map_or(Ok(()), |truncation| truncation.validate(model))?;
        match [self.l1, self.l2].into_iter().find(|penalty| !(*penalty >= 0.0 && penalty.is_finite())) {
            Some(wrong) => {
                Err(Error::InvalidArgument(format!("l1 and l2 must be finite and at least 0, got {wrong}")))
            }
            None => Ok(()),
        }
    }
}

/// Trains a model batch by batch. It keeps the optimizer's state and the buffers of a [`Tape`](crate::Tape); the model is
/// handed to each step.
///
/// A step either does all of its work or changes nothing: a NaN or an infinity in the loss or in a gradient is
/// [`Error::NotFinite`], and weights and optimizer are as before.
///
/// Long sequences are trained on in pieces by [`Truncation`]; or by hand, where they do not come whole: a step for each
/// piece, whose [`RunOptions::final_state`] is the next one's `initial_state`.
///
/// ```
/// use elman::{Dense, Examples, Loss, Optimizer, Sequential, SimpleRnn, Trainer, TrainerConfig};
///
/// # fn main() -> Result<(), elman::Error> {
/// let mut net = Sequential::new(3).add(SimpleRnn::new(8)).add(Dense::new(1)).build(1)?;
/// let mut trainer = Trainer::new(&net, TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError))?;
/// let (x, target) = (vec![0.5; 4 * 10 * 3], vec![1.0; 4]);
/// let examples = Examples::floats(&x, 4, 10, &target);
/// let first = trainer.step(&mut net, examples, Default::default())?;
/// for _ in 0..50 {
///     trainer.step(&mut net, examples, Default::default())?;
/// }
/// assert!(trainer.step(&mut net, examples, Default::default())? < first);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Trainer {
    config: TrainerConfig,
    state: OptimizerState,
    /// Layer, weight and length of each array of parameters, in their order.
    arrays: Vec<(usize, Weight, usize)>,
    pass: Pass,
    /// The loss's, one row at a time.
    row_gradient: Vec<f64>,
    /// Of each array's gradient, the sum of squares.
    squares: Vec<f64>,
    mask: Vec<u8>,
    final_state: Vec<f32>,
    pub(super) walk: Walk,
}

/// What goes forwards, and its buffers.
#[derive(Debug, Default)]
struct Pass {
    tape: Option<Made>,
    prediction: Vec<f32>,
    gradient: Vec<f32>,
}

/// A tape, with the batch and steps it was made for.
type Made = (sequence::Tape, [usize; 2]);

/// A pass that can be gone back.
struct Passed<'a> {
    tape: &'a mut sequence::Tape,
    prediction: &'a [f32],
    /// Room for the loss's gradient by the predictions.
    gradient: &'a mut [f32],
}

/// A tape for so many rows and steps: the one that is there, or a larger one.
fn fitting<'a>(
    tape: &'a mut Option<Made>,
    (network, threads): (&Network, &Threads),
    [batch, steps]: [usize; 2],
) -> Result<&'a mut sequence::Tape> {
    let made = match tape.take() {
        Some((tape, most))
            if batch <= most[0] && steps <= most[1] && tape.thread_count() == threads.count() =>
        {
            (tape, most)
        }
        old => {
            let most = old.map_or([0, 0], |(_, most)| most);
            let most = [most[0].max(batch), most[1].max(steps)];
            (sequence::Tape::new(network, threads, most[0], most[1])?, most)
        }
    };
    Ok(&mut tape.insert(made).0)
}

impl Pass {
    /// Room for predictions of this length.
    fn room(&mut self, len: usize) -> Result<()> {
        // Each by its own length: one may be there without the other.
        for buffer in [&mut self.prediction, &mut self.gradient] {
            if buffer.len() < len {
                refill(buffer, len, 0.0)?;
            }
        }
        Ok(())
    }

    fn forward(
        &mut self,
        model: &Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
        mode: Mode,
    ) -> Result<Passed<'_>> {
        let Examples { input, batch, steps, .. } = examples;
        let network = model.network("trainer")?;
        let len = model.output_len(batch, steps)?;
        self.room(len)?;
        let (prediction, gradient) = (&mut self.prediction[..len], &mut self.gradient[..len]);
        let call = model.checked_call(input, batch, steps, options, prediction)?;
        let tape = fitting(&mut self.tape, (network, model.threads()), [batch, steps])?;
        tape.forward(network, call, mode)?;
        Ok(Passed { tape, prediction, gradient })
    }
}

/// Inputs with what the model should say to them.
#[derive(Clone, Copy, Debug)]
pub struct Examples<'a> {
    pub(super) input: Input<'a>,
    pub(super) batch: usize,
    pub(super) steps: usize,
    pub(super) target: &'a [f32],
    pub(super) weights: Option<&'a [f32]>,
}

impl<'a> Examples<'a> {
    /// `x` `[batch, steps, features]` with targets `[batch, columns]`, or `[batch, steps, columns]` where the model gives
    /// sequences; the sparse loss takes one class number in place of the columns.
    pub fn floats(x: &'a [f32], batch: usize, steps: usize, target: &'a [f32]) -> Self {
        Self { input: Input::Floats(x), batch, steps, target, weights: None }
    }

    /// Token ids `[batch, steps]` with targets as in [`floats`](Self::floats).
    pub fn tokens(ids: &'a [i32], batch: usize, steps: usize, target: &'a [f32]) -> Self {
        Self { input: Input::Tokens(ids), batch, steps, target, weights: None }
    }

    /// How much each row counts, `[batch]`, or each step of each row, `[batch, steps]`, where the model gives sequences.
    pub fn weights(self, weights: &'a [f32]) -> Self {
        Self { weights: Some(weights), ..self }
    }
}

/// A loss, and how often the model was right where that can be said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// The mean loss.
    pub loss: f32,
    /// The share of right answers: the class of the largest prediction, or a probability on the right side of one half;
    /// `None` for the mean squared error.
    pub accuracy: Option<f32>,
}

impl Trainer {
    /// For a built model, before the first step.
    ///
    /// # Errors
    /// [`Error::NotBuilt`]; [`Error::InvalidArgument`] for numbers outside their ranges; [`Error::Unsupported`] for a model
    /// whose last layer gives two arrays, or whose weights were [dropped](Sequential::drop_weights);
    /// [`Error::OutOfMemory`].
    pub fn new(model: &Sequential, config: TrainerConfig) -> Result<Self> {
        config.validate(model)?;
        if let Some(Layer::Bidirectional(Bidirectional { merge_mode: MergeMode::None, .. })) =
            model.layers().last()
        {
            return Err(Error::Unsupported(
                "a trainer needs one output, and the last layer does not merge its halves".into(),
            ));
        }
        let network = model.whole_network("trainer")?;
        let mut arrays = Vec::new();
        for (layer, built) in network.layers.iter().enumerate() {
            let variables = built.variables.0.iter();
            arrays.extend(variables.map(|variable| (layer, variable.weight(), variable.values().len())));
        }
        let parameters = arrays.iter().map(|(_, _, len)| len).sum();
        Ok(Self {
            config,
            state: OptimizerState::new(config.optimizer, parameters)?,
            arrays,
            pass: Pass::default(),
            row_gradient: Vec::new(),
            squares: Vec::new(),
            mask: Vec::new(),
            final_state: Vec::new(),
            walk: Walk::default(),
        })
    }

    /// How it trains.
    pub fn config(&self) -> &TrainerConfig {
        &self.config
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.state.steps()
    }

    /// What the optimizer keeps beside the parameters.
    pub(crate) fn slots(&self) -> &[AlignedVec] {
        &self.state.slots
    }

    /// Goes on after so many steps; the slots are to be filled in.
    pub(crate) fn resume(&mut self, steps: u64) -> &mut [AlignedVec] {
        self.state.steps = steps;
        &mut self.state.slots
    }

    /// One step on a batch; gives its loss, penalties included, before the weights moved.
    ///
    /// `model` must be the one that the trainer was made for, or one of the same shape. Where the model gives sequences,
    /// masked steps do not count in the loss, as in Keras.
    ///
    /// # Errors
    /// As [`Sequential::run`] for wrong sizes; [`Error::NotFinite`] for a NaN or an infinity in the loss or a gradient;
    /// [`Error::OutOfMemory`]. Weights and optimizer are unchanged then.
    pub fn step(
        &mut self,
        model: &mut Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
    ) -> Result<f32> {
        self.scored_step(model, examples, options).map(|score| score.loss)
    }

    pub(super) fn scored_step(
        &mut self,
        model: &mut Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
    ) -> Result<Score> {
        self.check_shape(model)?;
        // The caller's array is written when the step has succeeded.
        let RunOptions { mask, lengths, padding, initial_state, final_state } = options;
        let mut states = std::mem::take(&mut self.final_state);
        if let Some(state) = &final_state {
            check_len("final_state", state.len(), "state_len", &[model.state_len(examples.batch)?])?;
            if states.len() < state.len() {
                states = zeros(state.len())?;
            }
        }
        let kept = final_state.as_ref().map(|state| &mut states[..state.len()]);
        let options = RunOptions { mask, lengths, padding, initial_state, final_state: kept };
        let score = match self.config.truncation {
            Some(truncation) => self.walk(model, examples, options, truncation),
            None => self.update(model, examples, options, 0).and_then(|counted| match counted {
                Some((score, _)) => Ok(score),
                None => Err(no_row()),
            }),
        };
        if let (Ok(_), Some(state)) = (&score, final_state) {
            state.copy_from_slice(&states[..state.len()]);
        }
        self.final_state = states;
        score
    }

    /// How the next step goes forwards. Steps are counted into the seed, so that each has masks of its own and a resumed
    /// run has the same ones.
    fn mode(&self, logits: bool) -> Mode {
        let step = self.state.steps.wrapping_add(1);
        let seed = self.config.seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Mode { training: true, seed, logits }
    }

    /// Goes forwards as the next step does, for the final states alone.
    pub(super) fn advance(
        &mut self,
        model: &Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
    ) -> Result<()> {
        let mode = self.mode(false);
        self.pass.forward(model, examples, options, mode).map(|_| ())
    }

    /// A step whose loss leaves out the first `lead` steps of each row; gives how many outputs counted, or nothing
    /// where none did and so nothing moved.
    pub(super) fn update(
        &mut self,
        model: &mut Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
        lead: usize,
    ) -> Result<Option<(Score, usize)>> {
        let Examples { batch, steps, target, weights, .. } = examples;
        let (loss, logits) = from_logits(self.config.loss, model.layers());
        let mode = self.mode(logits);
        let Passed { tape, prediction, gradient } = self.pass.forward(model, examples, options, mode)?;
        let network = model.network("trainer")?;
        let columns = network.output.features;
        let mut masked = network.output.sequence && tape.used_steps(&mut self.mask)?;
        if lead > 0 {
            if !masked {
                refill(&mut self.mask, batch * steps, 1)?;
                masked = true;
            }
            self.mask.chunks_exact_mut(steps).for_each(|row| row[..lead].fill(0));
        }
        let mask = masked.then_some(&self.mask[..]);
        let counted = counted(mask, prediction.len() / columns);
        if counted == 0 {
            return Ok(None);
        }
        let rows = Batch { prediction, target, columns, weights, mask };
        let mut score = Score {
            loss: loss.evaluate_in(rows, gradient, &mut self.row_gradient)?,
            accuracy: accuracy(loss, rows),
        };
        tape.repack(network)?;
        tape.backward(network, gradient, None, None)?;

        let penalties = (self.config.l1, self.config.l2);
        if penalties != (0.0, 0.0) {
            score.loss += penalize(network, penalties, tape.gradients_mut()?);
        }
        let network = model.network("trainer")?;
        let embedding = network.embedding().map(|(embedding, table)| (embedding.size, table.len()));
        let all = tape.gradients_mut()?;
        let squares = &mut self.squares;
        squares.clear();
        let mut rest = &*all;
        for &(_, _, len) in &self.arrays {
            let (array, others) = rest.split_at(len);
            squares.push(sum_of_squares(array));
            rest = others;
        }
        let norm = squares.iter().sum::<f64>().sqrt();
        if !score.loss.is_finite() || !norm.is_finite() {
            return Err(Error::NotFinite(format!(
                "step {}: the loss is {} and the norm of the gradients {norm}; the weights are as they were",
                self.state.steps(),
                score.loss
            )));
        }
        match self.config.clipping {
            Clipping::GlobalNorm(limit) => scale(all, clip_factor(norm, limit)),
            clipping => {
                let mut rest = all;
                for (&(_, _, len), squares) in self.arrays.iter().zip(&*squares) {
                    let (array, others) = rest.split_at_mut(len);
                    match clipping {
                        Clipping::Norm(limit) => scale(array, clip_factor(squares.sqrt(), limit)),
                        other => other.apply(&mut [array]),
                    }
                    rest = others;
                }
            }
        }
        let rate = self.config.schedule.rate(self.state.steps());
        let gradients = tape.gradients()?;
        let lazy = embedding.filter(|_| self.config.lazy_embeddings);
        let touched = tape.touched();
        let before = self.state.steps;
        let mut moves = self.state.step(rate);
        let mut first = 0;
        let moved = model.update_variables(|_, which, values| {
            let gradient = &gradients[first..first + values.len()];
            match lazy {
                Some((size, _)) if which == Weight::Embedding => {
                    for &row in touched {
                        let at = row as usize * size;
                        moves.update(first + at, &mut values[at..at + size], &gradient[at..at + size]);
                    }
                }
                _ => moves.update(first, values, gradient),
            }
            first += values.len();
        });
        if moved.is_err() {
            self.state.steps = before;
        }
        moved?;
        Ok(Some((score, counted)))
    }

    /// Checks a walk's arguments before its first piece, and makes room for windows of up to `longest` steps.
    pub(super) fn check(
        &mut self,
        model: &Sequential,
        examples: Examples<'_>,
        options: &RunOptions<'_>,
        longest: usize,
    ) -> Result<()> {
        let Examples { input, batch, steps, .. } = examples;
        let len = model.output_len(batch, steps)?;
        self.check_targets(model, examples, len)?;
        self.pass.room(len)?;
        let &RunOptions { mask, lengths, padding, initial_state, .. } = options;
        let options = RunOptions { mask, lengths, padding, initial_state, final_state: None };
        model.checked_call(input, batch, steps, options, &mut self.pass.prediction[..len])?;
        if padding != Padding::Keras {
            return Err(Error::Unsupported("truncation: it goes with Keras's padding".into()));
        }
        fitting(&mut self.pass.tape, (model.network("trainer")?, model.threads()), [batch, longest])
            .map(|_| ())
    }

    /// Copies weights and slots, one array behind the other.
    pub(super) fn keep(&self, model: &Sequential, to: &mut Vec<f32>) -> Result<()> {
        let slots = self.state.slots.iter();
        let parameters: usize = self.arrays.iter().map(|(_, _, len)| len).sum();
        let len = parameters + slots.clone().map(|slot| slot.len()).sum::<usize>();
        if to.len() != len {
            *to = zeros(len)?;
        }
        let variables = model.network("trainer")?.layers.iter().flat_map(|layer| &layer.variables.0);
        let arrays = variables.map(|variable| variable.values()).chain(slots.map(|slot| &slot[..]));
        let mut rest = &mut to[..];
        for array in arrays {
            let (to, others) = rest.split_at_mut(array.len());
            to.copy_from_slice(array);
            rest = others;
        }
        Ok(())
    }

    /// Takes back everything since [`keep`](Self::keep) and step number `steps`.
    pub(super) fn put_back(&mut self, model: &mut Sequential, from: &[f32], steps: u64) -> Result<()> {
        let mut rest = from;
        let mut copy = |to: &mut [f32]| {
            let (from, others) = rest.split_at(to.len());
            to.copy_from_slice(from);
            rest = others;
        };
        model.update_variables(|_, _, values| copy(values))?;
        self.state.slots.iter_mut().for_each(|slot| copy(slot));
        self.state.steps = steps;
        Ok(())
    }

    fn check_targets(&self, model: &Sequential, examples: Examples<'_>, len: usize) -> Result<()> {
        let columns = model.network("trainer")?.output.features;
        let target_columns = self.config.loss.target_columns(columns);
        check_len("target", examples.target.len(), "rows x target", &[len / columns, target_columns])?;
        match examples.weights {
            Some(weights) => check_len("weights", weights.len(), "rows x outputs", &[len / columns]),
            None => Ok(()),
        }
    }

    /// Loss, penalties included, and accuracy of a model as it is, without dropout.
    ///
    /// # Errors
    /// As [`Sequential::run`], and [`Error::InvalidArgument`] where masks leave no row to take a loss of.
    pub fn evaluate(&self, model: &Sequential, examples: Examples<'_>) -> Result<Score> {
        /// Rows at a time: enough to fill the kernels' tiles, few enough that the buffers stay small.
        const ROWS: usize = 128;
        let Examples { input, batch, steps, target, weights } = examples;
        let network = model.network("trainer")?;
        self.check_shape(model)?;
        let len = model.output_len(batch, steps)?;
        let columns = network.output.features;
        let outputs = len / columns;
        self.check_targets(model, examples, len)?;
        let given = match input {
            Input::Floats(x) => (x.len(), [batch, steps, model.input_size()]),
            Input::Tokens(ids) => (ids.len(), [batch, steps, 1]),
        };
        check_len("input", given.0, "rows x steps x features", &given.1)?;
        let most = batch.min(ROWS);
        let mut prediction = zeros(len / batch * most)?;
        let mut gradient = zeros(len / batch * most)?;
        let (loss, logits) = from_logits(self.config.loss, model.layers());
        let mut tape = sequence::Tape::new(network, model.threads(), most, steps)?;
        let mut used = Vec::new();
        let (mut total, mut right, mut all) = (0.0f64, Some(0.0f64), 0.0f64);
        for first in (0..batch).step_by(most) {
            let rows = most.min(batch - first);
            let part = |array: &'_ [f32]| {
                let row = array.len() / batch;
                first * row..(first + rows) * row
            };
            let prediction = &mut prediction[..rows * (len / batch)];
            let gradient = &mut gradient[..prediction.len()];
            let input = match input {
                Input::Floats(x) => Input::Floats(&x[part(x)]),
                Input::Tokens(ids) => Input::Tokens(&ids[first * steps..(first + rows) * steps]),
            };
            let call = model.checked_call(input, rows, steps, RunOptions::default(), prediction)?;
            tape.forward(network, call, Mode { logits, ..Mode::default() })?;
            let mask = network.output.sequence && tape.used_steps(&mut used)?;
            let mask = mask.then_some(&used[..]);
            let counted = counted(mask, outputs / batch * rows);
            if counted == 0 {
                continue;
            }
            let rows = Batch {
                prediction,
                target: &target[part(target)],
                columns,
                weights: weights.map(|weights| &weights[part(weights)]),
                mask,
            };
            total += f64::from(loss.evaluate(rows, gradient)?) * counted as f64;
            right = right.zip(accuracy(loss, rows)).map(|(sum, a)| sum + f64::from(a) * counted as f64);
            all += counted as f64;
        }
        if all == 0.0 {
            return Err(no_row());
        }
        let mut score =
            Score { loss: (total / all) as f32, accuracy: right.map(|right| (right / all) as f32) };
        let penalties = (self.config.l1, self.config.l2);
        if penalties != (0.0, 0.0) {
            let mut unused = zeros(self.arrays.iter().map(|(_, _, len)| len).sum())?;
            score.loss += penalize(network, penalties, &mut unused);
        }
        Ok(score)
    }

    pub(crate) fn check_shape(&self, model: &Sequential) -> Result<()> {
        let network = model.whole_network("trainer")?;
        let arrays = network.layers.iter().enumerate().flat_map(|(layer, built)| {
            let variables = built.variables.0.iter();
            variables.map(move |variable| (layer, variable.weight(), variable.values().len()))
        });
        if arrays.eq(self.arrays.iter().copied()) {
            Ok(())
        } else {
            Err(Error::InvalidArgument("the trainer was made for a model of another shape".into()))
        }
    }
}

/// How many of `all` outputs a mask lets through.
fn counted(mask: Option<&[u8]>, all: usize) -> usize {
    mask.map_or(all, |mask| mask.iter().filter(|&&used| used != 0).count())
}

/// The loss to be taken, and whether from logits: a cross-entropy right behind its own activation is taken from the values
/// before it, where neither rounds to 0 or 1. Keras does the same in `fit`.
fn from_logits(loss: Loss, layers: &[Layer]) -> (Loss, bool) {
    let Some(Layer::Dense(dense)) = layers.last() else { return (loss, false) };
    match (loss, dense.activation) {
        (Loss::BinaryCrossentropy { from_logits: false }, Activation::Sigmoid) => {
            (Loss::BinaryCrossentropy { from_logits: true }, true)
        }
        (Loss::CategoricalCrossentropy { from_logits: false }, Activation::Softmax) => {
            (Loss::CategoricalCrossentropy { from_logits: true }, true)
        }
        (Loss::SparseCategoricalCrossentropy { from_logits: false }, Activation::Softmax) => {
            (Loss::SparseCategoricalCrossentropy { from_logits: true }, true)
        }
        _ => (loss, false),
    }
}

/// Adds the penalties' gradients, and gives their share of the loss.
fn penalize(network: &Network, (l1, l2): (f32, f32), gradients: &mut [f32]) -> f32 {
    let mut total = 0.0f64;
    let mut rest = gradients;
    for variable in network.layers.iter().flat_map(|layer| &layer.variables.0) {
        let weights = variable.values();
        let (gradient, others) = rest.split_at_mut(weights.len());
        rest = others;
        if matches!(variable.weight(), Weight::Bias | Weight::BackwardBias | Weight::Embedding) {
            continue;
        }
        for (gradient, &w) in gradient.iter_mut().zip(weights) {
            total += f64::from(l1 * w.abs()) + f64::from(l2 * w * w);
            let sign = if w == 0.0 { 0.0 } else { w.signum() };
            *gradient += l1 * sign + 2.0 * l2 * w;
        }
    }
    total as f32
}

/// The share of rows that are right.
fn accuracy(loss: Loss, batch: Batch<'_>) -> Option<f32> {
    let Batch { prediction, target, columns, mask, .. } = batch;
    let most = |row: &[f32]| (0..row.len()).max_by(|&i, &j| row[i].total_cmp(&row[j]));
    let (mut right, mut all) = (0usize, 0usize);
    for (i, row) in prediction.chunks_exact(columns).enumerate() {
        if mask.is_some_and(|mask| mask[i] == 0) {
            continue;
        }
        match loss {
            Loss::MeanSquaredError => return None,
            Loss::BinaryCrossentropy { from_logits } => {
                let threshold = if from_logits { 0.0 } else { 0.5 };
                let pairs = row.iter().zip(&target[i * columns..]);
                right += pairs.filter(|(p, t)| (**p > threshold) == (**t > 0.5)).count();
                all += columns;
            }
            Loss::CategoricalCrossentropy { .. } => {
                right += usize::from(most(row) == most(&target[i * columns..][..columns]));
                all += 1;
            }
            Loss::SparseCategoricalCrossentropy { .. } => {
                right += usize::from(most(row) == Some(target[i] as usize));
                all += 1;
            }
        }
    }
    Some(right as f32 / all.max(1) as f32)
}
