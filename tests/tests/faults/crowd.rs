//! Many at once: on a healthy server, in an outage, and before a deadline.

use std::time::{Duration, Instant};

use tideover::core::breaker::{BreakerReport, State};
use tideover::store::RedisConfig;
use tideover::{Cache, CallOptions, EngineKind, Error, LoadError, Loaded, Settled};
use tideover_tests::redis_server::RedisServer;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::trial::{HANG, MARGIN, back, cache, settled, successor};

/// What one of a crowd does, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Put,
    Remove,
    Load,
}

impl Order {
    /// Says whether the store has it. A load knows nothing of the store.
    async fn run(self, cache: &Cache, key: &str, value: &'static str) -> Result<Option<Settled>, Error> {
        match self {
            Self::Put => cache.put(key, value, None).await.map(Some),
            Self::Remove => cache.remove(key).await.map(Some),
            Self::Load => {
                let load = move |_| async move { Ok::<_, LoadError>(Loaded::new(value)) };
                cache.get_or_load(key, load).await.map(|_| None)
            }
        }
    }
}

/// All of them at once; how many got to the store, how many are owed, and the longest.
async fn all_at_once(cache: &Cache, count: usize, order: fn(usize) -> Order) -> (usize, usize, Duration) {
    let mut crowd = JoinSet::new();
    for number in 0..count {
        let cache = cache.clone();
        crowd.spawn(async move {
            let (began, key) = (Instant::now(), format!("item:{number}"));
            let done = tokio::time::timeout(HANG, order(number).run(&cache, &key, "new")).await;
            (began.elapsed(), done.expect("no hang").expect("no error"))
        });
    }
    let done = crowd.join_all().await;
    let so = |settled: Settled| done.iter().filter(|(_, outcome)| *outcome == Some(settled)).count();
    (so(Settled::Store), so(Settled::Journaled), done.iter().map(|(took, _)| *took).max().unwrap_or_default())
}

const CROWD: usize = 10_000;

fn mixed(number: usize) -> Order {
    [Order::Load, Order::Put, Order::Load, Order::Remove][number % 4]
}

/// Ten thousand on this cache; its circuit, and how many puts and removals did not get to the store at once.
async fn crowd_on(shop: &Cache, name: &str) -> (BreakerReport, usize) {
    let (stored, owed, longest) = all_at_once(shop, CROWD, mixed).await;
    assert_eq!(stored + owed, CROWD / 2);
    assert!(longest < MARGIN + MARGIN, "{longest:?}");
    settled(shop).await;
    let breaker = shop.stats().await.expect("a report").store_breaker;
    println!(
        "| {name:<44} | {CROWD:>6} requests |  0 errors | longest {} ms | {owed} owed at first | {} failures, {} trips |",
        longest.as_millis(),
        breaker.stats.failures,
        breaker.stats.trips,
    );
    (breaker, owed)
}

/// With deadlines that do not measure how fast this very machine is.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_at_once_are_no_outage() {
    let server = RedisServer::start();
    let config = RedisConfig { response_timeout: HANG, call_timeout: HANG, ..RedisConfig::new(server.url()) };
    let patient = [("store_read_deadline", "30s"), ("store_write_deadline", "30s")];
    let shop = cache(config, EngineKind::Native, &patient);
    let (breaker, owed) = crowd_on(&shop, "10 000 at once, healthy server").await;
    assert_eq!(owed, 0);
    assert_eq!((breaker.state, breaker.stats.trips, breaker.stats.failures), (State::Closed, 0, 0));
}

