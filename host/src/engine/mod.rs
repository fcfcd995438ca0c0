//! Engines: where the machine runs. The driver does not know which one it drives.

mod native;
mod payload;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use tideover_core::breaker::BreakerReport;
use tideover_core::breaker::{Breaker, BreakerPolicy, Mode};
use tideover_core::cache::explain::Story;
use tideover_core::cache::snapshot::{Restored, SnapshotError, Taken};
use tideover_core::cache::{Dependency, Health};
use tideover_core::memory::{MemoryStats, Reason};
use tideover_core::{
    Answer, Call, Command, Event, FlightId, Instant, Left, LoaderId, Lookup, Served, Step, Tidings, WallTime,
};

pub use self::native::NativeEngine;
pub use self::payload::Payload;
#[cfg(feature = "component")]
pub use crate::component::{CACHE_COMPONENT, POLICY_COMPONENT, PolicyEngine};

/// Keys as the host passes them around.
pub type Key = Arc<str>;

/// The machine of `tideover-core`, wherever it runs. The protocol is that of
/// [`tideover_core::Machine`]; each call is short and never waits for anything but other calls of the same engine.
pub trait Engine: Send + Sync + 'static {
    /// `native`, `policy` or `component`, for health reports.
    fn name(&self) -> &'static str;

    /// The hit path: a fresh value, if this engine can tell without the rest of the machine.
    fn hit(&self, key: &str, now: Instant) -> Option<Served<Payload>>;

    /// See [`tideover_core::Machine::lookup`].
    ///
    /// # Errors
    ///
    /// [`EngineError`], as for all calls: the engine broke and was replaced by an empty one.
    fn lookup(&self, key: &Key, call: Call<'_>, now: Instant) -> Result<Lookup<Key, Payload>, EngineError>;

    /// See [`tideover_core::Machine::command`].
    ///
    /// # Errors
    ///
    /// As [`Engine::lookup`].
    fn command(&self, command: Command<Key, Payload>, now: Instant) -> Result<Lookup<Key, Payload>, EngineError>;

    /// See [`tideover_core::Machine::resume`].
    ///
    /// # Errors
    ///
    /// As [`Engine::lookup`].
    fn resume(&self, flight: FlightId, event: Event<Payload>, now: Instant) -> Result<Step<Key, Payload>, EngineError>;

    /// See [`tideover_core::Machine::leave`].
    ///
    /// # Errors
    ///
    /// As [`Engine::lookup`].
    fn leave(&self, flight: FlightId) -> Result<Left, EngineError>;

    /// See [`tideover_core::Machine::learn`].
    ///
    /// # Errors
    ///
    /// As [`Engine::lookup`].
    fn learn(&self, tidings: Tidings<Key>, now: Instant) -> Result<(), EngineError>;

    /// See [`tideover_core::Machine::expire`].
    ///
    /// # Errors
    ///
    /// As [`Engine::lookup`].
    fn expire(&self, flight: FlightId, deadline: Instant, now: Instant) -> Result<Answer<Payload>, EngineError>;

    /// See [`tideover_core::Machine::maintain`].
    ///
    /// # Errors
    ///
    /// As [`Engine::lookup`].
    fn maintain(&self, now: Instant) -> Result<Option<FlightId>, EngineError>;

    /// See [`tideover_core::Machine::story`].
    ///
    /// # Errors
    ///
    /// As [`Engine::lookup`].
    fn story(&self, flight: Option<FlightId>) -> Result<Option<Story>, EngineError>;

    /// See [`tideover_core::Machine::snapshot`]. The bytes are the same whatever the engine.
    ///
    /// # Errors
    ///
    /// As [`Engine::lookup`].
    fn snapshot(&self, now: Instant, wall: WallTime) -> Result<Vec<u8>, EngineError>;

    /// See [`tideover_core::Machine::restore`].
    ///
    /// # Errors
    ///
    /// As [`Engine::lookup`]; inside, why the bytes cannot be restored.
    fn restore(
        &self,
        bytes: &[u8],
        taken: Taken,
        now: Instant,
        wall: WallTime,
    ) -> Result<Result<Restored, SnapshotError>, EngineError>;

    /// See [`tideover_core::Machine::set_breaker_mode`].
    ///
    /// # Errors
    ///
    /// As [`Engine::lookup`].
    fn set_breaker_mode(&self, of: Dependency, mode: Mode, now: Instant) -> Result<(), EngineError>;

    /// See [`tideover_core::Machine::reset_breaker`].
    ///
    /// # Errors
    ///
    /// As [`Engine::lookup`].
    fn reset_breaker(&self, of: Dependency, now: Instant) -> Result<(), EngineError>;

    /// The [keys](tideover_core::Cache::keys) that match `pattern`, each once.
    ///
    /// # Errors
    ///
    /// As for [`Engine::lookup`].
    fn keys_matching(&self, pattern: &str) -> Result<BTreeSet<Key>, EngineError>;

    /// See [`tideover_core::memory::Memory::take_removals`].
    ///
    /// # Errors
    ///
    /// As [`Engine::lookup`].
    fn take_removals(&self) -> Result<Vec<(Key, Reason)>, EngineError>;

    /// How the machine is.
    ///
    /// # Errors
    ///
    /// As [`Engine::lookup`].
    fn report(&self) -> Result<Report, EngineError>;
}

/// The engine broke (a component trapped). It has been replaced by an empty one; what flew in the old one is lost, and
/// those who waited for it get this error.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the engine broke and was replaced: {0}")]
pub struct EngineError(pub String);

/// How the machine is, whatever engine it runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The store's circuit breaker.
    pub store_breaker: BreakerReport,
    /// The circuit breaker of loaders without a name.
    pub load_breaker: BreakerReport,
    /// Those of the loaders that have one, in the order of their numbers; see [`Cache::loader`](crate::Cache::loader).
    pub loaders: Vec<(LoaderId, BreakerReport)>,
    /// Whether a clear of the shared store is owed, so that nothing in it is trusted.
    pub owes_clear: bool,
    /// The counts of [`tideover_core::cache::Stats`] and [`tideover_core::memory::MemoryStats`], by name; in the report of
    /// a cache also those of [`DirectStats`](crate::direct::DirectStats), and `owed_patterns`: invalidations by pattern that the
    /// shared store has not heard of.
    pub counts: Vec<(String, u64)>,
}

/// The count of a cache's report that is neither the machine's nor one of direct operations.
pub(crate) const OWED_PATTERNS: &str = "owed_patterns";

impl Report {
    /// That of a machine and its memory.
    #[must_use]
    pub fn of(health: &Health, loaders: impl Iterator<Item = (LoaderId, BreakerReport)>, memory: &MemoryStats) -> Self {
        let mut loaders: Vec<_> = loaders.collect();
        loaders.sort_by_key(|(loader, _)| *loader);
        let counts = health.stats.counts().chain(memory.counts());
        Self {
            store_breaker: health.store_breaker,
            load_breaker: health.load_breaker,
            loaders,
            owes_clear: health.owes_clear,
            counts: counts.map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }

    /// The circuit that a loader with a new name would find.
    #[cfg(feature = "macros")]
    pub(crate) fn new_loader(&self) -> BreakerReport {
        Breaker::new(BreakerPolicy { mode: self.load_breaker.mode, ..BreakerPolicy::default() }, 0).look()
    }

    /// The count of that name, zero if there is none.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counts.iter().find(|(known, _)| known == name).map_or(0, |(_, value)| *value)
    }
}
