//! One step of an LSTM or a GRU: the product of the states, and what the cell makes of it and of the sums of
//! the input.

use std::ops::Range;

use super::gate_stride;
use crate::dispatch::{Block, RESET_GATES, gru, lstm};
#[cfg(feature = "training")]
use crate::gemm::Rows;
use crate::gemm::{PackedMatrix, multiply_block, multiply_by_panels};
use crate::layers::{PackedCell, PackedRnn};
use crate::memory::row_stride;

/// One step of a gated cell.
pub(in super::super) struct GatedStep<'a> {
    pub(in super::super) count: usize,
    /// `x·W + b`; where the step is kept for the backward pass, the gates afterwards.
    pub(in super::super) gates: &'a mut [f32],
    pub(in super::super) h: &'a [f32],
    pub(in super::super) h_next: &'a mut [f32],
    pub(in super::super) kept: Option<Kept<'a>>,
}

/// What the backward pass needs of a step beside gates and states.
pub(in super::super) struct Kept<'a> {
    /// Of an LSTM: the cell states before the step, which are otherwise changed in place.
    pub(in super::super) cell_states: &'a [f32],
    /// Of a GRU with reset after: receives the candidate's share of the state.
    pub(in super::super) candidate: &'a mut [f32],
}

/// The product of states that a step asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Product {
    /// With the columns of [`PackedRnn::recurrent`].
    Gates,
    /// Of a GRU with reset before: `(r·h)·Un`.
    Candidate,
}

/// The arrays of a step, checked: every one that the cell has is there for all rows.
#[derive(Clone, Copy)]
pub(super) struct Arrays {
    pub(super) count: usize,
    pub(super) gates: *mut f32,
    pub(super) h: *const f32,
    pub(super) h_next: *mut f32,
    /// Of an LSTM.
    pub(super) c: *const f32,
    pub(super) c_next: *mut f32,
    /// Of a GRU with reset after, where the step is kept.
    pub(super) candidate: *mut f32,
    /// Of a GRU with reset before: `r·h`.
    pub(super) reset_states: *mut f32,
    pub(super) keep: bool,
}

