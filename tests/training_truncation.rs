//! Truncated backward: walks of a sequence in pieces against the same put together by hand from tapes and steps.

mod common;

use std::ops::Range;
use std::path::Path;

use common::backends;
use common::network::{Network, Rnn, Spec, parameters};
use common::numbers::{assert_same_bits, tokens, values};
use elman::{
    Activation, Batch, Error, Examples, Fit, Loss, MergeMode, Optimizer, OptimizerState, Padding, RunOptions,
    Schedule, Tape, Trainer, TrainerConfig, Truncation,
};

const BATCH: usize = 5;
const STEPS: usize = 23;
const FEATURES: usize = 3;
const OUTPUTS: usize = 2;
const LOSS: Loss = Loss::MeanSquaredError;

/// Two recurrent layers with every dropout that does not depend on the number of steps, and outputs for each step.
fn layers() -> Vec<Spec> {
    vec![
        Spec::SimpleRnn(Rnn { dropout: 0.3, recurrent_dropout: 0.2, return_sequences: true, ..Rnn::new(9) }),
        Spec::SimpleRnn(Rnn { activation: Activation::Relu, return_sequences: true, ..Rnn::new(6) }),
        Spec::Dense { units: OUTPUTS, activation: Activation::Linear, use_bias: true },
    ]
}

fn network() -> Network {
    Network::new(FEATURES, layers(), 11)
}

/// The same of gated cells: states of h and c, masks of each gate and, with input dropout alone, one for all.
fn gated() -> [Vec<Spec>; 2] {
    let rnn = |units| Rnn { return_sequences: true, ..Rnn::new(units) };
    let dense = Spec::Dense { units: OUTPUTS, activation: Activation::Linear, use_bias: true };
    let lstm = Spec::Lstm(Rnn { dropout: 0.3, recurrent_dropout: 0.2, ..rnn(9) });
    let before = Spec::Gru(Rnn { reset_after: false, recurrent_dropout: 0.2, ..rnn(5) });
    let gru = Spec::Gru(Rnn { recurrent_activation: Activation::HardSigmoid, ..rnn(6) });
    [vec![lstm, gru, dense], vec![before, Spec::Lstm(Rnn { dropout: 0.3, ..rnn(4) }), dense]]
}

fn config(every: usize, back: usize) -> TrainerConfig {
    TrainerConfig::new(Optimizer::adam(), LOSS)
        .schedule(Schedule::Exponential { initial: 0.05, decay_steps: 3, decay_rate: 0.5, staircase: false })
        .seed(77)
        .truncation(Truncation::new(every, back))
}

/// The steps of `window` out of every row.
fn cut<T: Copy>(values: &[T], window: &Range<usize>) -> Vec<T> {
    let step = values.len() / (BATCH * STEPS);
    let rows = values.chunks_exact(STEPS * step);
    rows.flat_map(|row| &row[window.start * step..window.end * step]).copied().collect()
}

/// What a walk is tried on.
struct Data {
    network: Network,
    x: Vec<f32>,
    /// In place of `x`.
    ids: Option<Vec<i32>>,
    /// What is given to the call.
    mask: Option<Vec<u8>>,
    lengths: Option<Vec<usize>>,
    weights: Option<Vec<f32>>,
    target: Vec<f32>,
    initial: Vec<f32>,
}

impl Data {
    fn new() -> Self {
        Self::of(network())
    }

    fn of(network: Network) -> Self {
        Self {
            initial: values(3, BATCH * network.state_len(), 0.5),
            network,
            x: values(1, BATCH * STEPS * FEATURES, 1.0),
            ids: None,
            mask: None,
            lengths: None,
            weights: None,
            target: values(2, BATCH * STEPS * OUTPUTS, 1.0),
        }
    }

