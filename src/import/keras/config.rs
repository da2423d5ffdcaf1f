//! Parts of the layers that a description has.

use serde_json::Value;

use super::super::bytes::shown;
use super::super::json::said;
use super::super::network::{Activation, Affine, Handed, Matrix, Network, Part};
use super::super::{bad, prefixed, unsupported};
use super::Version;
use super::cells;
use super::line::{self, Described};
use super::weights::{Names, Source, Store, snake_case};
use crate::error::{Error, Result};
use crate::layers::MergeMode;

/// Layers that do nothing at inference and have no rate that training here could use.
const NOTHING: [&str; 8] = [
    "InputLayer",
    "SpatialDropout1D",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
    "ActivityRegularization",
    "Identity",
    "Layer",
];

/// What a layer says of itself.
#[derive(Clone, Copy)]
pub(super) struct Options<'a> {
    pub(super) layer: &'a Described<'a>,
    pub(super) config: &'a Value,
    pub(super) version: Version,
}

/// A layer's attribute that is not carried out.
pub(super) fn refused(layer: &Described<'_>, attribute: &str, value: impl std::fmt::Display) -> Error {
    unsupported(format_args!("{}: {attribute} = {value}", label(layer)))
}

/// A layer as messages name it.
fn label(layer: &Described<'_>) -> String {
    format!("layer {:?} ({})", shown(layer.name.as_bytes()), shown(layer.class.as_bytes()))
}

impl Options<'_> {
    fn get(&self, names: &[&str]) -> Option<&Value> {
        names.iter().find_map(|name| self.config.get(name)).filter(|value| !value.is_null())
    }

    fn wrong(&self, name: &str, value: &Value) -> Error {
        bad(format_args!("{}: {name} is {}", label(self.layer), said(value)))
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.get(&[name]) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(name, value)),
        }
    }

    /// A number under one of these names.
    pub(super) fn number(&self, names: &[&str], default: f64) -> Result<f64> {
        match self.get(names) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.wrong(names[0], value)),
        }
    }

    /// An activation under one of these names: its name, or a description.
    pub(super) fn activation(&self, names: &[&str], default: Activation) -> Result<Activation> {
        // Where it is written as nothing, it is linear.
        if names.iter().any(|name| self.config.get(name).is_some_and(Value::is_null)) {
            return Ok(Activation::Linear);
        }
        let Some(value) = self.get(names) else { return Ok(default) };
        let named = match value {
            Value::String(name) => self.named(name),
            Value::Object(description) => match (description.get("class_name"), description.get("config")) {
                (Some(Value::String(class)), Some(Value::String(name))) if class == "function" => {
                    self.named(name)
                }
                (Some(Value::String(class)), Some(config)) => activation_layer(class, config),
                _ => None,
            },
            _ => None,
        };
        named.ok_or_else(|| refused(self.layer, names[0], said(value)))
    }

    fn named(&self, name: &str) -> Option<Activation> {
        Some(match name {
            "linear" => Activation::Linear,
            "tanh" => Activation::Tanh,
            "relu" => Activation::Relu,
            "sigmoid" => Activation::Sigmoid,
            "softmax" => Activation::Softmax,
            "softplus" => Activation::Softplus,
            "elu" => Activation::Elu,
            "leaky_relu" => Activation::LeakyRelu,
            "hard_sigmoid" if self.version < Version::Third => Activation::HardSigmoidKeras2,
            "hard_sigmoid" => Activation::HardSigmoid,
            _ => return None,
        })
    }
}

/// The activation that a layer is; `None` where its numbers are others than ours.
fn activation_layer(class: &str, config: &Value) -> Option<Activation> {
    let number = |names: &[&str], default: f64| {
        let value = names.iter().find_map(|name| config.get(name)).filter(|value| !value.is_null());
        // Keras 2 kept these as arrays of one value.
        let value =
            value.map(|value| value.get("config").and_then(|inside| inside.get("value")).unwrap_or(value));
        value.map_or(Some(default), Value::as_f64)
    };
    match class {
        "ReLU" => {
            let plain = config.get("max_value").is_none_or(Value::is_null)
                && number(&["negative_slope"], 0.0)? == 0.0
                && number(&["threshold"], 0.0)? == 0.0;
            plain.then_some(Activation::Relu)
        }
        // The default changed its value with its name.
        "LeakyReLU" => {
            ((number(&["negative_slope", "alpha"], 0.3)? - 0.2).abs() < 1e-6).then_some(Activation::LeakyRelu)
        }
        "ELU" => (number(&["alpha"], 1.0)? == 1.0).then_some(Activation::Elu),
        "Softmax" => (number(&["axis"], -1.0)? == -1.0).then_some(Activation::Softmax),
        _ => None,
    }
}

