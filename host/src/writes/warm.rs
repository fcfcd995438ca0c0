//! Filling a cache before it is needed: a bounded number of loads at a time, until all is there, time is up, or the origin
//! turns out not to be.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tideover_core::{LoaderId, Source};
use tokio::time::Instant;

use crate::cache::{Cache, CallOptions};
use crate::clock::after;
use crate::engine::Key;
use crate::error::Error;
use crate::loader::{LoadContext, LoadError, Loaded, Loader, boxed, lasting};
use crate::typed::{Cacheable, Typed};

/// So many loads at once, unless something else is said.
const AT_ONCE: usize = 8;

/// Keys that are to be loaded before anybody asks for them. [`run`](Self::run) does it.
///
/// What is fresh already is left alone. Loads are those of the cache, with everything that protects the origin: a caller
/// that asks for a key meanwhile joins its load, limits and retries hold, and when the circuit of the loader opens the
/// warming ends there instead of failing for each key that is left. Keys are taken from their iterator as they are
/// needed.
///
/// ```
/// use std::time::Duration;
/// use tideover::writes::WarmEnd;
/// use tideover::{Cache, LoadContext, Loaded};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::Error> {
/// let cache = Cache::builder().build()?;
/// cache.put("page:0", "hello", None).await?;
///
/// let load = |context: LoadContext| async move { Ok(Loaded::new(context.key.as_bytes().to_vec())) };
/// let warmed = cache
///     .warm((0..100).map(|number| format!("page:{number}")), load)
///     .concurrency(4)
///     .budget(Duration::from_secs(20))
///     .progress(|progress| assert!(progress.done() <= 100 && progress.total == Some(100)))
///     .run()
///     .await;
/// assert_eq!((warmed.progress.loaded, warmed.progress.fresh, warmed.progress.failed), (99, 1, 0));
/// assert_eq!(warmed.ended, WarmEnd::Done);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is loaded until it is run"]
pub struct Warming {
    cache: Cache,
    jobs: Box<dyn Iterator<Item = (Key, Loader)> + Send>,
    options: CallOptions,
    /// Whose circuit is asked, unless the options say.
    loader: LoaderId,
    concurrency: usize,
    budget: Option<Duration>,
    progress: Option<Box<dyn FnMut(Progress) + Send>>,
}

/// How far a [`Warming`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Progress {
    /// Keys that were loaded.
    pub loaded: usize,
    /// Keys that needed no load: memory or store had a fresh value.
    pub fresh: usize,
    /// Keys under which there is no such thing.
    pub absent: usize,
    /// Keys that could not be loaded, or for which something stale stood in.
    pub failed: usize,
    /// How many keys there are, if their iterator knows.
    pub total: Option<usize>,
    /// Since the beginning.
    pub elapsed: Duration,
}

impl Progress {
    /// Keys that need nothing more, whatever became of them.
    #[must_use]
    pub const fn done(&self) -> usize {
        self.loaded + self.fresh + self.absent + self.failed
    }
}

/// What has become of a [`Warming`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Warmed {
    /// How far it got.
    pub progress: Progress,
    /// Why it ended.
    pub ended: WarmEnd,
    /// Why the first key failed, if one did.
    pub error: Option<Error>,
}

/// Why a [`Warming`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarmEnd {
    /// There are no keys left.
    Done,
    /// Its time was up. Loads that only it waited for were given up.
    OutOfTime,
    /// The circuit of the loader is open: the origin is not to be asked.
    CircuitOpen {
        /// How long until it may be asked again; `None` if an operator has opened the circuit.
        retry_after: Option<Duration>,
    },
    /// The cache was shut down.
    Closed,
}

impl Warming {
    fn new(cache: Cache, loader: LoaderId, jobs: impl Iterator<Item = (Key, Loader)> + Send + 'static) -> Self {
        let (jobs, options) = (Box::new(jobs), CallOptions::new());
        Self { cache, jobs, options, loader, concurrency: AT_ONCE, budget: None, progress: None }
    }

    /// So many keys at once, at least one. The default is 8.
    pub fn concurrency(self, at_once: usize) -> Self {
        Self { concurrency: at_once.max(1), ..self }
    }

    /// It ends after so long, whatever is left. By default it takes the time that it takes.
    pub fn budget(self, budget: Duration) -> Self {
        Self { budget: Some(budget), ..self }
    }

    /// Wishes for each call: a limit for its time, say, or how fresh what is there has to be.
    pub fn options(self, options: CallOptions) -> Self {
        Self { options, ..self }
    }

    /// Called after each key. It is called in the task that waits for the warming, and should be quick.
    pub fn progress(self, progress: impl FnMut(Progress) + Send + 'static) -> Self {
        Self { progress: Some(Box::new(progress)), ..self }
    }

