//! What all recurrent layers share, said once: their options, the shapes of their weights, and what a cell looks like from
//! outside.

use super::{Activation, Gru, Initializer, Lstm, SimpleRnn, Weight, positive, rate};
use crate::error::{Error, Result};

/// Which driver walks the steps. The results have the same bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "files", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "files", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Unroll {
    /// Unrolled, which is never slower: the results are the same, and one call carries many steps.
    #[default]
    Auto,
    /// Each step by itself.
    Looped,
    /// Many steps at a time: inside one kernel call where the layer is small.
    Unrolled,
}

/// The options of every recurrent layer, with Keras's names and defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) units: usize,
    pub(crate) activation: Activation,
    pub(crate) use_bias: bool,
    pub(crate) return_sequences: bool,
    pub(crate) go_backwards: bool,
    pub(crate) stateful: bool,
    pub(crate) zero_output_for_mask: bool,
    pub(crate) unroll: Unroll,
    pub(crate) dropout: f32,
    pub(crate) recurrent_dropout: f32,
    pub(crate) kernel_initializer: Initializer,
    pub(crate) recurrent_initializer: Initializer,
    pub(crate) bias_initializer: Initializer,
}

impl Options {
    pub(crate) fn new(units: usize) -> Self {
        Self {
            units,
            activation: Activation::Tanh,
            use_bias: true,
            return_sequences: false,
            go_backwards: false,
            stateful: false,
            zero_output_for_mask: false,
            unroll: Unroll::Auto,
            dropout: 0.0,
            recurrent_dropout: 0.0,
            kernel_initializer: Initializer::GlorotUniform,
            recurrent_initializer: Initializer::Orthogonal { gain: 1.0 },
            bias_initializer: Initializer::Zeros,
        }
    }
}

/// A builder method for each of [`Options`]' fields, named as in Keras, and the units.
macro_rules! shared_options {
    ($layer:ty) => {
        impl $layer {
            $crate::layers::recurrent::option_methods! {
                /// The function of the new state's candidate: any [`Activation`] but softmax.
                activation: Activation,
                /// Whether a bias is added.
                use_bias: bool,
                /// Give every step's output rather than the last one's.
                return_sequences: bool,
                /// Walk the time axis from its end; outputs stay in processing order.
                go_backwards: bool,
                /// Keep the last states as the next call's initial states, until
                /// [`reset_states`](crate::Sequential::reset_states).
                stateful: bool,
                /// Masked steps emit zeros rather than the previous output; in a
                /// [`Bidirectional`](crate::Bidirectional) layer they do in any case.
                zero_output_for_mask: bool,
                /// Which driver walks the steps.
                unroll: Unroll,
                /// Share of the inputs dropped in training, 0 to 1: one mask for all gates, and one for each
                /// gate where [`recurrent_dropout`](Self::recurrent_dropout) is not 0. 1 drops everything, where
                /// Keras's LSTM and GRU would drop nothing.
                dropout: f32,
                /// Share of the state h dropped in training on its way into the products, 0 to 1: one mask for
                /// each gate. An LSTM's c, and the h that a GRU carries on, are never dropped.
                recurrent_dropout: f32,
                /// How the kernel `[input, gates · units]` starts.
                kernel_initializer: Initializer,
                /// How the recurrent kernel `[units, gates · units]` starts.
                recurrent_initializer: Initializer,
                /// How the bias starts.
                bias_initializer: Initializer,
            }

            /// Outputs a step.
            pub fn units(&self) -> usize {
                self.options.units
            }
        }
    };
}

/// Builder methods that set a field of `options`.
macro_rules! option_methods {
    ($($(#[$doc:meta])* $name:ident: $type:ty),* $(,)?) => {$(
        $(#[$doc])*
        pub fn $name(mut self, value: $type) -> Self {
            self.options.$name = value;
            self
        }
    )*};
}

pub(super) use {option_methods, shared_options};

/// A recurrent layer of any kind: what a [`Bidirectional`](super::Bidirectional) runs both ways.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Recurrent {
    /// The simple cell.
    SimpleRnn(SimpleRnn),
    /// Four gates and two states.
    Lstm(Lstm),
    /// Three gates.
    Gru(Gru),
}

macro_rules! into_recurrent {
    ($($name:ident),*) => {$(
        impl From<$name> for Recurrent {
            fn from(layer: $name) -> Self {
                Recurrent::$name(layer)
            }
        }
    )*};
}
into_recurrent!(SimpleRnn, Lstm, Gru);

/// What a cell is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    SimpleRnn,
    Lstm,
    Gru { reset_after: bool },
}

