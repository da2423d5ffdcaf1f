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
use crate::memory::{AlignedVec, row_stride};

/// What the sums are made with.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// By task, where several run at the same time.
    scratch: Vec<Scratch>,
    /// The caller's order of the rows of several parts: part and row.
    order: Vec<[u32; 2]>,
    /// That of one part's rows: where those of each factor begin.
    places: [Vec<usize>; 4],
    /// By part and row, the rows of the table that were read; and in the caller's order.
    ids: Vec<u32>,
    read: Vec<u32>,
    /// By row of the table, whether it is among those touched.
    seen: Vec<bool>,
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
    outcome: Result<()>,
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
        self.outcome = self.sum(kernels, scratch);
    }

    fn sum(&mut self, kernels: &KernelSet, scratch: &mut Scratch) -> Result<()> {
        match self.sum {
            Sum::Product { a, first, b, columns } => {
                let rows = self.to.len() / columns;
                let stride = row_stride(columns);
                let Scratch { product, copies } = scratch;
                product.reserve_scratch(rows * stride)?;
                let a = (a, first..first + rows);
                multiply_over_rows(kernels, a, (b, columns), product, stride, copies)?;
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
        Ok(())
    }
}

impl Sums {
    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        let floats: usize =
            self.scratch.iter().map(|scratch| scratch.product.len() + scratch.copies.len()).sum();
        let places: usize = self.places.iter().map(Vec::len).sum();
        (floats + self.ids.len() + self.read.len()) * size_of::<f32>()
            + (places + self.order.len()) * size_of::<usize>()
            + self.seen.len()
    }

    /// Clears the gradient of an embedding where the last way back left something.
    pub(super) fn begin(
        &mut self,
        network: &Network,
        places: &[Place],
        gradients: &mut [f32],
        touched: &mut Vec<u32>,
    ) {
        if let (Some((embedding, _)), Some(place)) = (network.embedding(), places.first()) {
            for &row in touched.iter() {
                gradients[place.offset + row as usize * embedding.size..][..embedding.size].fill(0.0);
                self.seen[row as usize] = false;
            }
            touched.clear();
        }
    }

    /// The gradients of the weights of operation `at`, whose way back all parts have gone.
    pub(super) fn make(
        &mut self,
        network: &Network,
        threads: &Threads,
        jobs: &[Job<'_>],
        at: usize,
        (places, gradients, touched): (&[Place], &mut [f32], &mut Vec<u32>),
    ) -> Result<()> {
        let first = &*jobs[0].part;
        let op = &first.ops[at];
        let (input, output) = match op {
            Op::Rnn(op) => (op.input, op.output),
            Op::Dense(op) => (op.input, op.output),
            Op::Dropout { input, output, .. } => (*input, *output),
            Op::Expand { .. } | Op::Last { .. } | Op::Merge { .. } => return Ok(()),
        };
        let table = network.embedding().filter(|_| first.values[input].layout == Layout::Source);
        if op.place().is_none() && table.is_none() {
            return Ok(());
        }
        let layout = first.values[output].layout;
        let (features, columns) = (first.values[input].features, first.values[output].features);
        let kernels = first.plan.kernels;
        let Self { scratch, order, places: [of_x, of_z, of_h, of_table], ids, read, seen } = self;
        order.clear();
        if jobs.len() > 1 {
            merge_orders(jobs, layout, order);
        }
        let x = Factor::of(jobs, |part| part.input_of(network, at))?;
        let z = Factor::of(jobs, |part| Ok(gradient_of(part, output)))?;
        let h = Factor::of(jobs, |part| Ok(part.states_before(at)))?;
        let handed = Factor::of(jobs, |part| Ok(part.handed_down(at)))?;
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

        // Before the sums: what one of them left is cleared even where another failed.
        if let Some((embedding, _)) = table {
            seen.resize(embedding.vocabulary, false);
            for &id in &*read {
                if !std::mem::replace(&mut seen[id as usize], true) {
                    touched.push(id);
                }
            }
        }

        let terms = z.count();
        let cost = terms * columns * (features + if recurrent.is_some() { columns } else { 0 });
        // Less gains nothing: two million took 0.138 ms with two threads for 0.119, seven million gain.
        let alone = threads.parts(2, cost / 2) == 1;
        if scratch.is_empty() {
            scratch.push(Scratch::default());
        }
        let mut tasks = Vec::new();
        let mut outcome = Ok(());
        let mut add = |sum, to| {
            let mut task = Task { sum, to, outcome: Ok(()) };
            if alone {
                task.run(kernels, &mut scratch[0]);
                outcome = std::mem::replace(&mut outcome, Ok(())).and(task.outcome);
            } else {
                tasks.push(task);
            }
        };
        for (a, width, to) in [(x, features, kernel), (h, columns, recurrent)] {
            let Some(to) = to else { continue };
            let count = threads.parts(width, terms * width * columns);
            let rows = width.div_ceil(count);
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
            if scratch.len() < tasks.len() {
                scratch.resize_with(tasks.len(), Scratch::default);
            }
            let mut tasks: Vec<_> = tasks.into_iter().zip(scratch.iter_mut()).collect();
            threads.for_each(usize::MAX, &mut tasks, |(task, scratch)| task.run(kernels, scratch));
            tasks.into_iter().try_for_each(|(task, _)| task.outcome)?;
        }
        outcome?;
        Ok(())
    }
}

/// The rows of a factor, by part.
enum Factor<'a> {
    One(Rows<'a>),
    Many(Vec<Rows<'a>>),
}

impl<'a> Factor<'a> {
    fn of(jobs: &'a [Job<'_>], rows: impl Fn(&'a Part) -> Result<Rows<'a>>) -> Result<Self> {
        match jobs {
            [one] => rows(&*one.part).map(Self::One),
            many => many.iter().map(|job| rows(&*job.part)).collect::<Result<_>>().map(Self::Many),
        }
    }

    /// In the caller's order: `own` of one part's rows, `order` of those of several.
    fn terms<'b>(
        &'b self,
        own: Option<&[usize]>,
        order: &'b [[u32; 2]],
        places: &'b mut Vec<usize>,
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
    fn input_of<'a>(&'a self, network: &'a Network, at: usize) -> Result<Rows<'a>> {
        let source = self.kept.source(network, self.plan.work.steps)?;
        Ok(match &self.ops[at] {
            Op::Rnn(op) => op.input_rows(&self.plan, source, &self.values[op.input], &self.scratch.masked),
            Op::Dense(op) => op.input_rows(&self.plan, source, &self.values[op.input]),
            _ => NO_ROWS,
        })
    }

    fn states_before(&self, at: usize) -> Rows<'_> {
        match &self.ops[at] {
            Op::Rnn(op) => op.states_before(&self.plan, &self.values[op.output], &self.scratch),
            _ => NO_ROWS,
        }
    }

    /// The gradients of the rows that an operation reads, in the order of its results.
    fn handed_down(&self, at: usize) -> Rows<'_> {
        let (input, output) = match &self.ops[at] {
            Op::Rnn(op) => (op.input, op.output),
            Op::Dense(op) => (op.input, op.output),
            Op::Dropout { output, .. } => return gradient_of(self, *output),
            _ => return NO_ROWS,
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
fn merge_orders(jobs: &[Job<'_>], layout: Layout, order: &mut Vec<[u32; 2]>) {
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
    ids: &mut Vec<u32>,
    read: &mut Vec<u32>,
) {
    ids.clear();
    let part = |job: &Job<'_>, ids: &mut Vec<u32>| {
        let Part { kept, plan, values, .. } = &*job.part;
        each_place(&plan.work, values[output].layout, |place| ids.push(kept.ids[place] as u32));
    };
    jobs.iter().for_each(|job| part(job, ids));
    read.clear();
    match (jobs, own) {
        ([_], None) => read.extend_from_slice(ids),
        ([_], Some(own)) => read.extend(own.iter().map(|&n| ids[n])),
        (many, _) => {
            let count = |job: &Job<'_>| job.part.values[output].count(&job.part.plan.work);
            let start = |p: usize| many[..p].iter().map(count).sum::<usize>();
            let starts: Vec<usize> = (0..many.len()).map(start).collect();
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
