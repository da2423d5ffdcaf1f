//! Random networks with random calls, for proptest: every layer, option, mask and length.

use elman::{Activation, MergeMode, Padding, Unroll};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

use super::network::{ACTIVATIONS, BOUNDED, CELLS, Network, Recurrent, Rnn, Spec};
use super::numbers::{tokens, values};
use super::reference::{Call, Input};
use super::vectors::mask_of;

/// 256 cases a property and backend, the same ones on every run and backend, so that a failure can be repeated.
/// `PROPTEST_CASES` asks for more, and `PROPTEST_RNG_SEED` for others.
pub(crate) fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let rng_seed = match default.rng_seed {
        RngSeed::Random => RngSeed::Fixed(5),
        given => given,
    };
    ProptestConfig { failure_persistence: None, rng_seed, ..default }
}

/// Tanh and sigmoid are asked of most.
fn activation(usual: Activation) -> impl Strategy<Value = Activation> {
    prop_oneof![2 => Just(usual), 3 => select(&ACTIVATIONS[..])]
}

/// Few without a bound are asked.
fn gates() -> impl Strategy<Value = Activation> {
    prop_oneof![3 => Just(Activation::Sigmoid), 6 => select(&BOUNDED[..]), 1 => select(&ACTIVATIONS[..])]
}

fn recurrent() -> impl Strategy<Value = Recurrent> {
    let drivers = vec![Unroll::Auto, Unroll::Looped, Unroll::Unrolled];
    let units = prop_oneof![4 => 1..=20_usize, 2 => 21..=140_usize];
    let functions = (activation(Activation::Tanh), gates());
    let (flags, rates) = (any::<[bool; 3]>(), [rate(), rate()]);
    (select(&CELLS[..]), units, functions, select(drivers), flags, rates, 0..4).prop_map(
        |(
            cell,
            units,
            (activation, recurrent_activation),
            unroll,
            flags,
            [dropout, recurrent_dropout],
            backwards,
        )| {
            let [use_bias, return_sequences, zero_output_for_mask] = flags;
            cell(Rnn {
                activation,
                recurrent_activation,
                unroll,
                use_bias,
                return_sequences,
                zero_output_for_mask,
                go_backwards: backwards == 0,
                dropout,
                recurrent_dropout,
                ..Rnn::new(units)
            })
        },
    )
}

/// Inference ignores it.
fn rate() -> impl Strategy<Value = f32> {
    prop_oneof![3 => Just(0.0), 1 => 0.0..=0.9_f32, 1 => Just(1.0)]
}

fn layer() -> impl Strategy<Value = Spec> {
    let merge_modes =
        vec![MergeMode::Concat, MergeMode::Sum, MergeMode::Mul, MergeMode::Ave, MergeMode::None];
    let dense = prop_oneof![4 => select(&ACTIVATIONS[..]), 1 => Just(Activation::Softmax)];
    prop_oneof![
        4 => recurrent().prop_map(Spec::from),
        2 => (recurrent(), select(merge_modes)).prop_map(|(layer, merge_mode)| {
            let mut both = Spec::bidirectional(merge_mode, layer);
            both.rnn_mut().expect("it is recurrent").go_backwards = false;
            both
        }),
        2 => (1..=40_usize, dense, any::<bool>())
            .prop_map(|(units, activation, use_bias)| Spec::Dense { units, activation, use_bias }),
        1 => rate().prop_map(|rate| Spec::Dropout { rate }),
    ]
}

/// A first layer that is not recurrent: none, an embedding, a masking layer.
fn first() -> impl Strategy<Value = Option<Spec>> {
    prop_oneof![
        3 => Just(None),
        1 => (1..=9_usize, 1..=30_usize, any::<bool>())
            .prop_map(|(vocabulary, size, mask_zero)| Some(Spec::Embedding { vocabulary, size, mask_zero })),
        1 => select(vec![0.0, -1.5]).prop_map(|mask_value| Some(Spec::Masking { mask_value })),
    ]
}

/// A network that elman takes: whatever stands below a recurrent layer gives sequences, halves are merged but at the
/// very top, and a masking layer has a recurrent layer above it.
fn network() -> impl Strategy<Value = Network> {
    let features = prop_oneof![3 => 1..=12_usize, 1 => 13..=70_usize];
    (first(), prop::collection::vec(layer(), 1..=4), features, 0..1_000_000_u64).prop_map(
        |(first, above, features, seed)| {
            let recurrent = |layer: &Spec| layer.recurrent().is_some();
            let mut layers: Vec<Spec> = match first {
                Some(Spec::Masking { .. }) if !above.iter().any(recurrent) => Vec::new(),
                first => first.into_iter().collect(),
            };
            layers.extend(above);
            let highest = layers.iter().rposition(recurrent);
            let top = layers.len() - 1;
            for (i, layer) in layers.iter_mut().enumerate() {
                if let Spec::Bidirectional { merge_mode, .. } = layer
                    && *merge_mode == MergeMode::None
                    && i < top
                {
                    *merge_mode = MergeMode::Concat;
                }
                if let Some(rnn) = layer.rnn_mut() {
                    rnn.return_sequences |= highest > Some(i);
                }
            }
            let input_size = if matches!(layers[0], Spec::Embedding { .. }) { 1 } else { features };
            Network::new(input_size, layers, seed)
        },
    )
}

