//! One call: rows shared out, stages one after another, outputs put where the caller wants them.

use super::network::{Network, Stage};
use super::parallel::{self, Threads};
use super::pipeline::{self, Buffers, Chunk, Help, Map, SHARED_FROM, Source, fully_connected};
use super::scratch::{Buffer, Lane, Scratch, ScratchPool, Whole};
use super::work::{Mask, Work};
use crate::error::{Error, Result};
use crate::gemm::Rows;
use crate::layers::{Layer, MergeMode, Packed};
use crate::memory::row_stride;

/// What padding means to outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Padding {
    /// Keras: a masked step repeats the output before it; walking backwards begins at the last step of the batch.
    #[default]
    Keras,
    /// ONNX: outputs past a row's end are zero; walking backwards begins at the row's own end.
    Onnx,
}

/// The input of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input<'a> {
    /// `[batch, steps, features]`.
    Floats(&'a [f32]),
    /// `[batch, steps]`.
    Tokens(&'a [i32]),
}

/// A checked call: every length fits the network, the batch and the steps.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) input: Input<'a>,
    pub(crate) batch: usize,
    pub(crate) steps: usize,
    /// `[batch, steps]`, 1 = use the step.
    pub(crate) mask: Option<&'a [u8]>,
    /// `[batch]`.
    pub(crate) lengths: Option<&'a [usize]>,
    pub(crate) padding: Padding,
    /// By recurrent direction `[batch, units]`.
    pub(crate) initial_state: Option<&'a [f32]>,
    /// By recurrent direction `[batch, units]`.
    pub(crate) final_state: Option<&'a mut [f32]>,
    /// `[batch, steps, features]` or `[batch, features]`.
    pub(crate) output: &'a mut [f32],
}

/// What a call reads, for all of its rows or some.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) input: Input<'a>,
    pub(super) mask: Option<&'a [u8]>,
    pub(super) lengths: Option<&'a [usize]>,
}

impl<'a> Inputs<'a> {
    /// Of some rows of `steps` steps of `features` floats.
    pub(super) fn of_rows(&self, rows: &std::ops::Range<usize>, steps: usize, features: usize) -> Self {
        let places = rows.start * steps..rows.end * steps;
        Self {
            input: match self.input {
                Input::Floats(x) => Input::Floats(&x[places.start * features..places.end * features]),
                Input::Tokens(ids) => Input::Tokens(&ids[places.clone()]),
            },
            mask: self.mask.map(|mask| &mask[places]),
            lengths: self.lengths.map(|lengths| &lengths[rows.clone()]),
        }
    }
}

/// Some rows of a call.
struct Part<'a> {
    inputs: Inputs<'a>,
    rows: std::ops::Range<usize>,
    output: &'a mut [f32],
    scratch: Scratch,
    outcome: Result<()>,
}

/// Rows a thread below which a large layer's columns are shared rather than rows, and a part's rows cost more than
/// their share of all.
const ROWS_A_THREAD: usize = 8;

