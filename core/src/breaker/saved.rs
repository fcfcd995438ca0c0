//! A breaker as plain data that outlives its process: [`Breaker::save`] and [`Breaker::restore`].
//!
//! Moments are kept as durations from now. Leases are not kept, since who held them is gone: half-open is kept as an
//! open circuit whose wait is over. Whatever the data says, a restored breaker waits no longer than its policy allows
//! and keeps every limit; what does not fit the policy any more, a window of another length for example, is dropped.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::recovery::Recovery;
use super::rules::{BreakerPolicy, Mode};
use super::window::{CallWindow, TENTHS, Tally, TimeWindow, WORDS, Window, exchange};
use super::{Breaker, BreakerStats, Outage, Phase};
use crate::entropy::scale;
use crate::time::{Instant, nanos};

/// A breaker at rest, for [`Breaker::restore`]. What is in it is for serde and for no one else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    mode: Mode,
    epoch: u32,
    stats: BreakerStats,
    /// How long it has been in its state.
    for_so_long: Duration,
    phase: SavedPhase,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "it is made without allocating")]
enum SavedPhase {
    Closed { consecutive: u32, window: SavedWindow, recovery: Option<SavedRecovery> },
    Open { left: Duration, reopened: u32, wait: Duration, turned_away: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum SavedWindow {
    Off,
    Time { width: u64, left: Duration, present: Tally, before: [Tally; TENTHS - 1] },
    Calls { size: u32, next: u32, calls: u32, failed: [u64; WORDS], slow: [u64; WORDS] },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SavedRecovery {
    left: Duration,
    tenth: u32,
    asked: u32,
    admitted: u32,
    demand: u32,
    reopened: u32,
}

impl Breaker {
    /// What is to be known of it elsewhere or later.
    ///
    /// ```
    /// use core::time::Duration;
    /// use tideover_core::Instant;
    /// use tideover_core::breaker::{Breaker, BreakerPolicy, State, Verdict};
    ///
    /// let policy = BreakerPolicy { consecutive_failures: 1, open_jitter: 0, ..BreakerPolicy::default() };
    /// let (mut breaker, now) = (Breaker::new(policy, 1), Instant::from_nanos(5));
    /// let permit = breaker.try_acquire(now, now).unwrap();
    /// breaker.report(permit, Verdict::Failure, Duration::ZERO, now);
    ///
    /// let elsewhere = Instant::from_nanos(7_000);
    /// let restored = Breaker::restore(&breaker.save(now), policy, 2, elsewhere);
    /// assert_eq!(restored.state(), State::Open { until: elsewhere + Duration::from_secs(1) });
    /// ```
    #[must_use]
    pub fn save(&self, now: Instant) -> Saved {
        let phase = match &self.phase {
            Phase::Closed { recovery } => SavedPhase::Closed {
                consecutive: self.consecutive,
                window: SavedWindow::of(&self.window, now),
                recovery: recovery.as_ref().filter(|recovery| now < recovery.ends).map(|recovery| SavedRecovery {
                    left: recovery.ends - now,
                    tenth: recovery.tenth,
                    asked: recovery.asked,
                    admitted: recovery.admitted,
                    demand: recovery.demand,
                    reopened: recovery.reopened,
                }),
            },
            Phase::Open { until, outage } => self.save_outage(*outage, *until - now),
            Phase::HalfOpen { outage, .. } => self.save_outage(*outage, Duration::ZERO),
        };
        Saved { mode: self.mode, epoch: self.epoch, stats: self.stats, for_so_long: now - self.since, phase }
    }

    fn save_outage(&self, outage: Outage, left: Duration) -> SavedPhase {
        let turned_away = self.stats.turned_away() - outage.turned_away;
        SavedPhase::Open { left, reopened: outage.reopened, wait: outage.wait, turned_away }
    }

    /// The breaker that was saved, under `policy` but in the mode that it was saved in. It starts a new epoch, so
    /// permits from before change nothing. Its jitter follows from `seed` and not from what was saved: else all who
    /// restore the same data would probe at the same moments.
    #[must_use]
    pub fn restore(saved: &Saved, policy: BreakerPolicy, seed: u64, now: Instant) -> Self {
        let mut breaker = Self::new(BreakerPolicy { mode: saved.mode, ..policy }, seed);
        breaker.epoch = saved.epoch;
        breaker.stats = saved.stats.within_limits();
        let phase = match &saved.phase {
            SavedPhase::Closed { recovery, .. } => {
                let recovery = recovery.as_ref().filter(|_| !breaker.policy.recovery_for.is_zero());
                Phase::Closed { recovery: recovery.map(|recovery| recovery.resume(&breaker.policy, now)) }
            }
            SavedPhase::Open { left, reopened, wait, turned_away } => {
                let turned_away = breaker.stats.turned_away().saturating_sub(*turned_away);
                let outage = Outage { reopened: *reopened, wait: *wait, turned_away };
                Phase::Open { until: now + breaker.policy.longest_wait().min(*left), outage }
            }
        };
        breaker.enter(phase, now);
        if let SavedPhase::Closed { consecutive, window, .. } = &saved.phase {
            breaker.consecutive = *consecutive;
            window.restore(&mut breaker.window, now);
        }
        breaker.since = Instant::from_nanos(now.as_nanos().saturating_sub(nanos(saved.for_so_long)));
        breaker
    }
}

impl BreakerPolicy {
    fn longest_wait(&self) -> Duration {
        self.open_for_max.saturating_add(scale(self.open_for_max, u32::from(self.open_jitter), 100))
    }
}

impl BreakerStats {
    /// Counts that can be counted on for some centuries.
    fn within_limits(mut self) -> Self {
        self.each_mut().into_iter().for_each(|count| *count = (*count).min(u64::MAX / 4));
        self
    }
}

impl SavedRecovery {
    fn resume(&self, policy: &BreakerPolicy, now: Instant) -> Recovery {
        let fresh = Recovery::new(policy.recovery_for, policy.recovery_start, now, 0, Duration::ZERO);
        Recovery {
            ends: now + self.left.min(policy.recovery_for),
            tenth: self.tenth.min(TENTHS as u32 - 1),
            asked: self.asked,
            admitted: self.admitted,
            demand: self.demand,
            reopened: self.reopened,
            ..fresh
        }
    }
}

impl SavedWindow {
    fn of(window: &Window, now: Instant) -> Self {
        match window {
            Window::Off => Self::Off,
            Window::Time(window) => {
                let mut window = window.clone();
                window.advance_to(now);
                let left = window.ends - now;
                Self::Time { width: window.width, left, present: window.present, before: window.before }
            }
            Window::Calls(window) => Self::Calls {
                size: window.size,
                next: window.next,
                calls: window.tally.calls,
                failed: window.failed,
                slow: window.slow,
            },
        }
    }

    /// Fills an empty window with what was saved of one of the same kind and length.
    fn restore(&self, empty: &mut Window, now: Instant) {
        match (self, empty) {
            (Self::Time { width, left, present, before }, Window::Time(window)) if *width == window.width => {
                *window = TimeWindow {
                    ends: now + Duration::from_nanos(*width).min(*left),
                    present: present.within_limits(),
                    before: before.map(Tally::within_limits),
                    ..*window
                };
                window.sum_up();
            }
            (Self::Calls { size, next, calls, failed, slow }, Window::Calls(window)) if *size == window.size => {
                let is_full = calls == size && next < size;
                if is_full || (calls < size && next == calls) {
                    window.next = *next;
                    window.fill(*calls, *failed, *slow);
                }
            }
            _ => {}
        }
    }
}

impl Tally {
    fn within_limits(self) -> Self {
        Self { calls: self.calls, failures: self.failures.min(self.calls), slow: self.slow.min(self.calls) }
    }
}

impl CallWindow {
    /// Takes the first `calls` bits of each ring.
    fn fill(&mut self, calls: u32, failed: [u64; WORDS], slow: [u64; WORDS]) {
        (self.failed, self.slow) = (failed, slow);
        for at in calls..WORDS as u32 * 64 {
            exchange(&mut self.failed, at, false);
            exchange(&mut self.slow, at, false);
        }
        let ones = |bits: &[u64; WORDS]| bits.iter().map(|word| word.count_ones()).sum();
        self.tally = Tally { calls, failures: ones(&self.failed), slow: ones(&self.slow) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::{State, Verdict};
    use super::*;
    use alloc::vec::Vec;

    fn policy(window_calls: u32) -> BreakerPolicy {
        BreakerPolicy {
            consecutive_failures: 4,
            failure_rate: 60,
            slow_call_rate: 80,
            slow_call: Duration::from_millis(1),
            minimum_calls: 10,
            window_calls,
            probes: 2,
            recovery_for: Duration::from_secs(20),
            ..BreakerPolicy::default()
        }
    }

    const fn open(left: Duration, reopened: u32, turned_away: u64) -> SavedPhase {
        SavedPhase::Open { left, reopened, wait: left, turned_away }
    }

    fn through_bytes(saved: &Saved) -> Saved {
        let bytes = postcard::to_allocvec(saved).expect("plain data");
        postcard::from_bytes(&bytes).expect("what was written")
    }

    /// One call, every 100 ms; two of three fail for a while, then all is well, and so on.
    fn call(breaker: &mut Breaker, number: u64, zero: Instant) -> (bool, State, Duration) {
        let now = zero + Duration::from_millis(100 * number);
        let permit = breaker.try_acquire(now, now);
        if let Ok(permit) = permit {
            let failed = (number / 150).is_multiple_of(2) && !number.is_multiple_of(3);
            let verdict = if failed { Verdict::Failure } else { Verdict::Success };
            breaker.report(permit, verdict, Duration::from_micros(number % 7 * 200), now);
        }
        let state = match breaker.state() {
            State::Open { until } => State::Open { until: Instant::ZERO + (until - zero) },
            state => state,
        };
        (permit.is_ok(), state, now - breaker.state_since())
    }

    #[test]
    fn a_restored_breaker_goes_on_as_the_saved_one_would_have() {
        let (here, there) = (Instant::from_nanos(1_000_000_000), Instant::from_nanos(77_700_000_000));
        for window_calls in [0, 10, 70] {
            let policy = BreakerPolicy { open_jitter: 0, ..policy(window_calls) };
            let mut breaker = Breaker::new(policy, 1);
            breaker.reset(here);
            for number in 0..1_500 {
                call(&mut breaker, number, here);
                if breaker.state() == State::HalfOpen {
                    continue; // its successes so far are not kept
                }
                let passed = Duration::from_millis(100 * number);
                let saved = through_bytes(&breaker.save(here + passed));
                let mut restored = Breaker::restore(&saved, policy, 2, there + passed);
                let mut original = breaker.clone();
                let on = number + 1..number + 150;
                let expected: Vec<_> = on.clone().map(|number| call(&mut original, number, here)).collect();
                let got: Vec<_> = on.map(|number| call(&mut restored, number, there)).collect();
                assert_eq!(got, expected, "{window_calls}: saved after call {number}");
                assert_eq!(restored.stats(), original.stats());
            }
            assert!(breaker.stats().recoveries > 1);
        }
    }

    #[test]
    fn half_open_comes_back_with_its_wait_over_and_old_permits_change_nothing() {
        let mut breaker = Breaker::new(policy(0), 1);
        let now = Instant::ZERO;
        let permits: Vec<_> = (0..4).map(|_| breaker.try_acquire(now, now).expect("closed")).collect();
        permits.into_iter().for_each(|permit| breaker.report(permit, Verdict::Failure, Duration::ZERO, now));
        let now = breaker.next_probe(now).expect("open");
        let held = breaker.try_acquire(now, now).expect("a probe");

        let mut restored = Breaker::restore(&breaker.save(now), policy(0), 2, now);
        assert_eq!(restored.state(), State::Open { until: now });
        let probe = restored.try_acquire(now, now).expect("a probe");
        let before = restored.clone();
        restored.report(held, Verdict::Failure, Duration::ZERO, now);
        assert_eq!(restored, before);
        restored.report(probe, Verdict::Failure, Duration::ZERO, now);
        let State::Open { until } = restored.state() else { panic!("the probe failed") };
        assert!(until - now > Duration::from_millis(1_500), "the waits go on growing");
    }

    #[test]
    fn permits_from_before_change_nothing_in_a_closed_breaker_either() {
        let mut breaker = Breaker::new(policy(0), 1);
        let held = breaker.try_acquire(Instant::ZERO, Instant::ZERO).expect("closed");
        let mut restored = Breaker::restore(&breaker.save(Instant::ZERO), policy(0), 2, Instant::ZERO);
        let before = restored.clone();
        restored.report(held, Verdict::Failure, Duration::ZERO, Instant::ZERO);
        assert_eq!(restored, before);
    }

    #[test]
    fn the_mode_is_saved() {
        for mode in Mode::ALL {
            let mut breaker = Breaker::new(policy(0), 1);
            breaker.set_mode(mode, Instant::ZERO);
            let restored = Breaker::restore(&breaker.save(Instant::ZERO), policy(0), 2, Instant::ZERO);
            assert_eq!((restored.mode(), restored.state()), (mode, breaker.state()));
        }
    }

    #[test]
    fn a_window_of_another_kind_or_length_is_dropped() {
        let mut breaker = Breaker::new(policy(10), 1);
        let now = Instant::ZERO;
        let permit = breaker.try_acquire(now, now).expect("closed");
        breaker.report(permit, Verdict::Failure, Duration::ZERO, now);
        let saved = breaker.save(now);
        for (window_calls, kept) in [(10, 1), (0, 0), (11, 0)] {
            let restored = Breaker::restore(&saved, policy(window_calls), 1, now);
            assert_eq!(restored.window.tally().calls, kept, "a window of {window_calls}");
        }
    }

    #[test]
    fn absurd_data_wedges_nothing() {
        const FULL: Tally = Tally { calls: u32::MAX - 1, failures: u32::MAX, slow: u32::MAX };
        let calls = |size, next, calls| SavedWindow::Calls {
            size,
            next,
            calls,
            failed: [u64::MAX; WORDS],
            slow: [u64::MAX; WORDS],
        };
        let time = SavedWindow::Time { width: 1_000_000_000, left: Duration::MAX, present: FULL, before: [FULL; 9] };
        let recovery = SavedRecovery {
            left: Duration::MAX,
            tenth: u32::MAX,
            asked: u32::MAX,
            admitted: u32::MAX,
            demand: u32::MAX,
            reopened: u32::MAX,
        };
        let closed = |window| SavedPhase::Closed { consecutive: u32::MAX, window, recovery: Some(recovery.clone()) };
        let phases = [
            open(Duration::MAX, u32::MAX, u64::MAX),
            closed(time),
            closed(calls(10, u32::MAX, u32::MAX)),
            closed(calls(10, u32::MAX, 10)),
            closed(calls(10, 10, 10)),
            closed(calls(10, 9, 3)),
            closed(calls(10, 9, 10)),
            closed(calls(u32::MAX, 9, 9)),
        ];
        let mut stats = BreakerStats::default();
        stats.each_mut().into_iter().for_each(|count| *count = u64::MAX);
        for (number, phase) in phases.into_iter().enumerate() {
            for window_calls in [0, 10, 1024] {
                let now = Instant::from_nanos(3);
                let (mode, for_so_long, phase) = (Mode::Automatic, Duration::MAX, phase.clone());
                let saved = Saved { mode, epoch: u32::MAX, stats, for_so_long, phase };
                let mut restored = Breaker::restore(&through_bytes(&saved), policy(window_calls), 1, now);
                assert_eq!(restored.state_since(), Instant::ZERO);
                assert!(restored.window.tally().failures <= restored.window.tally().calls);
                let longest = Duration::from_secs(36);
                for step in 0..10_u32 {
                    let now = now + longest * (step + 1);
                    let permit = restored.try_acquire(now, now);
                    let permit = permit.unwrap_or_else(|until| panic!("phase {number} is stuck until {until:?}"));
                    restored.report(permit, Verdict::Failure, Duration::MAX, now);
                    let _ = restored.save(now);
                }
            }
        }
    }

    #[test]
    fn a_recovery_and_a_wait_last_no_longer_than_the_policy_says_now() {
        let phase = open(Duration::from_secs(1_000), 0, 0);
        let (stats, mode, now) = (BreakerStats::default(), Mode::Automatic, Instant::ZERO);
        let saved = Saved { mode, epoch: 0, stats, for_so_long: Duration::ZERO, phase };
        let restored = Breaker::restore(&saved, policy(0), 1, now);
        assert_eq!(restored.next_probe(now), Some(now + Duration::from_secs(36)));
    }
}
