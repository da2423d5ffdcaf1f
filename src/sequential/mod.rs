//! The stack: layers added, built, given weights, and asked for predictions.

#![forbid(unsafe_code)]

mod call;
mod shapes;
mod states;
mod summary;
#[cfg(test)]
mod tests;
mod weights;

use std::sync::Arc;

use crate::dispatch::kernels;
use crate::error::{Error, Result};
use crate::layers::{Layer, Shape, Variables};
use crate::memory::with_room;
use crate::process::ForkLock;
use crate::sequence::{Network, ScratchPool, Threads};

pub use crate::sequence::{Input, Padding};
pub use call::RunOptions;
#[cfg(feature = "files")]
pub(crate) use shapes::MOST_LAYERS;
use shapes::{assemble, shape_above, shapes};
pub(crate) use states::Kept;
use states::TORN_STATES;
pub use weights::WeightBytes;

/// A stack of layers, Keras's Sequential.
///
/// Layers are added, then [`build`](Self::build) gives them weights; from then on the model predicts. A built
/// model is read-only while it predicts and may be shared by any number of threads; changing it needs `&mut`.
/// A model with [stateful](crate::Lstm::stateful) layers keeps their last states, so its calls run one at a
/// time, each from where the one before ended unless it is given an initial state, until
/// [`reset_states`](Self::reset_states).
///
/// ```
/// use elman::{Activation, Dense, Sequential, SimpleRnn};
///
/// # fn main() -> Result<(), elman::Error> {
/// let net = Sequential::new(100)
///     .add(SimpleRnn::new(64).return_sequences(true))
///     .add(SimpleRnn::new(64))
///     .add(Dense::new(1).activation(Activation::Sigmoid))
///     .build(42)?;
/// let x = vec![0.1; 8 * 80 * 100];
/// let y = net.predict(&x, 8, 80)?; // [8, 80, 100] -> [8, 1]
/// assert_eq!(y.len(), 8);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Sequential {
    input_size: usize,
    layers: Vec<Layer>,
    /// What the last layer gives; what the first one will be given, where there is none yet.
    output: Shape,
    /// The first error of `add`, which cannot return it; `build` does.
    deferred: Option<Error>,
    /// A snapshot of weights: a stream keeps the one it was made with.
    network: Option<Arc<Network>>,
    threads: Threads,
    pool: ScratchPool,
    kept: ForkLock<Kept>,
}

impl Sequential {
    /// A model that reads `input_size` features a step; 1 when an embedding comes first.
    pub fn new(input_size: usize) -> Self {
        Self {
            input_size,
            layers: Vec::new(),
            output: Shape { features: input_size, sequence: true },
            deferred: None,
            network: None,
            threads: Threads::default(),
            pool: ScratchPool::default(),
            kept: ForkLock::new(Kept::default(), TORN_STATES),
        }
    }

    /// Adds a layer; what is wrong with it is reported by [`build`](Self::build).
    #[expect(clippy::should_implement_trait, reason = "Keras's word, and no number is added")]
    pub fn add(mut self, layer: impl Into<Layer>) -> Self {
        if self.deferred.is_none() {
            self.deferred = self.push(layer).err();
        }
        self
    }

    /// Adds a layer to a model that is not built yet.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for wrong numbers, a layer that cannot stand here, a built model, or more
    /// than 65,536 layers; [`Error::Unsupported`] for a [`Masking`](crate::Masking) that is not the first
    /// layer; [`Error::OutOfMemory`].
    pub fn push(&mut self, layer: impl Into<Layer>) -> Result<()> {
        let layer = layer.into();
        if self.network.is_some() {
            return Err(Error::InvalidArgument(format!(
                "cannot add a {} layer: the model is built already",
                layer.type_name()
            )));
        }
        let output = shape_above(&self.layers, self.layers.len(), &layer, self.output)?;
        let bytes = 2 * (self.layers.len() + 1) * size_of::<Layer>();
        self.layers.try_reserve(1).map_err(|_| Error::OutOfMemory { bytes })?;
        self.layers.push(layer);
        self.output = output;
        Ok(())
    }

