//! Networks as plain data: read from the vectors' metadata or made up by a suite, turned into elman's layers, and
//! walked by the oracle. Fields and types are Keras's words, as in the metadata.

use elman::{
    Activation, Bidirectional, Dense, Dropout, Embedding, Gru, Layer, Lstm, Masking, MergeMode, Sequential,
    SimpleRnn, Unroll, Weight,
};
use serde::Deserialize;

use super::numbers::{Choices, values};

/// The options of a recurrent layer, those of all cells together.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Rnn {
    pub(crate) units: usize,
    pub(crate) activation: Activation,
    /// Of LSTM and GRU.
    #[serde(default = "sigmoid")]
    pub(crate) recurrent_activation: Activation,
    pub(crate) use_bias: bool,
    /// Of LSTM; says here that the weights from seeds have it.
    #[serde(default)]
    pub(crate) unit_forget_bias: bool,
    /// Of GRU.
    #[serde(default)]
    pub(crate) reset_after: bool,
    pub(crate) return_sequences: bool,
    pub(crate) go_backwards: bool,
    pub(crate) stateful: bool,
    pub(crate) zero_output_for_mask: bool,
    pub(crate) unroll: Unroll,
    pub(crate) dropout: f32,
    pub(crate) recurrent_dropout: f32,
}

impl Rnn {
    /// Keras's defaults for LSTM and GRU.
    pub(crate) fn new(units: usize) -> Self {
        Self {
            units,
            activation: Activation::Tanh,
            recurrent_activation: Activation::Sigmoid,
            use_bias: true,
            unit_forget_bias: true,
            reset_after: true,
            return_sequences: false,
            go_backwards: false,
            stateful: false,
            zero_output_for_mask: false,
            unroll: Unroll::Auto,
            dropout: 0.0,
            recurrent_dropout: 0.0,
        }
    }
}

impl Rnn {
    /// Of a layer that reads forwards and gives its last output: any activations, tanh as likely as all others together, and
    /// every other option.
    pub(crate) fn random(choices: &mut Choices, units: usize) -> Self {
        Self {
            activation: if choices.coin() { Activation::Tanh } else { choices.one_of(&ACTIVATIONS) },
            recurrent_activation: choices.one_of(&BOUNDED),
            use_bias: choices.coin(),
            zero_output_for_mask: choices.coin(),
            unroll: choices.one_of(&[Unroll::Looped, Unroll::Unrolled]),
            ..Self::new(choices.between(1, units))
        }
    }
}

fn sigmoid() -> Activation {
    Activation::Sigmoid
}

/// A cell with its options.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Recurrent {
    SimpleRnn(Rnn),
    Lstm(Rnn),
    Gru(Rnn),
}

impl Recurrent {
    pub(crate) fn options(&self) -> &Rnn {
        let (Self::SimpleRnn(options) | Self::Lstm(options) | Self::Gru(options)) = self;
        options
    }

    pub(crate) fn elman(&self) -> elman::Recurrent {
        let options = *self.options();
        macro_rules! shared {
            ($layer:ident) => {
                $layer::new(options.units)
                    .activation(options.activation)
                    .use_bias(options.use_bias)
                    .return_sequences(options.return_sequences)
                    .go_backwards(options.go_backwards)
                    .stateful(options.stateful)
                    .zero_output_for_mask(options.zero_output_for_mask)
                    .unroll(options.unroll)
                    .dropout(options.dropout)
                    .recurrent_dropout(options.recurrent_dropout)
            };
        }
        let gates = options.recurrent_activation;
        match self {
            Self::SimpleRnn(_) => shared!(SimpleRnn).into(),
            Self::Lstm(_) => {
                shared!(Lstm).recurrent_activation(gates).unit_forget_bias(options.unit_forget_bias).into()
            }
            Self::Gru(_) => shared!(Gru).recurrent_activation(gates).reset_after(options.reset_after).into(),
        }
    }

    pub(crate) fn gates(&self) -> usize {
        match self {
            Self::SimpleRnn(_) => 1,
            Self::Lstm(_) => 4,
            Self::Gru(_) => 3,
        }
    }

    /// How many arrays a state is.
    pub(crate) fn states(&self) -> usize {
        if matches!(self, Self::Lstm(_)) { 2 } else { 1 }
    }

    pub(crate) fn is_simple(&self) -> bool {
        matches!(self, Self::SimpleRnn(_))
    }

    /// Kernel, recurrent kernel, bias.
    fn shapes(&self, input: usize) -> Vec<[usize; 2]> {
        let units = self.options().units;
        let columns = self.gates() * units;
        let biases = if matches!(self, Self::Gru(options) if options.reset_after) { 2 } else { 1 };
        let shapes = [[input, columns], [units, columns], [biases, columns]];
        shapes[..if self.options().use_bias { 3 } else { 2 }].to_vec()
    }
}

