//! What every reader makes, whatever it reads: a line of parts with weights in Keras's layout and order of
//! gates. Here it becomes a built [`Sequential`].
//!
//! The order in which a framework keeps its gates is data. What layers cannot carry out is refused in
//! [`Lowering`], by the name of the part.

use super::{bad, unsupported};
use crate::error::{Error, Result};
pub(super) use crate::layers::{Activation, Cell};
use crate::layers::{
    Bidirectional, Dense, Dropout, Embedding, Gru, LastStep, Layer, Lstm, Masking, MergeMode, Options,
    Recurrent, Shape, SimpleRnn, Variable, Variables, Weight,
};
use crate::memory::{AlignedVec, with_room};
use crate::sequential::Sequential;

/// A matrix, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// As many values as the shape says.
    pub(super) fn new(rows: usize, columns: usize, values: Vec<f32>) -> Result<Self> {
        if rows.checked_mul(columns) == Some(values.len()) {
            Ok(Self { rows, columns, values })
        } else {
            Err(bad(format_args!("a matrix of {rows} x {columns} has {} values", values.len())))
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    #[cfg(feature = "keras")]
    pub(super) fn get(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.columns + column]
    }

    #[cfg(any(feature = "keras", feature = "torch"))]
    pub(super) fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// Matrices of as many rows, side by side.
    #[cfg(feature = "keras")]
    pub(super) fn beside(matrices: &[&Self]) -> Result<Self> {
        let rows = matrices.first().map_or(0, |first| first.rows);
        if matrices.iter().any(|matrix| matrix.rows != rows) {
            return Err(bad("matrices of several heights stand side by side"));
        }
        let columns = matrices.iter().map(|matrix| matrix.columns).sum();
        let mut values = with_room(matrices.iter().map(|matrix| matrix.values.len()).sum())?;
        for row in 0..rows {
            for matrix in matrices {
                values.extend_from_slice(&matrix.values[row * matrix.columns..][..matrix.columns]);
            }
        }
        Self::new(rows, columns, values)
    }

    pub(super) fn transposed(&self) -> Result<Self> {
        let mut values = with_room(self.values.len())?;
        for column in 0..self.columns {
            values.extend((0..self.rows).map(|row| self.values[row * self.columns + column]));
        }
        Ok(Self { rows: self.columns, columns: self.rows, values })
    }

    /// The columns in blocks, one a gate, in another order: block `g` of the result is block `order[g]` here.
    pub(super) fn reordered(&self, order: &[usize]) -> Result<Self> {
        let mut values = with_room(self.values.len())?;
        for row in self.values.chunks_exact(self.columns.max(1)) {
            extend_reordered(&mut values, row, order);
        }
        Ok(Self { values, ..*self })
    }

    /// A matrix with these values on its diagonal.
    fn diagonal(diagonal: &[f32]) -> Result<Self> {
        let size = diagonal.len();
        let count = size.checked_mul(size).ok_or(Error::OutOfMemory { bytes: usize::MAX })?;
        let mut values = crate::memory::zeros(count)?;
        for (at, value) in diagonal.iter().enumerate() {
            values[at * size + at] = *value;
        }
        Ok(Self { rows: size, columns: size, values })
    }
}

fn extend_reordered(to: &mut Vec<f32>, from: &[f32], order: &[usize]) {
    let units = from.len() / order.len();
    for &gate in order {
        to.extend_from_slice(&from[gate * units..(gate + 1) * units]);
    }
}

/// Keras's name of a cell's layer.
pub(super) const fn name_of(cell: Cell) -> &'static str {
    match cell {
        Cell::SimpleRnn => "SimpleRNN",
        Cell::Lstm => "LSTM",
        Cell::Gru { .. } => "GRU",
    }
}

/// Where a framework keeps its gates: for each of Keras's (i f c o, z r h) the place of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GateOrder {
    lstm: [usize; 4],
    gru: [usize; 3],
}

impl GateOrder {
    /// i f g o; r z n.
    pub(crate) const TORCH: Self = Self { lstm: [0, 1, 2, 3], gru: [1, 0, 2] };
    /// i o f c; z r h.
    pub(crate) const ONNX: Self = Self { lstm: [0, 2, 3, 1], gru: [0, 1, 2] };

