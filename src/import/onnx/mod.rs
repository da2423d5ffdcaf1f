//! ONNX: what the exporters of PyTorch and TensorFlow write for networks of recurrent and dense layers.
//!
//! [`proto`] reads the file's messages. [`graph`] walks the nodes in order and keeps for each name what is
//! known of it: a [`constant`], sizes of the input, zeros made of them, or a place on the line of layers.
//! [`recurrent`] makes parts of RNN, LSTM and GRU nodes. Whatever is not carried out is refused by node,
//! attribute and value.
//!
//! # What a loaded model is
//! It reads `[batch, steps, features]`, whatever order of axes the graph's input has, and gives outputs batch
//! first too. The first output that is not a state is the model's output; states that the graph takes and gives
//! are the run's initial and final states, in elman's order. A graph with `sequence_lens` runs with lengths and
//! ONNX's padding.

mod constant;
mod flow;
mod graph;
mod operations;
mod proto;
mod recurrent;

use super::network::Network;
use crate::error::Result;

/// The line of layers of a model.
pub(super) fn read(bytes: &[u8]) -> Result<Network> {
    let model = proto::Model::parse(bytes)?;
    graph::Walk::new(&model, bytes.len())?.network()
}
