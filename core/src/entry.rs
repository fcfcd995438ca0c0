//! Freshness: the windows of an entry and the zone that an age falls into.
//!
//! ```text
//!  age 0          ttl              ttl + stale-while-revalidate    ttl + stale-if-error     ttl + keep
//!   |---- fresh ----|---- stale, served at once, ----|---- stale, served only ----|---- base of a ----|--- gone
//!                        one refresh behind it            if the load fails            refresh
//! ```
//!
//! Each stale window is measured from the end of freshness, as RFC 5861 says, and independent of the others;
//! a boundary belongs to the later zone: `age >= ttl` is stale.
//!
//! An entry may be *in doubt*: others may have changed it, and whoever would have told could not be heard. Doubt takes
//! freshness away and nothing else. Until `ttl` such an entry is as good as the best stale one that its windows allow,
//! and stands in for an answer that could not be had whatever they are: it is no older than it was to become.

use core::time::Duration;

/// For how long an entry may be used, and for what.
///
/// ```
/// use core::time::Duration;
/// use tideover_core::{Windows, Zone};
///
/// let windows = Windows {
///     ttl: Some(Duration::from_secs(60)),
///     stale_while_revalidate: Duration::from_secs(30),
///     ..Windows::FOREVER
/// };
/// assert_eq!(windows.zone(Duration::from_nanos(59_999_999_999)), Zone::Fresh);
/// assert_eq!(windows.zone(Duration::from_secs(60)), Zone::StaleWhileRevalidate);
/// assert_eq!(windows.zone(Duration::from_secs(90)), Zone::Gone);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Windows {
    /// Freshness lifetime; `None` never expires, zero is stale at once (it must be revalidated for each use).
    pub ttl: Option<Duration>,
    /// How long after `ttl` stale is served at once while one refresh runs. RFC 5861 section 3.
    pub stale_while_revalidate: Duration,
    /// How long after `ttl` stale stands in for a load that found the origin unavailable. RFC 5861 section 4.
    pub stale_if_error: Duration,
    /// How long after `ttl` the value is still kept as the base of a conditional refresh. Never served by itself.
    pub keep: Duration,
}

/// What may be done with an entry of a certain age. The order is the order of ageing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Zone {
    /// Serve it.
    Fresh,
    /// Serve it, marked stale, and see that one refresh is under way.
    StaleWhileRevalidate,
    /// Load; serve it, marked stale, if the load finds the origin unavailable.
    StaleIfError,
    /// Load, conditionally if the value has a validator; never serve it.
    Keep,
    /// Treat it as absent.
    Gone,
}

impl Windows {
    /// Never expires; no stale windows, as there is no stale.
    pub const FOREVER: Self = Self {
        ttl: None,
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        keep: Duration::ZERO,
    };

    /// Fresh for `ttl`, with no stale windows. Zero never expires, as wherever a lifetime is given by itself.
    ///
    /// ```
    /// use core::time::Duration;
    /// use tideover_core::Windows;
    ///
    /// assert_eq!(Windows::fresh_for(Duration::ZERO), Windows::FOREVER);
    /// assert_eq!(Windows::fresh_for(Duration::from_secs(60)).ttl, Some(Duration::from_secs(60)));
    /// ```
    #[must_use]
    pub const fn fresh_for(ttl: Duration) -> Self {
        Self { ttl: if ttl.is_zero() { None } else { Some(ttl) }, ..Self::FOREVER }
    }

    /// The zone of `age`.
    #[must_use]
    #[inline]
    pub fn zone(&self, age: Duration) -> Zone {
        let Some(past) = self.ttl.map(|ttl| age.checked_sub(ttl)) else { return Zone::Fresh };
        match past {
            None => Zone::Fresh,
            Some(past) if past < self.stale_while_revalidate => Zone::StaleWhileRevalidate,
            Some(past) if past < self.stale_if_error => Zone::StaleIfError,
            Some(past) if past < self.keep => Zone::Keep,
            Some(_) => Zone::Gone,
        }
    }

    /// The same windows, with freshness ended at that age if not before.
    #[must_use]
    pub(crate) fn cut(&self, age: Duration) -> Self {
        Self { ttl: Some(self.ttl.map_or(age, |ttl| ttl.min(age))), ..*self }
    }

    /// The age from which an entry is of no use at all; `None` if it never is. Stores expire entries by it.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        let longest = self.stale_while_revalidate.max(self.stale_if_error).max(self.keep);
        self.ttl.map(|ttl| ttl.saturating_add(longest))
    }
}

