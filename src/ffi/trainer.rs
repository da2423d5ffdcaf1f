//! Training by whole steps.

use std::mem::offset_of;

use super::arrays::{Element, Given};
use super::boundary::boundary;
use super::enums::{elman_bool, elman_weight, unknown};
use super::options::{Options, elman_run_options, used};
use super::raw::{Input, Output, Place, Span, flag, free, shared, unshared};
use super::sequential::elman_sequential;
use super::sized::{fill, read_fields, size_of_given};
use super::status::{Failure, elman_status};
use crate::sequential::Sequential;
use crate::training::{Clipping, Examples, Loss, Optimizer, Schedule, Trainer, TrainerConfig, Truncation};

/// What moves the weights: one of the ELMAN_OPTIMIZER_ constants. Formulas and defaults are Keras's.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct elman_optimizer(pub u32);

/// Gradient descent, with momentum and Nesterov's look ahead where set.
pub const ELMAN_OPTIMIZER_SGD: elman_optimizer = elman_optimizer(0);
/// RMSprop; beta_2 is its rho.
pub const ELMAN_OPTIMIZER_RMSPROP: elman_optimizer = elman_optimizer(1);
/// Adam.
pub const ELMAN_OPTIMIZER_ADAM: elman_optimizer = elman_optimizer(2);
/// Adam after a share of each weight is taken off.
pub const ELMAN_OPTIMIZER_ADAMW: elman_optimizer = elman_optimizer(3);

/// What training makes small: one of the ELMAN_LOSS_ constants. A cross-entropy behind the network's own
/// sigmoid or softmax is taken from the values before it, as Keras's fit does.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct elman_loss(pub u32);

/// The mean of the squared differences.
pub const ELMAN_LOSS_MEAN_SQUARED_ERROR: elman_loss = elman_loss(0);
/// For targets 0 and 1 (or between).
pub const ELMAN_LOSS_BINARY_CROSSENTROPY: elman_loss = elman_loss(1);
/// For one-hot targets (or any distribution).
pub const ELMAN_LOSS_CATEGORICAL_CROSSENTROPY: elman_loss = elman_loss(2);
/// For one class number, as a float, in place of a row of targets.
pub const ELMAN_LOSS_SPARSE_CATEGORICAL_CROSSENTROPY: elman_loss = elman_loss(3);

/// How gradients are cut back: one of the ELMAN_CLIPPING_ constants.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct elman_clipping(pub u32);

/// Not at all.
pub const ELMAN_CLIPPING_NONE: elman_clipping = elman_clipping(0);
/// All by one factor, so that their common L2 norm is at most clip_limit.
pub const ELMAN_CLIPPING_GLOBAL_NORM: elman_clipping = elman_clipping(1);
/// Each weight's gradient by itself, so that its L2 norm is at most clip_limit.
pub const ELMAN_CLIPPING_NORM: elman_clipping = elman_clipping(2);
/// Each value to within clip_limit of 0.
pub const ELMAN_CLIPPING_VALUE: elman_clipping = elman_clipping(3);

/// How the learning rate goes from step to step: one of the ELMAN_SCHEDULE_ constants. Steps count from 0;
/// formulas are Keras's.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct elman_schedule(pub u32);

/// learning_rate throughout.
pub const ELMAN_SCHEDULE_CONSTANT: elman_schedule = elman_schedule(0);
/// learning_rate x decay_rate^(step / decay_steps); with staircase the exponent is rounded down.
pub const ELMAN_SCHEDULE_EXPONENTIAL: elman_schedule = elman_schedule(1);
/// From learning_rate in a straight line to warmup_target in warmup_steps steps, where these are not 0; from
/// there in decay_steps steps of half a cosine down to alpha times the highest rate.
pub const ELMAN_SCHEDULE_COSINE: elman_schedule = elman_schedule(2);

/// A learning rate that stands for Keras's default: 0.01 for SGD, 0.001 for the others. 0 is 0.
pub const ELMAN_LEARNING_RATE_DEFAULT: f32 = -1.0;
/// A beta_2 that stands for Keras's default: 0.999, and 0.9 for RMSprop's rho. 0 is 0.
pub const ELMAN_BETA_2_DEFAULT: f32 = -1.0;

