//! Initial weights: Keras's distributions, the same numbers on every machine and in every release.

use elman::{
    Bidirectional, Dense, Embedding, Error, Gru, GruCell, Initializer, Lstm, LstmCell, Sequential, SimpleRnn,
    SimpleRnnCell, Weight,
};

/// A weight of `shape` made by `initializer` alone.
fn kernel(initializer: Initializer, [rows, columns]: [usize; 2], seed: u64) -> Vec<f32> {
    let network =
        Sequential::new(rows).add(Dense::new(columns).kernel_initializer(initializer)).build(seed).unwrap();
    let variable = network.weight(0, Weight::Kernel).unwrap();
    assert_eq!(variable.shape(), [rows, columns]);
    variable.values().to_vec()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// The share of values within `bound` of 0.
fn share_within(values: &[f32], bound: f64) -> f64 {
    mean(values.iter().map(|&value| if f64::from(value).abs() <= bound { 1.0 } else { 0.0 }))
}

/// The expected bits come from a script of its own (ChaCha8, polar method and Keras's formulas, in Python's floats),
/// not from this library. They are a promise to whoever wrote down a seed: they never change.
#[test]
fn weights_are_pinned() {
    let config = SimpleRnn::new(4)
        .recurrent_initializer(Initializer::LecunNormal)
        .bias_initializer(Initializer::RandomNormal { mean: 0.5, stddev: 2.0 });
    let cell = SimpleRnnCell::new(config, 3, 2026).unwrap();
    let start = |which, count| bits(&cell.weight(which).unwrap().values()[..count]);
    assert_eq!(start(Weight::Kernel, 4), [0x3ecd_c705, 0x3f10_f0f8, 0xbe51_cfd4, 0x3f20_cb01]);
    assert_eq!(
        start(Weight::RecurrentKernel, 12),
        [
            0xbe4f_878e,
            0x3e81_3ef2,
            0xbe07_0e23,
            0x3ef0_a087,
            0xbf0e_1b98,
            0xbf3f_2000,
            0xbeff_32d4,
            0x3eaf_7882,
            0x3ec2_5eeb,
            0x3f01_733c,
            0xbec8_7bc8,
            0xbf81_db48,
        ]
    );
    assert_eq!(start(Weight::Bias, 4), [0x3e78_d187, 0xbf5c_1876, 0xc00f_2e8f, 0x3f1f_2e79]);

    let network = Sequential::new(3)
        .add(config)
        .add(Dense::new(2).kernel_initializer(Initializer::HeUniform))
        .build(2026)
        .unwrap();
    assert_eq!(
        network.weight(0, Weight::Kernel).unwrap().values(),
        cell.weight(Weight::Kernel).unwrap().values()
    );
    assert_eq!(
        bits(&network.weight(1, Weight::Kernel).unwrap().values()[..4]),
        [0xbf46_b055, 0x3f8a_6089, 0x3f18_90ac, 0xbec6_36ca]
    );
}

/// The same script's matrices, made unique by Gram-Schmidt rather than by reflections.
#[test]
fn orthogonal_weights_are_the_q_of_their_random_matrix() {
    let check = |values: &[f32], expected: &[f32]| {
        assert_eq!(values.len(), expected.len());
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 3e-7, "{values:?}, expected {expected:?}");
        }
    };
    let cell = SimpleRnnCell::new(SimpleRnn::new(3), 1, 2026).unwrap();
    #[rustfmt::skip]
    check(
        cell.weight(Weight::RecurrentKernel).unwrap().values(),
        &[
            -0.579_776_4, -0.217_600_4, -0.785_181_1,
             0.722_149_9,  0.309_020_7, -0.618_874_5,
            -0.377_304_6,  0.925_827_3,  0.022_022_8,
        ],
    );
    check(
        &kernel(Initializer::Orthogonal { gain: 2.0 }, [2, 3], 2026),
        &[0.459_420_2, 0.509_665_2, 0.727_443_8, -0.869_760_3, 0.092_040_4, 0.484_815]
            .map(|value| 2.0 * value),
    );
}

