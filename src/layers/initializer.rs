//! How weights start: Keras's initialisers, with the same result on every machine.
//!
//! Keras fixes the distributions; the numbers drawn from them are ours, and they are part of the contract: **one seed
//! gives the same weights, bit for bit, on every machine, ISA and release.** So everything here is scalar `f64` made
//! of operations that IEEE 754 rounds correctly (`+ - * /` and `sqrt`), in an order written down in the source. The
//! mathematical library is not asked for anything, since `ln`, `sin` and `cos` differ between platforms, and nothing
//! is fused or reassociated, which Rust never does unasked.
//!
//! # Where the numbers come from
//! ChaCha with 8 rounds; its key is the seed (8 bytes, little-endian) followed by 24 zero bytes, its stream number the
//! weight's own, its counter starts at 0. `rand_core`'s `seed_from_u64` is left aside: its expansion of a seed is that
//! crate's choice, a key is ChaCha's definition.
//! - uniform: one 32-bit word an element, of which the 24 high bits make `u` in `[0, 1)`; the element is
//!   `low + (high - low)·u`, rounded to `f32` once.
//! - normal: Marsaglia's polar method on the 53 high bits of 64-bit words; each accepted pair gives two values, both
//!   used. A truncated normal draws again where `|z| > 2`.
//!
//! Elements are drawn row by row, and for `Orthogonal` column by column of its tall matrix.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::Weight;
use crate::error::{Error, Result};

/// How a weight starts, in Keras's words.
///
/// Fans are Keras's: for a matrix `fan_in` is its rows and `fan_out` its columns; for a bias both are its length.
///
/// ```
/// use elman::{Initializer, Sequential, SimpleRnn, Weight};
///
/// # fn main() -> Result<(), elman::Error> {
/// let identity = Initializer::Identity { gain: 1.0 };
/// let model = Sequential::new(3).add(SimpleRnn::new(2).recurrent_initializer(identity)).build(1)?;
/// assert_eq!(model.weight(0, Weight::RecurrentKernel)?.values(), [1.0, 0.0, 0.0, 1.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Initializer {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// All `value`.
    Constant {
        /// The value of every element.
        value: f32,
    },
    /// Normal with mean `mean` and standard deviation `stddev`, not truncated.
    RandomNormal {
        /// The mean.
        mean: f32,
        /// The standard deviation, at least 0.
        stddev: f32,
    },
    /// Uniform from `low` to `high`.
    RandomUniform {
        /// The lower bound.
        low: f32,
        /// The upper bound, at least `low`. Rounding to `f32` can reach it.
        high: f32,
    },
    /// Uniform within `±sqrt(6 / (fan_in + fan_out))`.
    GlorotUniform,
    /// Truncated normal of standard deviation `sqrt(2 / (fan_in + fan_out))`.
    GlorotNormal,
    /// Uniform within `±sqrt(6 / fan_in)`.
    HeUniform,
    /// Truncated normal of standard deviation `sqrt(2 / fan_in)`.
    HeNormal,
    /// Uniform within `±sqrt(3 / fan_in)`.
    LecunUniform,
    /// Truncated normal of standard deviation `sqrt(1 / fan_in)`.
    LecunNormal,
    /// `gain` times a random matrix with orthonormal columns, or with orthonormal rows where rows are fewer. Not for
    /// a bias.
    Orthogonal {
        /// The factor.
        gain: f32,
    },
    /// `gain` on the diagonal, 0 elsewhere. Not for a bias.
    Identity {
        /// The factor.
        gain: f32,
    },
}

impl Initializer {
    /// Checks the parameters, and that this initialiser can fill `which`.
    pub(crate) fn validate(&self, which: Weight, shape: [usize; 2]) -> Result<()> {
        let invalid = |message: String| Err(Error::InvalidArgument(format!("{}: {message}", which.name())));
        let finite = |parameters: &[(&str, f32)]| {
            let wrong = parameters.iter().find(|(_, value)| !value.is_finite());
            wrong.map_or(Ok(()), |(name, value)| {
                invalid(format!("the initialiser's {name} must be finite, got {value}"))
            })
        };
        let matrix = |name: &str| match which {
            Weight::Bias | Weight::BackwardBias => invalid(format!(
                "the {name} initialiser makes a matrix, and a bias is a vector of {}",
                shape[1]
            )),
            _ => Ok(()),
        };
        match *self {
            Initializer::Constant { value } => finite(&[("value", value)]),
            Initializer::RandomNormal { mean, stddev } => {
                finite(&[("mean", mean), ("stddev", stddev)])?;
                if stddev < 0.0 {
                    return invalid(format!("the initialiser's stddev must be at least 0, got {stddev}"));
                }
                Ok(())
            }
            Initializer::RandomUniform { low, high } => {
                finite(&[("low", low), ("high", high)])?;
                if low > high {
                    return invalid(format!(
                        "the initialiser's low must not exceed its high, got low {low}, high {high}"
                    ));
                }
                Ok(())
            }
            Initializer::Orthogonal { gain } => matrix("orthogonal").and_then(|()| finite(&[("gain", gain)])),
            Initializer::Identity { gain } => matrix("identity").and_then(|()| finite(&[("gain", gain)])),
            Initializer::Zeros
            | Initializer::Ones
            | Initializer::GlorotUniform
            | Initializer::GlorotNormal
            | Initializer::HeUniform
            | Initializer::HeNormal
            | Initializer::LecunUniform
            | Initializer::LecunNormal => Ok(()),
        }
    }