/// The network of a description and the weights beside it.
pub(super) fn network(model: &Value, version: Version, store: &Store<'_, '_>) -> Result<Network> {
    let line = line::line(model)?;
    // Folders are counted in the order of the description, whatever order the layers stand in.
    let mut names = Names::default();
    let folders: Vec<_> = line.layers.iter().map(|layer| names.folder(&snake_case(layer.class))).collect();
    let mut network = Network::default();
    for &place in &line.order {
        let layer = &line.layers[place];
        let mut source = store.of(layer, &folders[place])?;
        let begun = network.parts.len();
        add(&mut network, layer, version, &mut source).map_err(|error| in_layer(layer, error))?;
        if let Some(left) = source.left().filter(|&left| left > 0) {
            return Err(bad(format_args!("{}: the file has {left} more weights for it", label(layer))));
        }
        debug_assert!(network.parts.len() >= begun);
    }
    network.input = network.first_input().unwrap_or_else(|| declared_input(&line.layers));
    Ok(network)
}

/// Features that the description names, for a network whose layers do not tell.
fn declared_input(layers: &[Described<'_>]) -> usize {
    let shape = layers.iter().find_map(|layer| {
        ["batch_shape", "batch_input_shape"].iter().find_map(|name| layer.config.get(name))
    });
    let last = shape.and_then(Value::as_array).and_then(|shape| shape.last()?.as_u64());
    last.and_then(|last| usize::try_from(last).ok()).unwrap_or(0)
}

fn in_layer(layer: &Described<'_>, error: Error) -> Error {
    let message = error.to_string();
    if message.contains(&label(layer)) { error } else { prefixed(error, label(layer)) }
}

/// Adds the parts of a layer.
fn add(
    network: &mut Network,
    layer: &Described<'_>,
    version: Version,
    source: &mut Source<'_, '_, '_>,
) -> Result<()> {
    let options = Options { layer, config: layer.config, version };
    let name = label(layer);
    match layer.class {
        class if NOTHING.contains(&class) => Ok(()),
        "Dropout" => {
            network.push(name, Part::Dropout(options.number(&["rate", "p"], 0.0)? as f32));
            Ok(())
        }
        "Masking" => {
            network.push(name, Part::Masking(options.number(&["mask_value"], 0.0)? as f32));
            Ok(())
        }
        "Embedding" => {
            let mask_zero = options.flag("mask_zero", false)?;
            let table = one(source.take("", 1)?)?;
            network.push(name, Part::Embedding { table: table.into_matrix()?, mask_zero });
            Ok(())
        }
        "GetItem" => add_item(network, layer),
        "Dense" => add_dense(network, &options, source, ""),
        "TimeDistributed" => add_distributed(network, &options, source),
        "TimeDistributedDense" => add_dense(network, &options, source, ""),
        "Activation" => {
            let function = options.activation(&["activation"], Activation::Linear)?;
            network.push(name, Part::Function(function));
            Ok(())
        }
        "ReLU" | "LeakyReLU" | "ELU" | "Softmax" => {
            let function = activation_layer(layer.class, layer.config);
            let function = function.ok_or_else(|| refused(layer, "config", said(layer.config)))?;
            network.push(name, Part::Function(function));
            Ok(())
        }
        "BatchNormalization" => {
            network.push(name, Part::Affine(normalization(&options, source)?));
            Ok(())
        }
        "Bidirectional" => add_bidirectional(network, &options, source),
        "RNN" => add_recurrent(network, &options, source),
        class if cells::Class::of(class).is_some() => add_recurrent(network, &options, source),
        _ => Err(unsupported(format_args!("{name}: layers of this class are not carried out"))),
    }
}

/// An index of a functional model: the last step of a sequence, `x[:, -1]` or `x[:, -1, :]`.
fn add_item(network: &mut Network, layer: &Described<'_>) -> Result<()> {
    let key = layer.calls.pointer("/0/args/1").unwrap_or(&Value::Null);
    let is_whole = |part: &Value| {
        let open = |name| part.pointer(&format!("/config/{name}")).is_some_and(Value::is_null);
        part.get("class_name").and_then(Value::as_str) == Some("__slice__")
            && ["start", "stop", "step"].into_iter().all(open)
    };
    let is_last = match key.as_array().map(Vec::as_slice) {
        Some([rows, step]) => is_whole(rows) && step.as_i64() == Some(-1),
        Some([rows, step, features]) => is_whole(rows) && step.as_i64() == Some(-1) && is_whole(features),
        _ => false,
    };
    if !is_last {
        return Err(refused(layer, "key", said(key)));
    }
    network.push(label(layer), Part::LastStep);
    Ok(())
}

fn one<T>(list: Vec<T>) -> Result<T> {
    list.into_iter().next().ok_or_else(|| bad("an array is missing"))
}

fn add_dense(
    network: &mut Network,
    options: &Options<'_>,
    source: &mut Source<'_, '_, '_>,
    below: &str,
) -> Result<()> {
    // Keras 1 wrote `bias`.
    let use_bias = options.flag("use_bias", options.flag("bias", true)?)?;
    let mut arrays = source.take(below, if use_bias { 2 } else { 1 })?.into_iter();
    let mut next = || arrays.next().ok_or_else(|| bad("an array is missing"));
    let kernel = next()?.into_matrix()?;
    let bias = if use_bias { Some(next()?.values) } else { None };
    let function = options.activation(&["activation"], Activation::Linear)?;
    network.push(label(options.layer), Part::Dense { kernel, bias, function });
    Ok(())
}

/// A layer that works on every step, as dense layers do anyhow.
fn add_distributed(
    network: &mut Network,
    options: &Options<'_>,
    source: &mut Source<'_, '_, '_>,
) -> Result<()> {
    let inner = inner(options, "layer")?;
    let inside = Options { layer: &inner, config: inner.config, version: options.version };
    match inner.class {
        "Dense" => add_dense(network, &inside, source, "layer"),
        "Dropout" | "Activation" | "ReLU" | "LeakyReLU" | "ELU" | "Softmax" => {
            add(network, &inner, options.version, source)
        }
        other => Err(refused(options.layer, "layer", shown(other.as_bytes()))),
    }
}

/// The layer inside a wrapper.
fn inner<'a>(options: &Options<'a>, key: &str) -> Result<Described<'a>> {
    let missing = || bad(format_args!("{}: there is no layer inside", label(options.layer)));
    let inside = options.config.get(key).ok_or_else(missing)?;
    let class = inside.get("class_name").and_then(Value::as_str).ok_or_else(missing)?;
    let config = inside.get("config").ok_or_else(missing)?;
    let name = config.get("name").and_then(Value::as_str).unwrap_or(options.layer.name);
    Ok(Described { class, name, config, ..*options.layer })
}

