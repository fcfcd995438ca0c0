//! Direct operations of two processes on a real Redis that is frozen, killed, cut off and demoted under load. For each
//! fault: which errors callers saw, how long the longest call took, and what was lost or doubled (nothing), by the
//! server's own word.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tideover::observe::CircuitState;
use tideover::store::{Cursor, RedisBackplane, RedisConfig, RedisStore, Remaining};
use tideover::{Cache, Direct, Error, Source};
use tideover_tests::redis_server::RedisServer;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::sleep;

/// Catches a hang; nothing here comes near it.
const HANG: Duration = Duration::from_secs(60);

/// A change waits for the store for 1 s at most; the rest is for a busy machine.
const LONGEST: Duration = Duration::from_secs(4);

const CALLERS: usize = 4;
const KEYS: usize = 7;

/// Nothing that was acknowledged is lost when the server is killed.
const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

fn process_with(config: RedisConfig) -> Cache {
    let store = RedisStore::new(config).expect("a good configuration");
    let options = [("store_breaker_open_for", "250ms"), ("store_breaker_open_for_max", "1s")];
    let builder = Cache::builder().store(store);
    let builder =
        options.into_iter().fold(builder, |builder, (name, text)| builder.set(name, text).expect("an option"));
    builder.build().expect("a cache")
}

fn process(server: &RedisServer) -> Cache {
    process_with(RedisConfig::new(server.url()))
}

/// What the server has under a key of direct operations.
fn there(server: &RedisServer, key: &str) -> String {
    server.command(&["GET", &format!("tideover:!direct:{key}")])
}

/// What callers saw.
#[derive(Default)]
struct Seen {
    calls: u64,
    fallback: u64,
    unknown: i64,
    errors: Vec<String>,
    longest: Duration,
    /// Reads that did not bring what the same caller had written before.
    stale: Vec<String>,
    counted: i64,
    /// What is to be under each key.
    owed: BTreeMap<String, Option<String>>,
}

impl Seen {
    /// Waits for a call; `None`: nobody knows whether it was made, or it failed.
    async fn call<T>(&mut self, call: impl Future<Output = Result<tideover::direct::Answer<T>, Error>>) -> Option<T> {
        let began = Instant::now();
        let answer = tokio::time::timeout(HANG, call).await.expect("no hang");
        self.longest = self.longest.max(began.elapsed());
        self.calls += 1;
        match answer {
            Ok(answer) => {
                self.fallback += u64::from(answer.source == Source::Fallback);
                Some(answer.value)
            }
            Err(Error::OutcomeUnknown { .. }) => {
                self.unknown += 1;
                None
            }
            Err(error) => {
                self.errors.push(error.to_string());
                None
            }
        }
    }

    fn add(mut self, other: Self) -> Self {
        self.calls += other.calls;
        self.fallback += other.fallback;
        self.unknown += other.unknown;
        self.counted += other.counted;
        self.longest = self.longest.max(other.longest);
        self.errors.extend(other.errors);
        self.stale.extend(other.stale);
        self.owed.extend(other.owed);
        self
    }
}

/// A caller with keys of its own, and a number that all processes count on.
async fn work(direct: Direct, name: String, goes_on: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    let mut round = 0_usize;
    while goes_on.load(Ordering::Relaxed) || round < 5 * KEYS {
        let key = format!("{name}:{}", round % KEYS);
        let known = seen.owed.get(&key).cloned().flatten();
        let found = seen.call(direct.get(&key)).await.flatten();
        if found.as_deref() != known.as_deref().map(str::as_bytes) {
            seen.stale.push(format!("{key} in round {round}"));
        }
        let value = round.to_string();
        match round % 5 {
            0 | 1 => {
                seen.call(direct.put(&key, value.clone(), None)).await;
                seen.owed.insert(key, Some(value));
            }
            2 => {
                seen.call(direct.remove(&key)).await;
                seen.owed.insert(key, None);
            }
            3 => {
                // If that is not answered, it is not known whether it was done.
                match seen.call(direct.put_if_absent(&key, value.clone(), None)).await {
                    Some(true) => assert!(seen.owed.insert(key, Some(value)).flatten().is_none(), "it was there"),
                    Some(false) => assert!(known.is_some(), "it was not there"),
                    None => {}
                }
            }
            _ => {
                let taken = seen.call(direct.take(&key)).await.flatten();
                if taken.as_deref() != known.as_deref().map(str::as_bytes) {
                    seen.stale.push(format!("{key}, taken in round {round}"));
                }
                seen.owed.insert(key, None);
            }
        }
        let counted = seen.call(direct.increment("n", 1, None)).await;
        seen.counted += i64::from(counted.is_some());
        round += 1;
        sleep(Duration::from_millis(2)).await;
    }
    seen
}

