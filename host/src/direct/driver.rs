//! Flies the works of direct operations: asks the store what the machine wants to know, and waits where it says so.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tideover_core::breaker::{BreakerReport, Mode};
use tideover_core::direct::{
    Ability, Direct, DirectStats, Event, Fault, Heard, Key, Launch, Operation, Purpose, Reply, Request, Step,
    Unanswered, WorkId,
};
use tideover_core::{Clock, Instant, Policy};
use tokio::sync::Notify;
use tracing::warn;

use super::answer::Answer;
use crate::clock::HostClock;
use crate::error::Error;
use crate::observe::Observed;
use crate::outside::judge;
use crate::store::{Abilities, DIRECT_PREFIX, Page, Store, StoreError, When, due};

type Machine = Direct<Bytes>;

/// What all handles of a cache's direct operations share.
pub(crate) struct Shared {
    store: Option<Arc<dyn Store>>,
    clock: HostClock,
    observed: Arc<Observed>,
    machine: Mutex<Machine>,
    /// Who waits until something is paid.
    paid: Notify,
}

/// A work that is being flown. If that ends before the work does, the machine is told.
struct Flying {
    shared: Arc<Shared>,
    work: Option<WorkId>,
    /// What the store has said last, of what it has not done.
    said: Option<StoreError>,
}

impl Drop for Flying {
    fn drop(&mut self) {
        if let Some(work) = self.work {
            self.shared.with(|machine, now| machine.abandon(work, now));
        }
    }
}

impl Flying {
    fn new(shared: &Arc<Shared>, work: WorkId) -> Self {
        Self { shared: Arc::clone(shared), work: Some(work), said: None }
    }

    /// What the machine has launched by itself.
    async fn fly_owed(mut self, mut step: Step<Bytes>) {
        while !matches!(step, Step::Done(_) | Step::Over) {
            step = self.fly(step).await;
        }
        self.work = None;
    }

    /// Does one step, and gets the next.
    async fn fly(&mut self, step: Step<Bytes>) -> Step<Bytes> {
        let Some(work) = self.work else { return Step::Over };
        let shared = &self.shared;
        match step {
            Step::Ask { request, with_end, purpose, deadline } => {
                let asked = shared.ask(request, with_end, purpose, deadline).await;
                let answered = asked.map_err(|error| {
                    let fault = fault(&error);
                    self.said = Some(error);
                    fault
                });
                let resume = |machine: &mut Machine, now| machine.resume(work, Event::Answered(answered), now);
                if purpose != Purpose::Owed {
                    return shared.with(resume);
                }
                let (before, step, after) =
                    shared.with(|machine, now| (machine.stats(), resume(machine, now), machine.stats()));
                shared.warn_of_losses(&before, &after, self.said.as_ref());
                step
            }
            Step::Wait { .. } => {
                let mut paid = std::pin::pin!(shared.paid.notified());
                paid.as_mut().enable();
                // It may have been paid before this began to listen.
                let step = shared.with(|machine, now| machine.resume(work, Event::Waited, now));
                let Step::Wait { until } = step else { return step };
                let _paid_or_not = shared.clock.deadline(until).limit(paid).await;
                shared.with(|machine, now| machine.resume(work, Event::Waited, now))
            }
            over => over,
        }
    }
}

impl Shared {
    pub(crate) fn new(
        store: Option<Arc<dyn Store>>,
        policy: &Policy,
        seed: u64,
        clock: HostClock,
        observed: Arc<Observed>,
    ) -> Self {
        let machine = Mutex::new(Machine::new(policy, store.is_some(), seed));
        Self { store, clock, observed, machine, paid: Notify::new() }
    }

