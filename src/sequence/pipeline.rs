//! One stage: its layers run chunk by chunk, each right behind the one below.

use std::sync::Arc;

use super::network::{Network, Stage};
use super::parallel::{self, TeamGuard, Threads};
use super::schedule::{Bounds, StepSchedule};
use super::scratch::{Buffer, StageBuffers};
use super::walk::{Steps, recur};
use super::{cells, layered};
use crate::dispatch::{Function, KernelSet, kernels};
use crate::error::Result;
use crate::gemm::{Init, Rows, multiply};
use crate::layers::{Activation, BuiltLayer, Packed, PackedDense, PackedRnn};
use crate::memory::{AlignedVec, LINE, List, extent, row_stride};

/// What a chunk's buffers may take together, so that they stay in the second-level cache beside the weights.
const CHUNK_BYTES: usize = 512 << 10;
/// The same for a single row, which is a chain of steps and waits for every one of its reads: in the
/// first-level cache (one feature, 20 units: 44.5 ns a step for 45.0; with 256 rows so small a chunk costs 5
/// %).
const CHUNK_BYTES_OF_ONE: usize = 32 << 10;
/// Rows that a chunk should have at the least, so that fetching large weights pays.
const CHUNK_ROWS: usize = 256;

/// The same for gated layers, which write and read the gates of a chunk beside its rows.
const GATED_CHUNK_ROWS: usize = 64;

/// Columns of a first layer from which copying its input rows side by side pays: one copy against so many
/// columns of multiply-adds.
const GATHER_FROM: usize = 512;

/// Bytes of a recurrent kernel from which threads share its columns rather than rows, where rows are few:
/// half a second-level cache, beyond which one core fetches the kernel again on every step.
pub(super) const SHARED_FROM: usize = 1 << 20;

/// Where a stage reads its rows.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) values: &'a [f32],
    pub(super) steps: usize,
    pub(super) map: Map<'a>,
}

/// From a row and a time to an offset in the source's values.
#[derive(Clone, Copy)]
pub(super) enum Map<'a> {
    /// `[batch, steps, features]`.
    Features(usize),
    /// Rows of a table of so many columns, by token id.
    Tokens(&'a [i32], usize),
    /// By a list `[batch, steps]`.
    Offsets(&'a [usize]),
}

impl Source<'_> {
    #[inline]
    pub(super) fn offset(&self, row: usize, time: usize) -> usize {
        self.map.offset(row * self.steps + time)
    }
}

impl Map<'_> {
    /// Of a position `row · steps + time`.
    #[inline]
    pub(super) fn offset(&self, position: usize) -> usize {
        match *self {
            Map::Features(features) => position * features,
            // Ids were checked at the door.
            Map::Tokens(ids, size) => ids[position] as usize * size,
            Map::Offsets(offsets) => offsets[position],
        }
    }
}

/// A run of compact steps, and what a stage's last layer gave for them.
pub(super) struct Chunk<'a> {
    pub(super) first: usize,
    pub(super) counts: &'a [usize],
    /// `counts[0]` rows, then `counts[1]` rows, and so on.
    pub(super) rows: Rows<'a>,
}

/// What threads share of a stage.
pub(super) enum Parallelism<'a> {
    Serial,
    /// A team that shares the columns of large layers.
    Columns(&'a mut TeamGuard),
    /// Threads for the halves of a Bidirectional layer, or for layers on different chunks, at the same time;
    /// and the call's multiply-adds.
    Threads(&'a Threads, usize),
}

impl Parallelism<'_> {
    /// The same, for a while.
    pub(super) fn again(&mut self) -> Parallelism<'_> {
        match self {
            Parallelism::Serial => Parallelism::Serial,
            Parallelism::Columns(team) => Parallelism::Columns(team),
            Parallelism::Threads(threads, macs) => Parallelism::Threads(threads, *macs),
        }
    }
}

/// What a stage works in, and with.
pub(super) struct Means<'a> {
    pub(super) buffers: &'a mut StageBuffers,
    /// By recurrent direction, from the stage's first on: initial states on entry, last states on return, by
    /// rank.
    pub(super) states: &'a mut [Buffer],
    pub(super) parallelism: Parallelism<'a>,
}

/// A stage of a network; of a Bidirectional layer, one direction.
#[derive(Clone, Copy)]
pub(super) struct StageHalf<'a> {
    pub(super) network: &'a Network,
    pub(super) stage: &'a Stage,
    pub(super) half: Option<usize>,
}

