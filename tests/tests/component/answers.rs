//! What loaders may say beside a value, and callers beside a key.

use tideover::store::Store;
use tideover::testing::ScriptedStore;
use tideover::{CallOptions, Class, EngineKind, Error, LoadContext, LoadError, Loaded, Refusal, Source, Stale};
use tokio::time::{Instant, sleep};

use super::{Origin, builder, built, known, ms, settle, until_known, value};

pub(super) async fn too_many_tags_are_refused_and_not_kept(engine: EngineKind) {
    let cache = built(builder(engine).set("key_bytes_max", "3").expect("an option"));
    let names = |count: usize| (0..count).map(|number| number.to_string());
    cache.put_tagged("k", "v", None, names(64)).await.expect("64 are allowed");
    let refused = cache.put_tagged("k", "v", None, names(65)).await.expect_err("one too many");
    assert!(matches!(refused, Error::Refused(Refusal::TooManyTags { tags: 65, max: 64 })), "{refused}");
    for refused in [cache.put_tagged("k", "v", None, ["long"]).await, cache.invalidate_tag("long").await] {
        let refused = refused.expect_err("the name is too long");
        assert!(matches!(refused, Error::Refused(Refusal::TagTooLong { bytes: 4, max: 3 })), "{refused}");
    }
    for (key, tags, kept) in [("a", names(64), true), ("b", names(65), false)] {
        let found = Origin::open().ask(&cache, key, Ok(Loaded::new("v").tags(tags))).await;
        assert_eq!(found.expect("no panic").expect("a value").value, "v");
        assert_eq!(known(&cache, key).await.is_some(), kept);
    }
}

pub(super) async fn that_there_is_no_such_thing_is_told_and_remembered(engine: EngineKind) {
    let cache = built(builder(engine).set("negative_ttl", "10s").expect("an option"));
    let origin = Origin::held();
    let calls = [(); 3].map(|()| origin.ask(&cache, "k", Ok(Loaded::absent())));
    settle().await;
    origin.let_through(1);
    for call in calls {
        let error = call.await.expect("no panic").expect_err("nothing");
        assert!(error.is_absent() && !error.is_unavailable() && error.retry_after().is_none(), "{error}");
    }
    sleep(ms(4_000)).await;
    let error = origin.ask(&cache, "k", value("v")).await.expect("no panic").expect_err("nothing, as remembered");
    let wait = error.retry_after().expect("it is known");
    assert!(error.is_absent() && wait > ms(5_900) && wait <= ms(6_000), "{error}: {wait:?}");
    assert_eq!((known(&cache, "k").await, origin.loads()), (None, 1));
    sleep(wait).await;
    origin.let_through(1);
    assert_eq!(origin.ask(&cache, "k", value("v")).await.expect("no panic").expect("a value").value, "v");
}

pub(super) async fn what_is_still_true_is_young_again(engine: EngineKind) {
    let (cache, origin) = (built(builder(engine).ttl(ms(100)).set("keep", "1m").expect("an option")), Origin::open());
    cache.put("k", "v", None).await.expect("a change");
    sleep(ms(100)).await;
    let load = |context: LoadContext| async move {
        assert_eq!(context.previous.expect("it is kept").value, "v");
        Ok(Loaded::not_modified())
    };
    let found = cache.get_or_load("k", load).await.expect("a value");
    assert_eq!((&found.value[..], found.age, found.source), (&b"v"[..], ms(0), Source::Load));
    sleep(ms(98)).await;
    assert_eq!(known(&cache, "k").await.expect("a hit"), "v");
    let broken = origin.ask(&cache, "other", Ok(Loaded::not_modified())).await.expect("no panic");
    assert_eq!(broken.expect_err("no value").load_error().map(LoadError::class), Some(Class::Panicked));
}

pub(super) async fn what_a_loader_is_told_of_the_value_it_refreshes(engine: EngineKind) {
    let store = ScriptedStore::default();
    // What loads took is kept for whoever wants to refresh early.
    let cache =
        built(builder(engine).store(store.clone()).ttl(ms(60_000)).set("early_refresh", "1").expect("an option"));
    let load = |context: LoadContext| async move {
        sleep(ms(50)).await;
        let told = context.previous.map(|older| (older.value.len(), older.load_time, older.doubted));
        Ok(Loaded::new(format!("{told:?}")))
    };
    let ask = async |options| cache.get_or_load_with("k", options, load).await.expect("a value").value;
    assert_eq!(ask(CallOptions::new()).await, "None");
    settle().await;
    // Somebody else clears the store, and nobody can say what else he has done.
    store.clear().await.expect("a change");
    settle().await;
    assert_eq!(ask(CallOptions::new()).await, "Some((4, 50ms, true))");
    settle().await;
    assert_eq!(ask(CallOptions::new().max_age(ms(0))).await, "Some((21, 50ms, false))");
}

