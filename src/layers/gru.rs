//! The GRU layer, and with it the GRU cell: they have one configuration.

use super::recurrent::{Options, Unroll, shared_options};
use super::{Activation, Initializer};

/// Keras's GRU, and its GRUCell's configuration: `z, r = s(x·W + b + h·U)`, each with its columns,
/// `n = a(x·Wn + bᵢn + r·(h·Un + bᵣn))`, `h' = z·h + (1-z)·n`.
///
/// That is `reset_after`, Keras's default. Without it, `n = a(x·Wn + bn + (r·h)·Un)`. Gates stand in Keras's order z r h,
/// each `units` columns of the kernel `[input, 3 · units]`, the recurrent kernel `[units, 3 · units]` and the bias, which
/// has two rows with `reset_after`, the input's and the recurrent one, and one row without.
///
/// Its state h is `[batch, units]`. As in a [`SimpleRnn`](crate::SimpleRnn) it is 0 where it would be smaller than
/// 2^-100, and the final one is asked for by [`RunOptions::final_state`](crate::RunOptions::final_state).
///
/// ```
/// use elman::{Gru, Sequential};
///
/// # fn main() -> Result<(), elman::Error> {
/// let net = Sequential::new(1).add(Gru::new(20)).build(42)?;
/// assert_eq!(net.predict(&[0.5, -0.5, 0.25], 1, 3)?.len(), 20); // [1, 3, 1] -> [1, 20]
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gru {
    pub(crate) options: Options,
    pub(crate) recurrent_activation: Activation,
    pub(crate) reset_after: bool,
}

impl Gru {
    /// `units` outputs with Keras's defaults: tanh, sigmoid gates, reset after, bias, glorot-uniform kernel, orthogonal
    /// recurrent kernel.
    pub fn new(units: usize) -> Self {
        Self { options: Options::new(units), recurrent_activation: Activation::Sigmoid, reset_after: true }
    }

    /// The function of the gates: any [`Activation`] but softmax.
    pub fn recurrent_activation(mut self, activation: Activation) -> Self {
        self.recurrent_activation = activation;
        self
    }

    /// Whether the reset gate is applied after the recurrent product (Keras 2.3 and later, PyTorch) or before it.
    pub fn reset_after(mut self, yes: bool) -> Self {
        self.reset_after = yes;
        self
    }
}

shared_options!(Gru);
