//! Redis in every deployment, when something happens to it: logins and certificates that do not fit, slots that move,
//! nodes that die, freeze and come back, primaries that change.
//!
//! Times measured here are generous upper bounds only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use tideover::core::{Invalidation, Note, Tag, WallTime};
use tideover::store::{RedisConfig, RedisConfigError, RedisStore, RedisTls, Remaining, Store, StoreError};
use tideover_tests::diary::Diary;
use tideover_tests::redis_server::{Certificates, RedisCluster, RedisSentinels, RedisServer};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// What passes for "at once" on the busiest machine.
const AT_ONCE: Duration = Duration::from_secs(3);

/// How long servers may take to settle who is what.
const SETTLED: Duration = Duration::from_secs(30);

fn store_with(config: RedisConfig) -> RedisStore {
    RedisStore::new(config).expect("a good configuration")
}

/// Waits a fifth of a second for an answer instead of a whole one.
fn impatient(url: String) -> RedisConfig {
    RedisConfig {
        response_timeout: Duration::from_millis(200),
        connect_timeout: Duration::from_millis(300),
        call_timeout: Duration::from_millis(600),
        ..RedisConfig::new(url)
    }
}

async fn read(store: &dyn Store, key: &str) -> Option<Bytes> {
    store.read(key).await.expect("the store answers")
}

async fn write(store: &dyn Store, key: &str, value: &'static str) {
    store.write(key, value.into(), None).await.expect("the store answers");
}

/// Whether the server was asked for a value.
fn has_read(server: &RedisServer) -> bool {
    server.command(&["INFO", "commandstats"]).contains("cmdstat_get:")
}

