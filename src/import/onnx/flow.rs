//! What is known of a value on its way through the graph, and how its axes move.

use std::rc::Rc;

use super::constant::Constant;

/// A size: known, that of an axis of the graph's input, or not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dim {
    Known(i64),
    Outer(usize),
    Other,
}

/// What stands at every place of a value whose size does not matter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Filling {
    Number(f64),
    Dim(Dim),
}

/// What is known of a value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// An input that is not given.
    Absent,
    Constant(Rc<Constant>),
    /// Sizes of something; one of them may stand for a number.
    Sizes(Vec<Dim>),
    Filled(Filling),
    /// What the network computes.
    Flow(Flow),
    /// A graph input beside the main one, or a part of it that begins there: a state, or lengths.
    Given {
        input: usize,
        first: i64,
    },
    /// Made of sizes or of token ids, and not followed further.
    Opaque,
}

/// Data on the line of layers: where it is taken from, and what its axes are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Flow {
    pub(super) source: Source,
    pub(super) axes: Vec<Axis>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    /// The graph's input, floats as far as anybody has seen.
    Input,
    /// The graph's input as whole numbers.
    Ids,
    /// Behind so many parts.
    Line(usize),
    /// Outputs or states of recurrent nodes, side by side on the axis of the stack or of the features.
    Pieces(Vec<Piece>),
}

/// One direction of what a recurrent node gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Counted from 0 over all recurrent nodes.
    pub(super) rnn: usize,
    /// Walked from the last step.
    pub(super) reversed: bool,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Sequence,
    /// The sequence of a direction that was walked from the last step, in the order in which it was walked.
    Walked,
    /// The output of the last step, which is not the last state of a direction that was walked from there.
    LastStep,
    State,
    /// An LSTM's second state.
    Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    /// This axis of the graph's input: steps or batch.
    Outer(usize),
    /// Two of them as one.
    Both(usize, usize),
    /// The directions of recurrent nodes.
    Stack,
    Features,
    /// Of size 1.
    One,
}

impl Flow {
    pub(super) fn pieces(&self) -> &[Piece] {
        match &self.source {
            Source::Pieces(pieces) => pieces,
            _ => &[],
        }
    }

    /// The same data with other axes.
    pub(super) fn with_axes(&self, axes: Vec<Axis>) -> Self {
        Self { source: self.source.clone(), axes }
    }

    /// Whether nothing but data of one place lies along this axis.
    pub(super) fn is_one(&self, axis: Axis) -> bool {
        axis == Axis::One || axis == Axis::Stack && self.pieces().len() == 1
    }

    /// The same data with an axis for directions that stand side by side.
    pub(super) fn parted(&self) -> Self {
        let part = |&axis: &Axis| match axis {
            Axis::Features if self.pieces().len() > 1 && !self.axes.contains(&Axis::Stack) => {
                vec![Axis::Stack, Axis::Features]
            }
            other => vec![other],
        };
        self.with_axes(self.axes.iter().flat_map(part).collect())
    }

    /// The axes under which `sizes` asks for the data: axes of size 1 come and go, directions join the
    /// features that follow them, the two outer axes become one and two again.
    pub(super) fn reshaped(&self, sizes: &[Dim], size_of: impl Fn(Axis) -> Dim) -> Option<Vec<Axis>> {
        let axes: Vec<Axis> = self.axes.iter().copied().filter(|&axis| !self.is_one(axis)).collect();
        let joined = join(&axes, |pair| match pair {
            [Axis::Stack, Axis::Features] => Some(Axis::Features),
            _ => None,
        });
        let merged = |axes: &[Axis]| {
            join(axes, |pair| match pair {
                [Axis::Outer(first), Axis::Outer(second)] => Some(Axis::Both(*first, *second)),
                _ => None,
            })
        };
        let parted = |axes: &[Axis]| {
            let part = |axis: &Axis| match *axis {
                Axis::Both(first, second) => vec![Axis::Outer(first), Axis::Outer(second)],
                other => vec![other],
            };
            axes.iter().flat_map(part).collect::<Vec<_>>()
        };
        let ways = [axes.clone(), joined.clone(), merged(&axes), merged(&joined), parted(&axes)];
        ways.iter().find_map(|way| fit(way, sizes, &size_of))
    }
}

/// Pairs of neighbours replaced by one axis, where `pair` has one for them.
fn join(axes: &[Axis], pair: impl Fn(&[Axis]) -> Option<Axis>) -> Vec<Axis> {
    let mut joined: Vec<Axis> = Vec::new();
    for &axis in axes {
        match joined.last().and_then(|&last| pair(&[last, axis])) {
            Some(one) => {
                joined.pop();
                joined.push(one);
            }
            None => joined.push(axis),
        }
    }
    joined
}

/// `axes` with those of size 1 that `sizes` has more, if all the others agree.
fn fit(axes: &[Axis], sizes: &[Dim], size_of: impl Fn(Axis) -> Dim) -> Option<Vec<Axis>> {
    let mut left = axes.iter().copied().peekable();
    let mut fitted = Vec::new();
    for &size in sizes {
        let agrees = |axis: &Axis| match (size, size_of(*axis)) {
            (Dim::Other, _) | (_, Dim::Other) => true,
            (wanted, found) => wanted == found,
        };
        match left.next_if(agrees) {
            Some(axis) => fitted.push(axis),
            None if size == Dim::Known(1) => fitted.push(Axis::One),
            None => return None,
        }
    }
    left.next().is_none().then_some(fitted)
}
