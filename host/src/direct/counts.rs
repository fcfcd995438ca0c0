//! What direct operations count.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $field:ident: $name:literal,)+) => {
        /// What the [direct operations](crate::Direct) of a cache have counted since it was made. A clear of the cache
        /// does not start it anew.
        ///
        /// ```
        /// # #[tokio::main(flavor = "current_thread")]
        /// # async fn main() -> Result<(), tideover::Error> {
        /// let cache = tideover::Cache::builder().build()?;
        /// cache.direct().put("k", "v", None).await?;
        /// assert_eq!(cache.direct().stats().answers, 1);
        /// assert_eq!(cache.stats().await?.count("direct_answers"), 1, "the cache's own counts have it, too");
        /// # Ok(())
        /// # }
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct DirectStats {
            $($(#[doc = $doc])+ pub $field: u64,)+
        }

        impl DirectStats {
            /// Each count by its name in [`Report`](crate::engine::Report), and what it means.
            pub const NAMES: &'static [(&'static str, &'static str)] = &[$(($name, concat!($($doc,)+)),)+];

            /// Each count by its name.
            pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($name, self.$field),)+].into_iter()
            }
        }

        #[derive(Default)]
        pub(super) struct Counts {
            $(pub(super) $field: Count,)+
        }

        impl Counts {
            pub(super) fn read(&self) -> DirectStats {
                DirectStats { $($field: self.$field.0.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

counts! {
    /// Direct operations that were answered, by whomever.
    answers: "direct_answers",
    /// Of those, the ones answered by what stands in for the store.
    fallback: "direct_fallback",
    /// Operations of the store for direct operations that failed.
    failures: "direct_failures",
    /// Changes by direct operations that came to be owed to the store.
    journaled: "direct_journaled",
    /// Keys whose direct operations are owed to the store.
    owed: "direct_owed",
    /// Steps of direct operations that were owed and have reached the store.
    replayed: "direct_replayed",
    /// Changes by direct operations that were refused because as many are owed as may be.
    journal_full: "direct_journal_full",
    /// Counts that were sent to the store and not answered: callers were told, or they were owed and are given up.
    unknown: "direct_unknown",
    /// Changes that were owed, and that the store has refused for good.
    given_up: "direct_given_up",
}

#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}
