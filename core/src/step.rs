//! The words that machine and driver exchange: steps are imperatives, events are their past participles.
//!
//! | step | what the driver does | event |
//! |---|---|---|
//! | [`Step::ReadStore`] | reads the key from a tier, until the deadline | [`Event::StoreRead`] |
//! | [`Step::Load`] | calls the loader, until the deadline | [`Event::Loaded`] |
//! | [`Step::Sleep`] | waits until that moment | [`Event::Slept`] |
//! | [`Step::Wait`] | puts the flight aside until a step of another flight names it as `next` | [`Event::Launched`] |
//! | [`Step::Land`] | hands the outcome to everybody who waits for the flight; launches `next` beside it | [`Event::Landed`] |
//! | [`Step::WriteStore`] | writes the entry to a tier, if the condition holds, until the deadline | [`Event::StoreWritten`] |
//! | [`Step::RemoveStore`] | removes the key from a tier, if the condition holds, until the deadline | [`Event::StoreRemoved`] |
//! | [`Step::AcquireLease`] | takes the lease on the key if nobody has it, and keeps it until the flight is over | [`Event::LeaseAnswered`] |
//! | [`Step::AwaitLease`] | waits until the lease may be free, or that moment | [`Event::LeaseAwaited`] |
//! | [`Step::ClearStore`] | clears the namespace in a tier, until the deadline | [`Event::StoreCleared`] |
//! | [`Step::InvalidateStore`] | notes an invalidation in the shared store's log, until the deadline | [`Event::StoreInvalidated`] |
//! | [`Step::Done`] | forgets the flight, launches `next` in its place | none |
//!
//! A flight that is named as `next` is launched by resuming it with [`Event::Launched`]; the answer is its step. At a
//! deadline the driver drops what it is doing and answers with a time-out. [`Event::Abandoned`] may come at any step
//! (cancel, panic of the driver, shutdown): it settles everything that the flight holds. An event that does not answer
//! the outstanding step is taken as `Abandoned`; an event for a flight that is over is answered with `Done`.

use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::entry::{Entry, Windows};
use crate::failure::{Failure, LoadFailure, Refusal, StoreAway, StoreFailure};
use crate::stamp::{Intent, Version, Written};
use crate::time::Instant;
use crate::value::{AbsenceTags, Invalidation, Tag};

/// The number of a flight, never used twice by one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlightId(pub u64);

/// Which store a step is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// The shared store.
    Primary,
    /// The bounded store that stands in while the shared one is away.
    Fallback,
}

/// What the driver is to do next for a flight; see the [table](self).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a flight whose step is not done never ends"]
#[allow(missing_docs, reason = "the fields are named for what they are")]
pub enum Step<K, V> {
    /// Read `key`; answer with what is there, an entry at its present age.
    ReadStore { tier: Tier, key: K, deadline: Instant },
    /// Load `key` from its origin. `previous` is an older value that a conditional request may refer to, so that
    /// [`Loaded::NotModified`] is an answer.
    Load { key: K, attempt: u32, deadline: Instant, previous: Option<Entry<V>> },
    /// Wait until then.
    Sleep { until: Instant },
    /// As many loads as are allowed are under way: put the flight aside.
    Wait,
    /// Hand `outcome` to everybody who waits for this flight. Each flight lands exactly once.
    /// `store` is what the shared store had to do with it, for callers that want to know.
    Land { outcome: Outcome<V>, store: StoreUse, next: Option<FlightId> },
    /// Write `entry` under `key`, to expire with [`Entry::remaining`], if the `intent` may replace what is there.
    WriteStore { tier: Tier, key: K, entry: Entry<V>, intent: Intent, deadline: Instant },
    /// Remove `key`, if the `intent` may replace what is there, and leave a tombstone for `fence_for` in its place.
    RemoveStore { tier: Tier, key: K, intent: Intent, fence_for: Duration, deadline: Instant },
    /// Take the lease on `key` in the shared store for `ttl`, if nobody has it, and keep it by renewing it until the flight is
    /// over, however it ends, but for `hold_for` at most.
    AcquireLease { key: K, ttl: Duration, hold_for: Duration, deadline: Instant },
    /// Another process has the lease on `key`: wait until it may be free, or until then.
    AwaitLease { key: K, until: Instant },
    /// Remove everything in the own namespace; in a store with a log, by a note there.
    ClearStore { tier: Tier, deadline: Instant },
    /// Note in the shared store's log that `tag` was invalidated `made_ago`.
    InvalidateStore { tag: Tag, how: Invalidation, made_ago: Duration, deadline: Instant },
    /// This flight is over; go on with `next` in its place.
    Done { next: Option<FlightId> },
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event<V> {
    /// Answers [`Step::ReadStore`].
    StoreRead(Result<Found<V>, StoreFailure>),
    /// Answers [`Step::Load`].
    Loaded(Result<Loaded<V>, LoadFailure>),
    /// Answers [`Step::Sleep`].
    Slept,
    /// Answers [`Step::Wait`], and begins a flight that a step named as `next`.
    Launched,
    /// Answers [`Step::Land`].
    Landed,
    /// Answers [`Step::WriteStore`].
    StoreWritten(Result<Written, StoreFailure>),
    /// Answers [`Step::RemoveStore`].
    StoreRemoved(Result<Written, StoreFailure>),
    /// Answers [`Step::AcquireLease`].
    LeaseAnswered(Result<Leased, StoreFailure>),
    /// Answers [`Step::AwaitLease`].
    LeaseAwaited,
    /// Answers [`Step::ClearStore`].
    StoreCleared(Result<(), StoreFailure>),
    /// Answers [`Step::InvalidateStore`].
    StoreInvalidated(Result<(), StoreFailure>),
    /// Comes at any step: the caller that led goes, and its loader with it. Those who still wait look up again, and one
    /// of them leads.
    Resigned,
    /// Comes at any step: whoever drove the flight gives it up.
    Abandoned,
}

/// Who has a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leased {
    /// The flight that asked for it.
    Held,
    /// Somebody else.
    Elsewhere {
        /// When it ends if it is not renewed.
        free_in: Duration,
    },
}

