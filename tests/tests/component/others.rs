//! What caches on one store know of each other's changes, whatever engines they have.

use tideover::testing::{ScriptedStore, Weather};
use tideover::{Builder, Cache, EngineKind, Loaded, Settled, Source, Stale, Taken, Windows};
use tokio::time::sleep;

use super::{Origin, builder, built, known, ms, settle, until_known, value};

/// A cache of each engine beside one of `engine`, both as `made`, and the store that the two share.
fn pairs(engine: EngineKind, made: impl Fn(Builder) -> Builder) -> impl Iterator<Item = (Cache, Cache, ScriptedStore)> {
    EngineKind::ALL.iter().map(move |other| {
        let store = ScriptedStore::default();
        let [one, other] = [engine, *other].map(|engine| built(made(builder(engine)).store(store.clone())));
        (one, other, store)
    })
}

/// What somebody finds who has nothing in memory.
async fn in_store(store: &ScriptedStore, key: &str) -> Option<bytes::Bytes> {
    known(&built(builder(EngineKind::Native).store(store.clone())), key).await
}

pub(super) async fn a_tagged_value_is_found_in_the_store_by_others(engine: EngineKind) {
    for (one, other, _store) in pairs(engine, |builder| builder) {
        assert_eq!(one.put_tagged("put", "v", None, ["t", "u"]).await.expect("a change"), Settled::Store);
        let loaded = Origin::open().ask(&one, "loaded", Ok(Loaded::new("w").tags(["u"]))).await;
        assert_eq!(loaded.expect("no panic").expect("a value").source, Source::Load);
        settle().await;
        for (key, value) in [("put", "v"), ("loaded", "w")] {
            let found = other.get(key).await.expect("no failure").expect("in the store");
            assert_eq!((&found.value[..], found.source), (value.as_bytes(), Source::Store));
        }
        // It still bears its tags.
        assert_eq!(other.invalidate_tag("u").await.expect("a change"), Settled::Store);
        assert_eq!([known(&other, "put").await, known(&other, "loaded").await], [None, None]);
    }
}

pub(super) async fn an_invalidated_tag_reaches_the_memory_and_the_store_of_all(engine: EngineKind) {
    for (one, other, store) in pairs(engine, |builder| builder) {
        one.put_tagged("k", "v", None, ["t"]).await.expect("a change");
        one.put_tagged("another", "w", None, ["u"]).await.expect("a change");
        for key in ["k", "another"] {
            assert!(known(&other, key).await.is_some(), "now it is in the memory of both");
        }
        assert_eq!(one.invalidate_tag("t").await.expect("a change"), Settled::Store);
        assert_eq!([known(&one, "k").await, known(&other, "k").await, in_store(&store, "k").await], [None, None, None]);
        for cache in [&one, &other] {
            let found = cache.get("another").await.expect("no failure").expect("it does not bear the tag");
            assert_eq!(found.source, Source::Memory);
        }
        assert_eq!(other.put_tagged("k", "new", None, ["t"]).await.expect("a change"), Settled::Store);
        assert_eq!(known(&one, "k").await.expect("newer than the invalidation"), "new");
        assert_eq!(in_store(&store, "k").await.expect("newer than the invalidation"), "new");
    }
}

pub(super) async fn what_one_puts_or_removes_leaves_the_memory_of_the_other_at_once(engine: EngineKind) {
    for (one, other, _store) in pairs(engine, |builder| builder) {
        for key in ["put", "removed", "left alone"] {
            one.put(key, "old", None).await.expect("a change");
            assert!(known(&other, key).await.is_some(), "now it is in the memory of both");
        }
        one.put("put", "new", None).await.expect("a change");
        one.remove("removed").await.expect("a change");
        settle().await;
        assert_eq!(known(&other, "put").await.expect("there is a newer one"), "new");
        assert_eq!(known(&other, "removed").await, None);
        for cache in [&one, &other] {
            let found = cache.get("left alone").await.expect("no failure").expect("nobody has changed it");
            assert_eq!(found.source, Source::Memory);
        }
        let found = one.get("put").await.expect("no failure").expect("it is there");
        assert_eq!(found.source, Source::Memory, "its own write evicts nothing");
    }
}

