//! A layer's weights as the user sees them: Keras's names, shapes and order.

use super::{Initializer, Layer};
use crate::error::{Error, Result};
use crate::memory::{AlignedVec, check_len, checked_product};

/// Which weight of a layer. The numbers are the C ABI's.
///
/// A dense or [`SimpleRnn`](crate::SimpleRnn) layer's columns are its units. An [`Lstm`](crate::Lstm) has
/// `4 · units` of them, those of its gates i, f, the candidate and o one after another, and a
/// [`Gru`](crate::Gru) `3 · units`, those of z, r and the candidate.
///
/// ```
/// use elman::{Sequential, SimpleRnn, Weight};
///
/// # fn main() -> Result<(), elman::Error> {
/// let mut model = Sequential::new(3).add(SimpleRnn::new(2)).build(1)?;
/// model.set_weight(0, Weight::Bias, &[0.5, -0.5])?;
/// let kernel = model.weight(0, Weight::Kernel)?;
/// assert_eq!((kernel.shape(), kernel.values().len()), ([3, 2], 6));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Weight {
    /// `[input, columns]`, of recurrent and dense layers.
    Kernel = 0,
    /// `[units, columns]`.
    RecurrentKernel = 1,
    /// `[1, columns]`; a GRU with `reset_after` has two rows, the input's and the recurrent one.
    Bias = 2,
    /// `[vocabulary, size]`.
    Embedding = 3,
    /// The kernel of a Bidirectional layer's backward half.
    BackwardKernel = 4,
    /// The recurrent kernel of a Bidirectional layer's backward half.
    BackwardRecurrentKernel = 5,
    /// The bias of a Bidirectional layer's backward half.
    BackwardBias = 6,
}

impl Weight {
    /// Every weight, in the order of their numbers.
    pub const ALL: [Weight; 7] = [
        Weight::Kernel,
        Weight::RecurrentKernel,
        Weight::Bias,
        Weight::Embedding,
        Weight::BackwardKernel,
        Weight::BackwardRecurrentKernel,
        Weight::BackwardBias,
    ];

    /// The name in files and summaries.
    pub fn name(self) -> &'static str {
        match self {
            Weight::Kernel => "kernel",
            Weight::RecurrentKernel => "recurrent_kernel",
            Weight::Bias => "bias",
            Weight::Embedding => "embedding",
            Weight::BackwardKernel => "backward_kernel",
            Weight::BackwardRecurrentKernel => "backward_recurrent_kernel",
            Weight::BackwardBias => "backward_bias",
        }
    }

    /// The number that the random stream of its initial values has; see [`stream`](Self::stream). Part of
    /// what a seed means: a number never changes, and a new kind takes one that no other has.
    const fn number(self) -> u64 {
        match self {
            Weight::Kernel => 0,
            Weight::RecurrentKernel => 1,
            Weight::Bias => 2,
            Weight::Embedding => 3,
            Weight::BackwardKernel => 4,
            Weight::BackwardRecurrentKernel => 5,
            Weight::BackwardBias => 6,
        }
    }

    /// The random stream that this weight of layer `layer` starts from: no two weights of a model share one,
    /// and none depends on how many kinds there are. The first seven kinds of all layers have the streams
    /// below 2^48; the next seven would have those from 2^48 to 2^49, and so on.
    const fn stream(self, layer: u64) -> u64 {
        const TOGETHER: u64 = 7;
        (self.number() / TOGETHER) << 48 | (layer * TOGETHER + self.number() % TOGETHER)
    }

    /// The backward half's counterpart.
    pub(crate) fn backward(self) -> Self {
        match self {
            Weight::Kernel => Weight::BackwardKernel,
            Weight::RecurrentKernel => Weight::BackwardRecurrentKernel,
            Weight::Bias => Weight::BackwardBias,
            other => other,
        }
    }

    /// The forward half's counterpart.
    pub(crate) fn forward(self) -> Self {
        match self {
            Weight::BackwardKernel => Weight::Kernel,
            Weight::BackwardRecurrentKernel => Weight::RecurrentKernel,
            Weight::BackwardBias => Weight::Bias,
            other => other,
        }
    }
}

// Checked where it is compiled: every kind stands in `ALL` at its place, and no two have one number.
const _: () = {
    let mut i = 0;
    while i < Weight::ALL.len() {
        assert!(Weight::ALL[i] as usize == i, "Weight::ALL is not in the order of the kinds");
        let mut other = 0;
        while other < i {
            assert!(
                Weight::ALL[i].number() != Weight::ALL[other].number(),
                "two weights share a random stream"
            );
            other += 1;
        }
        i += 1;
    }
};

/// One weight array, row-major.
#[derive(Debug)]
pub struct Variable {
    pub(crate) which: Weight,
    pub(crate) shape: [usize; 2],
    /// Empty where the array was dropped.
    pub(crate) values: AlignedVec,
}

impl Variable {
    /// Which weight of its layer this is.
    pub fn weight(&self) -> Weight {
        self.which
    }