#[test]
fn constants() {
    assert_eq!(kernel(Initializer::Zeros, [2, 3], 1), [0.0; 6]);
    assert_eq!(kernel(Initializer::Ones, [2, 3], 1), [1.0; 6]);
    assert_eq!(kernel(Initializer::Constant { value: -0.3 }, [2, 3], 1), [-0.3; 6]);
    let identity = Initializer::Identity { gain: 2.0 };
    assert_eq!(kernel(identity, [1, 1], 1), [2.0]);
    assert_eq!(kernel(identity, [2, 3], 1), [2.0, 0.0, 0.0, 0.0, 2.0, 0.0]);
    assert_eq!(kernel(identity, [3, 2], 1), [2.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
}

#[test]
fn uniform_weights_fill_their_interval() {
    const SHAPE: [usize; 2] = [300, 500];
    let check = |name: &str, initializer, low: f64, high: f64| {
        let values = kernel(initializer, SHAPE, 5);
        let (width, middle) = (high - low, (low + high) / 2.0);
        let shares = values.iter().map(|&value| (f64::from(value) - low) / width);
        let (least, most) = shares.clone().fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(x), b.max(x)));
        assert!(
            (-1e-7..1e-3).contains(&least) && (0.999..1.0 + 1e-7).contains(&most),
            "{name}: {least} to {most}"
        );
        // 150,000 draws: each tenth of the interval gets a tenth of them, give or take 0.0008.
        for tenth in 0..10 {
            let share =
                mean(shares.clone().map(|x| if (x * 10.0).floor() == f64::from(tenth) { 1.0 } else { 0.0 }));
            assert!((share - 0.1).abs() < 0.004, "{name}: {share} in tenth {tenth}");
        }
        let average = mean(values.iter().map(|&value| f64::from(value)));
        assert!((average - middle).abs() < 0.004 * width, "{name}: mean {average}, expected {middle}");
    };
    let scaled = |name, initializer, limit: f64| check(name, initializer, -limit, limit);
    scaled("glorot_uniform", Initializer::GlorotUniform, (6.0 / 800f64).sqrt());
    scaled("he_uniform", Initializer::HeUniform, (6.0 / 300f64).sqrt());
    scaled("lecun_uniform", Initializer::LecunUniform, (3.0 / 300f64).sqrt());
    check("random_uniform", Initializer::RandomUniform { low: -0.25, high: 1.5 }, -0.25, 1.5);
    assert_eq!(kernel(Initializer::RandomUniform { low: 0.7, high: 0.7 }, [2, 2], 5), [0.7; 4]);
}

/// Keras's fans of a vector are both its length, so `±sqrt(6 / 2n)` for glorot_uniform and not `±sqrt(6 / (1 + n))`.
#[test]
fn a_bias_has_the_fans_of_a_vector() {
    for (initializer, limit) in [
        (Initializer::GlorotUniform, (6.0 / 2000f64).sqrt()),
        (Initializer::HeUniform, (6.0 / 1000f64).sqrt()),
        (Initializer::LecunUniform, (3.0 / 1000f64).sqrt()),
    ] {
        let network =
            Sequential::new(1).add(Dense::new(1000).bias_initializer(initializer)).build(5).unwrap();
        let largest =
            network.weight(0, Weight::Bias).unwrap().values().iter().fold(0f32, |a, b| a.max(b.abs()));
        let share = f64::from(largest) / limit;
        assert!((0.98..1.0 + 1e-7).contains(&share), "{initializer:?}: {largest} of {limit}");
    }
}

