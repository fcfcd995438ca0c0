//! The sliding window of a breaker's rates: the calls of the last stretch of time, or the last so many calls.
//!
//! The time window counts in tenths. The tenth under way has its own counters and its end; while it lasts, a call is
//! one addition and one comparison, without a division. The other nine are summed up when a tenth ends, so reading the
//! totals costs three additions.
//!
//! The window of calls is a ring of bits, exact to the call. While it is full of quick successes another one leaves it
//! as it is, so a healthy dependency costs no write.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{Instant, nanos};

/// The time window moves in steps of one part in so many.
pub(super) const TENTHS: usize = 10;

/// A window of calls holds at most so many.
pub const WINDOW_CALLS_MAX: u32 = 1024;

pub(super) const WORDS: usize = WINDOW_CALLS_MAX as usize / 64;

/// What a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) calls: u32,
    pub(super) failures: u32,
    pub(super) slow: u32,
}

/// How one call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

impl Tally {
    #[inline]
    fn count(&mut self, sample: Sample) {
        self.calls = self.calls.saturating_add(1);
        self.failures = self.failures.saturating_add(u32::from(sample.failed));
        self.slow = self.slow.saturating_add(u32::from(sample.slow));
    }

    #[inline]
    const fn is_blemished(&self) -> bool {
        self.failures | self.slow != 0
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            failures: self.failures.saturating_add(other.failures),
            slow: self.slow.saturating_add(other.slow),
        }
    }
}

/// A sliding window of either kind, or none where no rate is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Window {
    Off,
    Time(TimeWindow),
    Calls(CallWindow),
}

impl Window {
    /// An empty window of the last `calls`, or of the last `length` if that is zero, `from` some moment on.
    pub(super) fn new(length: Duration, calls: u32, from: Instant) -> Self {
        if calls == 0 { Self::Time(TimeWindow::new(length, from)) } else { Self::Calls(CallWindow::new(calls)) }
    }

    #[inline]
    pub(super) fn count(&mut self, sample: Sample, now: Instant) {
        match self {
            Self::Off => {}
            Self::Time(window) => window.count(sample, now),
            Self::Calls(window) => window.count(sample),
        }
    }

    /// Whether there is anything in it but quick successes.
    #[inline]
    pub(super) const fn is_blemished(&self) -> bool {
        match self {
            Self::Off => false,
            Self::Time(TimeWindow { earlier, present, .. }) => earlier.is_blemished() | present.is_blemished(),
            Self::Calls(window) => window.tally.is_blemished(),
        }
    }

    /// What the window held when the last call was counted.
    pub(super) const fn tally(&self) -> Tally {
        match self {
            Self::Off => Tally { calls: 0, failures: 0, slow: 0 },
            Self::Time(window) => window.earlier.plus(window.present),
            Self::Calls(window) => window.tally,
        }
    }
}

/// Calls of the last stretch of time, in tenths of it, reckoned from its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimeWindow {
    /// Nanoseconds of a tenth.
    pub(super) width: u64,
    /// When the present tenth ends.
    pub(super) ends: Instant,
    pub(super) present: Tally,
    /// The sum of the nine tenths before.
    pub(super) earlier: Tally,
    /// The tenths before, newest first.
    pub(super) before: [Tally; TENTHS - 1],
}

impl TimeWindow {
    fn new(length: Duration, from: Instant) -> Self {
        Self {
            width: (nanos(length) / TENTHS as u64).max(1),
            ends: from,
            present: Tally::default(),
            earlier: Tally::default(),
            before: [Tally::default(); TENTHS - 1],
        }
    }

    #[inline]
    fn count(&mut self, sample: Sample, now: Instant) {
        self.advance_to(now);
        self.present.count(sample);
    }

    #[inline]
    pub(super) fn advance_to(&mut self, now: Instant) {
        if now >= self.ends {
            self.advance(now);
        }
    }

    #[cold]
    fn advance(&mut self, now: Instant) {
        let passed = nanos(now - self.ends) / self.width + 1;
        self.ends = self.ends + Duration::from_nanos(passed.saturating_mul(self.width));
        let shift = usize::try_from(passed).unwrap_or(TENTHS).min(TENTHS);
        for _ in 0..shift {
            self.before.rotate_right(1);
            self.before[0] = core::mem::take(&mut self.present);
        }
        self.sum_up();
    }

    pub(super) fn sum_up(&mut self) {
        self.earlier = self.before.iter().fold(Tally::default(), |sum, tenth| sum.plus(*tenth));
    }
}

/// The last so many calls: two bits each, in a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallWindow {
    /// Calls that it can hold, from 1 to [`WINDOW_CALLS_MAX`].
    pub(super) size: u32,
    /// Where the next call goes; the oldest lies there once the ring is full.
    pub(super) next: u32,
    pub(super) tally: Tally,
    pub(super) failed: [u64; WORDS],
    pub(super) slow: [u64; WORDS],
}

