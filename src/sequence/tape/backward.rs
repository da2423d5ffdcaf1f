//! Backward: from the gradient of the output to those of the weights, the input and the initial states.

use super::super::network::Network;
use super::super::pipeline::{Map, Source};
use super::dropout::{Kind, Masks};
use super::forward::{each_pair, first_place, mask_rows};
use super::gated::Of;
use super::steps::each_place;
use super::{
    Back, DenseOp, GateMatrices, Layout, Op, Part, Plan, RnnOp, Scratch, StepSchedule, Tape, Value, add_row,
    dense_of, looked_at, put_row, rnn_of, taken,
};
use crate::dispatch::{Function, SQUARE_LANES};
use crate::error::Result;
use crate::gemm::{Init, PackedMatrix, Rows, multiply};
use crate::layers::{Activation, MergeMode};
use crate::memory::{AlignedVec, Few, List, extent, row_stride};

/// Some rows on their way back.
pub(super) struct Job<'a> {
    pub(super) part: &'a mut Part,
    dx: Option<&'a mut [f32]>,
}

/// The gradient of the final states of the whole batch, where there is one.
#[derive(Clone, Copy)]
pub(super) struct Final<'a> {
    states: Option<&'a [f32]>,
    batch: usize,
}

impl<'a> Final<'a> {
    /// Of a direction whose states begin `base` units in, for a row of the whole batch.
    pub(super) fn of(&self, base: usize, row: usize, units: usize) -> Option<&'a [f32]> {
        self.states.map(|states| &states[self.batch * base + row * units..][..units])
    }
}

impl Tape {
    /// The way back of the last forward pass, through the same `network`. `dy` is the gradient of the output,
    /// `final_state` that of the final states, where the loss depends on them; `dx` receives the input's. Gradients are
    /// overwritten. Room is taken before anything is written; where there is none, the pass can be gone back
    /// again.
    pub(crate) fn backward(
        &mut self,
        network: &Network,
        dy: &[f32],
        final_state: Option<&[f32]>,
        dx: Option<&mut [f32]>,
    ) -> Result<()> {
        let [batch, steps] = self.sizes()?;
        self.backward_done = false;
        let final_state = Final { states: final_state, batch };
        let states = batch * self.state_width;
        let Self { parts, threads, backs, sums, places, gradients, touched, active, initial, .. } = self;
        for part in &mut parts[..*active] {
            part.reserve_backward(network, dx.is_some())?;
        }
        sums.reserve(network, threads, &parts[..*active], touched)?;
        initial.make_room(states)?;

        sums.begin(network, places, gradients, touched);
        let mut dx = dx;
        let (row_of_dy, row_of_dx) = (dy.len() / batch, steps * network.input.features);
        let mut jobs = parts[..*active].iter_mut().map(|part| {
            let rows = part.rows.clone();
            part.begin_back(&dy[rows.start * row_of_dy..rows.end * row_of_dy]);
            let dx = dx.take().map(|all| {
                let (mine, others) = all.split_at_mut(rows.len() * row_of_dx);
                dx = Some(others);
                mine.fill(0.0);
                mine
            });
            Job { part, dx }
        });
        let (mut one, mut many);
        let jobs: &mut [Job<'_>] = if *active == 1 {
            one = jobs.next();
            one.as_mut_slice()
        } else {
            many = jobs.collect::<Few<_>>();
            &mut many
        };
        for (at, back) in backs.iter().enumerate().rev() {
            threads.for_each(usize::MAX, jobs, |job| {
                job.part.one_back(network, at, back.as_ref(), final_state, &mut job.dx);
            });
            sums.make(network, threads, jobs, at, (places, gradients, touched));
        }
        self.initial.resize(states, 0.0);
        for part in &self.parts[..self.active] {
            let rows = part.rows.len();
            for op in part.ops.iter() {
                let Op::Rnn(op) = op else { continue };
                let units = part.values[op.output].features;
                for array in 0..op.cell.states() {
                    let base = op.state_base + array * units;
                    self.initial[batch * base + part.rows.start * units..][..rows * units]
                        .copy_from_slice(&part.initial[rows * base..][..rows * units]);
                }
            }
        }
        self.backward_done = true;
        Ok(())
    }
}

