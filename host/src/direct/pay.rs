//! Paying what is owed to the store when it is back: by whoever uses direct operations, by the cache's own rounds, and
//! at its end.
//!
//! One task pays at a time, in rounds: patterns go first, then the keys, the oldest change first, several at once. What
//! fails waits, and the round goes on with the rest: a store may be away for some keys alone. Only if none of many is
//! answered, somebody else's keys are asked about, and what they say counts for the circuit. What must not be done
//! twice is sent to who has just answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, select_ok};
use futures_util::{FutureExt, TryFutureExt};
use tideover_core::pattern::Pattern;
use tideover_core::{Clock, Instant};
use tracing::{debug, warn};

use super::debt::{Ends, Step};
use super::journal::Due;
use super::place::place;
use super::shared::{Fate, Shared, Unanswered};
use super::turns::Waits;
use crate::store::{Cursor, Store, StoreError, When};

/// Keys that are paid for at once.
const AT_ONCE: usize = 64;

/// Keys of each kind that a probe asks about.
const PROBED: usize = 8;

/// Keys that one step of a removal looks at.
const PAGE: usize = 1_000;

/// What a step has come to at the store.
#[derive(Default)]
struct Done {
    /// What it counted to.
    sum: Option<i64>,
    /// Its condition did not hold.
    failed: bool,
}

/// For whom keys are removed by pattern.
#[derive(Clone, Copy)]
pub(super) enum Sweeping {
    /// For a caller of that operation.
    Called(&'static str),
    Owed,
}

/// What a try at paying has come to.
#[derive(Default)]
struct Tried {
    /// The store has answered, whatever.
    answered: bool,
    /// It has not, at least once.
    failed: bool,
    /// The circuit has not let it pass.
    skipped: bool,
}

impl Tried {
    const fn and(self, other: &Self) -> Self {
        Self {
            answered: self.answered | other.answered,
            failed: self.failed | other.failed,
            skipped: self.skipped | other.skipped,
        }
    }
}

/// The task that pays. When it ends, however that is, nothing is on its way any more.
struct Payer(Arc<Shared>);

impl Drop for Payer {
    fn drop(&mut self) {
        let mut fallback = self.0.fallback();
        let journal = fallback.journal_mut();
        for (key, may_repeat) in journal.under_way() {
            if may_repeat {
                journal.put_back(&key);
            } else {
                journal.lost(&key);
                self.0.counts.unknown.add(1);
            }
        }
        drop(fallback);
        self.0.paying.store(false, Ordering::Release);
        self.0.paid.notify_waiters();
    }
}

/// Whether the store answers when it is asked about that key, whatever the answer.
async fn hears(store: &dyn Store, place: &str) -> Result<(), StoreError> {
    match store.exists(place).await {
        Ok(_) | Err(StoreError::Rejected(_) | StoreError::Foreign(_)) => Ok(()),
        Err(StoreError::Unsupported(what)) => Err(StoreError::Unavailable(what.to_owned())),
        Err(error) => Err(error),
    }
}

impl Shared {
    /// Has everything paid that is due, in a task of its own, and the circuit probed. `false`: the circuit is open, or
    /// nothing is due.
    pub(super) fn start_paying(self: &Arc<Self>) -> bool {
        if !self.circuit.may_pass() {
            return false;
        }
        let is_due = !self.circuit.is_closed() || self.fallback().journal().is_due(self.clock.now());
        if !is_due {
            return self.paying.load(Ordering::Acquire);
        }
        if !self.paying.swap(true, Ordering::AcqRel) {
            let payer = Payer(Arc::clone(self));
            tokio::spawn(async move { payer.0.pay().await });
        }
        true
    }

    /// Has done what is due although nobody calls.
    pub(crate) fn maintain(self: &Arc<Self>) {
        let is_due = self.store().is_some() && (self.owes() || !self.circuit.is_closed());
        if is_due && !self.closing.load(Ordering::Acquire) {
            self.start_paying();
        }
    }

    /// Takes no more calls, and pays for as long as `grace` what is owed. What is left is lost with the process.
    pub(crate) async fn close(self: &Arc<Self>, grace: Duration) {
        let closed_before = self.closing.swap(true, Ordering::AcqRel);
        if !self.owes() {
            return;
        }
        let _paid_or_not = tokio::time::timeout(grace, self.pay_up()).await;
        let owed = self.fallback().journal().len();
        if owed > 0 && !closed_before {
            warn!(cache = self.observed.name(), owed, "changes of direct operations never reached the store");
        }
    }

