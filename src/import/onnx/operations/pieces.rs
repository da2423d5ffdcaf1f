//! Operators that cut values into pieces and put pieces side by side.

use super::super::constant::Constant;
use super::super::flow::{Axis, Filling, Flow, Piece, Source, Value};
use super::super::graph::{Walk, refused};
use super::super::proto::Node;
use super::{constant, index, number, sizes};
use crate::error::Result;
use crate::layers::MergeMode;

impl<'a> Walk<'a> {
    pub(super) fn gather(&mut self, node: &Node<'_>) -> Result<Value> {
        let axis = node.int("axis").unwrap_or(0);
        let (data, indices) = (self.get(node, 0)?, self.get(node, 1)?);
        if let (Value::Constant(table), Value::Flow(flow)) = (&data, &indices) {
            return match flow.source {
                Source::Ids | Source::Input if axis == 0 => self.embedding(node, flow, table),
                _ => Err(refused(node, "looks up what the network computes")),
            };
        }
        if matches!(data, Value::Opaque) || sizes(&indices).is_none() {
            return self.other(node);
        }
        let Value::Constant(indices) = indices else { return self.other(node) };
        let scalar = indices.dims.is_empty();
        let places = indices.ints().unwrap_or_default();
        let outside = || refused(node, format_args!("index {places:?}"));
        match data {
            Value::Constant(data) => {
                let axis = index(axis, data.dims.len()).ok_or_else(outside)?;
                let places = places.iter().map(|&at| index(at, data.dims[axis])).collect::<Option<Vec<_>>>();
                if indices.dims.len() > 1 {
                    return Err(outside());
                }
                let mut taken = data.selected(axis, &places.ok_or_else(outside)?, &self.budget)?;
                if scalar {
                    taken.dims.remove(axis);
                }
                Ok(constant(taken))
            }
            Value::Sizes(sizes) => {
                let taken = places.iter().map(|&at| Some(sizes[index(at, sizes.len())?]));
                Ok(Value::Sizes(taken.collect::<Option<_>>().ok_or_else(outside)?))
            }
            Value::Flow(flow) => {
                let at = index(axis, flow.axes.len()).ok_or_else(outside)?;
                let [place] = places else { return Err(outside()) };
                let end = if *place == -1 { i64::MAX } else { place.saturating_add(1) };
                let mut flow = self.slice_of(node, &flow, at, [*place, end])?;
                if scalar {
                    flow.axes.remove(at);
                }
                Ok(Value::Flow(flow))
            }
            Value::Given { input, first } => {
                let [place] = places else { return Err(outside()) };
                Ok(Value::Given { input, first: first.saturating_add(*place) })
            }
            other => Ok(other),
        }
    }

