//! The line of parts that the graph turns into, and what flows along it.

use super::super::super::network::{Activation, Affine, Handed, Matrix, Part};
use super::super::super::unsupported;
use super::super::constant::Constant;
use super::super::flow::{Axis, Dim, Flow, Piece, Source, Value, What};
use super::super::proto::Node;
use super::{Walk, label, refused, wrong};
use crate::error::Result;
use crate::layers::MergeMode;

impl<'a> Walk<'a> {
    /// Adds a part that leaves the axes as they are.
    pub(in super::super) fn add(&mut self, node: &Node<'_>, part: Part, axes: Vec<Axis>) -> Value {
        self.network.push(label(node), part);
        self.end(axes)
    }

    /// The axes of data that the next part reads: it must be the line's end, and becomes it where it is the
    /// input or all that the last recurrent node hands on.
    pub(in super::super) fn line(&mut self, node: &Node<'_>, flow: &Flow) -> Result<Vec<Axis>> {
        let mut axes = flow.axes.clone();
        match &flow.source {
            Source::Line(at) if *at == self.network.parts.len() => {}
            Source::Line(_) => {
                return Err(refused(node, "reads the middle of the network: the graph is no line"));
            }
            Source::Ids => return Err(refused(node, "computes with token ids")),
            Source::Input if self.network.parts.is_empty() => {
                let last = self.main.dims.as_ref().map_or(0, Vec::len).saturating_sub(1);
                match axes.last_mut() {
                    // A series of numbers is one of single features.
                    Some(axis @ Axis::One) => *axis = Axis::Features,
                    Some(axis) if *axis == Axis::Outer(last) => *axis = Axis::Features,
                    _ => {
                        return Err(refused(
                            node,
                            "the input's last axis, the features, is not the last one here",
                        ));
                    }
                }
            }
            Source::Input => return Err(refused(node, "reads the input again: the graph is no line")),
            Source::Pieces(pieces) => self.hand_on(node, pieces)?,
        }
        if axes.contains(&Axis::Stack) {
            if flow.pieces().len() > 1 {
                return Err(refused(node, "reads the directions of a recurrent node as an axis of its own"));
            }
            axes.iter_mut().filter(|axis| **axis == Axis::Stack).for_each(|axis| *axis = Axis::One);
        }
        Ok(axes)
    }

    /// Has the last recurrent node hand on these pieces, which must be all that it has of one kind.
    fn hand_on(&mut self, node: &Node<'_>, pieces: &[Piece]) -> Result<()> {
        let parts = self.network.parts.len();
        let not_all = || refused(node, "reads some of a recurrent node's outputs, or those of several");
        let met = pieces.first().and_then(|first| self.met.get_mut(first.rnn)).ok_or_else(not_all)?;
        if met.part + 1 != parts || met.merged {
            return Err(refused(
                node,
                "reads a recurrent node that others have gone on from: the graph is no line",
            ));
        }
        let of = |what: &[What]| {
            let same = |(mine, piece): (&Piece, &Piece)| {
                (mine.rnn, mine.reversed) == (piece.rnn, piece.reversed) && what.contains(&piece.what)
            };
            met.pieces.len() == pieces.len() && met.pieces.iter().zip(pieces).all(same)
        };
        let walked = of(&[What::Walked]);
        let handed = if walked || of(&[What::Sequence]) {
            Handed::Sequence
        } else if of(&[What::State]) {
            Handed::LastState
        } else if of(&[What::State, What::LastStep]) {
            Handed::LastStep
        } else {
            return Err(not_all());
        };
        if met.handed.is_some_and(|before| before != handed) {
            return Err(refused(
                node,
                "reads another output of a recurrent node than a node before: the graph is no line",
            ));
        }
        met.handed = Some(handed);
        let Some((name, Part::Rnn(rnn))) = self.network.parts.get_mut(met.part) else { return Ok(()) };
        rnn.handed = handed;
        // Layers that walk backwards give their outputs in the order in which they walk.
        match handed {
            Handed::Sequence if rnn.go_backwards && !walked => Err(unsupported(format_args!(
                "{name}: direction = reverse, and its sequence (Y) is used; Y_h can be had"
            ))),
            _ => Ok(()),
        }
    }

    /// Both directions of the last recurrent node, joined by `mode`; `axes` are those of the result.
    pub(in super::super) fn merge(
        &mut self,
        node: &Node<'_>,
        flow: &Flow,
        mode: MergeMode,
        axes: Vec<Axis>,
    ) -> Result<Value> {
        let both = flow.pieces();
        self.hand_on(node, both)?;
        let met = both.first().and_then(|first| self.met.get_mut(first.rnn));
        let Some(met) = met else { return Err(refused(node, "joins no directions")) };
        met.merged = true;
        if let Some((_, Part::Rnn(rnn))) = self.network.parts.get_mut(met.part) {
            self.features = rnn.units();
            if let Some((_, merge_mode)) = &mut rnn.backward {
                *merge_mode = mode;
            }
        }
        Ok(self.end(axes))
    }

    /// Data whose axis `at` is the steps, from the last one to the first: the outputs of a direction that was
    /// walked so, in the order in which it was.
    pub(in super::super) fn turned(&mut self, node: &Node<'_>, flow: &Flow, at: usize) -> Result<Flow> {
        let walked = match flow.pieces() {
            [piece] if piece.what == What::Sequence && piece.reversed && !self.lengths => {
                Some(Piece { what: What::Walked, ..*piece })
            }
            _ => None,
        };
        match walked.filter(|_| flow.axes.get(at).is_some_and(|&axis| self.is_steps(axis))) {
            Some(walked) => Ok(Flow { source: Source::Pieces(vec![walked]), axes: flow.axes.clone() }),
            None => Err(refused(
                node,
                "turns around what is no sequence of a recurrent node of direction = reverse",
            )),
        }
    }

