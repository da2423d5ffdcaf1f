//! Recurrent layers and their cells: options by version, and the layouts of their weights.

use serde_json::Value;

use super::super::bytes::shown;
use super::super::network::{Activation, Cell, Direction, Handed, Matrix, Rnn, name_of};
use super::super::{bad, unsupported};
use super::Version;
use super::config::{Options, refused};
use super::hdf5::Array;
use super::line::Described;
use super::weights::{Names, Source, snake_case};
use crate::error::Result;

/// What a class of layer or cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    cell: Cell,
    /// NVIDIA's kernels, which keep their weights in another order.
    cudnn: bool,
}

impl Class {
    /// A recurrent layer, or a cell, of one class.
    pub(super) fn of(class: &str) -> Option<Self> {
        // Which gate order a GRU has is seen later.
        let gru = Cell::Gru { reset_after: false };
        let (cell, cudnn) = match class.strip_suffix("Cell").unwrap_or(class) {
            "SimpleRNN" => (Cell::SimpleRnn, false),
            "LSTM" => (Cell::Lstm, false),
            "GRU" => (gru, false),
            "CuDNNLSTM" => (Cell::Lstm, true),
            "CuDNNGRU" => (gru, true),
            _ => return None,
        };
        Some(Self { cell, cudnn })
    }
}

/// One cell: its class and what its description says.
#[derive(Clone, Copy, Debug)]
pub(super) struct OneCell<'a> {
    class: Class,
    config: &'a Value,
}

/// The cells of a recurrent layer, one above the other, and where the weights of each are below the layer's
/// folder.
pub(super) fn cells<'a>(layer: &Described<'a>) -> Result<Vec<(OneCell<'a>, String)>> {
    if let Some(class) = Class::of(layer.class) {
        return Ok(vec![(OneCell { class, config: layer.config }, "cell".into())]);
    }
    let cell = layer.config.get("cell").ok_or_else(|| bad("a layer of cells without a cell"))?;
    let one = |cell: &'a Value| {
        let class = cell.get("class_name").and_then(Value::as_str).unwrap_or_default();
        let class_of = Class::of(class).zip(cell.get("config"));
        match class_of {
            Some((class_of, config)) => Ok((OneCell { class: class_of, config }, class)),
            None => Err(refused(layer, "cell", shown(class.as_bytes()))),
        }
    };
    // Keras 1 and 2 write a list of cells without the class that stacks them.
    let stacked = match cell.get("class_name").and_then(Value::as_str) {
        Some("StackedRNNCells") => cell.get("config").and_then(|config| config.get("cells")),
        _ => cell.is_array().then_some(cell),
    };
    let Some(stacked) = stacked else { return Ok(vec![(one(cell)?.0, "cell".into())]) };
    let stacked = stacked.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut names = Names::default();
    stacked
        .iter()
        .map(|cell| {
            let (cell, class) = one(cell)?;
            Ok((cell, format!("cell/cells/{}", names.folder(&snake_case(class)))))
        })
        .collect()
}

/// The part that a cell makes, with the options of the layer that it is in.
pub(super) fn part(
    layer: &Described<'_>,
    cell: &OneCell<'_>,
    version: Version,
    source: &mut Source<'_, '_, '_>,
    below: &str,
) -> Result<Rnn> {
    let options = Options { layer, config: cell.config, version };
    let outer = Options { config: layer.config, ..options };
    if outer.flag("time_major", false)? {
        return Err(refused(layer, "time_major", "true"));
    }
    let (this, forward) = direction(&options, cell.class, source, below)?;
    let mut rnn = Rnn::new(this, forward);
    rnn.activation = options.activation(&["activation"], Activation::Tanh)?;
    if this != Cell::SimpleRnn {
        let default = if version < Version::Second && !cell.class.cudnn {
            Activation::HardSigmoidKeras2
        } else {
            Activation::Sigmoid
        };
        rnn.recurrent_activation =
            options.activation(&["recurrent_activation", "inner_activation"], default)?;
    }
    rnn.dropout = options.number(&["dropout", "dropout_W"], 0.0)? as f32;
    rnn.recurrent_dropout = options.number(&["recurrent_dropout", "dropout_U"], 0.0)? as f32;
    rnn.go_backwards = outer.flag("go_backwards", false)?;
    rnn.stateful = outer.flag("stateful", false)?;
    rnn.zero_output_for_mask = outer.flag("zero_output_for_mask", false)?;
    rnn.handed = if outer.flag("return_sequences", false)? { Handed::Sequence } else { Handed::LastState };
    Ok(rnn)
}

