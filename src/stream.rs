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
mod tests {
    use super::*;
    use crate::layers::{Activation, Dense, Dropout, Embedding, Gru, Lstm, Masking, SimpleRnn};

    /// Samples of a call, none of them alike.
    fn samples(first: usize, count: usize) -> Vec<f32> {
        (first..first + count).map(|i| (i * 37 % 64) as f32 / 64.0 - 0.5).collect()
    }

    /// A step of its own gives the bits that it has among others, and goes on from what they left.
    fn check(what: &str, model: Sequential, listed: bool) {
        let model = model.build(7).expect("a valid model");
        let mut single = Stream::new(&model, 1).expect("it can stream");
        assert_eq!(single.streaming.lists_steps(), listed, "{what}");
        let mut several = Stream::new(&model, 1).expect("it can stream");
        let features = model.input_size();
        let sequence = single.output_len(2).expect("small") > single.output_len(1).expect("small");
        let width = single.output_len(1).expect("small");
        let steps = if cfg!(miri) { 2 } else { 12 };
        for first in (0..steps).step_by(2) {
            let x = samples(first * features, 2 * features);
            let mut expected = vec![0.0; several.output_len(2).expect("small")];
            several.run(&x, 2, &mut expected).expect("right sizes");
            let mut y = vec![0.0; width];
            let mut got = Vec::new();
            for x in x.chunks(features) {
                single.run(x, 1, &mut y).expect("right sizes");
                got.extend_from_slice(&y);
            }
            let last = if sequence { 0 } else { width };
            assert_eq!(got[last..], expected, "{what}, step {first}");
            let mut states = [vec![0.0; single.state_len()], vec![0.0; several.state_len()]];
            single.get_state(&mut states[0]).expect("its length");
            several.get_state(&mut states[1]).expect("its length");
            assert_eq!(states[0], states[1], "{what}, after step {first}");
            // In turn, so that each goes on from the other's floats, and once from the beginning.
            std::mem::swap(&mut single, &mut several);
            if first == steps / 4 * 2 {
                single.reset();
                several.reset();
            }
        }
    }

    #[test]
    fn a_step_alone_has_the_bits_of_a_step_among_others() {
        // Nine are two panels of the portable arm.
        let size = |size: usize| if cfg!(miri) { size.min(9) } else { size };
        let rnn = |units: usize| SimpleRnn::new(size(units)).return_sequences(true);
        check("one panel", Sequential::new(1).add(rnn(8)).add(Dense::new(1)), true);
        let three = Sequential::new(size(26)).add(rnn(25)).add(rnn(25)).add(rnn(25));
        check("three layers", three.add(Dense::new(3).activation(Activation::Sigmoid)), true);
        let relu = SimpleRnn::new(size(70)).activation(Activation::Relu);
        check("a head", Sequential::new(3).add(Dropout::new(0.5)).add(relu).add(Dense::new(5)), true);
        check(
            "softmax",
            Sequential::new(1).add(rnn(8)).add(Dense::new(3).activation(Activation::Softmax)),
            false,
        );
        // Beyond what a lone row keeps in the second cache.
        if !cfg!(miri) {
            check("large", Sequential::new(2).add(rnn(600)), false);
        }
    }

    #[test]
    fn gated_cells_too() {
        let Ok(isa) = crate::dispatch::isa() else { return };
        // The portable arm has no kernel for a lone row.
        let listed = isa != crate::dispatch::Isa::Portable;
        let lstm = |units: usize| Lstm::new(units).return_sequences(true);
        let gru = |units: usize| Gru::new(units).return_sequences(true);
        for units in if cfg!(miri) { 3..4 } else { 1..50 } {
            check("LSTM", Sequential::new(1).add(lstm(units)).add(Dense::new(1)), listed);
            check("GRU", Sequential::new(5).add(gru(units)).add(Gru::new(units)).add(Dense::new(2)), listed);
        }
        if !cfg!(miri) {
            check("several passes", Sequential::new(2).add(lstm(150)).add(gru(100)), listed);
        }
        check("reset before", Sequential::new(1).add(gru(4).reset_after(false)), false);
    }

    #[test]
    fn what_cannot_be_listed_is_not() {
        let tokens = Sequential::new(1).add(Embedding::new(4, 3)).add(SimpleRnn::new(4)).build(1);
        let masked = Sequential::new(2).add(Masking::new(0.0)).add(SimpleRnn::new(4)).build(1);
        let plain = Sequential::new(2).add(SimpleRnn::new(4)).build(1).expect("a valid model");
        for model in [tokens, masked] {
            let stream = Stream::new(&model.expect("a valid model"), 1).expect("it can stream");
            assert!(!stream.streaming.lists_steps());
        }
        assert!(!Stream::new(&plain, 2).expect("it can stream").streaming.lists_steps());
        assert!(Stream::new(&plain, 1).expect("it can stream").streaming.lists_steps());
    }
}
