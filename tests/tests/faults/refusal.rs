//! The server is there, and refuses.

use std::time::Duration;

use tideover::core::breaker::State;
use tideover::store::{RedisConfig, RedisStore, Store as _};
use tideover::{Cache, EngineKind, LoadError, Loaded, Source};
use tideover_tests::redis_server::RedisServer;
use tokio::time::sleep;

use crate::trial::{SHORT_WAITS, Trial, back, cache, settled, successor};

const BACK_MAX: Duration = Duration::from_secs(10);

/// The server lets no more be written, but reads and removals pass. So that nobody is served an older value from it,
/// what cannot be replaced is removed there, and loaded anew by whoever needs it next.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_out_of_memory_serves_nothing_older_than_was_put() {
    let server = RedisServer::start_with_arguments(&["--maxmemory-policy", "noeviction"]);
    let mut trial = Trial::begin("out of memory, noeviction", RedisConfig::new(server.url()), SHORT_WAITS).await;
    server.configure("maxmemory", "1");
    trial.all_keys_are_used().await;
    trial.lasts(Duration::from_secs(1)).await;
    server.configure("maxmemory", "0");
    let record = trial.ends(&server).await;
    record.is_survived_but_for_losses_within(BACK_MAX);
    assert!(record.trips > 0 && record.journaled > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_turns_read_only_gets_every_change_when_it_is_a_primary_again() {
    let server = RedisServer::start();
    let mut trial = Trial::begin("read-only replica", RedisConfig::new(server.url()), SHORT_WAITS).await;
    server.become_orphaned_replica();
    trial.lasts(Duration::from_secs(1)).await;
    server.become_primary();
    trial.ends(&server).await.is_an_outage_survived_within(BACK_MAX);
}

type Order = fn(&mut RedisServer);

/// Ways of a server to take no writes, and how they end.
const REFUSING: [(&str, Order, Order); 3] = [
    ("read-only", |server| server.become_orphaned_replica(), |server| server.become_primary()),
    (
        "too few replicas",
        |server| server.configure("min-replicas-to-write", "1"),
        |server| {
            server.configure("min-replicas-to-write", "0");
        },
    ),
    (
        "another password",
        |server| {
            server.change_password("new");
            server.cut_clients();
        },
        |server| server.change_password("old"),
    ),
];

/// Nobody puts again what was put once, and the debts are tried again and again.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_refuses_for_a_while_stays_owed() {
    for (how, begin, end) in REFUSING {
        for &engine in EngineKind::ALL {
            let mut server = RedisServer::start_with_password("old");
            let shop = cache(RedisConfig::new(server.url()), engine, SHORT_WAITS);
            for key in ["price", "sold"] {
                shop.put(key, "old", None).await.expect("a put");
            }
            begin(&mut server);
            shop.put("price", "new", None).await.expect("a put");
            shop.remove("sold").await.expect("a removal");
            sleep(Duration::from_secs(2)).await;
            end(&mut server);
            back(&shop).await;
            let other = successor(&server, engine);
            let price = other.get("price").await.expect("no error").map(|found| found.value);
            let sold = other.get("sold").await.expect("no error").map(|found| found.value);
            assert_eq!((price, sold), (Some("new".into()), None), "{how}, {engine:?}");
        }
    }
}

