//! Layers in the order in which they stand above each other.

use std::collections::HashMap;

use serde_json::Value;

use super::super::bytes::shown;
use super::super::{bad, unsupported};
use super::cells::Class;
use super::config::refused;
use crate::error::Result;

/// A layer of a model's description.
#[derive(Clone, Copy, Debug)]
pub(super) struct Described<'a> {
    pub(super) class: &'a str,
    pub(super) name: &'a str,
    pub(super) config: &'a Value,
    /// What it is called with, in a functional model.
    pub(super) calls: &'a Value,
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
    let calls = layer.get("inbound_nodes").unwrap_or(&Value::Null);
    Ok(Described { class, name, config, calls, place })
}

/// A tensor of a functional model: a layer's name and which of its outputs.
type Tensor<'a> = (&'a str, u64);

fn tensor(history: &Value) -> Option<Tensor<'_>> {
    let history = history.as_array()?;
    Some((history.first()?.as_str()?, history.get(2)?.as_u64()?))
}

/// What Keras 3 writes of a mask: operations beside the line that compare what a layer reads with a number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mask<'a> {
    of: Tensor<'a>,
    number: f64,
    /// Whether any feature may differ, rather than the token id.
    any: bool,
}

/// The masks of a functional model, by the names of the operations that give them.
fn masks<'a>(layers: &[Described<'a>]) -> HashMap<&'a str, Mask<'a>> {
    let mut masks: HashMap<&str, Mask<'_>> = HashMap::new();
    for layer in layers {
        let argument = |at: usize| layer.calls.pointer(&format!("/0/args/{at}"));
        let of = argument(0).and_then(|first| tensor(first.pointer("/config/keras_history")?));
        let mask = match (layer.class, of) {
            ("NotEqual", Some(of)) => {
                argument(1).and_then(Value::as_f64).map(|number| Mask { of, number, any: false })
            }
            ("Any", Some((name, _))) => masks.get(name).map(|mask| Mask { any: true, ..*mask }),
            _ => None,
        };
        masks.extend(mask.map(|mask| (layer.name, mask)));
    }
    masks
}

/// A layer's mask, as Keras 3 writes it.
fn mask_of(call: &Value) -> Option<Tensor<'_>> {
    tensor(call.pointer("/config/keras_history")?)
}

/// Checks that layers skip what the layer below them says, and nothing else. Files that have no masks leave
/// that to the layers.
fn check_masks<'a>(
    line: impl Iterator<Item = (&'a Described<'a>, Option<Tensor<'a>>)>,
    masks: &HashMap<&str, Mask<'_>>,
) -> Result<()> {
    let mut here = None;
    for (layer, below) in line {
        let flag = |name| layer.config.get(name).and_then(Value::as_bool) == Some(true);
        let number = layer.config.get("mask_value").and_then(Value::as_f64);
        let given = layer.calls.pointer("/0/kwargs/mask").and_then(mask_of);
        let given = given.map(|(name, _)| masks.get(name));
        let skips = ["Bidirectional", "RNN"].contains(&layer.class) || Class::of(layer.class).is_some();
        let is_right = match given {
            Some(mask) => mask.is_some() && mask == here.as_ref(),
            None => !skips || here.is_none() || masks.is_empty(),
        };
        if !is_right {
            return Err(refused(layer, "mask", "another one than that of the layers below"));
        }
        match (layer.class, below) {
            ("Embedding", Some(of)) if flag("mask_zero") => here = Some(Mask { of, number: 0.0, any: false }),
            ("Masking", Some(of)) => here = Some(Mask { of, number: number.unwrap_or(0.0), any: true }),
            _ => {}
        }
    }
    Ok(())
}

/// The order of a functional model's layers, if each reads the one before and nothing else.
fn functional(config: &Value, list: &Value, layers: &[Described<'_>]) -> Result<Vec<usize>> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let masks = masks(layers);
    let mut above: HashMap<&str, usize> = HashMap::new();
    let mut reads = HashMap::new();
    let mut first = None;
    let beside = |layer: &Described<'_>| masks.contains_key(layer.name);
    for (layer, description) in layers.iter().zip(list).filter(|(layer, _)| !beside(layer)) {
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
                reads.insert(layer.place, (*below, *output));
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
    let all = layers.len() - layers.iter().filter(|layer| beside(layer)).count();
    if order.len() != all {
        return Err(unsupported(format_args!(
            "a functional model of {all} layers, of which {} are a line from its input",
            order.len()
        )));
    }
    check_masks(order.iter().map(|&at| (&layers[at], reads.get(&at).copied())), &masks)?;
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
            // A mask is no data; see `check_masks`.
            None => {
                let is_mask = |name: &str, member| name == "mask" && mask_of(member).is_some();
                let data = members.iter().filter(|(name, member)| !is_mask(name, member));
                data.for_each(|(_, member)| histories(member, found));
            }
        },
        _ => {}
    }
}
