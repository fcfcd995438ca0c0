//! How a cache is, as data: for health routes, operators and alerts.
//!
//! A cache in an outage says so. `degraded` means that calls are answered, with less behind them than there should be;
//! why, is in [`Health::reasons`]. It says nothing about what callers get: stale answers are counted elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tideover_core::Instant;
use tideover_core::breaker::{BreakerReport, Mode, State};
use tideover_core::cache::Dependency;

use super::look::{Circuit, Guarded};
use super::tally::Tally;
use crate::clock::HostClock;
use crate::engine::{OWED_PATTERNS, Report};
use crate::store::Guarantees;

/// How a cache is; see [`Cache::health`](crate::Cache::health). As JSON its durations are numbers of seconds, and rates
/// are fractions from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// The judgement.
    pub status: Status,
    /// Why it is not `ok`.
    pub reasons: Vec<Reason>,
    /// The name of the cache.
    pub cache: String,
    /// Where the policy runs: `native`, `policy` or `component`.
    pub engine: String,
    /// The shared store.
    pub store: StoreHealth,
    /// The circuits.
    pub circuits: Circuits,
    /// Direct operations.
    pub direct: DirectHealth,
    /// The first level.
    pub memory: MemoryHealth,
    /// What happened of late.
    pub rates: Rates,
    /// Flights under way.
    pub flights: u64,
    /// Loads under way.
    pub loading: u64,
    /// Flights that wait until fewer loads are under way.
    pub waiting: u64,
}

impl Health {
    /// Whether calls are answered, in whatever way: for a load balancer, which must not take a service away because its
    /// cache does what it is there for.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.status != Status::Down
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.status == Status::Ok
    }

    /// As it is, and degraded for this reason too.
    #[cfg(feature = "gateway")]
    pub(crate) fn degraded_by(mut self, reason: Reason) -> Self {
        self.reasons.push(reason);
        self.status = Status::of(&self.reasons);
        self
    }
}

/// A judgement of health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// Nothing is missing.
    Ok,
    /// Calls are answered, with less behind them than there should be.
    Degraded,
    /// Calls are not answered.
    Down,
}

impl Status {
    fn of(reasons: &[Reason]) -> Self {
        if reasons.iter().any(|reason| matches!(reason, Reason::Closed | Reason::EngineAway)) {
            Self::Down
        } else if reasons.is_empty() {
            Self::Ok
        } else {
            Self::Degraded
        }
    }
}

/// Why a cache is not `ok`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// It was shut down.
    Closed,
    /// The engine broke, and no other could be made.
    EngineAway,
    /// The shared store did not answer just now.
    StoreUnanswered,
    /// The last operation of the shared store failed, less than a minute ago.
    StoreFailing,
    /// The store's circuit is not closed.
    StoreCircuit,
    /// The last attempt to load failed without an answer, less than a minute ago.
    LoadsFailing,
    /// The circuit of a loader is not closed.
    LoaderCircuit,
    /// Changes have not reached the store yet.
    OwesChanges,
    /// A clear has not reached the store yet: nothing in it is trusted.
    OwesClear,
    /// Invalidations have not reached the store's log yet, or those by pattern the store.
    OwesInvalidations,
    /// The circuit of direct operations is not closed.
    DirectCircuit,
    /// Changes by direct operations have not reached the store yet.
    DirectOwesChanges,
    /// The gateway's origin accepts no connection.
    OriginUnreachable,
}

/// The shared store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoreHealth {
    /// Its kind: `redis`, say; `none` if there is none.
    pub kind: String,
    /// Whether it answered just now, within a second; `None` if there is none, or nobody has asked it.
    pub answers: Option<bool>,
    /// Changes that have not reached it yet.
    pub owed: u64,
    /// Invalidations that are not in its log yet.
    pub owed_tags: u64,
    /// Invalidations by pattern that were not carried out in it yet.
    pub owed_patterns: u64,
    /// Whether a clear is owed, so that nothing in it is trusted.
    pub owes_clear: bool,
    /// What holds across the processes that share it.
    pub guarantees: Option<Guarantees>,
}

/// The [direct operations](crate::Direct) of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DirectHealth {
    /// Keys and patterns whose changes have not reached the store yet.
    pub owed: u64,
    /// Operations that were answered, by whomever.
    pub answers: u64,
    /// Of those, the ones answered by what stands in for the store.
    pub fallback: u64,
    /// Changes that were refused because as many are owed as may be.
    pub journal_full: u64,
    /// Counts of which nobody knows whether they were made.
    pub unknown: u64,
    /// Changes that were owed, and that the store has refused for good.
    pub given_up: u64,
}