impl Part {
    /// Takes the gradient of the output.
    fn begin_back(&mut self, dy: &[f32]) {
        for value in self.values.iter_mut() {
            (value.filled, value.has_ends) = (false, false);
        }
        if let Some(last) = self.values.last_mut() {
            let (columns, stride) = (last.features, last.stride);
            for (to, from) in last.gradient.chunks_exact_mut(stride).zip(dy.chunks_exact(columns)) {
                put_row(to, from);
            }
            last.filled = true;
        }
    }

    /// The way back through operation `at`, the gradients of weights left out.
    fn one_back(
        &mut self,
        network: &Network,
        at: usize,
        back: Option<&Back>,
        final_state: Final<'_>,
        dx: &mut Option<&mut [f32]>,
    ) {
        let Self { rows, ops, values, plan, kept, scratch, initial, .. } = self;
        let source = kept.source(network, plan.work.steps);
        let mut to = To { first: rows.start, back, initial, final_state, dx };
        match &mut ops[at] {
            Op::Rnn(op) => op.backward(network, plan, source, values, scratch, &mut to),
            Op::Dense(op) => op.backward(network, plan, source, values, scratch, &mut to),
            Op::Expand { input, output, reversed, zero_output } => {
                gather_expanded(&plan.work, values, [*input, *output], *reversed, *zero_output);
            }
            Op::Last { input, output, reversed, zero_output } => {
                let gradient = taken(&mut values[*output].gradient);
                let to = &mut values[*input];
                to.has_ends = true;
                for (rank, &row) in plan.work.order.iter().enumerate() {
                    let at = rank * to.stride;
                    if plan.work.ends_in_padding(rank, *reversed, *zero_output) {
                        to.ends[at..][..to.stride].fill(0.0);
                    } else {
                        to.ends[at..][..to.stride].copy_from_slice(&gradient[row * to.stride..][..to.stride]);
                    }
                }
                values[*output].gradient = gradient;
            }
            Op::LastPosition { input, output } => {
                let gradient = taken(&mut values[*output].gradient);
                let StepSchedule { batch, steps, .. } = plan.work;
                let to = &mut values[*input];
                let stride = to.stride;
                to.gradient[..batch * steps * stride].fill(0.0);
                let last = to.gradient.chunks_exact_mut(stride).skip(steps - 1).step_by(steps);
                for (to, from) in last.zip(gradient.chunks_exact(stride)).take(batch) {
                    to.copy_from_slice(from);
                }
                to.filled = true;
                values[*output].gradient = gradient;
            }
            Op::Merge { mode, inputs, output } => {
                part(&plan.work, *mode, values, *inputs, *output);
            }
            Op::Dropout { layer, rate, input, output } => {
                // In place: the masked gradients replace those that came in.
                if plan.mode.training {
                    let value = &mut values[*output];
                    let mut masks = Masks::new(plan.mode.seed, *layer, Kind::Layer, 0, *rate);
                    let mask = &mut scratch.rows;
                    let mut n = 0;
                    let first = first_place(&plan.work, value.layout, to.first);
                    each_place(&plan.work, value.layout, |place| {
                        masks.fill((first + place) * value.features, &mut mask[..value.features]);
                        let row = &mut value.gradient[n * value.stride..][..value.features];
                        row.iter_mut().zip(&mask[..]).for_each(|(to, mask)| *to *= mask);
                        n += 1;
                    });
                }
                let from = taken(&mut values[*output].gradient);
                let (layout, stride) = (values[*output].layout, values[*output].stride);
                let count = values[*output].count(&plan.work);
                let rows = Rows::Strided { values: &from, stride, count };
                hand_down(plan, source, values, *input, layout, rows, &mut to);
                values[*output].gradient = from;
            }
        }
    }
}

/// What an operation's way back takes and gives beside values.
pub(super) struct To<'a, 'b, 'c> {
    /// The part's first row.
    pub(super) first: usize,
    /// Where the operation has weights.
    back: Option<&'a Back>,
    pub(super) initial: &'a mut List<f32>,
    pub(super) final_state: Final<'a>,
    dx: &'b mut Option<&'c mut [f32]>,
}

