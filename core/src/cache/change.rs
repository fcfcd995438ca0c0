//! How a change reaches the store: one at a time for each key, in the order in which they were made, and through the
//! journal while the store is away.

use core::hash::Hash;
use core::time::Duration;

use super::{After, Again, Kind, Machine, Stage, Work, done};
use crate::breaker::{State, Verdict};
use crate::entry::Zone;
use crate::failure::{Refusal, StoreFailure};
use crate::journal::Change;
use crate::step::{Answer, FlightId, Launch, Lookup, Outcome, Settled, Step, Tier};
use crate::time::Instant;

/// Debts looked at for one whose key nobody is writing.
const DEBTS_LOOKED_AT: usize = 16;

/// Who may write a key to the store. Everybody else queues, and the newest of the queue is all that is written.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    holder: FlightId,
    next: Option<FlightId>,
    /// Everything was cleared since the holder's write began; it may have come after the clear.
    tainted: bool,
}

impl<K: Clone + Hash + Eq, V: Clone> Machine<K, V> {
    /// Whether a change of `key` can be taken up.
    pub(super) fn admits_change(&self, key: &K) -> Result<(), Refusal> {
        match self.writing.get(key).and_then(|slot| slot.next) {
            Some(queued) => self.flights.admits_waiter(queued),
            None => self.flights.admits(),
        }
    }

    /// Takes a change to the store. [`Machine::admits_change`] has been asked.
    pub(super) fn change(&mut self, key: K, change: Change<V>, now: Instant) -> Lookup<K, V> {
        if !self.policy.store {
            return Lookup::now(Outcome::Settled(Settled::Memory));
        }
        let until = now + self.policy.call_deadline;
        let held = self.writing.contains_key(&key);
        let flight = match self.enqueue(&key, change, now) {
            Ok(flight) => flight,
            Err(refusal) => return self.refuse(refusal),
        };
        if let Err(refusal) = self.flights.join(flight) {
            return self.refuse(refusal);
        }
        let launch = if held { None } else { Some(Launch { flight, step: self.begin_change(flight, now) }) };
        Lookup { answer: Answer::Pending { flight, until }, launch }
    }

    /// Gives the change to the flight that is to write it: a new one that holds the slot, the one that is next for
    /// it, or a new one that becomes next.
    fn enqueue(&mut self, key: &K, change: Change<V>, now: Instant) -> Result<FlightId, Refusal> {
        let queued = self.writing.get(key).and_then(|slot| slot.next);
        let flight = match queued {
            Some(flight) => flight,
            None => self.open(Some(key.clone()), None, Kind::Change, now)?,
        };
        if let Some(flight) = self.flights.get_mut(flight) {
            flight.work.change = Some(change);
        }
        let new = Slot { holder: flight, next: None, tainted: false };
        let slot = self.writing.entry(key.clone()).or_insert(new);
        if slot.holder != flight {
            slot.next = Some(flight);
        }
        Ok(flight)
    }

    /// Secures the place in the order of writes for what a landing flight brings.
    pub(super) fn reserve_change(&mut self, id: FlightId, key: &K, change: Change<V>, now: Instant) -> After<V> {
        let useless = change.entry(now).is_some_and(|entry| entry.zone() == Zone::Gone);
        if !self.policy.store || useless {
            return After::Finish;
        }
        if self.writing.contains_key(key) {
            // Memory has the value; when there is no room for another flight, the store goes without it.
            let _queued = self.enqueue(key, change, now);
            return After::Finish;
        }
        self.writing.insert(key.clone(), Slot { holder: id, next: None, tainted: false });
        After::Change(change)
    }

    /// Secures the right to copy to the fallback what the primary had, unless something newer is on its way.
    pub(super) fn reserve_mirror(&mut self, id: FlightId, key: &K, change: Change<V>) -> After<V> {
        if !self.policy.fallback || self.writing.contains_key(key) {
            return After::Finish;
        }
        self.writing.insert(key.clone(), Slot { holder: id, next: None, tainted: false });
        After::Mirror(change)
    }

    pub(super) fn begin_change(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        let deadline = now + self.policy.store_write_deadline;
        if let Some(flight) = self.flights.get_mut(id) {
            flight.work.begin(deadline);
        }
        self.attempt_change(id, now)
    }

    pub(super) fn attempt_change(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        let deadline = flight.work.deadline;
        if !self.journal.owes_clear()
            && let Ok(permit) = self.store_breaker.try_acquire(now, deadline)
        {
            flight.work.permit = Some(permit);
            return self.change_in(id, Tier::Primary, deadline, now);
        }
        self.not_in_primary(id, now)
    }

