//! Threads that share the columns of one product, step by step.
//!
//! Where rows are too few to share out and the recurrent kernel is larger than a core's cache, each member of a team
//! takes some panels of the kernel, whose weights then stay in its own second-level cache, and all members meet after
//! every step.
//!
//! # No member waits for one that has not started
//! A task that a busy pool has not started yet cannot be counted on: two callers on one pool would wait for each other's
//! forever. So a partner *joins* when its task begins to run, and each job is shared among those that have joined by
//! then; the others sit it out. When the caller is done it closes the team: who comes later goes away at once, and the
//! caller waits only for those that joined, which are running. Waiting spins for a while, then yields.

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::unrolled;
use crate::dispatch::Block;
use crate::gemm::{Init, PackedMatrix, Rows, block_of, walk_share};
use crate::layers::PackedRnn;

/// Set in `joined` when nobody may join any more.
const CLOSED: usize = 1 << (usize::BITS - 1);
/// A ticket is the number of the job, shifted, and the number of its members.
const MEMBER_BITS: u32 = 16;
/// Rounds of spinning before a waiting thread yields: some tens of microseconds.
const SPINS: u32 = 20_000;

/// What a job's members carry out: called with the member's number, the number of members, and where they meet.
type Job<'a> = &'a (dyn Fn(usize, usize, &Meeting<'_>) + Sync);

/// A caller and those that have joined it.
#[derive(Debug)]
pub(super) struct Team {
    /// Partners that have joined, and [`CLOSED`].
    joined: AtomicUsize,
    /// Partners that have gone.
    gone: AtomicUsize,
    /// The current job; see [`MEMBER_BITS`].
    ticket: AtomicUsize,
    /// The address of the current [`Job`] reference; valid from the ticket's publication until all members finished.
    job: AtomicPtr<()>,
    /// Partners that have finished the current job.
    finished: AtomicUsize,
    /// Arrivals at the current job's meetings.
    arrivals: AtomicUsize,
}

/// Where the members of a job meet.
pub(super) struct Meeting<'a> {
    team: &'a Team,
    members: usize,
}

impl Meeting<'_> {
    /// Waits until every member has called this as often as this one. What they wrote before is visible after.
    pub(super) fn wait(&self) {
        let arrivals = &self.team.arrivals;
        let mine = arrivals.fetch_add(1, Ordering::AcqRel) + 1;
        let all = mine.next_multiple_of(self.members);
        wait_until(|| arrivals.load(Ordering::Acquire) >= all);
    }
}

