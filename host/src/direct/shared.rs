//! What all handles of a cache's direct operations share, and the way of an operation: to the store, or to what stands
//! in for it.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tideover_core::breaker::{BreakerReport, Verdict};
use tideover_core::{Clock, Instant, Policy, Source, StoreUse};
use tokio::sync::Notify;

use super::answer::Answer;
use super::circuit::Circuit;
use super::counts::{Counts, DirectStats};
use super::fallback::{Fallback, Undone};
use super::journal::Journal;
use crate::clock::HostClock;
use crate::error::Error;
use crate::observe::Observed;
use crate::outside::judge;
use crate::store::{Abilities, Remaining, Store, StoreError, due};

pub(crate) struct Shared {
    store: Option<Arc<dyn Store>>,
    pub(super) policy: Policy,
    pub(super) clock: HostClock,
    pub(super) circuit: Circuit,
    fallback: Mutex<Fallback>,
    pub(super) counts: Counts,
    pub(super) observed: Arc<Observed>,
    /// Whether somebody pays at present, and who waits for that.
    pub(super) paying: AtomicBool,
    pub(super) paid: Notify,
    pub(super) closing: AtomicBool,
}

/// An operation under way.
pub(super) struct Call {
    pub(super) operation: &'static str,
    /// Since it asks the store.
    pub(super) number: u64,
    began: Instant,
    deadline: Instant,
}

/// What an operation needs to be true in the store before it is asked.
pub(super) enum Concerns<'a> {
    Nothing,
    Keys(&'a [&'a str]),
    Everything,
}

impl Concerns<'_> {
    fn are_owed(&self, journal: &Journal) -> bool {
        match self {
            Self::Nothing => false,
            Self::Keys(keys) => keys.iter().any(|key| journal.owes(key)),
            Self::Everything => !journal.is_empty(),
        }
    }

    /// Whether some of that is not paid before a wait is over.
    fn wait(&self, journal: &Journal, now: Instant) -> bool {
        match self {
            Self::Nothing => false,
            Self::Keys(keys) => keys.iter().any(|key| journal.waits(key, now)),
            Self::Everything => journal.any_waits(now),
        }
    }
}

/// What a failure says of the store.
type Judged = fn(&StoreError) -> Verdict;

/// Why the store has brought no answer.
pub(super) enum Unanswered {
    /// What stands in for it is to answer.
    Away(Fate),
    /// It has refused.
    Refused(StoreError),
}

/// What became of an operation that was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The store was not asked.
    Skipped,
    NotDone,
    /// It may have been done.
    Unknown,
}

impl Shared {
    pub(crate) fn new(
        store: Option<Arc<dyn Store>>,
        policy: Policy,
        seed: u64,
        clock: HostClock,
        observed: Arc<Observed>,
    ) -> Self {
        let fallback = Fallback::new(&policy, store.is_some(), seed);
        let circuit = Circuit::new(policy.store_breaker_policy(), seed, clock.clone());
        Self {
            store,
            policy,
            clock,
            circuit,
            fallback: Mutex::new(fallback),
            counts: Counts::default(),
            observed,
            paying: AtomicBool::new(false),
            paid: Notify::new(),
            closing: AtomicBool::new(false),
        }
    }

    pub(super) fn store(&self) -> Option<&dyn Store> {
        self.store.as_deref()
    }

    pub(super) fn fallback(&self) -> MutexGuard<'_, Fallback> {
        self.fallback.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn owes(&self) -> bool {
        !self.fallback().journal().is_empty()
    }

    pub(crate) fn stats(&self) -> DirectStats {
        let fallback = self.fallback();
        let (owed, journaled) = (fallback.journal().len() as u64, fallback.journal().taken());
        DirectStats { owed, journaled, ..self.counts.read() }
    }

    pub(crate) fn look(&self) -> BreakerReport {
        self.circuit.look()
    }

    /// An operation on these keys begins.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for a key that is too long, [`Error::Closed`].
    pub(super) fn begin(&self, operation: &'static str, keys: &[&str], limit: Duration) -> Result<Call, Error> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        keys.iter().try_for_each(|key| self.policy.check_key(key)).map_err(Error::Refused)?;
        let began = self.clock.now();
        Ok(Call { operation, number: 0, began, deadline: began + limit })
    }