    /// The step that makes the flight's change in `tier`.
    fn change_in(&mut self, id: FlightId, tier: Tier, deadline: Instant, now: Instant) -> Step<K, V> {
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        let Some(key) = flight.key.clone() else { return Step::Done { next: None } };
        flight.work.attempt += 1;
        flight.work.stage = Stage::Changing(tier);
        // What has lost all use while it waited is not written, but what it was to replace goes.
        let entry = flight.work.change.as_ref().and_then(|change| change.entry(now));
        match entry.filter(|entry| entry.zone() != Zone::Gone) {
            Some(entry) => Step::WriteStore { tier, key, entry, deadline },
            None => Step::RemoveStore { tier, key, deadline },
        }
    }

    pub(super) fn on_changed(
        &mut self,
        id: FlightId,
        tier: Tier,
        result: Result<(), StoreFailure>,
        now: Instant,
    ) -> Step<K, V> {
        if tier == Tier::Fallback {
            return self.changed_everywhere(id, now);
        }
        let verdict = if result.is_ok() { Verdict::Success } else { Verdict::Failure };
        self.give_back(id, verdict, now);
        let Err(failure) = result else { return self.in_primary(id, now) };
        self.stats.store_failures += 1;
        let attempts = if failure == StoreFailure::Rejected { 0 } else { self.policy.store_attempts };
        if let Some(sleep) = self.pause(id, Again::Change, attempts, Duration::ZERO, now) {
            return sleep;
        }
        if failure == StoreFailure::Rejected {
            self.settle_for_removal(id);
        }
        self.not_in_primary(id, now)
    }

    /// The store refuses to keep the value for good. So that it does not go on serving an older one, what is owed
    /// to it from the second refusal on is the removal.
    fn settle_for_removal(&mut self, id: FlightId) {
        if let Some(flight) = self.flights.get_mut(id).filter(|flight| flight.work.kind == Kind::Replay) {
            flight.work.change = Some(Change::Remove);
        }
    }

    fn in_primary(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        flight.work.settled = Settled::Store;
        let replay = flight.work.kind == Kind::Replay;
        if let Some(key) = &flight.key {
            self.journal.settle(key);
        }
        if replay {
            // The fallback has had it since it was made.
            self.stats.replayed += 1;
            return self.finish(id, now);
        }
        self.change_fallback(id, now)
    }

    fn not_in_primary(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        flight.work.settled = Settled::Journaled;
        let (kind, change) = (flight.work.kind, flight.work.change.clone());
        if let Some(key) = flight.key.clone() {
            self.owe(id, &key, kind, change);
        }
        if kind == Kind::Replay { self.finish(id, now) } else { self.change_fallback(id, now) }
    }

    /// Notes a change that the store has not got. What was merely loaded is not worth a debt, unless an older
    /// change of the key is already owed: then the newest wins.
    pub(super) fn owe(&mut self, id: FlightId, key: &K, kind: Kind, change: Option<Change<V>>) {
        let Some(change) = change else { return };
        let holds_slot = self.writing.get(key).is_some_and(|slot| slot.holder == id);
        let asked_for = matches!(kind, Kind::Change | Kind::Replay) || matches!(change, Change::Remove);
        if holds_slot && (asked_for || !self.journal.trusts(key)) {
            self.stats.journaled += u64::from(kind != Kind::Replay);
            self.journal.record(key.clone(), change);
        }
    }

    pub(super) fn change_fallback(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        if self.policy.fallback {
            return self.change_in(id, Tier::Fallback, now + self.policy.store_write_deadline, now);
        }
        self.changed_everywhere(id, now)
    }

    fn changed_everywhere(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        if self.flights.has_landed(id) {
            return self.finish(id, now);
        }
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        let settled = flight.work.settled;
        self.land(id, Outcome::Settled(settled), After::Finish)
    }

    /// The flight is over. Whoever is next for its slot, or a debt that can be paid now, flies on in its place.
    pub(super) fn finish(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        let Some(flight) = self.flights.close(id) else { return Step::Done { next: None } };
        let failed_replay = self.replay == Some(id) && flight.work.settled != Settled::Store;
        if self.replay == Some(id) {
            self.replay = None;
        }
        if let Some(next) = flight.key.and_then(|key| self.pass_on_slot(id, key)) {
            return done(Some(Launch { flight: next, step: self.begin_change(next, now) }));
        }
        done(if failed_replay { None } else { self.pay_debt(now) })
    }

    fn pass_on_slot(&mut self, id: FlightId, key: K) -> Option<FlightId> {
        let slot = self.writing.get_mut(&key).filter(|slot| slot.holder == id)?;
        if let Some(next) = slot.next.take() {
            (slot.holder, slot.tainted) = (next, false);
            return Some(next);
        }
        let tainted = slot.tainted;
        self.writing.remove(&key);
        if tainted {
            self.journal.record(key, Change::Remove);
        }
        None
    }

