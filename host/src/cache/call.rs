//! What a call asks for beside its key, and what it gets.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tideover_core::cache::explain::Story;
use tideover_core::{LoaderId, Served, Source, Stale, StoreUse, Windows};

use crate::loader::LoadError;

/// What one call asks for beside its key.
///
/// ```
/// use std::time::Duration;
/// use tideover::{Cache, CallOptions, Loaded};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::Error> {
/// let cache = Cache::builder().build()?;
/// let recent = CallOptions::new().max_age(Duration::from_secs(5)).timeout(Duration::from_millis(200));
/// let price = cache.get_or_load_with("price:7", recent, |_| async { Ok(Loaded::new("9.99")) }).await?;
/// assert_eq!(price.value, "9.99");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallOptions {
    pub(crate) max_age: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) explain: bool,
    pub(crate) windows: Option<Windows>,
    pub(crate) loader: LoaderId,
    pub(crate) require_store: bool,
}

impl CallOptions {
    /// Nothing beside the key.
    #[must_use]
    pub const fn new() -> Self {
        let loader = LoaderId::UNNAMED;
        Self { max_age: None, timeout: None, explain: false, windows: None, loader, require_store: false }
    }

    /// What is older does not do, fresh or not: the call waits for a refresh (RFC 9111 section 5.2.1.1). Zero always
    /// asks the origin.
    #[must_use]
    pub const fn max_age(self, max_age: Duration) -> Self {
        Self { max_age: Some(max_age), ..self }
    }

    /// The call waits no longer; `call_deadline` holds beside it.
    #[must_use]
    pub const fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Whose circuit breaker is asked, if this call leads a load: one that fails then does not close off the others. See
    /// [`Cache::loader`](crate::Cache::loader).
    #[must_use]
    pub const fn loader(self, loader: LoaderId) -> Self {
        Self { loader, ..self }
    }

    /// This one's, unless it has been said whose.
    pub(crate) fn or_loader(self, loader: LoaderId) -> Self {
        if self.loader == LoaderId::UNNAMED { self.loader(loader) } else { self }
    }

    /// What this call loads is kept for these windows, unless its loader says for which.
    #[must_use]
    pub const fn windows(self, windows: Windows) -> Self {
        Self { windows: Some(windows), ..self }
    }

    /// For these windows, unless it has been said for which.
    pub(crate) fn or_windows(self, windows: Option<Windows>) -> Self {
        Self { windows: self.windows.or(windows), ..self }
    }

    /// As [`windows`](Self::windows): fresh for `ttl`, with no stale windows; zero never expires.
    #[must_use]
    pub const fn ttl(self, ttl: Duration) -> Self {
        let ttl = if ttl.is_zero() { None } else { Some(ttl) };
        self.windows(Windows { ttl, ..Windows::FOREVER })
    }

    /// The call fails with [`Error::Store`](crate::Error::Store) if its answer was made without the shared store although
    /// that would have been asked: its circuit was open, it failed, or it did not answer in time. This holds also if the
    /// load has succeeded, or nothing stands in for what the store may have.
    ///
    /// What memory has fresh is served: the store is not needed for it. A call that is answered before its flight is over,
    /// with something stale at the soft limit or because its patience ends, cannot know, and fails. By default a store
    /// that is away fails nobody, and [`Fetched::store`] reports it.
    ///
    /// ```
    /// use tideover::store::MemoryStore;
    /// use tideover::{BreakerMode, Cache, CallOptions, Dependency, Loaded, StoreUse};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().store(MemoryStore::new(1_000)).build()?;
    /// cache.set_breaker_mode(Dependency::Store, BreakerMode::ForcedOpen).await?;
    /// let load = |_| async { Ok(Loaded::new("9.99")) };
    /// let tolerant = cache.get_or_load("price:7", load).await?;
    /// assert_eq!(tolerant.store, Some(StoreUse::Skipped));
    /// let strict = CallOptions::new().require_store();
    /// assert!(cache.get_or_load_with("price:8", strict, load).await.is_err_and(|error| error.is_store()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn require_store(self) -> Self {
        Self { require_store: true, ..self }
    }

    /// The answer comes with its story ([`Fetched::story`]): what it was decided under, step by step. It costs a few
    /// kilobytes and a look at the whole machine for each step.
    ///
    /// A call that waits for a flight which another call led has a story only if that call asked for it, too. The
    /// option `explain` of [`Policy`](tideover_core::Policy) asks for all.
    ///
    /// ```
    /// use tideover::core::cache::explain::replay;
    /// use tideover::{Cache, CallOptions, Loaded};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().build()?;
    /// let why = CallOptions::new().explain();
    /// let price = cache.get_or_load_with("price:7", why, |_| async { Ok(Loaded::new("9.99")) }).await?;
    /// let story = price.story.expect("it was asked for");
    /// assert!(story.to_string().contains("Load"));
    /// // The same policy takes the same steps again, wherever the story is carried.
    /// assert!(replay(cache.policy(), &story).expect("it holds").landed.is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn explain(self) -> Self {
        Self { explain: true, ..self }
    }
}

