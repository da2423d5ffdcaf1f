//! The fully connected layer.

use super::{Activation, Initializer, Weight, positive};
use crate::error::Result;

/// `act(x·W + b)`, W `[input, units]`. On a sequence it works on every step (Keras's TimeDistributed(Dense)).
///
/// ```
/// use elman::{Activation, Dense, Sequential};
///
/// # fn main() -> Result<(), elman::Error> {
/// let model = Sequential::new(4).add(Dense::new(3).activation(Activation::Softmax)).build(1)?;
/// let y = model.predict(&[0.5, -0.5, 1.0, 2.0], 1, 1)?; // one row of one step
/// assert!((y.iter().sum::<f32>() - 1.0).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dense {
    pub(crate) units: usize,
    pub(crate) activation: Activation,
    pub(crate) use_bias: bool,
    pub(crate) kernel_initializer: Initializer,
    pub(crate) bias_initializer: Initializer,
}

impl Dense {
    /// `units` outputs, linear, with a bias; glorot-uniform kernel and zero bias.
    pub fn new(units: usize) -> Self {
        Self {
            units,
            activation: Activation::Linear,
            use_bias: true,
            kernel_initializer: Initializer::GlorotUniform,
            bias_initializer: Initializer::Zeros,
        }
    }

    /// Any [`Activation`], softmax included.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Whether a bias is added.
    pub fn use_bias(mut self, yes: bool) -> Self {
        self.use_bias = yes;
        self
    }

    /// How the kernel starts.
    pub fn kernel_initializer(mut self, initializer: Initializer) -> Self {
        self.kernel_initializer = initializer;
        self
    }

    /// How the bias starts.
    pub fn bias_initializer(mut self, initializer: Initializer) -> Self {
        self.bias_initializer = initializer;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        positive("dense units", self.units)?;
        self.bias_initializer.validate(Weight::Bias, [1, self.units])
    }

    pub(crate) fn variable_shapes(&self, input: usize) -> Vec<(Weight, [usize; 2])> {
        let mut shapes = vec![(Weight::Kernel, [input, self.units])];
        if self.use_bias {
            shapes.push((Weight::Bias, [1, self.units]));
        }
        shapes
    }

    pub(crate) fn initializer(&self, which: Weight) -> Initializer {
        if which == Weight::Bias { self.bias_initializer } else { self.kernel_initializer }
    }
}
