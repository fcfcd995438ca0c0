//! What is seen of a cache: health that is honest in an outage, events in their order, metrics, spans, few log lines; and
//! what is never seen: keys and values.

use std::sync::Arc;
use std::time::Duration;

use tideover::observe::{CircuitState, Event, EventOptions, Events, Happened, Health, METRICS, Reason, Status};
use tideover::store::Store as _;
use tideover::testing::{ScriptedStore, Weather};
use tideover::{
    BreakerMode, Cache, Class, Dependency, EngineKind, Error, LoadError, Loaded, RemovalReason, Settled, Source, Stale,
    Windows,
};
use tideover_core::Tag;
use tideover_tests::driving::{ENGINES, exact, millis, seconds};
use tideover_tests::witness::{Figures, Witness};
use tokio::time::sleep;
use tracing::Level;

/// Stale in its first minute, and in the hour after it only if the origin is away.
const WINDOWS: Windows = Windows {
    ttl: Some(seconds(10)),
    stale_while_revalidate: seconds(60),
    stale_if_error: seconds(3_600),
    ..Windows::FOREVER
};

fn cache_on(store: &ScriptedStore, engine: EngineKind, options: &[(&str, &str)]) -> Cache {
    exact(engine, options).name("shop").store(store.clone()).build().expect("a cache")
}

async fn load(cache: &Cache, key: &str) -> tideover::Fetched {
    cache.get_or_load(key, |_| async { Ok(Loaded::new("v")) }).await.expect("a value")
}

async fn fail(cache: &Cache, key: &str) -> Result<tideover::Fetched, Error> {
    cache.get_or_load(key, |_| async { Err(LoadError::unavailable("away")) }).await
}

/// What has happened so far.
fn told(events: &mut Events) -> Vec<Happened> {
    std::iter::from_fn(|| events.try_recv()).map(|Event { what, .. }| what).collect()
}

fn of_circuits(told: &[Happened]) -> Vec<Happened> {
    let is_circuit = |what: &&Happened| what.name().starts_with("circuit");
    told.iter().filter(is_circuit).cloned().collect()
}

fn opened(again: bool) -> Happened {
    Happened::CircuitOpened { of: Dependency::Store, again }
}

