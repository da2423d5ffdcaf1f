//! Checkpoints of a training: one safetensors file from which it goes on to the same bits. Layout version 2.
//!
//! The metadata has four entries:
//!
//! | key | value |
//! |---|---|
//! | `format` | `elman-trainer` |
//! | `version` | `2` |
//! | `network` | the layers as JSON, as in a model file: see [`layers`](super::layers) |
//! | `trainer` | JSON of the training, see below |
//!
//! The training is an object of
//!
//! | field | value |
//! |---|---|
//! | `config` | the configuration by its fields, the learning rate as it was set last |
//! | `steps` | the steps taken |
//! | `frozen` | `[0, 2]`: the layers that are not trained; missing where all are |
//! | `without_decay` | `["layers.0.bias"]`: the weights kept out of weight decay; missing where there are none |
//! | `state_rows` | the rows whose states are kept; missing where none are |
//!
//! The tensors, all F32, are the weights as in a model file, `layers.{i}.{name}`, and for each of them what
//! the optimizer keeps beside it, of the same shape: `slot.0.layers.{i}.{name}`, `slot.1.layers.{i}.{name}`,
//! .... Where states are kept, `state.{k}` is an array of states of a stateful layer, `[state_rows, units]`, `k`
//! counting all such arrays of all recurrent layers from 0, a forward half before its backward half and an
//! LSTM's h before its c. Dropout masks and the order of rows are functions of the seed and the steps, so that
//! no generator has a state to be kept.
//!
//! Weights are taken as they are, as from a model file. Slots and states must be finite, and a mean of squares
//! at least 0: a step leaves nothing else there, and would make NaN of it.
//!
//! Version 1 had all weights and each slot as one flat array, and nothing of the layers: whose they are
//! cannot be told, so such a file is refused, and its message says how the weights are had.

use std::io::{Read, Seek};
use std::path::Path;

use serde::{Serialize, Serializer};

use super::json::{self, Json, Quoted, to_json};
use super::safetensors::{Image, Name, Source, Tensor, Tensors};
use super::{as_bad_format, bad, layers, model, prefixed};
use crate::error::{Error, Result};
use crate::layers::Weight;
use crate::memory::{with_room, zeros};
use crate::sequential::{Kept, Sequential};
use crate::training::{Trainer, TrainerConfig};

const FORMAT: &str = "elman-trainer";
const VERSION: &str = "2";
const VERSION_WITHOUT_LAYERS: &str = "1";

/// Steps up to here are whole numbers in `f64`, which schedules and optimizers reckon in, and have a next
/// one.
const MOST_STEPS: u64 = 1 << 53;

/// The training as it is written.
#[derive(Serialize)]
struct Training<'a> {
    config: &'a TrainerConfig,
    steps: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    frozen: Vec<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    without_decay: Vec<WeightName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_rows: Option<usize>,
}

const FIELDS: [&str; 5] = ["config", "steps", "frozen", "without_decay", "state_rows"];

/// The name of a weight's tensor, as a string.
struct WeightName(Name);

