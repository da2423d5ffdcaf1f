//! Forward passes that can be gone back: gradients of every weight, of the input and of the initial states.

#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use crate::layers::Weight;
use crate::memory::check_len;
use crate::sequence::{self, Mode, clip_factor, scale, sum_of_squares};
use crate::sequential::{Input, RunOptions, Sequential};

/// Records forward passes of a model and goes back through them.
///
/// The tape keeps the weights that the model had when the tape was made. It keeps no states: a pass through stateful layers too
/// begins with zeros, or with the states that it is given. Masks, lengths, states and every layer work as in
/// [`Sequential::run`] otherwise; steps that are masked cost nothing in either direction. A loss's gradient by the output goes in,
/// gradients by weights come out: for a training loop of your own, or to average gradients between processes
/// ([`Trainer`](crate::Trainer) does the rest otherwise).
///
/// ```
/// use elman::{RunOptions, Sequential, SimpleRnn, Tape, Weight};
///
/// # fn main() -> Result<(), elman::Error> {
/// let net = Sequential::new(3).add(SimpleRnn::new(4)).build(1)?;
/// let mut tape = Tape::new(&net, 2, 5)?;
/// let x = vec![0.5; 2 * 5 * 3];
/// let mut y = vec![0.0; 2 * 4];
/// tape.forward(&x, 2, 5, RunOptions::default(), true, 0, &mut y)?;
/// tape.backward(&y, None)?; // the gradients of half the sum of y's squares
/// assert_eq!(tape.gradient(0, Weight::RecurrentKernel)?.len(), 4 * 4);
/// # Ok(())
/// # }
/// ```
///
/// # Memory
/// With S the rows that are not masked (at most batch · steps) and `stride` a layer's width rounded up to 16 floats, a
/// recurrent layer takes `(batch + S) · stride` floats for its states and as many for their gradients; a sequence
/// that the caller or a layer running the other way reads takes `batch · steps · stride` twice. For its gates an LSTM
/// takes `9 · S · stride` floats more, and a GRU `10 · S · stride`, without `reset_after` `7 · S · stride`. Besides: the
/// input once, the weights' gradients once, and scratch as large as one layer.
#[derive(Debug)]
pub struct Tape {
    model: Sequential,
    tape: sequence::Tape,
}

impl Tape {
    /// A tape for batches up to `batch` rows of up to `steps` steps through a built model.
    ///
    /// # Errors
    /// [`Error::NotBuilt`]; [`Error::InvalidArgument`] for zero or overflowing sizes; [`Error::Unsupported`] for a model
    /// without a layer that computes, one whose weights were [dropped](Sequential::drop_weights), or, on
    /// several threads, 2^32 steps of all of a thread's rows together; [`Error::OutOfMemory`].
    pub fn new(model: &Sequential, batch: usize, steps: usize) -> Result<Self> {
        model.output_len(batch, steps)?;
        let tape = sequence::Tape::new(model.whole_network("tape")?, model.threads(), batch, steps)?;
        Ok(Self { model: model.snapshot()?, tape })
    }

