//! One call: rows shared out, stages one after another, outputs put where the caller wants them.

use std::sync::Arc;

use super::network::{Network, Stage};
use super::parallel::{self, Threads};
use super::pipeline::{self, Buffers, Chunk, Help, Map, SHARED_FROM, Source, fully_connected};
use super::scratch::{Buffer, Lane, Scratch, ScratchPool, Whole};
use super::work::{Bounds, Mask, Work};
use crate::error::{Error, Result};
use crate::gemm::Rows;
use crate::layers::{Bidirectional, BuiltLayer, Layer, MergeMode, Options, Packed};
use crate::memory::{List, row_stride};

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

/// The input of a call. Slices, arrays and vectors of `f32` or `i32` turn into it by themselves.
///
/// ```
/// use elman::{Embedding, Sequential, SimpleRnn};
///
/// # fn main() -> Result<(), elman::Error> {
/// let of_floats = Sequential::new(2).add(SimpleRnn::new(4)).build(1)?;
/// let of_tokens = Sequential::new(1).add(Embedding::new(10, 2)).add(SimpleRnn::new(4)).build(1)?;
/// assert_eq!(of_floats.predict(&[0.5, -0.5, 0.25, 1.0], 1, 2)?.len(), 4);
/// assert_eq!(of_tokens.predict(&[7, 2], 1, 2)?.len(), 4);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// `[batch, steps, features]`.
    Floats(&'a [f32]),
    /// Token ids `[batch, steps]`, for a model that begins with an embedding.
    Tokens(&'a [i32]),
}

macro_rules! into_input {
    ($($element:ty => $variant:ident),*) => {$(
        impl<'a> From<&'a [$element]> for Input<'a> {
            fn from(values: &'a [$element]) -> Self {
                Input::$variant(values)
            }
        }

        impl<'a, const N: usize> From<&'a [$element; N]> for Input<'a> {
            fn from(values: &'a [$element; N]) -> Self {
                Input::$variant(values)
            }
        }

        impl<'a> From<&'a Vec<$element>> for Input<'a> {
            fn from(values: &'a Vec<$element>) -> Self {
                Input::$variant(values)
            }
        }
    )*};
}
into_input!(f32 => Floats, i32 => Tokens);

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
    /// By recurrent direction, array by array, each `[batch, units]`.
    pub(crate) initial_state: Option<&'a [f32]>,
    /// As the initial states.
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
    /// What there is to read, checked against the network.
    pub(super) fn read(&self, network: &'a Network) -> Result<Given<'a>> {
        let (values, map) = values_of(network, self.input)?;
        // Without a recurrent layer nothing skips a step.
        if network.recurrent().next().is_none() {
            return Ok(Given { values, map, mask: Mask::default() });
        }
        let masking = network.layers.iter().find_map(|layer| match &layer.layer {
            Layer::Masking(masking) => Some((values, network.input.features, masking.mask_value)),
            _ => None,
        });
        let tokens = match self.input {
            Input::Tokens(ids) if network.embedding().is_some_and(|(layer, _)| layer.mask_zero) => Some(ids),
            Input::Tokens(_) | Input::Floats(_) => None,
        };
        let mask = Mask { given: self.mask, lengths: self.lengths, tokens, features: masking };
        Ok(Given { values, map, mask })
    }

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

/// What a call reads, checked: where its values lie, and which steps are used.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    values: &'a [f32],
    map: Map<'a>,
    pub(super) mask: Mask<'a>,
}

/// Some rows of a call, and room for all that is computed for them.
struct Part<'a> {
    given: Given<'a>,
    rows: std::ops::Range<usize>,
    output: &'a mut [f32],
    scratch: Box<Scratch>,
}

/// What all parts of a call have in common.
#[derive(Clone, Copy)]
struct Common<'a> {
    network: &'a Network,
    /// Rows of the whole batch.
    batch: usize,
    steps: usize,
    padding: Padding,
    /// Of the whole batch.
    initial_state: Option<&'a [f32]>,
}

/// Rows a thread below which a large layer's columns are shared rather than rows, and a part's rows cost more than
/// their share of all.
const ROWS_A_THREAD: usize = 8;

