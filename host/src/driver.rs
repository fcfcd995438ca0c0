//! The tokio driver: one loop around one `match` for each flight, and a table of who waits for which.
//!
//! It decides nothing. What a step says is done, at a step's deadline the work is dropped and reported as timed out, and
//! whatever ends a flight's task (cancel, panic, shutdown) resumes the flight with `Abandoned`. A flight that is to wait
//! is parked: its task ends, and its luggage stays in the table until another flight's step names it.

mod hearing;
mod storing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tideover_core::cache::explain::Story;
use tideover_core::cache::snapshot::{Restored, Taken};
use tideover_core::{
    Answer, Call, Class, Clock, Command, Event, Failure, FlightId, Instant, Launch, Left, LoadFailure, Lookup, Note,
    Outcome, Served, Step, StoreUse,
};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

use crate::cache::random_seed;
use crate::clock::{Deadline, HostClock};
use crate::engine::{Engine, EngineError, Key, Payload, Report};
use crate::error::Error;
use crate::loader::{LoadContext, LoadError};
use crate::observe;
use crate::outside::{Ask, CacheId, Chain, Origin, Stores};
use crate::store::{Ear, Elsewhere, Lease};

pub(crate) struct Driver {
    id: CacheId,
    engine: Arc<dyn Engine>,
    stores: Stores,
    clock: HostClock,
    /// Who writes, to other processes: nobody else has this number.
    writer: u64,
    /// Held for as long as the store is listened to.
    ear: Mutex<Option<Arc<dyn Ear>>>,
    /// The engine was replaced where the store could not be listened to anew: it trusts nothing there until it is.
    deaf: AtomicBool,
    landings: Mutex<Landings>,
    given_up: Mutex<GivenUp>,
    tasks: TaskTracker,
    closing: AtomicBool,
    /// Whether anybody decodes values; see [`Payload::with_room_for_face`].
    faces: AtomicBool,
    cut_short: CancellationToken,
}

/// The flights under way, and those that somebody waits for.
#[derive(Default)]
struct Landings(HashMap<FlightId, Landing>);

/// A flight as its waiters see it. Dropping it releases them all.
struct Landing {
    outcome: watch::Sender<Option<Landed>>,
    task: Option<AbortHandle>,
    stand: Stand,
}

/// Who has a flight at present.
enum Stand {
    /// Nobody: it is yet to be launched.
    Queued,
    /// Its task.
    Flying,
    /// Its task, which was told to park it while another one was told to launch it: the two cancel out.
    Named,
    /// Nobody: it waits to be named.
    Parked(Luggage),
}

/// What a flight carries from step to step.
#[derive(Default)]
struct Luggage {
    origin: Option<Origin>,
    /// The error of the last load, for those who wait.
    error: Option<Arc<LoadError>>,
    /// Whoever led it asked for its story.
    explain: bool,
    /// A lease that it has, which it gives back when it is over, or that others have.
    lease: Option<Lease>,
    elsewhere: Option<Elsewhere>,
}

/// Flights to be abandoned. Whoever finds nobody at work on them works them off, so that flights that name each other
/// are not abandoned inside one another.
#[derive(Default)]
struct GivenUp {
    flights: Vec<FlightId>,
    at_work: bool,
}

/// What a landed flight brought, with the loader's own error if it failed.
#[derive(Clone)]
struct Landed {
    outcome: Outcome<Payload>,
    /// `None` before the flight has landed.
    store: Option<StoreUse>,
    error: Option<Arc<LoadError>>,
    story: Option<Arc<Story>>,
}

/// The answer to a call.
pub(crate) struct Reply {
    pub(crate) outcome: Outcome<Payload>,
    /// What the shared store had to do with it; `None` for an answer before the flight has landed.
    pub(crate) store: Option<StoreUse>,
    pub(crate) error: Option<Arc<LoadError>>,
    pub(crate) led: bool,
    pub(crate) waited: bool,
    /// Why, if the call asked for it and somebody told it.
    pub(crate) story: Option<Arc<Story>>,
}

