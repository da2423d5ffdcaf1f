//! The operators around recurrent nodes, on constants, on sizes and on what the network computes.

use std::rc::Rc;

use super::super::bytes::shown;
use super::super::network::{Activation, Affine, Matrix};
use super::constant::Constant;
use super::flow::{Axis, Dim, Filling, Flow, Piece, Source, Value};
use super::graph::{Walk, refused};
use super::proto::Node;
use super::recurrent;
use crate::error::Result;
use crate::layers::MergeMode;

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Filled(Filling::Number(number)) => Some(*number),
        Value::Constant(constant) => constant.uniform(),
        _ => None,
    }
}

/// Sizes, where a value is a list of them.
fn sizes(value: &Value) -> Option<Vec<Dim>> {
    match value {
        Value::Sizes(sizes) => Some(sizes.clone()),
        Value::Constant(constant) => Some(constant.ints()?.iter().map(|&size| Dim::Known(size)).collect()),
        _ => None,
    }
}

/// An index from the beginning, where one may be from the end.
fn index(at: i64, len: usize) -> Option<usize> {
    let len = i64::try_from(len).ok()?;
    let at = if at < 0 { at.checked_add(len)? } else { at };
    (0..len).contains(&at).then_some(at as usize)
}

fn constant(constant: Constant) -> Value {
    Value::Constant(Rc::new(constant))
}

impl<'a> Walk<'a> {
    /// What a node with one output gives.
    pub(super) fn operation(&mut self, node: &'a Node<'a>) -> Result<Value> {
        match node.operator {
            "Constant" => self.constant_of(node),
            "Identity" | "Dropout" => self.get(node, 0),
            "Cast" => self.cast(node),
            "Shape" => self.shape(node),
            "ConstantOfShape" => self.constant_of_shape(node),
            "Expand" | "Tile" => self.expand(node),
            "Gather" => self.gather(node),
            "Slice" => self.slice(node),
            "Concat" => self.concat(node),
            "Squeeze" | "Unsqueeze" => self.squeeze(node),
            "Reshape" => self.reshape(node),
            "Transpose" => self.transpose(node),
            "MatMul" => self.matmul(node),
            "Gemm" => self.gemm(node),
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(node),
            "ReduceSum" | "ReduceMean" | "ReduceProd" => self.reduce(node),
            "BatchNormalization" => self.batch_normalization(node),
            "Where" => self.choose(node),
            "Less" | "Not" => self.compare(node),
            "Relu" | "Tanh" | "Sigmoid" | "Softmax" | "Softplus" | "HardSigmoid" | "Elu" | "LeakyRelu" => {
                self.activation(node)
            }
            // What they read stands inside them, so their inputs do not tell.
            "Loop" | "Scan" => Err(refused(
                node,
                "loops are not carried out (TensorFlow's exporter writes SimpleRNN, GRU and what is masked so: load Keras's \
                 own file)",
            )),
            _ => self.other(node),
        }
    }

    /// What is only made of sizes is let through: it may be the shape of zeros.
    fn other(&self, node: &Node<'_>) -> Result<Value> {
        for at in 0..node.inputs.len() {
            match self.get(node, at)? {
                Value::Absent | Value::Constant(_) | Value::Sizes(_) | Value::Filled(_) | Value::Opaque => {}
                Value::Flow(_) | Value::Given { .. } => {
                    return Err(refused(node, "the operator is not carried out"));
                }
            }
        }
        Ok(Value::Opaque)
    }

    fn constant_of(&self, node: &Node<'_>) -> Result<Value> {
        let attribute = node.attributes.first().ok_or_else(|| refused(node, "has no value"))?;
        let scalar = |list: Constant| Constant { dims: Vec::new(), ..list };
        Ok(constant(match (attribute.name, &attribute.tensor) {
            ("value", Some(tensor)) => Constant::read(tensor)?,
            ("value_int", _) => scalar(Constant::list(vec![attribute.int])),
            ("value_ints", _) => Constant::list(attribute.ints.clone()),
            ("value_float", _) => scalar(Constant::floats_of(vec![attribute.float])),
            ("value_floats", _) => Constant::floats_of(attribute.floats.clone()),
            (name, _) => return Err(refused(node, format_args!("attribute {:?}", shown(name.as_bytes())))),
        }))
    }

