//! Flights that are put aside, with an engine that says what the test wants.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tideover_core::breaker::{Breaker, BreakerPolicy, Mode};
use tideover_core::cache::Dependency;
use tideover_core::cache::explain::Story;
use tideover_core::cache::snapshot::{Restored, SnapshotError, Taken};
use tideover_core::memory::Reason;
use tideover_core::{
    Answer, Call, Command, Event, Failure, FlightId, Instant, Launch, Left, Lookup, Outcome, Served, Source, Step,
    StoreUse, Tidings, WallTime,
};

use super::Driver;
use crate::clock::HostClock;
use crate::engine::{Engine, EngineError, Key, Payload, Report};
use crate::error::Error;
use crate::loader::{LoadError, Loaded, Loader, boxed};
use crate::outside::{Ask, Stores};
use crate::store::MemoryStore;

const A: FlightId = FlightId(1);
const B: FlightId = FlightId(2);

/// Gives each flight its steps in turn. What is loaded is what lands.
#[derive(Default)]
struct Scripted {
    steps: Mutex<HashMap<FlightId, VecDeque<Say>>>,
    heard: Mutex<Vec<(FlightId, &'static str)>>,
    broken: Mutex<bool>,
}

#[derive(Clone, Copy)]
enum Say {
    Wait,
    Load,
    Land(Option<FlightId>),
    Done(Option<FlightId>),
}

impl Scripted {
    fn of<const N: usize>(scripts: [(FlightId, &[Say]); N]) -> Arc<Self> {
        let steps = scripts.into_iter().map(|(flight, steps)| (flight, steps.iter().copied().collect())).collect();
        Arc::new(Self { steps: Mutex::new(steps), ..Self::default() })
    }

    fn next(&self, flight: FlightId, event: Option<Event<Payload>>) -> Step<Key, Payload> {
        let loaded = match event {
            Some(Event::Loaded(Ok(tideover_core::Loaded::Value { value, .. }))) => Some(value),
            _ => None,
        };
        let served = |value| {
            let age = Duration::ZERO;
            Outcome::Served(Served { value, age, ttl: None, stale: None, source: Source::Load })
        };
        let outcome = loaded.map_or(Outcome::Failed(Failure::Abandoned), served);
        let said = self.steps.lock().expect("unpoisoned").get_mut(&flight).and_then(VecDeque::pop_front);
        match said.unwrap_or(Say::Done(None)) {
            Say::Wait => Step::Wait,
            Say::Load => {
                let key = if flight == A { "a" } else { "b" };
                Step::Load { key: key.into(), attempt: 1, deadline: Instant::NEVER, previous: None }
            }
            Say::Land(next) => Step::Land { outcome, store: StoreUse::Unasked, next },
            Say::Done(next) => Step::Done { next },
        }
    }

    fn heard(&self, flight: FlightId) -> Vec<&'static str> {
        let heard = self.heard.lock().expect("unpoisoned");
        heard.iter().filter(|(of, _)| *of == flight).map(|(_, event)| *event).collect()
    }
}

/// What no test of the driver asks for.
macro_rules! bystander {
    () => {
        fn story(&self, _flight: Option<FlightId>) -> Result<Option<Story>, EngineError> {
            Ok(None)
        }

        fn snapshot(&self, _now: Instant, _wall: WallTime) -> Result<Vec<u8>, EngineError> {
            Ok(Vec::new())
        }

        fn restore(
            &self,
            _bytes: &[u8],
            _taken: Taken,
            _now: Instant,
            _wall: WallTime,
        ) -> Result<Result<Restored, SnapshotError>, EngineError> {
            Ok(Err(SnapshotError::Foreign))
        }

        fn set_breaker_mode(&self, _of: Dependency, _mode: Mode, _now: Instant) -> Result<(), EngineError> {
            Ok(())
        }

        fn reset_breaker(&self, _of: Dependency, _now: Instant) -> Result<(), EngineError> {
            Ok(())
        }

        fn learn(&self, _tidings: Tidings<Key>, _now: Instant) -> Result<(), EngineError> {
            Ok(())
        }

        fn keys_matching(&self, _pattern: &str) -> Result<BTreeSet<Key>, EngineError> {
            Ok(BTreeSet::new())
        }

        fn take_removals(&self) -> Result<Vec<(Key, Reason)>, EngineError> {
            Ok(Vec::new())
        }
    };
}

