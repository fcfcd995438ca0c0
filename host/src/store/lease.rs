//! Leases: the right of one among all processes that share a store, for as long as it lives.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::after;

/// A lease is renewed each such part of its time to live.
const RENEWALS: u32 = 3;

/// Who has a lease; see [`Store::lease`](super::Store::lease).
#[derive(Debug)]
pub enum Leased {
    /// Whoever asked for it.
    Held(Lease),
    /// Somebody else.
    Elsewhere(Elsewhere),
}

/// A lease that is held: renewed in the background, and given back when this is dropped. When the process dies, it ends
/// with its time to live.
pub struct Lease(#[allow(dead_code, reason = "it acts when it is dropped")] DropGuard);

/// How a store keeps a lease.
pub trait Keeper: Send + Sync + 'static {
    /// Sets its time to live anew. `false`: it was lost, or nobody knows, and is left alone.
    fn renew(&self) -> BoxFuture<'_, bool>;

    /// Gives it back, unless it is somebody else's by now, and tells those who wait for it.
    fn release(&self) -> BoxFuture<'_, ()>;
}

impl Lease {
    /// A lease that lives for `ttl` unless it is renewed, which `keeper` does until this is dropped, and for `hold_for` at
    /// most. Needs a tokio runtime.
    pub fn new(ttl: Duration, hold_for: Duration, keeper: impl Keeper) -> Self {
        let dropped = CancellationToken::new();
        let lease = Self(dropped.clone().drop_guard());
        tokio::spawn(async move {
            let end = after(hold_for);
            loop {
                let next = after(ttl / RENEWALS);
                tokio::select! {
                    () = dropped.cancelled() => return keeper.release().await,
                    () = sleep_until(next) => {}
                }
                if next >= end || !keeper.renew().await {
                    return;
                }
            }
        });
        lease
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

/// Somebody else has a lease.
pub struct Elsewhere {
    /// When it ends if it is not renewed.
    pub free_in: Duration,
    freed: BoxFuture<'static, ()>,
}

impl Elsewhere {
    /// `freed` ends when the lease may be free, as far as the store is told; it may end too early, or never.
    pub fn new(free_in: Duration, freed: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { free_in, freed: Box::pin(freed) }
    }

    /// Waits until the lease may be free, or until then.
    pub async fn freed_by(self, until: Instant) {
        // Either way it is asked for again.
        let _told_or_not = tokio::time::timeout_at(until, self.freed).await;
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elsewhere").field("free_in", &self.free_in).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::sleep;

    use super::*;

    const TTL: Duration = Duration::from_secs(3);

    /// Counts what it is asked for; from the renewal of that number on, the lease is somebody else's.
    struct Counting {
        renewals: Arc<AtomicU32>,
        releases: Arc<AtomicU32>,
        lost_at: u32,
    }

    impl Keeper for Counting {
        fn renew(&self) -> BoxFuture<'_, bool> {
            let is_ours = self.renewals.fetch_add(1, Ordering::Relaxed) + 1 < self.lost_at;
            Box::pin(async move { is_ours })
        }

        fn release(&self) -> BoxFuture<'_, ()> {
            self.releases.fetch_add(1, Ordering::Relaxed);
            Box::pin(async {})
        }
    }

    /// How often it was renewed and given back by whoever had it for `kept`, and for a minute from there.
    async fn counts(hold_for: Duration, lost_at: u32, kept: Duration) -> (u32, u32) {
        let (renewals, releases) = <(Arc<AtomicU32>, Arc<AtomicU32>)>::default();
        let keeper = Counting { renewals: Arc::clone(&renewals), releases: Arc::clone(&releases), lost_at };
        let lease = Lease::new(TTL, hold_for, keeper);
        sleep(kept).await;
        drop(lease);
        sleep(Duration::from_secs(60)).await;
        (renewals.load(Ordering::Relaxed), releases.load(Ordering::Relaxed))
    }

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_renewed_three_times_in_its_life_and_given_back_when_it_is_dropped() {
        let counts = |kept| counts(millis(600_000), u32::MAX, kept);
        assert_eq!(counts(millis(500)).await, (0, 1));
        assert_eq!(counts(millis(10_500)).await, (10, 1));
    }

    /// Else a load that hangs would keep all other processes from theirs for as long as its own process lives.
    #[tokio::test(start_paused = true)]
    async fn a_lease_is_not_renewed_past_what_it_is_held_for() {
        let counts = |hold_for| counts(hold_for, u32::MAX, millis(30_500));
        assert_eq!(counts(millis(5_000)).await, (4, 0), "it ends by itself");
        assert_eq!(counts(millis(900)).await, (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_was_lost_is_neither_renewed_nor_given_back() {
        assert_eq!(counts(millis(600_000), 2, millis(30_500)).await, (2, 0));
    }
}
