//! RNN, LSTM and GRU nodes: attributes and weights.

use super::super::network::{Activation, Cell, Direction, GateOrder, Matrix, Rnn};
use super::super::{bad, unsupported};
use super::constant::Constant;
use super::graph::label;
use super::proto::Node;
use crate::error::{Error, Result};
use crate::layers::MergeMode;

/// The attributes that are read, or have no effect here.
const ATTRIBUTES: [&str; 10] = [
    "activations",
    "activation_alpha",
    "activation_beta",
    "clip",
    "direction",
    "hidden_size",
    "input_forget",
    "layout",
    "linear_before_reset",
    "output_sequence",
];

/// Which directions a node walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directions {
    Forward,
    Reverse,
    Both,
}

/// Weights of a node: W, R and, where it is given, B.
pub(super) struct Weights<'a> {
    pub(super) input: &'a Constant,
    pub(super) recurrent: &'a Constant,
    pub(super) bias: Option<&'a Constant>,
}

fn refused(node: &Node<'_>, attribute: &str, value: impl std::fmt::Display) -> Error {
    unsupported(format_args!("{}: {attribute} = {value}", label(node)))
}

/// The part that a node is. What it hands on is seen later.
pub(super) fn part(node: &Node<'_>, weights: &Weights<'_>) -> Result<Rnn> {
    if let Some(other) = node.attributes.iter().find(|attribute| !ATTRIBUTES.contains(&attribute.name)) {
        return Err(unsupported(format_args!("{}: attribute {:?}", label(node), other.name)));
    }
    if node.attribute("clip").is_some() {
        return Err(refused(node, "clip", node.float("clip").unwrap_or_default()));
    }
    if node.int("input_forget").unwrap_or(0) != 0 {
        return Err(refused(node, "input_forget", 1));
    }
    let cell = match node.operator {
        "RNN" => Cell::SimpleRnn,
        "LSTM" => Cell::Lstm,
        _ => Cell::Gru { reset_after: node.int("linear_before_reset").unwrap_or(0) != 0 },
    };
    let directions = match node.attribute("direction").map(|attribute| attribute.text) {
        None | Some(b"forward") => Directions::Forward,
        Some(b"reverse") => Directions::Reverse,
        Some(b"bidirectional") => Directions::Both,
        Some(other) => return Err(refused(node, "direction", super::super::bytes::shown(other))),
    };
    let count = if directions == Directions::Both { 2 } else { 1 };
    let [recurrent_activation, activation] = functions(node, cell, count)?;
    let mut halves = (0..count).map(|at| direction(node, cell, weights, [at, count]));
    // There is one direction at least.
    let forward = halves.next().unwrap_or_else(|| Err(bad("no direction")))?;
    let backward = halves.next().transpose()?.map(|half| (half, MergeMode::Concat));
    if let Some(hidden) = node.int("hidden_size")
        && usize::try_from(hidden) != Ok(forward.units())
    {
        return Err(bad(format_args!("{}: hidden_size {hidden} and R for {}", label(node), forward.units())));
    }
    Ok(Rnn {
        activation,
        recurrent_activation,
        go_backwards: directions == Directions::Reverse,
        backward,
        ..Rnn::new(cell, forward)
    })
}

/// The weights of one direction of `count`.
fn direction(
    node: &Node<'_>,
    cell: Cell,
    weights: &Weights<'_>,
    [at, count]: [usize; 2],
) -> Result<Direction> {
    let matrix = |constant: &Constant, name: &str| {
        let shape = match constant.dims[..] {
            [directions, rows, columns] if directions == count => [rows, columns],
            _ => {
                return Err(bad(format_args!(
                    "{}: {name} should be [{count}, gates x units, columns], got {:?}",
                    label(node),
                    constant.dims
                )));
            }
        };
        Matrix::new(shape[0], shape[1], of_direction(node, constant, [at, count])?.to_vec())
    };
    let [input, recurrent] = [matrix(weights.input, "W")?, matrix(weights.recurrent, "R")?];
    let bias = weights.bias.map(|bias| of_direction(node, bias, [at, count])).transpose()?;
    let bias = bias.map(|bias| {
        let (input, recurrent) = bias.split_at(bias.len() / 2);
        [input, recurrent]
    });
    Direction::from_rows(cell, GateOrder::ONNX, [&input, &recurrent], bias)
        .map_err(|error| super::super::prefixed(error, label(node)))
}

