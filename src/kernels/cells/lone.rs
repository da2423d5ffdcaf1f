//! Steps of a lone row: the product of the state and the cell in one pass, so that no gate is ever stored.
//!
//! # Passes
//! A block's panel holds for each term its gates side by side; one float of the state feeds all of them. While
//! the weights stay in the first-level cache, all blocks of a step are one pass: one broadcast for all, and
//! enough independent sums to keep two ports of latency four busy. Beyond, a pass has as few blocks as that
//! takes, and passes go upwards on even steps and downwards on odd ones, so that a step begins on the weights
//! that the last one left in the cache. Neither changes a sum.
//!
//! Each kind of pass has a loop over steps of its own. In one loop for all, the constants of every kind were made ready
//! before the first step, which was 17 to 21 ns of a call for one step of 8 to 20 units.
//!
//! # Half blocks
//! The gates of a half block lie side by side, two in each whole vector, and are summed so: half as many
//! multiply-adds, and one sigmoid for the two gates that have it. A half block that is alone stays with half
//! vectors: the first whole vector after narrow ones takes ten nanoseconds more.
//!
//! # Bits
//! The sums are those of the product of many rows: cut into the same segments, which are summed in the same
//! order, from the same start; and the cell's operations are those of the kernels for many rows.

use super::gru::between;
use super::{HALF, block_width, kept};
use crate::kernels::activation::{sigmoid, tanh};
use crate::kernels::tile::unroll;
use crate::simd::Simd;

/// Repeats the body for each gate, for each pair of gates, and for each full block of a pass.
macro_rules! each_gate {
    ($g:ident < $gates:expr, $body:block) => {
        unroll!(@ $g, $gates, $body, 0 1 2 3)
    };
}
macro_rules! each_pair {
    ($p:ident < $gates:expr, $body:block) => {
        unroll!(@ $p, $gates.div_ceil(2), $body, 0 1)
    };
}
macro_rules! each_full_block {
    ($b:ident < $blocks:expr, $body:block) => {
        unroll!(@ $b, $blocks, $body, 0 1 2)
    };
}

/// Steps of one row, of a cell with the usual functions: others are rare, and every pass would choose among all
/// of them. Rows of gates and of the matrix's columns stand in blocks, see [`cells`](super).
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
    /// `x·W + b` of the first step; null where it is made here.
    pub(crate) gates: *const f32,
    /// Of a step whose `x·W + b` is made here.
    pub(crate) input: Input,
    /// Floats from step to step of `gates`.
    pub(crate) gates_stride: usize,
    /// The state before the first step.
    pub(crate) h: *const f32,
    /// The state after the first step; each next one lies `stride` floats behind.
    pub(crate) h_next: *mut f32,
    /// Of one step: whether the new state takes the place of `h`, and `h_next` is no more than room for it on the way.
    pub(crate) in_place: bool,
    pub(crate) stride: usize,
    /// An LSTM's cell state, changed in place.
    pub(crate) c: *mut f32,
}

/// What `x·W + b` of one step is made of, as the state's product is.
#[derive(Clone, Copy)]
pub(crate) struct Input {
    pub(crate) x: *const f32,
    pub(crate) features: usize,
    /// The kernel.
    pub(crate) panels: *const f32,
    pub(crate) segments: usize,
    pub(crate) bias: *const f32,
}

/// Lanes of the vectors that have halves: a half block that is alone is padded to whole ones.
const WIDEST: usize = 2 * HALF;

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
    unsafe fn epilogue<S: Simd>(s: S, input: &[S::V; 4], state: &[S::V; 4], at: At);

    /// The same of a half block, two of whose gates are in each vector.
    ///
    /// # Safety
    /// As `epilogue`, for one half vector.
    unsafe fn half_epilogue<S: Simd>(s: S, input: &[S::V; 2], state: &[S::V; 2], at: At);
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
    unsafe fn epilogue<S: Simd>(s: S, input: &[S::V; 4], state: &[S::V; 4], at: At) {
        let i = sigmoid(s, s.add(input[0], state[0]));
        let f = sigmoid(s, s.add(input[1], state[1]));
        let g = tanh(s, s.add(input[2], state[2]));
        let o = sigmoid(s, s.add(input[3], state[3]));
        // SAFETY: the caller's promise.
        unsafe { Self::states(s, [i, f, g, o], at) };
    }

    #[inline(always)]
    unsafe fn half_epilogue<S: Simd>(s: S, input: &[S::V; 2], state: &[S::V; 2], at: At) {
        let half = s.half();
        let [i, f] = s.halves(sigmoid(s, s.add(input[0], state[0])));
        let [g, o] = s.halves(s.add(input[1], state[1]));
        // SAFETY: the caller's promise.
        unsafe { Self::states(half, [i, f, tanh(half, g), sigmoid(half, o)], at) };
    }
}