/// A value that is refused for good must not leave the older one in its place.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_server_does_not_take_is_removed_there() {
    for &engine in EngineKind::ALL {
        let server = RedisServer::start_with_arguments(&["--maxmemory-policy", "noeviction"]);
        let shop = cache(RedisConfig::new(server.url()), engine, SHORT_WAITS);
        shop.put("price", "old", None).await.expect("a put");
        server.configure("maxmemory", "1");
        shop.put("price", "new", None).await.expect("a put");
        // The server is as full as before.
        back(&shop).await;
        let other = successor(&server, engine);
        assert_eq!(other.get("price").await.expect("no error").map(|found| found.value), None, "{engine:?}");
        assert_eq!(shop.get("price").await.expect("no error").map(|found| found.value), Some("new".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_serves_nothing_is_an_outage() {
    let server = RedisServer::start_with_arguments(&["--replica-serve-stale-data", "no"]);
    let mut trial =
        Trial::begin("replica without its primary: MASTERDOWN", RedisConfig::new(server.url()), SHORT_WAITS).await;
    server.become_orphaned_replica();
    trial.lasts(Duration::from_secs(1)).await;
    server.become_primary();
    trial.ends(&server).await.is_an_outage_survived_within(BACK_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_an_outage_until_the_server_takes_it() {
    let mut server = RedisServer::start_with_password("new");
    let url = format!("redis://:old@127.0.0.1:{}", server.port());
    let mut trial = Trial::begin("wrong password from the start", RedisConfig::new(url), SHORT_WAITS).await;
    trial.lasts(Duration::from_secs(1)).await;
    server.change_password("old");
    trial.ends(&server).await.is_an_outage_survived_within(BACK_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_changed_while_in_use_undoes_nothing() {
    let mut server = RedisServer::start_with_password("old");
    let mut trial = Trial::begin("password changed while in use", RedisConfig::new(server.url()), SHORT_WAITS).await;
    server.change_password("new");
    server.cut_clients();
    trial.lasts(Duration::from_secs(1)).await;
    server.change_password("old");
    trial.ends(&server).await.is_an_outage_survived_within(BACK_MAX);
}

/// More keys in a row than failures open the circuit.
const FOREIGN: usize = 12;

async fn load(cache: &Cache, key: &str) -> Source {
    let loaded = cache.get_or_load(key, |_| async { Ok::<_, LoadError>(Loaded::new("ours")) }).await;
    loaded.expect("a value").source
}

/// What lies under our keys is nothing of ours: each read of it is a miss, and each write heals it. Bytes are looked at and
/// counted as corrupt; for what is no bytes at all the server has nothing to give.
async fn is_healed(server: &RedisServer, engine: EngineKind, keys: &[String], what: &str, are_bytes: bool) {
    let shop = cache(RedisConfig::new(server.url()), engine, &[]);
    assert_eq!(shop.get(&keys[0]).await.expect("no error").map(|found| found.value), None, "{engine:?}: {what}");
    let (loaded, put) = keys.split_at(keys.len() / 2);
    for key in loaded {
        assert_eq!(load(&shop, key).await, Source::Load, "{engine:?}: {what}");
    }
    settled(&shop).await;
    for key in put {
        shop.put(key, "ours", None).await.expect("a put");
    }
    let report = shop.stats().await.expect("a report");
    let (misses, failures) = (report.count("corrupt"), report.store_breaker.stats.failures);
    let corrupt = if are_bytes { loaded.len() as u64 + 1 } else { 0 };
    assert_eq!((misses, failures), (corrupt, 0), "{engine:?}: {what}");
    assert!(report.store_breaker.state == State::Closed && report.store_breaker.stats.trips == 0, "{engine:?}: {what}");
    let other = successor(server, engine);
    for key in keys {
        assert_eq!(load(&other, key).await, Source::Store, "{engine:?}: {what}, {key}");
    }
    println!("| {:<44} | {} keys: misses, then healed |", format!("foreign: {what}"), keys.len());
}

fn names(what: &str) -> Vec<String> {
    (0..FOREIGN).map(|number| format!("{what}:{number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_another_redis_type_is_a_miss_and_healed_by_the_next_write() {
    let server = RedisServer::start();
    for &engine in EngineKind::ALL {
        for (what, words) in
            [("list", ["RPUSH", "1", "2"]), ("hash", ["HSET", "1", "2"]), ("sorted set", ["ZADD", "1", "2"])]
        {
            let [order, one, two] = words;
            let keys = names(what);
            for key in &keys {
                let _how_many = server.command(&["DEL", &format!("tideover:{key}")]);
                let added = server.command(&[order, &format!("tideover:{key}"), one, two]);
                assert!(added.parse::<u32>().is_ok(), "{added}");
            }
            is_healed(&server, engine, &keys, what, false).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_envelope_are_a_miss_and_healed_by_the_next_write() {
    let server = RedisServer::start();
    let raw = RedisStore::new(RedisConfig::new(server.url())).expect("a store");
    for &engine in EngineKind::ALL {
        let shop = cache(RedisConfig::new(server.url()), engine, &[]);
        shop.put("whole", "ours", None).await.expect("a put");
        let whole = raw.read("whole").await.expect("an answer").expect("an envelope");
        let mut flipped = whole.to_vec();
        flipped[whole.len() / 2] ^= 1;
        let garbage: Vec<u8> = (0..=255).rev().collect();
        for (what, bytes) in [
            ("nothing", Vec::new()),
            ("garbage", garbage),
            ("truncated envelope", whole[..whole.len() - 1].to_vec()),
            ("half an envelope", whole[..whole.len() / 2].to_vec()),
            ("a flipped bit", flipped),
        ] {
            let keys = names(what);
            for key in &keys {
                raw.write(key, bytes.clone().into(), None).await.expect("an answer");
            }
            is_healed(&server, engine, &keys, what, true).await;
        }
    }
}
