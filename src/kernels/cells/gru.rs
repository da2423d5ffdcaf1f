//! The GRU's step; gates in Keras's order z r h.
//!
//! Reset after (Keras's default): `z, r = s(…)`, `n = a(x·Wn + bᵢn + r·hn)` with `hn = h·Un + bᵣn`, `h' = z·h +
//! (1-z)·n`. Reset before: `n = a(x·Wn + bn + (r·h)·Un)`, which needs r of all units before the product of the
//! candidate begins, so the step is two kernels with a product between them: [`reset`] and [`update`].
//!
//! Backwards: `dz = dh·(h-n)`, `dn = dh·(1-z)`, each times its function's derivative, `dh·z` straight to the
//! step before; reset after: `dr = dn·hn·s'`, `dhn = dn·r`. Reset before: with `drh` the gradient of `r·h`, `dr
//! = drh·h·s'` and `drh·r` to the step before.

use super::{GROUP, HALF, apply, block_width, derive, each_block, each_group, kept, store_units};
use crate::kernels::activation::Function;
use crate::simd::Simd;

/// Gates of the cell.
pub(crate) const GATES: usize = 3;
/// Gates that the first kernel of reset before makes.
pub(crate) const RESET_GATES: usize = 2;

/// A step of some rows. Rows of gates stand in blocks, see [`cells`](super); rows of states unit by unit,
/// padded to whole blocks.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) rows: usize,
    pub(crate) units: usize,
    /// The function of z and r, and the one of n.
    pub(crate) functions: [Function; 2],
    /// `x·W + b`. With `keep` receives z, r and n; the first kernel of reset before always puts z and r there.
    pub(crate) gates: *mut f32,
    /// Floats from row to row of `gates`.
    pub(crate) gates_stride: usize,
    pub(crate) keep: bool,
    /// Reset after: `h·U`, that of n from its recurrent bias on. [`reset`]: that of z and r, in blocks of two gates.
    /// [`update`]: `(r·h)·Un`, unit by unit.
    pub(crate) sums: *const f32,
    /// Floats from row to row of `sums`.
    pub(crate) sums_stride: usize,
    /// The states before the step.
    pub(crate) h: *const f32,
    /// The states after it; [`reset`]: receives `r·h`.
    pub(crate) h_next: *mut f32,
    /// Reset after, with `keep`: receives `hn`.
    pub(crate) candidate: *mut f32,
    /// Floats from row to row of `h`, `h_next` and `candidate`.
    pub(crate) stride: usize,
}

/// Carries out a step, reset after.
///
/// # Safety
/// Every pointer of `step` must be valid for what its field says, at each of `rows` rows: `gates` and `sums`
/// for `gate_columns(units, 3, lanes)` floats, the states for `units` floats rounded up to a block's width,
/// `candidate` only with `keep`. Nothing that is written may overlap anything else, nor do the rows of an
/// array.
#[inline(always)]
pub(crate) unsafe fn step<S: Simd>(s: S, step: &Step) {
    // SAFETY: the caller's promise. The usual functions are constants here, so that no vector chooses among all.
    unsafe {
        if step.functions == [Function::Sigmoid, Function::Tanh] {
            each_group!(step.rows, |row, N| {
                rows::<S, N>(s, step, row, Function::Sigmoid, Function::Tanh);
            });
        } else {
            for row in 0..step.rows {
                rows::<S, 1>(s, step, row, step.functions[0], step.functions[1]);
            }
        }
    }
}

/// The rows `row..row + N`, block by block.
///
/// # Safety
/// As [`step`]; they are among its rows.
#[inline(always)]
unsafe fn rows<S: Simd, const N: usize>(s: S, step: &Step, row: usize, gate: Function, function: Function) {
    // SAFETY: the caller's promise; each block's columns and units are those that the caller vouched for.
    unsafe {
        each_block!(s, S, step.units, GATES, |s, unit, at, width| {
            block::<_, N>(s, step, row, [unit, at, width], gate, function);
        });
    }
}

