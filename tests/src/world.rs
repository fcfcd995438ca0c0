//! A model of everything around the machine: an origin whose values have versions, two stores, callers, a clock; and
//! the oracle that checks every answer against the laws of DESIGN section 4.
//!
//! Whoever uses it decides what happens next: which outstanding step is answered and how, who calls, when time
//! passes. The model keeps to the worst that may happen: a load brings the version that was true when it began; a store
//! operation takes effect at any moment between its beginning and its answer, or after a failure was reported for it, or
//! not at all.
//!
//! What it leaves out: a store operation that takes effect *after* its failure was reported. No client of a store without
//! versions can undo that.

mod oracle;

use std::collections::BTreeMap;
use std::time::Duration;

use tideover_core::{
    Answer, Cache, Call, Class, Command, Entry, Event, FlightId, Instant, Launch, Left, LoadFailure, Loaded, Lookup,
    Outcome, Policy, PolicyError, Sharing, Step, StoreFailure, Tier, Windows,
};

/// Keys are small numbers.
pub type Key = u8;

/// A broken law: which, and how.
pub type Broken = String;

/// When so many answers in a row were good ones, everything has ended.
const ANSWERS_MAX: u32 = 100_000;

/// A value, as its number in [`World::values`].
type Value = u32;

/// What is known of a value.
#[derive(Debug, Clone, Copy)]
struct Origin {
    key: Key,
    /// Grows with each change of the key.
    version: u32,
    /// When its age was zero.
    born_at: Instant,
    windows: Windows,
    /// Who may have it, as its loader said.
    sharing: Sharing,
}

/// A step that is to be answered.
#[derive(Clone)]
struct Flying {
    step: Step<Key, Value>,
    launched_at: Instant,
    /// Changes of the key that there had been when the flight was launched, and whether its result was to be private.
    fences: u32,
    alone: bool,
    /// What a read would find, or the version that a load would bring, had it been quick.
    seen: Option<Value>,
    version: u32,
    /// A change that has taken effect already.
    applied: bool,
    landed: bool,
    /// What became of its newest load.
    load: Option<Result<Value, Class>>,
    steps: u32,
    /// Issued while the store's circuit was half-open, for the law about probes.
    probe: bool,
}

/// Somebody who waits.
#[derive(Clone)]
struct Caller {
    flight: FlightId,
    key: Option<Key>,
    /// The oldest version that it may get.
    floor: u32,
    until: Instant,
    led: bool,
}

/// How the world answers a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// As it should be.
    Well,
    /// A read that saw the store as it was when it began.
    AsItBegan,
    /// A change takes effect; the answer is still out.
    Applies,
    /// No answer was had.
    Fails,
    /// No answer came in time.
    TimesOut,
    /// The store refuses for good.
    Rejects,
    /// The store has bytes that are no envelope of ours.
    Corrupt,
    /// The origin says that there is no such thing.
    NotFound,
    /// The loader panicked.
    Panics,
    /// What was loaded is for one caller alone.
    Private,
    /// What was loaded is not to be kept.
    Share,
    /// Whoever flies the flight gives it up.
    Abandoned,
}

/// The machine and all that is around it; see the [module](self).
#[derive(Clone)]
pub struct World {
    cache: Cache<Key, Value>,
    now: Instant,
    windows: Windows,
    values: Vec<Origin>,
    /// The version that is true at the origin.
    truth: BTreeMap<Key, u32>,
    /// The oldest version that a lookup which begins now may get, and how many changes of the key there were.
    floors: BTreeMap<Key, (u32, u32)>,
    /// Until when memory has what was put last, if nothing is pushed out.
    put_until: BTreeMap<Key, Instant>,
    /// Until when each key is known as private.
    private: BTreeMap<Key, Instant>,
    primary: BTreeMap<Key, Value>,
    fallback: BTreeMap<Key, Value>,
    flying: BTreeMap<FlightId, Flying>,
    callers: Vec<Caller>,
    store_failures: u64,
    load_failures: u64,
    corrupt: u64,
    answered: u64,
}

