//! One flight, and every answer to each of its steps: all that fit, one that does not, time passing over a boundary, the
//! caller going away. Whatever happens the flight ends within a bound, lands exactly once if anybody waits, and leaves
//! nothing behind: no flight, and no permit that a later lookup would miss.

use std::mem::discriminant;
use std::time::Duration;

use tideover_core::stamp::{Version, Written};
use tideover_core::{
    Answer, Cache, Call, Class, Command, Entry, Event, FlightId, Found, Instant, Launch, Leased, Left, LoadFailure,
    Loaded, Lookup, Policy, Sharing, Step, StoreFailure, Tier, Windows,
};

type Key = &'static str;
type Machine = Cache<Key, u32>;

/// No history takes more steps, those of the flights that follow the first one included.
const STEPS_MAX: usize = 20;

/// ttl 10 s, then 5 s stale while revalidate, up to 20 s stale if error, up to 30 s kept.
const WINDOWS: Windows = Windows {
    ttl: Some(Duration::from_secs(10)),
    stale_while_revalidate: Duration::from_secs(5),
    stale_if_error: Duration::from_secs(20),
    keep: Duration::from_secs(30),
};

/// What the store may have: fresh, stale while revalidate, stale if error, kept, gone.
const AGES: [u64; 5] = [1, 12, 20, 35, 60];

/// What may happen in a history besides answers that fit.
#[derive(Clone, Copy)]
struct Budget {
    /// Answers to another step than the one that is out, and flights given up.
    wrong: u8,
    /// Times that eleven seconds pass.
    late: u8,
    /// The caller goes away.
    leaves: u8,
}

#[derive(Clone)]
struct History {
    cache: Machine,
    now: Instant,
    flight: Launch<Key, u32>,
    /// The flight that somebody waits for.
    awaited: Option<FlightId>,
    landed: Vec<FlightId>,
    steps: usize,
}

#[derive(Default)]
struct Enumeration {
    histories: u64,
    longest: usize,
}

impl Enumeration {
    /// Adds the histories that begin with `lookup`, the answer to a call.
    fn add(&mut self, cache: Machine, now: Instant, lookup: Lookup<Key, u32>) {
        let awaited = match lookup.answer {
            Answer::Pending { flight, .. } => Some(flight),
            Answer::Now(_) | Answer::Refused(_) => None,
        };
        let Some(flight) = lookup.launch else { return };
        let mut history = History { cache, now, flight: flight.clone(), awaited, landed: Vec::new(), steps: 0 };
        history.follow(flight);
        self.explore(&history, Budget { wrong: 1, late: 1, leaves: 1 });
    }

    fn explore(&mut self, history: &History, budget: Budget) {
        let step = &history.flight.step;
        if matches!(step, Step::Done { .. }) {
            self.histories += 1;
            self.longest = self.longest.max(history.steps);
            return history.check_rest();
        }
        let fitting = answers(step).into_iter().map(|event| (event, 0));
        for (event, cost) in fitting.chain(wrong(step).into_iter().map(|event| (event, 1))) {
            let Some(wrong) = budget.wrong.checked_sub(cost) else { continue };
            for late in 0..=budget.late {
                let mut next = history.clone();
                next.now = next.now + Duration::from_secs(11) * u32::from(late);
                next.resume(event.clone());
                self.explore(&next, Budget { wrong, late: budget.late - late, ..budget });
            }
        }
        if let (Some(leaves), Some(flight)) = (budget.leaves.checked_sub(1), history.awaited) {
            let mut next = History { awaited: None, ..history.clone() };
            if next.cache.leave(flight) == Left::Abandon {
                next.resume(Event::Abandoned);
            }
            self.explore(&next, Budget { leaves, ..budget });
        }
    }

    fn check(&self, histories: u64) {
        println!("{} histories, the longest of {} steps", self.histories, self.longest);
        assert!(self.histories >= histories, "only {} histories", self.histories);
    }
}

impl History {
    fn resume(&mut self, event: Event<u32>) {
        let flight = self.flight.flight;
        self.steps += 1;
        assert!(self.steps <= STEPS_MAX, "law 1: a flight does not end: {:?}", self.flight.step);
        let step = self.cache.resume(flight, event, self.now);
        self.follow(Launch { flight, step });
    }

    fn follow(&mut self, launch: Launch<Key, u32>) {
        let flight = launch.flight;
        if let Step::Land { .. } = launch.step {
            assert!(!self.landed.contains(&flight), "law 2: {flight:?} lands twice");
            self.landed.push(flight);
            self.awaited = self.awaited.filter(|awaited| *awaited != flight);
        }
        if let Step::Done { next } = &launch.step {
            assert_ne!(self.awaited, Some(flight), "law 2: a caller waits for a flight that is over");
            if let Some(flight) = *next {
                let step = self.cache.resume(flight, Event::Launched, self.now);
                return self.follow(Launch { flight, step });
            }
        }
        self.flight = launch;
    }

