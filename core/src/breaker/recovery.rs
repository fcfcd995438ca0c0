//! Progressive recovery: a dependency that just came back is not asked by everybody at once.
//!
//! The time of recovery is cut into tenths. Each tenth has a quota: the growing share of the demand, which is the
//! largest number of calls that asked in a tenth so far, refused ones included (at first: the calls turned away during
//! the outage, per tenth). The quota is known when the tenth begins, so a refusal can promise: nothing passes before
//! the next tenth, and then something does. A share drawn per call could not promise that, and all who wait for one
//! moment would find the door wide open then; a quota holds them back.

use core::time::Duration;

use super::window::TENTHS;
use crate::entropy::scale;
use crate::time::{Instant, nanos};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recovery {
    pub(super) lasts: Duration,
    /// The percentage of the first tenth.
    pub(super) start: u8,
    pub(super) ends: Instant,
    pub(super) tenth: u32,
    pub(super) asked: u32,
    pub(super) admitted: u32,
    pub(super) demand: u32,
    /// How often in a row the circuit had opened before; the next wait is the next longer one.
    pub(super) reopened: u32,
}

/// What recovery says to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// It is among those that pass.
    Passes,
    /// It is not; the next may be at that moment.
    NotUntil(Instant),
    /// Recovery is over, all pass.
    All,
}

impl Recovery {
    /// A recovery from `now` on after an outage in which `asked` calls were turned away `within` the wait.
    pub(super) fn new(lasts: Duration, start: u8, now: Instant, asked: u64, within: Duration) -> Self {
        let tenth = u128::from(nanos(lasts)) / TENTHS as u128;
        let demand = u128::from(asked) * tenth / u128::from(nanos(within).max(1));
        let demand = u32::try_from(demand).unwrap_or(u32::MAX);
        Self { lasts, start, ends: now + lasts, tenth: 0, asked: 0, admitted: 0, demand, reopened: 0 }
    }

    pub(super) fn ask(&mut self, now: Instant) -> Share {
        if now >= self.ends {
            return Share::All;
        }
        while now >= self.tenth_ends() {
            self.tenth += 1;
            self.demand = self.demand.max(self.asked);
            (self.asked, self.admitted) = (0, 0);
        }
        self.asked = self.asked.saturating_add(1);
        if self.admitted >= self.quota() {
            return Share::NotUntil(self.tenth_ends());
        }
        self.admitted += 1;
        Share::Passes
    }

    fn tenth_ends(&self) -> Instant {
        let left = scale(self.lasts, (TENTHS as u32 - 1).saturating_sub(self.tenth), TENTHS as u32);
        Instant::from_nanos(self.ends.as_nanos().saturating_sub(nanos(left)))
    }

    /// Calls that may pass in this tenth: its share of the demand, rounded up, and never none.
    fn quota(&self) -> u32 {
        let grown = u64::from(100 - self.start) * u64::from(self.tenth) / TENTHS as u64;
        let share = u64::from(self.start) + grown;
        ((u64::from(self.demand) * share).div_ceil(100) as u32).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// A hundred calls each second through a recovery of ten seconds: how many pass in each.
    fn admitted(start: u8, asked_while_open: u64) -> Vec<usize> {
        let lasts = Duration::from_secs(10);
        let mut recovery = Recovery::new(lasts, start, Instant::ZERO, asked_while_open, Duration::from_secs(1));
        let call = |second: u64, n: u64| Instant::from_nanos(second * 1_000_000_000 + n * 10_000_000);
        let passes = |share| matches!(share, Share::Passes | Share::All);
        (0..11).map(|second| (0..100).filter(|n| passes(recovery.ask(call(second, *n)))).count()).collect()
    }

    #[test]
    fn the_share_grows_from_its_start_to_everything() {
        assert_eq!(admitted(10, 100), [10, 19, 28, 37, 46, 55, 64, 73, 82, 91, 100]);
        assert_eq!(admitted(50, 100), [50, 55, 60, 65, 70, 75, 80, 85, 90, 95, 100]);
        assert_eq!(admitted(100, 100), [100; 11]);
    }

    #[test]
    fn callers_that_heeded_the_refusals_of_the_outage_begin_with_one() {
        assert_eq!(admitted(10, 0), [1, 19, 28, 37, 46, 55, 64, 73, 82, 91, 100]);
    }

    #[test]
    fn a_refusal_holds_for_every_instant_before_the_next_tenth_and_not_at_it() {
        for lasts in [1, 7, 10, 19, 100, 1_003] {
            let start = Instant::from_nanos(1_000);
            let mut recovery = Recovery::new(Duration::from_nanos(lasts), 10, start, 0, Duration::ZERO);
            let mut promised = Instant::ZERO;
            for nano in 0..lasts {
                let now = start + Duration::from_nanos(nano);
                let share = recovery.ask(now);
                if now < promised {
                    assert_eq!(share, Share::NotUntil(promised), "{lasts} ns at {now:?}");
                }
                if now == promised {
                    assert_eq!(share, Share::Passes, "{lasts} ns at {now:?}");
                }
                while let Share::NotUntil(until) = recovery.ask(now)
                    && promised != until
                {
                    assert!(now < until && now >= promised);
                    promised = until;
                }
            }
            assert_eq!(recovery.ask(start + Duration::from_nanos(lasts)), Share::All);
        }
    }

    #[test]
    fn absurd_demand_saturates() {
        let mut recovery = Recovery::new(Duration::MAX, 100, Instant::ZERO, u64::MAX, Duration::ZERO);
        assert_eq!(recovery.demand, u32::MAX);
        assert_eq!(recovery.ask(Instant::ZERO), Share::Passes);
    }
}