/// Carries out a call: room for all of its parts is taken first, and then nothing can fail, so a call that is
/// refused has written nothing.
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
    let common = Common { network, batch, steps, padding, initial_state };
    let row_len = output.len() / batch;
    let mut rest = output;
    let mut parts = (0..count).map(|i| {
        let rows = batch * i / count..batch * (i + 1) / count;
        let (mine, others) = std::mem::take(&mut rest).split_at_mut(rows.len() * row_len);
        rest = others;
        let given = inputs.of_rows(&rows, steps, network.input.features).read(network)?;
        let mut part = Part { given, rows, output: mine, scratch: pool.take() };
        let bounds = Bounds::new(part.rows.len(), steps, &part.given.mask);
        part.scratch.reserve(network, bounds, count == 1 && helpers > 1 && !shares_columns)?;
        Ok(part)
    });
    let mut final_state = final_state;
    let mut finish = |part: Part<'_>| {
        if let Some(states) = final_state.as_deref_mut() {
            collect_states(network, &part, batch, states);
        }
        pool.give(part.scratch);
    };
    if count > 1 {
        let mut parts = List::collected(parts)?;
        let run_part = |part: &mut Part<'_>| part.run(common, Help::Nobody);
        match &mut few_team {
            Some(team) => parallel::share_out(team, &mut parts, run_part),
            None => threads.for_each(work, &mut parts, run_part),
        }
        parts.into_iter().for_each(finish);
    } else if let Some(part) = parts.next() {
        // One part needs no list: such a call allocates nothing.
        let mut part = part?;
        let mut team = if shares_columns { threads.team(work) } else { None };
        let help = match &mut team {
            Some(team) => Help::Columns(team),
            None if helpers > 1 && !shares_columns => Help::Threads(threads, work),
            None => Help::Nobody,
        };
        part.run(common, help);
        finish(part);
    }
    Ok(())
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
    for ((_, rnn), state) in network.recurrent().zip(part.scratch.states.iter()) {
        let units = rnn.units();
        let stride = row_stride(units);
        for from in state.0.chunks(part.rows.len() * stride).take(rnn.states()) {
            for (rank, &row) in part.scratch.work.order.iter().enumerate() {
                let to = &mut states[base + (part.rows.start + row) * units..][..units];
                // In ONNX a row without steps has no final state.
                if part.scratch.work.lengths[rank] == 0 && part.scratch.work.padding == Padding::Onnx {
                    to.fill(0.0);
                } else {
                    to.copy_from_slice(&from[rank * stride..][..units]);
                }
            }
            base += batch * units;
        }
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

impl Scratch {
    /// Takes the room for a batch within `bounds`; `by_layers` where layers may run on different threads.
    fn reserve(&mut self, network: &Network, bounds: Bounds, by_layers: bool) -> Result<()> {
        let (there, was_by_layers) = self.ready;
        if there.cover(&bounds) && (was_by_layers || !by_layers) {
            return Ok(());
        }
        self.ready = Default::default();
        let Bounds { batch, steps, total, .. } = bounds;
        let positions = batch.saturating_mul(steps);
        self.work.reserve(&bounds)?;
        self.states.grow_with(network.recurrent().count(), Buffer::default)?;
        for ((_, rnn), state) in network.recurrent().zip(self.states.iter_mut()) {
            state.0.reserve_rows(batch.saturating_mul(rnn.states()), row_stride(rnn.units()))?;
        }
        for (i, stage) in network.stages.iter().enumerate() {
            let layers = &network.layers[stage.layers.clone()];
            let output = layers.last().map_or(network.input, |layer| layer.output);
            let is_last = i + 1 == network.stages.len() && !network.takes_last_step();
            // Stages write the two in turn.
            let whole = &mut self.wholes[(i + 1) % 2];
            if stage.both {
                for half in 0..2 {
                    pipeline::reserve(network, stage, Some(half), &mut self.lanes[half], &bounds, false)?;
                    if output.sequence {
                        let units = stage_width(network, stage, Some(half));
                        self.halves[half].reserve(total.saturating_add(1), positions, units)?;
                    }
                }
                if output.sequence && !is_last {
                    whole.reserve(positions, positions, output.features)?;
                }
            } else {
                pipeline::reserve(network, stage, None, &mut self.lanes[0], &bounds, by_layers)?;
                let widest = widest_row(layers);
                for buffer in &mut self.blank {
                    buffer.0.reserve_scratch(widest)?;
                }
                if output.sequence && !is_last {
                    whole.reserve(total.saturating_add(1), positions, output.features)?;
                }
            }
        }
        if !network.output.sequence {
            for buffer in &mut self.head {
                buffer.0.reserve_rows(batch, widest_of_head(network))?;
            }
        }
        self.ready = (bounds, by_layers);
        Ok(())
    }
}

impl Whole {
    fn reserve(&mut self, rows: usize, positions: usize, columns: usize) -> Result<()> {
        self.offsets.make_room(positions)?;
        self.values.0.reserve_rows(rows, row_stride(columns))
    }
}

/// Floats of the longest row that a stage's layers read or give.
fn widest_row(layers: &[Arc<BuiltLayer>]) -> usize {
    let features = layers.iter().flat_map(|layer| [layer.input.features, layer.output.features]);
    features.map(row_stride).max().unwrap_or(0)
}

/// Floats of a row of the head's buffers: the last states, or those of two halves, and what layers make of
/// them.
fn widest_of_head(network: &Network) -> usize {
    let top = network.layers[..network.head.start].last().map_or(0, |top| 2 * top.output.features);
    let layers = network.layers[network.head.clone()].iter().map(|layer| layer.output.features);
    layers.chain([top]).map(row_stride).max().unwrap_or(0)
}

/// One direction of a Bidirectional layer.
struct Half<'a> {
    half: usize,
    whole: &'a mut Whole,
    lane: &'a mut Lane,
    states: &'a mut [Buffer],
}

