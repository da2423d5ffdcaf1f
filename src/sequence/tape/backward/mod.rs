//! Backward: from the gradient of the output to those of the weights, the input and the initial states.
//!
//! Each part goes through its operations from the last to the first. A value's gradient is complete when the
//! operation is reached that gave it, for all that read it came later. [`recurrent`] is backward through
//! time, [`dense`] the backward pass of a layer that computes row by row. What only moves rows has its
//! backward counterpart beside it, in [`rows`](super::rows).

mod dense;
mod recurrent;

pub(super) use recurrent::{AfterStep, Recurrence};

use super::super::network::Network;
use super::super::pipeline::{Map, Source};
use super::dropout::DropOut;
use super::rows;
use super::steps::each_position;
use super::{Back, GateMatrices, Layout, Op, Part, Plan, Scratch, Tape, Value, add_row, put_row, taken};
use crate::dispatch::{Function, SQUARE_LANES};
use crate::error::Result;
use crate::gemm::{PackedMatrix, Rows};
use crate::memory::{Few, List, extent};

/// Some rows of a backward pass.
pub(super) struct BackwardPart<'a> {
    pub(super) part: &'a mut Part,
    dx: Option<&'a mut [f32]>,
}

/// The gradient of the final states of the whole batch, where there is one.
#[derive(Clone, Copy)]
pub(super) struct Final<'a> {
    states: Option<&'a [f32]>,
    batch: usize,
}

impl<'a> Final<'a> {
    /// Of a direction whose states begin `base` units in, for a row of the whole batch.
    fn of(&self, base: usize, row: usize, units: usize) -> Option<&'a [f32]> {
        self.states.map(|states| &states[self.batch * base + row * units..][..units])
    }
}

/// What an operation reads in its backward pass.
pub(super) struct BackwardPass<'a> {
    pub(super) network: &'a Network,
    pub(super) plan: &'a Plan,
    pub(super) source: Source<'a>,
    /// The part's first row.
    first_row: usize,
    /// Where the operation has weights.
    back: Option<&'a Back>,
    final_state: Final<'a>,
}

/// What an operation writes in its backward pass.
pub(super) struct Workspace<'a> {
    values: &'a mut [Value],
    scratch: &'a mut Scratch,
    /// The gradients of the part's initial states.
    initial: &'a mut List<f32>,
    /// The gradient of the part's input, where it is asked for.
    dx: Option<&'a mut [f32]>,
}

impl Tape {
    /// The backward pass to the last forward pass, of the same `network`. `dy` is the gradient of the output,
    /// `final_state` that of the final states, where the loss depends on them; `dx` receives the input's.
    /// Gradients are overwritten. Room is taken before anything is written; where there is none, the pass can
    /// be gone back again.
    pub(crate) fn backward(
        &mut self,
        network: &Network,
        dy: &[f32],
        final_state: Option<&[f32]>,
        dx: Option<&mut [f32]>,
    ) -> Result<()> {
        let [batch, _] = self.sizes()?;
        self.backward_done = false;
        let Self { parts, threads, sums, touched, active, initial, state_width, .. } = self;
        let parts = &mut parts[..*active];
        for part in parts.iter_mut() {
            part.reserve_backward(network, dx.is_some())?;
        }
        sums.reserve(network, threads, parts, touched)?;
        initial.make_room(batch * *state_width)?;

        self.over_operations(network, dy, Final { states: final_state, batch }, dx);
        self.gather_initial(batch);
        self.backward_done = true;
        Ok(())
    }

    /// The backward pass of all parts, operation by operation, each followed by the gradients of its weights.
    fn over_operations(
        &mut self,
        network: &Network,
        dy: &[f32],
        final_state: Final<'_>,
        dx: Option<&mut [f32]>,
    ) {
        let Self { parts, threads, backs, sums, slots, gradients, touched, sizes, active, .. } = self;
        sums.begin(network, slots, gradients, touched);
        let [batch, steps] = *sizes;
        let row_lens = [dy.len() / batch, steps * network.input.features];
        let mut work = backward_parts(&mut parts[..*active], dy, dx, row_lens);
        let (mut one, mut many);
        let work: &mut [BackwardPart<'_>] = if *active == 1 {
            one = work.next();
            one.as_mut_slice()
        } else {
            many = work.collect::<Few<_>>();
            &mut many
        };
        for (at, back) in backs.iter().enumerate().rev() {
            threads.for_each(usize::MAX, work, |one| {
                one.part.backward(network, at, back.as_ref(), final_state, one.dx.as_deref_mut());
            });
            sums.make(network, threads, work, at, (slots, gradients, touched));
        }
    }