/// Carries out a call.
pub(crate) fn run(network: &Network, threads: &Threads, pool: &ScratchPool, call: Call<'_>) -> Result<()> {
    let Call { batch, steps, padding, initial_state, final_state, output, .. } = call;
    if let (Input::Tokens(ids), Some((embedding, _))) = (call.input, network.embedding()) {
        check_tokens(ids, embedding.vocabulary)?;
    }
    let work = batch.saturating_mul(steps).saturating_mul(network.work_a_step());
    let shares_columns = threads.count() > 1
        && batch < ROWS_A_THREAD * threads.count()
        && network.recurrent().any(|(_, rnn)| rnn.recurrent.bytes() >= SHARED_FROM);
    let helpers = threads.parts(usize::MAX, work);
    let by_rows = threads.parts(batch, work);
    // Halves keep more rows together than two threads with half of the rows each; more threads are worth more.
    let by_halves = by_rows <= 2 && batch < ROWS_A_THREAD * helpers && network.is_bidirectional();
    // Halves that are not merged lie one array behind the other, so no part of the rows is in one piece.
    let is_whole = network.is_unmerged() || shares_columns || by_halves;
    // Of few rows, two parts one after the other take longer than one: no more parts than there are threads awake. Those that
    // come too late stay for the next call, as long as this one has the team.
    let few = !is_whole && by_rows > 1 && batch < ROWS_A_THREAD * by_rows;
    let mut few_team = if few { threads.team(work) } else { None };
    let count = match &mut few_team {
        _ if is_whole => 1,
        Some(team) => by_rows.min(1 + team.workers(parallel::wake_timeout(work))),
        None if few => 1,
        None => by_rows,
    };
    let inputs = Inputs { input: call.input, mask: call.mask, lengths: call.lengths };
    let row_len = output.len() / batch;
    let mut rest = output;
    let mut parts = (0..count).map(|i| {
        let rows = batch * i / count..batch * (i + 1) / count;
        let (mine, others) = std::mem::take(&mut rest).split_at_mut(rows.len() * row_len);
        rest = others;
        let inputs = inputs.of_rows(&rows, steps, network.input.features);
        Part { inputs, rows, output: mine, scratch: pool.take(), outcome: Ok(()) }
    });
    let run_part = |part: &mut Part<'_>, help: Help<'_>| {
        part.outcome = run_part(network, part, batch, steps, padding, initial_state, help);
    };
    // One part needs no list: such a call allocates nothing.
    let (mut one, mut many);
    let parts: &mut [Part<'_>] = if count == 1 {
        one = parts.next();
        let mut team = if shares_columns { threads.team(work) } else { None };
        let mut help = match &mut team {
            Some(team) => Help::Columns(team),
            None if helpers > 1 => Help::Threads(threads, work),
            None => Help::Nobody,
        };
        one.iter_mut().for_each(|part| run_part(part, help.again()));
        one.as_mut_slice()
    } else {
        many = parts.collect::<Vec<_>>();
        let run_part = |part: &mut Part<'_>| run_part(part, Help::Nobody);
        match &mut few_team {
            Some(team) => parallel::share_out(team, &mut many, run_part),
            None => threads.for_each(work, &mut many, run_part),
        }
        &mut many
    };
    let mut final_state = final_state;
    let mut outcome = Ok(());
    for part in parts {
        if let (Ok(()), Some(states)) = (&part.outcome, final_state.as_deref_mut()) {
            collect_states(network, part, batch, states);
        }
        pool.give(std::mem::take(&mut part.scratch));
        outcome = outcome.and(std::mem::replace(&mut part.outcome, Ok(())));
    }
    outcome
}

/// Whether all ids are inside the vocabulary.
pub(crate) fn check_tokens(ids: &[i32], vocabulary: usize) -> Result<()> {
    match ids.iter().position(|&id| usize::try_from(id).map_or(true, |id| id >= vocabulary)) {
        None => Ok(()),
        Some(at) => Err(Error::InvalidArgument(format!(
            "token {} at index {at} is outside the vocabulary 0..{vocabulary}",
            ids[at]
        ))),
    }
}

/// Copies the last states of a part's rows to their places among all rows.
fn collect_states(network: &Network, part: &Part<'_>, batch: usize, states: &mut [f32]) {
    let mut base = 0;
    for ((_, rnn), state) in network.recurrent().zip(&part.scratch.states) {
        let units = rnn.units();
        let stride = row_stride(units);
        for (rank, &row) in part.scratch.work.order.iter().enumerate() {
            let to = &mut states[base + (part.rows.start + row) * units..][..units];
            // In ONNX a row without steps has no final state.
            if part.scratch.work.lengths[rank] == 0 && part.scratch.work.padding == Padding::Onnx {
                to.fill(0.0);
            } else {
                to.copy_from_slice(&state.0[rank * stride..][..units]);
            }
        }
        base += batch * units;
    }
}

/// What the first layer reads, and how.
pub(super) fn values_of<'a>(network: &'a Network, input: Input<'a>) -> Result<(&'a [f32], Map<'a>)> {
    match (input, network.embedding()) {
        (Input::Tokens(ids), Some((embedding, table))) => Ok((table, Map::Tokens(ids, embedding.size))),
        (Input::Floats(x), None) => Ok((x, Map::Features(network.input.features))),
        _ => Err(Error::InvalidArgument("token ids go with an embedding, floats with none".into())),
    }
}

