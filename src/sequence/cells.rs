//! A recurrent layer carried over a chunk of steps: the one place where sums become states.
//!
//! A layer's rows stand in one buffer: the states before the chunk, then a slot of rows for each step,
//! longest rows first. The product of the inputs is made for all rows of the chunk at once. A simple cell
//! makes it in the slots themselves, which then become states in place. A gated cell makes it in a buffer of
//! gates beside them; each step then makes the product of the states in a few rows more, and the cell's
//! kernel puts the new states into the slot.
//!
//! # Cell states
//! Ranks are ordered by length, so a row that has a step has every earlier one. An LSTM's cell states
//! therefore need one row a rank, changed in place, and a row that has ended keeps its last.

use std::ops::Range;

use super::parallel::{self, TeamGuard};
use super::walk::Steps;
use super::{looped, unrolled};
use crate::dispatch::{Block, Function, LoneFn, RESET_GATES, gru, lone, lstm};
use crate::error::{Error, Result};
use crate::gemm::{Init, PackedMatrix, Rows, multiply, multiply_block, multiply_by_panels};
use crate::layers::{Gated, PackedCell, PackedRnn};
use crate::memory::{checked_product, row_stride};

/// What a layer works in over a chunk.
pub(super) struct Chunk<'a> {
    /// `carried` rows with the states before the first step, then a row for each row of each step.
    pub(super) rows: &'a mut [f32],
    pub(super) carried: usize,
    /// Of a gated cell: [`gates_len`] floats.
    pub(super) gates: &'a mut [f32],
    /// Of an LSTM: the cell states by rank, `row_stride` apart.
    pub(super) cell_states: &'a mut [f32],
}

/// Floats of [`Chunk::gates`] for `rows` rows in all, `most` in a step.
pub(super) fn gates_len(rnn: &PackedRnn, rows: usize, most: usize) -> usize {
    match rnn.cell {
        PackedCell::SimpleRnn(_) => 0,
        PackedCell::Lstm(_) | PackedCell::Gru(_) => {
            rows.saturating_add(most).saturating_mul(gate_stride(rnn))
        }
        PackedCell::GruResetBefore(..) => rows
            .saturating_add(most)
            .saturating_mul(gate_stride(rnn))
            .saturating_add(most.saturating_mul(row_stride(rnn.units()))),
    }
}

/// Floats from row to row of gates.
pub(super) fn gate_stride(rnn: &PackedRnn) -> usize {
    row_stride(rnn.kernel.columns())
}

/// Carries the layer over `steps`, whose rows read `input`; the new states stand in the slots.
pub(super) fn carry(
    rnn: &PackedRnn,
    input: Rows<'_>,
    chunk: Chunk<'_>,
    steps: Steps<'_>,
    team: Option<&mut TeamGuard>,
) {
    let Steps { counts, first } = steps;
    let Chunk { rows, carried, gates, cell_states } = chunk;
    let stride = row_stride(rnn.units());
    if let PackedCell::SimpleRnn(_) = rnn.cell {
        let (_, sums) = rows.split_at_mut(carried * stride);
        let init = Init::Bias(&rnn.bias);
        match team {
            Some(team) => {
                parallel::multiply(team, input, &rnn.kernel, init, sums, stride);
                parallel::steps(team, rnn, rows, stride, carried, steps);
            }
            None => {
                multiply(input, &rnn.kernel, init, sums, stride);
                let drive = if rnn.unrolled { unrolled::run } else { looped::run };
                drive(rnn, rows, stride, carried, steps);
            }
        }
        return;
    }
    let gate_stride = gate_stride(rnn);
    if counts == [1] && team.is_none() && has_lone_steps(rnn) {
        // Nothing is gained by making the sums of the input beforehand, and a call is saved.
        let x = &input.row(0)[..rnn.kernel.terms()];
        let input = input_of(rnn, x.as_ptr());
        let lone = LoneSteps { steps: 1, odd: first % 2 == 1, previous: 0, here: carried * stride };
        return lone_steps(rnn, lone, rows, (std::ptr::null(), input), cell_states);
    }
    let (gates, scratch) = gates.split_at_mut(steps.rows() * gate_stride);
    let init = Init::Bias(&rnn.bias);
    if let Some(team) = team {
        parallel::multiply(team, input, &rnn.kernel, init, gates, gate_stride);
        return shared_steps(rnn, team, Chunk { rows, carried, gates, cell_states }, scratch, steps);
    }
    multiply(input, &rnn.kernel, init, gates, gate_stride);
    let (mut previous, mut here, mut gate) = (0, carried * stride, 0);
    for (step, &count) in counts.iter().enumerate() {
        if count == 1 && has_lone_steps(rnn) {
            // No step has more rows than the one before.
            let lone = LoneSteps { steps: counts.len() - step, odd: (first + step) % 2 == 1, previous, here };
            let given = &gates[gate..];
            assert!(given.len() >= lone.steps * gate_stride, "gates: {} floats", given.len());
            let sums = (given.as_ptr(), no_input());
            return lone_steps(rnn, lone, rows, sums, cell_states);
        }
        let (before, after) = rows.split_at_mut(here);
        let state = GatedStep {
            count,
            gates: &mut gates[gate..][..count * gate_stride],
            h: &before[previous..],
            h_next: after,
            kept: None,
        };
        gated_step(rnn, state, cell_states, scratch, (first + step) % 2 == 1);
        (previous, here, gate) = (here, here + count * stride, gate + count * gate_stride);
    }
}