/// Whether layers are worth running on different threads over `total` rows: several are recurrent, and there
/// is much to do.
fn runs_by_layers(layers: &[Arc<BuiltLayer>], half: Option<usize>, total: usize) -> bool {
    let kinds = layers.iter().map(|layer| LayerKind::of(&layer.packed, half));
    let recurrent = kinds.clone().filter(|kind| matches!(kind, LayerKind::Rnn(_))).count();
    let cost: usize = kinds.map(|kind| kind.cost()).sum();
    recurrent > 1 && cost.saturating_mul(total) >= layered::LAYERS_FROM
}

/// The rows of a chunk, at most, where a stage has `total` rows in all; it never falls as these numbers rise.
/// `by_layers`: where its layers run on different threads.
fn chunk_rows(layers: &[Arc<BuiltLayer>], batch: usize, total: usize, by_layers: bool) -> usize {
    let gated = layers.iter().any(|layer| layer.packed.directions().any(|rnn| rnn.gates() > 1));
    let least = if gated { GATED_CHUNK_ROWS } else { CHUNK_ROWS };
    let floats = |layer: &Arc<BuiltLayer>| {
        let gates = layer.packed.directions().map(|rnn| cells::gates_len(rnn, 1, 0)).max();
        row_stride(layer.output.features) + gates.unwrap_or(0)
    };
    let bytes: usize = layers.iter().map(|layer| floats(layer) * size_of::<f32>()).sum();
    let target = match by_layers {
        true => total / layered::CHUNKS,
        false if batch == 1 => (CHUNK_BYTES_OF_ONE / bytes.max(1)).max(least),
        false => (CHUNK_BYTES / bytes.max(1)).max(least),
    };
    target.min(total).max(batch)
}

/// Columns of the input rows that a stage copies side by side, where that pays.
fn gathered_columns(layers: &[Arc<BuiltLayer>], half: Option<usize>) -> Option<usize> {
    let first_kernel = layers.iter().find_map(|layer| match LayerKind::of(&layer.packed, half) {
        LayerKind::Rnn(rnn) => Some(&rnn.kernel),
        LayerKind::Dense(dense) => Some(&dense.kernel),
        LayerKind::Skip => None,
    });
    first_kernel.filter(|kernel| kernel.columns() >= GATHER_FROM).map(|kernel| kernel.depth())
}

/// Takes the room that [`run`] needs for a batch within `bounds`, whether or not other threads help.
pub(super) fn reserve(
    which: StageHalf<'_>,
    buffers: &mut StageBuffers,
    bounds: &Bounds,
    by_layers: bool,
) -> Result<()> {
    let StageHalf { network, stage, half } = which;
    let layers = &network.layers[stage.layers.clone()];
    let StageBuffers { chunks, gates, offsets, gathered, handed } = buffers;
    let &Bounds { batch, total, .. } = bounds;
    let by_layers = by_layers && runs_by_layers(layers, half, total);
    // Which of the two it will be is not known yet: others may have the team.
    let handed_rows = if by_layers { chunk_rows(layers, batch, total, true) } else { 0 };
    let most = chunk_rows(layers, batch, total, false).max(handed_rows);
    chunks.grow_with(network.layers.len(), Buffer::default)?;
    gates.grow_with(network.layers.len(), Buffer::default)?;
    if by_layers {
        handed.grow_with(layers.len(), Default::default)?;
    }
    let mut computing = 0;
    let buffers = chunks[stage.layers.clone()].iter_mut().zip(&mut gates[stage.layers.clone()]);
    for (layer, (chunk, gates)) in layers.iter().zip(buffers) {
        let kind = LayerKind::of(&layer.packed, half);
        let mut carried = 0;
        if let LayerKind::Rnn(rnn) = kind {
            carried = batch;
            gates.0.reserve_scratch(cells::gates_len(rnn, most, batch))?;
        }
        chunk.0.reserve_rows(carried.saturating_add(most), kind.stride())?;
        if by_layers && !matches!(kind, LayerKind::Skip) {
            for buffer in &mut handed[computing] {
                buffer.0.reserve_rows(handed_rows, kind.stride())?;
            }
            computing += 1;
        }
    }
    offsets.make_room(most)?;
    match gathered_columns(layers, half) {
        Some(columns) => gathered.0.reserve_rows(most, row_stride(columns)),
        None => Ok(()),
    }
}

