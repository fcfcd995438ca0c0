//! The tokio driver: one loop around one `match` for each flight, and a table of who waits for which.
//!
//! It decides nothing. What a step says is done, at a step's deadline the work is dropped and reported as timed out, and
//! whatever ends a flight's task (cancel, panic, shutdown) resumes the flight with `Abandoned`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tideover_core::{
    Answer, Call, Class, Clock, Command, Entry, Event, FlightId, Instant, Launch, Left, LoadFailure, Lookup, Outcome,
    Served, Step, StoreFailure, Tier, envelope,
};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use crate::clock::HostClock;
use crate::engine::{Engine, EngineError, Key};
use crate::error::Error;
use crate::loader::{LoadContext, LoadError, Loader};
use crate::outside::{CacheId, Chain, Origin, Stores};

pub(crate) struct Driver {
    id: CacheId,
    engine: Arc<dyn Engine>,
    stores: Stores,
    clock: HostClock,
    landings: Mutex<HashMap<FlightId, Landing>>,
    tasks: TaskTracker,
    closing: AtomicBool,
    cut_short: CancellationToken,
}

/// A flight as its waiters see it. Dropping it releases them all.
struct Landing {
    outcome: watch::Sender<Option<Landed>>,
    task: Option<AbortHandle>,
}

/// What a landed flight brought, with the loader's own error if it failed.
#[derive(Clone)]
struct Landed {
    outcome: Outcome<Bytes>,
    error: Option<Arc<LoadError>>,
}

/// The answer to a call.
pub(crate) struct Reply {
    pub(crate) outcome: Outcome<Bytes>,
    pub(crate) error: Option<Arc<LoadError>>,
    pub(crate) led: bool,
    pub(crate) waited: bool,
}

impl Reply {
    fn at_once(outcome: Outcome<Bytes>) -> Self {
        Self { outcome, error: None, led: false, waited: false }
    }
}

impl Driver {
    pub(crate) fn new(engine: Arc<dyn Engine>, stores: Stores, clock: HostClock) -> Arc<Self> {
        Arc::new(Self {
            id: CacheId::new(),
            engine,
            stores,
            clock,
            landings: Mutex::default(),
            tasks: TaskTracker::new(),
            closing: AtomicBool::new(false),
            cut_short: CancellationToken::new(),
        })
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    pub(crate) fn clock(&self) -> &HostClock {
        &self.clock
    }

    /// A fresh value from memory, without anything else being touched; none after the shutdown.
    pub(crate) fn hit(&self, key: &str) -> Option<Served<Bytes>> {
        if self.closing.load(Ordering::Acquire) {
            return None;
        }
        self.engine.hit(key, self.clock.now())
    }

    /// The value under `key`; without a loader, only if memory or a store has it.
    pub(crate) async fn get(
        self: &Arc<Self>,
        key: Key,
        loader: Option<Loader>,
        deadline: Option<Instant>,
    ) -> Result<Reply, Error> {
        let chain = Chain::here();
        let within: Vec<_> = chain.of(self.id).map(FlightId).collect();
        let origin = loader.map(|loader| Origin::new(loader, chain));
        let call = Call { deadline, read_only: origin.is_none(), within: &within };
        loop {
            let reply = self.call(origin.clone(), |engine, now| engine.lookup(&key, call, now)).await?;
            // What is for another caller alone is not for this one: it asks again, for itself.
            if reply.led || !matches!(reply.outcome, Outcome::Private(_)) {
                return Ok(reply);
            }
        }
    }

    /// Makes a change, and waits until it is in the stores or known not to get there.
    pub(crate) async fn change(self: &Arc<Self>, command: Command<Key, Bytes>) -> Result<Reply, Error> {
        self.call(None, |engine, now| engine.command(command, now)).await
    }

    async fn call(
        self: &Arc<Self>,
        origin: Option<Origin>,
        ask: impl FnOnce(&dyn Engine, Instant) -> Result<Lookup<Key, Bytes>, EngineError>,
    ) -> Result<Reply, Error> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let (waiter, launch) = {
            // Held while the engine is asked, so that a flight cannot land between naming it and waiting for it.
            let mut landings = self.landings();
            let Lookup { answer, launch } = ask(&*self.engine, self.clock.now())?;
            let waiter = match answer {
                Answer::Pending { flight, until } => Ok(self.wait_for(&mut landings, flight, until)),
                answer => Err(answer),
            };
            (waiter, launch)
        };
        let led = launch.as_ref().map(|launch| launch.flight);
        if let Some(launch) = launch {
            self.launch(launch, origin);
        }
        match waiter {
            Ok(waiter) => {
                let led = led == Some(waiter.flight);
                waiter.landed().await.map(|Landed { outcome, error }| Reply { outcome, error, led, waited: true })
            }
            Err(Answer::Refused(refusal)) => Err(Error::Refused(refusal)),
            Err(Answer::Now(outcome)) => Ok(Reply::at_once(outcome)),
            Err(Answer::Pending { .. }) => Err(Error::Abandoned),
        }
    }

