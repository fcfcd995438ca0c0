//! A store of two shards, one of which is lost: what is owed to the other is paid, and its keys are asked of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::*;
use crate::store::{Abilities, MemoryStore, Page, Store, StoreError, When};

/// Keys whose names begin with `a` lie on the shard that can be lost. All else asks both.
#[derive(Clone)]
struct Shards {
    held: Arc<MemoryStore>,
    is_lost: Arc<AtomicBool>,
    /// Whether what is lost answers nothing instead of failing at once.
    is_hung: Arc<AtomicBool>,
    writes_for: Duration,
}

impl Shards {
    fn new() -> Self {
        Self {
            held: Arc::new(MemoryStore::new(10_000)),
            is_lost: Arc::default(),
            is_hung: Arc::default(),
            writes_for: Duration::ZERO,
        }
    }

    fn lose(&self, is_lost: bool) {
        self.is_lost.store(is_lost, Ordering::Relaxed);
    }

    fn direct(&self) -> Direct {
        testing::builder().store(self.clone()).build().expect("a cache").direct()
    }

    async fn on<T>(&self, keys: &[&str], work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let is_concerned = keys.is_empty() || keys.iter().any(|key| key.starts_with("!direct:a"));
        if is_concerned && self.is_lost.load(Ordering::Relaxed) {
            if self.is_hung.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            return Err(StoreError::Unavailable("that shard is lost".to_owned()));
        }
        work.await
    }

    async fn found(&self, key: &str) -> Option<Bytes> {
        self.held.read(&format!("!direct:{key}")).await.expect("it is in memory")
    }
}

type Asked<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

impl Store for Shards {
    fn name(&self) -> &'static str {
        "shards"
    }

    fn abilities(&self) -> Abilities {
        self.held.abilities()
    }

    fn read<'a>(&'a self, key: &'a str) -> Asked<'a, Option<Bytes>> {
        async move { self.on(&[key], self.held.read(key)).await }.boxed()
    }

    fn write<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> Asked<'a, ()> {
        async move {
            sleep(self.writes_for).await;
            self.on(&[key], self.held.write(key, value, ttl)).await
        }
        .boxed()
    }

    fn remove<'a>(&'a self, key: &'a str) -> Asked<'a, ()> {
        async move { self.on(&[key], self.held.remove(key)).await }.boxed()
    }

    fn clear(&self) -> Asked<'_, ()> {
        async move { self.on(&[], self.held.clear()).await }.boxed()
    }

    fn ping(&self) -> Asked<'_, ()> {
        async move { self.on(&[], self.held.ping()).await }.boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }

    fn write_when<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>, when: When) -> Asked<'a, bool> {
        async move { self.on(&[key], self.held.write_when(key, value, ttl, when)).await }.boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> Asked<'a, bool> {
        async move { self.on(&[key], self.held.delete(key)).await }.boxed()
    }

    fn exists<'a>(&'a self, key: &'a str) -> Asked<'a, bool> {
        async move { self.on(&[key], self.held.exists(key)).await }.boxed()
    }

    fn increment<'a>(&'a self, key: &'a str, by: i64, ttl: Option<Duration>) -> Asked<'a, i64> {
        async move { self.on(&[key], self.held.increment(key, by, ttl)).await }.boxed()
    }

    fn expire<'a>(&'a self, key: &'a str, ttl: Option<Duration>) -> Asked<'a, bool> {
        async move { self.on(&[key], self.held.expire(key, ttl)).await }.boxed()
    }

    fn remaining<'a>(&'a self, key: &'a str) -> Asked<'a, Remaining> {
        async move { self.on(&[key], self.held.remaining(key)).await }.boxed()
    }

    fn remove_many<'a>(&'a self, keys: &'a [&'a str]) -> Asked<'a, u64> {
        async move { self.on(keys, self.held.remove_many(keys)).await }.boxed()
    }

    fn scan<'a>(&'a self, pattern: &'a str, cursor: &'a Cursor, count: usize) -> Asked<'a, Page> {
        async move { self.on(&[], self.held.scan(pattern, cursor, count)).await }.boxed()
    }
}

