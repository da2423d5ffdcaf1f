//! How good a model is, without dropout and with nothing moved.

use super::examples::{counted_steps, inputs_of};
use super::output::from_logits;
use super::score::Tally;
use super::{Batch, Examples, Score, Trainer};
use crate::error::Result;
use crate::memory::zeros;
use crate::sequence::{self, Input, Mode, Network};
use crate::sequential::{RunOptions, Sequential};

/// Rows at a time: enough to fill the kernels' tiles, few enough that the buffers stay small.
const ROWS: usize = 128;

impl Trainer {
    /// Loss, penalties included, and accuracy of a model as it is, without dropout.
    ///
    /// Stateful layers go on from where the last call ended and leave their states to the next, as in Keras.
    /// Where masks leave no output to take a loss of, it is 0, but for penalties.
    ///
    /// # Errors
    /// As [`step`](Self::step), but for [`Error::NotFinite`](crate::Error::NotFinite): a loss that is a NaN
    /// or an infinity is given as it is.
    pub fn evaluate(&self, model: &Sequential, examples: Examples<'_>) -> Result<Score> {
        self.evaluate_with(model, examples, RunOptions::default())
    }

    /// [`evaluate`](Self::evaluate) with masks, lengths and states, as a step takes them. `options` add to
    /// what `examples` say of themselves.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn evaluate_with(
        &self,
        model: &Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
    ) -> Result<Score> {
        let mut score = self.tally(model, examples, options)?.score();
        score.loss += self.penalty(model.network("trainer")?);
        Ok(score)
    }

    /// Without the penalties.
    pub(super) fn tally(
        &self,
        model: &Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
    ) -> Result<Tally> {
        self.check_shape(model)?;
        let options = examples.options_with(options)?;
        // Checked whole, so that a wrong length is told of the whole.
        let Examples { input, batch, steps, .. } = examples;
        let len = model.checked_output(input, batch, steps)?;
        self.check_targets(model, examples, len)?;
        model.check_options(batch, steps, &options)?;
        if !model.is_stateful() {
            return self.tally_from(model, examples, options);
        }
        model.with_kept_states(batch, |kept, next| {
            let initial_state = options.initial_state.or(Some(kept));
            let inputs = inputs_of(&options);
            let final_state = options.final_state;
            let options = RunOptions { initial_state, final_state: Some(&mut *next), ..inputs };
            let tally = self.tally_from(model, examples, options)?;
            if let Some(wanted) = final_state {
                wanted.copy_from_slice(next);
            }
            Ok(tally)
        })
    }

    /// From the states of the options, or from zeros.
    fn tally_from(
        &self,
        model: &Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
    ) -> Result<Tally> {
        let Examples { input, batch, steps, target, weights, class_weights, .. } = examples;
        let network = model.network("trainer")?;
        let len = model.output_len(batch, steps)?;
        let most = batch.min(ROWS);
        let (mut prediction, mut gradient) = (zeros(len / batch * most)?, zeros(len / batch * most)?);
        let (mut row, mut weighed, mut used) = (Vec::new(), Vec::new(), Vec::new());
        let RunOptions { mask, lengths, padding, initial_state, mut final_state } = options;
        let (loss, logits) = from_logits(self.config().loss, model.layers());
        let mut tape = sequence::Tape::new(network, model.threads(), most, steps)?;
        let mut states = [zeros(model.state_len(most)?)?, zeros(model.state_len(most)?)?];
        let mut tally = Tally::new(loss);
        for first in (0..batch).step_by(most) {
            let rows = most.min(batch - first);
            let here = first..first + rows;
            let part = |len: usize| first * (len / batch)..(first + rows) * (len / batch);
            let prediction = &mut prediction[..rows * (len / batch)];
            let gradient = &mut gradient[..prediction.len()];
            let [begin, end] = &mut states;
            let state_len = model.state_len(rows)?;
            let initial_state = initial_state.map(|all| {
                each_block(network, batch, &here, |whole, part| begin[part].copy_from_slice(&all[whole]));
                &begin[..state_len]
            });
            let options = RunOptions {
                mask: mask.map(|mask| &mask[part(mask.len())]),
                lengths: lengths.map(|lengths| &lengths[here.clone()]),
                padding,
                initial_state,
                final_state: final_state.is_some().then_some(&mut end[..state_len]),
            };
            let input = match input {
                Input::Floats(x) => Input::Floats(&x[part(x.len())]),
                Input::Tokens(ids) => Input::Tokens(&ids[part(ids.len())]),
            };
            let part_of = Examples { input, batch: rows, ..examples };
            let counted = counted_steps(network, &part_of, &options, &mut used)?;
            let call = model.checked_call(input, rows, steps, options, prediction)?;
            tape.forward(network, call, Mode { logits, ..Mode::default() })?;
            if let Some(all) = &mut final_state {
                each_block(network, batch, &here, |whole, part| all[whole].copy_from_slice(&end[part]));
            }
            let masked = counted || (network.output.sequence && tape.used_steps(&mut used)?);
            let outputs = Batch {
                prediction,
                target: &target[part(target.len())],
                columns: network.output.features,
                weights: weights.map(|weights| &weights[part(weights.len())]),
                mask: masked.then_some(&used[..]),
            };
            let outputs = outputs.weighed(loss, class_weights, &mut weighed)?;
            let mut here = Tally::new(loss);
            here.outputs = outputs.counted() as f64;
            here.loss = f64::from(loss.evaluate_in(outputs, gradient, &mut row)?) * here.outputs;
            here.count_answers(loss, outputs);
            tally.add(here);
        }
        Ok(tally)
    }
}

/// Calls `copy` with where the states of some rows stand among those of `batch` rows, and where among those
/// of these rows alone, array by array.
pub(super) fn each_block(
    network: &Network,
    batch: usize,
    rows: &std::ops::Range<usize>,
    mut copy: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>),
) {
    let mut base = 0;
    for (_, units) in network.state_arrays() {
        let start = base * batch + rows.start * units;
        let len = rows.len() * units;
        copy(start..start + len, base * rows.len()..base * rows.len() + len);
        base += units;
    }
}
