//! The host's clock. This is the only place that asks for the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tideover_core::{Clock, Instant, WallTime};

/// Tokio's clock, so that paused time in tests is paused for the machine too. Its zero is the moment it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostClock {
    zero: tokio::time::Instant,
}

impl HostClock {
    pub(crate) fn new() -> Self {
        Self { zero: tokio::time::Instant::now() }
    }

    /// The moment of tokio's clock that `instant` names; "never" is a century away.
    pub(crate) fn at(&self, instant: Instant) -> tokio::time::Instant {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        let since = Duration::from_nanos(instant.as_nanos()).min(CENTURY);
        self.zero.checked_add(since).unwrap_or(self.zero)
    }

    /// The machine's reading for a moment of tokio's clock.
    pub(crate) fn reading(&self, moment: tokio::time::Instant) -> Instant {
        Instant::ZERO + moment.saturating_duration_since(self.zero)
    }
}

impl Clock for HostClock {
    fn now(&self) -> Instant {
        self.reading(tokio::time::Instant::now())
    }

    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
