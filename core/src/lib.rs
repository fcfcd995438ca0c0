//! skeleton
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod backoff;
pub mod breaker;
pub mod entropy;
pub mod entry;
pub mod failure;
pub mod memory;
pub mod policy;
pub mod time;

pub use crate::entry::{Entry, Windows, Zone};
pub use crate::failure::{Class, Failure, LoadFailure, Refusal, StoreFailure};
pub use crate::policy::{Policy, PolicyError};
pub use crate::time::{Clock, Instant, WallTime};
