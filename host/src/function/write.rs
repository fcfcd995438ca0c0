//! What follows a write that succeeded: invalidations, then warming of what they removed.

use std::panic::AssertUnwindSafe;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::runtime::Handle;
use tracing::{Instrument, warn};

use crate::blocking::runtime;
use crate::cache::Cache;
use crate::core::{Invalidation, Settled};
use crate::error::Error;

/// Invalidations of one write that are under way at the same time.
const AT_ONCE: usize = 16;

/// Loads a value anew, and says whether that succeeded. It does not panic.
pub type Warmer = BoxFuture<'static, bool>;

/// A write that succeeded, and what follows it.
pub struct Write {
    name: &'static str,
    cache: Result<Cache, Error>,
    keys: Vec<String>,
    tags: Vec<String>,
    how: Invalidation,
    warmers: Vec<Warmer>,
    warm_at_once: usize,
    wait_for_warmers: bool,
}

impl Write {
    /// Nothing follows yet.
    #[must_use]
    pub fn new(name: &'static str, cache: Result<Cache, Error>, how: Invalidation) -> Self {
        Self {
            name,
            cache,
            keys: Vec::new(),
            tags: Vec::new(),
            how,
            warmers: Vec::new(),
            warm_at_once: 1,
            wait_for_warmers: false,
        }
    }

    /// These keys are to be invalidated.
    #[must_use]
    pub fn keys(mut self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.keys.extend(keys.into_iter().map(Into::into));
        self
    }

    /// What bears one of these tags is to be invalidated.
    #[must_use]
    pub fn tags(mut self, tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Then this is loaded anew.
    #[must_use]
    pub fn warm(mut self, warmer: impl Future<Output = bool> + Send + 'static) -> Self {
        self.warmers.push(AssertUnwindSafe(warmer).catch_unwind().map(|warmed| warmed.unwrap_or(false)).boxed());
        self
    }

    /// So many warmers run at once; the write waits for them if `wait` says so.
    #[must_use]
    pub fn warming(self, at_once: usize, wait: bool) -> Self {
        Self { warm_at_once: at_once.max(1), wait_for_warmers: wait, ..self }
    }

    /// Does all this. Whoever cancels the write while this goes on, cancels nothing of it.
    pub async fn done(self) {
        let Some(write) = deferred(self) else { return };
        let Ok(runtime) = Handle::try_current().or_else(|_| runtime::handle()) else { return };
        // It fails only if the runtime goes away.
        let _ = runtime.spawn(write.follow(runtime.clone()).in_current_span()).await;
    }

    /// As [`done`](Self::done), for writes without `async`.
    pub fn done_blocking(self) {
        let Some(write) = deferred(self) else { return };
        if let Err(error) = write.follow_blocking() {
            warn!(%error, "a write succeeded, but what it outdated could not be invalidated");
        }
    }

    fn follow_blocking(self) -> Result<(), Error> {
        let (runtime, waits) = (runtime::handle()?, self.cache.clone()?.blocking()?);
        let follow = runtime.spawn(self.follow(runtime.clone()).in_current_span());
        // It fails only if the runtime goes away.
        let _ = waits.wait(follow);
        Ok(())
    }

    async fn follow(self, runtime: Handle) {
        let Self { name, cache, keys, tags, how, warmers, warm_at_once, wait_for_warmers } = self;
        let invalidated = match cache {
            Ok(cache) => invalidate(&cache, keys, tags, how).await,
            Err(error) => Err(error),
        };
        if let Err(error) = invalidated {
            warn!(write = name, %error, "a write succeeded, but what it outdated could not be invalidated everywhere");
        }
        if warmers.is_empty() {
            return;
        }
        let warming = warm(name, warmers, warm_at_once).in_current_span();
        let warming = runtime.spawn(warming);
        if wait_for_warmers {
            // It fails only if the runtime goes away.
            let _ = warming.await;
        }
    }
}

/// The write, unless a transaction is open, which takes it until it commits.
const fn deferred(write: Write) -> Option<Write> {
    Some(write)
}

/// Invalidates keys, and what bears the tags. All are tried, whatever becomes of the others.
///
/// # Errors
///
/// The first.
pub(super) async fn invalidate(
    cache: &Cache,
    keys: Vec<String>,
    tags: Vec<String>,
    how: Invalidation,
) -> Result<(), Error> {
    let changes = keys.into_iter().map(|key| change(cache.clone(), key, false, how));
    let changes: Vec<_> = changes.chain(tags.into_iter().map(|tag| change(cache.clone(), tag, true, how))).collect();
    let answers: Vec<_> = stream::iter(changes).buffer_unordered(AT_ONCE).collect().await;
    answers.into_iter().try_for_each(|answer| answer.map(drop))
}

fn change(cache: Cache, name: String, is_tag: bool, how: Invalidation) -> BoxFuture<'static, Result<Settled, Error>> {
    async move {
        match (is_tag, how) {
            (false, Invalidation::Remove) => cache.remove(&name).await,
            (false, Invalidation::Expire) => cache.expire(&name).await,
            (true, Invalidation::Remove) => cache.invalidate_tag(&name).await,
            (true, Invalidation::Expire) => cache.expire_tag(&name).await,
        }
    }
    .boxed()
}

/// Runs the warmers, so many at once. One that fails stops no other.
async fn warm(name: &'static str, warmers: Vec<Warmer>, at_once: usize) {
    let all = warmers.len();
    let warmed: Vec<_> = stream::iter(warmers).buffer_unordered(at_once).collect().await;
    let failed = warmed.iter().filter(|warmed| !**warmed).count();
    if failed > 0 {
        warn!(write = name, failed, all, "what a write outdated could not be loaded anew; its next reader will try");
    }
}

/// What a write returned.
pub struct Written<'a, R>(pub &'a R);

/// A write that says whether it failed. Method calls find this one first.
pub trait Checked {
    /// Whether it succeeded.
    fn succeeded(&self) -> bool;
}

impl<T, E> Checked for Written<'_, Result<T, E>> {
    fn succeeded(&self) -> bool {
        self.0.is_ok()
    }
}

/// A write that returns anything else has succeeded when it returns.
pub trait Always {
    /// It has.
    fn succeeded(&self) -> bool;
}

impl<R> Always for &Written<'_, R> {
    fn succeeded(&self) -> bool {
        true
    }
}

/// Whether both are the same names in the same order.
#[must_use]
pub const fn same_names(one: &[&str], other: &[&str]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut place = 0;
    while place < one.len() {
        if !same_text(one[place].as_bytes(), other[place].as_bytes()) {
            return false;
        }
        place += 1;
    }
    true
}

const fn same_text(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut place = 0;
    while place < one.len() {
        if one[place] != other[place] {
            return false;
        }
        place += 1;
    }
    true
}
