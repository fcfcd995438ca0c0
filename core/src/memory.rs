//! The in-process first level: a bounded map with freshness, tags, and a choice of whom to give up.
//!
//! Rows lie in a slab and a hash index finds them. A row is key, value and sixteen bytes: when the value was new, which
//! windows it has (by number: rows by the thousand have the same), and up to which invalidation it was looked at.
//! What only some need lies beside the rows in columns, which stay empty while nobody does: the order of eviction, idle
//! times, load times, pauses after failed refreshes. A fresh hit reads the index, the row, the windows and the order,
//! and nothing else.
//!
//! Rows that are of no use any more leave when they are met; each insertion looks at [`SWEEP`] further rows in turn, so
//! after `n` insertions into a memory of `2 n` rows none of those is left that were over before, and the work of any
//! call is bounded.
//!
//! It knows nothing of flights, breakers or stores, and it never refreshes anything: it says when that is due.

mod change;
mod policy;
mod reports;
mod row;
mod shapes;

use core::borrow::Borrow;
use core::hash::{BuildHasher, Hash};
use core::time::Duration;

use foldhash::fast::FixedState;

pub use self::policy::{MemoryPolicy, MemoryStats};
pub use self::reports::Reason;
use self::reports::Reports;
use self::row::{Kind, ROWS_MAX, Row};
use self::shapes::Shapes;
use crate::entry::{Entry, Zone};
use crate::eviction::{Evict, Order};
use crate::storage::{Column, Index, Map, Profile, Slab, Storage, Usual};
use crate::tags::{Invalidation, Invalidations, Verdict};
use crate::time::{Instant, nanos};
use crate::value::{Tag, Value};

/// Rows that each insertion looks at for ones of no use.
pub const SWEEP: usize = 2;

/// What hashes the keys of a memory: foldhash, from the seed of its policy. For who chooses among several memories by
/// the same hash as they find rows with; see [`Memory::fresh_hashed`].
pub type KeyHasher = FixedState;

/// A bounded map of entries; see the [module](self).
///
/// ```
/// use core::time::Duration;
/// use tideover_core::memory::{Kept, Memory, MemoryPolicy};
/// use tideover_core::{Entry, Instant, Windows};
///
/// let mut memory: Memory<&str, &str> = Memory::new(MemoryPolicy { entries_max: 2, ..MemoryPolicy::default() });
/// let minute = Windows { ttl: Some(Duration::from_secs(60)), ..Windows::FOREVER };
/// assert_eq!(memory.insert("a", Entry::new("first", minute), 0, Instant::ZERO), Kept::Yes);
/// assert_eq!(memory.fresh("a", Instant::ZERO).map(|entry| entry.value), Some("first"));
/// assert!(memory.fresh("a", Instant::ZERO + Duration::from_secs(60)).is_none());
/// ```
#[derive(Clone)]
pub struct Memory<K: Clone, V: Clone, P: Profile = Usual> {
    index: <P::Entries as Storage>::Index,
    hasher: FixedState,
    rows: Slab<Row<K, V>, P::Entries>,
    shapes: Shapes<P::Entries>,
    order: Order<P::Entries>,
    /// When a row is gone if nobody reads it; empty without an idle time.
    idle_until: Column<Instant, P::Entries>,
    /// Microseconds that loads took; empty without early refresh.
    load_times: Column<u32, P::Entries>,
    /// Failed refreshes, of the rows that have had any.
    pauses: <P::Entries as Storage>::Map<u32, Pause>,
    invalidations: Invalidations<P>,
    /// The number from which on rows count theirs, and what a tagged and an untagged row must have to need no look at
    /// the invalidations.
    base: u64,
    tagged_limit: u32,
    plain_limit: u32,
    /// Whether idle times or load times have a say in each hit.
    is_watchful: bool,
    reports: Reports<K, P::Removals>,
    policy: MemoryPolicy,
    weight: u64,
    hand: u32,
    stats: MemoryStats,
}

/// Failed refreshes in a row, and until when no further one is tried.
#[derive(Debug, Clone, Copy, Default)]
struct Pause {
    failures: u32,
    until: Instant,
}

/// Whether an entry was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kept {
    /// It is in memory.
    Yes,
    /// It weighs more than everything together may. What was under its key is gone.
    TooHeavy,
    /// It is over already: by age, and then what was under its key is gone; or because it was invalidated after it was
    /// born, and then what was under its key stays.
    Useless,
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
    /// Whether it should be refreshed although it is fresh.
    pub early: Early,
}

