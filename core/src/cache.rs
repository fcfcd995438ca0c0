//! The orchestration: one machine that composes memory, flights, breakers, retries and the journal.
//!
//! ```text
//!            +------------------------- hit: memory alone ------------------------> served
//!  lookup ---+--- stale, to be revalidated ------ served, and one flight behind it
//!            +--- nothing to serve ---- join the key's flight, or lead a new one:
//!
//!  ReadStore --> Load (again after Sleep) --> Land --> WriteStore --> Done
//!      |            |                          ^
//!      +-- found ---+-- failed: stale, error --+
//! ```
//!
//! The steps of loads are decided in `cache/load.rs`, those of puts, removals and the journal in `cache/change.rs`,
//! those of clears in `cache/clear.rs`. Nothing here knows how anything is done.

mod change;
mod clear;
mod load;

use core::hash::Hash;
use core::time::Duration;

use alloc::boxed::Box;
use hashbrown::HashMap;

use self::change::Slot;
use crate::backoff::Schedule;
use crate::breaker::{Breaker, BreakerStats, Permit, State, Verdict};
use crate::entropy::Entropy;
use crate::entry::{Entry, Zone};
use crate::failure::{Failure, Refusal};
use crate::flight::{Flights, Limits, Purpose};
use crate::journal::{Change, Doubts, Journal};
use crate::memory::{Memory, MemoryStats, Sighting};
use crate::policy::{Policy, PolicyError};
use crate::step::{
    Answer, Call, Command, Event, FlightId, Launch, Left, Lookup, Outcome, Served, Settled, Source, Stale, Step, Tier,
};
use crate::time::Instant;

/// Where the machine keeps entries: one [`Memory`], or several behind locks of the driver's, chosen by key.
pub trait Shards<K, V> {
    /// Gives access to the memory that `key` belongs to, for the time of the call.
    fn with<R>(&mut self, key: &K, access: impl FnOnce(&mut Memory<K, V>) -> R) -> R;
    /// Clears every memory.
    fn clear(&mut self);
}

impl<K: Hash + Eq, V: Clone> Shards<K, V> for Memory<K, V> {
    fn with<R>(&mut self, _key: &K, access: impl FnOnce(&mut Self) -> R) -> R {
        access(self)
    }

    fn clear(&mut self) {
        Self::clear(self);
    }
}

/// Everything that a miss needs: flights, breakers, retries, journal. Memory is handed in, so that a driver can answer
/// hits without it. [`Cache`] is this with a memory of its own.
#[derive(Clone)]
pub struct Machine<K, V> {
    policy: Policy,
    entropy: Entropy,
    flights: Flights<K, Work<V>>,
    writing: HashMap<K, Slot>,
    private: Memory<K, ()>,
    journal: Journal<K, V>,
    store_breaker: Breaker,
    load_breaker: Breaker,
    /// The one flight that pays debts to the store.
    replay: Option<FlightId>,
    /// While any remain the fallback is not read.
    fallback_doubts: Doubts,
    stats: Stats,
}

/// What a flight is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Load,
    /// A load for one caller alone.
    PrivateLoad,
    Read,
    Change,
    /// Pays a debt of the journal.
    Replay,
    /// Settles the doubts in either store that had been raised when it began.
    Clear {
        primary: u64,
        fallback: u64,
    },
}

/// The step that a flight waits for.
#[derive(Debug, Clone)]
enum Stage<V> {
    Reading(Tier),
    Loading,
    /// Asleep before another attempt.
    Pausing(Again),
    Landing(After<V>),
    Writing(Tier),
    Removing(Tier),
    Clearing(Tier),
    /// No step is outstanding: another flight holds the key's slot and will launch this one.
    Queued,
}

#[derive(Debug, Clone, Copy)]
enum Again {
    Read,
    Load,
    Change,
}

/// What follows a landing.
#[derive(Debug, Clone)]
enum After<V> {
    Finish,
    Change(Change<V>),
    /// Copy to the fallback what came from the primary.
    Mirror(Change<V>),
    Refresh,
}

#[derive(Clone)]
struct Work<V> {
    kind: Kind,
    stage: Stage<V>,
    /// Attempts made at the present operation, its waits, and until when it may last.
    attempt: u32,
    waits: Option<Schedule>,
    deadline: Instant,
    permit: Option<Permit>,
    /// A stale value found on the way, and when its age was taken.
    previous: Option<(Entry<V>, Instant)>,
    change: Option<Change<V>>,
    settled: Settled,
}