/// What a read of a store found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found<V> {
    /// The entry at its present age; `None` if there is none, or a tombstone.
    pub entry: Option<Entry<V>>,
    /// Which write it was that left this entry or tombstone; `None` if there is neither.
    pub version: Option<Version>,
    /// The newest invalidation that the writer of the entry knew; see [`crate::stamp`].
    pub born: u64,
}

impl<V> Found<V> {
    /// Neither an entry nor a tombstone.
    pub const NOTHING: Self = Self { entry: None, version: None, born: 0 };

    /// The same around another value.
    pub fn map<W>(self, value: impl FnOnce(V) -> W) -> Found<W> {
        Found { entry: self.entry.map(|entry| entry.map(value)), version: self.version, born: self.born }
    }
}

/// What a driver has learnt of other processes; see [`Machine::learn`](crate::Machine::learn).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tidings<K> {
    /// Something stands in the shared store's log.
    Noted(News),
    /// Another process has put or removed this key in the shared store, or it has left for other reasons.
    Changed(K),
    /// Other processes may have changed anything, and nobody could tell: whoever watches the keys of the store had lost
    /// sight of it, or begins.
    Missed,
}

impl<K> From<News> for Tidings<K> {
    fn from(news: News) -> Self {
        Self::Noted(news)
    }
}

/// What a driver has learnt from the shared store's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// Its place in the log: numbers grow.
    pub number: u64,
    /// How long ago it was made.
    pub ago: Duration,
    /// Whether this machine has noted it.
    pub own: bool,
    /// What was noted.
    pub note: Note,
}

/// What a log of invalidations holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// A tag was invalidated.
    Invalidated(Tag, Invalidation),
    /// Everything was cleared.
    Cleared,
    /// Nobody knows what was noted up to here: the log is bounded, and was read too late, or it was lost.
    Unknown,
}

/// What a loader brought.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are named for what they are")]
pub enum Loaded<V> {
    /// A value, of an age already on arrival if it comes from a cache further up; `windows: None` takes those of the
    /// policy.
    Value { value: V, age: Duration, windows: Option<Windows>, sharing: Sharing },
    /// What was handed to the loader as `previous` is still true: its age starts anew (RFC 9111 section 4.3.4).
    /// `windows: None` takes those of the policy, as a value does (a 304 repeats
    /// its `Cache-Control`: RFC 9110 section 15.4.5). Without a `previous` the loader broke its contract, and the load
    /// counts as [`Class::Panicked`](crate::Class::Panicked).
    NotModified { age: Duration, windows: Option<Windows> },
    /// There is no such thing. Remembered for `ttl`, by default the policy's `negative_ttl`, and until one of `tags` is
    /// invalidated; zero forgets it at once.
    Absent { ttl: Option<Duration>, tags: AbsenceTags },
}