/// Options alone are the simple cell's.
impl From<Rnn> for Recurrent {
    fn from(rnn: Rnn) -> Self {
        Self::SimpleRnn(rnn)
    }
}

/// Every cell; of GRU, which has two, that of Keras 2 and 3 first.
pub(crate) const CELLS: [fn(Rnn) -> Recurrent; 4] =
    [Recurrent::SimpleRnn, Recurrent::Lstm, gru, gru_reset_before];

/// Those with gates.
pub(crate) const GATED: [fn(Rnn) -> Recurrent; 3] = [Recurrent::Lstm, gru, gru_reset_before];

fn gru(rnn: Rnn) -> Recurrent {
    Recurrent::Gru(Rnn { reset_after: true, ..rnn })
}

fn gru_reset_before(rnn: Rnn) -> Recurrent {
    Recurrent::Gru(Rnn { reset_after: false, ..rnn })
}

/// Whatever works element by element.
pub(crate) const ACTIVATIONS: [Activation; 9] = [
    Activation::Tanh,
    Activation::Relu,
    Activation::Sigmoid,
    Activation::Linear,
    Activation::HardSigmoid,
    Activation::HardSigmoidKeras2,
    Activation::Softplus,
    Activation::Elu,
    Activation::LeakyRelu,
];

/// Of gates, those whose values have a bound; the states of the others may grow step by step, until there is little to
/// compare.
pub(crate) const BOUNDED: [Activation; 4] =
    [Activation::Sigmoid, Activation::HardSigmoid, Activation::HardSigmoidKeras2, Activation::Tanh];

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Spec {
    Embedding {
        vocabulary: usize,
        size: usize,
        mask_zero: bool,
    },
    Masking {
        mask_value: f32,
    },
    SimpleRnn(Rnn),
    Lstm(Rnn),
    Gru(Rnn),
    Bidirectional {
        merge_mode: MergeMode,
        #[serde(flatten)]
        layer: Recurrent,
    },
    Dense {
        units: usize,
        activation: Activation,
        use_bias: bool,
    },
    Dropout {
        rate: f32,
    },
}

impl From<Recurrent> for Spec {
    fn from(layer: Recurrent) -> Self {
        match layer {
            Recurrent::SimpleRnn(rnn) => Self::SimpleRnn(rnn),
            Recurrent::Lstm(rnn) => Self::Lstm(rnn),
            Recurrent::Gru(rnn) => Self::Gru(rnn),
        }
    }
}

impl Spec {
    pub(crate) fn bidirectional(merge_mode: MergeMode, layer: impl Into<Recurrent>) -> Self {
        Self::Bidirectional { merge_mode, layer: layer.into() }
    }

    /// The recurrent layer and, of a bidirectional one, how its halves are merged.
    pub(crate) fn recurrent(&self) -> Option<(Recurrent, Option<MergeMode>)> {
        match *self {
            Spec::SimpleRnn(options) => Some((Recurrent::SimpleRnn(options), None)),
            Spec::Lstm(options) => Some((Recurrent::Lstm(options), None)),
            Spec::Gru(options) => Some((Recurrent::Gru(options), None)),
            Spec::Bidirectional { merge_mode, layer } => Some((layer, Some(merge_mode))),
            _ => None,
        }
    }

    /// The options of a recurrent layer.
    pub(crate) fn rnn_mut(&mut self) -> Option<&mut Rnn> {
        match self {
            Spec::SimpleRnn(rnn) | Spec::Lstm(rnn) | Spec::Gru(rnn) => Some(rnn),
            Spec::Bidirectional { layer, .. } => {
                let (Recurrent::SimpleRnn(rnn) | Recurrent::Lstm(rnn) | Recurrent::Gru(rnn)) = layer;
                Some(rnn)
            }
            _ => None,
        }
    }

    pub(crate) fn elman(&self) -> Layer {
        match (*self, self.recurrent()) {
            (_, Some((layer, None))) => layer.elman().into(),
            (_, Some((layer, Some(mode)))) => Bidirectional::new(layer.elman()).merge_mode(mode).into(),
            (Spec::Embedding { vocabulary, size, mask_zero }, _) => {
                Embedding::new(vocabulary, size).mask_zero(mask_zero).into()
            }
            (Spec::Masking { mask_value }, _) => Masking::new(mask_value).into(),
            (Spec::Dense { units, activation, use_bias }, _) => {
                Dense::new(units).activation(activation).use_bias(use_bias).into()
            }
            (Spec::Dropout { rate }, _) => Dropout::new(rate).into(),
            _ => unreachable!("recurrent"),
        }
    }

