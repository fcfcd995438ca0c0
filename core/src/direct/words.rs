//! What is asked, and what is answered.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::breaker::Verdict;
use crate::failure::Refusal;
use crate::step::{Source, StoreUse};

/// A key, as callers name it.
pub type Key = Arc<str>;

/// Bytes, of whatever type: `bytes::Bytes`, `Arc<[u8]>`, `Vec<u8>`. They are cloned often.
pub trait Octets: Clone + PartialEq + AsRef<[u8]> + From<Vec<u8>> {}

impl<T: Clone + PartialEq + AsRef<[u8]> + From<Vec<u8>>> Octets for T {}

/// The whole number of 64 bits that these bytes are in decimal text, as a count writes it and nothing else: no sign before a
/// positive number, no zeros before any.
///
/// ```
/// use tideover_core::direct::number;
///
/// assert_eq!(number(b"-7"), Some(-7));
/// assert_eq!((number(b"+7"), number(b"07"), number(b"7 "), number(b"")), (None, None, None, None));
/// ```
#[must_use]
pub fn number(bytes: &[u8]) -> Option<i64> {
    let number: i64 = core::str::from_utf8(bytes).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == bytes).then_some(number)
}

/// A number as [`number`] reads it.
pub(super) fn text<V: Octets>(number: i64) -> V {
    number.to_string().into_bytes().into()
}

/// Under which condition a write takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum When {
    /// Whatever is there.
    #[default]
    Always,
    /// Only if nothing is there.
    Absent,
    /// Only if something is there.
    Present,
}

/// How long a key will still be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remaining {
    /// It is not there.
    NoSuchKey,
    /// Until it is removed.
    Forever,
    /// For this long.
    Left(Duration),
}

/// How far a scan has come. The default is its beginning. What it holds is for the store alone to read; it may name a
/// key, so [`Debug`](fmt::Debug) does not show it.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Cursor(Box<str>);

impl Cursor {
    /// The cursor that a store understands as `text`; an empty one is the beginning.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// As text, to be kept elsewhere.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").finish_non_exhaustive()
    }
}

/// Some of the keys of a scan. It may be empty although more follow.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Keys that match, in no particular order.
    pub keys: Vec<String>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// Says how many keys, not which.
impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("keys", &self.keys.len()).field("is_last", &self.next.is_none()).finish()
    }
}

/// What a store must be able to do for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ability {
    /// A condition and the change that depends on it are one step.
    Conditional,
    /// Many keys in one call.
    Batch,
    /// Numbers that are counted in one step.
    Counters,
    /// Entries end by themselves, and their end can be changed.
    Ttl,
    /// Keys can be looked for.
    Scan,
}

/// What the store is asked. A time to live of `None` lasts until it is removed, one of zero ends at once.
#[derive(Clone, PartialEq)]
pub enum Request<V> {
    /// The bytes under a key: [`Reply::Value`].
    Get {
        /// The key.
        key: Key,
    },
    /// The bytes under each of these keys, in their order: [`Reply::Values`].
    GetMany {
        /// The keys.
        keys: Vec<Key>,
    },
    /// Whether something is under a key, without reading it: [`Reply::Held`].
    Exists {
        /// The key.
        key: Key,
    },
    /// Keeps a value, if the condition holds: [`Reply::Held`].
    Put {
        /// The key.
        key: Key,
        /// What is to be there.
        value: V,
        /// For how long.
        ttl: Option<Duration>,
        /// The condition.
        when: When,
    },
    /// Keeps these values: [`Reply::Done`].
    PutMany {
        /// Each key, and what is to be there.
        entries: Vec<(Key, V)>,
        /// For how long.
        ttl: Option<Duration>,
    },
    /// Removes a key, and tells what was there: [`Reply::Value`].
    Take {
        /// The key.
        key: Key,
    },
    /// Removes a key, and tells whether something was there: [`Reply::Held`].
    Remove {
        /// The key.
        key: Key,
    },
    /// Removes these keys, and tells how many were there: [`Reply::Count`].
    RemoveMany {
        /// The keys.
        keys: Vec<Key>,
    },
    /// Adds to the whole number under a key (decimal text; zero if nothing is there), and tells the sum: [`Reply::Sum`].
    /// What is there keeps its end.
    Increment {
        /// The key.
        key: Key,
        /// How much.
        by: i64,
        /// For a number that this creates.
        ttl: Option<Duration>,
    },
    /// Lets a key end then, and tells whether it is there: [`Reply::Held`].
    SetTtl {
        /// The key.
        key: Key,
        /// From now on.
        ttl: Option<Duration>,
    },
    /// How long a key will still be there: [`Reply::Remaining`].
    Remaining {
        /// The key.
        key: Key,
    },
    /// Some of the keys that match, from a place on: [`Reply::Page`].
    Scan {
        /// What they are to match.
        pattern: Key,
        /// Where to go on.
        cursor: Cursor,
        /// About so many keys are looked at.
        count: usize,
    },
    /// Whether the store answers: [`Reply::Done`].
    Ping,
}

