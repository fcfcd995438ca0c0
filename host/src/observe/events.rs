//! The stream of events: what happens in a cache, told to whoever listens.
//!
//! Each reader has queues of its own, of bounded length. What is rare (circuits, outages) has another queue than what
//! calls cause, so that a flood of the latter pushes out nothing of the former. Where nobody listens, an event costs a
//! look at one number.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use futures_util::stream::{FusedStream, Stream, StreamExt};
use tideover_core::cache::Dependency;
use tideover_core::memory::Reason as RemovalReason;
use tideover_core::{Class, Stale};

use super::health::Reason;
use crate::cache::Cache;
use crate::engine::Key;

/// Something that happened in a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The name of the cache; see [`Builder::name`](crate::Builder::name).
    pub cache: Arc<str>,
    /// When it was noticed, by the civil clock: at once, or for what the machine alone knows within half a second.
    pub at: SystemTime,
    /// What happened.
    pub what: Happened,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Happened {
    /// A circuit opened, the store's or a loader's: calls are refused.
    CircuitOpened {
        /// Whose circuit; [`Dependency::Loader`] are all loaders without a name.
        of: Dependency,
        /// A probe failed, and another, longer wait has begun; it did not go from closed to open.
        again: bool,
    },
    /// The wait is over: probes decide.
    CircuitHalfOpened {
        /// Whose circuit; [`Dependency::Loader`] are all loaders without a name.
        of: Dependency,
    },
    /// The circuit closed.
    CircuitClosed {
        /// Whose circuit; [`Dependency::Loader`] are all loaders without a name.
        of: Dependency,
        /// Its probes succeeded. Otherwise an operator has closed it, or the engine was replaced.
        recovered: bool,
    },
    /// An operation of the shared store failed, after a time in which none did.
    StoreAway,
    /// Operations of the shared store succeed again, and none has failed for five seconds.
    StoreBack {
        /// How many operations failed meanwhile.
        failures: u64,
        /// From the first failure to the first success after the last one, as far as looks now and then tell.
        lasted: Duration,
    },
    /// What is owed to the store is more than its journal holds: the store's namespace will be cleared when it is back.
    JournalOverflowed,
    /// Changes that were owed to the store have reached it.
    Replayed {
        /// How many since the last look.
        changes: u64,
        /// How many are still owed.
        owed: u64,
    },
    /// Changes of other processes may have been missed: the connection that tells of them is new. What is in memory
    /// is in doubt.
    ChangesMissed,
    /// The store has stopped telling what other processes change, or can do it again.
    Backplane {
        /// Whether it tells.
        tells: bool,
    },
    /// The engine broke, and an empty one has taken its place.
    EngineReplaced,
    /// Everything was removed by a clear of this process.
    Cleared,
    /// The cache has less behind it than it should have; see [`Health`](crate::Health).
    Degraded {
        /// Why, as far as is known without asking the store.
        reasons: Vec<Reason>,
    },
    /// The cache is whole again.
    Recovered,
    /// An attempt to load failed.
    LoadFailed {
        /// What kind of failure.
        class: Class,
        /// The first attempt is 1.
        attempt: u32,
        /// The key, if [`EventOptions::keys`] asks for it.
        key: Option<Key>,
    },
    /// A caller got something stale.
    StaleServed {
        /// Why.
        why: Stale,
        /// Its age.
        age: Duration,
        /// The key, if [`EventOptions::keys`] asks for it.
        key: Option<Key>,
    },
    /// An entry has left memory. Told only if [`EventOptions::removals`] asks for it.
    Removed {
        /// Why.
        reason: RemovalReason,
        /// The key, if [`EventOptions::keys`] asks for it.
        key: Option<Key>,
    },
    /// Removals of which only the number is known, since `removals_max` is less than what leaves memory in half a
    /// second.
    RemovalsLost {
        /// How many.
        removals: u64,
    },
    /// The reader was too slow: so many events have been dropped here, the oldest first.
    Lost {
        /// How many.
        events: u64,
    },
}