impl<V> Loaded<V> {
    /// A new value for everybody, with the windows of the policy.
    pub const fn new(value: V) -> Self {
        Self::Value { value, age: Duration::ZERO, windows: None, sharing: Sharing::Store }
    }

    /// There is no such thing. What bears more tags than an absence may is not remembered: it could not be invalidated.
    #[must_use]
    pub fn absent(ttl: Option<Duration>, tags: &[Tag]) -> Self {
        match AbsenceTags::of(tags) {
            Some(tags) => Self::Absent { ttl, tags },
            None => Self::Absent { ttl: Some(Duration::ZERO), tags: AbsenceTags::NONE },
        }
    }
}

/// Who may have a loaded value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Sharing {
    /// Everybody, from now on: it is kept.
    #[default]
    Store,
    /// Everybody who waits; it is not kept.
    Share,
    /// The caller that led the flight, nobody else. The others ask again, each for itself, and the key is
    /// remembered as private for a while.
    Private,
}

/// What waiters get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome<V> {
    /// A value.
    Served(Served<V>),
    /// A value for the caller that led the flight alone. All others look up again.
    Private(Served<V>),
    /// There is no value.
    Absent(Absence),
    /// A write, removal or clear is done.
    Settled(Settled),
    /// No value, for this reason.
    Failed(Failure),
    /// The flight ended without an answer, through no fault of the origin: look up again.
    Again,
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Absence {
    /// It is nowhere at hand, and nothing was to load it.
    NotLoaded,
    /// The origin has just said that there is no such thing.
    Confirmed,
    /// The origin said so a while ago.
    Remembered {
        /// Until when it is not asked again.
        until: Instant,
    },
}

/// A value and where it comes from.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served<V> {
    /// The value.
    pub value: V,
    /// Time since it was written or validated at its origin.
    pub age: Duration,
    /// Its freshness lifetime; `None` never expires.
    pub ttl: Option<Duration>,
    /// Why it is served although stale; `None` for a fresh value.
    pub stale: Option<Stale>,
    /// Where it was found.
    pub source: Source,
}

/// Why a stale value is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stale {
    /// A refresh is under way or was tried a moment ago. RFC 5861 section 3.
    WhileRevalidate,
    /// The origin is unavailable. RFC 5861 section 4.
    IfError,
}

/// Where a value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    /// In this process.
    Memory,
    /// In the shared store.
    Store,
    /// In the store that stands in while the shared one is away.
    Fallback,
    /// At the origin.
    Load,
}

/// What the shared store had to do with the answer to a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum StoreUse {
    /// Nothing: memory answered, there is no store, or a change of the key that is on its way there has the last word.
    #[default]
    Unasked,
    /// It was asked, and it answered, whatever that was.
    Answered,
    /// It would have been asked, but its circuit is open, or a change of the key is owed to it from an outage.
    Skipped,
    /// It was asked, and failed or did not answer in time.
    Failed,
}

/// Where a write, removal or clear has taken effect, besides memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Settled {
    /// There is no store.
    Memory,
    /// In the shared store.
    Store,
    /// The shared store is away: in memory and the fallback, and in the journal of what is owed to the store. If the journal is
    /// full, the store is cleared instead when it is back, so that nothing older is left there, and a value is in memory alone
    /// then; `journal_overflows` counts it.
    Journaled,
    /// Nowhere any more: it had to wait, and another process has written something newer to the shared store meanwhile.
    /// Memory has let go of it.
    Overtaken,
}

impl Settled {
    /// This, unless the shared store is away. The change has taken effect here nevertheless, and the store is owed it: who
    /// goes no further without the store need not undo it. Where there is no store, none is required.
    ///
    /// ```
    /// use tideover_core::{Settled, StoreAway};
    ///
    /// assert_eq!(Settled::Store.require_store(), Ok(Settled::Store));
    /// assert_eq!(Settled::Memory.require_store(), Ok(Settled::Memory));
    /// assert_eq!(Settled::Overtaken.require_store(), Ok(Settled::Overtaken));
    /// assert_eq!(Settled::Journaled.require_store(), Err(StoreAway));
    /// ```
    ///
    /// # Errors
    ///
    /// [`StoreAway`].
    pub const fn require_store(self) -> Result<Self, StoreAway> {
        match self {
            Self::Journaled => Err(StoreAway),
            Self::Memory | Self::Store | Self::Overtaken => Ok(self),
        }
    }
}

/// A flight that the driver is to fly, and its first step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch<K, V> {
    /// Which.
    pub flight: FlightId,
    /// What to do first.
    pub step: Step<K, V>,
}

