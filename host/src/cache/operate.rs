//! What operators do with a cache: carry it over to the next process, overrule its breakers, look at what it lets go of.

use tideover_core::Clock;
use tideover_core::breaker::Mode;
use tideover_core::cache::Dependency;
use tideover_core::cache::snapshot::{Restored, Taken};
use tideover_core::memory::Reason;

use super::{Backend, Cache};
use crate::engine::{Engine, Key};
use crate::error::Error;

impl Cache {
    /// The cache as bytes that outlive the process: what was learnt of store and loader, what is owed to the store, and
    /// the entries in memory. To be taken when the last call has ended, before [`Cache::shutdown`]. Costs a copy of
    /// everything.
    ///
    /// The bytes hold keys and values as they are; keep them as safe as those. The format is the same for every
    /// [`EngineKind`](crate::EngineKind), and has a version and a checksum.
    ///
    /// ```
    /// use tideover::{Cache, EngineKind, Taken};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let old = Cache::builder().build()?;
    /// old.put("k", "v", None).await?;
    /// let bytes = old.snapshot().await?;
    /// old.shutdown().await;
    ///
    /// let new = Cache::builder().engine(EngineKind::Native).build()?;
    /// assert_eq!(new.restore(bytes, Taken::Last).await?.entries, 1);
    /// assert_eq!(new.get("k").await?.expect("it is there").value, "v");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] when the engine broke while it was asked, [`Error::Closed`].
    pub async fn snapshot(&self) -> Result<Vec<u8>, Error> {
        match &self.backend {
            Backend::Driver(driver) => {
                driver.ask(|engine| engine.snapshot(driver.clock().now(), driver.clock().wall()))
            }
            #[cfg(feature = "component")]
            Backend::Component(embedding) => embedding.snapshot().await,
        }
    }

    /// Brings back what a snapshot holds, aged by the time since, into a cache that was not used yet. Its policy stays:
    /// what does not fit it any more is left out. Say [`Taken::Earlier`] unless it is certain that nothing was asked of
    /// the old cache after the snapshot.
    ///
    /// ```
    /// use tideover::{Cache, Error, SnapshotError, Taken};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().build()?;
    /// let error = cache.restore(b"anything else".to_vec(), Taken::Earlier).await.expect_err("no snapshot");
    /// assert!(matches!(error, Error::Snapshot(SnapshotError::Foreign)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Snapshot`] with the reason, and the cache is as it was; [`Error::Engine`] and [`Error::Closed`] as
    /// [`Cache::snapshot`].
    pub async fn restore(&self, bytes: Vec<u8>, taken: Taken) -> Result<Restored, Error> {
        match &self.backend {
            Backend::Driver(driver) => driver.restore(&bytes, taken),
            #[cfg(feature = "component")]
            Backend::Component(embedding) => embedding.restore(bytes, taken).await,
        }
    }

    /// Overrules a circuit breaker, or lets it decide again ([`Mode::Automatic`]). A change of the mode starts over:
    /// closed, nothing counted against the dependency.
    ///
    /// ```
    /// use tideover::{BreakerMode, Cache, Dependency, Error, Loaded};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().build()?;
    /// cache.set_breaker_mode(Dependency::Loader, BreakerMode::ForcedOpen).await?;
    /// let refused = cache.get_or_load("k", |_| async { Ok(Loaded::new("v")) }).await;
    /// assert!(matches!(refused, Err(Error::Open { .. })));
    /// cache.set_breaker_mode(Dependency::Loader, BreakerMode::Automatic).await?;
    /// assert!(cache.get_or_load("k", |_| async { Ok(Loaded::new("v")) }).await.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Cache::snapshot`].
    pub async fn set_breaker_mode(&self, of: Dependency, mode: Mode) -> Result<(), Error> {
        match &self.backend {
            Backend::Driver(driver) => driver.ask(|engine| engine.set_breaker_mode(of, mode, driver.clock().now())),
            #[cfg(feature = "component")]
            Backend::Component(embedding) => embedding.breaker(of, Some(mode)).await,
        }
    }

    /// Closes a circuit and forgets what was counted against its dependency, which an operator knows to be well again.
    /// In a forced mode it stays forced.
    ///
    /// # Errors
    ///
    /// As [`Cache::snapshot`].
    pub async fn reset_breaker(&self, of: Dependency) -> Result<(), Error> {
        match &self.backend {
            Backend::Driver(driver) => driver.ask(|engine| engine.reset_breaker(of, driver.clock().now())),
            #[cfg(feature = "component")]
            Backend::Component(embedding) => embedding.breaker(of, None).await,
        }
    }

    /// What has left memory since the last call, and why, the oldest of each memory shard first. As many are kept as the
    /// option `removals_max` says, none by default; the count `removals_lost` says how many were not.
    ///
    /// ```
    /// use tideover::{Cache, RemovalReason};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().set("removals_max", "100")?.build()?;
    /// cache.put("k", "v", None).await?;
    /// cache.remove("k").await?;
    /// assert_eq!(cache.take_removals().await?, [("k".into(), RemovalReason::Removed)]);
    /// assert!(cache.take_removals().await?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Cache::snapshot`].
    pub async fn take_removals(&self) -> Result<Vec<(Key, Reason)>, Error> {
        match &self.backend {
            Backend::Driver(driver) => driver.ask(Engine::take_removals),
            #[cfg(feature = "component")]
            Backend::Component(embedding) => embedding.take_removals().await,
        }
    }
}
