//! `elman inspect`.

use std::fmt::Write as _;
use std::process::ExitCode;

use elman::{Isa, Layer, Origin, Sequential, Shape, Stream, Weight};
use serde::Serialize;

use crate::arguments::Arguments;
use crate::failure::Result;
use crate::input::{read_bytes, vocabulary_of};
use crate::output::{grouped, is_twofold, print, print_json};

/// The kernels of products, each of which is walked once a row.
const PRODUCTS: [Weight; 4] =
    [Weight::Kernel, Weight::RecurrentKernel, Weight::BackwardKernel, Weight::BackwardRecurrentKernel];
const OTHERS: [Weight; 3] = [Weight::Bias, Weight::BackwardBias, Weight::Embedding];

/// What there is to know of a layer.
#[derive(Serialize)]
struct Row {
    #[serde(rename = "type")]
    kind: String,
    /// As Keras has it: batch and steps are null.
    output_shape: Vec<Option<usize>>,
    parameters: usize,
    /// Multiply-adds each time, and whether they are done at every step.
    #[serde(skip)]
    macs: (usize, bool),
}

#[derive(Serialize)]
struct Description {
    file: String,
    origin: &'static str,
    file_bytes: usize,
    layers: Vec<Row>,
    parameters: usize,
    weight_bytes: usize,
    packed_bytes: usize,
    /// Of a model that reads tokens, how many it knows.
    vocabulary: Option<usize>,
    input_shape: Vec<Option<usize>>,
    output_shape: Vec<Option<usize>>,
    /// Floats of state a row.
    state_size: usize,
    stateful: bool,
    streams: bool,
    flops_per_step: usize,
    /// Of layers above the last step.
    flops_per_row: usize,
    isa: &'static str,
}

pub(crate) fn inspect(arguments: &Arguments) -> Result<ExitCode> {
    let model = arguments.model()?;
    let bytes = read_bytes(arguments.model_path())?;
    let described = describe(arguments, &model, &bytes)?;
    if arguments.json {
        print_json(&described)?;
    } else {
        print(&table(&described))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(arguments: &Arguments, model: &Sequential, bytes: &[u8]) -> Result<Description> {
    let layers: Vec<Row> = rows(model);
    let last = model.output_shapes().last();
    let [flops_per_step, flops_per_row] = flops_of(&layers);
    let vocabulary = vocabulary_of(model);
    let weights = model.weight_bytes()?;
    Ok(Description {
        file: arguments.model_path().display().to_string(),
        origin: Origin::of(bytes).map_or("unknown", Origin::name),
        file_bytes: bytes.len(),
        parameters: layers.iter().map(|row| row.parameters).sum(),
        weight_bytes: weights.plain,
        packed_bytes: weights.packed,
        vocabulary,
        input_shape: match vocabulary {
            Some(_) => vec![None, None],
            None => vec![None, None, Some(model.input_size())],
        },
        output_shape: {
            let halves = is_twofold(model)?.then_some(Some(2));
            halves.into_iter().chain(last.map_or(Vec::new(), dims)).collect()
        },
        state_size: model.state_len(1)?,
        stateful: model.is_stateful(),
        streams: Stream::new(model, 1).is_ok(),
        flops_per_step,
        flops_per_row,
        isa: elman::isa().map_or("unavailable", Isa::name),
        layers,
    })
}

/// Floating-point operations of one row of `steps` steps.
pub(crate) fn flops(model: &Sequential, steps: usize) -> usize {
    let [per_step, per_row] = flops_of(&rows(model));
    per_step * steps + per_row
}

/// Floating-point operations a step, and those of layers above the last step, a row.
fn flops_of(rows: &[Row]) -> [usize; 2] {
    [true, false].map(|steps| rows.iter().filter(|row| row.macs.1 == steps).map(|row| 2 * row.macs.0).sum())
}

fn dims(shape: Shape) -> Vec<Option<usize>> {
    let steps = shape.sequence.then_some(None);
    [None].into_iter().chain(steps).chain([Some(shape.features)]).collect()
}

fn rows(model: &Sequential) -> Vec<Row> {
    let layers = model.layers().iter().zip(model.output_shapes()).enumerate();
    layers
        .map(|(i, (layer, shape))| {
            let size = |which: &Weight| {
                // A layer without this weight.
                model.weight_shape(i, *which).map_or(0, |[rows, columns]| rows * columns)
            };
            let macs: usize = PRODUCTS.iter().map(size).sum();
            let parameters = macs + OTHERS.iter().map(size).sum::<usize>();
            // A recurrent layer computes at every step even where it gives the last one only.
            let every_step = shape.sequence || matches!(layer, Layer::Recurrent(_) | Layer::Bidirectional(_));
            Row {
                kind: layer.type_name().to_owned(),
                output_shape: dims(shape),
                parameters,
                macs: (macs, every_step),
            }
        })
        .collect()
}

/// `[batch, steps, 5]`.
fn words(shape: &[Option<usize>]) -> String {
    let mut names = ["batch", "steps"].into_iter();
    let dims = shape.iter().map(|dim| match dim {
        Some(size) => size.to_string(),
        None => names.next().unwrap_or("?").to_owned(),
    });
    format!("[{}]", dims.collect::<Vec<_>>().join(", "))
}

fn table(model: &Description) -> String {
    let mut text = format!("{}: {}, {} bytes\n\n", model.file, model.origin, grouped(model.file_bytes));
    let _ = writeln!(text, "{:<24}{:<24}{:>12}", "layer", "output shape", "parameters");
    for (i, row) in model.layers.iter().enumerate() {
        let name = format!("{i} {}", row.kind);
        let _ = writeln!(text, "{name:<24}{:<24}{:>12}", words(&row.output_shape), grouped(row.parameters));
    }
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<24}{value}");
    };
    line("", String::new());
    line("parameters", grouped(model.parameters));
    let [plain, packed] = [model.weight_bytes, model.packed_bytes].map(grouped);
    line("memory", format!("{plain} bytes, and {packed} as the kernels read them"));
    let input = words(&model.input_shape);
    line(
        "input",
        match model.vocabulary {
            Some(words) => format!("{input}, token ids 0 to {}", words.saturating_sub(1)),
            None => input,
        },
    );
    line("output", words(&model.output_shape));
    line("state", format!("{} floats a row", grouped(model.state_size)));
    line(
        "flops",
        match model.flops_per_row {
            0 => format!("{} a step", grouped(model.flops_per_step)),
            flops => format!("{} a step, and {} a row", grouped(model.flops_per_step), grouped(flops)),
        },
    );
    line("streams", if model.streams { "yes" } else { "no: it needs the future" }.to_owned());
    if model.stateful {
        line("stateful", "a call goes on from the states of the one before".to_owned());
    }
    line("kernels", model.isa.to_owned());
    // Lines have no blanks at their ends.
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
