//! The stack of layers.
//!
//! `handle` is the network as C holds it; `layers` adds and builds, `weights` and `states` read and replace, `runs` runs.

mod handle;
mod layers;
mod runs;
mod states;
mod weights;

pub(super) use handle::{changing, reading};
pub(super) use layers::add;

pub use handle::*;
pub use layers::*;
pub use runs::*;
pub use states::*;
pub use weights::*;