impl Part<'_> {
    /// Computes the part's rows.
    fn run(&mut self, common: Common<'_>, mut help: Help<'_>) {
        let Common { network, steps, padding, .. } = common;
        let rows = self.rows.len();
        self.scratch.work.arrange(rows, steps, self.given.mask, padding);
        self.begin_states(common);
        let Given { values, map, .. } = self.given;
        let Scratch { work, lanes, states, wholes, halves, blank, head, .. } = &mut *self.scratch;
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
            let is_last = i + 1 == network.stages.len() && !network.takes_last_step();
            let output = layers.last().map_or(network.input, |layer| layer.output);
            let stage_states = &mut states[state..];
            state += layers.iter().map(|layer| layer.packed.directions().count()).sum::<usize>();
            if let Some(both) = bidirectional(stage, layers) {
                run_halves(network, stage, source, work, (halves, lanes, stage_states), help.again());
                match (output.sequence, is_last) {
                    (true, true) => {
                        merge_to_output(
                            both.merge_mode,
                            halves,
                            both.layer.options().units,
                            work,
                            self.output,
                        );
                    }
                    (true, false) => {
                        merge_to_whole(both.merge_mode, halves, both.layer.options().units, work, after)
                    }
                    (false, _) => {}
                }
            } else {
                let blank_between = work.blank_between(stage.zero_output);
                let blank = blank_output(stage, layers, work, blank);
                let (columns, reversed) = (output.features, stage.reversed);
                let buffers = Buffers { lane: &mut lanes[0], states: stage_states, help: help.again() };
                let run = |sink: &mut (dyn FnMut(Chunk<'_>) + Send)| {
                    pipeline::run(network, stage, None, source, work, buffers, sink);
                };
                if !output.sequence {
                    run(&mut |_| {});
                } else if is_last {
                    let output = &mut *self.output;
                    let mut write = Write { work, output, columns, reversed, blank_between, blank };
                    write.lead();
                    run(&mut |chunk| write.take(chunk));
                } else {
                    let mut keep = Keep::new(after, work, columns, reversed, blank_between, Some(blank));
                    run(&mut |chunk| keep.take(chunk));
                }
            }
            std::mem::swap(&mut before, &mut after);
            fed_by_whole = true;
        }
        if !network.output.sequence {
            run_head(network, work, (states, before), head, self.output);
        }
    }

    /// The states before the first step, by rank.
    fn begin_states(&mut self, common: Common<'_>) {
        let Common { network, batch, initial_state, .. } = common;
        let Scratch { work, states, .. } = &mut *self.scratch;
        let mut base = 0;
        for ((_, rnn), state) in network.recurrent().zip(states.iter_mut()) {
            let (units, stride) = (rnn.units(), row_stride(rnn.units()));
            for to in state.0.chunks_mut(self.rows.len() * stride).take(rnn.states()) {
                match initial_state {
                    Some(given) => {
                        for (rank, &row) in work.order.iter().enumerate() {
                            to[rank * stride..][..units]
                                .copy_from_slice(&given[base + (self.rows.start + row) * units..][..units]);
                        }
                    }
                    None => to.fill(0.0),
                }
                base += batch * units;
            }
        }
    }
}

/// The layer of a stage that is a Bidirectional one.
fn bidirectional<'a>(stage: &Stage, layers: &'a [Arc<BuiltLayer>]) -> Option<&'a Bidirectional> {
    match &layers.first()?.layer {
        Layer::Bidirectional(both) if stage.both => Some(both),
        _ => None,
    }
}

