//! One entity in one declaration: the keys of its views, the tag that they all bear, and what its change invalidates.

mod template;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tideover_core::{Class, Settled, Windows};

pub use self::template::TemplateError;
use self::template::{Template, escaped};
use super::apply::Applied;
use super::invalidate::Invalidate;
use super::recache::Recache;
use super::transaction::invalidate;
use super::warm::Warming;
use crate::cache::{Cache, CallOptions, Fetched};
use crate::codec::Codec;
use crate::error::Error;
use crate::loader::{LoadContext, Loaded};
use crate::typed::{Cacheable, CallError, Typed};

/// An entity, of which several views may be cached: `user`, say, with a profile and settings. Cheap to clone; made by
/// [`Cache::resource`].
///
/// A view `profile` of the user 7 lies under `user:profile:7`, and what is loaded or put bears the tag `user:7`, so that a
/// change of the user reaches all views of it, in all processes. In an id `:` and `%` are written as `%3A` and `%25`: ids
/// never run into what stands beside them.
///
/// ```
/// use std::time::Duration;
/// use serde::{Deserialize, Serialize};
/// use tideover::{Cache, Error, Source};
///
/// #[derive(Serialize, Deserialize)]
/// struct Profile {
///     name: String,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let users = Cache::builder().build()?.resource("user", "user_id");
/// let profile = users.view::<Profile>("profile").ttl(Duration::from_secs(300)).tags(["profiles"])?;
/// let settings = users.view::<Vec<String>>("settings");
/// let theme = users.view_at::<String>("v2:user:{user_id}:theme")?;
/// assert_eq!(profile.key(&7), "user:profile:7");
///
/// let load = |_| async { Ok::<_, std::io::Error>(Profile { name: "Ada".into() }) };
/// assert_eq!(profile.get_or_load(&7, load).await?.value.name, "Ada");
/// settings.put(&7, &vec!["dark".into()]).await?;
/// theme.put(&7, &"dark".into()).await?;
///
/// // After the row of user 7 was written:
/// users.changed(&7).await;
/// assert!(settings.get(&7).await?.is_none() && theme.get(&7).await?.is_none());
/// assert_eq!(profile.get_or_load(&7, load).await?.source, Source::Load);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Resource {
    cache: Cache,
    entity: Arc<str>,
    id: Arc<str>,
    /// The keys of the views that were declared: as many as the program has.
    views: Arc<Mutex<Vec<Arc<Template>>>>,
}

impl Cache {
    /// The entity of that name, whose ids are called `id` in templates.
    #[must_use]
    pub fn resource(&self, entity: &str, id: &str) -> Resource {
        Resource { cache: self.clone(), entity: entity.into(), id: id.into(), views: Arc::default() }
    }
}

impl Resource {
    /// What is cached of the entity as `name`, under `ENTITY:NAME:ID`.
    #[must_use]
    pub fn view<V: Cacheable>(&self, name: &str) -> View<V> {
        self.declare(Template::ending_in_id(&format!("{}:{}:", self.entity, escaped(name))))
    }

    /// What is cached of the entity under a key of its own, such as `v2:user:{user_id}:profile`. `{{` and `}}` stand for
    /// braces.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] if the template does not name the id, or something else.
    pub fn view_at<V: Cacheable>(&self, template: &str) -> Result<View<V>, TemplateError> {
        let key = Template::parse(template, &self.id)?;
        if key.is_constant() {
            return Err(TemplateError::Constant { template: template.to_owned(), id: String::from(&*self.id) });
        }
        Ok(self.declare(key))
    }

