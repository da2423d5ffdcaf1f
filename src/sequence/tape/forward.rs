//! Forward: every value of every step.

use super::super::input::{Call, Input, Inputs, Padding, check_tokens};
use super::super::network::Network;
use super::super::pipeline::{Source, fully_connected};
use super::super::schedule::{Bounds, Mask};
use super::super::states::{put_initial, put_last};
use super::super::walk::{Steps, advance, recur};
use super::dropout::{DropOut, Kind, Masks, mask_rows};
use super::gated::{ByGate, RnnPlan};
use super::rows;
use super::steps::gather;
use super::{
    Back, DenseOp, Layout, Mode, Op, Part, Plan, RnnOp, Scratch, Tape, Value, dense_of, looked_at, rnn_of,
    taken,
};
use crate::error::{Error, Result};
use crate::gemm::{Init, Rows, multiply};
use crate::layers::Layer;
use crate::memory::{AlignedVec, Few, row_stride};

/// Rows whose sums are made at once before the recurrence eats them: enough that fetching large weights pays,
/// few enough that the sums are still in the second-level cache.
const CHUNK_ROWS: usize = 256;

/// Some rows of a call.
struct ForwardPart<'a> {
    part: &'a mut Part,
    input: Input<'a>,
    mask: Mask<'a>,
    output: &'a mut [f32],
}

/// What all parts of a call have in common.
#[derive(Clone, Copy)]
struct Common<'a> {
    /// Rows of the whole batch.
    batch: usize,
    steps: usize,
    padding: Padding,
    /// Of the whole batch.
    initial_state: Option<&'a [f32]>,
    mode: Mode,
}

/// What a recurrent layer's operation reads beside values.
#[derive(Clone, Copy)]
struct Pass<'a> {
    network: &'a Network,
    plan: &'a Plan,
    source: Source<'a>,
    common: Common<'a>,
    /// The part's first row.
    first: usize,
    back: Option<&'a Back>,
}

impl Tape {
    /// A checked call through `network`, whose layers are the ones this tape was made for. Room is taken
    /// before anything is written; where there is none, only the last pass is lost.
    pub(crate) fn forward(&mut self, network: &Network, call: Call<'_>, mode: Mode) -> Result<()> {
        let Call { input, batch, steps, mask, lengths, padding, initial_state, final_state, output } = call;
        let [most_batch, most_steps] = self.most;
        if batch > most_batch || steps > most_steps {
            return Err(Error::InvalidArgument(format!(
                "the tape was made for batches up to {most_batch} and {most_steps} steps, got batch {batch}, \
                 steps {steps}"
            )));
        }
        if let (Input::Tokens(ids), Some((embedding, _))) = (input, network.embedding()) {
            check_tokens(ids, embedding.vocabulary)?;
        }
        (self.forward_done, self.backward_done) = (false, false);
        let count = self.parts.len().min(batch);
        (self.sizes, self.active) = ([batch, steps], count);
        let inputs = Inputs { input, mask, lengths };
        let common = Common { batch, steps, padding, initial_state, mode };
        let row_len = output.len() / batch;
        let mut rest = output;
        let parts = &mut self.parts[..count];
        let mut work = parts.iter_mut().enumerate().map(|(i, part)| {
            part.rows = batch * i / count..batch * (i + 1) / count;
            let inputs = inputs.of_rows(&part.rows, steps, network.input.features);
            let mask = inputs.read(network)?.mask;
            let bounds = Bounds::new(part.rows.len(), steps, &mask);
            part.reserve_forward(network, inputs.input, &bounds, mode.training)?;
            let (output, others) = std::mem::take(&mut rest).split_at_mut(part.rows.len() * row_len);
            rest = others;
            Ok(ForwardPart { part, input: inputs.input, mask, output })
        });
        let backs = &self.backs;
        let run = |one: &mut ForwardPart<'_>| {
            one.part.forward(network, backs, (one.input, one.mask), common, one.output);
        };
        if count > 1 {
            let mut work = work.collect::<Result<Few<_>>>()?;
            // Passes come in streams, so sleeping threads are always worth waking; backwards too.
            self.threads.for_each(usize::MAX, &mut work, run);
        } else if let Some(one) = work.next() {
            run(&mut one?);
        }
        let parts = &self.parts[..count];
        if let Some(states) = final_state {
            parts.iter().for_each(|part| part.put_last_states(states, batch));
        }
        self.forward_done = true;
        Ok(())
    }
}

