//! Two processes on one Redis: what one invalidates, removes or clears reaches the other, and nothing late undoes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tideover::core::breaker::State;
use tideover::store::{RedisConfig, RedisStore};
use tideover::{Cache, EngineKind, LoadError, Loaded, Settled, Source};
use tideover_tests::proxy::{Fault, Proxy};
use tideover_tests::redis_server::{RedisCluster, RedisServer};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Catches a hang; nothing here comes near it.
const HANG: Duration = Duration::from_secs(30);

fn cache_at(url: impl Into<String>, options: &[(&str, &str)]) -> Cache {
    let store = RedisStore::new(RedisConfig::new(url)).expect("a good configuration");
    let options =
        [("stale_if_error", "10m"), ("store_breaker_open_for", "100ms"), ("store_breaker_open_for_max", "200ms")]
            .iter()
            .chain(options);
    let builder = Cache::builder().engine(EngineKind::Native).store(store).ttl(Duration::from_secs(600));
    options.fold(builder, |builder, (name, text)| builder.set(name, text).expect("an option")).build().expect("a cache")
}

fn two(server: &RedisServer) -> (Cache, Cache) {
    (cache_at(server.url(), &[]), cache_at(server.url(), &[]))
}

async fn load(cache: &Cache, key: &str, value: &'static str, tags: &[&'static str]) -> (String, Source) {
    let tags = tags.to_vec();
    let loading = cache.get_or_load(key, move |_| {
        let tags = tags.clone();
        async move { Ok::<_, LoadError>(Loaded::new(value).tags(tags)) }
    });
    let found = timeout(HANG, loading).await.expect("no hang").expect("a value");
    (text(&found.value), found.source)
}

/// What a cache has, and from where, without loading.
async fn get(cache: &Cache, key: &str) -> Option<(String, Source)> {
    let found = timeout(HANG, cache.get(key)).await.expect("no hang").expect("no error");
    found.map(|found| (text(&found.value), found.source))
}

/// As [`get`], whether fresh or stale, with a loader that fails.
async fn stale(cache: &Cache, key: &str) -> Option<(String, bool)> {
    let failing = cache.get_or_load(key, |_| async { Err::<Loaded, _>(LoadError::unavailable("away")) });
    let found = timeout(HANG, failing).await.expect("no hang").ok()?;
    Some((text(&found.value), found.stale.is_some()))
}

async fn put(cache: &Cache, key: &str, value: &'static str, tags: &[&str]) -> Settled {
    let put = cache.put_tagged(key, value, None, tags);
    timeout(HANG, put).await.expect("no hang").expect("a put")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn some(value: &str, source: Source) -> Option<(String, Source)> {
    Some((value.to_owned(), source))
}

/// Has the cache ask its store for something, and so hear what was noted.
async fn touch(cache: &Cache) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    assert_eq!(get(cache, &format!("untouched:{number}")).await, None);
}

/// A load that has begun, and goes on when it is told to.
struct Held {
    go_on: Arc<Notify>,
    loading: JoinHandle<String>,
}

impl Held {
    async fn begin(cache: &Cache, key: &str, tags: &'static [&'static str]) -> Self {
        let (began, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (cache, key) = (cache.clone(), key.to_owned());
        let signals = (Arc::clone(&began), Arc::clone(&go_on));
        let loading = tokio::spawn(async move {
            let load = move |_| {
                let (began, go_on) = signals.clone();
                async move {
                    began.notify_one();
                    go_on.notified().await;
                    Ok::<_, LoadError>(Loaded::new("old").tags(tags.iter().copied()))
                }
            };
            text(&cache.get_or_load(&key, load).await.expect("a value").value)
        });
        timeout(HANG, began.notified()).await.expect("no hang");
        Self { go_on, loading }
    }

    async fn ends(self) -> String {
        self.go_on.notify_one();
        timeout(HANG, self.loading).await.expect("no hang").expect("no panic")
    }
}