impl<V> Request<V> {
    /// Its name, for errors and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Get { .. } => "get",
            Self::GetMany { .. } => "get_many",
            Self::Exists { .. } => "exists",
            Self::Put { when: When::Always, .. } => "put",
            Self::Put { when: When::Absent, .. } => "put_if_absent",
            Self::Put { when: When::Present, .. } => "put_if_present",
            Self::PutMany { .. } => "put_many",
            Self::Take { .. } => "take",
            Self::Remove { .. } => "remove",
            Self::RemoveMany { .. } => "remove_many",
            Self::Increment { .. } => "increment",
            Self::SetTtl { .. } => "set_ttl",
            Self::Remaining { .. } => "remaining",
            Self::Scan { .. } => "scan",
            Self::Ping => "ping",
        }
    }

    /// The key, where it is about one alone.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Get { key }
            | Self::Exists { key }
            | Self::Put { key, .. }
            | Self::Take { key }
            | Self::Remove { key }
            | Self::Increment { key, .. }
            | Self::SetTtl { key, .. }
            | Self::Remaining { key } => Some(key),
            Self::GetMany { .. } | Self::PutMany { .. } | Self::RemoveMany { .. } | Self::Scan { .. } | Self::Ping => {
                None
            }
        }
    }

    /// The keys that it is about.
    pub(super) fn keys(&self) -> Vec<&Key> {
        match self {
            Self::GetMany { keys } | Self::RemoveMany { keys } => keys.iter().collect(),
            Self::PutMany { entries, .. } => entries.iter().map(|(key, _)| key).collect(),
            one => one.key().into_iter().collect(),
        }
    }

    /// The values that it brings.
    pub(super) fn values(&self) -> Vec<&V> {
        match self {
            Self::Put { value, .. } => Vec::from([value]),
            Self::PutMany { entries, .. } => entries.iter().map(|(_, value)| value).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether it leaves everything as it is.
    pub(super) const fn is_read(&self) -> bool {
        matches!(
            self,
            Self::Get { .. }
                | Self::GetMany { .. }
                | Self::Exists { .. }
                | Self::Remaining { .. }
                | Self::Scan { .. }
                | Self::Ping
        )
    }
}

/// What a caller asks.
#[derive(Clone, PartialEq)]
pub enum Operation<V> {
    /// What the store is asked, too.
    Plain(Request<V>),
    /// Removes the keys that match, and tells how many there were: [`Reply::Count`]. The store is asked from page to page,
    /// for as long as there are more.
    RemoveMatching {
        /// What they are to match; see [`pattern`](crate::pattern).
        pattern: Key,
    },
    /// Removes everything, and what was owed: [`Reply::Done`].
    Clear,
}

impl<V> From<Request<V>> for Operation<V> {
    fn from(request: Request<V>) -> Self {
        Self::Plain(request)
    }
}

impl<V> Operation<V> {
    /// Its name, for errors and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Plain(request) => request.name(),
            Self::RemoveMatching { .. } => "remove_matching",
            Self::Clear => "clear",
        }
    }

    /// What a store must be able to do for a change, so that it is not owed in vain. Whoever drives the machine refuses it
    /// otherwise.
    #[must_use]
    pub const fn needs(&self) -> &'static [Ability] {
        match self {
            Self::Plain(
                Request::Put { when: When::Absent | When::Present, .. } | Request::Take { .. } | Request::Remove { .. },
            ) => &[Ability::Conditional],
            Self::Plain(Request::PutMany { .. } | Request::RemoveMany { .. }) => &[Ability::Batch],
            Self::Plain(Request::Increment { .. }) => &[Ability::Counters],
            Self::Plain(Request::SetTtl { .. }) => &[Ability::Ttl],
            Self::Plain(_) => &[],
            Self::RemoveMatching { .. } | Self::Clear => &[Ability::Scan, Ability::Batch],
        }
    }
}