/// The arrays of a chunk whose columns members of a team share.
struct Shared {
    rows: *mut f32,
    gates: *mut f32,
    c: *mut f32,
    sums: (*mut f32, usize),
    reset_states: *mut f32,
}

// SAFETY: members write the units of their own panels, and read what was written before they met; see
// `Arrays::multiply`.
unsafe impl Sync for Shared {}

impl Shared {
    /// The arrays of a step: `gate` is where its gates begin, `previous` and `here` its states before and
    /// after.
    ///
    /// # Safety
    /// These are places in the arrays, with `count` rows behind them.
    unsafe fn step(&self, count: usize, gate: usize, [previous, here]: [usize; 2]) -> Arrays {
        // SAFETY: the caller's promise.
        unsafe {
            Arrays {
                count,
                gates: self.gates.add(gate),
                h: self.rows.add(previous).cast_const(),
                h_next: self.rows.add(here),
                c: self.c.cast_const(),
                c_next: self.c,
                candidate: std::ptr::null_mut(),
                reset_states: self.reset_states,
                keep: false,
            }
        }
    }
}

/// The steps of a chunk, whose sums of the input are made, the columns of their products shared out among a
/// team.
fn shared_steps(
    rnn: &PackedRnn,
    team: &mut TeamGuard,
    chunk: Chunk<'_>,
    scratch: &mut [f32],
    steps: Steps<'_>,
) {
    let Chunk { rows, carried, gates, cell_states } = chunk;
    let Steps { counts, first } = steps;
    let Some(&most) = counts.first() else { return };
    let (stride, gate_stride) = (row_stride(rnn.units()), gate_stride(rnn));
    let all = steps.rows();
    assert!(counts.is_sorted_by(|a, b| a >= b) && most <= carried, "rows cannot come back");
    assert!(rows.len() >= (carried + all) * stride && gates.len() >= all * gate_stride, "rows too short");
    let (sums, scratch) = scratch.split_at_mut(most * gate_stride.max(stride));
    let of_reset = if rnn.resets_before() { most * stride } else { 0 };
    let of_cells = if rnn.states() > 1 { most * stride } else { 0 };
    let shared = Shared {
        rows: rows.as_mut_ptr(),
        gates: gates.as_mut_ptr(),
        c: cell_states[..of_cells].as_mut_ptr(),
        sums: (sums.as_mut_ptr(), sums.len()),
        reset_states: scratch[..of_reset].as_mut_ptr(),
    };
    let macs = most * rnn.units() * rnn.units() * rnn.gates();
    let mut done = 0;
    for job in counts.chunks(parallel::steps_per_job(macs)) {
        parallel::evenly(team, &|share, meet| {
            let shared = &shared;
            let places = (0..counts.len()).scan((0, carried * stride, 0), |(previous, here, gate), step| {
                let now = (*gate, [*previous, *here]);
                let count = counts[step];
                (*previous, *here, *gate) = (*here, *here + count * stride, *gate + count * gate_stride);
                Some((step, count, now))
            });
            for (step, count, (gate, places)) in places.skip(done).take(job.len()) {
                let odd = (first + step) % 2 == 1;
                // SAFETY: the asserts found all steps inside the arrays, which are borrowed until all members
                // have finished; members meet behind each product.
                unsafe {
                    let arrays = shared.step(count, gate, places);
                    arrays.multiply(rnn, Product::Gates, odd, shared.sums, share);
                    meet();
                    if rnn.resets_before() {
                        arrays.multiply(rnn, Product::Candidate, odd, shared.sums, share);
                        meet();
                    }
                }
            }
        });
        done += job.len();
    }
}

