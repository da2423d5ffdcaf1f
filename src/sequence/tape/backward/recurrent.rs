//! Backward through time in a recurrent layer, the same for all cells but for what is inside a step.
//!
//! Step by step from the last: the gradient of a step's states is what came from above, what the loss asks of
//! the last states, and what the step after hands back. The cell turns it into the gradients of its sums.
//! What follows is not bound to time: the gradient of the input is a product over all rows at once.

use std::ops::Range;

use super::super::dropout::mask_rows;
use super::super::gated::Gates;
use super::super::steps::each_position;
use super::super::{Layout, Plan, RnnOp, Scratch, Value, add_row, looked_at, put_row, rnn_of, taken};
use super::{BackwardPass, Workspace, activation_backward, hand_down};
use crate::dispatch::Function;
use crate::gemm::{Init, Rows, multiply};
use crate::layers::PackedRnn;
use crate::memory::{List, row_stride};
use crate::sequence::Padding;

/// A recurrent layer's backward pass through time.
pub(in super::super) struct Recurrence<'a> {
    pub(in super::super) op: &'a mut RnnOp,
    pub(in super::super) pass: &'a BackwardPass<'a>,
    pub(in super::super) rnn: &'a PackedRnn,
    /// Room for the rows of a step.
    pub(in super::super) scratch: &'a mut [f32],
}

/// The gradients of a layer's sums of the input.
pub(in super::super) struct SumGradients<'a> {
    pub(in super::super) rnn: &'a PackedRnn,
    /// All gates side by side, by compact row.
    rows: Rows<'a>,
    /// Of an LSTM or a GRU.
    gates: Option<&'a Gates>,
}

impl RnnOp {
    pub(super) fn backward(&mut self, pass: &BackwardPass<'_>, workspace: &mut Workspace<'_>) {
        let &BackwardPass { network, plan, source, .. } = pass;
        let rnn = looked_at(rnn_of(&network.layers[self.layer], self.half));
        let mut gates = self.gated.take();
        let output = &mut workspace.values[self.output];
        let (stride, lead) = (output.stride, output.lead(&plan.schedule));
        let mut gradient = taken(&mut output.gradient);
        let recurrence = Recurrence { op: self, pass, rnn, scratch: &mut workspace.scratch.rows };
        recurrence.run(gates.as_deref_mut(), output, &mut gradient, workspace.initial);

        self.mask_states(plan, output, workspace.scratch);
        let input = &workspace.values[self.input];
        self.mask_input(plan, source, input, &mut workspace.scratch.masked);
        if pass.wants(input, workspace) {
            let (gates, count) = (gates.as_deref(), plan.schedule.total());
            let rows = match gates {
                None => Rows::Strided { values: &gradient[lead..], stride, count },
                Some(gates) => gates.of_input(rnn, 0, count),
            };
            self.input_backward(pass, SumGradients { rnn, rows, gates }, workspace);
        }
        workspace.values[self.output].gradient = gradient;
        self.gated = gates;
    }

    /// Prepares [`states_before`](Self::states_before).
    fn mask_states(&self, plan: &Plan, output: &Value, scratch: &mut Scratch) {
        let schedule = &plan.schedule;
        let (units, stride) = (output.features, output.stride);
        // One slot up; where rows end early the slots differ in length.
        if !schedule.is_full() {
            scratch.previous.clear();
            for (step, &count) in schedule.counts.iter().enumerate() {
                let before = plan.slot_before(step);
                scratch.previous.extend((before..before + count).map(|n| n * stride));
            }
        }
        if !self.drops[1] {
            return;
        }
        let block = schedule.total() * stride;
        for gate in 0..self.masks() {
            let h = plain_states(plan, output, &scratch.previous);
            let masked = &mut scratch.masked_states[gate * block..];
            let mask = &self.recurrent_mask[gate * schedule.batch * units..];
            mask_rows(schedule, self.layout(), h, mask, units, masked);
        }
    }

