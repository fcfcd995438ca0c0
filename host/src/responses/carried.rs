//! Responses on their way from a target to its variant.
//!
//! That a target varies is known once it was loaded; the load of the variant then takes over what has come instead of
//! asking again. A response belongs to the request that brought it: when that is over, whatever ended it, the response is
//! gone, so nobody finds it later and takes it for new.
//!
//! To the machine the load of the variant began after that of the target, and so after whatever was invalidated meanwhile.
//! So what bears tags is carried with the word of what the cache had been [`Told`] when it was asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::Cache;
use crate::loader::Loaded;

/// So many at once.
const CARRIED_MAX: usize = 256;

/// The way is short. Who had to wait longer on it, for a load's turn, asks again.
const CARRIED_FOR: Duration = Duration::from_secs(1);

/// What a request has brought, while it is under way. Others hold it weakly.
#[derive(Default)]
pub(super) struct Luggage(Mutex<Option<Arc<Parcel>>>);

/// Where all requests find what one of them has brought.
#[derive(Default)]
pub(super) struct Carried(Mutex<HashMap<String, Weak<Parcel>>>);

/// How often the cache was told that something is invalid, or may be: while that is the same, nothing has become so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told([u64; 4]);

impl Told {
    /// Nothing if the cache cannot say.
    pub(super) async fn to(cache: &Cache) -> Option<Self> {
        let report = cache.stats().await.ok()?;
        Some(Self(["invalidations", "learnt", "missed", "clears"].map(|name| report.count(name))))
    }
}

struct Parcel {
    loaded: Loaded,
    /// What the cache had been told when it was asked for, if it bears tags.
    told: Option<Told>,
    /// How old it was then.
    age: Duration,
    since: Instant,
}

impl Carried {
    /// `luggage` is that of the request that led the load. If it has ended already, nothing is carried.
    pub(super) fn put(
        &self,
        luggage: &Weak<Luggage>,
        key: String,
        (loaded, told): (Loaded, Option<Told>),
        age: Duration,
    ) {
        let Some(luggage) = luggage.upgrade() else { return };
        let mut carried = lock(&self.0);
        carried.retain(|_, parcel| parcel.strong_count() > 0);
        if carried.len() < CARRIED_MAX {
            let parcel = Arc::new(Parcel { loaded, told, age, since: Instant::now() });
            carried.insert(key, Arc::downgrade(&parcel));
            *lock(&luggage.0) = Some(parcel);
        }
    }

    /// Whoever takes it looks whether the cache has been told anything since, if it bears tags.
    pub(super) fn take(&self, key: &str) -> Option<(Loaded, Option<Told>)> {
        let parcel = lock(&self.0).remove(key)?.upgrade()?;
        let waited = parcel.since.elapsed();
        (waited < CARRIED_FOR).then(|| (parcel.loaded.clone().age(parcel.age + waited), parcel.told))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(carried: &Carried, luggage: &Arc<Luggage>, key: &str) {
        carried.put(&Arc::downgrade(luggage), key.into(), (Loaded::new("response"), None), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_is_taken_once_and_soon() {
        let (carried, luggage) = (Carried::default(), Arc::default());
        put(&carried, &luggage, "k");
        assert!(carried.take("other").is_none() && carried.take("k").is_some());
        assert!(carried.take("k").is_none(), "it is there already");
        put(&carried, &luggage, "k");
        tokio::time::advance(CARRIED_FOR).await;
        assert!(carried.take("k").is_none(), "it is too old");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_request_has_brought_ends_with_it() {
        let (carried, luggage) = (Carried::default(), Arc::default());
        put(&carried, &luggage, "k");
        let parcel = lock(&carried.0)["k"].clone();
        drop(luggage);
        assert!(parcel.upgrade().is_none(), "nor is it held any longer");
        assert!(carried.take("k").is_none());
        let gone = Weak::new();
        carried.put(&gone, "k".into(), (Loaded::new("response"), None), Duration::ZERO);
        assert!(carried.take("k").is_none(), "it had left before");
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_room_for_so_many_requests_at_once() {
        let carried = Carried::default();
        let all: Vec<Arc<Luggage>> = (0..=CARRIED_MAX).map(|_| Arc::default()).collect();
        for (number, luggage) in all.iter().enumerate() {
            put(&carried, luggage, &number.to_string());
        }
        assert!(carried.take("0").is_some() && carried.take(&CARRIED_MAX.to_string()).is_none());
        drop(all);
        let luggage = Arc::default();
        put(&carried, &luggage, "k");
        assert!(carried.take("k").is_some() && lock(&carried.0).is_empty(), "what has ended takes no room");
    }
}
