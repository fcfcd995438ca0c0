//! Invalidations of tags, and what the shared store's log says of those of other processes.
//!
//! Two clocks number them. The machine's own counts what it has done or learnt, and judges memory, flights and changes
//! that wait to be written. The log's numbers are the same for every process, and judge what lies in the store: each
//! entry there is stamped with the newest number that its writer knew when the value was new. An invalidation counts in
//! memory at once; until it stands in the log, nothing in the store that bears its tag is trusted.

use core::hash::Hash;
use core::time::Duration;

use super::work::{Again, Kind, Stage, Work};
use super::{Machine, Shards};
use crate::breaker;
use crate::entry::Entry;
use crate::failure::{Refusal, StoreFailure};
use crate::journal::{Change, OwedTag};
use crate::stamp::Condition;
use crate::step::{Answer, FlightId, Found, Launch, Lookup, News, Note, Outcome, Settled, Step};
use crate::storage::{Map, Profile};
use crate::tags::{Invalidation, Verdict};
use crate::time::{Instant, nanos};
use crate::value::{Tag, Value};

/// How often a put is written anew because an invalidation came between that it is newer than.
const STAMPS_MAX: u32 = 8;

impl<V> Entry<V> {
    /// What an invalidation leaves of the entry.
    pub(super) fn judged(self, verdict: Verdict, now: Instant) -> Option<Self> {
        match verdict {
            Verdict::Valid => Some(self),
            Verdict::Doubted => Some(Self { doubted: true, ..self }),
            Verdict::Invalid => None,
            Verdict::Expired(at) => {
                let windows = self.windows.cut(self.age.saturating_sub(now - at));
                Some(Self { windows, ..self })
            }
        }
    }
}

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Machine<K, V, P> {
    pub(super) fn learn_noted(&mut self, shards: &mut impl Shards<K, V, P>, news: News, now: Instant) {
        let News { number, ago, own, mut note } = news;
        if let Note::Invalidated(_, how) = &mut note
            && ago > now - Instant::ZERO
        {
            // Longer ago than this clock can tell: what it expired would look younger than it is.
            *how = Invalidation::Remove;
        }
        let ago = if note == Note::Unknown { Duration::ZERO } else { ago };
        let at = Instant::from_nanos(now.as_nanos().saturating_sub(nanos(ago)));
        match note {
            Note::Invalidated(tag, how) => self.noted.note(tag, how, number, at),
            // Who reads an entry for the first time cannot tell what it was before: it goes.
            Note::Cleared | Note::Unknown => self.noted.note_all(Invalidation::Remove, number, at),
        }
        // What is told from the middle on says nothing of what was noted before.
        self.heard |= note == Note::Unknown;
        let known = own || number <= self.position;
        self.position = self.position.max(number);
        if !known {
            self.stats.learnt += 1;
            self.spare_puts();
            self.note_here(shards, note, at);
            self.spare_in_memory(shards);
        }
    }

    /// Notes an invalidation for memory, flights, and changes that wait to be written.
    pub(super) fn note_here(&mut self, shards: &mut impl Shards<K, V, P>, note: Note, at: Instant) {
        self.newest += 1;
        let newest = self.newest;
        match note {
            Note::Invalidated(tag, how) => {
                self.tags.note(tag, how, newest, at);
                shards.each(|memory| memory.invalidate(tag, how, newest, at));
                self.remembered.invalidate(tag, how, newest, at);
            }
            Note::Cleared => {
                self.tags.note_all(Invalidation::Remove, newest, at);
                shards.each(|memory| memory.invalidate_all(Invalidation::Remove, newest, at));
            }
            // What is held may be as good as ever: so that a store that restarts empties no memory, it is asked about.
            Note::Unknown => {
                self.tags.doubt_all(newest);
                shards.each(|memory| memory.doubt_all(newest));
            }
        }
        if !matches!(note, Note::Invalidated(..)) {
            self.remembered.clear();
            self.fallback_doubts.raise();
        }
    }

    /// Puts that are on their way to the store are as new as the invalidation that is about to be noted.
    pub(super) fn spare_puts(&mut self) {
        let number = self.newest + 1;
        for slot in self.writing.values_mut().filter(|slot| !slot.outdone || slot.next.is_some()) {
            let newest = self.flights.get_mut(slot.next.unwrap_or(slot.holder));
            // What has reached the store, or is owed to it, may be older.
            let unsettled = |work: &Work<V>| work.kind == Kind::Change && work.settled == Settled::Memory;
            let change = newest.filter(|flight| unsettled(&flight.work)).and_then(|f| f.work.change.as_mut());
            let asked_for = |change: &&mut Change<V>| change.condition == Condition::Always && !change.is_removal();
            let Some(change) = change.filter(asked_for) else { continue };
            if self.tags.verdict(change.tags(), change.born) == Verdict::Valid {
                change.born = number;
            }
        }
    }

    /// What was spared on its way to the store stays in memory.
    pub(super) fn spare_in_memory(&mut self, shards: &mut impl Shards<K, V, P>) {
        let number = self.newest;
        for (key, slot) in self.writing.iter() {
            let flight = self.flights.get(slot.next.unwrap_or(slot.holder));
            if flight.and_then(|flight| flight.work.change.as_ref()).is_some_and(|change| change.born == number) {
                shards.with(key, |memory| memory.spare(key, number));
            }
        }
    }

    /// What becomes of the store's copy when `entry` is the newest. A store without a log cannot tell whether a tag was
    /// invalidated by another process, so what bears one is kept in memory only.
    pub(super) fn shared(&self, entry: Entry<V>, born: u64, now: Instant) -> Change<V> {
        let can_be = self.policy.store_log || entry.value.tags().is_empty();
        if can_be { Change::put(entry, born, now) } else { Change::remove(now) }
    }

    /// How what was found in the shared store stands to what its log says, and to what the log is yet to say.
    pub(super) fn standing(&self, tags: &[Tag], born: u64) -> Verdict {
        let untold = if self.policy.store_log { !self.heard } else { !tags.is_empty() };
        let untold = untold || self.owed_tags.owes_any(tags);
        if untold { Verdict::Invalid } else { self.noted.verdict(tags, born) }
    }

    /// How a copy in the fallback, which is this process's own, stands to what is known of its tags and of its key. What was
    /// copied while an invalidation was owed bears no number that says whether it is newer, and so is not used.
    pub(super) fn fallback_verdict(&self, key: &K, entry: &Entry<V>, born: u64, now: Instant) -> Verdict {
        let tags = entry.value.tags();
        let untold = !tags.is_empty() && (!self.policy.store_log || self.owed_tags.owes_any(tags));
        if untold || self.noted.verdict(tags, born) != Verdict::Valid {
            return Verdict::Invalid;
        }
        self.outdated.verdict(key, entry.age, now)
    }

    /// The entry that was found in the shared store, as far as it was not invalidated.
    pub(super) fn valid(&self, found: Found<V>, now: Instant) -> Option<Entry<V>> {
        let entry = found.entry?;
        let verdict = self.standing(entry.value.tags(), found.born);
        entry.judged(verdict, now)
    }

    /// Whether the change that the flight has written is stamped as older than an invalidation that it is newer than.
    pub(super) fn was_stamped_too_early(&self, id: FlightId, now: Instant) -> bool {
        let Some(work) = self.flights.get(id).map(|flight| &flight.work) else { return false };
        let Some(change) = work.change.as_ref().filter(|_| matches!(work.stage, Stage::Writing(_))) else {
            return false;
        };
        matches!(work.kind, Kind::Change | Kind::Replay)
            && change.condition == Condition::Always
            && work.attempt < STAMPS_MAX
            && now < work.deadline
            && self.noted.verdict(change.tags(), work.stamped) != Verdict::Valid
            && self.tags.verdict(change.tags(), change.born) == Verdict::Valid
    }

    /// Whether an invalidation that the flight's change is newer than is not in the log yet: it would reach the change.
    pub(super) fn owes_a_tag(&self, id: FlightId) -> bool {
        let change = self.flights.get(id).and_then(|flight| flight.work.to_write());
        change.is_some_and(|change| self.owed_tags.owes_any(change.tags()))
    }

    /// Whether the change that the flight is to write has been invalidated.
    #[cfg(feature = "alloc")]
    pub(super) fn is_dead(&self, work: &Work<V>) -> bool {
        work.to_write().is_some_and(|change| self.tags.verdict(change.tags(), change.born) != Verdict::Valid)
    }

    /// Takes an invalidation to the log; where there is no room for a flight it is owed.
    pub(super) fn note_in_store(&mut self, tag: Tag, how: Invalidation, now: Instant) -> Lookup<K, V> {
        if !self.policy.store || !self.policy.store_log {
            return Lookup::now(Outcome::Settled(Settled::Memory));
        }
        let Some(owed) = self.owed_tags.owe(tag, how, now) else {
            // As with changes: what the journal has no room for, a clear pays for.
            self.journal.distrust();
            return Lookup::now(Outcome::Settled(Settled::Journaled));
        };
        let Ok(flight) = self.open_note(tag, owed, now).and_then(|id| self.flights.join(id).map(|()| id)) else {
            return Lookup::now(Outcome::Settled(Settled::Journaled));
        };
        let deadline = now + self.policy.call_deadline;
        let answer = Answer::Pending { flight, until: deadline, deadline };
        Lookup { answer, launch: Some(Launch { flight, step: self.begin_note(flight, now) }) }
    }

    /// A flight that takes an owed invalidation to the log.
    pub(super) fn open_note(&mut self, tag: Tag, owed: OwedTag, now: Instant) -> Result<FlightId, Refusal> {
        let OwedTag { how, made_at, issue, .. } = owed;
        let flight = self.open(None, None, Kind::Note { tag, how, made_at, issue }, now)?;
        self.owed_tags.fly(tag, issue, true);
        Ok(flight)
    }

    pub(super) fn begin_note(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        let deadline = now + self.policy.store_write_deadline;
        if let Some(flight) = self.flights.get_mut(id) {
            flight.work.begin(deadline);
        }
        self.attempt_note(id, now)
    }

    pub(super) fn attempt_note(&mut self, id: FlightId, now: Instant) -> Step<K, V> {
        let kind = self.flights.get(id).map(|flight| flight.work.kind);
        let Some(Kind::Note { tag, how, made_at, .. }) = kind else { return Step::Done { next: None } };
        if !self.journal.owes_clear()
            && let Some(deadline) = self.enter_store(id, now)
        {
            self.stage(id, Stage::Noting);
            return Step::InvalidateStore { tag, how, made_ago: now - made_at, deadline };
        }
        self.note_over(id, Settled::Journaled, now)
    }

    pub(super) fn on_noted(&mut self, id: FlightId, result: Result<(), StoreFailure>, now: Instant) -> Step<K, V> {
        let Err(failure) = result else {
            self.give_back(id, breaker::Verdict::Success, now);
            return self.note_over(id, Settled::Store, now);
        };
        let sleep = self.store_failed(id, Again::Note, failure, now);
        sleep.unwrap_or_else(|| self.note_over(id, Settled::Journaled, now))
    }

    /// The invalidation stands in the log, or is owed to it.
    fn note_over(&mut self, id: FlightId, settled: Settled, now: Instant) -> Step<K, V> {
        let replay = self.replay == Some(id);
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        flight.work.settled = settled;
        if let Kind::Note { tag, issue, .. } = flight.work.kind {
            if settled == Settled::Store {
                self.owed_tags.settle(tag, issue);
                self.stats.replayed += u64::from(replay);
            } else {
                self.owed_tags.fly(tag, issue, false);
                self.stats.journaled += u64::from(!replay);
            }
        }
        self.settled(id, now)
    }
}
