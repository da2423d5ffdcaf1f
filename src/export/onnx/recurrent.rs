//! RNN, LSTM and GRU nodes, and what brings their outputs into the order of ours.

use super::graph::{Attribute, Dim, Flow, Graph, Kind};
use super::{FORMAT, SIXTH, Values, refused};
use crate::error::Result;
use crate::import::GateOrder;
use crate::layers::{Activation, Bidirectional, Cell, Layer, MergeMode, Recurrent, Weight};
use crate::sequential::Sequential;

/// Whether the model's output is two arrays, one for each direction.
pub(super) fn gives_two_arrays(model: &Sequential) -> bool {
    matches!(
        model.layers().last(),
        Some(Layer::Bidirectional(Bidirectional { merge_mode: MergeMode::None, .. }))
    )
}

/// A recurrent layer on its way into the graph.
struct Node<'m> {
    model: &'m Sequential,
    index: usize,
    layer: &'m Recurrent,
    /// How two directions are joined; `None` where there is one.
    merge_mode: Option<MergeMode>,
}

/// Adds the layer of this number.
pub(super) fn add<'a>(
    graph: &mut Graph<'a>,
    model: &'a Sequential,
    index: usize,
    flow: Flow,
) -> Result<Flow> {
    let layer = &model.layers()[index];
    let (rnn, merge_mode) = match layer {
        Layer::Recurrent(rnn) => (rnn, None),
        Layer::Bidirectional(both) => (&both.layer, Some(both.merge_mode)),
        Layer::Embedding(_)
        | Layer::Masking(_)
        | Layer::Dense(_)
        | Layer::Dropout(_)
        | Layer::LastStep(_) => return Ok(flow),
    };
    let node = Node { model, index, layer: rnn, merge_mode };
    let flow = if flow.steps_first { flow } else { graph.transposed(flow) };
    let attributes = node.attributes(layer)?;
    let inputs = node.inputs(graph, flow.name)?;
    let [sequence, state] = node.push(graph, inputs, attributes);
    Ok(match rnn.options().return_sequences {
        true => node.sequence(graph, sequence),
        false => node.state(graph, state),
    })
}

