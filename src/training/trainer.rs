//! The training step: forward, loss, backward, clipping, and the weights moved, or nothing changed at all.

use std::ops::Range;

use super::descent::{Array, Gradients, Touched, descend, norm};
use super::examples::{counted_steps, inputs_of};
use super::output::{check_output, from_logits};
use super::score::Tally;
use super::truncation::Walk;
use super::{Batch, Clipping, Examples, Loss, Optimizer, OptimizerState, Schedule, Score, Truncation};
use crate::error::{Error, Result};
use crate::layers::{Bidirectional, Layer, MergeMode, Weight};
use crate::memory::{AlignedVec, check_len, refill, with_room, zeros};
use crate::sequence::{self, Mode, Network, Threads};
use crate::sequential::{Kept, Padding, RunOptions, Sequential};

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

    fn validate(&self, model: &Sequential) -> Result<()> {
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

/// Trains a model batch by batch. It keeps the optimizer's state and the buffers of a [`Tape`](crate::Tape);
/// the model is handed to each step.
///
/// A step either does all of its work or changes nothing: a NaN or an infinity in the loss, in a gradient, in
/// a new weight or in what the optimizer would keep is [`Error::NotFinite`], and weights, optimizer and
/// states are as before. (A weight that is infinite already, as a bias that excludes a class, may stay so.)
///
/// [Stateful](crate::Lstm::stateful) layers go on from where the last call ended, be it a step, an
/// evaluation or a prediction, and leave their states to the next, as in Keras; gradients do not run back
/// into them. [`Sequential::reset_states`] makes them zero.
///
/// A batch that a mask leaves nothing of has loss 0, but for penalties, and is no step: nothing moves.
///
/// Long sequences are trained on in pieces by [`Truncation`]; or by hand, where they do not come whole: a
/// step for each piece, whose [`RunOptions::final_state`] is the next one's `initial_state`.
///
/// ```
/// use elman::{Dense, Examples, Loss, Optimizer, Sequential, SimpleRnn, Trainer, TrainerConfig};
///
/// # fn main() -> Result<(), elman::Error> {
/// let mut net = Sequential::new(3).add(SimpleRnn::new(8)).add(Dense::new(1)).build(1)?;
/// let mut trainer = Trainer::new(&net, TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError))?;
/// let (x, target) = (vec![0.5; 4 * 10 * 3], vec![1.0; 4]);
/// let examples = Examples::new(&x, 4, 10, &target);
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
    pub(super) config: TrainerConfig,
    state: OptimizerState,
    /// In the order of the parameters.
    arrays: Vec<Array>,
    pass: Pass,
    buffers: Buffers,
    /// What [`backward`](Self::backward) leaves to [`apply`](Self::apply).
    pending: Pending,
    /// Rows of the embedding that the last batch held, where they move alone.
    touched: Vec<u32>,
    pub(super) walk: Walk,
}

/// What a step uses and nothing keeps.
#[derive(Debug, Default)]
struct Buffers {
    /// The loss's gradient, one row at a time.
    row: Vec<f64>,
    /// Of each array's gradient, the sum of squares.
    squares: Vec<f64>,
    mask: Vec<u8>,
    weights: Vec<f32>,
    gradients: Vec<f32>,
    final_state: Vec<f32>,
}

/// What the first half of a step leaves to the second.
#[derive(Debug, Default)]
struct Pending {
    /// Where a mask left nothing, so that gradients of zero are no step.
    nothing: bool,
    /// What stateful layers are to keep.
    kept: Option<Kept>,
}

/// Where the states of a step come from and go to.
struct States<'a> {
    kept: &'a mut Kept,
    /// For those that are not kept.
    buffer: &'a mut Vec<f32>,
}

