//! How flights end, and what they give back on the way: outcomes, permits, slots, and the right to go on.

use core::hash::Hash;
use core::time::Duration;

use super::work::{After, Again, End, First, Remembered, Stage};
use super::{Machine, Shards};
use crate::breaker::Verdict;
use crate::entry::{Entry, Windows, Zone};
use crate::failure::{Failure, StoreFailure};
use crate::flight::Fence;
use crate::step::{Event, FlightId, Outcome, Served, Settled, Source, Stale, Step};
use crate::storage::Profile;
use crate::time::Instant;
use crate::value::Value;

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Machine<K, V, P> {
    /// Whatever flies for `key` has lost, and what was remembered of it in place of a value is void.
    pub(super) fn overtake(&mut self, key: &K) {
        self.flights.fence(key);
        self.forget_remembered(key);
    }

    /// That there is no value, or none to be had, is not true any more. That each caller has his own still is.
    pub(super) fn forget_remembered(&mut self, key: &K) {
        if self.remembered.peek(key, Instant::ZERO).is_some_and(|held| held.value != Remembered::Private) {
            self.remembered.remove(key);
        }
    }

    /// What memory can give instead of an answer: something fresh that came meanwhile, or stale inside its windows.
    pub(super) fn stand_in(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        key: &K,
        max_age: Option<Duration>,
        now: Instant,
    ) -> Option<Served<V>> {
        shards.with(key, |memory| memory.find(key, now))?.entry.serve_on_error(Source::Memory, max_age)
    }

    pub(super) fn count_stale(&mut self, stale: Stale, callers: u64) {
        match stale {
            Stale::WhileRevalidate => self.stats.stale_while_revalidate += callers,
            Stale::IfError => self.stats.stale_if_error += callers,
        }
    }

    /// Settles everything that the flight holds: permits go back without a verdict, waiters get stale, an error, or the
    /// advice to look up again, a change whose fate is unknown is owed to the store, and whoever queued behind it is
    /// launched.
    pub(super) fn abandon(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        id: FlightId,
        event: &Event<V>,
        now: Instant,
    ) -> Step<K, V> {
        self.give_back(id, Verdict::None, now);
        let contested = self.contested(id);
        self.owe_unsettled(id);
        self.leave_to_store(shards, contested);
        self.note_end(id, End::Cancelled);
        let Some(flight) = self.flights.get(id) else { return Step::Done { next: None } };
        let max_age = flight.work.max_age;
        let Some(key) = flight.key.clone().filter(|_| flight.work.kind.is_read()) else { return self.settled(id, now) };
        if self.flights.waiters(id) == 0 {
            return self.finish(id, now);
        }
        let outcome = if matches!(event, Event::Resigned) {
            Outcome::Again
        } else {
            let stale = self.stand_in(shards, &key, max_age, now);
            stale.map_or(Outcome::Failed(Failure::Abandoned), Outcome::Served)
        };
        self.land(id, outcome, After::Finish, now)
    }

    pub(super) fn land(&mut self, id: FlightId, outcome: Outcome<V>, after: After<V>, now: Instant) -> Step<K, V> {
        if let Outcome::Served(Served { stale: Some(stale), .. }) = &outcome {
            self.count_stale(*stale, self.flights.waiters(id) as u64);
        }
        self.note_end(id, End::Done);
        self.flights.land(id);
        self.stage(id, Stage::Landing(after));
        let store = self.flights.get(id).map(|flight| flight.work.store).unwrap_or_default();
        Step::Land { outcome, store, next: self.release_slot(id, now) }
    }

    /// The flight's load is over: whoever waits for its slot is next.
    pub(super) fn release_slot(&mut self, id: FlightId, now: Instant) -> Option<FlightId> {
        let work = &mut self.flights.get_mut(id)?.work;
        if let Some(place) = work.place.take() {
            self.waiting.remove(place);
            self.limit.leave_queue();
        }
        let slot = work.slot.take()?;
        let (took, verdict) = work.measured;
        self.limit.release(slot, took, verdict, now);
        self.admit_waiting(now)
    }

    /// The oldest of the flights that were put aside, if one may load now.
    pub(super) fn admit_waiting(&mut self, now: Instant) -> Option<FlightId> {
        let slot = self.limit.try_dequeue(now).ok()?;
        let Some(id) = self.waiting.pop_front() else {
            self.limit.release(slot, Duration::ZERO, Verdict::None, now);
            return None;
        };
        self.stage(id, Stage::Ready(First::Load));
        let work = &mut self.flights.get_mut(id)?.work;
        (work.slot, work.place) = (Some(slot), None);
        Some(id)
    }

    /// Counts how a load ended; what is said first holds.
    pub(super) fn note_end(&mut self, id: FlightId, end: End) {
        let Some(flight) = self.flights.get_mut(id).filter(|flight| flight.work.kind.is_load()) else { return };
        if core::mem::replace(&mut flight.work.ended, true) {
            return;
        }
        let end = match (flight.fence, end) {
            (Some(Fence::Age), End::Done | End::Overtaken) => End::Late,
            (Some(Fence::Age), _) => End::TooOld,
            (Some(Fence::Change), End::Done) => End::Overtaken,
            (_, end) => end,
        };
        let count = match end {
            End::Done => &mut self.stats.ended_done,
            End::Failed => &mut self.stats.ended_failed,
            End::GaveUp => &mut self.stats.ended_gave_up,
            End::Panicked => &mut self.stats.ended_panicked,
            End::Cancelled => &mut self.stats.ended_cancelled,
            End::TooOld => &mut self.stats.ended_too_old,
            End::Late => &mut self.stats.ended_late,
            End::Overtaken => &mut self.stats.ended_overtaken,
        };
        *count += 1;
    }

    pub(super) fn stage(&mut self, id: FlightId, stage: Stage<V>) {
        if let Some(flight) = self.flights.get_mut(id) {
            flight.work.stage = stage;
        }
    }

    /// Returns the permit that the flight's present step holds, if it holds one.
    pub(super) fn give_back(&mut self, id: FlightId, verdict: Verdict, now: Instant) {
        let Some(flight) = self.flights.get_mut(id) else { return };
        let Some(permit) = flight.work.permit.take() else { return };
        let breaker = match flight.work.stage {
            Stage::Loading => self.loaders.of_mut(flight.work.loader),
            _ => &mut self.store_breaker,
        };
        breaker.report(permit, verdict, now - flight.work.asked_at, now);
    }

    /// Lets the flight's next attempt pass to the shared store, if its breaker does; the answer has to be there by the
    /// deadline that is returned.
    pub(super) fn enter_store(&mut self, id: FlightId, now: Instant) -> Option<Instant> {
        let work = &mut self.flights.get_mut(id)?.work;
        let permit = self.store_breaker.try_acquire(now, work.deadline).ok()?;
        if work.attempt == 0 {
            self.store_budget.deposit(now);
        }
        work.permit = Some(permit);
        work.attempt += 1;
        work.asked_at = now;
        Some(work.deadline)
    }

    /// The attempt has failed: the step before the next one, if there is to be one.
    pub(super) fn store_failed(
        &mut self,
        id: FlightId,
        again: Again,
        failure: StoreFailure,
        now: Instant,
    ) -> Option<Step<K, V>> {
        self.give_back(id, verdict(failure), now);
        self.stats.store_failures += 1;
        let hopeless = matches!(failure, StoreFailure::Rejected | StoreFailure::Overloaded);
        let attempts = if hopeless { 0 } else { self.policy.store_attempts };
        self.pause(id, again, attempts, None, now)
    }

    /// A change, note or clear has got as far as it will. Nobody is told if nobody waits.
    pub(super) fn settled(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        if self.flights.waiters(id) == 0 {
            return self.finish(id, now);
        }
        let Some(flight) = self.flights.get(id) else { return Step::Done { next: None } };
        let settled = match flight.work.settled {
            Settled::Memory => Settled::Journaled,
            settled => settled,
        };
        self.land(id, Outcome::Settled(settled), After::Finish, now)
    }

    /// Puts the flight to sleep before another attempt, if one is left, time for it, and the budget allows it.
    pub(super) fn pause(
        &mut self,
        id: FlightId,
        again: Again,
        attempts: u32,
        hint: Option<Duration>,
        now: Instant,
    ) -> Option<Step<K, V>> {
        let (retry, seed) = (self.policy.retry(), &mut self.entropy);
        let work = &mut self.flights.get_mut(id)?.work;
        if work.attempt >= attempts {
            return None;
        }
        let waits = work.waits.get_or_insert_with(|| retry.schedule(seed.bits()));
        let until = waits.next_before(now, hint, work.deadline)?;
        let budget = if matches!(again, Again::Load) { &mut self.load_budget } else { &mut self.store_budget };
        budget.try_withdraw(now).ok()?;
        work.stage = Stage::Pausing(again);
        Some(Step::Sleep { until })
    }

    /// What is older does for nobody who waits for the flight.
    pub(super) fn max_age(&self, id: FlightId) -> Option<Duration> {
        self.flights.get(id)?.work.max_age
    }

    pub(super) fn key(&self, id: FlightId) -> Option<K> {
        self.flights.get(id)?.key.clone()
    }
}

