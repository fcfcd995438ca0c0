//! skeleton
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
pub mod failure;
mod flight;
mod journal;
pub mod memory;
pub mod policy;
pub mod step;
pub mod time;

pub use crate::entry::{Entry, Windows, Zone};
pub use crate::failure::{Class, Failure, LoadFailure, Refusal, StoreFailure};
pub use crate::policy::{Policy, PolicyError};
pub use crate::time::{Clock, Instant, WallTime};
pub use crate::cache::{Cache, Machine, Shards};
pub use crate::step::{Answer, Call, Command, Event, FlightId, Launch, Left, Loaded, Lookup, Outcome, Served, Settled, Sharing, Source, Stale, Step, Tier};