    /// Fills `values`, row-major `shape`. Weights that must not share random numbers have different `stream`s.
    pub(crate) fn fill(
        &self,
        which: Weight,
        shape: [usize; 2],
        seed: u64,
        stream: u64,
        values: &mut [f32],
    ) -> Result<()> {
        debug_assert_eq!(Some(values.len()), shape[0].checked_mul(shape[1]));
        let [rows, columns] = shape.map(|size| size as f64);
        let [fan_in, fan_out] = match which {
            Weight::Bias | Weight::BackwardBias => [columns; 2],
            _ => [rows, columns],
        };
        let fan_average = (fan_in + fan_out) / 2.0;
        let mut random = Random::new(seed, stream);
        match *self {
            Initializer::Zeros => values.fill(0.0),
            Initializer::Ones => values.fill(1.0),
            Initializer::Constant { value } => values.fill(value),
            Initializer::RandomNormal { mean, stddev } => {
                let (mean, stddev) = (f64::from(mean), f64::from(stddev));
                values.fill_with(|| (mean + stddev * random.normal()) as f32);
            }
            Initializer::RandomUniform { low, high } => {
                random.fill_uniform(f64::from(low), f64::from(high), values);
            }
            Initializer::GlorotUniform => random.fill_scaled_uniform(1.0, fan_average, values),
            Initializer::GlorotNormal => random.fill_scaled_normal(1.0, fan_average, values),
            Initializer::HeUniform => random.fill_scaled_uniform(2.0, fan_in, values),
            Initializer::HeNormal => random.fill_scaled_normal(2.0, fan_in, values),
            Initializer::LecunUniform => random.fill_scaled_uniform(1.0, fan_in, values),
            Initializer::LecunNormal => random.fill_scaled_normal(1.0, fan_in, values),
            Initializer::Orthogonal { gain } => fill_orthogonal(gain, shape, &mut random, values)?,
            Initializer::Identity { gain } => {
                values.fill(0.0);
                for (i, row) in values.chunks_exact_mut(shape[1]).take(shape[1]).enumerate() {
                    row[i] = gain;
                }
            }
        }
        Ok(())
    }
}

/// The random numbers of one weight.
struct Random {
    words: ChaCha8Rng,
    /// The second value of the last polar pair, if nobody took it yet.
    spare: Option<f64>,
}

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut words = ChaCha8Rng::from_seed(key);
        words.set_stream(stream);
        Self { words, spare: None }
    }

    /// A multiple of 2^-52 in `[-1, 1)`.
    fn symmetric(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1u64 << 52) as f64;
        (self.words.next_u64() >> 11) as f64 * STEP - 1.0
    }

    /// N(0, 1) by Marsaglia's polar method.
    fn normal(&mut self) -> f64 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        loop {
            let (x, y) = (self.symmetric(), self.symmetric());
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let scale = (-2.0 * ln(square) / square).sqrt();
                self.spare = Some(y * scale);
                return x * scale;
            }
        }
    }

    /// N(0, 1) on condition that `|z| <= 2`.
    fn truncated_normal(&mut self) -> f64 {
        loop {
            let value = self.normal();
            if value.abs() <= 2.0 {
                return value;
            }
        }
    }

    fn fill_uniform(&mut self, low: f64, high: f64, values: &mut [f32]) {
        const STEP: f64 = 1.0 / (1u32 << 24) as f64;
        values.fill_with(|| {
            let share = f64::from(self.words.next_u32() >> 8) * STEP;
            (low + (high - low) * share) as f32
        });
    }

    /// Keras's VarianceScaling, uniform: the variance is `scale / fan`.
    fn fill_scaled_uniform(&mut self, scale: f64, fan: f64, values: &mut [f32]) {
        let limit = (3.0 * (scale / fan)).sqrt();
        self.fill_uniform(-limit, limit, values);
    }

    /// Keras's VarianceScaling, truncated normal: the variance is `scale / fan`.
    fn fill_scaled_normal(&mut self, scale: f64, fan: f64, values: &mut [f32]) {
        /// The standard deviation of N(0, 1) truncated at ±2: the double Keras's 0.87962566103423978 reads as.
        const TRUNCATED_STDDEV: f64 = 0.879_625_661_034_239_8;
        let stddev = (scale / fan).sqrt() / TRUNCATED_STDDEV;
        values.fill_with(|| (stddev * self.truncated_normal()) as f32);
    }
}