/// How a network is trained. Fill it by elman_trainer_config_init, then change what you want. It is only read
/// during a call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elman_trainer_config {
    /// Bytes of this struct that are filled; set by elman_trainer_config_init.
    pub struct_size: usize,
    /// Default Adam.
    pub optimizer: elman_optimizer,
    /// Default mean squared error.
    pub loss: elman_loss,
    /// At step 0; default ELMAN_LEARNING_RATE_DEFAULT. A warm-up begins at 0 where it is the default.
    pub learning_rate: f32,
    /// Of SGD and RMSprop; default 0.
    pub momentum: f32,
    /// Of Adam and AdamW; below 1; default 0.9.
    pub beta_1: f32,
    /// Of Adam and AdamW, and RMSprop's rho; below 1; default ELMAN_BETA_2_DEFAULT.
    pub beta_2: f32,
    /// Of all but SGD; above 0; default 1e-7.
    pub epsilon: f32,
    /// Of AdamW; default 0.004.
    pub weight_decay: f32,
    /// Default ELMAN_CLIPPING_NONE.
    pub clipping: elman_clipping,
    /// For the clipping.
    pub clip_limit: f32,
    /// Times the sum of |w| over all kernels and recurrent kernels, added to the loss; default 0.
    pub l1: f32,
    /// Times the sum of w^2 over all kernels and recurrent kernels, added to the loss; default 0.
    pub l2: f32,
    /// 1: Nesterov's look ahead, of SGD; default 0.
    pub nesterov: u8,
    /// 1: the loss takes predictions as logits; default 0.
    pub from_logits: u8,
    /// 1: of an embedding only the rows move whose tokens a batch holds; default 0: all, by their momentum,
    /// as in Keras.
    pub lazy_embeddings: u8,
    /// What dropout masks are drawn from; default 0.
    pub seed: u64,
    /// Default ELMAN_SCHEDULE_CONSTANT.
    pub schedule: elman_schedule,
    /// Of the exponential schedule: the factor that decay_steps steps make; default 1.
    pub decay_rate: f32,
    /// Of both schedules, which need at least 1; default 0.
    pub decay_steps: u64,
    /// Of the cosine schedule; default 0, no warm-up.
    pub warmup_steps: u64,
    /// Of the cosine schedule: the rate that the warm-up ends at; default 0.
    pub warmup_target: f32,
    /// Of the cosine schedule: what remains at its end, as a share of the highest rate; default 0.
    pub alpha: f32,
    /// 1: the exponential schedule falls in stairs; default 0.
    pub staircase: u8,
    /// 1: the largest squares so far stand in the divisor, of Adam and AdamW; default 0.
    pub amsgrad: u8,
    /// 1: the squared mean of the gradients is taken off the squares, of RMSprop; default 0.
    pub centered: u8,
    /// Truncated backward: each truncate_every steps of a sequence have a loss and an update of their own, in
    /// one call of elman_trainer_step, whose *loss is the mean over all outputs that count. Each of these
    /// updates is a step of the optimizer, of the schedule and of the dropout masks. For networks without a
    /// layer that runs backwards whose output is a sequence. Default 0: one update, and gradients run through
    /// the whole sequence.
    pub truncate_every: usize,
    /// Steps that gradients run back from the end of each truncate_every steps, at least truncate_every;
    /// default 0, which stands for truncate_every. Where it is more, the network runs over these steps once
    /// more with its newest weights, from the states that the run before had there.
    pub truncate_back: usize,
}

/// A network's training: the optimizer's state and the buffers. Made by elman_trainer_new or
/// elman_trainer_load, ended by elman_trainer_free. It changes the network in each step, and keeps it alive:
/// elman_sequential_free may come before elman_trainer_free.
///
/// Stateful layers go on from where the last call ended, be it a step, an evaluation, a predict or a run, and
/// leave their states to the next, as in Keras; gradients do not run back into them.
/// elman_sequential_reset_states makes them zero.
///
/// Threads: functions that take it const may run on any number of threads at once; the others need it alone.
/// Other threads may use the network during a step: they and the step wait for each other.
pub struct elman_trainer {
    pub(super) trainer: Trainer,
    pub(super) network: elman_sequential,
}

