//! The gradients of weights: sums over the rows of all parts, in the caller's order, by step and then by row.
//!
//! Threads share out the outputs, never a sum: some rows of a kernel's gradient each, the bias's, the table's.

use super::super::network::Network;
use super::super::parallel::Threads;
use super::backward::Job;
use super::steps::{each_place, list_places};
use super::{Layout, Op, Part, Place, add_row, looked_at, of_half, rnn_of};
use crate::dispatch::KernelSet;
use crate::error::Result;
use crate::gemm::{Copies, Rows, Terms, multiply_over_rows};
use crate::layers::{Cell, Weight};
use crate::memory::{AlignedVec, Few, List, row_stride};

/// What the sums are made with.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// By task, where several run at the same time.
    scratch: List<Scratch>,
    /// By operation: how its sums are shared out.
    cuts: List<Cut>,
    /// The caller's order of the rows of several parts: part and row.
    order: List<[u32; 2]>,
    /// That of one part's rows: where those of each factor begin.
    places: [List<usize>; LISTS],
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
    /// Rows of the kernel's gradient that a task makes, and of the recurrent kernel's.
    rows: [usize; 2],
}

#[derive(Debug)]
struct Scratch {
    /// With padded rows.
    product: AlignedVec,
    copies: Copies,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { product: AlignedVec::empty(), copies: Copies::empty() }
    }
}

/// One output, or some rows of it.
struct Task<'a> {
    sum: Sum<'a>,
    to: &'a mut [f32],
}

#[derive(Clone, Copy)]
enum Sum<'a> {
    /// `aᵀ·b` for some features of `a`, from `first` on; side by side where there are several.
    Products { products: &'a [Option<Product<'a>>; MOST], first: usize, columns: usize },
    /// The sums of all rows, a row of the bias each.
    Bias { rows: [Option<Terms<'a>>; 2], columns: usize },
    /// Each row added to the row of the table that it is the gradient of.
    Table { read: &'a [u32], b: Terms<'a>, columns: usize },
}

/// Products that a matrix of gradients is made of, at the most: one a gate.
const MOST: usize = 4;

/// `aᵀ·b`, which gives `columns` columns from column `at` on.
#[derive(Clone, Copy)]
struct Product<'a> {
    a: Terms<'a>,
    b: Terms<'a>,
    columns: usize,
    at: usize,
}

impl Task<'_> {
    fn run(&mut self, kernels: &KernelSet, scratch: &mut Scratch) {
        match self.sum {
            Sum::Products { products, first, columns: all } => {
                let rows = self.to.len() / all;
                for &Product { a, b, columns, at } in products.iter().flatten() {
                    let stride = row_stride(columns);
                    let Scratch { product, copies } = scratch;
                    let a = (a, first..first + rows);
                    multiply_over_rows(kernels, a, (b, columns), product, stride, copies);
                    for (to, from) in self.to.chunks_exact_mut(all).zip(product.chunks_exact(stride)) {
                        to[at..at + columns].copy_from_slice(&from[..columns]);
                    }
                }
            }
            Sum::Bias { rows, columns } => {
                self.to.fill(0.0);
                for (to, b) in self.to.chunks_exact_mut(columns).zip(rows.iter().flatten()) {
                    (0..b.count()).for_each(|n| add_row(to, b.row(n)));
                }
            }
            Sum::Table { read, b, columns } => {
                for (n, &id) in read.iter().enumerate() {
                    add_row(&mut self.to[id as usize * columns..][..columns], b.row(n));
                }
            }
        }
    }
}