impl To<'_, '_, '_> {
    fn kernel(&self) -> &PackedMatrix {
        match self.back {
            Some(back) => &back.kernel,
            None => unreachable!("an operation without weights"),
        }
    }

    pub(super) fn recurrent(&self) -> &PackedMatrix {
        match self.back.and_then(|back| back.recurrent.as_ref()) {
            Some(recurrent) => recurrent,
            None => unreachable!("an operation without recurrent weights"),
        }
    }

    pub(super) fn candidate(&self) -> &PackedMatrix {
        match self.back.and_then(|back| back.candidate.as_ref()) {
            Some(candidate) => candidate,
            None => unreachable!("an operation without reset before"),
        }
    }

    pub(super) fn by_gate(&self) -> &[GateMatrices] {
        self.back.map_or(&[], |back| &back.by_gate)
    }
}

/// Passes gradients of a function's results, `count` rows, back through it.
pub(super) fn through(
    plan: &Plan,
    function: Function,
    gradient: &mut [f32],
    h: &[f32],
    [count, columns, stride]: [usize; 3],
    squares: Option<&mut [f32]>,
) {
    let padded = columns.next_multiple_of(SQUARE_LANES);
    let end = extent(count, stride, padded);
    assert!(padded <= stride && end <= gradient.len() && end <= h.len(), "rows too short");
    let squares = squares.map_or(std::ptr::null_mut(), |squares| {
        assert!(squares.len() >= 2 * count, "no room for the squares");
        squares.as_mut_ptr()
    });
    // SAFETY: the asserts; the three are borrowed apart; the kernels are this process's.
    unsafe {
        (plan.kernels.through)(function, gradient.as_mut_ptr(), h.as_ptr(), count, columns, stride, squares);
    }
}

/// Adds gradients of what an operation read, rows that stand as `layout`, to where it read them.
fn hand_down(
    plan: &Plan,
    source: Source<'_>,
    values: &mut [Value],
    input: usize,
    layout: Layout,
    rows: Rows<'_>,
    results: &mut To<'_, '_, '_>,
) {
    let work = &plan.work;
    let value = &mut values[input];
    let features = value.features;
    match value.layout {
        Layout::Source => match source.map {
            // A table's gradient is summed over all parts; see `weights`.
            Map::Tokens(..) => {}
            Map::Features(_) | Map::Offsets(_) => {
                if let Some(dx) = results.dx.as_deref_mut() {
                    let mut n = 0;
                    each_place(work, layout, |place| {
                        add_row(&mut dx[place * features..][..features], &rows.row(n)[..features]);
                        n += 1;
                    });
                }
            }
        },
        Layout::Positions if layout != Layout::Positions => {
            let stride = value.stride;
            if !value.filled {
                value.gradient[..work.batch * work.steps * stride].fill(0.0);
            }
            let mut n = 0;
            each_place(work, layout, |place| {
                add_row(&mut value.gradient[place * stride..][..features], &rows.row(n)[..features]);
                n += 1;
            });
            value.filled = true;
        }
        Layout::Positions | Layout::Compact { .. } | Layout::Last => {
            let (stride, lead) = (value.stride, value.lead(work));
            let count = value.count(work);
            for (n, to) in value.gradient[lead..].chunks_exact_mut(stride).take(count).enumerate() {
                put_row(to, &rows.row(n)[..features]);
            }
            value.filled = true;
        }
    }
}

/// Whether anybody wants the gradient of what an operation reads.
fn is_wanted(value: &Value, source: Source<'_>, results: &To<'_, '_, '_>) -> bool {
    value.layout != Layout::Source || results.dx.is_some() || matches!(source.map, Map::Tokens(..))
}

