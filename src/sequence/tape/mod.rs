//! The tape: a forward pass that keeps what backward needs, and the backward pass through time.
//!
//! # What is kept
//! A network is unrolled into operations between *values*. A recurrent layer's value is the buffer of the
//! forward drivers: the states before the first step, then a slot of rows for each compact step, longest rows
//! first, so that a masked step costs nothing in either direction. `x·W + b` is turned into states in place,
//! and since each activation's derivative is a function of its result, states are all that is kept: `(batch +
//! used steps) · stride` floats for a recurrent layer, and as many for their gradients. Only where a value
//! must stand in the caller's order of time (the output, what a layer that walks the other way reads) is it
//! written out once more, position by position.
//!
//! # The backward pass
//! [`forward`](Tape::forward) goes through the operations, [`backward`](Tape::backward) through them from the
//! last to the first. In a recurrent layer it goes step by step from the end: `dh_t += dz_{t+1}·Uᵀ`, `dz_t =
//! dh_t ∘ act'(h_t)`, what is smaller than 2^-100 becoming zero. The rest is large products over all rows at
//! once: `dW = Xᵀ·dZ`, `dU = H_prevᵀ·dZ`, `dX = dZ·Wᵀ`. Weights' gradients are summed in the caller's order,
//! by step and then by row.
//!
//! An LSTM and a GRU keep their gates besides, and go the same way; see [`gated`].
//!
//! # Threads
//! Rows are independent but for the gradients of weights. So a batch is cut into *parts*, each with values of
//! its own, and each thread goes forwards and, operation by operation, backwards through a part. An
//! operation's gradients of weights are then sums over the rows of all parts, whose outputs the threads share
//! out. Neither the cut nor the number of threads changes the order of a sum, so neither changes a bit.

mod backward;
mod dropout;
mod forward;
mod gated;
mod norms;
mod ops;
mod part;
mod room;
mod rows;
mod steps;
mod unroll;
mod weights;

use gated::GateMatrices;
pub(crate) use norms::{clip_factor, scale, sum_of_squares};
use ops::{Back, DenseOp, Layout, Op, RnnOp, Value, dense_of, looked_at, rnn_of};
use part::{Part, Plan, Scratch};
use room::numbered;

use super::network::Network;
use super::parallel::Threads;
use super::states::put_row;
use crate::dispatch::LIFT;
use crate::error::{Error, Result};
use crate::layers::Weight;
use crate::memory::{AlignedVec, List, refill};

/// How a forward pass is done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mode {
    /// Whether dropout is active.
    pub(crate) training: bool,
    /// What its masks are drawn from.
    pub(crate) seed: u64,
    /// Whether the last layer, where it is a dense one, gives the values before its activation.
    pub(crate) logits: bool,
}

/// Where a weight's gradient stands in the flat array.
#[derive(Clone, Copy, Debug)]
struct GradientSlot {
    layer: usize,
    which: Weight,
    offset: usize,
    shape: [usize; 2],
}

/// The tape of one network for batches up to a size.
#[derive(Debug)]
pub(crate) struct Tape {
    most: [usize; 2],
    threads: Threads,
    parts: List<Part>,
    /// By operation, where it has weights.
    backs: List<Option<Back>>,
    sums: weights::Sums,
    slots: List<GradientSlot>,
    gradients: AlignedVec,
    /// The rows of the embedding whose gradients are not zero, in the order they were met.
    touched: List<u32>,
    /// Batch and steps of the last forward pass, and how many parts had rows.
    sizes: [usize; 2],
    active: usize,
    initial: List<f32>,
    state_width: usize,
    /// Set by a forward pass, and by a backward pass after it.
    forward_done: bool,
    backward_done: bool,
}

/// The weight of the half that `half` names.
fn of_half(which: Weight, half: usize) -> Weight {
    if half == 0 { which } else { which.backward() }
}

impl Tape {
    /// For batches up to `batch` and `steps`.
    pub(crate) fn new(network: &Network, threads: &Threads, batch: usize, steps: usize) -> Result<Self> {
        let mut slots = List::new();
        slots.make_room(network.layers.iter().map(|built| built.variables.0.len()).sum())?;
        let mut parameters = 0;
        for (layer, built) in network.layers.iter().enumerate() {
            for variable in &built.variables.0 {
                slots.push(GradientSlot {
                    layer,
                    which: variable.which,
                    offset: parameters,
                    shape: variable.shape,
                });
                parameters += variable.values.len();
            }
        }
        // Forwards, and twice as much backwards.
        let macs = batch.saturating_mul(steps).saturating_mul(network.macs_per_step()).saturating_mul(3);
        // Halves that are not merged lie one array behind the other, so no part of the rows is in one piece.
        let count = if network.is_unmerged() { 1 } else { threads.parts(batch, macs) };
        let rows = batch.div_ceil(count);
        if count > 1 {
            numbered(rows, steps)?;
        }
        let parts = List::collected((0..count).map(|_| Part::new(network, rows, steps)))?;
        let backs = List::collected(parts[0].ops.iter().map(|op| op.back(network)))?;
        let mut tape = Self {
            most: [batch, steps],
            threads: threads.clone(),
            parts,
            backs,
            sums: weights::Sums::default(),
            slots,
            gradients: AlignedVec::zeroed(parameters)?,
            touched: List::new(),
            sizes: [0, 0],
            active: 0,
            initial: List::new(),
            state_width: network.state_width(),
            forward_done: false,
            backward_done: false,
        };
        tape.repack(network)?;
        Ok(tape)
    }

