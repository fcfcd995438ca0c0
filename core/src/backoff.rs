//! How long to wait before the next attempt: a schedule is an iterator of durations.
//!
//! ```text
//! step(n) = min(cap, base × factor^n)      wait(n) = jitter(step(n))
//! at      = now + max(wait(n), hint)       another attempt only if at < deadline
//! ```
//!
//! The four kinds of jitter are those of Brooker, "Exponential Backoff And Jitter" (AWS, 2015). Each schedule draws
//! from dice of its own, so callers that fail together do not come back together. With a factor of one the waits are
//! [constant](Backoff::constant); with a base of zero there are [none](Backoff::none).
//!
//! A server that says when it wants to be asked again (`Retry-After`, RFC 9110 section 10.2.3; pushback, gRPC
//! proposal A6) is believed where it asks for more patience than the schedule has, never where it asks for less.
//!
//! It does not know how many attempts there may be, what failed or whether trying again makes sense: that is for
//! whoever draws on it, with the [budget](crate::budget).

use core::time::Duration;

use crate::entropy::{Entropy, scale};
use crate::time::Instant;

/// How a wait is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Jitter {
    /// Exactly the exponential step.
    None,
    /// Evenly between zero and the step. Spreads best.
    #[default]
    Full,
    /// Half the step, and evenly up to the other half.
    Equal,
    /// Evenly between the base and the previous wait times the factor.
    Decorrelated,
}

/// The shape of a schedule. Default: 100 ms doubling to 10 s, full jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The step before the second attempt.
    pub base: Duration,
    /// What each further step is multiplied by.
    pub factor: u32,
    /// No wait is longer.
    pub cap: Duration,
    /// How the step becomes a wait.
    pub jitter: Jitter,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(100), factor: 2, cap: Duration::from_secs(10), jitter: Jitter::Full }
    }
}

impl Backoff {
    /// Attempts follow each other without a wait.
    #[must_use]
    pub const fn none() -> Self {
        Self::constant(Duration::ZERO)
    }

    /// The same wait before each attempt, not spread.
    ///
    /// ```
    /// use core::time::Duration;
    /// use tideover_core::backoff::Backoff;
    ///
    /// let wait = Duration::from_secs(2);
    /// assert!(Backoff::constant(wait).schedule(1).take(9).all(|next| next == wait));
    /// assert!(Backoff::none().schedule(1).take(9).all(|next| next.is_zero()));
    /// ```
    #[must_use]
    pub const fn constant(wait: Duration) -> Self {
        Self { base: wait, factor: 1, cap: wait, jitter: Jitter::None }
    }

    /// The schedule that this shape and `seed` give. It never ends; whoever uses it counts the attempts.
    ///
    /// ```
    /// use core::time::Duration;
    /// use tideover_core::backoff::{Backoff, Jitter};
    ///
    /// let backoff = Backoff { jitter: Jitter::None, cap: Duration::from_millis(350), ..Backoff::default() };
    /// let waits: Vec<u128> = backoff.schedule(1).take(4).map(|wait| wait.as_millis()).collect();
    /// assert_eq!(waits, [100, 200, 350, 350]);
    /// ```
    #[must_use]
    pub fn schedule(&self, seed: u64) -> Schedule {
        Schedule { shape: *self, step: self.base, previous: self.base, entropy: Entropy::from_seed(seed) }
    }
}

/// The waits of one call, in order.
#[derive(Debug, Clone)]
pub struct Schedule {
    shape: Backoff,
    step: Duration,
    previous: Duration,
    entropy: Entropy,
}

