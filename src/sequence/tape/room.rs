//! Room for a tape: all that a pass computes has its place before anything is written, so a pass cannot fail
//! halfway.

use super::forward;
use super::gated::GateMatrices;
use super::ops::{Back, Layout, Op, Value, dense_of, rnn_of};
use super::part::{Kept, Part, Plan, Scratch};
use super::steps;
use crate::error::{Error, Result};
use crate::gemm::PackedMatrix;
use crate::memory::row_stride;
use crate::sequence::input::Input;
use crate::sequence::network::Network;
use crate::sequence::schedule::{Bounds, StepSchedule};

impl Part {
    /// Room for all that [`forward`](Self::forward) computes, and a look at the layers: it cannot fail
    /// afterwards.
    pub(super) fn reserve_forward(
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

    /// Room for the backward pass to the last forward pass, as [`reserve_forward`](Self::reserve_forward);
    /// `wants_dx`: whether the gradient of the input is asked for.
    pub(super) fn reserve_backward(&mut self, network: &Network, wants_dx: bool) -> Result<()> {
        let Self { ops, values, plan, scratch, initial, .. } = self;
        let StepSchedule { batch, steps, .. } = plan.schedule;
        let total = plan.schedule.total();
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
                    if !plan.schedule.is_full() {
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
                        scratch.rows.reserve_rows(output.count(&plan.schedule), input.stride)?;
                    }
                }
                Op::Dropout { output, .. } => scratch.rows.reserve_scratch(values[*output].stride)?,
                Op::Expand { .. } | Op::Last { .. } | Op::LastPosition { .. } | Op::Merge { .. } => {}
            }
        }
        initial.make_room(batch.saturating_mul(units_before))
    }

    /// Room for every value, and for the gates.
    pub(super) fn reserve(&mut self, network: &Network, batch: usize, steps: usize) -> Result<()> {
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

    pub(super) fn bytes(&self) -> usize {
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
        let Plan { bases, orders, schedule, .. } = &self.plan;
        let lists =
            lists + previous.len() + bases.len() + orders.iter().map(|order| order.len()).sum::<usize>();
        floats * size_of::<f32>()
            + lists * size_of::<usize>()
            + schedule.bytes()
            + self.kept.ids.len() * size_of::<i32>()
    }
}

impl Back {
    pub(super) fn bytes(&self) -> usize {
        let matrices = [&self.recurrent, &self.candidate].into_iter().flatten().map(PackedMatrix::bytes);
        let by_gate = self.by_gate.iter().map(GateMatrices::bytes);
        self.kernel.bytes() + matrices.chain(by_gate).sum::<usize>()
    }
}

impl Kept {
    /// Room for an input.
    pub(super) fn reserve(&mut self, input: Input<'_>) -> Result<()> {
        match input {
            Input::Floats(x) => self.x.reserve_scratch(x.len()),
            Input::Tokens(ids) => self.ids.make_room(ids.len()),
        }
    }
}

/// Whether the rows of a part have numbers of 32 bits, which is how those of several parts are listed.
pub(super) fn numbered(rows: usize, steps: usize) -> Result<()> {
    if rows.checked_mul(steps).is_some_and(|all| all < u32::MAX as usize) {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "{rows} rows of {steps} steps for each thread: less than {} steps are possible, and more on one thread",
        u32::MAX
    )))
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
