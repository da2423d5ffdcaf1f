//! Lists whose room is taken before they are filled.

use std::ops::{Deref, DerefMut};

use crate::error::{Error, Result};

/// As many elements as there are threads, layers in a group, or another count that no array of the caller's
/// sets: too few to be refused by themselves.
pub(crate) type Few<T> = Vec<T>;

/// A vector that grows in one way only: by [`make_room`](Self::make_room) or [`reserve`](Self::reserve),
/// which say [`Error::OutOfMemory`] and then leave what is there. Nothing else allocates, so what is computed
/// after all room has been taken cannot fail halfway.
#[derive(Debug)]
pub(crate) struct List<T>(Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> List<T> {
    /// No elements, no allocation.
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Room for `len` elements in all; those that are there stay.
    pub(crate) fn reserve(&mut self, len: usize) -> Result<()> {
        reserve(&mut self.0, len)
    }

    /// An empty list with room for `len` elements.
    pub(crate) fn make_room(&mut self, len: usize) -> Result<()> {
        self.0.clear();
        self.reserve(len)
    }

    /// What `items` give, or the first error.
    pub(crate) fn collected(items: impl ExactSizeIterator<Item = Result<T>>) -> Result<Self> {
        let mut list = Self::new();
        list.make_room(items.len())?;
        for item in items {
            list.push(item?);
        }
        Ok(list)
    }

    /// At least `len` elements, new ones from `make`.
    pub(crate) fn grow_with(&mut self, len: usize, make: impl FnMut() -> T) -> Result<()> {
        if self.0.len() < len {
            self.reserve(len)?;
            self.0.resize_with(len, make);
        }
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// # Panics
    /// Where no room was taken for it, as all that follow.
    #[inline]
    pub(crate) fn push(&mut self, item: T) {
        assert!(self.0.len() < self.0.capacity(), "{NO_ROOM}");
        self.0.push(item);
    }

    #[inline]
    pub(crate) fn extend(&mut self, items: impl ExactSizeIterator<Item = T>) {
        assert!(items.len() <= self.0.capacity() - self.0.len(), "{NO_ROOM}");
        self.0.extend(items);
    }

    /// `len` elements in all, new ones equal to `item`.
    pub(crate) fn resize(&mut self, len: usize, item: T)
    where
        T: Clone,
    {
        assert!(len <= self.0.capacity(), "{NO_ROOM}");
        self.0.resize(len, item);
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.0.retain(keep);
    }
}

const NO_ROOM: &str = "no room was taken for it";

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> IntoIterator for List<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Room for `len` elements in all, in a plain vector; those that are there stay.
fn reserve<T>(list: &mut Vec<T>, len: usize) -> Result<()> {
    list.try_reserve_exact(len.saturating_sub(list.len()))
        .map_err(|_| Error::OutOfMemory { bytes: len.saturating_mul(size_of::<T>()) })
}

/// `len` times `item` in a plain vector, in place of what was there.
pub(crate) fn refill<T: Clone>(list: &mut Vec<T>, len: usize, item: T) -> Result<()> {
    list.clear();
    reserve(list, len)?;
    list.resize(len, item);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_grow_stays_as_it_was() {
        let mut list = List::new();
        list.make_room(3).expect("three fit");
        list.extend([1u64, 2, 3].into_iter());
        for wrong in [usize::MAX, isize::MAX as usize / 4] {
            assert!(matches!(list.reserve(wrong), Err(Error::OutOfMemory { bytes }) if bytes >= wrong));
            assert_eq!(list[..], [1, 2, 3]);
        }
        list.reserve(3).expect("they are there");
        assert!(list.make_room(usize::MAX).is_err());
        list.resize(3, 7);
        assert_eq!(list[..], [7, 7, 7]);
    }

    #[test]
    #[should_panic(expected = "no room")]
    fn only_what_was_reserved_can_be_pushed() {
        let mut list = List::new();
        list.make_room(2).expect("two fit");
        (0..100).for_each(|i| list.push(i));
    }
}
