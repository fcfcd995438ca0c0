//! A look at the machine: what has changed since the last one is told as events, log lines and metrics.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tideover_core::breaker::{Breaker, BreakerPolicy, BreakerReport, State};
use tideover_core::cache::Dependency;
use tideover_core::{Clock, Instant};
use tracing::{info, warn};

use super::Observed;
use super::events::Happened;
use super::health::{Findings, Health, Rates, Reason, missing};
#[cfg(feature = "metrics")]
use super::metrics;
use super::tally::{Tally, grown};
use super::transitions::{Transition, between};
use super::troubles::Trouble;
use crate::cache::Cache;
use crate::engine::Report;
use crate::error::Error;

/// The counts are kept as they were at moments this far apart, for rates over the time of all of them.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// So many of them.
const SAMPLES: usize = 12;

/// What was seen at the last look.
#[derive(Debug, Default)]
pub(super) struct Looked {
    report: Option<Report>,
    /// No report could be had.
    is_away: bool,
    /// Since when circuits are not closed.
    opened_at: HashMap<Guarded, Instant>,
    circuits: HashMap<Guarded, BreakerReport>,
    reasons: Vec<Reason>,
    samples: VecDeque<(Instant, Tally)>,
    /// Whether the store tells what other processes change.
    tells: Option<bool>,
    #[cfg(feature = "metrics")]
    published: metrics::Published,
}

/// What a circuit stands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Guarded {
    /// Of the machine.
    By(Dependency),
    /// The store, as direct operations find it.
    Direct,
}

/// A circuit of a cache, as it was found.
#[derive(Debug)]
pub(super) struct Circuit {
    pub(super) of: Guarded,
    /// `store`, `direct`, `loader`, or `loader:NAME`.
    pub(super) label: Cow<'static, str>,
    pub(super) report: BreakerReport,
}

impl Cache {
    /// How the cache is: the machine, its circuits, memory, and whether the store answers, which it has a second for.
    ///
    /// It never fails, and says so where something is missing.
    ///
    /// ```
    /// use tideover::observe::{CircuitState, Reason, Status};
    /// use tideover::{BreakerMode, Cache, Dependency};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().name("users").build()?;
    /// assert_eq!(cache.health().await.status, Status::Ok);
    ///
    /// cache.set_breaker_mode(Dependency::Loader, BreakerMode::ForcedOpen).await?;
    /// let health = cache.health().await;
    /// assert_eq!((health.status, &health.reasons[..]), (Status::Degraded, &[Reason::LoaderCircuit][..]));
    /// assert_eq!(health.circuits.loader.state, CircuitState::Open);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn health(&self) -> Health {
        let store_answers = self.store_answers().await;
        if store_answers == Some(true) {
            self.observed().went_well(Trouble::Store);
        }
        self.health_by(store_answers).await
    }

    /// As [`Cache::health`], without asking the store, for probes that must not wait for one that hangs:
    /// [`StoreHealth::answers`](super::StoreHealth::answers) is `None`.
    pub async fn health_at_hand(&self) -> Health {
        self.health_by(None).await
    }

    async fn health_by(&self, store_answers: Option<bool>) -> Health {
        let observed = self.observed();
        let mut looked = observed.looked.lock().await;
        // That the engine was replaced is told once; the one in its place can be asked.
        if looked.look(self).await.is_err() {
            let _away = looked.look(self).await;
        }
        let now = self.clock().now();
        let fresh = Report::fresh();
        let report = looked.report.as_ref().unwrap_or(&fresh);
        let findings = Findings {
            cache: observed.name(),
            engine: self.engine(),
            store: self.store(),
            store_answers,
            guarantees: self.guarantees(),
            circuits: self.circuits(report),
            opened_at: &looked.opened_at,
            rates: looked.rates(now),
            reasons: looked.judge(observed),
            now,
        };
        findings.health(report)
    }

    /// Brings what is told of this cache up to date: metrics, events, log lines. It happens by itself twice a second; this is
    /// for those who show metrics at the moment when they are asked for.
    ///
    /// # Errors
    ///
    /// As [`Cache::stats`].
    pub async fn update_metrics(&self) -> Result<(), Error> {
        self.observed().looked.lock().await.look(self).await
    }

    /// All circuits: the store's, that of direct operations, that of loaders without a name, and those of loaders that
    /// have one.
    pub(super) fn circuits(&self, report: &Report) -> Vec<Circuit> {
        let named = report.loaders.iter().map(|(loader, report)| {
            let name = self.loader_name(*loader);
            let label = name.map_or_else(|| format!("loader:{}", loader.0), |name| format!("loader:{name}"));
            Circuit { of: Guarded::By(Dependency::Named(*loader)), label: label.into(), report: *report }
        });
        let of = |of, label: &'static str, report| Circuit { of, label: label.into(), report };
        let store = of(Guarded::By(Dependency::Store), "store", report.store_breaker);
        let direct = of(Guarded::Direct, "direct", self.direct_operations().look());
        let loader = of(Guarded::By(Dependency::Loader), "loader", report.load_breaker);
        [store, direct, loader].into_iter().chain(named).collect()
    }
}

