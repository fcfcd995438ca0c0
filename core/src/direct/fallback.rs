//! What stands in for the store: copies of what was read and written, and over them what is owed. It decides what
//! callers are told while the store is away; without a store, it is all there is.
//!
//! Operations are numbered as they begin. What an older one brings does not replace what a newer one has left.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::debt::{Ends, Step};
use super::journal::{End, Journal, NotOwed, State};
use super::words::{Octets, Remaining, Unanswered, When, number, text};
use crate::entry::{Entry, Windows};
use crate::memory::{Memory, MemoryPolicy};
use crate::pattern::Pattern;
use crate::policy::Policy;
use crate::time::Instant;
use crate::value::Value;

/// How long a copy is kept whose end nobody knows, where the policy has no `ttl`.
const UNKNOWN_FOR: Duration = Duration::from_secs(300);

/// Of so many keys, every one is in its turn among [`Fallback::some_keys`].
const SPREAD: usize = 1_024;

/// What was seen under a key.
#[derive(Clone)]
struct Copied<V> {
    state: State<V>,
    /// Of the operation that has seen it.
    number: u64,
}

impl<V: Octets> Value for Copied<V> {}

/// A value of which so much is left; if nobody has asked, it may be known.
fn state_of<V: Octets>(
    value: V,
    left: Option<Remaining>,
    known: impl FnOnce() -> Option<End>,
    now: Instant,
) -> State<V> {
    let end = match left {
        // It has ended since.
        Some(Remaining::NoSuchKey) => return State::ABSENT,
        Some(Remaining::Forever) => End::At(Instant::NEVER),
        Some(Remaining::Left(left)) => End::At(now + left),
        None => known().unwrap_or(End::Unknown),
    };
    State { value: Some(value), end }
}

pub(super) struct Fallback<V: Octets> {
    copies: Memory<Arc<str>, Copied<V>>,
    journal: Journal<V>,
    journal_max: u32,
    /// Whether there is a store that changes are owed to.
    owes: bool,
    unknown_for: Duration,
    /// How long a removal is remembered, so that a read that began before it brings nothing back.
    removed_for: Duration,
    newest: u64,
    /// What older operations have seen is not kept.
    floor: u64,
    /// How many keys have been told to those who look for some.
    told: usize,
}

impl<V: Octets> Fallback<V> {
    pub(super) fn new(policy: &Policy, owes: bool, seed: u64) -> Self {
        // Where it stands in for nothing it has to hold something all the same.
        let entries_max = if owes && !policy.fallback { 1 } else { policy.entries_max };
        Self {
            copies: Memory::new(MemoryPolicy { entries_max, seed, ..MemoryPolicy::default() }),
            journal: Journal::new(policy.journal_max as usize),
            journal_max: policy.journal_max,
            owes,
            unknown_for: policy.ttl.unwrap_or(UNKNOWN_FOR),
            removed_for: policy.store_read_deadline.saturating_mul(2),
            newest: 0,
            floor: 0,
            told: 0,
        }
    }

    pub(super) const fn journal(&self) -> &Journal<V> {
        &self.journal
    }

    pub(super) const fn journal_mut(&mut self) -> &mut Journal<V> {
        &mut self.journal
    }

    /// The number of an operation that begins now.
    pub(super) const fn begin(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }
}

/// Keys by which to find out whether the store answers.
impl<V: Octets> Fallback<V> {
    /// At most so many of the keys that owe something, and as many that are known; others each time.
    pub(super) fn some_keys(&mut self, count: usize) -> Vec<Arc<str>> {
        let from = self.told;
        self.told = from.wrapping_add(count);
        let first = |len: usize| from % len.clamp(1, SPREAD);
        let owed = self.journal.names().skip(first(self.journal.len())).take(count);
        let known = self.copies.keys().skip(first(self.copies.len())).take(count);
        owed.chain(known).cloned().collect()
    }
}

/// What was seen in the store.
impl<V: Octets> Fallback<V> {
    /// Keeps what an operation has seen, unless something newer is known.
    pub(super) fn mirror(&mut self, key: &str, state: State<V>, number: u64, now: Instant) {
        let is_newest = self.copies.peek(key, now).is_none_or(|known| known.value.number <= number);
        if is_newest && number >= self.floor {
            self.keep(key, state, number, now);
        }
    }

