//! A stream: the states of some rows, kept from call to call, and the memory to go on from them.
//!
//! A stream walks the layers as a [`pipeline`](super::pipeline) does, in chunks of a few steps, and its memory is cut up
//! once, when it is made: nothing is allocated, locked or asked of the system afterwards. Each recurrent layer's buffer
//! begins with the states of all rows, in the order of the batch. A step of one row has a way of its own, [`Single`].
//!
//! # Masked steps
//! A masked step repeats the output before it, and that is always what the layers above the last recurrent one make of
//! its state: a row that has seen no step has zeros for both. So the states are all there is to keep. The repeated row
//! is held besides, so that repeating is a copy.

use std::sync::Arc;

use super::cells;
use super::input::Input;
use super::network::Network;
use super::pipeline::{fully_connected, keep_last};
use super::single::{Single, Slot};
use super::walk::Steps;
use super::work::Mask;
use crate::error::{Error, Result};
use crate::gemm::Rows;
use crate::layers::{BuiltLayer, Layer, Packed, PackedDense, PackedRnn};
use crate::memory::{Aligned, checked_product, row_stride};

/// Rows that a chunk has at the most, where the batch is not larger: enough for full tiles, and little memory for a
/// server that keeps thousands of streams.
const CHUNK_ROWS: usize = 32;

/// How a stream's memory is cut up, and what must be known of the network at every call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    batch: usize,
    /// Steps of a chunk.
    chunk: usize,
    /// Floats that a row of the input has, or 0 where it is a token.
    features: usize,
    /// Floats of an output row.
    columns: usize,
    /// Whether there is an output for every step.
    sequence: bool,
    /// Whether steps can be masked.
    masks: bool,
    /// Whether masked steps emit zeros.
    zero_output: bool,
    /// Floats of the layers' buffers; behind them the head's, and those of masks.
    body: usize,
    head: usize,
    floats: usize,
    indices: usize,
    /// Of the list of a single step.
    slots: usize,
}

/// The memory of a stream.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) floats: Aligned<f32>,
    pub(crate) indices: Aligned<usize>,
    pub(crate) slots: Aligned<Slot>,
}

/// States kept between calls.
#[derive(Debug)]
pub(crate) struct Streaming {
    network: Arc<Network>,
    plan: Plan,
    memory: Memory,
    /// One step of one row, where it has a list: of kernels' calls with addresses in `memory` and `network`.
    single: Option<Single>,
    /// Whether the next step has an odd number: large weights are walked forwards and backwards in turn.
    odd: bool,
}