/// Tries until it works, and tells how long that took. No try may take longer than its limits.
async fn until_written(store: &dyn Store, key: &str, value: &'static str) -> Duration {
    let begun = Instant::now();
    loop {
        let tried = Instant::now();
        let outcome = store.write(key, value.into(), None).await;
        assert!(tried.elapsed() < AT_ONCE, "one call took {:?}", tried.elapsed());
        match outcome {
            Ok(()) => return begun.elapsed(),
            Err(error) => assert!(begun.elapsed() < SETTLED, "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the server has found that another is master now.
async fn until_replica(server: &RedisServer) {
    let begun = Instant::now();
    while !server.command(&["INFO", "replication"]).contains("role:slave") {
        assert!(begun.elapsed() < SETTLED, "it still takes itself for the master");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_user_of_an_access_list_is_let_in_and_kept_to_it() {
    let server = RedisServer::start();
    let rules = ["ACL", "SETUSER", "app", "on", ">s3:cret", "~tideover:*", "+@all", "-mget", "-flushall"];
    assert_eq!(server.command(&rules), "OK");
    let url = format!("redis://app:s3%3Acret@127.0.0.1:{}", server.port());
    let store = RedisStore::connect(RedisConfig::new(&url)).await.expect("let in");
    write(&store, "a", "1").await;
    // The user may not use `MGET`; reads go by themselves then.
    let values = store.read_many(&["a", "b", "a", "b"]).await.expect("the server answers");
    assert_eq!(values, [Some("1".into()), None, Some("1".into()), None]);

    // Another namespace is not this user's.
    let elsewhere = store_with(RedisConfig { namespace: "other:".into(), ..RedisConfig::new(&url) });
    let Err(StoreError::Unavailable(text)) = elsewhere.read("a").await else { panic!("a foreign key was read") };
    assert!(text.contains("NOPERM") && !text.contains("other"), "{text}");

    let wrong = RedisConfig::new(url.replace("s3%3Acret", "wr0ng"));
    let Err(error) = RedisStore::connect(wrong).await else { panic!("let in") };
    let text = error.to_string();
    assert!(text.contains("wrong user or password") && !text.contains("wr0ng") && !text.contains("s3"), "{text}");
}

fn tls(certificates: &Certificates, with_client: bool) -> RedisTls {
    let client = |pem: &String| with_client.then(|| pem.clone().into_bytes());
    RedisTls {
        ca_pem: Some(certificates.ca.clone().into_bytes()),
        client_cert_pem: client(&certificates.certificate),
        client_key_pem: client(&certificates.key),
        ..RedisTls::default()
    }
}

#[tokio::test]
async fn certificates_that_do_not_fit_are_refused_on_both_sides() {
    let (certificates, stranger) = (Certificates::new(), Certificates::new());
    let server = RedisServer::start_with_tls(&certificates, true);
    let connect = |tls: RedisTls| RedisStore::connect(RedisConfig { tls, ..RedisConfig::new(server.tls_url()) });

    let store = connect(tls(&certificates, true)).await.expect("both sides trust each other");
    write(&store, "k", "1").await;
    assert_eq!(read(&store, "k").await, Some("1".into()));

    let misnamed = RedisTls { server_name: Some("example.org".into()), ..tls(&certificates, true) };
    let foreign_client = RedisTls { ca_pem: Some(certificates.ca.clone().into()), ..tls(&stranger, true) };
    for (case, options) in [
        ("another authority", tls(&stranger, true)),
        ("another name", misnamed),
        ("no client certificate", tls(&certificates, false)),
        ("a client certificate of another authority", foreign_client),
    ] {
        let begun = Instant::now();
        let Err(error) = connect(options).await else { panic!("{case}: let in") };
        let text = error.to_string();
        assert!(text.starts_with("store unavailable: TLS"), "{case}: {text}");
        assert!(begun.elapsed() < AT_ONCE, "{case}");
    }

    // A server that does not speak TLS, and one that speaks nothing else.
    let plain = format!("rediss://localhost:{}", server.port());
    let config = RedisConfig { tls: tls(&certificates, true), ..RedisConfig::new(plain) };
    assert!(RedisStore::connect(config).await.is_err());
    let config = RedisConfig::new(server.tls_url().replacen("rediss", "redis", 1));
    assert!(RedisStore::connect(config).await.is_err());
}

#[test]
fn options_that_contradict_each_other_are_refused_by_name() {
    let certificates = Certificates::new();
    let one = || RedisConfig::new("redis://:s3cret@localhost");
    let secure = || RedisConfig::new("rediss://:s3cret@localhost");
    let good = tls(&certificates, true);
    for (expected, config) in [
        ("rediss", RedisConfig { tls: good.clone(), ..one() }),
        ("read_from_replicas", RedisConfig { read_from_replicas: true, ..one() }),
        ("Sentinels", RedisConfig { sentinel_password: Some("s3cret".into()), ..one() }),
        ("queue_max", RedisConfig { queue_max: 0, ..one() }),
        ("write_timeout", RedisConfig { write_timeout: Some(Duration::ZERO), ..one() }),
        ("ca_pem", RedisConfig { tls: RedisTls { ca_pem: Some(b"s3cret".to_vec()), ..good.clone() }, ..secure() }),
        ("go together", RedisConfig { tls: RedisTls { client_key_pem: None, ..good.clone() }, ..secure() }),
        ("private key", RedisConfig { tls: RedisTls { client_key_pem: Some(vec![1]), ..good.clone() }, ..secure() }),
        ("server_name", RedisConfig { tls: RedisTls { server_name: Some("a b".into()), ..good.clone() }, ..secure() }),
    ] {
        assert!(!format!("{config:?}").contains("s3cret"), "{expected}");
        let error = RedisStore::new(config).expect_err(expected);
        assert!(!matches!(error, RedisConfigError::Url(_)), "{error}");
        assert!(error.to_string().contains(expected) && !error.to_string().contains("s3cret"), "{error}");
    }
    let stranger = Certificates::new();
    let mixed = RedisTls { client_key_pem: Some(stranger.key.into()), ..good };
    let error = RedisStore::new(RedisConfig { tls: mixed, ..secure() }).expect_err("two different keys");
    assert!(matches!(error, RedisConfigError::Tls(_)), "{error}");
}

#[tokio::test]
async fn a_server_that_is_no_cluster_node_says_so() {
    let server = RedisServer::start();
    let url = server.url().replacen("redis", "redis+cluster", 1);
    let Err(error) = RedisStore::connect(RedisConfig::new(url)).await else { panic!("it is no cluster") };
    assert!(error.to_string().contains("no node of a cluster"), "{error}");
}

#[tokio::test]
async fn every_node_of_a_cluster_is_logged_in_to() {
    let cluster = RedisCluster::start();
    for master in &cluster.masters {
        assert_eq!(master.command(&["CONFIG", "SET", "requirepass", "opensesame"]), "OK");
    }
    let url = cluster.url().replace("redis://", "redis://:opensesame@");
    let store = RedisStore::connect(RedisConfig::new(url)).await.expect("let in everywhere");
    for number in 0..30 {
        write(&store, &format!("k{number}"), "1").await;
    }
    let Err(error) = RedisStore::connect(RedisConfig::new(cluster.url())).await else { panic!("let in") };
    assert!(error.to_string().contains("wants a password"), "{error}");
}

/// Four users who read keys over and over.
struct Users {
    done: Arc<AtomicBool>,
    /// How many times one of them has read all.
    rounds: Arc<AtomicU32>,
    tasks: Vec<JoinHandle<u32>>,
}

impl Users {
    /// They find each of the keys, and after each do that, too: told the store and their number.
    fn begin<W>(
        store: &Arc<RedisStore>,
        keys: &[String],
        and: impl Fn(Arc<RedisStore>, u32) -> W + Copy + Send + 'static,
    ) -> Self
    where
        W: Future<Output = ()> + Send,
    {
        let (done, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let task = |user| {
            let (store, keys) = (Arc::clone(store), keys.to_vec());
            let (done, rounds) = (Arc::clone(&done), Arc::clone(&rounds));
            tokio::spawn(async move {
                let mut calls = 0;
                while !done.load(Ordering::Relaxed) {
                    for key in &keys {
                        assert!(read(&*store, key).await.is_some(), "{key} was lost");
                        and(Arc::clone(&store), user).await;
                        calls += 1;
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                calls
            })
        };
        Self { tasks: (0..4).map(task).collect(), done, rounds }
    }

    /// They go on for some rounds.
    async fn go_on(&self) {
        let (begun, enough) = (Instant::now(), self.rounds.load(Ordering::Relaxed) + 8);
        while self.rounds.load(Ordering::Relaxed) < enough {
            assert!(begun.elapsed() < SETTLED, "the users have stopped");
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// How many times each has read a key.
    async fn end(self) -> Vec<u32> {
        self.done.store(true, Ordering::Relaxed);
        try_join_all(self.tasks).await.expect("no failed call")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_while_it_is_used_fails_no_call() {
    let cluster = RedisCluster::start();
    let store = Arc::new(store_with(RedisConfig::new(cluster.url())));
    let keys: Vec<String> = (0..20).map(|number| format!("{{tag}}{number}")).collect();
    for key in &keys {
        write(&*store, key, "1").await;
    }
    let count = |store: Arc<RedisStore>, user| async move {
        store.increment(&format!("{{tag}}count{user}"), 1, None).await.expect("counted");
    };
    let users = Users::begin(&store, &keys, count);
    let slot = cluster.slot_of("{tag}");
    let from = cluster.master_of(slot);
    for to in [(from + 1) % 3, (from + 2) % 3, from] {
        let (cluster, keys) = (&cluster, &keys);
        tokio::task::block_in_place(|| {
            cluster.begin_move(slot, to);
            // Half of the keys are there, half are here: the old node sends callers on, one by one.
            keys.iter().take(10).for_each(|key| cluster.move_key(&format!("tideover:{key}"), to));
        });
        users.go_on().await;
        tokio::task::block_in_place(|| cluster.finish_move(slot, to));
        users.go_on().await;
    }
    for (user, calls) in users.end().await.into_iter().enumerate() {
        let counted = read(&*store, &format!("{{tag}}count{user}")).await;
        assert_eq!(counted, Some(calls.to_string().into()), "each call counted once");
    }
}

/// The end of the log travels with reads of keys on its node. When its slot moves away from there, reads go on, and what is
/// noted at the new place is heard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slot_of_the_log_may_move_while_somebody_listens() {
    const LOG: &str = "tideover:!log";
    let cluster = RedisCluster::start();
    let store = Arc::new(store_with(RedisConfig::new(cluster.url())));
    let diary = Diary::on(&*store);
    let notes = Arc::new(AtomicU32::new(0));
    note(&store, &notes).await;
    // Keys on all nodes, so that for some of them the log lies beside them, before and after.
    let keys: Vec<String> = (0..30).map(|number| format!("k{number}")).collect();
    for key in &keys {
        write(&*store, key, "1").await;
    }
    let users = Users::begin(&store, &keys, |_, _| async {});
    let slot = cluster.slot_of(LOG);
    let from = cluster.master_of(slot);
    for to in [(from + 1) % 3, (from + 2) % 3, from] {
        tokio::task::block_in_place(|| {
            cluster.begin_move(slot, to);
            // It is there, and its slot is still here: whoever asks is sent on, time and again.
            cluster.move_key(LOG, to);
        });
        note(&store, &notes).await;
        users.go_on().await;
        tokio::task::block_in_place(|| cluster.finish_move(slot, to));
        note(&store, &notes).await;
        users.go_on().await;
    }
    let _calls = users.end().await;
    read(&*store, "k0").await;
    let heard = diary.heard();
    assert!(heard.is_sorted_by(|one, next| one.number < next.number), "{heard:?}");
    let tags: Vec<Note> = heard.iter().map(|heard| heard.note).filter(|note| *note != Note::Unknown).collect();
    assert_eq!(tags, (1..=7).map(tag).collect::<Vec<_>>(), "each was heard once");
    assert_eq!(heard.len(), 8, "nothing was missed but what was before the beginning: {heard:?}");
}

/// The same while nobody else has the map read anew: one listener, which asks for keys beside the old place of the log alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_reads_beside_the_old_place_of_the_log_finds_the_new_one() {
    const LOG: &str = "tideover:!log";
    let cluster = RedisCluster::start();
    let store = store_with(RedisConfig::new(cluster.url()));
    let diary = Diary::on(&store);
    let slot = cluster.slot_of(LOG);
    let from = cluster.master_of(slot);
    let beside = (0..).map(|number| format!("k{number}")).find(|key| {
        let place = cluster.slot_of(&format!("tideover:{key}"));
        place != slot && cluster.master_of(place) == from
    });
    let beside = beside.expect("some key lies there");
    write(&store, &beside, "1").await;
    assert!(read(&store, &beside).await.is_some());
    let to = (from + 1) % 3;
    tokio::task::block_in_place(|| {
        cluster.begin_move(slot, to);
        cluster.finish_move(slot, to);
    });
    assert!(read(&store, &beside).await.is_some(), "at the first try");
    let other = store_with(RedisConfig::new(cluster.url()));
    other.note(1, tag(1), WallTime::from_unix_millis(1_700_000_000_000)).await.expect("the cluster answers");
    assert!(read(&store, &beside).await.is_some());
    assert_eq!(diary.heard().last().map(|heard| heard.note), Some(tag(1)));
}

const fn tag(number: u64) -> Note {
    Note::Invalidated(Tag(number), Invalidation::Remove)
}

/// Notes the next number.
async fn note(store: &RedisStore, notes: &AtomicU32) {
    let number = notes.fetch_add(1, Ordering::Relaxed) + 1;
    let noon = WallTime::from_unix_millis(1_700_000_000_000);
    store.note(1, tag(number.into()), noon).await.expect("the cluster answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_node_takes_only_its_own_keys_and_serves_again_when_back() {
    let mut cluster = RedisCluster::start();
    let store = store_with(impatient(cluster.url()));
    for number in 0..30 {
        write(&store, &format!("k{number}"), "1").await;
    }
    tokio::task::block_in_place(|| cluster.masters[0].kill());
    let (mut lost, mut served) = (0, 0);
    for number in 0..30 {
        let begun = Instant::now();
        match store.read(&format!("k{number}")).await {
            Ok(value) => served += u32::from(value.is_some()),
            Err(StoreError::Unavailable(_)) => lost += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(begun.elapsed() < AT_ONCE);
    }
    assert!(lost > 0 && served > 0 && lost + served == 30, "{lost} {served}");

    tokio::task::block_in_place(|| {
        cluster.masters[0].restart();
        cluster.wait_until_settled();
    });
    for number in 0..30 {
        until_written(&store, &format!("k{number}"), "2").await;
    }
    assert!(store.clear().await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_node_costs_at_most_the_deadline_and_a_replica_takes_over() {
    let mut cluster = RedisCluster::start_with_replicas();
    let store = store_with(impatient(cluster.url()));
    let key = (0..).map(|number| format!("k{number}")).find(|key| {
        let master = cluster.master_of(cluster.slot_of(&format!("tideover:{key}")));
        master == 1
    });
    let key = key.expect("some key lies there");
    write(&store, &key, "old").await;
    cluster.masters[1].freeze();
    let begun = Instant::now();
    assert!(matches!(store.read(&key).await, Err(StoreError::TimedOut(_))));
    let longest = begun.elapsed();
    assert!(longest < Duration::from_millis(600) + AT_ONCE, "{longest:?}");
    let failover = until_written(&store, &key, "new").await;
    println!("frozen cluster node: a call took {longest:?}, the replica wrote after {failover:?}");

    // The old master is a replica when it thaws, whatever it was left with.
    cluster.masters[1].thaw();
    until_replica(&cluster.masters[1]).await;
    assert_eq!(read(&store, &key).await, Some("new".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_of_a_cluster_answer_reads_by_choice() {
    let cluster = RedisCluster::start_with_replicas();
    let config = RedisConfig { read_from_replicas: true, ..RedisConfig::new(cluster.url()) };
    let store = store_with(config);
    for number in 0..30 {
        write(&store, &format!("k{number}"), "1").await;
    }
    let deadline = Instant::now() + SETTLED;
    while !cluster.replicas.iter().all(has_read) {
        // A replica that is not connected to yet is made up for by its master, and one may lag behind for a moment.
        for number in 0..30 {
            let _value = store.read(&format!("k{number}")).await.expect("the cluster answers");
        }
        assert!(Instant::now() < deadline);
    }
    cluster.masters.iter().for_each(|master| assert_eq!(master.command(&["CONFIG", "RESETSTAT"]), "OK"));
    for number in 0..30 {
        assert_eq!(read(&store, &format!("k{number}")).await, Some("1".into()));
    }
    assert!(!cluster.masters.iter().any(has_read));
    // When something ends is asked about what was counted only just now: no replica has to know that.
    for number in 0..30 {
        let (key, minute) = (format!("count{number}"), Duration::from_secs(60));
        store.increment(&key, 1, Some(minute)).await.expect("counted");
        let remaining = store.remaining(&key).await.expect("the cluster answers");
        assert!(matches!(remaining, Remaining::Left(left) if left <= minute), "{remaining:?}");
    }
    let asked = |server: &RedisServer| server.command(&["INFO", "commandstats"]).contains("cmdstat_pttl:");
    assert!(cluster.masters.iter().any(asked) && !cluster.replicas.iter().any(asked));
}

/// Waits for a second for answers, and longer for connections.
fn leisurely(url: String) -> RedisConfig {
    let second = Duration::from_secs(1);
    RedisConfig {
        read_from_replicas: true,
        connect_timeout: Duration::from_secs(5),
        response_timeout: second,
        call_timeout: second,
        ..RedisConfig::new(url)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_of_a_cluster_that_cannot_be_reached_or_freeze_fail_no_read() {
    let mut cluster = RedisCluster::start_with_replicas();
    let writer = store_with(RedisConfig::new(cluster.url()));
    for number in 0..30 {
        write(&writer, &format!("k{number}"), "1").await;
    }
    let store = store_with(leisurely(cluster.url()));
    store.ping().await.expect("all masters answer");
    // Connections to them are made by the kernel, and stay without a word.
    cluster.replicas.iter_mut().for_each(RedisServer::freeze);
    for number in 0..30 {
        assert_eq!(read(&store, &format!("k{number}")).await, Some("1".into()));
    }
    cluster.replicas.iter_mut().for_each(RedisServer::thaw);
    let deadline = Instant::now() + SETTLED;
    while !cluster.replicas.iter().all(has_read) {
        for number in 0..30 {
            let _value = store.read(&format!("k{number}")).await.expect("the cluster answers");
        }
        assert!(Instant::now() < deadline, "they never serve again");
        sleep(Duration::from_millis(20)).await;
    }
    // Now they freeze in use.
    cluster.replicas.iter_mut().for_each(RedisServer::freeze);
    for number in 0..30 {
        assert_eq!(read(&store, &format!("k{number}")).await, Some("1".into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_behind_sentinels_that_freezes_fails_no_read() {
    let mut sentinels = RedisSentinels::start();
    write(&store_with(RedisConfig::new(sentinels.url())), "k", "1").await;
    let store = store_with(leisurely(sentinels.url()));
    sentinels.servers[1].freeze();
    for _ in 0..20 {
        assert_eq!(read(&store, "k").await, Some("1".into()));
    }
    sentinels.servers[1].thaw();
    let deadline = Instant::now() + SETTLED;
    while !has_read(&sentinels.servers[1]) {
        let _value = store.read("k").await.expect("one of them answers");
        assert!(Instant::now() < deadline, "it never serves again");
        sleep(Duration::from_millis(20)).await;
    }
    sentinels.servers[1].freeze();
    for _ in 0..20 {
        assert_eq!(read(&store, "k").await, Some("1".into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_lead_to_the_new_primary_when_the_old_one_dies() {
    let mut sentinels = RedisSentinels::start_with_password("watchword");
    let config = RedisConfig { sentinel_password: Some("watchword".into()), ..impatient(sentinels.url()) };
    let store = store_with(config.clone());
    write(&store, "k", "old").await;
    let refused = RedisConfig { sentinel_password: Some("wr0ng".into()), ..config };
    let Err(error) = RedisStore::connect(refused).await else { panic!("let in") };
    assert!(error.to_string().contains("wrong user or password") && !error.to_string().contains("wr0ng"), "{error}");

    // One Sentinel of three is away, too, and hangs.
    sentinels.sentinels[0].freeze();
    sentinels.servers[0].kill();
    let failover = until_written(&store, "k", "new").await;
    println!("sentinel failover of a killed primary: {failover:?}");
    assert_eq!(sentinels.servers[1].command(&["GET", "tideover:k"]), "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_lead_to_the_new_primary_when_the_old_one_freezes() {
    let mut sentinels = RedisSentinels::start();
    let store = store_with(impatient(sentinels.url()));
    write(&store, "k", "old").await;
    let old = sentinels.primary_port();
    sentinels.servers[0].freeze();
    let failover = until_written(&store, "k", "new").await;
    println!("sentinel failover of a frozen primary: {failover:?}");
    assert_ne!(sentinels.primary_port(), old);

    // What the old one was left with is lost with its role.
    sentinels.servers[0].thaw();
    until_replica(&sentinels.servers[0]).await;
    assert_eq!(read(&store, "k").await, Some("new".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_is_noticed_although_no_caller_waits_for_a_time_out() {
    // As the driver does: its deadlines are shorter than the store's own limits, and it drops the call.
    async fn until_written(store: &RedisStore) -> Duration {
        let begun = Instant::now();
        while !matches!(timeout(Duration::from_millis(50), store.write("k", "new".into(), None)).await, Ok(Ok(()))) {
            assert!(begun.elapsed() < Duration::from_secs(12), "nobody noticed");
            sleep(Duration::from_millis(20)).await;
        }
        begun.elapsed()
    }

    let mut sentinels = RedisSentinels::start();
    let store = store_with(RedisConfig::new(sentinels.url()));
    write(&store, "k", "old").await;
    sentinels.servers[0].freeze();
    println!("frozen primary, impatient callers: written after {:?}", until_written(&store).await);

    let mut cluster = RedisCluster::start_with_replicas();
    let store = store_with(RedisConfig::new(cluster.url()));
    write(&store, "k", "old").await;
    let master = cluster.master_of(cluster.slot_of("tideover:k"));
    cluster.masters[master].freeze();
    println!("frozen node, impatient callers: written after {:?}", until_written(&store).await);
}

#[tokio::test]
async fn sentinels_that_do_not_know_the_name_say_so() {
    let sentinels = RedisSentinels::start();
    let url = sentinels.url().replace("/main", "/other");
    let Err(error) = RedisStore::connect(RedisConfig::new(url)).await else { panic!("nobody knows it") };
    assert!(error.to_string().contains("no primary of that name"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_behind_sentinels_answers_reads_by_choice_and_the_primary_makes_up_for_it() {
    let mut sentinels = RedisSentinels::start();
    let config = RedisConfig { read_from_replicas: true, ..impatient(sentinels.url()) };
    let store = store_with(config);
    write(&store, "k", "1").await;
    let deadline = Instant::now() + SETTLED;
    while !has_read(&sentinels.servers[1]) {
        // Until it is connected to, the primary makes up for it.
        let _value = store.read("k").await.expect("one of them answers");
        assert!(Instant::now() < deadline);
    }
    assert_eq!(sentinels.servers[0].command(&["CONFIG", "RESETSTAT"]), "OK");
    assert_eq!(read(&store, "k").await, Some("1".into()));
    assert!(!has_read(&sentinels.servers[0]));
    sentinels.servers[1].kill();
    let failed = AtomicU32::new(0);
    for _ in 0..20 {
        let value = store.read("k").await;
        failed.fetch_add(u32::from(value.is_err()), Ordering::Relaxed);
    }
    assert_eq!(failed.into_inner(), 0);
    assert!(has_read(&sentinels.servers[0]));
}
