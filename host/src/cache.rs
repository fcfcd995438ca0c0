//! The cache as users hold it.

mod operate;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tideover_core::cache::explain::Story;
use tideover_core::{
    Absence, Clock, Command, Failure, Instant, Invalidation, Outcome, Policy, Served, Settled, Source, Stale, Tag,
    Windows,
};

use crate::clock::HostClock;
#[cfg(feature = "component")]
use crate::component::{Embedding, PolicyEngine};
use crate::driver::{Driver, Reply};
use crate::engine::{Key, NativeEngine, Payload, Report};
use crate::error::Error;
use crate::loader::{LoadContext, LoadError, Loaded, Loader, Tags, boxed};
use crate::outside::{Ask, Stores};
use crate::store::{Guarantees, MemoryStore, Store};
use crate::watch;

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
    policy: Arc<Policy>,
    store: Option<Arc<dyn Store>>,
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
    max_age: Option<Duration>,
    timeout: Option<Duration>,
    explain: bool,
}

impl CallOptions {
    /// Nothing beside the key.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_age: None, timeout: None, explain: false }
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

    /// The answer comes with its story ([`Fetched::story`]): what it was decided under, step by step. It costs a few
    /// kilobytes and a look at the whole machine for each step.
    ///
    /// A call that waits for a flight which another call led has a story only if that call asked for it, too. The
    /// option `explain` of [`Policy`] asks for all.
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
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetched {
    /// The value.
    pub value: Bytes,
    /// Time since it was written or validated at its origin.
    pub age: Duration,
    /// Its freshness lifetime; `None` never expires.
    pub ttl: Option<Duration>,
    /// Why it is served although stale; `None` for a fresh value.
    pub stale: Option<Stale>,
    /// Where it was found.
    pub source: Source,
    /// Whether this call had to wait for a flight that another call led.
    pub collapsed: bool,
    /// Whether nobody else has got it: its loader said so.
    pub private: bool,
    /// Why it was answered so, if that was asked for; see [`CallOptions::explain`].
    pub story: Option<Arc<Story>>,
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
        if let Backend::Driver(driver) = &self.backend
            && !self.policy.explain
            && let Some(served) = driver.hit(key)
        {
            return Ok(Fetched::new(served, None));
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
        let (answer, story) = self.fetch(key, Some(boxed(load, Arc::clone(&self.policy))), options).await;
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

    /// The value under `key` if memory or store has it, fresh or inside its stale-while-revalidate window. `None` if
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
        self.fetch(key, None, options).await.0.map(Result::ok)
    }

    async fn fetch(
        &self,
        key: &str,
        loader: Option<Loader>,
        options: CallOptions,
    ) -> (Result<Result<Fetched, Absence>, Error>, Option<Arc<Story>>) {
        let reply = match self.ask(key, loader, options).await {
            Ok(reply) => reply,
            Err(error) => return (Err(error), None),
        };
        let (story, collapsed) = (reply.story, reply.waited && !reply.led);
        let found = match reply.outcome {
            Outcome::Served(served) => Ok(Ok(Fetched { collapsed, ..Fetched::new(served, story.clone()) })),
            Outcome::Private(served) => Ok(Ok(Fetched { private: true, ..Fetched::new(served, story.clone()) })),
            Outcome::Absent(absence) => Ok(Err(absence)),
            Outcome::Settled(_) | Outcome::Again => Err(Error::Abandoned),
            Outcome::Failed(failure) => Err(self.error(failure, reply.error)),
        };
        (found, story)
    }

    async fn ask(&self, key: &str, loader: Option<Loader>, options: CallOptions) -> Result<Reply, Error> {
        self.policy.check_key(key).map_err(Error::Refused)?;
        // Over however many rounds the call goes, this is its end.
        let patience = options.timeout.map_or(self.policy.call_deadline, |own| own.min(self.policy.call_deadline));
        let deadline = self.clock().now() + patience;
        let explain = options.explain || self.policy.explain;
        let ask = Ask { key: key.into(), loader, deadline, max_age: options.max_age, explain };
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
    /// then the answer is [`Settled::Journaled`].
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
        let (value, tags) = (value.into(), Tags::named(tags));
        self.policy.check_value(value.len()).map_err(Error::Refused)?;
        self.policy.check_key(key).map_err(Error::Refused)?;
        tags.check(&self.policy).map_err(Error::Refused)?;
        self.change(Command::Put { key: key.into(), value: tags.on(value), windows }).await
    }

    /// Removes `key`. What a load that is under way brings is not kept.
    ///
    /// # Errors
    ///
    /// As [`Cache::put`].
    pub async fn remove(&self, key: &str) -> Result<Settled, Error> {
        self.policy.check_key(key).map_err(Error::Refused)?;
        self.change(Command::Remove { key: key.into() }).await
    }

    /// Ages `key` to the end of its freshness: from now on it is stale, inside its windows. What a load that is under
    /// way brings is not kept.
    ///
    /// # Errors
    ///
    /// As [`Cache::put`].
    pub async fn expire(&self, key: &str) -> Result<Settled, Error> {
        self.policy.check_key(key).map_err(Error::Refused)?;
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
        self.invalidate(name, Invalidation::Remove).await
    }

    /// As [`Cache::invalidate_tag`], but what bears the tag is stale from now on, inside its windows, instead of gone.
    ///
    /// # Errors
    ///
    /// As [`Cache::put`].
    pub async fn expire_tag(&self, name: &str) -> Result<Settled, Error> {
        self.invalidate(name, Invalidation::Expire).await
    }

    async fn invalidate(&self, name: &str, how: Invalidation) -> Result<Settled, Error> {
        self.policy.check_tag(name.len()).map_err(Error::Refused)?;
        self.change(Command::Invalidate { tag: Tag::named(name), how }).await
    }

    /// Removes everything, here and in the own namespace of the store.
    ///
    /// # Errors
    ///
    /// As [`Cache::put`].
    pub async fn clear(&self) -> Result<Settled, Error> {
        self.change(Command::Clear).await
    }

    async fn change(&self, command: Command<Key, Payload>) -> Result<Settled, Error> {
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
        match &self.backend {
            Backend::Driver(driver) => Ok(driver.report()?),
            #[cfg(feature = "component")]
            Backend::Component(embedding) => embedding.report().await,
        }
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
        self.store.as_ref().map(|store| store.name())
    }

    /// What holds across the processes that share the store, by what that can do at present; `None` if there is none.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// use tideover::Cache;
    /// use tideover::store::{MemoryStore, Reach};
    ///
    /// let cache = Cache::builder().store(MemoryStore::new(10_000)).build()?;
    /// assert_eq!(cache.guarantees().map(|holds| holds.changed_keys), Some(Reach::AtOnce));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn guarantees(&self) -> Option<Guarantees> {
        self.store.as_ref().map(|store| store.abilities().into())
    }

