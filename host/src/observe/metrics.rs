//! The metrics: one table of their names, and how they reach the facade of the crate `metrics`.
//!
//! Counters and gauges are brought up to date from the machine's own counts, twice a second and when somebody asks, so that
//! a hit pays nothing for them. Durations are recorded where they happen.

use tideover_core::Instant;
use tideover_core::breaker::{BreakerReport, State};

use super::health::in_state_for;
use crate::engine::OWED_PATTERNS;

/// A metric and what it means.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, as OpenTelemetry writes names. Prometheus exporters make `_` of the dots, and may add unit and `_total`.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// In what it is counted: `By` and `s`, or an annotation in braces, as UCUM has them.
    pub unit: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Where it comes from.
    pub(super) source: Source,
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It is as it is now.
    Gauge,
    /// A distribution.
    Histogram,
}

impl MetricKind {
    /// The name: `counter`, `gauge`, `histogram`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(any(feature = "metrics", feature = "gateway", feature = "axum")),
    expect(dead_code, reason = "the table is there, and nobody to read it for")
)]
pub(super) enum Source {
    /// A count of the machine by its name.
    Count(&'static str),
    /// Several, told apart by a label: its name, then each of its values with a count.
    Counts(&'static str, &'static [(&'static str, &'static str)]),
    /// Of each circuit.
    Circuit(fn(&BreakerReport, Instant) -> f64),
    /// Of the host.
    Replacements,
    /// Recorded where it happens, with these labels.
    Recorded(&'static [&'static str]),
}

impl Metric {
    /// Its labels beside `cache`, the name of the cache, which each has.
    #[must_use]
    pub fn labels(&self) -> Vec<&'static str> {
        match self.source {
            Source::Count(_) | Source::Replacements => Vec::new(),
            Source::Counts(label, _) => vec![label],
            Source::Circuit(_) => vec!["circuit"],
            Source::Recorded(labels) => labels.to_vec(),
        }
    }

    /// The values of its label, where a label tells apart what the machine counts.
    #[must_use]
    pub fn label_values(&self) -> Vec<&'static str> {
        match self.source {
            Source::Counts(_, values) => values.iter().map(|(value, _)| *value).collect(),
            Source::Circuit(_) => CIRCUITS.to_vec(),
            Source::Count(_) | Source::Replacements | Source::Recorded(_) => Vec::new(),
        }
    }

    /// The counts of [`Report`](crate::engine::Report) that it shows, by their names.
    #[must_use]
    pub fn counts(&self) -> Vec<&'static str> {
        match self.source {
            Source::Count(count) => vec![count],
            Source::Counts(_, values) => values.iter().map(|(_, count)| *count).collect(),
            Source::Circuit(_) | Source::Replacements | Source::Recorded(_) => Vec::new(),
        }
    }

    const fn new(name: &'static str, kind: MetricKind, unit: &'static str, source: Source, doc: &'static str) -> Self {
        Self { name, kind, unit, doc, source }
    }

    const fn counter(name: &'static str, unit: &'static str, count: &'static str, doc: &'static str) -> Self {
        Self::new(name, MetricKind::Counter, unit, Source::Count(count), doc)
    }

    const fn gauge(name: &'static str, unit: &'static str, count: &'static str, doc: &'static str) -> Self {
        Self::new(name, MetricKind::Gauge, unit, Source::Count(count), doc)
    }

    const fn counters(
        name: &'static str,
        unit: &'static str,
        label: &'static str,
        counts: &'static [(&'static str, &'static str)],
        doc: &'static str,
    ) -> Self {
        Self::new(name, MetricKind::Counter, unit, Source::Counts(label, counts), doc)
    }

    const fn circuit(
        name: &'static str,
        kind: MetricKind,
        unit: &'static str,
        reading: fn(&BreakerReport, Instant) -> f64,
        doc: &'static str,
    ) -> Self {
        Self::new(name, kind, unit, Source::Circuit(reading), doc)
    }
}

