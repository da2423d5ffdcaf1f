//! The tape: a forward pass that keeps what backward needs, and the way back through time.
//!
//! # What is kept
//! A network is unrolled into operations between *values*. A recurrent layer's value is the buffer of the forward drivers:
//! the states before the first step, then a slot of rows for each compact step, longest rows first, so that a masked
//! step costs nothing in either direction. `x·W + b` is turned into states in place, and since each activation's
//! derivative is a function of its result, states are all that is kept: `(batch + used steps) · stride` floats for a
//! recurrent layer, and as many for their gradients. Only where a value must stand in the caller's order of time (the
//! output, what a layer that walks the other way reads) is it written out once more, position by position.
//!
//! # The way back
//! [`forward`](Tape::forward) goes through the operations, [`backward`](Tape::backward) through them from the last to the
//! first. In a recurrent layer it goes step by step from the end: `dh_t += dz_{t+1}·Uᵀ`, `dz_t = dh_t ∘ act'(h_t)`, what is
//! smaller than 2^-100 becoming zero. The rest is large products over all rows at once: `dW = Xᵀ·dZ`, `dU = H_prevᵀ·dZ`,
//! `dX = dZ·Wᵀ`. Weights' gradients are summed in the caller's order, by step and then by row.
//!
//! An LSTM and a GRU keep their gates besides, and go the same way; see [`gated`].
//!
//! # Threads
//! Rows are independent but for the gradients of weights. So a batch is cut into *parts*, each with values of its own, and
//! each thread goes forwards and, operation by operation, backwards through a part. An operation's gradients of weights
//! are then sums over the rows of all parts, whose outputs the threads share out. Neither the cut nor the number of
//! threads changes the order of a sum, so neither changes a bit.

mod backward;
mod dropout;
mod forward;
mod gated;
mod norms;
mod steps;
mod weights;

use gated::{GateMatrices, Gates};
pub(crate) use norms::{clip_factor, scale, sum_of_squares};

use std::ops::Range;

use super::input::Input;
use super::network::Network;
use super::parallel::Threads;
use super::pipeline::{Map, Source};
use super::states::put_row;
use super::work::{Bounds, Work};
use crate::dispatch::{KernelSet, LIFT, kernels};
use crate::error::{Error, Result};
use crate::gemm::PackedMatrix;
use crate::layers::{
    Bidirectional, BuiltLayer, Cell, Dense, Layer, MergeMode, Packed, PackedDense, PackedRnn, Weight,
};
use crate::memory::{AlignedVec, List, checked_product, refill, row_stride};

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

/// How the rows of a value stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// In the input, which is kept apart.
    Source,
    /// Compact steps of a direction, longest rows first.
    Compact { reversed: bool },
    /// `[batch, steps]`.
    Positions,
    /// `[batch]`.
    Last,
}

/// What flows between operations, with its gradient.
#[derive(Debug)]
struct Value {
    layout: Layout,
    features: usize,
    stride: usize,
    /// Arrays one behind the other: two where a Bidirectional layer does not merge.
    arrays: usize,
    /// Whether a row for each rank, the states before the first step, stands in front.
    carried: bool,
    rows: AlignedVec,
    gradient: AlignedVec,
    /// By rank, the gradient of the last state of each row, where `has_ends`.
    ends: AlignedVec,
    has_ends: bool,
    /// Whether `gradient` holds anything yet.
    filled: bool,
}

/// One direction of a recurrent layer.
#[derive(Debug)]
struct RnnOp {
    layer: usize,
    half: usize,
    /// Floats of state a row of the recurrent directions before this one.
    state_base: usize,
    cell: Cell,
    reversed: bool,
    input: usize,
    output: usize,
    /// Where the rows of the input begin, where they do not stand in this layer's order.
    offsets: List<usize>,
    /// Whether the last forward pass dropped something of the input, and of the states.
    drops: [bool; 2],
    /// `[batch, features]`, where something is dropped; one for each gate where it is [by gate](RnnOp::by_gate).
    input_mask: AlignedVec,
    /// `[batch, units]`, the same.
    recurrent_mask: AlignedVec,
    /// Of an LSTM or a GRU.
    gated: Option<Box<Gates>>,
    /// By time and row, two sums each: what the norm of `dLoss/dh_t` is made of.
    squares: List<f32>,
}

