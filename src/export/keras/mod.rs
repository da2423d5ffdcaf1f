//! Keras's `.weights.h5`: the arrays of each layer in the folders where Keras 3 looks for them.

mod hdf5;

use std::path::Path;

use super::unsupported;
use crate::error::Result;
use crate::formats;
use crate::import::{KerasFolders, keras_places};
use crate::layers::Weight;
use crate::sequential::Sequential;
use hdf5::Node;

/// Writes the weights of a model whose weights are there.
pub(super) fn export(model: &Sequential, path: &Path) -> Result<()> {
    let mut root = Node::group();
    let mut folders = KerasFolders::default();
    for (index, layer) in model.layers().iter().enumerate() {
        let (class, places) = keras_places(layer);
        if places.is_empty() {
            continue;
        }
        let folder = folders.folder(class);
        for (place, weights) in places {
            // A layer without a bias has one array less.
            let variables = weights.iter().filter_map(|&which| model.weight(index, which).ok());
            for (at, variable) in variables.enumerate() {
                let dims = match variable.shape() {
                    // In a file a bias of one row has one dimension.
                    [1, columns] if is_bias(variable.weight()) => vec![columns],
                    shape => shape.to_vec(),
                };
                let number = at.to_string();
                let path = ["layers", &folder].into_iter().chain(place.split('/')).chain(["vars", &number]);
                root.put(
                    path.filter(|name| !name.is_empty()),
                    Node::Array { dims, values: variable.values() },
                );
            }
        }
    }
    formats::write_file(path, hdf5::file(&root)?.as_slice())
}

fn is_bias(weight: Weight) -> bool {
    matches!(weight, Weight::Bias | Weight::BackwardBias)
}