impl Arrays {
    /// Those of a step, and what is left of its scratch: room for the sums of every gate.
    fn new<'a>(
        rnn: &PackedRnn,
        step: GatedStep<'_>,
        cell_states: &mut [f32],
        scratch: &'a mut [f32],
    ) -> (Self, &'a mut [f32]) {
        let GatedStep { count, gates, h, h_next, kept } = step;
        let rows = count * row_stride(rnn.units());
        let (sums, scratch) = scratch.split_at_mut(count * gate_stride(rnn).max(row_stride(rnn.units())));
        let mut arrays = Self {
            count,
            gates: gates[..count * gate_stride(rnn)].as_mut_ptr(),
            h: h[..rows].as_ptr(),
            h_next: h_next[..rows].as_mut_ptr(),
            c: std::ptr::null(),
            c_next: std::ptr::null_mut(),
            candidate: std::ptr::null_mut(),
            reset_states: std::ptr::null_mut(),
            keep: kept.is_some(),
        };
        match rnn.cell {
            PackedCell::SimpleRnn(_) => unreachable!("a simple cell has no gates"),
            PackedCell::Lstm(_) => {
                arrays.c_next = cell_states[..rows].as_mut_ptr();
                arrays.c = match kept {
                    Some(kept) => kept.cell_states[..rows].as_ptr(),
                    None => arrays.c_next.cast_const(),
                };
            }
            PackedCell::Gru(_) => {
                if let Some(kept) = kept {
                    arrays.candidate = kept.candidate[..rows].as_mut_ptr();
                }
            }
            PackedCell::GruResetBefore(..) => arrays.reset_states = scratch[..rows].as_mut_ptr(),
        }
        (arrays, sums)
    }

    /// What the cell makes of the sums of `product` for some units, whole blocks but for the last; they stand
    /// `sums_stride` apart.
    ///
    /// # Safety
    /// The arrays must still be there, and `sums` valid for the gates of these units at each row. Nobody else
    /// may use these units of what is written meanwhile.
    unsafe fn epilogue(
        &self,
        rnn: &PackedRnn,
        product: Product,
        units: Range<usize>,
        (sums, sums_stride): (*const f32, usize),
    ) {
        let kernels = rnn.recurrent.kernels();
        let (stride, gates_stride) = (row_stride(rnn.units()), gate_stride(rnn));
        let &Arrays { count: rows, keep, .. } = self;
        let first = units.start;
        // Those of a cell that does not have them stay null; nothing reads them.
        let at_state = |array: *const f32| array.wrapping_add(first);
        let at_state_mut = |array: *mut f32| array.wrapping_add(first);
        let gates = self.gates.wrapping_add(rnn.gates() * first);
        let gru_step = |functions, h_next| gru::Step {
            rows,
            units: units.len(),
            functions,
            gates,
            gates_stride,
            keep,
            sums,
            sums_stride,
            h: at_state(self.h),
            h_next,
            candidate: at_state_mut(self.candidate),
            stride,
        };
        // SAFETY: `new` found `rows` rows of every array that the cell has: gates of `gates_stride` floats,
        // which are at least the columns of the kernel, and states of `stride` floats, which are whole cache
        // lines and so whole blocks; so no row reaches into the next. Blocks of units begin where those of the
        // ones before end. They were borrowed apart, or are `c` and `c_next`, which may be the same. The sums
        // are the caller's promise. The kernels are this process's.
        unsafe {
            match &rnn.cell {
                PackedCell::SimpleRnn(_) => unreachable!("a simple cell has no gates"),
                PackedCell::Lstm(gated) => (kernels.lstm)(&lstm::Step {
                    rows,
                    units: units.len(),
                    functions: gated.functions,
                    gates,
                    gates_stride,
                    keep,
                    sums,
                    sums_stride,
                    c: at_state(self.c),
                    c_next: at_state_mut(self.c_next),
                    h_next: at_state_mut(self.h_next),
                    stride,
                }),
                PackedCell::Gru(gated) => {
                    (kernels.gru)(&gru_step(gated.functions, at_state_mut(self.h_next)));
                }
                PackedCell::GruResetBefore(gated, _) if product == Product::Gates => {
                    (kernels.gru_reset)(&gru_step(gated.functions, at_state_mut(self.reset_states)));
                }
                PackedCell::GruResetBefore(gated, _) => {
                    (kernels.gru_update)(&gru_step(gated.functions, at_state_mut(self.h_next)));
                }
            }
        }
    }

    /// What the product multiplies: its matrix, how many gates its columns are of, where its sums start, and
    /// its rows.
    fn factors<'a>(
        &self,
        rnn: &'a PackedRnn,
        product: Product,
    ) -> (&'a PackedMatrix, usize, &'a [f32], *const f32) {
        match (&rnn.cell, product) {
            (PackedCell::SimpleRnn(_), _) => unreachable!("a simple cell has no gates"),
            (PackedCell::GruResetBefore(gated, matrix), Product::Candidate) => {
                (matrix, 1, &gated.start, self.reset_states.cast_const())
            }
            (PackedCell::GruResetBefore(gated, _), Product::Gates) => {
                (&rnn.recurrent, RESET_GATES, &gated.start, self.h)
            }
            (PackedCell::Lstm(gated) | PackedCell::Gru(gated), _) => {
                (&rnn.recurrent, rnn.gates(), &gated.start, self.h)
            }
        }
    }

    /// Makes a product, and of each panel's sums at once what the cell makes of them, while they are in the
    /// first-level cache; of the panels that fall to one of several threads. Large matrices are walked from
    /// the last panel to the first where `odd`, so that a step starts on the weights that the last one left
    /// in the cache.
    ///
    /// # Safety
    /// The arrays must still be there, for all threads, and no thread may be in another product. The sums
    /// must be valid for so many floats; all threads have the same ones.
    pub(super) unsafe fn multiply(
        &self,
        rnn: &PackedRnn,
        product: Product,
        odd: bool,
        (sums, room): (*mut f32, usize),
        share: (usize, usize),
    ) {
        let (matrix, gates, start, rows) = self.factors(rnn, product);
        // A panel of whole blocks is used as soon as it is there.
        let by_panels = matrix.width().is_multiple_of(gates * matrix.kernels().lanes);
        let sums_stride =
            if by_panels { matrix.columns_at_once(self.count) } else { matrix.padded_columns() };
        // Threads have the columns of their own panels, one behind the other.
        let (first, columns) = matrix.share(share);
        let (first, columns) = if by_panels { (first, columns.min(sums_stride)) } else { (0, sums_stride) };
        let (before, stride_of_share) =
            (self.count * first, if self.count == 1 { columns } else { sums_stride });
        if columns == 0 {
            return;
        }
        assert!(room >= before + self.count * stride_of_share, "sums: {room} floats");
        assert!(start.len() >= matrix.padded_columns(), "start: {} floats", start.len());
        // SAFETY: inside the sums, see above.
        let c = unsafe { sums.add(before) };
        let mut block = Block {
            a: rows,
            a_stride: row_stride(rnn.units()),
            init: start.as_ptr(),
            init_stride: 0,
            c,
            c_stride: sums_stride,
            ..matrix.block()
        };
        let units_of = |columns: Range<usize>| columns.start / gates..(columns.end / gates).min(rnn.units());
        // SAFETY: `a` has `units` floats at each row, the caller's promise; `c` and `init` the asserts'
        // floats. A panel's sums are whole blocks where it is used by itself, and `epilogue` uses the units of
        // these blocks alone; where it is not, they are all used by the one thread that has any.
        unsafe {
            if by_panels {
                multiply_by_panels(matrix, &mut block, self.count, odd, share, |first, columns| {
                    self.epilogue(rnn, product, units_of(first..first + columns), (c, sums_stride));
                });
            } else if share.0 == 0 {
                multiply_block(matrix, &mut block, self.count, odd);
                self.epilogue(rnn, product, 0..rnn.units(), (c, sums_stride));
            }
        }
    }
}

