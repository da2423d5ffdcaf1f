//! The oracle: forwards and, by hand, backwards through layers and time. Every layer in f64, straight from the formulas,
//! one row of the batch after another, nothing clever.
//!
//! It follows Keras (and, where told, ONNX's padding) and knows nothing of how elman works: it computes masked steps
//! only as far as their meaning goes, keeps whole sequences, and calls `f64::tanh` and `f64::exp`. Gates lie in Keras's
//! order: i f c o, z r h. Inside, a state is a row `[h | c]`. Outside, h and c are arrays `[batch, units]` of their own:
//! layer by layer, a bidirectional one forward first, h before c.

use elman::{Activation, MergeMode, Padding};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::network::{Array, Network, Recurrent, Rnn, Spec};

/// The input of a call.
#[derive(Clone, Copy)]
pub(crate) enum Input<'a> {
    /// `[batch, steps, features]`.
    Floats(&'a [f32]),
    /// `[batch, steps]`.
    Tokens(&'a [i32]),
}

/// A call.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) input: Input<'a>,
    pub(crate) batch: usize,
    pub(crate) steps: usize,
    /// `[batch, steps]`, 1 = use the step.
    pub(crate) mask: Option<&'a [u8]>,
    /// `[batch]`, for elman alone: the oracle is given the mask that they mean.
    pub(crate) lengths: Option<&'a [usize]>,
    pub(crate) padding: Padding,
    /// By state array `[batch, units]`.
    pub(crate) initial_state: Option<&'a [f32]>,
    /// In training; for the oracle alone, since elman draws its own: see [`elman_masks`].
    pub(crate) dropout: Option<DropoutMasks<'a>>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(input: Input<'a>, batch: usize, steps: usize) -> Self {
        Self {
            input,
            batch,
            steps,
            mask: None,
            lengths: None,
            padding: Padding::Keras,
            initial_state: None,
            dropout: None,
        }
    }
}

/// What comes out.
pub(crate) struct Outcome {
    /// As elman lays it out.
    pub(crate) output: Vec<f64>,
    /// By state array `[batch, units]`.
    pub(crate) states: Vec<Vec<f64>>,
}

impl Outcome {
    /// The states one behind the other, as elman lays them out.
    pub(crate) fn state(&self) -> Vec<f64> {
        self.states.concat()
    }
}

/// The formulas of activations.
pub(crate) trait Exact {
    fn value(self, x: f64) -> f64;
    /// The derivative; at a kink that of the left side.
    fn slope(self, x: f64) -> f64;
    fn of(self, row: &[f64]) -> Row;
    /// The gradient of a sum from that of its activation.
    fn back(self, row: &[f64], gradient: &[f64]) -> Row;
}

impl Exact for Activation {
    fn value(self, x: f64) -> f64 {
        let hard = |x: f64| x.clamp(0.0, 1.0);
        match self {
            Self::Linear => x,
            Self::Tanh => x.tanh(),
            Self::Relu => if_positive(x, x, 0.0),
            Self::Sigmoid => sigmoid(x),
            Self::HardSigmoid => hard(x / 6.0 + 0.5),
            Self::HardSigmoidKeras2 => hard(x / 5.0 + 0.5),
            Self::Softplus => if_positive(x, x + (-x).exp().ln_1p(), x.exp().ln_1p()),
            Self::Elu => if_positive(x, x, x.exp_m1()),
            Self::LeakyRelu => if_positive(x, x, 0.2 * x),
            other => panic!("no formula for {other:?}"),
        }
    }

    fn slope(self, x: f64) -> f64 {
        let inside = |slope: f64| if self.value(x) > 0.0 && self.value(x) < 1.0 { slope } else { 0.0 };
        match self {
            Self::Linear => 1.0,
            Self::Tanh => 1.0 - x.tanh() * x.tanh(),
            Self::Relu => if_positive(x, 1.0, 0.0),
            Self::Sigmoid => sigmoid(x) * sigmoid(-x),
            Self::HardSigmoid => inside(1.0 / 6.0),
            Self::HardSigmoidKeras2 => inside(1.0 / 5.0),
            Self::Softplus => sigmoid(x),
            Self::Elu => if_positive(x, 1.0, x.exp()),
            Self::LeakyRelu => if_positive(x, 1.0, 0.2),
            other => panic!("no formula for {other:?}"),
        }
    }

