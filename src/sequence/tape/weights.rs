//! The gradients of weights: sums over the rows of all parts, in the caller's order, by step and then by row.
//!
//! Threads share out the outputs, never a sum: some rows of the kernels' gradients each, the table's. The
//! gradients of a kernel and of a recurrent kernel are products with the same factor, and a bias's is the sum
//! of its rows.

use super::super::network::Network;
use super::super::parallel::Threads;
use super::backward::BackwardPart;
use super::steps::{each_position, list_offsets};
use super::{GradientSlot, Layout, Op, Part, add_row, looked_at, of_half, rnn_of};
use crate::dispatch::KernelSet;
use crate::error::Result;
use crate::gemm::{Copies, Left, Rows, Terms, multiply_over_rows};
use crate::layers::{Cell, Weight};
use crate::memory::{Few, List};

/// What the sums are made with.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// By task, where several run at the same time.
    scratch: List<Copies>,
    /// By operation: how its sums are shared out.
    cuts: List<Cut>,
    /// The caller's order of the rows of several parts: part and row.
    order: List<[u32; 2]>,
    /// That of one part's rows: where those of each factor begin.
    offsets: [List<usize>; LISTS],
    /// By part and row, the rows of the table that were read; and in the caller's order.
    ids: List<u32>,
    read: List<u32>,
    /// By row of the table, whether it is among those touched.
    seen: List<bool>,
}

/// Who makes the sums of an operation.
#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    /// Whether it is the caller alone, one after the other.
    alone: bool,
    /// Rows that a task makes, of those of the kernel's gradient and of the recurrent kernel's.
    rows: usize,
}

/// One output, or some rows of it.
enum Task<'a> {
    /// `aᵀ·b` for some rows of the kernel's gradient and of the recurrent kernel's; side by side where there
    /// are several.
    Products {
        products: &'a [Option<Products<Terms<'a>>>; MOST],
        rows: [SomeRows<'a>; 2],
        /// Rows of the bias, for the one task that makes them.
        bias: [&'a mut [f32]; 2],
        units: usize,
        columns: usize,
    },
    /// Each row added to the row of the table that it is the gradient of.
    Table { to: &'a mut [f32], read: &'a [u32], b: Terms<'a>, columns: usize },
}

/// Some rows of a matrix's gradient.
struct SomeRows<'a> {
    first: usize,
    to: &'a mut [f32],
}

/// Products that share their right factor, which give the columns of `gates` gates from gate `at` on.
#[derive(Clone, Copy)]
struct Products<F> {
    /// What the kernel's gradient and the recurrent kernel's are products of.
    lefts: [Option<F>; 2],
    b: F,
    at: usize,
    gates: usize,
    /// Rows of the bias that are sums of `b`'s rows.
    bias: [bool; 2],
}

/// Right factors that the gradients of an operation's weights have, at the most.
const MOST: usize = 4;

impl<F> Products<F> {
    /// With other factors.
    fn map<'a, G>(&'a self, factor: impl Fn(&'a F) -> G) -> Products<G> {
        let Products { lefts, b, at, gates, bias } = self;
        let lefts = lefts.each_ref().map(|left| left.as_ref().map(&factor));
        Products { lefts, b: factor(b), at: *at, gates: *gates, bias: *bias }
    }
}

impl SomeRows<'_> {
    /// These rows of a product, from column `at` of `columns` on.
    fn of<'a>(&'a mut self, terms: Option<Terms<'a>>, at: usize, columns: usize) -> Option<Left<'a>> {
        let terms = terms.filter(|_| !self.to.is_empty())?;
        let features = self.first..self.first + self.to.len() / columns;
        Some(Left { terms, features, c: &mut self.to[at..], c_stride: columns })
    }
}

impl Task<'_> {
    fn run(&mut self, kernels: &KernelSet, copies: &mut Copies) {
        match self {
            Task::Products { products, rows: [kernel, recurrent], bias, units, columns } => {
                for &Products { lefts: [of_kernel, of_recurrent], b, at, gates, bias: sums } in
                    products.iter().flatten()
                {
                    let here = at * *units..(at + gates) * *units;
                    let mut lefts = [
                        kernel.of(of_kernel, here.start, *columns),
                        recurrent.of(of_recurrent, here.start, *columns),
                    ];
                    let rows = bias.each_mut().map(|row| row.get_mut(here.clone()).unwrap_or_default());
                    let mut rows = rows.into_iter().zip(sums).filter_map(|(row, sum)| sum.then_some(row));
                    let sums = rows.next().unwrap_or_default();
                    if lefts.iter().all(Option::is_none) && sums.is_empty() {
                        continue;
                    }
                    multiply_over_rows(kernels, &mut lefts, (b, here.len()), sums, copies);
                    rows.for_each(|same| same.copy_from_slice(sums));
                }
            }
            Task::Table { to, read, b, columns } => {
                for (n, &id) in read.iter().enumerate() {
                    add_row(&mut to[id as usize * *columns..][..*columns], b.row(n));
                }
            }
        }
    }
}