impl Looked {
    async fn look(&mut self, cache: &Cache) -> Result<(), Error> {
        let observed = cache.observed();
        let report = cache.stats().await;
        self.is_away = matches!(report, Err(Error::Engine(_)));
        let report = report?;
        let now = cache.clock().now();
        let circuits = cache.circuits(&report);
        self.transitions(observed, &circuits);
        self.counts(observed, &report);
        self.backplane(cache);
        for trouble in Trouble::ALL {
            let over = observed.troubles.look(trouble, observed.name());
            if let (Some(over), Trouble::Store) = (over, trouble) {
                observed.tell(|| Happened::StoreBack { failures: over.failures, lasted: over.lasted });
            }
        }
        self.sample(&report, now);
        #[cfg(feature = "metrics")]
        self.published.update(&observed.name, &report, &circuits, observed.replacements(), now);
        self.report = Some(report);
        let reasons = self.judge(observed);
        self.degraded(observed, reasons);
        if observed.readers().want_removals() {
            observed.tell_removals(cache.take_removals().await?);
        }
        Ok(())
    }

    fn transitions(&mut self, observed: &Observed, circuits: &[Circuit]) {
        for Circuit { of, label, report } in circuits {
            for transition in between(self.circuits.get(of), report) {
                observed.tell_transition(*of, label, transition);
            }
            if report.state == State::Closed {
                self.opened_at.remove(of);
            } else {
                self.opened_at.entry(*of).or_insert(report.since);
            }
        }
        let is_loaders = |of| !matches!(of, Guarded::Direct | Guarded::By(Dependency::Store));
        let mut loaders = circuits.iter().filter(|circuit| is_loaders(circuit.of));
        if loaders.all(|circuit| circuit.report.state == State::Closed) {
            observed.went_well(Trouble::LoaderCircuit);
        }
        self.circuits = circuits.iter().map(|circuit| (circuit.of, circuit.report)).collect();
    }

    fn counts(&self, observed: &Observed, report: &Report) {
        let grown = |name| grown(self.report.as_ref(), report, name);
        for _ in 0..grown("journal_overflows") {
            observed.tell(|| Happened::JournalOverflowed);
            warn!(
                cache = observed.name(),
                "the journal is full: the store's namespace will be cleared when it is back"
            );
        }
        let corrupt = grown("corrupt");
        if corrupt > 0 {
            observed.failed_often(Trouble::Corrupt, corrupt, &"it was written by something else, or is damaged");
        }
        let (changes, owed) = (grown("replayed"), report.count("owed"));
        if changes > 0 {
            observed.tell(|| Happened::Replayed { changes, owed });
            info!(cache = observed.name(), changes, owed, "what was owed to the store has reached it");
        }
        let (changes, owed) = (grown("direct_replayed"), report.count("direct_owed"));
        if changes > 0 {
            info!(cache = observed.name(), changes, owed, "what direct operations owed to the store has reached it");
        }
        // Whoever begins to listen has missed what was before.
        if self.report.is_some() && grown("missed") > 0 {
            observed.tell(|| Happened::ChangesMissed);
            info!(cache = observed.name(), "changes of other processes may have been missed; memory is in doubt");
        }
        let removals = grown("removals_lost");
        if removals > 0 && self.report.is_some() {
            observed.tell(|| Happened::RemovalsLost { removals });
        }
    }