impl World {
    /// An empty world with a machine for `policy`.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] as [`Cache::new`] finds it.
    pub fn new(policy: Policy, seed: u64) -> Result<Self, PolicyError> {
        Ok(Self {
            windows: policy.windows(),
            cache: Cache::new(policy, seed)?,
            now: Instant::ZERO,
            values: Vec::new(),
            truth: BTreeMap::new(),
            floors: BTreeMap::new(),
            put_until: BTreeMap::new(),
            private: BTreeMap::new(),
            primary: BTreeMap::new(),
            fallback: BTreeMap::new(),
            flying: BTreeMap::new(),
            callers: Vec::new(),
            store_failures: 0,
            load_failures: 0,
            corrupt: 0,
            answered: 0,
        })
    }

    /// What the clock reads.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The machine.
    #[must_use]
    pub fn cache(&self) -> &Cache<Key, Value> {
        &self.cache
    }

    /// The flights that wait for an answer to their step.
    #[must_use]
    pub fn flying(&self) -> Vec<FlightId> {
        self.flying.keys().copied().collect()
    }

    /// The step that `flight` waits with.
    #[must_use]
    pub fn step(&self, flight: FlightId) -> Option<&Step<Key, Value>> {
        self.flying.get(&flight).map(|flying| &flying.step)
    }

    /// How many callers wait.
    #[must_use]
    pub fn callers(&self) -> usize {
        self.callers.len()
    }