/// On a slow machine a crowd may be more than is served by the deadlines; that is noticed by nobody, either.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_beyond_the_deadlines_loses_nothing() {
    let server = RedisServer::start();
    let shop = cache(RedisConfig::new(server.url()), EngineKind::Native, &[]);
    crowd_on(&shop, "10 000 at once, default deadlines").await;
    // A circuit is probed by callers only.
    let began = Instant::now();
    while shop.stats().await.expect("a report").store_breaker.state != State::Closed {
        assert!(began.elapsed() < HANG, "the circuit stays open");
        shop.get("nobody's").await.expect("no error");
        sleep(Duration::from_millis(10)).await;
    }
    back(&shop).await;
    settled(&shop).await;
    let other = successor(&server, EngineKind::Native);
    for number in 0..CROWD {
        let found = other.get(&format!("item:{number}")).await.expect("no error").map(|found| found.value);
        match mixed(number) {
            Order::Put => assert_eq!(found, Some("new".into()), "{number} is lost"),
            Order::Remove => assert_eq!(found, None, "{number} is back"),
            Order::Load => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_thousand_changes_in_an_outage_none_is_undone() {
    const COUNT: usize = 3_000;
    let order = |number| if number % 2 == 0 { Order::Put } else { Order::Remove };
    for &engine in EngineKind::ALL {
        let mut server = RedisServer::start();
        let shop = cache(RedisConfig::new(server.url()), engine, &[("journal_max", "1000")]);
        for number in 0..COUNT {
            assert_eq!(shop.put(&format!("item:{number}"), "old", None).await.expect("a put"), Settled::Store);
        }
        server.freeze();
        let (stored, owed, longest) = all_at_once(&shop, COUNT, order).await;
        assert_eq!((stored, owed), (0, COUNT), "{engine:?}");
        assert!(longest < Duration::from_secs(1) + MARGIN, "{engine:?}: {longest:?}");
        server.thaw();
        let back_after = back(&shop).await;
        let (other, mut lost) = (successor(&server, engine), 0);
        for number in 0..COUNT {
            let found = other.get(&format!("item:{number}")).await.expect("no error").map(|found| found.value);
            match order(number) {
                Order::Put if found.is_none() => lost += 1,
                Order::Put => assert_eq!(found, Some("new".into()), "{engine:?}: {number} is undone"),
                _ => assert_eq!(found, None, "{engine:?}: {number} is back"),
            }
            let here = shop.get(&format!("item:{number}")).await.expect("no error").map(|found| found.value);
            assert_eq!(here, (order(number) == Order::Put).then(|| "new".into()), "{engine:?}: {number}");
        }
        let report = shop.stats().await.expect("a report");
        assert!(report.count("journal_overflows") > 0, "{engine:?}: the journal was long enough");
        println!(
            "| {:<44} | {COUNT:>6} requests |  0 errors | longest {} ms | {lost} lost, 0 undone | back after {} ms |",
            "3 000 changes while frozen, a journal of 1 000",
            longest.as_millis(),
            back_after.as_millis(),
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_past_a_deadline_of_his_own_for_a_frozen_server() {
    const PATIENCE: Duration = Duration::from_millis(100);
    for &engine in EngineKind::ALL {
        let mut server = RedisServer::start();
        let shop = cache(RedisConfig::new(server.url()), engine, &[]);
        shop.put("price", "old", None).await.expect("a put");
        server.freeze();
        let mut crowd = JoinSet::new();
        for number in 0..1_000 {
            let shop = shop.clone();
            crowd.spawn(async move {
                let (began, key) = (Instant::now(), format!("cold:{number}"));
                let hung = |_| std::future::pending::<Result<Loaded, LoadError>>();
                let call = shop.get_or_load_with(&key, CallOptions::new().timeout(PATIENCE), hung);
                let answer = tokio::time::timeout(HANG, call).await.expect("no hang");
                assert!(matches!(answer, Err(Error::DeadlinePassed)), "{answer:?}");
                began.elapsed()
            });
        }
        let longest = crowd.join_all().await.into_iter().max().unwrap_or_default();
        println!("| {:<44} |   1000 requests | longest {} ms |", "frozen, deadlines of 100 ms", longest.as_millis());
        assert!(longest < PATIENCE + MARGIN, "{engine:?}: {longest:?}");
    }
}
