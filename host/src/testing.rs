//! A kit for the tests of those who use tideover: time that a test moves, stores and loaders that do what is written down for
//! them, code that runs as if there were no cache, and assertions that say what happened instead.
//!
//! To be switched on where tests are built:
//!
//! ```toml
//! [dev-dependencies]
//! tideover = { version = "0.1", features = ["testing"] }
//! tokio = { version = "1", features = ["test-util"] }
//! ```
//!
//! A story on paused time, in which nothing waits for the real clock:
//!
//! ```
//! use std::time::Duration;
//! use tideover::testing::{self, ScriptedLoader};
//! use tideover::{LoadError, Loaded, Stale};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tideover::Error> {
//! let cache = testing::builder()
//!     .ttl(Duration::from_secs(60))
//!     .stale_if_error(Duration::from_secs(3600))
//!     .build()?;
//! let origin = ScriptedLoader::new().value(Loaded::new("v")).error(LoadError::unavailable("down"));
//!
//! testing::assert_loaded(&cache.get_or_load("k", origin.loader()).await?);
//! tokio::time::advance(Duration::from_secs(60)).await;
//! let answer = testing::expect_loads(&cache, 1, cache.get_or_load("k", origin.loader())).await?;
//! testing::assert_stale(&answer, Stale::IfError);
//! origin.assert_played();
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here decides what a cache does; it is the same cache.

mod clock;
mod counts;
pub(crate) mod disabled;
mod loader;
mod store;

pub use self::clock::Clock;
pub use self::counts::{Counts, assert_hit, assert_loaded, assert_stale, counted, expect_loads};
pub use self::disabled::disabled;
#[cfg(feature = "blocking")]
pub use self::disabled::disabled_here;
pub use self::loader::ScriptedLoader;
pub use self::store::{Asked, ScriptedStore, Spell, Weather};
use crate::Policy;
use crate::cache::{Builder, Cache};
use crate::core::backoff::Jitter;

/// A cache to be made in which nothing is left to chance: its draws follow from one seed, and pauses and attempts are spread
/// by nothing. Everything else is as by default, and may be changed.
///
/// ```
/// use std::time::Duration;
/// use tideover::testing;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::Error> {
/// let cache = testing::builder().ttl(Duration::from_secs(60)).build()?;
/// assert_eq!(cache.policy().ttl, Some(Duration::from_secs(60)));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn builder() -> Builder {
    let mut exact = Policy::default();
    (exact.wait_jitter, exact.retry_jitter) = (0, Jitter::None);
    Cache::builder().policy(exact).seed(1)
}

/// A cache of [`builder`], in memory alone.
///
/// # Panics
///
/// Outside a tokio runtime.
#[must_use]
#[track_caller]
pub fn cache() -> Cache {
    match builder().build() {
        Ok(cache) => cache,
        Err(error) => panic!("{error}"),
    }
}
