//! The two directions of a Bidirectional layer become one sequence.
//!
//! Each direction gives its outputs in the order in which it walks. So those of the backward one are turned
//! here, position by position, and then joined with those of the forward one as the layer's merge mode says.

use super::schedule::StepSchedule;
use crate::layers::MergeMode;

/// Where merged rows go: `stride` floats apart; the rows of directions that are not merged, `count` each,
/// stand one array behind the other.
pub(super) struct Merged<'a> {
    pub(super) mode: MergeMode,
    pub(super) to: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) count: usize,
}

impl Merged<'_> {
    /// Joins the n-th row of both directions.
    pub(super) fn put(&mut self, n: usize, forward: &[f32], backward: &[f32]) {
        let Self { mode, ref mut to, stride, count } = *self;
        let units = forward.len();
        match mode {
            MergeMode::None => {
                to[n * stride..][..units].copy_from_slice(forward);
                to[(count + n) * stride..][..units].copy_from_slice(backward);
            }
            MergeMode::Concat => {
                let (first, second) = to[n * stride..][..2 * units].split_at_mut(units);
                first.copy_from_slice(forward);
                second.copy_from_slice(backward);
            }
            MergeMode::Sum => each(&mut to[n * stride..][..units], forward, backward, |a, b| a + b),
            MergeMode::Mul => each(&mut to[n * stride..][..units], forward, backward, |a, b| a * b),
            MergeMode::Ave => each(&mut to[n * stride..][..units], forward, backward, |a, b| (a + b) / 2.0),
        }
    }
}

fn each(to: &mut [f32], forward: &[f32], backward: &[f32], join: impl Fn(f32, f32) -> f32) {
    for ((to, &a), &b) in to.iter_mut().zip(forward).zip(backward) {
        *to = join(a, b);
    }
}

/// Calls `visit` for each position `row · steps + time` of a merged sequence, with those that its two rows
/// have in their own directions' order.
pub(super) fn each_pair(schedule: &StepSchedule, mut visit: impl FnMut(usize, [usize; 2])) {
    for (row, &end) in schedule.ends.iter().enumerate() {
        for time in 0..schedule.steps {
            let turned = if time < end { end - 1 - time } else { time };
            visit(row * schedule.steps + time, [row * schedule.steps + time, row * schedule.steps + turned]);
        }
    }
}
