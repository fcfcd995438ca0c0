//! The threads on which the loaders of one cache run: as many as are allowed, each counted until its loader returns.
//!
//! A loader cannot be ended from outside. What hears of its deadline is the load that waits for it; the thread stays taken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tideover_core::Policy;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::sleep_until;

use super::park::{self, Job, Parked};
use crate::engine::Payload;
use crate::loader::{LoadContext, LoadError, Loaded, Loader, boxed_payload};
use crate::outside::Chain;

type Brought = Result<Loaded<Payload>, LoadError>;

type Load = Arc<dyn Fn(LoadContext<Payload>) -> Brought + Send + Sync>;

/// The threads of a blocking cache's loaders, as they are at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoaderThreads {
    /// As many as may load at once.
    pub max: usize,
    /// Those that do.
    pub busy: usize,
    /// Of those, the ones whose load is over: its deadline passed, or everybody who waited has gone, and the loader has not
    /// returned.
    pub stuck: usize,
}

impl LoaderThreads {
    /// As many as the blocking pools of the field have by default or less; each costs a stack.
    const DEFAULT_MAX: usize = 64;
}

/// What all handles of one cache have in common.
#[derive(Clone, Default)]
pub(crate) struct Threads(Arc<OnceLock<Arc<Loaders>>>);

impl Threads {
    pub(super) fn of(&self, runtime: &Handle) -> Arc<Loaders> {
        Arc::clone(self.0.get_or_init(|| Loaders::new(LoaderThreads::DEFAULT_MAX, runtime.clone())))
    }
}

pub(super) struct Loaders {
    max: usize,
    free: Arc<Semaphore>,
    stuck: AtomicUsize,
    runtime: Handle,
    /// Threads inside loaders that wait, and for which key; no more than may load.
    waiting: Mutex<Vec<(Box<str>, Arc<Parked>)>>,
    came: Notify,
}

impl Loaders {
    pub(super) fn new(max: usize, runtime: Handle) -> Arc<Self> {
        let max = max.min(Semaphore::MAX_PERMITS);
        let (free, stuck) = (Arc::new(Semaphore::new(max)), AtomicUsize::new(0));
        Arc::new(Self { max, free, stuck, runtime, waiting: Mutex::default(), came: Notify::new() })
    }

    pub(super) fn threads(&self) -> LoaderThreads {
        let busy = self.max - self.free.available_permits();
        LoaderThreads { max: self.max, busy, stuck: self.stuck.load(Ordering::Relaxed).min(busy) }
    }

    /// Waits until no loader runs.
    pub(super) async fn idle(&self) {
        let all = u32::try_from(self.max).unwrap_or(u32::MAX);
        let _all_or_closed = self.free.acquire_many(all).await;
    }

    /// The loader as the cache takes it: to be run on one of these threads, or on one that waits for it inside another loader.
    pub(super) fn loader(
        self: &Arc<Self>,
        load: impl Fn(LoadContext<Payload>) -> Brought + Send + Sync + 'static,
        policy: Arc<Policy>,
    ) -> Loader {
        let (loaders, load) = (Arc::clone(self), Arc::new(load) as Load);
        boxed_payload(move |context| Arc::clone(&loaders).load(Arc::clone(&load), context), policy)
    }

    async fn load(self: Arc<Self>, load: Load, context: LoadContext<Payload>) -> Brought {
        #[cfg(feature = "testing")]
        if crate::testing::disabled::loads_here() {
            return load(context);
        }
        loop {
            match Arc::clone(&self).place(&context).await? {
                Place::Thread(seat) => {
                    let _interest = seat.interest();
                    let (work, brought) = job(&load, &context, Some(seat));
                    self.runtime.spawn_blocking(work);
                    return brought.await.unwrap_or_else(|_| Err(LoadError::no_thread()));
                }
                Place::Waiting(helper) => {
                    let (work, brought) = job(&load, &context, None);
                    // One that stops waiting drops what it was to do.
                    if helper.offer(work)
                        && let Ok(brought) = brought.await
                    {
                        return brought;
                    }
                }
            }
        }
    }