impl Plan {
    /// # Errors
    /// [`Error::Unsupported`] for a layer that needs the future, [`Error::InvalidArgument`] for a batch of 0 or one that
    /// overflows.
    pub(crate) fn new(network: &Network, batch: usize) -> Result<Self> {
        if batch == 0 {
            return Err(Error::InvalidArgument("batch must be at least 1, got 0".into()));
        }
        for (i, layer) in network.layers.iter().enumerate() {
            match &layer.layer {
                Layer::Bidirectional(_) => {
                    return Err(Error::Unsupported(format!(
                        "layer {i} is bidirectional: it needs the end of a sequence, and a stream has none"
                    )));
                }
                Layer::Recurrent(rnn) if rnn.options().go_backwards => {
                    return Err(Error::Unsupported(format!(
                        "layer {i} has go_backwards: it begins at the end of a sequence, and a stream has none"
                    )));
                }
                Layer::LastStep(_) => {
                    return Err(Error::Unsupported(format!(
                        "layer {i} (last_step) takes the last step of a sequence, and a stream has no end"
                    )));
                }
                Layer::Recurrent(_)
                | Layer::Embedding(_)
                | Layer::Masking(_)
                | Layer::Dense(_)
                | Layer::Dropout(_) => {}
            }
        }
        let recurrent = network.recurrent().next().is_some();
        let masking = network.layers.iter().any(|layer| matches!(layer.layer, Layer::Masking(_)));
        let embedding = network.embedding();
        let masks = recurrent && (masking || embedding.is_some_and(|(layer, _)| layer.mask_zero));
        let chunk = (CHUNK_ROWS / batch).max(1);
        let sum = |sizes: &[Option<usize>]| {
            let all = sizes.iter().try_fold(0_usize, |all, size| all.checked_add((*size)?));
            all.filter(|&all| all <= isize::MAX as usize / size_of::<usize>())
                .ok_or_else(|| Error::InvalidArgument(format!("a stream of {batch} rows: size overflows")))
        };
        let most = checked_product("rows of a chunk", &[batch, chunk])?;
        let mut body = 0;
        for layer in &network.layers[..network.head.start] {
            let stride = row_stride(layer.output.features);
            body = match &layer.packed {
                Packed::Rnn(rnn) => {
                    let states = batch.checked_mul(rnn.states()).and_then(|rows| rows.checked_add(most));
                    let gates = cells::gates_len(rnn, most, batch);
                    sum(&[Some(body), states.and_then(|rows| rows.checked_mul(stride)), Some(gates)])?
                }
                Packed::Dense(_) => sum(&[Some(body), most.checked_mul(stride)])?,
                Packed::Plain | Packed::Both(_) => body,
            };
        }
        let mut head = 0;
        for layer in &network.layers[network.head.clone()] {
            head = sum(&[Some(head), batch.checked_mul(row_stride(layer.output.features))])?;
        }
        let last = network.output.features;
        let widest = network.recurrent().map(|(_, rnn)| row_stride(rnn.units())).max().unwrap_or(0);
        // What a masked step repeats, by row and for a row of zeros; states on their way to and from their ranks.
        let repeated = batch.checked_add(1).and_then(|rows| rows.checked_mul(row_stride(last)));
        let aside = batch.checked_mul(widest);
        let of_masks = if masks { sum(&[repeated, aside])? } else { 0 };
        let ordering = batch.checked_mul(3).and_then(|rows| rows.checked_add(chunk + most));
        let ordering = if masks { ordering } else { Some(0) };
        let mut plan = Self {
            batch,
            chunk,
            features: if embedding.is_some() { 0 } else { network.input.features },
            columns: last,
            sequence: network.output.sequence,
            masks,
            zero_output: network.stages.last().is_some_and(|stage| stage.zero_output),
            body,
            head,
            floats: sum(&[Some(body), Some(head), Some(of_masks)])?,
            indices: sum(&[Some(chunk), Some(most), ordering])?,
            slots: 0,
        };
        plan.slots = Single::count(network, &plan);
        Ok(plan)
    }

    /// Floats of memory: whole cache lines.
    pub(crate) fn floats(&self) -> usize {
        self.floats
    }

    /// Indices of memory.
    pub(crate) fn indices(&self) -> usize {
        self.indices
    }

    /// Slots of memory.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// Whether a step is one row of floats, none of which can be masked.
    pub(super) fn is_single(&self) -> bool {
        self.batch == 1 && !self.masks && self.features > 0
    }

    /// Where the floats of the head's layers begin.
    pub(super) fn head_start(&self) -> usize {
        self.body
    }
}

impl Memory {
    /// Memory of its own for `plan`.
    pub(crate) fn new(plan: &Plan) -> Result<Self> {
        Ok(Self {
            floats: Aligned::zeroed(plan.floats)?,
            indices: Aligned::zeroed(plan.indices)?,
            slots: Aligned::zeroed(plan.slots)?,
        })
    }
}

/// The index arrays of a stream, cut from its memory.
struct Indices<'a> {
    /// The batch, for each step of a chunk: the counts of a chunk without masked steps.
    full: &'a [usize],
    /// Where the rows of a chunk begin in the input.
    offsets: &'a mut [usize],
    /// Those of masks; empty without.
    ordering: &'a mut [usize],
}

/// A chunk of a call's steps.
#[derive(Clone, Copy)]
struct Span {
    first: usize,
    count: usize,
    /// Of the whole call.
    steps: usize,
}