impl States<'_> {
    /// Takes a step on `rows` rows from the states that the options give, or else those that stateful layers
    /// keep. Where it succeeds the caller has its final states, and stateful layers keep theirs.
    fn around<M: std::borrow::Borrow<Sequential>, T>(
        self,
        mut model: M,
        rows: usize,
        options: RunOptions<'_>,
        step: impl FnOnce(&mut M, RunOptions<'_>) -> Result<T>,
    ) -> Result<T> {
        let stateful = model.borrow().is_stateful();
        let len = model.borrow().state_len(rows)?;
        let RunOptions { mask, lengths, padding, initial_state, final_state: wanted } = options;
        if let Some(wanted) = &wanted {
            check_len("final_state", wanted.len(), "state_len", &[len])?;
        }
        if stateful {
            self.kept.begin(rows, len)?;
        } else if wanted.is_some() && self.buffer.len() < len {
            *self.buffer = zeros(len)?;
        }
        let Kept { states, next, .. } = &mut *self.kept;
        let last = if stateful { next } else { self.buffer };
        let options = RunOptions {
            mask,
            lengths,
            padding,
            initial_state: initial_state.or(stateful.then_some(&states[..])),
            // The caller's array is written when the step has succeeded.
            final_state: if stateful || wanted.is_some() { Some(&mut last[..len]) } else { None },
        };
        let outcome = step(&mut model, options)?;
        if let Some(wanted) = wanted {
            wanted.copy_from_slice(&last[..len]);
        }
        if stateful {
            self.kept.keep(model.borrow(), rows)?;
        }
        Ok(outcome)
    }
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
        // Before the way forward, which multiplies by matrices of the tape's own where dropout is by gate.
        tape.repack(network)?;
        tape.forward(network, call, mode)?;
        Ok(Passed { tape, prediction, gradient })
    }
}

