//! The log of invalidations on a real server: what it costs, what is lost, and what a user may not do.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tideover::core::stamp::{Condition, Stamp, Version, Written};
use tideover::core::{Invalidation, Note, Tag, WallTime, envelope};
use tideover::store::{Heard, RedisBackplane, RedisConfig, RedisStore, Store, StoreError};
use tideover_tests::diary::Diary;
use tideover_tests::proxy::{Fault, Proxy};
use tideover_tests::redis_server::RedisServer;
use tokio::time::{sleep, timeout};

const LOG: &str = "tideover:!log";

const NOON: WallTime = WallTime::from_unix_millis(1_700_000_000_000);

const fn tag(number: u64) -> Note {
    Note::Invalidated(Tag(number), Invalidation::Remove)
}

fn store_on(server: &RedisServer) -> RedisStore {
    RedisStore::new(RedisConfig { backplane: RedisBackplane::Off, ..RedisConfig::new(server.url()) })
        .expect("a good configuration")
}

async fn note(store: &RedisStore, number: u64) {
    store.note(1, tag(number), NOON).await.expect("the server answers");
}

async fn read(store: &RedisStore) {
    store.read("k").await.expect("the server answers");
}

fn notes(heard: &[Heard]) -> Vec<Note> {
    heard.iter().map(|heard| heard.note).collect()
}

/// How often the server was asked for it.
fn calls(server: &RedisServer, command: &str) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]);
    let name = format!("cmdstat_{command}:calls=");
    let calls = stats.lines().find_map(|line| line.strip_prefix(&name)?.split(',').next()?.parse().ok());
    calls.unwrap_or(0)
}

fn tombstone(writer: u64, number: u64) -> bytes::Bytes {
    let stamp = Stamp { version: Version { writer, number }, ..Stamp::default() };
    envelope::tombstone(&stamp).into()
}

#[tokio::test]
async fn nothing_is_asked_for_nobody_and_one_word_for_each_batch_of_those_who_listen() {
    let server = RedisServer::start();
    let store = store_on(&server);
    note(&store, 1).await;
    read(&store).await;
    assert_eq!(calls(&server, "xrevrange"), 0);

    let diary = Diary::on(&store);
    read(&store).await;
    assert_eq!((calls(&server, "xrevrange"), calls(&server, "xrange")), (1, 1));
    for _ in 0..10 {
        read(&store).await;
    }
    assert_eq!((calls(&server, "xrevrange"), calls(&server, "xrange")), (11, 1));
    // What leaves together asks together.
    let keys: Vec<String> = (0..100).map(|number| format!("k{number}")).collect();
    try_join_all(keys.iter().map(|key| store.read(key))).await.expect("the server answers");
    assert!(calls(&server, "xrevrange") <= 15, "{}", calls(&server, "xrevrange"));

    drop(diary);
    let before = calls(&server, "xrevrange");
    read(&store).await;
    assert_eq!(calls(&server, "xrevrange"), before);
}

#[tokio::test]
async fn what_was_trimmed_before_it_was_heard_is_told_as_unknown() {
    let server = RedisServer::start();
    let (one, other) = (store_on(&server), store_on(&server));
    let diary = Diary::on(&one);
    note(&other, 1).await;
    read(&one).await;
    for number in 2..6 {
        note(&other, number).await;
    }
    assert_eq!(server.command(&["XTRIM", LOG, "MAXLEN", "2"]), "3");
    read(&one).await;
    let heard = diary.heard();
    assert_eq!(notes(&heard), [Note::Unknown, tag(1), Note::Unknown, tag(4), tag(5)]);
    assert!(heard.is_sorted_by(|one, next| one.number < next.number));

    // Who comes now knows from where on he knows everything.
    let late = Diary::on(&other);
    read(&other).await;
    assert_eq!(late.heard(), heard[2..]);

    // Trimmed to nothing: what is noted next is heard all the same.
    assert_eq!(server.command(&["XTRIM", LOG, "MAXLEN", "0"]), "2");
    let empty = Diary::on(&store_on(&server));
    drop(empty);
    read(&one).await;
    note(&other, 6).await;
    read(&one).await;
    let heard = diary.heard();
    assert_eq!(heard.last().map(|heard| heard.note), Some(tag(6)));
    assert!(heard.is_sorted_by(|one, next| one.number < next.number));
}

#[tokio::test]
async fn ten_thousand_notes_are_kept_and_heard_in_pages() {
    let server = RedisServer::start();
    let (one, other) = (store_on(&server), store_on(&server));
    for batch in 0..24 {
        let notes = (0..500).map(|number| other.note(1, tag(batch * 500 + number), NOON));
        try_join_all(notes).await.expect("the server answers");
    }
    let diary = Diary::on(&one);
    read(&one).await;
    let heard = diary.heard();
    assert!((10_001..10_200).contains(&heard.len()), "{}", heard.len());
    assert!(heard[0].note == Note::Unknown && heard[0].number > 0);
    assert_eq!(heard.last().map(|heard| heard.note), Some(tag(11_999)));
    assert!(heard.is_sorted_by(|one, next| one.number < next.number));
}