/// Until the next probe may pass, in seconds.
fn next_probe_in(breaker: &BreakerReport, now: Instant) -> f64 {
    // Under metrics-only the rules may have opened a circuit that lets everything pass.
    let next = breaker.next_probe.filter(|_| breaker.state != State::Closed);
    next.map_or(0.0, |next| (next - now).as_secs_f64())
}

/// What [`next_probe_in`] means.
const NEXT_PROBE_IN: &str =
    "Until the next probe may pass; 0 if it may already, or the rules have not opened the circuit.";

/// Values of the label `circuit`; the last one is for loaders that have a name.
const CIRCUITS: [&str; 4] = ["store", "direct", "loader", "loader:NAME"];

/// How long an attempt to load took.
pub(super) const LOAD_DURATION: &str = "tideover.load.duration";

/// How long an operation of a store took.
pub(super) const STORE_DURATION: &str = "tideover.store.duration";

/// Every metric.
pub const METRICS: &[Metric] = &[
    Metric::counter("tideover.cache.hits", "{lookup}", "hits", "Lookups that found a fresh entry in memory."),
    Metric::counters(
        "tideover.cache.stale_hits",
        "{lookup}",
        "why",
        &[("while_revalidate", "stale_while_revalidate"), ("if_error", "stale_if_error")],
        "Stale values served: while a refresh was under way, or because the origin was unavailable.",
    ),
    Metric::counter(
        "tideover.cache.stale_at_once",
        "{lookup}",
        "stale_at_once",
        "Lookups answered at once with something stale. Hits, these, misses and `remembered` together are all lookups.",
    ),
    Metric::counter("tideover.cache.misses", "{lookup}", "misses", "Lookups that had to wait."),
    Metric::counter(
        "tideover.cache.coalesced",
        "{lookup}",
        "coalesced",
        "Of the misses, those that waited for what another caller was having loaded.",
    ),
    Metric::counter(
        "tideover.cache.remembered",
        "{lookup}",
        "remembered",
        "Lookups answered from a remembered absence or failure.",
    ),
    Metric::counter("tideover.cache.refused", "{call}", "refused", "Calls refused because of a limit."),
    Metric::gauge("tideover.cache.entries", "{entry}", "entries", "Entries in memory."),
    Metric::gauge("tideover.cache.capacity", "{entry}", "capacity", "Entries that fit into memory."),
    Metric::gauge("tideover.cache.weight", "{weight}", "weight", "What the values in memory weigh together."),
    Metric::gauge("tideover.cache.weight_max", "{weight}", "weight_max", "What they may weigh; 0 is no limit."),
    Metric::gauge(
        "tideover.cache.memory",
        "By",
        "bytes",
        "Bytes of memory's tables, keys and values included, what those point to not. Computed, not measured.",
    ),
    Metric::counter("tideover.cache.insertions", "{entry}", "insertions", "Entries kept."),
    Metric::counters(
        "tideover.cache.removals",
        "{entry}",
        "reason",
        &[
            ("expired", "expirations"),
            ("evicted", "evictions"),
            ("replaced", "replacements"),
            ("removed", "removals"),
            ("invalidated", "invalidated"),
        ],
        "Entries that left memory.",
    ),
    Metric::counter(
        "tideover.cache.removals_lost",
        "{entry}",
        "removals_lost",
        "Reports of removals that were dropped because nobody took them.",
    ),
    Metric::counter(
        "tideover.cache.too_heavy",
        "{value}",
        "too_heavy",
        "Values that were not kept because one alone weighs more than all may.",
    ),
    Metric::counter(
        "tideover.cache.invalidations",
        "{invalidation}",
        "invalidations",
        "Tags that were invalidated by this process.",
    ),
    Metric::counter("tideover.cache.clears", "{clear}", "clears", "Clears by this process."),
    Metric::counter(
        "tideover.cache.fenced",
        "{value}",
        "fenced",
        "Results that were not kept because a change had won over their flight.",
    ),
    Metric::gauge("tideover.flights", "{flight}", "flights", "Flights under way."),
    Metric::counter("tideover.load.attempts", "{load}", "loads", "Attempts to load."),
    Metric::counter("tideover.load.failures", "{load}", "load_failures", "Attempts to load that failed."),
    Metric::counters(
        "tideover.load.unshared",
        "{load}",
        "result",
        &[("private", "private"), ("not_modified", "not_modified"), ("absent", "absent")],
        "Loads that brought something else than a value for everybody.",
    ),
    Metric::counters(
        "tideover.load.ended",
        "{load}",
        "how",
        &[
            ("done", "ended_done"),
            ("failed", "ended_failed"),
            ("gave_up", "ended_gave_up"),
            ("panicked", "ended_panicked"),
            ("cancelled", "ended_cancelled"),
            ("too_old", "ended_too_old"),
            ("late", "ended_late"),
            ("overtaken", "ended_overtaken"),
        ],
        "Loads, all their attempts together, by how they ended.",
    ),
    Metric::counter(
        "tideover.load.early_refreshes",
        "{load}",
        "early_refreshes",
        "Refreshes launched before the end of freshness.",
    ),
    Metric::gauge("tideover.load.active", "{load}", "loading", "Loads under way."),
    Metric::gauge("tideover.load.waiting", "{flight}", "waiting", "Flights that wait until fewer loads are under way."),
    Metric::counter(
        "tideover.retries_refused",
        "{attempt}",
        "retries_refused",
        "Attempts of loads and store operations that were not made because the retry budget was spent.",
    ),
    Metric::new(
        LOAD_DURATION,
        MetricKind::Histogram,
        "s",
        Source::Recorded(&["outcome"]),
        "How long an attempt to load took. `outcome`: `ok`, `unavailable`, `timed_out`, `answer`, `isolated`, `panicked`.",
    ),
    Metric::counter(
        "tideover.store.hits",
        "{read}",
        "store_hits",
        "Reads of the shared store that found a usable entry.",
    ),
    Metric::counter("tideover.store.misses", "{read}", "store_misses", "Reads of the shared store that found nothing."),
    Metric::counter(
        "tideover.store.failures",
        "{operation}",
        "store_failures",
        "Operations of the shared store that failed.",
    ),
    Metric::counter(
        "tideover.store.corrupt",
        "{read}",
        "corrupt",
        "Reads of a store that found bytes which are no entry of ours.",
    ),
    Metric::counter(
        "tideover.store.overtaken",
        "{write}",
        "overtaken",
        "Writes that the shared store refused because another process had written something newer.",
    ),
    Metric::new(
        STORE_DURATION,
        MetricKind::Histogram,
        "s",
        Source::Recorded(&["tier", "operation", "outcome"]),
        "How long an operation of a store took. `tier`: `primary`, `fallback`, `direct`; `operation`: `read`, `write`, `remove`, \
         `clear`, `lease`, `note`, `scan`, or the name of a direct operation, `replay` where it was owed; \
         `outcome`: `ok`, `unavailable`, \
         `timed_out`, `overloaded`, `rejected`, `corrupt`.",
    ),
    Metric::counter("tideover.fallback.reads", "{read}", "fallback_reads", "Reads of what stands in for the store."),
    Metric::counter(
        "tideover.fallback.hits",
        "{read}",
        "fallback_hits",
        "Of those, the ones that found a usable entry.",
    ),
    Metric::gauge("tideover.journal.owed", "{change}", "owed", "Changes that are owed to the shared store."),
    Metric::gauge(
        "tideover.journal.owed_tags",
        "{invalidation}",
        "owed_tags",
        "Invalidations that the shared store's log does not have yet.",
    ),
    Metric::gauge(
        "tideover.journal.owed_patterns",
        "{invalidation}",
        OWED_PATTERNS,
        "Invalidations by pattern that were not carried out in the shared store yet.",
    ),
    Metric::counter(
        "tideover.journal.journaled",
        "{change}",
        "journaled",
        "Puts and removals that came to be owed to the shared store.",
    ),
    Metric::counter("tideover.journal.replayed", "{change}", "replayed", "Debts to the shared store that were paid."),
    Metric::counter(
        "tideover.journal.overflows",
        "{overflow}",
        "journal_overflows",
        "Times the journal was full, so that the store's namespace has to be cleared.",
    ),
    Metric::counter(
        "tideover.backplane.learnt",
        "{note}",
        "learnt",
        "Invalidations and clears learnt from other processes.",
    ),
    Metric::counter(
        "tideover.backplane.changed",
        "{key}",
        "changed_elsewhere",
        "Keys that other processes have changed, as far as the store told.",
    ),
    Metric::counter(
        "tideover.backplane.missed",
        "{gap}",
        "missed",
        "Times that changes of other processes may have been missed.",
    ),
    Metric::counter("tideover.lease.taken", "{lease}", "leases", "Leases taken, each for one load."),
    Metric::counter(
        "tideover.lease.awaited",
        "{wait}",
        "leases_awaited",
        "Times that a load waited for another process that had the lease.",
    ),
    Metric::counter(
        "tideover.lease.forgone",
        "{load}",
        "leases_forgone",
        "Loads made without a lease: the store was away, or another process had it for too long.",
    ),
    Metric::counter(
        "tideover.direct.answers",
        "{operation}",
        "direct_answers",
        "Direct operations that were answered.",
    ),
    Metric::counter(
        "tideover.direct.fallback",
        "{operation}",
        "direct_fallback",
        "Of those, the ones answered by what stands in for the store.",
    ),
    Metric::counter(
        "tideover.direct.failures",
        "{operation}",
        "direct_failures",
        "Operations of the store for direct operations that failed or were refused.",
    ),
    Metric::gauge(
        "tideover.direct.owed",
        "{key}",
        "direct_owed",
        "Keys and patterns whose direct operations are owed to the store.",
    ),
    Metric::counter(
        "tideover.direct.journaled",
        "{change}",
        "direct_journaled",
        "Changes by direct operations that came to be owed to the store.",
    ),
    Metric::counter(
        "tideover.direct.replayed",
        "{change}",
        "direct_replayed",
        "Steps of direct operations that were owed and have reached the store.",
    ),
    Metric::counters(
        "tideover.direct.lost",
        "{change}",
        "why",
        &[("journal_full", "direct_journal_full"), ("unknown", "direct_unknown"), ("given_up", "direct_given_up")],
        "Changes by direct operations that were not made: refused because the journal was full; counts that were sent and not \
         answered, of which nobody knows; changes that were owed and that the store has refused for good.",
    ),
    Metric::circuit(
        "tideover.circuit.state",
        MetricKind::Gauge,
        "{state}",
        |breaker, _| breaker.state.gauge().into(),
        "0 closed, 1 open, 2 half-open.",
    ),
    Metric::circuit(
        "tideover.circuit.time_in_state",
        MetricKind::Gauge,
        "s",
        |breaker, now| in_state_for(breaker, now).as_secs_f64(),
        "How long the circuit has been in that state.",
    ),
    Metric::circuit("tideover.circuit.next_probe_in", MetricKind::Gauge, "s", next_probe_in, NEXT_PROBE_IN),
    Metric::circuit(
        "tideover.circuit.trips",
        MetricKind::Counter,
        "{trip}",
        |breaker, _| breaker.stats.trips as f64,
        "Times the circuit went from closed to open.",
    ),
    Metric::circuit(
        "tideover.circuit.recoveries",
        MetricKind::Counter,
        "{recovery}",
        |breaker, _| breaker.stats.recoveries as f64,
        "Times it went from half-open to closed.",
    ),
    Metric::circuit(
        "tideover.circuit.refused",
        MetricKind::Counter,
        "{call}",
        |breaker, _| breaker.stats.refused as f64,
        "Calls it refused.",
    ),
    Metric::circuit(
        "tideover.circuit.would_refuse",
        MetricKind::Counter,
        "{call}",
        |breaker, _| breaker.stats.would_refuse as f64,
        "Calls that it would have refused, had it not been for the mode metrics-only.",
    ),
    Metric::circuit(
        "tideover.circuit.successes",
        MetricKind::Counter,
        "{call}",
        |breaker, _| breaker.stats.successes as f64,
        "Successes it counted.",
    ),
    Metric::circuit(
        "tideover.circuit.failures",
        MetricKind::Counter,
        "{call}",
        |breaker, _| breaker.stats.failures as f64,
        "Failures it counted.",
    ),
    Metric::circuit(
        "tideover.circuit.slow",
        MetricKind::Counter,
        "{call}",
        |breaker, _| breaker.stats.slow as f64,
        "Slow calls among both.",
    ),
    Metric::new(
        "tideover.engine.replacements",
        MetricKind::Counter,
        "{engine}",
        Source::Replacements,
        "Engines that broke and were replaced.",
    ),
];

