//! The cache of the whole process: that of functions that name none.

use std::sync::{Arc, OnceLock};

use tracing::error;

use super::call::AsCache;
use crate::cache::Cache;
use crate::config::ConfigError;
use crate::error::Error;
use crate::{blocking, blocking::runtime};

/// The cache that was installed, or made because nobody had installed one.
static CACHE: OnceLock<Made> = OnceLock::new();

struct Made {
    /// With the threads of those functions that block.
    cache: Result<blocking::Cache, Error>,
    installed: bool,
}

/// Why a cache was not installed for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// There is one already.
    #[error("a cache was installed for this process before")]
    InstalledBefore,
    /// A cached function was called before, so one was made from the environment.
    #[error("a cached function was called before a cache was installed: one was made from the environment")]
    UsedBefore,
}

/// Makes `cache` the one of all `#[cached]` and `#[invalidates]` functions that name none. Once for each process, before
/// the first of them is called; whoever calls none of them does not need it.
///
/// ```
/// use std::time::Duration;
/// use tideover::{Cache, InstallError, cached};
///
/// #[cached(key = "greeting:{name}")]
/// async fn greeting(name: &str) -> String {
///     format!("hello {name}")
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = Cache::builder().ttl(Duration::from_secs(60)).build()?;
/// tideover::install(cache.clone())?;
/// assert_eq!(greeting("Ada").await, "hello Ada");
/// assert!(cache.get("greeting:Ada").await?.is_some());
/// assert_eq!(tideover::install(cache), Err(InstallError::InstalledBefore));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`InstallError`] if there is one already.
pub fn install(cache: Cache) -> Result<(), InstallError> {
    let mut refused = true;
    let made = CACHE.get_or_init(|| {
        refused = false;
        Made { cache: cache.blocking(), installed: true }
    });
    match (refused, made.installed) {
        (false, _) => Ok(()),
        (true, true) => Err(InstallError::InstalledBefore),
        (true, false) => Err(InstallError::UsedBefore),
    }
}

/// The cache of the process, made if there is none.
fn global() -> Result<&'static blocking::Cache, Error> {
    let made = CACHE.get_or_init(|| {
        let cache = from_environment();
        if let Err(error) = &cache {
            error!(%error, "cached functions have no cache: those that cannot fail run each time, the others fail");
        }
        Made { cache, installed: false }
    });
    made.cache.as_ref().map_err(Clone::clone)
}

/// A cache whose watch and store live on a runtime of their own: that of the first caller may end before the process
/// does, as those of tests do.
fn from_environment() -> Result<blocking::Cache, Error> {
    let runtime = runtime::handle()?;
    let _inside = runtime.enter();
    described()?.blocking()
}

fn described() -> Result<Cache, Error> {
    Cache::from_env().map_err(|error| match error {
        ConfigError::Cache(error) => error,
        error => Error::Environment(Arc::new(error)),
    })
}

/// Where an expansion has no expression for a cache.
#[derive(Debug, Clone, Copy)]
pub struct Global;

impl AsCache for Global {
    fn as_cache(&self) -> Result<&Cache, Error> {
        global().map(blocking::Cache::as_async)
    }

    fn for_threads(&self) -> Result<blocking::Cache, Error> {
        global().cloned()
    }
}
