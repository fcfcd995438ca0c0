//! Values of one type, for threads. What is encoded and decoded, and how, is decided by the typed cache for asynchronous
//! code.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Cache;
use crate::cache::{CallOptions, Fetched};
use crate::codec::Codec;
use crate::engine::Payload;
use crate::error::Error;
use crate::loader::{LoadContext, Loaded};
use crate::typed::{Cacheable, CallError, Typed as AsyncTyped};
use crate::{Class, Settled, Windows};

/// A cache of values of one type whose calls wait on the thread that makes them. Cheap to clone; made by [`Cache::typed`],
/// or by [`Typed::blocking`](AsyncTyped::blocking) from one that asynchronous code uses.
///
/// ```
/// use tideover::{Cache, CallError, Class};
///
/// #[derive(Debug, PartialEq)]
/// enum DbError {
///     NoSuchUser,
///     Disconnected,
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let names = Cache::builder().build_blocking()?.typed::<String>().classify(|error: &DbError| match error {
///     DbError::NoSuchUser => Class::Answer,
///     DbError::Disconnected => Class::Unavailable,
/// });
///
/// let ada = names.get_or_load("user:7", |_| Ok::<_, DbError>("Ada".to_owned())).expect("she is there");
/// assert_eq!(*ada.value, "Ada");
///
/// let nobody = names.get_or_load("user:8", |_| Err::<String, _>(DbError::NoSuchUser));
/// assert!(matches!(nobody, Err(CallError::Loader(error)) if *error == DbError::NoSuchUser));
/// # Ok(())
/// # }
/// ```
pub struct Typed<V> {
    cache: Cache,
    typed: AsyncTyped<V>,
}

impl<V> Clone for Typed<V> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), typed: self.typed.clone() }
    }
}

impl<V> fmt::Debug for Typed<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("blocking::Typed").field("typed", &self.typed).finish_non_exhaustive()
    }
}

impl<V: Cacheable> AsyncTyped<V> {
    /// This cache for threads, with its codec and classes; see [`Cache::blocking`](crate::Cache::blocking).
    ///
    /// # Errors
    ///
    /// [`Error::Threads`] when no threads can be started.
    pub fn blocking(&self) -> Result<Typed<V>, Error> {
        Ok(Typed::over(self.cache().blocking()?, self.clone()))
    }
}

impl<V: Cacheable> Typed<V> {
    pub(crate) const fn over(cache: Cache, typed: AsyncTyped<V>) -> Self {
        Self { cache, typed }
    }

    /// See [`Typed::codec`](AsyncTyped::codec).
    #[must_use]
    pub fn codec(self, codec: Codec) -> Self {
        Self { typed: self.typed.codec(codec), ..self }
    }