    /// Whether the shared store answers within a second; `None` if there is none.
    pub async fn store_answers(&self) -> Option<bool> {
        const LIMIT: Duration = Duration::from_secs(1);
        let store = self.store.as_ref()?;
        Some(matches!(tokio::time::timeout(LIMIT, store.ping()).await, Ok(Ok(()))))
    }

    /// The choices this cache was made with.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Takes no more calls, lets flights that are under way end for up to five seconds, and closes the store. A second
    /// call does nothing.
    pub async fn shutdown(&self) {
        match &self.backend {
            Backend::Driver(driver) => driver.shutdown(SHUTDOWN_GRACE).await,
            #[cfg(feature = "component")]
            Backend::Component(embedding) => embedding.shutdown(SHUTDOWN_GRACE).await,
        }
    }

    fn error(&self, failure: Failure, error: Option<Arc<LoadError>>) -> Error {
        match failure {
            Failure::Load(class) => Error::Load(error.unwrap_or_else(|| Arc::new(LoadError::of_class(class)))),
            Failure::Open { until } => Error::Open { retry_after: self.time_to(until) },
            Failure::Remembered { class, until } => Error::Remembered { class, retry_after: self.time_to(until) },
            Failure::Overloaded => Error::Overloaded,
            Failure::DeadlinePassed => Error::DeadlinePassed,
            Failure::Abandoned => Error::Abandoned,
        }
    }

    fn time_to(&self, until: Instant) -> Duration {
        until - self.clock().now()
    }

    fn clock(&self) -> &HostClock {
        match &self.backend {
            Backend::Driver(driver) => driver.clock(),
            #[cfg(feature = "component")]
            Backend::Component(embedding) => embedding.clock(),
        }
    }

    pub(crate) fn maintain(&self) {
        self.clock().look();
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
            policy: Arc::clone(&self.policy),
            store: self.store.clone(),
        }
    }
}

/// A cache that does not keep itself alive.
pub(crate) struct WeakCache {
    backend: WeakBackend,
    policy: Arc<Policy>,
    store: Option<Arc<dyn Store>>,
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
        Some(Cache { backend, policy: Arc::clone(&self.policy), store: self.store.clone() })
    }
}

