//! The way of a response from the origin into the cache: what a load of the machine's means in HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hyper::header::{self, HeaderMap};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Response, StatusCode, Version};
use tideover_core::Windows;

use super::Gateway;
use super::body::{Body, Read, empty, full, read};
use super::conditional::{condition, refreshed};
use super::freshness::{Defaults, RequestFacts, Verdict, storable};
use super::headers::{add_via, date, delta_seconds, remove_hop_by_hop, stamp};
use super::stored::{Record, StoredResponse, Varies};
use super::vary::{Vary, variant_key};
use crate::cache::random_seed;
use crate::loader::{LoadContext, LoadError, Loaded};

/// How long it is remembered by which headers a target varies.
const VARIES_TTL: Duration = Duration::from_secs(24 * 3600);

/// The body of an error page is shared with everybody who waits up to this size; larger ones are left out.
const ERROR_BODY_MAX: usize = 64 * 1024;

/// Responses that may be on their way from a target to its variant, and for how long.
const CARRIED_MAX: usize = 256;
const CARRIED_FOR: Duration = Duration::from_secs(10);

/// A request as it goes to the origin, and where it is looked up.
pub(super) struct Ask {
    pub(super) gateway: Arc<Gateway>,
    pub(super) method: Method,
    pub(super) target: Option<PathAndQuery>,
    /// For the origin, without conditions.
    pub(super) headers: HeaderMap,
    pub(super) facts: RequestFacts,
    /// The key of the target.
    pub(super) base: String,
    /// How the key that is loaded continues the key of the target.
    pub(super) varies: Option<Varies>,
    /// What the load has for its own request alone.
    pub(super) handed: Handed,
}

/// What a load tells the request that led it, besides what goes into the cache.
#[derive(Default)]
pub(super) struct Handed(Mutex<Hand>);

#[derive(Default)]
pub(super) struct Hand {
    /// A response that is not for anybody else, its body perhaps still on its way.
    pub(super) response: Option<Response<Body>>,
    /// What the origin said.
    pub(super) status: Option<StatusCode>,
    /// Whether the response was stored.
    pub(super) stored: bool,
    /// Why it was not.
    pub(super) why: Option<&'static str>,
    /// Whether something stale was there to be refreshed.
    pub(super) was_stale: bool,
}