    fn of(self, row: &[f64]) -> Row {
        row.iter().map(|&x| self.value(x)).collect()
    }

    fn back(self, row: &[f64], gradient: &[f64]) -> Row {
        row.iter().zip(gradient).map(|(&x, g)| self.slope(x) * g).collect()
    }
}

/// A NaN goes with the negative ones, so `negative` must carry it.
fn if_positive(x: f64, positive: f64, negative: f64) -> f64 {
    if x > 0.0 {
        positive
    } else if x.is_nan() {
        x
    } else {
        negative
    }
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// A dropout mask's row: of which layer and half (1 = backward), of what, for which gate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropped {
    pub(crate) layer: usize,
    pub(crate) half: usize,
    pub(crate) of: DroppedOf,
    /// 0 where one mask serves all gates.
    pub(crate) gate: usize,
    pub(crate) rate: f32,
    /// Of the batch; of a Dropout layer between sequences, of batch and steps.
    pub(crate) row: usize,
    pub(crate) len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum DroppedOf {
    Input,
    State,
    /// A Dropout layer's.
    Layer,
}

/// Gives a mask's row, `len` factors. Asked only where a rate is above 0.
pub(crate) type DropoutMasks<'a> = &'a dyn Fn(Dropped) -> Vec<f64>;

/// The masks that elman draws from `seed`, as `src/sequence/tape/dropout.rs` words them.
pub(crate) fn elman_masks(seed: u64) -> impl Fn(Dropped) -> Vec<f64> {
    move |dropped| {
        let kind = match dropped.of {
            DroppedOf::Input => 0,
            DroppedOf::State => 1,
            DroppedOf::Layer => 4,
        };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(8 * dropped.layer as u64 + kind + 2 * dropped.half as u64);
        random.set_word_pos(((dropped.gate as u128) << 60) + (dropped.row * dropped.len) as u128);
        let scale = if dropped.rate < 1.0 { f64::from(1.0 / (1.0 - dropped.rate)) } else { 0.0 };
        let mut element = || {
            let fraction = f64::from(random.next_u32() >> 8) / f64::from(1 << 24);
            if fraction >= f64::from(dropped.rate) { scale } else { 0.0 }
        };
        (0..dropped.len).map(|_| element()).collect()
    }
}

/// What the loss `sum(output · g) + sum(state · g)` changes by.
pub(crate) struct Gradients {
    /// Of each array of `Network::weights`.
    pub(crate) weights: Vec<Vec<Vec<f64>>>,
    /// `[batch, steps, features]`; empty for tokens.
    pub(crate) input: Vec<f64>,
    /// By state array `[batch, units]`.
    pub(crate) states: Vec<Vec<f64>>,
}

type Row = Vec<f64>;

/// Runs the network forwards.
pub(crate) fn run(network: &Network, call: Call<'_>) -> Outcome {
    let mut states = vec![Vec::new(); network.states().len()];
    let mut halves = [Vec::new(), Vec::new()];
    for row in 0..call.batch {
        let pass = Pass::run(network, call, row);
        for (output, rows) in halves.iter_mut().zip(pass.output.halves()) {
            output.extend(rows.concat());
        }
        for (state, last) in states.iter_mut().zip(pass.last) {
            state.extend(last);
        }
    }
    Outcome { output: halves.concat(), states }
}

/// Runs the network forwards and backwards. The gradient of the output is laid out as the output is, that of the
/// final states as initial ones are.
pub(crate) fn gradients(
    network: &Network,
    call: Call<'_>,
    output: &[f32],
    states: Option<&[f32]>,
) -> Gradients {
    let zeros = |array: &Array| vec![0.0; array.values.len()];
    let mut found = Gradients {
        weights: network.weights.iter().map(|arrays| arrays.iter().map(zeros).collect()).collect(),
        input: Vec::new(),
        states: vec![Vec::new(); network.states().len()],
    };
    for row in 0..call.batch {
        let pass = Pass::run(network, call, row);
        let halves = pass.output.halves().len();
        let mut gradient = Vec::new();
        for half in output.chunks_exact(output.len() / halves) {
            let places = pass.output.rows.len() / halves;
            let row = &half[row * half.len() / call.batch..][..half.len() / call.batch];
            gradient.extend(row.chunks_exact(row.len() / places).map(to_f64));
        }
        let last = states_of(network, call.batch, row, states);
        pass.back(network, gradient, last, &mut found);
    }
    found
}

/// One row of each array of states, zeros where none are given.
fn states_of(network: &Network, batch: usize, row: usize, given: Option<&[f32]>) -> Vec<Row> {
    let mut base = 0;
    let one = |options: &Rnn| {
        let state = match given {
            Some(given) => to_f64(&given[base + row * options.units..][..options.units]),
            None => vec![0.0; options.units],
        };
        base += batch * options.units;
        state
    };
    network.states().iter().map(one).collect()
}

/// What one row of the batch is between two layers.
struct Flow {
    rows: Vec<Row>,
    sequence: bool,
    /// The halves of a Bidirectional layer that does not merge, one behind the other.
    two: bool,
}

impl Flow {
    fn halves(&self) -> Vec<&[Row]> {
        self.rows.chunks(self.rows.len() / if self.two { 2 } else { 1 }).collect()
    }
}

/// What a layer must remember of a row's way forward.
enum Kept {
    /// What was looked up.
    Tokens(Vec<usize>),
    /// Which steps were passed on.
    Used(Vec<bool>),
    /// The factors of a Dropout layer, if it is active.
    Factors(Option<Vec<Row>>),
    /// Inputs and sums.
    Dense(Vec<Row>, Vec<Row>),
    /// Of each direction its walk and what it hands on.
    Walks(Vec<Walk>, Vec<Vec<Row>>),
}

/// One row's way through all layers.
struct Pass<'a> {
    network: &'a Network,
    call: Call<'a>,
    /// Of the batch.
    row: usize,
    kept: Vec<Kept>,
    output: Flow,
    /// The final states, array by array.
    last: Vec<Row>,
}

