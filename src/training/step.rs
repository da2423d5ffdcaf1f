//! What a step is made of: forward, loss, backward, clipping, and the weights moved, or nothing changed at
//! all.

use super::descent::{Gradients, Touched, descend, norm};
use super::examples::{counted_steps, inputs_of};
use super::output::from_logits;
use super::pass::{Passed, fitting};
use super::penalty::{penalize, penalty};
use super::score::Tally;
use super::trainer::{Buffers, Trainer};
use super::{Batch, Examples, TrainerConfig};
use crate::error::{Error, Result};
use crate::memory::{check_len, refill, zeros};
use crate::sequence::Mode;
use crate::sequential::{Padding, RunOptions, Sequential};

impl Trainer {
    pub(super) fn apply_all(&mut self, model: &mut Sequential, gradients: &[f32]) -> Result<()> {
        let Buffers { squares, gradients: values, .. } = &mut self.buffers;
        refill(values, gradients.len(), 0.0)?;
        values.copy_from_slice(gradients);
        let norm = norm(&self.arrays, values, squares);
        if !norm.is_finite() {
            return Err(Error::NotFinite(format!(
                "step {}: the norm of the gradients is {norm}; the weights are as they were",
                self.state.steps()
            )));
        }
        if self.config.lazy_embeddings {
            self.touch_rows(model, gradients)?;
        }
        let values = &mut self.buffers.gradients[..];
        let gradients =
            Gradients::clipped(&self.arrays, values, self.config.clipping, (norm, &self.buffers.squares));
        let touched = touched(&self.config, model, &self.touched)?;
        descend(&self.config, &mut self.state, model, &gradients, touched)
    }

    /// Adds the rows of the embedding whose gradients are not 0 to those that move.
    fn touch_rows(&mut self, model: &Sequential, gradients: &[f32]) -> Result<()> {
        let Some((embedding, table)) = model.network("trainer")?.embedding() else { return Ok(()) };
        let rows = gradients[..table.len()].chunks_exact(embedding.size).enumerate();
        let moved = rows.filter(|(_, row)| row.iter().any(|&gradient| gradient != 0.0));
        let rows = moved.map(|(row, _)| row as u32);
        let touched = &mut self.touched;
        touched
            .try_reserve_exact(rows.clone().count())
            .map_err(|_| Error::OutOfMemory { bytes: size_of_val(gradients) })?;
        touched.extend(rows);
        touched.sort_unstable();
        touched.dedup();
        Ok(())
    }

    /// How the next step goes forwards. Steps are counted into the seed, so that each has masks of its own
    /// and a resumed run has the same ones.
    fn mode(&self, logits: bool) -> Mode {
        let step = self.state.steps.wrapping_add(1);
        let seed = self.config.seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Mode { training: true, seed, logits }
    }

    /// Goes forwards as the next step does, for the final states alone.
    pub(super) fn advance(
        &mut self,
        model: &Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
    ) -> Result<()> {
        let mode = self.mode(false);
        self.pass.forward(model, examples, options, mode).map(|_| ())
    }

    /// A step whose loss leaves out the first `lead` steps of each row; nothing moves where a mask leaves no
    /// output to take a loss of.
    pub(super) fn update(
        &mut self,
        model: &mut Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
        lead: usize,
    ) -> Result<Tally> {
        let (tally, norm) = self.differentiate(model, examples, options, lead)?;
        let Some((tape, _)) = self.pass.tape.as_mut().filter(|_| tally.outputs > 0.0) else {
            return Ok(tally);
        };
        let values = tape.gradients_mut()?;
        let gradients =
            Gradients::clipped(&self.arrays, values, self.config.clipping, (norm, &self.buffers.squares));
        let touched = touched(&self.config, model, &self.touched)?;
        descend(&self.config, &mut self.state, model, &gradients, touched)?;
        Ok(tally)
    }