/// Runs both directions of a Bidirectional layer, each into its own half where it gives a sequence.
fn run_halves(
    network: &Network,
    stage: &Stage,
    source: Source<'_>,
    work: &Work,
    (halves, lanes, states): (&mut [Whole; 2], &mut [Lane; 2], &mut [Buffer]),
    help: Help<'_>,
) {
    let (first, second) = states.split_at_mut(1);
    let ([whole_0, whole_1], [lane_0, lane_1]) = (halves.each_mut(), lanes.each_mut());
    let mut both = [
        Half { half: 0, whole: whole_0, lane: lane_0, states: first },
        Half { half: 1, whole: whole_1, lane: lane_1, states: &mut second[..1] },
    ];
    let sequence = network.layers[stage.layers.start].output.sequence;
    let blank_between = work.blank_between(stage.zero_output);
    let run_half = |it: &mut Half<'_>, help: Help<'_>| {
        let half = Some(it.half);
        let buffers = Buffers { lane: it.lane, states: it.states, help };
        if sequence {
            let width = stage_width(network, stage, half);
            let mut keep = Keep::new(it.whole, work, width, it.half == 1, blank_between, None);
            pipeline::run(network, stage, half, source, work, buffers, &mut |chunk| keep.take(chunk));
        } else {
            pipeline::run(network, stage, half, source, work, buffers, &mut |_| {});
        }
    };
    match help {
        Help::Threads(threads, work) => {
            threads.for_each(work, &mut both, |half| run_half(half, Help::Nobody));
        }
        mut help @ (Help::Nobody | Help::Columns(_)) => {
            both.iter_mut().for_each(|half| run_half(half, help.again()));
        }
    }
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
    stage: &Stage,
    layers: &[Arc<BuiltLayer>],
    work: &Work,
    blank: &'a mut [Buffer; 2],
) -> &'a [f32] {
    let recurrent = layers.iter().rposition(|layer| layer.packed.is_recurrent());
    blank.iter_mut().for_each(|buffer| buffer.0.fill(0.0));
    let [mut x, mut y] = blank.each_mut();
    if work.is_full() {
        return &x.0;
    }
    debug_assert!(!stage.both, "its blank rows are zeros");
    for layer in &layers[recurrent.map_or(0, |at| at + 1)..] {
        if let Some(dense) = layer.packed.row_wise() {
            let terms = dense.kernel.terms();
            let input = Rows::Strided { values: &x.0, stride: terms, count: 1 };
            fully_connected(dense, input, 1, &mut y.0, row_stride(dense.kernel.columns()));
            std::mem::swap(&mut x, &mut y);
        }
    }
    &x.0
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
    /// There is room for every row, and for a blank one (zeros unless given).
    fn new(
        whole: &'a mut Whole,
        work: &'a Work,
        columns: usize,
        reversed: bool,
        blank_between: bool,
        blank: Option<&[f32]>,
    ) -> Self {
        let stride = row_stride(columns);
        let total = work.total();
        whole.stride = stride;
        whole.offsets.clear();
        whole.offsets.resize(work.batch * work.steps, total * stride);
        let last = &mut whole.values.0[total * stride..][..columns];
        match blank {
            Some(blank) => last.copy_from_slice(&blank[..columns]),
            None => last.fill(0.0),
        }
        let (values, offsets) = (&mut whole.values.0[..], &mut whole.offsets[..]);
        Self { work, values, offsets, stride, columns, reversed, blank_between, used: 0 }
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

fn merge_to_whole(mode: MergeMode, halves: &[Whole; 2], units: usize, work: &Work, whole: &mut Whole) {
    let ends = &work.ends;
    let columns = if mode == MergeMode::Concat { 2 * units } else { units };
    whole.stride = row_stride(columns);
    whole.offsets.clear();
    for row in 0..work.batch {
        for time in 0..work.steps {
            let (forward, backward) = both_at(halves, units, work, row, ends, time);
            let to = (row * work.steps + time) * whole.stride;
            merge(mode, forward, backward, &mut whole.values.0[to..to + columns]);
            whole.offsets.push(to);
        }
    }
}

/// The layers above the last step: that of the last states, or of a whole sequence.
fn run_head(
    network: &Network,
    work: &Work,
    (states, whole): (&[Buffer], &Whole),
    head: &mut [Buffer; 2],
    output: &mut [f32],
) {
    let Some(top) = network.layers[..network.head.start].last() else { return };
    let layers = &network.layers[network.head.clone()];
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
            Layer::Recurrent(rnn) => {
                let &Options { units, zero_output_for_mask, .. } = rnn.options();
                let to = &mut x.0[row * stride..][..units];
                copy_or_zero(to, last(1, units, reversed, zero_output_for_mask));
            }
            Layer::Bidirectional(both) => {
                let (units, zero) = (both.layer.options().units, false);
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
            Layer::LastStep(_) => {
                let from = whole.offsets[row * work.steps + work.steps - 1];
                let features = top.output.features;
                x.0[row * stride..][..features].copy_from_slice(&whole.values.0[from..][..features]);
            }
            Layer::Embedding(_) | Layer::Masking(_) | Layer::Dense(_) | Layer::Dropout(_) => {
                unreachable!("these turn no sequence into its last step")
            }
        }
    }
    if matches!(&top.layer, Layer::Bidirectional(both) if both.merge_mode == MergeMode::None) {
        return;
    }
    for layer in layers {
        if let Some(dense) = layer.packed.row_wise() {
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
}

fn copy_or_zero(to: &mut [f32], from: Option<&[f32]>) {
    match from {
        Some(from) => to.copy_from_slice(from),
        None => to.fill(0.0),
    }
}
