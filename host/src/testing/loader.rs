//! A loader that does what a test has written down for it.

use std::collections::VecDeque;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::loader::{LoadContext, LoadError, Loaded};

/// A loader with a script: its first call does the first act, its second the second. It counts its calls, and a call for
/// which nothing is written panics, which the cache takes for a failed load; [`assert_played`](Self::assert_played) tells of
/// both. All clones are the same loader.
///
/// `V` and `E` are the values and errors of the cache that it loads for: without them those of [`Cache`](crate::Cache), with
/// them those of a [`Typed`](crate::Typed).
///
/// ```
/// use tideover::testing::{self, ScriptedLoader};
/// use tideover::{LoadError, Loaded};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::Error> {
/// let cache = testing::cache();
/// let script = ScriptedLoader::new().error(LoadError::unavailable("down")).value(Loaded::new("v"));
///
/// assert!(cache.get_or_load("k", script.loader()).await.is_err());
/// assert_eq!(cache.get_or_load("k", script.loader()).await?.value, "v");
/// assert_eq!(cache.get_or_load("k", script.loader()).await?.value, "v");
/// assert_eq!(script.calls(), 2, "the third was a hit");
/// script.assert_played();
/// # Ok(())
/// # }
/// ```
pub struct ScriptedLoader<V = bytes::Bytes, E = LoadError>(Arc<Play<V, E>>);

struct Play<V, E> {
    script: Mutex<Script<V, E>>,
    gate: Gate,
}

struct Script<V, E> {
    acts: VecDeque<Act<V, E>>,
    /// What every call does that finds no act.
    afterwards: Option<Box<dyn Fn() -> Loaded<V> + Send>>,
    /// When the next act that is written begins.
    begin: Begin,
    calls: usize,
    /// Calls for which nothing was written.
    unwritten: usize,
}

struct Act<V, E> {
    begin: Begin,
    what: What<V, E>,
}

#[derive(Clone, Copy, Default)]
struct Begin {
    held: bool,
    after: Duration,
}

enum What<V, E> {
    Bring(Result<Loaded<V>, E>),
    Hang,
    Panic,
}

impl<V, E> Clone for ScriptedLoader<V, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V, E> Default for ScriptedLoader<V, E> {
    fn default() -> Self {
        let (acts, begin) = (VecDeque::new(), Begin::default());
        let script = Script { acts, afterwards: None, begin, calls: 0, unwritten: 0 };
        Self(Arc::new(Play { script: Mutex::new(script), gate: Gate::default() }))
    }
}

impl<V: Send + 'static, E: Send + 'static> ScriptedLoader<V, E> {
    /// A loader with nothing written yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next call brings this: a value, or a [`Loaded`] with a ttl, tags or an absence.
    #[must_use]
    pub fn value(self, value: impl Into<Loaded<V>>) -> Self {
        self.then(What::Bring(Ok(value.into())))
    }

    /// The next call fails with this.
    #[must_use]
    pub fn error(self, error: E) -> Self {
        self.then(What::Bring(Err(error)))
    }

    /// The next call never ends. A thread that makes it is lost; [`held`](Self::held) is for those that shall return.
    #[must_use]
    pub fn hang(self) -> Self {
        self.then(What::Hang)
    }

    /// The next call panics.
    #[must_use]
    pub fn panic(self) -> Self {
        self.then(What::Panic)
    }

