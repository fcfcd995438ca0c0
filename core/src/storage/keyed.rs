//! A bounded queue whose items are found by key.

use core::hash::Hash;

use super::{Linked, Map, Storage};

/// Items under keys of their own, in the order in which they came: each is found, moved to the new end and taken out in
/// constant time.
///
/// ```
/// use tideover_core::storage::{Growing, Keyed};
///
/// let mut said: Keyed<&str, u32, Growing> = Keyed::new(2);
/// said.insert("a", 1).expect("there is room");
/// said.insert("b", 2).expect("there is room");
/// assert_eq!(said.insert("c", 3), Err(("c", 3)));
/// said.renew(&"a");
/// assert_eq!(said.pop_oldest(), Some(("b", 2)));
/// assert_eq!(said.get(&"a"), Some(&1));
/// ```
#[derive(Clone)]
pub struct Keyed<K: Clone + Hash + Eq, T: Clone, S: Storage> {
    items: Linked<(K, T), S>,
    places: S::Map<K, u32>,
}

impl<K: Clone + Hash + Eq, T: Clone, S: Storage> Keyed<K, T, S> {
    /// An empty queue for `max` items, or as many as the storage has room for.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { items: Linked::new(max), places: Default::default() }
    }

    /// Puts `item` under `key` at the new end, in the place of what is there.
    ///
    /// # Errors
    ///
    /// Key and item, when there is no room; what was under the key is gone then, too.
    pub fn insert(&mut self, key: K, item: T) -> Result<(), (K, T)> {
        self.remove(&key);
        let place = self.items.push_back((key.clone(), item))?;
        if self.places.insert(key, place).is_err()
            && let Some(unplaced) = self.items.remove(place)
        {
            return Err(unplaced);
        }
        Ok(())
    }

    /// What is under `key`.
    #[must_use]
    #[inline]
    pub fn get(&self, key: &K) -> Option<&T> {
        self.items.get(*self.places.get(key)?).map(|(_, item)| item)
    }

    /// What is under `key`, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut T> {
        self.items.get_mut(*self.places.get(key)?).map(|(_, item)| item)
    }

    /// Whether something is under `key`.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.places.contains_key(key)
    }

    /// Moves what is under `key` to the new end.
    pub fn renew(&mut self, key: &K) {
        if let Some(&place) = self.places.get(key) {
            self.items.renew(place);
        }
    }

    /// Takes out what is under `key`.
    pub fn remove(&mut self, key: &K) -> Option<T> {
        let place = self.places.remove(key)?;
        self.items.remove(place).map(|(_, item)| item)
    }

    /// Takes out what has been there for longest.
    pub fn pop_oldest(&mut self) -> Option<(K, T)> {
        let (key, item) = self.items.pop_front()?;
        self.places.remove(&key);
        Some((key, item))
    }

    /// Drops what `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &T) -> bool) {
        let items = &mut self.items;
        self.places.retain(|key, place| {
            let kept = items.get(*place).is_some_and(|(_, item)| keep(key, item));
            if !kept {
                items.remove(*place);
            }
            kept
        });
    }

    /// Keys and items, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &T)> {
        self.items.iter().map(|(_, (key, item))| (key, item))
    }

    /// Items held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether one more item would not fit.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.items.capacity()
    }

    /// Drops all items.
    pub fn clear(&mut self) {
        self.items.clear();
        self.places.clear();
    }

    /// Bytes of heap taken, what keys and items point to not counted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.items.bytes() + self.places.bytes()
    }
}
