//! The simple recurrent layer, and with it the recurrent cell: they have one configuration.

use super::recurrent::{Options, Unroll, shared_options};
use super::{Activation, Initializer};

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
    pub(crate) options: Options,
}

impl SimpleRnn {
    /// `units` outputs with Keras's defaults: tanh, bias, glorot-uniform kernel, orthogonal recurrent kernel, zero bias.
    pub fn new(units: usize) -> Self {
        Self { options: Options::new(units) }
    }
}

shared_options!(SimpleRnn);