/// The cell and the weights of one direction.
fn direction(
    options: &Options<'_>,
    class: Class,
    source: &mut Source<'_, '_, '_>,
    below: &str,
) -> Result<(Cell, Direction)> {
    let gates = class.cell.gates();
    // Keras 1 has each gate's arrays for itself.
    if options.version == Version::First
        && gates > 1
        && source.left().is_some_and(|left| left % (3 * gates) == 0 && left > 0)
    {
        return Ok((class.cell, gate_by_gate(class.cell, source.take(below, 3 * gates)?)?));
    }
    let use_bias = options.flag("use_bias", true)?;
    let mut arrays = source.take(below, if use_bias { 3 } else { 2 })?.into_iter();
    let mut next = || arrays.next().ok_or_else(|| bad("an array is missing"));
    let (kernel, recurrent) = (matrix(next()?)?, matrix(next()?)?);
    let bias = if use_bias { Some(next()?) } else { None };
    let mut cell = class.cell;
    let units = recurrent.rows();
    if let Cell::Gru { reset_after } = &mut cell {
        // The bias tells the kind; where there is none, the description does.
        *reset_after = match &bias {
            Some(bias) => bias.values.len() == 6 * units,
            None => options.flag("reset_after", class.cudnn || options.version >= Version::Third)?,
        };
    }
    let mut bias = bias.map(|bias| bias.values);
    if !class.cudnn {
        return Ok((cell, Direction::new(kernel, recurrent, bias)));
    }
    if let (Cell::Lstm, Some(values)) = (cell, &mut bias) {
        let half = values.len() / 2;
        let (first, second) = values.split_at_mut(half);
        first.iter_mut().zip(second).for_each(|(to, more)| *to += *more);
        values.truncate(half);
    }
    let kernel = of_each_gate(&kernel, gates, |gate, rows, columns| {
        // `K.T.reshape(K.shape, order='F')`: the values in their order, but column by column.
        (0..rows * columns).map(|at| gate(at % columns * rows + at / columns)).collect()
    })?;
    let recurrent = of_each_gate(&recurrent, gates, |gate, rows, columns| {
        (0..rows * columns).map(|at| gate(at % columns * columns + at / columns)).collect()
    })?;
    Ok((cell, Direction::new(kernel, recurrent, bias)))
}

fn matrix(array: Array) -> Result<Matrix> {
    match array.dims[..] {
        [rows, columns] => Matrix::new(rows, columns, array.values),
        _ => Err(bad(format_args!("a kernel of shape {:?}", array.dims))),
    }
}

/// Each gate's columns, as `change` has them of the gate's values by number, its rows and its columns.
fn of_each_gate(
    matrix: &Matrix,
    gates: usize,
    change: impl Fn(&dyn Fn(usize) -> f32, usize, usize) -> Vec<f32>,
) -> Result<Matrix> {
    let (rows, all) = (matrix.rows(), matrix.columns());
    let columns = all / gates;
    if columns * gates != all {
        return Err(bad(format_args!("{gates} gates do not share {all} columns")));
    }
    let mut values = crate::memory::zeros(rows * all)?;
    for number in 0..gates {
        let gate = |at: usize| matrix.get(at / columns, number * columns + at % columns);
        for (at, value) in change(&gate, rows, columns).into_iter().enumerate() {
            values[at / columns * all + number * columns + at % columns] = value;
        }
    }
    Matrix::new(rows, all, values)
}

/// Keras 1: kernel, recurrent kernel and bias of each gate, an LSTM's in the order i c f o, a GRU's in z r h.
fn gate_by_gate(cell: Cell, arrays: Vec<Array>) -> Result<Direction> {
    // Of i f c o, and of z r h, where it stands.
    let order: &[usize] = if cell == Cell::Lstm { &[0, 2, 1, 3] } else { &[0, 1, 2] };
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    for (at, array) in arrays.into_iter().enumerate() {
        parts[at % 3].push(array);
    }
    let [kernels, recurrent, biases] = parts;
    let joined = |arrays: Vec<Array>| {
        let matrices = arrays.into_iter().map(matrix).collect::<Result<Vec<_>>>()?;
        Matrix::beside(&order.iter().map(|&at| &matrices[at]).collect::<Vec<_>>())
    };
    let bias = order.iter().flat_map(|&at| biases[at].values.iter().copied()).collect();
    Ok(Direction::new(joined(kernels)?, joined(recurrent)?, Some(bias)))
}

/// Checks that a wrapper finds one cell in the layer inside it.
pub(super) fn alone<T>(layer: &Described<'_>, mut cells: Vec<T>) -> Result<T> {
    match (cells.pop(), cells.is_empty()) {
        (Some(cell), true) => Ok(cell),
        _ => Err(unsupported(format_args!(
            "layer {:?}: stacked cells in both directions",
            shown(layer.name.as_bytes())
        ))),
    }
}

/// The name of a part's cell, for messages.
pub(super) fn title(layer: &Described<'_>, rnn: &Rnn) -> String {
    format!("layer {:?} ({})", shown(layer.name.as_bytes()), name_of(rnn.cell))
}
