//! The cache for programs, functions and threads without a runtime: the same machine, with the same guarantees.
//!
//! A hit is served on the thread that asks, and nothing else is touched. For everything else that thread waits, parked,
//! while the flights fly in a runtime of this crate: two threads named `tideover`, started with the first blocking cache
//! of the process and shared by all of them. Loaders run on threads of their own, as many as
//! [`Cache::loader_threads_max`] says, so that one that hangs holds neither its callers past their deadlines nor anybody
//! else's flights.
//!
//! ```
//! use tideover::{Cache, LoadError, Loaded, Source};
//!
//! # fn main() -> Result<(), tideover::Error> {
//! let cache = Cache::builder().build_blocking()?;
//! let user = cache.get_or_load("user:7", |_| Ok(Loaded::new("Ada")))?;
//! assert_eq!((&user.value[..], user.source), (&b"Ada"[..], Source::Load));
//!
//! let user = cache.get_or_load("user:7", |_| Err(LoadError::unavailable("not asked")))?;
//! assert_eq!(user.source, Source::Memory);
//! cache.shutdown();
//! # Ok(())
//! # }
//! ```
//!
//! **Inside a tokio runtime** the calls work, too, on any of its threads; but they block that thread, and with it whatever
//! else the runtime had for it. Asynchronous code asks [`as_async`](Cache::as_async) instead.
//!
//! **At the end of the program** nothing waits for anything: flights under way end with the process. Call
//! [`shutdown`](Cache::shutdown) to let them end first. Dropping a cache, wherever, does not wait either.
//!
//! What is decided here is which thread does what. What a call gets, and when, is decided by the machine.

mod direct;
mod loaders;
mod park;
pub(crate) mod runtime;
mod typed;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::timeout;

pub use self::direct::Direct;
pub use self::loaders::LoaderThreads;
use self::loaders::Loaders;
pub(crate) use self::loaders::Threads;
use self::park::Parked;
pub use self::typed::Typed;
use crate::cache::{Builder, Cache as AsyncCache, CallOptions, Fetched};
use crate::engine::{Key, Payload, Report};
use crate::error::Error;
use crate::loader::{LoadContext, LoadError, Loaded};
use crate::typed::Cacheable;
use crate::{BreakerMode, Dependency, RemovalReason, Restored, Settled, Taken, Windows};

/// Beyond its deadline a call is the machine's; beyond this much more, nothing is there to let it go.
const PAST_DEADLINE: Duration = Duration::from_secs(1);

/// How long [`Cache::shutdown`] waits for flights and the store, and then for loaders.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);
const LOADERS_LIMIT: Duration = Duration::from_secs(1);

/// A cache whose calls wait on the thread that makes them. Cheap to clone; all clones are the same cache.
///
/// Made by [`Builder::build_blocking`], or from a cache that asynchronous code uses beside it, by
/// [`Cache::blocking`](AsyncCache::blocking).
///
/// ```
/// use std::thread;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use tideover::{Cache, Loaded};
///
/// static LOADS: AtomicUsize = AtomicUsize::new(0);
///
/// # fn main() -> Result<(), tideover::Error> {
/// let cache = Cache::builder().build_blocking()?;
/// thread::scope(|scope| {
///     for _ in 0..100 {
///         scope.spawn(|| {
///             cache.get_or_load("k", |_| {
///                 LOADS.fetch_add(1, Ordering::Relaxed);
///                 Ok(Loaded::new("v"))
///             })
///         });
///     }
/// });
/// assert_eq!(LOADS.load(Ordering::Relaxed), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cache {
    cache: AsyncCache,
    runtime: Handle,
    loaders: Arc<Loaders>,
}

impl Builder {
    /// The cache for threads. To be called anywhere.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for choices that cannot be, [`Error::Engine`] when a component cannot be made,
    /// [`Error::Threads`] when no threads can be started.
    pub fn build_blocking(self) -> Result<Cache, Error> {
        let runtime = runtime::handle()?;
        let _inside = runtime.enter();
        Ok(Cache::over(self.build()?, runtime.clone()))
    }
}

