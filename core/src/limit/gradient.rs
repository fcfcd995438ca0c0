//! The adaptive limit: how many the origin can do at once, found from how long they take.
//!
//! By Little's law (1961) what is in a system is its throughput times the time spent in it. An origin that does at
//! most `C` loads at once, each in `base`, lets more than `C` wait: with `limit` in flight a load takes
//! `base × limit / C`. So what it takes says what `C` is:
//!
//! ```text
//! limit' = max(limit / 2, limit × min(1, base / took) + √limit)     when the limit is in use
//! limit' = limit × 3/4                                              when a quarter of a round failed
//! ```
//!
//! It comes to rest where `limit = C + √limit`: a few more than the origin can do, so that it always has something to
//! do and a rise of `C` is noticed. Where nothing waits it grows by `√limit` a round (Netflix *concurrency-limits*,
//! `GradientLimit`); failures cut it by a factor, once for all that were sent before the cut (AIMD: Chiu and Jain,
//! 1989; TCP's one reduction per window, RFC 5681). Fewer failures are somebody's bad luck, not overload.
//!
//! A *round* is one measurement. It leaves out as many answers as loads were in flight when it began, since those
//! were slowed by the limit of before, and takes the mean of the next 16 to 1 024, the more the higher the limit.
//! Means are compared with means: the minimum of times that differ by themselves would call every origin overloaded.
//!
//! `base` is what loads take at no more than half the limit. A round that happens to be so quiet measures it; otherwise
//! every 32nd round is a *probe*, for which the limit is halved (as BBR drains its queue: Cardwell et al., 2016;
//! Envoy's gradient controller measures its `minRTT` so). If loads take longer than they should even then, either the
//! origin has become slower or it can do less than half of what was thought: the probe halves again, and when that
//! does not make loads quicker, nothing waits and the origin is slower. A limit of which nothing is known starts with
//! a probe, and one that has halved or doubled since the last is probed at once. This is what a running mean of
//! everything (`Gradient2Limit`) lacks: under lasting overload it learns that slow is normal.
//!
//! On a simulated origin (`simulation.rs`) the limit rests within 1 of `C + √C` when all loads take alike, and within
//! 40 % of it when their times are exponential, at more than 95 % of the possible throughput. Changes of `C` between
//! 1 and 100 are followed within 2 000 answers (10 → 40 in 750, 40 → 10 in 350), and after a full outage a limit of
//! 100 is back within 4 000.
//!
//! If the peak of a round did not reach the limit, nothing is concluded: a limit that is not used says nothing about
//! the origin, and grows only as far as it is used.

use crate::latency::toward;

/// The limit is kept in so many parts of a slot, so that small limits can move by less than one.
const PARTS: u64 = 256;
/// A round has as many measurements as the limit is high, and at least so many.
const SAMPLES_MIN: u64 = 16;
/// A mean of so many differs little enough by chance, whatever the limit.
const SAMPLES_MAX: u64 = 1024;
/// Rounds from one measurement of the base to the next.
const PROBE_EVERY: u32 = 32;
/// The same while it is the mean of fewer than [`MEASURED`], and when the last one moved it by more than an eighth.
const PROBE_AGAIN: u32 = 4;
/// So many measurements make up the base: the newest for a quarter.
const MEASURED: u32 = 4;
/// The limit is cut when this part of a round's measurements failed.
const FAILED: u32 = 4;

#[derive(Debug, Clone)]
pub(super) struct Gradient {
    floor: u64,
    ceiling: u64,
    limit: u64,
    /// Nanoseconds; zero is unknown.
    base: u64,
    /// Samples that the base is the mean of.
    weight: u32,
    /// Rounds until the next probe.
    probe_in: u32,
    /// How often the limit is halved at present; zero is no probe.
    depth: u32,
    /// What loads took in this probe before the last halving; zero is unknown.
    shallower: u64,
    /// The limit when the base was measured last.
    measured_at: u64,
    /// Failures of slots up to this number were answered by a cut already.
    cut_at: u64,
    round: Round,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    /// Answers still to be left out.
    skip: u32,
    wanted: u32,
    samples: u32,
    sum: u128,
    failures: u32,
    /// Most that were in flight when one was sent.
    peak: u32,
}

/// `slots` in the parts that limits are kept in.
pub(super) fn parts(slots: u32) -> u64 {
    u64::from(slots) * PARTS
}

impl Gradient {
    /// Floor, ceiling and limit in parts of a slot, the base in nanoseconds.
    pub(super) fn new(floor: u64, ceiling: u64, limit: u64, base: u64) -> Self {
        let floor = floor.min(ceiling);
        let limit = limit.clamp(floor, ceiling);
        let (weight, depth) = if base == 0 { (0, 1) } else { (u32::MAX, 0) };
        let round = Round::new(limit, 0);
        let (probe_in, shallower, cut_at) = (PROBE_EVERY, 0, 0);
        Self { floor, ceiling, limit, base, weight, probe_in, depth, shallower, measured_at: limit, cut_at, round }
    }

    pub(super) fn limit_in_parts(&self) -> u64 {
        self.limit
    }

    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// How many may be in flight: less than half while the base is measured.
    pub(super) fn allowed(&self) -> u32 {
        let limit = u32::try_from(self.limit / PARTS).unwrap_or(u32::MAX);
        (0..self.depth).fold(limit, |limit, _| limit.saturating_sub(1) / 2).max(1)
    }

    pub(super) fn acquired(&mut self, in_flight: u32) {
        self.round.peak = self.round.peak.max(in_flight);
    }

