//! Callers, and what they saw.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Empty};
use hyper::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Callers at a time while they browse, what they browse, and how long each thinks between two requests.
const CALLERS: usize = 16;
const PAGES: usize = 40;
const THINK: Duration = Duration::from_millis(4);

/// One act of the story.
pub(super) struct Act {
    pub(super) name: &'static str,
    pub(super) seen: Seen,
    /// Requests that reached the origin meanwhile.
    pub(super) loads: u64,
}

/// What callers saw.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) hits: usize,
    pub(super) stale: usize,
    pub(super) errors: usize,
    took: Vec<Duration>,
}

impl Seen {
    pub(super) fn requests(&self) -> usize {
        self.took.len()
    }

    /// The time within which so many of a hundred requests were answered.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        self.took
            .get((self.took.len() * percent / 100).min(self.took.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    fn gather(all: Vec<Self>) -> Self {
        let mut sum = Self::default();
        for seen in all {
            sum.hits += seen.hits;
            sum.stale += seen.stale;
            sum.errors += seen.errors;
            sum.took.extend(seen.took);
        }
        sum.took.sort_unstable();
        sum
    }
}

pub(super) struct Callers {
    gateway: SocketAddr,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Callers {
    pub(super) fn new(gateway: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { gateway, client: Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// A few callers go from page to page for a while.
    pub(super) async fn browse(&self, path: &str, time: Duration) -> Seen {
        let until = Instant::now() + time;
        let stroll = |caller: usize| async move {
            let mut seen = Seen::default();
            let mut page = caller;
            while Instant::now() < until {
                page = (page + 7) % PAGES;
                self.call(&format!("{path}/{page}"), &mut seen).await;
                tokio::time::sleep(THINK).await;
            }
            seen
        };
        Seen::gather(join_all((0..CALLERS).map(stroll)).await)
    }

    /// Many callers ask for one page at once.
    pub(super) async fn crowd(&self, path: &str, callers: usize) -> Seen {
        let ask = |_| async {
            let mut seen = Seen::default();
            self.call(path, &mut seen).await;
            seen
        };
        Seen::gather(join_all((0..callers).map(ask)).await)
    }

    async fn call(&self, path: &str, seen: &mut Seen) {
        let began = Instant::now();
        let uri = Uri::builder().scheme("http").authority(self.gateway.to_string()).path_and_query(path).build();
        let answer = match uri {
            Ok(uri) => self.client.get(uri).await.ok(),
            Err(_) => None,
        };
        let mut status = String::new();
        let mut whole = false;
        if let Some(response) = answer {
            let told = response.headers().get("cache-status").and_then(|value| value.to_str().ok());
            status = told.unwrap_or_default().to_owned();
            whole = response.status().is_success() && response.into_body().collect().await.is_ok();
        }
        seen.took.push(began.elapsed());
        let stale = status.contains("detail=stale");
        seen.errors += usize::from(!whole);
        seen.stale += usize::from(whole && stale);
        seen.hits += usize::from(whole && !stale && status.contains("; hit"));
    }
}
