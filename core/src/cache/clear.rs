//! How everything is cleared: memory at once, then the fallback, then the shared store. Neither store is read again
//! before its clear is done; until then the clear is owed.

use core::hash::Hash;

use super::Machine;
use super::settle::verdict;
use super::work::{After, First, Kind, Stage};
use crate::breaker::Verdict;
use crate::failure::{Refusal, StoreFailure};
use crate::journal::Change;
use crate::step::{Answer, FlightId, Launch, Lookup, Outcome, Settled, Step, Tier};
use crate::storage::{Map, Profile};
use crate::time::Instant;
use crate::value::Value;

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Machine<K, V, P> {
    /// Whether a clear can be taken up.
    pub(super) fn admits_clear(&self) -> Result<(), Refusal> {
        if self.policy.store { self.flights.admits() } else { Ok(()) }
    }

    /// Clears the stores. [`Machine::admits_clear`] has been asked.
    pub(super) fn clear(&mut self, now: Instant) -> Lookup<K, V> {
        if !self.policy.store {
            return Lookup::now(Outcome::Settled(Settled::Memory));
        }
        self.journal.void();
        self.fallback_doubts.raise();
        self.outdate_changes(now);
        let flight = match self.open_clear(now).and_then(|id| self.flights.join(id).map(|()| id)) {
            Ok(flight) => flight,
            Err(refusal) => return self.refuse(refusal),
        };
        self.replay.get_or_insert(flight);
        let step = self.clear_fallback(flight, now);
        let deadline = now + self.policy.call_deadline;
        let answer = Answer::Pending { flight, until: deadline, deadline };
        Lookup { answer, launch: Some(Launch { flight, step }) }
    }

    /// Whatever is being written, or waits for it, is older than the clear: what is left of it to do is a removal.
    fn outdate_changes(&mut self, now: Instant) {
        for slot in self.writing.values_mut() {
            for id in [Some(slot.holder), slot.next].into_iter().flatten() {
                let Some(flight) = self.flights.get_mut(id) else { continue };
                let work = &mut flight.work;
                if let Stage::Landing(After::Change(change) | After::Mirror(change)) = &mut work.stage {
                    *change = Change::remove(now);
                }
                // The write that is under way may come after the clear.
                slot.tainted |= matches!(work.stage, Stage::Writing(_));
                work.change = work.change.as_ref().map(|_| Change::remove(now));
            }
        }
    }

    /// A clear of the fallback, ready to be launched, if it is not to be trusted and nobody clears anything yet.
    pub(super) fn clear_doubted_fallback(&mut self, now: Instant) -> Option<FlightId> {
        if !self.policy.store || !self.policy.fallback || !self.fallback_doubts.remain() || self.replay.is_some() {
            return None;
        }
        let flight = self.open_clear(now).ok()?;
        self.stage(flight, Stage::Ready(First::ClearFallback));
        self.replay = Some(flight);
        Some(flight)
    }

    pub(super) fn open_clear(&mut self, now: Instant) -> Result<FlightId, Refusal> {
        let kind = Kind::Clear { primary: self.journal.doubts(), fallback: self.fallback_doubts.raised() };
        self.open(None, None, kind, now)
    }

    pub(super) fn clear_fallback(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        if !self.policy.fallback {
            return self.clear_primary(id, now);
        }
        self.stage(id, Stage::Clearing(Tier::Fallback));
        Step::ClearStore { tier: Tier::Fallback, deadline: now + self.policy.call_deadline }
    }

    pub(super) fn clear_primary(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        let deadline = now + self.policy.call_deadline;
        let owed = self.journal.owes_clear();
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        if !owed {
            // Never was, or somebody else's clear came first: what is there now is newer.
            flight.work.settled = Settled::Store;
            return self.settled(id, now);
        }
        let Ok(permit) = self.store_breaker.try_acquire(now, deadline) else { return self.settled(id, now) };
        flight.work.permit = Some(permit);
        flight.work.asked_at = now;
        flight.work.stage = Stage::Clearing(Tier::Primary);
        Step::ClearStore { tier: Tier::Primary, deadline }
    }

    pub(super) fn on_cleared(
        &mut self,
        id: FlightId,
        tier: Tier,
        result: Result<(), StoreFailure>,
        now: Instant,
    ) -> Step<K, V> {
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        let Kind::Clear { primary, fallback } = flight.work.kind else { return Step::Done { next: None } };
        if tier == Tier::Fallback {
            if result.is_ok() {
                self.fallback_doubts.settle(fallback);
            }
            return self.clear_primary(id, now);
        }
        if result.is_ok() {
            flight.work.settled = Settled::Store;
            self.journal.cleared(primary);
        }
        self.give_back(id, result.map_or_else(verdict, |()| Verdict::Success), now);
        self.stats.store_failures += u64::from(result.is_err());
        self.settled(id, now)
    }
}