impl<V> Work<V> {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            stage: Stage::Queued,
            attempt: 0,
            waits: None,
            deadline: Instant::ZERO,
            permit: None,
            previous: None,
            change: None,
            settled: Settled::Memory,
        }
    }

    /// Starts the counts for an operation that may last until `deadline`.
    fn begin(&mut self, deadline: Instant) {
        (self.attempt, self.waits, self.deadline) = (0, None, deadline);
    }
}

counts! {
    /// What the machine has counted since it was made.
    pub struct Stats {
        /// Lookups that had to wait for a flight.
        misses,
        /// Of those, the ones that joined a flight of another caller.
        coalesced,
        /// Stale values served while a refresh was under way.
        stale_while_revalidate,
        /// Stale values served because the origin was unavailable.
        stale_if_error,
        /// Attempts to load.
        loads,
        /// Attempts to load that failed.
        load_failures,
        /// Loads whose result must not be shared.
        private,
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
        /// Changes that are owed to the shared store.
        owed,
        /// Calls refused because of a limit.
        refused,
        /// Results that were not kept because a change had won over their flight.
        fenced,
    }
}

/// A look at the whole machine, for health reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Where the store's breaker stands.
    pub store_breaker: State,
    /// What it has counted.
    pub store_breaker_stats: BreakerStats,
    /// Where the loader's breaker stands.
    pub load_breaker: State,
    /// What it has counted.
    pub load_breaker_stats: BreakerStats,
    /// Whether a clear of the shared store is owed, so that nothing in it is trusted.
    pub owes_clear: bool,
    /// The counts.
    pub stats: Stats,
}

