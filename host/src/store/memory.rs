//! The store inside the process: what stands in while the shared one is away, and what tests and small services use.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tideover_core::direct::number;
use tideover_core::envelope::stamp_of;
use tideover_core::memory::{Memory, MemoryPolicy};
use tideover_core::pattern::Pattern;
use tideover_core::stamp::{Condition, Written};
use tideover_core::{Entry, Instant, Note, WallTime, Windows, Zone};
use tokio::sync::Notify;

use super::log::{Ears, Log};
use super::{
    Abilities, Cursor, Ear, Elsewhere, Keeper, Lease, Leased, Page, Remaining, Store, StoreError, When, is_direct,
};
use crate::clock::after;
use crate::engine::Payload;

type Rows = Memory<Box<str>, Payload>;

/// A bounded store in the memory of this process.
///
/// It keeps the most recently used entries up to a number, and up to a weight if it is given one, and each exactly for its
/// time to live. All callers share one lock, held for a table lookup at most.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::store::StoreError> {
/// use tideover::store::{MemoryStore, Store};
///
/// let store = MemoryStore::new(10_000);
/// store.write("user:7", "Ada".into(), None).await?;
/// assert_eq!(store.read("user:7").await?, Some("Ada".into()));
/// # Ok(())
/// # }
/// ```
pub struct MemoryStore {
    /// `None` once closed.
    memory: Mutex<Option<Rows>>,
    log: Mutex<Log>,
    ears: Ears,
    leases: Arc<Leases>,
    /// The zero of the core's readings.
    started_at: tokio::time::Instant,
}

impl MemoryStore {
    /// An empty store for `entries_max` entries (at least one). When it is full, the least recently used one leaves.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self::bounded(entries_max, 0)
    }

    /// As [`new`](Self::new), for values of `bytes_max` bytes together, 0 for any number: the least recently used leave. A
    /// value that is larger by itself is not kept, nor is what was under its key.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::store::StoreError> {
    /// use tideover::store::{MemoryStore, Store};
    ///
    /// let store = MemoryStore::bounded(10_000, 10);
    /// store.write("a", "123456".into(), None).await?;
    /// store.write("b", "123456".into(), None).await?;
    /// assert_eq!((store.exists("a").await?, store.exists("b").await?), (false, true));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn bounded(entries_max: usize, bytes_max: u64) -> Self {
        let entries_max = u32::try_from(entries_max).unwrap_or(u32::MAX);
        let memory = Memory::new(MemoryPolicy { entries_max, weight_max: bytes_max, ..MemoryPolicy::default() });
        Self {
            memory: Mutex::new(Some(memory)),
            log: Mutex::default(),
            ears: Ears::default(),
            leases: Arc::default(),
            started_at: tokio::time::Instant::now(),
        }
    }

    /// Runs `work` on the memory at this moment.
    fn with<T>(&self, work: impl FnOnce(&mut Rows, Instant) -> T) -> Result<T, StoreError> {
        let now = Instant::ZERO + self.started_at.elapsed();
        self.lock().as_mut().map(|memory| work(memory, now)).ok_or(StoreError::Closed)
    }

    /// Tells who listens that these keys were changed.
    fn changed<'a>(&self, keys: impl IntoIterator<Item = &'a str>, writer: Option<u64>) {
        let of_caches = keys.into_iter().filter(|key| !is_direct(key));
        of_caches.for_each(|key| self.ears.tell(|ear| ear.changed(key, writer)));
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Rows>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leases that may have ended before they are looked through.
const LEASES_MAX: usize = 1_024;

/// Who has which lease, and until when.
#[derive(Default)]
struct Leases {
    rows: Mutex<HashMap<Box<str>, LeaseRow>>,
    /// The number of the newest.
    newest: AtomicU64,
    freed: Notify,
}

struct LeaseRow {
    number: u64,
    until: tokio::time::Instant,
}

impl Leases {
    fn take(self: &Arc<Self>, key: &str, ttl: Duration, hold_for: Duration) -> Leased {
        let now = tokio::time::Instant::now();
        let mut rows = self.rows();
        if let Some(row) = rows.get(key).filter(|row| now < row.until) {
            let (free_in, number) = (row.until - now, row.number);
            return Leased::Elsewhere(Elsewhere::new(free_in, Arc::clone(self).freed(key.into(), number)));
        }
        if rows.len() >= LEASES_MAX {
            rows.retain(|_, row| now < row.until);
        }
        let number = self.newest.fetch_add(1, Ordering::Relaxed);
        rows.insert(key.into(), LeaseRow { number, until: now + ttl });
        let keeper = LeaseKeeper { leases: Arc::clone(self), key: key.into(), number, ttl };
        Leased::Held(Lease::new(ttl, hold_for, keeper))
    }

    /// Waits until the lease of that number is over, unless it merely ends.
    async fn freed(self: Arc<Self>, key: Box<str>, number: u64) {
        loop {
            let freed = self.freed.notified();
            if self.rows().get(&key).is_none_or(|row| row.number != number) {
                return;
            }
            freed.await;
        }
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<Box<str>, LeaseRow>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct LeaseKeeper {
    leases: Arc<Leases>,
    key: Box<str>,
    number: u64,
    ttl: Duration,
}

impl Keeper for LeaseKeeper {
    fn renew(&self) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let mut rows = self.leases.rows();
            let Some(row) = rows.get_mut(&self.key).filter(|row| row.number == self.number) else { return false };
            row.until = after(self.ttl);
            true
        })
    }

    fn release(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut rows = self.leases.rows();
            if rows.get(&self.key).is_some_and(|row| row.number == self.number) {
                rows.remove(&self.key);
            }
            self.leases.freed.notify_waiters();
        })
    }
}