#[derive(Debug)]
struct DenseOp {
    layer: usize,
    input: usize,
    output: usize,
    offsets: List<usize>,
    /// Whether the network's output is this layer's.
    last: bool,
}

/// How a value is turned into another.
#[derive(Debug)]
enum Op {
    Rnn(Box<RnnOp>),
    /// Compact steps to positions, masked ones repeating the output before them or blank.
    Expand {
        input: usize,
        output: usize,
        reversed: bool,
        zero_output: bool,
    },
    /// Compact steps to the last one.
    Last {
        input: usize,
        output: usize,
        reversed: bool,
        zero_output: bool,
    },
    /// Positions to the last one.
    LastPosition {
        input: usize,
        output: usize,
    },
    Merge {
        mode: MergeMode,
        inputs: [usize; 2],
        output: usize,
    },
    Dense(Box<DenseOp>),
    Dropout {
        layer: usize,
        rate: f32,
        input: usize,
        output: usize,
    },
}

/// What the way back through an operation multiplies by: transposes, packed.
#[derive(Debug)]
struct Back {
    kernel: PackedMatrix,
    /// Of a recurrent layer; of a GRU with reset before, that of z and r.
    recurrent: Option<PackedMatrix>,
    /// Of a GRU with reset before: that of n.
    candidate: Option<PackedMatrix>,
    /// Of a layer whose gates may have masks of their own.
    by_gate: List<GateMatrices>,
}

/// Where a weight's gradient stands in the flat array.
#[derive(Clone, Copy, Debug)]
struct Place {
    layer: usize,
    which: Weight,
    offset: usize,
    shape: [usize; 2],
}

/// What operations only read.
#[derive(Debug)]
struct Plan {
    kernels: &'static KernelSet,
    mode: Mode,
    work: Work,
    /// By compact step: the rows of all steps before it.
    bases: List<usize>,
    /// Rows in the caller's order of step and row, for compact steps forwards, backwards, and for positions; empty where
    /// that is their own order.
    orders: [List<usize>; 3],
    /// As wide as any layer.
    zeros: AlignedVec,
}

/// The input, kept for the gradient of the layer that reads it.
#[derive(Debug)]
struct Kept {
    x: AlignedVec,
    ids: List<i32>,
    floats: usize,
}

/// Buffers that hold nothing between operations.
#[derive(Debug)]
struct Scratch {
    /// Input rows times a dropout mask.
    masked: AlignedVec,
    /// States times a dropout mask.
    masked_states: AlignedVec,
    /// Gradients on their way to another order.
    rows: AlignedVec,
    /// What one gate gives of them.
    of_gate: AlignedVec,
    /// By compact row: where the state before it begins.
    previous: List<usize>,
}

/// Some rows of a batch: a tape of their own but for the weights.
#[derive(Debug)]
struct Part {
    /// Of the last forward pass.
    rows: Range<usize>,
    ops: List<Op>,
    values: List<Value>,
    plan: Plan,
    kept: Kept,
    scratch: Scratch,
    /// By recurrent direction, array by array, each `[rows, units]`: the gradients of the initial states.
    initial: List<f32>,
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
    places: List<Place>,
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

/// One direction of a layer.
fn rnn_of(layer: &BuiltLayer, half: usize) -> Result<&PackedRnn> {
    match &layer.packed {
        Packed::Rnn(rnn) => Ok(rnn),
        Packed::Both(both) => Ok(&both[half]),
        Packed::Plain | Packed::Dense(_) => {
            Err(Error::Unsupported("the network has changed its layers".into()))
        }
    }
}

fn dense_of(layer: &BuiltLayer) -> Result<(&Dense, &PackedDense)> {
    match (&layer.layer, &layer.packed) {
        (Layer::Dense(config), Packed::Dense(dense)) => Ok((config, dense)),
        _ => Err(Error::Unsupported("the network has changed its layers".into())),
    }
}

/// What was looked at when room was taken, before anything was computed.
fn looked_at<T>(found: Result<T>) -> T {
    found.unwrap_or_else(|_| unreachable!("the layers were looked at when room was taken"))
}

/// The weight of the half that `half` names.
fn of_half(which: Weight, half: usize) -> Weight {
    if half == 0 { which } else { which.backward() }
}

impl Value {
    fn new(layout: Layout, features: usize) -> Self {
        Self {
            layout,
            features,
            stride: row_stride(features),
            arrays: 1,
            carried: false,
            rows: AlignedVec::empty(),
            gradient: AlignedVec::empty(),
            ends: AlignedVec::empty(),
            has_ends: false,
            filled: false,
        }
    }