    /// Gives every layer its initial weights.
    ///
    /// # Errors
    /// What [`add`](Self::add) or [`initialize`](Self::initialize) found wrong.
    pub fn build(mut self, seed: u64) -> Result<Self> {
        if let Some(error) = self.deferred.take() {
            return Err(error);
        }
        self.initialize(seed)?;
        Ok(self)
    }

    /// [`build`](Self::build) in place; on a built model, starts again from new weights.
    ///
    /// One seed gives the same weights on every machine and every instruction set.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a model without layers or an initialiser's number outside its range,
    /// [`Error::Unsupported`] when `ELMAN_ISA` cannot be carried out or a [`Masking`](crate::Masking) has no
    /// recurrent layer above it, [`Error::OutOfMemory`].
    pub fn initialize(&mut self, seed: u64) -> Result<()> {
        kernels()?;
        let inputs = shapes(self.input_size, &self.layers)?;
        let mut variables = with_room(self.layers.len())?;
        for (i, (layer, input)) in self.layers.iter().zip(&inputs).enumerate() {
            variables.push(Variables::initialized(layer, input.features, seed, i as u64)?);
        }
        self.network = Some(assemble(self.input_size, &self.layers, variables)?);
        self.reset_states();
        Ok(())
    }

    /// A built model with these weights, whose shapes must be the layers'.
    pub(crate) fn from_variables(
        input_size: usize,
        layers: Vec<Layer>,
        variables: Vec<Variables>,
    ) -> Result<Self> {
        let network = assemble(input_size, &layers, variables)?;
        Ok(Self { layers, output: network.output, network: Some(network), ..Self::new(input_size) })
    }

    /// The weights as they are now.
    pub(crate) fn network(&self, what: &'static str) -> Result<&Arc<Network>> {
        self.network.as_ref().ok_or(Error::NotBuilt(what))
    }

    /// [`network`](Self::network) to be changed. Where somebody else has it too, the model takes a list of
    /// layers of its own first.
    fn network_mut(&mut self, what: &'static str) -> Result<&mut Network> {
        Network::unshared(self.network.as_mut().ok_or(Error::NotBuilt(what))?)
    }

    /// [`network`](Self::network), unless weights were dropped.
    pub(crate) fn whole_network(&self, what: &'static str) -> Result<&Arc<Network>> {
        let network = self.network(what)?;
        let mut variables = network.layers.iter().flat_map(|built| &built.variables.0);
        variables.try_for_each(|variable| variable.kept(what).map(|_| ()))?;
        Ok(network)
    }

    /// The model as it is now, sharing the weights until one of the two changes them.
    pub(crate) fn snapshot(&self) -> Result<Self> {
        let network = self.network("snapshot")?.clone();
        let mut layers = with_room(self.layers.len())?;
        layers.extend(self.layers.iter().cloned());
        let output = network.output;
        Ok(Self { layers, output, network: Some(network), ..Self::new(self.input_size) })
    }

    /// The threads that calls may use.
    pub(crate) fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Whether the model has weights.
    pub fn is_built(&self) -> bool {
        self.network.is_some()
    }

    /// Features a step of the input.
    pub fn input_size(&self) -> usize {
        self.input_size
    }

    /// The layers, in order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Lets one call use up to `threads` threads, the caller's among them; 1 unless set, 0 for one for each
    /// processor. There are never more than processors that the process may use when this is called. A call
    /// that is too small to gain from threads does not use them, nor does one whose threads have just kept
    /// another waiting. The bits of a result do not depend on it.
    ///
    /// The threads block all signals. They compute in the floating-point mode of the thread that calls. A
    /// process that is forked has none of them, and runs each call alone until it sets threads of its own.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] above 1024, [`Error::Unsupported`] when the system starts no threads.
    pub fn set_threads(&mut self, threads: usize) -> Result<()> {
        self.threads = Threads::new(threads)?;
        Ok(())
    }

    /// [`set_threads`](Self::set_threads) to more than there are processors.
    #[cfg(test)]
    fn set_exact_threads(&mut self, threads: usize) {
        self.threads = Threads::exactly(threads).expect("threads can be started");
    }
}