#[test]
fn normal_weights_have_their_moments() {
    const SHAPE: [usize; 2] = [300, 500];
    // The shares of N(0, 1) within 0.5, 1 and 2 standard deviations.
    const SHARES: [(f64, f64); 3] = [(0.5, 0.382_925), (1.0, 0.682_689), (2.0, 0.954_500)];
    let values = kernel(Initializer::RandomNormal { mean: 3.0, stddev: 2.0 }, SHAPE, 5);
    let centred: Vec<f32> = values.iter().map(|value| value - 3.0).collect();
    let moment = |values: &[f32], power: i32| mean(values.iter().map(|&value| f64::from(value).powi(power)));
    assert!(moment(&centred, 1).abs() < 0.02, "mean {}", moment(&centred, 1));
    assert!((moment(&centred, 2) - 4.0).abs() < 0.06, "variance {}", moment(&centred, 2));
    assert!((moment(&centred, 4) - 3.0 * 16.0).abs() < 2.0, "fourth moment {}", moment(&centred, 4));
    for (bound, expected) in SHARES {
        let share = share_within(&centred, 2.0 * bound);
        assert!((share - expected).abs() < 0.005, "{share} within {bound}, expected {expected}");
    }
    assert!(centred.iter().any(|value| value.abs() > 6.0), "not truncated");

    for (name, initializer, variance) in [
        ("glorot_normal", Initializer::GlorotNormal, 2.0 / 800.0),
        ("he_normal", Initializer::HeNormal, 2.0 / 300.0),
        ("lecun_normal", Initializer::LecunNormal, 1.0 / 300.0),
    ] {
        let values = kernel(initializer, SHAPE, 5);
        let stddev = f64::sqrt(variance);
        assert!(moment(&values, 1).abs() < 0.01 * stddev, "{name}: mean {}", moment(&values, 1));
        let got = moment(&values, 2);
        assert!((got / variance - 1.0).abs() < 0.015, "{name}: variance {got}, expected {variance}");
        let whole = stddev / 0.879_625_661_034_239_8;
        assert!(share_within(&values, 2.0 * whole * (1.0 + 1e-6)) == 1.0, "{name}: truncated at 2 sigma");
        assert!(share_within(&values, 1.98 * whole) < 1.0, "{name}: truncated at 2 sigma and not before");
        for (bound, expected) in SHARES {
            let (share, expected) = (share_within(&values, bound * whole), expected / 0.954_500);
            assert!((share - expected).abs() < 0.005, "{name}: {share} within {bound}, expected {expected}");
        }
    }
    assert_eq!(kernel(Initializer::RandomNormal { mean: 0.7, stddev: 0.0 }, [2, 2], 5), [0.7; 4]);
}

/// The largest difference between the identity and `M·Mᵀ`, M's rows being the shorter side's.
fn distance_from_orthonormal(values: &[f32], [rows, columns]: [usize; 2]) -> f64 {
    let (count, length) = (rows.min(columns), rows.max(columns));
    // vectors[k][i]: element k of vector i, so that the innermost loop is contiguous.
    let element = |k, i| f64::from(values[if rows < columns { i * columns + k } else { k * columns + i }]);
    let vectors: Vec<f64> = (0..length * count).map(|at| element(at / count, at % count)).collect();
    let mut gram = vec![0.0; count * count];
    for vector in vectors.chunks_exact(count) {
        for (&factor, row) in vector.iter().zip(gram.chunks_exact_mut(count)) {
            for (sum, value) in row.iter_mut().zip(vector) {
                *sum += factor * value;
            }
        }
    }
    let identity = |at| if at % (count + 1) == 0 { 1.0 } else { 0.0 };
    gram.iter().enumerate().fold(0.0, |worst, (at, sum)| (sum - identity(at)).abs().max(worst))
}

#[test]
fn orthogonal_weights_are_orthogonal() {
    for n in [1, 2, 3, 7, 8, 9, 15, 16, 17, 64, 100] {
        for shape in [[n, n], [n, 2 * n + 1], [2 * n + 1, n], [1, n], [n, 1]] {
            let values = kernel(Initializer::Orthogonal { gain: 1.0 }, shape, n as u64);
            let distance = distance_from_orthonormal(&values, shape);
            assert!(distance < 1e-6, "{shape:?}: {distance:e}");
        }
    }
    let gained = kernel(Initializer::Orthogonal { gain: -3.0 }, [5, 5], 1);
    let plain = kernel(Initializer::Orthogonal { gain: 1.0 }, [5, 5], 1);
    assert!(gained.iter().zip(plain).all(|(gained, plain)| (gained + 3.0 * plain).abs() < 1e-6));
}

#[test]
fn a_large_orthogonal_weight_is_orthogonal() {
    let values = kernel(Initializer::Orthogonal { gain: 1.0 }, [1024, 1024], 1);
    let distance = distance_from_orthonormal(&values, [1024, 1024]);
    assert!(distance < 1e-6, "{distance:e}");
}

