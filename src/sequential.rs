//! The stack: layers added, built, given weights, and asked for predictions.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use crate::dispatch::kernels;
use crate::error::{Error, Result};
use crate::layers::{
    Bidirectional, BuiltLayer, Layer, MergeMode, Shape, Unroll, Variable, Variables, Weight,
};
use crate::memory::{check_len, checked_product, with_room, zeros};
use crate::process::ForkLock;
use crate::sequence::{self, Call, Network, ScratchPool, Threads};
pub use crate::sequence::{Input, Padding};

/// A stack of layers, Keras's Sequential.
///
/// Layers are added, then [`build`](Self::build) gives them weights; from then on the model predicts. A built model is
/// read-only while it predicts and may be shared by any number of threads; changing it needs `&mut`. A model with
/// [stateful](crate::Lstm::stateful) layers keeps their last states, so its calls run one at a time, each from where the one
/// before ended unless it is given an initial state, until [`reset_states`](Self::reset_states).
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

/// What a child process is told whose parent was in a call of a stateful model.
const TORN_STATES: &str = "this process was forked while another thread was in a call of this model, so the states that \
                           it keeps are lost: reset them first";

/// Layers a model may have, far more than any has. It bounds what a file of a few bytes a layer can ask for.
pub(crate) const MOST_LAYERS: usize = 1 << 16;

/// The states that stateful layers keep from call to call.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// 0 where no call has run since the beginning or the last reset.
    batch: usize,
    /// Of all recurrent layers; zeros for those that are not stateful.
    pub(crate) states: Vec<f32>,
    /// Where a call puts its last states: a failed one must not touch those that are kept.
    pub(crate) next: Vec<f32>,
}

impl Kept {
    /// Has `states` and `next` ready for a call of so many rows, whose states are `len` floats.
    pub(crate) fn begin(&mut self, rows: usize, len: usize) -> Result<()> {
        if ![0, rows].contains(&self.batch) {
            return Err(Error::InvalidArgument(format!(
                "the model keeps the states of {} rows, and this call has {rows}; reset the states first",
                self.batch
            )));
        }
        if self.batch == 0 {
            (self.states, self.next) = (zeros(len)?, zeros(len)?);
        }
        Ok(())
    }

    /// Keeps what a call of `model` has put into `next`.
    pub(crate) fn keep(&mut self, model: &Sequential, rows: usize) -> Result<()> {
        for (_, _, here) in model.kept_arrays(rows)? {
            self.states[here.clone()].copy_from_slice(&self.next[here]);
        }
        self.batch = rows;
        Ok(())
    }
}

/// What a call of [`Sequential::run`] takes beside its input: nothing, until its methods say otherwise.
///
/// ```
/// use elman::{RunOptions, Sequential, SimpleRnn};
///
/// # fn main() -> Result<(), elman::Error> {
/// let model = Sequential::new(3).add(SimpleRnn::new(4)).build(1)?;
/// let x = [0.5; 2 * 5 * 3]; // two rows, of five steps and of two
/// let (mut y, mut last) = ([0.0; 2 * 4], [0.0; 2 * 4]);
/// let options = RunOptions::default().lengths(&[5, 2]).final_state(&mut last);
/// model.run(&x, 2, 5, options, &mut y)?;
/// assert_eq!(y, last);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RunOptions<'a> {
    /// `[batch, steps]`: 0 = skip the step, any other number = use it. A model without recurrent layers skips
    /// no step.
    pub mask: Option<&'a [u8]>,
    /// `[batch]`: each row's number of steps, counted from the first. Excludes `mask`.
    pub lengths: Option<&'a [usize]>,
    /// What masked steps emit, and where walking backwards begins.
    pub padding: Padding,
    /// The states before the first step: for each recurrent layer in order (a Bidirectional layer's forward half
    /// before its backward half) h `[batch, units]`, and of an LSTM then c `[batch, units]`, one array behind the
    /// other. Where not given, zeros, and for stateful layers what they keep.
    pub initial_state: Option<&'a [f32]>,
    /// Receives the states after the last step, laid out in the same way.
    pub final_state: Option<&'a mut [f32]>,
}

impl<'a> RunOptions<'a> {
    /// Sets [`mask`](Self::mask).
    pub fn mask(mut self, mask: &'a [u8]) -> Self {
        self.mask = Some(mask);
        self
    }

