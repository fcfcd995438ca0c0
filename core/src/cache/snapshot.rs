//! The machine and its memory as bytes that outlive the process or the instance: what was learnt of store and loader,
//! what is owed to the store, and the warm entries.
//!
//! ```text
//! +---------+---------+-----------------+--------------------+
//! | 't' 's' | version | CRC-32 of what  | the state          |
//! | 2 bytes | 1 byte  | follows, 4 LE   | (postcard)         |
//! +---------+---------+-----------------+--------------------+
//! ```
//!
//! Moments are kept as distances from the moment of taking; the time since then is told by civil time, and counts as
//! zero if the civil clock was set back. Flights are not kept: their callers are gone. A change that was under way is
//! kept as a debt to the store, since nobody knows whether it has got there. Any other bytes are refused with a reason,
//! and leave the machine as it was.

use alloc::vec::Vec;
use core::hash::Hash;
use core::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::change::is_asked_for;
use super::work::{After, Remembered, Stage};
use super::{Machine, Shards};
use crate::breaker::{self, Breaker};
use crate::budget::{self, Budget};
use crate::entry::Entry;
use crate::journal::{Change, Journal};
use crate::latency::{self, Latency};
use crate::limit::{self, Limit};
use crate::seal::{Seal, Unsealed};
use crate::step::{FlightId, LoaderId, Settled};
use crate::storage::{Map, Profile};
use crate::time::{Instant, WallTime};
use crate::value::{Invalidation, Tag, Value};

const SEAL: Seal = Seal { letters: *b"ts", version: 2 };

/// What has happened since a snapshot was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Nothing: taking it was the last thing that the machine did before it was replaced. Everything is restored.
    Last,
    /// Nobody knows, because the machine was lost later. Entries may have been removed since, so none is restored;
    /// debts may have been paid and followed by newer writes, so each is restored as a removal, which is always safe.
    /// Debts that were made since are lost with the machine.
    Earlier,
}

/// Why bytes are no snapshot that can be restored here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotError {
    /// They do not begin as a snapshot does.
    Foreign,
    /// A version that this build does not know.
    Version(u8),
    /// The checksum does not fit: truncated or altered.
    Checksum,
    /// The state cannot be read: it is of other keys or values.
    Unreadable,
    /// The machine is in use: what it knows is newer.
    InUse,
}

impl core::fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Foreign => f.write_str("not a snapshot"),
            Self::Version(version) => write!(f, "unknown snapshot version {version}"),
            Self::Checksum => f.write_str("checksum mismatch"),
            Self::Unreadable => f.write_str("unreadable snapshot"),
            Self::InUse => f.write_str("the machine is in use already"),
        }
    }
}

impl core::error::Error for SnapshotError {}

impl From<Unsealed> for SnapshotError {
    fn from(unsealed: Unsealed) -> Self {
        match unsealed {
            Unsealed::Foreign => Self::Foreign,
            Unsealed::Version(version) => Self::Version(version),
            Unsealed::Checksum => Self::Checksum,
        }
    }
}

/// What a snapshot brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restored {
    /// Entries in memory.
    pub entries: usize,
    /// Debts to the store.
    pub debts: usize,
    /// How long ago it was taken.
    pub age: Duration,
}

/// What is owed, at the age that it had, and how long ago that was decided.
#[derive(Serialize, Deserialize)]
struct Debt<V> {
    entry: Option<Entry<V>>,
    made_ago: Duration,
}

