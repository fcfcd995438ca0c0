//! The stores against real servers: what both keep alike, and what Redis adds when it dies, freezes and comes back.
//!
//! Times measured here are generous upper bounds only; which error comes back says more: `Unavailable` means that
//! nobody waited for a time-out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tideover::store::{MemoryStore, RedisConfig, RedisConfigError, RedisStore, Store, StoreError};
use tideover_tests::redis_server::RedisServer;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What passes for "at once" on the busiest machine.
const AT_ONCE: Duration = Duration::from_secs(3);

fn store_with(config: RedisConfig) -> RedisStore {
    RedisStore::new(config).expect("a good configuration")
}

fn store_on(server: &RedisServer) -> RedisStore {
    store_with(RedisConfig::new(server.url()))
}

/// A store that waits a fifth of a second for an answer instead of a whole one.
fn impatient_store_on(server: &RedisServer) -> RedisStore {
    store_with(RedisConfig { response_timeout: Duration::from_millis(200), ..RedisConfig::new(server.url()) })
}

async fn read(store: &dyn Store, key: &str) -> Option<Bytes> {
    store.read(key).await.expect("the store answers")
}

async fn write(store: &dyn Store, key: &str, value: impl Into<Bytes>, ttl: Option<Duration>) {
    store.write(key, value.into(), ttl).await.expect("the store answers");
}

async fn write_numbered(store: &dyn Store, count: usize) {
    for number in 0..count {
        write(store, &format!("k{number}"), number.to_string(), None).await;
    }
}

