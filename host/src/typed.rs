//! Values of one type: what is cached is encoded once, and decoded once, not at each hit.
//!
//! Nothing is decided here. A [`Typed`] hands bytes to the [`Cache`] behind it and keeps what they were decoded to beside
//! them.

mod error;
mod judging;

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tideover_core::{Class, LoaderId, Settled, Windows};

pub use self::error::CallError;
use self::judging::Judges;
use crate::cache::{Cache, CallOptions, Fetched};
use crate::codec::{Codec, CodecError};
use crate::engine::Payload;
use crate::error::Error;
use crate::loader::{LoadContext, LoadError, Loaded, Loader, Tags, boxed_payload};
use crate::observe::{Observed, Trouble};

/// What can be cached: whatever serde can write and read, and threads may share. Implemented for all such types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be cached",
    note = "what is cached implements `serde::Serialize` and `serde::Deserialize`, owns all that it has, and is `Send + Sync`"
)]
pub trait Cacheable: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cacheable for V {}

/// A cache of values of one type. Cheap to clone; made by [`Cache::typed`].
///
/// A loader's own error reaches its callers untouched ([`CallError::Loader`]). Whether it means that the origin is
/// unavailable, so that stale may stand in, is what [`classify`](Self::classify) says.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tideover::{Cache, CallError, Class, Source};
///
/// #[derive(Serialize, Deserialize)]
/// struct User {
///     name: String,
/// }
///
/// #[derive(Debug, PartialEq)]
/// enum DbError {
///     NoSuchUser,
///     Disconnected,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let users = Cache::builder().build()?.typed::<User>().classify(|error: &DbError| match error {
///     DbError::NoSuchUser => Class::Answer,
///     DbError::Disconnected => Class::Unavailable,
/// });
///
/// let load = |_| async { Ok::<_, DbError>(User { name: "Ada".into() }) };
/// let user = users.get_or_load("user:7", load).await.expect("she is there");
/// assert_eq!((&*user.value.name, user.source), ("Ada", Source::Load));
///
/// let nobody = users.get_or_load("user:8", |_| async { Err::<User, _>(DbError::NoSuchUser) }).await;
/// assert!(matches!(nobody, Err(CallError::Loader(error)) if *error == DbError::NoSuchUser));
/// # Ok(())
/// # }
/// ```
pub struct Typed<V> {
    cache: Cache,
    codec: Codec,
    judges: Judges,
    loader: LoaderId,
    /// `fn() -> V`: it holds none.
    values: PhantomData<fn() -> V>,
}

impl<V> Clone for Typed<V> {
    fn clone(&self) -> Self {
        let Self { cache, codec, judges, loader, values } = self;
        let (cache, codec, judges) = (cache.clone(), codec.clone(), judges.clone());
        Self { cache, codec, judges, loader: *loader, values: *values }
    }
}

impl<V> fmt::Debug for Typed<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = std::any::type_name::<V>();
        f.debug_struct("Typed").field("of", &of).field("codec", &self.codec).field("cache", &self.cache).finish()
    }
}

impl Cache {
    /// This cache for values of the type `V`, written as JSON; see [`Typed::codec`].
    ///
    /// Values of another type under the same keys are not told apart by the cache: they are decoded as `V` if they can be,
    /// and loaded anew if not. Keys that begin with the name of what they hold prevent that.
    #[must_use]
    pub fn typed<V: Cacheable>(&self) -> Typed<V> {
        self.remember_faces();
        let (cache, codec, judges) = (self.clone(), Codec::default(), Judges::default());
        Typed { cache, codec, judges, loader: LoaderId::UNNAMED, values: PhantomData }
    }
}

impl<V: Cacheable> Typed<V> {
    /// Written like this instead of as JSON.
    #[must_use]
    pub fn codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    /// Loads ask a circuit breaker of that name, so that this origin and the others do not close each other off. Calls may
    /// name another one ([`CallOptions::loader`]). See [`Cache::loader`].
    #[must_use]
    pub fn loader(self, name: &str) -> Self {
        Self { loader: self.cache.loader(name), ..self }
    }

