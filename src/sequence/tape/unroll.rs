//! A network unrolled into operations.
//!
//! Each layer that computes becomes an operation, and what it gives a value. A recurrent layer gives compact
//! steps; where somebody reads them otherwise, one more operation writes them out by position, or takes the
//! last step of each row. A Bidirectional layer is two such directions and their merging.

use std::sync::Arc;

use super::ops::{DenseOp, Layout, Op, RnnOp, Value};
use crate::error::{Error, Result};
use crate::layers::{BuiltLayer, Layer, MergeMode, Recurrent};
use crate::memory::{AlignedVec, List};
use crate::sequence::network::Network;
use crate::sequence::schedule::Direction;

/// Operations that a layer becomes, at the most: a Bidirectional has two directions, each written out once
/// more, and the two merged.
const MOST: usize = 5;

/// The operations of a network, and the values between them; value 0 is the input, the last one the output.
pub(super) fn unroll(network: &Network) -> Result<(List<Op>, List<Value>)> {
    let layers = &network.layers[..];
    let mut unrolled = Unrolled { layers, ops: List::new(), values: List::new(), at: 0, state_base: 0 };
    unrolled.ops.make_room(MOST * layers.len())?;
    unrolled.values.make_room(1 + MOST * layers.len())?;
    unrolled.add(Layout::Source, layers[0].input.features);
    for (i, built) in layers.iter().enumerate() {
        unrolled.layer(i, built);
    }
    let Unrolled { ops, values, at, .. } = unrolled;
    if at + 1 != values.len() || at == 0 {
        return Err(Error::Unsupported(
            "a network without a layer that computes has nothing to train".into(),
        ));
    }
    Ok((ops, values))
}

/// What is unrolled so far.
struct Unrolled<'a> {
    layers: &'a [Arc<BuiltLayer>],
    ops: List<Op>,
    values: List<Value>,
    /// The value that the next layer reads.
    at: usize,
    /// Floats of state a row of the recurrent directions so far.
    state_base: usize,
}

impl Unrolled<'_> {
    fn add(&mut self, layout: Layout, features: usize) -> usize {
        self.values.push(Value::new(layout, features));
        self.values.len() - 1
    }

    fn layer(&mut self, i: usize, built: &BuiltLayer) {
        let (input, features) = (self.at, built.output.features);
        match &built.layer {
            Layer::Embedding(_) => self.values[input] = Value::new(Layout::Source, features),
            Layer::Masking(_) => {}
            Layer::LastStep(_) => {
                // No layer above it reads steps, so what is below has been written out by positions.
                self.at = self.add(Layout::Last, features);
                self.ops.push(Op::LastPosition { input, output: self.at });
            }
            Layer::Dropout(dropout) if dropout.rate == 0.0 => {}
            Layer::Dropout(dropout) => {
                self.at = self.add(self.row_wise(i), features);
                self.ops.push(Op::Dropout { layer: i, rate: dropout.rate, input, output: self.at });
            }
            Layer::Dense(_) => {
                self.at = self.add(self.row_wise(i), features);
                let (offsets, last) = (List::new(), i + 1 == self.layers.len());
                let op = DenseOp { layer: i, input, output: self.at, offsets, last };
                self.ops.push(Op::Dense(Box::new(op)));
            }
            Layer::Recurrent(layer) => {
                let options = layer.options();
                let reversed = options.go_backwards;
                let direction = Direction { reversed, zero_output: options.zero_output_for_mask };
                // What the next layer reads in this layer's own order needs no positions.
                let follows = !reversed && self.next_direction(i) == Some(Some(false));
                let steps = self.direction(i, 0, layer, reversed);
                self.at = if !options.return_sequences {
                    self.last(steps, options.units, direction)
                } else if follows {
                    steps
                } else {
                    self.expand(steps, options.units, direction)
                };
            }
            Layer::Bidirectional(both) => self.both(i, &both.layer, both.merge_mode, features),
        }
    }

    /// A Bidirectional layer: two directions, and their merging.
    fn both(&mut self, i: usize, layer: &Recurrent, mode: MergeMode, features: usize) {
        let units = layer.options().units;
        let inputs = [false, true].map(|reversed| {
            let steps = self.direction(i, usize::from(reversed), layer, reversed);
            if layer.options().return_sequences {
                // Masked steps are padding, as in Keras, whatever the layer inside says.
                self.expand(steps, units, Direction { reversed, zero_output: true })
            } else {
                self.last(steps, units, Direction { reversed, zero_output: false })
            }
        });
        self.at = self.add(self.values[inputs[0]].layout, features);
        if mode == MergeMode::None {
            self.values[self.at].arrays = 2;
        }
        self.ops.push(Op::Merge { mode, inputs, output: self.at });
    }

    /// One direction of a recurrent layer: its compact steps.
    fn direction(&mut self, i: usize, half: usize, layer: &Recurrent, reversed: bool) -> usize {
        let (units, cell) = (layer.options().units, layer.cell());
        let output = self.add(Layout::Compact { reversed }, units);
        self.values[output].carried = true;
        self.ops.push(Op::Rnn(Box::new(RnnOp {
            layer: i,
            half,
            state_base: self.state_base,
            cell,
            reversed,
            input: self.at,
            output,
            offsets: List::new(),
            drops: [false; 2],
            input_mask: AlignedVec::empty(),
            recurrent_mask: AlignedVec::empty(),
            gated: (cell.gates() > 1).then(Box::default),
            squares: List::new(),
        })));
        self.state_base += cell.states() * units;
        output
    }

    fn last(&mut self, input: usize, units: usize, direction: Direction) -> usize {
        let output = self.add(Layout::Last, units);
        self.ops.push(Op::Last { input, output, direction });
        output
    }

    fn expand(&mut self, input: usize, units: usize, direction: Direction) -> usize {
        let output = self.add(Layout::Positions, units);
        self.ops.push(Op::Expand { input, output, direction });
        output
    }

    /// The direction of the next recurrent layer that reads rows step by step; a Bidirectional reads
    /// positions.
    fn next_direction(&self, after: usize) -> Option<Option<bool>> {
        self.layers[after + 1..].iter().find_map(|layer| match &layer.layer {
            Layer::Recurrent(rnn) => Some(Some(rnn.options().go_backwards)),
            Layer::Bidirectional(_) => Some(None),
            Layer::Embedding(_)
            | Layer::Masking(_)
            | Layer::Dense(_)
            | Layer::Dropout(_)
            | Layer::LastStep(_) => None,
        })
    }

    /// How the rows stand that layer `i`, which computes row by row, makes of what it reads.
    fn row_wise(&self, i: usize) -> Layout {
        match (self.values[self.at].layout, self.next_direction(i)) {
            (Layout::Source, Some(Some(reversed))) => Layout::Compact { reversed },
            (Layout::Source, Some(None) | None) => Layout::Positions,
            (here @ (Layout::Compact { .. } | Layout::Positions | Layout::Last), _) => here,
        }
    }
}
