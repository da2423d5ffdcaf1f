//! Networks as plain data: read from the vectors' metadata or made up by a suite, turned into elman's layers, and
//! walked by the oracle. Fields and types are Keras's words, as in the metadata.

use elman::{
    Activation, Bidirectional, Dense, Dropout, Embedding, Layer, Masking, MergeMode, Sequential, SimpleRnn,
    Unroll, Weight,
};
use serde::Deserialize;

use super::numbers::{Choices, values};

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Rnn {
    pub(crate) units: usize,
    pub(crate) activation: Activation,
    pub(crate) use_bias: bool,
    pub(crate) return_sequences: bool,
    pub(crate) go_backwards: bool,
    pub(crate) stateful: bool,
    pub(crate) zero_output_for_mask: bool,
    pub(crate) unroll: Unroll,
    pub(crate) dropout: f32,
    pub(crate) recurrent_dropout: f32,
}

impl Rnn {
    /// Keras's defaults.
    pub(crate) fn new(units: usize) -> Self {
        Self {
            units,
            activation: Activation::Tanh,
            use_bias: true,
            return_sequences: false,
            go_backwards: false,
            stateful: false,
            zero_output_for_mask: false,
            unroll: Unroll::Auto,
            dropout: 0.0,
            recurrent_dropout: 0.0,
        }
    }

    pub(crate) fn elman(&self) -> SimpleRnn {
        SimpleRnn::new(self.units)
            .activation(self.activation)
            .use_bias(self.use_bias)
            .return_sequences(self.return_sequences)
            .go_backwards(self.go_backwards)
            .stateful(self.stateful)
            .zero_output_for_mask(self.zero_output_for_mask)
            .unroll(self.unroll)
            .dropout(self.dropout)
            .recurrent_dropout(self.recurrent_dropout)
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Spec {
    Embedding { vocabulary: usize, size: usize, mask_zero: bool },
    Masking { mask_value: f32 },
    SimpleRnn(Rnn),
    Bidirectional { merge_mode: MergeMode, simple_rnn: Rnn },
    Dense { units: usize, activation: Activation, use_bias: bool },
    Dropout { rate: f32 },
}

impl Spec {
    pub(crate) fn elman(&self) -> Layer {
        match *self {
            Spec::Embedding { vocabulary, size, mask_zero } => {
                Embedding::new(vocabulary, size).mask_zero(mask_zero).into()
            }
            Spec::Masking { mask_value } => Masking::new(mask_value).into(),
            Spec::SimpleRnn(rnn) => rnn.elman().into(),
            Spec::Bidirectional { merge_mode, simple_rnn } => {
                Bidirectional::new(simple_rnn.elman()).merge_mode(merge_mode).into()
            }
            Spec::Dense { units, activation, use_bias } => {
                Dense::new(units).activation(activation).use_bias(use_bias).into()
            }
            Spec::Dropout { rate } => Dropout::new(rate).into(),
        }
    }

    /// Features of the output for `input` features.
    pub(crate) fn output(&self, input: usize) -> usize {
        match *self {
            Spec::Embedding { size, .. } => size,
            Spec::SimpleRnn(rnn) => rnn.units,
            Spec::Bidirectional { merge_mode: MergeMode::Concat, simple_rnn } => 2 * simple_rnn.units,
            Spec::Bidirectional { simple_rnn, .. } => simple_rnn.units,
            Spec::Dense { units, .. } => units,
            Spec::Masking { .. } | Spec::Dropout { .. } => input,
        }
    }

    /// The recurrent configuration, once for each direction.
    pub(crate) fn directions(&self) -> Vec<Rnn> {
        match *self {
            Spec::SimpleRnn(rnn) => vec![rnn],
            Spec::Bidirectional { simple_rnn, .. } => vec![simple_rnn; 2],
            _ => Vec::new(),
        }
    }

    /// The weights for `input` features in Keras's order.
    fn shapes(&self, input: usize) -> Vec<(Weight, [usize; 2])> {
        let rnn = |rnn: &Rnn, [kernel, recurrent, bias]: [Weight; 3]| {
            let mut shapes = vec![(kernel, [input, rnn.units]), (recurrent, [rnn.units, rnn.units])];
            if rnn.use_bias {
                shapes.push((bias, [1, rnn.units]));
            }
            shapes
        };
        let forward = [Weight::Kernel, Weight::RecurrentKernel, Weight::Bias];
        match self {
            Spec::Embedding { vocabulary, size, .. } => vec![(Weight::Embedding, [*vocabulary, *size])],
            Spec::SimpleRnn(layer) => rnn(layer, forward),
            Spec::Bidirectional { simple_rnn, .. } => {
                let backward =
                    [Weight::BackwardKernel, Weight::BackwardRecurrentKernel, Weight::BackwardBias];
                [rnn(simple_rnn, forward), rnn(simple_rnn, backward)].concat()
            }
            Spec::Dense { units, use_bias, .. } => {
                let mut shapes = vec![(Weight::Kernel, [input, *units])];
                if *use_bias {
                    shapes.push((Weight::Bias, [1, *units]));
                }
                shapes
            }
            Spec::Masking { .. } | Spec::Dropout { .. } => Vec::new(),
        }
    }
}

/// All weights of a model, one behind the other.
pub(crate) fn parameters(model: &Sequential) -> Vec<f32> {
    let mut values = vec![0.0; model.parameter_count().expect("the model is built")];
    model.get_parameters(&mut values).expect("as many as it says");
    values
}

/// One weight array, row by row.
#[derive(Clone)]
pub(crate) struct Array {
    pub(crate) which: Weight,
    pub(crate) shape: [usize; 2],
    pub(crate) values: Vec<f32>,
}

/// The shape alone: values come from seeds, and a failure should fit on a page.
impl std::fmt::Debug for Array {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.which.name(), self.shape)
    }
}

