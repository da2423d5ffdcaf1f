//! What the suites share: networks as plain data, the slow oracle, the numbers that everything is made of, the
//! vectors of Keras, compilers for C, and the way to run a suite once more on every other backend.

#![allow(dead_code, reason = "every suite is a crate of its own and uses its own part of this")]

pub(crate) mod backends;
pub(crate) mod c;
pub(crate) mod cells;
pub(crate) mod counting;
pub(crate) mod failing;
pub(crate) mod host;
pub(crate) mod network;
pub(crate) mod numbers;
pub(crate) mod programs;
pub(crate) mod questions;
pub(crate) mod reference;
pub(crate) mod vectors;
