//! What every store keeps, whatever it is made of: one suite, run on memory and on Redis in every deployment.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tideover::Cache;
use tideover::core::stamp::{Condition, Stamp, Version, Written};
use tideover::core::{Entry, Invalidation, Note, Tag, WallTime, Windows, envelope};
use tideover::store::{
    Abilities, Cursor, Leased, MemoryStore, RedisConfig, RedisStore, RedisTls, Remaining, Store, StoreError, When,
};
use tideover_tests::diary::Diary;
use tideover_tests::redis_server::{Certificates, RedisCluster, RedisSentinels, RedisServer};
use tokio::time::sleep;

const MINUTE: Duration = Duration::from_secs(60);

const NOON: WallTime = WallTime::from_unix_millis(1_700_000_000_000);

async fn write(store: &dyn Store, key: &str, value: &'static str, ttl: Option<Duration>) {
    store.write(key, value.into(), ttl).await.expect("the store answers");
}

async fn read(store: &dyn Store, key: &str) -> Option<Bytes> {
    store.read(key).await.expect("the store answers")
}

async fn expires(store: &dyn Store, key: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while store.exists(key).await.expect("the store answers") {
        assert!(Instant::now() < deadline, "{key} outlives its time");
        sleep(Duration::from_millis(5)).await;
    }
}

/// All keys that match, by as many pages as it takes.
async fn scan(store: &dyn Store, pattern: &str, count: usize) -> BTreeSet<String> {
    let (mut keys, mut cursor) = (BTreeSet::new(), Cursor::default());
    loop {
        let page = store.scan(pattern, &cursor, count).await.expect("the store answers");
        keys.extend(page.keys);
        match page.next {
            // A cursor survives being kept as text.
            Some(next) => cursor = Cursor::new(next.as_str()),
            None => return keys,
        }
    }
}

fn set(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|&key| key.to_owned()).collect()
}

async fn conformance(store: &dyn Store) {
    assert_eq!(store.abilities(), Abilities::ALL);
    store.ping().await.expect("the store answers");
    plain(store).await.expect("the store answers");
    conditions(store).await.expect("the store answers");
    many(store).await.expect("the store answers");
    counting(store).await.expect("the store answers");
    ends(store).await.expect("the store answers");
    walking(store).await.expect("the store answers");
    comparing(store).await.expect("the store answers");
    leasing(store).await.expect("the store answers");
}

async fn plain(store: &dyn Store) -> Result<(), StoreError> {
    // Any bytes come back under any text; what looks like a pattern or the store's own is data.
    let bytes: Bytes = (0..=255_u8).cycle().take(100_000).collect();
    for key in ["k", "", "*", "!", "!!log", "{tag}", "a key\r\nwith lines", "ключ", &"long".repeat(1_000)] {
        assert_eq!(store.read(key).await?, None, "{key}");
        store.remove(key).await?;
        store.write(key, bytes.clone(), None).await?;
        assert_eq!(store.read(key).await?, Some(bytes.clone()), "{key}");
        store.remove(key).await?;
        assert_eq!(store.read(key).await?, None, "{key}");
    }
    Ok(())
}

async fn conditions(store: &dyn Store) -> Result<(), StoreError> {
    assert!(!store.write_when("k", "0".into(), None, When::Present).await?);
    assert!(store.write_when("k", "1".into(), None, When::Absent).await?);
    assert!(!store.write_when("k", "2".into(), None, When::Absent).await?);
    assert_eq!(read(store, "k").await, Some("1".into()));
    assert!(store.write_when("k", "3".into(), Some(MINUTE), When::Present).await?);
    assert!(matches!(store.remaining("k").await?, Remaining::Left(_)));
    assert!(store.write_when("k", "".into(), None, When::Always).await?);
    // No bytes at all are something that is there.
    assert!(store.exists("k").await?);
    assert_eq!(store.take("k").await?, Some(Bytes::new()));
    assert_eq!(store.take("k").await?, None);
    assert!(!store.exists("k").await? && !store.delete("k").await?);
    write(store, "k", "1", None).await;
    assert!(store.delete("k").await?);
    // What has ended is absent.
    write(store, "k", "1", Some(Duration::from_millis(1))).await;
    expires(store, "k").await;
    assert!(store.write_when("k", "2".into(), None, When::Absent).await?);
    assert!(store.delete("k").await?);
    Ok(())
}

