//! The circuit breaker: whether a dependency may be asked now.
//!
//! ```text
//!            failures reach a threshold                wait in open is over
//!  closed ---------------------------------> open <----------------------------> half-open
//!    ^                                                  a probe failed               |
//!    +------------------- all permitted probes succeeded ----------------------------+
//! ```
//!
//! A permit is a lease with an epoch and a deadline. Every permit is answered with one of three verdicts; "no
//! verdict" gives it back. Each transition starts a new epoch, and a report from an older one changes nothing. A
//! probe whose lease runs out is given back too, so half-open always drains.
//!
//! Words and semantics follow resilience4j; the growing wait in open is ours.

use alloc::vec::Vec;
use core::time::Duration;

use crate::entropy::{Entropy, scale};
use crate::time::Instant;

/// Buckets that the sliding window is counted in: it moves in tenths.
const BUCKETS: usize = 10;

/// A probe that has not reported this long after its deadline has lost its lease. Drivers report a time-out a
/// little after the deadline it is about; without this grace such a report would come too late to count.
pub const LEASE_GRACE: Duration = Duration::from_secs(1);

/// When a breaker opens, and how it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Whether the breaker does anything at all. Default: on.
    pub enabled: bool,
    /// Opens after so many failures in a row; zero switches this rule off. Default: 5.
    pub consecutive_failures: u32,
    /// Opens when this percentage of the calls in the window failed; zero switches this rule off. Default: 50.
    pub failure_rate: u8,
    /// The rate is not looked at before the window holds so many calls. Default: 20.
    pub minimum_calls: u32,
    /// Length of the sliding window of the rate. Default: 10 s.
    pub window: Duration,
    /// Wait in open after the first trip; doubles with each failed probe. Default: 1 s.
    pub open_for: Duration,
    /// No wait in open is longer, jitter aside. Default: 30 s.
    pub open_for_max: Duration,
    /// Each wait is moved by up to this percentage to either side. Default: 20.
    pub open_jitter: u8,
    /// Permitted calls in half-open; all must succeed. Default: 1.
    pub probes: u32,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            consecutive_failures: 5,
            failure_rate: 50,
            minimum_calls: 20,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(1),
            open_for_max: Duration::from_secs(30),
            open_jitter: 20,
            probes: 1,
        }
    }
}

/// The right to one call. Give it back through [`Breaker::report`], whatever happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a permit that is never reported keeps its slot until its lease runs out"]
pub struct Permit {
    epoch: u32,
    lease: u32,
}

/// What a permitted call says of the dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It answered.
    Success,
    /// It did not answer, or not in time.
    Failure,
    /// Nothing can be said: the call was cancelled before it told anything. Gives the permit back.
    None,
}

/// The breaker refuses, and says until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NotUntil(
    /// The first instant at which a call may be let through. In half-open with all probes out: the moment at
    /// which the first lease runs out.
    pub Instant,
);

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are refused until the instant given.
    Open {
        /// When the first probe may pass.
        until: Instant,
    },
    /// A few probes decide.
    HalfOpen,
}

/// What a breaker has counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BreakerStats {
    /// Times it went from closed to open.
    pub trips: u64,
    /// Times it went from half-open to closed.
    pub recoveries: u64,
    /// Calls it refused.
    pub refused: u64,
    /// Failures reported and counted.
    pub failures: u64,
}

/// One dependency's breaker; see the [module](self).
///
/// ```
/// use core::time::Duration;
/// use tideover_core::Instant;
/// use tideover_core::breaker::{Breaker, BreakerPolicy, State, Verdict};
///
/// let policy = BreakerPolicy { consecutive_failures: 2, open_jitter: 0, ..BreakerPolicy::default() };
/// let mut breaker = Breaker::new(policy, 1);
/// let now = Instant::ZERO;
/// for _ in 0..2 {
///     let permit = breaker.try_acquire(now, now).unwrap();
///     breaker.report(permit, Verdict::Failure, now);
/// }
/// let refusal = breaker.try_acquire(now, now).unwrap_err();
/// assert_eq!(refusal.0, now + Duration::from_secs(1));
/// assert!(breaker.try_acquire(refusal.0, refusal.0).is_ok());
/// assert_eq!(breaker.state(), State::HalfOpen);
/// ```
#[derive(Debug, Clone)]
pub struct Breaker {
    policy: BreakerPolicy,
    phase: Phase,
    epoch: u32,
    entropy: Entropy,
    stats: BreakerStats,
}

