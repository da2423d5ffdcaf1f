//! One step by hand.

#![forbid(unsafe_code)]

use crate::dispatch::kernels;
use crate::error::{Error, Result};
use crate::layers::{Layer, PackedRnn, SimpleRnn, Variable, Variables, Weight};
use crate::memory::{AlignedVec, check_len, checked_product, row_stride};
use crate::process::Spares;
use crate::sequence;

/// Floats of scratch that a step takes from the stack, rather than from the spare buffers.
const SMALL: usize = 256;
/// As [`SMALL`], for a row of 64 units, which takes a twentieth longer where all of [`SMALL`] is cleared.
const SMALLEST: usize = 64;

/// Keras's SimpleRNNCell, built for an input width: `h' = act(x·W + b + h·U)`.
///
/// The cell keeps no state: the caller hands `h` from step to step, and may stack cells by handing one's `h'` to the
/// next as its `x`. The bits are those of a [`SimpleRnn`] layer over the whole sequence.
///
/// ```
/// use elman::{SimpleRnn, SimpleRnnCell};
///
/// # fn main() -> Result<(), elman::Error> {
/// let cell = SimpleRnnCell::new(SimpleRnn::new(64), 100, 42)?;
/// let words = vec![0.1; 8 * 100]; // one word of each of 8 sentences
/// let mut h = vec![0.0; 8 * 64];
/// for _ in 0..80 {
///     cell.step_in_place(&words, 8, &mut h)?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SimpleRnnCell {
    config: SimpleRnn,
    input_size: usize,
    variables: Variables,
    packed: PackedRnn,
    scratch: Spares<AlignedVec>,
}

impl SimpleRnnCell {
    /// A cell with initial weights for rows of `input_size` features. Of `config` it uses what concerns one step.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for wrong numbers, [`Error::Unsupported`] when `ELMAN_ISA` cannot be carried out,
    /// [`Error::OutOfMemory`].
    pub fn new(config: SimpleRnn, input_size: usize, seed: u64) -> Result<Self> {
        if input_size == 0 {
            return Err(Error::InvalidArgument("input size must be at least 1, got 0".into()));
        }
        config.validate()?;
        let kernels = kernels()?;
        let variables = Variables::initialized(&Layer::SimpleRnn(config), input_size, seed, 0)?;
        let packed = PackedRnn::new(kernels, &config, &variables, |which| which)?;
        Ok(Self { config, input_size, variables, packed, scratch: Spares::default() })
    }

    /// `h_next` `[batch, units]` from `x` `[batch, input_size]` and `h` `[batch, units]`.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] when a slice has another length than its shape, [`Error::InvalidArgument`] for a batch
    /// of 0, [`Error::OutOfMemory`]. Nothing is written then.
    pub fn step(&self, x: &[f32], h: &[f32], batch: usize, h_next: &mut [f32]) -> Result<()> {
        check_len("h", h.len(), "batch x units", &[batch, self.config.units])?;
        self.check(x, batch, "h_next", h_next.len())?;
        self.run(x, batch, h_next, Some(h))
    }

    /// [`step`](Self::step) with the state replaced by the next one.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_in_place(&self, x: &[f32], batch: usize, h: &mut [f32]) -> Result<()> {
        self.check(x, batch, "h", h.len())?;
        self.run(x, batch, h, None)
    }

    fn check(&self, x: &[f32], batch: usize, what: &'static str, h_len: usize) -> Result<()> {
        if batch == 0 {
            return Err(Error::InvalidArgument("batch must be at least 1, got 0".into()));
        }
        check_len("x", x.len(), "batch x input size", &[batch, self.input_size])?;
        check_len(what, h_len, "batch x units", &[batch, self.config.units])
    }

    /// The step; `h` is the state before where `next` does not hold it.
    fn run(&self, x: &[f32], batch: usize, next: &mut [f32], h: Option<&[f32]>) -> Result<()> {
        let units = self.config.units;
        if units.is_multiple_of(self.packed.recurrent.kernels().lanes) {
            return match h {
                Some(h) => {
                    sequence::step(&self.packed, x, h, batch, next);
                    Ok(())
                }
                None => self.with_scratch(next.len(), |before| {
                    before.copy_from_slice(next);
                    sequence::step(&self.packed, x, before, batch, next);
                }),
            };
        }
        let stride = row_stride(units);
        let half = checked_product("states", &[2, batch, stride])? / 2;
        self.with_scratch(2 * half, |rows| {
            let state = h.unwrap_or(next);
            for (to, from) in rows.chunks_exact_mut(stride).zip(state.chunks_exact(units)) {
                to[..units].copy_from_slice(from);
            }
            sequence::step_padded(&self.packed, x, batch, rows, stride);
            for (to, from) in next.chunks_exact_mut(units).zip(rows[half..].chunks_exact(stride)) {
                to.copy_from_slice(&from[..units]);
            }
        })
    }

    /// Runs `work` on `len` floats, whose values are those of any step before: a few from the stack, where clearing them costs
    /// nothing, more from a spare buffer.
    fn with_scratch(&self, len: usize, work: impl FnOnce(&mut [f32])) -> Result<()> {
        if len <= SMALLEST {
            work(&mut [0.0; SMALLEST][..len]);
        } else if len <= SMALL {
            work(&mut [0.0; SMALL][..len]);
        } else {
            let mut rows = self.scratch.take().unwrap_or(AlignedVec::empty());
            rows.reserve_scratch(len)?;
            work(&mut rows[..len]);
            self.scratch.give(rows);
        }
        Ok(())
    }

    /// Outputs, and floats of state a row.
    pub fn units(&self) -> usize {
        self.config.units
    }

    /// Features of the input.
    pub fn input_size(&self) -> usize {
        self.input_size
    }

    /// One weight array.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the cell has no such weight.
    pub fn weight(&self, which: Weight) -> Result<&Variable> {
        self.variables.get(which)
    }

    /// Every weight with its name and shape.
    pub fn trainable_variables(&self) -> impl Iterator<Item = (&'static str, [usize; 2], &[f32])> {
        self.variables.0.iter().map(|variable| (variable.which.name(), variable.shape, variable.values()))
    }

    /// Replaces one weight array, row by row in Keras's layout.
    ///
    /// # Errors
    /// As [`weight`](Self::weight), and [`Error::LengthMismatch`]. The cell is unchanged then.
    pub fn set_weight(&mut self, which: Weight, values: &[f32]) -> Result<()> {
        let variables = self.variables.with(which, values)?;
        self.packed = PackedRnn::new(kernels()?, &self.config, &variables, |which| which)?;
        self.variables = variables;
        Ok(())
    }
}
