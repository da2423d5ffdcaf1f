//! One model, eight callers at once: each gets the bits that it would get alone, whatever the model's own threads do.

mod common;

use std::sync::Barrier;

use common::backends;
use common::cells::Cell;
use common::network::{CELLS, Network, Recurrent, Rnn, Spec};
use common::numbers::{Choices, assert_same_bits, tokens, values};
use common::reference::{Call, Input};
use common::vectors::run_elman;
use elman::{Activation, Gru, GruCell, Lstm, LstmCell, MergeMode, Sequential, SimpleRnn, SimpleRnnCell};

const CALLERS: usize = 8;
const ROUNDS: usize = 12;

/// What a caller asks for, and what is right.
struct Question {
    x: Vec<f32>,
    ids: Vec<i32>,
    mask: Vec<u8>,
    batch: usize,
    steps: usize,
}

impl Question {
    /// Small and large ones, so that scratch of one size meets calls of another.
    fn new(network: &Network, seed: u64) -> Self {
        let mut choices = Choices::new(seed);
        let (batch, steps) = (choices.between(1, 24), choices.between(1, 40));
        let ids = match network.layers[0] {
            Spec::Embedding { vocabulary, .. } => tokens(seed, batch * steps, vocabulary),
            _ => Vec::new(),
        };
        let x = values(seed, batch * steps * network.input_size, 1.0);
        let mask = (0..batch * steps).map(|_| choices.between(0, 1) as u8).collect();
        Self { x, ids, mask, batch, steps }
    }

    fn ask(&self, model: &Sequential) -> Vec<f32> {
        let input = if self.ids.is_empty() { Input::Floats(&self.x) } else { Input::Tokens(&self.ids) };
        let mask = Some(&self.mask[..]);
        let (y, state) = run_elman(model, Call { mask, ..Call::new(input, self.batch, self.steps) });
        [y, state].concat()
    }
}

fn networks() -> Vec<Network> {
    let sequence = |units| Rnn { return_sequences: true, ..Rnn::new(units) };
    let rnn = |units| Spec::SimpleRnn(sequence(units));
    let before = Spec::Gru(Rnn { reset_after: false, ..sequence(65) });
    let both_lstm = Spec::bidirectional(MergeMode::Ave, Recurrent::Lstm(sequence(50)));
    let dense = Spec::Dense { units: 3, activation: Activation::Softmax, use_bias: true };
    let both = Spec::bidirectional(MergeMode::Concat, Rnn { return_sequences: true, ..Rnn::new(70) });
    let embedding = Spec::Embedding { vocabulary: 50, size: 60, mask_zero: true };
    vec![
        Network::new(60, vec![rnn(64), rnn(129), dense], 1),
        Network::new(30, vec![both, rnn(90)], 2),
        Network::new(1, vec![embedding, rnn(64), Spec::SimpleRnn(Rnn::new(64)), dense], 3),
        Network::new(30, vec![Spec::Lstm(sequence(64)), before, rnn(40), dense], 4),
        Network::new(1, vec![embedding, both_lstm, Spec::Gru(Rnn::new(64)), dense], 5),
    ]
}

#[test]
fn eight_callers_on_one_model() {
    for network in networks() {
        let mut model = network.elman();
        let questions: Vec<Question> =
            (0..CALLERS as u64).map(|seed| Question::new(&network, seed)).collect();
        // Alone, on a model that nobody else has used.
        let answers: Vec<Vec<f32>> =
            questions.iter().map(|question| question.ask(&network.elman())).collect();
        for threads in [1, 2] {
            model.set_threads(threads).expect("threads can be started");
            let (model, start) = (&model, &Barrier::new(CALLERS));
            std::thread::scope(|scope| {
                for first in 0..CALLERS {
                    let (questions, answers) = (&questions, &answers);
                    scope.spawn(move || {
                        start.wait();
                        for round in 0..ROUNDS {
                            let i = (first + round) % CALLERS;
                            let what = format!("{:?}, {threads} threads, question {i}", network_of(model));
                            assert_same_bits(&what, &questions[i].ask(model), &answers[i]);
                        }
                    });
                }
            });
        }
    }
}

