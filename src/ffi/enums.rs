//! Enums as C hands them over: any 32 bits, so plain integers here and Rust enums only after a look.

use super::raw::flag;
use super::status::Failure;
use crate::layers::{Activation, MergeMode, Unroll, Weight};
use crate::sequential::Padding;

/// What a layer does to the sum of its products: one of the ELMAN_ACTIVATION_ constants. A recurrent layer or
/// cell, whatever its activation, gives and keeps 0 where a state would be smaller than 2^-100.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct elman_activation(pub u32);

/// The sum itself.
pub const ELMAN_ACTIVATION_LINEAR: elman_activation = elman_activation(0);
/// The hyperbolic tangent, at most 2 ULP from the exact value; Keras's default for recurrent layers.
pub const ELMAN_ACTIVATION_TANH: elman_activation = elman_activation(1);
/// max(x, 0).
pub const ELMAN_ACTIVATION_RELU: elman_activation = elman_activation(2);
/// 1 / (1 + exp(-x)), at most 4 ULP from the exact value; Keras's default for the gates of LSTM and GRU.
pub const ELMAN_ACTIVATION_SIGMOID: elman_activation = elman_activation(3);
/// exp(x_i) / (the sum of exp(x_j) over the row); dense layers only.
pub const ELMAN_ACTIVATION_SOFTMAX: elman_activation = elman_activation(4);
/// x/6 + 1/2, clipped to 0 and 1: Keras 3's hard_sigmoid.
pub const ELMAN_ACTIVATION_HARD_SIGMOID: elman_activation = elman_activation(5);
/// x/5 + 1/2, clipped to 0 and 1: what Keras 1 and 2 called hard_sigmoid.
pub const ELMAN_ACTIVATION_HARD_SIGMOID_KERAS2: elman_activation = elman_activation(6);
/// log(1 + exp(x)).
pub const ELMAN_ACTIVATION_SOFTPLUS: elman_activation = elman_activation(7);
/// x where it is not negative, exp(x) - 1 elsewhere.
pub const ELMAN_ACTIVATION_ELU: elman_activation = elman_activation(8);
/// x where it is not negative, x/5 elsewhere: Keras's leaky_relu.
pub const ELMAN_ACTIVATION_LEAKY_RELU: elman_activation = elman_activation(9);

/// Which driver walks the steps of a recurrent layer: one of the ELMAN_UNROLL_ constants. The results have
/// the same bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct elman_unroll(pub u32);

/// Unrolled, which is never slower.
pub const ELMAN_UNROLL_AUTO: elman_unroll = elman_unroll(0);
/// Each step by itself.
pub const ELMAN_UNROLL_LOOPED: elman_unroll = elman_unroll(1);
/// Many steps at a time: inside one kernel call where the layer is small.
pub const ELMAN_UNROLL_UNROLLED: elman_unroll = elman_unroll(2);

/// Which weight of a layer: one of the ELMAN_WEIGHT_ constants. All arrays are in Keras's layout, row by row.
///
/// Columns are the units of a dense or SimpleRNN layer. An LSTM has 4 x units of them, those of its gates i,
/// f, the candidate and o one after another, and a GRU 3 x units, those of z, r and the candidate.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct elman_weight(pub u32);

/// [input, columns]: of recurrent and dense layers, and of the forward half of a Bidirectional layer.
pub const ELMAN_WEIGHT_KERNEL: elman_weight = elman_weight(0);
/// [units, columns]: of recurrent layers, and of the forward half of a Bidirectional layer.
pub const ELMAN_WEIGHT_RECURRENT_KERNEL: elman_weight = elman_weight(1);
/// [1, columns]: of recurrent and dense layers that use a bias, and of the forward half of a Bidirectional
/// layer. A GRU with reset_after has [2, columns], the input's row and the recurrent one.
pub const ELMAN_WEIGHT_BIAS: elman_weight = elman_weight(2);
/// [vocabulary, size]: of an embedding.
pub const ELMAN_WEIGHT_EMBEDDING: elman_weight = elman_weight(3);
/// [input, columns]: of the backward half of a Bidirectional layer.
pub const ELMAN_WEIGHT_BACKWARD_KERNEL: elman_weight = elman_weight(4);
/// [units, columns]: of the backward half of a Bidirectional layer.
pub const ELMAN_WEIGHT_BACKWARD_RECURRENT_KERNEL: elman_weight = elman_weight(5);
/// [1, columns], of a GRU with reset_after [2, columns]: of the backward half of a Bidirectional layer that
/// uses a bias.
pub const ELMAN_WEIGHT_BACKWARD_BIAS: elman_weight = elman_weight(6);

/// How a Bidirectional layer joins its two halves: one of the ELMAN_MERGE_MODE_ constants.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct elman_merge_mode(pub u32);