    /// How many callers got an answer.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// The next moment at which a sleeping flight or a waiting caller is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let sleeping = self.flying.values().filter_map(|flying| match flying.step {
            Step::Sleep { until } => Some(until),
            _ => None,
        });
        self.callers.iter().map(|caller| caller.until).chain(sleeping).filter(|due| *due > self.now).min()
    }

    /// The flights whose step should have ended by now.
    #[must_use]
    pub fn overdue(&self) -> Vec<FlightId> {
        let overdue = |flying: &Flying| oracle::deadline(&flying.step).is_some_and(|deadline| deadline <= self.now);
        self.flying.iter().filter(|(_, flying)| overdue(flying)).map(|(flight, _)| *flight).collect()
    }

    /// Another process puts a value into both stores, and then that much time passes.
    pub fn stock(&mut self, key: Key, age: Duration) {
        let version = *self.truth.entry(key).or_default();
        let value = self.value(self.origin(key, version));
        self.primary.insert(key, value);
        self.fallback.insert(key, value);
        self.wait(age);
    }

    /// The origin's value changes, and nobody tells the cache.
    pub fn drift(&mut self, key: Key) {
        *self.truth.entry(key).or_default() += 1;
    }

    /// The shared store restarts empty.
    pub fn lose_store(&mut self) {
        self.primary.clear();
    }

    /// Time passes.
    pub fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Somebody asks for `key`, with or without a loader.
    ///
    /// # Errors
    ///
    /// The law that is broken, as for all that follow.
    pub fn lookup(&mut self, key: Key, read_only: bool) -> Result<(), Broken> {
        self.truth.entry(key).or_default();
        let (floor, _) = self.floor(key);
        let lookup = self.cache.lookup(&key, Call { read_only, ..Call::default() }, self.now);
        self.check_put_is_there(key, &lookup.answer)?;
        self.on_lookup(Some(key), floor, lookup)
    }

    /// Somebody writes a new version to the origin, and then puts it.
    ///
    /// # Errors
    ///
    /// As [`World::lookup`].
    pub fn put(&mut self, key: Key) -> Result<(), Broken> {
        let version = self.change(key);
        let value = self.value(self.origin(key, version));
        let lookup = self.cache.command(Command::Put { key, value, windows: None }, self.now);
        let kept_until = self.windows.ttl.map_or(Instant::NEVER, |ttl| self.now + ttl);
        self.on_change(&[key], Some(kept_until), lookup)
    }

    /// Somebody changes the origin, and then removes the key.
    ///
    /// # Errors
    ///
    /// As [`World::lookup`].
    pub fn remove(&mut self, key: Key) -> Result<(), Broken> {
        self.change(key);
        let lookup = self.cache.command(Command::Remove { key }, self.now);
        self.on_change(&[key], None, lookup)
    }

    /// Somebody changes everything at the origin, and then clears.
    ///
    /// # Errors
    ///
    /// As [`World::lookup`].
    pub fn clear(&mut self) -> Result<(), Broken> {
        let keys: Vec<Key> = self.truth.keys().copied().collect();
        for key in &keys {
            self.change(*key);
        }
        let lookup = self.cache.command(Command::Clear, self.now);
        self.on_change(&keys, None, lookup)
    }

    /// The driver's regular visit.
    ///
    /// # Errors
    ///
    /// As [`World::lookup`].
    pub fn maintain(&mut self) -> Result<(), Broken> {
        let launch = self.cache.maintain(self.now);
        launch.map_or(Ok(()), |launch| self.launch(launch))
    }

    /// The caller at `place` goes away.
    ///
    /// # Errors
    ///
    /// As [`World::lookup`].
    pub fn leave(&mut self, place: usize) -> Result<(), Broken> {
        let flight = self.callers.swap_remove(place).flight;
        match self.cache.leave(flight) {
            Left::Stays => Ok(()),
            Left::Abandon if self.callers.iter().any(|caller| caller.flight == flight) => {
                Err(format!("law 2: {flight:?} is to be abandoned although somebody waits"))
            }
            Left::Abandon => self.resume(flight, Event::Abandoned),
        }
    }

    /// Callers whose time is over are told so.
    ///
    /// # Errors
    ///
    /// As [`World::lookup`].
    pub fn expire(&mut self) -> Result<(), Broken> {
        while let Some(place) = self.callers.iter().position(|caller| caller.until <= self.now) {
            let caller = self.callers.swap_remove(place);
            let outcome = self.cache.expire(caller.flight, self.now);
            self.check_answer(&caller, &outcome)?;
        }
        Ok(())
    }

    /// The ways in which the present step of `flight` can be answered.
    #[must_use]
    pub fn replies(&self, flight: FlightId) -> Vec<Reply> {
        let Some(flying) = self.flying.get(&flight) else { return Vec::new() };
        let mut replies = vec![Reply::Well];
        match &flying.step {
            Step::ReadStore { tier, key, .. } => {
                if self.store(*tier).get(key).copied() != flying.seen {
                    replies.push(Reply::AsItBegan);
                }
                replies.extend([Reply::Fails, Reply::TimesOut, Reply::Rejects, Reply::Corrupt]);
            }
            Step::Load { .. } => replies.extend([
                Reply::Fails,
                Reply::TimesOut,
                Reply::NotFound,
                Reply::Panics,
                Reply::Private,
                Reply::Share,
            ]),
            Step::WriteStore { .. } | Step::RemoveStore { .. } | Step::ClearStore { .. } => {
                if !flying.applied {
                    replies.push(Reply::Applies);
                }
                replies.extend([Reply::Fails, Reply::TimesOut, Reply::Rejects]);
            }
            Step::Sleep { .. } | Step::Land { .. } | Step::Done { .. } => {}
        }
        replies.push(Reply::Abandoned);
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
            _ => None,
        };
        if reply == Reply::Abandoned {
            return self.resume(flight, Event::Abandoned);
        }
        let event = match flying.step.clone() {
            Step::ReadStore { tier, key, .. } => {
                let found = if reply == Reply::AsItBegan { flying.seen } else { self.store(tier).get(&key).copied() };
                self.count(tier, reply, failed.is_some());
                Event::StoreRead(match (reply, failed) {
                    (Reply::Corrupt, _) => Err(StoreFailure::Corrupt),
                    (_, Some(failure)) => Err(failure),
                    _ => Ok(found.map(|value| self.entry(value))),
                })
            }
            Step::Load { key, .. } => self.loaded(flight, key, flying.version, reply),
            Step::Sleep { until } => {
                self.now = self.now.max(until);
                Event::Slept
            }
            Step::Land { .. } => Event::Landed,
            Step::WriteStore { tier, .. } | Step::RemoveStore { tier, .. } | Step::ClearStore { tier, .. } => {
                if failed.is_none() {
                    self.apply(flight);
                }
                if reply == Reply::Applies {
                    return Ok(());
                }
                self.count(tier, reply, failed.is_some());
                let result = failed.map_or(Ok(()), Err);
                match flying.step {
                    Step::WriteStore { .. } => Event::StoreWritten(result),
                    Step::RemoveStore { .. } => Event::StoreRemoved(result),
                    _ => Event::StoreCleared(result),
                }
            }
            Step::Done { .. } => return Ok(()),
        };
        self.resume(flight, event)
    }

    /// Answers everything well until nothing is left to answer.
    ///
    /// # Errors
    ///
    /// As [`World::lookup`].
    pub fn drain(&mut self) -> Result<(), Broken> {
        for _ in 0..ANSWERS_MAX {
            let Some(flight) = self.flying.keys().next().copied() else { return self.expire() };
            self.answer(flight, Reply::Well)?;
        }
        Err(format!("law 2: no end after {ANSWERS_MAX} good answers"))
    }

    fn count(&mut self, tier: Tier, reply: Reply, failed: bool) {
        if tier == Tier::Primary {
            self.store_failures += u64::from(failed);
            self.corrupt += u64::from(reply == Reply::Corrupt);
        }
    }

    fn loaded(&mut self, flight: FlightId, key: Key, version: u32, reply: Reply) -> Event<Value> {
        let failed = match reply {
            Reply::Fails => Some(Class::Unavailable),
            Reply::TimesOut => Some(Class::TimedOut),
            Reply::NotFound => Some(Class::Answer),
            Reply::Panics => Some(Class::Panicked),
            _ => None,
        };
        let sharing = match reply {
            Reply::Private => Sharing::Private,
            Reply::Share => Sharing::Share,
            _ => Sharing::Store,
        };
        let result = match failed {
            Some(class) => Err(class),
            None => Ok(self.value(Origin { sharing, ..self.origin(key, version) })),
        };
        self.load_failures += u64::from(failed.is_some());
        if sharing == Sharing::Private {
            self.private.insert(key, self.now + self.cache.policy().private_for);
        }
        if let Some(flying) = self.flying.get_mut(&flight) {
            flying.load = Some(result);
        }
        let loaded = |value| Loaded { value, age: Duration::ZERO, windows: None, sharing };
        Event::Loaded(result.map(loaded).map_err(LoadFailure::from))
    }

    /// The change that `flight` is to make takes effect, once.
    fn apply(&mut self, flight: FlightId) {
        let Some(flying) = self.flying.get_mut(&flight).filter(|flying| !flying.applied) else { return };
        flying.applied = true;
        match flying.step.clone() {
            Step::WriteStore { tier, key, entry, .. } => {
                self.store_mut(tier).insert(key, entry.value);
            }
            Step::RemoveStore { tier, key, .. } => {
                self.store_mut(tier).remove(&key);
            }
            Step::ClearStore { tier, .. } => self.store_mut(tier).clear(),
            _ => {}
        }
    }

    fn resume(&mut self, flight: FlightId, event: Event<Value>) -> Result<(), Broken> {
        let step = self.cache.resume(flight, event, self.now);
        self.follow(flight, step)
    }

    fn launch(&mut self, launch: Launch<Key, Value>) -> Result<(), Broken> {
        let Launch { flight, step } = launch;
        let key = oracle::key_of(&step);
        let flying = Flying {
            step: Step::Done { next: None },
            launched_at: self.now,
            fences: key.map_or(0, |key| self.floor(key).1),
            alone: key.is_some_and(|key| self.private.get(&key).is_some_and(|until| self.now < *until)),
            seen: None,
            version: 0,
            applied: false,
            landed: false,
            load: None,
            steps: 0,
            probe: false,
        };
        if self.flying.insert(flight, flying).is_some() {
            return Err(format!("law 2: {flight:?} is launched twice"));
        }
        self.follow(flight, step)
    }

    /// Takes note of the next step of `flight`.
    fn follow(&mut self, flight: FlightId, step: Step<Key, Value>) -> Result<(), Broken> {
        self.check_step(flight, &step)?;
        match &step {
            Step::Done { .. } => {
                self.flying.remove(&flight);
            }
            Step::Land { outcome } => self.land(flight, outcome)?,
            _ => {}
        }
        if let Step::Done { next } = step {
            return next.map_or(Ok(()), |next| self.launch(*next));
        }
        let key = oracle::key_of(&step);
        let seen = match &step {
            Step::ReadStore { tier, key, .. } => self.store(*tier).get(key).copied(),
            _ => None,
        };
        let version = key.and_then(|key| self.truth.get(&key).copied()).unwrap_or(0);
        if let Some(flying) = self.flying.get_mut(&flight) {
            (flying.step, flying.seen, flying.version) = (step, seen, version);
            (flying.applied, flying.steps) = (false, flying.steps + 1);
        }
        self.check_machine()
    }

    fn land(&mut self, flight: FlightId, outcome: &Outcome<Value>) -> Result<(), Broken> {
        self.check_landing(flight, outcome)?;
        let (landed, waiting) = self.callers.drain(..).partition(|caller: &Caller| caller.flight == flight);
        self.callers = waiting;
        let landed: Vec<Caller> = landed;
        for caller in landed {
            // What is for another caller alone is not for this one: it asks again.
            if matches!(outcome, Outcome::Private(_)) && !caller.led {
                if let Some(key) = caller.key {
                    self.lookup(key, false)?;
                }
            } else {
                self.check_answer(&caller, outcome)?;
            }
        }
        Ok(())
    }

    fn on_lookup(&mut self, key: Option<Key>, floor: u32, lookup: Lookup<Key, Value>) -> Result<(), Broken> {
        let Lookup { answer, launch } = lookup;
        let led = launch.as_ref().map(|launch| launch.flight);
        let caller = |flight, until| Caller { flight, key, floor, until, led: led == Some(flight) };
        match answer {
            Answer::Pending { flight, until } => self.callers.push(caller(flight, until)),
            Answer::Now(outcome) => self.check_answer(&caller(FlightId(0), self.now), &outcome)?,
            Answer::Refused(refusal) => self.check_refusal(refusal)?,
        }
        launch.map_or(Ok(()), |launch| self.launch(launch))
    }

    /// From here on nobody may get what was true before; unless the change was refused.
    fn on_change(
        &mut self,
        keys: &[Key],
        kept_until: Option<Instant>,
        lookup: Lookup<Key, Value>,
    ) -> Result<(), Broken> {
        if !matches!(lookup.answer, Answer::Refused(_)) {
            for key in keys {
                let (_, fences) = self.floor(*key);
                self.floors.insert(*key, (self.truth.get(key).copied().unwrap_or(0), fences + 1));
                self.put_until.insert(*key, kept_until.unwrap_or(Instant::ZERO));
            }
        }
        self.on_lookup(None, 0, lookup)
    }

    fn change(&mut self, key: Key) -> u32 {
        let truth = self.truth.entry(key).or_default();
        *truth += 1;
        *truth
    }

    fn floor(&self, key: Key) -> (u32, u32) {
        self.floors.get(&key).copied().unwrap_or_default()
    }

    /// A value for everybody, as new as can be.
    fn origin(&self, key: Key, version: u32) -> Origin {
        Origin { key, version, born_at: self.now, windows: self.windows, sharing: Sharing::Store }
    }

    fn value(&mut self, origin: Origin) -> Value {
        self.values.push(origin);
        (self.values.len() - 1) as Value
    }

    fn entry(&self, value: Value) -> Entry<Value> {
        let Origin { born_at, windows, .. } = self.values[value as usize];
        Entry { age: self.now - born_at, ..Entry::new(value, windows) }
    }

    fn store(&self, tier: Tier) -> &BTreeMap<Key, Value> {
        if tier == Tier::Primary { &self.primary } else { &self.fallback }
    }

    fn store_mut(&mut self, tier: Tier) -> &mut BTreeMap<Key, Value> {
        if tier == Tier::Primary { &mut self.primary } else { &mut self.fallback }
    }
}
