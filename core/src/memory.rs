//! The in-process first level: a bounded map with freshness and least-recently-used eviction.
//!
//! Rows live in a slab, the recency list is a pair of indices in each row, and a hash table of indices finds them.
//! A hit reads the table, the row and its two neighbours in the list, and nothing else. Expired rows leave when they
//! are met, and each insertion looks at [`SWEEP`] rows in turn, so the work of any call is bounded.
//!
//! It knows nothing of flights, breakers or stores.

use alloc::vec::Vec;
use core::borrow::Borrow;
use core::hash::{BuildHasher, Hash};
use core::time::Duration;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::entry::{Entry, Windows, Zone};
use crate::time::Instant;
use crate::value::{Invalidation, Tag, Value};

/// Rows that each insertion looks at for expired ones.
pub const SWEEP: usize = 2;

const NIL: u32 = u32::MAX;

/// A bounded map of entries; see the [module](self).
#[derive(Clone)]
pub struct Memory<K, V> {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    rows: Vec<Option<Row<K, V>>>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
    hand: usize,
    capacity: usize,
    time_to_idle: Option<Duration>,
    stats: MemoryStats,
}

#[derive(Clone)]
struct Row<K, V> {
    key: K,
    value: V,
    windows: Windows,
    /// The age that the value had when it landed here, and when that was.
    landed_age: Duration,
    landed_at: Instant,
    fresh_until: Instant,
    idle_until: Instant,
    /// Failed refreshes in a row, and until when no further one is tried.
    refresh_failures: u32,
    refresh_after: Instant,
    newer: u32,
    older: u32,
}

counts! {
    /// What a memory has counted since it was made or cleared.
    pub struct MemoryStats {
        /// Entries held, expired ones that have not been met included.
        entries,
        /// Entries that fit.
        capacity,
        /// Lookups that found a fresh entry.
        hits,
        /// Entries pushed out by newer ones while still of use.
        evictions,
        /// Entries that left because their time was over.
        expirations,
    }
}

/// What a lookup sees of a row.
#[derive(Debug, Clone)]
pub struct Sighting<V> {
    /// The entry at the age it has now.
    pub entry: Entry<V>,
    /// The zone of that age.
    pub zone: Zone,
    /// After failed refreshes: when the next one may be tried.
    pub refresh_after: Instant,
}

impl<K: Hash + Eq, V: Value> Memory<K, V> {
    /// An empty memory for `capacity` entries (at least one, at most `u32::MAX - 1`).
    ///
    /// An entry that is not read for `time_to_idle` is gone; `None` switches that off.
    #[must_use]
    pub fn new(capacity: usize, time_to_idle: Option<Duration>) -> Self {
        Self {
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            rows: Vec::new(),
            free: Vec::new(),
            newest: NIL,
            oldest: NIL,
            hand: 0,
            capacity: capacity.clamp(1, NIL as usize - 1),
            time_to_idle,
            stats: MemoryStats::default(),
        }
    }