#[cfg(feature = "metrics")]
pub(super) use self::facade::{Published, record};

#[cfg(feature = "metrics")]
mod facade {
    //! The way to the recorder, whichever is installed at the time.

    use std::collections::HashMap;
    use std::sync::Arc;
    use std::time::Duration;

    use metrics::{Key, Label, Level, Metadata, Recorder, SharedString, Unit};
    use tideover_core::Instant;
    use tideover_core::breaker::BreakerReport;

    use super::{METRICS, Metric, MetricKind, Source};
    use crate::engine::Report;
    use crate::observe::look::{Circuit, Guarded};
    use crate::observe::tally::{grown, more};

    const METADATA: Metadata<'static> = Metadata::new("tideover", Level::INFO, Some(module_path!()));

    /// Descriptions are told anew after so many times, for a recorder that was installed late.
    const TIMES_BETWEEN_DESCRIPTIONS: u32 = 120;

    /// What the recorder has been told. It is told what came since, so that caches of one name add up, and a count that
    /// begins anew takes nothing back.
    #[derive(Debug, Default)]
    pub(in super::super) struct Published {
        report: Option<Report>,
        circuits: HashMap<Guarded, BreakerReport>,
        replacements: u64,
        times: u32,
    }

    impl Published {
        /// Brings the recorder up to date.
        pub(in super::super) fn update(
            &mut self,
            cache: &Arc<str>,
            report: &Report,
            circuits: &[Circuit],
            replacements: u64,
            now: Instant,
        ) {
            metrics::with_recorder(|recorder| {
                if self.times.is_multiple_of(TIMES_BETWEEN_DESCRIPTIONS) {
                    METRICS.iter().for_each(|metric| describe(recorder, metric));
                }
                let told = Told { recorder, cache, report, before: self.report.as_ref(), now };
                for metric in METRICS {
                    match metric.source {
                        Source::Count(count) => told.count(metric, None, count),
                        Source::Counts(label, counts) => {
                            counts.iter().for_each(|(value, count)| {
                                told.count(metric, Some(Label::from_static_parts(label, value)), count);
                            });
                        }
                        Source::Circuit(reading) => circuits.iter().for_each(|circuit| {
                            told.circuit(metric, circuit, self.circuits.get(&circuit.of), reading);
                        }),
                        Source::Replacements => told.add(metric, None, more(replacements, self.replacements)),
                        Source::Recorded(_) => {}
                    }
                }
            });
            self.times = self.times.wrapping_add(1);
            self.report = Some(report.clone());
            self.circuits = circuits.iter().map(|circuit| (circuit.of, circuit.report)).collect();
            self.replacements = replacements;
        }
    }