impl AsyncCache {
    /// This cache for threads: the same keys and values, the same flights.
    ///
    /// What threads ask flies in the runtime of [`blocking`](crate::blocking). What lives in the runtime in which this
    /// cache was made, such as the connections of its store, is served while that runtime is: where a thread blocks a
    /// runtime that has no other, a store is away, and a load that somebody in there leads does not end before the caller's
    /// deadline.
    ///
    /// ```
    /// use tideover::{Cache, Loaded};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = Cache::builder().build()?;
    /// cache.put("k", "v", None).await?;
    /// let for_threads = cache.blocking()?;
    /// let thread = std::thread::spawn(move || for_threads.get("k").unwrap().unwrap().value);
    /// assert_eq!(thread.join().unwrap(), "v");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Threads`] when no threads can be started.
    pub fn blocking(&self) -> Result<Cache, Error> {
        Ok(Cache::over(self.clone(), runtime::handle()?))
    }
}

/// Waits on this thread for something asynchronous, which is polled in the runtime of this module; what it spawns runs there.
/// For as long as that takes, whatever it takes.
///
/// ```
/// # fn main() -> Result<(), tideover::Error> {
/// use tideover::{Cache, blocking};
///
/// let cache = blocking::wait(async { Cache::builder().build() })??;
/// assert!(blocking::wait(cache.get("k"))??.is_none());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Error::Threads`] when no threads can be started.
pub fn wait<T>(future: impl Future<Output = T>) -> Result<T, Error> {
    Ok(wait_on(&Parked::here(), &runtime::handle()?, || future))
}

fn wait_on<F: Future>(thread: &Arc<Parked>, runtime: &Handle, make: impl FnOnce() -> F) -> F::Output {
    let future = on_heap(make);
    runtime::beside(|| {
        let _inside = runtime.enter();
        thread.block_on(future)
    })
}

/// What is waited for, some kilobytes, not on the stack: loaders that ask the cache again, and are run by the thread that
/// waits, lie there one above the other. Not inlined, for whoever waits would have room for it on the stack all the same.
#[inline(never)]
fn on_heap<F>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::pin(make())
}

impl Cache {
    /// A cache to be made, by [`Builder::build_blocking`].
    #[must_use]
    pub fn builder() -> Builder {
        AsyncCache::builder()
    }

    fn over(cache: AsyncCache, runtime: Handle) -> Self {
        let loaders = cache.threads().of(&runtime);
        Self { cache, runtime, loaders }
    }

    /// On at most so many threads at once loaders run, at least one; 64 unless this says otherwise, all handles of a
    /// cache together. Threads are started when they are needed. This handle and what is cloned from it from here on have
    /// threads for themselves.
    ///
    /// A load waits for a thread until its deadline (`load_deadline`). The thread of a loader that has not returned by then
    /// is counted until it does; when all are held like that, loads are refused at once. Either way the answer is
    /// [`Error::Overloaded`], unless something stale may stand in. What a loader waits for itself, and nobody loads yet, is
    /// loaded on its own thread.
    #[must_use]
    pub fn loader_threads_max(self, max: usize) -> Self {
        Self { loaders: Loaders::new(max.max(1), self.runtime.clone()), ..self }
    }

    /// How many threads load, and how many of those nobody waits for any more.
    #[must_use]
    pub fn loader_threads(&self) -> LoaderThreads {
        self.loaders.threads()
    }

    /// The cache for asynchronous code; also for what has no blocking form here, see [`Cache::wait`].
    #[must_use]
    pub const fn as_async(&self) -> &AsyncCache {
        &self.cache
    }

