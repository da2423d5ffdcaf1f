//! Norms of gradients, and scaling by them.

/// What a gradient of this norm is multiplied by, so that its norm is at most `limit`.
pub(crate) fn clip_factor(norm: f64, limit: f32) -> f32 {
    if norm > f64::from(limit) { (f64::from(limit) / norm) as f32 } else { 1.0 }
}

/// `values *= factor`.
pub(crate) fn scale(values: &mut [f32], factor: f32) {
    if factor != 1.0 {
        values.iter_mut().for_each(|value| *value *= factor);
    }
}

/// The sum of the squares, which no finite values can make infinite. Eight sums go side by side, in an order that
/// depends on the length alone.
pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    let chunks = values.chunks_exact(sums.len());
    let rest: f64 = chunks.remainder().iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    for chunk in chunks {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    sums.iter().sum::<f64>() + rest
}