    pub(super) fn store(&self) -> Option<&dyn Store> {
        self.store.as_deref()
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the machine, and does what follows for others.
    fn with<R>(self: &Arc<Self>, ask: impl FnOnce(&mut Machine, Instant) -> R) -> R {
        let mut machine = self.machine();
        let result = ask(&mut machine, self.clock.now());
        let (launches, has_paid) = (machine.launches(), machine.take_paid());
        drop(machine);
        if has_paid {
            self.paid.notify_waiters();
        }
        for Launch { work, step } in launches {
            // From now on, also if the runtime drops the task before it has begun.
            let flying = Flying::new(self, work);
            tokio::spawn(flying.fly_owed(step));
        }
        result
    }

    pub(crate) fn stats(&self) -> DirectStats {
        self.machine().stats()
    }

    pub(crate) fn look(&self) -> BreakerReport {
        self.machine().look()
    }

    pub(super) fn set_breaker_mode(&self, mode: Mode) {
        self.machine().set_breaker_mode(mode, self.clock.now());
    }

    pub(super) fn reset_breaker(&self) {
        self.machine().reset_breaker(self.clock.now());
    }

    /// Has done what is due although nobody calls.
    pub(crate) fn maintain(self: &Arc<Self>) {
        self.with(Machine::maintain);
    }

    /// Takes no more calls, and pays for as long as `grace` what is owed. What is left is lost with the process.
    pub(crate) async fn close(self: &Arc<Self>, grace: Duration) {
        let is_first = self.machine().close();
        if self.owed() == 0 {
            return;
        }
        let _paid_or_not = tokio::time::timeout(grace, self.pay_up()).await;
        let owed = self.owed();
        if owed > 0 && is_first {
            warn!(cache = self.observed.name(), owed, "changes of direct operations never reached the store");
        }
    }

    fn owed(&self) -> usize {
        self.machine().owed()
    }

    async fn pay_up(self: &Arc<Self>) {
        // Whoever pays already may be about to give up.
        for _ in 0..2 {
            self.with(Machine::pay_up);
            while self.machine().is_paying() {
                let mut paid = std::pin::pin!(self.paid.notified());
                paid.as_mut().enable();
                if self.machine().is_paying() {
                    paid.await;
                }
            }
            if self.owed() == 0 {
                return;
            }
        }
    }
}

/// Flying.
impl Shared {
    /// An operation of a caller.
    pub(super) async fn call(
        self: &Arc<Self>,
        operation: impl Into<Operation<Bytes>>,
    ) -> Result<Answer<Reply<Bytes>>, Error> {
        let operation = operation.into();
        let name = operation.name();
        let can = |store: &Arc<dyn Store>| operation.needs().iter().all(|need| is_able(store.abilities(), *need));
        if !self.store.as_ref().is_none_or(can) {
            return Err(Error::StoreRefused { operation: name, error: StoreError::Unsupported(name) });
        }
        let (work, mut step) = self.with(|machine, now| machine.begin(operation, now));
        let mut flying = Flying::new(self, work);
        loop {
            step = match step {
                Step::Done(Ok(answer)) => {
                    flying.work = None;
                    return Ok(Answer::new(answer.reply, answer.source));
                }
                Step::Done(Err(why)) => {
                    flying.work = None;
                    return Err(error(name, why, flying.said.take()));
                }
                Step::Over => return Err(Error::OutcomeUnknown { operation: name }),
                step => flying.fly(step).await,
            };
        }
    }

    fn warn_of_losses(&self, before: &DirectStats, after: &DirectStats, said: Option<&StoreError>) {
        let (cache, error) = (self.observed.name(), said.map(tracing::field::display));
        if after.given_up > before.given_up {
            warn!(cache, error, "what direct operations owed was refused, and is given up");
        }
        if after.unknown > before.unknown {
            warn!(cache, error, "a count that was owed was sent and not answered, and is given up");
        }
    }