    /// The hit path: the entry under `key` if it is fresh. Makes it the newest and counts a hit; finding nothing
    /// fresh changes and counts nothing.
    pub fn fresh<Q>(&mut self, key: &Q, now: Instant) -> Option<Entry<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let index = self.index(key)?;
        let row = self.rows[index as usize].as_ref()?;
        if now >= row.fresh_until || now >= row.idle_until {
            return None;
        }
        self.touch(index, now);
        self.stats.hits += 1;
        self.rows[index as usize].as_ref().map(|row| row.entry(now))
    }

    /// The entry under `key` in whatever zone it is, made the newest. A row that is gone is removed.
    pub fn find<Q>(&mut self, key: &Q, now: Instant) -> Option<Sighting<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let index = self.index(key)?;
        if self.is_gone(index, now) {
            self.unlink(index);
            self.stats.expirations += 1;
            return None;
        }
        self.touch(index, now);
        let row = self.rows[index as usize].as_ref()?;
        let entry = row.entry(now);
        let zone = entry.zone();
        self.stats.hits += u64::from(zone == Zone::Fresh);
        Some(Sighting { entry, zone, refresh_after: row.refresh_after })
    }

    /// Puts `entry` under `key` as the newest, replacing what is there. When full, the least recently used
    /// entry leaves; overwriting evicts nothing. An entry without any use left is not kept.
    pub fn insert(&mut self, key: K, entry: Entry<V>, _born: u64, now: Instant) {
        self.place(key, entry, (0, Instant::ZERO), now);
    }

    fn place(&mut self, key: K, entry: Entry<V>, pauses: (u32, Instant), now: Instant) {
        if let Some(index) = self.index(&key) {
            self.unlink(index);
        }
        self.sweep(now);
        if entry.zone() == Zone::Gone {
            return;
        }
        if self.table.len() >= self.capacity {
            let gone = self.is_gone(self.oldest, now);
            self.unlink(self.oldest);
            self.stats.evictions += u64::from(!gone);
            self.stats.expirations += u64::from(gone);
        }
        let (refresh_failures, refresh_after) = pauses;
        self.link(Row { refresh_failures, refresh_after, ..Row::new(key, entry, self.time_to_idle, now) });
    }

    /// As [`Memory::insert`], for an entry that no refresh has brought: what is known of failed ones stays.
    pub fn adopt(&mut self, key: K, entry: Entry<V>, _born: u64, now: Instant) {
        let known = self.index(&key).and_then(|index| self.rows[index as usize].as_ref());
        let pauses = known.map_or((0, Instant::ZERO), |row| (row.refresh_failures, row.refresh_after));
        self.place(key, entry, pauses, now);
    }

    pub fn peek<Q>(&self, key: &Q, now: Instant) -> Option<Entry<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.rows[self.index(key)? as usize].as_ref().filter(|row| !row.is_gone(now)).map(|row| row.entry(now))
    }
    pub fn inspect<Q>(&self, key: &Q, now: Instant) -> Option<(Entry<V>, Instant)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.rows[self.index(key)? as usize]
            .as_ref()
            .filter(|row| !row.is_gone(now))
            .map(|row| (row.entry(now), row.refresh_after))
    }
    pub fn expire<Q>(&mut self, _key: &Q, _now: Instant) -> Option<Entry<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }
    pub fn invalidate(&mut self, _tag: Tag, _how: Invalidation, _seq: u64, _now: Instant) {}

    /// Removes `key`; whether it was there.
    pub fn remove<Q>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = self.index(key);
        if let Some(index) = found {
            self.unlink(index);
        }
        found.is_some()
    }

    /// Notes that a refresh of `key` failed; `gap` says how long to wait, given the failures in a row.
    pub fn refresh_failed<Q>(&mut self, key: &Q, now: Instant, gap: impl FnOnce(u32) -> Duration)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let Some(index) = self.index(key) else { return };
        if let Some(row) = &mut self.rows[index as usize] {
            row.refresh_failures = row.refresh_failures.saturating_add(1);
            row.refresh_after = now + gap(row.refresh_failures);
        }
    }

    /// Removes everything and starts the counts anew.
    pub fn clear(&mut self) {
        *self = Self::new(self.capacity, self.time_to_idle);
    }

    /// Entries held, expired ones that have not been met included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The counts.
    #[must_use]
    pub fn stats(&self) -> MemoryStats {
        MemoryStats { entries: self.table.len() as u64, capacity: self.capacity as u64, ..self.stats }
    }

    fn index<Q>(&self, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hasher.hash_one(key);
        let rows = &self.rows;
        let is_it = |&index: &u32| rows[index as usize].as_ref().is_some_and(|row| row.key.borrow() == key);
        self.table.find(hash, is_it).copied()
    }

    fn is_gone(&self, index: u32, now: Instant) -> bool {
        self.rows[index as usize].as_ref().is_none_or(|row| row.is_gone(now))
    }

    fn touch(&mut self, index: u32, now: Instant) {
        if self.newest != index {
            self.detach(index);
            self.attach(index);
        }
        if let (Some(idle), Some(row)) = (self.time_to_idle, &mut self.rows[index as usize]) {
            row.idle_until = now + idle;
        }
    }

    /// Looks at the next few rows and removes those that are gone.
    fn sweep(&mut self, now: Instant) {
        for _ in 0..SWEEP.min(self.rows.len()) {
            self.hand = (self.hand + 1) % self.rows.len();
            if self.rows[self.hand].as_ref().is_some_and(|row| row.is_gone(now)) {
                self.unlink(self.hand as u32);
                self.stats.expirations += 1;
            }
        }
    }

    fn link(&mut self, row: Row<K, V>) {
        let hash = self.hasher.hash_one(&row.key);
        let index = match self.free.pop() {
            Some(index) => {
                self.rows[index as usize] = Some(row);
                index
            }
            None => {
                self.rows.push(Some(row));
                (self.rows.len() - 1) as u32
            }
        };
        let (rows, hasher) = (&self.rows, &self.hasher);
        let rehash = |&index: &u32| rows[index as usize].as_ref().map_or(0, |row| hasher.hash_one(&row.key));
        self.table.insert_unique(hash, index, rehash);
        self.attach(index);
    }

    fn unlink(&mut self, index: u32) {
        self.detach(index);
        if let Some(row) = self.rows[index as usize].take() {
            let hash = self.hasher.hash_one(&row.key);
            if let Ok(found) = self.table.find_entry(hash, |&other| other == index) {
                found.remove();
            }
            self.free.push(index);
        }
    }

    fn attach(&mut self, index: u32) {
        let older = core::mem::replace(&mut self.newest, index);
        if let Some(row) = &mut self.rows[index as usize] {
            (row.newer, row.older) = (NIL, older);
        }
        match self.rows.get_mut(older as usize) {
            Some(Some(row)) => row.newer = index,
            _ => self.oldest = index,
        }
    }

    fn detach(&mut self, index: u32) {
        let Some(row) = &self.rows[index as usize] else { return };
        let (newer, older) = (row.newer, row.older);
        match self.rows.get_mut(newer as usize) {
            Some(Some(row)) => row.older = older,
            _ => self.newest = older,
        }
        match self.rows.get_mut(older as usize) {
            Some(Some(row)) => row.newer = newer,
            _ => self.oldest = newer,
        }
    }
}

