//! Nodes, weights, inputs and outputs of a graph that is being made.

use super::{Tensor, Values};

/// What an attribute's value is.
#[derive(Clone, Debug)]
pub(super) enum Attribute {
    Int(i64),
    Float(f32),
    Text(&'static str),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<&'static str>),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) operator: &'static str,
    pub(super) name: String,
    /// Empty where one is not given, here and below.
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) attributes: Vec<(&'static str, Attribute)>,
}

/// A size of an input or an output.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dim {
    Named(&'static str),
    Known(usize),
}

/// Values of an input or an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Floats,
    /// 64 bits, as other exporters have it.
    Ids,
}

/// An input or an output.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) dims: Vec<Dim>,
}

/// What has been computed so far: rows of features, `[batch, features]`, or of every step.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) name: String,
    pub(super) sequence: bool,
    /// Of a sequence: `[steps, batch, features]`, as recurrent nodes read and give it, not `[batch, steps,
    /// features]`.
    pub(super) steps_first: bool,
}

/// An initialiser of whole numbers.
#[derive(Debug)]
pub(super) struct List {
    pub(super) name: String,
    pub(super) numbers: Vec<i64>,
    /// One number and no list: a tensor without axes.
    pub(super) is_scalar: bool,
}

/// A graph on its way out.
#[derive(Debug, Default)]
pub(super) struct Graph<'a> {
    pub(super) nodes: Vec<Node>,
    pub(super) weights: Vec<Tensor<'a>>,
    pub(super) lists: Vec<List>,
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
    /// How the names of what belongs to the current layer begin.
    layer: String,
}

impl<'a> Graph<'a> {
    pub(super) fn begin_layer(&mut self, index: usize) {
        self.layer = format!("layers.{index}");
    }

    /// A name of the current layer.
    pub(super) fn name(&self, of: &str) -> String {
        format!("{}.{of}", self.layer)
    }

    pub(super) fn input(&mut self, name: &str, kind: Kind, dims: Vec<Dim>) -> String {
        self.inputs.push(Port { name: name.to_owned(), kind, dims });
        name.to_owned()
    }

    /// An initialiser of the current layer.
    pub(super) fn weight(&mut self, of: &str, shape: &[usize], parts: Vec<Values<'a>>) -> String {
        let name = self.name(of);
        self.weights.push(Tensor { name: name.clone(), shape: shape.to_vec(), parts });
        name
    }

    /// A list of whole numbers, which stands there once for all who read it.
    pub(super) fn list(&mut self, numbers: &[i64]) -> String {
        self.whole(numbers, false)
    }

    /// A whole number, the same.
    pub(super) fn number(&mut self, number: i64) -> String {
        self.whole(&[number], true)
    }

    fn whole(&mut self, numbers: &[i64], is_scalar: bool) -> String {
        let same = |known: &&List| known.numbers == numbers && known.is_scalar == is_scalar;
        if let Some(known) = self.lists.iter().find(same) {
            return known.name.clone();
        }
        let name = format!("list.{}", self.lists.len());
        self.lists.push(List { name: name.clone(), numbers: numbers.to_vec(), is_scalar });
        name
    }

    /// A node with one output, which has the name that comes back.
    pub(super) fn node(
        &mut self,
        operator: &'static str,
        inputs: &[String],
        attributes: Vec<(&'static str, Attribute)>,
    ) -> String {
        let name = self.name(&format!("{operator}.{}", self.nodes.len()));
        self.push(operator, inputs.to_vec(), vec![name.clone()], attributes);
        name
    }

    /// A node, which has the name of its first output.
    pub(super) fn push(
        &mut self,
        operator: &'static str,
        inputs: Vec<String>,
        outputs: Vec<String>,
        attributes: Vec<(&'static str, Attribute)>,
    ) {
        let name = self.name(&format!("{operator}.{}", self.nodes.len()));
        self.nodes.push(Node { operator, name, inputs, outputs, attributes });
    }

    /// A sequence with steps and batch changed over.
    pub(super) fn transposed(&mut self, flow: Flow) -> Flow {
        let name = self.node("Transpose", &[flow.name], vec![("perm", Attribute::Ints(vec![1, 0, 2]))]);
        Flow { name, sequence: flow.sequence, steps_first: !flow.steps_first }
    }

    /// Has what the last node gives as `y`, the first output. States are outputs before, and follow it.
    pub(super) fn output(&mut self, name: String, dims: Vec<Dim>) {
        self.layer = "output".to_owned();
        self.push("Identity", vec![name], vec!["y".to_owned()], vec![]);
        self.outputs.insert(0, Port { name: "y".to_owned(), kind: Kind::Floats, dims });
    }
}