/// The values of one direction of `count`.
fn of_direction<'a>(node: &Node<'_>, constant: &'a Constant, [at, count]: [usize; 2]) -> Result<&'a [f32]> {
    let values =
        constant.floats().ok_or_else(|| bad(format_args!("{}: weights of integers", label(node))))?;
    let len = values.len() / count;
    Ok(&values[at * len..(at + 1) * len])
}

/// The functions of the gates and of the candidate, the same ones in all directions.
fn functions(node: &Node<'_>, cell: Cell, count: usize) -> Result<[Activation; 2]> {
    let defaults = match cell {
        Cell::SimpleRnn => &["Tanh"][..],
        Cell::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        Cell::Gru { .. } => &["Sigmoid", "Tanh"],
    };
    let named: Vec<&[u8]> = match node.attribute("activations") {
        Some(attribute) if !attribute.texts.is_empty() => attribute.texts.clone(),
        _ => defaults.iter().map(|name| name.as_bytes()).collect::<Vec<_>>().repeat(count),
    };
    if named.len() != defaults.len() * count {
        return Err(bad(format_args!("{}: {} activations for {count} directions", label(node), named.len())));
    }
    let floats = |name| node.attribute(name).map_or(&[][..], |attribute| &attribute.floats);
    let mut numbers = [floats("activation_alpha").iter(), floats("activation_beta").iter()];
    let mut all = Vec::new();
    for name in named {
        all.push(function(node, name, &mut numbers)?);
    }
    let of_direction = &all[..defaults.len()];
    let same = all.chunks(defaults.len()).all(|other| other == of_direction);
    let [gates, candidate] = match *of_direction {
        [one] => [Activation::Sigmoid, one],
        [gates, candidate] => [gates, candidate],
        // The candidate's function and that of the cell's output are one in Keras's words.
        [gates, candidate, output] if candidate == output => [gates, candidate],
        _ => return Err(refused(node, "activations", "two functions for the candidate and the output")),
    };
    if same { Ok([gates, candidate]) } else { Err(refused(node, "activations", "others in each direction")) }
}

/// A function, with the next of the numbers that those with numbers take.
fn function(
    node: &Node<'_>,
    name: &[u8],
    [alphas, betas]: &mut [std::slice::Iter<'_, f32>; 2],
) -> Result<Activation> {
    let lower = name.to_ascii_lowercase();
    let mut alpha = |default: f32| alphas.next().copied().unwrap_or(default);
    let function = match &lower[..] {
        b"tanh" => Some(Activation::Tanh),
        b"relu" => Some(Activation::Relu),
        b"sigmoid" => Some(Activation::Sigmoid),
        b"softplus" => Some(Activation::Softplus),
        b"elu" => elu(alpha(1.0)),
        b"leakyrelu" => leaky_relu(alpha(0.01)),
        b"hardsigmoid" => hard_sigmoid(alpha(0.2), betas.next().copied().unwrap_or(0.5)),
        b"affine" => {
            let [alpha, beta] = [alpha(1.0), betas.next().copied().unwrap_or(0.0)];
            ([alpha, beta] == [1.0, 0.0]).then_some(Activation::Linear)
        }
        _ => None,
    };
    function.ok_or_else(|| {
        let numbers = ["activation_alpha", "activation_beta"].map(|name| match node.attribute(name) {
            Some(attribute) => format!(", {name} {:?}", attribute.floats),
            None => String::new(),
        });
        let name = super::super::bytes::shown(name);
        refused(node, "activations", format_args!("{name}{}", numbers.concat()))
    })
}

pub(super) fn elu(alpha: f32) -> Option<Activation> {
    (alpha == 1.0).then_some(Activation::Elu)
}

pub(super) fn leaky_relu(alpha: f32) -> Option<Activation> {
    (alpha == 0.2).then_some(Activation::LeakyRelu)
}

pub(super) fn hard_sigmoid(alpha: f32, beta: f32) -> Option<Activation> {
    /// A sixth as exporters round it, to 7 digits or fewer.
    const SIXTH: std::ops::Range<f32> = 0.166_666..0.166_667_2;
    match beta == 0.5 {
        true if alpha == 0.2 => Some(Activation::HardSigmoidKeras2),
        true if SIXTH.contains(&alpha) => Some(Activation::HardSigmoid),
        _ => None,
    }
}
