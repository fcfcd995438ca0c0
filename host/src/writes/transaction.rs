//! Changes that take effect together, when what they follow from has been committed.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tideover_core::Windows;

use super::apply::{Applied, Changes, apply};
use super::invalidate::Invalidate;
use super::recache::Recache;
use crate::cache::Cache;
use crate::engine::Payload;
use crate::error::Error;
use crate::loader::Tags;
use crate::typed::{Cacheable, Typed};

tokio::task_local! {
    /// What the innermost transaction of this task, or of this thread, has collected.
    static SCOPE: Scope;
}

#[derive(Clone, Default)]
struct Scope(Arc<Mutex<Collected>>);

#[derive(Default)]
struct Collected {
    changes: Vec<(Cache, Changes)>,
    recache: Vec<Recache>,
}

impl Scope {
    fn current() -> Option<Self> {
        SCOPE.try_with(Self::clone).ok()
    }

    fn collected(&self) -> MutexGuard<'_, Collected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was collected takes effect, or becomes a part of what the transaction around collects.
    async fn commit(self) -> Applied {
        let collected = std::mem::take(&mut *self.collected());
        collected.commit().await
    }
}

/// Whether a transaction is open here: what is invalidated is collected, which takes no runtime.
pub(crate) fn is_collecting() -> bool {
    Scope::current().is_some()
}

impl Collected {
    fn of(cache: &Cache, changes: Changes, recache: Recache) -> Self {
        let changes = if changes.is_empty() { vec![] } else { vec![(cache.clone(), changes)] };
        Self { changes, recache: if recache.is_empty() { vec![] } else { vec![recache] } }
    }

    async fn commit(self) -> Applied {
        if let Some(around) = Scope::current() {
            around.collected().merge(self);
            return Applied::deferred();
        }
        if self.changes.is_empty() && self.recache.is_empty() {
            return Applied::default();
        }
        apply(self.changes, self.recache).await
    }

    fn merge(&mut self, later: Self) {
        for (cache, changes) in later.changes {
            match self.changes.iter_mut().find(|(known, _)| known.is_same(&cache)) {
                Some((_, earlier)) => earlier.merge(changes),
                None => self.changes.push((cache, changes)),
            }
        }
        self.recache.extend(later.recache);
    }
}

/// Runs `body`, and collects what is invalidated in it: by [`invalidate`], [`Cache::invalidate`], a
/// [`Transaction::commit`] or `#[invalidates]`, for whichever cache. When it returns `Ok`, all of that takes effect, each
/// key and tag once; then what was to be recached is. When it returns `Err`, panics or is dropped, nothing of it happens.
///
/// So `body` should end with the commit of the database's transaction, and await nothing after it: a caller that goes away
/// in between leaves what is cached as it was. A transaction inside another one is a part of it:
/// what it collected is handed to the outer one when it succeeds, and forgotten when it fails.
///
/// From then on it no longer matters whether the caller still waits. That a change cannot be made does not fail the
/// transaction, which has been committed: it is logged, and reported in [`Committed::applied`].
///
/// What it does not do: calls that say what happens at once, such as [`Cache::remove`] and [`Cache::put`], happen at once,
/// and tasks that `body` spawns are not inside. Whoever reads through the cache before the end gets what was true before.
///
/// # Errors
///
/// Those of `body`.
///
/// ```
/// use tideover::Cache;
/// use tideover::writes::{Invalidate, transaction};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::Error> {
/// let cache = Cache::builder().build()?;
/// cache.put("user:7", "Ada", None).await?;
/// let failed = transaction(async {
///     let left = cache.invalidate(Invalidate::new().key("user:7")).await;
///     assert!(left.deferred);
///     Err::<(), _>("rolled back")
/// });
/// assert_eq!(failed.await.err(), Some("rolled back"));
/// assert!(cache.get("user:7").await?.is_some());
/// # Ok(())
/// # }
/// ```
pub async fn transaction<T, E>(body: impl Future<Output = Result<T, E>>) -> Result<Committed<T>, E> {
    let scope = Scope::default();
    let value = SCOPE.scope(scope.clone(), body).await?;
    Ok(Uncommitted { value, scope }.commit().await)
}

/// As [`transaction`] for functions that are not asynchronous: whatever this thread does in `body` is inside.
/// [`Uncommitted::commit`] has what was collected take effect.
///
/// # Errors
///
/// Those of `body`.
pub fn collect<T, E>(body: impl FnOnce() -> Result<T, E>) -> Result<Uncommitted<T>, E> {
    let scope = Scope::default();
    let value = SCOPE.sync_scope(scope.clone(), body)?;
    Ok(Uncommitted { value, scope })
}

/// What [`collect`] has collected. Dropping it forgets that.
#[must_use = "what was collected is forgotten unless it is committed"]
pub struct Uncommitted<T> {
    value: T,
    scope: Scope,
}

impl<T> Uncommitted<T> {
    /// What was collected takes effect, or becomes a part of the transaction around.
    pub async fn commit(self) -> Committed<T> {
        let Self { value, scope } = self;
        Committed { value, applied: scope.commit().await }
    }
}

/// How much, never what.
impl<T> fmt::Debug for Uncommitted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes: usize = self.scope.collected().changes.iter().map(|(_, changes)| changes.len()).sum();
        f.debug_struct("Uncommitted").field("changes", &changes).finish_non_exhaustive()
    }
}

