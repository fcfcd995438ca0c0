//! A cache that tides a service over when what it depends on is slow, stale or down.
//!
//! ```
//! use std::time::Duration;
//! use tideover::{Cache, LoadError, Loaded, Source};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tideover::Error> {
//! let cache = Cache::builder()
//!     .ttl(Duration::from_secs(60))
//!     .stale_while_revalidate(Duration::from_secs(30))
//!     .stale_if_error(Duration::from_secs(3600))
//!     .build()?;
//!
//! let load = |_| async { Ok(Loaded::new("Ada")) };
//! let user = cache.get_or_load("user:7", load).await?;
//! assert_eq!((&user.value[..], user.source), (&b"Ada"[..], Source::Load));
//!
//! let user = cache.get_or_load("user:7", |_| async { Err(LoadError::unavailable("not asked")) }).await?;
//! assert_eq!(user.source, Source::Memory);
//! # cache.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! Behind memory there may be a shared [`store`]: [`Builder::store`] takes a [`store::RedisStore`]. Where the policy runs is
//! a choice, too: compiled in, or in a WebAssembly sandbox ([`EngineKind`]). What is decided, and when, is written in
//! [`core`]; every choice is a field of [`Policy`].

#[cfg(feature = "blocking")]
pub mod blocking;
mod cache;
mod clock;
pub mod codec;
#[cfg(feature = "component")]
mod component;
#[cfg(feature = "config")]
pub mod config;
pub mod direct;
mod driver;
pub mod engine;
mod error;
#[doc(hidden)]
#[cfg(feature = "macros")]
pub mod function;
#[cfg(feature = "gateway")]
pub mod gateway;
mod loader;
pub mod observe;
mod outside;
#[cfg(any(feature = "gateway", feature = "tower"))]
mod responses;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod typed;
mod watch;
#[cfg(feature = "tower")]
pub mod web;
pub mod writes;

pub use bytes::Bytes;
pub use tideover_core as core;
pub use tideover_core::breaker::Mode as BreakerMode;
pub use tideover_core::cache::Dependency;
pub use tideover_core::cache::explain::Story;
pub use tideover_core::cache::snapshot::{Restored, SnapshotError, Taken};
pub use tideover_core::memory::Reason as RemovalReason;
pub use tideover_core::{
    Class, Invalidation, LoaderId, Policy, PolicyError, Refusal, Settled, Source, Stale, StoreAway, StoreUse, Windows,
};

pub use crate::cache::{Builder, Cache, CallOptions, EngineKind, Fetched, Ttl, TtlBuckets};
pub use crate::direct::Direct;
pub use crate::engine::EngineError;
pub use crate::error::Error;
#[cfg(feature = "macros")]
pub use crate::function::{FunctionHealth, FunctionStats, InstallError, cached, install, invalidates};
pub use crate::loader::{LoadContext, LoadError, Loaded};
pub use crate::observe::{Event, Events, Health};
pub use crate::typed::{Cacheable, CallError, Typed};
pub use crate::writes::{Invalidate, Recache, transaction};
