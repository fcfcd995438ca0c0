//! The way of a request: past the cache, or through it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tideover_core::{Source, Stale};

use super::Gateway;
use super::body::{Body, empty, full, paced};
use super::cache_control::CacheControl;
use super::cache_status::{CacheStatus, Fwd};
use super::conditional::{is_not_modified, not_modified_headers};
use super::freshness::RequestFacts;
use super::headers::{self, Received, forward};
use super::load::{Ask, Hand, Handed, load, received};
use super::origin::OriginError;
use super::stored::{Record, StoredResponse, Varies};
use super::vary::{base_key, variant_key};
use crate::cache::Fetched;
use crate::error::Error;

/// Lookups that one request may need: the target, its variant, and both again if they changed meanwhile.
const LOOKUPS_MAX: usize = 4;

/// A request as the gateway sees it.
struct Asked {
    parts: Parts,
    /// The headers for the origin.
    forwarded: HeaderMap,
}

/// Answers one request.
pub(super) async fn answer(
    gateway: Arc<Gateway>,
    request: Request<Incoming>,
    peer: IpAddr,
    admin: bool,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    if admin && parts.uri.path().starts_with("/-/") {
        return Ok(super::admin::answer(&gateway, &parts).await);
    }
    if parts.uri.path_and_query().is_some_and(|target| target.as_str().len() > gateway.config.url_bytes_max) {
        return Ok(plain(StatusCode::URI_TOO_LONG, "the URL is too long\n"));
    }
    if parts.method == Method::CONNECT {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "this is a gateway, not a tunnel\n"));
    }
    let mut forwarded = parts.headers.clone();
    let trusted = gateway.config.trust_forwarded;
    forward(&mut forwarded, &Received { uri: &parts.uri, version: parts.version, peer, trusted });
    let asked = Asked { parts, forwarded };
    let response = match past_the_cache(&asked, &body) {
        Some(why) => pass(&gateway, asked, paced(body, gateway.config.client_pause_max), why).await,
        None => cached(&gateway, asked).await,
    };
    gateway.seen.count(&response);
    Ok(response)
}

/// Why a request is none for a cache, if it is none.
fn past_the_cache(asked: &Asked, body: &Incoming) -> Option<CacheStatus> {
    let Parts { method, headers, .. } = &asked.parts;
    if method != Method::GET && method != Method::HEAD {
        return Some(CacheStatus::fwd(Fwd::Method));
    }
    if CacheControl::of(headers).no_store {
        return Some(CacheStatus::fwd(Fwd::Request).detail("no-store"));
    }
    if headers.contains_key(header::RANGE) {
        return Some(CacheStatus::fwd(Fwd::Bypass).detail("range"));
    }
    if !body.is_end_stream() {
        return Some(CacheStatus::fwd(Fwd::Bypass).detail("request-body"));
    }
    None
}

/// Passes a request on, and its response back, without keeping anything. A successful unsafe method invalidates what
/// is stored for its target (RFC 9111 section 4.4).
async fn pass(gateway: &Arc<Gateway>, asked: Asked, body: Body, status: CacheStatus) -> Response<Body> {
    let Asked { parts, forwarded } = asked;
    let target = parts.uri.path_and_query();
    let keys = [Method::GET, Method::HEAD].map(|method| base_key(&method, &parts.uri, &forwarded, usize::MAX));
    let sent = gateway.origin.send(parts.method.clone(), target, forwarded, body).await;
    let mut response = match sent {
        Ok(response) => response,
        Err(error) => return unanswered(&error, status),
    };
    let succeeded = response.status().is_success() || response.status().is_redirection();
    if !parts.method.is_safe() && succeeded {
        for key in keys.into_iter().flatten() {
            // A key that is too long was never stored.
            let _settled = gateway.cache.remove(&key).await;
        }
    }
    received(&mut response, now());
    status.append_to(response.headers_mut());
    response
}

