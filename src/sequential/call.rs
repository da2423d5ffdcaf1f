//! Calls: what one takes beside its input, how its sizes are checked, and how it is carried out.

use super::Sequential;
use crate::error::{Error, Result};
use crate::layers::{Bidirectional, Layer, MergeMode};
use crate::memory::{check_len, checked_product, zeros};
use crate::sequence::{self, Call, Input, Padding};

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
    /// The states before the first step: for each recurrent layer in order (a Bidirectional layer's forward
    /// half before its backward half) h `[batch, units]`, and of an LSTM then c `[batch, units]`, one array
    /// behind the other. Where not given, zeros, and for stateful layers what they keep.
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

impl Sequential {
    /// Floats of output for `batch` rows of `steps` steps: `batch · features`, or `batch · steps · features`
    /// where the output is a sequence; twice that for a Bidirectional layer that does not merge.
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

    /// Floats of state for `batch` rows: the sum of `batch · units` over all states. A SimpleRNN or a GRU has
    /// one, h, an LSTM has two, h and c, and a Bidirectional layer has twice as many.
    ///
    /// # Errors
    /// [`Error::NotBuilt`]; [`Error::InvalidArgument`] for an overflowing size.
    pub fn state_len(&self, batch: usize) -> Result<usize> {
        let network = self.network("state_len")?;
        positive_sizes(batch, 1)?;
        checked_product("state", &[batch, network.state_width()])
    }

    /// The output for `x`, floats `[batch, steps, features]` or token ids `[batch, steps]`:
    /// `[batch, features]`, or `[batch, steps, features]` where the last layers give a sequence.
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
    /// [`Error::InvalidArgument`] for zero sizes, floats for a model that reads tokens or the other way
    /// round, an id outside the vocabulary, or another batch than the one whose states stateful layers keep;
    /// [`Error::OutOfMemory`]. Nothing is written then, and the states that are kept are the same.
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

    /// [`predict_into`](Self::predict_into) with masks, lengths and states. Where the embedding has
    /// `mask_zero`, a step is used if both the token and the option allow it.
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