impl Engine for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn hit(&self, _key: &str, _now: Instant) -> Option<Served<Payload>> {
        None
    }

    fn lookup(&self, key: &Key, _call: Call<'_>, _now: Instant) -> Result<Lookup<Key, Payload>, EngineError> {
        if *self.broken.lock().expect("unpoisoned") {
            return Err(EngineError("as the test wants it".to_owned()));
        }
        let flight = if &**key == "a" { A } else { B };
        let launch = Launch { flight, step: self.next(flight, None) };
        Ok(Lookup {
            answer: Answer::Pending { flight, until: Instant::NEVER, deadline: Instant::NEVER },
            launch: Some(launch),
        })
    }

    fn command(&self, _command: Command<Key, Payload>, _now: Instant) -> Result<Lookup<Key, Payload>, EngineError> {
        Err(EngineError("no test changes anything".to_owned()))
    }

    fn resume(
        &self,
        flight: FlightId,
        event: Event<Payload>,
        _now: Instant,
    ) -> Result<Step<Key, Payload>, EngineError> {
        let name = match event {
            Event::Launched => "launched",
            Event::Loaded(_) => "loaded",
            Event::Landed => "landed",
            Event::Abandoned => "abandoned",
            _ => "another",
        };
        self.heard.lock().expect("unpoisoned").push((flight, name));
        if name == "abandoned" {
            let left = VecDeque::from([Say::Land(None), Say::Done(None)]);
            self.steps.lock().expect("unpoisoned").insert(flight, left);
        }
        Ok(self.next(flight, Some(event)))
    }

    fn leave(&self, _flight: FlightId) -> Result<Left, EngineError> {
        Ok(Left::Abandon)
    }

    fn expire(&self, _flight: FlightId, _deadline: Instant, _now: Instant) -> Result<Answer<Payload>, EngineError> {
        Ok(Answer::Now(Outcome::Failed(Failure::DeadlinePassed)))
    }

    fn maintain(&self, _now: Instant) -> Result<Option<FlightId>, EngineError> {
        Ok(None)
    }

    bystander!();

    fn report(&self) -> Result<Report, EngineError> {
        let breaker = Breaker::new(BreakerPolicy::default(), 0).look();
        Ok(Report {
            store_breaker: breaker,
            load_breaker: breaker,
            loaders: Vec::new(),
            owes_clear: false,
            counts: Vec::new(),
        })
    }
}

fn driver(engine: &Arc<Scripted>) -> Arc<Driver> {
    let stores = Stores::new(None, Arc::new(MemoryStore::new(1)), Arc::default());
    Driver::new(Arc::<Scripted>::clone(engine), stores, HostClock::new())
}

fn saying(value: &'static str) -> Loader {
    boxed(move |_| async move { Ok(Loaded::new(value)) }, Arc::default())
}

fn hung() -> Loader {
    boxed(|_| std::future::pending::<Result<Loaded, LoadError>>(), Arc::default())
}

type Called = tokio::task::JoinHandle<Result<Outcome<Payload>, Error>>;

/// Asks from a task of its own, and lets everything go on that can.
async fn ask(driver: &Arc<Driver>, key: &'static str, loader: Loader) -> Called {
    let driver = Arc::clone(driver);
    let ask = Ask::patient(key, Some(loader));
    let called = tokio::spawn(async move { driver.get(ask).await.map(|reply| reply.outcome) });
    tokio::time::sleep(Duration::from_millis(1)).await;
    called
}

async fn value(called: Called) -> String {
    match called.await.expect("no panic") {
        Ok(Outcome::Served(served)) => String::from_utf8_lossy(&served.value.bytes).into_owned(),
        other => panic!("{other:?}"),
    }
}

const LEADS: &[Say] = &[Say::Load, Say::Land(Some(B)), Say::Done(None)];
const WAITS: &[Say] = &[Say::Wait, Say::Load, Say::Land(None), Say::Done(None)];