    /// Launches a flight for the oldest debt, if the store's breaker lets it pass and none is under way.
    pub(super) fn pay_debt(&mut self, now: Instant) -> Option<Launch<K, V>> {
        let refused = matches!(self.store_breaker.state(), State::Open { until } if now < until);
        if !self.policy.store || refused || self.replay.is_some() || self.journal.is_empty() {
            return None;
        }
        if self.journal.owes_clear() {
            let kind = Kind::Clear { generation: self.journal.generation() };
            let flight = self.open(None, None, kind, now).ok()?;
            self.replay = Some(flight);
            let step = self.clear_primary(flight, now);
            return Some(Launch { flight, step });
        }
        let unwritten = |(key, _): &(&K, &Change<V>)| !self.writing.contains_key(*key);
        let debt = self.journal.debts().take(DEBTS_LOOKED_AT).find(unwritten);
        let (key, change) = debt.map(|(key, change)| (key.clone(), change.clone()))?;
        let deadline = now + self.policy.store_write_deadline;
        let permit = self.store_breaker.try_acquire(now, deadline).ok()?;
        let work = Work { permit: Some(permit), deadline, change: Some(change), ..Work::new(Kind::Replay) };
        let Ok(flight) = self.flights.open(Some(key.clone()), None, work, now) else {
            self.store_breaker.report(permit, Verdict::None, now);
            return None;
        };
        self.flights.keep(flight);
        self.replay = Some(flight);
        self.writing.insert(key, Slot { holder: flight, next: None, tainted: false });
        Some(Launch { flight, step: self.change_in(flight, Tier::Primary, deadline, now) })
    }

    /// Clears the stores. Until the shared one is cleared, nothing in it is trusted.
    pub(super) fn clear(&mut self, now: Instant) -> Lookup<K, V> {
        if !self.policy.store {
            return Lookup::now(Outcome::Settled(Settled::Memory));
        }
        self.journal.void();
        self.writing.values_mut().for_each(|slot| slot.tainted = true);
        let kind = Kind::Clear { generation: self.journal.generation() };
        let flight = match self.open(None, None, kind, now).and_then(|id| self.flights.join(id).map(|()| id)) {
            Ok(flight) => flight,
            Err(refusal) => return self.refuse(refusal),
        };
        let step = if self.policy.fallback {
            self.clearing_fallback += 1;
            self.stage(flight, Stage::Clearing(Tier::Fallback));
            Step::ClearStore { tier: Tier::Fallback, deadline: now + self.policy.call_deadline }
        } else {
            self.clear_primary(flight, now)
        };
        let answer = Answer::Pending { flight, until: now + self.policy.call_deadline };
        Lookup { answer, launch: Some(Launch { flight, step }) }
    }

    fn clear_primary(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        let deadline = now + self.policy.call_deadline;
        let Ok(permit) = self.store_breaker.try_acquire(now, deadline) else { return self.cleared(id, now) };
        if let Some(flight) = self.flights.get_mut(id) {
            flight.work.permit = Some(permit);
            flight.work.stage = Stage::Clearing(Tier::Primary);
        }
        Step::ClearStore { tier: Tier::Primary, deadline }
    }

    pub(super) fn on_cleared(
        &mut self,
        id: FlightId,
        tier: Tier,
        result: Result<(), StoreFailure>,
        now: Instant,
    ) -> Step<K, V> {
        if tier == Tier::Fallback {
            self.stop_clearing(id);
            return self.clear_primary(id, now);
        }
        let verdict = if result.is_ok() { Verdict::Success } else { Verdict::Failure };
        self.give_back(id, verdict, now);
        self.stats.store_failures += u64::from(result.is_err());
        if let (Ok(()), Some(flight)) = (result, self.flights.get_mut(id))
            && let Kind::Clear { generation } = flight.work.kind
        {
            flight.work.settled = Settled::Store;
            self.journal.cleared(generation);
        }
        self.cleared(id, now)
    }

    /// The clear is done, or owed.
    fn cleared(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        if !self.flights.is_awaited(id) {
            return self.finish(id, now);
        }
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        let settled = if flight.work.settled == Settled::Store { Settled::Store } else { Settled::Journaled };
        self.land(id, Outcome::Settled(settled), After::Finish)
    }

    /// The flight no longer clears the fallback, if it did.
    pub(super) fn stop_clearing(&mut self, id: FlightId) {
        let clearing = |stage: &Stage<V>| matches!(stage, Stage::Clearing(Tier::Fallback));
        if self.flights.get_mut(id).is_some_and(|flight| clearing(&flight.work.stage)) {
            self.clearing_fallback = self.clearing_fallback.saturating_sub(1);
        }
    }
}
