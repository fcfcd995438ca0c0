//! The retry budget: how many attempts beyond the first may be made, whatever each call would like.
//!
//! Retries of single calls multiply: when everything fails, three attempts each are three times the load, on a
//! dependency that just cannot bear the load. A budget that all callers share bounds the sum instead:
//!
//! ```text
//! retries(window) ≤ percent / 100 × first attempts(window) + minimum
//! ```
//!
//! It is a token bucket in which tokens age: each first attempt deposits `percent` of a token, each retry withdraws
//! a whole one *when it is scheduled* (at its execution it would be too late: all of a storm's retries would have
//! been promised), and `minimum` withdrawals a window need no deposit, so that a quiet service can retry, too. Both
//! leave the books when the window has moved past them: a long calm saves nothing up for a storm, and what nobody
//! used is gone. The window is the cap; there is no other.
//!
//! The law above holds for every window that ends with a retry. The books are kept in tenths of the window, and
//! rounded to the safe side: a deposit counts for nine to ten tenths of the window, a withdrawal for ten to eleven.
//!
//! It does not know why a call failed, how often it was tried, or when the retry will be: that is the
//! [backoff](crate::backoff)'s.
//!
//! Sources: "Handling Overload" in *Site Reliability Engineering* (Google, 2016: ten percent, per client); the
//! `RetryBudget` of Finagle (20 % and a minimum, deposits live 10 s); Envoy's `retry_budget` (20 %, at least 3
//! concurrent); gRPC proposal A6 (throttling of retries).

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{Instant, nanos};

/// Tenths that deposits count for, and one more for withdrawals.
const TENTHS: usize = 10;

/// How much may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetPolicy {
    /// Retries per hundred first attempts. Default: 20. Zero switches the budget off: everything may be retried.
    pub percent: u32,
    /// So many retries a window are allowed without any deposit. Default: 3.
    pub minimum: u32,
    /// How long a deposit can be spent and a withdrawal is remembered, rounded up to ten nanoseconds. Default: 10 s.
    pub window: Duration,
}

impl Default for BudgetPolicy {
    fn default() -> Self {
        Self { percent: 20, minimum: 3, window: Duration::from_secs(10) }
    }
}

/// The budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// The first instant at which a retry can be allowed if nothing is deposited until then;
    /// [`Instant::NEVER`] if it takes a deposit.
    pub until: Instant,
}

counts! {
    /// What a budget has counted since it was made.
    pub struct BudgetStats {
        /// First attempts that paid in.
        deposited,
        /// Retries allowed.
        withdrawn,
        /// Retries refused.
        refused,
    }
}

/// What is kept of a budget across a restart. Time is relative to the moment of saving; the time between saving
/// and restoring does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// How much of the present tenth was left.
    rest: Duration,
    tenths: [Tenth; TENTHS + 1],
}

/// One dependency's budget; see the [module](self).
///
/// ```
/// use core::time::Duration;
/// use tideover_core::Instant;
/// use tideover_core::budget::{Budget, BudgetPolicy, Spent};
///
/// let mut budget = Budget::new(BudgetPolicy::default());
/// let now = Instant::ZERO;
/// for _ in 0..10 {
///     budget.deposit(now);
/// }
/// // Two for the ten first attempts, three that are always allowed.
/// assert_eq!((0..9).filter(|_| budget.try_withdraw(now).is_ok()).count(), 5);
/// let Spent { until } = budget.try_withdraw(now).unwrap_err();
/// assert_eq!(until, now + Duration::from_secs(11));
/// assert!(budget.try_withdraw(until).is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct Budget {
    policy: BudgetPolicy,
    /// When the tenth that is written to is over.
    ends_at: Instant,
    /// The present tenth first, then the past.
    tenths: [Tenth; TENTHS + 1],
    stats: BudgetStats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Tenth {
    firsts: u32,
    retries: u32,
}

impl Budget {
    /// A budget with empty books.
    #[must_use]
    pub fn new(policy: BudgetPolicy) -> Self {
        Self { policy, ends_at: Instant::ZERO, tenths: Default::default(), stats: BudgetStats::default() }
    }

    /// Pays in for a first attempt.
    pub fn deposit(&mut self, now: Instant) {
        self.turn(now);
        self.stats.deposited += 1;
        self.tenths[0].firsts = self.tenths[0].firsts.saturating_add(1);
    }

