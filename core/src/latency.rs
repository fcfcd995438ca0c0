//! How long loads take: a smoothed mean and a high percentile, learnt one sample at a time.
//!
//! ```text
//! mean       += (took − mean) / 8
//! percentile += percentile / 16 × p               if took > percentile
//! percentile −= percentile / 16 × (1 − p) × run   otherwise; run grows with every 64 samples in a row
//! ```
//!
//! The mean forgets as TCP's round-trip time does (RFC 6298 section 2, a gain of 1/8): after eight samples the old
//! weighs a third. The percentile is found by stochastic approximation (Robbins and Monro, "A Stochastic
//! Approximation Method", 1951) with steps in proportion to the estimate, so that microseconds and minutes are
//! learnt alike (Yazidi and Hammer, "Multiplicative Update Methods for Incremental Quantile Estimation", 2017). Steps
//! up and down balance exactly where the share `p` of the samples is below, whatever the distribution. No samples
//! are kept. What that costs: the estimate of p95 wavers (on exponential times by about a tenth of itself), a rise by
//! ten is learnt within 50 samples, a fall by ten within 300.
//!
//! What it is for: the load time of an entry that knows none of its own, for early refresh (Vattani, Chierichetti and
//! Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", 2015), and reports; the percentile is what a hedged
//! load would wait for (Dean and Barroso, "The Tail at Scale", 2013), which no driver makes yet.
//!
//! It does not know what was loaded: loads that differ greatly (a row, a report) want a machine each.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::nanos;

/// The mean moves by this part of the difference.
const MEAN_GAIN: u64 = 8;
/// The percentile moves by at most this part of itself.
const STEP: u64 = 16;
/// So many samples in a row below the percentile lengthen the next step down by one: at p95 a run of 64 has a
/// probability of 4 %, so where the estimate is right this hardly ever happens.
const RUN: u64 = 64;
/// Before so many samples a percentile says nothing.
const SAMPLES_MIN: u32 = 20;

/// What one loader's loads take; see the [module](self).
///
/// ```
/// use core::time::Duration;
/// use tideover_core::latency::Latency;
///
/// let mut latency = Latency::new(95);
/// assert_eq!(latency.mean(), None);
/// for number in 0..1_000 {
///     latency.record(Duration::from_millis(if number % 10 == 0 { 500 } else { 100 }));
/// }
/// assert_eq!(latency.mean().map(|mean| mean.as_millis() / 20 * 20), Some(120));
/// assert!(latency.percentile() > Some(Duration::from_millis(400)));
/// ```
#[derive(Debug, Clone)]
pub struct Latency {
    percent: u8,
    known: Saved,
    /// Samples in a row that were below the percentile.
    run: u64,
}

/// What is kept of a latency across a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Saved {
    mean: Duration,
    percentile: Duration,
    samples: u32,
}

impl Latency {
    /// Nothing known yet; `percent` of the loads take at most the [percentile](Self::percentile), held to 1 to 99.
    #[must_use]
    pub fn new(percent: u8) -> Self {
        Self { percent: percent.clamp(1, 99), known: Saved::default(), run: 0 }
    }

    /// Learns from a load that was answered. A load that was not tells only that it took longer than it was given.
    pub fn record(&mut self, took: Duration) {
        let took = nanos(took);
        let Saved { mean, percentile, samples } = self.known;
        if samples == 0 {
            self.known = Saved { mean: Duration::from_nanos(took), percentile: Duration::from_nanos(took), samples: 1 };
            return;
        }
        let mean = toward(nanos(mean), took, MEAN_GAIN);
        let percentile = self.stepped(nanos(percentile), took);
        self.known = Saved {
            mean: Duration::from_nanos(mean),
            percentile: Duration::from_nanos(percentile),
            samples: samples.saturating_add(1),
        };
    }

    fn stepped(&mut self, percentile: u64, took: u64) -> u64 {
        let percent = u64::from(self.percent);
        let step = |share: u64| ((u128::from(percentile) * u128::from(share) / u128::from(100 * STEP)) as u64).max(1);
        if took > percentile {
            self.run = 0;
            return percentile.saturating_add(step(percent));
        }
        self.run += 1;
        percentile.saturating_sub(step((100 - percent) * (1 + self.run / RUN).min(STEP)))
    }

