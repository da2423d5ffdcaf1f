//! Packed matrices.

use std::ops::Range;

use crate::dispatch::{Block, Epilogue, KernelSet, StepsFn};
use crate::error::Result;
use crate::memory::{AlignedVec, checked_product};

/// Into how many segments a sum of `depth` terms is cut in a matrix of `columns` columns.
///
/// A lone row has only `columns / 16` vectors of sums, and a fused multiply-add takes four cycles on two ports, so
/// narrow matrices need more independent sums than columns give: four segments up to 48 columns, two up to 112, one
/// beyond. A segment has at least four terms. This formula is part of what a result means: changing it changes bits.
pub(crate) fn segments(depth: usize, columns: usize) -> usize {
    let wanted = match columns.div_ceil(16) {
        0..=3 => 4,
        4..=7 => 2,
        _ => 1,
    };
    match depth / 4 {
        0..=1 => 1,
        2..=3 => wanted.min(2),
        _ => wanted,
    }
}

/// As [`segments`], for a gated layer of `units` units: with at least three gates' sums a unit, two segments up
/// to 16 units keep the ports busy, and one beyond.
pub(crate) fn gated_segments(depth: usize, units: usize) -> usize {
    if units <= 16 && depth >= 8 { 2 } else { 1 }
}

/// A matrix `[depth, columns]` in panels, immutable.
#[derive(Debug)]
pub(crate) struct PackedMatrix {
    depth: usize,
    columns: usize,
    segments: usize,
    /// Columns rounded up to whole vectors. This and the counts are kept because a division is a third of what the rest
    /// of a call for one small row costs.
    padded: usize,
    /// Columns of a full panel.
    width: usize,
    /// Whether a full panel is a block of gates.
    blocks: bool,
    /// The kernels for full panels and for the last one, for steps of several rows and of one: looked up once.
    steps: [[StepsFn; 2]; 2],
    panel_count: usize,
    kernels: &'static KernelSet,
    panels: AlignedVec,
}

/// One panel of a packed matrix.
pub(super) struct Panel<'a> {
    /// The first column.
    pub(super) column: usize,
    /// Floats a term: whole vectors.
    pub(super) width: usize,
    /// `depth` times `width`.
    pub(super) values: &'a [f32],
}

impl PackedMatrix {
    /// Packs `values` `[depth, columns]`, row by row, for `kernels`.
    pub(crate) fn new(
        kernels: &'static KernelSet,
        depth: usize,
        columns: usize,
        values: &[f32],
    ) -> Result<Self> {
        let mut matrix = Self::zeroed(kernels, depth, columns)?;
        matrix.fill(values);
        Ok(matrix)
    }

    /// The same, its sums cut into `segments` segments, a power of two, each of at least a term.
    pub(crate) fn with_segments(mut self, segments: usize) -> Self {
        self.segments = segments;
        self
    }

    /// Room for a matrix of zeros whose panels are blocks of `gates` gates, where there are kernels for such.
    pub(crate) fn of_blocks(
        kernels: &'static KernelSet,
        depth: usize,
        columns: usize,
        gates: usize,
    ) -> Result<Self> {
        let matrix = Self::zeroed(kernels, depth, columns)?;
        if !kernels.has_blocks_of(gates) {
            return Ok(matrix);
        }
        let width = gates * kernels.lanes;
        let last = matrix.padded - matrix.padded.saturating_sub(1) / width * width;
        let steps_of = |width: usize| {
            [2, 1].map(|rows| match width == gates * kernels.lanes {
                true => kernels.block_steps_of(gates, rows),
                false => kernels.steps_of(width, rows),
            })
        };
        let steps = [steps_of(width), steps_of(last)];
        Ok(Self { width, blocks: true, steps, panel_count: columns.div_ceil(width), ..matrix })
    }

