//! The host's clocks. This is the only place that asks for the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tideover_core::civil::Civil;
use tideover_core::time::nanos;
use tideover_core::{Clock, Instant, WallTime};
use tokio::task::unconstrained;
use tokio::time::sleep_until;

/// The machine's zero lies this long before the clock was made, so that what a snapshot says of earlier moments fits.
const BEFORE: Duration = Duration::from_secs(24 * 3600);

/// More than any caller waits, and less than overflows a clock.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The moment so long from now. Whoever says "for ever" by the longest of durations gets thirty years.
pub(crate) fn after(wait: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + wait.min(FOR_EVER)
}

/// Tokio's clock, so that paused time in tests is paused for the machine too, and what it leaves out: on Linux the time
/// for which the machine was suspended (its monotonic clock stops meanwhile; what is cached must not be fresh
/// afterwards). Civil time follows steps of the civil clock slowly; see [`tideover_core::civil`].
#[derive(Debug, Clone)]
pub(crate) struct HostClock {
    zero: tokio::time::Instant,
    watched: Arc<Watched>,
    /// Who moves it, in a test.
    #[cfg(feature = "testing")]
    moved_by: Option<crate::testing::Clock>,
}

#[derive(Debug)]
struct Watched {
    suspended_before: Duration,
    /// Nanoseconds of suspension since the clock was made, as of the last look.
    suspended: AtomicU64,
    civil: Mutex<Civil>,
}

impl HostClock {
    /// What a clock shows when it is made.
    pub(crate) fn birth() -> Instant {
        Instant::ZERO + BEFORE
    }

    pub(crate) fn new() -> Self {
        let zero = tokio::time::Instant::now();
        let civil = Mutex::new(Civil::new(Self::birth(), told()));
        let watched = Watched { suspended_before: suspended(), suspended: AtomicU64::new(0), civil };
        Self {
            zero,
            watched: Arc::new(watched),
            #[cfg(feature = "testing")]
            moved_by: None,
        }
    }

    /// One that a test moves.
    #[cfg(feature = "testing")]
    pub(crate) fn moved_by(clock: crate::testing::Clock) -> Self {
        let zero = clock.shown(tokio::time::Instant::now());
        Self { zero, moved_by: Some(clock), ..Self::new() }
    }

    /// The moment of tokio's clock that `instant` names; "never" is a century away. Where a test moves the clock it is the
    /// moment as it stands.
    pub(crate) fn at(&self, instant: Instant) -> tokio::time::Instant {
        let moment = self.moment(instant);
        #[cfg(feature = "testing")]
        if let Some(clock) = &self.moved_by {
            return clock.due(moment);
        }
        moment
    }

    fn moment(&self, instant: Instant) -> tokio::time::Instant {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        let since = (instant - Self::birth()).saturating_sub(self.suspended()).min(CENTURY);
        self.zero.checked_add(since).unwrap_or(self.zero)
    }

    /// `instant` as a deadline for work.
    pub(crate) fn deadline(&self, instant: Instant) -> Deadline {
        Deadline { clock: self.clone(), instant }
    }

    /// Waits until then.
    pub(crate) async fn sleep_until(&self, instant: Instant) {
        #[cfg(feature = "testing")]
        if let Some(clock) = &self.moved_by {
            return clock.shows(self.moment(instant)).await;
        }
        sleep_until(self.at(instant)).await;
    }

    /// The machine's reading for a moment of tokio's clock.
    fn reading(&self, moment: tokio::time::Instant) -> Instant {
        #[cfg(feature = "testing")]
        let moment = self.moved_by.as_ref().map_or(moment, |clock| clock.shown(moment));
        Self::birth() + moment.saturating_duration_since(self.zero) + self.suspended()
    }

    /// Looks whether the machine was suspended. To be called now and then; what is fresh may be served for as long
    /// after a suspension.
    pub(crate) fn look(&self) {
        let since = suspended().saturating_sub(self.watched.suspended_before);
        self.watched.suspended.fetch_max(nanos(since), Ordering::Relaxed);
    }

    fn suspended(&self) -> Duration {
        Duration::from_nanos(self.watched.suspended.load(Ordering::Relaxed))
    }
}

/// When work is to be over, by the host's clock.
pub(crate) struct Deadline {
    clock: HostClock,
    instant: Instant,
}

impl Deadline {
    /// The moment of tokio's clock; see [`HostClock::at`].
    pub(crate) fn at(&self) -> tokio::time::Instant {
        self.clock.at(self.instant)
    }

    /// What `work` brings, or `None` if it is not over by then.
    pub(crate) async fn limit<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            // Work that spends all of the task's budget leaves none to look at the time with.
            () = unconstrained(self.clock.sleep_until(self.instant)) => None,
        }
    }
}

impl Clock for HostClock {
    fn now(&self) -> Instant {
        self.reading(tokio::time::Instant::now())
    }

    fn wall(&self) -> WallTime {
        self.look();
        let mut civil = self.watched.civil.lock().unwrap_or_else(PoisonError::into_inner);
        civil.read(self.now(), told())
    }
}

/// What the civil clock says.
fn told() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// For how long the machine has been suspended since it was started, as far as the system tells.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn suspended() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    // Read in this order, the time between the two readings does not look like a suspension.
    let counting = read(ClockId::Boottime);
    counting.saturating_sub(read(ClockId::Monotonic))
}

/// Here the monotonic clock either counts suspensions, or nothing tells them.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn suspended() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_suspension_counts_as_time_and_deadlines_are_met_on_tokios_clock() {
        let clock = HostClock::new();
        let before = clock.now();
        let hour = Duration::from_secs(3600);
        clock.watched.suspended.store(nanos(hour), Ordering::Relaxed);
        let after = clock.now();
        assert!(after - before >= hour);
        let deadline = clock.at(after + Duration::from_secs(1));
        let away = deadline - tokio::time::Instant::now();
        assert!(away <= Duration::from_secs(1), "{away:?}");
    }

    #[tokio::test]
    async fn readings_and_moments_name_each_other() {
        let clock = HostClock::new();
        clock.look();
        let moment = tokio::time::Instant::now() + Duration::from_secs(5);
        assert_eq!(clock.at(clock.reading(moment)), moment);
        assert!(clock.at(Instant::NEVER) > moment + Duration::from_secs(1_000_000_000));
        assert!(clock.wall() >= WallTime::from_unix_millis(1_600_000_000_000));
    }
}
