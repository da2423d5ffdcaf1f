//! The trainer: what it keeps from step to step, and its steps, whole or in halves.

use std::ops::Range;

use super::descent::Array;
use super::pass::{Pass, States};
use super::penalty::penalty;
use super::score::Tally;
use super::truncation::Walk;
use super::{Examples, OptimizerState, Schedule, Score, TrainerConfig};
use crate::error::{Error, Result};
use crate::layers::{Bidirectional, Layer, MergeMode, Weight};
use crate::memory::{AlignedVec, check_len, with_room};
use crate::sequence::Network;
use crate::sequential::{Kept, RunOptions, Sequential};

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
/// Long sequences are trained on in pieces by [`Truncation`](super::Truncation); or by hand, where they do
/// not come whole: a step for each piece, whose [`RunOptions::final_state`] is the next one's
/// `initial_state`.
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
    pub(super) state: OptimizerState,
    /// In the order of the parameters.
    pub(super) arrays: Vec<Array>,
    pub(super) pass: Pass,
    pub(super) buffers: Buffers,
    /// What [`backward`](Self::backward) leaves to [`apply`](Self::apply).
    pending: Pending,
    /// Rows of the embedding that the last batch held, where they move alone.
    pub(super) touched: Vec<u32>,
    pub(super) walk: Walk,
}

/// What a step uses and nothing keeps.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// The loss's gradient, one row at a time.
    pub(super) row: Vec<f64>,
    /// Of each array's gradient, the sum of squares.
    pub(super) squares: Vec<f64>,
    pub(super) mask: Vec<u8>,
    pub(super) weights: Vec<f32>,
    pub(super) gradients: Vec<f32>,
    pub(super) final_state: Vec<f32>,
}

/// What the first half of a step leaves to the second.
#[derive(Debug, Default)]
struct Pending {
    /// Where a mask left nothing, so that gradients of zero are no step.
    nothing: bool,
    /// What stateful layers are to keep.
    kept: Option<Kept>,
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

    /// Whether [`AdamW`](super::Optimizer::AdamW)'s weight decay acts on a weight.
    pub fn decays(&self, layer: usize, which: Weight) -> bool {
        self.arrays[self.of_layer(layer)].iter().any(|array| array.which == which && array.decays)
    }

    /// Keeps a weight out of [`AdamW`](super::Optimizer::AdamW)'s weight decay, or lets it in again: Keras's
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

    /// All weights together.
    pub(super) fn parameters(&self) -> usize {
        self.arrays.iter().map(|array| array.len).sum()
    }
}
