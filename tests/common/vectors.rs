//! Cases that real Keras ran, or ONNX Runtime: `tests/vectors/*.safetensors`. The scripts beside them say what they hold.

use std::path::Path;

use elman::{MergeMode, Padding, RunOptions, Sequential};
use safetensors::SafeTensors;
use serde::Deserialize;

use super::network::{Network, Spec};
use super::numbers::{distance, tokens, values};
use super::reference::{self, Call, Input};

/// Of a tensor's largest magnitude: what a result may differ by.
pub(crate) const TOLERANCE: f64 = 1e-5;
/// The same for the oracle, which must be better: the vectors themselves are rounded to f32 once.
const ORACLE_TOLERANCE: f64 = 1e-6;

#[derive(Deserialize)]
struct Config {
    input_size: usize,
    layers: Vec<Spec>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    case_seed: u64,
    config: Config,
    batch: usize,
    steps: usize,
    input: String,
    mask: bool,
    mask_by_value: bool,
    initial_state: bool,
    calls: usize,
    reset_before: Vec<usize>,
    /// ONNX Runtime ran it, which knows f32 only.
    lengths: Option<Vec<usize>>,
}

/// Runs all cases of a file, and gives how many there were. Panics with every case that failed.
pub(crate) fn run_file(file: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    let bytes = std::fs::read(&path).expect("the vectors are committed");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let cases = &header.metadata().as_ref().expect("metadata")["cases"];
    let cases: Vec<Case> = serde_json::from_str(cases).expect("the list of cases");
    let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let failures: Vec<String> = cases.iter().filter_map(|case| case.run(&tensors).err()).collect();
    assert!(
        failures.is_empty(),
        "{} of {} cases failed:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    cases.len()
}

/// A case's input over all calls.
enum Data {
    Floats(Vec<f32>),
    Tokens(Vec<i32>),
}

impl Case {
    fn run(&self, tensors: &SafeTensors<'_>) -> Result<(), String> {
        let Config { input_size, layers } = &self.config;
        let network = Network::new(*input_size, layers.clone(), self.case_seed * 1000);
        let model = network.elman();
        let seed = self.case_seed * 1000;
        let mask = self.mask.then(|| bytes_of(tensors, &format!("{}.mask", self.name)));
        let data = self.data(mask.as_deref());
        let positions = self.batch * self.steps;
        let row = positions * input_size;

        let directions = network.directions();
        let mut state: Vec<f32> = Vec::new();
        for (k, rnn) in directions.iter().enumerate() {
            let given = values(seed + 990 + k as u64, self.batch * rnn.units, 0.5);
            state.extend(if self.initial_state { given } else { vec![0.0; self.batch * rnn.units] });
        }
        for call in 0..self.calls {
            if self.reset_before.contains(&call) {
                state.fill(0.0);
                model.reset_states();
            }
            let input = match &data {
                Data::Floats(x) => Input::Floats(&x[call * row..][..row]),
                Data::Tokens(ids) => Input::Tokens(&ids[call * positions..][..positions]),
            };
            let mask = mask
                .as_deref()
                .filter(|_| !self.mask_by_value)
                .map(|mask| &mask[call * positions..][..positions]);
            // Without states given, the first call must start from zeros by itself.
            let initial_state = (self.initial_state || call > 0).then_some(&state[..]);
            let by_length = self.lengths.as_deref().map(|lengths| mask_of(lengths, self.steps));
            let padding = if by_length.is_some() { Padding::Onnx } else { Padding::Keras };
            let given = Call {
                mask: mask.or(by_length.as_deref()),
                padding,
                initial_state,
                ..Call::new(input, self.batch, self.steps)
            };
            let oracle = reference::run(&network, given);
            // The oracle is handed the states of the call before; a model with stateful layers keeps them itself.
            let initial_state = initial_state.filter(|_| call == 0);
            let kept = Call { mask, lengths: self.lengths.as_deref(), initial_state, ..given };
            let oracle_tolerance = if by_length.is_some() { TOLERANCE } else { ORACLE_TOLERANCE };
            let (output, next) = run_elman(&model, kept);

            let mut expected = self.expected(tensors, "y", call);
            if let Some(Spec::Bidirectional { merge_mode: MergeMode::None, .. }) = layers.last() {
                expected.extend(self.expected(tensors, "y_backward", call));
            }
            self.compare("oracle", call, &to_f32(&oracle.output), &expected, oracle_tolerance)?;
            self.compare("output", call, &output, &expected, TOLERANCE)?;
            let mut base = 0;
            for (k, rnn) in directions.iter().enumerate() {
                let len = self.batch * rnn.units;
                let expected = self.expected(tensors, &format!("state.{k}"), call);
                self.compare(
                    &format!("oracle state {k}"),
                    call,
                    &to_f32(&oracle.states[k]),
                    &expected,
                    oracle_tolerance,
                )?;
                self.compare(&format!("state {k}"), call, &next[base..][..len], &expected, TOLERANCE)?;
                // A layer that is not stateful starts every call from zeros.
                state[base..][..len].copy_from_slice(&next[base..][..len]);
                if !rnn.stateful {
                    state[base..][..len].fill(0.0);
                }
                base += len;
            }
        }
        Ok(())
    }

    fn data(&self, mask: Option<&[u8]>) -> Data {
        let seed = self.case_seed * 1000 + 999;
        let positions = self.calls * self.batch * self.steps;
        let masked = |i: usize| self.mask_by_value && mask.is_some_and(|mask| mask[i] == 0);
        match (self.input.as_str(), self.config.layers[0]) {
            ("tokens", Spec::Embedding { vocabulary, .. }) => {
                let mut ids = tokens(seed, positions, vocabulary);
                ids.iter_mut().enumerate().filter(|(i, _)| masked(*i)).for_each(|(_, id)| *id = 0);
                Data::Tokens(ids)
            }
            ("floats", first) => {
                let features = self.config.input_size;
                let mut x = values(seed, positions * features, 1.0);
                let value = if let Spec::Masking { mask_value } = first { mask_value } else { 0.0 };
                let steps = x.chunks_exact_mut(features).enumerate();
                steps.filter(|(i, _)| masked(*i)).for_each(|(_, step)| step.fill(value));
                Data::Floats(x)
            }
            (input, first) => panic!("{}: {input} for {first:?}", self.name),
        }
    }

    /// A call's part of a reference tensor.
    fn expected(&self, tensors: &SafeTensors<'_>, what: &str, call: usize) -> Vec<f64> {
        let bytes = bytes_of(tensors, &format!("{}.{what}", self.name));
        let all = bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        let all: Vec<f64> = all.collect();
        let len = all.len() / self.calls;
        all[call * len..][..len].to_vec()
    }

    fn compare(
        &self,
        what: &str,
        call: usize,
        got: &[f32],
        expected: &[f64],
        tolerance: f64,
    ) -> Result<(), String> {
        if got.len() != expected.len() {
            return Err(format!(
                "{}: {what}: {} values, Keras gives {}",
                self.name,
                got.len(),
                expected.len()
            ));
        }
        let distance = distance(got, expected, 0.0);
        if distance <= tolerance {
            return Ok(());
        }
        let worst = (0..got.len()).max_by(|&i, &j| {
            let apart = |i: usize| (f64::from(got[i]) - expected[i]).abs();
            apart(i).total_cmp(&apart(j))
        });
        let at = worst.unwrap_or(0);
        Err(format!(
            "{}: {what}, call {call}: {distance:.1e} of the largest value; at {at} {} instead of {}",
            self.name, got[at], expected[at]
        ))
    }
}

/// elman's output and final states for a call.
pub(crate) fn run_elman(model: &Sequential, call: Call<'_>) -> (Vec<f32>, Vec<f32>) {
    let (batch, steps) = (call.batch, call.steps);
    let mut y = vec![f32::NAN; model.output_len(batch, steps).expect("the sizes are right")];
    let mut state = vec![f32::NAN; model.state_len(batch).expect("the sizes are right")];
    let options = RunOptions {
        mask: call.mask,
        lengths: call.lengths,
        padding: call.padding,
        initial_state: call.initial_state,
        final_state: Some(&mut state),
    };
    match call.input {
        Input::Floats(x) => model.run(x, batch, steps, options, &mut y),
        Input::Tokens(ids) => model.run_tokens(ids, batch, steps, options, &mut y),
    }
    .expect("the call is right");
    (y, state)
}

/// The mask that lengths mean.
pub(crate) fn mask_of(lengths: &[usize], steps: usize) -> Vec<u8> {
    lengths.iter().flat_map(|&length| (0..steps).map(move |t| u8::from(t < length))).collect()
}

fn bytes_of(tensors: &SafeTensors<'_>, name: &str) -> Vec<u8> {
    tensors.tensor(name).unwrap_or_else(|why| panic!("{name}: {why}")).data().to_vec()
}

fn to_f32(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}
