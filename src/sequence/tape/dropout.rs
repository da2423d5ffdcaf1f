//! Dropout masks.
//!
//! Every mask element is a word of a ChaCha8 stream: the key is the call's seed (as `rand_core` expands a `u64`), the
//! stream is `8 · layer + kind`, and the word's number is the element's index in the caller's order: `row · features + f`
//! for the masks of a recurrent layer, which all steps share, and `gate · 2^60` more where each gate has its own, `(row · steps + step) · features + f` for a Dropout layer. So a
//! seed gives the same masks on every machine, whatever rows are sorted and whoever draws them. An element is kept
//! where the upper 24 bits of its word, as a fraction of 1, are at least the rate; kept ones are scaled by `1 / (1 - rate)`.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Which mask of a layer; the backward half of a Bidirectional has its own two.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Input = 0,
    Recurrent = 1,
    Layer = 4,
}

/// Writes mask elements, each 0 or `1 / (1 - rate)`.
pub(super) struct Masks {
    random: ChaCha8Rng,
    rate: f32,
    gate: usize,
}

impl Masks {
    pub(super) fn new(seed: u64, layer: usize, kind: Kind, half: usize, rate: f32) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(8 * layer as u64 + kind as u64 + 2 * half as u64);
        Self { random, rate, gate: 0 }
    }

    /// Those of a gate from here on.
    pub(super) fn of_gate(&mut self, gate: usize) -> &mut Self {
        self.gate = gate;
        self
    }

    /// The elements from number `first` on.
    pub(super) fn fill(&mut self, first: usize, mask: &mut [f32]) {
        self.random.set_word_pos(((self.gate as u128) << 60) + first as u128);
        let scale = if self.rate < 1.0 { 1.0 / (1.0 - self.rate) } else { 0.0 };
        for element in mask {
            let fraction = (self.random.next_u32() >> 8) as f32 / (1 << 24) as f32;
            *element = if fraction >= self.rate { scale } else { 0.0 };
        }
    }
}
