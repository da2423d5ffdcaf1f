//! What audio plug-ins load (`tests/vectors/import/make_audio.py`).

#![cfg(any(feature = "keras", feature = "torch"))]

mod import_cases;

use elman::{Error, Sequential, Stream};
use import_cases::{Cases, directory};

#[test]
fn plug_ins_models_compute_what_they_were_trained_to() {
    let cases = Cases::read("audio");
    for file in ["gru.json", "lstm.json", "nam.nam"] {
        let model =
            Sequential::load(directory("audio").join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        cases.check(file.split('.').next().expect("a name"), &model);
    }
}

/// A stream begins at zeros unless it is given the model's own states.
#[test]
fn a_stream_goes_on_from_an_amplifiers_states() {
    let cases = Cases::read("audio");
    let model = Sequential::load(directory("audio").join("nam.nam")).expect("it loads");
    let (rows, states) = model.states().expect("there is memory").expect("it has states");
    assert_eq!(rows, 1);
    let mut stream = Stream::new(&model, 1).expect("it streams");
    stream.set_state(&states).expect("they are its states");
    let (x, expected) = cases.floats("nam");
    let mut y = vec![0.0; expected.len()];
    for (x, y) in x.iter().zip(&mut y) {
        stream.run(&[*x], 1, std::slice::from_mut(y)).expect("a step");
    }
    for (y, expected) in y.iter().zip(expected) {
        assert!((y - expected).abs() <= 1e-5, "{y} for {expected}");
    }
}

#[test]
fn what_is_not_carried_out_is_named() {
    for (file, words) in
        [("refused_wavenet.nam", "architecture = \"WaveNet\""), ("refused_conv.json", "conv1d")]
    {
        let outcome = Sequential::load(directory("audio").join(file));
        assert!(
            matches!(&outcome, Err(Error::Unsupported(why)) if why.contains(words)),
            "{file}: {:?}",
            outcome.err()
        );
    }
}
