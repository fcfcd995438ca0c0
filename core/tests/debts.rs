//! A debt that is named and not yet launched when the store's breaker changes its mind is paid later.

use core::time::Duration;

use tideover_core::{Cache, Call, Command, Event, Found, Instant, Policy, Step, StoreFailure, Tier};

#[test]
fn a_debt_steps_back_for_a_probe_and_is_paid_after_it() {
    let mut policy = Policy::default();
    let options = [("store", "true"), ("fallback", "false"), ("store_attempts", "1"), ("store_breaker_failures", "1")];
    for (name, value) in options.into_iter().chain([("wait_jitter", "0")]) {
        policy.set(name, value).expect("an option");
    }
    let mut cache: Cache<&str, &str> = Cache::new(policy, 1).expect("a policy");
    let put = Command::Put { key: "owed", value: "1", windows: None };
    let write = cache.command(put, Instant::ZERO).launch.expect("a write").flight;
    let step = cache.resume(write, Event::StoreWritten(Err(StoreFailure::Unavailable)), Instant::ZERO);
    assert!(matches!(step, Step::Land { .. }));
    assert!(matches!(cache.resume(write, Event::Landed, Instant::ZERO), Step::Done { next: None }));

    let now = Instant::ZERO + Duration::from_secs(1);
    let debt = cache.maintain(now).expect("the wait in open is over");
    let probe = cache.lookup(&"other", Call::default(), now).launch.expect("a read");
    assert!(matches!(probe.step, Step::ReadStore { tier: Tier::Primary, .. }), "it takes the only probe");
    assert!(matches!(cache.resume(debt, Event::Launched, now), Step::Done { next: None }));

    assert!(matches!(cache.resume(probe.flight, Event::StoreRead(Ok(Found::NOTHING)), now), Step::Load { .. }));
    let again = cache.maintain(now).expect("still owed");
    let step = cache.resume(again, Event::Launched, now);
    assert!(matches!(step, Step::WriteStore { tier: Tier::Primary, key: "owed", .. }), "{step:?}");
}
