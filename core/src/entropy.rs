//! Repeatable dice. The seed is given at birth; the machines never ask the world for randomness.

use core::time::Duration;

use crate::time::nanos;

/// A small generator (SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
///
/// It spreads retries and expiries; it is no source of secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entropy(u64);

impl Entropy {
    /// The generator whose every answer follows from `seed`.
    #[must_use]
    pub const fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// What [`Entropy::from_seed`] goes on from.
    #[must_use]
    pub const fn state(&self) -> u64 {
        self.0
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A duration drawn evenly from `low..=high` (`low` if the range is empty).
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let (low, high) = (nanos(low), nanos(high));
        let Some(span) = high.checked_sub(low).filter(|&span| span > 0) else {
            return Duration::from_nanos(low);
        };
        // The high half of a 128-bit product maps 64 bits onto the span without a division and with a bias
        // below span / 2^64 (Lemire 2019).
        let offset = (u128::from(self.bits()) * (u128::from(span) + 1)) >> 64;
        Duration::from_nanos(low + offset as u64)
    }

    /// A duration drawn from the exponential distribution of that mean, right to a millionth of the mean.
    ///
    /// By inversion: minus the logarithm of an even draw. Its whole part to base two is the number of leading zeros,
    /// the binary digits behind the point come from squaring the rest again and again.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        const DIGITS: u32 = 20;
        const LN_2: u128 = 744_261_118; // 2^30 times the natural logarithm of 2
        let draw = self.bits() | 1;
        let zeros = draw.leading_zeros();
        let mut rest = draw << zeros;
        let mut digits = 0_u64;
        for _ in 0..DIGITS {
            let square = u128::from(rest) * u128::from(rest);
            let carries = square >> 127 == 1;
            digits = digits << 1 | u64::from(carries);
            rest = if carries { (square >> 64) as u64 } else { (square >> 63) as u64 };
        }
        let minus_log_2 = (u64::from(zeros + 1) << DIGITS) - digits;
        let times = (u128::from(minus_log_2) * LN_2) >> DIGITS;
        let nanos = (u128::from(nanos(mean)) * times) >> 30;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// `middle` moved by at most `percent` of itself to either side.
    pub fn around(&mut self, middle: Duration, percent: u8) -> Duration {
        let swing = scale(middle, u32::from(percent), 100);
        self.between(middle.saturating_sub(swing), middle.saturating_add(swing))
    }
}

/// `duration × times / over`, saturating; `over` must not be zero.
pub(crate) fn scale(duration: Duration, times: u32, over: u32) -> Duration {
    let scaled = u128::from(nanos(duration)) * u128::from(times) / u128::from(over.max(1));
    Duration::from_nanos(u64::try_from(scaled).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swing_stays_inside_its_percentage_and_uses_it() {
        let mut entropy = Entropy::from_seed(7);
        let drawn: alloc::vec::Vec<_> = (0..1_000).map(|_| entropy.around(Duration::from_secs(10), 20)).collect();
        assert!(drawn.iter().all(|d| (8..=12).contains(&d.as_secs()) && *d <= Duration::from_secs(12)));
        assert!(drawn.iter().any(|d| *d < Duration::from_millis(8_500)));
        assert!(drawn.iter().any(|d| *d > Duration::from_millis(11_500)));
    }

    #[test]
    fn exponential_draws_have_their_mean_and_their_quantiles() {
        let mut entropy = Entropy::from_seed(3);
        let mean = Duration::from_secs(1);
        let mut drawn: alloc::vec::Vec<_> = (0..100_000).map(|_| entropy.exponential(mean).as_secs_f64()).collect();
        drawn.sort_by(f64::total_cmp);
        let average = drawn.iter().sum::<f64>() / drawn.len() as f64;
        assert!((0.99..1.01).contains(&average), "{average}");
        for (share, expected) in [(0.1, 0.105_36), (0.25, 0.287_68), (0.75, 1.386_29), (0.99, 4.605_17)] {
            let quantile = drawn[(drawn.len() as f64 * share) as usize];
            assert!((quantile / expected - 1.0).abs() < 0.05, "{share}: {quantile} instead of {expected}");
        }
        assert_eq!(entropy.exponential(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut entropy = Entropy::from_seed(7);
        assert_eq!(entropy.between(Duration::from_secs(2), Duration::from_secs(1)), Duration::from_secs(2));
        entropy.between(Duration::ZERO, Duration::MAX);
        entropy.around(Duration::MAX, 100);
        entropy.exponential(Duration::MAX);
    }
}
