//! Loaders by name: each has a circuit breaker of its own.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tideover_core::LoaderId;

use super::Cache;

/// The machine knows numbers; people want names.
#[derive(Default)]
pub(super) struct LoaderNames(RwLock<HashMap<LoaderId, Arc<str>>>);

impl Cache {
    /// The loader of that name, for [`CallOptions::loader`](crate::CallOptions::loader) and
    /// [`Typed::loader`](crate::Typed::loader): it has a circuit breaker of its own, so that one origin that fails does not
    /// close off the others. The first `loaders_max` names (default 64) have; those that come later share the one of
    /// loaders without a name.
    ///
    /// ```
    /// use tideover::{Cache, CallOptions, Error, LoadError, Loaded};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().set("load_breaker_failures", "1")?.build()?;
    /// let prices = CallOptions::new().loader(cache.loader("prices"));
    /// let down = |_| async { Err(LoadError::unavailable("no prices today")) };
    /// assert!(cache.get_or_load_with("price:7", prices, down).await.is_err());
    /// // The circuit of the prices is open; that of the users is not.
    /// let refused = cache.get_or_load_with("price:8", prices, down).await;
    /// assert!(matches!(refused, Err(Error::Open { .. })));
    /// let users = CallOptions::new().loader(cache.loader("users"));
    /// assert!(cache.get_or_load_with("user:7", users, |_| async { Ok(Loaded::new("Ada")) }).await.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn loader(&self, name: &str) -> LoaderId {
        let loader = LoaderId::named(name);
        let (names, max) = (&self.shared.loaders.0, self.policy().loaders_max as usize);
        let is_settled = |names: &HashMap<_, _>| names.contains_key(&loader) || names.len() >= max;
        // Functions ask for theirs at every miss; it is written once.
        if !is_settled(&names.read().unwrap_or_else(PoisonError::into_inner)) {
            let mut names = names.write().unwrap_or_else(PoisonError::into_inner);
            if !is_settled(&names) {
                names.insert(loader, name.into());
            }
        }
        loader
    }

    /// The name of a loader, if [`loader`](Self::loader) was asked for it in this process.
    #[must_use]
    pub fn loader_name(&self, loader: LoaderId) -> Option<Arc<str>> {
        self.shared.loaders.0.read().unwrap_or_else(PoisonError::into_inner).get(&loader).cloned()
    }
}
