//! Which rows run at which steps.

use std::ops::Range;

use super::Padding;
use crate::error::{Error, Result};
use crate::memory::List;

/// The order of a batch's steps: rows by number of steps, the longest first, and each row's steps without
/// masked ones.
#[derive(Debug, Default)]
pub(super) struct StepSchedule {
    pub(super) batch: usize,
    pub(super) steps: usize,
    pub(super) padding: Padding,
    /// By rank: the row of the batch.
    pub(super) order: List<usize>,
    /// By rank: how many steps the row has.
    pub(super) lengths: List<usize>,
    /// By compact step: how many ranks have it.
    pub(super) counts: List<usize>,
    /// By rank, `starts[rank]..starts[rank + 1]`: the times of its steps. Empty where every row has every
    /// step.
    times: List<u32>,
    starts: List<usize>,
    /// By row of the batch: where walking backwards begins, exclusive.
    pub(super) ends: List<usize>,
    masked: bool,
}

/// Which way a layer walks over the steps, and what masked ones show: zeros, or the output before them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direction {
    pub(super) reversed: bool,
    pub(super) zero_output: bool,
}

/// What is known of a batch before its masks are read: at most so much has to be kept of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) batch: usize,
    pub(super) steps: usize,
    /// Steps of all rows.
    pub(super) total: usize,
    /// Whether steps may be masked.
    pub(super) masked: bool,
}

impl Bounds {
    /// Of `rows` rows.
    pub(super) fn new(rows: usize, steps: usize, mask: &Mask<'_>) -> Self {
        // Sizes that overflow cannot be reserved either.
        let all = rows.saturating_mul(steps);
        let total = mask.lengths.map_or(all, |lengths| lengths.iter().sum());
        Self { batch: rows, steps, total, masked: !mask.is_empty() }
    }

    /// Whether the room for `self` is enough for `other`.
    pub(super) fn cover(&self, other: &Self) -> bool {
        other.batch <= self.batch
            && other.steps <= self.steps
            && other.total <= self.total
            && (self.masked || !other.masked)
    }
}

/// Which steps of a row are used, `[batch, steps]`; any test may be missing.
#[derive(Clone, Copy, Default)]
pub(super) struct Mask<'a> {
    /// 1 = use the step.
    pub(super) given: Option<&'a [u8]>,
    /// Steps from the first.
    pub(super) lengths: Option<&'a [usize]>,
    /// Token 0 is no step.
    pub(super) tokens: Option<&'a [i32]>,
    /// Steps whose features all equal the value are no steps.
    pub(super) features: Option<(&'a [f32], usize, f32)>,
}

impl Mask<'_> {
    fn is_empty(&self) -> bool {
        self.given.is_none() && self.lengths.is_none() && self.tokens.is_none() && self.features.is_none()
    }

    #[inline]
    pub(super) fn uses(&self, row: usize, time: usize, steps: usize) -> bool {
        let at = row * steps + time;
        self.given.is_none_or(|mask| mask[at] != 0)
            && self.lengths.is_none_or(|lengths| time < lengths[row])
            && self.tokens.is_none_or(|ids| ids[at] != 0)
            && self.features.is_none_or(|(values, features, masked)| {
                values[at * features..][..features].iter().any(|&value| value != masked)
            })
    }
}

impl StepSchedule {
    /// Room for a batch.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where steps may be masked and have numbers above 32 bits.
    pub(super) fn reserve(&mut self, bounds: &Bounds) -> Result<()> {
        let &Bounds { batch, steps, total, masked } = bounds;
        for list in [&mut self.order, &mut self.lengths, &mut self.ends] {
            list.make_room(batch)?;
        }
        if !masked {
            return self.counts.make_room(steps);
        }
        countable(steps)?;
        self.counts.make_room(steps.max(batch))?;
        self.times.make_room(total)?;
        self.starts.make_room(steps.max(batch).saturating_add(2))
    }

