//! Layers on different threads at the same time, each a chunk behind the one below.
//!
//! Where there are too few rows to share out, a stack still has work for several threads: while one carries
//! the lower layers over a chunk of steps, another carries the upper ones over the chunk before. What passes
//! between two threads lies in two buffers in turn, so that neither waits for the other's last word. Every
//! layer sees its own steps in order, so no bit depends on who runs it.
//!
//! Two layers of 64 units over 256 steps of one row, two threads, us: 75 with one thread; 72 to 86 with a
//! barrier for all after each chunk, 0.3 us away from each other as the cores are; 60 as it is, where each
//! waits for its neighbour only, and the rows from the other core are fetched by one copy, all lines under
//! way at once, rather than one by one as the product comes to them. 8 chunks: 61, 32 chunks: 83.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::parallel::TeamGuard;
use super::pipeline::{Chunk, ChunkWalk, LayerRun};
use super::scratch::Buffer;
use crate::gemm::Rows;
use crate::memory::{Few, List};

/// Into how many chunks the steps are cut: the pipeline fills and drains in one chunk's time for each thread
/// above the first, and every chunk costs a hand-over.
pub(super) const CHUNKS: usize = 16;
/// Multiply-adds of a stage below which one thread is faster: two layers of 64 units took 45 us with two
/// threads for 38 at two million, and layers of 128 units 77 us for 103 at four million.
pub(super) const LAYERS_FROM: usize = 3 << 20;

/// Runs the layers of a stage, `runs`, over all chunks of `walk`. `buffers` are those of the input rows, and
/// for each layer two that its rows are handed over in and one that they arrive in; there is
/// [room](super::pipeline::reserve) for them.
pub(super) fn run(
    team: &mut TeamGuard,
    walk: &ChunkWalk<'_>,
    runs: Few<LayerRun<'_>>,
    (offsets, gathered, handed): (&mut List<usize>, &mut Buffer, &mut List<[Buffer; 3]>),
    sink: &mut (dyn FnMut(Chunk<'_>) + Send),
) {
    let strides: Few<usize> = runs.iter().map(|run| run.kind.stride()).collect();
    let costs: Few<usize> = runs.iter().map(|run| run.kind.cost()).collect();
    // The order of the threads' work leaves every lock free when it is taken; the locks say so to the
    // compiler.
    let front = Mutex::new((offsets, gathered));
    let runs: Few<_> = runs.into_iter().map(Mutex::new).collect();
    let handed: Few<_> = handed.iter_mut().map(|pair| pair.each_mut().map(Mutex::new)).collect();
    let sink = Mutex::new(sink);
    // By thread: how many chunks are done.
    let done: Few<_> = (0..runs.len()).map(|_| Apart(AtomicUsize::new(0))).collect();
    let others = |threads: usize| {
        let cost = |thread: usize| costs[share(&costs, thread, threads)].iter().sum::<usize>() as f64;
        let own = (0..threads).map(cost).find(|&cost| cost > 0.0).unwrap_or(1.0);
        costs.iter().sum::<usize>() as f64 / own - 1.0
    };
    team.run(others, &|thread, threads, barrier| {
        let mut groups: Few<_> = (0..threads).map(|thread| share(&costs, thread, threads)).collect();
        groups.retain(|group| !group.is_empty());
        let Some(group) = groups.get(thread) else { return };
        let mut held: Few<_> = runs[group.clone()].iter().map(locked).collect();
        let (mut chunk, mut first) = (0, 0);
        while let Some(steps) = walk.steps_from(first) {
            let (mut front_held, mut taken);
            let mut input = match group.start.checked_sub(1) {
                None => {
                    front_held = locked(&front);
                    let (offsets, gathered) = &mut *front_held;
                    walk.input(&steps, offsets, gathered)
                }
                Some(layer) => {
                    let len = steps.rows * strides[layer];
                    barrier.wait_for(|| done[thread - 1].0.load(Ordering::Acquire) > chunk);
                    taken = locked(&handed[layer][2]);
                    taken.0[..len].copy_from_slice(&locked(&handed[layer][chunk % 2]).0[..len]);
                    Rows::Strided { values: &taken.0, stride: strides[layer], count: steps.rows }
                }
            };
            for run in &mut held {
                input = run.again().run(walk, &steps, input, None);
            }
            if group.end == runs.len() {
                locked(&sink)(Chunk { first: steps.first, counts: steps.counts, rows: input });
            } else {
                let len = steps.rows * strides[group.end - 1];
                barrier.wait_for(|| done[thread + 1].0.load(Ordering::Acquire) + 2 > chunk);
                locked(&handed[group.end - 1][chunk % 2]).0[..len].copy_from_slice(&input.row(0)[..len]);
            }
            chunk += 1;
            first += steps.counts.len();
            done[thread].0.store(chunk, Ordering::Release);
            barrier.changed();
        }
    });
}

/// A counter in a cache line of its own.
#[repr(align(128))]
struct Apart(AtomicUsize);

/// The layers of one of several threads: as even as whole layers allow.
fn share(costs: &[usize], thread: usize, threads: usize) -> Range<usize> {
    let total: usize = costs.iter().sum();
    let start = |thread: usize| {
        let mut below = 0;
        costs
            .iter()
            .take_while(|&&cost| {
                let middle = below + cost / 2;
                below += cost;
                middle * threads < thread * total
            })
            .count()
    };
    start(thread)..start(thread + 1)
}

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
