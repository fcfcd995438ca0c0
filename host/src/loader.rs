//! What brings a value from the origin of truth.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tideover_core::{Class, Entry, LoadFailure, Policy, Refusal, Sharing, Tag, Windows};

use crate::engine::{Key, Payload};

/// A loader as the drivers hold it. A flight may outlive the caller that brought the loader, hence `'static`.
pub(crate) type Loader =
    Arc<dyn Fn(LoadContext<Payload>) -> BoxFuture<'static, Result<Loaded<Payload>, LoadError>> + Send + Sync>;

/// Boxes a loader of bytes.
pub(crate) fn boxed<F, Fut>(load: F, policy: Arc<Policy>) -> Loader
where
    F: Fn(LoadContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Loaded, LoadError>> + Send + 'static,
{
    boxed_payload(
        move |context| {
            load(context.map(|value| Some(value.bytes))).map(|loaded| loaded.map(|loaded| loaded.map(Payload::from)))
        },
        policy,
    )
}

/// Boxes a loader. A value past a limit of `policy` is for those who wait for it, and not kept.
pub(crate) fn boxed_payload<F, Fut>(load: F, policy: Arc<Policy>) -> Loader
where
    F: Fn(LoadContext<Payload>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Loaded<Payload>, LoadError>> + Send + 'static,
{
    Arc::new(move |context| {
        let policy = Arc::clone(&policy);
        load(context).map(move |loaded| loaded.map(|loaded| loaded.within(&policy))).boxed()
    })
}

/// The loader, whose values are for these windows unless it says for which.
pub(crate) fn lasting(loader: Loader, windows: Option<Windows>) -> Loader {
    if windows.is_none() {
        return loader;
    }
    Arc::new(move |context| loader(context).map(move |loaded| loaded.map(|loaded| loaded.or_windows(windows))).boxed())
}

/// The tags of a value on their way into the cache.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tags {
    tags: Vec<Tag>,
    /// Length of the longest name.
    longest: usize,
}

impl Tags {
    pub(crate) fn named(names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut named = Self::default();
        named.add(names);
        named
    }

    fn add(&mut self, names: impl IntoIterator<Item = impl AsRef<str>>) {
        for name in names {
            let name = name.as_ref();
            self.longest = self.longest.max(name.len());
            let tag = Tag::named(name);
            if !self.tags.contains(&tag) {
                self.tags.push(tag);
            }
        }
    }

    pub(crate) fn contains(&self, tag: Tag) -> bool {
        self.tags.contains(&tag)
    }

    /// Refuses what is past the limits.
    pub(crate) fn check(&self, policy: &Policy) -> Result<(), Refusal> {
        policy.check_tag(self.longest)?;
        policy.check_tags(self.tags.len())
    }

    pub(crate) fn on(self, value: Payload) -> Payload {
        value.tagged(self.tags)
    }
}

/// What a loader is told.
#[derive(Clone)]
#[non_exhaustive]
pub struct LoadContext<V = Bytes> {
    /// The key to load.
    pub key: Key,
    /// The first attempt is 1.
    pub attempt: u32,
    /// When this attempt is dropped and counted as timed out.
    pub deadline: tokio::time::Instant,
    /// An older value under this key, for conditional requests: if it is still true, [`Loaded::not_modified`] says so.
    pub previous: Option<Entry<V>>,
}

impl<V> LoadContext<V> {
    pub(crate) fn new(key: Key, attempt: u32, deadline: tokio::time::Instant, previous: Option<Entry<V>>) -> Self {
        Self { key, attempt, deadline, previous }
    }

    /// The same with the older value as something else, if it can be that.
    pub(crate) fn map<W>(self, value: impl FnOnce(V) -> Option<W>) -> LoadContext<W> {
        let Self { key, attempt, deadline, previous } = self;
        let previous = previous.and_then(|entry| {
            let Entry { value: older, windows, age, load_time, doubted } = entry;
            Some(Entry { value: value(older)?, windows, age, load_time, doubted })
        });
        LoadContext { key, attempt, deadline, previous }
    }
}

/// The older value is never shown.
impl<V> fmt::Debug for LoadContext<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadContext").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// What a loader brought: a value, the word that the one at hand is still true, or that there is no such thing; and for
/// how long and for whom it is good.
///
/// ```
/// use std::time::Duration;
/// use tideover::Loaded;
///
/// let page = Loaded::new("hello").ttl(Duration::from_secs(5)).tags(["greetings"]);
/// assert_eq!(page.value().unwrap(), "hello");
/// assert!(Loaded::<String>::absent().ttl(Duration::from_secs(5)).value().is_none());
/// ```
#[derive(Clone)]
pub struct Loaded<V = Bytes> {
    what: What<V>,
    age: Duration,
    windows: Option<Windows>,
}

#[derive(Clone)]
enum What<V> {
    Value { value: V, tags: Tags, sharing: Sharing },
    NotModified,
    Absent { ttl: Option<Duration>, tags: Tags },
}

impl Loaded {
    /// Bytes to be kept as long as the cache keeps values.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self::of(value.into())
    }
}

