//! Where the machines keep what they hold: containers that grow with an allocator, or have a fixed room without one.
//!
//! A [`Storage`] is a family of containers of one kind, a [`Profile`] says which family each part of the cache uses:
//! [`Alloc`] grows everything on the heap, [`Fixed`] gives each part a room that is part of the machine's own size. The
//! machines are written once, against the traits, so both behave alike up to the bounds that the rooms add.
//!
//! Nothing here knows what is kept. No container has an order that anybody may rely on, save [`List`] and [`Linked`].

#[cfg(feature = "alloc")]
mod growing;
mod keyed;
mod links;
mod room;
mod slab;

use core::fmt::Debug;
use core::hash::Hash;
use core::ops::DerefMut;

#[cfg(feature = "alloc")]
pub use self::growing::Growing;
pub use self::keyed::Keyed;
pub use self::links::{Linked, Links, Queue};
pub use self::room::Room;
pub use self::slab::{Column, Slab};

/// No row: where a link ends.
pub const NIL: u32 = u32::MAX;

/// A family of containers.
pub trait Storage: Debug + Clone + Copy + Default + 'static {
    /// How many items each container has room for; `None`: as many as the heap gives.
    const ROOM: Option<usize>;
    /// An array that grows up to its room.
    type List<T: Clone>: List<T>;
    /// A map with keys of its own.
    type Map<K: Clone + Hash + Eq, V: Clone>: Map<K, V>;
    /// A hash index into rows that lie elsewhere.
    type Index: Index;

    /// `wanted` items, or as many as there is room for; at most `u32::MAX - 1`, so that a `u32` counts them.
    #[must_use]
    fn room_for(wanted: usize) -> usize {
        wanted.min(Self::ROOM.unwrap_or(usize::MAX)).min(NIL as usize - 1)
    }
}

/// An array that grows up to its room. It is a slice besides: `get`, `iter`, `swap`, `len` and the rest are there.
pub trait List<T: Clone>: Clone + Default + DerefMut<Target = [T]> + IntoIterator<Item = T> {
    /// Appends `item`, or gives it back if there is no room.
    ///
    /// # Errors
    ///
    /// The item, when the list is full.
    fn push(&mut self, item: T) -> Result<(), T>;
    /// Takes the last item off.
    fn pop(&mut self) -> Option<T>;
    /// Drops all items.
    fn clear(&mut self);
    /// Sees to it that growing never allocates for more than `max` items.
    fn grow_towards(&mut self, max: usize);
    /// Bytes of heap that the list has taken, what its items point to not counted.
    fn bytes(&self) -> usize;
}

/// A map with keys of its own.
pub trait Map<K: Clone + Hash + Eq, V: Clone>: Clone + Default {
    /// The value under `key`.
    fn get(&self, key: &K) -> Option<&V>;
    /// The value under `key`, to be changed.
    fn get_mut(&mut self, key: &K) -> Option<&mut V>;
    /// Puts `value` under `key`, and gives what was there.
    ///
    /// # Errors
    ///
    /// Key and value, when the key is new and there is no room.
    fn insert(&mut self, key: K, value: V) -> Result<Option<V>, (K, V)>;
    /// Takes the value under `key` out.
    fn remove(&mut self, key: &K) -> Option<V>;
    /// Keys held.
    fn len(&self) -> usize;
    /// Drops everything.
    fn clear(&mut self);
    /// Drops what `keep` does not want.
    fn retain(&mut self, keep: impl FnMut(&K, &mut V) -> bool);
    /// Keys and values, in no particular order.
    fn iter<'a>(&'a self) -> impl Iterator<Item = (&'a K, &'a V)>
    where
        K: 'a,
        V: 'a;
    /// Values to be changed, in no particular order.
    fn values_mut<'a>(&'a mut self) -> impl Iterator<Item = &'a mut V>
    where
        K: 'a,
        V: 'a;
    /// How many keys there is room for; `None`: as many as the heap gives.
    fn capacity_max(&self) -> Option<usize>;
    /// Bytes of heap that the table has taken, what keys and values point to not counted.
    fn bytes(&self) -> usize;

    /// Whether `key` is there.
    fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Whether nothing is there.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values, in no particular order.
    fn values<'a>(&'a self) -> impl Iterator<Item = &'a V>
    where
        K: 'a,
        V: 'a,
    {
        self.iter().map(|(_, value)| value)
    }
}

/// A hash index: from the hash of a key to the row where the key lies. Rows are told apart by the caller.
pub trait Index: Clone + Default {
    /// The row with this hash that `is_it` accepts.
    fn find(&self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<u32>;
    /// Adds `row`, which is not there yet. `rehash` gives the hash of any row that is there.
    ///
    /// # Errors
    ///
    /// The row, when it lies outside the room.
    fn insert(&mut self, hash: u64, row: u32, rehash: impl Fn(u32) -> u64) -> Result<(), u32>;
    /// Takes `row` out; whether it was there.
    fn remove(&mut self, hash: u64, row: u32) -> bool;
    /// Drops everything.
    fn clear(&mut self);
    /// Bytes of heap that the table has taken.
    fn bytes(&self) -> usize;
}

/// Which storage each part of a cache uses.
pub trait Profile: Debug + Clone + Copy + Default + 'static {
    /// Entries in memory and what belongs to them.
    type Entries: Storage;
    /// Flights under way.
    type Flights: Storage;
    /// Changes that are owed to the store.
    type Journal: Storage;
    /// Tags that were invalidated.
    type Tags: Storage;
    /// Reports of removals that nobody has taken yet.
    type Removals: Storage;
    /// Circuits of loaders that have a name.
    type Loaders: Storage;
}

/// Everything on the heap, bounded by the policy alone.
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alloc;

#[cfg(feature = "alloc")]
impl Profile for Alloc {
    type Entries = Growing;
    type Flights = Growing;
    type Journal = Growing;
    type Tags = Growing;
    type Removals = Growing;
    type Loaders = Growing;
}

/// No allocator: each part has room for so many. All four must be powers of two and at least 2.
///
/// The rooms bound what the policy asks for; a part that is full behaves as it does at the policy's own bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fixed<const ENTRIES: usize, const FLIGHTS: usize, const JOURNAL: usize, const TAGS: usize>;

impl<const ENTRIES: usize, const FLIGHTS: usize, const JOURNAL: usize, const TAGS: usize> Profile
    for Fixed<ENTRIES, FLIGHTS, JOURNAL, TAGS>
{
    type Entries = Room<ENTRIES>;
    type Flights = Room<FLIGHTS>;
    type Journal = Room<JOURNAL>;
    type Tags = Room<TAGS>;
    type Removals = Room<16>;
    type Loaders = Room<4>;
}

/// The profile of who names none.
#[cfg(feature = "alloc")]
pub type Usual = Alloc;
/// The profile of who names none.
#[cfg(not(feature = "alloc"))]
pub type Usual = Fixed<64, 16, 64, 64>;

#[cfg(test)]
mod tests;
