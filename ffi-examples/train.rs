//! Trains the sentiment network on the movie reviews from nothing: `cargo run --release --example train [seed]`.
//!
//! The same data, network and settings as `data/train_keras.py`, but for the learning rate, which goes down on half a
//! cosine where Keras's example keeps it: the last epochs move the test accuracy by 0.01 up or down otherwise, and which
//! it is depends on the seed. Over seeds 0 to 9 the least test accuracy after six epochs is 0.754 and the median 0.765;
//! with the rate kept they are 0.736 and 0.751. `train.c` is the same training in C.
//! Keras gains as well: 0.766, 0.769 and 0.752 for seeds 0, 1 and 2, where it had 0.763, 0.756 and 0.741.
//!
//! `--curve > ffi-examples/training.svg` draws the runs of seeds 0, 1 and 2 with either rate, and Keras's.

#![allow(clippy::print_stdout, reason = "a program for people")]

mod curve;

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use curve::Run;
use elman::{
    Activation, Dense, Embedding, Epoch, Examples, Fit, Loss, Optimizer, Schedule, Sequential, SimpleRnn,
    Trainer, TrainerConfig,
};

const VOCABULARY: usize = 5000;
const STEPS: usize = 80;
const BATCH: usize = 128;
const EPOCHS: usize = 6;
const RATE: f32 = 0.001;

/// Rows of tokens, padded on the left, and their labels.
#[derive(Default)]
struct Rows {
    tokens: Vec<i32>,
    labels: Vec<f32>,
}

impl Rows {
    fn examples(&self) -> Examples<'_> {
        Examples::new(&self.tokens, self.labels.len(), STEPS, &self.labels)
    }
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ffi-examples/data")
}

/// The words of a text: runs of a-z, 0-9 and apostrophes, in lower case.
fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '\''));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Training rows and test rows.
fn read(directory: &Path) -> Result<[Rows; 2], Box<dyn Error>> {
    let vocabulary = std::fs::read_to_string(directory.join("vocabulary.txt"))?;
    let token_of: HashMap<&str, i32> = vocabulary.lines().zip(0..).collect();
    let reviews = std::fs::read_to_string(directory.join("movie_reviews.tsv"))?;
    let mut rows = [Rows::default(), Rows::default()];
    for line in reviews.split('\n').skip(1).filter(|line| !line.is_empty()) {
        let mut columns = line.splitn(3, '\t');
        let mut column = || columns.next().ok_or("a row needs three columns");
        let (number, rating, text): (usize, f32, &str) = (column()?.parse()?, column()?.parse()?, column()?);
        if rating.abs() < 0.2 {
            continue;
        }
        let words = words(text);
        let words = &words[words.len().saturating_sub(STEPS)..];
        let to = &mut rows[usize::from(number % 5 == 0)];
        to.tokens.extend(std::iter::repeat_n(0, STEPS - words.len()));
        to.tokens.extend(words.iter().map(|word| token_of.get(word.as_str()).copied().unwrap_or(1)));
        to.labels.push(f32::from(rating > 0.0));
    }
    Ok(rows)
}

/// The network, as in `data/train_keras.py`.
fn network(seed: u64) -> elman::Result<Sequential> {
    let rnn = SimpleRnn::new(64).dropout(0.5);
    Sequential::new(1)
        .add(Embedding::new(VOCABULARY, 100).mask_zero(true))
        .add(rnn.return_sequences(true))
        .add(rnn)
        .add(Dense::new(1).activation(Activation::Sigmoid))
        .build(seed)
}

/// Half a cosine from Keras's learning rate down to 0.
fn cosine(training: &Rows) -> Schedule {
    let decay_steps = (EPOCHS * training.labels.len().div_ceil(BATCH)) as u64;
    Schedule::Cosine { initial: RATE, decay_steps, alpha: 0.0, warmup: None }
}

fn train(
    [training, test]: &[Rows; 2],
    seed: u64,
    schedule: Schedule,
    after: impl Fn(&Epoch),
) -> elman::Result<Vec<Epoch>> {
    let mut network = network(seed)?;
    let loss = Loss::BinaryCrossentropy { from_logits: false };
    let config = TrainerConfig::new(Optimizer::adam(), loss).seed(seed).schedule(schedule);
    let mut trainer = Trainer::new(&network, config)?;
    let validation = Some(test.examples());
    let fit = Fit::default().epochs(EPOCHS).batch_size(BATCH).validation(validation).progress(true);
    network.fit_with(&mut trainer, training.examples(), fit, |_, _, epoch| {
        after(epoch);
        true
    })
}

fn print(epoch: &Epoch) {
    let validation = epoch.validation.unwrap_or(epoch.training);
    println!(
        "epoch {}: loss {:.4}, accuracy {:.4}; test loss {:.4}, accuracy {:.4}; {:.2} s",
        epoch.number + 1,
        epoch.training.loss,
        epoch.training.accuracy.unwrap_or(0.0),
        validation.loss,
        validation.accuracy.unwrap_or(0.0),
        epoch.took.as_secs_f64()
    );
}

fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let argument = std::env::args().nth(1);
    let rows = read(&data())?;
    let cosine = cosine(&rows[0]);
    if argument.as_deref() == Some("--curve") {
        let runs =
            |schedule| (0..3).map(|seed| train(&rows, seed, schedule, |_| ()).map(Run::from)).collect();
        let (same, cosine): (elman::Result<Vec<_>>, _) = (runs(Schedule::Constant(RATE)), runs(cosine));
        print!("{}", curve::draw(&curve::keras(&data())?, &same?, &cosine?)?);
        return Ok(());
    }
    let seed = argument.map_or(Ok(0), |seed| seed.parse())?;
    println!("{} rows to train on, {} to test", rows[0].labels.len(), rows[1].labels.len());
    train(&rows, seed, cosine, print)?;
    println!("{:.2} s in all", start.elapsed().as_secs_f64());
    Ok(())
}

#[test]
fn every_seed_learns() {
    let rows = read(&data()).expect("the data are committed");
    for seed in 0..3 {
        let epochs = train(&rows, seed, cosine(&rows[0]), |_| ()).expect("it trains");
        let accuracy = epochs.last().and_then(|epoch| epoch.validation?.accuracy);
        assert!(accuracy >= Some(0.74), "seed {seed}: {accuracy:?}");
    }
}
