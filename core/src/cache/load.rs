//! How a load goes: store, origin, landing.

use core::hash::Hash;
use core::time::Duration;

use super::{After, Again, Kind, Machine, Shards, Stage};
use crate::breaker::Verdict;
use crate::entropy::scale;
use crate::entry::{Entry, Windows, Zone};
use crate::failure::{Failure, LoadFailure, StoreFailure};
use crate::flight::Purpose;
use crate::journal::Change;
use crate::step::{FlightId, Launch, Loaded, Outcome, Served, Sharing, Source, Stale, Step, Tier};
use crate::time::Instant;
use crate::value::Value;

impl<K: Clone + Hash + Eq, V: Value> Machine<K, V> {
    pub(super) fn first_step(&mut self, shards: &mut impl Shards<K, V>, id: FlightId, now: Instant) -> Step<K, V> {
        let deadline = now + self.policy.store_read_deadline;
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        flight.work.begin(deadline);
        if flight.work.kind == Kind::PrivateLoad || !self.policy.store {
            return self.not_in_store(shards, id, now);
        }
        self.attempt_read(shards, id, now)
    }

    /// Reads the store, unless a change won over this flight or is on its way to the store: then what the store
    /// has may be older than what the caller is owed.
    pub(super) fn attempt_read(&mut self, shards: &mut impl Shards<K, V>, id: FlightId, now: Instant) -> Step<K, V> {
        let Some(key) = self.key(id) else { return Step::Done { next: None } };
        if self.flights.is_fenced(id) || self.writing.contains_key(&key) {
            return self.not_in_store(shards, id, now);
        }
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        let deadline = flight.work.deadline;
        if self.journal.trusts(&key)
            && let Ok(permit) = self.store_breaker.try_acquire(now, deadline)
        {
            flight.work.permit = Some(permit);
            flight.work.attempt += 1;
            flight.work.stage = Stage::Reading(Tier::Primary);
            return Step::ReadStore { tier: Tier::Primary, key, deadline };
        }
        self.read_fallback(shards, id, key, now)
    }

    fn read_fallback(&mut self, shards: &mut impl Shards<K, V>, id: FlightId, key: K, now: Instant) -> Step<K, V> {
        if !self.policy.fallback || self.fallback_doubts.remain() {
            return self.not_in_store(shards, id, now);
        }
        self.stats.fallback_reads += 1;
        self.stage(id, Stage::Reading(Tier::Fallback));
        Step::ReadStore { tier: Tier::Fallback, key, deadline: now + self.policy.store_read_deadline }
    }

    pub(super) fn on_store_read(
        &mut self,
        shards: &mut impl Shards<K, V>,
        id: FlightId,
        tier: Tier,
        result: Result<Option<Entry<V>>, StoreFailure>,
        now: Instant,
    ) -> Step<K, V> {
        if tier == Tier::Fallback {
            let Ok(Some(entry)) = result else { return self.not_in_store(shards, id, now) };
            self.stats.fallback_hits += 1;
            return self.on_found(shards, id, tier, entry, now);
        }
        match result {
            Ok(Some(entry)) => {
                self.give_back(id, Verdict::Success, now);
                self.stats.store_hits += 1;
                self.on_found(shards, id, tier, entry, now)
            }
            Ok(None) | Err(StoreFailure::Corrupt) => {
                self.give_back(id, Verdict::Success, now);
                self.stats.corrupt += u64::from(result.is_err());
                self.stats.store_misses += 1;
                self.not_in_store(shards, id, now)
            }
            Err(failure) => {
                self.give_back(id, Verdict::Failure, now);
                self.stats.store_failures += 1;
                let attempts = if failure == StoreFailure::Rejected { 0 } else { self.policy.store_attempts };
                if let Some(sleep) = self.pause(id, Again::Read, attempts, Duration::ZERO, now) {
                    return sleep;
                }
                let Some(key) = self.key(id) else { return Step::Done { next: None } };
                self.read_fallback(shards, id, key, now)
            }
        }
    }

