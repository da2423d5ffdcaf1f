//! Packed matrices.

use crate::dispatch::{KernelSet, StepsFn};
use crate::error::Result;
use crate::memory::{AlignedVec, checked_product};

/// Into how many segments the `terms` of a sum are cut in a matrix of `columns` columns.
///
/// A lone row has only `columns / 16` vectors of sums, and a fused multiply-add takes four cycles on two ports, so
/// narrow matrices need more independent sums than columns give: four segments up to 48 columns, two up to 112, one
/// beyond. A segment has at least four terms. This formula is part of what a result means: changing it changes bits.
pub(crate) fn segments(terms: usize, columns: usize) -> usize {
    let wanted = match columns.div_ceil(16) {
        0..=3 => 4,
        4..=7 => 2,
        _ => 1,
    };
    match terms / 4 {
        0..=1 => 1,
        2..=3 => wanted.min(2),
        _ => wanted,
    }
}

/// A matrix `[terms, columns]` in panels, immutable.
#[derive(Debug)]
pub(crate) struct PackedMatrix {
    terms: usize,
    columns: usize,
    segments: usize,
    /// Columns rounded up to whole vectors. This and the counts are kept because a division is a third of what the rest
    /// of a call for one small row costs.
    padded: usize,
    panel_count: usize,
    /// Groups of full panels that a lone row takes abreast.
    abreast: usize,
    kernels: &'static KernelSet,
    panels: AlignedVec,
}

/// One panel of a packed matrix.
pub(super) struct Panel<'a> {
    /// The first column.
    pub(super) column: usize,
    /// Floats a term: whole vectors.
    pub(super) width: usize,
    /// `terms` times `width`.
    pub(super) values: &'a [f32],
}

impl PackedMatrix {
    /// Packs `values` `[terms, columns]`, row by row, for `kernels`.
    pub(crate) fn new(
        kernels: &'static KernelSet,
        terms: usize,
        columns: usize,
        values: &[f32],
    ) -> Result<Self> {
        let padded = columns.next_multiple_of(kernels.lanes);
        let mut panels = AlignedVec::zeroed(checked_product("packed matrix", &[terms, padded])?)?;
        let width = kernels.panel();
        for first in (0..columns).step_by(width) {
            let here = (columns - first).min(width);
            let stride = (padded - first).min(width);
            let panel = &mut panels[first * terms..][..stride * terms];
            for (to, from) in panel.chunks_exact_mut(stride).zip(values.chunks_exact(columns)) {
                to[..here].copy_from_slice(&from[first..first + here]);
            }
        }
        Ok(Self {
            terms,
            columns,
            segments: segments(terms, columns),
            padded,
            panel_count: columns.div_ceil(width),
            abreast: padded / width / kernels.abreast,
            kernels,
            panels,
        })
    }

    /// Rows of the matrix: terms of each sum.
    pub(crate) fn terms(&self) -> usize {
        self.terms
    }

    /// Columns of the matrix.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// See [`segments`].
    pub(crate) fn segments(&self) -> usize {
        self.segments
    }

    /// The kernels it was packed for.
    pub(crate) fn kernels(&self) -> &'static KernelSet {
        self.kernels
    }

    /// Columns rounded up to whole vectors: what a product writes.
    pub(crate) fn padded_columns(&self) -> usize {
        self.padded
    }

    /// Where all columns are one panel: the kernel that walks steps over it, and the panel's address and floats from term
    /// to term.
    pub(crate) fn only_panel(&self) -> Option<(StepsFn, (*const f32, usize))> {
        if self.panel_count != 1 {
            return None;
        }
        let panel = self.panel(0);
        Some((self.kernels.steps_of(panel.width), (panel.values.as_ptr(), panel.width)))
    }

    /// Number of panels, the last of which may be narrow.
    pub(super) fn panel_count(&self) -> usize {
        self.panel_count
    }

    /// Number of groups of full panels that a lone row takes abreast.
    pub(super) fn abreast(&self) -> usize {
        self.abreast
    }

    pub(super) fn panel(&self, index: usize) -> Panel<'_> {
        let column = index * self.kernels.panel();
        let width = (self.padded - column).min(self.kernels.panel());
        Panel { column, width, values: &self.panels[column * self.terms..][..width * self.terms] }
    }
}
