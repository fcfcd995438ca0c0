//! What is loaded again after an invalidation, so that the next reader does not wait for it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use tracing::{Instrument, warn};

/// So many are under way at once, unless something else is said.
const AT_ONCE: usize = 8;

/// So long one may take, unless something else is said.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What is to be called after a write, to have it cached again: reads, each with a name for reports and logs.
///
/// It begins when the invalidations have taken effect, by default behind whoever wrote. Eight are under way at once, each
/// for up to 30 seconds. One that fails or panics stops none of the others.
///
/// ```
/// use tideover::writes::{Invalidate, Recache, RecacheReason, invalidate};
/// use tideover::{Cache, Loaded};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::Error> {
/// let cache = Cache::builder().build()?;
/// let profile = cache.clone();
/// let recache = Recache::new()
///     .with("profile", async move {
///         profile.get_or_load("user:profile:7", |_| async { Ok(Loaded::new("Ada")) }).await.map(drop)
///     })
///     .with("settings", async { Err("the settings are locked") })
///     .concurrency(3)
///     .wait();
///
/// let recached = invalidate(&cache, Invalidate::new().tag("user:7"), recache).await.recached.expect("waited for");
/// assert_eq!((recached.done, &*recached.failed[0].name), (1, "settings"));
/// assert!(matches!(recached.failed[0].reason, RecacheReason::Failed(_)));
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is loaded by it alone"]
pub struct Recache {
    warmers: Vec<Warmer>,
    concurrency: usize,
    timeout: Duration,
    waits: bool,
}

struct Warmer {
    name: Cow<'static, str>,
    call: BoxFuture<'static, Result<(), Cause>>,
}

type Cause = Box<dyn StdError + Send + Sync>;

impl Default for Recache {
    fn default() -> Self {
        Self { warmers: Vec::new(), concurrency: AT_ONCE, timeout: TIMEOUT, waits: false }
    }
}

impl Recache {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// And this call, which is made after the write. If the write fails it is dropped without having begun.
    pub fn with<E: Into<Cause>>(
        mut self,
        name: impl Into<Cow<'static, str>>,
        call: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> Self {
        let call = call.map(|result| result.map_err(Into::into)).boxed();
        self.warmers.push(Warmer { name: name.into(), call });
        self
    }

    /// So many at once, at least one. The default is 8. What several writes of one transaction want recached is one work, and
    /// the smallest of these counts.
    pub fn concurrency(self, at_once: usize) -> Self {
        Self { concurrency: at_once.max(1), ..self }
    }

    /// So long each may take; then it is dropped. The default is 30 s.
    pub fn timeout(self, each: Duration) -> Self {
        Self { timeout: each, ..self }
    }

    /// Whoever wrote waits until it is done, and is told what became of it ([`Applied::recached`]).
    ///
    /// [`Applied::recached`]: super::Applied::recached
    pub fn wait(self) -> Self {
        Self { waits: true, ..self }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.warmers.is_empty()
    }

    /// Recaches; what nobody waits for in a task of its own. To be called inside a runtime.
    pub(super) async fn run(all: Vec<Self>) -> Option<Recached> {
        let all = all.into_iter().filter(|recache| !recache.is_empty());
        let (waited_for, others): (Vec<_>, Vec<_>) = all.partition(|recache| recache.waits);
        if !others.is_empty() {
            // Nobody waits for it; what fails is logged.
            tokio::spawn(Self::together(others).map(drop).in_current_span());
        }
        if waited_for.is_empty() { None } else { Some(Self::together(waited_for).await) }
    }

    /// What several want is one work: as many at once as the most modest of them says.
    async fn together(all: Vec<Self>) -> Recached {
        let at_once = all.iter().map(|recache| recache.concurrency).min().unwrap_or(AT_ONCE);
        let warmers = all.into_iter().flat_map(|recache| {
            let timeout = recache.timeout;
            recache.warmers.into_iter().map(move |warmer| (warmer, timeout))
        });
        let calls = stream::iter(warmers).map(|(Warmer { name, call }, timeout)| async move {
            let call = tokio::time::timeout(timeout, AssertUnwindSafe(call).catch_unwind());
            let reason = match call.await {
                Ok(Ok(Ok(()))) => return Ok(()),
                Ok(Ok(Err(cause))) => RecacheReason::Failed(cause),
                Ok(Err(_panic)) => RecacheReason::Panicked,
                Err(_elapsed) => RecacheReason::TimedOut(timeout),
            };
            // Only its kind: what it says may quote keys and values.
            warn!(recache = %name, reason = reason.kind(), "what a write has invalidated could not be recached");
            Err(RecacheError { name, reason })
        });
        let mut recached = Recached::default();
        let mut results = calls.buffer_unordered(at_once);
        while let Some(result) = results.next().await {
            match result {
                Ok(()) => recached.done += 1,
                Err(error) => recached.failed.push(error),
            }
        }
        recached
    }
}

/// How many, and how.
impl fmt::Debug for Recache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { warmers, concurrency, timeout, waits } = self;
        let mut shown = f.debug_struct("Recache");
        shown.field("calls", &warmers.len()).field("concurrency", concurrency);
        shown.field("timeout", timeout).field("waits", waits).finish()
    }
}

/// What has become of a [`Recache`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Recached {
    /// How many have succeeded.
    pub done: usize,
    /// Those that have not.
    pub failed: Vec<RecacheError>,
}

/// A call of a [`Recache`] that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("{name} could not be recached: {reason}")]
#[non_exhaustive]
pub struct RecacheError {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Why.
    #[source]
    pub reason: RecacheReason,
}

/// Why a call of a [`Recache`] did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecacheReason {
    /// It said so.
    #[error(transparent)]
    Failed(Cause),
    /// It panicked.
    #[error("it panicked")]
    Panicked,
    /// It took longer than it may.
    #[error("it took longer than {0:?}")]
    TimedOut(Duration),
}

impl RecacheReason {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::Panicked => "panicked",
            Self::TimedOut(_) => "timed out",
        }
    }
}
