//! Responses cached by a tower layer, and what axum needs.
//!
//! [`CacheLayer`] puts a shared cache (RFC 9111) before any service that answers HTTP requests: however many clients ask
//! for the same thing at once, the service is asked once; while it fails, what is stale stands in; its circuit breaker
//! spares it. What is stored and for how long is decided by the same rules as in the gateway.
//!
#![cfg_attr(feature = "axum", doc = "```")]
#![cfg_attr(not(feature = "axum"), doc = "```ignore")]
//! use std::time::Duration;
//! use ::axum::{Router, body::Body, routing::get};
//! use tideover::Cache;
//! use tideover::web::CacheLayer;
//! use tower_service::Service;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Cache::builder().build()?;
//! let layer = CacheLayer::new(cache).ttl(Duration::from_secs(60));
//! let mut app = Router::new().route("/", get(|| async { "hello" })).layer(layer);
//!
//! let loaded = app.call(http::Request::get("/").body(Body::empty())?).await?;
//! assert_eq!(loaded.headers()["cache-status"], "tideover; fwd=miss; ttl=60; stored");
//! let hit = app.call(http::Request::get("/").body(Body::empty())?).await?;
//! assert_eq!(hit.headers()["cache-status"], "tideover; hit; ttl=60; detail=memory");
//! # Ok(())
//! # }
//! ```
//!
//! # What is safe without being asked for
//!
//! - Only GET and HEAD are answered from the cache. Requests with a body, a range, an upgrade or `no-store` go past it.
//! - So do requests with credentials (`Authorization`, `Cookie`, `Proxy-Authorization`, `X-Api-Key`, `X-Auth-Token`, and
//!   what [`CacheLayer::credentials`] names), unless responses are kept apart by them ([`CacheLayer::vary_on`]) or the
//!   service does not see them ([`CacheLayer::strip`]).
//! - Responses with `no-store`, `private`, `Set-Cookie` or `Vary: *` are never stored, nor any status but 200
//!   ([`CacheLayer::statuses`]), nor streams of events. Whatever the service names in `Vary` keeps responses apart.
//! - A response is kept for as long as its own `Cache-Control` or `Expires` says, with the windows that RFC 5861 defines.
//!   One that says nothing is kept only if there is a [`CacheLayer::ttl`], or a [`Rule`] with one.
//! - The host is part of the key, since links may be built from it, and so is whatever else a request says of it.
//! - 502, 503, 504 and errors of the service mean that no answer was had: stale stands in, the circuit counts them. 500 does
//!   so for this one target and is not counted. Every other status is an answer: it is passed on, nothing stale masks it,
//!   and what was stored before it is dropped.
//!
//! # Where it belongs
//!
//! Outside of whatever is to be spared, and inside of what differs from client to client: sessions, compression (or let it
//! say `Vary: accept-encoding`), request ids, tracing of requests. The service runs in a task of the cache, with the request
//! of whoever was first, its extensions included; it may outlive that client, and is given up after `load_deadline`. A panic
//! becomes a 500 for all who wait.

#[cfg(feature = "axum")]
pub mod axum;
mod body;
mod key;
mod layer;
mod rule;
mod service;

pub use self::body::{Body, BodyError};
pub use self::layer::CacheLayer;
pub use self::rule::{Rule, Tags};
pub use self::service::CacheService;