    /// Keeps a value that was read, and `left` of it if that was asked; else its end is known only if it is the value
    /// that is known already.
    pub(super) fn mirror_read(
        &mut self,
        key: &str,
        value: Option<&V>,
        left: Option<Remaining>,
        number: u64,
        now: Instant,
    ) {
        let state = value.map(|value| {
            let same = || self.copy(key, now).filter(|known| known.value.as_ref() == Some(value));
            state_of(value.clone(), left, || same().map(|known| known.end), now)
        });
        self.mirror(key, state.unwrap_or(State::ABSENT), number, now);
    }

    /// Keeps what was counted to. A number keeps its end when it is counted on.
    pub(super) fn mirror_sum(&mut self, key: &str, sum: i64, left: Option<Remaining>, number: u64, now: Instant) {
        let known = || self.copy(key, now).filter(|known| known.value.is_some());
        let state = state_of(text(sum), left, || known().map(|known| known.end), now);
        self.mirror(key, state, number, now);
    }

    /// Keeps when it ends.
    pub(super) fn mirror_end(&mut self, key: &str, left: Remaining, number: u64, now: Instant) {
        let known = self.copy(key, now).filter(|known| known.value.is_some());
        if let Some(value) = known.and_then(|known| known.value) {
            self.mirror(key, state_of(value, Some(left), || None, now), number, now);
        }
    }

    /// All keys that match are gone from the store.
    pub(super) fn mirror_sweep(&mut self, pattern: &Pattern, now: Instant) {
        for key in self.matching(pattern, now) {
            self.copies.remove(&*key);
        }
        self.floor = self.newest;
    }

    /// Whether the end of `key` is known.
    pub(super) fn knows_end(&self, key: &str, now: Instant) -> bool {
        self.copy(key, now).is_some_and(|known| known.value.is_some() && known.end != End::Unknown)
    }

    /// What a key that has been paid for owes no more is what was seen there; `None`: nobody knows.
    pub(super) fn paid(&mut self, key: &str, state: Option<State<V>>, now: Instant) {
        let number = self.begin();
        match state {
            Some(state) => self.keep(key, state, number, now),
            None => drop(self.copies.remove(key)),
        }
    }

    fn keep(&mut self, key: &str, state: State<V>, number: u64, now: Instant) {
        if !self.owes && state.value.is_none() {
            self.copies.remove(key);
            return;
        }
        let ttl = match (&state.value, state.end) {
            (None, _) => Some(self.removed_for),
            (Some(_), End::Unknown) => Some(self.unknown_for),
            (Some(_), End::At(Instant::NEVER)) => None,
            (Some(_), End::At(ends)) => Some(ends - now),
        };
        let entry = Entry::new(Copied { state, number }, Windows { ttl, ..Windows::FOREVER });
        // What is at its end already is not kept, and what was there before is gone.
        let _kept = self.copies.insert(key.into(), entry, 0, now);
    }

    fn copy(&self, key: &str, now: Instant) -> Option<State<V>> {
        self.copies.peek(key, now).map(|known| known.value.state)
    }

    fn matching(&self, pattern: &Pattern, now: Instant) -> Vec<Arc<str>> {
        let keys = self.copies.iter(now).map(|(key, _)| key).filter(|key| pattern.matches(key));
        keys.cloned().collect()
    }
}

/// What callers are told while the store is away.
impl<V: Octets> Fallback<V> {
    fn look(&mut self, key: &str, now: Instant) -> State<V> {
        let owed = self.journal.state(key, now);
        let copied = || self.copies.fresh(key, now).map(|known| known.value.state);
        owed.or_else(copied).unwrap_or(State::ABSENT)
    }

    pub(super) fn read(&mut self, key: &str, now: Instant) -> Option<V> {
        self.look(key, now).value
    }

    /// How long it will be there; of what ends at an unknown time, how long it is kept here.
    pub(super) fn remaining(&mut self, key: &str, now: Instant) -> Remaining {
        let state = self.look(key, now);
        match (state.value, state.end) {
            (None, _) => Remaining::NoSuchKey,
            (Some(_), End::At(Instant::NEVER)) => Remaining::Forever,
            (Some(_), End::At(ends)) => Remaining::Left(ends - now),
            (Some(_), End::Unknown) => {
                let kept = self.copies.peek(key, now).and_then(|known| known.remaining());
                Remaining::Left(kept.unwrap_or(self.unknown_for))
            }
        }
    }

