//! What operators do with a cache, on every engine.

use std::time::Duration;

use tideover::core::breaker::State;
use tideover::core::cache::explain::replay;
use tideover::core::{Instant, Policy, WallTime};
#[cfg(feature = "component")]
use tideover::engine::PolicyEngine;
use tideover::engine::{Engine, NativeEngine, Payload};
use tideover::{
    BreakerMode, Cache, CallOptions, Dependency, EngineKind, Error, LoadError, Loaded, RemovalReason, SnapshotError,
    Taken,
};
use tideover_tests::driving::{exact, seconds};
use tideover_tests::fixed::FixedEngine;

const WHY: CallOptions = CallOptions::new().explain();

fn cache(engine: EngineKind, options: &[(&str, &str)]) -> Cache {
    exact(engine, options).build().expect("a cache")
}

/// Engines under a driver, which show their bytes.
fn engines() -> Vec<Box<dyn Engine>> {
    let policy = || {
        let mut policy = Policy::default();
        policy.set("entries_max", "64").expect("an option");
        policy
    };
    vec![
        Box::new(NativeEngine::new(policy(), 1).expect("an engine")),
        #[cfg(feature = "component")]
        Box::new(PolicyEngine::new(policy(), 1).expect("an engine")),
        Box::new(FixedEngine::new(policy(), 1).expect("an engine")),
    ]
}

#[test]
fn engines_save_the_same_bytes() {
    use tideover::core::{Command, Tag};
    let (now, wall) = (Instant::ZERO + seconds(5), WallTime::from_unix_millis(1_000_000));
    let snapshots = engines().into_iter().map(|engine| {
        let value = Payload::from("v").tagged([Tag::named("t"), Tag::named("u")]);
        let put = Command::Put { key: "k".into(), value, windows: None };
        engine.command(put, now).expect("it does not break");
        engine.set_breaker_mode(Dependency::Store, BreakerMode::ForcedOpen, now).expect("it does not break");
        engine.snapshot(now, wall).expect("it does not break")
    });
    let snapshots: Vec<_> = snapshots.collect();
    assert!(snapshots.windows(2).all(|pair| pair[0] == pair[1]), "{snapshots:?}");
}

