//! Direct operations on a store that works, fails, hangs and comes back, under paused time.

mod as_if_nothing_happened;
mod outage;
mod shards;

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, advance, sleep};

use super::{Answer, Direct};
use crate::store::{Cursor, Remaining};
use crate::testing::{self, ScriptedStore, Weather};
use crate::{BreakerMode, Cache, Error, Source};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const MINUTE: Option<Duration> = Some(seconds(60));

/// A process with that store.
fn process(store: &ScriptedStore, options: &[(&str, &str)]) -> Cache {
    let builder = testing::builder().store(store.clone());
    let builder = options.iter().fold(builder, |builder, (name, text)| builder.set(name, text).expect("an option"));
    builder.build().expect("a cache")
}

fn direct(store: &ScriptedStore) -> Direct {
    process(store, &[]).direct()
}

/// What another process finds in the store, which is well.
async fn found(store: &ScriptedStore, key: &str) -> Option<Bytes> {
    let found = direct(store).get(key).await.expect("it is answered");
    assert_eq!(found.source, Source::Store);
    found.value
}

fn text(text: &'static str) -> Option<Bytes> {
    Some(text.into())
}

/// Every operation once or twice, on keys that nobody has used; each answer is to come from there.
async fn every_operation(direct: &Direct, from: Source) {
    fn value<T>(answer: Result<Answer<T>, Error>, from: Source) -> T {
        let answer = answer.expect("it is answered");
        assert_eq!(answer.source, from);
        answer.value
    }
    value(direct.ping().await, from);
    value(direct.put("a", "1", None).await, from);
    value(direct.put_many(&[("b", "2".into()), ("c*", "3".into())], MINUTE).await, from);
    assert_eq!(value(direct.get("a").await, from), text("1"));
    assert_eq!(value(direct.get_many(&["b", "none", "c*"]).await, from), [text("2"), None, text("3")]);
    assert!(value(direct.exists("a").await, from) && !value(direct.exists("none").await, from));
    assert!(!value(direct.put_if_absent("a", "x", None).await, from));
    assert!(value(direct.put_if_absent("d", "4", None).await, from));
    assert!(!value(direct.put_if_present("none", "x", None).await, from));
    assert!(value(direct.put_if_present("d", "5", None).await, from));
    assert_eq!(value(direct.take("d").await, from), text("5"));
    assert_eq!(value(direct.take("d").await, from), None);
    assert_eq!(value(direct.increment("n", 5, MINUTE).await, from), 5);
    assert_eq!(value(direct.increment("n", -7, None).await, from), -2);
    assert_eq!(value(direct.remaining("n").await, from), Remaining::Left(seconds(60)), "it keeps its end");
    assert!(value(direct.set_ttl("n", None).await, from) && !value(direct.set_ttl("none", MINUTE).await, from));
    assert_eq!(value(direct.remaining("n").await, from), Remaining::Forever);
    assert_eq!(value(direct.remaining("none").await, from), Remaining::NoSuchKey);
    let page = value(direct.scan("*", &Cursor::default(), 100).await, from);
    let mut keys = page.keys;
    keys.sort();
    assert_eq!((keys, page.next), (["a", "b", "c*", "n"].map(str::to_owned).to_vec(), None));
    assert_eq!(value(direct.remove_matching(r"c\*").await, from), 1);
    assert!(value(direct.remove("a").await, from) && !value(direct.remove("a").await, from));
    assert_eq!(value(direct.remove_many(&["b", "none"]).await, from), 1);
    assert!(value(direct.exists("n").await, from));
    value(direct.clear().await, from);
    assert!(!value(direct.exists("n").await, from));
}

#[tokio::test(start_paused = true)]
async fn every_operation_means_the_same_whoever_answers() {
    every_operation(&testing::cache().direct(), Source::Memory).await;
    every_operation(&direct(&ScriptedStore::default()), Source::Store).await;
    every_operation(&direct(&ScriptedStore::with(Weather::Away)), Source::Fallback).await;
    let forced = direct(&ScriptedStore::default());
    forced.set_breaker_mode(BreakerMode::ForcedOpen);
    every_operation(&forced, Source::Fallback).await;
}

