//! What goes into a network and what comes out: the same checks for floats and for token ids.

use super::options::{Options, elman_run_options};
use super::raw::{Input, Output};
use super::status::Failure;
use crate::sequential::{self, RunOptions, Sequential};

/// An array as C hands it over.
pub(super) type Given<T> = (*const T, usize);

/// What a network reads: floats, or token ids.
pub(super) trait Element: Sized + 'static {
    /// Begins to look at an array of these.
    fn input(given: Given<Self>) -> Result<Input<Self>, Failure>;

    /// Checks the length of `batch` rows of `steps`.
    fn expect(x: Input<Self>, network: &Sequential, sizes: (usize, usize)) -> Result<Input<Self>, Failure>;

    /// The same as the crate's input.
    fn values(x: &[Self]) -> sequential::Input<'_>;
}

impl Element for f32 {
    fn input((start, len): Given<Self>) -> Result<Input<Self>, Failure> {
        Input::new("x", start, len)
    }

    fn expect(
        x: Input<Self>,
        network: &Sequential,
        (batch, steps): (usize, usize),
    ) -> Result<Input<Self>, Failure> {
        x.expect("batch x steps x input_size", &[batch, steps, network.input_size()])
    }

    fn values(x: &[Self]) -> sequential::Input<'_> {
        x.into()
    }
}

impl Element for i32 {
    fn input((start, len): Given<Self>) -> Result<Input<Self>, Failure> {
        Input::new("ids", start, len)
    }

    fn expect(
        ids: Input<Self>,
        _: &Sequential,
        (batch, steps): (usize, usize),
    ) -> Result<Input<Self>, Failure> {
        ids.expect("batch x steps", &[batch, steps])
    }

    fn values(ids: &[Self]) -> sequential::Input<'_> {
        ids.into()
    }
}

/// The arrays of a run, every length and overlap of which has been checked.
pub(super) struct Arrays<'a, T> {
    pub(super) x: &'a [T],
    pub(super) y: &'a mut [f32],
    pub(super) options: RunOptions<'a>,
}

impl<T: Element> Arrays<'_, T> {
    /// # Safety
    /// What the header asks of its callers.
    pub(super) unsafe fn read(
        network: &Sequential,
        x: Given<T>,
        (batch, steps): (usize, usize),
        options: *const elman_run_options,
        (y, y_len): (*mut f32, usize),
    ) -> Result<Self, Failure> {
        let x = T::input(x)?;
        let y = Output::new("y", y, y_len)?;
        let outputs = network.output_len(batch, steps)?;
        // The input goes first: where a product of sizes overflows it does so there.
        let x = T::expect(x, network, (batch, steps))?;
        let y = y.expect("output_len", &[outputs])?;
        // Of the smallest runs, looking through options that are not there would be a tenth.
        if options.is_null() {
            y.apart_from(x.span())?;
            // SAFETY: as long as C says: the caller's duty; apart, checked above.
            return Ok(unsafe { Self { x: x.slice(), y: y.slice(), options: RunOptions::default() } });
        }
        // SAFETY: readable for its struct_size bytes: the caller's duty.
        let options = unsafe { Options::read(options, network, batch, steps) }?;
        options.check_overlap(x.span(), &y)?;
        // SAFETY: as long as C says: the caller's duty; apart, checked above.
        Ok(unsafe { Self { x: x.slice(), y: y.slice(), options: options.into_run_options() } })
    }
}
