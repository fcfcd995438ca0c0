//! The way of a request: past the cache, or through it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::body::{Body as _, Incoming};
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Version};
use tideover_core::Windows;

use super::body::paced;
use super::headers::{Received, add_via, forward};
use super::key::base_key;
use super::origin::OriginError;
use super::{Gateway, GatewayConfig};
use crate::cache::CallOptions;
use crate::loader::LoadError;
use crate::responses::answer::{failed, handed_over, not_stored, plain, stored};
use crate::responses::body::{Body, empty};
use crate::responses::cache_status::{CacheStatus, Fwd};
use crate::responses::freshness::{Choices, RequestFacts};
use crate::responses::headers::{remove_hop_by_hop, stamp};
use crate::responses::{Asked, Found, Question, Upstream, invalidates, past_the_cache};

/// A request as it came, and as it goes to the origin.
struct Inbound {
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
    let asked = Inbound { parts, forwarded };
    let response = match past_the_cache(&asked.parts.method, &asked.parts.headers, !body.is_end_stream()) {
        Some(why) => pass(&gateway, asked, paced(body, gateway.config.client_pause_max), why).await,
        None => cached(&gateway, asked).await,
    };
    gateway.seen.count(&response);
    Ok(response)
}

/// Passes a request on, and its response back, without keeping anything. A successful unsafe method invalidates what
/// is stored for its target (RFC 9111 section 4.4).
async fn pass(gateway: &Arc<Gateway>, asked: Inbound, body: Body, status: CacheStatus) -> Response<Body> {
    let Inbound { parts, forwarded } = asked;
    let target = parts.uri.path_and_query();
    // A key that is too long was never stored.
    let key_bytes_max = gateway.cache().policy().key_bytes_max as usize;
    let keys = [Method::GET, Method::HEAD].map(|method| base_key(&method, &parts.uri, &forwarded, key_bytes_max));
    let sent = gateway.origin.send(parts.method.clone(), target, forwarded, body).await;
    let mut response = match sent {
        Ok(response) => response,
        Err(error) => return unanswered(&error, status),
    };
    if invalidates(&parts.method, response.status()) {
        let _logged = gateway.cache().remove_many(keys.into_iter().flatten()).await;
    }
    received(&mut response);
    status.append_to(response.headers_mut());
    response
}

/// Answers from the cache, or through it from the origin.
async fn cached(gateway: &Arc<Gateway>, asked: Inbound) -> Response<Body> {
    let key_bytes_max = gateway.cache().policy().key_bytes_max as usize;
    let key = |method| base_key(method, &asked.parts.uri, &asked.forwarded, key_bytes_max);
    let Ok(base) = key(&asked.parts.method) else {
        return pass(gateway, asked, empty(), CacheStatus::fwd(Fwd::Bypass).detail("key-too-long")).await;
    };
    let Parts { method, uri, .. } = &asked.parts;
    let through = Asked {
        responses: Arc::clone(&gateway.responses),
        upstream: OfTarget {
            gateway: Arc::clone(gateway),
            method: method.clone(),
            target: uri.path_and_query().cloned(),
        },
        question: Question {
            facts: RequestFacts::of(method, &asked.forwarded),
            choices: choices(&gateway.config),
            get_key: if method == Method::HEAD { key(&Method::GET).ok() } else { None },
            key: base,
            method: method.clone(),
            headers: asked.forwarded.clone(),
            varies_by: Vec::new(),
            options: CallOptions::new(),
        },
    };
    match Arc::new(through).find().await {
        Found::Stored(response, fetched, hand) => stored(method, &asked.parts.headers, response, &fetched, &hand),
        Found::Alone(hand) => handed_over(hand),
        Found::NotStored => not_stored(),
        Found::Failed(error, hand) => failed(&error, hand, StatusCode::BAD_GATEWAY),
        Found::Unsettled => pass(gateway, asked, empty(), CacheStatus::fwd(Fwd::Bypass).detail("unsettled")).await,
    }
}

fn choices(config: &GatewayConfig) -> Choices {
    let windows = config.ttl.map(|ttl| Windows {
        ttl: Some(ttl),
        stale_while_revalidate: config.stale_while_revalidate,
        stale_if_error: config.stale_if_error,
        ..Windows::FOREVER
    });
    Choices { windows, overrule: false, statuses: None, public_cookies: true }
}

/// The origin, asked for one target.
struct OfTarget {
    gateway: Arc<Gateway>,
    method: Method,
    target: Option<PathAndQuery>,
}

impl Upstream for OfTarget {
    async fn send(&self, headers: HeaderMap) -> Result<Response<Body>, LoadError> {
        let sent = self.gateway.origin.send(self.method.clone(), self.target.as_ref(), headers, empty());
        let mut response = sent.await?;
        received(&mut response);
        Ok(response)
    }
}

/// Makes the headers of a response from the origin those of a response of ours.
fn received(response: &mut Response<Body>) {
    let version = response.version();
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    stamp(headers, SystemTime::now());
    remove_hop_by_hop(headers);
    add_via(headers, version);
}

fn unanswered(error: &OriginError, status: CacheStatus) -> Response<Body> {
    let mut response = match error {
        OriginError::Unreachable => plain(StatusCode::BAD_GATEWAY, "the origin cannot be reached\n"),
        OriginError::TimedOut(_) => plain(StatusCode::GATEWAY_TIMEOUT, "the origin did not answer in time\n"),
    };
    status.append_to(response.headers_mut());
    response
}
