//! What writes invalidate, when it takes effect, and what is loaded again: transactions, recaching, warming, resources.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tideover::store::MemoryStore;
use tideover::testing::{ScriptedStore, Weather};
use tideover::writes::{
    Invalidate, Progress, Recache, RecacheReason, TemplateError, WarmEnd, collect, invalidate, transaction,
};
use tideover::{
    Cache, CallError, CallOptions, EngineKind, Error, LoadContext, LoadError, Loaded, Refusal, Settled, Source,
};
use tideover_tests::driving::{ENGINES, about, exact, millis, seconds};
use tokio::time::{Instant, sleep, timeout};

fn cache(engine: EngineKind) -> Cache {
    exact(engine, &[]).build().expect("a cache")
}

fn cache_on(store: &ScriptedStore, engine: EngineKind) -> Cache {
    exact(engine, &[]).store(store.clone()).build().expect("a cache")
}

async fn has(cache: &Cache, key: &str) -> bool {
    cache.get(key).await.expect("an answer").is_some()
}

async fn put(cache: &Cache, key: &str, tags: &[&str]) {
    cache.put_tagged(key, "v", None, tags).await.expect("a put");
}

/// Counts how many are inside at once.
#[derive(Clone, Default)]
struct Crowd {
    inside: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    came: Arc<AtomicUsize>,
}

impl Crowd {
    async fn stay(&self, time: Duration) {
        self.came.fetch_add(1, Ordering::Relaxed);
        let inside = self.inside.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(inside, Ordering::Relaxed);
        sleep(time).await;
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }

