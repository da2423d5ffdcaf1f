//! Losses, optimizers, clipping and schedules against Keras's own numbers (`tests/vectors/training.safetensors`).

mod common;

use common::numbers::values;
use elman::{Batch, Clipping, Loss, Optimizer, OptimizerState, Schedule};
use safetensors::SafeTensors;
use serde_json::Value;

struct Vectors<'a> {
    tensors: SafeTensors<'a>,
    metadata: std::collections::HashMap<String, String>,
}

static BYTES: &[u8] = include_bytes!("vectors/training.safetensors");

impl Vectors<'_> {
    fn read() -> Self {
        let (_, metadata) = SafeTensors::read_metadata(BYTES).expect("the vectors can be read");
        let metadata = metadata.metadata().clone().expect("the vectors say what they are");
        Self { tensors: SafeTensors::deserialize(BYTES).expect("the vectors can be read"), metadata }
    }

    fn list(&self, key: &str) -> Vec<Value> {
        serde_json::from_str(&self.metadata[key]).expect("the list is JSON")
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensor = self.tensors.tensor(name).unwrap_or_else(|_| panic!("{name} is there"));
        let integers = tensor.dtype() == safetensors::Dtype::I32;
        let words = tensor.data().chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
        words.map(|word| if integers { word as i32 as f32 } else { f32::from_bits(word) }).collect()
    }
}

fn float(case: &Value, key: &str) -> f32 {
    case[key].as_f64().unwrap_or_else(|| panic!("{key} of {case}")) as f32
}

fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            (got - expected).abs() <= tolerance * largest.max(1e-3),
            "{what}[{i}]: {got}, not {expected}"
        );
    }
}

#[test]
fn optimizers_move_as_keras_does() {
    let vectors = Vectors::read();
    for case in vectors.list("optimizers") {
        let name = case["name"].as_str().unwrap();
        let flag = |key: &str| case[key].as_bool().unwrap();
        let number = |key| float(&case, key);
        let optimizer = match case["kind"].as_str().unwrap() {
            "sgd" => Optimizer::Sgd { momentum: number("momentum"), nesterov: flag("nesterov") },
            "rmsprop" => Optimizer::RmsProp {
                rho: number("rho"),
                momentum: number("momentum"),
                epsilon: number("epsilon"),
                centered: flag("centered"),
            },
            "adam" => Optimizer::Adam {
                beta_1: number("beta_1"),
                beta_2: number("beta_2"),
                epsilon: number("epsilon"),
                amsgrad: flag("amsgrad"),
            },
            "adamw" => Optimizer::AdamW {
                beta_1: number("beta_1"),
                beta_2: number("beta_2"),
                epsilon: number("epsilon"),
                amsgrad: flag("amsgrad"),
                weight_decay: number("weight_decay"),
            },
            other => panic!("{other}"),
        };
        let expected = vectors.floats(&format!("optimizer.{name}"));
        let mut weights = values(1, 17, 1.0);
        let mut state = OptimizerState::new(optimizer, 17).unwrap();
        for (step, expected) in expected.chunks_exact(17).enumerate() {
            let gradient = values(100 + step as u64, 17, 1.0);
            let mut moves = state.step(number("learning_rate"));
            // In two parts: the slots must keep to their parameters.
            let (first, second) = weights.split_at_mut(5);
            moves.update(0, first, &gradient[..5]);
            moves.update(5, second, &gradient[5..]);
            assert_close(&format!("{name} after step {step}"), &weights, expected, 1e-6);
        }
    }
}

#[test]
fn the_defaults_are_keras_s() {
    let vectors = Vectors::read();
    for (name, optimizer) in [
        ("sgd", Optimizer::sgd()),
        ("rmsprop", Optimizer::rmsprop()),
        ("adam", Optimizer::adam()),
        ("adamw", Optimizer::adamw()),
    ] {
        let mut weights = values(1, 17, 1.0);
        let mut state = OptimizerState::new(optimizer, 17).unwrap();
        state.step(optimizer.default_rate()).update(0, &mut weights, &values(100, 17, 1.0));
        assert_close(name, &weights, &vectors.floats(&format!("optimizer.{name}"))[..17], 1e-6);
    }
}

