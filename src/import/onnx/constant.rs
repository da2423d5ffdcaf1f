//! Constants of a graph, and what exporters compute from constants.

use std::cell::Cell;

use super::super::{bad, unsupported};
use super::proto::{self, Numbers};
use crate::error::Result;
use crate::memory::with_room;

/// Values that folding may make, so that a small file does not ask for much memory: a multiple of its bytes.
#[derive(Debug)]
pub(super) struct Budget(Cell<usize>);

impl Budget {
    pub(super) fn of_file(bytes: usize) -> Self {
        Self(Cell::new(bytes.saturating_mul(4).saturating_add(4096)))
    }

    fn take(&self, values: usize) -> Result<()> {
        let left = self.0.get().checked_sub(values);
        self.0.set(left.ok_or_else(|| bad("ONNX: the constants grow beyond what a file of this size has"))?);
        Ok(())
    }
}

/// A tensor whose values are known.
#[derive(Clone, Debug)]
pub(super) struct Constant {
    pub(super) dims: Vec<usize>,
    pub(super) numbers: Numbers,
}

impl Constant {
    pub(super) fn read(tensor: &proto::Tensor<'_>) -> Result<Self> {
        let name = tensor.name;
        if tensor.external {
            return Err(unsupported(format_args!(
                "tensor {name:?}: its values are in another file (external data); \
                 torch.onnx.export(..., external_data=False) leaves them in the model"
            )));
        }
        let numbers = tensor
            .numbers()?
            .ok_or_else(|| unsupported(format_args!("tensor {name:?}: data type {}", tensor.kind)))?;
        let dims = tensor.dims.iter().map(|&dim| usize::try_from(dim)).collect::<std::result::Result<_, _>>();
        let dims: Vec<usize> =
            dims.map_err(|_| bad(format_args!("ONNX: tensor {name:?} has a negative size")))?;
        let constant = Self { dims, numbers };
        if product(&constant.dims) == Some(constant.len()) {
            Ok(constant)
        } else {
            Err(bad(format_args!(
                "ONNX: tensor {name:?} of shape {:?} has {} values",
                constant.dims,
                constant.len()
            )))
        }
    }

    /// A list of numbers.
    pub(super) fn list(numbers: Vec<i64>) -> Self {
        Self { dims: vec![numbers.len()], numbers: Numbers::Ints(numbers) }
    }

    /// A list of floats.
    pub(super) fn floats_of(values: Vec<f32>) -> Self {
        Self { dims: vec![values.len()], numbers: Numbers::Floats(values) }
    }

    pub(super) fn len(&self) -> usize {
        match &self.numbers {
            Numbers::Floats(values) => values.len(),
            Numbers::Ints(values) => values.len(),
        }
    }

    pub(super) fn floats(&self) -> Option<&[f32]> {
        match &self.numbers {
            Numbers::Floats(values) => Some(values),
            Numbers::Ints(_) => None,
        }
    }

    pub(super) fn ints(&self) -> Option<&[i64]> {
        match &self.numbers {
            Numbers::Ints(values) => Some(values),
            Numbers::Floats(_) => None,
        }
    }

    /// The value at a place, as the widest kind of number.
    pub(super) fn number(&self, at: usize) -> f64 {
        match &self.numbers {
            Numbers::Floats(values) => values[at].into(),
            Numbers::Ints(values) => values[at] as f64,
        }
    }

    /// The value that all places have.
    pub(super) fn uniform(&self) -> Option<f64> {
        let first = (self.len() > 0).then(|| self.number(0))?;
        (1..self.len()).all(|at| self.number(at) == first).then_some(first)
    }

    /// The same values in another shape.
    pub(super) fn reshaped(&self, dims: Vec<usize>, budget: &Budget) -> Result<Self> {
        if product(&dims) != Some(self.len()) {
            return Err(bad(format_args!("ONNX: {} values do not have the shape {dims:?}", self.len())));
        }
        budget.take(self.len())?;
        Ok(Self { dims, numbers: self.numbers.clone() })
    }

    /// The values at these places, in a shape of as many.
    fn picked(&self, dims: Vec<usize>, places: impl Iterator<Item = usize>, budget: &Budget) -> Result<Self> {
        let count = product(&dims).ok_or_else(|| bad("ONNX: a constant's size overflows"))?;
        budget.take(count)?;
        let numbers = match &self.numbers {
            Numbers::Floats(from) => {
                let mut values = with_room(count)?;
                values.extend(places.map(|place| from[place]));
                Numbers::Floats(values)
            }
            Numbers::Ints(from) => {
                let mut values = with_room(count)?;
                values.extend(places.map(|place| from[place]));
                Numbers::Ints(values)
            }
        };
        Ok(Self { dims, numbers })
    }

