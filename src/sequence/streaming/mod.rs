//! A stream: the states of some rows, kept from call to call, and the memory to go on from them.
//!
//! A stream walks the layers as a [`pipeline`](super::pipeline) does, in chunks of a few steps, and its
//! memory is cut up once, when it is made: nothing is allocated, locked or asked of the system afterwards.
//! Each recurrent layer's buffer begins with the states of all rows, in the order of the batch. A step of one
//! row has a way of its own, [`Single`].
//!
//! # Masked steps
//! A masked step repeats the output before it, and that is always what the layers above the last recurrent
//! one make of its state: a row that has seen no step has zeros for both. So the states are all there is to
//! keep. The repeated row is held besides, so that repeating is a copy.

mod layers;
mod masks;
mod plan;
mod single;

use std::sync::Arc;

use super::head::{StridedRows, above_recurrent, put_rows, row_wise};
use super::input::{Given, Input};
use super::network::Network;
use super::walk::Steps;
use crate::error::Result;
use crate::memory::{checked_product, row_stride};
use layers::{Below, StepRange, read, run_layers, unmasked_rows, write};
use masks::{ByRank, Indices, Order, repeat, write_masked};
pub(crate) use plan::{Memory, Plan};
use plan::{last_states, states};
use single::Single;
pub(crate) use single::Slot;

/// States kept between calls.
#[derive(Debug)]
pub(crate) struct Streaming {
    network: Arc<Network>,
    plan: Plan,
    memory: Memory,
    /// One step of one row, where it has a list: of kernels' calls with addresses in `memory` and `network`.
    single: Option<Single>,
    /// Whether the next step has an odd number: large weights are walked forwards and backwards in turn.
    odd: bool,
}

impl Streaming {
    /// A stream at its beginning, in memory of `plan`'s sizes.
    pub(crate) fn new(network: Arc<Network>, plan: Plan, memory: Memory) -> Self {
        let mut memory = memory;
        assert!(
            memory.floats.len() >= plan.floats
                && memory.indices.len() >= plan.indices
                && memory.slots.len() >= plan.slots,
            "the plan asks for more"
        );
        let floats = memory.floats.start().as_ptr();
        let listed = plan.slots > 0;
        let single = if listed { Single::new(&network, &plan, floats, &mut memory.slots) } else { None };
        let mut streaming = Self { network, plan, memory, single, odd: false };
        streaming.memory.indices[..plan.chunk].fill(plan.batch);
        if plan.masks {
            // The row of zeros: what the layers above the last recurrent one make of a state of zeros.
            streaming.repeat_states(0..plan.batch);
            let (_, rows) = repeated(&plan, &mut streaming.memory.floats);
            rows.copy_within(..row_stride(plan.columns), plan.batch * row_stride(plan.columns));
        }
        streaming
    }