#[derive(Debug, Clone)]
enum Phase {
    Closed { consecutive: u32, window: Window },
    Open { until: Instant, reopened: u32 },
    HalfOpen { leases: Vec<Lease>, granted: u32, succeeded: u32, reopened: u32 },
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    number: u32,
    deadline: Instant,
}

impl Breaker {
    /// A closed breaker whose jitter follows from `seed`.
    #[must_use]
    pub fn new(policy: BreakerPolicy, seed: u64) -> Self {
        Self {
            policy,
            phase: Phase::Closed { consecutive: 0, window: Window::default() },
            epoch: 0,
            entropy: Entropy::from_seed(seed),
            stats: BreakerStats::default(),
        }
    }

    /// A breaker that gives just this answer, for replays.
    pub(crate) fn answering(policy: BreakerPolicy, refusal: Option<NotUntil>) -> Self {
        let mut breaker = Self::new(BreakerPolicy { enabled: false, ..policy }, 0);
        if let Some(NotUntil(until)) = refusal {
            breaker.phase = Phase::Open { until, reopened: 0 };
        }
        breaker
    }

    /// Asks for the right to one call that will be over by `deadline`.
    ///
    /// # Errors
    ///
    /// [`NotUntil`] while open, and in half-open while all probes are out.
    pub fn try_acquire(&mut self, now: Instant, deadline: Instant) -> Result<Permit, NotUntil> {
        if let Phase::Open { until, reopened } = self.phase {
            if now < until {
                self.stats.refused += 1;
                return Err(NotUntil(until));
            }
            self.enter(Phase::HalfOpen { leases: Vec::new(), granted: 0, succeeded: 0, reopened });
        }
        let Phase::HalfOpen { leases, granted, succeeded, .. } = &mut self.phase else {
            return Ok(Permit { epoch: self.epoch, lease: 0 });
        };
        leases.retain(|lease| now < lease.deadline);
        if leases.len() as u32 + *succeeded >= self.policy.probes.max(1) {
            self.stats.refused += 1;
            return Err(NotUntil(leases.iter().map(|lease| lease.deadline).min().unwrap_or(now)));
        }
        *granted += 1;
        leases.push(Lease { number: *granted, deadline: deadline.max(now) + LEASE_GRACE });
        Ok(Permit { epoch: self.epoch, lease: *granted })
    }

    /// Gives a permit back with what its call says. Late reports, from an older epoch or after the lease ran
    /// out, change nothing.
    pub fn report(&mut self, permit: Permit, verdict: Verdict, now: Instant) {
        if permit.epoch != self.epoch || !self.policy.enabled {
            return;
        }
        match &mut self.phase {
            Phase::Closed { consecutive, window } => match verdict {
                Verdict::None => {}
                Verdict::Success => {
                    *consecutive = 0;
                    window.count(self.policy.window, now, false);
                }
                Verdict::Failure => {
                    self.stats.failures += 1;
                    *consecutive = consecutive.saturating_add(1);
                    window.count(self.policy.window, now, true);
                    if self.policy.is_tripped(*consecutive, window) {
                        self.stats.trips += 1;
                        self.open(0, now);
                    }
                }
            },
            Phase::Open { .. } => {}
            Phase::HalfOpen { leases, succeeded, reopened, .. } => {
                let Some(held) = leases.iter().position(|lease| lease.number == permit.lease) else { return };
                leases.swap_remove(held);
                match verdict {
                    Verdict::None => {}
                    Verdict::Success => {
                        *succeeded += 1;
                        if *succeeded >= self.policy.probes.max(1) {
                            self.stats.recoveries += 1;
                            self.enter(Phase::Closed { consecutive: 0, window: Window::default() });
                        }
                    }
                    Verdict::Failure => {
                        let reopened = reopened.saturating_add(1);
                        self.stats.failures += 1;
                        self.open(reopened, now);
                    }
                }
            }
        }
    }

