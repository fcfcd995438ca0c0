//! A cache on a real Redis that is killed, frozen, restarted and thawed, in every engine.

use std::time::{Duration, Instant};

use tideover::core::breaker::State;
use tideover::observe::Reason;
use tideover::store::{RedisConfig, RedisStore};
use tideover::{Cache, EngineKind, Fetched, LoadError, Loaded, Settled, Source, Stale};
use tideover_tests::redis_server::RedisServer;
use tokio::task::JoinSet;

/// Catches a hang; nothing here comes near it.
const HANG: Duration = Duration::from_secs(30);

fn cache(server: &RedisServer, engine: EngineKind) -> Cache {
    cache_at(&server.url(), engine)
}

fn cache_at(url: &str, engine: EngineKind) -> Cache {
    let store = RedisStore::new(RedisConfig::new(url)).expect("a store");
    let builder = Cache::builder().engine(engine).store(store).ttl(Duration::from_secs(60));
    builder.build().expect("a cache")
}

async fn load(cache: &Cache, key: &str, value: &'static str) -> Fetched {
    let found = cache.get_or_load(key, move |_| async move { Ok::<_, LoadError>(Loaded::new(value)) });
    tokio::time::timeout(HANG, found).await.expect("no hang").expect("a value")
}

async fn put(cache: &Cache, key: &str, value: &'static str) -> Settled {
    tokio::time::timeout(HANG, cache.put(key, value, None)).await.expect("no hang").expect("a put")
}