    /// Sets [`lengths`](Self::lengths).
    pub fn lengths(mut self, lengths: &'a [usize]) -> Self {
        self.lengths = Some(lengths);
        self
    }

    /// Sets [`padding`](Self::padding).
    pub fn padding(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    /// Sets [`initial_state`](Self::initial_state).
    pub fn initial_state(mut self, states: &'a [f32]) -> Self {
        self.initial_state = Some(states);
        self
    }

    /// Sets [`final_state`](Self::final_state).
    pub fn final_state(mut self, states: &'a mut [f32]) -> Self {
        self.final_state = Some(states);
        self
    }
}

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
    /// [`Error::InvalidArgument`] for wrong numbers, a layer that cannot stand here, a built model, or more than
    /// 65,536 layers; [`Error::Unsupported`] for a [`Masking`](crate::Masking) that is not the first layer;
    /// [`Error::OutOfMemory`].
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

    /// [`network`](Self::network) to be changed. Where somebody else has it too, the model takes a list of layers of its
    /// own first.
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

    /// Lets one call use up to `threads` threads, the caller's among them; 1 unless set, 0 for one for each processor. There
    /// are never more than processors that the process may use when this is called. A call that is too small to gain from
    /// threads does not use them, nor does one whose threads have just kept another waiting. The bits of a result do not
    /// depend on it.
    ///
    /// The threads block all signals. They compute in the floating-point mode of the thread that calls. A process that is
    /// forked has none of them, and runs each call alone until it sets threads of its own.
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

    /// Floats of output for `batch` rows of `steps` steps: `batch · features`, or `batch · steps · features` where the
    /// output is a sequence; twice that for a Bidirectional layer that does not merge.
    ///
    /// # Errors
    /// [`Error::NotBuilt`]; [`Error::InvalidArgument`] for zero or overflowing sizes.
    pub fn output_len(&self, batch: usize, steps: usize) -> Result<usize> {
        let network = self.network("output_len")?;
        positive_sizes(batch, steps)?;
        let steps = if network.output.sequence { steps } else { 1 };
        let arrays = match self.layers.last() {
            Some(Layer::Bidirectional(Bidirectional { merge_mode: MergeMode::None, .. })) => 2,
            _ => 1,
        };
        checked_product("output", &[arrays, batch, steps, network.output.features])
    }

    /// Floats of state for `batch` rows: the sum of `batch · units` over all states. A SimpleRNN or a GRU has one, h,
    /// an LSTM has two, h and c, and a Bidirectional layer has twice as many.
    ///
    /// # Errors
    /// [`Error::NotBuilt`]; [`Error::InvalidArgument`] for an overflowing size.
    pub fn state_len(&self, batch: usize) -> Result<usize> {
        let network = self.network("state_len")?;
        positive_sizes(batch, 1)?;
        checked_product("state", &[batch, network.state_width()])
    }