    /// The size of an axis of some data.
    pub(in super::super) fn size_of(&self, flow: &Flow, axis: Axis) -> Dim {
        match axis {
            Axis::Outer(outer) => {
                let known = self.main.dims.as_ref().and_then(|dims| dims.get(outer).copied().flatten());
                known.map_or(Dim::Outer(outer), Dim::Known)
            }
            Axis::Both(..) => Dim::Other,
            Axis::Stack => Dim::Known(flow.pieces().len() as i64),
            Axis::One => Dim::Known(1),
            Axis::Features => match &flow.source {
                Source::Line(0) | Source::Input | Source::Ids => Dim::Other,
                Source::Line(_) => Dim::Known(self.features as i64),
                Source::Pieces(pieces) if flow.axes.contains(&Axis::Stack) => {
                    pieces.first().map_or(Dim::Other, |piece| Dim::Known(self.units(piece)))
                }
                Source::Pieces(pieces) => Dim::Known(pieces.iter().map(|piece| self.units(piece)).sum()),
            },
        }
    }

    /// The features of a piece.
    pub(in super::super) fn units(&self, piece: &Piece) -> i64 {
        let part = self.met.get(piece.rnn).and_then(|met| self.network.parts.get(met.part));
        match part {
            Some((_, Part::Rnn(rnn))) => rnn.units() as i64,
            _ => 0,
        }
    }

    /// The first part's features are the input's.
    pub(super) fn reads(&mut self, features: usize) {
        if self.network.input == 0 {
            self.network.input = features;
        }
    }

    /// A dense layer.
    pub(in super::super) fn dense(
        &mut self,
        node: &Node<'_>,
        flow: &Flow,
        kernel: Matrix,
        bias: Option<Vec<f32>>,
    ) -> Result<Value> {
        let axes = self.line(node, flow)?;
        if axes.last() != Some(&Axis::Features) {
            return Err(refused(node, "multiplies along another axis than the features"));
        }
        self.reads(kernel.rows());
        self.features = kernel.columns();
        Ok(self.add(node, Part::Dense { kernel, bias, function: Activation::Linear }, axes))
    }

    /// An embedding.
    pub(in super::super) fn embedding(
        &mut self,
        node: &Node<'_>,
        flow: &Flow,
        table: &Constant,
    ) -> Result<Value> {
        let [rows, columns] = table.dims[..] else {
            return Err(refused(
                node,
                format_args!("takes rows of a table of {} dimensions", table.dims.len()),
            ));
        };
        let values = table.floats().ok_or_else(|| wrong(node, "a table of whole numbers"))?;
        if !self.network.parts.is_empty() {
            return Err(refused(node, "an embedding above other layers"));
        }
        let table = Matrix::new(rows, columns, values.to_vec())?;
        self.network.input = 1;
        self.features = columns;
        let mut axes = flow.axes.clone();
        axes.push(Axis::Features);
        Ok(self.add(node, Part::Embedding { table, mask_zero: false }, axes))
    }

    /// `x · scale + shift` along the features.
    pub(in super::super) fn affine(&mut self, node: &Node<'_>, flow: &Flow, affine: Affine) -> Result<Value> {
        let axes = self.line(node, flow)?;
        self.reads(affine.scale.len());
        self.features = affine.scale.len();
        Ok(self.add(node, Part::Affine(affine), axes))
    }

    /// Features of the line's end, or of the input as far as the file says.
    pub(in super::super) fn width(&self) -> Option<usize> {
        let declared = || self.main.dims.as_ref()?.last().copied().flatten()?.try_into().ok();
        if self.features > 0 { Some(self.features) } else { declared() }
    }

    /// A function of each value, or of each row.
    pub(in super::super) fn function(
        &mut self,
        node: &Node<'_>,
        flow: &Flow,
        function: Activation,
    ) -> Result<Value> {
        let axes = self.line(node, flow)?;
        if let Some(width) = self.width() {
            self.reads(width);
            self.features = width;
        }
        Ok(self.add(node, Part::Function(function), axes))
    }

    /// The first or the last step of data whose axis `at` is the steps.
    pub(in super::super) fn step(
        &mut self,
        node: &Node<'_>,
        flow: &Flow,
        at: usize,
        last: bool,
    ) -> Result<Flow> {
        let mut axes = flow.axes.clone();
        axes[at] = Axis::One;
        if self.lengths {
            return Err(refused(node, "takes a step of rows that end before it; take Y_h instead"));
        }
        let source = match &flow.source {
            Source::Pieces(pieces) => {
                let step = |piece: &Piece| match (piece.what, piece.reversed, last) {
                    (What::Sequence, false, true) | (What::Sequence, true, false) => Some(What::State),
                    (What::Sequence, true, true) | (What::Walked, true, false) => Some(What::LastStep),
                    (What::Walked, true, true) => Some(What::State),
                    _ => None,
                };
                let taken = pieces.iter().map(|piece| Some(Piece { what: step(piece)?, ..*piece }));
                let taken: Option<Vec<_>> = taken.collect();
                Source::Pieces(taken.ok_or_else(|| refused(node, "takes the first step of a sequence"))?)
            }
            Source::Line(_) if last => {
                self.line(node, flow)?;
                self.network.push(label(node), Part::LastStep);
                Source::Line(self.network.parts.len())
            }
            _ => return Err(refused(node, "takes a step of what is no output of a recurrent node")),
        };
        Ok(Flow { source, axes })
    }

    /// Whether an axis is that of the steps.
    pub(in super::super) fn is_steps(&self, axis: Axis) -> bool {
        self.steps.is_some_and(|steps| axis == Axis::Outer(steps))
    }
}
