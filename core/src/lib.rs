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
//! use core::time::Duration;
//! use tideover_core::{
//!     Answer, Cache, Call, Event, Instant, Launch, Loaded, Outcome, Policy, Sharing, Source, Step,
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
//!         Step::Load { .. } => Event::Loaded(Ok(Loaded {
//!             value: "hello",
//!             age: Duration::ZERO,
//!             windows: None,
//!             sharing: Sharing::Store,
//!         })),
//!         Step::Land { outcome } => {
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
//! Each can be used by itself: [`memory`] (LRU with freshness), [`breaker`], [`backoff`], [`entry`] (the zones of
//! freshness), [`envelope`] (how an entry lies in a shared store). [`cache`] composes them; [`policy`] holds every choice.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
#[cfg(test)]
extern crate std;

#[macro_use]
mod counts;

pub mod backoff;
pub mod breaker;
pub mod cache;
pub mod entropy;
pub mod entry;
pub mod envelope;
pub mod eviction;
pub mod failure;
mod flight;
mod journal;
pub mod memory;
pub mod policy;
pub mod step;
pub mod storage;
pub mod tags;
pub mod time;
pub mod value;

pub use crate::cache::{Cache, Machine, Shards};
pub use crate::entry::{Entry, Windows, Zone};
pub use crate::eviction::Eviction;
pub use crate::failure::{Class, Failure, LoadFailure, Refusal, StoreFailure};
pub use crate::policy::{Policy, PolicyError};
pub use crate::step::{
    Answer, Call, Command, Event, FlightId, Launch, Left, Loaded, Lookup, Outcome, Served, Settled, Sharing, Source,
    Stale, Step, Tier,
};
pub use crate::storage::{Fixed, Profile};
pub use crate::tags::Invalidation;
pub use crate::time::{Clock, Instant, WallTime};
pub use crate::value::{Tag, Value};