/// Runs a stage over all steps, and hands every chunk of outputs to `sink`. There is [room](reserve) for it.
pub(super) fn run(
    which: StageHalf<'_>,
    source: Source<'_>,
    schedule: &StepSchedule,
    means: Means<'_>,
    sink: &mut (dyn FnMut(Chunk<'_>) + Send),
) {
    let StageHalf { network, stage, half } = which;
    let layers = &network.layers[stage.layers.clone()];
    let Means { buffers, states, parallelism } = means;
    let StageBuffers { chunks, gates, offsets, gathered, handed } = buffers;
    let chunks = &mut chunks[stage.layers.clone()];
    let gates = &mut gates[stage.layers.clone()];
    let total = schedule.total();
    let mut held = match &parallelism {
        &Parallelism::Threads(threads, macs) if runs_by_layers(layers, half, total) => {
            threads.team(macs).map(|team| (team, parallel::wake_timeout(macs)))
        }
        _ => None,
    };
    // Alone, small chunks are a loss; but as long as this call has the team, those that it woke stay for the
    // next.
    let team = held.as_mut().and_then(|(team, timeout)| (team.workers(*timeout) > 0).then_some(team));
    let most = chunk_rows(layers, schedule.batch, total, team.is_some());
    // Rows that lie a power of two apart compete for the same few cache ways, and each is read once for every
    // panel.
    let gather = gathered_columns(layers, half);
    let walk =
        ChunkWalk { source, schedule, reversed: half.map_or(stage.reversed, |half| half == 1), most, gather };
    if let Some(team) = team {
        let runs = layer_runs(layers, half, (chunks, gates), states).collect();
        return layered::run(team, &walk, runs, (offsets, gathered, handed), sink);
    }
    let mut columns = match parallelism {
        Parallelism::Columns(team) => Some(team),
        Parallelism::Serial | Parallelism::Threads(..) => None,
    };
    let mut first = 0;
    while let Some(steps) = walk.steps_from(first) {
        let mut input = walk.input(&steps, offsets, gathered);
        for run in layer_runs(layers, half, (chunks, gates), states) {
            input = run.run(&walk, &steps, input, columns.as_deref_mut());
        }
        sink(Chunk { first, counts: steps.counts, rows: input });
        first += steps.counts.len();
    }
}

/// The layers that compute, with their buffers.
fn layer_runs<'a>(
    layers: &'a [Arc<BuiltLayer>],
    half: Option<usize>,
    (chunks, gates): (&'a mut [Buffer], &'a mut [Buffer]),
    states: &'a mut [Buffer],
) -> impl Iterator<Item = LayerRun<'a>> {
    let mut states = states.iter_mut();
    layers.iter().zip(chunks.iter_mut().zip(gates)).filter_map(move |(layer, (buffer, gates))| {
        let kind = LayerKind::of(&layer.packed, half);
        let state = match kind {
            LayerKind::Skip => return None,
            LayerKind::Dense(_) => None,
            LayerKind::Rnn(_) => states.next().map(|state| &mut state.0),
        };
        Some(LayerRun { kind, buffer: &mut buffer.0, gates: &mut gates.0, state })
    })
}

/// The way over a stage's chunks.
pub(super) struct ChunkWalk<'a> {
    source: Source<'a>,
    schedule: &'a StepSchedule,
    reversed: bool,
    /// Rows of a chunk, at most.
    most: usize,
    /// Floats of an input row, where rows are copied side by side.
    gather: Option<usize>,
}

/// Some compact steps.
pub(super) struct ChunkSteps<'a> {
    pub(super) first: usize,
    pub(super) counts: &'a [usize],
    pub(super) rows: usize,
    /// Rows of the step behind.
    after: usize,
}

impl<'a> ChunkWalk<'a> {
    /// The chunk that begins with compact step `first`.
    pub(super) fn steps_from(&self, first: usize) -> Option<ChunkSteps<'a>> {
        let counts = self.schedule.counts.get(first..).filter(|counts| !counts.is_empty())?;
        let mut rows = 0;
        let fitting = counts.iter().take_while(|&&count| {
            rows += count;
            rows <= self.most
        });
        let (counts, behind) = counts.split_at(fitting.count().max(1));
        let after = behind.first().copied().unwrap_or(0);
        Some(ChunkSteps { first, counts, rows: counts.iter().sum(), after })
    }

    /// The rows that the first layer reads.
    pub(super) fn input<'b>(
        &self,
        steps: &ChunkSteps<'_>,
        offsets: &'b mut List<usize>,
        gathered: &'b mut Buffer,
    ) -> Rows<'b>
    where
        'a: 'b,
    {
        let Self { source, schedule, reversed, .. } = *self;
        offsets.clear();
        for (step, &count) in steps.counts.iter().enumerate() {
            let offset = |rank: usize| {
                source.offset(schedule.order[rank], schedule.time(rank, steps.first + step, reversed))
            };
            offsets.extend((0..count).map(offset));
        }
        let Some(columns) = self.gather else { return Rows::Scattered { values: source.values, offsets } };
        let stride = row_stride(columns);
        for (to, &from) in gathered.0.chunks_exact_mut(stride).zip(offsets.iter()) {
            to[..columns].copy_from_slice(&source.values[from..from + columns]);
        }
        Rows::Strided { values: &gathered.0, stride, count: steps.rows }
    }
}