    fn declare<V: Cacheable>(&self, key: Template) -> View<V> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let key = views.iter().find(|known| ***known == key).cloned().unwrap_or_else(|| {
            let key = Arc::new(key);
            views.push(Arc::clone(&key));
            key
        });
        drop(views);
        View { typed: self.cache.typed(), resource: self.clone(), key, tags: Arc::default(), windows: None }
    }

    /// The tag that everything about this one bears.
    #[must_use]
    pub fn tag(&self, id: &(impl fmt::Display + ?Sized)) -> String {
        format!("{}:{}", self.entity, escaped(id))
    }

    /// What a change of this one makes wrong: whatever bears its tag, and the keys of all views that were declared in this
    /// process, under which it may be remembered that there is no such thing.
    pub fn invalidation(&self, id: &(impl fmt::Display + ?Sized)) -> Invalidate {
        let escaped = escaped(id);
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        Invalidate::new().tag(self.tag(id)).keys(views.iter().map(|view| view.with(&escaped)))
    }

    /// This one has changed: its views are removed, at once or at the end of the
    /// [`transaction`](super::transaction()) around. To keep them for the stale windows, have
    /// [`invalidation`](Self::invalidation) expire.
    pub async fn changed(&self, id: &(impl fmt::Display + ?Sized + Sync)) -> Applied {
        self.changed_then(id, Recache::new()).await
    }

    /// As [`changed`](Self::changed), and recaches afterwards; [`View::reload`] is what that needs.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tideover::Cache;
    /// use tideover::writes::Recache;
    ///
    /// let users = Cache::builder().build()?.resource("user", "user_id");
    /// let name = users.view::<String>("name");
    /// name.put(&7, &"Ada".into()).await?;
    ///
    /// let reload = name.reload(&7, |_| async { Ok::<_, std::io::Error>("Grace".to_owned()) });
    /// users.changed_then(&7, Recache::new().with("name", reload).wait()).await;
    /// assert_eq!(*name.get(&7).await?.expect("it was reloaded").value, "Grace");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn changed_then(&self, id: &(impl fmt::Display + ?Sized + Sync), recache: Recache) -> Applied {
        invalidate(&self.cache, self.invalidation(id), recache).await
    }

    /// The cache that it lies in.
    #[must_use]
    pub const fn cache(&self) -> &Cache {
        &self.cache
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cache, entity, id, views: _ } = self;
        f.debug_struct("Resource").field("entity", entity).field("id", id).field("cache", cache).finish_non_exhaustive()
    }
}

/// One view of an entity, with values of the type `V`. Cheap to clone; made by [`Resource::view`].
pub struct View<V> {
    typed: Typed<V>,
    resource: Resource,
    key: Arc<Template>,
    tags: Arc<[Template]>,
    windows: Option<Windows>,
}

impl<V> Clone for View<V> {
    fn clone(&self) -> Self {
        let Self { typed, resource, key, tags, windows } = self;
        Self {
            typed: typed.clone(),
            resource: resource.clone(),
            key: Arc::clone(key),
            tags: Arc::clone(tags),
            windows: *windows,
        }
    }
}

impl<V: Cacheable> View<V> {
    /// Written like this instead of as JSON; see [`Typed::codec`].
    #[must_use]
    pub fn codec(self, codec: Codec) -> Self {
        Self { typed: self.typed.codec(codec), ..self }
    }

