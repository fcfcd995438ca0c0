//! How the gateway is: `/-/health` as JSON for people and load balancers, `/-/metrics` as Prometheus text.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tideover_core::breaker::State;
use tideover_core::cache::Stats;
use tideover_core::memory::MemoryStats;

use super::Gateway;
use super::answer::plain;
use super::body::{Body, full};
use crate::engine::{BreakerReport, Report};

/// How long the origin may take to accept a connection for the health report.
const PROBE_MAX: Duration = Duration::from_millis(250);

/// Counts that are levels, not totals.
const LEVELS: [&str; 7] = ["entries", "capacity", "weight", "weight_max", "bytes", "flights", "owed"];

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
}

pub(super) async fn answer(gateway: &Gateway, request: &Parts) -> Response<Body> {
    match request.uri.path() {
        "/-/health" => {
            let health = health(gateway).await;
            content("application/json", format!("{health:#}\n"))
        }
        "/-/metrics" => match gateway.cache.stats().await {
            Ok(report) => content("text/plain; version=0.0.4", metrics(&report, &gateway.seen)),
            Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "the engine was just replaced\n"),
        },
        _ => plain(StatusCode::NOT_FOUND, "there are /-/health and /-/metrics\n"),
    }
}

fn content(kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(full(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The state of store, origin, circuits, memory and engine. `degraded` means that requests are answered, with less
/// behind them than there should be.
async fn health(gateway: &Gateway) -> Value {
    let (report, origin_reachable, store_answers) =
        tokio::join!(gateway.cache.stats(), gateway.origin.url.is_reachable(PROBE_MAX), gateway.cache.store_answers());
    let store_ok = store_answers != Some(false);
    let Ok(report) = report else { return json!({ "status": "degraded", "engine": gateway.cache.engine() }) };
    let closed = [report.store_breaker, report.load_breaker].iter().all(|breaker| breaker.state == State::Closed);
    let whole = closed && origin_reachable && store_ok && report.count("owed") == 0 && !report.owes_clear;
    json!({
        "status": if whole { "ok" } else { "degraded" },
        "engine": gateway.cache.engine(),
        "origin": { "url": gateway.origin.url.to_string(), "reachable": origin_reachable },
        "store": {
            "kind": gateway.cache.store().unwrap_or("none"),
            "answers": store_answers,
            "owed": report.count("owed"),
            "owes_clear": report.owes_clear,
            "guarantees": gateway.cache.guarantees().map(|holds| json!({
                "late_writes_lose": holds.late_writes_lose,
                "invalidations_are_shared": holds.invalidations_are_shared,
                "loads_are_leased": holds.loads_are_leased && gateway.cache.policy().lease,
                "changed_keys": holds.changed_keys.name(),
                "invalidations": holds.invalidations.name(),
            })),
        },
        "circuits": { "store": circuit(&report.store_breaker), "loader": circuit(&report.load_breaker) },
        "memory": { "entries": report.count("entries"), "capacity": report.count("capacity") },
        "flights": report.count("flights"),
    })
}

fn circuit(breaker: &BreakerReport) -> Value {
    let stats = breaker.stats;
    json!({
        "state": match breaker.state {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::HalfOpen => "half-open",
        },
        "mode": breaker.mode.name(),
        "trips": stats.trips,
        "recoveries": stats.recoveries,
        "refused": stats.refused,
        "would_refuse": stats.would_refuse,
        "successes": stats.successes,
        "failures": stats.failures,
        "slow": stats.slow,
    })
}

fn metrics(report: &Report, seen: &Seen) -> String {
    let mut text = String::new();
    let docs = Stats::NAMES.iter().chain(MemoryStats::NAMES);
    for (name, doc) in docs {
        let (kind, suffix) = if LEVELS.contains(name) { ("gauge", "") } else { ("counter", "_total") };
        let doc = doc.trim();
        let value = report.count(name);
        // Writing to a string cannot fail.
        let _ = write!(text, "# HELP tideover_{name}{suffix} {doc}\n# TYPE tideover_{name}{suffix} {kind}\n");
        let _ = writeln!(text, "tideover_{name}{suffix} {value}");
    }
    breaker_metrics(&mut text, report);
    text.push_str("# HELP tideover_responses_total Responses to clients.\n# TYPE tideover_responses_total counter\n");
    for (index, count) in seen.classes.iter().enumerate() {
        let (class, count) = (index + 1, count.load(Ordering::Relaxed));
        let _ = writeln!(text, "tideover_responses_total{{class=\"{class}xx\"}} {count}");
    }
    text
}

fn breaker_metrics(text: &mut String, report: &Report) {
    let circuits = [("store", &report.store_breaker), ("loader", &report.load_breaker)];
    type Reading = fn(&BreakerReport) -> u64;
    let series: [(&str, &str, &str, Reading); 8] = [
        ("circuit_state", "gauge", "0 closed, 1 open, 2 half-open.", |breaker| breaker.state.gauge().into()),
        ("circuit_trips_total", "counter", "Times the circuit opened.", |breaker| breaker.stats.trips),
        ("circuit_recoveries_total", "counter", "Times it closed again.", |breaker| breaker.stats.recoveries),
        ("circuit_refused_total", "counter", "Calls it refused.", |breaker| breaker.stats.refused),
        ("circuit_would_refuse_total", "counter", "Calls that only metrics-only let pass.", |breaker| {
            breaker.stats.would_refuse
        }),
        ("circuit_successes_total", "counter", "Successes it counted.", |breaker| breaker.stats.successes),
        ("circuit_failures_total", "counter", "Failures it counted.", |breaker| breaker.stats.failures),
        ("circuit_slow_total", "counter", "Slow calls among both.", |breaker| breaker.stats.slow),
    ];
    for (name, kind, doc, reading) in series {
        let _ = write!(text, "# HELP tideover_{name} {doc}\n# TYPE tideover_{name} {kind}\n");
        for (circuit, breaker) in circuits {
            let _ = writeln!(text, "tideover_{name}{{circuit=\"{circuit}\"}} {}", reading(breaker));
        }
    }
}
