//! What people and their tools see of a cache: health, counts, metrics, spans, log lines and a stream of events.
//!
//! Nothing is decided here. The machine counts, and is looked at now and then; loads and store operations tell when they
//! end. No key leaves the cache this way unless [`Builder::reveal_keys`](crate::Builder::reveal_keys) (for spans) or
//! [`EventOptions::keys`] (for events) ask for it, and no value ever does.

mod events;
#[cfg(any(feature = "gateway", feature = "axum"))]
mod exposition;
mod health;
mod look;
mod metrics;
mod spans;
mod tally;
mod transitions;
mod troubles;

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tideover_core::memory::Reason as RemovalReason;
use tideover_core::{Class, StoreFailure, Tier};
use tokio::sync::Notify;
use tracing::{Instrument, Span};

pub use self::events::{Event, EventOptions, Events, Happened};
#[cfg(any(feature = "gateway", feature = "axum"))]
pub(crate) use self::exposition::EXPOSITION;
pub use self::health::{
    CircuitHealth, CircuitState, Circuits, DirectHealth, Health, MemoryHealth, Rates, Reason, Status, StoreHealth,
};
pub use self::metrics::{METRICS, Metric, MetricKind};
pub use self::spans::{SPANS, SpanDoc};
pub use self::tally::Tally;
#[cfg(feature = "testing")]
pub(crate) use self::tally::grown;
pub(crate) use self::troubles::Trouble;

use self::events::Readers;
use self::look::Looked;
use self::troubles::Troubles;
use crate::cache::{Cache, Fetched};
use crate::engine::Key;
use crate::error::Error;
use crate::loader::LoadError;

/// The tier of the store inside this process, of which nobody hears.
const FALLBACK: &str = "fallback";

/// What is seen of one cache. It does not keep the cache alive.
#[derive(Debug)]
pub(crate) struct Observed {
    name: Arc<str>,
    reveal_keys: bool,
    readers: Arc<Readers>,
    troubles: Troubles,
    /// Locked while the machine is asked, so that looks follow each other.
    looked: tokio::sync::Mutex<Looked>,
    /// Something has happened that may have moved a circuit.
    stirred: Notify,
    replacements: AtomicU64,
    closed: AtomicBool,
}

impl Default for Observed {
    fn default() -> Self {
        Self::new(None, false)
    }
}