impl Lstm {
    /// The new states from the gates.
    ///
    /// # Safety
    /// As [`Cell::epilogue`].
    #[inline(always)]
    unsafe fn states<S: Simd>(s: S, [i, f, g, o]: [S::V; 4], at: At) {
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
    unsafe fn epilogue<S: Simd>(s: S, input: &[S::V; 4], state: &[S::V; 4], at: At) {
        let z = sigmoid(s, s.add(input[0], state[0]));
        let r = sigmoid(s, s.add(input[1], state[1]));
        let n = tanh(s, s.fma(r, state[2], input[2]));
        // SAFETY: the caller's promise.
        unsafe { Self::state(s, z, n, at) };
    }

    #[inline(always)]
    unsafe fn half_epilogue<S: Simd>(s: S, input: &[S::V; 2], state: &[S::V; 2], at: At) {
        let half = s.half();
        let [z, r] = s.halves(sigmoid(s, s.add(input[0], state[0])));
        let ([state, _], [input, _]) = (s.halves(state[1]), s.halves(input[1]));
        let n = tanh(half, half.fma(r, state, input));
        // SAFETY: the caller's promise.
        unsafe { Self::state(half, z, n, at) };
    }
}

impl Gru {
    /// The new state from its gate and its candidate.
    ///
    /// # Safety
    /// As [`Cell::epilogue`].
    #[inline(always)]
    unsafe fn state<S: Simd>(s: S, z: S::V, n: S::V, at: At) {
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
/// Every pointer of `steps` must be valid for what its field says: `panels` for the padded columns of all
/// blocks times `units` terms, `start` and `gates` at each step for the padded columns, or the fields of
/// `input` where `gates` is null and there is one step, states for `units` floats rounded up to whole blocks.
/// What is written overlaps nothing else, but that a step's new state is the next one's. With `in_place` there
/// is one step, and `h` is valid for writing.
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
    // SAFETY: the caller's promise; blocks below `full` are full ones, and a tail follows them.
    unsafe {
        if !one_pass {
            return in_passes::<S, C>(s, steps, [full, usize::from(tail)]);
        }
        match (full, tail) {
            (0, _) => in_one_pass::<S::Half, C, 1, false, WIDEST>(s.half(), steps),
            (1, false) => in_one_pass::<S, C, 1, false, 1>(s, steps),
            (1, true) => in_one_pass::<S, C, 1, true, 1>(s, steps),
            (2, false) => in_one_pass::<S, C, 2, false, 1>(s, steps),
            (2, true) => in_one_pass::<S, C, 2, true, 1>(s, steps),
            (_, false) => in_one_pass::<S, C, 3, false, 1>(s, steps),
            (_, true) => in_one_pass::<S, C, 3, true, 1>(s, steps),
        }
    }
}

/// All steps, each in one pass of `BLOCKS` full blocks and, with `TAIL`, of a half block; `PADDED` as for [`sums_of`].
///
/// # Safety
/// As [`steps`]; there are no other blocks.
#[inline(always)]
unsafe fn in_one_pass<S: Simd, C: Cell, const BLOCKS: usize, const TAIL: bool, const PADDED: usize>(
    s: S,
    steps: &Steps,
) {
    let mut at = *steps;
    if steps.in_place {
        // All of the state is read before the first of the next is written.
        at.h_next = steps.h.cast_mut();
    }
    for _ in 0..steps.steps {
        // SAFETY: the caller's promise for this step.
        unsafe { pass::<S, C, BLOCKS, TAIL, PADDED>(s, &at, 0) };
        at.go_on();
    }
}

/// All steps, each in several passes.
///
/// # Safety
/// As [`steps`]; there are `full` full blocks and `tail` half ones.
#[inline(always)]
unsafe fn in_passes<S: Simd, C: Cell>(s: S, steps: &Steps, [full, tail]: [usize; 2]) {
    let mut at = *steps;
    for step in 0..steps.steps {
        // SAFETY: the caller's promise for this step.
        unsafe { passes::<S, C>(s, &at, [full, tail], (step % 2 == 1) != at.odd) };
        at.go_on();
    }
    if steps.in_place {
        let (from, to) = (steps.h_next.cast_const(), steps.h.cast_mut());
        // SAFETY: the caller's promise: both have room for all blocks.
        unsafe {
            for block in 0..full {
                s.store(to.add(block * S::LANES), s.load(from.add(block * S::LANES)));
            }
            if tail > 0 {
                let (half, at) = (s.half(), full * S::LANES);
                half.store(to.add(at), half.load(from.add(at)));
            }
        }
    }
}

/// Blocks of a pass, at most, where all weights are in the first-level cache.
const fn most_blocks(accumulators: usize, gates: usize) -> usize {
    let blocks = accumulators / gates;
    if blocks > 3 { 3 } else { blocks }
}

/// Full blocks of a pass, at most, where not all weights are in the first-level cache.
const fn together(lanes: usize) -> usize {
    match lanes {
        16 => 1,
        8 => 2,
        _ => 3,
    }
}

/// One step, pass by pass.
///
/// # Safety
/// As [`steps`]; there are `full` full blocks and `tail` half ones.
#[inline(always)]
unsafe fn passes<S: Simd, C: Cell>(s: S, at: &Steps, [full, tail]: [usize; 2], downwards: bool) {
    // More blocks where a vector has fewer lanes: as many sums as keep the ports busy, and the least that is left over.
    let together = const { together(S::LANES) };
    let groups = full.div_ceil(together);
    // Of threes and a single block, two twos.
    let twos = together == 3 && full > 3 && full % 3 == 1;
    for group in 0..groups + tail {
        let group = if downwards { groups + tail - 1 - group } else { group };
        let first = group * together - usize::from(twos && group + 1 == groups);
        let blocks = (full - first.min(full)).min(together) - usize::from(twos && group + 2 == groups);
        // SAFETY: the caller's promise.
        unsafe {
            match blocks {
                0 => pass::<S, C, 0, true, 1>(s, at, full),
                2 if together >= 2 => pass::<S, C, 2, false, 1>(s, at, first),
                3 if together >= 3 => pass::<S, C, 3, false, 1>(s, at, first),
                _ => pass::<S, C, 1, false, 1>(s, at, first),
            }
        }
    }
}

/// The sums of a pass: of full blocks, and of the half block behind them, two gates in a vector.
struct Sums<S: Simd> {
    full: [[S::V; 4]; 3],
    tail: [S::V; 2],
}

impl<S: Simd> Sums<S> {
    #[inline(always)]
    fn zero(s: S) -> Self {
        Self { full: [[s.splat(0.0); 4]; 3], tail: [s.splat(0.0); 2] }
    }
}

/// A product of one row with the columns of a pass.
#[derive(Clone, Copy)]
struct Product {
    a: *const f32,
    depth: usize,
    segments: usize,
    /// The matrix's panels, and where its sums start.
    panels: *const f32,
    start: *const f32,
}

/// The sums of `BLOCKS` full blocks from block `first` on, and, with `TAIL`, of the half block behind them. A
/// term's columns of a full block are padded to a multiple of `PADDED`.
///
/// # Safety
/// `a` must be valid for `depth` floats, `panels` and `start` for the columns of these blocks.
#[inline(always)]
unsafe fn sums_of<S: Simd, C: Cell, const BLOCKS: usize, const TAIL: bool, const PADDED: usize>(
    s: S,
    product: &Product,
    first: usize,
) -> Sums<S> {
    let &Product { a, depth, segments, .. } = product;
    let width = const { (C::GATES * S::LANES).next_multiple_of(PADDED) };
    // A half block's panel is padded to whole vectors.
    let tail_width = const { (C::GATES * HALF).next_multiple_of(S::LANES) };
    let column = first * width;
    // SAFETY: blocks and terms are those that the caller vouched for: the panel of block b begins `b * width *
    // terms` floats in, whose term k is `k * width` floats further.
    unsafe {
        let panels = product.panels.add(column * depth);
        let tail_panel = panels.add(BLOCKS * width * depth);
        let start = product.start.add(column);
        let mut sums = Sums::zero(s);
        each_full_block!(b < BLOCKS, {
            each_gate!(g < C::GATES, { sums.full[b][g] = s.load(start.add(b * width + g * S::LANES)) });
        });
        if TAIL {
            each_pair!(p < C::GATES, { sums.tail[p] = s.load(start.add(BLOCKS * width + p * S::LANES)) });
        }
        // No vector of four lanes leaves a half block.
        macro_rules! add_lanes {
            ($sums:ident, $first:ident, $values:ident, $($i:literal)*) => {$(
                each_full_block!(b < BLOCKS, {
                    let panel = panels.add((b * depth + $first + $i) * width);
                    each_gate!(g < C::GATES, {
                        let weights = s.load(panel.add(g * S::LANES));
                        $sums.full[b][g] = s.fma_lane::<$i>($values, weights, $sums.full[b][g]);
                    });
                });
            )*};
        }
        macro_rules! add_terms {
            ($sums:ident, $from:expr, $to:expr) => {
                let mut first = $from;
                while S::BY_LANE && first + 4 <= $to {
                    let values = s.load(a.add(first));
                    add_lanes!($sums, first, values, 0 1 2 3);
                    first += 4;
                }
                for k in first..$to {
                    let value = s.splat(*a.add(k));
                    each_full_block!(b < BLOCKS, {
                        let panel = panels.add((b * depth + k) * width);
                        each_gate!(g < C::GATES, {
                            $sums.full[b][g] = s.fma(value, s.load(panel.add(g * S::LANES)), $sums.full[b][g]);
                        });
                    });
                    if TAIL {
                        let panel = tail_panel.add(k * tail_width);
                        each_pair!(p < C::GATES, {
                            $sums.tail[p] = s.fma(value, s.load(panel.add(p * S::LANES)), $sums.tail[p]);
                        });
                    }
                }
            };
        }
        let middle = if segments == 2 { depth / 2 } else { depth };
        add_terms!(sums, 0, middle);
        if middle < depth {
            let mut others = Sums::zero(s);
            add_terms!(others, middle, depth);
            each_full_block!(b < BLOCKS, {
                each_gate!(g < C::GATES, { sums.full[b][g] = s.add(sums.full[b][g], others.full[b][g]) });
            });
            each_pair!(p < C::GATES, { sums.tail[p] = s.add(sums.tail[p], others.tail[p]) });
        }
        sums
    }
}

/// One step of `BLOCKS` full blocks from block `first` on, and, with `TAIL`, of the half block behind them;
/// `PADDED` as for [`sums_of`].
///
/// # Safety
/// As [`steps`]; the blocks are there.
#[inline(always)]
unsafe fn pass<S: Simd, C: Cell, const BLOCKS: usize, const TAIL: bool, const PADDED: usize>(
    s: S,
    at: &Steps,
    first: usize,
) {
    let width = const { (C::GATES * S::LANES).next_multiple_of(PADDED) };
    let unit = first * S::LANES;
    let &Steps { input, units, .. } = at;
    // SAFETY: the caller's promise.
    unsafe {
        let of_input = if at.gates.is_null() {
            let Input { x, features, panels, segments, bias } = input;
            let product = Product { a: x, depth: features, segments, panels, start: bias };
            sums_of::<S, C, BLOCKS, TAIL, PADDED>(s, &product, first)
        } else {
            let gates = at.gates.add(first * width);
            let mut sums = Sums::zero(s);
            each_full_block!(b < BLOCKS, {
                each_gate!(g < C::GATES, { sums.full[b][g] = s.load(gates.add(b * width + g * S::LANES)) });
            });
            if TAIL {
                each_pair!(p < C::GATES, { sums.tail[p] = s.load(gates.add(BLOCKS * width + p * S::LANES)) });
            }
            sums
        };
        let Steps { h, panels, segments, start, .. } = *at;
        let product = Product { a: h, depth: units, segments, panels, start };
        let of_state = sums_of::<S, C, BLOCKS, TAIL, PADDED>(s, &product, first);
        each_full_block!(b < BLOCKS, {
            C::epilogue(s, &of_input.full[b], &of_state.full[b], at.states(unit + b * S::LANES));
        });
        if TAIL {
            C::half_epilogue(s, &of_input.tail, &of_state.tail, at.states(unit + BLOCKS * S::LANES));
        }
    }
}

impl Steps {
    /// From a step to the next.
    #[inline(always)]
    fn go_on(&mut self) {
        self.h = self.h_next;
        self.h_next = self.h_next.wrapping_add(self.stride);
        // Where it is null there is one step.
        self.gates = self.gates.wrapping_add(self.gates_stride);
    }

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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kernels::cells::{gate_column, gate_columns};
    use crate::simd::Portable;