impl<K: Clone + Hash + Eq, V: Clone> Machine<K, V> {
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
            writing: HashMap::new(),
            private: Memory::new(policy.entries_max as usize, None),
            journal: Journal::new(policy.journal_max as usize),
            store_breaker: Breaker::new(policy.store_breaker_policy(), entropy.bits()),
            load_breaker: Breaker::new(policy.load_breaker_policy(), entropy.bits()),
            replay: None,
            fallback_doubts: Doubts::default(),
            stats: Stats::default(),
            entropy,
            policy,
        })
    }

    /// Numbers flights from `first` on, so that the flights of a machine that this one replaces mean nothing to it.
    #[must_use]
    pub fn numbered_from(mut self, first: FlightId) -> Self {
        self.flights.number_from(first);
        self
    }

    /// The choices this machine was made with.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Looks `key` up: answers at once from memory, or names the flight to wait for.
    pub fn lookup(&mut self, shards: &mut impl Shards<K, V>, key: &K, call: Call<'_>, now: Instant) -> Lookup<K, V> {
        let sighting = shards.with(key, |memory| memory.find(key, now));
        let Some(Sighting { entry, zone, refresh_after }) = sighting else {
            return self.join_or_lead(shards, key, call, now);
        };
        let may_refresh = now >= refresh_after;
        match zone {
            Zone::Fresh => Lookup::now(Outcome::Served(entry.serve(Source::Memory, None))),
            Zone::StaleWhileRevalidate => {
                self.count_stale(Stale::WhileRevalidate, 1);
                let launch = if may_refresh && !call.read_only { self.refresh(shards, key, now) } else { None };
                let served = entry.serve(Source::Memory, Some(Stale::WhileRevalidate));
                Lookup { answer: Answer::Now(Outcome::Served(served)), launch }
            }
            Zone::StaleIfError if !may_refresh && !call.read_only => {
                self.count_stale(Stale::IfError, 1);
                Lookup::now(Outcome::Served(entry.serve(Source::Memory, Some(Stale::IfError))))
            }
            Zone::StaleIfError | Zone::Keep | Zone::Gone => self.join_or_lead(shards, key, call, now),
        }
    }

    /// Changes `memory` at once and the store after it. A flight of the same key that is under way keeps nothing
    /// of what it brings.
    pub fn command(&mut self, shards: &mut impl Shards<K, V>, command: Command<K, V>, now: Instant) -> Lookup<K, V> {
        match command {
            Command::Put { key, value, windows } => {
                if let Err(refusal) = self.admits_change(&key) {
                    return self.refuse(refusal);
                }
                let entry = Entry::new(value, self.jittered(windows));
                self.flights.fence(&key);
                shards.with(&key, |memory| memory.insert(key.clone(), entry.clone(), now));
                self.change(key, Change::Put(entry, now), now)
            }
            Command::Remove { key } => {
                if let Err(refusal) = self.admits_change(&key) {
                    return self.refuse(refusal);
                }
                self.flights.fence(&key);
                shards.with(&key, |memory| memory.remove(&key));
                self.change(key, Change::Remove, now)
            }
            Command::Clear => {
                if let Err(refusal) = self.admits_clear() {
                    return self.refuse(refusal);
                }
                self.flights.fence_all();
                shards.clear();
                self.private.clear();
                self.clear(now)
            }
        }
    }

    /// Tells the machine what became of a flight's step, and gets the next one.
    pub fn resume(
        &mut self,
        shards: &mut impl Shards<K, V>,
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
            (Stage::Landing(_), Event::Landed) => self.on_landed(shards, flight, now),
            (&Stage::Writing(tier), Event::StoreWritten(result)) => self.on_changed(flight, tier, result, now),
            (&Stage::Removing(tier), Event::StoreRemoved(result)) => self.on_changed(flight, tier, result, now),
            (&Stage::Clearing(tier), Event::StoreCleared(result)) => self.on_cleared(flight, tier, result, now),
            // No step is outstanding, so nobody flies it, and nothing can be said about it.
            (Stage::Queued, _) => Step::Done { next: None },
            _ => self.abandon(shards, flight, now),
        }
    }

    /// A caller that waited for `flight` goes away before it landed.
    pub fn leave(&mut self, flight: FlightId) -> Left {
        self.flights.leave(flight)
    }

    /// A caller has waited for `flight` as long as it may: what it gets instead. The flight goes on, for the
    /// next one who asks.
    pub fn expire(&mut self, shards: &mut impl Shards<K, V>, flight: FlightId, now: Instant) -> Outcome<V> {
        self.flights.keep(flight);
        // Kept, so it is never to be abandoned.
        let _stays = self.flights.leave(flight);
        let stale = match self.flights.get_mut(flight) {
            Some(flight) if matches!(flight.work.kind, Kind::Load | Kind::PrivateLoad | Kind::Read) => {
                flight.key.clone().and_then(|key| self.stand_in(shards, &key, now))
            }
            _ => None,
        };
        if let Some(Served { stale: Some(stale), .. }) = stale {
            self.count_stale(stale, 1);
        }
        stale.map_or(Outcome::Failed(Failure::DeadlinePassed), Outcome::Served)
    }

    /// Pays a debt of the journal to the store if there is one and the store's breaker would let it pass, and clears a
    /// fallback that is in doubt. For a driver to call now and then (each second, say), so that debts are paid although
    /// nobody calls.
    pub fn maintain(&mut self, now: Instant) -> Option<Launch<K, V>> {
        self.clear_doubted_fallback(now).or_else(|| self.pay_debt(now))
    }

    /// How the machine is.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            store_breaker: self.store_breaker.state(),
            store_breaker_stats: self.store_breaker.stats(),
            load_breaker: self.load_breaker.state(),
            load_breaker_stats: self.load_breaker.stats(),
            owes_clear: self.journal.owes_clear(),
            stats: Stats {
                journal_overflows: self.journal.overflows(),
                flights: self.flights.len() as u64,
                owed: self.journal.len() as u64,
                ..self.stats
            },
        }
    }

    fn join_or_lead(&mut self, shards: &mut impl Shards<K, V>, key: &K, call: Call<'_>, now: Instant) -> Lookup<K, V> {
        if !call.read_only && call.within.iter().any(|&flight| self.is_loading(flight, key)) {
            return self.refuse(Refusal::Reentrant);
        }
        let until = call.deadline.unwrap_or(Instant::NEVER).min(now + self.policy.call_deadline);
        let private = !call.read_only && self.private.fresh(key, now).is_some();
        let purpose = match call.read_only {
            true => Some(Purpose::Read),
            false if private => None,
            false => Some(Purpose::Load),
        };
        if call.read_only && !self.policy.store {
            self.stats.misses += 1;
            return Lookup::now(Outcome::Absent);
        }
        if let Some(flight) = purpose.and_then(|purpose| self.flights.current(key, purpose, now)) {
            return self.join(flight, until);
        }
        let kind = match purpose {
            Some(Purpose::Load) => Kind::Load,
            Some(Purpose::Read) => Kind::Read,
            None => Kind::PrivateLoad,
        };
        match self.open(Some(key.clone()), purpose, kind, now) {
            Ok(flight) => {
                self.stats.misses += 1;
                let answer = match self.flights.join(flight) {
                    Ok(()) => Answer::Pending { flight, until },
                    Err(refusal) => Answer::Refused(refusal),
                };
                Lookup { answer, launch: Some(Launch { flight, step: self.first_step(shards, flight, now) }) }
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// Whether `flight` is at the loader of `key`.
    fn is_loading(&self, flight: FlightId, key: &K) -> bool {
        let flight = self.flights.get(flight);
        flight.is_some_and(|flight| matches!(flight.work.stage, Stage::Loading) && flight.key.as_ref() == Some(key))
    }

    fn join(&mut self, flight: FlightId, until: Instant) -> Lookup<K, V> {
        if let Err(refusal) = self.flights.join(flight) {
            return self.refuse(refusal);
        }
        self.stats.misses += 1;
        self.stats.coalesced += 1;
        Lookup { answer: Answer::Pending { flight, until }, launch: None }
    }

    fn refuse(&mut self, refusal: Refusal) -> Lookup<K, V> {
        self.stats.refused += 1;
        Lookup { answer: Answer::Refused(refusal), launch: None }
    }

    /// A flight behind a stale value, unless one is under way or there are too many.
    fn refresh(&mut self, shards: &mut impl Shards<K, V>, key: &K, now: Instant) -> Option<Launch<K, V>> {
        if self.flights.current(key, Purpose::Load, now).is_some() {
            return None;
        }
        let flight = self.open(Some(key.clone()), Some(Purpose::Load), Kind::Load, now).ok()?;
        self.flights.keep(flight);
        Some(Launch { flight, step: self.first_step(shards, flight, now) })
    }

    fn open(
        &mut self,
        key: Option<K>,
        purpose: Option<Purpose>,
        kind: Kind,
        now: Instant,
    ) -> Result<FlightId, Refusal> {
        let flight = self.flights.open(key, purpose, Work::new(kind), now)?;
        if !matches!(kind, Kind::Load | Kind::PrivateLoad | Kind::Read) {
            self.flights.keep(flight);
        }
        Ok(flight)
    }

    /// What memory can give instead of an answer: something fresh that came meanwhile, or stale inside its windows.
    fn stand_in(&mut self, shards: &mut impl Shards<K, V>, key: &K, now: Instant) -> Option<Served<V>> {
        shards.with(key, |memory| memory.find(key, now))?.entry.serve_on_error(Source::Memory)
    }

    fn count_stale(&mut self, stale: Stale, callers: u64) {
        match stale {
            Stale::WhileRevalidate => self.stats.stale_while_revalidate += callers,
            Stale::IfError => self.stats.stale_if_error += callers,
        }
    }

    /// Settles everything that the flight holds: permits go back without a verdict, waiters get stale or an error, a
    /// change whose fate is unknown is owed to the store, and whoever queued behind it is launched.
    fn abandon(&mut self, shards: &mut impl Shards<K, V>, id: FlightId, now: Instant) -> Step<K, V> {
        self.give_back(id, Verdict::None, now);
        self.owe_unsettled(id);
        if self.flights.waiters(id) == 0 {
            return self.finish(id, now);
        }
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        let (kind, settled, key) = (flight.work.kind, flight.work.settled, flight.key.clone());
        let outcome = match (kind, key) {
            (Kind::Change | Kind::Clear { .. }, _) if settled == Settled::Store => Outcome::Settled(settled),
            (Kind::Change | Kind::Clear { .. }, _) => Outcome::Settled(Settled::Journaled),
            (_, key) => {
                let stale = key.and_then(|key| self.stand_in(shards, &key, now));
                stale.map_or(Outcome::Failed(Failure::Abandoned), Outcome::Served)
            }
        };
        self.land(id, outcome, After::Finish)
    }

    fn land(&mut self, id: FlightId, outcome: Outcome<V>, after: After<V>) -> Step<K, V> {
        if let Outcome::Served(Served { stale: Some(stale), .. }) = &outcome {
            self.count_stale(*stale, self.flights.waiters(id) as u64);
        }
        self.flights.land(id);
        self.stage(id, Stage::Landing(after));
        Step::Land { outcome }
    }

    fn stage(&mut self, id: FlightId, stage: Stage<V>) {
        if let Some(flight) = self.flights.get_mut(id) {
            flight.work.stage = stage;
        }
    }

    /// Returns the permit that the flight's present step holds, if it holds one.
    fn give_back(&mut self, id: FlightId, verdict: Verdict, now: Instant) {
        let Some(flight) = self.flights.get_mut(id) else { return };
        let Some(permit) = flight.work.permit.take() else { return };
        let loading = matches!(flight.work.stage, Stage::Loading);
        let breaker = if loading { &mut self.load_breaker } else { &mut self.store_breaker };
        breaker.report(permit, verdict, Duration::ZERO, now);
    }

    /// Puts the flight to sleep before another attempt, if one is left and time for it.
    fn pause(
        &mut self,
        id: FlightId,
        again: Again,
        attempts: u32,
        at_least: Duration,
        now: Instant,
    ) -> Option<Step<K, V>> {
        let (retry, seed) = (self.policy.retry(), &mut self.entropy);
        let work = &mut self.flights.get_mut(id)?.work;
        if work.attempt >= attempts {
            return None;
        }
        let waits = work.waits.get_or_insert_with(|| retry.schedule(seed.bits()));
        let until = now + waits.next()?.max(at_least);
        if until >= work.deadline {
            return None;
        }
        work.stage = Stage::Pausing(again);
        Some(Step::Sleep { until })
    }

    fn key(&mut self, id: FlightId) -> Option<K> {
        self.flights.get_mut(id)?.key.clone()
    }
}

impl<V> Entry<V> {
    fn serve(self, source: Source, stale: Option<Stale>) -> Served<V> {
        Served { value: self.value, age: self.age, ttl: self.windows.ttl, stale, source }
    }

    /// What stands in for an answer that could not be had.
    fn serve_on_error(self, source: Source) -> Option<Served<V>> {
        match self.zone() {
            Zone::Fresh => Some(self.serve(source, None)),
            Zone::StaleWhileRevalidate | Zone::StaleIfError => Some(self.serve(source, Some(Stale::IfError))),
            Zone::Keep | Zone::Gone => None,
        }
    }
}

impl<K, V> Lookup<K, V> {
    fn now(outcome: Outcome<V>) -> Self {
        Self { answer: Answer::Now(outcome), launch: None }
    }
}

/// A [`Machine`] with one [`Memory`]: the whole cache, for a single thread. The protocol is explained at the
/// [top of the crate](crate).
#[derive(Clone)]
pub struct Cache<K, V> {
    machine: Machine<K, V>,
    memory: Memory<K, V>,
}

impl<K: Clone + Hash + Eq, V: Clone> Cache<K, V> {
    /// See [`Machine::new`].
    ///
    /// # Errors
    ///
    /// [`PolicyError`] as [`Policy::validate`] finds it.
    pub fn new(policy: Policy, seed: u64) -> Result<Self, PolicyError> {
        let memory = Memory::new(policy.entries_max as usize, policy.time_to_idle);
        Machine::new(policy, seed).map(|machine| Self { machine, memory })
    }

    /// See [`Machine::numbered_from`].
    #[must_use]
    pub fn numbered_from(self, first: FlightId) -> Self {
        Self { machine: self.machine.numbered_from(first), ..self }
    }

    /// The choices this cache was made with.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        self.machine.policy()
    }

    /// See [`Machine::lookup`].
    pub fn lookup(&mut self, key: &K, call: Call<'_>, now: Instant) -> Lookup<K, V> {
        self.machine.lookup(&mut self.memory, key, call, now)
    }

    /// See [`Machine::command`].
    pub fn command(&mut self, command: Command<K, V>, now: Instant) -> Lookup<K, V> {
        self.machine.command(&mut self.memory, command, now)
    }

    /// See [`Machine::resume`].
    pub fn resume(&mut self, flight: FlightId, event: Event<V>, now: Instant) -> Step<K, V> {
        self.machine.resume(&mut self.memory, flight, event, now)
    }

    /// See [`Machine::leave`].
    pub fn leave(&mut self, flight: FlightId) -> Left {
        self.machine.leave(flight)
    }

    /// See [`Machine::expire`].
    pub fn expire(&mut self, flight: FlightId, now: Instant) -> Outcome<V> {
        self.machine.expire(&mut self.memory, flight, now)
    }

    /// See [`Machine::maintain`].
    pub fn maintain(&mut self, now: Instant) -> Option<Launch<K, V>> {
        self.machine.maintain(now)
    }

    /// See [`Machine::health`].
    #[must_use]
    pub fn health(&self) -> Health {
        self.machine.health()
    }

    /// What the memory has counted.
    #[must_use]
    pub fn memory_stats(&self) -> MemoryStats {
        self.memory.stats()
    }
}

fn done<K, V>(next: Option<Launch<K, V>>) -> Step<K, V> {
    Step::Done { next: next.map(Box::new) }
}
