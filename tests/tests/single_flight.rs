//! One flight, and every answer to each of its steps: all that fit, one that does not, time passing over a boundary, the
//! caller going away. Whatever happens the flight ends within a bound, lands exactly once if anybody waits, releases
//! whoever waits, and leaves nothing behind: no flight, and no permit that a later lookup would miss.

use std::time::Duration;

use tideover_core::{
    Answer, Cache, Call, Class, Command, Entry, Event, FlightId, Instant, Launch, Left, LoadFailure, Loaded, Policy,
    Sharing, Step, StoreFailure, Tier, Windows,
};

type Machine = Cache<&'static str, u32>;

/// No flight of these policies takes more steps, those of the flights that follow it included.
const STEPS_MAX: usize = 20;

/// ttl 10 s, then 5 s stale while revalidate, up to 20 s stale if error, up to 30 s kept.
const WINDOWS: Windows = Windows {
    ttl: Some(Duration::from_secs(10)),
    stale_while_revalidate: Duration::from_secs(5),
    stale_if_error: Duration::from_secs(20),
    keep: Duration::from_secs(30),
};

/// An age in each zone: fresh, stale while revalidate, stale if error, kept, gone.
const AGES: [u64; 5] = [1, 12, 20, 35, 60];

/// What may still happen in a history besides answers that fit.
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
    flight: Launch<&'static str, u32>,
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
    fn explore(&mut self, history: &History, budget: Budget) {
        if matches!(history.flight.step, Step::Done { next: None }) {
            self.histories += 1;
            self.longest = self.longest.max(history.steps);
            return history.check_rest();
        }
        for (event, fits) in
            events().into_iter().map(|event| (fits(&history.flight.step, &event), event)).map(|(f, e)| (e, f))
        {
            let Some(wrong) = budget.wrong.checked_sub(u8::from(!fits)) else { continue };
            for late in 0..=budget.late {
                let mut next = history.clone();
                next.now = next.now + Duration::from_secs(11) * u32::from(late);
                next.resume(event.clone());
                self.explore(&next, Budget { wrong, late: budget.late - late, ..budget });
            }
        }
        if let (Some(leaves), Some(flight)) = (budget.leaves.checked_sub(1), history.awaited) {
            let mut next = history.clone();
            next.awaited = None;
            if next.cache.leave(flight) == Left::Abandon {
                next.resume(Event::Abandoned);
            }
            self.explore(&next, Budget { leaves, ..budget });
        }
    }
}

impl History {
    fn resume(&mut self, event: Event<u32>) {
        let flight = self.flight.flight;
        self.steps += 1;
        assert!(self.steps <= STEPS_MAX, "a flight does not end: {:?}", self.flight.step);
        let step = self.cache.resume(flight, event, self.now);
        self.follow(Launch { flight, step });
    }

    fn follow(&mut self, launch: Launch<&'static str, u32>) {
        let flight = launch.flight;
        match &launch.step {
            Step::Land { .. } => {
                assert!(!self.landed.contains(&flight), "law 2: {flight:?} lands twice");
                self.landed.push(flight);
                self.awaited = self.awaited.filter(|awaited| *awaited != flight);
            }
            Step::Done { next } => {
                assert_ne!(self.awaited, Some(flight), "law 2: a caller waits for a flight that is over");
                if let Some(next) = next {
                    return self.follow((**next).clone());
                }
            }
            _ => {}
        }
        self.flight = launch;
    }