#[derive(Serialize, Deserialize)]
struct Saved<K, V> {
    taken_unix_millis: u64,
    store_breaker: breaker::Saved,
    load_breaker: breaker::Saved,
    /// In the order of their numbers.
    named_loaders: Vec<(LoaderId, breaker::Saved)>,
    store_budget: budget::Saved,
    load_budget: budget::Saved,
    limit: limit::Saved,
    latency: latency::Saved,
    owes_clear: bool,
    fallback_doubted: bool,
    debts: Vec<(K, Debt<V>)>,
    /// Each with how long ago it was invalidated.
    owed_tags: Vec<(Tag, Invalidation, Duration)>,
    position: u64,
    remembered: Vec<(K, Entry<Remembered>)>,
    entries: Vec<(K, Entry<V>)>,
}

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Machine<K, V, P> {
    /// The machine and its memory as bytes. Costs a copy of everything.
    ///
    /// ```
    /// use core::time::Duration;
    /// use tideover_core::cache::snapshot::Taken;
    /// use tideover_core::{Answer, Cache, Call, Command, Instant, Outcome, Policy, WallTime};
    ///
    /// let (now, noon) = (Instant::ZERO, WallTime::from_unix_millis(1_000_000));
    /// let mut old: Cache<String, String> = Cache::new(Policy::default(), 1)?;
    /// old.command(Command::Put { key: "k".to_owned(), value: "v".to_owned(), windows: None }, now);
    /// let bytes = old.snapshot(now, noon);
    ///
    /// // A minute later, in another process with another zero of its clock.
    /// let (now, later) = (Instant::from_nanos(77), WallTime::from_unix_millis(1_060_000));
    /// let mut new: Cache<String, String> = Cache::new(Policy::default(), 2)?;
    /// assert_eq!(new.restore(&bytes, Taken::Last, now, later).map(|restored| restored.entries), Ok(1));
    /// let lookup = new.lookup(&"k".to_owned(), Call::default(), now);
    /// assert!(matches!(lookup.answer, Answer::Now(Outcome::Served(hit)) if hit.age == Duration::from_secs(60)));
    /// # Ok::<(), tideover_core::PolicyError>(())
    /// ```
    pub fn snapshot(&mut self, shards: &mut impl Shards<K, V, P>, now: Instant, wall: WallTime) -> Vec<u8>
    where
        K: Serialize,
        V: Serialize,
    {
        let owed = self.all_debts(now);
        let mut entries = Vec::new();
        shards.each(|memory| entries.extend(memory.iter(now).map(|(key, entry)| (key.clone(), entry))));
        let saved = Saved {
            taken_unix_millis: wall.as_unix_millis(),
            store_breaker: self.store_breaker.save(now),
            load_breaker: self.loaders.unnamed().save(now),
            named_loaders: self.named_loaders(now),
            store_budget: self.store_budget.save(now),
            load_budget: self.load_budget.save(now),
            limit: self.limit.save(),
            latency: self.latency.save(),
            owes_clear: owed.owes_clear(),
            fallback_doubted: self.fallback_doubts.remain(),
            debts: owed.debts().map(|(key, change)| (key.clone(), Debt::of(change, now))).collect(),
            owed_tags: self.owed_tags.iter().map(|(tag, owed)| (tag, owed.how, now - owed.made_at)).collect(),
            position: self.position,
            remembered: self.remembered.iter(now).map(|(key, entry)| (key.clone(), entry)).collect(),
            entries,
        };
        sealed(&saved)
    }

    /// Brings back what `bytes` hold, into a machine that has not been used yet. Its policy stays: what does not fit it
    /// any more is left out.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]; the machine is as it was.
    pub fn restore(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        bytes: &[u8],
        taken: Taken,
        now: Instant,
        wall: WallTime,
    ) -> Result<Restored, SnapshotError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        if self.flights.len() > 0 || !self.journal.is_empty() {
            return Err(SnapshotError::InUse);
        }
        let saved: Saved<K, V> = opened(bytes)?;
        let age = wall.since(WallTime::from_unix_millis(saved.taken_unix_millis));
        // The moment of taking, as far as the driver's clock reaches back.
        let then = Instant::from_nanos(now.as_nanos().saturating_sub(crate::time::nanos(age)));
        self.restore_machines(&saved, then);
        self.restore_debts(saved.debts, saved.owes_clear, taken, age, now);
        for (tag, how, made_ago) in saved.owed_tags {
            let made_ago = made_ago.saturating_add(age);
            // Longer ago than this clock can tell: what it expired would look younger than it is.
            let how = if made_ago > now - Instant::ZERO { Invalidation::Remove } else { how };
            let made_at = Instant::from_nanos(now.as_nanos().saturating_sub(crate::time::nanos(made_ago)));
            if self.owed_tags.owe(tag, how, made_at).is_none() {
                self.journal.distrust();
            }
        }
        if saved.fallback_doubted || taken == Taken::Earlier {
            self.fallback_doubts.raise();
        }
        let mut entries = 0;
        if taken == Taken::Last {
            self.position = saved.position;
            for (key, entry) in saved.remembered {
                self.remembered.insert(key, entry.aged(age), 0, now);
            }
            let newest = self.newest;
            for (key, entry) in saved.entries {
                shards.with(&key, |memory| _ = memory.insert(key.clone(), entry.aged(age), newest, now));
            }
            shards.each(|memory| entries += memory.len());
        }
        Ok(Restored { entries, debts: self.journal.len(), age })
    }

    fn named_loaders(&self, now: Instant) -> Vec<(LoaderId, breaker::Saved)> {
        let mut named: Vec<_> = self.loaders.named().map(|(loader, breaker)| (loader, breaker.save(now))).collect();
        named.sort_by_key(|(loader, _)| *loader);
        named
    }

    fn restore_machines(&mut self, saved: &Saved<K, V>, then: Instant) {
        let (policy, dice) = (&self.policy, &mut self.entropy);
        let breaker = |saved, policy, seed| Breaker::restore(saved, policy, seed, then);
        let (store, load) = (policy.store_breaker_policy(), policy.load_breaker_policy());
        self.store_breaker = breaker(&saved.store_breaker, store, dice.bits());
        self.loaders.put(LoaderId::UNNAMED, breaker(&saved.load_breaker, load, dice.bits()));
        for (loader, saved) in &saved.named_loaders {
            self.loaders.put(*loader, breaker(saved, load, dice.bits()));
        }
        // Whoever restores has a configuration of today.
        self.store_breaker.set_mode(store.mode, then);
        self.loaders.set_mode(load.mode, then);
        self.store_budget = Budget::restore(policy.budget_policy(), &saved.store_budget, then);
        self.load_budget = Budget::restore(policy.budget_policy(), &saved.load_budget, then);
        self.limit = Limit::restore(policy.limit_policy(), &saved.limit);
        self.latency = Latency::restore(super::LATENCY_PERCENT, &saved.latency);
    }

    fn restore_debts(&mut self, debts: Vec<(K, Debt<V>)>, owes_clear: bool, taken: Taken, age: Duration, now: Instant) {
        if owes_clear {
            self.journal.void();
        }
        for (key, Debt { entry, made_ago }) in debts {
            let entry = entry.filter(|_| taken == Taken::Last).map(|entry| entry.aged(age));
            let change = entry.map_or(Change::remove(now), |entry| Change::put(entry, self.newest, now));
            self.journal.record(key, change.made_earlier(made_ago.saturating_add(age)));
        }
    }

    /// The journal as it would be if every change under way were given up now.
    fn all_debts(&self, now: Instant) -> Journal<K, V, P::Journal> {
        let mut journal = self.journal.clone();
        // In the order in which they were asked for, whatever the table's: every engine pays them alike.
        let mut writing: Vec<_> = self.writing.iter().collect();
        writing.sort_by_key(|(_, slot)| slot.holder);
        for (key, slot) in writing {
            if slot.tainted {
                journal.record(key.clone(), Change::remove(now));
            }
            for id in [Some(slot.holder), slot.next].into_iter().flatten() {
                if let Some(change) = self.unsettled(id) {
                    journal.record(key.clone(), change);
                }
            }
        }
        journal
    }

    /// The change that a flight may not have brought to the store yet, if anybody asked for it.
    fn unsettled(&self, id: FlightId) -> Option<Change<V>> {
        let work = &self.flights.get(id)?.work;
        let change = match &work.stage {
            Stage::Landing(After::Change(change)) => Some(change),
            _ => work.change.as_ref(),
        };
        change.filter(|change| work.settled != Settled::Store && is_asked_for(work.kind, change)).cloned()
    }
}

impl<V: Value> Debt<V> {
    fn of(change: &Change<V>, now: Instant) -> Self {
        Self { entry: change.entry(now), made_ago: change.made_ago(now) }
    }
}

fn sealed(state: &impl Serialize) -> Vec<u8> {
    // Writing plain data into a growing vector cannot fail; were it to, the snapshot would be refused as foreign.
    let mut bytes = postcard::to_extend(state, Vec::from(SEAL.prefix())).unwrap_or_default();
    Seal::close(&mut bytes);
    bytes
}

fn opened<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SnapshotError> {
    match postcard::take_from_bytes(SEAL.open(bytes)?) {
        Ok((state, [])) => Ok(state),
        _ => Err(SnapshotError::Unreadable),
    }
}