    fn wait_for(
        self: &Arc<Self>,
        landings: &mut HashMap<FlightId, Landing>,
        flight: FlightId,
        until: Instant,
    ) -> Waiter {
        let landing = landings.entry(flight).or_insert_with(Landing::new);
        Waiter { driver: Arc::clone(self), flight, until, landing: Some(landing.outcome.subscribe()) }
    }

    /// Gives the flight a task of its own. To be called without the table: a runtime that shuts down drops the task
    /// inside `spawn`, which abandons the flight there and then.
    fn launch(self: &Arc<Self>, launch: Launch<Key, Bytes>, origin: Option<Origin>) {
        let flight = launch.flight;
        self.landings().entry(flight).or_insert_with(Landing::new);
        let task = Flying { driver: Arc::clone(self), flight: Some(flight) }.fly(launch.step, origin);
        let cut_short = self.cut_short.clone();
        let task = self.tasks.spawn(async move {
            tokio::select! {
                () = cut_short.cancelled() => {}
                () = task => {}
            }
        });
        if let Some(landing) = self.landings().get_mut(&flight) {
            landing.task = Some(task.abort_handle());
        }
    }

    /// Hands the outcome to everybody who waits for the flight.
    fn publish(&self, flight: FlightId, outcome: Outcome<Bytes>, error: Option<Arc<LoadError>>) {
        if let Some(landing) = self.landings().get_mut(&flight) {
            landing.outcome.send_replace(Some(Landed { outcome, error }));
        }
    }

    fn landings(&self) -> MutexGuard<'_, HashMap<FlightId, Landing>> {
        self.landings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A waiter went away. When it was the last one that was interested, the flight ends now, before anybody else can
    /// join it.
    fn leave(self: &Arc<Self>, flight: FlightId) {
        let (step, landing) = {
            let mut landings = self.landings();
            if !matches!(self.engine.leave(flight), Ok(Left::Abandon)) {
                return;
            }
            (self.engine.resume(flight, Event::Abandoned, self.clock.now()), landings.remove(&flight))
        };
        if let Some(task) = landing.and_then(|landing| landing.task) {
            task.abort();
        }
        if let Ok(Step::Done { next: Some(next) }) = step {
            self.launch(*next, None);
        }
    }

    /// The driver of a flight is gone: settles what the flight holds, and launches what waited for it.
    fn abandon(self: &Arc<Self>, flight: FlightId) {
        let now = self.clock.now();
        let mut step = self.engine.resume(flight, Event::Abandoned, now);
        if let Ok(Step::Land { outcome }) = step {
            self.publish(flight, outcome, None);
            step = self.engine.resume(flight, Event::Landed, now);
        }
        self.landings().remove(&flight);
        let Ok(Step::Done { next: Some(next) }) = step else { return };
        if !self.cut_short.is_cancelled() && tokio::runtime::Handle::try_current().is_ok() {
            self.launch(*next, None);
        } else {
            self.abandon(next.flight);
        }
    }

    /// What the machine wants done although nobody calls; to be called now and then.
    pub(crate) fn maintain(self: &Arc<Self>) {
        if self.closing.load(Ordering::Acquire) {
            return;
        }
        match self.engine.maintain(self.clock.now()) {
            Ok(Some(launch)) => self.launch(launch, None),
            Ok(None) => {}
            Err(broken) => error!(error = %broken, "maintenance"),
        }
    }

    /// Takes no more calls, lets flights end for `grace`, cuts the rest short, and closes the stores.
    pub(crate) async fn shutdown(&self, grace: Duration) {
        self.closing.store(true, Ordering::Release);
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            self.cut_short.cancel();
            self.tasks.wait().await;
        }
        self.stores.close().await;
    }

    async fn read(&self, tier: Tier, key: &str, deadline: Instant) -> Result<Option<Entry<Bytes>>, StoreFailure> {
        let Some(bytes) = self.stores.read(tier, key, self.clock.at(deadline)).await? else { return Ok(None) };
        opened(&bytes, &self.clock).map(Some)
    }

    async fn write(&self, tier: Tier, key: &str, entry: Entry<Bytes>, deadline: Instant) -> Result<(), StoreFailure> {
        let bytes = envelope::encode(&entry, self.clock.wall());
        self.stores.write(tier, key, bytes.into(), entry.remaining(), self.clock.at(deadline)).await
    }
}