pub(super) async fn who_wants_something_newer_waits_for_it(engine: EngineKind) {
    let cache = built(builder(engine).ttl(ms(60_000)));
    cache.put("k", "old", None).await.expect("a change");
    sleep(ms(1_000)).await;
    let ask = async |max_age, value: &'static str| {
        let options = CallOptions::new().max_age(ms(max_age));
        cache.get_or_load_with("k", options, move |_| async move { Ok(Loaded::new(value)) }).await.expect("a value")
    };
    assert_eq!(ask(1_005, "new").await.value, "old");
    assert!(cache.get_with("k", CallOptions::new().max_age(ms(900))).await.expect("no failure").is_none());
    let found = ask(900, "new").await;
    assert_eq!((&found.value[..], found.source), (&b"new"[..], Source::Load));
    assert_eq!(known(&cache, "k").await.expect("a hit"), "new");
}

pub(super) async fn a_failure_is_remembered_where_the_policy_says_so(engine: EngineKind) {
    let (cache, origin) = (built(builder(engine).set("answer_ttl", "5s").expect("an option")), Origin::open());
    let missing = || Err(LoadError::answer("no such thing"));
    let error = origin.ask(&cache, "k", missing()).await.expect("no panic").expect_err("an answer");
    assert_eq!(error.load_error().map(LoadError::class), Some(Class::Answer));
    let error = origin.ask(&cache, "k", value("v")).await.expect("no panic").expect_err("as remembered");
    assert!(matches!(error, Error::Remembered { class: Class::Answer, .. }) && !error.is_unavailable(), "{error}");
    assert!(error.retry_after().is_some_and(|wait| wait <= ms(5_000)), "{error}");
    assert_eq!(origin.loads(), 1);
    let isolated = origin.ask(&cache, "other", Err(LoadError::isolated("one record"))).await.expect("no panic");
    assert!(isolated.expect_err("no value").is_unavailable());
    assert_eq!(cache.stats().await.expect("stats").load_breaker.stats.failures, 0);
}

pub(super) async fn at_the_soft_limit_stale_stands_in_and_the_load_goes_on(engine: EngineKind) {
    let soft = builder(engine).ttl(ms(100)).stale_if_error(ms(60_000)).set("soft_deadline", "500ms");
    let (cache, origin) = (built(soft.expect("an option")), Origin::held());
    cache.put("k", "old", None).await.expect("a change");
    sleep(ms(100)).await;
    let began = Instant::now();
    let found =
        origin.ask(&cache, "k", Ok(Loaded::new("new").ttl(ms(60_000)))).await.expect("no panic").expect("stale");
    assert_eq!((&found.value[..], found.stale), (&b"old"[..], Some(Stale::IfError)));
    assert_eq!(began.elapsed().as_millis() / 10, 50);
    origin.let_through(1);
    until_known(&cache, "k", "new").await;
    assert_eq!((origin.loads(), origin.dropped()), (1, 0));
}

pub(super) async fn a_callers_own_limit_holds_whatever_the_others_are(engine: EngineKind) {
    for soft in ["0", "100ms", "20s"] {
        let (cache, origin) = (built(builder(engine).set("soft_deadline", soft).expect("an option")), Origin::held());
        let began = Instant::now();
        let load = move |_| origin.clone().answer(value("v"));
        let error = cache.get_or_load_with("k", CallOptions::new().timeout(ms(300)), load).await.expect_err("too late");
        assert!(matches!(error, Error::DeadlinePassed), "{error}");
        assert_eq!(began.elapsed().as_millis() / 10, 30, "{soft}");
    }
}

pub(super) async fn however_often_a_call_asks_again_it_waits_no_longer(engine: EngineKind) {
    let cache = built(builder(engine).set("call_deadline", "1s").expect("an option"));
    let ask = || {
        let cache = cache.clone();
        let load = |_| async {
            sleep(ms(700)).await;
            Ok(Loaded::new("mine").private())
        };
        tokio::spawn(async move { cache.get_or_load("k", load).await })
    };
    let (began, leader, follower) = (Instant::now(), ask(), ask());
    assert_eq!(leader.await.expect("no panic").expect("a value").value, "mine");
    assert_eq!(began.elapsed().as_millis() / 10, 70);
    let late = follower.await.expect("no panic").expect_err("its own load would end at 1.4 s");
    assert!(matches!(late, Error::DeadlinePassed), "{late}");
    assert_eq!(began.elapsed().as_millis() / 10, 100);
}

pub(super) async fn what_was_invalidated_is_loaded_anew(engine: EngineKind) {
    let swr = builder(engine).ttl(ms(60_000)).stale_while_revalidate(ms(60_000));
    let (cache, origin) = (built(swr), Origin::open());
    let user = |name: &'static str| Ok(Loaded::new(name).tags(["user", "user:7"]));
    for invalidated in ["user", "user:7"] {
        origin.ask(&cache, "k", user("Ada")).await.expect("no panic").expect("a value");
        cache.invalidate_tag(invalidated).await.expect("a change");
        assert_eq!(known(&cache, "k").await, None);
    }
    cache.put_tagged("k", "Ada", None, ["user"]).await.expect("a change");
    for expire in [true, false] {
        if expire { cache.expire("k").await } else { cache.expire_tag("user").await }.expect("a change");
        let found = origin.ask(&cache, "k", user("Ada Lovelace")).await.expect("no panic").expect("stale");
        assert_eq!(found.stale, Some(Stale::WhileRevalidate));
        settle().await;
        assert_eq!(cache.get("k").await.expect("no failure").expect("a hit").stale, None);
    }
}