/// Orders the work of `rows` rows by what is masked in the options and in the input itself.
pub(super) fn arrange(
    network: &Network,
    work: &mut Work,
    inputs: Inputs<'_>,
    (rows, steps): (usize, usize),
    padding: Padding,
) -> Result<()> {
    let Inputs { input, mask: given, lengths } = inputs;
    let embedding = network.embedding();
    let (values, _) = values_of(network, input)?;
    let masking = network.layers.iter().find_map(|layer| match &layer.layer {
        Layer::Masking(masking) => Some((values, network.input.features, masking.mask_value)),
        _ => None,
    });
    let skips = network.recurrent().next().is_some();
    let mask = Mask {
        given,
        lengths,
        tokens: match input {
            Input::Tokens(ids) if embedding.is_some_and(|(layer, _)| layer.mask_zero) => Some(ids),
            _ => None,
        },
        features: masking,
    };
    // Without a recurrent layer nothing skips a step.
    work.arrange(rows, steps, if skips { mask } else { Mask::default() }, padding);
    Ok(())
}

/// One direction of a Bidirectional layer.
struct Half<'a> {
    half: usize,
    whole: &'a mut Whole,
    lane: &'a mut Lane,
    states: &'a mut [Buffer],
    outcome: Result<()>,
}

fn run_part(
    network: &Network,
    part: &mut Part<'_>,
    batch: usize,
    steps: usize,
    padding: Padding,
    initial_state: Option<&[f32]>,
    mut help: Help<'_>,
) -> Result<()> {
    let Scratch { work, lanes, states, wholes, halves, blank, head } = &mut part.scratch;
    let rows = part.rows.len();
    let (values, map) = values_of(network, part.inputs.input)?;
    arrange(network, work, part.inputs, (rows, steps), padding)?;

    states.resize_with(network.recurrent().count(), Buffer::default);
    let mut base = 0;
    for ((_, rnn), state) in network.recurrent().zip(states.iter_mut()) {
        let (units, stride) = (rnn.units(), row_stride(rnn.units()));
        state.0.reserve_scratch(rows * stride)?;
        match initial_state {
            Some(given) => {
                for (rank, &row) in work.order.iter().enumerate() {
                    state.0[rank * stride..][..units]
                        .copy_from_slice(&given[base + (part.rows.start + row) * units..][..units]);
                }
            }
            None => state.0[..rows * stride].fill(0.0),
        }
        base += batch * units;
    }

    let [before, after] = wholes;
    let (mut before, mut after) = (before, after);
    let mut fed_by_whole = false;
    let mut state = 0;
    for (i, stage) in network.stages.iter().enumerate() {
        let source = if fed_by_whole {
            Source { values: &before.values.0, steps, map: Map::Offsets(&before.offsets) }
        } else {
            Source { values, steps, map }
        };
        let layers = &network.layers[stage.layers.clone()];
        let is_last = i + 1 == network.stages.len();
        let output = layers.last().map_or(network.input, |layer| layer.output);
        let stage_states = &mut states[state..];
        state += layers
            .iter()
            .map(|layer| match &layer.packed {
                Packed::Rnn(_) => 1,
                Packed::Both(_) => 2,
                _ => 0,
            })
            .sum::<usize>();
        let blank_between = work.blank_between(stage.zero_output);
        if stage.both {
            let (first, second) = stage_states.split_at_mut(1);
            let ([whole_0, whole_1], [lane_0, lane_1]) = (halves.each_mut(), lanes.each_mut());
            let mut both = [
                Half { half: 0, whole: whole_0, lane: lane_0, states: first, outcome: Ok(()) },
                Half { half: 1, whole: whole_1, lane: lane_1, states: &mut second[..1], outcome: Ok(()) },
            ];
            let run_half = |it: &mut Half<'_>, help: Help<'_>| {
                let width = stage_width(network, stage, Some(it.half));
                let buffers = Buffers { lane: it.lane, states: it.states, help };
                let half = Some(it.half);
                it.outcome = if output.sequence {
                    Keep::new(it.whole, work, width, it.half == 1, blank_between, None).and_then(
                        |mut keep| {
                            pipeline::run(network, stage, half, source, work, buffers, &mut |chunk| {
                                keep.take(chunk)
                            })
                        },
                    )
                } else {
                    pipeline::run(network, stage, half, source, work, buffers, &mut |_| {})
                };
            };
            match &mut help {
                &mut Help::Threads(threads, work) => {
                    threads.for_each(work, &mut both, |half| run_half(half, Help::Nobody));
                }
                help => both.iter_mut().for_each(|half| run_half(half, help.again())),
            }
            both.into_iter().try_for_each(|half| half.outcome)?;
            let Layer::Bidirectional(both) = &layers[0].layer else { continue };
            if output.sequence {
                let units = both.layer.units;
                if is_last {
                    merge_to_output(both.merge_mode, halves, units, work, part.output);
                } else {
                    merge_to_whole(both.merge_mode, halves, units, work, after)?;
                }
            }
        } else {
            let blank_row = blank_output(network, stage, work, blank)?;
            let buffers = Buffers { lane: &mut lanes[0], states: stage_states, help: help.again() };
            if !output.sequence {
                pipeline::run(network, stage, None, source, work, buffers, &mut |_| {})?;
            } else if is_last {
                let mut write = Write {
                    work,
                    output: part.output,
                    columns: output.features,
                    reversed: stage.reversed,
                    blank_between,
                    blank: blank_row,
                };
                write.lead();
                pipeline::run(network, stage, None, source, work, buffers, &mut |chunk| write.take(chunk))?;
            } else {
                let width = output.features;
                let mut keep = Keep::new(after, work, width, stage.reversed, blank_between, Some(blank_row))?;
                pipeline::run(network, stage, None, source, work, buffers, &mut |chunk| keep.take(chunk))?;
            }
        }
        std::mem::swap(&mut before, &mut after);
        fed_by_whole = true;
    }
    if !network.output.sequence {
        run_head(network, work, states, head, part.output)?;
    }
    Ok(())
}