    fn on_found(
        &mut self,
        shards: &mut impl Shards<K, V>,
        id: FlightId,
        tier: Tier,
        entry: Entry<V>,
        now: Instant,
    ) -> Step<K, V> {
        let zone = entry.zone();
        let Some(key) = self.key(id) else { return Step::Done { next: None } };
        if zone == Zone::Gone || self.flights.is_fenced(id) {
            return self.not_in_store(shards, id, now);
        }
        let held = shards.with(&key, |memory| memory.find(&key, now)).map(|held| held.entry);
        if let Some(newer) = held.as_ref().filter(|held| held.zone() == Zone::Fresh && held.age < entry.age) {
            // Loaded while the store was being read.
            return self.land(id, Outcome::Served(newer.clone().serve(Source::Memory, None)), After::Finish);
        }
        if held.is_none_or(|held| held.age > entry.age) {
            shards.with(&key, |memory| match zone {
                Zone::Fresh => memory.insert(key.clone(), entry.clone(), 0, now),
                // The store's copy of what is stale here too may look younger by a rounding: no news.
                _ => memory.adopt(key.clone(), entry.clone(), 0, now),
            });
        }
        let source = if tier == Tier::Primary { Source::Store } else { Source::Fallback };
        match zone {
            Zone::Fresh => {
                let mirror = Change::Put(entry.clone(), now);
                let after = if tier == Tier::Primary { self.reserve_mirror(id, &key, mirror) } else { After::Finish };
                self.land(id, Outcome::Served(entry.serve(source, None)), after)
            }
            Zone::StaleWhileRevalidate => {
                self.land(id, Outcome::Served(entry.serve(source, Some(Stale::WhileRevalidate))), After::Refresh)
            }
            Zone::StaleIfError | Zone::Keep | Zone::Gone => {
                if let Some(flight) = self.flights.get_mut(id) {
                    flight.work.previous = Some((entry, now));
                }
                self.not_in_store(shards, id, now)
            }
        }
    }

    /// The store has nothing that answers: load, or say so.
    fn not_in_store(&mut self, shards: &mut impl Shards<K, V>, id: FlightId, now: Instant) -> Step<K, V> {
        let leader_age_max = self.policy.leader_age_max;
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        if flight.work.kind != Kind::Read {
            let end = flight.started_at + leader_age_max;
            flight.work.begin(end);
            return self.attempt_load(shards, id, now);
        }
        // A put may have won over the read.
        let Some(key) = self.key(id) else { return Step::Done { next: None } };
        let put = shards.with(&key, |memory| memory.find(&key, now)).filter(|put| put.zone == Zone::Fresh);
        let served = put.map(|put| Outcome::Served(put.entry.serve(Source::Memory, None)));
        self.land(id, served.unwrap_or(Outcome::Absent), After::Finish)
    }

    pub(super) fn attempt_load(&mut self, shards: &mut impl Shards<K, V>, id: FlightId, now: Instant) -> Step<K, V> {
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        let Some(key) = flight.key.clone() else { return Step::Done { next: None } };
        let deadline = flight.work.deadline.min(now + self.policy.load_deadline);
        let permit = match self.load_breaker.try_acquire(now, deadline) {
            Ok(permit) => permit,
            Err(refusal) => return self.settle_failure(shards, id, Failure::Open { until: refusal.0 }, now),
        };
        self.stats.loads += 1;
        let attempt = flight.work.attempt + 1;
        flight.work.attempt = attempt;
        flight.work.permit = Some(permit);
        flight.work.stage = Stage::Loading;
        let previous = if self.flights.is_fenced(id) { None } else { self.previous(shards, id, &key, now) };
        Step::Load { key, attempt, deadline, previous }
    }

    /// The newest stale value at hand, at its present age.
    fn previous(&mut self, shards: &mut impl Shards<K, V>, id: FlightId, key: &K, now: Instant) -> Option<Entry<V>> {
        if let Some(sighting) = shards.with(key, |memory| memory.find(key, now)) {
            return Some(sighting.entry);
        }
        let (entry, at) = self.flights.get_mut(id)?.work.previous.clone()?;
        Change::Put(entry, at).entry(now).filter(|entry| entry.zone() != Zone::Gone)
    }

    pub(super) fn on_loaded(
        &mut self,
        shards: &mut impl Shards<K, V>,
        id: FlightId,
        result: Result<Loaded<V>, LoadFailure>,
        now: Instant,
    ) -> Step<K, V> {
        let failure = match result {
            Ok(loaded) => {
                self.give_back(id, Verdict::Success, now);
                return self.land_loaded(shards, id, loaded, now);
            }
            Err(failure) => failure,
        };
        self.stats.load_failures += 1;
        let answered = !failure.class.is_unavailable();
        self.give_back(id, if answered { Verdict::Success } else { Verdict::Failure }, now);
        let attempts = if failure.class.is_transient() { self.policy.load_attempts } else { 0 };
        match self.pause(id, Again::Load, attempts, failure.retry_after.unwrap_or_default(), now) {
            Some(sleep) => sleep,
            None => self.settle_failure(shards, id, Failure::Load(failure.class), now),
        }
    }

    fn land_loaded(
        &mut self,
        shards: &mut impl Shards<K, V>,
        id: FlightId,
        loaded: Loaded<V>,
        now: Instant,
    ) -> Step<K, V> {
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        let (Some(key), alone) = (flight.key.clone(), flight.work.kind == Kind::PrivateLoad) else {
            return Step::Done { next: None };
        };
        let Loaded { value, age, windows, sharing } = loaded;
        let entry = Entry { age, ..Entry::new(value, self.jittered(windows)) };
        let served =
            Served { value: entry.value.clone(), age, ttl: entry.windows.ttl, stale: None, source: Source::Load };
        if sharing == Sharing::Private {
            let after = self.remember_private(shards, id, &key, now);
            return self.land(id, Outcome::Private(served), after);
        }
        self.private.remove(&key);
        let mut after = After::Finish;
        if sharing == Sharing::Store && !alone {
            if self.flights.is_fenced(id) {
                self.stats.fenced += 1;
            } else {
                shards.with(&key, |memory| memory.insert(key.clone(), entry.clone(), 0, now));
                after = self.reserve_change(id, &key, Change::Put(entry, now), now);
            }
        }
        self.land(id, Outcome::Served(served), after)
    }

