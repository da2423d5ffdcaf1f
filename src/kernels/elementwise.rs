//! Functions over whole arrays, in place.

use super::activation::{
    Function, TINY, elu, exp_of_negative, hard_sigmoid, hard_sigmoid_keras2, leaky_relu, relu, sigmoid,
    softplus, tanh, tanh_state,
};
use crate::simd::Simd;

/// `f` over `rows` rows of `columns` floats, `stride` apart, in place. With `STATE`, results below [`TINY`] become
/// zero, as everywhere a state is stored.
///
/// # Safety
/// Each row must begin in the array that `values` points into, which must be valid there for reading and
/// writing `columns` floats rounded up to whole vectors.
#[inline(always)]
pub(crate) unsafe fn apply<S: Simd, const STATE: bool>(
    s: S,
    function: Function,
    values: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
) {
    macro_rules! each {
        ($f:expr) => {
            each!($f, |y| if STATE { s.flush_below(y, TINY) } else { y })
        };
        ($f:expr, $stored:expr) => {
            for row in 0..rows {
                // SAFETY: where a row begins, which is in the caller's array.
                let row = unsafe { values.add(row * stride) };
                for i in (0..columns).step_by(S::LANES) {
                    // SAFETY: i < columns, so the vector lies inside the row rounded up to whole vectors.
                    unsafe {
                        s.store(row.add(i), $stored($f(s, s.load(row.add(i)))));
                    }
                }
            }
        };
    }
    match function {
        Function::Linear if STATE => each!(|_, x| x),
        Function::Linear => {}
        Function::Tanh if STATE => each!(tanh_state, |y| y),
        Function::Tanh => each!(tanh),
        Function::Relu => each!(relu),
        Function::Sigmoid => each!(sigmoid),
        Function::HardSigmoid => each!(hard_sigmoid),
        Function::HardSigmoidKeras2 => each!(hard_sigmoid_keras2),
        Function::Softplus => each!(softplus),
        Function::Elu => each!(elu),
        Function::LeakyRelu => each!(leaky_relu),
        Function::Exp => each!(exp_of_negative),
    }
}
