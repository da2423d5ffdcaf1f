//! Operators that move, add and remove axes.

use super::super::flow::{Axis, Dim, Value};
use super::super::graph::{Walk, refused};
use super::super::proto::Node;
use super::shapes::{constant_shape, resized};
use super::{constant, index, sizes};
use crate::error::Result;
use crate::layers::MergeMode;

impl<'a> Walk<'a> {
    /// Both directions of a recurrent node, joined element by element.
    pub(super) fn reduce(&mut self, node: &Node<'_>) -> Result<Value> {
        let Value::Flow(flow) = self.get(node, 0)? else { return self.other(node) };
        let mode = match node.operator {
            "ReduceSum" => MergeMode::Sum,
            "ReduceMean" => MergeMode::Ave,
            _ => MergeMode::Mul,
        };
        let given = self.get(node, 1)?;
        let axes = match (node.ints("axes"), &given) {
            (Some(axes), _) => axes,
            (None, Value::Constant(axes)) => axes.ints().unwrap_or_default(),
            _ => &[],
        };
        let axis = match axes {
            [axis] => index(*axis, flow.axes.len()).filter(|&at| flow.axes[at] == Axis::Stack),
            _ => None,
        };
        let axis = axis.filter(|_| flow.pieces().len() == 2).ok_or_else(|| {
            refused(
                node,
                format_args!(
                    "reduces the axes {axes:?}; both directions of a recurrent node can be joined so"
                ),
            )
        })?;
        let mut axes = flow.axes.clone();
        match node.int("keepdims").unwrap_or(1) {
            0 => _ = axes.remove(axis),
            _ => axes[axis] = Axis::One,
        }
        self.merge(node, &flow, mode, axes)
    }

    /// Axes of size 1 that come or go.
    pub(super) fn squeeze(&mut self, node: &Node<'_>) -> Result<Value> {
        let insert = node.operator == "Unsqueeze";
        let axes = match (node.ints("axes"), self.get(node, 1)?) {
            (Some(axes), _) => Some(axes.to_vec()),
            (None, Value::Constant(axes)) => axes.ints().map(<[i64]>::to_vec),
            (None, Value::Absent) => None,
            _ => return Err(refused(node, "axes that are not known beforehand")),
        };
        match self.get(node, 0)? {
            Value::Constant(data) => {
                let dims = resized(&data.dims, axes.as_deref(), insert, 1, |_, dim| dim == 1);
                let dims = dims.ok_or_else(|| refused(node, format_args!("axes {axes:?}")))?;
                Ok(constant(data.reshaped(dims, &self.budget)?))
            }
            Value::Flow(flow) => {
                let one = |_, axis| flow.is_one(axis) || self.size_of(&flow, axis) == Dim::Known(1);
                let moved = resized(&flow.axes, axes.as_deref(), insert, Axis::One, one);
                let moved = moved.ok_or_else(|| refused(node, format_args!("axes {axes:?}")))?;
                Ok(Value::Flow(flow.with_axes(moved)))
            }
            other => Ok(other),
        }
    }

    pub(super) fn reshape(&mut self, node: &Node<'_>) -> Result<Value> {
        let shape = self.get(node, 1)?;
        match self.get(node, 0)? {
            Value::Constant(data) => {
                let Some(wanted) = sizes(&shape) else {
                    return Err(refused(node, "a constant's shape is not known beforehand"));
                };
                let dims = constant_shape(&data, &wanted);
                let dims =
                    dims.ok_or_else(|| refused(node, format_args!("shape {wanted:?} of {:?}", data.dims)))?;
                Ok(constant(data.reshaped(dims, &self.budget)?))
            }
            Value::Flow(flow) => {
                let wanted =
                    sizes(&shape).ok_or_else(|| refused(node, "the shape is not known beforehand"))?;
                let keeps = node.int("allowzero").unwrap_or(0) == 0;
                let size = |(at, &size): (usize, &Dim)| match size {
                    Dim::Known(0) if keeps => {
                        flow.axes.get(at).map_or(Dim::Other, |&axis| self.size_of(&flow, axis))
                    }
                    Dim::Known(-1) => Dim::Other,
                    other => other,
                };
                let wanted: Vec<_> = wanted.iter().enumerate().map(size).collect();
                let axes = flow.reshaped(&wanted, |axis| self.size_after(&flow, axis));
                // Directions that stood side by side get an axis of their own.
                let parted = flow.parted();
                let axes = axes.or_else(|| parted.reshaped(&wanted, |axis| self.size_of(&parted, axis)));
                let axes = axes.ok_or_else(|| refused(node, format_args!("the shape {wanted:?}")))?;
                Ok(Value::Flow(flow.with_axes(axes)))
            }
            other => Ok(other),
        }
    }

    pub(super) fn transpose(&mut self, node: &Node<'_>) -> Result<Value> {
        let order = |rank: usize| {
            let reversed: Vec<i64> = (0..rank as i64).rev().collect();
            let order = node.ints("perm").unwrap_or(&reversed);
            let order = order.iter().map(|&axis| index(axis, rank)).collect::<Option<Vec<_>>>();
            let is_permutation =
                |order: &Vec<usize>| order.len() == rank && (0..rank).all(|axis| order.contains(&axis));
            order.filter(is_permutation).ok_or_else(|| refused(node, "perm is no order of the axes"))
        };
        match self.get(node, 0)? {
            Value::Constant(data) => Ok(constant(data.transposed(&order(data.dims.len())?, &self.budget)?)),
            Value::Flow(flow) => {
                let axes = order(flow.axes.len())?.iter().map(|&axis| flow.axes[axis]).collect();
                Ok(Value::Flow(flow.with_axes(axes)))
            }
            other => Ok(other),
        }
    }
}
