//! Trains the sentiment network on the movie reviews from nothing: `cargo run --release --example train [seed]`.
//!
//! The same data, network and settings as `data/train_keras.py`, which takes Keras 24 to 37 seconds to 0.746 and more.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use elman::{
    Activation, Dense, Embedding, Examples, Fit, Loss, Optimizer, Sequential, SimpleRnn, Trainer,
    TrainerConfig,
};

const VOCABULARY: usize = 5000;
const STEPS: usize = 80;

/// Rows of tokens, padded on the left, and their labels.
#[derive(Default)]
struct Rows {
    tokens: Vec<i32>,
    labels: Vec<f32>,
}

impl Rows {
    fn examples(&self) -> Examples<'_> {
        Examples::tokens(&self.tokens, self.labels.len(), STEPS, &self.labels)
    }
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

fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let seed = std::env::args().nth(1).map_or(Ok(0), |seed| seed.parse())?;
    let [training, test] = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("ffi-examples/data"))?;
    println!("{} rows to train on, {} to test", training.labels.len(), test.labels.len());

    let rnn = SimpleRnn::new(64).dropout(0.5);
    let mut network = Sequential::new(1)
        .add(Embedding::new(VOCABULARY, 100).mask_zero(true))
        .add(rnn.return_sequences(true))
        .add(rnn)
        .add(Dense::new(1).activation(Activation::Sigmoid))
        .build(seed)?;
    let loss = Loss::BinaryCrossentropy { from_logits: false };
    let mut trainer =
        Trainer::new(&network, TrainerConfig { seed, ..TrainerConfig::new(Optimizer::adam(), loss) })?;
    let fit = Fit { epochs: 6, batch_size: 128, validation: Some(test.examples()), ..Fit::default() };
    network.fit_with(&mut trainer, training.examples(), fit, |_, _, epoch| {
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
        true
    })?;
    println!("{:.2} s in all", start.elapsed().as_secs_f64());
    Ok(())
}
