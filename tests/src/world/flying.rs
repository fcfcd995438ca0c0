//! How steps are answered and flights followed.

use std::time::Duration;

use tideover_core::stamp::{Condition, Intent, Written};
use tideover_core::{
    Absence, Class, Entry, Event, FlightId, Found, Instant, Launch, Leased, Left, LoadFailure, Loaded, Note, Outcome,
    Sharing, Step, StoreFailure, Tier,
};

use super::others::civil;
use super::{
    ANSWERS_MAX, Birth, Broken, Brought, Caller, Flying, Key, MACHINE, Origin, Remembered, Reply, Stored, Value, World,
    oracle,
};

impl World {
    /// The ways in which the present step of `flight` can be answered.
    #[must_use]
    pub fn replies(&self, flight: FlightId) -> Vec<Reply> {
        let Some(flying) = self.flying.get(&flight) else { return Vec::new() };
        let mut replies = vec![Reply::Well];
        match &flying.step {
            Step::ReadStore { tier, key, .. } => {
                let present = self.held(*tier, *key).map(|stored| stored.stamp.version);
                if present != flying.seen.map(|stored| stored.stamp.version) {
                    replies.push(Reply::AsItBegan);
                }
                replies.extend([Reply::Fails, Reply::TimesOut, Reply::Rejects, Reply::Overloads, Reply::Corrupt]);
            }
            Step::Load { previous, .. } => {
                replies.extend([
                    Reply::Fails,
                    Reply::TimesOut,
                    Reply::NotFound,
                    Reply::Panics,
                    Reply::Private,
                    Reply::Share,
                    Reply::Absent,
                    Reply::Isolated,
                ]);
                // An origin that does not lie. Without a previous value it is the loader that breaks its contract.
                if previous.as_ref().is_none_or(|previous| self.origin_of(previous.value).version == flying.version) {
                    replies.push(Reply::NotModified);
                }
            }
            Step::WriteStore { .. }
            | Step::RemoveStore { .. }
            | Step::ClearStore { .. }
            | Step::InvalidateStore { .. } => {
                if flying.applied.is_none() {
                    replies.push(Reply::Applies);
                }
                replies.extend([Reply::Fails, Reply::TimesOut, Reply::Rejects, Reply::Overloads]);
            }
            Step::AcquireLease { .. } => {
                replies.extend([Reply::Fails, Reply::TimesOut, Reply::Rejects, Reply::Overloads]);
            }
            Step::AwaitLease { .. } => replies.push(Reply::AsItBegan),
            Step::Sleep { .. } | Step::Wait | Step::Land { .. } | Step::Done { .. } => {}
        }
        replies.extend([Reply::Resigned, Reply::Abandoned]);
        replies
    }

    /// Answers the present step of `flight`.
    ///
    /// # Errors
    ///
    /// As [`World::lookup`].
    pub fn answer(&mut self, flight: FlightId, reply: Reply) -> Result<(), Broken> {
        let Some(flying) = self.flying.get(&flight).cloned() else { return Ok(()) };
        let failed = match reply {
            Reply::Fails => Some(StoreFailure::Unavailable),
            Reply::TimesOut => Some(StoreFailure::TimedOut),
            Reply::Rejects => Some(StoreFailure::Rejected),
            Reply::Overloads => Some(StoreFailure::Overloaded),
            _ => None,
        };
        match reply {
            Reply::Abandoned => return self.resume(flight, Event::Abandoned),
            Reply::Resigned => return self.resign(flight),
            _ => {}
        }
        let event = match flying.step.clone() {
            Step::ReadStore { tier, key, .. } => {
                let found = if reply == Reply::AsItBegan { flying.seen } else { self.held(tier, key) };
                self.count(tier, reply, failed.is_some());
                Event::StoreRead(match (reply, failed) {
                    (Reply::Corrupt, _) => {
                        let version = found.map(|stored| stored.stamp.version);
                        Err(StoreFailure::Corrupt { version })
                    }
                    (_, Some(failure)) => Err(failure),
                    _ => Ok(found.map_or(Found::NOTHING, |stored| self.found(stored))),
                })
            }
            Step::Load { key, previous, .. } => self.loaded(flight, key, previous, reply),
            Step::Sleep { until } => {
                self.now = self.now.max(until);
                Event::Slept
            }
            Step::Land { .. } => Event::Landed,
            Step::WriteStore { tier, .. } | Step::RemoveStore { tier, .. } | Step::ClearStore { tier, .. } => {
                if failed.is_none() {
                    self.apply(flight)?;
                }
                if reply == Reply::Applies {
                    return Ok(());
                }
                self.count(tier, reply, failed.is_some());
                let applied = self.flying.get(&flight).and_then(|flying| flying.applied).unwrap_or_default();
                let result = failed.map_or(Ok(applied), Err);
                match flying.step {
                    Step::WriteStore { .. } => Event::StoreWritten(result),
                    Step::RemoveStore { .. } => Event::StoreRemoved(result),
                    _ => Event::StoreCleared(result.map(drop)),
                }
            }
            Step::InvalidateStore { .. } => {
                if failed.is_none() {
                    self.apply(flight)?;
                }
                if reply == Reply::Applies {
                    return Ok(());
                }
                self.count(Tier::Primary, reply, failed.is_some());
                Event::StoreInvalidated(failed.map_or(Ok(()), Err))
            }
            Step::AcquireLease { key, .. } => {
                self.count(Tier::Primary, reply, failed.is_some());
                let free_in = self.leased.get(&key).map(|until| *until - self.now).filter(|left| !left.is_zero());
                let answer = free_in.map_or(Leased::Held, |free_in| Leased::Elsewhere { free_in });
                Event::LeaseAnswered(failed.map_or(Ok(answer), Err))
            }
            Step::AwaitLease { key, until } => {
                if reply == Reply::AsItBegan {
                    // Whoever had it has given it back.
                    self.leased.remove(&key);
                } else {
                    self.now = self.now.max(until);
                }
                Event::LeaseAwaited
            }
            Step::Wait | Step::Done { .. } => return Ok(()),
        };
        if failed.is_none() && oracle::touches_primary(&flying.step) {
            // What a store answers, it answers after everything that was noted there before.
            self.tell();
        }
        self.resume(flight, event)
    }