    fn came(&self) -> usize {
        self.came.load(Ordering::Relaxed)
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn keys_and_tags_are_invalidated_together_and_the_rest_stays() {
    for &engine in EngineKind::ALL {
        let cache = exact(engine, &[("stale_while_revalidate", "1h")]).build().expect("a cache");
        for (key, tags) in [("a", &["x"][..]), ("b", &["x", "y"]), ("c", &["z"]), ("d", &[]), ("e", &[])] {
            put(&cache, key, tags).await;
        }
        let applied = cache.invalidate(Invalidate::new().tags(["x", "y", "x"]).keys(["d"])).await;
        assert_eq!((applied.done, applied.failed, applied.settled), (3, 0, Some(Settled::Memory)), "{engine:?}");
        let mut left = Vec::new();
        for key in ["a", "b", "c", "d", "e"] {
            left.push(has(&cache, key).await);
        }
        assert_eq!(left, [false, false, true, false, true], "{engine:?}");

        let expired = cache.invalidate(Invalidate::new().tag("z").expire().key("e")).await;
        assert_eq!(expired.done, 2, "{engine:?}");
        for key in ["c", "e"] {
            let kept = cache.get(key).await.expect("an answer").expect("stale is kept");
            assert!(kept.is_stale(), "{engine:?} {key}");
        }
        assert_eq!(cache.invalidate_tags(["z"]).await.done, 1, "{engine:?}");
        assert!(!has(&cache, "c").await, "{engine:?}");
    }
}

#[tokio::test]
async fn of_many_puts_one_that_is_past_a_limit_keeps_all_from_happening() {
    for &engine in EngineKind::ALL {
        let cache = exact(engine, &[("value_bytes_max", "4")]).build().expect("a cache");
        let refused = cache.put_many([("a", "1"), ("b", "too large")], None).await;
        let too_large = Error::Refused(Refusal::ValueTooLarge { bytes: 9, max: 4 });
        assert_eq!(refused.expect_err("a refusal").to_string(), too_large.to_string(), "{engine:?}");
        assert_eq!(cache.get_many(["a", "b"]).await.expect("answers"), [None, None], "{engine:?}");
    }
}

#[tokio::test]
async fn a_thousand_typed_values_are_put_and_got_in_order() {
    for &engine in EngineKind::ALL {
        let numbers = exact(engine, &[]).store(MemoryStore::new(10_000)).build().expect("a cache").typed::<u32>();
        let (keys, values): (Vec<_>, Vec<u32>) = (0..1000).map(|number| (format!("n:{number}"), number)).unzip();
        let put = numbers.put_many(keys.iter().zip(&values), None).await.expect("puts");
        assert_eq!((put.done, put.settled), (1000, Some(Settled::Store)), "{engine:?}");
        let found = numbers.get_many(keys.iter().rev()).await.expect("answers");
        let found: Vec<_> = found.into_iter().map(|found| *found.expect("a value").value).collect();
        assert_eq!(found, values.iter().rev().copied().collect::<Vec<_>>(), "{engine:?}");
        assert_eq!(numbers.remove_many(&keys).await.done, 1000, "{engine:?}");
        assert!(numbers.get_many(&keys).await.expect("answers").iter().all(Option::is_none), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_windows_of_a_call_hold_for_bytes_and_for_values_unless_a_loader_says_for_which() {
    for &engine in ENGINES {
        let cache = cache(engine);
        let hour = CallOptions::new().ttl(seconds(3600));
        let load = |loaded: Loaded| {
            move |_| {
                let loaded = loaded.clone();
                async move { Ok(loaded) }
            }
        };
        let bytes = cache.get_or_load_with("bytes", hour, load(Loaded::new("v"))).await.expect("a value");
        let own = load(Loaded::new("v").ttl(seconds(5)));
        let own = cache.get_or_load_with("own", hour, own).await.expect("a value");
        let numbers = cache.typed::<u32>();
        let value = numbers.get_or_load_with("value", hour, |_| async { Ok::<_, Infallible>(7) }).await;
        let value = value.expect("a value");
        let lifetimes = [bytes.ttl, own.ttl, value.ttl];
        assert_eq!(lifetimes, [3600, 5, 3600].map(|ttl| Some(seconds(ttl))), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_takes_effect_once_and_only_when_its_body_has_succeeded() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine);
        put(&cache, "user:7", &["users"]).await;
        let before = store.operations();
        let committed = transaction(async {
            for _write in 0..3 {
                let left = cache.invalidate(Invalidate::new().tag("users").key("user:7")).await;
                assert!(left.deferred && left.settled.is_none(), "{engine:?}");
            }
            assert!(has(&cache, "user:7").await, "{engine:?}");
            assert_eq!(store.operations(), before, "{engine:?}");
            Ok::<_, Infallible>("written")
        });
        let committed = committed.await.expect("a commit");
        assert_eq!(committed.value, "written", "{engine:?}");
        assert_eq!((committed.applied.done, committed.applied.settled), (2, Some(Settled::Store)), "{engine:?}");
        assert_eq!(store.operations(), before + 2, "{engine:?}: one note and one removal");
        assert!(!has(&cache, "user:7").await, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_fails_panics_or_is_dropped_changes_nothing() {
    for &engine in ENGINES {
        let cache = cache(engine);
        put(&cache, "k", &[]).await;
        let doomed = || async {
            let mut changes = cache.transaction();
            changes.remove("k").put("new", "v", None).expect("room");
            assert!(changes.commit().await.deferred, "{engine:?}");
        };
        let failed = transaction(async {
            doomed().await;
            Err::<(), _>("rolled back")
        });
        assert_eq!(failed.await.err(), Some("rolled back"), "{engine:?}");
        let panicked = std::panic::AssertUnwindSafe(transaction(async {
            doomed().await;
            if cache.policy().flights_max > 0 {
                panic!("as the test wants it");
            }
            Ok::<_, Infallible>(())
        }));
        assert!(panicked.catch_unwind().await.is_err(), "{engine:?}");
        let dropped = transaction(async {
            doomed().await;
            pending::<Result<(), Infallible>>().await
        });
        assert!(timeout(seconds(1), dropped).await.is_err(), "{engine:?}");
        // And a transaction that nobody commits.
        cache.transaction().remove("k");
        assert!(has(&cache, "k").await && !has(&cache, "new").await, "{engine:?}");
        // Nothing of all this is left for the next one.
        let next = transaction(async { Ok::<_, Infallible>(()) }).await.expect("a commit");
        assert_eq!(next.applied.done, 0, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_inside_another_one_is_a_part_of_it() {
    for &engine in ENGINES {
        let cache = cache(engine);
        for key in ["outer", "inner", "failed"] {
            put(&cache, key, &[]).await;
        }
        let removal = |key: &'static str| {
            let cache = cache.clone();
            async move { assert!(cache.invalidate(Invalidate::new().key(key)).await.deferred) }
        };
        let outer = transaction(async {
            removal("outer").await;
            let inner = transaction(removal("inner").map(Ok::<_, Infallible>)).await.expect("it succeeds");
            assert!(inner.applied.deferred && has(&cache, "inner").await, "{engine:?}");
            let failed = transaction(removal("failed").map(|()| Err::<(), _>("rolled back to the savepoint"))).await;
            assert!(failed.is_err(), "{engine:?}");
            Ok::<_, Infallible>(())
        });
        assert_eq!(outer.await.expect("a commit").applied.done, 2, "{engine:?}");
        let left = [has(&cache, "outer").await, has(&cache, "inner").await, has(&cache, "failed").await];
        assert_eq!(left, [false, false, true], "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_each_key_a_transaction_does_what_was_said_last() {
    for &engine in ENGINES {
        let cache = cache(engine);
        for key in ["put, removed", "removed, put", "put, its tag invalidated", "its tag invalidated, put"] {
            put(&cache, key, &["tag"]).await;
        }
        let mut changes = cache.transaction();
        changes.put("put, removed", "new", None).expect("room").remove("put, removed");
        changes.remove("removed, put").put("removed, put", "new", None).expect("room");
        changes.put_tagged("put, its tag invalidated", "new", None, ["tag"]).expect("room");
        changes.invalidate(Invalidate::new().tag("tag"));
        changes.put_tagged("its tag invalidated, put", "new", None, ["tag"]).expect("room");
        let applied = changes.commit().await;
        assert_eq!((applied.done, applied.failed), (5, 0), "{engine:?}: four keys and a tag");
        let keys = ["put, removed", "removed, put", "put, its tag invalidated", "its tag invalidated, put"];
        let found = cache.get_many(keys).await.expect("answers");
        let found: Vec<_> = found.iter().map(|found| found.as_ref().map(|found| &found.value[..])).collect();
        assert_eq!(found, [None, Some(&b"new"[..]), None, Some(b"new")], "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_committed_is_invalidated_although_its_caller_has_gone() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine);
        let keys: Vec<_> = (0..600).map(|number| format!("k:{number}")).collect();
        let put = cache.put_many(keys.iter().map(|key| (key, "v")), None).await.expect("puts");
        assert_eq!((put.done, put.failed), (600, 0), "{engine:?}");
        store.set(Weather::Slow(millis(100)));
        let write = transaction(async {
            let _deferred = cache.invalidate(Invalidate::new().keys(&keys)).await;
            Ok::<_, Infallible>(())
        });
        // Three batches take 300 ms.
        assert!(timeout(millis(50), write).await.is_err(), "{engine:?}: the caller goes");
        sleep(seconds(1)).await;
        store.set(Weather::Fair);
        assert!(cache.get_many(&keys).await.expect("answers").iter().all(Option::is_none), "{engine:?}");
        assert_eq!(store.value("k:599").await, None, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_fails_no_transaction_and_is_told_later() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine);
        put(&cache, "k", &[]).await;
        store.set(Weather::Hung);
        let began = Instant::now();
        let applied = cache.invalidate(Invalidate::new().key("k")).await;
        assert!(about(began, seconds(1)), "{engine:?}: {:?}", began.elapsed());
        assert_eq!((applied.done, applied.settled), (1, Some(Settled::Journaled)), "{engine:?}");
        assert!(!has(&cache, "k").await, "{engine:?}");
        store.set(Weather::Fair);
        sleep(seconds(3)).await;
        assert_eq!(store.value("k").await, None, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_cannot_be_made_is_reported_and_keeps_no_other_from_being_made() {
    for &engine in ENGINES {
        let cache = cache(engine);
        put(&cache, "k", &[]).await;
        let too_long = "x".repeat(cache.policy().key_bytes_max as usize + 1);
        let written = transaction(async {
            let _deferred = cache.invalidate(Invalidate::new().key("k").key(&too_long).tag(&too_long)).await;
            Ok::<_, Infallible>("committed")
        });
        let written = written.await.expect("the write has succeeded");
        assert_eq!((written.value, written.applied.done, written.applied.failed), ("committed", 1, 2), "{engine:?}");
        assert!(!has(&cache, "k").await, "{engine:?}");
        assert!(!format!("{:?}", written.applied).contains("xxx"), "{engine:?}: what is reported quotes no key");
        let error = written.applied.into_result().expect_err("the first failure");
        assert!(matches!(error, Error::Refused(Refusal::TagTooLong { .. })), "{engine:?}: {error}");
        cache.shutdown().await;
        let closed = cache.invalidate(Invalidate::new().key("k")).await;
        assert!(matches!(closed.error, Some(Error::Closed)), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_that_finds_too_much_under_way_is_made_a_little_later() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = exact(engine, &[("flights_max", "4")]).store(store.clone()).build().expect("a cache");
        store.set(Weather::Slow(millis(100)));
        let keys: Vec<_> = (0..20).map(|number| number.to_string()).collect();
        let removed = cache.remove_many(&keys).await;
        assert_eq!((removed.done, removed.failed), (20, 0), "{engine:?}");
        assert!(cache.stats().await.expect("a report").count("refused") > 0, "{engine:?}: it was refused at first");
    }
}

#[tokio::test(start_paused = true)]
async fn one_transaction_may_be_about_several_caches() {
    for &engine in ENGINES {
        let (users, pages) = (cache(engine), cache(engine));
        for cache in [&users, &pages] {
            put(cache, "k", &[]).await;
        }
        let both = transaction(async {
            for cache in [&users, &pages, &users.clone()] {
                let _deferred = cache.invalidate(Invalidate::new().key("k")).await;
            }
            Ok::<_, Infallible>(())
        });
        assert_eq!(both.await.expect("a commit").applied.done, 2, "{engine:?}: clones are one cache");
        assert!(!has(&users, "k").await && !has(&pages, "k").await, "{engine:?}");
    }
}

#[test]
fn threads_have_transactions_too() {
    for &engine in EngineKind::ALL {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let cache = runtime.block_on(async { cache(engine) });
        runtime.block_on(put(&cache, "k", &[]));
        let removal = || runtime.block_on(cache.invalidate(Invalidate::new().key("k")));
        let failed = collect(|| {
            assert!(removal().deferred, "{engine:?}");
            Err::<(), _>("rolled back")
        });
        assert!(failed.is_err() && runtime.block_on(has(&cache, "k")), "{engine:?}");
        let outer = collect(|| {
            let inner = collect(|| Ok::<_, Infallible>(removal())).expect("it succeeds");
            assert!(runtime.block_on(inner.commit()).applied.deferred, "{engine:?}");
            assert!(runtime.block_on(has(&cache, "k")), "{engine:?}");
            Ok::<_, Infallible>("written")
        });
        let committed = runtime.block_on(outer.expect("it succeeds").commit());
        assert_eq!((committed.value, committed.applied.done), ("written", 1), "{engine:?}");
        assert!(!runtime.block_on(has(&cache, "k")), "{engine:?}");
        assert_eq!(removal().done, 1, "{engine:?}: outside of a transaction it is made at once");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_recached_sees_what_was_committed_and_nobody_waits_for_it() {
    for &engine in ENGINES {
        let cache = cache(engine);
        cache.put("k", "old", None).await.expect("a put");
        let again = cache.clone();
        let recache = Recache::new().with("k", async move {
            let load = |_| async {
                sleep(seconds(1)).await;
                Ok(Loaded::new("new"))
            };
            again.get_or_load("k", load).await.map(drop)
        });
        let began = Instant::now();
        let written = transaction(async {
            let _deferred = invalidate(&cache, Invalidate::new().key("k"), recache).await;
            sleep(seconds(5)).await;
            Ok::<_, Infallible>(cache.get("k").await.expect("an answer").expect("untouched until the commit").value)
        });
        let written = written.await.expect("a commit");
        assert_eq!(written.value, "old", "{engine:?}");
        assert!(about(began, seconds(5)) && written.applied.recached.is_none(), "{engine:?}: behind the caller");
        sleep(millis(1001)).await;
        let after = cache.get("k").await.expect("an answer").expect("recached");
        assert_eq!((&after.value[..], after.source), (&b"new"[..], Source::Memory), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_recache_that_fails_panics_or_hangs_stops_none_of_the_others() {
    for &engine in ENGINES {
        let cache = cache(engine);
        let crowd = Crowd::default();
        let mut recache = Recache::new()
            .with("fails", async { Err("the table is locked") })
            .with("panics", async { if true { panic!("as the test wants it") } else { Ok::<_, Error>(()) } })
            .with("hangs", pending::<Result<(), Error>>())
            .timeout(seconds(2))
            .concurrency(3)
            .wait();
        for number in 0..9 {
            let crowd = crowd.clone();
            recache = recache.with(format!("good {number}"), async move {
                crowd.stay(millis(100)).await;
                Ok::<_, Error>(())
            });
        }
        let began = Instant::now();
        let recached = invalidate(&cache, Invalidate::new().key("k"), recache).await.recached.expect("waited for");
        assert!(about(began, seconds(2)), "{engine:?}: {:?}", began.elapsed());
        assert_eq!((recached.done, crowd.came(), crowd.most()), (9, 9, 2), "{engine:?}: one of three places hangs");
        let mut failed: Vec<_> = recached
            .failed
            .iter()
            .map(|error| match &error.reason {
                RecacheReason::Failed(cause) => (&*error.name, cause.to_string()),
                reason => (&*error.name, reason.to_string()),
            })
            .collect();
        failed.sort();
        let expected = [
            ("fails", "the table is locked".to_owned()),
            ("hangs", "it took longer than 2s".to_owned()),
            ("panics", "it panicked".to_owned()),
        ];
        assert_eq!(failed, expected, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_writes_of_one_transaction_want_recached_is_one_work() {
    for &engine in ENGINES {
        for waits in [false, true] {
            let (cache, crowd) = (cache(engine), Crowd::default());
            let wanted = |concurrency| {
                let inside = crowd.clone();
                let recache = Recache::new().concurrency(concurrency).with("k", async move {
                    inside.stay(millis(100)).await;
                    Ok::<_, Error>(())
                });
                if waits { recache.wait() } else { recache }
            };
            let written = transaction(async {
                for number in 0..12 {
                    let _deferred = invalidate(&cache, Invalidate::new(), wanted(3 + number % 4)).await;
                }
                Ok::<_, Error>(())
            });
            let recached = written.await.expect("committed").applied.recached;
            assert_eq!(recached.map(|recached| recached.done), waits.then_some(12), "{engine:?}");
            sleep(seconds(1)).await;
            assert_eq!((crowd.came(), crowd.most()), (12, 3), "{engine:?}: the most modest says how many at once");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_recaches_nothing() {
    for &engine in ENGINES {
        let cache = cache(engine);
        let crowd = Crowd::default();
        let inside = crowd.clone();
        let recache = Recache::new().with("k", async move {
            inside.stay(Duration::ZERO).await;
            Ok::<_, Error>(())
        });
        let failed = transaction(async {
            let _deferred = invalidate(&cache, Invalidate::new(), recache).await;
            Err::<(), _>("rolled back")
        });
        assert!(failed.await.is_err(), "{engine:?}");
        sleep(seconds(1)).await;
        assert_eq!(crowd.came(), 0, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn warming_loads_so_many_at_once_and_leaves_alone_what_is_fresh() {
    for &engine in ENGINES {
        let cache = cache(engine);
        put(&cache, "k:3", &[]).await;
        let crowd = Crowd::default();
        let seen = Arc::new(std::sync::Mutex::new(Vec::<Progress>::new()));
        let (inside, watched) = (crowd.clone(), Arc::clone(&seen));
        let load = move |context: LoadContext| {
            let inside = inside.clone();
            async move {
                inside.stay(millis(100)).await;
                match &*context.key {
                    "k:7" => Err(LoadError::unavailable("this one is broken")),
                    "k:8" => Ok(Loaded::absent()),
                    _ => Ok(Loaded::new("v")),
                }
            }
        };
        let began = Instant::now();
        let warmed = cache
            .warm((0..40).map(|number| format!("k:{number}")), load)
            .concurrency(5)
            .progress(move |progress| watched.lock().expect("no panic").push(progress))
            .budget(Duration::MAX)
            .run()
            .await;
        let Progress { loaded, fresh, absent, failed, total, elapsed, .. } = warmed.progress;
        assert_eq!((loaded, fresh, absent, failed, total), (37, 1, 1, 1, Some(40)), "{engine:?}");
        assert_eq!((crowd.came(), crowd.most()), (39, 5), "{engine:?}");
        assert!(about(began, millis(800)) && elapsed >= millis(800), "{engine:?}: {:?}", began.elapsed());
        assert_eq!(warmed.ended, WarmEnd::Done, "{engine:?}");
        assert!(warmed.error.is_some_and(|error| error.is_unavailable()), "{engine:?}");
        let done: Vec<_> = seen.lock().expect("no panic").iter().map(Progress::done).collect();
        assert_eq!(done, (1..=40).collect::<Vec<_>>(), "{engine:?}");
        assert!(has(&cache, "k:39").await, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_ends_the_warming_instead_of_failing_for_each_key() {
    for &engine in ENGINES {
        let cache = cache(engine);
        let crowd = Crowd::default();
        let inside = crowd.clone();
        let load = move |_| {
            let inside = inside.clone();
            async move {
                inside.stay(millis(1)).await;
                Err(LoadError::unavailable("down"))
            }
        };
        let warmed = cache.warm((0..10_000).map(|number| number.to_string()), load).concurrency(8).run().await;
        assert!(
            matches!(warmed.ended, WarmEnd::CircuitOpen { retry_after } if retry_after.is_some_and(|wait| !wait.is_zero())),
            "{engine:?}"
        );
        assert!(crowd.came() < 20, "{engine:?}: {} loads", crowd.came());
        assert!(warmed.progress.done() < 40, "{engine:?}: {:?}", warmed.progress);
        assert_eq!(warmed.progress.total, Some(10_000), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn warming_ends_when_its_time_is_up_or_nobody_waits_for_it_any_more() {
    for &engine in ENGINES {
        let cache = cache(engine);
        let crowd = Crowd::default();
        let slow = || {
            let inside = crowd.clone();
            move |_| {
                let inside = inside.clone();
                async move {
                    inside.stay(seconds(1)).await;
                    Ok(Loaded::new("v"))
                }
            }
        };
        let keys = |of: &'static str| (0..1000).map(move |number| format!("{of}:{number}"));
        let warmed = cache.warm(keys("a"), slow()).concurrency(2).budget(millis(2500)).run().await;
        assert_eq!((warmed.ended, warmed.progress.loaded), (WarmEnd::OutOfTime, 4), "{engine:?}");
        let dropped = timeout(millis(2500), cache.warm(keys("b"), slow()).concurrency(2).run()).await;
        assert!(dropped.is_err(), "{engine:?}");
        let came = crowd.came();
        sleep(seconds(60)).await;
        assert_eq!((crowd.came(), came), (12, 12), "{engine:?}: nothing goes on behind it");
        cache.shutdown().await;
        let closed = cache.warm(keys("c"), slow()).run().await;
        assert_eq!((closed.ended, closed.progress.loaded), (WarmEnd::Closed, 0), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_and_the_warming_share_one_load() {
    for &engine in ENGINES {
        let cache = cache(engine);
        let crowd = Crowd::default();
        let inside = crowd.clone();
        let load = move |_: LoadContext| {
            let inside = inside.clone();
            async move {
                inside.stay(millis(100)).await;
                Ok(Loaded::new("v"))
            }
        };
        let warming = cache.warm(["k"], load.clone()).run();
        let (warmed, read) = tokio::join!(warming, cache.get_or_load("k", load));
        assert_eq!((warmed.progress.loaded, crowd.came()), (1, 1), "{engine:?}");
        assert!(read.expect("a value").collapsed, "{engine:?}");
    }
}

#[tokio::test]
async fn a_change_of_an_entity_reaches_all_of_its_views_and_nobody_elses() {
    for &engine in EngineKind::ALL {
        let store = ScriptedStore::default();
        let other_process = exact(engine, &[]).store(store.clone()).build().expect("a cache");
        let users = exact(engine, &[]).store(store).build().expect("a cache").resource("user", "user_id");
        let profile = users.view::<String>("profile");
        let theme = users.view_at::<String>("v2:user:{user_id}:theme").expect("a template");
        let ids = ["7", "70", "7:profile", "7%3Aprofile"];
        for id in ids {
            profile.put(id, &format!("profile of {id}")).await.expect("a put");
            theme.put(id, &format!("theme of {id}")).await.expect("a put");
        }
        for id in ids {
            assert_eq!(*profile.get(id).await.expect("an answer").expect("a value").value, format!("profile of {id}"));
        }
        let there = other_process.resource("user", "user_id").view::<String>("profile");
        assert!(there.get("7").await.expect("an answer").is_some(), "{engine:?}");

        assert_eq!(users.changed("7").await.done, 3, "{engine:?}: a tag and two keys");
        for (view, what) in [(&profile, "profile"), (&theme, "theme"), (&there, "elsewhere")] {
            assert!(view.get("7").await.expect("an answer").is_none(), "{engine:?} {what}");
        }
        for id in &ids[1..] {
            assert!(profile.get(*id).await.expect("an answer").is_some(), "{engine:?} {id}");
            assert!(theme.get(*id).await.expect("an answer").is_some(), "{engine:?} {id}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_did_not_exist_does_once_the_entity_has_changed() {
    for &engine in ENGINES {
        let users = cache(engine).resource("user", "user_id");
        let names = users.view::<String>("name").ttl(seconds(60));
        let nobody = names.get_or_load(&7, |_| async { Ok::<_, Infallible>(Loaded::absent()) }).await;
        assert!(nobody.is_err(), "{engine:?}");
        let there = |_| async { Ok::<_, Infallible>("Ada".to_owned()) };
        assert!(names.get_or_load(&7, there).await.is_err(), "{engine:?}: it is remembered that there is nobody");
        let _applied = users.changed(&7).await;
        let found = names.get_or_load(&7, there).await.expect("a user");
        assert_eq!((&**found.value, found.ttl), ("Ada", Some(seconds(60))), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn views_bear_tags_of_their_own_and_are_warmed_by_id() {
    for &engine in ENGINES {
        let cache = cache(engine);
        let users = cache.resource("user", "user_id");
        let names =
            users.view::<String>("name").tags(["names", "audit:{user_id}"]).expect("templates").ttl(seconds(60));
        assert_eq!(names.tags_of(&7), ["user:7", "names", "audit:7"]);
        let warmed = names.warm(0..10_u64, |id| async move { Ok::<_, Infallible>(format!("user {id}")) }).run().await;
        assert_eq!((warmed.progress.loaded, warmed.ended), (10, WarmEnd::Done), "{engine:?}");
        let third = names.get(&3).await.expect("an answer").expect("a value");
        assert_eq!((&**third.value, third.ttl), ("user 3", Some(seconds(60))), "{engine:?}");
        for (tag, gone) in [("audit:3", 3), ("user:4", 4)] {
            cache.invalidate_tag(tag).await.expect("an invalidation");
            assert!(names.get(&gone).await.expect("an answer").is_none(), "{engine:?} {tag}");
        }
        assert!(names.get(&5).await.expect("an answer").is_some(), "{engine:?}");
        cache.invalidate_tag("names").await.expect("an invalidation");
        assert!(names.get(&5).await.expect("an answer").is_none(), "{engine:?}");
    }
}

#[tokio::test]
async fn a_template_that_would_put_all_ids_under_one_key_is_refused() {
    let users = cache(EngineKind::Native).resource("user", "user_id");
    let constant = users.view_at::<String>("v2:users").expect_err("it names no id");
    assert!(matches!(constant, TemplateError::Constant { .. }), "{constant}");
    let unknown = users.view::<String>("name").tags(["org:{org_id}"]).expect_err("the resource has no such id");
    assert_eq!(unknown.to_string(), "the template `org:{org_id}` names `{org_id}`; the resource knows `{user_id}`");
}

#[tokio::test(start_paused = true)]
async fn the_loads_of_a_view_have_a_circuit_of_their_own_warmed_or_asked_for() {
    for &engine in ENGINES {
        let users =
            exact(engine, &[("load_breaker_failures", "3")]).build().expect("a cache").resource("user", "user_id");
        let profiles = users.view::<String>("profile").loader("profiles");
        let down = |_: u64| async { Err::<String, _>(LoadError::unavailable("down")) };
        let warmed = profiles.warm(0..1_000_u64, down).concurrency(1).run().await;
        assert!(matches!(warmed.ended, WarmEnd::CircuitOpen { .. }), "{engine:?}");
        let refused = profiles.get_or_load(&7, |_| async { Ok::<_, LoadError>("Ada".to_owned()) }).await;
        assert!(matches!(refused, Err(CallError::Cache(Error::Open { .. }))), "{engine:?}: {refused:?}");

        let settings = users.view::<String>("settings");
        let warmed = settings.warm(0..3_u64, |_| async { Ok::<_, LoadError>("dark".to_owned()) }).run().await;
        assert_eq!(warmed.progress.loaded, 3, "{engine:?}: the circuit of the others is closed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_view_asks_its_origin_again_when_that_said() {
    for &engine in ENGINES {
        let users = exact(engine, &[("load_attempts", "2")]).build().expect("a cache").resource("user", "user_id");
        let names = users.view::<String>("name").retry_after(|wait: &Duration| Some(*wait));
        let began = Instant::now();
        let load = |context: LoadContext<_>| async move {
            if context.attempt == 1 { Err(seconds(3)) } else { Ok("Ada".to_owned()) }
        };
        assert_eq!(*names.get_or_load(&7, load).await.expect("the second attempt succeeds").value, "Ada", "{engine:?}");
        assert!(about(began, seconds(3)), "{engine:?}: {:?}", began.elapsed());
        let late = names.warm([8], |_| async { Err::<String, _>(seconds(3_600)) }).run().await;
        let told = late.error.and_then(|error| error.retry_after());
        assert_eq!(told, Some(seconds(3_600)), "{engine:?}");
    }
}
