//! One step by hand.

#![forbid(unsafe_code)]

use crate::dispatch::kernels;
use crate::error::{Error, Result};
use crate::layers::{Gru, Layer, Lstm, PackedRnn, Recurrent, SimpleRnn, Variable, Variables, Weight};
use crate::memory::{AlignedVec, check_len, checked_product, row_stride};
use crate::process::Spares;
use crate::sequence;

/// Floats of scratch that a step takes from the stack, rather than from the spare buffers.
const SMALL: usize = 256;
/// As [`SMALL`], for a row of 64 units, which takes a twentieth longer where all of [`SMALL`] is cleared.
const SMALLEST: usize = 64;

/// What the cells of all kinds have: weights, and what a step needs.
#[derive(Debug)]
struct Built {
    layer: Recurrent,
    units: usize,
    input_size: usize,
    variables: Variables,
    packed: PackedRnn,
    scratch: Spares<AlignedVec>,
}

impl Built {
    fn new(layer: Recurrent, input_size: usize, seed: u64) -> Result<Self> {
        if input_size == 0 {
            return Err(Error::InvalidArgument("input size must be at least 1, got 0".into()));
        }
        layer.validate()?;
        let kernels = kernels()?;
        let variables = Variables::initialized(&Layer::Recurrent(layer), input_size, seed, 0)?;
        let packed = PackedRnn::new(kernels, &layer, &variables, |which| which)?;
        let units = layer.options().units;
        Ok(Self { layer, units, input_size, variables, packed, scratch: Spares::default() })
    }

    fn check_input(&self, x: &[f32], batch: usize) -> Result<()> {
        if batch == 0 {
            return Err(Error::InvalidArgument("batch must be at least 1, got 0".into()));
        }
        check_len("x", x.len(), "batch x input size", &[batch, self.input_size])
    }

    fn check_state(&self, what: &'static str, len: usize, batch: usize) -> Result<()> {
        check_len(what, len, "batch x units", &[batch, self.units])
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

    /// A step of a gated cell: `states` are those before it, where `next` does not hold them, h and then, of an LSTM, c.
    fn run_gated<const STATES: usize>(
        &self,
        x: &[f32],
        batch: usize,
        states: [Option<&[f32]>; STATES],
        next: [&mut [f32]; STATES],
    ) -> Result<()> {
        let stride = row_stride(self.units);
        checked_product("states", &[batch, stride])?;
        let mut next = next;
        self.with_scratch(sequence::gated_step_len(&self.packed, batch)?, |scratch| {
            for (i, to) in
                sequence::states_before(&self.packed, batch, scratch).into_iter().take(STATES).enumerate()
            {
                let from = states[i].unwrap_or(next[i]);
                for (to, from) in to.chunks_exact_mut(stride).zip(from.chunks_exact(self.units)) {
                    let (row, padding) = to.split_at_mut(self.units);
                    row.copy_from_slice(from);
                    padding.fill(0.0);
                }
            }
            for (from, to) in sequence::step_gated(&self.packed, x, batch, scratch).into_iter().zip(&mut next)
            {
                for (to, from) in to.chunks_exact_mut(self.units).zip(from.chunks_exact(stride)) {
                    to.copy_from_slice(&from[..self.units]);
                }
            }
        })
    }

    fn set_weight(&mut self, which: Weight, values: &[f32]) -> Result<()> {
        let variables = self.variables.with(which, values)?;
        self.packed = PackedRnn::new(kernels()?, &self.layer, &variables, |which| which)?;
        self.variables = variables;
        Ok(())
    }
}

/// What every cell answers.
macro_rules! shared_methods {
    ($cell:ident) => {
        impl $cell {
            /// Outputs, and floats of each state a row.
            pub fn units(&self) -> usize {
                self.0.units
            }

            /// Features of the input.
            pub fn input_size(&self) -> usize {
                self.0.input_size
            }

            /// One weight array.
            ///
            /// # Errors
            /// [`Error::InvalidArgument`] when the cell has no such weight.
            pub fn weight(&self, which: Weight) -> Result<&Variable> {
                self.0.variables.get(which)
            }

            /// Every weight with its name and shape.
            pub fn trainable_variables(&self) -> impl Iterator<Item = (&'static str, [usize; 2], &[f32])> {
                let variables = self.0.variables.0.iter();
                variables.map(|variable| (variable.which.name(), variable.shape, variable.values()))
            }

            /// Replaces one weight array, row by row in Keras's layout.
            ///
            /// # Errors
            /// As [`weight`](Self::weight), and [`Error::LengthMismatch`]. The cell is unchanged then.
            pub fn set_weight(&mut self, which: Weight, values: &[f32]) -> Result<()> {
                self.0.set_weight(which, values)
            }
        }
    };
}
shared_methods!(SimpleRnnCell);
shared_methods!(LstmCell);
shared_methods!(GruCell);

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
pub struct SimpleRnnCell(Built);

impl SimpleRnnCell {
    /// A cell with initial weights for rows of `input_size` features. Of `config` it uses what concerns one step.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for wrong numbers, [`Error::Unsupported`] when `ELMAN_ISA` cannot be carried out,
    /// [`Error::OutOfMemory`].
    pub fn new(config: SimpleRnn, input_size: usize, seed: u64) -> Result<Self> {
        Built::new(config.into(), input_size, seed).map(Self)
    }

