//! One call: rows shared out, stages one after another, outputs put where the caller wants them.

use super::halves::{Halves, StageInput, bidirectional, merge_to_output, merge_to_sequence};
use super::head::{self, Last, padding_row};
use super::input::{Call, Given, Input, Inputs, Padding, check_tokens};
use super::network::{Network, Stage};
use super::output::{Materialise, Scatter};
use super::parallel::{self, TeamGuard, Threads};
use super::pipeline::{self, Chunk, Map, Means, Parallelism, SHARED_FROM, Source, StageHalf};
use super::schedule::{Bounds, Direction};
use super::scratch::{Scratch, ScratchPool};
use super::states::{put_initial, put_last};
use crate::error::Result;
use crate::memory::{List, row_stride};

/// Some rows of a call, and room for all that is computed for them.
struct Part<'a> {
    given: Given<'a>,
    rows: std::ops::Range<usize>,
    output: &'a mut [f32],
    scratch: Box<Scratch>,
}

/// What all parts of a call have in common.
#[derive(Clone, Copy)]
struct Common<'a> {
    network: &'a Network,
    /// Rows of the whole batch.
    batch: usize,
    steps: usize,
    padding: Padding,
    /// Of the whole batch.
    initial_state: Option<&'a [f32]>,
}

/// Rows a thread below which a large layer's columns are shared rather than rows, and a part's rows cost more
/// than their share of all.
const ROWS_PER_THREAD: usize = 8;

/// How a call is shared out among threads.
#[derive(Clone, Copy)]
struct Sharing {
    /// Multiply-adds of the call.
    macs: usize,
    /// Threads that are worth their while, were there enough rows.
    helpers: usize,
    /// Parts that the rows are cut into, where they are cut.
    parts: usize,
    /// Whether all rows go together: what is shared is columns, the halves of a Bidirectional layer, or
    /// layers.
    is_whole: bool,
    /// Whether it is the columns of large layers.
    by_columns: bool,
    /// Whether rows are so few that two parts one after the other take longer than one.
    few: bool,
}

impl Sharing {
    fn new(network: &Network, threads: &Threads, batch: usize, steps: usize) -> Self {
        let macs = batch.saturating_mul(steps).saturating_mul(network.macs_per_step());
        let by_columns = threads.count() > 1
            && batch < ROWS_PER_THREAD * threads.count()
            && network.recurrent().any(|(_, rnn)| rnn.recurrent.bytes() >= SHARED_FROM);
        let helpers = threads.parts(usize::MAX, macs);
        let parts = threads.parts(batch, macs);
        // Halves keep more rows together than two threads with half of the rows each; more threads are worth
        // more.
        let by_halves = parts <= 2 && batch < ROWS_PER_THREAD * helpers && network.is_bidirectional();
        // Halves that are not merged lie one array behind the other, so no part of the rows is in one piece.
        let is_whole = network.is_unmerged() || by_columns || by_halves;
        let few = !is_whole && parts > 1 && batch < ROWS_PER_THREAD * parts;
        Self { macs, helpers, parts, is_whole, by_columns, few }
    }

    /// Whether halves or layers may run on threads of their own, where all rows go together.
    fn by_layers(&self) -> bool {
        self.helpers > 1 && !self.by_columns
    }

    /// How many parts, where `team` has been taken for few rows: no more than there are threads awake. Those
    /// that come too late stay for the next call, as long as this one has the team.
    fn count(&self, team: Option<&mut TeamGuard>) -> usize {
        match team {
            _ if self.is_whole => 1,
            Some(team) => self.parts.min(1 + team.workers(parallel::wake_timeout(self.macs))),
            None if self.few => 1,
            None => self.parts,
        }
    }
}

/// Carries out a call: room for all of its parts is taken first, and then nothing can fail, so a call that is
/// refused has written nothing.
pub(crate) fn run(network: &Network, threads: &Threads, pool: &ScratchPool, call: Call<'_>) -> Result<()> {
    let Call { batch, steps, padding, initial_state, final_state, output, .. } = call;
    if let (Input::Tokens(ids), Some((embedding, _))) = (call.input, network.embedding()) {
        check_tokens(ids, embedding.vocabulary)?;
    }
    let sharing = Sharing::new(network, threads, batch, steps);
    let mut few_team = if sharing.few { threads.team(sharing.macs) } else { None };
    let count = sharing.count(few_team.as_mut());
    let inputs = Inputs { input: call.input, mask: call.mask, lengths: call.lengths };
    let common = Common { network, batch, steps, padding, initial_state };
    let row_len = output.len() / batch;
    let mut rest = output;
    let mut parts = (0..count).map(|i| {
        let rows = batch * i / count..batch * (i + 1) / count;
        let (mine, others) = std::mem::take(&mut rest).split_at_mut(rows.len() * row_len);
        rest = others;
        let given = inputs.of_rows(&rows, steps, network.input.features).read(network)?;
        let mut part = Part { given, rows, output: mine, scratch: pool.take() };
        let bounds = Bounds::new(part.rows.len(), steps, &part.given.mask);
        part.scratch.reserve(network, bounds, count == 1 && sharing.by_layers())?;
        Ok(part)
    });
    let mut final_state = final_state;
    let mut finish = |part: Part<'_>| {
        if let Some(states) = final_state.as_deref_mut() {
            collect_states(network, &part, batch, states);
        }
        pool.give(part.scratch);
    };
    if count > 1 {
        let mut parts = List::collected(parts)?;
        let run_part = |part: &mut Part<'_>| part.run(common, Parallelism::Serial);
        match &mut few_team {
            Some(team) => parallel::share_out(team, &mut parts, run_part),
            None => threads.for_each(sharing.macs, &mut parts, run_part),
        }
        parts.into_iter().for_each(finish);
    } else if let Some(part) = parts.next() {
        // One part needs no list: such a call allocates nothing.
        let mut part = part?;
        part.run_alone(common, threads, sharing);
        finish(part);
    }
    Ok(())
}

