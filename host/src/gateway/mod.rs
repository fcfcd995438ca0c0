//! The HTTP gateway: a shared cache (RFC 9111) before one origin, with the policy of this crate behind it.
//!
//! `answer` is the way of a request; `origin` and `serve` are the two sides of the network; `admin` reports. What is
//! stored, for how long, and how it answers requests is the same as for the tower layer: see `responses`.

mod admin;
mod answer;
mod body;
mod headers;
mod key;
mod origin;
mod serve;

use std::sync::Arc;
use std::time::Duration;

use crate::cache::Cache;
use crate::responses::Responses;

pub use self::origin::{OriginUrl, OriginUrlError};
pub use self::serve::{Listening, ServeError, serve};

/// How a gateway treats requests and responses.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GatewayConfig {
    /// Freshness lifetime of responses that carry none of their own; `None`: they are not reused.
    pub ttl: Option<Duration>,
    /// How long such responses are served stale while a refresh runs. Default: zero.
    pub stale_while_revalidate: Duration,
    /// How long such responses stand in when the origin is unavailable. Default: zero.
    pub stale_if_error: Duration,
    /// Larger bodies pass through unstored. Default: 4 MiB.
    pub body_bytes_max: usize,
    /// Longer targets are refused with 414. Default: 8 KiB.
    pub url_bytes_max: usize,
    /// More headers are refused with 431. Default: 100.
    pub headers_max: usize,
    /// A client that takes longer to send its headers, or between two parts of its body, is dropped. Default: 10 s.
    pub client_pause_max: Duration,
    /// An origin that takes longer to answer, or between two parts of its answer, has failed. Default: 30 s.
    pub origin_pause_max: Duration,
    /// Making a connection to the origin takes no longer. Default: 2 s.
    pub origin_connect_max: Duration,
    /// Connections of clients at once; more wait to be accepted. Default: 10 000.
    pub connections_max: usize,
    /// How long requests may go on after the signal to stop. Default: 10 s.
    pub drain_max: Duration,
    /// Whether clients are proxies of ours, whose word on `X-Forwarded-*` counts. Default: no.
    pub trust_forwarded: bool,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            ttl: None,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            body_bytes_max: 4 * 1024 * 1024,
            url_bytes_max: 8 * 1024,
            headers_max: 100,
            client_pause_max: Duration::from_secs(10),
            origin_pause_max: Duration::from_secs(30),
            origin_connect_max: Duration::from_secs(2),
            connections_max: 10_000,
            drain_max: Duration::from_secs(10),
            trust_forwarded: false,
        }
    }
}

/// What every request shares.
struct Gateway {
    responses: Arc<Responses>,
    origin: origin::Origin,
    config: GatewayConfig,
    seen: admin::Seen,
}

impl Gateway {
    fn new(cache: Cache, origin: &OriginUrl, config: GatewayConfig) -> Arc<Self> {
        let origin = origin::Origin::new(origin, &config);
        let responses = Arc::new(Responses::new(cache, config.body_bytes_max));
        Arc::new(Self { responses, origin, config, seen: admin::Seen::default() })
    }

    fn cache(&self) -> &Cache {
        &self.responses.cache
    }
}
