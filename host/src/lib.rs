//! A cache that tides a service over when what it depends on is slow, stale or down.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cache;
mod clock;
#[cfg(feature = "component")]
mod component;
mod driver;
pub mod engine;
mod error;
#[cfg(feature = "gateway")]
pub mod gateway;
mod loader;
pub mod store;
mod watch;

pub use bytes::Bytes;
pub use tideover_core as core;
pub use tideover_core::{Class, Policy, PolicyError, Refusal, Settled, Sharing, Source, Stale, Windows};

pub use crate::cache::{Builder, Cache, EngineKind, Fetched};
pub use crate::engine::EngineError;
pub use crate::error::Error;
pub use crate::loader::{LoadContext, LoadError, Loaded};
