//! What callers get while the store is away, and what it gets when it is back.

use futures_util::future::BoxFuture;

use super::*;
use crate::store::{Store, StoreError};
use crate::testing::{Asked, Spell};

/// Long enough for the circuit to be probed and everything to be paid, whatever it has waited for.
const RECOVERY: Duration = seconds(40);

async fn back(store: &ScriptedStore) {
    store.set(Weather::Fair);
    sleep(RECOVERY).await;
}

/// Opens the circuit.
async fn away(store: &ScriptedStore, direct: &Direct) {
    store.set(Weather::Away);
    for _ in 0..5 {
        assert!(direct.get("probe").await.expect("it is answered").is_fallback());
    }
    let operations = store.operations();
    assert!(direct.get("probe").await.expect("it is answered").is_fallback());
    assert_eq!(store.operations(), operations, "the circuit is open");
}

/// Whether `time` passed since then, give or take the ticks of tokio's timers.
fn about(began: Instant, time: Duration) -> bool {
    (time..=time + Duration::from_millis(5)).contains(&began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn warm_keys_are_readable_from_the_first_read_of_an_outage() {
    let store = ScriptedStore::default();
    let (ours, theirs) = (direct(&store), direct(&store));
    ours.put("written", "1", None).await.expect("a put");
    ours.increment("counted", 7, None).await.expect("a count");
    theirs.put("read", "2", MINUTE).await.expect("a put");
    assert_eq!(ours.get("read").await.expect("it is answered").value, text("2"));
    ours.put("removed", "3", None).await.expect("a put");
    ours.remove("removed").await.expect("a removal");
    store.set(Weather::Away);
    let warm = ours.get_many(&["written", "counted", "read", "removed"]).await.expect("it is answered");
    assert!(warm.is_fallback());
    assert_eq!(warm.value, [text("1"), text("7"), text("2"), None]);
    assert_eq!(ours.remaining("read").await.expect("it is answered").value, Remaining::Left(seconds(60)));
    sleep(seconds(60)).await;
    assert_eq!(ours.get("read").await.expect("it is answered").value, None, "no copy outlives its original");
}

#[tokio::test(start_paused = true)]
async fn a_copy_whose_end_nobody_knows_is_kept_for_the_usual_time() {
    let store = ScriptedStore::default();
    let (ours, theirs) = (process(&store, &[("ttl", "30s")]).direct(), direct(&store));
    theirs.put("k", "v", MINUTE).await.expect("a put");
    // Nobody asks when many keys end.
    ours.get_many(&["k"]).await.expect("it is answered");
    store.set(Weather::Away);
    assert_eq!(ours.remaining("k").await.expect("it is answered").value, Remaining::Left(seconds(30)));
    advance(Duration::from_millis(29_999)).await;
    assert!(ours.exists("k").await.expect("it is answered").value);
    advance(Duration::from_millis(1)).await;
    assert!(!ours.exists("k").await.expect("it is answered").value);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_began_before_a_removal_brings_nothing_back() {
    let store = ScriptedStore::default();
    let ours = direct(&store);
    direct(&store).put("k", "v", None).await.expect("a put");
    store.script([Spell::of(Weather::Slow(Duration::from_millis(100))).on(Asked::Read)]);
    let reading = tokio::spawn({
        let ours = ours.clone();
        async move { ours.get("k").await }
    });
    sleep(Duration::from_millis(50)).await;
    ours.remove("k").await.expect("a removal");
    reading.await.expect("no panic").expect("it is answered");
    store.set(Weather::Away);
    assert_eq!(ours.get("k").await.expect("it is answered").value, None);
}

#[tokio::test(start_paused = true)]
async fn a_hung_store_costs_each_call_its_deadline_until_the_circuit_opens() {
    let store = ScriptedStore::default();
    let cache = process(&store, &[]);
    let direct = cache.direct();
    direct.increment("n", 1, None).await.expect("a count");
    store.set(Weather::Hung);
    let (read, write) = (Duration::from_millis(250), seconds(1));
    let began = Instant::now();
    assert!(direct.get("k").await.expect("it is answered").is_fallback());
    assert!(about(began, read), "{:?}", began.elapsed());
    let began = Instant::now();
    let unknown = direct.increment("n", 1, None).await;
    assert!(matches!(unknown, Err(Error::OutcomeUnknown { operation: "increment" })), "{unknown:?}");
    assert!(about(began, write), "{:?}", began.elapsed());
    for number in 0..3 {
        assert!(direct.put(&format!("k{number}"), "v", None).await.expect("it is answered").is_fallback());
    }
    let began = Instant::now();
    assert_eq!(direct.increment("n", 1, None).await.expect("now it is known not to be sent").value, 2);
    assert_eq!(began.elapsed(), Duration::ZERO, "an open circuit costs nothing");
    assert_eq!(cache.health().await.circuits.direct.trips, 1);
    back(&store).await;
    assert_eq!(found(&store, "n").await, text("2"));
    assert_eq!(found(&store, "k2").await, text("v"));
}

#[tokio::test(start_paused = true)]
async fn of_what_changes_in_an_outage_the_newest_is_replayed() {
    let store = ScriptedStore::default();
    let ours = direct(&store);
    for key in ["put", "removed", "taken", "ending", "many", "m:1", "m:2"] {
        ours.put(key, "old", None).await.expect("a put");
    }
    away(&store, &ours).await;
    for value in ["new", "newer"] {
        ours.put("put", value, Some(seconds(600))).await.expect("a put");
    }
    assert!(ours.remove("removed").await.expect("a removal").value);
    assert_eq!(ours.take("taken").await.expect("it is taken").value, text("old"));
    assert!(ours.set_ttl("ending", Some(seconds(600))).await.expect("it ends").value);
    ours.put_many(&[("many", "new".into()), ("more", "new".into())], None).await.expect("a put");
    assert_eq!(ours.remove_matching("m:*").await.expect("a removal").value, 2);
    ours.put("m:2", "after it", None).await.expect("a put");
    assert_eq!(ours.stats().owed, 8, "seven keys and a pattern");
    back(&store).await;

    let theirs = direct(&store);
    let left = |remaining| match remaining {
        Remaining::Left(left) => left.as_secs(),
        other => panic!("{other:?}"),
    };
    for (key, value) in [("put", text("newer")), ("removed", None), ("taken", None), ("m:1", None)] {
        assert_eq!(theirs.get(key).await.expect("it is answered").value, value, "{key}");
    }
    for (key, value) in [("many", "new"), ("more", "new"), ("m:2", "after it"), ("ending", "old")] {
        assert_eq!(theirs.get(key).await.expect("it is answered").value, text(value), "{key}");
    }
    for key in ["put", "ending"] {
        let left = left(theirs.remaining(key).await.expect("it is answered").value);
        assert_eq!(left, 560, "{key}: the outage counts");
    }
    assert_eq!((ours.stats().owed, ours.get("put").await.expect("it is answered").source), (0, Source::Store));
}

#[tokio::test(start_paused = true)]
async fn counts_of_an_outage_are_added_to_those_of_others() {
    let store = ScriptedStore::default();
    let (ours, theirs) = (direct(&store), direct(&store));
    ours.increment("n", 10, None).await.expect("a count");
    away(&store, &ours).await;
    for _ in 0..3 {
        ours.increment("n", 1, None).await.expect("a count");
        ours.increment("new", 2, MINUTE).await.expect("a count");
    }
    store.set(Weather::Fair);
    assert_eq!(theirs.increment("n", 100, None).await.expect("a count").value, 110);
    assert_eq!(theirs.increment("new", 100, MINUTE).await.expect("a count").value, 100);
    assert_eq!(ours.get("n").await.expect("it is answered").value, text("13"), "what is known here");
    sleep(RECOVERY).await;
    assert_eq!((found(&store, "n").await, found(&store, "new").await), (text("113"), text("106")));
    assert_eq!(ours.increment("n", 1, None).await.expect("a count").value, 114);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_is_no_count_made_twice() {
    let store = ScriptedStore::default();
    let direct = direct(&store);
    store.script([Spell::of(Weather::AnswerLost).on(Asked::Write).times(2)]);
    let unknown = direct.increment("n", 1, None).await;
    assert!(matches!(unknown, Err(Error::OutcomeUnknown { .. })), "{unknown:?}");
    assert!(direct.put("k", "v", None).await.expect("it is answered").is_fallback(), "this may be done twice");
    back(&store).await;
    assert_eq!((found(&store, "n").await, found(&store, "k").await), (text("1"), text("v")));
    assert_eq!((direct.stats().unknown, direct.stats().owed), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_count_that_is_lost_while_it_is_paid_is_told_and_not_made_twice() {
    let store = ScriptedStore::default();
    let direct = direct(&store);
    store.set(Weather::Away);
    direct.increment("n", 5, None).await.expect("a count");
    store.script([Spell::of(Weather::AnswerLost).on(Asked::Write).times(1)]);
    sleep(RECOVERY).await;
    assert_eq!(found(&store, "n").await, text("5"));
    assert_eq!((direct.stats().unknown, direct.stats().owed), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_count_ends_with_its_number() {
    let store = ScriptedStore::default();
    let direct = direct(&store);
    direct.increment("known", 1, Some(seconds(10))).await.expect("a count");
    away(&store, &direct).await;
    for key in ["known", "new"] {
        direct.increment(key, 1, Some(seconds(10))).await.expect("a count");
    }
    sleep(seconds(10)).await;
    assert_eq!(direct.increment("known", 1, MINUTE).await.expect("a count").value, 1, "a new one");
    sleep(seconds(2)).await;
    back(&store).await;
    assert_eq!((found(&store, "known").await, found(&store, "new").await), (text("1"), None));
}

#[tokio::test(start_paused = true)]
async fn what_was_given_more_time_is_there_afterwards_unless_somebody_has_removed_it() {
    let store = ScriptedStore::default();
    let (ours, theirs) = (direct(&store), direct(&store));
    for key in ["session", "replaced", "n"] {
        ours.put(key, "5", Some(seconds(10))).await.expect("a put");
    }
    ours.put("removed", "5", Some(seconds(600))).await.expect("a put");
    away(&store, &ours).await;
    for key in ["session", "removed"] {
        assert!(ours.set_ttl(key, Some(seconds(3_600))).await.expect("it is answered").value);
    }
    assert!(ours.put_if_present("replaced", "6", None).await.expect("it is answered").value);
    ours.increment("n", 2, None).await.expect("a count");
    assert!(ours.set_ttl("n", None).await.expect("it is answered").value);
    store.set(Weather::Fair);
    theirs.remove("removed").await.expect("a removal");
    store.set(Weather::Away);
    sleep(seconds(20)).await;
    back(&store).await;
    for (key, value) in [("session", text("5")), ("replaced", text("6")), ("n", text("7")), ("removed", None)] {
        assert_eq!(theirs.get(key).await.expect("it is answered").value, value, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_to_be_back_has_what_was_absent() {
    let store = ScriptedStore::default();
    let (ours, theirs) = (direct(&store), direct(&store));
    away(&store, &ours).await;
    assert!(ours.put_if_absent("lock", "ours", None).await.expect("it is answered").value);
    assert!(ours.put_if_absent("free", "ours", None).await.expect("it is answered").value);
    assert!(ours.put_if_absent("n", "0", None).await.expect("it is answered").value);
    assert_eq!(ours.increment("n", 2, None).await.expect("a count").value, 2);
    store.set(Weather::Fair);
    assert!(theirs.put_if_absent("lock", "theirs", None).await.expect("it is answered").value);
    theirs.increment("n", 40, None).await.expect("a count");
    sleep(RECOVERY).await;
    assert_eq!((found(&store, "lock").await, found(&store, "free").await), (text("theirs"), text("ours")));
    assert_eq!(found(&store, "n").await, text("42"));
    store.set(Weather::Away);
    assert_eq!(ours.get("lock").await.expect("it is answered").value, None, "what was told is no copy of it");
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_may_have_held_at_the_store_is_not_answered_with_no() {
    let store = ScriptedStore::default();
    let direct = direct(&store);
    direct.put("k", "v", None).await.expect("a put");
    store.set(Weather::Hung);
    let unknown = direct.put_if_absent("k", "w", None).await;
    assert!(matches!(unknown, Err(Error::OutcomeUnknown { operation: "put_if_absent" })), "{unknown:?}");
    assert!(direct.put_if_present("k", "w", None).await.expect("it is answered").value);
    back(&store).await;
    assert_eq!(found(&store, "k").await, text("w"));
}

#[tokio::test(start_paused = true)]
async fn a_full_journal_refuses_and_forgets_nothing() {
    let store = ScriptedStore::default();
    let direct = process(&store, &[("journal_max", "3")]).direct();
    store.set(Weather::Away);
    for key in ["a", "b", "c", "a"] {
        direct.increment(key, 1, None).await.expect("there is room");
    }
    let full = [
        direct.put("d", "1", None).await.map(drop),
        direct.increment("d", 1, None).await.map(drop),
        direct.remove("d").await.map(drop),
        direct.put_many(&[("a", "9".into()), ("d", "9".into())], None).await.map(drop),
        direct.remove_matching("d*").await.map(drop),
    ];
    let is_full = |refused: &Result<(), Error>| matches!(refused, Err(Error::JournalFull { max: 3, .. }));
    assert!(full.iter().all(is_full), "{full:?}");
    assert!(full.iter().all(|refused| refused.as_ref().is_err_and(Error::is_unavailable)));
    assert!(direct.get("d").await.expect("reads are answered").value.is_none());
    assert_eq!((direct.stats().owed, direct.stats().journal_full), (3, 5));
    back(&store).await;
    for (key, value) in [("a", text("2")), ("b", text("1")), ("c", text("1")), ("d", None)] {
        assert_eq!(found(&store, key).await, value, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_owed_is_paid_before_its_key_is_asked_of_the_store() {
    let store = ScriptedStore::default();
    let direct = direct(&store);
    direct.put("k", "old", None).await.expect("a put");
    store.script([Spell::of(Weather::Away).times(1)]);
    assert!(direct.put("k", "new", None).await.expect("it is answered").is_fallback());
    assert_eq!(direct.stats().owed, 1, "the circuit is closed all the time");
    let read = direct.get("k").await.expect("it is answered");
    assert_eq!((read.value, read.source, direct.stats().owed), (text("new"), Source::Store, 0));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_while_it_is_paid_holds_nobody_up_and_is_paid_later() {
    let store = ScriptedStore::default();
    let direct = direct(&store);
    away(&store, &direct).await;
    for number in 0..100 {
        direct.put(&format!("k{number}"), "v", None).await.expect("a put");
    }
    store.script([Spell::of(Weather::Fair).times(10), Spell::of(Weather::Hung).lasting(seconds(20))]);
    sleep(seconds(2)).await;
    let began = Instant::now();
    direct.put("k7", "newer", None).await.expect("a put");
    assert!(began.elapsed() <= seconds(1), "{:?}", began.elapsed());
    sleep(seconds(60)).await;
    assert_eq!(direct.stats().owed, 0);
    assert_eq!((found(&store, "k7").await, found(&store, "k99").await), (text("newer"), text("v")));
}

#[tokio::test(start_paused = true)]
async fn what_the_store_refuses_for_good_is_given_up_and_told() {
    let store = ScriptedStore::default();
    let (ours, theirs) = (direct(&store), direct(&store));
    away(&store, &ours).await;
    ours.increment("n", 1, None).await.expect("a count");
    store.set(Weather::Fair);
    theirs.put("n", "text", None).await.expect("a put");
    sleep(RECOVERY).await;
    assert_eq!((found(&store, "n").await, ours.stats().given_up, ours.stats().owed), (text("text"), 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_clear_in_an_outage_reaches_what_is_not_known_here() {
    let store = ScriptedStore::default();
    let (ours, theirs) = (direct(&store), direct(&store));
    theirs.put("unknown", "v", None).await.expect("a put");
    away(&store, &ours).await;
    ours.put("before", "v", None).await.expect("a put");
    ours.clear().await.expect("a clear");
    ours.put("after", "v", None).await.expect("a put");
    assert_eq!(ours.get_many(&["unknown", "before", "after"]).await.expect("it is answered").value.len(), 3);
    back(&store).await;
    assert_eq!(theirs.scan("*", &Cursor::default(), 9).await.expect("a page").value.keys, ["after"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_process_pays_what_it_can() {
    let store = ScriptedStore::with(Weather::Away);
    let cache = process(&store, &[]);
    cache.direct().put("k", "v", None).await.expect("a put");
    store.set(Weather::Fair);
    cache.shutdown().await;
    assert_eq!(found(&store, "k").await, text("v"));

    store.set(Weather::Hung);
    let cache = process(&store, &[]);
    cache.direct().put("l", "v", None).await.expect("a put");
    let began = Instant::now();
    cache.shutdown().await;
    assert!(began.elapsed() <= seconds(10), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_a_fallback_the_store_is_required() {
    let store = ScriptedStore::with(Weather::Away);
    let direct = process(&store, &[("fallback", "false")]).direct();
    assert!(direct.put("k", "v", None).await.expect_err("it is away").is_store());
    assert_eq!(direct.stats().owed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_gives_its_permit_back() {
    let store = ScriptedStore::default();
    let direct = direct(&store);
    away(&store, &direct).await;
    store.set(Weather::Hung);
    advance(seconds(1)).await;
    assert!(tokio::time::timeout(Duration::from_millis(10), direct.get("k")).await.is_err(), "it is the probe");
    store.set(Weather::Fair);
    assert_eq!(direct.get("k").await.expect("it is answered").source, Source::Store);
}

#[tokio::test(start_paused = true)]
async fn health_tells_of_the_circuit_and_of_what_is_owed() {
    use crate::observe::{CircuitState, Reason, Status};
    let store = ScriptedStore::default();
    let cache = process(&store, &[]);
    away(&store, &cache.direct()).await;
    cache.direct().put("k", "v", None).await.expect("a put");
    let health = cache.health_at_hand().await;
    assert_eq!((health.circuits.direct.state, health.direct.owed), (CircuitState::Open, 1));
    assert_eq!((health.direct.answers, health.direct.fallback), (7, 7));
    assert!(health.reasons.contains(&Reason::DirectCircuit) && health.reasons.contains(&Reason::DirectOwesChanges));
    assert_eq!(health.circuits.store.state, CircuitState::Closed, "it is another circuit");
    back(&store).await;
    let health = cache.health().await;
    assert_eq!((health.status, health.circuits.direct.recoveries, health.direct.owed), (Status::Ok, 1, 0));
}

/// A store whose client has no room left.
struct Crowded;

impl Store for Crowded {
    fn name(&self) -> &'static str {
        "crowded"
    }

    fn read<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async { Err(StoreError::Overloaded { queue_max: 1 }) })
    }

    fn write<'a>(&'a self, _: &'a str, _: Bytes, _: Option<Duration>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Err(StoreError::Congested) })
    }

    fn remove<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

#[tokio::test(start_paused = true)]
async fn time_in_our_own_queue_is_no_verdict() {
    let cache = testing::builder().store(Crowded).build().expect("a cache");
    for _ in 0..20 {
        assert!(cache.direct().get("k").await.expect("it is answered").is_fallback());
        assert!(cache.direct().put("k", "v", None).await.expect("it is answered").is_fallback());
    }
    let circuit = cache.health().await.circuits.direct;
    assert_eq!((circuit.trips, circuit.failures), (0, 0));
    let unsupported = cache.direct().increment("n", 1, None).await;
    assert!(matches!(unsupported, Err(Error::StoreRefused { error: StoreError::Unsupported(_), .. })));
}

#[test]
fn a_payment_that_its_runtime_never_begins_is_made_by_the_next() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (store, first) = (ScriptedStore::default(), runtime());
    let direct = first.block_on(async { direct(&store) });
    store.set(Weather::Away);
    first.block_on(direct.put("k", "1", None)).expect("it is owed");
    store.set(Weather::Fair);
    // It is answered at once, so that the runtime ends before it has come to what was launched.
    runtime().block_on(direct.get("other")).expect("it is answered");
    let found = first.block_on(direct.get("k")).expect("it is answered");
    assert_eq!((found.value, found.source), (text("1"), Source::Store));
}