impl<'m> Node<'m> {
    fn halves(&self) -> &'static [bool] {
        if self.merge_mode.is_some() { &[false, true] } else { &[false] }
    }

    fn directions(&self) -> usize {
        self.halves().len()
    }

    fn units(&self) -> usize {
        self.layer.options().units
    }

    fn attributes(&self, layer: &Layer) -> Result<Vec<(&'static str, Attribute)>> {
        let direction = match self.merge_mode {
            Some(_) => "bidirectional",
            None if self.layer.options().go_backwards => "reverse",
            None => "forward",
        };
        let mut attributes = vec![
            ("hidden_size", Attribute::Int(self.units() as i64)),
            ("direction", Attribute::Text(direction)),
        ];
        if let Cell::Gru { reset_after } = self.layer.cell() {
            attributes.push(("linear_before_reset", Attribute::Int(reset_after.into())));
        }
        let [gates, candidate] = self.layer.activations();
        let functions = match self.layer.cell() {
            Cell::SimpleRnn => vec![candidate],
            Cell::Lstm => vec![gates, candidate, candidate],
            Cell::Gru { .. } => vec![gates, candidate],
        };
        let (mut names, mut alphas, mut betas) = (Vec::new(), Vec::new(), Vec::new());
        for activation in functions.repeat(self.directions()) {
            let Some((name, alpha, beta)) = function(activation) else {
                return Err(refused(self.index, layer, "activation", activation.name(), FORMAT));
            };
            names.push(name);
            alphas.extend(alpha);
            betas.extend(beta);
        }
        attributes.push(("activations", Attribute::Texts(names)));
        if !alphas.is_empty() {
            attributes.push(("activation_alpha", Attribute::Floats(alphas)));
        }
        if !betas.is_empty() {
            attributes.push(("activation_beta", Attribute::Floats(betas)));
        }
        Ok(attributes)
    }

    /// X, W, R, B, no lengths, and the states where they are kept.
    fn inputs(&self, graph: &mut Graph<'m>, x: String) -> Result<Vec<String>> {
        let (cell, units) = (self.layer.cell(), self.units());
        let columns = cell.gates() * units;
        let order = GateOrder::ONNX.keras_gates(cell);
        let mut inputs = vec![x];
        for (which, name) in [(Weight::Kernel, "W"), (Weight::RecurrentKernel, "R")] {
            let mut parts = Vec::new();
            let mut depth = 0;
            for &backward in self.halves() {
                let kernel = self.model.weight(self.index, of_half(which, backward))?;
                depth = kernel.shape()[0];
                parts.push(Values::Transposed(kernel, order.clone()));
            }
            inputs.push(graph.weight(name, &[self.directions(), columns, depth], parts));
        }
        if self.layer.options().use_bias {
            let mut parts = Vec::new();
            for &backward in self.halves() {
                let bias = self.model.weight(self.index, of_half(Weight::Bias, backward))?;
                let rows = bias.values().chunks_exact(columns);
                let missing = 2 - bias.shape()[0];
                parts.extend(rows.map(|row| Values::Gates(row, order.clone())));
                parts.extend((0..missing).map(|_| Values::Zeros(columns)));
            }
            inputs.push(graph.weight("B", &[self.directions(), 2 * columns], parts));
        }
        if self.layer.options().stateful {
            inputs.resize(5, String::new());
            for (name, _) in self.states() {
                let name = graph.name(&format!("{name}0"));
                inputs.push(graph.input(&name, Kind::Floats, self.state_dims()));
            }
        }
        Ok(inputs)
    }

    /// The letters of the states, and which output of the node each is.
    fn states(&self) -> impl Iterator<Item = (&'static str, usize)> {
        [("h", 1), ("c", 2)].into_iter().take(self.layer.cell().states())
    }

    fn state_dims(&self) -> Vec<Dim> {
        vec![Dim::Known(self.directions()), Dim::Named("batch"), Dim::Known(self.units())]
    }

    /// The node itself. Gives the names of its sequence and of its state h.
    fn push(
        &self,
        graph: &mut Graph<'m>,
        inputs: Vec<String>,
        attributes: Vec<(&'static str, Attribute)>,
    ) -> [String; 2] {
        let operator = match self.layer.cell() {
            Cell::SimpleRnn => "RNN",
            Cell::Lstm => "LSTM",
            Cell::Gru { .. } => "GRU",
        };
        let sequence = if self.layer.options().return_sequences { graph.name("Y") } else { String::new() };
        let mut outputs = vec![sequence.clone(), graph.name("hn")];
        if self.layer.options().stateful {
            outputs.resize(1, String::new());
            for (letter, at) in self.states() {
                let name = graph.name(&format!("{letter}n"));
                outputs.resize(at, String::new());
                outputs.push(name.clone());
                graph.outputs.push(super::graph::Port { name, kind: Kind::Floats, dims: self.state_dims() });
            }
        }
        let state = outputs[1].clone();
        graph.push(operator, inputs, outputs, attributes);
        [sequence, state]
    }

    /// Every step's output, `[steps, directions, batch, units]`, as the layer gives it.
    fn sequence(&self, graph: &mut Graph<'m>, y: String) -> Flow {
        let flow = |name| Flow { name, sequence: true, steps_first: true };
        let units = self.units() as i64;
        match self.merge_mode {
            None => {
                let one = graph.list(&[1]);
                let mut name = graph.node("Squeeze", &[y, one], vec![]);
                // A layer that walks backwards gives its outputs in the order in which it walks.
                if self.layer.options().go_backwards {
                    let [start, end, axis, step] = [-1, -i64::MAX, 0, -1].map(|at| graph.list(&[at]));
                    name = graph.node("Slice", &[name, start, end, axis, step], vec![]);
                }
                flow(name)
            }
            Some(MergeMode::Concat) => {
                let order = vec![("perm", Attribute::Ints(vec![0, 2, 1, 3]))];
                let name = graph.node("Transpose", &[y], order);
                let shape = graph.list(&[0, 0, 2 * units]);
                flow(graph.node("Reshape", &[name, shape], vec![]))
            }
            Some(MergeMode::None) => {
                let order = vec![("perm", Attribute::Ints(vec![1, 2, 0, 3]))];
                Flow { steps_first: false, ..flow(graph.node("Transpose", &[y], order)) }
            }
            Some(mode) => flow(merged(graph, y, mode, 1)),
        }
    }

    /// The last state of each direction, `[directions, batch, units]`, as the layer gives it.
    fn state(&self, graph: &mut Graph<'m>, h: String) -> Flow {
        let flow = |name| Flow { name, sequence: false, steps_first: false };
        let units = self.units() as i64;
        match self.merge_mode {
            None => {
                let zero = graph.list(&[0]);
                flow(graph.node("Squeeze", &[h, zero], vec![]))
            }
            Some(MergeMode::Concat) => {
                let order = vec![("perm", Attribute::Ints(vec![1, 0, 2]))];
                let name = graph.node("Transpose", &[h], order);
                let shape = graph.list(&[0, 2 * units]);
                flow(graph.node("Reshape", &[name, shape], vec![]))
            }
            Some(MergeMode::None) => flow(h),
            Some(mode) => flow(merged(graph, h, mode, 0)),
        }
    }
}

fn of_half(which: Weight, backward: bool) -> Weight {
    if backward { which.backward() } else { which }
}

/// Both directions, which stand on an axis of their own, as one.
fn merged(graph: &mut Graph<'_>, both: String, mode: MergeMode, axis: i64) -> String {
    let keepdims = ("keepdims", Attribute::Int(0));
    // In opset 14 the sum alone has its axes as an input.
    let axes = ("axes", Attribute::Ints(vec![axis]));
    match mode {
        MergeMode::Mul => graph.node("ReduceProd", &[both], vec![axes, keepdims]),
        MergeMode::Ave => graph.node("ReduceMean", &[both], vec![axes, keepdims]),
        MergeMode::Sum | MergeMode::Concat | MergeMode::None => {
            let axis = graph.list(&[axis]);
            graph.node("ReduceSum", &[both, axis], vec![keepdims])
        }
    }
}

/// The name of a function inside a recurrent node, with its alpha and beta.
fn function(activation: Activation) -> Option<(&'static str, Option<f32>, Option<f32>)> {
    Some(match activation {
        Activation::Linear => ("Affine", Some(1.0), Some(0.0)),
        Activation::Tanh => ("Tanh", None, None),
        Activation::Relu => ("Relu", None, None),
        Activation::Sigmoid => ("Sigmoid", None, None),
        Activation::HardSigmoid => ("HardSigmoid", Some(SIXTH), Some(0.5)),
        Activation::HardSigmoidKeras2 => ("HardSigmoid", Some(0.2), Some(0.5)),
        Activation::Softplus => ("Softplus", None, None),
        Activation::Elu => ("Elu", Some(1.0), None),
        Activation::LeakyRelu => ("LeakyRelu", Some(0.2), None),
        Activation::Softmax => return None,
    })
}