/// Whether there is a kernel for steps of one row.
pub(super) fn has_lone_steps(rnn: &PackedRnn) -> bool {
    let usual = |gated: &Gated| gated.functions == [Function::Sigmoid, Function::Tanh];
    match &rnn.cell {
        PackedCell::Lstm(gated) | PackedCell::Gru(gated) => rnn.recurrent.is_of_blocks() && usual(gated),
        PackedCell::SimpleRnn(_) | PackedCell::GruResetBefore(..) => false,
    }
}

/// Steps of one row each, in the rows of a chunk.
struct LoneSteps {
    steps: usize,
    odd: bool,
    /// Where the state before them begins, and the first one's own.
    previous: usize,
    here: usize,
}

/// No input to make sums of: they are there.
fn no_input() -> lone::Input {
    let none = std::ptr::null();
    lone::Input { x: none, features: 0, panels: none, segments: 1, bias: none }
}

/// What `x·W + b` of a step is made of.
pub(super) fn input_of(rnn: &PackedRnn, x: *const f32) -> lone::Input {
    assert!(rnn.bias.len() >= rnn.kernel.padded_columns(), "bias too short");
    let block = rnn.kernel.block();
    let (panels, segments) = (block.b, block.segments);
    lone::Input { x, features: rnn.kernel.terms(), panels, segments, bias: rnn.bias.as_ptr() }
}

/// The kernel of a lone row, and one step of it from a state to the next; `c` is an LSTM's cell state.
pub(super) fn lone_step(
    rnn: &PackedRnn,
    input: lone::Input,
    [h, h_next]: [*mut f32; 2],
    c: *mut f32,
) -> (LoneFn, lone::Steps) {
    let kernels = rnn.recurrent.kernels();
    let (gated, kernel) = match &rnn.cell {
        PackedCell::Lstm(gated) => (gated, kernels.lone[0]),
        PackedCell::Gru(gated) => (gated, kernels.lone[1]),
        PackedCell::SimpleRnn(_) | PackedCell::GruResetBefore(..) => unreachable!("its product is no pass"),
    };
    assert!(gated.start.len() >= rnn.recurrent.padded_columns(), "start too short");
    let block = rnn.recurrent.block();
    let steps = lone::Steps {
        steps: 1,
        odd: false,
        units: rnn.units(),
        panels: block.b,
        segments: block.segments,
        start: gated.start.as_ptr(),
        gates: std::ptr::null(),
        input,
        gates_stride: 0,
        h: h.cast_const(),
        h_next,
        in_place: false,
        stride: 0,
        c,
    };
    (kernel, steps)
}

/// Carries out steps of one row, no gate of which is stored. Of the sums of the input there are enough, or
/// there is one step and what they are made of, as long as the matrix says.
fn lone_steps(
    rnn: &PackedRnn,
    lone: LoneSteps,
    rows: &mut [f32],
    (gates, input): (*const f32, lone::Input),
    cell_states: &mut [f32],
) {
    let LoneSteps { steps, odd, previous, here } = lone;
    let (stride, gates_stride) = (row_stride(rnn.units()), gate_stride(rnn));
    let rows = &mut rows[previous..][..here - previous + steps * stride];
    let states = rows.as_mut_ptr();
    assert!(here - previous >= stride, "rows too short");
    let c = if rnn.states() > 1 { cell_states[..stride].as_mut_ptr() } else { std::ptr::null_mut() };
    // SAFETY: inside the rows, see above.
    let h_next = unsafe { states.add(here - previous) };
    let (kernel, one) = lone_step(rnn, input, [states, h_next], c);
    let steps = lone::Steps { steps, odd, gates, gates_stride, h_next, stride, ..one };
    // SAFETY: the matrix has a panel for each block. There is a state before the first step and one for each,
    // of `stride` floats, which are whole cache lines and so whole blocks, and the caller's sums of the
    // input; `start` as many columns as the matrix. They are borrowed apart; what a step writes lies behind
    // what it reads. The kernels are this process's.
    unsafe { kernel(&steps) };
}

/// One step of a gated cell.
pub(super) struct GatedStep<'a> {
    pub(super) count: usize,
    /// `x·W + b`; where the step is kept for the way back, the gates afterwards.
    pub(super) gates: &'a mut [f32],
    pub(super) h: &'a [f32],
    pub(super) h_next: &'a mut [f32],
    pub(super) kept: Option<Kept<'a>>,
}

/// What the way back needs of a step beside gates and states.
pub(super) struct Kept<'a> {
    /// Of an LSTM: the cell states before the step, which are otherwise changed in place.
    pub(super) cell_states: &'a [f32],
    /// Of a GRU with reset after: receives the candidate's share of the state.
    pub(super) candidate: &'a mut [f32],
}