impl Part {
    fn forward(
        &mut self,
        network: &Network,
        backs: &[Option<Back>],
        (input, mask): (Input<'_>, Mask<'_>),
        common: Common<'_>,
        output: &mut [f32],
    ) {
        let Common { steps, padding, mode, .. } = common;
        let Self { rows, ops, values, plan, kept, scratch, .. } = self;
        let first_row = rows.start;
        kept.keep(input);
        plan.mode = mode;
        plan.schedule.arrange(rows.len(), steps, mask, padding);
        plan.arranged();
        let source = kept.source(network, steps);
        for (op, back) in ops.iter_mut().zip(backs) {
            match op {
                Op::Rnn(op) => {
                    let (first, back) = (first_row, back.as_ref());
                    op.forward(Pass { network, plan, source, common, first, back }, values, scratch);
                }
                Op::Dense(op) => op.forward(network, plan, source, values),
                &mut Op::Expand { input, output, direction } => {
                    rows::expand(plan, values, [input, output], direction);
                }
                &mut Op::Last { input, output, direction } => {
                    rows::last_states(plan, values, [input, output], direction);
                }
                &mut Op::LastPosition { input, output } => {
                    rows::last_positions(&plan.schedule, values, [input, output]);
                }
                &mut Op::Merge { mode, inputs, output } => {
                    rows::merge(&plan.schedule, mode, values, inputs, output);
                }
                &mut Op::Dropout { layer, rate, input, output } => {
                    let drop_out = DropOut { layer, rate, first_row };
                    drop_out.forward(plan, source, values, [input, output], &mut scratch.previous);
                }
            }
        }
        if let Some(last) = values.last() {
            let columns = last.features;
            for (to, from) in output.chunks_exact_mut(columns).zip(last.rows.chunks_exact(last.stride)) {
                to.copy_from_slice(&from[..columns]);
            }
        }
    }

    /// Copies the last states to their places among those of all `batch` rows.
    fn put_last_states(&self, states: &mut [f32], batch: usize) {
        let schedule = &self.plan.schedule;
        for op in self.ops.iter() {
            let Op::Rnn(op) = op else { continue };
            let value = &self.values[op.output];
            let (lead, units) = (value.lead(schedule), value.features);
            let cell_states =
                op.gated.as_ref().filter(|_| op.cell.states() > 1).map(|gated| gated.cell_states());
            for (array, from) in [Some(&value.rows[..]), cell_states].into_iter().flatten().enumerate() {
                let to = &mut states[batch * (op.state_base + array * units) + self.rows.start * units..];
                put_last(schedule, units, to, |rank| {
                    let last = self.plan.last_row(rank).map(|n| lead + n * value.stride);
                    &from[last.unwrap_or(rank * value.stride)..]
                });
            }
        }
    }
}

/// The rates of a recurrent layer's input and recurrent dropout.
pub(super) fn rates(layer: &Layer) -> (f32, f32) {
    let options = layer.recurrent().map(|layer| layer.options());
    options.map_or((0.0, 0.0), |options| (options.dropout, options.recurrent_dropout))
}