/// Waits until the circuit of the store is closed and nothing is owed to it.
async fn recovered(cache: &Cache) {
    let began = Instant::now();
    loop {
        let report = cache.stats().await.expect("a report");
        if report.store_breaker.state == State::Closed && report.count("owed") == 0 && !report.owes_clear {
            return;
        }
        assert!(began.elapsed() < HANG, "not recovered: {report:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asks for cold keys until the circuit of the store is open.
async fn opened(cache: &Cache) {
    let began = Instant::now();
    for number in 0.. {
        load(cache, &format!("probe:{number}"), "any").await;
        if matches!(cache.stats().await.expect("a report").store_breaker.state, State::Open { .. }) {
            return;
        }
        assert!(began.elapsed() < HANG, "the circuit never opened");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_loads_another_finds_in_the_store() {
    let server = RedisServer::start();
    for &engine in EngineKind::ALL {
        let (one, other) = (cache(&server, engine), cache(&server, engine));
        assert_eq!(load(&one, "user:7", "Ada").await.source, Source::Load);
        // Nobody waits for the store's write.
        recovered(&one).await;
        let began = Instant::now();
        let found = loop {
            let found = other.get("user:7").await.expect("no error");
            match found {
                Some(found) => break found,
                None => assert!(began.elapsed() < HANG, "never written"),
            }
        };
        assert_eq!((&found.value[..], found.source, found.stale), (&b"Ada"[..], Source::Store, None), "{engine:?}");
        assert_eq!(other.remove("user:7").await.expect("a removal"), Settled::Store);
        // What is left says that it was removed, and when, for who loads it at this moment.
        assert_eq!(server.command(&["STRLEN", "tideover:user:7"]), "40");
        assert_eq!(one.get("user:8").await.expect("no error").map(|found| found.value), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_store_costs_nobody_an_error_and_takes_back_nothing() {
    for &engine in EngineKind::ALL {
        let mut server = RedisServer::start();
        let shop = cache(&server, engine);
        assert_eq!(put(&shop, "price", "v1").await, Settled::Store);
        assert_eq!(put(&shop, "sold", "v1").await, Settled::Store);
        server.kill();
        assert_eq!(load(&shop, "price", "not asked").await.value, "v1", "{engine:?}: warm keys stay readable");
        opened(&shop).await;
        let began = Instant::now();
        assert_eq!(load(&shop, "cold", "loaded").await.source, Source::Load);
        assert!(began.elapsed() < Duration::from_secs(2), "{engine:?}: an open circuit costs nothing");
        assert_eq!(put(&shop, "price", "v2").await, Settled::Journaled, "{engine:?}");
        assert_eq!(shop.remove("sold").await.expect("a removal"), Settled::Journaled, "{engine:?}");
        server.restart();
        recovered(&shop).await;
        let fresh = cache(&server, engine);
        assert_eq!(fresh.get("price").await.expect("no error").map(|found| found.value), Some("v2".into()));
        assert_eq!(fresh.get("sold").await.expect("no error"), None, "{engine:?}");
        let report = shop.stats().await.expect("a report");
        assert!(report.store_breaker.stats.trips >= 1 && report.store_breaker.stats.recoveries >= 1);
    }
}

/// By default nothing stale is served. But what nobody can vouch for, since the server went, is no older than it was to
/// become.
#[tokio::test(flavor = "multi_thread")]
async fn warm_keys_stay_readable_for_as_long_as_the_server_is_away() {
    for &engine in EngineKind::ALL {
        let mut server = RedisServer::start();
        let config = RedisConfig { backplane_grace: Duration::from_millis(100), ..RedisConfig::new(server.url()) };
        let builder = Cache::builder().engine(engine).store(RedisStore::new(config).expect("a store"));
        let shop = builder.set("load_attempts", "1").expect("an option").build().expect("a cache");
        assert_eq!(put(&shop, "price", "v1").await, Settled::Store);
        shop.put_tagged("page", "v1", None, ["pages"]).await.expect("a put");
        let missed = shop.stats().await.expect("a report").count("missed");
        server.kill();
        let began = Instant::now();
        while shop.stats().await.expect("a report").count("missed") == missed {
            assert!(began.elapsed() < HANG, "{engine:?}: nobody noticed");
            shop.get("nobody").await.expect("no error");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let price = shop.get("price").await.expect("no error").expect("it is warm");
        assert_eq!((&price.value[..], price.stale), (&b"v1"[..], Some(Stale::IfError)), "{engine:?}");
        let down = shop.get_or_load("page", |_| async { Err::<Loaded, _>(LoadError::unavailable("down")) }).await;
        let page = down.expect("it is warm");
        assert_eq!((&page.value[..], page.stale), (&b"v1"[..], Some(Stale::IfError)), "{engine:?}");
        assert_eq!(load(&shop, "price", "v2").await.value, "v2", "{engine:?}: where it can be had, it is had anew");
    }
}

/// A frozen server keeps what it had: here the old values are really still there when it thaws.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_store_costs_each_caller_at_most_its_deadline_and_undoes_nothing() {
    for &engine in EngineKind::ALL {
        let mut server = RedisServer::start();
        let shop = cache(&server, engine);
        assert_eq!(put(&shop, "price", "v1").await, Settled::Store);
        assert_eq!(put(&shop, "sold", "v1").await, Settled::Store);
        server.freeze();
        let mut crowd = JoinSet::new();
        for number in 0..50 {
            let shop = shop.clone();
            crowd.spawn(async move {
                let began = Instant::now();
                load(&shop, &format!("cold:{number}"), "loaded").await;
                began.elapsed()
            });
        }
        let longest = crowd.join_all().await.into_iter().max().unwrap_or_default();
        assert!(longest < Duration::from_secs(3), "{engine:?}: {longest:?} for a read limited to 250 ms");
        opened(&shop).await;
        assert_eq!(put(&shop, "price", "v2").await, Settled::Journaled, "{engine:?}");
        assert_eq!(shop.remove("sold").await.expect("a removal"), Settled::Journaled, "{engine:?}");
        server.thaw();
        recovered(&shop).await;
        let fresh = cache(&server, engine);
        assert_eq!(fresh.get("price").await.expect("no error").map(|found| found.value), Some("v2".into()));
        assert_eq!(fresh.get("sold").await.expect("no error"), None, "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overflowing_journal_undoes_nothing() {
    for &engine in EngineKind::ALL {
        let mut server = RedisServer::start();
        let store = RedisStore::new(RedisConfig::new(server.url())).expect("a store");
        let builder = Cache::builder().engine(engine).store(store).set("journal_max", "100").expect("an option");
        let shop = builder.set("entries_max", "2000").expect("an option").build().expect("a cache");
        let keys: Vec<String> = (0..300).map(|number| format!("item:{number}")).collect();
        for key in &keys {
            assert_eq!(put(&shop, key, "old").await, Settled::Store);
        }
        server.freeze();
        opened(&shop).await;
        for key in &keys {
            put(&shop, key, "new").await;
        }
        server.thaw();
        recovered(&shop).await;
        let fresh = cache(&server, engine);
        for key in &keys {
            let found = fresh.get(key).await.expect("no error").map(|found| found.value);
            assert!(found.is_none() || found == Some("new".into()), "{engine:?}: {key} is {found:?} again");
        }
        assert!(shop.stats().await.expect("a report").count("journal_overflows") >= 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_bytes_under_our_key_are_a_counted_miss() {
    let server = RedisServer::start();
    for &engine in EngineKind::ALL {
        assert_eq!(server.command(&["SET", "tideover:mine", "{\"not\": \"ours\"}"]), "OK");
        let cache = cache(&server, engine);
        assert_eq!(load(&cache, "mine", "loaded").await.source, Source::Load, "{engine:?}");
        let report = cache.stats().await.expect("a report");
        assert_eq!((report.count("corrupt"), report.store_breaker.stats.failures), (1, 0), "{engine:?}");
        // What was loaded is being written behind the answer.
        while cache.stats().await.expect("a report").count("flights") > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// What no process has in memory, and the pattern reaches in the store alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_outlives_a_frozen_server_and_one_that_is_restarted() {
    for &engine in EngineKind::ALL {
        let mut server = RedisServer::start_with_arguments(&["--appendonly", "yes", "--appendfsync", "always"]);
        let elsewhere = cache(&server, engine);
        for key in ["user:1", "user:2", "page"] {
            assert_eq!(put(&elsewhere, key, "old").await, Settled::Store);
        }
        let shop = cache(&server, engine);
        assert_eq!(shop.get("page").await.expect("no error").map(|found| found.value), Some("old".into()));
        server.freeze();
        let began = Instant::now();
        let frozen = shop.remove_matching("user:1*").await;
        assert_eq!(frozen.settled, Some(Settled::Journaled), "{engine:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{engine:?}: it took {:?}", began.elapsed());
        server.thaw();
        server.kill();
        assert_eq!(shop.remove_matching("user:2*").await.settled, Some(Settled::Journaled), "{engine:?}");
        let health = shop.health_at_hand().await;
        assert_eq!(health.store.owed_patterns, 2, "{engine:?}");
        assert!(health.reasons.contains(&Reason::OwesInvalidations), "{engine:?}: {health:?}");
        server.restart();

        let gone = |key: &'static str| {
            let (shop, server) = (&shop, &server);
            async move {
                let began = Instant::now();
                loop {
                    let seen = shop.get(key).await.expect("no error").map(|found| found.value);
                    assert_eq!(seen, None, "{engine:?} {key}: never again");
                    // A tombstone is forty bytes.
                    let length = server.command(&["STRLEN", &format!("tideover:{key}")]);
                    if length == "40" || length == "0" {
                        return;
                    }
                    assert!(began.elapsed() < HANG, "{engine:?} {key}: not carried out");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        gone("user:1").await;
        gone("user:2").await;
        let fresh = cache(&server, engine);
        assert_eq!(fresh.get("page").await.expect("no error").map(|found| found.value), Some("old".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_walk_through_the_keys_is_told_so_and_owes_nothing() {
    let server = RedisServer::start();
    let rules = ["ACL", "SETUSER", "app", "on", ">pw", "~tideover:*", "+@all", "-scan"];
    assert_eq!(server.command(&rules), "OK");
    let url = format!("redis://app:pw@127.0.0.1:{}", server.port());
    for &engine in EngineKind::ALL {
        let shop = cache_at(&url, engine);
        assert_eq!(put(&shop, "user:1", "Ada").await, Settled::Store);
        // More than may be owed at once.
        for number in 0..70 {
            let told = shop.remove_matching(&format!("user:{number}*")).await.into_result().expect_err("refused");
            assert!(told.to_string().contains("may not be walked through"), "{engine:?} {number}: {told}");
        }
        // What was known here is gone from the store too, key by key; the circuit never minded.
        assert_eq!(shop.get("user:1").await.expect("no error").map(|found| found.value), None, "{engine:?}");
        assert_eq!(shop.stats().await.expect("a report").store_breaker.stats.trips, 0, "{engine:?}");

        let direct = shop.direct();
        direct.put("count", "1", None).await.expect("a put");
        let told = direct.remove_matching("c*").await.expect_err("refused").to_string();
        assert!(told.contains("NOPERM") && told.contains("SCAN"), "{engine:?}: {told}");
        assert!(
            !direct.put("count", "2", None).await.expect("a put").is_fallback(),
            "{engine:?}: the store still serves"
        );
    }
}
