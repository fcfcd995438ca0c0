//! What a row carries: key and value, and sixteen bytes for everything else that a hit must know.

use core::num::NonZeroU32;

use crate::time::Instant;

/// Rows are fewer than this, so that the number of a shape leaves room for two marks.
pub(super) const ROWS_MAX: usize = (1 << 30) - 2;

const TAGGED: u32 = 1 << 31;
const PAUSED: u32 = 1 << 30;

#[derive(Debug, Clone)]
pub(super) struct Row<K, V> {
    pub(super) key: K,
    pub(super) value: V,
    pub(super) origin: Origin,
    /// The number at which the value was born or last compared with the invalidations, from the memory's base on.
    pub(super) born: u32,
    pub(super) kind: Kind,
}

/// The moment at which a value had the age zero, in nanoseconds. It may lie before the driver's zero, so it has a
/// sign; readings of the clock beyond 292 years count as that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin(i64);

impl Origin {
    /// Of a value that has the age of so many nanoseconds now.
    #[inline]
    pub(super) fn of(age: u64, now: Instant) -> Self {
        let now = now.as_nanos();
        Self(now.checked_signed_diff(age).unwrap_or(if now < age { i64::MIN } else { i64::MAX }))
    }

    /// The age now, in nanoseconds.
    #[inline]
    pub(super) fn age(self, now: Instant) -> u64 {
        let now = now.as_nanos();
        if self.0 < 0 { now.saturating_add(self.0.unsigned_abs()) } else { now.saturating_sub(self.0.unsigned_abs()) }
    }
}

/// The number of the row's shape, and two marks. Never zero, so that an empty slot costs nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind(NonZeroU32);

impl Kind {
    #[inline]
    pub(super) fn new(shape: u32, tagged: bool) -> Self {
        let marks = if tagged { TAGGED } else { 0 };
        Self(NonZeroU32::MIN.saturating_add(shape) | marks)
    }

    #[inline]
    pub(super) const fn shape(self) -> u32 {
        (self.0.get() & !(TAGGED | PAUSED)) - 1
    }

    #[inline]
    pub(super) fn with_shape(self, shape: u32) -> Self {
        Self(Self::new(shape, self.is_tagged()).0 | (self.0.get() & PAUSED))
    }

    /// Whether the value bears tags.
    #[inline]
    pub(super) const fn is_tagged(self) -> bool {
        self.0.get() & TAGGED != 0
    }

    /// Whether failed refreshes are remembered beside the row.
    #[inline]
    pub(super) const fn is_paused(self) -> bool {
        self.0.get() & PAUSED != 0
    }

    #[inline]
    pub(super) fn paused(self, paused: bool) -> Self {
        let kind = Self::new(self.shape(), self.is_tagged());
        if paused { Self(kind.0 | PAUSED) } else { kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_keeps_number_and_marks_apart() {
        let kind = Kind::new(ROWS_MAX as u32, true).paused(true);
        assert_eq!((kind.shape(), kind.is_tagged(), kind.is_paused()), (ROWS_MAX as u32, true, true));
        let other = kind.with_shape(0);
        assert_eq!((other.shape(), other.is_tagged(), other.is_paused()), (0, true, true));
        let plain = Kind::new(5, false).paused(true).paused(false);
        assert_eq!((plain.shape(), plain.is_tagged(), plain.is_paused()), (5, false, false));
    }

    #[test]
    fn ages_are_exact_on_both_sides_of_the_clocks_zero() {
        let now = Instant::from_nanos(10);
        for age in [0, 9, 10, 11, 1_000] {
            assert_eq!(Origin::of(age, now).age(now), age);
            assert_eq!(Origin::of(age, now).age(Instant::from_nanos(17)), age + 7);
        }
        assert_eq!(Origin::of(0, now).age(Instant::ZERO), 0, "no value is younger than new");
        assert!(Origin::of(u64::MAX, now).age(now) > 1 << 62);
        assert_eq!(Origin::of(0, Instant::NEVER).age(Instant::ZERO), 0);
    }

    #[test]
    fn an_empty_slot_costs_nothing() {
        assert_eq!(size_of::<Option<Row<u64, u64>>>(), 32);
        assert_eq!(size_of::<Row<u64, u64>>(), 32);
    }
}