#[tokio::test(start_paused = true)]
async fn a_flight_that_waits_is_launched_when_it_is_named_and_has_its_own_loader() {
    for leads in [LEADS, &[Say::Load, Say::Land(None), Say::Done(Some(B))]] {
        let engine = Scripted::of([(A, leads), (B, WAITS)]);
        let driver = driver(&engine);
        let waiting = ask(&driver, "b", saying("of b")).await;
        assert!(!waiting.is_finished() && engine.heard(B).is_empty(), "it is put aside, and not abandoned");
        let leading = ask(&driver, "a", saying("of a")).await;
        assert_eq!((value(leading).await, value(waiting).await), ("of a".to_owned(), "of b".to_owned()));
        assert_eq!(engine.heard(B), ["launched", "loaded", "landed"]);
        driver.shutdown(Duration::from_secs(60)).await;
        assert!(driver.landings().0.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_is_named_before_its_task_has_put_it_aside_flies_on() {
    let engine = Scripted::of([(A, &[Say::Land(Some(B)), Say::Done(None)]), (B, WAITS)]);
    let driver = driver(&engine);
    // Both tasks are spawned before either runs; that of `a` runs first.
    let (first, second) = (Arc::clone(&driver), Arc::clone(&driver));
    let asked = |key, loader| Ask::patient(key, Some(loader));
    let (_, found) = tokio::join!(first.get(asked("a", hung())), second.get(asked("b", saying("of b"))));
    assert!(matches!(found.expect("a reply").outcome, Outcome::Served(_)));
    assert_eq!(engine.heard(B), ["launched", "loaded", "landed"], "it was launched once");
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_waits_ends_when_its_caller_goes() {
    let engine = Scripted::of([(B, WAITS)]);
    let driver = driver(&engine);
    let waiting = ask(&driver, "b", hung()).await;
    waiting.abort();
    assert!(waiting.await.is_err());
    assert_eq!(engine.heard(B), ["abandoned"]);
    assert!(driver.landings().0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_shutdown_abandons_what_waits() {
    for leader_hangs in [false, true] {
        let engine = Scripted::of([(A, LEADS), (B, WAITS)]);
        let driver = driver(&engine);
        let waiting = ask(&driver, "b", hung()).await;
        let leading = if leader_hangs { Some(ask(&driver, "a", hung()).await) } else { None };
        driver.shutdown(Duration::from_secs(5)).await;
        for called in leading.into_iter().chain([waiting]) {
            let outcome = called.await.expect("no panic").expect("an outcome");
            assert_eq!(outcome, Outcome::Failed(Failure::Abandoned));
        }
        assert!(driver.landings().0.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_breaks_leaves_nobody_waiting() {
    let engine = Scripted::of([(B, WAITS)]);
    let driver = driver(&engine);
    let waiting = ask(&driver, "b", hung()).await;
    *engine.broken.lock().expect("unpoisoned") = true;
    assert!(matches!(ask(&driver, "a", hung()).await.await.expect("no panic"), Err(Error::Engine(_))));
    assert_eq!(waiting.await.expect("no panic").expect("an outcome"), Outcome::Failed(Failure::Abandoned));
}

/// Each names the next one. To abandon them inside one another would take the stack of them all.
#[test]
fn a_long_chain_of_flights_is_abandoned_one_after_the_other() {
    const FLIGHTS: u64 = 50_000;
    struct Chain;
    impl Engine for Chain {
        fn name(&self) -> &'static str {
            "chain"
        }
        fn hit(&self, _key: &str, _now: Instant) -> Option<Served<Payload>> {
            None
        }
        fn lookup(&self, _: &Key, _: Call<'_>, _: Instant) -> Result<Lookup<Key, Payload>, EngineError> {
            let step = Step::Sleep { until: Instant::NEVER };
            let answer = Answer::Pending { flight: A, until: Instant::NEVER, deadline: Instant::NEVER };
            Ok(Lookup { answer, launch: Some(Launch { flight: A, step }) })
        }
        fn command(&self, _: Command<Key, Payload>, _: Instant) -> Result<Lookup<Key, Payload>, EngineError> {
            Err(EngineError(String::new()))
        }
        fn resume(&self, flight: FlightId, _: Event<Payload>, _: Instant) -> Result<Step<Key, Payload>, EngineError> {
            let next = FlightId(flight.0 + 1);
            Ok(Step::Done { next: Some(next).filter(|next| next.0 < FLIGHTS) })
        }
        fn leave(&self, _: FlightId) -> Result<Left, EngineError> {
            Ok(Left::Stays)
        }
        fn expire(&self, _: FlightId, _: Instant, _: Instant) -> Result<Answer<Payload>, EngineError> {
            Err(EngineError(String::new()))
        }
        fn maintain(&self, _: Instant) -> Result<Option<FlightId>, EngineError> {
            Ok(None)
        }
        bystander!();
        fn report(&self) -> Result<Report, EngineError> {
            Err(EngineError(String::new()))
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let driver = runtime.block_on(async {
        let stores = Stores::new(None, Arc::new(MemoryStore::new(1)), Arc::default());
        let driver = Driver::new(Arc::new(Chain), stores, HostClock::new());
        ask(&driver, "a", hung()).await;
        driver
    });
    drop(runtime);
    assert!(driver.landings().0.is_empty());
}
