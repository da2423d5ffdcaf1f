//! Checkpoints of a training: one safetensors file from which it goes on to the same bits. Layout version 2.
//!
//! The metadata has four entries:
//!
//! | key | value |
//! |---|---|
//! | `format` | `elman-trainer` |
//! | `version` | `2` |
//! | `network` | the layers as JSON, as in a model file: see [`layers`](super::layers) |
//! | `trainer` | JSON, `{"config": {...}, "steps": N}`: the configuration by its fields, the steps taken |
//!
//! The tensors, all F32, are the weights as in a model file, `layers.{i}.{name}`, and for each of them what
//! the optimizer keeps beside it, of the same shape: `slot.0.layers.{i}.{name}`, `slot.1.layers.{i}.{name}`,
//! .... Dropout masks and the order of rows are functions of the seed and the steps, so that no generator has
//! a state to be kept.
//!
//! Version 1 had all weights and each slot as one flat array, and nothing of the layers: whose they are
//! cannot be told, so such a file is refused, and its message says how the weights are had.

use std::io::{Read, Seek};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::json::{self, to_json};
use super::safetensors::{Image, Name, Source, Tensor};
use super::{as_bad_format, bad, layers, model, prefixed};
use crate::error::Result;
use crate::layers::Weight;
use crate::memory::{with_room, zeros};
use crate::sequential::Sequential;
use crate::training::{Trainer, TrainerConfig};

const FORMAT: &str = "elman-trainer";
const VERSION: &str = "2";
const VERSION_WITHOUT_LAYERS: &str = "1";

/// Steps up to here are whole numbers in `f64`, which schedules and optimizers reckon in, and have a next
/// one.
const MOST_STEPS: u64 = 1 << 53;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Training {
    config: TrainerConfig,
    steps: u64,
}

impl Trainer {
    /// Writes the training's state, and the model's layers and weights, to a file, from which
    /// [`load`](Self::load) goes on to the same bits. The file is replaced as [`Sequential::save`] does it.
    ///
    /// ```
    /// use elman::{Loss, Optimizer, Sequential, SimpleRnn, Trainer, TrainerConfig};
    ///
    /// # fn main() -> Result<(), elman::Error> {
    /// # let path = std::env::temp_dir().join(format!("elman-doc-{}.checkpoint", std::process::id()));
    /// let model = || Sequential::new(3).add(SimpleRnn::new(4)).build(1);
    /// let trained = model()?;
    /// let trainer = Trainer::new(&trained, TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError))?;
    /// trainer.save(&trained, &path)?;
    ///
    /// let mut again = model()?; // the same layers; their weights come with the checkpoint
    /// let trainer = Trainer::load(&mut again, &path)?;
    /// assert_eq!(trainer.steps(), 0);
    /// # std::fs::remove_file(&path).ok();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotBuilt`](crate::Error::NotBuilt), [`Error::Io`](crate::Error::Io),
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory);
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a model of another shape than the one
    /// that the trainer was made for; [`Error::Unsupported`](crate::Error::Unsupported) after
    /// [`drop_weights`](Sequential::drop_weights).
    pub fn save(&self, model: &Sequential, path: impl AsRef<Path>) -> Result<()> {
        self.image(model)?.save(path.as_ref())
    }

    /// The bytes that [`save`](Self::save) writes; [`load_bytes`](Self::load_bytes) reads them.
    ///
    /// # Errors
    /// As [`save`](Self::save), but for those of files.
    pub fn to_bytes(&self, model: &Sequential) -> Result<Vec<u8>> {
        self.image(model)?.to_bytes()
    }

    /// The file of this training and its model.
    pub(crate) fn image<'a>(&'a self, model: &'a Sequential) -> Result<Image<'a>> {
        self.check_shape(model)?;
        let slots = self.slots();
        let mut tensors = model::weights(model, "save", 0)?;
        let weights = tensors.len();
        let mut all = with_room(weights.saturating_mul(1 + slots.len()))?;
        all.append(&mut tensors);
        for (slot, values) in slots.iter().enumerate() {
            let mut rest = &values[..];
            for i in 0..weights {
                let Tensor { name, which, shape, values } = all[i];
                let Name::Weight(layer, _) = name else { continue };
                let (values, others) = rest.split_at(values.len());
                rest = others;
                all.push(Tensor { name: Name::Slot(slot, layer, which), which, shape, values });
            }
        }
        let network = layers::write(model)?;
        let training = to_json(&Training { config: *self.config(), steps: self.steps() })?;
        let metadata =
            [("format", FORMAT), ("version", VERSION), ("network", &network), ("trainer", &training)];
        Image::new(&metadata, all)
    }

    /// Reads what [`save`](Self::save) wrote: gives `model` the weights, and the trainer to go on with.
    ///
    /// `model` must have the layers of the one that was trained, in all that a result depends on: sizes,
    /// activations, directions, rates, everything but initialisers and [`Unroll`](crate::Unroll). A
    /// checkpoint of another network is refused with a sentence that says what differs.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io); [`Error::BadFormat`](crate::Error::BadFormat) for a file that is no
    /// checkpoint of such a model; [`Error::NotBuilt`](crate::Error::NotBuilt);
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory); [`Error::Unsupported`](crate::Error::Unsupported)
    /// after [`drop_weights`](Sequential::drop_weights). The model is unchanged then.
    pub fn load(model: &mut Sequential, path: impl AsRef<Path>) -> Result<Self> {
        model.whole_network("load")?;
        let mut source = Source::open(path.as_ref())?;
        read(model, &mut source).map_err(|error| source.named(error))
    }

    /// [`load`](Self::load) from the bytes of a file, at any alignment.
    ///
    /// # Errors
    /// As [`load`](Self::load), but for those of files.
    pub fn load_bytes(model: &mut Sequential, bytes: &[u8]) -> Result<Self> {
        model.whole_network("load")?;
        read(model, &mut Source::of(bytes))
    }
}

