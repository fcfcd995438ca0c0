//! What lies outside the machine, whoever drives it: loaders and stores, and the deadlines that they are held to.

mod doomed;

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tideover_core::stamp::{Condition, Written};
use tideover_core::{Class, LoaderId, Note, StoreFailure, Tag, Tier, WallTime};
use tracing::debug;

use crate::clock::Deadline;
use crate::engine::{Key, Payload};
use crate::loader::{LoadContext, LoadError, Loaded, Loader};
use crate::observe::Observed;
use crate::store::{Cursor, Ear, Leased, Page, Store, StoreError, due};

pub(crate) use self::doomed::{DOOMED_MAX, Doomed, Warrant};

tokio::task_local! {
    static CHAIN: Chain;
}

/// A lookup as a caller asks for it.
pub(crate) struct Ask {
    pub(crate) key: Key,
    /// Without one, the value is given only if memory or a store has it.
    pub(crate) loader: Option<Loader>,
    /// Whose circuit its load asks.
    pub(crate) of: LoaderId,
    /// The end of the caller's patience.
    pub(crate) deadline: tideover_core::Instant,
    pub(crate) max_age: Option<Duration>,
    /// The caller asks for the story of the answer.
    pub(crate) explain: bool,
}

#[cfg(test)]
impl Ask {
    /// A caller who waits as long as it takes.
    pub(crate) fn patient(key: &str, loader: Option<Loader>) -> Self {
        let deadline = tideover_core::Instant::NEVER;
        Self { key: key.into(), loader, of: LoaderId::UNNAMED, deadline, max_age: None, explain: false }
    }
}

/// Which cache of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheId(u64);

impl CacheId {
    /// Another one each time.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The loads inside which code runs, each by its cache and the number that this cache gave it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chain(Vec<(CacheId, u64)>);

impl Chain {
    /// That of the code that asks.
    pub(crate) fn here() -> Self {
        CHAIN.try_with(Clone::clone).unwrap_or_default()
    }

    /// The loads of this one cache.
    pub(crate) fn of(&self, cache: CacheId) -> impl Iterator<Item = u64> {
        self.0.iter().filter(move |(of, _)| *of == cache).map(|(_, number)| *number)
    }

    /// Runs what belongs to the innermost of these loads, on a thread that nobody knows to.
    #[cfg(feature = "blocking")]
    pub(crate) fn enter<T>(self, work: impl FnOnce() -> T) -> T {
        CHAIN.sync_scope(self, work)
    }

    fn and(&self, cache: CacheId, number: u64) -> Self {
        Self(self.0.iter().copied().chain([(cache, number)]).collect())
    }
}

/// A loader, and the loads inside which it was handed over.
#[derive(Clone)]
pub(crate) struct Origin {
    loader: Loader,
    chain: Chain,
    /// The caller's, for engines that do not show their flights.
    #[cfg(feature = "component")]
    span: tracing::Span,
}

impl Origin {
    pub(crate) fn new(loader: Loader, chain: Chain) -> Self {
        Self {
            loader,
            chain,
            #[cfg(feature = "component")]
            span: tracing::Span::current(),
        }
    }

    #[cfg(feature = "component")]
    pub(crate) const fn span(&self) -> &tracing::Span {
        &self.span
    }

    /// What the loader brings by the deadline, whether it hangs or panics. Calls that it makes know that
    /// they are made inside the load `number` of `cache`.
    pub(crate) async fn load(
        &self,
        cache: CacheId,
        number: u64,
        context: LoadContext<Payload>,
        deadline: &Deadline,
        observed: &Observed,
    ) -> Result<Loaded<Payload>, Arc<LoadError>> {
        let (key, attempt) = (Arc::clone(&context.key), context.attempt);
        let loader = Arc::clone(&self.loader);
        let load = CHAIN.scope(self.chain.and(cache, number), async move { loader(context).await });
        let limited = async {
            match deadline.limit(AssertUnwindSafe(load).catch_unwind()).await {
                Some(Ok(result)) => result,
                Some(Err(_panic)) => Err(LoadError::panicked()),
                None => Err(LoadError::of_class(Class::TimedOut)),
            }
        };
        observed.load(&key, attempt, limited).await.map_err(Arc::new)
    }
}

/// The stores of a cache: the shared one if there is one, and what stands in for it.
pub(crate) struct Stores {
    pub(crate) primary: Option<Arc<dyn Store>>,
    /// The shared one is not this cache's to close.
    pub(crate) primary_is_shared: bool,
    pub(crate) fallback: Arc<dyn Store>,
    /// What in the shared one counts as removed.
    pub(crate) doomed: Arc<Doomed>,
    pub(crate) observed: Arc<Observed>,
}

/// What is asked of a store, of which, and of which key.
type Asked<'a> = (&'static str, Tier, Option<&'a str>);

impl Stores {
    /// `primary` is the cache's own to close.
    pub(crate) fn new(primary: Option<Arc<dyn Store>>, fallback: Arc<dyn Store>, observed: Arc<Observed>) -> Self {
        Self { primary, primary_is_shared: false, fallback, doomed: Arc::default(), observed }
    }

    pub(crate) async fn read(&self, tier: Tier, key: &str, deadline: &Deadline) -> Result<Option<Bytes>, StoreFailure> {
        if tier == Tier::Fallback {
            return self.look(tier, key, deadline).await;
        }
        // What is carried out while this read is under way concerns what it brings all the same.
        let before = self.doomed.at(key);
        let found = self.look(tier, key, deadline).await?;
        Ok(match before.max(self.doomed.at(key)) {
            Some(at) => self.doomed.judge(found, at),
            None => found,
        })
    }

