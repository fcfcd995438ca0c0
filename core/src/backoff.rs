//! How long to wait before the next attempt: a schedule is an iterator of durations.
//!
//! The four kinds of jitter are those of Brooker, "Exponential Backoff And Jitter" (AWS, 2015). Each schedule draws
//! from dice of its own, so callers that fail together do not come back together.

use core::time::Duration;

use crate::entropy::{Entropy, scale};

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
    fn absurd_shapes_saturate() {
        let backoff =
            Backoff { base: Duration::MAX, factor: u32::MAX, cap: Duration::MAX, jitter: Jitter::Decorrelated };
        assert_eq!(backoff.schedule(1).take(100).count(), 100);
    }
}
