//! Products for tests: arrays with room around them, and what they must give.

use super::product::ROWS_LEAST;

/// What stands where nothing may be written.
pub(crate) const CANARY: f32 = -77.0;

/// Some floats around 0, the same each time.
fn floats(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + seed * 11) % 64) as f32 / 64.0 - 0.5).collect()
}

/// Rows and matrix of a product, and where its sums start, row by row without gaps.
pub(crate) struct Product {
    pub(crate) a: Vec<f32>,
    pub(crate) b: Vec<f32>,
    pub(crate) init: Vec<f32>,
    pub(crate) sizes: [usize; 3],
}

impl Product {
    pub(crate) fn new(rows: usize, depth: usize, columns: usize) -> Self {
        Self {
            a: floats(rows * depth, 1),
            b: floats(depth * columns, 2),
            init: floats(rows * columns, 3),
            sizes: [rows, depth, columns],
        }
    }

    /// In `f64`, and no value's error is more than the last number.
    fn expected(&self, row: usize, column: usize) -> (f64, f64) {
        let [_, depth, columns] = self.sizes;
        let product = |k: usize| f64::from(self.a[row * depth + k]) * f64::from(self.b[k * columns + column]);
        let sum: f64 = (0..depth).map(product).sum();
        (f64::from(self.init[row * columns + column]) + sum, 1e-6 * (depth + 1) as f64)
    }

    /// Checks rows `stride` apart, of which `padded` floats are whole vectors.
    pub(crate) fn check(
        &self,
        what: &str,
        c: &[f32],
        [stride, padded]: [usize; 2],
        function: fn(f64) -> f64,
    ) {
        let [rows, _, columns] = self.sizes;
        for row in 0..rows {
            for (column, &got) in c[row * stride..].iter().take(columns).enumerate() {
                let (sum, error) = self.expected(row, column);
                let wanted = function(sum);
                assert!((f64::from(got) - wanted).abs() <= error, "{what}: [{row}, {column}] {got} {wanted}");
            }
            let gap = c[row * stride..].iter().take(stride).skip(padded);
            assert!(gap.into_iter().all(|&it| it == CANARY), "{what}: written behind row {row}");
        }
    }
}

/// Rows, terms and columns: one of each, the edges of vectors and panels, several panels, lone rows over
/// several panels at once, a matrix beyond the second-level cache, and more rows than go together.
pub(crate) fn sizes() -> Vec<[usize; 3]> {
    // Miri is some thousand times slower: one of each kind.
    if cfg!(miri) {
        return vec![[1, 9, 17], [2, 2, 16], [7, 5, 9], [1, 20, 130], [2, 20, 66]];
    }
    let mut sizes = vec![[ROWS_LEAST + 3, 2, 3], [300, 1, 1]];
    for rows in [1, 2, 3, 7, 9] {
        for columns in [1, 4, 15, 16, 17, 33, 64, 65] {
            sizes.extend([1, 9].map(|depth| [rows, depth, columns]));
        }
    }
    // Of many rows: whole panels of a large matrix, and equal parts of long ones.
    sizes.extend([[1, 530, 530], [12, 530, 530], [40, 530, 530], [35, 1450, 190]]);
    sizes
}
