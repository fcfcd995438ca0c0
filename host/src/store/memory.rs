//! The store inside the process: what stands in while the shared one is away, and what tests and small services use.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tideover_core::envelope::stamp_of;
use tideover_core::memory::{Memory, MemoryPolicy};
use tideover_core::stamp::{Condition, Written};
use tideover_core::{Entry, Instant, Note, WallTime, Windows};

use super::log::Log;
use super::{Abilities, Ear, Store, StoreError};
use crate::engine::Payload;

/// A bounded store in the memory of this process.
///
/// It keeps the most recently used entries up to a number, and each exactly for its time to live. The bound counts
/// entries, not bytes: what a value weighs is the caller's to limit. All callers share one lock, held for a table
/// lookup at most.
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
    memory: Mutex<Option<Memory<Box<str>, Payload>>>,
    log: Mutex<Log>,
    /// The zero of the core's readings.
    started_at: tokio::time::Instant,
}

impl MemoryStore {
    /// An empty store for `entries_max` entries (at least one). When it is full, the least recently used one leaves.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        let entries_max = u32::try_from(entries_max).unwrap_or(u32::MAX);
        let memory = Memory::new(MemoryPolicy { entries_max, ..MemoryPolicy::default() });
        Self { memory: Mutex::new(Some(memory)), log: Mutex::default(), started_at: tokio::time::Instant::now() }
    }

    /// Runs `work` on the memory at this moment.
    fn with<T>(&self, work: impl FnOnce(&mut Memory<Box<str>, Payload>, Instant) -> T) -> Result<T, StoreError> {
        let now = Instant::ZERO + self.started_at.elapsed();
        self.lock().as_mut().map(|memory| work(memory, now)).ok_or(StoreError::Closed)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Memory<Box<str>, Payload>>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move { self.with(|memory, now| memory.find(key, now).map(|found| found.entry.value.bytes)) })
    }

    fn write<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), StoreError>> {
        let entry = entry(value, ttl);
        Box::pin(async move { self.with(|memory, now| memory.insert(key.into(), entry, 0, now)).map(drop) })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.with(|memory, _| memory.remove(key)).map(drop) })
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.with(|memory, _| memory.clear()) })
    }

    fn abilities(&self) -> Abilities {
        Abilities { compare: true, log: true }
    }

    fn replace<'a>(
        &'a self,
        key: &'a str,
        envelope: Bytes,
        ttl: Option<Duration>,
        condition: Condition,
    ) -> BoxFuture<'a, Result<Written, StoreError>> {
        Box::pin(async move {
            self.with(|memory, now| {
                let held = memory.peek(key, now).and_then(|held| stamp_of(&held.value.bytes));
                if stamp_of(&envelope).is_some_and(|new| !condition.admits(held.as_ref(), &new)) {
                    return Written::Overtaken;
                }
                memory.insert(key.into(), entry(envelope, ttl), 0, now);
                Written::Kept
            })
        })
    }

    fn note(&self, writer: u64, note: Note, made_at: WallTime) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut log = self.log();
            self.with(|memory, _| {
                if note == Note::Cleared {
                    memory.clear();
                }
            })?;
            log.note(writer, note, made_at);
            Ok(())
        })
    }

    fn listen(&self, ear: &Arc<dyn Ear>) {
        self.log().listen(ear);
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.with(|_, _| ()) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { *self.lock() = None })
    }
}

fn entry(value: Bytes, ttl: Option<Duration>) -> Entry<Payload> {
    Entry::new(value.into(), Windows { ttl, ..Windows::FOREVER })
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