const HALF_OPENED: Happened = Happened::CircuitHalfOpened { of: Dependency::Store };
const RECOVERED: Happened = Happened::CircuitClosed { of: Dependency::Store, recovered: true };

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_store_is_in_the_health_report_with_its_reasons() {
    for &engine in EngineKind::ALL {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine, &[("store_attempts", "1"), ("store_breaker_open_for", "10s")]);
        load(&cache, "warm").await;
        let health = cache.health().await;
        assert_eq!((health.status, &health.reasons[..]), (Status::Ok, &[][..]), "{engine:?}");
        assert_eq!((&*health.cache, &*health.store.kind, health.store.answers), ("shop", "scripted", Some(true)));

        store.set(Weather::Away);
        for number in 0..5 {
            load(&cache, &format!("cold:{number}")).await;
        }
        assert_eq!(cache.put("k", "v", None).await.expect("a put"), Settled::Journaled);
        sleep(seconds(4)).await;
        let health = cache.health().await;
        assert!(health.is_serving() && !health.is_ok(), "{engine:?}");
        let reasons =
            [Reason::StoreFailing, Reason::StoreCircuit, Reason::OwesChanges, Reason::StoreUnanswered].as_slice();
        assert_eq!((health.status, &health.reasons[..]), (Status::Degraded, reasons), "{engine:?}");
        let circuit = &health.circuits.store;
        assert_eq!((circuit.state, circuit.gauge, circuit.trips), (CircuitState::Open, 1, 1), "{engine:?}");
        assert!(circuit.in_state_for >= seconds(4) && circuit.in_state_for < seconds(5), "{circuit:?}");
        let next_probe_in = circuit.next_probe_in.expect("it is open");
        assert!(next_probe_in > seconds(5) && next_probe_in <= seconds(6), "{circuit:?}");
        assert_eq!((health.store.owed, health.circuits.loader.state), (1, CircuitState::Closed), "{engine:?}");

        // The probe at ten seconds fails, too: the wait begins anew, the outage does not.
        sleep(seconds(10)).await;
        let circuit = cache.health().await.circuits.store;
        assert!(circuit.in_state_for < seconds(5) && circuit.open_for >= Some(seconds(13)), "{engine:?}: {circuit:?}");

        store.set(Weather::Fair);
        sleep(seconds(30)).await;
        let health = cache.health().await;
        assert_eq!((health.status, &health.reasons[..]), (Status::Ok, &[][..]), "{engine:?}");
        assert_eq!((health.circuits.store.recoveries, health.store.owed), (1, 0), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_circuit_opens_half_opens_and_closes_in_the_order_of_events() {
    for &engine in EngineKind::ALL {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine, &[("store_attempts", "1")]);
        let mut events = cache.events();
        store.set(Weather::Away);
        for number in 0..5 {
            load(&cache, &format!("cold:{number}")).await;
        }
        cache.put("k", "v", None).await.expect("a put");
        sleep(millis(100)).await;
        let first = told(&mut events);
        assert_eq!(of_circuits(&first), [opened(false)], "{engine:?}: it is told as soon as it happens");
        assert_eq!(first[0], Happened::StoreAway, "{engine:?}");
        // Debts are tried when the wait is over, and nobody calls. The first probe fails.
        sleep(millis(2_400)).await;
        let probed = told(&mut events);
        assert_eq!(of_circuits(&probed), [HALF_OPENED, opened(true)], "{engine:?}");
        store.set(Weather::Fair);
        sleep(seconds(10)).await;
        let back = told(&mut events);
        assert_eq!(of_circuits(&back), [HALF_OPENED, RECOVERED], "{engine:?}");
        assert!(back.contains(&Happened::Replayed { changes: 1, owed: 0 }), "{engine:?}: {back:?}");
        assert!(back.contains(&Happened::Recovered), "{engine:?}: {back:?}");
        assert!(matches!(back.last(), Some(Happened::StoreBack { failures: 6, .. })), "{engine:?}: {back:?}");
        cache.shutdown().await;
        assert_eq!(events.recv().await, None, "{engine:?}: the stream ends with the cache");
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_overflows_a_clear_and_what_an_operator_does_are_told() {
    for &engine in EngineKind::ALL {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine, &[("journal_max", "2")]);
        let mut events = cache.events();
        store.set(Weather::Away);
        for key in ["a", "b", "c"] {
            cache.put(key, "v", None).await.expect("a put");
        }
        sleep(seconds(1)).await;
        assert!(told(&mut events).contains(&Happened::JournalOverflowed), "{engine:?}");
        cache.clear().await.expect("a clear");
        cache.set_breaker_mode(Dependency::Loader, BreakerMode::ForcedOpen).await.expect("a mode");
        sleep(seconds(1)).await;
        let then = told(&mut events);
        assert!(then.contains(&Happened::Cleared), "{engine:?}: {then:?}");
        let of = Dependency::Loader;
        assert!(then.contains(&Happened::CircuitOpened { of, again: false }), "{engine:?}: {then:?}");
        cache.set_breaker_mode(of, BreakerMode::Automatic).await.expect("a mode");
        sleep(seconds(1)).await;
        let at_last = told(&mut events);
        assert!(at_last.contains(&Happened::CircuitClosed { of, recovered: false }), "{engine:?}: {at_last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn failed_loads_and_stale_answers_are_told_with_keys_to_those_who_ask() {
    for &engine in EngineKind::ALL {
        let cache = exact(engine, &[("load_attempts", "1")]).build().expect("a cache");
        cache.put("k", "v", Some(WINDOWS)).await.expect("a put");
        let (mut events, mut with_keys) = (cache.events(), cache.events_with(EventOptions::new().keys(true)));
        sleep(seconds(100)).await;
        let stale = fail(&cache, "k").await.expect("something stale");
        assert_eq!(stale.stale, Some(Stale::IfError), "{engine:?}");
        let failed = |key| Happened::LoadFailed { class: Class::Unavailable, attempt: 1, key };
        let served = |key| Happened::StaleServed { why: Stale::IfError, age: stale.age, key };
        let key = || Some("k".into());
        // Whether somebody has looked at the whole meanwhile is a matter of the engine's pace.
        let calls = |events: &mut Events| -> Vec<Happened> {
            told(events).into_iter().filter(|what| !matches!(what, Happened::Degraded { .. })).collect()
        };
        assert_eq!(calls(&mut events), [failed(None), served(None)], "{engine:?}");
        assert_eq!(calls(&mut with_keys), [failed(key()), served(key())], "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_leaves_memory_is_told_with_its_reason_to_those_who_ask() {
    for &engine in EngineKind::ALL {
        let cache = exact(engine, &[("removals_max", "2"), ("entries_max", "3")]).build().expect("a cache");
        let (mut events, mut all) = (cache.events(), cache.events_with(EventOptions::new().removals(true).keys(true)));
        cache.put("k", "v", None).await.expect("a put");
        cache.put("k", "w", None).await.expect("a put");
        cache.remove("k").await.expect("a removal");
        sleep(seconds(1)).await;
        let removed = |reason, key: &str| Happened::Removed { reason, key: Some(key.into()) };
        let expected = [removed(RemovalReason::Replaced, "k"), removed(RemovalReason::Removed, "k")];
        assert_eq!(told(&mut all), expected, "{engine:?}");
        for number in 0..10 {
            cache.put(&number.to_string(), "v", None).await.expect("a put");
        }
        sleep(seconds(1)).await;
        let evicted = told(&mut all);
        assert!(evicted.contains(&Happened::RemovalsLost { removals: 5 }), "{engine:?}: {evicted:?}");
        assert_eq!(evicted.iter().filter(|what| what.name() == "removed").count(), 2, "{engine:?}: {evicted:?}");
        assert_eq!(told(&mut events), [], "{engine:?}: nobody else is told");
    }
}

#[tokio::test(start_paused = true)]
async fn stale_hits_are_a_series_of_their_own_and_counters_survive_a_clear() {
    for &engine in EngineKind::ALL {
        let figures = Figures::default();
        let _guard = metrics::set_default_local_recorder(&figures);
        let cache = exact(engine, &[("load_attempts", "1")]).name("users").build().expect("a cache");
        cache.put("k", "v", Some(WINDOWS)).await.expect("a put");
        load(&cache, "k").await;
        load(&cache, "other").await;
        sleep(seconds(20)).await;
        // The refresh behind it fails.
        assert_eq!(fail(&cache, "k").await.expect("stale").stale, Some(Stale::WhileRevalidate), "{engine:?}");
        sleep(seconds(100)).await;
        assert_eq!(fail(&cache, "k").await.expect("stale").stale, Some(Stale::IfError), "{engine:?}");
        cache.update_metrics().await.expect("a look");
        let read = |figures: &Figures| {
            ["hits{cache=users}", "misses{cache=users}", "stale_hits{cache=users,why=while_revalidate}"]
                .into_iter()
                .chain(["stale_hits{cache=users,why=if_error}", "entries{cache=users}"])
                .map(|series| figures.value(&format!("tideover.cache.{series}")).unwrap_or(-1.0))
                .collect::<Vec<f64>>()
        };
        assert_eq!(read(&figures), [1.0, 2.0, 1.0, 1.0, 2.0], "{engine:?}");
        let loads =
            |outcome| figures.recorded(&format!("tideover.load.duration{{cache=users,outcome={outcome}}}")).len();
        assert_eq!((loads("ok"), loads("unavailable")), (1, 2), "{engine:?}");
        let state = figures.value("tideover.circuit.state{cache=users,circuit=loader}");
        assert_eq!(state, Some(0.0), "{engine:?}");

        cache.clear().await.expect("a clear");
        let tally = cache.stats().await.expect("a report").tally();
        assert_eq!((tally.hits, tally.misses, tally.stale(), tally.hit_rate()), (0, 0, 0, None), "{engine:?}");
        load(&cache, "k").await;
        load(&cache, "k").await;
        cache.update_metrics().await.expect("a look");
        assert_eq!(read(&figures), [2.0, 3.0, 1.0, 1.0, 1.0], "{engine:?}: what was counted stays counted");
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_tell_how_long_it_is_until_the_next_probe() {
    for &engine in EngineKind::ALL {
        let figures = Figures::default();
        let _guard = metrics::set_default_local_recorder(&figures);
        let options = [("load_breaker_failures", "2"), ("load_breaker_open_for", "10s")];
        let cache = exact(engine, &options).name("probed").build().expect("a cache");
        let next = async || {
            cache.update_metrics().await.expect("a look");
            figures.value("tideover.circuit.next_probe_in{cache=probed,circuit=loader}")
        };
        assert_eq!(next().await, Some(0.0), "{engine:?}: it is closed");
        for key in ["a", "b"] {
            assert!(fail(&cache, key).await.is_err(), "{engine:?}");
        }
        sleep(seconds(4)).await;
        let wait = next().await.expect("a gauge");
        assert!(wait > 5.9 && wait <= 6.0, "{engine:?}: {wait}");
        sleep(seconds(7)).await;
        assert_eq!(next().await, Some(0.0), "{engine:?}: a probe may pass");
        load(&cache, "c").await;
        assert_eq!(next().await, Some(0.0), "{engine:?}: it is closed again");
        cache.set_breaker_mode(Dependency::Loader, BreakerMode::ForcedOpen).await.expect("a mode");
        assert_eq!(next().await, Some(0.0), "{engine:?}: only an operator closes it");
    }
}

#[tokio::test(start_paused = true)]
async fn every_metric_of_the_table_is_described_and_told() {
    let figures = Figures::default();
    let _guard = metrics::set_default_local_recorder(&figures);
    let store = ScriptedStore::default();
    let cache = cache_on(&store, EngineKind::Native, &[]);
    load(&cache, "k").await;
    sleep(seconds(1)).await;
    let (described, text) = (figures.described(), figures.text());
    for metric in METRICS {
        let (_, doc) = &described[metric.name];
        assert_eq!(doc, metric.doc);
        assert!(text.contains(&format!("\"{}{{cache=shop", metric.name)), "{} is not told", metric.name);
        assert!(metric.labels().iter().all(|label| text.contains(&format!("{label}="))), "{}", metric.name);
    }
    assert_eq!(described.len(), METRICS.len());
}

#[tokio::test(start_paused = true)]
async fn rates_are_those_of_the_last_minute() {
    let cache = exact(EngineKind::Native, &[]).build().expect("a cache");
    for _ in 0..100 {
        load(&cache, "k").await;
    }
    sleep(seconds(120)).await;
    let quiet = cache.health().await.rates;
    assert_eq!((quiet.hit_rate, quiet.lookups_per_second), (None, 0.0));
    for _ in 0..30 {
        load(&cache, "k").await;
    }
    load(&cache, "l").await;
    load(&cache, "m").await;
    let busy = cache.health().await.rates;
    assert!((busy.hit_rate.expect("lookups") - 30.0 / 32.0).abs() < 1e-9, "{busy:?}");
    assert!(busy.window >= seconds(55) && busy.window <= seconds(66), "{busy:?}");
    assert_eq!(cache.stats().await.expect("a report").tally().hits, 129, "the counts go on");
}

#[tokio::test(start_paused = true)]
async fn a_health_report_survives_json_and_says_when_the_cache_is_shut_down() {
    for &engine in EngineKind::ALL {
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine, &[]);
        load(&cache, "k").await;
        let health = cache.health().await;
        let json = serde_json::to_value(&health).expect("JSON");
        assert_eq!((&json["status"], &json["circuits"]["store"]["mode"]), (&"ok".into(), &"automatic".into()));
        assert_eq!(json["store"]["guarantees"]["changed_keys"], "at_once");
        let back: Health = serde_json::from_value(json).expect("a report");
        assert_eq!(back, health, "{engine:?}");
        cache.shutdown().await;
        let health = cache.health().await;
        assert_eq!((health.status, health.is_serving()), (Status::Down, false), "{engine:?}");
        assert!(health.reasons.contains(&Reason::Closed), "{engine:?}: {health:?}");
    }
}

/// Ten minutes in which everything fails, and ten thousand calls of two kinds.
#[tokio::test(start_paused = true)]
async fn an_outage_of_ten_thousand_calls_writes_a_handful_of_lines() {
    for &engine in ENGINES {
        let (witness, _guard) = Witness::watch();
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine, &[("store_breaker", "false"), ("load_breaker", "false")]);
        store.set(Weather::Away);
        for number in 0..10_000 {
            fail(&cache, &number.to_string()).await.expect_err("everything is away");
            sleep(millis(6)).await;
        }
        store.set(Weather::Fair);
        load(&cache, "back").await;
        sleep(seconds(20)).await;
        let lines = witness.lines(Level::DEBUG);
        let of = |trouble: &str| lines.iter().filter(|line| line.field("trouble") == trouble).collect::<Vec<_>>();
        for (trouble, end) in [("store", "the store is back"), ("load", "loads succeed again")] {
            let lines = of(trouble);
            assert_eq!(lines.first().map(|line| line.level), Some(Level::WARN), "{engine:?}: {lines:?}");
            assert_eq!(lines.last().map(|line| &*line.what), Some(end), "{engine:?}: {lines:?}");
            let told: u64 = lines.last().and_then(|line| line.field("failures").parse().ok()).expect("a number");
            assert!(told >= 10_000, "{engine:?}: {told}");
        }
        assert!(lines.len() <= 20, "{engine:?}: {} lines: {lines:#?}", lines.len());
        assert!(lines.iter().all(|line| line.field("cache") == "shop"), "{engine:?}: {lines:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_lies_inside_its_flight_which_lies_inside_the_callers_span() {
    for &engine in ENGINES {
        let (witness, _guard) = Witness::watch();
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine, &[]);
        let request = tracing::info_span!(target: "tideover", "request");
        let load = cache.get_or_load("k", |_| async { Ok(Loaded::new("v")) });
        tracing::Instrument::instrument(load, request).await.expect("a value");
        sleep(millis(1)).await;
        let one = |name: &str| witness.spans(name).into_iter().next().unwrap_or_else(|| panic!("no span {name}"));
        let (request, flight, load) = (one("request"), one("tideover.flight"), one("tideover.load"));
        assert_eq!((flight.inside, load.inside), (request.span, flight.span), "{engine:?}");
        assert_eq!((flight.field("outcome"), load.field("outcome")), ("served", "ok"), "{engine:?}");
        assert_eq!((load.field("attempt"), load.field("cache"), load.field("key")), ("1", "shop", ""), "{engine:?}");
        let stores = witness.spans("tideover.store");
        let operations: Vec<_> = stores.iter().map(|span| (span.field("tier"), span.field("operation"))).collect();
        assert!(
            operations.contains(&("primary", "read")) && operations.contains(&("primary", "write")),
            "{operations:?}"
        );
        assert!(stores.iter().all(|span| span.inside == flight.span && span.field("outcome") == "ok"), "{engine:?}");
    }
}

/// Part of every key, and of every value, tag and error of a loader.
const CANARY_KEY: &str = "cannery-row";
const CANARY_VALUE: &str = "doc-ricketts";

/// Does with a cache whatever there is to see something of, on a store that works, fails and comes back. It takes minutes of
/// paused time, which the engine `component` does not know: its stores are dated by the civil clock.
async fn make_a_scene(cache: &Cache, store: &ScriptedStore) {
    let key = |name: &str| format!("{CANARY_KEY}:{name}");
    let value = || Loaded::new(CANARY_VALUE).tags([CANARY_VALUE]);
    cache.put(&key("stale"), CANARY_VALUE, Some(WINDOWS)).await.expect("a put");
    store.write(&key("foreign"), CANARY_VALUE.into(), None).await.expect("it is written");
    for name in ["a", "a", "foreign", "stale"] {
        cache.get_or_load(&key(name), move |_| async move { Ok(value()) }).await.expect("a value");
    }
    let typed = cache.typed::<u64>();
    cache.put(&key("text"), format!("\"{CANARY_VALUE}\""), None).await.expect("a put");
    assert_eq!(typed.get(&key("text")).await.expect("no error"), None.map(|()| unreachable!()));
    let options = cache.typed::<(String, Option<Option<u8>>)>();
    let nested = |_| async { Ok::<_, Error>((CANARY_VALUE.to_owned(), Some(None::<u8>))) };
    let _error = options.get_or_load(&key("unkept"), nested).await.expect_err("JSON has no options of options");
    store.set(Weather::Away);
    sleep(seconds(100)).await;
    let failing = || async { Err::<Loaded, _>(LoadError::unavailable(CANARY_VALUE).with_detail(CANARY_VALUE.into())) };
    let stale = cache.get_or_load(&key("stale"), move |_| failing()).await.expect("something stale");
    assert_eq!(stale.source, Source::Memory);
    for number in 0..20 {
        let _error = cache.get_or_load(&key(&number.to_string()), move |_| failing()).await.expect_err("away");
    }
    let panicking = |_| async { panic!("{CANARY_VALUE}") };
    let _error = cache.get_or_load(&key("panic"), panicking).await.expect_err("it panics or is refused");
    cache.invalidate_tag(CANARY_VALUE).await.expect("settled");
    cache.remove(&key("a")).await.expect("settled");
    cache.put(&key("owed"), CANARY_VALUE, None).await.expect("settled");
    store.set(Weather::Fair);
    sleep(seconds(100)).await;
    cache.clear().await.expect("settled");
    sleep(seconds(100)).await;
}

#[tokio::test(start_paused = true)]
async fn no_key_and_no_value_is_ever_seen() {
    for &engine in ENGINES {
        let (witness, _guard) = Witness::watch();
        let figures = Figures::default();
        let _recorder = metrics::set_default_local_recorder(&figures);
        let store = ScriptedStore::default();
        let cache = cache_on(&store, engine, &[("removals_max", "100"), ("load_breaker_open_for", "1s")]);
        let mut events = cache.events_with(EventOptions::new().removals(true));
        make_a_scene(&cache, &store).await;
        let health = cache.health().await;
        let told = told(&mut events);
        for name in ["load_failed", "stale_served", "removed", "circuit_opened", "store_away", "replayed", "cleared"] {
            assert!(told.iter().any(|what| what.name() == name), "{engine:?}: the scene has no {name}: {told:?}");
        }
        let lines = witness.lines(Level::DEBUG);
        for trouble in ["store", "load", "undecodable", "unkept", "corrupt", "store_circuit", "loader_circuit"] {
            assert!(lines.iter().any(|line| line.field("trouble") == trouble), "{engine:?}: no {trouble}: {lines:#?}");
        }
        let health = serde_json::to_string(&health).expect("JSON");
        for seen in [witness.text(), figures.text(), format!("{told:?}"), health, format!("{cache:?}")] {
            assert!(!seen.contains(CANARY_KEY) && !seen.contains(CANARY_VALUE), "{engine:?}: {seen}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_in_the_store_is_named_by_the_hash_of_its_key() {
    for &engine in EngineKind::ALL {
        let (witness, _guard) = Witness::watch();
        let store = ScriptedStore::default();
        store.write(CANARY_KEY, "no envelope".into(), None).await.expect("it is there");
        let cache = cache_on(&store, engine, &[]);
        assert_eq!(load(&cache, CANARY_KEY).await.source, Source::Load, "{engine:?}");
        let hash = format!("{:016x}", Tag::named(CANARY_KEY).0);
        let lines = witness.lines(Level::DEBUG);
        assert!(lines.iter().any(|line| line.field("key_hash") == hash), "{engine:?}: {lines:#?}");
        assert!(!witness.text().contains(CANARY_KEY), "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_seen_by_those_who_ask_and_values_by_nobody() {
    for &engine in ENGINES {
        let (witness, _guard) = Witness::watch();
        let store = ScriptedStore::default();
        let options: &[(&str, &str)] = &[("removals_max", "100"), ("load_breaker_open_for", "1s")];
        let revealing = exact(engine, options).reveal_keys(true).store(store.clone());
        let cache = revealing.build().expect("a cache");
        let mut events = cache.events_with(EventOptions::new().removals(true).keys(true));
        make_a_scene(&cache, &store).await;
        for name in ["tideover.load", "tideover.store"] {
            let spans = witness.spans(name);
            assert!(spans.iter().any(|span| span.field("key").contains(CANARY_KEY)), "{engine:?}: {name}");
        }
        let told = format!("{:?}", told(&mut events));
        assert!(told.contains(CANARY_KEY), "{engine:?}");
        for seen in [witness.text(), told] {
            assert!(!seen.contains(CANARY_VALUE), "{engine:?}: {seen}");
        }
        let lines = format!("{:?}", witness.lines(Level::DEBUG));
        assert!(!lines.contains(CANARY_KEY), "{engine:?}: keys are in spans, not in lines: {lines}");
    }
}

#[tokio::test(start_paused = true)]
async fn caches_without_a_name_are_told_apart() {
    let caches: Vec<Cache> = (0..2).map(|_| Cache::builder().build().expect("a cache")).collect();
    assert!(caches[0].name() != caches[1].name() && caches.iter().all(|cache| cache.name().starts_with("default")));
    let named = Cache::builder().name(Arc::<str>::from("users")).build().expect("a cache");
    assert_eq!((named.name(), named.health().await.cache), ("users", "users".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn whoever_reads_too_slowly_loses_calls_before_circuits() {
    let store = ScriptedStore::default();
    let cache = cache_on(&store, EngineKind::Native, &[("load_breaker", "false")]);
    let mut events = cache.events_with(EventOptions::new().capacity(5));
    store.set(Weather::Away);
    for number in 0..100 {
        fail(&cache, &number.to_string()).await.expect_err("away");
    }
    sleep(Duration::from_millis(600)).await;
    let told = told(&mut events);
    assert_eq!(told[0], Happened::Lost { events: 95 }, "{told:?}");
    assert!(told.contains(&Happened::StoreAway) && told.contains(&opened(false)), "{told:?}");
    assert_eq!(told.iter().filter(|what| what.name() == "load_failed").count(), 5, "{told:?}");
}
