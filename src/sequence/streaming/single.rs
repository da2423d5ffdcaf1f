//! One step of one row, prepared when a stream is made.
//!
//! A sample of sound passes a small network in some fifty nanoseconds, and looking up each layer's matrices,
//! sizes and buffers takes as long again. They are the same at every step. So the kernels' calls that make a
//! step are listed once, with every address in them, and a step is a walk over the list.
//!
//! # Bits
//! The list has the calls that the drivers make for one row, in their order: see [`carry`](cells::carry) and
//! [`fully_connected`](crate::sequence::pipeline::fully_connected).
//!
//! # Addresses
//! They lead into the stream's own memory and into the packed weights of the network that the stream keeps;
//! both stay where they are, whoever moves the handles.

use std::mem::MaybeUninit;

use super::super::cells::{self, has_lone_steps};
use super::super::network::Network;
use super::super::walk::ending;
use super::plan::{Plan, Room, buffer_len};
use crate::dispatch::{ApplyFn, Block, Epilogue, Function, LoneFn, StepsFn, lone};
use crate::gemm::{PackedMatrix, calls_of_lone_row, for_lone_row};
use crate::layers::{Packed, PackedCell, PackedDense, PackedRnn};
use crate::memory::{LINE, Number, row_stride};

/// A call that a step is made of.
#[derive(Clone, Copy)]
enum Action {
    /// A product of the row with a panel, or with several at once.
    Product(StepsFn, Block),
    /// A gated cell's step.
    Cell(LoneFn, lone::Steps),
    /// A function over so many floats, in place.
    Apply(ApplyFn, Function, *mut f32, usize),
    /// So many cache lines, from one place to another.
    Copy(*const f32, *mut f32, usize),
}

/// Room for an action.
#[derive(Clone, Copy)]
pub(crate) struct Slot(MaybeUninit<Action>);

// SAFETY: an action is plain bits. Its addresses lead to the memory of one stream, which whoever has the slot
// has too, and to weights that nobody changes.
unsafe impl Send for Slot {}
// SAFETY: as above; a shared slot is not even read.
unsafe impl Sync for Slot {}
// SAFETY: any bits are a value of `MaybeUninit`, and an action has pointers, numbers and nothing that is
// aligned to more.
unsafe impl Number for Slot {}

/// What is known of the list of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Single {
    /// How many slots hold an action.
    count: usize,
    /// How many of the first ones read the input.
    readers: usize,
    /// Where the output row begins in the stream's floats.
    output: usize,
}

/// The floats of a stream, while its actions are listed.
struct Listing<F> {
    /// Where they begin; null while actions are counted.
    floats: *mut f32,
    actions: F,
    count: usize,
    readers: usize,
}

/// Where a row is.
#[derive(Clone, Copy)]
enum Row {
    /// The input, whose address every call brings.
    Input,
    /// So far into the stream's floats.
    At(usize),
}

impl Single {
    /// How many actions a step has; none where it cannot be listed: for a model that reads tokens, can be
    /// masked, has several rows, a cell or function without a kernel for a lone row, or a matrix that is
    /// walked forwards and backwards in turn.
    pub(super) fn count(network: &Network, plan: &Plan) -> usize {
        Self::list(network, plan, std::ptr::null_mut(), |_| ()).map_or(0, |single| single.count)
    }

    /// Lists the actions of a stream of `plan` whose floats begin at `floats`, as many as
    /// [`count`](Self::count) says, which are some.
    pub(super) fn new(network: &Network, plan: &Plan, floats: *mut f32, slots: &mut [Slot]) -> Option<Self> {
        let mut slots = slots.iter_mut();
        Self::list(network, plan, floats, |action| {
            slots.next().expect("as many as were counted").0.write(action);
        })
    }

    fn list(network: &Network, plan: &Plan, floats: *mut f32, actions: impl FnMut(Action)) -> Option<Self> {
        if !plan.is_single() {
            return None;
        }
        let mut listing = Listing { floats, actions, count: 0, readers: 0 };
        let (mut row, mut at) = (Row::Input, 0);
        for (i, layer) in network.layers.iter().enumerate() {
            if i == network.head.start {
                at = plan.head_start();
            }
            row = match &layer.packed {
                Packed::Rnn(rnn) => listing.recurrent(rnn, &Room::of(rnn, plan), row, at)?,
                Packed::Dense(dense) => listing.dense(dense, row, at)?,
                // They do nothing to one step of floats.
                Packed::Plain => row,
                Packed::Both(_) => return None,
            };
            let of_head = i >= network.head.start;
            at += if of_head { row_stride(layer.output.features) } else { buffer_len(layer, plan) };
        }
        let Row::At(output) = row else { return None };
        Some(Self { count: listing.count, readers: listing.readers, output })
    }

