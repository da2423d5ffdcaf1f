//! Cases that real Keras, PyTorch and ONNX Runtime ran: `tests/vectors/*.safetensors`. The scripts beside them say what they
//! hold.

use std::path::Path;

use elman::{Padding, RunOptions, Sequential, Tape};
use safetensors::SafeTensors;
use serde::Deserialize;

use super::network::{Array, Network, Spec};
use super::numbers::{distance, tokens, values};
use super::reference::{self, Call, Dropped, DroppedOf, Gradients, Input};

/// Of a tensor's largest magnitude: what a result may differ by.
pub(crate) const TOLERANCE: f64 = 1e-5;
/// The same for gradients.
pub(crate) const GRADIENT_TOLERANCE: f64 = 1e-4;
/// The same for the oracle, which must be better: the vectors themselves are rounded to f32 once.
pub(crate) const ORACLE_TOLERANCE: f64 = 1e-6;

#[derive(Deserialize)]
struct Config {
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
    pub(crate) calls: usize,
    pub(crate) reset_before: Vec<usize>,
    /// Dropout masks come from seeds; see `Case::dropout`.
    #[serde(default)]
    pub(crate) dropout_masks: bool,
    /// ONNX's padding.
    pub(crate) lengths: Option<Vec<usize>>,
}

/// What is wrong with a case.
pub(crate) type Wrong = Vec<String>;

