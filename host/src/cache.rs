//! The cache as users hold it.

mod builder;
mod call;
mod loaders;
mod operate;
mod ttl;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tideover_core::cache::explain::Story;
use tideover_core::{
    Absence, Clock, Command, Failure, Instant, Invalidation, Outcome, Policy, Served, Settled, StoreUse, Tag, Windows,
};

use crate::clock::HostClock;
#[cfg(feature = "component")]
use crate::component::Embedding;
use crate::direct::{self, Direct};
use crate::driver::{Driver, Reply};
use crate::engine::{Key, OWED_PATTERNS, Payload, Report};
use crate::error::Error;
use crate::loader::{LoadContext, LoadError, Loaded, Loader, Tags, boxed, lasting};
use crate::observe::Observed;
use crate::outside::{Ask, Stores};
use crate::store::{Guarantees, Store, is_direct};
#[cfg(feature = "testing")]
use crate::testing::disabled;

pub use self::builder::Builder;
pub(crate) use self::builder::random_seed;
pub use self::call::{CallOptions, Fetched};
use self::loaders::LoaderNames;
pub use self::ttl::{Ttl, TtlBuckets};

/// How long flights may still go on after [`Cache::shutdown`] was called.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// A cache. Cheap to clone; all clones are the same cache.
///
/// ```
/// use tideover::{Cache, Loaded};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::Error> {
/// let cache = Cache::builder().build()?;
/// let greeting = cache.get_or_load("greeting", |_| async { Ok(Loaded::new("hello")) }).await?;
/// assert_eq!(greeting.value, "hello");
/// let again = cache.get_or_load("greeting", |_| async { panic!("not asked") }).await?;
/// assert_eq!(again.source, tideover::Source::Memory);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cache {
    backend: Backend,
    shared: Arc<Shared>,
}

/// What all handles of a cache have beside its backend.
struct Shared {
    policy: Arc<Policy>,
    ttls: TtlBuckets,
    store: Option<Arc<dyn Store>>,
    direct: Arc<direct::Shared>,
    loaders: LoaderNames,
    #[cfg(feature = "blocking")]
    threads: crate::blocking::Threads,
    observed: Arc<Observed>,
}

/// Where the calls go: to the driver of an engine, or into a component that is its own driver.
#[derive(Clone)]
enum Backend {
    Driver(Arc<Driver>),
    #[cfg(feature = "component")]
    Component(Arc<Embedding>),
}

/// Where the policy runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineKind {
    /// Compiled into this program. The default.
    #[default]
    Native,
    /// The component of world `policy` under this crate's driver: the machine is sandboxed, memory included.
    #[cfg(feature = "component")]
    Policy,
    /// The component of world `cache`: machine, memory and driver are sandboxed; store and loader are imports.
    #[cfg(feature = "component")]
    Component,
}

impl EngineKind {
    /// All that this build has.
    pub const ALL: &'static [Self] = &[
        Self::Native,
        #[cfg(feature = "component")]
        Self::Policy,
        #[cfg(feature = "component")]
        Self::Component,
    ];
}

