//! What must hold, whatever happens: the laws of DESIGN section 4, each named where it is checked.

use std::time::Duration;

use tideover_core::breaker::{LEASE_GRACE, State};
use tideover_core::stamp::Stamp;
use tideover_core::{
    Absence, Answer, Class, Command, Failure, FlightId, Instant, Outcome, Policy, Refusal, Served, Sharing, Source,
    Stale, Step, Tier, Windows, Zone,
};

use super::{Asked, Birth, Broken, Brought, Caller, Expiry, Flying, Key, Origin, Reply, Value, World};

/// No flight of these policies takes more steps than this.
const STEPS_MAX: u32 = 40;

fn law(holds: bool, broken: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(broken()) }
}

/// The key that a step is about.
pub(super) fn key_of(step: &Step<Key, Value>) -> Option<Key> {
    match step {
        Step::ReadStore { key, .. }
        | Step::Load { key, .. }
        | Step::WriteStore { key, .. }
        | Step::RemoveStore { key, .. }
        | Step::AcquireLease { key, .. }
        | Step::AwaitLease { key, .. } => Some(*key),
        _ => None,
    }
}

pub(super) fn touches_primary(step: &Step<Key, Value>) -> bool {
    matches!(
        step,
        Step::ReadStore { tier: Tier::Primary, .. }
            | Step::WriteStore { tier: Tier::Primary, .. }
            | Step::RemoveStore { tier: Tier::Primary, .. }
            | Step::ClearStore { tier: Tier::Primary, .. }
            | Step::InvalidateStore { .. }
            | Step::AcquireLease { .. }
    )
}

impl World {
    /// What a caller gets is for it, recent enough, honest about its age, and inside its windows.
    pub(super) fn check_answer(&mut self, caller: &Caller, outcome: &Outcome<Value>) -> Result<(), Broken> {
        self.answered += 1;
        let (Outcome::Served(served) | Outcome::Private(served)) = outcome else {
            return self.check_no_value(caller, outcome);
        };
        let value = self.origin_of(served.value);
        law(caller.key == Some(value.key), || format!("{:?} got the value of {}", caller.key, value.key))?;
        law(value.version >= caller.floor, || {
            let Caller { key, floor, .. } = caller;
            format!(
                "laws 4 and 9: version {} of {key:?} was served, {} was put or removed: {served:?}",
                value.version,
                floor - 1
            )
        })?;
        law(served.stale.is_some() || value.version >= caller.fresh_floor, || {
            format!("law 4: version {} was served as fresh, {} was expired", value.version, caller.fresh_floor - 1)
        })?;
        let gone = caller.fences == self.floor(value.key).1
            && self.retracted.get(&value.key).copied() > Some(served.value.number);
        law(!gone || !value.births().all(|birth| birth.at < self.now), || {
            format!("law 7: {served:?} was served after the origin had said that there is no such thing")
        })?;
        let alone = matches!(outcome, Outcome::Private(_));
        let overtaken = !self.missed.is_empty() || self.expiries.iter().any(|expiry| expiry.key == value.key);
        let loaded = served.source == Source::Load;
        // Overtaken by the invalidation of a tag, a value for more than one is still good for who asked before that.
        let alone_is_right = caller.led && loaded && (overtaken || value.sharing == Sharing::Private);
        let allowed = match value.sharing {
            _ if alone => alone_is_right,
            Sharing::Store => true,
            Sharing::Share => loaded,
            Sharing::Private => false,
        };
        law(allowed, || format!("C8: a value to {:?} was served as {outcome:?}", value.sharing))?;
        self.check_windows(caller, value, served)
    }