impl Reply {
    fn at_once(outcome: Outcome<Payload>, story: Option<Story>) -> Self {
        let (store, story) = (Some(StoreUse::Unasked), story.map(Arc::new));
        Self { outcome, store, error: None, led: false, waited: false, story }
    }
}

impl Driver {
    pub(crate) fn new(engine: Arc<dyn Engine>, stores: Stores, clock: HostClock) -> Arc<Self> {
        let driver = Arc::new(Self {
            id: CacheId::new(),
            engine,
            stores,
            clock,
            writer: random_seed(),
            ear: Mutex::default(),
            deaf: AtomicBool::new(false),
            landings: Mutex::default(),
            given_up: Mutex::default(),
            tasks: TaskTracker::new(),
            closing: AtomicBool::new(false),
            faces: AtomicBool::new(false),
            cut_short: CancellationToken::new(),
        });
        driver.listen();
        driver
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// Asks the engine for something beside calls, until the shutdown.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], and [`Error::Engine`] when the engine broke.
    pub(crate) fn ask<T>(
        self: &Arc<Self>,
        question: impl FnOnce(&dyn Engine) -> Result<T, EngineError>,
    ) -> Result<T, Error> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        Ok(self.unbroken(question(&*self.engine))?)
    }

    /// How the engine is, also after the shutdown.
    ///
    /// # Errors
    ///
    /// [`EngineError`].
    pub(crate) fn report(self: &Arc<Self>) -> Result<Report, EngineError> {
        self.unbroken(self.engine.report())
    }

    /// Brings back what a snapshot holds. What it knows of the store's log is as old as the snapshot.
    ///
    /// # Errors
    ///
    /// As [`Driver::ask`], and [`Error::Snapshot`].
    pub(crate) fn restore(self: &Arc<Self>, bytes: &[u8], taken: Taken) -> Result<Restored, Error> {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let restored = self.ask(|engine| engine.restore(bytes, taken, now, wall))?.map_err(Error::Snapshot)?;
        self.listen();
        Ok(restored)
    }

    pub(crate) fn clock(&self) -> &HostClock {
        &self.clock
    }

    pub(crate) fn remember_faces(&self) {
        self.faces.store(true, Ordering::Relaxed);
    }

    /// A fresh value from memory, without anything else being touched; none after the shutdown.
    pub(crate) fn hit(&self, key: &str) -> Option<Served<Payload>> {
        if self.closing.load(Ordering::Acquire) {
            return None;
        }
        self.engine.hit(key, self.clock.now())
    }

    /// The value under a key; without a loader, only if memory or a store has it.
    pub(crate) async fn get(self: &Arc<Self>, ask: Ask) -> Result<Reply, Error> {
        let Ask { key, loader, of, deadline, max_age, explain } = ask;
        let chain = Chain::here();
        let within: Vec<_> = chain.of(self.id).map(FlightId).collect();
        let origin = loader.map(|loader| Origin::new(loader, chain));
        let read_only = origin.is_none();
        let call = Call { deadline: Some(deadline), read_only, max_age, explain, loader: of, within: &within };
        loop {
            let luggage = Luggage { origin: origin.clone(), explain, ..Luggage::default() };
            let reply = self.call(luggage, |engine, now| engine.lookup(&key, call, now)).await?;
            match reply.outcome {
                // What is for another caller alone is not for this one: it asks again, for itself.
                Outcome::Private(_) if !reply.led => {}
                Outcome::Again => {}
                _ => return Ok(reply),
            }
        }
    }

    pub(crate) const fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Makes a change, and waits until it is in the stores or known not to get there.
    pub(crate) async fn change(self: &Arc<Self>, command: Command<Key, Payload>) -> Result<Reply, Error> {
        self.call(Luggage::default(), |engine, now| engine.command(command, now)).await
    }

