//! Random networks, shapes, masks and states against the oracle; what NaN and infinity do; tiny states.

mod common;

use common::arms;
use common::network::{Network, Rnn, Spec};
use common::numbers::{assert_same_bits, distance, tokens, values};
use common::reference::{self, Call, Input};
use common::vectors::{TOLERANCE, mask_of, run_elman};
use elman::{Activation, MergeMode, Padding, SimpleRnnCell, Unroll, Weight};
use proptest::prelude::*;
use proptest::sample::select;

/// 2^-100: a state below it is stored as zero.
const TINY: f32 = f32::from_bits((127 - 100) << 23);

fn rnn() -> impl Strategy<Value = Rnn> {
    let activations = vec![Activation::Tanh, Activation::Relu, Activation::Sigmoid, Activation::Linear];
    let drivers = vec![Unroll::Auto, Unroll::Looped, Unroll::Unrolled];
    let units = prop_oneof![4 => 1..=20_usize, 2 => 21..=140_usize];
    let flags = any::<[bool; 3]>();
    (units, select(activations), select(drivers), flags, 0..4).prop_map(
        |(units, activation, unroll, [use_bias, return_sequences, zero_output_for_mask], backwards)| Rnn {
            activation,
            unroll,
            use_bias,
            return_sequences,
            zero_output_for_mask,
            go_backwards: backwards == 0,
            ..Rnn::new(units)
        },
    )
}

fn layer() -> impl Strategy<Value = Spec> {
    let merge_modes =
        vec![MergeMode::Concat, MergeMode::Sum, MergeMode::Mul, MergeMode::Ave, MergeMode::None];
    let activations = vec![
        Activation::Tanh,
        Activation::Relu,
        Activation::Sigmoid,
        Activation::Linear,
        Activation::Softmax,
    ];
    prop_oneof![
        4 => rnn().prop_map(Spec::SimpleRnn),
        2 => (rnn(), select(merge_modes)).prop_map(|(simple_rnn, merge_mode)| {
            Spec::Bidirectional { merge_mode, simple_rnn: Rnn { go_backwards: false, ..simple_rnn } }
        }),
        2 => (1..=40_usize, select(activations), any::<bool>())
            .prop_map(|(units, activation, use_bias)| Spec::Dense { units, activation, use_bias }),
        1 => Just(Spec::Dropout { rate: 0.5 }),
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
            let recurrent = |layer: &Spec| !layer.directions().is_empty();
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
                if let Spec::SimpleRnn(rnn) | Spec::Bidirectional { simple_rnn: rnn, .. } = layer {
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
struct Question {
    network: Network,
    batch: usize,
    steps: usize,
    mask: Option<Vec<u8>>,
    lengths: Option<Vec<usize>>,
    states: bool,
    seed: u64,
}

fn question() -> impl Strategy<Value = Question> {
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

/// What `elman` and the oracle answer.
struct Answers {
    output: Vec<f32>,
    state: Vec<f32>,
    oracle: reference::Outcome,
}

impl Question {
    fn ask(&self, padding: Padding, spoil: impl Fn(&mut [f32])) -> Answers {
        let Self { network, batch, steps, .. } = self;
        let (batch, steps) = (*batch, *steps);
        let mut x = values(self.seed, batch * steps * network.input_size, 1.0);
        let mut ids = Vec::new();
        match network.layers[0] {
            Spec::Embedding { vocabulary, .. } => ids = tokens(self.seed, batch * steps, vocabulary),
            Spec::Masking { mask_value } => {
                for (i, step) in x.chunks_exact_mut(network.input_size).enumerate() {
                    if !tokens(self.seed, i + 1, 3)[i].is_positive() {
                        step.fill(mask_value);
                    }
                }
            }
            _ => {}
        }
        spoil(&mut x);
        let input = if ids.is_empty() { Input::Floats(&x) } else { Input::Tokens(&ids) };
        let units: usize = network.directions().iter().map(|rnn| rnn.units).sum();
        let initial = values(self.seed + 1, batch * units, 0.5);
        // The oracle knows masks only.
        let by_length = self.lengths.as_ref().map(|lengths| mask_of(lengths, steps));
        let call = Call {
            mask: self.mask.as_deref().or(by_length.as_deref()),
            padding,
            initial_state: self.states.then_some(&initial[..]),
            ..Call::new(input, batch, steps)
        };
        let oracle = reference::run(network, call);
        let call = Call { mask: self.mask.as_deref(), lengths: self.lengths.as_deref(), ..call };
        let (output, state) = run_elman(&network.elman(), call);
        Answers { output, state, oracle }
    }
}

impl Answers {
    fn compare(&self) -> Result<(), TestCaseError> {
        for (what, got, expected) in
            [("output", &self.output, &self.oracle.output), ("state", &self.state, &self.oracle.state())]
        {
            // What a relu leaves of a sum can be far smaller than the terms that were rounded: hence the floor.
            let distance = distance(got, expected, 0.1);
            prop_assert!(
                distance <= TOLERANCE,
                "{what}: {distance:e} of the largest value\n{got:?}\n{expected:?}"
            );
        }
        Ok(())
    }
}

/// 256 cases a property and arm; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_network_agrees_with_the_oracle(question in question()) {
        question.ask(Padding::Keras, |_| {}).compare()?;
    }

    #[test]
    fn onnx_padding_agrees_with_the_oracle(question in question()) {
        prop_assume!(question.mask.is_none());
        // Masks by value leave holes, which ONNX's lengths cannot say.
        prop_assume!(!matches!(question.network.layers[0], Spec::Masking { .. } | Spec::Embedding { mask_zero: true, .. }));
        // In ONNX a layer's direction is its own, and what it gives is in time order.
        let directions = question.network.directions();
        prop_assume!(directions.iter().all(|rnn| !rnn.go_backwards));
        question.ask(Padding::Onnx, |_| {}).compare()?;
    }

    #[test]
    fn what_is_not_finite_goes_where_arithmetic_carries_it(
        question in question(),
        spoilt in prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize), 1..=3),
    ) {
        let spoil = |x: &mut [f32]| {
            for (at, kind) in &spoilt {
                x[at.index(x.len())] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][*kind];
            }
        };
        question.ask(Padding::Keras, spoil).compare()?;
    }
}

