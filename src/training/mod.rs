//! Training: what is made small ([`Loss`]), what moves the weights ([`Optimizer`], [`Schedule`]) and what keeps
//! gradients in bounds ([`Clipping`]).

#![forbid(unsafe_code)]

mod clip;
mod loss;
mod optimizer;
mod parameters;
mod schedule;

pub use clip::Clipping;
pub use loss::{Batch, Loss};
pub use optimizer::{Optimizer, OptimizerState, Step};
pub use schedule::Schedule;
