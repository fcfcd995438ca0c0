//! The one error of the crate.

use std::sync::Arc;
use std::time::Duration;

use tideover_core::{PolicyError, Refusal};

use crate::engine::EngineError;
use crate::loader::LoadError;

/// Why a call brought no value.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The load failed, and nothing stale could stand in. Shared by everybody who waited for it.
    #[error("load failed: {0}")]
    Load(#[source] Arc<LoadError>),
    /// The loader's circuit is open: the origin was not asked.
    #[error("the circuit of the loader is open; try again in {retry_after:?}")]
    Open {
        /// How long until a call may be let through.
        retry_after: Duration,
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
    /// The cache was shut down.
    #[error("the cache is shut down")]
    Closed,
    /// The engine broke and was replaced.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A cache is to be built inside a tokio runtime, whose tasks fly its flights.
    #[error("a cache can only be built inside a tokio runtime")]
    NoRuntime,
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
            Self::Open { .. } | Self::DeadlinePassed | Self::Abandoned | Self::Engine(_) => true,
            Self::Refused(_) | Self::Closed | Self::NoRuntime | Self::Config(_) => false,
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

fn refusal_text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::KeyTooLong { bytes, max } => format!("the key has {bytes} bytes, key_bytes_max is {max}"),
        Refusal::ValueTooLarge { bytes, max } => format!("the value has {bytes} bytes, value_bytes_max is {max}"),
        Refusal::TooManyWaiters { max } => format!("{max} callers wait for this key already (waiters_max)"),
        Refusal::TooManyFlights { max } => format!("{max} flights are under way already (flights_max)"),
        Refusal::Reentrant => "the loader of this key asked for this very key".to_owned(),
    }
}
