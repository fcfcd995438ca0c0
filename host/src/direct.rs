//! Direct operations: bytes under keys in the shared store, with the cache's own guarantees. Counters, locks, sessions,
//! lists of jobs: what is no cached value, and is to go on while the store is away.
//!
//! What is decided here is who answers: the store, through a circuit of its own and within the deadlines of the policy;
//! or, while it is away, what stands in for it. What each operation means is said by [`Store`].

mod answer;
mod circuit;
mod counts;
mod debt;
mod fallback;
mod journal;
mod many;
mod pay;
mod place;
mod shared;
#[cfg(all(test, feature = "testing"))]
mod tests;
mod turns;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tideover_core::breaker::Mode;

pub use self::answer::Answer;
pub use self::counts::DirectStats;
use self::fallback::{Fallback, Undone};
use self::journal::State;
use self::place::place;
pub(crate) use self::shared::Shared;
use self::shared::{Concerns, Fate, with_end};
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
        let (mut call, place) = (self.shared.reading("get", &[key])?, place(key));
        let asks = || self.shared.asks_end(key);
        let work = self.shared.store().map(|store| with_end(store, &place, asks, store.read(&place)));
        let asked = self.shared.ask(&mut call, Concerns::Keys(&[key]), work).await;
        let seen = |fallback: &mut Fallback, (value, left): (Option<Bytes>, _), now| {
            fallback.mirror_read(key, value.as_ref(), left, call.number, now);
            value
        };
        self.shared.answer(&call, asked, seen, |fallback, _, now| Ok(fallback.read(key, now)))
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
        let (mut call, place) = (self.shared.reading("exists", &[key])?, place(key));
        let work = self.shared.store().map(|store| store.exists(&place));
        let asked = self.shared.ask(&mut call, Concerns::Keys(&[key]), work).await;
        let seen = |fallback: &mut Fallback, exists: bool, now| {
            if !exists {
                fallback.mirror(key, State::ABSENT, call.number, now);
            }
            exists
        };
        self.shared.answer(&call, asked, seen, |fallback, _, now| Ok(fallback.read(key, now).is_some()))
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
        let (value, place) = (self.checked(value.into())?, place(key));
        let (mut call, ends) = (self.shared.writing("put", &[key], |_| true)?, self.shared.ends(ttl));
        let work = self.shared.store().map(|store| store.write(&place, value.clone(), ttl));
        let asked = self.shared.ask(&mut call, Concerns::Keys(&[key]), work).await;
        let seen = |fallback: &mut Fallback, (), now| {
            fallback.mirror(key, State::ending(value.clone(), ends), call.number, now);
        };
        let instead =
            |fallback: &mut Fallback, _, now| fallback.write(key, value.clone(), ends, When::Always, now).map(drop);
        self.shared.answer(&call, asked, seen, instead)
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
        self.put_when("put_if_absent", key, value.into(), ttl, When::Absent).await
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
        self.put_when("put_if_present", key, value.into(), ttl, When::Present).await
    }

    async fn put_when(
        &self,
        operation: &'static str,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
        when: When,
    ) -> Result<Answer<bool>, Error> {
        let (value, place) = (self.checked(value)?, place(key));
        let (mut call, ends) =
            (self.shared.writing(operation, &[key], |store| store.conditional)?, self.shared.ends(ttl));
        let work = self.shared.store().map(|store| store.write_when(&place, value.clone(), ttl, when));
        let asked = self.shared.ask(&mut call, Concerns::Keys(&[key]), work).await;
        let seen = |fallback: &mut Fallback, held, now| {
            match (held, when) {
                (true, _) => fallback.mirror(key, State::ending(value.clone(), ends), call.number, now),
                (false, When::Present) => fallback.mirror(key, State::ABSENT, call.number, now),
                (false, _) => {}
            }
            held
        };
        let instead = |fallback: &mut Fallback, fate, now| match fallback.write(key, value.clone(), ends, when, now) {
            // That it has been done would not be "nothing was changed".
            Ok(false) if fate == Fate::Unknown => Err(Undone::Unknown),
            done => done,
        };
        self.shared.answer(&call, asked, seen, instead)
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
        let (mut call, place) = (self.shared.writing("take", &[key], |store| store.conditional)?, place(key));
        let work = self.shared.store().map(|store| store.take(&place));
        let asked = self.shared.ask(&mut call, Concerns::Keys(&[key]), work).await;
        let seen = |fallback: &mut Fallback, taken, now| {
            fallback.mirror(key, State::ABSENT, call.number, now);
            taken
        };
        self.shared.answer(&call, asked, seen, |fallback, _, now| fallback.remove(key, now))
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
        let (mut call, place) = (self.shared.writing("remove", &[key], |store| store.conditional)?, place(key));
        let work = self.shared.store().map(|store| store.delete(&place));
        let asked = self.shared.ask(&mut call, Concerns::Keys(&[key]), work).await;
        let seen = |fallback: &mut Fallback, was_there, now| {
            fallback.mirror(key, State::ABSENT, call.number, now);
            was_there
        };
        self.shared.answer(&call, asked, seen, |fallback, _, now| Ok(fallback.remove(key, now)?.is_some()))
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
        let (mut call, place) = (self.shared.writing("increment", &[key], |store| store.counters)?, place(key));
        let (ends, asks) = (self.shared.ends(ttl), || self.shared.asks_end(key));
        let work = self.shared.store().map(|store| with_end(store, &place, asks, store.increment(&place, by, ttl)));
        let asked = self.shared.ask(&mut call, Concerns::Keys(&[key]), work).await;
        let seen = |fallback: &mut Fallback, (sum, left), now| {
            fallback.mirror_sum(key, sum, left, call.number, now);
            sum
        };
        let instead = |fallback: &mut Fallback, fate, now| match fate {
            Fate::Unknown => Err(Undone::Unknown),
            Fate::Skipped | Fate::NotDone => fallback.add(key, by, ends, now),
        };
        self.shared.answer(&call, asked, seen, instead)
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
        let (mut call, place) = (self.shared.writing("set_ttl", &[key], |store| store.ttl)?, place(key));
        let ends = self.shared.ends(ttl);
        let work = self.shared.store().map(|store| store.expire(&place, ttl));
        let asked = self.shared.ask(&mut call, Concerns::Keys(&[key]), work).await;
        let seen = |fallback: &mut Fallback, was_there: bool, now| {
            let left = match ttl {
                _ if !was_there => Remaining::NoSuchKey,
                Some(_) => Remaining::Left(ends - now),
                None => Remaining::Forever,
            };
            fallback.mirror_end(key, left, call.number, now);
            was_there
        };
        self.shared.answer(&call, asked, seen, |fallback, _, now| fallback.expire(key, ends, now))
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
        let (mut call, place) = (self.shared.reading("remaining", &[key])?, place(key));
        let work = self.shared.store().map(|store| store.remaining(&place));
        let asked = self.shared.ask(&mut call, Concerns::Keys(&[key]), work).await;
        let seen = |fallback: &mut Fallback, left, now| {
            fallback.mirror_end(key, left, call.number, now);
            left
        };
        self.shared.answer(&call, asked, seen, |fallback, _, now| Ok(fallback.remaining(key, now)))
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
        let mut call = self.shared.reading("ping", &[])?;
        let work = self.shared.store().map(|store| store.ping());
        let asked = self.shared.ask(&mut call, Concerns::Nothing, work).await;
        self.shared.answer(&call, asked, |_, (), _| (), |_, _, _| Ok(()))
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
        self.shared.circuit.set_mode(mode);
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
        self.shared.circuit.reset();
    }

    /// Refuses what is past the limit.
    fn checked(&self, value: Bytes) -> Result<Bytes, Error> {
        self.shared.policy.check_value(value.len()).map_err(Error::Refused)?;
        Ok(value)
    }
}

/// Says how much is owed, not what.
impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = self.shared.store().map(Store::name);
        f.debug_struct("Direct").field("store", &store).field("owed", &self.stats().owed).finish_non_exhaustive()
    }
}