impl Observed {
    pub(crate) fn new(name: Option<Arc<str>>, reveal_keys: bool) -> Self {
        Self {
            name: name.unwrap_or_else(next_name),
            reveal_keys,
            readers: Arc::default(),
            troubles: Troubles::default(),
            looked: tokio::sync::Mutex::default(),
            stirred: Notify::new(),
            replacements: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    const fn reveals_keys(&self) -> bool {
        self.reveal_keys
    }

    const fn readers(&self) -> &Arc<Readers> {
        &self.readers
    }

    fn tell(&self, what: impl FnOnce() -> Happened) {
        self.readers.tell(&self.name, what);
    }

    /// Something failed once more. `reason` names no key and no value.
    pub(crate) fn failed(&self, trouble: Trouble, reason: &dyn Display) {
        self.failed_often(trouble, 1, reason);
    }

    fn failed_often(&self, trouble: Trouble, times: u64, reason: &dyn Display) {
        let began = self.troubles.failed(trouble, times, &self.name, reason);
        if began && trouble == Trouble::Store {
            self.tell(|| Happened::StoreAway);
        }
        if matches!(trouble, Trouble::Store | Trouble::Load) {
            self.stirred.notify_one();
        }
    }

    /// Something went well.
    pub(crate) fn went_well(&self, trouble: Trouble) {
        if self.troubles.goes_on(trouble) {
            self.troubles.went_well(trouble);
            self.stirred.notify_one();
        }
    }

    /// Completes when something has happened that may have moved a circuit.
    pub(crate) async fn stirred(&self) {
        self.stirred.notified().await;
    }

    /// The engine broke, and another one has taken its place.
    pub(crate) fn engine_replaced(&self, error: &dyn Display) {
        self.replacements.fetch_add(1, Ordering::Relaxed);
        self.failed(Trouble::Engine, error);
        self.tell(|| Happened::EngineReplaced);
    }

    #[cfg(any(test, feature = "metrics", feature = "gateway", feature = "axum"))]
    pub(crate) fn replacements(&self) -> u64 {
        self.replacements.load(Ordering::Relaxed)
    }

    /// A caller has got this.
    pub(crate) fn served<V>(&self, key: &str, fetched: &Fetched<V>) {
        if let Some(why) = fetched.stale {
            self.tell(|| Happened::StaleServed { why, age: fetched.age, key: Some(key.into()) });
        }
    }

    /// A removal or an invalidation has ended. One that was refused at a limit has changed nothing, as its caller knows.
    pub(crate) fn invalidated(&self, error: Option<&Error>) {
        match error {
            None => self.went_well(Trouble::Invalidation),
            Some(Error::Refused(_) | Error::Closed) => {}
            Some(error) => self.failed(Trouble::Invalidation, error),
        }
    }

    pub(crate) fn cleared(&self) {
        self.tell(|| Happened::Cleared);
    }

    fn tell_removals(&self, removals: Vec<(Key, RemovalReason)>) {
        for (key, reason) in removals {
            self.tell(|| Happened::Removed { reason, key: Some(key) });
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Nothing more will happen.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.readers.close();
    }

    /// An attempt to load, as it is seen.
    pub(crate) async fn load<T>(
        &self,
        key: &Key,
        attempt: u32,
        load: impl Future<Output = Result<T, LoadError>>,
    ) -> Result<T, LoadError> {
        let (span, began) = (self.load_span(key, attempt), tokio::time::Instant::now());
        let result = load.instrument(span.clone()).await;
        let outcome = result.as_ref().map_or_else(|error| class_name(error.class()), |_| "ok");
        spans::ended(&span, &outcome);
        self.record(metrics::LOAD_DURATION, &[("outcome", outcome)], began.elapsed());
        match &result {
            Ok(_) => self.went_well(Trouble::Load),
            Err(error) => {
                let class = error.class();
                if class.is_unavailable() {
                    self.failed(Trouble::Load, &outcome);
                } else {
                    self.went_well(Trouble::Load);
                }
                self.tell(|| Happened::LoadFailed { class, attempt, key: Some(Arc::clone(key)) });
            }
        }
        result
    }

    /// An operation of a store, as it is seen; `judge` says what an error is to the machine, and whether it speaks against
    /// the store.
    pub(crate) async fn operation<T, E: Display>(
        &self,
        (operation, tier, key): (&'static str, Tier, Option<&str>),
        work: impl Future<Output = Result<T, E>>,
        judge: impl Fn(&E) -> (StoreFailure, bool),
    ) -> Result<T, StoreFailure> {
        let tier = match tier {
            Tier::Primary => "primary",
            Tier::Fallback => FALLBACK,
        };
        self.asked((operation, tier, key), work, &judge).await.map_err(|error| judge(&error).0)
    }

    /// As [`operation`](Self::operation), with the error as it is; the tier by its name.
    pub(crate) async fn asked<T, E: Display>(
        &self,
        (operation, tier, key): (&'static str, &'static str, Option<&str>),
        work: impl Future<Output = Result<T, E>>,
        judge: impl Fn(&E) -> (StoreFailure, bool),
    ) -> Result<T, E> {
        let (span, began) = (self.store_span(operation, tier, key), tokio::time::Instant::now());
        let result = work.instrument(span.clone()).await;
        let took = began.elapsed();
        let is_shared = tier != FALLBACK;
        let outcome = match &result {
            Ok(_) => {
                if is_shared {
                    self.went_well(Trouble::Store);
                }
                "ok"
            }
            Err(error) => {
                let (failure, is_its_fault) = judge(error);
                if is_its_fault && is_shared {
                    self.failed(Trouble::Store, error);
                }
                failure_name(failure)
            }
        };
        spans::ended(&span, &outcome);
        self.record(metrics::STORE_DURATION, &[("tier", tier), ("operation", operation), ("outcome", outcome)], took);
        result
    }

    #[cfg(feature = "metrics")]
    fn record(&self, name: &'static str, labels: &[(&'static str, &'static str)], time: Duration) {
        metrics::record(name, &self.name, labels, time);
    }

    #[cfg(not(feature = "metrics"))]
    fn record(&self, _name: &'static str, _labels: &[(&'static str, &'static str)], _time: Duration) {}
}

/// What can go wrong again and again, for the documentation: the field `trouble` of its log lines, and what they say when
/// it begins, while it goes on, and when it is over.
pub fn troubles() -> impl Iterator<Item = (&'static str, [&'static str; 3])> {
    Trouble::ALL.into_iter().map(|trouble| (trouble.name(), trouble.words()))
}

/// Notes in the flight's span how it landed.
pub(crate) fn landed<V>(span: &Span, outcome: &tideover_core::Outcome<V>) {
    use tideover_core::Outcome;
    let outcome = match outcome {
        Outcome::Served(_) => "served",
        Outcome::Private(_) => "private",
        Outcome::Absent(_) => "absent",
        Outcome::Settled(_) => "settled",
        Outcome::Failed(_) => "failed",
        Outcome::Again => "again",
    };
    spans::ended(span, &outcome);
}

const fn class_name(class: Class) -> &'static str {
    match class {
        Class::Unavailable => "unavailable",
        Class::TimedOut => "timed_out",
        Class::Answer => "answer",
        Class::Isolated => "isolated",
        Class::Panicked => "panicked",
    }
}

const fn failure_name(failure: StoreFailure) -> &'static str {
    match failure {
        StoreFailure::Unavailable => "unavailable",
        StoreFailure::TimedOut => "timed_out",
        StoreFailure::Rejected => "rejected",
        StoreFailure::Overloaded => "overloaded",
        StoreFailure::Corrupt { .. } => "corrupt",
    }
}

/// Caches that were given no name are told apart by numbers: `default`, `default-2`.
fn next_name() -> Arc<str> {
    static UNNAMED: AtomicU64 = AtomicU64::new(1);
    match UNNAMED.fetch_add(1, Ordering::Relaxed) {
        1 => "default".into(),
        number => format!("default-{number}").into(),
    }
}

impl Cache {
    /// The name of this cache in logs, metrics, events and health: that of [`Builder::name`](crate::Builder::name), or one
    /// made up.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = tideover::Cache::builder().name("users").build()?;
    /// assert_eq!(cache.name(), "users");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        self.observed().name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_engine_that_breaks_is_told_at_once_and_counted() {
        let observed = Observed::new(Some("users".into()), false);
        let mut events = observed.readers().read(EventOptions::new().capacity(1));
        observed.engine_replaced(&"out of fuel");
        let event = events.try_recv().expect("it is told");
        assert_eq!((&*event.cache, event.what), ("users", Happened::EngineReplaced));
        assert_eq!(observed.replacements(), 1);
    }

    #[test]
    fn a_refusal_is_no_failed_invalidation() {
        let observed = Observed::default();
        observed.invalidated(Some(&Error::Closed));
        assert!(!observed.troubles.goes_on(Trouble::Invalidation));
        observed.invalidated(Some(&Error::DeadlinePassed));
        assert!(observed.troubles.goes_on(Trouble::Invalidation));
    }
}