    /// Start, end and axis of each slice.
    fn slices(&self, node: &Node<'_>, rank: usize) -> Result<Option<Vec<(usize, i64, i64)>>> {
        let given = |input, name| -> Result<Option<Vec<i64>>> {
            if self.opset < 10 {
                return Ok(node.ints(name).map(<[i64]>::to_vec));
            }
            match self.get(node, input)? {
                Value::Absent => Ok(None),
                Value::Constant(list) => Ok(list.ints().map(<[i64]>::to_vec)),
                _ => Ok(None),
            }
        };
        let (Some(starts), Some(ends)) = (given(1, "starts")?, given(2, "ends")?) else { return Ok(None) };
        let axes = given(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = if self.opset < 10 { None } else { given(4, "steps")? };
        if steps.is_some_and(|steps| steps.iter().any(|&step| step != 1)) {
            return Err(refused(node, "steps other than 1"));
        }
        if starts.len() != ends.len() || starts.len() != axes.len() {
            return Err(refused(node, "starts, ends and axes of several lengths"));
        }
        let slices = axes.iter().zip(starts.iter().zip(&ends));
        let slices = slices.map(|(&axis, (&start, &end))| Some((index(axis, rank)?, start, end)));
        match slices.collect::<Option<_>>() {
            Some(slices) => Ok(Some(slices)),
            None => Err(refused(node, format_args!("axes {axes:?} of {rank}"))),
        }
    }

    /// The axis that a slice turns around as a whole, if that is what it does.
    fn turned_axis(&self, node: &Node<'_>, rank: usize) -> Result<Option<usize>> {
        let mut given = [0; 4];
        for (to, input) in given.iter_mut().zip(1..5) {
            *to = match self.get(node, input)? {
                Value::Constant(one) if self.opset >= 10 => match one.ints() {
                    Some(&[one]) => one,
                    _ => return Ok(None),
                },
                _ => return Ok(None),
            };
        }
        let [start, end, axis, step] = given;
        let whole = (start == -1 || start >= i32::MAX.into()) && end <= i32::MIN.into();
        Ok(if whole && step == -1 { index(axis, rank) } else { None })
    }

    pub(super) fn slice(&mut self, node: &Node<'_>) -> Result<Value> {
        let data = self.get(node, 0)?;
        let rank = match &data {
            Value::Constant(data) => data.dims.len(),
            Value::Flow(flow) => flow.axes.len(),
            Value::Sizes(_) => 1,
            Value::Given { .. } => 3,
            Value::Absent | Value::Filled(_) | Value::Opaque => return Ok(data),
        };
        if let (Value::Flow(flow), Some(axis)) = (&data, self.turned_axis(node, rank)?) {
            return Ok(Value::Flow(self.turned(node, flow, axis)?));
        }
        let slices =
            self.slices(node, rank)?.ok_or_else(|| refused(node, "the range is not known beforehand"))?;
        let bounds = |start: i64, end: i64, len: usize| {
            let len = len as i64;
            let clip = |at: i64| if at < 0 { (at + len).max(0) } else { at.min(len) } as usize;
            let (start, end) = (clip(start.max(-len)), clip(end.max(-len)));
            start..end.max(start)
        };
        match data {
            Value::Constant(data) => {
                let mut taken = (*data).clone();
                for (axis, start, end) in slices {
                    let places: Vec<_> = bounds(start, end, taken.dims[axis]).collect();
                    taken = taken.selected(axis, &places, &self.budget)?;
                }
                Ok(constant(taken))
            }
            Value::Sizes(sizes) => {
                let (_, start, end) = slices.first().copied().unwrap_or((0, 0, i64::MAX));
                Ok(Value::Sizes(sizes[bounds(start, end, sizes.len())].to_vec()))
            }
            Value::Flow(mut flow) => {
                for (axis, start, end) in slices {
                    flow = self.slice_of(node, &flow, axis, [start, end])?;
                }
                Ok(Value::Flow(flow))
            }
            Value::Given { input, first } => {
                let start = slices.iter().find(|(axis, ..)| *axis == 0).map_or(0, |(_, start, _)| *start);
                Ok(Value::Given { input, first: first.saturating_add(start) })
            }
            other => Ok(other),
        }
    }

    /// A range of an axis of what the network computes: some directions, or one step.
    fn slice_of(&mut self, node: &Node<'_>, flow: &Flow, at: usize, [start, end]: [i64; 2]) -> Result<Flow> {
        let axis = flow.axes[at];
        // As large as exporters write it where they mean the end.
        let to_end = end >= i64::from(i32::MAX);
        if start == 0 && to_end {
            return Ok(flow.clone());
        }
        match axis {
            Axis::Stack => {
                let pieces = flow.pieces();
                let first = index(start, pieces.len());
                let last = if to_end {
                    Some(pieces.len())
                } else {
                    index(end.saturating_sub(1), pieces.len()).map(|at| at + 1)
                };
                let taken = first.zip(last).and_then(|(first, last)| pieces.get(first..last));
                let taken = taken.filter(|taken| !taken.is_empty());
                let taken = taken
                    .ok_or_else(|| refused(node, format_args!("takes {start}..{end} of {}", pieces.len())))?;
                Ok(Flow { source: Source::Pieces(taken.to_vec()), axes: flow.axes.clone() })
            }
            Axis::One if [start, end] == [0, 1] || start == -1 && to_end => Ok(flow.clone()),
            axis if self.is_steps(axis) && start == -1 && to_end => self.step(node, flow, at, true),
            axis if self.is_steps(axis) && [start, end] == [0, 1] => self.step(node, flow, at, false),
            Axis::Outer(_) | Axis::Both(..) => Err(refused(
                node,
                format_args!(
                    "takes {start}..{end} of the steps or of the batch; the last step can be taken (PyTorch's default exporter \
                     writes nn.RNN step by step for one length: export with dynamo=False)"
                ),
            )),
            Axis::Features | Axis::One => {
                let taken = self.side_by_side(flow, [start, end]).filter(|_| axis == Axis::Features);
                let taken = taken
                    .ok_or_else(|| refused(node, format_args!("takes {start}..{end} of the features")))?;
                Ok(Flow { source: Source::Pieces(taken), axes: flow.axes.clone() })
            }
        }
    }

    /// Several parts of one axis.
    pub(in super::super) fn split(&mut self, node: &'a Node<'a>) -> Result<()> {
        let axis = node.int("axis").unwrap_or(0);
        let sizes = match node.ints("split") {
            Some(sizes) => Some(sizes.to_vec()),
            None => match self.get(node, 1)? {
                Value::Constant(sizes) => sizes.ints().map(<[i64]>::to_vec),
                _ => None,
            },
        };
        let data = self.get(node, 0)?;
        let len = match &data {
            Value::Constant(data) => index(axis, data.dims.len()).map(|axis| data.dims[axis]),
            Value::Flow(flow) => index(axis, flow.axes.len())
                .filter(|&axis| flow.axes[axis] == Axis::Stack)
                .map(|_| flow.pieces().len()),
            _ => None,
        };
        let parts = node.outputs.len().max(1);
        let sizes = sizes.or_else(|| {
            let each = len.filter(|len| len.is_multiple_of(parts))? / parts;
            Some(vec![each as i64; parts])
        });
        let sizes = sizes.filter(|sizes| sizes.len() == parts && sizes.iter().all(|&size| size > 0));
        let sizes = sizes.ok_or_else(|| refused(node, "parts of sizes that are not known beforehand"))?;
        let mut start: i64 = 0;
        for (at, size) in sizes.into_iter().enumerate() {
            let end = start.saturating_add(size);
            let part = match &data {
                Value::Constant(data) => {
                    let axis = index(axis, data.dims.len()).ok_or_else(|| refused(node, "axis"))?;
                    if usize::try_from(end).is_ok_and(|end| end > data.dims[axis]) {
                        return Err(refused(
                            node,
                            format_args!("takes {start}..{end} of {}", data.dims[axis]),
                        ));
                    }
                    let places: Vec<_> = (start as usize..end as usize).collect();
                    constant(data.selected(axis, &places, &self.budget)?)
                }
                Value::Flow(flow) => {
                    let axis = index(axis, flow.axes.len()).ok_or_else(|| refused(node, "axis"))?;
                    Value::Flow(self.slice_of(node, flow, axis, [start, end])?)
                }
                Value::Given { input, first } => {
                    Value::Given { input: *input, first: first.saturating_add(start) }
                }
                other => other.clone(),
            };
            self.put(node, at, part);
            start = end;
        }
        Ok(())
    }

    pub(super) fn concat(&mut self, node: &Node<'_>) -> Result<Value> {
        let axis = node.int("axis").unwrap_or(0);
        let parts = (0..node.inputs.len()).map(|at| self.get(node, at)).collect::<Result<Vec<_>>>()?;
        let constants: Option<Vec<&Constant>> = parts
            .iter()
            .map(|part| match part {
                Value::Constant(constant) => Some(&**constant),
                _ => None,
            })
            .collect();
        if let Some(constants) = constants {
            let rank = constants.first().map_or(0, |first| first.dims.len());
            let at = index(axis, rank).ok_or_else(|| refused(node, format_args!("axis {axis}")))?;
            let joined = Constant::joined(&constants, at, &self.budget)?;
            return joined.map(constant).ok_or_else(|| refused(node, "constants of several shapes"));
        }
        if parts.iter().any(|part| matches!(part, Value::Flow(_))) {
            return self.concat_flows(node, axis, &parts);
        }
        if let Some(all) = parts.iter().map(sizes).collect::<Option<Vec<_>>>() {
            return Ok(Value::Sizes(all.concat()));
        }
        match parts.split_first() {
            Some((first @ Value::Filled(Filling::Number(number)), rest))
                if rest.iter().all(|part| self::number(part) == Some(*number)) =>
            {
                Ok(first.clone())
            }
            _ => self.other(node),
        }
    }

    /// Directions one behind the other, or side by side.
    fn concat_flows(&mut self, node: &Node<'_>, axis: i64, parts: &[Value]) -> Result<Value> {
        let joined = || refused(node, "joins what are no outputs of recurrent nodes, or along another axis");
        let flows = parts.iter().map(|part| match part {
            Value::Flow(flow) if !flow.pieces().is_empty() => Some(flow),
            _ => None,
        });
        let flows = flows.collect::<Option<Vec<_>>>().ok_or_else(joined)?;
        let first = flows.first().ok_or_else(joined)?;
        let at = index(axis, first.axes.len()).ok_or_else(joined)?;
        let fits = match first.axes[at] {
            Axis::Stack => true,
            // Directions side by side; an axis of theirs would be neither here nor there.
            Axis::Features => {
                flows.iter().all(|flow| !flow.axes.contains(&Axis::Stack) || flow.pieces().len() == 1)
            }
            _ => false,
        };
        if !fits || flows.iter().any(|flow| flow.axes != first.axes) {
            return Err(joined());
        }
        let mut axes = first.axes.clone();
        if axes[at] == Axis::Features {
            axes.iter_mut().filter(|axis| **axis == Axis::Stack).for_each(|axis| *axis = Axis::One);
        }
        let pieces = flows.iter().flat_map(|flow| flow.pieces().iter().copied()).collect();
        Ok(Value::Flow(Flow { source: Source::Pieces(pieces), axes }))
    }

    /// Both directions of a recurrent node, added or multiplied.
    pub(super) fn join_halves(&mut self, node: &Node<'_>, first: &Flow, second: &Flow) -> Result<Value> {
        let mode = match node.operator {
            "Add" => Some(MergeMode::Sum),
            "Mul" => Some(MergeMode::Mul),
            _ => None,
        };
        let halves = match (first.pieces(), second.pieces()) {
            ([a], [b]) if a.rnn == b.rnn && !a.reversed && b.reversed => Some(vec![*a, *b]),
            ([a], [b]) if a.rnn == b.rnn && a.reversed && !b.reversed => Some(vec![*b, *a]),
            _ => None,
        };
        // An axis of one direction is one of size 1.
        let axes = |flow: &Flow| -> Vec<Axis> {
            flow.axes.iter().map(|&axis| if axis == Axis::Stack { Axis::One } else { axis }).collect()
        };
        match mode.zip(halves).filter(|_| axes(first) == axes(second)) {
            Some((mode, halves)) => {
                let both = Flow { source: Source::Pieces(halves), axes: axes(first) };
                self.merge(node, &both, mode, axes(first))
            }
            None => Err(refused(node, "joins two values of the network: the graph is no line")),
        }
    }

    /// The directions whose features, side by side, are this range of all.
    fn side_by_side(&self, flow: &Flow, [start, end]: [i64; 2]) -> Option<Vec<Piece>> {
        let ends: Vec<i64> = flow
            .pieces()
            .iter()
            .scan(0i64, |sum, piece| {
                *sum = sum.saturating_add(self.units(piece));
                Some(*sum)
            })
            .collect();
        let all = *ends.last().filter(|_| !flow.axes.contains(&Axis::Stack))?;
        let from_front = |at: i64| if at < 0 { at.saturating_add(all) } else { at.min(all) };
        let [start, end] = [start, end].map(from_front);
        let first = if start == 0 { 0 } else { ends.iter().position(|&end| end == start)? + 1 };
        let last = ends.iter().position(|&found| found == end)?;
        flow.pieces().get(first..=last).filter(|taken| !taken.is_empty()).map(<[Piece]>::to_vec)
    }
}