    /// `false`: the condition does not hold.
    pub(super) fn write(
        &mut self,
        key: &str,
        value: V,
        ends: Ends,
        when: When,
        now: Instant,
    ) -> Result<bool, Unanswered> {
        let found = self.look(key, now);
        let holds = match when {
            When::Always => true,
            When::Absent => found.value.is_none(),
            When::Present => found.value.is_some(),
        };
        if holds {
            let step = Step::Write { value: value.clone(), ends, when, until: found.until() };
            self.change(key, step, State::ending(value, ends), now)?;
        }
        Ok(holds)
    }

    /// Whether all of these can be changed.
    pub(super) fn has_room_for<'a>(&self, keys: impl Iterator<Item = &'a str>) -> bool {
        !self.owes || self.journal.has_room_for(keys)
    }

    pub(super) fn remove(&mut self, key: &str, now: Instant) -> Result<Option<V>, Unanswered> {
        let found = self.look(key, now).value;
        self.change(key, Step::Remove, State::ABSENT, now)?;
        Ok(found)
    }

    /// `ends` is for a number that this creates.
    pub(super) fn add(&mut self, key: &str, by: i64, ends: Ends, now: Instant) -> Result<i64, Unanswered> {
        let found = self.look(key, now);
        let (sum, end) = match &found.value {
            None => (by, End::At(ends)),
            Some(bytes) => {
                let number = number(bytes.as_ref()).ok_or(Unanswered::NotANumber)?;
                let sum = number.checked_add(by).ok_or(Unanswered::NumberTooLarge)?;
                (sum, found.end)
            }
        };
        self.change(key, Step::Add { by, ends }, State { value: Some(text(sum)), end }, now)?;
        Ok(sum)
    }

    /// `false`: nothing is known of it here. The store is told all the same: it may know more.
    pub(super) fn expire(&mut self, key: &str, ends: Ends, now: Instant) -> Result<bool, Unanswered> {
        let found = self.look(key, now);
        let is_there = found.value.is_some();
        if is_there || self.owes {
            let end = if is_there { End::At(ends) } else { found.end };
            let step = Step::Expire { ends, until: found.until(), value: found.value.clone() };
            self.change(key, step, State { end, ..found }, now)?;
        }
        Ok(is_there)
    }

    /// At most so many of the keys that match, in their order, behind the one given; and whether more follow.
    pub(super) fn page(
        &mut self,
        pattern: &Pattern,
        after: Option<&str>,
        count: usize,
        now: Instant,
    ) -> (Vec<Arc<str>>, bool) {
        let mut keys = self.keys(pattern, now);
        let mut behind = match after {
            Some(after) => keys.split_off(after).into_iter().filter(|key| **key != *after).collect::<Vec<_>>(),
            None => keys.into_iter().collect(),
        };
        let more_follow = behind.len() > count;
        behind.truncate(count);
        (behind, more_follow)
    }

    /// Tells how many of those that are known here have gone.
    pub(super) fn remove_matching(&mut self, pattern: &str, now: Instant) -> Result<u64, Unanswered> {
        let glob = Pattern::new(pattern);
        let known = self.keys(&glob, now).len();
        if self.owes {
            self.journal.sweep(pattern).map_err(|why| self.unanswered(why))?;
        }
        self.mirror_sweep(&glob, now);
        Ok(known as u64)
    }

    /// Removes everything, and what was owed.
    pub(super) fn clear(&mut self) {
        if self.owes {
            self.journal.clear();
        }
        self.copies.clear();
        self.floor = self.newest;
    }

    /// Keys under which something is.
    fn keys(&self, pattern: &Pattern, now: Instant) -> BTreeSet<Arc<str>> {
        let is_there = |key: &str| self.copy(key, now).is_some_and(|known| known.value.is_some());
        let copied = self.matching(pattern, now).into_iter().filter(|key| !self.journal.owes(key) && is_there(key));
        let owed = self.journal.keys(now).filter(|(key, is_there)| *is_there && pattern.matches(key));
        copied.chain(owed.map(|(key, _)| Arc::clone(key))).collect()
    }

    fn unanswered(&self, why: NotOwed) -> Unanswered {
        match why {
            NotOwed::Full => self.full(),
            NotOwed::TooLarge => Unanswered::NumberTooLarge,
        }
    }

    /// The journal has no room.
    pub(super) const fn full(&self) -> Unanswered {
        Unanswered::JournalFull { max: self.journal_max }
    }

    fn change(&mut self, key: &str, step: Step<V>, state: State<V>, now: Instant) -> Result<(), Unanswered> {
        if self.owes {
            self.journal.push(key, step, state, now).map_err(|why| self.unanswered(why))?;
        } else {
            let number = self.begin();
            self.keep(key, state, number, now);
        }
        Ok(())
    }
}
