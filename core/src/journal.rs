//! What is owed to the shared store: the newest change of each key made while the store was away.
//!
//! Until a key's debt is paid, the store's copy of it is not trusted. The journal is bounded; when it overflows, or
//! when everything was cleared, a clear of the whole namespace is owed, and until that is paid nothing in the store is
//! trusted: no change made in an outage is undone by its end (law 9).

use core::hash::Hash;

use crate::entry::Entry;
use crate::storage::{Linked, Map, Storage};
use crate::time::Instant;
use crate::value::Value;

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change<V> {
    /// The entry, at the age it had at the given moment.
    Put(Entry<V>, Instant),
    /// Nothing is to be there.
    Remove,
}

impl<V: Value> Change<V> {
    /// What becomes of the store's copy when `entry` is the newest. A store without versions of tags cannot tell whether
    /// a tag was invalidated by somebody else, so what bears one is kept in memory only.
    pub(crate) fn of(entry: Entry<V>, now: Instant) -> Self {
        if entry.value.tags().is_empty() { Self::Put(entry, now) } else { Self::Remove }
    }

    /// The entry at its age `now`, `None` for a removal.
    pub(crate) fn entry(&self, now: Instant) -> Option<Entry<V>> {
        match self {
            Self::Put(entry, taken_at) => {
                Some(Entry { age: entry.age.saturating_add(now - *taken_at), ..entry.clone() })
            }
            Self::Remove => None,
        }
    }
}

/// Reasons to clear a store before anything in it is trusted. A clear that began before the newest of them does not
/// settle it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Doubts {
    raised: u64,
    settled: u64,
}

impl Doubts {
    /// One more reason.
    pub(crate) fn raise(&mut self) {
        self.raised += 1;
    }

    /// What a clear that begins now can settle.
    pub(crate) fn raised(&self) -> u64 {
        self.raised
    }

    /// A clear that began at `raised` is done.
    pub(crate) fn settle(&mut self, raised: u64) {
        self.settled = self.settled.max(raised);
    }

    /// Whether a clear is owed.
    pub(crate) fn remain(&self) -> bool {
        self.settled < self.raised
    }
}

/// The newest change of each key, in the order in which they were made.
#[derive(Clone)]
pub(crate) struct Journal<K: Clone + Hash + Eq, V: Clone, S: Storage> {
    changes: Linked<(K, Change<V>), S>,
    places: S::Map<K, u32>,
    doubts: Doubts,
    overflows: u64,
}

impl<K: Clone + Hash + Eq, V: Clone, S: Storage> Journal<K, V, S> {
    pub(crate) fn new(max: usize) -> Self {
        Self { changes: Linked::new(max), places: Default::default(), doubts: Doubts::default(), overflows: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    pub(crate) fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Whether the whole namespace is to be cleared before anything in the store is trusted.
    pub(crate) fn owes_clear(&self) -> bool {
        self.doubts.remain()
    }

    /// Whether the store's copy of `key` may be trusted.
    pub(crate) fn trusts(&self, key: &K) -> bool {
        !self.owes_clear() && !self.places.contains_key(key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.owes_clear()
    }

    /// Notes the newest change of `key`.
    pub(crate) fn record(&mut self, key: K, change: Change<V>) {
        self.settle(&key);
        if self.changes.len() >= self.changes.capacity() {
            self.overflow();
        }
        // Full of puts, with a clear owed: the clear takes what the store has under this key.
        if let Ok(place) = self.changes.push_back((key.clone(), change))
            && self.places.insert(key, place).is_err()
        {
            self.changes.remove(place);
            self.doubts.raise();
        }
    }

    /// The store has the newest change of `key`.
    pub(crate) fn settle(&mut self, key: &K) {
        if let Some(place) = self.places.remove(key) {
            self.changes.remove(place);
        }
    }

    /// Everything that was owed is void: all is to be cleared.
    pub(crate) fn void(&mut self) {
        self.changes.clear();
        self.places.clear();
        self.doubts.raise();
    }

    /// What a clear of the store that begins now can pay for.
    pub(crate) fn doubts(&self) -> u64 {
        self.doubts.raised()
    }

    /// A clear that began at `doubts` is done.
    pub(crate) fn cleared(&mut self, doubts: u64) {
        self.doubts.settle(doubts);
    }

    /// The oldest debts first.
    pub(crate) fn debts(&self) -> impl Iterator<Item = (&K, &Change<V>)> {
        self.changes.iter().map(|(_, (key, change))| (key, change))
    }

    /// A clear takes every removal with it, and whatever does not fit.
    fn overflow(&mut self) {
        self.doubts.raise();
        self.overflows += 1;
        let changes = &mut self.changes;
        self.places.retain(|_, place| {
            let puts = changes.get(*place).is_some_and(|(_, change)| matches!(change, Change::Put(..)));
            if !puts {
                changes.remove(*place);
            }
            puts
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Growing, Room};

    #[test]
    fn the_newest_change_of_a_key_replaces_the_older_one_and_goes_last() {
        let mut journal: Journal<&str, u8, Growing> = Journal::new(10);
        for key in ["a", "b", "a"] {
            journal.record(key, Change::Remove);
        }
        assert_eq!(journal.debts().map(|(key, _)| *key).collect::<alloc::vec::Vec<_>>(), ["b", "a"]);
        assert!(!journal.trusts(&"a") && journal.trusts(&"c"));
        journal.settle(&"a");
        assert!(journal.trusts(&"a"));
    }

    #[test]
    fn past_its_limit_it_owes_a_clear_and_trusts_nothing() {
        overflows_and_undoes_nothing::<Growing>();
        overflows_and_undoes_nothing::<Room<1024>>();
    }

    fn overflows_and_undoes_nothing<S: Storage>() {
        let mut journal: Journal<u32, u8, S> = Journal::new(1_000);
        for key in 0..3_000 {
            journal.record(key, Change::Remove);
            assert!(journal.len() <= 1_000);
        }
        assert!((0..4_000).all(|key| !journal.trusts(&key)));
        assert_eq!(journal.overflows(), 2);
        let began_before = journal.doubts() - 1;
        journal.cleared(began_before);
        assert!(journal.owes_clear(), "a clear that began before the newest overflow does not pay for it");
        journal.cleared(journal.doubts());
        let owed = (0..4_000).filter(|key| !journal.trusts(key)).count();
        assert_eq!(owed, journal.len(), "what was dropped is covered by the clear");
    }
}