impl Serialize for WeightName {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Trainer {
    /// Writes the training's state, and the model's layers and weights, to a file, from which
    /// [`load`](Self::load) goes on to the same bits: with the learning rate, the frozen layers, the weights
    /// without decay and the states of stateful layers as they are now. The file is replaced as
    /// [`Sequential::save`] does it.
    ///
    /// Save between two steps. What [`backward`](Self::backward) has left to [`apply`](Self::apply) is not
    /// kept.
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
    /// [`Error::NotFinite`](crate::Error::NotFinite) where the states that are kept are not finite: set or
    /// [reset](Sequential::reset_states) them first.
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
        let shapes = shapes(model, "save")?;
        let states = if model.is_stateful() { model.states()? } else { None };
        let arrays =
            states.as_ref().map_or(Ok(0), |&(rows, _)| model.kept_arrays(rows).map(Iterator::count))?;
        let more = shapes.len().saturating_mul(slots.len()).saturating_add(arrays);
        let mut tensors = model::weights(model, "save", more)?;
        for (slot, values) in slots.iter().enumerate() {
            let mut rest = &values[..];
            for &(layer, which, shape) in &shapes {
                let (values, others) = rest.split_at(shape[0] * shape[1]);
                rest = others;
                tensors.push(Tensor { name: Name::Slot(slot, layer, which), shape, values: values.into() });
            }
        }
        let state_rows = states.as_ref().map(|(rows, _)| *rows);
        if let Some((rows, states)) = states {
            push_states(&mut tensors, model, rows, &states)?;
        }
        let (frozen, without_decay) = self.exceptions(&shapes)?;
        let training =
            Training { config: self.config(), steps: self.steps(), frozen, without_decay, state_rows };
        let (network, training) = (layers::write(model)?, to_json(&training)?);
        let metadata =
            [("format", FORMAT), ("version", VERSION), ("network", &network), ("trainer", &training)];
        Image::new(&metadata, tensors)
    }

    /// The layers that are frozen, and the weights that are kept out of decay.
    fn exceptions(&self, shapes: &[Shaped]) -> Result<(Vec<usize>, Vec<WeightName>)> {
        let frozen = shapes.iter().map(|&(layer, ..)| layer).filter(|&layer| !self.is_trainable(layer));
        let mut layers = with_room(frozen.clone().count())?;
        layers.extend(frozen);
        layers.dedup();
        let kept_out = shapes.iter().filter(|(layer, which, _)| !self.decays(*layer, *which));
        let mut weights = with_room(kept_out.clone().count())?;
        weights.extend(kept_out.map(|&(layer, which, _)| WeightName(Name::Weight(layer, which))));
        Ok((layers, weights))
    }

    /// Reads what [`save`](Self::save) wrote: gives `model` the weights and the states of stateful layers
    /// (none where none were kept), and the trainer to go on with.
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
    // First everything that can be wrong with the file, and the model last: it is unchanged until then.
    let text = tensors.metadata_entry("trainer")?;
    let (mut trainer, state_rows) =
        training(model, &text).map_err(|error| prefixed(as_bad_format(error), "trainer"))?;
    let shapes = shapes(model, "load")?;
    let slots = trainer.slots().len();
    let mut places = with_room(shapes.len().saturating_mul(1 + slots))?;
    for &(layer, which, shape) in &shapes {
        places.push(tensors.find(Name::Weight(layer, which), shape)?);
    }
    for slot in 0..slots {
        for &(layer, which, shape) in &shapes {
            places.push(tensors.find(Name::Slot(slot, layer, which), shape)?);
        }
    }
    let state_places = state_rows.map(|rows| find_states(&mut tensors, model, rows)).transpose()?;
    tensors.finish("this network and its optimizer")?;
    let steps = trainer.steps();
    let slots = trainer.resume(steps);
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
    trainer.check_slots().map_err(as_bad_format)?;
    let kept = match (state_rows, state_places) {
        (Some(rows), Some(places)) => read_states(source, model, rows, &places)?,
        _ => Kept::default(),
    };
    model.set_parameters(&parameters)?;
    model.put_kept(kept);
    Ok(trainer)
}

