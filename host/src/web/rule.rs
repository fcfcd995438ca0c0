//! What may be said of one request, and by a service of one response, beside what HTTP says.

use std::time::Duration;

use tideover_core::Windows;

use crate::cache::CallOptions;

/// How one request is treated; see [`CacheLayer::rule`](super::CacheLayer::rule).
///
/// ```
/// use std::time::Duration;
/// use tideover::web::{CacheLayer, Rule};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::Error> {
/// fn rule(path: &str) -> Rule {
///     match path {
///         "/me" => Rule::bypass(),
///         _ if path.starts_with("/prices") => Rule::new().ttl(Duration::from_secs(5)).tags(["prices"]),
///         _ => Rule::new(),
///     }
/// }
/// assert_eq!(rule("/"), Rule::default());
///
/// let cache = tideover::Cache::builder().build()?;
/// let layer = CacheLayer::new(cache).rule(|request| rule(request.uri.path()));
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Rule {
    pub(super) bypass: bool,
    pub(super) windows: Option<Windows>,
    pub(super) overrule: bool,
    pub(super) tags: Vec<String>,
    pub(super) options: CallOptions,
}

impl Rule {
    /// As the layer treats all requests.
    pub fn new() -> Self {
        Self::default()
    }

    /// The request goes past the cache.
    pub fn bypass() -> Self {
        Self { bypass: true, ..Self::default() }
    }

    /// A response that has no freshness of its own is used for these windows, instead of those of the layer.
    /// [`Windows::keep`] does not matter: what has a validator is kept for an hour to be refreshed.
    pub fn windows(self, windows: Windows) -> Self {
        Self { windows: Some(windows), ..self }
    }

    /// As [`windows`](Self::windows): fresh for `ttl`, with no stale windows; zero never expires.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.windows(Windows::fresh_for(ttl))
    }

    /// The windows of this rule, or of the layer, hold whatever freshness a response gives itself: `max-age`, `s-maxage`,
    /// `Expires`, `no-cache`, `must-revalidate`. `no-store` and `private` are obeyed all the same.
    ///
    /// The response is passed on with the `Cache-Control` that it came with.
    pub fn overrule(self) -> Self {
        Self { overrule: true, ..self }
    }

    /// What is stored bears these tags: [`Cache::invalidate_tag`](crate::Cache::invalidate_tag) reaches it. A service that
    /// knows better names [`Tags`] itself.
    pub fn tags(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tags.extend(names.into_iter().map(Into::into));
        self
    }

    /// What is older does not do, fresh or not: the request waits for a refresh.
    pub fn max_age(self, max_age: Duration) -> Self {
        Self { options: self.options.max_age(max_age), ..self }
    }

    /// The request waits no longer: stale stands in, or the answer is 504. `call_deadline` holds beside it.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { options: self.options.timeout(timeout), ..self }
    }
}

/// Names of tags that a response is to bear, put among its extensions by the service that made it. They join those of the
/// [`Rule`], and are gone once the response has passed the layer. To answer 304 is to answer anew: it names its tags again.
///
/// ```
/// use tideover::web::Tags;
///
/// let mut response = http::Response::new("Ada");
/// response.extensions_mut().insert(Tags::new(["user:7"]));
/// assert_eq!(response.extensions().get(), Some(&Tags::new(["user:7"])));
/// ```
///
/// In axum, `Extension(Tags::new(…))` beside the content does the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags(pub(super) Vec<String>);

impl Tags {
    /// These names.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}
