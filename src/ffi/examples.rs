//! Rows to learn from, as one struct: what the functions of `trainer` take one by one, and more.

use std::mem::offset_of;
use std::ptr::null;

use super::boundary::boundary;
use super::options::{Options, elman_run_options, used};
use super::raw::{Input, Output, Span, shared, unshared};
use super::sized::{fill, read_fields, size_of_given};
use super::status::{Failure, elman_status};
use super::trainer::{elman_trainer, target_shape};
use crate::sequential::{RunOptions, Sequential};
use crate::training::{Examples, Score, Trainer};

/// Rows to learn from or to be evaluated on. Fill it by elman_examples_init, then set what you use; a NULL
/// array is not used. The struct is only read during a call, and its arrays stay yours.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elman_examples {
    /// Bytes of this struct that are filled; set by elman_examples_init.
    pub struct_size: usize,
    /// [batch, steps, input_size], of a network that reads floats.
    pub x: *const f32,
    /// Elements of x.
    pub x_len: usize,
    /// [batch, steps], of a network that begins with an embedding.
    pub ids: *const i32,
    /// Elements of ids.
    pub ids_len: usize,
    /// Rows.
    pub batch: usize,
    /// Steps of a row.
    pub steps: usize,
    /// Laid out as the network's output; the sparse loss takes one class number for each row of it.
    pub target: *const f32,
    /// Elements of target.
    pub target_len: usize,
    /// How much each row counts: [batch], or [batch, steps] where the network gives sequences. What has
    /// weight 0 may have any target, and does not count in the accuracy.
    pub weights: *const f32,
    /// Elements of weights.
    pub weights_len: usize,
    /// How much each class counts, one number a class (2 for a binary cross-entropy of one column): it
    /// multiplies the weight of what has this class. Not for the mean squared error.
    pub class_weights: *const f32,
    /// Elements of class_weights: the classes.
    pub class_weights_len: usize,
    /// Masks, lengths and states of these rows; NULL: the defaults.
    pub options: *const elman_run_options,
}

const DEFAULTS: elman_examples = elman_examples {
    struct_size: size_of::<elman_examples>(),
    x: null(),
    x_len: 0,
    ids: null(),
    ids_len: 0,
    batch: 0,
    steps: 0,
    target: null(),
    target_len: 0,
    weights: null(),
    weights_len: 0,
    class_weights: null(),
    class_weights_len: 0,
    options: null(),
};

/// Fills `examples` with no rows. struct_size is `sizeof *examples` as your compiler sees it: no more bytes
/// than that are written.
///
/// Fails with INVALID_ARGUMENT where struct_size does not even hold x.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_examples_init(
    examples: *mut elman_examples,
    struct_size: usize,
) -> elman_status {
    boundary(|| {
        let least = offset_of!(elman_examples, ids);
        let defaults = |struct_size| elman_examples { struct_size, ..DEFAULTS };
        // SAFETY: struct_size bytes to write: the contract at the top of the header.
        unsafe { fill("examples", examples, struct_size, least, defaults) }
    })
}

/// elman_trainer_step on everything that `examples` says. *loss receives the batch's loss before the weights
/// moved; *accuracy and *weighted_accuracy, either of which may be NULL, what elman_trainer_evaluate_examples
/// says of them.
///
/// Fails like elman_trainer_step, and with INVALID_ARGUMENT (x and ids both given, or neither; class weights
/// of a loss without classes), LENGTH_MISMATCH and OVERLAP for the arrays of `examples`.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_step_examples(
    trainer: *mut elman_trainer,
    examples: *const elman_examples,
    loss: *mut f32,
    accuracy: *mut f32,
    weighted_accuracy: *mut f32,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_trainer { trainer, network } = unsafe { unshared("trainer", trainer) }?;
        let mut network = network.write()?;
        let places = ScorePlaces::new(loss, accuracy, weighted_accuracy)?;
        // SAFETY: readable for its struct_size bytes: the contract at the top of the header.
        let given = unsafe { Checked::read(examples, trainer, &network) }?;
        given.apart_from(&places)?;
        // SAFETY: as long as C says: the contract at the top of the header; apart, checked above.
        let (examples, options) = unsafe { given.into_examples() };
        let score = trainer.step_scored(&mut network, examples, options)?;
        // SAFETY: valid for writes: the contract at the top of the header; apart, checked above.
        unsafe { places.put(score) }
    })
}

