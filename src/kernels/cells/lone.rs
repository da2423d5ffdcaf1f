//! Steps of a lone row: the product of the state and the cell in one pass, so that no gate is ever stored.
//!
//! # Passes
//! A block's panel holds for each term its gates side by side; one float of the state feeds all of them. While the weights
//! stay in the first-level cache, all blocks of a step are one pass: one broadcast for all, and enough independent sums to
//! keep two ports of latency four busy. Beyond, a pass has as few blocks as that takes, and passes go upwards on even steps
//! and downwards on odd ones, so that a step begins on the weights that the last one left in the cache. Neither changes a
//! sum.
//!
//! # Bits
//! The sums are those of the product of many rows: cut into the same segments, which are summed in the same order, from the
//! same start; and the cell's operations are those of the kernels for many rows.

use super::gru::between;
use super::{HALF, block_width, kept};
use crate::kernels::activation::{sigmoid, tanh};
use crate::kernels::tile::unroll;
use crate::simd::Simd;

/// Repeats the body for each gate, and for each full block of a pass.
macro_rules! each_gate {
    ($g:ident < $gates:expr, $body:block) => {
        unroll!(@ $g, $gates, $body, 0 1 2 3)
    };
}
macro_rules! each_full_block {
    ($b:ident < $blocks:expr, $body:block) => {
        unroll!(@ $b, $blocks, $body, 0 1 2)
    };
}

/// Steps of one row, of a cell with the usual functions: others are rare, and every pass would choose among all of them.
/// Rows of gates and of the matrix's columns stand in blocks, see [`cells`](super).
#[derive(Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) steps: usize,
    /// Whether the first step has an odd number.
    pub(crate) odd: bool,
    pub(crate) units: usize,
    /// The recurrent kernel: a panel for each block, its terms one after the other, `units` of them.
    pub(crate) panels: *const f32,
    /// Into how many segments the terms are cut: 1 or 2.
    pub(crate) segments: usize,
    /// Where the sums of the state start.
    pub(crate) start: *const f32,
    /// `x·W + b` of the first step.
    pub(crate) gates: *const f32,
    /// Floats from step to step of `gates`.
    pub(crate) gates_stride: usize,
    /// The state before the first step.
    pub(crate) h: *const f32,
    /// The state after the first step; each next one lies `stride` floats behind.
    pub(crate) h_next: *mut f32,
    pub(crate) stride: usize,
    /// An LSTM's cell state, changed in place.
    pub(crate) c: *mut f32,
}

/// Floats of weights that stay in the first-level cache beside what else a step reads: 40 KiB of 48, and with 32 KiB no
/// worse than passes block by block.
const IN_FIRST_CACHE: usize = 10 << 10;

/// What a cell makes of the sums of a block.
pub(crate) trait Cell {
    const GATES: usize;

    /// The block's new states from its two sums of every gate.
    ///
    /// # Safety
    /// `c` (where the cell has one), `h` and `h_next` must be valid for one vector.
    unsafe fn finish<S: Simd>(s: S, input: &[S::V; 4], state: &[S::V; 4], at: At);
}

/// Where a block's states are.
#[derive(Clone, Copy)]
pub(crate) struct At {
    c: *mut f32,
    h: *const f32,
    h_next: *mut f32,
}

/// See [`lstm`](super::lstm).
pub(crate) struct Lstm;

impl Cell for Lstm {
    const GATES: usize = 4;

    #[inline(always)]
    unsafe fn finish<S: Simd>(s: S, input: &[S::V; 4], state: &[S::V; 4], at: At) {
        let i = sigmoid(s, s.add(input[0], state[0]));
        let f = sigmoid(s, s.add(input[1], state[1]));
        let g = tanh(s, s.add(input[2], state[2]));
        let o = sigmoid(s, s.add(input[3], state[3]));
        // SAFETY: the caller's promise.
        unsafe {
            let c = kept(s, s.fma(f, s.load(at.c), s.mul(i, g)));
            s.store(at.c, c);
            s.store(at.h_next, kept(s, s.mul(o, tanh(s, c))));
        }
    }
}

