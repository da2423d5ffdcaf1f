//! Some rows of a batch: a tape of their own but for the weights.

use std::ops::Range;

use super::Mode;
use super::ops::{Op, Value};
use super::unroll::unroll;
use crate::dispatch::{KernelSet, kernels};
use crate::error::Result;
use crate::memory::{AlignedVec, List, checked_product};
use crate::sequence::input::Input;
use crate::sequence::network::Network;
use crate::sequence::pipeline::{Map, Source};
use crate::sequence::schedule::StepSchedule;

/// What operations only read.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) kernels: &'static KernelSet,
    pub(super) mode: Mode,
    pub(super) schedule: StepSchedule,
    /// By compact step: the rows of all steps before it.
    pub(super) bases: List<usize>,
    /// Rows in the caller's order of step and row, for compact steps forwards, backwards, and for positions;
    /// empty where that is their own order.
    pub(super) orders: [List<usize>; 3],
    /// As wide as any layer.
    pub(super) zeros: AlignedVec,
}

/// The input, kept for the gradient of the layer that reads it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) x: AlignedVec,
    pub(super) ids: List<i32>,
    pub(super) floats: usize,
}

/// Buffers that hold nothing between operations.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Input rows times a dropout mask.
    pub(super) masked: AlignedVec,
    /// States times a dropout mask.
    pub(super) masked_states: AlignedVec,
    /// Gradients on their way to another order.
    pub(super) rows: AlignedVec,
    /// What one gate gives of them.
    pub(super) of_gate: AlignedVec,
    /// By compact row: where the state before it begins.
    pub(super) previous: List<usize>,
}

/// Some rows of a batch: a tape of their own but for the weights.
#[derive(Debug)]
pub(super) struct Part {
    /// Of the last forward pass.
    pub(super) rows: Range<usize>,
    pub(super) ops: List<Op>,
    pub(super) values: List<Value>,
    pub(super) plan: Plan,
    pub(super) kept: Kept,
    pub(super) scratch: Scratch,
    /// By recurrent direction, array by array, each `[rows, units]`: the gradients of the initial states.
    pub(super) initial: List<f32>,
}

impl Part {
    pub(super) fn new(network: &Network, batch: usize, steps: usize) -> Result<Self> {
        let (ops, values) = unroll(network)?;
        let widest = values.iter().map(|value| value.stride).max().unwrap_or(0);
        let mut part = Self {
            rows: 0..0,
            ops,
            values,
            plan: Plan {
                kernels: kernels()?,
                mode: Mode::default(),
                schedule: StepSchedule::default(),
                bases: List::new(),
                orders: Default::default(),
                zeros: AlignedVec::zeroed(widest)?,
            },
            kept: Kept { x: AlignedVec::empty(), ids: List::new(), floats: 0 },
            scratch: Scratch {
                masked: AlignedVec::empty(),
                masked_states: AlignedVec::empty(),
                rows: AlignedVec::empty(),
                of_gate: AlignedVec::empty(),
                previous: List::new(),
            },
            initial: List::new(),
        };
        checked_product("tape", &[batch, steps, widest])?;
        part.reserve(network, batch, steps)?;
        Ok(part)
    }
}

impl Kept {
    pub(super) fn keep(&mut self, input: Input<'_>) {
        match input {
            Input::Floats(x) => {
                self.floats = x.len();
                self.x[..x.len()].copy_from_slice(x);
            }
            Input::Tokens(ids) => {
                self.ids.clear();
                self.ids.extend(ids.iter().copied());
            }
        }
    }

    pub(super) fn source<'a>(&'a self, network: &'a Network, steps: usize) -> Source<'a> {
        match network.embedding() {
            Some((embedding, table)) => {
                Source { values: table, steps, map: Map::Tokens(&self.ids, embedding.size) }
            }
            None => {
                let map = Map::Features(network.input.features);
                Source { values: &self.x[..self.floats], steps, map }
            }
        }
    }
}