/// Copies the last states of a part's rows to their places among all rows.
fn collect_states(network: &Network, part: &Part<'_>, batch: usize, states: &mut [f32]) {
    let schedule = &part.scratch.schedule;
    let mut base = 0;
    for ((_, rnn), state) in network.recurrent().zip(part.scratch.states.iter()) {
        let units = rnn.units();
        let stride = row_stride(units);
        for from in state.0.chunks(part.rows.len() * stride).take(rnn.states()) {
            let to = &mut states[base + part.rows.start * units..];
            put_last(schedule, units, to, |rank| &from[rank * stride..]);
            base += batch * units;
        }
    }
}

impl Part<'_> {
    /// Computes all rows of a call, with whoever helps.
    fn run_alone(&mut self, common: Common<'_>, threads: &Threads, sharing: Sharing) {
        let mut team = if sharing.by_columns { threads.team(sharing.macs) } else { None };
        let parallelism = match &mut team {
            Some(team) => Parallelism::Columns(team),
            None if sharing.by_layers() => Parallelism::Threads(threads, sharing.macs),
            None => Parallelism::Serial,
        };
        self.run(common, parallelism);
    }

    /// Computes the part's rows.
    fn run(&mut self, common: Common<'_>, mut parallelism: Parallelism<'_>) {
        let Common { network, steps, padding, .. } = common;
        self.scratch.schedule.arrange(self.rows.len(), steps, self.given.mask, padding);
        self.begin_states(common);
        // Of the states, those of the stages before.
        let mut done = 0;
        for (at, stage) in network.stages.iter().enumerate() {
            let layers = &network.layers[stage.layers.clone()];
            self.run_stage(network, (at, stage), done, parallelism.again());
            done += layers.iter().map(|layer| layer.packed.directions().count()).sum::<usize>();
        }
        if !network.output.sequence {
            let Scratch { schedule, states, sequences, head, .. } = &mut *self.scratch;
            let sequence = &sequences[network.stages.len() % 2];
            head::run(network, schedule, Last { states, sequence }, head, self.output);
        }
    }

    /// Runs one stage: from what the one below gave to what the one above reads, or to the caller's output.
    fn run_stage(
        &mut self,
        network: &Network,
        (at, stage): (usize, &Stage),
        done: usize,
        parallelism: Parallelism<'_>,
    ) {
        let Given { values, map, .. } = self.given;
        let Scratch { schedule, buffers, states, sequences, halves, padding, .. } = &mut *self.scratch;
        // Stages write the two in turn.
        let [even, odd] = sequences;
        let (before, after) = if at.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        let source = if at > 0 {
            Source { values: &before.values.0, steps: schedule.steps, map: Map::Offsets(&before.offsets) }
        } else {
            Source { values, steps: schedule.steps, map }
        };
        let layers = &network.layers[stage.layers.clone()];
        let output = layers.last().map_or(network.input, |layer| layer.output);
        let (columns, is_last) = (output.features, network.is_last_stage(at));
        let states = &mut states[done..];
        if let Some(both) = bidirectional(stage, layers) {
            let input = StageInput { network, stage, source, schedule };
            Halves { sequences: halves, buffers, states }.run(&input, parallelism);
            let (mode, units) = (both.merge_mode, both.layer.options().units);
            match (output.sequence, is_last) {
                (true, true) => merge_to_output(mode, halves, units, schedule, self.output),
                (true, false) => merge_to_sequence(mode, halves, (units, columns), schedule, after),
                (false, _) => {}
            }
            return;
        }
        let padding = padding_row(layers, schedule, padding);
        let direction = Direction { reversed: stage.reversed, zero_output: stage.zero_output };
        let means = Means { buffers: &mut buffers[0], states, parallelism };
        let run = |sink: &mut (dyn FnMut(Chunk<'_>) + Send)| {
            let which = StageHalf { network, stage, half: None };
            pipeline::run(which, source, schedule, means, sink);
        };
        if !output.sequence {
            run(&mut |_| {});
        } else if is_last {
            let mut scatter = Scatter { schedule, direction, to: self.output, columns, padding };
            scatter.lead();
            run(&mut |chunk| scatter.take(chunk));
        } else {
            let mut keep = Materialise::new(after, schedule, direction, columns, Some(padding));
            run(&mut |chunk| keep.take(chunk));
        }
    }

    /// The states before the first step, by rank.
    fn begin_states(&mut self, common: Common<'_>) {
        let Common { network, batch, initial_state, .. } = common;
        let Scratch { schedule, states, .. } = &mut *self.scratch;
        let mut base = 0;
        for ((_, rnn), state) in network.recurrent().zip(states.iter_mut()) {
            let (units, stride) = (rnn.units(), row_stride(rnn.units()));
            for to in state.0.chunks_mut(self.rows.len() * stride).take(rnn.states()) {
                let given = initial_state.map(|all| (&all[base..], self.rows.start));
                put_initial(schedule, given, units, to, stride);
                base += batch * units;
            }
        }
    }
}