/// Fills `config` with the defaults. struct_size is `sizeof *config` as your compiler sees it: no more bytes
/// than that are written.
///
/// Fails with INVALID_ARGUMENT where struct_size does not even hold the loss.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_config_init(
    config: *mut elman_trainer_config,
    struct_size: usize,
) -> elman_status {
    boundary(|| {
        let least = offset_of!(elman_trainer_config, learning_rate);
        let defaults = |struct_size| elman_trainer_config { struct_size, ..DEFAULTS };
        // SAFETY: struct_size bytes to write: the contract at the top of the header.
        unsafe { fill("config", config, struct_size, least, defaults) }
    })
}

const DEFAULTS: elman_trainer_config = elman_trainer_config {
    struct_size: size_of::<elman_trainer_config>(),
    optimizer: ELMAN_OPTIMIZER_ADAM,
    loss: ELMAN_LOSS_MEAN_SQUARED_ERROR,
    learning_rate: ELMAN_LEARNING_RATE_DEFAULT,
    momentum: 0.0,
    beta_1: 0.9,
    beta_2: ELMAN_BETA_2_DEFAULT,
    epsilon: 1e-7,
    weight_decay: 0.004,
    clipping: ELMAN_CLIPPING_NONE,
    clip_limit: 0.0,
    l1: 0.0,
    l2: 0.0,
    nesterov: 0,
    from_logits: 0,
    lazy_embeddings: 0,
    seed: 0,
    schedule: ELMAN_SCHEDULE_CONSTANT,
    decay_rate: 1.0,
    decay_steps: 0,
    warmup_steps: 0,
    warmup_target: 0.0,
    alpha: 0.0,
    staircase: 0,
    amsgrad: 0,
    centered: 0,
    truncate_every: 0,
    truncate_back: 0,
};

/// The configuration that C wrote.
///
/// # Safety
/// `config` is NULL or points to as many readable bytes as its first field says.
unsafe fn read_config(config: *const elman_trainer_config) -> Result<TrainerConfig, Failure> {
    // SAFETY: the caller's duty is the same.
    let struct_size =
        unsafe { size_of_given("config", config, offset_of!(elman_trainer_config, learning_rate)) }?;
    let mut given = DEFAULTS;
    read_fields!(config, struct_size, given: elman_trainer_config {
        optimizer, loss, learning_rate, momentum, beta_1, beta_2, epsilon, weight_decay, clipping, clip_limit, l1, l2,
        nesterov, from_logits, lazy_embeddings, seed, schedule, decay_rate, decay_steps, warmup_steps, warmup_target,
        alpha, staircase, amsgrad, centered, truncate_every, truncate_back,
    });
    let beta_2_or = |default: f32| if given.beta_2 == ELMAN_BETA_2_DEFAULT { default } else { given.beta_2 };
    let elman_trainer_config { momentum, beta_1, epsilon, weight_decay, clip_limit, .. } = given;
    let beta_2 = beta_2_or(0.999);
    let amsgrad = flag("amsgrad", given.amsgrad)?;
    let centered = flag("centered", given.centered)?;
    let optimizer = match given.optimizer {
        ELMAN_OPTIMIZER_SGD => Optimizer::Sgd { momentum, nesterov: flag("nesterov", given.nesterov)? },
        ELMAN_OPTIMIZER_RMSPROP => Optimizer::RmsProp { rho: beta_2_or(0.9), momentum, epsilon, centered },
        ELMAN_OPTIMIZER_ADAM => Optimizer::Adam { beta_1, beta_2, epsilon, amsgrad },
        ELMAN_OPTIMIZER_ADAMW => Optimizer::AdamW { beta_1, beta_2, epsilon, amsgrad, weight_decay },
        elman_optimizer(other) => return Err(unknown("optimizer", other)),
    };
    let from_logits = flag("from_logits", given.from_logits)?;
    let loss = match given.loss {
        ELMAN_LOSS_MEAN_SQUARED_ERROR => Loss::MeanSquaredError,
        ELMAN_LOSS_BINARY_CROSSENTROPY => Loss::BinaryCrossentropy { from_logits },
        ELMAN_LOSS_CATEGORICAL_CROSSENTROPY => Loss::CategoricalCrossentropy { from_logits },
        ELMAN_LOSS_SPARSE_CATEGORICAL_CROSSENTROPY => Loss::SparseCategoricalCrossentropy { from_logits },
        elman_loss(other) => return Err(unknown("loss", other)),
    };
    let clipping = match given.clipping {
        ELMAN_CLIPPING_NONE => Clipping::None,
        ELMAN_CLIPPING_GLOBAL_NORM => Clipping::GlobalNorm(clip_limit),
        ELMAN_CLIPPING_NORM => Clipping::Norm(clip_limit),
        ELMAN_CLIPPING_VALUE => Clipping::Value(clip_limit),
        elman_clipping(other) => return Err(unknown("clipping", other)),
    };
    let elman_trainer_config { learning_rate, decay_steps, decay_rate, alpha, .. } = given;
    let rate_or =
        |default| if learning_rate == ELMAN_LEARNING_RATE_DEFAULT { default } else { learning_rate };
    let initial = rate_or(optimizer.default_rate());
    let schedule = match (given.schedule, given.warmup_steps) {
        (ELMAN_SCHEDULE_CONSTANT, _) => Schedule::Constant(initial),
        (ELMAN_SCHEDULE_EXPONENTIAL, _) => {
            let staircase = flag("staircase", given.staircase)?;
            Schedule::Exponential { initial, decay_steps, decay_rate, staircase }
        }
        (ELMAN_SCHEDULE_COSINE, 0) => Schedule::Cosine { initial, decay_steps, alpha, warmup: None },
        (ELMAN_SCHEDULE_COSINE, steps) => {
            let warmup = Some((given.warmup_target, steps));
            Schedule::Cosine { initial: rate_or(0.0), decay_steps, alpha, warmup }
        }
        (elman_schedule(other), _) => return Err(unknown("schedule", other)),
    };
    let truncation = match (given.truncate_every, given.truncate_back) {
        (0, 0) => None,
        (every, 0) => Some(Truncation { every, back: every }),
        (every, back) => Some(Truncation { every, back }),
    };
    Ok(TrainerConfig {
        schedule,
        clipping,
        l1: given.l1,
        l2: given.l2,
        lazy_embeddings: flag("lazy_embeddings", given.lazy_embeddings)?,
        seed: given.seed,
        truncation,
        ..TrainerConfig::new(optimizer, loss)
    })
}

