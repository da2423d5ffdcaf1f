//! A layer's weights as the user sees them: Keras's names, shapes and order.

use super::{Initializer, Layer};
use crate::error::{Error, Result};
use crate::memory::{AlignedVec, check_len, checked_product};

/// Which weight of a layer. The numbers are the C ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Weight {
    /// `[input, units]`.
    Kernel = 0,
    /// `[units, units]`.
    RecurrentKernel = 1,
    /// `[1, units]`.
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

    /// The backward half's twin.
    pub(crate) fn backward(self) -> Self {
        match self {
            Weight::Kernel => Weight::BackwardKernel,
            Weight::RecurrentKernel => Weight::BackwardRecurrentKernel,
            Weight::Bias => Weight::BackwardBias,
            other => other,
        }
    }

    /// The forward half's twin.
    pub(crate) fn forward(self) -> Self {
        match self {
            Weight::BackwardKernel => Weight::Kernel,
            Weight::BackwardRecurrentKernel => Weight::RecurrentKernel,
            Weight::BackwardBias => Weight::Bias,
            other => other,
        }
    }
}

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

    /// `[rows, columns]`; a bias is `[1, units]`.
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

impl Variables {
    /// Initialises a layer's weights. `stream` numbers the layer, so that no two layers share random numbers.
    pub(crate) fn initialized(layer: &Layer, input: usize, seed: u64, stream: u64) -> Result<Self> {
        let make = |(which, shape): (Weight, [usize; 2])| {
            let mut values = AlignedVec::zeroed(checked_product(which.name(), &shape)?)?;
            let initializer: Initializer = layer.initializer(which);
            initializer.validate(which, shape)?;
            let stream = stream * Weight::ALL.len() as u64 + which as u64;
            initializer.fill(which, shape, seed, stream, &mut values)?;
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