    async fn call(
        self: &Arc<Self>,
        luggage: Luggage,
        ask: impl FnOnce(&dyn Engine, Instant) -> Result<Lookup<Key, Payload>, EngineError>,
    ) -> Result<Reply, Error> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let explain = luggage.explain;
        let asked = {
            // Held while the engine is asked, so that a flight cannot land between naming it and waiting for it.
            let mut landings = self.landings();
            ask(&*self.engine, self.clock.now()).map(|Lookup { answer, launch }| {
                let waiter = match answer {
                    Answer::Pending { flight, until, deadline } => {
                        Ok(self.wait_for(&mut landings, flight, until, deadline))
                    }
                    answer => Err(answer),
                };
                // For the same reason: the next lookup's story takes the place of this one's.
                let told = explain && matches!(waiter, Err(Answer::Now(_)));
                (waiter, launch, told.then(|| self.story(None)).flatten())
            })
        };
        let (waiter, launch, story) = self.unbroken(asked)?;
        let led = launch.as_ref().map(|launch| launch.flight);
        if let Some(launch) = launch {
            self.launch(launch, luggage);
        }
        match waiter {
            Ok(mut waiter) => {
                let led = led == Some(waiter.flight);
                waiter.explain = explain;
                let Landed { outcome, store, error, story } = waiter.landed().await?;
                Ok(Reply { outcome, store, error, led, waited: true, story: story.filter(|_| explain) })
            }
            Err(Answer::Refused(refusal)) => Err(Error::Refused(refusal)),
            Err(Answer::Now(outcome)) => Ok(Reply::at_once(outcome, story)),
            Err(Answer::Pending { .. }) => Err(Error::Abandoned),
        }
    }

    /// See [`Engine::story`]. An engine that broke tells none; whoever flies in it finds out by its next step.
    fn story(&self, flight: Option<FlightId>) -> Option<Story> {
        self.hearing(self.engine.story(flight)).ok().flatten()
    }

    fn wait_for(
        self: &Arc<Self>,
        landings: &mut Landings,
        flight: FlightId,
        until: Instant,
        deadline: Instant,
    ) -> Waiter {
        let landing = landings.0.entry(flight).or_insert_with(Landing::new);
        let landing = Some(landing.outcome.subscribe());
        Waiter { driver: Arc::clone(self), flight, until, deadline, explain: false, landing }
    }

    /// What flew in an engine that broke is over. Tasks find out by themselves, parked flights would not.
    fn unbroken<T>(self: &Arc<Self>, result: Result<T, EngineError>) -> Result<T, EngineError> {
        if self.hearing(result.as_ref()).is_err() {
            self.abandon_parked();
            self.listen_if_deaf();
        }
        result
    }

    fn launch(self: &Arc<Self>, launch: Launch<Key, Payload>, luggage: Luggage) {
        let Launch { flight, step } = launch;
        self.landings().0.entry(flight).or_insert_with(Landing::new).stand = Stand::Flying;
        self.spawn(flight, Some(step), luggage);
    }

    /// Launches a flight that a step of another one named, with its own luggage if it was parked.
    fn launch_next(self: &Arc<Self>, next: FlightId) {
        let stand = self.landings().take_over(next);
        match stand {
            Some(Stand::Parked(own)) => self.spawn(next, None, own),
            Some(_) => self.spawn(next, None, Luggage::default()),
            None => {}
        }
    }

    /// Gives the flight a task of its own. To be called without the table: a runtime that shuts down drops the task
    /// inside `spawn`, which abandons the flight there and then.
    fn spawn(self: &Arc<Self>, flight: FlightId, step: Option<Step<Key, Payload>>, luggage: Luggage) {
        let span = self.stores.observed.flight_span(flight.0);
        let task = Flying { driver: Arc::clone(self), flight: Some(flight) }.fly(step, luggage, span);
        let cut_short = self.cut_short.clone();
        let task = self.tasks.spawn(async move {
            tokio::select! {
                () = cut_short.cancelled() => {}
                () = task => {}
            }
        });
        if let Some(landing) = self.landings().0.get_mut(&flight) {
            landing.task = Some(task.abort_handle());
        }
    }

    /// Hands the outcome to everybody who waits for the flight.
    fn publish(&self, flight: FlightId, landed: Landed) {
        if let Some(landing) = self.landings().0.get_mut(&flight) {
            landing.outcome.send_replace(Some(landed));
        }
    }

    fn landings(&self) -> MutexGuard<'_, Landings> {
        self.landings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A waiter went away. When it was the last one that was interested, the flight ends now, before anybody else can
    /// join it.
    fn leave(self: &Arc<Self>, flight: FlightId) {
        let (step, landing) = {
            let mut landings = self.landings();
            if !matches!(self.hearing(self.engine.leave(flight)), Ok(Left::Abandon)) {
                return;
            }
            (self.engine.resume(flight, Event::Abandoned, self.clock.now()), landings.0.remove(&flight))
        };
        if let Some(task) = landing.and_then(|landing| landing.task) {
            task.abort();
        }
        if let Ok(Step::Done { next: Some(next) }) = self.unbroken(step) {
            self.launch_next(next);
        }
    }

    /// The driver of a flight is gone: settles what the flight holds, and launches what waited for it.
    fn abandon(self: &Arc<Self>, flight: FlightId) {
        let mut given_up = self.given_up();
        given_up.flights.push(flight);
        if std::mem::replace(&mut given_up.at_work, true) {
            return;
        }
        drop(given_up);
        while let Some(flight) = self.next_given_up() {
            self.settle(flight);
        }
    }

    fn next_given_up(&self) -> Option<FlightId> {
        let mut given_up = self.given_up();
        let next = given_up.flights.pop();
        given_up.at_work = next.is_some();
        next
    }

    fn given_up(&self) -> MutexGuard<'_, GivenUp> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(self: &Arc<Self>, flight: FlightId) {
        let now = self.clock.now();
        let mut step = self.hearing(self.engine.resume(flight, Event::Abandoned, now));
        let mut beside = None;
        if let Ok(Step::Land { outcome, store, next }) = step {
            beside = next;
            self.publish(flight, Landed { outcome, store: Some(store), error: None, story: None });
            step = self.hearing(self.engine.resume(flight, Event::Landed, now));
        }
        // Dropped outside of the table: a loader may hold anything.
        let _landing = self.landings().0.remove(&flight);
        let place = if let Ok(Step::Done { next }) = step { next } else { None };
        let flies_on = !self.cut_short.is_cancelled() && tokio::runtime::Handle::try_current().is_ok();
        for next in beside.into_iter().chain(place) {
            if flies_on { self.launch_next(next) } else { self.abandon(next) }
        }
    }

    fn abandon_parked(self: &Arc<Self>) {
        let is_parked = |(_, landing): &(&FlightId, &Landing)| matches!(landing.stand, Stand::Parked(_));
        let parked: Vec<FlightId> = self.landings().0.iter().filter(is_parked).map(|(flight, _)| *flight).collect();
        parked.into_iter().for_each(|flight| self.abandon(flight));
    }

    /// What the machine wants done although nobody calls; to be called now and then.
    pub(crate) fn maintain(self: &Arc<Self>) {
        if self.closing.load(Ordering::Acquire) {
            return;
        }
        self.listen_if_deaf();
        if let Ok(Some(next)) = self.unbroken(self.engine.maintain(self.clock.now())) {
            self.launch_next(next);
        }
    }

    /// Takes no more calls, lets flights end for `grace`, cuts the rest short, and closes the stores, or stops to listen
    /// to one that goes on without it.
    pub(crate) async fn shutdown(self: &Arc<Self>, grace: Duration) {
        self.closing.store(true, Ordering::Release);
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            self.cut_short.cancel();
            self.tasks.wait().await;
        }
        // Nobody is left who could name them.
        self.cut_short.cancel();
        self.abandon_parked();
        self.stop_listening();
        self.stores.close().await;
    }
}