/// The product of states that a step asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    /// With the columns of [`PackedRnn::recurrent`].
    Gates,
    /// Of a GRU with reset before: `(r·h)·Un`.
    Candidate,
}

/// The arrays of a step, checked: every one that the cell has is there for all rows.
#[derive(Clone, Copy)]
struct Arrays {
    count: usize,
    gates: *mut f32,
    h: *const f32,
    h_next: *mut f32,
    /// Of an LSTM.
    c: *const f32,
    c_next: *mut f32,
    /// Of a GRU with reset after, where the step is kept.
    candidate: *mut f32,
    /// Of a GRU with reset before: `r·h`.
    reset_states: *mut f32,
    keep: bool,
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
    unsafe fn finish(
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
        // lines and so whole blocks. Blocks of units begin where those of the ones before end. They were
        // borrowed apart, or are `c` and `c_next`, which may be the same. The sums are the caller's promise.
        // The kernels are this process's.
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
    /// first-level cache; of the panels that fall to one of several members. Large matrices are walked from
    /// the last panel to the first where `odd`, so that a step starts on the weights that the last one left
    /// in the cache.
    ///
    /// # Safety
    /// The arrays must still be there, for all members, and no member may be in another product. The sums
    /// must be valid for so many floats; all members have the same ones.
    unsafe fn multiply(
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
        // Members have the columns of their own panels, one behind the other.
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
        // floats. A panel's sums are whole blocks where it is used by itself, and `finish` uses the units of
        // these blocks alone; where it is not, they are all used by the one member that has any.
        unsafe {
            if by_panels {
                multiply_by_panels(matrix, &mut block, self.count, odd, share, |first, columns| {
                    self.finish(rnn, product, units_of(first..first + columns), (c, sums_stride));
                });
            } else if share.0 == 0 {
                multiply_block(matrix, &mut block, self.count, odd);
                self.finish(rnn, product, 0..rnn.units(), (c, sums_stride));
            }
        }
    }
}

/// Carries out a step. `cell_states` are those of an LSTM, `scratch` what [`gates_len`] has beside the rows;
/// for `odd` see [`Arrays::multiply`].
pub(super) fn gated_step(
    rnn: &PackedRnn,
    step: GatedStep<'_>,
    cell_states: &mut [f32],
    scratch: &mut [f32],
    odd: bool,
) {
    let (arrays, sums) = Arrays::new(rnn, step, cell_states, scratch);
    let sums = (sums.as_mut_ptr(), sums.len());
    // SAFETY: the arrays are borrowed until the end, and there is one member.
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
pub(super) fn gated_step_with(
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
        unsafe { arrays.finish(rnn, product, 0..rnn.units(), (sums.as_ptr(), sums_stride)) };
    };
    one(Product::Gates, arrays.h, gate_stride(rnn));
    if rnn.resets_before() {
        one(Product::Candidate, arrays.reset_states.cast_const(), stride);
    }
}

/// Floats of scratch of a gated cell's [`step`](step_gated) of `batch` rows.
pub(crate) fn gated_step_len(rnn: &PackedRnn, batch: usize) -> Result<usize> {
    let rows = checked_product("states", &[batch, 3, row_stride(rnn.units())])?;
    let len = rows.checked_add(gates_len(rnn, batch, batch));
    len.ok_or_else(|| Error::InvalidArgument(format!("a step of {batch} rows overflows")))
}

/// In the scratch of a step: where its states before it stand, h and c, `row_stride` apart.
pub(crate) fn states_before<'a>(rnn: &PackedRnn, batch: usize, scratch: &'a mut [f32]) -> [&'a mut [f32]; 2] {
    let states = batch * row_stride(rnn.units());
    let [h, c] = scratch.get_disjoint_mut([0..states, 2 * states..3 * states]).expect("apart");
    [h, c]
}

/// One step of a gated cell for `batch` rows; `scratch` has the [states before it](states_before). Gives the
/// next ones.
pub(crate) fn step_gated<'a>(
    rnn: &PackedRnn,
    x: &[f32],
    batch: usize,
    scratch: &'a mut [f32],
) -> [&'a [f32]; 2] {
    let states = batch * row_stride(rnn.units());
    let (rows, rest) = scratch.split_at_mut(2 * states);
    let (cell_states, gates) = rest.split_at_mut(states);
    let x = Rows::Strided { values: x, stride: rnn.kernel.terms(), count: batch };
    let chunk = Chunk { rows, carried: batch, gates, cell_states };
    carry(rnn, x, chunk, Steps { counts: &[batch], first: 0 }, None);
    [&rows[states..], cell_states]
}
