//! Training: what is made small ([`Loss`]), what moves the weights ([`Optimizer`], [`Schedule`]) and what
//! keeps gradients in bounds ([`Clipping`]), put together in the [`Trainer`] and in `Sequential::fit`.

#![forbid(unsafe_code)]

mod clip;
mod config;
mod descent;
mod evaluate;
mod examples;
mod fit;
mod loss;
mod optimizer;
mod output;
mod parameters;
mod pass;
mod penalty;
mod progress;
mod schedule;
mod score;
mod step;
mod trainer;
mod truncation;

pub use clip::Clipping;
pub use config::TrainerConfig;
pub use examples::Examples;
pub use fit::{Advance, BatchEnd, Epoch, Fit, Fitting};
pub use loss::{Batch, Loss};
pub use optimizer::{Optimizer, OptimizerState, Step};
pub use schedule::Schedule;
pub use score::Score;
pub use trainer::Trainer;
pub use truncation::Truncation;