    fn cast(&self, node: &Node<'_>) -> Result<Value> {
        const FLOATS: [i64; 4] = [1, 10, 11, 16];
        let to_float = node.int("to").is_some_and(|to| FLOATS.contains(&to));
        Ok(match self.get(node, 0)? {
            Value::Constant(value) => constant(value.cast(to_float, &self.budget)?),
            Value::Flow(Flow { source: Source::Input, axes }) if !to_float => {
                Value::Flow(Flow { source: Source::Ids, axes })
            }
            Value::Flow(flow) if !to_float && flow.source != Source::Ids => {
                return Err(refused(node, "makes whole numbers of what the network computes"));
            }
            other => other,
        })
    }

    fn shape(&self, node: &Node<'_>) -> Result<Value> {
        let all = match self.get(node, 0)? {
            Value::Constant(value) => value.dims.iter().map(|&dim| Dim::Known(dim as i64)).collect(),
            Value::Flow(flow) => flow.axes.iter().map(|&axis| self.size_of(&flow, axis)).collect::<Vec<_>>(),
            // What stands beside the main input has sizes that nobody here knows, of at most three axes.
            Value::Given { .. } => vec![Dim::Other; 3],
            _ => return Ok(Value::Opaque),
        };
        let bound = |name, default: usize| match node.int(name) {
            None => default,
            Some(at) if at < 0 => all.len().saturating_sub(at.unsigned_abs() as usize),
            Some(at) => all.len().min(at as usize),
        };
        let (start, end) = (bound("start", 0), bound("end", all.len()));
        Ok(Value::Sizes(all.get(start..end).unwrap_or_default().to_vec()))
    }

    fn constant_of_shape(&self, node: &Node<'_>) -> Result<Value> {
        let value = match node.attribute("value").and_then(|attribute| attribute.tensor.as_ref()) {
            Some(tensor) => Constant::read(tensor)?.uniform(),
            None => Some(0.0),
        };
        let value = value.ok_or_else(|| refused(node, "a value of several numbers"))?;
        Ok(Value::Filled(Filling::Number(value)))
    }

    fn expand(&self, node: &Node<'_>) -> Result<Value> {
        let value = self.get(node, 0)?;
        match (number(&value), &value) {
            (Some(number), _) => Ok(Value::Filled(Filling::Number(number))),
            (_, Value::Filled(filling)) => Ok(Value::Filled(*filling)),
            (_, Value::Sizes(sizes)) if sizes.len() == 1 => Ok(Value::Filled(Filling::Dim(sizes[0]))),
            (_, Value::Sizes(_) | Value::Opaque) => Ok(Value::Opaque),
            _ => Err(refused(node, "repeats other values than one")),
        }
    }