async fn many(store: &dyn Store) -> Result<(), StoreError> {
    let keys: Vec<String> = (0..1_500).map(|number| format!("many:{number}")).collect();
    let entries: Vec<(&str, Bytes)> = keys.iter().map(|key| (key.as_str(), key.clone().into())).collect();
    store.write_many(&entries, Some(MINUTE)).await?;
    let mut names: Vec<&str> = keys.iter().map(String::as_str).collect();
    names.insert(700, "nobody");
    let values = store.read_many(&names).await?;
    assert_eq!(values.len(), names.len());
    for (name, value) in names.iter().zip(values) {
        assert_eq!(value, (*name != "nobody").then(|| Bytes::from((*name).to_owned())));
    }
    // Twice the same key is one key that was there.
    assert_eq!(store.remove_many(&["many:0", "nobody", "many:1", "many:1"]).await?, 2);
    assert!(!store.exists("many:0").await? && store.exists("many:2").await?);
    assert_eq!(store.read_many(&[]).await?, Vec::<Option<Bytes>>::new());
    store.clear().await
}

async fn counting(store: &dyn Store) -> Result<(), StoreError> {
    assert_eq!(store.increment("n", 5, None).await?, 5);
    assert_eq!(store.increment("n", -7, None).await?, -2);
    assert_eq!(read(store, "n").await, Some("-2".into()));
    assert_eq!(store.remaining("n").await?, Remaining::Forever);
    // A time to live is for a number that is new; what is there keeps its own.
    assert_eq!(store.increment("n", 0, Some(MINUTE)).await?, -2);
    assert_eq!(store.remaining("n").await?, Remaining::Forever);
    assert_eq!(store.increment("brief", 1, Some(MINUTE)).await?, 1);
    assert_eq!(store.increment("brief", 1, None).await?, 2);
    assert!(matches!(store.remaining("brief").await?, Remaining::Left(left) if left <= MINUTE));

    for text in ["", "x", "1.5", " 1", "+1", "01", "9223372036854775808"] {
        write(store, "text", text, None).await;
        for ttl in [None, Some(MINUTE)] {
            assert!(matches!(store.increment("text", 1, ttl).await, Err(StoreError::Rejected(_))), "{text}");
        }
        assert_eq!(read(store, "text").await, Some(text.into()));
    }
    write(store, "n", "9223372036854775807", None).await;
    assert!(matches!(store.increment("n", 1, None).await, Err(StoreError::Rejected(_))));
    assert_eq!(store.increment("n", i64::MIN, None).await?, -1);
    store.clear().await
}

async fn ends(store: &dyn Store) -> Result<(), StoreError> {
    assert_eq!(store.remaining("k").await?, Remaining::NoSuchKey);
    assert!(!store.expire("k", Some(MINUTE)).await? && !store.expire("k", None).await?);
    write(store, "k", "1", None).await;
    assert_eq!(store.remaining("k").await?, Remaining::Forever);
    assert!(store.expire("k", None).await?);
    assert!(store.expire("k", Some(MINUTE)).await?);
    let Remaining::Left(left) = store.remaining("k").await? else { panic!("it has an end") };
    assert!(left <= MINUTE && left > MINUTE / 2, "{left:?}");
    assert!(store.expire("k", None).await?);
    assert_eq!(store.remaining("k").await?, Remaining::Forever);
    assert!(store.expire("k", Some(Duration::MAX)).await?);
    assert!(store.expire("k", Some(Duration::from_millis(20))).await?);
    expires(store, "k").await;
    assert_eq!(store.remaining("k").await?, Remaining::NoSuchKey);
    write(store, "k", "1", None).await;
    assert!(store.expire("k", Some(Duration::ZERO)).await?);
    assert_eq!(read(store, "k").await, None, "at once");
    zero_ends_at_once(store).await
}

/// However often: nobody is there to see what is in the way.
async fn zero_ends_at_once(store: &dyn Store) -> Result<(), StoreError> {
    let zero = Some(Duration::ZERO);
    for _ in 0..20 {
        write(store, "z", "1", zero).await;
        assert_eq!(read(store, "z").await, None);
        assert!(store.write_when("z", "2".into(), zero, When::Absent).await?);
        assert!(!store.exists("z").await?);
        assert_eq!(store.increment("z", 7, zero).await?, 7);
        assert_eq!(store.remaining("z").await?, Remaining::NoSuchKey);
    }
    write(store, "z", "1", None).await;
    assert!(store.write_when("z", "2".into(), zero, When::Present).await?);
    assert_eq!(read(store, "z").await, None);
    Ok(())
}