/// Identity kernels and no recurrence: the state is the function of the input, and what is left is how it is stored.
fn identity(units: usize, activation: Activation, return_sequences: bool) -> Network {
    let rnn = Rnn { activation, return_sequences, ..Rnn::new(units) };
    let mut network = Network::single(units, rnn, 1);
    for array in &mut network.weights[0] {
        let one = |(i, value): (usize, &mut f32)| {
            *value = if array.which == Weight::Kernel && i / units == i % units { 1.0 } else { 0.0 };
        };
        array.values.iter_mut().enumerate().for_each(one);
    }
    network
}

#[test]
fn tiny_states_become_zero() {
    let below = TINY.next_down();
    let inputs = [
        TINY,
        below,
        -TINY,
        -below,
        TINY / 2.0,
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        -f32::from_bits(77),
        0.0,
        1e-20,
    ];
    for units in [1, 3, 16, 20, 64, 65, 129] {
        for batch in [1, 2, 9] {
            let x: Vec<f32> = (0..batch * units).map(|i| inputs[(i / 3 + i) % inputs.len()]).collect();
            for activation in [Activation::Tanh, Activation::Linear, Activation::Relu] {
                let network = identity(units, activation, false);
                let function = |x: f32| if activation == Activation::Relu { x.max(0.0) } else { x };
                let stored = |x: f32| if x.abs() < TINY { 0.0 } else { x };
                let expected: Vec<f32> = x.iter().map(|&x| stored(function(x))).collect();
                let (y, state) = run_elman(&network.elman(), Call::new(Input::Floats(&x), batch, 1));
                let what = format!("{units} units, {activation:?}, batch {batch}");
                assert_same_bits(&what, &y, &expected);
                assert_same_bits(&what, &state, &expected);

                let mut cell = SimpleRnnCell::new(Rnn { activation, ..Rnn::new(units) }.elman(), units, 1)
                    .expect("the cell is valid");
                for array in &network.weights[0] {
                    cell.set_weight(array.which, &array.values).expect("the weight fits");
                }
                let mut h = vec![0.0; batch * units];
                cell.step_in_place(&x, batch, &mut h).expect("the step is right");
                assert_same_bits(&what, &h, &expected);
            }
        }
    }
}

/// A sigmoid state too: `sigmoid(-80)` is 1.8e-35.
#[test]
fn tiny_sigmoid_states_become_zero() {
    for units in [1, 17, 64] {
        let x: Vec<f32> = (0..units).map(|i| -60.0 - i as f32).collect();
        let network = identity(units, Activation::Sigmoid, false);
        let (y, _) = run_elman(&network.elman(), Call::new(Input::Floats(&x), 1, 1));
        for (x, y) in x.iter().zip(y) {
            let exact = reference::sigmoid(f64::from(*x));
            let stored = if exact < f64::from(TINY) { 0.0 } else { exact };
            assert!(
                (f64::from(y) - stored).abs() <= 1e-6 * stored,
                "sigmoid({x}) is stored as {y:e}, not {stored:e}"
            );
        }
    }
}

/// A state that halves at each step is there down to 2^-100 and gone at 2^-101, on every step of an unrolled run.
#[test]
fn a_fading_state_ends_at_zero() {
    for unroll in [Unroll::Looped, Unroll::Unrolled] {
        for units in [1, 20, 64, 129] {
            let mut network = identity(units, Activation::Linear, true).with(|rnn| rnn.unroll = unroll);
            for (i, value) in network.weights[0][1].values.iter_mut().enumerate() {
                *value = if i / units == i % units { 0.5 } else { 0.0 };
            }
            let steps = 120;
            let mut x = vec![0.0; steps * units];
            x[..units].fill(1.0);
            let (y, _) = run_elman(&network.elman(), Call::new(Input::Floats(&x), 1, steps));
            let expected: Vec<f32> = (0..steps * units)
                .map(
                    |i| if i / units <= 100 { f32::from_bits((127 - (i / units) as u32) << 23) } else { 0.0 },
                )
                .collect();
            assert_same_bits(&format!("{units} units, {unroll:?}"), &y, &expected);
        }
    }
}

/// A Dense is not a state: what it gives is stored as it is.
#[test]
fn a_dense_layer_keeps_tiny_values() {
    let dense = Spec::Dense { units: 1, activation: Activation::Linear, use_bias: false };
    let mut network = Network::new(1, vec![dense], 1);
    network.weights[0][0].values = vec![1.0];
    let x = [TINY / 2.0, 1e-38, -1e-37, TINY];
    let (y, _) = run_elman(&network.elman(), Call::new(Input::Floats(&x), 4, 1));
    assert_same_bits("dense", &y, &x);
}

#[test]
fn every_arm() {
    arms::run_others("properties");
}