/// What a failed operation says of the store.
pub(super) const fn verdict(failure: StoreFailure) -> Verdict {
    match failure {
        StoreFailure::Unavailable | StoreFailure::TimedOut | StoreFailure::Rejected => Verdict::Failure,
        StoreFailure::Overloaded => Verdict::None,
        StoreFailure::Corrupt { .. } => Verdict::Success,
    }
}

impl<V> Entry<V> {
    /// The entry as a hit is served: fresh, from memory.
    #[must_use]
    pub fn hit(self) -> Served<V> {
        self.serve(Source::Memory, None)
    }

    pub(super) fn serve(self, source: Source, stale: Option<Stale>) -> Served<V> {
        Served { value: self.value, age: self.age, ttl: self.windows.ttl, stale, source }
    }

    /// What stands in for an answer that could not be had. For somebody whom nothing older than `max_age` does,
    /// freshness ends there.
    pub(super) fn serve_on_error(self, source: Source, max_age: Option<Duration>) -> Option<Served<V>> {
        let windows = match max_age {
            Some(max) if self.age > max => {
                Windows { ttl: Some(self.windows.ttl.map_or(max, |ttl| ttl.min(max))), ..self.windows }
            }
            _ => self.windows,
        };
        match self.zone_in(&windows) {
            Zone::Fresh => Some(self.serve(source, None)),
            Zone::StaleWhileRevalidate | Zone::StaleIfError => Some(self.serve(source, Some(Stale::IfError))),
            Zone::Keep | Zone::Gone => None,
        }
    }
}
