//! What a lookup gets: an answer at once, a flight to join, or a flight to lead.

use core::hash::Hash;
use core::time::Duration;

use super::{Kind, Machine, Remembered, Shards, Stage, Work};
use crate::entropy::scale;
use crate::entry::{Entry, Windows, Zone};
use crate::failure::{Class, Failure, Refusal};
use crate::flight::Purpose;
use crate::memory::{Early, Sighting};
use crate::step::{Absence, Answer, Call, FlightId, Launch, LoaderId, Lookup, Outcome, Source, Stale};
use crate::storage::Profile;
use crate::time::Instant;
use crate::value::Value;

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Machine<K, V, P> {
    /// Looks `key` up: answers at once from memory, or names the flight to wait for.
    pub fn lookup(&mut self, shards: &mut impl Shards<K, V, P>, key: &K, call: Call<'_>, now: Instant) -> Lookup<K, V> {
        #[cfg(feature = "alloc")]
        if call.explain || self.policy.explain {
            return self.told_lookup(shards, key, call, now);
        }
        self.look_up(shards, key, call, now)
    }

    pub(super) fn look_up(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        key: &K,
        call: Call<'_>,
        now: Instant,
    ) -> Lookup<K, V> {
        let sighting = shards.with(key, |memory| match call.max_age {
            Some(max) if memory.peek(key, now).is_none_or(|entry| entry.age > max || max.is_zero()) => None,
            _ => memory.find(key, now),
        });
        let Some(sighting) = sighting else { return self.join_or_lead(shards, key, call, now) };
        let may_refresh = now >= sighting.refresh_after && !call.read_only;
        match sighting.zone {
            Zone::Fresh => {
                let early = may_refresh && self.is_due_early(&sighting);
                let launch = if early { self.refresh(shards, key, call.loader, now) } else { None };
                self.stats.early_refreshes += u64::from(launch.is_some());
                Lookup { answer: Answer::Now(Outcome::Served(sighting.entry.serve(Source::Memory, None))), launch }
            }
            Zone::StaleWhileRevalidate => {
                self.count_stale(Stale::WhileRevalidate, 1);
                self.stats.stale_at_once += 1;
                let launch = if may_refresh { self.refresh(shards, key, call.loader, now) } else { None };
                let served = sighting.entry.serve(Source::Memory, Some(Stale::WhileRevalidate));
                Lookup { answer: Answer::Now(Outcome::Served(served)), launch }
            }
            Zone::StaleIfError if now < sighting.refresh_after && !call.read_only => {
                self.count_stale(Stale::IfError, 1);
                self.stats.stale_at_once += 1;
                Lookup::now(Outcome::Served(sighting.entry.serve(Source::Memory, Some(Stale::IfError))))
            }
            Zone::StaleIfError | Zone::Keep | Zone::Gone => self.join_or_lead(shards, key, call, now),
        }
    }

    fn join_or_lead(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        key: &K,
        call: Call<'_>,
        now: Instant,
    ) -> Lookup<K, V> {
        if !call.read_only && call.within.iter().any(|&flight| self.is_loading(flight, key)) {
            return self.refuse(Refusal::Reentrant);
        }
        let remembered = self.remembered.find(key, now);
        let private = remembered.as_ref().is_some_and(|held| held.entry.value == Remembered::Private);
        if let Some(outcome) = remembered.and_then(|held| self.recall(shards, key, held, call, now)) {
            self.stats.remembered += 1;
            return Lookup::now(outcome);
        }
        if call.read_only && !self.policy.store {
            self.stats.misses += 1;
            return Lookup::now(Outcome::Absent(Absence::NotLoaded));
        }
        let (purpose, kind) = match (call.read_only, private) {
            (true, _) => (Some(Purpose::Read), Kind::Read),
            (false, true) => (None, Kind::PrivateLoad),
            (false, false) => (Some(Purpose::Load), Kind::Load),
        };
        let (until, deadline) = self.patience(shards, key, call, now);
        if let Some(flight) = purpose.and_then(|purpose| self.flights.current(key, purpose, now)) {
            return match self.interest(flight, call.max_age) {
                Ok(()) => {
                    self.stats.misses += 1;
                    self.stats.coalesced += 1;
                    Lookup { answer: Answer::Pending { flight, until, deadline }, launch: None }
                }
                Err(refusal) => self.refuse(refusal),
            };
        }
        match self.open(Some(key.clone()), purpose, kind, now) {
            Ok(flight) => {
                self.stats.misses += 1;
                self.asks(flight, call.loader);
                let answer = match self.interest(flight, call.max_age) {
                    Ok(()) => Answer::Pending { flight, until, deadline },
                    Err(refusal) => Answer::Refused(refusal),
                };
                Lookup { answer, launch: Some(Launch { flight, step: self.first_step(shards, flight, now) }) }
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// What is remembered of a key in place of a value, if it answers this call: an absence, or a failure that nothing
    /// stale stands in for.
    fn recall(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        key: &K,
        held: Sighting<Remembered>,
        call: Call<'_>,
        now: Instant,
    ) -> Option<Outcome<V>> {
        let until = held.entry.remaining().map_or(Instant::NEVER, |left| now + left);
        if call.max_age.is_some_and(|max| held.entry.age > max || max.is_zero()) {
            return None;
        }
        match held.entry.value {
            Remembered::Private => None,
            Remembered::Absent(_) => Some(Outcome::Absent(Absence::Remembered { until })),
            Remembered::Failed(_) if call.read_only => None,
            Remembered::Failed(class) => {
                let stale = if class.is_unavailable() { self.stand_in(shards, key, call.max_age, now) } else { None };
                if let Some(stale) = stale.as_ref().and_then(|served| served.stale) {
                    self.count_stale(stale, 1);
                }
                Some(stale.map_or(Outcome::Failed(Failure::Remembered { class, until }), Outcome::Served))
            }
        }
    }

    /// Until when a caller waits before it asks [`Machine::expire`], and the end of its patience: its own deadline and
    /// the policy's. It asks earlier, at the soft limit, where something stale could stand in.
    fn patience(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        key: &K,
        call: Call<'_>,
        now: Instant,
    ) -> (Instant, Instant) {
        let hard = call.deadline.unwrap_or(Instant::NEVER).min(now + self.policy.call_deadline);
        let Some(soft) = self.policy.soft_deadline.filter(|_| !call.read_only) else { return (hard, hard) };
        let covered = self.stand_in(shards, key, call.max_age, now).is_some();
        (if covered { hard.min(now + soft) } else { hard }, hard)
    }

    /// Whether `flight` is at the loader of `key`.
    fn is_loading(&self, flight: FlightId, key: &K) -> bool {
        let flight = self.flights.get(flight);
        flight.is_some_and(|flight| matches!(flight.work.stage, Stage::Loading) && flight.key.as_ref() == Some(key))
    }

    /// One more caller waits for `flight`; what is older than `max_age` does for nobody any more.
    fn interest(&mut self, flight: FlightId, max_age: Option<Duration>) -> Result<(), Refusal> {
        self.flights.join(flight)?;
        let newest = self.newest;
        if let Some(flight) = self.flights.get_mut(flight) {
            let work = &mut flight.work;
            work.joined = newest;
            work.max_age = work.max_age.into_iter().chain(max_age).min();
        }
        Ok(())
    }

    /// Whether a fresh entry is to be refreshed already: from the percentage of its ttl on that the policy names, or by a
    /// draw that the end of freshness and a long load make likelier (Vattani, Chierichetti, Lowenstein, "Optimal
    /// Probabilistic Cache Stampede Prevention", VLDB 2015).
    fn is_due_early(&mut self, sighting: &Sighting<V>) -> bool {
        let Early { due, fresh_for, load_time } = sighting.early;
        let mean = scale(load_time, self.policy.early_refresh, 100);
        due || !mean.is_zero() && self.entropy.exponential(mean) >= fresh_for
    }

    /// A flight behind a value that is served, unless one is under way or there are too many.
    fn refresh(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        key: &K,
        loader: LoaderId,
        now: Instant,
    ) -> Option<Launch<K, V>> {
        if self.flights.current(key, Purpose::Load, now).is_some() {
            return None;
        }
        let flight = self.open(Some(key.clone()), Some(Purpose::Load), Kind::Load, now).ok()?;
        self.asks(flight, loader);
        self.flights.keep(flight);
        Some(Launch { flight, step: self.first_step(shards, flight, now) })
    }

    /// Whose circuit the flight's load will ask.
    pub(super) fn asks(&mut self, flight: FlightId, loader: LoaderId) {
        if let Some(flight) = self.flights.get_mut(flight) {
            flight.work.loader = loader;
        }
    }

    pub(super) fn open(
        &mut self,
        key: Option<K>,
        purpose: Option<Purpose>,
        kind: Kind,
        now: Instant,
    ) -> Result<FlightId, Refusal> {
        let flight = self.flights.open(key, purpose, Work::new(kind), now)?;
        if !kind.is_read() {
            self.flights.keep(flight);
        }
        Ok(flight)
    }

    /// Remembers something of `key` in place of a value.
    pub(super) fn remember(&mut self, key: K, what: Remembered, ttl: Duration, born: u64, now: Instant) {
        if !ttl.is_zero() {
            let windows = Windows { ttl: Some(ttl), ..Windows::FOREVER };
            self.remembered.insert(key, Entry::new(what, windows), born, now);
        }
    }

    /// For how long a failure of this class is remembered.
    pub(super) fn error_ttl(&self, class: Class) -> Duration {
        if class.is_unavailable() { self.policy.unavailable_ttl } else { self.policy.answer_ttl }
    }
}
