//! A built model's weights: read, replaced, changed in place, and dropped.

use std::sync::Arc;

use super::Sequential;
use crate::dispatch::kernels;
use crate::error::{Error, Result};
use crate::layers::{BuiltLayer, Variable, Variables, Weight};
use crate::memory::with_room;

/// Bytes that a model's weights take.
///
/// ```
/// use elman::{Dense, Sequential};
///
/// # fn main() -> Result<(), elman::Error> {
/// let mut model = Sequential::new(100).add(Dense::new(200)).build(1)?;
/// assert_eq!(model.weight_bytes()?.plain, 4 * (100 * 200 + 200));
/// model.drop_weights()?;
/// assert_eq!(model.weight_bytes()?.plain, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WeightBytes {
    /// In Keras's layout, embedding tables among them.
    pub plain: usize,
    /// As the kernels read them.
    pub packed: usize,
}

impl Sequential {
    fn built_layer(&self, layer: usize) -> Result<&Arc<BuiltLayer>> {
        let network = self.network("weights")?;
        network.layers.get(layer).ok_or_else(|| {
            Error::InvalidArgument(format!(
                "there is no layer {layer}: the model has {}",
                network.layers.len()
            ))
        })
    }

    /// All weights of a layer.
    fn variables(&self, layer: usize) -> Result<&Variables> {
        self.built_layer(layer).map(|built| &built.variables)
    }

    /// One weight array of a layer.
    ///
    /// # Errors
    /// [`Error::NotBuilt`]; [`Error::InvalidArgument`] when there is no such layer or it has no such weight;
    /// [`Error::Unsupported`] when it was [dropped](Self::drop_weights).
    pub fn weight(&self, layer: usize, which: Weight) -> Result<&Variable> {
        self.variables(layer)?.get(which)?.kept("get_weight")
    }

    /// `[rows, columns]` of one weight array, dropped or not, as [`Weight`] says.
    ///
    /// # Errors
    /// [`Error::NotBuilt`]; [`Error::InvalidArgument`] when there is no such layer or it has no such weight.
    pub fn weight_shape(&self, layer: usize, which: Weight) -> Result<[usize; 2]> {
        self.variables(layer)?.get(which).map(Variable::shape)
    }

    /// Replaces one weight array of a layer, row by row in Keras's layout.
    ///
    /// # Errors
    /// As [`weight`](Self::weight), and [`Error::LengthMismatch`]. The model is unchanged then.
    pub fn set_weight(&mut self, layer: usize, which: Weight, values: &[f32]) -> Result<()> {
        let old = self.built_layer(layer)?;
        let variables = old.variables.with(which, values)?;
        let built = BuiltLayer::new(kernels()?, old.layer.clone(), old.input, old.output, variables)?;
        self.network_mut("set_weight")?.layers[layer] = Arc::new(built);
        Ok(())
    }

    /// Changes weights in place, array by array in their order, and packs them anew. A layer that somebody
    /// else still holds is copied first.
    pub(crate) fn update_variables(
        &mut self,
        mut change: impl FnMut(usize, Weight, &mut [f32]),
    ) -> Result<()> {
        self.whole_network("set_parameters")?;
        let kernels = kernels()?;
        let network = self.network_mut("set_parameters")?;
        // What can fail comes first, so that a failure changes nothing.
        for built in &mut network.layers {
            if Arc::get_mut(built).is_none() {
                let variables = built.variables.copy()?;
                *built = Arc::new(BuiltLayer::new(
                    kernels,
                    built.layer.clone(),
                    built.input,
                    built.output,
                    variables,
                )?);
            }
        }
        for (layer, built) in network.layers.iter_mut().enumerate().filter_map(|(i, built)| {
            // Nobody else has it: see above.
            Arc::get_mut(built).map(|built| (i, built))
        }) {
            for variable in &mut built.variables.0 {
                change(layer, variable.which, &mut variable.values);
            }
            built.repack()?;
        }
        Ok(())
    }

    /// Bytes of the weights that the model holds.
    ///
    /// # Errors
    /// [`Error::NotBuilt`].
    pub fn weight_bytes(&self) -> Result<WeightBytes> {
        let layers = self.network("weight_bytes")?.layers.iter().map(|built| built.bytes());
        let [plain, packed] = layers.fold([0, 0], |all, here| [all[0] + here[0], all[1] + here[1]]);
        Ok(WeightBytes { plain, packed })
    }

    /// Frees the weights in Keras's layout, about half of the model's memory, where it will only run. Runs
    /// and streams read the packed ones, and embedding tables, which are not packed, stay. What reads or
    /// changes weights (get and set, [`save`](Self::save), [`Tape`](crate::Tape),
    /// [`Trainer`](crate::Trainer)) is [`Error::Unsupported`] from then on, until
    /// [`initialize`](Self::initialize).
    ///
    /// Streams and tapes that are there already keep all that they were made with, and then the model takes
    /// packed weights of its own: drop first.
    ///
    /// # Errors
    /// [`Error::NotBuilt`]; [`Error::OutOfMemory`] for those packed weights. The model is unchanged then.
    pub fn drop_weights(&mut self) -> Result<()> {
        let kernels = kernels()?;
        let network = self.network_mut("drop_weights")?;
        // What can fail comes first, so that a failure changes nothing.
        let mut others = with_room(network.layers.len())?;
        for built in &mut network.layers {
            let shared = Arc::get_mut(built).is_none() && built.can_drop();
            others.push(shared.then(|| built.without_variables(kernels).map(Arc::new)).transpose()?);
        }
        for (built, other) in network.layers.iter_mut().zip(others) {
            if let Some(other) = other {
                *built = other;
            } else if let Some(built) = Arc::get_mut(built).filter(|built| built.can_drop()) {
                built.variables = built.variables.dropped();
            }
        }
        Ok(())
    }

    /// Every weight with its name (`layers.0.kernel`) and shape, in order; the values of
    /// [dropped](Self::drop_weights) ones are empty.
    pub fn trainable_variables(&self) -> impl Iterator<Item = (String, [usize; 2], &[f32])> {
        let layers = self.network.iter().flat_map(|network| network.layers.iter().enumerate());
        layers.flat_map(|(i, built)| {
            built.variables.0.iter().map(move |variable| {
                (format!("layers.{i}.{}", variable.weight().name()), variable.shape(), variable.values())
            })
        })
    }
}
