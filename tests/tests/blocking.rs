//! The cache for threads: the same machine under threads that wait. Time stands and is moved by the test; what is waited for
//! besides is an event, never a while.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use tideover::blocking::Cache;
use tideover::store::MemoryStore;
use tideover::testing::{self, Clock, ScriptedLoader, ScriptedStore, Weather};
use tideover::{
    BreakerMode, CallError, CallOptions, Class, Dependency, EngineKind, Error, LoadError, Loaded, Refusal, Settled,
    Source, Stale, Taken,
};
use tideover_tests::driving::seconds;

/// A cache of that engine on a clock that stands.
fn stopped(engine: EngineKind, options: &[(&str, &str)]) -> (Cache, Clock) {
    let clock = Clock::stopped();
    let builder = testing::builder().engine(engine).clock(&clock);
    let builder = options.iter().fold(builder, |builder, (option, text)| builder.set(option, text).expect("an option"));
    (builder.build_blocking().expect("a cache"), clock)
}

/// Waits until a count of the cache is what it is to be.
fn until_counted(cache: &Cache, name: &str, count: u64) {
    until(|| cache.stats().expect("counts").count(name) >= count);
}

fn until(holds: impl Fn() -> bool) {
    while !holds() {
        thread::yield_now();
    }
}

#[test]
fn five_hundred_threads_that_miss_a_key_are_one_load() {
    for &engine in EngineKind::ALL {
        let (cache, _clock) = stopped(engine, &[]);
        let origin = ScriptedLoader::new().held().value(Loaded::new("v"));
        let together = Barrier::new(500);
        thread::scope(|scope| {
            for _ in 0..500 {
                scope.spawn(|| {
                    together.wait();
                    let answer = cache.get_or_load("k", origin.blocking_loader()).expect("a value");
                    assert_eq!(answer.value, "v");
                });
            }
            until_counted(&cache, "coalesced", 499);
            origin.release();
        });
        origin.assert_played();
        assert_eq!(cache.stats().expect("counts").count("loads"), 1, "{engine:?}");
    }
}

#[test]
fn a_thread_that_gives_up_takes_nobody_with_it() {
    for &engine in EngineKind::ALL {
        let (cache, clock) = stopped(engine, &[]);
        let origin = ScriptedLoader::new().held().value(Loaded::new("v"));
        thread::scope(|scope| {
            let impatient = scope.spawn(|| {
                let options = CallOptions::new().timeout(seconds(1));
                cache.get_or_load_with("k", options, origin.blocking_loader())
            });
            until_counted(&cache, "loading", 1);
            let patient = scope.spawn(|| cache.get_or_load("k", origin.blocking_loader()));
            until_counted(&cache, "coalesced", 1);
            clock.advance(seconds(1));
            let gone = impatient.join().expect("no panic");
            assert!(matches!(gone, Err(Error::DeadlinePassed)), "{engine:?}: {gone:?}");
            origin.release();
            assert_eq!(patient.join().expect("no panic").expect("a value").value, "v", "{engine:?}");
        });
        assert_eq!(origin.calls(), 1);
    }
}

#[test]
fn a_hung_loader_holds_its_callers_until_the_deadline_and_its_thread_until_it_returns() {
    for &engine in EngineKind::ALL {
        let (cache, clock) = stopped(engine, &[("load_deadline", "10s")]);
        let cache = cache.loader_threads_max(1);
        let hung = ScriptedLoader::new().held().value(Loaded::new("late"));
        thread::scope(|scope| {
            let caller = scope.spawn(|| cache.get_or_load("k", hung.blocking_loader()));
            until_counted(&cache, "loading", 1);
            until(|| hung.calls() == 1);
            clock.advance(seconds(10));
            let answer = caller.join().expect("no panic");
            assert!(matches!(&answer, Err(Error::Load(error)) if error.class() == Class::TimedOut), "{answer:?}");
        });
        let threads = cache.loader_threads();
        assert_eq!((threads.busy, threads.stuck, threads.max), (1, 1, 1), "{engine:?}");

        let refused = cache.get_or_load("other", |_| Ok(Loaded::new("v")));
        assert!(matches!(refused, Err(Error::Overloaded)), "{engine:?}: {refused:?}");
        cache.put("kept", "v", None).expect("puts need no thread");

        hung.release();
        until(|| cache.loader_threads().busy == 0);
        assert_eq!(cache.loader_threads().stuck, 0);
        assert_eq!(cache.get_or_load("other", |_| Ok(Loaded::new("v"))).expect("a value").value, "v", "{engine:?}");
        assert!(cache.get("k").expect("no failure").is_none(), "what came too late is not kept");
    }
}