/// A value, and where it comes from.
#[derive(Clone)]
#[non_exhaustive]
pub struct Fetched<V = Bytes> {
    /// The value.
    pub value: V,
    /// Time since it was written or validated at its origin.
    pub age: Duration,
    /// Its freshness lifetime; `None` never expires.
    pub ttl: Option<Duration>,
    /// Why it is served although stale; `None` for a fresh value. A value that is younger than `ttl` and stale was expired,
    /// or is in doubt: other processes may have changed it while they could not be heard.
    pub stale: Option<Stale>,
    /// Where it was found.
    pub source: Source,
    /// Whether this call had to wait for a flight that another call led.
    pub collapsed: bool,
    /// Whether nobody else has got it: its loader said so.
    pub private: bool,
    /// What the shared store had to do with it; `None` if the call was answered before its flight was over, with something
    /// stale, so that nobody knows yet.
    pub store: Option<StoreUse>,
    /// Why it was answered so, if that was asked for; see [`CallOptions::explain`].
    pub story: Option<Arc<Story>>,
    /// The error in whose place something stale stands in.
    pub(crate) instead_of: Option<Arc<LoadError>>,
}

impl<V> Fetched<V> {
    pub(crate) fn new(served: Served<V>, story: Option<Arc<Story>>) -> Self {
        let Served { value, age, ttl, stale, source } = served;
        let (collapsed, private, store) = (false, false, Some(StoreUse::Unasked));
        Self { value, age, ttl, stale, source, collapsed, private, store, story, instead_of: None }
    }

    /// The same with another value.
    pub fn map<W>(self, value: impl FnOnce(V) -> W) -> Fetched<W> {
        let Self { value: inner, age, ttl, stale, source, collapsed, private, store, story, instead_of } = self;
        Fetched { value: value(inner), age, ttl, stale, source, collapsed, private, store, story, instead_of }
    }

    /// Whether the value is past its freshness lifetime.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.stale.is_some()
    }

    /// The error of the load in whose place this stale value stands in, for those who want to know why. `None` if the
    /// value is fresh, was served before a load ended, or stands in for a load that was not made: its circuit is open.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tideover::{Cache, LoadError, Loaded};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().stale_if_error(Duration::from_secs(3600)).set("load_attempts", "1")?.build()?;
    /// cache.put("price:7", "9.99", None).await?;
    /// cache.expire("price:7").await?;
    /// let price = cache.get_or_load("price:7", |_| async { Err(LoadError::unavailable("no prices today")) }).await?;
    /// assert_eq!(price.value, "9.99");
    /// assert_eq!(price.load_error().expect("it was asked").to_string(), "no prices today");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn load_error(&self) -> Option<&LoadError> {
        self.instead_of.as_deref()
    }
}

/// Errors are no part of it: they are not to be told apart.
impl<V: PartialEq> PartialEq for Fetched<V> {
    fn eq(&self, other: &Self) -> bool {
        let how = |it: &Self| (it.age, it.ttl, it.stale, it.source, it.collapsed, it.private, it.store);
        self.value == other.value && how(self) == how(other) && self.story == other.story
    }
}

impl<V: Eq> Eq for Fetched<V> {}

/// The value itself is never shown.
impl<V> fmt::Debug for Fetched<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value: _, age, ttl, stale, source, collapsed, private, store, story: _, instead_of: _ } = self;
        let mut shown = f.debug_struct("Fetched");
        shown.field("age", age).field("ttl", ttl).field("stale", stale).field("source", source);
        shown.field("collapsed", collapsed).field("private", private).field("store", store).finish_non_exhaustive()
    }
}