    fn examples(&self) -> Examples<'_> {
        let examples = match &self.ids {
            Some(ids) => Examples::tokens(ids, BATCH, STEPS, &self.target),
            None => Examples::floats(&self.x, BATCH, STEPS, &self.target),
        };
        match &self.weights {
            Some(weights) => examples.weights(weights),
            None => examples,
        }
    }

    fn options<'a>(&'a self, final_state: &'a mut [f32]) -> RunOptions<'a> {
        let mut options = RunOptions::default().initial_state(&self.initial).final_state(final_state);
        (options.mask, options.lengths) = (self.mask.as_deref(), self.lengths.as_deref());
        options
    }

    /// 1 for each step that any of the masks lets through.
    fn used(&self) -> Vec<u8> {
        let uses = |i: usize| {
            self.mask.as_ref().is_none_or(|mask| mask[i] != 0)
                && self.lengths.as_ref().is_none_or(|lengths| i % STEPS < lengths[i / STEPS])
                && self.ids.as_ref().is_none_or(|ids| ids[i] != 0)
        };
        (0..BATCH * STEPS).map(|i| u8::from(uses(i))).collect()
    }

    /// Forwards over `window` from `begin`; the output and the states at its end.
    fn forward(
        &self,
        tape: &mut Tape,
        window: &Range<usize>,
        begin: &[f32],
        seed: u64,
    ) -> (Vec<f32>, Vec<f32>) {
        let mask = cut(&self.used(), window);
        let mut end = vec![f32::NAN; begin.len()];
        let mut y = vec![f32::NAN; BATCH * window.len() * OUTPUTS];
        let options = RunOptions::default().mask(&mask).initial_state(begin).final_state(&mut end);
        match &self.ids {
            Some(ids) => {
                tape.forward_tokens(&cut(ids, window), BATCH, window.len(), options, true, seed, &mut y)
            }
            None => tape.forward(&cut(&self.x, window), BATCH, window.len(), options, true, seed, &mut y),
        }
        .unwrap();
        (y, end)
    }

    /// The walk with tapes: the weights, the loss, the final states and the number of updates.
    fn by_hand(&self, config: TrainerConfig) -> (Vec<f32>, f64, Vec<f32>, u64) {
        let Truncation { every, back, .. } = config.truncation.unwrap();
        let mut model = self.network.elman();
        let mut weights = parameters(&model);
        let mut optimizer = OptimizerState::new(config.optimizer, weights.len()).unwrap();
        let (mut begin, mut final_state) = (self.initial.clone(), Vec::new());
        let (mut total, mut all) = (0.0, 0.0);
        let begin_of = |start: usize| start.saturating_sub(back - every);
        for start in (0..STEPS).step_by(every) {
            let window = begin_of(start)..(start + every).min(STEPS);
            let seed = config.seed ^ (optimizer.steps() + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut tape = Tape::new(&model, BATCH, window.len()).unwrap();
            let next = begin_of(start + every).min(window.end);
            let next_begin = match next - window.start {
                0 => begin.clone(),
                _ => self.forward(&mut tape, &(window.start..next), &begin, seed).1,
            };
            let (y, end) = self.forward(&mut tape, &window, &begin, seed);
            (begin, final_state) = (next_begin, end);
            let mut counts = cut(&self.used(), &window);
            for row in counts.chunks_exact_mut(window.len()) {
                row[..start - window.start].fill(0);
            }
            let counted = counts.iter().filter(|&&count| count != 0).count();
            if counted == 0 {
                continue;
            }
            let (target, shares) = (cut(&self.target, &window), self.weights.as_ref());
            let shares = shares.map(|weights| cut(weights, &window));
            let mut dy = vec![0.0; y.len()];
            let mut batch = Batch::new(&y, &target, OUTPUTS).mask(&counts);
            batch.weights = shares.as_deref();
            total += f64::from(LOSS.evaluate(batch, &mut dy).unwrap()) * counted as f64;
            all += counted as f64;
            tape.backward(&dy, None).unwrap();
            let rate = config.schedule.rate(optimizer.steps());
            optimizer.step(rate).update(0, &mut weights, tape.gradients().unwrap());
            model.set_parameters(&weights).unwrap();
        }
        (weights, total / all, final_state, optimizer.steps())
    }

    #[track_caller]
    fn check(&self, every: usize, back: usize) -> u64 {
        let config = config(every, back);
        let (expected, loss, state, steps) = self.by_hand(config);
        let mut model = self.network.elman();
        let mut trainer = Trainer::new(&model, config).unwrap();
        let mut got_state = vec![f32::NAN; self.initial.len()];
        let got = trainer.step(&mut model, self.examples(), self.options(&mut got_state)).unwrap();
        assert_same_bits("weights", &parameters(&model), &expected);
        assert_same_bits("states", &got_state, &state);
        assert!((f64::from(got) / loss - 1.0).abs() < 1e-6, "loss {got}, not {loss}");
        assert_eq!(trainer.steps(), steps);
        steps
    }
}

/// Pieces that divide the steps and that do not, windows of one piece, of several, and longer than the sequence.
const SIZES: [(usize, usize); 9] =
    [(4, 4), (4, 6), (4, 8), (4, 11), (1, 3), (7, 8), (23, 23), (5, 100), (100, 200)];

#[test]
fn a_walk_is_its_windows_put_together() {
    for (every, back) in SIZES {
        let steps = Data::new().check(every, back);
        assert_eq!(steps as usize, STEPS.div_ceil(every));
        for layers in gated() {
            Data::of(Network::new(FEATURES, layers, 12)).check(every, back);
        }
    }
}

