//! From parts to layers with weights.

use super::super::{bad, unsupported};
use super::{Activation, Affine, Cell, Direction, Handed, Matrix, Part, Rnn};
use crate::error::Result;
use crate::layers::{
    Bidirectional, Dense, Dropout, Embedding, Gru, LastStep, Layer, Lstm, Masking, Options, Recurrent, Shape,
    SimpleRnn, Variable, Variables, Weight,
};
use crate::memory::{AlignedVec, with_room};

/// Layers and weights on their way to a model.
pub(super) struct Lowering {
    shape: Shape,
    pub(super) layers: Vec<Layer>,
    pub(super) variables: Vec<Variables>,
    /// What the next kernel takes in.
    pending: Option<Affine>,
    /// Floats that layers made only to apply a function may take.
    room: usize,
}

impl Lowering {
    /// Of a model that reads `input` features a step, out of a file of `bytes` bytes.
    pub(super) fn new(input: usize, bytes: usize) -> Self {
        let shape = Shape { features: input, sequence: true };
        Self { shape, layers: Vec::new(), variables: Vec::new(), pending: None, room: bytes }
    }

    pub(super) fn add(&mut self, name: &str, part: Part) -> Result<()> {
        match part {
            Part::Embedding { table, mask_zero } => self.add_embedding(table, mask_zero),
            Part::Masking(value) => self.push(Masking::new(value), Vec::new()),
            Part::Rnn(rnn) => self.add_rnn(name, *rnn),
            Part::Dense { kernel, bias, function } => self.add_dense(kernel, bias, function),
            Part::Affine(affine) => self.add_affine(affine),
            Part::Function(function) => self.add_function(name, function),
            Part::Dropout(rate) => self.push(Dropout::new(rate), Vec::new()),
            // All are gone since `hand_on_last_steps`.
            Part::LastStep => Ok(()),
        }
    }

    /// A layer whose weights are compared with what it asks for, before it stands.
    fn push(&mut self, layer: impl Into<Layer>, weights: Vec<(Weight, [usize; 2], Vec<f32>)>) -> Result<()> {
        let layer = layer.into();
        layer.validate()?;
        let index = self.layers.len();
        let shape = layer.output_shape(index, self.shape)?;
        let wanted = layer.variable_shapes(self.shape.features);
        let given = weights.iter().map(|(which, shape, _)| (*which, *shape));
        if !wanted.iter().copied().eq(given) {
            return Err(bad(format_args!("its weights should be {wanted:?}")));
        }
        let mut variables = with_room(weights.len())?;
        for (which, shape, from) in weights {
            let mut values = AlignedVec::zeroed(from.len())?;
            values.copy_from_slice(&from);
            variables.push(Variable { which, shape, values });
        }
        self.layers.push(layer);
        self.variables.push(Variables(variables));
        self.shape = shape;
        Ok(())
    }

    fn add_embedding(&mut self, table: Matrix, mask_zero: bool) -> Result<()> {
        let Matrix { rows, columns, values } = table;
        let layer = Embedding::new(rows, columns).mask_zero(mask_zero);
        self.push(layer, vec![(Weight::Embedding, [rows, columns], values)])
    }

    fn check_width(&self, rows: usize) -> Result<()> {
        if rows == self.shape.features {
            Ok(())
        } else {
            Err(bad(format_args!("reads {rows} features, and {} come in", self.shape.features)))
        }
    }

    fn add_dense(
        &mut self,
        mut kernel: Matrix,
        mut bias: Option<Vec<f32>>,
        function: Activation,
    ) -> Result<()> {
        self.check_width(kernel.rows)?;
        let units = kernel.columns;
        if units == 0 {
            return Err(bad("has no units"));
        }
        if let Some(bias) = bias.as_ref().filter(|bias| bias.len() != units) {
            return Err(bad(format_args!("{units} units have {} biases", bias.len())));
        }
        if let Some(affine) = self.pending.take() {
            affine.fold_into(&mut kernel, &mut bias, 1)?;
        }
        let layer = Dense::new(units).activation(function).use_bias(bias.is_some());
        let mut weights = vec![(Weight::Kernel, [kernel.rows, units], kernel.values)];
        weights.extend(bias.map(|bias| (Weight::Bias, [1, units], bias)));
        self.push(layer, weights)
    }