/// Makes a trainer for a built network, before the first step.
///
/// On success *out is the new trainer, and yours to free.
///
/// Fails with NOT_BUILT, INVALID_ARGUMENT (a number outside its range, an unknown enum value, a flag other
/// than 0 and 1, a loss that does not fit the output: from_logits behind a sigmoid or softmax, a
/// cross-entropy without it on outputs that are no probabilities, a categorical one of a single output),
/// UNSUPPORTED (the last layer gives two arrays, truncation of a network that it is not for,
/// elman_sequential_drop_weights has freed the weights), OUT_OF_MEMORY.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_new(
    network: *mut elman_sequential,
    config: *const elman_trainer_config,
    out: *mut *mut elman_trainer,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { shared("network", network) }?;
        // SAFETY: readable for its struct_size bytes: the contract at the top of the header.
        let config = unsafe { read_config(config) }?;
        let out = Place::new("out", out)?;
        let trainer = Trainer::new(&*network.read()?, config)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { out.put_handle(elman_trainer { trainer, network: network.share() }) };
        Ok(())
    })
}

/// One step on x [batch, steps, features] and target, which is laid out as the network's output (the sparse
/// loss: one class number for each row of it). *loss receives the batch's loss before the weights moved.
/// `options` may be NULL. Where the network gives sequences, masked steps do not count in the loss; a batch
/// that is masked throughout has loss 0 (but for penalties), and is no step: nothing moves.
///
/// elman_trainer_step_examples does the same on a struct, elman_examples, which holds whatever is optional
/// too: weights, class weights, masks. It serves floats and token ids.
///
/// Fails like elman_sequential_run, and with INVALID_ARGUMENT for a class number that is none where its
/// weight is not 0, NOT_FINITE where the loss, a gradient, a new weight or what the optimizer keeps is a NaN
/// or an infinity, UNSUPPORTED where truncation meets ONNX padding or elman_sequential_drop_weights has freed
/// the weights: weights, optimizer and states are unchanged then, as after any other failure.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_step(
    trainer: *mut elman_trainer,
    x: *const f32,
    x_len: usize,
    batch: usize,
    steps: usize,
    target: *const f32,
    target_len: usize,
    options: *const elman_run_options,
    loss: *mut f32,
) -> elman_status {
    let given = GivenRows::new((x, x_len), (batch, steps), (target, target_len));
    // SAFETY: the contract at the top of the header is `step`'s.
    unsafe { step(trainer, given, options, loss) }
}

