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

mod flying;
mod oracle;
mod others;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tideover_core::stamp::{Condition, Stamp, Written};
use tideover_core::{
    Answer, Cache, Call, Class, Command, Entry, Event, FlightId, Instant, Invalidation, Left, Lookup, News, Note,
    Policy, PolicyError, Sharing, Step, Tag, Tier, Windows,
};

/// Keys are small numbers.
pub type Key = u8;

/// A broken law: which, and how.
pub type Broken = String;

/// When so many answers in a row were good ones, everything has ended.
const ANSWERS_MAX: u32 = 100_000;

/// A value, as its number in the list of all values, with the tags that it bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    number: u32,
    tags: &'static [Tag],
}

impl tideover_core::Value for Value {
    fn tags(&self) -> &[Tag] {
        self.tags
    }
}

/// What is known of a value.
#[derive(Debug, Clone)]
struct Origin {
    key: Key,
    /// Grows with each change of the key.
    version: u32,
    birth: Birth,
    /// When it was found to be still true.
    renewed: Vec<Birth>,
    /// Invalidations of other processes that it is newer than: it was on its way to the store when they were learnt.
    spared: Vec<u64>,
    /// How far the process knew the log that had it from the origin.
    knows: u64,
    windows: Windows,
    /// Who may have it, as its loader said.
    sharing: Sharing,
}

impl Origin {
    fn births(&self) -> impl Iterator<Item = Birth> {
        self.renewed.iter().copied().chain([self.birth])
    }
}

/// When the age of a value was zero.
#[derive(Debug, Clone, Copy)]
struct Birth {
    at: Instant,
    /// How many invalidations there had been when it was asked for.
    after: u64,
}

/// The freshness of a key, or of all keys with a tag, was ended.
#[derive(Debug, Clone, Copy)]
struct Expiry {
    key: Key,
    at: Instant,
    /// Which one of the invalidations.
    number: u64,
    /// Its place in the log, if another process noted it.
    logged: u64,
    /// Nobody knows whether it was: what was there is in doubt.
    doubt: bool,
}

/// A copy in a store.
#[derive(Debug, Clone, Copy)]
struct Stored {
    value: Value,
    born_at: Instant,
    windows: Windows,
    stamp: Stamp,
    /// Only the stamp is left, until then.
    gone: Option<Instant>,
}

/// Who writes to the shared store; all others have greater numbers.
const MACHINE: u64 = 1;

/// What stands in the log of the shared store.
#[derive(Debug, Clone)]
struct Noted {
    number: u64,
    at: Instant,
    own: bool,
    note: Note,
    /// The keys that it reaches, and the versions that were true then.
    reached: Vec<(Key, u32)>,
}

/// A load of another process, which will write what it brings.
#[derive(Debug, Clone, Copy)]
struct Rival {
    key: Key,
    value: Value,
    condition: Condition,
    born: u64,
    began_at: Instant,
}

/// What a load brought, if it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brought {
    Value(Value),
    Nothing,
}

/// What may be remembered of a key in place of a value.
#[derive(Debug, Clone, Copy)]
struct Remembered {
    key: Key,
    /// `None` for an absence.
    class: Option<Class>,
    until: Instant,
    /// Changes of the key that there had been.
    fences: u32,
}

/// A step that is to be answered.
#[derive(Clone)]
struct Flying {
    step: Step<Key, Value>,
    /// The key, as far as a step has named it.
    key: Option<Key>,
    launched_at: Instant,
    /// Changes of the key that there had been when the flight was launched, and whether its result was to be private.
    fences: u32,
    alone: bool,
    /// What a read would find, or the version that a load would bring, had it been quick.
    seen: Option<Stored>,
    version: u32,
    /// When its present step was issued, and how many invalidations there had been.
    asked_at: Instant,
    after: u64,
    /// A change that has taken effect already, or was refused.
    applied: Option<Written>,
    landed: bool,
    /// What became of its newest load.
    load: Option<Result<Brought, Class>>,
    steps: u32,
    /// Issued while the store's circuit was half-open, for the law about probes.
    probe: bool,
}

