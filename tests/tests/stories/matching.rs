//! Invalidation by pattern: whatever key matches, wherever it is known, also if the store is away.

use tideover::testing::{ScriptedLoader, ScriptedStore, Weather};
use tideover::writes::{Invalidate, transaction};
use tideover::{Cache, EngineKind, Error, Loaded, Refusal, Settled, Source};
use tideover_tests::driving::{ENGINES, exact, seconds};
use tokio::time::sleep;

/// Tried again soon after a store is back.
const SOON: &[(&str, &str)] = &[("store_breaker_open_for", "1s"), ("store_breaker_open_for_max", "1s")];

fn cache_on(store: &ScriptedStore, engine: EngineKind) -> Cache {
    exact(engine, SOON).store(store.clone()).build().expect("a cache")
}

async fn left(cache: &Cache, keys: &[&str]) -> Vec<bool> {
    let found = cache.get_many(keys).await.expect("answers");
    found.iter().map(Option::is_some).collect()
}

async fn put(cache: &Cache, keys: &[&str]) {
    let entries = keys.iter().map(|key| (*key, "old"));
    cache.put_many(entries, None).await.expect("puts").into_result().expect("puts");
}

#[tokio::test]
async fn what_matches_goes_and_nothing_else() {
    for &engine in EngineKind::ALL {
        let cache = exact(engine, &[("stale_while_revalidate", "1h")]).build().expect("a cache");
        let keys = ["user:7:1", "user:7:2", "user:70:1", "page", "a*b", "acb"];
        put(&cache, &keys).await;
        let applied = cache.remove_matching("user:7:*").await.require_store().expect("no store, none required");
        assert_eq!((applied.done, applied.settled), (1, Some(Settled::Memory)), "{engine:?}");
        assert_eq!(left(&cache, &keys).await, [false, false, true, true, true, true], "{engine:?}");
        cache.remove_matching(r"a\*b").await.into_result().expect("a removal");
        assert_eq!(left(&cache, &keys).await, [false, false, true, true, false, true], "{engine:?}");

        let expired = cache.invalidate(Invalidate::new().matching("*:70:*").expire()).await;
        assert_eq!(expired.into_result().expect("an expiry").done, 1, "{engine:?}");
        assert!(cache.get("user:70:1").await.expect("an answer").expect("it is kept").is_stale(), "{engine:?}");
        cache.remove_matching("*").await.into_result().expect("a removal");
        assert_eq!(left(&cache, &keys).await, [false; 6], "{engine:?}");
    }
}

#[tokio::test]
async fn a_pattern_past_a_limit_is_refused_and_the_rest_is_done() {
    for &engine in EngineKind::ALL {
        let cache = exact(engine, &[("key_bytes_max", "8")]).build().expect("a cache");
        put(&cache, &["k"]).await;
        let applied = cache.invalidate(Invalidate::new().matching("far too long*").key("k")).await;
        assert_eq!((applied.done, applied.failed), (1, 1), "{engine:?}");
        let error = applied.into_result().expect_err("too long");
        assert!(matches!(error, Error::Refused(Refusal::KeyTooLong { bytes: 13, max: 8 })), "{engine:?}: {error}");
        assert_eq!(left(&cache, &["k"]).await, [false], "{engine:?}");
    }
}

#[tokio::test]
async fn a_transaction_keeps_what_it_puts_after_a_pattern_and_forgets_what_it_put_before() {
    for &engine in EngineKind::ALL {
        let cache = exact(engine, &[]).build().expect("a cache");
        put(&cache, &["user:1", "user:2"]).await;
        let mut changes = cache.transaction();
        changes.put("user:1", "new", None).expect("a put");
        changes.invalidate(Invalidate::new().matching("user:*"));
        changes.put("user:3", "new", None).expect("a put");
        changes.commit().await.into_result().expect("a commit");
        assert_eq!(left(&cache, &["user:1", "user:2", "user:3"]).await, [false, false, true], "{engine:?}");
        let written = transaction(async {
            let deferred = cache.invalidate(Invalidate::new().matching("user:*")).await;
            assert!(deferred.deferred && left(&cache, &["user:3"]).await == [true], "{engine:?}");
            Ok::<_, Error>(())
        });
        let committed = written.await.expect("it commits");
        assert_eq!((committed.applied.done, committed.applied.failed), (1, 0), "{engine:?}");
        assert_eq!(left(&cache, &["user:3"]).await, [false], "{engine:?}");
    }
}

#[tokio::test]
async fn what_only_the_store_has_goes_too_and_is_gone_for_everybody() {
    for &engine in EngineKind::ALL {
        let store = ScriptedStore::default();
        let (one, other) = (cache_on(&store, engine), cache_on(&store, engine));
        let keys: Vec<String> = (0..3_000).map(|number| format!("user:{number}")).collect();
        other.put_many(keys.iter().map(|key| (key, "old")), None).await.expect("puts").require_store().expect("puts");
        put(&other, &["page"]).await;
        other.direct().put("user:visits", "7", None).await.expect("a put");
        let applied = one.remove_matching("user:*").await.require_store().expect("the store has it");
        assert_eq!(applied.settled, Some(Settled::Store), "{engine:?}");
        for cache in [&one, &other] {
            let found = cache.get_many(&keys).await.expect("answers");
            assert!(found.iter().all(Option::is_none), "{engine:?}");
            assert_eq!(left(cache, &["page"]).await, [true], "{engine:?}");
        }
        let visits = other.direct().get("user:visits").await.expect("an answer").value;
        assert_eq!(visits, Some("7".into()), "{engine:?}: what lies there by direct operations stays");
    }
}