    /// The output for `x`, floats `[batch, steps, features]` or token ids `[batch, steps]`: `[batch, features]`, or
    /// `[batch, steps, features]` where the last layers give a sequence.
    ///
    /// # Errors
    /// As [`predict_into`](Self::predict_into).
    pub fn predict<'a>(&self, x: impl Into<Input<'a>>, batch: usize, steps: usize) -> Result<Vec<f32>> {
        let x = x.into();
        let mut y = zeros(self.checked_output(x, batch, steps)?)?;
        self.predict_into(x, batch, steps, &mut y)?;
        Ok(y)
    }

    /// [`predict`](Self::predict) into the caller's buffer.
    ///
    /// # Errors
    /// [`Error::NotBuilt`]; [`Error::LengthMismatch`] when `x` or `y` has another length than its shape;
    /// [`Error::InvalidArgument`] for zero sizes, floats for a model that reads tokens or the other way round, an id outside
    /// the vocabulary, or another batch than the one whose states stateful layers keep; [`Error::OutOfMemory`]. Nothing is
    /// written then, and the states that are kept are the same.
    pub fn predict_into<'a>(
        &self,
        x: impl Into<Input<'a>>,
        batch: usize,
        steps: usize,
        y: &mut [f32],
    ) -> Result<()> {
        self.run(x, batch, steps, RunOptions::default(), y)
    }

    /// [`predict`](Self::predict) under another name.
    pub fn predict_tokens(&self, ids: &[i32], batch: usize, steps: usize) -> Result<Vec<f32>> {
        self.predict(ids, batch, steps)
    }

    /// [`predict_into`](Self::predict_into) under another name.
    pub fn predict_tokens_into(&self, ids: &[i32], batch: usize, steps: usize, y: &mut [f32]) -> Result<()> {
        self.predict_into(ids, batch, steps, y)
    }

    /// [`predict_into`](Self::predict_into) with masks, lengths and states. Where the embedding has `mask_zero`, a step is
    /// used if both the token and the option allow it.
    ///
    /// # Errors
    /// As [`predict_into`](Self::predict_into), and for options of wrong lengths or that exclude each other;
    /// [`Error::Unsupported`] for 2^32 steps or more, any of which may be masked.
    pub fn run<'a>(
        &self,
        x: impl Into<Input<'a>>,
        batch: usize,
        steps: usize,
        options: RunOptions<'_>,
        y: &mut [f32],
    ) -> Result<()> {
        self.call(x.into(), batch, steps, options, y)
    }

    /// [`run`](Self::run) under another name.
    pub fn run_tokens(
        &self,
        ids: &[i32],
        batch: usize,
        steps: usize,
        options: RunOptions<'_>,
        y: &mut [f32],
    ) -> Result<()> {
        self.run(ids, batch, steps, options, y)
    }

    /// The length of the output, the input being checked first, so that a wrong size allocates nothing.
    pub(crate) fn checked_output(&self, input: Input<'_>, batch: usize, steps: usize) -> Result<usize> {
        let network = self.network("predict")?;
        positive_sizes(batch, steps)?;
        match (input, network.embedding()) {
            (Input::Floats(x), None) => {
                check_len("x", x.len(), "batch x steps x features", &[batch, steps, self.input_size])?;
            }
            (Input::Tokens(ids), Some(_)) => {
                check_len("ids", ids.len(), "batch x steps", &[batch, steps])?;
            }
            (Input::Floats(_), Some(_)) => {
                return Err(Error::InvalidArgument(
                    "the model begins with an embedding: give it token ids".into(),
                ));
            }
            (Input::Tokens(_), None) => {
                return Err(Error::InvalidArgument("the model has no embedding: give it floats".into()));
            }
        }
        self.output_len(batch, steps)
    }

    fn call(
        &self,
        input: Input<'_>,
        batch: usize,
        steps: usize,
        options: RunOptions<'_>,
        y: &mut [f32],
    ) -> Result<()> {
        let call = self.checked_call(input, batch, steps, options, y)?;
        let network = self.network("predict")?;
        if self.is_stateful() {
            self.run_stateful(network, call)
        } else {
            sequence::run(network, &self.threads, &self.pool, call)
        }
    }

    /// A call whose every length fits.
    pub(crate) fn checked_call<'a>(
        &self,
        input: Input<'a>,
        batch: usize,
        steps: usize,
        options: RunOptions<'a>,
        y: &'a mut [f32],
    ) -> Result<Call<'a>> {
        let expected = self.checked_output(input, batch, steps)?;
        let network = self.network("predict")?;
        if y.len() != expected {
            let shape = if network.output.sequence { "batch x steps x features" } else { "batch x features" };
            return Err(Error::LengthMismatch {
                what: "y",
                shape: format!("{shape} for batch {batch}, steps {steps}"),
                expected,
                got: y.len(),
            });
        }
        self.check_options(batch, steps, &options)?;
        let RunOptions { mask, lengths, padding, initial_state, final_state } = options;
        Ok(Call { input, batch, steps, mask, lengths, padding, initial_state, final_state, output: y })
    }

    /// Checks the options of a call whose batch and steps are fine.
    pub(crate) fn check_options(&self, batch: usize, steps: usize, options: &RunOptions<'_>) -> Result<()> {
        let network = self.network("predict")?;
        let RunOptions { mask, lengths, padding, initial_state, final_state } = options;
        if let Some(mask) = mask {
            check_len("mask", mask.len(), "batch x steps", &[batch, steps])?;
            if lengths.is_some() {
                return Err(Error::InvalidArgument("mask and lengths exclude each other: give one".into()));
            }
            if *padding == Padding::Onnx {
                return Err(Error::InvalidArgument("ONNX padding goes with lengths, not with a mask".into()));
            }
        }
        if let Some(lengths) = lengths {
            check_len("lengths", lengths.len(), "batch", &[batch])?;
            if let Some(row) = lengths.iter().position(|&length| length > steps) {
                return Err(Error::InvalidArgument(format!(
                    "lengths[{row}] is {}, and there are {steps} steps",
                    lengths[row]
                )));
            }
        }
        for (what, len) in [
            ("initial_state", initial_state.map(<[f32]>::len)),
            ("final_state", final_state.as_ref().map(|state| state.len())),
        ] {
            if let Some(len) = len {
                check_len(what, len, "batch x all units", &[batch, network.state_width()])?;
            }
        }
        Ok(())
    }

    /// Whether any layer keeps its states from call to call.
    pub fn is_stateful(&self) -> bool {
        self.layers.iter().any(Layer::is_stateful)
    }

    /// A call that begins with the states that the last one left, unless it is given others.
    fn run_stateful(&self, network: &Network, call: Call<'_>) -> Result<()> {
        self.with_kept_states(call.batch, |kept, next| {
            let Call { initial_state, final_state, .. } = call;
            let call = Call { initial_state: initial_state.or(Some(kept)), final_state: Some(next), ..call };
            sequence::run(network, &self.threads, &self.pool, call)?;
            if let Some(wanted) = final_state {
                wanted.copy_from_slice(next);
            }
            Ok(())
        })
    }

    /// Runs `call` on the states that are kept for `rows` rows and on room for those it leaves, which are kept where it
    /// succeeds. The lock is held all the way: calls of one stateful model follow each other.
    pub(crate) fn with_kept_states<T>(
        &self,
        rows: usize,
        call: impl FnOnce(&[f32], &mut [f32]) -> Result<T>,
    ) -> Result<T> {
        let mut kept = self.kept.write()?;
        kept.begin(rows, self.state_len(rows)?)?;
        let Kept { states, next, .. } = &mut *kept;
        let outcome = call(states, next)?;
        kept.keep(self, rows)?;
        Ok(outcome)
    }

    /// What stateful layers keep, out of the model: for a call that changes the model. To be put back.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where this process was forked while another thread was in a call.
    pub(crate) fn take_kept(&self) -> Result<Kept> {
        Ok(std::mem::take(&mut *self.kept.write()?))
    }

    /// A copy of what stateful layers keep.
    pub(crate) fn copy_kept(&self) -> Result<Kept> {
        let Some((batch, states)) = self.states()? else { return Ok(Kept::default()) };
        Ok(Kept { batch, next: zeros(states.len())?, states })
    }

    /// Puts back what [`take_kept`](Self::take_kept) has taken.
    pub(crate) fn put_kept(&self, kept: Kept) {
        self.kept.replace(kept);
    }

    /// Forgets the states that stateful layers keep: the next call begins with zeros, and may have another batch. Calls are
    /// predictions, training steps and evaluations alike: they all go on from the same states, as in Keras.
    pub fn reset_states(&self) {
        self.kept.replace(Kept::default());
    }

    /// The states that stateful layers keep, with the number of rows that they are of, laid out as
    /// [`RunOptions::initial_state`] (zeros for layers that are not stateful); `None` where none are kept. With
    /// [`set_states`](Self::set_states) a run can be gone on with later.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn states(&self) -> Result<Option<(usize, Vec<f32>)>> {
        let kept = self.kept.read()?;
        if kept.batch == 0 {
            return Ok(None);
        }
        let mut copy = zeros(kept.states.len())?;
        copy.copy_from_slice(&kept.states);
        Ok(Some((kept.batch, copy)))
    }

    /// Has stateful layers go on from `states` of `batch` rows, as [`states`](Self::states) gives them; what is there for
    /// layers that are not stateful is ignored. Does nothing to a model without stateful layers.
    ///
    /// # Errors
    /// [`Error::NotBuilt`]; [`Error::LengthMismatch`]; [`Error::OutOfMemory`].
    pub fn set_states(&self, batch: usize, states: &[f32]) -> Result<()> {
        check_len("states", states.len(), "state_len", &[self.state_len(batch)?])?;
        if self.is_stateful() {
            self.put_kept(self.kept_of(batch, states)?);
        }
        Ok(())
    }

    /// What stateful layers keep of `states` of `batch` rows, which have the right length.
    pub(crate) fn kept_of(&self, batch: usize, states: &[f32]) -> Result<Kept> {
        let mut kept = Kept::default();
        kept.begin(batch, states.len())?;
        kept.next.copy_from_slice(states);
        kept.keep(self, batch)?;
        Ok(kept)
    }

    /// Each array of states that a stateful layer keeps: its number among all, its units, and where among the states of `rows`
    /// rows its own are.
    pub(crate) fn kept_arrays(
        &self,
        rows: usize,
    ) -> Result<impl Iterator<Item = (usize, usize, Range<usize>)>> {
        let mut base = 0;
        let arrays = self.network("states")?.state_arrays().enumerate();
        Ok(arrays.filter_map(move |(array, (layer, units))| {
            let here = base..base + rows * units;
            base = here.end;
            self.layers[layer].is_stateful().then_some((array, units, here))
        }))
    }

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

    /// Changes weights in place, array by array in their order, and packs them anew. A layer that somebody else still
    /// holds is copied first.
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

    /// Frees the weights in Keras's layout, about half of the model's memory, where it will only run. Runs and streams
    /// read the packed ones, and embedding tables, which are not packed, stay. What reads or changes weights
    /// (get and set, [`save`](Self::save), [`Tape`](crate::Tape), [`Trainer`](crate::Trainer)) is [`Error::Unsupported`]
    /// from then on, until [`initialize`](Self::initialize).
    ///
    /// Streams and tapes that are there already keep all that they were made with, and then the model takes packed
    /// weights of its own: drop first.
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

    /// Every weight with its name (`layers.0.kernel`) and shape, in order; the values of [dropped](Self::drop_weights) ones
    /// are empty.
    pub fn trainable_variables(&self) -> impl Iterator<Item = (String, [usize; 2], &[f32])> {
        let layers = self.network.iter().flat_map(|network| network.layers.iter().enumerate());
        layers.flat_map(|(i, built)| {
            built.variables.0.iter().map(move |variable| {
                (format!("layers.{i}.{}", variable.weight().name()), variable.shape(), variable.values())
            })
        })
    }

    /// What each layer gives, in order.
    ///
    /// ```
    /// use elman::{Dense, Gru, Sequential};
    ///
    /// # fn main() -> Result<(), elman::Error> {
    /// let model = Sequential::new(3).add(Gru::new(8).return_sequences(true)).add(Dense::new(2)).build(1)?;
    /// let last = model.output_shapes().last().expect("there are two");
    /// assert_eq!((last.features, last.sequence), (2, true));
    /// # Ok(())
    /// # }
    /// ```
    pub fn output_shapes(&self) -> impl Iterator<Item = Shape> {
        let input = Shape { features: self.input_size, sequence: true };
        self.layers.iter().enumerate().scan(input, |shape, (i, layer)| {
            // Every layer was checked when it was added.
            *shape = layer.output_shape(i, *shape).unwrap_or(*shape);
            Some(*shape)
        })
    }

    /// Layers, output shapes, parameters and the driver of each recurrent layer, as a table for people.
    pub fn summary(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let mut total = 0;
        let row = |text: &mut String, cells: [&str; 4]| {
            let line = format!("{:<24}{:<24}{:>12}  {}", cells[0], cells[1], cells[2], cells[3]);
            let _ = writeln!(text, "{}", line.trim_end());
        };
        row(&mut text, ["layer", "output shape", "parameters", "driver"]);
        let mut features = self.input_size;
        for ((i, layer), shape) in self.layers.iter().enumerate().zip(self.output_shapes()) {
            let parameters: usize =
                layer.variable_shapes(features).iter().map(|(_, [rows, columns])| rows * columns).sum();
            total = usize::saturating_add(total, parameters);
            features = shape.features;
            let output = match shape.sequence {
                true => format!("[batch, steps, {}]", shape.features),
                false => format!("[batch, {}]", shape.features),
            };
            let name = format!("{i} {}", layer.type_name());
            row(&mut text, [&name, &output, &parameters.to_string(), driver(layer)]);
        }
        let _ = writeln!(text, "total parameters: {total}");
        let isa = crate::dispatch::isa().map_or("unavailable", crate::dispatch::Isa::name);
        let _ = writeln!(
            text,
            "{}, kernels: {isa}, threads: {}",
            if self.is_built() { "built" } else { "not built" },
            self.threads.count()
        );
        text
    }
}

