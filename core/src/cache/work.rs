//! What a flight carries: what it is about, the step that it waits for, and everything that it holds meanwhile.

#[cfg(feature = "alloc")]
use alloc::boxed::Box;
use core::time::Duration;

#[cfg(feature = "alloc")]
use super::explain::Story;
use crate::backoff::Schedule;
use crate::breaker::{Permit, Verdict};
use crate::entry::Entry;
use crate::failure::{Class, Failure};
use crate::journal::Change;
use crate::limit;
use crate::stamp::Version;
use crate::step::{LoaderId, Settled, StoreUse, Tier};
use crate::time::Instant;
use crate::value::{AbsenceTags, Invalidation, Tag, Value};

/// What is known of a key that has no value: for each caller alone, nothing, or a failure not to be provoked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Remembered {
    /// Its value is for each caller alone.
    Private,
    /// There is no such thing, until one of these is invalidated.
    Absent(AbsenceTags),
    /// The last load failed.
    Failed(Class),
}

impl Value for Remembered {
    fn tags(&self) -> &[Tag] {
        match self {
            Self::Absent(tags) => tags.as_slice(),
            Self::Private | Self::Failed(_) => &[],
        }
    }
}

/// What a flight is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Load,
    /// A load for one caller alone.
    PrivateLoad,
    Read,
    Change,
    /// Pays a debt of the journal.
    Replay,
    /// Takes an invalidation to the shared store's log.
    Note {
        tag: Tag,
        how: Invalidation,
        made_at: Instant,
        issue: u64,
    },
    /// Settles the doubts in either store that had been raised when it began.
    Clear {
        primary: u64,
        fallback: u64,
    },
}

/// The step that a flight waits for.
#[derive(Debug, Clone)]
pub(super) enum Stage<V> {
    Reading(Tier),
    Loading,
    /// Asleep before another attempt.
    Pausing(Again),
    Landing(After<V>),
    Writing(Tier),
    Removing(Tier),
    Clearing(Tier),
    /// Noting an invalidation.
    Noting,
    /// Taking the lease, and waiting for another process that has it.
    Leasing,
    AwaitingLease,
    /// Put aside until fewer loads are under way.
    Waiting,
    /// No step is outstanding: another flight holds the key's slot and will name this one.
    Queued,
    /// Named as the next one to be launched.
    Ready(First),
}

impl End {
    pub(super) const fn of(failure: Failure) -> Self {
        match failure {
            Failure::Load(Class::Panicked) => Self::Panicked,
            Failure::Open { .. } | Failure::Overloaded | Failure::Remembered { .. } => Self::GaveUp,
            Failure::Load(_) | Failure::DeadlinePassed => Self::Failed,
            Failure::Abandoned => Self::Cancelled,
        }
    }
}

/// What a flight does when it is launched.
#[derive(Debug, Clone, Copy)]
pub(super) enum First {
    Load,
    Change,
    Debt,
    Note,
    Clear,
    ClearFallback,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Again {
    Read,
    Load,
    Change,
    Note,
}

/// The right among all processes to load the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    Unasked,
    /// Another process had it; it is not waited for any longer than that.
    Awaited(Instant),
    Held,
    /// It loads without.
    Forgone,
}

/// What follows a landing.
#[derive(Debug, Clone)]
pub(super) enum After<V> {
    Finish,
    Change(Change<V>),
    /// Copy to the fallback what came from the primary.
    Mirror(Change<V>),
    Refresh,
}

#[derive(Clone)]
pub(super) struct Work<V> {
    pub(super) kind: Kind,
    /// Whose circuit its load asks.
    pub(super) loader: LoaderId,
    pub(super) stage: Stage<V>,
    /// Attempts made at the present operation, its waits, and until when it may last.
    pub(super) attempt: u32,
    pub(super) waits: Option<Schedule>,
    pub(super) deadline: Instant,
    pub(super) permit: Option<Permit>,
    /// The right to be one of the loads under way, and what the load took and said.
    pub(super) slot: Option<limit::Slot>,
    pub(super) measured: (Duration, Verdict),
    /// The place among those who wait for that right.
    pub(super) place: Option<u32>,
    /// When the present operation was asked for.
    pub(super) asked_at: Instant,
    /// A stale value found on the way, when its age was taken, and the newest invalidation then.
    pub(super) previous: Option<(Entry<V>, Instant, u64)>,
    /// What the loader was told that there is.
    pub(super) offered: Option<Entry<V>>,
    /// What is older does not do for somebody who waits.
    pub(super) max_age: Option<Duration>,
    /// The newest invalidation when the load was asked for, and when the last caller joined.
    pub(super) born: u64,
    pub(super) joined: u64,
    /// What the store said that it has, if it was read: an entry or a tombstone, or neither.
    pub(super) seen: Option<Option<Version>>,
    /// Another process has changed the key while it was being read.
    pub(super) asks_again: bool,
    pub(super) lease: Lease,
    pub(super) change: Option<Change<V>>,
    /// Which write of this machine its change is, and the place in the log that it was last stamped with.
    pub(super) number: u64,
    pub(super) stamped: u64,
    pub(super) settled: Settled,
    /// What the shared store had to do with what it lands with.
    pub(super) store: StoreUse,
    /// Whether its end has been counted.
    pub(super) ended: bool,
    #[cfg(feature = "alloc")]
    pub(super) story: Option<Box<Story>>,
}

impl<V> Work<V> {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            loader: LoaderId::UNNAMED,
            stage: Stage::Queued,
            attempt: 0,
            waits: None,
            deadline: Instant::ZERO,
            permit: None,
            slot: None,
            measured: (Duration::ZERO, Verdict::None),
            place: None,
            asked_at: Instant::ZERO,
            previous: None,
            offered: None,
            max_age: None,
            born: 0,
            joined: 0,
            seen: None,
            asks_again: false,
            lease: Lease::Unasked,
            change: None,
            number: 0,
            stamped: 0,
            settled: Settled::Memory,
            store: StoreUse::Unasked,
            ended: false,
            #[cfg(feature = "alloc")]
            story: None,
        }
    }

    /// The change that it brings, or will bring once it has landed.
    pub(super) const fn to_write(&self) -> Option<&Change<V>> {
        match &self.stage {
            Stage::Landing(After::Change(change) | After::Mirror(change)) => Some(change),
            _ => self.change.as_ref(),
        }
    }

    /// Starts the counts for an operation that may last until `deadline`.
    pub(super) fn begin(&mut self, deadline: Instant) {
        (self.attempt, self.waits, self.deadline) = (0, None, deadline);
    }
}

/// How a load ended. Each is an outcome of its own, and counted as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Failed,
    GaveUp,
    Panicked,
    Cancelled,
    TooOld,
    Late,
    Overtaken,
}

impl Kind {
    /// Whether a value is what its waiters wait for.
    pub(super) const fn is_read(self) -> bool {
        matches!(self, Self::Load | Self::PrivateLoad | Self::Read)
    }

    /// Whether it may ask the origin.
    pub(super) const fn is_load(self) -> bool {
        matches!(self, Self::Load | Self::PrivateLoad)
    }
}
