//! Code that runs as if there were no cache.
//!
//! Whether a cache is disabled belongs to the task or thread that asks, not to the cache: tests beside each other do not see
//! each other's scopes, and neither does a task that is spawned inside of one.

use std::future::Future;
use std::sync::Arc;

use tideover_core::{Absence, Served, Source};
use tokio::task_local;

use crate::cache::{Cache, CallOptions, Fetched};
use crate::engine::{Key, Payload};
use crate::error::Error;
use crate::loader::{LoadContext, LoadError, Loader};
use crate::outside::{CacheId, Chain, Origin};
use crate::{Policy, Refusal};

task_local! {
    static SCOPE: Scope;
}

/// What is disabled where code runs, and what is being loaded there without a cache.
#[derive(Clone, Default)]
struct Scope(Vec<Entry>);

#[derive(Clone)]
enum Entry {
    Everything,
    One(Identity),
    Loading(Identity, Key),
}

/// Which cache: all clones of one have the same policy in memory. It is held for as long as it is compared.
#[derive(Clone)]
struct Identity(Arc<Policy>);

impl Identity {
    fn is(&self, cache: &Cache) -> bool {
        Arc::ptr_eq(&self.0, &cache.shared_policy())
    }
}

impl Scope {
    fn here() -> Self {
        SCOPE.try_with(Clone::clone).unwrap_or_default()
    }

    fn and(mut self, entry: Entry) -> Self {
        self.0.push(entry);
        self
    }
}

impl Cache {
    /// Runs `scope` as if this cache were not there: every call in it that may load asks its loader, one that may not finds
    /// nothing, and nothing is kept: a put only removes what it would have replaced. What removes or invalidates does so.
    /// Functions with `#[cached]` go through their cache, so this holds for theirs, too.
    ///
    /// It holds where `scope` itself runs, not in tasks and threads that it starts.
    ///
    /// ```
    /// use tideover::testing::{self, ScriptedLoader};
    /// use tideover::{Loaded, Source};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = testing::cache();
    /// let script = ScriptedLoader::new().then_always(Loaded::new("v"));
    /// cache.put("k", "kept", None).await?;
    ///
    /// let inside = cache.disabled(cache.get_or_load("k", script.loader())).await?;
    /// assert_eq!((&inside.value[..], inside.source), (&b"v"[..], Source::Load));
    ///
    /// let outside = cache.get_or_load("k", script.loader()).await?;
    /// assert_eq!((&outside.value[..], script.calls()), (&b"kept"[..], 1));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn disabled<T>(&self, scope: impl Future<Output = T>) -> T {
        SCOPE.scope(Scope::here().and(Entry::One(Identity(self.shared_policy()))), scope).await
    }
}

/// As [`Cache::disabled`], for all caches of this process.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::Error> {
/// use tideover::testing;
///
/// let cache = testing::cache();
/// cache.put("k", "v", None).await?;
/// assert!(testing::disabled(cache.get("k")).await?.is_none());
/// assert!(cache.get("k").await?.is_some());
/// # Ok(())
/// # }
/// ```
pub async fn disabled<T>(scope: impl Future<Output = T>) -> T {
    SCOPE.scope(Scope::here().and(Entry::Everything), scope).await
}

#[cfg(feature = "blocking")]
impl crate::blocking::Cache {
    /// As [`Cache::disabled`], for what runs on this thread; loaders do, too.
    ///
    /// ```
    /// # fn main() -> Result<(), tideover::Error> {
    /// let cache = tideover::Cache::builder().build_blocking()?;
    /// cache.put("k", "v", None)?;
    /// assert!(cache.disabled(|| cache.get("k"))?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn disabled<T>(&self, scope: impl FnOnce() -> T) -> T {
        let policy = self.as_async().shared_policy();
        SCOPE.sync_scope(Scope::here().and(Entry::One(Identity(policy))), scope)
    }
}

/// As [`disabled`], for what runs on this thread.
#[cfg(feature = "blocking")]
pub fn disabled_here<T>(scope: impl FnOnce() -> T) -> T {
    SCOPE.sync_scope(Scope::here().and(Entry::Everything), scope)
}

/// Whether whoever asks is to do without `cache`.
pub(crate) fn is_disabled(cache: &Cache) -> bool {
    let disables = |entry: &Entry| match entry {
        Entry::Everything => true,
        Entry::One(one) => one.is(cache),
        Entry::Loading(..) => false,
    };
    SCOPE.try_with(|scope| scope.0.iter().any(disables)).unwrap_or(false)
}

/// Whether this is a load without a cache, whose loader belongs on the thread that asked.
#[cfg(feature = "blocking")]
pub(crate) fn loads_here() -> bool {
    let loads = |entry: &Entry| matches!(entry, Entry::Loading(..));
    SCOPE.try_with(|scope| scope.0.last().is_some_and(loads)).unwrap_or(false)
}

/// What a call gets without the cache: what its loader brings, at one attempt, within its deadlines.
pub(crate) async fn load(
    cache: &Cache,
    key: &str,
    loader: Option<Loader>,
    options: CallOptions,
) -> Result<Result<Fetched<Payload>, Absence>, Error> {
    let Some(loader) = loader else { return Ok(Err(Absence::NotLoaded)) };
    let (policy, key) = (cache.shared_policy(), Key::from(key));
    let scope = Scope::here();
    let loads = |entry: &Entry| matches!(entry, Entry::Loading(of, loading) if of.is(cache) && *loading == key);
    if scope.0.iter().any(loads) {
        return Err(Error::Refused(Refusal::Reentrant));
    }
    let patience = options.timeout.unwrap_or(policy.call_deadline).min(policy.call_deadline);
    let until = tideover_core::Clock::now(cache.clock()) + patience.min(policy.load_deadline);
    let inside = scope.and(Entry::Loading(Identity(policy), Arc::clone(&key)));
    let loaded = SCOPE.scope(inside, straight(cache, until, key, loader)).await.map_err(Error::Load)?;
    use tideover_core::Loaded;
    match loaded {
        Loaded::Value { value, age, windows, .. } => {
            let ttl = windows.map_or(cache.policy().ttl, |windows| windows.ttl);
            Ok(Ok(Fetched::new(Served { value, age, ttl, stale: None, source: Source::Load }, None)))
        }
        // It was told of no older value.
        Loaded::NotModified { .. } => Err(Error::Load(Arc::new(LoadError::panicked()))),
        Loaded::Absent { .. } => Ok(Err(Absence::Confirmed)),
    }
}

async fn straight(
    cache: &Cache,
    until: tideover_core::Instant,
    key: Key,
    loader: Loader,
) -> Result<tideover_core::Loaded<Payload>, Arc<LoadError>> {
    let deadline = cache.clock().deadline(until);
    let context = LoadContext::new(key, 1, deadline.at(), None);
    let loaded =
        Origin::new(loader, Chain::here()).load(CacheId::new(), 0, context, &deadline, cache.observed()).await?;
    Ok(loaded.into_core())
}
