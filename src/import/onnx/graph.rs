//! The walk over a graph's nodes.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::super::bytes::shown;
use super::super::network::{Activation, Affine, Handed, Matrix, Network, Part};
use super::super::{bad, unsupported};
use super::constant::{Budget, Constant};
use super::flow::{Axis, Dim, Filling, Flow, Piece, Source, Value, What};
use super::proto::{Graph, Input, Model, Node};
use super::recurrent;
use crate::error::{Error, Result};
use crate::layers::MergeMode;

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

    /// Adds a part that leaves the axes as they are.
    pub(super) fn add(&mut self, node: &Node<'_>, part: Part, axes: Vec<Axis>) -> Value {
        self.network.push(label(node), part);
        self.end(axes)
    }

    /// The axes of data that the next part reads: it must be the line's end, and becomes it where it is the
    /// input or all that the last recurrent node hands on.
    pub(super) fn line(&mut self, node: &Node<'_>, flow: &Flow) -> Result<Vec<Axis>> {
        let mut axes = flow.axes.clone();
        match &flow.source {
            Source::Line(at) if *at == self.network.parts.len() => {}
            Source::Line(_) => {
                return Err(refused(node, "reads the middle of the network: the graph is no line"));
            }
            Source::Ids => return Err(refused(node, "computes with token ids")),
            Source::Input if self.network.parts.is_empty() => {
                let last = self.main.dims.as_ref().map_or(0, Vec::len).saturating_sub(1);
                match axes.last_mut() {
                    // A series of numbers is one of single features.
                    Some(axis @ Axis::One) => *axis = Axis::Features,
                    Some(axis) if *axis == Axis::Outer(last) => *axis = Axis::Features,
                    _ => {
                        return Err(refused(
                            node,
                            "the input's last axis, the features, is not the last one here",
                        ));
                    }
                }
            }
            Source::Input => return Err(refused(node, "reads the input again: the graph is no line")),
            Source::Pieces(pieces) => self.hand_on(node, pieces)?,
        }
        if axes.contains(&Axis::Stack) {
            if flow.pieces().len() > 1 {
                return Err(refused(node, "reads the directions of a recurrent node as an axis of its own"));
            }
            axes.iter_mut().filter(|axis| **axis == Axis::Stack).for_each(|axis| *axis = Axis::One);
        }
        Ok(axes)
    }

    /// Has the last recurrent node hand on these pieces, which must be all that it has of one kind.
    fn hand_on(&mut self, node: &Node<'_>, pieces: &[Piece]) -> Result<()> {
        let parts = self.network.parts.len();
        let not_all = || refused(node, "reads some of a recurrent node's outputs, or those of several");
        let met = pieces.first().and_then(|first| self.met.get_mut(first.rnn)).ok_or_else(not_all)?;
        if met.part + 1 != parts || met.merged {
            return Err(refused(
                node,
                "reads a recurrent node that others have gone on from: the graph is no line",
            ));
        }
        let of = |what: &[What]| {
            let same = |(mine, piece): (&Piece, &Piece)| {
                (mine.rnn, mine.reversed) == (piece.rnn, piece.reversed) && what.contains(&piece.what)
            };
            met.pieces.len() == pieces.len() && met.pieces.iter().zip(pieces).all(same)
        };
        let walked = of(&[What::Walked]);
        let handed = if walked || of(&[What::Sequence]) {
            Handed::Sequence
        } else if of(&[What::State]) {
            Handed::LastState
        } else if of(&[What::State, What::LastStep]) {
            Handed::LastStep
        } else {
            return Err(not_all());
        };
        if met.handed.is_some_and(|before| before != handed) {
            return Err(refused(
                node,
                "reads another output of a recurrent node than a node before: the graph is no line",
            ));
        }
        met.handed = Some(handed);
        let Some((name, Part::Rnn(rnn))) = self.network.parts.get_mut(met.part) else { return Ok(()) };
        rnn.handed = handed;
        // Layers that walk backwards give their outputs in the order in which they walk.
        match handed {
            Handed::Sequence if rnn.go_backwards && !walked => Err(unsupported(format_args!(
                "{name}: direction = reverse, and its sequence (Y) is used; Y_h can be had"
            ))),
            _ => Ok(()),
        }
    }

    /// Both directions of the last recurrent node, joined by `mode`; `axes` are those of the result.
    pub(super) fn merge(
        &mut self,
        node: &Node<'_>,
        flow: &Flow,
        mode: MergeMode,
        axes: Vec<Axis>,
    ) -> Result<Value> {
        let both = flow.pieces();
        self.hand_on(node, both)?;
        let met = both.first().and_then(|first| self.met.get_mut(first.rnn));
        let Some(met) = met else { return Err(refused(node, "joins no directions")) };
        met.merged = true;
        if let Some((_, Part::Rnn(rnn))) = self.network.parts.get_mut(met.part) {
            self.features = rnn.units();
            if let Some((_, merge_mode)) = &mut rnn.backward {
                *merge_mode = mode;
            }
        }
        Ok(self.end(axes))
    }

    /// Data whose axis `at` is the steps, from the last one to the first: the outputs of a direction that was
    /// walked so, in the order in which it was.
    pub(super) fn turned(&mut self, node: &Node<'_>, flow: &Flow, at: usize) -> Result<Flow> {
        let walked = match flow.pieces() {
            [piece] if piece.what == What::Sequence && piece.reversed && !self.lengths => {
                Some(Piece { what: What::Walked, ..*piece })
            }
            _ => None,
        };
        match walked.filter(|_| flow.axes.get(at).is_some_and(|&axis| self.is_steps(axis))) {
            Some(walked) => Ok(Flow { source: Source::Pieces(vec![walked]), axes: flow.axes.clone() }),
            None => Err(refused(
                node,
                "turns around what is no sequence of a recurrent node of direction = reverse",
            )),
        }
    }

    /// The size of an axis of some data.
    pub(super) fn size_of(&self, flow: &Flow, axis: Axis) -> Dim {
        match axis {
            Axis::Outer(outer) => {
                let known = self.main.dims.as_ref().and_then(|dims| dims.get(outer).copied().flatten());
                known.map_or(Dim::Outer(outer), Dim::Known)
            }
            Axis::Both(..) => Dim::Other,
            Axis::Stack => Dim::Known(flow.pieces().len() as i64),
            Axis::One => Dim::Known(1),
            Axis::Features => match &flow.source {
                Source::Line(0) | Source::Input | Source::Ids => Dim::Other,
                Source::Line(_) => Dim::Known(self.features as i64),
                Source::Pieces(pieces) if flow.axes.contains(&Axis::Stack) => {
                    pieces.first().map_or(Dim::Other, |piece| Dim::Known(self.units(piece)))
                }
                Source::Pieces(pieces) => Dim::Known(pieces.iter().map(|piece| self.units(piece)).sum()),
            },
        }
    }

    /// The features of a piece.
    pub(super) fn units(&self, piece: &Piece) -> i64 {
        let part = self.met.get(piece.rnn).and_then(|met| self.network.parts.get(met.part));
        match part {
            Some((_, Part::Rnn(rnn))) => rnn.units() as i64,
            _ => 0,
        }
    }

    /// The first part's features are the input's.
    fn reads(&mut self, features: usize) {
        if self.network.input == 0 {
            self.network.input = features;
        }
    }

    /// A dense layer.
    pub(super) fn dense(
        &mut self,
        node: &Node<'_>,
        flow: &Flow,
        kernel: Matrix,
        bias: Option<Vec<f32>>,
    ) -> Result<Value> {
        let axes = self.line(node, flow)?;
        if axes.last() != Some(&Axis::Features) {
            return Err(refused(node, "multiplies along another axis than the features"));
        }
        self.reads(kernel.rows());
        self.features = kernel.columns();
        Ok(self.add(node, Part::Dense { kernel, bias, function: Activation::Linear }, axes))
    }

    /// An embedding.
    pub(super) fn embedding(&mut self, node: &Node<'_>, flow: &Flow, table: &Constant) -> Result<Value> {
        let [rows, columns] = table.dims[..] else {
            return Err(refused(
                node,
                format_args!("takes rows of a table of {} dimensions", table.dims.len()),
            ));
        };
        let values = table.floats().ok_or_else(|| wrong(node, "a table of whole numbers"))?;
        if !self.network.parts.is_empty() {
            return Err(refused(node, "an embedding above other layers"));
        }
        let table = Matrix::new(rows, columns, values.to_vec())?;
        self.network.input = 1;
        self.features = columns;
        let mut axes = flow.axes.clone();
        axes.push(Axis::Features);
        Ok(self.add(node, Part::Embedding { table, mask_zero: false }, axes))
    }

    /// `x · scale + shift` along the features.
    pub(super) fn affine(&mut self, node: &Node<'_>, flow: &Flow, affine: Affine) -> Result<Value> {
        let axes = self.line(node, flow)?;
        self.reads(affine.scale.len());
        self.features = affine.scale.len();
        Ok(self.add(node, Part::Affine(affine), axes))
    }

    /// Features of the line's end, or of the input as far as the file says.
    pub(super) fn width(&self) -> Option<usize> {
        let declared = || self.main.dims.as_ref()?.last().copied().flatten()?.try_into().ok();
        if self.features > 0 { Some(self.features) } else { declared() }
    }

    /// A function of each value, or of each row.
    pub(super) fn function(&mut self, node: &Node<'_>, flow: &Flow, function: Activation) -> Result<Value> {
        let axes = self.line(node, flow)?;
        if let Some(width) = self.width() {
            self.reads(width);
            self.features = width;
        }
        Ok(self.add(node, Part::Function(function), axes))
    }

    /// The first or the last step of data whose axis `at` is the steps.
    pub(super) fn step(&mut self, node: &Node<'_>, flow: &Flow, at: usize, last: bool) -> Result<Flow> {
        let mut axes = flow.axes.clone();
        axes[at] = Axis::One;
        if self.lengths {
            return Err(refused(node, "takes a step of rows that end before it; take Y_h instead"));
        }
        let source = match &flow.source {
            Source::Pieces(pieces) => {
                let step = |piece: &Piece| match (piece.what, piece.reversed, last) {
                    (What::Sequence, false, true) | (What::Sequence, true, false) => Some(What::State),
                    (What::Sequence, true, true) | (What::Walked, true, false) => Some(What::LastStep),
                    (What::Walked, true, true) => Some(What::State),
                    _ => None,
                };
                let taken = pieces.iter().map(|piece| Some(Piece { what: step(piece)?, ..*piece }));
                let taken: Option<Vec<_>> = taken.collect();
                Source::Pieces(taken.ok_or_else(|| refused(node, "takes the first step of a sequence"))?)
            }
            Source::Line(_) if last => {
                self.line(node, flow)?;
                self.network.push(label(node), Part::LastStep);
                Source::Line(self.network.parts.len())
            }
            _ => return Err(refused(node, "takes a step of what is no output of a recurrent node")),
        };
        Ok(Flow { source, axes })
    }

    /// Whether an axis is that of the steps.
    pub(super) fn is_steps(&self, axis: Axis) -> bool {
        self.steps.is_some_and(|steps| axis == Axis::Outer(steps))
    }

    fn recurrent(&mut self, node: &'a Node<'a>) -> Result<()> {
        let Value::Flow(flow) = self.get(node, 0)? else {
            return Err(refused(node, "X is not what the network computes"));
        };
        let (input, recurrent) = (self.constant(node, 1)?, self.constant(node, 2)?);
        let bias = match self.get(node, 3)? {
            Value::Absent => None,
            _ => Some(self.constant(node, 3)?),
        };
        let weights = recurrent::Weights { input: &input, recurrent: &recurrent, bias: bias.as_deref() };
        let rnn = recurrent::part(node, &weights)?;
        let axes = self.line(node, &flow)?;
        let batch_first = node.int("layout").unwrap_or(0) != 0;
        let [steps, batch] = self.outer_axes(node, &axes, batch_first)?;
        self.check_lengths(node)?;
        self.check_states(node)?;
        let reversed = [rnn.go_backwards, true];
        let pieces = |what| -> Vec<Piece> {
            let directions = if rnn.backward.is_some() { &[false, true][..] } else { &reversed[..1] };
            let piece = |&reversed: &bool| Piece { rnn: self.met.len(), reversed, what };
            directions.iter().map(piece).collect()
        };
        let [sequence, state, memory] = [What::Sequence, What::State, What::Memory].map(pieces);
        let [of_sequence, of_state] = match batch_first {
            false => {
                [vec![steps, Axis::Stack, batch, Axis::Features], vec![Axis::Stack, batch, Axis::Features]]
            }
            true => {
                [vec![batch, steps, Axis::Stack, Axis::Features], vec![batch, Axis::Stack, Axis::Features]]
            }
        };
        let flow =
            |pieces, axes: &[Axis]| Value::Flow(Flow { source: Source::Pieces(pieces), axes: axes.to_vec() });
        self.put(node, 0, flow(sequence.clone(), &of_sequence));
        self.put(node, 1, flow(state, &of_state));
        self.put(node, 2, flow(memory, &of_state));
        self.reads(rnn.forward.inputs());
        self.features = sequence.len().saturating_mul(rnn.units());
        self.met.push(Met { part: self.network.parts.len(), pieces: sequence, handed: None, merged: false });
        self.network.push(label(node), Part::Rnn(Box::new(rnn)));
        Ok(())
    }

    /// The axes of the steps and of the batch of a recurrent node's X.
    fn outer_axes(&mut self, node: &Node<'_>, axes: &[Axis], batch_first: bool) -> Result<[Axis; 2]> {
        let [first, second, Axis::Features] = *axes else {
            return Err(refused(node, "X has no axes for steps, batch and features"));
        };
        let [steps, batch] = if batch_first { [second, first] } else { [first, second] };
        match (steps, batch) {
            (Axis::Outer(steps), Axis::Outer(_) | Axis::One)
                if self.steps.is_none_or(|before| before == steps) =>
            {
                self.steps = Some(steps);
            }
            (Axis::One, Axis::Outer(batch)) if self.steps != Some(batch) => {}
            _ => return Err(refused(node, "X has other axes for steps and batch than the nodes before")),
        }
        Ok([steps, batch])
    }

    /// Lengths of rows come in from outside, or are all the steps.
    fn check_lengths(&mut self, node: &Node<'_>) -> Result<()> {
        let steps = self.steps.map(|steps| self.size_of_outer(steps));
        match self.get(node, 4)? {
            Value::Absent => {}
            Value::Given { .. } => self.lengths = true,
            Value::Filled(Filling::Dim(dim)) if Some(dim) == steps => {}
            Value::Constant(lengths)
                if lengths.uniform().map(|length| Dim::Known(length as i64)) == steps && steps.is_some() => {}
            _ => return Err(refused(node, "sequence_lens is neither an input nor the number of steps")),
        }
        match self.get(node, 7)? {
            Value::Absent | Value::Filled(Filling::Number(0.0)) => Ok(()),
            Value::Constant(weights) if weights.uniform() == Some(0.0) => Ok(()),
            _ => Err(refused(node, "peepholes (input P)")),
        }
    }

    fn size_of_outer(&self, outer: usize) -> Dim {
        self.size_of(&Flow { source: Source::Input, axes: Vec::new() }, Axis::Outer(outer))
    }

    /// Initial states are zeros, or come in from outside in the order of the nodes.
    fn check_states(&mut self, node: &Node<'_>) -> Result<()> {
        for (at, name) in [(5, "initial_h"), (6, "initial_c")] {
            match self.get(node, at)? {
                Value::Absent | Value::Filled(Filling::Number(0.0)) => {}
                Value::Constant(state) if state.uniform() == Some(0.0) => {}
                Value::Given { input, first } => {
                    if self.states.get(&input).is_some_and(|&before| before >= first) {
                        return Err(refused(
                            node,
                            format_args!("{name} is not taken in the order of the nodes"),
                        ));
                    }
                    self.states.insert(input, first);
                }
                _ => return Err(refused(node, format_args!("{name} is neither zero nor an input"))),
            }
        }
        Ok(())
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
