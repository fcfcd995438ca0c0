//! What a cache and its stores do with real servers, which each test starts for itself. What becomes of them when servers
//! fail is in `faults`.

mod backplane;
mod lease;
mod outage;
mod redis_deployments;
mod redis_limits;
mod redis_log;
mod redis_store;
mod shared;
mod store_conformance;