/// A recurrent layer: a part for each of its cells.
fn add_recurrent(
    network: &mut Network,
    options: &Options<'_>,
    source: &mut Source<'_, '_, '_>,
) -> Result<()> {
    let layer = options.layer;
    let cells = cells::cells(layer)?;
    if cells.len() > 1 && options.flag("go_backwards", false)? {
        return Err(refused(layer, "go_backwards", "true, of stacked cells"));
    }
    let last = cells.len().checked_sub(1).ok_or_else(|| bad(format_args!("{}: no cells", label(layer))))?;
    for (at, (cell, below)) in cells.iter().enumerate() {
        let mut rnn = cells::part(layer, cell, options.version, source, below)?;
        if at < last {
            rnn.handed = Handed::Sequence;
            rnn.zero_output_for_mask = false;
        }
        network.push(label(layer), Part::Rnn(Box::new(rnn)));
    }
    Ok(())
}

fn add_bidirectional(
    network: &mut Network,
    options: &Options<'_>,
    source: &mut Source<'_, '_, '_>,
) -> Result<()> {
    let layer = options.layer;
    let forward_layer = inner(options, "layer")?;
    let mode = match options.config.get("merge_mode") {
        None => MergeMode::Concat,
        Some(Value::Null) => MergeMode::None,
        Some(Value::String(mode)) if mode == "concat" => MergeMode::Concat,
        Some(Value::String(mode)) if mode == "sum" => MergeMode::Sum,
        Some(Value::String(mode)) if mode == "mul" => MergeMode::Mul,
        Some(Value::String(mode)) if mode == "ave" => MergeMode::Ave,
        Some(other) => return Err(refused(layer, "merge_mode", said(other))),
    };
    let half = |inside: &Described<'_>, below: &str, source: &mut Source<'_, '_, '_>| {
        let (cell, place) = cells::alone(layer, cells::cells(inside)?)?;
        cells::part(inside, &cell, options.version, source, &format!("{below}/{place}"))
    };
    let mut rnn = half(&forward_layer, "forward_layer", source)?;
    let backward_layer = match options.get(&["backward_layer"]) {
        Some(_) => inner(options, "backward_layer")?,
        None => forward_layer,
    };
    let mut backward = half(&backward_layer, "backward_layer", source)?;
    if rnn.go_backwards {
        return Err(refused(layer, "layer.go_backwards", "true"));
    }
    // A backward layer of its own may differ only in what it must.
    backward.go_backwards = false;
    let differs = (rnn.cell, rnn.activation, rnn.recurrent_activation, rnn.handed, rnn.stateful)
        != (
            backward.cell,
            backward.activation,
            backward.recurrent_activation,
            backward.handed,
            backward.stateful,
        );
    if differs {
        return Err(refused(layer, "backward_layer", "another kind of layer"));
    }
    rnn.backward = Some((backward.forward, mode));
    network.push(cells::title(layer, &rnn), Part::Rnn(Box::new(rnn)));
    Ok(())
}