    fn of(&self, cell: Cell) -> &[usize] {
        match cell {
            Cell::SimpleRnn => &[0],
            Cell::Lstm => &self.lstm,
            Cell::Gru { .. } => &self.gru,
        }
    }

    /// The other way round: which of Keras's gates stands at each of the framework's places.
    pub(crate) fn keras_gates(&self, cell: Cell) -> Vec<usize> {
        let places = self.of(cell);
        (0..places.len()).filter_map(|at| places.iter().position(|&place| place == at)).collect()
    }
}

/// The weights of one direction, in Keras's layout and order: kernel `[input, gates x units]`, recurrent
/// kernel `[units, gates x units]`, and a bias of one row, or of two for a GRU whose reset gate comes after.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Direction {
    kernel: Matrix,
    recurrent: Matrix,
    bias: Option<Vec<f32>>,
}

impl Direction {
    /// Weights as Keras keeps them; a bias has all its rows.
    pub(super) fn new(kernel: Matrix, recurrent: Matrix, bias: Option<Vec<f32>>) -> Self {
        Self { kernel, recurrent, bias }
    }

    /// Weights that lie as `[gates x units, columns]` with gates in another order, and two biases, the
    /// input's and the recurrent one: PyTorch's and ONNX's.
    pub(super) fn from_rows(
        cell: Cell,
        order: GateOrder,
        [input, recurrent]: [&Matrix; 2],
        biases: Option<[&[f32]; 2]>,
    ) -> Result<Self> {
        let order = order.of(cell);
        let wrong =
            |what: &str, len: usize| bad(format_args!("{} gates do not share {len} {what}", order.len()));
        for matrix in [input, recurrent] {
            if !matrix.rows.is_multiple_of(order.len()) {
                return Err(wrong("rows", matrix.rows));
            }
        }
        let bias = match biases {
            None => None,
            Some(biases) => {
                let width = input.rows;
                if let Some(other) = biases.iter().find(|bias| bias.len() != width) {
                    return Err(bad(format_args!("a bias has {} values beside {width} rows", other.len())));
                }
                let mut rows = with_room(2 * width)?;
                biases.iter().for_each(|bias| extend_reordered(&mut rows, bias, order));
                if cell.bias_rows() == 1 {
                    let (first, second) = rows.split_at_mut(width);
                    first.iter_mut().zip(second).for_each(|(to, more)| *to += *more);
                    rows.truncate(width);
                }
                Some(rows)
            }
        };
        Ok(Self {
            kernel: input.transposed()?.reordered(order)?,
            recurrent: recurrent.transposed()?.reordered(order)?,
            bias,
        })
    }

    pub(super) fn inputs(&self) -> usize {
        self.kernel.rows
    }

    pub(super) fn units(&self) -> usize {
        self.recurrent.rows
    }

    fn check(&self, cell: Cell, features: usize, units: usize) -> Result<()> {
        if units == 0 {
            return Err(bad("has no units"));
        }
        let columns = cell.gates().saturating_mul(units);
        let shapes = [(&self.kernel, [features, columns]), (&self.recurrent, [units, columns])];
        for (matrix, [rows, columns]) in shapes {
            if [matrix.rows, matrix.columns] != [rows, columns] {
                return Err(bad(format_args!(
                    "{} of {units} units on {features} features has weights of {rows} x {columns}, got {} x {}",
                    name_of(cell),
                    matrix.rows,
                    matrix.columns
                )));
            }
        }
        match &self.bias {
            Some(bias) if bias.len() != cell.bias_rows().saturating_mul(columns) => Err(bad(format_args!(
                "{} of {units} units has a bias of {} x {columns}, got {} values",
                name_of(cell),
                cell.bias_rows(),
                bias.len()
            ))),
            _ => Ok(()),
        }
    }
}

/// What a recurrent part hands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handed {
    /// Every step's output.
    Sequence,
    /// The output of the last step: in a part of two directions not [`LastState`](Self::LastState), since the
    /// backward half has seen one step there.
    LastStep,
    /// The last state of each direction.
    LastState,
}

/// A recurrent part.
#[derive(Clone, Debug)]
pub(super) struct Rnn {
    pub(super) cell: Cell,
    pub(super) activation: Activation,
    pub(super) recurrent_activation: Activation,
    pub(super) handed: Handed,
    pub(super) go_backwards: bool,
    pub(super) stateful: bool,
    pub(super) zero_output_for_mask: bool,
    pub(super) dropout: f32,
    pub(super) recurrent_dropout: f32,
    pub(super) forward: Direction,
    pub(super) backward: Option<(Direction, MergeMode)>,
}