    /// An answer that says nothing; the limit that it was sent under is past, too.
    pub(super) fn passed(&mut self) {
        self.round.skip = self.round.skip.saturating_sub(1);
    }

    /// Says whether a probe begins.
    pub(super) fn measured(&mut self, took: u64, in_flight: u32) -> bool {
        if self.round.skip > 0 {
            self.passed();
            return false;
        }
        self.round.samples += 1;
        self.round.sum += u128::from(took);
        if self.round.samples < self.round.wanted {
            return false;
        }
        let (mean, before) = ((self.round.sum / u128::from(self.round.samples)) as u64, self.depth);
        self.conclude(mean.max(1));
        self.begin_round(in_flight);
        self.depth > before
    }

    /// Says whether the limit was cut. `number` is the slot's, `granted` the newest slot's.
    pub(super) fn failed(&mut self, number: u64, granted: u64, in_flight: u32) -> bool {
        if self.round.skip > 0 || number <= self.cut_at {
            self.passed();
            return false;
        }
        self.round.failures += 1;
        if self.round.failures * FAILED < self.round.wanted {
            return false;
        }
        self.cut_at = granted;
        self.set_limit(self.limit - self.limit / 4);
        self.begin_round(in_flight);
        true
    }

    fn conclude(&mut self, mean: u64) {
        if self.depth > 0 {
            return self.conclude_probe(mean);
        }
        if u64::from(self.round.peak) * PARTS * 2 <= self.limit {
            return self.measure_base(mean);
        }
        if self.round.peak >= self.allowed() {
            let kept = u128::from(self.limit) * u128::from(self.base.min(mean)) / u128::from(mean);
            self.set_limit((kept as u64 + (self.limit * PARTS).isqrt()).max(self.limit / 2));
        }
        self.probe_in = self.probe_in.saturating_sub(1);
        // A limit that is half or twice of what it was may have become so through a base that is wrong.
        let far = self.limit < self.measured_at / 2 || self.limit / 2 > self.measured_at;
        if self.probe_in == 0 || far {
            self.depth = 1;
        }
    }

    /// At the present depth loads take `mean`. If that is news, and quicker than further up, loads may still wait, and
    /// the probe goes deeper. The depth at which nothing waited is less than half of the new limit.
    fn conclude_probe(&mut self, mean: u64) {
        let news = self.base == 0 || is_higher(mean, self.base) || is_lower(mean, self.base);
        let quicker = self.shallower == 0 || is_lower(mean, self.shallower);
        if news && quicker && self.allowed() > 1 {
            self.shallower = mean;
            self.depth += 1;
            return;
        }
        let deeper = u32::from(!quicker);
        self.set_limit(self.limit >> (self.depth - 1 - deeper).min(63));
        (self.depth, self.shallower) = (0, 0);
        self.measure_base(mean);
    }

    /// A change by half is believed. What is less may be chance, and is averaged, the newest measurement for a quarter
    /// at least.
    fn measure_base(&mut self, mean: u64) {
        let (before, samples) = (self.base, self.round.samples);
        let surely = before == 0 || mean < before / 2 || is_higher(mean, before);
        let weight = if surely { 0 } else { self.weight.min((MEASURED - 1) * samples) };
        let parts = 1 + weight / samples;
        self.base = toward(before, mean, u64::from(parts));
        self.weight = weight + samples;
        let settled = parts == MEASURED && self.base.abs_diff(before) <= before / 8;
        self.probe_in = if settled { PROBE_EVERY } else { PROBE_AGAIN };
        self.measured_at = self.limit;
    }

    fn set_limit(&mut self, limit: u64) {
        self.limit = limit.clamp(self.floor, self.ceiling);
    }

    fn begin_round(&mut self, in_flight: u32) {
        self.round = Round::new(self.limit, in_flight);
    }
}

impl Round {
    fn new(limit: u64, in_flight: u32) -> Self {
        let wanted = (limit / PARTS).clamp(SAMPLES_MIN, SAMPLES_MAX) as u32;
        Self { skip: in_flight, wanted, samples: 0, sum: 0, failures: 0, peak: 0 }
    }
}

/// By more than the means of a round differ by chance.
fn is_higher(mean: u64, than: u64) -> bool {
    mean > than.saturating_add(than / 2)
}

/// As [`is_higher`].
fn is_lower(mean: u64, than: u64) -> bool {
    mean < than - than / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_hundred() -> Gradient {
        Gradient::new(parts(1), parts(1_000), parts(100), 1_000)
    }

    /// A limit of 100 in use, and as many answers as it takes to a conclusion.
    fn round(gradient: &mut Gradient, took: u64) {
        gradient.acquired(100);
        (0..100).for_each(|_| {
            gradient.measured(took, 0);
        });
    }

    #[test]
    fn one_round_moves_the_limit_by_its_root_and_at_most_by_half() {
        for (took, limit) in [(1_000, 110), (500, 110), (1_100, 100), (2_000, 60), (1_000_000, 50)] {
            let mut gradient = at_hundred();
            round(&mut gradient, took);
            assert_eq!(gradient.limit / PARTS, limit, "after a round of {took}");
        }
    }

    #[test]
    fn what_was_sent_before_a_cut_does_not_cut_again() {
        let mut gradient = at_hundred();
        let cuts = (1..=100).filter(|number| gradient.failed(*number, 100, 0)).count();
        assert_eq!((cuts, gradient.limit / PARTS), (1, 75), "a hundred failed at once");
        let cuts = (101..=200).filter(|number| gradient.failed(*number, 100, 0)).count();
        assert!(cuts > 1, "what was sent after it may");
    }
}
