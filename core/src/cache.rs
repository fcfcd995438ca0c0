//! The orchestration: one machine that composes memory, flights, breakers, retries and the journal.
//!
//! ```text
//!            +------------------------- hit: memory alone ------------------------> served
//!  lookup ---+--- stale, to be revalidated ------ served, and one flight behind it
//!            +--- nothing to serve ---- join the key's flight, or lead a new one:
//!
//!  ReadStore --> (Wait) --> Load (again after Sleep) --> Land --> WriteStore --> Done
//!      |                      |                          ^
//!      +-------- found -------+-- failed: stale, error --+
//! ```
//!
//! What a lookup gets at once is decided in `cache/lookup.rs`, the steps of loads in `cache/load.rs`, those of puts,
//! removals and the journal in `cache/change.rs`, those of clears in `cache/clear.rs`. Nothing here knows how anything
//! is done.

mod change;
mod clear;
mod elsewhere;
#[cfg(feature = "alloc")]
pub mod explain;
mod lease;
mod load;
mod loaders;
mod lookup;
mod note;
mod settle;
#[cfg(feature = "alloc")]
pub mod snapshot;
mod whole;
mod work;

#[cfg(feature = "alloc")]
use alloc::boxed::Box;
use core::hash::Hash;
use core::time::Duration;

#[cfg(feature = "alloc")]
use self::explain::Story;
use self::loaders::Loaders;
pub use self::whole::Cache;
pub use self::work::Remembered;
use self::work::{Again, First, Kind, Stage, Work};
pub use crate::flight::Fence;

use self::change::Slot;
use crate::breaker::{Breaker, BreakerReport, Mode};
use crate::budget::Budget;
use crate::entropy::Entropy;
use crate::entry::Entry;
use crate::failure::{Failure, Refusal};
use crate::flight::{Flight, Flights, Limits};
use crate::journal::{Change, Doubts, Journal, OwedTags};
use crate::latency::Latency;
use crate::limit::Limit;
use crate::memory::{Memory, MemoryPolicy};
use crate::outdated::Outdated;
use crate::policy::{Policy, PolicyError};
use crate::step::{Answer, Command, Event, FlightId, Left, LoaderId, Lookup, Note, Outcome, Served, Step};
use crate::storage::{Linked, Profile, Storage, Usual};
use crate::tags::Invalidations;
use crate::time::Instant;
use crate::value::Value;

/// The percentage of loads whose time is learnt.
const LATENCY_PERCENT: u8 = 95;

/// Where the machine keeps entries: one [`Memory`], or several behind locks of the driver's, chosen by key.
pub trait Shards<K: Clone, V: Clone, P: Profile = Usual> {
    /// Gives access to the memory that `key` belongs to, for the time of the call.
    fn with<R>(&mut self, key: &K, access: impl FnOnce(&mut Memory<K, V, P>) -> R) -> R;
    /// Gives access to each memory in turn.
    fn each(&mut self, access: impl FnMut(&mut Memory<K, V, P>));
}

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Shards<K, V, P> for Memory<K, V, P> {
    fn with<R>(&mut self, _key: &K, access: impl FnOnce(&mut Self) -> R) -> R {
        access(self)
    }

    fn each(&mut self, mut access: impl FnMut(&mut Self)) {
        access(self);
    }
}

