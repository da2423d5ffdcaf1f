//! From gradients to weights: clipped, tried, and then all of them moved, or none.

use std::ops::Range;

use super::optimizer::{OptimizerState, Rule, SLOTS, largest_magnitude};
use super::{Clipping, TrainerConfig};
use crate::error::{Error, Result};
use crate::layers::Weight;
use crate::sequence::{Network, clip_factor, scale, sum_of_squares};
use crate::sequential::Sequential;

/// One array of parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Array {
    pub(super) layer: usize,
    pub(super) which: Weight,
    pub(super) len: usize,
    /// Whether steps move it.
    pub(super) trainable: bool,
    /// Whether an optimizer's weight decay acts on it.
    pub(super) decays: bool,
}

/// The gradients of a step, in bounds.
pub(super) struct Gradients<'a> {
    arrays: &'a [Array],
    values: &'a [f32],
    /// No value is larger.
    bound: f64,
}

impl<'a> Gradients<'a> {
    /// Clips `values`, one array behind the other. They come with what [`norm`] has found of them.
    pub(super) fn clipped(
        arrays: &'a [Array],
        values: &'a mut [f32],
        clipping: Clipping,
        (norm, squares): (f64, &[f64]),
    ) -> Self {
        match clipping {
            Clipping::None => {}
            Clipping::GlobalNorm(limit) => scale(values, clip_factor(norm, limit)),
            clipping => {
                let mut rest = &mut *values;
                for (array, squares) in arrays.iter().zip(squares) {
                    let (array, others) = rest.split_at_mut(array.len);
                    match clipping {
                        Clipping::Norm(limit) => scale(array, clip_factor(squares.sqrt(), limit)),
                        other => other.apply(&mut [array]),
                    }
                    rest = others;
                }
            }
        }
        Self { arrays, values, bound: norm }
    }
}

/// The norm of all gradients that move something; each array's sum of squares goes to `squares`.
pub(super) fn norm(arrays: &[Array], values: &[f32], squares: &mut Vec<f64>) -> f64 {
    squares.clear();
    let mut rest = values;
    for array in arrays {
        let (values, others) = rest.split_at(array.len);
        squares.push(if array.trainable { sum_of_squares(values) } else { 0.0 });
        rest = others;
    }
    squares.iter().sum::<f64>().sqrt()
}

/// Rows of an embedding that move alone: how long each is, and which.
#[derive(Clone, Copy)]
pub(super) struct Touched<'a> {
    pub(super) size: usize,
    pub(super) rows: &'a [u32],
}

/// The parts of an array that a step moves.
fn moving<'t>(array: &Array, touched: Option<Touched<'t>>) -> impl Iterator<Item = Range<usize>> + use<'t> {
    let touched = touched.filter(|_| array.which == Weight::Embedding);
    let (count, len) = touched.map_or((1, array.len), |touched| (touched.rows.len(), touched.size));
    let count = if array.trainable { count } else { 0 };
    (0..count).map(move |i| {
        let start = touched.map_or(0, |touched| touched.rows[i] as usize * len);
        start..start + len
    })
}

/// Moves the weights of `model`: all of them that move, and a step is counted; or, where a weight or a number
/// of the optimizer would not be finite afterwards, nothing.
pub(super) fn descend(
    config: &TrainerConfig,
    state: &mut OptimizerState,
    model: &mut Sequential,
    gradients: &Gradients<'_>,
    touched: Option<Touched<'_>>,
) -> Result<()> {
    let rule = state.rule(config.schedule.rate(state.steps()));
    let &Gradients { arrays, values: all, bound } = gradients;
    let network = model.network("trainer")?;
    let largest = parts(arrays, network, touched).map(|part| largest_magnitude(part.weights));
    // A maximum drops NaN, which must be seen.
    let largest = largest.fold(0.0f32, |most, here| if here > most || here.is_nan() { here } else { most });
    let bounds = match state.bounds_after(&rule, bound, f64::from(largest)) {
        Some(bounds) => bounds,
        None => tried(state, rule, network, gradients, touched)?,
    };
    state.take(rule, bounds, |mut step| {
        let (mut arrays, mut first) = (arrays.iter(), 0);
        model.update_variables(|_, _, values| {
            let Some(array) = arrays.next() else { return };
            let rule = rule.decaying(array.decays);
            for part in moving(array, touched) {
                let gradient = &all[first + part.start..first + part.end];
                step.update_by(rule, first + part.start, &mut values[part], gradient);
            }
            first += array.len;
        })
    })
}

/// Some weights that move.
struct Moving<'a> {
    array: &'a Array,
    /// The number of the first parameter.
    first: usize,
    weights: &'a [f32],
}

fn parts<'a>(
    arrays: &'a [Array],
    network: &'a Network,
    touched: Option<Touched<'a>>,
) -> impl Iterator<Item = Moving<'a>> {
    let variables = network.layers.iter().flat_map(|layer| &layer.variables.0);
    let firsts = arrays.iter().scan(0, |next, array| {
        let first = *next;
        *next += array.len;
        Some(first)
    });
    arrays.iter().zip(firsts).zip(variables).flat_map(move |((array, first), variable)| {
        moving(array, touched).map(move |part| Moving {
            array,
            first: first + part.start,
            weights: &variable.values()[part],
        })
    })
}

/// Takes the step on copies, a few parameters at a time; gives what the optimizer's numbers do not exceed
/// then.
fn tried(
    state: &OptimizerState,
    rule: Rule,
    network: &Network,
    gradients: &Gradients<'_>,
    touched: Option<Touched<'_>>,
) -> Result<[f64; SLOTS]> {
    let mut bounds = state.largest();
    for Moving { array, first, weights } in parts(gradients.arrays, network, touched) {
        let gradient = &gradients.values[first..first + weights.len()];
        if !state.try_update(&rule.decaying(array.decays), first, (weights, gradient), &mut bounds) {
            return Err(Error::NotFinite(format!(
                "step {}: the {} of layer {}, or what the optimizer keeps beside it, would not be finite; the \
                 weights are as they were",
                state.steps(),
                array.which.name(),
                array.layer
            )));
        }
    }
    Ok(bounds)
}
