//! How a cache is, for people and load balancers (JSON) and for Prometheus (text). Reads counts, decides nothing.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use tideover_core::Instant;
use tideover_core::cache::Stats;
use tideover_core::memory::MemoryStats;

use crate::direct::DirectStats;
use crate::engine::{BreakerReport, Report};
use crate::observe::{Health, NEXT_PROBE_IN, next_probe_in};

/// Counts that are levels, not totals.
const LEVELS: [&str; 8] = ["entries", "capacity", "weight", "weight_max", "bytes", "flights", "owed", "direct_owed"];

/// What there is to tell of a cache's health.
pub(crate) fn told(health: Health) -> Map<String, Value> {
    match serde_json::to_value(health) {
        Ok(Value::Object(told)) => told,
        // A report is an object without odd parts.
        _ => Map::new(),
    }
}

/// The content type of [`metrics`].
pub(crate) const METRICS: &str = "text/plain; version=0.0.4";

/// The counts and circuits as Prometheus reads them.
pub(crate) fn metrics(report: &Report, now: Instant) -> String {
    let mut text = String::new();
    let docs = Stats::NAMES.iter().chain(MemoryStats::NAMES).chain(DirectStats::NAMES);
    for (name, doc) in docs {
        let (kind, suffix) = if LEVELS.contains(name) { ("gauge", "") } else { ("counter", "_total") };
        let doc = doc.trim();
        let value = report.count(name);
        // Writing to a string cannot fail.
        let _ = write!(text, "# HELP tideover_{name}{suffix} {doc}\n# TYPE tideover_{name}{suffix} {kind}\n");
        let _ = writeln!(text, "tideover_{name}{suffix} {value}");
    }
    breaker_metrics(&mut text, report, now);
    text
}

fn breaker_metrics(text: &mut String, report: &Report, now: Instant) {
    let circuits = [("store", &report.store_breaker), ("loader", &report.load_breaker)];
    type Reading = fn(&BreakerReport, Instant) -> f64;
    let series: [(&str, &str, &str, Reading); 9] = [
        ("circuit_state", "gauge", "0 closed, 1 open, 2 half-open.", |breaker, _| breaker.state.gauge().into()),
        ("circuit_next_probe_in_seconds", "gauge", NEXT_PROBE_IN, next_probe_in),
        ("circuit_trips_total", "counter", "Times the circuit opened.", |breaker, _| breaker.stats.trips as f64),
        ("circuit_recoveries_total", "counter", "Times it closed again.", |breaker, _| breaker.stats.recoveries as f64),
        ("circuit_refused_total", "counter", "Calls it refused.", |breaker, _| breaker.stats.refused as f64),
        ("circuit_would_refuse_total", "counter", "Calls that only metrics-only let pass.", |breaker, _| {
            breaker.stats.would_refuse as f64
        }),
        ("circuit_successes_total", "counter", "Successes it counted.", |breaker, _| breaker.stats.successes as f64),
        ("circuit_failures_total", "counter", "Failures it counted.", |breaker, _| breaker.stats.failures as f64),
        ("circuit_slow_total", "counter", "Slow calls among both.", |breaker, _| breaker.stats.slow as f64),
    ];
    for (name, kind, doc, reading) in series {
        let _ = write!(text, "# HELP tideover_{name} {doc}\n# TYPE tideover_{name} {kind}\n");
        for (circuit, breaker) in circuits {
            let _ = writeln!(text, "tideover_{name}{{circuit=\"{circuit}\"}} {}", reading(breaker, now));
        }
    }
}
