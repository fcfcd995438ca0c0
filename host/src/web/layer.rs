//! The layer: every choice about which requests are answered from a cache, and how.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::HeaderName;
use http::request::Parts;
use tideover_core::Windows;
use tower_layer::Layer;

use super::key::KeyChoices;
use super::rule::Rule;
use super::service::CacheService;
use crate::cache::Cache;
use crate::responses::Responses;
use crate::responses::freshness::Choices;
use crate::responses::headers::CREDENTIALS;

/// Larger bodies pass through unstored, unless another limit is chosen.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Puts a [`Cache`] before a service; see [the module](super) for what it does without being told. Cheap to clone.
///
/// Several layers may share one cache: give each a [`namespace`](Self::namespace) where the same target means different
/// things. For the service behind it see [`CacheService`].
///
/// ```
/// use std::time::Duration;
/// use http::header;
/// use tideover::web::CacheLayer;
/// use tideover::{Cache, Windows};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::Error> {
/// let layer = CacheLayer::new(Cache::builder().build()?)
///     .windows(Windows {
///         ttl: Some(Duration::from_secs(60)),
///         stale_while_revalidate: Duration::from_secs(30),
///         stale_if_error: Duration::from_secs(3600),
///         keep: Duration::ZERO,
///     })
///     .vary_on([header::ACCEPT_LANGUAGE])
///     .strip([header::COOKIE])
///     .ignore_query(["utm_source", "utm_campaign"]);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CacheLayer {
    shared: Arc<Shared>,
}

/// What all services of a layer share.
pub(super) struct Shared {
    pub(super) responses: Arc<Responses>,
    pub(super) settings: Settings,
}

type RuleOf = Arc<dyn Fn(&Parts) -> Rule + Send + Sync>;
type TagsOf = Arc<dyn Fn(&Parts, &http::response::Parts) -> Vec<String> + Send + Sync>;

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) keys: KeyChoices,
    pub(super) choices: Choices,
    pub(super) rule: Option<RuleOf>,
    pub(super) vary_on: Vec<HeaderName>,
    pub(super) strip: Vec<HeaderName>,
    pub(super) credentials: Vec<HeaderName>,
    pub(super) body_bytes_max: usize,
    pub(super) invalidate_target: bool,
    pub(super) invalidate_tags: Option<TagsOf>,
}

impl CacheLayer {
    /// A layer over that cache, which may be used for other things, too.
    #[must_use]
    pub fn new(cache: Cache) -> Self {
        let settings = Settings {
            keys: KeyChoices::default(),
            choices: Choices {
                windows: None,
                overrule: false,
                statuses: Some(Arc::from([StatusCode::OK])),
                public_cookies: false,
            },
            rule: None,
            vary_on: Vec::new(),
            strip: Vec::new(),
            credentials: CREDENTIALS.to_vec(),
            body_bytes_max: BODY_BYTES_MAX,
            invalidate_target: true,
            invalidate_tags: None,
        };
        Self::made(cache, settings)
    }

    fn made(cache: Cache, settings: Settings) -> Self {
        let responses = Arc::new(Responses::new(cache, settings.body_bytes_max));
        Self { shared: Arc::new(Shared { responses, settings }) }
    }

    fn with(self, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.shared.settings.clone();
        set(&mut settings);
        Self::made(self.shared.responses.cache.clone(), settings)
    }

