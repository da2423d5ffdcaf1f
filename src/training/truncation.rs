//! Truncated backward through time: a long sequence is walked in pieces, and gradients run back a bounded
//! way.

use std::ops::Range;

use super::examples::Rows;
use super::score::Tally;
use super::{Examples, Trainer};
use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::memory::zeros;
use crate::sequence::Input;
use crate::sequential::{RunOptions, Sequential};

/// Truncated backward through time: each `every` steps (often called k1) have a loss and an update of their
/// own, and gradients run back over these steps and the `back - every` before them (`back` is often called
/// k2). The tape is only as long as `back` steps.
///
/// Exactly: the piece that begins at step `s` ends at `e`, `every` steps later or with the sequence. Its
/// window begins at `b`, `back - every` steps before `s` or with the sequence.
/// 1. The model runs over `b..e` from the states at `b`, with the weights as they are now.
/// 2. The loss is the mean over the outputs of `s..e` that a mask lets through; a piece without any moves
///    nothing. Its gradients run back to `b`, the states there being constants, and the weights move: a step
///    of the optimizer, of the schedule and of the dropout seed.
///
/// The first window begins with the initial states. The states at the beginning of a later one are those
/// after as many steps of the window before, as that window's weights and dropout seed give them.
///
/// With `back` equal to `every` a walk has the bits of one [`Trainer::step`] for each piece, a piece's final
/// states being the next one's initial states.
///
/// ```
/// use elman::{Examples, Loss, Optimizer, Sequential, SimpleRnn, Trainer, TrainerConfig, Truncation};
///
/// # fn main() -> Result<(), elman::Error> {
/// let mut model = Sequential::new(1).add(SimpleRnn::new(1).return_sequences(true)).build(1)?;
/// let config = TrainerConfig::new(Optimizer::sgd(), Loss::MeanSquaredError).truncation(Truncation::new(10, 30));
/// let mut trainer = Trainer::new(&model, config)?;
/// trainer.step(&mut model, Examples::new(&[0.5; 100], 1, 100, &[0.25; 100]), Default::default())?;
/// assert_eq!(trainer.steps(), 10); // one for each piece of ten
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "files", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "files", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Truncation {
    /// Steps of a piece, at least 1.
    pub every: usize,
    /// Steps that gradients run back from a piece's end, at least `every`.
    pub back: usize,
}

impl Truncation {
    /// An update each `every` steps, its gradients running back over `back` steps.
    pub fn new(every: usize, back: usize) -> Self {
        Self { every, back }
    }

    pub(super) fn validate(&self, model: &Sequential) -> Result<()> {
        let Self { every, back } = *self;
        if every == 0 || back < every {
            return Err(Error::InvalidArgument(format!(
                "truncation needs pieces of at least 1 step, and at least as many steps back, got every {every} and \
                 back {back}"
            )));
        }
        let unsupported = |why: String| Err(Error::Unsupported(format!("truncation: {why}")));
        for (i, layer) in model.layers().iter().enumerate() {
            match layer {
                Layer::Bidirectional(_) => return unsupported(format!("layer {i} is bidirectional")),
                Layer::Recurrent(rnn) if rnn.options().go_backwards => {
                    return unsupported(format!("layer {i} has go_backwards"));
                }
                _ => {}
            }
        }
        if !model.network("trainer")?.output.sequence {
            return unsupported("the model gives its last output only, and each piece needs a loss".into());
        }
        Ok(())
    }

    /// The pieces of a sequence: each one's window, and the steps in it before the piece.
    fn pieces(self, steps: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
        let starts = (0..steps).step_by(self.every);
        starts.map(move |start| {
            let begin = start.saturating_sub(self.back - self.every);
            (begin..start.saturating_add(self.every).min(steps), start - begin)
        })
    }
}

/// What a walk keeps from piece to piece, and its buffers from call to call.
#[derive(Debug, Default)]
pub(super) struct Walk {
    part: Part,
    /// At the window's beginning, at the next one's, and at the window's end.
    states: [Vec<f32>; 3],
    /// Weights and slots as they were before the first piece.
    before: Vec<f32>,
}

/// Some steps of every row, side by side.
#[derive(Debug, Default)]
struct Part {
    floats: Vec<f32>,
    ids: Vec<i32>,
    target: Vec<f32>,
    weights: Vec<f32>,
    mask: Vec<u8>,
    lengths: Vec<usize>,
}

