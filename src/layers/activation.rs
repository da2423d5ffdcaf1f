//! Activation functions by name; their arithmetic is in the kernels.

/// What a layer does to the sum of its products, element by element (softmax: row by row).
///
/// ```
/// use elman::Activation;
///
/// # fn main() -> Result<(), elman::Error> {
/// let mut values = [-1.0, 0.0, 2.0];
/// elman::activate(Activation::Relu, &mut values)?;
/// assert_eq!(values, [0.0, 0.0, 2.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "files", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "files", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Activation {
    /// `x`; a recurrent layer's state is 0 below 2^-100, with this as with every activation.
    Linear,
    /// The hyperbolic tangent, at most 2 ULP from the exact value. Keras's default for recurrent layers.
    #[default]
    Tanh,
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(-x))`, at most 4 ULP from the exact value.
    Sigmoid,
    /// `x/6 + 1/2`, clipped to 0 and 1: Keras 3's `hard_sigmoid`.
    HardSigmoid,
    /// `x/5 + 1/2`, clipped to 0 and 1: what Keras 1 and 2 called `hard_sigmoid`.
    HardSigmoidKeras2,
    /// `ln(1 + exp(x))`.
    Softplus,
    /// `x` where it is not negative, `exp(x) - 1` elsewhere.
    Elu,
    /// `x` where it is not negative, `x/5` elsewhere: Keras's `leaky_relu`.
    LeakyRelu,
    /// `exp(x_i) / sum_j exp(x_j)` over the row, computed relative to the row's maximum. Dense layers only.
    Softmax,
}

impl Activation {
    /// Every activation; softmax, which works on rows, is the last.
    pub const ALL: [Activation; 10] = [
        Activation::Linear,
        Activation::Tanh,
        Activation::Relu,
        Activation::Sigmoid,
        Activation::HardSigmoid,
        Activation::HardSigmoidKeras2,
        Activation::Softplus,
        Activation::Elu,
        Activation::LeakyRelu,
        Activation::Softmax,
    ];

    /// Keras's name.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Linear => "linear",
            Activation::Tanh => "tanh",
            Activation::Relu => "relu",
            Activation::Sigmoid => "sigmoid",
            Activation::HardSigmoid => "hard_sigmoid",
            Activation::HardSigmoidKeras2 => "hard_sigmoid_keras2",
            Activation::Softplus => "softplus",
            Activation::Elu => "elu",
            Activation::LeakyRelu => "leaky_relu",
            Activation::Softmax => "softmax",
        }
    }
}