    pub(super) fn reading(&self, operation: &'static str, keys: &[&str]) -> Result<Call, Error> {
        self.begin(operation, keys, self.policy.store_read_deadline)
    }

    /// An operation that the store must be able to do, so that it is not owed in vain.
    pub(super) fn writing(
        &self,
        operation: &'static str,
        keys: &[&str],
        able: fn(Abilities) -> bool,
    ) -> Result<Call, Error> {
        let call = self.begin(operation, keys, self.policy.store_write_deadline)?;
        if self.store.as_ref().is_some_and(|store| !able(store.abilities())) {
            return Err(Error::StoreRefused { operation, error: StoreError::Unsupported(operation) });
        }
        Ok(call)
    }

    /// When a value ends that is written now.
    pub(super) fn ends(&self, ttl: Option<Duration>) -> Instant {
        ttl.map_or(Instant::NEVER, |ttl| self.clock.now() + ttl)
    }

    /// Whether the store is to be asked when `key` ends, as it can tell and nothing here can.
    pub(super) fn asks_end(&self, key: &str) -> bool {
        let can_tell = self.store.as_ref().is_some_and(|store| store.abilities().ttl);
        can_tell && self.policy.fallback && !self.fallback().knows_end(key, self.clock.now())
    }
}

/// The way to the store.
impl Shared {
    /// What the store answers, if its circuit lets the call pass, and what it is owed of that has been paid.
    pub(super) async fn ask<T>(
        self: &Arc<Self>,
        call: &mut Call,
        concerns: Concerns<'_>,
        work: Option<impl Future<Output = Result<T, StoreError>>>,
    ) -> Result<T, Unanswered> {
        let Some(work) = work else { return Err(Unanswered::Away(Fate::Skipped)) };
        if !self.is_settled(call, &concerns).await {
            return Err(Unanswered::Away(Fate::Skipped));
        }
        // What was paid while it waited is older than what it finds.
        call.number = self.fallback().begin();
        let key = if let Concerns::Keys([key]) = concerns { Some(*key) } else { None };
        self.try_store(call.operation, key, call.deadline, work).await
    }

    /// Whether what the store is owed of that has been paid; for which the call has half of its time.
    pub(super) async fn is_settled(self: &Arc<Self>, call: &Call, concerns: &Concerns<'_>) -> bool {
        let (owes, concerned) = {
            let fallback = self.fallback();
            (!fallback.journal().is_empty(), concerns.are_owed(fallback.journal()))
        };
        if !owes {
            return true;
        }
        let is_paying = self.start_paying();
        if !concerned {
            return true;
        }
        // A circuit that is not closed has its probe to make first, for which nobody else waits.
        if !is_paying || !self.circuit.is_closed() {
            return false;
        }
        let until = self.clock.deadline(call.began + (call.deadline - call.began) / 2);
        until.limit(self.settled(concerns)).await.unwrap_or(false)
    }

    /// Waits until that is paid, or is not going to be now.
    async fn settled(&self, concerns: &Concerns<'_>) -> bool {
        loop {
            let mut paid = std::pin::pin!(self.paid.notified());
            paid.as_mut().enable();
            if !concerns.are_owed(self.fallback().journal()) {
                return true;
            }
            let waits = concerns.wait(self.fallback().journal(), self.clock.now());
            if waits || !self.paying.load(Ordering::Acquire) {
                return false;
            }
            paid.await;
        }
    }

