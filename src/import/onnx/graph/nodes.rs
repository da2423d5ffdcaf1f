//! Recurrent nodes: their weights, lengths and states.

use super::super::super::network::Part;
use super::super::flow::{Axis, Dim, Filling, Flow, Piece, Source, Value, What};
use super::super::proto::Node;
use super::super::recurrent;
use super::{Met, Walk, label, refused};
use crate::error::Result;

impl<'a> Walk<'a> {
    pub(super) fn recurrent(&mut self, node: &'a Node<'a>) -> Result<()> {
        let Value::Flow(flow) = self.get(node, 0)? else {
            return Err(refused(node, "X is not what the network computes"));
        };
        let (input, recurrent) = (self.constant(node, 1)?, self.constant(node, 2)?);
        let bias = match self.get(node, 3)? {
            Value::Absent => None,
            _ => Some(self.constant(node, 3)?),
        };
        let weights = recurrent::Weights { input: &input, recurrent: &recurrent, bias: bias.as_deref() };
        let rnn = recurrent::part(node, &weights)?;
        let axes = self.line(node, &flow)?;
        let batch_first = node.int("layout").unwrap_or(0) != 0;
        let [steps, batch] = self.outer_axes(node, &axes, batch_first)?;
        self.check_lengths(node)?;
        self.check_states(node)?;
        let reversed = [rnn.go_backwards, true];
        let pieces = |what| -> Vec<Piece> {
            let directions = if rnn.backward.is_some() { &[false, true][..] } else { &reversed[..1] };
            let piece = |&reversed: &bool| Piece { rnn: self.met.len(), reversed, what };
            directions.iter().map(piece).collect()
        };
        let [sequence, state, memory] = [What::Sequence, What::State, What::Memory].map(pieces);
        let [of_sequence, of_state] = match batch_first {
            false => {
                [vec![steps, Axis::Stack, batch, Axis::Features], vec![Axis::Stack, batch, Axis::Features]]
            }
            true => {
                [vec![batch, steps, Axis::Stack, Axis::Features], vec![batch, Axis::Stack, Axis::Features]]
            }
        };
        let flow =
            |pieces, axes: &[Axis]| Value::Flow(Flow { source: Source::Pieces(pieces), axes: axes.to_vec() });
        self.put(node, 0, flow(sequence.clone(), &of_sequence));
        self.put(node, 1, flow(state, &of_state));
        self.put(node, 2, flow(memory, &of_state));
        self.reads(rnn.forward.inputs());
        self.features = sequence.len().saturating_mul(rnn.units());
        self.met.push(Met { part: self.network.parts.len(), pieces: sequence, handed: None, merged: false });
        self.network.push(label(node), Part::Rnn(Box::new(rnn)));
        Ok(())
    }

    /// The axes of the steps and of the batch of a recurrent node's X.
    fn outer_axes(&mut self, node: &Node<'_>, axes: &[Axis], batch_first: bool) -> Result<[Axis; 2]> {
        let [first, second, Axis::Features] = *axes else {
            return Err(refused(node, "X has no axes for steps, batch and features"));
        };
        let [steps, batch] = if batch_first { [second, first] } else { [first, second] };
        match (steps, batch) {
            (Axis::Outer(steps), Axis::Outer(_) | Axis::One)
                if self.steps.is_none_or(|before| before == steps) =>
            {
                self.steps = Some(steps);
            }
            (Axis::One, Axis::Outer(batch)) if self.steps != Some(batch) => {}
            _ => return Err(refused(node, "X has other axes for steps and batch than the nodes before")),
        }
        Ok([steps, batch])
    }

    /// Lengths of rows come in from outside, or are all the steps.
    fn check_lengths(&mut self, node: &Node<'_>) -> Result<()> {
        let steps = self.steps.map(|steps| self.size_of_outer(steps));
        match self.get(node, 4)? {
            Value::Absent => {}
            Value::Given { .. } => self.lengths = true,
            Value::Filled(Filling::Dim(dim)) if Some(dim) == steps => {}
            Value::Constant(lengths)
                if lengths.uniform().map(|length| Dim::Known(length as i64)) == steps && steps.is_some() => {}
            _ => return Err(refused(node, "sequence_lens is neither an input nor the number of steps")),
        }
        match self.get(node, 7)? {
            Value::Absent | Value::Filled(Filling::Number(0.0)) => Ok(()),
            Value::Constant(weights) if weights.uniform() == Some(0.0) => Ok(()),
            _ => Err(refused(node, "peepholes (input P)")),
        }
    }

    fn size_of_outer(&self, outer: usize) -> Dim {
        self.size_of(&Flow { source: Source::Input, axes: Vec::new() }, Axis::Outer(outer))
    }

    /// Initial states are zeros, or come in from outside in the order of the nodes.
    fn check_states(&mut self, node: &Node<'_>) -> Result<()> {
        for (at, name) in [(5, "initial_h"), (6, "initial_c")] {
            match self.get(node, at)? {
                Value::Absent | Value::Filled(Filling::Number(0.0)) => {}
                Value::Constant(state) if state.uniform() == Some(0.0) => {}
                Value::Given { input, first } => {
                    if self.states.get(&input).is_some_and(|&before| before >= first) {
                        return Err(refused(
                            node,
                            format_args!("{name} is not taken in the order of the nodes"),
                        ));
                    }
                    self.states.insert(input, first);
                }
                _ => return Err(refused(node, format_args!("{name} is neither zero nor an input"))),
            }
        }
        Ok(())
    }
}