fn put(rows: &mut Rows, key: &str, value: Bytes, ttl: Option<Duration>, now: Instant) {
    let windows = Windows { ttl, ..Windows::FOREVER };
    // What is too large or at its end is not kept, as a full store keeps what it can.
    let _ = rows.insert(key.into(), Entry::new(value.into(), windows), 0, now);
}

fn read(rows: &mut Rows, key: &str, now: Instant) -> Option<Bytes> {
    rows.find(key, now).map(|found| found.entry.value.bytes)
}

/// What is there, without counting as its use.
fn look(rows: &Rows, key: &str, now: Instant) -> Option<Entry<Payload>> {
    rows.peek(key, now).filter(|entry| entry.zone() == Zone::Fresh)
}

fn take(rows: &mut Rows, key: &str, now: Instant) -> Option<Bytes> {
    let found = look(rows, key, now);
    rows.remove(key);
    found.map(|entry| entry.value.bytes)
}

fn add(rows: &mut Rows, key: &str, by: i64, ttl: Option<Duration>, now: Instant) -> Result<i64, StoreError> {
    let refuse = |why: &str| Err(StoreError::Rejected(why.into()));
    let Some(entry) = look(rows, key, now) else {
        put(rows, key, by.to_string().into(), ttl, now);
        return Ok(by);
    };
    let Some(number) = number(&entry.value.bytes) else { return refuse("the value is not a whole number of 64 bits") };
    let Some(sum) = number.checked_add(by) else { return refuse("the number would not fit into 64 bits") };
    let _ = rows.insert(key.into(), Entry { value: sum.to_string().into(), ..entry }, 0, now);
    Ok(sum)
}

/// Removes all but the keys of direct operations.
fn clear(rows: &mut Rows, now: Instant) {
    let kept = rows.iter(now).filter(|(key, entry)| is_direct(key) && entry.zone() == Zone::Fresh);
    let kept: Vec<_> = kept.map(|(key, entry)| (key.clone(), entry)).collect();
    rows.clear();
    for (key, entry) in kept {
        let _it_was_there = rows.insert(key, entry, 0, now);
    }
}

/// A cursor is the last key of the page before; keys come in their order, so that it holds whatever is added or
/// removed meanwhile. Each page looks at all keys, of which there is a bounded number.
fn page(rows: &Rows, pattern: &Pattern, cursor: &Cursor, count: usize, now: Instant) -> Page {
    // An empty cursor is the beginning, and the empty key comes before all others.
    let after = cursor.as_str().strip_prefix('>');
    let fresh = rows.iter(now).filter(|(_, entry)| entry.zone() == Zone::Fresh).map(|(key, _)| &**key);
    let mut keys: Vec<&str> = fresh.filter(|key| after.is_none_or(|after| *key > after)).collect();
    keys.sort_unstable();
    let is_last = keys.len() <= count.max(1);
    keys.truncate(count.max(1));
    let last = keys.last().filter(|_| !is_last);
    let next = last.map(|last| Cursor::new(format!(">{last}")));
    let keys = keys.into_iter().filter(|key| pattern.matches(key)).map(str::to_owned).collect();
    Page { keys, next }
}

fn remove_matching(rows: &mut Rows, pattern: &Pattern, now: Instant) -> Vec<Box<str>> {
    let fresh = rows.iter(now).filter(|(_, entry)| entry.zone() == Zone::Fresh).map(|(key, _)| key);
    let matching: Vec<Box<str>> = fresh.filter(|key| pattern.matches(key)).cloned().collect();
    matching.into_iter().filter(|key| rows.remove(&**key)).collect()
}

