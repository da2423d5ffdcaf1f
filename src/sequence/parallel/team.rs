//! Threads that work on one call together: rows shared out, or columns, step by step.
//!
//! Rows are independent: members claim runs of rows until none is left. Where rows are too few and the
//! recurrent kernel is larger than a core's cache, each member takes some panels of the kernel, whose weights
//! then stay in its own second-level cache, and all members meet at a barrier after every step.
//!
//! # No member waits for one that has not started
//! A task that a busy pool has not started yet cannot be counted on: two callers on one pool would wait for
//! each other's forever. So a worker *joins* when its task begins to run. A job with barriers is shared among
//! those that have joined when it begins; runs of rows may be claimed by whoever joins later, too. One caller
//! has the team at a time; another that finds it taken works alone.
//!
//! # No wait is long, and none is awake for long
//! Waking a sleeping thread takes longer than many a call: some ten microseconds of the caller's, and up to
//! milliseconds until it runs. So a worker without work stays awake for [`IDLE`] before it goes back to the
//! pool, and a stream of short calls finds it there. Short calls wake workers only where they follow each
//! other within [`SOON`]: else each would pay for a worker that comes when the call is over. Who waits for
//! another member stays awake for microseconds, and then sleeps.
//!
//! # A worker that cannot run
//! The processor that a member needs may be somebody else's: another program's, or the caller's own. Then two
//! threads take longer than one. Each job is measured: how long it took, and how much of a processor its work
//! took, which is what one thread would take that has a processor to itself. The differences are summed up.
//! What was saved lately pays for a delay now and then, which a machine has where nobody else works, too.
//! Where the sum falls below zero the caller goes on alone: so many times longer than the loss that it does
//! not matter, and longer still where the next attempt fails, too.
//!
//! # Floating-point modes
//! A member computes in the caller's mode, and has its own back afterwards: a result must not depend on who
//! computes it.
//!
//! # Panics
//! A panic in a member is a bug. It must not leave the others waiting, nor reach the pool, which would abort:
//! it is kept, whoever waits stops waiting, and the caller goes on panicking when nobody looks at its work
//! any more.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sync::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, yield_now};
use super::wait::{SPIN, Sleepers, glance, now, spin};
use crate::dispatch::FloatMode;
use crate::process::thread_time;

/// How long a worker stays awake without work.
const IDLE: Duration = Duration::from_micros(200);
/// And while a caller has the team: one that came too late for a job would otherwise be gone before the next,
/// call after call.
const IDLE_IN_CALL: Duration = Duration::from_millis(10);
/// How long a caller stays awake for a worker that it has woken.
const AWAKE: Duration = Duration::from_micros(200);
/// Calls of a team that follow each other so closely make a stream: what it costs to wake a worker comes
/// back.
const SOON: Duration = Duration::from_millis(1);
/// A wait in a job that is longer than a step of it is spent asleep; so is one that is longer than this.
const LONGEST_SPIN: Duration = Duration::from_millis(1);
/// How many times longer than what was lost a caller goes on alone.
const ALONE_FOR: u32 = 12;
/// What was saved counts for waits up to this: a few turns of another program on the same processor.
const MOST_CREDIT: Duration = Duration::from_millis(20);
/// At least so long, and at most.
const ALONE_AT_LEAST: Duration = Duration::from_millis(5);
const ALONE_AT_MOST: Duration = Duration::from_millis(500);
/// A sum so far below zero is within the clocks' error.
const LEAST_LOSS: Duration = Duration::from_micros(100);

/// `word` is the number of the last job with barriers, shifted, and the number of workers.
const WORKER_BITS: u32 = 16;
const WORKERS: usize = (1 << WORKER_BITS) - 1;

/// `open` is the number of the last offer, shifted; whether it still stands; and the number of workers that
/// look at it.
const OFFERED: u64 = 1 << 16;
const OFFER: u64 = 1 << 17;
const HELPERS: u64 = OFFERED - 1;