/// Of few rows the columns of large layers are shared out: an LSTM and both GRUs whose recurrent kernels are of more than a
/// megabyte, with rows that end early, until threads have had every occasion to take part.
#[test]
fn columns_of_large_gated_layers() {
    let options = |units| Rnn { return_sequences: true, ..Rnn::new(units) };
    let before = Rnn { reset_after: false, ..options(310) };
    for layer in [Spec::Lstm(options(264)), Spec::Gru(options(300)), Spec::Gru(before)] {
        let network = Network::new(20, vec![layer], 6);
        let (batch, steps) = (3, 12);
        let x = values(1, batch * steps * 20, 1.0);
        let mask: Vec<u8> = (0..batch * steps).map(|i| u8::from(i < steps || i % 3 > 0)).collect();
        let call = Call { mask: Some(&mask), ..Call::new(Input::Floats(&x), batch, steps) };
        let expected = run_elman(&network.elman(), call);
        for threads in [2, 3] {
            let mut model = network.elman();
            model.set_threads(threads).expect("threads can be started");
            for round in 0..20 {
                let (y, state) = run_elman(&model, call);
                let what = format!("{:?}, {threads} threads, round {round}", network_of(&model));
                assert_same_bits(&what, &y, &expected.0);
                assert_same_bits(&what, &state, &expected.1);
            }
        }
    }
}

fn network_of(model: &Sequential) -> Vec<&'static str> {
    model.layers().iter().map(elman::Layer::type_name).collect()
}

#[test]
fn eight_callers_on_one_cell() {
    for layer in CELLS.map(|cell| cell(Rnn::new(64))) {
        let cell = &Cell::new(layer, 100, 7).expect("the cell is valid");
        let walk = move |seed: u64, batch: usize| {
            let mut states = vec![vec![0.0; batch * 64]; layer.states()];
            for t in 0..20 {
                cell.step_in_place(&values(seed + t, batch * 100, 1.0), batch, &mut states)
                    .expect("the step is right");
            }
            states.concat()
        };
        let answers: Vec<Vec<f32>> = (0..CALLERS).map(|i| walk(100 * i as u64, i + 1)).collect();
        std::thread::scope(|scope| {
            for (i, answer) in answers.iter().enumerate() {
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        assert_same_bits(
                            &format!("{layer:?}, caller {i}"),
                            &walk(100 * i as u64, i + 1),
                            answer,
                        );
                    }
                });
            }
        });
    }
}

/// Layers so large that threads share their columns, and meet after every step: eight callers on a pool of two must
/// neither wait for each other forever nor differ in a bit; three threads leave the machine's two cores oversubscribed.
#[test]
fn eight_callers_share_columns() {
    let relu = SimpleRnn::new(523).activation(Activation::Relu).return_sequences(true);
    let simple = Sequential::new(13).add(relu).add(SimpleRnn::new(600));
    callers_share_columns(simple.build(5).expect("the model is valid"));
    let gated = Sequential::new(13).add(Lstm::new(261).return_sequences(true)).add(Gru::new(270));
    callers_share_columns(gated.build(6).expect("the model is valid"));
}

fn callers_share_columns(mut model: Sequential) {
    let question = |caller: usize| (values(caller as u64, (caller + 1) * 9 * 13, 1.0), caller + 1, 9);
    let ask = |model: &Sequential, caller: usize| {
        let (x, batch, steps) = question(caller);
        model.predict(&x, batch, steps).expect("the call is right")
    };
    let answers: Vec<Vec<f32>> = (0..CALLERS).map(|caller| ask(&model, caller)).collect();
    for threads in [2, 3] {
        model.set_threads(threads).expect("threads can be started");
        let (model, start) = (&model, &Barrier::new(CALLERS));
        std::thread::scope(|scope| {
            for (caller, answer) in answers.iter().enumerate() {
                scope.spawn(move || {
                    start.wait();
                    for _ in 0..ROUNDS {
                        assert_same_bits(
                            &format!("{threads} threads, caller {caller}"),
                            &ask(model, caller),
                            answer,
                        );
                    }
                });
            }
        });
    }
}

/// A compiler's proof: what is shared may be shared.
#[test]
fn models_and_cells_are_send_and_sync() {
    fn shared<T: Send + Sync>() {}
    shared::<Sequential>();
    shared::<SimpleRnnCell>();
    shared::<LstmCell>();
    shared::<GruCell>();
}

#[test]
fn every_backend() {
    backends::run_others("threads");
}

/// Two threads that write one number without order: what a race looks like to the tool that must find it.
#[test]
#[ignore = "a race on purpose: .ci/sanitizers looks whether ThreadSanitizer finds it"]
fn a_planted_race() {
    struct Cell(std::cell::UnsafeCell<u32>);
    // SAFETY: none; this is the fault.
    unsafe impl Sync for Cell {}
    let cell = Cell(std::cell::UnsafeCell::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let cell = &cell;
            scope.spawn(move || {
                for i in 0..50 {
                    // SAFETY: none; this is the fault.
                    unsafe { cell.0.get().write_volatile(i) };
                    // The tool must still know what the other thread did, and it remembers little.
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            });
        }
    });
}