impl Rnn {
    /// tanh, sigmoid gates, the sequence handed on, one direction, nothing dropped.
    pub(super) fn new(cell: Cell, forward: Direction) -> Self {
        Self {
            cell,
            activation: Activation::Tanh,
            recurrent_activation: Activation::Sigmoid,
            handed: Handed::Sequence,
            go_backwards: false,
            stateful: false,
            zero_output_for_mask: false,
            dropout: 0.0,
            recurrent_dropout: 0.0,
            forward,
            backward: None,
        }
    }

    pub(super) fn units(&self) -> usize {
        self.forward.units()
    }
}

/// `x · scale + shift`, element by element: a batch normalisation at inference.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    pub(super) scale: Vec<f64>,
    pub(super) shift: Vec<f64>,
}

impl Affine {
    /// This one behind `first`.
    fn behind(mut self, first: &Self) -> Self {
        for (i, (scale, shift)) in self.scale.iter_mut().zip(&mut self.shift).enumerate() {
            *shift += first.shift[i] * *scale;
            *scale *= first.scale[i];
        }
        self
    }

    /// What this does with a kernel's result, the kernel does alone afterwards. Gives its bias.
    fn fold_behind(&self, kernel: &mut Matrix, bias: Option<Vec<f32>>) -> Result<Vec<f32>> {
        for row in kernel.values.chunks_exact_mut(kernel.columns.max(1)) {
            row.iter_mut()
                .zip(&self.scale)
                .for_each(|(value, scale)| *value = (f64::from(*value) * scale) as f32);
        }
        let mut folded = bias.map_or_else(|| crate::memory::zeros(kernel.columns), Ok)?;
        for (value, (scale, shift)) in folded.iter_mut().zip(self.scale.iter().zip(&self.shift)) {
            *value = (f64::from(*value) * scale + shift) as f32;
        }
        Ok(folded)
    }

    /// What the kernel above does with `x · scale + shift`, it does with `x` afterwards. Exact but for
    /// rounding: sums are made in double precision.
    fn fold_into(&self, kernel: &mut Matrix, bias: &mut Option<Vec<f32>>, bias_rows: usize) -> Result<()> {
        let columns = kernel.columns;
        let mut folded =
            bias.take().map_or_else(|| crate::memory::zeros(bias_rows.saturating_mul(columns)), Ok)?;
        let mut sums = with_room(columns)?;
        // A second row is the recurrent bias, which is none of the input's.
        sums.extend(folded[..columns].iter().map(|&value| f64::from(value)));
        let rows = kernel.values.chunks_exact_mut(columns);
        for (row, (scale, shift)) in rows.zip(self.scale.iter().zip(&self.shift)) {
            for (value, sum) in row.iter_mut().zip(&mut sums) {
                *sum += f64::from(*value) * shift;
                *value = (f64::from(*value) * scale) as f32;
            }
        }
        folded.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum as f32);
        *bias = Some(folded);
        Ok(())
    }
}

/// One thing that a line of layers does.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Embedding {
        table: Matrix,
        mask_zero: bool,
    },
    Masking(f32),
    Rnn(Box<Rnn>),
    Dense {
        kernel: Matrix,
        bias: Option<Vec<f32>>,
        function: Activation,
    },
    Affine(Affine),
    Function(Activation),
    Dropout(f32),
    /// From here on the last step alone.
    LastStep,
}

/// A line of parts, each with the name that messages give it.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// Features a step of the input; 1 where token ids come in.
    pub(super) input: usize,
    pub(super) parts: Vec<(String, Part)>,
}

impl Network {
    pub(super) fn push(&mut self, name: impl Into<String>, part: Part) {
        self.parts.push((name.into(), part));
    }

    /// Features of the input, as the first part that has weights tells them; 1 where token ids come in.
    #[cfg(any(feature = "keras", feature = "torch"))]
    pub(super) fn first_input(&self) -> Option<usize> {
        self.parts.iter().find_map(|(_, part)| match part {
            Part::Embedding { .. } => Some(1),
            Part::Rnn(rnn) => Some(rnn.forward.inputs()),
            Part::Dense { kernel, .. } => Some(kernel.rows()),
            Part::Affine(affine) => Some(affine.scale.len()),
            Part::Masking(_) | Part::Function(_) | Part::Dropout(_) | Part::LastStep => None,
        })
    }

