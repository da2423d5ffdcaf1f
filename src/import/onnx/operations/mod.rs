//! The operators around recurrent nodes, on constants, on sizes and on what the network computes.

mod arithmetic;
mod axes;
mod pieces;
mod shapes;

use std::rc::Rc;

use super::constant::Constant;
use super::flow::{Dim, Filling, Source, Value};
use super::graph::{Walk, refused};
use super::proto::Node;
use crate::error::Result;

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Filled(Filling::Number(number)) => Some(*number),
        Value::Constant(constant) => constant.uniform(),
        _ => None,
    }
}

/// Sizes, where a value is a list of them.
fn sizes(value: &Value) -> Option<Vec<Dim>> {
    match value {
        Value::Sizes(sizes) => Some(sizes.clone()),
        Value::Constant(constant) => Some(constant.ints()?.iter().map(|&size| Dim::Known(size)).collect()),
        _ => None,
    }
}

/// An index from the beginning, where one may be from the end.
fn index(at: i64, len: usize) -> Option<usize> {
    let len = i64::try_from(len).ok()?;
    let at = if at < 0 { at.checked_add(len)? } else { at };
    (0..len).contains(&at).then_some(at as usize)
}

fn constant(constant: Constant) -> Value {
    Value::Constant(Rc::new(constant))
}

impl<'a> Walk<'a> {
    /// What a node with one output gives.
    pub(super) fn operation(&mut self, node: &'a Node<'a>) -> Result<Value> {
        match node.operator {
            "Constant" => self.constant_of(node),
            "Identity" | "Dropout" => self.get(node, 0),
            "Cast" => self.cast(node),
            "Shape" => self.shape(node),
            "ConstantOfShape" => self.constant_of_shape(node),
            "Expand" | "Tile" => self.expand(node),
            "Gather" => self.gather(node),
            "Slice" => self.slice(node),
            "Concat" => self.concat(node),
            "Squeeze" | "Unsqueeze" => self.squeeze(node),
            "Reshape" => self.reshape(node),
            "Transpose" => self.transpose(node),
            "MatMul" => self.matmul(node),
            "Gemm" => self.gemm(node),
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(node),
            "ReduceSum" | "ReduceMean" | "ReduceProd" => self.reduce(node),
            "BatchNormalization" => self.batch_normalization(node),
            "Where" => self.choose(node),
            "Less" | "Not" => self.compare(node),
            "Relu" | "Tanh" | "Sigmoid" | "Softmax" | "Softplus" | "HardSigmoid" | "Elu" | "LeakyRelu" => {
                self.activation(node)
            }
            // What they read stands inside them, so their inputs do not tell.
            "Loop" | "Scan" => Err(refused(
                node,
                "loops are not carried out (TensorFlow's exporter writes SimpleRNN, GRU and what is masked so: load Keras's \
                 own file)",
            )),
            _ => self.other(node),
        }
    }

    /// What is only made of sizes is let through: it may be the shape of zeros.
    fn other(&self, node: &Node<'_>) -> Result<Value> {
        for at in 0..node.inputs.len() {
            match self.get(node, at)? {
                Value::Absent | Value::Constant(_) | Value::Sizes(_) | Value::Filled(_) | Value::Opaque => {}
                Value::Flow(_) | Value::Given { .. } => {
                    return Err(refused(node, "the operator is not carried out"));
                }
            }
        }
        Ok(Value::Opaque)
    }
}

/// Whether a value is what the network computes, which infinities may be in.
fn is_data(value: &Value) -> bool {
    matches!(value, Value::Flow(flow) if flow.source != Source::Ids)
}