    /// Where a load can run, by its deadline.
    async fn place(self: Arc<Self>, context: &LoadContext<Payload>) -> Result<Place, LoadError> {
        loop {
            let mut came = pin!(self.came.notified());
            came.as_mut().enable();
            if let Some(helper) = self.helper(&context.key) {
                return Ok(Place::Waiting(helper));
            }
            // Nobody knows when one of them returns, if ever: better to say so at once.
            if self.stuck.load(Ordering::Relaxed) >= self.max {
                return Err(LoadError::no_thread());
            }
            tokio::select! {
                biased;
                permit = Arc::clone(&self.free).acquire_owned() => {
                    let permit = permit.map_err(|_closed| LoadError::no_thread())?;
                    return Ok(Place::Thread(Seat { loaders: Arc::clone(&self), stand: Arc::default(), _permit: permit }));
                }
                () = came => {}
                () = sleep_until(context.deadline) => return Err(LoadError::no_thread()),
            }
        }
    }

    /// For as long as this is held, `thread` waits for what is under `key`. If it is inside a loader, it is one of a limited
    /// number: it runs the load of that key, if that comes to need a thread, and nobody waits for anybody in a circle.
    pub(super) fn waits(self: &Arc<Self>, thread: &Arc<Parked>, key: &str) -> Option<Waiting> {
        if !thread.takes_job() {
            return None;
        }
        self.waiting().push((key.into(), Arc::clone(thread)));
        self.came.notify_waiters();
        Some(Waiting { loaders: Arc::clone(self), thread: Arc::clone(thread) })
    }

    /// A thread that waits for what is under `key`, and does nothing meanwhile.
    fn helper(&self, key: &str) -> Option<Arc<Parked>> {
        let waiting = self.waiting();
        let helps = |(waits_for, thread): &&(Box<str>, Arc<Parked>)| **waits_for == *key && thread.takes_job();
        waiting.iter().find(helps).map(|(_, thread)| Arc::clone(thread))
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(Box<str>, Arc<Parked>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a load can run.
enum Place {
    Thread(Seat),
    Waiting(Arc<Parked>),
}

/// See [`Loaders::waits`].
pub(super) struct Waiting {
    loaders: Arc<Loaders>,
    thread: Arc<Parked>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.loaders.waiting().retain(|(_, thread)| !Arc::ptr_eq(thread, &self.thread));
    }
}

/// A load to be run on some thread, inside the loads that it was asked for in, and where what it brings arrives.
fn job(load: &Load, context: &LoadContext<Payload>, seat: Option<Seat>) -> (Job, oneshot::Receiver<Brought>) {
    let (sender, brought) = oneshot::channel();
    let (load, context, chain) = (Arc::clone(load), context.clone(), Chain::here());
    let job = move || {
        let loaded = catch_unwind(AssertUnwindSafe(|| park::load(|| chain.enter(|| load(context)))));
        // First: whoever hears that the load is over finds the thread free.
        drop(seat);
        let _nobody_waits = sender.send(loaded.unwrap_or_else(|_panic| Err(LoadError::panicked())));
    };
    (Box::new(job), brought)
}

/// A thread that a load has. It is free again when this is dropped.
struct Seat {
    loaders: Arc<Loaders>,
    /// One of the constants below.
    stand: Arc<AtomicU8>,
    _permit: OwnedSemaphorePermit,
}

const LOADS: u8 = 0;
const STUCK: u8 = 1;
const ENDED: u8 = 2;

impl Seat {
    /// To be held by whoever waits for the load.
    fn interest(&self) -> Interest {
        Interest { loaders: Arc::clone(&self.loaders), stand: Arc::clone(&self.stand) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.stand.swap(ENDED, Ordering::AcqRel) == STUCK {
            self.loaders.stuck.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

struct Interest {
    loaders: Arc<Loaders>,
    stand: Arc<AtomicU8>,
}

impl Drop for Interest {
    fn drop(&mut self) {
        // Counted before it is said, so that the other side never counts down first.
        self.loaders.stuck.fetch_add(1, Ordering::Relaxed);
        if self.stand.compare_exchange(LOADS, STUCK, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            self.loaders.stuck.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