    /// Asks for the right to one retry, at the moment at which it is decided on.
    ///
    /// # Errors
    ///
    /// [`Spent`], with the first instant at which it can be otherwise.
    pub fn try_withdraw(&mut self, now: Instant) -> Result<(), Spent> {
        self.turn(now);
        if self.policy.percent > 0 && !self.affords(0) {
            self.stats.refused += 1;
            return Err(Spent { until: self.until() });
        }
        self.stats.withdrawn += 1;
        self.tenths[0].retries = self.tenths[0].retries.saturating_add(1);
        Ok(())
    }

    /// How many retries would be allowed now; `u64::MAX` if the budget is off.
    pub fn balance(&mut self, now: Instant) -> u64 {
        self.turn(now);
        if self.policy.percent == 0 {
            return u64::MAX;
        }
        let (earned, spent) = self.books(0);
        earned.saturating_sub(spent) / 100
    }

    /// The counts.
    #[must_use]
    pub const fn stats(&self) -> BudgetStats {
        self.stats
    }

    /// The books, for [`Budget::restore`]. The policy and the counts are not part of them.
    #[must_use]
    pub fn save(&mut self, now: Instant) -> Saved {
        self.turn(now);
        Saved { rest: self.ends_at - now, tenths: self.tenths }
    }

    /// A budget that goes on from `saved` as if it were now the moment of saving.
    #[must_use]
    pub fn restore(policy: BudgetPolicy, saved: &Saved, now: Instant) -> Self {
        let rest = saved.rest.min(Duration::from_nanos(policy.tenth()));
        Self { ends_at: now + rest, tenths: saved.tenths, ..Self::new(policy) }
    }

    /// Earned and spent in hundredths of a retry, as the books will stand `passed` tenths from now.
    fn books(&self, passed: usize) -> (u64, u64) {
        let kept = |tenths: usize| self.tenths.iter().take(tenths.saturating_sub(passed));
        let firsts = kept(TENTHS).fold(0, |sum: u32, tenth| sum.saturating_add(tenth.firsts));
        let retries = kept(TENTHS + 1).fold(0, |sum: u32, tenth| sum.saturating_add(tenth.retries));
        let earned = u64::from(firsts) * u64::from(self.policy.percent);
        (earned.saturating_add(u64::from(self.policy.minimum) * 100), u64::from(retries) * 100)
    }

    fn affords(&self, passed: usize) -> bool {
        let (earned, spent) = self.books(passed);
        earned >= spent + 100
    }

    fn until(&self) -> Instant {
        let Some(passed) = (1..=TENTHS + 1).find(|passed| self.affords(*passed)) else { return Instant::NEVER };
        self.ends_at + Duration::from_nanos(self.policy.tenth().saturating_mul(passed as u64 - 1))
    }

    /// Turns to the tenth that holds `now`. A clock that steps back finds the present one.
    fn turn(&mut self, now: Instant) {
        if now < self.ends_at {
            return;
        }
        let width = self.policy.tenth();
        let passed = nanos(now - self.ends_at) / width + 1;
        self.ends_at = self.ends_at + Duration::from_nanos(width.saturating_mul(passed));
        let passed = passed.min(self.tenths.len() as u64) as usize;
        self.tenths.rotate_right(passed);
        self.tenths[..passed].fill(Tenth::default());
    }
}

impl BudgetPolicy {
    /// A tenth of the window in nanoseconds, rounded up.
    fn tenth(&self) -> u64 {
        nanos(self.window).div_ceil(TENTHS as u64).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;
    use alloc::vec::Vec;

    const SECOND: Duration = Duration::from_secs(1);
    const NANO: Duration = Duration::from_nanos(1);

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + SECOND * seconds as u32
    }

    fn just_before(instant: Instant) -> Instant {
        Instant::from_nanos(instant.as_nanos() - 1)
    }

    fn budget(percent: u32, minimum: u32) -> Budget {
        Budget::new(BudgetPolicy { percent, minimum, ..BudgetPolicy::default() })
    }

    fn withdraw_all(budget: &mut Budget, now: Instant) -> u64 {
        let balance = budget.balance(now);
        let allowed = (0..1_000).take_while(|_| budget.try_withdraw(now).is_ok()).count() as u64;
        assert_eq!(allowed, balance, "the balance says what is allowed");
        allowed
    }