/// Waits until `key` has left by itself.
async fn expires(store: &dyn Store, key: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while read(store, key).await.is_some() {
        assert!(Instant::now() < deadline, "{key} outlives its time");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The ids of the connections that `server` has, but for the one that asks.
fn connections(server: &RedisServer) -> Vec<String> {
    let list = server.command(&["CLIENT", "LIST"]);
    let others = list.lines().filter(|line| !line.contains("cmd=client|list"));
    others.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// What every store keeps, whatever it is made of.
async fn conformance(store: &dyn Store) {
    // What was never written is not there, and may be removed all the same.
    assert_eq!(read(store, "k").await, None);
    store.remove("k").await.expect("removing nothing is a success");

    // Any bytes come back as they went in, under any text; nothing at all differs from no entry.
    let bytes: Bytes = (0..=255_u8).cycle().take(100_000).collect();
    for key in ["k", "user:7", "*", "a key\r\nwith lines", "ключ", &"long".repeat(1_000)] {
        write(store, key, bytes.clone(), None).await;
        assert_eq!(read(store, key).await, Some(bytes.clone()), "{key}");
    }
    write(store, "empty", "", None).await;
    assert_eq!(read(store, "empty").await, Some(Bytes::new()));

    // The last write wins, and a removal takes the named key only.
    write(store, "k", "1", None).await;
    write(store, "k", "2", None).await;
    assert_eq!(read(store, "k").await, Some("2".into()));
    store.remove("k").await.expect("the store answers");
    assert_eq!(read(store, "k").await, None);
    assert_eq!(read(store, "user:7").await, Some(bytes));

    // A time to live ends by itself, unless a later write says otherwise; zero ends at once.
    write(store, "brief", "1", Some(Duration::from_millis(20))).await;
    write(store, "renewed", "1", Some(Duration::from_millis(20))).await;
    write(store, "renewed", "2", None).await;
    expires(store, "brief").await;
    assert_eq!(read(store, "renewed").await, Some("2".into()));
    write(store, "renewed", "3", Some(Duration::ZERO)).await;
    expires(store, "renewed").await;
    write(store, "endless", "1", Some(Duration::MAX)).await;
    assert_eq!(read(store, "endless").await, Some("1".into()));

    // Clearing takes everything, and the store goes on.
    store.clear().await.expect("the store answers");
    assert_eq!(read(store, "endless").await, None);
    write(store, "k", "1", None).await;
    store.ping().await.expect("the store answers");

    // Once closed, closing again does nothing and every call says why it fails.
    store.close().await;
    store.close().await;
    assert!(matches!(store.read("k").await, Err(StoreError::Closed)));
    assert!(matches!(store.write("k", Bytes::new(), None).await, Err(StoreError::Closed)));
    assert!(matches!(store.remove("k").await, Err(StoreError::Closed)));
    assert!(matches!(store.clear().await, Err(StoreError::Closed)));
    assert!(matches!(store.ping().await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn memory_keeps_what_every_store_keeps() {
    conformance(&MemoryStore::new(100)).await;
}

#[tokio::test]
async fn redis_keeps_what_every_store_keeps() {
    let server = RedisServer::start();
    conformance(&store_on(&server)).await;
}

#[tokio::test]
async fn redis_behind_a_unix_socket_keeps_what_every_store_keeps() {
    let server = RedisServer::start();
    conformance(&store_with(RedisConfig::new(server.unix_url()))).await;
}

#[tokio::test]
async fn the_server_itself_knows_when_an_entry_ends() {
    let server = RedisServer::start();
    let store = store_on(&server);
    write(&store, "brief", "1", Some(Duration::from_millis(9_999))).await;
    write(&store, "endless", "1", None).await;

    let left: u64 = server.command(&["PTTL", "tideover:brief"]).parse().expect("milliseconds");
    assert!((1..=9_999).contains(&left), "{left}");
    assert_eq!(server.command(&["PTTL", "tideover:endless"]), "-1");
    assert_eq!(server.command(&["GET", "tideover:endless"]), "1");
}

#[tokio::test]
async fn clearing_touches_no_other_namespace() {
    // The namespace looks like a pattern, and its neighbours are what that pattern would match.
    let server = RedisServer::start();
    let neighbours = ["abc:k", "a*", "a*b[c]", "A*b[c]:k", "other"];
    for key in neighbours {
        assert_eq!(server.command(&["SET", key, "1"]), "OK");
    }

    // More keys than one step of the walk takes.
    let store = store_with(RedisConfig { namespace: "a*b[c]:".into(), ..RedisConfig::new(server.url()) });
    write_numbered(&store, 2_500).await;
    assert_eq!(server.command(&["DBSIZE"]), (2_500 + neighbours.len()).to_string());

    store.clear().await.expect("the server answers");
    assert_eq!(server.command(&["DBSIZE"]), neighbours.len().to_string());
}

#[tokio::test]
async fn the_store_is_made_before_the_server_is_there() {
    let mut server = RedisServer::start();
    server.kill();

    // Making it asks nobody; the first call finds nobody and says so at once.
    let store = store_on(&server);
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
    server.restart();
    store.ping().await.expect("the server is there");
}

#[tokio::test]
async fn a_killed_server_fails_calls_at_once_and_serves_the_first_call_when_back() {
    let mut server = RedisServer::start();
    let store = store_on(&server);
    write(&store, "k", "1", None).await;

    server.kill();
    for _ in 0..100 {
        let begun = Instant::now();
        assert!(matches!(store.read("k").await, Err(StoreError::Unavailable(_))));
        assert!(begun.elapsed() < AT_ONCE);
    }

    server.restart();
    assert_eq!(read(&store, "k").await, None);
}

#[tokio::test]
async fn a_restart_that_nobody_noticed_fails_no_call() {
    let mut server = RedisServer::start();
    let store = store_on(&server);
    for pause in [Duration::ZERO, Duration::from_millis(50)] {
        write(&store, "k", "1", None).await;
        // This test runs on one thread, which the restart blocks: without a pause the store cannot have seen
        // its connection end before the next call.
        server.restart();
        sleep(pause).await;
        assert_eq!(read(&store, "k").await, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_under_way_when_the_server_dies_all_end_at_once() {
    let mut server = RedisServer::start();
    let store = Arc::new(store_on(&server));
    store.ping().await.expect("the server answers");

    server.freeze();
    let mut calls = JoinSet::new();
    for _ in 0..1_000 {
        let store = Arc::clone(&store);
        calls.spawn(async move { store.read("k").await });
    }
    sleep(Duration::from_millis(50)).await;
    let killed_at = Instant::now();
    server.kill();
    while let Some(outcome) = calls.join_next().await {
        assert!(matches!(outcome.expect("no panic"), Err(StoreError::Unavailable(_))));
    }
    assert!(killed_at.elapsed() < AT_ONCE);
}

#[tokio::test]
async fn a_frozen_server_times_out_and_answers_each_its_own_when_thawed() {
    let mut server = RedisServer::start();
    let store = impatient_store_on(&server);
    write_numbered(&store, 10).await;

    server.freeze();
    for number in 0..3 {
        let begun = Instant::now();
        assert!(matches!(store.read(&format!("k{number}")).await, Err(StoreError::TimedOut(_))));
        assert!(begun.elapsed() < Duration::from_millis(200) + AT_ONCE);
    }

    // The answers to the calls that gave up arrive first; no later call may take one for its own.
    server.thaw();
    for number in (0..10).rev() {
        assert_eq!(read(&store, &format!("k{number}")).await, Some(number.to_string().into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_timed_out_never_overwrites_a_newer_one() {
    let mut server = RedisServer::start();
    let store = Arc::new(impatient_store_on(&server));
    store.ping().await.expect("the server answers");
    let connection = connections(&server);

    // A few megabytes of writes pile up in the sockets of a frozen server.
    server.freeze();
    let old = Bytes::from(vec![b'o'; 64 * 1024]);
    let mut writes = JoinSet::new();
    for _ in 0..64 {
        let (store, old) = (Arc::clone(&store), old.clone());
        writes.spawn(async move { store.write("k", old, None).await });
    }
    while let Some(outcome) = writes.join_next().await {
        assert!(matches!(outcome.expect("no panic"), Err(StoreError::TimedOut(_))));
    }

    // It works them off when it thaws. The newer write comes after them, as it takes the same connection; on a new
    // one it came among them in 2 of 45 runs.
    server.thaw();
    write(&*store, "k", "new", None).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(read(&*store, "k").await, Some("new".into()));
    assert_eq!(connections(&server), connection);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_dropped_leave_the_answers_of_others_alone() {
    let server = RedisServer::start();
    let store = Arc::new(store_on(&server));
    write_numbered(&*store, 100).await;

    // Half of the readers leave at some moment between the first poll and the answer; the others stay.
    let mut readers = JoinSet::new();
    for reader in 0..4_000_usize {
        let store = Arc::clone(&store);
        readers.spawn(async move {
            let (key, value) = (format!("k{}", reader % 100), (reader % 100).to_string());
            if reader % 2 == 0 {
                let _ = timeout(Duration::from_micros(reader as u64 % 2_000), store.read(&key)).await;
            } else {
                assert_eq!(read(&*store, &key).await, Some(value.into()));
            }
        });
    }
    while let Some(reader) = readers.join_next().await {
        reader.expect("no wrong answer");
    }
}

#[tokio::test]
async fn calls_dropped_while_the_server_is_frozen_leave_no_answer_to_others() {
    let mut server = RedisServer::start();
    let store = store_on(&server);
    write_numbered(&store, 10).await;

    // As the driver does at the deadline of a step.
    server.freeze();
    for number in 0..10 {
        let call = timeout(Duration::from_millis(10), async { read(&store, &format!("k{number}")).await });
        assert!(call.await.is_err());
    }
    server.thaw();
    for number in (0..10).rev() {
        assert_eq!(read(&store, &format!("k{number}")).await, Some(number.to_string().into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_concurrent_reads_all_succeed() {
    let server = RedisServer::start();
    let store = Arc::new(store_on(&server));
    write(&*store, "k", "1", None).await;

    let mut readers = JoinSet::new();
    for _ in 0..10_000 {
        let store = Arc::clone(&store);
        readers.spawn(async move { read(&*store, "k").await });
    }
    while let Some(found) = readers.join_next().await {
        assert_eq!(found.expect("no failed read"), Some("1".into()));
    }

    assert_eq!(connections(&server).len(), 1, "one connection carries them all");
}

#[tokio::test]
async fn callers_share_one_attempt_to_connect_and_its_failure() {
    // Somebody takes connections on this port and never says a word.
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("redis://{}", mute.local_addr().expect("a bound address"));
    let config = RedisConfig { connect_timeout: Duration::from_millis(300), ..RedisConfig::new(url) };
    let store = Arc::new(store_with(config));

    let begun = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let store = Arc::clone(&store);
        calls.spawn(async move { store.ping().await });
    }
    while let Some(outcome) = calls.join_next().await {
        assert!(matches!(outcome.expect("no panic"), Err(StoreError::TimedOut(_))));
    }
    assert!(begun.elapsed() < Duration::from_millis(300) + AT_ONCE, "attempts were made one after the other");
}

#[tokio::test]
async fn an_attempt_that_all_callers_left_is_not_held_against_later_ones() {
    let mut server = RedisServer::start();
    server.freeze();
    let config = RedisConfig { connect_timeout: Duration::from_millis(100), ..RedisConfig::new(server.url()) };
    let store = store_with(config);

    // The only caller leaves before the attempt fails; by the next call the server is well again.
    assert!(timeout(Duration::from_millis(20), store.ping()).await.is_err());
    sleep(Duration::from_millis(150)).await;
    server.thaw();
    store.ping().await.expect("the old failure is not repeated");
}

/// An address that leads each new connection to the server whose port is in `target`, as a load balancer does.
async fn movable_address(target: Arc<AtomicU16>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("redis://{}", listener.local_addr().expect("a bound address"));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let port = target.load(Ordering::SeqCst);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.expect("the server's kernel accepts");
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    url
}

#[tokio::test]
async fn a_server_that_stays_silent_is_given_up_for_its_successor() {
    let (mut old, new) = (RedisServer::start(), RedisServer::start());
    let target = Arc::new(AtomicU16::new(old.port()));
    let store = store_with(RedisConfig {
        response_timeout: Duration::from_millis(50),
        silence_max: Duration::from_millis(200),
        ..RedisConfig::new(movable_address(Arc::clone(&target)).await)
    });
    write(&store, "k", "old", None).await;

    // The old server hangs, its kernel does not; the address moves. No error will ever break the old connection.
    old.freeze();
    assert_eq!(new.command(&["SET", "tideover:k", "new"]), "OK");
    target.store(new.port(), Ordering::SeqCst);

    let deadline = Instant::now() + Duration::from_secs(5);
    let value = loop {
        match store.read("k").await {
            Ok(value) => break value,
            Err(error) => assert!(matches!(error, StoreError::TimedOut(_)) && Instant::now() < deadline, "{error}"),
        }
    };
    assert_eq!(value, Some("new".into()));
}

#[tokio::test]
async fn a_primary_that_became_a_replica_is_given_up_for_its_successor() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let target = Arc::new(AtomicU16::new(old.port()));
    let store = store_with(RedisConfig::new(movable_address(Arc::clone(&target)).await));
    write(&store, "k", "1", None).await;

    // A failover: the old primary refuses writes, the address leads to the new one.
    assert_eq!(old.command(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]), "OK");
    target.store(new.port(), Ordering::SeqCst);
    let Err(StoreError::Unavailable(text)) = store.write("k", "2".into(), None).await else {
        panic!("a replica wrote")
    };
    assert!(text.contains("READONLY"), "{text}");
    write(&store, "k", "2", None).await;
    assert_eq!(new.command(&["GET", "tideover:k"]), "2");
}

#[tokio::test]
async fn a_value_of_a_foreign_kind_is_a_miss_alone_and_among_others() {
    let server = RedisServer::start();
    let store = store_on(&server);
    assert_eq!(server.command(&["RPUSH", "tideover:list", "1"]), "1");
    write(&store, "text", "1", None).await;

    // `GET` is refused by the server, `MGET` answers nil: a caller cannot tell, and nothing counts as failed.
    assert_eq!(read(&store, "list").await, None);
    let both = store.read_many(&["list", "text", "list"]).await.expect("the server answers");
    assert_eq!(both, [None, Some("1".into()), None]);
    assert_eq!(store.take("list").await.expect("the server answers"), None);
    // A write takes the place of it.
    write(&store, "list", "2", None).await;
    assert_eq!(read(&store, "list").await, Some("2".into()));
}

#[tokio::test]
async fn what_the_server_refuses_is_told_without_naming_the_key() {
    let server = RedisServer::start();
    let store = store_on(&server);
    assert_eq!(server.command(&["RPUSH", "tideover:secret", "1"]), "1");
    let Err(StoreError::Foreign(text)) = store.increment("secret", 1, None).await else { panic!("a list counted") };
    assert!(text.contains("WRONGTYPE") && !text.contains("secret"), "{text}");

    assert_eq!(server.command(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
    let Err(StoreError::Rejected(text)) = store.write("secret", "1".into(), None).await else { panic!("no room") };
    assert!(text.contains("OOM") && !text.contains("secret"), "{text}");

    // A refusal says nothing against the connection.
    store.ping().await.expect("the server answers");
}

#[tokio::test]
async fn a_wrong_password_or_database_is_refused_in_clear_words() {
    let server = RedisServer::start_with_password("opensesame");
    let port = server.port();
    store_on(&server).ping().await.expect("let in");
    // The same password, percent-encoded.
    store_with(RedisConfig::new(format!("redis://:open%73esame@127.0.0.1:{port}"))).ping().await.expect("let in");

    for (url, expected) in [
        (format!("redis://:s3cret@127.0.0.1:{port}"), "wrong user or password"),
        (format!("redis://ada:s3cret@127.0.0.1:{port}"), "wrong user or password"),
        (format!("redis://127.0.0.1:{port}"), "wants a password"),
        (format!("redis://:opensesame@127.0.0.1:{port}/99"), "database"),
    ] {
        let Err(StoreError::Unavailable(text)) = store_with(RedisConfig::new(url)).ping().await else {
            panic!("let in")
        };
        assert!(text.contains(expected) && !text.contains("s3cret") && !text.contains("sesame"), "{text}");
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused_and_quotes_no_password() {
    for url in [
        "",
        "s3cret",
        "http://:s3cret@localhost",
        "redis://",
        "redis://:s3cret@",
        "redis://:s3cret@localhost:port",
        "redis://:s3cret@localhost/first",
        "redis://:s3cret@localhost/-1",
        "redis://:s3cret@0.0.0.0",
        "redis://:s3cret@localhost/?protocol=resp9",
        "redis://:s3cret@localhost/?db=1",
        // The password ends the address; what follows would be looked for on host `ada`, port 1.
        "redis://ada:1#s3cret@localhost",
        "redis://ada:1?s3cret@localhost",
        "redis://ada:1/s3cret@localhost",
    ] {
        let config = RedisConfig::new(url);
        assert!(!format!("{config:?}").contains("s3cret"), "{url}");
        let error = RedisStore::new(config).expect_err(url);
        assert!(matches!(error, RedisConfigError::Url(_)) && !error.to_string().contains("s3cret"), "{url}: {error}");
    }

    let good = RedisConfig::new("redis://ada:s3cret@localhost/2");
    assert!(!format!("{good:?}").contains("s3cret"));
    assert!(!format!("{:?}", RedisStore::new(good.clone())).contains("s3cret"));
    for namespace in ["", "shop", "shop:eu:", "::"] {
        let config = RedisConfig { namespace: namespace.into(), ..good.clone() };
        let error = RedisStore::new(config).expect_err("it might reach into others");
        assert!(matches!(&error, RedisConfigError::Namespace { namespace: told, .. } if told == namespace), "{error}");
    }
    let patient = RedisConfig { silence_max: Duration::MAX, ..good.clone() };
    assert_eq!(RedisStore::new(patient).expect_err("too long"), RedisConfigError::LongDuration("silence_max"));
    let hasty = RedisConfig { connect_timeout: Duration::ZERO, ..good };
    assert_eq!(RedisStore::new(hasty).expect_err("no time"), RedisConfigError::ZeroDuration("connect_timeout"));
}
