//! What the client is told: a stored response and how it was found, or why there is none. RFC 9110, RFC 9211.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use tideover_core::{Class, Refusal, Source, Stale};

use super::body::{Body, empty, full};
use super::cache_status::{CacheStatus, Fwd};
use super::conditional::{is_not_modified, not_modified_headers};
use super::headers;
use super::load::Hand;
use super::stored::{Record, StoredResponse};
use crate::cache::Fetched;
use crate::error::Error;

/// A response that the cache keeps, for this client: 304 if it has it, no body if it wants none, and how it came here.
pub(crate) fn stored(
    method: &Method,
    request: &HeaderMap,
    response: StoredResponse,
    fetched: &Fetched<()>,
    hand: &Hand,
) -> Response<Body> {
    let status = cache_status(response.status, fetched, hand);
    let mut response = if is_not_modified(request, &response) {
        let mut short = Response::new(empty());
        *short.status_mut() = StatusCode::NOT_MODIFIED;
        *short.headers_mut() = not_modified_headers(&response.headers);
        short
    } else if method == Method::HEAD {
        let length = response.body.len();
        let mut short = StoredResponse { body: Bytes::new(), ..response }.into_http();
        // Without a body it may be the response to a HEAD, whose length nobody knows.
        if length > 0 {
            short.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
        }
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
fn cache_status(response: StatusCode, fetched: &Fetched<()>, hand: &Hand) -> CacheStatus {
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
    // What is in doubt is stale with lifetime left, which nobody is to take for freshness.
    if let Some(ttl) = fetched.ttl.filter(|ttl| fetched.stale.is_none() || fetched.age >= *ttl) {
        status = status.ttl(ttl, fetched.age);
    }
    if fetched.source == Source::Load && hand.stored {
        status = status.stored();
    }
    if fetched.collapsed { status.collapsed() } else { status }
}

/// A response that is for this request alone.
pub(crate) fn handed_over(hand: Hand) -> Response<Body> {
    let Some(mut response) = hand.response else {
        return plain(StatusCode::BAD_GATEWAY, "the response was lost\n");
    };
    let status = CacheStatus::fwd(if hand.was_stale { Fwd::Stale } else { Fwd::Miss });
    let status = hand.why.map_or(status, |why| status.detail(why));
    status.append_to(response.headers_mut());
    response
}

/// Nothing is stored, and the client wants nothing else (RFC 9111 section 5.2.1.7).
pub(crate) fn not_stored() -> Response<Body> {
    let mut response = plain(StatusCode::GATEWAY_TIMEOUT, "not in the cache\n");
    CacheStatus::fwd(Fwd::Miss).detail("only-if-cached").append_to(response.headers_mut());
    response
}

/// No response, and nothing stale that could stand in: the error page that came instead, if one did.
pub(crate) fn failed(error: &Error, hand: Hand, unreachable: StatusCode) -> Response<Body> {
    let status = CacheStatus::fwd(if hand.was_stale { Fwd::Stale } else { Fwd::Miss });
    let mut response = match (error, hand.response) {
        (Error::Load(_), Some(page)) => page,
        (Error::Load(load), None) => match Record::decode(load.detail().clone()) {
            Ok(Record::Response(page)) => page.into_http(),
            _ => refusal(error, unreachable),
        },
        _ => refusal(error, unreachable),
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

/// An error of the cache as HTTP says it: an answer that was not had is `unreachable`, as is fit for who asks. Nothing
/// that a loader said goes out: it may be of anybody's data.
pub(crate) fn refusal(error: &Error, unreachable: StatusCode) -> Response<Body> {
    match error {
        Error::Load(load) => match load.class() {
            Class::TimedOut => plain(StatusCode::GATEWAY_TIMEOUT, "no answer came in time\n"),
            Class::Unavailable => asking_again(unreachable, "no answer can be had\n", error.retry_after()),
            _ => plain(StatusCode::INTERNAL_SERVER_ERROR, "the answer was an error\n"),
        },
        Error::Absent { .. } => plain(StatusCode::NOT_FOUND, "there is no such thing\n"),
        Error::Remembered { retry_after, .. } => unavailable("it has just failed\n", Some(*retry_after)),
        Error::Open { retry_after } => unavailable("it is given a rest after failing\n", *retry_after),
        Error::DeadlinePassed => plain(StatusCode::GATEWAY_TIMEOUT, "no answer came in time\n"),
        Error::Overloaded | Error::Refused(Refusal::TooManyWaiters { .. } | Refusal::TooManyFlights { .. }) => {
            unavailable("too many requests at once\n", Some(Duration::from_secs(1)))
        }
        Error::Abandoned | Error::Closed | Error::Engine(_) => {
            unavailable("the cache is not ready\n", Some(Duration::from_secs(1)))
        }
        _ => plain(StatusCode::INTERNAL_SERVER_ERROR, "the cache refused\n"),
    }
}

fn unavailable(text: &'static str, wait: Option<Duration>) -> Response<Body> {
    asking_again(StatusCode::SERVICE_UNAVAILABLE, text, wait)
}

fn asking_again(status: StatusCode, text: &'static str, wait: Option<Duration>) -> Response<Body> {
    let mut response = plain(status, text);
    if let Some(wait) = wait {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}

/// A response of the cache's own. It is never to be kept by anybody.
pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = own("text/plain; charset=utf-8", text);
    *response.status_mut() = status;
    response
}

/// As [`plain`], with other content.
pub(crate) fn own(kind: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
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