    /// There is a reason for no value.
    fn check_no_value(&self, caller: &Caller, outcome: &Outcome<Value>) -> Result<(), Broken> {
        let Some(key) = caller.key else {
            return law(matches!(outcome, Outcome::Settled(_) | Outcome::Failed(_)), || {
                format!("a change was answered with {outcome:?}")
            });
        };
        let held = |class: Option<Class>, until: Instant| {
            let known = self.remembered.iter().filter(|held| held.key == key && held.fences == caller.fences);
            self.now < until && known.filter(|held| held.until == until).any(|held| held.class == class)
        };
        let founded = match outcome {
            Outcome::Absent(Absence::NotLoaded) => caller.call.read_only,
            Outcome::Absent(Absence::Remembered { until }) => held(None, *until),
            Outcome::Failed(Failure::Remembered { class, until }) => {
                !caller.call.read_only && held(Some(*class), *until)
            }
            Outcome::Settled(_) | Outcome::Again => false,
            _ => true,
        };
        law(founded, || format!("law 7: {outcome:?} was answered without reason"))
    }

    /// The age of a value is that of one of its births, and its zone is as marked: for a caller with a largest age,
    /// freshness ends there, and it ends where it was ended.
    fn check_windows(&self, caller: &Caller, value: &Origin, served: &Served<Value>) -> Result<(), Broken> {
        let mut zones = Vec::new();
        let longest = self.cache.policy().leader_age_max;
        let lives = value.births().flat_map(|birth| {
            let ended = self.ended(value, birth);
            // It may have been asked for before.
            let may_be_doubted = self.missed.iter().any(|at| *at + longest >= birth.at);
            let doubted = self.concerning(value, birth).any(|expiry| expiry.doubt);
            [(birth, ended, doubted)].into_iter().chain(may_be_doubted.then_some((birth, ended, true)))
        });
        for (birth, ended, in_doubt) in lives {
            let age = self.now - birth.at;
            // What was expired may count as aged to the end of its freshness.
            if served.age == age || ended.is_some() && served.age > age {
                let past = ended.map_or(Duration::ZERO, |at| self.now - at);
                let cut = ended.map(|at| at - birth.at).filter(|cut| value.windows.ttl.is_none_or(|ttl| *cut < ttl));
                let zone = cut.map_or(value.windows.zone(age), |cut| {
                    Windows { ttl: Some(cut), ..value.windows }.zone(cut.saturating_add(past))
                });
                zones.push(if in_doubt { in_doubt_of(zone, &value.windows) } else { zone });
            }
        }
        law(!zones.is_empty(), || {
            format!("B1: the age of what was born at {:?} is said to be {:?}", value.birth, served.age)
        })?;
        let max_age = caller.call.max_age.filter(|max| served.age > *max);
        let demanding = max_age.is_some() || self.demanding.contains(&caller.flight);
        let honest = |zone: &Zone| match served.stale {
            // What was just loaded goes to those who wait for it, whatever its windows.
            None => served.source == Source::Load || *zone == Zone::Fresh && max_age.is_none(),
            Some(Stale::WhileRevalidate) => *zone == Zone::StaleWhileRevalidate && max_age.is_none(),
            Some(Stale::IfError) => {
                let own = max_age.map_or(*zone, |max| {
                    let ttl = value.windows.ttl.map_or(max, |ttl| ttl.min(max));
                    Windows { ttl: Some(ttl), ..value.windows }.zone(served.age)
                });
                matches!(own, Zone::StaleWhileRevalidate | Zone::StaleIfError) || demanding && *zone == Zone::Fresh
            }
        };
        law(zones.iter().any(honest), || {
            let expiries: Vec<_> =
                self.expiries.iter().filter(|expiry| expiry.key == value.key).rev().take(4).collect();
            format!("law 7: {zones:?} was served as {:?} to {:?}: {value:?}, {expiries:?}", served.stale, caller.call)
        })
    }

    /// When the freshness of what was born then was ended, if it was: at its birth, if its load was asked for before.
    fn ended(&self, value: &Origin, birth: Birth) -> Option<Instant> {
        self.concerning(value, birth).find(|expiry| !expiry.doubt).map(|expiry| expiry.at.max(birth.at))
    }

