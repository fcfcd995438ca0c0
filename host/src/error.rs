//! The one error of the crate.

use std::sync::Arc;
use std::time::Duration;

use tideover_core::cache::snapshot::SnapshotError;
use tideover_core::{Class, PolicyError, Refusal, StoreAway, StoreUse};

use crate::codec::CodecError;
use crate::engine::EngineError;
use crate::loader::LoadError;
use crate::store::{DIRECT_PREFIX, StoreError};

/// Why a call brought no value.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The load failed, and nothing stale could stand in. Shared by everybody who waited for it.
    #[error("load failed: {0}")]
    Load(#[source] Arc<LoadError>),
    /// There is no such thing: the origin says so, or said so a while ago.
    #[error("there is no such thing")]
    Absent {
        /// How long until the origin is asked again, if it was not asked for this call.
        retry_after: Option<Duration>,
    },
    /// The load failed a while ago, and such failures are remembered: the origin was not asked.
    #[error("load failed a while ago ({class:?}); try again in {retry_after:?}")]
    Remembered {
        /// What kind of failure it was.
        class: Class,
        /// How long until the origin is asked again.
        retry_after: Duration,
    },
    /// As many loads as are allowed were under way, and as many as are allowed waited for them; or a blocking cache had no
    /// thread left to load on.
    #[error("too many loads are under way and wait")]
    Overloaded,
    /// The loader's circuit is open: the origin was not asked.
    #[error("the circuit of the loader is open; {}", when_again(*.retry_after))]
    Open {
        /// How long until a call may be let through; `None` if an operator has opened it
        /// ([`BreakerMode::ForcedOpen`](crate::BreakerMode::ForcedOpen)).
        retry_after: Option<Duration>,
    },
    /// The call's deadline passed.
    #[error("the deadline of the call passed")]
    DeadlinePassed,
    /// The load was given up by whoever flew it: its runtime went away, or the cache was shut down.
    #[error("the load was abandoned")]
    Abandoned,
    /// A limit of the cache; nothing was changed.
    #[error("{}", refusal_text(.0))]
    Refused(Refusal),
    /// Keys that begin so are those of direct operations ([`Cache::direct`](crate::Cache::direct)); nothing was
    /// changed.
    #[error("keys that begin with {} are those of direct operations", DIRECT_PREFIX)]
    ReservedKey,
    /// The shared store answered a [direct operation](crate::Direct), and refused it: a count on a text, a cursor that
    /// is not its own, an operation that it does not have. Nothing was changed. While the store is away, what stands in
    /// for it refuses the same.
    #[error("{operation} was refused: {error}")]
    StoreRefused {
        /// The direct operation.
        operation: &'static str,
        /// The store's own word.
        #[source]
        error: StoreError,
    },
    /// As many changes of direct operations are owed to the store as `journal_max` allows, which is away; nothing was
    /// changed.
    #[error("{operation}: {max} changes are owed to the store already (journal_max)")]
    JournalFull {
        /// The direct operation.
        operation: &'static str,
        /// The limit.
        max: u32,
    },
    /// A direct operation that must not be done twice was sent, and the store has not answered: nobody knows whether it
    /// was done. It is not owed.
    #[error("{operation} was sent to the store, which did not answer: it may have been done")]
    OutcomeUnknown {
        /// The direct operation.
        operation: &'static str,
    },
    /// The shared store was required ([`CallOptions::require_store`](crate::CallOptions::require_store) for reads,
    /// [`Settled::require_store`](crate::Settled::require_store) for writes), and did not take part.
    #[error("the shared store is required, and {}", store_text(*.store))]
    Store {
        /// Why; `None` if that is not known.
        store: Option<StoreUse>,
    },
    /// The cache was shut down.
    #[error("the cache is shut down")]
    Closed,
    /// The engine broke and was replaced.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The bytes are no snapshot that can be restored here; nothing was changed.
    #[error("the snapshot cannot be restored: {0}")]
    Snapshot(#[source] SnapshotError),
    /// A cache is to be built, and what writes invalidate to be applied, inside a tokio runtime, whose tasks fly the flights.
    #[error("a cache can only be built and written to inside a tokio runtime")]
    NoRuntime,
    /// The system gave no threads to a blocking cache.
    #[error("the threads of a blocking cache could not be started: {0}")]
    Threads(#[source] Arc<std::io::Error>),
    /// The environment describes no cache, and functions that name none were to use that.
    #[cfg(feature = "macros")]
    #[error("the cache of this process cannot be made from its environment: {0}")]
    Environment(#[source] Arc<crate::config::ConfigError>),
    /// A value could not be written by its codec, or what was found could not be read.
    #[error("the value cannot be kept: {0}")]
    Codec(#[from] CodecError),
    /// A choice that cannot be.
    #[error("invalid option {0}")]
    Config(#[from] PolicyError),
}

impl Error {
    /// Whether no answer was had, as opposed to an answer that is an error, a limit, or a mistake of the caller's.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Load(error) => error.is_unavailable(),
            Self::Remembered { class, .. } => class.is_unavailable(),
            Self::Open { .. }
            | Self::Overloaded
            | Self::DeadlinePassed
            | Self::Abandoned
            | Self::Store { .. }
            | Self::JournalFull { .. }
            | Self::OutcomeUnknown { .. }
            | Self::Engine(_) => true,
            #[cfg(feature = "macros")]
            Self::Environment(_) => false,
            Self::Absent { .. }
            | Self::Refused(_)
            | Self::ReservedKey
            | Self::StoreRefused { .. }
            | Self::Closed
            | Self::Snapshot(_)
            | Self::NoRuntime
            | Self::Threads(_)
            | Self::Codec(_)
            | Self::Config(_) => false,
        }
    }

    /// Whether there is no such thing at the origin.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    /// Whether the shared store was required and is away, whatever of it: hung, refusing, unreachable, its circuit open.
    #[must_use]
    pub const fn is_store(&self) -> bool {
        matches!(self, Self::Store { .. })
    }

    /// How long until another call makes sense, where that is known. A load that failed just now says what its origin
    /// asked for.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Remembered { retry_after, .. } => Some(*retry_after),
            Self::Open { retry_after } | Self::Absent { retry_after } => *retry_after,
            Self::Load(error) => error.failure().retry_after,
            _ => None,
        }
    }

    /// The loader's own error, if it is one.
    #[must_use]
    pub fn load_error(&self) -> Option<&LoadError> {
        match self {
            Self::Load(error) => Some(error),
            _ => None,
        }
    }
}

/// A write that required the store: `cache.put(..).await?.require_store()?`.
impl From<StoreAway> for Error {
    fn from(_: StoreAway) -> Self {
        Self::Store { store: None }
    }
}

const fn store_text(store: Option<StoreUse>) -> &'static str {
    match store {
        Some(StoreUse::Skipped) => "its circuit is open, or it is owed changes",
        Some(StoreUse::Failed) => "it failed or did not answer in time",
        Some(StoreUse::Unasked | StoreUse::Answered) | None => "it did not take part",
    }
}

fn when_again(wait: Option<Duration>) -> String {
    wait.map_or_else(|| "an operator has opened it".to_owned(), |wait| format!("try again in {wait:?}"))
}

fn refusal_text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::KeyTooLong { bytes, max } => format!("the key has {bytes} bytes, key_bytes_max is {max}"),
        Refusal::ValueTooLarge { bytes, max } => format!("the value has {bytes} bytes, value_bytes_max is {max}"),
        Refusal::TooManyTags { tags, max } => format!("the value bears {tags} tags, {max} are allowed"),
        Refusal::TagTooLong { bytes, max } => format!("the name of a tag has {bytes} bytes, key_bytes_max is {max}"),
        Refusal::TooManyWaiters { max } => format!("{max} callers wait for this key already (waiters_max)"),
        Refusal::TooManyFlights { max } => format!("{max} flights are under way already (flights_max)"),
        Refusal::Reentrant => "the loader of this key asked for this very key".to_owned(),
    }
}