#[test]
fn a_load_without_a_thread_waits_for_one_until_its_deadline_and_stale_stands_in() {
    let (cache, clock) =
        stopped(EngineKind::Native, &[("ttl", "1s"), ("stale_if_error", "1h"), ("load_deadline", "10s")]);
    let cache = cache.loader_threads_max(1);
    cache.put("old", "stale", None).expect("a change");
    clock.advance(seconds(1));
    let hung = ScriptedLoader::new().held().value(Loaded::new("v"));
    thread::scope(|scope| {
        let first = scope.spawn(|| cache.get_or_load("first", hung.blocking_loader()));
        until(|| hung.calls() == 1);
        // It waits for the thread, and gets it.
        let second = scope.spawn(|| cache.get_or_load("second", |_| Ok(Loaded::new("v"))));
        until_counted(&cache, "loading", 2);
        hung.release();
        assert!(first.join().expect("no panic").is_ok() && second.join().expect("no panic").is_ok());
    });
    let hung = ScriptedLoader::new().held().value(Loaded::new("v"));
    thread::scope(|scope| {
        scope.spawn(|| cache.get_or_load("third", hung.blocking_loader()));
        until(|| hung.calls() == 1);
        clock.advance(seconds(10));
        until(|| cache.loader_threads().stuck == 1);
        let answer = cache.get_or_load("old", |_| Ok(Loaded::new("new"))).expect("something stale");
        testing::assert_stale(&answer, Stale::IfError);
        hung.release();
    });
}

#[test]
fn all_handles_of_a_cache_have_the_same_threads() {
    let (cache, _clock) = stopped(EngineKind::Native, &[]);
    let (other, own) = (cache.as_async().blocking().expect("threads"), cache.clone().loader_threads_max(3));
    let origin = ScriptedLoader::new().held().value(Loaded::new("v"));
    thread::scope(|scope| {
        scope.spawn(|| cache.get_or_load("k", origin.blocking_loader()).expect("a value"));
        until(|| origin.calls() == 1);
        let busy = |cache: &Cache| (cache.loader_threads().busy, cache.loader_threads().max);
        assert_eq!((busy(&cache), busy(&other), busy(&own)), ((1, 64), (1, 64), (0, 3)));
        origin.release();
    });
}

#[test]
fn loaders_that_ask_for_other_keys_need_no_further_threads() {
    fn depth(cache: &Cache, left: u32) -> Result<Loaded, LoadError> {
        if left == 0 {
            return Ok(Loaded::new("the bottom"));
        }
        let inner = cache.clone();
        let answer = cache.get_or_load(&format!("depth {left}"), move |_| depth(&inner, left - 1));
        answer.map(|fetched| Loaded::new(fetched.value)).map_err(|_| LoadError::unavailable("further down"))
    }
    for &engine in EngineKind::ALL {
        let (cache, _clock) = stopped(engine, &[]);
        let cache = cache.loader_threads_max(2);
        thread::scope(|scope| {
            for name in ["a", "b", "c", "d"] {
                let cache = &cache;
                scope.spawn(move || {
                    let inner = cache.clone();
                    let answer = cache.get_or_load(name, move |_| depth(&inner, 5)).expect("a value");
                    assert_eq!(answer.value, "the bottom");
                });
            }
        });
        assert_eq!(cache.stats().expect("counts").count("loads"), 9, "{engine:?}: four, and five that they share");
    }
}

#[test]
fn a_loader_that_waits_for_a_load_without_a_thread_runs_it() {
    for &engine in EngineKind::ALL {
        let (cache, _clock) = stopped(engine, &[]);
        let cache = cache.loader_threads_max(1);
        let (inner, (go, gone)) = (cache.clone(), mpsc::channel());
        let gone = Mutex::new(gone);
        thread::scope(|scope| {
            let outer = scope.spawn(|| {
                cache.get_or_load("outer", move |_| {
                    gone.lock().expect("alone").recv().expect("a word");
                    let below = inner.get_or_load("below", |_| Ok(Loaded::new("not asked")));
                    below.map(|found| Loaded::new(found.value)).map_err(|_| LoadError::unavailable("below"))
                })
            });
            until(|| cache.loader_threads().busy == 1);
            let below = scope.spawn(|| cache.get_or_load("below", |_| Ok(Loaded::new("v"))));
            until_counted(&cache, "loading", 2);
            go.send(()).expect("somebody listens");
            assert_eq!(outer.join().expect("no panic").expect("a value").value, "v", "{engine:?}");
            assert_eq!(below.join().expect("no panic").expect("a value").value, "v", "{engine:?}");
        });
    }
}