    /// Room for a matrix of zeros.
    pub(crate) fn zeroed(kernels: &'static KernelSet, depth: usize, columns: usize) -> Result<Self> {
        let padded = columns.next_multiple_of(kernels.lanes);
        let panels = AlignedVec::zeroed(checked_product("packed matrix", &[depth, padded])?)?;
        let width = kernels.panel();
        let last = padded - padded.saturating_sub(1) / width * width;
        let steps_of = |width: usize| [2, 1].map(|rows| kernels.steps_of(width, rows));
        Ok(Self {
            depth,
            columns,
            segments: segments(depth, columns),
            padded,
            width,
            blocks: false,
            steps: [steps_of(width), steps_of(last.max(kernels.lanes))],
            panel_count: columns.div_ceil(width),
            kernels,
            panels,
        })
    }

    /// Packs other values `[depth, columns]`, row by row, in place of those here.
    pub(crate) fn fill(&mut self, values: &[f32]) {
        self.fill_part(values, self.columns, 0);
    }

    /// Packs some columns of `values`, as many as there are, from `from` on, in place of those here; its rows
    /// lie `all` floats apart.
    pub(crate) fn fill_part(&mut self, values: &[f32], all: usize, from: usize) {
        let (columns, width) = (self.columns, self.width);
        for first in (0..columns).step_by(width) {
            let here = (columns - first).min(width);
            let stride = (self.padded - first).min(width);
            let panel = &mut self.panels[first * self.depth..][..stride * self.depth];
            for (to, row) in panel.chunks_exact_mut(stride).zip(values.chunks_exact(all)) {
                to[..here].copy_from_slice(&row[from + first..][..here]);
            }
        }
    }

    /// Packs runs of columns `(to, from, len)` of `values`, whose rows lie `stride` floats apart: `len` columns
    /// of it from `from` on become those from `to` on. Other columns stay as they are. No run crosses a panel's
    /// edge.
    pub(crate) fn fill_runs(
        &mut self,
        values: &[f32],
        stride: usize,
        runs: impl Iterator<Item = (usize, usize, usize)>,
    ) {
        let width = self.width;
        for (to, from, len) in runs {
            let first = to / width * width;
            let panel_stride = (self.padded - first).min(width);
            debug_assert!(to + len <= first + panel_stride, "a run over a panel's edge");
            let panel = &mut self.panels[first * self.depth..][..panel_stride * self.depth];
            for (to_row, from_row) in panel.chunks_exact_mut(panel_stride).zip(values.chunks_exact(stride)) {
                to_row[to - first..][..len].copy_from_slice(&from_row[from..][..len]);
            }
        }
    }

    /// Packs the transpose of `values` `[columns, depth]` in place of what is here.
    pub(crate) fn fill_transposed(&mut self, values: &[f32]) {
        self.fill_transposed_part(values, self.depth, 0, 0..self.depth);
    }

    /// Packs the transpose of some columns of `values`, from `from` on, as the terms `to`; its rows lie `all`
    /// floats apart.
    pub(crate) fn fill_transposed_part(&mut self, values: &[f32], all: usize, from: usize, to: Range<usize>) {
        let (columns, depth, width) = (self.columns, self.depth, self.width);
        for first in (0..columns).step_by(width) {
            let here = (columns - first).min(width);
            let stride = (self.padded - first).min(width);
            let panel = &mut self.panels[first * depth..][..stride * depth];
            for (column, row) in values.chunks_exact(all).skip(first).take(here).enumerate() {
                let row = &row[from..][..to.len()];
                let panel = &mut panel[to.start * stride + column..];
                for (to, &from) in panel.iter_mut().step_by(stride).zip(row) {
                    *to = from;
                }
            }
        }
    }

