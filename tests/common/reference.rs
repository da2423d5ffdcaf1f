//! The oracle: every layer in f64, straight from the formulas, one row of the batch after another, nothing clever.
//!
//! It follows Keras (and, where told, ONNX's padding) and knows nothing of how elman works: it computes masked steps
//! only as far as their meaning goes, keeps whole sequences, and calls `f64::tanh` and `f64::exp`.

use elman::{Activation, MergeMode, Padding, Weight};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::network::{Network, Rnn, Spec};

/// The input of a call.
#[derive(Clone, Copy)]
pub(crate) enum Input<'a> {
    /// `[batch, steps, features]`.
    Floats(&'a [f32]),
    /// `[batch, steps]`.
    Tokens(&'a [i32]),
}

/// A call beside its input.
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
    /// By recurrent direction `[batch, units]`.
    pub(crate) initial_state: Option<&'a [f32]>,
    /// In training: what dropout masks are drawn from.
    pub(crate) dropout: Option<u64>,
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
    /// By recurrent direction `[batch, units]`.
    pub(crate) states: Vec<Vec<f64>>,
}

impl Outcome {
    /// The states one behind the other, as elman lays them out.
    pub(crate) fn state(&self) -> Vec<f64> {
        self.states.concat()
    }
}

type Row = Vec<f64>;

/// What one row of the batch is between two layers.
enum Flow {
    Sequence(Vec<Row>),
    Last(Row),
    /// The halves of a Bidirectional layer that does not merge.
    Halves(Vec<Row>, Vec<Row>),
}

pub(crate) fn run(network: &Network, call: Call<'_>) -> Outcome {
    let directions = network.directions();
    let mut states = vec![Vec::new(); directions.len()];
    let (mut output, mut backward_output) = (Vec::new(), Vec::new());
    for b in 0..call.batch {
        let mut initial = Vec::new();
        let mut base = 0;
        for rnn in &directions {
            initial.push(match call.initial_state {
                Some(given) => to_f64(&given[base + b * rnn.units..][..rnn.units]),
                None => vec![0.0; rnn.units],
            });
            base += call.batch * rnn.units;
        }
        let (flow, last_states) = run_row(network, call, b, &initial);
        match flow {
            Flow::Sequence(rows) => output.extend(rows.concat()),
            Flow::Last(row) => output.extend(row),
            Flow::Halves(forward, backward) => {
                output.extend(forward.concat());
                backward_output.extend(backward.concat());
            }
        }
        for (state, last) in states.iter_mut().zip(last_states) {
            state.extend(last);
        }
    }
    output.extend(backward_output);
    Outcome { output, states }
}

