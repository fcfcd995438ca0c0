//! Paying what is owed to the store when it is back: by whoever uses direct operations, by the cache's own rounds, and
//! at its end.
//!
//! One task pays at a time. It asks first whether the store answers, with something that may be done twice; then
//! patterns go, then the keys, the oldest change first, several at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tideover_core::pattern::Pattern;
use tideover_core::{Clock, Instant};
use tracing::{debug, warn};

use super::debt::{Ends, Step};
use super::place::place;
use super::shared::{Fate, Shared, Unanswered};
use crate::store::{Cursor, Store, StoreError, When};

/// Keys that are paid for at once.
const AT_ONCE: usize = 64;

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

impl Shared {
    /// Has everything paid that is owed, in a task of its own, and the circuit probed. `false`: the circuit is open.
    pub(super) fn start_paying(self: &Arc<Self>) -> bool {
        if !self.circuit.may_pass() {
            return false;
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
        self.probe(store).await?;
        self.pay_sweeps(store).await?;
        self.pay_keys(store).await
    }

    /// Asks whether the store answers until the circuit is closed.
    async fn probe(&self, store: &dyn Store) -> Result<(), Unanswered> {
        loop {
            self.try_store("ping", None, self.read_by(), store.ping()).await?;
            if self.circuit.is_closed() {
                return Ok(());
            }
        }
    }

    async fn pay_sweeps(&self, store: &dyn Store) -> Result<(), Unanswered> {
        loop {
            let next = self.fallback().journal().next_sweep();
            let Some((number, pattern)) = next else { return Ok(()) };
            match self.sweep(store, "replay", &pattern).await {
                Ok(_) => self.counts.replayed.add(1),
                Err(Unanswered::Refused(error)) => {
                    self.counts.given_up.add(1);
                    warn!(cache = self.observed.name(), %error, "a removal by pattern was refused, and is given up");
                }
                Err(away) => return Err(away),
            }
            self.fallback().journal_mut().swept(number);
            self.paid.notify_waiters();
        }
    }

    async fn pay_keys(&self, store: &dyn Store) -> Result<(), Unanswered> {
        let mut after = 0;
        loop {
            let keys = self.fallback().journal().next_keys(after, AT_ONCE);
            let Some((last, _)) = keys.last() else { return Ok(()) };
            after = *last;
            let paid = join_all(keys.iter().map(|(_, key)| self.pay_key(store, key))).await;
            self.paid.notify_waiters();
            paid.into_iter().collect::<Result<(), _>>()?;
        }
    }

    /// Pays what one key owes, step by step.
    async fn pay_key(&self, store: &dyn Store, key: &str) -> Result<(), Unanswered> {
        loop {
            let step = self.fallback().journal_mut().send(key, self.clock.now());
            let Some(step) = step else { return Ok(()) };
            let is_count = matches!(step, Step::Add { .. });
            match self.pay_step(store, key, step).await {
                Ok(done) => self.done(key, &done),
                Err(Unanswered::Refused(error)) if self.refused(key, &error) => {}
                // It gets a second chance, with the next payments.
                Err(Unanswered::Refused(_)) => return Ok(()),
                Err(away) => {
                    let is_lost = is_count && matches!(away, Unanswered::Away(Fate::Unknown));
                    self.not_done(key, is_lost);
                    return Err(away);
                }
            }
        }
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

    async fn pay_step(&self, store: &dyn Store, key: &str, step: Step) -> Result<Done, Unanswered> {
        let place = place(key);
        let work = self.make(store, &place, step);
        self.try_store("replay", Some(key), self.write_by(), work).await
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
    pub(super) async fn sweep(
        &self,
        store: &dyn Store,
        operation: &'static str,
        pattern: &str,
    ) -> Result<u64, Unanswered> {
        let (place, mut cursor, mut removed) = (place(pattern), Cursor::default(), 0);
        loop {
            let page = self.try_store(operation, None, self.read_by(), store.scan(&place, &cursor, PAGE)).await?;
            if !page.keys.is_empty() {
                let keys: Vec<&str> = page.keys.iter().map(String::as_str).collect();
                removed += self.try_store(operation, None, self.write_by(), store.remove_many(&keys)).await?;
            }
            let Some(next) = page.next else { break };
            cursor = next;
        }
        self.fallback().mirror_sweep(&Pattern::new(pattern), self.clock.now());
        Ok(removed)
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