impl Landing {
    fn new() -> Self {
        Self { outcome: watch::Sender::new(None), task: None, stand: Stand::Queued }
    }
}

impl Landings {
    /// Whoever is to launch `flight` takes it over as it stood: queued or parked. `None` if its task is about to park it
    /// and need not.
    fn take_over(&mut self, flight: FlightId) -> Option<Stand> {
        let landing = self.0.entry(flight).or_insert_with(Landing::new);
        match std::mem::replace(&mut landing.stand, Stand::Flying) {
            stand @ (Stand::Queued | Stand::Parked(_)) => Some(stand),
            Stand::Flying | Stand::Named => {
                landing.stand = Stand::Named;
                None
            }
        }
    }

    /// The flight is put aside. It gets its luggage back if it was named already, or is over because everybody has left.
    fn park(&mut self, flight: FlightId, luggage: Luggage) -> Option<Luggage> {
        let Some(landing) = self.0.get_mut(&flight) else { return Some(luggage) };
        if matches!(landing.stand, Stand::Named) {
            landing.stand = Stand::Flying;
            return Some(luggage);
        }
        (landing.stand, landing.task) = (Stand::Parked(luggage), None);
        None
    }
}

/// The task of a flight. Dropping it before the flight is done abandons the flight.
struct Flying {
    driver: Arc<Driver>,
    flight: Option<FlightId>,
}