    /// The states before each step, times the recurrent mask of gate `gate`; after
    /// [`backward`](Self::backward).
    pub(in super::super) fn states_before<'a>(
        &self,
        plan: &Plan,
        output: &'a Value,
        scratch: &'a Scratch,
        gate: usize,
    ) -> Rows<'a> {
        if !self.drops[1] {
            return plain_states(plan, output, &scratch.previous);
        }
        let (stride, count) = (row_stride(output.features), plan.schedule.total());
        let block = if self.by_gate() { gate * count * stride } else { 0 };
        Rows::Strided { values: &scratch.masked_states[block..], stride, count }
    }

    /// Hands the gradient of the input down.
    fn input_backward(&self, pass: &BackwardPass<'_>, sums: SumGradients<'_>, workspace: &mut Workspace<'_>) {
        let schedule = &pass.plan.schedule;
        let Workspace { values, scratch, .. } = workspace;
        let input = &mut values[self.input];
        if matches!(input.layout, Layout::Compact { .. }) {
            // Its rows stand as this layer's own, and nobody else reads them.
            let mut to = taken(&mut input.gradient);
            self.input_gradient(pass, &sums, input, &mut to[input.lead(schedule)..], &mut scratch.of_gate);
            (input.gradient, input.filled) = (to, true);
            return;
        }
        let mut to = taken(&mut scratch.rows);
        self.input_gradient(pass, &sums, input, &mut to, &mut scratch.of_gate);
        let rows = Rows::Strided { values: &to, stride: input.stride, count: schedule.total() };
        hand_down(pass, workspace, self.input, self.layout(), rows);
        workspace.scratch.rows = to;
    }

    /// The gradient of the input by compact row: `dZ·Wᵀ`, times the input's mask. `of_gate` has room for the
    /// rows of a gate, where each has a mask of its own.
    fn input_gradient(
        &self,
        pass: &BackwardPass<'_>,
        sums: &SumGradients<'_>,
        input: &Value,
        to: &mut [f32],
        of_gate: &mut [f32],
    ) {
        let &BackwardPass { plan, .. } = pass;
        let (features, stride) = (input.features, input.stride);
        if let Some(gates) = sums.gates.filter(|_| self.by_gate() && self.drops[0]) {
            return self.input_gradient_by_gate(pass, (sums.rnn, gates), input, to, of_gate);
        }
        multiply(sums.rows, pass.kernel(), Init::Bias(&plan.zeros), to, stride);
        if self.drops[0] && !self.by_gate() {
            let mut n = 0;
            each_position(&plan.schedule, self.layout(), |position| {
                let mask = &self.input_mask[position / plan.schedule.steps * features..][..features];
                to[n..].iter_mut().zip(mask).for_each(|(to, mask)| *to *= mask);
                n += stride;
            });
        }
    }
}

impl<'a> Recurrence<'a> {
    /// Turns the gradients of the states, `dLoss/dh`, into those of the sums, `dLoss/dz`: in `gradient` for a
    /// simple layer, in its gates for an LSTM and a GRU. Those of the states before the first step go to
    /// `initial`.
    fn run(
        mut self,
        mut gates: Option<&mut Gates>,
        value: &mut Value,
        gradient: &mut [f32],
        initial: &mut List<f32>,
    ) {
        let plan = self.pass.plan;
        let (schedule, units, stride) = (&plan.schedule, value.features, value.stride);
        let function = self.rnn.function();
        self.begin(value);
        if let Some(gates) = gates.as_deref_mut() {
            self.begin_gates(gates);
        }
        for (step, &count) in schedule.counts.iter().enumerate().rev() {
            let here = plan.slot(step) * stride;
            let (dh, dz_after) = gradient[here..].split_at_mut(count * stride);
            let after = AfterStep { step: step + 1, rows: schedule.count(step + 1), onto: value.filled };
            match gates.as_deref() {
                None => self.add_simple(after, dz_after, dh),
                Some(gates) => self.add_gated(after, gates, dh),
            }
            value.add_ends(dh, after.rows..count);
            let h = &value.rows[here..];
            match gates.as_deref_mut() {
                None => self.state_backward(function, step, dh, h, [count, units, stride]),
                Some(gates) => {
                    self.state_backward(Function::Linear, step, dh, h, [count, stride, stride]);
                    self.gated_step_backward(gates, step, dh, &value.rows);
                }
            }
        }
        // The states before the first step.
        let (dh, dz_after) = gradient.split_at_mut(schedule.batch * stride);
        let after = AfterStep { step: 0, rows: schedule.count(0), onto: false };
        match gates.as_deref() {
            None => self.add_simple(after, dz_after, dh),
            Some(gates) => self.add_gated(after, gates, dh),
        }
        self.put_initial(initial, dh, 0);
        if let Some(gates) = gates.filter(|_| self.rnn.states() > 1) {
            self.put_initial(initial, gates.carried(), 1);
        }
    }

    /// The gradients of the last states, where the loss depends on them, beside those that came from above;
    /// and room for the squares.
    fn begin(&mut self, value: &mut Value) {
        let &BackwardPass { plan, final_state, .. } = self.pass;
        let (schedule, stride) = (&plan.schedule, value.stride);
        if final_state.states.is_some() {
            for (rank, &row) in schedule.order.iter().enumerate() {
                let to = &mut value.ends[rank * stride..][..stride];
                let Some(from) = self.final_gradient(0, row) else { continue };
                if value.has_ends { add_row(to, from) } else { put_row(to, from) }
            }
            value.has_ends = true;
        }
        self.op.squares.clear();
        self.op.squares.resize(2 * schedule.steps * schedule.batch, 0.0);
    }

