//! What an axum service with a cache needs beside the layer: routes that tell how the cache is, a stop that lets requests
//! end and shuts the cache down, and errors of the cache as responses.
//!
//! A [`Cache`] is cheap to clone and goes into the state of a router as it is, by itself or as a field with `FromRef`, or
//! into an `Extension`.
//!
//! ```no_run
//! use std::time::Duration;
//! use ::axum::Router;
//! use ::axum::extract::{Path, State};
//! use ::axum::routing::get;
//! use tideover::web::CacheLayer;
//! use tideover::web::axum::Lifecycle;
//! use tideover::{Cache, Error, Loaded};
//!
//! async fn user(State(cache): State<Cache>, Path(id): Path<u64>) -> Result<Vec<u8>, Error> {
//!     let load = move |_| async move { Ok(Loaded::new(format!("user {id}"))) };
//!     Ok(cache.get_or_load(&format!("user:{id}"), load).await?.value.to_vec())
//! }
//!
//! # async fn signal() {}
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Cache::builder().build()?;
//! let lifecycle = Lifecycle::of(&cache).announce_for(Duration::from_secs(5));
//! let app = Router::new()
//!     .route("/users/{id}", get(user))
//!     .layer(CacheLayer::new(cache.clone()).ttl(Duration::from_secs(60)))
//!     .merge(lifecycle.routes())
//!     .with_state(cache);
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! lifecycle.serve(signal(), |stop| ::axum::serve(listener, app).with_graceful_shutdown(stop)).await?;
//! # Ok(())
//! # }
//! ```

use std::future::{Future, IntoFuture};
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use ::axum::Router;
use ::axum::response::{IntoResponse, Response};
use ::axum::routing::{MethodRouter, get};
use http::StatusCode;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::body::Body;
use crate::cache::Cache;
use crate::error::Error;
use crate::observe::EXPOSITION;
use crate::responses::answer::{own, plain, refusal};
use crate::responses::report;

/// What a server waits for before it takes no more connections; see [`Lifecycle::serve`].
pub type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How long requests may go on after the stop.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// `/health`, `/health/live` and `/metrics` of a cache; see [`Lifecycle::routes`]. They never say that the service is
/// stopping: with a [`Lifecycle`] they do.
pub fn routes<S: Clone + Send + Sync + 'static>(cache: &Cache) -> Router<S> {
    Lifecycle::of(cache).routes()
}

/// `GET`: how a cache is; see [`Lifecycle::health_route`].
pub fn health_route<S: Clone + Send + Sync + 'static>(cache: &Cache) -> MethodRouter<S> {
    Lifecycle::of(cache).health_route()
}

/// A cache from the first request to the last.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    cache: Cache,
    stopping: CancellationToken,
    announce_for: Duration,
    drain_max: Duration,
    strict: bool,
}

impl Lifecycle {
    /// Of that cache.
    #[must_use]
    pub fn of(cache: &Cache) -> Self {
        let (stopping, announce_for) = (CancellationToken::new(), Duration::ZERO);
        Self { cache: cache.clone(), stopping, announce_for, drain_max: DRAIN_MAX, strict: false }
    }

    /// After the stop the health route says 503 for so long, while requests are still taken: load balancers have time to
    /// look elsewhere. Default: zero.
    #[must_use]
    pub fn announce_for(self, time: Duration) -> Self {
        Self { announce_for: time, ..self }
    }

    /// Then requests that are under way may go on for so long. Default: 10 s.
    #[must_use]
    pub fn drain_max(self, time: Duration) -> Self {
        Self { drain_max: time, ..self }
    }

    /// The health route says 503 also while the cache is degraded. By default it does not: an outage of the store is the
    /// same for every process, and to take them all out of service for it is to make it everybody's.
    #[must_use]
    pub fn strict(self) -> Self {
        Self { strict: true, ..self }
    }