    /// Answers everything well until nothing is left to answer.
    ///
    /// # Errors
    ///
    /// As [`World::lookup`].
    pub fn drain(&mut self) -> Result<(), Broken> {
        for _ in 0..ANSWERS_MAX {
            let Some(flight) = self.flying().first().copied() else { return self.expire() };
            self.answer(flight, Reply::Well)?;
        }
        Err(format!("law 2: no end after {ANSWERS_MAX} good answers"))
    }

    pub(super) fn count(&mut self, tier: Tier, reply: Reply, failed: bool) {
        if tier == Tier::Primary {
            self.store_failures += u64::from(failed);
            self.corrupt += u64::from(reply == Reply::Corrupt);
        }
    }

    /// The caller that led `flight`, if it still waits, goes away with its loader.
    pub(super) fn resign(&mut self, flight: FlightId) -> Result<(), Broken> {
        let event = match self.callers.iter().position(|caller| caller.flight == flight && caller.led) {
            Some(place) => {
                self.callers.swap_remove(place);
                if self.cache.leave(flight) == Left::Abandon { Event::Abandoned } else { Event::Resigned }
            }
            None => Event::Resigned,
        };
        self.resume(flight, event)
    }

    pub(super) fn loaded(
        &mut self,
        flight: FlightId,
        key: Key,
        previous: Option<Entry<Value>>,
        reply: Reply,
    ) -> Event<Value> {
        let Some(&Flying { version, after, .. }) = self.flying.get(&flight) else { return Event::Abandoned };
        let failed = match reply {
            Reply::Fails => Some(Class::Unavailable),
            Reply::TimesOut => Some(Class::TimedOut),
            Reply::NotFound => Some(Class::Answer),
            Reply::Panics => Some(Class::Panicked),
            Reply::Isolated => Some(Class::Isolated),
            Reply::NotModified if previous.is_none() => Some(Class::Panicked),
            _ => None,
        };
        let sharing = match reply {
            Reply::Private => Sharing::Private,
            Reply::Share => Sharing::Share,
            _ => Sharing::Store,
        };
        let birth = Birth { at: self.now, after };
        let result = match (failed, reply, previous) {
            (Some(class), _, _) => Err(class),
            (None, Reply::Absent, _) => Ok(Brought::Nothing),
            (None, Reply::NotModified, Some(previous)) => {
                self.values[previous.value.number as usize].renewed.push(birth);
                Ok(Brought::Value(previous.value))
            }
            _ => {
                let new = Origin { sharing, birth, ..self.origin(key, version) };
                Ok(Brought::Value(self.value(new)))
            }
        };
        self.load_failures += u64::from(failed.is_some());
        self.origin_failures +=
            u64::from(failed.is_some_and(|class| !matches!(class, Class::Answer | Class::Isolated)));
        if sharing == Sharing::Private {
            self.private.insert(key, self.now + self.cache.policy().private_for);
        }
        if let Some(flying) = self.flying.get_mut(&flight) {
            flying.load = Some(result);
        }
        Event::Loaded(match (result, reply) {
            (Err(class), _) if reply != Reply::NotModified => Err(LoadFailure::from(class)),
            (Ok(Brought::Nothing), _) => Ok(Loaded::absent(None, &[])),
            (_, Reply::NotModified) => Ok(Loaded::NotModified { age: Duration::ZERO, windows: None }),
            (Ok(Brought::Value(value)), _) => Ok(Loaded::Value { value, age: Duration::ZERO, windows: None, sharing }),
            (Err(class), _) => Err(LoadFailure::from(class)),
        })
    }

