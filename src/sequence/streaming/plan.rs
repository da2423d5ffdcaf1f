//! How a stream's memory is cut up, once, when it is made.
//!
//! Floats: a buffer for each layer below the head, those of the head's layers, and what masked steps need.
//! The buffer of a recurrent layer begins with the states of all rows, in the order of the batch; see
//! [`Room`].

use super::super::cells;
use super::super::network::Network;
use super::single::{Single, Slot};
use crate::error::{Error, Result};
use crate::layers::{BuiltLayer, Layer, Packed, PackedRnn};
use crate::memory::{Aligned, checked_product, row_stride};

/// Rows that a chunk has at the most, where the batch is not larger: enough for full tiles, and little memory
/// for a server that keeps thousands of streams.
const CHUNK_ROWS: usize = 32;

/// How a stream's memory is cut up, and what must be known of the network at every call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(super) batch: usize,
    /// Steps of a chunk.
    pub(super) chunk: usize,
    /// Floats that a row of the input has, or 0 where it is a token.
    pub(super) features: usize,
    /// Floats of an output row.
    pub(super) columns: usize,
    /// Whether there is an output for every step.
    pub(super) sequence: bool,
    /// Whether steps can be masked.
    pub(super) masks: bool,
    /// Whether masked steps emit zeros.
    pub(super) zero_output: bool,
    /// Floats of the layers' buffers; behind them the head's, and those of masks.
    pub(super) body: usize,
    pub(super) head: usize,
    pub(super) floats: usize,
    pub(super) indices: usize,
    /// Of the list of a single step.
    pub(super) slots: usize,
}

/// The memory of a stream.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) floats: Aligned<f32>,
    pub(crate) indices: Aligned<usize>,
    pub(crate) slots: Aligned<Slot>,
}

impl Plan {
    /// # Errors
    /// [`Error::Unsupported`] for a layer that needs the future, [`Error::InvalidArgument`] for a batch of 0
    /// or one that overflows.
    pub(crate) fn new(network: &Network, batch: usize) -> Result<Self> {
        if batch == 0 {
            return Err(Error::InvalidArgument("batch must be at least 1, got 0".into()));
        }
        needs_no_future(network)?;
        let sum = |sizes: &[Option<usize>]| {
            let all = sizes.iter().try_fold(0_usize, |all, size| all.checked_add((*size)?));
            all.filter(|&all| all <= isize::MAX as usize / size_of::<usize>())
                .ok_or_else(|| Error::InvalidArgument(format!("a stream of {batch} rows: size overflows")))
        };
        let chunk = (CHUNK_ROWS / batch).max(1);
        let most = checked_product("rows of a chunk", &[batch, chunk])?;
        let mut body = 0;
        for layer in &network.layers[..network.head.start] {
            body = sum(&[Some(body), checked_buffer_len(layer, batch, most)])?;
        }
        let mut head = 0;
        for layer in &network.layers[network.head.clone()] {
            head = sum(&[Some(head), batch.checked_mul(row_stride(layer.output.features))])?;
        }
        let (embedding, masks) = (network.embedding(), has_masks(network));
        let columns = network.output.features;
        let (mut of_masks, mut ordering) = (0, Some(0));
        if masks {
            // What a masked step repeats, by row and for a row of zeros; states on their way to and from
            // their ranks.
            let repeated = batch.checked_add(1).and_then(|rows| rows.checked_mul(row_stride(columns)));
            let widest = network.recurrent().map(|(_, rnn)| row_stride(rnn.units())).max().unwrap_or(0);
            of_masks = sum(&[repeated, batch.checked_mul(widest)])?;
            ordering = batch.checked_mul(3).and_then(|rows| rows.checked_add(chunk + 1 + most));
        }
        let mut plan = Self {
            batch,
            chunk,
            features: if embedding.is_some() { 0 } else { network.input.features },
            columns,
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

/// Refuses a network with a layer that must see the end of a sequence.
fn needs_no_future(network: &Network) -> Result<()> {
    for (i, layer) in network.layers.iter().enumerate() {
        let why = match &layer.layer {
            Layer::Bidirectional(_) => {
                "is bidirectional: it needs the end of a sequence, and a stream has none"
            }
            Layer::Recurrent(rnn) if rnn.options().go_backwards => {
                "has go_backwards: it begins at the end of a sequence, and a stream has none"
            }
            Layer::LastStep(_) => "(last_step) takes the last step of a sequence, and a stream has no end",
            Layer::Recurrent(_)
            | Layer::Embedding(_)
            | Layer::Masking(_)
            | Layer::Dense(_)
            | Layer::Dropout(_) => continue,
        };
        return Err(Error::Unsupported(format!("layer {i} {why}")));
    }
    Ok(())
}

/// Whether steps can be masked, and somebody skips those that are.
fn has_masks(network: &Network) -> bool {
    let masking = network.layers.iter().any(|layer| matches!(layer.layer, Layer::Masking(_)));
    let masks = masking || network.embedding().is_some_and(|(layer, _)| layer.mask_zero);
    masks && network.recurrent().next().is_some()
}

/// [`buffer_len`] for `batch` rows and chunks of `most`, where it does not overflow.
fn checked_buffer_len(layer: &BuiltLayer, batch: usize, most: usize) -> Option<usize> {
    let stride = row_stride(layer.output.features);
    match &layer.packed {
        Packed::Rnn(rnn) => {
            let rows = batch.checked_mul(rnn.states())?.checked_add(most)?;
            rows.checked_mul(stride)?.checked_add(cells::gates_len(rnn, most, batch))
        }
        Packed::Dense(_) => most.checked_mul(stride),
        Packed::Plain | Packed::Both(_) => Some(0),
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

/// Floats of a layer's buffer.
pub(super) fn buffer_len(layer: &BuiltLayer, plan: &Plan) -> usize {
    let most = plan.batch * plan.chunk;
    match &layer.packed {
        Packed::Rnn(rnn) => Room::of(rnn, plan).len(),
        Packed::Dense(_) => most * row_stride(layer.output.features),
        Packed::Plain | Packed::Both(_) => 0,
    }
}

/// How the buffer of a recurrent layer is cut up: the states of the batch, the rows of a chunk, an LSTM's
/// cell states, and what a gated cell works in.
pub(super) struct Room {
    pub(super) states: usize,
    pub(super) rows: usize,
    pub(super) cell_states: usize,
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
    pub(super) fn len(&self) -> usize {
        self.states + self.rows + self.cell_states + self.gates
    }
}

/// Every array of states: its units, and where it begins in the body. Those of a layer's outputs begin where
/// its buffer does.
pub(super) fn states(network: &Network, plan: Plan) -> impl Iterator<Item = (usize, usize)> {
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
pub(super) fn last_states(network: &Network, plan: &Plan) -> Option<(usize, usize)> {
    let mut at = 0;
    let starts = network.layers[..network.head.start].iter().map(|layer| {
        let here = at;
        at += buffer_len(layer, plan);
        layer.packed.is_recurrent().then_some((layer.output.features, here))
    });
    starts.flatten().last()
}