/// Carries out a step. `cell_states` are those of an LSTM, `scratch` what [`gates_len`](super::gates_len) has
/// beside the rows; for `odd` see [`Arrays::multiply`].
pub(in super::super) fn gated_step(
    rnn: &PackedRnn,
    step: GatedStep<'_>,
    cell_states: &mut [f32],
    scratch: &mut [f32],
    odd: bool,
) {
    let (arrays, sums) = Arrays::new(rnn, step, cell_states, scratch);
    let sums = (sums.as_mut_ptr(), sums.len());
    // SAFETY: the arrays are borrowed until the end, and there is one thread.
    unsafe {
        arrays.multiply(rnn, Product::Gates, odd, sums, (0, 1));
        if rnn.resets_before() {
            arrays.multiply(rnn, Product::Candidate, odd, sums, (0, 1));
        }
    }
}

/// [`gated_step`] with products of somebody else's: `multiply` makes one of these rows into these sums, so
/// many floats apart.
#[cfg(feature = "training")]
pub(in super::super) fn gated_step_with(
    rnn: &PackedRnn,
    step: GatedStep<'_>,
    cell_states: &mut [f32],
    scratch: &mut [f32],
    mut multiply: impl FnMut(Product, Rows<'_>, &mut [f32], usize),
) {
    let (count, stride) = (step.count, row_stride(rnn.units()));
    let (arrays, sums) = Arrays::new(rnn, step, cell_states, scratch);
    let mut one = |product, values: *const f32, sums_stride| {
        let rows = count * stride;
        // SAFETY: `new` found so many floats there; what is written meanwhile are the sums.
        let values = unsafe { std::slice::from_raw_parts(values, rows) };
        multiply(product, Rows::Strided { values, stride, count }, sums, sums_stride);
        // SAFETY: the arrays are borrowed until the end, and `sums` has room for the rows of every gate.
        unsafe { arrays.epilogue(rnn, product, 0..rnn.units(), (sums.as_ptr(), sums_stride)) };
    };
    one(Product::Gates, arrays.h, gate_stride(rnn));
    if rnn.resets_before() {
        one(Product::Candidate, arrays.reset_states.cast_const(), stride);
    }
}
