//! One stage: its layers run chunk by chunk, each right behind the one below.

use super::network::{Network, Stage};
use super::scratch::Buffer;
use super::team::{self, Held};
use super::work::Work;
use super::{looped, unrolled};
use crate::dispatch::{Function, KernelSet, kernels};
use crate::error::Result;
use crate::gemm::{Init, Rows, multiply, recur};
use crate::layers::{Activation, Packed, PackedDense, PackedRnn};
use crate::memory::{AlignedVec, LINE, row_stride};

/// What a chunk's buffers may take together, so that they stay in the second-level cache beside the weights.
const CHUNK_BYTES: usize = 512 << 10;
/// Rows that a chunk should have at the least, so that fetching large weights pays.
const CHUNK_ROWS: usize = 256;

/// Columns of a first layer from which copying its input rows side by side pays: one copy against so many columns of
/// multiply-adds.
const GATHER_FROM: usize = 512;

/// Bytes of a recurrent kernel from which threads share its columns rather than rows, where rows are few: half a
/// second-level cache, beyond which one core fetches the kernel again on every step.
pub(super) const SHARED_FROM: usize = 1 << 20;

/// Where a stage reads its rows.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) values: &'a [f32],
    pub(super) steps: usize,
    pub(super) map: Map<'a>,
}

/// From a row and a time to a place in the source's values.
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
        let at = row * self.steps + time;
        match self.map {
            Map::Features(features) => at * features,
            // Ids were checked at the door.
            Map::Tokens(ids, size) => ids[at] as usize * size,
            Map::Offsets(offsets) => offsets[at],
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

/// The buffers that a stage works in.
pub(super) struct Buffers<'a> {
    /// By layer of the network.
    pub(super) chunks: &'a mut [Buffer],
    /// By recurrent direction, from the stage's first on: initial states on entry, last states on return, by rank.
    pub(super) states: &'a mut [Buffer],
    pub(super) offsets: &'a mut Vec<usize>,
    pub(super) gathered: &'a mut Buffer,
    /// Threads that share the columns of large layers.
    pub(super) team: Option<&'a Held<'a>>,
}