/// A call's input: the values that rows are read from, and the tokens that choose them.
#[derive(Clone, Copy)]
struct Source<'a> {
    values: &'a [f32],
    /// Ids, and the columns of the table.
    tokens: Option<(&'a [i32], usize)>,
    mask: Mask<'a>,
}

impl Streaming {
    /// A stream at its beginning, in memory of `plan`'s sizes.
    pub(crate) fn new(network: Arc<Network>, plan: Plan, memory: Memory) -> Self {
        let mut memory = memory;
        assert!(
            memory.floats.len() >= plan.floats
                && memory.indices.len() >= plan.indices
                && memory.slots.len() >= plan.slots,
            "the plan asks for more"
        );
        let floats = memory.floats.start().as_ptr();
        let listed = plan.slots > 0;
        let single = if listed { Single::new(&network, &plan, floats, &mut memory.slots) } else { None };
        let mut streaming = Self { network, plan, memory, single, odd: false };
        streaming.memory.indices[..plan.chunk].fill(plan.batch);
        if plan.masks {
            // The row of zeros: what the layers above the last recurrent one make of a state of zeros.
            streaming.repeat_states(0..plan.batch);
            let (_, rows) = repeated(&plan, &mut streaming.memory.floats);
            rows.copy_within(..row_stride(plan.columns), plan.batch * row_stride(plan.columns));
        }
        streaming
    }