    /// Loads ask a circuit breaker of that name, so that the origin of this view and the others do not close each other off;
    /// see [`Typed::loader`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// use tideover::{Cache, CallError, Error, LoadError};
    ///
    /// let users = Cache::builder().set("load_breaker_failures", "1")?.build()?.resource("user", "user_id");
    /// let profile = users.view::<String>("profile").loader("profiles");
    /// let settings = users.view::<String>("settings").loader("settings");
    ///
    /// let down = |_| async { Err::<String, _>(LoadError::unavailable("no profiles today")) };
    /// assert!(profile.get_or_load(&7, down).await.is_err());
    /// // The circuit of the profiles is open; that of the settings is not.
    /// let refused = profile.get_or_load(&8, down).await;
    /// assert!(matches!(refused, Err(CallError::Cache(Error::Open { .. }))));
    /// let dark = |_| async { Ok::<_, LoadError>("dark".to_owned()) };
    /// assert_eq!(*settings.get_or_load(&7, dark).await.expect("it is asked").value, "dark");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn loader(self, name: &str) -> Self {
        Self { typed: self.typed.loader(name), ..self }
    }

    /// What an error of a loader says of its origin; see [`Typed::classify`].
    #[must_use]
    pub fn classify<E: 'static>(self, class: impl Fn(&E) -> Class + Send + Sync + 'static) -> Self {
        Self { typed: self.typed.classify(class), ..self }
    }

    /// After how long the origin asked to be asked again; see [`Typed::retry_after`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use tideover::Cache;
    /// use tokio::time::Instant;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let users = Cache::builder().set("load_attempts", "2")?.build()?.resource("user", "user_id");
    /// let name = users.view::<String>("name").retry_after(|wait: &Duration| Some(*wait));
    /// let began = Instant::now();
    /// let ada = name.get_or_load(&7, |context| async move {
    ///     if context.attempt == 1 { Err(Duration::from_secs(3)) } else { Ok("Ada".to_owned()) }
    /// });
    /// assert_eq!(*ada.await.expect("the second attempt succeeds").value, "Ada");
    /// assert!(began.elapsed() >= Duration::from_secs(3));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn retry_after<E: 'static>(self, wait: impl Fn(&E) -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self { typed: self.typed.retry_after(wait), ..self }
    }

    /// Kept for these windows, unless a loader or a call says for which; by default for those of the cache.
    #[must_use]
    pub fn windows(self, windows: Windows) -> Self {
        Self { windows: Some(windows), ..self }
    }

    /// Fresh for `ttl`, with no stale windows; zero never expires.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        self.windows(Windows::fresh_for(ttl))
    }

    /// It also bears these tags, which may name the id: `profiles`, `audit:{user_id}`.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] if one names something else.
    pub fn tags(self, templates: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, TemplateError> {
        let parsed = templates.into_iter().map(|template| Template::parse(template.as_ref(), &self.resource.id));
        let tags = self.tags.iter().cloned().map(Ok).chain(parsed).collect::<Result<_, _>>()?;
        Ok(Self { tags, ..self })
    }

    /// The key of this one.
    #[must_use]
    pub fn key(&self, id: &(impl fmt::Display + ?Sized)) -> String {
        self.key.with(&escaped(id))
    }

    /// The tags that this one bears.
    #[must_use]
    pub fn tags_of(&self, id: &(impl fmt::Display + ?Sized)) -> Vec<String> {
        let escaped = escaped(id);
        let own = self.tags.iter().map(|tag| tag.with(&escaped));
        std::iter::once(self.resource.tag(id)).chain(own).collect()
    }

    /// The view of this one, loaded if memory and store do not have it; see [`Typed::get_or_load`].
    ///
    /// # Errors
    ///
    /// As [`Typed::get_or_load`].
    pub async fn get_or_load<L, E, F, Fut>(
        &self,
        id: &(impl fmt::Display + ?Sized + Sync),
        load: F,
    ) -> Result<Fetched<Arc<V>>, CallError<E>>
    where
        L: Into<Loaded<V>> + 'static,
        E: Send + Sync + 'static,
        F: Fn(LoadContext<Arc<V>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
    {
        self.get_or_load_with(id, CallOptions::new(), load).await
    }

    /// As [`get_or_load`](Self::get_or_load), with wishes of its own.
    ///
    /// # Errors
    ///
    /// As [`Typed::get_or_load`].
    pub async fn get_or_load_with<L, E, F, Fut>(
        &self,
        id: &(impl fmt::Display + ?Sized + Sync),
        options: CallOptions,
        load: F,
    ) -> Result<Fetched<Arc<V>>, CallError<E>>
    where
        L: Into<Loaded<V>> + 'static,
        E: Send + Sync + 'static,
        F: Fn(LoadContext<Arc<V>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
    {
        let load = tagging(self.tags_of(id), load);
        self.typed.get_or_load_with(&self.key(id), options.or_windows(self.windows), load).await
    }

    /// [`get_or_load`](Self::get_or_load) as a call for a [`Recache`].
    ///
    /// # Errors
    ///
    /// As [`Typed::get_or_load`].
    pub fn reload<L, E, F, Fut>(
        &self,
        id: &(impl fmt::Display + ?Sized),
        load: F,
    ) -> BoxFuture<'static, Result<(), CallError<E>>>
    where
        L: Into<Loaded<V>> + 'static,
        E: Send + Sync + 'static,
        F: Fn(LoadContext<Arc<V>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
    {
        let (view, key, load) = (self.clone(), self.key(id), tagging(self.tags_of(id), load));
        let options = CallOptions::new().or_windows(self.windows);
        async move { view.typed.get_or_load_with(&key, options, load).await.map(drop) }.boxed()
    }

    /// The view of this one if memory or store has it; see [`Typed::get`].
    ///
    /// # Errors
    ///
    /// As [`Typed::get`].
    pub async fn get(&self, id: &(impl fmt::Display + ?Sized + Sync)) -> Result<Option<Fetched<Arc<V>>>, Error> {
        self.typed.get(&self.key(id)).await
    }

    /// Keeps the view of this one; see [`Typed::put_with`].
    ///
    /// # Errors
    ///
    /// As [`Typed::put`].
    pub async fn put(&self, id: &(impl fmt::Display + ?Sized + Sync), value: &V) -> Result<Settled, Error> {
        self.typed.put_with(&self.key(id), value, self.windows, self.tags_of(id)).await
    }

    /// Removes this view of this one; [`Resource::changed`] removes all of them.
    ///
    /// # Errors
    ///
    /// As [`Cache::remove`].
    pub async fn remove(&self, id: &(impl fmt::Display + ?Sized + Sync)) -> Result<Settled, Error> {
        self.typed.remove(&self.key(id)).await
    }

    /// The views of these are to be loaded before anybody asks for them; see [`Warming`].
    pub fn warm<I, L, E, F, Fut>(&self, ids: I, load: F) -> Warming
    where
        I: IntoIterator<Item: fmt::Display + Clone + Send + Sync + 'static, IntoIter: Send + 'static>,
        L: Into<Loaded<V>> + 'static,
        E: Send + Sync + 'static,
        F: Fn(I::Item) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
    {
        let (view, load) = (self.clone(), Arc::new(load));
        let pairs = ids.into_iter().map(move |id| {
            let load = Arc::clone(&load);
            let of = id.clone();
            (view.key(&id), tagging(view.tags_of(&id), move |_context| load(of.clone())))
        });
        self.typed.warm_each(pairs).options(CallOptions::new().or_windows(self.windows))
    }
}

/// The loader, whose values also bear these tags.
fn tagging<V, L, E, F, Fut>(
    tags: Vec<String>,
    load: F,
) -> impl Fn(LoadContext<Arc<V>>) -> BoxFuture<'static, Result<Loaded<V>, E>> + Send + Sync + 'static
where
    V: Cacheable,
    L: Into<Loaded<V>> + 'static,
    E: Send + Sync + 'static,
    F: Fn(LoadContext<Arc<V>>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<L, E>> + Send + 'static,
{
    let tags: Arc<[String]> = tags.into();
    move |context| {
        let tags = Arc::clone(&tags);
        load(context).map(move |loaded| loaded.map(|loaded| loaded.into().tags(tags.iter()))).boxed()
    }
}

impl<V> fmt::Debug for View<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { typed, resource, key, windows, .. } = self;
        let mut shown = f.debug_struct("View");
        shown.field("key", key).field("windows", windows).field("typed", typed);
        shown.field("resource", resource).finish_non_exhaustive()
    }
}
