//! Which loss goes with which last layer: what is meant is taken, and what cannot be meant is refused.

use super::Loss;
use crate::error::{Error, Result};
use crate::layers::{Activation, Layer, MergeMode, Recurrent};

/// The loss to be taken, and whether from logits: a cross-entropy right behind its own activation is taken
/// from the values before it, where neither rounds to 0 or 1. Keras does the same in `fit`.
pub(super) fn from_logits(loss: Loss, layers: &[Layer]) -> (Loss, bool) {
    let Some(Layer::Dense(dense)) = layers.last() else { return (loss, false) };
    match (loss, dense.activation) {
        (Loss::BinaryCrossentropy { from_logits: false }, Activation::Sigmoid) => {
            (Loss::BinaryCrossentropy { from_logits: true }, true)
        }
        (Loss::CategoricalCrossentropy { from_logits: false }, Activation::Softmax) => {
            (Loss::CategoricalCrossentropy { from_logits: true }, true)
        }
        (Loss::SparseCategoricalCrossentropy { from_logits: false }, Activation::Softmax) => {
            (Loss::SparseCategoricalCrossentropy { from_logits: true }, true)
        }
        _ => (loss, false),
    }
}

/// What a model's outputs are.
#[derive(Clone, Copy, PartialEq)]
enum Range {
    /// Each between 0 and 1.
    Shares,
    /// None below 0, and all at most so large as their layer makes them: shares of their sum.
    Parts,
    /// Anything else.
    Any,
}

/// The last layer that is an activation's, and what comes out behind it.
fn output(layers: &[Layer]) -> (Option<Activation>, Range) {
    let of = |activation| match activation {
        Activation::Sigmoid
        | Activation::HardSigmoid
        | Activation::HardSigmoidKeras2
        | Activation::Softmax => Range::Shares,
        _ => Range::Any,
    };
    // A gated cell's output is a mean of shares, or their product, where its functions give shares.
    let of_recurrent = |rnn: &Recurrent| {
        let [gates, activation] = rnn.activations();
        let range = if of(gates) == Range::Shares { of(activation) } else { Range::Any };
        (activation, range)
    };
    let mut dropped = false;
    for layer in layers.iter().rev() {
        let (activation, range) = match layer {
            // What is not dropped is scaled, above 1 too.
            Layer::Dropout(dropout) => {
                dropped |= dropout.rate > 0.0;
                continue;
            }
            Layer::Masking(_) | Layer::LastStep(_) => continue,
            Layer::Embedding(_) => return (None, Range::Any),
            Layer::Dense(dense) => (dense.activation, of(dense.activation)),
            Layer::Recurrent(rnn) => of_recurrent(rnn),
            Layer::Bidirectional(both) => {
                let (activation, range) = of_recurrent(&both.layer);
                let range = match (range, both.merge_mode) {
                    (Range::Shares, MergeMode::Sum) => Range::Parts,
                    (range, _) => range,
                };
                (activation, range)
            }
        };
        return (Some(activation), if dropped { Range::Any } else { range });
    }
    (None, Range::Any)
}

/// Checks that a cross-entropy can be taken of what a model of `columns` outputs gives.
pub(super) fn check_output(loss: Loss, layers: &[Layer], columns: usize) -> Result<()> {
    let (from_logits, binary) = match loss {
        Loss::MeanSquaredError => return Ok(()),
        Loss::BinaryCrossentropy { from_logits } => (from_logits, true),
        Loss::CategoricalCrossentropy { from_logits }
        | Loss::SparseCategoricalCrossentropy { from_logits } => (from_logits, false),
    };
    let refused =
        |why: String| Err(Error::InvalidArgument(format!("the loss does not fit the output: {why}")));
    let (activation, range) = output(layers);
    if !binary && columns < 2 {
        return refused(format!(
            "a categorical cross-entropy chooses between classes, and there is {columns} output; of two classes, take \
             a binary cross-entropy behind a sigmoid, or give the last layer 2 units"
        ));
    }
    if activation == Some(Activation::Softmax) && columns < 2 {
        return refused("a softmax over one output is always 1; take a sigmoid".into());
    }
    if from_logits && matches!(activation, Some(Activation::Sigmoid | Activation::Softmax)) {
        return refused(
            "from_logits is set, and the last activation is a sigmoid or softmax, which makes probabilities; \
             unset from_logits, or make the last activation linear"
                .into(),
        );
    }
    let fits = from_logits || range == Range::Shares || (range == Range::Parts && !binary);
    if fits {
        return Ok(());
    }
    refused(
        "without from_logits a cross-entropy takes probabilities, and the last layer's outputs are none; set \
         from_logits, or end the model by a sigmoid or softmax"
            .into(),
    )
}
