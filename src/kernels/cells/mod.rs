//! The element-wise part of a gated cell's step: from the sums of its gates to its state, and back.
//!
//! # The order of gates
//! The columns of a gated layer's matrices stand in *blocks* of as many units as a vector has lanes, in each
//! block gate after gate: what one pass of the product leaves in registers is all gates of a block. Where a
//! vector has 16 lanes and 8 or fewer units are left, the last block is one of half vectors. No sum depends on
//! where its column stands, so no bit does.
//!
//! Gradients of gates stand in Keras's order, gate after gate: they are the terms of sums, whose order must not
//! depend on the vectors' width.
//!
//! # Two sums
//! `x·W + b` and `h·U` are two sums, added here: so it changes no bit whether the first was made for many steps
//! at once, and which of the two was made first.
//!
//! # Bits
//! Every operation is correctly rounded and stands in one order, so all instruction sets with fused
//! multiply-add agree. What is stored for the next step, `h` and `c` and their gradients, becomes zero below
//! 2^-100.

pub(crate) mod gru;
#[cfg_attr(
    not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little"))),
    allow(dead_code, reason = "the portable backend has no such kernels")
)]
pub(crate) mod lone;
pub(crate) mod lstm;

use super::activation::{self, Function, TINY};
use crate::simd::Simd;

/// Rows of which an LSTM's gates and cell states, or a GRU's z and r, are made before any of their outputs. An
/// output waits for its gates, and a processor that looks a few hundred instructions ahead sees little else
/// meanwhile (8 rows of 64 units, AVX-512: LSTM 0.96 of the time, GRU 0.975). Tried: groups of eight, no
/// faster; the same backwards, 1.00 to 1.06.
const GROUP: usize = 4;

/// Lanes of a half vector, where there are such.
const HALF: usize = 8;

/// Units, padding among them, of the block that begins with unit `first`, for vectors of `lanes` lanes.
const fn block_width(units: usize, first: usize, lanes: usize) -> usize {
    if lanes > HALF && units - first <= HALF { HALF } else { lanes }
}

/// Columns of `gates` gates of `units` units for vectors of `lanes` lanes, the last block's padding among them.
pub(crate) const fn gate_columns(units: usize, gates: usize, lanes: usize) -> usize {
    let last = units.saturating_sub(1) / lanes * lanes;
    gates * (last + block_width(units, last, lanes))
}

/// The column of gate `gate` of unit `unit`, of `gates` gates of `units` units.
pub(crate) const fn gate_column(units: usize, gates: usize, lanes: usize, gate: usize, unit: usize) -> usize {
    let first = unit / lanes * lanes;
    first * gates + gate * block_width(units, first, lanes) + (unit - first)
}

/// `function` of a gate's sum.
#[inline(always)]
fn apply<S: Simd>(s: S, function: Function, x: S::V) -> S::V {
    match function {
        Function::Linear => x,
        Function::Tanh => activation::tanh(s, x),
        Function::Relu => activation::relu(s, x),
        Function::Sigmoid => activation::sigmoid(s, x),
        Function::HardSigmoid => activation::hard_sigmoid(s, x),
        Function::HardSigmoidKeras2 => activation::hard_sigmoid_keras2(s, x),
        Function::Softplus => activation::softplus(s, x),
        Function::Elu => activation::elu(s, x),
        Function::LeakyRelu => activation::leaky_relu(s, x),
        Function::Exp => activation::exp_of_negative(s, x),
    }
}

