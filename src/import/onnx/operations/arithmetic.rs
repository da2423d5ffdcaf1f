//! Products, sums and functions: dense layers, normalisations and activations.

use super::super::super::network::{Activation, Affine, Matrix};
use super::super::constant::Constant;
use super::super::flow::{Axis, Filling, Flow, Source, Value};
use super::super::graph::{Walk, refused};
use super::super::proto::Node;
use super::super::recurrent;
use super::shapes::combine_sizes;
use super::{constant, index, is_data, number, sizes};
use crate::error::Result;

impl<'a> Walk<'a> {
    pub(super) fn matmul(&mut self, node: &Node<'_>) -> Result<Value> {
        match (self.get(node, 0)?, self.get(node, 1)?) {
            (Value::Flow(flow), Value::Constant(kernel)) => {
                let kernel = matrix(node, &kernel)?;
                self.dense(node, &flow, kernel, None)
            }
            (_, Value::Flow(_)) => Err(refused(node, "the second factor is no constant")),
            _ => self.other(node),
        }
    }

    pub(super) fn gemm(&mut self, node: &Node<'_>) -> Result<Value> {
        let Value::Flow(flow) = self.get(node, 0)? else { return self.other(node) };
        if node.int("transA").unwrap_or(0) != 0 {
            return Err(refused(node, "transA = 1"));
        }
        let [alpha, beta] = ["alpha", "beta"].map(|name| node.float(name).unwrap_or(1.0));
        if alpha != 1.0 {
            return Err(refused(node, format_args!("alpha = {alpha}")));
        }
        let mut kernel = matrix(node, &*self.constant(node, 1)?)?;
        if node.int("transB").unwrap_or(0) != 0 {
            kernel = kernel.transposed()?;
        }
        let bias = match self.get(node, 2)? {
            Value::Absent => None,
            _ if beta != 1.0 => return Err(refused(node, format_args!("beta = {beta}"))),
            _ => Some(along_features(node, &*self.constant(node, 2)?, kernel.columns())?),
        };
        self.dense(node, &flow, kernel, bias)
    }

    pub(super) fn arithmetic(&mut self, node: &Node<'_>) -> Result<Value> {
        let operation = |a: f64, b: f64| match node.operator {
            "Add" => a + b,
            "Sub" => a - b,
            "Mul" => a * b,
            _ => a / b,
        };
        let (first, second) = (self.get(node, 0)?, self.get(node, 1)?);
        if let (Value::Constant(first), Value::Constant(second)) = (&first, &second) {
            // What is divided by zero as a whole number is nobody's constant.
            let whole = node.operator == "Div" && first.ints().and(second.ints()).is_some();
            if whole {
                return self.other(node);
            }
            let combined = first.combined(second, operation, &self.budget)?;
            return combined.map(constant).ok_or_else(|| refused(node, "constants of several shapes"));
        }
        // The rules of zero and one, by which what is added for negative token ids goes away.
        match (node.operator, number(&first), number(&second)) {
            ("Mul", Some(0.0), _) if !is_data(&second) => return Ok(first),
            ("Mul", _, Some(0.0)) if !is_data(&first) => return Ok(second),
            ("Mul", Some(1.0), _) | ("Add", Some(0.0), _) => return Ok(second),
            ("Mul" | "Div", _, Some(1.0)) | ("Add" | "Sub", _, Some(0.0)) => return Ok(first),
            _ => {}
        }
        if let (Some(first), Some(second)) = (sizes(&first), sizes(&second)) {
            return Ok(Value::Sizes(combine_sizes(node, &first, &second)));
        }
        match (first, second) {
            (Value::Flow(flow), Value::Constant(_) | Value::Sizes(_)) if flow.source == Source::Ids => {
                Ok(Value::Opaque)
            }
            (Value::Flow(flow), Value::Constant(other)) => self.affine_of(node, &flow, &other, false),
            (Value::Constant(other), Value::Flow(flow)) if flow.source != Source::Ids => {
                self.affine_of(node, &flow, &other, true)
            }
            (Value::Flow(first), Value::Flow(second)) => self.join_halves(node, &first, &second),
            _ => self.other(node),
        }
    }

    /// Data combined with constants along the features; `swapped` where the constants stand first.
    fn affine_of(&mut self, node: &Node<'_>, flow: &Flow, other: &Constant, swapped: bool) -> Result<Value> {
        let width = if other.len() > 1 { other.dims.last().copied() } else { self.width() };
        let width = width.ok_or_else(|| refused(node, "the number of features is not known"))?;
        let values = along_features(node, other, width)?;
        let each = |of: &dyn Fn(f64) -> f64| values.iter().map(|&value| of(value.into())).collect::<Vec<_>>();
        let (scale, shift) = match (node.operator, swapped) {
            ("Add", _) => (each(&|_| 1.0), each(&|value| value)),
            ("Sub", false) => (each(&|_| 1.0), each(&|value| -value)),
            ("Sub", true) => (each(&|_| -1.0), each(&|value| value)),
            ("Mul", _) => (each(&|value| value), each(&|_| 0.0)),
            ("Div", false) => (each(&|value| 1.0 / value), each(&|_| 0.0)),
            _ => return Err(refused(node, "divides by what the network computes")),
        };
        if other.len() > 1 && self.line(node, flow)?.last() != Some(&Axis::Features) {
            return Err(refused(node, "constants along another axis than the features"));
        }
        self.affine(node, flow, Affine { scale, shift })
    }