    /// The key's result is for one caller alone: what was shared of it before is no longer good.
    fn remember_private(&mut self, shards: &mut impl Shards<K, V>, id: FlightId, key: &K, now: Instant) -> After<V> {
        self.stats.private += 1;
        let windows = Windows { ttl: Some(self.policy.private_for), ..Windows::FOREVER };
        self.private.insert(key.clone(), Entry::new((), windows), 0, now);
        self.retract(shards, id, key, now)
    }

    /// Removes what is known under `key`, here and in the store, unless a change won over the flight.
    fn retract(&mut self, shards: &mut impl Shards<K, V>, id: FlightId, key: &K, now: Instant) -> After<V> {
        let found = self.flights.get_mut(id).is_some_and(|flight| flight.work.previous.is_some());
        if self.flights.is_fenced(id) || !shards.with(key, |memory| memory.remove(key)) && !found {
            return After::Finish;
        }
        self.reserve_change(id, key, Change::Remove, now)
    }

    /// The load has failed for good. Stale stands in if no answer was had (law 7); an answer that is an error
    /// retracts what was known before, so that nothing masks it later.
    fn settle_failure(
        &mut self,
        shards: &mut impl Shards<K, V>,
        id: FlightId,
        failure: Failure,
        now: Instant,
    ) -> Step<K, V> {
        let Some(key) = self.key(id) else { return Step::Done { next: None } };
        if !failure.is_unavailable() {
            let after = self.retract(shards, id, &key, now);
            return self.land(id, Outcome::Failed(failure), after);
        }
        let fenced = self.flights.is_fenced(id);
        let mut stale = self.stand_in(shards, &key, now);
        if stale.is_none() && !fenced {
            stale = self.previous(shards, id, &key, now).and_then(|entry| entry.serve_on_error(Source::Store));
        }
        if !fenced {
            let (policy, entropy) = (&self.policy, &mut self.entropy);
            let gap = |failures: u32| {
                let doubled = scale(policy.refresh_gap, 1 << (failures - 1).min(30), 1);
                entropy.around(doubled.min(policy.refresh_gap_max), policy.wait_jitter)
            };
            shards.with(&key, |memory| memory.refresh_failed(&key, now, gap));
        }
        self.land(id, stale.map_or(Outcome::Failed(failure), Outcome::Served), After::Finish)
    }

    pub(super) fn on_landed(&mut self, shards: &mut impl Shards<K, V>, id: FlightId, now: Instant) -> Step<K, V> {
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        match core::mem::replace(&mut flight.work.stage, Stage::Queued) {
            Stage::Landing(After::Change(change)) => {
                flight.work.change = Some(change);
                self.begin_change(id, now)
            }
            Stage::Landing(After::Mirror(change)) => {
                flight.work.change = Some(change);
                self.change_fallback(id, now)
            }
            Stage::Landing(After::Refresh) => self.refresh_after(shards, id, now),
            _ => self.finish(id, now),
        }
    }

    /// What the store had was stale: a flight of its own goes to the origin, unless one is there already.
    fn refresh_after(&mut self, shards: &mut impl Shards<K, V>, id: FlightId, now: Instant) -> Step<K, V> {
        let Some(flight) = self.flights.close(id) else { return Step::Done { next: None } };
        let Some(key) = flight.key.filter(|_| flight.work.kind == Kind::Load) else { return Step::Done { next: None } };
        let stale = shards.with(&key, |memory| memory.find(&key, now));
        let wanted = stale.is_some_and(|held| held.zone != Zone::Fresh && now >= held.refresh_after);
        if !wanted || self.flights.current(&key, Purpose::Load, now).is_some() {
            return Step::Done { next: None };
        }
        let Ok(refresh) = self.open(Some(key), Some(Purpose::Load), Kind::Load, now) else {
            return Step::Done { next: None };
        };
        self.flights.keep(refresh);
        let step = self.not_in_store(shards, refresh, now);
        super::done(Some(Launch { flight: refresh, step }))
    }

    /// The windows of an entry, the ttl moved by the policy's jitter.
    pub(super) fn jittered(&mut self, windows: Option<Windows>) -> Windows {
        let windows = windows.unwrap_or_else(|| self.policy.windows());
        let percent = self.policy.ttl_jitter;
        if percent == 0 {
            return windows;
        }
        Windows { ttl: windows.ttl.map(|ttl| self.entropy.around(ttl, percent)), ..windows }
    }
}
