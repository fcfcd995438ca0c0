//! How a load goes: store, origin, landing.

use core::hash::Hash;
use core::time::Duration;

use super::work::{After, Again, End, First, Kind, Lease, Remembered, Stage};
use super::{Machine, Shards};
use crate::breaker::{NotUntil, Verdict};
use crate::entropy::{Entropy, scale};
use crate::entry::{Entry, Windows, Zone};
use crate::failure::{Class, Failure, LoadFailure, StoreFailure};
use crate::flight::{Flight, Purpose};
use crate::journal::Change;
use crate::limit::Slot;
use crate::stamp::Version;
use crate::step::{Absence, FlightId, Found, Loaded, Outcome, Served, Sharing, Source, Stale, Step, StoreUse, Tier};
use crate::storage::{Map, Profile};
use crate::tags;
use crate::time::{Instant, nanos};
use crate::value::{AbsenceTags, Value};

/// What civil clocks of milliseconds make of an age.
const ROUNDING: Duration = Duration::from_millis(10);

/// A ttl is moved by its jitter in steps of one part in so many.
const JITTER_STEPS: u32 = 1_000;

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Machine<K, V, P> {
    pub(super) fn first_step(&mut self, shards: &mut impl Shards<K, V, P>, id: FlightId, now: Instant) -> Step<K, V> {
        let Some(flight) = self.flights.get(id) else { return Step::Done { next: None } };
        if flight.work.kind == Kind::PrivateLoad || !self.policy.store {
            return self.not_in_store(shards, id, now);
        }
        self.read_store(shards, id, now)
    }

    /// Begins to read the store: for the first time, or once more, because another process may have brought the value.
    pub(super) fn read_store(&mut self, shards: &mut impl Shards<K, V, P>, id: FlightId, now: Instant) -> Step<K, V> {
        let deadline = now + self.policy.store_read_deadline;
        if let Some(flight) = self.flights.get_mut(id) {
            flight.work.begin(deadline);
        }
        self.attempt_read(shards, id, now)
    }

    /// Reads the store, unless a change won over this flight or is on its way to the store: then what the store
    /// has may be older than what the caller is owed.
    pub(super) fn attempt_read(&mut self, shards: &mut impl Shards<K, V, P>, id: FlightId, now: Instant) -> Step<K, V> {
        let Some(key) = self.key(id) else { return Step::Done { next: None } };
        if self.flights.is_fenced(id) || self.writing.contains_key(&key) {
            return self.not_in_store(shards, id, now);
        }
        if self.journal.trusts(&key)
            && let Some(deadline) = self.enter_store(id, now)
        {
            self.stage(id, Stage::Reading(Tier::Primary));
            return Step::ReadStore { tier: Tier::Primary, key, deadline };
        }
        self.note_store(id, StoreUse::Skipped);
        self.read_fallback(shards, id, key, now)
    }

    fn read_fallback(&mut self, shards: &mut impl Shards<K, V, P>, id: FlightId, key: K, now: Instant) -> Step<K, V> {
        if !self.policy.fallback || self.fallback_doubts.remain() {
            return self.not_in_store(shards, id, now);
        }
        self.stats.fallback_reads += 1;
        self.stage(id, Stage::Reading(Tier::Fallback));
        Step::ReadStore { tier: Tier::Fallback, key, deadline: now + self.policy.store_read_deadline }
    }

    pub(super) fn on_store_read(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        id: FlightId,
        tier: Tier,
        result: Result<Found<V>, StoreFailure>,
        now: Instant,
    ) -> Step<K, V> {
        if tier == Tier::Fallback {
            // Doubts may have come up while it was being read.
            let found = result.ok().filter(|_| !self.fallback_doubts.remain());
            let found = found.zip(self.key(id)).and_then(|(Found { entry, born, .. }, key)| {
                let entry = entry?;
                let verdict = self.fallback_verdict(&key, &entry, born, now);
                entry.judged(verdict, now)
            });
            let Some(entry) = found else { return self.not_in_store(shards, id, now) };
            self.stats.fallback_hits += 1;
            return self.on_found(shards, id, tier, entry, now);
        }
        self.note_seen(id, &result);
        let asks_again = self.flights.get_mut(id).is_some_and(|flight| core::mem::take(&mut flight.work.asks_again));
        if asks_again && result.is_ok() {
            self.give_back(id, Verdict::Success, now);
            return self.attempt_read(shards, id, now);
        }
        let answered = matches!(result, Ok(_) | Err(StoreFailure::Corrupt { .. }));
        self.note_store(id, if answered { StoreUse::Answered } else { StoreUse::Failed });
        match result {
            Ok(_) | Err(StoreFailure::Corrupt { .. }) => {
                self.give_back(id, Verdict::Success, now);
                self.stats.corrupt += u64::from(result.is_err());
                let Some(entry) = result.ok().and_then(|found| self.valid(found, now)) else {
                    self.stats.store_misses += 1;
                    return self.not_in_store(shards, id, now);
                };
                self.stats.store_hits += 1;
                self.on_found(shards, id, tier, entry, now)
            }
            Err(failure) => {
                if let Some(sleep) = self.store_failed(id, Again::Read, failure, now) {
                    return sleep;
                }
                self.forgo_lease(id);
                let Some(key) = self.key(id) else { return Step::Done { next: None } };
                self.read_fallback(shards, id, key, now)
            }
        }
    }

    /// Notes what the shared store has to do with what the flight will land with. That it failed is the reason why it is
    /// skipped afterwards.
    fn note_store(&mut self, id: FlightId, store: StoreUse) {
        let Some(Flight { work, .. }) = self.flights.get_mut(id) else { return };
        if (work.store, store) != (StoreUse::Failed, StoreUse::Skipped) {
            work.store = store;
        }
    }

    /// Notes which version the shared store has.
    fn note_seen(&mut self, id: FlightId, result: &Result<Found<V>, StoreFailure>) {
        let seen = match result {
            Ok(found) => Some(found.version),
            Err(StoreFailure::Corrupt { version }) => Some(*version),
            Err(_) => None,
        };
        if let Some(flight) = self.flights.get_mut(id) {
            flight.work.seen = seen;
        }
    }

    fn on_found(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        id: FlightId,
        tier: Tier,
        entry: Entry<V>,
        now: Instant,
    ) -> Step<K, V> {
        let zone = entry.zone();
        let Some(key) = self.key(id) else { return Step::Done { next: None } };
        let load_time =
            if entry.load_time.is_zero() { self.latency.mean().unwrap_or_default() } else { entry.load_time };
        let entry = Entry { load_time, ..entry };
        if zone == Zone::Gone || self.flights.is_fenced(id) {
            return self.not_in_store(shards, id, now);
        }
        let held = shards.with(&key, |memory| memory.find(&key, now)).map(|held| held.entry);
        if let Some(newer) = held.as_ref().filter(|held| self.does(id, held) && held.age < entry.age) {
            // Loaded while the store was being read.
            return self.land(id, Outcome::Served(newer.clone().serve(Source::Memory, None)), After::Finish, now);
        }
        let born = self.newest;
        let renewed = |held: &Entry<V>| {
            tier == Tier::Primary && zone == Zone::Fresh && held.zone() != Zone::Fresh && is_as_new(&entry, held)
        };
        // What memory has is in doubt as well, and no older.
        if !entry.doubted && held.is_none_or(|held| held.age > entry.age || renewed(&held)) {
            shards.with(&key, |memory| match zone {
                Zone::Fresh => memory.insert(key.clone(), entry.clone(), born, now),
                // The store's copy of what is stale here too may look younger by a rounding: no news.
                _ => memory.adopt(key.clone(), entry.clone(), born, now),
            });
        }
        let source = if tier == Tier::Primary { Source::Store } else { Source::Fallback };
        // Civil clocks have dated it, and one that is behind makes anything look new: for whom nothing is young enough,
        // nothing from a store is.
        let too_old = self.max_age(id).is_some_and(|max| entry.age > max || max.is_zero());
        let goes_on = too_old || zone == Zone::StaleWhileRevalidate && self.is_refresh(id);
        let zone = if goes_on { zone.max(Zone::StaleIfError) } else { zone };
        match zone {
            Zone::Fresh => {
                let mirror = Change::put(entry.clone(), born, now);
                let after = if tier == Tier::Primary { self.reserve_mirror(id, &key, mirror) } else { After::Finish };
                self.land(id, Outcome::Served(entry.serve(source, None)), after, now)
            }
            Zone::StaleWhileRevalidate => {
                self.land(id, Outcome::Served(entry.serve(source, Some(Stale::WhileRevalidate))), After::Refresh, now)
            }
            Zone::StaleIfError | Zone::Keep | Zone::Gone => {
                if let Some(flight) = self.flights.get_mut(id) {
                    flight.work.previous = Some((entry, now, born));
                }
                self.not_in_store(shards, id, now)
            }
        }
    }

    /// Whether the flight is there to refresh what is stale, for nobody who waits, and has looked into the store anew on
    /// account of a lease.
    fn is_refresh(&self, id: FlightId) -> bool {
        let leases = self.flights.get(id).is_some_and(|flight| flight.work.lease != Lease::Unasked);
        leases && self.flights.waiters(id) == 0
    }

    /// Whether `entry` is fresh, and young enough for everybody who waits for the flight.
    fn does(&self, id: FlightId, entry: &Entry<V>) -> bool {
        entry.zone() == Zone::Fresh && self.max_age(id).is_none_or(|max| entry.age <= max)
    }

    /// The store has nothing that answers: load, or say so.
    pub(super) fn not_in_store(&mut self, shards: &mut impl Shards<K, V, P>, id: FlightId, now: Instant) -> Step<K, V> {
        let leader_age_max = self.policy.leader_age_max;
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        if flight.work.kind != Kind::Read {
            let end = flight.started_at + leader_age_max;
            flight.work.begin(end);
            return self.attempt_load(shards, id, now);
        }
        let served = if matches!(flight.work.store, StoreUse::Skipped | StoreUse::Failed) {
            self.instead_of_store(shards, id, now)
        } else {
            self.put_meanwhile(shards, id, now)
        };
        self.land(id, served.map_or(Outcome::Absent(Absence::NotLoaded), Outcome::Served), After::Finish, now)
    }

    /// What stands in for the store where that could not be asked.
    fn instead_of_store(&mut self, shards: &mut impl Shards<K, V, P>, id: FlightId, now: Instant) -> Option<Served<V>> {
        let (key, max_age) = (self.key(id)?, self.max_age(id));
        let held = self.stand_in(shards, &key, max_age, now);
        if held.is_some() || self.flights.is_fenced(id) {
            return held;
        }
        self.previous(shards, id, &key, now)?.serve_on_error(Source::Fallback, max_age)
    }

    /// A put may have won over the read.
    fn put_meanwhile(&mut self, shards: &mut impl Shards<K, V, P>, id: FlightId, now: Instant) -> Option<Served<V>> {
        let key = self.key(id)?;
        let put = shards.with(&key, |memory| memory.find(&key, now)).filter(|put| self.does(id, &put.entry))?;
        Some(put.entry.serve(Source::Memory, None))
    }

    /// Loads, if the limit of loads and the breaker let it pass.
    pub(super) fn attempt_load(&mut self, shards: &mut impl Shards<K, V, P>, id: FlightId, now: Instant) -> Step<K, V> {
        let Some(flight) = self.flights.get(id) else { return Step::Done { next: None } };
        let Some(key) = flight.key.clone() else { return Step::Done { next: None } };
        let (deadline, first) = (flight.work.deadline.min(now + self.policy.load_deadline), flight.work.attempt == 0);
        let loader = flight.work.loader;
        if let Some(NotUntil(until)) = self.loaders.refusal(loader, now) {
            // Who is to be refused need not wait for it.
            return self.settle_failure(shards, id, Failure::Open { until }, now);
        }
        if let Some(step) = self.ask_for_lease(id, now) {
            return step;
        }
        let Some(flight) = self.flights.get(id) else { return Step::Done { next: None } };
        if flight.work.slot.is_none() {
            match self.limit.try_acquire(now) {
                Ok(slot) => self.hold(id, slot),
                Err(_full) => return self.wait_for_slot(shards, id, now),
            }
        }
        let permit = match self.loaders.of_mut(loader).try_acquire(now, deadline) {
            Ok(permit) => permit,
            Err(refusal) => return self.settle_failure(shards, id, Failure::Open { until: refusal.0 }, now),
        };
        if first {
            self.load_budget.deposit(now);
        }
        self.stats.loads += 1;
        let previous = if self.flights.is_fenced(id) { None } else { self.previous(shards, id, &key, now) };
        let Some(flight) = self.flights.get_mut(id) else { return Step::Done { next: None } };
        let work = &mut flight.work;
        work.attempt += 1;
        (work.asked_at, work.born) = (now, self.newest);
        work.permit = Some(permit);
        work.offered.clone_from(&previous);
        work.stage = Stage::Loading;
        Step::Load { key, attempt: work.attempt, deadline, previous }
    }

    fn hold(&mut self, id: FlightId, slot: Slot) {
        if let Some(flight) = self.flights.get_mut(id) {
            flight.work.slot = Some(slot);
        }
    }

    /// As many loads as allowed are under way: puts the flight aside, if there is room for it.
    fn wait_for_slot(&mut self, shards: &mut impl Shards<K, V, P>, id: FlightId, now: Instant) -> Step<K, V> {
        let queued = self.limit.try_queue().map_err(|_| ()).and_then(|()| {
            let limit = &mut self.limit;
            self.waiting.push_back(id).map_err(|_| limit.leave_queue())
        });
        let (Ok(place), Some(flight)) = (queued, self.flights.get_mut(id)) else {
            return self.settle_failure(shards, id, Failure::Overloaded, now);
        };
        flight.work.place = Some(place);
        flight.work.stage = Stage::Waiting;
        Step::Wait
    }

    /// Notes what the load took and what it says of the origin, for the limit.
    fn measure(&mut self, id: FlightId, verdict: Verdict, now: Instant) {
        let Some(flight) = self.flights.get_mut(id) else { return };
        let took = now - flight.work.asked_at;
        flight.work.measured = (took, verdict);
        if verdict == Verdict::Success {
            self.latency.record(took);
        }
    }

    /// The newest stale value at hand, at its present age.
    fn previous(&mut self, shards: &mut impl Shards<K, V, P>, id: FlightId, key: &K, now: Instant) -> Option<Entry<V>> {
        if let Some(sighting) = shards.with(key, |memory| memory.find(key, now)) {
            return Some(sighting.entry);
        }
        let (entry, at, born) = self.flights.get(id)?.work.previous.clone()?;
        let verdict = self.tags.verdict(entry.value.tags(), born);
        entry.aged(now - at).judged(verdict, now).filter(|entry| entry.zone() != Zone::Gone)
    }

    pub(super) fn on_loaded(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        id: FlightId,
        result: Result<Loaded<V>, LoadFailure>,
        now: Instant,
    ) -> Step<K, V> {
        let offered = self.flights.get_mut(id).and_then(|flight| flight.work.offered.take());
        match (result, offered) {
            (Ok(Loaded::Value { value, age, windows, sharing }), _) => {
                self.load_succeeded(id, now);
                let entry = Entry { age, ..Entry::new(value, self.jittered(windows)) };
                self.land_value(shards, id, entry, sharing, now)
            }
            (Ok(Loaded::NotModified { age, windows }), Some(previous)) => {
                self.load_succeeded(id, now);
                self.stats.not_modified += 1;
                let entry = Entry { age, ..Entry::new(previous.value, self.jittered(windows)) };
                self.land_value(shards, id, entry, Sharing::Store, now)
            }
            (Ok(Loaded::NotModified { .. }), None) => self.on_load_failed(shards, id, Class::Panicked.into(), now),
            (Ok(Loaded::Absent { ttl, tags }), _) => {
                self.load_succeeded(id, now);
                self.land_absent(shards, id, (ttl, tags), now)
            }
            (Err(failure), _) => self.on_load_failed(shards, id, failure, now),
        }
    }

    fn load_succeeded(&mut self, id: FlightId, now: Instant) {
        self.measure(id, Verdict::Success, now);
        self.give_back(id, Verdict::Success, now);
    }

    fn on_load_failed(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        id: FlightId,
        failure: LoadFailure,
        now: Instant,
    ) -> Step<K, V> {
        self.stats.load_failures += 1;
        let verdict = match failure.class {
            Class::Answer => Verdict::Success,
            Class::Isolated => Verdict::None,
            Class::Unavailable | Class::TimedOut | Class::Panicked => Verdict::Failure,
        };
        // An error may come quickly, so it is no measurement; that it came does not mean that there are too many.
        self.measure(id, if verdict == Verdict::Success { Verdict::None } else { verdict }, now);
        self.give_back(id, verdict, now);
        let attempts = if failure.class.is_transient() { self.policy.load_attempts } else { 0 };
        match self.pause(id, Again::Load, attempts, failure.retry_after, now) {
            Some(sleep) => sleep,
            None => self.settle_failure(shards, id, Failure::Load(failure.class), now),
        }
    }

    fn land_value(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        id: FlightId,
        entry: Entry<V>,
        sharing: Sharing,
        now: Instant,
    ) -> Step<K, V> {
        let Some(flight) = self.flights.get(id) else { return Step::Done { next: None } };
        let (born, joined, alone) = (flight.work.born, flight.work.joined, flight.work.kind == Kind::PrivateLoad);
        let Some(key) = flight.key.clone() else { return Step::Done { next: None } };
        let entry = Entry { load_time: now - flight.work.asked_at, ..entry };
        let served =
            Entry { age: entry.age, ..Entry::new(entry.value.clone(), entry.windows) }.serve(Source::Load, None);
        if sharing == Sharing::Private {
            let after = self.remember_private(shards, id, &key, now);
            return self.land(id, Outcome::Private(served), after, now);
        }
        self.remembered.remove(&key);
        let overtaken = self.tags.verdict(entry.value.tags(), born) != tags::Verdict::Valid;
        let mut after = After::Finish;
        if sharing == Sharing::Store && !alone {
            if self.flights.is_fenced(id) {
                self.stats.fenced += 1;
            } else {
                shards.with(&key, |memory| memory.insert(key.clone(), entry.clone(), born, now));
                after = self.keep_in_store(id, &key, entry, born, now);
            }
        }
        if overtaken {
            self.note_end(id, End::Overtaken);
        }
        // Whoever joined after the tag was invalidated is owed something newer.
        let outcome = if overtaken && joined > born { Outcome::Private(served) } else { Outcome::Served(served) };
        self.land(id, outcome, after, now)
    }

    /// Takes a loaded value to the store, or out of it the older one that was found there.
    fn keep_in_store(&mut self, id: FlightId, key: &K, entry: Entry<V>, born: u64, now: Instant) -> After<V> {
        let found = self.flights.get(id).is_some_and(|flight| flight.work.previous.is_some());
        // It is as new as the question was.
        let asked_ago = entry.load_time;
        let change = self.shared(entry, born, now).after(self.seen(id)).made_earlier(asked_ago);
        if change.is_removal() && !found { After::Finish } else { self.reserve_change(id, key, change, now) }
    }

    /// The origin says that there is no such thing: what was known before is retracted.
    fn land_absent(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        id: FlightId,
        (ttl, tags): (Option<Duration>, AbsenceTags),
        now: Instant,
    ) -> Step<K, V> {
        let Some(key) = self.key(id) else { return Step::Done { next: None } };
        let born = self.flights.get(id).map_or(0, |flight| flight.work.born);
        self.stats.absent += 1;
        let after = self.retract(shards, id, &key, now);
        if !self.flights.is_fenced(id) {
            self.remembered.remove(&key);
            self.remember(key, Remembered::Absent(tags), ttl.unwrap_or(self.policy.negative_ttl), born, now);
        }
        self.land(id, Outcome::Absent(Absence::Confirmed), after, now)
    }

    /// The key's result is for one caller alone: what was shared of it before is no longer good.
    fn remember_private(&mut self, shards: &mut impl Shards<K, V, P>, id: FlightId, key: &K, now: Instant) -> After<V> {
        self.stats.private += 1;
        self.remembered.remove(key);
        self.remember(key.clone(), Remembered::Private, self.policy.private_for, 0, now);
        self.retract(shards, id, key, now)
    }

    /// Removes what is known under `key`, here and in the store, unless a change won over the flight.
    fn retract(&mut self, shards: &mut impl Shards<K, V, P>, id: FlightId, key: &K, now: Instant) -> After<V> {
        let found = self.flights.get_mut(id).is_some_and(|flight| flight.work.previous.is_some());
        if self.flights.is_fenced(id) || !shards.with(key, |memory| memory.remove(key)) && !found {
            return After::Finish;
        }
        let asked_ago = self.flights.get(id).map_or(Duration::ZERO, |flight| now - flight.work.asked_at);
        let change = Change::remove(now).after(self.seen(id)).made_earlier(asked_ago);
        self.reserve_change(id, key, change, now)
    }

    /// The load has failed for good. Stale stands in if no answer was had (law 7); an answer that is an error
    /// retracts what was known before, so that nothing masks it later.
    fn settle_failure(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        id: FlightId,
        failure: Failure,
        now: Instant,
    ) -> Step<K, V> {
        let Some(key) = self.key(id) else { return Step::Done { next: None } };
        self.note_end(id, End::of(failure));
        if !failure.is_unavailable() {
            let after = self.retract(shards, id, &key, now);
            self.remember_failure(id, key, failure, now);
            return self.land(id, Outcome::Failed(failure), after, now);
        }
        let max_age = self.max_age(id);
        let mut stale = self.stand_in(shards, &key, max_age, now);
        if !self.flights.is_fenced(id) {
            let found = |entry: Entry<V>| entry.serve_on_error(Source::Store, max_age);
            stale = stale.or_else(|| self.previous(shards, id, &key, now).and_then(found));
            self.note_failed_refresh(shards, &key, now);
            self.remember_failure(id, key, failure, now);
        }
        self.land(id, stale.map_or(Outcome::Failed(failure), Outcome::Served), After::Finish, now)
    }

    /// The version that the flight has seen in the shared store, if it has seen any.
    fn seen(&self, id: FlightId) -> Option<Version> {
        self.flights.get(id)?.work.seen?
    }

    fn remember_failure(&mut self, id: FlightId, key: K, failure: Failure, now: Instant) {
        if let Failure::Load(class) = failure
            && !self.flights.is_fenced(id)
        {
            self.remember(key, Remembered::Failed(class), self.error_ttl(class), 0, now);
        }
    }

    /// The gaps between refreshes of `key` grow with each failure in a row.
    fn note_failed_refresh(&mut self, shards: &mut impl Shards<K, V, P>, key: &K, now: Instant) {
        let (policy, entropy) = (&self.policy, &mut self.entropy);
        let gap = |failures: u32| {
            let doubled = scale(policy.refresh_gap, 1 << failures.saturating_sub(1).min(30), 1);
            entropy.around(doubled.min(policy.refresh_gap_max), policy.wait_jitter)
        };
        shards.with(key, |memory| memory.refresh_failed(key, now, gap));
    }

    pub(super) fn on_landed(&mut self, shards: &mut impl Shards<K, V, P>, id: FlightId, now: Instant) -> Step<K, V> {
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
    fn refresh_after(&mut self, shards: &mut impl Shards<K, V, P>, id: FlightId, now: Instant) -> Step<K, V> {
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
        if let Some(refresh) = self.flights.get_mut(refresh) {
            refresh.work.begin(now + self.policy.leader_age_max);
            (refresh.work.seen, refresh.work.store) = (flight.work.seen, flight.work.store);
            refresh.work.loader = flight.work.loader;
        }
        self.stage(refresh, Stage::Ready(First::Load));
        Step::Done { next: Some(refresh) }
    }

    /// The windows of an entry, the ttl moved by the policy's jitter.
    pub(super) fn jittered(&mut self, windows: Option<Windows>) -> Windows {
        let windows = windows.unwrap_or_else(|| self.policy.windows());
        let percent = self.policy.ttl_jitter;
        if percent == 0 {
            return windows;
        }
        let moved = |ttl: Duration, entropy: &mut Entropy| {
            // In steps, so that few entries differ in their windows: memory keeps each kind once.
            let step = nanos(scale(ttl, 1, JITTER_STEPS)).max(1);
            let swing = scale(ttl, u32::from(percent), 100);
            let lowest = nanos(ttl.saturating_sub(swing)).div_ceil(step);
            let highest = nanos(ttl.saturating_add(swing)) / step;
            let drawn = entropy.between(Duration::from_nanos(lowest), Duration::from_nanos(highest));
            Duration::from_nanos(nanos(drawn).saturating_mul(step))
        };
        Windows { ttl: windows.ttl.map(|ttl| moved(ttl, &mut self.entropy)), ..windows }
    }
}

/// Whether what the store has is no older than what memory has, or the same: its age is reckoned by civil time, which may
/// be wrong by a tenth.
fn is_as_new<V>(found: &Entry<V>, held: &Entry<V>) -> bool {
    found.age <= held.age.saturating_add(held.age / 10).saturating_add(ROUNDING)
}