    /// What ended the freshness of what was born then, or put it in doubt.
    fn concerning(&self, value: &Origin, birth: Birth) -> impl Iterator<Item = &Expiry> {
        self.expiries.iter().filter(move |expiry| {
            let (known, spared) = ((1..=value.knows).contains(&expiry.logged), value.spared.contains(&expiry.number));
            expiry.key == value.key && expiry.number > birth.after && !known && !spared
        })
    }

    /// While it is fresh and nothing can have pushed it out, what was put is there.
    pub(super) fn check_put_is_there(&self, key: Key, answer: &Answer<Value>) -> Result<(), Broken> {
        let Policy { entries_max, weight_max, .. } = *self.cache.policy();
        // Each value weighs one.
        let most = if weight_max == 0 { entries_max } else { entries_max.min(weight_max as u32) };
        let room = self.truth.len() < most as usize;
        let expected = room && self.put_until.get(&key).is_some_and(|until| self.now < *until);
        let there = matches!(answer, Answer::Now(Outcome::Served(served)) if served.stale.is_none());
        law(there || !expected, || format!("law 4: what was put is gone: {answer:?}"))
    }

    /// A flight lands once; an answer of the origin is passed on, and so is a loaded value, whatever the stores do.
    pub(super) fn check_landing(&mut self, flight: FlightId, outcome: &Outcome<Value>) -> Result<(), Broken> {
        let Some(flying) = self.flying.get_mut(&flight) else { return Ok(()) };
        law(!flying.landed, || format!("law 2: {flight:?} lands twice"))?;
        flying.landed = true;
        match flying.load {
            Some(Err(Class::Answer)) => law(matches!(outcome, Outcome::Failed(Failure::Load(Class::Answer))), || {
                format!("law 7: an answer is masked by {outcome:?}")
            }),
            Some(Ok(Brought::Value(value))) => {
                let served = matches!(outcome, Outcome::Served(s) | Outcome::Private(s) if s.value == value);
                law(served, || format!("law 8: a loaded value is answered with {outcome:?}"))
            }
            Some(Ok(Brought::Nothing)) => law(*outcome == Outcome::Absent(Absence::Confirmed), || {
                format!("law 7: the word that there is no such thing is masked by {outcome:?}")
            }),
            _ => Ok(()),
        }
    }

    /// A step may be taken: the flight has not taken too many, it leaves nobody behind, nobody else loads the key, and
    /// the circuits let it pass.
    pub(super) fn check_step(&mut self, flight: FlightId, step: &Step<Key, Value>) -> Result<(), Broken> {
        let Some(flying) = self.flying.get(&flight) else { return Ok(()) };
        law(flying.steps < STEPS_MAX, || format!("law 1: {flight:?} takes more than {STEPS_MAX} steps"))?;
        let left = |caller: &Caller| caller.flight == flight;
        law(!matches!(step, Step::Done { .. }) || !self.callers.iter().any(left), || {
            format!("law 2: {flight:?} is done, and somebody waits for it")
        })?;
        if let Step::Load { key, attempt, deadline, .. } = step {
            let policy = self.cache.policy();
            let due = (self.now + policy.load_deadline).min(flying.launched_at + policy.leader_age_max);
            law(*deadline <= due && *attempt <= policy.load_attempts, || {
                format!("laws 3 and 8: attempt {attempt} until {deadline:?}, past {due:?}")
            })?;
            self.check_single_flight(flight, flying, *key)?;
        }
        self.check_probes(flight, step)
    }

    fn check_single_flight(&self, flight: FlightId, flying: &Flying, key: Key) -> Result<(), Broken> {
        let limit = self.cache.policy().leader_age_max;
        let rival = |(other, rival): &(&FlightId, &Flying)| {
            // Launched without a change in between, and without the one being too old for the other.
            let between = flying.launched_at.max(rival.launched_at) - flying.launched_at.min(rival.launched_at);
            **other != flight
                && matches!(rival.step, Step::Load { key: loaded, .. } if loaded == key)
                && !(rival.alone || flying.alone)
                && rival.fences == flying.fences
                && between < limit
        };
        let found = self.flying.iter().find(rival);
        law(found.is_none(), || format!("law 2: two load key {key} at once, {flight:?} and {:?}", found.map(|it| it.0)))
    }