/// Layers with their weights.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) input_size: usize,
    pub(crate) layers: Vec<Spec>,
    /// What the weights were made from, so that a failure tells everything.
    pub(crate) seed: u64,
    pub(crate) weights: Vec<Vec<Array>>,
}

impl Network {
    /// The Keras script's weights: seeds counted from `seed`, sizes that keep signals alive.
    pub(crate) fn new(input_size: usize, layers: Vec<Spec>, seed: u64) -> Self {
        let mut input = input_size;
        let mut weights = Vec::new();
        for (i, layer) in layers.iter().enumerate() {
            let arrays = layer.shapes(input).into_iter().map(|(which, shape)| {
                let [rows, columns] = shape.map(|size| size as f64);
                let scale = match which {
                    Weight::Kernel | Weight::BackwardKernel => (6.0 / (rows + columns)).sqrt(),
                    Weight::RecurrentKernel | Weight::BackwardRecurrentKernel => 0.9 * (3.0 / rows).sqrt(),
                    Weight::Embedding => 0.5,
                    _ => 0.1,
                };
                let seed = seed + 10 * i as u64 + which as u64;
                Array { which, shape, values: values(seed, shape[0] * shape[1], scale as f32) }
            });
            weights.push(arrays.collect());
            input = layer.output(input);
        }
        Self { input_size, layers, seed, weights }
    }

    /// One recurrent layer.
    pub(crate) fn single(features: usize, rnn: Rnn, seed: u64) -> Self {
        Self::new(features, vec![Spec::SimpleRnn(rnn)], seed)
    }

    /// The same weights under changed options.
    pub(crate) fn with(&self, mut change: impl FnMut(&mut Rnn)) -> Self {
        let mut changed = self.clone();
        for layer in &mut changed.layers {
            if let Spec::SimpleRnn(rnn) | Spec::Bidirectional { simple_rnn: rnn, .. } = layer {
                change(rnn);
            }
        }
        changed
    }

    /// The layers from `first` to before `end`, as a network of their own.
    pub(crate) fn part(&self, first: usize, end: usize) -> Self {
        let input_size =
            self.layers[..first].iter().fold(self.input_size, |input, layer| layer.output(input));
        Self {
            input_size,
            layers: self.layers[first..end].to_vec(),
            // As `new` counts.
            seed: self.seed + 10 * first as u64,
            weights: self.weights[first..end].to_vec(),
        }
    }

    /// Every direction of every recurrent layer: the order of states.
    pub(crate) fn directions(&self) -> Vec<Rnn> {
        self.layers.iter().flat_map(Spec::directions).collect()
    }

    /// elman's model with these weights.
    pub(crate) fn elman(&self) -> Sequential {
        let mut model = Sequential::new(self.input_size);
        for layer in &self.layers {
            model = model.add(layer.elman());
        }
        let mut model = model.build(1).expect("the network is valid");
        for (i, arrays) in self.weights.iter().enumerate() {
            for array in arrays {
                let shape = model.weight(i, array.which).expect("the layer has the weight").shape();
                assert_eq!(shape, array.shape, "layer {i}, {}", array.which.name());
                model.set_weight(i, array.which, &array.values).expect("the weight can be set");
            }
        }
        model
    }

    /// One to three recurrent layers of every kind, with dense layers between and above them, at most `units` wide.
    pub(crate) fn random(choices: &mut Choices, units: usize) -> Self {
        let input_size = choices.between(1, 300);
        let recurrent = choices.between(1, 3);
        let mut layers = Vec::new();
        for i in 0..recurrent {
            let top = i + 1 == recurrent;
            let rnn = Rnn {
                activation: choices.one_of(&[
                    Activation::Tanh,
                    Activation::Tanh,
                    Activation::Sigmoid,
                    Activation::Relu,
                    Activation::Linear,
                ]),
                use_bias: choices.coin(),
                return_sequences: !top || choices.coin(),
                go_backwards: choices.between(0, 4) == 0,
                zero_output_for_mask: choices.coin(),
                unroll: choices.one_of(&[Unroll::Looped, Unroll::Unrolled]),
                ..Rnn::new(choices.between(1, units))
            };
            if choices.between(0, 3) == 0 {
                let merge_mode =
                    choices.one_of(&[MergeMode::Concat, MergeMode::Sum, MergeMode::Mul, MergeMode::Ave]);
                let simple_rnn = Rnn { go_backwards: false, ..rnn };
                layers.push(Spec::Bidirectional { merge_mode, simple_rnn });
            } else {
                layers.push(Spec::SimpleRnn(rnn));
            }
            if choices.between(0, 2) == 0 {
                let activation =
                    choices.one_of(&[Activation::Softmax, Activation::Sigmoid, Activation::Relu]);
                layers.push(Spec::Dense {
                    units: choices.between(1, 70),
                    activation,
                    use_bias: choices.coin(),
                });
            }
        }
        Self::new(input_size, layers, choices.between(0, 1 << 30) as u64)
    }
}
