//! Draws how the norm of the gradient runs back through time:
//! `cargo run --release --example gradients > ffi-examples/gradients.svg`.
//!
//! One layer of 64 tanh units, a loss on its last state, three kinds of recurrent weights, sequences of 10,
//! 100 and 1000 steps. Over 100 steps orthogonal weights keep all but one digit of the gradient and Glorot's
//! all but two; over 1000 both lose it, while weights scaled up by a fifth let it grow a hundred thousand
//! times, against which only clipping helps.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;

use elman::{Initializer, RunOptions, Sequential, SimpleRnn, Tape};
use plotters::prelude::*;

const BATCH: usize = 8;
const UNITS: usize = 64;
const FEATURES: usize = 16;
/// Floor and ceiling of the picture: below the floor, gradients are zero for all that matters.
const LEAST: f64 = 1e-16;
const MOST: f64 = 1e6;

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

fn main() -> Result<(), Box<dyn Error>> {
    let kinds = [
        ("orthogonal", RGBColor(0x1b, 0x6c, 0xa8), Initializer::Orthogonal { gain: 1.0 }),
        ("Glorot uniform", RGBColor(0xc0, 0x39, 0x2b), Initializer::GlorotUniform),
        ("orthogonal × 1.2", RGBColor(0x2e, 0x8b, 0x57), Initializer::Orthogonal { gain: 1.2 }),
    ];
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, (900, 360)).into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, steps) in root.split_evenly((1, 3)).iter().zip([10, 100, 1000]) {
        let mut chart = ChartBuilder::on(panel)
            .caption(format!("{steps} steps"), ("sans-serif", 16))
            .margin(8)
            .margin_right(18)
            .x_label_area_size(40)
            .y_label_area_size(58)
            .build_cartesian_2d(0..steps, (LEAST..MOST).log_scale())?;
        chart
            .configure_mesh()
            .x_desc("steps back from the last")
            .y_desc("norm of the loss's gradient by the state")
            .x_labels(6)
            .y_labels(12)
            .y_label_formatter(&|norm| format!("1e{}", norm.log10().round() as i32))
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 12))
            .draw()?;
        for (name, colour, initializer) in kinds {
            let norms = norms(initializer, steps)?.into_iter().map(|norm| f64::from(norm).clamp(LEAST, MOST));
            chart
                .draw_series(LineSeries::new((0..).zip(norms), colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 12))
            .draw()?;
    }
    root.present()?;
    drop(root);
    println!("{svg}");
    Ok(())
}