    /// `h_next` `[batch, units]` from `x` `[batch, input_size]` and `h` `[batch, units]`.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] when a slice has another length than its shape, [`Error::InvalidArgument`] for a batch
    /// of 0, [`Error::OutOfMemory`]. Nothing is written then.
    pub fn step(&self, x: &[f32], h: &[f32], batch: usize, h_next: &mut [f32]) -> Result<()> {
        self.0.check_state("h", h.len(), batch)?;
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
        self.0.check_input(x, batch)?;
        self.0.check_state(what, h_len, batch)
    }

    /// The step; `h` is the state before where `next` does not hold it.
    fn run(&self, x: &[f32], batch: usize, next: &mut [f32], h: Option<&[f32]>) -> Result<()> {
        let Built { units, packed, .. } = &self.0;
        let units = *units;
        if units.is_multiple_of(packed.recurrent.kernels().lanes) {
            return match h {
                Some(h) => {
                    sequence::step(packed, x, h, batch, next);
                    Ok(())
                }
                None => self.0.with_scratch(next.len(), |before| {
                    before.copy_from_slice(next);
                    sequence::step(packed, x, before, batch, next);
                }),
            };
        }
        let stride = row_stride(units);
        let half = checked_product("states", &[2, batch, stride])? / 2;
        self.0.with_scratch(2 * half, |rows| {
            let state = h.unwrap_or(next);
            for (to, from) in rows.chunks_exact_mut(stride).zip(state.chunks_exact(units)) {
                to[..units].copy_from_slice(from);
            }
            sequence::step_padded(packed, x, batch, rows, stride);
            for (to, from) in next.chunks_exact_mut(units).zip(rows[half..].chunks_exact(stride)) {
                to.copy_from_slice(&from[..units]);
            }
        })
    }
}

/// Keras's LSTMCell, built for an input width: `i, f, o = s(x·W + b + h·U)`, each with its columns, `g = a(…)`,
/// `c' = f·c + i·g`, `h' = o·a(c')`.
///
/// The cell keeps no states: the caller hands `h` and `c` from step to step. The bits are those of an [`Lstm`] layer over
/// the whole sequence.
///
/// ```
/// use elman::{Lstm, LstmCell};
///
/// # fn main() -> Result<(), elman::Error> {
/// let cell = LstmCell::new(Lstm::new(64), 100, 42)?;
/// let words = vec![0.1; 8 * 100]; // one word of each of 8 sentences
/// let (mut h, mut c) = (vec![0.0; 8 * 64], vec![0.0; 8 * 64]);
/// for _ in 0..80 {
///     cell.step_in_place(&words, 8, &mut h, &mut c)?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LstmCell(Built);

impl LstmCell {
    /// A cell with initial weights for rows of `input_size` features. Of `config` it uses what concerns one step.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for wrong numbers, [`Error::Unsupported`] when `ELMAN_ISA` cannot be carried out,
    /// [`Error::OutOfMemory`].
    pub fn new(config: Lstm, input_size: usize, seed: u64) -> Result<Self> {
        Built::new(config.into(), input_size, seed).map(Self)
    }

