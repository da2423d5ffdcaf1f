//! Draws how training went, beside Keras: a part of `train.rs`.

use std::error::Error;
use std::path::Path;

use elman::Epoch;
use serde::Deserialize;

const KERAS: &str = "#c0392b";
const SAME: &str = "#1b6ca8";
const COSINE: &str = "#2e8b57";

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
pub(crate) fn draw(keras: &[Run], same: &[Run], cosine: &[Run]) -> String {
    use std::fmt::Write as _;
    type Values = fn(&Run) -> &[f32];
    // Title, least and largest value, lines between, the values.
    let panels: [(&str, [f32; 2], usize, Values); 4] = [
        ("training loss", [0.0, 1.0], 5, |run| &run.train_loss),
        ("training accuracy", [0.5, 1.0], 5, |run| &run.train_accuracy),
        ("test loss", [0.0, 1.0], 5, |run| &run.test_loss),
        ("test accuracy", [0.5, 0.8], 6, |run| &run.test_accuracy),
    ];
    let (width, height) = (360.0, 180.0);
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 505\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"860\" height=\"505\" fill=\"white\"/>\n",
    );
    let mut line = |text: String| _ = writeln!(svg, "{text}");
    for (i, (title, [least, most], ticks, values)) in panels.into_iter().enumerate() {
        let (left, top) = (50.0 + (i % 2) as f32 * (width + 60.0), 30.0 + (i / 2) as f32 * (height + 60.0));
        let place = |value: f32| top + (most - value) / (most - least) * height;
        line(format!("<text x=\"{left}\" y=\"{}\">{title}</text>", top - 12.0));
        for tick in 0..=ticks {
            let value = least + (most - least) * tick as f32 / ticks as f32;
            let y = place(value);
            line(format!("<path d=\"M{left} {y:.1}h{width}\" stroke=\"#dddddd\"/>"));
            line(format!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.2}</text>",
                left - 6.0,
                y + 4.0
            ));
        }
        for (runs, colour) in [(keras, KERAS), (same, SAME), (cosine, COSINE)] {
            for run in runs {
                let values = values(run);
                let across = |epoch: usize| left + epoch as f32 / (values.len() - 1) as f32 * width;
                let points = values.iter().enumerate();
                let points = points.map(|(i, &value)| format!("{:.1},{:.1}", across(i), place(value)));
                let points = points.collect::<Vec<_>>().join(" ");
                line(format!(
                    "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
                ));
            }
        }
        let (x, y) = (left + width, top + height + 16.0);
        line(format!("<text x=\"{left}\" y=\"{y}\">1</text>"));
        line(format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">epoch 6</text>"));
    }
    let legend =
        [(KERAS, "Keras"), (SAME, "elman, Keras's settings"), (COSINE, "elman, the rate on half a cosine")];
    for (i, (colour, name)) in legend.into_iter().enumerate() {
        let x = 50 + 200 * i;
        line(format!("<path d=\"M{x} 485h24\" stroke=\"{colour}\" stroke-width=\"3\"/>"));
        line(format!("<text x=\"{}\" y=\"489\">{name}</text>", x + 30));
    }
    svg + "</svg>\n"
}