/// What a job's members carry out: called with the member's number, the number of members, and where they
/// meet.
type Job<'a> = &'a (dyn Fn(usize, usize, &Barrier<'_>) + Sync);
/// What anybody may help with: claims work until none is left.
type Offer<'a> = &'a (dyn Fn() + Sync);

/// Sends workers to a team.
pub(super) trait Crew: Send + Sync {
    fn send(&self);
}

/// A caller and the workers that have joined it.
#[derive(Debug)]
pub(super) struct Team {
    /// What the times below count from.
    made: Instant,
    /// Nanoseconds until a caller gave the team back the last time; 0 before the first.
    given_back: AtomicU64,
    /// Nanoseconds until when callers are alone, and how long they were the last time.
    alone_until: AtomicU64,
    alone_for: AtomicU64,
    /// Nanoseconds that workers have saved callers lately, and [`LEAST_LOSS`].
    credit: AtomicU64,
    /// Whether a caller has the team.
    taken: AtomicBool,
    /// Workers and jobs in one word, so that joining, leaving and beginning a job exclude each other.
    word: AtomicUsize,
    /// Workers that have joined or whose task waits in the pool.
    expected: AtomicUsize,
    /// The address of the current [`Job`] or [`Offer`] reference: valid from the change of `word` until all
    /// members have finished, or from the change of `open` until nobody looks at it.
    work: AtomicPtr<()>,
    /// The caller's floating-point mode.
    mode: AtomicU64,
    /// Members of the current job.
    members: AtomicUsize,
    /// Workers that have finished the current job.
    finished: AtomicUsize,
    /// Arrivals at the current job's barriers.
    arrivals: AtomicUsize,
    /// Offers and who looks at them in one word, so that looking and taking back exclude each other.
    open: AtomicU64,
    /// Nanoseconds of a processor that helpers have spent on the current offer.
    saved: AtomicU64,
    /// Whether a member of the current job, or a helper, has panicked.
    panicked: AtomicBool,
    sleepers: Sleepers,
    /// How often a worker has carried out a job or looked for offered work.
    #[cfg(test)]
    pub(super) helped: std::sync::atomic::AtomicUsize,
}

/// Where the members of a job meet, seen by one of them.
pub(in super::super) struct Barrier<'a> {
    team: &'a Team,
    members: usize,
    begun: Instant,
    waits: Cell<u32>,
    /// What long waits took together, and what of it was spent awake.
    waited: Cell<Duration>,
    awake: Cell<Duration>,
    /// How much of a processor this thread had had when it began.
    before: Duration,
}

impl<'a> Barrier<'a> {
    fn new(team: &'a Team, members: usize) -> Self {
        Self::from(team, members, Duration::ZERO)
    }

    /// The caller's, which asks how much it has [`worked`](Self::worked).
    fn of_caller(team: &'a Team, members: usize) -> Self {
        Self::from(team, members, thread_time())
    }

    fn from(team: &'a Team, members: usize, before: Duration) -> Self {
        let (waits, waited, awake) = (Cell::new(0), Cell::default(), Cell::default());
        Self { team, members, begun: now(), waits, waited, awake, before }
    }

    /// How much of a processor this member has had, but for waiting.
    fn worked(&self) -> Duration {
        thread_time().saturating_sub(self.before).saturating_sub(self.awake.get())
    }

    /// Waits until every member has called this as often as this one. What they wrote before is visible
    /// after.
    pub(super) fn wait(&self) {
        if self.members == 1 {
            return;
        }
        let arrivals = &self.team.arrivals;
        let mine = arrivals.fetch_add(1, Ordering::AcqRel) + 1;
        let all = mine.next_multiple_of(self.members);
        if mine == all {
            // The last one keeps nobody waiting any longer.
            self.changed();
        } else {
            self.wait_for(|| arrivals.load(Ordering::Acquire) >= all);
        }
    }

    /// Tells the others that what they [`wait_for`](Self::wait_for) may have come true.
    pub(in super::super) fn changed(&self) {
        if self.members > 1 {
            self.team.sleepers.wake();
        }
    }

    /// Waits until other members have made `done` true.
    pub(in super::super) fn wait_for(&self, done: impl Fn() -> bool) {
        self.wait_even_so(|| done() || self.team.panicked.load(Ordering::Acquire));
        assert!(!self.team.panicked.load(Ordering::Acquire), "another member has panicked");
    }

    /// The same where a panic does not end the wait.
    fn wait_even_so(&self, done: impl Fn() -> bool) {
        self.waits.set(self.waits.get() + 1);
        if glance(&done) {
            return;
        }
        let begun = now();
        // A large layer's members differ by more: waiting for as long as a step takes is better than to
        // sleep.
        let step = (begun - self.begun).saturating_sub(self.waited.get()) / self.waits.get();
        let comes = spin(&done, step.clamp(SPIN, LONGEST_SPIN));
        self.awake.set(self.awake.get() + (now() - begun));
        if !comes {
            self.team.sleepers.sleep(done, None);
        }
        self.waited.set(self.waited.get() + (now() - begun));
    }
}

/// How long a worker has had nothing to do.
struct Idle {
    since: Instant,
    /// The same, not counting the time that a caller had the team.
    free_since: Instant,
    looks: u32,
}

impl Idle {
    fn new() -> Self {
        Self { since: now(), free_since: now(), looks: 0 }
    }

    /// Waits for a moment; whether it was the last one.
    fn is_over(&mut self, taken: bool) -> bool {
        self.looks += 1;
        if cfg!(loom) {
            yield_now();
            return self.looks > 1;
        }
        std::hint::spin_loop();
        if !self.looks.is_multiple_of(64) {
            return false;
        }
        // Whoever else can use this processor goes first.
        yield_now();
        if taken {
            self.free_since = now();
            return self.since.elapsed() >= IDLE_IN_CALL;
        }
        self.free_since.elapsed() >= IDLE
    }
}

impl Team {
    pub(super) fn new() -> Self {
        Self {
            made: now(),
            given_back: AtomicU64::new(0),
            alone_until: AtomicU64::new(0),
            alone_for: AtomicU64::new(0),
            credit: AtomicU64::new(nanoseconds(LEAST_LOSS)),
            taken: AtomicBool::new(false),
            word: AtomicUsize::new(0),
            expected: AtomicUsize::new(0),
            work: AtomicPtr::new(std::ptr::null_mut()),
            mode: AtomicU64::new(0),
            members: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            arrivals: AtomicUsize::new(0),
            open: AtomicU64::new(0),
            saved: AtomicU64::new(0),
            panicked: AtomicBool::new(false),
            sleepers: Sleepers::new(),
            #[cfg(test)]
            helped: std::sync::atomic::AtomicUsize::new(0),
        }
    }

    /// The team, unless another caller has it or a caller is better off alone; `crew` sends workers when that
    /// has changed.
    pub(super) fn take(self: &Arc<Self>, crew: Option<Arc<dyn Crew>>) -> Option<TeamGuard> {
        if self.is_alone() || self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        Some(TeamGuard { team: Arc::clone(self), crew, was_lost: false })
    }

    /// Nanoseconds since the team was made.
    fn now(&self) -> u64 {
        nanoseconds(now() - self.made)
    }

    fn is_alone(&self) -> bool {
        let until = self.alone_until.load(Ordering::Relaxed);
        until > 0 && self.now() < until
    }

    /// Leaves callers alone after a loss.
    fn stay_alone(&self, lost: Duration) {
        let before = Duration::from_nanos(self.alone_for.load(Ordering::Relaxed));
        let until = Duration::from_nanos(self.alone_until.load(Ordering::Relaxed));
        let now = now() - self.made;
        // Soon after the last time: something stands in the way for longer.
        let again =
            if now.saturating_sub(until) < before { before.saturating_mul(2) } else { Duration::ZERO };
        let longest = ALONE_AT_MOST.max(lost.saturating_mul(ALONE_FOR));
        let alone = lost.saturating_mul(ALONE_FOR).max(again).max(ALONE_AT_LEAST).min(longest);
        self.alone_for.store(nanoseconds(alone), Ordering::Relaxed);
        self.alone_until.store(nanoseconds(now + alone), Ordering::Relaxed);
    }

    /// Whether one more worker should be asked to [`take_part`](Self::take_part); counts it as expected if
    /// so.
    pub(super) fn wants(&self, workers: usize) -> bool {
        let more = |expected| (expected < workers).then_some(expected + 1);
        self.expected.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Workers that have joined.
    fn here(&self) -> usize {
        self.word.load(Ordering::Acquire) & WORKERS
    }

    /// The life of a worker: joins, helps, and leaves when there has been nothing to do for a while.
    pub(super) fn take_part(&self) {
        // One operation joins and tells which job is the last that does not count on this worker: every later
        // one does.
        let before = self.word.fetch_add(1, Ordering::AcqRel);
        self.sleepers.wake();
        let me = (before & WORKERS) + 1;
        let mut seen = before >> WORKER_BITS;
        let mut helped = None;
        let mut idle = Idle::new();
        loop {
            let word = self.word.load(Ordering::Acquire);
            let open = self.open.load(Ordering::Acquire);
            if word >> WORKER_BITS != seen {
                seen = word >> WORKER_BITS;
                self.carry_out(me);
            } else if open & OFFERED != 0 && helped != Some(open / OFFER) {
                helped = self.help();
            } else {
                if idle.is_over(self.taken.load(Ordering::Relaxed)) && self.leave(seen, me) {
                    return;
                }
                continue;
            }
            idle = Idle::new();
        }
    }

    /// Only the worker with the highest number may leave, and only while no job has begun that counts on it.
    fn leave(&self, seen: usize, me: usize) -> bool {
        let last = seen << WORKER_BITS | me;
        let left = self.word.compare_exchange(last, last - 1, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if left {
            self.expected.fetch_sub(1, Ordering::AcqRel);
        }
        left
    }

    /// A worker's share of the job that has begun.
    fn carry_out(&self, me: usize) {
        let members = self.members.load(Ordering::Relaxed);
        let job = self.work.load(Ordering::Relaxed).cast::<Job<'_>>();
        self.kept(|| {
            // SAFETY: the job began after `me` had joined and counts on it, so the caller stays inside `run`,
            // where the job lives, until this worker has finished.
            unsafe { (*job)(me, members, &Barrier::new(self, members)) };
        });
        self.finished.fetch_add(1, Ordering::AcqRel);
        self.sleepers.wake();
    }

    /// Looks at what is offered; gives the offer's number where one stands.
    fn help(&self) -> Option<u64> {
        let before = self.open.fetch_add(1, Ordering::AcqRel);
        let stands = before & OFFERED != 0;
        if stands {
            let offer = self.work.load(Ordering::Relaxed).cast::<Offer<'_>>();
            let before = thread_time();
            self.kept(|| {
                // SAFETY: this worker was counted while the offer stood, so the caller stays inside `share`,
                // where the work lives, until this worker is counted no longer.
                unsafe { (*offer)() };
            });
            let spent = nanoseconds(thread_time().saturating_sub(before));
            self.saved.fetch_add(spent, Ordering::Relaxed);
        }
        self.open.fetch_sub(1, Ordering::AcqRel);
        self.sleepers.wake();
        stands.then_some(before / OFFER)
    }

    /// Runs a worker's share in the caller's floating-point mode, and keeps a panic from the pool.
    fn kept(&self, share: impl FnOnce()) {
        let mode = FloatMode::from_bits(self.mode.load(Ordering::Relaxed));
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let _restore = mode.enter();
            share();
        }));
        #[cfg(test)]
        self.helped.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let Err(payload) = outcome {
            // Dropping a payload can panic once more; leaking it cannot.
            std::mem::forget(payload);
            // Who calls this wakes those that sleep, next.
            self.panicked.store(true, Ordering::Release);
        }
    }

    /// Gets ready for work at this address, which `word` or `open` will publish.
    fn prepare(&self, work: *const ()) {
        self.panicked.store(false, Ordering::Relaxed);
        self.saved.store(0, Ordering::Relaxed);
        self.mode.store(FloatMode::current().bits(), Ordering::Relaxed);
        self.work.store(work.cast_mut(), Ordering::Relaxed);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A caller's hold on its team.
pub(in super::super) struct TeamGuard {
    team: Arc<Team>,
    crew: Option<Arc<dyn Crew>>,
    /// Whether time was lost, so that the caller is alone for now.
    was_lost: bool,
}

impl Drop for TeamGuard {
    fn drop(&mut self) {
        self.team.given_back.store(self.team.now(), Ordering::Relaxed);
        self.team.taken.store(false, Ordering::Release);
    }
}

impl TeamGuard {
    /// Whether the team was in use a moment ago.
    pub(super) fn is_soon(&self) -> bool {
        let last = self.team.given_back.load(Ordering::Relaxed);
        last > 0 && u128::from(self.team.now().saturating_sub(last)) < SOON.as_nanos()
    }

    /// Workers that are awake, after a wait of up to `timeout` for the first.
    pub(in super::super) fn workers(&mut self, timeout: Duration) -> usize {
        let is_alone = self.is_alone();
        let is_here = || self.team.here() > 0;
        if !is_alone && !timeout.is_zero() && !spin(is_here, timeout.min(AWAKE)) {
            let rest = timeout.saturating_sub(AWAKE);
            if !rest.is_zero() {
                self.team.sleepers.sleep(is_here, Some(rest));
            }
        }
        if is_alone { 0 } else { self.team.here() }
    }

    /// Sums up what `work` of one processor took with several.
    fn settle(&mut self, work: Duration, took: Duration) {
        // Counted from the lowest sum that is allowed, so that it is never negative.
        let before = Duration::from_nanos(self.team.credit.load(Ordering::Relaxed)).saturating_add(work);
        let mut left = before.saturating_sub(took).min(MOST_CREDIT);
        if took > before {
            self.was_lost = true;
            self.team.stay_alone(LEAST_LOSS + (took - before));
            left = LEAST_LOSS;
        } else if left == MOST_CREDIT {
            self.team.alone_for.store(0, Ordering::Relaxed);
        }
        self.team.credit.store(nanoseconds(left), Ordering::Relaxed);
    }

    /// Whether the caller is better off alone; when that is over, workers are asked once more.
    fn is_alone(&mut self) -> bool {
        if self.was_lost && !self.team.is_alone() {
            self.was_lost = false;
            if let Some(crew) = &self.crew {
                crew.send();
            }
        }
        self.was_lost
    }

    /// Carries out `job` with everybody who has joined; of so many members, all but the caller do `others`
    /// times the caller's work.
    pub(in super::super) fn run(&mut self, others: impl Fn(usize) -> f64, job: Job<'_>) {
        /// Workers must have finished before the job's memory goes, even where the caller's share panics.
        struct Ending<'a> {
            barrier: &'a Barrier<'a>,
            completed: bool,
        }
        impl Drop for Ending<'_> {
            fn drop(&mut self) {
                let Barrier { team, members, .. } = *self.barrier;
                if !self.completed {
                    team.panicked.store(true, Ordering::Release);
                    team.sleepers.wake();
                }
                self.barrier.wait_even_so(|| team.finished.load(Ordering::Acquire) == members - 1);
            }
        }
        if self.is_alone() || self.team.here() == 0 {
            return job(0, 1, &Barrier::new(&self.team, 1));
        }
        let team = &*Arc::clone(&self.team);
        team.prepare(std::ptr::from_ref(&job).cast());
        team.finished.store(0, Ordering::Relaxed);
        team.arrivals.store(0, Ordering::Relaxed);
        let mut word = team.word.load(Ordering::Acquire);
        let members = loop {
            let members = 1 + (word & WORKERS);
            team.members.store(members, Ordering::Relaxed);
            // The job's number goes up by one; the workers stay.
            let next = word.wrapping_add(1 << WORKER_BITS);
            match team.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break members,
                Err(other) => word = other,
            }
        };
        let barrier = Barrier::of_caller(team, members);
        let mut ending = Ending { barrier: &barrier, completed: false };
        job(0, members, &barrier);
        ending.completed = true;
        drop(ending);
        let took = now() - barrier.begun;
        let all = barrier.worked().as_secs_f64() * (1.0 + others(members));
        self.settle(Duration::try_from_secs_f64(all).unwrap_or(took), took);
        assert!(!team.panicked.load(Ordering::Acquire), "another thread's share panicked");
    }

    /// Calls `claim` here and in whoever helps; it claims pieces of work until none is left, and all are done
    /// when this returns.
    pub(super) fn share(&mut self, claim: Offer<'_>) {
        /// Takes the offer back even where the work panics: workers must not see it after its end.
        struct Closing<'a> {
            barrier: &'a Barrier<'a>,
        }
        impl Drop for Closing<'_> {
            fn drop(&mut self) {
                let open = &self.barrier.team.open;
                open.fetch_and(!OFFERED, Ordering::AcqRel);
                self.barrier.wait_even_so(|| open.load(Ordering::Acquire) & HELPERS == 0);
            }
        }
        if self.is_alone() {
            return claim();
        }
        let team = &*Arc::clone(&self.team);
        team.prepare(std::ptr::from_ref(&claim).cast());
        // The offer's number goes up by one.
        team.open.fetch_add(OFFER | OFFERED, Ordering::AcqRel);
        let barrier = Barrier::of_caller(team, 2);
        let closing = Closing { barrier: &barrier };
        claim();
        drop(closing);
        // Pieces differ, so what helpers did is measured, too.
        let helped = Duration::from_nanos(team.saved.load(Ordering::Relaxed));
        if !helped.is_zero() {
            self.settle(barrier.worked() + helped, now() - barrier.begun);
        }
        assert!(!team.panicked.load(Ordering::Acquire), "another thread's share panicked");
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn workers(team: &Arc<Team>, count: usize) -> Vec<std::thread::JoinHandle<()>> {
        let worker = |_| {
            let team = Arc::clone(team);
            assert!(team.wants(count));
            std::thread::spawn(move || team.take_part())
        };
        (0..count).map(worker).collect()
    }

    fn others(members: usize) -> f64 {
        (members - 1) as f64
    }

    /// The team, when the machine's other work leaves it alone.
    fn taken(team: &Arc<Team>) -> TeamGuard {
        let begun = Instant::now();
        loop {
            if let Some(held) = team.take(None) {
                return held;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "the team stays taken");
        }
    }

    #[test]
    fn every_member_takes_part_once_and_all_meet() {
        let team = Arc::new(Team::new());
        let workers = workers(&team, 3);
        let mut held = taken(&team);
        assert!(team.take(None).is_none());
        for _ in 0..200 {
            let steps: Vec<AtomicUsize> = (0..50).map(|_| AtomicUsize::new(0)).collect();
            held.run(others, &|_, members, barrier| {
                for step in &steps {
                    step.fetch_add(1, Ordering::Relaxed);
                    barrier.wait();
                    assert_eq!(step.load(Ordering::Relaxed), members);
                }
            });
        }
        drop(held);
        workers.into_iter().for_each(|worker| worker.join().expect("a worker panicked"));
        assert_eq!(team.here(), 0, "all have left");
        assert!(team.wants(1), "and may be asked again");
    }

    /// A job longer than `IDLE` must not lose its worker before the next.
    #[test]
    fn who_came_during_a_job_is_there_for_the_next() {
        let pause = |ms| std::thread::sleep(Duration::from_millis(ms));
        let mut both = 0;
        for _ in 0..20 {
            let team = Arc::new(Team::new());
            let mut held = taken(&team);
            assert!(team.wants(1));
            let worker = {
                let team = Arc::clone(&team);
                std::thread::spawn(move || team.take_part())
            };
            held.run(others, &|_, _, _| pause(4));
            let seen = AtomicUsize::new(0);
            held.run(others, &|member, members, _| {
                if member == 0 {
                    seen.store(members, Ordering::Relaxed);
                }
            });
            both += usize::from(seen.load(Ordering::Relaxed) == 2);
            drop(held);
            worker.join().expect("a worker panicked");
        }
        // On a machine that is busy some come late; where a job loses its worker, none is there.
        assert!(both >= 5, "of 20 workers that came during a job {both} were there for the next");
    }

    #[test]
    fn every_piece_is_claimed_once() {
        let team = Arc::new(Team::new());
        let workers = workers(&team, 3);
        let mut held = taken(&team);
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
        drop(held);
        workers.into_iter().for_each(|worker| worker.join().expect("a worker panicked"));
    }

    /// The worker sleeps in the middle of a job, as one does whose processor somebody else has. A busy machine may keep
    /// this thread from looking before the time alone is over, so once in some tries is enough.
    #[test]
    fn who_waits_in_vain_goes_on_alone() {
        let alone = || {
            let team = Arc::new(Team::new());
            let workers = workers(&team, 1);
            let mut held = taken(&team);
            assert_eq!(held.workers(Duration::from_secs(60)), 1);
            let members = AtomicUsize::new(0);
            let job = |member: usize, all: usize, barrier: &Barrier<'_>| {
                if member == 0 {
                    members.store(all, Ordering::Relaxed);
                } else {
                    std::thread::sleep(Duration::from_millis(3));
                }
                barrier.wait();
            };
            held.run(others, &job);
            let first = members.load(Ordering::Relaxed);
            held.run(others, &job);
            let second = members.load(Ordering::Relaxed);
            let nobody = held.workers(Duration::ZERO) == 0;
            drop(held);
            let next_alone = team.take(None).is_none();
            drop(taken(&team));
            workers.into_iter().for_each(|worker| worker.join().expect("a worker panicked"));
            // 12 times 3 ms are not over.
            first == 2 && second == 1 && nobody && next_alone
        };
        assert!((0..20).any(|_| alone()), "a call goes on with a worker that keeps it waiting");
    }

    /// What a helper did for longer than the caller is no loss. On a machine that is busy a helper may really keep the
    /// caller waiting, so once in some tries is enough.
    #[test]
    fn pieces_of_different_sizes_are_no_loss() {
        let is_no_loss = || {
            let team = Arc::new(Team::new());
            let workers = workers(&team, 1);
            let mut held = taken(&team);
            // One that had to wait for long for its processor may have gone again.
            let came = held.workers(Duration::from_secs(1)) == 1;
            // What it takes to wake the caller is a loss, which earlier calls have paid for.
            team.credit.store(nanoseconds(Duration::from_millis(3)), Ordering::Relaxed);
            let caller = std::thread::current().id();
            let helps = AtomicBool::new(false);
            held.share(&|| {
                let begun = thread_time();
                if std::thread::current().id() == caller {
                    while !helps.load(Ordering::Relaxed) && thread_time() - begun < Duration::from_secs(1) {
                        std::thread::yield_now();
                    }
                } else {
                    helps.store(true, Ordering::Relaxed);
                    while thread_time() - begun < Duration::from_millis(5) {}
                }
            });
            let lost = held.was_lost;
            drop(held);
            workers.into_iter().for_each(|worker| worker.join().expect("a worker panicked"));
            came && helps.into_inner() && !lost
        };
        assert!((0..20).any(|_| is_no_loss()), "a long piece counts as a loss");
    }
}
