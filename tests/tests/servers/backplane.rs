//! Processes on one Redis whose memory keeps up with what the others change, although they ask the store for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tideover::store::{Ear, Heard, RedisBackplane, RedisConfig, RedisStore, Store, StoreError};
use tideover::{Cache, EngineKind, LoadError, Loaded, Source};
use tideover_tests::proxy::{Fault, Proxy};
use tideover_tests::redis_server::{RedisCluster, RedisServer};
use tokio::time::{sleep, timeout};

/// Catches a hang; nothing here comes near it.
const HANG: Duration = Duration::from_secs(30);

fn config(url: impl Into<String>) -> RedisConfig {
    RedisConfig { reconnect_wait_max: Duration::from_millis(50), ..RedisConfig::new(url) }
}

fn cache_on(config: RedisConfig) -> Cache {
    let store = RedisStore::new(config).expect("a good configuration");
    let builder = Cache::builder().engine(EngineKind::Native).store(store).ttl(Duration::from_secs(600));
    let options = [
        ("stale_while_revalidate", "10m"),
        ("stale_if_error", "10m"),
        ("store_breaker_open_for", "100ms"),
        ("unavailable_ttl", "0"),
        ("refresh_gap", "1ms"),
    ];
    let set = |builder: tideover::Builder, (name, text)| builder.set(name, text).expect("an option");
    options.into_iter().fold(builder, set).build().expect("a cache")
}

async fn put(cache: &Cache, key: &str, value: &'static str, tags: &[&str]) {
    timeout(HANG, cache.put_tagged(key, value, None, tags)).await.expect("no hang").expect("a put");
}

/// What a cache has, from where, and whether it is stale. There is a loader, which fails.
async fn get(cache: &Cache, key: &str) -> Option<(String, Source, bool)> {
    let failing = cache.get_or_load(key, |_| async { Err::<Loaded, _>(LoadError::isolated("not here")) });
    let found = timeout(HANG, failing).await.expect("no hang").ok()?;
    Some((String::from_utf8_lossy(&found.value).into_owned(), found.source, found.stale.is_some()))
}

async fn count(cache: &Cache, name: &str) -> u64 {
    cache.stats().await.expect("a report").count(name)
}

/// Asks until the cache has that value, or none. It is in memory, so that the store is not asked before it has left that.
async fn until(cache: &Cache, key: &str, value: Option<&str>) {
    let began = Instant::now();
    while get(cache, key).await.map(|(found, _, _)| found).as_deref() != value {
        assert!(began.elapsed() < HANG, "{key} never became {value:?}");
        sleep(Duration::from_millis(1)).await;
    }
}