impl Sums {
    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        let floats: usize =
            self.scratch.iter().map(|scratch| scratch.product.len() + scratch.copies.len()).sum();
        let places: usize = self.places.iter().map(|places| places.len()).sum();
        (floats + self.ids.len() + self.read.len()) * size_of::<f32>()
            + (places + self.order.len()) * size_of::<usize>()
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
            let ends = ends(op).filter(|ends| op.place().is_some() || table(ends.input).is_some());
            let Some(Ends { input, output, weights, gates }) = ends else {
                self.cuts.push(Cut::default());
                continue;
            };
            let value = &first.values[output];
            let terms: usize = parts.iter().map(|part| part.values[output].count(&part.plan.work)).sum();
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
            let cut = Cut::new(threads, widths, [terms, gates * units]);
            // A layer's gates may have products of their own.
            for columns in (1..=gates).map(|gates| gates * units) {
                self.reserve_tasks(first.plan.kernels, cut, widths, (columns, parts.len() > 1))?;
            }
            self.cuts.push(cut);
        }
        Ok(())
    }

    /// Room for the order of `terms` rows of a layout.
    fn reserve_lists(&mut self, parts: &[Part], layout: Layout, terms: usize) -> Result<()> {
        if let [part] = parts {
            let len = if part.plan.order(layout).is_some() { terms } else { 0 };
            return self.places.iter_mut().try_for_each(|places| places.make_room(len));
        }
        let rows: usize = parts.iter().map(|part| part.rows.len()).sum();
        self.order.make_room(match layout {
            Layout::Last | Layout::Source => rows,
            Layout::Compact { .. } | Layout::Positions => rows.saturating_mul(parts[0].plan.work.steps),
        })
    }

    fn reserve_tasks(
        &mut self,
        kernels: &KernelSet,
        cut: Cut,
        widths: [usize; 2],
        (columns, packs): (usize, bool),
    ) -> Result<()> {
        let mut task = 0;
        for (width, rows) in widths.into_iter().zip(cut.rows) {
            for _ in (0..width).step_by(rows.max(1)) {
                let at = if cut.alone { 0 } else { task };
                self.scratch.grow_with(at + 1, Scratch::default)?;
                let Scratch { product, copies } = &mut self.scratch[at];
                product.reserve_rows(rows, row_stride(columns))?;
                copies.reserve(kernels, rows, columns, packs)?;
                task += 1;
            }
        }
        // The bias, and the table.
        self.scratch.grow_with(if cut.alone { 1 } else { task + 2 }, Scratch::default)
    }

    /// Clears the gradient of an embedding where the last way back left something.
    pub(super) fn begin(
        &mut self,
        network: &Network,
        places: &[Place],
        gradients: &mut [f32],
        touched: &mut List<u32>,
    ) {
        if let (Some((embedding, _)), Some(place)) = (network.embedding(), places.first()) {
            for &row in touched.iter() {
                gradients[place.offset + row as usize * embedding.size..][..embedding.size].fill(0.0);
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
        jobs: &[Job<'_>],
        at: usize,
        (places, gradients, touched): (&[Place], &mut [f32], &mut List<u32>),
    ) {
        let first = &*jobs[0].part;
        let op = &first.ops[at];
        let Some(Ends { input, output, gates, .. }) = ends(op) else { return };
        let table = network.embedding().filter(|_| first.values[input].layout == Layout::Source);
        if op.place().is_none() && table.is_none() {
            return;
        }
        let layout = first.values[output].layout;
        let (features, columns) = (first.values[input].features, gates * first.values[output].features);
        let kernels = first.plan.kernels;
        let Self { scratch, cuts, order, places: lists, ids, read, seen } = self;
        let Cut { alone, rows: cut_rows } = cuts[at];
        order.clear();
        if jobs.len() > 1 {
            merge_orders(jobs, layout, order);
        }
        let own = first.plan.order(layout);
        let pairs = op.pairs();
        if let ([job], Some(own)) = (jobs, own) {
            // Sides with one list have the same places, in arrays of their own.
            let used = |list| {
                pairs.iter().flatten().flatten().any(|pair| pair.sides.iter().any(|side| side.list() == list))
            };
            for (list, (side, places)) in Side::FIRST.into_iter().zip(lists.iter_mut()).enumerate() {
                if used(list) || (side == Side::HandedDown && table.is_some()) {
                    list_places(job.part.side(network, at, side), own, places);
                }
            }
        }
        let (order, lists) = (&order[..], &*lists);
        let factor = |side: Side| {
            let places = own.map(|_| &lists[side.list()][..]);
            (Factor::of(jobs, |part| part.side(network, at, side)), places)
        };
        let factors = pairs.map(|pairs| pairs.map(|pair| pair.map(|pair| pair.sides.map(factor))));
        let units = columns / gates;
        let products = [0, 1].map(|matrix| {
            std::array::from_fn::<_, MOST, _>(|i| {
                let (pair, [a, b]) = (pairs[matrix][i]?, factors[matrix][i].as_ref()?);
                let [a, b] = [a, b].map(|(factor, places)| factor.terms(*places, order));
                Some(Product { a, b, columns: pair.gates * units, at: pair.at * units })
            })
        });
        let of_bias = op.bias_sides().map(|side| side.map(factor));
        let bias_rows = of_bias.each_ref().map(|row| {
            let (factor, places) = row.as_ref()?;
            Some(factor.terms(*places, order))
        });
        let (handed, places_of_handed) = factor(Side::HandedDown);
        let handed = handed.terms(places_of_handed, order);
        let [kernel, recurrent, bias, embedding] = {
            let (layer, half) = op.place().unwrap_or_default();
            let wanted = [Weight::Kernel, Weight::RecurrentKernel, Weight::Bias];
            let wanted = wanted.map(|which| (op.place().map(|_| layer), of_half(which, half)));
            let table = table.and(places.first()).map(|place| place.layer);
            slices(places, gradients, [wanted[0], wanted[1], wanted[2], (table, Weight::Embedding)])
        };
        if embedding.is_some() {
            list_ids(jobs, output, (own, order), ids, read);
        }

        if let Some((embedding, _)) = table {
            seen.resize(embedding.vocabulary, false);
            for &id in read.iter() {
                if !std::mem::replace(&mut seen[id as usize], true) {
                    touched.push(id);
                }
            }
        }

        let mut tasks = Few::new();
        let mut add = |sum, to| {
            let mut task = Task { sum, to };
            if alone {
                task.run(kernels, &mut scratch[0]);
            } else {
                tasks.push(task);
            }
        };
        for ((products, rows), to) in products.iter().zip(cut_rows).zip([kernel, recurrent]) {
            let Some(to) = to else { continue };
            for (i, to) in to.chunks_mut(rows * columns).enumerate() {
                add(Sum::Products { products, first: i * rows, columns }, to);
            }
        }
        if let Some(to) = bias {
            add(Sum::Bias { rows: bias_rows, columns }, to);
        }
        if let Some(to) = embedding {
            add(Sum::Table { read, b: handed, columns: features }, to);
        }
        if !alone {
            let mut tasks: Few<_> = tasks.into_iter().zip(scratch.iter_mut()).collect();
            threads.for_each(usize::MAX, &mut tasks, |(task, scratch)| task.run(kernels, scratch));
        }
    }
}

impl Cut {
    /// For gradients of `widths` rows each, sums of `terms` terms with `columns` columns.
    fn new(threads: &Threads, widths: [usize; 2], [terms, columns]: [usize; 2]) -> Self {
        let cost = terms.saturating_mul(columns);
        // Less gains nothing: two million took 0.138 ms with two threads for 0.119, seven million gain.
        let alone = threads.parts(2, cost.saturating_mul(widths[0] + widths[1]) / 2) == 1;
        let rows = |width: usize| width.div_ceil(threads.parts(width, cost.saturating_mul(width)));
        Self { alone, rows: widths.map(rows) }
    }
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

/// Lists of places that sides need.
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

/// A product of two sides, which gives the columns of `gates` gates from gate `at` on.
#[derive(Clone, Copy)]
struct Pair {
    sides: [Side; 2],
    gates: usize,
    at: usize,
}

impl Op {
    /// The products that the gradients of the kernel and of the recurrent kernel are made of.
    fn pairs(&self) -> [[Option<Pair>; MOST]; 2] {
        let whole = |a, b, gates| {
            let mut pairs = [None; MOST];
            pairs[0] = Some(Pair { sides: [a, b], gates, at: 0 });
            pairs
        };
        let op = match self {
            Op::Rnn(op) => op,
            Op::Dense(_) => return [whole(Side::Input(0), Side::OfInput(0), 1), [None; MOST]],
            Op::Expand { .. }
            | Op::Last { .. }
            | Op::LastPosition { .. }
            | Op::Merge { .. }
            | Op::Dropout { .. } => {
                return [[None; MOST]; 2];
            }
        };
        let gates = op.cell.gates();
        let by_gate = |pair: fn(usize) -> [Side; 2]| {
            std::array::from_fn(|at| (at < gates).then(|| Pair { sides: pair(at), gates: 1, at }))
        };
        let kernel = match op.by_gate() && op.drops[0] {
            true => by_gate(|gate| [Side::Input(gate), Side::OfInput(gate)]),
            false => whole(Side::Input(0), Side::OfInput(0), gates),
        };
        let mut recurrent = match op.by_gate() {
            true => by_gate(|gate| [Side::State(gate), Side::OfState(gate)]),
            false => whole(Side::State(0), Side::OfState(0), gates),
        };
        if op.cell == (Cell::Gru { reset_after: false }) {
            let last = gates - 1;
            if let [Some(Pair { gates, .. }), None, ..] = &mut recurrent {
                *gates = last;
            }
            let sides = [Side::ResetState, Side::OfState(last)];
            recurrent[last] = Some(Pair { sides, gates: 1, at: last });
        }
        [kernel, recurrent]
    }

    /// What is summed for each row of the bias.
    fn bias_sides(&self) -> [Option<Side>; 2] {
        let two = matches!(self, Op::Rnn(op) if op.cell == (Cell::Gru { reset_after: true }));
        [Some(Side::OfInput(0)), two.then_some(Side::OfState(0))]
    }
}

/// The rows of a factor, by part.
enum Factor<'a> {
    One(Rows<'a>),
    Many(Few<Rows<'a>>),
}

impl<'a> Factor<'a> {
    fn of(jobs: &'a [Job<'_>], rows: impl Fn(&'a Part) -> Rows<'a>) -> Self {
        match jobs {
            [one] => Self::One(rows(&*one.part)),
            many => Self::Many(many.iter().map(|job| rows(&*job.part)).collect()),
        }
    }

    /// In the caller's order: one part's rows at `places`, or as they are; those of several by `order`.
    fn terms<'b>(&'b self, places: Option<&'b [usize]>, order: &'b [[u32; 2]]) -> Terms<'b> {
        match (self, places) {
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
        let source = || self.kept.source(network, plan.work.steps);
        let total = plan.work.total();
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
        let count = self.values[output].count(&self.plan.work);
        Rows::Strided { values: &self.scratch.rows, stride: self.values[input].stride, count }
    }

    /// The gradients of an operation's results.
    fn gradient_of(&self, output: usize) -> Rows<'_> {
        let value = &self.values[output];
        let (work, stride) = (&self.plan.work, value.stride);
        Rows::Strided { values: &value.gradient[value.lead(work)..], stride, count: value.count(work) }
    }
}

/// The caller's order of the rows of several parts.
fn merge_orders(jobs: &[Job<'_>], layout: Layout, order: &mut List<[u32; 2]>) {
    const NONE: [u32; 2] = [u32::MAX; 2];
    let all: usize = jobs.iter().map(|job| job.part.rows.len()).sum();
    for (p, job) in jobs.iter().enumerate() {
        let (work, first) = (&job.part.plan.work, job.part.rows.start);
        let mut n = 0;
        match layout {
            Layout::Last | Layout::Source => order.extend((0..work.batch).map(|n| [p as u32, n as u32])),
            // One slot for each (time, row); the filled ones, in their order, are the answer.
            Layout::Compact { .. } | Layout::Positions => {
                order.resize(all * work.steps, NONE);
                each_place(work, layout, |place| {
                    order[place % work.steps * all + first + place / work.steps] = [p as u32, n];
                    n += 1;
                });
            }
        }
    }
    order.retain(|&row| row != NONE);
}

/// Which rows of the table the rows of an operation are, in the caller's order.
fn list_ids(
    jobs: &[Job<'_>],
    output: usize,
    (own, order): (Option<&[usize]>, &[[u32; 2]]),
    ids: &mut List<u32>,
    read: &mut List<u32>,
) {
    ids.clear();
    let part = |job: &Job<'_>, ids: &mut List<u32>| {
        let Part { kept, plan, values, .. } = &*job.part;
        each_place(&plan.work, values[output].layout, |place| ids.push(kept.ids[place] as u32));
    };
    jobs.iter().for_each(|job| part(job, ids));
    read.clear();
    match (jobs, own) {
        ([_], None) => read.extend(ids.iter().copied()),
        ([_], Some(own)) => read.extend(own.iter().map(|&n| ids[n])),
        (many, _) => {
            let count = |job: &Job<'_>| job.part.values[output].count(&job.part.plan.work);
            let start = |p: usize| many[..p].iter().map(count).sum::<usize>();
            let starts: Few<usize> = (0..many.len()).map(start).collect();
            read.extend(order.iter().map(|&[p, n]| ids[starts[p as usize] + n as usize]));
        }
    }
}

/// Some weights' gradients at once.
fn slices<'a, const N: usize>(
    places: &[Place],
    gradients: &'a mut [f32],
    wanted: [(Option<usize>, Weight); N],
) -> [Option<&'a mut [f32]>; N] {
    let mut found = [const { None }; N];
    let mut rest = gradients;
    // Places stand in the order of the gradients, without gaps.
    for place in places {
        let (here, others) = rest.split_at_mut(place.shape[0] * place.shape[1]);
        rest = others;
        if let Some(i) =
            wanted.iter().position(|&(layer, which)| layer == Some(place.layer) && which == place.which)
        {
            found[i] = Some(here);
        }
    }
    found
}
