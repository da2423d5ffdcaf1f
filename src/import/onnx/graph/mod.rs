//! The walk over a graph's nodes.

mod line;
mod nodes;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::super::bytes::shown;
use super::super::network::{Handed, Network};
use super::super::{bad, unsupported};
use super::constant::{Budget, Constant};
use super::flow::{Axis, Filling, Flow, Piece, Source, Value, What};
use super::proto::{Graph, Input, Model, Node};
use crate::error::{Error, Result};

/// A node as messages name it.
pub(super) fn label(node: &Node<'_>) -> String {
    let operator = shown(node.operator.as_bytes());
    match (node.name, node.outputs.first()) {
        ("", Some(output)) => format!("node {operator} of {:?}", shown(output.as_bytes())),
        (name, _) => format!("node {:?} ({operator})", shown(name.as_bytes())),
    }
}

/// What a node asks for that is not carried out.
pub(super) fn refused(node: &Node<'_>, why: impl std::fmt::Display) -> Error {
    unsupported(format_args!("{}: {why}", label(node)))
}

/// What a node says that cannot be.
fn wrong(node: &Node<'_>, why: impl std::fmt::Display) -> Error {
    bad(format_args!("{}: {why}", label(node)))
}

/// A recurrent node that was met.
#[derive(Debug)]
struct Met {
    /// Its place among the parts.
    part: usize,
    pieces: Vec<Piece>,
    /// What the next part takes of it, once that is known.
    handed: Option<Handed>,
    /// Its directions were joined into one; nobody else may read them one by one.
    merged: bool,
}

