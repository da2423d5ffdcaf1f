//! All weights of a model as one flat array.

use crate::error::Result;
use crate::layers::Variable;
use crate::memory::check_len;
use crate::sequential::Sequential;

impl Sequential {
    /// Floats in all weights together.
    ///
    /// # Errors
    /// [`Error::NotBuilt`](crate::Error::NotBuilt).
    pub fn parameter_count(&self) -> Result<usize> {
        let layers = &self.network("parameter_count")?.layers;
        Ok(layers.iter().flat_map(|built| &built.variables.0).map(Variable::count).sum())
    }

    /// Copies all weights, one behind the other, in the order of
    /// [`trainable_variables`](Self::trainable_variables).
    ///
    /// # Errors
    /// [`Error::NotBuilt`](crate::Error::NotBuilt); [`Error::LengthMismatch`](crate::Error::LengthMismatch);
    /// [`Error::Unsupported`](crate::Error::Unsupported) after [`drop_weights`](Self::drop_weights).
    pub fn get_parameters(&self, values: &mut [f32]) -> Result<()> {
        self.whole_network("get_parameters")?;
        check_len("values", values.len(), "parameter_count", &[self.parameter_count()?])?;
        let mut rest = values;
        for (_, _, weight) in self.trainable_variables() {
            let (to, others) = rest.split_at_mut(weight.len());
            to.copy_from_slice(weight);
            rest = others;
        }
        Ok(())
    }

    /// Sets all weights at once, laid out as [`get_parameters`](Self::get_parameters) gives them.
    ///
    /// # Errors
    /// As [`get_parameters`](Self::get_parameters), and [`Error::OutOfMemory`](crate::Error::OutOfMemory);
    /// the model is unchanged then.
    pub fn set_parameters(&mut self, values: &[f32]) -> Result<()> {
        check_len("values", values.len(), "parameter_count", &[self.parameter_count()?])?;
        let mut rest = values;
        self.update_variables(|_, _, weight| {
            let (from, others) = rest.split_at(weight.len());
            weight.copy_from_slice(from);
            rest = others;
        })
    }
}