impl RnnOp {
    fn backward(
        &mut self,
        network: &Network,
        plan: &Plan,
        source: Source<'_>,
        values: &mut [Value],
        scratch: &mut Scratch,
        results: &mut To<'_, '_, '_>,
    ) {
        let work = &plan.work;
        let rnn = looked_at(rnn_of(&network.layers[self.layer], self.half));
        let (batch, units, total) = (work.batch, rnn.units(), work.total());
        let mut dz = taken(&mut values[self.output].gradient);
        let output = &mut values[self.output];
        let mut gated = self.gated.take();
        match &mut gated {
            None => self.through_time(rnn.function(), plan, output, &mut dz, &mut scratch.rows, results),
            Some(gated) => {
                self.gated_through_time(Of { rnn, plan }, gated, output, &mut dz, &mut scratch.rows, results);
            }
        }

        let output = &values[self.output];
        let stride = output.stride;
        let dz_rows = match &gated {
            None => Rows::Strided { values: &dz[batch * stride..], stride, count: total },
            Some(gated) => gated.of_input(rnn, 0, total),
        };
        let input = &values[self.input];
        self.mask_input(plan, source, input, &mut scratch.masked);
        // The states before each step, one slot up; where rows end early the slots differ in length.
        if !work.is_full() {
            scratch.previous.clear();
            for (step, &count) in work.counts.iter().enumerate() {
                let base = if step == 0 { 0 } else { batch + plan.bases[step - 1] };
                scratch.previous.extend((base..base + count).map(|n| n * stride));
            }
        }
        if self.drops[1] {
            let block = total * stride;
            for gate in 0..self.masks() {
                let h = plain_states(plan, output, &scratch.previous);
                let masked = &mut scratch.masked_states[gate * block..];
                let mask = &self.recurrent_mask[gate * batch * units..];
                mask_rows(work, self.layout(), h, mask, units, masked);
            }
        }

        if is_wanted(input, source, results) {
            let (features, in_stride) = (input.features, input.stride);
            let straight = matches!(input.layout, Layout::Compact { .. });
            let lead = input.lead(work);
            let mut to =
                if straight { taken(&mut values[self.input].gradient) } else { taken(&mut scratch.rows) };
            let lead = if straight { lead } else { 0 };
            if let Some(gated) = gated.as_ref().filter(|_| self.by_gate() && self.drops[0]) {
                let sizes = [features, in_stride];
                let (to, of_gate) = (&mut to[lead..], &mut scratch.of_gate[..]);
                self.input_back_by_gate(Of { rnn, plan }, gated, sizes, (to, of_gate), results);
            } else {
                multiply(dz_rows, results.kernel(), Init::Bias(&plan.zeros), &mut to[lead..], in_stride);
            }
            if self.drops[0] && !self.by_gate() {
                let mut n = lead;
                each_place(work, self.layout(), |place| {
                    let mask = &self.input_mask[place / work.steps * features..][..features];
                    to[n..].iter_mut().zip(mask).for_each(|(to, mask)| *to *= mask);
                    n += in_stride;
                });
            }
            if straight {
                values[self.input].gradient = to;
                values[self.input].filled = true;
            } else {
                let rows = Rows::Strided { values: &to, stride: in_stride, count: total };
                hand_down(plan, source, values, self.input, self.layout(), rows, results);
                scratch.rows = to;
            }
        }
        values[self.output].gradient = dz;
        self.gated = gated;
    }