/// elman_trainer_step for token ids [batch, steps].
///
/// Fails like elman_trainer_step, and with INVALID_ARGUMENT where an id is outside the vocabulary.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_step_tokens(
    trainer: *mut elman_trainer,
    ids: *const i32,
    ids_len: usize,
    batch: usize,
    steps: usize,
    target: *const f32,
    target_len: usize,
    options: *const elman_run_options,
    loss: *mut f32,
) -> elman_status {
    let given = GivenRows::new((ids, ids_len), (batch, steps), (target, target_len));
    // SAFETY: the contract at the top of the header is `step`'s.
    unsafe { step(trainer, given, options, loss) }
}

/// elman_trainer_step where each row counts by its weight: weights is [batch], or [batch, steps] where the
/// network gives sequences. The loss is the sum of weight x loss over what counts, divided by its number and
/// not by the weights' sum, as in Keras. elman_trainer_step_examples takes the weights in a struct.
///
/// Fails like elman_trainer_step.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_step_weighted(
    trainer: *mut elman_trainer,
    x: *const f32,
    x_len: usize,
    batch: usize,
    steps: usize,
    target: *const f32,
    target_len: usize,
    weights: *const f32,
    weights_len: usize,
    options: *const elman_run_options,
    loss: *mut f32,
) -> elman_status {
    let given =
        GivenRows::new((x, x_len), (batch, steps), (target, target_len)).weighted(weights, weights_len);
    // SAFETY: the contract at the top of the header is `step`'s.
    unsafe { step(trainer, given, options, loss) }
}

/// elman_trainer_step_weighted for token ids [batch, steps].
///
/// Fails like elman_trainer_step_tokens.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_step_weighted_tokens(
    trainer: *mut elman_trainer,
    ids: *const i32,
    ids_len: usize,
    batch: usize,
    steps: usize,
    target: *const f32,
    target_len: usize,
    weights: *const f32,
    weights_len: usize,
    options: *const elman_run_options,
    loss: *mut f32,
) -> elman_status {
    let given =
        GivenRows::new((ids, ids_len), (batch, steps), (target, target_len)).weighted(weights, weights_len);
    // SAFETY: the contract at the top of the header is `step`'s.
    unsafe { step(trainer, given, options, loss) }
}

/// elman_trainer_evaluate_examples on x [batch, steps, features] and target, laid out as in
/// elman_trainer_step: *loss receives the loss, *accuracy, which may be NULL, the share of right answers.
/// weights may be NULL, with weights_len 0, where all rows count alike. With masks, lengths or states, class
/// weights, and for a weighted accuracy, call that function.
///
/// Fails like elman_trainer_step, but for NOT_FINITE: a loss that is a NaN or an infinity is given as it is.
///
/// Threads: any number at once on one trainer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_evaluate(
    trainer: *const elman_trainer,
    x: *const f32,
    x_len: usize,
    batch: usize,
    steps: usize,
    target: *const f32,
    target_len: usize,
    weights: *const f32,
    weights_len: usize,
    loss: *mut f32,
    accuracy: *mut f32,
) -> elman_status {
    let given = GivenRows::new((x, x_len), (batch, steps), (target, target_len));
    // SAFETY: the contract at the top of the header is `evaluate`'s.
    unsafe { evaluate(trainer, given, (weights, weights_len), loss, accuracy) }
}

/// elman_trainer_evaluate for token ids [batch, steps].
///
/// Fails like elman_trainer_evaluate, and with INVALID_ARGUMENT where an id is outside the vocabulary.
///
/// Threads: any number at once on one trainer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_evaluate_tokens(
    trainer: *const elman_trainer,
    ids: *const i32,
    ids_len: usize,
    batch: usize,
    steps: usize,
    target: *const f32,
    target_len: usize,
    weights: *const f32,
    weights_len: usize,
    loss: *mut f32,
    accuracy: *mut f32,
) -> elman_status {
    let given = GivenRows::new((ids, ids_len), (batch, steps), (target, target_len));
    // SAFETY: the contract at the top of the header is `evaluate`'s.
    unsafe { evaluate(trainer, given, (weights, weights_len), loss, accuracy) }
}