    pub(super) fn batch_normalization(&mut self, node: &Node<'_>) -> Result<Value> {
        let Value::Flow(flow) = self.get(node, 0)? else { return self.other(node) };
        if node.int("training_mode").unwrap_or(0) != 0 {
            return Err(refused(node, "training_mode = 1"));
        }
        let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
        let scale = self.constant(node, 1)?;
        let width = scale.len();
        let mut lists = Vec::new();
        for at in 1..5 {
            lists.push(along_features(node, &*self.constant(node, at)?, width)?);
        }
        let axes = self.line(node, &flow)?;
        if axes.get(1) != Some(&Axis::Features) {
            return Err(refused(node, "normalises another axis than the features"));
        }
        let wide = |at: usize, i: usize| f64::from(lists[at][i]);
        let scale: Vec<f64> = (0..width).map(|i| wide(0, i) / (wide(3, i) + epsilon).sqrt()).collect();
        let shift = (0..width).map(|i| wide(1, i) - wide(2, i) * scale[i]).collect();
        self.affine(node, &flow, Affine { scale, shift })
    }

    pub(super) fn choose(&mut self, node: &Node<'_>) -> Result<Value> {
        match number(&self.get(node, 0)?) {
            Some(0.0) => self.get(node, 2),
            Some(_) => self.get(node, 1),
            None => self.other(node),
        }
    }

    /// Whether a token id is negative: never.
    pub(super) fn compare(&mut self, node: &Node<'_>) -> Result<Value> {
        match (node.operator, self.get(node, 0)?) {
            ("Less", Value::Flow(Flow { source: Source::Ids, .. }))
                if number(&self.get(node, 1)?) == Some(0.0) =>
            {
                Ok(Value::Filled(Filling::Number(0.0)))
            }
            ("Not", Value::Filled(Filling::Number(number))) => {
                Ok(Value::Filled(Filling::Number(if number == 0.0 { 1.0 } else { 0.0 })))
            }
            _ => self.other(node),
        }
    }

    pub(super) fn activation(&mut self, node: &Node<'_>) -> Result<Value> {
        let Value::Flow(flow) = self.get(node, 0)? else { return self.other(node) };
        let alpha = |default| node.float("alpha").unwrap_or(default);
        let function = match node.operator {
            "Relu" => Some(Activation::Relu),
            "Tanh" => Some(Activation::Tanh),
            "Sigmoid" => Some(Activation::Sigmoid),
            "Softplus" => Some(Activation::Softplus),
            "Elu" => recurrent::elu(alpha(1.0)),
            "LeakyRelu" => recurrent::leaky_relu(alpha(0.01)),
            "HardSigmoid" => recurrent::hard_sigmoid(alpha(0.2), node.float("beta").unwrap_or(0.5)),
            _ => {
                // Before 13 all axes from this one on were one.
                let default = if self.opset < 13 { 1 } else { -1 };
                let at = index(node.int("axis").unwrap_or(default), flow.axes.len());
                (at == flow.axes.len().checked_sub(1)).then_some(Activation::Softmax)
            }
        };
        let function = function.ok_or_else(|| {
            let numbers: Vec<_> =
                node.attributes.iter().map(|given| (given.name, given.float, given.int)).collect();
            refused(node, format_args!("attributes {numbers:?}"))
        })?;
        self.function(node, &flow, function)
    }
}

fn matrix(node: &Node<'_>, constant: &Constant) -> Result<Matrix> {
    match (constant.floats(), &constant.dims[..]) {
        (Some(values), &[rows, columns]) => Matrix::new(rows, columns, values.to_vec()),
        _ => Err(refused(node, format_args!("a factor of shape {:?}", constant.dims))),
    }
}

/// `width` values along the last axis, or one for all.
fn along_features(node: &Node<'_>, constant: &Constant, width: usize) -> Result<Vec<f32>> {
    let values = constant.floats().unwrap_or_default();
    match *values {
        [one] if width > 0 && width <= 1 << 20 => Ok(vec![one; width]),
        _ if values.len() == width && constant.dims.last() == Some(&width) => Ok(values.to_vec()),
        _ => {
            Err(refused(node, format_args!("constants of shape {:?} beside {width} features", constant.dims)))
        }
    }
}