impl<'a> Pass<'a> {
    fn run(network: &'a Network, call: Call<'a>, row: usize) -> Pass<'a> {
        let steps = call.steps;
        let mut mask: Vec<bool> = match call.mask {
            Some(mask) => mask[row * steps..][..steps].iter().map(|&used| used != 0).collect(),
            None => vec![true; steps],
        };
        let rows = match call.input {
            Input::Floats(x) => {
                let row = &x[row * steps * network.input_size..][..steps * network.input_size];
                row.chunks_exact(network.input_size).map(to_f64).collect()
            }
            Input::Tokens(ids) => ids[row * steps..][..steps].iter().map(|&id| vec![f64::from(id)]).collect(),
        };
        let output = Flow { rows, sequence: true, two: false };
        let mut pass = Pass { network, call, row, kept: Vec::new(), output, last: Vec::new() };
        let mut initial = states_of(network, call.batch, row, call.initial_state).into_iter();
        for (i, layer) in network.layers.iter().enumerate() {
            assert!(!pass.output.two, "halves that are not merged end the network");
            match layer.recurrent() {
                Some((recurrent, merged)) => pass.walk(i, recurrent, merged, &mask, &mut initial),
                None => pass.simple(i, layer, &mut mask),
            }
        }
        pass
    }

    /// A layer that knows no order of steps.
    fn simple(&mut self, i: usize, layer: &Spec, mask: &mut [bool]) {
        let (weights, rows) = (&self.network.weights[i], &mut self.output.rows);
        let kept = match *layer {
            Spec::Embedding { size, mask_zero, .. } => {
                let tokens: Vec<usize> = rows.iter().map(|row| row[0] as usize).collect();
                for ((used, row), &token) in mask.iter_mut().zip(rows).zip(&tokens) {
                    *used &= !(mask_zero && token == 0);
                    *row = to_f64(&weights[0].values[token * size..][..size]);
                }
                Kept::Tokens(tokens)
            }
            Spec::Masking { mask_value } => {
                let used = |row: &Row| row.iter().any(|&value| value != f64::from(mask_value));
                let used: Vec<bool> = rows.iter().map(used).collect();
                for ((mask, row), &used) in mask.iter_mut().zip(rows).zip(&used) {
                    *mask &= used;
                    row.iter_mut().for_each(|value| *value = if used { *value } else { 0.0 });
                }
                Kept::Used(used)
            }
            Spec::Dropout { rate } => {
                let sequence = self.output.sequence;
                let first = if sequence { self.row * self.call.steps } else { self.row };
                let factors = self.call.dropout.filter(|_| rate > 0.0).map(|masks| {
                    let mask = |(k, row): (usize, &Row)| {
                        let of = DroppedOf::Layer;
                        masks(Dropped {
                            layer: i,
                            half: 0,
                            of,
                            gate: 0,
                            rate,
                            row: first + k,
                            len: row.len(),
                        })
                    };
                    rows.iter().enumerate().map(mask).collect::<Vec<Row>>()
                });
                for (row, factors) in rows.iter_mut().zip(factors.iter().flatten()) {
                    *row = multiply(row, factors);
                }
                Kept::Factors(factors)
            }
            Spec::Dense { activation, .. } => {
                let bias = |j| weights.get(1).map_or(0.0, |bias| f64::from(bias.values[j]));
                let sum = |row: &Row| {
                    let sums = product(&weights[0], row, 0, weights[0].shape[1]);
                    sums.iter().enumerate().map(|(j, sum)| bias(j) + sum).collect()
                };
                let sums: Vec<Row> = rows.iter().map(sum).collect();
                let outputs = sums.iter().map(|sums| match activation {
                    Activation::Softmax => softmax(sums),
                    _ => activation.of(sums),
                });
                Kept::Dense(std::mem::replace(rows, outputs.collect()), sums)
            }
            _ => panic!("{layer:?} is recurrent"),
        };
        self.kept.push(kept);
    }

    fn walk(
        &mut self,
        i: usize,
        recurrent: Recurrent,
        merged: Option<MergeMode>,
        mask: &[bool],
        initial: &mut impl Iterator<Item = Row>,
    ) {
        assert!(self.output.sequence, "layer {i} needs a sequence");
        let options = recurrent.options();
        let (mut walks, mut outputs) = (Vec::new(), Vec::new());
        for half in 0..if merged.is_some() { 2 } else { 1 } {
            let direction = self.direction(i, recurrent, half);
            let how = How {
                mask,
                padding: self.call.padding,
                // Keras sets it so on both halves, whatever the user said.
                zero: if merged.is_some() { options.return_sequences } else { options.zero_output_for_mask },
                reversed: if merged.is_some() { half == 1 } else { options.go_backwards },
                turned: half == 1,
            };
            let initial: Row = initial.take(recurrent.states()).collect::<Vec<_>>().concat();
            let (walk, emitted, state) = direction.walk(&self.output.rows, how, initial);
            self.last.extend(state.chunks_exact(options.units).map(<[f64]>::to_vec));
            walks.push(walk);
            outputs.push(emitted);
        }
        self.output.sequence = options.return_sequences;
        self.output.two = merged == Some(MergeMode::None);
        self.output.rows = match merged {
            None | Some(MergeMode::None) => outputs.concat(),
            Some(mode) => outputs[0].iter().zip(&outputs[1]).map(|(f, b)| merge(mode, f, b)).collect(),
        };
        self.kept.push(Kept::Walks(walks, outputs));
    }

    fn direction(&self, i: usize, recurrent: Recurrent, half: usize) -> Direction<'a> {
        let options = recurrent.options();
        let each = if options.use_bias { 3 } else { 2 };
        let weights = &self.network.weights[i][half * each..][..each];
        let input = weights[0].shape[0];
        let masks = |of, len, rate| {
            let mask = |gate| match self.call.dropout.filter(|_| rate > 0.0) {
                Some(masks) => {
                    // Keras draws one for all gates where there is nothing recurrent.
                    let gate = if options.recurrent_dropout > 0.0 { gate } else { 0 };
                    masks(Dropped { layer: i, half, of, gate, rate, row: self.row, len })
                }
                None => vec![1.0; len],
            };
            (0..recurrent.gates()).map(mask).collect()
        };
        Direction {
            recurrent,
            weights,
            input_masks: masks(DroppedOf::Input, input, options.dropout),
            state_masks: masks(DroppedOf::State, options.units, options.recurrent_dropout),
        }
    }

    /// Back through all layers, adding to what is found.
    fn back(&self, network: &Network, output: Vec<Row>, last: Vec<Row>, found: &mut Gradients) {
        let mut gradient = output;
        let mut end = last.len();
        for (i, (layer, kept)) in network.layers.iter().zip(&self.kept).enumerate().rev() {
            let weights = &mut found.weights[i];
            gradient = match (layer, kept) {
                (_, Kept::Tokens(tokens)) => {
                    for (&token, row) in tokens.iter().zip(&gradient) {
                        add_to(&mut weights[0][token * row.len()..][..row.len()], row);
                    }
                    Vec::new()
                }
                (_, Kept::Used(used)) => {
                    let passed = |(row, &used): (Row, &bool)| if used { row } else { vec![0.0; row.len()] };
                    gradient.into_iter().zip(used).map(passed).collect()
                }
                (_, Kept::Factors(None)) => gradient,
                (_, Kept::Factors(Some(factors))) => {
                    gradient.iter().zip(factors).map(|(row, factors)| multiply(row, factors)).collect()
                }
                (&Spec::Dense { activation, .. }, Kept::Dense(inputs, sums)) => {
                    let dense = |((row, sums), g): ((&Row, &Row), &Row)| {
                        let g = match activation {
                            Activation::Softmax => softmax_back(sums, g),
                            _ => activation.back(sums, g),
                        };
                        if let Some(bias) = weights.get_mut(1) {
                            add_to(bias, &g);
                        }
                        product_back(&network.weights[i][0], &mut weights[0], row, 0, &g)
                    };
                    inputs.iter().zip(sums).zip(&gradient).map(dense).collect()
                }
                (_, Kept::Walks(walks, outputs)) => {
                    let (recurrent, merged) = layer.recurrent().expect("it kept walks");
                    let (states, each) = (recurrent.states(), weights.len() / walks.len());
                    end -= walks.len() * states;
                    let mut input = vec![Row::new(); self.call.steps];
                    for (half, walk) in walks.iter().enumerate() {
                        let gradient = unmerged(merged, outputs, &gradient, half);
                        let places = end + half * states..end + (half + 1) * states;
                        let last = last[places.clone()].concat();
                        let direction = self.direction(i, recurrent, half);
                        let weights = &mut weights[half * each..][..each];
                        let (of_half, initial) = direction.walk_back(walk, &gradient, last, weights);
                        for (row, of_half) in input.iter_mut().zip(&of_half) {
                            row.resize(of_half.len(), 0.0);
                            add_to(row, of_half);
                        }
                        let initial = initial.chunks_exact(recurrent.options().units);
                        for (state, initial) in found.states[places].iter_mut().zip(initial) {
                            state.extend(initial);
                        }
                    }
                    input
                }
                _ => panic!("{layer:?} kept something else"),
            };
        }
        found.input.extend(gradient.concat());
    }
}