#[tokio::test]
async fn a_server_that_restarts_empty_is_told_as_unknown_once_to_each_and_numbers_grow_on() {
    let mut server = RedisServer::start();
    let stores: Vec<RedisStore> = (0..3).map(|_| store_on(&server)).collect();
    let diaries: Vec<Arc<Diary>> = stores.iter().map(|store| Diary::on(store)).collect();
    note(&stores[0], 1).await;
    join_all(stores.iter().map(read)).await;
    server.restart();
    // All at once, as it will be.
    let again = |_| join_all(stores.iter().map(|store| async move { store.read("k").await.is_ok() }));
    while !again(()).await.into_iter().all(|well| well) {}
    note(&stores[1], 2).await;
    join_all(stores.iter().map(read)).await;
    for diary in &diaries {
        let heard = diary.heard();
        assert!(heard.is_sorted_by(|one, next| one.number < next.number), "{heard:?}");
        assert_eq!(notes(&heard[..2]), [Note::Unknown, tag(1)]);
        assert_eq!(heard.last().map(|heard| heard.note), Some(tag(2)));
        let unknown = heard[2..heard.len() - 1].iter().filter(|heard| heard.note == Note::Unknown).count();
        assert!(heard.len() - 3 == unknown && (1..=3).contains(&unknown), "{heard:?}");
    }
    // It is quiet again.
    let before = calls(&server, "xrange");
    join_all(stores.iter().map(read)).await;
    assert_eq!(calls(&server, "xrange"), before);
}

#[tokio::test]
async fn a_log_that_lost_its_end_goes_on_above_all_that_was_told() {
    let server = RedisServer::start();
    let (one, other) = (store_on(&server), store_on(&server));
    let diary = Diary::on(&one);
    for number in 1..4 {
        note(&other, number).await;
    }
    read(&one).await;
    let heard = diary.heard();
    // As after a failover to a replica that had got the first note only.
    let last = |number: u64| format!("{}-{}", number >> 20, number & 0xf_ffff);
    for lost in &heard[2..] {
        assert_eq!(server.command(&["XDEL", LOG, &last(lost.number)]), "1");
    }
    assert_eq!(server.command(&["XSETID", LOG, &last(heard[1].number)]), "OK");
    read(&one).await;
    assert_eq!(notes(&diary.heard()[4..]), [Note::Unknown]);
    note(&other, 4).await;
    read(&one).await;
    assert_eq!(notes(&diary.heard()[5..]), [tag(4)]);

    // Before anybody has noticed, another note is there.
    let heard = diary.heard();
    // Servers number by the millisecond; one that has forgotten everything within one would begin with the same number.
    sleep(Duration::from_millis(2)).await;
    assert_eq!(server.command(&["DEL", LOG]), "1");
    note(&other, 5).await;
    read(&one).await;
    assert_eq!(notes(&diary.heard()[heard.len()..]), [Note::Unknown, tag(5)]);
    assert!(diary.heard().is_sorted_by(|one, next| one.number < next.number));
}

/// The server's clock was ahead and has been set back. Until it has caught up, the stream goes on in the millisecond of its last
/// note, which has no more room.
#[tokio::test]
async fn a_clock_that_is_set_back_stops_no_notes() {
    const FULL: &str = "4102444800000-1048575";
    let server = RedisServer::start();
    let store = store_on(&server);
    let diary = Diary::on(&store);
    assert_eq!(server.command(&["XADD", LOG, FULL, "w", "1", "c", "", "m", "1700000000000"]), FULL);
    note(&store, 1).await;
    note(&store, 2).await;
    read(&store).await;
    let heard = diary.heard();
    assert_eq!(notes(&heard), [Note::Unknown, Note::Cleared, tag(1), tag(2)]);
    assert!(heard.is_sorted_by(|one, next| one.number < next.number), "{heard:?}");
    let places = server.command(&["XRANGE", LOG, "4102444800001", "+"]);
    assert!(places.contains("4102444800001-0") && places.contains("4102444800001-1"), "{places}");
}