/// How good the network is on everything that `examples` says. *loss receives what a step's would be, over
/// any number of rows, without dropout and with no weight moved; stateful layers go on from where the last
/// call ended, and leave their states to the next.
///
/// *accuracy receives the share of right answers: the class of the largest prediction (the first of several),
/// or a probability on the right side of one half. What is masked or has weight 0 does not count.
/// *weighted_accuracy receives the sum of weight x rightness divided by the sum of the weights, class weights
/// included. Both are a NaN for the mean squared error, which knows no right answer, and 0 where nothing
/// counts; either place may be NULL.
///
/// Fails like elman_trainer_step_examples, but for NOT_FINITE: a loss that is a NaN or an infinity is given
/// as it is.
///
/// Threads: any number at once on one trainer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_evaluate_examples(
    trainer: *const elman_trainer,
    examples: *const elman_examples,
    loss: *mut f32,
    accuracy: *mut f32,
    weighted_accuracy: *mut f32,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let elman_trainer { trainer, network } = unsafe { shared("trainer", trainer) }?;
        let network = network.read()?;
        let places = ScorePlaces::new(loss, accuracy, weighted_accuracy)?;
        // SAFETY: readable for its struct_size bytes: the contract at the top of the header.
        let given = unsafe { Checked::read(examples, trainer, &network) }?;
        given.apart_from(&places)?;
        // SAFETY: as long as C says: the contract at the top of the header; apart, checked above.
        let (examples, options) = unsafe { given.into_examples() };
        let score = trainer.evaluate_with(&network, examples, options)?;
        // SAFETY: valid for writes: the contract at the top of the header; apart, checked above.
        unsafe { places.put(score) }
    })
}

/// Where a score goes.
pub(super) struct ScorePlaces {
    loss: Output<f32>,
    accuracy: Option<Output<f32>>,
    weighted_accuracy: Option<Output<f32>>,
}

impl ScorePlaces {
    pub(super) fn new(
        loss: *mut f32,
        accuracy: *mut f32,
        weighted_accuracy: *mut f32,
    ) -> Result<Self, Failure> {
        let place =
            |what, place: *mut f32| (!place.is_null()).then(|| Output::new(what, place, 1)).transpose();
        let places = Self {
            loss: Output::new("loss", loss, 1)?,
            accuracy: place("accuracy", accuracy)?,
            weighted_accuracy: place("weighted_accuracy", weighted_accuracy)?,
        };
        for place in places.optional() {
            place.apart_from(places.loss.span())?;
        }
        if let (Some(accuracy), Some(weighted)) = (&places.accuracy, &places.weighted_accuracy) {
            weighted.apart_from(accuracy.span())?;
        }
        Ok(places)
    }

    fn optional(&self) -> impl Iterator<Item = &Output<f32>> {
        [&self.accuracy, &self.weighted_accuracy].into_iter().flatten()
    }

    pub(super) fn apart_from(&self, span: Span) -> Result<(), Failure> {
        self.loss.apart_from(span)?;
        self.optional().try_for_each(|place| place.apart_from(span))
    }

    /// # Safety
    /// The places are valid for writes, and share no memory with each other.
    pub(super) unsafe fn put(self, score: Score) -> Result<(), Failure> {
        let Self { loss, accuracy, weighted_accuracy } = self;
        let optional = [(accuracy, score.accuracy), (weighted_accuracy, score.weighted_accuracy)];
        // SAFETY: the caller's duty is the same.
        unsafe {
            loss.copy_from("one", &[1], &[score.loss])?;
            for (place, share) in optional {
                place.map_or(Ok(()), |place| place.copy_from("one", &[1], &[share.unwrap_or(f32::NAN)]))?;
            }
        }
        Ok(())
    }
}

enum Rows {
    Floats(Input<f32>),
    Tokens(Input<i32>),
}

/// [`elman_examples`] whose every length fits.
pub(super) struct Checked {
    rows: Rows,
    sizes: (usize, usize),
    target: Input<f32>,
    weights: Option<Input<f32>>,
    class_weights: Option<Input<f32>>,
    options: Options,
}

