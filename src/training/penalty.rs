//! Penalties on large weights: `l1 · Σ|w| + l2 · Σw²` over all kernels and recurrent kernels that move.

use super::descent::Array;
use crate::layers::Weight;
use crate::sequence::Network;

/// The arrays that penalties act on, each with its weights and the number of its first parameter.
fn penalized<'a>(network: &'a Network, arrays: &'a [Array]) -> impl Iterator<Item = (usize, &'a [f32])> {
    let variables = network.layers.iter().flat_map(|layer| &layer.variables.0);
    let mut next = 0;
    arrays.iter().zip(variables).filter_map(move |(array, variable)| {
        let first = next;
        next += array.len;
        let kernel = !matches!(array.which, Weight::Bias | Weight::BackwardBias | Weight::Embedding);
        (kernel && array.trainable).then(|| (first, variable.values()))
    })
}

/// The penalties' share of the loss.
pub(super) fn penalty(network: &Network, arrays: &[Array], (l1, l2): (f32, f32)) -> f32 {
    if (l1, l2) == (0.0, 0.0) {
        return 0.0;
    }
    let mut total = 0.0f64;
    for &w in penalized(network, arrays).flat_map(|(_, weights)| weights) {
        total += f64::from(l1 * w.abs()) + f64::from(l2 * w * w);
    }
    total as f32
}

/// Adds the penalties' gradients.
pub(super) fn penalize(network: &Network, arrays: &[Array], (l1, l2): (f32, f32), gradients: &mut [f32]) {
    for (first, weights) in penalized(network, arrays) {
        for (gradient, &w) in gradients[first..].iter_mut().zip(weights) {
            let sign = if w == 0.0 { 0.0 } else { w.signum() };
            *gradient += l1 * sign + 2.0 * l2 * w;
        }
    }
}