    /// Orders a batch that there is [room](Self::reserve) for.
    pub(super) fn arrange(&mut self, batch: usize, steps: usize, mask: Mask<'_>, padding: Padding) {
        (self.batch, self.steps, self.padding, self.masked) = (batch, steps, padding, !mask.is_empty());
        self.order.clear();
        self.order.extend(0..batch);
        self.lengths.clear();
        self.counts.clear();
        self.times.clear();
        self.starts.clear();
        self.ends.clear();
        self.ends.resize(batch, steps);
        if !self.masked {
            self.lengths.resize(batch, steps);
            self.counts.resize(steps, batch);
            return;
        }
        // `counts` serves as the lengths by row until they are known by rank.
        let used = |row: usize| (0..steps).filter(move |&time| mask.uses(row, time, steps));
        self.counts.extend((0..batch).map(|row| used(row).count()));
        let by_row = &self.counts;
        let longest = by_row.iter().copied().max().unwrap_or(0);
        // `starts` serves as their first ranks.
        self.starts.resize(longest + 1, 0);
        rank_rows(by_row, &mut self.starts, &mut self.order);
        self.starts.clear();
        self.lengths.extend(self.order.iter().map(|&row| by_row[row]));
        self.starts.push(0);
        for &row in self.order.iter() {
            // In 32 bits: see `reserve`.
            used(row).for_each(|time| self.times.push(time as u32));
            self.starts.push(self.times.len());
        }
        self.counts.clear();
        count_ranks(batch, |rank| self.lengths[rank], |count| self.counts.push(count));
        if padding == Padding::Onnx {
            for (rank, &row) in self.order.iter().enumerate() {
                self.ends[row] = if self.lengths[rank] == 0 { 0 } else { self.time(rank, 0, true) + 1 };
            }
        }
    }

    /// Bytes of the lists.
    pub(super) fn bytes(&self) -> usize {
        let lists: [&[usize]; 5] = [&self.order, &self.lengths, &self.counts, &self.starts, &self.ends];
        lists.iter().map(|list| size_of_val(*list)).sum::<usize>() + self.times.len() * size_of::<u32>()
    }

    /// Whether every row has every step.
    pub(super) fn is_full(&self) -> bool {
        !self.masked
    }

