//! Scales and shifts by feature, folded into the layers beside them.

use super::Matrix;
use crate::error::Result;
use crate::memory::with_room;

/// `x · scale + shift`, element by element: a batch normalisation at inference.
#[derive(Clone, Debug)]
pub(in super::super) struct Affine {
    pub(in super::super) scale: Vec<f64>,
    pub(in super::super) shift: Vec<f64>,
}

impl Affine {
    /// This one behind `first`.
    pub(super) fn behind(mut self, first: &Self) -> Self {
        for (i, (scale, shift)) in self.scale.iter_mut().zip(&mut self.shift).enumerate() {
            *shift += first.shift[i] * *scale;
            *scale *= first.scale[i];
        }
        self
    }

    /// What this does with a kernel's result, the kernel does alone afterwards. Gives its bias.
    pub(super) fn fold_behind(&self, kernel: &mut Matrix, bias: Option<Vec<f32>>) -> Result<Vec<f32>> {
        for row in kernel.values.chunks_exact_mut(kernel.columns.max(1)) {
            row.iter_mut()
                .zip(&self.scale)
                .for_each(|(value, scale)| *value = (f64::from(*value) * scale) as f32);
        }
        let mut folded = bias.map_or_else(|| crate::memory::zeros(kernel.columns), Ok)?;
        for (value, (scale, shift)) in folded.iter_mut().zip(self.scale.iter().zip(&self.shift)) {
            *value = (f64::from(*value) * scale + shift) as f32;
        }
        Ok(folded)
    }

    /// What the kernel above does with `x · scale + shift`, it does with `x` afterwards. Exact but for
    /// rounding: sums are made in double precision.
    pub(super) fn fold_into(
        &self,
        kernel: &mut Matrix,
        bias: &mut Option<Vec<f32>>,
        bias_rows: usize,
    ) -> Result<()> {
        let columns = kernel.columns;
        let mut folded =
            bias.take().map_or_else(|| crate::memory::zeros(bias_rows.saturating_mul(columns)), Ok)?;
        let mut sums = with_room(columns)?;
        // A second row is the recurrent bias, which is none of the input's.
        sums.extend(folded[..columns].iter().map(|&value| f64::from(value)));
        let rows = kernel.values.chunks_exact_mut(columns);
        for (row, (scale, shift)) in rows.zip(self.scale.iter().zip(&self.shift)) {
            for (value, sum) in row.iter_mut().zip(&mut sums) {
                *sum += f64::from(*value) * shift;
                *value = (f64::from(*value) * scale) as f32;
            }
        }
        folded.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum as f32);
        *bias = Some(folded);
        Ok(())
    }
}
