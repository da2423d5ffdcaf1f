//! A tagger: `cargo run --release --example tagger`.
//!
//! A label for every word, which depends on the words before it and after it, so the recurrent layer runs in both
//! directions. Trained weights would come from a file ([`Sequential::load`]); here they are set by hand, for a task whose
//! answer is known: mark each word that stands between an opening and a closing bracket.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;

use elman::{Activation, Bidirectional, Dense, Embedding, Sequential, SimpleRnn, Weight};

// Token 0 is padding; the others are the words.
const WORD: i32 = 1;
const OPEN: i32 = 2;
const CLOSE: i32 = 3;
const STEPS: usize = 9;
/// Sentences, and their labels.
const SENTENCES: [(&str, &str); 3] = [("ab(cd)ef", "...xx..."), ("(a)b(c", ".x...."), ("a)b(cd)", "....xx.")];

fn network() -> elman::Result<Sequential> {
    let mut network = Sequential::new(1)
        .add(Embedding::new(4, 2).mask_zero(true))
        .add(Bidirectional::new(SimpleRnn::new(1).return_sequences(true)))
        .add(Dense::new(1).activation(Activation::Sigmoid))
        .build(0)?;
    // A token becomes (is OPEN, is CLOSE).
    network.set_weight(0, Weight::Embedding, &[0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0])?;
    // A unit each way remembers: forwards an OPEN, backwards a CLOSE; the other bracket makes it forget.
    network.set_weight(1, Weight::Kernel, &[20.0, -20.0])?;
    network.set_weight(1, Weight::RecurrentKernel, &[10.0])?;
    network.set_weight(1, Weight::BackwardKernel, &[-20.0, 20.0])?;
    network.set_weight(1, Weight::BackwardRecurrentKernel, &[10.0])?;
    // Both must remember.
    network.set_weight(2, Weight::Kernel, &[10.0, 10.0])?;
    network.set_weight(2, Weight::Bias, &[-15.0])?;
    Ok(network)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut ids = [[0; STEPS]; SENTENCES.len()];
    for (row, (sentence, _)) in ids.iter_mut().zip(SENTENCES) {
        for (id, letter) in row.iter_mut().zip(sentence.chars()) {
            *id = match letter {
                '(' => OPEN,
                ')' => CLOSE,
                _ => WORD,
            };
        }
    }
    let y = network()?.predict(ids.as_flattened(), SENTENCES.len(), STEPS)?;

    let mut wrong = 0;
    for (row, (sentence, labels)) in y.chunks_exact(STEPS).zip(SENTENCES) {
        print!("{sentence:<10}");
        for (score, label) in row.iter().zip(labels.chars()) {
            print!("{score:6.3}");
            wrong += usize::from((*score > 0.5) != (label == 'x'));
        }
        println!();
    }
    if wrong > 0 {
        return Err(format!("{wrong} labels are wrong").into());
    }
    println!("every word has its label");
    Ok(())
}

#[test]
fn labels_are_right() {
    main().expect("it runs");
}
