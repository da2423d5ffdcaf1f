//! An LSTM and a GRU forwards: every gate is kept.

use super::super::{Plan, RnnOp};
use super::{GateMatrices, Gates, RnnPlan};
use crate::gemm::{Init, Rows, multiply};
use crate::layers::{PackedCell, PackedRnn};
use crate::memory::row_stride;
use crate::sequence::cells::{GatedStep, Kept, Product, gate_stride, gated_step, gated_step_with};

/// Rows of a chunk, unless its first step has more; see [`chunk_rows`].
const CHUNK_ROWS: usize = 64;

/// What a layer works with whose gates have masks of their own.
pub(in super::super) struct ByGate<'a> {
    pub(in super::super) matrices: &'a [GateMatrices],
    /// Room for two rows a rank.
    pub(in super::super) masked: &'a mut [f32],
}

impl RnnOp {
    /// Turns the rows that each gate reads into those of the states in `out`; the states before the first
    /// step are there.
    pub(in super::super) fn forward_gated<'a>(
        &self,
        of: RnnPlan<'_>,
        gates: &mut Gates,
        input: impl Fn(usize) -> Rows<'a>,
        out: &mut [f32],
        mut by_gate: Option<ByGate<'_>>,
    ) {
        let RnnPlan { rnn, plan } = of;
        let counts = &plan.schedule.counts;
        let mut sums = match &by_gate {
            Some(by_gate) if self.drops[0] => {
                sums_by_gate(rnn, by_gate.matrices, input, gates);
                InputSums { rest: None, made: 0 }
            }
            _ => InputSums { rest: Some(input(0)), made: 0 },
        };
        for step in 0..counts.len() {
            sums.make(rnn, &counts[step..], plan.bases[step], gates);
            let StepArrays { step: arrays, cell_states, scratch } = gates.step(of, step, out);
            match &mut by_gate {
                None => gated_step(rnn, arrays, cell_states, scratch, step % 2 == 1),
                Some(by_gate) => {
                    let product = self.products_by_gate(of, by_gate);
                    gated_step_with(rnn, arrays, cell_states, scratch, product);
                }
            }
        }
    }

    /// The products of a step with states times the gates' masks.
    fn products_by_gate<'a>(
        &'a self,
        of: RnnPlan<'a>,
        by_gate: &'a mut ByGate<'_>,
    ) -> impl FnMut(Product, Rows<'_>, &mut [f32], usize) {
        let RnnPlan { rnn, plan } = of;
        let ByGate { matrices, masked } = by_gate;
        move |product, rows: Rows<'_>, sums: &mut [f32], sums_stride| {
            let (units, stride, count) = (rnn.units(), row_stride(rnn.units()), rows.count());
            let (masked, sum) = masked.split_at_mut(plan.schedule.batch * stride);
            let mut of_gate = |gate: usize, sum: &mut [f32]| {
                for (rank, to) in masked.chunks_exact_mut(stride).take(count).enumerate() {
                    let mask = self.mask_of(plan, gate, rank, units);
                    to.iter_mut().zip(rows.row(rank)).zip(mask).for_each(|((to, h), mask)| *to = h * mask);
                }
                let rows = Rows::Strided { values: masked, stride, count };
                multiply(rows, &matrices[gate].recurrent, Init::Bias(&plan.zeros), sum, stride);
            };
            if product == Product::Candidate {
                return of_gate(matrices.len() - 1, sums);
            }
            let gates = if rnn.resets_before() { matrices.len() - 1 } else { matrices.len() };
            let start = start_of_sums(rnn, plan);
            for gate in 0..gates {
                of_gate(gate, sum);
                let sums = sums.chunks_mut(sums_stride).zip(sum.chunks_exact(stride)).take(count);
                put_gate(rnn, (gate, gates), sums, |column| start.get(column).copied().unwrap_or(0.0));
            }
        }
    }
}

/// What the sums of the state start from.
fn start_of_sums<'a>(rnn: &'a PackedRnn, plan: &'a Plan) -> &'a [f32] {
    match &rnn.cell {
        PackedCell::Gru(gated) => &gated.start,
        PackedCell::SimpleRnn(_) | PackedCell::Lstm(_) | PackedCell::GruResetBefore(..) => &plan.zeros,
    }
}