#[test]
fn masked_steps_do_not_count_and_carry_the_state() {
    // Holes; rows that begin late, end early, or are not there at all.
    let mut mask: Vec<u8> = (0..BATCH * STEPS).map(|i| u8::from(i % 5 != 0)).collect();
    mask[..9].fill(0);
    mask[2 * STEPS - 14..2 * STEPS].fill(0);
    mask[3 * STEPS..4 * STEPS].fill(0);
    for (every, back) in SIZES {
        Data { mask: Some(mask.clone()), ..Data::new() }.check(every, back);
        for layers in gated() {
            let data = Data::of(Network::new(FEATURES, layers, 12));
            Data { mask: Some(mask.clone()), ..data }.check(every, back);
        }
        let weights = values(4, BATCH * STEPS, 1.0).iter().map(|w| w + 2.0).collect();
        Data { mask: Some(mask.clone()), weights: Some(weights), ..Data::new() }.check(every, back);
    }
}

#[test]
fn pieces_behind_every_length_move_nothing() {
    for (every, back) in SIZES {
        let steps = Data { lengths: Some(vec![3, 9, 0, 8, 1]), ..Data::new() }.check(every, back);
        assert_eq!(steps as usize, 9_usize.div_ceil(every));
    }
    // And where nothing counts at all, that costs nothing and moves nothing, as for any step.
    let data = Data { lengths: Some(vec![0; BATCH]), ..Data::new() };
    let mut model = data.network.elman();
    let mut trainer = Trainer::new(&model, config(4, 6)).unwrap();
    let mut state = vec![0.0; data.initial.len()];
    let before = parameters(&model);
    assert_eq!(trainer.step(&mut model, data.examples(), data.options(&mut state)).unwrap(), 0.0);
    assert_same_bits("states", &state, &data.initial);
    assert_same_bits("weights", &parameters(&model), &before);
    assert_eq!(trainer.steps(), 0);
}

#[test]
fn tokens_are_walked_and_masked_by_themselves() {
    let mut layers = layers();
    layers.insert(0, Spec::Embedding { vocabulary: 12, size: 4, mask_zero: true });
    let data =
        Data { network: Network::new(1, layers, 5), ids: Some(tokens(6, BATCH * STEPS, 12)), ..Data::new() };
    for (every, back) in SIZES {
        data.check(every, back);
    }
}

#[test]
fn windows_of_one_piece_have_the_bits_of_a_step_for_each() {
    // A Dropout layer draws by step of the window, and so can only be compared here.
    for mut layers in gated().into_iter().chain([layers()]) {
        layers.insert(1, Spec::Dropout { rate: 0.4 });
        windows_of_one_piece(&Data::of(Network::new(FEATURES, layers, 11)));
    }
}

fn windows_of_one_piece(data: &Data) {
    for every in [1, 4, 7, STEPS] {
        let walked = config(every, every);
        let (mut model, mut other) = (data.network.elman(), data.network.elman());
        let mut trainer = Trainer::new(&model, walked).unwrap();
        let mut by_hand = Trainer::new(&other, walked.truncation(None)).unwrap();
        let mut state = data.initial.clone();
        let mut got = vec![f32::NAN; state.len()];
        for _ in 0..2 {
            let mut begin = data.initial.clone();
            for start in (0..STEPS).step_by(every) {
                let window = start..(start + every).min(STEPS);
                let (x, target) = (cut(&data.x, &window), cut(&data.target, &window));
                let examples = Examples::floats(&x, BATCH, window.len(), &target);
                let options = RunOptions::default().initial_state(&begin).final_state(&mut state);
                by_hand.step(&mut other, examples, options).unwrap();
                begin.copy_from_slice(&state);
            }
            trainer.step(&mut model, data.examples(), data.options(&mut got)).unwrap();
            assert_same_bits("states", &got, &state);
            assert_same_bits("weights", &parameters(&model), &parameters(&other));
            assert_eq!(trainer.steps(), by_hand.steps());
        }
    }
}

#[test]
fn one_window_over_everything_is_a_step() {
    let data = Data::new();
    let walked = config(STEPS, STEPS + 1);
    let (mut model, mut other) = (data.network.elman(), data.network.elman());
    let mut trainer = Trainer::new(&model, walked).unwrap();
    let mut plain = Trainer::new(&other, walked.truncation(None)).unwrap();
    for _ in 0..3 {
        let loss = trainer.step(&mut model, data.examples(), RunOptions::default()).unwrap();
        let expected = plain.step(&mut other, data.examples(), RunOptions::default()).unwrap();
        assert_eq!(loss, expected);
    }
    assert_same_bits("weights", &parameters(&model), &parameters(&other));
}

