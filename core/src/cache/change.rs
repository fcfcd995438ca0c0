//! How a change reaches the store: one at a time for each key, in the order in which they were made, and through the
//! journal while the store is away.

use core::hash::Hash;

use super::work::{After, Again, End, First, Kind, Stage, Work};
use super::{Machine, Shards};
use crate::breaker::Verdict;
use crate::entry::Zone;
use crate::failure::{Refusal, StoreFailure};
use crate::flight::Flight;
use crate::journal::Change;
use crate::stamp::{Condition, Intent, Written};
use crate::step::{Answer, FlightId, Launch, Lookup, Outcome, Settled, Step, Tier};
use crate::storage::{Map, Profile};
use crate::tags;
use crate::time::Instant;
use crate::value::Value;

/// Debts looked at for one whose key nobody is writing.
const DEBTS_LOOKED_AT: usize = 16;

/// Who may write a key to the store. Everybody else queues, and the newest of the queue is all that is written.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) holder: FlightId,
    pub(super) next: Option<FlightId>,
    /// What the holder wrote may be older than what the store is to have: a removal is owed after it.
    pub(super) tainted: bool,
    /// Memory has something newer, for which there was no room here.
    pub(super) outdone: bool,
    /// Another process has changed the key while the holder's change is on its way.
    pub(super) contested: bool,
}