/// Answers from the cache, or through it from the origin.
async fn cached(gateway: &Arc<Gateway>, asked: Asked) -> Response<Body> {
    let key_bytes_max = gateway.cache.policy().key_bytes_max as usize;
    let Ok(base) = base_key(&asked.parts.method, &asked.parts.uri, &asked.forwarded, key_bytes_max) else {
        return pass(gateway, asked, empty(), CacheStatus::fwd(Fwd::Bypass).detail("key-too-long")).await;
    };
    if asked.parts.method == Method::HEAD
        && let Some(response) = head_of_get(gateway, &asked, key_bytes_max).await
    {
        return response;
    }
    let only_if_cached = CacheControl::of(&asked.parts.headers).only_if_cached;
    let mut varies: Option<Varies> = None;
    for _ in 0..LOOKUPS_MAX {
        let key = varies.as_ref().map_or_else(|| base.clone(), |varies| variant_key(&base, varies, &asked.forwarded));
        let (ask, found) = look_up(gateway, &asked, &base, varies.take(), &key, only_if_cached).await;
        let hand = ask.handed.take();
        let fetched = match found {
            Ok(Some(fetched)) => fetched,
            Ok(None) => return plain(StatusCode::GATEWAY_TIMEOUT, "not in the cache\n"),
            Err(error) => return failed(&error, &hand),
        };
        if fetched.private {
            return handed_over(hand);
        }
        match Record::decode(fetched.value.clone()) {
            Ok(Record::Response(response)) => return stored(&asked.parts, response, &fetched, &hand),
            Ok(Record::Varies(found)) => varies = Some(found),
            Err(_corrupt) => {
                let _settled = gateway.cache.remove(&key).await;
            }
        }
    }
    pass(gateway, asked, empty(), CacheStatus::fwd(Fwd::Bypass).detail("unsettled")).await
}

/// One lookup. The second answer is `None` if nothing may be asked of the origin, and nothing is stored.
async fn look_up(
    gateway: &Arc<Gateway>,
    asked: &Asked,
    base: &str,
    varies: Option<Varies>,
    key: &str,
    only_if_cached: bool,
) -> (Arc<Ask>, Result<Option<Fetched>, Error>) {
    let ask = Arc::new(Ask {
        gateway: Arc::clone(gateway),
        method: asked.parts.method.clone(),
        target: asked.parts.uri.path_and_query().cloned(),
        headers: asked.forwarded.clone(),
        facts: RequestFacts::of(&asked.parts.method, &asked.forwarded),
        base: base.to_owned(),
        varies,
        handed: Handed::default(),
    });
    if only_if_cached {
        let found = gateway.cache.get(key).await;
        return (ask, found);
    }
    let loading = Arc::clone(&ask);
    let found = gateway.cache.get_or_load(key, move |context| load(Arc::clone(&loading), context)).await;
    (ask, found.map(Some))
}

/// The stored response to a GET, as the answer to a HEAD (RFC 9110 section 9.3.2).
async fn head_of_get(gateway: &Arc<Gateway>, asked: &Asked, key_bytes_max: usize) -> Option<Response<Body>> {
    let base = base_key(&Method::GET, &asked.parts.uri, &asked.forwarded, key_bytes_max).ok()?;
    let mut fetched = gateway.cache.get(&base).await.ok()??;
    if let Ok(Record::Varies(varies)) = Record::decode(fetched.value.clone()) {
        let key = variant_key(&base, &varies, &asked.forwarded);
        fetched = gateway.cache.get(&key).await.ok()??;
    }
    match Record::decode(fetched.value.clone()) {
        Ok(Record::Response(response)) if !fetched.is_stale() => {
            Some(stored(&asked.parts, response, &fetched, &Hand::default()))
        }
        _ => None,
    }
}

/// A response that the cache keeps, for this client: 304 if it has it, no body if it wants none, and how it came here.
fn stored(request: &Parts, response: StoredResponse, fetched: &Fetched, hand: &Hand) -> Response<Body> {
    let status = cache_status(response.status, fetched, hand);
    let mut response = if is_not_modified(&request.headers, &response) {
        let mut short = Response::new(empty());
        *short.status_mut() = StatusCode::NOT_MODIFIED;
        *short.headers_mut() = not_modified_headers(&response.headers);
        short
    } else if request.method == Method::HEAD {
        let length = response.body.len();
        let mut short = StoredResponse { body: bytes::Bytes::new(), ..response }.into_http();
        short.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
        *short.body_mut() = empty();
        short
    } else {
        response.into_http()
    };
    response.headers_mut().insert(header::AGE, headers::age(fetched.age));
    status.append_to(response.headers_mut());
    response
}