impl Part {
    fn cut<'a>(
        &'a mut self,
        whole: Examples<'a>,
        options: &RunOptions<'_>,
        window: &Range<usize>,
    ) -> Result<(Examples<'a>, RunOptions<'a>)> {
        let Examples { input, batch, steps, target, weights, class_weights, .. } = whole;
        let sizes = (batch, steps);
        let examples = Examples {
            input: match input {
                Input::Floats(x) => Input::Floats(cut(&mut self.floats, x, sizes, window)?),
                Input::Tokens(ids) => Input::Tokens(cut(&mut self.ids, ids, sizes, window)?),
            },
            batch,
            steps: window.len(),
            target: cut(&mut self.target, target, sizes, window)?,
            weights: weights.map(|weights| cut(&mut self.weights, weights, sizes, window)).transpose()?,
            class_weights,
            rows: Rows::default(),
        };
        let mask = options.mask.map(|mask| cut(&mut self.mask, mask, sizes, window)).transpose()?;
        let lengths = match options.lengths {
            Some(lengths) => {
                make_room(&mut self.lengths, batch)?;
                self.lengths.extend(
                    lengths.iter().map(|length| length.saturating_sub(window.start).min(window.len())),
                );
                Some(&self.lengths[..])
            }
            None => None,
        };
        Ok((examples, RunOptions { mask, lengths, ..RunOptions::default() }))
    }
}

/// The steps of `window` out of each row of `[batch, steps, ...]`.
fn cut<'a, T: Copy>(
    to: &'a mut Vec<T>,
    from: &[T],
    (batch, steps): (usize, usize),
    window: &Range<usize>,
) -> Result<&'a [T]> {
    let row = from.len() / batch;
    let step = row / steps;
    make_room(to, batch * window.len() * step)?;
    for row in from.chunks_exact(row) {
        to.extend_from_slice(&row[window.start * step..window.end * step]);
    }
    Ok(to)
}

/// Empties a buffer that is about to take `len` elements.
fn make_room<T>(buffer: &mut Vec<T>, len: usize) -> Result<()> {
    buffer.clear();
    buffer
        .try_reserve_exact(len)
        .map_err(|_| Error::OutOfMemory { bytes: len.saturating_mul(size_of::<T>()) })
}

impl Trainer {
    /// A step for each piece of `examples`: all of them, or none.
    pub(super) fn walk(
        &mut self,
        model: &mut Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
        truncation: Truncation,
    ) -> Result<Tally> {
        self.check(model, examples, &options, truncation.back.min(examples.steps))?;
        let mut walk = std::mem::take(&mut self.walk);
        let steps = self.steps();
        let outcome = self
            .keep(model, &mut walk.before)
            .and_then(|()| self.walk_pieces(model, examples, options, truncation, &mut walk));
        let undone = match outcome {
            Err(_) if self.steps() > steps => self.put_back(model, &walk.before, steps),
            _ => Ok(()),
        };
        self.walk = walk;
        undone.and(outcome)
    }

    fn walk_pieces(
        &mut self,
        model: &mut Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
        truncation: Truncation,
        walk: &mut Walk,
    ) -> Result<Tally> {
        let len = model.state_len(examples.batch)?;
        for state in &mut walk.states {
            if state.len() != len {
                *state = zeros(len)?;
            }
        }
        let Walk { part, states: [begin, next, end], .. } = walk;
        match options.initial_state {
            Some(given) => begin.copy_from_slice(given),
            None => begin.fill(0.0),
        }
        let mut tally = Tally::new(self.config.loss);
        let mut pieces = truncation.pieces(examples.steps).peekable();
        while let Some((window, lead)) = pieces.next() {
            let next_begin = pieces.peek().map_or(window.end, |(next, _)| next.start);
            // Before the weights move.
            if next_begin > window.start && next_begin < window.end {
                let (examples, options) = part.cut(examples, &options, &(window.start..next_begin))?;
                let states = RunOptions { initial_state: Some(begin), final_state: Some(next), ..options };
                self.advance(model, examples, states)?;
            }
            let (examples, options) = part.cut(examples, &options, &window)?;
            let states = RunOptions { initial_state: Some(begin), final_state: Some(end), ..options };
            tally.add(self.update(model, examples, states, lead)?);
            if next_begin == window.end {
                std::mem::swap(begin, end);
            } else if next_begin > window.start {
                std::mem::swap(begin, next);
            }
        }
        if let Some(state) = options.final_state {
            // The last window had no next one.
            state.copy_from_slice(begin);
        }
        Ok(tally)
    }
}
