//! Stories of one breaker on a scripted clock.

use super::*;
use alloc::vec::Vec;

const NANO: Duration = Duration::from_nanos(1);
const QUICK: Duration = Duration::ZERO;
const SLOW: Duration = Duration::from_secs(2);

fn policy() -> BreakerPolicy {
    BreakerPolicy { consecutive_failures: 3, open_jitter: 0, ..BreakerPolicy::default() }
}

/// Only rates, over a window of ten calls.
fn rates() -> BreakerPolicy {
    BreakerPolicy { consecutive_failures: 0, minimum_calls: 10, window_calls: 10, ..policy() }
}

/// Only the slow-call rate.
fn slowness() -> BreakerPolicy {
    BreakerPolicy { failure_rate: 0, slow_call_rate: 50, slow_call: SLOW, ..rates() }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn at(n: u64) -> Instant {
    Instant::ZERO + seconds(n)
}

fn just_before(moment: Instant) -> Instant {
    Instant::from_nanos(moment.as_nanos() - 1)
}

fn call_that_took(breaker: &mut Breaker, took: Duration, verdict: Verdict, now: Instant) {
    let permit = breaker.try_acquire(now, now + seconds(1)).expect("a permit");
    breaker.report(permit, verdict, took, now);
}

fn call(breaker: &mut Breaker, verdict: Verdict, now: Instant) {
    call_that_took(breaker, QUICK, verdict, now);
}

fn calls(breaker: &mut Breaker, number: u32, verdict: Verdict, now: Instant) {
    (0..number).for_each(|_| call(breaker, verdict, now));
}

fn opened(policy: BreakerPolicy) -> Breaker {
    let mut breaker = Breaker::new(policy, 1);
    calls(&mut breaker, policy.consecutive_failures, Verdict::Failure, Instant::ZERO);
    assert!(is_open(&breaker));
    breaker
}

fn is_open(breaker: &Breaker) -> bool {
    matches!(breaker.state_by_rules(), State::Open { .. })
}

#[test]
fn refuses_at_every_instant_before_the_promised_one_and_admits_exactly_then() {
    let mut breaker = opened(policy());
    let NotUntil(until) = breaker.try_acquire(Instant::ZERO, Instant::ZERO).expect_err("open");
    assert_eq!(until, at(1));
    for part in 0..100 {
        let before = Instant::ZERO + scale(until - Instant::ZERO, part, 100);
        assert_eq!(breaker.try_acquire(before, before), Err(NotUntil(until)));
        assert_eq!(breaker.next_probe(before), Some(until));
    }
    assert!(breaker.try_acquire(just_before(until), until).is_err());
    assert!(breaker.try_acquire(until, until).is_ok());
    assert_eq!(breaker.stats().refused, 102);
}

#[test]
fn a_success_between_failures_starts_the_count_anew() {
    let mut breaker = Breaker::new(BreakerPolicy { failure_rate: 0, ..policy() }, 1);
    for verdict in [Verdict::Failure, Verdict::Failure, Verdict::Success, Verdict::Failure, Verdict::Failure] {
        call(&mut breaker, verdict, Instant::ZERO);
    }
    assert_eq!(breaker.state(), State::Closed);
    call(&mut breaker, Verdict::None, Instant::ZERO);
    call(&mut breaker, Verdict::Failure, Instant::ZERO);
    assert!(is_open(&breaker), "no verdict neither counts nor resets");
    let stats = breaker.stats();
    assert_eq!((stats.successes, stats.failures, stats.slow, stats.trips), (1, 5, 0, 1));
}

#[test]
fn half_open_admits_exactly_its_probes_and_closes_when_all_succeed() {
    for probes in [1, 3, PROBES_MAX] {
        let mut breaker = opened(BreakerPolicy { probes, ..policy() });
        let now = at(1);
        let permits: Vec<_> = (0..probes + 2).filter_map(|_| breaker.try_acquire(now, now).ok()).collect();
        assert_eq!(permits.len(), probes as usize);
        for (number, permit) in permits.into_iter().enumerate() {
            assert_eq!(breaker.state(), State::HalfOpen, "before probe {number}");
            breaker.report(permit, Verdict::Success, QUICK, now);
        }
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(breaker.stats().recoveries, 1);
    }
}

#[test]
fn a_slot_whose_probe_succeeded_is_not_free_again() {
    let mut breaker = opened(BreakerPolicy { probes: 2, ..policy() });
    call(&mut breaker, Verdict::Success, at(1));
    let last = breaker.try_acquire(at(1), at(1)).expect("the second probe");
    assert!(breaker.try_acquire(at(1), at(1)).is_err(), "two are permitted in all, not at once");
    breaker.report(last, Verdict::Success, QUICK, at(1));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_cancelled_probe_gives_its_slot_back_and_a_vanished_one_loses_it() {
    let mut breaker = opened(policy());
    let now = at(1);
    let cancelled = breaker.try_acquire(now, now).expect("a probe");
    breaker.report(cancelled, Verdict::None, QUICK, now);
    assert_eq!(breaker.next_probe(now), Some(now), "the slot is free");
    let vanished = breaker.try_acquire(now, now + seconds(2)).expect("the slot again");
    let lost_at = now + seconds(2) + LEASE_GRACE;
    assert_eq!(breaker.try_acquire(now, now), Err(NotUntil(lost_at)));
    assert_eq!(breaker.next_probe(now), Some(lost_at));
    assert!(breaker.try_acquire(just_before(lost_at), lost_at).is_err());
    let taker = breaker.try_acquire(lost_at, lost_at).expect("the vanished probe's slot");
    breaker.report(vanished, Verdict::Failure, QUICK, lost_at);
    assert_eq!(breaker.state(), State::HalfOpen, "what comes after the lease changes nothing");
    breaker.report(taker, Verdict::Success, QUICK, lost_at);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_lease_ends_by_itself_whether_or_not_another_call_came_to_notice() {
    let lost_at = at(1) + LEASE_GRACE;
    for (reported, state) in [(just_before(lost_at), State::Closed), (lost_at, State::HalfOpen)] {
        let mut breaker = opened(policy());
        let probe = breaker.try_acquire(at(1), at(1)).expect("a probe");
        breaker.report(probe, Verdict::Success, QUICK, reported);
        assert_eq!(breaker.state(), state, "reported at {reported:?}");
    }
}

#[test]
fn a_report_from_an_older_epoch_changes_nothing() {
    let mut breaker = Breaker::new(policy(), 1);
    let late = breaker.try_acquire(Instant::ZERO, Instant::ZERO).expect("closed");
    calls(&mut breaker, 3, Verdict::Failure, Instant::ZERO);
    let probe = breaker.try_acquire(at(1), at(1)).expect("a probe");
    for verdict in [Verdict::Success, Verdict::Failure, Verdict::None] {
        let before = breaker.clone();
        breaker.report(late, verdict, SLOW, at(1));
        assert_eq!(breaker, before);
    }
    breaker.report(probe, Verdict::Success, QUICK, at(1));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn each_failed_probe_doubles_the_wait_up_to_its_limit_and_success_starts_it_anew() {
    let mut breaker = opened(policy());
    let mut waits = Vec::new();
    let mut now = Instant::ZERO;
    for _ in 0..7 {
        let NotUntil(until) = breaker.try_acquire(now, now).expect_err("open");
        waits.push((until - now).as_secs());
        now = until;
        call(&mut breaker, Verdict::Failure, now);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    now = breaker.next_probe(now).expect("open");
    call(&mut breaker, Verdict::Success, now);
    calls(&mut breaker, 3, Verdict::Failure, now);
    assert_eq!(breaker.state(), State::Open { until: now + seconds(1) });
}

#[test]
fn waits_are_spread_by_jitter_on_both_sides() {
    let waits: Vec<Duration> = (0..200)
        .map(|seed| {
            let mut breaker = Breaker::new(BreakerPolicy { open_jitter: 20, ..policy() }, seed);
            calls(&mut breaker, 3, Verdict::Failure, Instant::ZERO);
            breaker.next_probe(Instant::ZERO).expect("open") - Instant::ZERO
        })
        .collect();
    assert!(waits.iter().all(|wait| (800..=1_200).contains(&wait.as_millis())));
    assert!(waits.iter().any(|wait| wait.as_millis() < 850) && waits.iter().any(|wait| wait.as_millis() > 1_150));
}

#[test]
fn the_failure_rate_opens_it_only_with_enough_calls_in_the_window() {
    for window_calls in [0, 10] {
        let mut breaker = Breaker::new(BreakerPolicy { window_calls, ..rates() }, 1);
        for number in 0..9 {
            call(&mut breaker, if number % 2 == 0 { Verdict::Failure } else { Verdict::Success }, Instant::ZERO);
        }
        assert_eq!(breaker.state(), State::Closed);
        call(&mut breaker, Verdict::Success, Instant::ZERO);
        assert!(is_open(&breaker), "five of ten; the success completed the minimum");
    }
}

#[test]
fn the_failure_rate_opens_it_exactly_at_its_percentage() {
    let rate = BreakerPolicy { minimum_calls: 100, window_calls: 100, failure_rate: 7, ..rates() };
    for (failures, opens) in [(6, false), (7, true)] {
        let mut breaker = Breaker::new(rate, 1);
        calls(&mut breaker, failures, Verdict::Failure, Instant::ZERO);
        calls(&mut breaker, 100 - failures, Verdict::Success, Instant::ZERO);
        assert_eq!(is_open(&breaker), opens, "{failures} %");
    }
}

#[test]
fn what_left_the_window_counts_no_more() {
    let mut breaker = Breaker::new(BreakerPolicy { window_calls: 0, ..rates() }, 1);
    calls(&mut breaker, 9, Verdict::Failure, Instant::ZERO);
    call(&mut breaker, Verdict::Failure, at(10));
    assert_eq!(breaker.state(), State::Closed, "ten seconds later the nine are forgotten");
    calls(&mut breaker, 8, Verdict::Failure, at(19));
    assert_eq!(breaker.state(), State::Closed);
    call(&mut breaker, Verdict::Failure, just_before(at(20)));
    assert!(is_open(&breaker));
}

#[test]
fn a_window_of_calls_forgets_by_calls_and_not_by_time() {
    let rate = BreakerPolicy { failure_rate: 60, ..rates() };
    let mut breaker = Breaker::new(rate, 1);
    calls(&mut breaker, 5, Verdict::Failure, Instant::ZERO);
    calls(&mut breaker, 5, Verdict::Success, at(1_000));
    assert_eq!(breaker.state(), State::Closed);
    call(&mut breaker, Verdict::Failure, at(2_000));
    assert_eq!(breaker.state(), State::Closed, "the eleventh pushed a failure out");
    calls(&mut breaker, 5, Verdict::Failure, at(2_000));
    assert!(is_open(&breaker), "six of the last ten");
}

#[test]
fn slow_calls_open_it_though_all_succeed_and_slowness_is_reached_exactly_at_its_duration() {
    for (took, opens) in [(SLOW - NANO, false), (SLOW, true), (Duration::MAX, true)] {
        let mut breaker = Breaker::new(slowness(), 1);
        for _ in 0..5 {
            call_that_took(&mut breaker, took, Verdict::Success, Instant::ZERO);
            call(&mut breaker, Verdict::Success, Instant::ZERO);
        }
        assert_eq!(is_open(&breaker), opens, "{took:?}");
        let stats = breaker.stats();
        assert_eq!((stats.successes, stats.failures, stats.slow), (10, 0, if opens { 5 } else { 0 }));
    }
}

#[test]
fn slowness_is_no_failure_and_failures_are_not_slow() {
    let both = BreakerPolicy { slow_call_rate: 60, failure_rate: 60, consecutive_failures: 3, ..slowness() };
    let mut breaker = Breaker::new(both, 1);
    for _ in 0..5 {
        call_that_took(&mut breaker, SLOW, Verdict::Success, Instant::ZERO);
        call(&mut breaker, Verdict::Failure, Instant::ZERO);
    }
    assert_eq!(breaker.state(), State::Closed, "half failed, half were slow: neither rate is reached");
}

#[test]
fn a_slow_failure_counts_for_both_rates() {
    let mut breaker = Breaker::new(slowness(), 1);
    for _ in 0..5 {
        call_that_took(&mut breaker, SLOW, Verdict::Failure, Instant::ZERO);
    }
    calls(&mut breaker, 5, Verdict::Success, Instant::ZERO);
    assert!(is_open(&breaker), "the failure rate is off, the slow-call rate is reached");
    assert_eq!((breaker.stats().failures, breaker.stats().slow), (5, 5));
}

#[test]
fn without_a_slow_call_rate_slow_calls_are_counted_and_decide_nothing() {
    let mut breaker = Breaker::new(BreakerPolicy { slow_call_rate: 0, failure_rate: 50, ..slowness() }, 1);
    for _ in 0..30 {
        call_that_took(&mut breaker, SLOW, Verdict::Success, Instant::ZERO);
    }
    assert_eq!((breaker.state(), breaker.stats().slow), (State::Closed, 30));
}

#[test]
fn slow_probes_reopen_it_when_they_reach_the_rate_of_all_permitted() {
    let three = BreakerPolicy { consecutive_failures: 3, probes: 3, ..slowness() };
    let mut breaker = opened(three);
    call_that_took(&mut breaker, SLOW, Verdict::Success, at(1));
    assert_eq!(breaker.state(), State::HalfOpen, "one of three is below the half");
    call_that_took(&mut breaker, SLOW, Verdict::Success, at(1));
    assert_eq!(breaker.state(), State::Open { until: at(3) }, "two of three are not");

    for _ in 0..2 {
        call(&mut breaker, Verdict::Success, at(3));
    }
    call_that_took(&mut breaker, SLOW, Verdict::Success, at(3));
    assert_eq!(breaker.state(), State::Closed);
}

/// A recovery of ten seconds from the tenth, after a second in which a hundred calls were refused.
fn recovering() -> Breaker {
    let mut breaker = opened(BreakerPolicy { recovery_for: seconds(10), ..policy() });
    for _ in 0..100 {
        assert!(breaker.try_acquire(Instant::ZERO, Instant::ZERO).is_err());
    }
    call(&mut breaker, Verdict::Success, at(1));
    assert!(breaker.is_recovering(at(1)));
    breaker
}

#[test]
fn recovery_admits_a_growing_share_and_says_until_when() {
    let mut breaker = recovering();
    for second in 1..=10 {
        let now = at(second);
        let admitted = (0..98).filter(|_| breaker.try_acquire(now, now).is_ok()).count();
        assert_eq!(admitted as u64, 10 + (second - 1) * 9, "of a hundred in each second");
        assert_eq!(breaker.try_acquire(now, now), Err(NotUntil(at(second + 1))));
        assert!(breaker.try_acquire(just_before(at(second + 1)), at(second + 1)).is_err());
    }
    assert!(!breaker.is_recovering(at(11)));
    assert!((0..1_000).all(|_| breaker.try_acquire(at(11), at(11)).is_ok()));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_relapse_during_recovery_waits_longer_and_one_after_it_does_not() {
    let mut breaker = recovering();
    calls(&mut breaker, 3, Verdict::Failure, just_before(at(11)));
    assert_eq!(breaker.state(), State::Open { until: just_before(at(11)) + seconds(2) });

    let mut breaker = recovering();
    let late = breaker.try_acquire(at(1), at(1)).expect("among the first");
    calls(&mut breaker, 2, Verdict::Failure, at(1));
    breaker.report(late, Verdict::Failure, QUICK, at(11));
    assert_eq!(breaker.state(), State::Open { until: at(12) }, "recovery is over though no call asked since");
    assert_eq!(breaker.stats().trips, 2);
}

#[test]
fn forced_open_refuses_for_ever_and_lets_go() {
    let mut breaker = Breaker::new(BreakerPolicy { mode: Mode::ForcedOpen, ..policy() }, 1);
    for now in [Instant::ZERO, at(1_000_000), Instant::from_nanos(u64::MAX - 1)] {
        assert_eq!(breaker.try_acquire(now, now), Err(NotUntil(Instant::NEVER)));
        assert_eq!(breaker.next_probe(now), None);
    }
    assert_eq!((breaker.state(), breaker.stats().refused), (State::Open { until: Instant::NEVER }, 3));
    breaker.set_mode(Mode::Automatic, at(5));
    call(&mut breaker, Verdict::Success, at(5));
    assert_eq!((breaker.state(), breaker.state_since()), (State::Closed, at(5)));
}

#[test]
fn forced_closed_counts_and_never_opens() {
    let mut breaker = Breaker::new(BreakerPolicy { mode: Mode::ForcedClosed, ..policy() }, 1);
    calls(&mut breaker, 100, Verdict::Failure, Instant::ZERO);
    assert_eq!((breaker.state(), breaker.stats().failures, breaker.stats().trips), (State::Closed, 100, 0));
    breaker.set_mode(Mode::Automatic, Instant::ZERO);
    call(&mut breaker, Verdict::Failure, Instant::ZERO);
    assert_eq!(breaker.state(), State::Closed, "what failed before the switch is forgotten");
}

#[test]
fn disabled_neither_counts_nor_refuses() {
    let mut breaker = Breaker::new(BreakerPolicy { mode: Mode::Disabled, ..policy() }, 1);
    calls(&mut breaker, 100, Verdict::Failure, Instant::ZERO);
    assert_eq!((breaker.state(), breaker.stats()), (State::Closed, BreakerStats::default()));
}

#[test]
fn metrics_only_does_as_it_would_and_refuses_nobody() {
    let mut breaker = opened(BreakerPolicy { mode: Mode::MetricsOnly, ..policy() });
    assert_eq!((breaker.state(), breaker.state_by_rules()), (State::Closed, State::Open { until: at(1) }));
    calls(&mut breaker, 4, Verdict::Success, just_before(at(1)));
    let stats = breaker.stats();
    assert_eq!((stats.trips, stats.would_refuse, stats.refused, stats.successes), (1, 4, 0, 4));

    let probe = breaker.try_acquire(at(1), at(1)).expect("it would be the probe");
    call(&mut breaker, Verdict::Failure, at(1));
    assert_eq!(breaker.state_by_rules(), State::HalfOpen, "the second would not have been let through");
    breaker.report(probe, Verdict::Success, QUICK, at(1));
    let stats = breaker.stats();
    assert_eq!((stats.recoveries, stats.would_refuse), (1, 5));
    assert_eq!(breaker.state_by_rules(), State::Closed);
}

#[test]
fn a_switch_of_mode_and_a_reset_are_new_epochs() {
    let switched: fn(&mut Breaker) = |breaker| breaker.set_mode(Mode::ForcedClosed, at(9));
    let reset: fn(&mut Breaker) = |breaker| breaker.reset(at(9));
    for start_over in [switched, reset] {
        let mut breaker = Breaker::new(policy(), 1);
        let late = breaker.try_acquire(Instant::ZERO, Instant::ZERO).expect("closed");
        calls(&mut breaker, 2, Verdict::Failure, Instant::ZERO);
        start_over(&mut breaker);
        let before = breaker.clone();
        breaker.report(late, Verdict::Failure, QUICK, at(9));
        assert_eq!(breaker, before);
        assert_eq!((breaker.state(), breaker.state_since()), (State::Closed, at(9)));
    }
    let mut breaker = opened(policy());
    breaker.set_mode(Mode::Automatic, at(0));
    assert!(is_open(&breaker), "the mode that it is in already changes nothing");
    breaker.reset(at(0));
    call(&mut breaker, Verdict::Success, at(0));
    assert_eq!(breaker.stats().trips, 1, "what was counted since birth stays");
}

#[test]
fn it_knows_since_when_it_is_in_its_state() {
    let mut breaker = opened(policy());
    assert_eq!(breaker.state_since(), at(0));
    let probe = breaker.try_acquire(at(2), at(3)).expect("a probe");
    assert_eq!((breaker.state().gauge(), breaker.state_since()), (2, at(2)));
    breaker.report(probe, Verdict::Failure, QUICK, at(3));
    assert_eq!((breaker.state().gauge(), breaker.state_since()), (1, at(3)));
    call(&mut breaker, Verdict::Success, at(5));
    assert_eq!((breaker.state().gauge(), breaker.state_since()), (0, at(5)));
}

#[test]
fn what_a_policy_cannot_be_is_refused_by_its_field_and_kept_within_limits_all_the_same() {
    let fine = BreakerPolicy::default();
    let second = seconds(1);
    let off = BreakerPolicy { consecutive_failures: 0, failure_rate: 0, ..fine };
    for (unfit, policy) in [
        (Unfit::NoRule, off),
        (Unfit::NoRule, BreakerPolicy { mode: Mode::MetricsOnly, ..off }),
        (Unfit::Percentage, BreakerPolicy { failure_rate: 101, ..fine }),
        (Unfit::Percentage, BreakerPolicy { slow_call_rate: 101, slow_call: second, ..fine }),
        (Unfit::SlowCall, BreakerPolicy { slow_call_rate: 1, ..fine }),
        (Unfit::WindowCalls, BreakerPolicy { window_calls: WINDOW_CALLS_MAX + 1, ..fine }),
        (Unfit::Window, BreakerPolicy { window: Duration::ZERO, ..fine }),
        (Unfit::MinimumCalls, BreakerPolicy { minimum_calls: 0, ..fine }),
        (Unfit::MinimumCalls, BreakerPolicy { window_calls: 19, ..fine }),
        (Unfit::OpenFor, BreakerPolicy { open_for: Duration::ZERO, ..fine }),
        (Unfit::OpenForMax, BreakerPolicy { open_for_max: second - NANO, ..fine }),
        (Unfit::Probes, BreakerPolicy { probes: 0, ..fine }),
        (Unfit::Probes, BreakerPolicy { probes: PROBES_MAX + 1, ..fine }),
        (Unfit::RecoveryStart, BreakerPolicy { recovery_for: second, recovery_start: 0, ..fine }),
    ] {
        assert_eq!(policy.validate(), Err(unfit), "{unfit}");
        let mut breaker = Breaker::new(policy, 1);
        for n in 0..60 {
            let now = at(n);
            let permits: Vec<_> = (0..50).filter_map(|_| breaker.try_acquire(now, now).ok()).collect();
            permits.into_iter().for_each(|permit| breaker.report(permit, Verdict::Failure, second, now));
        }
        assert!(breaker.try_acquire(at(200), at(200)).is_ok());
    }
    assert_eq!(fine.validate(), Ok(()));
    assert_eq!(BreakerPolicy { mode: Mode::Disabled, ..off }.validate(), Ok(()), "nothing is asked of the rules");
    assert_eq!(BreakerPolicy { window_calls: 20, window: Duration::ZERO, probes: 16, ..fine }.validate(), Ok(()));
}

#[test]
fn the_end_of_time_wedges_and_overflows_nothing() {
    let endless = BreakerPolicy {
        open_for: Duration::MAX,
        open_for_max: Duration::MAX,
        recovery_for: Duration::MAX,
        window: Duration::MAX,
        slow_call: Duration::MAX,
        slow_call_rate: 100,
        open_jitter: 100,
        ..policy()
    };
    let mut breaker = Breaker::new(endless, 1);
    for now in [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX].map(Instant::from_nanos) {
        for verdict in [Verdict::Failure, Verdict::Success, Verdict::Failure, Verdict::Failure, Verdict::Failure] {
            if let Ok(permit) = breaker.try_acquire(now, Instant::NEVER) {
                breaker.report(permit, verdict, Duration::MAX, now);
            }
        }
    }
    assert!(breaker.stats().failures > 0);
}
