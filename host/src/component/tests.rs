//! What happens when a component breaks. Here its memory is small, and filling it is the way to break it.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tideover_core::{
    Absence, Answer, Call, Command, Event, FlightId, Instant, Invalidation, Launch, Outcome, Policy, Source, Step, Tag,
    Windows,
};
use tokio::sync::mpsc;

use super::{CACHE_COMPONENT, Embedding, POLICY_COMPONENT, PolicyEngine};
use crate::clock::HostClock;
use crate::driver::{Driver, Reply};
use crate::engine::{Engine, Key, Payload};
use crate::error::Error;
use crate::loader::{self, LoadContext, LoadError, Loaded, Loader};
use crate::outside::{Ask, Stores};
use crate::store::MemoryStore;

fn boxed<F, Fut>(load: F) -> Loader
where
    F: Fn(LoadContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Loaded, LoadError>> + Send + 'static,
{
    loader::boxed(load, Arc::default())
}

/// One megabyte under a key of its own.
fn megabyte(number: u32) -> Command<Key, Payload> {
    Command::Put { key: number.to_string().into(), value: vec![0; 1 << 20].into(), windows: None }
}

fn embedding() -> Arc<Embedding> {
    let stores = Stores::new(None, Arc::new(MemoryStore::new(10)), Arc::default());
    Embedding::new(&Policy::default(), 1, stores, HostClock::new()).expect("a component")
}

fn ask(key: &str, loader: Loader) -> Ask {
    Ask::patient(key, Some(loader))
}

async fn load(cache: &Embedding, key: &str, value: &'static str) -> Result<Outcome<Payload>, Error> {
    let loader = boxed(move |_| async move { Ok(Loaded::new(value)) });
    cache.get(ask(key, loader)).await.map(|reply| reply.outcome)
}

#[tokio::test]
async fn when_the_cache_breaks_its_callers_hear_of_it_and_the_next_ones_are_served() {
    let cache = embedding();
    let (held, mut all_dropped) = mpsc::channel::<()>(1);
    let hung = boxed(move |_| {
        let held = held.clone();
        async move {
            let _until_the_load_is_dropped = held;
            pending().await
        }
    });
    let waiting = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.get(ask("hung", hung)).await.map(|reply| reply.outcome) }
    });
    for round in 0..2 {
        let mut number = 0;
        let broken = loop {
            number += 1;
            if let Err(broken) = cache.change(megabyte(number)).await {
                break broken;
            }
        };
        assert!(matches!(&broken, Error::Engine(reason) if reason.0.contains("unreachable")), "{broken}");
        assert!((2..16).contains(&number), "{number} megabytes");
        assert!(matches!(load(&cache, "k", "v").await, Ok(Outcome::Served(_))), "round {round}");
    }
    let unanswered = waiting.await.expect("no panic").expect_err("it was in the instance that broke");
    assert!(matches!(unanswered, Error::Engine(_)), "{unanswered}");
    assert_eq!(all_dropped.recv().await, None, "its loader is gone, and so is the load");
    cache.shutdown(Duration::from_secs(5)).await;
    assert!(matches!(load(&cache, "k", "v").await, Err(Error::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_nobody_holds_lets_its_flights_end() {
    let cache = embedding();
    let (landed, mut load_ended) = mpsc::channel(1);
    let loader = boxed(move |_| {
        let landed = landed.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            landed.send(()).await.expect("the test waits for it");
            Ok(Loaded::new("v"))
        }
    });
    let (ttl, stale_while_revalidate) = (Some(Duration::ZERO), Duration::from_secs(60));
    let windows = Some(Windows { ttl, stale_while_revalidate, ..Windows::FOREVER });
    cache.change(Command::Put { key: "k".into(), value: "v".into(), windows }).await.expect("a change");
    cache.get(ask("k", loader)).await.expect("stale, and a refresh behind it");
    drop(cache);
    assert_eq!(load_ended.recv().await, Some(()), "the refresh went on to its end");
}

#[test]
fn when_the_policy_breaks_the_next_call_meets_an_empty_machine_with_new_numbers() {
    let engine = PolicyEngine::new(Policy::default(), 1).expect("a component");
    let now = Instant::ZERO;
    let launch = |engine: &PolicyEngine| {
        let lookup = engine.lookup(&"k".into(), Call::default(), now).expect("an answer");
        assert!(matches!(lookup.answer, Answer::Pending { .. }));
        lookup.launch.expect("a flight")
    };
    let Launch { flight: before, .. } = launch(&engine);
    let mut number = 0;
    let broken = loop {
        number += 1;
        if let Err(broken) = engine.command(megabyte(number), now) {
            break broken;
        }
    };
    assert!(broken.0.contains("unreachable") && !broken.0.contains('\n'), "{broken}");
    let late = engine.resume(before, Event::Slept, now).expect("an answer");
    assert_eq!(late, Step::Done { next: None }, "nobody knows that flight any more");
    assert_eq!(launch(&engine).flight, FlightId(1 << 36));
}

/// A store with a log, and a policy that knows of it.
fn with_store() -> (Policy, Stores) {
    let mut policy = Policy::default();
    (policy.store, policy.store_log) = (true, true);
    (policy, Stores::new(Some(Arc::new(MemoryStore::new(100))), Arc::new(MemoryStore::new(10)), Arc::default()))
}

fn tagged(key: &str, tag: Tag) -> Command<Key, Payload> {
    Command::Put { key: key.into(), value: Payload::from("v").tagged([tag]), windows: None }
}

fn read(key: &str) -> Ask {
    Ask::patient(key, None)
}

/// Two tags, of which one is invalidated; then the component breaks. Whatever takes its place knows of that.
macro_rules! breaks_and_goes_on {
    ($cache:expr) => {
        let cache = $cache;
        let (said, unsaid) = (Tag(1), Tag(2));
        let done = |reply: Result<Reply, Error>| reply.is_ok_and(|reply| matches!(reply.outcome, Outcome::Settled(_)));
        for round in 0..2 {
            assert!(done(cache.change(tagged("said", said)).await), "round {round}");
            assert!(done(cache.change(tagged("unsaid", unsaid)).await), "round {round}");
            assert!(done(cache.change(Command::Invalidate { tag: said, how: Invalidation::Remove }).await));
            let mut number = 0;
            while done(cache.change(megabyte(number)).await) {
                number += 1;
                assert!(number < 16, "it does not break");
            }
            let gone = cache.get(read("said")).await.expect("an answer").outcome;
            assert_eq!(gone, Outcome::Absent(Absence::NotLoaded), "round {round}");
            let kept = cache.get(read("unsaid")).await.expect("an answer").outcome;
            assert!(matches!(&kept, Outcome::Served(kept) if kept.source == Source::Store), "round {round}: {kept:?}");
        }
    };
}

#[tokio::test]
async fn a_cache_in_the_place_of_one_that_broke_knows_what_was_invalidated() {
    let (policy, stores) = with_store();
    breaks_and_goes_on!(Embedding::new(&policy, 1, stores, HostClock::new()).expect("a component"));
}

#[tokio::test]
async fn a_machine_in_the_place_of_one_that_broke_knows_what_was_invalidated() {
    let (policy, stores) = with_store();
    let engine = PolicyEngine::new(policy, 1).expect("a component");
    breaks_and_goes_on!(Driver::new(Arc::new(engine), stores, HostClock::new()));
}

/// The names of the functions that a component imports. Types are imported too, and bring no authority.
fn imported_functions(component: &[u8]) -> Vec<String> {
    use wasmtime::component::types::ComponentItem;
    let engine = wasmtime::Engine::default();
    let component = wasmtime::component::Component::new(&engine, component).expect("a component");
    let mut names = Vec::new();
    for (interface, item) in component.component_type().imports(&engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { panic!("{interface} is no interface") };
        let functions =
            instance.exports(&engine).filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
        names.extend(functions.map(|(function, _)| format!("{interface} {function}")));
    }
    names
}

#[test]
fn a_component_imports_what_its_world_says_and_nothing_else() {
    let (policy, cache) = (POLICY_COMPONENT, CACHE_COMPONENT);
    assert_eq!(imported_functions(policy), Vec::<String>::new());
    let ours = ["store", "direct-store", "loader", "clock"].map(|interface| format!("tideover:cache/{interface}@"));
    for name in imported_functions(cache) {
        assert!(ours.iter().any(|interface| name.starts_with(interface)), "{name}");
    }
    for (component, most) in [(policy, 550_000), (cache, 1_000_000)] {
        assert!(component.len() < most, "{} bytes: what came in?", component.len());
    }
}