    /// Whether a step of one row has a list.
    #[cfg(test)]
    pub(crate) fn lists_steps(&self) -> bool {
        self.single.is_some()
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    pub(crate) fn batch(&self) -> usize {
        self.plan.batch
    }

    /// Floats of output for `steps` steps.
    pub(crate) fn output_len(&self, steps: usize) -> Result<usize> {
        let steps = if self.plan.sequence { steps } else { 1 };
        checked_product("output", &[self.plan.batch, steps, self.plan.columns])
    }

    /// Puts rows back to their beginning.
    pub(crate) fn reset(&mut self, rows: std::ops::Range<usize>) {
        for (units, at) in states(&self.network, self.plan) {
            let stride = row_stride(units);
            self.memory.floats[at + rows.start * stride..at + rows.end * stride].fill(0.0);
        }
        if self.plan.masks && self.plan.sequence {
            let columns = row_stride(self.plan.columns);
            let zeros = self.plan.batch * columns;
            let (_, repeated) = repeated(&self.plan, &mut self.memory.floats);
            for row in rows {
                repeated.copy_within(zeros..zeros + columns, row * columns);
            }
        }
    }

    /// Copies the states out: by recurrent layer, array by array, each `[batch, units]`.
    pub(crate) fn get(&self, out: &mut [f32]) {
        let mut out = out;
        for (units, at) in states(&self.network, self.plan) {
            let (mine, others) = out.split_at_mut(self.plan.batch * units);
            out = others;
            let states = self.memory.floats[at..].chunks_exact(row_stride(units));
            for (to, from) in mine.chunks_exact_mut(units).zip(states) {
                to.copy_from_slice(&from[..units]);
            }
        }
    }

    /// Takes states in the form of [`get`](Self::get).
    pub(crate) fn set(&mut self, values: &[f32]) {
        let mut values = values;
        for (units, at) in states(&self.network, self.plan) {
            let (mine, others) = values.split_at(self.plan.batch * units);
            values = others;
            let states = self.memory.floats[at..].chunks_exact_mut(row_stride(units));
            for (to, from) in states.zip(mine.chunks_exact(units)) {
                to[..units].copy_from_slice(from);
            }
        }
        if self.plan.masks {
            self.repeat_states(0..self.plan.batch);
        }
    }

    /// Fills the repeated outputs of some rows from the states, where the output is a sequence.
    fn repeat_states(&mut self, rows: std::ops::Range<usize>) {
        if !self.plan.sequence {
            return;
        }
        let plan = self.plan;
        let columns = row_stride(plan.columns);
        let (body, repeated) = repeated(&plan, &mut self.memory.floats);
        let layers = &self.network.layers[..self.network.head.start];
        let Some(top) = layers.iter().rposition(|layer| layer.packed.is_recurrent()) else {
            return;
        };
        let below: usize = layers[..top].iter().map(|layer| buffer_len(layer, &plan)).sum();
        let units = layers[top].output.features;
        let (states, above) = body[below..].split_at_mut(buffer_len(&layers[top], &plan));
        for row in rows {
            // One row at a time in the buffers of the dense layers, which hold nothing between calls.
            let mut x = Rows::Strided {
                values: &states[row * row_stride(units)..],
                stride: row_stride(units),
                count: 1,
            };
            let mut rest = &mut above[..];
            for layer in &layers[top + 1..] {
                let (buffer, others) = std::mem::take(&mut rest).split_at_mut(buffer_len(layer, &plan));
                rest = others;
                if let Some(dense) = layer.packed.row_wise() {
                    let stride = row_stride(dense.kernel.columns());
                    fully_connected(dense, x, 1, buffer, stride);
                    x = Rows::Strided { values: buffer, stride, count: 1 };
                }
            }
            repeated[row * columns..][..plan.columns].copy_from_slice(&x.row(0)[..plan.columns]);
        }
    }

    /// Runs `steps` steps; every length fits, and ids are inside the vocabulary.
    pub(crate) fn run(&mut self, input: Input<'_>, steps: usize, y: &mut [f32]) -> Result<()> {
        if let (Input::Floats(x), 1, Some(single)) = (input, steps, self.single) {
            debug_assert!(x.len() >= self.plan.features && y.len() == self.plan.columns);
            // SAFETY: the slots are those that `new` filled, with these floats, of which there is no reference now, and this
            // network, whose layers nobody changes while it is shared. `x` has the features, the caller's promise.
            let output = unsafe { single.run(&mut self.memory.slots, x) };
            let row = &self.memory.floats[output..];
            match y {
                // Not worth a call.
                [y] => *y = row[0],
                _ => y.copy_from_slice(&row[..y.len()]),
            }
            return Ok(());
        }
        let plan = self.plan;
        let network = &*self.network;
        let source = source(network, &plan, input)?;
        let (full, rest) = self.memory.indices.split_at_mut(plan.chunk);
        let (offsets, ordering) = rest.split_at_mut(plan.batch * plan.chunk);
        let mut indices = Indices { full, offsets, ordering };
        let (body, rest) = self.memory.floats.split_at_mut(plan.body);
        let (head, of_masks) = rest.split_at_mut(plan.head);
        let mut first = 0;
        while first < steps {
            let span = Span { first, count: (steps - first).min(plan.chunk), steps };
            if !plan.masks || indices.uses_all(&plan, &source, span) {
                let counts = &indices.full[..span.count];
                let rows = indices.offsets.len().min(plan.batch * span.count);
                let input = unmasked_rows(&plan, &source, span, &mut indices.offsets[..rows]);
                let out = walk(network, &plan, body, None, input, rows, counts, self.odd);
                if plan.sequence {
                    write(&plan, &out, span, y);
                }
            } else {
                let (repeated, aside) = of_masks.split_at_mut((plan.batch + 1) * row_stride(plan.columns));
                let order = indices.arrange(&plan, &source, span);
                if let Some(rows) = order.counts.first().map(|_| order.offsets.len()) {
                    let input = Below { values: source.values, stride: 0, offsets: order.offsets };
                    let by_rank = Some((order.order, aside));
                    let out = walk(network, &plan, body, by_rank, input, rows, order.counts, self.odd);
                    if plan.sequence {
                        write_masked(&plan, &out, &order, y);
                    }
                }
                if plan.sequence {
                    repeat(&plan, &source, span, repeated, y);
                }
            }
            self.odd ^= span.count % 2 == 1;
            first += span.count;
        }
        if !plan.sequence {
            run_head(network, &plan, body, head, &source, steps, y);
        } else if plan.masks {
            let stride = row_stride(plan.columns);
            for (row, to) in of_masks.chunks_exact_mut(stride).take(plan.batch).enumerate() {
                to[..plan.columns]
                    .copy_from_slice(&y[((row + 1) * steps - 1) * plan.columns..][..plan.columns]);
            }
        }
        Ok(())
    }
}

/// The layers' buffers, and the rows that masked steps repeat.
fn repeated<'a>(plan: &Plan, floats: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32]) {
    let (body, rest) = floats.split_at_mut(plan.body);
    let len = (plan.batch + 1) * row_stride(plan.columns);
    (body, &mut rest[plan.head..][..len])
}

