//! What a piece of code did to a cache: counted, compared with what the test says, and told where it differs.

use std::fmt;
use std::future::Future;
use std::panic::Location;

use crate::cache::{Cache, Fetched};
use crate::engine::Report;
use crate::observe::grown;
use crate::{Source, Stale};

/// By how much the counts of a cache have changed, by name; those that only grow. Shown, it lists those that did. A clear begins
/// most of them anew: after one, what came before it is not in them.
///
/// ```
/// use tideover::{Loaded, testing};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::Error> {
/// let cache = testing::cache();
/// let (answer, counts) = testing::counted(&cache, async {
///     cache.get_or_load("k", |_| async { Ok(Loaded::new("v")) }).await?;
///     cache.get_or_load("k", |_| async { Ok(Loaded::new("v")) }).await
/// })
/// .await;
/// assert_eq!(answer?.value, "v");
/// assert_eq!((counts.of("loads"), counts.of("hits")), (1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Counts(Vec<(String, u64)>);

impl Counts {
    fn between(before: &Report, after: &Report) -> Self {
        let grown = after.counts.iter().map(|(name, _)| (name.clone(), grown(Some(before), after, name)));
        Self(grown.filter(|(_, grown)| *grown > 0).collect())
    }

    /// By how much the count of that name has grown; the names are those of [`Report::counts`].
    #[must_use]
    pub fn of(&self, name: &str) -> u64 {
        self.0.iter().find(|(known, _)| known == name).map_or(0, |(_, grown)| *grown)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (index, (name, grown)) in self.0.iter().enumerate() {
            write!(f, "{}{name} +{grown}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counts({self})")
    }
}

/// What `block` brings, and what it did to `cache`. What others do to it meanwhile is counted, too, and so is what was begun
/// before; what goes on in the background afterwards is not.
///
/// # Panics
///
/// If the cache cannot tell: a component that broke meanwhile.
pub async fn counted<T>(cache: &Cache, block: impl Future<Output = T>) -> (T, Counts) {
    let before = told(cache.stats().await);
    let brought = block.await;
    let after = told(cache.stats().await);
    (brought, Counts::between(&before, &after))
}

/// What `block` brings, if it makes exactly so many attempts to load through `cache`, those behind stale values included.
///
/// ```
/// use tideover::{Loaded, testing};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::Error> {
/// let cache = testing::cache();
/// testing::expect_loads(&cache, 1, async {
///     for _ in 0..10 {
///         cache.get_or_load("k", |_| async { Ok(Loaded::new("v")) }).await?;
///     }
///     Ok::<_, tideover::Error>(())
/// })
/// .await
/// # }
/// ```
///
/// # Panics
///
/// If it makes more or fewer, saying what it did instead; and as [`counted`].
#[track_caller]
pub fn expect_loads<T>(cache: &Cache, loads: u64, block: impl Future<Output = T>) -> impl Future<Output = T> {
    let asked_at = Location::caller();
    async move {
        let (brought, counts) = counted(cache, block).await;
        check_loads(&counts, loads, asked_at);
        brought
    }
}

#[cfg(feature = "blocking")]
impl crate::blocking::Cache {
    /// As [`counted`], for what runs on this thread.
    ///
    /// # Panics
    ///
    /// As [`counted`].
    pub fn counted<T>(&self, block: impl FnOnce() -> T) -> (T, Counts) {
        let before = told(self.stats());
        let brought = block();
        let after = told(self.stats());
        (brought, Counts::between(&before, &after))
    }

    /// As [`expect_loads`], for what runs on this thread.
    ///
    /// ```
    /// use tideover::{Cache, Loaded};
    ///
    /// # fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().build_blocking()?;
    /// cache.expect_loads(1, || cache.get_or_load("k", |_| Ok(Loaded::new("v"))))?;
    /// cache.expect_loads(0, || cache.get_or_load("k", |_| Ok(Loaded::new("v"))))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`expect_loads`].
    #[track_caller]
    pub fn expect_loads<T>(&self, loads: u64, block: impl FnOnce() -> T) -> T {
        let (brought, counts) = self.counted(block);
        check_loads(&counts, loads, Location::caller());
        brought
    }
}

fn told(report: Result<Report, crate::Error>) -> Report {
    match report {
        Ok(report) => report,
        Err(error) => panic!("the cache cannot say what it did: {error}"),
    }
}

fn check_loads(counts: &Counts, expected: u64, asked_at: &Location<'_>) {
    let loads = counts.of("loads");
    assert!(
        loads == expected,
        "the block at {asked_at} made {loads} loads instead of {expected}; what it did: {counts}"
    );
}

/// The value was there, fresh, in memory or in the store, and nobody was asked for it.
///
/// # Panics
///
/// If not, saying where it came from.
#[track_caller]
pub fn assert_hit<V>(fetched: &Fetched<V>) {
    assert!(fetched.stale.is_none() && fetched.source != Source::Load, "expected a fresh hit, got {}", Told(fetched));
}

/// The value was loaded for this call, or for one that it joined.
///
/// # Panics
///
/// If not, saying where it came from.
#[track_caller]
pub fn assert_loaded<V>(fetched: &Fetched<V>) {
    assert!(fetched.source == Source::Load, "expected a load, got {}", Told(fetched));
}

/// The value is stale, and served for this reason.
///
/// # Panics
///
/// If not, saying what it is.
#[track_caller]
pub fn assert_stale<V>(fetched: &Fetched<V>, why: Stale) {
    assert!(fetched.stale == Some(why), "expected a stale value ({why:?}), got {}", Told(fetched));
}

/// Where a value came from, in a sentence without the value.
struct Told<'a, V>(&'a Fetched<V>);

impl<V> fmt::Display for Told<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fetched { age, ttl, stale, source, collapsed, .. } = self.0;
        match stale {
            Some(why) => write!(f, "a stale value ({why:?}) from {source:?}")?,
            None => write!(f, "a fresh value from {source:?}")?,
        }
        let joined = if *collapsed { ", for which another call was asked" } else { "" };
        write!(f, ", {age:?} old of {ttl:?}{joined}")
    }
}