async fn walking(store: &dyn Store) -> Result<(), StoreError> {
    let odd = ["user:7", "user:70", "user:*", "user:[7]", "other", "!own", "!!own", "", "a\\b"];
    for key in odd {
        write(store, key, "1", None).await;
    }
    assert_eq!(scan(store, "*", 2).await, set(&odd));
    assert_eq!(scan(store, "user:*", 100).await, set(&["user:7", "user:70", "user:*", "user:[7]"]));
    assert_eq!(scan(store, r"user:\*", 100).await, set(&["user:*"]));
    assert_eq!(scan(store, "user:[7]", 100).await, set(&["user:[7]"]));
    assert_eq!(scan(store, "user:?", 100).await, set(&[]));
    assert_eq!(scan(store, "*own", 100).await, set(&["!own", "!!own"]));
    assert_eq!(scan(store, "!own", 100).await, set(&["!own"]));
    assert_eq!(scan(store, "!*", 100).await, set(&["!own", "!!own"]));
    assert_eq!(scan(store, r"a\\*", 100).await, set(&["a\\b"]));
    assert_eq!(scan(store, "", 100).await, set(&[""]));

    assert_eq!(store.remove_matching(r"user:\*").await?, 1);
    assert_eq!(store.remove_matching("user:*").await?, 3);
    assert_eq!(store.remove_matching("user:*").await?, 0);
    assert_eq!(scan(store, "*", 3).await, set(&["other", "!own", "!!own", "", "a\\b"]));

    // More than one page, and more than one step of a removal.
    let keys: Vec<String> = (0..2_500).map(|number| format!("page:{number}")).collect();
    let entries: Vec<(&str, Bytes)> = keys.iter().map(|key| (key.as_str(), Bytes::new())).collect();
    store.write_many(&entries, None).await?;
    assert_eq!(scan(store, "page:*", 500).await, keys.iter().cloned().collect());
    assert_eq!(store.remove_matching("page:*").await?, 2_500);
    store.clear().await?;
    assert_eq!(scan(store, "*", 100).await, set(&[]));
    assert!(matches!(store.scan("*", &Cursor::default(), 0).await?.next, None | Some(_)));
    Ok(())
}

/// Numbers that arithmetic with doubles, or with signs, would get wrong.
const NUMBERS: [u64; 11] =
    [0, 1, 2, u32::MAX as u64, 1 << 32, (1 << 53) - 1, 1 << 53, (1 << 53) + 1, i64::MAX as u64, u64::MAX - 1, u64::MAX];

/// Draws numbers, the same each time.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn number(&mut self) -> u64 {
        NUMBERS[self.below(NUMBERS.len() as u64) as usize]
    }

    fn version(&mut self) -> Version {
        let writer = [0, 7, u64::MAX][self.below(3) as usize];
        Version { writer, number: self.number() }
    }

    fn stamp(&mut self) -> Stamp {
        Stamp { version: self.version(), changed_at: WallTime::from_unix_millis(self.number()), born: self.number() }
    }

    fn condition(&mut self, held: Option<&Stamp>) -> Condition {
        match self.below(5) {
            0 => Condition::Always,
            1 => Condition::Newest,
            2 => Condition::Unchanged(None),
            3 => Condition::Unchanged(held.map(|held| held.version)),
            _ => Condition::Unchanged(Some(self.version())),
        }
    }
}

/// One write replaces another when [`Condition::admits`] says so.
async fn comparing(store: &dyn Store) -> Result<(), StoreError> {
    let mut draws = Draws(7);
    let entry = |stamp: &Stamp| Bytes::from(envelope::encode(&Entry::new("value", Windows::FOREVER), stamp, NOON));
    for round in 0..2_000 {
        let (key, new) = (format!("k{}", round % 50), draws.stamp());
        let held = Some(draws.stamp()).filter(|_| round % 9 > 0);
        match &held {
            Some(held) if round % 4 == 0 => store.write(&key, envelope::tombstone(held).into(), None).await?,
            Some(held) => store.write(&key, entry(held), None).await?,
            None => store.remove(&key).await?,
        }
        let condition = draws.condition(held.as_ref());
        let admits = condition.admits(held.as_ref(), &new);
        let (before, after) = (store.read(&key).await?, entry(&new));
        let written = store.replace(&key, after.clone(), Some(MINUTE), condition).await?;
        let context = format!("{condition:?}: {new:?} over {held:?}");
        assert_eq!(written, if admits { Written::Kept } else { Written::Overtaken }, "{context}");
        assert_eq!(store.read(&key).await?, if admits { Some(after) } else { before }, "{context}");
        let ends = matches!(store.remaining(&key).await?, Remaining::Left(_));
        assert_eq!(ends, admits, "{context}");
    }
    // What is no envelope of ours counts as nothing: of another version, cut short, or a number.
    let own = entry(&draws.stamp());
    let mut older = own.to_vec();
    older[2] = 1;
    for foreign in [Bytes::from(older), own.slice(..38), own.slice(..0), "42".into()] {
        write_bytes(store, "k", foreign).await;
        let new = entry(&draws.stamp());
        assert_eq!(store.replace("k", new.clone(), None, Condition::Unchanged(None)).await?, Written::Kept);
        assert_eq!(store.read("k").await?, Some(new));
        assert_eq!(store.remaining("k").await?, Remaining::Forever);
    }
    store.clear().await
}