/// A value with what its freshness is reckoned from, at the moment it changes hands.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry<V> {
    /// The value.
    pub value: V,
    /// Time since the value was written or validated at its origin.
    pub age: Duration,
    /// For how long it may be used.
    pub windows: Windows,
    /// How long its load took: what it costs to have it again. Zero if nobody knows, as where nothing is refreshed early.
    pub load_time: Duration,
    /// Whether others may have changed it since without anybody being told; see the [module](self).
    pub doubted: bool,
}

impl<V> Entry<V> {
    /// A new value, just born.
    #[must_use]
    pub const fn new(value: V, windows: Windows) -> Self {
        Self { value, age: Duration::ZERO, windows, load_time: Duration::ZERO, doubted: false }
    }

    /// The same entry, so much later.
    #[must_use]
    pub fn aged(self, by: Duration) -> Self {
        Self { age: self.age.saturating_add(by), ..self }
    }

    /// The same entry around another value.
    pub fn map<W>(self, value: impl FnOnce(V) -> W) -> Entry<W> {
        let Self { value: old, age, windows, load_time, doubted } = self;
        Entry { value: value(old), age, windows, load_time, doubted }
    }

    /// The zone at this moment.
    #[must_use]
    pub fn zone(&self) -> Zone {
        self.zone_in(&self.windows)
    }

    /// The zone at this moment, if its windows were these.
    pub(crate) fn zone_in(&self, windows: &Windows) -> Zone {
        match windows.zone(self.age) {
            Zone::Fresh if self.doubted && !windows.stale_while_revalidate.is_zero() => Zone::StaleWhileRevalidate,
            Zone::Fresh if self.doubted => Zone::StaleIfError,
            zone => zone,
        }
    }

    /// How long the entry stays of use from now on; `None`: for ever.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.windows.lifetime().map(|lifetime| lifetime.saturating_sub(self.age))
    }
}

/// Says how old and how long, never what.
impl<V> core::fmt::Debug for Entry<V> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Entry").field("age", &self.age).field("windows", &self.windows).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NANO: Duration = Duration::from_nanos(1);

    fn windows(ttl: u64, swr: u64, sie: u64, keep: u64) -> Windows {
        Windows {
            ttl: Some(Duration::from_secs(ttl)),
            stale_while_revalidate: Duration::from_secs(swr),
            stale_if_error: Duration::from_secs(sie),
            keep: Duration::from_secs(keep),
        }
    }

    #[test]
    fn each_boundary_belongs_to_the_later_zone() {
        let zones = [Zone::Fresh, Zone::StaleWhileRevalidate, Zone::StaleIfError, Zone::Keep, Zone::Gone];
        let windows = windows(10, 5, 20, 30);
        for (boundary, pair) in [10, 15, 30, 40].into_iter().zip(zones.windows(2)) {
            let boundary = Duration::from_secs(boundary);
            assert_eq!(windows.zone(boundary - NANO), pair[0], "just before {boundary:?}");
            assert_eq!(windows.zone(boundary), pair[1], "exactly at {boundary:?}");
        }
        assert_eq!(windows.lifetime(), Some(Duration::from_secs(40)));
    }

    #[test]
    fn a_window_inside_another_adds_no_zone() {
        let windows = windows(10, 20, 5, 0);
        assert_eq!(windows.zone(Duration::from_secs(14)), Zone::StaleWhileRevalidate);
        assert_eq!(windows.zone(Duration::from_secs(30)), Zone::Gone);
    }

    #[test]
    fn doubt_takes_freshness_away_and_nothing_else() {
        let zone =
            |windows, age, doubted| Entry { age: Duration::from_secs(age), doubted, ..Entry::new((), windows) }.zone();
        assert_eq!(zone(windows(10, 0, 0, 0), 9, true), Zone::StaleIfError);
        assert_eq!(zone(windows(10, 5, 0, 0), 9, true), Zone::StaleWhileRevalidate);
        assert_eq!(zone(Windows::FOREVER, u64::MAX, true), Zone::StaleIfError);
        for age in 10..50 {
            let windows = windows(10, 5, 20, 30);
            assert_eq!(zone(windows, age, true), zone(windows, age, false), "at {age} s");
        }
    }

    #[test]
    fn the_edges_of_ttl() {
        assert_eq!(Windows::FOREVER.zone(Duration::MAX), Zone::Fresh);
        assert_eq!(windows(0, 0, 0, 0).zone(Duration::ZERO), Zone::Gone);
        assert_eq!(windows(0, 0, 0, 9).zone(Duration::ZERO), Zone::Keep);
        let endless = Windows { ttl: Some(Duration::MAX), keep: Duration::MAX, ..Windows::FOREVER };
        assert_eq!(endless.lifetime(), Some(Duration::MAX));
    }
}