fn stage_width(network: &Network, stage: &Stage, half: Option<usize>) -> usize {
    match (&network.layers[stage.layers.start].packed, half) {
        (Packed::Both(both), Some(half)) => both[half].units(),
        _ => network.layers[stage.layers.end - 1].output.features,
    }
}

/// What a stage gives for a masked step before any other: zeros out of the last recurrent layer (of this stage, or a
/// Bidirectional below it), through the dense layers above it.
fn blank_output<'a>(
    network: &Network,
    stage: &Stage,
    work: &Work,
    blank: &'a mut [Buffer; 2],
) -> Result<&'a [f32]> {
    let layers = &network.layers[stage.layers.clone()];
    let recurrent = layers.iter().rposition(|layer| matches!(layer.packed, Packed::Rnn(_)));
    let features = layers.iter().flat_map(|layer| [layer.input.features, layer.output.features]);
    let widest = features.map(row_stride).max().unwrap_or(0);
    for buffer in blank.iter_mut() {
        buffer.0.reserve_scratch(widest)?;
        buffer.0.fill(0.0);
    }
    let [mut x, mut y] = blank.each_mut();
    if work.is_full() {
        return Ok(&x.0);
    }
    for layer in &layers[recurrent.map_or(0, |at| at + 1)..] {
        if let Packed::Dense(dense) = &layer.packed {
            let terms = dense.kernel.terms();
            let input = Rows::Strided { values: &x.0, stride: terms, count: 1 };
            fully_connected(dense, input, 1, &mut y.0, row_stride(dense.kernel.columns()));
            std::mem::swap(&mut x, &mut y);
        }
    }
    Ok(&x.0)
}

/// Writes the rows of chunks into the caller's sequence.
struct Write<'a> {
    work: &'a Work,
    /// `[batch, steps, columns]`.
    output: &'a mut [f32],
    columns: usize,
    reversed: bool,
    blank_between: bool,
    blank: &'a [f32],
}

impl Write<'_> {
    /// Positions before a row's first output.
    fn lead(&mut self) {
        if self.work.is_full() {
            return;
        }
        for (rank, &row) in self.work.order.iter().enumerate() {
            let lead = self.work.lead(rank, self.reversed);
            let at = row * self.work.steps * self.columns;
            for to in self.output[at..at + lead * self.columns].chunks_exact_mut(self.columns) {
                to.copy_from_slice(&self.blank[..self.columns]);
            }
        }
    }

    fn take(&mut self, chunk: Chunk<'_>) {
        let columns = self.columns;
        let mut index = 0;
        if self.work.is_full() {
            // Every row has every step, in its place: an audio model of 20 units gives an output every 45 ns, so nothing is looked
            // up for it.
            debug_assert_eq!(self.work.span(0, chunk.first, self.reversed).0, chunk.first);
            let (steps, batch) = (chunk.counts.len(), self.work.batch);
            for row in 0..batch {
                let at = (row * self.work.steps + chunk.first) * columns;
                let to = self.output[at..at + steps * columns].chunks_exact_mut(columns);
                for (step, to) in to.enumerate() {
                    copy_short(to, &chunk.rows.row(step * batch + row)[..columns]);
                }
            }
            return;
        }
        for (step, &count) in chunk.counts.iter().enumerate() {
            for rank in 0..count {
                let (position, next) = self.work.span(rank, chunk.first + step, self.reversed);
                let at = (self.work.order[rank] * self.work.steps + position) * columns;
                let from = &chunk.rows.row(index)[..columns];
                self.output[at..at + columns].copy_from_slice(from);
                for other in 1..next - position {
                    let from = if self.blank_between { &self.blank[..columns] } else { from };
                    self.output[at + other * columns..][..columns].copy_from_slice(from);
                }
                index += 1;
            }
        }
    }
}

