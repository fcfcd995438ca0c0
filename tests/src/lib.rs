//! The kit that tests across crates are written with.

pub mod diary;
pub mod driving;
#[cfg(feature = "component")]
pub mod embedder;
pub mod fixed;
pub mod http;
pub mod proxy;
pub mod redis_server;
pub mod scenario;
pub mod witness;
pub mod world;

/// The README's example, compiled with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
