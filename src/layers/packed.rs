//! Weights as the kernels read them: packed once when a layer is built or changed, immutable afterwards.

use super::{Activation, Bidirectional, Dense, Layer, Shape, SimpleRnn, Unroll, Variables, Weight};
use crate::dispatch::{Function, KernelSet};
use crate::error::Result;
use crate::gemm::PackedMatrix;
use crate::memory::AlignedVec;

/// A layer with its weights, in both forms.
#[derive(Debug)]
pub(crate) struct BuiltLayer {
    pub(crate) layer: Layer,
    pub(crate) input: Shape,
    pub(crate) output: Shape,
    pub(crate) variables: Variables,
    pub(crate) packed: Packed,
}

/// What a layer needs to run.
#[derive(Debug)]
pub(crate) enum Packed {
    /// Nothing beyond the configuration and, for an embedding, the table as it is.
    Plain,
    Rnn(PackedRnn),
    /// Forward half, backward half.
    Both(Box<[PackedRnn; 2]>),
    Dense(PackedDense),
}

/// One direction of a recurrent layer.
#[derive(Debug)]
pub(crate) struct PackedRnn {
    pub(crate) kernel: PackedMatrix,
    pub(crate) recurrent: PackedMatrix,
    /// Padded to whole vectors; zeros where the layer has none.
    pub(crate) bias: AlignedVec,
    pub(crate) function: Function,
    /// Whether the unrolled driver walks the steps.
    pub(crate) unrolled: bool,
}

/// A fully connected layer.
#[derive(Debug)]
pub(crate) struct PackedDense {
    pub(crate) kernel: PackedMatrix,
    /// Padded to whole vectors; zeros where the layer has none.
    pub(crate) bias: AlignedVec,
    /// The element-wise function; softmax is `None`.
    pub(crate) function: Option<Function>,
}

impl BuiltLayer {
    pub(crate) fn new(
        kernels: &'static KernelSet,
        layer: Layer,
        input: Shape,
        output: Shape,
        variables: Variables,
    ) -> Result<Self> {
        let packed = Packed::new(kernels, &layer, &variables)?;
        Ok(Self { layer, input, output, variables, packed })
    }

    /// The layer once more, without the variables that a run does not read.
    pub(crate) fn without_variables(&self, kernels: &'static KernelSet) -> Result<Self> {
        Ok(Self {
            layer: self.layer.clone(),
            variables: self.variables.dropped(),
            packed: Packed::new(kernels, &self.layer, &self.variables)?,
            ..*self
        })
    }

    /// Whether there are variables that a run does not read.
    pub(crate) fn can_drop(&self) -> bool {
        let plain = matches!(self.packed, Packed::Plain);
        !plain && self.variables.0.iter().any(|variable| !variable.values.is_empty())
    }

    /// Bytes of the variables, and of their packed form.
    pub(crate) fn bytes(&self) -> [usize; 2] {
        let variables: usize = self.variables.0.iter().map(|variable| variable.values.len()).sum();
        let rnn = |rnn: &PackedRnn| rnn.kernel.bytes() + rnn.recurrent.bytes() + size_of_val(&rnn.bias[..]);
        let packed = match &self.packed {
            Packed::Plain => 0,
            Packed::Rnn(half) => rnn(half),
            Packed::Both(both) => both.iter().map(rnn).sum(),
            Packed::Dense(dense) => dense.kernel.bytes() + size_of_val(&dense.bias[..]),
        };
        [variables * size_of::<f32>(), packed]
    }

    /// Packs the variables again, after they were changed.
    pub(crate) fn repack(&mut self) -> Result<()> {
        let variables = &self.variables;
        match &mut self.packed {
            Packed::Plain => Ok(()),
            Packed::Rnn(rnn) => rnn.repack(variables, |which| which),
            Packed::Both(both) => {
                both[0].repack(variables, |which| which)?;
                both[1].repack(variables, Weight::backward)
            }
            Packed::Dense(dense) => {
                dense.kernel.fill(variables.get(Weight::Kernel)?.values());
                refill_bias(&mut dense.bias, variables, Weight::Bias);
                Ok(())
            }
        }
    }
}