    /// `[rows, columns]`, as [`Weight`] says.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Values that the array has, dropped or not.
    pub(crate) fn count(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// The array, unless it was dropped; `what` needs it.
    pub(crate) fn kept(&self, what: &str) -> Result<&Self> {
        if self.values.len() == self.count() {
            Ok(self)
        } else {
            Err(Error::Unsupported(format!(
                "{what}: drop_weights has freed the weights in Keras's layout; do this before it, or build or load \
                 the model again"
            )))
        }
    }
}

/// All weights of one layer.
#[derive(Debug)]
pub(crate) struct Variables(pub(crate) Vec<Variable>);

/// Values of a weight, at most: a terabyte, or half of the address space where that is less.
const MOST_VALUES: usize = if usize::BITS < 64 { isize::MAX as usize / 4 } else { (1_u64 << 38) as usize };

impl Weight {
    /// How many values it has in this shape. What no memory has is refused by arithmetic: a system may promise it all the
    /// same, and end the process later.
    pub(crate) fn values(self, shape: &[usize; 2]) -> Result<usize> {
        let values = checked_product(self.name(), shape)?;
        if values > MOST_VALUES {
            return Err(Error::InvalidArgument(format!(
                "{}: {} x {} values are more than 2^38",
                self.name(),
                shape[0],
                shape[1]
            )));
        }
        Ok(values)
    }
}

impl Variables {
    /// Initialises a layer's weights. `layer_number` is its place in the model, so that no two layers share
    /// random numbers.
    pub(crate) fn initialized(layer: &Layer, input: usize, seed: u64, layer_number: u64) -> Result<Self> {
        let make = |(which, shape): (Weight, [usize; 2])| {
            let mut values = AlignedVec::zeroed(which.values(&shape)?)?;
            let initializer: Initializer = layer.initializer(which);
            initializer.validate(which, shape)?;
            initializer.fill(which, shape, seed, which.stream(layer_number), &mut values)?;
            layer.finish_initial(which, &mut values);
            Ok(Variable { which, shape, values })
        };
        layer.variable_shapes(input).into_iter().map(make).collect::<Result<_>>().map(Self)
    }

    /// The array of `which`, or what the layer has instead.
    pub(crate) fn get(&self, which: Weight) -> Result<&Variable> {
        self.0.iter().find(|variable| variable.which == which).ok_or_else(|| {
            let names: Vec<_> = self.0.iter().map(|variable| variable.which.name()).collect();
            Error::InvalidArgument(format!(
                "the layer has no {}; it has [{}]",
                which.name(),
                names.join(", ")
            ))
        })
    }

    /// A copy.
    pub(crate) fn copy(&self) -> Result<Self> {
        let copy = |variable: &Variable| {
            Ok(Variable { values: AlignedVec::copy_of(variable.values())?, ..*variable })
        };
        self.0.iter().map(copy).collect::<Result<_>>().map(Self)
    }

    /// The arrays without their values.
    pub(crate) fn dropped(&self) -> Self {
        let empty = |variable: &Variable| Variable { values: AlignedVec::empty(), ..*variable };
        Self(self.0.iter().map(empty).collect())
    }

    /// A copy with the array of `which` replaced.
    pub(crate) fn with(&self, which: Weight, values: &[f32]) -> Result<Self> {
        let old = self.get(which)?.kept("set_weight")?;
        check_len(which.name(), values.len(), "rows x columns", &old.shape)?;
        let copy = |variable: &Variable| {
            let source = if variable.which == which { values } else { variable.values() };
            Ok(Variable { values: AlignedVec::copy_of(source)?, ..*variable })
        };
        self.0.iter().map(copy).collect::<Result<_>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Bidirectional, Dense, Embedding, SimpleRnn};

    const RANDOM: Initializer = Initializer::RandomUniform { low: -1.0, high: 1.0 };

    /// The numbers that the weights of every seed are drawn by. None may ever change.
    #[test]
    fn random_streams_are_numbered_for_good() {
        let streams = |layer| Weight::ALL.map(|weight| weight.stream(layer));
        assert_eq!(streams(0), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(streams(1), [7, 8, 9, 10, 11, 12, 13]);
        assert_eq!(streams(16_000), [0, 1, 2, 3, 4, 5, 6].map(|kind| 112_000 + kind));
    }

    /// The first value of every kind of weight, in the first layer and in another: a seed keeps its weights.
    #[test]
    fn a_seed_keeps_its_weights() {
        let rnn = SimpleRnn::new(2).kernel_initializer(RANDOM).recurrent_initializer(RANDOM);
        let rnn = rnn.bias_initializer(RANDOM);
        let first = |layer: Layer, number| -> Vec<u32> {
            let made = Variables::initialized(&layer, 1, 42, number).expect("small");
            made.0.iter().map(|variable| variable.values()[0].to_bits()).collect()
        };
        let embedding = Embedding::new(2, 2).embeddings_initializer(RANDOM);
        let dense = Dense::new(2).kernel_initializer(RANDOM).bias_initializer(RANDOM);
        let made = [
            first(embedding.into(), 0),
            first(Bidirectional::new(rnn).into(), 0),
            first(rnn.into(), 5),
            first(dense.into(), 6),
        ];
        let expected = [
            vec![0xbee6_e688],
            vec![0xbf4c_e0b0, 0x3f50_8d30, 0xbc33_fe00, 0xbf72_bdb2, 0x3f6d_6f22, 0x3f49_4df4],
            vec![0x3f70_d7e8, 0x3ea3_a5f4, 0xbd94_1780],
            vec![0x3e50_b698, 0xbf51_c9b8],
        ];
        assert_eq!(made, expected);
    }
}