/// Floats of a layer's buffer.
pub(super) fn buffer_len(layer: &BuiltLayer, plan: &Plan) -> usize {
    let most = plan.batch * plan.chunk;
    match &layer.packed {
        Packed::Rnn(rnn) => Room::of(rnn, plan).len(),
        Packed::Dense(_) => most * row_stride(layer.output.features),
        Packed::Plain | Packed::Both(_) => 0,
    }
}

/// How the buffer of a recurrent layer is cut up: the states of the batch, the rows of a chunk, an LSTM's cell states, and
/// what a gated cell works in.
pub(super) struct Room {
    pub(super) states: usize,
    pub(super) rows: usize,
    cell_states: usize,
    gates: usize,
}

impl Room {
    #[inline(always)]
    pub(super) fn of(rnn: &PackedRnn, plan: &Plan) -> Self {
        let (batch, most, stride) = (plan.batch, plan.batch * plan.chunk, row_stride(rnn.units()));
        Self {
            states: batch * stride,
            rows: most * stride,
            cell_states: (rnn.states() - 1) * batch * stride,
            gates: cells::gates_len(rnn, most, batch),
        }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.states + self.rows + self.cell_states + self.gates
    }
}

/// Every array of states: its units, and where it begins in the body. Those of a layer's outputs begin where its buffer
/// does.
fn states(network: &Network, plan: Plan) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    network.layers[..network.head.start].iter().flat_map(move |layer| {
        let here = at;
        at += buffer_len(layer, &plan);
        layer.packed.directions().flat_map(move |rnn| {
            let room = Room::of(rnn, &plan);
            let arrays = [here, here + room.states + room.rows];
            arrays.into_iter().take(rnn.states()).map(|at| (rnn.units(), at))
        })
    })
}

/// Where the states of the last recurrent layer's outputs begin in the body, and its units.
fn last_states(network: &Network, plan: &Plan) -> Option<(usize, usize)> {
    let mut at = 0;
    let starts = network.layers[..network.head.start].iter().map(|layer| {
        let here = at;
        at += buffer_len(layer, plan);
        layer.packed.is_recurrent().then_some((layer.output.features, here))
    });
    starts.flatten().last()
}

fn source<'a>(network: &'a Network, plan: &Plan, input: Input<'a>) -> Result<Source<'a>> {
    let (values, tokens) = match (input, network.embedding()) {
        (Input::Tokens(ids), Some((embedding, table))) => (table, Some((ids, embedding.size))),
        (Input::Floats(x), None) => (x, None),
        (Input::Floats(_), Some(_)) => {
            return Err(Error::InvalidArgument(
                "the model begins with an embedding: give it token ids".into(),
            ));
        }
        (Input::Tokens(_), None) => {
            return Err(Error::InvalidArgument("the model has no embedding: give it floats".into()));
        }
    };
    let mut mask = Mask::default();
    if plan.masks {
        mask.tokens = tokens.map(|(ids, _)| ids);
        mask.features = network.layers.iter().find_map(|layer| match &layer.layer {
            Layer::Masking(masking) => Some((values, plan.features, masking.mask_value)),
            _ => None,
        });
    }
    Ok(Source { values, tokens, mask })
}

impl Source<'_> {
    #[inline]
    fn offset(&self, plan: &Plan, position: usize) -> usize {
        match self.tokens {
            // Ids were checked at the door.
            Some((ids, size)) => ids[position] as usize * size,
            None => position * plan.features,
        }
    }
}

