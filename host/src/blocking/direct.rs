//! Direct operations for threads. What they do is decided by those for asynchronous code.

use std::time::Duration;

use bytes::Bytes;

use super::Cache;
use crate::core::breaker::Mode;
use crate::direct::{Answer, Direct as AsyncDirect, DirectStats};
use crate::error::Error;
use crate::store::{Cursor, Page, Remaining};

/// The direct operations of a cache, whose calls wait on the thread that makes them. Cheap to clone; made by
/// [`Cache::direct`].
///
/// ```
/// use tideover::Cache;
///
/// # fn main() -> Result<(), tideover::Error> {
/// let direct = Cache::builder().build_blocking()?.direct();
/// direct.put("k", "v", None)?;
/// assert_eq!(direct.take("k")?.value.as_deref(), Some(&b"v"[..]));
/// assert_eq!(direct.increment("visits", 2, None)?.value, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Direct {
    cache: Cache,
    direct: AsyncDirect,
}

macro_rules! operations {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)+) => {
        $(
            #[doc = concat!("See [`Direct::", stringify!($name), "`](AsyncDirect::", stringify!($name), ").")]
            ///
            /// # Errors
            ///
            /// As there.
            pub fn $name(&self, $($argument: $type),*) -> Result<Answer<$answer>, Error> {
                self.cache.answer(self.direct.$name($($argument),*))
            }
        )+
    };
}

impl Direct {
    pub(super) const fn over(cache: Cache, direct: AsyncDirect) -> Self {
        Self { cache, direct }
    }

    /// The same for asynchronous code.
    #[must_use]
    pub const fn as_async(&self) -> &AsyncDirect {
        &self.direct
    }

    operations! {
        get(key: &str) -> Option<Bytes>;
        get_many(keys: &[&str]) -> Vec<Option<Bytes>>;
        exists(key: &str) -> bool;
        put(key: &str, value: impl Into<Bytes>, ttl: Option<Duration>) -> ();
        put_many(entries: &[(&str, Bytes)], ttl: Option<Duration>) -> ();
        put_if_absent(key: &str, value: impl Into<Bytes>, ttl: Option<Duration>) -> bool;
        put_if_present(key: &str, value: impl Into<Bytes>, ttl: Option<Duration>) -> bool;
        take(key: &str) -> Option<Bytes>;
        remove(key: &str) -> bool;
        remove_many(keys: &[&str]) -> u64;
        increment(key: &str, by: i64, ttl: Option<Duration>) -> i64;
        set_ttl(key: &str, ttl: Option<Duration>) -> bool;
        remaining(key: &str) -> Remaining;
        scan(pattern: &str, cursor: &Cursor, count: usize) -> Page;
        remove_matching(pattern: &str) -> u64;
        clear() -> ();
        ping() -> ();
    }

    /// See [`Direct::stats`](AsyncDirect::stats).
    #[must_use]
    pub fn stats(&self) -> DirectStats {
        self.direct.stats()
    }

    /// See [`Direct::set_breaker_mode`](AsyncDirect::set_breaker_mode).
    pub fn set_breaker_mode(&self, mode: Mode) {
        self.direct.set_breaker_mode(mode);
    }

    /// See [`Direct::reset_breaker`](AsyncDirect::reset_breaker).
    pub fn reset_breaker(&self) {
        self.direct.reset_breaker();
    }
}