    /// The states before each step, times the recurrent mask of gate `gate`; after [`backward`](Self::backward).
    pub(super) fn states_before<'a>(
        &self,
        plan: &Plan,
        output: &'a Value,
        scratch: &'a Scratch,
        gate: usize,
    ) -> Rows<'a> {
        if !self.drops[1] {
            return plain_states(plan, output, &scratch.previous);
        }
        let (stride, count) = (row_stride(output.features), plan.work.total());
        let block = if self.by_gate() { gate * count * stride } else { 0 };
        Rows::Strided { values: &scratch.masked_states[block..], stride, count }
    }

    /// The gradients of the last states, where the loss depends on them, beside those that came from above; and room for the
    /// squares.
    pub(super) fn take_ends(&mut self, plan: &Plan, value: &mut Value, results: &To<'_, '_, '_>) {
        let work = &plan.work;
        let (base, units, stride) = (self.state_base, value.features, value.stride);
        let final_state = results.final_state;
        if final_state.states.is_some() {
            for (rank, &row) in work.order.iter().enumerate() {
                let to = &mut value.ends[rank * stride..][..stride];
                let Some(from) = final_state.of(base, results.first + row, units) else { continue };
                if value.has_ends { add_row(to, from) } else { put_row(to, from) }
            }
            value.has_ends = true;
        }
        self.squares.clear();
        self.squares.resize(2 * work.steps * work.batch, 0.0);
    }

    /// Turns `dLoss/dh` into `dLoss/dz`, step by step from the last.
    fn through_time(
        &mut self,
        function: Function,
        plan: &Plan,
        value: &mut Value,
        dz: &mut [f32],
        scratch: &mut AlignedVec,
        results: &mut To<'_, '_, '_>,
    ) {
        let Plan { work, bases, .. } = plan;
        let (batch, units, stride) = (work.batch, value.features, value.stride);
        self.take_ends(plan, value, results);
        for (step, &count) in work.counts.iter().enumerate().rev() {
            let next = work.counts.get(step + 1).copied().unwrap_or(0);
            let here = (batch + bases[step]) * stride;
            let (before, after) = dz.split_at_mut(here + count * stride);
            let dh = &mut before[here..];
            self.one_step_back(plan, results.recurrent(), after, next, dh, stride, value.filled, scratch);
            value.add_ends(dh, next..count);
            let h = &value.rows[here..];
            if work.is_full() {
                let squares = &mut self.squares[2 * work.time(0, step, self.reversed) * batch..];
                through(plan, function, dh, h, [count, units, stride], Some(squares));
            } else {
                for rank in 0..count {
                    let place = work.time(rank, step, self.reversed) * batch + work.order[rank];
                    let squares = &mut self.squares[2 * place..];
                    let at = rank * stride;
                    through(plan, function, &mut dh[at..], &h[at..], [1, units, stride], Some(squares));
                }
            }
        }
        // The states before the first step.
        let first = work.counts.first().copied().unwrap_or(0);
        let (dh, after) = dz.split_at_mut(batch * stride);
        self.one_step_back(plan, results.recurrent(), after, first, dh, stride, false, scratch);
        self.put_initial(plan, results, dh, 0, [units, stride]);
    }

    /// `dh = dz·Uᵀ` (times the recurrent mask) for `rows` rows, added to what is there where `onto`.
    #[expect(clippy::too_many_arguments, reason = "the inner loop's variables")]
    fn one_step_back(
        &self,
        plan: &Plan,
        recurrent_back: &PackedMatrix,
        dz: &[f32],
        rows: usize,
        dh: &mut [f32],
        stride: usize,
        onto: bool,
        scratch: &mut AlignedVec,
    ) {
        let zeros = Init::Bias(&plan.zeros);
        let from = Rows::Strided { values: dz, stride, count: rows };
        if !self.drops[1] {
            let init = if onto { Init::Output } else { zeros };
            multiply(from, recurrent_back, init, dh, stride);
            return;
        }
        multiply(from, recurrent_back, zeros, scratch, stride);
        let units = recurrent_back.columns();
        for rank in 0..rows {
            let mask = &self.recurrent_mask[plan.work.order[rank] * units..][..units];
            let at = rank * stride;
            for ((to, from), mask) in dh[at..].iter_mut().zip(&scratch[at..]).zip(mask) {
                *to = if onto { *to } else { 0.0 } + from * mask;
            }
        }
    }
}

impl DenseOp {
    fn backward(
        &mut self,
        network: &Network,
        plan: &Plan,
        source: Source<'_>,
        values: &mut [Value],
        scratch: &mut Scratch,
        results: &mut To<'_, '_, '_>,
    ) {
        let (config, dense) = looked_at(dense_of(&network.layers[self.layer]));
        let output = &mut values[self.output];
        let (columns, stride, layout) = (output.features, output.stride, output.layout);
        let count = output.count(&plan.work);
        let mut dz = taken(&mut output.gradient);
        if !(self.last && plan.mode.logits) {
            match dense.function {
                Some(function) => {
                    through(plan, function, &mut dz, &output.rows, [count, columns, stride], None);
                }
                None => {
                    debug_assert_eq!(config.activation, Activation::Softmax);
                    let rows = output.rows.chunks_exact(stride);
                    for (dz, y) in dz.chunks_exact_mut(stride).zip(rows).take(count) {
                        let (dz, y) = (&mut dz[..columns], &y[..columns]);
                        let mean: f32 = dz.iter().zip(y).map(|(dz, y)| dz * y).sum();
                        dz.iter_mut().zip(y).for_each(|(dz, y)| *dz = y * (*dz - mean));
                    }
                }
            }
        }
        let dz_rows = Rows::Strided { values: &dz, stride, count };
        let input = &values[self.input];
        if is_wanted(input, source, results) {
            let in_stride = input.stride;
            let mut to = taken(&mut scratch.rows);
            multiply(dz_rows, results.kernel(), Init::Bias(&plan.zeros), &mut to, in_stride);
            let rows = Rows::Strided { values: &to, stride: in_stride, count };
            hand_down(plan, source, values, self.input, layout, rows, results);
            scratch.rows = to;
        }
        values[self.output].gradient = dz;
    }
}

