//! Weights as the kernels read them: packed once when a layer is built or changed, immutable afterwards.

use super::{
    Activation, Bidirectional, Cell, Dense, GateOrder, Layer, Recurrent, Shape, Unroll, Variable, Variables,
    Weight,
};
use crate::dispatch::{Function, KernelSet, RESET_GATES};
use crate::error::Result;
use crate::gemm::{PackedMatrix, gated_segments};
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
    Rnn(Box<PackedRnn>),
    /// Forward half, backward half.
    Both(Box<[PackedRnn; 2]>),
    Dense(PackedDense),
}

/// One direction of a recurrent layer.
#[derive(Debug)]
pub(crate) struct PackedRnn {
    units: usize,
    /// `[input, columns]`: the units of a simple cell, the gates of others in blocks.
    pub(crate) kernel: PackedMatrix,
    /// Padded to whole vectors, where the sums of the input start; zeros where the layer has none.
    pub(crate) bias: AlignedVec,
    /// `[units, columns]`; of a GRU with reset before, the columns of z and r.
    pub(crate) recurrent: PackedMatrix,
    pub(crate) cell: PackedCell,
    /// Whether the unrolled driver walks the steps.
    pub(crate) unrolled: bool,
}

/// What a cell has beside its two matrices.
#[derive(Debug)]
pub(crate) enum PackedCell {
    /// The function of the sums.
    SimpleRnn(Function),
    Lstm(Gated),
    /// Reset after.
    Gru(Gated),
    /// Reset before, with the recurrent kernel of the candidate.
    GruResetBefore(Gated, PackedMatrix),
}

/// What gated cells have.
#[derive(Debug)]
pub(crate) struct Gated {
    /// Of the gates, and of the candidate.
    pub(crate) functions: [Function; 2],
    /// Where the sums of the state start, padded to whole vectors: zeros but for the candidate of reset after.
    pub(crate) start: AlignedVec,
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
        let packed = match &self.packed {
            Packed::Plain => 0,
            Packed::Rnn(half) => half.bytes(),
            Packed::Both(both) => both.iter().map(PackedRnn::bytes).sum(),
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
            Layer::Recurrent(rnn) => {
                Self::Rnn(Box::new(PackedRnn::new(kernels, rnn, variables, |which| which)?))
            }
            Layer::Bidirectional(Bidirectional { layer: rnn, .. }) => Self::Both(Box::new([
                PackedRnn::new(kernels, rnn, variables, |which| which)?,
                PackedRnn::new(kernels, rnn, variables, Weight::backward)?,
            ])),
            Layer::Dense(dense) => Self::Dense(PackedDense::new(kernels, dense, variables)?),
            Layer::Embedding(_) | Layer::Masking(_) | Layer::Dropout(_) | Layer::LastStep(_) => Self::Plain,
        })
    }
}