#[tokio::test(start_paused = true)]
async fn what_one_engine_has_saved_every_other_restores() {
    for &from in EngineKind::ALL {
        let old = cache(from, &[]);
        old.put_tagged("k", "v", None, ["t"]).await.expect("settled");
        old.put("l", "w", None).await.expect("settled");
        for _ in 0..5 {
            old.get_or_load("m", |_| async { Err(LoadError::unavailable("away")) }).await.expect_err("away");
        }
        let bytes = old.snapshot().await.expect("a snapshot");
        old.shutdown().await;
        assert!(matches!(old.snapshot().await, Err(Error::Closed)));
        for &to in EngineKind::ALL {
            let new = cache(to, &[]);
            let restored = new.restore(bytes.clone(), Taken::Last).await.expect("a snapshot");
            assert_eq!((restored.entries, restored.debts), (2, 0), "{from:?} to {to:?}");
            assert_eq!(new.get("k").await.expect("no error").expect("restored").value, "v");
            assert!(matches!(new.stats().await.expect("a report").load_breaker.state, State::Open { .. }));
            new.invalidate_tag("t").await.expect("settled");
            assert_eq!(new.get("k").await.expect("no error"), None, "{from:?} to {to:?}: the tag is restored, too");
            assert_eq!(new.get("l").await.expect("no error").expect("restored").value, "w");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_snapshot_are_refused_with_a_reason() {
    for &engine in EngineKind::ALL {
        let cache = cache(engine, &[]);
        let good = cache.snapshot().await.expect("a snapshot");
        let mut altered = good.clone();
        *altered.last_mut().expect("bytes") ^= 1;
        let mut later = good;
        later[2] = 99;
        for (bytes, reason) in [
            (Vec::new(), SnapshotError::Foreign),
            (later, SnapshotError::Version(99)),
            (altered, SnapshotError::Checksum),
        ] {
            let refused = cache.restore(bytes, Taken::Last).await.expect_err("no snapshot");
            assert!(matches!(refused, Error::Snapshot(why) if why == reason), "{engine:?}: {refused}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_is_told_why() {
    for &engine in EngineKind::ALL {
        let cache = cache(engine, &[("ttl", "10s"), ("stale_if_error", "1h")]);
        let told = cache.get_or_load_with("k", WHY, |_| async { Ok(Loaded::new("v")) }).await.expect("loaded");
        let story = told.story.expect("the leader asked");
        assert!(replay(cache.policy(), &story).expect("it holds").landed.is_some(), "{engine:?}\n{story}");
        let hit = cache.get_with("k", WHY).await.expect("no error").expect("a hit");
        assert!(replay(cache.policy(), &hit.story.expect("a story")).expect("it holds").answer.is_some());
        let silent = cache.get("k").await.expect("no error").expect("a hit");
        assert_eq!(silent.story, None, "{engine:?}: nobody asked");
        let why = WHY.max_age(Duration::ZERO);
        let failing = |_| async { Err(LoadError::answer("no")) };
        let (failed, story) = cache.get_or_load_explained("l", why, failing).await;
        assert!(failed.is_err() && story.expect("errors have one, too").to_string().contains("Answer"), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_is_told_what_its_leader_asked_for() {
    for &engine in EngineKind::ALL {
        for (leader, told) in [(CallOptions::new(), false), (WHY, true)] {
            let cache = cache(engine, &[]);
            let slow = |_| async {
                tokio::time::sleep(seconds(1)).await;
                Ok(Loaded::new("v"))
            };
            let (led, followed) =
                tokio::join!(cache.get_or_load_with("k", leader, slow), cache.get_or_load_with("k", WHY, slow));
            assert_eq!(led.expect("loaded").story.is_some(), told, "{engine:?}");
            assert_eq!(followed.expect("loaded").story.is_some(), told, "{engine:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_option_explains_every_answer() {
    for &engine in EngineKind::ALL {
        let cache = cache(engine, &[("explain", "true")]);
        for _ in 0..2 {
            let told = cache.get_or_load("k", |_| async { Ok(Loaded::new("v")) }).await.expect("a value");
            assert!(told.story.is_some(), "{engine:?}: {told:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_has_waited_long_enough_is_told_what_had_happened() {
    for &engine in EngineKind::ALL {
        let cache = cache(engine, &[]);
        let options = WHY.timeout(seconds(1));
        let hung = |_| std::future::pending();
        let (answer, story) = cache.get_or_load_explained("k", options, hung).await;
        assert!(matches!(answer, Err(Error::DeadlinePassed)), "{engine:?}");
        assert!(story.expect("a story").to_string().contains("Load"), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn operators_overrule_a_breaker() {
    for &engine in EngineKind::ALL {
        let cache = cache(engine, &[]);
        let load = || {
            cache.get_or_load_with("k", CallOptions::new().max_age(Duration::ZERO), |_| async { Ok(Loaded::new("v")) })
        };
        cache.set_breaker_mode(Dependency::Loader, BreakerMode::ForcedOpen).await.expect("done");
        assert!(matches!(load().await, Err(Error::Open { .. })), "{engine:?}");
        let report = cache.stats().await.expect("a report");
        assert_eq!(
            (report.load_breaker.mode, report.store_breaker.mode),
            (BreakerMode::ForcedOpen, BreakerMode::Automatic)
        );
        assert_eq!(report.load_breaker.state.gauge(), 1, "{engine:?}");
        cache.set_breaker_mode(Dependency::Loader, BreakerMode::Automatic).await.expect("done");
        load().await.expect("loaded");
        assert_eq!(cache.stats().await.expect("a report").load_breaker.stats.successes, 1, "{engine:?}");
        for _ in 0..5 {
            cache.get_or_load("l", |_| async { Err(LoadError::unavailable("away")) }).await.expect_err("away");
        }
        let next = cache.stats().await.expect("a report").load_breaker.next_probe;
        assert!(next.is_some(), "{engine:?}");
        cache.reset_breaker(Dependency::Loader).await.expect("done");
        load().await.expect("loaded");
        assert_eq!(cache.stats().await.expect("a report").load_breaker.next_probe, None, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn removals_are_reported() {
    for &engine in EngineKind::ALL {
        let cache = cache(engine, &[("removals_max", "10"), ("entries_max", "2")]);
        for key in ["a", "b", "c"] {
            cache.put(key, "v", None).await.expect("settled");
        }
        cache.remove("c").await.expect("settled");
        let removals = cache.take_removals().await.expect("reports");
        let expected = [("a".into(), RemovalReason::Evicted), ("c".into(), RemovalReason::Removed)];
        assert_eq!(removals, expected, "{engine:?}");
    }
}
