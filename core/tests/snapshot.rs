//! Snapshots bring back what they hold, and whatever is no snapshot changes nothing.

use core::time::Duration;

use tideover_core::breaker::State;
use tideover_core::cache::snapshot::{Restored, SnapshotError, Taken};
use tideover_core::entropy::Entropy;
use tideover_core::stamp::Written;
use tideover_core::{
    Absence, Answer, Cache, Call, Class, Command, Event, FlightId, Found, Instant, Launch, Loaded, Outcome, Policy,
    Settled, Source, Step, StoreFailure, Tier, WallTime,
};

type Text = Cache<String, String>;

const NOON: WallTime = WallTime::from_unix_millis(1_700_000_000_000);
/// The clocks of both processes have been running for an hour.
const START: Instant = Instant::from_nanos(3_600_000_000_000);

fn policy(options: &[(&str, &str)]) -> Policy {
    let mut policy = Policy::default();
    for (name, value) in [("ttl", "60s"), ("stale_if_error", "1h"), ("wait_jitter", "0")].iter().chain(options) {
        policy.set(name, value).expect("an option");
    }
    policy
}

fn cache(options: &[(&str, &str)]) -> Text {
    Cache::new(policy(options), 1).expect("a policy")
}

fn later(seconds: u64) -> (Instant, WallTime) {
    let time = Duration::from_secs(seconds);
    (START + time, WallTime::from_unix_millis(NOON.as_unix_millis() + seconds * 1_000))
}

fn put(cache: &mut Text, key: &str, value: &str) -> Option<Launch<String, String>> {
    let command = Command::Put { key: key.to_owned(), value: value.to_owned(), windows: None };
    cache.command(command, START).launch
}

fn launched(cache: &mut Text, key: &str, now: Instant) -> (FlightId, Step<String, String>) {
    let launch = cache.lookup(&key.to_owned(), Call::default(), now).launch.expect("a flight");
    (launch.flight, launch.step)
}

/// Loads `key` with this result; what its callers get.
fn load(cache: &mut Text, key: &str, result: Result<Loaded<String>, Class>, now: Instant) -> Outcome<String> {
    let (flight, step) = launched(cache, key, now);
    let step = if let Step::Load { .. } = step {
        cache.resume(flight, Event::Loaded(result.map_err(Into::into)), now)
    } else {
        step
    };
    let Step::Land { outcome, .. } = step else { panic!("{step:?}") };
    assert!(matches!(cache.resume(flight, Event::Landed, now), Step::Done { next: None }));
    outcome
}

fn at_once(cache: &mut Text, key: &str, now: Instant) -> Outcome<String> {
    match cache.lookup(&key.to_owned(), Call::default(), now).answer {
        Answer::Now(outcome) => outcome,
        answer => panic!("{answer:?}"),
    }
}

fn rich() -> Text {
    let mut cache = cache(&[("load_breaker_failures", "1"), ("load_breaker_open_for", "20s")]);
    assert!(put(&mut cache, "ada", "Lovelace").is_none());
    assert_eq!(load(&mut cache, "nobody", Ok(Loaded::absent(None, &[])), START), Outcome::Absent(Absence::Confirmed));
    load(&mut cache, "x", Err(Class::Unavailable), START);
    cache
}

#[test]
fn entries_absences_and_breakers_go_on_where_they_were() {
    let bytes = rich().snapshot(START, NOON);
    let mut restored = cache(&[("load_breaker_failures", "1"), ("load_breaker_open_for", "20s")]);
    let (now, wall) = later(5);
    let brought = restored.restore(&bytes, Taken::Last, now, wall).expect("a snapshot");
    assert_eq!(brought, Restored { entries: 1, debts: 0, age: Duration::from_secs(5) });

    assert_eq!(restored.health().load_breaker.state, State::Open { until: START + Duration::from_secs(20) });
    let Outcome::Served(hit) = at_once(&mut restored, "ada", now) else { panic!("a hit") };
    assert_eq!((hit.value.as_str(), hit.age, hit.source), ("Lovelace", Duration::from_secs(5), Source::Memory));
    let until = START + Duration::from_secs(10);
    assert_eq!(at_once(&mut restored, "nobody", now), Outcome::Absent(Absence::Remembered { until }));
}

#[test]
fn what_expired_meanwhile_is_not_fresh_again_and_a_clock_set_back_makes_nothing_younger() {
    let bytes = rich().snapshot(START, NOON);
    let mut restored = cache(&[]);
    let (now, wall) = later(61);
    restored.restore(&bytes, Taken::Last, now, wall).expect("a snapshot");
    let outcome = load(&mut restored, "ada", Err(Class::Unavailable), now);
    assert!(matches!(outcome, Outcome::Served(stale) if stale.stale.is_some() && stale.age.as_secs() == 61));

    let mut restored = cache(&[]);
    let brought = restored.restore(&bytes, Taken::Last, START, WallTime::from_unix_millis(0)).expect("a snapshot");
    assert_eq!(brought.age, Duration::ZERO);
}