async fn until_counted(cache: &Cache, name: &str, least: u64) {
    let began = Instant::now();
    while count(cache, name).await < least {
        assert!(began.elapsed() < HANG, "{name} never became {least}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// The other has these keys in its memory.
async fn held(other: &Cache, keys: &[&str]) {
    for key in keys {
        assert!(get(other, key).await.is_some(), "{key}");
        assert_eq!(get(other, key).await.map(|(_, source, _)| source), Some(Source::Memory), "{key}");
    }
}

/// Whatever one does to single keys, tags or everything, the other's memory keeps up.
async fn changes_reach(one: &Cache, other: &Cache) {
    for key in ["a", "b", "c"] {
        put(one, key, "old", &[]).await;
    }
    put(one, "tagged", "old", &["t"]).await;
    held(other, &["a", "b", "c", "tagged"]).await;
    put(one, "a", "new", &[]).await;
    until(other, "a", Some("new")).await;
    one.remove("b").await.expect("a removal");
    until(other, "b", None).await;
    one.invalidate_tag("t").await.expect("an invalidation");
    until(other, "tagged", None).await;
    assert_eq!(get(other, "c").await.map(|(_, source, _)| source), Some(Source::Memory), "nobody has changed it");
    one.clear().await.expect("a clear");
    until(other, "c", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_changes_leaves_the_memory_of_the_others_at_once() {
    let server = RedisServer::start();
    let (one, other) = (cache_on(config(server.url())), cache_on(config(server.url())));
    changes_reach(&one, &other).await;
    changes_reach(&other, &one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_does_by_publish_and_subscribe() {
    let server = RedisServer::start();
    let config = || RedisConfig { backplane: RedisBackplane::PubSub, ..config(server.url()) };
    let (one, other) = (cache_on(config()), cache_on(config()));
    changes_reach(&one, &other).await;
    changes_reach(&other, &one).await;
    let plain = || RedisConfig { compare: false, log: false, ..config() };
    let (one, other) = (cache_on(plain()), cache_on(plain()));
    put(&one, "plain", "old", &[]).await;
    held(&other, &["plain"]).await;
    put(&one, "plain", "new", &[]).await;
    until(&other, "plain", Some("new")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_does_in_a_cluster() {
    let cluster = RedisCluster::start();
    let (one, other) = (cache_on(config(cluster.url())), cache_on(config(cluster.url())));
    changes_reach(&one, &other).await;
    for key in 0..50 {
        let key = format!("key:{key}");
        put(&one, &key, "old", &[]).await;
        held(&other, &[&key]).await;
        put(&one, &key, "new", &[]).await;
        until(&other, &key, Some("new")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn own_writes_evict_nothing_of_ones_own() {
    let server = RedisServer::start();
    for backplane in [RedisBackplane::Tracking, RedisBackplane::PubSub] {
        let config = || RedisConfig { backplane, namespace: format!("{backplane:?}:"), ..config(server.url()) };
        let cache = cache_on(config());
        for key in 0..100 {
            put(&cache, &format!("key:{key}"), "v", &[]).await;
        }
        // Another's change is told after all of those.
        put(&cache_on(config()), "last", "v", &[]).await;
        until_counted(&cache, "changed_elsewhere", 1).await;
        assert_eq!(count(&cache, "changed_elsewhere").await, 1, "{backplane:?}");
        for key in 0..100 {
            let found = get(&cache, &format!("key:{key}")).await;
            assert_eq!(found, Some(("v".into(), Source::Memory, false)), "{backplane:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_on_one_connection_tell_each_other() {
    let server = RedisServer::start();
    let store = Arc::new(RedisStore::new(config(server.url())).expect("a good configuration"));
    let cache = || {
        let store: Arc<dyn Store> = store.clone();
        Cache::builder().engine(EngineKind::Native).shared_store(store).build().expect("a cache")
    };
    changes_reach(&cache(), &cache()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_by_hand_is_told_too_and_what_was_emptied_is_stale() {
    let server = RedisServer::start();
    let cache = cache_on(config(server.url()));
    put(&cache, "k", "v", &[]).await;
    put(&cache, "another", "v", &[]).await;
    let _deleted = server.command(&["DEL", "tideover:k"]);
    until(&cache, "k", None).await;
    let missed = count(&cache, "missed").await;
    let _emptied = server.command(&["FLUSHALL"]);
    until_counted(&cache, "missed", missed + 1).await;
    assert_eq!(get(&cache, "another").await.map(|(_, _, stale)| stale), Some(true));
}

/// What the process itself does about a clear tells it of keys that it leaves alone, as if they were another's; that must not
/// be taken for the next change by another.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_after_a_clear_is_still_heard_of_when_another_removes_it() {
    let server = RedisServer::start();
    // So many, that the walk after the clear comes by most of what is put meanwhile.
    let fill = "for number = 1, 20000 do redis.call('SET', KEYS[1] .. number, 'old') end";
    let _filled = server.command(&["EVAL", fill, "1", "tideover:old"]);
    let cache = cache_on(config(server.url()));
    put(&cache, "before", "v", &[]).await;
    cache.clear().await.expect("a clear");
    let keys: Vec<String> = (0..20).map(|number| format!("k{number}")).collect();
    join_all(keys.iter().map(|key| put(&cache, key, "new", &[]))).await;
    // The log and what was put are left.
    let began = Instant::now();
    while server.command(&["DBSIZE"]) != "21" {
        assert!(began.elapsed() < HANG, "never swept");
        sleep(Duration::from_millis(10)).await;
    }
    for key in &keys {
        assert!(get(&cache, key).await.is_some());
        let _deleted = server.command(&["DEL", &format!("tideover:{key}")]);
    }
    for key in &keys {
        until(&cache, key, None).await;
    }
}

/// A process that was cut off while another one made a change: once it is back, it does not take its own copy for fresh.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_connection_nothing_that_was_missed_is_served_as_fresh() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port());
    let (one, other) = (cache_on(config(server.url())), cache_on(config(format!("redis://{}", proxy.address()))));
    for key in ["changed", "unchanged"] {
        put(&one, key, "old", &[]).await;
    }
    held(&other, &["changed", "unchanged"]).await;
    let missed = count(&other, "missed").await;
    proxy.does(Fault::Refuse);
    proxy.does(Fault::Reset);
    put(&one, "changed", "new", &[]).await;
    // Cut off for a moment only: it is not the origin that is asked for everything, but the store, once it is back.
    assert_eq!(get(&other, "changed").await, Some(("old".into(), Source::Memory, false)));
    proxy.does(Fault::None);
    until_counted(&other, "missed", missed + 1).await;
    let first = get(&other, "changed").await.expect("old or new");
    assert!(first.0 == "new" || first.2, "served as fresh: {first:?}");
    until(&other, "changed", Some("new")).await;
    let began = Instant::now();
    while get(&other, "unchanged").await != Some(("old".into(), Source::Memory, false)) {
        assert!(began.elapsed() < HANG, "it was never found to be as good as ever");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_for_longer_than_the_grace_takes_memory_for_stale() {
    let server = RedisServer::start();
    for fault in [Fault::Reset, Fault::SwallowReplies] {
        let proxy = Proxy::before(server.port());
        let grace = Duration::from_millis(300);
        let cache = cache_on(watchful(grace, format!("redis://{}", proxy.address())));
        put(&cache, "k", "v", &[]).await;
        let missed = count(&cache, "missed").await;
        proxy.does(fault);
        until_counted(&cache, "missed", missed + 1).await;
        assert_eq!(get(&cache, "k").await, Some(("v".into(), Source::Memory, true)), "{fault:?}");
        proxy.does(Fault::None);
        let began = Instant::now();
        while get(&cache, "k").await.is_none_or(|(_, _, stale)| stale) {
            assert!(began.elapsed() < HANG, "{fault:?}: never fresh again");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Looks for silence often, and does not put up with it for long.
fn watchful(grace: Duration, url: impl Into<String>) -> RedisConfig {
    RedisConfig {
        backplane_grace: grace,
        idle_ping_after: Duration::from_millis(100),
        response_timeout: Duration::from_millis(200),
        connect_timeout: Duration::from_millis(300),
        silence_max: Duration::from_millis(900),
        ..config(url)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_again_is_told_again() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port());
    let cache = cache_on(watchful(Duration::from_millis(300), format!("redis://{}", proxy.address())));
    put(&cache, "k", "v", &[]).await;
    let missed = count(&cache, "missed").await;
    proxy.does(Fault::Reset);
    until_counted(&cache, "missed", missed + 1).await;
    // It is back for a moment only. What it missed until then is told with the new connection.
    proxy.does(Fault::None);
    until_counted(&cache, "missed", missed + 2).await;
    proxy.does(Fault::Reset);
    until_counted(&cache, "missed", missed + 3).await;
}

/// A replica takes over within the grace. The old master is in no list of nodes any more, and nobody has a reason to connect
/// to the new one while all that is asked for is in memory.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_failover_leaves_untold_is_not_served_as_fresh() {
    let mut cluster = RedisCluster::start_with_replicas();
    let lost = cluster.master_of(cluster.slot_of("tideover:k"));
    let others = cluster.masters.iter().enumerate().filter(|(number, _)| *number != lost);
    let hosts: Vec<String> = others.map(|(_, master)| format!("127.0.0.1:{}", master.port())).collect();
    let cache = cache_on(watchful(2 * HANG, format!("redis://{}", hosts.join(","))));
    put(&cache, "k", "old", &[]).await;
    held(&cache, &["k"]).await;
    let missed = count(&cache, "missed").await;
    cluster.masters[lost].freeze();
    until_counted(&cache, "missed", missed + 1).await;
    assert_eq!(get(&cache, "k").await, Some(("old".into(), Source::Memory, true)));
    let other = cache_on(config(format!("redis://{}", hosts.join(","))));
    put(&other, "k", "new", &[]).await;
    until(&cache, "k", Some("new")).await;
}

/// Counts how often something was missed.
#[derive(Default)]
struct Missed(AtomicU32);

impl Ear for Missed {
    fn hear(&self, _heard: Heard) {}

    fn missed(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A slot moves to a master that nobody here has a connection to, and that cannot be reached yet: who has the slot's keys in
/// memory cannot be told what others change there. The old master stays connected, since the URL names it; with the slot it
/// may have lost all that it had to tell, or not.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_slot_that_moves_out_of_reach_leaves_untold_counts_as_missed() {
    let mut cluster = RedisCluster::start();
    let slot = cluster.slot_of("tideover:k");
    let (log, first) = (cluster.master_of(cluster.slot_of("tideover:!log")), cluster.master_of(slot));
    let heir = (0..3).find(|number| ![log, first].contains(number)).expect("one of three");
    // Whoever reads this is connected to all but the heir.
    let beside = (0..).map(|number| format!("beside:{number}")).find(|key| {
        let place = cluster.slot_of(&format!("tideover:{key}"));
        place != slot && cluster.master_of(place) == first
    });
    let beside = beside.expect("some key lies there");
    let newcomer = cluster.add_master();
    for from in [first, newcomer] {
        if from == newcomer {
            cluster.begin_move(slot, newcomer);
            cluster.finish_move(slot, newcomer);
        }
        let url = cluster.masters[from].url().replacen("redis", "redis+cluster", 1);
        let store = RedisStore::new(watchful(2 * HANG, url)).expect("a good configuration");
        let ear = Arc::new(Missed::default());
        store.listen(&(Arc::clone(&ear) as Arc<dyn Ear>));
        for key in ["k", &beside] {
            store.read(key).await.expect("the cluster answers");
        }
        let missed = ear.0.load(Ordering::Relaxed);
        cluster.begin_move(slot, heir);
        cluster.finish_move(slot, heir);
        cluster.masters[heir].freeze();
        let sent_on = store.read("k").await;
        assert!(sent_on.is_err(), "{sent_on:?}");
        assert!(ear.0.load(Ordering::Relaxed) > missed, "nobody was told");
        cluster.masters[heir].thaw();
        cluster.wait_until_settled();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_given_up_is_replaced_without_a_call() {
    let server = RedisServer::start();
    let store = RedisStore::connect(config(server.url())).await.expect("it is ready");
    let ear = Arc::new(Missed::default());
    store.listen(&(Arc::clone(&ear) as Arc<dyn Ear>));
    store.write("k", "v".into(), None).await.expect("the server answers");
    let missed = ear.0.load(Ordering::Relaxed);
    server.become_orphaned_replica();
    let refused = store.write("k", "v".into(), None).await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(text)) if text.contains("READONLY")), "{refused:?}");
    let began = Instant::now();
    while ear.0.load(Ordering::Relaxed) == missed {
        assert!(began.elapsed() < HANG, "nobody has a connection that tells");
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_tell_is_used_without() {
    let server = RedisServer::start();
    let _made =
        server.command(&["ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-client|tracking"]);
    let port = server.port();
    let url = format!("redis://limited:secret@127.0.0.1:{port}");
    for config in [config(url), config(format!("{}?protocol=resp2", server.url()))] {
        let store = RedisStore::connect(config.clone()).await.expect("it is ready all the same");
        assert!(!store.abilities().tracking, "{config:?}");
        let (one, other) = (cache_on(config.clone()), cache_on(config));
        put(&one, "k", "old", &[]).await;
        held(&other, &["k"]).await;
        put(&one, "k", "new", &[]).await;
        sleep(Duration::from_millis(50)).await;
        assert_eq!(get(&other, "k").await, Some(("old".into(), Source::Memory, false)), "until its freshness ends");
    }
    assert!(RedisStore::connect(config(server.url())).await.expect("ready").abilities().tracking);
}