impl PackedRnn {
    /// Packs the variables that `half` names for Kernel, RecurrentKernel and Bias.
    pub(crate) fn new(
        kernels: &'static KernelSet,
        layer: &Recurrent,
        variables: &Variables,
        half: impl Fn(Weight) -> Weight,
    ) -> Result<Self> {
        let options = layer.options();
        let units = options.units;
        let kernels = match layer.cell() {
            Cell::SimpleRnn => kernels.for_columns(units),
            // Narrow gates leave registers for three or four rows at once: 8 rows of 8 units and 100 features took 1.4 to 1.6
            // times as long.
            Cell::Lstm | Cell::Gru { .. } => kernels,
        };
        let [input, _] = variables.get(half(Weight::Kernel))?.shape();
        let of = |activation: Activation| activation.function().unwrap_or(Function::Linear);
        let order = |gates| GateOrder { units, gates, lanes: kernels.lanes };
        let matrix = |depth: usize, gates: usize| -> Result<PackedMatrix> {
            let columns = order(gates).columns()?;
            Ok(PackedMatrix::of_blocks(kernels, depth, columns, gates)?
                .with_segments(gated_segments(depth, units)))
        };
        let gated = |matrix: &PackedMatrix| -> Result<Gated> {
            let start = AlignedVec::zeroed(matrix.padded_columns())?;
            Ok(Gated { functions: layer.activations().map(of), start })
        };
        let gates = layer.cell().gates();
        let (kernel, recurrent, cell) = match layer.cell() {
            Cell::SimpleRnn => (
                PackedMatrix::zeroed(kernels, input, units)?,
                PackedMatrix::zeroed(kernels, units, units)?,
                PackedCell::SimpleRnn(of(options.activation)),
            ),
            Cell::Lstm => {
                let kernel = matrix(input, gates)?;
                let gated = gated(&kernel)?;
                (kernel, matrix(units, gates)?, PackedCell::Lstm(gated))
            }
            Cell::Gru { reset_after: true } => {
                let kernel = matrix(input, gates)?;
                let gated = gated(&kernel)?;
                (kernel, matrix(units, gates)?, PackedCell::Gru(gated))
            }
            Cell::Gru { reset_after: false } => {
                let kernel = matrix(input, gates)?;
                let gated = gated(&kernel)?;
                let candidate = matrix(units, 1)?;
                (kernel, matrix(units, RESET_GATES)?, PackedCell::GruResetBefore(gated, candidate))
            }
        };
        let bias = AlignedVec::zeroed(kernel.padded_columns())?;
        // Unrolled is never slower (one call for many steps), so Auto takes it.
        let unrolled = options.unroll != Unroll::Looped;
        let mut packed = Self { units, kernel, bias, recurrent, cell, unrolled };
        packed.repack(variables, half)?;
        Ok(packed)
    }

    /// Packs the variables again, after they were changed.
    pub(crate) fn repack(&mut self, variables: &Variables, half: impl Fn(Weight) -> Weight) -> Result<()> {
        let kernel = variables.get(half(Weight::Kernel))?.values();
        let recurrent = variables.get(half(Weight::RecurrentKernel))?.values();
        // A layer without a bias keeps its zeros.
        let bias = variables.get(half(Weight::Bias)).map_or(&[][..], Variable::values);
        let (units, lanes) = (self.units, self.kernel.kernels().lanes);
        let order = |gates| GateOrder { units, gates, lanes };
        let Self { kernel: packed_kernel, bias: packed_bias, recurrent: packed_recurrent, cell, .. } = self;
        match cell {
            PackedCell::SimpleRnn(_) => {
                packed_kernel.fill(kernel);
                packed_recurrent.fill(recurrent);
                packed_bias[..bias.len()].copy_from_slice(bias);
            }
            PackedCell::Lstm(_) => {
                let order = order(4);
                packed_kernel.fill_runs(kernel, 4 * units, order.runs(0));
                packed_recurrent.fill_runs(recurrent, 4 * units, order.runs(0));
                order.fill_row(packed_bias, bias);
            }
            PackedCell::Gru(gated) => {
                let order = order(3);
                packed_kernel.fill_runs(kernel, 3 * units, order.runs(0));
                packed_recurrent.fill_runs(recurrent, 3 * units, order.runs(0));
                // The recurrent biases of z and r may stand with the input's; the candidate's may not.
                let (input, state) = bias.split_at(bias.len() / 2);
                let (of_gates, of_candidate) = state.split_at(state.len() / 3 * 2);
                order.fill_row(packed_bias, input);
                for (index, value) in of_gates.iter().enumerate() {
                    packed_bias[order.column(index / units, index % units)] += value;
                }
                for (unit, &value) in of_candidate.iter().enumerate() {
                    gated.start[order.column(2, unit)] = value;
                }
            }
            PackedCell::GruResetBefore(_, candidate) => {
                packed_kernel.fill_runs(kernel, 3 * units, order(3).runs(0));
                packed_recurrent.fill_runs(recurrent, 3 * units, order(RESET_GATES).runs(0));
                candidate.fill_runs(recurrent, 3 * units, order(1).runs(RESET_GATES));
                order(3).fill_row(packed_bias, bias);
            }
        }
        Ok(())
    }