fn read<R: Read + Seek>(model: &mut Sequential, source: &mut Source<R>) -> Result<Trainer> {
    let header = source.header()?;
    let mut tensors = source.tensors(&header)?;
    tensors.expect("format", FORMAT)?;
    if tensors.metadata_entry("version")? == VERSION_WITHOUT_LAYERS {
        return Err(bad(
            "a checkpoint of layout version 1 does not say which layers it is of, so it cannot be told whether they are \
             this network's; its weights are in the tensor \"parameters\", in the order of set_parameters",
        ));
    }
    tensors.expect("version", VERSION)?;
    let network = layers::read(&tensors.metadata_entry("network")?);
    let (input_size, saved) = network.map_err(|error| prefixed(error, "network"))?;
    layers::check_same(model, input_size, &saved)
        .map_err(|error| prefixed(error, "a checkpoint of another network"))?;
    let training =
        training(&tensors.metadata_entry("trainer")?).map_err(|error| prefixed(error, "trainer"))?;

    // First everything that can be wrong with the file, and the model last: it is unchanged until then.
    let mut trainer = Trainer::new(model, training.config).map_err(as_bad_format)?;
    let shapes: Vec<(usize, Weight, [usize; 2])> = shapes(model)?;
    let slots = trainer.resume(training.steps);
    let mut places = with_room(shapes.len().saturating_mul(1 + slots.len()))?;
    for &(layer, which, shape) in &shapes {
        places.push(tensors.find(Name::Weight(layer, which), which, shape)?);
    }
    for slot in 0..slots.len() {
        for &(layer, which, shape) in &shapes {
            places.push(tensors.find(Name::Slot(slot, layer, which), which, shape)?);
        }
    }
    tensors.finish("this network and its optimizer")?;
    let mut parameters = zeros(model.parameter_count()?)?;
    let mut places = places.into_iter();
    let arrays = std::iter::once(&mut parameters[..]).chain(slots.iter_mut().map(|slot| &mut slot[..]));
    for array in arrays {
        let mut rest = array;
        for (&(_, _, shape), at) in shapes.iter().zip(&mut places) {
            let (values, others) = rest.split_at_mut(shape[0] * shape[1]);
            source.floats(at, values)?;
            rest = others;
        }
    }
    model.set_parameters(&parameters)?;
    Ok(trainer)
}

fn training(text: &str) -> Result<Training> {
    json::small(text)?;
    let training: Training = serde_json::from_str(text).map_err(bad)?;
    if training.steps > MOST_STEPS {
        return Err(bad(format_args!("steps must be at most {MOST_STEPS}, got {}", training.steps)));
    }
    Ok(training)
}

/// Layer, weight and shape of each array, in the order of the parameters.
fn shapes(model: &Sequential) -> Result<Vec<(usize, Weight, [usize; 2])>> {
    let layers = model.whole_network("load")?.layers.iter().enumerate();
    let all = layers.flat_map(|(layer, built)| {
        built.variables.0.iter().map(move |variable| (layer, variable.which, variable.shape))
    });
    let mut shapes = with_room(all.clone().count())?;
    shapes.extend(all);
    Ok(shapes)
}