impl Trainer {
    /// For a built model, before the first step.
    ///
    /// # Errors
    /// [`Error::NotBuilt`]; [`Error::InvalidArgument`] for numbers outside their ranges, and for a loss that
    /// does not fit the output: `from_logits` behind a sigmoid or softmax, a cross-entropy without it on
    /// outputs that are no probabilities, a categorical one of a single output; [`Error::Unsupported`] for a
    /// model whose last layer gives two arrays, or whose weights were [dropped](Sequential::drop_weights);
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
        let mut arrays = with_room(network.layers.iter().map(|built| built.variables.0.len()).sum())?;
        for (layer, built) in network.layers.iter().enumerate() {
            arrays.extend(built.variables.0.iter().map(|variable| Array {
                layer,
                which: variable.weight(),
                len: variable.values().len(),
                trainable: true,
                decays: true,
            }));
        }
        let parameters = arrays.iter().map(|array| array.len).sum();
        Ok(Self {
            config,
            state: OptimizerState::new(config.optimizer, parameters)?,
            arrays,
            pass: Pass::default(),
            buffers: Buffers::default(),
            pending: Pending::default(),
            touched: Vec::new(),
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

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f32 {
        self.config.schedule.rate(self.steps())
    }

    /// Takes all further steps at this rate; 0 moves nothing but what momentum moves. It replaces the
    /// configuration's [`Schedule`] by a constant one.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a rate that is not finite or below 0.
    pub fn set_learning_rate(&mut self, rate: f32) -> Result<()> {
        self.set_schedule(Schedule::Constant(rate))
    }

    /// Takes all further steps at this schedule's rates; its steps are counted from the trainer's first.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a number outside its range.
    pub fn set_schedule(&mut self, schedule: Schedule) -> Result<()> {
        schedule.validate()?;
        self.config.schedule = schedule;
        Ok(())
    }

    /// Whether steps move the weights of a layer; `true` for one without weights.
    pub fn is_trainable(&self, layer: usize) -> bool {
        self.arrays[self.of_layer(layer)].iter().all(|array| array.trainable)
    }

    /// Freezes a layer's weights, or lets them move again: Keras's `layer.trainable`. What is frozen has
    /// gradients of 0, counts in no norm and no penalty, and keeps what the optimizer has beside it. Its
    /// dropout stays active.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a layer without weights.
    pub fn set_trainable(&mut self, layer: usize, yes: bool) -> Result<()> {
        let arrays = self.of_layer(layer);
        if arrays.is_empty() {
            return Err(Error::InvalidArgument(format!("layer {layer} has no weights to train")));
        }
        self.arrays[arrays].iter_mut().for_each(|array| array.trainable = yes);
        Ok(())
    }

    /// Which of the arrays are a layer's.
    fn of_layer(&self, layer: usize) -> Range<usize> {
        let first = self.arrays.partition_point(|array| array.layer < layer);
        let count = self.arrays[first..].partition_point(|array| array.layer == layer);
        first..first + count
    }

    /// Whether [`AdamW`](Optimizer::AdamW)'s weight decay acts on a weight.
    pub fn decays(&self, layer: usize, which: Weight) -> bool {
        self.arrays[self.of_layer(layer)].iter().any(|array| array.which == which && array.decays)
    }

    /// Keeps a weight out of [`AdamW`](Optimizer::AdamW)'s weight decay, or lets it in again: Keras's
    /// `exclude_from_weight_decay`. At first it acts on every weight, biases included, as in Keras.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where the layer has no such weight.
    pub fn set_decays(&mut self, layer: usize, which: Weight, yes: bool) -> Result<()> {
        let arrays = self.of_layer(layer);
        match self.arrays[arrays].iter_mut().find(|array| array.which == which) {
            Some(array) => array.decays = yes,
            None => {
                return Err(Error::InvalidArgument(format!("layer {layer} has no {}", which.name())));
            }
        }
        Ok(())
    }

    /// What the optimizer keeps beside the parameters.
    pub(crate) fn slots(&self) -> &[AlignedVec] {
        &self.state.slots
    }

    /// Checks slots that were filled in: [`Error::InvalidArgument`] for a value that no step leaves there.
    pub(crate) fn check_slots(&self) -> Result<()> {
        match self.state.impossible() {
            Some((slot, at, value)) => Err(Error::InvalidArgument(format!(
                "slot {slot} of the optimizer has {value} beside parameter {at}, which no step leaves there"
            ))),
            None => Ok(()),
        }
    }

    /// Goes on after so many steps; the slots are to be filled in.
    pub(crate) fn resume(&mut self, steps: u64) -> &mut [AlignedVec] {
        self.state.resume(steps)
    }

    /// One step on a batch; gives its loss, penalties included, before the weights moved.
    ///
    /// `model` must be the one that the trainer was made for, or one of the same shape. Where the model gives
    /// sequences, masked steps do not count in the loss, as in Keras. `options` add to what `examples` say of
    /// themselves.
    ///
    /// # Errors
    /// As [`Sequential::run`] for wrong sizes, options and states; [`Error::InvalidArgument`] for a class
    /// number that is none where its weight is not 0; [`Error::NotFinite`] for a NaN or an infinity in the
    /// loss, a gradient, a new weight or in what the optimizer keeps; [`Error::OutOfMemory`]. Weights,
    /// optimizer and states are unchanged then.
    pub fn step(
        &mut self,
        model: &mut Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
    ) -> Result<f32> {
        self.step_scored(model, examples, options).map(|score| score.loss)
    }

    /// [`step`](Self::step), which also says how often the model was right.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_scored(
        &mut self,
        model: &mut Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
    ) -> Result<Score> {
        self.tallied_step(model, examples, options).map(|(score, _)| score)
    }

    pub(super) fn tallied_step(
        &mut self,
        model: &mut Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
    ) -> Result<(Score, Tally)> {
        self.check_shape(model)?;
        let options = examples.options_with(options)?;
        let mut kept = model.take_kept()?;
        let mut buffer = std::mem::take(&mut self.buffers.final_state);
        let outcome = States { kept: &mut kept, buffer: &mut buffer }.around(
            &mut *model,
            examples.batch,
            options,
            |model, options| match self.config.truncation {
                Some(truncation) => self.walk(model, examples, options, truncation),
                None => self.update(model, examples, options, 0),
            },
        );
        self.buffers.final_state = buffer;
        model.put_kept(kept);
        let tally = outcome?;
        Ok((self.score(model, &tally)?, tally))
    }

    /// The score of a tally whose loss has the penalties in it, but where it is of nothing.
    fn score(&self, model: &Sequential, tally: &Tally) -> Result<Score> {
        let mut score = tally.score();
        if tally.outputs == 0.0 {
            score.loss = self.penalty(model.network("trainer")?);
        }
        Ok(score)
    }

    /// The penalties' share of the loss.
    pub(super) fn penalty(&self, network: &Network) -> f32 {
        penalty(network, &self.arrays, (self.config.l1, self.config.l2))
    }

    /// The first half of a step, for a host that changes gradients or averages them between processes: the
    /// loss of a batch, penalties included, and its gradients, one array behind the other in the order of
    /// [`Sequential::get_parameters`], before they are clipped. Those of frozen layers are 0. Nothing moves,
    /// neither weights nor the states of stateful layers, until [`apply`](Self::apply).
    ///
    /// # Errors
    /// As [`step`](Self::step), and [`Error::Unsupported`] where the trainer truncates, whose step is
    /// several; `gradients` is not written then.
    pub fn backward(
        &mut self,
        model: &Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
        gradients: &mut [f32],
    ) -> Result<f32> {
        self.check_shape(model)?;
        check_len("gradients", gradients.len(), "parameter_count", &[self.parameters()])?;
        if self.config.truncation.is_some() {
            return Err(Error::Unsupported(
                "backward: a truncated step moves the weights several times".into(),
            ));
        }
        let options = examples.options_with(options)?;
        let mut kept = model.copy_kept()?;
        let mut buffer = std::mem::take(&mut self.buffers.final_state);
        let outcome = States { kept: &mut kept, buffer: &mut buffer }.around(
            model,
            examples.batch,
            options,
            |model, options| self.differentiate(model, examples, options, 0),
        );
        self.buffers.final_state = buffer;
        let (tally, _) = outcome?;
        let score = self.score(model, &tally)?;
        match self.pass.tape.as_ref().filter(|_| tally.outputs > 0.0) {
            Some((tape, _)) => gradients.copy_from_slice(tape.gradients()?),
            None => gradients.fill(0.0),
        }
        let mut rest = gradients;
        for array in &self.arrays {
            let (values, others) = rest.split_at_mut(array.len);
            if !array.trainable {
                values.fill(0.0);
            }
            rest = others;
        }
        self.pending = Pending { nothing: tally.outputs == 0.0, kept: model.is_stateful().then_some(kept) };
        Ok(score.loss)
    }

    /// The second half of a step: clips `gradients`, laid out as [`backward`](Self::backward) gives them, and
    /// moves the weights. With the gradients of one `backward` as they are, the two have the bits of one
    /// [`step`](Self::step): a batch that was masked throughout, for one, moves nothing.
    ///
    /// Stateful layers go on from where the last `backward` ended. With
    /// [`lazy_embeddings`](TrainerConfig::lazy_embeddings) those rows move that the last `backward` met or
    /// whose gradient is not 0.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`]; [`Error::NotFinite`] for a NaN or an infinity among the gradients, the new
    /// weights or in what the optimizer keeps; [`Error::OutOfMemory`]. Nothing has moved then.
    pub fn apply(&mut self, model: &mut Sequential, gradients: &[f32]) -> Result<()> {
        self.check_shape(model)?;
        check_len("gradients", gradients.len(), "parameter_count", &[self.parameters()])?;
        if !(self.pending.nothing && gradients.iter().all(|&gradient| gradient == 0.0)) {
            self.apply_all(model, gradients)?;
        }
        if let Some(kept) = std::mem::take(&mut self.pending).kept {
            model.put_kept(kept);
        }
        self.touched.clear();
        Ok(())
    }

    fn apply_all(&mut self, model: &mut Sequential, gradients: &[f32]) -> Result<()> {
        let Buffers { squares, gradients: values, .. } = &mut self.buffers;
        refill(values, gradients.len(), 0.0)?;
        values.copy_from_slice(gradients);
        let norm = norm(&self.arrays, values, squares);
        if !norm.is_finite() {
            return Err(Error::NotFinite(format!(
                "step {}: the norm of the gradients is {norm}; the weights are as they were",
                self.state.steps()
            )));
        }
        if self.config.lazy_embeddings {
            self.touch_rows(model, gradients)?;
        }
        let values = &mut self.buffers.gradients[..];
        let gradients =
            Gradients::clipped(&self.arrays, values, self.config.clipping, (norm, &self.buffers.squares));
        let touched = touched(&self.config, model, &self.touched)?;
        descend(&self.config, &mut self.state, model, &gradients, touched)
    }

    /// Adds the rows of the embedding whose gradients are not 0 to those that move.
    fn touch_rows(&mut self, model: &Sequential, gradients: &[f32]) -> Result<()> {
        let Some((embedding, table)) = model.network("trainer")?.embedding() else { return Ok(()) };
        let rows = gradients[..table.len()].chunks_exact(embedding.size).enumerate();
        let moved = rows.filter(|(_, row)| row.iter().any(|&gradient| gradient != 0.0));
        let rows = moved.map(|(row, _)| row as u32);
        let touched = &mut self.touched;
        touched
            .try_reserve_exact(rows.clone().count())
            .map_err(|_| Error::OutOfMemory { bytes: size_of_val(gradients) })?;
        touched.extend(rows);
        touched.sort_unstable();
        touched.dedup();
        Ok(())
    }

    /// All weights together.
    fn parameters(&self) -> usize {
        self.arrays.iter().map(|array| array.len).sum()
    }

    /// How the next step goes forwards. Steps are counted into the seed, so that each has masks of its own
    /// and a resumed run has the same ones.
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

    /// A step whose loss leaves out the first `lead` steps of each row; nothing moves where a mask leaves no
    /// output to take a loss of.
    pub(super) fn update(
        &mut self,
        model: &mut Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
        lead: usize,
    ) -> Result<Tally> {
        let (tally, norm) = self.differentiate(model, examples, options, lead)?;
        let Some((tape, _)) = self.pass.tape.as_mut().filter(|_| tally.outputs > 0.0) else {
            return Ok(tally);
        };
        let values = tape.gradients_mut()?;
        let gradients =
            Gradients::clipped(&self.arrays, values, self.config.clipping, (norm, &self.buffers.squares));
        let touched = touched(&self.config, model, &self.touched)?;
        descend(&self.config, &mut self.state, model, &gradients, touched)?;
        Ok(tally)
    }

    /// Forwards, the loss, and backwards; the tape has the gradients then, those of penalties included,
    /// unless there was no output to take a loss of. All of them are finite, and their norm comes with the
    /// loss.
    fn differentiate(
        &mut self,
        model: &Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
        lead: usize,
    ) -> Result<(Tally, f64)> {
        let (loss, logits) = from_logits(self.config.loss, model.layers());
        let mode = self.mode(logits);
        let Buffers { row, squares, mask, weights: weighed, .. } = &mut self.buffers;
        let Examples { batch, steps, target, weights, class_weights, .. } = examples;
        let network = model.network("trainer")?;
        let inputs = inputs_of(&options);
        let Passed { tape, prediction, gradient } = self.pass.forward(model, examples, options, mode)?;
        let columns = network.output.features;
        let mut masked = counted_steps(network, &examples, &inputs, mask)?
            || (network.output.sequence && tape.used_steps(mask)?);
        if lead > 0 {
            if !masked {
                refill(mask, batch * steps, 1)?;
                masked = true;
            }
            mask.chunks_exact_mut(steps).for_each(|row| row[..lead].fill(0));
        }
        let rows = Batch { prediction, target, columns, weights, mask: masked.then_some(&mask[..]) };
        rows.check(loss)?;
        let mut tally = Tally::new(loss);
        let outputs = rows.counted();
        if outputs == 0 {
            return Ok((tally, 0.0));
        }
        let rows = rows.weighed(loss, class_weights, weighed)?;
        let mut value = loss.evaluate_in(rows, gradient, row)?;
        tally.count_answers(loss, rows);
        tape.backward(network, gradient, None, None)?;
        let gradients = tape.gradients_mut()?;
        let penalties = (self.config.l1, self.config.l2);
        if penalties != (0.0, 0.0) {
            value += penalty(network, &self.arrays, penalties);
            penalize(network, &self.arrays, penalties, gradients);
        }
        let norm = norm(&self.arrays, gradients, squares);
        if !value.is_finite() || !norm.is_finite() {
            return Err(Error::NotFinite(format!(
                "step {}: the loss is {value} and the norm of the gradients {norm}; the weights are as they were",
                self.state.steps(),
            )));
        }
        if self.config.lazy_embeddings {
            let touched = tape.touched();
            refill(&mut self.touched, touched.len(), 0)?;
            self.touched.copy_from_slice(touched);
        }
        tally.loss = f64::from(value) * outputs as f64;
        tally.outputs = outputs as f64;
        Ok((tally, norm))
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
        let options = inputs_of(options);
        let padding = options.padding;
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
        let len = self.parameters() + slots.clone().map(|slot| slot.len()).sum::<usize>();
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
        self.state.resume(steps).iter_mut().for_each(|slot| copy(slot));
        Ok(())
    }

    pub(super) fn check_targets(&self, model: &Sequential, examples: Examples<'_>, len: usize) -> Result<()> {
        let columns = model.network("trainer")?.output.features;
        let target_columns = self.config.loss.target_columns(columns);
        check_len("target", examples.target.len(), "rows x target", &[len / columns, target_columns])?;
        match examples.weights {
            Some(weights) => check_len("weights", weights.len(), "rows x outputs", &[len / columns]),
            None => Ok(()),
        }
    }

    pub(crate) fn check_shape(&self, model: &Sequential) -> Result<()> {
        let network = model.whole_network("trainer")?;
        let shapes = network.layers.iter().enumerate().flat_map(|(layer, built)| {
            let variables = built.variables.0.iter();
            variables.map(move |variable| (layer, variable.weight(), variable.values().len()))
        });
        if shapes.eq(self.arrays.iter().map(|array| (array.layer, array.which, array.len))) {
            Ok(())
        } else {
            Err(Error::InvalidArgument("the trainer was made for a model of another shape".into()))
        }
    }
}

/// The rows that alone move of an embedding, where that is so.
fn touched<'a>(config: &TrainerConfig, model: &Sequential, rows: &'a [u32]) -> Result<Option<Touched<'a>>> {
    let embedding = model.network("trainer")?.embedding().filter(|_| config.lazy_embeddings);
    Ok(embedding.map(|(embedding, _)| Touched { size: embedding.size, rows }))
}

