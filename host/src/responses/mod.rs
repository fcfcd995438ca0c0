//! Responses in a cache: what HTTP lets a shared cache do (RFC 9111), for the gateway and for the tower layer alike.
//!
//! `find` is the way of a request to a response, `load` the way of a response into the cache, `answer` what the client is
//! told; whoever answers what the cache cannot is behind the trait [`Upstream`]. The other modules are the rules of HTTP,
//! without I/O. What is decided about freshness, waiting and failing is decided by the machine, not here.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod cache_control;
pub(crate) mod cache_status;
mod carried;
mod conditional;
mod find;
pub(crate) mod freshness;
pub(crate) mod headers;
mod load;
#[cfg(any(feature = "gateway", feature = "axum"))]
pub(crate) mod report;
mod stored;
pub(crate) mod vary;

use std::future::Future;

use http::Response;
use http::header::HeaderMap;

use self::body::Body;
pub(crate) use self::find::{Asked, Found, Question, invalidates, past_the_cache};
use crate::cache::Cache;
use crate::loader::LoadError;

/// Who answers a request that the cache cannot answer: the origin behind a gateway, or the service inside a layer.
pub(crate) trait Upstream: Send + Sync + 'static {
    /// Whether responses may bear tags.
    const TAGS: bool = false;

    /// Asks it, with these headers in place of the client's, and waits for the head of the response.
    fn send(&self, headers: HeaderMap) -> impl Future<Output = Result<Response<Body>, LoadError>> + Send;

    /// The tags that the last response is to bear.
    fn tags(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What all requests through one gateway or layer share.
pub(crate) struct Responses {
    pub(crate) cache: Cache,
    /// Larger bodies pass through unstored.
    body_bytes_max: usize,
    carried: carried::Carried,
}

impl Responses {
    /// Bodies of more than `body_bytes_max` bytes are not kept, nor what is larger than the cache takes.
    pub(crate) fn new(cache: Cache, body_bytes_max: usize) -> Self {
        let body_bytes_max = body_bytes_max.min(cache.policy().value_bytes_max as usize);
        Self { cache, body_bytes_max, carried: carried::Carried::default() }
    }
}