#[test]
fn a_walk_that_fails_on_its_way_changes_nothing() {
    let good = Data::new();
    let mut bad = Data::new();
    // In the last piece of six.
    bad.x[(2 * STEPS - 1) * FEATURES] = f32::NAN;
    let (mut model, mut other) = (good.network.elman(), good.network.elman());
    let mut trainer = Trainer::new(&model, config(4, 6)).unwrap();
    let mut fresh = Trainer::new(&other, config(4, 6)).unwrap();
    let mut state = vec![7.0; good.initial.len()];
    for round in 0..3 {
        let before = parameters(&model);
        let outcome = trainer.step(&mut model, bad.examples(), bad.options(&mut state));
        assert!(matches!(outcome, Err(Error::NotFinite(_))), "{outcome:?}");
        assert_same_bits("weights", &parameters(&model), &before);
        assert_same_bits("states", &state, &vec![7.0; state.len()]);
        assert_eq!(trainer.steps(), 6 * round);
        // And the next good step is what it would have been.
        trainer.step(&mut model, good.examples(), RunOptions::default()).unwrap();
        fresh.step(&mut other, good.examples(), RunOptions::default()).unwrap();
        assert_same_bits("weights", &parameters(&model), &parameters(&other));
    }
}

#[test]
fn a_checkpoint_of_a_walk_goes_on_to_the_same_bits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("training.safetensors");
    for network in gated().map(|layers| Network::new(FEATURES, layers, 11)).into_iter().chain([network()]) {
        checkpoint_goes_on(&path, &Data::of(network));
    }
}

fn checkpoint_goes_on(path: &Path, data: &Data) {
    let fit = Fit::default().epochs(2).batch_size(2).progress(false);
    let mut model = data.network.elman();
    let mut trainer = Trainer::new(&model, config(4, 6)).unwrap();
    model.fit(&mut trainer, data.examples(), fit).unwrap();
    trainer.save(&model, path).unwrap();
    model.fit(&mut trainer, data.examples(), fit).unwrap();
    let mut other = data.network.elman();
    let mut resumed = Trainer::load(&mut other, path).unwrap();
    assert_eq!((resumed.config(), resumed.steps()), (trainer.config(), 36));
    other.fit(&mut resumed, data.examples(), fit).unwrap();
    assert_same_bits("weights", &parameters(&other), &parameters(&model));
}

#[test]
fn what_cannot_be_walked_is_refused() {
    let refused = |layers: Vec<Spec>, config: TrainerConfig| {
        Trainer::new(&Network::new(FEATURES, layers, 1).elman(), config).unwrap_err()
    };
    for (every, back) in [(0, 0), (0, 5), (5, 4)] {
        let error = refused(layers(), config(every, back));
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
        assert!(error.to_string().contains(&format!("every {every} and back {back}")), "{error}");
    }
    let rnn = Rnn { return_sequences: true, ..Rnn::new(4) };
    for (layers, word) in [
        (vec![Spec::bidirectional(MergeMode::Concat, rnn)], "layer 0 is bidirectional"),
        (vec![Spec::SimpleRnn(Rnn { go_backwards: true, ..rnn })], "layer 0 has go_backwards"),
        (vec![Spec::SimpleRnn(rnn), Spec::SimpleRnn(Rnn::new(3))], "last output only"),
    ] {
        let error = refused(layers, config(4, 6));
        assert!(matches!(error, Error::Unsupported(_)) && error.to_string().contains(word), "{error}");
    }
    // Wrong arguments are found before the first piece moves anything.
    let data = Data::new();
    let mut model = data.network.elman();
    let mut trainer = Trainer::new(&model, config(4, 6)).unwrap();
    let before = parameters(&model);
    let (x, target) = (&data.x[..], &data.target[..]);
    let lengths = [STEPS + 1; BATCH];
    let onnx = RunOptions::default().padding(Padding::Onnx);
    let long = RunOptions::default().lengths(&lengths);
    let plain = RunOptions::default;
    for (examples, options) in [
        (Examples::floats(&x[1..], BATCH, STEPS, target), plain()),
        (Examples::floats(x, BATCH, STEPS, &target[1..]), plain()),
        (Examples::floats(x, BATCH, STEPS, target).weights(target), plain()),
        (Examples::floats(x, BATCH, 0, target), plain()),
        (Examples::floats(x, BATCH, STEPS, target), onnx),
        (Examples::floats(x, BATCH, STEPS, target), long),
        (Examples::floats(x, BATCH, STEPS, target), plain().mask(&[1; 3])),
        (Examples::floats(x, BATCH, STEPS, target), plain().initial_state(&x[..3])),
    ] {
        assert!(trainer.step(&mut model, examples, options).is_err());
        assert_eq!(trainer.steps(), 0);
    }
    assert_same_bits("weights", &parameters(&model), &before);
}

#[test]
fn every_backend() {
    backends::run_others("training_truncation");
}