/// See [`gru`](super::gru); reset after.
pub(crate) struct Gru;

impl Cell for Gru {
    const GATES: usize = 3;

    #[inline(always)]
    unsafe fn finish<S: Simd>(s: S, input: &[S::V; 4], state: &[S::V; 4], at: At) {
        let z = sigmoid(s, s.add(input[0], state[0]));
        let r = sigmoid(s, s.add(input[1], state[1]));
        let n = tanh(s, s.fma(r, state[2], input[2]));
        // SAFETY: the caller's promise.
        unsafe {
            let h = s.load(at.h);
            s.store(at.h_next, kept(s, between(s, z, h, n)));
        }
    }
}

/// Carries out `steps`.
///
/// # Safety
/// Every pointer of `steps` must be valid for what its field says: `panels` for the padded columns of all blocks times
/// `units` terms, `start` and `gates` at each step for `gate_columns` floats, states for `units` floats rounded up to
/// whole blocks. What is written overlaps nothing else, but that a step's new state is the next one's.
#[inline(always)]
pub(crate) unsafe fn steps<S: Simd, C: Cell>(s: S, steps: &Steps) {
    let units = steps.units;
    let full = {
        let last = units / S::LANES;
        let rest = units - last * S::LANES;
        last + usize::from(rest > 0 && block_width(units, last * S::LANES, S::LANES) == S::LANES)
    };
    let tail = S::LANES > HALF && full * S::LANES < units;
    // With few registers three blocks' sums leave none for a weight, which is then an operand in memory.
    let most = const { most_blocks(S::ACCUMULATORS, C::GATES) };
    let one_pass = full <= most && units * units * C::GATES <= IN_FIRST_CACHE;
    let mut at = *steps;
    for step in 0..steps.steps {
        // SAFETY: the caller's promise for this step; blocks below `full` are full ones, and a tail follows them.
        unsafe {
            if one_pass {
                match (full, tail) {
                    (0, _) => pass::<S, C, 0, true>(s, &at, 0),
                    (1, false) => pass::<S, C, 1, false>(s, &at, 0),
                    (1, true) => pass::<S, C, 1, true>(s, &at, 0),
                    (2, false) => pass::<S, C, 2, false>(s, &at, 0),
                    (2, true) => pass::<S, C, 2, true>(s, &at, 0),
                    (_, false) => pass::<S, C, 3, false>(s, &at, 0),
                    (_, true) => pass::<S, C, 3, true>(s, &at, 0),
                }
            } else {
                passes::<S, C>(s, &at, [full, usize::from(tail)], (step % 2 == 1) != at.odd);
            }
            at.h = at.h_next;
            at.h_next = at.h_next.wrapping_add(at.stride);
            at.gates = at.gates.wrapping_add(at.gates_stride);
        }
    }
}

/// Blocks of a pass, at most, where all weights are in the first-level cache.
const fn most_blocks(accumulators: usize, gates: usize) -> usize {
    let blocks = accumulators / gates;
    if blocks > 3 { 3 } else { blocks }
}

/// One step, pass by pass.
///
/// # Safety
/// As [`steps`]; there are `full` full blocks and `tail` half ones.
#[inline(always)]
unsafe fn passes<S: Simd, C: Cell>(s: S, at: &Steps, [full, tail]: [usize; 2], downwards: bool) {
    // Two blocks where a vector has few lanes: as many sums as keep the ports busy, and the least that is left over.
    let together = if S::LANES <= HALF { 2 } else { 1 };
    let groups = full.div_ceil(together) + tail;
    for group in 0..groups {
        let group = if downwards { groups - 1 - group } else { group };
        let first = group * together;
        // SAFETY: the caller's promise.
        unsafe {
            if first >= full {
                pass::<S, C, 0, true>(s, at, full);
            } else if first + 2 <= full && together == 2 {
                pass::<S, C, 2, false>(s, at, first);
            } else {
                pass::<S, C, 1, false>(s, at, first);
            }
        }
    }
}

