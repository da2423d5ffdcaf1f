//! Positions: which row and time a value's rows belong to, and the caller's order of them.

use super::super::pipeline::Source;
use super::super::schedule::{Bounds, StepSchedule};
use super::{Layout, Plan, Value};
use crate::error::Result;
use crate::gemm::Rows;
use crate::memory::List;

/// Calls `visit` for each row of a layout, in its order, with its position `row · steps + time`.
pub(super) fn each_position(schedule: &StepSchedule, layout: Layout, mut visit: impl FnMut(usize)) {
    match layout {
        Layout::Compact { reversed } => {
            for (step, &count) in schedule.counts.iter().enumerate() {
                for rank in 0..count {
                    visit(schedule.order[rank] * schedule.steps + schedule.time(rank, step, reversed));
                }
            }
        }
        Layout::Positions => (0..schedule.batch * schedule.steps).for_each(visit),
        Layout::Last | Layout::Source => (0..schedule.batch).for_each(visit),
    }
}

/// Where the rows of `value` begin that a layer reads whose own rows stand as `layout`; false where they
/// stand alike.
pub(super) fn gather(
    schedule: &StepSchedule,
    source: Source<'_>,
    value: &Value,
    layout: Layout,
    offsets: &mut List<usize>,
) -> bool {
    offsets.clear();
    match value.layout {
        Layout::Source => {
            let steps = schedule.steps;
            each_position(schedule, layout, |position| {
                offsets.push(source.offset(position / steps, position % steps))
            });
            true
        }
        Layout::Positions if layout != Layout::Positions => {
            each_position(schedule, layout, |position| offsets.push(position * value.stride));
            true
        }
        Layout::Positions | Layout::Compact { .. } | Layout::Last => false,
    }
}

/// How many rows [`gather`] lists, at most.
pub(super) fn gathered(value: &Value, layout: Layout, bounds: &Bounds) -> usize {
    let rows = match layout {
        Layout::Compact { .. } => bounds.total,
        Layout::Positions => bounds.batch.saturating_mul(bounds.steps),
        Layout::Last | Layout::Source => bounds.batch,
    };
    match value.layout {
        Layout::Source => rows,
        Layout::Positions if layout != Layout::Positions => rows,
        Layout::Positions | Layout::Compact { .. } | Layout::Last => 0,
    }
}

const LAYOUTS: [Layout; 3] =
    [Layout::Compact { reversed: false }, Layout::Compact { reversed: true }, Layout::Positions];

/// Whether the rows of a layout stand in the caller's order of step and row anyway.
fn is_ordered(layout: Layout, masked: bool, [batch, steps]: [usize; 2]) -> bool {
    match layout {
        Layout::Compact { reversed } => !masked && !reversed,
        Layout::Positions => batch == 1 || steps == 1,
        Layout::Last | Layout::Source => true,
    }
}

impl Plan {
    /// Room for what depends on a batch.
    pub(super) fn reserve(&mut self, bounds: &Bounds) -> Result<()> {
        let &Bounds { batch, steps, masked, .. } = bounds;
        self.schedule.reserve(bounds)?;
        self.bases.make_room(steps)?;
        for (order, layout) in self.orders.iter_mut().zip(LAYOUTS) {
            let own = is_ordered(layout, masked, [batch, steps]);
            order.make_room(if own { 0 } else { batch.saturating_mul(steps) })?;
        }
        Ok(())
    }

    /// Prepares what depends on the batch.
    pub(super) fn arranged(&mut self) {
        let schedule = &self.schedule;
        self.bases.clear();
        let mut base = 0;
        for count in schedule.counts.iter() {
            self.bases.push(base);
            base += count;
        }
        for (order, layout) in self.orders.iter_mut().zip(LAYOUTS) {
            order.clear();
            if is_ordered(layout, !schedule.is_full(), [schedule.batch, schedule.steps]) {
                continue;
            }
            // One slot for each (time, row); the filled ones, in their order, are the answer.
            order.resize(schedule.batch * schedule.steps, usize::MAX);
            let mut n = 0;
            each_position(schedule, layout, |position| {
                order[position % schedule.steps * schedule.batch + position / schedule.steps] = n;
                n += 1;
            });
            order.retain(|&n| n != usize::MAX);
        }
    }

    /// The caller's order of a layout's rows, where it is another.
    pub(super) fn order(&self, layout: Layout) -> Option<&[usize]> {
        let order = match layout {
            Layout::Compact { reversed } => &self.orders[usize::from(reversed)],
            Layout::Positions => &self.orders[2],
            Layout::Last | Layout::Source => return None,
        };
        (!order.is_empty()).then_some(order)
    }

    /// The first of a compact step's rows of states: behind a row for each rank, the states before the first
    /// step.
    #[inline]
    pub(super) fn slot(&self, step: usize) -> usize {
        self.schedule.batch + self.bases[step]
    }

    /// The first of the rows of states that a compact step follows.
    #[inline]
    pub(super) fn slot_before(&self, step: usize) -> usize {
        if step == 0 { 0 } else { self.slot(step - 1) }
    }

    /// The compact row of a rank's last step.
    pub(super) fn last_row(&self, rank: usize) -> Option<usize> {
        self.schedule.lengths[rank].checked_sub(1).map(|step| self.bases[step] + rank)
    }
}

/// Where rows begin in another order.
pub(super) fn list_offsets(rows: Rows<'_>, order: &[usize], to: &mut List<usize>) {
    to.clear();
    match rows {
        Rows::Strided { stride, .. } => to.extend(order.iter().map(|n| n * stride)),
        Rows::Scattered { offsets, .. } => to.extend(order.iter().map(|&n| offsets[n])),
    }
}