#[test]
fn a_loader_that_asks_for_its_own_key_is_refused() {
    for &engine in EngineKind::ALL {
        let (cache, _clock) = stopped(engine, &[]);
        let (inner, (tell, told)) = (cache.clone(), mpsc::channel());
        let outer = cache.get_or_load("k", move |_| {
            let again = inner.get_or_load("k", |_| Ok(Loaded::new("never")));
            tell.send(again.map(|fetched| fetched.value)).expect("somebody listens");
            Ok(Loaded::new("v"))
        });
        assert_eq!(outer.expect("a value").value, "v");
        let again = told.recv().expect("it asked");
        assert!(matches!(again, Err(Error::Refused(Refusal::Reentrant))), "{engine:?}: {again:?}");
    }
}

#[test]
fn a_loader_that_panics_fails_those_who_wait_for_it_and_nothing_else() {
    for &engine in EngineKind::ALL {
        let (cache, _clock) = stopped(engine, &[]);
        let origin = ScriptedLoader::new().panic().value(Loaded::new("v"));
        let failed = cache.get_or_load("k", origin.blocking_loader());
        assert!(matches!(&failed, Err(Error::Load(error)) if error.class() == Class::Panicked), "{failed:?}");
        assert_eq!(cache.get_or_load("k", origin.blocking_loader()).expect("a value").value, "v", "{engine:?}");
        assert_eq!(cache.loader_threads().busy, 0);
        origin.assert_played();
    }
}

#[test]
fn a_second_attempt_is_made_after_a_pause_that_the_clock_brings() {
    let (cache, clock) = stopped(EngineKind::Native, &[("load_attempts", "2"), ("retry_base", "1s")]);
    let origin = ScriptedLoader::new().error(LoadError::unavailable("down")).value(Loaded::new("v"));
    thread::scope(|scope| {
        let caller = scope.spawn(|| cache.get_or_load("k", origin.blocking_loader()));
        until_counted(&cache, "load_failures", 1);
        assert_eq!(origin.calls(), 1);
        clock.advance(seconds(1));
        assert_eq!(caller.join().expect("no panic").expect("a value").value, "v");
    });
    origin.assert_played();
}

#[test]
fn a_typed_cache_for_threads_decodes_once_and_hands_out_the_loaders_own_error() {
    let (cache, clock) = stopped(EngineKind::Native, &[("ttl", "1m")]);
    let numbers = cache.typed::<Vec<u64>>().classify(|_: &String| Class::Answer);
    let loads = Arc::new(AtomicUsize::new(0));
    let load = {
        let loads = Arc::clone(&loads);
        move |_| {
            loads.fetch_add(1, Ordering::Relaxed);
            Ok::<_, String>(vec![1, 2, 3])
        }
    };
    let first = numbers.get_or_load("k", load.clone()).expect("a value");
    let second = numbers.get_or_load("k", load.clone()).expect("a value");
    assert!(Arc::ptr_eq(&first.value, &second.value), "a hit is what was loaded, not a copy");
    clock.advance(seconds(60));
    assert_eq!(numbers.get_or_load("k", load).expect("a value").source, Source::Load);
    assert_eq!(loads.load(Ordering::Relaxed), 2);

    let failed = numbers.get_or_load("other", |_| Err::<Vec<u64>, _>("forbidden".to_owned()));
    assert!(matches!(failed, Err(CallError::Loader(error)) if *error == "forbidden"));
    numbers.put("put", &vec![7]).expect("a change");
    assert_eq!(*numbers.get("put").expect("no failure").expect("a value").value, [7]);
    numbers.remove("put").expect("a change");
    assert!(numbers.get("put").expect("no failure").is_none());
}