#[test]
fn clipping_is_keras_s() {
    let vectors = Vectors::read();
    for case in vectors.list("clips") {
        let limit = float(&case, "limit");
        let clipping = match case["kind"].as_str().unwrap() {
            "global_norm" => Clipping::GlobalNorm(limit),
            "norm" => Clipping::Norm(limit),
            "value" => Clipping::Value(limit),
            other => panic!("{other}"),
        };
        let [mut a, mut b, mut c] =
            [(200, 5), (201, 21), (202, 17)].map(|(seed, len)| values(seed, len, 1.0));
        clipping.apply(&mut [&mut a, &mut b, &mut c]);
        for (i, got) in [a, b, c].into_iter().enumerate() {
            let name = format!("clip.{}.{i}", case["name"].as_str().unwrap());
            assert_close(&name, &got, &vectors.floats(&name), 1e-6);
        }
    }
}

#[test]
fn schedules_are_keras_s() {
    let vectors = Vectors::read();
    for case in vectors.list("schedules") {
        let initial = float(&case, "initial_learning_rate");
        let decay_steps = case["decay_steps"].as_u64().unwrap();
        let schedule = match case["kind"].as_str().unwrap() {
            "exponential" => Schedule::Exponential {
                initial,
                decay_steps,
                decay_rate: float(&case, "decay_rate"),
                staircase: case["staircase"].as_bool().unwrap(),
            },
            "cosine" => Schedule::Cosine {
                initial,
                decay_steps,
                alpha: float(&case, "alpha"),
                warmup: case["warmup_steps"].as_u64().map(|steps| (float(&case, "warmup_target"), steps)),
            },
            other => panic!("{other}"),
        };
        let steps = case["steps"].as_array().unwrap();
        let got: Vec<f32> = steps.iter().map(|step| schedule.rate(step.as_u64().unwrap())).collect();
        let name = case["name"].as_str().unwrap();
        assert_close(name, &got, &vectors.floats(&format!("schedule.{name}")), 1e-6);
    }
    assert_eq!(Schedule::Constant(0.5).rate(1000), 0.5);
}

#[test]
fn losses_and_their_gradients_are_keras_s() {
    let vectors = Vectors::read();
    for case in vectors.list("losses") {
        let name = case["name"].as_str().unwrap();
        let from_logits = case["from_logits"].as_bool().unwrap();
        let loss = match case["kind"].as_str().unwrap() {
            "mse" => Loss::MeanSquaredError,
            "bce" => Loss::BinaryCrossentropy { from_logits },
            "cce" => Loss::CategoricalCrossentropy { from_logits },
            "sparse_cce" => Loss::SparseCategoricalCrossentropy { from_logits },
            other => panic!("{other}"),
        };
        let floats = |part: &str| vectors.floats(&format!("loss.{name}.{part}"));
        let shape = vectors.tensors.tensor(&format!("loss.{name}.prediction")).unwrap().shape().to_vec();
        let weights = case["weight"].as_bool().unwrap().then(|| floats("weight"));
        let mask = case["mask"]
            .as_bool()
            .unwrap()
            .then(|| vectors.tensors.tensor(&format!("loss.{name}.mask")).unwrap().data());
        let prediction = floats("prediction");
        let rows = prediction.len() / shape.last().unwrap();
        // Keras broadcasts a sample's weight over its steps.
        let weights = weights.map(|weights| {
            let steps = rows / weights.len();
            weights.iter().flat_map(|&weight| std::iter::repeat_n(weight, steps)).collect::<Vec<_>>()
        });
        let mut gradient = vec![f32::NAN; prediction.len()];
        let target = floats("target");
        let mut batch = Batch::new(&prediction, &target, *shape.last().unwrap());
        (batch.weights, batch.mask) = (weights.as_deref(), mask);
        let value = loss.evaluate(batch, &mut gradient).unwrap();
        assert_close(name, &[value], &floats("value"), 3e-6);
        assert_close(&format!("gradient of {name}"), &gradient, &floats("grad"), 3e-6);
    }
}

#[test]
fn a_class_that_does_not_exist_is_refused() {
    let loss = Loss::SparseCategoricalCrossentropy { from_logits: true };
    for wrong in [3.0, -1.0, 0.5, f32::NAN] {
        let target = [wrong];
        let batch = Batch::new(&[0.0; 3], &target, 3);
        assert!(loss.evaluate(batch, &mut [0.0; 3]).is_err(), "{wrong}");
    }
}