    /// Forwards, the loss, and backwards; the tape has the gradients then, those of penalties included,
    /// unless there was no output to take a loss of. All of them are finite, and their norm comes with the
    /// loss.
    pub(super) fn differentiate(
        &mut self,
        model: &Sequential,
        examples: Examples<'_>,
        options: RunOptions<'_>,
        lead: usize,
    ) -> Result<(Tally, f64)> {
        let (loss, logits) = from_logits(self.config.loss, model.layers());
        let mode = self.mode(logits);
        let Buffers { row, squares, mask, weights: weighed, .. } = &mut self.buffers;
        let Examples { batch, steps, target, weights, class_weights, .. } = examples;
        let network = model.network("trainer")?;
        let inputs = inputs_of(&options);
        let Passed { tape, prediction, gradient } = self.pass.forward(model, examples, options, mode)?;
        let columns = network.output.features;
        let mut masked = counted_steps(network, &examples, &inputs, mask)?
            || (network.output.sequence && tape.used_steps(mask)?);
        if lead > 0 {
            if !masked {
                refill(mask, batch * steps, 1)?;
                masked = true;
            }
            mask.chunks_exact_mut(steps).for_each(|row| row[..lead].fill(0));
        }
        let rows = Batch { prediction, target, columns, weights, mask: masked.then_some(&mask[..]) };
        rows.check(loss)?;
        let mut tally = Tally::new(loss);
        let outputs = rows.counted();
        if outputs == 0 {
            return Ok((tally, 0.0));
        }
        let rows = rows.weighed(loss, class_weights, weighed)?;
        let mut value = loss.evaluate_in(rows, gradient, row)?;
        tally.count_answers(loss, rows);
        tape.backward(network, gradient, None, None)?;
        let gradients = tape.gradients_mut()?;
        let penalties = (self.config.l1, self.config.l2);
        if penalties != (0.0, 0.0) {
            value += penalty(network, &self.arrays, penalties);
            penalize(network, &self.arrays, penalties, gradients);
        }
        let norm = norm(&self.arrays, gradients, squares);
        if !value.is_finite() || !norm.is_finite() {
            return Err(Error::NotFinite(format!(
                "step {}: the loss is {value} and the norm of the gradients {norm}; the weights are as they were",
                self.state.steps(),
            )));
        }
        if self.config.lazy_embeddings {
            let touched = tape.touched();
            refill(&mut self.touched, touched.len(), 0)?;
            self.touched.copy_from_slice(touched);
        }
        tally.loss = f64::from(value) * outputs as f64;
        tally.outputs = outputs as f64;
        Ok((tally, norm))
    }

    /// Checks a walk's arguments before its first piece, and makes room for windows of up to `longest` steps.
    pub(super) fn check(
        &mut self,
        model: &Sequential,
        examples: Examples<'_>,
        options: &RunOptions<'_>,
        longest: usize,
    ) -> Result<()> {
        let Examples { input, batch, steps, .. } = examples;
        let len = model.output_len(batch, steps)?;
        self.check_targets(model, examples, len)?;
        self.pass.room(len)?;
        let options = inputs_of(options);
        let padding = options.padding;
        model.checked_call(input, batch, steps, options, &mut self.pass.prediction[..len])?;
        if padding != Padding::Keras {
            return Err(Error::Unsupported("truncation: it goes with Keras's padding".into()));
        }
        fitting(&mut self.pass.tape, (model.network("trainer")?, model.threads()), [batch, longest])
            .map(|_| ())
    }

    /// Copies weights and slots, one array behind the other.
    pub(super) fn keep(&self, model: &Sequential, to: &mut Vec<f32>) -> Result<()> {
        let slots = self.state.slots.iter();
        let len = self.parameters() + slots.clone().map(|slot| slot.len()).sum::<usize>();
        if to.len() != len {
            *to = zeros(len)?;
        }
        let variables = model.network("trainer")?.layers.iter().flat_map(|layer| &layer.variables.0);
        let arrays = variables.map(|variable| variable.values()).chain(slots.map(|slot| &slot[..]));
        let mut rest = &mut to[..];
        for array in arrays {
            let (to, others) = rest.split_at_mut(array.len());
            to.copy_from_slice(array);
            rest = others;
        }
        Ok(())
    }

    /// Takes back everything since [`keep`](Self::keep) and step number `steps`.
    pub(super) fn put_back(&mut self, model: &mut Sequential, from: &[f32], steps: u64) -> Result<()> {
        let mut rest = from;
        let mut copy = |to: &mut [f32]| {
            let (from, others) = rest.split_at(to.len());
            to.copy_from_slice(from);
            rest = others;
        };
        model.update_variables(|_, _, values| copy(values))?;
        self.state.resume(steps).iter_mut().for_each(|slot| copy(slot));
        Ok(())
    }

    pub(super) fn check_targets(&self, model: &Sequential, examples: Examples<'_>, len: usize) -> Result<()> {
        let columns = model.network("trainer")?.output.features;
        let target_columns = self.config.loss.target_columns(columns);
        check_len("target", examples.target.len(), "rows x target", &[len / columns, target_columns])?;
        match examples.weights {
            Some(weights) => check_len("weights", weights.len(), "rows x outputs", &[len / columns]),
            None => Ok(()),
        }
    }

    pub(crate) fn check_shape(&self, model: &Sequential) -> Result<()> {
        let network = model.whole_network("trainer")?;
        let shapes = network.layers.iter().enumerate().flat_map(|(layer, built)| {
            let variables = built.variables.0.iter();
            variables.map(move |variable| (layer, variable.weight(), variable.values().len()))
        });
        if shapes.eq(self.arrays.iter().map(|array| (array.layer, array.which, array.len))) {
            Ok(())
        } else {
            Err(Error::InvalidArgument("the trainer was made for a model of another shape".into()))
        }
    }
}

/// The rows that alone move of an embedding, where that is so.
fn touched<'a>(config: &TrainerConfig, model: &Sequential, rows: &'a [u32]) -> Result<Option<Touched<'a>>> {
    let embedding = model.network("trainer")?.embedding().filter(|_| config.lazy_embeddings);
    Ok(embedding.map(|(embedding, _)| Touched { size: embedding.size, rows }))
}