impl Packed {
    fn new(kernels: &'static KernelSet, layer: &Layer, variables: &Variables) -> Result<Self> {
        Ok(match layer {
            Layer::SimpleRnn(rnn) => Self::Rnn(PackedRnn::new(kernels, rnn, variables, |which| which)?),
            Layer::Bidirectional(Bidirectional { layer: rnn, .. }) => Self::Both(Box::new([
                PackedRnn::new(kernels, rnn, variables, |which| which)?,
                PackedRnn::new(kernels, rnn, variables, Weight::backward)?,
            ])),
            Layer::Dense(dense) => Self::Dense(PackedDense::new(kernels, dense, variables)?),
            Layer::Embedding(_) | Layer::Masking(_) | Layer::Dropout(_) => Self::Plain,
        })
    }
}

impl PackedRnn {
    /// Packs the variables that `half` names for Kernel, RecurrentKernel and Bias.
    pub(crate) fn new(
        kernels: &'static KernelSet,
        layer: &SimpleRnn,
        variables: &Variables,
        half: impl Fn(Weight) -> Weight,
    ) -> Result<Self> {
        let kernel = pack(kernels, variables, half(Weight::Kernel))?;
        let recurrent = pack(kernels, variables, half(Weight::RecurrentKernel))?;
        let bias = pad_bias(&kernel, variables, layer.use_bias, half(Weight::Bias))?;
        Ok(Self {
            kernel,
            recurrent,
            bias,
            function: function(layer.activation).unwrap_or(Function::Linear),
            // Unrolled is never slower (one call for many steps), so Auto takes it.
            unrolled: layer.unroll != Unroll::Looped,
        })
    }

    fn repack(&mut self, variables: &Variables, half: impl Fn(Weight) -> Weight) -> Result<()> {
        self.kernel.fill(variables.get(half(Weight::Kernel))?.values());
        self.recurrent.fill(variables.get(half(Weight::RecurrentKernel))?.values());
        refill_bias(&mut self.bias, variables, half(Weight::Bias));
        Ok(())
    }

    pub(crate) fn units(&self) -> usize {
        self.recurrent.columns()
    }
}

impl PackedDense {
    fn new(kernels: &'static KernelSet, layer: &Dense, variables: &Variables) -> Result<Self> {
        let kernel = pack(kernels, variables, Weight::Kernel)?;
        let bias = pad_bias(&kernel, variables, layer.use_bias, Weight::Bias)?;
        Ok(Self { kernel, bias, function: function(layer.activation) })
    }
}

fn pack(kernels: &'static KernelSet, variables: &Variables, which: Weight) -> Result<PackedMatrix> {
    let variable = variables.get(which)?;
    let [terms, columns] = variable.shape();
    PackedMatrix::new(kernels, terms, columns, variable.values())
}

fn pad_bias(
    kernel: &PackedMatrix,
    variables: &Variables,
    use_bias: bool,
    which: Weight,
) -> Result<AlignedVec> {
    let mut bias = AlignedVec::zeroed(kernel.padded_columns())?;
    if use_bias {
        bias[..kernel.columns()].copy_from_slice(variables.get(which)?.values());
    }
    Ok(bias)
}

/// A layer without a bias keeps its zeros.
fn refill_bias(bias: &mut AlignedVec, variables: &Variables, which: Weight) {
    if let Ok(variable) = variables.get(which) {
        bias[..variable.values().len()].copy_from_slice(variable.values());
    }
}

/// The kernels' element-wise function; `None` for softmax, which works on rows.
fn function(activation: Activation) -> Option<Function> {
    match activation {
        Activation::Linear => Some(Function::Linear),
        Activation::Tanh => Some(Function::Tanh),
        Activation::Relu => Some(Function::Relu),
        Activation::Sigmoid => Some(Function::Sigmoid),
        Activation::Softmax => None,
    }
}