    /// This cache for values of the type `V`; see [`Cache::typed`](AsyncCache::typed).
    #[must_use]
    pub fn typed<V: Cacheable>(&self) -> Typed<V> {
        Typed::over(self.clone(), self.cache.typed())
    }

    /// The direct operations of this cache; see [`Cache::direct`](AsyncCache::direct).
    #[must_use]
    pub fn direct(&self) -> Direct {
        Direct::over(self.clone(), self.cache.direct())
    }

    /// Waits on this thread for something asynchronous of the cache, as [`wait`] does.
    ///
    /// ```
    /// # fn main() -> Result<(), tideover::Error> {
    /// let cache = tideover::Cache::builder().build_blocking()?;
    /// assert_eq!(cache.wait(cache.as_async().store_answers()), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        wait_on(&Parked::here(), &self.runtime, || future)
    }

    /// Waits for what is under `key`.
    fn fetch<T, E: From<Error>>(&self, key: &str, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let thread = Parked::here();
        let _waiting = self.loaders.waits(&thread, key);
        wait_on(&thread, &self.runtime, || self.limited(call))
    }

    /// Waits for anything else of the cache.
    fn answer<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.wait(self.limited(call))
    }

    /// A call has a deadline of its own. If nobody is there to keep that, since whoever should is on a thread that is
    /// blocked, this does.
    async fn limited<T, E: From<Error>>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let limit = self.cache.policy().call_deadline.saturating_add(PAST_DEADLINE);
        timeout(limit, call).await.unwrap_or_else(|_| Err(Error::DeadlinePassed.into()))
    }

    /// The value under `key`, loaded if memory and store do not have it. However many ask, one load is under way.
    ///
    /// The loader runs on a thread of its own, may outlive this call, and is called again for further attempts. One that
    /// panics fails its own load. One that hangs cannot be ended: its callers go at their deadlines, and its thread is lost
    /// until it returns.
    ///
    /// # Errors
    ///
    /// As [`Cache::get_or_load`](AsyncCache::get_or_load); [`Error::Overloaded`] also where no thread is left to load on.
    pub fn get_or_load<F>(&self, key: &str, load: F) -> Result<Fetched, Error>
    where
        F: Fn(LoadContext) -> Result<Loaded, LoadError> + Send + Sync + 'static,
    {
        if let Some(served) = self.cache.hit(key) {
            return Ok(Fetched::new(served, None).map(|value| value.bytes));
        }
        self.get_or_load_with(key, CallOptions::new(), load)
    }

    /// As [`Cache::get_or_load`], with wishes of its own.
    ///
    /// # Errors
    ///
    /// As [`Cache::get_or_load`].
    pub fn get_or_load_with<F>(&self, key: &str, options: CallOptions, load: F) -> Result<Fetched, Error>
    where
        F: Fn(LoadContext) -> Result<Loaded, LoadError> + Send + Sync + 'static,
    {
        let load = move |context: LoadContext<Payload>| {
            load(context.map(|value| Some(value.bytes))).map(|loaded| loaded.map(Payload::from))
        };
        let loader = self.loaders.loader(load, self.cache.shared_policy());
        let fetched = self.fetch(key, async { self.cache.load(key, loader, options).await.0 })?;
        Ok(fetched.map(|value| value.bytes))
    }

    /// See [`Cache::get`](AsyncCache::get).
    ///
    /// # Errors
    ///
    /// As there, and so for all that follow.
    pub fn get(&self, key: &str) -> Result<Option<Fetched>, Error> {
        if let Some(served) = self.cache.hit(key) {
            return Ok(Some(Fetched::new(served, None).map(|value| value.bytes)));
        }
        self.get_with(key, CallOptions::new())
    }

    /// As [`Cache::get`], with wishes of its own.
    ///
    /// # Errors
    ///
    /// As [`Cache::get`].
    pub fn get_with(&self, key: &str, options: CallOptions) -> Result<Option<Fetched>, Error> {
        self.fetch(key, self.cache.get_with(key, options))
    }

    /// See [`Cache::put`](AsyncCache::put).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn put(&self, key: &str, value: impl Into<Bytes>, windows: Option<Windows>) -> Result<Settled, Error> {
        self.answer(self.cache.put(key, value, windows))
    }

    /// See [`Cache::put_tagged`](AsyncCache::put_tagged).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn put_tagged(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        windows: Option<Windows>,
        tags: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Settled, Error> {
        self.answer(self.cache.put_tagged(key, value, windows, tags))
    }

    /// See [`Cache::remove`](AsyncCache::remove).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn remove(&self, key: &str) -> Result<Settled, Error> {
        self.answer(self.cache.remove(key))
    }

    /// See [`Cache::expire`](AsyncCache::expire).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn expire(&self, key: &str) -> Result<Settled, Error> {
        self.answer(self.cache.expire(key))
    }

    /// See [`Cache::invalidate_tag`](AsyncCache::invalidate_tag).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn invalidate_tag(&self, name: &str) -> Result<Settled, Error> {
        self.answer(self.cache.invalidate_tag(name))
    }

    /// See [`Cache::expire_tag`](AsyncCache::expire_tag).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn expire_tag(&self, name: &str) -> Result<Settled, Error> {
        self.answer(self.cache.expire_tag(name))
    }

    /// See [`Cache::clear`](AsyncCache::clear).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn clear(&self) -> Result<Settled, Error> {
        self.answer(self.cache.clear())
    }

    /// See [`Cache::stats`](AsyncCache::stats).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn stats(&self) -> Result<Report, Error> {
        self.answer(self.cache.stats())
    }

    /// See [`Cache::snapshot`](AsyncCache::snapshot).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn snapshot(&self) -> Result<Vec<u8>, Error> {
        self.answer(self.cache.snapshot())
    }

    /// See [`Cache::restore`](AsyncCache::restore).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn restore(&self, bytes: Vec<u8>, taken: Taken) -> Result<Restored, Error> {
        self.answer(self.cache.restore(bytes, taken))
    }

    /// See [`Cache::set_breaker_mode`](AsyncCache::set_breaker_mode).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_breaker_mode(&self, of: Dependency, mode: BreakerMode) -> Result<(), Error> {
        self.answer(self.cache.set_breaker_mode(of, mode))
    }

    /// See [`Cache::reset_breaker`](AsyncCache::reset_breaker).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn reset_breaker(&self, of: Dependency) -> Result<(), Error> {
        self.answer(self.cache.reset_breaker(of))
    }

    /// See [`Cache::take_removals`](AsyncCache::take_removals).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn take_removals(&self) -> Result<Vec<(Key, RemovalReason)>, Error> {
        self.answer(self.cache.take_removals())
    }

    /// Takes no more calls, lets flights that are under way end for up to five seconds, and closes the store, unless that is
    /// shared with other caches ([`Builder::shared_store`]); then waits for a second at most until loaders have returned. A
    /// second call does nothing. Says how many loaders have not returned: they hang, and end with the process.
    ///
    /// ```
    /// # fn main() -> Result<(), tideover::Error> {
    /// let cache = tideover::Cache::builder().build_blocking()?;
    /// cache.put("k", "v", None)?;
    /// assert_eq!(cache.shutdown(), 0);
    /// assert!(matches!(cache.get("k"), Err(tideover::Error::Closed)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn shutdown(&self) -> usize {
        self.wait(async {
            // A store that hangs, or that lives in a runtime which is blocked, does not hold up the end.
            let _closed_or_not = timeout(SHUTDOWN_LIMIT, self.cache.shutdown()).await;
            let _idle_or_not = timeout(LOADERS_LIMIT, self.loaders.idle()).await;
        });
        self.loaders.threads().busy
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("blocking::Cache")
            .field("cache", &self.cache)
            .field("loader_threads", &self.loaders.threads())
            .finish_non_exhaustive()
    }
}