/// The sums of the input, `x·W + b`, made chunk by chunk.
struct InputSums<'a> {
    /// Rows whose sums are still to be made; none where they were made gate by gate.
    rest: Option<Rows<'a>>,
    made: usize,
}

impl InputSums<'_> {
    /// Makes those of the next chunk if the step of compact row `first` begins it; `counts` are those of this
    /// step and of all after it.
    fn make(&mut self, rnn: &PackedRnn, counts: &[usize], first: usize, gates: &mut Gates) {
        let Some(rows) = self.rest.filter(|_| first == self.made) else { return };
        let (now, rest) = rows.split_at(chunk_rows(counts));
        let stride = gate_stride(rnn);
        multiply(now, &rnn.kernel, Init::Bias(&rnn.bias), &mut gates.gates[first * stride..], stride);
        (self.rest, self.made) = (Some(rest), first + now.count());
    }
}

/// Rows whose sums of the input are made at once, so that they are still in the second-level cache when their
/// step comes: those of whole steps, the first of which `counts` begins with.
fn chunk_rows(counts: &[usize]) -> usize {
    let mut rows = 0;
    for count in counts {
        if rows > 0 && rows + count > CHUNK_ROWS {
            break;
        }
        rows += count;
    }
    rows
}

/// What a step reads and writes.
struct StepArrays<'a> {
    step: GatedStep<'a>,
    cell_states: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Gates {
    /// The arrays of compact step `step`, whose states go to `out`.
    #[inline]
    fn step<'a>(&'a mut self, of: RnnPlan<'_>, step: usize, out: &'a mut [f32]) -> StepArrays<'a> {
        let RnnPlan { rnn, plan } = of;
        let (stride, first) = (row_stride(rnn.units()), plan.bases[step]);
        let (before, here) = (plan.slot_before(step) * stride, plan.slot(step) * stride);
        let (states, after) = out.split_at_mut(here);
        let (cells_before, cell_states): (&[f32], &mut [f32]) = match rnn.cell {
            PackedCell::Lstm(_) => {
                let (all_before, after) = self.cells.split_at_mut(here);
                (&all_before[before..], after)
            }
            PackedCell::SimpleRnn(_) | PackedCell::Gru(_) | PackedCell::GruResetBefore(..) => (&[], &mut []),
        };
        let candidate = self.candidate.get_mut(first * stride..).unwrap_or_default();
        let step = GatedStep {
            count: plan.schedule.counts[step],
            gates: &mut self.gates[first * gate_stride(rnn)..],
            h: &states[before..],
            h_next: after,
            kept: Some(Kept { cell_states: cells_before, candidate }),
        };
        StepArrays { step, cell_states, scratch: &mut self.scratch }
    }
}

/// `x·W + b`, gate by gate, each of an input of its own, in the kernels' order.
fn sums_by_gate<'a>(
    rnn: &PackedRnn,
    matrices: &[GateMatrices],
    input: impl Fn(usize) -> Rows<'a>,
    gates: &mut Gates,
) {
    let (stride, gate_stride) = (row_stride(rnn.units()), gate_stride(rnn));
    // The gradients, which are not there yet, lend their room to the rows of a gate.
    let Gates { gates, dz: sum, .. } = gates;
    for (gate, matrix) in matrices.iter().enumerate() {
        let rows = input(gate);
        // The bias of this gate, side by side, is added below.
        sum[..rows.count() * stride].fill(0.0);
        multiply(rows, &matrix.kernel, Init::Output, sum, stride);
        let rows = gates.chunks_mut(gate_stride).zip(sum.chunks_exact(stride)).take(rows.count());
        put_gate(rnn, (gate, matrices.len()), rows, |column| rnn.bias[column]);
    }
}

/// Puts the sums of one gate of `gates`, on top of what its columns start from, to where the kernels look for
/// them.
fn put_gate<'a>(
    rnn: &PackedRnn,
    (gate, gates): (usize, usize),
    rows: impl Iterator<Item = (&'a mut [f32], &'a [f32])>,
    start: impl Fn(usize) -> f32,
) {
    let mut order = rnn.order();
    order.gates = gates;
    for (to, sum) in rows {
        for (unit, sum) in sum[..rnn.units()].iter().enumerate() {
            let column = order.column(gate, unit);
            to[column] = start(column) + sum;
        }
    }
}
