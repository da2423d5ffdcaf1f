//! A model as a table for people.

use super::Sequential;
use crate::layers::{Layer, Unroll};

impl Sequential {
    /// Layers, output shapes, parameters and the driver of each recurrent layer, as a table for people.
    pub fn summary(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let mut total = 0;
        let row = |text: &mut String, cells: [&str; 4]| {
            let line = format!("{:<24}{:<24}{:>12}  {}", cells[0], cells[1], cells[2], cells[3]);
            let _ = writeln!(text, "{}", line.trim_end());
        };
        row(&mut text, ["layer", "output shape", "parameters", "driver"]);
        let mut features = self.input_size;
        for ((i, layer), shape) in self.layers.iter().enumerate().zip(self.output_shapes()) {
            let parameters: usize =
                layer.variable_shapes(features).iter().map(|(_, [rows, columns])| rows * columns).sum();
            total = usize::saturating_add(total, parameters);
            features = shape.features;
            let output = match shape.sequence {
                true => format!("[batch, steps, {}]", shape.features),
                false => format!("[batch, {}]", shape.features),
            };
            let name = format!("{i} {}", layer.type_name());
            row(&mut text, [&name, &output, &parameters.to_string(), driver(layer)]);
        }
        let _ = writeln!(text, "total parameters: {total}");
        let isa = crate::dispatch::isa().map_or("unavailable", crate::dispatch::Isa::name);
        let _ = writeln!(
            text,
            "{}, kernels: {isa}, threads: {}",
            if self.is_built() { "built" } else { "not built" },
            self.threads.count()
        );
        text
    }
}

fn driver(layer: &Layer) -> &'static str {
    match layer.recurrent().map(|rnn| rnn.options().unroll) {
        Some(Unroll::Auto) => "unrolled (auto)",
        Some(Unroll::Looped) => "looped",
        Some(Unroll::Unrolled) => "unrolled",
        None => "",
    }
}