/// Neither with what it brings to the store, nor here.
#[tokio::test(start_paused = true)]
async fn a_load_under_way_brings_nothing_back() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let (one, other) = (cache_on(&store, engine), cache_on(&store, engine));
        put(&one, &["user:other"]).await;
        let load = || ScriptedLoader::new().value(Loaded::new("old")).after(seconds(1));
        let (here, elsewhere) = (load(), load());
        let loading = async {
            tokio::join!(
                one.get_or_load("user:here", here.loader()),
                other.get_or_load_with(
                    "user:other",
                    tideover::CallOptions::new().max_age(seconds(0)),
                    elsewhere.loader()
                )
            )
        };
        let removing = async {
            sleep(seconds(1) / 2).await;
            one.remove_matching("user:*").await.require_store().expect("the store has it")
        };
        let ((here, elsewhere), _) = tokio::join!(loading, removing);
        assert_eq!((here.expect("a value").value, elsewhere.expect("a value").value), ("old".into(), "old".into()));
        sleep(seconds(1)).await;
        for key in ["user:here", "user:other"] {
            assert_eq!(store.value(key).await, None, "{engine:?} {key}: nothing late is kept in the store");
        }
        assert_eq!(left(&one, &["user:here", "user:other"]).await, [false, false], "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pattern_of_an_outage_is_owed_and_what_it_reaches_is_never_seen_again() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine);
        let elsewhere = cache_on(&store, engine);
        put(&elsewhere, &["user:1", "user:2", "user:3", "page"]).await;
        put(&cache, &["user:here"]).await;

        store.set(Weather::Away);
        let owed = cache.remove_matching("user:*").await;
        assert_eq!((owed.done, owed.settled), (1, Some(Settled::Journaled)), "{engine:?}");
        assert!(owed.require_store().expect_err("it is away").is_store(), "{engine:?}");
        // By as much may clocks of processes differ.
        sleep(seconds(6)).await;
        assert_eq!(cache.put("user:3", "newer", None).await.expect("a put"), Settled::Journaled, "{engine:?}");
        assert_eq!(left(&cache, &["user:here"]).await, [false], "{engine:?}");

        // Back, and not a moment passes: what lies there is not believed.
        store.set(Weather::Fair);
        let loaded = loop {
            let loaded = cache.get_or_load("user:1", |_| async { Ok(Loaded::new("new")) }).await.expect("a value");
            assert_eq!((&loaded.value[..], loaded.source == Source::Store), (&b"new"[..], false), "{engine:?}");
            if cache.stats().await.expect("a report").store_breaker.state == tideover::core::breaker::State::Closed {
                break loaded;
            }
            assert_eq!(left(&cache, &["user:3"]).await, [true], "{engine:?}: it was put afterwards");
            cache.remove("user:1").await.expect("a removal");
            sleep(seconds(1) / 4).await;
        };
        assert_eq!(loaded.value, "new", "{engine:?}");
        sleep(seconds(60)).await;
        assert_eq!(store.value("user:2").await, None, "{engine:?}: it was carried out");
        assert_eq!(store.value("user:3").await, Some("newer".into()), "{engine:?}: it was written afterwards");
        assert_eq!(store.value("page").await, Some("old".into()), "{engine:?}");
        let fresh = cache_on(&store, engine);
        assert_eq!(left(&fresh, &["user:1", "user:2", "user:here"]).await[1..], [false, false], "{engine:?}");
    }
}

/// Also if the clock does not move in between, and while the circuit is open.
#[tokio::test(start_paused = true)]
async fn what_a_process_puts_after_its_pattern_stays() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine);
        put(&cache, &["user:1", "user:2"]).await;
        store.set(Weather::Away);
        for number in 0..10 {
            cache.get(&format!("probe:{number}")).await.expect("no error");
        }
        let mut changes = cache.transaction();
        changes.invalidate(Invalidate::new().matching("user:*"));
        changes.put("user:1", "new", None).expect("a put");
        assert_eq!(changes.commit().await.settled, Some(Settled::Journaled), "{engine:?}");
        store.set(Weather::Fair);
        for _ in 0..120 {
            assert_eq!(left(&cache, &["user:1", "user:2"]).await, [true, false], "{engine:?}");
            sleep(seconds(1) / 2).await;
        }
        assert_eq!(store.value("user:1").await, Some("new".into()), "{engine:?}");
        assert_eq!(store.value("user:2").await, None, "{engine:?}");
        let fresh = cache_on(&store, engine);
        assert_eq!(left(&fresh, &["user:1", "user:2"]).await, [true, false], "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_costs_a_pattern_its_deadlines_and_clearing_settles_all() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine);
        put(&cache, &["user:1"]).await;
        store.set(Weather::Hung);
        let began = tokio::time::Instant::now();
        let owed = cache.remove_matching("user:*").await;
        assert_eq!(owed.settled, Some(Settled::Journaled), "{engine:?}");
        assert!(began.elapsed() < seconds(3), "{engine:?}: {:?}", began.elapsed());
        for number in 0..70 {
            let applied = cache.remove_matching(format!("other:{number}:*")).await;
            let full = matches!(applied.error, Some(Error::JournalFull { operation: "remove_matching", max: 64 }));
            assert_eq!(full, number >= 63, "{engine:?} {number}");
        }
        store.set(Weather::Fair);
        sleep(seconds(60)).await;
        assert!(cache.remove_matching("more:*").await.require_store().is_ok(), "{engine:?}: all were carried out");
    }
}