    /// Axis `i` of the result is axis `order[i]` here. `order` is a permutation.
    pub(super) fn transposed(&self, order: &[usize], budget: &Budget) -> Result<Self> {
        let strides = strides(&self.dims);
        let dims: Vec<usize> = order.iter().map(|&axis| self.dims[axis]).collect();
        let steps: Vec<usize> = order.iter().map(|&axis| strides[axis]).collect();
        let inner = dims.clone();
        let place = move |at: usize| {
            let (mut rest, mut place) = (at, 0);
            for (dim, step) in inner.iter().zip(&steps).rev() {
                place += rest % dim * step;
                rest /= dim;
            }
            place
        };
        self.picked(dims, (0..self.len()).map(place), budget)
    }

    /// The values at some indices of an axis, all of which are there.
    pub(super) fn selected(&self, axis: usize, indices: &[usize], budget: &Budget) -> Result<Self> {
        let size = self.dims[axis];
        let inner: usize = self.dims[axis + 1..].iter().product();
        let outer: usize = self.dims[..axis].iter().product();
        let mut dims = self.dims.clone();
        dims[axis] = indices.len();
        let places = (0..outer).flat_map(|row| {
            indices.iter().flat_map(move |index| {
                let start = (row * size + index) * inner;
                start..start + inner
            })
        });
        self.picked(dims, places, budget)
    }

    /// Constants one behind the other along an axis; `None` where they do not fit.
    pub(super) fn joined(parts: &[&Self], axis: usize, budget: &Budget) -> Result<Option<Self>> {
        let Some(first) = parts.first().filter(|first| axis < first.dims.len()) else { return Ok(None) };
        let others = |dims: &[usize]| [&dims[..axis], &dims[axis + 1..]].concat();
        let fit = |part: &&Self| {
            part.dims.len() == first.dims.len()
                && others(&part.dims) == others(&first.dims)
                && part.floats().is_some() == first.floats().is_some()
        };
        if !parts.iter().all(fit) {
            return Ok(None);
        }
        let mut dims = first.dims.clone();
        dims[axis] = parts.iter().map(|part| part.dims[axis]).sum();
        let count = product(&dims).ok_or_else(|| bad("ONNX: a constant's size overflows"))?;
        budget.take(count)?;
        let outer: usize = dims[..axis].iter().product();
        let (mut floats, mut ints) = (Vec::new(), Vec::new());
        for row in 0..outer {
            for part in parts {
                let width = part.len() / outer;
                match &part.numbers {
                    Numbers::Floats(values) => floats.extend_from_slice(&values[row * width..][..width]),
                    Numbers::Ints(values) => ints.extend_from_slice(&values[row * width..][..width]),
                }
            }
        }
        let numbers = if first.floats().is_some() { Numbers::Floats(floats) } else { Numbers::Ints(ints) };
        Ok(Some(Self { dims, numbers }))
    }

    /// Floats as whole numbers, or the other way round.
    pub(super) fn cast(&self, to_float: bool, budget: &Budget) -> Result<Self> {
        budget.take(self.len())?;
        let numbers = match (&self.numbers, to_float) {
            (Numbers::Ints(values), true) => {
                Numbers::Floats(values.iter().map(|&value| value as f32).collect())
            }
            (Numbers::Floats(values), false) => {
                Numbers::Ints(values.iter().map(|&value| value as i64).collect())
            }
            (same, _) => same.clone(),
        };
        Ok(Self { dims: self.dims.clone(), numbers })
    }

    /// `operation` on each pair of values, of one shape or one of them alone; `None` where they do not fit.
    pub(super) fn combined(
        &self,
        other: &Self,
        operation: impl Fn(f64, f64) -> f64,
        budget: &Budget,
    ) -> Result<Option<Self>> {
        let dims = match (self.len(), other.len()) {
            _ if self.dims == other.dims => &self.dims,
            (1, _) => &other.dims,
            (_, 1) => &self.dims,
            _ => return Ok(None),
        };
        let count = self.len().max(other.len());
        if self.len() == 0 || other.len() == 0 {
            return Ok(None);
        }
        budget.take(count)?;
        let at = |constant: &Self, place: usize| constant.number(if constant.len() == 1 { 0 } else { place });
        let values = (0..count).map(|place| operation(at(self, place), at(other, place)));
        let numbers = match self.ints().and(other.ints()) {
            Some(_) => Numbers::Ints(values.map(|value| value as i64).collect()),
            None => Numbers::Floats(values.map(|value| value as f32).collect()),
        };
        Ok(Some(Self { dims: dims.clone(), numbers }))
    }
}

/// The product of sizes, where that and every product of some of them can be counted, zeros or not.
fn product(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |all, &dim| all.checked_mul(dim.max(1)))?;
    Some(dims.iter().product())
}

fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}