/// Without the signs of R's diagonal the first elements would lean to one side.
#[test]
fn orthogonal_weights_have_no_preferred_direction() {
    const SEEDS: u64 = 2000;
    let mut sums = [0.0; 9];
    let mut squares = [0.0; 9];
    for seed in 0..SEEDS {
        for (at, value) in kernel(Initializer::Orthogonal { gain: 1.0 }, [3, 3], seed).into_iter().enumerate()
        {
            sums[at] += f64::from(value) / SEEDS as f64;
            squares[at] += f64::from(value * value) / SEEDS as f64;
        }
    }
    // The standard deviation of each average is 0.013 (of the squares 0.007).
    assert!(sums.iter().all(|sum| sum.abs() < 0.065), "{sums:?}");
    assert!(squares.iter().all(|square| (square - 1.0 / 3.0).abs() < 0.035), "{squares:?}");
}

#[test]
fn one_seed_one_network() {
    // Biases of zeros and ones are the same by right.
    let lstm = Lstm::new(4).return_sequences(true).bias_initializer(Initializer::GlorotUniform);
    let build = |seed| {
        let network = Sequential::new(4)
            .add(SimpleRnn::new(4).return_sequences(true).bias_initializer(Initializer::GlorotUniform))
            .add(SimpleRnn::new(4).return_sequences(true))
            .add(Bidirectional::new(lstm))
            .add(lstm)
            .add(Bidirectional::new(SimpleRnn::new(4)))
            .build(seed)
            .unwrap();
        network.trainable_variables().map(|(name, _, values)| (name, bits(values))).collect::<Vec<_>>()
    };
    assert_eq!(build(3), build(3));
    // No two weights of a network and no two seeds share numbers, though shapes and initialisers are the same.
    let all: Vec<_> = build(3).into_iter().chain(build(4)).collect();
    for (i, (name, values)) in all.iter().enumerate() {
        for (other_name, others) in &all[..i] {
            let zeros = values.iter().all(|&bits| bits == 0);
            assert!(zeros || values != others, "{name} and {other_name}");
        }
    }
}

#[test]
fn keras_defaults() {
    let network = Sequential::new(1)
        .add(Embedding::new(50, 8))
        .add(SimpleRnn::new(8))
        .add(Dense::new(3))
        .build(1)
        .unwrap();
    let values = |layer, which| network.weight(layer, which).unwrap().values().to_vec();
    let within = |values: &[f32], limit: f64| values.iter().all(|&value| f64::from(value).abs() <= limit);
    assert!(within(&values(0, Weight::Embedding), 0.05 + 1e-9));
    assert!(within(&values(1, Weight::Kernel), (6.0 / 16f64).sqrt()));
    assert!(distance_from_orthonormal(&values(1, Weight::RecurrentKernel), [8, 8]) < 1e-6);
    assert_eq!(values(1, Weight::Bias), [0.0; 8]);
    assert!(within(&values(2, Weight::Kernel), (6.0 / 11f64).sqrt()));
    assert_eq!(values(2, Weight::Bias), [0.0; 3]);
}