/// What a [`transaction`] returned, and what became of the changes that it collected.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "it says whether an invalidation has failed"]
pub struct Committed<T> {
    /// What the body returned.
    pub value: T,
    /// What became of the changes.
    pub applied: Applied,
}

/// A write has succeeded: invalidates `set` and then recaches, or leaves both to the [`transaction`] around.
///
/// Once begun it goes on, whatever becomes of the caller. A change that cannot be made is logged and reported, and fails
/// nothing.
pub async fn invalidate(cache: &Cache, set: Invalidate, recache: Recache) -> Applied {
    let mut changes = Changes::default();
    changes.invalidate(set);
    Collected::of(cache, changes, recache).commit().await
}

impl Cache {
    /// Invalidates `set`, or leaves it to the [`transaction`] around; see [`writes::invalidate`](invalidate).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// use tideover::Cache;
    /// use tideover::writes::Invalidate;
    ///
    /// let cache = Cache::builder().build()?;
    /// cache.put_tagged("user:7", "Ada", None, ["users"]).await?;
    /// let applied = cache.invalidate(Invalidate::new().tag("users").key("motd")).await.into_result()?;
    /// assert_eq!((applied.done, cache.get("user:7").await?), (2, None));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn invalidate(&self, set: Invalidate) -> Applied {
        invalidate(self, set, Recache::new()).await
    }

    /// Changes to be collected, and to take effect together.
    pub fn transaction(&self) -> Transaction {
        Transaction { cache: self.clone(), changes: Changes::default(), recache: Vec::new() }
    }
}

/// Changes of one cache that take effect together when they are [committed](Self::commit). Dropping it forgets them.
///
/// Of one key, what was said last is done. They are not one step for readers: who reads meanwhile may find some changed
/// and some not. It grows with what it is told.
///
/// ```
/// use tideover::Cache;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::Error> {
/// let cache = Cache::builder().build()?;
/// cache.put("draft:7", "...", None).await?;
///
/// let mut changes = cache.transaction();
/// changes.remove("draft:7").put("page:7", "hello", None)?;
/// assert!(cache.get("page:7").await?.is_none());
/// // Here the database commits.
/// let applied = changes.commit().await;
/// assert_eq!((applied.done, applied.failed), (2, 0));
/// assert!(cache.get("draft:7").await?.is_none() && cache.get("page:7").await?.is_some());
/// # Ok(())
/// # }
/// ```
#[must_use = "what it collects is forgotten unless it is committed"]
pub struct Transaction {
    cache: Cache,
    changes: Changes,
    recache: Vec<Recache>,
}

impl Transaction {
    /// These keys and tags are to be invalidated. What was to be put under such a key, or with such a tag, is not.
    pub fn invalidate(&mut self, set: Invalidate) -> &mut Self {
        self.changes.invalidate(set);
        self
    }

    /// This key is to be removed.
    pub fn remove(&mut self, key: impl AsRef<str>) -> &mut Self {
        self.invalidate(Invalidate::new().key(key))
    }

    /// `value` is to be kept under `key`; see [`Cache::put`].
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] at a limit, now and not at the commit.
    pub fn put(&mut self, key: &str, value: impl Into<Bytes>, windows: Option<Windows>) -> Result<&mut Self, Error> {
        self.put_tagged(key, value, windows, [""; 0])
    }

    /// As [`put`](Self::put), with these tags; see [`Cache::put_tagged`].
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn put_tagged(
        &mut self,
        key: &str,
        value: impl Into<Bytes>,
        windows: Option<Windows>,
        tags: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<&mut Self, Error> {
        self.keep(key, Payload::from(value.into()), windows, Tags::named(tags))
    }

    fn keep(&mut self, key: &str, value: Payload, windows: Option<Windows>, tags: Tags) -> Result<&mut Self, Error> {
        self.changes.put(&self.cache, key, value, windows, tags)?;
        Ok(self)
    }

    /// This is to be called after the changes.
    pub fn recache(&mut self, recache: Recache) -> &mut Self {
        self.recache.push(recache);
        self
    }

    /// How many keys and tags are to be changed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing is to be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// All of it takes effect, or becomes a part of the [`transaction`] around. Once begun it goes on, whatever becomes of
    /// the caller.
    pub async fn commit(self) -> Applied {
        let Self { cache, changes, recache } = self;
        let mut collected = Collected::of(&cache, changes, Recache::new());
        collected.recache.extend(recache);
        collected.commit().await
    }
}

/// How much, never what.
impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("cache", &self.cache).field("changes", &self.len()).finish_non_exhaustive()
    }
}

impl<V: Cacheable> Typed<V> {
    /// `value` is to be kept under `key` when `transaction` is committed; see [`Typed::put_with`].
    ///
    /// # Errors
    ///
    /// As [`Transaction::put`], and [`Error::Codec`] for a value that the codec cannot keep exactly: now, and not at the
    /// commit.
    pub fn put_in(
        &self,
        transaction: &mut Transaction,
        key: &str,
        value: &V,
        windows: Option<Windows>,
        tags: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<(), Error> {
        transaction.keep(key, self.payload(key, value)?, windows, Tags::named(tags)).map(drop)
    }
}