/// Everything that a miss needs: flights, breakers, retries, journal. Memory is handed in, so that a driver can answer
/// hits without it. [`Cache`] is this with a memory of its own.
#[derive(Clone)]
pub struct Machine<K: Clone + Hash + Eq, V: Value, P: Profile = Usual> {
    policy: Policy,
    seed: u64,
    entropy: Entropy,
    flights: Flights<K, Work<V>, P::Flights>,
    writing: <P::Flights as Storage>::Map<K, Slot>,
    remembered: Memory<K, Remembered, P>,
    journal: Journal<K, V, P::Journal>,
    tags: Invalidations<P>,
    /// The logical clock: the number of the newest invalidation.
    newest: u64,
    /// What the shared store's log says, by its own numbers; the newest of them; and what is not there yet.
    noted: Invalidations<P>,
    position: u64,
    /// Whether anybody has told what the log says.
    heard: bool,
    owed_tags: OwedTags<P::Tags>,
    /// What the fallback has of it is older than what other processes have made of it.
    outdated: Outdated<K, P::Journal>,
    store_breaker: Breaker,
    loaders: Loaders<P::Loaders>,
    store_budget: Budget,
    load_budget: Budget,
    limit: Limit,
    /// Flights that were put aside, the oldest first: as many as queue for the limit.
    waiting: Linked<FlightId, P::Flights>,
    latency: Latency,
    /// Writes to the shared store so far.
    writes: u64,
    /// The one flight that pays debts to the store.
    replay: Option<FlightId>,
    /// While any remain the fallback is not read.
    fallback_doubts: Doubts,
    /// The story of the last lookup that was answered at once.
    #[cfg(feature = "alloc")]
    told: Option<Box<Story>>,
    stats: Stats,
}

counts! {
    /// What the machine has counted since it was made or cleared; what goes up and down is as it is now.
    pub struct Stats {
        /// Lookups that had to wait for a flight.
        misses,
        /// Of those, the ones that joined a flight of another caller.
        coalesced,
        /// Stale values served while a refresh was under way.
        stale_while_revalidate,
        /// Stale values served because the origin was unavailable.
        stale_if_error,
        /// Lookups answered at once with something stale from memory. Hits, these, misses and what was remembered are all lookups that were taken on.
        stale_at_once,
        /// Attempts to load.
        loads,
        /// Attempts to load that failed.
        load_failures,
        /// Loads whose result must not be shared.
        private,
        /// Loads that found the value at hand still true.
        not_modified,
        /// Loads that found that there is no such thing.
        absent,
        /// Lookups answered from a remembered absence or failure.
        remembered,
        /// Refreshes launched before the end of freshness.
        early_refreshes,
        /// Tags that were invalidated.
        invalidations,
        /// Clears by this process since it began, each of which starts the other counts anew.
        clears,
        /// Invalidations and clears learnt from other processes.
        learnt,
        /// Keys that other processes have changed, as far as the store told.
        changed_elsewhere,
        /// Times that changes of other processes may have been missed.
        missed,
        /// Leases taken, each for one load.
        leases,
        /// Times that a load waited for another process that had the lease.
        leases_awaited,
        /// Loads made without a lease: the store was away, or another process had it for too long.
        leases_forgone,
        /// Reads of the shared store that found a usable entry.
        store_hits,
        /// Reads of the shared store that found nothing.
        store_misses,
        /// Operations of the shared store that failed.
        store_failures,
        /// Store reads that found bytes which are no envelope of ours.
        corrupt,
        /// Reads of the fallback.
        fallback_reads,
        /// Of those, the ones that found a usable entry.
        fallback_hits,
        /// Puts and removals that are owed to the shared store.
        journaled,
        /// Debts to the shared store that were paid.
        replayed,
        /// Times the journal was full.
        journal_overflows,
        /// Flights under way.
        flights,
        /// Loads under way.
        loading,
        /// Flights that wait until fewer loads are under way.
        waiting,
        /// Attempts that were not made because the retry budget was spent.
        retries_refused,
        /// Changes that are owed to the shared store.
        owed,
        /// Invalidations that the shared store's log does not have yet.
        owed_tags,
        /// Calls refused because of a limit.
        refused,
        /// Results that were not kept because a change had won over their flight.
        fenced,
        /// Writes that the shared store refused because another process had written something newer.
        overtaken,
        /// Loads that ended with a value or its confirmed absence.
        ended_done,
        /// Loads that ended with a failure.
        ended_failed,
        /// Loads that ended without asking the origin: its circuit was open, or too many loads were under way.
        ended_gave_up,
        /// Loads that ended because the loader panicked.
        ended_panicked,
        /// Loads that ended because whoever flew them gave them up.
        ended_cancelled,
        /// Loads that ended without a value after a new leader had been elected.
        ended_too_old,
        /// Loads that brought a value after a new leader had been elected.
        ended_late,
        /// Loads that brought a value after a change of their key or of one of its tags.
        ended_overtaken,
    }
}

