//! Direct operations: bytes under keys in the shared store, with the cache's own guarantees. Counters, locks, sessions,
//! lists of jobs: what is no cached value, and is to go on while the store is away.
//!
//! Who answers is decided by the machine of [`tideover_core::direct`], and flown in `driver`. What each operation means is
//! said by [`Store`].

mod answer;
mod driver;
mod many;
#[cfg(all(test, feature = "testing"))]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tideover_core::breaker::Mode;
pub use tideover_core::direct::DirectStats;
use tideover_core::direct::{Reply, Request};

pub use self::answer::Answer;
pub(crate) use self::driver::Shared;
use crate::cache::Cache;
use crate::error::Error;
use crate::store::{Remaining, Store, When};

/// The direct operations of a cache, by [`Cache::direct`](crate::Cache::direct). Cheap to clone; all handles of a cache
/// share one state.
///
/// Their keys are apart from those of cached values: `k` here and `k` of the cache never meet, and a
/// [clear](crate::Cache::clear) of the cache leaves these alone. A time to live of `None` lasts until it is removed,
/// one of zero ends at once. Whoever drops a call that is under way does not know whether it was made.
///
/// # While the store is away
///
/// A failure of the store, its silence past the deadline (`store_read_deadline`, `store_write_deadline`), and the open
/// circuit are no errors: a bounded memory in this process answers (`entries_max`), and the answer
/// [says so](Answer::source). It knows what was read and written here before. Changes are kept (at most `journal_max` keys;
/// what is beyond is refused, [`Error::JournalFull`]) and reach the store when it is back, before these keys are asked
/// of it again:
///
/// - of puts and removals the newest of each key, with what is left of its time to live; they win over what other
///   processes have written meanwhile;
/// - counts as differences, so that those of several processes add up; a count has ended with its number;
/// - what was given more time than it had left is put there anew, if it has ended meanwhile;
/// - what depends on a condition with that condition, so that the first process to be back wins.
///
/// What is not promised in an outage: that two processes see each other, so both may be told that a key was absent and
/// now is theirs. What is owed is in no snapshot: at the end of the process [`Cache::shutdown`](crate::Cache::shutdown)
/// pays what it can.
///
/// ```
/// use std::time::Duration;
/// use tideover::testing::{self, ScriptedStore, Weather};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tideover::Error> {
/// let store = ScriptedStore::default();
/// let direct = testing::builder().store(store.clone()).build()?.direct();
/// assert_eq!(direct.increment("visits", 5, None).await?.value, 5);
///
/// store.set(Weather::Away);
/// let visits = direct.increment("visits", 2, None).await?;
/// assert_eq!((visits.value, visits.is_fallback()), (7, true));
///
/// store.set(Weather::Fair);
/// tokio::time::sleep(Duration::from_secs(1)).await;
/// let visits = direct.get("visits").await?;
/// assert_eq!((visits.value.as_deref(), visits.is_fallback()), (Some(&b"7"[..]), false));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Direct {
    /// As long as there is a handle the cache lives, and with it whoever pays although nobody calls.
    cache: Cache,
    shared: Arc<Shared>,
}

impl Direct {
    pub(crate) const fn over(cache: Cache, shared: Arc<Shared>) -> Self {
        Self { cache, shared }
    }

    /// The cache whose operations these are.
    #[must_use]
    pub const fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The bytes under `key`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let direct = tideover::Cache::builder().build()?.direct();
    /// direct.put("k", "v", None).await?;
    /// assert_eq!(direct.get("k").await?.value.as_deref(), Some(&b"v"[..]));
    /// assert_eq!(direct.get("other").await?.value, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for all that follow: [`Error::Refused`] at a limit (`key_bytes_max`, `value_bytes_max`),
    /// [`Error::StoreRefused`] when the store answers and refuses, [`Error::Closed`] after the shutdown, and where the
    /// option `fallback` is off [`Error::Store`] while the store is away. Changes are refused with
    /// [`Error::JournalFull`] in an outage, past `journal_max`.
    pub async fn get(&self, key: &str) -> Result<Answer<Option<Bytes>>, Error> {
        Ok(self.shared.call(Request::Get { key: key.into() }).await?.map(Reply::value))
    }

