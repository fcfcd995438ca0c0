//! What follows a write that succeeded: it is handed to [`writes`](crate::writes), which knows whether a transaction is open.

use tokio::runtime::Handle;
use tracing::warn;

use crate::blocking::runtime;
use crate::cache::Cache;
use crate::core::Invalidation;
use crate::error::Error;
use crate::writes::{Applied, Invalidate, Recache, invalidate, is_collecting};

/// A write that succeeded, and what follows it.
pub struct Write {
    name: &'static str,
    cache: Result<Cache, Error>,
    set: Invalidate,
    recache: Recache,
}

impl Write {
    /// Nothing follows yet.
    #[must_use]
    pub fn new(name: &'static str, cache: Result<Cache, Error>, how: Invalidation) -> Self {
        let set = match how {
            Invalidation::Remove => Invalidate::new(),
            Invalidation::Expire => Invalidate::new().expire(),
        };
        Self { name, cache, set, recache: Recache::new() }
    }

    /// These keys are to be invalidated.
    #[must_use]
    pub fn keys(self, keys: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self { set: self.set.keys(keys), ..self }
    }

    /// What bears one of these tags is to be invalidated.
    #[must_use]
    pub fn tags(self, tags: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self { set: self.set.tags(tags), ..self }
    }

    /// Keys that one of these patterns describes are to be invalidated.
    #[must_use]
    pub fn matching(self, patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self { set: patterns.into_iter().fold(self.set, Invalidate::matching), ..self }
    }

    /// Then this loads a value anew, and says whether that succeeded.
    #[must_use]
    pub fn warm(self, warmer: impl Future<Output = bool> + Send + 'static) -> Self {
        let call = async move { if warmer.await { Ok(()) } else { Err("it has failed") } };
        Self { recache: self.recache.with(self.name, call), ..self }
    }

    /// So many warmers run at once; the write waits for them if `wait` says so.
    #[must_use]
    pub fn warming(self, at_once: usize, wait: bool) -> Self {
        let recache = self.recache.concurrency(at_once);
        Self { recache: if wait { recache.wait() } else { recache }, ..self }
    }

    /// Does all this, or leaves it to the transaction around. Whoever cancels the write while this goes on, cancels nothing
    /// of it.
    pub async fn done(self) {
        let Self { name, cache, set, recache } = self;
        let applied = match cache {
            Ok(cache) if is_collecting() || Handle::try_current().is_ok() => Ok(invalidate(&cache, set, recache).await),
            Ok(cache) => elsewhere(cache, set, recache).await,
            Err(error) => Err(error),
        };
        report(name, applied);
    }

    /// As [`done`](Self::done), for writes without `async`.
    pub fn done_blocking(self) {
        let Self { name, cache, set, recache } = self;
        let applied = cache.and_then(|cache| {
            // Polled on this very thread, whose transaction is to find it.
            Ok(cache.blocking()?.wait(invalidate(&cache, set, recache)))
        });
        report(name, applied);
    }
}

/// For callers who are polled by no runtime of tokio's.
async fn elsewhere(cache: Cache, set: Invalidate, recache: Recache) -> Result<Applied, Error> {
    let done = runtime::handle()?.spawn(async move { invalidate(&cache, set, recache).await });
    done.await.map_err(|_gone| Error::Abandoned)
}

/// What could not be changed was logged where it failed.
fn report(name: &str, applied: Result<Applied, Error>) {
    if let Err(error) = applied {
        warn!(write = name, %error, "a write succeeded, but what it outdated could not be invalidated");
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

/// Whether the name at that place is this one.
#[must_use]
pub const fn is_named(names: &[&str], place: usize, name: &str) -> bool {
    place < names.len() && same_text(names[place].as_bytes(), name.as_bytes())
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