/// What to tell of how a stored response was found (RFC 9211).
fn cache_status(response: StatusCode, fetched: &Fetched, hand: &Hand) -> CacheStatus {
    let mut status = match (fetched.source, fetched.stale) {
        (_, Some(Stale::IfError)) => CacheStatus::fwd(Fwd::Stale).detail("stale-if-error"),
        (_, Some(Stale::WhileRevalidate)) => CacheStatus::hit().detail("stale-while-revalidate"),
        (Source::Load, None) => CacheStatus::fwd(if hand.was_stale { Fwd::Stale } else { Fwd::Miss }),
        (Source::Memory, None) => CacheStatus::hit().detail("memory"),
        (Source::Store, None) => CacheStatus::hit().detail("store"),
        (Source::Fallback, None) => CacheStatus::hit().detail("fallback"),
    };
    if fetched.stale != Some(Stale::WhileRevalidate)
        && let Some(origin) = hand.status.filter(|origin| *origin != response)
    {
        status = status.fwd_status(origin);
    }
    if let Some(ttl) = fetched.ttl {
        status = status.ttl(ttl, fetched.age);
    }
    if fetched.source == Source::Load && hand.stored {
        status = status.stored();
    }
    if fetched.collapsed { status.collapsed() } else { status }
}

/// A response that is for this request alone.
fn handed_over(hand: Hand) -> Response<Body> {
    let Some(mut response) = hand.response else {
        return plain(StatusCode::BAD_GATEWAY, "the response was lost\n");
    };
    let status = CacheStatus::fwd(if hand.was_stale { Fwd::Stale } else { Fwd::Miss });
    let status = hand.why.map_or(status, |why| status.detail(why));
    status.append_to(response.headers_mut());
    response
}

/// No response, and nothing stale that could stand in: the origin's own error page if there is one.
fn failed(error: &Error, hand: &Hand) -> Response<Body> {
    let status = CacheStatus::fwd(if hand.was_stale { Fwd::Stale } else { Fwd::Miss });
    let mut response = match error {
        Error::Load(load) => match Record::decode(load.detail().clone()) {
            Ok(Record::Response(page)) => page.into_http(),
            _ if load.class() == tideover_core::Class::TimedOut => {
                plain(StatusCode::GATEWAY_TIMEOUT, "the origin did not answer in time\n")
            }
            _ => plain(StatusCode::BAD_GATEWAY, "the origin cannot be reached\n"),
        },
        Error::Remembered { retry_after, .. } => unavailable("the origin has just failed\n", *retry_after),
        Error::Overloaded => unavailable("too many requests at once\n", Duration::from_secs(1)),
        Error::Open { retry_after } => unavailable("the origin is given a rest after failing\n", *retry_after),
        Error::DeadlinePassed => plain(StatusCode::GATEWAY_TIMEOUT, "the origin did not answer in time\n"),
        Error::Refused(_) => unavailable("too many requests at once\n", Duration::from_secs(1)),
        _ => unavailable("the gateway is not ready\n", Duration::from_secs(1)),
    };
    let detail = match error {
        Error::Open { .. } => "circuit-open",
        Error::DeadlinePassed => "deadline",
        Error::Refused(_) | Error::Overloaded => "limit",
        Error::Load(_) | Error::Remembered { .. } => "load-failed",
        _ => "engine",
    };
    status.detail(detail).append_to(response.headers_mut());
    response
}

fn unanswered(error: &OriginError, status: CacheStatus) -> Response<Body> {
    let mut response = match error {
        OriginError::Unreachable => plain(StatusCode::BAD_GATEWAY, "the origin cannot be reached\n"),
        OriginError::TimedOut(_) => plain(StatusCode::GATEWAY_TIMEOUT, "the origin did not answer in time\n"),
    };
    status.append_to(response.headers_mut());
    response
}

fn unavailable(text: &'static str, wait: Duration) -> Response<Body> {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, text);
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}

/// A response of the gateway's own. It is never to be kept by anybody.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn now() -> SystemTime {
    SystemTime::now()
}