/// What speaks for refreshing a fresh entry now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Early {
    /// It has reached the refresh-ahead percentage of its ttl.
    pub due: bool,
    /// How long it is still fresh; [`Duration::MAX`]: for ever.
    pub fresh_for: Duration,
    /// How long its load took, to the microsecond; zero if that is unknown or early refresh is off.
    pub load_time: Duration,
}

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Memory<K, V, P> {
    /// An empty memory.
    #[must_use]
    pub fn new(policy: MemoryPolicy) -> Self {
        let capacity = P::Entries::room_for((policy.entries_max as usize).clamp(1, ROWS_MAX));
        let hasher = policy.hasher();
        Self {
            index: Default::default(),
            hasher: hasher.clone(),
            rows: Slab::new(capacity),
            shapes: Shapes::new(capacity, hasher, policy.refresh_ahead),
            order: Order::new(policy.eviction, capacity),
            idle_until: Column::new(capacity),
            load_times: Column::new(capacity),
            pauses: Default::default(),
            invalidations: Invalidations::new(policy.tags_max as usize),
            base: 0,
            tagged_limit: 0,
            plain_limit: 0,
            is_watchful: policy.time_to_idle.is_some() || policy.early_refresh > 0,
            reports: Reports::new(policy.removals_max as usize),
            policy,
            weight: 0,
            hand: 0,
            stats: MemoryStats::default(),
        }
    }

    /// The hash of a key, for [`Memory::fresh_hashed`] and for whoever else needs one.
    #[inline]
    pub fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64
    where
        K: Borrow<Q>,
    {
        self.hasher.hash_one(key)
    }

    /// The hit path: the entry under `key` if it is fresh and no refresh is due. Counts a hit and a use; finding
    /// nothing of the kind counts nothing.
    #[inline]
    pub fn fresh<Q>(&mut self, key: &Q, now: Instant) -> Option<Entry<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.fresh_hashed(self.hash(key), key, now)
    }

    /// [`Memory::fresh`] for who has the hash of `key` already.
    #[inline]
    pub fn fresh_hashed<Q>(&mut self, hash: u64, key: &Q, now: Instant) -> Option<Entry<V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let index = self.locate(hash, key)?;
        let row = self.rows.get(index)?;
        if row.born < self.limit(row.kind) || self.is_watchful {
            return self.fresh_on_second_thought(index, hash, now);
        }
        let shape = self.shapes.get(row.kind.shape())?;
        let age = row.origin.age(now);
        if age >= shape.quiet {
            return None;
        }
        self.stats.hits += 1;
        self.order.hit(index, hash);
        Some(Entry { age: Duration::from_nanos(age), ..Entry::new(row.value.clone(), shape.windows) })
    }

    /// The entry under `key` in whatever zone it is; a use of it, and a hit if it is fresh.
    pub fn find<Q>(&mut self, key: &Q, now: Instant) -> Option<Sighting<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let index = self.locate(hash, key)?;
        if self.dismiss(index, now) {
            return None;
        }
        self.touch(index, hash, now);
        let entry = self.entry(index, now)?;
        let zone = entry.zone();
        self.stats.hits += u64::from(zone == Zone::Fresh);
        let early = self.early(&entry);
        Some(Sighting { zone, refresh_after: self.pause(index).until, early, entry })
    }

    /// The entry under `key` in whatever zone it is. Counts, moves and removes nothing.
    #[must_use]
    pub fn peek<Q>(&self, key: &Q, now: Instant) -> Option<Entry<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.seen(self.locate(self.hash(key), key)?, now)
    }

    /// After failed refreshes of `key`: when the next one may be tried.
    #[must_use]
    pub fn refresh_after<Q>(&self, key: &Q) -> Instant
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.locate(self.hash(key), key).map_or(Instant::ZERO, |index| self.pause(index).until)
    }

    /// Every entry of use with its key, in no particular order. Counts, moves and removes nothing.
    pub fn iter(&self, now: Instant) -> impl Iterator<Item = (&K, Entry<V>)> {
        self.rows.iter().filter_map(move |(index, row)| Some((&row.key, self.seen(index, now)?)))
    }

    /// The key of every row, whatever its state, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.rows.iter().map(|(_, row)| &row.key)
    }

    /// Puts `entry`, born at number `born` of the logical clock (see [`crate::tags`]), under `key`, replacing what is
    /// there. When full, others leave until it fits; overwriting evicts nothing unless the new value weighs too much
    /// more.
    pub fn insert(&mut self, key: K, entry: Entry<V>, born: u64, now: Instant) -> Kept {
        self.place(key, entry, born, false, now)
    }

    /// As [`Memory::insert`], for an entry that no refresh has brought: what is known of failed ones stays.
    pub fn adopt(&mut self, key: K, entry: Entry<V>, born: u64, now: Instant) -> Kept {
        self.place(key, entry, born, true, now)
    }

    /// Removes `key`; whether it was there.
    pub fn remove<Q>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = self.locate(self.hash(key), key);
        if let Some(index) = found {
            self.take_out(index, Reason::Removed);
        }
        found.is_some()
    }

    /// Ends the freshness of `key` now, if it is there and fresh: it may still be served stale, inside its windows
    /// measured from now. Whether it was there.
    pub fn expire<Q>(&mut self, key: &Q, now: Instant) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = self.locate(self.hash(key), key).filter(|&index| !self.dismiss(index, now));
        if let Some(index) = found {
            self.end_freshness(index, now);
        }
        found.is_some()
    }

    /// Invalidates every entry that bears `tag` and was born before `number`, the newest of the logical clock. Costs
    /// the same however many there are: they find out when they are met.
    pub fn invalidate(&mut self, tag: Tag, invalidation: Invalidation, number: u64, now: Instant) {
        self.invalidations.note(tag, invalidation, number, now);
        self.reach(number);
        self.draw_limits();
    }

    /// Invalidates, in effect at once, every entry born before `number`, the newest of the logical clock. Costs the same
    /// however many there are: they find out when they are met.
    pub fn invalidate_all(&mut self, invalidation: Invalidation, number: u64, now: Instant) {
        self.invalidations.note_all(invalidation, number, now);
        self.reach(number);
        self.draw_limits();
    }

    /// Puts in doubt, at once, every entry born before `number`, the newest of the logical clock; see
    /// [`Entry::doubted`]. Costs the same however many there are: they find out when they are met.
    pub fn doubt_all(&mut self, number: u64) {
        self.invalidations.doubt_all(number);
        self.reach(number);
        self.draw_limits();
    }

    /// Spares `key`: if it is there it counts as born at `number`, the newest of the logical clock.
    pub fn spare<Q>(&mut self, key: &Q, number: u64)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.reach(number);
        let born = self.number(number);
        let found = self.locate(self.hash(key), key);
        if let Some(row) = found.and_then(|index| self.rows.get_mut(index)) {
            row.born = born;
        }
    }

    /// Notes that a refresh of `key` failed; `gap` says how long to wait, given the failures in a row.
    pub fn refresh_failed<Q>(&mut self, key: &Q, now: Instant, gap: impl FnOnce(u32) -> Duration)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let Some(index) = self.locate(self.hash(key), key) else { return };
        let failures = self.pause(index).failures.saturating_add(1);
        let pause = Pause { failures, until: now + gap(failures) };
        if let (Some(row), Ok(_)) = (self.rows.get_mut(index), self.pauses.insert(index, pause)) {
            row.kind = row.kind.paused(true);
        }
    }

    /// Looks at the next `rows` rows and removes those of no use. Insertions do it by themselves, [`SWEEP`] at a time;
    /// a driver may do it when it has nothing better to do.
    #[inline]
    pub fn sweep(&mut self, rows: usize, now: Instant) {
        let numbers = self.rows.numbers();
        for _ in 0..rows.min(numbers as usize) {
            self.hand = if self.hand + 1 < numbers { self.hand + 1 } else { 0 };
            self.dismiss(self.hand, now);
        }
    }

    /// Removes everything and starts the counts anew. What was invalidated stays so.
    pub fn clear(&mut self) {
        (self.stats, self.reports.lost) = (MemoryStats::default(), 0);
        if self.reports.are_wanted() {
            self.rows.iter().for_each(|(_, row)| self.reports.add(row.key.clone(), Reason::Cleared));
        }
        self.drop_rows();
    }

    /// The removals since they were last taken, the oldest first: each key with the reason. At most
    /// [`MemoryPolicy::removals_max`]; the oldest beyond that are lost, and counted.
    pub fn take_removals(&mut self) -> impl Iterator<Item = (K, Reason)> + use<K, V, P> {
        self.reports.take()
    }

    /// Entries held, ones of no use that have not been met included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The choices this memory was made with.
    #[must_use]
    pub const fn policy(&self) -> &MemoryPolicy {
        &self.policy
    }

    /// The counts.
    #[must_use]
    pub fn stats(&self) -> MemoryStats {
        MemoryStats {
            entries: self.rows.len() as u64,
            capacity: self.rows.capacity() as u64,
            weight: self.weight,
            weight_max: self.policy.weight_max,
            bytes: (size_of::<Self>() + self.heap_bytes()) as u64,
            removals_lost: self.reports.lost,
            ..self.stats
        }
    }

    fn heap_bytes(&self) -> usize {
        let rows = self.index.bytes() + self.rows.bytes() + self.shapes.bytes() + self.order.bytes();
        let beside = self.idle_until.bytes() + self.load_times.bytes() + self.pauses.bytes();
        rows + beside + self.invalidations.bytes() + self.reports.bytes()
    }
}

