//! One cache, three engines: what callers see is the same wherever the policy runs.
//!
//! Each story is told once and played on every [`EngineKind`]. Where time matters it is tokio's paused clock, which
//! jumps to the next timer when nothing else is left to do.

#![cfg(feature = "component")]

mod answers;
mod direct;
mod others;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tideover::store::{MemoryStore, Store};
use tideover::testing::{ScriptedStore, Weather};
use tideover::{
    Builder, Cache, Class, EngineKind, Error, Fetched, LoadContext, LoadError, Loaded, Refusal, Settled, Source, Stale,
};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use self::answers::*;
use self::others::*;

/// Plays each story on every engine.
macro_rules! stories {
    ($($(#[$test:meta])+ $story:ident;)+) => {
        mod native { $($(#[$test])+ async fn $story() { super::$story(super::EngineKind::Native).await })+ }
        mod policy { $($(#[$test])+ async fn $story() { super::$story(super::EngineKind::Policy).await })+ }
        mod component { $($(#[$test])+ async fn $story() { super::$story(super::EngineKind::Component).await })+ }
    };
}

stories! {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    five_hundred_callers_of_a_cold_key_make_one_load;
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    twenty_thousand_callers_of_a_cold_key_make_one_load;
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    callers_that_come_and_go_leave_nothing_behind;
    #[tokio::test(start_paused = true)]
    a_leader_that_goes_away_takes_nobody_along;
    #[tokio::test(start_paused = true)]
    a_load_that_nobody_waits_for_is_dropped;
    #[tokio::test(start_paused = true)]
    a_flight_that_sleeps_between_attempts_ends_when_nobody_waits;
    #[tokio::test(start_paused = true)]
    a_failed_attempt_is_made_again;
    #[tokio::test(start_paused = true)]
    a_loader_that_panics_fails_everybody_once;
    #[tokio::test(start_paused = true)]
    a_loader_that_asks_for_its_own_key_is_refused;
    #[tokio::test(start_paused = true)]
    loaders_may_ask_for_other_keys_and_other_caches;
    #[tokio::test(start_paused = true)]
    a_hung_loader_holds_nobody_past_the_deadline;
    #[tokio::test(start_paused = true)]
    a_hung_store_costs_its_deadline_and_no_more;
    #[tokio::test(start_paused = true)]
    a_hung_store_holds_nobody_past_the_deadline;
    #[tokio::test(start_paused = true)]
    a_store_that_panics_fails_no_load;
    #[tokio::test(start_paused = true)]
    stale_stands_in_for_an_origin_that_is_down;
    #[tokio::test(start_paused = true)]
    stale_is_served_at_once_while_one_refresh_runs;
    // On the real clock: the age of what a store has goes by civil time.
    #[tokio::test]
    a_refresh_behind_the_answer_looks_into_the_store_first;
    #[tokio::test]
    a_stale_value_in_the_store_is_refreshed_by_the_same_loader;
    #[tokio::test(start_paused = true)]
    a_put_wins_over_the_load_under_way;
    #[tokio::test(start_paused = true)]
    a_removal_wins_over_the_load_under_way;
    #[tokio::test(start_paused = true)]
    the_loaders_own_error_reaches_everybody_who_waited;
    #[tokio::test(start_paused = true)]
    what_is_private_is_for_its_own_caller_alone;
    #[tokio::test(start_paused = true)]
    what_one_engine_stores_the_others_read;
    #[tokio::test(start_paused = true)]
    a_tagged_value_is_found_in_the_store_by_others;
    #[tokio::test(start_paused = true)]
    an_invalidated_tag_reaches_the_memory_and_the_store_of_all;
    #[tokio::test(start_paused = true)]
    what_one_puts_or_removes_leaves_the_memory_of_the_other_at_once;
    #[tokio::test(start_paused = true)]
    of_all_processes_one_loads_a_key;
    #[tokio::test(start_paused = true)]
    a_clear_reaches_the_memory_and_the_store_of_all;
    #[tokio::test(start_paused = true)]
    a_change_of_one_is_not_undone_by_a_load_of_another_that_began_before_it;
    #[tokio::test(start_paused = true)]
    what_is_invalidated_while_another_loads_it_is_not_kept;
    #[tokio::test]
    a_tag_that_expires_leaves_stale_with_all;
    #[tokio::test(start_paused = true)]
    an_invalidation_while_the_store_is_away_reaches_others_when_it_is_back;
    #[tokio::test(start_paused = true)]
    what_was_invalidated_since_a_snapshot_is_not_restored;
    #[tokio::test(start_paused = true)]
    limits_are_refusals;
    #[tokio::test(start_paused = true)]
    too_many_tags_are_refused_and_not_kept;
    #[tokio::test(start_paused = true)]
    that_there_is_no_such_thing_is_told_and_remembered;
    #[tokio::test(start_paused = true)]
    what_is_still_true_is_young_again;
    #[tokio::test(start_paused = true)]
    what_a_loader_is_told_of_the_value_it_refreshes;
    #[tokio::test(start_paused = true)]
    who_wants_something_newer_waits_for_it;
    #[tokio::test(start_paused = true)]
    a_failure_is_remembered_where_the_policy_says_so;
    #[tokio::test(start_paused = true)]
    at_the_soft_limit_stale_stands_in_and_the_load_goes_on;
    #[tokio::test(start_paused = true)]
    a_callers_own_limit_holds_whatever_the_others_are;
    #[tokio::test(start_paused = true)]
    however_often_a_call_asks_again_it_waits_no_longer;
    #[tokio::test(start_paused = true)]
    what_was_invalidated_is_loaded_anew;
    #[tokio::test(start_paused = true)]
    shutdown_waits_for_flights_and_closes_the_store;
    #[tokio::test(start_paused = true)]
    shutdown_does_not_wait_for_ever;
}

/// An origin that counts, and that a story can hold.
#[derive(Clone)]
struct Origin {
    /// Loads that have begun.
    loads: Arc<AtomicUsize>,
    /// Loads that were dropped before they ended.
    dropped: Arc<AtomicUsize>,
    /// Each load takes one permit before it ends.
    gate: Arc<Semaphore>,
}

impl Origin {
    fn held() -> Self {
        Self { loads: Arc::default(), dropped: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
    }

    fn open() -> Self {
        let origin = Self::held();
        origin.let_through(Semaphore::MAX_PERMITS / 2);
        origin
    }

    fn let_through(&self, loads: usize) {
        self.gate.add_permits(loads);
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }

    async fn answer<T>(self, result: T) -> T {
        struct Dropped(Option<Arc<AtomicUsize>>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.take().map(|dropped| dropped.fetch_add(1, Ordering::SeqCst));
            }
        }
        self.loads.fetch_add(1, Ordering::SeqCst);
        let mut guard = Dropped(Some(self.dropped));
        self.gate.acquire().await.expect("never closed").forget();
        guard.0 = None;
        result
    }

    /// Asks `cache` for `key`, from a task of its own.
    fn ask(&self, cache: &Cache, key: &str, result: Result<Loaded, LoadError>) -> JoinHandle<Result<Fetched, Error>> {
        let (origin, cache, key) = (self.clone(), cache.clone(), key.to_owned());
        tokio::spawn(async move { cache.get_or_load(&key, move |_| origin.clone().answer(result.clone())).await })
    }
}

fn value(text: &'static str) -> Result<Loaded, LoadError> {
    Ok(Loaded::new(text))
}

fn down() -> Result<Loaded, LoadError> {
    Err(LoadError::unavailable("down"))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn builder(engine: EngineKind) -> Builder {
    Cache::builder().engine(engine).seed(7)
}

fn built(builder: Builder) -> Cache {
    builder.build().expect("a valid cache")
}

/// The value under `key`, if no load is needed for it.
async fn known(cache: &Cache, key: &str) -> Option<Bytes> {
    cache.get(key).await.expect("no failure").map(|found| found.value)
}

/// Lets everything that can go on go on.
async fn settle() {
    sleep(ms(1)).await;
}

async fn callers_of_a_cold_key(engine: EngineKind, callers: usize) {
    let (cache, origin) = (built(builder(engine)), Origin::held());
    let calls: Vec<_> = (0..callers).map(|_| origin.ask(&cache, "k", value("v"))).collect();
    while cache.stats().await.expect("stats").count("misses") < callers as u64 {
        sleep(ms(1)).await;
    }
    origin.let_through(1);
    let mut collapsed = 0;
    for call in calls {
        let found = call.await.expect("no panic").expect("a value");
        assert_eq!((&found.value[..], found.source), (&b"v"[..], Source::Load));
        collapsed += usize::from(found.collapsed);
    }
    assert_eq!((origin.loads(), collapsed), (1, callers - 1));
    assert_eq!(origin.ask(&cache, "k", down()).await.expect("no panic").expect("a hit").source, Source::Memory);
}

async fn five_hundred_callers_of_a_cold_key_make_one_load(engine: EngineKind) {
    callers_of_a_cold_key(engine, 500).await;
}

async fn twenty_thousand_callers_of_a_cold_key_make_one_load(engine: EngineKind) {
    callers_of_a_cold_key(engine, 20_000).await;
}

async fn callers_that_come_and_go_leave_nothing_behind(engine: EngineKind) {
    let (cache, origin) = (built(builder(engine)), Origin::open());
    for round in 0..40_u64 {
        let keys = (0..100).map(|key| format!("{}", key % 10));
        let calls: Vec<_> = keys.map(|key| origin.ask(&cache, &key, value("v"))).collect();
        sleep(Duration::from_micros(50 * round)).await;
        calls.iter().skip(round as usize % 3).step_by(2).for_each(JoinHandle::abort);
        for call in calls {
            if let Ok(found) = call.await {
                assert_eq!(found.expect("a value").value, "v");
            }
        }
        cache.clear().await.expect("cleared");
    }
    while cache.stats().await.expect("stats").count("flights") > 0 {
        sleep(ms(1)).await;
    }
}

async fn a_leader_that_goes_away_takes_nobody_along(engine: EngineKind) {
    let (cache, origin) = (built(builder(engine)), Origin::held());
    let leader = origin.ask(&cache, "k", value("of the leader"));
    settle().await;
    let follower = origin.ask(&cache, "k", value("of the follower"));
    settle().await;
    leader.abort();
    settle().await;
    origin.let_through(1);
    let found = follower.await.expect("no panic").expect("a value");
    assert_eq!((&found.value[..], found.collapsed), (&b"of the leader"[..], true));
    assert_eq!((origin.loads(), origin.dropped()), (1, 0));
}

async fn a_load_that_nobody_waits_for_is_dropped(engine: EngineKind) {
    let (cache, origin) = (built(builder(engine)), Origin::held());
    let calls = [origin.ask(&cache, "k", value("v")), origin.ask(&cache, "k", value("v"))];
    settle().await;
    calls.iter().for_each(JoinHandle::abort);
    settle().await;
    assert_eq!((origin.loads(), origin.dropped()), (1, 1));
    assert_eq!(cache.stats().await.expect("stats").count("flights"), 0);
    origin.let_through(1);
    let found = origin.ask(&cache, "k", value("anew")).await.expect("no panic").expect("a value");
    assert_eq!((&found.value[..], origin.loads()), (&b"anew"[..], 2));
}

async fn a_flight_that_sleeps_between_attempts_ends_when_nobody_waits(engine: EngineKind) {
    let slow = builder(engine).set("load_attempts", "2").and_then(|builder| builder.set("retry_base", "5s"));
    let cache = built(slow.and_then(|builder| builder.set("retry_jitter", "none")).expect("options"));
    let origin = Origin::open();
    let call = origin.ask(&cache, "k", down());
    sleep(ms(100)).await;
    call.abort();
    settle().await;
    assert_eq!(cache.stats().await.expect("stats").count("flights"), 0);
    sleep(ms(10_000)).await;
    assert_eq!(origin.loads(), 1, "the second attempt was never made");
}

async fn a_failed_attempt_is_made_again(engine: EngineKind) {
    let cache = built(builder(engine).set("load_attempts", "3").expect("an option"));
    let load = |context: LoadContext| async move { if context.attempt < 3 { down() } else { value("at last") } };
    assert_eq!(cache.get_or_load("k", load).await.expect("a value").value, "at last");
    let failures = cache.stats().await.expect("stats").count("load_failures");
    assert_eq!(failures, 2);
}

async fn a_loader_that_panics_fails_everybody_once(engine: EngineKind) {
    let (cache, origin) = (built(builder(engine)), Origin::held());
    let breaks = |origin: Origin, cache: Cache| async move {
        let load = move |_| {
            let origin = origin.clone();
            async move {
                origin.answer(()).await;
                panic!("on purpose")
            }
        };
        cache.get_or_load("k", load).await
    };
    let calls = [(); 5].map(|()| tokio::spawn(breaks(origin.clone(), cache.clone())));
    settle().await;
    origin.let_through(1);
    for call in calls {
        let error = call.await.expect("the caller does not panic").expect_err("a failure");
        assert_eq!(error.load_error().map(LoadError::class), Some(Class::Panicked), "{error}");
    }
    origin.let_through(1);
    assert_eq!(origin.ask(&cache, "k", value("v")).await.expect("no panic").expect("a value").value, "v");
}

type Fetching = Pin<Box<dyn Future<Output = Result<Fetched, Error>> + Send>>;

/// Asks for the first key with a loader that asks for the second one, and so on. The last loader answers.
fn nested(path: &[(Cache, &'static str)]) -> Fetching {
    let Some(((cache, key), inner)) = path.split_first() else { panic!("a path") };
    let (cache, key, inner) = (cache.clone(), *key, inner.to_vec());
    let load = move |_| {
        let inner = inner.clone();
        async move {
            if inner.is_empty() {
                return value("innermost");
            }
            match nested(&inner).await {
                Ok(found) => Ok(Loaded::new(found.value)),
                Err(Error::Refused(Refusal::Reentrant)) => Err(LoadError::answer("reentrant")),
                Err(other) => Err(LoadError::answer(other.to_string())),
            }
        }
    };
    Box::pin(async move { cache.get_or_load(key, load).await })
}

async fn a_loader_that_asks_for_its_own_key_is_refused(engine: EngineKind) {
    let (cache, other) = (built(builder(engine)), built(builder(engine)));
    let at_once = [(cache.clone(), "a"), (cache.clone(), "a")];
    let by_way_of_a_key = [(cache.clone(), "b"), (cache.clone(), "c"), (cache.clone(), "b")];
    let by_way_of_a_cache = [(cache.clone(), "d"), (other, "d"), (cache, "d")];
    for path in [&at_once[..], &by_way_of_a_key, &by_way_of_a_cache] {
        let began = Instant::now();
        let error = nested(path).await.expect_err("it would wait for itself");
        assert!(error.load_error().expect("an answer").to_string().ends_with("reentrant"), "{error}");
        assert!(began.elapsed() < ms(100), "it waited {:?}", began.elapsed());
    }
}

async fn loaders_may_ask_for_other_keys_and_other_caches(engine: EngineKind) {
    let (cache, other) = (built(builder(engine)), built(builder(engine)));
    let found = nested(&[(cache.clone(), "a"), (cache.clone(), "b"), (other.clone(), "a"), (other, "b")]).await;
    assert_eq!(found.expect("a value").value, "innermost");
    assert_eq!(known(&cache, "b").await.expect("a hit"), "innermost");
}

async fn a_hung_loader_holds_nobody_past_the_deadline(engine: EngineKind) {
    let patient = builder(engine).set("call_deadline", "200ms").expect("an option");
    let (cache, origin) = (built(patient), Origin::held());
    let began = Instant::now();
    let leader = origin.ask(&cache, "k", value("late"));
    sleep(ms(100)).await;
    let follower = origin.ask(&cache, "k", value("not asked"));
    assert!(matches!(leader.await.expect("no panic"), Err(Error::DeadlinePassed)));
    assert_eq!(began.elapsed().as_millis() / 10, 20);
    assert!(matches!(follower.await.expect("no panic"), Err(Error::DeadlinePassed)));
    assert_eq!(began.elapsed().as_millis() / 10, 30);
    // The load goes on for the next one who asks.
    origin.let_through(1);
    settle().await;
    assert_eq!(known(&cache, "k").await.expect("a hit"), "late");
    assert_eq!(origin.loads(), 1);
}

async fn a_hung_store_costs_its_deadline_and_no_more(engine: EngineKind) {
    let (cache, origin) = (built(builder(engine).store(ScriptedStore::with(Weather::Hung))), Origin::open());
    let began = Instant::now();
    let found = origin.ask(&cache, "k", value("v")).await.expect("no panic").expect("a value");
    assert_eq!((&found.value[..], began.elapsed().as_millis() / 10), (&b"v"[..], 25));
    let began = Instant::now();
    assert_eq!(cache.put("other", "w", None).await.expect("a change"), Settled::Journaled);
    assert_eq!(began.elapsed().as_millis() / 100, 10);
}

async fn a_hung_store_holds_nobody_past_the_deadline(engine: EngineKind) {
    let patient = builder(engine).store(ScriptedStore::with(Weather::Hung)).set("call_deadline", "100ms");
    let slow = patient.and_then(|builder| builder.set("store_read_deadline", "10s"));
    let (cache, origin) = (built(slow.expect("options")), Origin::open());
    let began = Instant::now();
    let error = origin.ask(&cache, "k", value("v")).await.expect("no panic").expect_err("the store hangs");
    assert!(matches!(error, Error::DeadlinePassed), "{error}");
    assert!(matches!(cache.get("k").await, Err(Error::DeadlinePassed)));
    assert!(matches!(cache.put("k", "v", None).await, Err(Error::DeadlinePassed)));
    assert_eq!(began.elapsed().as_millis() / 10, 30);
}

async fn a_store_that_panics_fails_no_load(engine: EngineKind) {
    let (cache, origin) = (built(builder(engine).store(ScriptedStore::with(Weather::Panicking))), Origin::open());
    let found = origin.ask(&cache, "k", value("v")).await.expect("no panic").expect("a value");
    assert_eq!(found.value, "v");
    assert_eq!(cache.remove("k").await.expect("a change"), Settled::Journaled);
}

async fn stale_stands_in_for_an_origin_that_is_down(engine: EngineKind) {
    let cache = built(builder(engine).ttl(ms(100)).stale_if_error(ms(1_000)));
    let origin = Origin::open();
    cache.put("k", "v", None).await.expect("a change");
    sleep(ms(100)).await;
    let found = origin.ask(&cache, "k", down()).await.expect("no panic").expect("stale");
    assert_eq!((&found.value[..], found.stale, origin.loads()), (&b"v"[..], Some(Stale::IfError), 1));
    let missing = LoadError::answer("no such thing");
    sleep(ms(990)).await;
    let found = origin.ask(&cache, "k", down()).await.expect("no panic").expect("still inside the window");
    assert_eq!(found.stale, Some(Stale::IfError));
    sleep(ms(10)).await;
    let error = origin.ask(&cache, "k", down()).await.expect("no panic").expect_err("past the window");
    assert!(error.is_unavailable(), "{error}");
    cache.put("k", "v", None).await.expect("a change");
    sleep(ms(100)).await;
    let error = origin.ask(&cache, "k", Err(missing)).await.expect("no panic").expect_err("an answer");
    assert_eq!(error.load_error().expect("of the loader").class(), Class::Answer);
}

async fn stale_is_served_at_once_while_one_refresh_runs(engine: EngineKind) {
    let cache = built(builder(engine).ttl(ms(100)).stale_while_revalidate(ms(60_000)));
    one_refresh_runs(&cache).await;
}

async fn a_refresh_behind_the_answer_looks_into_the_store_first(engine: EngineKind) {
    let swr = builder(engine).ttl(ms(100)).stale_while_revalidate(ms(60_000));
    let cache = built(swr.store(ScriptedStore::with(Weather::Slow(ms(10)))));
    one_refresh_runs(&cache).await;
    assert_eq!(cache.stats().await.expect("stats").count("store_hits"), 1);
}

async fn one_refresh_runs(cache: &Cache) {
    let (origin, new) = (Origin::held(), Loaded::new("new").ttl(ms(60_000)));
    cache.put("k", "old", None).await.expect("a change");
    sleep(ms(150)).await;
    for _ in 0..5 {
        let found = origin.ask(cache, "k", Ok(new.clone())).await.expect("no panic").expect("stale");
        assert_eq!((&found.value[..], found.stale), (&b"old"[..], Some(Stale::WhileRevalidate)));
    }
    origin.let_through(1);
    until_known(cache, "k", "new").await;
    assert_eq!((origin.loads(), origin.dropped()), (1, 0));
}

async fn until_known(cache: &Cache, key: &str, value: &str) {
    while known(cache, key).await.is_none_or(|known| known != value) {
        sleep(ms(1)).await;
    }
}

async fn a_stale_value_in_the_store_is_refreshed_by_the_same_loader(engine: EngineKind) {
    let store = ScriptedStore::with(Weather::Slow(ms(10)));
    let swr = || builder(engine).ttl(ms(100)).stale_while_revalidate(ms(60_000)).store(store.clone());
    built(swr()).put("k", "old", None).await.expect("a change");
    sleep(ms(150)).await;
    let (cache, origin) = (built(swr()), Origin::held());
    let new = Loaded::new("new").ttl(ms(60_000));
    let found = origin.ask(&cache, "k", Ok(new)).await.expect("no panic").expect("stale");
    assert_eq!((&found.value[..], found.source), (&b"old"[..], Source::Store));
    origin.let_through(1);
    until_known(&cache, "k", "new").await;
    assert_eq!((origin.loads(), origin.dropped()), (1, 0));
}

async fn a_put_wins_over_the_load_under_way(engine: EngineKind) {
    let (cache, origin) = (built(builder(engine)), Origin::held());
    let caller = origin.ask(&cache, "k", value("loaded"));
    settle().await;
    assert_eq!(cache.put("k", "put", None).await.expect("a change"), Settled::Memory);
    origin.let_through(1);
    assert_eq!(caller.await.expect("no panic").expect("a value").value, "loaded");
    assert_eq!(known(&cache, "k").await.expect("a hit"), "put");
}

async fn a_removal_wins_over_the_load_under_way(engine: EngineKind) {
    let (cache, origin) = (built(builder(engine)), Origin::held());
    let before = origin.ask(&cache, "k", value("before"));
    settle().await;
    cache.remove("k").await.expect("a change");
    let after = origin.ask(&cache, "k", value("after"));
    settle().await;
    origin.let_through(2);
    assert_eq!(before.await.expect("no panic").expect("a value").value, "before");
    assert_eq!(after.await.expect("no panic").expect("a value").value, "after");
    assert_eq!(known(&cache, "k").await.expect("a hit"), "after");
}

async fn the_loaders_own_error_reaches_everybody_who_waited(engine: EngineKind) {
    let (cache, origin) = (built(builder(engine)), Origin::held());
    let failure = |detail: &'static str| Err(LoadError::answer("teapot").with_detail(detail.into()));
    let calls = ["k", "k", "k", "other"].map(|key| origin.ask(&cache, key, failure(key)));
    settle().await;
    origin.let_through(2);
    for (call, detail) in calls.into_iter().zip(["k", "k", "k", "other"]) {
        let error = call.await.expect("no panic").expect_err("an answer");
        let error = error.load_error().expect("of the loader");
        assert_eq!((error.to_string().as_str(), &error.detail()[..]), ("teapot", detail.as_bytes()));
    }
    assert_eq!(origin.loads(), 2);
}

async fn what_is_private_is_for_its_own_caller_alone(engine: EngineKind) {
    let (cache, origin) = (built(builder(engine)), Origin::held());
    let own = ["a", "b", "c"].map(|own| origin.ask(&cache, "k", Ok(Loaded::new(own).private())));
    settle().await;
    assert_eq!(origin.loads(), 1);
    origin.let_through(3);
    for (call, own) in own.into_iter().zip(["a", "b", "c"]) {
        let found = call.await.expect("no panic").expect("a value");
        assert_eq!((&found.value[..], found.private), (own.as_bytes(), true));
    }
    assert_eq!((origin.loads(), known(&cache, "k").await), (3, None));
}

async fn what_one_engine_stores_the_others_read(engine: EngineKind) {
    for other in [EngineKind::Native, EngineKind::Policy, EngineKind::Component] {
        let store = ScriptedStore::with(Weather::Slow(ms(10)));
        let [writer, reader] = [engine, other].map(|engine| built(builder(engine).store(store.clone())));
        assert_eq!(writer.put("put", "1", None).await.expect("a change"), Settled::Store);
        let loaded = Origin::open().ask(&writer, "loaded", value("2")).await;
        assert_eq!(loaded.expect("no panic").expect("a value").source, Source::Load);
        sleep(ms(1_000)).await;
        for (key, value) in [("put", "1"), ("loaded", "2")] {
            let found = reader.get(key).await.expect("no failure").expect("in the store");
            assert_eq!((&found.value[..], found.source), (value.as_bytes(), Source::Store));
        }
        assert_eq!(writer.clear().await.expect("a change"), Settled::Store);
        assert_eq!(known(&built(builder(other).store(store)), "put").await, None);
    }
}

async fn limits_are_refusals(engine: EngineKind) {
    let small = builder(engine).set("flights_max", "1").and_then(|builder| builder.set("waiters_max", "2"));
    let small = small.and_then(|builder| builder.set("value_bytes_max", "3"));
    let cache = built(small.and_then(|builder| builder.set("key_bytes_max", "3")).expect("options"));
    let origin = Origin::held();
    let calls = [origin.ask(&cache, "k", value("v")), origin.ask(&cache, "k", value("v"))];
    settle().await;
    let refused = |result: Result<Fetched, Error>| match result {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let third = refused(origin.ask(&cache, "k", value("v")).await.expect("no panic"));
    assert_eq!(third, Refusal::TooManyWaiters { max: 2 });
    let second_key = refused(origin.ask(&cache, "l", value("v")).await.expect("no panic"));
    assert_eq!(second_key, Refusal::TooManyFlights { max: 1 });
    let long_key = refused(origin.ask(&cache, "long", value("v")).await.expect("no panic"));
    assert_eq!(long_key, Refusal::KeyTooLong { bytes: 4, max: 3 });
    let large = cache.put("k", "four", None).await.expect_err("too large");
    assert!(matches!(large, Error::Refused(Refusal::ValueTooLarge { bytes: 4, max: 3 })), "{large}");
    origin.let_through(1);
    for call in calls {
        assert_eq!(call.await.expect("no panic").expect("a value").value, "v");
    }
}

async fn shutdown_waits_for_flights_and_closes_the_store(engine: EngineKind) {
    let (cache, origin) = (built(builder(engine).store(MemoryStore::new(100))), Origin::held());
    let caller = origin.ask(&cache, "k", value("v"));
    sleep(ms(100)).await;
    let end = tokio::spawn({
        let cache = cache.clone();
        async move { cache.shutdown().await }
    });
    sleep(ms(100)).await;
    assert!(!end.is_finished(), "a flight is under way");
    let refused = origin.ask(&cache, "other", value("v")).await.expect("no panic");
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    origin.let_through(1);
    assert_eq!(caller.await.expect("no panic").expect("a value").value, "v");
    end.await.expect("no panic");
    cache.shutdown().await;
    assert!(matches!(cache.get("k").await, Err(Error::Closed)));
    assert_eq!(cache.store_answers().await, Some(false), "it is closed");

    let store = Arc::new(MemoryStore::new(100));
    let sharing = built(builder(engine).shared_store(store.clone()));
    sharing.shutdown().await;
    assert!(store.ping().await.is_ok(), "it is for whoever shares it to close");
}

async fn shutdown_does_not_wait_for_ever(engine: EngineKind) {
    let (cache, origin) = (built(builder(engine)), Origin::held());
    let caller = origin.ask(&cache, "k", value("v"));
    settle().await;
    let began = Instant::now();
    cache.shutdown().await;
    assert_eq!(began.elapsed().as_millis() / 100, 50);
    assert!(matches!(caller.await.expect("no panic"), Err(Error::Abandoned)));
    assert_eq!(origin.dropped(), 1);
}