    /// Takes the weights of `network`, whose layers must be the ones this tape was made for.
    pub(crate) fn repack(&mut self, network: &Network) -> Result<()> {
        for (op, back) in self.parts[0].ops.iter().zip(self.backs.iter_mut()) {
            let (Some(back), Some((layer, half))) = (back, op.layer_and_half()) else { continue };
            let variables = &network.layers[layer].variables;
            let values = |which| variables.get(of_half(which, half)).map(|variable| variable.values());
            let kernel = values(Weight::Kernel)?;
            back.kernel.fill_transposed(kernel);
            if let Some(recurrent) = &mut back.recurrent {
                let values = values(Weight::RecurrentKernel)?;
                let all = back.kernel.depth();
                let rnn = looked_at(rnn_of(&network.layers[layer], half));
                gated::fill_recurrent_back(recurrent, back.candidate.as_mut(), rnn, (values, all));
                for (gate, matrices) in back.by_gate.iter_mut().enumerate() {
                    matrices.fill(gate, kernel, values);
                }
            }
        }
        Ok(())
    }

    /// The threads that it was made for.
    pub(crate) fn thread_count(&self) -> usize {
        self.threads.count()
    }

    /// Batch and steps of the last forward pass.
    pub(crate) fn sizes(&self) -> Result<[usize; 2]> {
        if self.forward_done {
            Ok(self.sizes)
        } else {
            Err(Error::InvalidArgument("the tape has seen no forward pass yet".into()))
        }
    }

    fn after_backward(&self) -> Result<()> {
        if self.backward_done {
            Ok(())
        } else {
            Err(Error::InvalidArgument("the tape has no gradients: call backward after forward".into()))
        }
    }

    /// Every gradient, flat, in the order of the parameters.
    pub(crate) fn gradients(&self) -> Result<&[f32]> {
        self.after_backward().map(|()| &self.gradients[..])
    }

    /// [`gradients`](Self::gradients), to be changed.
    pub(crate) fn gradients_mut(&mut self) -> Result<&mut [f32]> {
        self.after_backward().map(|()| &mut self.gradients[..])
    }

    /// One weight's gradient.
    pub(crate) fn gradient(&self, layer: usize, which: Weight) -> Result<&[f32]> {
        let slot = self.slots.iter().find(|slot| slot.layer == layer && slot.which == which);
        let Some(slot) = slot else {
            return Err(Error::InvalidArgument(format!("layer {layer} has no {}", which.name())));
        };
        Ok(&self.gradients()?[slot.offset..][..slot.shape[0] * slot.shape[1]])
    }

    /// The rows of the embedding that the last batch met; the gradients of the others are zero.
    pub(crate) fn touched(&self) -> &[u32] {
        &self.touched
    }

    /// Which steps the last forward pass used, `[batch, steps]`; false, and nothing written, where it used
    /// all.
    pub(crate) fn used_steps(&self, used: &mut Vec<u8>) -> Result<bool> {
        let parts = &self.parts[..self.active];
        if parts.iter().all(|part| part.plan.schedule.is_full()) {
            return Ok(false);
        }
        let [batch, steps] = self.sizes;
        refill(used, batch * steps, 0)?;
        for part in parts {
            let used = &mut used[part.rows.start * steps..];
            steps::each_position(&part.plan.schedule, Layout::Compact { reversed: false }, |position| {
                used[position] = 1
            });
        }
        Ok(true)
    }

    /// By recurrent direction, array by array, each `[batch, units]`: the gradients of the initial states.
    pub(crate) fn initial_state_gradient(&self) -> Result<&[f32]> {
        self.after_backward().map(|()| &self.initial[..self.sizes[0] * self.state_width])
    }

    /// The norm of `dLoss/dh_t` for each step of the last batch, both directions together.
    pub(crate) fn gradient_norms(&self, layer: usize, norms: &mut [f32]) -> Result<()> {
        self.after_backward()?;
        let mut found = false;
        for (time, norm) in norms.iter_mut().enumerate() {
            let mut total = 0.0f64;
            // By direction and then by row, whoever had it.
            for at in 0..self.backs.len() {
                for part in &self.parts[..self.active] {
                    let Op::Rnn(op) = &part.ops[at] else { continue };
                    if op.layer != layer {
                        continue;
                    }
                    found = true;
                    let rows = part.rows.len();
                    for sums in op.squares[2 * time * rows..][..2 * rows].chunks_exact(2) {
                        let lift = f64::from(LIFT);
                        total += f64::from(sums[0]) + f64::from(sums[1]) / (lift * lift);
                    }
                }
            }
            *norm = total.sqrt() as f32;
        }
        if found {
            Ok(())
        } else {
            Err(Error::InvalidArgument(format!(
                "layer {layer} is not a recurrent layer: it has no gradient norms"
            )))
        }
    }

    /// Bytes that the tape holds.
    pub(crate) fn bytes(&self) -> usize {
        let parts: usize = self.parts.iter().map(Part::bytes).sum();
        let backs = self.backs.iter().flatten();
        let backs = backs.map(Back::bytes);
        parts
            + backs.sum::<usize>()
            + self.sums.bytes()
            + (self.gradients.len() + self.initial.len()) * size_of::<f32>()
    }
}

/// A buffer out of its place, so that its owner can be read while it is written.
fn taken(buffer: &mut AlignedVec) -> AlignedVec {
    std::mem::replace(buffer, AlignedVec::empty())
}

fn add_row(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}
