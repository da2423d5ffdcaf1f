//! Training: what is made small ([`Loss`]), what moves the weights ([`Optimizer`], [`Schedule`]) and what keeps
//! gradients in bounds ([`Clipping`]), put together in the [`Trainer`] and in `Sequential::fit`.

#![forbid(unsafe_code)]

mod clip;
mod fit;
mod loss;
mod optimizer;
mod parameters;
mod schedule;
mod trainer;
mod truncation;

pub use clip::Clipping;
pub use fit::{Epoch, Fit};
pub use loss::{Batch, Loss};
pub use optimizer::{Optimizer, OptimizerState, Step};
pub use schedule::Schedule;
pub use trainer::{Examples, Score, Trainer, TrainerConfig};
pub use truncation::Truncation;