/// The circuits of a cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Circuits {
    /// The store's.
    pub store: CircuitHealth,
    /// That between [direct operations](crate::Direct) and the store.
    pub direct: CircuitHealth,
    /// That of loaders without a name.
    pub loader: CircuitHealth,
    /// Those of loaders that have one, by their names; see [`Cache::loader`](crate::Cache::loader).
    pub loaders: BTreeMap<String, CircuitHealth>,
}

/// Where a circuit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CircuitState {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// Probes decide.
    HalfOpen,
}

impl From<State> for CircuitState {
    fn from(state: State) -> Self {
        match state {
            State::Closed => Self::Closed,
            State::Open { .. } => Self::Open,
            State::HalfOpen => Self::HalfOpen,
        }
    }
}

/// A circuit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CircuitHealth {
    /// Where it stands, as callers find it.
    pub state: CircuitState,
    /// The same as the gauge of metrics: 0 closed, 1 open, 2 half-open.
    pub gauge: u8,
    /// Who decides: the rules, or an operator.
    #[serde(with = "mode")]
    pub mode: Mode,
    /// For how long it has been in that state.
    #[serde(rename = "in_state_seconds", with = "seconds")]
    pub in_state_for: Duration,
    /// Until the next probe may pass; `None` if the rules have not opened it.
    #[serde(rename = "next_probe_in_seconds", with = "seconds::option")]
    pub next_probe_in: Option<Duration>,
    /// For how long it has not been closed, waits and probes together; `None` if it is closed.
    #[serde(rename = "open_seconds", with = "seconds::option")]
    pub open_for: Option<Duration>,
    /// For how much longer it lets only a growing share of the calls through, after an outage.
    #[serde(rename = "recovers_in_seconds", with = "seconds::option")]
    pub recovers_in: Option<Duration>,
    /// Times it went from closed to open.
    pub trips: u64,
    /// Times it went from half-open to closed.
    pub recoveries: u64,
    /// Calls it refused.
    pub refused: u64,
    /// Calls it would have refused, had it not been for metrics-only.
    pub would_refuse: u64,
    /// Successes it counted.
    pub successes: u64,
    /// Failures it counted.
    pub failures: u64,
    /// Slow calls among both.
    pub slow: u64,
}

/// How long a circuit has been as it is. One that has never changed is as old as the cache.
pub(super) fn in_state_for(breaker: &BreakerReport, now: Instant) -> Duration {
    now - if breaker.since == Instant::ZERO { HostClock::birth() } else { breaker.since }
}

impl CircuitHealth {
    fn of(breaker: &BreakerReport, opened_at: Option<Instant>, now: Instant) -> Self {
        let stats = breaker.stats;
        Self {
            state: breaker.state.into(),
            gauge: breaker.state.gauge(),
            mode: breaker.mode,
            in_state_for: in_state_for(breaker, now),
            next_probe_in: breaker.next_probe.map(|at| at - now),
            open_for: (breaker.state != State::Closed)
                .then(|| opened_at.map_or_else(|| in_state_for(breaker, now), |at| now - at)),
            recovers_in: breaker.recovers_until.map(|until| until - now).filter(|left| !left.is_zero()),
            trips: stats.trips,
            recoveries: stats.recoveries,
            refused: stats.refused,
            would_refuse: stats.would_refuse,
            successes: stats.successes,
            failures: stats.failures,
            slow: stats.slow,
        }
    }
}

/// The first level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemoryHealth {
    /// Entries held.
    pub entries: u64,
    /// Entries that fit.
    pub capacity: u64,
    /// What the values weigh together.
    pub weight: u64,
    /// What they may weigh; 0 is no limit.
    pub weight_max: u64,
    /// Bytes of its tables, keys and values included, what those point to not.
    pub bytes: u64,
}

/// What happened of late: over the last minute, or since the cache was made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rates {
    /// Over how long.
    #[serde(rename = "window_seconds", with = "seconds")]
    pub window: Duration,
    /// Lookups a second.
    pub lookups_per_second: f64,
    /// Attempts to load a second.
    pub loads_per_second: f64,
    /// The part of the lookups that found something fresh in memory; `None` without lookups.
    pub hit_rate: Option<f64>,
    /// The part of the lookups that were answered with something stale.
    pub stale_rate: Option<f64>,
    /// The part of the attempts to load that failed.
    pub load_failure_rate: Option<f64>,
}

impl Rates {
    pub(super) fn of(tally: &Tally, window: Duration) -> Self {
        let per_second = |count: u64| if window.is_zero() { 0.0 } else { count as f64 / window.as_secs_f64() };
        Self {
            window,
            lookups_per_second: per_second(tally.lookups()),
            loads_per_second: per_second(tally.loads),
            hit_rate: tally.hit_rate(),
            stale_rate: tally.stale_rate(),
            load_failure_rate: tally.load_failure_rate(),
        }
    }
}

