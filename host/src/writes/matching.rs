//! Invalidation by pattern: whatever key matches, wherever it is known.
//!
//! What is in memory, under way or owed is found at once, what is in the shared store by a walk over its keys; each key that
//! is found is removed as if it had been named, with a tombstone, so that no late load brings it back. While that goes on,
//! and for as long as the store is away, what lies there and matches counts as removed already.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use tideover_core::{Clock, Invalidation, Settled, StoreFailure, Tier};

use super::apply::{AT_ONCE, invalidate_key, weaker};
use crate::cache::Cache;
use crate::clock::Deadline;
use crate::engine::Key;
use crate::error::Error;
use crate::outside::{DOOMED_MAX, Warrant};
use crate::store::{Cursor, Page, StoreError, is_direct};

/// Keys of a store that are looked at in one step.
const STEP: usize = 1_000;

const OPERATION: &str = "remove_matching";

/// Invalidates what matches. [`Settled::Journaled`] if the store is away: it is owed to it.
pub(super) async fn invalidate_matching(cache: &Cache, pattern: &str, how: Invalidation) -> Result<Settled, Error> {
    cache.policy().check_key(pattern).map_err(Error::Refused)?;
    let warrant = warrant(cache, pattern)?;
    let here = here(cache, pattern).await?;
    let mut settled = invalidate_all(cache, here.iter().cloned(), how).await?;
    if let Some(warrant) = warrant {
        settled = weaker(settled, Some(carry_out(cache, warrant, how, &here).await?));
    }
    Ok(settled.unwrap_or(Settled::Memory))
}

/// The right to remove it from the shared store; `None` if there is none.
fn warrant(cache: &Cache, pattern: &str) -> Result<Option<Warrant>, Error> {
    let stores = cache.stores();
    let Some(store) = &stores.primary else { return Ok(None) };
    if !store.abilities().scan {
        return Err(Error::StoreRefused { operation: OPERATION, error: StoreError::Unsupported("scan") });
    }
    let warrant = stores.doomed.doom(pattern, cache.clock().wall());
    warrant.map(Some).ok_or(Error::JournalFull { operation: OPERATION, max: DOOMED_MAX })
}

/// What matches in this process: in memory, under way, owed, and in the fallback.
async fn here(cache: &Cache, pattern: &str) -> Result<BTreeSet<Key>, Error> {
    let mut found = cache.keys_matching(pattern).await?;
    if cache.stores().primary.is_some() {
        let mut cursor = Some(Cursor::default());
        while let Some(from) = cursor {
            let page = scan(cache, Tier::Fallback, pattern, &from).await;
            let Ok(page) = page else { break };
            found.extend(page.keys.into_iter().map(Key::from));
            cursor = page.next;
        }
    }
    Ok(found)
}

/// Removes what matches from the shared store, except what is `done`. What fails is owed.
async fn carry_out(cache: &Cache, warrant: Warrant, how: Invalidation, done: &BTreeSet<Key>) -> Result<Settled, Error> {
    let (mut settled, mut cursor) = (None, Some(Cursor::default()));
    while let Some(from) = cursor {
        let Ok(page) = scan(cache, Tier::Primary, &warrant.text, &from).await else { return Ok(Settled::Journaled) };
        let found = page.keys.into_iter().map(Key::from).filter(|key| !done.contains(key));
        settled = weaker(settled, invalidate_all(cache, found, how).await?);
        cursor = page.next;
    }
    warrant.done();
    Ok(settled.unwrap_or(Settled::Store))
}

/// Carries out what is owed and due. What has been written since stays.
pub(crate) async fn pay(cache: Cache) {
    while let Some(warrant) = cache.stores().doomed.take_up(tokio::time::Instant::now()) {
        if pay_one(&cache, &warrant).await.is_ok() {
            warrant.done();
        }
    }
}

async fn pay_one(cache: &Cache, warrant: &Warrant) -> Result<(), StoreFailure> {
    let mut cursor = Some(Cursor::default());
    while let Some(from) = cursor {
        let page = scan(cache, Tier::Primary, &warrant.text, &from).await?;
        let looked_at = page.keys.into_iter().map(|key| async move {
            let found = cache.stores().look(Tier::Primary, &key, &deadline(cache)).await?;
            let is_left = found.is_some_and(|found| warrant.concerns(&found));
            Ok::<_, StoreFailure>(Some(Key::from(key)).filter(|_| is_left))
        });
        let found: Vec<_> = stream::iter(looked_at).buffer_unordered(AT_ONCE).try_collect().await?;
        let found = found.into_iter().flatten();
        let settled = invalidate_all(cache, found, Invalidation::Remove).await;
        if settled.is_err() || settled.is_ok_and(|settled| settled == Some(Settled::Journaled)) {
            return Err(StoreFailure::Unavailable);
        }
        cursor = page.next;
    }
    Ok(())
}

async fn invalidate_all(
    cache: &Cache,
    keys: impl Iterator<Item = Key>,
    how: Invalidation,
) -> Result<Option<Settled>, Error> {
    let of_caches = keys.filter(|key| !is_direct(key));
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

async fn scan(cache: &Cache, tier: Tier, pattern: &str, cursor: &Cursor) -> Result<Page, StoreFailure> {
    cache.stores().scan(tier, pattern, cursor, STEP, &deadline(cache)).await
}

fn deadline(cache: &Cache) -> Deadline {
    let clock = cache.clock();
    clock.deadline(clock.now() + cache.policy().store_read_deadline)
}