    /// The gradient of a row's final state in array `array` of the layer's, where the loss depends on it.
    pub(in super::super) fn final_gradient(&self, array: usize, row: usize) -> Option<&'a [f32]> {
        let units = self.rnn.units();
        let &BackwardPass { final_state, first_row, .. } = self.pass;
        final_state.of(self.op.state_base + array * units, first_row + row, units)
    }

    /// To `dh`, the gradients of the states before a step, the product of that step's gradients: `dz·Uᵀ`,
    /// times the recurrent mask.
    #[inline]
    fn add_simple(&mut self, after: AfterStep, dz: &[f32], dh: &mut [f32]) {
        let AfterStep { rows, onto, .. } = after;
        let &BackwardPass { plan, .. } = self.pass;
        let (recurrent, stride) = (self.pass.recurrent(), row_stride(self.rnn.units()));
        let dz = Rows::Strided { values: dz, stride, count: rows };
        let zeros = Init::Bias(&plan.zeros);
        if !self.op.drops[1] {
            let init = if onto { Init::Output } else { zeros };
            return multiply(dz, recurrent, init, dh, stride);
        }
        if !onto {
            dh[..rows * stride].fill(0.0);
        }
        multiply(dz, recurrent, zeros, self.scratch, stride);
        self.add_masked(0, rows, dh);
    }

    /// Adds what `scratch` holds of a gate, times its recurrent mask, to the rows of `dh`.
    pub(in super::super) fn add_masked(&self, gate: usize, rows: usize, dh: &mut [f32]) {
        let units = self.rnn.units();
        let stride = row_stride(units);
        for (rank, to) in dh.chunks_exact_mut(stride).take(rows).enumerate() {
            let mask = self.op.mask_of(self.pass.plan, gate, rank, units);
            let from = &self.scratch[rank * stride..];
            to.iter_mut().zip(from).zip(mask).for_each(|((to, from), mask)| *to += from * mask);
        }
    }

    /// Passes the gradients of a step's states, `count` rows, back through the function that gave them; and
    /// notes, by time and row, what the norm of `dLoss/dh_t` is made of.
    #[inline]
    fn state_backward(
        &mut self,
        function: Function,
        step: usize,
        dh: &mut [f32],
        h: &[f32],
        [count, columns, stride]: [usize; 3],
    ) {
        let Self { op, pass, .. } = self;
        let (plan, schedule) = (pass.plan, &pass.plan.schedule);
        let batch = schedule.batch;
        if schedule.is_full() {
            let squares = &mut op.squares[2 * schedule.time(0, step, op.reversed) * batch..];
            return activation_backward(plan, function, dh, h, [count, columns, stride], Some(squares));
        }
        for rank in 0..count {
            let position = schedule.time(rank, step, op.reversed) * batch + schedule.order[rank];
            let squares = &mut op.squares[2 * position..];
            let at = rank * stride;
            let sizes = [1, columns, stride];
            activation_backward(plan, function, &mut dh[at..], &h[at..], sizes, Some(squares));
        }
    }

    /// Writes the gradients of array `array` of the layer's initial states from those by rank.
    fn put_initial(&self, initial: &mut List<f32>, from: &[f32], array: usize) {
        let (schedule, units) = (&self.pass.plan.schedule, self.rnn.units());
        let (batch, base) = (schedule.batch, self.op.state_base + array * units);
        let stride = row_stride(units);
        if initial.len() < (base + units) * batch {
            initial.resize((base + units) * batch, 0.0);
        }
        for (rank, &row) in schedule.order.iter().enumerate() {
            let to = &mut initial[batch * base + row * units..][..units];
            // A row without a step hands its state through, but for ONNX, where it has no final state; what
            // its output is does not depend on it.
            let handed = self.final_gradient(array, row);
            match handed.filter(|_| schedule.padding == Padding::Keras) {
                _ if rank < schedule.count(0) => to.copy_from_slice(&from[rank * stride..][..units]),
                Some(given) => to.copy_from_slice(given),
                None => to.fill(0.0),
            }
        }
    }
}

/// The step that the gradients of some states come back from.
#[derive(Clone, Copy)]
pub(in super::super) struct AfterStep {
    pub(in super::super) step: usize,
    /// How many rows have it.
    pub(in super::super) rows: usize,
    /// Whether the gradients are added to what came from above.
    pub(in super::super) onto: bool,
}

impl Value {
    /// Adds the gradients of the last states of the rows `ranks`, which have no further step, or puts them
    /// where nothing is yet.
    #[inline]
    fn add_ends(&self, dh: &mut [f32], ranks: Range<usize>) {
        let stride = self.stride;
        for rank in ranks {
            let to = &mut dh[rank * stride..][..stride];
            match (self.filled, self.has_ends) {
                (true, true) => add_row(to, &self.ends[rank * stride..][..stride]),
                (true, false) => {}
                (false, true) => to.copy_from_slice(&self.ends[rank * stride..][..stride]),
                (false, false) => to.fill(0.0),
            }
        }
    }
}

/// The states before each step: those of a slot are the rows of the slot before it.
fn plain_states<'a>(plan: &Plan, output: &'a Value, previous: &'a [usize]) -> Rows<'a> {
    if plan.schedule.is_full() {
        Rows::Strided { values: &output.rows, stride: output.stride, count: plan.schedule.total() }
    } else {
        Rows::Scattered { values: &output.rows, offsets: previous }
    }
}