pub(super) async fn of_all_processes_one_loads_a_key(engine: EngineKind) {
    let leasing = |builder: Builder| builder.set("lease", "true").expect("an option");
    for (one, other, _store) in pairs(engine, leasing) {
        let origin = Origin::held();
        let [first, second] = [&one, &other].map(|cache| origin.ask(cache, "k", value("loaded")));
        sleep(ms(2_000)).await;
        assert_eq!(origin.loads(), 1, "the other one waits, although it lasts");
        origin.let_through(1);
        for answer in [first, second] {
            assert_eq!(answer.await.expect("no panic").expect("a value").value, "loaded");
        }
        assert_eq!(origin.loads(), 1);
        settle().await;
        // It was given back: who has nothing else to wait for has it at once.
        let gone = origin.ask(&other, "gone", value("loaded"));
        sleep(ms(10)).await;
        gone.abort();
        let again = origin.ask(&one, "gone", value("again"));
        sleep(ms(100)).await;
        assert_eq!(origin.loads(), 3);
        origin.let_through(2);
        assert_eq!(again.await.expect("no panic").expect("a value").value, "again");
    }
}

pub(super) async fn a_clear_reaches_the_memory_and_the_store_of_all(engine: EngineKind) {
    for (one, other, store) in pairs(engine, |builder| builder) {
        one.put("k", "v", None).await.expect("a change");
        one.put_tagged("tagged", "v", None, ["t"]).await.expect("a change");
        for key in ["k", "tagged"] {
            assert!(known(&other, key).await.is_some(), "now it is in the memory of both");
        }
        assert_eq!(one.clear().await.expect("a change"), Settled::Store);
        for key in ["k", "tagged"] {
            assert_eq!(
                [known(&one, key).await, known(&other, key).await, in_store(&store, key).await],
                [None, None, None]
            );
        }
        other.put("k", "new", None).await.expect("a change");
        assert_eq!(known(&one, "k").await.expect("newer than the clear"), "new");
    }
}

pub(super) async fn a_change_of_one_is_not_undone_by_a_load_of_another_that_began_before_it(engine: EngineKind) {
    for (one, other, store) in pairs(engine, |builder| builder) {
        // Stale, so that the load looks at it and goes on to the origin.
        let stale = Windows { ttl: Some(ms(0)), keep: ms(60_000), ..Windows::FOREVER };
        other.put("removed", "older", Some(stale)).await.expect("a change");
        other.put("put", "older", Some(stale)).await.expect("a change");
        let origin = Origin::held();
        let loads = ["removed", "put", "nowhere"].map(|key| origin.ask(&one, key, value("loaded before")));
        sleep(ms(10)).await;
        assert_eq!(origin.loads(), 3);
        other.remove("removed").await.expect("a change");
        other.remove("nowhere").await.expect("a change");
        other.put("put", "newer", None).await.expect("a change");
        origin.let_through(3);
        for load in loads {
            assert_eq!(load.await.expect("no panic").expect("a value").value, "loaded before");
        }
        settle().await;
        for key in ["removed", "nowhere"] {
            assert_eq!(store.value(key).await, None, "{key}");
            assert_eq!([known(&one, key).await, known(&other, key).await], [None, None], "{key}");
        }
        assert_eq!(store.value("put").await.expect("put"), "newer");
        for cache in [&one, &other] {
            assert_eq!(known(cache, "put").await.expect("put"), "newer");
        }
        // It was told of the changes before the loads were over; otherwise the store would have refused what they brought.
        let stats = one.stats().await.expect("stats");
        assert_eq!((stats.count("fenced"), stats.count("overtaken")), (3, 0));
    }
}

