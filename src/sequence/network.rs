//! A built network: its layers, and the stages they run in.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::layers::{BuiltLayer, Embedding, Layer, MergeMode, Packed, PackedDense, PackedRnn, Shape, Weight};
use crate::memory::with_room;

/// Layers that follow each other chunk by chunk, or one Bidirectional layer.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) layers: Range<usize>,
    /// Whether the steps are walked from the last to the first.
    pub(super) reversed: bool,
    /// Whether masked steps emit zeros rather than the previous output.
    pub(super) zero_output: bool,
    /// Whether this is a Bidirectional layer.
    pub(super) both: bool,
}

fn push(stages: &mut Vec<Stage>, stage: Stage) -> Result<()> {
    let bytes = (stages.len() + 1) * size_of::<Stage>();
    stages.try_reserve(1).map_err(|_| Error::OutOfMemory { bytes })?;
    stages.push(stage);
    Ok(())
}

/// A built network, read-only while it runs and shared by threads.
#[derive(Debug)]
pub(crate) struct Network {
    /// Every layer, in order.
    pub(crate) layers: Vec<Arc<BuiltLayer>>,
    pub(super) stages: Vec<Stage>,
    /// The layers above the last step; empty where the output is a sequence.
    pub(super) head: Range<usize>,
    /// Features a step, as the caller gives them.
    pub(crate) input: Shape,
    /// What comes out.
    pub(crate) output: Shape,
}

impl Network {
    /// Arranges built layers, at least one.
    pub(crate) fn new(layers: Vec<Arc<BuiltLayer>>) -> Result<Self> {
        let (Some(first), Some(last)) = (layers.first(), layers.last()) else {
            return Err(Error::InvalidArgument("a model needs at least one layer".into()));
        };
        let (input, output) = (first.input, last.output);
        if let Some(at) = layers.iter().position(|layer| matches!(layer.layer, Layer::Masking(_)))
            && !layers[at..].iter().any(|layer| layer.packed.is_recurrent())
        {
            return Err(Error::Unsupported(format!(
                "layer {at} (masking) has no recurrent layer above it that would skip the masked steps"
            )));
        }
        let mut network =
            Self { stages: Vec::new(), head: layers.len()..layers.len(), input, output, layers };
        network.arrange()?;
        Ok(network)
    }

    /// The network to be changed. Where somebody else has it too, it is copied first; the layers are shared
    /// on.
    pub(crate) fn unshared(this: &mut Arc<Self>) -> Result<&mut Self> {
        if Arc::get_mut(this).is_none() {
            let mut layers = with_room(this.layers.len())?;
            layers.extend(this.layers.iter().cloned());
            *this = Arc::new(Self::new(layers)?);
        }
        // Nothing is copied any more: nobody else can have it, and there are no weak references.
        Ok(Arc::get_mut(this).expect("it is this one's alone"))
    }

    fn arrange(&mut self) -> Result<()> {
        let fresh = |at: usize| Stage { layers: at..at, reversed: false, zero_output: false, both: false };
        let mut stage = fresh(0);
        let mut recurrent = false;
        for (i, built) in self.layers.iter().enumerate() {
            match &built.layer {
                Layer::Recurrent(rnn) => {
                    let rnn = rnn.options();
                    if recurrent && (rnn.go_backwards || stage.reversed) {
                        push(&mut self.stages, std::mem::replace(&mut stage, fresh(i)))?;
                    }
                    recurrent = true;
                    stage.reversed = rnn.go_backwards;
                    stage.zero_output = rnn.zero_output_for_mask;
                }
                Layer::Bidirectional(_) => {
                    if !stage.layers.is_empty() {
                        push(&mut self.stages, stage)?;
                    }
                    push(
                        &mut self.stages,
                        Stage {
                            layers: i..i + 1,
                            reversed: false,
                            // As in Keras, whatever the layer inside says.
                            zero_output: true,
                            both: true,
                        },
                    )?;
                    // Its masked steps are zero, which dense layers above it see.
                    stage = Stage { zero_output: true, ..fresh(i + 1) };
                    recurrent = false;
                }
                // In no stage: the one below gives its whole sequence.
                Layer::LastStep(_) => {
                    self.head = i + 1..self.layers.len();
                    break;
                }
                Layer::Embedding(_) | Layer::Masking(_) | Layer::Dense(_) | Layer::Dropout(_) => {}
            }
            stage.layers.end = i + 1;
            if !built.output.sequence {
                self.head = i + 1..self.layers.len();
                break;
            }
        }
        if !stage.layers.is_empty() {
            push(&mut self.stages, stage)?;
        }
        Ok(())
    }

