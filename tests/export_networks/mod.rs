//! Random networks that a format can say.

use elman::{
    Activation, Bidirectional, Dense, Dropout, Embedding, Format, Gru, Initializer, Input, Layer,
    LoadOptions, Lstm, MergeMode, Output, Recurrent, Sequential, SimpleRnn,
};

pub(crate) const BATCH: usize = 3;
pub(crate) const STEPS: usize = 7;

/// A network, what it is asked, and what a state dict of it does not say.
pub(crate) struct Case {
    pub(crate) model: Sequential,
    pub(crate) options: LoadOptions,
    pub(crate) x: Vec<f32>,
    pub(crate) ids: Vec<i32>,
}

impl Case {
    pub(crate) fn reads_ids(&self) -> bool {
        matches!(self.model.layers().first(), Some(Layer::Embedding(_)))
    }
}

pub(crate) fn predicted(model: &Sequential, case: &Case) -> Vec<f32> {
    let input = if case.reads_ids() { Input::Tokens(&case.ids) } else { Input::Floats(&case.x) };
    model.predict(input, BATCH, STEPS).expect("it fits")
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 1
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

const ELEMENTWISE: [Activation; 9] = [
    Activation::Linear,
    Activation::Tanh,
    Activation::Relu,
    Activation::Sigmoid,
    Activation::HardSigmoid,
    Activation::HardSigmoidKeras2,
    Activation::Softplus,
    Activation::Elu,
    Activation::LeakyRelu,
];

/// So many networks that the format can say.
pub(crate) fn networks(count: u64, format: Format) -> Vec<Case> {
    (1..=count).map(|seed| network(seed, format)).collect()
}

fn network(seed: u64, format: Format) -> Case {
    let torch = format == Format::Torch;
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (0..8).for_each(|_| _ = random.below(2));
    // nn.RNN's function is one for all.
    let of_rnn = random.of(&[Activation::Tanh, Activation::Relu]);
    let mut options = LoadOptions::default().activation(of_rnn);
    let embedding = random.below(3) == 0;
    let input = if embedding { 1 } else { 1 + random.below(6) };
    let mut model = Sequential::new(input);
    if embedding {
        let uniform = Initializer::RandomUniform { low: -1.0, high: 1.0 };
        model = model.add(Embedding::new(11, 1 + random.below(6)).embeddings_initializer(uniform));
    }
    let count = 1 + random.below(3);
    for at in 0..count {
        let last = at + 1 == count;
        let sequence = !last || random.yes();
        options = options.output(if sequence { Output::Sequence } else { Output::LastState });
        let (layer, both) = recurrent(&mut random, torch, of_rnn, sequence);
        let merge_mode = match torch {
            true => MergeMode::Concat,
            false => random.of(&[MergeMode::Concat, MergeMode::Sum, MergeMode::Mul, MergeMode::Ave]),
        };
        model = match both {
            true => model.add(Bidirectional::new(layer).merge_mode(merge_mode)),
            false => model.add(Layer::Recurrent(layer)),
        };
        if random.yes() {
            model = model.add(Dropout::new(0.5));
        }
    }
    for at in 0..random.below(3) {
        let function = if at == 1 && random.yes() { Activation::Softmax } else { random.of(&ELEMENTWISE) };
        // What stands behind a dense layer is between it and the next one, or last.
        if at == 1 {
            options = options.clone().between(options.last);
        }
        options = options.last(function);
        let uniform = Initializer::RandomUniform { low: -0.5, high: 0.5 };
        let dense = Dense::new(1 + random.below(5)).activation(function).bias_initializer(uniform);
        model = model.add(dense.use_bias(random.below(4) > 0));
    }
    let x = (0..BATCH * STEPS * input).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect();
    let ids = (0..BATCH * STEPS).map(|_| random.below(11) as i32).collect();
    Case { model: model.build(seed).expect("the layers fit"), options, x, ids }
}

/// A recurrent layer, and whether it walks both ways.
fn recurrent(random: &mut Random, torch: bool, of_rnn: Activation, sequence: bool) -> (Recurrent, bool) {
    let units = 1 + random.below(9);
    let bias = Initializer::RandomUniform { low: -0.5, high: 0.5 };
    let use_bias = random.below(4) > 0;
    let both = random.below(5) < 2;
    let backwards = !torch && !both && random.below(4) == 0;
    let special = !torch && random.yes();
    let functions = if special {
        [random.of(&ELEMENTWISE), random.of(&ELEMENTWISE)]
    } else {
        [Activation::Tanh, Activation::Sigmoid]
    };
    macro_rules! common {
        ($layer:expr) => {
            $layer
                .return_sequences(sequence)
                .go_backwards(backwards)
                .use_bias(use_bias)
                .bias_initializer(bias)
        };
    }
    let layer = match random.below(3) {
        0 => common!(SimpleRnn::new(units)).activation(if special { functions[0] } else { of_rnn }).into(),
        1 => common!(Lstm::new(units)).activation(functions[0]).recurrent_activation(functions[1]).into(),
        _ => {
            let gru = common!(Gru::new(units)).activation(functions[0]).recurrent_activation(functions[1]);
            gru.reset_after(torch || random.yes()).into()
        }
    };
    (layer, both)
}
