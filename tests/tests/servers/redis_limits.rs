//! What the Redis store promises about pipelines, limits and its own end, on a real server.
//!
//! Times measured here are generous upper bounds only; what left together is counted by the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tideover::store::{RedisConfig, RedisStore, Store, StoreError};
use tideover_tests::redis_server::RedisServer;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What passes for "at once" on the busiest machine.
const AT_ONCE: Duration = Duration::from_secs(3);

fn store_with(config: RedisConfig) -> Arc<RedisStore> {
    Arc::new(RedisStore::new(config).expect("a good configuration"))
}

/// How often `server` has run `command`.
fn count(server: &RedisServer, command: &str) -> u32 {
    let stats = server.command(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// Runs `calls` at once and returns their outcomes.
async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    calls: usize,
    call: impl Fn(usize) -> F,
) -> Vec<T> {
    let mut tasks = JoinSet::new();
    (0..calls).for_each(|number| drop(tasks.spawn(call(number))));
    tasks.join_all().await
}

#[tokio::test]
async fn reads_of_one_turn_leave_as_few_commands() {
    let server = RedisServer::start();
    let store = store_with(RedisConfig::new(server.url()));
    for number in 0..64 {
        store.write(&format!("k{number}"), number.to_string().into(), None).await.expect("the server answers");
    }
    let outcomes = at_once(64, |number| {
        let store = Arc::clone(&store);
        async move { (number, store.read(&format!("k{number}")).await) }
    });
    for (number, outcome) in outcomes.await {
        assert_eq!(outcome.expect("the server answers"), Some(number.to_string().into()));
    }
    let commands = count(&server, "get") + count(&server, "mget");
    println!("64 reads left as {commands} commands");
    assert!(commands <= 8, "{commands}");

    // One after another they go by themselves.
    for _ in 0..10 {
        store.read("k1").await.expect("the server answers");
    }
    assert!(count(&server, "get") >= 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_mixed_operations_at_once_all_succeed() {
    let server = RedisServer::start();
    let store = store_with(RedisConfig::new(server.url()));
    let outcomes = at_once(10_000, |number| {
        let store = Arc::clone(&store);
        async move {
            let key = format!("k{number}");
            store.write(&key, key.clone().into(), None).await?;
            let value = store.read(&key).await?;
            store.increment("all", 1, None).await?;
            Ok::<_, StoreError>(value == Some(key.into()))
        }
    });
    assert!(outcomes.await.into_iter().all(|outcome| outcome.expect("the server answers")));
    assert_eq!(store.read("all").await.expect("the server answers"), Some("10000".into()));
}

#[tokio::test]
async fn past_the_limit_of_the_queue_operations_are_refused_by_name_and_at_once() {
    let mut server = RedisServer::start();
    let config =
        RedisConfig { queue_max: 10, response_timeout: Duration::from_millis(300), ..RedisConfig::new(server.url()) };
    let store = store_with(config);
    store.ping().await.expect("the server answers");
    server.freeze();
    let outcomes = at_once(100, |number| {
        let store = Arc::clone(&store);
        async move { store.read(&format!("k{number}")).await }
    });
    let (mut late, mut refused) = (0, 0);
    for outcome in outcomes.await {
        match outcome {
            Err(StoreError::TimedOut(_)) => late += 1,
            Err(StoreError::Overloaded { queue_max: 10 }) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((late, refused), (10, 90));
    server.thaw();
    // Those that nobody waits for any more leave the queue with their answers.
    let deadline = Instant::now() + AT_ONCE;
    while let Err(error) = store.read("k").await {
        assert!(matches!(error, StoreError::Overloaded { .. }) && Instant::now() < deadline, "{error}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn reads_and_writes_have_limits_of_their_own_and_calls_one_over_all() {
    let mut server = RedisServer::start();
    let config = RedisConfig {
        response_timeout: Duration::from_millis(50),
        write_timeout: Some(Duration::from_millis(400)),
        ..RedisConfig::new(server.url())
    };
    let store = store_with(config.clone());
    store.ping().await.expect("the server answers");
    let hasty = store_with(RedisConfig { call_timeout: Duration::from_millis(100), ..config });
    hasty.ping().await.expect("the server answers");
    server.freeze();
    let begun = Instant::now();
    assert!(matches!(store.read("k").await, Err(StoreError::TimedOut(_))));
    let read = begun.elapsed();
    let begun = Instant::now();
    assert!(matches!(store.write("k", Bytes::new(), None).await, Err(StoreError::TimedOut(_))));
    let write = begun.elapsed();
    assert!(write >= Duration::from_millis(400) && read < AT_ONCE && write < AT_ONCE, "{read:?} {write:?}");
    let begun = Instant::now();
    assert!(matches!(hasty.write("k", Bytes::new(), None).await, Err(StoreError::TimedOut(_))));
    println!("frozen server: read {read:?} of 50 ms, write {write:?} of 400 ms, call {:?} of 100 ms", begun.elapsed());
}

#[tokio::test]
async fn what_was_not_sent_before_its_caller_left_is_never_sent() {
    let mut server = RedisServer::start();
    let store = store_with(RedisConfig::new(server.url()));
    store.ping().await.expect("the server answers");
    server.freeze();
    // As many batches as may be unanswered, and then some.
    for number in 0..50 {
        let late = timeout(Duration::from_millis(10), store.write(&format!("k{number}"), "1".into(), None)).await;
        assert!(late.is_err());
    }
    server.thaw();
    store.ping().await.expect("the server answers");
    let written = count(&server, "set");
    assert!(written <= 4, "{written} writes that were given up were made");
}

#[tokio::test]
async fn closing_waits_for_calls_under_way_and_refuses_new_ones() {
    let mut server = RedisServer::start();
    let store = store_with(RedisConfig { close_timeout: Duration::from_secs(5), ..RedisConfig::new(server.url()) });
    store.ping().await.expect("the server answers");
    server.freeze();
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.write("k", "1".into(), None).await }
    });
    sleep(Duration::from_millis(50)).await;
    let closing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.close().await }
    });
    sleep(Duration::from_millis(50)).await;
    assert!(matches!(store.read("k").await, Err(StoreError::Closed)));
    assert!(!closing.is_finished());
    server.thaw();
    closing.await.expect("no panic");
    writing.await.expect("no panic").expect("it was under way");
    assert_eq!(server.command(&["GET", "tideover:k"]), "1");
}

#[tokio::test]
async fn closing_waits_no_longer_than_its_limit() {
    let mut server = RedisServer::start();
    let config = RedisConfig { close_timeout: Duration::from_millis(100), ..RedisConfig::new(server.url()) };
    let store = store_with(RedisConfig {
        response_timeout: Duration::from_secs(60),
        call_timeout: Duration::from_secs(60),
        ..config
    });
    store.ping().await.expect("the server answers");
    server.freeze();
    let reading = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.read("k").await }
    });
    sleep(Duration::from_millis(50)).await;
    let begun = Instant::now();
    store.close().await;
    assert!(begun.elapsed() < AT_ONCE);
    store.close().await;
    reading.abort();
}

