//! States on their way between the caller's arrays, `[batch, units]` in the order of the batch, and the rows
//! of ranks.

use super::input::Padding;
use super::schedule::StepSchedule;

/// Copies a row and clears what lies behind it, so that no leftover reaches a sum over whole vectors.
pub(super) fn put_row(to: &mut [f32], from: &[f32]) {
    let (row, rest) = to.split_at_mut(from.len());
    row.copy_from_slice(from);
    rest.fill(0.0);
}

/// Puts the states before the first step to their ranks' rows, `stride` floats apart: those `given`, an array
/// of the whole batch, of which row `first` is the first of `schedule`; or zeros.
pub(super) fn put_initial(
    schedule: &StepSchedule,
    given: Option<(&[f32], usize)>,
    units: usize,
    to: &mut [f32],
    stride: usize,
) {
    let Some((given, first)) = given else {
        to[..schedule.batch * stride].fill(0.0);
        return;
    };
    for (to, &row) in to.chunks_exact_mut(stride).zip(schedule.order.iter()) {
        put_row(to, &given[(first + row) * units..][..units]);
    }
}

/// Copies the last state of each rank, which `of` gives, to its place in an array of the caller's, from the
/// first row of `schedule` on. In ONNX a row without steps has no final state: zeros.
pub(super) fn put_last<'a>(
    schedule: &StepSchedule,
    units: usize,
    to: &mut [f32],
    of: impl Fn(usize) -> &'a [f32],
) {
    for (rank, &row) in schedule.order.iter().enumerate() {
        let to = &mut to[row * units..][..units];
        if schedule.lengths[rank] == 0 && schedule.padding == Padding::Onnx {
            to.fill(0.0);
        } else {
            to.copy_from_slice(&of(rank)[..units]);
        }
    }
}