/// The answer to a caller, and work for the driver. Caller and driver are independent: whoever called is only ever
/// a waiter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup<K, V> {
    /// For the caller.
    pub answer: Answer<V>,
    /// For the driver.
    pub launch: Option<Launch<K, V>>,
}

/// The answer to a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<V> {
    /// At once.
    Now(Outcome<V>),
    /// When this flight lands. A caller that goes away says so ([`Machine::leave`](crate::Machine::leave)); one
    /// that still waits at `until` asks [`Machine::expire`](crate::Machine::expire) for what it gets instead.
    Pending {
        /// The flight to wait for.
        flight: FlightId,
        /// When to ask: at the soft limit if something stale could stand in, else at `deadline`.
        until: Instant,
        /// The end of this caller's patience, its own or the policy's: for `expire`, which knows callers only by
        /// number.
        deadline: Instant,
    },
    /// Not taken up; nothing was changed.
    Refused(Refusal),
}

/// What a waiter leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The flight goes on, or has landed already.
    Stays,
    /// Nobody is interested any more: drop the work and resume the flight with [`Event::Abandoned`].
    Abandon,
}

/// Which loader: the hash of its name, the same in every process. Each has a circuit breaker of its own, so that one that
/// fails does not close off the others; loaders without a name share one.
///
/// ```
/// use tideover_core::LoaderId;
///
/// assert_eq!(LoaderId::named("users"), LoaderId::named("users"));
/// assert_ne!(LoaderId::named("users"), LoaderId::named("prices"));
/// assert_eq!(LoaderId::default(), LoaderId::UNNAMED);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct LoaderId(pub u64);

impl LoaderId {
    /// That of loaders without a name.
    pub const UNNAMED: Self = Self(0);

    /// The loader of that name. Two names with the same number (one pair in 2^64) share a breaker.
    #[must_use]
    pub const fn named(name: &str) -> Self {
        let Tag(hash) = Tag::named(name);
        Self(if hash == 0 { 1 } else { hash })
    }
}

/// What a caller asks for beside the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Call<'a> {
    /// The caller's own deadline; the policy's `call_deadline` holds beside it.
    pub deadline: Option<Instant>,
    /// Whether a loader is there. Without one, a key that is nowhere is [`Outcome::Absent`].
    pub read_only: bool,
    /// What is older does not do for this caller, fresh or not: it waits for a refresh (RFC 9111 section 5.2.1.1).
    /// Stale-if-error is measured from here, too.
    pub max_age: Option<Duration>,
    /// Tell the story of the answer; see [`Machine::story`](crate::Machine::story).
    pub explain: bool,
    /// Whose circuit is asked, if this call leads a load.
    pub loader: LoaderId,
    /// The flights inside whose loader the call is made, so that a loader that asks for its own key is refused
    /// instead of waiting for itself.
    pub within: &'a [FlightId],
}

/// A change that a caller asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command<K, V> {
    /// Keep `value` under `key`; `windows: None` takes the windows of the policy.
    #[allow(missing_docs, reason = "the fields are named for what they are")]
    Put { key: K, value: V, windows: Option<Windows> },
    /// Remove `key`.
    #[allow(missing_docs, reason = "the fields are named for what they are")]
    Remove { key: K },
    /// Age `key` to the end of its freshness: from now on it is stale here, inside its windows, and gone from the stores.
    #[allow(missing_docs, reason = "the fields are named for what they are")]
    Expire { key: K },
    /// Invalidate everything that bears `tag`, whatever the number of keys.
    #[allow(missing_docs, reason = "the fields are named for what they are")]
    Invalidate { tag: Tag, how: Invalidation },
    /// Remove everything.
    Clear,
}

/// The value itself is never shown.
impl<V> fmt::Debug for Loaded<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { value: _, age, windows, sharing } => {
                let mut shown = f.debug_struct("Value");
                shown.field("age", age).field("windows", windows).field("sharing", sharing).finish_non_exhaustive()
            }
            Self::NotModified { age, windows } => {
                f.debug_struct("NotModified").field("age", age).field("windows", windows).finish()
            }
            Self::Absent { ttl, tags } => f.debug_struct("Absent").field("ttl", ttl).field("tags", tags).finish(),
        }
    }
}

/// The value itself is never shown.
impl<V> fmt::Debug for Served<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value: _, age, ttl, stale, source } = self;
        let mut shown = f.debug_struct("Served");
        shown.field("age", age).field("ttl", ttl).field("stale", stale).field("source", source);
        shown.finish_non_exhaustive()
    }
}