    async fn pay_up(self: &Arc<Self>) {
        // Whoever pays already may be about to give up.
        for _ in 0..2 {
            self.fallback().journal_mut().retry_all();
            self.start_paying();
            while self.paying.load(Ordering::Acquire) {
                let mut paid = std::pin::pin!(self.paid.notified());
                paid.as_mut().enable();
                if self.paying.load(Ordering::Acquire) {
                    paid.await;
                }
            }
            if !self.owes() {
                return;
            }
        }
    }

    async fn pay(&self) {
        let Some(store) = self.store() else { return };
        if let Err(Unanswered::Refused(error)) = self.pay_all(store).await {
            debug!(cache = self.observed.name(), %error, "what direct operations owe is not paid");
        }
    }

    async fn pay_all(&self, store: &dyn Store) -> Result<(), Unanswered> {
        while !self.circuit.is_closed() {
            self.probe(store).await?;
        }
        let (began, mut after, mut may_sweep) = (self.clock.now(), 0, true);
        loop {
            let due = self.fallback().journal_mut().due(after, AT_ONCE, began, may_sweep);
            let is_retry = matches!(due, Due::Retries(_));
            let (tried, is_first_try) = match due {
                Due::Nothing => return Ok(()),
                Due::Sweep { number, pattern, is_first_try } => {
                    let tried = self.pay_sweep(store, number, &pattern).await;
                    may_sweep = !tried.failed;
                    (tried, is_first_try)
                }
                Due::FirstTries(last, keys) => {
                    after = last;
                    (self.pay_keys(store, &keys).await, true)
                }
                Due::Retries(keys) => (self.pay_keys(store, &keys).await, false),
            };
            self.paid.notify_waiters();
            let is_in_vain = tried.failed && !tried.answered;
            // Those that have failed before do not hold up the next round.
            if tried.skipped || is_retry && is_in_vain {
                return Ok(());
            }
            if is_first_try && is_in_vain {
                self.probe(store).await?;
            }
        }
    }

    /// Asks whether the store answers at all: about keys wherever they lie, as it may be away for some of them, and in
    /// general. One answer will do.
    async fn probe(&self, store: &dyn Store) -> Result<(), Unanswered> {
        let places: Vec<_> = self.fallback().some_keys(PROBED).iter().map(|key| place(key)).collect();
        let asked = places.iter().map(|place| hears(store, place).boxed()).chain([store.ping()]);
        self.try_store("ping", None, self.read_by(), select_ok(asked).map_ok(|((), _)| ())).await
    }

    async fn pay_sweep(&self, store: &dyn Store, number: u64, pattern: &str) -> Tried {
        match self.sweep(store, Sweeping::Owed, pattern).await {
            Ok(_) => self.counts.replayed.add(1),
            Err(Unanswered::Refused(error)) => {
                self.counts.given_up.add(1);
                warn!(cache = self.observed.name(), %error, "a removal by pattern was refused, and is given up");
            }
            Err(Unanswered::Away(Fate::Skipped)) => return Tried { skipped: true, ..Tried::default() },
            Err(Unanswered::Away(_)) => {
                self.fallback().journal_mut().sweep_failed(number, self.clock.now(), self.waits());
                return Tried { failed: true, ..Tried::default() };
            }
        }
        self.fallback().journal_mut().swept(number);
        Tried { answered: true, ..Tried::default() }
    }

    async fn pay_keys(&self, store: &dyn Store, keys: &[Arc<str>]) -> Tried {
        let tried = join_all(keys.iter().map(|key| self.pay_key(store, key))).await;
        tried.iter().fold(Tried::default(), Tried::and)
    }

    /// Pays what one key owes, step by step.
    async fn pay_key(&self, store: &dyn Store, key: &Arc<str>) -> Tried {
        let mut tried = Tried::default();
        loop {
            let step = self.fallback().journal_mut().send(key, self.clock.now());
            let Some(step) = step else { return tried };
            let is_count = matches!(step, Step::Add { .. });
            match self.pay_step(store, key, step, tried.answered).await {
                Ok(done) => self.done(key, &done),
                Err(Unanswered::Refused(error)) if self.refused(key, &error) => {}
                // It gets a second chance.
                Err(Unanswered::Refused(_)) => {
                    self.wait(key);
                    return Tried { answered: true, ..tried };
                }
                Err(Unanswered::Away(fate)) => {
                    self.not_done(key, is_count && fate == Fate::Unknown);
                    if fate == Fate::Skipped {
                        return Tried { skipped: true, ..tried };
                    }
                    self.wait(key);
                    return Tried { failed: true, ..tried };
                }
            }
            tried.answered = true;
        }
    }

    fn wait(&self, key: &Arc<str>) {
        self.fallback().journal_mut().failed(key, self.clock.now(), self.waits());
    }