/// How the steps of a row are walked.
#[derive(Clone, Copy)]
struct How<'a> {
    mask: &'a [bool],
    padding: Padding,
    /// Masked steps emit zeros rather than the previous output.
    zero: bool,
    reversed: bool,
    /// Outputs are handed on in time order, not as they were made.
    turned: bool,
}

impl How<'_> {
    /// ONNX knows lengths only: the used steps are the first ones.
    fn length(&self) -> usize {
        match self.padding {
            Padding::Onnx => self.mask.iter().filter(|&&used| used).count(),
            _ => self.mask.len(),
        }
    }

    /// Steps in the order in which they are walked, or made ones in the order of time.
    fn order(&self, reversed: bool) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.mask.len()).collect();
        if reversed {
            order[..self.length()].reverse();
        }
        order
    }
}

/// One direction's way through a row.
struct Walk {
    /// In the order of walking: which step, and what it read (`x` and the state before), where it was used.
    steps: Vec<(usize, Option<(Row, Row)>)>,
    /// For each output handed on the place in `steps` whose state it is; None for zeros.
    sources: Vec<Option<usize>>,
    /// ONNX Runtime: a row without steps ends at zero, wherever it began.
    empty: bool,
}

/// One direction of a recurrent layer: the cell.
struct Direction<'a> {
    recurrent: Recurrent,
    /// Kernel, recurrent kernel and, if there is one, bias.
    weights: &'a [Array],
    /// One a gate.
    input_masks: Vec<Row>,
    state_masks: Vec<Row>,
}