    /// Where the breaker stands. Open stays open until a call is let through as a probe.
    #[must_use]
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until, .. } => State::Open { until },
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// The counts.
    #[must_use]
    pub const fn stats(&self) -> BreakerStats {
        self.stats
    }

    fn open(&mut self, reopened: u32, now: Instant) {
        let doubled = scale(self.policy.open_for, 1 << reopened.min(30), 1);
        let wait = self.entropy.around(doubled.min(self.policy.open_for_max), self.policy.open_jitter);
        self.enter(Phase::Open { until: now + wait, reopened });
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.epoch = self.epoch.wrapping_add(1);
    }
}

impl BreakerPolicy {
    fn is_tripped(&self, consecutive: u32, window: &Window) -> bool {
        let in_a_row = self.consecutive_failures > 0 && consecutive >= self.consecutive_failures;
        let (calls, failures) = window.totals();
        let by_rate = self.failure_rate > 0
            && calls >= self.minimum_calls.max(1)
            && u64::from(failures) * 100 >= u64::from(calls) * u64::from(self.failure_rate);
        in_a_row || by_rate
    }
}

/// Calls and failures of the last stretch of time, in tenths of it.
#[derive(Debug, Clone, Default)]
struct Window {
    /// The tenth that `buckets[tenth % BUCKETS]` counts, reckoned from the driver's zero.
    tenth: u64,
    buckets: [(u32, u32); BUCKETS],
}

impl Window {
    fn count(&mut self, length: Duration, now: Instant, failed: bool) {
        let width = (crate::time::nanos(length) / BUCKETS as u64).max(1);
        let tenth = now.as_nanos() / width;
        let passed = tenth.saturating_sub(self.tenth).min(BUCKETS as u64);
        for step in 1..=passed {
            self.buckets[((self.tenth + step) % BUCKETS as u64) as usize] = (0, 0);
        }
        self.tenth = self.tenth.max(tenth);
        let (calls, failures) = &mut self.buckets[(self.tenth % BUCKETS as u64) as usize];
        *calls = calls.saturating_add(1);
        *failures = failures.saturating_add(u32::from(failed));
    }

