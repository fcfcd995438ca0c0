//! What is counted for each cached function. The cache counts for all of its callers together, and knows no functions.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde::Serialize;

use crate::core::breaker::State;
use crate::engine::{BreakerReport, Report};
use crate::error::Error;
use crate::{Cache, CallError, Fetched, LoaderId, Source};

/// A hit must not cost a write that all threads contend for, so the threads share the work of counting in so many places.
const STRIPES: usize = 16;

/// What is counted, as the place of its number in a stripe.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    Hits,
    StaleHits,
    Misses,
    Loads,
    Errors,
    Uncached,
}

const COUNTS: usize = 6;

/// Two cache lines, as processors fetch them in pairs.
#[repr(align(128))]
struct Stripe([AtomicU64; COUNTS]);

/// A cached function: its name, and what was counted.
pub struct Function {
    name: &'static str,
    /// With the type, of a method.
    full_name: OnceLock<String>,
    stripes: [Stripe; STRIPES],
}

impl Function {
    /// Nothing counted yet.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            full_name: OnceLock::new(),
            stripes: [const { Stripe([const { AtomicU64::new(0) }; COUNTS]) }; STRIPES],
        }
    }

    /// Module path and name. It names the function's loader, too: each has a circuit breaker of its own.
    pub(super) fn name(&'static self) -> &'static str {
        self.full_name.get().map_or(self.name, String::as_str)
    }

    /// A method of this type, whatever its parameters are.
    pub fn of(&'static self, type_name: &str) -> &'static Self {
        self.full_name.get_or_init(|| {
            let bare = type_name.split('<').next().unwrap_or(type_name);
            format!("{bare}::{}", self.name)
        });
        self
    }

    pub(super) fn count(&self, what: Count) {
        if let Some(number) = self.stripes.get(mine()).and_then(|stripe| stripe.0.get(what as usize)) {
            number.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is counted for an answer of the cache.
    pub(super) fn counts_of<V, E>(answer: &Result<Fetched<V>, CallError<E>>) -> &'static [Count] {
        match answer {
            Ok(fetched) if fetched.is_stale() => &[Count::StaleHits],
            Ok(fetched) if fetched.source == Source::Load || fetched.collapsed => &[Count::Misses],
            Ok(_) => &[Count::Hits],
            // That there is no such thing was remembered: nobody was asked.
            Err(CallError::Cache(Error::Absent { retry_after: Some(_) })) => &[Count::Hits],
            Err(CallError::Cache(Error::Absent { .. })) => &[Count::Misses],
            Err(_) => &[Count::Misses, Count::Errors],
        }
    }

    /// What was counted since the program began, or since the last reset.
    #[must_use]
    pub fn stats(&self) -> FunctionStats {
        let sum = |what: Count| {
            let numbers = self.stripes.iter().filter_map(|stripe| stripe.0.get(what as usize));
            numbers.map(|number| number.load(Ordering::Relaxed)).sum()
        };
        FunctionStats {
            hits: sum(Count::Hits),
            stale_hits: sum(Count::StaleHits),
            misses: sum(Count::Misses),
            loads: sum(Count::Loads),
            errors: sum(Count::Errors),
            uncached: sum(Count::Uncached),
        }
    }

    /// Counts from zero again. What is counted meanwhile may be lost.
    pub fn reset(&self) {
        for number in self.stripes.iter().flat_map(|stripe| &stripe.0) {
            number.store(0, Ordering::Relaxed);
        }
    }

    pub(super) async fn health(&'static self, cache: &Cache) -> Result<FunctionHealth, Error> {
        let report = cache.stats().await?;
        let own = LoaderId::named(self.name());
        let named = report.loaders.iter().find(|(loader, _)| *loader == own).map(|(_, circuit)| *circuit);
        let is_shared = report.loaders.len() >= cache.policy().loaders_max as usize;
        let circuit = named.unwrap_or_else(|| if is_shared { report.load_breaker } else { report.new_loader() });
        Ok(FunctionHealth { function: self.name(), stats: self.stats(), circuit, cache: report })
    }
}

/// The stripe of this thread.
fn mine() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES));
    MINE.try_with(Cell::get).unwrap_or_default()
}

/// What was counted of the calls of one `#[cached]` function: `NAME::stats()`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// #[tideover::cached(key = "square:{of}")]
/// async fn square(of: u64) -> u64 {
///     of * of
/// }
///
/// for _ in 0..4 {
///     assert_eq!(square(7).await, 49);
/// }
/// let stats = square::stats();
/// assert_eq!((stats.hits, stats.misses, stats.loads), (3, 1, 1));
/// assert_eq!(stats.hit_rate(), 0.75);
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct FunctionStats {
    /// Calls that were answered with something fresh that was there, or with the remembered word that there is no such
    /// thing.
    pub hits: u64,
    /// Calls that were answered with something stale.
    pub stale_hits: u64,
    /// Calls for which the function had to run, or that waited while it ran for others.
    pub misses: u64,
    /// How often the function ran for the cache, refreshes behind its callers and further attempts included.
    pub loads: u64,
    /// Misses that ended with an error, the function's own or the cache's.
    pub errors: u64,
    /// Calls for which the function ran without the cache, because that could not answer: it is shut down, the key is
    /// past its limit, or an argument cannot be written as text.
    pub uncached: u64,
}

impl FunctionStats {
    /// The part of the calls that found something, fresh or stale, from 0 to 1; 0 if there were none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    pub fn hit_rate(&self) -> f64 {
        let found = self.hits + self.stale_hits;
        let calls = found + self.misses + self.uncached;
        if calls == 0 { 0.0 } else { found as f64 / calls as f64 }
    }
}

/// How a `#[cached]` function and the cache behind it are: `NAME::health().await`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionHealth {
    /// Module path and name.
    pub function: &'static str,
    /// What was counted of its calls.
    pub stats: FunctionStats,
    /// Its own circuit, which no other function opens; closed if it has not been run yet. Past `loaders_max` names it is that of
    /// all loaders without one.
    pub circuit: BreakerReport,
    /// Circuits and counts of its cache, which other functions may use, too.
    pub cache: Report,
}

impl FunctionHealth {
    /// Whether neither its own circuit nor that of the store is open: both are asked.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        [&self.circuit, &self.cache.store_breaker].iter().all(|circuit| !matches!(circuit.state, State::Open { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_count_in_places_of_their_own_and_are_summed_up() {
        static COUNTED: Function = Function::new("counted");
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| (0..100).for_each(|_| COUNTED.count(Count::Hits)));
            }
        });
        COUNTED.count(Count::Misses);
        let stats = COUNTED.stats();
        assert_eq!((stats.hits, stats.misses), (4_000, 1));
        assert!((0.0..=1.0).contains(&stats.hit_rate()), "{}", stats.hit_rate());
        COUNTED.reset();
        assert_eq!((COUNTED.stats(), COUNTED.stats().hit_rate()), (FunctionStats::default(), 0.0));
    }
}
