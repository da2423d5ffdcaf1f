//! elman's own model file: one safetensors file with the layers in its metadata. Layout version 1.
//!
//! # Layout
//! The metadata has three entries:
//!
//! | key | value |
//! |---|---|
//! | `format` | `elman` |
//! | `version` | `1` |
//! | `config` | the layers as JSON, see [`layers`](super::layers) |
//!
//! Other metadata keys are remarks, without effect. No key of an object is there twice.
//!
//! Each weight is a tensor `layers.{i}.{name}`, `i` counting all layers from 0 and the name being
//! [`Weight::name`](crate::Weight::name): F32, in Keras's layout and shape, so a bias has one dimension, and
//! two where it has two rows, as in a GRU with reset after. No tensor may be missing and none may be left over.
//!
//! Values are taken as they are: a NaN or an infinity among the weights loads, as it may be just what
//! somebody wants to look at. Initialisers are not kept, since the weights they made are; a loaded layer has
//! Keras's defaults. The state of a stateful layer is not kept either.
//!
//! One model gives the same bytes each time it is saved: tensors stand in layer order, and nothing of the
//! time, the place or the machine goes in.

use std::borrow::Cow;
use std::io::{Read, Seek};
use std::path::Path;

use super::layers;
use super::safetensors;
use super::safetensors::{Image, Name, Source, Tensor, Tensors};
use super::{as_bad_format, prefixed};
use crate::error::Result;
use crate::layers::{Layer, Shape, Variable, Variables, Weight};
use crate::memory::{AlignedVec, with_room};
use crate::sequential::Sequential;

const FORMAT: &str = "elman";
const VERSION: &str = "1";

impl Sequential {
    /// Writes the layers and their weights to a safetensors file, layout version 1.
    ///
    /// The file appears at `path` complete or not at all: it is written beside `path` under another name
    /// (`.elman-*.tmp`), flushed to the disk, and then renamed; a file that was there before stays whole if
    /// anything fails, and its mode and owner are kept, but not its hard links, access lists and extended
    /// attributes. A new one has the mode that the process gives to files. Symbolic links are followed. What
    /// is there and no regular file (a directory, a FIFO, a device), or may not be written, is left alone.
    ///
    /// Where a file can be written and not be replaced (it is a mount point, its directory takes no new
    /// files, or its owner is somebody else) it is written in place, which is *not* atomic: a failure leaves
    /// it damaged, and says so.
    ///
    /// A process that is killed while it saves leaves its unfinished file behind; the next save into the same
    /// directory removes it.
    ///
    /// The same model always gives the same bytes. Initialisers and the states of stateful layers are not
    /// kept.
    ///
    /// ```
    /// use elman::{Sequential, SimpleRnn};
    ///
    /// # fn main() -> Result<(), elman::Error> {
    /// # let path = std::env::temp_dir().join(format!("elman-doc-{}.safetensors", std::process::id()));
    /// let model = Sequential::new(3).add(SimpleRnn::new(4)).build(1)?;
    /// model.save(&path)?;
    /// let loaded = Sequential::load(&path)?;
    /// assert_eq!(loaded.predict(&[0.5; 6], 1, 2)?, model.predict(&[0.5; 6], 1, 2)?);
    /// # std::fs::remove_file(&path).ok();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotBuilt`](crate::Error::NotBuilt), [`Error::Io`](crate::Error::Io),
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::Unsupported`](crate::Error::Unsupported)
    /// after [`drop_weights`](Self::drop_weights).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.image()?.save(path.as_ref())
    }

    /// The bytes that [`save`](Self::save) writes, for hosts without files; [`load_bytes`](Self::load_bytes)
    /// reads them.
    ///
    /// # Errors
    /// As [`save`](Self::save), but for those of files.
    ///
    /// ```
    /// use elman::{Sequential, SimpleRnn};
    ///
    /// # fn main() -> Result<(), elman::Error> {
    /// let net = Sequential::new(3).add(SimpleRnn::new(8)).build(1)?;
    /// let again = Sequential::load_bytes(&net.to_bytes()?)?;
    /// assert_eq!(net.predict(&[0.5; 30], 1, 10)?, again.predict(&[0.5; 30], 1, 10)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.image()?.to_bytes()
    }

    /// The file of this model.
    pub(crate) fn image(&self) -> Result<Image<'_>> {
        let tensors = weights(self, "save", 0)?;
        Image::new(&[("format", FORMAT), ("version", VERSION), ("config", &layers::write(self)?)], tensors)
    }
}