impl Sums {
    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        let floats: usize = self.scratch.iter().map(Copies::len).sum();
        let offsets: usize = self.offsets.iter().map(|offsets| offsets.len()).sum();
        (floats + self.ids.len() + self.read.len()) * size_of::<f32>()
            + (offsets + self.order.len()) * size_of::<usize>()
            + self.seen.len()
    }

    /// Room for the sums of all operations over the rows of `parts`.
    pub(super) fn reserve(
        &mut self,
        network: &Network,
        threads: &Threads,
        parts: &[Part],
        touched: &mut List<u32>,
    ) -> Result<()> {
        let first = &parts[0];
        self.cuts.make_room(first.ops.len())?;
        let mut read = 0_usize;
        for op in first.ops.iter() {
            let table =
                |input: usize| network.embedding().filter(|_| first.values[input].layout == Layout::Source);
            let ends = ends(op).filter(|ends| op.layer_and_half().is_some() || table(ends.input).is_some());
            let Some(Ends { input, output, weights, gates }) = ends else {
                self.cuts.push(Cut::default());
                continue;
            };
            let value = &first.values[output];
            let terms: usize = parts.iter().map(|part| part.values[output].count(&part.plan.schedule)).sum();
            self.reserve_lists(parts, value.layout, terms)?;
            if let Some((embedding, _)) = table(input) {
                read = read.saturating_add(terms).min(embedding.vocabulary);
                self.ids.make_room(terms)?;
                self.read.make_room(terms)?;
                self.seen.reserve(embedding.vocabulary)?;
                // It still names the rows of the last time.
                touched.reserve(read)?;
            }
            let (features, units) = (first.values[input].features, value.features);
            let widths = match weights {
                Weights::None => [0, 0],
                Weights::Kernel => [features, 0],
                Weights::Both => [features, units],
            };
            let rows = widths[0] + widths[1];
            let cut = Cut::new(threads, rows, [terms, gates * units]);
            // A layer's gates may have products of their own.
            for columns in (1..=gates).map(|gates| gates * units) {
                self.reserve_tasks(first.plan.kernels, cut, [terms, rows, columns], parts.len() > 1)?;
            }
            self.cuts.push(cut);
        }
        Ok(())
    }

    /// Room for the order of `terms` rows of a layout.
    fn reserve_lists(&mut self, parts: &[Part], layout: Layout, terms: usize) -> Result<()> {
        if let [part] = parts {
            let len = if part.plan.order(layout).is_some() { terms } else { 0 };
            return self.offsets.iter_mut().try_for_each(|offsets| offsets.make_room(len));
        }
        let rows: usize = parts.iter().map(|part| part.rows.len()).sum();
        self.order.make_room(match layout {
            Layout::Last | Layout::Source => rows,
            Layout::Compact { .. } | Layout::Positions => rows.saturating_mul(parts[0].plan.schedule.steps),
        })
    }

    fn reserve_tasks(
        &mut self,
        kernels: &KernelSet,
        cut: Cut,
        [terms, rows, columns]: [usize; 3],
        packs: bool,
    ) -> Result<()> {
        let tasks = rows.div_ceil(cut.rows.max(1));
        for task in 0..tasks {
            let at = if cut.alone { 0 } else { task };
            self.scratch.grow_with(at + 1, Copies::empty)?;
            self.scratch[at].reserve(kernels, [terms, cut.rows, columns], packs)?;
        }
        // And the table.
        self.scratch.grow_with(if cut.alone { 1 } else { tasks + 1 }, Copies::empty)
    }

    /// Clears the gradient of an embedding where the last way back left something.
    pub(super) fn begin(
        &mut self,
        network: &Network,
        slots: &[GradientSlot],
        gradients: &mut [f32],
        touched: &mut List<u32>,
    ) {
        if let (Some((embedding, _)), Some(slot)) = (network.embedding(), slots.first()) {
            for &row in touched.iter() {
                gradients[slot.offset + row as usize * embedding.size..][..embedding.size].fill(0.0);
                self.seen[row as usize] = false;
            }
            touched.clear();
        }
    }

    /// The gradients of the weights of operation `at`, whose way back all parts have gone; there is
    /// [room](Self::reserve) for them.
    pub(super) fn make(
        &mut self,
        network: &Network,
        threads: &Threads,
        parts: &[BackwardPart<'_>],
        at: usize,
        (slots, gradients, touched): (&[GradientSlot], &mut [f32], &mut List<u32>),
    ) {
        let first = &*parts[0].part;
        let op = &first.ops[at];
        let Some(Ends { input, output, gates, .. }) = ends(op) else { return };
        let table = network.embedding().filter(|_| first.values[input].layout == Layout::Source);
        if op.layer_and_half().is_none() && table.is_none() {
            return;
        }
        let layout = first.values[output].layout;
        let (features, columns) = (first.values[input].features, gates * first.values[output].features);
        let kernels = first.plan.kernels;
        let Self { scratch, cuts, order, offsets: lists, ids, read, seen } = self;
        let cut = cuts[at];
        order.clear();
        if parts.len() > 1 {
            merge_orders(parts, layout, order);
        }
        let own = first.plan.order(layout);
        let sides = op.products();
        if let ([one], Some(own)) = (parts, own) {
            list_sides(network, one.part, at, own, (&sides, table.is_some()), lists);
        }
        let (order, lists) = (&order[..], &*lists);
        let factor = |&side: &Side| {
            let offsets = own.map(|_| &lists[side.list()][..]);
            (Factor::of(parts, |part| part.side(network, at, side)), offsets)
        };
        let factors = sides.each_ref().map(|of| of.as_ref().map(|of| of.map(factor)));
        let products = factors.each_ref().map(|of| {
            let of = of.as_ref()?;
            Some(of.map(|(factor, offsets)| factor.terms(*offsets, order)))
        });
        let (handed, offsets_of_handed) = factor(&Side::HandedDown);
        let handed = handed.terms(offsets_of_handed, order);
        let [kernel, recurrent, bias, embedding] = {
            let (layer, half) = op.layer_and_half().unwrap_or_default();
            let wanted = [Weight::Kernel, Weight::RecurrentKernel, Weight::Bias];
            let wanted = wanted.map(|which| (op.layer_and_half().map(|_| layer), of_half(which, half)));
            let table = table.and(slots.first()).map(|slot| slot.layer);
            slices(slots, gradients, [wanted[0], wanted[1], wanted[2], (table, Weight::Embedding)])
        };
        if let (Some((embedding, _)), true) = (table, embedding.is_some()) {
            list_ids(parts, output, (own, order), ids, read);
            note_touched(read, embedding.vocabulary, seen, touched);
        }

        let mut tasks = Few::new();
        let mut add = |mut task| match cut.alone {
            true => Task::run(&mut task, kernels, &mut scratch[0]),
            false => tasks.push(task),
        };
        let mut bias = halves(bias.unwrap_or_default(), columns);
        for rows in cut.share(kernel.unwrap_or_default(), recurrent.unwrap_or_default(), columns) {
            let bias = std::mem::take(&mut bias);
            add(Task::Products { products: &products, rows, bias, units: columns / gates, columns });
        }
        if let Some(to) = embedding {
            add(Task::Table { to, read, b: handed, columns: features });
        }
        if !cut.alone {
            let mut tasks: Few<_> = tasks.into_iter().zip(scratch.iter_mut()).collect();
            threads.for_each(usize::MAX, &mut tasks, |(task, copies)| task.run(kernels, copies));
        }
    }
}

