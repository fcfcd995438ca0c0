//! What stands in for the store: copies of what was read and written, and over them what is owed. It decides what
//! callers are told while the store is away; without a store, it is all there is.
//!
//! Operations are numbered as they begin. What an older one brings does not replace what a newer one has left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tideover_core::memory::{Memory, MemoryPolicy};
use tideover_core::pattern::Pattern;
use tideover_core::{Entry, Instant, Policy, Value, Windows};

use super::debt::{Ends, Step};
use super::journal::{End, Journal, NotOwed, State};
use crate::store::{Remaining, StoreError, When, number};

/// How long a copy is kept whose end nobody knows, where the policy has no `ttl`.
const UNKNOWN_FOR: Duration = Duration::from_secs(300);

/// Of so many keys, every one is in its turn among [`Fallback::some_keys`].
const SPREAD: usize = 1_024;

/// What was seen under a key.
#[derive(Clone)]
struct Copied {
    state: State,
    /// Of the operation that has seen it.
    number: u64,
}

impl Value for Copied {}

/// Why something could not be done here; nothing was changed.
#[derive(Debug, Clone)]
pub(super) enum Undone {
    /// What the store would say, too.
    Refused(StoreError),
    /// The journal has no room.
    Full,
    /// It was sent to the store, and must not be done twice.
    Unknown,
}

impl From<NotOwed> for Undone {
    fn from(why: NotOwed) -> Self {
        match why {
            NotOwed::Full => Self::Full,
            NotOwed::TooLarge => refused("the number would not fit into 64 bits"),
        }
    }
}

fn refused(why: &str) -> Undone {
    Undone::Refused(StoreError::Rejected(why.into()))
}

/// A value of which so much is left; if nobody has asked, it may be known.
fn state_of(value: Bytes, left: Option<Remaining>, known: impl FnOnce() -> Option<End>, now: Instant) -> State {
    let end = match left {
        // It has ended since.
        Some(Remaining::NoSuchKey) => return State::ABSENT,
        Some(Remaining::Forever) => End::At(Instant::NEVER),
        Some(Remaining::Left(left)) => End::At(now + left),
        None => known().unwrap_or(End::Unknown),
    };
    State { value: Some(value), end }
}

pub(super) struct Fallback {
    copies: Memory<Arc<str>, Copied>,
    journal: Journal,
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

impl Fallback {
    pub(super) fn new(policy: &Policy, owes: bool, seed: u64) -> Self {
        // Where it stands in for nothing it has to hold something all the same.
        let entries_max = if owes && !policy.fallback { 1 } else { policy.entries_max };
        Self {
            copies: Memory::new(MemoryPolicy { entries_max, seed, ..MemoryPolicy::default() }),
            journal: Journal::new(policy.journal_max as usize),
            owes,
            unknown_for: policy.ttl.unwrap_or(UNKNOWN_FOR),
            removed_for: policy.store_read_deadline.saturating_mul(2),
            newest: 0,
            floor: 0,
            told: 0,
        }
    }

    pub(super) const fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(super) const fn journal_mut(&mut self) -> &mut Journal {
        &mut self.journal
    }

    /// The number of an operation that begins now.
    pub(super) const fn begin(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }
}

/// Keys by which to find out whether the store answers.
impl Fallback {
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
impl Fallback {
    /// Keeps what an operation has seen, unless something newer is known.
    pub(super) fn mirror(&mut self, key: &str, state: State, number: u64, now: Instant) {
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
        value: Option<&Bytes>,
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
        let state = state_of(sum.to_string().into(), left, || known().map(|known| known.end), now);
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
    pub(super) fn paid(&mut self, key: &str, state: Option<State>, now: Instant) {
        let number = self.begin();
        match state {
            Some(state) => self.keep(key, state, number, now),
            None => drop(self.copies.remove(key)),
        }
    }

    fn keep(&mut self, key: &str, state: State, number: u64, now: Instant) {
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

    fn copy(&self, key: &str, now: Instant) -> Option<State> {
        self.copies.peek(key, now).map(|known| known.value.state)
    }

    fn matching(&self, pattern: &Pattern, now: Instant) -> Vec<Arc<str>> {
        let keys = self.copies.iter(now).map(|(key, _)| key).filter(|key| pattern.matches(key));
        keys.cloned().collect()
    }
}

/// What callers are told while the store is away.
impl Fallback {
    fn look(&mut self, key: &str, now: Instant) -> State {
        let owed = self.journal.state(key, now);
        let copied = || self.copies.fresh(key, now).map(|known| known.value.state);
        owed.or_else(copied).unwrap_or(State::ABSENT)
    }

    pub(super) fn read(&mut self, key: &str, now: Instant) -> Option<Bytes> {
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
        value: Bytes,
        ends: Ends,
        when: When,
        now: Instant,
    ) -> Result<bool, Undone> {
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

    pub(super) fn remove(&mut self, key: &str, now: Instant) -> Result<Option<Bytes>, Undone> {
        let found = self.look(key, now).value;
        self.change(key, Step::Remove, State::ABSENT, now)?;
        Ok(found)
    }

    /// `ends` is for a number that this creates.
    pub(super) fn add(&mut self, key: &str, by: i64, ends: Ends, now: Instant) -> Result<i64, Undone> {
        let found = self.look(key, now);
        let (sum, end) = match &found.value {
            None => (by, End::At(ends)),
            Some(text) => {
                let number = number(text).ok_or_else(|| refused("the value is not a whole number of 64 bits"))?;
                let sum = number.checked_add(by).ok_or_else(|| refused("the number would not fit into 64 bits"))?;
                (sum, found.end)
            }
        };
        self.change(key, Step::Add { by, ends }, State { value: Some(sum.to_string().into()), end }, now)?;
        Ok(sum)
    }

    /// `false`: nothing is known of it here. The store is told all the same: it may know more.
    pub(super) fn expire(&mut self, key: &str, ends: Ends, now: Instant) -> Result<bool, Undone> {
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
    pub(super) fn remove_matching(&mut self, pattern: &str, now: Instant) -> Result<u64, Undone> {
        let glob = Pattern::new(pattern);
        let known = self.keys(&glob, now).len();
        if self.owes {
            self.journal.sweep(pattern)?;
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

    fn change(&mut self, key: &str, step: Step, state: State, now: Instant) -> Result<(), Undone> {
        if self.owes {
            self.journal.push(key, step, state, now)?;
        } else {
            let number = self.begin();
            self.keep(key, state, number, now);
        }
        Ok(())
    }
}
