//! Activations against f64: accuracy in ULP, symmetry, limits, NaN, infinities, subnormals, zero's sign.
//!
//! Every run takes a sample of all f32. The ignored tests take all 2^32, on two threads, and print what they found:
//! `cargo test --test activations -- --ignored`. `f64::tanh` and `f64::exp` err by about an f64 ULP, 2^-29 of ours.

mod common;

use std::ops::{Range, RangeInclusive};

use common::backends::{self, report};
use common::reference::Exact;
use elman::{Activation, Isa};

/// A function, and how far it may be off what it should be.
#[derive(Clone, Copy)]
struct Subject {
    activation: Activation,
    /// ULP of the exact value.
    limit: f64,
    /// Below this, ULP are those of this: where terms cancel, an error is as large as theirs.
    floor: f64,
}

const TANH: Subject = Subject { activation: Activation::Tanh, limit: 2.0, floor: 0.0 };
const SIGMOID: Subject = Subject { activation: Activation::Sigmoid, limit: 4.0, floor: 0.0 };
const HARD_SIGMOID: Subject = Subject { activation: Activation::HardSigmoid, limit: 1.0, floor: 0.5 };
const HARD_SIGMOID_KERAS2: Subject =
    Subject { activation: Activation::HardSigmoidKeras2, limit: 1.0, floor: 0.5 };
/// 3.2 ULP at the most were met, at -0.449.
const SOFTPLUS: Subject = Subject { activation: Activation::Softplus, limit: 4.0, floor: 0.0 };
const ELU: Subject = Subject { activation: Activation::Elu, limit: 2.0, floor: 0.0 };
const LEAKY_RELU: Subject = Subject { activation: Activation::LeakyRelu, limit: 1.5, floor: 0.0 };
const ALL: [Subject; 7] = [TANH, SIGMOID, HARD_SIGMOID, HARD_SIGMOID_KERAS2, SOFTPLUS, ELU, LEAKY_RELU];

/// The bit patterns of +0 to +infinity; those of NaN follow.
const POSITIVE: Range<u32> = 0..0x7F80_0001;
const SIGN: u32 = 1 << 31;

fn apply(activation: Activation, x: &[f32]) -> Vec<f32> {
    let mut y = x.to_vec();
    elman::activate(activation, &mut y).expect("a backend can be chosen");
    y
}

/// The distance from `exact` to `got` in units of the last place that an f32 near `exact` has.
fn ulp(got: f32, exact: f64, floor: f64) -> f64 {
    if f64::from(got) == exact {
        // Infinities too.
        return 0.0;
    }
    let exponent = ((exact.abs().max(floor).to_bits() >> 52) as i32 - 1023).max(-126);
    let ulp = f64::from_bits(((exponent - 23 + 1023) as u64) << 52);
    (f64::from(got) - exact).abs() / ulp
}

/// The worst that was found.
#[derive(Clone, Copy, Default)]
struct Worst {
    ulp: f64,
    at: f32,
    /// How far a result lies on the wrong side of the one before, in ULP.
    backward: f64,
}

impl Worst {
    fn with(self, other: Self) -> Self {
        let Self { ulp, at, .. } = if other.ulp > self.ulp { other } else { self };
        Self { ulp, at, backward: self.backward.max(other.backward) }
    }
}

impl Subject {
    /// Of its values.
    fn range(self) -> RangeInclusive<f32> {
        match self.activation {
            Activation::Tanh => -1.0..=1.0,
            Activation::Sigmoid | Activation::HardSigmoid | Activation::HardSigmoidKeras2 => 0.0..=1.0,
            Activation::Softplus => 0.0..=f32::INFINITY,
            Activation::Elu => -1.0..=f32::INFINITY,
            _ => f32::NEG_INFINITY..=f32::INFINITY,
        }
    }

