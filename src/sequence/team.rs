//! Threads that work on one call together: rows shared out, or columns, step by step.
//!
//! Rows are independent: members claim runs of rows until none is left. Where rows are too few and the recurrent kernel
//! is larger than a core's cache, each member takes some panels of the kernel, whose weights then stay in its own
//! second-level cache, and all members meet after every step.
//!
//! # No member waits for one that has not started
//! A task that a busy pool has not started yet cannot be counted on: two callers on one pool would wait for each other's
//! forever. So a partner *joins* when its task begins to run. A job with meetings is shared among those that have joined
//! when it begins; runs of rows may be claimed by whoever joins later, too. One caller has the team at a time; another
//! that finds it taken works alone.
//!
//! # Partners linger
//! Waking a sleeping thread takes longer than many a call: some ten microseconds of the caller's, and up to milliseconds until it
//! runs. So a partner without work stays for [`LINGER`], spinning and then yielding, before it goes back to the pool, and a
//! stream of short calls finds it awake. While a caller holds the team it stays at any rate: one that came too late for a long
//! job would otherwise be gone before the next, call after call. And short calls wake partners only where they follow each
//! other within [`SOON`]: else each would pay for a partner that comes when the call is over.
//!
//! # Panics
//! A panic in a member is a bug. It must not leave the others waiting, nor reach the pool, which would abort: it is kept,
//! whoever waits stops waiting, and the caller goes on panicking when nobody looks at its work any more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::unrolled;
use crate::dispatch::Block;
use crate::gemm::{Init, PackedMatrix, Rows, block_of, walk_share};
use crate::layers::PackedRnn;

/// How long a partner stays without work.
const LINGER: Duration = Duration::from_micros(200);
/// Calls of a team that follow each other so closely make a stream: what it costs to wake a partner comes back.
const SOON: Duration = Duration::from_millis(1);
/// Rounds of spinning before a waiting thread yields: some tens of microseconds.
const SPINS: u32 = 10_000;
/// Steps after which whoever has joined meanwhile takes part.
const STEPS_A_JOB: usize = 32;
/// `word` is the number of the last job with meetings, shifted, and the number of partners.
const PARTNER_BITS: u32 = 16;
const PARTNERS: usize = (1 << PARTNER_BITS) - 1;

/// What a job's members carry out: called with the member's number, the number of members, and where they meet.
type Job<'a> = &'a (dyn Fn(usize, usize, &Meeting<'_>) + Sync);
/// What anybody may help with: claims work until none is left.
type Open<'a> = &'a (dyn Fn() + Sync);

/// When a team was made.
#[derive(Debug)]
struct Made(Instant);

impl Default for Made {
    fn default() -> Self {
        Self(Instant::now())
    }
}

/// A caller and those that have joined it.
#[derive(Debug, Default)]
pub(super) struct Team {
    /// What `given_back` counts from.
    made: Made,
    /// Nanoseconds until a caller gave the team back the last time; 0 before the first.
    given_back: AtomicU64,
    /// Whether a caller has the team.
    taken: AtomicBool,
    /// Partners and jobs in one word, so that joining, leaving and beginning a job exclude each other.
    word: AtomicUsize,
    /// Partners that have joined or whose task waits in the pool.
    expected: AtomicUsize,
    /// The address of the current [`Job`] reference; valid from the word's change until all members finished.
    job: AtomicPtr<()>,
    /// Members of the current job.
    members: AtomicUsize,
    /// Partners that have finished the current job.
    finished: AtomicUsize,
    /// Arrivals at the current job's meetings.
    arrivals: AtomicUsize,
    /// The address of the current [`Open`] reference, or null.
    open: AtomicPtr<()>,
    /// How many there have been: a partner that found nothing left to claim waits for the next.
    opened: AtomicUsize,
    /// Partners that may be looking at `open`.
    helping: AtomicUsize,
    /// Whether a member of the current job, or a helper, has panicked.
    panicked: AtomicBool,
    /// How often a partner has carried out a job or looked for open work.
    #[cfg(test)]
    pub(super) helped: AtomicUsize,
}

/// Where the members of a job meet.
pub(super) struct Meeting<'a> {
    team: &'a Team,
    members: usize,
}

impl Meeting<'_> {
    /// Waits until every member has called this as often as this one. What they wrote before is visible after.
    fn wait(&self) {
        let arrivals = &self.team.arrivals;
        let mine = arrivals.fetch_add(1, Ordering::AcqRel) + 1;
        let all = mine.next_multiple_of(self.members);
        self.wait_for(|| arrivals.load(Ordering::Acquire) >= all);
    }

    /// Waits until other members have made `done` true.
    pub(super) fn wait_for(&self, done: impl Fn() -> bool) {
        wait_until(|| done() || self.team.panicked.load(Ordering::Relaxed));
        assert!(!self.team.panicked.load(Ordering::Relaxed), "another member has panicked");
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

/// A caller's hold on its team.
#[derive(Debug)]
pub(super) struct Held<'a>(&'a Team);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.given_back.store(self.0.now(), Ordering::Relaxed);
        self.0.taken.store(false, Ordering::Release);
    }
}