/// Reading rows.
impl<K: Clone + Hash + Eq, V: Value, P: Profile> Memory<K, V, P> {
    #[inline]
    fn locate<Q>(&self, hash: u64, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.index.find(hash, |index| self.rows.get(index).is_some_and(|row| row.key.borrow() == key))
    }

    /// The hit path where invalidations, idle times or load times have a say.
    #[cold]
    fn fresh_on_second_thought(&mut self, index: u32, hash: u64, now: Instant) -> Option<Entry<V>> {
        if self.dismiss(index, now) {
            return None;
        }
        let row = self.rows.get(index)?;
        let shape = self.shapes.get(row.kind.shape())?;
        // More than 20 times beta times the load time before the end, one draw in 10^8 would ask for a refresh.
        let margin = u64::from(self.load_times.get(index)) * u64::from(self.policy.early_refresh) * 1_000 / 5;
        let end = shape.windows.ttl.map_or(u64::MAX, |ttl| nanos(ttl).saturating_sub(margin));
        if row.origin.age(now) >= shape.quiet.min(end) || self.is_doubted(row) {
            return None;
        }
        self.stats.hits += 1;
        self.touch(index, hash, now);
        self.entry(index, now)
    }

    /// The number that a row must have to need no look at the invalidations.
    #[inline]
    fn limit(&self, kind: Kind) -> u32 {
        if kind.is_tagged() { self.tagged_limit } else { self.plain_limit }
    }