/// The arrays that penalties act on, each with its weights and the number of its first parameter.
fn penalized<'a>(network: &'a Network, arrays: &'a [Array]) -> impl Iterator<Item = (usize, &'a [f32])> {
    let variables = network.layers.iter().flat_map(|layer| &layer.variables.0);
    let mut next = 0;
    arrays.iter().zip(variables).filter_map(move |(array, variable)| {
        let first = next;
        next += array.len;
        let kernel = !matches!(array.which, Weight::Bias | Weight::BackwardBias | Weight::Embedding);
        (kernel && array.trainable).then(|| (first, variable.values()))
    })
}

/// The penalties' share of the loss.
fn penalty(network: &Network, arrays: &[Array], (l1, l2): (f32, f32)) -> f32 {
    if (l1, l2) == (0.0, 0.0) {
        return 0.0;
    }
    let mut total = 0.0f64;
    for &w in penalized(network, arrays).flat_map(|(_, weights)| weights) {
        total += f64::from(l1 * w.abs()) + f64::from(l2 * w * w);
    }
    total as f32
}

/// Adds the penalties' gradients.
fn penalize(network: &Network, arrays: &[Array], (l1, l2): (f32, f32), gradients: &mut [f32]) {
    for (first, weights) in penalized(network, arrays) {
        for (gradient, &w) in gradients[first..].iter_mut().zip(weights) {
            let sign = if w == 0.0 { 0.0 } else { w.signum() };
            *gradient += l1 * sign + 2.0 * l2 * w;
        }
    }
}