/// Rows with their targets, as C hands them over.
struct GivenRows<T> {
    x: Given<T>,
    sizes: (usize, usize),
    target: Given<f32>,
    /// Where there are any.
    weights: Option<Given<f32>>,
}

/// How many outputs a batch has, and how many target numbers each.
pub(super) fn target_shape(
    trainer: &Trainer,
    network: &Sequential,
    (batch, steps): (usize, usize),
) -> Result<(usize, usize), Failure> {
    let columns = network.network("trainer")?.output.features;
    let outputs = network.output_len(batch, steps)? / columns;
    Ok((outputs, trainer.config().loss.target_columns(columns)))
}

/// [`GivenRows`] whose every length fits.
struct Rows<T> {
    x: Input<T>,
    sizes: (usize, usize),
    target: Input<f32>,
    weights: Option<Input<f32>>,
}

impl<T: Element> GivenRows<T> {
    fn new(x: Given<T>, sizes: (usize, usize), target: Given<f32>) -> Self {
        Self { x, sizes, target, weights: None }
    }

    fn weighted(self, weights: *const f32, len: usize) -> Self {
        Self { weights: Some((weights, len)), ..self }
    }

    fn check(self, trainer: &Trainer, network: &Sequential) -> Result<Rows<T>, Failure> {
        let (batch, steps) = self.sizes;
        let x = T::input(self.x)?;
        let target = Input::new("target", self.target.0, self.target.1)?;
        let weights = self.weights.map(|(start, len)| Input::new("weights", start, len)).transpose()?;
        let (outputs, target_columns) = target_shape(trainer, network, (batch, steps))?;
        let target = target.expect("rows x target columns", &[outputs, target_columns])?;
        let weights = weights.map(|weights| weights.expect("rows x outputs", &[outputs])).transpose()?;
        Ok(Rows { x: T::expect(x, network, self.sizes)?, sizes: self.sizes, target, weights })
    }
}

impl<T: Element> Rows<T> {
    fn spans(&self) -> impl Iterator<Item = Span> {
        let weights = self.weights.as_ref().map(Input::span);
        [self.x.span(), self.target.span()].into_iter().chain(weights)
    }

    /// # Safety
    /// The arrays are as long as C said, and nobody writes them during the call.
    unsafe fn examples<'a>(&self) -> Examples<'a> {
        // SAFETY: the caller's duty is the same for each.
        let (x, target, weights) = unsafe {
            (self.x.slice(), self.target.slice(), self.weights.as_ref().map(|weights| weights.slice()))
        };
        let examples = Examples::new(T::values(x), self.sizes.0, self.sizes.1, target);
        weights.map_or(examples, |weights| examples.weights(weights))
    }
}

/// # Safety
/// What the header asks of its callers.
unsafe fn step<T: Element>(
    trainer: *mut elman_trainer,
    given: GivenRows<T>,
    options: *const elman_run_options,
    loss: *mut f32,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the caller's duty.
        let elman_trainer { trainer, network } = unsafe { unshared("trainer", trainer) }?;
        let mut network = network.write()?;
        let loss = Output::new("loss", loss, 1)?;
        let (batch, steps) = given.sizes;
        let rows = given.check(trainer, &network)?;
        // SAFETY: readable for its struct_size bytes: the caller's duty.
        let options = unsafe { Options::read(options, &network, batch, steps) }?;
        rows.spans().try_for_each(|span| options.check_overlap(span, &loss))?;
        // SAFETY: as long as C says: the caller's duty; apart, checked above.
        let (examples, options) = unsafe { (rows.examples(), options.into_run_options()) };
        let value = trainer.step(&mut network, examples, options)?;
        // SAFETY: valid for a write: the caller's duty.
        unsafe { loss.copy_from("one", &[1], &[value]) }
    })
}

