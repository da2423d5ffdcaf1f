//! A pass over a batch: from the states before it, forwards, to a tape that can be gone back.

use super::Examples;
use crate::error::Result;
use crate::memory::{check_len, refill, zeros};
use crate::sequence::{self, Mode, Network, Threads};
use crate::sequential::{Kept, RunOptions, Sequential};

/// Where the states of a step come from and go to.
pub(super) struct States<'a> {
    pub(super) kept: &'a mut Kept,
    /// For those that are not kept.
    pub(super) buffer: &'a mut Vec<f32>,
}

impl States<'_> {
    /// Takes a step on `rows` rows from the states that the options give, or else those that stateful layers
    /// keep. Where it succeeds the caller has its final states, and stateful layers keep theirs.
    pub(super) fn around<M: std::borrow::Borrow<Sequential>, T>(
        self,
        mut model: M,
        rows: usize,
        options: RunOptions<'_>,
        step: impl FnOnce(&mut M, RunOptions<'_>) -> Result<T>,
    ) -> Result<T> {
        let stateful = model.borrow().is_stateful();
        let len = model.borrow().state_len(rows)?;
        let RunOptions { mask, lengths, padding, initial_state, final_state: wanted } = options;
        if let Some(wanted) = &wanted {
            check_len("final_state", wanted.len(), "state_len", &[len])?;
        }
        if stateful {
            self.kept.begin(rows, len)?;
        } else if wanted.is_some() && self.buffer.len() < len {
            *self.buffer = zeros(len)?;
        }
        let Kept { states, next, .. } = &mut *self.kept;
        let last = if stateful { next } else { self.buffer };
        let options = RunOptions {
            mask,
            lengths,
            padding,
            initial_state: initial_state.or(stateful.then_some(&states[..])),
            // The caller's array is written when the step has succeeded.
            final_state: if stateful || wanted.is_some() { Some(&mut last[..len]) } else { None },
        };
        let outcome = step(&mut model, options)?;
        if let Some(wanted) = wanted {
            wanted.copy_from_slice(&last[..len]);
        }
        if stateful {
            self.kept.keep(model.borrow(), rows)?;
        }
        Ok(outcome)
    }
}

/// What goes forwards, and its buffers.
#[derive(Debug, Default)]
pub(super) struct Pass {
    pub(super) tape: Option<Made>,
    pub(super) prediction: Vec<f32>,
    pub(super) gradient: Vec<f32>,
}

/// A tape, with the batch and steps it was made for.
pub(super) type Made = (sequence::Tape, [usize; 2]);

/// A pass that can be gone back.
pub(super) struct Passed<'a> {
    pub(super) tape: &'a mut sequence::Tape,
    pub(super) prediction: &'a [f32],
    /// Room for the loss's gradient by the predictions.
    pub(super) gradient: &'a mut [f32],
}

/// A tape for so many rows and steps: the one that is there, or a larger one.
pub(super) fn fitting<'a>(
    tape: &'a mut Option<Made>,
    (network, threads): (&Network, &Threads),
    [batch, steps]: [usize; 2],
) -> Result<&'a mut sequence::Tape> {
    let made = match tape.take() {
        Some((tape, most))
            if batch <= most[0] && steps <= most[1] && tape.thread_count() == threads.count() =>
        {
            (tape, most)
        }
        old => {
            let most = old.map_or([0, 0], |(_, most)| most);
            let most = [most[0].max(batch), most[1].max(steps)];
            (sequence::Tape::new(network, threads, most[0], most[1])?, most)
        }
    };
    Ok(&mut tape.insert(made).0)
}

impl Pass {
    /// Room for predictions of this length.
    pub(super) fn room(&mut self, len: usize) -> Result<()> {
        // Each by its own length: one may be there without the other.
        for buffer in [&mut self.prediction, &mut self.gradient] {
            if buffer.len() < len {
                refill(buffer, len, 0.0)?;
            }
        }
        Ok(())
    }

    pub(super) fn forward(
        &mut self,
        model: &Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
        mode: Mode,
    ) -> Result<Passed<'_>> {
        let Examples { input, batch, steps, .. } = examples;
        let network = model.network("trainer")?;
        let len = model.output_len(batch, steps)?;
        self.room(len)?;
        let (prediction, gradient) = (&mut self.prediction[..len], &mut self.gradient[..len]);
        let call = model.checked_call(input, batch, steps, options, prediction)?;
        let tape = fitting(&mut self.tape, (network, model.threads()), [batch, steps])?;
        // Before the way forward, which multiplies by matrices of the tape's own where dropout is by gate.
        tape.repack(network)?;
        tape.forward(network, call, mode)?;
        Ok(Passed { tape, prediction, gradient })
    }
}