impl Happened {
    /// The name of what happened, for labels and log lines: `circuit_opened`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CircuitOpened { .. } => "circuit_opened",
            Self::CircuitHalfOpened { .. } => "circuit_half_opened",
            Self::CircuitClosed { .. } => "circuit_closed",
            Self::StoreAway => "store_away",
            Self::StoreBack { .. } => "store_back",
            Self::JournalOverflowed => "journal_overflowed",
            Self::Replayed { .. } => "replayed",
            Self::ChangesMissed => "changes_missed",
            Self::Backplane { .. } => "backplane",
            Self::EngineReplaced => "engine_replaced",
            Self::Cleared => "cleared",
            Self::Degraded { .. } => "degraded",
            Self::Recovered => "recovered",
            Self::LoadFailed { .. } => "load_failed",
            Self::StaleServed { .. } => "stale_served",
            Self::Removed { .. } => "removed",
            Self::RemovalsLost { .. } => "removals_lost",
            Self::Lost { .. } => "lost",
        }
    }

    /// Whether calls cause it, as many as there are.
    const fn is_of_calls(&self) -> bool {
        matches!(self, Self::LoadFailed { .. } | Self::StaleServed { .. } | Self::Removed { .. })
    }

    const fn is_of_removals(&self) -> bool {
        matches!(self, Self::Removed { .. } | Self::RemovalsLost { .. })
    }

    fn forget_key(&mut self) {
        if let Self::LoadFailed { key, .. } | Self::StaleServed { key, .. } | Self::Removed { key, .. } = self {
            *key = None;
        }
    }
}

/// What a reader of events wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventOptions {
    capacity: usize,
    calls: bool,
    removals: bool,
    keys: bool,
}

impl Default for EventOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl EventOptions {
    /// All events but removals, and no keys; 1 024 of each kind wait for the reader.
    #[must_use]
    pub const fn new() -> Self {
        Self { capacity: 1_024, calls: true, removals: false, keys: false }
    }

    /// So many events wait for the reader, and as many beside them of those that calls cause; at least one of each.
    #[must_use]
    pub const fn capacity(self, events: usize) -> Self {
        let capacity = if events == 0 { 1 } else { events };
        Self { capacity, ..self }
    }

    /// Whether what calls cause is told: [`Happened::LoadFailed`] and [`Happened::StaleServed`]. Default: yes.
    #[must_use]
    pub const fn calls(self, told: bool) -> Self {
        Self { calls: told, ..self }
    }

    /// Whether entries that leave memory are told, within half a second. Default: no. The cache has to remember them
    /// until then: the option `removals_max` says how many. While such a reader is there,
    /// [`Cache::take_removals`](crate::Cache::take_removals) finds what the reader has not been told yet.
    #[must_use]
    pub const fn removals(self, told: bool) -> Self {
        Self { removals: told, ..self }
    }

    /// Whether events come with keys. Default: no. Values are in no event.
    #[must_use]
    pub const fn keys(self, told: bool) -> Self {
        Self { keys: told, ..self }
    }

    const fn wants(&self, what: &Happened) -> bool {
        if what.is_of_removals() { self.removals } else { self.calls || !what.is_of_calls() }
    }
}

/// Who reads the events of one cache.
#[derive(Debug, Default)]
pub(super) struct Readers {
    count: AtomicUsize,
    of_removals: AtomicUsize,
    queues: Mutex<Queues>,
}

#[derive(Debug, Default)]
struct Queues {
    open: Vec<Weak<Queue>>,
    closed: bool,
}

