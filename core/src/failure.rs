//! Ways to fail, as small values that carry only what is decided on.

use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stamp::Version;
use crate::time::Instant;

/// What kind of failure a loader reports. The class decides whether stale may stand in (law 7), whether a
/// breaker counts it (law 6) and whether another attempt makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Class {
    /// No answer could be had: refused connection, 5xx, overload. Stale may stand in; the breaker counts it.
    Unavailable,
    /// No answer came in time. As [`Class::Unavailable`].
    TimedOut,
    /// The origin answered, and the answer is an error ("not found", "forbidden"). It is passed on as it is.
    Answer,
    /// No answer was had for this key, but the origin lives: one record is broken, one shard is down (HTTP 500, say).
    /// As [`Class::Unavailable`], but the breaker does not count it, so that one bad key does not close the others off.
    Isolated,
    /// The loader panicked, trapped, or broke its contract. No answer was had, so stale may stand in; never tried again.
    Panicked,
}

impl Class {
    /// Whether no answer was had, so that a stale value may stand in for it (RFC 5861 section 4).
    #[must_use]
    pub const fn is_unavailable(self) -> bool {
        !matches!(self, Self::Answer)
    }

    /// Whether another attempt could pass with time.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::TimedOut | Self::Isolated)
    }
}

/// A failed load as the driver reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadFailure {
    /// What kind of failure.
    pub class: Class,
    /// When the origin asked to be asked again (`Retry-After`); the next attempt waits at least that long.
    pub retry_after: Option<Duration>,
}

impl From<Class> for LoadFailure {
    fn from(class: Class) -> Self {
        Self { class, retry_after: None }
    }
}

/// A failed store operation as the driver reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StoreFailure {
    /// No connection, or a server that serves nobody now (loading, read-only, another password). Counted by the breaker,
    /// tried again within the deadline, and owed for as long as it lasts.
    Unavailable,
    /// The step's deadline passed. Counted by the breaker.
    TimedOut,
    /// The server answered and refused this one operation (out of memory). Counted by the breaker, since a store that
    /// refuses writes is of no use; not tried again, and of a value that is refused again only the removal is owed.
    Rejected,
    /// The operation did not get its turn: so much of this process's own was before it that the store was not asked in time,
    /// or not given its time to answer. That says nothing of the store, so the breaker gets no verdict; not tried again, since
    /// that would add to the queue. A change stays owed.
    Overloaded,
    /// Something was there but is no envelope of ours: a counted miss (law 11); the store itself is healthy.
    Corrupt {
        /// What a store that compares takes for its version, so that a load may replace it; `None` if it bears none.
        version: Option<Version>,
    },
}

/// What was to be in the shared store is not: it is away, and owed the change. See
/// [`Settled::require_store`](crate::step::Settled::require_store).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreAway;

impl fmt::Display for StoreAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the shared store is away, and owed the change")
    }
}

impl core::error::Error for StoreAway {}

/// Why a caller gets no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The load failed with this class, and nothing stale could stand in.
    Load(Class),
    /// The breaker of the loader is open until then.
    Open {
        /// The first instant at which a call may be let through.
        until: Instant,
    },
    /// The load failed with this class a while ago, and the policy remembers such failures.
    Remembered {
        /// What kind of failure it was.
        class: Class,
        /// Until when the origin is not asked again.
        until: Instant,
    },
    /// As many loads as are allowed were under way, and as many flights as are allowed waited for them.
    Overloaded,
    /// The caller's own deadline passed.
    DeadlinePassed,
    /// The flight was given up: cancelled or shut down.
    Abandoned,
}

impl Failure {
    /// Whether no answer was had, so that a stale value may stand in for it.
    #[must_use]
    pub const fn is_unavailable(self) -> bool {
        match self {
            Self::Load(class) | Self::Remembered { class, .. } => class.is_unavailable(),
            Self::Open { .. } | Self::Overloaded | Self::DeadlinePassed | Self::Abandoned => true,
        }
    }
}

/// Why a call was not taken up at all. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The key is longer than `key_bytes_max`.
    KeyTooLong {
        /// Length of the key in bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The value is larger than `value_bytes_max`.
    ValueTooLarge {
        /// Size of the value in bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The value bears more tags than [`TAGS_MAX`](crate::value::TAGS_MAX).
    TooManyTags {
        /// How many it bears.
        tags: usize,
        /// The limit.
        max: usize,
    },
    /// The name of a tag is longer than `key_bytes_max`.
    TagTooLong {
        /// Length of the name in bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// As many callers as `waiters_max` already wait for this key.
    TooManyWaiters {
        /// The limit.
        max: usize,
    },
    /// As many flights as `flights_max` are already under way.
    TooManyFlights {
        /// The limit.
        max: usize,
    },
    /// The loader of this key asked for this very key, and would wait for itself.
    Reentrant,
}