    /// One operation of the store, through the circuit and within its deadline.
    pub(super) async fn try_store<T>(
        &self,
        operation: &'static str,
        key: Option<&str>,
        deadline: Instant,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Unanswered> {
        self.try_judged((operation, verdict), key, deadline, work).await
    }

    /// The same for what is owed. That it fails once more says nothing of the store for others: the key waits by itself.
    pub(super) async fn try_owed<T>(
        &self,
        key: Option<&str>,
        deadline: Instant,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Unanswered> {
        self.try_judged(("replay", verdict_of_owed), key, deadline, work).await
    }

    async fn try_judged<T>(
        &self,
        (operation, judged): (&'static str, Judged),
        key: Option<&str>,
        deadline: Instant,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Unanswered> {
        let permitted = self.circuit.acquire(deadline).ok_or(Unanswered::Away(Fate::Skipped))?;
        let limit = self.clock.deadline(deadline);
        let limited = async {
            match limit.limit(due(limit.at(), AssertUnwindSafe(work).catch_unwind())).await {
                Some(Ok(result)) => result,
                Some(Err(_panic)) => Err(StoreError::Uncertain("the store panicked".to_owned())),
                None => Err(StoreError::TimedOut("no answer by the deadline".to_owned())),
            }
        };
        let result = self.observed.asked((operation, "direct", key), limited, judge).await;
        permitted.report(result.as_ref().map_or_else(judged, |_| Verdict::Success));
        result.map_err(|error| {
            self.counts.failures.add(1);
            unanswered(error)
        })
    }
}

/// What an error says of the store. What it answers is no failure, whatever the answer.
const fn verdict(error: &StoreError) -> Verdict {
    match error {
        StoreError::Unavailable(_) | StoreError::Uncertain(_) | StoreError::TimedOut(_) => Verdict::Failure,
        StoreError::Rejected(_) | StoreError::Foreign(_) => Verdict::Success,
        StoreError::Overloaded { .. } | StoreError::Congested | StoreError::Unsupported(_) | StoreError::Closed => {
            Verdict::None
        }
    }
}

const fn verdict_of_owed(error: &StoreError) -> Verdict {
    match verdict(error) {
        Verdict::Failure => Verdict::None,
        other => other,
    }
}

fn unanswered(error: StoreError) -> Unanswered {
    match error {
        StoreError::Unavailable(_) | StoreError::Overloaded { .. } | StoreError::Closed => {
            Unanswered::Away(Fate::NotDone)
        }
        StoreError::Uncertain(_) | StoreError::TimedOut(_) | StoreError::Congested => Unanswered::Away(Fate::Unknown),
        error => Unanswered::Refused(error),
    }
}

/// Answers.
impl Shared {
    /// The answer of the store, of which `seen` keeps a copy, or of what stands in for it.
    pub(super) fn answer<T, R>(
        &self,
        call: &Call,
        asked: Result<T, Unanswered>,
        seen: impl FnOnce(&mut Fallback, T, Instant) -> R,
        instead: impl FnOnce(&mut Fallback, Fate, Instant) -> Result<R, Undone>,
    ) -> Result<Answer<R>, Error> {
        let fate = match asked {
            Ok(answer) => {
                let value = seen(&mut self.fallback(), answer, self.clock.now());
                return Ok(self.answered(value, Source::Store));
            }
            Err(Unanswered::Refused(error)) => {
                return Err(Error::StoreRefused { operation: call.operation, error });
            }
            Err(Unanswered::Away(fate)) => fate,
        };
        if self.store.is_some() && !self.policy.fallback {
            let store = if fate == Fate::Skipped { StoreUse::Skipped } else { StoreUse::Failed };
            return Err(Error::Store { store: Some(store) });
        }
        let done = instead(&mut self.fallback(), fate, self.clock.now());
        let value = done.map_err(|undone| self.undone(call, undone))?;
        Ok(self.answered(value, if self.store.is_some() { Source::Fallback } else { Source::Memory }))
    }

    fn answered<R>(&self, value: R, source: Source) -> Answer<R> {
        self.counts.answers.add(1);
        if source == Source::Fallback {
            self.counts.fallback.add(1);
        }
        Answer::new(value, source)
    }

    fn undone(&self, call: &Call, undone: Undone) -> Error {
        let operation = call.operation;
        match undone {
            Undone::Refused(error) => Error::StoreRefused { operation, error },
            Undone::Full => {
                self.counts.journal_full.add(1);
                Error::JournalFull { operation, max: self.policy.journal_max }
            }
            Undone::Unknown => {
                self.counts.unknown.add(1);
                Error::OutcomeUnknown { operation }
            }
        }
    }
}

/// What an operation brings, and if that `asks` when it is its turn, when the key at `place` ends. Both are asked at once.
pub(super) async fn with_end<T>(
    store: &dyn Store,
    place: &str,
    asks: impl FnOnce() -> bool,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<(T, Option<Remaining>), StoreError> {
    if !asks() {
        return Ok((work.await?, None));
    }
    let (brought, left) = tokio::join!(work, store.remaining(place));
    Ok((brought?, left.ok()))
}