impl Cut {
    /// For gradients of `rows` rows in all, sums of `terms` terms with `columns` columns.
    fn new(threads: &Threads, rows: usize, [terms, columns]: [usize; 2]) -> Self {
        let cost = terms.saturating_mul(columns).saturating_mul(rows);
        // Less gains nothing: two million took 0.138 ms with two threads for 0.119, seven million gain.
        let alone = threads.parts(2, cost / 2) == 1;
        let tasks = if alone { 1 } else { threads.parts(rows, cost) };
        Self { alone, rows: rows.div_ceil(tasks) }
    }

    /// What each task makes of the rows of two gradients.
    fn share<'a>(
        self,
        kernel: &'a mut [f32],
        recurrent: &'a mut [f32],
        columns: usize,
    ) -> impl Iterator<Item = [SomeRows<'a>; 2]> {
        let mut rest = [kernel, recurrent].map(|to| SomeRows { first: 0, to });
        std::iter::from_fn(move || {
            let mut room = self.rows * columns;
            let mine = rest.each_mut().map(|rest| {
                let all = std::mem::take(&mut rest.to);
                let (to, others) = all.split_at_mut(room.min(all.len()));
                let mine = SomeRows { first: rest.first, to };
                (rest.first, rest.to) = (rest.first + mine.to.len() / columns, others);
                room -= mine.to.len();
                mine
            });
            mine.iter().any(|rows| !rows.to.is_empty()).then_some(mine)
        })
    }
}