fn driver(layer: &Layer) -> &'static str {
    match layer.recurrent().map(|rnn| rnn.options().unroll) {
        Some(Unroll::Auto) => "unrolled (auto)",
        Some(Unroll::Looped) => "looped",
        Some(Unroll::Unrolled) => "unrolled",
        None => "",
    }
}

fn positive_sizes(batch: usize, steps: usize) -> Result<()> {
    if batch > 0 && steps > 0 {
        Ok(())
    } else {
        Err(Error::InvalidArgument(format!(
            "batch and steps must be at least 1, got batch {batch}, steps {steps}"
        )))
    }
}

/// The input shape of each layer, every layer being checked on the way, and last the output's.
fn shapes(input_size: usize, layers: &[Layer]) -> Result<Vec<Shape>> {
    let mut shape = Shape { features: input_size, sequence: true };
    let mut shapes = with_room(layers.len() + 1)?;
    shapes.push(shape);
    for (i, layer) in layers.iter().enumerate() {
        shape = shape_above(layers, i, layer, shape)?;
        shapes.push(shape);
    }
    Ok(shapes)
}

/// What `layer` gives for `input` at position `index`, `layers` being those below it and perhaps more; or why it cannot
/// stand there.
fn shape_above(layers: &[Layer], index: usize, layer: &Layer, input: Shape) -> Result<Shape> {
    if input.features == 0 {
        return Err(Error::InvalidArgument("input size must be at least 1, got 0".into()));
    }
    if index >= MOST_LAYERS {
        return Err(Error::InvalidArgument(format!("a model has at most {MOST_LAYERS} layers")));
    }
    layer.validate()?;
    if let Some(Layer::Bidirectional(Bidirectional { merge_mode: MergeMode::None, .. })) =
        index.checked_sub(1).map(|below| &layers[below])
    {
        return Err(Error::InvalidArgument(format!(
            "layer {} (bidirectional) does not merge its halves, so it must be the last layer",
            index - 1
        )));
    }
    let output = layer.output_shape(index, input)?;
    if let Layer::LastStep(_) = layer
        && !layers[..index].iter().any(|below| below.recurrent().is_some())
    {
        return Err(Error::InvalidArgument(format!(
            "layer {index} (last_step) takes the last step of a recurrent layer's sequence, and there is none below"
        )));
    }
    for (which, dims) in layer.variable_shapes(input.features) {
        checked_product(which.name(), &dims)?;
    }
    Ok(output)
}

