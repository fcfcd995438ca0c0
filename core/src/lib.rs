//! What a resilient cache does next, as state machines without I/O.
//!
//! This crate decides; a driver acts. It never asks for the time (every call brings `now`), never draws on the world's
//! randomness (the seed is given at birth), never blocks, spawns or calls back, and bounds everything it keeps.
//!
//! # The protocol
//!
//! [`Cache::lookup`] answers the caller at once, or names the *flight* to wait for. [`Cache::command`] does the same for
//! changes. If there is a launch, the driver flies that flight: it does the [`Step`], hands what became of it to
//! [`Cache::resume`], gets the next step, and so on to [`Step::Done`]. Caller and driver are independent: whoever called
//! is only ever a waiter, and four combinations are the whole feature:
//!
//! | answer | launch | what it is |
//! |---|---|---|
//! | served | none | a fresh hit, or stale with a refresh under way already |
//! | served | a flight | stale, first to notice |
//! | pending | a flight | the leader |
//! | pending | none | a follower |
//!
//! A whole driver, for one thread and a loader that never fails:
//!
//! ```
//! use tideover_core::{
//!     Answer, Cache, Call, Event, Instant, Launch, Loaded, Outcome, Policy, Source, Step,
//! };
//!
//! let mut cache: Cache<&str, &str> = Cache::new(Policy::default(), 1)?;
//! let now = Instant::ZERO;
//!
//! let lookup = cache.lookup(&"greeting", Call::default(), now);
//! assert!(matches!(lookup.answer, Answer::Pending { .. }));
//! let Launch { flight, mut step } = lookup.launch.expect("the first to ask leads");
//! let mut landed = None;
//! loop {
//!     let event = match step {
//!         Step::Load { .. } => Event::Loaded(Ok(Loaded::new("hello"))),
//!         Step::Land { outcome, .. } => {
//!             landed = Some(outcome);
//!             Event::Landed
//!         }
//!         Step::Done { .. } => break,
//!         step => unreachable!("without a store and without failures there is no {step:?}"),
//!     };
//!     step = cache.resume(flight, event, now);
//! }
//! assert!(matches!(landed, Some(Outcome::Served(served)) if served.value == "hello"));
//!
//! let again = cache.lookup(&"greeting", Call::default(), now);
//! assert!(matches!(again.answer, Answer::Now(Outcome::Served(hit)) if hit.source == Source::Memory));
//! # Ok::<(), tideover_core::PolicyError>(())
//! ```
//!
//! A real driver does three things more: it drops what it does at a step's deadline and reports a time-out; it tells
//! [`Cache::leave`] when a caller goes away and [`Cache::expire`] when one has waited long enough; and it resumes a
//! flight with [`Event::Abandoned`] when it cannot go on. The table of steps and events is in [`step`].
//!
//! # The machines
//!
//! Each can be used by itself; its page has its states, defaults and sources.
//!
//! | machine | what it decides |
//! |---|---|
//! | [`entry`] | what may be done with a value of a certain age: the zones of RFC 5861 |
//! | [`memory`], [`eviction`], [`tags`] | what is kept, whom a full memory gives up, what an invalidation reaches |
//! | [`breaker`] | whether a dependency may be asked now |
//! | [`backoff`], [`budget`] | when to try again, and whether anybody may |
//! | [`limit`], [`latency`] | how many loads may be under way, fixed or learnt from what they take |
//! | [`envelope`], [`stamp`], [`civil`] | how an entry lies in a shared store, whose write wins there, dates that do not jump |
//! | `direct` | who answers operations on plain bytes while the store is away, and how what they changed is paid |
//! | [`cache`] | all of them together: [`Machine`] and [`Cache`]; [`policy`] holds every choice |
//!
//! # Two profiles
//!
//! With the feature `alloc` (on by default) everything grows on the heap, bounded by the policy. Without it a [`Fixed`]
//! profile gives each part a room of its own, and nothing allocates; both take the same steps. The feature `spin` adds
//! a cache that threads share without a standard library. Snapshots, explanations, direct operations and options written as
//! text need `alloc`.
#![no_std]
#![forbid(unsafe_code)]
#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

#[macro_use]
mod counts;

pub mod backoff;
pub mod breaker;
pub mod budget;
pub mod cache;
pub mod civil;
#[cfg(feature = "alloc")]
pub mod direct;
pub mod entropy;
pub mod entry;
pub mod envelope;
pub mod eviction;
pub mod failure;
mod flight;
mod journal;
pub mod latency;
pub mod limit;
pub mod memory;
mod outdated;
#[cfg(feature = "alloc")]
pub mod pattern;
pub mod policy;
mod seal;
#[cfg(feature = "spin")]
pub mod shared;
pub mod stamp;
pub mod step;
pub mod storage;
pub mod tags;
pub mod time;
pub mod value;

pub use crate::cache::{Cache, Machine, Shards};
pub use crate::entry::{Entry, Windows, Zone};
pub use crate::eviction::Eviction;
pub use crate::failure::{Class, Failure, LoadFailure, Refusal, StoreAway, StoreFailure};
pub use crate::policy::{Policy, PolicyError};
pub use crate::step::{
    Absence, Answer, Call, Command, Event, FlightId, Found, Launch, Leased, Left, Loaded, LoaderId, Lookup, News, Note,
    Outcome, Served, Settled, Sharing, Source, Stale, Step, StoreUse, Tidings, Tier,
};
pub use crate::storage::{Fixed, Profile};
pub use crate::time::{Clock, Instant, WallTime};
pub use crate::value::{Invalidation, Tag, Value};
