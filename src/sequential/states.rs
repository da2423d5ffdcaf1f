//! The states that stateful layers keep from call to call.

use std::ops::Range;

use super::Sequential;
use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::memory::{check_len, zeros};
use crate::sequence::{self, Call, Network};

/// What a child process is told whose parent was in a call of a stateful model.
pub(super) const TORN_STATES: &str = "this process was forked while another thread was in a call of this model, so the states that \
                           it keeps are lost: reset them first";

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

impl Sequential {
    /// Whether any layer keeps its states from call to call.
    pub fn is_stateful(&self) -> bool {
        self.layers.iter().any(Layer::is_stateful)
    }

    /// A call that begins with the states that the last one left, unless it is given others.
    pub(super) fn run_stateful(&self, network: &Network, call: Call<'_>) -> Result<()> {
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

    /// Runs `call` on the states that are kept for `rows` rows and on room for those it leaves, which are
    /// kept where it succeeds. The lock is held all the way: calls of one stateful model follow each other.
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

    /// Forgets the states that stateful layers keep: the next call begins with zeros, and may have another
    /// batch. Calls are predictions, training steps and evaluations alike: they all go on from the same
    /// states, as in Keras.
    pub fn reset_states(&self) {
        self.kept.replace(Kept::default());
    }

    /// The states that stateful layers keep, with the number of rows that they are of, laid out as
    /// [`RunOptions::initial_state`](super::RunOptions::initial_state) (zeros for layers that are not
    /// stateful); `None` where none are kept. With [`set_states`](Self::set_states) a run can be gone on with
    /// later.
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

    /// Has stateful layers go on from `states` of `batch` rows, as [`states`](Self::states) gives them; what
    /// is there for layers that are not stateful is ignored. Does nothing to a model without stateful layers.
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

    /// Each array of states that a stateful layer keeps: its number among all, its units, and where among the
    /// states of `rows` rows its own are.
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
}
