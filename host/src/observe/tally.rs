//! The counts of a cache by name and type: what was asked for, and what came of it.

use serde::{Deserialize, Serialize};

use crate::direct::DirectStats;
use crate::engine::Report;

macro_rules! tally {
    ($($(#[doc = $doc:literal])+ $field:ident,)+ ; $($(#[doc = $level_doc:literal])+ $level:ident,)+) => {
        /// What was asked of a cache, and what came of it, since it was made or last [cleared](crate::Cache::clear).
        ///
        /// ```
        /// use tideover::{Cache, Loaded};
        ///
        /// # #[tokio::main(flavor = "current_thread")]
        /// # async fn main() -> Result<(), tideover::Error> {
        /// let cache = Cache::builder().build()?;
        /// for _ in 0..4 {
        ///     cache.get_or_load("k", |_| async { Ok(Loaded::new("v")) }).await?;
        /// }
        /// let tally = cache.stats().await?.tally();
        /// assert_eq!((tally.hits, tally.misses, tally.loads), (3, 1, 1));
        /// assert_eq!(tally.hit_rate(), Some(0.75));
        /// # Ok(())
        /// # }
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        #[non_exhaustive]
        pub struct Tally {
            $($(#[doc = $doc])+ pub $field: u64,)+
            $($(#[doc = $level_doc])+ pub $level: u64,)+
        }

        impl Tally {
            pub(crate) fn of(report: &Report) -> Self {
                Self { $($field: report.count(stringify!($field)),)+ $($level: report.count(stringify!($level)),)+ }
            }

            /// What was counted since `earlier`, for rates of a while. Levels are as they are now; if there was a clear
            /// since, it is what was counted since the clear.
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Self {
                if self.clears != earlier.clears {
                    return *self;
                }
                Self { $($field: more(self.$field, earlier.$field),)+ $($level: self.$level,)+ }
            }
        }
    };
}

tally! {
    /// Lookups that found a fresh entry in memory.
    hits,
    /// Lookups that had to wait.
    misses,
    /// Of those, the ones that waited for what another caller was having loaded.
    coalesced,
    /// Lookups answered at once with something stale.
    stale_at_once,
    /// Stale values served while a refresh was under way.
    stale_while_revalidate,
    /// Stale values served because the origin was unavailable.
    stale_if_error,
    /// Lookups answered from a remembered absence or failure.
    remembered,
    /// Attempts to load.
    loads,
    /// Attempts to load that failed.
    load_failures,
    /// Reads of the shared store that found a usable entry.
    store_hits,
    /// Reads of the shared store that found nothing.
    store_misses,
    /// Operations of the shared store that failed.
    store_failures,
    /// Entries kept.
    insertions,
    /// Entries that left because their time was over.
    expirations,
    /// Entries pushed out by newer ones while still of use.
    evictions,
    ;
    /// Clears by this process, since the cache was made.
    clears,
    /// Entries in memory.
    entries,
    /// Entries that fit.
    capacity,
    /// What the values in memory weigh together.
    weight,
    /// What they may weigh; 0 is no limit.
    weight_max,
    /// Bytes of memory's tables, keys and values included, what those point to not.
    bytes,
}

/// What a clear does not start anew.
const KEPT: [&str; 3] = ["clears", "journal_overflows", "retries_refused"];

/// By how much a count has grown from one report to the next, which may be that of another engine.
pub(crate) fn grown(before: Option<&Report>, now: &Report, name: &str) -> u64 {
    let count = now.count(name);
    let Some(before) = before else { return count };
    let is_kept = KEPT.contains(&name) || DirectStats::NAMES.iter().any(|(known, _)| *known == name);
    let began_anew = before.count("clears") != now.count("clears") && !is_kept;
    if began_anew { count } else { more(count, before.count(name)) }
}

/// What has been added to a count; of one that begins anew, all of it.
pub(super) const fn more(now: u64, before: u64) -> u64 {
    if now < before { now } else { now - before }
}

impl Tally {
    /// Lookups of any kind that were answered or waited.
    #[must_use]
    pub const fn lookups(&self) -> u64 {
        self.hits + self.stale_at_once + self.misses + self.remembered
    }

    /// Stale values served, for either reason.
    #[must_use]
    pub const fn stale(&self) -> u64 {
        self.stale_while_revalidate + self.stale_if_error
    }

    /// The part of all lookups, from 0 to 1, that found something fresh in memory; `None` without lookups.
    #[must_use]
    pub fn hit_rate(&self) -> Option<f64> {
        rate(self.hits, self.lookups())
    }

    /// The part of all lookups, from 0 to 1, that were answered with something stale, at once or after waiting.
    #[must_use]
    pub fn stale_rate(&self) -> Option<f64> {
        rate(self.stale(), self.lookups())
    }

    /// The part of all attempts to load, from 0 to 1, that failed.
    #[must_use]
    pub fn load_failure_rate(&self) -> Option<f64> {
        rate(self.load_failures, self.loads)
    }
}

impl Report {
    /// The counts that matter most, by type.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally::of(self)
    }
}

fn rate(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

#[cfg(test)]
mod tests {
    use tideover_core::cache::Stats;
    use tideover_core::memory::MemoryStats;

    use super::*;

    #[test]
    fn every_count_of_the_tally_is_one_of_the_machines() {
        let tally = serde_json::to_value(Tally::default()).expect("it has no odd parts");
        for name in tally.as_object().expect("an object").keys() {
            let mut known = Stats::NAMES.iter().chain(MemoryStats::NAMES);
            assert!(known.any(|(known, _)| known == name), "{name}");
        }
    }

    #[test]
    fn rates_are_fractions_of_lookups_and_unknown_without_any() {
        assert_eq!((Tally::default().hit_rate(), Tally::default().load_failure_rate()), (None, None));
        let tally =
            Tally { hits: 5, misses: 2, stale_at_once: 1, stale_if_error: 2, remembered: 2, ..Tally::default() };
        assert_eq!((tally.hit_rate(), tally.stale_rate()), (Some(0.5), Some(0.2)));
    }

    #[test]
    fn a_count_that_began_anew_counts_from_there() {
        let earlier = Tally { hits: 100, entries: 7, ..Tally::default() };
        let now = Tally { hits: 300, entries: 2, ..Tally::default() };
        assert_eq!((now.since(&earlier).hits, now.since(&earlier).entries), (200, 2));
        let cleared = Tally { clears: 1, ..now };
        assert_eq!(cleared.since(&earlier), cleared);
        assert_eq!(earlier.since(&now).hits, 100, "another engine");
    }
}