    /// Rows of the matrix: terms of each sum.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Columns of the matrix.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The kernels it was packed for.
    pub(crate) fn kernels(&self) -> &'static KernelSet {
        self.kernels
    }

    /// Columns rounded up to whole vectors: what a product writes.
    pub(crate) fn padded_columns(&self) -> usize {
        self.padded
    }

    /// A block over the first panel: rows, initial values and output are the caller's to fill in.
    pub(crate) fn block(&self) -> Block {
        Block {
            a: std::ptr::null(),
            offsets: std::ptr::null(),
            a_stride: 0,
            depth: self.depth,
            segments: self.segments,
            b: self.panels.as_ptr(),
            panel_stride: self.width * self.depth,
            prefetch: std::ptr::null(),
            prefetch_len: 0,
            init: std::ptr::null(),
            init_stride: 0,
            c: std::ptr::null_mut(),
            c_stride: 0,
            epilogue: Epilogue::Keep,
        }
    }

    /// Bytes of the packed matrix.
    pub(crate) fn bytes(&self) -> usize {
        self.panels.len() * size_of::<f32>()
    }

    /// Whether the walk over the panels may be plain for `rows` rows: the matrix stays in the second-level cache, and
    /// either few rows pass over a panel or its terms stay in the first.
    pub(crate) fn is_small(&self, rows: usize) -> bool {
        self.stays() && (rows <= 8 || self.depth <= self.kernels.depth_in_cache)
    }

    /// Whether the matrix stays in the second-level cache.
    fn stays(&self) -> bool {
        // Miri takes seconds for a megabyte, and has to see the walk over large matrices too.
        const SECOND_CACHE: usize = if cfg!(miri) { 4 << 10 } else { 1 << 20 };
        self.bytes() <= SECOND_CACHE
    }

    /// Terms of a block of a panel that `rows` rows pass over: so many that it stays in the first-level cache.
    ///
    /// But many rows take so long for a block that the next one comes from beyond the second-level cache
    /// meanwhile. Then larger blocks are better, which stay in the second: whole panels up to an eighth of it,
    /// equal parts of larger ones, for a short last part would fetch little of the next panel (64 rows of 1024
    /// units, forward and back: 0.95 to 0.98 of the time).
    pub(super) fn block_depth(&self, rows: usize) -> usize {
        const LARGE: usize = 256 << 10;
        if self.stays() || rows < 32 {
            return self.kernels.depth_in_cache;
        }
        let most = LARGE / size_of::<f32>() / self.width;
        self.depth.div_ceil(self.depth.div_ceil(most)).next_multiple_of(4)
    }

    /// Columns of a full panel.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Whether each panel is a block of gates.
    pub(crate) fn is_of_blocks(&self) -> bool {
        self.blocks
    }

    /// The kernel for a panel of `width` columns, and steps of one row each or of more.
    #[inline(always)]
    pub(crate) fn steps_of(&self, width: usize, rows: usize) -> StepsFn {
        self.steps[usize::from(width != self.width)][usize::from(rows == 1)]
    }

    /// Full panels that a lone row takes at once.
    pub(super) fn panels_per_call(&self) -> usize {
        if self.blocks { 1 } else { self.kernels.panels_per_call }
    }

    /// The columns of the panels that fall to one of several threads: the first, and how many.
    pub(crate) fn share(&self, share: (usize, usize)) -> (usize, usize) {
        let Range { start, end } = self.panels_of(share);
        let column = |panel: usize| (panel * self.width).min(self.padded);
        (column(start), column(end) - column(start))
    }

    /// Columns that a step over its panels makes at once, at the most.
    pub(crate) fn columns_at_once(&self, rows: usize) -> usize {
        let panels = if rows == 1 { self.panels_per_call() } else { 1 };
        (panels * self.width).min(self.padded)
    }

    /// The panels that fall to one of several threads.
    pub(crate) fn panels_of(&self, (thread, threads): (usize, usize)) -> Range<usize> {
        let start = |thread: usize| thread * self.panel_count / threads;
        start(thread)..start(thread + 1)
    }

    /// Where the panels begin.
    #[inline(always)]
    pub(super) fn first_panel(&self) -> *const f32 {
        self.panels.as_ptr()
    }

    /// Number of panels, the last of which may be narrow.
    pub(crate) fn panel_count(&self) -> usize {
        self.panel_count
    }

    pub(super) fn panel(&self, index: usize) -> Panel<'_> {
        let column = index * self.width;
        let width = (self.padded - column).min(self.width);
        Panel { column, width, values: &self.panels[column * self.depth..][..width * self.depth] }
    }
}