    /// While open nothing passes; in half-open as many as there are probes, until their leases end.
    fn check_probes(&mut self, flight: FlightId, step: &Step<Key, Value>) -> Result<(), Broken> {
        let state = self.cache.health().store_breaker.state;
        let probe = state == State::HalfOpen && touches_primary(step);
        if touches_primary(step) {
            law(!matches!(state, State::Open { .. }), || format!("law 5: {flight:?} passes an open circuit"))?;
        }
        if state != State::HalfOpen {
            self.flying.values_mut().for_each(|flying| flying.probe = false);
        }
        if let Some(flying) = self.flying.get_mut(&flight) {
            flying.probe = probe;
        }
        let now = self.now;
        let out = |flying: &&Flying| {
            flying.probe && deadline(&flying.step).is_none_or(|deadline| now < deadline + LEASE_GRACE)
        };
        let others = self.flying.iter().filter(|(other, _)| **other != flight).map(|(_, flying)| flying);
        let probes = others.filter(out).count() + usize::from(probe);
        law(!probe || probes <= self.cache.policy().store_breaker_probes as usize, || {
            format!("law 5: {probes} probes are out")
        })
    }

    /// The limits hold, and every failure was counted although something may have stood in for it.
    pub(super) fn check_machine(&self) -> Result<(), Broken> {
        let (stats, policy) = (self.cache.health().stats, self.cache.policy());
        let counted = self.cache.health().load_breaker.stats.failures;
        law(counted <= self.origin_failures, || {
            format!("law 6: {counted} failures count against the origin, {} do", self.origin_failures)
        })?;
        law(stats.flights <= u64::from(policy.flights_max), || format!("law 10: {} flights", stats.flights))?;
        law(stats.owed <= u64::from(policy.journal_max), || format!("law 10: {} owed", stats.owed))?;
        let entries = self.cache.memory_stats().entries;
        law(entries <= u64::from(policy.entries_max), || format!("law 10: {entries} entries"))?;
        law(stats.store_failures == self.store_failures && stats.load_failures == self.load_failures, || {
            format!("law 6: {} and {} failures are counted", stats.store_failures, stats.load_failures)
        })?;
        law(stats.corrupt == self.corrupt, || format!("law 11: {} corrupt reads are counted", stats.corrupt))
    }

    pub(super) fn check_refusal(&self, refusal: Refusal) -> Result<(), Broken> {
        let policy = self.cache.policy();
        let due = match refusal {
            Refusal::TooManyFlights { .. } => self.cache.health().stats.flights >= u64::from(policy.flights_max),
            Refusal::TooManyWaiters { max } => max == policy.waiters_max as usize,
            Refusal::KeyTooLong { .. }
            | Refusal::ValueTooLarge { .. }
            | Refusal::TooManyTags { .. }
            | Refusal::TagTooLong { .. }
            | Refusal::Reentrant => false,
        };
        law(due, || format!("law 10: {refusal:?} without reason"))
    }

    /// Nothing is under way, nobody waits, and whatever happened the next one is let through to store and origin.
    ///
    /// # Errors
    ///
    /// The law that is broken.
    pub fn check_rest(&self) -> Result<(), Broken> {
        let flights = self.cache.health().stats.flights;
        law(flights == 0 && self.flying.is_empty(), || format!("law 2: {flights} flights are left"))?;
        law(self.callers.is_empty(), || format!("law 2: {} callers are left", self.callers.len()))?;
        self.check_ends()?;
        let mut later = self.clone();
        later.heal()?;
        let health = later.cache.health();
        law(health.stats.owed == 0 && health.stats.owed_tags == 0 && !health.owes_clear, || {
            format!("law 9: still owed: {health:?}")
        })?;
        let closed = health.store_breaker.state == State::Closed;
        law(!later.cache.policy().store || closed, || format!("law 5: {:?}", health.store_breaker))?;
        later.check_trust()
    }

