//! Matrices of weights.

use super::super::bad;
use crate::error::{Error, Result};
use crate::memory::with_room;

/// A matrix, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Matrix {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) values: Vec<f32>,
}

impl Matrix {
    /// As many values as the shape says.
    pub(in super::super) fn new(rows: usize, columns: usize, values: Vec<f32>) -> Result<Self> {
        if rows.checked_mul(columns) == Some(values.len()) {
            Ok(Self { rows, columns, values })
        } else {
            Err(bad(format_args!("a matrix of {rows} x {columns} has {} values", values.len())))
        }
    }

    pub(in super::super) fn rows(&self) -> usize {
        self.rows
    }

    pub(in super::super) fn columns(&self) -> usize {
        self.columns
    }

    #[cfg(feature = "keras")]
    pub(in super::super) fn get(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.columns + column]
    }

    #[cfg(any(feature = "keras", feature = "torch"))]
    pub(in super::super) fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// Matrices of as many rows, side by side.
    #[cfg(feature = "keras")]
    pub(in super::super) fn beside(matrices: &[&Self]) -> Result<Self> {
        let rows = matrices.first().map_or(0, |first| first.rows);
        if matrices.iter().any(|matrix| matrix.rows != rows) {
            return Err(bad("matrices of several heights stand side by side"));
        }
        let columns = matrices.iter().map(|matrix| matrix.columns).sum();
        let mut values = with_room(matrices.iter().map(|matrix| matrix.values.len()).sum())?;
        for row in 0..rows {
            for matrix in matrices {
                values.extend_from_slice(&matrix.values[row * matrix.columns..][..matrix.columns]);
            }
        }
        Self::new(rows, columns, values)
    }

    pub(in super::super) fn transposed(&self) -> Result<Self> {
        let mut values = with_room(self.values.len())?;
        for column in 0..self.columns {
            values.extend((0..self.rows).map(|row| self.values[row * self.columns + column]));
        }
        Ok(Self { rows: self.columns, columns: self.rows, values })
    }

    /// The columns in blocks, one a gate, in another order: block `g` of the result is block `order[g]` here.
    pub(in super::super) fn reordered(&self, order: &[usize]) -> Result<Self> {
        let mut values = with_room(self.values.len())?;
        for row in self.values.chunks_exact(self.columns.max(1)) {
            extend_reordered(&mut values, row, order);
        }
        Ok(Self { values, ..*self })
    }

    /// A matrix with these values on its diagonal.
    pub(super) fn diagonal(diagonal: &[f32]) -> Result<Self> {
        let size = diagonal.len();
        let count = size.checked_mul(size).ok_or(Error::OutOfMemory { bytes: usize::MAX })?;
        let mut values = crate::memory::zeros(count)?;
        for (at, value) in diagonal.iter().enumerate() {
            values[at * size + at] = *value;
        }
        Ok(Self { rows: size, columns: size, values })
    }
}

pub(super) fn extend_reordered(to: &mut Vec<f32>, from: &[f32], order: &[usize]) {
    let units = from.len() / order.len();
    for &gate in order {
        to.extend_from_slice(&from[gate * units..(gate + 1) * units]);
    }
}
