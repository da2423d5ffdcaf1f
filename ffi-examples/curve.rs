//! Draws how training went, beside Keras: a part of `train.rs`.

use std::error::Error;
use std::path::Path;

use elman::Epoch;
use plotters::prelude::*;
use serde::Deserialize;

const KERAS: RGBColor = RGBColor(0xc0, 0x39, 0x2b);
const SAME: RGBColor = RGBColor(0x1b, 0x6c, 0xa8);
const COSINE: RGBColor = RGBColor(0x2e, 0x8b, 0x57);

/// Loss and accuracy by epoch: of a run of elman's, or as `data/keras_history.json` has them.
#[derive(Deserialize)]
pub(crate) struct Run {
    train_loss: Vec<f32>,
    train_accuracy: Vec<f32>,
    test_loss: Vec<f32>,
    test_accuracy: Vec<f32>,
}

impl From<Vec<Epoch>> for Run {
    fn from(epochs: Vec<Epoch>) -> Self {
        let training = || epochs.iter().map(|epoch| epoch.training);
        let test = || epochs.iter().filter_map(|epoch| epoch.validation);
        Self {
            train_loss: training().map(|score| score.loss).collect(),
            train_accuracy: training().filter_map(|score| score.accuracy).collect(),
            test_loss: test().map(|score| score.loss).collect(),
            test_accuracy: test().filter_map(|score| score.accuracy).collect(),
        }
    }
}

/// Keras's runs for seeds 0, 1 and 2.
pub(crate) fn keras(data: &Path) -> Result<Vec<Run>, Box<dyn Error>> {
    #[derive(Deserialize)]
    struct History {
        runs: Vec<Run>,
    }
    let history = std::fs::read_to_string(data.join("keras_history.json"))?;
    Ok(serde_json::from_str::<History>(&history)?.runs)
}

/// An SVG of four panels: loss and accuracy, on the training rows and on the test rows.
pub(crate) fn draw(keras: &[Run], same: &[Run], cosine: &[Run]) -> Result<String, Box<dyn Error>> {
    type Values = fn(&Run) -> &[f32];
    // Title, what is on the vertical axis and from where to where, the values.
    let panels: [(&str, &str, [f32; 2], Values); 4] = [
        ("training loss", "binary cross-entropy", [0.0, 1.0], |run| &run.train_loss),
        ("training accuracy", "share that is right", [0.5, 1.0], |run| &run.train_accuracy),
        ("test loss", "binary cross-entropy", [0.0, 1.0], |run| &run.test_loss),
        ("test accuracy", "share that is right", [0.5, 0.8], |run| &run.test_accuracy),
    ];
    let groups = [
        ("Keras", KERAS, keras),
        ("elman, Keras's settings", SAME, same),
        ("elman, the rate on half a cosine", COSINE, cosine),
    ];
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, (900, 600)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, (title, axis, [least, most], values)) in root.split_evenly((2, 2)).iter().zip(panels) {
        let epochs = keras.iter().map(|run| values(run).len()).max().unwrap_or(1);
        let mut chart = ChartBuilder::on(area)
            .caption(title, ("sans-serif", 16))
            .margin(8)
            .margin_right(16)
            .x_label_area_size(40)
            .y_label_area_size(58)
            .build_cartesian_2d(1..epochs, least..most)?;
        chart
            .configure_mesh()
            .x_desc("epoch")
            .y_desc(axis)
            .x_labels(epochs)
            .y_labels(6)
            .y_label_formatter(&|value| format!("{value:.2}"))
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 12))
            .draw()?;
        for (name, colour, runs) in groups {
            for (i, run) in runs.iter().enumerate() {
                let points = (1..).zip(values(run).iter().copied());
                let series = chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
                // One entry in the legend for all runs of a group.
                if i == 0 {
                    series.label(name).legend(move |(x, y)| {
                        PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
                    });
                }
            }
        }
        // The colours mean the same everywhere, and here is room.
        if title == "test accuracy" {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::LowerRight)
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.3))
                .label_font(("sans-serif", 12))
                .draw()?;
        }
    }
    root.present()?;
    drop(root);
    Ok(svg)
}
