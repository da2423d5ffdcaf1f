//! A Bidirectional layer in a call: both directions, each into a sequence of its own, and those joined.

use std::sync::Arc;

use super::merge::{Merged, each_pair};
use super::network::{Network, Stage};
use super::output::{Materialise, Materialised};
use super::pipeline::{self, Means, Parallelism, Source, StageHalf};
use super::schedule::{Direction, StepSchedule};
use super::scratch::{Buffer, StageBuffers};
use crate::layers::{Bidirectional, BuiltLayer, Layer, MergeMode, Packed};
use crate::memory::row_stride;

/// The layer of a stage that is a Bidirectional one.
pub(super) fn bidirectional<'a>(stage: &Stage, layers: &'a [Arc<BuiltLayer>]) -> Option<&'a Bidirectional> {
    match &layers.first()?.layer {
        Layer::Bidirectional(both) if stage.both => Some(both),
        _ => None,
    }
}

/// Units of a direction.
pub(super) fn stage_width(network: &Network, stage: &Stage, half: usize) -> usize {
    match &network.layers[stage.layers.start].packed {
        Packed::Both(both) => both[half].units(),
        Packed::Plain | Packed::Rnn(_) | Packed::Dense(_) => {
            network.layers[stage.layers.end - 1].output.features
        }
    }
}

/// What both directions of a stage read.
pub(super) struct StageInput<'a> {
    pub(super) network: &'a Network,
    pub(super) stage: &'a Stage,
    pub(super) source: Source<'a>,
    pub(super) schedule: &'a StepSchedule,
}

/// What both directions run in.
pub(super) struct Halves<'a> {
    pub(super) sequences: &'a mut [Materialised; 2],
    pub(super) buffers: &'a mut [StageBuffers; 2],
    /// From the layer's own on.
    pub(super) states: &'a mut [Buffer],
}

/// One direction of a Bidirectional layer.
struct Half<'a> {
    half: usize,
    sequence: &'a mut Materialised,
    buffers: &'a mut StageBuffers,
    states: &'a mut [Buffer],
}

impl Halves<'_> {
    /// Runs both directions, each into its own sequence where the layer gives one.
    pub(super) fn run(&mut self, input: &StageInput<'_>, parallelism: Parallelism<'_>) {
        let (first, second) = self.states.split_at_mut(1);
        let [sequence_0, sequence_1] = self.sequences.each_mut();
        let [buffers_0, buffers_1] = self.buffers.each_mut();
        let mut both = [
            Half { half: 0, sequence: sequence_0, buffers: buffers_0, states: first },
            Half { half: 1, sequence: sequence_1, buffers: buffers_1, states: &mut second[..1] },
        ];
        match parallelism {
            Parallelism::Threads(threads, macs) => {
                threads.for_each(macs, &mut both, |half| half.run(input, Parallelism::Serial));
            }
            mut parallelism @ (Parallelism::Serial | Parallelism::Columns(_)) => {
                both.iter_mut().for_each(|half| half.run(input, parallelism.again()));
            }
        }
    }
}

impl Half<'_> {
    fn run(&mut self, input: &StageInput<'_>, parallelism: Parallelism<'_>) {
        let &StageInput { network, stage, source, schedule } = input;
        let which = StageHalf { network, stage, half: Some(self.half) };
        let means = Means { buffers: self.buffers, states: self.states, parallelism };
        if !network.layers[stage.layers.start].output.sequence {
            return pipeline::run(which, source, schedule, means, &mut |_| {});
        }
        let width = stage_width(network, stage, self.half);
        let direction = Direction { reversed: self.half == 1, zero_output: stage.zero_output };
        let mut keep = Materialise::new(self.sequence, schedule, direction, width, None);
        pipeline::run(which, source, schedule, means, &mut |chunk| keep.take(chunk));
    }
}

/// Joins the directions' sequences in the caller's output.
pub(super) fn merge_to_output(
    mode: MergeMode,
    halves: &[Materialised; 2],
    units: usize,
    schedule: &StepSchedule,
    output: &mut [f32],
) {
    let stride = if mode == MergeMode::Concat { 2 * units } else { units };
    join(
        schedule,
        halves,
        units,
        Merged { mode, to: output, stride, count: schedule.batch * schedule.steps },
    );
}

/// Joins the directions' sequences for the next stage, which reads rows of `columns` floats.
pub(super) fn merge_to_sequence(
    mode: MergeMode,
    halves: &[Materialised; 2],
    (units, columns): (usize, usize),
    schedule: &StepSchedule,
    sequence: &mut Materialised,
) {
    let count = schedule.batch * schedule.steps;
    let to = sequence.fill_all(count, columns);
    join(schedule, halves, units, Merged { mode, to, stride: row_stride(columns), count });
}

fn join(schedule: &StepSchedule, halves: &[Materialised; 2], units: usize, mut merged: Merged<'_>) {
    let [forward, backward] = halves;
    each_pair(schedule, |position, [first, second]| {
        merged.put(position, forward.row(first, units), backward.row(second, units));
    });
}
