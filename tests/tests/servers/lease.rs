//! Processes on one Redis of which one loads a key and the others wait for what it brings; and what becomes of them when it
//! fails, hangs or dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tideover::store::{Leased, RedisBackplane, RedisConfig, RedisStore, Store};
use tideover::{Cache, CallOptions, EngineKind, LoadError, Loaded};
use tideover_tests::redis_server::RedisServer;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Catches a hang; nothing here comes near it.
const HANG: Duration = Duration::from_secs(30);

const BACKPLANES: [RedisBackplane; 3] = [RedisBackplane::Tracking, RedisBackplane::PubSub, RedisBackplane::Off];

fn config(server: &RedisServer, backplane: RedisBackplane) -> RedisConfig {
    RedisConfig { backplane, namespace: format!("{backplane:?}:"), ..RedisConfig::new(server.url()) }
}

fn cache_on(config: RedisConfig, options: &[(&str, &str)]) -> Cache {
    let store = RedisStore::new(config).expect("a good configuration");
    let builder = Cache::builder().engine(EngineKind::Native).store(store).ttl(Duration::from_secs(600));
    let options = [("lease", "true"), ("store_read_deadline", "5s")].iter().chain(options);
    let set = |builder: tideover::Builder, (name, text): &(&str, &str)| builder.set(name, text).expect("an option");
    options.fold(builder, set).build().expect("a cache")
}

/// An origin that takes its time, and counts.
#[derive(Clone, Default)]
struct Origin {
    loads: Arc<AtomicU32>,
    takes: Duration,
}

impl Origin {
    fn taking(takes: Duration) -> Self {
        Self { takes, ..Self::default() }
    }

    fn loads(&self) -> u32 {
        self.loads.load(Ordering::Relaxed)
    }

    async fn ask(&self, cache: &Cache, key: &str) -> Result<bytes::Bytes, tideover::Error> {
        let origin = self.clone();
        let load = move |_| {
            let origin = origin.clone();
            async move {
                let number = origin.loads.fetch_add(1, Ordering::Relaxed);
                sleep(origin.takes).await;
                Ok::<_, LoadError>(Loaded::new(format!("load {number}")))
            }
        };
        timeout(HANG, cache.get_or_load(key, load)).await.expect("no hang").map(|found| found.value)
    }
}