/// The rows that a layer reads. [`Rows`] are made of them where they are used: handed on from layer to layer, the enum goes
/// through memory in pieces and is read back whole, which stalls for as long as a small layer's product takes.
#[derive(Clone, Copy)]
struct Below<'a> {
    values: &'a [f32],
    /// Floats from row to row, where there are no offsets.
    stride: usize,
    /// Where each row begins; empty where rows follow each other.
    offsets: &'a [usize],
}

impl<'a> Below<'a> {
    #[inline(always)]
    fn rows(&self, count: usize) -> Rows<'a> {
        let Self { values, stride, offsets } = *self;
        if offsets.is_empty() {
            Rows::Strided { values, stride, count }
        } else {
            Rows::Scattered { values, offsets }
        }
    }

    #[inline(always)]
    fn row(&self, index: usize) -> &'a [f32] {
        let at = self.offsets.get(index).copied().unwrap_or(index * self.stride);
        &self.values[at..]
    }
}

/// The input rows of a chunk, step by step.
#[inline(always)]
fn unmasked_rows<'a>(plan: &Plan, source: &Source<'a>, span: Span, offsets: &'a mut [usize]) -> Below<'a> {
    if source.tokens.is_none() && (plan.batch == 1 || span.count == 1) {
        let values = &source.values[span.first * plan.features..];
        let stride = if plan.batch == 1 { 1 } else { span.steps };
        return Below { values, stride: stride * plan.features, offsets: &[] };
    }
    let mut to = offsets.iter_mut();
    for step in 0..span.count {
        for (row, to) in to.by_ref().take(plan.batch).enumerate() {
            *to = source.offset(plan, row * span.steps + span.first + step);
        }
    }
    Below { values: source.values, stride: 0, offsets }
}

/// Walks the layers over a chunk of `rows` rows, `counts[0]` of them, then `counts[1]`, and leaves the states where the
/// next chunk finds them. `by_rank` says which row of the batch each rank is, and has room for the states of one layer;
/// without, every row has every step. Gives the rows of the last layer.
#[expect(clippy::too_many_arguments, reason = "a chunk's walk, called from two places beside each other")]
fn walk<'a>(
    network: &Network,
    plan: &Plan,
    body: &'a mut [f32],
    by_rank: Option<(&[usize], &mut [f32])>,
    input: Below<'a>,
    rows: usize,
    counts: &[usize],
    odd: bool,
) -> Below<'a> {
    let mut input = input;
    let mut rest = body;
    let mut by_rank = by_rank;
    for layer in &network.layers[..network.head.start] {
        match &layer.packed {
            Packed::Rnn(rnn) => {
                let room = Room::of(rnn, plan);
                let (buffer, others) = rest.split_at_mut(room.len());
                rest = others;
                let by_rank = by_rank.as_mut().map(|(order, aside)| (*order, &mut **aside));
                let buffer = (buffer, room);
                input = recurrent(rnn, plan, buffer, by_rank, input.rows(rows), rows, counts, odd);
            }
            Packed::Dense(dense) => {
                let (buffer, others) = rest.split_at_mut(buffer_len(layer, plan));
                rest = others;
                input = dense_rows(dense, buffer, input.rows(rows), rows);
            }
            Packed::Plain | Packed::Both(_) => {}
        }
    }
    input
}

