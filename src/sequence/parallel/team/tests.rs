//! What a team promises its callers, on real threads; under every order of events: `tests/models`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Barrier, Team, TeamGuard};
use crate::process::thread_time;

fn workers(team: &Arc<Team>, count: usize) -> Vec<std::thread::JoinHandle<()>> {
    let worker = |_| {
        let team = Arc::clone(team);
        assert!(team.wants(count));
        std::thread::spawn(move || team.take_part())
    };
    (0..count).map(worker).collect()
}

fn others(threads: usize) -> f64 {
    (threads - 1) as f64
}

/// The team, when the machine's other work leaves it alone.
fn taken(team: &Arc<Team>) -> TeamGuard {
    let begun = Instant::now();
    loop {
        if let Some(guard) = team.take(None) {
            return guard;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the team stays taken");
    }
}

#[test]
fn every_thread_takes_part_once_and_all_meet() {
    let team = Arc::new(Team::new());
    let workers = workers(&team, 3);
    let mut guard = taken(&team);
    assert!(team.take(None).is_none());
    for _ in 0..200 {
        let steps: Vec<AtomicUsize> = (0..50).map(|_| AtomicUsize::new(0)).collect();
        guard.run(others, &|_, threads, barrier| {
            for step in &steps {
                step.fetch_add(1, Ordering::Relaxed);
                barrier.wait();
                assert_eq!(step.load(Ordering::Relaxed), threads);
            }
        });
    }
    drop(guard);
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
        let mut guard = taken(&team);
        assert!(team.wants(1));
        let worker = {
            let team = Arc::clone(&team);
            std::thread::spawn(move || team.take_part())
        };
        guard.run(others, &|_, _, _| pause(4));
        let seen = AtomicUsize::new(0);
        guard.run(others, &|thread, threads, _| {
            if thread == 0 {
                seen.store(threads, Ordering::Relaxed);
            }
        });
        both += usize::from(seen.load(Ordering::Relaxed) == 2);
        drop(guard);
        worker.join().expect("a worker panicked");
    }
    // On a machine that is busy some come late; where a job loses its worker, none is there.
    assert!(both >= 5, "of 20 workers that came during a job {both} were there for the next");
}

#[test]
fn every_piece_is_claimed_once() {
    let team = Arc::new(Team::new());
    let workers = workers(&team, 3);
    let mut guard = taken(&team);
    for _ in 0..2000 {
        let next = AtomicUsize::new(0);
        let done: Vec<AtomicUsize> = (0..7).map(|_| AtomicUsize::new(0)).collect();
        guard.share(&|| {
            while let Some(piece) = done.get(next.fetch_add(1, Ordering::Relaxed)) {
                piece.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert!(done.iter().all(|piece| piece.load(Ordering::Relaxed) == 1));
    }
    drop(guard);
    workers.into_iter().for_each(|worker| worker.join().expect("a worker panicked"));
}

/// The worker sleeps in the middle of a job, as one does whose processor somebody else has. A busy machine
/// may keep this thread from looking before the time alone is over, so once in some tries is enough.
#[test]
fn who_waits_in_vain_goes_on_alone() {
    let alone = || {
        let team = Arc::new(Team::new());
        let workers = workers(&team, 1);
        let mut guard = taken(&team);
        assert_eq!(guard.workers(Duration::from_secs(60)), 1);
        let threads = AtomicUsize::new(0);
        let job = |thread: usize, all: usize, barrier: &Barrier<'_>| {
            if thread == 0 {
                threads.store(all, Ordering::Relaxed);
            } else {
                std::thread::sleep(Duration::from_millis(3));
            }
            barrier.wait();
        };
        guard.run(others, &job);
        let first = threads.load(Ordering::Relaxed);
        guard.run(others, &job);
        let second = threads.load(Ordering::Relaxed);
        let nobody = guard.workers(Duration::ZERO) == 0;
        drop(guard);
        let next_alone = team.take(None).is_none();
        drop(taken(&team));
        workers.into_iter().for_each(|worker| worker.join().expect("a worker panicked"));
        // 12 times 3 ms are not over.
        first == 2 && second == 1 && nobody && next_alone
    };
    assert!((0..20).any(|_| alone()), "a call goes on with a worker that keeps it waiting");
}

/// What a helper did for longer than the caller is no loss. On a machine that is busy a helper may really
/// keep the caller waiting, so once in some tries is enough.
#[test]
fn pieces_of_different_sizes_are_no_loss() {
    let is_no_loss = || {
        let team = Arc::new(Team::new());
        let workers = workers(&team, 1);
        let mut guard = taken(&team);
        // One that had to wait for long for its processor may have gone again.
        let came = guard.workers(Duration::from_secs(1)) == 1;
        // What it takes to wake the caller is a loss, which earlier calls have paid for.
        team.balance.save(Duration::from_millis(3));
        let caller = std::thread::current().id();
        let helps = AtomicBool::new(false);
        guard.share(&|| {
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
        let lost = guard.was_lost;
        drop(guard);
        workers.into_iter().for_each(|worker| worker.join().expect("a worker panicked"));
        came && helps.into_inner() && !lost
    };
    assert!((0..20).any(|_| is_no_loss()), "a long piece counts as a loss");
}