/// Both rows of a bias; the second one is empty where it has one.
fn halves(bias: &mut [f32], columns: usize) -> [&mut [f32]; 2] {
    let (first, second) = bias.split_at_mut(columns.min(bias.len()));
    [first, second]
}

/// Where the rows of an operation come from and go to, and which weights it has.
struct Ends {
    input: usize,
    output: usize,
    weights: Weights,
    /// Columns of the weights for each column of the output.
    gates: usize,
}

#[derive(Clone, Copy)]
enum Weights {
    None,
    Kernel,
    /// And a recurrent one.
    Both,
}

/// Of an operation that may have weights, or read the rows of a table.
fn ends(op: &Op) -> Option<Ends> {
    let (input, output, weights, gates) = match op {
        Op::Rnn(op) => (op.input, op.output, Weights::Both, op.cell.gates()),
        Op::Dense(op) => (op.input, op.output, Weights::Kernel, 1),
        Op::Dropout { input, output, .. } => (*input, *output, Weights::None, 1),
        Op::Expand { .. } | Op::Last { .. } | Op::LastPosition { .. } | Op::Merge { .. } => return None,
    };
    Some(Ends { input, output, weights, gates })
}

/// Rows of an operation that gradients of weights are sums over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// What gate `.0` reads.
    Input(usize),
    /// The states before each step, as gate `.0` reads them.
    State(usize),
    /// Those times r, where a GRU resets before.
    ResetState,
    /// The gradients of the sums of the input, from gate `.0` on.
    OfInput(usize),
    /// The gradients of the sums of the state.
    OfState(usize),
    /// The gradients of what the operation reads.
    HandedDown,
}

/// Lists of offsets that sides need.
const LISTS: usize = 5;

impl Side {
    /// One side for each list.
    const FIRST: [Side; LISTS] =
        [Side::Input(0), Side::State(0), Side::ResetState, Side::OfInput(0), Side::HandedDown];

    fn list(self) -> usize {
        match self {
            Side::Input(_) => 0,
            Side::State(_) => 1,
            Side::ResetState => 2,
            Side::OfInput(_) | Side::OfState(_) => 3,
            Side::HandedDown => 4,
        }
    }
}

impl Op {
    /// The products that the gradients of the kernel and of the recurrent kernel are made of.
    fn products(&self) -> [Option<Products<Side>>; MOST] {
        let op = match self {
            Op::Rnn(op) => op,
            Op::Dense(_) => {
                let lefts = [Some(Side::Input(0)), None];
                let all = Products { lefts, b: Side::OfInput(0), at: 0, gates: 1, bias: [true, false] };
                return [Some(all), None, None, None];
            }
            Op::Expand { .. }
            | Op::Last { .. }
            | Op::LastPosition { .. }
            | Op::Merge { .. }
            | Op::Dropout { .. } => return [None; MOST],
        };
        let mut products = [None; MOST];
        let mut add = {
            let mut free = products.iter_mut();
            move |of: Products<Side>| {
                *free.next().expect("one a gate, and one of a candidate's state") = Some(of)
            }
        };
        let gates = op.cell.gates();
        // What reads the same rows: a GRU's candidate has another state, or other gradients of it.
        let together = match (op.by_gate(), op.cell) {
            (true, _) => 1,
            (false, Cell::Gru { .. }) => gates - 1,
            (false, Cell::SimpleRnn | Cell::Lstm) => gates,
        };
        let mut at = 0;
        while at < gates {
            let here = if at + together > gates { gates - at } else { together };
            let candidate = at + 1 == gates;
            let gate = if op.by_gate() { at } else { 0 };
            let input = Some(Side::Input(if op.drops[0] { gate } else { 0 }));
            let (state, resets_after) = match op.cell {
                Cell::Gru { reset_after: false } if candidate => (Side::ResetState, false),
                Cell::Gru { reset_after } => (Side::State(gate), reset_after),
                Cell::SimpleRnn | Cell::Lstm => (Side::State(gate), false),
            };
            let of = |lefts, b, bias| Products { lefts, b, at, gates: here, bias };
            if resets_after && candidate {
                add(of([input, None], Side::OfInput(at), [true, false]));
                add(of([None, Some(state)], Side::OfState(at), [false, true]));
            } else {
                add(of([input, Some(state)], Side::OfInput(at), [true, resets_after]));
            }
            at += here;
        }
        products
    }
}

