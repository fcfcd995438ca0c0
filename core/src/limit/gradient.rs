//! The adaptive limit: how many the origin can do at once, found from how long they take.
//!
//! By Little's law (1961) what is in a system is its throughput times the time spent in it. An origin that does at
//! most `C` loads at once, each in `base`, lets more than `C` wait: with `limit` in flight a load takes
//! `base × limit / C`. So what it takes says what `C` is:
//!
//! ```text
//! limit' = limit × max(1/2, min(1, base / took)) + √limit       when the limit is in use
//! limit' = limit × 3/4                                          when an eighth of a round failed
//! ```
//!
//! It comes to rest where `limit = C + √limit`: a few more than the origin can do, so that it always has something to
//! do and a rise of `C` is noticed. Where nothing waits it grows by `√limit` a round (Netflix *concurrency-limits*,
//! `GradientLimit`); failures cut it by a factor, once for all that were sent before the cut (AIMD: Chiu and Jain,
//! 1989; TCP's one reduction per window, RFC 5681). Below an eighth, failures are somebody's bad luck, not overload.
//!
//! A *round* is one measurement. It leaves out as many answers as loads were in flight when it began, since those
//! were slowed by the limit of before, and takes the mean of the next 16 to 64. Means are compared with means: the
//! minimum of times that differ by themselves would call every queue-less origin overloaded.
//!
//! `base` is what loads take at no more than half the limit. A round that happens to be so quiet measures it;
//! otherwise every 32nd round is a *probe*, for which the limit is halved (as BBR drains its queue: Cardwell et al.,
//! 2016; Envoy's gradient controller measures its `minRTT` so). Between probes `base` only falls. This is what a
//! running mean of everything (`Gradient2Limit`) lacks: under lasting overload it learns that slow is normal.
//!
//! If the peak of a round did not reach the limit, nothing is concluded: a limit that is not used says nothing about
//! the origin, and grows only as far as it is used.

use crate::latency::toward;

/// The limit is kept in so many parts of a slot, so that small limits can move by less than one.
const PARTS: u64 = 256;
/// Measurements of a round, by the limit.
const SAMPLES: core::ops::RangeInclusive<u32> = 16..=1024;
/// Rounds from one measurement of the base to the next.
const PROBE_EVERY: u32 = 32;
/// The same while it is the mean of fewer than [`MEASURED`], and when the last one moved it by more than an eighth.
const PROBE_AGAIN: u32 = 4;
/// So many measurements make up the base: the newest for a quarter.
const MEASURED: u32 = 4;
/// The limit is cut when this part of a round's measurements failed.
const FAILED: u32 = 8;

#[derive(Debug, Clone)]
pub(super) struct Gradient {
    floor: u64,
    ceiling: u64,
    limit: u64,
    /// Nanoseconds; zero is unknown.
    base: u64,
    /// Measurements that the base is the mean of.
    measured: u32,
    /// Rounds until the next probe; in a probe zero.
    probe_in: u32,
    /// Failures of slots up to this number were answered by a cut already.
    cut_at: u64,
    round: Round,
}

#[derive(Debug, Clone, Copy, Default)]
struct Round {
    /// Answers still to be left out.
    skip: u32,
    wanted: u32,
    samples: u32,
    sum: u128,
    failures: u32,
    /// Most that were in flight at once.
    peak: u32,
}

/// `slots` in the parts that limits are kept in.
pub(super) fn parts(slots: u32) -> u64 {
    u64::from(slots) * PARTS
}

impl Gradient {
    pub(super) fn new(floor: u32, ceiling: u32, limit: u64, base: u64) -> Self {
        let (floor, ceiling) = (parts(floor.min(ceiling)), parts(ceiling));
        let (measured, probe_in) = if base == 0 { (0, 0) } else { (MEASURED, PROBE_EVERY) };
        let limit = limit.clamp(floor, ceiling);
        let mut new = Self { floor, ceiling, limit, base, measured, probe_in, cut_at: 0, round: Round::default() };
        new.begin_round(0);
        new
    }

    pub(super) fn limit_in_parts(&self) -> u64 {
        self.limit
    }

    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// How many may be in flight: half while the base is measured.
    pub(super) fn allowed(&self) -> u32 {
        let limit = u32::try_from(self.limit / PARTS).unwrap_or(u32::MAX);
        if self.probe_in == 0 { (limit.saturating_sub(1) / 2).max(1) } else { limit }
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
        let mean = (self.round.sum / u128::from(self.round.samples)) as u64;
        self.conclude(mean.max(1));
        self.begin_round(in_flight);
        self.probe_in == 0
    }

    /// Says whether the limit was cut. `number` is the slot's, `granted` the newest slot's.
    pub(super) fn failed(&mut self, number: u64, granted: u64, in_flight: u32) -> bool {
        self.passed();
        if number <= self.cut_at {
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
        let quiet = u64::from(self.round.peak) * PARTS * 2 <= self.limit;
        if self.probe_in == 0 || quiet {
            return self.measure_base(mean);
        }
        let in_use = self.round.peak >= self.allowed();
        self.probe_in -= 1;
        if mean < self.base / 2 {
            self.base = toward(self.base, mean, 4);
        }
        if in_use {
            let kept = u128::from(self.limit) * u128::from(self.base.min(mean)) / u128::from(mean);
            self.set_limit((kept as u64 + (self.limit * PARTS).isqrt()).max(self.limit / 2));
        }
    }

    /// A fall by half is believed at once, and a rise by half halfway. What is less may be chance, and is averaged:
    /// the first measurements alike, later ones with a gain of a quarter.
    fn measure_base(&mut self, mean: u64) {
        let before = self.base;
        self.measured = if mean < before / 2 { 1 } else { (self.measured + 1).min(MEASURED) };
        let surely_higher = mean > before.saturating_add(before / 2);
        self.base = match self.measured {
            1 => mean,
            _ if surely_higher => toward(before, mean, 2),
            parts => toward(before, mean, u64::from(parts)),
        };
        let settled = self.measured == MEASURED && self.base.abs_diff(before) <= before / 8;
        self.probe_in = if settled { PROBE_EVERY } else { PROBE_AGAIN };
    }

    fn set_limit(&mut self, limit: u64) {
        self.limit = limit.clamp(self.floor, self.ceiling);
    }

    fn begin_round(&mut self, in_flight: u32) {
        let wanted = (self.limit / PARTS).try_into().unwrap_or(u32::MAX).clamp(*SAMPLES.start(), *SAMPLES.end());
        self.round = Round { skip: in_flight, wanted, peak: in_flight, ..Round::default() };
    }
}
