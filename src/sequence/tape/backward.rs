//! Backward: from the gradient of the output to those of the weights, the input and the initial states.

use super::super::network::Network;
use super::super::pipeline::{Map, Source};
use super::dropout::{Kind, Masks};
use super::forward::{each_pair, mask_rows};
use super::steps::{each_place, ordered};
use super::{
    DenseOp, Layout, Op, Place, Plan, RnnOp, Scratch, Tape, Value, add_row, dense_of, of_half, put_row,
    rnn_of, taken,
};
use crate::dispatch::{Function, SQUARE_LANES};
use crate::error::Result;
use crate::gemm::{Copies, Init, Rows, Terms, multiply, multiply_over_rows};
use crate::layers::{Activation, MergeMode, Weight};
use crate::memory::{AlignedVec, row_stride};

/// What an operation's backward writes beside values' gradients.
struct Results<'a, 'b> {
    gradients: &'a mut [f32],
    places: &'a [Place],
    initial: &'a mut [f32],
    touched: &'a mut Vec<u32>,
    dx: Option<&'b mut [f32]>,
    /// `[batch, units]` by direction: the gradient of the final states.
    final_state: Option<&'a [f32]>,
}

impl Results<'_, '_> {
    fn of(&mut self, layer: usize, which: Weight) -> Option<&mut [f32]> {
        let place = self.places.iter().find(|place| place.layer == layer && place.which == which)?;
        Some(&mut self.gradients[place.offset..][..place.shape[0] * place.shape[1]])
    }
}

impl Tape {
    /// The way back of the last forward pass, through the same `network`. `dy` is the gradient of the output,
    /// `final_state` that of the final states, where the loss depends on them; `dx` receives the input's. Gradients are
    /// overwritten.
    pub(crate) fn backward(
        &mut self,
        network: &Network,
        dy: &[f32],
        final_state: Option<&[f32]>,
        dx: Option<&mut [f32]>,
    ) -> Result<()> {
        let [batch, steps] = self.sizes()?;
        let mut dx = dx;
        self.backward_done = false;
        for value in &mut self.values {
            (value.filled, value.has_ends) = (false, false);
        }
        let states = batch * self.state_width;
        if self.initial.len() < states {
            self.initial.resize(states, 0.0);
        }
        if let Some(dx) = &mut dx {
            dx.fill(0.0);
        }
        let Self { ops, values, plan, kept, scratch, places, gradients, touched, initial, .. } = self;
        if let (Some((embedding, _)), Some(place)) = (network.embedding(), places.first()) {
            for &row in touched.iter() {
                gradients[place.offset + row as usize * embedding.size..][..embedding.size].fill(0.0);
            }
            touched.clear();
        }
        if let Some(last) = values.last_mut() {
            let (columns, stride) = (last.features, last.stride);
            for (to, from) in last.gradient.chunks_exact_mut(stride).zip(dy.chunks_exact(columns)) {
                put_row(to, from);
            }
            last.filled = true;
        }
        let source = kept.source(network, steps)?;
        let mut results =
            Results { gradients, places, initial: &mut initial[..states], touched, dx, final_state };
        for op in ops.iter_mut().rev() {
            match op {
                Op::Rnn(op) => op.backward(network, plan, source, values, scratch, &mut results)?,
                Op::Dense(op) => op.backward(network, plan, source, values, scratch, &mut results)?,
                Op::Expand { input, output, reversed, zero_output } => {
                    gather_expanded(&plan.work, values, [*input, *output], *reversed, *zero_output);
                }
                Op::Last { input, output, reversed, zero_output } => {
                    let gradient = taken(&mut values[*output].gradient);
                    let to = &mut values[*input];
                    to.has_ends = true;
                    for (rank, &row) in plan.work.order.iter().enumerate() {
                        let at = rank * to.stride;
                        if plan.work.ends_blank(rank, *reversed, *zero_output) {
                            to.ends[at..][..to.stride].fill(0.0);
                        } else {
                            to.ends[at..][..to.stride]
                                .copy_from_slice(&gradient[row * to.stride..][..to.stride]);
                        }
                    }
                    values[*output].gradient = gradient;
                }
                Op::Merge { mode, inputs, output } => part(&plan.work, *mode, values, *inputs, *output),
                Op::Dropout { layer, rate, input, output } => {
                    // In place: the masked gradients replace those that came in.
                    if plan.mode.training {
                        let value = &mut values[*output];
                        let mut masks = Masks::new(plan.mode.seed, *layer, Kind::Layer, 0, *rate);
                        let mut mask = taken(&mut scratch.rows);
                        mask.reserve_scratch(value.stride)?;
                        let mut n = 0;
                        each_place(&plan.work, value.layout, |place| {
                            masks.fill(place * value.features, &mut mask[..value.features]);
                            let row = &mut value.gradient[n * value.stride..][..value.features];
                            row.iter_mut().zip(&mask[..]).for_each(|(to, mask)| *to *= mask);
                            n += 1;
                        });
                        scratch.rows = mask;
                    }
                    let from = taken(&mut values[*output].gradient);
                    let (layout, stride) = (values[*output].layout, values[*output].stride);
                    let count = values[*output].count(&plan.work);
                    let rows = Rows::Strided { values: &from, stride, count };
                    hand_down(plan, source, values, *input, layout, rows, &mut results);
                    values[*output].gradient = from;
                }
            }
        }
        self.backward_done = true;
        Ok(())
    }
}