    /// The cache behind it.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.shared.responses.cache
    }

    /// Responses that have no freshness of their own are fresh for so long, with no stale windows; zero never expires.
    /// Default: they are not kept.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        self.windows(Windows::fresh_for(ttl))
    }

    /// Responses that have no freshness of their own are used for these windows. [`Windows::keep`] does not matter: what
    /// has a validator is kept for an hour to be refreshed. Default: they are not kept.
    #[must_use]
    pub fn windows(self, windows: Windows) -> Self {
        self.with(|settings| settings.choices.windows = Some(windows))
    }

    /// How each GET or HEAD that could be answered from the cache is treated.
    #[must_use]
    pub fn rule(self, rule: impl Fn(&Parts) -> Rule + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.rule = Some(Arc::new(rule)))
    }

    /// The only status codes that are stored; 206, 304 and 5xx never are. Default: 200.
    #[must_use]
    pub fn statuses(self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.with(|settings| settings.choices.statuses = Some(statuses.into_iter().collect()))
    }

    /// Larger bodies pass through whole, as they come, and are not stored. The cache's `value_bytes_max` holds beside it.
    /// Default: 4 MiB.
    #[must_use]
    pub fn body_bytes_max(self, bytes: usize) -> Self {
        self.with(|settings| settings.body_bytes_max = bytes)
    }

    /// All keys of this layer begin with that, so that other layers over the same cache have theirs. Default: nothing.
    #[must_use]
    pub fn namespace(self, name: impl Into<String>) -> Self {
        self.with(|settings| settings.keys.namespace = name.into())
    }

    /// Names the target of a request in place of host, path and query; `None` sends it past the cache. Two requests that
    /// get the same name get the same response, but for the method and the headers that keep responses apart.
    ///
    /// It is asked for requests of any method: an unsafe one invalidates what is stored under its target's name.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// # let cache = tideover::Cache::builder().build()?;
    /// // Tenants are told apart by a header, and nothing is kept of requests without one.
    /// let layer = tideover::web::CacheLayer::new(cache).key(|request| {
    ///     let tenant = request.headers.get("x-tenant")?.to_str().ok()?;
    ///     Some(format!("{tenant}{}", request.uri))
    /// });
    /// # let _ = layer;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn key(self, key: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.keys.own = Some(Arc::new(key)))
    }

    /// Requests for any host get the same responses. Only for services that build nothing from `Host`, `Forwarded`,
    /// `X-Forwarded-Host` or `X-Forwarded-Proto`: no links, no redirects, no tenants.
    #[must_use]
    pub fn any_host(self) -> Self {
        self.with(|settings| settings.keys.any_host = true)
    }

    /// The order of differently named query parameters does not matter.
    #[must_use]
    pub fn sort_query(self) -> Self {
        self.with(|settings| settings.keys.sort_query = true)
    }

    /// Query parameters of these names, as they are written in the URL, make no other response. The service still sees
    /// those of whoever was first.
    #[must_use]
    pub fn ignore_query(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(|settings| settings.keys.ignored.extend(names.into_iter().map(Into::into)))
    }

    /// Responses are kept apart by these request headers, whether or not the service names them in `Vary`. If credentials
    /// are among them, requests with those are answered from the cache, to each what is his; keys hold a digest of them.
    #[must_use]
    pub fn vary_on(self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.with(|settings| settings.vary_on.extend(names))
    }

    /// The service does not see these headers of requests that are answered from the cache, so no response can depend on
    /// them: cookies of analytics on a site whose pages are the same for everybody.
    #[must_use]
    pub fn strip(self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.with(|settings| settings.strip.extend(names))
    }

    /// Credentials come in these headers, too: requests with them go past the cache, as with the
    /// [usual ones](super#what-is-safe-without-being-asked-for).
    #[must_use]
    pub fn credentials(self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.with(|settings| settings.credentials.extend(names))
    }

    /// Whether an unsafe request (POST, PUT, DELETE, …) that succeeded removes what is stored for its own target, in all
    /// variants, before its response goes out (RFC 9111 section 4.4). Default: yes.
    #[must_use]
    pub fn invalidate_target(self, whether: bool) -> Self {
        self.with(|settings| settings.invalidate_target = whether)
    }

    /// Names tags that an unsafe request invalidates once it has succeeded (2xx or 3xx), before its response goes out.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// # let cache = tideover::Cache::builder().build()?;
    /// let layer = tideover::web::CacheLayer::new(cache).invalidate_tags(|request, _response| {
    ///     if request.uri.path().starts_with("/prices") { vec!["prices".into()] } else { vec![] }
    /// });
    /// # let _ = layer;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn invalidate_tags(
        self,
        tags: impl Fn(&Parts, &http::response::Parts) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.invalidate_tags = Some(Arc::new(tags)))
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = CacheService<S>;

    fn layer(&self, inner: S) -> CacheService<S> {
        CacheService::new(inner, Arc::clone(&self.shared))
    }
}

impl fmt::Debug for CacheLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer").field("cache", self.cache()).finish_non_exhaustive()
    }
}