impl<V> Loaded<V> {
    /// A value to be kept as long as the cache keeps values.
    pub fn of(value: V) -> Self {
        Self::what(What::Value { value, tags: Tags::default(), sharing: Sharing::Store })
    }

    /// What [`LoadContext::previous`] holds is still true: its age starts anew. Its tags stay, and so do its
    /// windows unless others are given. Without a previous value the loader broke its contract, and the load counts as
    /// one that panicked.
    #[must_use]
    pub const fn not_modified() -> Self {
        Self::what(What::NotModified)
    }

    /// There is no such thing, which is remembered for the [`Policy::negative_ttl`] of the cache. Unlike
    /// [`LoadError::answer`] it is a success: callers get [`Error::Absent`](crate::Error::Absent).
    #[must_use]
    pub fn absent() -> Self {
        Self::what(What::Absent { ttl: None, tags: Tags::default() })
    }

    const fn what(what: What<V>) -> Self {
        Self { what, age: Duration::ZERO, windows: None }
    }

    /// Fresh for `ttl`, with no stale windows; zero never expires. That there is no such thing is remembered for `ttl`;
    /// zero forgets it at once.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        if let What::Absent { ttl: remembered, .. } = &mut self.what {
            *remembered = Some(ttl);
            return self;
        }
        self.windows(Windows::fresh_for(ttl))
    }

    /// To be used for these windows. Says nothing of an absence.
    #[must_use]
    pub fn windows(self, windows: Windows) -> Self {
        Self { windows: Some(windows), ..self }
    }

    /// Already this old.
    #[must_use]
    pub fn age(self, age: Duration) -> Self {
        Self { age, ..self }
    }

    /// The value also bears these tags: [`Cache::invalidate_tag`](crate::Cache::invalidate_tag) reaches it by any of
    /// them. A value with more than 64, or with a name longer than `key_bytes_max`, is for those who wait for it and
    /// not kept.
    ///
    /// That there is no such thing is forgotten when one of them is invalidated; with more than 4 it is not remembered.
    #[must_use]
    pub fn tags(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        if let What::Value { tags, .. } | What::Absent { tags, .. } = &mut self.what {
            tags.add(names);
        }
        self
    }

    /// The value is for everybody who waits for it now, and not to be kept.
    #[must_use]
    pub fn do_not_store(self) -> Self {
        self.shared(Sharing::Share)
    }

    /// The value is for the caller whose loader brought it, and nobody else.
    #[must_use]
    pub fn private(self) -> Self {
        self.shared(Sharing::Private)
    }

    fn shared(mut self, with: Sharing) -> Self {
        if let What::Value { sharing, .. } = &mut self.what {
            *sharing = with;
        }
        self
    }

    /// The value, if it is one.
    #[must_use]
    pub const fn value(&self) -> Option<&V> {
        match &self.what {
            What::Value { value, .. } => Some(value),
            What::NotModified | What::Absent { .. } => None,
        }
    }

    /// The same with the value as something else.
    pub(crate) fn map<W>(self, value: impl FnOnce(V) -> W) -> Loaded<W> {
        let mapped: Result<_, std::convert::Infallible> = self.try_map(|inner| Ok(value(inner)));
        let Ok(mapped) = mapped;
        mapped
    }

    /// As [`map`](Self::map), where that can fail.
    pub(crate) fn try_map<W, E>(self, value: impl FnOnce(V) -> Result<W, E>) -> Result<Loaded<W>, E> {
        let Self { what, age, windows } = self;
        let what = match what {
            What::Value { value: inner, tags, sharing } => What::Value { value: value(inner)?, tags, sharing },
            What::NotModified => What::NotModified,
            What::Absent { ttl, tags } => What::Absent { ttl, tags },
        };
        Ok(Loaded { what, age, windows })
    }

    /// For these windows, unless the loader has said for which.
    pub(crate) fn or_windows(self, windows: Option<Windows>) -> Self {
        Self { windows: self.windows.or(windows), ..self }
    }
}