/// Passes gradients of a function's results, `count` rows, back through it.
fn through(
    plan: &Plan,
    function: Function,
    gradient: &mut [f32],
    h: &[f32],
    [count, columns, stride]: [usize; 3],
    squares: &mut [f32],
) {
    let padded = columns.next_multiple_of(SQUARE_LANES);
    let end = count.saturating_sub(1) * stride + padded;
    assert!(count == 0 || (padded <= stride && end <= gradient.len() && end <= h.len()), "rows too short");
    assert!(squares.len() >= 2 * SQUARE_LANES, "no room for the squares");
    // SAFETY: the asserts; the three are borrowed apart; the kernels are this process's.
    unsafe {
        (plan.kernels.through)(
            function,
            gradient.as_mut_ptr(),
            h.as_ptr(),
            count,
            columns,
            stride,
            squares.as_mut_ptr(),
        );
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
    results: &mut Results<'_, '_>,
) {
    let work = &plan.work;
    let value = &mut values[input];
    let features = value.features;
    match value.layout {
        Layout::Source => match source.map {
            Map::Tokens(ids, size) => {
                let (touched, places) = (&mut *results.touched, results.places);
                let Some(place) = places.first() else { return };
                let table = &mut results.gradients[place.offset..];
                let mut add = |n: usize, id: usize| {
                    touched.push(id as u32);
                    add_row(&mut table[id * size..][..size], &rows.row(n)[..size]);
                };
                let mut read: Vec<usize> = Vec::with_capacity(work.total());
                each_place(work, layout, |place| read.push(ids[place] as usize));
                match plan.order(layout) {
                    Some(order) => order.iter().for_each(|&n| add(n, read[n])),
                    None => read.iter().enumerate().for_each(|(n, &id)| add(n, id)),
                }
                touched.sort_unstable();
                touched.dedup();
            }
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
        _ => {
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
fn is_wanted(value: &Value, source: Source<'_>, results: &Results<'_, '_>) -> bool {
    value.layout != Layout::Source || results.dx.is_some() || matches!(source.map, Map::Tokens(..))
}

/// The gradient of a weight into its place: `aᵀ·b` for rows in the caller's order.
fn weight_gradient(
    plan: &Plan,
    order: Option<&[usize]>,
    (a, features): (Rows<'_>, usize),
    (b, columns): (Rows<'_>, usize),
    (product, copies): (&mut AlignedVec, &mut Copies),
    places: [&mut Vec<usize>; 2],
    to: Option<&mut [f32]>,
) -> Result<()> {
    let Some(to) = to else { return Ok(()) };
    let [places_a, places_b] = places;
    let stride = row_stride(columns);
    product.reserve_scratch(features * stride)?;
    let (a, b) = (ordered(a, order, places_a), ordered(b, order, places_b));
    let (a, b) = (Terms::Rows(a), Terms::Rows(b));
    multiply_over_rows(plan.kernels, (a, 0..features), (b, columns), product, stride, copies)?;
    for (to, from) in to.chunks_exact_mut(columns).zip(product.chunks_exact(stride)) {
        to.copy_from_slice(&from[..columns]);
    }
    Ok(())
}

/// The gradient of a bias: column sums in the caller's order.
fn bias_gradient(order: Option<&[usize]>, rows: Rows<'_>, count: usize, to: Option<&mut [f32]>) {
    let Some(to) = to else { return };
    to.fill(0.0);
    match order {
        Some(order) => order.iter().for_each(|&n| add_row(to, rows.row(n))),
        None => (0..count).for_each(|n| add_row(to, rows.row(n))),
    }
}

impl RnnOp {
    fn backward(
        &mut self,
        network: &Network,
        plan: &Plan,
        source: Source<'_>,
        values: &mut [Value],
        scratch: &mut Scratch,
        results: &mut Results<'_, '_>,
    ) -> Result<()> {
        let work = &plan.work;
        let rnn = rnn_of(&network.layers[self.layer], self.half)?;
        let (batch, units) = (work.batch, rnn.units());
        let mut dz = taken(&mut values[self.output].gradient);
        self.through_time(rnn.function, plan, &mut values[self.output], &mut dz, scratch, results)?;

        let total = work.total();
        let output = &values[self.output];
        let stride = output.stride;
        let dz_rows = Rows::Strided { values: &dz[batch * stride..], stride, count: total };
        let order = plan.order(self.layout());
        let input = &values[self.input];
        let Scratch { masked, rows: handed, product, copies, previous, places_a, places_b } = scratch;
        {
            let x = self.input_rows(plan, source, input, masked)?;
            let to = results.of(self.layer, of_half(Weight::Kernel, self.half));
            let (x, b) = ((x, input.features), (dz_rows, units));
            weight_gradient(plan, order, x, b, (product, copies), [places_a, places_b], to)?;
        }
        {
            // The states before each step, one slot up; where rows end early the slots differ in length.
            let mut h = Rows::Strided { values: &output.rows, stride, count: total };
            if !work.is_full() {
                previous.clear();
                for (step, &count) in work.counts.iter().enumerate() {
                    let base = if step == 0 { 0 } else { batch + plan.bases[step - 1] };
                    previous.extend((base..base + count).map(|n| n * stride));
                }
                h = Rows::Scattered { values: &output.rows, offsets: previous };
            }
            if !self.recurrent_mask.is_empty() {
                mask_rows(work, self.layout(), h, &self.recurrent_mask, units, masked)?;
                h = Rows::Strided { values: masked, stride, count: total };
            }
            let to = results.of(self.layer, of_half(Weight::RecurrentKernel, self.half));
            let (h, b) = ((h, units), (dz_rows, units));
            weight_gradient(plan, order, h, b, (product, copies), [places_a, places_b], to)?;
        }
        bias_gradient(order, dz_rows, total, results.of(self.layer, of_half(Weight::Bias, self.half)));

        if is_wanted(input, source, results) {
            let (features, in_stride) = (input.features, input.stride);
            let straight = matches!(input.layout, Layout::Compact { .. });
            let lead = input.lead(work);
            let mut to = if straight { taken(&mut values[self.input].gradient) } else { taken(handed) };
            let lead = if straight { lead } else { 0 };
            to.reserve_scratch(lead + total * in_stride)?;
            multiply(dz_rows, &self.kernel_back, Init::Bias(&plan.zeros), &mut to[lead..], in_stride);
            if !self.input_mask.is_empty() {
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
                *handed = to;
            }
        }
        values[self.output].gradient = dz;
        Ok(())
    }

    /// Turns `dLoss/dh` into `dLoss/dz`, step by step from the last.
    fn through_time(
        &mut self,
        function: Function,
        plan: &Plan,
        value: &mut Value,
        dz: &mut [f32],
        scratch: &mut Scratch,
        results: &mut Results<'_, '_>,
    ) -> Result<()> {
        let Plan { work, bases, .. } = plan;
        let (batch, units, stride) = (work.batch, value.features, value.stride);
        if let Some(given) = results.final_state {
            let given = &given[batch * self.state_base..][..batch * units];
            for (rank, &row) in work.order.iter().enumerate() {
                let to = &mut value.ends[rank * stride..][..stride];
                let from = &given[row * units..][..units];
                if value.has_ends { add_row(to, from) } else { put_row(to, from) }
            }
            value.has_ends = true;
        }
        self.squares.clear();
        self.squares.resize(work.steps * 2 * SQUARE_LANES, 0.0);
        scratch.rows.reserve_scratch(batch * stride)?;
        for (step, &count) in work.counts.iter().enumerate().rev() {
            let next = work.counts.get(step + 1).copied().unwrap_or(0);
            let here = (batch + bases[step]) * stride;
            let (before, after) = dz.split_at_mut(here + count * stride);
            let dh = &mut before[here..];
            self.one_step_back(plan, after, next, dh, stride, value.filled, &mut scratch.rows);
            for rank in next..count {
                let to = &mut dh[rank * stride..][..stride];
                let end = &value.ends[rank * stride..][..stride];
                match (value.filled, value.has_ends) {
                    (true, true) => add_row(to, end),
                    (true, false) => {}
                    (false, true) => to.copy_from_slice(end),
                    (false, false) => to.fill(0.0),
                }
            }
            let h = &value.rows[here..];
            if work.is_full() {
                let squares = &mut self.squares[work.time(0, step, self.reversed) * 2 * SQUARE_LANES..];
                through(plan, function, dh, h, [count, units, stride], squares);
            } else {
                for rank in 0..count {
                    let squares =
                        &mut self.squares[work.time(rank, step, self.reversed) * 2 * SQUARE_LANES..];
                    let at = rank * stride;
                    through(plan, function, &mut dh[at..], &h[at..], [1, units, stride], squares);
                }
            }
        }
        // The states before the first step.
        let first = work.counts.first().copied().unwrap_or(0);
        let (dh, after) = dz.split_at_mut(batch * stride);
        self.one_step_back(plan, after, first, dh, stride, false, &mut scratch.rows);
        for (rank, &row) in work.order.iter().enumerate() {
            let to = &mut results.initial[batch * self.state_base + row * units..][..units];
            if rank < first {
                to.copy_from_slice(&dh[rank * stride..][..units]);
            } else if results.final_state.is_some() {
                // A row without a step hands its state through; what its output is does not depend on it.
                let given = results.final_state.unwrap_or_default();
                to.copy_from_slice(&given[batch * self.state_base + row * units..][..units]);
            } else {
                to.fill(0.0);
            }
        }
        Ok(())
    }

    /// `dh = dz·Uᵀ` (times the recurrent mask) for `rows` rows, added to what is there where `onto`.
    #[expect(clippy::too_many_arguments, reason = "the inner loop's variables")]
    fn one_step_back(
        &self,
        plan: &Plan,
        dz: &[f32],
        rows: usize,
        dh: &mut [f32],
        stride: usize,
        onto: bool,
        scratch: &mut AlignedVec,
    ) {
        let zeros = Init::Bias(&plan.zeros);
        let from = Rows::Strided { values: dz, stride, count: rows };
        if self.recurrent_mask.is_empty() {
            let init = if onto { Init::Output } else { zeros };
            multiply(from, &self.recurrent_back, init, dh, stride);
            return;
        }
        multiply(from, &self.recurrent_back, zeros, scratch, stride);
        let units = self.recurrent_back.columns();
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
        results: &mut Results<'_, '_>,
    ) -> Result<()> {
        let (config, dense) = dense_of(&network.layers[self.layer])?;
        let output = &mut values[self.output];
        let (columns, stride, layout) = (output.features, output.stride, output.layout);
        let count = output.count(&plan.work);
        let mut dz = taken(&mut output.gradient);
        if !(self.last && plan.mode.logits) {
            match dense.function {
                Some(function) => {
                    let mut squares = [0.0; 2 * SQUARE_LANES];
                    through(plan, function, &mut dz, &output.rows, [count, columns, stride], &mut squares);
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
        let order = plan.order(layout);
        let input = &values[self.input];
        let Scratch { rows: handed, product, copies, places_a, places_b, .. } = scratch;
        let x = self.input_rows(plan, source, input);
        let to = results.of(self.layer, Weight::Kernel);
        let (x, b) = ((x, input.features), (dz_rows, columns));
        weight_gradient(plan, order, x, b, (product, copies), [places_a, places_b], to)?;
        bias_gradient(order, dz_rows, count, results.of(self.layer, Weight::Bias));
        if is_wanted(input, source, results) {
            let in_stride = input.stride;
            let mut to = taken(handed);
            to.reserve_scratch(count * in_stride)?;
            multiply(dz_rows, &self.kernel_back, Init::Bias(&plan.zeros), &mut to, in_stride);
            let rows = Rows::Strided { values: &to, stride: in_stride, count };
            hand_down(plan, source, values, self.input, layout, rows, results);
            *handed = to;
        }
        values[self.output].gradient = dz;
        Ok(())
    }
}

/// The way back of `expand`: a compact step's gradient is that of its position, and of those that repeat it.
fn gather_expanded(
    work: &super::Work,
    values: &mut [Value],
    [input, output]: [usize; 2],
    reversed: bool,
    zero_output: bool,
) {
    let from = taken(&mut values[output].gradient);
    let to = &mut values[input];
    let stride = to.stride;
    let blank_between = work.blank_between(zero_output);
    let mut n = to.lead(work);
    for (step, &count) in work.counts.iter().enumerate() {
        for rank in 0..count {
            let (position, next) = work.span(rank, step, reversed);
            let at = (work.order[rank] * work.steps + position) * stride;
            let to = &mut to.gradient[n..][..stride];
            to.copy_from_slice(&from[at..][..stride]);
            if !blank_between {
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
fn part(work: &super::Work, mode: MergeMode, values: &mut [Value], halves: [usize; 2], output: usize) {
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
