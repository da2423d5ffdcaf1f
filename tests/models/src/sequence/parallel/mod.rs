//! Each model is a few lines of a caller and of workers; loom runs them in every order that the memory model
//! allows, with at most so many preemptions, and fails where a thread reads what another is writing, or where
//! all sleep.

#[path = "../../../../../src/sequence/parallel/sync.rs"]
mod sync;
#[path = "../../../../../src/sequence/parallel/team.rs"]
mod team;
#[path = "../../../../../src/sequence/parallel/wait.rs"]
mod wait;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread::{self, JoinHandle};
use team::{TeamGuard, Team};

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Memory that loom watches: a write while another thread reads or writes is a failure.
struct Watched(UnsafeCell<usize>);

// SAFETY: that no two threads meet here is what loom checks.
unsafe impl Sync for Watched {}
// SAFETY: as above.
unsafe impl Send for Watched {}

impl Watched {
    fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    fn read(&self) -> usize {
        // SAFETY: loom fails where somebody writes meanwhile.
        self.0.with(|value| unsafe { *value })
    }

    fn add(&self, more: usize) {
        // SAFETY: loom fails where somebody else is here meanwhile.
        self.0.with_mut(|value| unsafe { *value += more });
    }
}

fn worker(team: &Arc<Team>) -> JoinHandle<()> {
    assert!(team.wants(8));
    let team = Arc::clone(team);
    thread::spawn(move || team.take_part())
}

fn taken(team: &Arc<Team>) -> TeamGuard {
    team.take(None).expect("nobody else has it")
}

fn others(threads: usize) -> f64 {
    (threads - 1) as f64
}

/// A job of two steps with a barrier between: each thread writes its own place, then reads the others'.
fn two_steps(held: &mut TeamGuard) {
    let places = [Watched::new(), Watched::new(), Watched::new()];
    held.run(others, &|thread, threads, barrier| {
        places[thread].add(1);
        barrier.wait();
        assert!(places[..threads].iter().all(|place| place.read() == 1), "a barrier lets through too early");
        barrier.wait();
        places[thread].add(1);
    });
    // The caller's alone again.
    let done = places.iter().filter(|place| place.read() > 0).count();
    assert!(places[..done].iter().all(|place| place.read() == 2), "a share is missing");
    places.iter().for_each(|place| place.add(1));
}

/// Two pieces, claimed by whoever comes.
fn two_pieces(held: &mut TeamGuard) {
    let next = AtomicUsize::new(0);
    let pieces = [Watched::new(), Watched::new()];
    let alive = Watched::new();
    held.share(&|| {
        assert_eq!(alive.read(), 0, "somebody looks at what has been taken back");
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            piece.add(1);
        }
    });
    alive.add(1);
    for piece in &pieces {
        assert_eq!(piece.read(), 1, "done once");
        piece.add(1);
    }
}

#[test]
fn a_worker_joins_works_and_leaves() {
    check(3, || {
        let team = Arc::new(Team::new());
        let worker = worker(&team);
        let mut held = taken(&team);
        two_steps(&mut held);
        drop(held);
        worker.join().expect("a worker panicked");
        assert!(team.wants(1), "it has left");
    });
}

#[test]
fn jobs_follow_each_other() {
    check(2, || {
        let team = Arc::new(Team::new());
        let worker = worker(&team);
        let mut held = taken(&team);
        for _ in 0..2 {
            let place = Watched::new();
            held.run(others, &|thread, threads, _| {
                if thread == threads - 1 {
                    place.add(1);
                }
            });
            assert_eq!(place.read(), 1);
        }
        drop(held);
        worker.join().expect("a worker panicked");
    });
}