    pub(crate) fn units(&self) -> usize {
        self.units
    }

    /// The function of a simple cell; the drivers of simple cells ask.
    pub(crate) fn function(&self) -> Function {
        match &self.cell {
            PackedCell::SimpleRnn(function) => *function,
            PackedCell::Lstm(gated) | PackedCell::Gru(gated) | PackedCell::GruResetBefore(gated, _) => {
                gated.functions[1]
            }
        }
    }

    /// Gates, each with `units` columns of Keras's matrices.
    pub(crate) fn gates(&self) -> usize {
        match self.cell {
            PackedCell::SimpleRnn(_) => 1,
            PackedCell::Lstm(_) => 4,
            PackedCell::Gru(_) | PackedCell::GruResetBefore(..) => 3,
        }
    }

    /// Whether r is applied to the state before the candidate's product.
    pub(crate) fn resets_before(&self) -> bool {
        matches!(self.cell, PackedCell::GruResetBefore(..))
    }

    /// The order that the columns of its matrices have.
    pub(crate) fn order(&self) -> GateOrder {
        GateOrder { units: self.units, gates: self.gates(), lanes: self.kernel.kernels().lanes }
    }

    /// State arrays of `units` floats a row.
    pub(crate) fn states(&self) -> usize {
        match self.cell {
            PackedCell::Lstm(_) => 2,
            PackedCell::SimpleRnn(_) | PackedCell::Gru(_) | PackedCell::GruResetBefore(..) => 1,
        }
    }

    /// Multiply-adds a row and step.
    pub(crate) fn macs(&self) -> usize {
        let depth = self.kernel.depth().saturating_add(self.units);
        depth.saturating_mul(self.units).saturating_mul(self.gates())
    }

    fn bytes(&self) -> usize {
        let more = match &self.cell {
            PackedCell::SimpleRnn(_) => 0,
            PackedCell::Lstm(gated) | PackedCell::Gru(gated) => size_of_val(&gated.start[..]),
            PackedCell::GruResetBefore(gated, candidate) => size_of_val(&gated.start[..]) + candidate.bytes(),
        };
        self.kernel.bytes() + self.recurrent.bytes() + size_of_val(&self.bias[..]) + more
    }
}

impl PackedDense {
    fn new(kernels: &'static KernelSet, layer: &Dense, variables: &Variables) -> Result<Self> {
        let kernel = pack(kernels.for_columns(layer.units), variables, Weight::Kernel)?;
        let bias = pad_bias(&kernel, variables, layer.use_bias, Weight::Bias)?;
        Ok(Self { kernel, bias, function: layer.activation.function() })
    }
}

fn pack(kernels: &'static KernelSet, variables: &Variables, which: Weight) -> Result<PackedMatrix> {
    let variable = variables.get(which)?;
    let [depth, columns] = variable.shape();
    PackedMatrix::new(kernels, depth, columns, variable.values())
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

impl Activation {
    /// The kernels' element-wise function; `None` for softmax, which works on rows.
    pub(crate) fn function(self) -> Option<Function> {
        match self {
            Activation::Linear => Some(Function::Linear),
            Activation::Tanh => Some(Function::Tanh),
            Activation::Relu => Some(Function::Relu),
            Activation::Sigmoid => Some(Function::Sigmoid),
            Activation::HardSigmoid => Some(Function::HardSigmoid),
            Activation::HardSigmoidKeras2 => Some(Function::HardSigmoidKeras2),
            Activation::Softplus => Some(Function::Softplus),
            Activation::Elu => Some(Function::Elu),
            Activation::LeakyRelu => Some(Function::LeakyRelu),
            Activation::Softmax => None,
        }
    }
}
