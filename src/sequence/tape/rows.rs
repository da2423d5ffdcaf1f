//! Operations that move rows and compute nothing of them: each beside its backward counterpart.
//!
//! Forwards they copy rows from a value to the next one. Backwards they give the rows of the first value's
//! gradient what stands in the second's: a row that was copied several times gets a sum.

use super::super::merge::{self, Merged};
use super::super::output::Scatter;
use super::super::pipeline::Chunk;
use super::super::schedule::{Direction, StepSchedule};
use super::{Layout, Plan, Value, add_row, put_row, taken};
use crate::gemm::Rows;
use crate::layers::MergeMode;

/// Compact steps to positions.
pub(super) fn expand(plan: &Plan, values: &mut [Value], [input, output]: [usize; 2], direction: Direction) {
    let schedule = &plan.schedule;
    let mut to = taken(&mut values[output].rows);
    let from = &values[input];
    // Whole strides, so that what lies behind a row comes along.
    let columns = from.stride;
    let mut scatter = Scatter { schedule, direction, to: &mut to, columns, padding: &plan.zeros };
    scatter.lead();
    let rows =
        Rows::Strided { values: &from.rows[from.lead(schedule)..], stride: columns, count: schedule.total() };
    scatter.take(Chunk { first: 0, counts: &schedule.counts, rows });
    values[output].rows = to;
}

/// [`expand`] backwards: a compact step's gradient is that of its position, and of those that repeat it.
pub(super) fn expand_backward(
    schedule: &StepSchedule,
    values: &mut [Value],
    [input, output]: [usize; 2],
    direction: Direction,
) {
    let from = taken(&mut values[output].gradient);
    let to = &mut values[input];
    let (stride, lead) = (to.stride, to.lead(schedule));
    let pads = schedule.pads_between(direction);
    schedule.each_output(direction, (0, &schedule.counts), |index, positions| {
        let to = &mut to.gradient[lead + index * stride..][..stride];
        let mut from = from[positions.start * stride..positions.end * stride].chunks_exact(stride);
        if let Some(own) = from.next() {
            to.copy_from_slice(own);
        }
        if !pads {
            from.for_each(|repeated| add_row(to, repeated));
        }
    });
    to.filled = true;
    values[output].gradient = from;
}

/// Compact steps to the last one of each row.
pub(super) fn last_states(
    plan: &Plan,
    values: &mut [Value],
    [input, output]: [usize; 2],
    direction: Direction,
) {
    let mut to = taken(&mut values[output].rows);
    let (from, stride) = (&values[input], values[input].stride);
    let lead = from.lead(&plan.schedule);
    plan.schedule.each_last(direction, |row, rank| {
        let last = rank.and_then(|rank| plan.last_row(rank));
        let last = last.map_or(&plan.zeros[..stride], |last| &from.rows[lead + last * stride..][..stride]);
        to[row * stride..][..stride].copy_from_slice(last);
    });
    values[output].rows = to;
}

/// [`last_states`] backwards: the gradients go to the ends of their ranks.
pub(super) fn last_states_backward(
    schedule: &StepSchedule,
    values: &mut [Value],
    [input, output]: [usize; 2],
    direction: Direction,
) {
    let gradient = taken(&mut values[output].gradient);
    let to = &mut values[input];
    to.has_ends = true;
    let stride = to.stride;
    let mut ends = to.ends.chunks_exact_mut(stride);
    schedule.each_last(direction, |row, rank| {
        let Some(end) = ends.next() else { return };
        match rank {
            Some(_) => end.copy_from_slice(&gradient[row * stride..][..stride]),
            None => end.fill(0.0),
        }
    });
    values[output].gradient = gradient;
}

/// Positions to the last one of each row.
pub(super) fn last_positions(schedule: &StepSchedule, values: &mut [Value], [input, output]: [usize; 2]) {
    let mut to = taken(&mut values[output].rows);
    let (from, stride) = (&values[input], values[input].stride);
    for (row, to) in to.chunks_exact_mut(stride).take(schedule.batch).enumerate() {
        to.copy_from_slice(&from.rows[schedule.last_place(row) * stride..][..stride]);
    }
    values[output].rows = to;
}

/// [`last_positions`] backwards: all positions but the last have no part in the loss.
pub(super) fn last_positions_backward(
    schedule: &StepSchedule,
    values: &mut [Value],
    [input, output]: [usize; 2],
) {
    let gradient = taken(&mut values[output].gradient);
    let to = &mut values[input];
    let stride = to.stride;
    to.gradient[..schedule.batch * schedule.steps * stride].fill(0.0);
    for (row, from) in gradient.chunks_exact(stride).take(schedule.batch).enumerate() {
        to.gradient[schedule.last_place(row) * stride..][..stride].copy_from_slice(from);
    }
    to.filled = true;
    values[output].gradient = gradient;
}

/// For each row of a merged value: its number, and its two halves' numbers.
fn each_pair(schedule: &StepSchedule, layout: Layout, mut visit: impl FnMut(usize, [usize; 2])) {
    if layout == Layout::Last {
        (0..schedule.batch).for_each(|row| visit(row, [row, row]));
        return;
    }
    merge::each_pair(schedule, visit);
}

/// Joins the two directions of a Bidirectional layer.
pub(super) fn merge(
    schedule: &StepSchedule,
    mode: MergeMode,
    values: &mut [Value],
    halves: [usize; 2],
    output: usize,
) {
    let mut to = taken(&mut values[output].rows);
    let stride = values[output].stride;
    let [forward, backward] = halves.map(|half| &values[half]);
    let (units, half_stride) = (forward.features, forward.stride);
    let mut merged = Merged { mode, to: &mut to, stride, count: forward.count(schedule) };
    each_pair(schedule, forward.layout, |n, [first, second]| {
        let first = &forward.rows[first * half_stride..][..units];
        let second = &backward.rows[second * half_stride..][..units];
        merged.put(n, first, second);
    });
    values[output].rows = to;
}

/// [`merge`] backwards: each direction gets the gradient of its own rows.
pub(super) fn merge_backward(
    schedule: &StepSchedule,
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
    let all = forward.count(schedule);
    each_pair(schedule, forward.layout, |n, [first, second]| {
        let row = &from[n * stride..][..stride];
        let of_second = match mode {
            MergeMode::Concat => &row[units..2 * units],
            MergeMode::None => &from[(all + n) * stride..][..units],
            MergeMode::Sum | MergeMode::Ave | MergeMode::Mul => &row[..units],
        };
        let [to_first, to_second] = &mut gradients;
        let to_first = &mut to_first[first * half_stride..][..half_stride];
        let to_second = &mut to_second[second * half_stride..][..half_stride];
        put_row(to_first, &row[..units]);
        put_row(to_second, of_second);
        match mode {
            MergeMode::Concat | MergeMode::None | MergeMode::Sum => {}
            MergeMode::Ave => to_first.iter_mut().chain(to_second).for_each(|value| *value /= 2.0),
            MergeMode::Mul => {
                multiply_row(&mut to_first[..units], &backward.rows[second * half_stride..]);
                multiply_row(&mut to_second[..units], &forward.rows[first * half_stride..]);
            }
        }
    });
    for (half, gradient) in halves.into_iter().zip(gradients) {
        values[half].gradient = gradient;
        values[half].filled = true;
    }
    values[output].gradient = from;
}

fn multiply_row(to: &mut [f32], by: &[f32]) {
    to.iter_mut().zip(by).for_each(|(to, by)| *to *= by);
}