impl RnnOp {
    /// The rows that a gate reads, in the layer's own order; those of an earlier call of
    /// [`mask_input`](Self::mask_input) where some are dropped.
    pub(super) fn input_rows<'a>(
        &'a self,
        plan: &Plan,
        source: Source<'a>,
        value: &'a Value,
        masked: &'a AlignedVec,
        gate: usize,
    ) -> Rows<'a> {
        if !self.drops[0] {
            return self.plain_input(plan, source, value);
        }
        let (stride, count) = (row_stride(value.features), plan.schedule.total());
        let block = if self.by_gate() { gate * count * stride } else { 0 };
        Rows::Strided { values: &masked[block..], stride, count }
    }

    /// Prepares [`input_rows`](Self::input_rows).
    pub(super) fn mask_input(&self, plan: &Plan, source: Source<'_>, value: &Value, masked: &mut AlignedVec) {
        if !self.drops[0] {
            return;
        }
        let schedule = &plan.schedule;
        let features = value.features;
        let block = schedule.total() * row_stride(features);
        for gate in 0..self.masks() {
            let rows = self.plain_input(plan, source, value);
            let mask = &self.input_mask[gate * schedule.batch * features..];
            mask_rows(schedule, self.layout(), rows, mask, features, &mut masked[gate * block..]);
        }
    }

    fn plain_input<'a>(&'a self, plan: &Plan, source: Source<'a>, value: &'a Value) -> Rows<'a> {
        let count = plan.schedule.total();
        match value.layout {
            Layout::Source => Rows::Scattered { values: source.values, offsets: &self.offsets },
            Layout::Positions | Layout::Last => {
                Rows::Scattered { values: &value.rows, offsets: &self.offsets }
            }
            Layout::Compact { .. } => Rows::Strided {
                values: &value.rows[value.lead(&plan.schedule)..],
                stride: value.stride,
                count,
            },
        }
    }

    pub(super) fn layout(&self) -> Layout {
        Layout::Compact { reversed: self.reversed }
    }

    fn forward(&mut self, pass: Pass<'_>, values: &mut [Value], scratch: &mut Scratch) {
        let Pass { network, plan, source, back, .. } = pass;
        let rnn = looked_at(rnn_of(&network.layers[self.layer], self.half));
        let mut out = taken(&mut values[self.output].rows);
        let mut gated = self.gated.take();
        let cell_states = gated.as_mut().map(|gated| gated.cell_states_mut());
        self.begin_states(pass, rnn.units(), &mut out, cell_states);
        let input = &values[self.input];
        gather(&plan.schedule, source, input, self.layout(), &mut self.offsets);
        self.draw_masks(pass, input.features, rnn.units());
        self.mask_input(plan, source, input, &mut scratch.masked);
        let Scratch { masked, rows: masked_states, .. } = scratch;
        let rows = |gate| self.input_rows(plan, source, input, masked, gate);
        match &mut gated {
            Some(gated) => {
                let matrices = back.filter(|_| self.by_gate()).map(|back| &back.by_gate[..]);
                let by_gate = matrices.map(|matrices| ByGate { matrices, masked: masked_states });
                self.forward_gated(RnnPlan { rnn, plan }, gated, rows, &mut out, by_gate);
            }
            None => self.forward_simple(RnnPlan { rnn, plan }, rows(0), &mut out, masked_states),
        }
        values[self.output].rows = out;
        self.gated = gated;
    }

    /// The states before the first step.
    fn begin_states(&self, pass: Pass<'_>, units: usize, rows: &mut [f32], cell_states: Option<&mut [f32]>) {
        let Pass { plan, common, first, .. } = pass;
        let arrays = [Some(rows), cell_states].into_iter().flatten().take(self.cell.states());
        for (array, to) in arrays.enumerate() {
            let base = common.batch * (self.state_base + array * units);
            let given = common.initial_state.map(|all| (&all[base..], first));
            put_initial(&plan.schedule, given, units, to, row_stride(units));
        }
    }

    /// The masks of what is dropped in this pass.
    fn draw_masks(&mut self, pass: Pass<'_>, features: usize, units: usize) {
        let Pass { network, plan, first, .. } = pass;
        let (rate, recurrent_rate) = rates(&network.layers[self.layer].layer);
        let (layer, half, gate_masks) = (self.layer, self.half, self.masks());
        let draw = |mask: &mut [f32], kind, rate, width| {
            let mut masks = Masks::new(plan.mode.seed, layer, kind, half, rate);
            for (gate, mask) in
                mask.chunks_exact_mut(plan.schedule.batch * width).take(gate_masks).enumerate()
            {
                masks.of_gate(gate).fill(first * width, mask);
            }
        };
        if self.drops[0] {
            draw(&mut self.input_mask, Kind::Input, rate, features);
        }
        if self.drops[1] {
            draw(&mut self.recurrent_mask, Kind::Recurrent, recurrent_rate, units);
        }
    }

    /// Turns the rows of the input into those of the states in `out`, chunk by chunk; the states before the
    /// first step are there. `masked` has room for a row a rank.
    fn forward_simple(&self, of: RnnPlan<'_>, rows: Rows<'_>, out: &mut [f32], masked: &mut [f32]) {
        let RnnPlan { rnn, plan } = of;
        let Plan { schedule, bases, .. } = plan;
        let stride = row_stride(rnn.units());
        let mut step = 0;
        // Where the states before the chunk begin.
        let mut before = 0;
        while step < schedule.counts.len() {
            let mut chunk = 0;
            let fitting = schedule.counts[step..].iter().take_while(|&&count| {
                chunk += count;
                chunk <= CHUNK_ROWS
            });
            let counts = &schedule.counts[step..][..fitting.count().max(1)];
            let count: usize = counts.iter().sum();
            let here = (schedule.batch + bases[step]) * stride;
            let input = match rows {
                Rows::Strided { values, stride, .. } => {
                    Rows::Strided { values: &values[bases[step] * stride..], stride, count }
                }
                Rows::Scattered { values, offsets } => {
                    Rows::Scattered { values, offsets: &offsets[bases[step]..][..count] }
                }
            };
            multiply(input, &rnn.kernel, Init::Bias(&rnn.bias), &mut out[here..], stride);
            let chunk = &mut out[before..];
            if self.drops[1] {
                self.recur_masked(of, chunk, here - before, counts, masked);
            } else {
                advance(rnn, chunk, stride, here - before, Steps { counts, first: step });
            }
            step += counts.len();
            before = here + (count - counts[counts.len() - 1]) * stride;
        }
    }

    /// Turns sums into states, step by step, each product being of states times the recurrent mask. The sums
    /// lie `distance` floats behind the states before them.
    fn recur_masked(
        &self,
        of: RnnPlan<'_>,
        rows: &mut [f32],
        distance: usize,
        counts: &[usize],
        masked: &mut [f32],
    ) {
        let RnnPlan { rnn, plan } = of;
        let (units, stride) = (rnn.units(), row_stride(rnn.units()));
        let (mut previous, mut here) = (0, distance);
        for &count in counts {
            let (states, sums) = rows.split_at_mut(here);
            let states = &states[previous..];
            for rank in 0..count {
                let mask = &self.recurrent_mask[plan.schedule.order[rank] * units..][..units];
                let at = rank * stride;
                for ((to, from), mask) in masked[at..].iter_mut().zip(&states[at..]).zip(mask) {
                    *to = from * mask;
                }
            }
            recur(&rnn.recurrent, rnn.function(), masked, sums, count, stride);
            previous = here;
            here += count * stride;
        }
    }
}

