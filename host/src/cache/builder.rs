//! How a cache is made.

use std::sync::Arc;
use std::time::Duration;

use tideover_core::{Policy, Windows};

use super::loaders::LoaderNames;
use super::{Backend, Cache, EngineKind, Shared, TtlBuckets};
use crate::clock::HostClock;
#[cfg(feature = "component")]
use crate::component::{Embedding, PolicyEngine};
use crate::direct;
use crate::driver::Driver;
use crate::engine::NativeEngine;
use crate::error::Error;
use crate::observe::Observed;
use crate::outside::Stores;
use crate::store::{MemoryStore, Store};
use crate::watch;

/// The choices for a cache to be made. The defaults are those of [`Policy`].
#[derive(Default)]
pub struct Builder {
    policy: Policy,
    pub(super) ttls: TtlBuckets,
    store: Option<Arc<dyn Store>>,
    /// It belongs to somebody else, who closes it.
    store_is_shared: bool,
    engine: EngineKind,
    seed: Option<u64>,
    #[cfg(feature = "testing")]
    moved_by: Option<crate::testing::Clock>,
    name: Option<Arc<str>>,
    reveal_keys: bool,
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
        self.policy.ttl = Windows::fresh_for(ttl).ttl;
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

    /// The shared store behind memory. Without one, memory is all there is. It is the cache's own from here on:
    /// [`Cache::shutdown`] closes it.
    #[must_use]
    pub fn store(self, store: impl Store) -> Self {
        self.own_store(Arc::new(store))
    }

    pub(crate) fn own_store(self, store: Arc<dyn Store>) -> Self {
        Self { store: Some(store), store_is_shared: false, ..self }
    }

    /// As [`store`](Self::store), for a store that other caches of this process use, too, over the same connections. It
    /// belongs to those who share it: [`Cache::shutdown`] leaves it open, and whoever made it closes it after the last of
    /// the caches ([`Store::close`]).
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tideover::Cache;
    /// use tideover::store::{MemoryStore, Store};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let store: Arc<dyn Store> = Arc::new(MemoryStore::new(1_000));
    /// let users = Cache::builder().shared_store(store.clone()).build()?;
    /// let prices = Cache::builder().shared_store(store.clone()).build()?;
    /// users.shutdown().await;
    /// prices.put("price:7", "9.99", None).await?;
    /// assert!(store.ping().await.is_ok(), "the other cache still needs it");
    ///
    /// prices.shutdown().await;
    /// store.close().await;
    /// assert!(store.ping().await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn shared_store(self, store: Arc<dyn Store>) -> Self {
        Self { store: Some(store), store_is_shared: true, ..self }
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

    /// What the cache takes for the time, which a test moves.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn clock(self, clock: &crate::testing::Clock) -> Self {
        Self { moved_by: Some(clock.clone()), ..self }
    }

    /// The name of the cache in logs, metrics, events and health reports. Caches of one process need different names, or
    /// their metrics are one. Without a name it gets one, `default` or `default-2`.
    #[must_use]
    pub fn name(self, name: impl Into<Arc<str>>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Whether the spans of loads and store operations show keys. Default: no. Values are shown nowhere.
    #[must_use]
    pub fn reveal_keys(self, reveal: bool) -> Self {
        Self { reveal_keys: reveal, ..self }
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
        if self.policy.lease && self.store.is_some() && !abilities.lease {
            tracing::warn!("lease is on, and the store has none to give: each process loads for itself");
        }
        self.policy.lease &= abilities.lease;
        self.policy.validate()?;
        #[cfg(feature = "testing")]
        let clock = self.moved_by.map_or_else(HostClock::new, HostClock::moved_by);
        #[cfg(not(feature = "testing"))]
        let clock = HostClock::new();
        let store = self.store.clone();
        let seed = self.seed.unwrap_or_else(random_seed);
        let observed = Arc::new(Observed::new(self.name, self.reveal_keys));
        let fallback = Arc::new(MemoryStore::bounded(self.policy.entries_max as usize, self.policy.weight_max));
        let primary_is_shared = self.store_is_shared;
        let stores = Stores { primary_is_shared, ..Stores::new(self.store, fallback, Arc::clone(&observed)) };
        let direct = direct::Shared::new(store.clone(), &self.policy, seed, clock.clone(), Arc::clone(&observed));
        let backend = backend(self.engine, &self.policy, seed, stores, clock)?;
        let ttls = TtlBuckets { default: self.policy.ttl.unwrap_or_default(), ..self.ttls };
        let shared = Shared {
            policy: Arc::new(self.policy),
            ttls,
            store,
            direct: Arc::new(direct),
            loaders: LoaderNames::default(),
            #[cfg(feature = "blocking")]
            threads: crate::blocking::Threads::default(),
            observed,
        };
        let cache = Cache { backend, shared: Arc::new(shared) };
        watch::spawn(&cache);
        Ok(cache)
    }
}

fn backend(kind: EngineKind, policy: &Policy, seed: u64, stores: Stores, clock: HostClock) -> Result<Backend, Error> {
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
