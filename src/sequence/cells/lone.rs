//! Steps of one row of an LSTM or a GRU: a kernel of its own carries all of them out, and stores no gate.

use super::gate_stride;
use crate::dispatch::{Function, LoneFn, lone};
use crate::layers::{Gated, PackedCell, PackedRnn};
use crate::memory::row_stride;

/// Whether there is a kernel for steps of one row.
pub(in super::super) fn has_lone_steps(rnn: &PackedRnn) -> bool {
    let usual = |gated: &Gated| gated.functions == [Function::Sigmoid, Function::Tanh];
    match &rnn.cell {
        PackedCell::Lstm(gated) | PackedCell::Gru(gated) => rnn.recurrent.is_of_blocks() && usual(gated),
        PackedCell::SimpleRnn(_) | PackedCell::GruResetBefore(..) => false,
    }
}

/// Steps of one row each, in the rows of a chunk.
pub(super) struct LoneSteps {
    pub(super) steps: usize,
    pub(super) odd: bool,
    /// Where the state before them begins, and the first one's own.
    pub(super) previous: usize,
    pub(super) here: usize,
}

/// No input to make sums of: they are there.
pub(super) fn no_input() -> lone::Input {
    let none = std::ptr::null();
    lone::Input { x: none, features: 0, panels: none, segments: 1, bias: none }
}

/// What `x·W + b` of a step is made of.
pub(in super::super) fn input_of(rnn: &PackedRnn, x: *const f32) -> lone::Input {
    assert!(rnn.bias.len() >= rnn.kernel.padded_columns(), "bias too short");
    let block = rnn.kernel.block();
    let (panels, segments) = (block.b, block.segments);
    lone::Input { x, features: rnn.kernel.depth(), panels, segments, bias: rnn.bias.as_ptr() }
}

/// The kernel of a lone row, and one step of it from a state to the next; `c` is an LSTM's cell state.
pub(in super::super) fn lone_step(
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
pub(super) fn lone_steps(
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
    // input, of `gates_stride` floats, which are whole cache lines too and so the padded columns; `start` has as
    // many as the matrix padded. They are borrowed apart; what a step writes lies behind
    // what it reads. The kernels are this process's.
    unsafe { kernel(&steps) };
}