    #[test]
    fn a_storm_of_failures_is_tried_again_by_a_fifth() {
        let mut budget = budget(20, 3);
        let mut retries = 0;
        for _ in 0..1_000 {
            budget.deposit(at(0));
            retries += u32::from(budget.try_withdraw(at(0)).is_ok());
        }
        assert_eq!(retries, 203);
        let stats = budget.stats();
        assert_eq!((stats.deposited, stats.withdrawn, stats.refused), (1_000, 203, 797));
    }

    #[test]
    fn a_token_is_whole_at_exactly_its_last_deposit() {
        let mut budget = budget(20, 0);
        for number in 1..=20 {
            budget.deposit(at(0));
            assert_eq!(budget.try_withdraw(at(0)).is_ok(), number % 5 == 0, "deposit {number}");
        }
    }

    #[test]
    fn an_old_calm_does_not_pay_for_a_storm() {
        let mut calm = budget(20, 0);
        for second in 0..10 {
            for _ in 0..100 {
                calm.deposit(at(second));
            }
        }
        // Each second's twenty leave with the second ten tenths later.
        for (second, left) in [(9, 200), (10, 180), (11, 160), (18, 20), (19, 0)] {
            let mut storm = calm.clone();
            assert_eq!(withdraw_all(&mut storm, at(second)), left, "at {second} s");
            let mut storm = calm.clone();
            assert_eq!(withdraw_all(&mut storm, just_before(at(second + 1))), left, "just before {} s", second + 1);
        }
    }

    #[test]
    fn what_is_always_allowed_comes_back_a_window_after_it_was_used() {
        let mut budget = budget(20, 3);
        let start = at(5) + SECOND / 2;
        assert_eq!(withdraw_all(&mut budget, start), 3);
        assert_eq!(budget.try_withdraw(start), Err(Spent { until: at(16) }), "ten to eleven seconds later");
        assert_eq!(budget.try_withdraw(just_before(at(16))), Err(Spent { until: at(16) }));
        assert_eq!(withdraw_all(&mut budget, at(16)), 3);
    }

    #[test]
    fn a_refusal_names_the_first_moment_of_several() {
        let mut budget = budget(20, 3);
        for second in 0..3 {
            budget.try_withdraw(at(second)).expect("three are free");
        }
        for second in 0..3 {
            let until = at(second + 11);
            assert_eq!(budget.try_withdraw(just_before(until)), Err(Spent { until }));
            assert_eq!(budget.try_withdraw(until), Ok(()), "the one of second {second} came back, and no more");
            assert!(budget.try_withdraw(until).is_err());
        }
    }

    #[test]
    fn without_a_minimum_only_a_deposit_helps() {
        let mut budget = budget(100, 0);
        assert_eq!(budget.try_withdraw(at(0)), Err(Spent { until: Instant::NEVER }));
        budget.deposit(at(0));
        assert_eq!(budget.try_withdraw(at(0)), Ok(()));
    }

    #[test]
    fn zero_percent_switches_it_off() {
        let mut budget = budget(0, 0);
        assert!((0..1_000).all(|_| budget.try_withdraw(at(0)).is_ok()));
        assert_eq!(budget.balance(at(0)), u64::MAX);
    }

    #[test]
    fn a_restored_budget_goes_on_where_it_was_saved() {
        let mut before = budget(20, 3);
        for _ in 0..10 {
            before.deposit(at(2));
        }
        assert_eq!(withdraw_all(&mut before, at(4)), 5);
        let saved = before.save(at(4) + SECOND / 4);
        // The new driver's clock started a nanosecond ago.
        let restored_at = Instant::ZERO + NANO;
        let mut after = Budget::restore(before.policy, &saved, restored_at);
        let Spent { until } = after.try_withdraw(restored_at).expect_err("still spent");
        assert_eq!(until - restored_at, at(15) - (at(4) + SECOND / 4));
        assert!(after.try_withdraw(just_before(until)).is_err());
        assert_eq!(withdraw_all(&mut after, until), 3);
    }

    #[test]
    fn a_shorter_window_than_was_saved_ends_its_tenth_in_its_own_time() {
        let mut long = Budget::new(BudgetPolicy { window: SECOND * 1_000, ..BudgetPolicy::default() });
        assert_eq!(withdraw_all(&mut long, at(0)), 3);
        let mut short = Budget::restore(BudgetPolicy::default(), &long.save(at(0)), at(50));
        assert_eq!(short.try_withdraw(at(50)), Err(Spent { until: at(61) }));
    }