    /// Carries out a step, and says where the output row begins in the stream's floats.
    ///
    /// # Safety
    /// The slots must be those that [`new`](Self::new) filled, with the same network, whose weights must
    /// still be there, and with the floats, which nobody may use meanwhile. `x` must have the network's
    /// features.
    #[inline(always)]
    pub(super) unsafe fn run(&self, slots: &mut [Slot], x: &[f32]) -> usize {
        for (i, slot) in slots[..self.count].iter_mut().enumerate() {
            // SAFETY: `new` wrote `count` actions.
            let action = unsafe { slot.0.assume_init_mut() };
            // SAFETY: `list` took the kernels from this process's table, and gave them rows, matrices, bias
            // and results that have the sizes of their layers: those of floats as the plan cut them up, see
            // there; the input's are the caller's promise. An action's results overlap nothing that it reads,
            // but that a product's are its initial values, or, where it is one call, its row.
            unsafe {
                match action {
                    Action::Product(kernel, block) => {
                        if i < self.readers {
                            block.a = x.as_ptr();
                        }
                        kernel(block, &[1]);
                    }
                    Action::Cell(kernel, steps) => {
                        if i < self.readers {
                            steps.input.x = x.as_ptr();
                        }
                        kernel(steps);
                        // Weights beyond the first cache are walked forwards and backwards in turn.
                        steps.odd = !steps.odd;
                    }
                    Action::Apply(kernel, function, values, columns) => {
                        kernel(*function, *values, 1, *columns, 0);
                    }
                    Action::Copy(from, to, lines) => {
                        for line in 0..*lines {
                            to.cast::<[f32; LINE]>()
                                .add(line)
                                .write(from.cast::<[f32; LINE]>().add(line).read());
                        }
                    }
                }
            }
        }
        self.output
    }
}

impl<F: FnMut(Action)> Listing<F> {
    fn push(&mut self, action: Action) {
        (self.actions)(action);
        self.count += 1;
    }

    /// Null for the input, and while actions are counted.
    fn address(&self, row: Row) -> *mut f32 {
        match row {
            Row::Input => std::ptr::null_mut(),
            Row::At(at) => self.floats.wrapping_add(at),
        }
    }

    /// What has been pushed are the readers of the input, where `row` is that.
    fn has_read(&mut self, row: Row) {
        if let Row::Input = row {
            self.readers = self.count;
        }
    }

    /// `c = init + row·matrix`, of a step that a function of the sums may end.
    fn product(&mut self, matrix: &PackedMatrix, block: Block, epilogue: Epilogue) -> Option<()> {
        for_lone_row(matrix, block, epilogue, |kernel, block| self.push(Action::Product(kernel, block)))
    }

    /// A recurrent layer whose floats begin at `at`: the new state's row.
    fn recurrent(&mut self, rnn: &PackedRnn, room: &Room, x: Row, at: usize) -> Option<Row> {
        let (state, slot) = (Row::At(at), Row::At(at + room.states));
        let (h, sums) = (self.address(state), self.address(slot));
        let PackedCell::SimpleRnn(function) = &rnn.cell else {
            if !has_lone_steps(rnn) {
                return None;
            }
            let c = self.address(Row::At(at + room.states + room.rows));
            let (kernel, steps) = cells::lone_step(rnn, cells::input_of(rnn, self.address(x)), [h, sums], c);
            self.push(Action::Cell(kernel, lone::Steps { in_place: true, ..steps }));
            self.has_read(x);
            return Some(state);
        };
        let matrix = &rnn.recurrent;
        let columns = matrix.padded_columns();
        let input = Block {
            a: self.address(x),
            init: rnn.bias.as_ptr(),
            c: sums,
            c_stride: columns,
            ..rnn.kernel.block()
        };
        self.product(&rnn.kernel, input, Epilogue::Keep)?;
        self.has_read(x);
        // One call has read all of the state before it writes the first of the next.
        let in_place = calls_of_lone_row(matrix)? == 1;
        let next = if in_place { h } else { sums };
        let (epilogue, after) = ending(*function);
        let step = Block { a: h, init: sums, c: next, c_stride: columns, ..matrix.block() };
        self.product(matrix, step, epilogue)?;
        if let Some(function) = after {
            self.push(Action::Apply(matrix.kernels().apply_state, function, next, columns));
        }
        if in_place {
            return Some(state);
        }
        self.push(Action::Copy(sums, h, row_stride(rnn.units()) / LINE));
        Some(slot)
    }

    /// A fully connected layer whose floats begin at `at`: its result.
    fn dense(&mut self, dense: &PackedDense, x: Row, at: usize) -> Option<Row> {
        let (matrix, y) = (&dense.kernel, self.address(Row::At(at)));
        let columns = matrix.padded_columns();
        // Softmax needs more than a kernel.
        let function = dense.function?;
        let block = Block {
            a: self.address(x),
            init: dense.bias.as_ptr(),
            c: y,
            c_stride: columns,
            ..matrix.block()
        };
        self.product(matrix, block, Epilogue::Keep)?;
        self.has_read(x);
        if function != Function::Linear {
            self.push(Action::Apply(matrix.kernels().apply, function, y, matrix.columns()));
        }
        Some(Row::At(at))
    }
}