/// What a health report is made of, beside the machine's own.
pub(super) struct Findings<'a> {
    pub(super) cache: &'a str,
    pub(super) engine: &'a str,
    pub(super) store: Option<&'a str>,
    pub(super) store_answers: Option<bool>,
    pub(super) guarantees: Option<Guarantees>,
    pub(super) circuits: Vec<Circuit>,
    pub(super) opened_at: &'a HashMap<Guarded, Instant>,
    pub(super) rates: Rates,
    /// What is known without asking anybody.
    pub(super) reasons: Vec<Reason>,
    pub(super) now: Instant,
}

impl Findings<'_> {
    fn circuits(&self, report: &Report) -> Circuits {
        let health = |of: Guarded, breaker: &BreakerReport| {
            CircuitHealth::of(breaker, self.opened_at.get(&of).copied(), self.now)
        };
        let direct = self.circuits.iter().find(|circuit| circuit.of == Guarded::Direct);
        let named = self.circuits.iter().filter_map(|circuit| {
            let name = circuit.label.strip_prefix("loader:")?;
            Some((name.to_owned(), health(circuit.of, &circuit.report)))
        });
        Circuits {
            store: health(Guarded::By(Dependency::Store), &report.store_breaker),
            direct: health(Guarded::Direct, direct.map_or(&report.store_breaker, |direct| &direct.report)),
            loader: health(Guarded::By(Dependency::Loader), &report.load_breaker),
            loaders: named.collect(),
        }
    }

    pub(super) fn health(self, report: &Report) -> Health {
        let circuits = self.circuits(report);
        let Self { cache, engine, store, store_answers, guarantees, rates, mut reasons, .. } = self;
        if store_answers == Some(false) {
            reasons.push(Reason::StoreUnanswered);
        }
        Health {
            status: Status::of(&reasons),
            reasons,
            cache: cache.to_owned(),
            engine: engine.to_owned(),
            store: StoreHealth {
                kind: store.unwrap_or("none").to_owned(),
                answers: store_answers,
                owed: report.count("owed"),
                owed_tags: report.count("owed_tags"),
                owed_patterns: report.count(OWED_PATTERNS),
                owes_clear: report.owes_clear,
                guarantees,
            },
            circuits,
            direct: DirectHealth {
                owed: report.count("direct_owed"),
                answers: report.count("direct_answers"),
                fallback: report.count("direct_fallback"),
                journal_full: report.count("direct_journal_full"),
                unknown: report.count("direct_unknown"),
                given_up: report.count("direct_given_up"),
            },
            memory: MemoryHealth {
                entries: report.count("entries"),
                capacity: report.count("capacity"),
                weight: report.count("weight"),
                weight_max: report.count("weight_max"),
                bytes: report.count("bytes"),
            },
            rates,
            flights: report.count("flights"),
            loading: report.count("loading"),
            waiting: report.count("waiting"),
        }
    }
}

/// What the machine's own report says is missing.
pub(super) fn missing(report: &Report) -> Vec<Reason> {
    let is_open = |breaker: &BreakerReport| breaker.state != State::Closed;
    let signs = [
        (is_open(&report.store_breaker), Reason::StoreCircuit),
        (
            is_open(&report.load_breaker) || report.loaders.iter().any(|(_, named)| is_open(named)),
            Reason::LoaderCircuit,
        ),
        (report.count("owed") > 0, Reason::OwesChanges),
        (report.owes_clear, Reason::OwesClear),
        (report.count("owed_tags") + report.count(OWED_PATTERNS) > 0, Reason::OwesInvalidations),
        (report.count("direct_owed") > 0, Reason::DirectOwesChanges),
    ];
    signs.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect()
}

/// Durations as numbers of seconds.
mod seconds {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(time.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(D::Error::custom)
    }

    pub(super) mod option {
        use super::*;

        pub(in super::super) fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, to),
                None => to.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
            let seconds = Option::<f64>::deserialize(from)?;
            seconds.map(Duration::try_from_secs_f64).transpose().map_err(D::Error::custom)
        }
    }
}

/// Modes by their names.
mod mode {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use tideover_core::breaker::Mode;

    pub(super) fn serialize<S: Serializer>(mode: &Mode, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(mode.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Mode, D::Error> {
        let name = String::deserialize(from)?;
        Mode::from_name(&name).ok_or_else(|| D::Error::custom("no mode of that name"))
    }
}
