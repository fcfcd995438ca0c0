//! How the gateway is: `/-/health` as JSON for people and load balancers, `/-/metrics` as Prometheus text.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::Gateway;
use crate::observe::{EXPOSITION, Reason};
use crate::responses::answer::{own, plain};
use crate::responses::body::Body;
use crate::responses::report;

/// How long the origin may take to accept a connection for the health report.
const PROBE_MAX: Duration = Duration::from_millis(250);

/// Responses to clients by class of status.
#[derive(Default)]
pub(super) struct Seen {
    classes: [AtomicU64; 5],
}

impl Seen {
    pub(super) fn count(&self, response: &Response<Body>) {
        let class = usize::from(response.status().as_u16() / 100).clamp(1, 5) - 1;
        self.classes[class].fetch_add(1, Ordering::Relaxed);
    }

    fn metrics(&self, text: &mut String) {
        text.push_str(
            "# HELP tideover_responses_total Responses to clients.\n# TYPE tideover_responses_total counter\n",
        );
        for (index, count) in self.classes.iter().enumerate() {
            let (class, count) = (index + 1, count.load(Ordering::Relaxed));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "tideover_responses_total{{class=\"{class}xx\"}} {count}");
        }
    }
}

pub(super) async fn answer(gateway: &Gateway, request: &Parts) -> Response<Body> {
    match request.uri.path() {
        "/-/health" => {
            let health = health(gateway).await;
            own("application/json", format!("{health:#}\n"))
        }
        "/-/metrics" => match gateway.cache().exposition().await {
            Ok(mut text) => {
                gateway.seen.metrics(&mut text);
                own(EXPOSITION, text)
            }
            Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "the engine was just replaced\n"),
        },
        _ => plain(StatusCode::NOT_FOUND, "there are /-/health and /-/metrics\n"),
    }
}

/// The cache's own report, and beside it whether the origin can be reached.
async fn health(gateway: &Gateway) -> Value {
    let url = &gateway.origin.url;
    let (reachable, health) = tokio::join!(url.is_reachable(PROBE_MAX), gateway.cache().health());
    let health = if reachable { health } else { health.degraded_by(Reason::OriginUnreachable) };
    let mut told = report::told(health);
    told.insert("origin".to_owned(), json!({ "url": url.to_string(), "reachable": reachable }));
    Value::Object(told)
}