/// A layer and its buffers.
pub(super) struct LayerRun<'a> {
    pub(super) kind: LayerKind<'a>,
    pub(super) buffer: &'a mut AlignedVec,
    /// Of a gated layer: what it works in beside its rows.
    pub(super) gates: &'a mut AlignedVec,
    /// Of a recurrent layer, its states one array behind the other, each by rank: before the first step, then
    /// the last ones.
    pub(super) state: Option<&'a mut AlignedVec>,
}

impl<'a> LayerRun<'a> {
    /// The same, for a while.
    pub(super) fn again(&mut self) -> LayerRun<'_> {
        LayerRun {
            kind: self.kind,
            buffer: &mut *self.buffer,
            gates: &mut *self.gates,
            state: self.state.as_deref_mut(),
        }
    }

    /// Carries the layer over a chunk, and gives its rows.
    pub(super) fn run(
        self,
        walk: &ChunkWalk<'_>,
        steps: &ChunkSteps<'_>,
        input: Rows<'_>,
        team: Option<&mut TeamGuard>,
    ) -> Rows<'a> {
        let ChunkSteps { first, counts, rows, after } = *steps;
        let Self { kind, buffer, gates, state } = self;
        match (kind, state) {
            (LayerKind::Rnn(rnn), Some(state)) => {
                let stride = row_stride(rnn.units());
                let carried = walk.schedule.batch;
                let (state, cell_states) = state.split_at_mut(carried * stride);
                if first == 0 {
                    buffer[..carried * stride].copy_from_slice(state);
                }
                let chunk = cells::Chunk { rows: buffer, carried, gates, cell_states };
                let team = team.filter(|_| rnn.recurrent.bytes() >= SHARED_FROM);
                cells::carry(rnn, input, chunk, Steps { counts, first }, team);
                let (before, sums) = buffer.split_at_mut(carried * stride);
                keep_last(sums, stride, counts, after, state);
                let from = (rows - counts[counts.len() - 1]) * stride;
                before[..after * stride].copy_from_slice(&sums[from..][..after * stride]);
                Rows::Strided { values: sums, stride, count: rows }
            }
            (LayerKind::Dense(dense), _) => {
                let stride = row_stride(dense.kernel.columns());
                fully_connected(dense, input, rows, buffer, stride);
                Rows::Strided { values: buffer, stride, count: rows }
            }
            _ => unreachable!("a run is of a layer that computes"),
        }
    }
}

