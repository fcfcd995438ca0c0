//! The runtime of all blocking caches of this process: started with the first, and never ended. So dropping a cache drops
//! no runtime, which tokio forbids inside another, and the flights of a cache that was dropped end by themselves.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::block_in_place;

use crate::error::Error;

/// Flights compute little; a second thread keeps timers going while one works.
const WORKERS: usize = 2;

/// Each cache has a limit of its own for its loaders ([`Loaders`](super::loaders::Loaders)); one cache whose threads are all
/// held must not stop another.
const THREADS_MAX: usize = 1 << 20;

thread_local! {
    /// Whether this thread belongs to the runtime.
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// The runtime, started if it is not yet.
///
/// # Errors
///
/// [`Error::Threads`].
pub(crate) fn handle() -> Result<Handle, Error> {
    static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*runtime {
        return Ok(runtime.handle().clone());
    }
    let started = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(THREADS_MAX)
        .thread_name("tideover")
        .on_thread_start(|| OURS.set(true))
        .enable_all()
        .build()
        .map_err(|error| Error::Threads(Arc::new(error)))?;
    Ok(runtime.insert(started).handle().clone())
}

/// Runs what blocks. On a thread of the runtime, another one takes over what this one had to do: if all of them waited,
/// nobody would be left to end it.
pub(super) fn beside<T>(work: impl FnOnce() -> T) -> T {
    if OURS.get() { block_in_place(work) } else { work() }
}