/// The walk over a graph.
pub(super) struct Walk<'a> {
    graph: &'a Graph<'a>,
    pub(super) opset: i64,
    pub(super) budget: Budget,
    values: HashMap<&'a str, Value>,
    network: Network,
    met: Vec<Met>,
    /// The input that the network reads, and its sizes as far as the file has them.
    main: &'a Input<'a>,
    /// Features of the line's end, where anything has been built.
    features: usize,
    /// Which axis of the input has the steps, once a recurrent node has said it.
    steps: Option<usize>,
    /// Rows may have lengths of their own.
    lengths: bool,
    /// Where the last state taken of each further input began.
    states: HashMap<usize, i64>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(model: &'a Model<'a>, bytes: usize) -> Result<Self> {
        let graph = &model.graph;
        let constants: HashSet<_> = graph.initializers.iter().map(|tensor| tensor.name).collect();
        let inputs: Vec<_> = graph.inputs.iter().filter(|input| !constants.contains(input.name)).collect();
        let main = main_input(graph, &inputs)?;
        let mut walk = Self {
            graph,
            opset: model.opset,
            budget: Budget::of_file(bytes),
            values: HashMap::new(),
            network: Network::default(),
            met: Vec::new(),
            main,
            features: 0,
            steps: None,
            lengths: false,
            states: HashMap::new(),
        };
        if graph.sparse {
            return Err(unsupported("ONNX: sparse initialisers"));
        }
        for tensor in &graph.initializers {
            walk.values.insert(tensor.name, Value::Constant(Rc::new(Constant::read(tensor)?)));
        }
        for (index, input) in inputs.into_iter().enumerate() {
            let value = match input.name == main.name {
                true => Value::Flow(walk.input()?),
                false => Value::Given { input: index, first: 0 },
            };
            walk.values.insert(input.name, value);
        }
        Ok(walk)
    }

    /// The input as it comes in.
    fn input(&self) -> Result<Flow> {
        let name = shown(self.main.name.as_bytes());
        let rank = self.main.dims.as_ref().map(Vec::len);
        match rank {
            Some(rank @ 1..=3) => {
                let source = if self.main.whole_numbers { Source::Ids } else { Source::Input };
                Ok(Flow { source, axes: (0..rank).map(Axis::Outer).collect() })
            }
            Some(rank) => {
                Err(unsupported(format_args!("input {name:?}: {rank} dimensions; read are up to 3")))
            }
            None => Err(unsupported(format_args!("input {name:?}: has no shape"))),
        }
    }

    /// The network of the whole graph.
    pub(super) fn network(mut self) -> Result<Network> {
        let graph = self.graph;
        self.run(graph)?;
        self.finish()?;
        if self.network.input == 0 {
            self.network.input = self.features;
        }
        Ok(self.network)
    }

    fn run(&mut self, graph: &'a Graph<'a>) -> Result<()> {
        for node in &graph.nodes {
            if !["", "ai.onnx"].contains(&node.domain) {
                return Err(refused(node, format_args!("domain {:?}", shown(node.domain.as_bytes()))));
            }
            match node.operator {
                "If" => self.branch(node)?,
                "Split" => self.split(node)?,
                "RNN" | "LSTM" | "GRU" => self.recurrent(node)?,
                _ => {
                    let value = self.operation(node)?;
                    self.put(node, 0, value);
                    // Masks of dropouts and the like: refused where anything is made of them.
                    (1..node.outputs.len()).for_each(|output| self.put(node, output, Value::Opaque));
                }
            }
        }
        Ok(())
    }

    pub(super) fn put(&mut self, node: &Node<'a>, output: usize, value: Value) {
        if let Some(name) = node.outputs.get(output).filter(|name| !name.is_empty()) {
            self.values.insert(name, value);
        }
    }

    pub(super) fn get(&self, node: &Node<'_>, input: usize) -> Result<Value> {
        match node.input(input) {
            "" => Ok(Value::Absent),
            name => self.values.get(name).cloned().ok_or_else(|| {
                wrong(node, format_args!("reads {:?}, which is not there", shown(name.as_bytes())))
            }),
        }
    }

    /// An input that must be a constant.
    pub(super) fn constant(&self, node: &Node<'_>, input: usize) -> Result<Rc<Constant>> {
        match self.get(node, input)? {
            Value::Constant(constant) => Ok(constant),
            _ => Err(refused(
                node,
                format_args!("input {:?} is no constant", shown(node.input(input).as_bytes())),
            )),
        }
    }

    /// A branch that a constant decides.
    fn branch(&mut self, node: &'a Node<'a>) -> Result<()> {
        let decided = match self.get(node, 0)? {
            Value::Constant(constant) if constant.len() == 1 => constant.number(0) != 0.0,
            Value::Filled(Filling::Number(number)) => number != 0.0,
            _ => return Err(refused(node, "the condition is not known beforehand")),
        };
        let name = if decided { "then_branch" } else { "else_branch" };
        let graph = node.attribute(name).and_then(|attribute| attribute.graph.as_deref());
        let graph = graph.ok_or_else(|| wrong(node, format_args!("has no {name}")))?;
        for tensor in &graph.initializers {
            self.values.insert(tensor.name, Value::Constant(Rc::new(Constant::read(tensor)?)));
        }
        self.run(graph)?;
        for (at, output) in graph.outputs.iter().enumerate() {
            let value = self.values.get(output).cloned();
            self.put(node, at, value.ok_or_else(|| wrong(node, format_args!("{name} has no output")))?);
        }
        Ok(())
    }

    /// The line's end under these axes.
    fn end(&self, axes: Vec<Axis>) -> Value {
        Value::Flow(Flow { source: Source::Line(self.network.parts.len()), axes })
    }

    /// Finds the output among those of the graph. The others must be states.
    fn finish(&mut self) -> Result<()> {
        let graph = self.graph;
        let end = Node { name: "outputs", operator: "graph", ..Node::default() };
        let mut output = None;
        let mut states = Vec::new();
        for name in &graph.outputs {
            let shown = || format!("output {:?}", shown(name.as_bytes()));
            match self.values.get(name) {
                Some(Value::Flow(flow)) => {
                    let is_state = |piece: &Piece| matches!(piece.what, What::State | What::Memory);
                    let all_states = !flow.pieces().is_empty() && flow.pieces().iter().all(is_state);
                    match (all_states, &output) {
                        (true, _) => states.push(flow.clone()),
                        (false, None) => output = Some(flow.clone()),
                        (false, Some(_)) => {
                            return Err(unsupported(format_args!(
                                "{}: a second one that is no state",
                                shown()
                            )));
                        }
                    }
                }
                Some(_) => {
                    return Err(unsupported(format_args!("{}: is not what the network computes", shown())));
                }
                None => return Err(bad(format_args!("ONNX: {}: no node gives it", shown()))),
            }
        }
        let is_last = |flow: &&Flow| {
            flow.pieces().iter().all(|piece| piece.what == What::State && piece.rnn + 1 == self.met.len())
        };
        let output = output.or_else(|| states.iter().find(is_last).cloned());
        let Some(mut output) = output else {
            return Err(unsupported("outputs: there is none but states of layers in the middle"));
        };
        // Directions that stand one behind the other there stand side by side here.
        output.axes.retain(|&axis| axis != Axis::Stack);
        self.line(&end, &output).map(|_| ())
    }
}

/// The input that the network reads: the one that the first recurrent node's X is made of, or else the first
/// output.
fn main_input<'a>(graph: &'a Graph<'a>, inputs: &[&'a Input<'a>]) -> Result<&'a Input<'a>> {
    let makers: HashMap<&str, &Node<'_>> =
        graph.nodes.iter().flat_map(|node| node.outputs.iter().map(move |output| (*output, node))).collect();
    let recurrent = graph.nodes.iter().find(|node| ["RNN", "LSTM", "GRU"].contains(&node.operator));
    let start = recurrent.map(|node| node.input(0)).or_else(|| graph.outputs.first().copied());
    let mut left: Vec<&str> = start.into_iter().collect();
    let mut seen = HashSet::new();
    while let Some(name) = left.pop() {
        if let Some(input) = inputs.iter().find(|input| input.name == name) {
            return Ok(input);
        }
        if let Some(node) = makers.get(name).filter(|_| seen.insert(name)) {
            left.extend(node.inputs.iter().rev());
        }
    }
    Err(unsupported("ONNX: no input of the graph leads to its output"))
}
