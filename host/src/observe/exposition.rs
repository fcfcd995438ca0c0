//! The metrics as text that Prometheus reads, for the routes of this crate's own. Durations are not among them: those are
//! recorded where they happen, which takes a recorder.

use std::fmt::Write as _;

use tideover_core::{Clock, Instant};

use super::look::Circuit;
use super::metrics::{METRICS, Metric, MetricKind, Source};
use crate::cache::Cache;
use crate::engine::Report;
use crate::error::Error;

/// The content type of [`Cache::exposition`].
pub(crate) const EXPOSITION: &str = "text/plain; version=0.0.4";

impl Cache {
    /// Every metric but the durations as it is now, in Prometheus' text format: the names of [`METRICS`] with `_` for their
    /// dots, and unit and `_total` behind them.
    pub(crate) async fn exposition(&self) -> Result<String, Error> {
        let report = self.stats().await?;
        let circuits = self.circuits(&report);
        let observed = self.observed();
        let look = Look {
            report: &report,
            circuits: &circuits,
            replacements: observed.replacements(),
            now: self.clock().now(),
        };
        let cache = escaped(observed.name());
        Ok(METRICS.iter().fold(String::new(), |mut text, metric| {
            look.tell(metric, &cache, &mut text);
            text
        }))
    }
}

/// What is told.
struct Look<'a> {
    report: &'a Report,
    circuits: &'a [Circuit],
    replacements: u64,
    now: Instant,
}

impl Look<'_> {
    fn tell(&self, metric: &Metric, cache: &str, text: &mut String) {
        let readings = self.readings(metric);
        if readings.is_empty() {
            return;
        }
        let (name, kind) = (series(metric), metric.kind.name());
        // Writing to a string cannot fail.
        let _ = write!(text, "# HELP {name} {}\n# TYPE {name} {kind}\n", metric.doc);
        for (own, value) in readings {
            let own = own.map_or_else(String::new, |(label, value)| format!(",{label}=\"{}\"", escaped(&value)));
            let _ = writeln!(text, "{name}{{cache=\"{cache}\"{own}}} {value}");
        }
    }

    /// Each reading with the label of its own, if it has one.
    fn readings(&self, metric: &Metric) -> Vec<(Option<(&'static str, String)>, f64)> {
        let count = |name| self.report.count(name) as f64;
        match metric.source {
            Source::Count(name) => vec![(None, count(name))],
            Source::Counts(label, values) => {
                values.iter().map(|(value, name)| (Some((label, (*value).to_owned())), count(name))).collect()
            }
            Source::Circuit(reading) => {
                let of = |circuit: &Circuit| {
                    (Some(("circuit", circuit.label.to_string())), reading(&circuit.report, self.now))
                };
                self.circuits.iter().map(of).collect()
            }
            Source::Replacements => vec![(None, self.replacements as f64)],
            Source::Recorded(_) => Vec::new(),
        }
    }
}

/// The metric's name, as Prometheus has names.
fn series(metric: &Metric) -> String {
    let unit = match metric.unit {
        "s" => "_seconds",
        "By" => "_bytes",
        _ => "",
    };
    let total = if metric.kind == MetricKind::Counter { "_total" } else { "" };
    format!("{}{unit}{total}", metric.name.replace('.', "_"))
}

/// The value of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_scrape_has_each_metric_once_with_all_of_its_circuits() -> Result<(), Error> {
        let cache = Cache::builder().name("a \"shop\"").build()?;
        cache.put("k", "v", None).await?;
        cache.get("k").await?;
        let text = cache.exposition().await?;
        let told = METRICS.iter().filter(|metric| metric.kind != MetricKind::Histogram);
        for metric in told {
            assert_eq!(text.matches(&format!("# TYPE {} ", series(metric))).count(), 1, "{}", metric.name);
        }
        let lines: Vec<&str> = text.lines().collect();
        for line in [
            "tideover_cache_hits_total{cache=\"a \\\"shop\\\"\"} 1",
            "tideover_cache_removals_total{cache=\"a \\\"shop\\\"\",reason=\"expired\"} 0",
            "tideover_circuit_state{cache=\"a \\\"shop\\\"\",circuit=\"direct\"} 0",
        ] {
            assert!(lines.contains(&line), "{line}\n{text}");
        }
        assert!(text.contains("# TYPE tideover_circuit_next_probe_in_seconds gauge\n"), "{text}");
        Ok(())
    }
}