    /// Whether something is under `key`, without reading it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let direct = tideover::Cache::builder().build()?.direct();
    /// assert!(!direct.exists("k").await?.value);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn exists(&self, key: &str) -> Result<Answer<bool>, Error> {
        Ok(self.shared.call(Request::Exists { key: key.into() }).await?.map(Reply::held))
    }

    /// Keeps `value` under `key`, whatever is there, for `ttl` (`None`: until it is removed).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// use std::time::Duration;
    ///
    /// let direct = tideover::Cache::builder().build()?.direct();
    /// direct.put("session", "Ada", Some(Duration::from_secs(60))).await?;
    /// tokio::time::advance(Duration::from_secs(60)).await;
    /// assert_eq!(direct.get("session").await?.value, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn put(&self, key: &str, value: impl Into<Bytes>, ttl: Option<Duration>) -> Result<Answer<()>, Error> {
        let put = Request::Put { key: key.into(), value: value.into(), ttl, when: When::Always };
        Ok(self.shared.call(put).await?.map(drop))
    }

    /// As [`put`](Self::put), only if nothing is there; `false`: something is, and nothing was changed.
    ///
    /// While the store is away, it is absence here that counts, and several processes may be told `true`. The one that
    /// is back first has the key.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let direct = tideover::Cache::builder().build()?.direct();
    /// assert!(direct.put_if_absent("lock", "me", None).await?.value);
    /// assert!(!direct.put_if_absent("lock", "you", None).await?.value);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`Error::OutcomeUnknown`] when the store has not answered and the key is present by
    /// what is known here.
    pub async fn put_if_absent(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<Answer<bool>, Error> {
        let put = Request::Put { key: key.into(), value: value.into(), ttl, when: When::Absent };
        Ok(self.shared.call(put).await?.map(Reply::held))
    }

    /// As [`put`](Self::put), only if something is there; `false`: nothing is, and nothing was changed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let direct = tideover::Cache::builder().build()?.direct();
    /// assert!(!direct.put_if_present("k", "v", None).await?.value);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put_if_absent`](Self::put_if_absent), where the key is absent by what is known here.
    pub async fn put_if_present(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<Answer<bool>, Error> {
        let put = Request::Put { key: key.into(), value: value.into(), ttl, when: When::Present };
        Ok(self.shared.call(put).await?.map(Reply::held))
    }

    /// Removes `key` and returns what was there.
    ///
    /// While the store is away, or has not answered, that is what is known here.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let direct = tideover::Cache::builder().build()?.direct();
    /// direct.put("token", "t", None).await?;
    /// assert_eq!(direct.take("token").await?.value.as_deref(), Some(&b"t"[..]));
    /// assert_eq!(direct.take("token").await?.value, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn take(&self, key: &str) -> Result<Answer<Option<Bytes>>, Error> {
        Ok(self.shared.call(Request::Take { key: key.into() }).await?.map(Reply::value))
    }

    /// Removes `key`, and tells whether something was there.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let direct = tideover::Cache::builder().build()?.direct();
    /// direct.put("k", "v", None).await?;
    /// assert!(direct.remove("k").await?.value);
    /// assert!(!direct.remove("k").await?.value);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn remove(&self, key: &str) -> Result<Answer<bool>, Error> {
        Ok(self.shared.call(Request::Remove { key: key.into() }).await?.map(Reply::held))
    }

    /// Adds `by` to the whole number under `key` (decimal text; zero if nothing is there) and returns the sum. What is
    /// there keeps its end; `ttl` is for a number that this creates.
    ///
    /// While the store is away, it is counted here, and added to whatever is in the store when that is back, unless the
    /// number has ended by then.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tideover::Error;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let direct = tideover::Cache::builder().build()?.direct();
    /// let minute = Some(Duration::from_secs(60));
    /// assert_eq!(direct.increment("calls", 2, minute).await?.value, 2);
    /// assert_eq!(direct.increment("calls", -3, minute).await?.value, -1);
    ///
    /// direct.put("text", "one", None).await?;
    /// let refused = direct.increment("text", 1, None).await;
    /// assert!(matches!(refused, Err(Error::StoreRefused { operation: "increment", .. })));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); [`Error::StoreRefused`] when something else than a number of 64 bits is there, or the sum
    /// would not be one; [`Error::OutcomeUnknown`] when it was sent and not answered: then it may have been counted,
    /// and is not counted here.
    pub async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<Answer<i64>, Error> {
        let increment = Request::Increment { key: key.into(), by, ttl };
        Ok(self.shared.call(increment).await?.map(Reply::sum))
    }

    /// Lets `key` end after `ttl` from now (`None`: never). `false`: it is not there.
    ///
    /// While the store is away, `false` means that nothing is known of it here; if it is in the store, it ends all the
    /// same.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tideover::store::Remaining;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let (direct, minute) = (tideover::Cache::builder().build()?.direct(), Duration::from_secs(60));
    /// assert!(!direct.set_ttl("k", Some(minute)).await?.value);
    /// direct.put("k", "v", None).await?;
    /// assert!(direct.set_ttl("k", Some(minute)).await?.value);
    /// assert_eq!(direct.remaining("k").await?.value, Remaining::Left(minute));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn set_ttl(&self, key: &str, ttl: Option<Duration>) -> Result<Answer<bool>, Error> {
        Ok(self.shared.call(Request::SetTtl { key: key.into(), ttl }).await?.map(Reply::held))
    }

    /// How long `key` will still be there: not at all, for ever, or for so long. While the store is away, a copy whose
    /// end is not known says for how long it will be kept here.
    ///
    /// ```
    /// use tideover::store::Remaining;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let direct = tideover::Cache::builder().build()?.direct();
    /// assert_eq!(direct.remaining("k").await?.value, Remaining::NoSuchKey);
    /// direct.put("k", "v", None).await?;
    /// assert_eq!(direct.remaining("k").await?.value, Remaining::Forever);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn remaining(&self, key: &str) -> Result<Answer<Remaining>, Error> {
        Ok(self.shared.call(Request::Remaining { key: key.into() }).await?.map(Reply::remaining))
    }

    /// Whether the store answers: [`source`](Answer::source) says who has.
    ///
    /// ```
    /// use tideover::Source;
    /// use tideover::testing::{self, ScriptedStore, Weather};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let store = ScriptedStore::default();
    /// let direct = testing::builder().store(store.clone()).build()?.direct();
    /// assert_eq!(direct.ping().await?.source, Source::Store);
    /// store.set(Weather::Away);
    /// assert_eq!(direct.ping().await?.source, Source::Fallback);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn ping(&self) -> Result<Answer<()>, Error> {
        Ok(self.shared.call(Request::Ping).await?.map(drop))
    }

    /// What was counted, and what is owed.
    ///
    /// ```
    /// use tideover::testing::{self, ScriptedStore, Weather};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let direct = testing::builder().store(ScriptedStore::with(Weather::Away)).build()?.direct();
    /// direct.put("k", "v", None).await?;
    /// let stats = direct.stats();
    /// assert_eq!((stats.answers, stats.fallback, stats.owed), (1, 1, 1));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn stats(&self) -> DirectStats {
        self.shared.stats()
    }

    /// Overrules the circuit of direct operations, or lets it decide again; as
    /// [`Cache::set_breaker_mode`](crate::Cache::set_breaker_mode) does with those of the cache.
    ///
    /// ```
    /// use tideover::BreakerMode;
    /// use tideover::testing::{self, ScriptedStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let direct = testing::builder().store(ScriptedStore::default()).build()?.direct();
    /// direct.set_breaker_mode(BreakerMode::ForcedOpen);
    /// assert!(direct.get("k").await?.is_fallback());
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_breaker_mode(&self, mode: Mode) {
        self.shared.set_breaker_mode(mode);
    }

    /// Closes the circuit of direct operations and forgets what was counted against the store. In a forced mode it
    /// stays forced.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// tideover::Cache::builder().build()?.direct().reset_breaker();
    /// # Ok(())
    /// # }
    /// ```
    pub fn reset_breaker(&self) {
        self.shared.reset_breaker();
    }
}

/// Says how much is owed, not what.
impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = self.shared.store().map(Store::name);
        f.debug_struct("Direct").field("store", &store).field("owed", &self.stats().owed).finish_non_exhaustive()
    }
}
