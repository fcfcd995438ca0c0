//! Rows under numbers that stay theirs, and columns of further facts about them.

use super::{List, NIL, Storage};

/// Rows under numbers that stay theirs until they are removed. A freed number is the next to be given.
#[derive(Clone)]
pub struct Slab<T: Clone, S: Storage> {
    slots: S::List<Slot<T>>,
    /// The first of the chain of free slots.
    free: u32,
    len: u32,
    max: usize,
}

#[derive(Debug, Clone)]
enum Slot<T> {
    Held(T),
    /// The next free slot.
    Free(u32),
}

impl<T: Clone, S: Storage> Slab<T, S> {
    /// An empty slab for `max` rows, or as many as the storage has room for.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { slots: S::List::default(), free: NIL, len: 0, max: S::room_for(max) }
    }

    /// Adds a row, and gives its number.
    ///
    /// # Errors
    ///
    /// The row, when there is no room.
    #[inline]
    pub fn insert(&mut self, row: T) -> Result<u32, T> {
        let index = self.free;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            if let Slot::Free(next) = *slot {
                self.free = next;
            }
            *slot = Slot::Held(row);
        } else {
            return self.append(row);
        }
        self.len += 1;
        Ok(index)
    }

    fn append(&mut self, row: T) -> Result<u32, T> {
        let index = self.slots.len();
        if index >= self.max {
            return Err(row);
        }
        self.slots.grow_towards(self.max);
        match self.slots.push(Slot::Held(row)) {
            Ok(()) => {
                self.len += 1;
                Ok(index as u32)
            }
            Err(Slot::Held(row)) => Err(row),
            Err(Slot::Free(_)) => Ok(NIL),
        }
    }

    /// Takes a row out.
    #[inline]
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let slot = self.slots.get_mut(index as usize).filter(|slot| matches!(slot, Slot::Held(_)))?;
        let Slot::Held(row) = core::mem::replace(slot, Slot::Free(self.free)) else { return None };
        self.free = index;
        self.len -= 1;
        Some(row)
    }

    /// The row of that number.
    #[inline]
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&T> {
        match self.slots.get(index as usize) {
            Some(Slot::Held(row)) => Some(row),
            _ => None,
        }
    }

    /// The row of that number, to be changed.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.slots.get_mut(index as usize) {
            Some(Slot::Held(row)) => Some(row),
            _ => None,
        }
    }

    /// Rows held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether no row is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many rows fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.max
    }

    /// One more than the largest number given so far: every row has a number below it.
    #[must_use]
    pub fn numbers(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Drops all rows.
    pub fn clear(&mut self) {
        self.slots.clear();
        (self.free, self.len) = (NIL, 0);
    }

    /// Rows with their numbers, by number.
    pub fn iter<'a>(&'a self) -> impl Iterator<Item = (u32, &'a T)>
    where
        T: 'a,
    {
        (0..).zip(self.slots.iter()).filter_map(|(index, slot)| match slot {
            Slot::Held(row) => Some((index, row)),
            Slot::Free(_) => None,
        })
    }

    /// Bytes of heap taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slots.bytes()
    }
}

/// One fact about each row of a slab, beside it: empty until the first fact is set, the default where none is.
#[derive(Clone)]
pub struct Column<T: Copy + Default, S: Storage> {
    facts: S::List<T>,
    max: usize,
}

impl<T: Copy + Default, S: Storage> Column<T, S> {
    /// An empty column for rows below `max`, or as many as the storage has room for.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { facts: S::List::default(), max: S::room_for(max) }
    }

    /// What is known of the row.
    #[inline]
    #[must_use]
    pub fn get(&self, index: u32) -> T {
        self.facts.get(index as usize).copied().unwrap_or_default()
    }

    /// Notes what is known of the row. Rows beyond the room have no fact.
    #[inline]
    pub fn set(&mut self, index: u32, fact: T) {
        match self.facts.get_mut(index as usize) {
            Some(place) => *place = fact,
            None => self.extend(index, fact),
        }
    }

    /// What is known of the row, to be changed, if a fact was ever set.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.facts.get_mut(index as usize)
    }

    #[cold]
    fn extend(&mut self, index: u32, fact: T) {
        while self.facts.len() <= index as usize && self.facts.len() < self.max {
            self.facts.grow_towards(self.max);
            let fact = if self.facts.len() == index as usize { fact } else { T::default() };
            if self.facts.push(fact).is_err() {
                return;
            }
        }
    }

    /// Forgets all facts.
    pub fn clear(&mut self) {
        self.facts.clear();
    }

    /// Bytes of heap taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.facts.bytes()
    }
}