    fn backplane(&mut self, cache: &Cache) {
        let observed = cache.observed();
        let tells = cache.tells_changes();
        if let (Some(before), Some(tells)) = (self.tells, tells)
            && before != tells
        {
            observed.tell(|| Happened::Backplane { tells });
            warn!(
                cache = observed.name(),
                tells, "whether the store tells what other processes change is different now"
            );
        }
        self.tells = tells;
    }

    fn degraded(&mut self, observed: &Observed, reasons: Vec<Reason>) {
        if !reasons.is_empty() && reasons != self.reasons {
            observed.tell(|| Happened::Degraded { reasons: reasons.clone() });
        } else if reasons.is_empty() && !self.reasons.is_empty() {
            observed.tell(|| Happened::Recovered);
        }
        self.reasons = reasons;
    }

    /// What is missing, as far as is known without asking the store.
    fn judge(&self, observed: &Observed) -> Vec<Reason> {
        let signs = [
            (observed.is_closed(), Reason::Closed),
            (self.is_away, Reason::EngineAway),
            (observed.troubles.is_acute(Trouble::Store), Reason::StoreFailing),
            (observed.troubles.is_acute(Trouble::Load), Reason::LoadsFailing),
        ];
        let seen = signs.into_iter().filter_map(|(holds, reason)| holds.then_some(reason));
        let direct = self.circuits.get(&Guarded::Direct).is_some_and(|direct| direct.state != State::Closed);
        let seen = seen.chain(self.report.iter().flat_map(missing));
        seen.chain(direct.then_some(Reason::DirectCircuit)).collect()
    }

    fn sample(&mut self, report: &Report, now: Instant) {
        if self.samples.back().is_none_or(|(at, _)| now - *at >= SAMPLE_EVERY) {
            self.samples.push_back((now, report.tally()));
            if self.samples.len() > SAMPLES + 1 {
                self.samples.pop_front();
            }
        }
    }

    fn rates(&self, now: Instant) -> Rates {
        let tally = self.report.as_ref().map(Report::tally).unwrap_or_default();
        match self.samples.front() {
            Some((at, earlier)) => Rates::of(&tally.since(earlier), now - *at),
            None => Rates::of(&tally, Duration::ZERO),
        }
    }
}

impl Observed {
    fn tell_transition(&self, guarded: Guarded, label: &str, transition: Transition) {
        let trouble = match guarded {
            Guarded::By(Dependency::Store) => Trouble::StoreCircuit,
            Guarded::By(_) => Trouble::LoaderCircuit,
            Guarded::Direct => Trouble::DirectCircuit,
        };
        match transition {
            Transition::Opened { again: false } => self.failed(trouble, &label),
            // One loader may be well while another is not.
            Transition::Closed { .. } if trouble != Trouble::LoaderCircuit => self.went_well(trouble),
            _ => {}
        }
        // Events are of the machine's dependencies; of this circuit health, metrics and log lines tell.
        let Guarded::By(of) = guarded else { return };
        self.tell(|| match transition {
            Transition::Opened { again } => Happened::CircuitOpened { of, again },
            Transition::HalfOpened => Happened::CircuitHalfOpened { of },
            Transition::Closed { recovered } => Happened::CircuitClosed { of, recovered },
        });
    }
}

impl Report {
    /// That of an engine that has done nothing yet.
    fn fresh() -> Self {
        let closed = Breaker::new(BreakerPolicy::default(), 0).look();
        let (loaders, counts) = (Vec::new(), Vec::new());
        Self { store_breaker: closed, load_breaker: closed, loaders, owes_clear: false, counts }
    }
}