impl Direction<'_> {
    /// The walk, the outputs that it hands on, and the last state.
    fn walk(&self, x: &[Row], how: How<'_>, initial: Row) -> (Walk, Vec<Row>, Row) {
        let options = self.recurrent.options();
        let zeros = vec![0.0; options.units];
        let mut state = initial;
        // The output of each step walked, and the place that it comes from.
        let (mut made, mut output) = (Vec::new(), (zeros, None));
        let mut steps = Vec::new();
        for t in how.order(how.reversed) {
            if how.mask[t] {
                let next = self.step(&x[t], &state);
                output = (next[..options.units].to_vec(), Some(steps.len()));
                steps.push((t, Some((x[t].clone(), std::mem::replace(&mut state, next)))));
            } else {
                if how.zero || how.padding == Padding::Onnx {
                    output = (vec![0.0; options.units], None);
                }
                steps.push((t, None));
            }
            made.push(output.clone());
        }
        let handed_on = match options.return_sequences {
            true => how.order(how.turned),
            // Keras: the last processed step's, whatever it was; ONNX: that of the row's own end.
            false => vec![how.length().max(1) - 1],
        };
        let empty = how.length() == 0;
        if empty {
            state.fill(0.0);
        }
        let sources = handed_on.iter().map(|&place| made[place].1).collect();
        let outputs = handed_on.iter().map(|&place| made[place].0.clone()).collect();
        (Walk { steps, sources, empty }, outputs, state)
    }

    /// The gradients of the inputs by step and of the initial state.
    fn walk_back(&self, walk: &Walk, outputs: &[Row], last: Row, weights: &mut [Row]) -> (Vec<Row>, Row) {
        let units = self.recurrent.options().units;
        let mut of_outputs = vec![vec![0.0; units]; walk.steps.len()];
        for (source, gradient) in walk.sources.iter().zip(outputs) {
            if let Some(place) = *source {
                add_to(&mut of_outputs[place], gradient);
            }
        }
        let mut state = if walk.empty { vec![0.0; last.len()] } else { last };
        let mut inputs = vec![vec![0.0; self.weights[0].shape[0]]; walk.steps.len()];
        for ((t, read), of_output) in walk.steps.iter().zip(&of_outputs).rev() {
            if let Some((x, before)) = read {
                add_to(&mut state[..units], of_output);
                (inputs[*t], state) = self.step_back(x, before, &state, weights);
            }
        }
        (inputs, state)
    }

    /// `x · W + b` of a gate.
    fn input_sum(&self, x: &[f64], gate: usize) -> Row {
        let units = self.recurrent.options().units;
        let mut sum = product(&self.weights[0], &multiply(x, &self.input_masks[gate]), gate, units);
        if let Some(bias) = self.weights.get(2) {
            add_to(&mut sum, &to_f64(&bias.values[gate * units..][..units]));
        }
        sum
    }

    /// `h · U` of a gate and, where the bias has a second row, that.
    fn state_sum(&self, h: &[f64], gate: usize) -> Row {
        let units = self.recurrent.options().units;
        let mut sum = product(&self.weights[1], &multiply(h, &self.state_masks[gate]), gate, units);
        if let Some(bias) = self.weights.get(2).filter(|bias| bias.shape[0] == 2) {
            add_to(&mut sum, &to_f64(&bias.values[bias.shape[1] + gate * units..][..units]));
        }
        sum
    }

    /// From the gradient of `input_sum` that of `x`.
    fn input_back(&self, x: &[f64], gate: usize, gradient: &[f64], weights: &mut [Row]) -> Row {
        if let Some(bias) = weights.get_mut(2) {
            add_to(&mut bias[gate * gradient.len()..][..gradient.len()], gradient);
        }
        let (kernel, mask) = (&self.weights[0], &self.input_masks[gate]);
        multiply(&product_back(kernel, &mut weights[0], &multiply(x, mask), gate, gradient), mask)
    }

    /// From the gradient of `state_sum` that of `h`.
    fn state_back(&self, h: &[f64], gate: usize, gradient: &[f64], weights: &mut [Row]) -> Row {
        if let Some(bias) = self.weights.get(2).filter(|bias| bias.shape[0] == 2) {
            add_to(&mut weights[2][bias.shape[1] + gate * gradient.len()..][..gradient.len()], gradient);
        }
        let (kernel, mask) = (&self.weights[1], &self.state_masks[gate]);
        multiply(&product_back(kernel, &mut weights[1], &multiply(h, mask), gate, gradient), mask)
    }

    /// The state after a step.
    fn step(&self, x: &[f64], before: &[f64]) -> Row {
        let options = self.recurrent.options();
        let (h, c) = before.split_at(options.units);
        let (s, a) = (options.recurrent_activation, options.activation);
        let both = |gate| add(&self.input_sum(x, gate), &self.state_sum(h, gate));
        match self.recurrent {
            Recurrent::SimpleRnn(_) => a.of(&both(0)),
            Recurrent::Lstm(_) => {
                let [i, f, o] = [0, 1, 3].map(|gate| s.of(&both(gate)));
                let g = a.of(&both(2));
                let c = add(&multiply(&f, c), &multiply(&i, &g));
                [multiply(&o, &a.of(&c)), c].concat()
            }
            Recurrent::Gru(_) => {
                let [z, r] = [0, 1].map(|gate| s.of(&both(gate)));
                let n = a.of(&self.candidate(x, h, &r));
                (0..h.len()).map(|j| z[j] * h[j] + (1.0 - z[j]) * n[j]).collect()
            }
        }
    }

    /// The sum of a GRU's candidate.
    fn candidate(&self, x: &[f64], h: &[f64], r: &[f64]) -> Row {
        let recurrent = match self.recurrent.options().reset_after {
            true => multiply(r, &self.state_sum(h, 2)),
            false => self.state_sum(&multiply(r, h), 2),
        };
        add(&self.input_sum(x, 2), &recurrent)
    }

    /// From the gradient of the state after a step those of `x` and of the state before.
    fn step_back(&self, x: &[f64], before: &[f64], after: &[f64], weights: &mut [Row]) -> (Row, Row) {
        let units = self.recurrent.options().units;
        let (h, c) = before.split_at(units);
        match self.recurrent {
            Recurrent::SimpleRnn(options) => {
                let sum = add(&self.input_sum(x, 0), &self.state_sum(h, 0));
                let sum = options.activation.back(&sum, after);
                (self.input_back(x, 0, &sum, weights), self.state_back(h, 0, &sum, weights))
            }
            Recurrent::Lstm(options) => self.lstm_back(options, x, [h, c], after.split_at(units), weights),
            Recurrent::Gru(options) => self.gru_back(options, x, h, after, weights),
        }
    }

    fn lstm_back(
        &self,
        options: Rnn,
        x: &[f64],
        [h, c]: [&[f64]; 2],
        (h_after, c_after): (&[f64], &[f64]),
        weights: &mut [Row],
    ) -> (Row, Row) {
        let (s, a) = (options.recurrent_activation, options.activation);
        let sums = [0, 1, 2, 3].map(|gate| add(&self.input_sum(x, gate), &self.state_sum(h, gate)));
        let [i, f, o] = [0, 1, 3].map(|gate| s.of(&sums[gate]));
        let g = a.of(&sums[2]);
        let next = add(&multiply(&f, c), &multiply(&i, &g));
        let of_o = multiply(h_after, &a.of(&next));
        let of_next = add(c_after, &a.back(&next, &multiply(h_after, &o)));
        let of_sums = [
            s.back(&sums[0], &multiply(&of_next, &g)),
            s.back(&sums[1], &multiply(&of_next, c)),
            a.back(&sums[2], &multiply(&of_next, &i)),
            s.back(&sums[3], &of_o),
        ];
        let (mut of_x, mut of_h) = (vec![0.0; x.len()], vec![0.0; h.len()]);
        for (gate, of_sum) in of_sums.iter().enumerate() {
            add_to(&mut of_x, &self.input_back(x, gate, of_sum, weights));
            add_to(&mut of_h, &self.state_back(h, gate, of_sum, weights));
        }
        (of_x, [of_h, multiply(&of_next, &f)].concat())
    }

    fn gru_back(&self, options: Rnn, x: &[f64], h: &[f64], after: &[f64], weights: &mut [Row]) -> (Row, Row) {
        let (s, a) = (options.recurrent_activation, options.activation);
        let sums = [0, 1].map(|gate| add(&self.input_sum(x, gate), &self.state_sum(h, gate)));
        let [z, r] = [0, 1].map(|gate: usize| s.of(&sums[gate]));
        let candidate = self.candidate(x, h, &r);
        let n = a.of(&candidate);
        let of_z: Row = (0..h.len()).map(|j| after[j] * (h[j] - n[j])).collect();
        let of_n: Row = (0..h.len()).map(|j| after[j] * (1.0 - z[j])).collect();
        let of_candidate = a.back(&candidate, &of_n);
        let mut of_h = multiply(after, &z);
        let of_r = if options.reset_after {
            let of_sum = multiply(&of_candidate, &r);
            add_to(&mut of_h, &self.state_back(h, 2, &of_sum, weights));
            multiply(&of_candidate, &self.state_sum(h, 2))
        } else {
            let of_reset = self.state_back(&multiply(&r, h), 2, &of_candidate, weights);
            add_to(&mut of_h, &multiply(&of_reset, &r));
            multiply(&of_reset, h)
        };
        let of_sums = [s.back(&sums[0], &of_z), s.back(&sums[1], &of_r)];
        let mut of_x = self.input_back(x, 2, &of_candidate, weights);
        for (gate, of_sum) in of_sums.iter().enumerate() {
            add_to(&mut of_x, &self.input_back(x, gate, of_sum, weights));
            add_to(&mut of_h, &self.state_back(h, gate, of_sum, weights));
        }
        (of_x, of_h)
    }
}

