//! Spare buffers, for whoever comes.

use std::sync::{Mutex, MutexGuard, TryLockError};

/// Lists of spare values. Nobody waits for a list: callers at the same time find another one, and a child
/// process passes by a list that a thread of its parent has locked for ever.
#[derive(Debug)]
pub(crate) struct Spares<T>([Mutex<Vec<T>>; LISTS]);

/// A lock is held for some nanoseconds, so several threads seldom need more than two lists at once.
const LISTS: usize = 4;
/// Spares of a list, at most. Who finds the lists locked makes one of its own, so without a bound callers that meet often
/// would leave more and more behind.
const MOST: usize = 8;

impl<T> Default for Spares<T> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl<T> Spares<T> {
    /// One of them, where one is found.
    pub(crate) fn take(&self) -> Option<T> {
        self.free().find_map(|mut list| list.pop())
    }

    /// Keeps one for whoever takes next; where all lists are locked, the one that is not is full, or there is no memory for
    /// a longer one, it is dropped.
    pub(crate) fn give(&self, spare: T) {
        if let Some(mut list) = self.free().next()
            && list.len() < MOST
            && list.try_reserve(1).is_ok()
        {
            list.push(spare);
        }
    }

    /// The lists that nobody has locked.
    fn free(&self) -> impl Iterator<Item = MutexGuard<'_, Vec<T>>> {
        self.0.iter().filter_map(|list| match list.try_lock() {
            Ok(list) => Some(list),
            // Nothing panics while the lock is held, and a list of spare values cannot be half changed.
            Err(TryLockError::Poisoned(list)) => Some(list.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_behind_is_bounded() {
        let spares = Spares::default();
        (0..1000).for_each(|i| spares.give(i));
        let kept = std::iter::from_fn(|| spares.take()).count();
        assert!((1..=LISTS * MOST).contains(&kept), "{kept}");
    }

    #[test]
    fn a_list_that_stays_locked_stops_nobody() {
        let spares = Spares::default();
        spares.give(1);
        let _locked: Vec<_> = spares.0[..LISTS - 1].iter().map(|list| list.lock()).collect();
        assert_eq!(spares.take(), None, "it is in a list that is locked");
        spares.give(2);
        assert_eq!(spares.take(), Some(2));
        let _last = spares.0[LISTS - 1].lock();
        spares.give(3);
        assert_eq!(spares.take(), None);
    }
}