    /// - `/health` ([`health_route`](Self::health_route)), for readiness;
    /// - `/health/live`, for liveness: 200 as long as anything is answered at all. No failure of the cache is repaired by a
    ///   restart, which would only lose what is in memory;
    /// - `/metrics` ([`metrics_route`](Self::metrics_route)).
    ///
    /// They tell nothing of keys and values, but how the service is doing: not for everybody. Merge them beside the layer,
    /// not inside.
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        Router::new()
            .route("/health", self.health_route())
            .route("/health/live", get(|| async { "alive\n" }))
            .route("/metrics", self.metrics_route())
    }

    /// `GET`: how the cache is, as JSON. Its `status` is
    ///
    /// - `ok`: everything is there;
    /// - `degraded`: requests are answered, with less behind them than there should be (a circuit is not closed, changes
    ///   are owed to the store). Still 200, unless it is [`strict`](Self::strict);
    /// - `down`, with 503: the cache is shut down;
    /// - `stopping`, with 503: [`serve`](Self::serve) was told to stop.
    ///
    /// Neither the store nor the origin is asked for this, so a store that hangs does not let a probe time out.
    pub fn health_route<S: Clone + Send + Sync + 'static>(&self) -> MethodRouter<S> {
        let lifecycle = self.clone();
        get(move || async move { lifecycle.health().await.map(Body::from) })
    }

    async fn health(&self) -> http::Response<crate::responses::body::Body> {
        let health = self.cache.health_at_hand().await;
        let is_stopping = self.stopping.is_cancelled();
        let is_well = !is_stopping && if self.strict { health.is_ok() } else { health.is_serving() };
        let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut told = report::told(health);
        if is_stopping {
            told.insert("status".to_owned(), "stopping".into());
        }
        let mut response = own("application/json", format!("{:#}\n", Value::Object(told)));
        *response.status_mut() = status;
        response
    }

    /// `GET`: the counts and circuits of the cache as Prometheus reads them, by the names of [`METRICS`](crate::observe::METRICS).
    /// Durations take a recorder.
    pub fn metrics_route<S: Clone + Send + Sync + 'static>(&self) -> MethodRouter<S> {
        let cache = self.cache.clone();
        get(move || async move {
            let response = match cache.exposition().await {
                Ok(text) => own(EXPOSITION, text),
                Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "the engine was just replaced\n"),
            };
            response.map(Body::from)
        })
    }

    /// Runs a server until `stop` is ready: announces it, lets requests end, and shuts the cache down, once, also when the
    /// server ends by itself.
    ///
    /// `server` gets what its graceful shutdown is to wait for. If this future is dropped before it is ready, the cache is
    /// not shut down.
    ///
    /// # Errors
    ///
    /// Those of the server. That requests were cut short is a warning.
    pub async fn serve<F>(self, stop: impl Future<Output = ()>, server: impl FnOnce(Stop) -> F) -> io::Result<()>
    where
        F: IntoFuture<Output = io::Result<()>>,
    {
        let drain = CancellationToken::new();
        let mut server = pin!(server(Box::pin(drain.clone().cancelled_owned())).into_future());
        let ended = tokio::select! {
            ended = &mut server => Some(ended),
            () = self.announced(stop) => None,
        };
        drain.cancel();
        let ended = match ended {
            Some(ended) => ended,
            None => tokio::time::timeout(self.drain_max, server).await.unwrap_or_else(|_elapsed| {
                warn!("requests were cut short after {:?}", self.drain_max);
                Ok(())
            }),
        };
        self.cache.shutdown().await;
        ended
    }

    /// Ready when no more connections are to be taken.
    async fn announced(&self, stop: impl Future<Output = ()>) {
        stop.await;
        info!("stopping");
        self.stopping.cancel();
        tokio::time::sleep(self.announce_for).await;
    }
}

/// 404 for what is absent, 503 with `Retry-After` where asking again may help, 504 for deadlines, 500 for the rest. Nothing
/// of what a loader said is told.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        refusal(&self, StatusCode::SERVICE_UNAVAILABLE).map(Body::from).into_response()
    }
}