impl CallWindow {
    fn new(calls: u32) -> Self {
        Self {
            size: calls.clamp(1, WINDOW_CALLS_MAX),
            next: 0,
            tally: Tally::default(),
            failed: [0; WORDS],
            slow: [0; WORDS],
        }
    }

    #[inline]
    fn count(&mut self, sample: Sample) {
        if sample.failed || sample.slow || self.tally.is_blemished() || self.tally.calls < self.size {
            self.replace_oldest(sample);
        }
    }

    fn replace_oldest(&mut self, sample: Sample) {
        let at = self.next;
        self.tally.calls = (self.tally.calls + 1).min(self.size);
        self.tally.failures += u32::from(sample.failed);
        self.tally.failures -= u32::from(exchange(&mut self.failed, at, sample.failed));
        self.tally.slow += u32::from(sample.slow);
        self.tally.slow -= u32::from(exchange(&mut self.slow, at, sample.slow));
        self.next = if at + 1 < self.size { at + 1 } else { 0 };
    }
}

/// Sets the bit `at` and returns what it was.
pub(super) fn exchange(bits: &mut [u64; WORDS], at: u32, bit: bool) -> bool {
    let word = &mut bits[at as usize / 64 % WORDS];
    let mask = 1 << (at % 64);
    let was = *word & mask != 0;
    *word = if bit { *word | mask } else { *word & !mask };
    was
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn samples() -> impl Strategy<Value = Vec<(u64, Sample)>> {
        // Mostly small steps, now and then one over several tenths or over the whole window.
        let step = prop_oneof![6 => 0..4_u64, 3 => 0..40_u64, 1 => 0..300_u64];
        let sample = (any::<bool>(), any::<bool>()).prop_map(|(failed, slow)| Sample { failed, slow });
        prop::collection::vec((step, sample), 1..400)
    }

    fn tally<'a>(calls: impl Iterator<Item = &'a Sample>) -> Tally {
        calls.fold(Tally::default(), |sum, call| {
            let (failures, slow) = (u32::from(call.failed), u32::from(call.slow));
            sum.plus(Tally { calls: 1, failures, slow })
        })
    }

    proptest! {
        #[test]
        fn the_time_window_agrees_with_a_list_of_calls(calls in samples(), length in 1..120_u64, start in 0..500_u64) {
            let mut window = Window::new(Duration::from_nanos(length), 0, Instant::from_nanos(start));
            let width = (length / 10).max(1);
            let mut seen: Vec<(u64, Sample)> = Vec::new();
            let mut now = 0;
            for (step, sample) in calls {
                now += step;
                window.count(sample, Instant::from_nanos(start + now));
                seen.push((now / width, sample));
                let inside = seen.iter().filter(|(tenth, _)| tenth + 10 > now / width).map(|(_, sample)| sample);
                prop_assert_eq!(window.tally(), tally(inside));
            }
        }

        #[test]
        fn the_window_of_calls_agrees_with_a_list_of_calls(
            calls in samples(),
            size in prop_oneof![1..20_u32, 60..70_u32, 120..130_u32, Just(300)],
            healthy in 0..100_usize,
        ) {
            let mut window = Window::new(Duration::ZERO, size, Instant::ZERO);
            let well = Sample { failed: false, slow: false };
            let mut seen: Vec<Sample> = Vec::new();
            // The healthy calls around it take the path without a write.
            let all = calls.iter().map(|(_, sample)| *sample).chain((0..healthy).map(|_| well));
            for sample in (0..healthy).map(|_| well).chain(all) {
                window.count(sample, Instant::ZERO);
                seen.push(sample);
                prop_assert_eq!(window.tally(), tally(seen.iter().rev().take(size as usize)));
            }
        }
    }

    #[test]
    fn the_largest_window_of_calls_forgets_a_failure_with_exactly_the_call_that_pushes_it_out() {
        let mut window = CallWindow::new(WINDOW_CALLS_MAX);
        let well = Sample { failed: false, slow: false };
        for _ in 0..2 {
            window.count(Sample { failed: true, slow: true });
            for _ in 1..WINDOW_CALLS_MAX {
                window.count(well);
            }
            assert_eq!(window.tally, Tally { calls: WINDOW_CALLS_MAX, failures: 1, slow: 1 });
            window.count(well);
            assert_eq!(window.tally, Tally { calls: WINDOW_CALLS_MAX, failures: 0, slow: 0 });
        }
    }

    #[test]
    fn a_reading_from_before_the_present_tenth_is_counted_in_it() {
        let mut window = Window::new(Duration::from_secs(10), 0, Instant::ZERO);
        let failed = Sample { failed: true, slow: false };
        window.count(failed, Instant::from_nanos(5_000_000_000));
        window.count(failed, Instant::ZERO);
        assert_eq!(window.tally().failures, 2);
    }

    #[test]
    fn the_end_of_time_does_not_overflow() {
        let mut window = Window::new(Duration::MAX, 0, Instant::ZERO);
        let failed = Sample { failed: true, slow: false };
        for now in [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX, u64::MAX] {
            window.count(failed, Instant::from_nanos(now));
        }
        assert!(window.tally().failures >= 1);
    }
}