/// The rows of a factor, by part.
enum Factor<'a> {
    One(Rows<'a>),
    Many(Few<Rows<'a>>),
}

impl<'a> Factor<'a> {
    fn of(parts: &'a [BackwardPart<'_>], rows: impl Fn(&'a Part) -> Rows<'a>) -> Self {
        match parts {
            [one] => Self::One(rows(&*one.part)),
            many => Self::Many(many.iter().map(|one| rows(&*one.part)).collect()),
        }
    }

    /// In the caller's order: one part's rows at `offsets`, or as they are; those of several by `order`.
    fn terms<'b>(&'b self, offsets: Option<&'b [usize]>, order: &'b [[u32; 2]]) -> Terms<'b> {
        match (self, offsets) {
            (Self::One(rows), None) => Terms::Rows(*rows),
            (Self::One(rows), Some(offsets)) => {
                Terms::Rows(Rows::Scattered { values: rows.values(), offsets })
            }
            (Self::Many(parts), _) => Terms::Parts { parts, order },
        }
    }
}

const NO_ROWS: Rows<'static> = Rows::Strided { values: &[], stride: 0, count: 0 };

impl Part {
    /// Rows of operation `at`, none where it has no such side.
    fn side<'a>(&'a self, network: &'a Network, at: usize, side: Side) -> Rows<'a> {
        let (plan, scratch) = (&self.plan, &self.scratch);
        let source = || self.kept.source(network, plan.schedule.steps);
        let total = plan.schedule.total();
        let (op, rnn) = match &self.ops[at] {
            Op::Rnn(op) => (op, looked_at(rnn_of(&network.layers[op.layer], op.half))),
            Op::Dense(op) => {
                return match side {
                    Side::Input(_) => op.input_rows(plan, source(), &self.values[op.input]),
                    Side::OfInput(_) | Side::OfState(_) => self.gradient_of(op.output),
                    Side::HandedDown => self.handed_down([op.input, op.output]),
                    Side::State(_) | Side::ResetState => NO_ROWS,
                };
            }
            Op::Dropout { output, .. } => {
                return if side == Side::HandedDown { self.gradient_of(*output) } else { NO_ROWS };
            }
            Op::Expand { .. } | Op::Last { .. } | Op::LastPosition { .. } | Op::Merge { .. } => {
                return NO_ROWS;
            }
        };
        match (side, &op.gated) {
            (Side::Input(gate), _) => {
                op.input_rows(plan, source(), &self.values[op.input], &scratch.masked, gate)
            }
            (Side::State(gate), _) => op.states_before(plan, &self.values[op.output], scratch, gate),
            (Side::ResetState, Some(gated)) => gated.reset_states(rnn, total),
            (Side::ResetState, None) => NO_ROWS,
            (Side::OfInput(gate), Some(gated)) => gated.of_input(rnn, gate, total),
            (Side::OfState(gate), Some(gated)) => gated.of_state(rnn, gate, total),
            (Side::OfInput(_) | Side::OfState(_), None) => self.gradient_of(op.output),
            (Side::HandedDown, _) => self.handed_down([op.input, op.output]),
        }
    }

    /// The gradients of the rows that an operation reads, in the order of its results.
    fn handed_down(&self, [input, output]: [usize; 2]) -> Rows<'_> {
        let count = self.values[output].count(&self.plan.schedule);
        Rows::Strided { values: &self.scratch.rows, stride: self.values[input].stride, count }
    }

    /// The gradients of an operation's results.
    fn gradient_of(&self, output: usize) -> Rows<'_> {
        let value = &self.values[output];
        let (schedule, stride) = (&self.plan.schedule, value.stride);
        Rows::Strided {
            values: &value.gradient[value.lead(schedule)..],
            stride,
            count: value.count(schedule),
        }
    }
}

