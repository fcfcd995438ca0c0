//! The kit for users' own tests, used as they would.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tideover::store::Store;
use tideover::testing::{self, Asked, Clock, ScriptedLoader, ScriptedStore, Spell, Weather};
use tideover::{Cache, Class, EngineKind, Error, LoadError, Loaded, Refusal, Source, Stale};
use tideover_tests::driving::{millis, seconds};
use tokio::time::Instant;

/// What a failing assertion says.
async fn complaint(assertion: impl Future<Output = ()>) -> String {
    let panic = AssertUnwindSafe(assertion).catch_unwind().await.expect_err("it complains");
    panic.downcast_ref::<String>().cloned().expect("a text")
}

#[tokio::test]
async fn a_clock_that_stands_brings_every_boundary_exactly_on_every_engine() {
    for &engine in EngineKind::ALL {
        let clock = Clock::stopped();
        let made = testing::builder().engine(engine).clock(&clock).ttl(seconds(60)).stale_if_error(seconds(600));
        let cache = made.build().expect("a cache");
        let origin = ScriptedLoader::new().value(Loaded::new("v")).error(LoadError::unavailable("down"));
        testing::assert_loaded(&cache.get_or_load("k", origin.loader()).await.expect("a value"));
        clock.advance(seconds(60) - Duration::from_nanos(1));
        testing::assert_hit(&cache.get_or_load("k", origin.loader()).await.expect("a value"));
        clock.advance(Duration::from_nanos(1));
        let stale = cache.get_or_load("k", origin.loader()).await.expect("a value");
        testing::assert_stale(&stale, Stale::IfError);
        assert_eq!(stale.age, seconds(60), "{engine:?}");
        origin.assert_played();
    }
}

#[tokio::test]
async fn a_clock_that_stands_releases_those_who_wait_when_it_is_moved() {
    for &engine in EngineKind::ALL {
        let clock = Clock::stopped();
        let cache = testing::builder().engine(engine).clock(&clock).build().expect("a cache");
        let origin = ScriptedLoader::new().hang();
        let call = tokio::spawn({
            let (cache, load) = (cache.clone(), origin.loader());
            async move { cache.get_or_load("k", load).await }
        });
        while origin.calls() == 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(cache.policy().load_deadline);
        let failed = call.await.expect("no panic");
        assert!(
            matches!(&failed, Err(Error::Load(error)) if error.class() == Class::TimedOut),
            "{engine:?}: {failed:?}"
        );
    }
}