    /// What is written next takes so long: by tokio's clock, and on threads by the real one.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        self.script().begin.after = time;
        self
    }

    /// What is written next waits until the test lets it go on: [`release`](Self::release).
    #[must_use]
    pub fn held(self) -> Self {
        self.script().begin.held = true;
        self
    }

    /// All calls for which nothing else is written bring this.
    #[must_use]
    pub fn then_always(self, value: impl Into<Loaded<V>>) -> Self
    where
        V: Clone,
    {
        let value = value.into();
        self.script().afterwards = Some(Box::new(move || value.clone()));
        self
    }

    fn then(self, what: What<V, E>) -> Self {
        {
            let mut script = self.script();
            let begin = std::mem::take(&mut script.begin);
            script.acts.push_back(Act { begin, what });
        }
        self
    }

    /// Lets one call go on that is held, or the next one that would be.
    pub fn release(&self) {
        self.0.gate.open();
    }

    /// It, as caches take it.
    pub fn loader<C>(
        &self,
    ) -> impl Fn(LoadContext<C>) -> BoxFuture<'static, Result<Loaded<V>, E>> + Send + Sync + 'static {
        let loader = self.clone();
        move |_context| {
            let (act, loader) = (loader.next(), loader.clone());
            async move {
                if act.begin.held {
                    loader.0.gate.pass().await;
                }
                tokio::time::sleep(act.begin.after).await;
                match act.what {
                    What::Bring(brought) => brought,
                    What::Hang => pending().await,
                    What::Panic => panic!("as the script wants it"),
                }
            }
            .boxed()
        }
    }

    /// It, as [blocking](crate::blocking) caches take it.
    #[cfg(feature = "blocking")]
    pub fn blocking_loader<C>(&self) -> impl Fn(LoadContext<C>) -> Result<Loaded<V>, E> + Send + Sync + 'static {
        let loader = self.clone();
        move |_context| {
            let act = loader.next();
            if act.begin.held {
                loader.0.gate.pass_blocking();
            }
            std::thread::sleep(act.begin.after);
            match act.what {
                What::Bring(brought) => brought,
                What::Hang => loop {
                    std::thread::park();
                },
                What::Panic => panic!("as the script wants it"),
            }
        }
    }

    fn next(&self) -> Act<V, E> {
        let mut script = self.script();
        script.calls += 1;
        if let Some(act) = script.acts.pop_front() {
            return act;
        }
        let always = script.afterwards.as_ref().map(|afterwards| What::Bring(Ok(afterwards())));
        script.unwritten += usize::from(always.is_none());
        Act { begin: Begin::default(), what: always.unwrap_or(What::Panic) }
    }

    /// How often it was called.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.script().calls
    }

    /// All that is written was played, and nothing was asked for that is not.
    ///
    /// # Panics
    ///
    /// If not, saying what is left or was too much.
    #[track_caller]
    pub fn assert_played(&self) {
        let (calls, left, unwritten) = {
            let script = self.script();
            (script.calls, script.acts.len(), script.unwritten)
        };
        assert!(left == 0, "the loader was called {calls} times, and {left} acts of its script were not played");
        assert!(unwritten == 0, "the loader was called {calls} times, {unwritten} times more than its script has acts");
    }

    fn script(&self) -> MutexGuard<'_, Script<V, E>> {
        self.0.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says how far it has come, never what it brings.
impl<V: Send + 'static, E: Send + 'static> fmt::Debug for ScriptedLoader<V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let script = self.script();
        f.debug_struct("ScriptedLoader").field("calls", &script.calls).field("left", &script.acts.len()).finish()
    }
}

/// Lets as many pass as it was opened for.
#[derive(Default)]
struct Gate {
    open_for: Mutex<usize>,
    tasks: Notify,
    threads: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open_for() += 1;
        self.tasks.notify_waiters();
        self.threads.notify_all();
    }

    async fn pass(&self) {
        loop {
            let mut opened = std::pin::pin!(self.tasks.notified());
            opened.as_mut().enable();
            if self.try_pass() {
                return;
            }
            opened.await;
        }
    }

    #[cfg(feature = "blocking")]
    fn pass_blocking(&self) {
        let opened = self.threads.wait_while(self.open_for(), |open_for| *open_for == 0);
        *opened.unwrap_or_else(PoisonError::into_inner) -= 1;
    }

    fn try_pass(&self) -> bool {
        let mut open_for = self.open_for();
        let passes = *open_for > 0;
        *open_for -= usize::from(passes);
        passes
    }

    fn open_for(&self) -> MutexGuard<'_, usize> {
        self.open_for.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