#[test]
fn all_that_can_be_asked_of_the_cache_can_be_asked_by_threads() {
    for &engine in EngineKind::ALL {
        let clock = Clock::stopped();
        let builder = testing::builder().engine(engine).clock(&clock).store(MemoryStore::new(100));
        let cache = builder.set("removals_max", "100").expect("an option").build_blocking().expect("a cache");
        assert_eq!(cache.put_tagged("k", "v", None, ["t"]).expect("a change"), Settled::Store);
        assert_eq!(cache.get("k").expect("no failure").expect("a value").value, "v");
        cache.invalidate_tag("t").expect("a change");
        assert!(cache.get("k").expect("no failure").is_none());
        cache.put("k", "v", None).expect("a change");
        cache.expire_tag("t").expect("a change");
        cache.expire("k").expect("a change");
        cache.remove("k").expect("a change");
        cache.clear().expect("a change");
        assert!(!cache.take_removals().expect("removals").is_empty(), "{engine:?}");
        cache.set_breaker_mode(Dependency::Loader, BreakerMode::ForcedOpen).expect("a mode");
        assert!(matches!(cache.get_or_load("k", |_| Ok(Loaded::new("v"))), Err(Error::Open { .. })));
        cache.set_breaker_mode(Dependency::Loader, BreakerMode::Automatic).expect("a mode");
        cache.reset_breaker(Dependency::Loader).expect("a reset");
        cache.put("k", "v", None).expect("a change");
        let bytes = cache.snapshot().expect("a snapshot");
        let other = testing::builder().engine(engine).clock(&clock).build_blocking().expect("a cache");
        assert_eq!(other.restore(bytes, Taken::Last).expect("restored").entries, 1, "{engine:?}");
        assert_eq!(cache.wait(cache.as_async().store_answers()), Some(true));
        assert_eq!((cache.shutdown(), cache.shutdown()), (0, 0), "{engine:?}");
        assert!(matches!(cache.get("k"), Err(Error::Closed)), "{engine:?}");
    }
}

#[test]
fn it_works_and_is_dropped_on_the_threads_of_any_runtime() {
    fn used_and_dropped(engine: EngineKind) {
        let cache = testing::builder().engine(engine).build_blocking().expect("a cache");
        assert_eq!(cache.get_or_load("k", |_| Ok(Loaded::new("v"))).expect("a value").source, Source::Load);
        cache.put("k", "w", None).expect("a change");
        drop(cache);
    }
    for &engine in EngineKind::ALL {
        let one = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        one.block_on(async { used_and_dropped(engine) });
        let many = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        many.block_on(async {
            tokio::spawn(async move { used_and_dropped(engine) }).await.expect("no panic");
        });
    }
}

#[test]
fn a_task_whose_budget_is_spent_does_not_spin() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let cache = testing::builder().build_blocking().expect("a cache");
    runtime.block_on(async {
        tokio::spawn(async move {
            while tokio::task::coop::has_budget_remaining() {
                tokio::task::coop::consume_budget().await;
            }
            assert!(cache.put("k", "v", None).is_ok());
        })
        .await
        .expect("no panic");
    });
}

#[test]
fn a_blocked_runtime_does_not_hold_a_cache_that_was_made_in_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let cache = testing::cache();
        let threads = cache.blocking().expect("threads");
        // Nobody is left in this runtime to fly anything.
        assert_eq!(threads.get_or_load("k", |_| Ok(Loaded::new("v"))).expect("a value").value, "v");
        assert_eq!(cache.get("k").await.expect("no failure").expect("it is the same cache").value, "v");
        let typed = cache.typed::<String>().blocking().expect("threads");
        assert_eq!(*typed.get_or_load("s", |_| Ok::<_, Error>("w".to_owned())).expect("a value").value, "w");
    });
}

#[test]
fn a_runtime_that_ends_lets_go_the_threads_that_wait_for_its_loads() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let cache = runtime.block_on(async { testing::cache() });
    let (threads, hung) = (cache.blocking().expect("threads"), ScriptedLoader::new().hang());
    let load = hung.loader();
    runtime.spawn(async move { cache.get_or_load("k", load).await });
    until(|| hung.calls() == 1);
    thread::scope(|scope| {
        let follower = scope.spawn(|| threads.get_or_load("k", |_| Ok(Loaded::new("v"))));
        until_counted(&threads, "coalesced", 1);
        runtime.shutdown_background();
        assert!(matches!(follower.join().expect("no panic"), Err(Error::Abandoned)));
    });
    assert_eq!(threads.get_or_load("k", |_| Ok(Loaded::new("v"))).expect("the cache goes on").value, "v");
}

#[test]
fn a_thread_gets_something_stale_at_its_soft_deadline_and_the_load_goes_on() {
    for &engine in EngineKind::ALL {
        let options = [("ttl", "1m"), ("stale_if_error", "1h"), ("soft_deadline", "200ms")];
        let (cache, clock) = stopped(engine, &options);
        cache.put("k", "old", None).expect("a change");
        clock.advance(seconds(60));
        let origin = ScriptedLoader::new().held().value(Loaded::new("new"));
        thread::scope(|scope| {
            let caller = scope.spawn(|| cache.get_or_load("k", origin.blocking_loader()));
            until(|| origin.calls() == 1);
            clock.advance(Duration::from_millis(200));
            let answer = caller.join().expect("no panic").expect("a value");
            assert_eq!((&answer.value[..], answer.stale), (&b"old"[..], Some(Stale::IfError)), "{engine:?}");
            origin.release();
            until(|| cache.get("k").expect("no failure").is_some_and(|found| found.value == "new"));
        });
    }
}

