//! The kit that tests across crates are written with.

pub mod http;
pub mod redis_server;
pub mod scenario;
pub mod world;