    /// Nothing is under way, and after a while a lookup of another key is let through to store and origin.
    fn check_rest(&self) {
        assert_eq!(self.cache.health().stats.flights, 0, "law 2: a flight is left");
        let mut later = History { now: self.now + Duration::from_secs(61), ..self.clone() };
        while let Some(flight) = later.cache.maintain(later.now) {
            let step = later.cache.resume(flight, Event::Launched, later.now);
            later.follow(Launch { flight, step });
            later.steps = 0;
            while !matches!(later.flight.step, Step::Done { .. }) {
                later.resume(well(&later.flight.step));
            }
        }
        let lookup = later.cache.lookup(&"another", Call::default(), later.now);
        let Launch { flight, mut step } = lookup.launch.expect("nobody else asks for it");
        if later.cache.policy().store {
            assert!(
                matches!(step, Step::ReadStore { tier: Tier::Primary, .. }),
                "law 5: a permit of the store is lost"
            );
            step = later.cache.resume(flight, Event::StoreRead(Ok(Found::NOTHING)), later.now);
        }
        assert!(matches!(step, Step::Load { .. }), "law 5: a permit of the loader is lost: {step:?}");
    }
}

/// Every event that answers `step`; the first one says that all went well.
fn answers(step: &Step<Key, u32>) -> Vec<Event<u32>> {
    let done = [Ok(()), Err(StoreFailure::Unavailable), Err(StoreFailure::Rejected)];
    let [kept, failed, refused] = done.map(|result| result.map(|()| Written::Kept));
    let changed = [kept, Ok(Written::Overtaken), failed, refused];
    match step {
        Step::ReadStore { .. } => {
            let entry = |age| Entry { age: Duration::from_secs(age), ..Entry::new(1, WINDOWS) };
            let failures = [StoreFailure::Unavailable, StoreFailure::Rejected, StoreFailure::Corrupt { version: None }];
            let version = Some(Version { writer: 1, number: 1 });
            let found = AGES.map(|age| Ok(Found { entry: Some(entry(age)), version, born: 0 }));
            [Ok(Found::NOTHING)].into_iter().chain(found).chain(failures.map(Err)).map(Event::StoreRead).collect()
        }
        Step::Load { .. } => {
            let loaded =
                |age, sharing| Loaded::Value { value: 2, age: Duration::from_secs(age), windows: None, sharing };
            let (age, windows) = (Duration::ZERO, None);
            let failure = |class, retry_after| LoadFailure { class, retry_after };
            let results = [
                Ok(loaded(0, Sharing::Store)),
                Ok(loaded(60, Sharing::Store)),
                Ok(loaded(0, Sharing::Share)),
                Ok(loaded(0, Sharing::Private)),
                Ok(Loaded::NotModified { age, windows }),
                Ok(Loaded::absent(None, &[])),
                Err(failure(Class::Isolated, None)),
                Err(failure(Class::Unavailable, None)),
                Err(failure(Class::TimedOut, Some(Duration::from_secs(3)))),
                Err(failure(Class::Answer, None)),
                Err(failure(Class::Panicked, None)),
            ];
            results.map(Event::Loaded).to_vec()
        }
        Step::AcquireLease { .. } => {
            let elsewhere = Leased::Elsewhere { free_in: Duration::from_secs(3) };
            let answers =
                [Ok(Leased::Held), Ok(elsewhere), Err(StoreFailure::Unavailable), Err(StoreFailure::Rejected)];
            answers.map(Event::LeaseAnswered).to_vec()
        }
        Step::AwaitLease { .. } => vec![Event::LeaseAwaited],
        Step::Sleep { .. } => vec![Event::Slept],
        Step::Wait => vec![Event::Launched],
        Step::Land { .. } => vec![Event::Landed],
        Step::WriteStore { .. } => changed.map(Event::StoreWritten).to_vec(),
        Step::RemoveStore { .. } => changed.map(Event::StoreRemoved).to_vec(),
        Step::ClearStore { .. } => done.map(Event::StoreCleared).to_vec(),
        Step::InvalidateStore { .. } => done.map(Event::StoreInvalidated).to_vec(),
        Step::Done { .. } => Vec::new(),
    }
}