/// `copy_from_slice` without a call where there are few.
fn copy_short(to: &mut [f32], from: &[f32]) {
    if to.len() > 64 {
        to.copy_from_slice(from);
        return;
    }
    let (to_blocks, to_rest) = to.as_chunks_mut::<8>();
    let (from_blocks, from_rest) = from.as_chunks::<8>();
    for (to, from) in to_blocks.iter_mut().zip(from_blocks) {
        *to = *from;
    }
    for (to, from) in to_rest.iter_mut().zip(from_rest) {
        *to = *from;
    }
}

/// Keeps the rows of chunks for the stage above.
struct Keep<'a> {
    work: &'a Work,
    values: &'a mut [f32],
    offsets: &'a mut [usize],
    stride: usize,
    columns: usize,
    reversed: bool,
    blank_between: bool,
    used: usize,
}

impl<'a> Keep<'a> {
    /// Room for every row, and for a blank one (zeros unless given).
    fn new(
        whole: &'a mut Whole,
        work: &'a Work,
        columns: usize,
        reversed: bool,
        blank_between: bool,
        blank: Option<&[f32]>,
    ) -> Result<Self> {
        let stride = row_stride(columns);
        let total = work.total();
        whole.stride = stride;
        whole.values.0.reserve_scratch((total + 1) * stride)?;
        whole.offsets.clear();
        whole.offsets.resize(work.batch * work.steps, total * stride);
        let last = &mut whole.values.0[total * stride..][..columns];
        match blank {
            Some(blank) => last.copy_from_slice(&blank[..columns]),
            None => last.fill(0.0),
        }
        let (values, offsets) = (&mut whole.values.0[..], &mut whole.offsets[..]);
        Ok(Self { work, values, offsets, stride, columns, reversed, blank_between, used: 0 })
    }

    fn take(&mut self, chunk: Chunk<'_>) {
        let mut index = 0;
        for (step, &count) in chunk.counts.iter().enumerate() {
            for rank in 0..count {
                let to = self.used * self.stride;
                self.values[to..to + self.columns].copy_from_slice(&chunk.rows.row(index)[..self.columns]);
                let (position, next) = self.work.span(rank, chunk.first + step, self.reversed);
                let at = self.work.order[rank] * self.work.steps;
                let held = if self.blank_between { position + 1 } else { next };
                self.offsets[at + position..at + held].fill(to);
                index += 1;
                self.used += 1;
            }
        }
    }
}

/// Joins one row of each half.
pub(super) fn merge(mode: MergeMode, forward: &[f32], backward: &[f32], to: &mut [f32]) {
    let each = |to: &mut [f32], f: fn(f32, f32) -> f32| {
        for ((to, &a), &b) in to.iter_mut().zip(forward).zip(backward) {
            *to = f(a, b);
        }
    };
    match mode {
        MergeMode::Concat | MergeMode::None => {
            let (first, second) = to.split_at_mut(forward.len());
            first.copy_from_slice(forward);
            second.copy_from_slice(backward);
        }
        MergeMode::Sum => each(to, |a, b| a + b),
        MergeMode::Mul => each(to, |a, b| a * b),
        MergeMode::Ave => each(to, |a, b| (a + b) / 2.0),
    }
}

/// The rows of both halves at `(row, time)`: the backward half stands in processing order and is turned here.
fn both_at<'a>(
    halves: &'a [Whole; 2],
    units: usize,
    work: &Work,
    row: usize,
    ends: &[usize],
    time: usize,
) -> (&'a [f32], &'a [f32]) {
    let at = |half: &'a Whole, position: usize| {
        let offset = half.offsets[row * work.steps + position];
        &half.values.0[offset..][..units]
    };
    let turned = if time < ends[row] { ends[row] - 1 - time } else { time };
    (at(&halves[0], time), at(&halves[1], turned))
}

