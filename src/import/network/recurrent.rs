//! Recurrent layers: their cells, in what order a framework keeps the gates, and their directions.

use super::super::bad;
use super::matrix::extend_reordered;
use super::{Activation, Cell, Matrix};
use crate::error::Result;
use crate::layers::MergeMode;
use crate::memory::with_room;

/// Keras's name of a cell's layer.
pub(in super::super) const fn name_of(cell: Cell) -> &'static str {
    match cell {
        Cell::SimpleRnn => "SimpleRNN",
        Cell::Lstm => "LSTM",
        Cell::Gru { .. } => "GRU",
    }
}

/// Where a framework keeps its gates: for each of Keras's (i f c o, z r h) the place of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GateOrder {
    lstm: [usize; 4],
    gru: [usize; 3],
}

impl GateOrder {
    /// i f g o; r z n.
    pub(crate) const TORCH: Self = Self { lstm: [0, 1, 2, 3], gru: [1, 0, 2] };
    /// i o f c; z r h.
    pub(crate) const ONNX: Self = Self { lstm: [0, 2, 3, 1], gru: [0, 1, 2] };

    pub(super) fn of(&self, cell: Cell) -> &[usize] {
        match cell {
            Cell::SimpleRnn => &[0],
            Cell::Lstm => &self.lstm,
            Cell::Gru { .. } => &self.gru,
        }
    }

    /// The other way round: which of Keras's gates stands at each of the framework's places.
    pub(crate) fn keras_gates(&self, cell: Cell) -> Vec<usize> {
        let places = self.of(cell);
        (0..places.len()).filter_map(|at| places.iter().position(|&place| place == at)).collect()
    }
}

/// The weights of one direction, in Keras's layout and order: kernel `[input, gates x units]`, recurrent
/// kernel `[units, gates x units]`, and a bias of one row, or of two for a GRU whose reset gate comes after.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Direction {
    pub(super) kernel: Matrix,
    pub(super) recurrent: Matrix,
    pub(super) bias: Option<Vec<f32>>,
}

impl Direction {
    /// Weights as Keras keeps them; a bias has all its rows.
    pub(in super::super) fn new(kernel: Matrix, recurrent: Matrix, bias: Option<Vec<f32>>) -> Self {
        Self { kernel, recurrent, bias }
    }

    /// Weights that lie as `[gates x units, columns]` with gates in another order, and two biases, the
    /// input's and the recurrent one: PyTorch's and ONNX's.
    pub(in super::super) fn from_rows(
        cell: Cell,
        order: GateOrder,
        [input, recurrent]: [&Matrix; 2],
        biases: Option<[&[f32]; 2]>,
    ) -> Result<Self> {
        let order = order.of(cell);
        let wrong =
            |what: &str, len: usize| bad(format_args!("{} gates do not share {len} {what}", order.len()));
        for matrix in [input, recurrent] {
            if !matrix.rows.is_multiple_of(order.len()) {
                return Err(wrong("rows", matrix.rows));
            }
        }
        let bias = match biases {
            None => None,
            Some(biases) => {
                let width = input.rows;
                if let Some(other) = biases.iter().find(|bias| bias.len() != width) {
                    return Err(bad(format_args!("a bias has {} values beside {width} rows", other.len())));
                }
                let mut rows = with_room(2 * width)?;
                biases.iter().for_each(|bias| extend_reordered(&mut rows, bias, order));
                if cell.bias_rows() == 1 {
                    let (first, second) = rows.split_at_mut(width);
                    first.iter_mut().zip(second).for_each(|(to, more)| *to += *more);
                    rows.truncate(width);
                }
                Some(rows)
            }
        };
        Ok(Self {
            kernel: input.transposed()?.reordered(order)?,
            recurrent: recurrent.transposed()?.reordered(order)?,
            bias,
        })
    }

    pub(in super::super) fn inputs(&self) -> usize {
        self.kernel.rows
    }

    pub(in super::super) fn units(&self) -> usize {
        self.recurrent.rows
    }

    pub(super) fn check(&self, cell: Cell, features: usize, units: usize) -> Result<()> {
        if units == 0 {
            return Err(bad("has no units"));
        }
        let columns = cell.gates().saturating_mul(units);
        let shapes = [(&self.kernel, [features, columns]), (&self.recurrent, [units, columns])];
        for (matrix, [rows, columns]) in shapes {
            if [matrix.rows, matrix.columns] != [rows, columns] {
                return Err(bad(format_args!(
                    "{} of {units} units on {features} features has weights of {rows} x {columns}, got {} x {}",
                    name_of(cell),
                    matrix.rows,
                    matrix.columns
                )));
            }
        }
        match &self.bias {
            Some(bias) if bias.len() != cell.bias_rows().saturating_mul(columns) => Err(bad(format_args!(
                "{} of {units} units has a bias of {} x {columns}, got {} values",
                name_of(cell),
                cell.bias_rows(),
                bias.len()
            ))),
            _ => Ok(()),
        }
    }
}

/// What a recurrent part hands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Handed {
    /// Every step's output.
    Sequence,
    /// The output of the last step: in a part of two directions not [`LastState`](Self::LastState), since the
    /// backward half has seen one step there.
    LastStep,
    /// The last state of each direction.
    LastState,
}

/// A recurrent part.
#[derive(Clone, Debug)]
pub(in super::super) struct Rnn {
    pub(in super::super) cell: Cell,
    pub(in super::super) activation: Activation,
    pub(in super::super) recurrent_activation: Activation,
    pub(in super::super) handed: Handed,
    pub(in super::super) go_backwards: bool,
    pub(in super::super) stateful: bool,
    pub(in super::super) zero_output_for_mask: bool,
    pub(in super::super) dropout: f32,
    pub(in super::super) recurrent_dropout: f32,
    pub(in super::super) forward: Direction,
    pub(in super::super) backward: Option<(Direction, MergeMode)>,
}

impl Rnn {
    /// tanh, sigmoid gates, the sequence handed on, one direction, nothing dropped.
    pub(in super::super) fn new(cell: Cell, forward: Direction) -> Self {
        Self {
            cell,
            activation: Activation::Tanh,
            recurrent_activation: Activation::Sigmoid,
            handed: Handed::Sequence,
            go_backwards: false,
            stateful: false,
            zero_output_for_mask: false,
            dropout: 0.0,
            recurrent_dropout: 0.0,
            forward,
            backward: None,
        }
    }

    pub(in super::super) fn units(&self) -> usize {
        self.forward.units()
    }
}