/// One event of each kind that does not answer `step`, among them `Resigned` and `Abandoned`.
fn wrong(step: &Step<Key, u32>) -> Vec<Event<u32>> {
    let loaded = Loaded::new(3);
    let one_of_each = [
        Event::StoreRead(Ok(Found::NOTHING)),
        Event::Loaded(Ok(loaded)),
        Event::Slept,
        Event::Launched,
        Event::Landed,
        Event::StoreWritten(Ok(Written::Kept)),
        Event::StoreRemoved(Ok(Written::Kept)),
        Event::StoreCleared(Ok(())),
        Event::StoreInvalidated(Ok(())),
        Event::LeaseAnswered(Ok(Leased::Held)),
        Event::LeaseAwaited,
        Event::Resigned,
        Event::Abandoned,
    ];
    let fitting = discriminant(&well(step));
    one_of_each.into_iter().filter(|event| discriminant(event) != fitting).chain(overloaded(step)).collect()
}

/// The store was not even asked. It fits; in each history once, for it says nothing of the store.
fn overloaded(step: &Step<Key, u32>) -> Option<Event<u32>> {
    let overloaded = StoreFailure::Overloaded;
    match step {
        Step::ReadStore { .. } => Some(Event::StoreRead(Err(overloaded))),
        Step::WriteStore { .. } => Some(Event::StoreWritten(Err(overloaded))),
        Step::RemoveStore { .. } => Some(Event::StoreRemoved(Err(overloaded))),
        Step::ClearStore { .. } => Some(Event::StoreCleared(Err(overloaded))),
        Step::InvalidateStore { .. } => Some(Event::StoreInvalidated(Err(overloaded))),
        Step::AcquireLease { .. } => Some(Event::LeaseAnswered(Err(overloaded))),
        _ => None,
    }
}

/// The event that says that all went well.
fn well(step: &Step<Key, u32>) -> Event<u32> {
    answers(step).into_iter().next().expect("a flight that is done is not resumed")
}

/// What the machine may be like when the call comes: its stores, whether its circuits are about to be probed, and the
/// age of what memory has under the key.
type Situation = (&'static [(&'static str, &'static str)], bool, Option<u64>);

fn situations() -> Vec<Situation> {
    let stores: [&[(&str, &str)]; 3] = [&[], &[("store", "true"), ("fallback", "false")], &[("store", "true")]];
    let mut situations = Vec::new();
    for store in stores {
        for tripped in [false, true] {
            situations.extend([None, Some(12), Some(20), Some(35)].map(|age| (store, tripped, age)));
        }
    }
    situations
}

fn machine((store, tripped, age): Situation) -> (Machine, Instant) {
    let mut policy = Policy::default();
    let usual = [
        ("ttl", "10s"),
        ("stale_while_revalidate", "5s"),
        ("stale_if_error", "20s"),
        ("keep", "30s"),
        ("leader_age_max", "15s"),
        ("load_attempts", "2"),
        ("store_breaker_failures", "2"),
        ("load_breaker_failures", "2"),
    ];
    for (option, text) in usual.iter().chain(store) {
        policy.set(option, text).expect("an option");
    }
    let mut cache = Machine::new(policy, 7).expect("a policy that can be");
    let mut now = Instant::ZERO;
    if tripped {
        for key in ["a", "b"] {
            let lookup = cache.lookup(&key, Call::default(), now);
            finish(&mut cache, lookup, now, |step| match step {
                Step::ReadStore { tier: Tier::Primary, .. } => Event::StoreRead(Err(StoreFailure::Rejected)),
                Step::Load { .. } => Event::Loaded(Err(Class::Panicked.into())),
                step => well(step),
            });
        }
        now = now + Duration::from_secs(2);
    }
    if let Some(age) = age {
        let put = cache.command(Command::Put { key: "key", value: 0, windows: None }, now);
        finish(&mut cache, put, now, well);
        now = now + Duration::from_secs(age);
    }
    (cache, now)
}

fn finish(cache: &mut Machine, lookup: Lookup<Key, u32>, now: Instant, answer: impl Fn(&Step<Key, u32>) -> Event<u32>) {
    let Some(Launch { flight, mut step }) = lookup.launch else { return };
    while !matches!(step, Step::Done { .. }) {
        step = cache.resume(flight, answer(&step), now);
    }
}

#[test]
fn every_history_of_a_lookup_ends_well() {
    let mut seen = Enumeration::default();
    for situation in situations() {
        let (mut cache, now) = machine(situation);
        let lookup = cache.lookup(&"key", Call::default(), now);
        seen.add(cache, now, lookup);
    }
    seen.check(2_000_000);
}

#[test]
fn every_history_of_a_change_ends_well() {
    let mut seen = Enumeration::default();
    for situation in situations() {
        let put = Command::Put { key: "key", value: 5, windows: None };
        for command in [put, Command::Remove { key: "key" }, Command::Clear] {
            let (mut cache, now) = machine(situation);
            let change = cache.command(command, now);
            seen.add(cache, now, change);
        }
    }
    seen.check(150_000);
}
