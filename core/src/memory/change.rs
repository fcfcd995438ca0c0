//! Changing rows: placing, expiring and taking them out, and making room.

use core::hash::{BuildHasher, Hash};
use core::time::Duration;

use super::row::{Kind, Origin, Row};
use super::{Kept, Memory, Reason, SWEEP};
use crate::entry::{Entry, Windows, Zone};
use crate::eviction::Evict;
use crate::storage::{Index, Map, Profile};
use crate::tags::Verdict;
use crate::time::{Instant, nanos};
use crate::value::Value;

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Memory<K, V, P> {
    #[inline]
    pub(super) fn touch(&mut self, index: u32, hash: u64, now: Instant) {
        self.order.hit(index, hash);
        if let Some(idle) = self.policy.time_to_idle {
            self.idle_until.set(index, now + idle);
        }
    }

    /// Removes the row if it is of no use any more; whether it was removed.
    #[inline]
    pub(super) fn dismiss(&mut self, index: u32, now: Instant) -> bool {
        let reason = self.settle(index, now);
        if let Some(reason) = reason {
            self.take_out(index, reason);
        }
        reason.is_some()
    }

    /// Lets the row take note of invalidations. The reason to remove it if it is of no use any more.
    #[inline]
    pub(super) fn settle(&mut self, index: u32, now: Instant) -> Option<Reason> {
        if self.is_of_use(index, now) { None } else { self.settle_doubtful(index, now) }
    }

    #[cold]
    fn settle_doubtful(&mut self, index: u32, now: Instant) -> Option<Reason> {
        let row = self.rows.get(index)?;
        if row.born < self.limit(row.kind) {
            match self.verdict(row) {
                Verdict::Invalid => return Some(Reason::Invalidated),
                Verdict::Doubted => return self.expired(index, now),
                Verdict::Expired(at) => self.end_freshness(index, at),
                Verdict::Valid => {}
            }
            let newest = self.number(self.invalidations.newest());
            self.rows.get_mut(index)?.born = newest;
        }
        self.expired(index, now)
    }

    fn expired(&self, index: u32, now: Instant) -> Option<Reason> {
        self.is_over(index, self.rows.get(index)?, now).then_some(Reason::Expired)
    }

    /// The row's freshness ended at `at`, if not before.
    pub(super) fn end_freshness(&mut self, index: u32, at: Instant) {
        let Some(row) = self.rows.get_mut(index) else { return };
        let Some(shape) = self.shapes.get(row.kind.shape()) else { return };
        let windows = shape.windows.cut(Duration::from_nanos(row.origin.age(at)));
        self.shapes.release(row.kind.shape());
        if let Some(shape) = self.shapes.take(&windows) {
            row.kind = row.kind.with_shape(shape);
        }
    }

    pub(super) fn place(&mut self, key: K, mut entry: Entry<V>, born: u64, keeps_pause: bool, now: Instant) -> Kept {
        self.sweep(SWEEP, now);
        let hash = self.hash(&key);
        let origin = Origin::of(nanos(entry.age), now);
        let verdict = self.invalidations.verdict(entry.value.tags(), born);
        match verdict {
            Verdict::Invalid => return Kept::Useless,
            Verdict::Expired(at) => entry.windows = entry.windows.cut(Duration::from_nanos(origin.age(at))),
            // Rows know no doubts but those of their memory.
            Verdict::Valid if entry.doubted => entry.windows = entry.windows.cut(entry.age),
            Verdict::Valid | Verdict::Doubted => {}
        }
        let windows = &entry.windows;
        let newest = born.max(self.invalidations.newest());
        self.reach(newest);
        // What is in doubt stays as old as it is.
        let known = if verdict == Verdict::Doubted { born } else { newest };
        let held = self.locate(hash, &key).filter(|&index| !self.dismiss(index, now));
        let (weight, max) = (u64::from(entry.value.weight()), self.policy.weight_max);
        let kept = match windows.zone(entry.age) {
            Zone::Gone => Kept::Useless,
            _ if max > 0 && weight > max => Kept::TooHeavy,
            _ => Kept::Yes,
        };
        if kept != Kept::Yes {
            self.stats.too_heavy += u64::from(kept == Kept::TooHeavy);
            held.into_iter().for_each(|index| self.take_out(index, Reason::Replaced));
            return kept;
        }
        let arrival = Arrival { value: entry.value, origin, windows, born: self.number(known), weight };
        let placed = match held {
            Some(index) => self.overwrite(index, hash, key, arrival, keeps_pause, now),
            None => self.add(hash, key, arrival, now),
        };
        let Some(index) = placed else { return Kept::Useless };
        self.stats.insertions += 1;
        self.note_beside(index, entry.load_time, now);
        kept
    }

    /// What lies beside the row.
    #[inline]
    pub(super) fn note_beside(&mut self, index: u32, load_time: Duration, now: Instant) {
        if let Some(idle) = self.policy.time_to_idle {
            self.idle_until.set(index, now + idle);
        }
        if self.policy.early_refresh > 0 {
            self.load_times.set(index, u32::try_from(load_time.as_micros()).unwrap_or(u32::MAX));
        }
    }

    #[inline]
    fn add(&mut self, hash: u64, key: K, arrival: Arrival<'_, V>, now: Instant) -> Option<u32> {
        self.make_room(1, arrival.weight, now);
        let Arrival { value, origin, windows, born, weight } = arrival;
        let kind = Kind::new(self.shapes.take(windows)?, !value.tags().is_empty());
        let index = self.rows.insert(Row { key, value, origin, born, kind }).ok()?;
        let (rows, hasher) = (&self.rows, &self.hasher);
        let rehash = |index| rows.get(index).map_or(0, |row: &Row<K, V>| hasher.hash_one(&row.key));
        // Rows and index have the same room.
        let _ = self.index.insert(hash, index, rehash);
        self.order.inserted(index, hash);
        self.weight += weight;
        Some(index)
    }

    #[inline(never)]
    /// Puts an arrival in the place of the row that has its key, which counts as a use of it.
    fn overwrite(
        &mut self,
        index: u32,
        hash: u64,
        key: K,
        arrival: Arrival<'_, V>,
        keeps_pause: bool,
        now: Instant,
    ) -> Option<u32> {
        let row = self.rows.get_mut(index)?;
        self.shapes.release(row.kind.shape());
        let paused = row.kind.is_paused();
        row.kind = Kind::new(self.shapes.take(arrival.windows)?, !arrival.value.tags().is_empty());
        row.kind = row.kind.paused(paused && keeps_pause);
        (row.origin, row.born) = (arrival.origin, arrival.born);
        let old = core::mem::replace(&mut row.value, arrival.value);
        if paused && !keeps_pause {
            self.pauses.remove(&index);
        }
        self.weight = self.weight.saturating_sub(u64::from(old.weight())) + arrival.weight;
        if self.policy.weight_max > 0 && self.weight > self.policy.weight_max {
            // Others leave for it, so it steps aside meanwhile.
            self.order.removed(index);
            self.make_room(0, 0, now);
            self.order.inserted(index, hash);
        } else {
            self.order.hit(index, hash);
        }
        self.count(key, Reason::Replaced);
        Some(index)
    }

    /// Gives rows up until there is room for so many more of that weight.
    #[inline(always)]
    pub(super) fn make_room(&mut self, rows: usize, weight: u64, now: Instant) {
        let max = if self.policy.weight_max == 0 { u64::MAX } else { self.policy.weight_max };
        while self.rows.len() + rows > self.rows.capacity() || self.weight.saturating_add(weight) > max {
            let (rows, hasher) = (&self.rows, &self.hasher);
            let hash_of = |index| rows.get(index).map_or(0, |row: &Row<K, V>| hasher.hash_one(&row.key));
            let Some((victim, hash)) = self.order.victim(hash_of) else { return };
            let reason = self.settle(victim, now).unwrap_or(Reason::Evicted);
            self.drop_row(victim, hash, reason);
        }
    }

    #[inline(never)]
    pub(super) fn take_out(&mut self, index: u32, reason: Reason) {
        if let Some(row) = self.rows.get(index) {
            let hash = self.hash(&row.key);
            self.order.removed(index);
            self.drop_row(index, hash, reason);
        }
    }

    /// Removes a row that has left the order of eviction, given the hash of its key.
    #[inline(always)]
    pub(super) fn drop_row(&mut self, index: u32, hash: u64, reason: Reason) {
        self.index.remove(hash, index);
        let Some(Row { key, value, kind, .. }) = self.rows.remove(index) else { return };
        self.shapes.release(kind.shape());
        if kind.is_paused() {
            self.pauses.remove(&index);
        }
        self.weight = if self.rows.is_empty() { 0 } else { self.weight.saturating_sub(u64::from(value.weight())) };
        self.count(key, reason);
    }

    pub(super) fn count(&mut self, key: K, reason: Reason) {
        match reason {
            Reason::Expired => self.stats.expirations += 1,
            Reason::Evicted => self.stats.evictions += 1,
            Reason::Replaced => self.stats.replacements += 1,
            Reason::Removed => self.stats.removals += 1,
            Reason::Invalidated => self.stats.invalidated += 1,
            Reason::Cleared => {}
        }
        if self.reports.are_wanted() {
            self.reports.add(key, reason);
        }
    }

    pub(super) fn drop_rows(&mut self) {
        self.index.clear();
        self.rows.clear();
        self.shapes.clear();
        self.order.clear();
        self.idle_until.clear();
        self.load_times.clear();
        self.pauses.clear();
        (self.weight, self.hand) = (0, 0);
    }

    /// A number of the logical clock as rows keep it.
    pub(super) fn number(&self, number: u64) -> u32 {
        u32::try_from(number.saturating_sub(self.base)).unwrap_or(u32::MAX)
    }

    /// Sees to it that rows can keep `newest`. Each 2^32 numbers everything starts anew.
    pub(super) fn reach(&mut self, newest: u64) {
        if newest.saturating_sub(self.base) >= u64::from(u32::MAX) {
            for index in 0..self.rows.numbers() {
                self.take_out(index, Reason::Invalidated);
            }
            self.base = newest;
            self.draw_limits();
        }
    }

    pub(super) fn draw_limits(&mut self) {
        self.tagged_limit = self.number(self.invalidations.newest());
        self.plain_limit = self.number(self.invalidations.everything());
    }
}

/// What a row is to become.
struct Arrival<'a, V> {
    value: V,
    origin: Origin,
    windows: &'a Windows,
    born: u32,
    weight: u64,
}