/// The caller's order of the rows of several parts.
fn merge_orders(parts: &[BackwardPart<'_>], layout: Layout, order: &mut List<[u32; 2]>) {
    const NONE: [u32; 2] = [u32::MAX; 2];
    let all: usize = parts.iter().map(|one| one.part.rows.len()).sum();
    for (p, one) in parts.iter().enumerate() {
        let (schedule, first) = (&one.part.plan.schedule, one.part.rows.start);
        let mut n = 0;
        match layout {
            Layout::Last | Layout::Source => order.extend((0..schedule.batch).map(|n| [p as u32, n as u32])),
            // One slot for each (time, row); the filled ones, in their order, are the answer.
            Layout::Compact { .. } | Layout::Positions => {
                order.resize(all * schedule.steps, NONE);
                each_position(schedule, layout, |position| {
                    order[position % schedule.steps * all + first + position / schedule.steps] =
                        [p as u32, n];
                    n += 1;
                });
            }
        }
    }
    order.retain(|&row| row != NONE);
}

/// Lists where the rows of an operation's factors begin in one part, in the caller's order `own`; of those
/// that are used, with the gradients handed down where `handed`. Sides with one list have the same offsets, in
/// arrays of their own.
fn list_sides(
    network: &Network,
    part: &Part,
    at: usize,
    own: &[usize],
    (products, handed): (&[Option<Products<Side>>; MOST], bool),
    lists: &mut [List<usize>; LISTS],
) {
    let used = |list| {
        let mut all = products.iter().flatten().flat_map(|of| of.lefts.into_iter().flatten().chain([of.b]));
        all.any(|side| side.list() == list)
    };
    for (list, (side, offsets)) in Side::FIRST.into_iter().zip(lists.iter_mut()).enumerate() {
        if used(list) || (handed && side == Side::HandedDown) {
            list_offsets(part.side(network, at, side), own, offsets);
        }
    }
}

/// Adds the rows of the table that were read to those touched, each once.
fn note_touched(read: &[u32], vocabulary: usize, seen: &mut List<bool>, touched: &mut List<u32>) {
    seen.resize(vocabulary, false);
    for &id in read {
        if !std::mem::replace(&mut seen[id as usize], true) {
            touched.push(id);
        }
    }
}

/// Which rows of the table the rows of an operation are, in the caller's order.
fn list_ids(
    parts: &[BackwardPart<'_>],
    output: usize,
    (own, order): (Option<&[usize]>, &[[u32; 2]]),
    ids: &mut List<u32>,
    read: &mut List<u32>,
) {
    ids.clear();
    let part = |one: &BackwardPart<'_>, ids: &mut List<u32>| {
        let Part { kept, plan, values, .. } = &*one.part;
        each_position(&plan.schedule, values[output].layout, |position| ids.push(kept.ids[position] as u32));
    };
    parts.iter().for_each(|one| part(one, ids));
    read.clear();
    match (parts, own) {
        ([_], None) => read.extend(ids.iter().copied()),
        ([_], Some(own)) => read.extend(own.iter().map(|&n| ids[n])),
        (many, _) => {
            let count = |one: &BackwardPart<'_>| one.part.values[output].count(&one.part.plan.schedule);
            let start = |p: usize| many[..p].iter().map(count).sum::<usize>();
            let starts: Few<usize> = (0..many.len()).map(start).collect();
            read.extend(order.iter().map(|&[p, n]| ids[starts[p as usize] + n as usize]));
        }
    }
}

/// Some weights' gradients at once.
fn slices<'a, const N: usize>(
    slots: &[GradientSlot],
    gradients: &'a mut [f32],
    wanted: [(Option<usize>, Weight); N],
) -> [Option<&'a mut [f32]>; N] {
    let mut found = [const { None }; N];
    let mut rest = gradients;
    // Slots stand in the order of the gradients, without gaps.
    for slot in slots {
        let (here, others) = rest.split_at_mut(slot.shape[0] * slot.shape[1]);
        rest = others;
        if let Some(i) =
            wanted.iter().position(|&(layer, which)| layer == Some(slot.layer) && which == slot.which)
        {
            found[i] = Some(here);
        }
    }
    found
}
