//! How collected changes take effect: all of them, also if whoever asked goes away meanwhile.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use tideover_core::pattern::Pattern;
use tideover_core::{Invalidation, Refusal, Settled, Tag, Windows};
use tokio::runtime::Handle;
use tracing::{Instrument, warn};

use super::invalidate::{Invalidate, Target};
use super::matching::invalidate_matching;
use super::recache::{Recache, Recached};
use crate::cache::Cache;
use crate::clock::after;
use crate::engine::{Key, Payload};
use crate::error::Error;
use crate::loader::Tags;

/// So many changes of one call are under way at once. A store takes them together, where it can.
pub(super) const AT_ONCE: usize = 256;

/// So many patterns, each of which is a walk over the store.
const PATTERNS_AT_ONCE: usize = 4;

/// How long a change waits that finds too many flights under way, before it tries again.
const PAUSE: Duration = Duration::from_millis(20);

/// What has become of several changes.
///
/// A change that fails keeps none of the others from taking effect, and is never a reason to undo the write that it
/// belongs to: that has succeeded. [`into_result`](Self::into_result) is for those who want an error nevertheless.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Applied {
    /// How many keys, tags and patterns were changed.
    pub done: usize,
    /// How many could not be: what is cached of them may be wrong until its freshness ends.
    pub failed: usize,
    /// Why, of the first that failed.
    pub error: Option<Error>,
    /// What holds of all of them besides memory: [`Settled::Store`] only if the store has got every one,
    /// [`Settled::Overtaken`] if it has, and had something newer for some. `None` if nothing was changed.
    pub settled: Option<Settled>,
    /// They are left to the [`transaction`](super::transaction) around: nothing has happened yet.
    pub deferred: bool,
    /// What has become of the recaching, if that was waited for.
    pub recached: Option<Recached>,
}

impl Applied {
    pub(super) fn deferred() -> Self {
        Self { deferred: true, ..Self::default() }
    }

    /// The first failure as an error, if there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] at a limit, [`Error::DeadlinePassed`], [`Error::Closed`], [`Error::NoRuntime`] outside of a
    /// runtime and [`Error::Abandoned`] when that went away, [`Error::Engine`].
    pub fn into_result(self) -> Result<Self, Error> {
        match &self.error {
            Some(error) => Err(error.clone()),
            None => Ok(self),
        }
    }

    /// This, if the shared store has got every change, or there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if some are owed to it, and as [`into_result`](Self::into_result).
    pub fn require_store(self) -> Result<Self, Error> {
        match self.settled {
            Some(Settled::Journaled) if self.error.is_none() => Err(Error::Store { store: None }),
            _ => self.into_result(),
        }
    }

