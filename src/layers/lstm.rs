//! The LSTM layer, and with it the LSTM cell: they have one configuration.

use super::recurrent::{Options, Unroll, shared_options};
use super::{Activation, Initializer};

/// Keras's LSTM, and its LSTMCell's configuration: `i, f, o = s(x·W + b + h·U)`, each with its columns, `g = a(…)`,
/// `c' = f·c + i·g`, `h' = o·a(c')`.
///
/// Gates stand in Keras's order i f c o, each `units` columns of the kernel `[input, 4 · units]`, the recurrent kernel
/// `[units, 4 · units]` and the bias `[1, 4 · units]`. Its states are h, then c, each `[batch, units]`; as in a
/// [`SimpleRnn`](crate::SimpleRnn) they are 0 where they would be smaller than 2^-100, and final ones are asked for by
/// [`RunOptions::final_state`](crate::RunOptions::final_state).
///
/// ```
/// use elman::{Lstm, Sequential};
///
/// # fn main() -> Result<(), elman::Error> {
/// let net = Sequential::new(100).add(Lstm::new(64).return_sequences(true)).add(Lstm::new(64)).build(42)?;
/// let y = net.predict(&vec![0.1; 8 * 80 * 100], 8, 80)?; // [8, 80, 100] -> [8, 64]
/// assert_eq!(y.len(), 8 * 64);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lstm {
    pub(crate) options: Options,
    pub(crate) recurrent_activation: Activation,
    pub(crate) unit_forget_bias: bool,
}

impl Lstm {
    /// `units` outputs with Keras's defaults: tanh, sigmoid gates, bias with ones for the forget gate, glorot-uniform kernel,
    /// orthogonal recurrent kernel.
    pub fn new(units: usize) -> Self {
        Self {
            options: Options::new(units),
            recurrent_activation: Activation::Sigmoid,
            unit_forget_bias: true,
        }
    }

    /// The function of the gates: any [`Activation`] but softmax.
    pub fn recurrent_activation(mut self, activation: Activation) -> Self {
        self.recurrent_activation = activation;
        self
    }

    /// Whether the forget gate's bias starts at one, whatever the bias's initialiser.
    pub fn unit_forget_bias(mut self, yes: bool) -> Self {
        self.unit_forget_bias = yes;
        self
    }
}

shared_options!(Lstm);