    /// The label that it has beside that of the cache.
    type OwnLabel = Option<Label>;

    struct Told<'a> {
        recorder: &'a dyn Recorder,
        cache: &'a Arc<str>,
        report: &'a Report,
        before: Option<&'a Report>,
        now: Instant,
    }

    impl Told<'_> {
        fn count(&self, metric: &Metric, label: OwnLabel, count: &str) {
            if metric.kind == MetricKind::Counter {
                self.add(metric, label, grown(self.before, self.report, count));
            } else {
                self.set(metric, label, self.report.count(count) as f64);
            }
        }

        fn circuit(
            &self,
            metric: &Metric,
            Circuit { label, report, .. }: &Circuit,
            before: Option<&BreakerReport>,
            reading: fn(&BreakerReport, Instant) -> f64,
        ) {
            let label = Some(Label::new("circuit", label.clone()));
            let read = |breaker: &BreakerReport| reading(breaker, self.now);
            if metric.kind == MetricKind::Counter {
                let before = before.map_or(0, |before| read(before) as u64);
                self.add(metric, label, more(read(report) as u64, before));
            } else {
                self.set(metric, label, read(report));
            }
        }

        fn add(&self, metric: &Metric, label: OwnLabel, more: u64) {
            self.recorder.register_counter(&key(metric.name, self.cache, label), &METADATA).increment(more);
        }

        fn set(&self, metric: &Metric, label: OwnLabel, value: f64) {
            self.recorder.register_gauge(&key(metric.name, self.cache, label), &METADATA).set(value);
        }
    }

    /// Records how long something took.
    pub(in super::super) fn record(
        name: &'static str,
        cache: &Arc<str>,
        labels: &[(&'static str, &'static str)],
        time: Duration,
    ) {
        let all = [Label::new("cache", Arc::clone(cache))].into_iter();
        let all = all.chain(labels.iter().map(|(label, value)| Label::from_static_parts(label, value)));
        let key = Key::from_parts(name, all.collect::<Vec<_>>());
        metrics::with_recorder(|recorder| recorder.register_histogram(&key, &METADATA).record(time.as_secs_f64()));
    }

    fn key(name: &'static str, cache: &Arc<str>, own: OwnLabel) -> Key {
        let labels: Vec<Label> = [Label::new("cache", Arc::clone(cache))].into_iter().chain(own).collect();
        Key::from_parts(name, labels)
    }

    fn describe(recorder: &dyn Recorder, metric: &Metric) {
        let unit = match metric.unit {
            "s" => Unit::Seconds,
            "By" => Unit::Bytes,
            _ => Unit::Count,
        };
        let (name, unit, doc) = (metric.name.into(), Some(unit), SharedString::const_str(metric.doc));
        match metric.kind {
            MetricKind::Counter => recorder.describe_counter(name, unit, doc),
            MetricKind::Gauge => recorder.describe_gauge(name, unit, doc),
            MetricKind::Histogram => recorder.describe_histogram(name, unit, doc),
        }
    }
}

#[cfg(test)]
mod tests {
    use tideover_core::cache::Stats;
    use tideover_core::memory::MemoryStats;

    use super::*;
    use crate::direct::DirectStats;

    #[test]
    fn each_count_of_the_machine_is_in_one_metric() {
        let shown: Vec<&str> = METRICS.iter().flat_map(Metric::counts).collect();
        let counted = Stats::NAMES.iter().chain(MemoryStats::NAMES).chain(DirectStats::NAMES);
        let counted: Vec<&str> = counted.map(|(name, _)| *name).chain([OWED_PATTERNS]).collect();
        for name in &counted {
            assert_eq!(shown.iter().filter(|shown| *shown == name).count(), 1, "{name}");
        }
        assert_eq!(shown.len(), counted.len(), "a metric shows a count that there is not");
    }

    #[test]
    fn names_are_each_metrics_own() {
        for (index, metric) in METRICS.iter().enumerate() {
            let others = METRICS.iter().skip(index + 1);
            assert!(metric.name.starts_with("tideover.") && others.clone().all(|other| other.name != metric.name));
        }
    }
}
