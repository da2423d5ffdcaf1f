//! Rows with their targets.

use crate::ffi::arrays::{Element, Given};
use crate::ffi::raw::{Input, Span};
use crate::ffi::status::Failure;
use crate::sequential::Sequential;
use crate::training::{Examples, Trainer};

/// Rows with their targets, as C hands them over.
pub(super) struct GivenRows<T> {
    x: Given<T>,
    pub(super) sizes: (usize, usize),
    target: Given<f32>,
    /// Where there are any.
    weights: Option<Given<f32>>,
}

/// How many outputs a batch has, and how many target numbers each.
pub(in crate::ffi) fn target_shape(
    trainer: &Trainer,
    network: &Sequential,
    (batch, steps): (usize, usize),
) -> Result<(usize, usize), Failure> {
    let columns = network.network("trainer")?.output.features;
    let outputs = network.output_len(batch, steps)? / columns;
    Ok((outputs, trainer.config().loss.target_columns(columns)))
}

/// [`GivenRows`] whose every length fits.
pub(super) struct Rows<T> {
    x: Input<T>,
    sizes: (usize, usize),
    target: Input<f32>,
    weights: Option<Input<f32>>,
}

impl<T: Element> GivenRows<T> {
    pub(super) fn new(x: Given<T>, sizes: (usize, usize), target: Given<f32>) -> Self {
        Self { x, sizes, target, weights: None }
    }

    pub(super) fn weighted(self, weights: Option<Given<f32>>) -> Self {
        Self { weights, ..self }
    }

    pub(super) fn check(self, trainer: &Trainer, network: &Sequential) -> Result<Rows<T>, Failure> {
        let (batch, steps) = self.sizes;
        let x = T::input(self.x)?;
        let target = Input::new("target", self.target.0, self.target.1)?;
        let weights = self.weights.map(|(start, len)| Input::new("weights", start, len)).transpose()?;
        let (outputs, target_columns) = target_shape(trainer, network, (batch, steps))?;
        let target = target.expect("rows x target columns", &[outputs, target_columns])?;
        let weights = weights.map(|weights| weights.expect("rows x outputs", &[outputs])).transpose()?;
        Ok(Rows { x: T::expect(x, network, self.sizes)?, sizes: self.sizes, target, weights })
    }
}

impl<T: Element> Rows<T> {
    pub(super) fn spans(&self) -> impl Iterator<Item = Span> {
        let weights = self.weights.as_ref().map(Input::span);
        [self.x.span(), self.target.span()].into_iter().chain(weights)
    }

    /// # Safety
    /// The arrays are as long as C said, and nobody writes them during the call.
    pub(super) unsafe fn examples<'a>(&self) -> Examples<'a> {
        // SAFETY: the caller's duty is the same for each.
        let (x, target, weights) = unsafe {
            (self.x.slice(), self.target.slice(), self.weights.as_ref().map(|weights| weights.slice()))
        };
        let examples = Examples::new(T::values(x), self.sizes.0, self.sizes.1, target);
        weights.map_or(examples, |weights| examples.weights(weights))
    }
}