    /// Features of the output for `input` features.
    pub(crate) fn output(&self, input: usize) -> usize {
        match (self, self.recurrent()) {
            (_, Some((layer, Some(MergeMode::Concat)))) => 2 * layer.options().units,
            (_, Some((layer, _))) => layer.options().units,
            (&Spec::Embedding { size, .. }, _) => size,
            (&Spec::Dense { units, .. }, _) => units,
            _ => input,
        }
    }

    /// The weights for `input` features in Keras's order.
    fn shapes(&self, input: usize) -> Vec<(Weight, [usize; 2])> {
        let forward = [Weight::Kernel, Weight::RecurrentKernel, Weight::Bias];
        let backward = [Weight::BackwardKernel, Weight::BackwardRecurrentKernel, Weight::BackwardBias];
        match (self, self.recurrent()) {
            (_, Some((layer, merged))) => {
                let halves = [forward, backward].into_iter().take(if merged.is_some() { 2 } else { 1 });
                halves.flat_map(|names| names.into_iter().zip(layer.shapes(input))).collect()
            }
            (&Spec::Embedding { vocabulary, size, .. }, _) => vec![(Weight::Embedding, [vocabulary, size])],
            (&Spec::Dense { units, use_bias, .. }, _) => {
                let shapes = [(Weight::Kernel, [input, units]), (Weight::Bias, [1, units])];
                shapes[..if use_bias { 2 } else { 1 }].to_vec()
            }
            _ => Vec::new(),
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
                let mut values = values(seed, shape[0] * shape[1], scale as f32);
                if let (Weight::Bias | Weight::BackwardBias, Some((Recurrent::Lstm(lstm), _))) =
                    (which, layer.recurrent())
                    && lstm.unit_forget_bias
                {
                    values[lstm.units..2 * lstm.units].iter_mut().for_each(|bias| *bias += 1.0);
                }
                Array { which, shape, values }
            });
            weights.push(arrays.collect());
            input = layer.output(input);
        }
        Self { input_size, layers, seed, weights }
    }

    /// One recurrent layer.
    pub(crate) fn single(features: usize, layer: impl Into<Recurrent>, seed: u64) -> Self {
        Self::new(features, vec![layer.into().into()], seed)
    }

    /// The same weights under changed options.
    pub(crate) fn with(&self, change: impl FnMut(&mut Rnn)) -> Self {
        let mut changed = self.clone();
        changed.layers.iter_mut().filter_map(Spec::rnn_mut).for_each(change);
        changed
    }

    /// Each weight moved by 2^-20 of itself, up or down.
    pub(crate) fn moved(&self, draw: u64) -> Self {
        let mut moved = self.clone();
        for (i, array) in moved.weights.iter_mut().flatten().enumerate() {
            let ways = values(1000 * draw + i as u64, array.values.len(), 1.0);
            let each = array.values.iter_mut().zip(ways);
            each.for_each(|(value, way)| *value *= 1.0 + way.signum() / (1 << 20) as f32);
        }
        moved
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

    /// Floats of all states of a row.
    pub(crate) fn state_len(&self) -> usize {
        self.states().iter().map(|of| of.units).sum()
    }

    /// Whether it gives an output for every step.
    pub(crate) fn gives_sequence(&self) -> bool {
        self.states().last().is_none_or(|of| of.return_sequences)
    }

    /// elman's model with these weights.
    pub(crate) fn elman(&self) -> Sequential {
        let layers = self.layers.iter().map(Spec::elman);
        let model = layers.fold(Sequential::new(self.input_size), Sequential::add);
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

    /// The recurrent layer of every state array: the order of states.
    pub(crate) fn states(&self) -> Vec<Rnn> {
        let recurrent = self.layers.iter().filter_map(Spec::recurrent);
        let each = |(layer, merged): (Recurrent, Option<_>)| {
            let directions = if merged.is_some() { 2 } else { 1 };
            vec![*layer.options(); directions * layer.states()]
        };
        recurrent.flat_map(each).collect()
    }

    /// One to three recurrent layers of every kind, with dense layers between and above them, at most `units` wide.
    pub(crate) fn random(choices: &mut Choices, units: usize) -> Self {
        let input_size = choices.between(1, 300);
        let recurrent = choices.between(1, 3);
        let mut layers = Vec::new();
        for i in 0..recurrent {
            let top = i + 1 == recurrent;
            let rnn = Rnn {
                return_sequences: !top || choices.coin(),
                go_backwards: choices.between(0, 4) == 0,
                ..Rnn::random(choices, units)
            };
            let cell = choices.one_of(&CELLS);
            if choices.between(0, 3) == 0 {
                let merge_mode =
                    choices.one_of(&[MergeMode::Concat, MergeMode::Sum, MergeMode::Mul, MergeMode::Ave]);
                layers.push(Spec::bidirectional(merge_mode, cell(Rnn { go_backwards: false, ..rnn })));
            } else {
                layers.push(cell(rnn).into());
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