impl<K, V: Clone> Row<K, V> {
    fn new(key: K, entry: Entry<V>, time_to_idle: Option<Duration>, now: Instant) -> Self {
        Self {
            key,
            value: entry.value,
            windows: entry.windows,
            landed_age: entry.age,
            landed_at: now,
            fresh_until: entry.windows.ttl.map_or(Instant::NEVER, |ttl| now + ttl.saturating_sub(entry.age)),
            idle_until: time_to_idle.map_or(Instant::NEVER, |idle| now + idle),
            refresh_failures: 0,
            refresh_after: Instant::ZERO,
            newer: NIL,
            older: NIL,
        }
    }

    fn age(&self, now: Instant) -> Duration {
        (now - self.landed_at).saturating_add(self.landed_age)
    }

    fn is_gone(&self, now: Instant) -> bool {
        now >= self.idle_until || self.windows.zone(self.age(now)) == Zone::Gone
    }

    fn entry(&self, now: Instant) -> Entry<V> {
        Entry { age: self.age(now), ..Entry::new(self.value.clone(), self.windows) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn entry(value: u32, ttl: u64) -> Entry<u32> {
        let ttl = Some(Duration::from_secs(ttl));
        Entry::new(value, Windows { ttl, ..Windows::FOREVER })
    }

    fn value(memory: &mut Memory<String, u32>, key: &str, now: Instant) -> Option<u32> {
        memory.fresh(key, now).map(|entry| entry.value)
    }

    #[test]
    fn a_read_makes_an_entry_the_newest_and_the_oldest_leaves() {
        let mut memory = Memory::new(2, None);
        memory.insert("a".to_string(), entry(1, 10), 0, at(0));
        memory.insert("b".to_string(), entry(2, 10), 0, at(0));
        assert_eq!(value(&mut memory, "a", at(0)), Some(1));
        memory.insert("c".to_string(), entry(3, 10), 0, at(0));
        assert_eq!(value(&mut memory, "b", at(0)), None);
        assert_eq!(value(&mut memory, "a", at(0)), Some(1));
        assert_eq!(memory.stats().evictions, 1);
    }

    #[test]
    fn overwriting_in_a_full_cache_evicts_nothing_else() {
        let mut memory = Memory::new(2, None);
        memory.insert("a".to_string(), entry(1, 10), 0, at(0));
        memory.insert("b".to_string(), entry(2, 10), 0, at(0));
        memory.insert("a".to_string(), entry(9, 10), 0, at(0));
        assert_eq!(value(&mut memory, "a", at(0)), Some(9));
        assert_eq!(value(&mut memory, "b", at(0)), Some(2));
        assert_eq!(memory.stats().evictions, 0);
    }

    #[test]
    fn an_entry_that_arrives_aged_is_not_young_again() {
        let mut memory = Memory::new(2, None);
        memory.insert("a".to_string(), Entry { age: Duration::from_secs(8), ..entry(1, 10) }, 0, at(0));
        assert_eq!(value(&mut memory, "a", at(1)), Some(1));
        assert_eq!(value(&mut memory, "a", at(2)), None);
    }

    #[test]
    fn expired_rows_leave_by_themselves_when_others_arrive() {
        let mut memory = Memory::new(100, None);
        for key in 0..50_u32 {
            memory.insert(key.to_string(), entry(key, 1), 0, at(0));
        }
        for key in 50..75_u32 {
            memory.insert(key.to_string(), entry(key, 10), 0, at(5));
        }
        assert_eq!(memory.len(), 25);
        assert_eq!(memory.stats().expirations, 50);
    }

    #[test]
    fn what_is_not_read_for_its_idle_time_is_gone_exactly_then() {
        let mut memory = Memory::new(2, Some(Duration::from_secs(3)));
        memory.insert("a".to_string(), entry(1, 100), 0, at(0));
        assert_eq!(value(&mut memory, "a", at(2)), Some(1));
        assert_eq!(value(&mut memory, "a", at(4)), Some(1));
        assert_eq!(value(&mut memory, "a", at(7)), None);
        assert!(memory.find("a", at(7)).is_none());
        assert!(memory.is_empty());
    }

    /// Against a model that keeps a plain list: the same keys stay, in the same order of recency.
    #[test]
    fn agrees_with_a_plain_list_over_a_long_random_walk() {
        let mut entropy = crate::entropy::Entropy::from_seed(11);
        let mut memory = Memory::new(8, None);
        let mut model: Vec<(String, u32)> = Vec::new();
        for step in 0..20_000_u32 {
            let key = (entropy.bits() % 16).to_string();
            let held = model.iter().position(|(k, _)| *k == key);
            match entropy.bits() % 4 {
                0 => {
                    assert_eq!(memory.remove(&key), held.is_some());
                    held.map(|at| model.remove(at));
                }
                1 => {
                    held.map(|at| model.remove(at));
                    if model.len() == 8 {
                        model.remove(0);
                    }
                    model.push((key.clone(), step));
                    memory.insert(key, entry(step, 1_000_000), 0, at(0));
                }
                _ => {
                    let expected = held.map(|at| model.remove(at));
                    assert_eq!(value(&mut memory, &key, at(0)), expected.as_ref().map(|(_, v)| *v));
                    model.extend(expected);
                }
            }
            assert_eq!(memory.len(), model.len());
        }
    }
}