impl Readers {
    pub(super) fn is_anybody_there(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    pub(super) fn want_removals(&self) -> bool {
        self.of_removals.load(Ordering::Relaxed) > 0
    }

    /// Tells everybody. `what` is asked only if somebody is there.
    pub(super) fn tell(&self, cache: &Arc<str>, what: impl FnOnce() -> Happened) {
        if !self.is_anybody_there() {
            return;
        }
        let event = Event { cache: Arc::clone(cache), at: SystemTime::now(), what: what() };
        self.queues().open.iter().filter_map(Weak::upgrade).for_each(|queue| queue.push(&event));
    }

    /// The streams end when they have been read.
    pub(super) fn close(&self) {
        let mut queues = self.queues();
        queues.closed = true;
        let open = std::mem::take(&mut queues.open);
        drop(queues);
        open.iter().filter_map(Weak::upgrade).for_each(|queue| queue.close());
    }

    pub(super) fn read(self: &Arc<Self>, options: EventOptions) -> Events {
        let mut queues = self.queues();
        let waiting = Waiting { closed: queues.closed, ..Waiting::default() };
        let queue = Arc::new(Queue { options, waiting: Mutex::new(waiting) });
        queues.open.push(Arc::downgrade(&queue));
        drop(queues);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.of_removals.fetch_add(usize::from(options.removals), Ordering::Relaxed);
        Events { queue, readers: Arc::clone(self) }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Queue {
    options: EventOptions,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    rare: VecDeque<(u64, Event)>,
    of_calls: VecDeque<(u64, Event)>,
    /// Numbers the events over both.
    next: u64,
    /// Dropped, and not told yet.
    lost: u64,
    closed: bool,
    waker: Option<Waker>,
}

impl Queue {
    fn push(&self, event: &Event) {
        if !self.options.wants(&event.what) {
            return;
        }
        let mut event = event.clone();
        if !self.options.keys {
            event.what.forget_key();
        }
        let mut waiting = self.waiting();
        let number = waiting.next;
        waiting.next += 1;
        let lane = if event.what.is_of_calls() { &mut waiting.of_calls } else { &mut waiting.rare };
        let is_full = lane.len() >= self.options.capacity;
        if is_full {
            lane.pop_front();
        }
        lane.push_back((number, event));
        waiting.lost += u64::from(is_full);
        waiting.wake();
    }

    fn close(&self) {
        let mut waiting = self.waiting();
        waiting.closed = true;
        waiting.wake();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// The oldest of both, behind the word of what was dropped before it.
    fn pop(&mut self) -> Option<Event> {
        let of_calls = match (self.rare.front(), self.of_calls.front()) {
            (Some((rare, first)), Some((of_calls, second))) => {
                let of_calls_first = of_calls < rare;
                if self.lost > 0 {
                    let first = if of_calls_first { second } else { first };
                    return Some(self.told_lost(first.clone()));
                }
                of_calls_first
            }
            (rare, of_calls) => {
                let (_, first) = rare.or(of_calls)?;
                if self.lost > 0 {
                    return Some(self.told_lost(first.clone()));
                }
                rare.is_none()
            }
        };
        let lane = if of_calls { &mut self.of_calls } else { &mut self.rare };
        lane.pop_front().map(|(_, event)| event)
    }

    fn told_lost(&mut self, before: Event) -> Event {
        let events = std::mem::take(&mut self.lost);
        Event { what: Happened::Lost { events }, ..before }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The events of a cache from the moment at which this was made; see [`Cache::events`]. A [`Stream`] that ends when the
/// cache is shut down or dropped.
#[derive(Debug)]
pub struct Events {
    queue: Arc<Queue>,
    readers: Arc<Readers>,
}

impl Events {
    /// The next event; `None` when the cache is gone. To drop the call loses nothing.
    pub async fn recv(&mut self) -> Option<Event> {
        self.next().await
    }

    /// The next event, if it is there already.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.queue.waiting().pop()
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut waiting = self.queue.waiting();
        if let Some(event) = waiting.pop() {
            return Poll::Ready(Some(event));
        }
        if waiting.closed {
            return Poll::Ready(None);
        }
        waiting.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl FusedStream for Events {
    fn is_terminated(&self) -> bool {
        let waiting = self.queue.waiting();
        waiting.closed && waiting.rare.is_empty() && waiting.of_calls.is_empty()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.readers.count.fetch_sub(1, Ordering::Relaxed);
        self.readers.of_removals.fetch_sub(usize::from(self.queue.options.removals), Ordering::Relaxed);
        let queue = Arc::as_ptr(&self.queue);
        self.readers.queues().open.retain(|open| open.as_ptr() != queue);
    }
}

impl Cache {
    /// What happens in this cache from now on: circuits, outages of the store, failed loads, stale answers. Costs nothing
    /// where nobody listens, and holds nobody up: a reader that is too slow is told how many events it has lost.
    ///
    /// ```
    /// use tideover::observe::Happened;
    /// use tideover::{Cache, LoadError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().name("users").build()?;
    /// let mut events = cache.events();
    /// let failed = cache.get_or_load("k", |_| async { Err(LoadError::answer("no such user")) }).await;
    /// assert!(failed.is_err());
    /// let event = events.recv().await.expect("the cache lives");
    /// assert_eq!(&*event.cache, "users");
    /// assert!(matches!(event.what, Happened::LoadFailed { attempt: 1, key: None, .. }));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn events(&self) -> Events {
        self.events_with(EventOptions::new())
    }

    /// As [`Cache::events`], with wishes of the reader's: keys, and what leaves memory, why.
    ///
    /// ```
    /// use tideover::observe::{EventOptions, Happened};
    /// use tideover::{Cache, RemovalReason};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = Cache::builder().set("removals_max", "1000")?.build()?;
    /// let mut events = cache.events_with(EventOptions::new().removals(true).keys(true));
    /// cache.put("k", "v", None).await?;
    /// cache.remove("k").await?;
    /// let event = events.recv().await.expect("the cache lives");
    /// assert_eq!(event.what, Happened::Removed { reason: RemovalReason::Removed, key: Some("k".into()) });
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn events_with(&self, options: EventOptions) -> Events {
        self.observed().readers().read(options)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn stale(age: u64) -> Happened {
        let key = Some("a key".into());
        Happened::StaleServed { why: Stale::IfError, age: Duration::from_secs(age), key }
    }

    fn read(events: &mut Events) -> Vec<Happened> {
        std::iter::from_fn(|| events.try_recv()).map(|event| event.what).collect()
    }

    fn told(options: EventOptions, all: impl IntoIterator<Item = Happened>) -> Vec<Happened> {
        let (readers, cache) = (Arc::new(Readers::default()), "a".into());
        let mut events = readers.read(options);
        all.into_iter().for_each(|what| readers.tell(&cache, || what));
        read(&mut events)
    }

    #[test]
    fn a_flood_of_calls_pushes_out_nothing_rare_and_is_known_to_have_lost_some() {
        let flood = (0..1_000).map(stale);
        let all = [Happened::StoreAway].into_iter().chain(flood).chain([Happened::Recovered]);
        let told = told(EventOptions::new().capacity(3), all);
        assert_eq!(told[..2], [Happened::Lost { events: 997 }, Happened::StoreAway]);
        let ages: Vec<_> = told[2..5].iter().map(|what| what.name()).collect();
        assert_eq!(ages, ["stale_served"; 3], "the newest three");
        assert_eq!(told[5..], [Happened::Recovered]);
    }

    #[test]
    fn keys_and_removals_are_told_to_those_who_ask() {
        let removed = || Happened::Removed { reason: RemovalReason::Evicted, key: Some("a key".into()) };
        let all = || [stale(1), removed()];
        let shown = |options| format!("{:?}", told(options, all()));
        assert!(!shown(EventOptions::new().removals(true)).contains("a key"));
        assert_eq!(told(EventOptions::new().keys(true), all()), [stale(1)]);
        assert_eq!(told(EventOptions::new().keys(true).removals(true).calls(false), all()), [removed()]);
    }

    #[test]
    fn nobody_is_asked_where_nobody_listens() {
        let readers = Arc::new(Readers::default());
        drop(readers.read(EventOptions::new().removals(true)));
        readers.tell(&"a".into(), || panic!("asked"));
        assert!(!readers.want_removals() && readers.queues().open.is_empty());
    }

    #[tokio::test]
    async fn a_reader_is_woken_and_told_the_end() {
        let readers = Arc::new(Readers::default());
        let mut events = readers.read(EventOptions::new());
        assert!(events.recv().now_or_never().is_none());
        let reading = tokio::spawn(async move {
            let first = events.recv().await.map(|event| event.what);
            (first, events.recv().await, events.is_terminated())
        });
        tokio::task::yield_now().await;
        readers.tell(&"a".into(), || Happened::Cleared);
        tokio::task::yield_now().await;
        readers.close();
        assert_eq!(reading.await.expect("no panic"), (Some(Happened::Cleared), None, true));
        assert!(readers.read(EventOptions::new()).recv().await.is_none(), "who comes later is told, too");
    }
}