impl Schedule {
    /// When to try again: after the next wait, after `hint` if the server asked for more, and before `deadline`.
    /// `None` says not to try again, since the time would be up when the attempt began; a hint past the deadline
    /// says so, too. Of several deadlines (the call's, the flight's) the earliest is meant: pass their minimum.
    ///
    /// ```
    /// use core::time::Duration;
    /// use tideover_core::Instant;
    /// use tideover_core::backoff::Backoff;
    ///
    /// let second = Duration::from_secs(1);
    /// let (now, deadline) = (Instant::ZERO, Instant::ZERO + 5 * second);
    /// let mut waits = Backoff::constant(second).schedule(1);
    /// assert_eq!(waits.next_before(now, None, deadline), Some(now + second));
    /// assert_eq!(waits.next_before(now, Some(3 * second), deadline), Some(now + 3 * second));
    /// assert_eq!(waits.next_before(now, Some(5 * second), deadline), None);
    /// ```
    pub fn next_before(&mut self, now: Instant, hint: Option<Duration>, deadline: Instant) -> Option<Instant> {
        let at = now + self.next()?.max(hint.unwrap_or_default());
        Some(at).filter(|at| *at < deadline)
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let Backoff { base, factor, cap, jitter } = self.shape;
        let step = self.step.min(cap);
        self.step = scale(step, factor, 1).min(cap);
        let wait = match jitter {
            Jitter::None => step,
            Jitter::Full => self.entropy.between(Duration::ZERO, step),
            Jitter::Equal => self.entropy.between(step / 2, step),
            Jitter::Decorrelated => self.entropy.between(base, scale(self.previous, factor, 1)).min(cap),
        };
        self.previous = wait.max(base);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn waits(jitter: Jitter, seed: u64) -> Vec<Duration> {
        Backoff { jitter, ..Backoff::default() }.schedule(seed).take(40).collect()
    }

    #[test]
    fn each_jitter_stays_inside_its_bounds() {
        let steps = waits(Jitter::None, 0);
        for seed in 0..200 {
            assert!(waits(Jitter::Full, seed).iter().zip(&steps).all(|(wait, step)| wait <= step));
            assert!(
                waits(Jitter::Equal, seed).iter().zip(&steps).all(|(wait, step)| *step / 2 <= *wait && wait <= step)
            );
            let mut previous = Duration::from_millis(100);
            for wait in waits(Jitter::Decorrelated, seed) {
                assert!(wait >= Duration::from_millis(100) && wait <= (previous * 2).min(Duration::from_secs(10)));
                previous = wait;
            }
        }
    }

    #[test]
    fn callers_do_not_share_their_jitter() {
        assert_ne!(waits(Jitter::Full, 1), waits(Jitter::Full, 2));
        assert_eq!(waits(Jitter::Full, 1), waits(Jitter::Full, 1));
    }

    #[test]
    fn the_longer_of_wait_and_hint_counts_and_the_deadline_is_no_time_to_begin() {
        let (second, nano) = (Duration::from_secs(1), Duration::from_nanos(1));
        let now = Instant::from_nanos(7);
        let next = |hint, deadline| Backoff::constant(second).schedule(1).next_before(now, hint, deadline);
        for hint in [None, Some(Duration::ZERO), Some(second - nano), Some(second)] {
            assert_eq!(next(hint, now + second + nano), Some(now + second), "the schedule waits longer than {hint:?}");
            assert_eq!(next(hint, now + second), None, "at the deadline it is too late");
            assert_eq!(next(hint, now), None);
        }
        assert_eq!(next(Some(second + nano), now + second * 2), Some(now + second + nano));
        assert_eq!(next(Some(second * 2 - nano), now + second * 2), Some(now + (second * 2 - nano)));
        assert_eq!(next(Some(second * 2), now + second * 2), None, "a hint past the deadline");
        assert_eq!(next(Some(Duration::MAX), Instant::NEVER), None, "never is not a moment to try again at");
    }

    #[test]
    fn the_earliest_of_several_deadlines_decides() {
        let second = Duration::from_secs(1);
        let (call, flight) = (Instant::ZERO + second * 2, Instant::ZERO + second * 9);
        let mut waits = Backoff::constant(second).schedule(1);
        let mut attempts = Vec::new();
        let mut now = Instant::ZERO;
        while let Some(at) = waits.next_before(now, None, call.min(flight)) {
            attempts.push(at - Instant::ZERO);
            now = at;
        }
        assert_eq!(attempts, [second], "the second second is the deadline itself");
    }

    #[test]
    fn a_hint_does_not_shorten_the_schedules_memory() {
        let mut hinted = Backoff { jitter: Jitter::None, ..Backoff::default() }.schedule(1);
        let hint = Some(Duration::from_secs(1));
        assert_eq!(
            hinted.next_before(Instant::ZERO, hint, Instant::NEVER),
            Some(Instant::ZERO + Duration::from_secs(1))
        );
        assert_eq!(hinted.next(), Some(Duration::from_millis(200)), "the second step follows the first, hint or not");
    }

    #[test]
    fn a_factor_of_one_is_constant_and_a_base_of_zero_is_no_wait() {
        let steady = Backoff { factor: 1, jitter: Jitter::None, ..Backoff::default() };
        assert!(steady.schedule(1).take(40).all(|wait| wait == steady.base));
        for jitter in [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Decorrelated] {
            let at_once = Backoff { base: Duration::ZERO, jitter, ..Backoff::default() };
            assert!(at_once.schedule(1).take(40).all(|wait| wait.is_zero()), "{jitter:?}");
        }
    }

    #[test]
    fn absurd_shapes_saturate() {
        let backoff =
            Backoff { base: Duration::MAX, factor: u32::MAX, cap: Duration::MAX, jitter: Jitter::Decorrelated };
        assert_eq!(backoff.schedule(1).take(100).count(), 100);
    }
}