/// # Safety
/// What the header asks of its callers.
unsafe fn evaluate<T: Element>(
    trainer: *const elman_trainer,
    given: GivenRows<T>,
    weights: Given<f32>,
    loss: *mut f32,
    accuracy: *mut f32,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the caller's duty.
        let elman_trainer { trainer, network } = unsafe { shared("trainer", trainer) }?;
        let network = network.read()?;
        let loss = Output::new("loss", loss, 1)?;
        let accuracy = if accuracy.is_null() { None } else { Some(Output::new("accuracy", accuracy, 1)?) };
        let weights = used("weights", weights.0, weights.1)?;
        let rows = GivenRows { weights, ..given }.check(trainer, &network)?;
        for span in rows.spans() {
            loss.apart_from(span)?;
            accuracy.as_ref().map_or(Ok(()), |accuracy| accuracy.apart_from(span))?;
        }
        accuracy.as_ref().map_or(Ok(()), |accuracy| accuracy.apart_from(loss.span()))?;
        // SAFETY: as long as C says: the caller's duty.
        let score = trainer.evaluate(&network, unsafe { rows.examples() })?;
        // SAFETY: both valid for a write: the caller's duty; apart, checked above.
        unsafe {
            loss.copy_from("one", &[1], &[score.loss])?;
            accuracy.map_or(Ok(()), |to| to.copy_from("one", &[1], &[score.accuracy.unwrap_or(f32::NAN)]))
        }
    })
}

/// The first half of a step, for hosts that change gradients or average them between processes: *loss
/// receives the batch's loss, penalties included, and `gradients` (elman_sequential_parameter_count floats)
/// its gradients in the order of elman_sequential_get_parameters, before they are clipped; those of frozen
/// layers are 0. Nothing moves, neither weights nor the states of stateful layers, until elman_trainer_apply.
///
/// Fails like elman_trainer_step, and with UNSUPPORTED where the trainer truncates, whose step is several.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_backward(
    trainer: *mut elman_trainer,
    x: *const f32,
    x_len: usize,
    batch: usize,
    steps: usize,
    target: *const f32,
    target_len: usize,
    options: *const elman_run_options,
    gradients: *mut f32,
    gradients_len: usize,
    loss: *mut f32,
) -> elman_status {
    let given = GivenRows::new((x, x_len), (batch, steps), (target, target_len));
    // SAFETY: the contract at the top of the header is `backward`'s.
    unsafe { backward(trainer, given, options, (gradients, gradients_len), loss) }
}

/// elman_trainer_backward for token ids [batch, steps].
///
/// Fails like elman_trainer_backward, and with INVALID_ARGUMENT where an id is outside the vocabulary.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_backward_tokens(
    trainer: *mut elman_trainer,
    ids: *const i32,
    ids_len: usize,
    batch: usize,
    steps: usize,
    target: *const f32,
    target_len: usize,
    options: *const elman_run_options,
    gradients: *mut f32,
    gradients_len: usize,
    loss: *mut f32,
) -> elman_status {
    let given = GivenRows::new((ids, ids_len), (batch, steps), (target, target_len));
    // SAFETY: the contract at the top of the header is `backward`'s.
    unsafe { backward(trainer, given, options, (gradients, gradients_len), loss) }
}

/// # Safety
/// What the header asks of its callers.
unsafe fn backward<T: Element>(
    trainer: *mut elman_trainer,
    given: GivenRows<T>,
    options: *const elman_run_options,
    gradients: (*mut f32, usize),
    loss: *mut f32,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the caller's duty.
        let elman_trainer { trainer, network } = unsafe { unshared("trainer", trainer) }?;
        let network = network.read()?;
        let loss = Output::new("loss", loss, 1)?;
        let gradients = Output::new("gradients", gradients.0, gradients.1)?;
        let (batch, steps) = given.sizes;
        let rows = given.check(trainer, &network)?;
        let gradients = gradients.expect("parameter_count", &[network.parameter_count()?])?;
        // SAFETY: readable for its struct_size bytes: the caller's duty.
        let options = unsafe { Options::read(options, &network, batch, steps) }?;
        for span in rows.spans() {
            options.check_overlap(span, &loss)?;
            options.check_overlap(span, &gradients)?;
        }
        loss.apart_from(gradients.span())?;
        // SAFETY: as long as C says: the caller's duty; apart, checked above.
        let (examples, options) = unsafe { (rows.examples(), options.into_run_options()) };
        // SAFETY: as above.
        let value = trainer.backward(&network, examples, options, unsafe { gradients.slice() })?;
        // SAFETY: valid for a write: the caller's duty.
        unsafe { loss.copy_from("one", &[1], &[value]) }
    })
}

