//! The way of a request through the layer: past the cache, or through it to the service.

use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Buf;
use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use tideover_core::Refusal;
use tower_service::Service;
use tracing::{Instrument as _, Span};

use super::body::{Body, BodyError};
use super::layer::{Settings, Shared};
use super::rule::{Rule, Tags};
use crate::error::Error;
use crate::loader::LoadError;
use crate::responses::answer::{failed, handed_over, not_stored, stored};
use crate::responses::body::{self, boxed};
use crate::responses::cache_status::{CacheStatus, Fwd};
use crate::responses::freshness::{Choices, RequestFacts};
use crate::responses::{Asked, Found, Question, Upstream, invalidates, past_the_cache};
use crate::writes::Invalidate;

/// A service behind a cache; made by [`CacheLayer`](super::CacheLayer).
///
/// - It is always ready: a hit needs no service. Whoever does need it waits for a clone of it to be ready.
/// - The error of the service reaches whoever asked it, untouched; those who waited for the same get a 503.
/// - Every response says in `Cache-Status` how it was found (RFC 9211), and one from the cache its `Age`. For layers outside
///   of this one, [`Fetched<()>`](crate::Fetched) or [`Error`] is among its extensions, as the case may be.
/// - A cache that is shut down, or whose engine broke, is as good as none: requests go past it.
///
/// The service is anything that answers `http::Request<B>` with `http::Response<R>` and can be cloned. The requests that it
/// gets on behalf of the cache have an empty body, so `B` has a default, as the bodies of axum, tonic and http-body-util do.
#[derive(Clone)]
pub struct CacheService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> CacheService<S> {
    pub(super) const fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

impl<S> fmt::Debug for CacheService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheService").field("cache", &self.shared.responses.cache).finish_non_exhaustive()
    }
}

impl<S, B, R> Service<Request<B>> for CacheService<S>
where
    S: Service<Request<B>, Response = Response<R>, Error: Send + 'static, Future: Send> + Clone + Send + 'static,
    B: HttpBody + Default + Send + 'static,
    R: HttpBody<Data: Buf, Error: Into<BodyError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (service, shared) = (self.inner.clone(), Arc::clone(&self.shared));
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let response = match shared.settings.consider(&parts, !body.is_end_stream()) {
                Course::Past(why) => pass(&shared, service, Request::from_parts(parts, body), why).await?,
                Course::Through(target, rule) => through::<S, B, R>(&shared, service, parts, &target, rule).await?,
            };
            Ok(response.map(Body::from))
        })
    }
}

/// What is to be done with a request.
enum Course {
    Past(CacheStatus),
    /// It is looked up: the name of its target, and its rule.
    Through(String, Rule),
}

impl Settings {
    fn consider(&self, request: &Parts, has_body: bool) -> Course {
        let bypass = |why| Course::Past(CacheStatus::fwd(Fwd::Bypass).detail(why));
        if let Some(why) = past_the_cache(&request.method, &request.headers, has_body) {
            return Course::Past(why);
        }
        if request.headers.contains_key(header::UPGRADE) {
            return bypass("upgrade");
        }
        let kept_from_others = |name| self.vary_on.contains(name) || self.strip.contains(name);
        if self.credentials.iter().any(|name| request.headers.contains_key(name) && !kept_from_others(name)) {
            return bypass("credentials");
        }
        let rule = self.rule.as_ref().map_or_else(Rule::new, |rule| rule(request));
        if rule.bypass {
            return bypass("rule");
        }
        match self.keys.target(request) {
            Some(target) => Course::Through(target, rule),
            None => bypass("no-key"),
        }
    }

    /// The headers that the service sees. What must not be read in keys is marked.
    fn seen(&self, mut headers: HeaderMap) -> HeaderMap {
        for name in &self.strip {
            headers.remove(name);
        }
        for name in &self.credentials {
            if let Some(value) = headers.get_mut(name) {
                value.set_sensitive(true);
            }
        }
        headers
    }
}

