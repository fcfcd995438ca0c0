//! What other processes do, as it is learnt: invalidations from the shared store's log, single keys from whoever watches
//! the store.
//!
//! A key that is changed elsewhere leaves memory, and its flights keep nothing. Where a change of our own is on its way,
//! nobody can tell yet which of the two comes first: memory keeps ours until it has arrived, and then the store is asked.

use core::hash::Hash;

use super::work::{Kind, Stage};
use super::{Machine, Shards};
use crate::flight::Fence;
use crate::stamp::Condition;
use crate::step::{FlightId, Settled, Tidings, Tier};
use crate::storage::{Map, Profile};
use crate::tags::Verdict;
use crate::time::Instant;
use crate::value::Value;

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Machine<K, V, P> {
    /// What other processes have done, told by the driver.
    ///
    /// [`Tidings::Noted`] tells each note of the log once, in the order of the numbers, and everything that was noted before
    /// an operation of the store took effect before the flight that waits for that operation is resumed.
    /// [`Note::Unknown`](crate::Note::Unknown) stands for notes that were missed; before anything else the driver tells
    /// that nothing is known up to the number where the log begins. Until then nothing in the store is trusted. A put that
    /// is on its way to the store is newer than what is learnt from other processes meanwhile.
    ///
    /// [`Tidings::Changed`] and [`Tidings::Missed`] may come at any time and in any order: they cost hits, never
    /// correctness.
    pub fn learn(&mut self, shards: &mut impl Shards<K, V, P>, tidings: impl Into<Tidings<K>>, now: Instant) {
        match tidings.into() {
            Tidings::Noted(news) => self.learn_noted(shards, news, now),
            Tidings::Changed(key) => self.learn_changed(shards, key, now),
            Tidings::Missed => self.learn_missed(shards, now),
        }
    }

    fn learn_changed(&mut self, shards: &mut impl Shards<K, V, P>, key: K, now: Instant) {
        self.stats.changed_elsewhere += 1;
        if self.policy.fallback {
            self.outdated.note(key.clone(), now);
        }
        for id in self.flights.of(&key).into_iter().flatten() {
            if !self.asks_again(id) {
                self.flights.fence_one(id, Fence::Change);
            }
        }
        self.forget_remembered(&key);
        if !self.is_contested(&key) {
            self.leave_to_store(shards, Some(key));
        }
    }

    /// What is held may be as good as ever, but is asked about. What the store is yet to get is the newest for all that is
    /// known, and the store will say if it is not.
    fn learn_missed(&mut self, shards: &mut impl Shards<K, V, P>, now: Instant) {
        self.stats.missed += 1;
        self.outdated.missed(now);
        self.spare_puts();
        self.newest += 1;
        let newest = self.newest;
        shards.each(|memory| memory.doubt_all(newest));
        self.remembered.clear();
        self.spare_in_memory(shards);
        for (key, change) in self.journal.debts() {
            if !change.is_removal() && self.tags.verdict(change.tags(), change.born) == Verdict::Valid {
                shards.with(key, |memory| memory.spare(key, newest));
            }
        }
        self.flights
            .for_each(|flight| flight.work.asks_again |= matches!(flight.work.stage, Stage::Reading(Tier::Primary)));
    }

    /// Whether what memory has is a put of our own that is on its way to the store. Once it has arrived, memory is left to
    /// the store. The fallback's copy is no better.
    fn is_contested(&mut self, key: &K) -> bool {
        let Some(slot) = self.writing.get_mut(key) else { return false };
        slot.contested = true;
        let newest = self.flights.get(slot.next.unwrap_or(slot.holder));
        newest.map(|flight| &flight.work).is_some_and(|work| {
            let asked_for = work.to_write().is_some_and(|change| change.condition == Condition::Always);
            asked_for && work.kind == Kind::Change && work.settled == Settled::Memory
        })
    }

    /// A flight that is reading the store reads it once more: what it gets may be what was there before. Who is at the lease
    /// is yet to read it.
    fn asks_again(&mut self, id: FlightId) -> bool {
        let Some(flight) = self.flights.get_mut(id) else { return false };
        let reading = matches!(flight.work.stage, Stage::Reading(Tier::Primary));
        flight.work.asks_again |= reading;
        reading || matches!(flight.work.stage, Stage::Leasing | Stage::AwaitingLease)
    }

    /// The flight's change has got as far as it will: the key, if others have changed it meanwhile and memory is to be left
    /// to the store.
    pub(super) fn contested(&self, id: FlightId) -> Option<K> {
        let key = self.flights.get(id)?.key.as_ref()?;
        let slot = self.writing.get(key).filter(|slot| slot.holder == id && slot.next.is_none())?;
        slot.contested.then(|| key.clone())
    }

    /// Leaves `key` to the store, unless that is owed a change of it.
    pub(super) fn leave_to_store(&mut self, shards: &mut impl Shards<K, V, P>, key: Option<K>) {
        if let Some(key) = key.filter(|key| !self.journal.owes(key)) {
            shards.with(&key, |memory| memory.remove(&key));
        }
    }
}