    /// Copies the gradients of the parts' initial states to those of the whole batch.
    fn gather_initial(&mut self, batch: usize) {
        self.initial.resize(batch * self.state_width, 0.0);
        for part in &self.parts[..self.active] {
            let rows = part.rows.len();
            for op in part.ops.iter() {
                let Op::Rnn(op) = op else { continue };
                let units = part.values[op.output].features;
                for array in 0..op.cell.states() {
                    let base = op.state_base + array * units;
                    self.initial[batch * base + part.rows.start * units..][..rows * units]
                        .copy_from_slice(&part.initial[rows * base..][..rows * units]);
                }
            }
        }
    }
}

/// Each part with the gradient of its output taken, and its share of the input's, which is zero yet. A row of
/// the batch has so many floats of `dy`, and of `dx`.
fn backward_parts<'a>(
    parts: &'a mut [Part],
    dy: &'a [f32],
    mut dx: Option<&'a mut [f32]>,
    [row_of_dy, row_of_dx]: [usize; 2],
) -> impl Iterator<Item = BackwardPart<'a>> {
    parts.iter_mut().map(move |part| {
        let rows = part.rows.clone();
        part.begin_backward(&dy[rows.start * row_of_dy..rows.end * row_of_dy]);
        let dx = dx.take().map(|all| {
            let (mine, others) = all.split_at_mut(rows.len() * row_of_dx);
            dx = Some(others);
            mine.fill(0.0);
            mine
        });
        BackwardPart { part, dx }
    })
}

impl Part {
    /// Takes the gradient of the output.
    fn begin_backward(&mut self, dy: &[f32]) {
        for value in self.values.iter_mut() {
            (value.filled, value.has_ends) = (false, false);
        }
        if let Some(last) = self.values.last_mut() {
            let (columns, stride) = (last.features, last.stride);
            for (to, from) in last.gradient.chunks_exact_mut(stride).zip(dy.chunks_exact(columns)) {
                put_row(to, from);
            }
            last.filled = true;
        }
    }

    /// The backward pass of operation `at`, the gradients of weights left out.
    fn backward(
        &mut self,
        network: &Network,
        at: usize,
        back: Option<&Back>,
        final_state: Final<'_>,
        dx: Option<&mut [f32]>,
    ) {
        let Self { rows, ops, values, plan, kept, scratch, initial } = self;
        let (first_row, schedule) = (rows.start, &plan.schedule);
        let source = kept.source(network, schedule.steps);
        let pass = BackwardPass { network, plan, source, first_row, back, final_state };
        match &mut ops[at] {
            Op::Rnn(op) => op.backward(&pass, &mut Workspace { values, scratch, initial, dx }),
            Op::Dense(op) => op.backward(&pass, &mut Workspace { values, scratch, initial, dx }),
            &mut Op::Expand { input, output, direction } => {
                rows::expand_backward(schedule, values, [input, output], direction);
            }
            &mut Op::Last { input, output, direction } => {
                rows::last_states_backward(schedule, values, [input, output], direction);
            }
            &mut Op::LastPosition { input, output } => {
                rows::last_positions_backward(schedule, values, [input, output]);
            }
            &mut Op::Merge { mode, inputs, output } => {
                rows::merge_backward(schedule, mode, values, inputs, output);
            }
            &mut Op::Dropout { layer, rate, input, output } => {
                let drop_out = DropOut { layer, rate, first_row };
                drop_out.backward(plan, &mut values[output], &mut scratch.rows);
                hand_all_down(&pass, &mut Workspace { values, scratch, initial, dx }, [input, output]);
            }
        }
    }
}

