//! The tokio driver beside a store that hangs, fails and comes back, under paused time; and what becomes of flights when
//! their callers, loaders or runtimes go. Moments are exact to the millisecond in which tokio's timers tick.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tideover::store::{MemoryStore, Store, StoreError};
use tideover::testing::{ScriptedStore, Weather};
use tideover::{Cache, Class, EngineKind, Error, LoadError, Loaded, Settled, Source};
use tideover_tests::driving::{ENGINES, about, exact, millis, seconds};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

fn cache_on(store: &ScriptedStore, engine: EngineKind, options: &[(&str, &str)]) -> Cache {
    exact(engine, options).store(store.clone()).build().expect("a cache")
}

#[tokio::test(start_paused = true)]
async fn puts_of_an_outage_reach_the_store_by_themselves_and_the_newest_wins() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let (cache, other) = (cache_on(&store, engine, &[]), cache_on(&store, engine, &[]));
        assert_eq!(cache.put("key", "v1", None).await.expect("a put"), Settled::Store, "{engine:?}");
        store.set(Weather::Away);
        for value in ["v2", "v3"] {
            assert_eq!(cache.put("key", value, None).await.expect("a put"), Settled::Journaled, "{engine:?}");
        }
        assert_eq!(cache.remove("gone").await.expect("a removal"), Settled::Journaled, "{engine:?}");
        assert_eq!(store.value("key").await, Some("v1".into()), "{engine:?}");
        store.set(Weather::Fair);
        // Nobody calls. The circuit is open for a second at first, and debts are looked after twice a second.
        sleep(seconds(3)).await;
        assert_eq!(store.value("key").await, Some("v3".into()), "{engine:?}");
        assert_eq!(other.get("key").await.expect("an answer").expect("a value").value, "v3", "{engine:?}");
        let report = cache.stats().await.expect("a report");
        assert_eq!((report.count("owed"), report.count("replayed")), (0, 2), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clear_in_an_outage_holds_when_the_store_is_back() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine, &[]);
        cache.put("key", "v1", None).await.expect("a put");
        store.set(Weather::Away);
        assert_eq!(cache.clear().await.expect("a clear"), Settled::Journaled, "{engine:?}");
        store.set(Weather::Fair);
        // The store answers, and has the old value; it is not asked before it is cleared.
        assert!(cache.get("key").await.expect("an answer").is_none(), "{engine:?}");
        sleep(seconds(3)).await;
        assert_eq!(store.value("key").await, None, "{engine:?}");
        assert!(!cache.stats().await.expect("a report").owes_clear, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_write_is_given_up_at_its_deadline_and_the_next_one_of_the_key_after_its_own() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine, &[]);
        store.set(Weather::Hung);
        let began = Instant::now();
        let first = async {
            let settled = cache.put("key", "v1", None).await.expect("a put");
            assert!(about(began, seconds(1)), "{engine:?}: {:?}", began.elapsed());
            settled
        };
        let second = async {
            let settled = cache.put("key", "v2", None).await.expect("a put");
            assert!(about(began, seconds(2)), "{engine:?}: {:?}", began.elapsed());
            settled
        };
        assert_eq!(tokio::join!(first, second), (Settled::Journaled, Settled::Journaled), "{engine:?}");
        assert_eq!(cache.get("key").await.expect("an answer").expect("a value").value, "v2", "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_leaves_the_store_alone() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine, &[("store_attempts", "1"), ("store_breaker_open_for", "30s")]);
        store.set(Weather::Away);
        let load = |key: String| {
            let cache = cache.clone();
            async move { cache.get_or_load(&key, |_| async { Ok(Loaded::new("v")) }).await.expect("a value") }
        };
        for number in 0..100 {
            load(number.to_string()).await;
        }
        assert_eq!(store.operations(), 5, "{engine:?}: five in a row open it");
        sleep(seconds(29)).await;
        load("before the probe".to_owned()).await;
        assert_eq!(store.operations(), 5, "{engine:?}");
        sleep(seconds(1)).await;
        store.set(Weather::Fair);
        load("the probe".to_owned()).await;
        assert!(store.operations() > 5, "{engine:?}");
        assert_eq!(cache.stats().await.expect("a report").store_breaker.stats.recoveries, 1, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn warm_keys_stay_readable_in_an_outage_although_memory_has_let_go_of_them() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine, &[("time_to_idle", "10s"), ("ttl", "10m")]);
        cache.get_or_load("key", |_| async { Ok(Loaded::new("v")) }).await.expect("a value");
        sleep(seconds(20)).await;
        store.set(Weather::Away);
        let down = cache.get_or_load("key", |_| async { Err(LoadError::unavailable("down")) }).await;
        assert_eq!(down.expect("a value").source, Source::Fallback, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn tagged_values_are_in_the_fallback_until_a_tag_is_invalidated() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine, &[("time_to_idle", "10s"), ("ttl", "10m"), ("load_attempts", "1")]);
        for key in ["pear", "plum"] {
            cache.get_or_load(key, move |_| async move { Ok(Loaded::new("v").tags([key])) }).await.expect("a value");
        }
        sleep(seconds(20)).await;
        store.set(Weather::Away);
        cache.invalidate_tag("plum").await.expect("an invalidation");
        let down = |key| cache.get_or_load(key, |_| async { Err(LoadError::unavailable("down")) });
        assert_eq!(down("pear").await.expect("a value").source, Source::Fallback, "{engine:?}");
        assert!(down("plum").await.is_err(), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_is_a_store_that_is_away() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine, &[]);
        store.set(Weather::Panicking);
        let found = cache.get_or_load("key", |_| async { Ok(Loaded::new("v")) }).await;
        assert_eq!(found.expect("a value").value, "v", "{engine:?}");
        assert_eq!(cache.put("key", "v2", None).await.expect("a put"), Settled::Journaled, "{engine:?}");
        assert!(cache.stats().await.expect("a report").count("store_failures") >= 2, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_value_does_not_leave_an_older_one_behind() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine, &[("store_breaker", "false")]);
        cache.put("key", "v1", None).await.expect("a put");
        store.set(Weather::Refusing);
        assert_eq!(cache.put("key", "too large", None).await.expect("a put"), Settled::Journaled, "{engine:?}");
        sleep(seconds(2)).await;
        store.set(Weather::Fair);
        sleep(seconds(2)).await;
        assert_eq!(store.value("key").await, None, "{engine:?}");
        assert_eq!(cache.get("key").await.expect("an answer").expect("a value").value, "too large", "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn private_results_make_no_convoy() {
    for &engine in ENGINES {
        let cache = exact(engine, &[]).build().expect("a cache");
        let (loads, began, mut callers) = (Arc::new(AtomicUsize::new(0)), Instant::now(), JoinSet::new());
        for _ in 0..50 {
            let (cache, loads) = (cache.clone(), Arc::clone(&loads));
            callers.spawn(async move {
                let load = move |_| {
                    let number = loads.fetch_add(1, Ordering::Relaxed);
                    async move {
                        sleep(seconds(1)).await;
                        Ok(Loaded::new(number.to_string()).private())
                    }
                };
                cache.get_or_load("cart", load).await.expect("a value").value
            });
        }
        let mut values = callers.join_all().await;
        assert!(about(began, seconds(2)), "{engine:?}: one for all, then each for itself: {:?}", began.elapsed());
        values.sort();
        values.dedup();
        assert_eq!((values.len(), loads.load(Ordering::Relaxed)), (50, 50), "{engine:?}: nobody has another's");
    }
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_comes_back_to_its_key_through_another_is_refused() {
    for &engine in ENGINES {
        let cache = exact(engine, &[]).build().expect("a cache");
        let (outer, inner) = (cache.clone(), cache.clone());
        let load = move |_| {
            let inner = inner.clone();
            let outer = outer.clone();
            async move {
                let through = move |_| {
                    let back = inner.clone();
                    async move {
                        let own = back.get_or_load("a", |_| async { Ok(Loaded::new("never")) }).await;
                        assert!(matches!(own, Err(Error::Refused(_))), "{own:?}");
                        Ok(Loaded::new("b"))
                    }
                };
                Ok(Loaded::new(outer.get_or_load("b", through).await.expect("a value").value))
            }
        };
        let began = Instant::now();
        assert_eq!(cache.get_or_load("a", load).await.expect("a value").value, "b", "{engine:?}");
        assert_eq!(began.elapsed(), Duration::ZERO, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_says_when_to_come_back_is_believed() {
    for &engine in ENGINES {
        let cache = exact(engine, &[("load_attempts", "2"), ("retry_jitter", "none")]).build().expect("a cache");
        let began = Instant::now();
        let load = |context: tideover::LoadContext| async move {
            match context.attempt {
                1 => Err(LoadError::unavailable("busy").retry_after(seconds(3))),
                _ => Ok(Loaded::new("v")),
            }
        };
        assert_eq!(cache.get_or_load("key", load).await.expect("a value").value, "v", "{engine:?}");
        assert!(about(began, seconds(3)), "{engine:?}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_of_the_loader_says_until_when() {
    for &engine in ENGINES {
        let cache = exact(engine, &[("load_breaker_failures", "1"), ("load_breaker_open_for", "20s")]);
        let cache = cache.build().expect("a cache");
        let down = |_| async { Err(LoadError::unavailable("down")) };
        let first = cache.get_or_load("a", down).await.expect_err("no value");
        assert_eq!(first.load_error().map(LoadError::class), Some(Class::Unavailable), "{engine:?}");
        sleep(seconds(5)).await;
        let refused = cache.get_or_load("b", down).await;
        assert!(matches!(refused, Err(Error::Open { retry_after }) if retry_after == Some(seconds(15))), "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_callers_any_may_go() {
    for &engine in ENGINES {
        let cache = exact(engine, &[]).build().expect("a cache");
        let (loads, mut callers) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        for number in 0..1_000 {
            let (cache, loads) = (cache.clone(), Arc::clone(&loads));
            callers.spawn(async move {
                let load = move |_| {
                    loads.fetch_add(1, Ordering::Relaxed);
                    async {
                        sleep(seconds(1)).await;
                        Ok(Loaded::new("v"))
                    }
                };
                // All but every hundredth lose patience somewhere on the way, the first one at once.
                let patience = if number % 100 == 99 { seconds(60) } else { millis(number) };
                tokio::time::timeout(patience, cache.get_or_load("key", load)).await.ok()
            });
        }
        let answers: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
        assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|found| found.value == "v")), "{engine:?}");
        assert_eq!((answers.len(), loads.load(Ordering::Relaxed)), (10, 1), "{engine:?}");
        assert_eq!(cache.stats().await.expect("a report").count("flights"), 0, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn shutting_down_beside_a_hung_store_releases_puts_within_the_grace() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine, &[("store_write_deadline", "1h"), ("call_deadline", "2h")]);
        store.set(Weather::Hung);
        let mut puts = JoinSet::new();
        for value in ["v1", "v2"] {
            let cache = cache.clone();
            puts.spawn(async move { cache.put("key", value, None).await });
        }
        sleep(millis(10)).await;
        let began = Instant::now();
        cache.shutdown().await;
        assert!(about(began, seconds(5)), "{engine:?}: {:?}", began.elapsed());
        for put in puts.join_all().await {
            assert!(matches!(put, Ok(Settled::Journaled) | Err(Error::Abandoned)), "{engine:?}: {put:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_of_its_own_is_closed_by_the_shutdown_and_one_that_others_share_is_not() {
    for &engine in ENGINES {
        let cache = exact(engine, &[]).store(MemoryStore::new(100)).build().expect("a cache");
        assert_eq!(cache.store_answers().await, Some(true), "{engine:?}");
        cache.shutdown().await;
        assert_eq!(cache.store_answers().await, Some(false), "{engine:?}");

        let shared: Arc<dyn Store> = Arc::new(MemoryStore::new(100));
        let sharing = || exact(engine, &[]).shared_store(Arc::clone(&shared)).build().expect("a cache");
        let (one, other) = (sharing(), sharing());
        one.put("key", "v", None).await.expect("a put");
        one.shutdown().await;
        one.shutdown().await;
        assert_eq!(
            other.get("key").await.expect("an answer").map(|found| found.source),
            Some(Source::Store),
            "{engine:?}"
        );
        assert_eq!(other.put("key", "w", None).await.expect("a put"), Settled::Store, "{engine:?}");
    }
}

/// A flight that is abandoned while its runtime goes away hands its place to the next one, which nobody can fly any more.
#[test]
fn a_runtime_that_goes_away_takes_queued_writes_and_debts_with_it() {
    for &engine in ENGINES {
        for workers in [0, 2] {
            let (ended, end) = mpsc::channel();
            std::thread::spawn(move || {
                let mut builder = match workers {
                    0 => tokio::runtime::Builder::new_current_thread(),
                    _ => tokio::runtime::Builder::new_multi_thread(),
                };
                let runtime = builder.enable_all().build().expect("a runtime");
                let store = ScriptedStore::default();
                let cache = runtime.block_on(async {
                    let cache = cache_on(&store, engine, &[]);
                    store.set(Weather::Away);
                    cache.put("owed", "v", None).await.expect("a put");
                    store.set(Weather::Hung);
                    for value in ["v1", "v2", "v3"] {
                        let cache = cache.clone();
                        tokio::spawn(async move { cache.put("key", value, None).await });
                        tokio::task::yield_now().await;
                    }
                    cache
                });
                drop(runtime);
                // What is left of the cache works in another runtime.
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                store.set(Weather::Fair);
                let found =
                    runtime.block_on(async { cache.get_or_load("other", |_| async { Ok(Loaded::new("v")) }).await });
                assert_eq!(found.expect("a value").value, "v");
                ended.send(()).expect("the test waits");
            });
            end.recv_timeout(seconds(20)).unwrap_or_else(|_| panic!("{engine:?} with {workers} workers hangs"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn neither_keys_nor_values_are_shown_by_errors() {
    const KEY: &str = "password:of:ada";
    let store = ScriptedStore::default();
    let cache = cache_on(&store, EngineKind::Native, &[("key_bytes_max", "15"), ("value_bytes_max", "6")]);
    let down = cache.get_or_load(KEY, |_| async { Err(LoadError::answer("no").with_detail("hunter2".into())) }).await;
    let panicked = cache.get_or_load(KEY, |_| async { panic!("hunter2") }).await;
    let too_long = cache.get_or_load(&format!("{KEY}!"), |_| async { Ok(Loaded::new("v")) }).await;
    let too_large = cache.put(KEY, "hunter2", None).await;
    let mut shown: Vec<String> = [down.map(drop), panicked.map(drop), too_long.map(drop), too_large.map(drop)]
        .into_iter()
        .map(|result| result.expect_err("no value"))
        .map(|error| format!("{error} {error:?}"))
        .collect();
    cache.put(KEY, "v", None).await.expect("a put");
    store.set(Weather::Away);
    let away: Result<_, StoreError> = store.read(KEY).await;
    shown.push(format!("{away:?} {cache:?} {:?}", cache.stats().await.expect("a report")));
    for text in shown {
        assert!(!text.contains("ada") && !text.contains("hunter2"), "{text}");
    }
}
