//! Random networks that a format can say.

use elman::{
    Activation, Bidirectional, Dense, Dropout, Embedding, Format, Gru, Initializer, Input, LastStep, Layer,
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
    /// The output is an array for each direction, which only this crate's own files and ONNX say.
    pub(crate) two_arrays: bool,
}

impl Case {
    pub(crate) fn reads_ids(&self) -> bool {
        matches!(self.model.layers().first(), Some(Layer::Embedding(_)))
    }
}

/// What a model gives when it keeps no states.
pub(crate) fn predicted(model: &Sequential, case: &Case) -> Vec<f32> {
    model.reset_states();
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

/// All but softmax.
const ELEMENTWISE: &[Activation] = Activation::ALL.split_last().expect("there are some").1;

/// Gates that let more through than there is make states grow without end.
const BOUNDED: [Activation; 4] =
    [Activation::Sigmoid, Activation::HardSigmoid, Activation::HardSigmoidKeras2, Activation::Tanh];

/// So many networks that the format can say.
pub(crate) fn networks(count: usize, format: Format) -> Vec<Case> {
    // What grows from step to step is of no use to a comparison.
    let is_tame = |case: &Case| predicted(&case.model, case).iter().all(|y| y.abs() < 10.0);
    (1..).map(|seed| network(seed, format)).filter(is_tame).take(count).collect()
}

fn network(seed: u64, format: Format) -> Case {
    let [torch, onnx] = [Format::Torch, Format::Onnx].map(|one| one == format);
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
    let mut two_arrays = false;
    for at in 0..count {
        let last = at + 1 == count;
        let sequence = !last || random.yes();
        options = options.output(if sequence { Output::Sequence } else { Output::LastState });
        let (layer, both) = recurrent(&mut random, [torch, onnx], of_rnn, sequence);
        let merge_mode = match torch {
            true => MergeMode::Concat,
            false if onnx && last && both && random.below(4) == 0 => MergeMode::None,
            false => random.of(&[MergeMode::Concat, MergeMode::Sum, MergeMode::Mul, MergeMode::Ave]),
        };
        two_arrays |= merge_mode == MergeMode::None;
        model = match both {
            true => model.add(Bidirectional::new(layer).merge_mode(merge_mode)),
            false => model.add(Layer::Recurrent(layer)),
        };
        if last && sequence && !two_arrays && random.below(3) == 0 {
            model = model.add(LastStep::new());
            options = options.output(Output::LastStep);
        }
        if !two_arrays && random.yes() {
            model = model.add(Dropout::new(0.5));
        }
    }
    let dense = if two_arrays { 0 } else { random.below(3) };
    for at in 0..dense {
        let function = if at == 1 && random.yes() { Activation::Softmax } else { random.of(ELEMENTWISE) };
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
    Case { model: model.build(seed).expect("the layers fit"), options, x, ids, two_arrays }
}

/// A recurrent layer, and whether it walks both ways.
fn recurrent(
    random: &mut Random,
    [torch, onnx]: [bool; 2],
    of_rnn: Activation,
    sequence: bool,
) -> (Recurrent, bool) {
    let units = 1 + random.below(9);
    let uniform = |size: f32| Initializer::RandomUniform { low: -size, high: size };
    let use_bias = random.below(4) > 0;
    let both = random.below(5) < 2;
    let backwards = !torch && !both && random.below(4) == 0;
    let stateful = onnx && random.below(5) == 0;
    let special = !torch && random.yes();
    let functions = if special {
        [random.of(ELEMENTWISE), random.of(&BOUNDED)]
    } else {
        [Activation::Tanh, Activation::Sigmoid]
    };
    macro_rules! common {
        ($layer:expr) => {
            $layer
                .return_sequences(sequence)
                .go_backwards(backwards)
                .use_bias(use_bias)
                .stateful(stateful)
                .kernel_initializer(uniform(0.5))
                .recurrent_initializer(uniform(0.3))
                .bias_initializer(uniform(0.5))
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