impl Cell {
    /// Gates, each with `units` columns of the kernels.
    pub(crate) const fn gates(self) -> usize {
        match self {
            Cell::SimpleRnn => 1,
            Cell::Lstm => 4,
            Cell::Gru { .. } => 3,
        }
    }

    /// State arrays of `units` floats a row: an LSTM has h, then c.
    pub(crate) const fn states(self) -> usize {
        match self {
            Cell::SimpleRnn | Cell::Gru { .. } => 1,
            Cell::Lstm => 2,
        }
    }

    /// Rows of the bias: with reset after, the input's and the recurrent one.
    pub(crate) const fn bias_rows(self) -> usize {
        match self {
            Cell::SimpleRnn | Cell::Lstm | Cell::Gru { reset_after: false } => 1,
            Cell::Gru { reset_after: true } => 2,
        }
    }
}

impl Recurrent {
    /// Keras's name of the layer type, as files carry it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Recurrent::SimpleRnn(_) => "simple_rnn",
            Recurrent::Lstm(_) => "lstm",
            Recurrent::Gru(_) => "gru",
        }
    }

    pub(crate) fn options(&self) -> &Options {
        match self {
            Recurrent::SimpleRnn(layer) => &layer.options,
            Recurrent::Lstm(layer) => &layer.options,
            Recurrent::Gru(layer) => &layer.options,
        }
    }

    pub(crate) fn cell(&self) -> Cell {
        match self {
            Recurrent::SimpleRnn(_) => Cell::SimpleRnn,
            Recurrent::Lstm(_) => Cell::Lstm,
            Recurrent::Gru(layer) => Cell::Gru { reset_after: layer.reset_after },
        }
    }

    /// The function of the gates, where there are gates, and that of the candidate.
    pub(crate) fn activations(&self) -> [Activation; 2] {
        let of_candidate = self.options().activation;
        match self {
            Recurrent::SimpleRnn(_) => [of_candidate; 2],
            Recurrent::Lstm(layer) => [layer.recurrent_activation, of_candidate],
            Recurrent::Gru(layer) => [layer.recurrent_activation, of_candidate],
        }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let options = self.options();
        positive("units", options.units)?;
        rate("dropout", options.dropout)?;
        rate("recurrent_dropout", options.recurrent_dropout)?;
        if self.activations().contains(&Activation::Softmax) {
            return Err(Error::InvalidArgument(
                "softmax is for dense layers; a recurrent layer takes an activation that works element by element"
                    .into(),
            ));
        }
        for (which, shape) in self.variable_shapes(1) {
            if which != Weight::Kernel {
                self.initializer(which).validate(which, shape)?;
            }
        }
        Ok(())
    }

    /// The variables for rows of `input` features, in Keras's order and shapes. Sizes that overflow are refused where
    /// they are allocated.
    pub(crate) fn variable_shapes(&self, input: usize) -> Vec<(Weight, [usize; 2])> {
        let (options, cell) = (self.options(), self.cell());
        let columns = cell.gates().saturating_mul(options.units);
        let mut shapes =
            vec![(Weight::Kernel, [input, columns]), (Weight::RecurrentKernel, [options.units, columns])];
        if options.use_bias {
            shapes.push((Weight::Bias, [cell.bias_rows(), columns]));
        }
        shapes
    }

    pub(crate) fn initializer(&self, which: Weight) -> Initializer {
        let options = self.options();
        match which {
            Weight::RecurrentKernel => options.recurrent_initializer,
            Weight::Bias => options.bias_initializer,
            _ => options.kernel_initializer,
        }
    }

    /// What is done to a variable after its initialiser: an LSTM with `unit_forget_bias` has ones for the forget gate.
    pub(crate) fn finish_initial(&self, which: Weight, values: &mut [f32]) {
        if let (Recurrent::Lstm(Lstm { options, unit_forget_bias: true, .. }), Weight::Bias) = (self, which) {
            values[options.units..2 * options.units].fill(1.0);
        }
    }
}