#[tokio::test(start_paused = true)]
async fn text_is_not_counted_on_whoever_answers() {
    for weather in [Weather::Fair, Weather::Away] {
        let direct = direct(&ScriptedStore::with(weather));
        direct.put("text", "one", None).await.expect("it is kept");
        direct.put("full", i64::MAX.to_string(), None).await.expect("it is kept");
        for key in ["text", "full"] {
            let refused = direct.increment(key, 1, None).await;
            assert!(matches!(refused, Err(Error::StoreRefused { operation: "increment", .. })), "{weather:?} {key}");
        }
        let told = format!("{:?}", direct.increment("text", 1, None).await);
        assert!(!told.contains("text\"") && !told.contains("one"), "{told}");
        assert_eq!(direct.get("text").await.expect("it is answered").value, text("one"));
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_apart_from_those_of_the_cache() {
    let store = ScriptedStore::default();
    let (cache, other) = (process(&store, &[]), process(&store, &[]));
    cache.put("k", "cached", None).await.expect("a put");
    cache.direct().put("k", "direct", None).await.expect("a put");
    assert_eq!(other.get("k").await.expect("no error").expect("it is there").value, "cached");
    assert_eq!(other.direct().get("k").await.expect("it is answered").value, text("direct"));
    cache.direct().remove_matching("*").await.expect("a removal");
    assert!(other.get("k").await.expect("no error").is_some());

    cache.direct().increment("n", 1, None).await.expect("a count");
    cache.clear().await.expect("a clear");
    assert_eq!(found(&store, "n").await, text("1"), "a clear of the cache is no clear of these");
    assert!(other.get("k").await.expect("no error").is_none());
    assert_eq!(other.stats().await.expect("a report").count("missed"), 1, "only what listening begins with");
    for refused in [
        cache.put("!direct:n", "1", None).await.map(drop),
        cache.remove("!direct:n").await.map(drop),
        cache.get("!direct:n").await.map(drop),
    ] {
        assert!(matches!(refused, Err(Error::ReservedKey)));
    }
    // Nor does one of its keys look like one of the store's own.
    cache.direct().put("lease:k", "mine", None).await.expect("a put");
    cache.direct().put("!direct:", "mine", None).await.expect("a put");
    assert_eq!(cache.direct().scan("*", &Cursor::default(), 9).await.expect("a page").value.keys.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn changes_by_direct_operations_are_not_told_to_caches() {
    let store = ScriptedStore::default();
    let (cache, other) = (process(&store, &[]), process(&store, &[]));
    for number in 0..10 {
        cache.direct().increment(&format!("n{number}"), 1, None).await.expect("a count");
    }
    cache.direct().clear().await.expect("a clear");
    assert_eq!(other.stats().await.expect("a report").count("changed_elsewhere"), 0);
}

#[tokio::test(start_paused = true)]
async fn limits_are_refusals_and_change_nothing() {
    let options = &[("key_bytes_max", "8"), ("value_bytes_max", "4")];
    let direct = process(&ScriptedStore::default(), options).direct();
    let long = "123456789";
    assert!(matches!(direct.get(long).await, Err(Error::Refused(_))));
    assert!(matches!(direct.increment(long, 1, None).await, Err(Error::Refused(_))));
    assert!(matches!(direct.scan(long, &Cursor::default(), 1).await, Err(Error::Refused(_))));
    assert!(matches!(direct.put("k", "12345", None).await, Err(Error::Refused(_))));
    let entries = [("a", Bytes::from("1")), ("b", "12345".into())];
    assert!(matches!(direct.put_many(&entries, None).await, Err(Error::Refused(_))));
    assert!(!direct.exists("a").await.expect("it is answered").value);
    let foreign = direct.scan("*", &Cursor::new("7"), 1).await;
    assert!(matches!(foreign, Err(Error::StoreRefused { operation: "scan", .. })));
}

#[tokio::test(start_paused = true)]
async fn a_scan_finds_every_key_although_the_store_goes_away_and_comes_back() {
    let store = ScriptedStore::default();
    let direct = direct(&store);
    for number in 0..30 {
        direct.put(&format!("k{number:02}"), "v", None).await.expect("a put");
    }
    let (mut found, mut next, mut pages) = (std::collections::BTreeSet::new(), Some(Cursor::default()), 0);
    while let Some(cursor) = next {
        store.set(if (2..5).contains(&pages) { Weather::Away } else { Weather::Fair });
        let page = direct.scan("k*", &cursor, 7).await.expect("a page").value;
        found.extend(page.keys);
        (next, pages) = (page.next, pages + 1);
    }
    assert_eq!(found.len(), 30);
    assert!(pages > 30 / 7, "it began anew");
}

#[tokio::test(start_paused = true)]
async fn memory_alone_is_bounded() {
    let cache = testing::builder().set("entries_max", "10").expect("an option").build().expect("a cache");
    let direct = cache.direct();
    for number in 0..100 {
        direct.put(&number.to_string(), "v", None).await.expect("a put");
    }
    assert_eq!(direct.remove_matching("*").await.expect("a removal").value, 10);
    assert_eq!(direct.stats().owed, 0, "there is no store to owe to");
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_shut_down_takes_no_more() {
    let cache = testing::cache();
    cache.shutdown().await;
    assert!(matches!(cache.direct().get("k").await, Err(Error::Closed)));
    assert!(matches!(cache.direct().put("k", "v", None).await, Err(Error::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_time_to_live_ends_exactly_then() {
    for weather in [Weather::Fair, Weather::Away] {
        let direct = direct(&ScriptedStore::with(weather));
        direct.put("k", "v", MINUTE).await.expect("a put");
        advance(Duration::from_nanos(59_999_000_000)).await;
        assert!(direct.exists("k").await.expect("it is answered").value, "{weather:?}");
        advance(Duration::from_millis(1)).await;
        assert!(!direct.exists("k").await.expect("it is answered").value, "{weather:?}");
        direct.put("k", "v", Some(Duration::ZERO)).await.expect("a put");
        assert!(!direct.exists("k").await.expect("it is answered").value, "{weather:?}: zero ends at once");
    }
}