impl Cache {
    /// A cache to be made.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The value under `key`, loaded if memory and store do not have it. However many ask, one load is under way.
    ///
    /// The loader may outlive this call: others may wait for it, or it refreshes behind a stale value. It is called
    /// again for further attempts.
    ///
    /// # Errors
    ///
    /// [`Error::Absent`] if there is no such thing; [`Error::Load`] with the loader's own error, [`Error::Remembered`]
    /// for one of a while ago, [`Error::Open`] while its circuit is open, [`Error::Overloaded`] (all four only when
    /// nothing stale may stand in); [`Error::DeadlinePassed`], [`Error::Refused`] at a limit, [`Error::Closed`].
    pub async fn get_or_load<F, Fut>(&self, key: &str, load: F) -> Result<Fetched, Error>
    where
        F: Fn(LoadContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Loaded, LoadError>> + Send + 'static,
    {
        if let Some(served) = self.hit(key) {
            return Ok(Fetched::new(served, None).map(|value| value.bytes));
        }
        self.get_or_load_with(key, CallOptions::new(), load).await
    }

    /// As [`Cache::get_or_load`], with wishes of its own.
    ///
    /// # Errors
    ///
    /// As [`Cache::get_or_load`].
    pub async fn get_or_load_with<F, Fut>(&self, key: &str, options: CallOptions, load: F) -> Result<Fetched, Error>
    where
        F: Fn(LoadContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Loaded, LoadError>> + Send + 'static,
    {
        self.get_or_load_explained(key, options, load).await.0
    }

    /// As [`Cache::get_or_load_with`]; beside the answer, which may be an error, is its story if `options` ask for it.
    pub async fn get_or_load_explained<F, Fut>(
        &self,
        key: &str,
        options: CallOptions,
        load: F,
    ) -> (Result<Fetched, Error>, Option<Arc<Story>>)
    where
        F: Fn(LoadContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Loaded, LoadError>> + Send + 'static,
    {
        let (answer, story) =
            self.load(key, lasting(boxed(load, Arc::clone(&self.shared.policy)), options.windows), options).await;
        (answer.map(|fetched| fetched.map(|value| value.bytes)), story)
    }

    /// A fresh value from memory, without anything else being touched.
    pub(crate) fn hit(&self, key: &str) -> Option<Served<Payload>> {
        #[cfg(feature = "testing")]
        if disabled::is_disabled(self) {
            return None;
        }
        match &self.backend {
            Backend::Driver(driver) if !self.shared.policy.explain => driver.hit(key),
            _ => None,
        }
    }

    pub(crate) async fn load(
        &self,
        key: &str,
        loader: Loader,
        options: CallOptions,
    ) -> (Result<Fetched<Payload>, Error>, Option<Arc<Story>>) {
        let (answer, story) = self.fetch(key, Some(loader), options).await;
        let answer = answer.and_then(|found| {
            found.map_err(|absence| Error::Absent {
                retry_after: match absence {
                    Absence::Remembered { until } => Some(self.time_to(until)),
                    Absence::Confirmed | Absence::NotLoaded => None,
                },
            })
        });
        (answer, story)
    }

    /// The value under `key` if memory or store has it, fresh or inside its stale-while-revalidate window; while the store
    /// is away and cannot be asked, inside its stale-if-error window, too, or in doubt: see [`Fetched::stale`]. `None` if
    /// neither has it, or there is no such thing.
    ///
    /// # Errors
    ///
    /// [`Error::DeadlinePassed`], [`Error::Refused`] at a limit, [`Error::Closed`].
    pub async fn get(&self, key: &str) -> Result<Option<Fetched>, Error> {
        self.get_with(key, CallOptions::new()).await
    }

    /// As [`Cache::get`], with wishes of its own.
    ///
    /// # Errors
    ///
    /// As [`Cache::get`].
    pub async fn get_with(&self, key: &str, options: CallOptions) -> Result<Option<Fetched>, Error> {
        Ok(self.look_up(key, options).await?.map(|fetched| fetched.map(|value| value.bytes)))
    }

    pub(crate) async fn look_up(&self, key: &str, options: CallOptions) -> Result<Option<Fetched<Payload>>, Error> {
        self.fetch(key, None, options).await.0.map(Result::ok)
    }

    async fn fetch(
        &self,
        key: &str,
        loader: Option<Loader>,
        options: CallOptions,
    ) -> (Result<Result<Fetched<Payload>, Absence>, Error>, Option<Arc<Story>>) {
        #[cfg(feature = "testing")]
        if disabled::is_disabled(self) {
            return (disabled::load(self, key, loader, options).await, None);
        }
        let reply = match self.ask(key, loader, options).await {
            Ok(reply) => reply,
            Err(error) => return (Err(error), None),
        };
        let (story, collapsed, store) = (reply.story, reply.waited && !reply.led, reply.store);
        let without_store = !matches!(store, Some(StoreUse::Unasked | StoreUse::Answered));
        if options.require_store && without_store {
            return (Err(Error::Store { store }), story);
        }
        let fetched = |served| Fetched { store, ..Fetched::new(served, story.clone()) };
        let found = match reply.outcome {
            Outcome::Served(served) => {
                let instead_of = reply.error.filter(|_| served.stale.is_some());
                let fetched = Fetched { collapsed, instead_of, ..fetched(served) };
                self.shared.observed.served(key, &fetched);
                Ok(Ok(fetched))
            }
            Outcome::Private(served) => Ok(Ok(Fetched { private: true, ..fetched(served) })),
            Outcome::Absent(absence) => Ok(Err(absence)),
            Outcome::Settled(_) | Outcome::Again => Err(Error::Abandoned),
            Outcome::Failed(failure) => Err(self.error(failure, reply.error)),
        };
        (found, story)
    }

    async fn ask(&self, key: &str, loader: Option<Loader>, options: CallOptions) -> Result<Reply, Error> {
        self.check_key(key)?;
        // Over however many rounds the call goes, this is its end.
        let patience =
            options.timeout.map_or(self.shared.policy.call_deadline, |own| own.min(self.shared.policy.call_deadline));
        let deadline = self.clock().now() + patience;
        let explain = options.explain || self.shared.policy.explain;
        let ask = Ask { key: key.into(), loader, of: options.loader, deadline, max_age: options.max_age, explain };
        match &self.backend {
            Backend::Driver(driver) => driver.get(ask).await,
            #[cfg(feature = "component")]
            Backend::Component(embedding) => embedding.get(ask).await,
        }
    }

    /// Keeps `value` under `key` for the windows given, `None` for the cache's own. It is in memory when this begins
    /// to wait; it waits until the value is in the store too, or known not to get there.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] at a limit, [`Error::DeadlinePassed`], [`Error::Closed`]. A store that is away is no error:
    /// then the answer is [`Settled::Journaled`], and [`Settled::require_store`] makes one of it for who wants it.
    ///
    /// ```
    /// use tideover::store::MemoryStore;
    /// use tideover::{BreakerMode, Cache, Dependency, Error, Settled};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// async fn strict(cache: &Cache) -> Result<Settled, Error> {
    ///     Ok(cache.put("price:7", "9.99", None).await?.require_store()?)
    /// }
    ///
    /// let cache = Cache::builder().store(MemoryStore::new(1_000)).build()?;
    /// assert_eq!(strict(&cache).await?, Settled::Store);
    /// cache.set_breaker_mode(Dependency::Store, BreakerMode::ForcedOpen).await?;
    /// assert!(strict(&cache).await.is_err_and(|error| error.is_store()));
    /// assert!(cache.get("price:7").await?.is_some(), "it is here, and owed to the store");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn put(&self, key: &str, value: impl Into<Bytes>, windows: Option<Windows>) -> Result<Settled, Error> {
        self.put_tagged(key, value, windows, [""; 0]).await
    }

    /// As [`Cache::put`]; the value bears these tags, at most 64, and [`Cache::invalidate_tag`] reaches it by any of
    /// them.
    ///
    /// What bears tags is shared where the store keeps a log of invalidations ([`Abilities::log`]), and kept in memory
    /// only where it does not.
    ///
    /// [`Abilities::log`]: crate::store::Abilities::log
    ///
    /// # Errors
    ///
    /// As [`Cache::put`].
    pub async fn put_tagged(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        windows: Option<Windows>,
        tags: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Settled, Error> {
        self.keep(key, Payload::from(value.into()), windows, Tags::named(tags)).await
    }

    pub(crate) async fn keep(
        &self,
        key: &str,
        value: Payload,
        windows: Option<Windows>,
        tags: Tags,
    ) -> Result<Settled, Error> {
        self.check_put(key, &value, &tags)?;
        #[cfg(feature = "testing")]
        if disabled::is_disabled(self) {
            return self.remove(key).await;
        }
        self.change(Command::Put { key: key.into(), value: tags.on(value), windows }).await
    }

    /// Refuses what is past the limits.
    pub(crate) fn check_put(&self, key: &str, value: &Payload, tags: &Tags) -> Result<(), Error> {
        self.shared.policy.check_value(value.bytes.len()).map_err(Error::Refused)?;
        self.check_key(key)?;
        tags.check(&self.shared.policy).map_err(Error::Refused)
    }

    fn check_key(&self, key: &str) -> Result<(), Error> {
        if is_direct(key) {
            return Err(Error::ReservedKey);
        }
        self.shared.policy.check_key(key).map_err(Error::Refused)
    }

    /// Removes `key`. What a load that is under way brings is not kept.
    ///
    /// # Errors
    ///
    /// As [`Cache::put`].
    pub async fn remove(&self, key: &str) -> Result<Settled, Error> {
        self.check_key(key)?;
        self.change(Command::Remove { key: key.into() }).await
    }

    /// Ages `key` to the end of its freshness: from now on it is stale, inside its windows. What a load that is under
    /// way brings is not kept.
    ///
    /// # Errors
    ///
    /// As [`Cache::put`].
    pub async fn expire(&self, key: &str) -> Result<Settled, Error> {
        self.check_key(key)?;
        self.change(Command::Expire { key: key.into() }).await
    }

    /// Removes every value that bears the tag of that name, whatever their number: those in memory, those that are being
    /// loaded and those in the store. Other processes with that store drop theirs the next time that they ask it for
    /// anything.
    ///
    /// # Errors
    ///
    /// As [`Cache::put`].
    pub async fn invalidate_tag(&self, name: &str) -> Result<Settled, Error> {
        self.invalidate_named(name, Invalidation::Remove).await
    }

    /// As [`Cache::invalidate_tag`], but what bears the tag is stale from now on, inside its windows, instead of gone.
    ///
    /// # Errors
    ///
    /// As [`Cache::put`].
    pub async fn expire_tag(&self, name: &str) -> Result<Settled, Error> {
        self.invalidate_named(name, Invalidation::Expire).await
    }

    async fn invalidate_named(&self, name: &str, how: Invalidation) -> Result<Settled, Error> {
        self.shared.policy.check_tag(name.len()).map_err(Error::Refused)?;
        self.change(Command::Invalidate { tag: Tag::named(name), how }).await
    }

    /// Removes everything that is cached, here and in the own namespace of the store. What lies there by
    /// [direct operations](Self::direct) stays; [`Direct::clear`] removes that. (A store of one's own may know no
    /// difference; see [`DIRECT_PREFIX`](crate::store::DIRECT_PREFIX).)
    ///
    /// # Errors
    ///
    /// As [`Cache::put`].
    pub async fn clear(&self) -> Result<Settled, Error> {
        // What was counted before it is not counted any more.
        let _brought_up_to_date = self.update_metrics().await;
        let settled = self.change(Command::Clear).await?;
        self.stores().doomed.clear();
        self.shared.observed.cleared();
        Ok(settled)
    }

    async fn change(&self, command: Command<Key, Payload>) -> Result<Settled, Error> {
        let invalidates = !matches!(command, Command::Put { .. });
        let settled = self.settle(command).await;
        if invalidates {
            self.shared.observed.invalidated(settled.as_ref().err());
        }
        settled
    }

    async fn settle(&self, command: Command<Key, Payload>) -> Result<Settled, Error> {
        let reply = match &self.backend {
            Backend::Driver(driver) => driver.change(command).await?,
            #[cfg(feature = "component")]
            Backend::Component(embedding) => embedding.change(command).await?,
        };
        match reply.outcome {
            Outcome::Settled(settled) => Ok(settled),
            Outcome::Failed(failure) => Err(self.error(failure, reply.error)),
            Outcome::Served(_) | Outcome::Private(_) | Outcome::Absent(_) | Outcome::Again => Err(Error::Abandoned),
        }
    }

    /// Counts and circuit breakers.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] when the engine broke while it was asked; it has been replaced.
    pub async fn stats(&self) -> Result<Report, Error> {
        let mut report = match &self.backend {
            Backend::Driver(driver) => driver.report()?,
            #[cfg(feature = "component")]
            Backend::Component(embedding) => embedding.report().await?,
        };
        report.counts.push((OWED_PATTERNS.to_owned(), self.stores().doomed.owed() as u64));
        report.counts.extend(self.shared.direct.stats().counts().map(|(name, count)| (name.to_owned(), count)));
        Ok(report)
    }

    /// Bytes under keys in the shared store, for what is no cached value: get, put, count, take, scan and so on, with
    /// the cache's deadlines, a circuit of their own, and what stands in for the store while that is away. Without a
    /// store they work on a bounded memory of their own.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = tideover::Cache::builder().build()?;
    /// assert_eq!(cache.direct().increment("visits", 1, None).await?.value, 1);
    /// assert!(cache.get("visits").await?.is_none(), "its keys are apart from those of cached values");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn direct(&self) -> Direct {
        Direct::over(self.clone(), Arc::clone(&self.shared.direct))
    }

    pub(crate) fn direct_operations(&self) -> &direct::Shared {
        &self.shared.direct
    }

    /// The name of the engine: `native`, `policy` or `component`.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        match &self.backend {
            Backend::Driver(driver) => driver.engine().name(),
            #[cfg(feature = "component")]
            Backend::Component(_) => "component",
        }
    }