async fn put(direct: &Direct, key: &str, value: &'static str) -> Source {
    direct.put(key, value, None).await.expect("it is answered").source
}

#[tokio::test(start_paused = true)]
async fn one_lost_shard_takes_nothing_away_from_the_others() {
    let store = Shards::new();
    let direct = store.direct();
    store.lose(true);
    assert_eq!(put(&direct, "a1", "owed").await, Source::Fallback);
    for round in 0..120 {
        assert_eq!(put(&direct, "b1", "v").await, Source::Store, "round {round}");
        assert_eq!(direct.get("b2").await.expect("it is answered").source, Source::Store, "round {round}");
        assert_eq!(direct.get("a1").await.expect("it is answered").value, text("owed"));
        sleep(Duration::from_millis(500)).await;
    }
    // Nor does it without any calls.
    sleep(seconds(300)).await;
    assert_eq!(direct.get("b3").await.expect("it is answered").source, Source::Store);
    assert_eq!((direct.cache().health().await.circuits.direct.trips, direct.stats().owed), (0, 1));
    store.lose(false);
    sleep(seconds(31)).await;
    assert_eq!((store.found("a1").await, direct.stats().owed), (text("owed"), 0));
    assert_eq!(direct.get("a1").await.expect("it is answered").source, Source::Store);
}

#[tokio::test(start_paused = true)]
async fn old_debts_of_a_lost_shard_hold_up_no_newer_ones_of_others() {
    for is_hung in [false, true] {
        let store = Shards::new();
        store.is_hung.store(is_hung, Ordering::Relaxed);
        let direct = store.direct();
        direct.set_breaker_mode(BreakerMode::ForcedOpen);
        for number in 0..200 {
            assert_eq!(put(&direct, &format!("a{number}"), "v").await, Source::Fallback);
        }
        direct.increment("a-count", 1, None).await.expect("a count");
        for number in 0..70 {
            put(&direct, &format!("b{number}"), "v").await;
        }
        store.lose(true);
        direct.set_breaker_mode(BreakerMode::Automatic);
        sleep(seconds(10)).await;
        assert_eq!(direct.stats().owed, 201, "hung: {is_hung}");
        assert_eq!((store.found("b0").await, store.found("b69").await), (text("v"), text("v")));
        assert_eq!(direct.cache().health().await.circuits.direct.trips, 0);
        assert_eq!(put(&direct, "b0", "newer").await, Source::Store);
        store.lose(false);
        sleep(seconds(60)).await;
        assert_eq!((direct.stats().owed, direct.stats().unknown), (0, 0), "no count was sent in vain");
        assert_eq!((store.found("a199").await, store.found("a-count").await), (text("v"), text("1")));
    }
}

#[tokio::test(start_paused = true)]
async fn the_circuit_closes_if_any_shard_answers() {
    let store = Shards::new();
    let direct = store.direct();
    put(&direct, "b1", "v").await;
    store.lose(true);
    // Callers of that shard alone open it.
    for number in 0..5 {
        put(&direct, &format!("a{number}"), "v").await;
    }
    while direct.get("a-other").await.is_ok() && direct.cache().health().await.circuits.direct.trips == 0 {}
    sleep(seconds(3)).await;
    let circuit = direct.cache().health_at_hand().await.circuits.direct;
    assert_eq!(circuit.state, crate::observe::CircuitState::Closed, "although nobody has called");
    assert_eq!(direct.get("b1").await.expect("it is answered").source, Source::Store);
    assert_eq!((put(&direct, "b2", "v").await, direct.stats().owed), (Source::Store, 5));
}

#[tokio::test(start_paused = true)]
async fn a_pattern_that_cannot_be_paid_holds_up_its_own_keys_alone() {
    let store = Shards::new();
    let direct = store.direct();
    put(&direct, "b:1", "old").await;
    store.lose(true);
    assert!(direct.remove_matching("b:*").await.expect("it is owed").is_fallback());
    assert_eq!((put(&direct, "b:1", "new").await, put(&direct, "b2", "v").await), (Source::Fallback, Source::Store));
    sleep(seconds(100)).await;
    assert_eq!((store.found("b:1").await, direct.stats().owed), (text("old"), 2), "it must not be removed later");
    assert_eq!(direct.get("b:1").await.expect("it is answered").value, text("new"));
    assert_eq!(put(&direct, "b3", "v").await, Source::Store);
    store.lose(false);
    sleep(seconds(31)).await;
    assert_eq!((store.found("b:1").await, direct.stats().owed), (text("new"), 0));
}