/// One block of the rows `row..row + N`: the one that begins with a unit and a gate's column, its gates so many columns
/// apart.
///
/// # Safety
/// As [`step`]; the rows and the block are among those of `step`.
#[inline(always)]
unsafe fn block<S: Simd, const N: usize>(
    s: S,
    step: &Step,
    row: usize,
    [unit, at, width]: [usize; 3],
    gate: Function,
    function: Function,
) {
    let (mut updates, mut resets) = ([s.splat(0.0); N], [s.splat(0.0); N]);
    // SAFETY: vectors of this block in rows that the caller vouched for. Rows lie apart, and with `keep` a
    // row's gates are stored after all of them were loaded.
    unsafe {
        for i in 0..N {
            let gates = step.gates.add((row + i) * step.gates_stride + at);
            let sums = step.sums.add((row + i) * step.sums_stride + at);
            updates[i] = apply(s, gate, s.add(s.load(gates), s.load(sums)));
            resets[i] = apply(s, gate, s.add(s.load(gates.add(width)), s.load(sums.add(width))));
        }
        for i in 0..N {
            let gates = step.gates.add((row + i) * step.gates_stride + at);
            let sums = step.sums.add((row + i) * step.sums_stride + at);
            let state = (row + i) * step.stride + unit;
            let (z, r) = (updates[i], resets[i]);
            let hn = s.load(sums.add(2 * width));
            let n = apply(s, function, s.fma(r, hn, s.load(gates.add(2 * width))));
            let h = s.load(step.h.add(state));
            s.store(step.h_next.add(state), kept(s, between(s, z, h, n)));
            if step.keep {
                s.store(gates, z);
                s.store(gates.add(width), r);
                s.store(gates.add(2 * width), n);
                s.store(step.candidate.add(state), hn);
            }
        }
    }
}

/// The first half of a step, reset before: z, r and `r·h`.
///
/// # Safety
/// As [`step`], `sums` being valid for `gate_columns(units, 2, lanes)` floats a row.
#[inline(always)]
pub(crate) unsafe fn reset<S: Simd>(s: S, step: &Step) {
    let gate = step.functions[0];
    for row in 0..step.rows {
        // SAFETY: `row` is one of the rows, and each vector below lies inside its block, whose columns the
        // caller vouched for; a block of two gates begins at two thirds of where one of three does, and its
        // gates are as far apart.
        unsafe {
            let gates = step.gates.add(row * step.gates_stride);
            let sums = step.sums.add(row * step.sums_stride);
            let at_state = row * step.stride;
            each_block!(s, S, step.units, GATES, |s, unit, at, width| {
                let at_sum = at - unit;
                let z = apply(s, gate, s.add(s.load(gates.add(at)), s.load(sums.add(at_sum))));
                let r =
                    apply(s, gate, s.add(s.load(gates.add(at + width)), s.load(sums.add(at_sum + width))));
                s.store(gates.add(at), z);
                s.store(gates.add(at + width), r);
                s.store(step.h_next.add(at_state + unit), s.mul(r, s.load(step.h.add(at_state + unit))));
            });
        }
    }
}

/// `z·h + (1-z)·n`, as it is written: with `z` one, `h` stays to the bit, and with `z` nothing, an infinite `n` is not
/// subtracted from itself.
#[inline(always)]
pub(super) fn between<S: Simd>(s: S, z: S::V, h: S::V, n: S::V) -> S::V {
    s.fma(z, h, s.mul(s.sub(s.splat(1.0), z), n))
}

/// The second half of a step, reset before: n and the next state.
///
/// # Safety
/// As [`step`], `sums` being valid for the floats of a state row; after [`reset`].
#[inline(always)]
pub(crate) unsafe fn update<S: Simd>(s: S, step: &Step) {
    let function = step.functions[1];
    for row in 0..step.rows {
        // SAFETY: `row` is one of the rows, and each vector below lies inside its block, whose columns the
        // caller vouched for.
        unsafe {
            let gates = step.gates.add(row * step.gates_stride);
            let sums = step.sums.add(row * step.sums_stride);
            let at_state = row * step.stride;
            each_block!(s, S, step.units, GATES, |s, unit, at, width| {
                let z = s.load(gates.add(at));
                let sum = s.add(s.load(gates.add(at + 2 * width)), s.load(sums.add(unit)));
                let n = apply(s, function, sum);
                let h = s.load(step.h.add(at_state + unit));
                s.store(step.h_next.add(at_state + unit), kept(s, between(s, z, h, n)));
                if step.keep {
                    s.store(gates.add(at + 2 * width), n);
                }
            });
        }
    }
}

