//! Checkpoints of a training: one safetensors file from which it goes on to the same bits. Layout version 1.
//!
//! The metadata has three entries: `format` is `elman-trainer`, `version` is `1`, and `trainer` is a JSON object
//! `{"config": {...}, "steps": N}`, the configuration as its fields are named and the steps taken. The tensors, all F32 of
//! one dimension and one length, are `parameters`, the weights in the order of
//! [`Sequential::get_parameters`](crate::Sequential::get_parameters), and `slot.0`, `slot.1`, ..., what the optimizer keeps
//! beside each of them. Dropout masks and the order of rows are functions of the seed and the steps, so that no generator
//! has a state to be kept. The layers are not in the file: they are the program's, or [`Sequential::save`]'s.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};

use super::safetensors::{Tensors, bad, to_json};
use super::{read_file, replace_file};
use crate::error::Result;
use crate::memory::zeros;
use crate::sequential::Sequential;
use crate::training::{Trainer, TrainerConfig};

const FORMAT: &str = "elman-trainer";
const VERSION: &str = "1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    config: TrainerConfig,
    steps: u64,
}

impl Trainer {
    /// Writes the training's state and the model's weights to a file, from which [`load`](Self::load) goes on to the same
    /// bits.
    ///
    /// The file appears at `path` complete or not at all; one that was there before stays whole if anything fails.
    ///
    /// # Errors
    /// [`Error::NotBuilt`](crate::Error::NotBuilt), [`Error::Io`](crate::Error::Io),
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn save(&self, model: &Sequential, path: impl AsRef<Path>) -> Result<()> {
        let mut parameters = zeros(model.parameter_count()?)?;
        model.get_parameters(&mut parameters)?;
        let to_bytes =
            |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let mut arrays = vec![("parameters".to_owned(), to_bytes(&parameters))];
        for (i, slot) in self.slots().iter().enumerate() {
            arrays.push((format!("slot.{i}"), to_bytes(slot)));
        }
        let header = Header { config: *self.config(), steps: self.steps() };
        let metadata = [("format", FORMAT), ("version", VERSION), ("trainer", &to_json(&header)?)];
        let metadata: HashMap<_, _> =
            metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let views = arrays.iter().map(|(name, bytes)| {
            TensorView::new(Dtype::F32, vec![parameters.len()], bytes).map(|view| (name.clone(), view))
        });
        let views = views.collect::<std::result::Result<Vec<_>, _>>().map_err(bad)?;
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(bad)?;
        replace_file(path.as_ref(), |file| file.write_all(&bytes))
    }

    /// Reads what [`save`](Self::save) wrote: gives `model`, which must have the shape of the one that was trained, the
    /// weights, and the trainer to go on with.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io); [`Error::BadFormat`](crate::Error::BadFormat) for a file that is no checkpoint of
    /// such a model; [`Error::NotBuilt`](crate::Error::NotBuilt); [`Error::OutOfMemory`](crate::Error::OutOfMemory). The
    /// model is unchanged then.
    pub fn load(model: &mut Sequential, path: impl AsRef<Path>) -> Result<Self> {
        let count = model.parameter_count()?;
        let bytes = read_file(path.as_ref())?;
        let tensors = Tensors::parse(&bytes)?;
        for (key, expected) in [("format", FORMAT), ("version", VERSION)] {
            let value = tensors.metadata_entry(key)?;
            if value != expected {
                return Err(bad(format_args!("\"{key}\" should be \"{expected}\", got \"{value}\"")));
            }
        }
        let header: Header = serde_json::from_str(tensors.metadata_entry("trainer")?)
            .map_err(|error| bad(format_args!("trainer: {error}")))?;
        let read = |name: &str, to: &mut [f32]| -> Result<()> {
            let bytes = tensors.bytes(name, &[count])?;
            for (to, bytes) in to.iter_mut().zip(bytes.chunks_exact(size_of::<f32>())) {
                *to = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            Ok(())
        };
        let mut trainer = Trainer::new(model, header.config).map_err(super::safetensors::as_bad_format)?;
        for (i, slot) in trainer.resume(header.steps).iter_mut().enumerate() {
            read(&format!("slot.{i}"), slot)?;
        }
        let mut parameters = zeros(count)?;
        read("parameters", &mut parameters)?;
        model.set_parameters(&parameters)?;
        Ok(trainer)
    }
}