    /// `h_next` and `c_next` from `x` `[batch, input_size]` and `h` and `c`; all states are `[batch, units]`.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] when a slice has another length than its shape, [`Error::InvalidArgument`] for a batch
    /// of 0, [`Error::OutOfMemory`]. Nothing is written then.
    pub fn step(
        &self,
        x: &[f32],
        [h, c]: [&[f32]; 2],
        batch: usize,
        [h_next, c_next]: [&mut [f32]; 2],
    ) -> Result<()> {
        self.step_from(x, [Some(h), Some(c)], batch, [h_next, c_next])
    }

    /// [`step`](Self::step) with the states replaced by the next ones.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_in_place(&self, x: &[f32], batch: usize, h: &mut [f32], c: &mut [f32]) -> Result<()> {
        self.step_from(x, [None, None], batch, [h, c])
    }

    /// [`step`](Self::step), each state before it standing in the array of the next one where it is none.
    pub(crate) fn step_from(
        &self,
        x: &[f32],
        states: [Option<&[f32]>; 2],
        batch: usize,
        next: [&mut [f32]; 2],
    ) -> Result<()> {
        self.0.check_input(x, batch)?;
        for ((before, after), [name, next_name]) in
            states.iter().zip(&next).zip([["h", "h_next"], ["c", "c_next"]])
        {
            if let Some(before) = before {
                self.0.check_state(name, before.len(), batch)?;
            }
            self.0.check_state(next_name, after.len(), batch)?;
        }
        self.0.run_gated(x, batch, states, next)
    }
}

/// Keras's GRUCell, built for an input width: `z, r = s(x·W + b + h·U)`, each with its columns,
/// `n = a(x·Wn + bᵢ + r·(h·Un + bᵣ))`, or `a(x·Wn + b + (r·h)·Un)` without `reset_after`, `h' = z·h + (1-z)·n`.
///
/// The cell keeps no state: the caller hands `h` from step to step. The bits are those of a [`Gru`] layer over the whole
/// sequence.
///
/// ```
/// use elman::{Gru, GruCell};
///
/// # fn main() -> Result<(), elman::Error> {
/// let cell = GruCell::new(Gru::new(64), 100, 42)?;
/// let mut h = vec![0.0; 8 * 64];
/// cell.step_in_place(&vec![0.1; 8 * 100], 8, &mut h)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct GruCell(Built);

impl GruCell {
    /// A cell with initial weights for rows of `input_size` features. Of `config` it uses what concerns one step.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for wrong numbers, [`Error::Unsupported`] when `ELMAN_ISA` cannot be carried out,
    /// [`Error::OutOfMemory`].
    pub fn new(config: Gru, input_size: usize, seed: u64) -> Result<Self> {
        Built::new(config.into(), input_size, seed).map(Self)
    }

    /// `h_next` `[batch, units]` from `x` `[batch, input_size]` and `h` `[batch, units]`.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] when a slice has another length than its shape, [`Error::InvalidArgument`] for a batch
    /// of 0, [`Error::OutOfMemory`]. Nothing is written then.
    pub fn step(&self, x: &[f32], h: &[f32], batch: usize, h_next: &mut [f32]) -> Result<()> {
        self.0.check_input(x, batch)?;
        self.0.check_state("h", h.len(), batch)?;
        self.0.check_state("h_next", h_next.len(), batch)?;
        self.0.run_gated(x, batch, [Some(h)], [h_next])
    }

    /// [`step`](Self::step) with the state replaced by the next one.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_in_place(&self, x: &[f32], batch: usize, h: &mut [f32]) -> Result<()> {
        self.0.check_input(x, batch)?;
        self.0.check_state("h", h.len(), batch)?;
        self.0.run_gated(x, batch, [None], [h])
    }
}