    fn totals(&self) -> (u32, u32) {
        self.buckets.iter().fold((0, 0), |(calls, failures), bucket| {
            (u32::saturating_add(calls, bucket.0), u32::saturating_add(failures, bucket.1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NANO: Duration = Duration::from_nanos(1);

    fn policy() -> BreakerPolicy {
        BreakerPolicy { consecutive_failures: 3, open_jitter: 0, ..BreakerPolicy::default() }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn call(breaker: &mut Breaker, verdict: Verdict, now: Instant) {
        let permit = breaker.try_acquire(now, now + seconds(1)).expect("a permit");
        breaker.report(permit, verdict, now);
    }

    fn opened(policy: BreakerPolicy) -> Breaker {
        let mut breaker = Breaker::new(policy, 1);
        for _ in 0..policy.consecutive_failures {
            call(&mut breaker, Verdict::Failure, Instant::ZERO);
        }
        breaker
    }

    #[test]
    fn refuses_at_every_instant_before_the_promised_one_and_admits_exactly_then() {
        let mut breaker = opened(policy());
        let NotUntil(until) = breaker.try_acquire(Instant::ZERO, Instant::ZERO).expect_err("open");
        for part in 0..100 {
            let before = Instant::ZERO + scale(until - Instant::ZERO, part, 100);
            assert_eq!(breaker.try_acquire(before, before), Err(NotUntil(until)));
        }
        let just_before = Instant::from_nanos(until.as_nanos() - 1);
        assert!(breaker.try_acquire(just_before, just_before).is_err());
        assert!(breaker.try_acquire(until, until).is_ok());
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
        assert!(matches!(breaker.state(), State::Open { .. }), "no verdict neither counts nor resets");
    }

    #[test]
    fn half_open_admits_exactly_its_probes_and_closes_when_all_succeed() {
        let mut breaker = opened(BreakerPolicy { probes: 3, ..policy() });
        let now = Instant::ZERO + seconds(1);
        let permits: Vec<_> = (0..5).filter_map(|_| breaker.try_acquire(now, now).ok()).collect();
        assert_eq!(permits.len(), 3);
        for (number, permit) in permits.into_iter().enumerate() {
            assert_eq!(breaker.state(), State::HalfOpen, "before probe {number}");
            breaker.report(permit, Verdict::Success, now);
        }
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(breaker.stats().recoveries, 1);
    }

    #[test]
    fn a_cancelled_probe_gives_its_slot_back_and_a_vanished_one_loses_it() {
        let mut breaker = opened(policy());
        let now = Instant::ZERO + seconds(1);
        let cancelled = breaker.try_acquire(now, now).expect("a probe");
        breaker.report(cancelled, Verdict::None, now);
        let vanished = breaker.try_acquire(now, now + seconds(2)).expect("the slot again");
        let lost_at = now + seconds(2) + LEASE_GRACE;
        assert_eq!(breaker.try_acquire(now, now), Err(NotUntil(lost_at)));
        let just_before = Instant::from_nanos(lost_at.as_nanos() - 1);
        assert!(breaker.try_acquire(just_before, just_before).is_err());
        let taker = breaker.try_acquire(lost_at, lost_at).expect("the vanished probe's slot");
        breaker.report(vanished, Verdict::Failure, lost_at);
        assert_eq!(breaker.state(), State::HalfOpen, "what comes after the lease changes nothing");
        breaker.report(taker, Verdict::Success, lost_at);
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn a_report_from_an_older_epoch_changes_nothing() {
        let mut breaker = Breaker::new(policy(), 1);
        let late = breaker.try_acquire(Instant::ZERO, Instant::ZERO).expect("closed");
        for _ in 0..3 {
            call(&mut breaker, Verdict::Failure, Instant::ZERO);
        }
        let now = Instant::ZERO + seconds(1);
        let probe = breaker.try_acquire(now, now).expect("a probe");
        breaker.report(late, Verdict::Success, now);
        breaker.report(late, Verdict::Failure, now);
        assert_eq!(breaker.state(), State::HalfOpen);
        breaker.report(probe, Verdict::Success, now);
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_its_limit() {
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
    }

    #[test]
    fn the_rate_opens_it_only_with_enough_calls_in_the_window() {
        let rate = BreakerPolicy { consecutive_failures: 0, minimum_calls: 10, ..policy() };
        let mut breaker = Breaker::new(rate, 1);
        for number in 0..9 {
            call(&mut breaker, if number % 2 == 0 { Verdict::Failure } else { Verdict::Success }, Instant::ZERO);
        }
        assert_eq!(breaker.state(), State::Closed);
        call(&mut breaker, Verdict::Failure, Instant::ZERO);
        assert!(matches!(breaker.state(), State::Open { .. }));
    }

    #[test]
    fn what_left_the_window_counts_no_more() {
        let rate = BreakerPolicy { consecutive_failures: 0, minimum_calls: 10, ..policy() };
        let mut breaker = Breaker::new(rate, 1);
        for _ in 0..9 {
            call(&mut breaker, Verdict::Failure, Instant::ZERO);
        }
        call(&mut breaker, Verdict::Failure, Instant::ZERO + seconds(10));
        assert_eq!(breaker.state(), State::Closed, "ten seconds later the nine are forgotten");
        for _ in 0..8 {
            call(&mut breaker, Verdict::Failure, Instant::ZERO + seconds(19));
        }
        assert_eq!(breaker.state(), State::Closed);
        call(&mut breaker, Verdict::Failure, Instant::ZERO + seconds(19));
        assert!(matches!(breaker.state(), State::Open { .. }));
    }

    /// Every sequence of five steps over two callers' permits: whatever they do, half-open never has more
    /// probes out than permitted, and once all leases have run out a probe passes again.
    #[test]
    fn every_short_history_drains() {
        const STEPS: usize = 6;
        for history in 0..7_usize.pow(STEPS as u32) {
            let mut breaker = opened(policy());
            let mut now = Instant::ZERO + seconds(1);
            let mut held: Vec<Permit> = Vec::new();
            let mut code = history;
            for _ in 0..STEPS {
                match code % 7 {
                    0 | 1 => held.extend(breaker.try_acquire(now, now)),
                    2..=4 => {
                        let verdict = [Verdict::Success, Verdict::Failure, Verdict::None][code % 7 - 2];
                        held.pop().into_iter().for_each(|permit| breaker.report(permit, verdict, now));
                    }
                    5 => now = now + LEASE_GRACE,
                    _ => now = now + NANO,
                }
                code /= 7;
                if let Phase::HalfOpen { leases, .. } = &breaker.phase {
                    assert!(leases.len() <= 1, "history {history}");
                }
            }
            let later = now + seconds(60);
            assert!(breaker.try_acquire(later, later).is_ok(), "stuck after history {history}");
        }
    }
}