impl Handed {
    pub(super) fn take(&self) -> Hand {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with(&self, note: impl FnOnce(&mut Hand)) {
        note(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Responses that were loaded for a target before it was known that it varies: the load of the variant takes them
/// over instead of asking the origin again.
#[derive(Default)]
pub(super) struct Carried(Mutex<HashMap<String, (Loaded, Instant)>>);

impl Carried {
    fn put(&self, key: String, loaded: Loaded, now: Instant) {
        let mut carried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        carried.retain(|_, (_, since)| now.saturating_duration_since(*since) < CARRIED_FOR);
        if carried.len() < CARRIED_MAX {
            carried.insert(key, (loaded, now));
        }
    }

    fn take(&self, key: &str) -> Option<Loaded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key).map(|(loaded, _)| loaded)
    }
}

/// Loads what the machine asks for.
pub(super) async fn load(ask: Arc<Ask>, context: LoadContext) -> Result<Loaded, LoadError> {
    if let Some(loaded) = ask.gateway.carried.take(&context.key) {
        ask.handed.with(|hand| hand.stored = true);
        return Ok(loaded);
    }
    let previous = context.previous.and_then(|entry| match Record::decode(entry.value) {
        Ok(Record::Response(response)) => Some(response),
        _ => None,
    });
    ask.handed.with(|hand| hand.was_stale |= previous.is_some());
    if let Some(previous) = previous {
        let (response, delay) = ask.send(Some(&previous.headers)).await?;
        if response.status() != StatusCode::NOT_MODIFIED {
            return ask.receive(response, delay).await;
        }
        // A 304 about another response than ours says nothing: ask again without conditions.
        if let Some(headers) = refreshed(&previous.headers, response.headers()) {
            return ask.keep(StoredResponse { headers, ..previous }, delay);
        }
    }
    let (response, delay) = ask.send(None).await?;
    ask.receive(response, delay).await
}

impl Ask {
    /// Sends the request with conditions for what is stored; the response's headers are fit to be stored.
    async fn send(&self, stored: Option<&HeaderMap>) -> Result<(Response<Body>, Duration), LoadError> {
        let mut headers = self.headers.clone();
        condition(&mut headers, stored);
        let sent = Instant::now();
        let sending = self.gateway.origin.send(self.method.clone(), self.target.as_ref(), headers, empty());
        let mut response = sending.await?;
        let delay = sent.elapsed();
        received(&mut response, SystemTime::now());
        self.handed.with(|hand| hand.status = Some(response.status()));
        Ok((response, delay))
    }

    async fn receive(&self, response: Response<Body>, delay: Duration) -> Result<Loaded, LoadError> {
        let status = response.status();
        if status.is_server_error() {
            return Err(failure(response).await);
        }
        if let Verdict::Pass { why } = self.verdict(status, response.headers(), delay) {
            return Ok(self.hand_over(response, why.token()));
        }
        let body_bytes_max = self.gateway.config.body_bytes_max;
        if declared_length(response.headers()).is_some_and(|length| length > body_bytes_max as u64)
            && self.method != Method::HEAD
        {
            return Ok(self.hand_over(response, "too-large"));
        }
        let (parts, body) = response.into_parts();
        match read(body, body_bytes_max).await {
            Ok(Read::Whole(body)) => self.keep(StoredResponse { status, headers: parts.headers, body }, delay),
            Ok(Read::TooLarge(body)) => Ok(self.hand_over(Response::from_parts(parts, body), "too-large")),
            Err(error) => Err(LoadError::unavailable(format!("the response broke off: {error}"))),
        }
    }

    /// Keeps a complete response under the key it belongs to.
    fn keep(&self, response: StoredResponse, delay: Duration) -> Result<Loaded, LoadError> {
        let (windows, age) = match self.verdict(response.status, &response.headers, delay) {
            Verdict::Store { windows, age } => (windows, age),
            Verdict::Pass { why } => return Ok(self.hand_over(response.into_http(), why.token())),
        };
        let names = match Vary::of(&response.headers) {
            Vary::Names(names) => names,
            Vary::Any => return Ok(self.hand_over(response.into_http(), "vary-star")),
        };
        let known = self.varies.as_ref().map_or(&[][..], |varies| &varies.names);
        if names == known || names.is_empty() {
            self.handed.with(|hand| hand.stored = true);
            return Ok(Loaded::new(Record::Response(response).encode()).windows(windows).age(age));
        }
        let varies = Varies { names, generation: random_seed() };
        let key = variant_key(&self.base, &varies, &self.headers);
        let loaded = Loaded::new(Record::Response(response.clone()).encode()).windows(windows).age(age);
        self.gateway.carried.put(key, loaded, Instant::now());
        let ttl = Windows { ttl: Some(VARIES_TTL), ..Windows::FOREVER };
        let marker = Record::Varies(varies).encode();
        if self.varies.is_none() {
            return Ok(Loaded::new(marker).windows(ttl));
        }
        // The origin varies by other headers than before: the target learns that, and this key is of the past.
        let (gateway, base) = (Arc::clone(&self.gateway), self.base.clone());
        tokio::spawn(async move { gateway.cache.put(&base, marker, Some(ttl)).await });
        Ok(self.hand_over(response.into_http(), "vary-changed"))
    }

    /// The response is for the request that led the load alone.
    fn hand_over(&self, response: Response<Body>, why: &'static str) -> Loaded {
        self.handed.with(|hand| {
            hand.response = Some(response);
            hand.why = Some(why);
        });
        Loaded::new(Bytes::new()).private()
    }

    fn verdict(&self, status: StatusCode, response: &HeaderMap, delay: Duration) -> Verdict {
        let config = &self.gateway.config;
        let defaults = Defaults {
            ttl: config.ttl,
            stale_while_revalidate: config.stale_while_revalidate,
            stale_if_error: config.stale_if_error,
        };
        storable(&self.facts, status, response, &defaults, delay, SystemTime::now())
    }
}

/// Makes the headers of a response from the origin those of a response of ours.
pub(super) fn received(response: &mut Response<Body>, now: SystemTime) {
    let version = response.version();
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    stamp(headers, now);
    remove_hop_by_hop(headers);
    add_via(headers, version);
}

impl StoredResponse {
    /// The response to send.
    pub(super) fn into_http(self) -> Response<Body> {
        let mut response = Response::new(full(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// A 5xx as a failed load that carries the origin's page. The four that RFC 5861 section 4 names mean that no answer
/// was had; of those, 500 says so of this one target, and nothing of the others (nginx does not count it against an
/// upstream either). Any other is an answer.
async fn failure(response: Response<Body>) -> LoadError {
    let (parts, content) = response.into_parts();
    let status = parts.status;
    let content = match read(content, ERROR_BODY_MAX).await {
        Ok(Read::Whole(body)) => body,
        Ok(Read::TooLarge(_)) | Err(_) => Bytes::new(),
    };
    let mut headers = parts.headers;
    if content.is_empty() {
        headers.remove(header::CONTENT_LENGTH);
    }
    let wait = retry_after(&headers);
    let page = Record::Response(StoredResponse { status, headers, body: content }).encode();
    let message = format!("the origin answered {status}");
    let error = match status.as_u16() {
        500 => LoadError::isolated(message),
        502..=504 => LoadError::unavailable(message),
        _ => LoadError::answer(message),
    };
    let error = error.with_detail(page);
    wait.map_or(error.clone(), |wait| error.retry_after(wait))
}

/// `Retry-After`, as seconds or as a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| delta_seconds(value.as_bytes().trim_ascii()));
    seconds.or_else(|| date(headers, &header::RETRY_AFTER)?.duration_since(SystemTime::now()).ok())
}