    /// All steps of all rows.
    pub(super) fn total(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// How many ranks have compact step `step`: none has the one after the last.
    #[inline]
    pub(super) fn count(&self, step: usize) -> usize {
        self.counts.get(step).copied().unwrap_or(0)
    }

    /// When compact step `step` of `rank` happens.
    #[inline]
    pub(super) fn time(&self, rank: usize, step: usize, reversed: bool) -> usize {
        let step = if reversed { self.lengths[rank] - 1 - step } else { step };
        if self.masked { self.times[self.starts[rank] + step] as usize } else { step }
    }

    /// Where the output of the step at `time` stands in the output sequence.
    #[inline]
    fn position(&self, rank: usize, time: usize, reversed: bool) -> usize {
        match (reversed, self.padding) {
            (false, _) => time,
            (true, Padding::Keras) => self.steps - 1 - time,
            // From the row's own last step.
            (true, Padding::Onnx) => self.time(rank, 0, true) - time,
        }
    }

    /// Calls `visit` for each row with its positions before its first output.
    pub(super) fn each_lead(&self, direction: Direction, mut visit: impl FnMut(Range<usize>)) {
        if self.is_full() {
            return;
        }
        for (rank, &row) in self.order.iter().enumerate() {
            let first = row * self.steps;
            visit(first..first + self.lead(rank, direction.reversed));
        }
    }

    /// Calls `visit` for each row of some compact steps, of which `counts` begin with number `first`: with
    /// its number among them, and the positions `row · steps + position` of its output and of the masked ones
    /// behind.
    #[inline]
    pub(super) fn each_output(
        &self,
        direction: Direction,
        (first, counts): (usize, &[usize]),
        mut visit: impl FnMut(usize, Range<usize>),
    ) {
        let mut index = 0;
        for (step, &count) in counts.iter().enumerate() {
            for rank in 0..count {
                let (position, next) = self.output_positions(rank, first + step, direction.reversed);
                let row = self.order[rank] * self.steps;
                visit(index, row + position..row + next);
                index += 1;
            }
        }
    }

    /// Calls `visit` for each row, in the order of ranks, with its rank, or with none where what its last
    /// position shows is padding: zeros, out of a layer that gives its last output alone.
    pub(super) fn each_last(&self, direction: Direction, mut visit: impl FnMut(usize, Option<usize>)) {
        for (rank, &row) in self.order.iter().enumerate() {
            let pads = self.ends_in_padding(rank, direction);
            visit(row, (!pads).then_some(rank));
        }
    }

    /// The last position of a row of the batch.
    pub(super) fn last_place(&self, row: usize) -> usize {
        (row + 1) * self.steps - 1
    }

    /// The positions of `rank` before its first output.
    fn lead(&self, rank: usize, reversed: bool) -> usize {
        if self.lengths[rank] == 0 {
            self.steps
        } else {
            self.position(rank, self.time(rank, 0, reversed), reversed)
        }
    }

    /// The position of a compact step's output, and of the next one's (or the end).
    pub(super) fn output_positions(&self, rank: usize, step: usize, reversed: bool) -> (usize, usize) {
        let at = |step| self.position(rank, self.time(rank, step, reversed), reversed);
        let next = if step + 1 < self.lengths[rank] { at(step + 1) } else { self.steps };
        (at(step), next)
    }

    /// Whether masked positions are padding rather than a repetition.
    pub(super) fn pads_between(&self, direction: Direction) -> bool {
        direction.zero_output || self.padding == Padding::Onnx
    }

    /// Whether the last position of `rank` is padding: what a layer that returns only its last output gives
    /// is 0 then.
    fn ends_in_padding(&self, rank: usize, direction: Direction) -> bool {
        let Some(last) = self.lengths[rank].checked_sub(1) else { return true };
        direction.zero_output
            && self.padding == Padding::Keras
            && self.output_positions(rank, last, direction.reversed).0 + 1 != self.steps
    }
}

/// Orders rows by their number of steps, the longest first, equal ones in their order: they are counted into
/// place. `starts` has room for as many counts as there are numbers up to the longest.
pub(super) fn rank_rows(lengths: &[usize], starts: &mut [usize], order: &mut [usize]) {
    let longest = starts.len() - 1;
    starts.fill(0);
    lengths.iter().for_each(|length| starts[longest - length] += 1);
    let mut before = 0;
    for start in starts.iter_mut() {
        before += std::mem::replace(start, before);
    }
    for (row, length) in lengths.iter().enumerate() {
        let start = &mut starts[longest - length];
        order[*start] = row;
        *start += 1;
    }
}

/// Gives, for each compact step, how many of `batch` ranks have it, whose lengths never grow.
pub(super) fn count_ranks(batch: usize, length: impl Fn(usize) -> usize, mut give: impl FnMut(usize)) {
    let mut running = batch;
    for step in 0.. {
        while running > 0 && length(running - 1) <= step {
            running -= 1;
        }
        if running == 0 {
            return;
        }
        give(running);
    }
}

/// Whether the steps of a masked batch can be listed.
fn countable(steps: usize) -> Result<()> {
    match u32::try_from(steps) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::Unsupported(format!(
            "{steps} steps, some of which may be masked: at most {} are possible, and any number without a mask",
            u32::MAX
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of steps are listed in 32 bits, and an array with more steps is too large for a test.
    #[test]
    fn more_masked_steps_than_can_be_listed_are_refused() {
        let mut schedule = StepSchedule::default();
        let most = u32::MAX as usize;
        let lengths = [7];
        let mask = Mask { lengths: Some(&lengths), ..Mask::default() };
        assert_eq!(
            Bounds::new(1, most + 1, &mask),
            Bounds { batch: 1, steps: most + 1, total: 7, masked: true }
        );
        let wrong = schedule.reserve(&Bounds::new(1, most + 1, &mask));
        assert!(matches!(wrong, Err(Error::Unsupported(why)) if why.contains("4294967296 steps")));
        countable(most).expect("the last one has the number 2^32 - 2");
    }
}