    /// What an error of a loader says of its origin. [`Class::Unavailable`]: no answer could be had, so stale may stand in,
    /// another attempt may be made and the circuit breaker counts it. [`Class::Answer`]: the origin has answered ("not
    /// found", "forbidden"), which nothing stale ever masks. The last word on a type counts.
    ///
    /// [`LoadError`] and [`Error`] say themselves what they are. Errors of any other type about which nothing was said are
    /// [`Class::Unavailable`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use tideover::{Cache, CallError, CallOptions, LoadError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().stale_if_error(Duration::from_secs(3600)).build()?;
    /// let users = cache.typed::<String>();
    /// users.put("user:7", &"Ada".to_owned()).await?;
    /// cache.expire("user:7").await?;
    ///
    /// let down = |_| async { Err::<String, _>(LoadError::unavailable("down")) };
    /// assert!(users.get_or_load("user:7", down).await.expect("the old value stands in").is_stale());
    /// let anew = CallOptions::new().max_age(Duration::ZERO);
    /// let gone = |_| async { Err::<String, _>(LoadError::answer("no such user")) };
    /// let answer = users.get_or_load_with("user:7", anew, gone).await;
    /// assert!(matches!(answer, Err(CallError::Loader(error)) if error.to_string() == "no such user"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn classify<E: 'static>(self, class: impl Fn(&E) -> Class + Send + Sync + 'static) -> Self {
        Self { judges: self.judges.class(class), ..self }
    }

    /// After how long the origin asked to be asked again (`Retry-After`): `None`, the default, if an error does not say.
    /// The next attempt of the load waits at least that long, and is not made where that would be past the deadline; whoever
    /// gets the load's failure as an [`Error`] finds it in [`Error::retry_after`]. The last word on a type counts.
    ///
    /// [`LoadError`] and [`Error`] say it themselves.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tideover::Cache;
    /// use tokio::time::Instant;
    ///
    /// struct Busy(Duration);
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().set("load_attempts", "2")?.build()?;
    /// let prices = cache.typed::<u32>().retry_after(|busy: &Busy| Some(busy.0));
    ///
    /// let began = Instant::now();
    /// let price = prices.get_or_load("price:7", |context| async move {
    ///     if context.attempt == 1 { Err(Busy(Duration::from_secs(3))) } else { Ok(42_u32) }
    /// });
    /// assert_eq!(*price.await.ok().expect("the second attempt succeeds").value, 42);
    /// assert!(began.elapsed() >= Duration::from_secs(3));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn retry_after<E: 'static>(self, wait: impl Fn(&E) -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self { judges: self.judges.retry_after(wait), ..self }
    }

    /// Whose circuit its loads ask.
    pub(crate) const fn loader_id(&self) -> LoaderId {
        self.loader
    }

    /// The cache behind it, for bytes and for values of other types.
    #[must_use]
    pub const fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The value under `key`, loaded if memory and store do not have it. However many ask, one load is under way.
    ///
    /// The loader brings a `V`, or a [`Loaded`] that also says for how long it is good, which tags it bears, that there is
    /// no such thing, or that what was there before is still true. It may outlive this call, and is called again for
    /// further attempts.
    ///
    /// # Errors
    ///
    /// [`CallError::Loader`] with the loader's own error, shared by all who waited for it; everything else is
    /// [`CallError::Cache`], as for [`Cache::get_or_load`], and with [`Error::Codec`] for a value that the codec cannot
    /// keep exactly.
    pub async fn get_or_load<L, E, F, Fut>(&self, key: &str, load: F) -> Result<Fetched<Arc<V>>, CallError<E>>
    where
        L: Into<Loaded<V>>,
        E: Send + Sync + 'static,
        F: Fn(LoadContext<Arc<V>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
    {
        if let Some(fetched) = self.hit(key) {
            return Ok(fetched);
        }
        self.get_or_load_with(key, CallOptions::new(), load).await
    }

    /// A fresh value from memory that was decoded before.
    pub(crate) fn hit(&self, key: &str) -> Option<Fetched<Arc<V>>> {
        let served = self.cache.hit(key)?;
        let value = served.value.face::<V>()?;
        Some(Fetched::new(served, None).map(|_bytes| value))
    }

    /// As [`get_or_load`](Self::get_or_load), with wishes of its own.
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn get_or_load_with<L, E, F, Fut>(
        &self,
        key: &str,
        options: CallOptions,
        load: F,
    ) -> Result<Fetched<Arc<V>>, CallError<E>>
    where
        L: Into<Loaded<V>>,
        E: Send + Sync + 'static,
        F: Fn(LoadContext<Arc<V>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
    {
        self.fetch(key, options, self.boxed::<L, V, E, F, Fut>(load, options.windows)).await
    }

    /// As [`get_or_load_with`](Self::get_or_load_with), with a loader whose errors are those of an `E`.
    pub(crate) async fn fetch<E: Send + Sync + 'static>(
        &self,
        key: &str,
        options: CallOptions,
        loader: Loader,
    ) -> Result<Fetched<Arc<V>>, CallError<E>> {
        let options = options.or_loader(self.loader);
        let fetched = self.cache.load(key, Arc::clone(&loader), options).await.0?;
        let undecoded = match self.decoded(key, fetched) {
            Ok(fetched) => return Ok(fetched),
            Err(Fetched { instead_of: Some(error), .. }) => return Err(Error::Load(error).into()),
            Err(undecoded) => undecoded,
        };
        // Foreign bytes are a miss: whatever is no newer than these does not do. Ages from a store are whole milliseconds,
        // so what is younger than that is given some age first, and then nothing in the store does.
        const ROUNDING: Duration = Duration::from_millis(2);
        if undecoded.age < ROUNDING {
            tokio::time::sleep(ROUNDING).await;
        }
        let newer = undecoded.age.saturating_sub(ROUNDING);
        let options = options.max_age(options.max_age.map_or(newer, |own| own.min(newer)));
        let fetched = self.cache.load(key, loader, options).await.0?;
        self.decoded(key, fetched)
            .map_err(|undecoded| undecoded.instead_of.map_or(Error::Codec(undecoded.value), Error::Load).into())
    }

    /// The value under `key` if memory or store has it; see [`Cache::get`]. `None` if neither has it, if there is no such
    /// thing, or if what lies there is no `V`.
    ///
    /// # Errors
    ///
    /// As [`Cache::get`].
    pub async fn get(&self, key: &str) -> Result<Option<Fetched<Arc<V>>>, Error> {
        self.get_with(key, CallOptions::new()).await
    }

    /// As [`get`](Self::get), with wishes of its own.
    ///
    /// # Errors
    ///
    /// As [`Cache::get`].
    pub async fn get_with(&self, key: &str, options: CallOptions) -> Result<Option<Fetched<Arc<V>>>, Error> {
        let fetched = self.cache.look_up(key, options).await?;
        Ok(fetched.and_then(|fetched| self.decoded(key, fetched).ok()))
    }

    /// Keeps `value` under `key`, for the windows of the cache; see [`Cache::put`].
    ///
    /// # Errors
    ///
    /// As [`Cache::put`], and [`Error::Codec`] for a value that the codec cannot keep exactly.
    pub async fn put(&self, key: &str, value: &V) -> Result<Settled, Error> {
        self.put_with(key, value, None, [""; 0]).await
    }

    /// As [`put`](Self::put), for these windows and with these tags; see [`Cache::put_tagged`].
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub async fn put_with(
        &self,
        key: &str,
        value: &V,
        windows: Option<Windows>,
        tags: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Settled, Error> {
        self.cache.keep(key, self.payload(key, value)?, windows, Tags::named(tags)).await
    }

    /// `value` as it is kept under `key`.
    pub(crate) fn payload(&self, key: &str, value: &V) -> Result<Payload, Error> {
        Ok(encoded(&self.codec, key, value)?)
    }

    /// Removes `key`; see [`Cache::remove`].
    ///
    /// # Errors
    ///
    /// As [`Cache::remove`].
    pub async fn remove(&self, key: &str) -> Result<Settled, Error> {
        self.cache.remove(key).await
    }

    /// The loader as the cache takes it. It brings a `V`, or something that lends one.
    pub(crate) fn boxed<L, B, E, F, Fut>(&self, load: F, windows: Option<Windows>) -> Loader
    where
        L: Into<Loaded<B>>,
        B: Borrow<V>,
        E: Send + Sync + 'static,
        F: Fn(LoadContext<Arc<V>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
    {
        let border = self.border(windows);
        let load = move |context: LoadContext<Payload>| {
            let (border, key) = (border.clone(), Arc::clone(&context.key));
            load(border.told(context)).map(move |brought| border.brought::<L, B, E>(&key, brought))
        };
        boxed_payload(load, self.cache.shared_policy())
    }

    /// What loaders for these windows are told and bring crosses it.
    pub(crate) fn border(&self, windows: Option<Windows>) -> Border<V> {
        let (codec, judges, observed) = (self.codec.clone(), self.judges.clone(), self.cache.shared_observed());
        Border { codec, judges, observed, windows, values: PhantomData }
    }

    /// What was fetched, or with the reason instead of a value.
    fn decoded(&self, key: &str, fetched: Fetched<Payload>) -> Result<Fetched<Arc<V>>, Fetched<CodecError>> {
        match decode(&self.codec, key, &fetched.value) {
            Ok(value) => Ok(fetched.map(|_bytes| value)),
            Err(error) => {
                // The error itself may quote what it could not read.
                self.cache.observed().failed(Trouble::Undecodable, &std::any::type_name::<V>());
                Err(fetched.map(|_bytes| error))
            }
        }
    }
}

/// Between a loader's values and errors and those of the cache of bytes.
pub(crate) struct Border<V> {
    codec: Codec,
    judges: Judges,
    observed: Arc<Observed>,
    windows: Option<Windows>,
    values: PhantomData<fn() -> V>,
}

impl<V> Clone for Border<V> {
    fn clone(&self) -> Self {
        let Self { codec, judges, observed, windows, values } = self;
        let (codec, judges, observed) = (codec.clone(), judges.clone(), Arc::clone(observed));
        Self { codec, judges, observed, windows: *windows, values: *values }
    }
}

impl<V: Cacheable> Border<V> {
    /// What a loader is told, with the older value decoded.
    pub(crate) fn told(&self, context: LoadContext<Payload>) -> LoadContext<Arc<V>> {
        let key = Arc::clone(&context.key);
        context.map(|value| decode(&self.codec, &key, &value).ok())
    }

    /// What a loader brought, encoded, or its error, judged. A value that the codec cannot keep is no failure of the origin,
    /// which has answered; and it is an answer that nothing stale may mask, or nobody would hear of it.
    pub(crate) fn brought<L, B, E>(&self, key: &str, brought: Result<L, E>) -> Result<Loaded<Payload>, LoadError>
    where
        L: Into<Loaded<B>>,
        B: Borrow<V>,
        E: Send + Sync + 'static,
    {
        let loaded: Loaded<B> = match brought {
            Ok(loaded) => loaded.into(),
            Err(error) => return Err(self.judges.judge(error)),
        };
        let encode = |value: B| encoded::<V>(&self.codec, key, value.borrow());
        loaded.or_windows(self.windows).try_map(encode).map_err(|refusal| {
            self.observed.failed(Trouble::Unkept, &refusal);
            LoadError::answer(format!("the value cannot be kept: {refusal}")).owning(refusal)
        })
    }
}

/// The value as bytes, beside what it will be decoded to.
fn encoded<V: Cacheable>(codec: &Codec, key: &str, value: &V) -> Result<Payload, CodecError> {
    let (bytes, same) = codec.encode(key, value)?;
    Ok(match same {
        Some(same) => Payload::with_face(bytes, Arc::new(same)),
        None => Payload::from(bytes).with_room_for_face(),
    })
}

fn decode<V: Cacheable>(codec: &Codec, key: &str, value: &Payload) -> Result<Arc<V>, CodecError> {
    if let Some(value) = value.face() {
        return Ok(value);
    }
    let decoded = Arc::new(codec.decode(key, &value.bytes)?);
    value.remember_face(&decoded);
    Ok(decoded)
}
