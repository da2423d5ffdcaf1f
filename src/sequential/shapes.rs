//! Which layers can stand on each other, and the network that they make.

use std::sync::Arc;

use super::Sequential;
use crate::dispatch::kernels;
use crate::error::{Error, Result};
use crate::layers::{Bidirectional, BuiltLayer, Layer, MergeMode, Shape, Variables};
use crate::memory::with_room;
use crate::sequence::Network;

/// Features of a step, at most: what is reckoned of one row and a few more, in bytes, does not overflow then.
/// Layers with weights have fewer; one that drops or masks has nothing else to stop it.
const MOST_FEATURES: usize = isize::MAX as usize >> 8;

/// Layers a model may have, far more than any has. It bounds what a file of a few bytes a layer can ask for.
pub(crate) const MOST_LAYERS: usize = 1 << 16;

impl Sequential {
    /// What each layer gives, in order.
    ///
    /// ```
    /// use elman::{Dense, Gru, Sequential};
    ///
    /// # fn main() -> Result<(), elman::Error> {
    /// let model = Sequential::new(3).add(Gru::new(8).return_sequences(true)).add(Dense::new(2)).build(1)?;
    /// let last = model.output_shapes().last().expect("there are two");
    /// assert_eq!((last.features, last.sequence), (2, true));
    /// # Ok(())
    /// # }
    /// ```
    pub fn output_shapes(&self) -> impl Iterator<Item = Shape> {
        let input = Shape { features: self.input_size, sequence: true };
        self.layers.iter().enumerate().scan(input, |shape, (i, layer)| {
            // Every layer was checked when it was added.
            *shape = layer.output_shape(i, *shape).unwrap_or(*shape);
            Some(*shape)
        })
    }
}

/// The input shape of each layer, every layer being checked on the way, and last the output's.
pub(super) fn shapes(input_size: usize, layers: &[Layer]) -> Result<Vec<Shape>> {
    let mut shape = Shape { features: input_size, sequence: true };
    let mut shapes = with_room(layers.len() + 1)?;
    shapes.push(shape);
    for (i, layer) in layers.iter().enumerate() {
        shape = shape_above(layers, i, layer, shape)?;
        shapes.push(shape);
    }
    Ok(shapes)
}

/// What `layer` gives for `input` at position `index`, `layers` being those below it and perhaps more; or why
/// it cannot stand there.
pub(super) fn shape_above(layers: &[Layer], index: usize, layer: &Layer, input: Shape) -> Result<Shape> {
    if input.features == 0 {
        return Err(Error::InvalidArgument("input size must be at least 1, got 0".into()));
    }
    if input.features > MOST_FEATURES {
        return Err(Error::InvalidArgument(format!(
            "layer {index} reads {} features: the size of a row overflows",
            input.features
        )));
    }
    if index >= MOST_LAYERS {
        return Err(Error::InvalidArgument(format!("a model has at most {MOST_LAYERS} layers")));
    }
    layer.validate()?;
    if let Some(Layer::Bidirectional(Bidirectional { merge_mode: MergeMode::None, .. })) =
        index.checked_sub(1).map(|below| &layers[below])
    {
        return Err(Error::InvalidArgument(format!(
            "layer {} (bidirectional) does not merge its halves, so it must be the last layer",
            index - 1
        )));
    }
    let output = layer.output_shape(index, input)?;
    if let Layer::LastStep(_) = layer
        && !layers[..index].iter().any(|below| below.recurrent().is_some())
    {
        return Err(Error::InvalidArgument(format!(
            "layer {index} (last_step) takes the last step of a recurrent layer's sequence, and there is none below"
        )));
    }
    for (which, dims) in layer.variable_shapes(input.features) {
        which.values(&dims)?;
    }
    Ok(output)
}

pub(super) fn assemble(
    input_size: usize,
    layers: &[Layer],
    variables: Vec<Variables>,
) -> Result<Arc<Network>> {
    let kernels = kernels()?;
    let shapes = shapes(input_size, layers)?;
    let mut built = with_room(layers.len())?;
    for (i, (layer, variables)) in layers.iter().zip(variables).enumerate() {
        let layer = BuiltLayer::new(kernels, layer.clone(), shapes[i], shapes[i + 1], variables)?;
        built.push(Arc::new(layer));
    }
    Network::new(built).map(Arc::new)
}