/// Whether a safetensors file is of another framework.
pub(crate) fn is_of_others(path: &Path) -> Result<bool> {
    Ok(Source::open(path)?.header().is_ok_and(|header| safetensors::is_of_others(&header)))
}

/// [`is_of_others`] of the bytes of a file.
pub(crate) fn is_of_others_bytes(bytes: &[u8]) -> bool {
    Source::of(bytes).header().is_ok_and(|header| safetensors::is_of_others(&header))
}

/// What the metadata of a safetensors file says that it is.
pub(crate) fn format_of(bytes: &[u8]) -> Option<String> {
    let mut source = Source::of(bytes);
    let header = source.header().ok()?;
    let tensors = source.tensors(&header).ok()?;
    tensors.metadata_entry("format").ok().map(Cow::into_owned)
}

/// Reads what [`save`](Sequential::save) wrote.
pub(crate) fn load(path: &Path) -> Result<Sequential> {
    let mut source = Source::open(path)?;
    read(&mut source).map_err(|error| source.named(error))
}

/// [`load`] from the bytes of a file.
pub(crate) fn load_bytes(bytes: &[u8]) -> Result<Sequential> {
    read(&mut Source::of(bytes))
}

/// The tensors of a model's weights, with room for `more`.
pub(super) fn weights<'a>(model: &'a Sequential, what: &'static str, more: usize) -> Result<Vec<Tensor<'a>>> {
    let network = model.whole_network(what)?;
    let count: usize = network.layers.iter().map(|built| built.variables.0.len()).sum();
    let mut tensors = with_room(count.saturating_add(more))?;
    for (layer, built) in network.layers.iter().enumerate() {
        tensors.extend(built.variables.0.iter().map(|variable| Tensor {
            name: Name::Weight(layer, variable.which),
            shape: variable.shape,
            values: variable.values().into(),
        }));
    }
    Ok(tensors)
}

fn read<R: Read + Seek>(source: &mut Source<R>) -> Result<Sequential> {
    let header = source.header()?;
    let mut tensors = source.tensors(&header)?;
    tensors.expect("format", FORMAT)?;
    tensors.expect("version", VERSION)?;
    let in_config = |error| prefixed(error, "config");
    let (input_size, layers) = layers::read(&tensors.metadata_entry("config")?).map_err(in_config)?;
    let found = find_weights(&mut tensors, input_size, &layers)?;
    let mut variables = with_room(layers.len())?;
    let mut found = found.into_iter().peekable();
    for layer in 0..layers.len() {
        let mut of_layer = Vec::new();
        while let Some(weight) = found.next_if(|weight| weight.layer == layer) {
            of_layer.push(read_variable(source, weight)?);
        }
        variables.push(Variables(of_layer));
    }
    Sequential::from_variables(input_size, layers, variables).map_err(as_bad_format)
}

/// A weight whose tensor was found to be right, and where in the file its values lie.
struct Found {
    layer: usize,
    which: Weight,
    shape: [usize; 2],
    at: u64,
}

/// Finds the weights of all layers. Nothing is allocated by the config's sizes: each is compared first with a
/// tensor that is really there, and only then used to reckon the next layer's.
fn find_weights(tensors: &mut Tensors<'_>, input_size: usize, layers: &[Layer]) -> Result<Vec<Found>> {
    let mut input = Shape { features: input_size, sequence: true };
    let mut found = with_room(tensors.count())?;
    for (layer, described) in layers.iter().enumerate() {
        described
            .validate()
            .map_err(|error| prefixed(as_bad_format(error), format_args!("config: layers.{layer}")))?;
        for (which, shape) in described.variable_shapes(input.features) {
            let at = tensors.find(Name::Weight(layer, which), shape)?;
            // Each is another one of the file's tensors, for which there is room.
            found.push(Found { layer, which, shape, at });
        }
        input = described.output_shape(layer, input).map_err(as_bad_format)?;
    }
    tensors.finish(format_args!("the {} layers", layers.len()))?;
    Ok(found)
}

fn read_variable<R: Read + Seek>(source: &mut Source<R>, weight: Found) -> Result<Variable> {
    let Found { which, shape, at, .. } = weight;
    let mut values = AlignedVec::zeroed(which.values(&shape)?)?;
    source.floats(at, &mut values)?;
    Ok(Variable { which, shape, values })
}
