//! What brings a value from the origin of truth.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tideover_core::{Class, Entry, LoadFailure, Sharing, Windows};

use crate::engine::Key;

/// A loader as the drivers hold it. A flight may outlive the caller that brought the loader, hence `'static`.
pub(crate) type Loader = Arc<dyn Fn(LoadContext) -> BoxFuture<'static, Result<Loaded, LoadError>> + Send + Sync>;

/// Boxes a loader. A value of more than `value_bytes_max` bytes is for those who wait for it, and not kept.
pub(crate) fn boxed<F, Fut>(load: F, value_bytes_max: u32) -> Loader
where
    F: Fn(LoadContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Loaded, LoadError>> + Send + 'static,
{
    let bounded = move |loaded: Loaded| match loaded.sharing {
        Sharing::Store if loaded.value.len() > value_bytes_max as usize => loaded.do_not_store(),
        _ => loaded,
    };
    Arc::new(move |context| load(context).map(move |loaded| loaded.map(bounded)).boxed())
}

/// What a loader is told.
#[derive(Clone)]
#[non_exhaustive]
pub struct LoadContext {
    /// The key to load.
    pub key: Key,
    /// The first attempt is 1.
    pub attempt: u32,
    /// When this attempt is dropped and counted as timed out.
    pub deadline: tokio::time::Instant,
    /// A stale value under this key, for conditional requests.
    pub previous: Option<Entry<Bytes>>,
}

impl LoadContext {
    pub(crate) fn new(key: Key, attempt: u32, deadline: tokio::time::Instant, previous: Option<Entry<Bytes>>) -> Self {
        Self { key, attempt, deadline, previous }
    }
}

/// A loaded value, and for how long and for whom it is good.
///
/// ```
/// use std::time::Duration;
/// use tideover::Loaded;
///
/// let loaded = Loaded::new("hello").ttl(Duration::from_secs(5));
/// assert_eq!(loaded.value, "hello");
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The value.
    pub value: Bytes,
    /// Its age already on arrival; zero unless it came from a cache further up.
    pub age: Duration,
    /// For how long it may be used; `None` takes the cache's own windows.
    pub windows: Option<Windows>,
    /// Who may have it; by default everybody, from now on.
    pub sharing: Sharing,
}

impl Loaded {
    /// A value to be kept as long as the cache keeps values.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: value.into(), age: Duration::ZERO, windows: None, sharing: Sharing::Store }
    }

    /// Fresh for `ttl`, with no stale windows; zero never expires.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        let ttl = Some(ttl).filter(|ttl| !ttl.is_zero());
        Self { windows: Some(Windows { ttl, ..Windows::FOREVER }), ..self }
    }

    /// To be used for these windows.
    #[must_use]
    pub fn windows(self, windows: Windows) -> Self {
        Self { windows: Some(windows), ..self }
    }

    /// Already this old.
    #[must_use]
    pub fn age(self, age: Duration) -> Self {
        Self { age, ..self }
    }

    /// For everybody who waits for it now, and not to be kept.
    #[must_use]
    pub fn do_not_store(self) -> Self {
        Self { sharing: Sharing::Share, ..self }
    }

    /// For the caller whose loader brought it, and nobody else.
    #[must_use]
    pub fn private(self) -> Self {
        Self { sharing: Sharing::Private, ..self }
    }

    pub(crate) fn into_core(self) -> tideover_core::Loaded<Bytes> {
        let Self { value, age, windows, sharing } = self;
        tideover_core::Loaded { value, age, windows, sharing }
    }
}

impl<T: Into<Bytes>> From<T> for Loaded {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

/// Why a loader brought nothing. The class decides what the cache does about it.
///
/// ```
/// use tideover::LoadError;
///
/// let gone = LoadError::answer("no such user");
/// assert!(!gone.is_unavailable(), "an answer is never masked by something stale");
/// ```
#[derive(Clone)]
pub struct LoadError {
    class: Class,
    retry_after: Option<Duration>,
    message: Cow<'static, str>,
    detail: Bytes,
}

impl LoadError {
    /// No answer could be had: stale may stand in, another attempt may be made, the breaker counts it.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Unavailable, message)
    }

    /// No answer came in time; as [`LoadError::unavailable`].
    pub fn timed_out(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::TimedOut, message)
    }

    /// The origin answered, and the answer is an error ("not found"): passed on as it is.
    pub fn answer(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Answer, message)
    }

    pub(crate) fn panicked() -> Self {
        Self::of_class(Class::Panicked)
    }

    /// The error of a load about which only its class is known.
    pub(crate) fn of_class(class: Class) -> Self {
        Self::new(
            class,
            match class {
                Class::Unavailable => "the origin is unavailable",
                Class::TimedOut => "the load did not end by its deadline",
                Class::Answer => "the origin answered with an error",
                Class::Panicked => "the loader panicked",
            },
        )
    }

    fn new(class: Class, message: impl Into<Cow<'static, str>>) -> Self {
        Self { class, retry_after: None, message: message.into(), detail: Bytes::new() }
    }

    /// The origin asked to be asked again after so long.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Bytes that everybody who waits gets with the error, untouched: the body of an error page, say.
    #[must_use]
    pub fn with_detail(self, detail: Bytes) -> Self {
        Self { detail, ..self }
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn class(&self) -> Class {
        self.class
    }

    /// Whether no answer was had, so that stale may stand in.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        self.class.is_unavailable()
    }

    /// The bytes that came with the error.
    #[must_use]
    pub const fn detail(&self) -> &Bytes {
        &self.detail
    }

    pub(crate) fn failure(&self) -> LoadFailure {
        LoadFailure { class: self.class, retry_after: self.retry_after }
    }
}

/// The detail may be anybody's data and is not shown.
impl fmt::Debug for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadError").field("class", &self.class).field("message", &self.message).finish_non_exhaustive()
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LoadError {}