/// Answers from the cache, or through it from the service.
async fn through<S, B, R>(
    shared: &Arc<Shared>,
    service: S,
    mut parts: Parts,
    target: &str,
    rule: Rule,
) -> Result<Response<body::Body>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>, Error: Send + 'static, Future: Send> + Clone + Send + 'static,
    B: HttpBody + Default + Send + 'static,
    R: HttpBody<Data: Buf, Error: Into<BodyError>> + Send + 'static,
{
    let settings = &shared.settings;
    parts.headers = settings.seen(parts.headers);
    let key_bytes_max = shared.responses.cache.policy().key_bytes_max as usize;
    let key = |method| settings.keys.key(method, target, key_bytes_max);
    let Some(base) = key(&parts.method) else {
        let why = CacheStatus::fwd(Fwd::Bypass).detail("key-too-long");
        return pass(shared, service, Request::from_parts(parts, B::default()), why).await;
    };
    let Rule { bypass: _, windows, overrule, tags, options } = rule;
    let choices = Choices { windows: windows.or(settings.choices.windows), overrule, ..settings.choices.clone() };
    let question = Question {
        method: parts.method.clone(),
        headers: std::mem::take(&mut parts.headers),
        // Credentials were considered: they keep responses apart, or the service does not see them.
        facts: RequestFacts::of(&parts.method, &HeaderMap::new()),
        choices,
        get_key: if parts.method == Method::HEAD { key(&Method::GET) } else { None },
        key: base,
        varies_by: settings.vary_on.clone(),
        options,
    };
    let upstream = Inner {
        service: Mutex::new(service),
        parts,
        tags,
        span: Span::current(),
        told: Mutex::default(),
        request: PhantomData::<fn(B)>,
    };
    let asked = Arc::new(Asked { responses: Arc::clone(&shared.responses), upstream, question });
    let (found, Question { method, headers, .. }) = (asked.find().await, &asked.question);
    let mut response = match found {
        Found::Stored(response, fetched, hand) => {
            let mut response = stored(method, headers, response, &fetched, &hand);
            response.extensions_mut().insert(fetched);
            return Ok(response);
        }
        Found::Alone(hand) => return Ok(handed_over(hand)),
        Found::NotStored => return Ok(not_stored()),
        Found::Failed(error, hand) if !is_broken(&error) => match asked.upstream.error(&error) {
            Some(own) => return Err(own),
            None => {
                let mut response = failed(&error, hand, StatusCode::SERVICE_UNAVAILABLE);
                response.extensions_mut().insert(error);
                return Ok(response);
            }
        },
        Found::Failed(..) | Found::Unsettled => {
            let service = lock(&asked.upstream.service).clone();
            ask(service, asked.upstream.request(headers.clone())).await?
        }
    };
    CacheStatus::fwd(Fwd::Bypass).detail("no-cache-at-hand").append_to(response.headers_mut());
    Ok(response)
}

/// Whether the cache itself is what failed, so that one does better without it. Limits and failures of the service are
/// none of that.
fn is_broken(error: &Error) -> bool {
    match error {
        Error::Refused(refusal) => !matches!(refusal, Refusal::TooManyWaiters { .. } | Refusal::TooManyFlights { .. }),
        Error::Closed | Error::Abandoned | Error::Engine(_) => true,
        _ => false,
    }
}

/// Passes a request on, and its response back, without keeping anything. What an unsafe one has changed is invalidated.
async fn pass<S, B, R>(
    shared: &Shared,
    service: S,
    request: Request<B>,
    status: CacheStatus,
) -> Result<Response<body::Body>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: HttpBody<Data: Buf, Error: Into<BodyError>> + Send + 'static,
{
    let change = if request.method().is_safe() { None } else { Some(Change::of(&shared.settings, &request)) };
    let response = ask(service, request).await?;
    let (mut head, body) = response.into_parts();
    if let Some(change) = change
        && invalidates(&change.method, head.status)
    {
        change.invalidate(shared, &head).await;
    }
    status.append_to(&mut head.headers);
    head.extensions.remove::<Tags>();
    Ok(Response::from_parts(head, body))
}