/// Side by side, forward first: twice the features. Keras's default.
pub const ELMAN_MERGE_MODE_CONCAT: elman_merge_mode = elman_merge_mode(0);
/// Element-wise sum.
pub const ELMAN_MERGE_MODE_SUM: elman_merge_mode = elman_merge_mode(1);
/// Element-wise product.
pub const ELMAN_MERGE_MODE_MUL: elman_merge_mode = elman_merge_mode(2);
/// Element-wise mean.
pub const ELMAN_MERGE_MODE_AVE: elman_merge_mode = elman_merge_mode(3);
/// Not joined: the whole forward array, then the whole backward array. Last layer only.
pub const ELMAN_MERGE_MODE_NONE: elman_merge_mode = elman_merge_mode(4);

/// What masked or missing steps leave behind: one of the ELMAN_PADDING_ constants.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct elman_padding(pub u32);

/// As in Keras: the state is carried over the step, and the output repeats the previous one or is zero
/// (zero_output_for_mask).
pub const ELMAN_PADDING_KERAS: elman_padding = elman_padding(0);
/// As in ONNX: recurrent layers' outputs past a row's length are zero, a reversed layer starts at the row's
/// last step, and the final states of a row of length 0 are zeros.
pub const ELMAN_PADDING_ONNX: elman_padding = elman_padding(1);

/// `bool` in a signature. A Rust `bool` must be 0 or 1, and C can be talked into passing anything.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct elman_bool(pub u8);

impl elman_bool {
    pub(super) fn read(self, what: &str) -> Result<bool, Failure> {
        flag(what, self.0)
    }
}

impl elman_activation {
    pub(super) fn read(self) -> Result<Activation, Failure> {
        Ok(match self {
            ELMAN_ACTIVATION_LINEAR => Activation::Linear,
            ELMAN_ACTIVATION_TANH => Activation::Tanh,
            ELMAN_ACTIVATION_RELU => Activation::Relu,
            ELMAN_ACTIVATION_SIGMOID => Activation::Sigmoid,
            ELMAN_ACTIVATION_SOFTMAX => Activation::Softmax,
            ELMAN_ACTIVATION_HARD_SIGMOID => Activation::HardSigmoid,
            ELMAN_ACTIVATION_HARD_SIGMOID_KERAS2 => Activation::HardSigmoidKeras2,
            ELMAN_ACTIVATION_SOFTPLUS => Activation::Softplus,
            ELMAN_ACTIVATION_ELU => Activation::Elu,
            ELMAN_ACTIVATION_LEAKY_RELU => Activation::LeakyRelu,
            elman_activation(other) => return Err(unknown("activation", other)),
        })
    }
}

impl elman_unroll {
    pub(super) fn read(self) -> Result<Unroll, Failure> {
        Ok(match self {
            ELMAN_UNROLL_AUTO => Unroll::Auto,
            ELMAN_UNROLL_LOOPED => Unroll::Looped,
            ELMAN_UNROLL_UNROLLED => Unroll::Unrolled,
            elman_unroll(other) => return Err(unknown("unroll", other)),
        })
    }
}

impl elman_weight {
    pub(super) fn read(self) -> Result<Weight, Failure> {
        Ok(match self {
            ELMAN_WEIGHT_KERNEL => Weight::Kernel,
            ELMAN_WEIGHT_RECURRENT_KERNEL => Weight::RecurrentKernel,
            ELMAN_WEIGHT_BIAS => Weight::Bias,
            ELMAN_WEIGHT_EMBEDDING => Weight::Embedding,
            ELMAN_WEIGHT_BACKWARD_KERNEL => Weight::BackwardKernel,
            ELMAN_WEIGHT_BACKWARD_RECURRENT_KERNEL => Weight::BackwardRecurrentKernel,
            ELMAN_WEIGHT_BACKWARD_BIAS => Weight::BackwardBias,
            elman_weight(other) => return Err(unknown("weight", other)),
        })
    }
}

impl elman_merge_mode {
    pub(super) fn read(self) -> Result<MergeMode, Failure> {
        Ok(match self {
            ELMAN_MERGE_MODE_CONCAT => MergeMode::Concat,
            ELMAN_MERGE_MODE_SUM => MergeMode::Sum,
            ELMAN_MERGE_MODE_MUL => MergeMode::Mul,
            ELMAN_MERGE_MODE_AVE => MergeMode::Ave,
            ELMAN_MERGE_MODE_NONE => MergeMode::None,
            elman_merge_mode(other) => return Err(unknown("merge mode", other)),
        })
    }
}

impl elman_padding {
    pub(super) fn read(self) -> Result<Padding, Failure> {
        Ok(match self {
            ELMAN_PADDING_KERAS => Padding::Keras,
            ELMAN_PADDING_ONNX => Padding::Onnx,
            elman_padding(other) => return Err(unknown("padding", other)),
        })
    }
}

pub(super) fn unknown(what: &str, value: u32) -> Failure {
    Failure::invalid(format!("{value} is no {what} that this library knows"))
}
