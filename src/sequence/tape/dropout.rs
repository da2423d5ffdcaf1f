//! Dropout masks.
//!
//! Every mask element is a word of a ChaCha8 stream. The key is the call's seed (as `rand_core` expands a
//! `u64`), and the stream is `8 · layer + kind`. The word's number is the element's index in the caller's
//! order: `(row · steps + step) · features + f` for a Dropout layer. The masks of a recurrent layer are
//! shared by all steps: `row · features + f`, and `gate · 2^60` more where each gate has its own. So a seed
//! gives the same masks on every machine, whatever rows are sorted and whoever draws them. An element is kept
//! where the upper 24 bits of its word, as a fraction of 1, are at least the rate; kept ones are scaled by
//! `1 / (1 - rate)`.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::super::pipeline::Source;
use super::super::schedule::StepSchedule;
use super::steps::{each_position, gather};
use super::{Layout, Mode, Plan, Value, put_row, taken};
use crate::gemm::Rows;
use crate::memory::{List, row_stride};

/// Which mask of a layer; the backward half of a Bidirectional has its own two.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Input = 0,
    Recurrent = 1,
    Layer = 4,
}

/// Writes mask elements, each 0 or `1 / (1 - rate)`.
pub(super) struct Masks {
    random: ChaCha8Rng,
    rate: f32,
    gate: usize,
}

impl Masks {
    pub(super) fn new(seed: u64, layer: usize, kind: Kind, half: usize, rate: f32) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(8 * layer as u64 + kind as u64 + 2 * half as u64);
        Self { random, rate, gate: 0 }
    }

    /// Those of a gate from here on.
    pub(super) fn of_gate(&mut self, gate: usize) -> &mut Self {
        self.gate = gate;
        self
    }

    /// The elements from number `first` on.
    pub(super) fn fill(&mut self, first: usize, mask: &mut [f32]) {
        self.random.set_word_pos(((self.gate as u128) << 60) + first as u128);
        let scale = if self.rate < 1.0 { 1.0 / (1.0 - self.rate) } else { 0.0 };
        for element in mask {
            let fraction = (self.random.next_u32() >> 8) as f32 / (1 << 24) as f32;
            *element = if fraction >= self.rate { scale } else { 0.0 };
        }
    }
}

/// Rows times their sequence's mask, in padded rows: `rows.row(n)` belongs to the row of the n-th position.
pub(super) fn mask_rows(
    schedule: &StepSchedule,
    layout: Layout,
    rows: Rows<'_>,
    mask: &[f32],
    features: usize,
    masked: &mut [f32],
) {
    let stride = row_stride(features);
    let mut n = 0;
    each_position(schedule, layout, |position| {
        let mask = &mask[position / schedule.steps * features..][..features];
        for ((to, from), mask) in masked[n * stride..].iter_mut().zip(rows.row(n)).zip(mask) {
            *to = from * mask;
        }
        n += 1;
    });
}

/// What a Dropout layer does to a part.
pub(super) struct DropOut {
    pub(super) layer: usize,
    pub(super) rate: f32,
    /// The part's first row in the whole batch.
    pub(super) first_row: usize,
}

impl DropOut {
    fn masks(&self, mode: Mode) -> Masks {
        Masks::new(mode.seed, self.layer, Kind::Layer, 0, self.rate)
    }

    /// The position, in the whole batch, of the part's first one.
    fn first_position(&self, schedule: &StepSchedule, layout: Layout) -> usize {
        match layout {
            Layout::Last | Layout::Source => self.first_row,
            Layout::Compact { .. } | Layout::Positions => self.first_row * schedule.steps,
        }
    }

    /// Copies rows times a mask that is fresh for every element and step.
    pub(super) fn forward(
        &self,
        plan: &Plan,
        source: Source<'_>,
        values: &mut [Value],
        [input, output]: [usize; 2],
        offsets: &mut List<usize>,
    ) {
        let Plan { schedule, mode, .. } = plan;
        let mut to = taken(&mut values[output].rows);
        let (layout, features, stride) =
            (values[output].layout, values[output].features, values[output].stride);
        let from = &values[input];
        let gathered = gather(schedule, source, from, layout, offsets);
        let lead = from.lead(schedule);
        let first = self.first_position(schedule, layout);
        let mut masks = mode.training.then(|| self.masks(*mode));
        let mut n = 0;
        each_position(schedule, layout, |position| {
            let row = if gathered {
                let values = if from.layout == Layout::Source { source.values } else { &from.rows[..] };
                &values[offsets[n]..][..features]
            } else {
                &from.rows[lead + n * from.stride..][..features]
            };
            let to = &mut to[n * stride..][..stride];
            match &mut masks {
                Some(masks) => {
                    masks.fill((first + position) * features, &mut to[..features]);
                    to.iter_mut().zip(row).for_each(|(to, from)| *to *= from);
                    to[features..].fill(0.0);
                }
                None => put_row(to, row),
            }
            n += 1;
        });
        values[output].rows = to;
    }

    /// Turns the gradient of the results into that of the rows, in place: times the masks of the forward
    /// pass. `mask` has room for a row.
    pub(super) fn backward(&self, plan: &Plan, value: &mut Value, mask: &mut [f32]) {
        let Plan { schedule, mode, .. } = plan;
        if !mode.training {
            return;
        }
        let (features, stride, layout) = (value.features, value.stride, value.layout);
        let mut masks = self.masks(*mode);
        let mask = &mut mask[..features];
        let first = self.first_position(schedule, layout);
        let mut n = 0;
        each_position(schedule, layout, |position| {
            masks.fill((first + position) * features, mask);
            let row = &mut value.gradient[n * stride..][..features];
            row.iter_mut().zip(&*mask).for_each(|(to, mask)| *to *= mask);
            n += 1;
        });
    }
}