    /// The model. `bytes` are the file's: what is made beyond its weights is bounded by them.
    pub(super) fn build(mut self, bytes: usize) -> Result<Sequential> {
        self.hand_on_last_steps()?;
        self.join_with_dense()?;
        if self.parts.is_empty() {
            return Err(bad("there are no layers"));
        }
        let shape = Shape { features: self.input, sequence: true };
        let mut lowering =
            Lowering { shape, layers: Vec::new(), variables: Vec::new(), pending: None, room: bytes };
        for (name, part) in self.parts {
            lowering.add(&name, part).map_err(|error| in_part(&name, error))?;
        }
        lowering.flush("the end")?;
        Sequential::from_variables(self.input, lowering.layers, lowering.variables).map_err(as_bad)
    }

    /// What takes the last step goes down to the recurrent part whose sequence it is of: what stands between
    /// works on every step alike.
    fn hand_on_last_steps(&mut self) -> Result<()> {
        while let Some(at) = self.parts.iter().position(|(_, part)| matches!(part, Part::LastStep)) {
            let (name, _) = self.parts.remove(at);
            let below = self.parts[..at].iter_mut().rev().find_map(|(_, part)| match part {
                Part::Rnn(rnn) => Some(rnn),
                _ => None,
            });
            match below {
                // What is walked backwards alone hands on its outputs in the order in which it is walked.
                Some(rnn) if rnn.handed == Handed::Sequence => {
                    rnn.handed = if rnn.backward.is_none() { Handed::LastState } else { Handed::LastStep };
                }
                _ => {
                    return Err(unsupported(format_args!(
                        "{name}: takes the last step, and there is no sequence of a recurrent layer below"
                    )));
                }
            }
        }
        Ok(())
    }
}

impl Network {
    /// A dense part without a function takes in what stands right behind it: an affine map, and one function.
    fn join_with_dense(&mut self) -> Result<()> {
        let mut joined: Vec<(String, Part)> = with_room(self.parts.len())?;
        for (name, part) in self.parts.drain(..) {
            match (joined.last_mut(), part) {
                (
                    Some((_, Part::Dense { kernel, bias, function: Activation::Linear })),
                    Part::Affine(affine),
                ) if affine.scale.len() == kernel.columns && bias_fits(bias.as_deref(), kernel) => {
                    *bias = Some(affine.fold_behind(kernel, bias.take())?);
                }
                (
                    Some((_, Part::Dense { function: function @ Activation::Linear, .. })),
                    Part::Function(behind),
                ) => *function = behind,
                (_, part) => joined.push((name, part)),
            }
        }
        self.parts = joined;
        Ok(())
    }
}

fn bias_fits(bias: Option<&[f32]>, kernel: &Matrix) -> bool {
    bias.is_none_or(|bias| bias.len() == kernel.columns)
}

/// Says of a part what is wrong with it, unless the message begins with its name.
fn in_part(name: &str, error: Error) -> Error {
    let with_name = |message: String| match message.starts_with(name) {
        true => message,
        false => format!("{name}: {message}"),
    };
    match as_bad(error) {
        Error::BadFormat(message) => Error::BadFormat(with_name(message)),
        Error::Unsupported(message) => Error::Unsupported(with_name(message)),
        other => other,
    }
}

/// What is an invalid argument in a program is a bad format in a file.
fn as_bad(error: Error) -> Error {
    match error {
        Error::InvalidArgument(message) => Error::BadFormat(message),
        other => other,
    }
}

/// Layers and weights on their way to a model.
struct Lowering {
    shape: Shape,
    layers: Vec<Layer>,
    variables: Vec<Variables>,
    /// What the next kernel takes in.
    pending: Option<Affine>,
    /// Floats that layers made only to apply a function may take.
    room: usize,
}

impl Lowering {
    fn add(&mut self, name: &str, part: Part) -> Result<()> {
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
    fn flush(&mut self, name: &str) -> Result<()> {
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
fn recurrent(name: &str, rnn: &Rnn) -> Result<Recurrent> {
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