async fn count(cache: &Cache, name: &str) -> u64 {
    cache.stats().await.expect("a report").count(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_callers_in_many_processes_one_loads() {
    let server = RedisServer::start();
    for backplane in BACKPLANES {
        let caches: Vec<Cache> = (0..4).map(|_| cache_on(config(&server, backplane), &[])).collect();
        let origin = Origin::taking(Duration::from_millis(300));
        let mut crowd = JoinSet::new();
        for number in 0..200 {
            let (cache, origin) = (caches[number % caches.len()].clone(), origin.clone());
            crowd.spawn(async move { origin.ask(&cache, "cold").await.expect("a value") });
        }
        let answers = crowd.join_all().await;
        assert_eq!(origin.loads(), 1, "{backplane:?}");
        assert!(answers.iter().all(|answer| answer == "load 0"), "{backplane:?}");
        let mut leases = 0;
        for cache in &caches {
            leases += count(cache, "leases").await;
        }
        assert!(leases >= 1, "{backplane:?}");
    }
}

/// Who waits is told, and does not wait for the end of the lease.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_woken_when_the_load_is_over() {
    let server = RedisServer::start();
    for backplane in BACKPLANES {
        let long = [("lease_ttl", "60s"), ("lease_wait_max", "60s")];
        let [one, other] = [(); 2].map(|()| cache_on(config(&server, backplane), &long));
        let origin = Origin::taking(Duration::from_millis(500));
        let (leader, first) = (one.clone(), origin.clone());
        let loading = tokio::spawn(async move { first.ask(&leader, "k").await });
        while origin.loads() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        let began = Instant::now();
        assert_eq!(origin.ask(&other, "k").await.expect("a value"), "load 0", "{backplane:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{backplane:?}: it waited for the end of the lease");
        assert_eq!((origin.loads(), count(&other, "leases_awaited").await > 0), (1, true), "{backplane:?}");
        loading.await.expect("no panic").expect("a value");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_takes_longer_than_the_lease_keeps_it() {
    let server = RedisServer::start();
    let short = [("lease_ttl", "300ms"), ("lease_wait_max", "20s")];
    let [one, other] = [(); 2].map(|()| cache_on(config(&server, RedisBackplane::Tracking), &short));
    let origin = Origin::taking(Duration::from_secs(2));
    let (first, second) = tokio::join!(origin.ask(&one, "k"), origin.ask(&other, "k"));
    assert_eq!(
        (first.expect("a value"), second.expect("a value"), origin.loads()),
        ("load 0".into(), "load 0".into(), 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_holder_has_died_the_next_one_takes_over() {
    let server = RedisServer::start();
    for backplane in BACKPLANES {
        let cache = cache_on(config(&server, backplane), &[("lease_wait_max", "20s")]);
        // What a process leaves behind that was killed.
        let lease = format!("{backplane:?}:!lease:k");
        assert_eq!(server.command(&["SET", &lease, "somebody", "PX", "700"]), "OK");
        let origin = Origin::default();
        assert_eq!(origin.ask(&cache, "k").await.expect("a value"), "load 0");
        assert!(count(&cache, "leases_awaited").await > 0, "{backplane:?}");
        assert_eq!((count(&cache, "leases").await, count(&cache, "leases_forgone").await), (1, 0), "{backplane:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_without_end_for_a_holder_that_hangs() {
    let server = RedisServer::start();
    let cache = cache_on(config(&server, RedisBackplane::Tracking), &[("lease_wait_max", "300ms")]);
    assert_eq!(server.command(&["SET", "Tracking:!lease:k", "somebody"]), "OK");
    let origin = Origin::default();
    assert_eq!(origin.ask(&cache, "k").await.expect("a value"), "load 0");
    assert_eq!((count(&cache, "leases").await, count(&cache, "leases_forgone").await), (0, 1));
    assert_eq!(server.command(&["GET", "Tracking:!lease:k"]), "somebody", "it is not ours to take");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_holder_fails_the_next_one_loads_at_once() {
    let server = RedisServer::start();
    let long = [("lease_ttl", "60s"), ("lease_wait_max", "60s"), ("load_attempts", "1")];
    let [one, other] = [(); 2].map(|()| cache_on(config(&server, RedisBackplane::Tracking), &long));
    let failing = tokio::spawn(async move {
        let load = |_| async {
            sleep(Duration::from_millis(300)).await;
            Err::<Loaded, _>(LoadError::unavailable("down"))
        };
        one.get_or_load("k", load).await.map(|found| found.value)
    });
    while server.command(&["EXISTS", "Tracking:!lease:k"]) != "1" {
        sleep(Duration::from_millis(1)).await;
    }
    let (began, origin) = (Instant::now(), Origin::default());
    assert_eq!(origin.ask(&other, "k").await.expect("a value"), "load 0");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(failing.await.expect("no panic").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_each_loads_for_itself() {
    let mut server = RedisServer::start();
    let cache = cache_on(config(&server, RedisBackplane::Tracking), &[("store_read_deadline", "100ms")]);
    let origin = Origin::default();
    origin.ask(&cache, "warm").await.expect("a value");
    server.freeze();
    assert_eq!(origin.ask(&cache, "cold").await.expect("a value"), "load 1");
    server.thaw();
    server.kill();
    assert_eq!(origin.ask(&cache, "colder").await.expect("a value"), "load 2");
}

/// A lease that ran out and is somebody else's by now is not given back in his name.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_late_is_left_to_its_new_holder() {
    let server = RedisServer::start();
    let store = RedisStore::new(config(&server, RedisBackplane::Tracking)).expect("a good configuration");
    let short = Duration::from_millis(100);
    // It is held for no longer, and so is not renewed.
    let Leased::Held(late) = store.lease("k", short, short / 2).await.expect("an answer") else {
        panic!("it was free")
    };
    let began = Instant::now();
    let new = loop {
        match store.lease("k", Duration::from_secs(60), Duration::from_secs(60)).await.expect("an answer") {
            Leased::Held(lease) => break lease,
            Leased::Elsewhere(_) => assert!(began.elapsed() < HANG, "it never ended"),
        }
    };
    drop(late);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(server.command(&["EXISTS", "Tracking:!lease:k"]), "1");
    drop(new);
    while server.command(&["EXISTS", "Tracking:!lease:k"]) != "0" {
        assert!(began.elapsed() < HANG, "it was never given back");
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_gives_leases_back() {
    let server = RedisServer::start();
    let cache = cache_on(config(&server, RedisBackplane::Tracking), &[]);
    let asked = cache.clone();
    let hung = tokio::spawn(async move {
        let hung = |_| std::future::pending::<Result<Loaded, LoadError>>();
        asked.get_or_load("k", hung).await.map(|found| found.value)
    });
    while server.command(&["EXISTS", "Tracking:!lease:k"]) != "1" {
        sleep(Duration::from_millis(1)).await;
    }
    timeout(HANG, cache.shutdown()).await.expect("no hang");
    assert_eq!(server.command(&["EXISTS", "Tracking:!lease:k"]), "0");
    assert!(hung.await.expect("no panic").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_nobody_wants_the_load_any_more_the_lease_is_free() {
    let server = RedisServer::start();
    let cache = cache_on(config(&server, RedisBackplane::Tracking), &[("lease_ttl", "60s")]);
    let caller = cache.clone();
    let caller = tokio::spawn(async move {
        let hung = |_| std::future::pending::<Result<Loaded, LoadError>>();
        caller.get_or_load("k", hung).await.map(|found| found.value)
    });
    let began = Instant::now();
    while server.command(&["EXISTS", "Tracking:!lease:k"]) != "1" {
        assert!(began.elapsed() < HANG, "it was never taken");
        sleep(Duration::from_millis(1)).await;
    }
    caller.abort();
    while server.command(&["EXISTS", "Tracking:!lease:k"]) != "0" {
        assert!(began.elapsed() < HANG, "it was never given back");
        sleep(Duration::from_millis(1)).await;
    }
}

/// What callers on two caches saw: how many requests, the longest, and what went wrong.
#[derive(Debug, Default)]
struct Seen {
    requests: u32,
    longest: Duration,
    errors: Vec<String>,
}

/// Asks for keys that are new all the time, and the same for everybody, until `end`.
async fn ask_until(cache: Cache, end: Instant, began: Instant, patience: Duration) -> Seen {
    let mut seen = Seen::default();
    while Instant::now() < end {
        let (key, asked_at) = (format!("cold:{}", began.elapsed().as_millis() / 20), Instant::now());
        let load = |_| async {
            sleep(Duration::from_millis(20)).await;
            Ok::<_, LoadError>(Loaded::new("value"))
        };
        let answer = timeout(HANG, cache.get_or_load_with(&key, CallOptions::new().timeout(patience), load)).await;
        seen.requests += 1;
        seen.longest = seen.longest.max(asked_at.elapsed());
        seen.errors.extend(answer.expect("no hang").err().map(|error| error.to_string()));
        sleep(Duration::from_millis(2)).await;
    }
    seen
}

/// Neither those who wait for a lease of the other, nor those who would take one, nor those who would give one back.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_frozen_server_nobody_fails_or_waits_past_his_deadline() {
    const PATIENCE: Duration = Duration::from_secs(3);
    let mut server = RedisServer::start();
    let options = [("store_read_deadline", "250ms"), ("lease_wait_max", "500ms")];
    let caches = [(); 2].map(|()| cache_on(config(&server, RedisBackplane::Tracking), &options));
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for number in 0..16 {
        callers.spawn(ask_until(caches[number % 2].clone(), began + Duration::from_secs(4), began, PATIENCE));
    }
    sleep(Duration::from_millis(500)).await;
    server.freeze();
    sleep(Duration::from_secs(2)).await;
    server.thaw();
    let mut all = Seen::default();
    for seen in callers.join_all().await {
        all.requests += seen.requests;
        all.longest = all.longest.max(seen.longest);
        all.errors.extend(seen.errors);
    }
    let mut leases = 0;
    for cache in &caches {
        leases += count(cache, "leases").await;
    }
    let Seen { requests, longest, errors } = all;
    println!("| two caches with leases, frozen 2 s | {requests} requests | longest {longest:?} | {leases} leases |");
    assert_eq!(errors, [""; 0]);
    assert!(longest < PATIENCE, "{longest:?}");
    assert!(leases > 0, "nobody had one");
}