/// A batch normalisation at inference.
fn normalization(options: &Options<'_>, source: &mut Source<'_, '_, '_>) -> Result<Affine> {
    // A list of one where Keras 2.x of TensorFlow wrote it.
    let axis = options.get(&["axis"]).map(|axis| axis.get(0).unwrap_or(axis).clone());
    if let Some(axis) =
        axis.filter(|axis| ![Some(-1), Some(2)].contains(&axis.as_i64()) && axis.as_i64() != Some(1))
    {
        return Err(refused(options.layer, "axis", said(&axis)));
    }
    let epsilon = options.number(&["epsilon"], 1e-3)?;
    let [has_scale, has_center] = [options.flag("scale", true)?, options.flag("center", true)?];
    let count = 2 + usize::from(has_scale) + usize::from(has_center);
    let mut lists = source.take("", count)?.into_iter().map(|array| array.values);
    let mut next = || lists.next().ok_or_else(|| bad("an array is missing"));
    let scale = if has_scale { Some(next()?) } else { None };
    let center = if has_center { Some(next()?) } else { None };
    let (mean, variance) = (next()?, next()?);
    let len = mean.len();
    if [scale.as_ref(), center.as_ref(), Some(&variance)].into_iter().flatten().any(|list| list.len() != len)
    {
        return Err(bad(format_args!("{}: lists of several lengths", label(options.layer))));
    }
    let at = |list: &Option<Vec<f32>>, i: usize, default: f64| {
        list.as_ref().map_or(default, |list| list[i].into())
    };
    let scales: Vec<f64> =
        (0..len).map(|i| at(&scale, i, 1.0) / (f64::from(variance[i]) + epsilon).sqrt()).collect();
    let shift = (0..len).map(|i| at(&center, i, 0.0) - f64::from(mean[i]) * scales[i]).collect();
    Ok(Affine { scale: scales, shift })
}

impl super::hdf5::Array {
    /// A matrix; the other shapes are nothing that is multiplied by.
    fn into_matrix(self) -> Result<Matrix> {
        match self.dims[..] {
            [rows, columns] => Matrix::new(rows, columns, self.values),
            _ => Err(bad(format_args!("a matrix of shape {:?}", self.dims))),
        }
    }
}