/// The natural logarithm of a positive normal number, the same bits on every machine. Relative error below 1e-15
/// (4.8e-16 measured over ten million arguments).
///
/// `x = m·2^e` with `m` in `[sqrt(1/2), sqrt(2))`; `ln m = 2·atanh(t)`, `t = (m - 1)/(m + 1)`, `|t| < 0.1716`, by the
/// Taylor series of atanh up to `t^21`: the first term left out is `t^22/23 < 6e-19` of the sum.
fn ln(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i32 - 1023;
    let mut mantissa = f64::from_bits(bits & MANTISSA | 1.0f64.to_bits());
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let square = t * t;
    let series = (0..=10).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    f64::from(exponent) * std::f64::consts::LN_2 + 2.0 * t * series
}

/// The Q of a QR decomposition of a normal random matrix, made unique by the signs of R's diagonal: uniformly
/// distributed over all orthogonal matrices. Drawn `[max, min]`, so transposed where rows are fewer than columns.
fn fill_orthogonal(
    gain: f32,
    [rows, columns]: [usize; 2],
    random: &mut Random,
    values: &mut [f32],
) -> Result<()> {
    let (tall, narrow) = (rows.max(columns), rows.min(columns));
    let mut matrix = zeros(tall, narrow)?;
    matrix.fill_with(|| random.normal());
    let q = orthonormalize(matrix, tall)?;
    let gain = f64::from(gain);
    for (row, values) in values.chunks_exact_mut(columns).enumerate() {
        for (column, value) in values.iter_mut().enumerate() {
            let element = if rows < columns { row * tall + column } else { column * tall + row };
            *value = (gain * q[element]) as f32;
        }
    }
    Ok(())
}

/// Householder QR of a matrix given column after column, each of `tall` elements; returns `Q·sign(diag R)` likewise.
///
/// Columns are taken in small blocks, and each reflector passes over a whole block while it is in cache. What happens
/// to a column, and in which order, does not depend on the block's size.
fn orthonormalize(mut matrix: Vec<f64>, tall: usize) -> Result<Vec<f64>> {
    /// 8 columns of 1024 are 64 KiB and stay in the second-level cache, so a reflector is fetched once for 8
    /// columns.
    const BLOCK: usize = 8;
    let narrow = matrix.len() / tall;
    // Reflector k is I - scales[k]·v·vᵀ, where v is column k of `matrix` from its diagonal downwards.
    let mut scales = zeros(narrow, 1)?;
    let mut signs = zeros(narrow, 1)?;
    for first in (0..narrow).step_by(BLOCK) {
        let (done, rest) = matrix.split_at_mut(first * tall);
        let block = &mut rest[..BLOCK.min(narrow - first) * tall];
        for (k, reflector) in done.chunks_exact(tall).enumerate() {
            for column in block.chunks_exact_mut(tall) {
                reflect(&reflector[k..], scales[k], &mut column[k..]);
            }
        }
        for k in first..first + block.len() / tall {
            let (head, behind) = block.split_at_mut((k - first + 1) * tall);
            let reflector = &mut head[(k - first) * tall + k..];
            let norm = dot(reflector, reflector).sqrt();
            // R's diagonal gets the sign opposite to the column's first element, so that nothing cancels in v.
            signs[k] = if reflector[0] > 0.0 { -1.0 } else { 1.0 };
            let half_square = norm * (norm + reflector[0].abs());
            scales[k] = if half_square > 0.0 { 1.0 / half_square } else { 0.0 };
            reflector[0] -= signs[k] * norm;
            for column in behind.chunks_exact_mut(tall) {
                reflect(reflector, scales[k], &mut column[k..]);
            }
        }
    }
    // Column j of Q is H_0 ··· H_j e_j: the later reflectors touch only what is below its one element.
    let mut q = zeros(tall, narrow)?;
    for (block_index, block) in q.chunks_mut(BLOCK * tall).enumerate() {
        let first = block_index * BLOCK;
        for (column, j) in block.chunks_exact_mut(tall).zip(first..) {
            column[j] = signs[j];
        }
        for k in (0..first + block.len() / tall).rev() {
            let reflector = &matrix[k * tall + k..(k + 1) * tall];
            for column in block[k.saturating_sub(first) * tall..].chunks_exact_mut(tall) {
                reflect(reflector, scales[k], &mut column[k..]);
            }
        }
    }
    Ok(q)
}