    /// What there is, also if it counts as removed.
    pub(crate) async fn look(&self, tier: Tier, key: &str, deadline: &Deadline) -> Result<Option<Bytes>, StoreFailure> {
        self.limited(("read", tier, Some(key)), self.tier(tier)?.read(key), deadline).await
    }

    /// Some of the keys that match; see [`Store::scan`].
    pub(crate) async fn scan(
        &self,
        tier: Tier,
        pattern: &str,
        cursor: &Cursor,
        count: usize,
        deadline: &Deadline,
    ) -> Result<Page, StoreFailure> {
        self.limited(("scan", tier, None), self.tier(tier)?.scan(pattern, cursor, count), deadline).await
    }

    /// Writes an envelope, if the condition holds and the store can tell.
    pub(crate) async fn write(
        &self,
        tier: Tier,
        key: &str,
        envelope: Bytes,
        ttl: Option<Duration>,
        condition: Condition,
        deadline: &Deadline,
    ) -> Result<Written, StoreFailure> {
        let (store, asked) = (self.tier(tier)?, ("write", tier, Some(key)));
        self.doomed.wrote(&envelope);
        if tier == Tier::Primary && store.abilities().compare {
            return self.limited(asked, store.replace(key, envelope, ttl, condition), deadline).await;
        }
        self.limited(asked, store.write(key, envelope, ttl), deadline).await.map(|()| Written::Kept)
    }

    /// Puts a tombstone in the place of what is there, if the condition holds; a store that cannot compare has no use for
    /// one.
    pub(crate) async fn remove(
        &self,
        tier: Tier,
        key: &str,
        tombstone: Bytes,
        fence_for: Duration,
        condition: Condition,
        deadline: &Deadline,
    ) -> Result<Written, StoreFailure> {
        let (store, asked) = (self.tier(tier)?, ("remove", tier, Some(key)));
        if tier == Tier::Primary && store.abilities().compare {
            return self.limited(asked, store.replace(key, tombstone, Some(fence_for), condition), deadline).await;
        }
        self.limited(asked, store.remove(key), deadline).await.map(|()| Written::Kept)
    }

    /// Clears a store: by a note in its log, where it has one.
    pub(crate) async fn clear(
        &self,
        tier: Tier,
        writer: u64,
        wall: WallTime,
        deadline: &Deadline,
    ) -> Result<(), StoreFailure> {
        let store = self.tier(tier)?;
        if tier == Tier::Primary && store.abilities().log {
            return self.note(writer, Note::Cleared, wall, deadline).await;
        }
        self.limited(("clear", tier, None), store.clear(), deadline).await
    }

    pub(crate) async fn lease(
        &self,
        key: &str,
        ttl: Duration,
        hold_for: Duration,
        deadline: &Deadline,
    ) -> Result<Leased, StoreFailure> {
        let lease = self.tier(Tier::Primary)?.lease(key, ttl, hold_for);
        self.limited(("lease", Tier::Primary, Some(key)), lease, deadline).await
    }

    pub(crate) async fn note(
        &self,
        writer: u64,
        note: Note,
        made_at: WallTime,
        deadline: &Deadline,
    ) -> Result<(), StoreFailure> {
        let note = self.tier(Tier::Primary)?.note(writer, note, made_at);
        self.limited(("note", Tier::Primary, None), note, deadline).await
    }

    pub(crate) fn listen(&self, ear: &Arc<dyn Ear>) {
        if let Some(primary) = &self.primary {
            primary.listen(ear);
        }
    }

    /// Closes what is this cache's own.
    pub(crate) async fn close(&self) {
        if let Some(primary) = self.primary.as_ref().filter(|_| !self.primary_is_shared) {
            primary.close().await;
        }
        self.fallback.close().await;
    }

    fn tier(&self, tier: Tier) -> Result<&dyn Store, StoreFailure> {
        match tier {
            Tier::Primary => self.primary.as_deref().ok_or(StoreFailure::Unavailable),
            Tier::Fallback => Ok(&*self.fallback),
        }
    }

    /// What became of a store operation by its deadline, in the machine's words.
    async fn limited<T>(
        &self,
        asked: Asked<'_>,
        operation: impl Future<Output = Result<T, StoreError>>,
        deadline: &Deadline,
    ) -> Result<T, StoreFailure> {
        let limited = async {
            match deadline.limit(due(deadline.at(), AssertUnwindSafe(operation).catch_unwind())).await {
                Some(Ok(result)) => result,
                Some(Err(_panic)) => Err(StoreError::Unavailable("the store panicked".to_owned())),
                None => Err(StoreError::TimedOut("no answer by the deadline".to_owned())),
            }
        };
        self.observed.operation(asked, limited, judge).await
    }
}

/// What is under a key in a store is no envelope of ours. Who knows which keys there may be finds it by the hash; nobody else
/// learns anything.
pub(crate) fn say_corrupt(key: &str, reason: &dyn fmt::Display) {
    debug!(key_hash = format_args!("{:016x}", Tag::named(key).0), %reason, "bytes in the store are no envelope of ours");
}

/// What an error of a store is to the machine, and whether it speaks against the store.
pub(crate) fn judge(error: &StoreError) -> (StoreFailure, bool) {
    match error {
        StoreError::TimedOut(_) => (StoreFailure::TimedOut, true),
        StoreError::Rejected(_) => (StoreFailure::Rejected, true),
        StoreError::Unsupported(_) => (StoreFailure::Rejected, false),
        StoreError::Foreign(_) => (StoreFailure::Corrupt { version: None }, false),
        StoreError::Unavailable(_) | StoreError::Uncertain(_) => (StoreFailure::Unavailable, true),
        StoreError::Overloaded { .. } | StoreError::Congested => (StoreFailure::Overloaded, false),
        StoreError::Closed => (StoreFailure::Unavailable, false),
    }
}
