//! Time as the core sees it: readings that the driver hands in, never asked for.
//!
//! [`Instant`] orders what happens in one process. [`WallTime`] crosses processes, inside envelopes only; no
//! decision compares two wall readings of different machines without clamping the result.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// A reading of a monotonic clock: nanoseconds since a zero that the driver chose.
///
/// All arithmetic saturates, so a hostile duration cannot wrap a deadline into the past.
/// [`Instant::NEVER`] is the largest value and means "no such moment".
///
/// ```
/// use core::time::Duration;
/// use tideover_core::Instant;
///
/// let start = Instant::from_nanos(5);
/// assert_eq!(start + Duration::from_nanos(7), Instant::from_nanos(12));
/// assert_eq!(start - (start + Duration::from_secs(1)), Duration::ZERO);
/// assert_eq!(start + Duration::MAX, Instant::NEVER);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Instant(u64);

impl Instant {
    /// The driver's zero.
    pub const ZERO: Self = Self(0);
    /// Later than everything: "no such moment".
    pub const NEVER: Self = Self(u64::MAX);

    /// The reading `nanos` nanoseconds after the driver's zero.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the driver's zero.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(nanos(rhs)))
    }
}

/// The time from `rhs` to `self`, zero if `rhs` is later.
impl Sub for Instant {
    type Output = Duration;

    fn sub(self, rhs: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(rhs.0))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NEVER => f.write_str("never"),
            Self(nanos) => write!(f, "{:?}", Duration::from_nanos(nanos)),
        }
    }
}

/// A reading of the civil clock: milliseconds since the Unix epoch. It may jump, so it only dates envelopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(u64);

impl WallTime {
    /// The reading `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_unix_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_unix_millis(self) -> u64 {
        self.0
    }

    /// How long before `self` the moment `earlier` was; zero if it lies in the future (another machine's clock).
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The moment `later` after `self`.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The moment `age` before `self`, at the earliest the epoch.
    #[must_use]
    pub fn before(self, age: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Where a driver takes its readings from. The machines never see it.
pub trait Clock {
    /// The monotonic reading: never steps back.
    fn now(&self) -> Instant;
    /// The civil reading: may step either way.
    fn wall(&self) -> WallTime;
}

/// The nanoseconds of `duration`, saturating at `u64::MAX` (584 years).
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads a duration as people write it: `250ms`, `1h30m`, `0`; units `ns us ms s m h d`.
///
/// # Errors
///
/// A sentence saying what was expected, when the text is not of that form or exceeds 584 years.
///
/// ```
/// use core::time::Duration;
/// use tideover_core::time::parse_duration;
///
/// assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
/// assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
/// assert!(parse_duration("10").is_err());
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "expected a duration such as 250ms, 60s or 1h30m";
    const TOO_LONG: &str = "the duration exceeds 584 years";
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(EXPECTED);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(EXPECTED)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit = unit_nanos(unit.trim()).ok_or(EXPECTED)?;
        if number.is_empty() {
            return Err(EXPECTED);
        }
        let number: u64 = number.parse().map_err(|_| TOO_LONG)?;
        total = number.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or(TOO_LONG)?;
        rest = tail;
    }
    Ok(Duration::from_nanos(total))
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    })
}

/// Writes a duration so that [`parse_duration`] reads it back: the largest units that lose nothing.
pub struct Text(pub Duration);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = nanos(self.0);
        if rest == 0 {
            return f.write_str("0");
        }
        for unit in ["d", "h", "m", "s", "ms", "us", "ns"] {
            let size = unit_nanos(unit).unwrap_or(1);
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn durations_are_read_back_as_written() {
        for nanos in [0, 1, 999, 1_500_000, 250_000_000, 5_400_000_000_000, u64::MAX] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse_duration(&Text(duration).to_string()), Ok(duration));
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_sentence() {
        for text in ["", "s", "5", "5x", "-1s", "1.5s", "5s5", "999999999999d", "99999999999999999999s", "1é"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