/// How a layer takes part in a stage.
#[derive(Clone, Copy)]
pub(super) enum LayerKind<'a> {
    Rnn(&'a PackedRnn),
    Dense(&'a PackedDense),
    Skip,
}

impl<'a> LayerKind<'a> {
    /// `half` is the direction of a Bidirectional layer.
    fn of(packed: &'a Packed, half: Option<usize>) -> Self {
        match (packed, half) {
            (Packed::Rnn(rnn), _) => LayerKind::Rnn(rnn),
            (Packed::Both(both), Some(half)) => LayerKind::Rnn(&both[half]),
            (Packed::Dense(dense), _) => LayerKind::Dense(dense),
            // A Bidirectional layer is a stage of its own, run half by half.
            (Packed::Plain, _) | (Packed::Both(_), None) => LayerKind::Skip,
        }
    }

    /// Floats from row to row of what the layer gives.
    pub(super) fn stride(&self) -> usize {
        match self {
            LayerKind::Rnn(rnn) => row_stride(rnn.units()),
            LayerKind::Dense(dense) => row_stride(dense.kernel.columns()),
            LayerKind::Skip => 0,
        }
    }

    /// Multiply-adds a row.
    pub(super) fn cost(&self) -> usize {
        match self {
            LayerKind::Rnn(rnn) => rnn.macs(),
            LayerKind::Dense(dense) => dense.kernel.depth() * dense.kernel.columns(),
            LayerKind::Skip => 0,
        }
    }
}

/// Copies the states of the rows that end inside the chunk; `after` rows go on behind it.
pub(super) fn keep_last(sums: &[f32], stride: usize, counts: &[usize], after: usize, state: &mut [f32]) {
    let mut slot = 0;
    for (step, &count) in counts.iter().enumerate() {
        let going_on = counts.get(step + 1).copied().unwrap_or(after);
        state[going_on * stride..count * stride]
            .copy_from_slice(&sums[slot + going_on * stride..slot + count * stride]);
        slot += count * stride;
    }
}

/// `act(x·W + b)` for `count` rows.
pub(super) fn fully_connected(dense: &PackedDense, x: Rows<'_>, count: usize, y: &mut [f32], stride: usize) {
    multiply(x, &dense.kernel, Init::Bias(&dense.bias), y, stride);
    let columns = dense.kernel.columns();
    match dense.function {
        Some(function) => apply(dense.kernel.kernels(), function, y, count, columns, stride),
        None => {
            for row in y.chunks_mut(stride).take(count) {
                softmax(dense.kernel.kernels(), row, columns);
            }
        }
    }
}

/// `exp(x - max) / sum`; the sum is taken column by column, so that it does not depend on the vector's width.
fn softmax(kernels: &KernelSet, row: &mut [f32], columns: usize) {
    let most = row[..columns].iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row[..columns].iter_mut().for_each(|x| *x -= most);
    apply(kernels, Function::Exp, row, 1, columns, row.len());
    let sum: f32 = row[..columns].iter().sum();
    row[..columns].iter_mut().for_each(|x| *x /= sum);
}

fn apply(
    kernels: &KernelSet,
    function: Function,
    y: &mut [f32],
    count: usize,
    columns: usize,
    stride: usize,
) {
    let padded = columns.next_multiple_of(kernels.lanes);
    assert!(padded <= stride && extent(count, stride, padded) <= y.len(), "rows too short");
    // SAFETY: the assert; the kernels are this process's.
    unsafe { (kernels.apply)(function, y.as_mut_ptr(), count, columns, stride) }
}

/// Applies `activation` to `values` in place: element by element, softmax to all of them as one row. These
/// are the functions, and the bits, that the layers use (a layer's stored state is besides zero below
/// 2^-100).
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) when `ELMAN_ISA` cannot be carried out;
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory), of softmax alone.
pub fn activate(activation: Activation, values: &mut [f32]) -> Result<()> {
    let kernels = kernels()?;
    let Some(function) = activation.function() else {
        let columns = values.len();
        let mut row = AlignedVec::zeroed(row_stride(columns))?;
        row[..columns].copy_from_slice(values);
        softmax(kernels, &mut row, columns);
        values.copy_from_slice(&row[..columns]);
        return Ok(());
    };
    let (whole, rest) = values.split_at_mut(values.len() / kernels.lanes * kernels.lanes);
    apply(kernels, function, whole, 1, whole.len(), whole.len());
    let mut last = [0.0; LINE];
    last[..rest.len()].copy_from_slice(rest);
    apply(kernels, function, &mut last, 1, rest.len(), LINE);
    rest.copy_from_slice(&last[..rest.len()]);
    Ok(())
}

/// One step of one layer for `batch` rows: `next = act(x·W + b + h·U)`, every array without gaps between its
/// rows. `next` must have whole vectors: `units` a multiple of a vector.
pub(crate) fn step(rnn: &PackedRnn, x: &[f32], h: &[f32], batch: usize, next: &mut [f32]) {
    let (features, units) = (rnn.kernel.depth(), rnn.units());
    let x = Rows::Strided { values: x, stride: features, count: batch };
    multiply(x, &rnn.kernel, Init::Bias(&rnn.bias), next, units);
    recur(&rnn.recurrent, rnn.function(), h, next, batch, units);
}

/// [`step`] for any number of units and in place: `rows` is scratch of `2 · batch · stride` floats, which
/// begins with the states, `stride` apart, and ends with the next ones.
pub(crate) fn step_padded(rnn: &PackedRnn, x: &[f32], batch: usize, rows: &mut [f32], stride: usize) {
    let (before, next) = rows.split_at_mut(batch * stride);
    let x = Rows::Strided { values: x, stride: rnn.kernel.depth(), count: batch };
    multiply(x, &rnn.kernel, Init::Bias(&rnn.bias), next, stride);
    recur(&rnn.recurrent, rnn.function(), before, next, batch, stride);
}