#[expect(clippy::too_many_arguments, reason = "as its caller")]
#[inline(always)]
fn recurrent<'a>(
    rnn: &PackedRnn,
    plan: &Plan,
    (buffer, room): (&'a mut [f32], Room),
    by_rank: Option<(&[usize], &mut [f32])>,
    input: Rows<'_>,
    rows: usize,
    counts: &[usize],
    odd: bool,
) -> Below<'a> {
    let stride = row_stride(rnn.units());
    let carried = room.states;
    let (buffer, rest) = buffer.split_at_mut(carried + room.rows);
    let (cell_states, gates) = rest.split_at_mut(room.cell_states);
    let mut by_rank = by_rank;
    if let Some((order, aside)) = &mut by_rank {
        to_ranks(order, aside, &mut buffer[..carried], stride);
        to_ranks(order, aside, cell_states, stride);
    }
    let chunk = cells::Chunk { rows: buffer, carried: plan.batch, gates, cell_states: &mut *cell_states };
    cells::carry(rnn, input, chunk, Steps { counts, first: usize::from(odd) }, None);
    match by_rank {
        None => {
            let last = carried + (rows - plan.batch) * stride;
            buffer.copy_within(last..last + carried, 0);
        }
        Some((order, aside)) => {
            let (states, sums) = buffer.split_at_mut(carried);
            keep_last(sums, stride, counts, 0, states);
            from_ranks(order, aside, states, stride);
            from_ranks(order, aside, cell_states, stride);
        }
    }
    Below { values: &buffer[carried..], stride, offsets: &[] }
}

/// Puts an array of states, `stride` apart, into the order of ranks; there may be none.
fn to_ranks(order: &[usize], aside: &mut [f32], states: &mut [f32], stride: usize) {
    let aside = &mut aside[..states.len()];
    aside.copy_from_slice(states);
    for (to, &row) in states.chunks_exact_mut(stride).zip(order) {
        to.copy_from_slice(&aside[row * stride..][..stride]);
    }
}

/// The way back of [`to_ranks`].
fn from_ranks(order: &[usize], aside: &mut [f32], states: &mut [f32], stride: usize) {
    let aside = &mut aside[..states.len()];
    aside.copy_from_slice(states);
    for (from, &row) in aside.chunks_exact(stride).zip(order) {
        states[row * stride..][..stride].copy_from_slice(from);
    }
}

#[inline(always)]
fn dense_rows<'a>(dense: &PackedDense, buffer: &'a mut [f32], input: Rows<'_>, rows: usize) -> Below<'a> {
    let stride = row_stride(dense.kernel.columns());
    fully_connected(dense, input, rows, buffer, stride);
    Below { values: buffer, stride, offsets: &[] }
}

/// Puts the rows of a chunk without masked steps into the caller's sequence.
fn write(plan: &Plan, rows: &Below<'_>, span: Span, y: &mut [f32]) {
    let columns = plan.columns;
    for step in 0..span.count {
        for row in 0..plan.batch {
            let at = row * span.steps + span.first + step;
            let from = &rows.row(step * plan.batch + row)[..columns];
            y[at * columns..][..columns].copy_from_slice(from);
        }
    }
}

/// The order of a chunk's work: see [`Work`](super::work::Work).
struct Order<'a> {
    /// By rank: the row of the batch.
    order: &'a [usize],
    /// By compact step: how many ranks have it.
    counts: &'a [usize],
    /// By compact row: where its input begins.
    offsets: &'a [usize],
    /// By compact row: which row and step of the call it is.
    positions: &'a [usize],
}