impl Loaded<Payload> {
    fn within(self, policy: &Policy) -> Self {
        let fits = match &self.what {
            What::Value { value, tags, sharing: Sharing::Store } => {
                policy.check_value(value.bytes.len()).and_then(|()| tags.check(policy)).is_ok()
            }
            _ => true,
        };
        if fits { self } else { self.do_not_store() }
    }

    pub(crate) fn into_core(self) -> tideover_core::Loaded<Payload> {
        use tideover_core::Loaded;
        let Self { what, age, windows } = self;
        match what {
            What::Value { value, tags, sharing } => Loaded::Value { value: tags.on(value), age, windows, sharing },
            What::NotModified => Loaded::NotModified { age, windows },
            What::Absent { ttl, tags } => Loaded::absent(ttl, &tags.tags),
        }
    }
}

/// The value itself is never shown.
impl<V> fmt::Debug for Loaded<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, age, windows } = self;
        let mut shown = f.debug_struct("Loaded");
        match what {
            What::Value { value: _, tags, sharing } => shown.field("tags", &tags.tags).field("sharing", sharing),
            What::NotModified => shown.field("not_modified", &true),
            What::Absent { ttl, tags } => shown.field("absent_for", ttl).field("tags", &tags.tags),
        };
        shown.field("age", age).field("windows", windows).finish_non_exhaustive()
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::of(value)
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
    /// The error of the user's own loader, as it was.
    own: Option<Arc<dyn Any + Send + Sync>>,
}

/// See [`LoadError::no_thread`].
struct NoThread;

impl LoadError {
    /// No answer could be had: stale may stand in, another attempt may be made, the breaker counts it.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Unavailable, message)
    }

    /// No answer came in time; as [`LoadError::unavailable`].
    pub fn timed_out(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::TimedOut, message)
    }

    /// No answer was had for this key, but the origin lives (one record is broken, one shard is down): as
    /// [`LoadError::unavailable`], but the breaker does not count it, so that one bad key does not close the others off.
    pub fn isolated(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Isolated, message)
    }

    /// The origin answered, and the answer is an error ("not found"): passed on as it is.
    pub fn answer(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Answer, message)
    }

    /// There was no thread to load on, which says nothing of the origin.
    #[cfg(feature = "blocking")]
    pub(crate) fn no_thread() -> Self {
        Self::of_class(Class::Isolated).owning(NoThread)
    }

    /// Whether too much was to be loaded at once for this load to begin.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.is::<NoThread>())
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
                Class::Isolated => "this key cannot be loaded",
                Class::Panicked => "the loader panicked or broke its contract",
            },
        )
    }

    fn new(class: Class, message: impl Into<Cow<'static, str>>) -> Self {
        Self { class, retry_after: None, message: message.into(), detail: Bytes::new(), own: None }
    }

    /// The same of a loader that has errors of its own, which callers get as it was.
    pub(crate) fn owning<E: Send + Sync + 'static>(self, own: E) -> Self {
        Self { own: Some(Arc::new(own)), ..self }
    }

    /// The same as another kind of failure.
    pub(crate) fn failing(self, failure: LoadFailure) -> Self {
        let LoadFailure { class, retry_after } = failure;
        Self { class, retry_after, ..self }
    }

    /// The loader's own error, if it is of that type.
    pub(crate) fn own<E: Send + Sync + 'static>(&self) -> Option<Arc<E>> {
        self.own.clone().and_then(|own| own.downcast().ok())
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