    /// The change that `flight` is to make takes effect, once.
    pub(super) fn apply(&mut self, flight: FlightId) -> Result<(), Broken> {
        let Some(flying) = self.flying.get_mut(&flight).filter(|flying| flying.applied.is_none()) else {
            return Ok(());
        };
        flying.applied = Some(Written::Kept);
        let asked_at = flying.asked_at;
        match flying.step.clone() {
            Step::WriteStore { tier, key, entry, intent, .. } => {
                let born_at = Instant::ZERO + (asked_at - Instant::ZERO).saturating_sub(entry.age);
                let stamp = intent.stamp(MACHINE, civil(asked_at));
                let stored = Stored { value: entry.value, born_at, windows: entry.windows, stamp, gone: None };
                self.replace(flight, tier, key, stored, intent)
            }
            Step::RemoveStore { tier: Tier::Fallback, key, .. } => {
                self.fallback.remove(&key);
                Ok(())
            }
            Step::RemoveStore { tier, key, intent, fence_for, .. } => {
                // A tombstone is as new as what was true when it was asked for.
                let value = self.removals.remove(&flight).unwrap_or(Value { number: u32::MAX, tags: &[] });
                let (stamp, gone) = (intent.stamp(MACHINE, civil(asked_at)), Some(self.now + fence_for));
                let stored = Stored { value, born_at: self.now, windows: self.windows, stamp, gone };
                self.replace(flight, tier, key, stored, intent)
            }
            Step::ClearStore { tier: Tier::Primary, .. } if self.cache.policy().store_log => {
                self.log_note(Note::Cleared, asked_at, true);
                Ok(())
            }
            Step::ClearStore { tier, .. } => {
                if tier == Tier::Primary {
                    // Without a log a clear takes what is newer with it, and nobody can tell.
                    self.store_floors.clear();
                    self.rivals.clear();
                }
                self.store_mut(tier).clear();
                Ok(())
            }
            Step::InvalidateStore { tag, how, made_ago, .. } => {
                let at = Instant::ZERO + (asked_at - Instant::ZERO).saturating_sub(made_ago);
                self.log_note(Note::Invalidated(tag, how), at, true);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn replace(
        &mut self,
        flight: FlightId,
        tier: Tier,
        key: Key,
        stored: Stored,
        intent: Intent,
    ) -> Result<(), Broken> {
        let held = self.held(tier, key).map(|held| held.stamp);
        if tier == Tier::Primary && !intent.condition.admits(held.as_ref(), &stored.stamp) {
            if let Some(flying) = self.flying.get_mut(&flight) {
                flying.applied = Some(Written::Overtaken);
            }
            // Somebody else's is newer: what is in memory goes.
            self.put_until.insert(key, Instant::ZERO);
            return Ok(());
        }
        self.store_mut(tier).insert(key, stored);
        match (tier, intent.condition) {
            (Tier::Fallback, _) => Ok(()),
            // Who changes the same key at the same time comes before it or after it.
            (Tier::Primary, Condition::Always) => self.trust_store(key),
            // Nobody knows which of two came first in the same millisecond.
            (Tier::Primary, Condition::Newest) if held.is_some_and(|held| oracle::at_once(&held, &stored.stamp)) => {
                self.trust_store(key)
            }
            (Tier::Primary, _) => self.check_store(key),
        }
    }

    pub(super) fn resume(&mut self, flight: FlightId, event: Event<Value>) -> Result<(), Broken> {
        let step = self.cache.resume(flight, event, self.now);
        self.follow(flight, step)
    }

    /// Flies `launch`; a step that is to wait does not name the `key` that it was asked for.
    pub(super) fn launch(&mut self, launch: Launch<Key, Value>, key: Option<Key>) -> Result<(), Broken> {
        let Launch { flight, step } = launch;
        let key = oracle::key_of(&step).or(key);
        let flying = Flying {
            step: Step::Done { next: None },
            key,
            launched_at: self.now,
            fences: key.map_or(0, |key| self.floor(key).1),
            alone: key.is_some_and(|key| self.private.get(&key).is_some_and(|until| self.now < *until)),
            seen: None,
            version: 0,
            asked_at: self.now,
            after: self.invalidations,
            applied: None,
            landed: false,
            load: None,
            steps: 0,
            probe: false,
        };
        if self.flying.insert(flight, flying).is_some() {
            return Err(format!("law 2: {flight:?} is launched twice"));
        }
        self.loads += u64::from(self.loads_with(&step));
        self.follow(flight, step)
    }

    /// Whether a flight that begins with `step` is there to load.
    pub(super) fn loads_with(&self, step: &Step<Key, Value>) -> bool {
        match step {
            Step::Load { .. } | Step::Wait | Step::AcquireLease { .. } => true,
            Step::ReadStore { .. } => !self.reading,
            Step::Land { outcome, .. } => {
                !self.reading && !matches!(outcome, Outcome::Settled(_) | Outcome::Absent(Absence::NotLoaded))
            }
            _ => false,
        }
    }

    /// Launches a flight that a step of another one named.
    pub(super) fn launch_next(&mut self, next: Option<FlightId>, key: Option<Key>) -> Result<(), Broken> {
        let Some(flight) = next else { return Ok(()) };
        let step = self.cache.resume(flight, Event::Launched, self.now);
        match self.flying.get(&flight) {
            None => self.launch(Launch { flight, step }, key),
            Some(Flying { step: Step::Wait, .. }) => self.follow(flight, step),
            Some(_) => Err(format!("law 2: {flight:?} is launched while it flies")),
        }
    }

    /// Takes note of the next step of `flight`.
    pub(super) fn follow(&mut self, flight: FlightId, step: Step<Key, Value>) -> Result<(), Broken> {
        self.check_step(flight, &step)?;
        let on_its_way = matches!(
            step,
            Step::WriteStore { tier: Tier::Primary, .. }
                | Step::RemoveStore { tier: Tier::Primary, .. }
                | Step::Sleep { .. }
        );
        if !on_its_way {
            self.puts.remove(&flight);
        }
        if let Step::Done { next } = step {
            // Who is to wait at once in its place is a refresh of its key.
            let key = self.flying.remove(&flight).and_then(|flying| flying.key);
            return self.launch_next(next, key);
        }
        let key = oracle::key_of(&step);
        let seen = match &step {
            Step::ReadStore { tier, key, .. } => self.held(*tier, *key),
            _ => None,
        };
        let version = key.and_then(|key| self.truth.get(&key).copied()).unwrap_or(0);
        let landing = if let Step::Land { outcome, next, .. } = &step { Some((outcome.clone(), *next)) } else { None };
        if let Some(flying) = self.flying.get_mut(&flight) {
            flying.key = flying.key.or(key);
            (flying.step, flying.seen, flying.version) = (step, seen, version);
            (flying.asked_at, flying.after) = (self.now, self.invalidations);
            (flying.applied, flying.steps) = (None, flying.steps + 1);
        }
        self.check_machine()?;
        let Some((outcome, beside)) = landing else { return Ok(()) };
        self.land(flight, &outcome)?;
        self.launch_next(beside, None)
    }

    pub(super) fn land(&mut self, flight: FlightId, outcome: &Outcome<Value>) -> Result<(), Broken> {
        self.check_landing(flight, outcome)?;
        self.note_landing(flight, outcome);
        let (landed, waiting) = self.callers.drain(..).partition(|caller: &Caller| caller.flight == flight);
        self.callers = waiting;
        let landed: Vec<Caller> = landed;
        for caller in landed {
            // What is for another caller alone is not for this one: it asks again.
            let again = matches!(outcome, Outcome::Private(_)) && !caller.led || *outcome == Outcome::Again;
            match caller.key.filter(|_| again) {
                Some(key) => self.lookup(key, caller.call)?,
                None => self.check_answer(&caller, outcome)?,
            }
        }
        Ok(())
    }

    /// What a flight that no change has won over lets the machine remember of its key, and forget.
    pub(super) fn note_landing(&mut self, flight: FlightId, outcome: &Outcome<Value>) {
        let Some(flying) = self.flying.get(&flight) else { return };
        let (Some(key), Some(load)) = (flying.key, flying.load) else { return };
        if matches!(outcome, Outcome::Private(_) | Outcome::Absent(_) | Outcome::Failed(_)) {
            // What was put is retracted.
            self.put_until.insert(key, Instant::ZERO);
        }
        let (_, fences) = self.floor(key);
        let policy = self.cache.policy();
        let (class, ttl) = match (load, outcome) {
            (Ok(Brought::Nothing), _) => (None, policy.negative_ttl),
            (Err(class), _) => {
                (Some(class), if class.is_unavailable() { policy.unavailable_ttl } else { policy.answer_ttl })
            }
            (Ok(Brought::Value(_)), _) => return,
        };
        let alone = self.flying.iter().all(|(other, rival)| *other == flight || rival.key != Some(key));
        if flying.fences == fences && alone && class.is_none() && !policy.store && !flying.alone {
            self.retracted.insert(key, self.values.len() as u32);
        }
        let (now, until) = (self.now, self.now + ttl);
        self.remembered.retain(|held| now < held.until);
        self.remembered.push(Remembered { key, class, until, fences: flying.fences });
    }
}