impl Indices<'_> {
    fn uses_all(&self, plan: &Plan, source: &Source<'_>, span: Span) -> bool {
        let mut times = span.first..span.first + span.count;
        times.all(|time| (0..plan.batch).all(|row| source.mask.uses(row, time, span.steps)))
    }

    /// Orders the rows of a chunk by their number of used steps, the longest first.
    fn arrange<'b>(&'b mut self, plan: &Plan, source: &Source<'_>, span: Span) -> Order<'b> {
        let batch = plan.batch;
        let end = span.first + span.count;
        let (order, rest) = self.ordering.split_at_mut(batch);
        let (lengths, rest) = rest.split_at_mut(batch);
        let (next, rest) = rest.split_at_mut(batch);
        let (counts, positions) = rest.split_at_mut(plan.chunk);
        let uses = |row: usize, time: usize| source.mask.uses(row, time, span.steps);
        // Counted into place: the longest first, equal ones in their order, those without a step last. `counts` serves as
        // the places.
        let chunk = counts.len();
        counts.fill(0);
        let mut used = 0;
        for (row, length) in lengths.iter_mut().enumerate() {
            *length = (span.first..end).filter(|&time| uses(row, time)).count();
            if *length > 0 {
                counts[chunk - *length] += 1;
                used += 1;
            }
        }
        let mut before = 0;
        for place in counts.iter_mut() {
            before += std::mem::replace(place, before);
        }
        for (row, &length) in lengths.iter().enumerate() {
            let place = if length > 0 { &mut counts[chunk - length] } else { &mut used };
            order[*place] = row;
            *place += 1;
        }
        next.fill(span.first);
        let mut compact = 0;
        let mut steps = 0;
        let mut running = batch;
        loop {
            while running > 0 && lengths[order[running - 1]] <= steps {
                running -= 1;
            }
            if running == 0 {
                break;
            }
            counts[steps] = running;
            steps += 1;
            for (&row, next) in order[..running].iter().zip(next.iter_mut()) {
                while !uses(row, *next) {
                    *next += 1;
                }
                let position = row * span.steps + *next;
                (self.offsets[compact], positions[compact]) = (source.offset(plan, position), position);
                *next += 1;
                compact += 1;
            }
        }
        Order {
            order,
            counts: &counts[..steps],
            offsets: &self.offsets[..compact],
            positions: &positions[..compact],
        }
    }
}

fn write_masked(plan: &Plan, rows: &Below<'_>, order: &Order<'_>, y: &mut [f32]) {
    for (i, &position) in order.positions.iter().enumerate() {
        y[position * plan.columns..][..plan.columns].copy_from_slice(&rows.row(i)[..plan.columns]);
    }
}

/// Fills the masked steps of a chunk: with the output before, or with that of zeros.
fn repeat(plan: &Plan, source: &Source<'_>, span: Span, repeated: &[f32], y: &mut [f32]) {
    let (columns, stride) = (plan.columns, row_stride(plan.columns));
    let zeros = &repeated[plan.batch * stride..][..columns];
    for row in 0..plan.batch {
        for time in span.first..span.first + span.count {
            if source.mask.uses(row, time, span.steps) {
                continue;
            }
            let at = (row * span.steps + time) * columns;
            if plan.zero_output {
                y[at..at + columns].copy_from_slice(zeros);
            } else if time == 0 {
                y[at..at + columns].copy_from_slice(&repeated[row * stride..][..columns]);
            } else {
                y.copy_within(at - columns..at, at);
            }
        }
    }
}

/// The layers above the last step.
fn run_head(
    network: &Network,
    plan: &Plan,
    body: &mut [f32],
    head: &mut [f32],
    source: &Source<'_>,
    steps: usize,
    y: &mut [f32],
) {
    // There is a recurrent layer: nothing else turns a sequence into its last step.
    let Some((units, start)) = last_states(network, plan) else { return };
    let stride = row_stride(units);
    // As in Keras, a row whose last step is masked gives zeros then. The chunk's own rows lie behind the states and are
    // not needed any more.
    let (states, spare) = body[start..].split_at_mut(plan.batch * stride);
    let mut x = &*states;
    if plan.masks && plan.zero_output {
        let spare = &mut spare[..plan.batch * stride];
        spare.copy_from_slice(states);
        for (row, to) in spare.chunks_exact_mut(stride).enumerate() {
            if !source.mask.uses(row, steps - 1, steps) {
                to.fill(0.0);
            }
        }
        x = spare;
    }
    let mut x = Below { values: x, stride, offsets: &[] };
    let mut rest = head;
    for layer in &network.layers[network.head.clone()] {
        let (buffer, others) = rest.split_at_mut(plan.batch * row_stride(layer.output.features));
        rest = others;
        if let Some(dense) = layer.packed.row_wise() {
            x = dense_rows(dense, buffer, x.rows(plan.batch), plan.batch);
        }
    }
    for (row, to) in y.chunks_exact_mut(plan.columns).enumerate() {
        to.copy_from_slice(&x.row(row)[..plan.columns]);
    }
}