    /// The output for `x`, floats `[batch, steps, features]` or token ids `[batch, steps]`, as [`Sequential::run`] gives
    /// it. In `training` dropout is active, its masks drawn from `seed`: one seed, the same masks on every machine. A tape
    /// keeps no states: stateful layers begin with zeros too, unless initial states are given.
    ///
    /// # Errors
    /// As [`Sequential::run`]; [`Error::InvalidArgument`] where batch or steps exceed the tape's. Nothing is
    /// written then, and the last forward and backward pass stay on the tape, unless it is
    /// [`Error::OutOfMemory`]: there is none after that.
    #[expect(clippy::too_many_arguments, reason = "an array's sizes stand beside it, as everywhere")]
    pub fn forward<'a>(
        &mut self,
        x: impl Into<Input<'a>>,
        batch: usize,
        steps: usize,
        options: RunOptions<'_>,
        training: bool,
        seed: u64,
        y: &mut [f32],
    ) -> Result<()> {
        let call = self.model.checked_call(x.into(), batch, steps, options, y)?;
        self.tape.forward(self.model.network("tape")?, call, Mode { training, seed, logits: false })
    }

    /// [`forward`](Self::forward) under another name.
    #[expect(clippy::too_many_arguments, reason = "as forward")]
    pub fn forward_tokens(
        &mut self,
        ids: &[i32],
        batch: usize,
        steps: usize,
        options: RunOptions<'_>,
        training: bool,
        seed: u64,
        y: &mut [f32],
    ) -> Result<()> {
        self.forward(ids, batch, steps, options, training, seed, y)
    }

    /// The gradients for `dy`, the loss's gradient by the output of the last forward pass. `dx` receives the gradient by
    /// the input. Gradients of an earlier call are overwritten.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`]; [`Error::InvalidArgument`] before the first forward pass, or where `dx` is asked of a
    /// model that reads tokens; [`Error::OutOfMemory`], after which there are no gradients, and the pass can
    /// be gone back once more. Nothing is written then.
    pub fn backward(&mut self, dy: &[f32], dx: Option<&mut [f32]>) -> Result<()> {
        self.backward_with_state(dy, None, dx)
    }

    /// [`backward`](Self::backward) for a loss that depends on the final states too: `final_state` is its gradient by
    /// them, laid out as [`RunOptions::final_state`].
    ///
    /// # Errors
    /// As [`backward`](Self::backward).
    pub fn backward_with_state(
        &mut self,
        dy: &[f32],
        final_state: Option<&[f32]>,
        dx: Option<&mut [f32]>,
    ) -> Result<()> {
        let [batch, steps] = self.tape.sizes()?;
        check_len("dy", dy.len(), "the output's length", &[self.model.output_len(batch, steps)?])?;
        if let Some(states) = final_state {
            check_len("final_state", states.len(), "state_len", &[self.model.state_len(batch)?])?;
        }
        if let Some(dx) = &dx {
            if self.model.network("tape")?.embedding().is_some() {
                return Err(Error::InvalidArgument("token ids have no gradient: dx must be None".into()));
            }
            let features = self.model.input_size();
            check_len("dx", dx.len(), "batch x steps x features", &[batch, steps, features])?;
        }
        self.tape.backward(self.model.network("tape")?, dy, final_state, dx)
    }

    /// The gradient of one weight, in its layout.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] before a backward pass, or where the layer has no such weight.
    pub fn gradient(&self, layer: usize, which: Weight) -> Result<&[f32]> {
        self.tape.gradient(layer, which)
    }

    /// Every gradient, one behind the other, in the order of [`Sequential::get_parameters`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] before a backward pass.
    pub fn gradients(&self) -> Result<&[f32]> {
        self.tape.gradients()
    }

    /// The gradient by the initial states, laid out as [`RunOptions::initial_state`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] before a backward pass.
    pub fn initial_state_gradient(&self) -> Result<&[f32]> {
        self.tape.initial_state_gradient()
    }

    /// The L2 norm, over batch and units, of the loss's gradient by a recurrent layer's state h after each step: how it
    /// fades or explodes on its way back. An LSTM's c does not count. A Bidirectional layer's directions count together.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] unless there is a place for each step of the last forward pass;
    /// [`Error::InvalidArgument`] before a backward pass, or for a layer that is not recurrent.
    pub fn gradient_norms(&self, layer: usize, norms: &mut [f32]) -> Result<()> {
        let [_, steps] = self.tape.sizes()?;
        check_len("norms", norms.len(), "steps", &[steps])?;
        self.tape.gradient_norms(layer, norms)
    }

    /// Scales all gradients of weights by one factor, so that their common L2 norm is at most `max_norm`, and gives
    /// the norm that they had.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] before a backward pass, or for a limit that is not above 0 or not finite;
    /// [`Error::NotFinite`] where a gradient is a NaN or an infinity: nothing is changed then.
    pub fn clip_by_global_norm(&mut self, max_norm: f32) -> Result<f32> {
        if !(max_norm > 0.0 && max_norm.is_finite()) {
            return Err(Error::InvalidArgument(format!("max_norm must be above 0, got {max_norm}")));
        }
        let gradients = self.tape.gradients_mut()?;
        let norm = sum_of_squares(gradients).sqrt();
        if !norm.is_finite() {
            return Err(Error::NotFinite("the gradients hold a NaN or an infinity".into()));
        }
        scale(gradients, clip_factor(norm, max_norm));
        Ok(norm as f32)
    }

    /// The model as it was when the tape was made.
    pub(crate) fn model(&self) -> &Sequential {
        &self.model
    }

    /// Batch and steps of the last forward pass.
    pub(crate) fn sizes(&self) -> Result<[usize; 2]> {
        self.tape.sizes()
    }

    /// Bytes that the tape holds, the model's weights not counted.
    pub fn bytes(&self) -> usize {
        self.tape.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::SimpleRnn;

    #[test]
    fn a_refused_forward_pass_leaves_the_last_one() {
        let net = Sequential::new(1).add(SimpleRnn::new(2)).build(1).unwrap();
        let mut tape = Tape::new(&net, 2, 3).unwrap();
        let mut y = [0.0; 4];
        tape.forward(&[0.5; 6], 2, 3, RunOptions::default(), false, 0, &mut y).unwrap();
        tape.backward(&y, None).unwrap();
        let before = tape.gradients().unwrap().to_vec();
        let more = tape.forward(&[0.5; 8], 2, 4, RunOptions::default(), false, 0, &mut y);
        assert!(matches!(more, Err(Error::InvalidArgument(_))));
        let short = tape.forward(&[0.5; 5], 2, 3, RunOptions::default(), false, 0, &mut y);
        assert!(matches!(short, Err(Error::LengthMismatch { .. })));
        assert_eq!(tape.gradients().unwrap(), before);
        let (dy, mut dx) = (y, [0.0; 6]);
        tape.backward(&dy, Some(&mut dx)).unwrap();
        assert_eq!(tape.gradients().unwrap(), before);
    }
}