    /// Nothing is under way, and after a while a lookup of another key is let through to store and origin.
    fn check_rest(&self) {
        assert_eq!(self.cache.health().stats.flights, 0, "law 2: a flight is left");
        let mut later = self.clone();
        later.now = later.now + Duration::from_secs(61);
        while let Some(debt) = later.cache.maintain(later.now) {
            later.follow(debt);
            while !matches!(later.flight.step, Step::Done { .. }) {
                let event = events().into_iter().find(|event| fits(&later.flight.step, event));
                later.resume(event.expect("each step has an event"));
            }
            later.steps = 0;
        }
        let lookup = later.cache.lookup(&"another", Call::default(), later.now);
        let Launch { flight, mut step } = lookup.launch.expect("law 5: nobody else asks for it");
        if later.cache.policy().store {
            assert!(
                matches!(step, Step::ReadStore { tier: Tier::Primary, .. }),
                "law 5: a permit of the store is lost"
            );
            step = later.cache.resume(flight, Event::StoreRead(Ok(None)), later.now);
        }
        assert!(matches!(step, Step::Load { .. }), "law 5: a permit of the loader is lost: {step:?}");
    }
}

/// Every event. The first that fits a step is one that succeeds.
fn events() -> Vec<Event<u32>> {
    let entry = |age| Entry { value: 1, age: Duration::from_secs(age), windows: WINDOWS };
    let loaded = |age, sharing| Loaded { value: 2, age: Duration::from_secs(age), windows: None, sharing };
    let stores = [StoreFailure::Unavailable, StoreFailure::TimedOut, StoreFailure::Rejected, StoreFailure::Corrupt];
    let classes = [Class::Unavailable, Class::TimedOut, Class::Answer, Class::Panicked];
    let mut events = vec![Event::Slept, Event::Landed, Event::StoreRead(Ok(None))];
    events.extend(AGES.map(|age| Event::StoreRead(Ok(Some(entry(age))))));
    events.extend(stores.map(|failure| Event::StoreRead(Err(failure))));
    events.extend([Sharing::Store, Sharing::Share, Sharing::Private].map(|to| Event::Loaded(Ok(loaded(0, to)))));
    events.push(Event::Loaded(Ok(loaded(60, Sharing::Store))));
    events.extend(classes.map(|class| Event::Loaded(Err(class.into()))));
    let retry_after = Some(Duration::from_secs(3));
    events.push(Event::Loaded(Err(LoadFailure { class: Class::Unavailable, retry_after })));
    for result in [Ok(())].into_iter().chain(stores.map(Err)) {
        events.extend([Event::StoreWritten(result), Event::StoreRemoved(result), Event::StoreCleared(result)]);
    }
    events.push(Event::Abandoned);
    events
}

fn fits(step: &Step<&'static str, u32>, event: &Event<u32>) -> bool {
    matches!(
        (step, event),
        (Step::ReadStore { .. }, Event::StoreRead(_))
            | (Step::Load { .. }, Event::Loaded(_))
            | (Step::Sleep { .. }, Event::Slept)
            | (Step::Land { .. }, Event::Landed)
            | (Step::WriteStore { .. }, Event::StoreWritten(_))
            | (Step::RemoveStore { .. }, Event::StoreRemoved(_))
            | (Step::ClearStore { .. }, Event::StoreCleared(_))
    )
}

fn policy(options: &[(&str, &str)]) -> Policy {
    let mut policy = Policy::default();
    let usual = [
        ("ttl", "10s"),
        ("stale_while_revalidate", "5s"),
        ("stale_if_error", "20s"),
        ("keep", "30s"),
        ("leader_age_max", "15s"),
        ("store_breaker_failures", "2"),
        ("load_breaker_failures", "2"),
    ];
    for (option, text) in usual.iter().chain(options) {
        policy.set(option, text).expect("an option");
    }
    policy
}

/// A machine whose memory has a value of that age, if any; with `tripped`, both circuits are open and their wait is over.
fn machine(options: &[(&str, &str)], age: Option<u64>, tripped: bool) -> (Machine, Instant) {
    let mut cache = Machine::new(policy(options), 7).expect("a policy that can be");
    let mut now = Instant::ZERO;
    if tripped {
        for key in ["a", "b"] {
            let lookup = cache.lookup(&key, Call::default(), now);
            finish(&mut cache, lookup.launch, now, |step| match step {
                Step::ReadStore { tier: Tier::Primary, .. } => Event::StoreRead(Err(StoreFailure::Rejected)),
                Step::Load { .. } => Event::Loaded(Err(Class::Panicked.into())),
                step => events().into_iter().find(|event| fits(step, event)).expect("each step has an event"),
            });
        }
        now = now + Duration::from_secs(2);
    }
    if let Some(age) = age {
        let put = cache.command(Command::Put { key: "key", value: 0, windows: None }, now);
        finish(&mut cache, put.launch, now, |step| {
            events().into_iter().find(|event| fits(step, event)).expect("each step has an event")
        });
        now = now + Duration::from_secs(age);
    }
    (cache, now)
}

