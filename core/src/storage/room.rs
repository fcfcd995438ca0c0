//! Containers with a fixed room, which never allocate.

use core::hash::Hash;

use heapless::Vec;
use heapless::index_map::FnvIndexMap;

use super::{Index, List, Map, NIL, Storage};

/// Containers with room for `N` items each, part of the machine's own size. `N` must be a power of two and at least 2,
/// which is checked when the program is compiled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room<const N: usize>;

impl<const N: usize> Storage for Room<N> {
    const ROOM: Option<usize> = Some(N);
    type List<T: Clone> = Vec<T, N>;
    type Map<K: Clone + Hash + Eq, V: Clone> = FnvIndexMap<K, V, N>;
    type Index = RoomIndex<N>;
}

impl<T: Clone, const N: usize> List<T> for Vec<T, N> {
    fn push(&mut self, item: T) -> Result<(), T> {
        Self::push(self, item)
    }

    fn pop(&mut self) -> Option<T> {
        Self::pop(self)
    }

    fn clear(&mut self) {
        Self::clear(self);
    }

    fn grow_towards(&mut self, _max: usize) {}

    fn bytes(&self) -> usize {
        0
    }
}

impl<K: Clone + Hash + Eq, V: Clone, const N: usize> Map<K, V> for FnvIndexMap<K, V, N> {
    fn get(&self, key: &K) -> Option<&V> {
        Self::get(self, key)
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        Self::get_mut(self, key)
    }

    fn insert(&mut self, key: K, value: V) -> Result<Option<V>, (K, V)> {
        Self::insert(self, key, value)
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
        Some(N)
    }

    fn bytes(&self) -> usize {
        0
    }
}

/// The index of [`Room`]: a chain of rows for each of `N` buckets. Rows are numbers below `N`.
#[derive(Debug, Clone)]
pub struct RoomIndex<const N: usize> {
    first: [u32; N],
    next: [u32; N],
}

impl<const N: usize> Default for RoomIndex<N> {
    fn default() -> Self {
        Self { first: [NIL; N], next: [NIL; N] }
    }
}

impl<const N: usize> RoomIndex<N> {
    /// The high half of a product maps 32 bits of the hash onto the buckets (Lemire 2019).
    fn bucket(hash: u64) -> usize {
        (((hash >> 32) * N as u64) >> 32) as usize
    }

    fn chain(&self, hash: u64) -> impl Iterator<Item = u32> {
        let step = |row: &u32| self.next.get(*row as usize).copied();
        core::iter::successors(self.first.get(Self::bucket(hash)).copied(), step).take_while(|&row| row != NIL)
    }
}

impl<const N: usize> Index for RoomIndex<N> {
    fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.chain(hash).find(|&row| is_it(row))
    }

    fn insert(&mut self, hash: u64, row: u32, _rehash: impl Fn(u32) -> u64) -> Result<(), u32> {
        let (Some(first), Some(next)) = (self.first.get_mut(Self::bucket(hash)), self.next.get_mut(row as usize))
        else {
            return Err(row);
        };
        *next = core::mem::replace(first, row);
        Ok(())
    }

    fn remove(&mut self, hash: u64, row: u32) -> bool {
        let before = self.chain(hash).take_while(|&other| other != row).last();
        let Some(&after) = self.next.get(row as usize) else { return false };
        let link = match before {
            Some(before) => self.next.get_mut(before as usize),
            None => self.first.get_mut(Self::bucket(hash)),
        };
        match link {
            Some(link) if *link == row => {
                *link = after;
                true
            }
            _ => false,
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn bytes(&self) -> usize {
        0
    }
}
