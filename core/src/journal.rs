//! What is owed to the shared store: the newest change of each key made while the store was away.
//!
//! Until a key's debt is paid, the store's copy of it is not trusted. The journal is bounded; when it overflows, or
//! when everything was cleared, a clear of the whole namespace is owed, and until that is paid nothing in the store is
//! trusted: no change made in an outage is undone by its end (law 9).

use core::hash::Hash;
use core::time::Duration;

use crate::entry::Entry;
use crate::stamp::{Condition, Version};
use crate::storage::{Keyed, Storage};
use crate::time::Instant;
use crate::value::{Invalidation, Tag, Value};

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change<V> {
    /// What is to be there, at the age that it had when the change was made; `None`: nothing.
    entry: Option<Entry<V>>,
    made_at: Instant,
    /// How long before `made_at` it was made really; see [`Change::made_earlier`].
    earlier: Duration,
    /// The newest invalidation, by the logical clock, when the value was new.
    pub(crate) born: u64,
    /// What it may replace.
    pub(crate) condition: Condition,
}

impl<V: Value> Change<V> {
    pub(crate) const fn put(entry: Entry<V>, born: u64, now: Instant) -> Self {
        Self { entry: Some(entry), made_at: now, earlier: Duration::ZERO, born, condition: Condition::Always }
    }

    pub(crate) const fn remove(now: Instant) -> Self {
        Self { entry: None, made_at: now, earlier: Duration::ZERO, born: 0, condition: Condition::Always }
    }

    /// A change that was made so long before `made_at`: in another process, or by a load, which is as new as its beginning.
    pub(crate) fn made_earlier(self, earlier: Duration) -> Self {
        Self { earlier, ..self }
    }

    /// A change that follows from what was `seen` in the store.
    pub(crate) fn after(self, seen: Option<Version>) -> Self {
        Self { condition: Condition::Unchanged(seen), ..self }
    }

    /// A removal in place of this change.
    pub(crate) fn removing(self) -> Self {
        Self { entry: None, ..self }
    }

    /// The tags of what is to be there.
    pub(crate) fn tags(&self) -> &[Tag] {
        self.entry.as_ref().map_or(&[], |entry| entry.value.tags())
    }

    pub(crate) const fn is_removal(&self) -> bool {
        self.entry.is_none()
    }

    /// How long ago it was made.
    pub(crate) fn made_ago(&self, now: Instant) -> Duration {
        self.earlier.saturating_add(now - self.made_at)
    }

    /// The entry at its age `now`, `None` for a removal.
    pub(crate) fn entry(&self, now: Instant) -> Option<Entry<V>> {
        self.entry.clone().map(|entry| entry.aged(now - self.made_at))
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
    changes: Keyed<K, Change<V>, S>,
    doubts: Doubts,
    overflows: u64,
}

impl<K: Clone + Hash + Eq, V: Value, S: Storage> Journal<K, V, S> {
    pub(crate) fn new(max: usize) -> Self {
        Self { changes: Keyed::new(max), doubts: Doubts::default(), overflows: 0 }
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
        !self.owes_clear() && !self.owes(key)
    }

    /// Whether the store has not got the newest change of `key`.
    pub(crate) fn owes(&self, key: &K) -> bool {
        self.changes.contains_key(key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.owes_clear()
    }

    /// Notes the newest change of `key`.
    pub(crate) fn record(&mut self, key: K, change: Change<V>) {
        self.settle(&key);
        if self.changes.is_full() {
            self.overflow();
        }
        if self.changes.insert(key, change).is_err() {
            // Full of puts: the clear takes what the store has under this key.
            self.doubts.raise();
        }
    }

    /// The store has the newest change of `key`.
    pub(crate) fn settle(&mut self, key: &K) {
        self.changes.remove(key);
    }

    /// Everything that was owed is void: all is to be cleared.
    pub(crate) fn void(&mut self) {
        self.changes.clear();
        self.doubts.raise();
    }

    /// Something could not be noted: all is to be cleared.
    pub(crate) fn distrust(&mut self) {
        self.doubts.raise();
        self.overflows += 1;
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
        self.changes.iter()
    }

    /// A clear takes every removal with it, and whatever does not fit.
    fn overflow(&mut self) {
        self.doubts.raise();
        self.overflows += 1;
        self.changes.retain(|_, change| !change.is_removal());
    }
}

/// The invalidations that the shared store's log does not have yet. Until it has, nothing in the store that bears such a
/// tag is trusted.
#[derive(Clone)]
pub(crate) struct OwedTags<S: Storage> {
    /// The oldest first.
    tags: Keyed<Tag, OwedTag, S>,
    issued: u64,
}

/// An invalidation that is owed to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwedTag {
    pub(crate) how: Invalidation,
    pub(crate) made_at: Instant,
    /// Told apart from a later one of the same tag.
    pub(crate) issue: u64,
    /// A flight is at it.
    pub(crate) flying: bool,
}

impl<S: Storage> OwedTags<S> {
    pub(crate) fn new(max: usize) -> Self {
        Self { tags: Keyed::new(max), issued: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.tags.len()
    }

    pub(crate) fn clear(&mut self) {
        self.tags.clear();
    }

    /// Notes that `tag` is invalidated, and that no flight is at it yet. `None`: there is no room.
    pub(crate) fn owe(&mut self, tag: Tag, how: Invalidation, made_at: Instant) -> Option<OwedTag> {
        let before = self.tags.remove(&tag);
        let made_at = before.map_or(made_at, |before| made_at.min(before.made_at));
        // What was to be removed is not merely expired.
        let removes = before.is_some_and(|before| before.how == Invalidation::Remove);
        let how = if removes { Invalidation::Remove } else { how };
        self.issued += 1;
        let owed = OwedTag { how, made_at, issue: self.issued, flying: false };
        self.tags.insert(tag, owed).ok().map(|()| owed)
    }

    /// The log has that issue.
    pub(crate) fn settle(&mut self, tag: Tag, issue: u64) {
        if self.tags.get(&tag).is_some_and(|owed| owed.issue == issue) {
            self.tags.remove(&tag);
        }
    }

    /// A flight is at that issue, or no more.
    pub(crate) fn fly(&mut self, tag: Tag, issue: u64, flying: bool) {
        if let Some(owed) = self.tags.get_mut(&tag).filter(|owed| owed.issue == issue) {
            owed.flying = flying;
        }
    }

    pub(crate) fn owes_any(&self, tags: &[Tag]) -> bool {
        !self.tags.is_empty() && tags.iter().any(|tag| self.tags.contains_key(tag))
    }

    /// The oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Tag, OwedTag)> {
        self.tags.iter().map(|(tag, owed)| (*tag, *owed))
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
            journal.record(key, Change::remove(Instant::ZERO));
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
            journal.record(key, Change::remove(Instant::ZERO));
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
