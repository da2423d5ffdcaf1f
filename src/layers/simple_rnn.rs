//! The recurrent layer, and with it the recurrent cell: they have one configuration.

use super::{Activation, Initializer, Weight, positive, rate};
use crate::error::{Error, Result};

/// Which driver walks the steps. The results have the same bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "files", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "files", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Unroll {
    /// Unrolled, which is never slower: the results are the same, and one call carries many steps.
    #[default]
    Auto,
    /// Each step by itself.
    Looped,
    /// Many steps at a time: inside one kernel call where the layer is small.
    Unrolled,
}

/// `h_t = act(x_t·W + b + h_{t-1}·U)`: Keras's SimpleRNN, and its SimpleRNNCell's configuration.
///
/// Where a state would be smaller than 2^-100 it is 0, whatever the activation: a fading state must not drift
/// into the subnormal numbers, which take a hundred times as long. Keras's `return_state` has no method:
/// final states are asked for in a call, by [`RunOptions::final_state`](crate::RunOptions::final_state).
///
/// ```
/// use elman::{Activation, Sequential, SimpleRnn};
///
/// # fn main() -> Result<(), elman::Error> {
/// let rnn = SimpleRnn::new(8).activation(Activation::Relu).return_sequences(true);
/// let model = Sequential::new(3).add(rnn).build(1)?;
/// assert_eq!(model.predict(&[0.5; 2 * 5 * 3], 2, 5)?.len(), 2 * 5 * 8);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimpleRnn {
    pub(crate) units: usize,
    pub(crate) activation: Activation,
    pub(crate) use_bias: bool,
    pub(crate) return_sequences: bool,
    pub(crate) go_backwards: bool,
    pub(crate) stateful: bool,
    pub(crate) zero_output_for_mask: bool,
    pub(crate) unroll: Unroll,
    pub(crate) dropout: f32,
    pub(crate) recurrent_dropout: f32,
    pub(crate) kernel_initializer: Initializer,
    pub(crate) recurrent_initializer: Initializer,
    pub(crate) bias_initializer: Initializer,
}

/// A builder method for each field, named as in Keras.
macro_rules! options {
    ($($(#[$doc:meta])* $name:ident: $type:ty),* $(,)?) => {$(
        $(#[$doc])*
        pub fn $name(mut self, value: $type) -> Self {
            self.$name = value;
            self
        }
    )*};
}

impl SimpleRnn {
    /// `units` outputs with Keras's defaults: tanh, bias, glorot-uniform kernel, orthogonal recurrent kernel, zero bias.
    pub fn new(units: usize) -> Self {
        Self {
            units,
            activation: Activation::Tanh,
            use_bias: true,
            return_sequences: false,
            go_backwards: false,
            stateful: false,
            zero_output_for_mask: false,
            unroll: Unroll::Auto,
            dropout: 0.0,
            recurrent_dropout: 0.0,
            kernel_initializer: Initializer::GlorotUniform,
            recurrent_initializer: Initializer::Orthogonal { gain: 1.0 },
            bias_initializer: Initializer::Zeros,
        }
    }

    options! {
        /// tanh, relu, sigmoid or linear.
        activation: Activation,
        /// Whether a bias is added.
        use_bias: bool,
        /// Give every step's output rather than the last one's.
        return_sequences: bool,
        /// Walk the time axis from its end; outputs stay in processing order.
        go_backwards: bool,
        /// Keep the last state as the next call's initial state, until
        /// [`reset_states`](crate::Sequential::reset_states).
        stateful: bool,
        /// Masked steps emit zeros rather than the previous output; in a
        /// [`Bidirectional`](super::Bidirectional) layer they do in any case.
        zero_output_for_mask: bool,
        /// Which driver walks the steps.
        unroll: Unroll,
        /// Share of the inputs dropped in training, 0 to 1.
        dropout: f32,
        /// Share of the state dropped in training, 0 to 1.
        recurrent_dropout: f32,
        /// How the kernel `[input, units]` starts.
        kernel_initializer: Initializer,
        /// How the recurrent kernel `[units, units]` starts.
        recurrent_initializer: Initializer,
        /// How the bias `[units]` starts.
        bias_initializer: Initializer,
    }

    /// Outputs a step.
    pub fn units(&self) -> usize {
        self.units
    }

    pub(crate) fn validate(&self) -> Result<()> {
        positive("units", self.units)?;
        rate("dropout", self.dropout)?;
        rate("recurrent_dropout", self.recurrent_dropout)?;
        if self.activation == Activation::Softmax {
            return Err(Error::InvalidArgument(
                "softmax is for dense layers; a recurrent layer takes linear, tanh, relu or sigmoid".into(),
            ));
        }
        self.recurrent_initializer.validate(Weight::RecurrentKernel, [self.units, self.units])?;
        self.bias_initializer.validate(Weight::Bias, [1, self.units])
    }

    pub(crate) fn variable_shapes(&self, input: usize) -> Vec<(Weight, [usize; 2])> {
        let mut shapes =
            vec![(Weight::Kernel, [input, self.units]), (Weight::RecurrentKernel, [self.units, self.units])];
        if self.use_bias {
            shapes.push((Weight::Bias, [1, self.units]));
        }
        shapes
    }

    pub(crate) fn initializer(&self, which: Weight) -> Initializer {
        match which {
            Weight::RecurrentKernel => self.recurrent_initializer,
            Weight::Bias => self.bias_initializer,
            _ => self.kernel_initializer,
        }
    }
}
