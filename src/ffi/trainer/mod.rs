//! Training by whole steps.
//!
//! `config` reads how, `rows` on what; `handle` is the trainer as C holds it; `steps` takes whole steps, `halves` their halves,
//! `settings` what lies between them.

mod config;
mod halves;
mod handle;
mod rows;
mod settings;
mod steps;

pub(super) use rows::target_shape;

pub use config::*;
pub use halves::*;
pub use handle::*;
pub use settings::*;
pub use steps::*;
