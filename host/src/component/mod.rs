//! The components of `tideover-guest` in wasmtime: [`PolicyEngine`] runs the machine of world `policy` under this crate's
//! driver, [`Embedding`] runs the whole cache of world `cache`.
//!
//! A component has no authority but what its world imports, a bounded memory, and a bounded time before it has to give
//! control back. It is not expected to break. When it does, those whose calls were in it get an
//! [`EngineError`], an empty instance takes its place, and the service goes on.

mod bindings;
mod calls;
mod convert;
mod embedding;
mod hearsay;
mod imports;
mod policy;
#[cfg(test)]
mod tests;

use std::thread;
use std::time::Duration;

use tideover_core::Policy;
use wasmtime::{Config, Engine, StoreLimits, StoreLimitsBuilder};

/// The component of world `tideover:cache/policy`, for hosts of one's own: the machine, which imports nothing.
pub const POLICY_COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/policy.wasm"));

/// The component of world `tideover:cache/cache`, for hosts of one's own: a cache that imports its store, its loader and
/// a clock.
pub const CACHE_COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cache.wasm"));

pub(crate) use self::embedding::Embedding;
pub use self::policy::PolicyEngine;
use crate::engine::EngineError;

/// What the memory of one instance may grow to: entries, waiters, and all else. Past it the instance breaks, so
/// `entries_max` times the size of a value is to stay well below.
const MEMORY_BYTES_MAX: usize = if cfg!(test) { 16 << 20 } else { 1 << 30 };

/// How often the clock that interrupts a component ticks.
const TICK: Duration = Duration::from_millis(100);

/// Ticks that a component may run on without giving control back. It needs a small part of one; the rest is for hosts
/// that are suspended or overloaded, so that this is never the fault of the component.
const TICKS_MAX: u64 = 10;

/// A wasmtime engine and the thread that ticks for it. Meant to be made once for each process.
fn engine(config: &mut Config) -> Result<Engine, EngineError> {
    let engine = Engine::new(config.epoch_interruption(true)).map_err(|error| broken(&error))?;
    let ticked = engine.weak();
    let tick = move || {
        while let Some(engine) = ticked.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(TICK);
        }
    };
    let ticker = thread::Builder::new().name("tideover-ticks".to_owned()).spawn(tick);
    ticker.map(|_detached| engine).map_err(|error| EngineError(format!("its ticking thread cannot start: {error}")))
}

fn limits() -> StoreLimits {
    StoreLimitsBuilder::new().memory_size(MEMORY_BYTES_MAX).memories(1).tables(4).instances(8).build()
}

/// What is wrong, without the component's stack.
fn broken(error: &wasmtime::Error) -> EngineError {
    EngineError(error.root_cause().to_string())
}

/// The choices of `policy`, as both worlds take them.
fn settings(policy: &Policy) -> Vec<bindings::types::Setting> {
    let setting = |name: &str| {
        let value = policy.text(name)?;
        Some(bindings::types::Setting { name: name.to_owned(), value })
    };
    Policy::OPTIONS.iter().filter_map(|option| setting(option.name)).collect()
}

/// The settings were valid here, so a component that refuses them is not of this build.
fn refused(error: &bindings::types::PolicyError) -> EngineError {
    EngineError(format!("it refuses the setting {}: {}", error.name, error.reason))
}