/// Waits until nothing is being written behind answers, nothing is owed and the circuit is closed.
async fn settled(cache: &Cache) {
    let began = Instant::now();
    loop {
        let report = cache.stats().await.expect("a report");
        let quiet = report.count("flights") == 0 && report.count("owed") == 0 && !report.owes_clear;
        if quiet && report.store_breaker.state == State::Closed {
            return;
        }
        assert!(began.elapsed() < HANG, "not settled: {report:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Asks for cold keys until the circuit of the store is open.
async fn cut_off(cache: &Cache) {
    let began = Instant::now();
    for number in 0.. {
        let _found = cache.get(&format!("probe:{number}")).await;
        if matches!(cache.stats().await.expect("a report").store_breaker.state, State::Open { .. }) {
            return;
        }
        assert!(began.elapsed() < HANG, "the circuit never opened");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bears_tags_is_shared_until_either_invalidates_it() {
    let server = RedisServer::start();
    let (one, other) = two(&server);
    assert_eq!(put(&one, "ada", "1", &["people"]).await, Settled::Store);
    assert_eq!(load(&one, "bob", "1", &["people", "staff"]).await.1, Source::Load);
    assert_eq!(put(&one, "sun", "1", &["stars"]).await, Settled::Store);
    settled(&one).await;
    for key in ["ada", "bob", "sun"] {
        assert_eq!(get(&other, key).await, some("1", Source::Store), "{key}");
        assert_eq!(get(&other, key).await, some("1", Source::Memory), "{key}");
    }

    assert_eq!(one.invalidate_tag("people").await.expect("no error"), Settled::Store);
    // At once where it was done, and at the next word with the store elsewhere.
    assert_eq!(get(&one, "ada").await, None);
    touch(&other).await;
    for cache in [&one, &other] {
        assert_eq!((get(cache, "ada").await, get(cache, "bob").await), (None, None));
        assert_eq!(get(cache, "sun").await, some("1", Source::Memory));
    }
    // So does whoever comes later; and what is put after it is as good as ever.
    let late = cache_at(server.url(), &[]);
    assert_eq!((get(&late, "ada").await, get(&late, "sun").await), (None, some("1", Source::Store)));
    assert_eq!(put(&other, "ada", "2", &["people"]).await, Settled::Store);
    assert_eq!(get(&one, "ada").await, some("2", Source::Store));
    assert_eq!(get(&late, "ada").await, some("2", Source::Store));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_by_its_tag_is_stale_everywhere() {
    let server = RedisServer::start();
    let (one, other) = two(&server);
    put(&one, "ada", "1", &["people"]).await;
    put(&one, "bob", "1", &["people"]).await;
    assert_eq!(get(&other, "ada").await, some("1", Source::Store));
    assert_eq!(one.expire_tag("people").await.expect("no error"), Settled::Store);
    touch(&other).await;
    let late = cache_at(server.url(), &[]);
    for (name, cache) in [("one", &one), ("other", &other), ("late", &late)] {
        for key in ["ada", "bob"] {
            assert_eq!(stale(cache, key).await, Some(("1".into(), true)), "{name}, {key}");
        }
    }
    // Whose loader works replaces it for everybody.
    let next = cache_at(server.url(), &[]);
    assert_eq!(load(&next, "ada", "2", &["people"]).await, ("2".into(), Source::Load));
    settled(&next).await;
    assert_eq!(get(&cache_at(server.url(), &[]), "ada").await, some("2", Source::Store));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clear_reaches_everybody_and_what_is_put_after_it_stays() {
    let server = RedisServer::start();
    let (one, other) = two(&server);
    let keys: Vec<String> = (0..2_000).map(|number| format!("k{number}")).collect();
    for key in &keys {
        put(&one, key, "1", if key.ends_with('7') { &["seven"] } else { &[] }).await;
    }
    assert_eq!(get(&other, "k7").await, some("1", Source::Store));
    assert_eq!(one.clear().await.expect("no error"), Settled::Store);
    put(&one, "new", "2", &[]).await;
    assert_eq!(get(&other, "new").await, some("2", Source::Store));
    for key in &keys {
        assert_eq!((get(&one, key).await, get(&other, key).await), (None, None), "{key}");
    }
    // By and by the server is rid of it, too; nobody is the poorer for it.
    let began = Instant::now();
    while server.command(&["DBSIZE"]) != "2" {
        assert!(began.elapsed() < HANG, "{} keys stay", server.command(&["DBSIZE"]));
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(get(&cache_at(server.url(), &[]), "new").await, some("2", Source::Store));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_is_not_undone_by_a_load_of_another_process_that_began_before_it() {
    let server = RedisServer::start();
    let (one, other) = two(&server);
    for (round, before) in [None, Some("0")].into_iter().enumerate() {
        let key = format!("key:{round}");
        if let Some(before) = before {
            put(&one, &key, before, &[]).await;
            other.expire(&key).await.expect("no error");
        }
        let load = Held::begin(&other, &key, &[]).await;
        assert_eq!(one.remove(&key).await.expect("no error"), Settled::Store);
        // Who asked before the removal may get what was there then.
        assert_eq!(load.ends().await, "old");
        settled(&other).await;
        assert_eq!(get(&one, &key).await, None, "{round}");
        assert_eq!(get(&cache_at(server.url(), &[]), &key).await, None, "{round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_is_not_undone_by_a_load_of_another_process_that_began_before_it() {
    let server = RedisServer::start();
    let (one, other) = two(&server);
    for clears in [false, true] {
        let load = Held::begin(&other, "ada", &["people"]).await;
        let done = if clears { one.clear().await } else { one.invalidate_tag("people").await };
        assert_eq!(done.expect("no error"), Settled::Store);
        assert_eq!(load.ends().await, "old");
        settled(&other).await;
        touch(&other).await;
        assert_eq!((get(&one, "ada").await, get(&other, "ada").await), (None, None), "{clears}");
        assert_eq!(get(&cache_at(server.url(), &[]), "ada").await, None, "{clears}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_did_meanwhile_is_not_undone_by_debts_of_an_outage() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port());
    let one = cache_at(server.url(), &[]);
    let other = cache_at(format!("redis://{}", proxy.address()), &[]);
    for key in ["removed", "put", "untouched", "tagged", "own"] {
        put(&one, key, "0", &[]).await;
        assert_eq!(get(&other, key).await, some("0", Source::Store));
    }
    put(&one, "theirs", "0", &["people"]).await;
    assert_eq!(get(&other, "theirs").await, some("0", Source::Store));

    proxy.does(Fault::Reset);
    cut_off(&other).await;
    for key in ["removed", "put", "untouched"] {
        assert_eq!(put(&other, key, "debt", &[]).await, Settled::Journaled);
    }
    assert_eq!(put(&other, "tagged", "debt", &["people"]).await, Settled::Journaled);
    assert_eq!(other.remove("own").await.expect("no error"), Settled::Journaled);
    assert_eq!(other.invalidate_tag("staff").await.expect("no error"), Settled::Journaled);
    // Civil time decides what is newer.
    sleep(Duration::from_millis(20)).await;
    assert_eq!(one.remove("removed").await.expect("no error"), Settled::Store);
    assert_eq!(put(&one, "put", "newer", &[]).await, Settled::Store);
    assert_eq!(one.invalidate_tag("people").await.expect("no error"), Settled::Store);
    assert_eq!(put(&one, "staffed", "0", &["staff"]).await, Settled::Store);

    proxy.does(Fault::None);
    settled(&other).await;
    touch(&one).await;
    let late = cache_at(server.url(), &[]);
    for (name, cache) in [("one", &one), ("other", &other), ("late", &late)] {
        touch(cache).await;
        assert_eq!(get(cache, "theirs").await, None, "{name}");
    }
    for (key, value) in [("removed", None), ("put", Some("newer")), ("untouched", Some("debt")), ("own", None)] {
        assert_eq!(get(&late, key).await.map(|found| found.0), value.map(str::to_owned), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_killed_and_restarts_empty_undoes_nothing_and_empties_no_memory() {
    let mut server = RedisServer::start();
    let (one, other) = two(&server);
    for number in 0..200 {
        put(&one, &format!("k{number}"), "1", &["all"]).await;
        assert_eq!(get(&other, &format!("k{number}")).await, some("1", Source::Store));
    }
    assert_eq!(one.remove("k0").await.expect("no error"), Settled::Store);
    assert_eq!(one.invalidate_tag("none").await.expect("no error"), Settled::Store);
    touch(&other).await;
    server.restart();
    for cache in [&one, &other] {
        let began = Instant::now();
        while cache.get("anything").await.is_err() || cache.stats().await.expect("a report").count("learnt") == 0 {
            assert!(began.elapsed() < HANG);
            sleep(Duration::from_millis(5)).await;
        }
        settled(cache).await;
        touch(cache).await;
    }
    // What is in memory is asked about, and there if need be.
    for cache in [&one, &other] {
        for number in 1..200 {
            let found = stale(cache, &format!("k{number}")).await;
            assert_eq!(found.map(|found| found.0), Some("1".into()), "{number}");
        }
    }
    assert_eq!(stale(&one, "k0").await, None);
    // All goes on as before.
    put(&one, "k1", "2", &["all"]).await;
    assert_eq!(get(&other, "k1").await.map(|found| found.0), Some("2".into()));
    assert_eq!(other.invalidate_tag("all").await.expect("no error"), Settled::Store);
    touch(&one).await;
    assert_eq!(get(&one, "k1").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_the_log_reaches_what_lies_on_every_node() {
    let cluster = RedisCluster::start();
    let (one, other) = (cache_at(cluster.url(), &[]), cache_at(cluster.url(), &[]));
    let keys: Vec<String> = (0..60).map(|number| format!("k{number}")).collect();
    for key in &keys {
        assert_eq!(put(&one, key, "1", &["all"]).await, Settled::Store);
    }
    for key in &keys {
        assert_eq!(get(&other, key).await, some("1", Source::Store), "{key}");
    }
    assert_eq!(one.invalidate_tag("all").await.expect("no error"), Settled::Store);
    for key in &keys {
        touch(&other).await;
        assert_eq!((get(&one, key).await, get(&other, key).await), (None, None), "{key}");
        assert_eq!(put(&other, key, "2", &[]).await, Settled::Store);
    }
    assert_eq!(other.clear().await.expect("no error"), Settled::Store);
    for key in &keys {
        touch(&one).await;
        assert_eq!((get(&one, key).await, get(&other, key).await), (None, None), "{key}");
    }
}