impl DenseOp {
    /// The rows that the layer reads, in its output's order.
    pub(super) fn input_rows<'a>(&'a self, plan: &Plan, source: Source<'a>, value: &'a Value) -> Rows<'a> {
        match value.layout {
            Layout::Source => Rows::Scattered { values: source.values, offsets: &self.offsets },
            Layout::Compact { .. } | Layout::Positions | Layout::Last => Rows::Strided {
                values: &value.rows[value.lead(&plan.schedule)..],
                stride: value.stride,
                count: value.count(&plan.schedule),
            },
        }
    }

    fn forward(&mut self, network: &Network, plan: &Plan, source: Source<'_>, values: &mut [Value]) {
        let (_, dense) = looked_at(dense_of(&network.layers[self.layer]));
        let mut out = taken(&mut values[self.output].rows);
        let (layout, stride) = (values[self.output].layout, values[self.output].stride);
        gather(&plan.schedule, source, &values[self.input], layout, &mut self.offsets);
        let rows = self.input_rows(plan, source, &values[self.input]);
        let count = values[self.output].count(&plan.schedule);
        if self.last && plan.mode.logits {
            multiply(rows, &dense.kernel, Init::Bias(&dense.bias), &mut out, stride);
        } else {
            fully_connected(dense, rows, count, &mut out, stride);
        }
        values[self.output].rows = out;
    }
}
