//! ONNX: a graph of the standard's operators, opset 14.
//!
//! [`graph`] collects nodes and weights, [`recurrent`] makes the RNN, LSTM and GRU nodes, and [`proto`] writes
//! it all as protobuf. The input is `x`, `[batch, steps, features]`, or `ids`, `[batch, steps]`, and the
//! output `y`, as [`Sequential::predict`] has them. A stateful layer's states come in as `layers.{i}.h0` (and
//! `.c0`) and go out as `layers.{i}.hn` (and `.cn`), `[directions, batch, units]`.

mod graph;
mod proto;
mod recurrent;

use std::path::Path;

use super::tensor::{Tensor, Values};
use super::{refused, unsupported};
use crate::error::Result;
use crate::formats;
use crate::layers::{Activation, Layer, Weight};
use crate::sequential::Sequential;
use graph::{Attribute, Dim, Flow, Graph, Kind};

const FORMAT: &str = "ONNX";

/// Writes the graph of a model whose weights are there.
pub(super) fn export(model: &Sequential, path: &Path) -> Result<()> {
    let graph = graph(model)?;
    formats::write_file(path, proto::model(&graph)?.as_slice())
}

fn graph(model: &Sequential) -> Result<Graph<'_>> {
    let mut graph = Graph::default();
    let outer = [Dim::Named("batch"), Dim::Named("steps")];
    let reads_ids = matches!(model.layers().first(), Some(Layer::Embedding(_)));
    let input = match reads_ids {
        true => graph.input("ids", Kind::Ids, outer.to_vec()),
        false => {
            let features = Dim::Known(model.input_size());
            graph.input("x", Kind::Floats, [&outer[..], &[features]].concat())
        }
    };
    let mut flow = Flow { name: input, sequence: true, steps_first: false };
    for (index, layer) in model.layers().iter().enumerate() {
        graph.begin_layer(index);
        flow = match layer {
            Layer::Embedding(embedding) => {
                // Without a recurrent layer no step is skipped.
                if embedding.mask_zero && model.layers().iter().any(|layer| layer.recurrent().is_some()) {
                    return Err(refused(index, layer, "mask_zero", true, FORMAT));
                }
                let table = model.weight(index, Weight::Embedding)?;
                let table = graph.weight("embedding", &table.shape(), vec![Values::Plain(table.values())]);
                Flow { name: graph.node("Gather", &[table, flow.name], vec![]), ..flow }
            }
            Layer::Masking(masking) => {
                return Err(refused(index, layer, "mask_value", masking.mask_value, FORMAT));
            }
            Layer::Recurrent(_) | Layer::Bidirectional(_) => recurrent::add(&mut graph, model, index, flow)?,
            Layer::Dense(dense) => add_dense(&mut graph, model, index, dense.activation, flow)?,
            Layer::Dropout(_) => flow,
            Layer::LastStep(_) => last_step(&mut graph, flow),
        };
    }
    if flow.sequence && flow.steps_first {
        flow = graph.transposed(flow);
    }
    let features = model.network("export")?.output.features;
    let mut dims = if flow.sequence { outer.to_vec() } else { outer[..1].to_vec() };
    dims.push(Dim::Known(features));
    if recurrent::gives_two_arrays(model) {
        dims.insert(0, Dim::Known(2));
    }
    graph.output(flow.name, dims);
    Ok(graph)
}

fn add_dense<'a>(
    graph: &mut Graph<'a>,
    model: &'a Sequential,
    index: usize,
    activation: Activation,
    flow: Flow,
) -> Result<Flow> {
    let kernel = model.weight(index, Weight::Kernel)?;
    let kernel = graph.weight("kernel", &kernel.shape(), vec![Values::Plain(kernel.values())]);
    let mut name = graph.node("MatMul", &[flow.name, kernel], vec![]);
    if let Ok(bias) = model.weight(index, Weight::Bias) {
        let bias = graph.weight("bias", &[bias.values().len()], vec![Values::Plain(bias.values())]);
        name = graph.node("Add", &[name, bias], vec![]);
    }
    if let Some((operator, attributes)) = function(activation) {
        name = graph.node(operator, &[name], attributes);
    }
    Ok(Flow { name, ..flow })
}

/// The last step of a sequence.
fn last_step(graph: &mut Graph<'_>, flow: Flow) -> Flow {
    let axis = if flow.steps_first { 0 } else { 1 };
    let last = graph.number(-1);
    let name = graph.node("Gather", &[flow.name, last], vec![("axis", Attribute::Int(axis))]);
    Flow { name, sequence: false, steps_first: false }
}

/// The operator of a function; none for what changes nothing.
fn function(activation: Activation) -> Option<(&'static str, Vec<(&'static str, Attribute)>)> {
    let alpha = |alpha| ("alpha", Attribute::Float(alpha));
    Some(match activation {
        Activation::Linear => return None,
        Activation::Tanh => ("Tanh", vec![]),
        Activation::Relu => ("Relu", vec![]),
        Activation::Sigmoid => ("Sigmoid", vec![]),
        Activation::HardSigmoid => ("HardSigmoid", vec![alpha(SIXTH), ("beta", Attribute::Float(0.5))]),
        Activation::HardSigmoidKeras2 => ("HardSigmoid", vec![alpha(0.2), ("beta", Attribute::Float(0.5))]),
        Activation::Softplus => ("Softplus", vec![]),
        Activation::Elu => ("Elu", vec![alpha(1.0)]),
        Activation::LeakyRelu => ("LeakyRelu", vec![alpha(0.2)]),
        Activation::Softmax => ("Softmax", vec![("axis", Attribute::Int(-1))]),
    })
}

/// The slope of Keras 3's hard sigmoid.
const SIXTH: f32 = 1.0 / 6.0;
