//! Cases that real Keras, PyTorch and ONNX Runtime ran: `tests/vectors/*.safetensors`. The scripts beside them say what they
//! hold.

use std::path::Path;

use elman::{MergeMode, Padding, RunOptions, Sequential};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::network::{Network, Spec};
use super::numbers::{distance, tokens, values};
use super::reference::{self, Call, Input};

/// Of a tensor's largest magnitude: what a result may differ by.
pub(crate) const TOLERANCE: f64 = 1e-5;
/// The same for the oracle, which must be better: the vectors themselves are rounded to f32 once.
const ORACLE_TOLERANCE: f64 = 1e-6;

#[derive(Deserialize)]
pub(crate) struct Config {
    input_size: usize,
    layers: Vec<Spec>,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    case_seed: u64,
    config: Config,
    pub(crate) batch: usize,
    pub(crate) steps: usize,
    input: String,
    mask: bool,
    mask_by_value: bool,
    pub(crate) initial_state: bool,
    pub(crate) state_gradient: bool,
    calls: usize,
    reset_before: Vec<usize>,
    /// ONNX Runtime ran it, which knows f32 only.
    lengths: Option<Vec<usize>>,
}

/// What is wrong with a case.
pub(crate) type Wrong = Vec<String>;

/// Hands every case of a file to `check`, and gives how many there were. Panics with all that is wrong.
pub(crate) fn each_case<C: DeserializeOwned>(
    file: &str,
    check: impl Fn(&C, &SafeTensors<'_>) -> Wrong,
) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    let bytes = std::fs::read(&path).expect("the vectors are committed");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let cases = &header.metadata().as_ref().expect("metadata")["cases"];
    let cases: Vec<C> = serde_json::from_str(cases).expect("the list of cases");
    let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let wrong: Wrong = cases.iter().flat_map(|case| check(case, &tensors)).collect();
    assert!(wrong.is_empty(), "of {} cases:\n{}", cases.len(), wrong.join("\n"));
    cases.len()
}

/// Runs all cases of a file forwards, and gives how many there were.
pub(crate) fn run_file(file: &str) -> usize {
    each_case(file, |case: &Case, tensors| case.run(tensors).err().into_iter().collect())
}

/// A case's input over all calls.
pub(crate) enum Data {
    Floats(Vec<f32>),
    Tokens(Vec<i32>),
}

impl Data {
    /// All of it.
    pub(crate) fn input(&self) -> Input<'_> {
        match self {
            Data::Floats(x) => Input::Floats(x),
            Data::Tokens(ids) => Input::Tokens(ids),
        }
    }
}

impl Case {
    /// What every seed of the case is counted from.
    pub(crate) fn seed(&self) -> u64 {
        self.case_seed * 1000
    }

    pub(crate) fn network(&self) -> Network {
        Network::new(self.config.input_size, self.config.layers.clone(), self.seed())
    }

    /// For every recurrent direction `[batch, units]`, from seeds counted from `first`.
    pub(crate) fn states(&self, first: u64, scale: f32) -> Vec<f32> {
        let directions = self.network().directions();
        let each = directions.iter().enumerate();
        each.flat_map(|(k, rnn)| values(self.seed() + first + k as u64, self.batch * rnn.units, scale))
            .collect()
    }

    /// The mask, and whether it is given to the call; else it is in the input.
    pub(crate) fn mask(&self, tensors: &SafeTensors<'_>) -> (Option<Vec<u8>>, bool) {
        (self.mask.then(|| bytes_of(tensors, &format!("{}.mask", self.name))), !self.mask_by_value)
    }

    /// A reference tensor.
    pub(crate) fn floats(&self, tensors: &SafeTensors<'_>, what: &str) -> Vec<f64> {
        let bytes = bytes_of(tensors, &format!("{}.{what}", self.name));
        bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
    }

    fn run(&self, tensors: &SafeTensors<'_>) -> Result<(), String> {
        let network = self.network();
        let model = network.elman();
        let (mask, given) = self.mask(tensors);
        let data = self.data(mask.as_deref());
        let positions = self.batch * self.steps;
        let row = positions * network.input_size;

        let directions = network.directions();
        let mut state = self.states(990, 0.5);
        if !self.initial_state {
            state.fill(0.0);
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
            let mask = mask.as_deref().filter(|_| given).map(|mask| &mask[call * positions..][..positions]);
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
            if let Some(Spec::Bidirectional { merge_mode: MergeMode::None, .. }) = network.layers.last() {
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

    pub(crate) fn data(&self, mask: Option<&[u8]>) -> Data {
        let seed = self.seed() + 999;
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
        let all = self.floats(tensors, what);
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
    let mut options = RunOptions::default().padding(call.padding).final_state(&mut state);
    (options.mask, options.lengths) = (call.mask, call.lengths);
    options.initial_state = call.initial_state;
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

pub(crate) fn bytes_of(tensors: &SafeTensors<'_>, name: &str) -> Vec<u8> {
    tensors.tensor(name).unwrap_or_else(|why| panic!("{name}: {why}")).data().to_vec()
}

fn to_f32(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}