fn finish(
    cache: &mut Machine,
    launch: Option<Launch<&'static str, u32>>,
    now: Instant,
    answer: impl Fn(&Step<&'static str, u32>) -> Event<u32>,
) {
    let Some(Launch { flight, mut step }) = launch else { return };
    while !matches!(step, Step::Done { .. }) {
        step = cache.resume(flight, answer(&step), now);
    }
}

/// The histories of one call.
fn enumerate(
    cache: &Machine,
    now: Instant,
    budget: Budget,
    call: impl Fn(&mut Machine) -> Option<(Option<FlightId>, Launch<&'static str, u32>)>,
) -> Enumeration {
    let mut enumeration = Enumeration::default();
    let mut cache = cache.clone();
    if let Some((awaited, flight)) = call(&mut cache) {
        let mut history = History { cache, now, flight: flight.clone(), awaited, landed: Vec::new(), steps: 0 };
        history.follow(flight);
        enumeration.explore(&history, budget);
    }
    enumeration
}

const STORES: [&[(&str, &str)]; 3] = [&[], &[("store", "true"), ("fallback", "false")], &[("store", "true")]];

#[test]
fn every_history_of_a_lookup_ends_well() {
    let (mut histories, mut longest) = (0, 0);
    for (store, tripped, age) in situations() {
        for load_attempts in ["1", "2"] {
            let options: Vec<_> = store.iter().copied().chain([("load_attempts", load_attempts)]).collect();
            let (cache, now) = machine(&options, age, tripped);
            let budget = Budget { wrong: 1, late: 1, leaves: 1 };
            let seen = enumerate(&cache, now, budget, |cache| {
                let lookup = cache.lookup(&"key", Call::default(), now);
                let awaited = match lookup.answer {
                    Answer::Pending { flight, .. } => Some(flight),
                    _ => None,
                };
                lookup.launch.map(|launch| (awaited, launch))
            });
            (histories, longest) = (histories + seen.histories, longest.max(seen.longest));
        }
    }
    println!("{histories} histories, the longest of {longest} steps");
    assert!(histories > 1, "only {histories} histories");
}

#[test]
fn every_history_of_a_change_ends_well() {
    let (mut histories, mut longest) = (0, 0);
    for (store, tripped, age) in situations() {
        let (cache, now) = machine(store, age, tripped);
        let commands =
            [Command::Put { key: "key", value: 5, windows: None }, Command::Remove { key: "key" }, Command::Clear];
        for command in commands {
            let budget = Budget { wrong: 1, late: 1, leaves: 1 };
            let seen = enumerate(&cache, now, budget, |cache| {
                let change = cache.command(command.clone(), now);
                let awaited = match change.answer {
                    Answer::Pending { flight, .. } => Some(flight),
                    _ => None,
                };
                change.launch.map(|launch| (awaited, launch))
            });
            (histories, longest) = (histories + seen.histories, longest.max(seen.longest));
        }
    }
    println!("{histories} histories, the longest of {longest} steps");
    assert!(histories > 1, "only {histories} histories");
}

fn situations() -> impl Iterator<Item = (&'static [(&'static str, &'static str)], bool, Option<u64>)> {
    let ages = [None, Some(1), Some(12), Some(20), Some(35)];
    STORES.into_iter().flat_map(move |store| {
        [false, true].into_iter().flat_map(move |tripped| ages.into_iter().map(move |age| (store, tripped, age)))
    })
}
