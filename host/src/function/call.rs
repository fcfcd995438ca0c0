//! One call of a cached function: what is in memory is served at once; else the call's wishes are gathered and it waits.

use std::sync::Arc;
use std::time::Duration;

use super::counts::{Count, Function};
use super::shape::Shape;
use crate::codec::Codec;
use crate::core::{Class, Windows};
use crate::error::Error;
use crate::{Cache, Cacheable, CallError, CallOptions, Fetched, LoadContext, Ttl, Typed, blocking};

/// What the option `cache` can name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no cache",
    note = "`cache = …` takes a `tideover::Cache`, a `tideover::blocking::Cache`, a `Typed` of one, or a reference to one"
)]
pub trait AsCache {
    /// The cache.
    ///
    /// # Errors
    ///
    /// Why there is none.
    fn as_cache(&self) -> Result<&Cache, Error>;

    /// The cache for functions without `async`.
    ///
    /// # Errors
    ///
    /// Why there is none.
    fn for_threads(&self) -> Result<blocking::Cache, Error> {
        self.as_cache()?.blocking()
    }
}

impl AsCache for Cache {
    fn as_cache(&self) -> Result<&Cache, Error> {
        Ok(self)
    }
}

impl<V: Cacheable> AsCache for Typed<V> {
    fn as_cache(&self) -> Result<&Cache, Error> {
        Ok(self.cache())
    }
}

impl AsCache for blocking::Cache {
    fn as_cache(&self) -> Result<&Cache, Error> {
        Ok(self.as_async())
    }

    fn for_threads(&self) -> Result<blocking::Cache, Error> {
        Ok(self.clone())
    }
}

impl<V: Cacheable> AsCache for blocking::Typed<V> {
    fn as_cache(&self) -> Result<&Cache, Error> {
        self.cache().as_cache()
    }

    fn for_threads(&self) -> Result<blocking::Cache, Error> {
        self.cache().for_threads()
    }
}

macro_rules! pointers {
    ($($pointer:ty,)+) => {
        $(impl<T: AsCache + ?Sized> AsCache for $pointer {
            fn as_cache(&self) -> Result<&Cache, Error> {
                T::as_cache(self)
            }

            fn for_threads(&self) -> Result<blocking::Cache, Error> {
                T::for_threads(self)
            }
        })+
    };
}

pointers! { &T, Arc<T>, }

/// The cache, to be held while the call waits.
///
/// # Errors
///
/// Why there is none.
pub fn cache_of(cache: &impl AsCache) -> Result<Cache, Error> {
    cache.as_cache().cloned()
}

/// A call that has begun.
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it was made")]
pub enum Begun<V> {
    /// Memory had something fresh.
    Hit(Fetched<Arc<V>>),
    /// It has to wait.
    Wait(Call<V>),
}

/// Begins a call. What is older than `max_age` does not do.
pub fn begin<V: Cacheable>(
    function: &'static Function,
    cache: &impl AsCache,
    key: String,
    max_age: Option<Duration>,
) -> Begun<V> {
    let cache = cache.as_cache();
    if let Ok(cache) = cache
        && let Some(served) = cache.hit(&key)
        && max_age.is_none_or(|max_age| served.age < max_age)
        && let Some(value) = served.value.face::<V>()
    {
        let fetched = Fetched::new(served, None).map(|_bytes| value);
        function.count(Count::Hits);
        return Begun::Hit(fetched);
    }
    let typed = cache.map(|cache| fits(cache, &key).then(|| cache.typed().loader(function.name())));
    let options = max_age.map_or(CallOptions::new(), |max_age| CallOptions::new().max_age(max_age));
    Begun::Wait(Call { function, typed, threads: None, key, options, absent_for: Duration::ZERO })
}

/// Whether there can be such a key. A function must not fail for an argument that it can do with.
fn fits(cache: &Cache, key: &str) -> bool {
    !key.is_empty() && cache.policy().check_key(key).is_ok()
}

/// A call that waits.
pub struct Call<V> {
    function: &'static Function,
    /// Nothing if there can be no such key.
    typed: Result<Option<Typed<V>>, Error>,
    /// Where the function runs if it blocks.
    threads: Option<blocking::Cache>,
    key: String,
    options: CallOptions,
    absent_for: Duration,
}

