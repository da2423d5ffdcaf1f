//! The gradients of weights: sums over the rows of all parts, in the caller's order, by step and then by row.
//!
//! Threads share out the outputs, never a sum: some rows of a kernel's gradient each, the bias's, the table's.

use super::super::network::Network;
use super::super::parallel::Threads;
use super::backward::Job;
use super::steps::{each_place, ordered};
use super::{Layout, Op, Part, Place, add_row, of_half};
use crate::dispatch::KernelSet;
use crate::error::Result;
use crate::gemm::{Copies, Rows, Terms, multiply_over_rows};
use crate::layers::Weight;
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
    places: [List<usize>; 4],
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
    /// `aᵀ·b` for some features of `a`, from `first` on.
    Product { a: Terms<'a>, first: usize, b: Terms<'a>, columns: usize },
    /// The sum of all rows.
    Bias { b: Terms<'a> },
    /// Each row added to the row of the table that it is the gradient of.
    Table { read: &'a [u32], b: Terms<'a>, columns: usize },
}

impl Task<'_> {
    fn run(&mut self, kernels: &KernelSet, scratch: &mut Scratch) {
        match self.sum {
            Sum::Product { a, first, b, columns } => {
                let rows = self.to.len() / columns;
                let stride = row_stride(columns);
                let Scratch { product, copies } = scratch;
                let a = (a, first..first + rows);
                multiply_over_rows(kernels, a, (b, columns), product, stride, copies);
                for (to, from) in self.to.chunks_exact_mut(columns).zip(product.chunks_exact(stride)) {
                    to.copy_from_slice(&from[..columns]);
                }
            }
            Sum::Bias { b } => {
                self.to.fill(0.0);
                (0..b.count()).for_each(|n| add_row(self.to, b.row(n)));
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
            let Some(Ends { input, output, weights }) = ends else {
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
            let (features, columns) = (first.values[input].features, value.features);
            let widths = match weights {
                Weights::None => [0, 0],
                Weights::Kernel => [features, 0],
                Weights::Both => [features, columns],
            };
            let cut = Cut::new(threads, widths, [terms, columns]);
            self.reserve_tasks(first.plan.kernels, cut, widths, (columns, parts.len() > 1))?;
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
        let Some(Ends { input, output, .. }) = ends(op) else { return };
        let table = network.embedding().filter(|_| first.values[input].layout == Layout::Source);
        if op.place().is_none() && table.is_none() {
            return;
        }
        let layout = first.values[output].layout;
        let (features, columns) = (first.values[input].features, first.values[output].features);
        let kernels = first.plan.kernels;
        let Self { scratch, cuts, order, places: [of_x, of_z, of_h, of_table], ids, read, seen } = self;
        let Cut { alone, rows: cut_rows } = cuts[at];
        order.clear();
        if jobs.len() > 1 {
            merge_orders(jobs, layout, order);
        }
        let x = Factor::of(jobs, |part| part.input_of(network, at));
        let z = Factor::of(jobs, |part| gradient_of(part, output));
        let h = Factor::of(jobs, |part| part.states_before(at));
        let handed = Factor::of(jobs, |part| part.handed_down(at));
        let own = first.plan.order(layout);
        let (x, z) = (x.terms(own, order, of_x), z.terms(own, order, of_z));
        let (h, handed) = (h.terms(own, order, of_h), handed.terms(own, order, of_table));
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
        for (a, rows, to) in [(x, cut_rows[0], kernel), (h, cut_rows[1], recurrent)] {
            let Some(to) = to else { continue };
            for (i, to) in to.chunks_mut(rows * columns).enumerate() {
                add(Sum::Product { a, first: i * rows, b: z, columns }, to);
            }
        }
        if let Some(to) = bias {
            add(Sum::Bias { b: z }, to);
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
    match op {
        Op::Rnn(op) => Some(Ends { input: op.input, output: op.output, weights: Weights::Both }),
        Op::Dense(op) => Some(Ends { input: op.input, output: op.output, weights: Weights::Kernel }),
        Op::Dropout { input, output, .. } => {
            Some(Ends { input: *input, output: *output, weights: Weights::None })
        }
        Op::Expand { .. } | Op::Last { .. } | Op::Merge { .. } => None,
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

    /// In the caller's order: `own` of one part's rows, `order` of those of several.
    fn terms<'b>(
        &'b self,
        own: Option<&[usize]>,
        order: &'b [[u32; 2]],
        places: &'b mut List<usize>,
    ) -> Terms<'b> {
        match self {
            Self::One(rows) => Terms::Rows(ordered(*rows, own, places)),
            Self::Many(parts) => Terms::Parts { parts, order },
        }
    }
}

const NO_ROWS: Rows<'static> = Rows::Strided { values: &[], stride: 0, count: 0 };

impl Part {
    /// The rows that an operation with weights reads.
    fn input_of<'a>(&'a self, network: &'a Network, at: usize) -> Rows<'a> {
        let source = self.kept.source(network, self.plan.work.steps);
        match &self.ops[at] {
            Op::Rnn(op) => op.input_rows(&self.plan, source, &self.values[op.input], &self.scratch.masked),
            Op::Dense(op) => op.input_rows(&self.plan, source, &self.values[op.input]),
            Op::Expand { .. } | Op::Last { .. } | Op::Merge { .. } | Op::Dropout { .. } => NO_ROWS,
        }
    }

    fn states_before(&self, at: usize) -> Rows<'_> {
        match &self.ops[at] {
            Op::Rnn(op) => op.states_before(&self.plan, &self.values[op.output], &self.scratch),
            Op::Dense(_) | Op::Expand { .. } | Op::Last { .. } | Op::Merge { .. } | Op::Dropout { .. } => {
                NO_ROWS
            }
        }
    }

    /// The gradients of the rows that an operation reads, in the order of its results.
    fn handed_down(&self, at: usize) -> Rows<'_> {
        let (input, output) = match &self.ops[at] {
            Op::Rnn(op) => (op.input, op.output),
            Op::Dense(op) => (op.input, op.output),
            Op::Dropout { output, .. } => return gradient_of(self, *output),
            Op::Expand { .. } | Op::Last { .. } | Op::Merge { .. } => return NO_ROWS,
        };
        let count = self.values[output].count(&self.plan.work);
        Rows::Strided { values: &self.scratch.rows, stride: self.values[input].stride, count }
    }
}

/// The gradients of an operation's results.
fn gradient_of(part: &Part, output: usize) -> Rows<'_> {
    let value = &part.values[output];
    let (work, stride) = (&part.plan.work, value.stride);
    Rows::Strided { values: &value.gradient[value.lead(work)..], stride, count: value.count(work) }
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