    /// The name of the shared store, if there is one.
    #[must_use]
    pub fn store(&self) -> Option<&'static str> {
        self.shared.store.as_ref().map(|store| store.name())
    }

    /// What holds across the processes that share the store, by what that can do at present and by the options; `None` if there
    /// is none.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// use tideover::Cache;
    /// use tideover::store::{MemoryStore, Reach};
    ///
    /// let cache = Cache::builder().store(MemoryStore::new(10_000)).set("lease", "false")?.build()?;
    /// let holds = cache.guarantees().expect("it has a store");
    /// assert_eq!((holds.changed_keys, holds.loads_are_leased), (Reach::AtOnce, false));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn guarantees(&self) -> Option<Guarantees> {
        let store = self.shared.store.as_ref()?;
        let holds = Guarantees::from(store.abilities());
        Some(Guarantees { loads_are_leased: holds.loads_are_leased && self.policy().lease, ..holds })
    }

    /// Whether the shared store answers within a second; `None` if there is none.
    pub async fn store_answers(&self) -> Option<bool> {
        const LIMIT: Duration = Duration::from_secs(1);
        let store = self.shared.store.as_ref()?;
        Some(matches!(tokio::time::timeout(LIMIT, store.ping()).await, Ok(Ok(()))))
    }

    /// The choices this cache was made with.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.shared.policy
    }

    pub(crate) fn observed(&self) -> &Observed {
        &self.shared.observed
    }

    pub(crate) fn shared_observed(&self) -> Arc<Observed> {
        Arc::clone(&self.shared.observed)
    }

    /// Whether the store tells what other processes change; `None` without a store.
    pub(crate) fn tells_changes(&self) -> Option<bool> {
        self.shared.store.as_ref().map(|store| store.abilities().tracking)
    }

    pub(crate) fn shared_policy(&self) -> Arc<Policy> {
        Arc::clone(&self.shared.policy)
    }

    /// Where its loaders run that block.
    #[cfg(feature = "blocking")]
    pub(crate) fn threads(&self) -> &crate::blocking::Threads {
        &self.shared.threads
    }

    /// From here on what is read from a store has room for what it is decoded to.
    pub(crate) fn remember_faces(&self) {
        match &self.backend {
            Backend::Driver(driver) => driver.remember_faces(),
            #[cfg(feature = "component")]
            Backend::Component(_) => {}
        }
    }

    /// Takes no more calls, lets flights that are under way end for up to five seconds, and closes the store, unless that is
    /// shared with other caches ([`Builder::shared_store`]): then it is left to whoever made it. A second call does
    /// nothing. What [direct operations](Self::direct) owe to the store is paid first, if it answers, for up to five seconds
    /// more.
    pub async fn shutdown(&self) {
        self.shared.direct.close(SHUTDOWN_GRACE).await;
        match &self.backend {
            Backend::Driver(driver) => driver.shutdown(SHUTDOWN_GRACE).await,
            #[cfg(feature = "component")]
            Backend::Component(embedding) => embedding.shutdown(SHUTDOWN_GRACE).await,
        }
        let _closed_already = self.update_metrics().await;
        self.shared.observed.close();
    }

    fn error(&self, failure: Failure, error: Option<Arc<LoadError>>) -> Error {
        match failure {
            Failure::Load(_) if error.as_ref().is_some_and(|error| error.is_overloaded()) => Error::Overloaded,
            Failure::Load(class) => Error::Load(error.unwrap_or_else(|| Arc::new(LoadError::of_class(class)))),
            Failure::Open { until } => {
                Error::Open { retry_after: (until != Instant::NEVER).then(|| self.time_to(until)) }
            }
            Failure::Remembered { class, until } => Error::Remembered { class, retry_after: self.time_to(until) },
            Failure::Overloaded => Error::Overloaded,
            Failure::DeadlinePassed => Error::DeadlinePassed,
            Failure::Abandoned => Error::Abandoned,
        }
    }

    fn time_to(&self, until: Instant) -> Duration {
        until - self.clock().now()
    }

    pub(crate) fn clock(&self) -> &HostClock {
        match &self.backend {
            Backend::Driver(driver) => driver.clock(),
            #[cfg(feature = "component")]
            Backend::Component(embedding) => embedding.clock(),
        }
    }

    pub(crate) fn stores(&self) -> &Stores {
        match &self.backend {
            Backend::Driver(driver) => driver.stores(),
            #[cfg(feature = "component")]
            Backend::Component(embedding) => embedding.stores(),
        }
    }

    /// The keys that match `pattern` and are in memory, under way, owed to the store or remembered.
    pub(crate) async fn keys_matching(&self, pattern: &str) -> Result<BTreeSet<Key>, Error> {
        match &self.backend {
            Backend::Driver(driver) => driver.ask(|engine| engine.keys_matching(pattern)),
            #[cfg(feature = "component")]
            Backend::Component(embedding) => embedding.keys_matching(pattern).await,
        }
    }

    /// Whether both are handles of one cache.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (&self.backend, &other.backend) {
            (Backend::Driver(one), Backend::Driver(other)) => Arc::ptr_eq(one, other),
            #[cfg(feature = "component")]
            (Backend::Component(one), Backend::Component(other)) => Arc::ptr_eq(one, other),
            #[cfg(feature = "component")]
            (Backend::Driver(_), Backend::Component(_)) | (Backend::Component(_), Backend::Driver(_)) => false,
        }
    }

    pub(crate) fn maintain(&self) {
        self.clock().look();
        self.shared.direct.maintain();
        match &self.backend {
            Backend::Driver(driver) => driver.maintain(),
            #[cfg(feature = "component")]
            Backend::Component(embedding) => embedding.maintain(),
        }
    }

    pub(crate) fn downgrade(&self) -> WeakCache {
        WeakCache {
            backend: match &self.backend {
                Backend::Driver(driver) => WeakBackend::Driver(Arc::downgrade(driver)),
                #[cfg(feature = "component")]
                Backend::Component(embedding) => WeakBackend::Component(Arc::downgrade(embedding)),
            },
            shared: Arc::clone(&self.shared),
        }
    }
}

/// A cache that does not keep itself alive.
pub(crate) struct WeakCache {
    backend: WeakBackend,
    shared: Arc<Shared>,
}

enum WeakBackend {
    Driver(std::sync::Weak<Driver>),
    #[cfg(feature = "component")]
    Component(std::sync::Weak<Embedding>),
}

impl WeakCache {
    pub(crate) fn upgrade(&self) -> Option<Cache> {
        let backend = match &self.backend {
            WeakBackend::Driver(driver) => Backend::Driver(driver.upgrade()?),
            #[cfg(feature = "component")]
            WeakBackend::Component(embedding) => Backend::Component(embedding.upgrade()?),
        };
        Some(Cache { backend, shared: Arc::clone(&self.shared) })
    }
}

/// Names the engine, never the contents.
impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Cache");
        shown.field("name", &self.name()).field("engine", &self.engine()).field("store", &self.store());
        shown.finish_non_exhaustive()
    }
}