/// The trainer that such JSON tells of, its slots still empty, and the rows whose states are kept.
fn training(model: &Sequential, text: &str) -> Result<(Trainer, Option<usize>)> {
    json::small(text)?;
    let mut json = Json::new(text);
    let training = json.object()?;
    json.end()?;
    if let Some((key, _)) = training.iter().find(|(key, _)| !FIELDS.contains(key)) {
        return Err(bad(format_args!("unknown field {}", Quoted(key))));
    }
    let get = |key| training.get(key).ok_or_else(|| bad(format_args!("missing field \"{key}\"")));
    let config = serde_json::from_str(get("config")?.value()?).map_err(bad)?;
    let steps: u64 =
        serde_json::from_str(get("steps")?.value()?).map_err(|error| bad(format_args!("steps: {error}")))?;
    if steps > MOST_STEPS {
        return Err(bad(format_args!("steps must be at most {MOST_STEPS}, got {steps}")));
    }
    let mut trainer = Trainer::new(model, config)?;
    trainer.resume(steps);
    if let Some(mut frozen) = training.get("frozen") {
        frozen.list(|json| {
            let layer = json.size()?;
            if !trainer.is_trainable(layer) {
                return Err(bad(format_args!("layer {layer} is frozen twice")));
            }
            trainer.set_trainable(layer, false)
        })?;
    }
    if let Some(mut weights) = training.get("without_decay") {
        weights.list(|json| {
            let name = json.string()?;
            match named(&name).filter(|&(layer, which)| trainer.decays(layer, which)) {
                Some((layer, which)) => trainer.set_decays(layer, which, false),
                None => Err(bad(format_args!("{} is no weight, or there twice", Quoted(&name)))),
            }
        })?;
    }
    let rows = training.get("state_rows").map(|mut rows| rows.size()).transpose()?;
    match rows {
        Some(_) if !model.is_stateful() => Err(bad("states of a network that keeps none")),
        rows => Ok((trainer, rows)),
    }
}

/// The layer and the weight that have this name.
fn named(name: &str) -> Option<(usize, Weight)> {
    let (layer, which) = name.strip_prefix("layers.")?.split_once('.')?;
    let layer = layer.parse().ok()?;
    let which = Weight::ALL.into_iter().find(|weight| weight.name() == which)?;
    // As it is written, and not "+1" or "01".
    (Name::Weight(layer, which).to_string() == name).then_some((layer, which))
}

/// The states of `rows` rows as tensors.
fn push_states(tensors: &mut Vec<Tensor<'_>>, model: &Sequential, rows: usize, states: &[f32]) -> Result<()> {
    for (array, units, here) in model.kept_arrays(rows)? {
        let mut values = zeros(here.len())?;
        values.copy_from_slice(&states[here]);
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::NotFinite(format!(
                "save: the states that the model keeps hold {value}; set or reset them first"
            )));
        }
        tensors.push(Tensor { name: Name::State(array), shape: [rows, units], values: values.into() });
    }
    Ok(())
}

/// Where in the file the states of `rows` rows lie. Nothing is allocated by their number.
fn find_states(tensors: &mut Tensors<'_>, model: &Sequential, rows: usize) -> Result<Vec<u64>> {
    model.state_len(rows).map_err(|error| prefixed(as_bad_format(error), "state_rows"))?;
    let arrays = model.kept_arrays(rows)?;
    let mut places = with_room(model.kept_arrays(rows)?.count())?;
    for (array, units, _) in arrays {
        places.push(tensors.find(Name::State(array), [rows, units])?);
    }
    Ok(places)
}

fn read_states<R: Read + Seek>(
    source: &mut Source<R>,
    model: &Sequential,
    rows: usize,
    places: &[u64],
) -> Result<Kept> {
    let mut states = zeros(model.state_len(rows)?)?;
    for ((array, _, here), &at) in model.kept_arrays(rows)?.zip(places) {
        source.floats(at, &mut states[here.clone()])?;
        if let Some(value) = states[here].iter().find(|value| !value.is_finite()) {
            return Err(bad(format_args!("tensor \"{}\" holds {value}", Name::State(array))));
        }
    }
    model.kept_of(rows, &states)
}

/// The layer, the weight and the shape of an array.
type Shaped = (usize, Weight, [usize; 2]);

/// All arrays, in the order of the parameters.
fn shapes(model: &Sequential, what: &'static str) -> Result<Vec<Shaped>> {
    let layers = model.whole_network(what)?.layers.iter().enumerate();
    let all = layers.flat_map(|(layer, built)| {
        built.variables.0.iter().map(move |variable| (layer, variable.which, variable.shape))
    });
    let mut shapes = with_room(all.clone().count())?;
    shapes.extend(all);
    Ok(shapes)
}
