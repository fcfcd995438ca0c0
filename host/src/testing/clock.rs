//! Time that a test moves.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// A clock that a test moves on: freshness, windows, pauses and deadlines of the caches that have it
/// ([`Builder::clock`](crate::Builder::clock)) pass at once. All clones are the same clock.
///
/// It is for threads ([`blocking`](crate::blocking)), and for runtimes whose clock cannot be paused since they do real work.
/// A test on one thread with `#[tokio::test(start_paused = true)]` needs none of it: caches follow tokio's clock, paused or
/// not.
///
/// What waits inside the cache sees the move: attempts after a pause are made, callers past their deadlines go. What is
/// outside of it does not: a loader that sleeps sleeps on, a store keeps its own time (what it returns is judged by this
/// clock, by its age).
///
/// ```
/// use std::time::Duration;
/// use tideover::testing::Clock;
/// use tideover::{Cache, Loaded, Source};
///
/// # fn main() -> Result<(), tideover::Error> {
/// let clock = Clock::stopped();
/// let cache = Cache::builder().ttl(Duration::from_secs(60)).clock(&clock).build_blocking()?;
/// cache.put("k", "old", None)?;
///
/// clock.advance(Duration::from_nanos(59_999_999_999));
/// assert_eq!(cache.get("k")?.expect("it is fresh").value, "old");
/// clock.advance(Duration::from_nanos(1));
/// assert_eq!(cache.get_or_load("k", |_| Ok(Loaded::new("new")))?.source, Source::Load);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Clock(Arc<Hands>);

#[derive(Debug)]
struct Hands {
    /// How far ahead of tokio's clock it is, or where it stands.
    stand: Mutex<Stand>,
    moved: Notify,
}

#[derive(Debug, Clone, Copy)]
enum Stand {
    Ahead(Duration),
    At(Instant),
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Time goes on by itself, and is moved on beside that. A moment is never exact, but nobody has to move the clock for
    /// a pause or a deadline to pass.
    #[must_use]
    pub fn new() -> Self {
        Self::that(Stand::Ahead(Duration::ZERO))
    }

    /// Time stands, and is only moved. Every moment is exact, but whoever waits for one waits until somebody moves the clock:
    /// the pause before a second attempt, the deadline of a store that hangs.
    #[must_use]
    pub fn stopped() -> Self {
        Self::that(Stand::At(Instant::now()))
    }

    fn that(stand: Stand) -> Self {
        Self(Arc::new(Hands { stand: Mutex::new(stand), moved: Notify::new() }))
    }

    /// Moves it on. Does not wait for what happens then: callers that a test wants to see go are to be waited for.
    pub fn advance(&self, by: Duration) {
        {
            let mut stand = self.stand();
            *stand = match *stand {
                Stand::Ahead(ahead) => Stand::Ahead(ahead.saturating_add(by)),
                Stand::At(moment) => Stand::At(moment.checked_add(by).unwrap_or(moment)),
            };
        }
        self.0.moved.notify_waiters();
    }

    /// What it shows at a moment of tokio's clock.
    pub(crate) fn shown(&self, moment: Instant) -> Instant {
        match *self.stand() {
            Stand::Ahead(ahead) => moment.checked_add(ahead).unwrap_or(moment),
            Stand::At(shown) => shown,
        }
    }

    /// When, on tokio's clock, it will show `moment`, if nobody moves it. Where it stands that is never, for which tokio's
    /// reckoning has thirty years.
    pub(crate) fn due(&self, moment: Instant) -> Instant {
        const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
        match *self.stand() {
            Stand::Ahead(ahead) => moment.checked_sub(ahead).unwrap_or_else(Instant::now),
            Stand::At(shown) if moment <= shown => Instant::now(),
            Stand::At(_) => Instant::now() + NEVER,
        }
    }

    /// Waits until it shows `moment`.
    pub(crate) async fn shows(&self, moment: Instant) {
        loop {
            let mut moved = pin!(self.0.moved.notified());
            moved.as_mut().enable();
            if self.shown(Instant::now()) >= moment {
                return;
            }
            tokio::select! {
                () = moved => {}
                () = sleep_until(self.due(moment)) => {}
            }
        }
    }

    fn stand(&self) -> MutexGuard<'_, Stand> {
        self.0.stand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