fn merge(mode: MergeMode, forward: &[f64], backward: &[f64]) -> Row {
    let pairs = forward.iter().zip(backward);
    match mode {
        MergeMode::Concat => [forward, backward].concat(),
        MergeMode::Sum => pairs.map(|(f, b)| f + b).collect(),
        MergeMode::Mul => pairs.map(|(f, b)| f * b).collect(),
        MergeMode::Ave => pairs.map(|(f, b)| (f + b) / 2.0).collect(),
        _ => panic!("{mode:?} does not merge"),
    }
}

/// A half's gradient from that of what was merged.
fn unmerged(mode: Option<MergeMode>, outputs: &[Vec<Row>], gradient: &[Row], half: usize) -> Vec<Row> {
    let each = gradient.iter();
    match mode {
        None | Some(MergeMode::Sum) => gradient.to_vec(),
        Some(MergeMode::None) => gradient[half * gradient.len() / 2..][..gradient.len() / 2].to_vec(),
        Some(MergeMode::Concat) => {
            each.map(|row| row[half * row.len() / 2..][..row.len() / 2].to_vec()).collect()
        }
        Some(MergeMode::Mul) => each.zip(&outputs[1 - half]).map(|(g, other)| multiply(g, other)).collect(),
        Some(MergeMode::Ave) => each.map(|row| row.iter().map(|g| g / 2.0).collect()).collect(),
        Some(mode) => panic!("no gradient for {mode:?}"),
    }
}