    /// Rows, those in front not counted.
    fn count(&self, work: &Work) -> usize {
        match self.layout {
            Layout::Source => 0,
            Layout::Compact { .. } => work.total(),
            Layout::Positions => self.arrays * work.batch * work.steps,
            Layout::Last => self.arrays * work.batch,
        }
    }

    /// Floats before the first row.
    fn lead(&self, work: &Work) -> usize {
        if self.carried { work.batch * self.stride } else { 0 }
    }
}

impl Tape {
    /// For batches up to `batch` and `steps`.
    pub(crate) fn new(network: &Network, threads: &Threads, batch: usize, steps: usize) -> Result<Self> {
        let mut places = List::new();
        places.make_room(network.layers.iter().map(|built| built.variables.0.len()).sum())?;
        let mut parameters = 0;
        for (layer, built) in network.layers.iter().enumerate() {
            for variable in &built.variables.0 {
                places.push(Place {
                    layer,
                    which: variable.which,
                    offset: parameters,
                    shape: variable.shape,
                });
                parameters += variable.values.len();
            }
        }
        // Forwards, and twice as much backwards.
        let work = batch.saturating_mul(steps).saturating_mul(network.work_a_step()).saturating_mul(3);
        // Halves that are not merged lie one array behind the other, so no part of the rows is in one piece.
        let count = if network.is_unmerged() { 1 } else { threads.parts(batch, work) };
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
            places,
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
            let (Some(back), Some((layer, half))) = (back, op.place()) else { continue };
            let variables = &network.layers[layer].variables;
            let values = |which| variables.get(of_half(which, half)).map(|variable| variable.values());
            let kernel = values(Weight::Kernel)?;
            back.kernel.fill_transposed(kernel);
            if let Some(recurrent) = &mut back.recurrent {
                let values = values(Weight::RecurrentKernel)?;
                let all = back.kernel.terms();
                recurrent.fill_transposed_part(values, all, 0);
                if let Some(candidate) = &mut back.candidate {
                    candidate.fill_transposed_part(values, all, recurrent.terms());
                }
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
        let place = self.places.iter().find(|place| place.layer == layer && place.which == which);
        let Some(place) = place else {
            return Err(Error::InvalidArgument(format!("layer {layer} has no {}", which.name())));
        };
        Ok(&self.gradients()?[place.offset..][..place.shape[0] * place.shape[1]])
    }

    /// The rows of the embedding that the last batch met; the gradients of the others are zero.
    pub(crate) fn touched(&self) -> &[u32] {
        &self.touched
    }

    /// Which steps the last forward pass used, `[batch, steps]`; false, and nothing written, where it used all.
    pub(crate) fn used_steps(&self, used: &mut Vec<u8>) -> Result<bool> {
        let parts = &self.parts[..self.active];
        if parts.iter().all(|part| part.plan.work.is_full()) {
            return Ok(false);
        }
        let [batch, steps] = self.sizes;
        refill(used, batch * steps, 0)?;
        for part in parts {
            let used = &mut used[part.rows.start * steps..];
            steps::each_place(&part.plan.work, Layout::Compact { reversed: false }, |place| used[place] = 1);
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

impl Back {
    fn bytes(&self) -> usize {
        let matrices = [&self.recurrent, &self.candidate].into_iter().flatten().map(PackedMatrix::bytes);
        let by_gate = self.by_gate.iter().map(GateMatrices::bytes);
        self.kernel.bytes() + matrices.chain(by_gate).sum::<usize>()
    }
}

impl Op {
    /// The layer and the half whose weights it has.
    fn place(&self) -> Option<(usize, usize)> {
        match self {
            Op::Rnn(op) => Some((op.layer, op.half)),
            Op::Dense(op) => Some((op.layer, 0)),
            Op::Expand { .. }
            | Op::Last { .. }
            | Op::LastPosition { .. }
            | Op::Merge { .. }
            | Op::Dropout { .. } => None,
        }
    }

    /// Room for what the way back multiplies by.
    fn back(&self, network: &Network) -> Result<Option<Back>> {
        let kernels = kernels()?;
        let transposed = |rows, columns| PackedMatrix::zeroed(kernels, columns, rows);
        Ok(match self {
            Op::Rnn(op) => {
                let built = &network.layers[op.layer];
                let rnn = rnn_of(built, op.half)?;
                let (units, gates) = (rnn.units(), rnn.gates());
                let first = if rnn.resets_before() { gates - 1 } else { gates };
                let by_gate = match built.layer.recurrent() {
                    Some(layer) if gates > 1 && layer.options().recurrent_dropout > 0.0 => {
                        let make = |_| GateMatrices::new(kernels, built.input.features, rnn);
                        List::collected((0..gates).map(make))?
                    }
                    _ => List::new(),
                };
                Some(Back {
                    kernel: transposed(built.input.features, gates * units)?,
                    recurrent: Some(transposed(units, first * units)?),
                    candidate: (first < gates).then(|| transposed(units, units)).transpose()?,
                    by_gate,
                })
            }
            Op::Dense(op) => {
                let built = &network.layers[op.layer];
                let kernel = transposed(built.input.features, built.output.features)?;
                Some(Back { kernel, recurrent: None, candidate: None, by_gate: List::new() })
            }
            Op::Expand { .. }
            | Op::Last { .. }
            | Op::LastPosition { .. }
            | Op::Merge { .. }
            | Op::Dropout { .. } => None,
        })
    }
}

impl Part {
    fn new(network: &Network, batch: usize, steps: usize) -> Result<Self> {
        let (ops, values) = unroll(network)?;
        let widest = values.iter().map(|value| value.stride).max().unwrap_or(0);
        let mut part = Self {
            rows: 0..0,
            ops,
            values,
            plan: Plan {
                kernels: kernels()?,
                mode: Mode::default(),
                work: Work::default(),
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

    /// Room for all that [`forward`](Self::forward) computes, and a look at the layers: it cannot fail
    /// afterwards.
    fn reserve_forward(
        &mut self,
        network: &Network,
        input: Input<'_>,
        bounds: &Bounds,
        training: bool,
    ) -> Result<()> {
        let Self { ops, values, plan, kept, scratch, .. } = self;
        let &Bounds { batch, total, .. } = bounds;
        kept.reserve(input)?;
        plan.reserve(bounds)?;
        for op in ops.iter_mut() {
            match op {
                Op::Rnn(op) => {
                    let built = &network.layers[op.layer];
                    let rnn = rnn_of(built, op.half)?;
                    let input = &values[op.input];
                    op.offsets.make_room(steps::gathered(input, op.layout(), bounds))?;
                    let (rate, recurrent_rate) = forward::rates(&built.layer);
                    op.drops = [rate, recurrent_rate].map(|rate| training && rate > 0.0);
                    let masks = op.masks();
                    if op.drops[0] {
                        op.input_mask.reserve_rows(batch.saturating_mul(masks), input.features)?;
                        scratch
                            .masked
                            .reserve_rows(total.saturating_mul(masks), row_stride(input.features))?;
                    }
                    if op.drops[1] {
                        op.recurrent_mask.reserve_rows(batch.saturating_mul(masks), rnn.units())?;
                        scratch.rows.reserve_rows(batch.saturating_mul(2), values[op.output].stride)?;
                    }
                }
                Op::Dense(op) => {
                    dense_of(&network.layers[op.layer])?;
                    let layout = values[op.output].layout;
                    op.offsets.make_room(steps::gathered(&values[op.input], layout, bounds))?;
                }
                Op::Dropout { input, output, .. } => {
                    let rows = steps::gathered(&values[*input], values[*output].layout, bounds);
                    scratch.previous.reserve(rows)?;
                }
                Op::Expand { .. } | Op::Last { .. } | Op::LastPosition { .. } | Op::Merge { .. } => {}
            }
        }
        Ok(())
    }

    /// Room for the way back of the last forward pass, as [`reserve_forward`](Self::reserve_forward);
    /// `wants_dx`: whether the gradient of the input is asked for.
    fn reserve_backward(&mut self, network: &Network, wants_dx: bool) -> Result<()> {
        let Self { ops, values, plan, scratch, initial, .. } = self;
        let Work { batch, steps, .. } = plan.work;
        let total = plan.work.total();
        // A table's gradient is made of them too.
        let wanted =
            |value: &Value| value.layout != Layout::Source || wants_dx || network.embedding().is_some();
        let mut units_before = 0;
        for op in ops.iter_mut() {
            match op {
                Op::Rnn(op) => {
                    let rnn = rnn_of(&network.layers[op.layer], op.half)?;
                    let (input, output) = (&values[op.input], &values[op.output]);
                    units_before += rnn.states() * output.features;
                    op.squares.make_room(batch.saturating_mul(steps).saturating_mul(2))?;
                    scratch.rows.reserve_rows(batch, output.stride)?;
                    if wanted(input) && (!matches!(input.layout, Layout::Compact { .. }) || op.by_gate()) {
                        scratch.rows.reserve_rows(total, input.stride)?;
                    }
                    if wanted(input) && op.by_gate() && op.drops[0] {
                        scratch.of_gate.reserve_rows(total, input.stride)?;
                    }
                    if !plan.work.is_full() {
                        scratch.previous.make_room(total)?;
                    }
                    if op.drops[1] {
                        let masks = op.masks();
                        scratch.masked_states.reserve_rows(total.saturating_mul(masks), output.stride)?;
                    }
                }
                Op::Dense(op) => {
                    dense_of(&network.layers[op.layer])?;
                    let (input, output) = (&values[op.input], &values[op.output]);
                    if wanted(input) {
                        scratch.rows.reserve_rows(output.count(&plan.work), input.stride)?;
                    }
                }
                Op::Dropout { output, .. } => scratch.rows.reserve_scratch(values[*output].stride)?,
                Op::Expand { .. } | Op::Last { .. } | Op::LastPosition { .. } | Op::Merge { .. } => {}
            }
        }
        initial.make_room(batch.saturating_mul(units_before))
    }

    /// Room for every value, and for the gates.
    fn reserve(&mut self, network: &Network, batch: usize, steps: usize) -> Result<()> {
        let too_large =
            || Error::InvalidArgument(format!("a tape of batch {batch} and {steps} steps overflows"));
        for value in self.values.iter_mut() {
            let rows = match value.layout {
                Layout::Source => continue,
                Layout::Last => batch,
                Layout::Compact { .. } | Layout::Positions => {
                    batch.checked_mul(steps).ok_or_else(too_large)?
                }
            };
            let rows = rows.checked_mul(value.arrays).and_then(|rows| rows.checked_add(batch));
            let len = rows.and_then(|rows| rows.checked_mul(value.stride)).ok_or_else(too_large)?;
            value.rows.reserve_scratch(len)?;
            value.gradient.reserve_scratch(len)?;
            if value.carried {
                value.ends.reserve_rows(batch, value.stride)?;
            }
        }
        for op in self.ops.iter_mut() {
            let Op::Rnn(op) = op else { continue };
            let rnn = rnn_of(&network.layers[op.layer], op.half)?;
            if let Some(gated) = &mut op.gated {
                gated.reserve(rnn, batch, steps)?;
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let values = self.values.iter();
        let values = values.map(|value| value.rows.len() + value.gradient.len() + value.ends.len());
        let Scratch { masked, masked_states, rows, of_gate, previous } = &self.scratch;
        let buffers = [&self.kept.x, masked, masked_states, rows, of_gate, &self.plan.zeros];
        let buffers = buffers.iter().map(|buffer| buffer.len());
        let ops = self.ops.iter().map(|op| match op {
            Op::Rnn(op) => {
                let masks = op.input_mask.len() + op.recurrent_mask.len();
                let gated = op.gated.as_ref().map_or(0, |gated| gated.len());
                [masks + op.squares.len() + gated, op.offsets.len()]
            }
            Op::Dense(op) => [0, op.offsets.len()],
            Op::Expand { .. }
            | Op::Last { .. }
            | Op::LastPosition { .. }
            | Op::Merge { .. }
            | Op::Dropout { .. } => [0, 0],
        });
        let [in_ops, lists] = ops.fold([0, 0], |[a, b], [c, d]| [a + c, b + d]);
        let floats = values.chain(buffers).sum::<usize>() + in_ops + self.initial.len();
        let Plan { bases, orders, work, .. } = &self.plan;
        let lists =
            lists + previous.len() + bases.len() + orders.iter().map(|order| order.len()).sum::<usize>();
        floats * size_of::<f32>()
            + lists * size_of::<usize>()
            + work.bytes()
            + self.kept.ids.len() * size_of::<i32>()
    }
}

/// The operations of a network, and the values between them; value 0 is the input, the last one the output.
fn unroll(network: &Network) -> Result<(List<Op>, List<Value>)> {
    // A Bidirectional layer has the most: two directions, each written out once more, and the two merged.
    const MOST: usize = 5;
    let layers = &network.layers;
    let (mut ops, mut values) = (List::new(), List::new());
    ops.make_room(MOST * layers.len())?;
    values.make_room(1 + MOST * layers.len())?;
    values.push(Value::new(Layout::Source, layers[0].input.features));
    let add = |values: &mut List<Value>, layout, features| {
        values.push(Value::new(layout, features));
        values.len() - 1
    };
    // The direction of the next recurrent layer that reads rows step by step; a Bidirectional reads positions.
    let next_direction = |after: usize| {
        layers[after + 1..].iter().find_map(|layer| match &layer.layer {
            Layer::Recurrent(rnn) => Some(Some(rnn.options().go_backwards)),
            Layer::Bidirectional(_) => Some(None),
            Layer::Embedding(_)
            | Layer::Masking(_)
            | Layer::Dense(_)
            | Layer::Dropout(_)
            | Layer::LastStep(_) => None,
        })
    };
    // What a layer gives that computes row by row.
    let row_wise = |at: usize, here: Layout| match (here, next_direction(at)) {
        (Layout::Source, Some(Some(reversed))) => Layout::Compact { reversed },
        (Layout::Source, Some(None) | None) => Layout::Positions,
        (Layout::Compact { .. } | Layout::Positions | Layout::Last, _) => here,
    };
    let mut state_base = 0;
    let mut at = 0;
    for (i, built) in layers.iter().enumerate() {
        let features = built.output.features;
        let here = values[at].layout;
        match &built.layer {
            Layer::Embedding(_) => values[at] = Value::new(Layout::Source, features),
            Layer::Masking(_) => {}
            Layer::LastStep(_) => {
                // No layer above it reads steps, so what is below has been written out by positions.
                let output = add(&mut values, Layout::Last, features);
                ops.push(Op::LastPosition { input: at, output });
                at = output;
            }
            Layer::Dropout(dropout) if dropout.rate == 0.0 => {}
            Layer::Dense(_) => {
                let output = add(&mut values, row_wise(i, here), features);
                let (offsets, last) = (List::new(), i + 1 == layers.len());
                ops.push(Op::Dense(Box::new(DenseOp { layer: i, input: at, output, offsets, last })));
                at = output;
            }
            Layer::Dropout(dropout) => {
                let output = add(&mut values, row_wise(i, here), features);
                ops.push(Op::Dropout { layer: i, rate: dropout.rate, input: at, output });
                at = output;
            }
            Layer::Recurrent(layer) | Layer::Bidirectional(Bidirectional { layer, .. }) => {
                let (rnn, cell) = (layer.options(), layer.cell());
                let mut halves = [0; 2];
                let both = match &built.layer {
                    Layer::Bidirectional(both) => Some(both.merge_mode),
                    _ => None,
                };
                let count = if both.is_some() { 2 } else { 1 };
                for (half, result) in halves.iter_mut().enumerate().take(count) {
                    let reversed = if both.is_some() { half == 1 } else { rnn.go_backwards };
                    let output = add(&mut values, Layout::Compact { reversed }, rnn.units);
                    values[output].carried = true;
                    ops.push(Op::Rnn(Box::new(RnnOp {
                        layer: i,
                        half,
                        state_base,
                        cell,
                        reversed,
                        input: at,
                        output,
                        offsets: List::new(),
                        drops: [false; 2],
                        input_mask: AlignedVec::empty(),
                        recurrent_mask: AlignedVec::empty(),
                        gated: (cell.gates() > 1).then(Box::default),
                        squares: List::new(),
                    })));
                    state_base += cell.states() * rnn.units;
                    // What the next layer reads in this layer's own order needs no positions.
                    let follows = both.is_none() && !reversed && next_direction(i) == Some(Some(false));
                    *result = if !rnn.return_sequences {
                        let last = add(&mut values, Layout::Last, rnn.units);
                        let zero_output = both.is_none() && rnn.zero_output_for_mask;
                        ops.push(Op::Last { input: output, output: last, reversed, zero_output });
                        last
                    } else if follows {
                        output
                    } else {
                        let positions = add(&mut values, Layout::Positions, rnn.units);
                        // In a Bidirectional masked steps are blank, as in Keras, whatever the layer inside says.
                        let zero_output = both.is_some() || rnn.zero_output_for_mask;
                        ops.push(Op::Expand { input: output, output: positions, reversed, zero_output });
                        positions
                    };
                }
                at = match both {
                    None => halves[0],
                    Some(mode) => {
                        let layout = values[halves[0]].layout;
                        let output = add(&mut values, layout, features);
                        if mode == MergeMode::None {
                            values[output].arrays = 2;
                        }
                        ops.push(Op::Merge { mode, inputs: halves, output });
                        output
                    }
                };
            }
        }
    }
    if at + 1 != values.len() || at == 0 {
        return Err(Error::Unsupported(
            "a network without a layer that computes has nothing to train".into(),
        ));
    }
    Ok((ops, values))
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

/// Whether the rows of a part have numbers of 32 bits, which is how those of several parts are listed.
fn numbered(rows: usize, steps: usize) -> Result<()> {
    if rows.checked_mul(steps).is_some_and(|all| all < u32::MAX as usize) {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "{rows} rows of {steps} steps for each thread: less than {} steps are possible, and more on one thread",
        u32::MAX
    )))
}

impl Kept {
    /// Room for an input.
    fn reserve(&mut self, input: Input<'_>) -> Result<()> {
        match input {
            Input::Floats(x) => self.x.reserve_scratch(x.len()),
            Input::Tokens(ids) => self.ids.make_room(ids.len()),
        }
    }

    fn keep(&mut self, input: Input<'_>) {
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

    fn source<'a>(&'a self, network: &'a Network, steps: usize) -> Source<'a> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_rows_than_have_numbers_are_refused() {
        let most = u32::MAX as usize;
        numbered(1, most - 1).expect("the last number is not taken for none");
        for (rows, steps) in [(1, most), (1 << 16, 1 << 16), (usize::MAX, 2)] {
            assert!(matches!(numbered(rows, steps), Err(Error::Unsupported(_))));
        }
    }
}
