//! The choices of a memory, and what it counts.

use core::time::Duration;

use super::KeyHasher;
use crate::eviction::Eviction;

/// The choices of a [`Memory`](super::Memory).
///
/// ```
/// use tideover_core::memory::{Memory, MemoryPolicy};
///
/// let policy = MemoryPolicy { entries_max: 500, weight_max: 1 << 20, ..MemoryPolicy::default() };
/// let memory: Memory<String, String> = Memory::new(policy);
/// assert_eq!((memory.stats().capacity, memory.stats().weight_max), (500, 1 << 20));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// Entries that fit: at least one, at most 2^30 - 2, or the room of the profile if that is less. Default 10 000.
    pub entries_max: u32,
    /// What all values together may weigh, in the unit of [`Value::weight`](crate::Value::weight). Default 0: no limit.
    pub weight_max: u64,
    /// An entry that is not read for so long is gone. Default `None`: no such limit.
    pub time_to_idle: Option<Duration>,
    /// Whom a full memory gives up. Default [`Eviction::Lru`].
    pub eviction: Eviction,
    /// A fresh entry is to be refreshed from this percentage of its ttl on. Default 0: not before it is stale.
    pub refresh_ahead: u8,
    /// The factor beta, in percent, by which a fresh entry is refreshed the earlier at random, the longer its load
    /// takes and the nearer its end is. Default 0: off.
    ///
    /// Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015.
    pub early_refresh: u32,
    /// Reports of removals kept until they are taken. Default 0: nothing is reported.
    pub removals_max: u32,
    /// Tags whose invalidation is remembered; see [`crate::tags`]. Default 10 000.
    pub tags_max: u32,
    /// From which the hashes of keys follow. Where others choose the keys, let it be unknown to them. Default 0.
    pub seed: u64,
}

impl MemoryPolicy {
    /// What hashes the keys of a memory with this policy.
    #[must_use]
    pub fn hasher(&self) -> KeyHasher {
        KeyHasher::with_seed(self.seed)
    }
}

impl Default for MemoryPolicy {
    fn default() -> Self {
        Self {
            entries_max: 10_000,
            weight_max: 0,
            time_to_idle: None,
            eviction: Eviction::Lru,
            refresh_ahead: 0,
            early_refresh: 0,
            removals_max: 0,
            tags_max: 10_000,
            seed: 0,
        }
    }
}

counts! {
    /// What a memory has counted since it was made or cleared. Insertions are entries and the reasons for which
    /// others left: `insertions = entries + evictions + expirations + replacements + removals + invalidated`.
    pub struct MemoryStats {
        /// Entries held, expired ones that have not been met included.
        entries,
        /// Entries that fit.
        capacity,
        /// What the values held weigh together.
        weight,
        /// What they may weigh; 0 is no limit.
        weight_max,
        /// Bytes of memory's own tables, keys and values included, what those point to not. Computed, not measured.
        bytes,
        /// Lookups that found a fresh entry.
        hits,
        /// Entries kept.
        insertions,
        /// Entries pushed out by newer ones while still of use.
        evictions,
        /// Entries that left because their time was over.
        expirations,
        /// Entries whose place another value took.
        replacements,
        /// Entries removed by key.
        removals,
        /// Entries that left because a tag of theirs, or everything, was invalidated.
        invalidated,
        /// Values that were not kept because one alone weighs more than all may.
        too_heavy,
        /// Reports of removals that were dropped because nobody took them.
        removals_lost,
    }
}