impl BackwardPass<'_> {
    fn kernel(&self) -> &PackedMatrix {
        match self.back {
            Some(back) => &back.kernel,
            None => unreachable!("an operation without weights"),
        }
    }

    #[inline]
    pub(super) fn recurrent(&self) -> &PackedMatrix {
        match self.back.and_then(|back| back.recurrent.as_ref()) {
            Some(recurrent) => recurrent,
            None => unreachable!("an operation without recurrent weights"),
        }
    }

    pub(super) fn candidate(&self) -> &PackedMatrix {
        match self.back.and_then(|back| back.candidate.as_ref()) {
            Some(candidate) => candidate,
            None => unreachable!("an operation without reset before"),
        }
    }

    pub(super) fn by_gate(&self) -> &[GateMatrices] {
        self.back.map_or(&[], |back| &back.by_gate)
    }

    /// Whether anybody wants the gradient of what an operation reads.
    fn wants(&self, value: &Value, workspace: &Workspace<'_>) -> bool {
        value.layout != Layout::Source || workspace.dx.is_some() || matches!(self.source.map, Map::Tokens(..))
    }
}

/// Passes gradients of a function's results, `count` rows, back through it; `squares` receives, for each row,
/// what the norm of its gradients is made of.
#[inline]
fn activation_backward(
    plan: &Plan,
    function: Function,
    gradient: &mut [f32],
    h: &[f32],
    [count, columns, stride]: [usize; 3],
    squares: Option<&mut [f32]>,
) {
    let padded = columns.next_multiple_of(SQUARE_LANES);
    let end = extent(count, stride, padded);
    assert!(padded <= stride && end <= gradient.len() && end <= h.len(), "rows too short");
    let squares = squares.map_or(std::ptr::null_mut(), |squares| {
        assert!(squares.len() >= 2 * count, "no room for the squares");
        squares.as_mut_ptr()
    });
    // SAFETY: the asserts; the three are borrowed apart; the kernels are this process's.
    unsafe {
        (plan.kernels.activation_backward)(
            function,
            gradient.as_mut_ptr(),
            h.as_ptr(),
            count,
            columns,
            stride,
            squares,
        );
    }
}

/// Adds the gradients of a value whose rows were read one by one to where they were read.
fn hand_all_down(pass: &BackwardPass<'_>, workspace: &mut Workspace<'_>, [input, output]: [usize; 2]) {
    let value = &mut workspace.values[output];
    let from = taken(&mut value.gradient);
    let (layout, count) = (value.layout, value.count(&pass.plan.schedule));
    let rows = Rows::Strided { values: &from, stride: value.stride, count };
    hand_down(pass, workspace, input, layout, rows);
    workspace.values[output].gradient = from;
}

/// Adds gradients of what an operation read, rows that stand as `layout`, to where it read them.
fn hand_down(
    pass: &BackwardPass<'_>,
    workspace: &mut Workspace<'_>,
    input: usize,
    layout: Layout,
    rows: Rows<'_>,
) {
    let schedule = &pass.plan.schedule;
    let value = &mut workspace.values[input];
    let features = value.features;
    match value.layout {
        Layout::Source => match pass.source.map {
            // A table's gradient is summed over all parts; see `weights`.
            Map::Tokens(..) => {}
            Map::Features(_) | Map::Offsets(_) => {
                if let Some(dx) = workspace.dx.as_deref_mut() {
                    let mut n = 0;
                    each_position(schedule, layout, |position| {
                        add_row(&mut dx[position * features..][..features], &rows.row(n)[..features]);
                        n += 1;
                    });
                }
            }
        },
        Layout::Positions if layout != Layout::Positions => {
            let stride = value.stride;
            if !value.filled {
                value.gradient[..schedule.batch * schedule.steps * stride].fill(0.0);
            }
            let mut n = 0;
            each_position(schedule, layout, |position| {
                add_row(&mut value.gradient[position * stride..][..features], &rows.row(n)[..features]);
                n += 1;
            });
            value.filled = true;
        }
        Layout::Positions | Layout::Compact { .. } | Layout::Last => {
            let (stride, lead) = (value.stride, value.lead(schedule));
            let count = value.count(schedule);
            for (n, to) in value.gradient[lead..].chunks_exact_mut(stride).take(count).enumerate() {
                put_row(to, &rows.row(n)[..features]);
            }
            value.filled = true;
        }
    }
}
