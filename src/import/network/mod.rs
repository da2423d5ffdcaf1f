//! What every reader makes, whatever it reads: a line of parts with weights in Keras's layout and order of
//! gates. Here it becomes a built [`Sequential`].
//!
//! The order in which a framework keeps its gates is data. What layers cannot carry out is refused in
//! [`Lowering`], by the name of the part.

mod affine;
mod lowering;
mod matrix;
mod recurrent;

use super::{bad, unsupported};
use crate::error::{Error, Result};
pub(super) use crate::layers::{Activation, Cell};
use crate::memory::with_room;
use crate::sequential::Sequential;

pub(super) use affine::Affine;
use lowering::Lowering;
pub(super) use matrix::Matrix;
pub(crate) use recurrent::GateOrder;
#[cfg(feature = "keras")]
pub(super) use recurrent::name_of;
pub(super) use recurrent::{Direction, Handed, Rnn};

/// One thing that a line of layers does.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Embedding {
        table: Matrix,
        mask_zero: bool,
    },
    Masking(f32),
    Rnn(Box<Rnn>),
    Dense {
        kernel: Matrix,
        bias: Option<Vec<f32>>,
        function: Activation,
    },
    Affine(Affine),
    Function(Activation),
    Dropout(f32),
    /// From here on the last step alone.
    LastStep,
}

/// A line of parts, each with the name that messages give it.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// Features a step of the input; 1 where token ids come in.
    pub(super) input: usize,
    pub(super) parts: Vec<(String, Part)>,
}

impl Network {
    pub(super) fn push(&mut self, name: impl Into<String>, part: Part) {
        self.parts.push((name.into(), part));
    }

    /// Features of the input, as the first part that has weights tells them; 1 where token ids come in.
    #[cfg(any(feature = "keras", feature = "torch"))]
    pub(super) fn first_input(&self) -> Option<usize> {
        self.parts.iter().find_map(|(_, part)| match part {
            Part::Embedding { .. } => Some(1),
            Part::Rnn(rnn) => Some(rnn.forward.inputs()),
            Part::Dense { kernel, .. } => Some(kernel.rows()),
            Part::Affine(affine) => Some(affine.scale.len()),
            Part::Masking(_) | Part::Function(_) | Part::Dropout(_) | Part::LastStep => None,
        })
    }

    /// The model. `bytes` are the file's: what is made beyond its weights is bounded by them.
    pub(super) fn build(mut self, bytes: usize) -> Result<Sequential> {
        self.hand_on_last_steps()?;
        self.join_with_dense()?;
        if self.parts.is_empty() {
            return Err(bad("there are no layers"));
        }
        let mut lowering = Lowering::new(self.input, bytes);
        for (name, part) in self.parts {
            lowering.add(&name, part).map_err(|error| in_part(&name, error))?;
        }
        lowering.flush("the end")?;
        Sequential::from_variables(self.input, lowering.layers, lowering.variables).map_err(as_bad)
    }

    /// What takes the last step goes down to the recurrent part whose sequence it is of: what stands between
    /// works on every step alike.
    fn hand_on_last_steps(&mut self) -> Result<()> {
        while let Some(at) = self.parts.iter().position(|(_, part)| matches!(part, Part::LastStep)) {
            let (name, _) = self.parts.remove(at);
            let below = self.parts[..at].iter_mut().rev().find_map(|(_, part)| match part {
                Part::Rnn(rnn) => Some(rnn),
                _ => None,
            });
            match below {
                // What is walked backwards alone hands on its outputs in the order in which it is walked.
                Some(rnn) if rnn.handed == Handed::Sequence => {
                    rnn.handed = if rnn.backward.is_none() { Handed::LastState } else { Handed::LastStep };
                }
                _ => {
                    return Err(unsupported(format_args!(
                        "{name}: takes the last step, and there is no sequence of a recurrent layer below"
                    )));
                }
            }
        }
        Ok(())
    }
}

impl Network {
    /// A dense part without a function takes in what stands right behind it: an affine map, and one function.
    fn join_with_dense(&mut self) -> Result<()> {
        let mut joined: Vec<(String, Part)> = with_room(self.parts.len())?;
        for (name, part) in self.parts.drain(..) {
            match (joined.last_mut(), part) {
                (
                    Some((_, Part::Dense { kernel, bias, function: Activation::Linear })),
                    Part::Affine(affine),
                ) if affine.scale.len() == kernel.columns && bias_fits(bias.as_deref(), kernel) => {
                    *bias = Some(affine.fold_behind(kernel, bias.take())?);
                }
                (
                    Some((_, Part::Dense { function: function @ Activation::Linear, .. })),
                    Part::Function(behind),
                ) => *function = behind,
                (_, part) => joined.push((name, part)),
            }
        }
        self.parts = joined;
        Ok(())
    }
}

fn bias_fits(bias: Option<&[f32]>, kernel: &Matrix) -> bool {
    bias.is_none_or(|bias| bias.len() == kernel.columns)
}

/// Says of a part what is wrong with it, unless the message begins with its name.
fn in_part(name: &str, error: Error) -> Error {
    let with_name = |message: String| match message.starts_with(name) {
        true => message,
        false => format!("{name}: {message}"),
    };
    match as_bad(error) {
        Error::BadFormat(message) => Error::BadFormat(with_name(message)),
        Error::Unsupported(message) => Error::Unsupported(with_name(message)),
        other => other,
    }
}

/// What is an invalid argument in a program is a bad format in a file.
fn as_bad(error: Error) -> Error {
    match error {
        Error::InvalidArgument(message) => Error::BadFormat(message),
        other => other,
    }
}
