//! Invalidation by pattern: whatever key matches, wherever it is known.
//!
//! What is in memory, under way or owed is found at once, and each key is invalidated as if it had been named. What is in the
//! shared store is found by a walk over its keys, and a tombstone put in its place unless it is newer, so that no late load
//! brings it back; memory, and what is owed, are left alone by then, since they may hold what came afterwards. While the walk
//! goes on, and for as long as the store is away, what lies there and matches counts as removed already.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use tideover_core::breaker::State;
use tideover_core::envelope::tombstone;
use tideover_core::stamp::{Condition, Stamp};
use tideover_core::{Clock, Instant, Invalidation, Settled, StoreFailure, Tier};

use super::apply::{AT_ONCE, invalidate_key, weaker};
use crate::cache::Cache;
use crate::clock::Deadline;
use crate::engine::Key;
use crate::error::Error;
use crate::outside::{DOOMED_MAX, Warrant};
use crate::store::{Cursor, Page, StoreError, is_direct};

/// Keys of the shared store that are looked at in one step.
const STEP: usize = 1_000;

const OPERATION: &str = "remove_matching";

/// Invalidates what matches. [`Settled::Journaled`] if it is owed to the store: that is away, or the walk takes longer than
/// `call_deadline`.
pub(super) async fn invalidate_matching(cache: &Cache, pattern: &str, how: Invalidation) -> Result<Settled, Error> {
    cache.policy().check_key(pattern).map_err(Error::Refused)?;
    let until = cache.clock().now() + cache.policy().call_deadline;
    let warrant = warrant(cache, pattern)?;
    let settled = invalidate_all(cache, here(cache, pattern).await?, how).await?;
    let Some(warrant) = warrant else { return Ok(settled.unwrap_or(Settled::Memory)) };
    match carry_out(cache, &warrant, until).await {
        Ok(()) => {
            warrant.done();
            Ok(weaker(settled, Some(Settled::Store)).unwrap_or(Settled::Store))
        }
        Err(Unfinished::Refused) => {
            warrant.done();
            Err(refused(StoreError::Rejected("it may not be walked through".into())))
        }
        Err(Unfinished::Owed) => Ok(Settled::Journaled),
    }
}

/// Why one was not carried out.
enum Unfinished {
    /// The store refuses to be walked through, and will again.
    Refused,
    /// It is away, or slow, or takes no changes now.
    Owed,
}

impl From<StoreFailure> for Unfinished {
    fn from(_: StoreFailure) -> Self {
        Self::Owed
    }
}

/// The right to remove it from the shared store; `None` if there is none.
fn warrant(cache: &Cache, pattern: &str) -> Result<Option<Warrant>, Error> {
    let stores = cache.stores();
    let Some(store) = &stores.primary else { return Ok(None) };
    if !store.abilities().scan {
        return Err(refused(StoreError::Unsupported("scan")));
    }
    let warrant = stores.doomed.doom(pattern, cache.clock().wall());
    warrant.map(Some).ok_or(Error::JournalFull { operation: OPERATION, max: DOOMED_MAX })
}

const fn refused(error: StoreError) -> Error {
    Error::StoreRefused { operation: OPERATION, error }
}

/// What matches in this process: in memory, under way, owed, and in the fallback.
async fn here(cache: &Cache, pattern: &str) -> Result<BTreeSet<Key>, Error> {
    let mut found = cache.keys_matching(pattern).await?;
    if cache.stores().primary.is_some() {
        // It is bounded, and each page would look at all of it.
        let page = scan(cache, Tier::Fallback, pattern, &Cursor::default(), usize::MAX).await;
        found.extend(page.unwrap_or_default().keys.into_iter().map(Key::from));
    }
    Ok(found)
}

async fn invalidate_all(cache: &Cache, keys: BTreeSet<Key>, how: Invalidation) -> Result<Option<Settled>, Error> {
    let of_caches = keys.into_iter().filter(|key| !is_direct(key));
    let each = of_caches.map(|key| async move { invalidate_key(cache, &key, how).await });
    let mut results = stream::iter(each).buffer_unordered(AT_ONCE);
    let (mut settled, mut failed) = (None, None);
    while let Some(result) = results.next().await {
        match result {
            Ok(one) => settled = weaker(settled, Some(one)),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(settled), Err)
}

/// Carries out what is owed and due, one after the other, once all else that is owed has been paid: what was put after a
/// pattern is in the store by then, and newer.
pub(crate) async fn pay(cache: Cache) {
    let doomed = &cache.stores().doomed;
    let work = async {
        if !cache.stats().await.is_ok_and(|report| report.count("owed") == 0 && !report.owes_clear) {
            return;
        }
        while let Some(warrant) = doomed.take_up(tokio::time::Instant::now()) {
            // What was accepted stays owed, also if it is refused now: what matches counts as removed meanwhile.
            if carry_out(&cache, &warrant, Instant::NEVER).await.is_ok() {
                warrant.done();
            }
        }
    };
    doomed.alone(work).await;
}

/// Walks through the shared store, and removes what matches and is not newer.
async fn carry_out(cache: &Cache, warrant: &Warrant, until: Instant) -> Result<(), Unfinished> {
    if is_given_up(cache).await {
        return Err(Unfinished::Owed);
    }
    let mut cursor = Some(Cursor::default());
    while let Some(from) = cursor {
        if cache.clock().now() >= until {
            return Err(Unfinished::Owed);
        }
        let page = match scan(cache, Tier::Primary, &warrant.text, &from, STEP).await {
            Err(StoreFailure::Rejected) => return Err(Unfinished::Refused),
            page => page?,
        };
        let of_caches = page.keys.into_iter().filter(|key| !is_direct(key));
        let each = of_caches.map(|key| async move { remove_from_store(cache, warrant, &key).await });
        stream::iter(each).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        cursor = page.next;
    }
    Ok(())
}

/// Whether the circuit of the store is open.
async fn is_given_up(cache: &Cache) -> bool {
    cache.stats().await.is_ok_and(|report| matches!(report.store_breaker.state, State::Open { .. }))
}

async fn remove_from_store(cache: &Cache, warrant: &Warrant, key: &str) -> Result<(), StoreFailure> {
    let stores = cache.stores();
    let found = match stores.look(Tier::Primary, key, &deadline(cache, cache.policy().store_read_deadline)).await {
        Ok(found) => found,
        // Nothing of ours, which nobody reads as a value.
        Err(StoreFailure::Corrupt { .. }) => return Ok(()),
        Err(failure) => return Err(failure),
    };
    let Some(stamp) = found.and_then(|found| warrant.concerns(&found)) else { return Ok(()) };
    let own = Stamp { version: stores.doomed.next_version(), changed_at: warrant.at, born: stamp.born };
    let deadline = deadline(cache, cache.policy().store_write_deadline);
    let condition = Condition::Unchanged(Some(stamp.version));
    let fence_for = cache.policy().fence_for();
    // Overtaken by something newer will do as well.
    stores.remove(Tier::Primary, key, tombstone(&own).into(), fence_for, condition, &deadline).await.map(drop)
}

async fn scan(cache: &Cache, tier: Tier, pattern: &str, from: &Cursor, count: usize) -> Result<Page, StoreFailure> {
    cache.stores().scan(tier, pattern, from, count, &deadline(cache, cache.policy().store_read_deadline)).await
}

fn deadline(cache: &Cache, limit: std::time::Duration) -> Deadline {
    let clock = cache.clock();
    clock.deadline(clock.now() + limit)
}