    fn add_rnn(&mut self, name: &str, mut rnn: Rnn) -> Result<()> {
        let units = rnn.units();
        let pending = self.pending.take();
        let Rnn { cell, forward, backward, .. } = &mut rnn;
        let halves = [Some(&mut *forward), backward.as_mut().map(|(half, _)| half)];
        for half in halves.into_iter().flatten() {
            half.check(*cell, self.shape.features, units)?;
            if let Some(affine) = &pending {
                affine.fold_into(&mut half.kernel, &mut half.bias, cell.bias_rows())?;
            }
        }
        if let Some((half, _)) = &rnn.backward
            && half.bias.is_some() != rnn.forward.bias.is_some()
        {
            return Err(bad("one direction has a bias, the other has none"));
        }
        let layer = recurrent(name, &rnn)?;
        let takes_last_step = rnn.handed == Handed::LastStep;
        let mut weights = weights_of(rnn.cell, rnn.forward);
        match rnn.backward {
            None => self.push(layer, weights)?,
            Some((half, mode)) => {
                let backward = weights_of(rnn.cell, half).into_iter();
                weights.extend(backward.map(|(which, shape, values)| (which.backward(), shape, values)));
                self.push(Bidirectional::new(layer).merge_mode(mode), weights)?;
            }
        }
        if takes_last_step { self.push(LastStep::new(), Vec::new()) } else { Ok(()) }
    }

    fn add_affine(&mut self, affine: Affine) -> Result<()> {
        self.check_width(affine.scale.len())?;
        self.check_width(affine.shift.len())?;
        self.pending = Some(match self.pending.take() {
            Some(first) => affine.behind(&first),
            None => affine,
        });
        Ok(())
    }

    /// A function gets a layer of its own: the dense layer below has one already, or there is none.
    fn add_function(&mut self, name: &str, function: Activation) -> Result<()> {
        if function == Activation::Linear {
            return Ok(());
        }
        self.add_diagonal(name, function)
    }

    /// What is still pending, as a layer of its own.
    pub(super) fn flush(&mut self, name: &str) -> Result<()> {
        if self.pending.is_some() { self.add_diagonal(name, Activation::Linear) } else { Ok(()) }
    }

    /// What is pending, if anything is, and a function, as a dense layer that leaves features where they are.
    fn add_diagonal(&mut self, name: &str, function: Activation) -> Result<()> {
        let features = self.shape.features;
        let values = features.saturating_mul(features);
        if values > self.room {
            return Err(unsupported(format_args!(
                "{name}: a function on its own of {features} features, more than a file of this size may ask for"
            )));
        }
        self.room -= values;
        let mut ones = with_room(features)?;
        ones.resize(features, 1.0);
        self.add_dense(Matrix::diagonal(&ones)?, None, function)
    }
}

/// The weights of a direction as a layer has them.
fn weights_of(cell: Cell, direction: Direction) -> Vec<(Weight, [usize; 2], Vec<f32>)> {
    let Direction { kernel, recurrent, bias } = direction;
    let bias_shape = [cell.bias_rows(), recurrent.columns];
    let mut weights = vec![
        (Weight::Kernel, [kernel.rows, kernel.columns], kernel.values),
        (Weight::RecurrentKernel, [recurrent.rows, recurrent.columns], recurrent.values),
    ];
    weights.extend(bias.map(|bias| (Weight::Bias, bias_shape, bias)));
    weights
}

/// The layer of a recurrent part.
pub(super) fn recurrent(name: &str, rnn: &Rnn) -> Result<Recurrent> {
    if rnn.handed == Handed::LastStep && rnn.backward.is_none() {
        return Err(unsupported(format_args!(
            "{name}: direction = reverse, and the output of its last step, the first that it computes, is used; Y_h can \
             be had"
        )));
    }
    let units = rnn.units();
    let options = Options {
        activation: rnn.activation,
        use_bias: rnn.forward.bias.is_some(),
        return_sequences: rnn.handed != Handed::LastState,
        go_backwards: rnn.go_backwards,
        stateful: rnn.stateful,
        zero_output_for_mask: rnn.zero_output_for_mask,
        dropout: rnn.dropout,
        recurrent_dropout: rnn.recurrent_dropout,
        ..Options::new(units)
    };
    let recurrent_activation = rnn.recurrent_activation;
    Ok(match rnn.cell {
        Cell::SimpleRnn => SimpleRnn { options }.into(),
        Cell::Lstm => Lstm { options, recurrent_activation, ..Lstm::new(units) }.into(),
        Cell::Gru { reset_after } => Gru { options, recurrent_activation, reset_after }.into(),
    })
}