/// Hands every case of a file to `check`, and gives how many there were. Panics with all that is wrong.
pub(crate) fn each_case(file: &str, check: impl Fn(&Case, &SafeTensors<'_>) -> Wrong) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    let bytes = std::fs::read(&path).expect("the vectors are committed");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let cases = &header.metadata().as_ref().expect("metadata")["cases"];
    let cases: Vec<Case> = serde_json::from_str(cases).expect("the list of cases");
    let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let wrong: Wrong = cases.iter().flat_map(|case| check(case, &tensors)).collect();
    assert!(wrong.is_empty(), "of {} cases:\n{}", cases.len(), wrong.join("\n"));
    cases.len()
}

/// A case's input over all calls.
enum Data {
    Floats(Vec<f32>),
    Tokens(Vec<i32>),
}

impl Case {
    /// What every seed of the case is counted from.
    fn seed(&self) -> u64 {
        self.case_seed * 1000
    }

    fn network(&self) -> Network {
        Network::new(self.config.input_size, self.config.layers.clone(), self.seed())
    }

    /// For every array of states `[batch, units]`, from seeds counted from `first`.
    fn states(&self, first: u64, scale: f32) -> Vec<f32> {
        let states = self.network().states();
        let each = states.iter().enumerate();
        each.flat_map(|(k, of)| values(self.seed() + first + k as u64, self.batch * of.units, scale))
            .collect()
    }

    /// `[calls, batch, steps]`: what is masked, by the call or by the input.
    fn mask(&self, tensors: &SafeTensors<'_>) -> Option<Vec<u8>> {
        let given = self.mask.then(|| bytes_of(tensors, &format!("{}.mask", self.name)));
        given.or_else(|| self.lengths.as_deref().map(|lengths| mask_of(lengths, self.steps)))
    }

    /// The mask as an argument of the call.
    fn mask_given<'a>(&self, mask: Option<&'a [u8]>) -> Option<&'a [u8]> {
        mask.filter(|_| !self.mask_by_value)
    }

    fn padding(&self) -> Padding {
        if self.lengths.is_some() { Padding::Onnx } else { Padding::Keras }
    }

    /// The input of all calls, `mask` being what is masked.
    fn data(&self, mask: Option<&[u8]>) -> Data {
        let seed = self.seed() + 999;
        let positions = self.calls * self.batch * self.steps;
        let masked = |i: usize| self.mask_by_value && mask.is_some_and(|mask| mask[i] == 0);
        match (self.input.as_str(), self.config.layers[0]) {
            ("tokens", Spec::Embedding { vocabulary, .. }) => {
                let mut ids = tokens(seed, positions, vocabulary);
                ids.iter_mut().enumerate().filter(|(i, _)| masked(*i)).for_each(|(_, id)| *id = 0);
                Data::Tokens(ids)
            }
            (_, first) => {
                let features = self.config.input_size;
                let mut x = values(seed, positions * features, 1.0);
                let value = if let Spec::Masking { mask_value } = first { mask_value } else { 0.0 };
                let steps = x.chunks_exact_mut(features).enumerate();
                steps.filter(|(i, _)| masked(*i)).for_each(|(_, step)| step.fill(value));
                Data::Floats(x)
            }
        }
    }

    /// A dropout mask of the case, the script's `give_dropout_masks`.
    fn dropout(&self, dropped: Dropped) -> Vec<f64> {
        let kind = match dropped.of {
            DroppedOf::Input => 0,
            DroppedOf::State => 10,
            DroppedOf::Layer => panic!("{}: a Dropout layer has no masks from seeds", self.name),
        };
        let seed = self.seed() + 900 + 20 * dropped.half as u64 + kind + dropped.gate as u64;
        let all = values(seed, self.batch * dropped.len, 1.0);
        let rate = f64::from(dropped.rate);
        let factor = |&value: &f32| match f64::from(value) < 2.0 * rate - 1.0 {
            true => 0.0,
            false => 1.0 / (1.0 - rate),
        };
        all[dropped.row * dropped.len..][..dropped.len].iter().map(factor).collect()
    }

    /// A reference tensor.
    fn floats(&self, tensors: &SafeTensors<'_>, what: &str) -> Vec<f64> {
        let bytes = bytes_of(tensors, &format!("{}.{what}", self.name));
        bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
    }

    /// What a call must give, in elman's layout: the output, with both halves where they are not merged.
    fn output(&self, tensors: &SafeTensors<'_>, call: usize) -> Vec<f64> {
        let halves = ["y", "y_backward"].into_iter().filter(|half| self.has(tensors, half));
        halves.flat_map(|half| self.of_call(self.floats(tensors, half), call)).collect()
    }

    /// What the k-th array of states must be after a call.
    fn state(&self, tensors: &SafeTensors<'_>, k: usize, call: usize) -> Vec<f64> {
        self.of_call(self.floats(tensors, &format!("state.{k}")), call)
    }

    fn of_call(&self, all: Vec<f64>, call: usize) -> Vec<f64> {
        all.chunks_exact(all.len() / self.calls).nth(call).expect("there are as many calls").to_vec()
    }

    fn has(&self, tensors: &SafeTensors<'_>, what: &str) -> bool {
        tensors.tensor(&format!("{}.{what}", self.name)).is_ok()
    }

    /// The oracle's outputs, states and, of cases that have them, gradients against the file's.
    pub(crate) fn check_oracle(&self, tensors: &SafeTensors<'_>, tolerance: f64) -> Wrong {
        let mut wrong = Wrong::new();
        let mut check = |what: &str, got: &[f64], expected: &[f64]| {
            if got.len() != expected.len() {
                wrong.push(format!("{}.{what}: {} values for {}", self.name, got.len(), expected.len()));
                return;
            }
            let got: Vec<f32> = got.iter().map(|&value| value as f32).collect();
            let apart = distance(&got, expected, 1e-6);
            if apart > tolerance {
                wrong.push(format!("{}.{what}: {apart:.1e} of the largest value", self.name));
            }
        };
        let network = self.network();
        let states = network.states();
        let mask = self.mask(tensors);
        let data = self.data(mask.as_deref());
        let mut state = self.states(990, 0.5);
        let zeros = vec![0.0; state.len()];
        if !self.initial_state {
            state.fill(0.0);
        }
        let masks = |dropped: Dropped| self.dropout(dropped);
        for call in 0..self.calls {
            if self.reset_before.contains(&call) {
                state.copy_from_slice(&zeros);
            }
            let before = state.clone();
            let given = self.call(&data, self.mask_given(mask.as_deref()), Some(&before), call);
            let given = if self.dropout_masks { Call { dropout: Some(&masks), ..given } } else { given };
            let outcome = reference::run(&network, given);
            check("y", &outcome.output, &self.output(tensors, call));
            let mut base = 0;
            for (k, (of, got)) in states.iter().zip(&outcome.states).enumerate() {
                check(&format!("state.{k}"), got, &self.state(tensors, k, call));
                let kept = &mut state[base..][..got.len()];
                // A layer that is not stateful starts every call from zeros.
                let next = got.iter().map(|&value| if of.stateful { value as f32 } else { 0.0 });
                kept.iter_mut().zip(next).for_each(|(kept, next)| *kept = next);
                base += got.len();
            }
            if self.has_gradients(tensors, &network) {
                let gradient = values(self.seed() + 998, outcome.output.len(), 1.0);
                let of_states = self.state_gradient.then(|| self.states(980, 1.0));
                let found = reference::gradients(&network, given, &gradient, of_states.as_deref());
                for (what, got) in self.named(&network, &found) {
                    check(&what, got, &self.floats(tensors, &what));
                }
            }
        }
        wrong
    }

    /// elman's outputs, states and, of cases that have them, gradients against the file's. Masks of dropout are the
    /// script's own, which elman cannot be given: such cases are the oracle's.
    pub(crate) fn check_elman(&self, tensors: &SafeTensors<'_>) -> Wrong {
        let mut wrong = Wrong::new();
        let (forward, backward) = (TOLERANCE, GRADIENT_TOLERANCE);
        if self.dropout_masks {
            return wrong;
        }
        let mut check = |what: &str, got: &[f32], expected: &[f64], tolerance: f64| {
            let apart = match got.len() == expected.len() {
                true => distance(got, expected, 1e-6),
                false => f64::INFINITY,
            };
            if apart > tolerance {
                wrong.push(format!("{}.{what}: {apart:.1e} of the largest value", self.name));
            }
        };
        let network = self.network();
        let states = network.states();
        let mask = self.mask(tensors);
        let data = self.data(mask.as_deref());
        // elman is given the lengths themselves.
        let told = |given| match &self.lengths {
            Some(lengths) => Call { mask: None, lengths: Some(lengths), ..given },
            None => given,
        };
        let model = network.elman();
        let initial = self.initial_state.then(|| self.states(990, 0.5));
        let len = model.output_len(self.batch, self.steps).expect("the sizes are right");
        let state_len = model.state_len(self.batch).expect("the sizes are right");
        for call in 0..self.calls {
            if self.reset_before.contains(&call) {
                model.reset_states();
            }
            let initial = initial.as_deref().filter(|_| call == 0);
            let given = self.call(&data, self.mask_given(mask.as_deref()), initial, call);
            let (y, state) = run_elman(&model, told(given));
            check("y", &y, &self.output(tensors, call), forward);
            let mut rest = &state[..];
            for (k, of) in states.iter().enumerate() {
                let (got, others) = rest.split_at(self.batch * of.units);
                check(&format!("state.{k}"), got, &self.state(tensors, k, call), forward);
                rest = others;
            }
        }
        if !self.has_gradients(tensors, &network) {
            return wrong;
        }
        let given = told(self.call(&data, self.mask_given(mask.as_deref()), initial.as_deref(), 0));
        let gradient = values(self.seed() + 998, len, 1.0);
        let of_states = self.state_gradient.then(|| self.states(980, 1.0));
        // A larger tape than needed, and a pass before that leaves something in every buffer.
        let mut tape = Tape::new(&model, self.batch + 1, self.steps + 2).expect("the sizes are right");
        let (mut y, mut dx) = (vec![f32::NAN; len], Vec::new());
        for _ in 0..2 {
            tape_forward(&mut tape, given, None, &mut y, &mut vec![f32::NAN; state_len]);
            let dx = match given.input {
                Input::Floats(x) => {
                    dx.resize(x.len(), f32::NAN);
                    Some(&mut dx[..])
                }
                Input::Tokens(_) => None,
            };
            tape.backward_with_state(&gradient, of_states.as_deref(), dx)
                .expect("a forward pass came before");
        }
        check("y", &y, &self.output(tensors, 0), forward);
        for (i, arrays) in network.weights.iter().enumerate() {
            for array in arrays {
                let what = format!("grad.{i}.{}", array.which.name());
                let got = tape.gradient(i, array.which).expect("a way back was gone");
                check(&what, got, &self.floats(tensors, &what), backward);
            }
        }
        if self.input == "floats" {
            check("grad.x", &dx, &self.floats(tensors, "grad.x"), backward);
        }
        if self.initial_state {
            let mut rest = tape.initial_state_gradient().expect("a way back was gone");
            for (k, of) in states.iter().enumerate() {
                let (got, others) = rest.split_at(self.batch * of.units);
                let what = format!("grad.state.{k}");
                check(&what, got, &self.floats(tensors, &what), backward);
                rest = others;
            }
        }
        wrong
    }

    fn has_gradients(&self, tensors: &SafeTensors<'_>, network: &Network) -> bool {
        let of_layer = |(i, arrays): (usize, &Vec<Array>)| {
            arrays.iter().any(|array| self.has(tensors, &format!("grad.{i}.{}", array.which.name())))
        };
        network.weights.iter().enumerate().any(of_layer)
    }

    /// Gradients under the files' names, as far as the case has them.
    fn named<'a>(&self, network: &Network, found: &'a Gradients) -> Vec<(String, &'a [f64])> {
        let mut named = Vec::new();
        for (i, (arrays, gradients)) in network.weights.iter().zip(&found.weights).enumerate() {
            for (array, gradient) in arrays.iter().zip(gradients) {
                named.push((format!("grad.{i}.{}", array.which.name()), &gradient[..]));
            }
        }
        if self.input == "floats" {
            named.push(("grad.x".to_owned(), &found.input[..]));
        }
        if self.initial_state {
            let states = found.states.iter().enumerate();
            named.extend(states.map(|(k, state)| (format!("grad.state.{k}"), &state[..])));
        }
        named
    }

    /// A call as the oracle is given it: lengths as the mask that they mean.
    fn call<'a>(
        &self,
        data: &'a Data,
        mask: Option<&'a [u8]>,
        state: Option<&'a [f32]>,
        call: usize,
    ) -> Call<'a> {
        let positions = self.batch * self.steps;
        let row = positions * self.config.input_size;
        let input = match data {
            Data::Floats(x) => Input::Floats(&x[call * row..][..row]),
            Data::Tokens(ids) => Input::Tokens(&ids[call * positions..][..positions]),
        };
        Call {
            mask: mask.map(|mask| &mask[call * positions..][..positions]),
            padding: self.padding(),
            initial_state: state,
            ..Call::new(input, self.batch, self.steps)
        }
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

fn bytes_of(tensors: &SafeTensors<'_>, name: &str) -> Vec<u8> {
    tensors.tensor(name).unwrap_or_else(|why| panic!("{name}: {why}")).data().to_vec()
}

/// A tape forwards; `training` holds a seed where dropout is active.
pub(crate) fn tape_forward(
    tape: &mut Tape,
    call: Call<'_>,
    training: Option<u64>,
    y: &mut [f32],
    state: &mut [f32],
) {
    let (batch, steps) = (call.batch, call.steps);
    let (active, seed) = (training.is_some(), training.unwrap_or(0));
    let mut options = RunOptions::default().padding(call.padding).final_state(state);
    (options.mask, options.lengths) = (call.mask, call.lengths);
    options.initial_state = call.initial_state;
    match call.input {
        Input::Floats(x) => tape.forward(x, batch, steps, options, active, seed, y),
        Input::Tokens(ids) => tape.forward_tokens(ids, batch, steps, options, active, seed, y),
    }
    .expect("the call is right");
}