#[tokio::test]
async fn an_open_circuit_is_probed_when_the_clock_says_so() {
    let clock = Clock::stopped();
    let cache = testing::builder().clock(&clock).build().expect("a cache");
    let down = (0..5).fold(ScriptedLoader::new(), |origin, _| origin.error(LoadError::unavailable("down")));
    let origin = down.value(Loaded::new("v"));
    for number in 0..5 {
        assert!(cache.get_or_load(&format!("k{number}"), origin.loader()).await.is_err());
    }
    let open = cache.get_or_load("k", origin.loader()).await;
    assert!(matches!(open, Err(Error::Open { retry_after }) if retry_after == Some(seconds(1))), "{open:?}");
    clock.advance(seconds(1));
    assert_eq!(cache.get_or_load("k", origin.loader()).await.expect("a probe").value, "v");
    origin.assert_played();
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_goes_on_is_ahead_of_tokios_by_what_it_was_moved() {
    let clock = Clock::new();
    let cache = testing::builder().clock(&clock).ttl(seconds(60)).build().expect("a cache");
    cache.put("k", "v", None).await.expect("a change");
    clock.advance(seconds(20));
    tokio::time::advance(seconds(39)).await;
    assert_eq!(cache.get("k").await.expect("no failure").expect("it is fresh").age, seconds(59));
    tokio::time::advance(seconds(1)).await;
    assert!(cache.get("k").await.expect("no failure").is_none());
}

#[tokio::test(start_paused = true)]
async fn spells_pass_after_so_many_operations_or_so_long() {
    let store = ScriptedStore::default();
    store.script([Spell::of(Weather::Away).times(2), Spell::of(Weather::Slow(millis(100))).on(Asked::Write)]);
    assert!(store.write("k", "v".into(), None).await.is_err() && store.read("k").await.is_err());
    let began = Instant::now();
    store.write("k", "v".into(), None).await.expect("they have passed");
    assert_eq!(began.elapsed(), millis(100), "now writes are slow");
    assert_eq!(store.read("k").await.expect("no failure").expect("it is there"), "v");
    assert_eq!(began.elapsed(), millis(100), "and reads are not");

    store.script([Spell::of(Weather::Refusing).lasting(seconds(5))]);
    tokio::time::advance(seconds(5)).await;
    assert!(store.ping().await.is_err(), "it begins with whoever meets it");
    tokio::time::advance(seconds(5) - Duration::from_nanos(1)).await;
    assert!(store.ping().await.is_err());
    tokio::time::advance(Duration::from_nanos(1)).await;
    assert!(store.ping().await.is_ok());
    assert_eq!(store.operations(), 7);
}

#[tokio::test(start_paused = true)]
async fn corrupt_bytes_are_a_counted_miss() {
    let store = ScriptedStore::default();
    let writer = testing::builder().store(store.clone()).build().expect("a cache");
    writer.put("k", "v", None).await.expect("a change");
    writer.put("l", "v", None).await.expect("a change");
    let reader = testing::builder().store(store.clone()).build().expect("a cache");
    assert!(store.corrupt("k").await && !store.corrupt("nothing").await);
    store.plant("foreign", "<html>").await;
    let (_, counts) = testing::counted(&reader, async {
        assert!(reader.get("k").await.expect("no failure").is_none());
        assert!(reader.get("foreign").await.expect("no failure").is_none());
        store.set(Weather::Corrupting);
        assert!(reader.get("l").await.expect("no failure").is_none());
    })
    .await;
    assert_eq!(counts.of("corrupt"), 3, "{counts}");
    store.set(Weather::Fair);
    assert_eq!(store.value("l").await.expect("the store itself is whole"), "v");
}

#[tokio::test(start_paused = true)]
async fn a_script_is_played_in_order_and_says_what_was_left_or_too_much() {
    let cache = testing::builder().set("load_breaker", "false").expect("an option").build().expect("a cache");
    let names = cache.typed::<String>();
    let origin = ScriptedLoader::<String, std::io::ErrorKind>::new()
        .after(seconds(2))
        .value("Ada".to_owned())
        .error(std::io::ErrorKind::NotFound)
        .panic()
        .value(Loaded::absent());
    let began = Instant::now();
    assert_eq!(*names.get_or_load("a", origin.loader()).await.expect("a value").value, "Ada");
    assert_eq!(began.elapsed(), seconds(2));
    let failed = names.get_or_load("b", origin.loader()).await.expect_err("an error");
    assert_eq!(failed.loader(), Some(&std::io::ErrorKind::NotFound));
    let left = complaint(async { origin.assert_played() }).await;
    assert_eq!(left, "the loader was called 2 times, and 2 acts of its script were not played");
    assert!(names.get_or_load("c", origin.loader()).await.is_err());
    assert!(names.get_or_load("d", origin.loader()).await.is_err());
    origin.assert_played();
    assert!(names.get_or_load("e", origin.loader()).await.is_err());
    let much = complaint(async { origin.assert_played() }).await;
    assert_eq!(much, "the loader was called 5 times, 1 times more than its script has acts");
}

#[tokio::test(start_paused = true)]
async fn a_held_call_goes_on_when_the_test_says_so() {
    let cache = testing::cache();
    let origin = ScriptedLoader::new().held().value(Loaded::new("v"));
    let mut call = std::pin::pin!(cache.get_or_load("k", origin.loader()));
    assert!(tokio::time::timeout(seconds(1), &mut call).await.is_err(), "it is held");
    origin.release();
    assert_eq!(call.await.expect("a value").value, "v");
}

#[tokio::test(start_paused = true)]
async fn assertions_say_what_happened_instead() {
    let cache = testing::cache();
    let origin = ScriptedLoader::new().then_always(Loaded::new("v"));
    let said = complaint(testing::expect_loads(&cache, 1, async {
        for key in ["a", "b", "a"] {
            cache.get_or_load(key, origin.loader()).await.expect("a value");
        }
    }))
    .await;
    assert!(said.contains("testing_kit.rs"), "{said}");
    assert!(said.contains("made 2 loads instead of 1; what it did: misses +2, "), "{said}");
    assert!(said.contains("hits +1"), "{said}");

    // A clear begins the counts anew, below what they were before.
    let said = complaint(testing::expect_loads(&cache, 0, async {
        cache.clear().await.expect("a clear");
        cache.get_or_load("a", origin.loader()).await.expect("a value");
    }))
    .await;
    assert!(said.contains("made 1 load"), "{said}");

    let hit = cache.get_or_load("a", origin.loader()).await.expect("a value");
    let said = complaint(async { testing::assert_loaded(&hit) }).await;
    assert_eq!(said, "expected a load, got a fresh value from Memory, 0ns old of Some(300s)");
    let said = complaint(async { testing::assert_stale(&hit, Stale::IfError) }).await;
    assert!(said.starts_with("expected a stale value (IfError), got a fresh value from Memory"), "{said}");
    let loaded = cache.get_or_load("c", origin.loader()).await.expect("a value");
    let said = complaint(async { testing::assert_hit(&loaded) }).await;
    assert!(said.starts_with("expected a fresh hit, got a fresh value from Load"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_disabled_cache_loads_each_time_and_keeps_nothing() {
    for &engine in EngineKind::ALL {
        let cache = testing::builder().engine(engine).build().expect("a cache");
        let names = cache.typed::<String>();
        let origin = ScriptedLoader::<String, String>::new().then_always("loaded".to_owned());
        names.put("k", &"kept".to_owned()).await.expect("a change");
        names.put("put", &"kept".to_owned()).await.expect("a change");
        cache
            .disabled(async {
                for _ in 0..2 {
                    let found = names.get_or_load("k", origin.loader()).await.expect("a value");
                    assert_eq!((&**found.value, found.source), ("loaded", Source::Load), "{engine:?}");
                }
                assert!(names.get("k").await.expect("no failure").is_none());
                names.put("put", &"not kept".to_owned()).await.expect("no failure");
            })
            .await;
        assert_eq!(origin.calls(), 2);
        assert_eq!(*names.get("k").await.expect("no failure").expect("as before").value, "kept");
        assert!(names.get("put").await.expect("no failure").is_none(), "what was overwritten is not believed any more");
    }
}

#[tokio::test(start_paused = true)]
async fn one_cache_is_disabled_and_the_others_are_not() {
    let (one, other) = (testing::cache(), testing::cache());
    for cache in [&one, &other] {
        cache.put("k", "v", None).await.expect("a change");
    }
    let found = |cache: Cache| async move { cache.get("k").await.expect("no failure").is_some() };
    let (in_one, in_other) = one.disabled(async { (found(one.clone()).await, found(other.clone()).await) }).await;
    assert_eq!((in_one, in_other), (false, true));
    let (in_one, in_other) = testing::disabled(async { (found(one.clone()).await, found(other.clone()).await) }).await;
    assert_eq!((in_one, in_other), (false, false));
    let elsewhere = one.disabled(async { tokio::spawn(found(one.clone())).await.expect("no panic") }).await;
    assert!(elsewhere, "a task of its own is not in the scope");
}

#[tokio::test(start_paused = true)]
async fn without_its_cache_a_load_still_has_deadlines_and_a_bottom() {
    let cache = testing::cache();
    let hung = ScriptedLoader::new().hang().panic().error(LoadError::answer("forbidden")).value(Loaded::absent());
    let began = Instant::now();
    let classes = |answer: Result<_, Error>| answer.map(|_: tideover::Fetched| ()).map_err(|error| error.to_string());
    cache
        .disabled(async {
            let late = cache.get_or_load("k", hung.loader()).await;
            assert!(matches!(&late, Err(Error::Load(error)) if error.class() == Class::TimedOut), "{late:?}");
            assert_eq!(began.elapsed(), cache.policy().load_deadline);
            let panicked = cache.get_or_load("k", hung.loader()).await;
            assert!(matches!(&panicked, Err(Error::Load(error)) if error.class() == Class::Panicked), "{panicked:?}");
            assert_eq!(classes(cache.get_or_load("k", hung.loader()).await), Err("load failed: forbidden".to_owned()));
            assert!(cache.get_or_load("k", hung.loader()).await.is_err_and(|error| error.is_absent()));
        })
        .await;
    let inner = cache.clone();
    let again = cache.disabled(cache.get_or_load("k", move |_| {
        let inner = inner.clone();
        async move {
            match inner.get_or_load("k", |_| async { Ok(Loaded::new("never")) }).await {
                Err(Error::Refused(Refusal::Reentrant)) => Ok(Loaded::new("refused")),
                _ => Err(LoadError::answer("it was not refused")),
            }
        }
    }));
    assert_eq!(again.await.expect("a value").value, "refused");
}

#[test]
fn threads_can_do_without_a_cache_too() {
    let cache = testing::builder().build_blocking().expect("a cache");
    let origin = ScriptedLoader::new().then_always(Loaded::new("v"));
    cache.put("k", "kept", None).expect("a change");
    cache.expect_loads(0, || {
        cache.disabled(|| {
            let here = std::thread::current().id();
            let load = move |_| {
                assert_eq!(std::thread::current().id(), here, "nobody else may know of the scope");
                Ok(Loaded::new("here"))
            };
            assert_eq!(cache.get_or_load("k", load).expect("a value").value, "here");
        });
        let twice = || (0..2).all(|_| cache.get_or_load("k", origin.blocking_loader()).expect("a value").value == "v");
        assert!(testing::disabled_here(twice));
    });
    assert_eq!(origin.calls(), 2);
    assert_eq!(cache.get("k").expect("no failure").expect("as before").value, "kept");
}

#[tideover::cached(key = "sync:{id}")]
fn sync_number(id: u64) -> u64 {
    id + u64::from(std::thread::current().name().is_some_and(|name| name == "tideover"))
}

#[tideover::cached(key = "async:{id}")]
async fn async_number(id: u64) -> u64 {
    id
}

#[tokio::test]
async fn cached_functions_do_without_their_cache() {
    testing::disabled(async {
        assert_eq!((sync_number(7), async_number(8).await), (7, 8), "on the thread that asks");
        assert!(sync_number::peek(7).expect("an answer").is_none());
        assert!(async_number::peek(8).await.expect("an answer").is_none());
    })
    .await;
    assert_eq!((sync_number(7), async_number(8).await), (8, 8), "on a thread of its own");
    assert!(sync_number::peek(7).expect("an answer").is_some());
    assert!(async_number::peek(8).await.expect("an answer").is_some());
}