#[tokio::test]
async fn what_a_user_may_not_do_is_named_and_can_be_done_without() {
    let server = RedisServer::start();
    for (name, rules) in [("unscripted", ["-eval", "-evalsha"]), ("unlogged", ["-xadd", "-xrevrange"])] {
        let rules = [&["ACL", "SETUSER", name, "on", ">pw", "~tideover:*", "+@all"][..], &rules].concat();
        assert_eq!(server.command(&rules), "OK");
    }
    let config = |user: &str| RedisConfig::new(format!("redis://{user}:pw@127.0.0.1:{}", server.port()));
    let store = |config| RedisStore::new(config).expect("a good configuration");

    let unscripted = store(config("unscripted"));
    let replaced = unscripted.replace("k", tombstone(1, 1), None, Condition::Always).await;
    let Err(StoreError::Rejected(text)) = replaced else { panic!("{replaced:?}") };
    assert!(text.contains("EVALSHA") && text.contains("`compare`"), "{text}");
    let plain = store(RedisConfig { compare: false, ..config("unscripted") });
    assert!(!plain.abilities().compare && plain.abilities().log);
    for number in [2, 1] {
        let written = plain.replace("k", tombstone(1, number), None, Condition::Unchanged(None)).await;
        assert_eq!(written.expect("the server answers"), Written::Kept);
    }
    for store in [&unscripted, &plain] {
        note(store, 1).await;
    }

    let unlogged = store(config("unlogged"));
    let diary = Diary::on(&unlogged);
    let (noted, found) = (unlogged.note(1, tag(1), NOON).await, unlogged.read("k").await.map(drop));
    for refused in [noted, found] {
        let Err(StoreError::Unavailable(text)) = refused else { panic!("{refused:?}") };
        assert!(text.contains("NOPERM") && text.contains("`log`"), "{text}");
    }
    assert_eq!(diary.heard(), []);
    // It was done before the log was asked for: whoever repeats it counts twice.
    let counted = unlogged.increment("n", 1, None).await;
    assert!(matches!(counted, Err(StoreError::Uncertain(_))), "{counted:?}");
    assert_eq!(server.command(&["GET", "tideover:n"]), "1");
    let deaf = store(RedisConfig { log: false, ..config("unlogged") });
    let diary = Diary::on(&deaf);
    assert!(!deaf.abilities().log && deaf.abilities().compare);
    read(&deaf).await;
    assert!(matches!(deaf.note(1, tag(1), NOON).await, Err(StoreError::Unsupported("note"))));
    assert_eq!(diary.heard(), []);
}

#[tokio::test]
async fn what_others_put_into_our_places_is_replaced_or_named() {
    let server = RedisServer::start();
    let store = store_on(&server);
    // A value of another type counts as nothing.
    assert_eq!(server.command(&["RPUSH", "tideover:list", "1"]), "1");
    let unchanged = Condition::Unchanged(None);
    assert_eq!(store.replace("list", tombstone(1, 1), None, unchanged).await.expect("it answers"), Written::Kept);
    assert_eq!(store.read("list").await.expect("the server answers"), Some(tombstone(1, 1)));

    let diary = Diary::on(&store);
    // Another one's note is anything that may have been noted.
    let _place = server.command(&["XADD", LOG, "5-0", "hello", "world"]);
    read(&store).await;
    assert_eq!(notes(&diary.heard()), [Note::Unknown, Note::Unknown]);
    // A read of what is no value is nothing, and hears what was noted before.
    note(&store_on(&server), 1).await;
    assert_eq!(server.command(&["RPUSH", "tideover:list2", "1"]), "1");
    assert_eq!(store.read("list2").await.expect("the server answers"), None);
    assert_eq!(notes(&diary.heard()[2..]), [tag(1)]);

    let _place = server.command(&["XADD", LOG, "18446744073709551614-7", "c", ""]);
    let refused = store.read("k").await;
    assert!(matches!(&refused, Err(StoreError::Rejected(text)) if text.contains("too great")), "{refused:?}");
    let _place = server.command(&["DEL", LOG]);
    assert_eq!(server.command(&["SET", LOG, "text"]), "OK");
    let refused = store.read("k").await;
    assert!(matches!(&refused, Err(StoreError::Rejected(text)) if text.contains("no stream")), "{refused:?}");
}

#[tokio::test]
async fn who_leaves_while_notes_are_fetched_leaves_nothing_half_told() {
    let server = RedisServer::start();
    let proxy = Proxy::before(server.port());
    let store =
        RedisStore::new(RedisConfig::new(format!("redis://{}", proxy.address()))).expect("a good configuration");
    let other = store_on(&server);
    let diary = Diary::on(&store);
    read(&store).await;
    proxy.does(Fault::Latency(Duration::from_millis(3)));
    for round in 0..30 {
        try_join_all((0..100).map(|number| other.note(1, tag(round * 100 + number), NOON))).await.expect("it answers");
        let impatient = (0..8).map(|caller| timeout(Duration::from_millis(4 + caller * 2), store.read("k")));
        drop(join_all(impatient).await);
    }
    proxy.does(Fault::None);
    read(&store).await;
    let heard = diary.heard();
    assert_eq!(heard.len(), 3_001);
    assert!(heard.is_sorted_by(|one, next| one.number < next.number));
}

#[tokio::test]
async fn closing_ends_what_a_clear_has_begun() {
    let server = RedisServer::start();
    let store = store_on(&server);
    let keys: Vec<String> = (0..30_000).map(|number| format!("k{number}")).collect();
    let entries: Vec<(&str, bytes::Bytes)> = keys.iter().map(|key| (key.as_str(), tombstone(1, 1))).collect();
    store.write_many(&entries, None).await.expect("the server answers");
    store.note(1, Note::Cleared, NOON).await.expect("the server answers");
    store.close().await;
    assert!(calls(&server, "evalsha") < 30_000);
}
