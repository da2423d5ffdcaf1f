//! Rows to learn from, with everything that belongs to them.

use crate::error::{Error, Result};
use crate::memory::refill;
use crate::sequence::{Input, Network};
use crate::sequential::{Padding, RunOptions};

/// Inputs with what the model should say to them; and where they are not plain rows of full length, their
/// masks or lengths, their initial states, and how much each counts.
///
/// ```
/// use elman::Examples;
///
/// let (x, target) = ([0.5; 2 * 4 * 3], [1.0, 0.0]); // two rows of up to four steps
/// let examples = Examples::new(&x, 2, 4, &target).lengths(&[4, 2]).weights(&[1.0, 0.5]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Examples<'a> {
    pub(super) input: Input<'a>,
    pub(super) batch: usize,
    pub(super) steps: usize,
    pub(super) target: &'a [f32],
    pub(super) weights: Option<&'a [f32]>,
    pub(super) class_weights: Option<&'a [f32]>,
    pub(super) rows: Rows<'a>,
}

/// What [`RunOptions`] says about the input.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rows<'a> {
    pub(super) mask: Option<&'a [u8]>,
    pub(super) lengths: Option<&'a [usize]>,
    pub(super) padding: Option<Padding>,
    pub(super) initial_state: Option<&'a [f32]>,
}

impl<'a> Examples<'a> {
    /// `x`, floats `[batch, steps, features]` or token ids `[batch, steps]`, with targets `[batch, columns]`, or
    /// `[batch, steps, columns]` where the model gives sequences; the sparse loss takes one class number in
    /// place of the columns.
    pub fn new(x: impl Into<Input<'a>>, batch: usize, steps: usize, target: &'a [f32]) -> Self {
        let input = x.into();
        Self { input, batch, steps, target, weights: None, class_weights: None, rows: Rows::default() }
    }

    /// [`new`](Self::new) under another name.
    pub fn floats(x: &'a [f32], batch: usize, steps: usize, target: &'a [f32]) -> Self {
        Self::new(x, batch, steps, target)
    }

    /// [`new`](Self::new) under another name.
    pub fn tokens(ids: &'a [i32], batch: usize, steps: usize, target: &'a [f32]) -> Self {
        Self::new(ids, batch, steps, target)
    }

    /// How much each row counts, `[batch]`, or each step of each row, `[batch, steps]`, where the model gives
    /// sequences.
    ///
    /// The loss is the sum of weight · loss over what a mask lets through, divided by its number and not by
    /// the weights' sum, as in Keras. What has weight 0 may have any target, and does not count in the
    /// accuracy.
    pub fn weights(self, weights: &'a [f32]) -> Self {
        Self { weights: Some(weights), ..self }
    }

    /// How much each class counts, one number a class: Keras's `class_weight`. Each output's weight is
    /// multiplied by that of its class: the class number, the largest target of its row, or for a binary
    /// cross-entropy of one column 1 where the target is above one half and else 0.
    pub fn class_weights(self, class_weights: &'a [f32]) -> Self {
        Self { class_weights: Some(class_weights), ..self }
    }

    /// Which steps count, as [`RunOptions::mask`].
    pub fn mask(mut self, mask: &'a [u8]) -> Self {
        self.rows.mask = Some(mask);
        self
    }

    /// How many steps of each row count, as [`RunOptions::lengths`].
    pub fn lengths(mut self, lengths: &'a [usize]) -> Self {
        self.rows.lengths = Some(lengths);
        self
    }

    /// What masked steps emit, as [`RunOptions::padding`].
    pub fn padding(mut self, padding: Padding) -> Self {
        self.rows.padding = Some(padding);
        self
    }

    /// The states before the first step, as [`RunOptions::initial_state`].
    pub fn initial_state(mut self, states: &'a [f32]) -> Self {
        self.rows.initial_state = Some(states);
        self
    }

    /// The options of a call on these rows: their own, and those that the call is given.
    pub(super) fn options_with<'o>(&self, given: RunOptions<'o>) -> Result<RunOptions<'o>>
    where
        'a: 'o,
    {
        let RunOptions { mask, lengths, padding, initial_state, final_state } = given;
        let Rows { mask: own_mask, lengths: own_lengths, padding: own_padding, initial_state: own_state } =
            self.rows;
        for (what, twice) in [
            ("mask", mask.is_some() && own_mask.is_some()),
            ("lengths", lengths.is_some() && own_lengths.is_some()),
            ("padding", padding != Padding::default() && own_padding.is_some()),
            ("initial_state", initial_state.is_some() && own_state.is_some()),
        ] {
            if twice {
                return Err(Error::InvalidArgument(format!(
                    "{what} is given twice: by the examples and by the options"
                )));
            }
        }
        Ok(RunOptions {
            mask: mask.or(own_mask),
            lengths: lengths.or(own_lengths),
            padding: own_padding.unwrap_or(padding),
            initial_state: initial_state.or(own_state),
            final_state,
        })
    }
}

/// The options again, but for the final states.
pub(super) fn inputs_of<'o>(options: &RunOptions<'o>) -> RunOptions<'o> {
    let &RunOptions { mask, lengths, padding, initial_state, .. } = options;
    RunOptions { mask, lengths, padding, initial_state, final_state: None }
}

/// Which steps of a network without a recurrent layer count, `[batch, steps]`: nothing skips a step there,
/// and the loss leaves out the masked ones all the same, as in Keras. False where all of them count, or where
/// there is a recurrent layer, which says itself what it skips.
pub(super) fn counted_steps(
    network: &Network,
    examples: &Examples<'_>,
    options: &RunOptions<'_>,
    counted: &mut Vec<u8>,
) -> Result<bool> {
    let &Examples { input, batch, steps, .. } = examples;
    let tokens = match (input, network.embedding()) {
        (Input::Tokens(ids), Some((embedding, _))) if embedding.mask_zero => Some(ids),
        _ => None,
    };
    let &RunOptions { mask, lengths, .. } = options;
    let given = mask.is_some() || lengths.is_some() || tokens.is_some();
    if !given || !network.output.sequence || network.recurrent().next().is_some() {
        return Ok(false);
    }
    refill(counted, batch * steps, 1)?;
    for (i, counted) in counted.iter_mut().enumerate() {
        let used = mask.is_none_or(|mask| mask[i] != 0)
            && lengths.is_none_or(|lengths| i % steps < lengths[i / steps])
            && tokens.is_none_or(|ids| ids[i] != 0);
        *counted = u8::from(used);
    }
    Ok(true)
}