    /// How many ends of loads are counted.
    pub(super) fn ends(&self) -> u64 {
        let stats = self.cache.health().stats;
        stats.counts().filter(|(name, _)| name.starts_with("ended_")).map(|(_, count)| count).sum()
    }

    /// A clear starts the counts anew. So many loads had ended by then; those under way are still to be counted.
    pub(super) fn count_anew(&mut self, ends: u64) {
        (self.store_failures, self.load_failures, self.corrupt) = (0, 0, 0);
        self.loads -= ends;
    }

    /// Each load ended once.
    fn check_ends(&self) -> Result<(), Broken> {
        let ends = self.ends();
        law(ends == self.loads, || format!("law 6: {} loads began, {ends} ends are counted", self.loads))
    }

    /// Everything works again: time passes and debts are paid.
    fn heal(&mut self) -> Result<(), Broken> {
        const NEW: Key = 250;
        for probe in 0..4 {
            self.now = self.now + Duration::from_secs(61);
            self.maintain()?;
            self.drain()?;
            let loads = self.cache.health().stats.loads;
            self.lookup(NEW + probe, Asked::default())?;
            let asked = self.flying.values().any(|flying| touches_primary(&flying.step));
            self.drain()?;
            law(probe == 0 || asked || !self.cache.policy().store, || "law 5: the store is not asked".to_owned())?;
            law(self.cache.health().stats.loads > loads, || "law 5: the origin is not asked".to_owned())?;
        }
        Ok(())
    }

    /// What the stores would give now, memory aside, is not older than the newest change of each key.
    ///
    /// # Errors
    ///
    /// The law that is broken.
    pub fn check_trust(&self) -> Result<(), Broken> {
        for key in self.floors.keys() {
            for with_store in [true, false] {
                let mut probe = self.clone();
                probe.forget();
                let before = probe.flying.clone();
                probe.lookup(*key, Asked { read_only: true, max_age: None })?;
                let new: Vec<FlightId> = probe.flying().into_iter().filter(|id| !before.contains_key(id)).collect();
                for flight in new {
                    probe.read_through(flight, with_store)?;
                }
            }
        }
        Ok(())
    }

    /// Pushes everything out of memory, with puts of other keys.
    fn forget(&mut self) {
        self.put_until.clear();
        for key in (100..).take(self.cache.policy().entries_max as usize) {
            let value = self.value(self.origin(key, 0));
            let _not_flown = self.cache.command(Command::Put { key, value, windows: None }, self.now);
        }
    }

    fn read_through(&mut self, flight: FlightId, with_store: bool) -> Result<(), Broken> {
        while let Some(flying) = self.flying.get(&flight) {
            let away = touches_primary(&flying.step) && !with_store;
            self.answer(flight, if away { Reply::Rejects } else { Reply::Well })?;
        }
        Ok(())
    }
}

/// Whether two changes were made at the same time, as far as civil clocks can tell.
pub(super) fn at_once(one: &Stamp, other: &Stamp) -> bool {
    let (one, other) = (one.changed_at.as_unix_millis(), other.changed_at.as_unix_millis());
    one.abs_diff(other) <= 1
}

/// When a step must have ended.
pub(super) fn deadline(step: &Step<Key, Value>) -> Option<Instant> {
    match step {
        Step::ReadStore { deadline, .. }
        | Step::Load { deadline, .. }
        | Step::WriteStore { deadline, .. }
        | Step::RemoveStore { deadline, .. }
        | Step::ClearStore { deadline, .. }
        | Step::InvalidateStore { deadline, .. }
        | Step::AcquireLease { deadline, .. } => Some(*deadline),
        _ => None,
    }
}

/// Doubt takes freshness away.
fn in_doubt_of(zone: Zone, windows: &Windows) -> Zone {
    match zone {
        Zone::Fresh if windows.stale_while_revalidate.is_zero() => Zone::StaleIfError,
        Zone::Fresh => Zone::StaleWhileRevalidate,
        zone => zone,
    }
}