impl Team {
    /// The team, unless another caller has it.
    pub(super) fn take(&self) -> Option<Held<'_>> {
        // Lazily: a hold made and dropped here would give away somebody else's.
        (!self.taken.swap(true, Ordering::Acquire)).then(|| Held(self))
    }

    /// Nanoseconds since the team was made.
    fn now(&self) -> u64 {
        u64::try_from(self.made.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether one more partner should be asked to [`take_part`](Self::take_part); counts it as expected if so.
    pub(super) fn wants(&self, partners: usize) -> bool {
        let more = |expected| (expected < partners).then_some(expected + 1);
        self.expected.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// The life of a partner: joins, helps, and leaves when there has been nothing to do for a while.
    pub(super) fn take_part(&self) {
        // One operation joins and tells which job is the last that does not count on this partner: every later one does.
        let before = self.word.fetch_add(1, Ordering::AcqRel);
        let me = (before & PARTNERS) + 1;
        let mut seen = before >> PARTNER_BITS;
        // Work that was opened before may still be helped with.
        let mut helped = self.opened.load(Ordering::Acquire).wrapping_sub(1);
        let mut since = Instant::now();
        let mut spins = 0;
        loop {
            let word = self.word.load(Ordering::Acquire);
            if word >> PARTNER_BITS != seen {
                seen = word >> PARTNER_BITS;
                let members = self.members.load(Ordering::Acquire);
                let job = self.job.load(Ordering::Acquire).cast::<Job<'_>>();
                self.kept(|| {
                    // SAFETY: the job began after `me` had joined and counts on it, so the caller stays inside `run`,
                    // where the job lives, until this partner has finished.
                    unsafe { (*job)(me, members, &Meeting { team: self, members }) };
                });
                #[cfg(test)]
                self.helped.fetch_add(1, Ordering::Relaxed);
                self.finished.fetch_add(1, Ordering::Release);
            } else if self.opened.load(Ordering::Acquire) != helped {
                helped = self.opened.load(Ordering::Acquire);
                self.helping.fetch_add(1, Ordering::SeqCst);
                let open = self.open.load(Ordering::SeqCst).cast::<Open<'_>>();
                if !open.is_null() {
                    self.kept(|| {
                        // SAFETY: `helping` was raised before the address was read, and the caller stays inside `share`,
                        // where the work lives, until it has taken the address back and `helping` has fallen to zero.
                        unsafe { (*open)() };
                    });
                    #[cfg(test)]
                    self.helped.fetch_add(1, Ordering::Relaxed);
                }
                self.helping.fetch_sub(1, Ordering::SeqCst);
            } else {
                spins += 1;
                std::hint::spin_loop();
                if spins % 64 != 0 || since.elapsed() < LINGER {
                    if spins > SPINS {
                        std::thread::yield_now();
                    }
                    continue;
                }
                if self.taken.load(Ordering::Relaxed) {
                    since = Instant::now();
                    continue;
                }
                // Only the partner with the highest number may leave, and only while no job has begun.
                let alone = seen << PARTNER_BITS | me;
                let fewer = seen << PARTNER_BITS | (me - 1);
                if self.word.compare_exchange(alone, fewer, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                    self.expected.fetch_sub(1, Ordering::AcqRel);
                    return;
                }
            }
            (since, spins) = (Instant::now(), 0);
        }
    }

    /// Runs a partner's share, and keeps a panic from the pool.
    fn kept(&self, share: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(share)) {
            // Dropping a payload can panic once more; leaking it cannot.
            std::mem::forget(payload);
            self.panicked.store(true, Ordering::Relaxed);
        }
    }
}

impl Held<'_> {
    /// Whether the team was in use a moment ago.
    pub(super) fn is_soon(&self) -> bool {
        let last = self.0.given_back.load(Ordering::Relaxed);
        last > 0 && u128::from(self.0.now().saturating_sub(last)) < SOON.as_nanos()
    }

    /// Partners that are awake, after a wait of up to `patience` for the first.
    pub(super) fn partners(&self, patience: Duration) -> usize {
        let here = || self.0.word.load(Ordering::Acquire) & PARTNERS;
        if here() == 0 && !patience.is_zero() {
            let begun = Instant::now();
            wait_until(|| here() > 0 || begun.elapsed() >= patience);
        }
        here()
    }

    /// Carries out `job` with everybody who has joined.
    pub(super) fn run(&self, job: Job<'_>) {
        /// Partners must have finished before the job's memory goes, even where the caller's share panics.
        struct Ending<'a> {
            team: &'a Team,
            partners: usize,
            completed: bool,
        }
        impl Drop for Ending<'_> {
            fn drop(&mut self) {
                if !self.completed {
                    self.team.panicked.store(true, Ordering::Relaxed);
                }
                wait_until(|| self.team.finished.load(Ordering::Acquire) == self.partners);
            }
        }
        let team = self.0;
        team.panicked.store(false, Ordering::Relaxed);
        team.finished.store(0, Ordering::Relaxed);
        team.arrivals.store(0, Ordering::Relaxed);
        team.job.store(std::ptr::from_ref(&job).cast_mut().cast(), Ordering::Relaxed);
        let mut word = team.word.load(Ordering::Acquire);
        let members = loop {
            let members = 1 + (word & PARTNERS);
            team.members.store(members, Ordering::Relaxed);
            // The job's number goes up by one; the partners stay.
            let next = word.wrapping_add(1 << PARTNER_BITS);
            match team.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break members,
                Err(other) => word = other,
            }
        };
        let mut ending = Ending { team, partners: members - 1, completed: false };
        job(0, members, &Meeting { team, members });
        ending.completed = true;
        drop(ending);
        assert!(!team.panicked.load(Ordering::Relaxed), "another thread's share panicked");
    }

    /// Calls `claim` here and in whoever helps; it claims pieces of work until none is left, and all are done when this
    /// returns.
    pub(super) fn share(&self, claim: Open<'_>) {
        /// Takes the address back even where the work panics: partners must not see it after its end.
        struct Closing<'a>(&'a Team);
        impl Drop for Closing<'_> {
            fn drop(&mut self) {
                self.0.open.store(std::ptr::null_mut(), Ordering::SeqCst);
                wait_until(|| self.0.helping.load(Ordering::SeqCst) == 0);
            }
        }
        self.0.panicked.store(false, Ordering::Relaxed);
        self.0.open.store(std::ptr::from_ref(&claim).cast_mut().cast(), Ordering::SeqCst);
        self.0.opened.fetch_add(1, Ordering::Release);
        let closing = Closing(self.0);
        claim();
        drop(closing);
        assert!(!self.0.panicked.load(Ordering::Relaxed), "another thread's share panicked");
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
    team: &Held<'_>,
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
    team: &Held<'_>,
    rnn: &PackedRnn,
    rows: &mut [f32],
    stride: usize,
    carried: usize,
    counts: &[usize],
    first: usize,
) {
    let state = Some(rnn.function);
    let (mut before, mut here, mut first) = (0, carried * stride, first);
    for counts in counts.chunks(STEPS_A_JOB) {
        let rows = &mut rows[before..];
        let Some(block) = unrolled::block_of(rnn, rows, stride, here - before, counts).map(Shared) else {
            return;
        };
        team.run(&|member, members, meeting| {
            let share = (member, members);
            // SAFETY: `block_of` checked the rows, which are borrowed until all members have finished.
            unsafe {
                walk_share(&rnn.recurrent, block.block(), counts, state, first, share, || meeting.wait());
            }
        });
        let all: usize = counts.iter().sum();
        before = here + (all - counts[counts.len() - 1]) * stride;
        here += all * stride;
        first += counts.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn partners(team: &Arc<Team>, count: usize) -> Vec<std::thread::JoinHandle<()>> {
        let partner = |_| {
            let team = Arc::clone(team);
            assert!(team.wants(count));
            std::thread::spawn(move || team.take_part())
        };
        (0..count).map(partner).collect()
    }

    #[test]
    fn every_member_takes_part_once_and_all_meet() {
        let team = Arc::new(Team::default());
        let partners = partners(&team, 3);
        let held = team.take().expect("nobody else has it");
        assert!(team.take().is_none());
        for _ in 0..200 {
            let steps: Vec<AtomicUsize> = (0..50).map(|_| AtomicUsize::new(0)).collect();
            held.run(&|_, members, meeting| {
                for step in &steps {
                    step.fetch_add(1, Ordering::Relaxed);
                    meeting.wait();
                    assert_eq!(step.load(Ordering::Relaxed), members);
                }
            });
        }
        // They stay as long as somebody has the team.
        drop(held);
        partners.into_iter().for_each(|partner| partner.join().expect("a partner panicked"));
        assert_eq!(team.word.load(Ordering::Relaxed) & PARTNERS, 0, "all have left");
        assert!(team.wants(1), "and may be asked again");
    }

    /// A call longer than `LINGER` must not lose its partner before the next.
    #[test]
    fn who_came_during_a_job_is_there_for_the_next() {
        let pause = |ms| std::thread::sleep(Duration::from_millis(ms));
        let mut both = 0;
        for _ in 0..20 {
            let team = Arc::new(Team::default());
            let held = team.take().expect("nobody else has it");
            assert!(team.wants(1));
            let partner = {
                let team = Arc::clone(&team);
                std::thread::spawn(move || {
                    pause(2);
                    team.take_part();
                })
            };
            held.run(&|_, _, _| pause(20));
            let seen = AtomicUsize::new(0);
            held.run(&|member, members, _| {
                if member == 0 {
                    seen.store(members, Ordering::Relaxed);
                }
            });
            both += usize::from(seen.load(Ordering::Relaxed) == 2);
            drop(held);
            partner.join().expect("a partner panicked");
        }
        assert_eq!(both, 20, "of 20 partners that came during a job so many were there for the next");
    }

    #[test]
    fn every_piece_is_claimed_once() {
        let team = Arc::new(Team::default());
        let partners = partners(&team, 3);
        let held = team.take().expect("nobody else has it");
        for _ in 0..2000 {
            let next = AtomicUsize::new(0);
            let done: Vec<AtomicUsize> = (0..7).map(|_| AtomicUsize::new(0)).collect();
            held.share(&|| {
                while let Some(piece) = done.get(next.fetch_add(1, Ordering::Relaxed)) {
                    piece.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert!(done.iter().all(|piece| piece.load(Ordering::Relaxed) == 1));
        }
        // They stay as long as somebody has the team.
        drop(held);
        partners.into_iter().for_each(|partner| partner.join().expect("a partner panicked"));
    }
}