/// A request that may change what is stored.
struct Change {
    method: Method,
    target: Option<String>,
    /// For who names tags.
    request: Option<Parts>,
}

impl Change {
    fn of<B>(settings: &Settings, request: &Request<B>) -> Self {
        let mut bare = Request::new(()).into_parts().0;
        bare.method = request.method().clone();
        bare.uri = request.uri().clone();
        bare.version = request.version();
        bare.headers = request.headers().clone();
        bare.extensions = request.extensions().clone();
        Self {
            method: bare.method.clone(),
            target: if settings.invalidate_target { settings.keys.target(&bare) } else { None },
            request: Some(bare).filter(|_| settings.invalidate_tags.is_some()),
        }
    }

    /// It goes on if nobody waits for it any more, and what finds too much under way is tried again; what fails is logged. A
    /// store that is away is told later.
    async fn invalidate(self, shared: &Shared, response: &http::response::Parts) {
        let (settings, cache) = (&shared.settings, &shared.responses.cache);
        let tags = match (&settings.invalidate_tags, &self.request) {
            (Some(tags), Some(request)) => tags(request, response),
            _ => Vec::new(),
        };
        let methods = self.target.iter().flat_map(|target| [(Method::GET, target), (Method::HEAD, target)]);
        // A key that is too long was never stored.
        let max = cache.policy().key_bytes_max as usize;
        let keys = methods.filter_map(|(method, target)| settings.keys.key(&method, target, max));
        let _logged = cache.invalidate_now(Invalidate::new().keys(keys).tags(tags)).await;
    }
}

/// Asks the service once it is ready.
async fn ask<S, B, R>(mut service: S, request: Request<B>) -> Result<Response<body::Body>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: HttpBody<Data: Buf, Error: Into<BodyError>> + Send + 'static,
{
    poll_fn(|context| service.poll_ready(context)).await?;
    Ok(service.call(request).await?.map(boxed))
}

/// The service inside, asked for one target.
struct Inner<S, B, E> {
    service: Mutex<S>,
    /// Without headers.
    parts: Parts,
    tags: Vec<String>,
    /// That of the request: a load has a task of its own.
    span: Span,
    told: Mutex<Told<E>>,
    request: PhantomData<fn(B)>,
}

/// What the service has told last, beside its response.
struct Told<E> {
    error: Option<E>,
    tags: Vec<String>,
}

impl<E> Default for Told<E> {
    fn default() -> Self {
        Self { error: None, tags: Vec::new() }
    }
}

impl<S, B: Default, E> Inner<S, B, E> {
    fn request(&self, headers: HeaderMap) -> Request<B> {
        let mut parts = self.parts.clone();
        parts.headers = headers;
        Request::from_parts(parts, B::default())
    }

    /// The error of the service, if that is why there is none but an error for who asked.
    fn error(&self, error: &Error) -> Option<E> {
        if matches!(error, Error::Load(_)) { lock(&self.told).error.take() } else { None }
    }
}

impl<S, B, R> Upstream for Inner<S, B, S::Error>
where
    S: Service<Request<B>, Response = Response<R>, Error: Send + 'static, Future: Send> + Clone + Send + 'static,
    B: HttpBody + Default + Send + 'static,
    R: HttpBody<Data: Buf, Error: Into<BodyError>> + Send + 'static,
{
    const TAGS: bool = true;

    async fn send(&self, headers: HeaderMap) -> Result<Response<body::Body>, LoadError> {
        *lock(&self.told) = Told::default();
        let service = lock(&self.service).clone();
        let asked = ask(service, self.request(headers)).instrument(self.span.clone()).await;
        let mut told = lock(&self.told);
        match asked {
            Ok(mut response) => {
                told.tags = response.extensions_mut().remove::<Tags>().map(|tags| tags.0).unwrap_or_default();
                Ok(response)
            }
            Err(error) => {
                told.error = Some(error);
                Err(LoadError::unavailable("the service failed"))
            }
        }
    }

    fn tags(&self) -> Vec<String> {
        [&self.tags[..], &lock(&self.told).tags].concat()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