#[test]
fn loaders_of_asynchronous_code_may_ask_the_cache_for_threads() {
    let cache = testing::builder().build_blocking().expect("a cache");
    let (asked, inner) = (cache.clone(), cache.clone());
    let loads = (0..8).map(|number| {
        let inner = inner.clone();
        asked.as_async().get_or_load_with(
            ["a", "b", "c", "d", "e", "f", "g", "h"][number],
            CallOptions::new(),
            move |_| {
                let inner = inner.clone();
                // On a thread of the very runtime that is to fly what it waits for.
                async move {
                    inner
                        .get_or_load("below", |_| Ok(Loaded::new("v")))
                        .map(|found| Loaded::new(found.value))
                        .map_err(|_| LoadError::unavailable("below"))
                }
            },
        )
    });
    let answers = cache.wait(futures_util::future::join_all(loads));
    assert!(answers.into_iter().all(|answer| answer.is_ok_and(|found| found.value == "v")));
}

#[test]
fn a_store_that_hangs_costs_a_thread_its_deadline_and_no_more() {
    let (store, clock) = (ScriptedStore::with(Weather::Hung), Clock::stopped());
    let cache = testing::builder().store(store.clone()).clock(&clock).build_blocking().expect("a cache");
    thread::scope(|scope| {
        let loading = Arc::new(AtomicBool::new(false));
        let begun = Arc::clone(&loading);
        let caller = scope.spawn(|| {
            cache.get_or_load("k", move |_| {
                begun.store(true, Ordering::Relaxed);
                Ok(Loaded::new("v"))
            })
        });
        until(|| store.operations() > 0);
        // The read's deadline and no more; then time stands still, so that the load has all the time it may need.
        clock.advance(cache.as_async().policy().store_read_deadline);
        until(|| loading.load(Ordering::Relaxed));
        assert_eq!(caller.join().expect("no panic").expect("a value").value, "v");
    });
}

#[test]
fn a_shutdown_says_which_loaders_hang_and_does_not_wait_for_them() {
    let (cache, clock) = stopped(EngineKind::Native, &[]);
    let hung = ScriptedLoader::new().held().value(Loaded::new("v"));
    thread::scope(|scope| {
        let caller = scope.spawn(|| cache.get_or_load("k", hung.blocking_loader()));
        until(|| hung.calls() == 1);
        clock.advance(cache.as_async().policy().load_deadline);
        assert!(matches!(caller.join().expect("no panic"), Err(Error::Load(_))));
        assert_eq!(cache.shutdown(), 1);
        hung.release();
    });
    until(|| cache.loader_threads().busy == 0);
    assert_eq!(cache.shutdown(), 0);
}

/// Says that this process is the one that ends with loads in flight.
const ENDS: &str = "TIDEOVER_TEST_ENDS_WITH_LOADS";

#[test]
fn a_process_ends_with_loads_in_flight() {
    const NAME: &str = "a_process_ends_with_loads_in_flight";
    if std::env::var_os(ENDS).is_some() {
        let cache = testing::builder().build_blocking().expect("a cache");
        let hung = ScriptedLoader::new().hang();
        let (asked, load) = (cache.clone(), hung.blocking_loader());
        thread::spawn(move || asked.get_or_load("k", load));
        until(|| hung.calls() == 1);
        return;
    }
    let this = std::env::current_exe().expect("this test");
    let output = Command::new(this).args(["--exact", NAME]).env(ENDS, "1").output().expect("a process");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_error_of_this_crate_is_what_it_says_it_is_to_threads_too() {
    for &engine in EngineKind::ALL {
        let (cache, clock) = stopped(engine, &[("ttl", "10s"), ("stale_if_error", "1h"), ("load_attempts", "3")]);
        let users = cache.typed::<String>();
        users.put("user:7", &"Ada".to_owned()).expect("a put");
        clock.advance(seconds(20));
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let gone = users.get_or_load("user:7", move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Err::<String, _>(LoadError::answer("gone").with_detail("page".into()))
        });
        let Err(CallError::Loader(own)) = gone else { panic!("{engine:?}: {gone:?}") };
        assert_eq!((own.class(), own.detail().as_ref()), (Class::Answer, &b"page"[..]), "{engine:?}");
        assert_eq!(calls.load(Ordering::Relaxed), 1, "{engine:?}");
        assert_eq!(cache.stats().expect("counts").load_breaker.stats.failures, 0, "{engine:?}");
    }
}
