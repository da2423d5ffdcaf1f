//! The LSTM's step: `i, f, o = s(…)`, `g = a(…)`, `c' = f·c + i·g`, `h' = o·a(c')`; gates in Keras's order i f c o.
//!
//! Backwards (`tc = a(c')`): `do = dh·tc`, `dc += dh·o·a'(tc)`, `di = dc·g`, `df = dc·c`, `dg = dc·i`, each
//! times its own function's derivative, and `dc·f` for the step before. `tc` is computed once more rather than
//! kept: a sixth of the tape, for less than a fiftieth of the time.

use super::{GROUP, HALF, apply, block_width, derive, each_block, each_group, kept, store_units};
use crate::kernels::activation::Function;
use crate::simd::Simd;

/// Gates of the cell.
pub(crate) const GATES: usize = 4;

/// A step of some rows. Rows of gates stand in blocks, see [`cells`](super); rows of states unit by unit,
/// padded to whole blocks.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) rows: usize,
    pub(crate) units: usize,
    /// The function of i, f and o, and the one of g and of the new c.
    pub(crate) functions: [Function; 2],
    /// `x·W + b`; with `keep`, receives i, f, g and o.
    pub(crate) gates: *mut f32,
    /// Floats from row to row of `gates`.
    pub(crate) gates_stride: usize,
    pub(crate) keep: bool,
    /// `h·U`.
    pub(crate) sums: *const f32,
    /// Floats from row to row of `sums`.
    pub(crate) sums_stride: usize,
    /// The cell states before the step.
    pub(crate) c: *const f32,
    /// The cell states after it; may be the same memory.
    pub(crate) c_next: *mut f32,
    /// The outputs.
    pub(crate) h_next: *mut f32,
    /// Floats from row to row of `c`, `c_next` and `h_next`.
    pub(crate) stride: usize,
}

/// Carries out a step.
///
/// # Safety
/// Every pointer of `step` must be valid for what its field says, at each of `rows` rows: `gates` and `sums`
/// for `gate_columns(units, 4, lanes)` floats, the states for `units` floats rounded up to a block's width.
/// Apart from `c` and `c_next`, which may be the same, nothing that is written may overlap anything else; nor
/// do the rows of an array.
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
    let (mut cells, mut outputs) = ([s.splat(0.0); N], [s.splat(0.0); N]);
    // SAFETY: vectors of this block in rows that the caller vouched for. Rows lie apart, so what one row stores
    // (`c_next`, which may be `c`, and with `keep` its gates) is nothing that a later row loads, and a row
    // loads its own before it stores them.
    unsafe {
        for r in 0..N {
            let gates = step.gates.add((row + r) * step.gates_stride + at);
            let sums = step.sums.add((row + r) * step.sums_stride + at);
            let state = (row + r) * step.stride + unit;
            let i = apply(s, gate, s.add(s.load(gates), s.load(sums)));
            let f = apply(s, gate, s.add(s.load(gates.add(width)), s.load(sums.add(width))));
            let g = apply(s, function, s.add(s.load(gates.add(2 * width)), s.load(sums.add(2 * width))));
            let o = apply(s, gate, s.add(s.load(gates.add(3 * width)), s.load(sums.add(3 * width))));
            cells[r] = kept(s, s.fma(f, s.load(step.c.add(state)), s.mul(i, g)));
            outputs[r] = o;
            s.store(step.c_next.add(state), cells[r]);
            if step.keep {
                s.store(gates, i);
                s.store(gates.add(width), f);
                s.store(gates.add(2 * width), g);
                s.store(gates.add(3 * width), o);
            }
        }
        for r in 0..N {
            let h = kept(s, s.mul(outputs[r], apply(s, function, cells[r])));
            s.store(step.h_next.add((row + r) * step.stride + unit), h);
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
    /// i, f, g and o, as [`Step`] kept them.
    pub(crate) gates: *const f32,
    /// Floats from row to row of `gates`.
    pub(crate) gates_stride: usize,
    /// Receives the gradients of the four sums, gate after gate.
    pub(crate) dz: *mut f32,
    /// Floats from row to row of `dz`.
    pub(crate) dz_stride: usize,
    /// The cell states before the step, and after it.
    pub(crate) c: *const f32,
    pub(crate) c_next: *const f32,
    /// The gradient of the outputs.
    pub(crate) dh: *const f32,
    /// The gradient of the cell states after the step; receives that of those before it.
    pub(crate) dc: *mut f32,
    /// Floats from row to row of the states and their gradients.
    pub(crate) stride: usize,
}

/// Carries out a step backwards.
///
/// # Safety
/// As [`step`], for the fields of [`Back`], `dz` being valid for four times `units` floats a row; `dz` and `dc`
/// overlap nothing else.
#[inline(always)]
pub(crate) unsafe fn back<S: Simd>(s: S, back: &Back) {
    // SAFETY: the caller's promise.
    unsafe {
        if back.functions == [Function::Sigmoid, Function::Tanh] {
            rows_back(s, back, Function::Sigmoid, Function::Tanh);
        } else {
            rows_back(s, back, back.functions[0], back.functions[1]);
        }
    }
}

/// # Safety
/// As [`back`].
#[inline(always)]
unsafe fn rows_back<S: Simd>(s: S, back: &Back, gate: Function, function: Function) {
    for row in 0..back.rows {
        // SAFETY: `row` is one of the rows, and each vector below lies inside its block, whose columns the
        // caller vouched for.
        unsafe {
            let gates = back.gates.add(row * back.gates_stride);
            let dz = back.dz.add(row * back.dz_stride);
            let at_state = row * back.stride;
            each_block!(s, S, back.units, GATES, |s, unit, at, width| {
                let state = at_state + unit;
                let i = s.load(gates.add(at));
                let f = s.load(gates.add(at + width));
                let g = s.load(gates.add(at + 2 * width));
                let o = s.load(gates.add(at + 3 * width));
                let dh = s.load(back.dh.add(state));
                let tc = apply(s, function, s.load(back.c_next.add(state)));
                let dc = s.add(s.load(back.dc.add(state)), derive(s, function, s.mul(dh, o), tc));
                let c = s.load(back.c.add(state));
                let (dz, here) = (dz.add(unit), back.units - unit);
                store_units(s, dz, kept(s, derive(s, gate, s.mul(dc, g), i)), here);
                store_units(s, dz.add(back.units), kept(s, derive(s, gate, s.mul(dc, c), f)), here);
                store_units(s, dz.add(2 * back.units), kept(s, derive(s, function, s.mul(dc, i), g)), here);
                store_units(s, dz.add(3 * back.units), kept(s, derive(s, gate, s.mul(dh, tc), o)), here);
                s.store(back.dc.add(state), kept(s, s.mul(dc, f)));
            });
        }
    }
}