    /// Checks the inputs of these patterns, rising, in blocks.
    fn check(self, patterns: impl Iterator<Item = u32>) -> Worst {
        let mut patterns = patterns.peekable();
        let mut worst = Worst::default();
        let mut before: Option<f32> = None;
        while patterns.peek().is_some() {
            let x: Vec<f32> = patterns.by_ref().take(1 << 14).map(f32::from_bits).collect();
            for (&x, y) in x.iter().zip(apply(self.activation, &x)) {
                if x.is_nan() {
                    assert!(y.is_nan(), "{:?}({x}) is {y}", self.activation);
                    continue;
                }
                let exact = self.activation.value(f64::from(x));
                worst = worst.with(Worst { ulp: ulp(y, exact, self.floor), at: x, backward: 0.0 });
                let range = self.range();
                assert!(range.contains(&y), "{:?}({x:e}) is {y:e}", self.activation);
                if let Some(before) = before.replace(y) {
                    // The patterns rise, so the inputs do where they are positive and fall where they are not.
                    let back = if x.is_sign_positive() { before - y } else { y - before };
                    if back > 0.0 {
                        worst.backward = worst.backward.max(ulp(before, f64::from(y), self.floor));
                    }
                }
            }
        }
        worst
    }

    fn judge(self, what: &str, worst: Worst) {
        let isa = elman::isa().expect("a backend can be chosen").name();
        let Worst { ulp, at, backward } = worst;
        report(&format!(
            "activations: {isa}: {:?}, {what}: at most {ulp:.3} ULP, at {at:e}; steps back by at most {backward} ULP",
            self.activation
        ));
        assert!(ulp <= self.limit, "{:?}({at:e}) is off by {ulp} ULP", self.activation);
        assert!(backward <= self.limit, "{:?} falls by {backward} ULP where it should rise", self.activation);
    }

    fn sample(self) {
        // A prime stride, so that the low mantissa bits take every value.
        let positive = POSITIVE.step_by(4_099);
        let negative = POSITIVE.step_by(4_099).map(|bits| bits | SIGN);
        self.judge("sample", self.check(positive).with(self.check(negative)));
    }

    /// Everything, NaN too, on two threads.
    fn exhaust(self) {
        let quarter = |i: u32| (i << 30)..=(i << 30 | (SIGN / 2 - 1));
        let half = |quarters: [u32; 2]| {
            quarters.into_iter().map(|i| self.check(quarter(i))).fold(Worst::default(), Worst::with)
        };
        let worst = std::thread::scope(|scope| {
            // Small and large magnitudes cost alike that way.
            let other = scope.spawn(move || half([1, 2]));
            half([0, 3]).with(other.join().expect("no assertion failed"))
        });
        self.judge("all of f32", worst);
    }
}

#[test]
fn samples_of_the_others() {
    for subject in [HARD_SIGMOID, HARD_SIGMOID_KERAS2, SOFTPLUS, ELU, LEAKY_RELU] {
        subject.sample();
    }
}

#[test]
fn tanh_sample() {
    TANH.sample();
}

#[test]
fn sigmoid_sample() {
    SIGMOID.sample();
}

/// Around every place where a formula changes: each half binade's first and last floats.
#[test]
fn around_the_seams() {
    let near = |bits: u32| (bits.saturating_sub(300)..bits + 300).filter(|bits| POSITIVE.contains(bits));
    let seams = [
        1e-3, 0.1, 0.25_f32, 0.34657, 0.75, 1.0, 1.25, 2.25, 2.5, 3.0, 3.25, 5.25, 7.25, 9.011, 9.03, 16.6,
        17.4, 87.3, 88.7, 103.9, 104.0, 1e38,
    ];
    for seam in seams {
        for subject in ALL {
            let bits = seam.to_bits();
            let worst = subject.check(near(bits)).with(subject.check(near(bits).map(|bits| bits | SIGN)));
            assert!(
                worst.ulp <= subject.limit,
                "{:?}({:e}): {} ULP",
                subject.activation,
                worst.at,
                worst.ulp
            );
        }
    }
}

