//! Civil time without jumps, for dating what lies in a shared store.
//!
//! Ages in memory are differences of a monotonic clock, which the civil clock cannot touch. An envelope in a shared
//! store is dated by the civil clock, which may be set at any moment, forwards or back; taken as it is, a step forwards
//! would expire everything in the store at once, and a step back would make everything fresh again. So a [`Civil`] clock
//! follows a step slowly, by at most one part in [`SLEW`] of the time that passes: no age is ever off by more.
//!
//! It knows nothing of how clocks are read. The monotonic readings should count the time for which the machine is
//! suspended (`CLOCK_BOOTTIME` on Linux); those that do not make suspended time look like a step.

use core::time::Duration;

use crate::time::{Instant, WallTime};

/// A step of the civil clock is followed by one part in so many of the time that passes.
pub const SLEW: u32 = 10;

/// A difference up to this is no step, but the ordinary drift and rounding of clocks: it is followed at once.
pub const DRIFT_MAX: Duration = Duration::from_millis(500);

/// A civil clock that does not jump; see the [module](self).
///
/// ```
/// use core::time::Duration;
/// use tideover_core::civil::Civil;
/// use tideover_core::{Instant, WallTime};
///
/// let hour = Duration::from_secs(3600);
/// let mut civil = Civil::new(Instant::ZERO, WallTime::from_unix_millis(0));
/// // A minute later somebody has set the clock an hour ahead: it is followed by six seconds.
/// let minute = Instant::ZERO + Duration::from_secs(60);
/// let read = civil.read(minute, WallTime::from_unix_millis(3_660_000));
/// assert_eq!(read, WallTime::from_unix_millis(66_000));
/// ```
#[derive(Debug, Clone)]
pub struct Civil {
    read_at: Instant,
    told: WallTime,
    /// Nanoseconds that `told` has left out.
    rest: u64,
}

impl Civil {
    /// A clock that begins with what the civil clock says.
    #[must_use]
    pub const fn new(now: Instant, wall: WallTime) -> Self {
        Self { read_at: now, told: wall, rest: 0 }
    }

    /// The civil time at `now`, when the civil clock says `wall`. Never steps back.
    pub fn read(&mut self, now: Instant, wall: WallTime) -> WallTime {
        let passed = crate::time::nanos(now - self.read_at);
        let expected = self.moved(passed);
        let ahead = wall.since(expected.0);
        let behind = expected.0.since(wall);
        let (told, rest) = if ahead.max(behind) <= DRIFT_MAX {
            (wall.max(self.told), 0)
        } else {
            let slewed = passed / u64::from(SLEW);
            let limit = crate::time::nanos(ahead.max(behind));
            let moved = slewed.min(limit);
            self.moved(if behind > ahead { passed - moved.min(passed) } else { passed.saturating_add(moved) })
        };
        *self = Self { read_at: self.read_at.max(now), told, rest };
        told
    }

    fn moved(&self, nanos: u64) -> (WallTime, u64) {
        const MILLI: u64 = 1_000_000;
        let nanos = nanos.saturating_add(self.rest);
        (WallTime::from_unix_millis(self.told.as_unix_millis().saturating_add(nanos / MILLI)), nanos % MILLI)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_700_000_000_000;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn wall(millis: u64) -> WallTime {
        WallTime::from_unix_millis(START + millis)
    }

    #[test]
    fn ordinary_drift_is_followed_at_once() {
        let mut civil = Civil::new(at(0), wall(0));
        for second in 1..1_000 {
            let drifted = wall(second * 1_001);
            assert_eq!(civil.read(at(second * 1_000), drifted), drifted);
        }
    }

    /// However the civil clock jumps, an age that is read off this one is right to a tenth of the time that has passed.
    #[test]
    fn no_jump_makes_an_age_wrong_by_more_than_a_tenth() {
        let mut entropy = crate::entropy::Entropy::from_seed(5);
        for _ in 0..200 {
            let (mut civil, mut offset, mut now) = (Civil::new(at(0), wall(0)), 0_u64, 0);
            let mut before = wall(0);
            for _ in 0..200 {
                let passed = entropy.bits() % 5_000;
                now += passed;
                if entropy.bits().is_multiple_of(10) {
                    offset = entropy.bits() % 100_000_000;
                }
                let told = civil.read(at(now), wall(now + offset));
                let age = told.since(before).as_millis() as u64;
                assert!(age + 1 >= passed - passed / 10, "too young: {age} after {passed}");
                let followed = passed / 10 + 1 + DRIFT_MAX.as_millis() as u64;
                assert!(age <= passed + followed, "too old: {age} after {passed}");
                before = told;
            }
        }
    }

    #[test]
    fn a_step_is_absorbed_in_ten_times_its_length() {
        let mut civil = Civil::new(at(0), wall(0));
        let hour = 3_600_000;
        let mut arrived = None;
        for minute in 1..=660_u64 {
            let real = wall(minute * 60_000 + hour);
            if civil.read(at(minute * 60_000), real) == real {
                arrived.get_or_insert(minute);
            }
        }
        assert_eq!(arrived, Some(600));
    }

    #[test]
    fn extremes_saturate() {
        let mut civil = Civil::new(Instant::NEVER, WallTime::from_unix_millis(u64::MAX));
        civil.read(Instant::ZERO, WallTime::from_unix_millis(0));
        civil.read(Instant::NEVER, WallTime::from_unix_millis(u64::MAX));
    }
}