/// Names the engine, never the contents.
impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("engine", &self.engine()).field("store", &self.store()).finish_non_exhaustive()
    }
}

impl Fetched {
    fn new(served: Served<Payload>, story: Option<Arc<Story>>) -> Self {
        let Served { value, age, ttl, stale, source } = served;
        Self { value: value.bytes, age, ttl, stale, source, collapsed: false, private: false, story }
    }

    /// Whether the value is past its freshness lifetime.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.stale.is_some()
    }
}

/// The value itself is never shown.
impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value: _, age, ttl, stale, source, collapsed, private, story: _ } = self;
        let mut shown = f.debug_struct("Fetched");
        shown.field("age", age).field("ttl", ttl).field("stale", stale).field("source", source);
        shown.field("collapsed", collapsed).field("private", private).finish_non_exhaustive()
    }
}

/// The choices for a cache to be made. The defaults are those of [`Policy`].
#[derive(Default)]
pub struct Builder {
    policy: Policy,
    store: Option<Arc<dyn Store>>,
    engine: EngineKind,
    seed: Option<u64>,
}

impl Builder {
    /// All choices at once.
    #[must_use]
    pub fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// One choice by its name, as text: `set("stale_if_error", "1h")`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] naming the option.
    pub fn set(mut self, option: &str, value: &str) -> Result<Self, Error> {
        self.policy.set(option, value)?;
        Ok(self)
    }

    /// Freshness lifetime of values that bring none of their own; zero never expires.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.policy.ttl = Some(ttl).filter(|ttl| !ttl.is_zero());
        self
    }

    /// How long after `ttl` stale is served at once while one refresh runs.
    #[must_use]
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.policy.stale_while_revalidate = window;
        self
    }

    /// How long after `ttl` stale stands in when the origin is unavailable.
    #[must_use]
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.policy.stale_if_error = window;
        self
    }

    /// The shared store behind memory. Without one, memory is all there is.
    #[must_use]
    pub fn store(self, store: impl Store) -> Self {
        self.shared_store(Arc::new(store))
    }

    /// As [`store`](Self::store), for a store that other caches of this process use, too, over the same connections.
    #[must_use]
    pub fn shared_store(self, store: Arc<dyn Store>) -> Self {
        Self { store: Some(store), ..self }
    }

    /// Where the policy runs.
    #[must_use]
    pub fn engine(self, engine: EngineKind) -> Self {
        Self { engine, ..self }
    }

    /// Makes every draw of the machine follow from `seed`. Without it each cache draws differently.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }

    /// The cache. To be called inside a tokio runtime, whose tasks fly the flights.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for choices that cannot be, [`Error::Engine`] when a component cannot be made,
    /// [`Error::NoRuntime`] outside a tokio runtime.
    pub fn build(mut self) -> Result<Cache, Error> {
        tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
        self.policy.store = self.store.is_some();
        let abilities = self.store.as_ref().map(|store| store.abilities()).unwrap_or_default();
        self.policy.store_log = abilities.log;
        self.policy.lease &= abilities.lease;
        self.policy.validate()?;
        let store = self.store.clone();
        let seed = self.seed.unwrap_or_else(random_seed);
        let stores =
            Stores { primary: self.store, fallback: Arc::new(MemoryStore::new(self.policy.entries_max as usize)) };
        let backend = backend(self.engine, &self.policy, seed, stores)?;
        let cache = Cache { backend, policy: Arc::new(self.policy), store };
        watch::spawn(&cache);
        Ok(cache)
    }
}

fn backend(kind: EngineKind, policy: &Policy, seed: u64, stores: Stores) -> Result<Backend, Error> {
    let clock = HostClock::new();
    Ok(match kind {
        EngineKind::Native => {
            let engine = NativeEngine::new(policy.clone(), seed)?;
            Backend::Driver(Driver::new(Arc::new(engine), stores, clock))
        }
        #[cfg(feature = "component")]
        EngineKind::Policy => {
            let engine = PolicyEngine::new(policy.clone(), seed)?;
            Backend::Driver(Driver::new(Arc::new(engine), stores, clock))
        }
        #[cfg(feature = "component")]
        EngineKind::Component => Backend::Component(Embedding::new(policy, seed, stores, clock)?),
    })
}

/// The hasher keys of the standard library are drawn from the system once for each process and differ for each call.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