/// Runs a stage over all steps, `half` saying which direction where it is a Bidirectional layer, and hands every
/// chunk of outputs to `sink`.
pub(super) fn run(
    network: &Network,
    stage: &Stage,
    half: Option<usize>,
    source: Source<'_>,
    work: &Work,
    buffers: Buffers<'_>,
    mut sink: impl FnMut(Chunk<'_>),
) -> Result<()> {
    let layers = &network.layers[stage.layers.clone()];
    let Buffers { chunks, states, offsets, gathered, team } = buffers;
    let chunks = &mut chunks[stage.layers.clone()];
    let reversed = half.map_or(stage.reversed, |half| half == 1);
    let bytes: usize = layers.iter().map(|layer| row_stride(layer.output.features) * size_of::<f32>()).sum();
    let target = (CHUNK_BYTES / bytes.max(1)).max(CHUNK_ROWS);
    let most = target.min(work.total()).max(work.batch);
    for (layer, chunk) in layers.iter().zip(chunks.iter_mut()) {
        let (stride, carried) = match Step::of(&layer.packed, half) {
            Step::Rnn(rnn) => (row_stride(rnn.units()), work.batch),
            Step::Dense(dense) => (row_stride(dense.kernel.columns()), 0),
            Step::Skip => continue,
        };
        chunk.0.reserve_scratch((carried + most) * stride)?;
    }
    // Rows that lie a power of two apart compete for the same few cache ways, and each is read once for every panel.
    let first_kernel = layers.iter().find_map(|layer| match Step::of(&layer.packed, half) {
        Step::Rnn(rnn) => Some(&rnn.kernel),
        Step::Dense(dense) => Some(&dense.kernel),
        Step::Skip => None,
    });
    let gather = first_kernel.filter(|kernel| kernel.columns() >= GATHER_FROM).map(|kernel| kernel.terms());
    if let Some(columns) = gather {
        gathered.0.reserve_scratch(most * row_stride(columns))?;
    }
    let mut first = 0;
    while first < work.counts.len() {
        let mut rows = 0;
        let counts = &work.counts[first..];
        let fitting = counts.iter().take_while(|&&count| {
            rows += count;
            rows <= most
        });
        let counts = &counts[..fitting.count().max(1)];
        let rows: usize = counts.iter().sum();
        let last = first + counts.len() == work.counts.len();
        offsets.clear();
        for (step, &count) in counts.iter().enumerate() {
            let place =
                |rank: usize| source.offset(work.order[rank], work.time(rank, first + step, reversed));
            offsets.extend((0..count).map(place));
        }
        let mut input = Rows::Scattered { values: source.values, offsets };
        if let Some(columns) = gather {
            let stride = row_stride(columns);
            for (to, &from) in gathered.0.chunks_exact_mut(stride).zip(offsets.iter()) {
                to[..columns].copy_from_slice(&source.values[from..from + columns]);
            }
            input = Rows::Strided { values: &gathered.0, stride, count: rows };
        }
        let mut recurrent = 0;
        let mut rest = &mut chunks[..];
        for layer in layers {
            let Some((buffer, others)) = rest.split_first_mut() else { break };
            rest = others;
            match Step::of(&layer.packed, half) {
                Step::Rnn(rnn) => {
                    let stride = row_stride(rnn.units());
                    let carried = work.batch;
                    let state = &mut states[recurrent].0;
                    recurrent += 1;
                    let (before, sums) = buffer.0.split_at_mut(carried * stride);
                    if first == 0 {
                        before.copy_from_slice(&state[..carried * stride]);
                    }
                    let init = Init::Bias(&rnn.bias);
                    match team.filter(|_| rnn.recurrent.bytes() >= SHARED_FROM) {
                        Some(team) => {
                            team::multiply(team, input, rows, &rnn.kernel, init, sums, stride);
                            team::steps(team, rnn, &mut buffer.0, stride, carried, counts, first);
                        }
                        None => {
                            multiply(input, &rnn.kernel, init, sums, stride);
                            let drive = if rnn.unrolled { unrolled::run } else { looped::run };
                            drive(rnn, &mut buffer.0, stride, carried, counts, first);
                        }
                    }
                    let (before, sums) = buffer.0.split_at_mut(carried * stride);
                    let after = work.counts.get(first + counts.len()).copied().unwrap_or(0);
                    keep_last(sums, stride, counts, after, state);
                    if !last {
                        let from = (rows - counts[counts.len() - 1]) * stride;
                        before[..after * stride].copy_from_slice(&sums[from..][..after * stride]);
                    }
                    input = Rows::Strided { values: sums, stride, count: rows };
                }
                Step::Dense(dense) => {
                    let stride = row_stride(dense.kernel.columns());
                    fully_connected(dense, input, rows, &mut buffer.0, stride);
                    input = Rows::Strided { values: &buffer.0, stride, count: rows };
                }
                Step::Skip => {}
            }
        }
        sink(Chunk { first, counts, rows: input });
        first += counts.len();
    }
    Ok(())
}

enum Step<'a> {
    Rnn(&'a PackedRnn),
    Dense(&'a PackedDense),
    Skip,
}

impl<'a> Step<'a> {
    /// How a layer takes part in a stage; `half` is the direction of a Bidirectional layer.
    fn of(packed: &'a Packed, half: Option<usize>) -> Self {
        match (packed, half) {
            (Packed::Rnn(rnn), _) => Step::Rnn(rnn),
            (Packed::Both(both), Some(half)) => Step::Rnn(&both[half]),
            (Packed::Dense(dense), _) => Step::Dense(dense),
            (Packed::Plain | Packed::Both(_), _) => Step::Skip,
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
    assert!(count == 0 || (padded <= stride && (count - 1) * stride + padded <= y.len()), "rows too short");
    // SAFETY: the assert; the kernels are this process's.
    unsafe { (kernels.apply)(function, y.as_mut_ptr(), count, columns, stride) }
}

/// Applies `activation` to `values` in place: element by element, softmax to all of them as one row. These are the
/// functions, and the bits, that the layers use (a layer's stored state is besides zero below 2^-100).
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) when `ELMAN_ISA` cannot be carried out.
pub fn activate(activation: Activation, values: &mut [f32]) -> Result<()> {
    let kernels = kernels()?;
    let function = match activation {
        Activation::Linear => Function::Linear,
        Activation::Tanh => Function::Tanh,
        Activation::Relu => Function::Relu,
        Activation::Sigmoid => Function::Sigmoid,
        Activation::Softmax => {
            let columns = values.len();
            let mut row = AlignedVec::zeroed(row_stride(columns))?;
            row[..columns].copy_from_slice(values);
            softmax(kernels, &mut row, columns);
            values.copy_from_slice(&row[..columns]);
            return Ok(());
        }
    };
    let (whole, rest) = values.split_at_mut(values.len() / kernels.lanes * kernels.lanes);
    apply(kernels, function, whole, 1, whole.len(), whole.len());
    let mut last = [0.0; LINE];
    last[..rest.len()].copy_from_slice(rest);
    apply(kernels, function, &mut last, 1, rest.len(), LINE);
    rest.copy_from_slice(&last[..rest.len()]);
    Ok(())
}

/// One step of one layer for `batch` rows: `next = act(x·W + b + h·U)`, every array without gaps between its rows.
/// `next` must have whole vectors: `units` a multiple of [`lanes`].
pub(crate) fn step(rnn: &PackedRnn, x: &[f32], h: &[f32], batch: usize, next: &mut [f32]) {
    let (features, units) = (rnn.kernel.terms(), rnn.units());
    let x = Rows::Strided { values: x, stride: features, count: batch };
    multiply(x, &rnn.kernel, Init::Bias(&rnn.bias), next, units);
    recur(&rnn.recurrent, rnn.function, h, next, batch, units);
}

/// [`step`] for any number of units and in place: `rows` is scratch of `2 · batch · stride` floats, which begins with
/// the states, `stride` apart, and ends with the next ones.
pub(crate) fn step_padded(rnn: &PackedRnn, x: &[f32], batch: usize, rows: &mut [f32], stride: usize) {
    let (before, next) = rows.split_at_mut(batch * stride);
    let x = Rows::Strided { values: x, stride: rnn.kernel.terms(), count: batch };
    multiply(x, &rnn.kernel, Init::Bias(&rnn.bias), next, stride);
    recur(&rnn.recurrent, rnn.function, before, next, batch, stride);
}