    /// How long a load takes, smoothed; `None` before the first.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        Some(self.known.mean).filter(|_| self.known.samples > 0)
    }

    /// How long the given share of loads take at most; `None` before twenty samples.
    #[must_use]
    pub fn percentile(&self) -> Option<Duration> {
        Some(self.known.percentile).filter(|_| self.known.samples >= SAMPLES_MIN)
    }

    /// What is known, for [`Latency::restore`].
    #[must_use]
    pub const fn save(&self) -> Saved {
        self.known
    }

    /// A latency that goes on from `saved`.
    #[must_use]
    pub fn restore(percent: u8, saved: &Saved) -> Self {
        Self { known: *saved, ..Self::new(percent) }
    }
}

/// `from` moved by one part in `parts` of the way to `to`.
pub(crate) fn toward(from: u64, to: u64, parts: u64) -> u64 {
    if to > from { from + (to - from) / parts } else { from - (from - to) / parts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// The share of `samples` that the estimate, learnt from those before each, was not below, after a warm-up.
    fn coverage(percent: u8, mut draw: impl FnMut() -> Duration) -> f64 {
        let mut latency = Latency::new(percent);
        (0..2_000).for_each(|_| latency.record(draw()));
        let mut covered = 0;
        for _ in 0..20_000 {
            let took = draw();
            covered += u32::from(Some(took) <= latency.percentile());
            latency.record(took);
        }
        f64::from(covered) / 20_000.0
    }

    #[test]
    fn the_percentile_covers_its_share_of_any_distribution() {
        let mut dice = Entropy::from_seed(1);
        for percent in [50, 75, 90, 95, 99] {
            let wanted = f64::from(percent) / 100.0;
            for (name, spread) in [("even", 0), ("exponential", 1), ("a tail of a tenth", 2)] {
                let share = coverage(percent, || match spread {
                    0 => dice.between(millis(50), millis(150)),
                    1 => dice.exponential(millis(100)),
                    _ if dice.bits().is_multiple_of(10) => dice.between(millis(500), millis(900)),
                    _ => dice.between(millis(90), millis(110)),
                });
                assert!((share - wanted).abs() < 0.015, "p{percent} of {name} covers {share}");
            }
        }
    }

    #[test]
    fn a_rise_by_ten_is_learnt_within_fifty_samples_and_a_fall_within_three_hundred() {
        let mut dice = Entropy::from_seed(2);
        let mut latency = Latency::new(95);
        let mut settle = |latency: &mut Latency, base: u64, samples: u32| {
            (0..samples).for_each(|_| latency.record(dice.between(millis(base), millis(2 * base))));
            latency.percentile().expect("samples enough")
        };
        let percentile = settle(&mut latency, 100, 2_000);
        assert!((millis(180)..millis(220)).contains(&percentile), "{percentile:?}");
        assert!(settle(&mut latency, 1_000, 50) > millis(1_500));
        settle(&mut latency, 1_000, 2_000);
        assert!(settle(&mut latency, 100, 300) < millis(250));
    }

    #[test]
    fn the_mean_follows_within_a_few_samples() {
        let mut latency = Latency::new(95);
        latency.record(millis(100));
        assert_eq!(latency.mean(), Some(millis(100)));
        latency.record(millis(900));
        assert_eq!(latency.mean(), Some(millis(200)), "an eighth of the way");
        (0..40).for_each(|_| latency.record(millis(900)));
        let mean = latency.mean().expect("samples");
        assert!(mean > millis(890) && mean <= millis(900), "{mean:?}");
    }

    #[test]
    fn nothing_is_said_before_it_is_known() {
        let mut latency = Latency::new(95);
        assert_eq!((latency.mean(), latency.percentile()), (None, None));
        (0..19).for_each(|_| latency.record(millis(10)));
        assert_eq!(latency.percentile(), None, "nineteen are too few");
        latency.record(millis(10));
        assert!(latency.percentile().is_some());
    }

    #[test]
    fn what_was_learnt_survives_a_restart() {
        let mut latency = Latency::new(95);
        (0..100).for_each(|n| latency.record(millis(n)));
        let bytes = postcard::to_allocvec(&latency.save()).expect("plain data");
        let restored = Latency::restore(95, &postcard::from_bytes(&bytes).expect("what was written"));
        assert_eq!((restored.mean(), restored.percentile()), (latency.mean(), latency.percentile()));
    }

    #[test]
    fn absurd_times_saturate() {
        for percent in [0, 1, 99, u8::MAX] {
            let mut latency = Latency::new(percent);
            for took in [Duration::MAX, Duration::ZERO, Duration::from_nanos(1)] {
                (0..5_000).for_each(|_| latency.record(took));
                let near = took.saturating_add(Duration::from_secs(1));
                assert!(latency.percentile() <= Some(near), "it finds its way back: {latency:?}");
            }
        }
    }
}