/// What is answered, by the store or in its place.
#[derive(Clone, PartialEq)]
pub enum Reply<V> {
    /// It was done.
    Done,
    /// What was there.
    Value(Option<V>),
    /// What was there, each.
    Values(Vec<Option<V>>),
    /// Whether it is or was there, or the condition held.
    Held(bool),
    /// How many there were.
    Count(u64),
    /// The number that is there now.
    Sum(i64),
    /// How long it will be there.
    Remaining(Remaining),
    /// Some keys.
    Page(Page),
}

/// What a reply says, for those who know of which kind it is. One of another kind says nothing.
impl<V> Reply<V> {
    /// Of [`Reply::Value`].
    #[must_use]
    pub fn value(self) -> Option<V> {
        if let Self::Value(value) = self { value } else { None }
    }

    /// Of [`Reply::Values`].
    #[must_use]
    pub fn values(self) -> Vec<Option<V>> {
        if let Self::Values(values) = self { values } else { Vec::new() }
    }

    /// Of [`Reply::Held`].
    #[must_use]
    pub fn held(self) -> bool {
        matches!(self, Self::Held(true))
    }

    /// Of [`Reply::Count`].
    #[must_use]
    pub fn count(self) -> u64 {
        if let Self::Count(count) = self { count } else { 0 }
    }

    /// Of [`Reply::Sum`].
    #[must_use]
    pub fn sum(self) -> i64 {
        if let Self::Sum(sum) = self { sum } else { 0 }
    }

    /// Of [`Reply::Remaining`].
    #[must_use]
    pub fn remaining(self) -> Remaining {
        if let Self::Remaining(left) = self { left } else { Remaining::NoSuchKey }
    }

    /// Of [`Reply::Page`].
    #[must_use]
    pub fn page(self) -> Page {
        if let Self::Page(page) = self { page } else { Page::default() }
    }
}

/// The answer to a caller.
#[derive(Clone, PartialEq)]
pub struct Answer<V> {
    /// What was asked for.
    pub reply: Reply<V>,
    /// Who has answered: [`Source::Store`]; [`Source::Fallback`] while the store is away; [`Source::Memory`] where there is
    /// none.
    pub source: Source,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// Past a limit. Nothing was changed.
    Refused(Refusal),
    /// The store has refused, or cannot do such a thing: the driver knows what it said.
    ByStore,
    /// It is a cursor that no scan has given.
    Cursor,
    /// What is there is no whole number of 64 bits. Nothing was changed.
    NotANumber,
    /// The sum would be none. Nothing was changed.
    NumberTooLarge,
    /// The store is away, and nothing is to stand in for it.
    Away(StoreUse),
    /// The store is away, and owed as many changes as may be. Nothing was changed.
    JournalFull {
        /// The limit.
        max: u32,
    },
    /// It was sent to the store and must not be sent twice: nobody knows whether it was done.
    OutcomeUnknown,
    /// The machine takes no calls any more.
    Closed,
}

/// Why the store has not done what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It has not been reached. Nothing was done.
    Unavailable,
    /// The connection broke after it was sent: it may have been done.
    Uncertain,
    /// No answer by the deadline: it may have been done.
    TimedOut,
    /// This process has had too much to do to ask. Nothing was done, which says nothing of the store.
    Overloaded,
    /// This process has had too much to do to look at an answer: it may have been done, which says nothing of the store.
    Congested,
    /// It cannot do such a thing.
    Unsupported,
    /// It has answered, and refused.
    Refused,
}

/// What became of an operation that was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The store was not asked.
    Skipped,
    NotDone,
    /// It may have been done.
    Unknown,
}

impl Fault {
    /// What it says of the store. What that answers is no failure, whatever the answer.
    pub(super) const fn verdict(self) -> Verdict {
        match self {
            Self::Unavailable | Self::Uncertain | Self::TimedOut => Verdict::Failure,
            Self::Refused => Verdict::Success,
            Self::Overloaded | Self::Congested | Self::Unsupported => Verdict::None,
        }
    }

    /// The same for what is owed. That it fails once more says nothing of the store for others: the key waits by itself.
    pub(super) const fn verdict_of_owed(self) -> Verdict {
        match self.verdict() {
            Verdict::Failure => Verdict::None,
            other => other,
        }
    }

    /// What became of what was asked; `None`: it was refused.
    pub(super) const fn fate(self) -> Option<Fate> {
        match self {
            Self::Unavailable | Self::Overloaded => Some(Fate::NotDone),
            Self::Uncertain | Self::TimedOut | Self::Congested => Some(Fate::Unknown),
            Self::Unsupported | Self::Refused => None,
        }
    }
}