impl Flying {
    /// Flies on from `step`, `None` for a flight that was named as the next one; and whatever takes its place after it.
    async fn fly(mut self, mut step: Option<Step<Key, Payload>>, mut luggage: Luggage, mut span: Span) {
        while let Some(flight) = self.flight {
            let flown = self.fly_one(flight, step.take(), luggage, &span).instrument(span.clone()).await;
            let Some((next, theirs)) = flown else { return };
            (self.flight, luggage) = (Some(next), theirs);
            span = self.driver.stores.observed.flight_span(next.0);
        }
    }

    /// Flies one flight to its end, or until it is parked; and says which one its task goes on with.
    async fn fly_one(
        &mut self,
        flight: FlightId,
        mut given: Option<Step<Key, Payload>>,
        mut luggage: Luggage,
        span: &Span,
    ) -> Option<(FlightId, Luggage)> {
        let driver = Arc::clone(&self.driver);
        let mut event = Event::Launched;
        loop {
            let step = match given.take() {
                Some(step) => step,
                None => match driver.unbroken(driver.engine.resume(flight, event, driver.clock.now())) {
                    Ok(step) => step,
                    // It is lost with the engine, which says so itself.
                    Err(_broken) => return None,
                },
            };
            event = match step {
                Step::ReadStore { tier, key, deadline } => Event::StoreRead(driver.read(tier, &key, deadline).await),
                Step::Load { key, attempt, deadline, previous } => {
                    let deadline = driver.clock.deadline(deadline);
                    let context = LoadContext::new(key, attempt, deadline.at(), previous);
                    driver.load(flight, context, &deadline, &mut luggage).await
                }
                Step::Sleep { until } => {
                    driver.clock.sleep_until(until).await;
                    Event::Slept
                }
                Step::Wait => {
                    let back = driver.landings().park(flight, luggage);
                    let Some(back) = back else {
                        self.flight = None;
                        return None;
                    };
                    luggage = back;
                    Event::Launched
                }
                Step::Land { outcome, store, next } => {
                    observe::landed(span, &outcome);
                    let story = luggage.explain.then(|| driver.story(Some(flight))).flatten().map(Arc::new);
                    let (store, error) = (Some(store), luggage.error.take());
                    driver.publish(flight, Landed { outcome, store, error, story });
                    if let Some(next) = next {
                        driver.launch_next(next);
                    }
                    Event::Landed
                }
                Step::WriteStore { tier, key, entry, intent, deadline } => {
                    Event::StoreWritten(driver.write(tier, &key, entry, intent, deadline).await)
                }
                Step::RemoveStore { tier, key, intent, fence_for, deadline } => {
                    Event::StoreRemoved(driver.remove(tier, &key, intent, fence_for, deadline).await)
                }
                Step::AcquireLease { key, ttl, hold_for, deadline } => {
                    Event::LeaseAnswered(driver.lease(&key, ttl, hold_for, deadline, &mut luggage).await)
                }
                Step::AwaitLease { until, .. } => {
                    if let Some(elsewhere) = luggage.elsewhere.take() {
                        let freed = elsewhere.freed_by(driver.clock.at(until));
                        let _freed_or_not = driver.clock.deadline(until).limit(freed).await;
                    }
                    Event::LeaseAwaited
                }
                Step::ClearStore { tier, deadline } => {
                    let (wall, deadline) = (driver.clock.wall(), driver.clock.deadline(deadline));
                    Event::StoreCleared(driver.stores.clear(tier, driver.writer, wall, &deadline).await)
                }
                Step::InvalidateStore { tag, how, made_ago, deadline } => {
                    let at = driver.clock.wall().before(made_ago);
                    let (note, deadline) = (Note::Invalidated(tag, how), driver.clock.deadline(deadline));
                    Event::StoreInvalidated(driver.stores.note(driver.writer, note, at, &deadline).await)
                }
                Step::Done { next } => {
                    self.flight = None;
                    return driver.hand_over(flight, next, luggage);
                }
            };
        }
    }
}