#[test]
fn tanh_is_odd_to_the_bit() {
    let x: Vec<f32> = (0..=i32::MAX as u32).step_by(1_021).map(f32::from_bits).collect();
    let negative: Vec<f32> = x.iter().map(|x| -x).collect();
    let (y, mirrored) = (apply(Activation::Tanh, &x), apply(Activation::Tanh, &negative));
    for ((x, y), mirrored) in x.iter().zip(y).zip(mirrored) {
        assert!(
            y.is_nan() || y.to_bits() ^ mirrored.to_bits() == SIGN,
            "tanh(±{x:e}) is {y:e} and {mirrored:e}"
        );
    }
}

/// (input, result), to the bit.
#[test]
fn special_values() {
    let subnormal = f32::from_bits(1);
    let tanh = [
        (0.0, 0.0),
        (-0.0, -0.0),
        (f32::INFINITY, 1.0),
        (f32::NEG_INFINITY, -1.0),
        (f32::MAX, 1.0),
        (-20.0, -1.0),
        (subnormal, subnormal),
        (-subnormal, -subnormal),
        (f32::from_bits(0x0040_1234), f32::from_bits(0x0040_1234)),
        (f32::MIN_POSITIVE, f32::MIN_POSITIVE),
        (1e-10, 1e-10),
    ];
    let sigmoid = [
        (0.0, 0.5),
        (-0.0, 0.5),
        (f32::INFINITY, 1.0),
        (f32::NEG_INFINITY, 0.0),
        (f32::MAX, 1.0),
        (f32::MIN, 0.0),
        (subnormal, 0.5),
        (30.0, 1.0),
    ];
    let relu = [
        (-1.0, 0.0),
        (2.5, 2.5),
        (f32::NEG_INFINITY, 0.0),
        (f32::INFINITY, f32::INFINITY),
        (subnormal, subnormal),
    ];
    let linear = [(-0.0, -0.0), (subnormal, subnormal), (f32::NEG_INFINITY, f32::NEG_INFINITY)];
    let hard_sigmoid = [
        (0.0, 0.5),
        (-0.0, 0.5),
        (3.0, 1.0),
        (-3.0, 0.0),
        (7.0, 1.0),
        (f32::INFINITY, 1.0),
        (f32::NEG_INFINITY, 0.0),
        (f32::MIN, 0.0),
        (subnormal, 0.5),
    ];
    let softplus = [
        (0.0, std::f32::consts::LN_2),
        (-0.0, std::f32::consts::LN_2),
        (f32::INFINITY, f32::INFINITY),
        (f32::NEG_INFINITY, 0.0),
        (f32::MAX, f32::MAX),
        (f32::MIN, 0.0),
        (200.0, 200.0),
        (subnormal, std::f32::consts::LN_2),
    ];
    let elu = [
        (0.0, 0.0),
        (-0.0, -0.0),
        (f32::INFINITY, f32::INFINITY),
        (f32::NEG_INFINITY, -1.0),
        (f32::MIN, -1.0),
        (2.5, 2.5),
        (subnormal, subnormal),
        (-subnormal, -subnormal),
        (-f32::MIN_POSITIVE, -f32::MIN_POSITIVE),
    ];
    let leaky_relu = [
        (0.0, 0.0),
        (-0.0, -0.0),
        (-1.0, -0.2),
        (2.5, 2.5),
        (f32::INFINITY, f32::INFINITY),
        (f32::NEG_INFINITY, f32::NEG_INFINITY),
    ];
    let all = [
        (Activation::HardSigmoid, &hard_sigmoid[..]),
        (Activation::HardSigmoidKeras2, &hard_sigmoid),
        (Activation::Softplus, &softplus),
        (Activation::Elu, &elu),
        (Activation::LeakyRelu, &leaky_relu),
        (Activation::Tanh, &tanh[..]),
        (Activation::Sigmoid, &sigmoid),
        (Activation::Relu, &relu),
        (Activation::Linear, &linear),
    ];
    for (activation, cases) in all {
        // Alone and in every lane, in tails of every length.
        for len in [1, 3, 4, 5, 8, 13, 16, 17, 33] {
            for &(x, expected) in cases {
                for y in apply(activation, &vec![x; len]) {
                    assert_eq!(y.to_bits(), expected.to_bits(), "{activation:?}({x:e}) of {len} is {y:e}");
                }
            }
            for nan in [f32::NAN, -f32::NAN, f32::from_bits(0x7F80_0001), f32::from_bits(0xFFFF_FFFF)] {
                assert!(
                    apply(activation, &vec![nan; len]).iter().all(|y| y.is_nan()),
                    "{activation:?} loses a NaN"
                );
            }
        }
    }
}