/// A call: sizes, a mask, whether states are given, and a seed for the rest.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) network: Network,
    pub(crate) batch: usize,
    pub(crate) steps: usize,
    pub(crate) mask: Option<Vec<u8>>,
    pub(crate) lengths: Option<Vec<usize>>,
    pub(crate) states: bool,
    pub(crate) seed: u64,
}

pub(crate) fn question() -> impl Strategy<Value = Question> {
    let batch = prop_oneof![4 => 1..=7_usize, 1 => 8..=33_usize];
    (network(), batch, 1..=9_usize, any::<[bool; 3]>(), 0..1_000_000_u64).prop_flat_map(
        |(network, batch, steps, [masked, by_length, states], seed)| {
            let mask = prop::collection::vec(0..=1_u8, batch * steps);
            let lengths = prop::collection::vec(0..=steps, batch);
            (mask, lengths).prop_map(move |(mask, lengths)| Question {
                network: network.clone(),
                batch,
                steps,
                mask: (masked && !by_length).then_some(mask),
                lengths: (masked && by_length).then_some(lengths),
                states,
                seed,
            })
        },
    )
}

/// A question that ONNX's lengths can say: masks by value leave holes, and there a layer's direction is its own, and what
/// it gives is in time order. Made of any question, so that none need be thrown away.
pub(crate) fn onnx_question() -> impl Strategy<Value = Question> {
    question().prop_map(|question| {
        let Network { input_size, layers, seed, .. } = question.network;
        let layers = layers.into_iter().filter_map(|layer| match layer {
            Spec::Masking { .. } => None,
            Spec::Embedding { vocabulary, size, .. } => {
                Some(Spec::Embedding { vocabulary, size, mask_zero: false })
            }
            mut other => {
                if let Some(rnn) = other.rnn_mut() {
                    rnn.go_backwards = false;
                }
                Some(other)
            }
        });
        let network = Network::new(input_size, layers.collect(), seed);
        let used = |row: &[u8]| row.iter().map(|&used| usize::from(used)).sum();
        let mask = question.mask.map(|mask| mask.chunks_exact(question.steps).map(used).collect());
        Question { network, mask: None, lengths: question.lengths.or(mask), ..question }
    })
}

/// The arrays of a question.
pub(crate) struct Data {
    pub(crate) x: Vec<f32>,
    /// In place of `x`, where the network reads tokens.
    ids: Vec<i32>,
    pub(crate) initial: Vec<f32>,
    /// What the lengths mean: the oracle knows masks only.
    by_length: Option<Vec<u8>>,
}

impl Question {
    pub(crate) fn data(&self) -> Data {
        let (network, steps) = (&self.network, self.steps);
        let positions = self.batch * steps;
        let (mut x, mut ids) = (values(self.seed, positions * network.input_size, 1.0), Vec::new());
        match network.layers[0] {
            Spec::Embedding { vocabulary, .. } => ids = tokens(self.seed, positions, vocabulary),
            Spec::Masking { mask_value } => {
                for (i, step) in x.chunks_exact_mut(network.input_size).enumerate() {
                    if !tokens(self.seed, i + 1, 3)[i].is_positive() {
                        step.fill(mask_value);
                    }
                }
            }
            _ => {}
        }
        let initial = values(self.seed + 1, self.batch * network.state_len(), 0.5);
        let by_length = self.lengths.as_ref().map(|lengths| mask_of(lengths, steps));
        Data { x, ids, initial, by_length }
    }
}

impl Data {
    pub(crate) fn for_oracle<'a>(&'a self, question: &'a Question, padding: Padding) -> Call<'a> {
        let mask = question.mask.as_deref().or(self.by_length.as_deref());
        Call { mask, lengths: None, ..self.for_elman(question, padding) }
    }

    pub(crate) fn for_elman<'a>(&'a self, question: &'a Question, padding: Padding) -> Call<'a> {
        let input = if self.ids.is_empty() { Input::Floats(&self.x) } else { Input::Tokens(&self.ids) };
        Call {
            mask: question.mask.as_deref(),
            lengths: question.lengths.as_deref(),
            padding,
            initial_state: question.states.then_some(&self.initial[..]),
            ..Call::new(input, question.batch, question.steps)
        }
    }
}
