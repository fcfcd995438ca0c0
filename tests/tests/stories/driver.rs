//! The tokio driver under paused time: what promises an exact moment is tested at that moment, and nothing waits for
//! the real clock. The native engine stands for both that this driver drives; the component has a clock of its own.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tideover::testing::{ScriptedStore, Weather};
use tideover::{Builder, Cache, Class, EngineKind, Error, Fetched, LoadError, Loaded, Settled, Source, Stale};
use tideover_tests::driving::{ENGINES, exact, millis, seconds};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

fn builder(engine: EngineKind) -> Builder {
    exact(engine, &[("ttl", "10s")])
}

/// A loader that counts its calls, takes a second, and answers with the number of the call.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Counting {
    async fn get(&self, cache: &Cache, key: &str) -> Result<Fetched, Error> {
        let calls = Arc::clone(&self.0);
        cache
            .get_or_load(key, move |_| {
                let calls = Arc::clone(&calls);
                async move {
                    let number = calls.fetch_add(1, Ordering::Relaxed) + 1;
                    tokio::time::sleep(seconds(1)).await;
                    Ok(Loaded::new(number.to_string()))
                }
            })
            .await
    }

    fn calls(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_are_one_load_and_wait_no_longer_than_it_takes() {
    for &engine in ENGINES {
        let (cache, loader) = (builder(engine).build().expect("a cache"), Counting::default());
        let began = Instant::now();
        let mut callers = JoinSet::new();
        for _ in 0..1_000 {
            let (cache, loader) = (cache.clone(), loader.clone());
            callers.spawn(async move { loader.get(&cache, "key").await.expect("a value") });
        }
        let answers = callers.join_all().await;
        assert_eq!((loader.calls(), began.elapsed()), (1, seconds(1)), "{engine:?}");
        assert!(answers.iter().all(|answer| answer.value == "1"));
        assert_eq!(answers.iter().filter(|answer| !answer.collapsed).count(), 1, "{engine:?}: one led");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cancelled_takes_nobody_with_it() {
    for &engine in ENGINES {
        let (cache, loader) = (builder(engine).build().expect("a cache"), Counting::default());
        let lead = tokio::spawn({
            let (cache, loader) = (cache.clone(), loader.clone());
            async move { loader.get(&cache, "key").await }
        });
        tokio::time::sleep(millis(500)).await;
        let follow = loader.get(&cache, "key");
        let (_, follow) = tokio::join!(async { lead.abort() }, follow);
        assert_eq!((follow.expect("a value").value, loader.calls()), ("1".into(), 1), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_ends_when_nobody_waits_for_it_any_more() {
    for &engine in ENGINES {
        let (cache, dropped) = (builder(engine).build().expect("a cache"), Arc::new(Notify::new()));
        let held = Arc::clone(&dropped);
        let caller = cache.get_or_load("key", move |_| {
            let tell = TellOnDrop(Arc::clone(&held));
            async move {
                let _told = tell;
                pending().await
            }
        });
        assert!(tokio::time::timeout(seconds(1), caller).await.is_err());
        tokio::time::timeout(seconds(1), dropped.notified()).await.expect("the load was dropped");
        let loader = Counting::default();
        assert_eq!(loader.get(&cache, "key").await.expect("a value").value, "1", "{engine:?}: the key is free");
    }
}

struct TellOnDrop(Arc<Notify>);

impl Drop for TellOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_panics_fails_its_waiters_and_nothing_else() {
    for &engine in ENGINES {
        let cache = builder(engine).build().expect("a cache");
        let panicking =
            |cache: Cache| async move { cache.get_or_load("key", |_| async { panic!("as the test wants it") }).await };
        let (one, other) = tokio::join!(panicking(cache.clone()), panicking(cache.clone()));
        for answer in [one, other] {
            assert_eq!(answer.expect_err("no value").load_error().map(LoadError::class), Some(Class::Panicked));
        }
        assert_eq!(Counting::default().get(&cache, "key").await.expect("a value").value, "1", "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_loader_is_ended_exactly_at_its_deadline() {
    for &engine in ENGINES {
        let builder = builder(engine).set("load_deadline", "3s").expect("an option");
        let cache = builder.build().expect("a cache");
        let began = Instant::now();
        let error = cache.get_or_load("key", |_| pending()).await.expect_err("no value");
        assert_eq!(error.load_error().map(LoadError::class), Some(Class::TimedOut), "{engine:?}");
        // Tokio's timers tick in milliseconds.
        assert!(began.elapsed() >= seconds(3) && began.elapsed() <= millis(3_002), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_callers_patience_ends_before_the_loads_and_the_load_goes_on() {
    for &engine in ENGINES {
        let builder = builder(engine).set("call_deadline", "400ms").expect("an option");
        let (cache, loader) = (builder.build().expect("a cache"), Counting::default());
        let began = Instant::now();
        assert!(matches!(loader.get(&cache, "key").await, Err(Error::DeadlinePassed)), "{engine:?}");
        assert!(began.elapsed() <= millis(402), "{:?}", began.elapsed());
        tokio::time::sleep(seconds(1)).await;
        let next = loader.get(&cache, "key").await.expect("a value");
        assert_eq!((next.source, loader.calls()), (Source::Memory, 1), "{engine:?}: it was not in vain");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_store_costs_a_quarter_of_a_second_until_its_circuit_opens() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        store.set(Weather::Hung);
        let (cache, loader) = (builder(engine).store(store).build().expect("a cache"), Counting::default());
        let mut costs = Vec::new();
        for number in 0..8 {
            let began = Instant::now();
            loader.get(&cache, &number.to_string()).await.expect("a value");
            costs.push(began.elapsed().saturating_sub(seconds(1)).as_millis() / 50);
            // The write of the value before times out meanwhile, and counts.
            tokio::time::sleep(millis(10)).await;
        }
        assert_eq!(costs[0], 5, "{engine:?}: 250 ms at first, {costs:?}");
        assert_eq!(*costs.last().expect("eight"), 0, "{engine:?}: nothing once it is open, {costs:?}");
        assert!(costs.iter().filter(|cost| **cost > 0).count() <= 5, "{engine:?}: {costs:?}");
        assert_eq!(cache.put("key", "v", None).await.expect("a put"), Settled::Journaled, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_the_stores_write_but_who_asked_for_it() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = builder(engine).store(store.clone()).build().expect("a cache");
        let began = Instant::now();
        let slow = move |_| {
            store.set(Weather::Slow(millis(500)));
            async { Ok(Loaded::new("v")) }
        };
        cache.get_or_load("loaded", slow).await.expect("a value");
        assert!(began.elapsed() < millis(10), "{engine:?}: {:?}", began.elapsed());
        assert_eq!(cache.put("put", "v", None).await.expect("a put"), Settled::Store, "{engine:?}");
        assert!(began.elapsed() >= millis(500), "{engine:?}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn the_windows_open_and_close_at_their_moments() {
    for &engine in ENGINES {
        let builder = builder(engine).stale_while_revalidate(seconds(5)).stale_if_error(seconds(20));
        let (cache, loader) = (builder.build().expect("a cache"), Counting::default());
        assert_eq!(loader.get(&cache, "key").await.expect("a value").value, "1");
        tokio::time::sleep(millis(9_990)).await;
        assert!(!loader.get(&cache, "key").await.expect("a value").is_stale(), "{engine:?}");
        tokio::time::sleep(millis(10)).await;
        let began = Instant::now();
        let stale = loader.get(&cache, "key").await.expect("a value");
        assert_eq!((stale.stale, began.elapsed()), (Some(Stale::WhileRevalidate), Duration::ZERO), "{engine:?}");
        tokio::time::sleep(millis(1_010)).await;
        assert_eq!(loader.get(&cache, "key").await.expect("a value").value, "2", "{engine:?}: refreshed behind it");
        tokio::time::sleep(seconds(16)).await;
        let down = cache.get_or_load("key", |_| async { Err(LoadError::unavailable("down")) }).await;
        assert_eq!(down.expect("a value").stale, Some(Stale::IfError), "{engine:?}");
        tokio::time::sleep(seconds(14)).await;
        let gone = cache.get_or_load("key", |_| async { Err(LoadError::unavailable("down")) }).await;
        assert!(matches!(gone, Err(Error::Load(_))), "{engine:?}: past every window");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_over_the_limit_is_served_and_not_kept() {
    for &engine in EngineKind::ALL {
        let cache = builder(engine).set("value_bytes_max", "100").expect("an option").build().expect("a cache");
        for (size, again) in [(100, Source::Memory), (101, Source::Load)] {
            let key = size.to_string();
            let load = move |_| async move { Ok(Loaded::new(vec![7; size])) };
            assert_eq!(cache.get_or_load(&key, load).await.expect("a value").value.len(), size, "{engine:?}");
            assert_eq!(cache.get_or_load(&key, load).await.expect("a value").source, again, "{engine:?}: {size}");
        }
        assert!(matches!(cache.put("key", vec![7; 101], None).await, Err(Error::Refused(_))), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_asks_for_its_own_key_is_refused_at_once() {
    for &engine in ENGINES {
        let cache = builder(engine).build().expect("a cache");
        let inner = cache.clone();
        let began = Instant::now();
        let outer = cache.get_or_load("key", move |_| {
            let inner = inner.clone();
            async move {
                let own = inner.get_or_load("key", |_| async { Ok(Loaded::new("never")) }).await;
                Ok(Loaded::new(format!("{}", own.expect_err("refused"))))
            }
        });
        let text = outer.await.expect("a value").value;
        assert!(String::from_utf8_lossy(&text).contains("this very key"), "{engine:?}");
        assert_eq!(began.elapsed(), Duration::ZERO, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn shutting_down_releases_everybody_and_can_be_said_twice() {
    for &engine in ENGINES {
        let cache = builder(engine).build().expect("a cache");
        assert!(cache.put("warm", "v", None).await.is_ok(), "{engine:?}");
        let waiting = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get_or_load("key", |_| pending()).await }
        });
        tokio::time::sleep(millis(10)).await;
        let began = Instant::now();
        cache.shutdown().await;
        cache.shutdown().await;
        assert!(began.elapsed() <= seconds(6), "{engine:?}: {:?}", began.elapsed());
        assert!(matches!(waiting.await.expect("an answer"), Err(Error::Abandoned)), "{engine:?}");
        assert!(matches!(cache.get("key").await, Err(Error::Closed)), "{engine:?}");
        let warm = cache.get_or_load("warm", |_| pending()).await;
        assert!(matches!(warm, Err(Error::Closed)), "{engine:?}: not even from memory");
    }
}

#[test]
fn a_runtime_that_goes_away_in_mid_flight_hangs_nobody() {
    for &engine in ENGINES {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let cache = runtime.block_on(async {
            let cache = builder(engine).build().expect("a cache");
            let waiting = cache.clone();
            tokio::spawn(async move { waiting.get_or_load("key", |_| pending()).await });
            tokio::task::yield_now().await;
            cache
        });
        drop(runtime);
        drop(cache);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_shown_for_debugging_holds_no_value() {
    let cache = Cache::builder().build().expect("a cache");
    let found = cache.get_or_load("key", |_| async { Ok(Loaded::new("secret")) }).await.expect("a value");
    let error = LoadError::unavailable("down").with_detail(Bytes::from_static(b"secret"));
    for shown in [format!("{found:?}"), format!("{cache:?}"), format!("{error:?}")] {
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[test]
fn outside_a_runtime_a_cache_is_refused() {
    assert!(matches!(Cache::builder().build(), Err(Error::NoRuntime)));
}
