//! Layers in the order in which they stand above each other.

use std::collections::HashMap;

use serde_json::Value;

use super::super::bytes::shown;
use super::super::{bad, unsupported};
use crate::error::Result;

/// A layer of a model's description.
#[derive(Clone, Copy, Debug)]
pub(super) struct Described<'a> {
    pub(super) class: &'a str,
    pub(super) name: &'a str,
    pub(super) config: &'a Value,
    /// Its place in the description, by which weights are found.
    pub(super) place: usize,
}

/// The layers of a model's description in the order of the description, and their order above each other.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) layers: Vec<Described<'a>>,
    pub(super) order: Vec<usize>,
}

/// The line of a model: all layers of a Sequential one, the way from input to output of a functional one.
pub(super) fn line(model: &Value) -> Result<Line<'_>> {
    let class = model.get("class_name").and_then(Value::as_str).unwrap_or_default();
    let config = model.get("config").ok_or_else(|| bad("config: no model"))?;
    match class {
        "Sequential" => {
            // Before Keras 2.2.3 the list stood alone.
            let list = config.get("layers").unwrap_or(config);
            let layers = described(list)?;
            let order = (0..layers.len()).collect();
            Ok(Line { layers, order })
        }
        "Functional" | "Model" => {
            let list =
                config.get("layers").ok_or_else(|| bad("config: a functional model without layers"))?;
            let layers = described(list)?;
            let order = functional(config, list, &layers)?;
            Ok(Line { layers, order })
        }
        other => Err(unsupported(format_args!(
            "model of class {:?}: read are Sequential and functional models",
            shown(other.as_bytes())
        ))),
    }
}

fn described(list: &Value) -> Result<Vec<Described<'_>>> {
    let list = list.as_array().ok_or_else(|| bad("config: no list of layers"))?;
    list.iter().enumerate().map(|(place, layer)| describe(place, layer)).collect()
}

fn describe(place: usize, layer: &Value) -> Result<Described<'_>> {
    let class = layer.get("class_name").and_then(Value::as_str);
    let described = class.zip(layer.get("config"));
    let (class, config) =
        described.ok_or_else(|| bad(format_args!("config: layer {place} has no class or no config")))?;
    let name = config.get("name").or_else(|| layer.get("name")).and_then(Value::as_str).unwrap_or_default();
    Ok(Described { class, name, config, place })
}

/// A tensor of a functional model: a layer's name and which of its outputs.
type Tensor<'a> = (&'a str, u64);

fn tensor(history: &Value) -> Option<Tensor<'_>> {
    let history = history.as_array()?;
    Some((history.first()?.as_str()?, history.get(2)?.as_u64()?))
}

/// The order of a functional model's layers, if each reads the one before and nothing else.
fn functional(config: &Value, list: &Value, layers: &[Described<'_>]) -> Result<Vec<usize>> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut above: HashMap<&str, usize> = HashMap::new();
    let mut first = None;
    for (layer, description) in layers.iter().zip(list) {
        let refused = |why: &str| {
            unsupported(format_args!(
                "layer {:?} ({}): {why}",
                shown(layer.name.as_bytes()),
                shown(layer.class.as_bytes())
            ))
        };
        let mut read = Vec::new();
        let nodes = description.get("inbound_nodes").and_then(Value::as_array);
        let nodes = nodes.map(Vec::as_slice).unwrap_or_default();
        nodes.iter().for_each(|node| histories(node, &mut read));
        match (read[..].as_ref(), nodes.len()) {
            ([], _) if layer.class == "InputLayer" && first.is_none() => first = Some(layer.place),
            ([], _) if layer.class == "InputLayer" => return Err(refused("a second input")),
            ([(below, output)], 1) => {
                if *output != 0 {
                    return Err(refused("reads a state of another layer"));
                }
                if above.insert(below, layer.place).is_some() {
                    return Err(refused("reads what another layer reads too: the graph is no line"));
                }
            }
            ([], _) => return Err(refused("reads nothing")),
            (_, 1) => return Err(refused("reads several tensors: the graph is no line")),
            _ => return Err(refused("stands in the model several times")),
        }
    }
    let mut at = first.ok_or_else(|| bad("config: a functional model without an InputLayer"))?;
    let mut order = vec![at];
    // Each layer reads one, so there are no rings on the way, and no more steps than layers.
    while let Some(next) = above.get(layers[at].name).filter(|_| order.len() <= layers.len()) {
        at = *next;
        order.push(at);
    }
    if order.len() != layers.len() {
        return Err(unsupported(format_args!(
            "a functional model of {} layers, of which {} are a line from its input",
            layers.len(),
            order.len()
        )));
    }
    let mut outputs = Vec::new();
    histories(config.get("output_layers").unwrap_or(&Value::Null), &mut outputs);
    match outputs.first() {
        Some((name, 0)) if *name == layers[at].name => {}
        _ => return Err(unsupported("outputs: the first one is not that of the last layer")),
    }
    // States of layers can be had of every model, in a call.
    if let Some((name, _)) = outputs[1..].iter().find(|(_, output)| *output == 0) {
        return Err(unsupported(format_args!(
            "outputs: a second one, of layer {:?}",
            shown(name.as_bytes())
        )));
    }
    Ok(order)
}

/// All tensors that are named in a node's description: `["name", 0, 0]`, with or without a dictionary behind
/// it, in lists of Keras 1 and 2, and under `keras_history` in Keras 3.
fn histories<'a>(value: &'a Value, found: &mut Vec<Tensor<'a>>) {
    match value {
        Value::Array(items) => match tensor(value).filter(|_| (3..=4).contains(&items.len())) {
            Some(tensor) => found.push(tensor),
            None => items.iter().for_each(|item| histories(item, found)),
        },
        Value::Object(members) => match members.get("keras_history") {
            Some(history) => found.extend(tensor(history)),
            None => members.values().for_each(|member| histories(member, found)),
        },
        _ => {}
    }
}