fn assemble(input_size: usize, layers: &[Layer], variables: Vec<Variables>) -> Result<Arc<Network>> {
    let kernels = kernels()?;
    let shapes = shapes(input_size, layers)?;
    let mut built = with_room(layers.len())?;
    for (i, (layer, variables)) in layers.iter().zip(variables).enumerate() {
        let layer = BuiltLayer::new(kernels, layer.clone(), shapes[i], shapes[i + 1], variables)?;
        built.push(Arc::new(layer));
    }
    Network::new(built).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Bidirectional, LastStep, SimpleRnn};

    const FEATURES: usize = 40;

    /// Calls `model` until its threads have helped often, each time for the bits that one thread gives.
    fn helps(mut model: Sequential, batch: usize, steps: usize) {
        let x: Vec<f32> = (0..batch * steps * FEATURES).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
        let alone = model.predict(&x, batch, steps).expect("the input fits");
        model.set_exact_threads(3);
        let begun = std::time::Instant::now();
        while model.threads.helped() < 20 {
            let together = model.predict(&x, batch, steps).expect("the input fits");
            assert!(alone.iter().zip(&together).all(|(a, b)| a.to_bits() == b.to_bits()), "other bits");
            assert!(begun.elapsed().as_secs() < 60, "nobody helped with {batch} rows of {steps} steps");
        }
    }

    fn stack(layers: usize, units: usize) -> Sequential {
        let rnn = |_| SimpleRnn::new(units).return_sequences(true);
        (0..layers)
            .map(rnn)
            .fold(Sequential::new(FEATURES), Sequential::add)
            .build(5)
            .expect("the layers fit")
    }

    #[test]
    fn threads_share_rows_columns_halves_and_layers() {
        helps(stack(1, 64), 33, 40);
        // So few are cut only for those that are awake.
        helps(stack(1, 64), 7, 200);
        helps(stack(1, 600), 1, 20);
        helps(stack(4, 65), 1, 300);
        let both = Bidirectional::new(SimpleRnn::new(70).return_sequences(true));
        helps(Sequential::new(FEATURES).add(both).build(5).expect("the layer fits"), 2, 200);
        let last = Sequential::new(FEATURES).add(both).add(LastStep::new());
        helps(last.build(5).expect("the layers fit"), 2, 200);
        let last = Sequential::new(FEATURES).add(both).add(LastStep::new());
        helps(last.build(5).expect("the layers fit"), 40, 40);
    }
}