/// Waits until nothing is owed, and the circuit is closed.
async fn back(cache: &Cache) {
    let began = Instant::now();
    loop {
        let health = cache.health().await;
        if health.direct.owed == 0 && health.circuits.direct.state == CircuitState::Closed {
            return;
        }
        assert!(began.elapsed() < HANG, "not back: {health:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Two processes at work while that happens to their server.
async fn survive(fault: &'static str, server: &mut RedisServer, happens: impl AsyncFnOnce(&mut RedisServer)) {
    let caches = [process(server), process(server)];
    let goes_on = Arc::new(AtomicBool::new(true));
    let mut callers = JoinSet::new();
    for (process, cache) in caches.iter().enumerate() {
        for caller in 0..CALLERS {
            callers.spawn(work(cache.direct(), format!("{process}-{caller}"), Arc::clone(&goes_on)));
        }
    }
    sleep(Duration::from_millis(500)).await;
    happens(server).await;
    sleep(Duration::from_millis(1_500)).await;
    goes_on.store(false, Ordering::Relaxed);
    let seen = callers.join_all().await.into_iter().fold(Seen::default(), Seen::add);
    for cache in &caches {
        back(cache).await;
    }
    let lost: Vec<String> = block_in_place(|| {
        let wrong = |(key, value): (&String, &Option<String>)| {
            let found = there(server, key);
            (found != value.clone().unwrap_or_else(|| "(nil)".into())).then(|| format!("{key}: {found}, not {value:?}"))
        };
        seen.owed.iter().filter_map(wrong).collect()
    });
    let number: i64 = block_in_place(|| there(server, "n")).parse().expect("a number");
    let given_up: u64 = caches.iter().map(|cache| cache.direct().stats().given_up).sum();
    // What was owed and is not known to have been paid, beside what callers were told themselves.
    let unpaid = caches.iter().map(|cache| cache.direct().stats().unknown).sum::<u64>() as i64 - seen.unknown;
    println!(
        "{fault}: {} calls, {} by the fallback, {} of unknown outcome, errors {:?}, longest {:?}, lost {lost:?}, \
         {number} counted of {} (and {} unknown), {given_up} given up",
        seen.calls, seen.fallback, seen.unknown, seen.errors, seen.longest, seen.counted, seen.unknown,
    );
    assert!(seen.fallback as i64 + seen.unknown > 0, "{fault}: nobody has noticed");
    assert!(seen.errors.is_empty(), "{fault}: {:?}", seen.errors);
    assert!(seen.longest < LONGEST, "{fault}: {:?}", seen.longest);
    assert!(seen.stale.is_empty(), "{fault}: {:?}", seen.stale);
    assert!(lost.is_empty() && given_up == 0 && unpaid == 0, "{fault}: {lost:?}, {given_up}, {unpaid}");
    let range = seen.counted..=seen.counted + seen.unknown;
    assert!(range.contains(&number), "{fault}: {number} is not in {range:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_costs_deadlines_and_nothing_is_lost() {
    let mut server = RedisServer::start();
    survive("frozen", &mut server, async |server| {
        server.freeze();
        sleep(Duration::from_secs(3)).await;
        server.thaw();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_that_comes_back_with_its_data_has_everything() {
    let mut server = RedisServer::start_with_arguments(DURABLE);
    survive("killed", &mut server, async |server| {
        block_in_place(|| server.kill());
        sleep(Duration::from_secs(2)).await;
        block_in_place(|| server.restart());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_again_and_again_lose_and_double_nothing() {
    let mut server = RedisServer::start();
    survive("cut off", &mut server, async |server| {
        for _ in 0..100 {
            block_in_place(|| server.cut_clients());
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_for_a_while_gets_them_later() {
    let mut server = RedisServer::start();
    survive("read-only", &mut server, async |server| {
        block_in_place(|| server.become_orphaned_replica());
        sleep(Duration::from_secs(2)).await;
        block_in_place(|| server.become_primary());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_lie_beside_those_of_the_cache_and_a_clear_leaves_them() {
    let server = RedisServer::start();
    for backplane in [RedisBackplane::Tracking, RedisBackplane::PubSub, RedisBackplane::Off] {
        let config = || RedisConfig { backplane, ..RedisConfig::new(server.url()) };
        let (cache, other) = (process_with(config()), process_with(config()));
        let (direct, theirs) = (cache.direct(), other.direct());
        cache.put("k", "cached", None).await.expect("a put");
        assert!(other.get("k").await.expect("no error").is_some());
        direct.put("k", "direct", Some(Duration::from_secs(100))).await.expect("a put");
        direct.put("user:*", "star", None).await.expect("a put");
        assert_eq!(direct.increment("n", 7, None).await.expect("a count").value, 7);
        assert!(other.get("k").await.expect("no error").is_some(), "{backplane:?}: it was not told to be changed");
        assert_eq!(other.stats().await.expect("a report").count("changed_elsewhere"), 0, "{backplane:?}");
        let page = theirs.scan("*", &Cursor::default(), 1_000).await.expect("a page").value;
        assert_eq!(page.keys.len(), 3, "{backplane:?}: {:?}", page.keys);
        assert_eq!(theirs.remove_matching(r"user:\*").await.expect("a removal").value, 1);

        cache.clear().await.expect("a clear");
        // Memory elsewhere hears of it by and by.
        let successor = process_with(config());
        assert!(successor.get("k").await.expect("no error").is_none(), "{backplane:?}");
        let answer = theirs.get_many(&["k", "n"]).await.expect("it is answered");
        assert_eq!((answer.source, answer.value), (Source::Store, vec![Some("direct".into()), Some("7".into())]));
        let Remaining::Left(left) = theirs.remaining("k").await.expect("it is answered").value else {
            panic!("{backplane:?}: it has an end")
        };
        assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(100), "{backplane:?}: {left:?}");
        assert_eq!(there(&server, "k"), "direct");

        cache.put("k", "cached", None).await.expect("a put");
        direct.clear().await.expect("a clear");
        assert!(!theirs.exists("n").await.expect("it is answered").value, "{backplane:?}");
        let successor = process_with(config());
        assert!(successor.get("k").await.expect("no error").is_some(), "{backplane:?}");
        cache.clear().await.expect("a clear");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_is_no_number_and_what_is_no_value_of_ours_is_refused() {
    let server = RedisServer::start();
    let direct = process(&server).direct();
    direct.put("text", "one", None).await.expect("a put");
    assert_eq!(server.command(&["LPUSH", "tideover:!direct:list", "1"]), "1");
    for key in ["text", "list"] {
        let refused = direct.increment(key, 1, None).await.expect_err("it is no number");
        assert!(matches!(refused, Error::StoreRefused { operation: "increment", .. }), "{refused:?}");
        assert!(!refused.to_string().contains(key) && !refused.to_string().contains("one"), "{refused}");
    }
    assert_eq!(direct.get("text").await.expect("it is answered").value, Some("one".into()));
    assert_eq!(direct.cache().health().await.circuits.direct.failures, 0, "an answer says nothing against the store");
}