    /// The embedding and its table, where the network reads token ids.
    pub(crate) fn embedding(&self) -> Option<(&Embedding, &[f32])> {
        let first = self.layers.first()?;
        match &first.layer {
            Layer::Embedding(embedding) => {
                let table = first.variables.get(Weight::Embedding).ok()?;
                Some((embedding, table.values()))
            }
            _ => None,
        }
    }

    /// Every direction of every recurrent layer, in order, with the index of its layer: the order of states.
    pub(crate) fn recurrent(&self) -> impl Iterator<Item = (usize, &PackedRnn)> {
        let layers = self.layers.iter().enumerate();
        layers.flat_map(|(i, layer)| layer.packed.directions().map(move |rnn| (i, rnn)))
    }

    /// Whether the output is the two halves of a Bidirectional layer, one array behind the other.
    pub(crate) fn is_unmerged(&self) -> bool {
        let last = self.layers.last().map(|layer| &layer.layer);
        matches!(last, Some(Layer::Bidirectional(both)) if both.merge_mode == MergeMode::None)
    }

    /// Whether the head begins with the last step of a whole sequence, rather than with last states.
    fn takes_last_step(&self) -> bool {
        let top = self.head.start.checked_sub(1).and_then(|top| self.layers.get(top));
        top.is_some_and(|top| matches!(top.layer, Layer::LastStep(_)))
    }

    /// Whether what stage `at` gives, where that is a sequence, is the network's output.
    pub(super) fn is_last_stage(&self, at: usize) -> bool {
        at + 1 == self.stages.len() && !self.takes_last_step()
    }

    /// Whether every recurrent layer has two directions.
    pub(super) fn is_bidirectional(&self) -> bool {
        let mut directions = self.layers.iter().map(|layer| layer.packed.directions().count());
        directions.clone().all(|count| count != 1) && directions.any(|count| count == 2)
    }

    /// Every array of states in order, each `[batch, units]`: the index of its layer, and the units. A
    /// direction of an LSTM has two, h and then c.
    pub(crate) fn state_arrays(&self) -> impl Iterator<Item = (usize, usize)> {
        self.recurrent().flat_map(|(i, rnn)| std::iter::repeat_n((i, rnn.units()), rnn.states()))
    }

    /// Floats of state a row.
    pub(crate) fn state_width(&self) -> usize {
        self.recurrent().map(|(_, rnn)| rnn.states() * rnn.units()).sum()
    }

    /// Multiply-adds of one row and step.
    pub(crate) fn macs_per_step(&self) -> usize {
        self.layers.iter().map(|layer| layer.packed.macs_per_step()).sum()
    }
}

/// Whoever adds a kind of layer says here, and wherever a match names all kinds, what it does: none is passed
/// over in silence.
impl Packed {
    /// The directions of a recurrent layer.
    pub(super) fn directions(&self) -> impl Iterator<Item = &PackedRnn> {
        let halves = match self {
            Packed::Rnn(rnn) => [Some(&**rnn), None],
            Packed::Both(both) => [Some(&both[0]), Some(&both[1])],
            Packed::Plain | Packed::Dense(_) => [None, None],
        };
        halves.into_iter().flatten()
    }

    pub(super) fn is_recurrent(&self) -> bool {
        self.directions().next().is_some()
    }

    /// What a layer above the last recurrent one computes row by row; `None` where it hands rows through as
    /// they are.
    ///
    /// # Panics
    /// For a recurrent layer.
    pub(super) fn row_wise(&self) -> Option<&PackedDense> {
        match self {
            Packed::Dense(dense) => Some(dense),
            Packed::Plain => None,
            Packed::Rnn(_) | Packed::Both(_) => unreachable!("a recurrent layer above the last one"),
        }
    }

    /// Multiply-adds of one row and step.
    fn macs_per_step(&self) -> usize {
        match self {
            Packed::Plain => 0,
            Packed::Rnn(half) => half.macs(),
            Packed::Both(both) => both.iter().map(PackedRnn::macs).sum(),
            Packed::Dense(dense) => dense.kernel.depth().saturating_mul(dense.kernel.columns()),
        }
    }
}