    /// Loads them. Dropping the future ends it: loads that nobody else waits for are given up.
    pub async fn run(self) -> Warmed {
        let Self { cache, mut jobs, options, loader, concurrency, budget, mut progress } = self;
        let options = options.or_loader(loader);
        let (began, until) = (Instant::now(), budget.map(after));
        let total = match jobs.size_hint() {
            (least, Some(most)) if least == most => Some(most),
            _ => None,
        };
        let mut warmed =
            Warmed { progress: Progress { total, ..Progress::default() }, ended: WarmEnd::Done, error: None };
        let mut under_way = FuturesUnordered::new();
        loop {
            while warmed.ended == WarmEnd::Done && under_way.len() < concurrency {
                let Some((key, loader)) = jobs.next() else { break };
                under_way.push(one(cache.clone(), key, loader, options));
            }
            let next = match until {
                Some(until) => tokio::time::timeout_at(until, under_way.next()).await,
                None => Ok(under_way.next().await),
            };
            match next {
                Ok(Some(brought)) => warmed.count(brought),
                Ok(None) => break,
                Err(_elapsed) => {
                    warmed.ended = WarmEnd::OutOfTime;
                    break;
                }
            }
            warmed.progress.elapsed = began.elapsed();
            if let Some(progress) = &mut progress {
                progress(warmed.progress);
            }
        }
        warmed.progress.elapsed = began.elapsed();
        warmed
    }
}

/// What became of one key.
enum Brought {
    Loaded,
    Fresh,
    Absent,
    Failed(Option<Error>),
}

async fn one(cache: Cache, key: Key, loader: Loader, options: CallOptions) -> Brought {
    match cache.load(&key, lasting(loader, options.windows), options).await.0 {
        Ok(fetched) if fetched.source == Source::Load => Brought::Loaded,
        Ok(fetched) if !fetched.is_stale() => Brought::Fresh,
        Ok(_stale) => Brought::Failed(None),
        Err(error) if error.is_absent() => Brought::Absent,
        Err(error) => Brought::Failed(Some(error)),
    }
}

impl Warmed {
    fn count(&mut self, brought: Brought) {
        let count = match &brought {
            Brought::Loaded => &mut self.progress.loaded,
            Brought::Fresh => &mut self.progress.fresh,
            Brought::Absent => &mut self.progress.absent,
            Brought::Failed(_) => &mut self.progress.failed,
        };
        *count += 1;
        let Brought::Failed(Some(error)) = brought else { return };
        // What is under way is waited for, nothing more is begun.
        match error {
            Error::Open { retry_after } => self.ended = WarmEnd::CircuitOpen { retry_after },
            Error::Closed => self.ended = WarmEnd::Closed,
            _ => {}
        }
        self.error.get_or_insert(error);
    }
}

/// Says how, not what.
impl fmt::Debug for Warming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cache, concurrency, budget, .. } = self;
        let mut shown = f.debug_struct("Warming");
        shown.field("cache", cache).field("concurrency", concurrency).field("budget", budget).finish_non_exhaustive()
    }
}

impl Cache {
    /// These keys are to be loaded before anybody asks for them; see [`Warming`].
    pub fn warm<I, F, Fut>(&self, keys: I, load: F) -> Warming
    where
        I: IntoIterator<Item: AsRef<str>, IntoIter: Send + 'static>,
        F: Fn(LoadContext<Bytes>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Loaded, LoadError>> + Send + 'static,
    {
        let loader = boxed(load, self.shared_policy());
        let jobs = keys.into_iter().map(move |key| (Key::from(key.as_ref()), Loader::clone(&loader)));
        Warming::new(self.clone(), LoaderId::UNNAMED, jobs)
    }
}

impl<V: Cacheable> Typed<V> {
    /// These keys are to be loaded before anybody asks for them; see [`Warming`]. The loader finds the key in its
    /// context.
    pub fn warm<I, L, E, F, Fut>(&self, keys: I, load: F) -> Warming
    where
        I: IntoIterator<Item: AsRef<str>, IntoIter: Send + 'static>,
        L: Into<Loaded<V>>,
        E: Send + Sync + 'static,
        F: Fn(LoadContext<Arc<V>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
    {
        let loader = self.boxed(load, None);
        let jobs = keys.into_iter().map(move |key| (Key::from(key.as_ref()), Loader::clone(&loader)));
        Warming::new(self.cache().clone(), self.loader_id(), jobs)
    }

    /// As [`warm`](Self::warm), each key with a loader of its own.
    pub fn warm_each<I, K, L, E, F, Fut>(&self, pairs: I) -> Warming
    where
        I: IntoIterator<Item = (K, F), IntoIter: Send + 'static>,
        K: AsRef<str>,
        L: Into<Loaded<V>>,
        E: Send + Sync + 'static,
        F: Fn(LoadContext<Arc<V>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
    {
        let typed = self.clone();
        let jobs = pairs.into_iter().map(move |(key, load)| (Key::from(key.as_ref()), typed.boxed(load, None)));
        Warming::new(self.cache().clone(), self.loader_id(), jobs)
    }
}