/// One step of `BLOCKS` full blocks from block `first` on, and, with `TAIL`, of the half block behind them.
///
/// # Safety
/// As [`steps`]; the blocks are there.
#[inline(always)]
unsafe fn pass<S: Simd, C: Cell, const BLOCKS: usize, const TAIL: bool>(s: S, at: &Steps, first: usize) {
    let half = s.half();
    let units = at.units;
    let width = C::GATES * S::LANES;
    // A half block's panel is padded to whole vectors.
    let tail_width = const { (C::GATES * HALF).next_multiple_of(S::LANES) };
    let column = first * width;
    let unit = first * S::LANES;
    // SAFETY: blocks and terms are those that the caller vouched for: the panel of block b begins `b * width * units` floats
    // in, whose term k is `k * width` floats further.
    unsafe {
        let panels = at.panels.add(column * units);
        let tail_panel = panels.add(BLOCKS * width * units);
        let (start, gates) = (at.start.add(column), at.gates.add(column));
        let mut sums = [[s.splat(0.0); 4]; 3];
        let mut tail_sums = [half.splat(0.0); 4];
        each_full_block!(b < BLOCKS, {
            each_gate!(g < C::GATES, { sums[b][g] = s.load(start.add(b * width + g * S::LANES)) });
        });
        if TAIL {
            each_gate!(g < C::GATES, { tail_sums[g] = half.load(start.add(BLOCKS * width + g * HALF)) });
        }
        let middle = if at.segments == 2 { units / 2 } else { units };
        for k in 0..middle {
            let h = *at.h.add(k);
            let (wide, narrow) = (s.splat(h), half.splat(h));
            each_full_block!(b < BLOCKS, {
                let panel = panels.add((b * units + k) * width);
                each_gate!(g < C::GATES, {
                    sums[b][g] = s.fma(wide, s.load(panel.add(g * S::LANES)), sums[b][g])
                });
            });
            if TAIL {
                let panel = tail_panel.add(k * tail_width);
                each_gate!(g < C::GATES, {
                    tail_sums[g] = half.fma(narrow, half.load(panel.add(g * HALF)), tail_sums[g]);
                });
            }
        }
        if middle < units {
            let mut others = [[s.splat(0.0); 4]; 3];
            let mut tail_others = [half.splat(0.0); 4];
            for k in middle..units {
                let h = *at.h.add(k);
                let (wide, narrow) = (s.splat(h), half.splat(h));
                each_full_block!(b < BLOCKS, {
                    let panel = panels.add((b * units + k) * width);
                    each_gate!(g < C::GATES, {
                        others[b][g] = s.fma(wide, s.load(panel.add(g * S::LANES)), others[b][g]);
                    });
                });
                if TAIL {
                    let panel = tail_panel.add(k * tail_width);
                    each_gate!(g < C::GATES, {
                        tail_others[g] = half.fma(narrow, half.load(panel.add(g * HALF)), tail_others[g]);
                    });
                }
            }
            each_full_block!(b < BLOCKS, {
                each_gate!(g < C::GATES, { sums[b][g] = s.add(sums[b][g], others[b][g]) });
            });
            each_gate!(g < C::GATES, { tail_sums[g] = half.add(tail_sums[g], tail_others[g]) });
        }
        each_full_block!(b < BLOCKS, {
            let mut input = [s.splat(0.0); 4];
            each_gate!(g < C::GATES, { input[g] = s.load(gates.add(b * width + g * S::LANES)) });
            C::finish(s, &input, &sums[b], at.states(unit + b * S::LANES));
        });
        if TAIL {
            let mut input = [half.splat(0.0); 4];
            each_gate!(g < C::GATES, { input[g] = half.load(gates.add(BLOCKS * width + g * HALF)) });
            C::finish(half, &input, &tail_sums, at.states(unit + BLOCKS * S::LANES));
        }
    }
}

impl Steps {
    /// Where the states of `unit` and those behind it are.
    #[inline(always)]
    fn states(&self, unit: usize) -> At {
        At {
            c: self.c.wrapping_add(unit),
            h: self.h.wrapping_add(unit),
            h_next: self.h_next.wrapping_add(unit),
        }
    }
}