#[tokio::test]
async fn a_store_that_must_be_ready_says_why_it_is_not() {
    let mut server = RedisServer::start();
    RedisStore::connect(RedisConfig::new(server.url())).await.expect("it is ready");
    server.kill();
    let error = RedisStore::connect(RedisConfig::new(server.url())).await.expect_err("nobody is there");
    assert!(error.to_string().contains("no connection to 127.0.0.1"), "{error}");
    let error = RedisStore::connect(RedisConfig::new("redis://")).await.expect_err("no URL");
    assert!(error.to_string().contains("URL"), "{error}");
}

#[tokio::test]
async fn an_idle_connection_that_died_is_found_and_restored_before_a_call_needs_it() {
    let mut server = RedisServer::start();
    let store = store_with(RedisConfig {
        idle_ping_after: Duration::from_millis(50),
        connect_timeout: Duration::from_millis(100),
        ..RedisConfig::new(server.url())
    });
    store.ping().await.expect("the server answers");
    let pings = count(&server, "ping");
    let deadline = Instant::now() + AT_ONCE;
    while count(&server, "ping") == pings {
        assert!(Instant::now() < deadline, "nobody asked whether the server is there");
        sleep(Duration::from_millis(10)).await;
    }

    // It hangs: the ping is not answered, and the connection is given up although nothing broke it.
    let connections = |server: &RedisServer| {
        let list = server.command(&["CLIENT", "LIST"]);
        let others = list.lines().filter(|line| !line.contains("cmd=client|list"));
        others.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = connections(&server);
    assert_eq!(before.len(), 1);
    server.freeze();
    sleep(Duration::from_millis(500)).await;
    server.thaw();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let now = connections(&server);
        if now.len() == 1 && now != before {
            break;
        }
        assert!(Instant::now() < deadline, "{now:?}");
        sleep(Duration::from_millis(50)).await;
    }

    // It dies and comes back: nobody calls, and there is a connection.
    server.restart();
    let deadline = Instant::now() + Duration::from_secs(15);
    while connections(&server).is_empty() {
        assert!(Instant::now() < deadline, "nobody reconnects");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_count_is_not_repeated_when_nobody_knows_whether_it_was_made() {
    let mut server = RedisServer::start();
    let store = store_with(RedisConfig::new(server.url()));
    assert_eq!(store.increment("n", 1, None).await.expect("the server answers"), 1);
    server.freeze();
    let counting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.increment("n", 1, None).await }
    });
    sleep(Duration::from_millis(50)).await;
    server.restart();
    assert!(matches!(counting.await.expect("no panic"), Err(StoreError::Uncertain(_))));
    assert_eq!(store.read("n").await.expect("the server answers"), None);
}

#[tokio::test]
async fn a_script_is_known_again_after_the_server_forgot_it() {
    let server = RedisServer::start();
    let store = store_with(RedisConfig::new(server.url()));
    let minute = Some(Duration::from_secs(60));
    for number in 1..=3 {
        assert_eq!(store.increment("n", 1, minute).await.expect("the server answers"), number);
        assert_eq!(server.command(&["SCRIPT", "FLUSH"]), "OK");
    }
    assert_eq!(count(&server, "eval"), 3);
    for number in 4..=6 {
        assert_eq!(store.increment("n", 1, minute).await.expect("the server answers"), number);
    }
    assert_eq!(count(&server, "eval"), 4);
}
