//! What a caller is told of the shared store: what it had to do with an answer, and what became of a write. And calls that
//! require it.

use std::convert::Infallible;

use tideover::testing::{ScriptedStore, Weather};
use tideover::writes::{MemoryStage, StoreStage, Write};
use tideover::{CallOptions, EngineKind, Error, Loaded, Source, StoreUse};
use tideover_tests::driving::{ENGINES, exact, seconds};
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn a_call_that_requires_the_store_fails_without_it_although_its_load_has_succeeded() {
    for &engine in EngineKind::ALL {
        let store = ScriptedStore::default();
        let options = [("store_attempts", "1"), ("store_breaker_failures", "4"), ("store_breaker_open_for", "30s")];
        let cache = exact(engine, &options).store(store.clone()).build().expect("a cache");
        let strict = CallOptions::new().require_store();
        let load = |_| async { Ok(Loaded::new("v")) };
        let there = cache.get_or_load_with("there", strict, load).await.expect("the store answers");
        assert_eq!((there.source, there.store), (Source::Load, Some(StoreUse::Answered)), "{engine:?}");

        store.set(Weather::Away);
        let tolerant = cache.get_or_load("tolerant", load).await.expect("a store that is away fails nobody");
        assert_eq!(tolerant.store, Some(StoreUse::Failed), "{engine:?}");
        let error = cache.get_or_load_with("strict", strict, load).await.expect_err("it was required");
        assert!(error.is_store() && error.is_unavailable(), "{engine:?}: {error}");
        assert!(matches!(error, Error::Store { store: Some(StoreUse::Failed) }), "{engine:?}: {error}");
        let kept = cache.get_or_load_with("strict", strict, load).await.expect("memory has what was loaded");
        assert_eq!((kept.source, kept.store), (Source::Memory, Some(StoreUse::Unasked)), "{engine:?}");
        // Nothing was found, and nobody can tell by that whether there is something.
        assert!(cache.get("unknown").await.expect("tolerated").is_none(), "{engine:?}");
        let unknown = cache.get_with("unknown", strict).await.expect_err("it was required");
        assert!(unknown.is_store(), "{engine:?}: {unknown}");

        // The circuit is open by now.
        let tolerant = cache.get_or_load("open", load).await.expect("a value");
        assert_eq!(tolerant.store, Some(StoreUse::Skipped), "{engine:?}");
        let open = cache.get_or_load_with("open too", strict, load).await.expect_err("it was required");
        assert!(matches!(open, Error::Store { store: Some(StoreUse::Skipped) }), "{engine:?}: {open}");
        let typed = cache.typed::<u32>().get_or_load_with("n", strict, |_| async { Ok::<_, Infallible>(7) }).await;
        assert!(typed.expect_err("it was required").to_string().contains("store is required"), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_store_that_is_required_fails_leader_and_follower_in_time() {
    for &engine in ENGINES {
        let store = ScriptedStore::with(Weather::Hung);
        let cache = exact(engine, &[]).store(store.clone()).build().expect("a cache");
        let strict = CallOptions::new().require_store();
        let load = |_| async { Ok(Loaded::new("v")) };
        let began = Instant::now();
        let (leader, follower) = tokio::join!(cache.get_or_load("k", load), cache.get_or_load_with("k", strict, load));
        assert_eq!(leader.expect("a value").store, Some(StoreUse::Failed), "{engine:?}");
        assert!(follower.expect_err("it was required").is_store(), "{engine:?}");
        assert!(began.elapsed() <= seconds(1), "{engine:?}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_at_the_soft_limit_does_not_do_for_who_requires_the_store() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let options = [("ttl", "1s"), ("stale_if_error", "1h"), ("soft_deadline", "50ms")];
        let cache = exact(engine, &options).store(store.clone()).build().expect("a cache");
        let load = |_| async { Ok(Loaded::new("v")) };
        cache.get_or_load("k", load).await.expect("a value");
        sleep(seconds(2)).await;
        store.set(Weather::Hung);
        let (tolerant, strict) = tokio::join!(
            cache.get_or_load("k", load),
            cache.get_or_load_with("k", CallOptions::new().require_store(), load)
        );
        let tolerant = tolerant.expect("stale");
        assert!(tolerant.is_stale() && tolerant.store.is_none(), "{engine:?}: nobody knows yet");
        assert!(matches!(strict, Err(Error::Store { store: None })), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_tells_what_became_of_each_of_its_stages() {
    for &engine in ENGINES {
        let store = ScriptedStore::default();
        let cache = exact(engine, &[("weight_max", "8")]).store(store.clone()).build().expect("a cache");
        let settled = cache.put("heavy", "too heavy for memory", None).await.expect("a put");
        let heavy = cache.stages(Write::Put { bytes: 20 }, settled);
        assert_eq!((heavy.memory, heavy.store), (MemoryStage::TooHeavy, StoreStage::Done), "{engine:?}");
        let found = cache.get("heavy").await.expect("an answer").expect("the store has it");
        assert_eq!(found.source, Source::Store, "{engine:?}");

        store.set(Weather::Away);
        let settled = cache.invalidate_tag("tag").await.expect("an invalidation");
        let owed = cache.stages(Write::Tag, settled);
        assert!(owed.journaled && owed.memory == MemoryStage::Done && owed.others.is_some(), "{engine:?}");
        assert!(owed.require_store().expect_err("it is away").is_store(), "{engine:?}");
        for settled in [cache.put("k", "v", None).await, cache.remove("k").await, cache.typed().put("n", &7_u32).await]
        {
            let required = settled.expect("owed").require_store().map_err(Error::from);
            assert!(required.expect_err("it is away").is_store(), "{engine:?}");
        }
        let many = cache.remove_many(["a", "b"]).await;
        assert!(many.require_store().expect_err("it is away").is_store(), "{engine:?}");
        let alone = exact(engine, &[]).build().expect("a cache");
        let settled = alone.remove("k").await.expect("a removal");
        let stages = alone.stages(Write::Key, settled).require_store().expect("there is none to be required");
        assert_eq!((stages.store, stages.others), (StoreStage::None, None), "{engine:?}");
    }
}