/// `row · matrix`, of the matrix the `gate`-th block of `columns` columns.
fn product(matrix: &Array, row: &[f64], gate: usize, columns: usize) -> Row {
    let mut sums = vec![0.0; columns];
    for (a, matrix_row) in row.iter().zip(matrix.values.chunks_exact(matrix.shape[1])) {
        for (sum, &b) in sums.iter_mut().zip(&matrix_row[gate * columns..]) {
            *sum += a * f64::from(b);
        }
    }
    sums
}

/// From the gradient of `product` that of `row`; the matrix's is added to `found`.
fn product_back(matrix: &Array, found: &mut [f64], row: &[f64], gate: usize, gradient: &[f64]) -> Row {
    let (columns, first) = (matrix.shape[1], gate * gradient.len());
    let mut of_row = vec![0.0; row.len()];
    for (k, (of_a, a)) in of_row.iter_mut().zip(row).enumerate() {
        let block = k * columns + first..k * columns + first + gradient.len();
        for ((b, of_b), g) in matrix.values[block.clone()].iter().zip(&mut found[block]).zip(gradient) {
            *of_a += g * f64::from(*b);
            *of_b += g * a;
        }
    }
    of_row
}

fn softmax(row: &[f64]) -> Row {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Row = row.iter().map(|x| (x - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

fn softmax_back(row: &[f64], gradient: &[f64]) -> Row {
    let shares = softmax(row);
    let mean: f64 = shares.iter().zip(gradient).map(|(share, g)| share * g).sum();
    shares.iter().zip(gradient).map(|(share, g)| share * (g - mean)).collect()
}

fn multiply(a: &[f64], b: &[f64]) -> Row {
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}

fn add(a: &[f64], b: &[f64]) -> Row {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn add_to(sums: &mut [f64], terms: &[f64]) {
    sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
}

fn to_f64(values: &[f32]) -> Row {
    values.iter().copied().map(f64::from).collect()
}
