//! Numbers from a seed: those of the Keras script (`tests/vectors/elman_keras.py`), and comparisons of results.

/// 64 mixed bits for each index, the script's `bits`.
fn bits(seed: u64, index: u64) -> u64 {
    let mut z = seed
        .wrapping_add(1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add((index + 1).wrapping_mul(0xD1B5_4A32_D192_ED03));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `count` floats in `[-scale, scale)`, the script's `values`.
pub(crate) fn values(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    let unit = |i| (bits(seed, i) >> 40) as f32 / (1 << 24) as f32;
    (0..count as u64).map(|i| (2.0 * unit(i) - 1.0) * scale).collect()
}

/// `count` token ids, the script's `tokens`.
pub(crate) fn tokens(seed: u64, count: usize, vocabulary: usize) -> Vec<i32> {
    (0..count as u64).map(|i| ((bits(seed, i) >> 33) % vocabulary as u64) as i32).collect()
}

/// A stream of choices from one seed, for the suites that walk through many shapes.
pub(crate) struct Choices {
    seed: u64,
    next: u64,
}

impl Choices {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, next: 0 }
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        self.next += 1;
        low + (bits(self.seed, self.next) >> 20) as usize % (high - low + 1)
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.between(0, choices.len() - 1)]
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.between(0, 1) == 1
    }
}

/// The bit patterns, which tell -0 from 0 and one NaN from another.
pub(crate) fn to_bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Asserts equal bits, and names the first difference.
#[track_caller]
pub(crate) fn assert_same_bits(what: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}: lengths differ");
    if let Some(at) = got.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits()) {
        let different = got.iter().zip(expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        panic!(
            "{what}: {different} of {} values have other bits, the first at {at}: {:e} and {:e}",
            got.len(),
            got[at],
            expected[at]
        );
    }
}

/// The largest distance between `got` and `expected`, as a share of the largest expected magnitude (at least
/// `floor`); infinity where one is not a number or not finite and the other is something else.
pub(crate) fn distance(got: &[f32], expected: &[f64], floor: f64) -> f64 {
    assert_eq!(got.len(), expected.len(), "lengths differ");
    let largest = expected.iter().copied().filter(|e| e.is_finite()).fold(floor, |most, e| most.max(e.abs()));
    let apart = |(&g, &e): (&f32, &f64)| {
        let g = f64::from(g);
        match (g.is_finite(), e.is_finite()) {
            (true, true) => (g - e).abs(),
            _ if g.is_nan() && e.is_nan() || g == e => 0.0,
            _ => f64::INFINITY,
        }
    };
    let worst = got.iter().zip(expected).map(apart).fold(0.0, f64::max);
    // A reference that is all zeros and a result that is too.
    if worst == 0.0 { 0.0 } else { worst / largest }
}
