//! The last step of a sequence.

/// Hands on the last step of the sequence that the layers below give: PyTorch's `out[:, -1]`, Keras's `x[:, -1]`.
/// Below it there must be a recurrent layer with [`return_sequences`](crate::SimpleRnn::return_sequences).
///
/// Above a [`Bidirectional`](crate::Bidirectional) layer that is another thing than `return_sequences(false)`
/// there, which gives the last state of each half: the backward half has seen only one step by the last
/// position of the sequence, its first.
///
/// The last step is that of the sequence as it would come out, whatever is masked: a masked last position has
/// what such positions have, the output before it or zeros.
///
/// ```
/// use elman::{Bidirectional, LastStep, Lstm, Sequential};
///
/// # fn main() -> Result<(), elman::Error> {
/// let both = Bidirectional::new(Lstm::new(4).return_sequences(true));
/// let sequence = Sequential::new(3).add(both).build(1)?;
/// let last = Sequential::new(3).add(both).add(LastStep::new()).build(1)?;
/// let x = [0.5; 5 * 3];
/// assert_eq!(last.predict(&x, 1, 5)?, sequence.predict(&x, 1, 5)?[4 * 8..]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastStep;

impl LastStep {
    /// It has no options.
    pub fn new() -> Self {
        Self
    }
}
