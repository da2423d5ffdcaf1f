//! Constants and sizes: what a graph computes of shapes before anything flows.

use super::super::super::bytes::shown;
use super::super::constant::Constant;
use super::super::flow::{Axis, Dim, Filling, Flow, Source, Value};
use super::super::graph::{Walk, refused};
use super::super::proto::Node;
use super::{constant, index, number};
use crate::error::Result;

impl<'a> Walk<'a> {
    pub(super) fn constant_of(&self, node: &Node<'_>) -> Result<Value> {
        let attribute = node.attributes.first().ok_or_else(|| refused(node, "has no value"))?;
        let scalar = |list: Constant| Constant { dims: Vec::new(), ..list };
        Ok(constant(match (attribute.name, &attribute.tensor) {
            ("value", Some(tensor)) => Constant::read(tensor)?,
            ("value_int", _) => scalar(Constant::list(vec![attribute.int])),
            ("value_ints", _) => Constant::list(attribute.ints.clone()),
            ("value_float", _) => scalar(Constant::floats_of(vec![attribute.float])),
            ("value_floats", _) => Constant::floats_of(attribute.floats.clone()),
            (name, _) => return Err(refused(node, format_args!("attribute {:?}", shown(name.as_bytes())))),
        }))
    }

    pub(super) fn cast(&self, node: &Node<'_>) -> Result<Value> {
        const FLOATS: [i64; 4] = [1, 10, 11, 16];
        let to_float = node.int("to").is_some_and(|to| FLOATS.contains(&to));
        Ok(match self.get(node, 0)? {
            Value::Constant(value) => constant(value.cast(to_float, &self.budget)?),
            Value::Flow(Flow { source: Source::Input, axes }) if !to_float => {
                Value::Flow(Flow { source: Source::Ids, axes })
            }
            Value::Flow(flow) if !to_float && flow.source != Source::Ids => {
                return Err(refused(node, "makes whole numbers of what the network computes"));
            }
            other => other,
        })
    }

    pub(super) fn shape(&self, node: &Node<'_>) -> Result<Value> {
        let all = match self.get(node, 0)? {
            Value::Constant(value) => value.dims.iter().map(|&dim| Dim::Known(dim as i64)).collect(),
            Value::Flow(flow) => flow.axes.iter().map(|&axis| self.size_of(&flow, axis)).collect::<Vec<_>>(),
            // What stands beside the main input has sizes that nobody here knows, of at most three axes.
            Value::Given { .. } => vec![Dim::Other; 3],
            _ => return Ok(Value::Opaque),
        };
        let bound = |name, default: usize| match node.int(name) {
            None => default,
            Some(at) if at < 0 => all.len().saturating_sub(at.unsigned_abs() as usize),
            Some(at) => all.len().min(at as usize),
        };
        let (start, end) = (bound("start", 0), bound("end", all.len()));
        Ok(Value::Sizes(all.get(start..end).unwrap_or_default().to_vec()))
    }

    pub(super) fn constant_of_shape(&self, node: &Node<'_>) -> Result<Value> {
        let value = match node.attribute("value").and_then(|attribute| attribute.tensor.as_ref()) {
            Some(tensor) => Constant::read(tensor)?.uniform(),
            None => Some(0.0),
        };
        let value = value.ok_or_else(|| refused(node, "a value of several numbers"))?;
        Ok(Value::Filled(Filling::Number(value)))
    }

    pub(super) fn expand(&self, node: &Node<'_>) -> Result<Value> {
        let value = self.get(node, 0)?;
        match (number(&value), &value) {
            (Some(number), _) => Ok(Value::Filled(Filling::Number(number))),
            (_, Value::Filled(filling)) => Ok(Value::Filled(*filling)),
            (_, Value::Sizes(sizes)) if sizes.len() == 1 => Ok(Value::Filled(Filling::Dim(sizes[0]))),
            (_, Value::Sizes(_) | Value::Opaque) => Ok(Value::Opaque),
            _ => Err(refused(node, "repeats other values than one")),
        }
    }

    /// The size of an axis where directions may have joined the features.
    pub(super) fn size_after(&self, flow: &Flow, axis: Axis) -> Dim {
        match (axis, flow.axes.contains(&Axis::Stack), self.size_of(flow, axis)) {
            (Axis::Features, true, Dim::Known(_)) if flow.pieces().len() > 1 => Dim::Other,
            (_, _, size) => size,
        }
    }
}

/// Sizes with axes of size 1 put in, or taken out: those that are named, or all that are `one`.
pub(super) fn resized<T: Copy>(
    sizes: &[T],
    axes: Option<&[i64]>,
    insert: bool,
    new: T,
    one: impl Fn(usize, T) -> bool,
) -> Option<Vec<T>> {
    let rank = if insert { sizes.len() + axes?.len() } else { sizes.len() };
    let named = axes.map(|axes| axes.iter().map(|&axis| index(axis, rank)).collect::<Option<Vec<_>>>());
    let named = match named {
        Some(named) => Some(named?),
        None => None,
    };
    if insert {
        let named = named?;
        let mut old = sizes.iter();
        return (0..rank)
            .map(|at| if named.contains(&at) { Some(new) } else { old.next().copied() })
            .collect();
    }
    let gone = |at: usize, size: T| match &named {
        Some(named) => named.contains(&at),
        None => one(at, size),
    };
    let mut left = Vec::new();
    for (at, &size) in sizes.iter().enumerate() {
        match gone(at, size) {
            true if !one(at, size) => return None,
            true => {}
            false => left.push(size),
        }
    }
    Some(left)
}

/// A constant's shape where 0 keeps a size and -1 is what is left.
pub(super) fn constant_shape(data: &Constant, wanted: &[Dim]) -> Option<Vec<usize>> {
    let mut dims = Vec::new();
    let mut open = None;
    for (at, size) in wanted.iter().enumerate() {
        dims.push(match *size {
            Dim::Known(0) => *data.dims.get(at)?,
            Dim::Known(-1) if open.is_none() => {
                open = Some(at);
                1
            }
            Dim::Known(size) => usize::try_from(size).ok()?,
            _ => return None,
        });
    }
    if let Some(open) = open {
        let others = dims.iter().try_fold(1usize, |all, &dim| all.checked_mul(dim))?;
        dims[open] = data.len().checked_div(others)?;
    }
    Some(dims)
}

/// Sizes added or multiplied.
pub(super) fn combine_sizes(node: &Node<'_>, first: &[Dim], second: &[Dim]) -> Vec<Dim> {
    let len = first.len().max(second.len());
    let at = |sizes: &[Dim], place: usize| match sizes {
        [one] => *one,
        _ => sizes.get(place).copied().unwrap_or(Dim::Other),
    };
    let combine = |place: usize| match (at(first, place), at(second, place)) {
        (Dim::Known(a), Dim::Known(b)) => {
            let combined = match node.operator {
                "Add" => a.checked_add(b),
                "Sub" => a.checked_sub(b),
                "Mul" => a.checked_mul(b),
                _ => a.checked_div(b),
            };
            combined.map_or(Dim::Other, Dim::Known)
        }
        _ => Dim::Other,
    };
    (0..len).map(combine).collect()
}
