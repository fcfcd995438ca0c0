//! Containers on the heap.

use alloc::vec::Vec;
use core::hash::Hash;

use hashbrown::{HashMap, HashTable};

use super::{Index, List, Map, Storage};

/// Containers on the heap, which grow by doubling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Growing;

impl Storage for Growing {
    const ROOM: Option<usize> = None;
    type List<T: Clone> = Vec<T>;
    type Map<K: Clone + Hash + Eq, V: Clone> = HashMap<K, V>;
    type Index = GrowingIndex;
}

impl<T: Clone> List<T> for Vec<T> {
    #[inline]
    fn push(&mut self, item: T) -> Result<(), T> {
        Self::push(self, item);
        Ok(())
    }

    fn pop(&mut self) -> Option<T> {
        Self::pop(self)
    }

    fn clear(&mut self) {
        Self::clear(self);
    }

    #[inline]
    fn grow_towards(&mut self, max: usize) {
        if self.len() == self.capacity() && self.len() < max {
            let more = self.len().max(8).min(max - self.len());
            self.reserve_exact(more);
        }
    }

    fn bytes(&self) -> usize {
        self.capacity() * size_of::<T>()
    }
}

impl<K: Clone + Hash + Eq, V: Clone> Map<K, V> for HashMap<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        Self::get(self, key)
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        Self::get_mut(self, key)
    }

    fn insert(&mut self, key: K, value: V) -> Result<Option<V>, (K, V)> {
        Ok(Self::insert(self, key, value))
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        Self::remove(self, key)
    }

    fn len(&self) -> usize {
        Self::len(self)
    }

    fn clear(&mut self) {
        Self::clear(self);
    }

    fn retain(&mut self, keep: impl FnMut(&K, &mut V) -> bool) {
        Self::retain(self, keep);
    }

    fn iter<'a>(&'a self) -> impl Iterator<Item = (&'a K, &'a V)>
    where
        K: 'a,
        V: 'a,
    {
        Self::iter(self)
    }

    fn values_mut<'a>(&'a mut self) -> impl Iterator<Item = &'a mut V>
    where
        K: 'a,
        V: 'a,
    {
        Self::values_mut(self)
    }

    fn capacity_max(&self) -> Option<usize> {
        None
    }

    fn bytes(&self) -> usize {
        self.allocation_size()
    }
}

/// The index of [`Growing`].
#[derive(Debug, Clone, Default)]
pub struct GrowingIndex(HashTable<u32>);

impl Index for GrowingIndex {
    #[inline]
    fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.0.find(hash, |&row| is_it(row)).copied()
    }

    #[inline]
    fn insert(&mut self, hash: u64, row: u32, rehash: impl Fn(u32) -> u64) -> Result<(), u32> {
        self.0.insert_unique(hash, row, |&row| rehash(row));
        Ok(())
    }

    #[inline]
    fn remove(&mut self, hash: u64, row: u32) -> bool {
        self.0.find_entry(hash, |&other| other == row).map(|found| found.remove()).is_ok()
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn bytes(&self) -> usize {
        self.0.allocation_size()
    }
}