/// The states before each step: those of a slot are the rows of the slot before it.
fn plain_states<'a>(plan: &Plan, output: &'a Value, previous: &'a [usize]) -> Rows<'a> {
    if plan.work.is_full() {
        Rows::Strided { values: &output.rows, stride: output.stride, count: plan.work.total() }
    } else {
        Rows::Scattered { values: &output.rows, offsets: previous }
    }
}

/// The way back of `expand`: a compact step's gradient is that of its position, and of those that repeat it.
fn gather_expanded(
    work: &super::StepSchedule,
    values: &mut [Value],
    [input, output]: [usize; 2],
    reversed: bool,
    zero_output: bool,
) {
    let from = taken(&mut values[output].gradient);
    let to = &mut values[input];
    let stride = to.stride;
    let is_padded_between = work.is_padded_between(zero_output);
    let mut n = to.lead(work);
    for (step, &count) in work.counts.iter().enumerate() {
        for rank in 0..count {
            let (position, next) = work.output_positions(rank, step, reversed);
            let at = (work.order[rank] * work.steps + position) * stride;
            let to = &mut to.gradient[n..][..stride];
            to.copy_from_slice(&from[at..][..stride]);
            if !is_padded_between {
                let others = &from[at + stride..][..(next - position - 1) * stride];
                others.chunks_exact(stride).for_each(|other| add_row(to, other));
            }
            n += stride;
        }
    }
    to.filled = true;
    values[output].gradient = from;
}

/// The way back of a merge.
fn part(
    work: &super::StepSchedule,
    mode: MergeMode,
    values: &mut [Value],
    halves: [usize; 2],
    output: usize,
) {
    let from = taken(&mut values[output].gradient);
    let stride = values[output].stride;
    let mut gradients = halves.map(|half| taken(&mut values[half].gradient));
    let [forward, backward] = halves.map(|half| &values[half]);
    let (units, half_stride) = (forward.features, forward.stride);
    let all = forward.count(work);
    each_pair(work, forward.layout, |n, [first, second]| {
        let row = &from[n * stride..][..stride];
        let [first_gradient, second_gradient] = &mut gradients;
        let to_first = &mut first_gradient[first * half_stride..][..half_stride];
        let to_second = &mut second_gradient[second * half_stride..][..half_stride];
        match mode {
            MergeMode::Concat => {
                put_row(to_first, &row[..units]);
                put_row(to_second, &row[units..2 * units]);
            }
            MergeMode::None => {
                put_row(to_first, &row[..units]);
                put_row(to_second, &from[(all + n) * stride..][..units]);
            }
            MergeMode::Sum | MergeMode::Ave | MergeMode::Mul => {
                put_row(to_first, &row[..units]);
                put_row(to_second, &row[..units]);
                if mode == MergeMode::Ave {
                    to_first.iter_mut().chain(to_second).for_each(|value| *value /= 2.0);
                } else if mode == MergeMode::Mul {
                    let (a, b) =
                        (&forward.rows[first * half_stride..], &backward.rows[second * half_stride..]);
                    to_first[..units].iter_mut().zip(b).for_each(|(to, other)| *to *= other);
                    to_second[..units].iter_mut().zip(a).for_each(|(to, other)| *to *= other);
                }
            }
        }
    });
    for (half, gradient) in halves.into_iter().zip(gradients) {
        values[half].gradient = gradient;
        values[half].filled = true;
    }
    values[output].gradient = from;
}