/// A step backwards.
#[derive(Clone, Copy)]
pub(crate) struct Back {
    pub(crate) rows: usize,
    pub(crate) units: usize,
    /// As in [`Step`].
    pub(crate) functions: [Function; 2],
    /// z, r and n, as [`Step`] kept them.
    pub(crate) gates: *const f32,
    /// Floats from row to row of `gates`.
    pub(crate) gates_stride: usize,
    /// Receives the gradients of the three sums of the input, gate after gate.
    pub(crate) dz: *mut f32,
    /// Reset after: receives the gradient of the candidate's sum of the state; those of z and r are `dz`'s.
    pub(crate) du: *mut f32,
    /// Floats from row to row of `dz` and `du`.
    pub(crate) dz_stride: usize,
    /// The states before the step.
    pub(crate) h: *const f32,
    /// Reset after: `hn`, as [`Step`] kept it. [`back_reset`]: the gradient of `r·h`.
    pub(crate) candidate: *const f32,
    /// The gradient of the states after the step.
    pub(crate) dh: *const f32,
    /// Receives what of it goes straight to the states before; [`back_reset`] adds to it.
    pub(crate) dh_before: *mut f32,
    /// Floats from row to row of states and their gradients.
    pub(crate) stride: usize,
}

/// Carries out a step backwards: all of it where reset is after, all but r where it is `before`.
///
/// # Safety
/// As [`step`], for the fields of [`Back`], `dz` being valid for three times `units` floats a row and `du` for
/// `units`; `du` and `candidate` are read or written only where reset is after. What is written overlaps
/// nothing else.
#[inline(always)]
pub(crate) unsafe fn back<S: Simd>(s: S, back: &Back, before: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        if back.functions == [Function::Sigmoid, Function::Tanh] && !before {
            rows_back(s, back, Function::Sigmoid, Function::Tanh, false);
        } else {
            rows_back(s, back, back.functions[0], back.functions[1], before);
        }
    }
}

/// # Safety
/// As [`back`].
#[inline(always)]
unsafe fn rows_back<S: Simd>(s: S, back: &Back, gate: Function, function: Function, before: bool) {
    for row in 0..back.rows {
        // SAFETY: `row` is one of the rows, and each vector below lies inside its block, whose columns the
        // caller vouched for.
        unsafe {
            let gates = back.gates.add(row * back.gates_stride);
            let dz = back.dz.add(row * back.dz_stride);
            let at_state = row * back.stride;
            each_block!(s, S, back.units, GATES, |s, unit, at, width| {
                let state = at_state + unit;
                let z = s.load(gates.add(at));
                let n = s.load(gates.add(at + 2 * width));
                let dh = s.load(back.dh.add(state));
                let h = s.load(back.h.add(state));
                let of_z = kept(s, derive(s, gate, s.mul(dh, s.sub(h, n)), z));
                let of_n = kept(s, derive(s, function, s.mul(dh, s.sub(s.splat(1.0), z)), n));
                let (dz, units, here) = (dz.add(unit), back.units, back.units - unit);
                store_units(s, dz, of_z, here);
                store_units(s, dz.add(2 * units), of_n, here);
                s.store(back.dh_before.add(state), kept(s, s.mul(dh, z)));
                if !before {
                    let r = s.load(gates.add(at + width));
                    let hn = s.load(back.candidate.add(state));
                    let of_r = kept(s, derive(s, gate, s.mul(of_n, hn), r));
                    store_units(s, dz.add(units), of_r, here);
                    let du = back.du.add(row * back.dz_stride + unit);
                    store_units(s, du, kept(s, s.mul(of_n, r)), here);
                }
            });
        }
    }
}

/// The rest of a step backwards where reset is before, `candidate` being the gradient of `r·h`.
///
/// # Safety
/// As [`back`], after it.
#[inline(always)]
pub(crate) unsafe fn back_reset<S: Simd>(s: S, back: &Back) {
    let gate = back.functions[0];
    for row in 0..back.rows {
        // SAFETY: `row` is one of the rows, and each vector below lies inside its block, whose columns the
        // caller vouched for.
        unsafe {
            let gates = back.gates.add(row * back.gates_stride);
            let dz = back.dz.add(row * back.dz_stride);
            let at_state = row * back.stride;
            each_block!(s, S, back.units, GATES, |s, unit, at, width| {
                let state = at_state + unit;
                let r = s.load(gates.add(at + width));
                let drh = s.load(back.candidate.add(state));
                let h = s.load(back.h.add(state));
                let of_r = kept(s, derive(s, gate, s.mul(drh, h), r));
                store_units(s, dz.add(unit + back.units), of_r, back.units - unit);
                let straight = s.load(back.dh_before.add(state));
                s.store(back.dh_before.add(state), kept(s, s.fma(drh, r, straight)));
            });
        }
    }
}