/// One matrix for all gates: its fans and its rows are those of the whole, as in Keras.
#[test]
fn keras_defaults_of_gated_cells() {
    let both = Bidirectional::new(Gru::new(8).reset_after(false).return_sequences(true));
    let network = Sequential::new(5)
        .add(Lstm::new(8).return_sequences(true))
        .add(Gru::new(8).return_sequences(true))
        .add(both)
        .add(Lstm::new(3).unit_forget_bias(false))
        .build(1)
        .unwrap();
    let values = |layer, which| network.weight(layer, which).unwrap().values().to_vec();
    let limit = |rows: f64, columns: f64| (6.0 / (rows + columns)).sqrt();
    for (layer, which, limit) in [
        (0, Weight::Kernel, limit(5.0, 32.0)),
        (1, Weight::Kernel, limit(8.0, 24.0)),
        (2, Weight::Kernel, limit(8.0, 24.0)),
        (2, Weight::BackwardKernel, limit(8.0, 24.0)),
    ] {
        let most =
            values(layer, which).iter().fold(0.0, |most: f64, &value| most.max(f64::from(value).abs()));
        assert!((0.9 * limit..=limit).contains(&most), "layer {layer}: {most}, not {limit}");
    }
    for (layer, which, gates) in [
        (0, Weight::RecurrentKernel, 4),
        (1, Weight::RecurrentKernel, 3),
        (2, Weight::BackwardRecurrentKernel, 3),
    ] {
        assert!(distance_from_orthonormal(&values(layer, which), [8, gates * 8]) < 1e-6, "layer {layer}");
    }
    let forget: Vec<f32> = (0..32).map(|i| f32::from(u8::from((8..16).contains(&i)))).collect();
    assert_eq!(values(0, Weight::Bias), forget);
    assert_eq!(values(1, Weight::Bias), [0.0; 48]);
    assert_eq!(values(2, Weight::Bias), [0.0; 24]);
    assert_eq!(values(3, Weight::Bias), [0.0; 12]);

    // The other blocks follow the initialiser, whose ones they are not.
    let constant = Initializer::Constant { value: 0.5 };
    let cell = LstmCell::new(Lstm::new(2).bias_initializer(constant), 3, 1).unwrap();
    let bias = cell.weight(Weight::Bias).unwrap().values();
    assert_eq!(bias, [0.5, 0.5, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5]);
    let plain = Lstm::new(2).unit_forget_bias(false).bias_initializer(constant);
    assert_eq!(LstmCell::new(plain, 3, 1).unwrap().weight(Weight::Bias).unwrap().values(), [0.5; 8]);
    let cell = GruCell::new(Gru::new(2).bias_initializer(constant), 3, 1).unwrap();
    assert_eq!(cell.weight(Weight::Bias).unwrap().values(), [0.5; 12]);
}

#[test]
fn wrong_initializers_are_errors() {
    let message = |result: Result<Sequential, Error>| match result {
        Err(Error::InvalidArgument(message)) => message,
        other => panic!("should be InvalidArgument: {other:?}"),
    };
    let orthogonal = Initializer::Orthogonal { gain: 1.0 };
    for (initializer, parts) in [
        (Initializer::Constant { value: f32::NAN }, ["value", "NaN"]),
        (Initializer::RandomNormal { mean: f32::INFINITY, stddev: 1.0 }, ["mean", "inf"]),
        (Initializer::RandomNormal { mean: 0.0, stddev: -0.5 }, ["stddev", "-0.5"]),
        (Initializer::RandomNormal { mean: 0.0, stddev: f32::NAN }, ["stddev", "NaN"]),
        (Initializer::RandomUniform { low: 0.5, high: 0.25 }, ["0.5", "0.25"]),
        (Initializer::RandomUniform { low: 0.5, high: f32::INFINITY }, ["high", "inf"]),
        (Initializer::Orthogonal { gain: f32::NAN }, ["gain", "NaN"]),
        (Initializer::Identity { gain: f32::NEG_INFINITY }, ["gain", "-inf"]),
    ] {
        let rnn = SimpleRnn::new(2);
        for text in [
            message(Sequential::new(2).add(Dense::new(2).kernel_initializer(initializer)).build(1)),
            message(Sequential::new(2).add(rnn.kernel_initializer(initializer)).build(1)),
            message(Sequential::new(2).add(rnn.recurrent_initializer(initializer)).build(1)),
            message(
                Sequential::new(1).add(Embedding::new(2, 2).embeddings_initializer(initializer)).build(1),
            ),
        ] {
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }
    for initializer in [orthogonal, Initializer::Identity { gain: 1.0 }] {
        for text in [
            message(Sequential::new(2).add(Dense::new(7).bias_initializer(initializer)).build(1)),
            message(Sequential::new(2).add(SimpleRnn::new(7).bias_initializer(initializer)).build(1)),
            message(
                Sequential::new(2)
                    .add(Bidirectional::new(SimpleRnn::new(7).bias_initializer(initializer)))
                    .build(1),
            ),
        ] {
            assert!(text.contains("bias") && text.contains('7'), "{text}");
        }
    }
}
