//! Draws how the norm of the gradient runs back through time: `cargo run --release --example gradients > gradients.svg`.
//!
//! One layer of 64 tanh units, a loss on its last state, three kinds of recurrent weights, sequences of 10, 100 and 1000
//! steps. Over 100 steps orthogonal weights keep all but one digit of the gradient and Glorot's all but two; over 1000 both
//! lose it, while weights scaled up by a fifth let it grow a hundred thousand times, against which only clipping helps.

#![allow(clippy::print_stdout, reason = "a program for people")]

use elman::{Initializer, RunOptions, Sequential, SimpleRnn, Tape};

const BATCH: usize = 8;
const UNITS: usize = 64;
const FEATURES: usize = 16;
/// Floor of the picture: below it, gradients are zero for all that matters.
const LEAST: f64 = -16.0;
const MOST: f64 = 6.0;

/// The norms of `dLoss/dh_t`, the last step first.
fn norms(recurrent: Initializer, steps: usize) -> elman::Result<Vec<f32>> {
    // Small inputs, so that the weights decide.
    let layer = SimpleRnn::new(UNITS)
        .recurrent_initializer(recurrent)
        .kernel_initializer(Initializer::RandomNormal { mean: 0.0, stddev: 0.02 });
    let net = Sequential::new(FEATURES).add(layer).build(3)?;
    let x: Vec<f32> = (0..BATCH * steps * FEATURES).map(|i| (i as f32 * 0.731).sin()).collect();
    let mut y = vec![0.0; BATCH * UNITS];
    let mut tape = Tape::new(&net, BATCH, steps)?;
    tape.forward(&x, BATCH, steps, RunOptions::default(), true, 0, &mut y)?;
    tape.backward(&vec![1.0 / (BATCH * UNITS) as f32; BATCH * UNITS], None)?;
    let mut norms = vec![0.0; steps];
    tape.gradient_norms(0, &mut norms)?;
    norms.reverse();
    Ok(norms)
}

fn main() -> elman::Result<()> {
    let kinds = [
        ("orthogonal", "#1b6ca8", Initializer::Orthogonal { gain: 1.0 }),
        ("glorot uniform", "#c0392b", Initializer::GlorotUniform),
        ("orthogonal x 1.2", "#2e8b57", Initializer::Orthogonal { gain: 1.2 }),
    ];
    let (width, height, left, top) = (240.0, 220.0, 50.0, 40.0);
    println!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 330\" font-family=\"sans-serif\" font-size=\"12\">"
    );
    println!("<rect width=\"860\" height=\"330\" fill=\"white\"/>");
    for (panel, steps) in [10, 100, 1000].into_iter().enumerate() {
        let x0 = left + panel as f64 * (width + 30.0);
        let place = |power: f64| top + (MOST - power) / (MOST - LEAST) * height;
        println!("<text x=\"{x0}\" y=\"{}\">{steps} steps</text>", top - 12.0);
        for power in (LEAST as i32..=MOST as i32).step_by(4) {
            let y = place(f64::from(power));
            println!("<path d=\"M{x0} {y:.1}h{width}\" stroke=\"#dddddd\"/>");
            if panel == 0 {
                println!(
                    "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">1e{power}</text>",
                    x0 - 6.0,
                    y + 4.0
                );
            }
        }
        for (_, colour, initializer) in kinds {
            let norms = norms(initializer, steps)?;
            let points = norms.iter().enumerate().map(|(back, &norm)| {
                let x = x0 + back as f64 / (steps - 1) as f64 * width;
                format!("{x:.1},{:.1}", place(f64::from(norm).log10().clamp(LEAST, MOST)))
            });
            let points = points.collect::<Vec<_>>().join(" ");
            println!(
                "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
            );
        }
        println!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">steps back</text>",
            x0 + width,
            top + height + 16.0
        );
    }
    for (i, (name, colour, _)) in kinds.into_iter().enumerate() {
        let x = left + 180.0 * i as f64;
        println!("<path d=\"M{x} 305h24\" stroke=\"{colour}\" stroke-width=\"3\"/>");
        println!("<text x=\"{}\" y=\"309\">{name}</text>", x + 30.0);
    }
    println!("</svg>");
    Ok(())
}