    /// See [`Typed::loader`](AsyncTyped::loader).
    ///
    /// ```
    /// use tideover::{Cache, CallError, Error, LoadError};
    ///
    /// # fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().set("load_breaker_failures", "1")?.build_blocking()?;
    /// let (prices, names) = (cache.typed::<u32>().loader("prices"), cache.typed::<u32>().loader("names"));
    /// assert!(prices.get_or_load("price:7", |_| Err::<u32, _>(LoadError::unavailable("down"))).is_err());
    /// let refused = prices.get_or_load("price:8", |_| Ok::<_, LoadError>(42_u32));
    /// assert!(matches!(refused, Err(CallError::Cache(Error::Open { .. }))));
    /// assert!(names.get_or_load("name:7", |_| Ok::<_, LoadError>(7_u32)).is_ok(), "a circuit of its own");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn loader(self, name: &str) -> Self {
        Self { typed: self.typed.loader(name), ..self }
    }

    /// See [`Typed::classify`](AsyncTyped::classify).
    #[must_use]
    pub fn classify<E: 'static>(self, class: impl Fn(&E) -> Class + Send + Sync + 'static) -> Self {
        Self { typed: self.typed.classify(class), ..self }
    }

    /// See [`Typed::retry_after`](AsyncTyped::retry_after).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tideover::{Cache, CallError};
    ///
    /// #[derive(Debug, PartialEq)]
    /// struct Busy(u64);
    ///
    /// # fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().set("load_attempts", "2")?.build_blocking()?;
    /// let prices = cache.typed::<u32>().retry_after(|busy: &Busy| Some(Duration::from_millis(busy.0)));
    /// let price = prices.get_or_load("price:7", |context| if context.attempt == 1 { Err(Busy(50)) } else { Ok(42_u32) });
    /// assert_eq!(*price.expect("the second attempt succeeds").value, 42);
    /// // An hour is past the deadline: no second attempt is made.
    /// let busy = prices.get_or_load("price:8", |_| Err::<u32, _>(Busy(3_600_000)));
    /// assert!(matches!(busy, Err(CallError::Loader(error)) if *error == Busy(3_600_000)));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn retry_after<E: 'static>(self, wait: impl Fn(&E) -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self { typed: self.typed.retry_after(wait), ..self }
    }

    /// The cache behind it, for bytes and for values of other types.
    #[must_use]
    pub const fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The same for asynchronous code.
    #[must_use]
    pub const fn as_async(&self) -> &AsyncTyped<V> {
        &self.typed
    }

    /// The value under `key`, loaded if memory and store do not have it; see [`Typed::get_or_load`](AsyncTyped::get_or_load)
    /// for what is loaded, and [`Cache::get_or_load`] for where.
    ///
    /// # Errors
    ///
    /// As [`Typed::get_or_load`](AsyncTyped::get_or_load), and [`Error::Overloaded`] also where no thread is left to load
    /// on.
    pub fn get_or_load<L, E, F>(&self, key: &str, load: F) -> Result<Fetched<Arc<V>>, CallError<E>>
    where
        L: Into<Loaded<V>>,
        E: Send + Sync + 'static,
        F: Fn(LoadContext<Arc<V>>) -> Result<L, E> + Send + Sync + 'static,
    {
        if let Some(fetched) = self.typed.hit(key) {
            return Ok(fetched);
        }
        self.get_or_load_with(key, CallOptions::new(), load)
    }

    /// As [`get_or_load`](Self::get_or_load), with wishes of its own.
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load).
    pub fn get_or_load_with<L, E, F>(
        &self,
        key: &str,
        options: CallOptions,
        load: F,
    ) -> Result<Fetched<Arc<V>>, CallError<E>>
    where
        L: Into<Loaded<V>>,
        E: Send + Sync + 'static,
        F: Fn(LoadContext<Arc<V>>) -> Result<L, E> + Send + Sync + 'static,
    {
        self.get_or_load_lent::<L, V, E, F>(key, options, load)
    }

    /// As [`get_or_load_with`](Self::get_or_load_with), for loaders that bring what lends a `V`: an [`Arc`] of one, say.
    pub(crate) fn get_or_load_lent<L, B, E, F>(
        &self,
        key: &str,
        options: CallOptions,
        load: F,
    ) -> Result<Fetched<Arc<V>>, CallError<E>>
    where
        L: Into<Loaded<B>>,
        B: Borrow<V>,
        E: Send + Sync + 'static,
        F: Fn(LoadContext<Arc<V>>) -> Result<L, E> + Send + Sync + 'static,
    {
        let border = self.typed.border(options.windows);
        let load = move |context: LoadContext<Payload>| {
            let key = Arc::clone(&context.key);
            border.brought::<L, B, E>(&key, load(border.told(context)))
        };
        let loader = self.cache.loaders.loader(load, self.cache.as_async().shared_policy());
        self.cache.fetch(key, self.typed.fetch(key, options, loader))
    }

    /// See [`Typed::get`](AsyncTyped::get).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn get(&self, key: &str) -> Result<Option<Fetched<Arc<V>>>, Error> {
        if let Some(fetched) = self.typed.hit(key) {
            return Ok(Some(fetched));
        }
        self.get_with(key, CallOptions::new())
    }

    /// As [`get`](Self::get), with wishes of its own.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_with(&self, key: &str, options: CallOptions) -> Result<Option<Fetched<Arc<V>>>, Error> {
        self.cache.fetch(key, self.typed.get_with(key, options))
    }

    /// See [`Typed::put`](AsyncTyped::put).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn put(&self, key: &str, value: &V) -> Result<Settled, Error> {
        self.cache.answer(self.typed.put(key, value))
    }

    /// See [`Typed::put_with`](AsyncTyped::put_with).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn put_with(
        &self,
        key: &str,
        value: &V,
        windows: Option<Windows>,
        tags: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Settled, Error> {
        self.cache.answer(self.typed.put_with(key, value, windows, tags))
    }

    /// See [`Typed::remove`](AsyncTyped::remove).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn remove(&self, key: &str) -> Result<Settled, Error> {
        self.cache.remove(key)
    }
}