/// Somebody who waits.
#[derive(Clone)]
struct Caller {
    flight: FlightId,
    key: Option<Key>,
    /// The oldest version that it may get, and the oldest one as a fresh one.
    floor: u32,
    fresh_floor: u32,
    /// Changes of the key that there had been.
    fences: u32,
    call: Asked,
    until: Instant,
    deadline: Instant,
    led: bool,
}

/// What a lookup asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Without a loader.
    pub read_only: bool,
    /// What is older does not do.
    pub max_age: Option<Duration>,
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
    /// The store was not asked, because of as much before it.
    Overloads,
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
    /// What the loader was told of is still true.
    NotModified,
    /// There is no such thing.
    Absent,
    /// This key cannot be loaded, others can.
    Isolated,
    /// The caller that led goes, and its loader with it.
    Resigned,
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
    /// The oldest version that it may get as a fresh one.
    fresh_floors: BTreeMap<Key, u32>,
    /// The tags of each key's values.
    tags: fn(Key) -> &'static [Tag],
    invalidations: u64,
    expiries: Vec<Expiry>,
    remembered: Vec<Remembered>,
    /// Values older than this were retracted by the origin's word that there is no such thing.
    retracted: BTreeMap<Key, u32>,
    /// Flights that somebody with a largest age has joined.
    demanding: BTreeSet<FlightId>,
    /// Until when memory has what was put last, if nothing is pushed out.
    put_until: BTreeMap<Key, Instant>,
    /// Until when each key is known as private.
    private: BTreeMap<Key, Instant>,
    primary: BTreeMap<Key, Stored>,
    fallback: BTreeMap<Key, Stored>,
    /// The log of the shared store, which numbers begin anew with each restart of it but never repeat, and how much of it
    /// the machine was told.
    log: Vec<Noted>,
    logged: u64,
    told: u64,
    /// Puts that are on their way to the store.
    puts: BTreeMap<FlightId, (Key, Value)>,
    /// What was true when a removal was asked for.
    removals: BTreeMap<FlightId, Value>,
    rivals: Vec<Rival>,
    /// Changes by others that the machine has not been told of, with the versions that they brought.
    untold: Vec<(Key, u32)>,
    /// Leases of other processes, each until then.
    leased: BTreeMap<Key, Instant>,
    /// When changes may have been missed: what was in memory or the fallback then is in doubt, what the store has is not.
    missed: Vec<Instant>,
    /// Writes of all others so far.
    others: u64,
    /// The oldest version that the shared store may have of a key: nothing undoes what was changed there.
    store_floors: BTreeMap<Key, u32>,
    flying: BTreeMap<FlightId, Flying>,
    callers: Vec<Caller>,
    store_failures: u64,
    load_failures: u64,
    /// Of those, the ones that say something of the origin.
    origin_failures: u64,
    /// Flights launched to load.
    loads: u64,
    /// What is being launched is for a caller without a loader.
    reading: bool,
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
        let mut cache = Cache::new(policy, seed)?;
        // Where the log begins.
        cache.learn(News { number: 0, ago: Duration::ZERO, own: false, note: Note::Unknown }, Instant::ZERO);
        Ok(Self {
            windows: cache.policy().windows(),
            cache,
            now: Instant::ZERO,
            values: Vec::new(),
            truth: BTreeMap::new(),
            floors: BTreeMap::new(),
            fresh_floors: BTreeMap::new(),
            tags: |_| &[],
            invalidations: 0,
            expiries: Vec::new(),
            remembered: Vec::new(),
            retracted: BTreeMap::new(),
            demanding: BTreeSet::new(),
            put_until: BTreeMap::new(),
            private: BTreeMap::new(),
            primary: BTreeMap::new(),
            fallback: BTreeMap::new(),
            log: Vec::new(),
            logged: 0,
            told: 0,
            puts: BTreeMap::new(),
            removals: BTreeMap::new(),
            rivals: Vec::new(),
            untold: Vec::new(),
            leased: BTreeMap::new(),
            missed: Vec::new(),
            others: 0,
            store_floors: BTreeMap::new(),
            flying: BTreeMap::new(),
            callers: Vec::new(),
            store_failures: 0,
            load_failures: 0,
            origin_failures: 0,
            loads: 0,
            reading: false,
            corrupt: 0,
            answered: 0,
        })
    }

    /// The same world, in which the values of each key bear these tags.
    #[must_use]
    pub fn tagged(self, tags: fn(Key) -> &'static [Tag]) -> Self {
        Self { tags, ..self }
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

    /// The flights that wait for an answer to their step; without those that are put aside.
    #[must_use]
    pub fn flying(&self) -> Vec<FlightId> {
        let answerable = |(_, flying): &(&FlightId, &Flying)| !matches!(flying.step, Step::Wait);
        self.flying.iter().filter(answerable).map(|(flight, _)| *flight).collect()
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
            Step::Sleep { until } | Step::AwaitLease { until, .. } => Some(until),
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
        let stamp = self.others_stamp(self.logged);
        let stored = Stored { value, born_at: self.now, windows: self.windows, stamp, gone: None };
        self.primary.insert(key, stored);
        if value.tags.is_empty() {
            self.fallback.insert(key, stored);
        }
        self.wait(age);
    }

    /// The origin's value changes, and nobody tells the cache.
    pub fn drift(&mut self, key: Key) {
        *self.truth.entry(key).or_default() += 1;
    }

    /// The shared store restarts empty: nobody knows what was noted in the end.
    pub fn lose_store(&mut self) {
        self.primary.clear();
        self.store_floors.clear();
        self.rivals.clear();
        self.log_note(Note::Unknown, self.now, false);
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
    pub fn lookup(&mut self, key: Key, asked: Asked) -> Result<(), Broken> {
        self.truth.entry(key).or_default();
        let Asked { read_only, max_age } = asked;
        let lookup = self.cache.lookup(&key, Call { read_only, max_age, ..Call::default() }, self.now);
        if max_age.is_none() {
            self.check_put_is_there(key, &lookup.answer)?;
        }
        self.on_lookup(Some(key), asked, lookup)
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
        let kept_for = self.windows.ttl.into_iter().chain(self.cache.policy().time_to_idle).min();
        let kept_until = kept_for.map_or(Instant::NEVER, |time| self.now + time);
        if let Answer::Pending { flight, .. } = lookup.answer {
            self.puts.insert(flight, (key, value));
        }
        self.on_change(&[key], Some(kept_until), lookup)
    }

    /// Somebody changes the origin, and then removes the key.
    ///
    /// # Errors
    ///
    /// As [`World::lookup`].
    pub fn remove(&mut self, key: Key) -> Result<(), Broken> {
        let version = self.change(key);
        let lookup = self.cache.command(Command::Remove { key }, self.now);
        if let Answer::Pending { flight, .. } = lookup.answer {
            let value = self.value(self.origin(key, version));
            self.removals.insert(flight, value);
        }
        self.on_change(&[key], None, lookup)
    }

    /// Somebody changes the origin, and then ends the freshness of the key.
    ///
    /// # Errors
    ///
    /// As [`World::lookup`].
    pub fn expire_key(&mut self, key: Key) -> Result<(), Broken> {
        self.change(key);
        let lookup = self.cache.command(Command::Expire { key }, self.now);
        if !matches!(lookup.answer, Answer::Refused(_)) {
            self.expire_values(&[key]);
            self.floors.entry(key).or_default().1 += 1;
        }
        self.on_lookup(None, Asked::default(), lookup)
    }

    /// Somebody changes the origin of every key with that tag, and then invalidates the tag.
    ///
    /// # Errors
    ///
    /// As [`World::lookup`].
    pub fn invalidate(&mut self, tag: Tag, how: Invalidation) -> Result<(), Broken> {
        let bearing: Vec<Key> = self.truth.keys().copied().filter(|key| (self.tags)(*key).contains(&tag)).collect();
        for key in &bearing {
            self.change(*key);
        }
        let lookup = self.cache.command(Command::Invalidate { tag, how }, self.now);
        self.expire_values(&bearing);
        if how == Invalidation::Remove {
            for key in bearing {
                self.floors.entry(key).or_default().0 = self.truth[&key];
            }
        }
        self.on_lookup(None, Asked::default(), lookup)
    }

    /// What was asked for until now is stale at best, and from here on nobody may get it as a fresh one.
    fn expire_values(&mut self, keys: &[Key]) {
        self.invalidations += 1;
        for key in keys {
            self.expiries.push(Expiry { key: *key, at: self.now, number: self.invalidations, logged: 0, doubt: false });
            self.fresh_floors.insert(*key, self.truth[key]);
            self.put_until.insert(*key, Instant::ZERO);
        }
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
        let ends = self.ends();
        let lookup = self.cache.command(Command::Clear, self.now);
        if !matches!(lookup.answer, Answer::Refused(_)) {
            self.count_anew(ends);
        }
        self.on_change(&keys, None, lookup)
    }

    /// The driver's regular visit.
    ///
    /// # Errors
    ///
    /// As [`World::lookup`].
    pub fn maintain(&mut self) -> Result<(), Broken> {
        let next = self.cache.maintain(self.now);
        self.launch_next(next, None)
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
            let mut caller = self.callers.swap_remove(place);
            match self.cache.expire(caller.flight, caller.deadline, self.now) {
                Answer::Now(outcome) => self.check_answer(&caller, &outcome)?,
                Answer::Pending { flight, until, deadline }
                    if flight == caller.flight && self.now < until && deadline == caller.deadline =>
                {
                    caller.until = until;
                    self.callers.push(caller);
                }
                answer => return Err(format!("law 8: who has waited until {:?} is told {answer:?}", caller.until)),
            }
        }
        Ok(())
    }

    fn on_lookup(&mut self, key: Option<Key>, call: Asked, lookup: Lookup<Key, Value>) -> Result<(), Broken> {
        let Lookup { answer, launch } = lookup;
        let led = launch.as_ref().map(|launch| launch.flight);
        let (floor, fences) = key.map_or((0, 0), |key| self.floor(key));
        let fresh_floor = key.and_then(|key| self.fresh_floors.get(&key).copied()).unwrap_or(0);
        let caller = |flight, until, deadline| {
            let led = led == Some(flight);
            Caller { flight, key, floor, fresh_floor, fences, call, until, deadline, led }
        };
        match answer {
            Answer::Pending { flight, until, deadline } => {
                if call.max_age.is_some() {
                    self.demanding.insert(flight);
                }
                self.callers.push(caller(flight, until, deadline));
            }
            Answer::Now(outcome) => self.check_answer(&caller(FlightId(0), self.now, self.now), &outcome)?,
            Answer::Refused(refusal) => self.check_refusal(refusal)?,
        }
        self.reading = call.read_only;
        let launched = launch.map_or(Ok(()), |launch| self.launch(launch, key));
        self.reading = false;
        launched
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
        self.on_lookup(None, Asked::default(), lookup)
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
        let birth = Birth { at: self.now, after: self.invalidations };
        Origin {
            key,
            version,
            birth,
            renewed: Vec::new(),
            spared: Vec::new(),
            knows: 0,
            windows: self.windows,
            sharing: Sharing::Store,
        }
    }

    fn origin_of(&self, value: Value) -> &Origin {
        &self.values[value.number as usize]
    }

    fn value(&mut self, origin: Origin) -> Value {
        let value = Value { number: self.values.len() as u32, tags: (self.tags)(origin.key) };
        self.values.push(origin);
        value
    }

    fn entry(&self, stored: Stored) -> Entry<Value> {
        Entry { age: self.now - stored.born_at, ..Entry::new(stored.value, stored.windows) }
    }

    fn store(&self, tier: Tier) -> &BTreeMap<Key, Stored> {
        if tier == Tier::Primary { &self.primary } else { &self.fallback }
    }

    fn store_mut(&mut self, tier: Tier) -> &mut BTreeMap<Key, Stored> {
        if tier == Tier::Primary { &mut self.primary } else { &mut self.fallback }
    }
}
