//! What a model's weights take: once in Keras's layout and once packed, and the packed ones alone after `drop_weights`.

mod common;

use common::backends;
use common::counting::{Counting, held};
use common::network::{Network, Recurrent, Rnn, Spec};
use common::numbers::{assert_same_bits, tokens, values};
use elman::{
    Activation, Error, Examples, Loss, MergeMode, Optimizer, RunOptions, Sequential, Stream, Tape, Trainer,
    TrainerConfig, Weight, WeightBytes,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BATCH: usize = 3;
const STEPS: usize = 11;
const VOCABULARY: usize = 500;

/// Every layer with weights, once on floats and once on tokens.
fn networks() -> [Network; 4] {
    let rnn = |units| Rnn { return_sequences: true, ..Rnn::new(units) };
    let dense = |units| Spec::Dense { units, activation: Activation::Softmax, use_bias: true };
    let both = Spec::bidirectional(MergeMode::Concat, rnn(50));
    let both_gated = Spec::bidirectional(MergeMode::Concat, Recurrent::Gru(rnn(50)));
    let reset_before = Spec::Gru(Rnn { reset_after: false, ..Rnn::new(64) });
    let embedding = Spec::Embedding { vocabulary: VOCABULARY, size: 40, mask_zero: true };
    [
        Network::new(70, vec![Spec::SimpleRnn(rnn(300)), both, dense(90)], 1),
        Network::new(
            1,
            vec![embedding, Spec::SimpleRnn(rnn(300)), Spec::SimpleRnn(Rnn::new(64)), dense(9)],
            2,
        ),
        Network::new(70, vec![Spec::Lstm(rnn(200)), both_gated, dense(90)], 3),
        Network::new(1, vec![embedding, Spec::Gru(rnn(200)), reset_before, dense(9)], 4),
    ]
}

fn bytes(model: &Sequential) -> WeightBytes {
    model.weight_bytes().unwrap()
}

/// The bytes of arrays that a run reads as they are.
fn tables(network: &Network) -> usize {
    let arrays = network.weights.iter().flatten();
    let tables = arrays.filter(|array| array.which == Weight::Embedding);
    tables.map(|array| size_of_val(&array.values[..])).sum()
}

/// Within what an allocator's view may differ by: each array is moved by up to a page.
#[track_caller]
fn about(got: isize, expected: usize, network: &Network) {
    let room = 4096 * 2 * network.weights.iter().flatten().count() + 8192;
    let apart = got.unsigned_abs().abs_diff(expected);
    assert!(apart < room && 2 * room < expected, "{got} bytes, and it says {expected}");
}

fn predict(model: &Sequential, network: &Network) -> Vec<f32> {
    let len = BATCH * STEPS * network.input_size;
    match network.layers[0] {
        Spec::Embedding { vocabulary, .. } => {
            model.predict_tokens(&tokens(5, len, vocabulary), BATCH, STEPS).unwrap()
        }
        _ => model.predict(&values(5, len, 1.0), BATCH, STEPS).unwrap(),
    }
}

#[track_caller]
fn dropped<T>(result: Result<T, Error>, what: &str) {
    match result {
        Err(Error::Unsupported(message)) => {
            assert!(message.starts_with(what) && message.contains("drop_weights"), "{message}");
        }
        Err(other) => panic!("{other:?} where {what} needs dropped weights"),
        Ok(_) => panic!("{what} has found dropped weights"),
    }
}

#[test]
fn a_model_holds_its_weights_once_in_each_form_and_drop_frees_one() {
    for network in networks() {
        let (mut model, got) = held(|| network.elman());
        let whole = bytes(&model);
        let plain: usize = network.weights.iter().flatten().map(|array| size_of_val(&array.values[..])).sum();
        assert_eq!(whole.plain, plain);
        assert!((plain - tables(&network)..2 * plain).contains(&whole.packed), "{whole:?} of {plain}");
        about(got, whole.plain + whole.packed, &network);

        let before = predict(&model, &network);
        let ((), got) = held(|| model.drop_weights().unwrap());
        assert!(got < 0, "{got}");
        let light = bytes(&model);
        assert_eq!((light.plain, light.packed), (tables(&network), whole.packed));
        about(got, whole.plain - light.plain, &network);
        assert_same_bits("a run without the plain weights", &predict(&model, &network), &before);

        let ((), got) = held(|| model.drop_weights().unwrap());
        assert!(got.abs() < 1024 && bytes(&model) == light, "a second time: {got}");
    }
}

#[test]
fn a_loaded_model_holds_nothing_else() {
    let network = &networks()[1];
    let path = std::env::temp_dir().join(format!("elman-weights-memory-{}.safetensors", std::process::id()));
    network.elman().save(&path).unwrap();
    let (model, got) = held(|| Sequential::load(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    about(got, bytes(&model).plain + bytes(&model).packed, network);
}

#[test]
fn what_needs_dropped_weights_says_so_and_the_rest_goes_on() {
    let [network, reader, ..] = networks();
    let plain = TrainerConfig::new(Optimizer::sgd(), Loss::MeanSquaredError);
    let mut model = network.elman();
    let mut trainer = Trainer::new(&model, plain).unwrap();
    let (summary, count) = (model.summary(), model.parameter_count().unwrap());
    model.drop_weights().unwrap();

    assert_eq!((model.summary(), model.parameter_count().unwrap()), (summary, count));
    assert_eq!(model.weight_shape(1, Weight::BackwardKernel).unwrap(), [300, 50]);
    assert!(model.trainable_variables().all(|(_, shape, values)| shape[0] > 0 && values.is_empty()));

    let x = values(1, BATCH * STEPS * 70, 1.0);
    let target = values(2, BATCH * STEPS * 90, 1.0);
    let examples = Examples::floats(&x, BATCH, STEPS, &target);
    dropped(model.weight(0, Weight::Kernel), "get_weight");
    dropped(model.set_weight(2, Weight::Bias, &[0.0; 90]), "set_weight");
    dropped(model.get_parameters(&mut vec![0.0; count]), "get_parameters");
    dropped(model.set_parameters(&vec![0.0; count]), "set_parameters");
    dropped(model.save(std::env::temp_dir().join("elman-not-written")), "save");
    dropped(Tape::new(&model, BATCH, STEPS), "tape");
    dropped(Trainer::new(&model, plain), "trainer");
    dropped(trainer.step(&mut model, examples, RunOptions::default()), "trainer");
    dropped(trainer.evaluate(&model, examples), "trainer");
    assert!(matches!(model.weight(0, Weight::Embedding), Err(Error::InvalidArgument(_))));
    assert!(matches!(Sequential::new(2).drop_weights(), Err(Error::NotBuilt(_))));
    model.initialize(3).unwrap();
    trainer.step(&mut model, examples, RunOptions::default()).unwrap();

    // An embedding's table is still there, to be read and to be changed.
    let mut model = reader.elman();
    model.drop_weights().unwrap();
    let table = values(6, VOCABULARY * 40, 1.0);
    model.set_weight(0, Weight::Embedding, &table).unwrap();
    assert_same_bits("the table", model.weight(0, Weight::Embedding).unwrap().values(), &table);
    let mut other = reader.elman();
    other.set_weight(0, Weight::Embedding, &table).unwrap();
    assert_same_bits("the other table", &predict(&model, &reader), &predict(&other, &reader));
}

#[test]
fn streams_and_tapes_keep_what_they_were_made_with() {
    let rnn = |units| Spec::SimpleRnn(Rnn { return_sequences: true, ..Rnn::new(units) });
    let lstm = Spec::Lstm(Rnn { return_sequences: true, ..Rnn::new(120) });
    let gru = Spec::Gru(Rnn { return_sequences: true, ..Rnn::new(90) });
    for layers in [vec![rnn(300), rnn(90)], vec![lstm, gru]] {
        keep_what_they_were_made_with(&Network::new(20, layers, 4));
    }
}

fn keep_what_they_were_made_with(network: &Network) {
    // As `predict` makes it.
    let x = values(5, BATCH * STEPS * 20, 1.0);
    let mut model = network.elman();
    let expected = predict(&model, network);
    let whole = bytes(&model);
    let mut tape = Tape::new(&model, BATCH, STEPS).unwrap();
    let mut before = Stream::new(&model, BATCH).unwrap();
    let ((), got) = held(|| model.drop_weights().unwrap());
    about(got, whole.packed, network);
    let mut after = Stream::new(&model, BATCH).unwrap();
    assert_same_bits("a run", &predict(&model, network), &expected);

    let mut y = vec![0.0; expected.len()];
    for stream in [&mut before, &mut after] {
        stream.run(&x, STEPS, &mut y).unwrap();
        assert_same_bits("a stream", &y, &expected);
    }
    tape.forward(&x, BATCH, STEPS, RunOptions::default(), false, 0, &mut y).unwrap();
    assert_same_bits("a tape", &y, &expected);
    tape.backward(&y, None).unwrap();
    let (_, got) = held(|| drop((before, tape)));
    assert!(got < -((whole.plain + whole.packed) as isize), "the others' weights go with them: {got}");
}

#[test]
fn every_backend() {
    backends::run_others("weights_memory");
}