impl<V: Cacheable> Call<V> {
    /// What it loads is fresh for so long; zero never expires.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        self.windows(|windows| windows.ttl = Windows::fresh_for(ttl).ttl)
    }

    /// As [`ttl`](Self::ttl), for as long as the cache says.
    #[must_use]
    pub fn ttl_of(self, ttl: Ttl) -> Self {
        match &self.typed {
            Ok(Some(typed)) => {
                let length = typed.cache().ttl_of(ttl);
                self.ttl(length)
            }
            _ => self,
        }
    }

    /// How long after that stale is served while one refresh runs.
    #[must_use]
    pub fn stale_while_revalidate(self, window: Duration) -> Self {
        self.windows(|windows| windows.stale_while_revalidate = window)
    }

    /// How long after that stale stands in when the origin is unavailable.
    #[must_use]
    pub fn stale_if_error(self, window: Duration) -> Self {
        self.windows(|windows| windows.stale_if_error = window)
    }

    /// What an option does not say is as the cache has it.
    fn windows(self, change: impl FnOnce(&mut Windows)) -> Self {
        let Ok(Some(typed)) = &self.typed else { return self };
        let mut windows = self.options.windows.unwrap_or_else(|| typed.cache().policy().windows());
        change(&mut windows);
        Self { options: self.options.windows(windows), ..self }
    }

    /// It waits no longer.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { options: self.options.timeout(timeout), ..self }
    }

    /// It fails if it would have needed the shared store and that is away.
    #[must_use]
    pub fn require_store(self) -> Self {
        Self { options: self.options.require_store(), ..self }
    }

    /// How long it is remembered that there is no such thing.
    #[must_use]
    pub fn negative_ttl(self, absent_for: Duration) -> Self {
        Self { absent_for, ..self }
    }

    /// The function blocks, and runs on the threads of this cache.
    #[must_use]
    pub fn threads(self, cache: &impl AsCache) -> Self {
        match cache.for_threads() {
            Ok(threads) => Self { threads: Some(threads), ..self },
            Err(error) => Self { typed: Err(error), ..self },
        }
    }

    /// How values are written.
    #[must_use]
    pub fn codec(self, codec: Codec) -> Self {
        self.typed(|typed| typed.codec(codec))
    }

    /// What the function's own error says of the origin.
    #[must_use]
    pub fn class<E: 'static>(self, class: impl Fn(&E) -> Class + Send + Sync + 'static) -> Self {
        self.typed(|typed| typed.classify(class))
    }

    /// Whether the function's own error means that the origin is unavailable; else it is an answer.
    #[must_use]
    pub fn unavailable_if<E: 'static>(self, unavailable: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.class(move |error: &E| if unavailable(error) { Class::Unavailable } else { Class::Answer })
    }

    /// After how long the function's own error asks to be asked again.
    #[must_use]
    pub fn retry_after<E: 'static>(self, wait: impl Fn(&E) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.typed(|typed| typed.retry_after(wait))
    }

    fn typed(self, change: impl FnOnce(Typed<V>) -> Typed<V>) -> Self {
        Self { typed: self.typed.map(|typed| typed.map(change)), ..self }
    }

    /// Waits for what there is, or for what `load` brings to all who wait.
    pub async fn load<S, F, Fut>(self, load: F) -> S::Fetched
    where
        S: Shape<V>,
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = S> + Send + 'static,
    {
        let Self { function, typed, threads: _, key, options, absent_for } = self;
        let load = Arc::new(load);
        let answer = match typed {
            Err(error) => Some(Err(CallError::Cache(error))),
            Ok(None) => None,
            Ok(Some(typed)) => {
                let load = Arc::clone(&load);
                let counted = move |_: LoadContext<Arc<V>>| {
                    function.count(Count::Loads);
                    let load = Arc::clone(&load);
                    async move { load().await.loaded(absent_for) }
                };
                let loader = typed.boxed::<_, S::Lent, S::Error, _, _>(counted, options.windows);
                Some(typed.fetch::<S::Error>(&key, options, loader).await)
            }
        };
        match answer.and_then(|answer| answered::<V, S>(function, answer)) {
            Some(answer) => answer,
            None => {
                function.count(Count::Uncached);
                load().await.alone()
            }
        }
    }

    /// As [`load`](Self::load), for whoever waits without `async`. The function runs on a thread of its own, unless the
    /// cache cannot answer.
    pub fn load_blocking<S, F>(self, load: F) -> S::Fetched
    where
        S: Shape<V>,
        F: Fn() -> S + Send + Sync + 'static,
    {
        let Self { function, typed, threads, key, options, absent_for } = self;
        let load = Arc::new(load);
        let answer = match (typed, threads) {
            (Err(error), _) => Some(Err(CallError::Cache(error))),
            (Ok(Some(typed)), Some(threads)) => {
                let load = Arc::clone(&load);
                let counted = move |_: LoadContext<Arc<V>>| {
                    function.count(Count::Loads);
                    load().loaded(absent_for)
                };
                let typed = blocking::Typed::over(threads, typed);
                Some(typed.get_or_load_lent::<_, S::Lent, S::Error, _>(&key, options, counted))
            }
            (Ok(_), _) => None,
        };
        answer.and_then(|answer| answered::<V, S>(function, answer)).unwrap_or_else(|| {
            function.count(Count::Uncached);
            load().alone()
        })
    }
}

/// What the cache answered, counted; nothing if the function is to run.
fn answered<V, S: Shape<V>>(
    function: &Function,
    answer: Result<Fetched<Arc<V>>, CallError<S::Error>>,
) -> Option<S::Fetched> {
    let counts = Function::counts_of(&answer);
    let answer = S::answer(answer)?;
    counts.iter().for_each(|&what| function.count(what));
    Some(answer)
}