/// One has it, until it is given back, and longer than its time to live.
async fn leasing(store: &dyn Store) -> Result<(), StoreError> {
    let ttl = Duration::from_millis(600);
    let Leased::Held(lease) = store.lease("k", ttl, MINUTE).await? else { panic!("it was free") };
    let Leased::Held(_another) = store.lease("another", ttl, MINUTE).await? else { panic!("it was free") };
    assert_eq!(store.read("k").await?, None, "it has nothing to do with what lies under the key");
    let until = tokio::time::Instant::now() + 2 * ttl;
    while tokio::time::Instant::now() < until {
        let Leased::Elsewhere(elsewhere) = store.lease("k", ttl, MINUTE).await? else { panic!("it is renewed") };
        assert!(elsewhere.free_in <= ttl, "{elsewhere:?}");
        elsewhere.freed_by(until).await;
    }
    let Leased::Elsewhere(elsewhere) = store.lease("k", ttl, MINUTE).await? else { panic!("it is still held") };
    drop(lease);
    elsewhere.freed_by(until + MINUTE).await;
    while !matches!(store.lease("k", ttl, MINUTE).await?, Leased::Held(_)) {
        assert!(tokio::time::Instant::now() < until + MINUTE, "it was given back");
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn write_bytes(store: &dyn Store, key: &str, value: Bytes) {
    store.write(key, value, None).await.expect("the store answers");
}

/// Two stores on one server tell each other what was invalidated.
async fn telling(one: &dyn Store, other: &dyn Store) -> Result<(), StoreError> {
    let tag = |number| Note::Invalidated(Tag(number), Invalidation::Remove);
    let expired = Note::Invalidated(Tag(u64::MAX), Invalidation::Expire);
    one.note(1, tag(1), NOON).await?;

    // Who listens hears where the log begins and what is in it, before the next operation of his store is done.
    let diary = Diary::on(one);
    assert_eq!(one.read("k").await?, None);
    let heard = diary.heard();
    assert_eq!(heard.iter().map(|heard| heard.note).collect::<Vec<_>>(), [Note::Unknown, tag(1)]);
    assert_eq!((heard[0].number, heard[1].writer, heard[1].made_at), (0, 1, NOON));

    // What another one notes is heard before the next operation is done, whichever it is.
    for round in 0..5 {
        other.note(2, if round == 2 { expired } else { tag(2 + round) }, NOON).await?;
        let stamp = Stamp { version: Version { writer: 1, number: round }, ..Stamp::default() };
        match round {
            0 => drop(one.read("k").await?),
            1 => drop(one.replace("k", envelope::tombstone(&stamp).into(), None, Condition::Always).await?),
            2 => one.remove("k").await?,
            3 => one.write("k", "1".into(), None).await?,
            _ => drop(one.read_many(&["k", "l", "m"]).await?),
        }
        let last = *diary.heard().last().expect("something");
        assert_eq!((last.note, last.writer), (if round == 2 { expired } else { tag(2 + round) }, 2), "{round}");
    }
    // One's own is heard, too, before it is done.
    one.note(1, tag(99), NOON).await?;
    let last = *diary.heard().last().expect("something");
    assert_eq!((last.note, last.writer), (tag(99), 1));

    // Many at once, from both sides and while others read: each once, in the order of their numbers, for everybody.
    let second = Diary::on(other);
    let before = diary.heard().len();
    let notes = (0..100).map(|number| {
        let noting = if number % 2 == 0 { one } else { other };
        async move { noting.note(number % 2, tag(1_000 + number), NOON).await }
    });
    let reads = (0..300).map(|number| async move { one.read(&format!("k{number}")).await });
    let (noted, found) =
        tokio::join!(futures_util::future::try_join_all(notes), futures_util::future::try_join_all(reads));
    noted?;
    found?;
    one.read("k").await?;
    other.read("k").await?;
    let heard = diary.heard();
    assert!(heard.is_sorted_by(|one, next| one.number < next.number), "{heard:?}");
    let told: BTreeSet<String> = heard[before..].iter().map(|heard| format!("{:?}", heard.note)).collect();
    assert_eq!((heard.len() - before, told.len()), (100, 100));
    assert_eq!(second.heard()[1..], heard[1..]);

    // Who listens no more costs nothing, and one who comes later hears it all from the beginning.
    drop(second);
    let late = Diary::on(other);
    other.read("k").await?;
    assert_eq!(late.heard()[1..], heard[1..]);

    // A clear removes what is older, by and by, and leaves what is newer and the log.
    let entry = |born| {
        let stamp = Stamp { version: Version { writer: 1, number: born }, born, ..Stamp::default() };
        Bytes::from(envelope::encode(&Entry::new("value", Windows::FOREVER), &stamp, NOON))
    };
    for number in 0..1_500 {
        write_bytes(one, &format!("old:{number}"), entry(heard[heard.len() - 1].number)).await;
    }
    other.note(2, Note::Cleared, NOON).await?;
    one.read("k").await?;
    let cleared = *diary.heard().last().expect("something");
    assert_eq!(cleared.note, Note::Cleared);
    write_bytes(one, "new", entry(cleared.number)).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while scan(one, "*", 1_000).await != set(&["new"]) {
        assert!(Instant::now() < deadline, "what was cleared stays");
        sleep(Duration::from_millis(5)).await;
    }
    other.note(2, tag(5), NOON).await?;
    one.read("new").await?;
    assert_eq!(diary.heard().iter().filter(|heard| heard.note == Note::Unknown).count(), 1);
    one.remove("new").await
}

/// A name and the outcome of an operation.
type Outcome<'a> = (&'static str, BoxFuture<'a, Option<StoreError>>);

async fn closing(store: &dyn Store) {
    store.close().await;
    store.close().await;
    let begin = Cursor::default();
    let outcomes: Vec<Outcome<'_>> = vec![
        ("read", Box::pin(async { store.read("k").await.err() })),
        ("write", Box::pin(async { store.write("k", Bytes::new(), None).await.err() })),
        ("remove", Box::pin(async { store.remove("k").await.err() })),
        ("clear", Box::pin(async { store.clear().await.err() })),
        ("ping", Box::pin(async { store.ping().await.err() })),
        ("write_when", Box::pin(async { store.write_when("k", Bytes::new(), None, When::Absent).await.err() })),
        ("take", Box::pin(async { store.take("k").await.err() })),
        ("delete", Box::pin(async { store.delete("k").await.err() })),
        ("remove_many", Box::pin(async { store.remove_many(&["k"]).await.err() })),
        ("exists", Box::pin(async { store.exists("k").await.err() })),
        ("read_many", Box::pin(async { store.read_many(&["k"]).await.err() })),
        ("write_many", Box::pin(async { store.write_many(&[("k", Bytes::new())], None).await.err() })),
        ("increment", Box::pin(async { store.increment("k", 1, None).await.err() })),
        ("expire", Box::pin(async { store.expire("k", None).await.err() })),
        ("remaining", Box::pin(async { store.remaining("k").await.err() })),
        ("scan", Box::pin(async { store.scan("*", &begin, 1).await.err() })),
        ("replace", Box::pin(async { store.replace("k", Bytes::new(), None, Condition::Always).await.err() })),
        ("note", Box::pin(async { store.note(1, Note::Cleared, NOON).await.err() })),
        ("remove_matching", Box::pin(async { store.remove_matching("*").await.err() })),
    ];
    for (name, outcome) in outcomes {
        assert!(matches!(outcome.await, Some(StoreError::Closed)), "{name}");
    }
}

async fn redis_conforms(config: RedisConfig) {
    let store = RedisStore::connect(config.clone()).await.expect("a server that is there");
    conformance(&store).await;
    let other = RedisStore::connect(config).await.expect("a server that is there");
    telling(&store, &other).await.expect("the store answers");
    closing(&store).await;
}

#[tokio::test]
async fn memory() {
    let store = MemoryStore::new(10_000);
    conformance(&store).await;
    telling(&store, &store).await.expect("the store answers");
    closing(&store).await;
}

#[tokio::test]
async fn redis() {
    let server = RedisServer::start();
    redis_conforms(RedisConfig::new(server.url())).await;
    redis_conforms(RedisConfig::new(format!("{}/7?protocol=resp3", server.url()))).await;
    // The log stays.
    assert_eq!(server.command(&["KEYS", "*"]), "tideover:!log");
}

#[tokio::test]
async fn redis_over_a_unix_socket() {
    let server = RedisServer::start();
    redis_conforms(RedisConfig::new(server.unix_url())).await;
    redis_conforms(RedisConfig::new(format!("{}?db=3", server.unix_url()))).await;
}

#[tokio::test]
async fn redis_over_tls() {
    let certificates = Certificates::new();
    let server = RedisServer::start_with_tls(&certificates, false);
    let tls = RedisTls { ca_pem: Some(certificates.ca.into()), ..RedisTls::default() };
    redis_conforms(RedisConfig { tls, ..RedisConfig::new(server.tls_url()) }).await;
}

#[tokio::test]
async fn redis_cluster() {
    let cluster = RedisCluster::start();
    redis_conforms(RedisConfig::new(cluster.url())).await;
    // One of the nodes is enough to find the others, and every master has its share.
    let one = cluster.masters[1].url().replacen("redis", "redis+cluster", 1);
    let store = RedisStore::connect(RedisConfig::new(one)).await.expect("a cluster");
    let keys: Vec<String> = (0..300).map(|number| format!("k{number}")).collect();
    let entries: Vec<(&str, Bytes)> = keys.iter().map(|key| (key.as_str(), Bytes::new())).collect();
    store.write_many(&entries, None).await.expect("the cluster answers");
    for master in &cluster.masters {
        assert!(master.command(&["DBSIZE"]).parse::<u32>().expect("a number") > 50);
    }
    store.clear().await.expect("the cluster answers");
    let left: Vec<String> = cluster.masters.iter().map(|master| master.command(&["KEYS", "*"])).collect();
    assert_eq!(left.concat(), "tideover:!log");
}

#[tokio::test]
async fn redis_cluster_over_tls() {
    let certificates = Certificates::new();
    let cluster = RedisCluster::start_with_tls(&certificates);
    // The nodes want to know who asks.
    let tls = RedisTls {
        ca_pem: Some(certificates.ca.into()),
        client_cert_pem: Some(certificates.certificate.into()),
        client_key_pem: Some(certificates.key.into()),
        server_name: None,
    };
    let one = cluster.masters[0].tls_url().replacen("rediss", "rediss+cluster", 1);
    redis_conforms(RedisConfig { tls, ..RedisConfig::new(one) }).await;
}

#[tokio::test]
async fn redis_behind_sentinels() {
    let sentinels = RedisSentinels::start();
    redis_conforms(RedisConfig::new(sentinels.url())).await;
    redis_conforms(RedisConfig::new(format!("{}/4", sentinels.url()))).await;
}

/// Has only what a store must have.
struct Bare(MemoryStore);

impl Store for Bare {
    fn name(&self) -> &'static str {
        "bare"
    }

    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.0.read(key)
    }

    fn write<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.write(key, value, ttl)
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.remove(key)
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.clear()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.ping()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close()
    }
}