#[test]
fn two_workers_meet() {
    check(1, || {
        let team = Arc::new(Team::new());
        let workers = [worker(&team), worker(&team)];
        let mut held = taken(&team);
        let places = [Watched::new(), Watched::new(), Watched::new()];
        held.run(others, &|thread, threads, barrier| {
            places[thread].add(1);
            barrier.wait();
            assert!(places[..threads].iter().all(|place| place.read() == 1));
        });
        places.iter().for_each(|place| place.add(1));
        drop(held);
        workers.into_iter().for_each(|worker| worker.join().expect("a worker panicked"));
    });
}

#[test]
fn offers_are_taken_back() {
    check(3, || {
        let team = Arc::new(Team::new());
        let worker = worker(&team);
        let mut held = taken(&team);
        two_pieces(&mut held);
        two_pieces(&mut held);
        drop(held);
        worker.join().expect("a worker panicked");
    });
}

#[test]
fn offers_and_jobs_in_turn() {
    check(2, || {
        let team = Arc::new(Team::new());
        let worker = worker(&team);
        let mut held = taken(&team);
        two_pieces(&mut held);
        two_steps(&mut held);
        two_pieces(&mut held);
        drop(held);
        worker.join().expect("a worker panicked");
    });
}

#[test]
fn two_callers_and_a_worker() {
    check(2, || {
        let team = Arc::new(Team::new());
        let worker = worker(&team);
        let other = {
            let team = Arc::clone(&team);
            thread::spawn(move || {
                if let Some(mut held) = team.take(None) {
                    two_pieces(&mut held);
                }
            })
        };
        if let Some(mut held) = team.take(None) {
            two_pieces(&mut held);
        }
        other.join().expect("a caller panicked");
        worker.join().expect("a worker panicked");
    });
}

/// A neighbour waits for a counter rather than for all, as the layers of a stack do.
#[test]
fn a_neighbour_is_waited_for() {
    check(3, || {
        let team = Arc::new(Team::new());
        let worker = worker(&team);
        let mut held = taken(&team);
        let (done, handed) = (AtomicUsize::new(0), Watched::new());
        held.run(others, &|thread, threads, barrier| {
            if thread == 0 {
                handed.add(1);
                done.store(1, Ordering::Release);
                barrier.changed();
            }
            if thread == threads - 1 {
                barrier.wait_for(|| done.load(Ordering::Acquire) == 1);
                assert_eq!(handed.read(), 1);
            }
        });
        handed.add(1);
        drop(held);
        worker.join().expect("a worker panicked");
    });
}

#[test]
fn a_panic_leaves_nobody_waiting() {
    for panicking in [0, 1] {
        check(2, move || {
            let team = Arc::new(Team::new());
            let worker = worker(&team);
            let mut held = taken(&team);
            let place = Watched::new();
            let most = AtomicUsize::new(1);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                held.run(others, &|thread, threads, barrier| {
                    if thread == 0 {
                        most.store(threads, Ordering::Relaxed);
                    }
                    if thread == panicking {
                        std::panic::resume_unwind(Box::new("as it should"));
                    }
                    barrier.wait();
                    place.read();
                });
            }));
            place.add(1);
            let together = most.load(Ordering::Relaxed) > panicking;
            assert_eq!(outcome.is_err(), together, "a panic reaches the caller");
            // The team works on.
            two_pieces(&mut held);
            drop(held);
            worker.join().expect("a worker panicked");
        });
    }
}

#[test]
fn a_panic_in_a_piece_reaches_the_caller() {
    check(2, || {
        let team = Arc::new(Team::new());
        let worker = worker(&team);
        let mut held = taken(&team);
        let next = AtomicUsize::new(0);
        let pieces = [Watched::new(), Watched::new()];
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            held.share(&|| {
                while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                    piece.add(1);
                    if piece.read() == 1 && std::ptr::eq(piece, &pieces[1]) {
                        std::panic::resume_unwind(Box::new("as it should"));
                    }
                }
            });
        }));
        pieces.iter().for_each(|piece| piece.add(1));
        assert!(outcome.is_err(), "a panic reaches the caller");
        drop(held);
        worker.join().expect("a worker panicked");
    });
}