/// What has a breaker of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dependency {
    /// The shared store.
    Store,
    /// Every loader, those to come included.
    Loader,
    /// The one of that name.
    Named(LoaderId),
}

/// A look at the whole machine, for health reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// The store's breaker.
    pub store_breaker: BreakerReport,
    /// The breaker of loaders that have no name; [`Machine::loaders`] has the others.
    pub load_breaker: BreakerReport,
    /// Loads that may be under way at once; `u32::MAX` if there is no limit.
    pub loads_allowed: u32,
    /// What a load takes, smoothed.
    pub load_time: Option<Duration>,
    /// Whether a clear of the shared store is owed, so that nothing in it is trusted.
    pub owes_clear: bool,
    /// The counts.
    pub stats: Stats,
}

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Machine<K, V, P> {
    /// A machine for `policy`, whose every draw follows from `seed`.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] as [`Policy::validate`] finds it.
    pub fn new(policy: Policy, seed: u64) -> Result<Self, PolicyError> {
        policy.validate()?;
        let mut entropy = Entropy::from_seed(seed);
        let limits = Limits {
            waiters_max: policy.waiters_max as usize,
            flights_max: policy.flights_max as usize,
            leader_age_max: policy.leader_age_max,
        };
        Ok(Self {
            flights: Flights::new(limits),
            writing: Default::default(),
            tags: Invalidations::new(policy.tags_max as usize),
            newest: 0,
            noted: Invalidations::new(policy.tags_max as usize),
            position: 0,
            heard: false,
            owed_tags: OwedTags::new(policy.tags_max as usize),
            outdated: Outdated::new(policy.journal_max as usize),
            remembered: Memory::new(MemoryPolicy { entries_max: policy.entries_max, seed, ..MemoryPolicy::default() }),
            journal: Journal::new(policy.journal_max as usize),
            store_breaker: Breaker::new(policy.store_breaker_policy(), entropy.bits()),
            loaders: Loaders::new(policy.load_breaker_policy(), policy.loaders_max as usize, entropy.bits()),
            store_budget: Budget::new(policy.budget_policy()),
            load_budget: Budget::new(policy.budget_policy()),
            limit: Limit::new(policy.limit_policy()),
            waiting: Linked::new(policy.load_queue_max as usize),
            latency: Latency::new(LATENCY_PERCENT),
            writes: 0,
            replay: None,
            fallback_doubts: Doubts::default(),
            #[cfg(feature = "alloc")]
            told: None,
            stats: Stats::default(),
            entropy,
            seed,
            policy,
        })
    }

    /// Numbers flights and writes from `first` on, so that the flights of a machine that this one replaces mean nothing to
    /// it, and its writes are newer.
    #[must_use]
    pub fn numbered_from(mut self, first: FlightId) -> Self {
        self.flights.number_from(first);
        self.writes = self.writes.max(first.0);
        self
    }

    /// The choices this machine was made with.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Changes `memory` at once and the store after it. A flight of the same key that is under way keeps nothing
    /// of what it brings.
    pub fn command(&mut self, shards: &mut impl Shards<K, V, P>, command: Command<K, V>, now: Instant) -> Lookup<K, V> {
        match command {
            Command::Put { key, value, windows } => {
                if let Err(refusal) = self.admits_change(&key) {
                    return self.refuse(refusal);
                }
                if let Some(refusal) = self.too_heavy(&value) {
                    return self.refuse(refusal);
                }
                let entry = Entry::new(value, self.jittered(windows));
                self.overtake(&key);
                let born = self.newest;
                shards.with(&key, |memory| memory.insert(key.clone(), entry.clone(), born, now));
                let change = self.shared(entry, born, now);
                self.change(key, change, now)
            }
            Command::Remove { key } => {
                if let Err(refusal) = self.admits_change(&key) {
                    return self.refuse(refusal);
                }
                self.overtake(&key);
                shards.with(&key, |memory| memory.remove(&key));
                self.change(key, Change::remove(now), now)
            }
            Command::Expire { key } => {
                if let Err(refusal) = self.admits_change(&key) {
                    return self.refuse(refusal);
                }
                self.overtake(&key);
                shards.with(&key, |memory| memory.expire(&key, now));
                // What the store has may be newer than what is here, and is not to be replaced by it.
                self.change(key, Change::remove(now), now)
            }
            Command::Invalidate { tag, how } => {
                self.stats.invalidations += 1;
                self.note_here(shards, Note::Invalidated(tag, how), now);
                self.note_in_store(tag, how, now)
            }
            Command::Clear => {
                if let Err(refusal) = self.admits_clear() {
                    return self.refuse(refusal);
                }
                self.flights.fence_all();
                shards.each(Memory::clear);
                self.stats = Stats { clears: self.stats.clears + 1, ..Stats::default() };
                self.remembered.clear();
                self.owed_tags.clear();
                self.clear(now)
            }
        }
    }

    /// The keys of what there is beside memory: flights under way, what is owed to the store, absences and failures that are
    /// remembered. One may come several times.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        let owed = self.journal.debts().map(|(key, _)| key);
        self.flights.keys().chain(owed).chain(self.remembered.keys())
    }

    /// Tells the machine what became of a flight's step, and gets the next one.
    pub fn resume(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        flight: FlightId,
        event: Event<V>,
        now: Instant,
    ) -> Step<K, V> {
        #[cfg(feature = "alloc")]
        if let Some(key) = self.told_of(flight) {
            return self.told_resume(shards, flight, &key, event, now);
        }
        self.go_on(shards, flight, event, now)
    }

    fn go_on(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        flight: FlightId,
        event: Event<V>,
        now: Instant,
    ) -> Step<K, V> {
        let Some(stage) = self.flights.get_mut(flight).map(|flight| &flight.work.stage) else {
            return Step::Done { next: None };
        };
        match (stage, event) {
            (&Stage::Reading(tier), Event::StoreRead(result)) => self.on_store_read(shards, flight, tier, result, now),
            (Stage::Loading, Event::Loaded(result)) => self.on_loaded(shards, flight, result, now),
            (Stage::Pausing(Again::Read), Event::Slept) => self.attempt_read(shards, flight, now),
            (Stage::Pausing(Again::Load), Event::Slept) => self.attempt_load(shards, flight, now),
            (Stage::Pausing(Again::Change), Event::Slept) => self.attempt_change(flight, now),
            (Stage::Pausing(Again::Note), Event::Slept) => self.attempt_note(flight, now),
            (Stage::Landing(_), Event::Landed) => self.on_landed(shards, flight, now),
            (&Stage::Writing(tier), Event::StoreWritten(result)) => self.on_changed(shards, flight, tier, result, now),
            (&Stage::Removing(tier), Event::StoreRemoved(result)) => self.on_changed(shards, flight, tier, result, now),
            (&Stage::Clearing(tier), Event::StoreCleared(result)) => self.on_cleared(flight, tier, result, now),
            (Stage::Noting, Event::StoreInvalidated(result)) => self.on_noted(flight, result, now),
            (Stage::Leasing, Event::LeaseAnswered(result)) => self.on_lease_answered(shards, flight, result, now),
            (Stage::AwaitingLease, Event::LeaseAwaited) => self.read_store(shards, flight, now),
            (&Stage::Ready(first), Event::Launched) => match first {
                First::Load => self.attempt_load(shards, flight, now),
                First::Change => self.begin_change(flight, now),
                First::Debt => self.begin_debt(flight, now),
                First::Note => self.begin_note(flight, now),
                First::Clear => self.clear_primary(flight, now),
                First::ClearFallback => self.clear_fallback(flight, now),
            },
            // No step is outstanding, so nobody flies it, and nothing can be said about it.
            (Stage::Queued, _) => Step::Done { next: None },
            (_, event) => self.abandon(shards, flight, &event, now),
        }
    }

    /// A caller that waited for `flight` goes away before it landed.
    pub fn leave(&mut self, flight: FlightId) -> Left {
        self.flights.leave(flight)
    }

    /// A caller has waited for `flight` until the moment that it was told: what it gets instead, or, if that was the soft
    /// limit and nothing stale is at hand, that it waits on until its `deadline`. Once answered it waits no longer, and
    /// the flight goes on, for the next one who asks.
    pub fn expire(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        flight: FlightId,
        deadline: Instant,
        now: Instant,
    ) -> Answer<V> {
        let stale = match self.flights.get(flight) {
            Some(Flight { key: Some(key), work, .. }) if work.kind.is_read() => {
                let (key, max_age) = (key.clone(), work.max_age);
                self.stand_in(shards, &key, max_age, now)
            }
            _ => None,
        };
        if stale.is_none() && now < deadline {
            return Answer::Pending { flight, until: deadline, deadline };
        }
        self.flights.keep(flight);
        // Kept, so it is never to be abandoned.
        let _stays = self.flights.leave(flight);
        if let Some(Served { stale: Some(stale), .. }) = stale {
            self.count_stale(stale, 1);
        }
        Answer::Now(stale.map_or(Outcome::Failed(Failure::DeadlinePassed), Outcome::Served))
    }

    /// What is to be done although nobody calls, as a flight to be launched: a debt of the journal that the store's
    /// breaker would let pass, the clear of a fallback that is in doubt, or a flight that was put aside, if a load that
    /// is under way was lost. For a driver to ask now and then (each second, say).
    pub fn maintain(&mut self, now: Instant) -> Option<FlightId> {
        self.clear_doubted_fallback(now).or_else(|| self.pay_debt(now)).or_else(|| self.admit_waiting(now))
    }

    /// Overrules a breaker, or lets it decide again; see [`Mode`].
    pub fn set_breaker_mode(&mut self, of: Dependency, mode: Mode, now: Instant) {
        match of {
            Dependency::Store => self.store_breaker.set_mode(mode, now),
            Dependency::Loader => self.loaders.set_mode(mode, now),
            Dependency::Named(loader) => self.loaders.of_mut(loader).set_mode(mode, now),
        }
    }

    /// Closes a breaker and forgets what it has counted against its dependency. In a forced mode it stays forced.
    pub fn reset_breaker(&mut self, of: Dependency, now: Instant) {
        match of {
            Dependency::Store => self.store_breaker.reset(now),
            Dependency::Loader => self.loaders.reset(now),
            Dependency::Named(loader) => self.loaders.of_mut(loader).reset(now),
        }
    }

    /// The circuits of the loaders that have a name, in no particular order.
    pub fn loaders(&self) -> impl Iterator<Item = (LoaderId, BreakerReport)> {
        self.loaders.reports()
    }

    /// How the machine is.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            store_breaker: self.store_breaker.look(),
            load_breaker: self.loaders.unnamed().look(),
            loads_allowed: self.limit.limit(),
            load_time: self.latency.mean(),
            owes_clear: self.journal.owes_clear(),
            stats: Stats {
                journal_overflows: self.journal.overflows(),
                flights: self.flights.len() as u64,
                loading: self.limit.in_flight().into(),
                waiting: self.limit.queued().into(),
                retries_refused: self.load_budget.stats().refused + self.store_budget.stats().refused,
                owed: self.journal.len() as u64,
                owed_tags: self.owed_tags.len() as u64,
                ..self.stats
            },
        }
    }

    /// A value that weighs more than memory may hold is refused where there is nothing else to hold it.
    fn too_heavy(&self, value: &V) -> Option<Refusal> {
        let (weight, max) = (u64::from(value.weight()), self.policy.weight_max);
        let nowhere = max > 0 && weight > max && !self.policy.store;
        nowhere.then_some(Refusal::ValueTooLarge { bytes: weight as usize, max: max as usize })
    }

    /// A memory as the policy wants it.
    #[must_use]
    pub fn new_memory(&self) -> Memory<K, V, P> {
        Memory::new(self.policy.memory(self.seed))
    }

    fn refuse(&mut self, refusal: Refusal) -> Lookup<K, V> {
        self.stats.refused += 1;
        Lookup { answer: Answer::Refused(refusal), launch: None }
    }
}

impl<K, V> Lookup<K, V> {
    fn now(outcome: Outcome<V>) -> Self {
        Self { answer: Answer::Now(outcome), launch: None }
    }
}