#[tokio::test]
async fn a_store_of_ones_own_says_what_it_cannot_do() {
    let store = Bare(MemoryStore::new(10));
    assert_eq!(store.abilities(), Abilities::default());
    write(&store, "k", "1", None).await;
    assert_eq!(read(&store, "k").await, Some("1".into()));
    let Err(error) = store.increment("k", 1, None).await else { panic!("it cannot count") };
    assert!(matches!(error, StoreError::Unsupported("increment")));
    assert_eq!(error.to_string(), "the store cannot increment");
    assert!(matches!(store.note(1, Note::Cleared, NOON).await, Err(StoreError::Unsupported("note"))));
    assert_eq!(store.replace("k", "2".into(), None, Condition::Unchanged(None)).await.expect("open"), Written::Kept);
}

#[tokio::test]
async fn a_store_that_cannot_scan_refuses_patterns_and_nothing_is_changed() {
    let cache = Cache::builder().store(Bare(MemoryStore::new(10))).build().expect("a cache");
    cache.put("k", "v", None).await.expect("a put");
    let error = cache.remove_matching("k*").await.into_result().expect_err("it cannot");
    assert_eq!(error.to_string(), "remove_matching was refused: the store cannot scan");
    assert!(cache.get("k").await.expect("an answer").is_some());
}
