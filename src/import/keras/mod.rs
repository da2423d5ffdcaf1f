//! Keras's files: `.keras`, the older `.h5`, and `.weights.h5` for a network that is there.
//!
//! [`hdf5`] reads the container, [`weights`] finds a layer's arrays in it, [`config`] makes parts of the
//! layers that the JSON describes, and [`line`] puts those of a functional model in a row.

mod cells;
mod config;
mod dense;
mod hdf5;
mod line;
mod weights;

use std::collections::VecDeque;

use serde_json::Value;

use super::json;
use super::network::Network;
use super::zip::Archive;
use super::{bad, unsupported};
use crate::error::{Error, Result};
use crate::layers::{Layer, Weight};
use crate::sequential::Sequential;
use hdf5::File;
use weights::Store;

pub(crate) use weights::Names;

/// The member of a `.keras` file that describes the layers.
pub(super) const CONFIG: &str = "config.json";

/// The layers of a `.keras` file.
pub(super) fn zip(archive: &Archive<'_>) -> Result<Network> {
    let member = |name: &str| {
        let content = archive.read(name)?;
        content.ok_or_else(|| bad(format_args!("zip: {name} is missing")))
    };
    let config = json::parse(&member(CONFIG)?)?;
    let metadata = json::parse(&member("metadata.json")?)?;
    let version = metadata.get("keras_version").and_then(Value::as_str);
    let weights = member("model.weights.h5")?;
    let file = File::open(&weights)?;
    config::network(&config, Version::of(version), &Store::folders(&file)?)
}

/// The layers of an `.h5` file that has them.
pub(super) fn h5(bytes: &[u8]) -> Result<Network> {
    let file = File::open(bytes)?;
    let root = file.root()?;
    let Some(config) = file.texts(&root, "model_config")? else {
        return Err(unsupported(
            "an HDF5 file without layers (model_config), weights alone: build the network and load_weights",
        ));
    };
    let config = json::parse(config.concat().as_bytes())?;
    let version = file.texts(&root, "keras_version")?.map(|version| version.concat());
    config::network(&config, Version::of(version.as_deref()), &Store::layers(&file)?)
}

/// What changed between Keras's versions under the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    /// 1, and what names no version.
    First,
    /// 2 up to 2.2.
    EarlySecond,
    /// From 2.3 on.
    Second,
    Third,
}

impl Version {
    fn of(version: Option<&str>) -> Self {
        let mut numbers = version.unwrap_or_default().split(['.', '-']).map(str::parse::<u32>);
        let mut next = || numbers.next().and_then(std::result::Result::ok).unwrap_or(0);
        match (next(), next()) {
            (0 | 1, _) => Version::First,
            (2, 0..=2) => Version::EarlySecond,
            (2, _) => Version::Second,
            _ => Version::Third,
        }
    }
}

/// Weights of a `.weights.h5` file, or of an older one without layers, into a model of the same layers; all,
/// or none.
pub(super) fn load_weights(model: &mut Sequential, bytes: &[u8]) -> Result<()> {
    let file = File::open(bytes)?;
    let store = Store::of_weights(&file)?;
    // An older file lists its layers, those without weights among them.
    let mut listed = VecDeque::new();
    for name in store.layer_names()? {
        let source = store.of_list(&name)?;
        if source.left() != Some(0) {
            listed.push_back(source);
        }
    }
    let mut counts = weights::Names::default();
    let mut arrays: Vec<(usize, Weight, Vec<f32>)> = Vec::new();
    for (index, layer) in model.layers().iter().enumerate() {
        let (class, places) = places(layer);
        if places.is_empty() {
            continue;
        }
        let title = format!("layers.{index} ({class})");
        let mut source = match store.has_folders() {
            true => store.of_folder(&counts.folder(class), &title),
            false => {
                listed.pop_front().ok_or_else(|| bad(format_args!("{title}: the file has no more layers")))?
            }
        };
        for (place, weights) in places {
            // A layer without a bias has one array less.
            let wanted: Vec<_> = weights
                .iter()
                .filter_map(|&which| Some((which, model.weight_shape(index, which).ok()?)))
                .collect();
            for ((which, shape), found) in wanted.iter().zip(source.take(place, wanted.len())?) {
                // In a file a bias of one row has one dimension.
                let fits = found.dims == *shape || shape[0] == 1 && found.dims == shape[1..];
                if !fits {
                    return Err(Error::InvalidArgument(format!(
                        "layers.{index}.{} should have the shape {shape:?}, and the file has {:?}",
                        which.name(),
                        found.dims
                    )));
                }
                arrays.push((index, *which, found.values));
            }
        }
        if source.left().is_some_and(|left| left > 0) {
            return Err(bad(format_args!("{title}: the file has more weights for it")));
        }
    }
    if let Some(source) = listed.front() {
        return Err(bad(format_args!("the model has no layer for {:?} of the file", source.layer())));
    }
    store.check_folders(&counts)?;
    model.update_variables(|layer, which, values| {
        if let Some((.., new)) = arrays.iter().find(|(of, what, _)| (*of, *what) == (layer, which)) {
            values.copy_from_slice(new);
        }
    })
}

/// Where Keras keeps the weights of a layer: below the folder of its class, in each place in this order.
pub(crate) fn places(layer: &Layer) -> (&'static str, Vec<(&'static str, Vec<Weight>)>) {
    let forward = || vec![Weight::Kernel, Weight::RecurrentKernel, Weight::Bias];
    let backward = || forward().into_iter().map(Weight::backward).collect();
    match layer {
        Layer::Embedding(_) => ("embedding", vec![("", vec![Weight::Embedding])]),
        Layer::Dense(_) => ("dense", vec![("", vec![Weight::Kernel, Weight::Bias])]),
        Layer::Bidirectional(_) => {
            ("bidirectional", vec![("forward_layer/cell", forward()), ("backward_layer/cell", backward())])
        }
        Layer::Masking(_) | Layer::Dropout(_) | Layer::LastStep(_) => (layer.type_name(), Vec::new()),
        recurrent => (recurrent.type_name(), vec![("cell", forward())]),
    }
}