    fn waits(&self) -> Waits {
        Waits::of(&self.policy)
    }

    fn done(&self, key: &str, done: &Done) {
        self.counts.replayed.add(1);
        let mut fallback = self.fallback();
        if let Some(state) = fallback.journal_mut().done(key, done.sum, !done.failed) {
            fallback.paid(key, state, self.clock.now());
        }
    }

    /// Whether the step is given up.
    fn refused(&self, key: &str, error: &StoreError) -> bool {
        let is_given_up = self.fallback().journal_mut().refused(key);
        if is_given_up {
            self.counts.given_up.add(1);
            warn!(cache = self.observed.name(), %error, "a change that was owed was refused twice, and is given up");
        }
        is_given_up
    }

    fn not_done(&self, key: &str, is_lost: bool) {
        if !is_lost {
            return self.fallback().journal_mut().put_back(key);
        }
        self.fallback().journal_mut().lost(key);
        self.counts.unknown.add(1);
        warn!(cache = self.observed.name(), "a count that was owed was sent and not answered, and is given up");
    }

    async fn pay_step(&self, store: &dyn Store, key: &str, step: Step, has_answered: bool) -> Result<Done, Unanswered> {
        let place = place(key);
        // Who does not answer this is not sent a count, as that could not be sent again.
        if matches!(step, Step::Add { .. })
            && !has_answered
            && let Err(Unanswered::Away(fate)) = self.try_owed(Some(key), self.read_by(), store.read(&place)).await
        {
            let fate = if fate == Fate::Skipped { fate } else { Fate::NotDone };
            return Err(Unanswered::Away(fate));
        }
        self.try_owed(Some(key), self.write_by(), self.make(store, &place, step)).await
    }

    async fn make(&self, store: &dyn Store, place: &str, step: Step) -> Result<Done, StoreError> {
        let held = match step {
            Step::Write { value, ends, when: When::Always, .. } => {
                store.write(place, value, self.left(ends)).await?;
                true
            }
            Step::Write { value, ends, when, until } => {
                let held = store.write_when(place, value.clone(), self.left(ends), when).await?;
                held || self.put_anew(store, place, Some(value), ends, until).await?
            }
            Step::Remove => {
                store.remove(place).await?;
                true
            }
            Step::Add { by, ends } => {
                let sum = store.increment(place, by, self.left(ends)).await?;
                return Ok(Done { sum: Some(sum), failed: false });
            }
            Step::Expire { ends, until, value } => {
                let held = store.expire(place, self.left(ends)).await?;
                held || self.put_anew(store, place, value, ends, until).await?
            }
        };
        Ok(Done { sum: None, failed: !held })
    }

    /// What was there for `until` has ended by itself, though callers were told that it is there for longer.
    async fn put_anew(
        &self,
        store: &dyn Store,
        place: &str,
        value: Option<Bytes>,
        ends: Ends,
        until: Ends,
    ) -> Result<bool, StoreError> {
        let Some(value) = value.filter(|_| until <= self.clock.now()) else { return Ok(false) };
        store.write_when(place, value, self.left(ends), When::Absent).await
    }

    /// Removes the keys that match from the store, page by page, each with deadlines of its own; tells how many there
    /// were.
    pub(super) async fn sweep(&self, store: &dyn Store, sweeping: Sweeping, pattern: &str) -> Result<u64, Unanswered> {
        let (place, mut cursor, mut removed) = (place(pattern), Cursor::default(), 0);
        loop {
            let page = self.sweep_step(sweeping, self.read_by(), store.scan(&place, &cursor, PAGE)).await?;
            if !page.keys.is_empty() {
                let keys: Vec<&str> = page.keys.iter().map(String::as_str).collect();
                removed += self.sweep_step(sweeping, self.write_by(), store.remove_many(&keys)).await?;
            }
            let Some(next) = page.next else { break };
            cursor = next;
        }
        self.fallback().mirror_sweep(&Pattern::new(pattern), self.clock.now());
        Ok(removed)
    }

    async fn sweep_step<T>(
        &self,
        sweeping: Sweeping,
        deadline: Instant,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Unanswered> {
        match sweeping {
            Sweeping::Called(operation) => self.try_store(operation, None, deadline, work).await,
            Sweeping::Owed => self.try_owed(None, deadline, work).await,
        }
    }

    fn read_by(&self) -> Instant {
        self.clock.now() + self.policy.store_read_deadline
    }

    fn write_by(&self) -> Instant {
        self.clock.now() + self.policy.store_write_deadline
    }

    /// What is left until then; `None`: for ever.
    fn left(&self, ends: Ends) -> Option<Duration> {
        (ends != Instant::NEVER).then(|| ends - self.clock.now())
    }
}