    fn gather(&mut self, node: &Node<'_>) -> Result<Value> {
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

    fn slice(&mut self, node: &Node<'_>) -> Result<Value> {
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
    pub(super) fn split(&mut self, node: &'a Node<'a>) -> Result<()> {
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

    fn concat(&mut self, node: &Node<'_>) -> Result<Value> {
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

    /// Both directions of a recurrent node, joined element by element.
    fn reduce(&mut self, node: &Node<'_>) -> Result<Value> {
        let Value::Flow(flow) = self.get(node, 0)? else { return self.other(node) };
        let mode = match node.operator {
            "ReduceSum" => MergeMode::Sum,
            "ReduceMean" => MergeMode::Ave,
            _ => MergeMode::Mul,
        };
        let given = self.get(node, 1)?;
        let axes = match (node.ints("axes"), &given) {
            (Some(axes), _) => axes,
            (None, Value::Constant(axes)) => axes.ints().unwrap_or_default(),
            _ => &[],
        };
        let axis = match axes {
            [axis] => index(*axis, flow.axes.len()).filter(|&at| flow.axes[at] == Axis::Stack),
            _ => None,
        };
        let axis = axis.filter(|_| flow.pieces().len() == 2).ok_or_else(|| {
            refused(
                node,
                format_args!(
                    "reduces the axes {axes:?}; both directions of a recurrent node can be joined so"
                ),
            )
        })?;
        let mut axes = flow.axes.clone();
        match node.int("keepdims").unwrap_or(1) {
            0 => _ = axes.remove(axis),
            _ => axes[axis] = Axis::One,
        }
        self.merge(node, &flow, mode, axes)
    }

    /// Axes of size 1 that come or go.
    fn squeeze(&mut self, node: &Node<'_>) -> Result<Value> {
        let insert = node.operator == "Unsqueeze";
        let axes = match (node.ints("axes"), self.get(node, 1)?) {
            (Some(axes), _) => Some(axes.to_vec()),
            (None, Value::Constant(axes)) => axes.ints().map(<[i64]>::to_vec),
            (None, Value::Absent) => None,
            _ => return Err(refused(node, "axes that are not known beforehand")),
        };
        match self.get(node, 0)? {
            Value::Constant(data) => {
                let dims = resized(&data.dims, axes.as_deref(), insert, 1, |_, dim| dim == 1);
                let dims = dims.ok_or_else(|| refused(node, format_args!("axes {axes:?}")))?;
                Ok(constant(data.reshaped(dims, &self.budget)?))
            }
            Value::Flow(flow) => {
                let one = |_, axis| flow.is_one(axis) || self.size_of(&flow, axis) == Dim::Known(1);
                let moved = resized(&flow.axes, axes.as_deref(), insert, Axis::One, one);
                let moved = moved.ok_or_else(|| refused(node, format_args!("axes {axes:?}")))?;
                Ok(Value::Flow(flow.with_axes(moved)))
            }
            other => Ok(other),
        }
    }

    fn reshape(&mut self, node: &Node<'_>) -> Result<Value> {
        let shape = self.get(node, 1)?;
        match self.get(node, 0)? {
            Value::Constant(data) => {
                let Some(wanted) = sizes(&shape) else {
                    return Err(refused(node, "a constant's shape is not known beforehand"));
                };
                let dims = constant_shape(&data, &wanted);
                let dims =
                    dims.ok_or_else(|| refused(node, format_args!("shape {wanted:?} of {:?}", data.dims)))?;
                Ok(constant(data.reshaped(dims, &self.budget)?))
            }
            Value::Flow(flow) => {
                let wanted =
                    sizes(&shape).ok_or_else(|| refused(node, "the shape is not known beforehand"))?;
                let keeps = node.int("allowzero").unwrap_or(0) == 0;
                let size = |(at, &size): (usize, &Dim)| match size {
                    Dim::Known(0) if keeps => {
                        flow.axes.get(at).map_or(Dim::Other, |&axis| self.size_of(&flow, axis))
                    }
                    Dim::Known(-1) => Dim::Other,
                    other => other,
                };
                let wanted: Vec<_> = wanted.iter().enumerate().map(size).collect();
                let axes = flow.reshaped(&wanted, |axis| self.size_after(&flow, axis));
                // Directions that stood side by side get an axis of their own.
                let parted = flow.parted();
                let axes = axes.or_else(|| parted.reshaped(&wanted, |axis| self.size_of(&parted, axis)));
                let axes = axes.ok_or_else(|| refused(node, format_args!("the shape {wanted:?}")))?;
                Ok(Value::Flow(flow.with_axes(axes)))
            }
            other => Ok(other),
        }
    }

    /// The size of an axis where directions may have joined the features.
    fn size_after(&self, flow: &Flow, axis: Axis) -> Dim {
        match (axis, flow.axes.contains(&Axis::Stack), self.size_of(flow, axis)) {
            (Axis::Features, true, Dim::Known(_)) if flow.pieces().len() > 1 => Dim::Other,
            (_, _, size) => size,
        }
    }

    fn transpose(&mut self, node: &Node<'_>) -> Result<Value> {
        let order = |rank: usize| {
            let reversed: Vec<i64> = (0..rank as i64).rev().collect();
            let order = node.ints("perm").unwrap_or(&reversed);
            let order = order.iter().map(|&axis| index(axis, rank)).collect::<Option<Vec<_>>>();
            let is_permutation =
                |order: &Vec<usize>| order.len() == rank && (0..rank).all(|axis| order.contains(&axis));
            order.filter(is_permutation).ok_or_else(|| refused(node, "perm is no order of the axes"))
        };
        match self.get(node, 0)? {
            Value::Constant(data) => Ok(constant(data.transposed(&order(data.dims.len())?, &self.budget)?)),
            Value::Flow(flow) => {
                let axes = order(flow.axes.len())?.iter().map(|&axis| flow.axes[axis]).collect();
                Ok(Value::Flow(flow.with_axes(axes)))
            }
            other => Ok(other),
        }
    }

    fn matmul(&mut self, node: &Node<'_>) -> Result<Value> {
        match (self.get(node, 0)?, self.get(node, 1)?) {
            (Value::Flow(flow), Value::Constant(kernel)) => {
                let kernel = matrix(node, &kernel)?;
                self.dense(node, &flow, kernel, None)
            }
            (_, Value::Flow(_)) => Err(refused(node, "the second factor is no constant")),
            _ => self.other(node),
        }
    }

    fn gemm(&mut self, node: &Node<'_>) -> Result<Value> {
        let Value::Flow(flow) = self.get(node, 0)? else { return self.other(node) };
        if node.int("transA").unwrap_or(0) != 0 {
            return Err(refused(node, "transA = 1"));
        }
        let [alpha, beta] = ["alpha", "beta"].map(|name| node.float(name).unwrap_or(1.0));
        if alpha != 1.0 {
            return Err(refused(node, format_args!("alpha = {alpha}")));
        }
        let mut kernel = matrix(node, &*self.constant(node, 1)?)?;
        if node.int("transB").unwrap_or(0) != 0 {
            kernel = kernel.transposed()?;
        }
        let bias = match self.get(node, 2)? {
            Value::Absent => None,
            _ if beta != 1.0 => return Err(refused(node, format_args!("beta = {beta}"))),
            _ => Some(along_features(node, &*self.constant(node, 2)?, kernel.columns())?),
        };
        self.dense(node, &flow, kernel, bias)
    }

    fn arithmetic(&mut self, node: &Node<'_>) -> Result<Value> {
        let operation = |a: f64, b: f64| match node.operator {
            "Add" => a + b,
            "Sub" => a - b,
            "Mul" => a * b,
            _ => a / b,
        };
        let (first, second) = (self.get(node, 0)?, self.get(node, 1)?);
        if let (Value::Constant(first), Value::Constant(second)) = (&first, &second) {
            // What is divided by zero as a whole number is nobody's constant.
            let whole = node.operator == "Div" && first.ints().and(second.ints()).is_some();
            if whole {
                return self.other(node);
            }
            let combined = first.combined(second, operation, &self.budget)?;
            return combined.map(constant).ok_or_else(|| refused(node, "constants of several shapes"));
        }
        // The rules of zero and one, by which what is added for negative token ids goes away.
        match (node.operator, number(&first), number(&second)) {
            ("Mul", Some(0.0), _) if !is_data(&second) => return Ok(first),
            ("Mul", _, Some(0.0)) if !is_data(&first) => return Ok(second),
            ("Mul", Some(1.0), _) | ("Add", Some(0.0), _) => return Ok(second),
            ("Mul" | "Div", _, Some(1.0)) | ("Add" | "Sub", _, Some(0.0)) => return Ok(first),
            _ => {}
        }
        if let (Some(first), Some(second)) = (sizes(&first), sizes(&second)) {
            return Ok(Value::Sizes(combine_sizes(node, &first, &second)));
        }
        match (first, second) {
            (Value::Flow(flow), Value::Constant(_) | Value::Sizes(_)) if flow.source == Source::Ids => {
                Ok(Value::Opaque)
            }
            (Value::Flow(flow), Value::Constant(other)) => self.affine_of(node, &flow, &other, false),
            (Value::Constant(other), Value::Flow(flow)) if flow.source != Source::Ids => {
                self.affine_of(node, &flow, &other, true)
            }
            (Value::Flow(first), Value::Flow(second)) => self.join_halves(node, &first, &second),
            _ => self.other(node),
        }
    }

    /// Both directions of a recurrent node, added or multiplied.
    fn join_halves(&mut self, node: &Node<'_>, first: &Flow, second: &Flow) -> Result<Value> {
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

    /// Data combined with constants along the features; `swapped` where the constants stand first.
    fn affine_of(&mut self, node: &Node<'_>, flow: &Flow, other: &Constant, swapped: bool) -> Result<Value> {
        let width = if other.len() > 1 { other.dims.last().copied() } else { self.width() };
        let width = width.ok_or_else(|| refused(node, "the number of features is not known"))?;
        let values = along_features(node, other, width)?;
        let each = |of: &dyn Fn(f64) -> f64| values.iter().map(|&value| of(value.into())).collect::<Vec<_>>();
        let (scale, shift) = match (node.operator, swapped) {
            ("Add", _) => (each(&|_| 1.0), each(&|value| value)),
            ("Sub", false) => (each(&|_| 1.0), each(&|value| -value)),
            ("Sub", true) => (each(&|_| -1.0), each(&|value| value)),
            ("Mul", _) => (each(&|value| value), each(&|_| 0.0)),
            ("Div", false) => (each(&|value| 1.0 / value), each(&|_| 0.0)),
            _ => return Err(refused(node, "divides by what the network computes")),
        };
        if other.len() > 1 && self.line(node, flow)?.last() != Some(&Axis::Features) {
            return Err(refused(node, "constants along another axis than the features"));
        }
        self.affine(node, flow, Affine { scale, shift })
    }

    fn batch_normalization(&mut self, node: &Node<'_>) -> Result<Value> {
        let Value::Flow(flow) = self.get(node, 0)? else { return self.other(node) };
        if node.int("training_mode").unwrap_or(0) != 0 {
            return Err(refused(node, "training_mode = 1"));
        }
        let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
        let scale = self.constant(node, 1)?;
        let width = scale.len();
        let mut lists = Vec::new();
        for at in 1..5 {
            lists.push(along_features(node, &*self.constant(node, at)?, width)?);
        }
        let axes = self.line(node, &flow)?;
        if axes.get(1) != Some(&Axis::Features) {
            return Err(refused(node, "normalises another axis than the features"));
        }
        let wide = |at: usize, i: usize| f64::from(lists[at][i]);
        let scale: Vec<f64> = (0..width).map(|i| wide(0, i) / (wide(3, i) + epsilon).sqrt()).collect();
        let shift = (0..width).map(|i| wide(1, i) - wide(2, i) * scale[i]).collect();
        self.affine(node, &flow, Affine { scale, shift })
    }

    fn choose(&mut self, node: &Node<'_>) -> Result<Value> {
        match number(&self.get(node, 0)?) {
            Some(0.0) => self.get(node, 2),
            Some(_) => self.get(node, 1),
            None => self.other(node),
        }
    }

    /// Whether a token id is negative: never.
    fn compare(&mut self, node: &Node<'_>) -> Result<Value> {
        match (node.operator, self.get(node, 0)?) {
            ("Less", Value::Flow(Flow { source: Source::Ids, .. }))
                if number(&self.get(node, 1)?) == Some(0.0) =>
            {
                Ok(Value::Filled(Filling::Number(0.0)))
            }
            ("Not", Value::Filled(Filling::Number(number))) => {
                Ok(Value::Filled(Filling::Number(if number == 0.0 { 1.0 } else { 0.0 })))
            }
            _ => self.other(node),
        }
    }

    fn activation(&mut self, node: &Node<'_>) -> Result<Value> {
        let Value::Flow(flow) = self.get(node, 0)? else { return self.other(node) };
        let alpha = |default| node.float("alpha").unwrap_or(default);
        let function = match node.operator {
            "Relu" => Some(Activation::Relu),
            "Tanh" => Some(Activation::Tanh),
            "Sigmoid" => Some(Activation::Sigmoid),
            "Softplus" => Some(Activation::Softplus),
            "Elu" => recurrent::elu(alpha(1.0)),
            "LeakyRelu" => recurrent::leaky_relu(alpha(0.01)),
            "HardSigmoid" => recurrent::hard_sigmoid(alpha(0.2), node.float("beta").unwrap_or(0.5)),
            _ => {
                // Before 13 all axes from this one on were one.
                let default = if self.opset < 13 { 1 } else { -1 };
                let at = index(node.int("axis").unwrap_or(default), flow.axes.len());
                (at == flow.axes.len().checked_sub(1)).then_some(Activation::Softmax)
            }
        };
        let function = function.ok_or_else(|| {
            let numbers: Vec<_> =
                node.attributes.iter().map(|given| (given.name, given.float, given.int)).collect();
            refused(node, format_args!("attributes {numbers:?}"))
        })?;
        self.function(node, &flow, function)
    }
}

/// Whether a value is what the network computes, which infinities may be in.
fn is_data(value: &Value) -> bool {
    matches!(value, Value::Flow(flow) if flow.source != Source::Ids)
}

/// Sizes with axes of size 1 put in, or taken out: those that are named, or all that are `one`.
fn resized<T: Copy>(
    sizes: &[T],
    axes: Option<&[i64]>,
    insert: bool,
    new: T,
    one: impl Fn(usize, T) -> bool,
) -> Option<Vec<T>> {
    let rank = if insert { sizes.len() + axes?.len() } else { sizes.len() };
    let named = axes.map(|axes| axes.iter().map(|&axis| index(axis, rank)).collect::<Option<Vec<_>>>());
    let named = match named {
        Some(named) => Some(named?),
        None => None,
    };
    if insert {
        let named = named?;
        let mut old = sizes.iter();
        return (0..rank)
            .map(|at| if named.contains(&at) { Some(new) } else { old.next().copied() })
            .collect();
    }
    let gone = |at: usize, size: T| match &named {
        Some(named) => named.contains(&at),
        None => one(at, size),
    };
    let mut left = Vec::new();
    for (at, &size) in sizes.iter().enumerate() {
        match gone(at, size) {
            true if !one(at, size) => return None,
            true => {}
            false => left.push(size),
        }
    }
    Some(left)
}

/// A constant's shape where 0 keeps a size and -1 is what is left.
fn constant_shape(data: &Constant, wanted: &[Dim]) -> Option<Vec<usize>> {
    let mut dims = Vec::new();
    let mut open = None;
    for (at, size) in wanted.iter().enumerate() {
        dims.push(match *size {
            Dim::Known(0) => *data.dims.get(at)?,
            Dim::Known(-1) if open.is_none() => {
                open = Some(at);
                1
            }
            Dim::Known(size) => usize::try_from(size).ok()?,
            _ => return None,
        });
    }
    if let Some(open) = open {
        let others = dims.iter().try_fold(1usize, |all, &dim| all.checked_mul(dim))?;
        dims[open] = data.len().checked_div(others)?;
    }
    Some(dims)
}

fn matrix(node: &Node<'_>, constant: &Constant) -> Result<Matrix> {
    match (constant.floats(), &constant.dims[..]) {
        (Some(values), &[rows, columns]) => Matrix::new(rows, columns, values.to_vec()),
        _ => Err(refused(node, format_args!("a factor of shape {:?}", constant.dims))),
    }
}

/// `width` values along the last axis, or one for all.
fn along_features(node: &Node<'_>, constant: &Constant, width: usize) -> Result<Vec<f32>> {
    let values = constant.floats().unwrap_or_default();
    match *values {
        [one] if width > 0 && width <= 1 << 20 => Ok(vec![one; width]),
        _ if values.len() == width && constant.dims.last() == Some(&width) => Ok(values.to_vec()),
        _ => {
            Err(refused(node, format_args!("constants of shape {:?} beside {width} features", constant.dims)))
        }
    }
}

/// Sizes added or multiplied.
fn combine_sizes(node: &Node<'_>, first: &[Dim], second: &[Dim]) -> Vec<Dim> {
    let len = first.len().max(second.len());
    let at = |sizes: &[Dim], place: usize| match sizes {
        [one] => *one,
        _ => sizes.get(place).copied().unwrap_or(Dim::Other),
    };
    let combine = |place: usize| match (at(first, place), at(second, place)) {
        (Dim::Known(a), Dim::Known(b)) => {
            let combined = match node.operator {
                "Add" => a.checked_add(b),
                "Sub" => a.checked_sub(b),
                "Mul" => a.checked_mul(b),
                _ => a.checked_div(b),
            };
            combined.map_or(Dim::Other, Dim::Known)
        }
        _ => Dim::Other,
    };
    (0..len).map(combine).collect()
}