/// The payer is in the middle of its keys when a pattern comes to be owed, and behind it one of them anew: one that it
/// has not come to yet, or one that is on its way.
#[tokio::test(start_paused = true)]
async fn what_is_owed_behind_a_pattern_is_not_removed_by_it() {
    for after in [1_500, 2_800] {
        let store = Shards { writes_for: Duration::from_millis(900), ..Shards::new() };
        let direct = store.direct();
        direct.set_breaker_mode(BreakerMode::ForcedOpen);
        for number in 0..200 {
            put(&direct, &format!("k{number}"), "v").await;
        }
        put(&direct, "user:7", "old").await;
        direct.set_breaker_mode(BreakerMode::Automatic);
        direct.get("other").await.expect("it is answered");
        sleep(Duration::from_millis(after)).await;
        assert!(direct.stats().owed > 1, "it is being paid");
        assert!(direct.remove_matching("user:*").await.expect("it is owed").is_fallback());
        put(&direct, "user:7", "new").await;
        sleep(seconds(60)).await;
        assert_eq!((store.found("user:7").await, direct.stats().owed), (text("new"), 0), "after {after}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_pays_all_that_can_be_paid() {
    let store = Shards::new();
    let direct = store.direct();
    store.lose(true);
    put(&direct, "a1", "v").await;
    sleep(seconds(100)).await;
    direct.set_breaker_mode(BreakerMode::ForcedOpen);
    for number in 0..100 {
        put(&direct, &format!("b{number}"), "v").await;
    }
    direct.set_breaker_mode(BreakerMode::Automatic);
    let began = Instant::now();
    direct.cache().shutdown().await;
    assert!(began.elapsed() <= seconds(10), "{:?}", began.elapsed());
    assert_eq!((store.found("b99").await, store.found("a1").await, direct.stats().owed), (text("v"), None, 1));

    let direct = store.direct();
    put(&direct, "a1", "v").await;
    sleep(seconds(100)).await;
    store.lose(false);
    direct.cache().shutdown().await;
    assert_eq!(store.found("a1").await, text("v"), "whatever it has waited for");
}

#[tokio::test(start_paused = true)]
async fn zero_ends_at_once_although_it_was_owed() {
    let (store, zero) = (ScriptedStore::default(), Some(Duration::ZERO));
    let ours = direct(&store);
    for key in ["put", "many", "present", "ttl"] {
        ours.put(key, "old", None).await.expect("a put");
    }
    direct(&store).put("unknown", "old", None).await.expect("a put");
    ours.set_breaker_mode(BreakerMode::ForcedOpen);
    ours.put("put", "v", zero).await.expect("a put");
    ours.put("unknown", "v", zero).await.expect("a put");
    ours.put_many(&[("many", "v".into())], zero).await.expect("a put");
    assert!(ours.put_if_present("present", "v", zero).await.expect("a put").value);
    assert!(ours.put_if_absent("absent", "v", zero).await.expect("a put").value);
    assert!(ours.set_ttl("ttl", zero).await.expect("it ends").value);
    assert_eq!(ours.increment("n", 1, zero).await.expect("a count").value, 1);
    assert_eq!(ours.increment("n", 1, zero).await.expect("a count").value, 1, "a new one");
    let keys = ["put", "unknown", "many", "present", "absent", "ttl", "n"];
    assert_eq!(ours.get_many(&keys).await.expect("it is answered").value, [const { None }; 7]);
    ours.set_breaker_mode(BreakerMode::Automatic);
    sleep(seconds(2)).await;
    assert_eq!(ours.stats().owed, 0);
    for key in keys {
        assert_eq!(found(&store, key).await, None, "{key}");
    }
}