/// The entry in an envelope; its value shares the envelope's bytes.
fn opened(bytes: &Bytes, clock: &HostClock) -> Result<Entry<Bytes>, StoreFailure> {
    match envelope::decode(bytes, clock.wall()) {
        Ok(entry) => Ok(entry.map(|value| bytes.slice_ref(value))),
        Err(reason) => {
            debug!(%reason, "bytes in the store are no envelope of ours");
            Err(StoreFailure::Corrupt)
        }
    }
}

impl Landing {
    fn new() -> Self {
        Self { outcome: watch::Sender::new(None), task: None }
    }
}

/// The task of a flight. Dropping it before the flight is done abandons the flight.
struct Flying {
    driver: Arc<Driver>,
    flight: Option<FlightId>,
}

impl Flying {
    async fn fly(mut self, mut step: Step<Key, Bytes>, origin: Option<Origin>) {
        let driver = Arc::clone(&self.driver);
        let mut load_error = None;
        while let Some(flight) = self.flight {
            let event = match step {
                Step::ReadStore { tier, key, deadline } => Event::StoreRead(driver.read(tier, &key, deadline).await),
                Step::Load { key, attempt, deadline, previous } => {
                    let context = LoadContext::new(key, attempt, driver.clock.at(deadline), previous);
                    let (event, error) = driver.loaded(flight, context, origin.as_ref()).await;
                    load_error = error;
                    event
                }
                Step::Sleep { until } => {
                    tokio::time::sleep_until(driver.clock.at(until)).await;
                    Event::Slept
                }
                Step::Land { outcome } => {
                    driver.publish(flight, outcome, load_error.take());
                    Event::Landed
                }
                Step::WriteStore { tier, key, entry, deadline } => {
                    Event::StoreWritten(driver.write(tier, &key, entry, deadline).await)
                }
                Step::RemoveStore { tier, key, deadline } => {
                    Event::StoreRemoved(driver.stores.remove(tier, &key, driver.clock.at(deadline)).await)
                }
                Step::ClearStore { tier, deadline } => {
                    Event::StoreCleared(driver.stores.clear(tier, driver.clock.at(deadline)).await)
                }
                Step::Done { next } => {
                    self.flight = next.as_ref().map(|next| next.flight);
                    driver.hand_over(flight, self.flight);
                    step = next.map_or(Step::Done { next: None }, |next| next.step);
                    continue;
                }
            };
            step = match driver.engine.resume(flight, event, driver.clock.now()) {
                Ok(step) => step,
                Err(broken) => {
                    error!(error = %broken, "a flight is lost");
                    return;
                }
            };
        }
    }
}

impl Driver {
    /// The flight is over; its task goes on with `next`.
    fn hand_over(&self, flight: FlightId, next: Option<FlightId>) {
        let mut landings = self.landings();
        let task = landings.remove(&flight).and_then(|landing| landing.task);
        if let Some(next) = next {
            landings.entry(next).or_insert_with(Landing::new).task = task;
        }
    }

    async fn loaded(
        &self,
        flight: FlightId,
        context: LoadContext,
        origin: Option<&Origin>,
    ) -> (Event<Bytes>, Option<Arc<LoadError>>) {
        let Some(origin) = origin else {
            return (Event::Loaded(Err(LoadFailure::from(Class::Unavailable))), None);
        };
        match origin.load(self.id, flight.0, context).await {
            Ok(loaded) => (Event::Loaded(Ok(loaded.into_core())), None),
            Err(error) => (Event::Loaded(Err(error.failure())), Some(error)),
        }
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            self.driver.abandon(flight);
        }
    }
}

/// A caller that waits. Dropping it before the flight has landed tells the machine.
struct Waiter {
    driver: Arc<Driver>,
    flight: FlightId,
    until: Instant,
    landing: Option<watch::Receiver<Option<Landed>>>,
}

impl Waiter {
    async fn landed(mut self) -> Result<Landed, Error> {
        let until = self.driver.clock.at(self.until);
        let Some(landing) = &mut self.landing else { return Err(Error::Abandoned) };
        let landed = match tokio::time::timeout_at(until, landing.wait_for(Option::is_some)).await {
            Ok(Ok(landed)) => landed.clone().ok_or(Error::Abandoned),
            Ok(Err(_gone)) => Err(Error::Abandoned),
            Err(_elapsed) => self
                .driver
                .engine
                .expire(self.flight, self.driver.clock.now())
                .map(|outcome| Landed { outcome, error: None })
                .map_err(Error::from),
        };
        // Answered, or told the machine that it goes: nothing is left to say on drop.
        self.landing = None;
        landed
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(landing) = self.landing.take()
            && landing.borrow().is_none()
        {
            self.driver.leave(self.flight);
        }
    }
}