    /// Asks the store, until the deadline.
    async fn ask(
        &self,
        request: Request<Bytes>,
        with_end: bool,
        purpose: Purpose,
        deadline: Instant,
    ) -> Result<Heard<Bytes>, StoreError> {
        let Some(store) = self.store() else { return Err(StoreError::Closed) };
        let operation = match purpose {
            Purpose::Called(operation) => operation,
            Purpose::Owed => "replay",
            Purpose::Probe => "ping",
        };
        // A probe asks many, of which one answer will do: it is seen as the one that asks for no key.
        let is_seen = purpose != Purpose::Probe || request == Request::Ping;
        let key = request.key().cloned();
        let limit = self.clock.deadline(deadline);
        let limited = async {
            let asked = AssertUnwindSafe(async { ask(store, request, with_end, purpose).await }).catch_unwind();
            match limit.limit(due(limit.at(), asked)).await {
                Some(Ok(result)) => result,
                Some(Err(_panic)) => Err(StoreError::Uncertain("the store panicked".to_owned())),
                None => Err(StoreError::TimedOut("no answer by the deadline".to_owned())),
            }
        };
        if is_seen {
            self.observed.asked((operation, "direct", key.as_deref()), limited, judge).await
        } else {
            limited.await
        }
    }
}

const fn is_able(abilities: Abilities, need: Ability) -> bool {
    match need {
        Ability::Conditional => abilities.conditional,
        Ability::Batch => abilities.batch,
        Ability::Counters => abilities.counters,
        Ability::Ttl => abilities.ttl,
        Ability::Scan => abilities.scan,
    }
}

/// What an error says to the machine.
const fn fault(error: &StoreError) -> Fault {
    match error {
        StoreError::Unavailable(_) => Fault::Unavailable,
        StoreError::Uncertain(_) => Fault::Uncertain,
        StoreError::TimedOut(_) => Fault::TimedOut,
        StoreError::Overloaded { .. } | StoreError::Closed => Fault::Overloaded,
        StoreError::Congested => Fault::Congested,
        StoreError::Unsupported(_) => Fault::Unsupported,
        StoreError::Rejected(_) | StoreError::Foreign(_) => Fault::Refused,
    }
}

/// What a caller is told; `said` is what the store has said last.
fn error(operation: &'static str, why: Unanswered, said: Option<StoreError>) -> Error {
    let refused = |why: &str| Error::StoreRefused { operation, error: StoreError::Rejected(why.to_owned()) };
    match why {
        Unanswered::Refused(refusal) => Error::Refused(refusal),
        Unanswered::ByStore => {
            Error::StoreRefused { operation, error: said.unwrap_or(StoreError::Unsupported(operation)) }
        }
        Unanswered::Cursor => refused("the cursor is not one that a scan of direct operations gave"),
        Unanswered::NotANumber => refused("the value is not a whole number of 64 bits"),
        Unanswered::NumberTooLarge => refused("the number would not fit into 64 bits"),
        Unanswered::Away(store) => Error::Store { store: Some(store) },
        Unanswered::JournalFull { max } => Error::JournalFull { operation, max },
        Unanswered::OutcomeUnknown => Error::OutcomeUnknown { operation },
        Unanswered::Closed => Error::Closed,
    }
}

/// The store's key, or pattern, for a key or pattern of direct operations.
fn place(key: &str) -> String {
    // Nothing in the prefix has a meaning in patterns.
    [DIRECT_PREFIX, key].concat()
}

fn places(keys: &[Key]) -> Vec<String> {
    keys.iter().map(|key| place(key)).collect()
}

/// Asks the store that, whatever it takes.
async fn ask(
    store: &dyn Store,
    request: Request<Bytes>,
    with_end: bool,
    purpose: Purpose,
) -> Result<Heard<Bytes>, StoreError> {
    let at = request.key().map(|key| place(key)).unwrap_or_default();
    let end = || -> BoxFuture<'_, Result<_, StoreError>> {
        if with_end && store.abilities().ttl { store.remaining(&at) } else { ready(Err(StoreError::Closed)).boxed() }
    };
    let mut left = None;
    let reply = match request {
        Request::Get { .. } => {
            let (value, end) = tokio::join!(store.read(&at), end());
            left = end.ok();
            Reply::Value(value?)
        }
        Request::Increment { by, ttl, .. } => {
            let (sum, end) = tokio::join!(store.increment(&at, by, ttl), end());
            left = end.ok();
            Reply::Sum(sum?)
        }
        Request::Put { value, ttl, when: When::Always, .. } => {
            store.write(&at, value, ttl).await?;
            Reply::Held(true)
        }
        Request::Put { value, ttl, when, .. } => Reply::Held(store.write_when(&at, value, ttl, when).await?),
        Request::Take { .. } => Reply::Value(store.take(&at).await?),
        // For what is owed nobody wants to know whether it was there; and without that it may be asked twice.
        Request::Remove { .. } if purpose == Purpose::Owed => {
            store.remove(&at).await?;
            Reply::Held(true)
        }
        Request::Remove { .. } => Reply::Held(store.delete(&at).await?),
        Request::Exists { .. } => Reply::Held(store.exists(&at).await?),
        Request::SetTtl { ttl, .. } => Reply::Held(store.expire(&at, ttl).await?),
        Request::Remaining { .. } => Reply::Remaining(store.remaining(&at).await?),
        Request::Ping => {
            store.ping().await?;
            Reply::Done
        }
        of_many => ask_of_many(store, of_many).await?,
    };
    Ok(Heard { reply, left })
}

async fn ask_of_many(store: &dyn Store, request: Request<Bytes>) -> Result<Reply<Bytes>, StoreError> {
    Ok(match request {
        Request::GetMany { keys } => {
            let places = places(&keys);
            Reply::Values(store.read_many(&borrowed(&places)).await?)
        }
        Request::PutMany { entries, ttl } => {
            let placed: Vec<(String, Bytes)> = entries.into_iter().map(|(key, value)| (place(&key), value)).collect();
            let placed: Vec<(&str, Bytes)> = placed.iter().map(|(at, value)| (at.as_str(), value.clone())).collect();
            store.write_many(&placed, ttl).await?;
            Reply::Done
        }
        Request::RemoveMany { keys } => {
            let places = places(&keys);
            Reply::Count(store.remove_many(&borrowed(&places)).await?)
        }
        Request::Scan { pattern, cursor, count } => {
            let Page { keys, next } = store.scan(&place(&pattern), &cursor, count).await?;
            let keys = keys.into_iter().filter_map(|key| key.strip_prefix(DIRECT_PREFIX).map(str::to_owned));
            Reply::Page(Page { keys: keys.collect(), next })
        }
        one => return Err(StoreError::Unsupported(one.name())),
    })
}

fn borrowed(places: &[String]) -> Vec<&str> {
    places.iter().map(String::as_str).collect()
}
