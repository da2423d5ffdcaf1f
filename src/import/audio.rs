//! What audio plug-ins load: RTNeural's JSON, written from Keras's layers, and the LSTMs of Neural Amp
//! Modeler (`.nam`).

use serde_json::Value;

use super::json::{parse, said};
use super::network::{Activation, Cell, Direction, GateOrder, Matrix, Network, Part, Rnn};
use super::{bad, unsupported};
use crate::error::{Error, Result};
use crate::sequential::Sequential;

/// A model in JSON of either kind.
pub(super) fn read(bytes: &[u8]) -> Result<Sequential> {
    let file = parse(bytes)?;
    if file.get("in_shape").is_some() {
        return rtneural(&file)?.build(bytes.len());
    }
    match file.get("architecture").and_then(Value::as_str) {
        Some("LSTM") => nam(&file, bytes.len()),
        Some(other) => Err(unsupported(format_args!("NAM: architecture = {}", said(&other.into())))),
        None => Err(bad("JSON with neither RTNeural's in_shape nor NAM's architecture")),
    }
}

/// Floats of a list of numbers.
fn floats(list: &Value) -> Result<Vec<f32>> {
    let numbers = list.as_array().ok_or_else(|| bad(format_args!("weights: {} is no list", said(list))))?;
    let float = |number: &Value| {
        let number =
            number.as_f64().ok_or_else(|| bad(format_args!("weights: {} is no number", said(number))));
        number.map(|number| number as f32)
    };
    numbers.iter().map(float).collect()
}

/// Floats of a list of rows.
fn matrix(rows: &Value) -> Result<Matrix> {
    let rows = rows.as_array().ok_or_else(|| bad(format_args!("weights: {} is no list", said(rows))))?;
    let mut values = Vec::new();
    let mut columns = None;
    for row in rows {
        let row = floats(row)?;
        if *columns.get_or_insert(row.len()) != row.len() {
            return Err(bad("weights: rows of several lengths"));
        }
        values.extend(row);
    }
    Matrix::new(rows.len(), columns.unwrap_or(0), values)
}

/// RTNeural's layers: Keras's weights in Keras's order.
fn rtneural(file: &Value) -> Result<Network> {
    let layers = file.get("layers").and_then(Value::as_array).ok_or_else(|| bad("RTNeural: no layers"))?;
    let mut network = Network::default();
    for (place, layer) in layers.iter().enumerate() {
        let kind = layer.get("type").and_then(Value::as_str).unwrap_or_default();
        let name = format!("layers.{place} ({})", said(&kind.into()));
        let refused = |attribute: &str, value: &Value| {
            unsupported(format_args!("{name}: {attribute} = {}", said(value)))
        };
        let nothing = Value::Null;
        let activation = layer.get("activation").unwrap_or(&nothing);
        let function = match activation.as_str().unwrap_or_default() {
            "" | "linear" => Activation::Linear,
            "tanh" => Activation::Tanh,
            "relu" => Activation::Relu,
            "sigmoid" => Activation::Sigmoid,
            "softmax" => Activation::Softmax,
            "elu" => Activation::Elu,
            _ => return Err(refused("activation", activation)),
        };
        let weights = layer.get("weights").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        match (kind, weights) {
            ("dense" | "time-distributed-dense", [kernel, rest @ ..]) if rest.len() < 2 => {
                let bias = rest.first().map(floats).transpose()?;
                network.push(name, Part::Dense { kernel: matrix(kernel)?, bias, function });
            }
            ("activation", []) => network.push(name, Part::Function(function)),
            ("gru" | "lstm", [kernel, recurrent, bias]) => {
                // There the functions of a recurrent layer are always the usual ones.
                if ![Activation::Linear, Activation::Tanh].contains(&function) {
                    return Err(refused("activation", activation));
                }
                let cell = if kind == "lstm" { Cell::Lstm } else { Cell::Gru { reset_after: true } };
                let bias = match kind {
                    "lstm" => floats(bias)?,
                    _ => matrix(bias)?.into_values(),
                };
                let direction = Direction::new(matrix(kernel)?, matrix(recurrent)?, Some(bias));
                network.push(name, Part::Rnn(Box::new(Rnn::new(cell, direction))));
            }
            _ => return Err(refused("type", &format!("{kind}, with {} weights", weights.len()).into())),
        }
    }
    network.input = network.first_input().unwrap_or(0);
    Ok(network)
}

/// Neural Amp Modeler's LSTM: one list with all that there is, in PyTorch's order of gates. Its states begin
/// where the list says, so the model is stateful: it goes on from call to call, as the plug-in does.
fn nam(file: &Value, bytes: usize) -> Result<Sequential> {
    let config = file.get("config").ok_or_else(|| bad("NAM: no config"))?;
    let size = |name: &str| {
        let size = config.get(name).and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
        size.ok_or_else(|| {
            bad(format_args!("NAM: config.{name} is {}", said(config.get(name).unwrap_or(&Value::Null))))
        })
    };
    let [inputs, units, layers] = [size("input_size")?, size("hidden_size")?, size("num_layers")?];
    for name in ["out_channels", "in_channels"] {
        if let Some(count) = config.get(name).filter(|count| count.as_u64() != Some(1)) {
            return Err(unsupported(format_args!("NAM: config.{name} = {}", said(count))));
        }
    }
    let values = floats(file.get("weights").unwrap_or(&Value::Null))?;
    let mut left = &values[..];
    let mut take = |count: Option<usize>| {
        let (taken, rest) = count.and_then(|count| left.split_at_checked(count)).ok_or_else(too_few)?;
        left = rest;
        Ok::<_, Error>(taken)
    };
    let rows = units.checked_mul(4);
    let mut network = Network { input: inputs, ..Network::default() };
    let mut states = Vec::new();
    for layer in 0..layers {
        let below = if layer == 0 { inputs } else { units };
        let both = below.checked_add(units);
        let weights = take(rows.zip(both).and_then(|(rows, both)| rows.checked_mul(both)))?;
        let (rows, both) = (4 * units, below + units);
        let part = |columns: std::ops::Range<usize>| {
            let width = columns.len();
            let values =
                weights.chunks_exact(both.max(1)).flat_map(|row| row[columns.clone()].iter().copied());
            Matrix::new(rows, width, values.collect())
        };
        let (input, recurrent) = (part(0..below)?, part(below..both)?);
        let (bias, zeros) = (take(Some(rows))?, crate::memory::zeros(rows)?);
        let biases = Some([bias, &zeros[..]]);
        let direction = Direction::from_rows(Cell::Lstm, GateOrder::TORCH, [&input, &recurrent], biases)?;
        states.extend_from_slice(take(Some(2 * units))?);
        let rnn = Rnn { stateful: true, ..Rnn::new(Cell::Lstm, direction) };
        network.push(format!("layer {layer}"), Part::Rnn(Box::new(rnn)));
    }
    let kernel = Matrix::new(units, 1, take(Some(units))?.to_vec())?;
    let bias = Some(take(Some(1))?.to_vec());
    network.push("head", Part::Dense { kernel, bias, function: Activation::Linear });
    if !left.is_empty() {
        return Err(bad(format_args!("NAM: {} weights are left over", left.len())));
    }
    let model = network.build(bytes)?;
    model.set_states(1, &states)?;
    Ok(model)
}

fn too_few() -> Error {
    bad("NAM: the list of weights is too short for its config")
}