    fn count(&mut self, result: Result<Settled, Error>) {
        match result {
            Ok(settled) => {
                self.done += 1;
                self.settled = weaker(self.settled, Some(settled));
            }
            Err(error) => {
                self.failed += 1;
                self.error.get_or_insert(error);
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.settled = weaker(self.settled, other.settled);
        self.error = self.error.take().or(other.error);
    }
}

/// What holds of both.
pub(super) fn weaker(one: Option<Settled>, other: Option<Settled>) -> Option<Settled> {
    match (one, other) {
        (Some(Settled::Journaled), _) | (_, Some(Settled::Journaled)) => Some(Settled::Journaled),
        (Some(Settled::Overtaken), _) | (_, Some(Settled::Overtaken)) => Some(Settled::Overtaken),
        (Some(Settled::Memory), _) | (_, Some(Settled::Memory)) => Some(Settled::Memory),
        (one, other) => one.or(other),
    }
}

/// What is to be changed in one cache. Of one key only what was said last takes effect.
#[derive(Default)]
pub(super) struct Changes {
    invalidate: Invalidate,
    puts: BTreeMap<Key, Put>,
}

struct Put {
    value: Payload,
    windows: Option<Windows>,
    tags: Tags,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.invalidate.is_empty() && self.puts.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.invalidate.len() + self.puts.len()
    }

    /// What was to be put before and is invalidated by this is removed instead: the store may have an older value.
    pub(super) fn invalidate(&mut self, set: Invalidate) {
        for (target, _) in set.iter() {
            match target {
                Target::Key(key) => drop(self.puts.remove(key)),
                Target::Tag(name) => {
                    let tag = Tag::named(name);
                    let reached = self.puts.extract_if(.., |_, put| put.tags.contains(tag));
                    self.invalidate.merge(Invalidate::new().keys(reached.map(|(key, _)| key)));
                }
                Target::Pattern(pattern) => {
                    let pattern = Pattern::new(pattern);
                    let reached = self.puts.extract_if(.., |key, _| pattern.matches(key));
                    self.invalidate.merge(Invalidate::new().keys(reached.map(|(key, _)| key)));
                }
            }
        }
        self.invalidate.merge(set);
    }

    /// # Errors
    ///
    /// [`Error::Refused`] at a limit.
    pub(super) fn put(
        &mut self,
        cache: &Cache,
        key: &str,
        value: Payload,
        windows: Option<Windows>,
        tags: Tags,
    ) -> Result<(), Error> {
        cache.check_put(key, &value, &tags)?;
        let key = Key::from(key);
        self.invalidate.forget_key(&key);
        self.puts.insert(key, Put { value, windows, tags });
        Ok(())
    }

    pub(super) fn merge(&mut self, later: Self) {
        self.invalidate(later.invalidate);
        for (key, put) in later.puts {
            self.invalidate.forget_key(&key);
            self.puts.insert(key, put);
        }
    }

    async fn apply(self, cache: &Cache) -> Applied {
        let mut applied = Applied::default();
        let (patterns, others): (Vec<_>, Vec<_>) =
            self.invalidate.into_targets().partition(|(target, _)| matches!(target, Target::Pattern(_)));
        for (targets, at_once) in [(others, AT_ONCE), (patterns, PATTERNS_AT_ONCE)] {
            let invalidations = stream::iter(targets.into_iter().map(|(target, how)| {
                let cache = cache.clone();
                async move { invalidate(&cache, &target, how).await }
            }));
            let mut results = invalidations.buffer_unordered(at_once);
            while let Some(result) = results.next().await {
                applied.count(result);
            }
        }
        // After the tags and patterns, which would reach them.
        let puts = stream::iter(self.puts.into_iter().map(|(key, Put { value, windows, tags })| {
            let cache = cache.clone();
            async move { insist(&cache, || cache.keep(&key, value.clone(), windows, tags.clone())).await }
        }));
        let mut results = puts.buffer_unordered(AT_ONCE);
        while let Some(result) = results.next().await {
            applied.count(result);
        }
        applied
    }
}

async fn invalidate(cache: &Cache, target: &Target, how: Invalidation) -> Result<Settled, Error> {
    match (target, how) {
        (Target::Key(key), how) => invalidate_key(cache, key, how).await,
        (Target::Tag(name), Invalidation::Remove) => insist(cache, || cache.invalidate_tag(name)).await,
        (Target::Tag(name), Invalidation::Expire) => insist(cache, || cache.expire_tag(name)).await,
        // Rare, and large.
        (Target::Pattern(pattern), how) => Box::pin(invalidate_matching(cache, pattern, how)).await,
    }
}

pub(super) async fn invalidate_key(cache: &Cache, key: &Key, how: Invalidation) -> Result<Settled, Error> {
    match how {
        Invalidation::Remove => insist(cache, || cache.remove(key)).await,
        Invalidation::Expire => insist(cache, || cache.expire(key)).await,
    }
}

/// A change that is refused because too much is under way is made a little later: refused for good, it would leave
/// something wrong in the cache.
async fn insist<F>(cache: &Cache, change: impl Fn() -> F) -> Result<Settled, Error>
where
    F: Future<Output = Result<Settled, Error>>,
{
    let last = after(cache.policy().call_deadline);
    loop {
        match change().await {
            Err(Error::Refused(Refusal::TooManyFlights { .. } | Refusal::TooManyWaiters { .. }))
                if tokio::time::Instant::now() + PAUSE < last =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}

/// Makes these changes, then recaches. Once begun it goes on, whatever becomes of the caller.
pub(super) async fn apply(changes: Vec<(Cache, Changes)>, recache: Vec<Recache>) -> Applied {
    let asked_for = changes.iter().map(|(_, changes)| changes.len()).sum();
    let work = async move {
        let mut applied = Applied::default();
        let each = changes.into_iter().map(|(cache, changes)| async move { changes.apply(&cache).await });
        for one in join_all(each).await {
            applied.add(one);
        }
        // Of a cache that was shut down nothing is served any more.
        if let Some(error) = applied.error.as_ref().filter(|error| !matches!(error, Error::Closed)) {
            warn!(failed = applied.failed, done = applied.done, %error, "what a write has changed stays cached");
        }
        applied.recached = Recache::run(recache).await;
        applied
    };
    let applied = to_the_end(work).await;
    applied.unwrap_or_else(|error| Applied { failed: asked_for, error: Some(error), ..Applied::default() })
}

/// Does the work in a task of its own, so that it ends although nobody waits any more.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Error> {
    let runtime = Handle::try_current().map_err(|_outside| Error::NoRuntime)?;
    runtime.spawn(work.in_current_span()).await.map_err(|_runtime_went_away| Error::Abandoned)
}