pub(super) async fn what_is_invalidated_while_another_loads_it_is_not_kept(engine: EngineKind) {
    for (one, other, store) in pairs(engine, |builder| builder) {
        let origin = Origin::held();
        let load = origin.ask(&one, "k", Ok(Loaded::new("before").tags(["t"])));
        sleep(ms(10)).await;
        assert_eq!(origin.loads(), 1);
        other.invalidate_tag("t").await.expect("a change");
        origin.let_through(1);
        assert_eq!(load.await.expect("no panic").expect("a value").value, "before");
        settle().await;
        assert_eq!([known(&one, "k").await, known(&other, "k").await, in_store(&store, "k").await], [None, None, None]);
    }
}

pub(super) async fn a_tag_that_expires_leaves_stale_with_all(engine: EngineKind) {
    for (one, other, _store) in pairs(engine, |builder| builder.stale_while_revalidate(ms(60_000))) {
        one.put_tagged("k", "v", None, ["t"]).await.expect("a change");
        one.put_tagged("in the store alone", "v", None, ["t"]).await.expect("a change");
        assert!(known(&other, "k").await.is_some(), "now it is in the memory of both");
        sleep(ms(20)).await;
        assert_eq!(one.expire_tag("t").await.expect("a change"), Settled::Store);
        sleep(ms(20)).await;
        let origin = Origin::held();
        for key in ["k", "in the store alone"] {
            let found = origin.ask(&other, key, value("new")).await.expect("no panic").expect("stale");
            assert_eq!((&found.value[..], found.stale), (&b"v"[..], Some(Stale::WhileRevalidate)), "{key}");
        }
        origin.let_through(2);
        until_known(&other, "k", "new").await;
        until_known(&other, "in the store alone", "new").await;
    }
}

pub(super) async fn an_invalidation_while_the_store_is_away_reaches_others_when_it_is_back(engine: EngineKind) {
    for (one, other, store) in pairs(engine, |builder| builder) {
        one.put_tagged("k", "v", None, ["t"]).await.expect("a change");
        assert!(known(&other, "k").await.is_some(), "now it is in the memory of both");
        store.set(Weather::Away);
        assert_eq!(one.invalidate_tag("t").await.expect("a change"), Settled::Journaled);
        assert_eq!(known(&one, "k").await, None);
        store.set(Weather::Fair);
        while one.stats().await.expect("stats").count("owed_tags") > 0 {
            sleep(ms(100)).await;
        }
        assert_eq!([known(&one, "k").await, known(&other, "k").await, in_store(&store, "k").await], [None, None, None]);
    }
}

pub(super) async fn what_was_invalidated_since_a_snapshot_is_not_restored(engine: EngineKind) {
    for (one, other, store) in pairs(engine, |builder| builder) {
        other.invalidate_tag("long ago").await.expect("a change");
        one.put_tagged("k", "v", None, ["t", "long ago"]).await.expect("a change");
        one.put_tagged("another", "v", None, ["u", "long ago"]).await.expect("a change");
        let bytes = one.snapshot().await.expect("a snapshot");
        one.shutdown().await;
        other.invalidate_tag("t").await.expect("a change");
        let new = built(builder(engine).store(store.clone()));
        // It has heard the log before, and hears the rest of it for what is restored.
        assert_eq!(known(&new, "nothing").await, None);
        settle().await;
        assert_eq!(new.restore(bytes, Taken::Last).await.expect("a snapshot").entries, 2);
        assert_eq!(known(&new, "k").await, None);
        // Somebody may have changed it since then, so the store is asked.
        let found = new.get("another").await.expect("no failure").expect("restored");
        assert_eq!(found.source, Source::Store);
        assert_eq!(new.get("another").await.expect("no failure").expect("it was right").source, Source::Memory);
    }
}
