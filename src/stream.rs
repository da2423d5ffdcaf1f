//! Streams: state kept between calls, for sound, sensors and conversations that arrive piece by piece.

#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::memory::check_len;
use crate::sequence::{self, Input, Network, Streaming};
pub(crate) use crate::sequence::{Memory, Plan, Slot};
use crate::sequential::Sequential;

/// The states of `batch` rows, kept from call to call, and everything that running on from them needs.
///
/// [`run`](Self::run) gives, however a sequence is cut into calls, the bits that
/// [`Sequential::predict`] gives for the whole. It is real-time safe: it allocates nothing, takes no lock, makes no system
/// call and uses no other thread; all memory is taken by [`new`](Self::new). Only a refused call allocates, for its
/// message.
///
/// Any number of streams may run on one model. A stream keeps the weights that the model had when the stream was made,
/// and keeps them alive; [`Sequential::set_weight`] is seen by streams made afterwards.
///
/// ```
/// use elman::{Dense, Sequential, SimpleRnn, Stream};
///
/// # fn main() -> Result<(), elman::Error> {
/// let model = Sequential::new(1).add(SimpleRnn::new(20).return_sequences(true)).add(Dense::new(1)).build(1)?;
/// let mut stream = Stream::new(&model, 1)?;
/// let mut y = [0.0];
/// for sample in [0.1, 0.2, 0.3] {
///     stream.run(&[sample], 1, &mut y)?;
/// }
/// assert_eq!(y[0], model.predict(&[0.1, 0.2, 0.3], 1, 3)?[2]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Stream {
    streaming: Streaming,
}

impl Stream {
    /// A stream of `batch` rows at their beginning, their states zeros.
    ///
    /// # Errors
    /// [`Error::NotBuilt`]; [`Error::Unsupported`] for a layer that needs the future (Bidirectional, go_backwards);
    /// [`Error::InvalidArgument`] for a batch of 0 or one whose sizes overflow; [`Error::OutOfMemory`].
    pub fn new(model: &Sequential, batch: usize) -> Result<Self> {
        let plan = Self::plan(model, batch)?;
        Self::with(model, plan, Memory::new(&plan)?)
    }

    /// What memory a stream needs.
    pub(crate) fn plan(model: &Sequential, batch: usize) -> Result<Plan> {
        Plan::new(model.network("stream")?, batch)
    }

    /// A stream in memory of `plan`'s sizes; allocates nothing itself.
    pub(crate) fn with(model: &Sequential, plan: Plan, memory: Memory) -> Result<Self> {
        let network = Arc::clone(model.network("stream")?);
        Ok(Self { streaming: Streaming::new(network, plan, memory) })
    }

    fn network(&self) -> &Network {
        self.streaming.network()
    }

    /// Rows.
    pub fn batch(&self) -> usize {
        self.streaming.batch()
    }

    /// Features a step; 1 for a model that reads tokens.
    pub fn input_size(&self) -> usize {
        self.network().input.features
    }

    /// Floats of output for `steps` steps: as [`Sequential::output_len`] for this batch.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for 0 steps or an overflowing size.
    pub fn output_len(&self, steps: usize) -> Result<usize> {
        self.streaming.output_len(positive(steps)?)
    }

    /// Floats of state: the sum of `batch · units` over all states, of which an LSTM has two, h and c.
    pub fn state_len(&self) -> usize {
        self.batch() * self.network().state_width()
    }

    /// The next `steps` steps, `x` being floats `[batch, steps, features]` or token ids `[batch, steps]`: `y` is
    /// `[batch, steps, features]`, or what the last step gives `[batch, features]`, as in [`Sequential::predict`].
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] when `x` or `y` has another length than its shape; [`Error::InvalidArgument`] for 0 steps,
    /// floats for a model that reads tokens or the other way round, or an id outside the vocabulary. The states are
    /// unchanged then.
    pub fn run<'a>(&mut self, x: impl Into<Input<'a>>, steps: usize, y: &mut [f32]) -> Result<()> {
        let x = x.into();
        positive(steps)?;
        match (x, self.network().embedding()) {
            (Input::Floats(x), None) => {
                check_len(
                    "x",
                    x.len(),
                    "batch x steps x features",
                    &[self.batch(), steps, self.input_size()],
                )?;
            }
            (Input::Tokens(ids), Some((embedding, _))) => {
                check_len("ids", ids.len(), "batch x steps", &[self.batch(), steps])?;
                sequence::check_tokens(ids, embedding.vocabulary)?;
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
        self.check_output(steps, y.len())?;
        self.streaming.run(x, steps, y)
    }

    /// [`run`](Self::run) where steps and lengths are known to fit: the C ABI has checked them, and at one sample a call
    /// checking again would be felt.
    pub(crate) fn run_checked(&mut self, x: &[f32], steps: usize, y: &mut [f32]) -> Result<()> {
        self.streaming.run(Input::Floats(x), steps, y)
    }

    /// [`run`](Self::run) under another name.
    pub fn run_tokens(&mut self, ids: &[i32], steps: usize, y: &mut [f32]) -> Result<()> {
        self.run(ids, steps, y)
    }

    fn check_output(&self, steps: usize, got: usize) -> Result<()> {
        let expected = self.streaming.output_len(steps)?;
        if got == expected {
            return Ok(());
        }
        let shape =
            if self.network().output.sequence { "batch x steps x features" } else { "batch x features" };
        let shape = format!("{shape} for batch {}, steps {steps}", self.batch());
        Err(Error::LengthMismatch { what: "y", shape, expected, got })
    }

    /// Puts all rows back to their beginning.
    pub fn reset(&mut self) {
        self.streaming.reset(0..self.streaming.batch());
    }

    /// Puts one row back to its beginning, for a row whose sequence has ended and is followed by another.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is no such row.
    pub fn reset_row(&mut self, row: usize) -> Result<()> {
        if row >= self.batch() {
            return Err(Error::InvalidArgument(format!(
                "there is no row {row}: the stream has {}",
                self.batch()
            )));
        }
        self.streaming.reset(row..row + 1);
        Ok(())
    }

    /// Copies the states to `state`: for each recurrent layer in order h `[batch, units]`, and of an LSTM then c
    /// `[batch, units]`, one array behind the other. They are all that a stream keeps: another stream that is given them
    /// goes on with the same bits.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] when `state` has another length than [`state_len`](Self::state_len).
    pub fn get_state(&self, state: &mut [f32]) -> Result<()> {
        self.check_state(state.len())?;
        self.streaming.get(state);
        Ok(())
    }

    /// Goes on from `state`, laid out as by [`get_state`](Self::get_state). A masked step that comes next repeats the output
    /// that belongs to the state.
    ///
    /// # Errors
    /// As [`get_state`](Self::get_state).
    pub fn set_state(&mut self, state: &[f32]) -> Result<()> {
        self.check_state(state.len())?;
        self.streaming.set(state);
        Ok(())
    }

    fn check_state(&self, len: usize) -> Result<()> {
        check_len("state", len, "batch x all units", &[self.batch(), self.network().state_width()])
    }
}

fn positive(steps: usize) -> Result<usize> {
    if steps > 0 { Ok(steps) } else { Err(Error::InvalidArgument("steps must be at least 1, got 0".into())) }
}

#[cfg(test)]
mod tests;