fn run_row(network: &Network, call: Call<'_>, b: usize, initial: &[Row]) -> (Flow, Vec<Row>) {
    let steps = call.steps;
    let mut mask: Vec<bool> = match call.mask {
        Some(mask) => mask[b * steps..][..steps].iter().map(|&used| used != 0).collect(),
        None => vec![true; steps],
    };
    let mut flow = match call.input {
        Input::Floats(x) => {
            let features = network.input_size;
            Flow::Sequence((0..steps).map(|t| to_f64(&x[(b * steps + t) * features..][..features])).collect())
        }
        Input::Tokens(ids) => {
            Flow::Sequence((0..steps).map(|t| vec![f64::from(ids[b * steps + t])]).collect())
        }
    };
    let mut states = Vec::new();
    for (i, layer) in network.layers.iter().enumerate() {
        flow = match (layer, flow) {
            (&Spec::Dropout { rate }, flow) => {
                let masked = |place: usize, row: Row| match Dropout::new(call, i, rate) {
                    Some(dropout) => multiply(&row, &dropout.mask(4, place, row.len())),
                    None => row,
                };
                match flow {
                    Flow::Sequence(rows) => {
                        let each = rows.into_iter().enumerate();
                        Flow::Sequence(each.map(|(t, row)| masked(b * steps + t, row)).collect())
                    }
                    Flow::Last(row) => Flow::Last(masked(b, row)),
                    Flow::Halves(..) => panic!("halves that are not merged end the network"),
                }
            }
            (&Spec::Embedding { size, mask_zero, .. }, Flow::Sequence(rows)) => {
                let table = weight(network, i, Weight::Embedding);
                for (used, row) in mask.iter_mut().zip(&rows) {
                    *used &= !(mask_zero && row[0] == 0.0);
                }
                let looked_up = rows.iter().map(|row| table[row[0] as usize * size..][..size].to_vec());
                Flow::Sequence(looked_up.collect())
            }
            (&Spec::Masking { mask_value }, Flow::Sequence(mut rows)) => {
                for (used, row) in mask.iter_mut().zip(&mut rows) {
                    if row.iter().all(|&value| value == f64::from(mask_value)) {
                        *used = false;
                        row.fill(0.0);
                    }
                }
                Flow::Sequence(rows)
            }
            (&Spec::Dense { units, activation, .. }, flow) => {
                let kernel = weight(network, i, Weight::Kernel);
                let bias = bias(network, i, Weight::Bias, units);
                let dense = |row: &Row| activate(activation, add(&bias, &product(row, &kernel, units)));
                match flow {
                    Flow::Sequence(rows) => Flow::Sequence(rows.iter().map(dense).collect()),
                    Flow::Last(row) => Flow::Last(dense(&row)),
                    Flow::Halves(..) => panic!("halves that are not merged end the network"),
                }
            }
            (Spec::SimpleRnn(rnn), Flow::Sequence(rows)) => {
                let direction = Direction { network, call, row: b, layer: i, rnn, backward: false };
                let walk = Walk { mask: &mask, padding: call.padding, zero: rnn.zero_output_for_mask };
                let (outputs, state) = direction.run(&rows, walk, rnn.go_backwards, &initial[states.len()]);
                states.push(state);
                if rnn.return_sequences { Flow::Sequence(outputs) } else { Flow::Last(last(outputs, walk)) }
            }
            (&Spec::Bidirectional { merge_mode, ref simple_rnn }, Flow::Sequence(rows)) => {
                // Keras sets it so on both halves, whatever the user said.
                let zero = simple_rnn.return_sequences;
                let walk = Walk { mask: &mask, padding: call.padding, zero };
                let mut half = |backward| {
                    let direction = Direction { network, call, row: b, layer: i, rnn: simple_rnn, backward };
                    let (mut outputs, state) = direction.run(&rows, walk, backward, &initial[states.len()]);
                    states.push(state);
                    if !simple_rnn.return_sequences {
                        return vec![last(outputs, walk)];
                    }
                    if backward {
                        turn(&mut outputs, walk);
                    }
                    outputs
                };
                let (forward, backward) = (half(false), half(true));
                if merge_mode == MergeMode::None {
                    Flow::Halves(forward, backward)
                } else {
                    let mut merged: Vec<Row> =
                        forward.iter().zip(&backward).map(|(f, b)| merge(merge_mode, f, b)).collect();
                    if simple_rnn.return_sequences {
                        Flow::Sequence(merged)
                    } else {
                        Flow::Last(merged.remove(0))
                    }
                }
            }
            _ => panic!("layer {i} needs a sequence"),
        };
    }
    (flow, states)
}

/// How the steps of a row are walked.
#[derive(Clone, Copy)]
struct Walk<'a> {
    mask: &'a [bool],
    padding: Padding,
    /// Masked steps emit zeros rather than the previous output.
    zero: bool,
}

impl Walk<'_> {
    /// ONNX knows lengths only: the used steps are the first ones.
    fn length(&self) -> usize {
        self.mask.iter().filter(|&&used| used).count()
    }
}

/// The last output. Keras: the last processed step's, whatever it was; ONNX: that of the row's own end.
fn last(mut outputs: Vec<Row>, walk: Walk<'_>) -> Row {
    match walk.padding {
        Padding::Onnx if walk.length() > 0 => outputs.swap_remove(walk.length() - 1),
        _ => outputs.swap_remove(outputs.len() - 1),
    }
}

/// Processing order to time order, for a backward half.
fn turn(outputs: &mut [Row], walk: Walk<'_>) {
    match walk.padding {
        Padding::Onnx => outputs[..walk.length()].reverse(),
        _ => outputs.reverse(),
    }
}

/// One direction of a recurrent layer.
struct Direction<'a> {
    network: &'a Network,
    call: Call<'a>,
    /// Of the batch.
    row: usize,
    layer: usize,
    rnn: &'a Rnn,
    /// Whether the weights are those of a backward half.
    backward: bool,
}

