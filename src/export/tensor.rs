//! Weights in the layout of PyTorch and ONNX: `[gates x units, inputs]`, and gates in orders of their own.

use super::bytes::Bytes;
use crate::error::Result;
use crate::layers::Variable;

/// Floats of a tensor, as they are to be written.
#[derive(Clone, Debug)]
pub(super) enum Values<'a> {
    /// As they lie here.
    Plain(&'a [f32]),
    /// A kernel with rows and columns changed over, and its gates in this order of Keras's.
    Transposed(&'a Variable, Vec<usize>),
    /// A row of biases with the gates in this order of Keras's.
    Gates(&'a [f32], Vec<usize>),
    /// So many zeros.
    Zeros(usize),
}

impl Values<'_> {
    fn len(&self) -> usize {
        match self {
            Values::Plain(values) | Values::Gates(values, _) => values.len(),
            Values::Transposed(kernel, _) => kernel.values().len(),
            Values::Zeros(count) => *count,
        }
    }

    fn put(&self, to: &mut Bytes) -> Result<()> {
        to.reserve(self.len() * size_of::<f32>())?;
        let mut put = |value: f32| to.put(&value.to_le_bytes());
        match self {
            Values::Plain(values) => values.iter().try_for_each(|&value| put(value)),
            Values::Transposed(kernel, order) => {
                let [_, columns] = kernel.shape();
                let units = columns / order.len();
                let of_gate = |&gate: &usize| gate * units..(gate + 1) * units;
                order.iter().flat_map(of_gate).try_for_each(|column| {
                    kernel.values().iter().skip(column).step_by(columns).try_for_each(|&value| put(value))
                })
            }
            Values::Gates(values, order) => {
                let units = values.len() / order.len();
                let of_gate = |&gate: &usize| &values[gate * units..(gate + 1) * units];
                order.iter().flat_map(of_gate).try_for_each(|&value| put(value))
            }
            Values::Zeros(count) => (0..*count).try_for_each(|_| put(0.0)),
        }
    }
}

/// A named tensor of floats: the values of its parts one behind the other.
#[derive(Debug)]
pub(super) struct Tensor<'a> {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) parts: Vec<Values<'a>>,
}

impl<'a> Tensor<'a> {
    /// A tensor of one part.
    pub(super) fn new(name: String, shape: &[usize], values: Values<'a>) -> Self {
        Self { name, shape: shape.to_vec(), parts: vec![values] }
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(Values::len).sum()
    }

    /// Bytes of the values.
    pub(super) fn bytes(&self) -> usize {
        self.len() * size_of::<f32>()
    }

    pub(super) fn put(&self, to: &mut Bytes) -> Result<()> {
        self.parts.iter().try_for_each(|part| part.put(to))
    }
}