/// The second half of a step: clips `gradients`, laid out as elman_trainer_backward gives them, and moves the
/// weights by them. With the gradients of one elman_trainer_backward as they are, the two have the bits of
/// one elman_trainer_step: a batch that was masked throughout, for one, moves nothing. Stateful layers go on
/// from where the last elman_trainer_backward ended. With lazy_embeddings those rows move that it met or
/// whose gradient is not 0.
///
/// Fails with LENGTH_MISMATCH, OUT_OF_MEMORY, NOT_FINITE where a gradient, a new weight or what the optimizer
/// keeps is a NaN or an infinity, UNSUPPORTED (elman_sequential_drop_weights has freed the weights): nothing
/// has moved then.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_apply(
    trainer: *mut elman_trainer,
    gradients: *const f32,
    gradients_len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_trainer { trainer, network } = unsafe { unshared("trainer", trainer) }?;
        let mut network = network.write()?;
        let gradients = Input::new("gradients", gradients, gradients_len)?
            .expect("parameter_count", &[network.parameter_count()?])?;
        // SAFETY: as long as C says: the contract at the top of the header.
        trainer.apply(&mut network, unsafe { gradients.slice() })?;
        Ok(())
    })
}

/// *steps receives how many steps the trainer has taken, those before a checkpoint included.
///
/// Fails with nothing but what all functions may.
///
/// Threads: any number at once on one trainer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_steps(trainer: *const elman_trainer, steps: *mut u64) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let trainer = unsafe { shared("trainer", trainer) }?;
        let steps = Place::new("steps", steps)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { steps.put(trainer.trainer.steps()) };
        Ok(())
    })
}

/// *learning_rate receives the rate of the next step.
///
/// Fails with nothing but what all functions may.
///
/// Threads: any number at once on one trainer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_get_learning_rate(
    trainer: *const elman_trainer,
    learning_rate: *mut f32,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let trainer = unsafe { shared("trainer", trainer) }?;
        let learning_rate = Place::new("learning_rate", learning_rate)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { learning_rate.put(trainer.trainer.learning_rate()) };
        Ok(())
    })
}

/// Takes all further steps at this rate, in place of the configuration's schedule;
/// ELMAN_LEARNING_RATE_DEFAULT stands for the optimizer's own. 0 moves nothing but what momentum moves.
///
/// Fails with INVALID_ARGUMENT for another rate below 0, or one that is not finite.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_set_learning_rate(
    trainer: *mut elman_trainer,
    learning_rate: f32,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_trainer { trainer, .. } = unsafe { unshared("trainer", trainer) }?;
        let default = trainer.config().optimizer.default_rate();
        let is_default = learning_rate == ELMAN_LEARNING_RATE_DEFAULT;
        trainer.set_learning_rate(if is_default { default } else { learning_rate })?;
        Ok(())
    })
}

/// Freezes the weights of a layer (false), or lets them move again: Keras's trainable. What is frozen has
/// gradients of 0, counts in no norm and no penalty, and keeps what the optimizer has beside it. Its dropout
/// stays active.
///
/// Fails with INVALID_ARGUMENT (no such layer, or one without weights).
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_set_trainable(
    trainer: *mut elman_trainer,
    layer: usize,
    trainable: elman_bool,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_trainer { trainer, .. } = unsafe { unshared("trainer", trainer) }?;
        trainer.set_trainable(layer, trainable.read("trainable")?)?;
        Ok(())
    })
}

/// Keeps a weight out of AdamW's weight decay (false), or lets it in again: Keras's
/// exclude_from_weight_decay. At first it acts on every weight, biases included, as in Keras.
///
/// Fails with INVALID_ARGUMENT (no such layer, an unknown weight, or one that the layer does not have).
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_set_weight_decay(
    trainer: *mut elman_trainer,
    layer: usize,
    which: elman_weight,
    decays: elman_bool,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_trainer { trainer, .. } = unsafe { unshared("trainer", trainer) }?;
        trainer.set_decays(layer, which.read()?, decays.read("decays")?)?;
        Ok(())
    })
}

/// Frees a trainer; its network stays unless it is freed already. NULL is fine; a second time is not. In a
/// child process whose parent was in a step of it, nothing happens: its memory is half changed.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_free(trainer: *mut elman_trainer) {
    // SAFETY: NULL or a live handle: the contract at the top of the header.
    if unsafe { trainer.as_ref() }.is_some_and(|trainer| trainer.network.is_torn()) {
        return;
    }
    // SAFETY: made by `put_handle`, not freed before and not in use: the contract at the top of the header.
    unsafe { free(trainer) }
}