impl Direction<'_> {
    /// The outputs in processing order, and the last state.
    fn run(&self, x: &[Row], walk: Walk<'_>, reversed: bool, initial: &Row) -> (Vec<Row>, Row) {
        let units = self.rnn.units;
        let [kernel, recurrent, bias_name] = if self.backward {
            [Weight::BackwardKernel, Weight::BackwardRecurrentKernel, Weight::BackwardBias]
        } else {
            [Weight::Kernel, Weight::RecurrentKernel, Weight::Bias]
        };
        let kernel = weight(self.network, self.layer, kernel);
        let recurrent = weight(self.network, self.layer, recurrent);
        let bias = bias(self.network, self.layer, bias_name, units);

        // The masks of inputs and states, which all steps share.
        let mask = |rate: f32, kind: u64, len: usize| match Dropout::new(self.call, self.layer, rate) {
            Some(dropout) => dropout.mask(kind + 2 * u64::from(self.backward), self.row, len),
            None => vec![1.0; len],
        };
        let dropped = mask(self.rnn.dropout, 0, x[0].len());
        let recurrent_dropped = mask(self.rnn.recurrent_dropout, 1, units);

        let zeros = vec![0.0; units];
        let mut order: Vec<usize> = (0..x.len()).collect();
        if reversed {
            match walk.padding {
                Padding::Onnx => order[..walk.length()].reverse(),
                _ => order.reverse(),
            }
        }
        let mut state = initial.clone();
        let mut output = zeros.clone();
        let mut outputs = Vec::new();
        for t in order {
            if walk.mask[t] {
                let z = add(&bias, &product(&multiply(&x[t], &dropped), &kernel, units));
                let before = multiply(&state, &recurrent_dropped);
                state = activate(self.rnn.activation, add(&z, &product(&before, &recurrent, units)));
                output = state.clone();
            } else if walk.zero || walk.padding == Padding::Onnx {
                output = zeros.clone();
            }
            outputs.push(output.clone());
        }
        if walk.padding == Padding::Onnx && walk.length() == 0 {
            // ONNX Runtime: a row without steps ends at zero, wherever it began.
            state = zeros;
        }
        (outputs, state)
    }
}

/// The masks of one layer's dropout, as `src/sequence/tape/dropout.rs` words them.
struct Dropout {
    seed: u64,
    layer: usize,
    rate: f32,
}

impl Dropout {
    /// None where nothing is dropped.
    fn new(call: Call<'_>, layer: usize, rate: f32) -> Option<Self> {
        let seed = call.dropout.filter(|_| rate > 0.0)?;
        Some(Self { seed, layer, rate })
    }

    /// The elements of one row, `place` rows of `len` coming before it.
    fn mask(&self, kind: u64, place: usize, len: usize) -> Row {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(8 * self.layer as u64 + kind);
        random.set_word_pos((place * len) as u128);
        let scale = if self.rate < 1.0 { f64::from(1.0 / (1.0 - self.rate)) } else { 0.0 };
        let mut element = || {
            let fraction = f64::from(random.next_u32() >> 8) / f64::from(1 << 24);
            if fraction >= f64::from(self.rate) { scale } else { 0.0 }
        };
        (0..len).map(|_| element()).collect()
    }
}

fn multiply(row: &[f64], mask: &[f64]) -> Row {
    row.iter().zip(mask).map(|(value, mask)| value * mask).collect()
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

fn to_f64(values: &[f32]) -> Row {
    values.iter().copied().map(f64::from).collect()
}

fn weight(network: &Network, layer: usize, which: Weight) -> Row {
    let array = network.weights[layer].iter().find(|array| array.which == which);
    to_f64(&array.expect("the layer has the weight").values)
}

/// Zeros where the layer has none.
fn bias(network: &Network, layer: usize, which: Weight, units: usize) -> Row {
    let array = network.weights[layer].iter().find(|array| array.which == which);
    array.map_or_else(|| vec![0.0; units], |array| to_f64(&array.values))
}

/// `row · matrix`, the matrix having `columns` columns.
fn product(row: &[f64], matrix: &[f64], columns: usize) -> Row {
    let mut sums = vec![0.0; columns];
    for (a, matrix_row) in row.iter().zip(matrix.chunks_exact(columns)) {
        for (sum, b) in sums.iter_mut().zip(matrix_row) {
            *sum += a * b;
        }
    }
    sums
}

fn add(a: &[f64], b: &[f64]) -> Row {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn activate(activation: Activation, row: Row) -> Row {
    match activation {
        Activation::Linear => row,
        Activation::Tanh => row.into_iter().map(f64::tanh).collect(),
        Activation::Relu => row.into_iter().map(relu).collect(),
        Activation::Sigmoid => row.into_iter().map(sigmoid).collect(),
        Activation::Softmax => {
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Row = row.iter().map(|x| (x - most).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.iter().map(|power| power / sum).collect()
        }
        other => panic!("no formula for {other:?}"),
    }
}

/// `f64::max` would lose a NaN.
fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
