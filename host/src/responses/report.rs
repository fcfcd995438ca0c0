//! How a cache is, for people and load balancers (JSON) and for Prometheus (text). Reads counts, decides nothing.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use tideover_core::breaker::State;
use tideover_core::cache::Stats;
use tideover_core::memory::MemoryStats;

use crate::cache::Cache;
use crate::engine::{BreakerReport, Report};

/// Counts that are levels, not totals.
const LEVELS: [&str; 7] = ["entries", "capacity", "weight", "weight_max", "bytes", "flights", "owed"];

/// Whether everything is there that the cache was made with, and what there is to tell. Less than everything is no
/// reason to take it out of service: requests are answered, with less behind them than there should be.
///
/// `store_answers` is for who has asked the store: this does not wait for it.
pub(crate) async fn health(cache: &Cache, store_answers: Option<bool>) -> (bool, Map<String, Value>) {
    let report = cache.stats().await;
    let mut told = Map::from_iter([("engine".to_owned(), cache.engine().into())]);
    let Ok(report) = report else { return (false, told) };
    let closed = [report.store_breaker, report.load_breaker].iter().all(|breaker| breaker.state == State::Closed);
    let whole = closed && store_answers != Some(false) && report.count("owed") == 0 && !report.owes_clear;
    let parts = [
        ("store", store(cache, &report, store_answers)),
        ("circuits", json!({ "store": circuit(&report.store_breaker), "loader": circuit(&report.load_breaker) })),
        ("memory", json!({ "entries": report.count("entries"), "capacity": report.count("capacity") })),
        ("flights", report.count("flights").into()),
    ];
    told.extend(parts.map(|(name, part)| (name.to_owned(), part)));
    (whole, told)
}

fn store(cache: &Cache, report: &Report, answers: Option<bool>) -> Value {
    json!({
        "kind": cache.store().unwrap_or("none"),
        "answers": answers,
        "owed": report.count("owed"),
        "owes_clear": report.owes_clear,
        "guarantees": cache.guarantees().map(|holds| json!({
            "late_writes_lose": holds.late_writes_lose,
            "invalidations_are_shared": holds.invalidations_are_shared,
            "loads_are_leased": holds.loads_are_leased && cache.policy().lease,
            "changed_keys": holds.changed_keys.name(),
            "invalidations": holds.invalidations.name(),
        })),
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

/// The content type of [`metrics`].
pub(crate) const METRICS: &str = "text/plain; version=0.0.4";

/// The counts and circuits as Prometheus reads them.
pub(crate) fn metrics(report: &Report) -> String {
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