impl Driver {
    /// The flight is over; its task goes on with `next`, if there is one that has no task.
    fn hand_over(&self, flight: FlightId, next: Option<FlightId>, luggage: Luggage) -> Option<(FlightId, Luggage)> {
        let (next, stand) = {
            let mut landings = self.landings();
            let task = landings.0.remove(&flight).and_then(|landing| landing.task);
            let next = next?;
            let stand = landings.take_over(next)?;
            if let Some(landing) = landings.0.get_mut(&next) {
                landing.task = task;
            }
            (next, stand)
        };
        match stand {
            Stand::Parked(own) => Some((next, own)),
            // A refresh that follows a load uses the same loader.
            _ => Some((next, Luggage { origin: luggage.origin, ..Luggage::default() })),
        }
    }

    async fn load(
        &self,
        flight: FlightId,
        context: LoadContext<Payload>,
        deadline: &Deadline,
        luggage: &mut Luggage,
    ) -> Event<Payload> {
        luggage.error = None;
        let Some(origin) = &luggage.origin else {
            return Event::Loaded(Err(LoadFailure::from(Class::Unavailable)));
        };
        let observed = &self.stores.observed;
        Event::Loaded(match origin.load(self.id, flight.0, context, deadline, observed).await {
            Ok(loaded) => Ok(loaded.into_core()),
            Err(error) => {
                let failure = error.failure();
                luggage.error = Some(error);
                Err(failure)
            }
        })
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
    /// When the machine is to be asked what there is instead.
    until: Instant,
    /// The end of the caller's patience, for the machine to be told.
    deadline: Instant,
    /// The caller asked for the story.
    explain: bool,
    landing: Option<watch::Receiver<Option<Landed>>>,
}

impl Waiter {
    async fn landed(mut self) -> Result<Landed, Error> {
        let Some(landing) = &mut self.landing else { return Err(Error::Abandoned) };
        let landed = loop {
            let until = self.driver.clock.deadline(self.until);
            match until.limit(landing.wait_for(Option::is_some)).await {
                Some(Ok(landed)) => break landed.clone().ok_or(Error::Abandoned),
                Some(Err(_gone)) => break Err(Error::Abandoned),
                None => {}
            }
            let now = self.driver.clock.now();
            match self.driver.unbroken(self.driver.engine.expire(self.flight, self.deadline, now)) {
                Ok(Answer::Now(outcome)) => break Ok(self.gave_up(outcome)),
                Ok(Answer::Pending { until, .. }) if now < until => self.until = until,
                // A machine that would let its callers wait for ever is left alone, and told when this is dropped.
                Ok(Answer::Pending { .. }) => {
                    return Ok(self.gave_up(Outcome::Failed(Failure::DeadlinePassed)));
                }
                Ok(Answer::Refused(refusal)) => break Err(Error::Refused(refusal)),
                Err(broken) => break Err(broken.into()),
            }
        };
        // Answered, or told the machine that it goes: nothing is left to say on drop.
        self.landing = None;
        landed
    }

    /// An answer before the flight has landed, with the story up to here.
    fn gave_up(&self, outcome: Outcome<Payload>) -> Landed {
        let story = self.explain.then(|| self.driver.story(Some(self.flight))).flatten();
        Landed { outcome, store: None, error: None, story: story.map(Arc::new) }
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
