//! How a network is trained, as C says it.

use std::mem::offset_of;

use crate::ffi::boundary::boundary;
use crate::ffi::enums::unknown;
use crate::ffi::raw::flag;
use crate::ffi::sized::{fill, read_fields, size_of_given};
use crate::ffi::status::{Failure, elman_status};
use crate::training::{Clipping, Loss, Optimizer, Schedule, TrainerConfig, Truncation};

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
pub(super) unsafe fn read_config(config: *const elman_trainer_config) -> Result<TrainerConfig, Failure> {
    // SAFETY: the caller's duty is the same.
    let struct_size =
        unsafe { size_of_given("config", config, offset_of!(elman_trainer_config, learning_rate)) }?;
    let mut given = DEFAULTS;
    read_fields!(config, struct_size, given: elman_trainer_config {
        optimizer, loss, learning_rate, momentum, beta_1, beta_2, epsilon, weight_decay, clipping, clip_limit, l1, l2,
        nesterov, from_logits, lazy_embeddings, seed, schedule, decay_rate, decay_steps, warmup_steps, warmup_target,
        alpha, staircase, amsgrad, centered, truncate_every, truncate_back,
    });
    let (optimizer, loss, clipping) = (given.optimizer()?, given.loss()?, given.clipping()?);
    Ok(TrainerConfig {
        schedule: given.schedule(&optimizer)?,
        clipping,
        l1: given.l1,
        l2: given.l2,
        lazy_embeddings: flag("lazy_embeddings", given.lazy_embeddings)?,
        seed: given.seed,
        truncation: given.truncation(),
        ..TrainerConfig::new(optimizer, loss)
    })
}

impl elman_trainer_config {
    fn optimizer(&self) -> Result<Optimizer, Failure> {
        let beta_2_or =
            |default: f32| if self.beta_2 == ELMAN_BETA_2_DEFAULT { default } else { self.beta_2 };
        let &Self { momentum, beta_1, epsilon, weight_decay, .. } = self;
        let beta_2 = beta_2_or(0.999);
        let amsgrad = flag("amsgrad", self.amsgrad)?;
        let centered = flag("centered", self.centered)?;
        Ok(match self.optimizer {
            ELMAN_OPTIMIZER_SGD => Optimizer::Sgd { momentum, nesterov: flag("nesterov", self.nesterov)? },
            ELMAN_OPTIMIZER_RMSPROP => {
                Optimizer::RmsProp { rho: beta_2_or(0.9), momentum, epsilon, centered }
            }
            ELMAN_OPTIMIZER_ADAM => Optimizer::Adam { beta_1, beta_2, epsilon, amsgrad },
            ELMAN_OPTIMIZER_ADAMW => Optimizer::AdamW { beta_1, beta_2, epsilon, amsgrad, weight_decay },
            elman_optimizer(other) => return Err(unknown("optimizer", other)),
        })
    }

    fn loss(&self) -> Result<Loss, Failure> {
        let from_logits = flag("from_logits", self.from_logits)?;
        Ok(match self.loss {
            ELMAN_LOSS_MEAN_SQUARED_ERROR => Loss::MeanSquaredError,
            ELMAN_LOSS_BINARY_CROSSENTROPY => Loss::BinaryCrossentropy { from_logits },
            ELMAN_LOSS_CATEGORICAL_CROSSENTROPY => Loss::CategoricalCrossentropy { from_logits },
            ELMAN_LOSS_SPARSE_CATEGORICAL_CROSSENTROPY => Loss::SparseCategoricalCrossentropy { from_logits },
            elman_loss(other) => return Err(unknown("loss", other)),
        })
    }

    fn clipping(&self) -> Result<Clipping, Failure> {
        Ok(match self.clipping {
            ELMAN_CLIPPING_NONE => Clipping::None,
            ELMAN_CLIPPING_GLOBAL_NORM => Clipping::GlobalNorm(self.clip_limit),
            ELMAN_CLIPPING_NORM => Clipping::Norm(self.clip_limit),
            ELMAN_CLIPPING_VALUE => Clipping::Value(self.clip_limit),
            elman_clipping(other) => return Err(unknown("clipping", other)),
        })
    }

    /// Where the learning rate stands for a default, it is that of `optimizer`.
    fn schedule(&self, optimizer: &Optimizer) -> Result<Schedule, Failure> {
        let &Self { learning_rate, decay_steps, decay_rate, alpha, .. } = self;
        let rate_or =
            |default| if learning_rate == ELMAN_LEARNING_RATE_DEFAULT { default } else { learning_rate };
        let initial = rate_or(optimizer.default_rate());
        Ok(match (self.schedule, self.warmup_steps) {
            (ELMAN_SCHEDULE_CONSTANT, _) => Schedule::Constant(initial),
            (ELMAN_SCHEDULE_EXPONENTIAL, _) => {
                let staircase = flag("staircase", self.staircase)?;
                Schedule::Exponential { initial, decay_steps, decay_rate, staircase }
            }
            (ELMAN_SCHEDULE_COSINE, 0) => Schedule::Cosine { initial, decay_steps, alpha, warmup: None },
            (ELMAN_SCHEDULE_COSINE, steps) => {
                let warmup = Some((self.warmup_target, steps));
                Schedule::Cosine { initial: rate_or(0.0), decay_steps, alpha, warmup }
            }
            (elman_schedule(other), _) => return Err(unknown("schedule", other)),
        })
    }

    fn truncation(&self) -> Option<Truncation> {
        match (self.truncate_every, self.truncate_back) {
            (0, 0) => None,
            (every, 0) => Some(Truncation { every, back: every }),
            (every, back) => Some(Truncation { every, back }),
        }
    }
}