fn merge_to_output(mode: MergeMode, halves: &[Whole; 2], units: usize, work: &Work, output: &mut [f32]) {
    let ends = &work.ends;
    let size = work.batch * work.steps * units;
    for row in 0..work.batch {
        for time in 0..work.steps {
            let (forward, backward) = both_at(halves, units, work, row, ends, time);
            let at = row * work.steps + time;
            if mode == MergeMode::None {
                output[at * units..][..units].copy_from_slice(forward);
                output[size + at * units..][..units].copy_from_slice(backward);
            } else {
                let columns = if mode == MergeMode::Concat { 2 * units } else { units };
                merge(mode, forward, backward, &mut output[at * columns..][..columns]);
            }
        }
    }
}

fn merge_to_whole(
    mode: MergeMode,
    halves: &[Whole; 2],
    units: usize,
    work: &Work,
    whole: &mut Whole,
) -> Result<()> {
    let ends = &work.ends;
    let columns = if mode == MergeMode::Concat { 2 * units } else { units };
    whole.stride = row_stride(columns);
    whole.values.0.reserve_scratch(work.batch * work.steps * whole.stride)?;
    whole.offsets.clear();
    for row in 0..work.batch {
        for time in 0..work.steps {
            let (forward, backward) = both_at(halves, units, work, row, ends, time);
            let to = (row * work.steps + time) * whole.stride;
            merge(mode, forward, backward, &mut whole.values.0[to..to + columns]);
            whole.offsets.push(to);
        }
    }
    Ok(())
}

/// The layers above the last step.
fn run_head(
    network: &Network,
    work: &Work,
    states: &[Buffer],
    head: &mut [Buffer; 2],
    output: &mut [f32],
) -> Result<()> {
    let Some(top) = network.layers[..network.head.start].last() else { return Ok(()) };
    let layers = &network.layers[network.head.clone()];
    let widest = layers.iter().map(|layer| row_stride(layer.output.features)).max().unwrap_or(0);
    let widest = widest.max(row_stride(2 * top.output.features));
    for buffer in head.iter_mut() {
        buffer.0.reserve_scratch(work.batch * widest)?;
    }
    let [mut x, mut y] = head.each_mut();
    let mut stride = row_stride(top.output.features);
    let reversed = network.stages.last().is_some_and(|stage| stage.reversed);
    for (rank, &row) in work.order.iter().enumerate() {
        let last = |back: usize, units: usize, reversed: bool, zero_output: bool| {
            let blank = work.ends_blank(rank, reversed, zero_output);
            let state = &states[states.len() - back].0[rank * row_stride(units)..][..units];
            (!blank).then_some(state)
        };
        match &top.layer {
            Layer::SimpleRnn(rnn) => {
                let to = &mut x.0[row * stride..][..rnn.units];
                copy_or_zero(to, last(1, rnn.units, reversed, rnn.zero_output_for_mask));
            }
            Layer::Bidirectional(both) => {
                let (units, zero) = (both.layer.units, false);
                let (forward, backward) = y.0[..2 * units].split_at_mut(units);
                copy_or_zero(forward, last(2, units, false, zero));
                copy_or_zero(backward, last(1, units, true, zero));
                if both.merge_mode == MergeMode::None {
                    // The last layer: straight to the output, one array behind the other.
                    output[row * units..][..units].copy_from_slice(forward);
                    output[(work.batch + row) * units..][..units].copy_from_slice(backward);
                } else {
                    merge(
                        both.merge_mode,
                        forward,
                        backward,
                        &mut x.0[row * stride..][..top.output.features],
                    );
                }
            }
            _ => {}
        }
    }
    if matches!(&top.layer, Layer::Bidirectional(both) if both.merge_mode == MergeMode::None) {
        return Ok(());
    }
    for layer in layers {
        if let Packed::Dense(dense) = &layer.packed {
            let input = Rows::Strided { values: &x.0, stride, count: work.batch };
            stride = row_stride(dense.kernel.columns());
            fully_connected(dense, input, work.batch, &mut y.0, stride);
            std::mem::swap(&mut x, &mut y);
        }
    }
    let columns = network.output.features;
    for (row, to) in output.chunks_exact_mut(columns).enumerate() {
        to.copy_from_slice(&x.0[row * stride..][..columns]);
    }
    Ok(())
}

fn copy_or_zero(to: &mut [f32], from: Option<&[f32]>) {
    match from {
        Some(from) => to.copy_from_slice(from),
        None => to.fill(0.0),
    }
}