impl Slot {
    const fn of(holder: FlightId) -> Self {
        Self { holder, next: None, tainted: false, outdone: false, contested: false }
    }
}

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Machine<K, V, P> {
    /// Whether a change of `key` can be taken up.
    pub(super) fn admits_change(&self, key: &K) -> Result<(), Refusal> {
        match self.writing.get(key).and_then(|slot| slot.next) {
            _ if !self.policy.store => Ok(()),
            Some(queued) => self.flights.admits_waiter(queued),
            None => self.flights.admits(),
        }
    }

    /// Takes a change to the store. [`Machine::admits_change`] has been asked.
    pub(super) fn change(&mut self, key: K, change: Change<V>, now: Instant) -> Lookup<K, V> {
        if !self.policy.store {
            return Lookup::now(Outcome::Settled(Settled::Memory));
        }
        let deadline = now + self.policy.call_deadline;
        let held = self.writing.contains_key(&key);
        let flight = match self.enqueue(&key, change, now) {
            Ok(flight) => flight,
            Err(refusal) => return self.refuse(refusal),
        };
        if let Err(refusal) = self.flights.join(flight) {
            return self.refuse(refusal);
        }
        let launch = if held { None } else { Some(Launch { flight, step: self.begin_change(flight, now) }) };
        Lookup { answer: Answer::Pending { flight, until: deadline, deadline }, launch }
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
        match self.writing.get_mut(key) {
            Some(slot) => slot.next = Some(flight),
            None => self.take_slot(key.clone(), flight),
        }
        Ok(flight)
    }

    /// Gives `key` to `holder`, which nobody else writes.
    pub(super) fn take_slot(&mut self, key: K, holder: FlightId) {
        // One slot for each flight at most, and as much room for slots as for flights.
        let _there_is_room = self.writing.insert(key, Slot::of(holder));
    }

    /// Secures the place in the order of writes for what a landing flight brings.
    pub(super) fn reserve_change(&mut self, id: FlightId, key: &K, change: Change<V>, now: Instant) -> After<V> {
        let useless = change.entry(now).is_some_and(|entry| entry.zone() == Zone::Gone);
        if !self.policy.store || useless {
            return After::Finish;
        }
        if self.writing.contains_key(key) {
            // Memory has the value; when there is no room for another flight, the store goes without any.
            let refused = self.enqueue(key, change, now).is_err();
            if let Some(slot) = self.writing.get_mut(key) {
                slot.tainted |= refused;
                slot.outdone |= refused;
            }
            return After::Finish;
        }
        self.take_slot(key.clone(), id);
        After::Change(change)
    }

    /// Secures the right to copy to the fallback what the primary had, unless something newer is on its way.
    pub(super) fn reserve_mirror(&mut self, id: FlightId, key: &K, change: Change<V>) -> After<V> {
        if !self.policy.fallback || self.writing.contains_key(key) {
            return After::Finish;
        }
        self.take_slot(key.clone(), id);
        After::Mirror(change)
    }

    pub(super) fn begin_change(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        let deadline = now + self.policy.store_write_deadline;
        self.writes += 1;
        if let Some(flight) = self.flights.get_mut(id) {
            flight.work.begin(deadline);
            flight.work.number = self.writes;
        }
        self.attempt_change(id, now)
    }

    pub(super) fn attempt_change(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        if !self.journal.owes_clear()
            && !self.owes_a_tag(id)
            && let Some(deadline) = self.enter_store(id, now)
        {
            return self.change_in(id, Tier::Primary, deadline, now);
        }
        self.not_in_primary(id, now)
    }

    /// The step that makes the flight's change in `tier`.
    fn change_in(&mut self, id: FlightId, tier: Tier, deadline: Instant, now: Instant) -> Step<K, V> {
        let fence_for = self.policy.fence_for();
        let position = self.position;
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        let work = &mut flight.work;
        let (Some(key), Some(change)) = (flight.key.clone(), &work.change) else { return Step::Done { next: None } };
        let made_ago = change.made_ago(now);
        let condition = match (tier, change.condition) {
            (Tier::Fallback, _) => Condition::Always,
            (Tier::Primary, _) if work.kind == Kind::Replay => Condition::Newest,
            // What had to wait may be older than what others have changed meanwhile.
            (Tier::Primary, Condition::Always) if !made_ago.is_zero() => Condition::Newest,
            (Tier::Primary, condition) => condition,
        };
        let intent = Intent { number: work.number, made_ago, born: position, condition };
        work.stamped = position;
        // What has lost all use while it waited, or was invalidated, is not written, but what it was to replace goes.
        let valid = self.tags.verdict(change.tags(), change.born) == tags::Verdict::Valid;
        let stays = valid
            && match tier {
                // What may be older than a removal that nobody remembers does not come back.
                Tier::Primary => made_ago <= fence_for.saturating_sub(self.policy.store_write_deadline),
                Tier::Fallback => true,
            };
        let Some(entry) = change.entry(now).filter(|entry| stays && entry.zone() != Zone::Gone) else {
            work.stage = Stage::Removing(tier);
            return Step::RemoveStore { tier, key, intent, fence_for, deadline };
        };
        work.stage = Stage::Writing(tier);
        Step::WriteStore { tier, key, entry, intent, deadline }
    }

    pub(super) fn on_changed(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        id: FlightId,
        tier: Tier,
        result: Result<Written, StoreFailure>,
        now: Instant,
    ) -> Step<K, V> {
        if tier == Tier::Fallback {
            return self.on_changed_in_fallback(id, result.is_err(), now);
        }
        let contested = self.contested(id);
        let step = match result {
            Ok(written) => {
                self.give_back(id, Verdict::Success, now);
                match written {
                    Written::Kept if self.was_stamped_too_early(id, now) => return self.attempt_change(id, now),
                    Written::Kept => self.in_primary(id, now),
                    Written::Overtaken => self.overtaken_in_primary(shards, id, now),
                }
            }
            Err(failure) => {
                if let Some(sleep) = self.store_failed(id, Again::Change, failure, now) {
                    return sleep;
                }
                if failure == StoreFailure::Rejected {
                    self.settle_for_removal(id);
                }
                self.not_in_primary(id, now)
            }
        };
        self.leave_to_store(shards, contested);
        step
    }

    /// The store refuses to keep the value for good. So that it does not go on serving an older one, what is owed
    /// to it from the second refusal on is the removal.
    fn settle_for_removal(&mut self, id: FlightId) {
        if let Some(flight) = self.flights.get_mut(id).filter(|flight| flight.work.kind == Kind::Replay) {
            flight.work.change = flight.work.change.take().map(Change::removing);
        }
    }

    fn on_changed_in_fallback(&mut self, id: FlightId, failed: bool, now: Instant) -> Step<K, V> {
        if failed {
            self.doubt_fallback(id);
        }
        let key = self.flights.get(id).and_then(|flight| flight.key.as_ref());
        let slot = key.and_then(|key| self.writing.get(key)).filter(|slot| slot.holder == id);
        if slot.is_some_and(|slot| slot.tainted) {
            // Everything was cleared meanwhile, and this may have come after it.
            return self.change_fallback(id, now);
        }
        if let Some(key) = key.filter(|_| !failed && slot.is_some_and(|slot| !slot.contested)) {
            self.outdated.settle(key);
        }
        if self.flights.get(id).is_some_and(|flight| self.came_too_late(&flight.work)) {
            self.fallback_doubts.raise();
        }
        self.changed_everywhere(id, now)
    }

    /// Whether it was writing to the fallback when everything was invalidated: that may have been cleared before. Of
    /// single tags the copy bears which it knew.
    fn came_too_late(&self, work: &Work<V>) -> bool {
        let written = work.change.as_ref().filter(|_| matches!(work.stage, Stage::Writing(Tier::Fallback)));
        written.is_some_and(|change| self.tags.verdict(&[], change.born) != tags::Verdict::Valid)
    }

    /// The fallback may have kept what the flight was to replace.
    fn doubt_fallback(&mut self, id: FlightId) {
        let Some(Flight { work, .. }) = self.flights.get(id) else { return };
        if work.kind != Kind::Replay && work.change.as_ref().is_some_and(|change| is_asked_for(work.kind, change)) {
            self.fallback_doubts.raise();
        }
    }

    /// Owes what an abandoned flight leaves undone: nobody knows whether it has reached the stores.
    pub(super) fn owe_unsettled(&mut self, id: FlightId) {
        let Some(flight) = self.flights.get_mut(id) else { return };
        let work = &mut flight.work;
        if let Kind::Note { tag, issue, .. } = work.kind {
            return self.owed_tags.fly(tag, issue, false);
        }
        match &work.stage {
            Stage::Landing(After::Change(change)) => work.change = Some(change.clone()),
            Stage::Writing(_) | Stage::Removing(_) | Stage::Pausing(Again::Change) | Stage::Ready(First::Change) => {}
            _ => return,
        }
        if work.settled == Settled::Memory {
            work.settled = Settled::Journaled;
        }
        let (kind, change) = (work.kind, work.change.clone());
        let fallback = matches!(work.stage, Stage::Writing(Tier::Fallback) | Stage::Removing(Tier::Fallback));
        if let Some(key) = flight.key.clone().filter(|_| !fallback) {
            self.owe(id, &key, kind, change);
        }
        self.doubt_fallback(id);
    }

    /// The store has something newer, by another process, unless it is by a later write of this one. What is here is
    /// older then, if the flight knows what it would have replaced, and goes.
    fn overtaken_in_primary(&mut self, shards: &mut impl Shards<K, V, P>, id: FlightId, now: Instant) -> Step<K, V> {
        self.stats.overtaken += 1;
        let Some(Flight { key: Some(key), work, .. }) = self.flights.get_mut(id) else {
            return Step::Done { next: None };
        };
        let unchanged = work.change.as_ref().is_some_and(|change| matches!(change.condition, Condition::Unchanged(_)));
        let knows = !unchanged || work.kind == Kind::Replay || work.seen.is_some();
        let newer_here = self.writing.get(key).is_some_and(|slot| slot.holder == id && slot.next.is_some());
        if !knows {
            // It did not look before it loaded: what is there may be older, and what is owed stays owed.
            return self.not_in_primary(id, now);
        }
        if newer_here {
            return self.in_primary(id, now);
        }
        work.change = Some(Change::remove(now));
        work.settled = Settled::Overtaken;
        shards.with(key, |memory| memory.remove(key));
        self.journal.settle(key);
        self.change_fallback(id, now)
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
    fn owe(&mut self, id: FlightId, key: &K, kind: Kind, change: Option<Change<V>>) {
        let Some(change) = change else { return };
        let holds_slot = self.writing.get(key).is_some_and(|slot| slot.holder == id);
        if holds_slot && (is_asked_for(kind, &change) || !self.journal.trusts(key)) {
            self.stats.journaled += u64::from(kind != Kind::Replay);
            self.journal.record(key.clone(), change);
        }
    }

    pub(super) fn change_fallback(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        if !self.policy.fallback {
            return self.changed_everywhere(id, now);
        }
        let key = self.key(id);
        if let Some(slot) = key.as_ref().and_then(|key| self.writing.get_mut(key))
            && slot.holder == id
            && core::mem::take(&mut slot.tainted)
            && let Some(key) = key
        {
            self.journal.record(key, Change::remove(now));
        }
        self.change_in(id, Tier::Fallback, now + self.policy.store_write_deadline, now)
    }

    fn changed_everywhere(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        let Some(flight) = self.flights.get(id) else { return Step::Done { next: None } };
        if self.flights.has_landed(id) || flight.work.kind == Kind::Replay {
            return self.finish(id, now);
        }
        let settled = flight.work.settled;
        self.land(id, Outcome::Settled(settled), After::Finish, now)
    }

    /// The flight is over. Whoever is next for its slot, or a debt that can be paid now, flies on in its place.
    pub(super) fn finish(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        let landed = self.flights.has_landed(id);
        if !landed {
            self.note_end(id, End::Cancelled);
        }
        let admitted = self.release_slot(id, now);
        let Some(flight) = self.flights.close(id) else { return Step::Done { next: None } };
        let failed_replay =
            self.replay == Some(id) && !matches!(flight.work.settled, Settled::Store | Settled::Overtaken);
        if self.replay == Some(id) {
            self.replay = None;
        }
        let next = flight.key.and_then(|key| self.pass_on_slot(id, key, now));
        // Who has a load's slot to give back has not landed, and who has not landed writes no key: never both.
        let next = next.or(admitted).or_else(|| if failed_replay { None } else { self.pay_debt(now) });
        Step::Done { next: next.or_else(|| self.admit_waiting(now)) }
    }

    fn pass_on_slot(&mut self, id: FlightId, key: K, now: Instant) -> Option<FlightId> {
        let slot = self.writing.get_mut(&key).filter(|slot| slot.holder == id)?;
        if let Some(next) = slot.next.take() {
            // A put that is yet to be sent comes after what others have done so far.
            let change = self.flights.get(next).and_then(|flight| flight.work.change.as_ref());
            let loaded = change.is_some_and(|change| change.condition != Condition::Always);
            *slot = Slot { contested: slot.contested && loaded, ..Slot::of(next) };
            self.stage(next, Stage::Ready(First::Change));
            return Some(next);
        }
        let tainted = slot.tainted;
        self.writing.remove(&key);
        if tainted {
            self.journal.record(key, Change::remove(now));
        }
        None
    }

    /// A flight for the oldest debt, ready to be launched, if the store's breaker would let it pass and none is under
    /// way.
    pub(super) fn pay_debt(&mut self, now: Instant) -> Option<FlightId> {
        let refused = self.store_breaker.refusal(now).is_some();
        if !self.policy.store
            || refused
            || self.replay.is_some()
            || self.journal.is_empty() && self.owed_tags.len() == 0
        {
            return None;
        }
        if self.journal.owes_clear() {
            let flight = self.open_clear(now).ok()?;
            self.stage(flight, Stage::Ready(First::Clear));
            self.replay = Some(flight);
            return Some(flight);
        }
        let owed_tag = self.owed_tags.iter().find(|(_, owed)| !owed.flying);
        if let Some((tag, owed)) = owed_tag {
            let flight = self.open_note(tag, owed, now).ok()?;
            self.stage(flight, Stage::Ready(First::Note));
            self.replay = Some(flight);
            return Some(flight);
        }
        let unwritten = |(key, _): &(&K, &Change<V>)| !self.writing.contains_key(*key);
        let debt = self.journal.debts().take(DEBTS_LOOKED_AT).find(unwritten);
        let (key, change) = debt.map(|(key, change)| (key.clone(), change.clone()))?;
        let stage = Stage::Ready(First::Debt);
        let work = Work { stage, change: Some(change), ..Work::new(Kind::Replay) };
        let flight = self.flights.open(Some(key.clone()), None, work, now).ok()?;
        self.flights.keep(flight);
        self.replay = Some(flight);
        self.take_slot(key, flight);
        Some(flight)
    }

    /// Takes a debt to the store, unless its breaker has changed its mind.
    pub(super) fn begin_debt(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        let deadline = now + self.policy.store_write_deadline;
        if self.owes_a_tag(id) {
            return self.finish(id, now);
        }
        let Ok(permit) = self.store_breaker.try_acquire(now, deadline) else { return self.finish(id, now) };
        self.writes += 1;
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        flight.work.begin(deadline);
        (flight.work.attempt, flight.work.asked_at) = (1, now);
        flight.work.number = self.writes;
        flight.work.permit = Some(permit);
        self.change_in(id, Tier::Primary, deadline, now)
    }
}

/// Whether somebody asked for this change, as opposed to keeping what was loaded.
pub(super) fn is_asked_for<V: Value>(kind: Kind, change: &Change<V>) -> bool {
    matches!(kind, Kind::Change | Kind::Replay) || change.is_removal()
}