fn wait_until(done: impl Fn() -> bool) {
    let mut spins = 0;
    while !done() {
        if spins < SPINS {
            spins += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

impl Team {
    pub(super) fn new() -> Self {
        Self {
            joined: AtomicUsize::new(0),
            gone: AtomicUsize::new(0),
            ticket: AtomicUsize::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            finished: AtomicUsize::new(0),
            arrivals: AtomicUsize::new(0),
        }
    }

    /// The life of a partner: joins, takes part in jobs, and goes when the team closes.
    pub(super) fn take_part(&self) {
        let open = |joined| if joined & CLOSED == 0 { Some(joined + 1) } else { None };
        let Ok(before) = self.joined.fetch_update(Ordering::AcqRel, Ordering::Acquire, open) else { return };
        let me = before + 1;
        let mut seen = self.ticket.load(Ordering::Acquire);
        loop {
            let closed = || self.joined.load(Ordering::Acquire) & CLOSED != 0;
            wait_until(|| self.ticket.load(Ordering::Acquire) != seen || closed());
            let ticket = self.ticket.load(Ordering::Acquire);
            if ticket == seen {
                break;
            }
            seen = ticket;
            let members = ticket & ((1 << MEMBER_BITS) - 1);
            if me < members {
                let job = self.job.load(Ordering::Acquire).cast::<Job<'_>>();
                // SAFETY: this ticket counts `me` among its members, so the caller stays inside `run`, where the job
                // lives, until this partner has finished.
                unsafe { (*job)(me, members, &Meeting { team: self, members }) };
                self.finished.fetch_add(1, Ordering::Release);
            }
        }
        self.gone.fetch_add(1, Ordering::Release);
    }

    /// Carries out `job` with everybody who has joined. Only the caller that made the team calls this. `job` must not
    /// panic: its other members would wait for it.
    pub(super) fn run(&self, job: Job<'_>) {
        let most = (1 << MEMBER_BITS) - 1;
        let members = (1 + (self.joined.load(Ordering::Acquire) & !CLOSED)).min(most);
        self.finished.store(0, Ordering::Relaxed);
        self.arrivals.store(0, Ordering::Relaxed);
        self.job.store(std::ptr::from_ref(&job).cast_mut().cast(), Ordering::Relaxed);
        let number = (self.ticket.load(Ordering::Relaxed) >> MEMBER_BITS).wrapping_add(1);
        self.ticket.store(number << MEMBER_BITS | members, Ordering::Release);
        job(0, members, &Meeting { team: self, members });
        wait_until(|| self.finished.load(Ordering::Acquire) == members - 1);
    }

    /// Lets nobody join any more, and waits for those that did.
    pub(super) fn close(&self) {
        let joined = self.joined.fetch_or(CLOSED, Ordering::AcqRel) & !CLOSED;
        wait_until(|| self.gone.load(Ordering::Acquire) == joined);
    }
}

/// A block that members of a team share.
struct Shared(Block);

// SAFETY: members write disjoint columns of `c` and read what was written before they met; see `walk_share`.
unsafe impl Sync for Shared {}

impl Shared {
    fn block(&self) -> Block {
        self.0
    }
}

/// `gemm::multiply` with the columns shared out.
pub(super) fn multiply(
    team: &Team,
    rows: Rows<'_>,
    count: usize,
    matrix: &PackedMatrix,
    init: Init<'_>,
    c: &mut [f32],
    c_stride: usize,
) {
    let Some(block) = block_of(rows, matrix, init, c, c_stride).map(Shared) else { return };
    team.run(&|member, members, _| {
        // SAFETY: `block_of` checked the arrays, which are borrowed until all members have finished.
        unsafe { walk_share(matrix, block.block(), &[count], None, 0, (member, members), || ()) };
    });
}

/// `unrolled::run` with the columns shared out.
pub(super) fn steps(
    team: &Team,
    rnn: &PackedRnn,
    rows: &mut [f32],
    stride: usize,
    carried: usize,
    counts: &[usize],
    first: usize,
) {
    let Some(block) = unrolled::block_of(rnn, rows, stride, carried * stride, counts).map(Shared) else {
        return;
    };
    let state = Some(rnn.function);
    team.run(&|member, members, meeting| {
        let share = (member, members);
        // SAFETY: `block_of` checked the rows, which are borrowed until all members have finished.
        unsafe {
            walk_share(&rnn.recurrent, block.block(), counts, state, first, share, || meeting.wait());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn every_member_takes_part_once_and_all_meet() {
        let team = Arc::new(Team::new());
        let partners: Vec<_> = (0..3)
            .map(|_| {
                let team = Arc::clone(&team);
                std::thread::spawn(move || team.take_part())
            })
            .collect();
        for _ in 0..200 {
            let steps: Vec<AtomicUsize> = (0..50).map(|_| AtomicUsize::new(0)).collect();
            team.run(&|_, members, meeting| {
                for step in &steps {
                    step.fetch_add(1, Ordering::Relaxed);
                    meeting.wait();
                    assert_eq!(step.load(Ordering::Relaxed), members);
                }
            });
        }
        team.close();
        partners.into_iter().for_each(|partner| partner.join().expect("a partner panicked"));
        team.take_part();
    }
}
