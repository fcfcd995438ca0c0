//! A thread that waits for a future, and what it does meanwhile.
//!
//! A loader that asks the cache for something else waits on a thread of which there is a limited number. If its own load
//! needed another one of these, enough such loaders at once would wait for each other until their deadlines. So the load
//! runs on the thread that waits for it.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::task::unconstrained;

/// Something to be done on a thread.
pub(super) type Job = Box<dyn FnOnce() + Send>;

thread_local! {
    /// Whether this thread is inside a loader.
    static LOADS: Cell<bool> = const { Cell::new(false) };
}

/// Runs a loader on this thread, of which there is a limited number.
pub(super) fn load<T>(loader: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            LOADS.set(self.0);
        }
    }
    let _before = Before(LOADS.replace(true));
    loader()
}

/// A thread that is about to wait, or does.
pub(super) struct Parked {
    thread: Thread,
    woken: AtomicBool,
    meanwhile: Mutex<Meanwhile>,
}

/// What the thread does while it waits.
enum Meanwhile {
    /// Nothing: it is not inside a loader, it has enough to do, or it waits no longer.
    Nothing,
    /// What it is asked for.
    Anything,
    This(Job),
}

impl Parked {
    /// This thread.
    pub(super) fn here() -> Arc<Self> {
        let meanwhile = Mutex::new(if LOADS.get() { Meanwhile::Anything } else { Meanwhile::Nothing });
        Arc::new(Self { thread: thread::current(), woken: AtomicBool::new(false), meanwhile })
    }

    /// Whether it does something for others while it waits.
    pub(super) fn takes_job(&self) -> bool {
        matches!(*self.meanwhile(), Meanwhile::Anything)
    }

    /// Asks the thread to do something while it waits. `false`: it does not. What it has not begun when it stops waiting is
    /// dropped.
    pub(super) fn offer(&self, job: Job) -> bool {
        let mut meanwhile = self.meanwhile();
        let takes_it = matches!(*meanwhile, Meanwhile::Anything);
        if takes_it {
            *meanwhile = Meanwhile::This(job);
            self.thread.unpark();
        }
        takes_it
    }

    /// Waits for `future`; to be called on the thread that this is, once.
    pub(super) fn block_on<T>(self: &Arc<Self>, future: impl Future<Output = T>) -> T {
        let waker = Waker::from(Arc::clone(self));
        let _until_then = Waits(self);
        // Tokio's budget is that of the task on whose thread this may be: spent, it would not come back while this waits.
        let mut future = pin!(unconstrained(future));
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return value;
            }
            self.work_until_woken();
        }
    }

    fn work_until_woken(&self) {
        while !self.woken.swap(false, Ordering::Acquire) {
            match self.take_job() {
                Some(job) => {
                    job();
                    *self.meanwhile() = Meanwhile::Anything;
                }
                // A token left over from something else wakes it for nothing, and does no harm.
                None => thread::park(),
            }
        }
    }

    /// What it was asked for; until that is done it takes nothing else.
    fn take_job(&self) -> Option<Job> {
        let mut meanwhile = self.meanwhile();
        if !matches!(*meanwhile, Meanwhile::This(_)) {
            return None;
        }
        match std::mem::replace(&mut *meanwhile, Meanwhile::Nothing) {
            Meanwhile::This(job) => Some(job),
            Meanwhile::Nothing | Meanwhile::Anything => None,
        }
    }

    fn meanwhile(&self) -> MutexGuard<'_, Meanwhile> {
        self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// From its end on the thread takes no more jobs, also when what it waits for panics.
struct Waits<'a>(&'a Parked);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        // Dropped without the lock: a job holds a loader, which may hold anything.
        let _dropped = std::mem::replace(&mut *self.0.meanwhile(), Meanwhile::Nothing);
    }
}