    fn verdict(&self, row: &Row<K, V>) -> Verdict {
        let tags = if row.kind.is_tagged() { row.value.tags() } else { &[] };
        self.invalidations.verdict(tags, self.base + u64::from(row.born))
    }

    /// Whether the row, if there is one, needs no second look.
    #[inline]
    fn is_of_use(&self, index: u32, now: Instant) -> bool {
        let Some(row) = self.rows.get(index) else { return true };
        // No limit is above that of rows with tags.
        (row.born >= self.tagged_limit || row.born >= self.limit(row.kind)) && !self.is_over(index, row, now)
    }

    #[inline]
    fn is_over(&self, index: u32, row: &Row<K, V>, now: Instant) -> bool {
        let lifetime = self.shapes.get(row.kind.shape()).map_or(0, |shape| shape.lifetime);
        let idle = self.policy.time_to_idle.is_some() && now >= self.idle_until.get(index);
        idle || lifetime != u64::MAX && row.origin.age(now) >= lifetime
    }

    #[inline]
    fn entry(&self, index: u32, now: Instant) -> Option<Entry<V>> {
        let row = self.rows.get(index)?;
        Some(Entry {
            value: row.value.clone(),
            age: Duration::from_nanos(row.origin.age(now)),
            windows: self.shapes.get(row.kind.shape())?.windows,
            load_time: Duration::from_micros(u64::from(self.load_times.get(index))),
            doubted: self.is_doubted(row),
        })
    }

    /// Whether the row, which has taken note of all invalidations, is in doubt.
    #[inline]
    fn is_doubted(&self, row: &Row<K, V>) -> bool {
        row.born < self.plain_limit && self.verdict(row) == Verdict::Doubted
    }

    /// The entry of a row with the invalidations that it does not know of yet.
    fn seen(&self, index: u32, now: Instant) -> Option<Entry<V>> {
        let row = self.rows.get(index)?;
        let entry = self.entry(index, now)?;
        let windows = match self.verdict(row) {
            Verdict::Invalid => return None,
            Verdict::Expired(at) => entry.windows.cut(Duration::from_nanos(row.origin.age(at))),
            Verdict::Valid | Verdict::Doubted => entry.windows,
        };
        let idle = self.policy.time_to_idle.is_some() && now >= self.idle_until.get(index);
        Some(Entry { windows, ..entry }).filter(|entry| !idle && entry.zone() != Zone::Gone)
    }

    fn early(&self, entry: &Entry<V>) -> Early {
        let ttl = entry.windows.ttl;
        let share = u64::from(self.policy.refresh_ahead);
        let start = ttl.filter(|_| (1..100).contains(&share)).map(|ttl| shapes::share(nanos(ttl), share));
        Early {
            due: start.is_some_and(|start| nanos(entry.age) >= start),
            fresh_for: ttl.map_or(Duration::MAX, |ttl| ttl.saturating_sub(entry.age)),
            load_time: entry.load_time,
        }
    }

    fn pause(&self, index: u32) -> Pause {
        let paused = self.rows.get(index).is_some_and(|row| row.kind.is_paused());
        if paused { self.pauses.get(&index).copied().unwrap_or_default() } else { Pause::default() }
    }
}

#[cfg(test)]
mod tests;