    #[test]
    fn the_window_is_rounded_up() {
        let mut budget = Budget::new(BudgetPolicy { window: NANO * 11, ..BudgetPolicy::default() });
        assert_eq!(withdraw_all(&mut budget, at(0)), 3);
        assert_eq!(budget.try_withdraw(at(0)), Err(Spent { until: at(0) + NANO * 22 }));
    }

    #[test]
    fn absurd_values_saturate() {
        let policy = BudgetPolicy { percent: u32::MAX, minimum: u32::MAX, window: Duration::MAX };
        let mut budget = Budget::new(policy);
        budget.tenths = [Tenth { firsts: u32::MAX, retries: u32::MAX }; TENTHS + 1];
        for now in [Instant::NEVER, at(0), Instant::NEVER] {
            budget.deposit(now);
            let _ = budget.try_withdraw(now);
            let saved = budget.save(now);
            budget = Budget::restore(BudgetPolicy { window: Duration::ZERO, ..policy }, &saved, now);
        }
    }

    /// The law, checked by counting every event: what is allowed keeps it, what is refused would break it if
    /// deposits lived a tenth shorter and withdrawals a tenth longer, and a refusal's promise is exact.
    struct Books {
        budget: Budget,
        firsts: Vec<Instant>,
        retries: Vec<Instant>,
    }

    impl Books {
        fn new(policy: BudgetPolicy) -> Self {
            Self { budget: Budget::new(policy), firsts: Vec::new(), retries: Vec::new() }
        }

        fn affords(&self, now: Instant, firsts_for: Duration, retries_for: Duration) -> bool {
            let within = |events: &[Instant], length| events.iter().filter(|at| **at + length > now).count() as u64;
            let policy = self.budget.policy;
            (within(&self.retries, retries_for) + 1) * 100
                <= within(&self.firsts, firsts_for) * u64::from(policy.percent) + u64::from(policy.minimum) * 100
        }

        fn deposit(&mut self, now: Instant) {
            self.budget.deposit(now);
            self.firsts.push(now);
        }

        fn retry(&mut self, now: Instant, story: &str) {
            let tenth = Duration::from_nanos(self.budget.policy.tenth());
            let window = tenth * 10;
            match self.budget.try_withdraw(now) {
                Ok(()) => {
                    assert!(self.affords(now, window, window), "{story}: allowed too much");
                    self.retries.push(now);
                }
                Err(Spent { until }) => {
                    assert!(!self.affords(now, window - tenth, window + tenth), "{story}: refused without need");
                    assert!(until > now, "{story}: promised for the past");
                    if until < Instant::NEVER {
                        let early = self.budget.clone().try_withdraw(just_before(until));
                        assert_eq!(early, Err(Spent { until }), "{story}: the promise moved");
                        assert!(self.budget.clone().try_withdraw(until).is_ok(), "{story}: the promise was broken");
                    }
                }
            }
        }
    }

    #[test]
    fn every_short_history_keeps_the_law() {
        const STEPS: u32 = 9;
        let policy = BudgetPolicy { percent: 50, minimum: 1, window: Duration::from_nanos(100) };
        for history in 0..5_usize.pow(STEPS) {
            let mut books = Books::new(policy);
            let (mut now, mut code) = (Instant::from_nanos(3), history);
            for _ in 0..STEPS {
                match code % 5 {
                    0 => books.deposit(now),
                    1 => books.retry(now, &alloc::format!("history {history}")),
                    2 => now = now + NANO * 7,
                    3 => now = now + NANO * 50,
                    _ => now = now + NANO * 97,
                }
                code /= 5;
            }
        }
    }

    #[test]
    fn long_walks_keep_the_law() {
        for seed in 0..300 {
            let mut dice = Entropy::from_seed(seed);
            let mut draw = |below: u64| dice.bits() % below;
            let policy = BudgetPolicy {
                percent: [1, 20, 33, 100, 250][draw(5) as usize],
                minimum: draw(5) as u32,
                window: Duration::from_nanos(1 + draw(1_000)),
            };
            let (mut books, mut now) = (Books::new(policy), Instant::ZERO);
            let pace = 1 + draw(200);
            for step in 0..300 {
                match draw(3) {
                    0 => now = now + NANO * draw(pace) as u32,
                    1 => books.deposit(now),
                    _ => books.retry(now, &alloc::format!("seed {seed}, step {step}")),
                }
                if draw(50) == 0 {
                    let saved = books.budget.save(now);
                    books.budget = Budget::restore(policy, &saved, now);
                }
            }
        }
    }
}