    /// Whether a step of one row has a list.
    #[cfg(test)]
    pub(crate) fn lists_steps(&self) -> bool {
        self.single.is_some()
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    pub(crate) fn batch(&self) -> usize {
        self.plan.batch
    }

    /// Floats of output for `steps` steps.
    pub(crate) fn output_len(&self, steps: usize) -> Result<usize> {
        let steps = if self.plan.sequence { steps } else { 1 };
        checked_product("output", &[self.plan.batch, steps, self.plan.columns])
    }

    /// Puts rows back to their beginning.
    pub(crate) fn reset(&mut self, rows: std::ops::Range<usize>) {
        for (units, at) in states(&self.network, self.plan) {
            let stride = row_stride(units);
            self.memory.floats[at + rows.start * stride..at + rows.end * stride].fill(0.0);
        }
        if self.plan.masks && self.plan.sequence {
            let columns = row_stride(self.plan.columns);
            let zeros = self.plan.batch * columns;
            let (_, repeated) = repeated(&self.plan, &mut self.memory.floats);
            for row in rows {
                repeated.copy_within(zeros..zeros + columns, row * columns);
            }
        }
    }

    /// Copies the states out: by recurrent layer, array by array, each `[batch, units]`.
    pub(crate) fn get(&self, out: &mut [f32]) {
        let mut out = out;
        for (units, at) in states(&self.network, self.plan) {
            let (mine, others) = out.split_at_mut(self.plan.batch * units);
            out = others;
            let states = self.memory.floats[at..].chunks_exact(row_stride(units));
            for (to, from) in mine.chunks_exact_mut(units).zip(states) {
                to.copy_from_slice(&from[..units]);
            }
        }
    }

    /// Takes states in the form of [`get`](Self::get).
    pub(crate) fn set(&mut self, values: &[f32]) {
        let mut values = values;
        for (units, at) in states(&self.network, self.plan) {
            let (mine, others) = values.split_at(self.plan.batch * units);
            values = others;
            let states = self.memory.floats[at..].chunks_exact_mut(row_stride(units));
            for (to, from) in states.zip(mine.chunks_exact(units)) {
                to[..units].copy_from_slice(from);
            }
        }
        if self.plan.masks {
            self.repeat_states(0..self.plan.batch);
        }
    }

    /// Fills the repeated outputs of some rows from the states, where the output is a sequence.
    fn repeat_states(&mut self, rows: std::ops::Range<usize>) {
        if !self.plan.sequence {
            return;
        }
        let plan = self.plan;
        let columns = row_stride(plan.columns);
        let (body, repeated) = repeated(&plan, &mut self.memory.floats);
        let Some((units, at)) = last_states(&self.network, &plan) else { return };
        let below_head = &self.network.layers[..self.network.head.start];
        let (states, room) = body[at..].split_at_mut(plan.batch * row_stride(units));
        for row in rows {
            let x = StridedRows { values: &states[row * row_stride(units)..], stride: 0 };
            // The layers' own buffers hold nothing between calls.
            let y = row_wise(above_recurrent(below_head), x, 1, room).values;
            repeated[row * columns..][..plan.columns].copy_from_slice(&y[..plan.columns]);
        }
    }

    /// Runs `steps` steps; every length fits, and ids are inside the vocabulary.
    pub(crate) fn run(&mut self, input: Input<'_>, steps: usize, y: &mut [f32]) -> Result<()> {
        if let (Input::Floats(x), 1, Some(single)) = (input, steps, self.single) {
            debug_assert!(x.len() >= self.plan.features && y.len() == self.plan.columns);
            // SAFETY: the slots are those that `new` filled, with these floats, of which there is no
            // reference now, and this network, whose layers nobody changes while it is shared. `x` has the
            // features, the caller's promise.
            let output = unsafe { single.run(&mut self.memory.slots, x) };
            let row = &self.memory.floats[output..];
            match y {
                // Not worth a call.
                [y] => *y = row[0],
                _ => y.copy_from_slice(&row[..y.len()]),
            }
            return Ok(());
        }
        let plan = self.plan;
        let network = &*self.network;
        let given = read(network, &plan, input)?;
        let mut indices = Indices::new(&plan, &mut self.memory.indices);
        let (body, rest) = self.memory.floats.split_at_mut(plan.body);
        let (head, of_masks) = rest.split_at_mut(plan.head);
        let mut first = 0;
        while first < steps {
            let range = StepRange { first, count: (steps - first).min(plan.chunk), steps };
            let number = usize::from(self.odd);
            if !plan.masks || indices.uses_all(&plan, &given, range) {
                let counts = &indices.full[..range.count];
                let rows = indices.offsets.len().min(plan.batch * range.count);
                let input = unmasked_rows(&plan, &given, range, &mut indices.offsets[..rows]);
                let out = run_layers(network, &plan, body, None, input, Steps { counts, first: number });
                if plan.sequence {
                    write(&plan, &out, range, y);
                }
            } else {
                let (repeated, aside) = of_masks.split_at_mut((plan.batch + 1) * row_stride(plan.columns));
                let Order { order, counts, offsets, positions } = indices.arrange(&plan, &given, range);
                if !counts.is_empty() {
                    let input = Below::scattered(given.values, offsets);
                    let by_rank = Some(ByRank { order, aside });
                    let out =
                        run_layers(network, &plan, body, by_rank, input, Steps { counts, first: number });
                    if plan.sequence {
                        write_masked(&plan, &out, positions, y);
                    }
                }
                if plan.sequence {
                    repeat(&plan, &given, range, repeated, y);
                }
            }
            self.odd ^= range.count % 2 == 1;
            first += range.count;
        }
        if !plan.sequence {
            run_head(network, &plan, (body, head), &given, steps, y);
        } else if plan.masks {
            let stride = row_stride(plan.columns);
            for (row, to) in of_masks.chunks_exact_mut(stride).take(plan.batch).enumerate() {
                to[..plan.columns]
                    .copy_from_slice(&y[((row + 1) * steps - 1) * plan.columns..][..plan.columns]);
            }
        }
        Ok(())
    }
}

/// The layers' buffers, and the rows that masked steps repeat.
fn repeated<'a>(plan: &Plan, floats: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32]) {
    let (body, rest) = floats.split_at_mut(plan.body);
    let len = (plan.batch + 1) * row_stride(plan.columns);
    (body, &mut rest[plan.head..][..len])
}

/// The layers above the last step, in the buffers of the layers below the head and above it.
fn run_head(
    network: &Network,
    plan: &Plan,
    (body, head): (&mut [f32], &mut [f32]),
    given: &Given<'_>,
    steps: usize,
    y: &mut [f32],
) {
    // There is a recurrent layer: nothing else turns a sequence into its last step.
    let Some((units, start)) = last_states(network, plan) else { return };
    let stride = row_stride(units);
    // As in Keras, a row whose last step is masked gives zeros then. The chunk's own rows lie behind the
    // states and are not needed any more.
    let (states, spare) = body[start..].split_at_mut(plan.batch * stride);
    let mut values = &*states;
    if plan.masks && plan.zero_output {
        let spare = &mut spare[..plan.batch * stride];
        spare.copy_from_slice(states);
        for (row, to) in spare.chunks_exact_mut(stride).enumerate() {
            if !given.mask.uses(row, steps - 1, steps) {
                to.fill(0.0);
            }
        }
        values = spare;
    }
    let x = StridedRows { values, stride };
    put_rows(row_wise(&network.layers[network.head.clone()], x, plan.batch, head), y, plan.columns);
}