/// `gradient` times the derivative of `function`, whose result is `y`.
#[inline(always)]
pub(crate) fn derive<S: Simd>(s: S, function: Function, gradient: S::V, y: S::V) -> S::V {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    match function {
        Function::Linear | Function::Exp => gradient,
        Function::Tanh => s.mul(gradient, s.fma(s.sub(zero, y), y, one)),
        Function::Sigmoid => s.mul(gradient, s.mul(y, s.sub(one, y))),
        // Nothing passes where the result is not above 0.
        Function::Relu => s.select_ge_zero(s.sub(zero, y), zero, gradient),
        Function::HardSigmoid => inside(s, y, s.mul(gradient, s.splat(activation::HARD_SLOPE))),
        Function::HardSigmoidKeras2 => inside(s, y, s.mul(gradient, s.splat(activation::HARD_SLOPE_KERAS2))),
        // `1 - exp(-y)`, which is `-expm1(-y)`.
        Function::Softplus => s.mul(gradient, s.sub(zero, activation::expm1_of_negative(s, s.sub(zero, y)))),
        Function::Elu => s.select_ge_zero(y, gradient, s.mul(gradient, s.add(y, one))),
        Function::LeakyRelu => {
            s.select_ge_zero(y, gradient, s.mul(gradient, s.splat(activation::LEAKY_SLOPE)))
        }
    }
}

/// `value` where `0 < y < 1`, zero elsewhere: where a hard sigmoid is not clipped.
#[inline(always)]
fn inside<S: Simd>(s: S, y: S::V, value: S::V) -> S::V {
    let zero = s.splat(0.0);
    let below_one = s.select_ge_zero(s.sub(y, s.splat(1.0)), zero, value);
    s.select_ge_zero(s.sub(zero, y), zero, below_one)
}

/// What is stored for another step.
#[inline(always)]
fn kept<S: Simd>(s: S, value: S::V) -> S::V {
    s.flush_below(value, TINY)
}

/// Stores the units of a block, `units` or all of its lanes, and nothing behind them.
///
/// # Safety
/// `to` must be valid for so many floats.
#[inline(always)]
unsafe fn store_units<S: Simd>(s: S, to: *mut f32, values: S::V, units: usize) {
    if units >= S::LANES {
        // SAFETY: the caller's promise.
        unsafe { s.store(to, values) };
        return;
    }
    let mut lanes = [0.0f32; 16];
    // SAFETY: no vector has more lanes than these; the caller's promise for the copy.
    unsafe {
        s.store(lanes.as_mut_ptr(), values);
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, units);
    }
}

/// Calls `$body` for each block of `$units` units, `$s` being a token of vectors as wide as the block, `$unit`
/// the block's first unit and `$at` its first gate's column, of `$gates` gates; gate g lies `g * $width`
/// columns further.
macro_rules! each_block {
    ($token:expr, $kind:ident, $units:expr, $gates:expr, |$s:ident, $unit:ident, $at:ident, $width:ident| $body:block) => {{
        let units: usize = $units;
        let mut first = 0;
        while first < units && block_width(units, first, $kind::LANES) == $kind::LANES {
            let ($s, $unit, $at) = ($token, first, first * $gates);
            let $width = $kind::LANES;
            $body
            first += $kind::LANES;
        }
        if $kind::LANES > HALF && first < units {
            let ($s, $unit, $at) = ($token.half(), first, first * $gates);
            let $width = HALF;
            $body
        }
    }};
}
use each_block;

/// Calls `$body` for each [`GROUP`] of `$rows` rows, `$row` being the first and the constant `$n` how many, and
/// then for each row that is left.
macro_rules! each_group {
    ($rows:expr, |$row:ident, $n:ident| $body:block) => {{
        let rows: usize = $rows;
        let grouped = rows / GROUP * GROUP;
        {
            const $n: usize = GROUP;
            for $row in (0..grouped).step_by(GROUP) $body
        }
        const $n: usize = 1;
        for $row in grouped..rows $body
    }};
}
use each_group;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gate_of_every_unit_has_a_column_of_its_own() {
        for units in if cfg!(miri) { 16..18 } else { 1..70 } {
            for gates in 1..5 {
                for lanes in [4, 8, 16] {
                    let mut seen = vec![false; gate_columns(units, gates, lanes)];
                    for (unit, gate) in (0..units).flat_map(|unit| (0..gates).map(move |gate| (unit, gate))) {
                        let column = gate_column(units, gates, lanes, gate, unit);
                        assert!(!std::mem::replace(&mut seen[column], true), "{units} {gates} {gate} {unit}");
                    }
                }
            }
        }
    }
}