#[test]
fn relu_and_linear_are_exact() {
    let x: Vec<f32> =
        POSITIVE.step_by(65_537).flat_map(|bits| [bits, bits | SIGN]).map(f32::from_bits).collect();
    for (x, (relu, linear)) in
        x.iter().zip(apply(Activation::Relu, &x).into_iter().zip(apply(Activation::Linear, &x)))
    {
        assert_eq!(relu, x.max(0.0), "relu({x:e})");
        assert_eq!(linear.to_bits(), x.to_bits(), "linear({x:e})");
    }
}

#[test]
fn softmax_is_a_share_of_the_whole() {
    for len in [1, 2, 7, 16, 33, 300] {
        for scale in [1e-3, 1.0, 50.0, 1e4] {
            let x = common::numbers::values(len as u64, len, scale);
            let y = apply(Activation::Softmax, &x);
            let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let powers: Vec<f64> = x.iter().map(|x| (f64::from(*x) - f64::from(most)).exp()).collect();
            let whole: f64 = powers.iter().sum();
            for (y, power) in y.iter().zip(powers) {
                // The differences are rounded before the exponential is taken of them.
                let allowed = 2e-5_f64.max(f64::from(scale) * 2e-7) * (power / whole) + 1e-37;
                assert!(
                    (f64::from(*y) - power / whole).abs() <= allowed,
                    "{len} values up to {scale}: {y:e}"
                );
            }
        }
    }
}

#[test]
#[ignore = "all 2^32 inputs: minutes"]
fn tanh_everywhere() {
    TANH.exhaust();
    for bits in (0..=i32::MAX as u32).step_by(1 << 20) {
        let x: Vec<f32> = (bits..bits + (1 << 20)).map(f32::from_bits).collect();
        let negative: Vec<f32> = x.iter().map(|x| -x).collect();
        let (y, mirrored) = (apply(Activation::Tanh, &x), apply(Activation::Tanh, &negative));
        for (y, mirrored) in y.iter().zip(mirrored) {
            assert!(y.is_nan() || y.to_bits() ^ mirrored.to_bits() == SIGN, "tanh is not odd at {y:e}");
        }
    }
}

#[test]
#[ignore = "all 2^32 inputs: minutes"]
fn sigmoid_everywhere() {
    SIGMOID.exhaust();
}

#[test]
#[ignore = "all 2^32 inputs of five functions: many minutes"]
fn others_everywhere() {
    for subject in [HARD_SIGMOID, HARD_SIGMOID_KERAS2, SOFTPLUS, ELU, LEAKY_RELU] {
        subject.exhaust();
    }
}

/// The exhaustive tests on the other backends, one after another.
#[test]
#[ignore = "all 2^32 inputs on every backend: many minutes"]
fn everywhere_on_every_backend() {
    if backends::is_forced() {
        return;
    }
    let this = elman::isa().expect("a backend can be chosen");
    for isa in Isa::ALL {
        if isa != this && backends::is_there("activations everywhere", isa) {
            let written = backends::child(isa, &["--ignored", "everywhere", "--test-threads=1"]);
            written.lines().filter(|line| line.starts_with("activations: ")).for_each(report);
        }
    }
}

#[test]
fn every_backend() {
    backends::run_others("activations");
}