    const STEPS: usize = 3;

    /// A weight, or a sum, the same each time.
    fn number(i: usize) -> f32 {
        (i * 37 % 64) as f32 / 64.0 - 0.5
    }

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// `steps` for vectors of `lanes` and a cell of `gates` against the formulas in `f64`, on several sizes. (A
    /// kernel that is compiled without its instruction set's features is large and slow, so a backend's own
    /// comes as a function.)
    pub(crate) fn check(lanes: usize, gates: usize, steps: unsafe fn(&Steps)) {
        // With tails and without, in one pass and in several.
        let sizes: &[usize] = if cfg!(miri) { &[1, 9] } else { &[1, 5, 8, 16, 20, 33, 40, 64, 100] };
        for &units in sizes {
            for segments in [1, if units > 1 { 2 } else { 1 }] {
                check_units([lanes, gates], steps, units, segments);
            }
        }
    }

    /// Steps of `units` units, in arrays that end where the kernel may look last.
    fn check_units([lanes, gates]: [usize; 2], steps: unsafe fn(&Steps), units: usize, segments: usize) {
        let columns = gate_columns(units, gates, lanes).next_multiple_of(lanes);
        let last = (units - 1) / lanes * lanes;
        let stride = last + block_width(units, last, lanes);
        let mut panels = vec![0.0; columns * units];
        let mut sums = vec![0.0; STEPS * columns];
        for (gate, unit) in (0..gates).flat_map(|gate| (0..units).map(move |unit| (gate, unit))) {
            let (column, first) = (gate_column(units, gates, lanes, gate, unit), unit / lanes * lanes);
            let width = (gates * block_width(units, first, lanes)).next_multiple_of(lanes);
            for k in 0..units {
                panels[first * gates * units + k * width + column - first * gates] =
                    number(gate * 7 + unit * 5 + k);
            }
            (0..STEPS).for_each(|step| sums[step * columns + column] = number(gate + unit * 3 + step));
        }
        let start = vec![0.0; columns];
        let mut rows = vec![0.0; (STEPS + 1) * stride];
        let mut c = vec![0.0; stride];
        let (none, states) = (std::ptr::null(), rows.as_mut_ptr());
        let given = Steps {
            steps: STEPS,
            odd: false,
            units,
            panels: panels.as_ptr(),
            segments,
            start: start.as_ptr(),
            gates: sums.as_ptr(),
            input: Input { x: none, features: 0, panels: none, segments: 1, bias: none },
            gates_stride: columns,
            h: states.cast_const(),
            h_next: states.wrapping_add(stride),
            in_place: false,
            stride,
            c: c.as_mut_ptr(),
        };
        // SAFETY: every array is as long as its field asks for.
        unsafe { steps(&given) };

        let (mut h, mut room, mut c) = (vec![0.0; stride], vec![0.0; stride], vec![0.0; stride]);
        for step in 0..STEPS {
            let gates = sums[step * columns..].as_ptr();
            let (state, h_next, c) = (h.as_mut_ptr(), room.as_mut_ptr(), c.as_mut_ptr());
            let one = Steps {
                steps: 1,
                gates,
                h: state.cast_const(),
                h_next,
                in_place: true,
                stride: 0,
                c,
                ..given
            };
            // SAFETY: as above.
            unsafe { steps(&one) };
            assert_eq!(
                h[..units],
                rows[(step + 1) * stride..][..units],
                "{units} units in place, step {step}"
            );
        }

        let (mut h, mut cells) = (vec![0.0; units], vec![0.0; units]);
        for step in 0..STEPS {
            let product = |gate: usize, unit: usize| -> f64 {
                let term = |k: usize| f64::from(number(gate * 7 + unit * 5 + k)) * h[k];
                (0..units).map(term).sum()
            };
            let x = |gate: usize, unit: usize| f64::from(number(gate + unit * 3 + step));
            let sum = |gate, unit| x(gate, unit) + product(gate, unit);
            let next: Vec<f64> = (0..units)
                .map(|unit| {
                    if gates == 4 {
                        let new =
                            sigmoid(sum(1, unit)) * cells[unit] + sigmoid(sum(0, unit)) * sum(2, unit).tanh();
                        cells[unit] = new;
                        return sigmoid(sum(3, unit)) * new.tanh();
                    }
                    let (z, r) = (sigmoid(sum(0, unit)), sigmoid(sum(1, unit)));
                    z * h[unit] + (1.0 - z) * (x(2, unit) + r * product(2, unit)).tanh()
                })
                .collect();
            h = next;
            for (unit, expected) in h.iter().enumerate() {
                let got = f64::from(rows[(step + 1) * stride + unit]);
                assert!((got - expected).abs() < 1e-5, "{units} units, step {step}: {got} for {expected}");
            }
        }
    }

    /// # Safety
    /// As [`steps`].
    unsafe fn portable<C: Cell>(given: &Steps) {
        // SAFETY: the caller's promise.
        unsafe { steps::<_, C>(Portable, given) };
    }

    /// Those of the backends are dispatch's to test.
    #[test]
    fn a_lone_row_s_steps_are_the_formulas() {
        check(Portable::LANES, Lstm::GATES, portable::<Lstm>);
        check(Portable::LANES, Gru::GATES, portable::<Gru>);
    }
}