/// `column -= scale·(v·column)·v`.
fn reflect(v: &[f64], scale: f64, column: &mut [f64]) {
    let factor = scale * dot(v, column);
    for (value, v) in column.iter_mut().zip(v) {
        *value -= factor * v;
    }
}

/// The sum of products in eight interleaved partial sums: an order that is written down and still lets the compiler
/// work on several elements at once.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum += a * b;
    }
    sums.iter().sum()
}

/// `rows * columns` zeros, allocated fallibly because a user chose the size.
fn zeros(rows: usize, columns: usize) -> Result<Vec<f64>> {
    let len = rows.saturating_mul(columns);
    let mut values = Vec::new();
    if values.try_reserve_exact(len).is_err() {
        return Err(Error::OutOfMemory { bytes: len.saturating_mul(size_of::<f64>()) });
    }
    values.resize(len, 0.0);
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_agrees_with_the_library() {
        let mut random = Random::new(1, 2);
        let mut worst: f64 = 0.0;
        let mut check = |x: f64| {
            let (ours, theirs) = (ln(x), x.ln());
            let error = if theirs == 0.0 { ours.abs() } else { ((ours - theirs) / theirs).abs() };
            worst = worst.max(error);
        };
        for _ in 0..1_000_000 {
            check((random.words.next_u64() >> 11) as f64 / (1u64 << 53) as f64 + f64::MIN_POSITIVE);
        }
        for step in 0..20_000 {
            check(1.0 - f64::from(step) * f64::EPSILON);
            check(std::f64::consts::FRAC_1_SQRT_2 + f64::from(step - 10_000) * f64::EPSILON);
        }
        for exponent in -1022..=1023 {
            check(2f64.powi(exponent));
            check(2f64.powi(exponent) * 1.999_999_999);
        }
        assert!(worst < 1e-15, "relative error {worst:e}");
    }

    /// A = Q·R with R upper triangular and its diagonal positive: there is only one such Q.
    #[test]
    fn orthonormalize_is_the_unique_qr() {
        for (tall, narrow) in [(1, 1), (2, 1), (2, 2), (7, 3), (8, 8), (9, 9), (16, 15), (17, 17), (40, 33)] {
            let mut random = Random::new(3, tall as u64);
            let mut matrix = zeros(tall, narrow).unwrap();
            matrix.fill_with(|| random.normal());
            let q = orthonormalize(matrix.clone(), tall).unwrap();
            for (j, a) in matrix.chunks_exact(tall).enumerate() {
                let r: Vec<f64> = q.chunks_exact(tall).map(|q| dot(q, a)).collect();
                assert!(r[j] > 0.0, "{tall} x {narrow}: R[{j}][{j}] = {}", r[j]);
                for (i, below) in r.iter().enumerate().skip(j + 1) {
                    assert!(below.abs() < 1e-13, "{tall} x {narrow}: R[{i}][{j}] = {below:e}");
                }
                for (row, &element) in a.iter().enumerate() {
                    let product: f64 = r.iter().zip(q.chunks_exact(tall)).map(|(r, q)| r * q[row]).sum();
                    assert!((product - element).abs() < 1e-13, "{tall} x {narrow}: A[{row}][{j}]");
                }
            }
        }
    }

    #[test]
    fn a_column_of_zeros_still_gives_an_orthonormal_matrix() {
        let q = orthonormalize(vec![0.0; 6], 3).unwrap();
        assert_eq!(q, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    }

    /// The words agree with an independent ChaCha8; the normals pin what is made of them, release after release.
    #[test]
    fn numbers_are_pinned() {
        let mut random = Random::new(42, 7);
        assert_eq!([(); 3].map(|()| random.words.next_u32()), [0xa26c_4769, 0x2f88_af39, 0xcf88_bf9f]);
        let mut random = Random::new(42, 7);
        assert_eq!(
            [(); 3].map(|()| random.normal().to_bits()),
            [0xbff4_63c9_3e20_3019, 0x3fd4_d9ff_5a6e_5223, 0x3fee_c7be_e3b8_0848]
        );
    }
}