#[test]
fn debts_and_changes_under_way_are_paid_by_the_next_machine() {
    let mut old = cache(&[("store", "true"), ("store_attempts", "1")]);
    let Launch { flight, step } = put(&mut old, "owed", "1").expect("a write");
    assert!(matches!(step, Step::WriteStore { tier: Tier::Primary, .. }));
    let step = old.resume(flight, Event::StoreWritten(Err(StoreFailure::Unavailable)), START);
    assert!(matches!(step, Step::WriteStore { tier: Tier::Fallback, .. }), "owed to the primary");
    let _on_its_way = put(&mut old, "under way", "2").expect("a write");
    assert!(put(&mut old, "under way", "3").is_none(), "queued behind the other");
    let bytes = old.snapshot(START, NOON);

    let mut new = cache(&[("store", "true")]);
    let brought = new.restore(&bytes, Taken::Last, START, NOON).expect("a snapshot");
    assert_eq!(brought.debts, 2);
    let mut paid = Vec::new();
    let mut next = new.maintain(START);
    while let Some(flight) = next {
        let step = new.resume(flight, Event::Launched, START);
        let Step::WriteStore { tier: Tier::Primary, key, entry, .. } = step else { panic!("{step:?}") };
        paid.push((key, entry.value));
        let Step::Done { next: follower } = new.resume(flight, Event::StoreWritten(Ok(Written::Kept)), START) else {
            panic!("a debt is over when it is paid")
        };
        next = follower;
    }
    paid.sort();
    assert_eq!(paid, [("owed".to_owned(), "1".to_owned()), ("under way".to_owned(), "3".to_owned())]);
}

#[test]
fn an_earlier_snapshot_restores_what_is_safe_and_turns_debts_into_removals() {
    let mut old = cache(&[("store", "true"), ("store_attempts", "1"), ("store_breaker_failures", "1")]);
    let Launch { flight, .. } = put(&mut old, "owed", "1").expect("a write");
    let step = old.resume(flight, Event::StoreWritten(Err(StoreFailure::Unavailable)), START);
    let Step::WriteStore { tier: Tier::Fallback, .. } = step else { panic!("{step:?}") };
    let bytes = old.snapshot(START, NOON);

    let mut new = cache(&[("store", "true")]);
    let brought = new.restore(&bytes, Taken::Earlier, START, NOON).expect("a snapshot");
    assert_eq!(brought, Restored { entries: 0, debts: 1, age: Duration::ZERO });
    let State::Open { until } = new.health().store_breaker.state else { panic!("the breaker is restored") };
    let clear = new.maintain(until).expect("the fallback is in doubt");
    let step = new.resume(clear, Event::Launched, until);
    assert!(matches!(step, Step::ClearStore { tier: Tier::Fallback, .. }));
    let Step::Done { next: Some(debt) } = new.resume(clear, Event::StoreCleared(Ok(())), until) else {
        panic!("the primary need not be cleared")
    };
    assert!(matches!(new.resume(debt, Event::Launched, until), Step::RemoveStore { tier: Tier::Primary, .. }));
}

#[test]
fn a_machine_in_use_is_left_alone() {
    let bytes = rich().snapshot(START, NOON);
    let mut used = cache(&[]);
    let (flight, _) = launched(&mut used, "k", START);
    assert_eq!(used.restore(&bytes, Taken::Last, START, NOON), Err(SnapshotError::InUse));
    assert!(matches!(used.resume(flight, Event::Abandoned, START), Step::Land { .. }));
}

#[test]
fn every_truncation_every_flipped_bit_and_whatever_is_foreign_is_refused_and_changes_nothing() {
    let bytes = rich().snapshot(START, NOON);
    let mut cache = cache(&[]);
    put(&mut cache, "own", "value");
    let before = cache.snapshot(START, NOON);
    let mut refused = |bytes: &[u8]| cache.restore(bytes, Taken::Last, START, NOON).expect_err("refused");
    for length in 0..bytes.len() {
        refused(&bytes[..length]);
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refused(&flipped);
    }
    assert_eq!(refused(b"{\"json\": true}"), SnapshotError::Foreign);
    let future = [&b"ts\x09"[..], &bytes[3..]].concat();
    assert_eq!(refused(&future), SnapshotError::Version(9));
    let longer = [&bytes[..], b"x"].concat();
    assert_eq!(refused(&longer), SnapshotError::Checksum);
    assert_eq!(cache.snapshot(START, NOON), before);
}

/// What a checksum vouches for may still be nonsense.
#[test]
fn random_states_behind_a_valid_checksum_do_not_panic_and_wedge_nothing() {
    let good = rich().snapshot(START, NOON);
    let mut dice = Entropy::from_seed(9);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut state = good[7..].to_vec();
        for _ in 0..=dice.bits() % 4 {
            let place = (dice.bits() % state.len() as u64) as usize;
            state[place] = dice.bits() as u8;
        }
        let bytes = [&good[..3], &crc32fast::hash(&state).to_le_bytes(), &state].concat();
        let mut cache = cache(&[("store", "true")]);
        if cache.restore(&bytes, Taken::Last, START, NOON).is_ok() {
            accepted += 1;
            let day = START + Duration::from_secs(86_400);
            let Launch { flight, step } =
                cache.lookup(&"k".to_owned(), Call::default(), day).launch.expect("whatever it holds, k can be loaded");
            let step = match step {
                Step::ReadStore { .. } => cache.resume(flight, Event::StoreRead(Ok(Found::NOTHING)), day),
                step => step,
            };
            assert!(matches!(step, Step::Load { .. }), "{step:?}");
        }
    }
    assert!(accepted > 1_000, "{accepted}");
}

#[test]
fn a_cleared_store_stays_owed() {
    let mut old = cache(&[("store", "true"), ("fallback", "false")]);
    let launch = old.command(Command::Clear, START).launch.expect("a clear");
    let Step::ClearStore { tier: Tier::Primary, .. } = launch.step else { panic!("{:?}", launch.step) };
    let bytes = old.snapshot(START, NOON);
    let mut new = cache(&[("store", "true"), ("fallback", "false")]);
    new.restore(&bytes, Taken::Last, START, NOON).expect("a snapshot");
    assert!(new.health().owes_clear);
    let step = old.resume(launch.flight, Event::StoreCleared(Ok(())), START);
    assert!(matches!(step, Step::Land { outcome: Outcome::Settled(Settled::Store), .. }));
}
