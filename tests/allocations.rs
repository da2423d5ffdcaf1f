//! What calls ask of the allocator, and what a tape says of its own size.

mod common;

use common::backends;
use common::counting::{Counting, asked, held};
use common::network::{CELLS, GATED, Network, Recurrent, Rnn, Spec};
use common::numbers::values;
use elman::{Activation, Bidirectional, Dense, LastStep, Lstm, MergeMode, RunOptions, Sequential, Tape};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn one_thread_s_predict_allocates_nothing() {
    let sequence = Rnn { return_sequences: true, ..Rnn::new(20) };
    let gated = |cell: fn(Rnn) -> Recurrent| {
        let both = Spec::bidirectional(MergeMode::Concat, cell(sequence));
        [vec![cell(Rnn::new(20)).into()], vec![cell(sequence).into(), both, Spec::SimpleRnn(Rnn::new(20))]]
    };
    for layers in GATED.into_iter().flat_map(gated).chain([
        vec![Spec::SimpleRnn(Rnn::new(20))],
        vec![
            Spec::SimpleRnn(Rnn { return_sequences: true, ..Rnn::new(20) }),
            Spec::SimpleRnn(Rnn::new(20)),
            Spec::Dense { units: 5, activation: Activation::Linear, use_bias: true },
        ],
    ]) {
        let model = Network::new(7, layers, 3).elman();
        let x = values(1, 3 * 11 * 7, 1.0);
        let mut y = vec![0.0; model.output_len(3, 11).unwrap()];
        model.predict_into(&x, 3, 11, &mut y).unwrap();
        let asked = asked(|| model.predict_into(&x, 3, 11, &mut y).unwrap());
        assert_eq!(asked, 0);
    }
}

#[test]
fn the_last_step_is_taken_in_room_that_is_there() {
    let both = Bidirectional::new(Lstm::new(20).return_sequences(true));
    let model = Sequential::new(7).add(both).add(Dense::new(9)).add(LastStep::new()).add(Dense::new(5));
    let model = model.build(1).expect("the layers fit");
    let x = values(1, 3 * 11 * 7, 1.0);
    let mut y = vec![0.0; model.output_len(3, 11).unwrap()];
    model.predict_into(&x, 3, 11, &mut y).unwrap();
    assert_eq!(asked(|| model.predict_into(&x, 3, 11, &mut y).unwrap()), 0);
}

/// `Tape::bytes` beside the allocator's view.
#[test]
fn a_tape_says_all_it_holds() {
    let rnn = Rnn { return_sequences: true, dropout: 0.2, recurrent_dropout: 0.2, ..Rnn::new(16) };
    for cell in CELLS {
        // Masks of each gate, of the input alone, and none.
        for rnn in
            [rnn, Rnn { recurrent_dropout: 0.0, ..rnn }, Rnn { dropout: 0.0, recurrent_dropout: 0.0, ..rnn }]
        {
            says_all(vec![cell(rnn).into(), cell(rnn).into()]);
        }
    }
}

fn says_all(layers: Vec<Spec>) {
    let network = Network::new(8, layers, 3);
    let model = network.elman();
    let (batch, steps) = (32, 200);
    let x = values(1, batch * steps * 8, 1.0);
    let mask: Vec<u8> = (0..batch * steps).map(|i| u8::from(i % 5 != 0)).collect();
    let mut y = vec![0.0; model.output_len(batch, steps).unwrap()];
    let (tape, got) = held(|| {
        let mut tape = Tape::new(&model, batch, steps).unwrap();
        let options = RunOptions::default().mask(&mask);
        tape.forward(&x, batch, steps, options, true, 7, &mut y).unwrap();
        tape.backward(&y, None).unwrap();
        tape
    });
    let apart = got as f64 / tape.bytes() as f64;
    assert!(apart < 1.05, "{got} bytes held, {} said: {apart:.2} times, {:?}", tape.bytes(), network.layers);
}

#[test]
fn every_backend() {
    backends::run_others("allocations");
}