impl Store for MemoryStore {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move { self.with(|rows, now| read(rows, key, now)) })
    }

    fn write<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.with(|rows, now| put(rows, key, value, ttl, now))?;
            self.changed([key], None);
            Ok(())
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.with(|rows, _| rows.remove(key))?;
            self.changed([key], None);
            Ok(())
        })
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.with(clear)?;
            self.ears.tell(|ear| ear.missed());
            Ok(())
        })
    }

    fn replace<'a>(
        &'a self,
        key: &'a str,
        envelope: Bytes,
        ttl: Option<Duration>,
        condition: Condition,
    ) -> BoxFuture<'a, Result<Written, StoreError>> {
        Box::pin(async move {
            let new = stamp_of(&envelope);
            let written = self.with(|rows, now| {
                let held = look(rows, key, now).and_then(|held| stamp_of(&held.value.bytes));
                if new.is_some_and(|new| !condition.admits(held.as_ref(), &new)) {
                    return Written::Overtaken;
                }
                put(rows, key, envelope, ttl, now);
                Written::Kept
            })?;
            if written == Written::Kept {
                self.changed([key], new.map(|new| new.version.writer));
            }
            Ok(written)
        })
    }

    fn note(&self, writer: u64, note: Note, made_at: WallTime) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut log = self.log();
            self.with(|rows, now| {
                if note == Note::Cleared {
                    clear(rows, now);
                }
            })?;
            log.note(&self.ears, writer, note, made_at);
            Ok(())
        })
    }

    fn lease<'a>(
        &'a self,
        key: &'a str,
        ttl: Duration,
        hold_for: Duration,
    ) -> BoxFuture<'a, Result<Leased, StoreError>> {
        Box::pin(async move {
            self.with(|_, _| ())?;
            Ok(self.leases.take(key, ttl, hold_for))
        })
    }

    fn listen(&self, ear: &Arc<dyn Ear>) {
        self.log().listen(&self.ears, ear);
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.with(|_, _| ()) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { *self.lock() = None })
    }

    fn abilities(&self) -> Abilities {
        Abilities::ALL
    }

    fn write_when<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Option<Duration>,
        when: When,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let written = self.with(|rows, now| {
                let present = look(rows, key, now).is_some();
                let holds = match when {
                    When::Always => true,
                    When::Absent => !present,
                    When::Present => present,
                };
                if holds {
                    put(rows, key, value, ttl, now);
                }
                holds
            })?;
            self.changed(written.then_some(key), None);
            Ok(written)
        })
    }

    fn take<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            let taken = self.with(|rows, now| take(rows, key, now))?;
            self.changed([key], None);
            Ok(taken)
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { Ok(self.take(key).await?.is_some()) })
    }

    fn remove_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let count = self.with(|rows, now| keys.iter().filter(|key| take(rows, key, now).is_some()).count())?;
            self.changed(keys.iter().copied(), None);
            Ok(count as u64)
        })
    }

    fn exists<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { self.with(|rows, now| look(rows, key, now).is_some()) })
    }

    fn read_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        Box::pin(async move { self.with(|rows, now| keys.iter().map(|key| read(rows, key, now)).collect()) })
    }

    fn write_many<'a>(
        &'a self,
        entries: &'a [(&'a str, Bytes)],
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.with(|rows, now| entries.iter().for_each(|(key, value)| put(rows, key, value.clone(), ttl, now)))?;
            self.changed(entries.iter().map(|(key, _)| *key), None);
            Ok(())
        })
    }

    fn increment<'a>(&'a self, key: &'a str, by: i64, ttl: Option<Duration>) -> BoxFuture<'a, Result<i64, StoreError>> {
        Box::pin(async move {
            let sum = self.with(|rows, now| add(rows, key, by, ttl, now))??;
            self.changed([key], None);
            Ok(sum)
        })
    }

    fn expire<'a>(&'a self, key: &'a str, ttl: Option<Duration>) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            self.with(|rows, now| {
                let Some(entry) = look(rows, key, now) else { return false };
                put(rows, key, entry.value.bytes, ttl, now);
                true
            })
        })
    }

    fn remaining<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Remaining, StoreError>> {
        Box::pin(async move {
            self.with(|rows, now| match look(rows, key, now).map(|entry| entry.remaining()) {
                None => Remaining::NoSuchKey,
                Some(None) => Remaining::Forever,
                Some(Some(left)) => Remaining::Left(left),
            })
        })
    }

    fn scan<'a>(
        &'a self,
        pattern: &'a str,
        cursor: &'a Cursor,
        count: usize,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        Box::pin(async move { self.with(|rows, now| page(rows, &Pattern::new(pattern), cursor, count, now)) })
    }

    fn remove_matching<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let removed = self.with(|rows, now| remove_matching(rows, &Pattern::new(pattern), now))?;
            self.changed(removed.iter().map(|key| &**key), None);
            Ok(removed.len() as u64)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_value_is_there_just_before_its_time_and_gone_exactly_then() {
        let store = MemoryStore::new(2);
        store.write("a", "1".into(), Some(Duration::from_secs(5))).await.expect("open");
        tokio::time::advance(Duration::from_millis(4_999)).await;
        assert_eq!(store.read("a").await.expect("open"), Some("1".into()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(store.read("a").await.expect("open"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_recently_read_leaves_when_it_is_full() {
        let store = MemoryStore::new(2);
        for key in ["a", "b"] {
            store.write(key, "1".into(), None).await.expect("open");
        }
        store.read("a").await.expect("open");
        store.write("c", "1".into(), None).await.expect("open");
        assert_eq!(store.read("b").await.expect("open"), None);
        assert_eq!(store.read("a").await.expect("open"), Some("1".into()));
    }
}