impl Checked {
    /// # Safety
    /// `examples` is NULL or points to as many readable bytes as its first field says, and so do its options.
    pub(super) unsafe fn read(
        examples: *const elman_examples,
        trainer: &Trainer,
        network: &Sequential,
    ) -> Result<Self, Failure> {
        // SAFETY: the caller's duty is the same.
        let struct_size = unsafe { size_of_given("examples", examples, offset_of!(elman_examples, ids)) }?;
        let mut given = DEFAULTS;
        read_fields!(examples, struct_size, given: elman_examples {
            x, x_len, ids, ids_len, batch, steps, target, target_len, weights, weights_len, class_weights,
            class_weights_len, options,
        });
        let elman_examples { batch, steps, .. } = given;
        let (outputs, columns) = target_shape(trainer, network, (batch, steps))?;
        let x = used("x", given.x, given.x_len)?;
        let ids = used("ids", given.ids, given.ids_len)?;
        let features = [batch, steps, network.input_size()];
        let rows = match (x, ids) {
            (Some((x, len)), None) => {
                Rows::Floats(Input::new("x", x, len)?.expect("batch x steps x input_size", &features)?)
            }
            (None, Some((ids, len))) => {
                Rows::Tokens(Input::new("ids", ids, len)?.expect("batch x steps", &[batch, steps])?)
            }
            (Some(_), Some(_)) => {
                return Err(Failure::invalid("x and ids exclude each other: give one".to_owned()));
            }
            (None, None) => return Err(Failure::null("x (or ids)")),
        };
        let target = Input::new("target", given.target, given.target_len)?;
        let weights = used("weights", given.weights, given.weights_len)?
            .map(|(start, len)| Input::new("weights", start, len)?.expect("rows x outputs", &[outputs]));
        let class_weights = used("class_weights", given.class_weights, given.class_weights_len)?
            .map(|(start, len)| Input::new("class_weights", start, len));
        Ok(Self {
            rows,
            sizes: (batch, steps),
            target: target.expect("rows x target columns", &[outputs, columns])?,
            weights: weights.transpose()?,
            class_weights: class_weights.transpose()?,
            // SAFETY: the caller's duty is the same.
            options: unsafe { Options::read(given.options, network, batch, steps) }?,
        })
    }

    fn spans(&self) -> impl Iterator<Item = Span> {
        let rows = match &self.rows {
            Rows::Floats(x) => x.span(),
            Rows::Tokens(ids) => ids.span(),
        };
        let optional = [&self.weights, &self.class_weights].into_iter().flatten();
        [rows, self.target.span()].into_iter().chain(optional.map(Input::span))
    }

    /// Checks that the score and the final states share no memory with an array of the rows, nor with each
    /// other.
    fn apart_from(&self, places: &ScorePlaces) -> Result<(), Failure> {
        for span in self.spans() {
            places.apart_from(span)?;
            for place in places.optional().chain([&places.loss]) {
                self.options.check_overlap(span, place)?;
            }
        }
        Ok(())
    }

    /// # Safety
    /// The arrays are as long as C said, nobody writes them and nobody else uses the final state during the
    /// call; and [`apart_from`](Self::apart_from) found nothing, where there are final states.
    pub(super) unsafe fn into_examples<'a>(self) -> (Examples<'a>, RunOptions<'a>) {
        let (batch, steps) = self.sizes;
        // SAFETY: the caller's duty is the same for each.
        unsafe {
            let target = self.target.slice();
            let mut examples = match self.rows {
                Rows::Floats(x) => Examples::new(x.slice(), batch, steps, target),
                Rows::Tokens(ids) => Examples::new(ids.slice(), batch, steps, target),
            };
            if let Some(weights) = self.weights {
                examples = examples.weights(weights.slice());
            }
            if let Some(class_weights) = self.class_weights {
                examples = examples.class_weights(class_weights.slice());
            }
            (examples, self.options.into_run_options())
        }
    }

    /// Rows of which no final states are asked.
    ///
    /// # Safety
    /// The arrays are as long as C said, and nobody writes them as long as the rows are used.
    pub(super) unsafe fn into_rows<'a>(self) -> Result<Examples<'a>, Failure> {
        // SAFETY: the caller's duty is the same; final states are refused before they are used.
        let (mut examples, options) = unsafe { self.into_examples() };
        let RunOptions { mask, lengths, padding, initial_state, final_state } = options;
        if final_state.is_some() {
            return Err(Failure::invalid("final_state: rows in several batches have none".to_owned()));
        }
        examples = examples.padding(padding);
        if let Some(mask) = mask {
            examples = examples.mask(mask);
        }
        if let Some(lengths) = lengths {
            examples = examples.lengths(lengths);
        }
        if let Some(states) = initial_state {
            examples = examples.initial_state(states);
        }
        Ok(examples)
    }
}
