//! Who waits for which flight and until when, beside the machine that decides what they get.
//!
//! What concerns other tasks or the host (answers, alarms that ring, loaders that are released) is put into the
//! [`Outbox`] and goes out when the table is unlocked.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use tideover_core::cache::explain::Story;
use tideover_core::direct::WorkId;
use tideover_core::{
    Answer, Cache, Event, Failure, FlightId, Instant, Launch, Left, Lookup, Outcome, Refusal, Step, StoreUse,
};

use super::direct::{self, Direct};
use super::one_shot::OneShot;
use super::{alarm, fly};
use crate::convert::{Key, Value};

pub(super) struct Table {
    pub(super) cache: Cache<Key, Value>,
    pub(super) direct: Direct,
    /// Direct operations that wait until something is paid, and when they lose patience.
    unpaid: BTreeMap<WorkId, (Instant, Arc<OneShot<()>>)>,
    /// Who writes, to other processes: nobody else has this number.
    pub(super) writer: u64,
    /// The flights under way, those that are to wait, and those that queue behind another one of their key.
    flights: BTreeMap<FlightId, Flight>,
    /// Which flight each context leads. A context is released when it leaves this map.
    leading: BTreeMap<u64, FlightId>,
    /// The calls that wait, by their context.
    waiting: BTreeMap<u64, Waiting>,
    /// What is to be done when.
    due: BTreeSet<(Instant, Due)>,
    /// When the alarms that are set will ring.
    alarms: BTreeSet<Instant>,
    /// Those who wait until nothing is under way.
    resting: Vec<Arc<OneShot<()>>>,
    outbox: Outbox,
}

#[derive(Default)]
struct Flight {
    /// The context of the call that led it, kept for the answers.
    leader: Option<u64>,
    waiters: BTreeSet<u64>,
    asleep: Option<(Instant, Arc<OneShot<()>>)>,
    /// The key on which it has a lease.
    lease: Option<Key>,
}

struct Waiting {
    flight: FlightId,
    /// When the machine is to be asked what there is instead.
    until: Instant,
    /// The end of the caller's patience.
    deadline: Instant,
    answer: Arc<OneShot<Landed>>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The call with this context has waited as long as it was told.
    Waiter(u64),
    /// This flight has slept enough.
    Sleeper(FlightId),
    /// This direct operation waits no longer for what is owed to be paid.
    Unpaid(WorkId),
}

/// Calls answered before the instance gives control back: a key may have many waiters.
const PORTION: usize = 4_096;

/// What a call that waited gets.
#[derive(Clone)]
pub(super) struct Landed {
    pub(super) outcome: Outcome<Value>,
    /// What the shared store had to do with it; none before the flight has landed.
    pub(super) store: Option<StoreUse>,
    /// The context of the call that led the flight.
    pub(super) leader: Option<u64>,
    /// Of the flight up to here, if it is being told.
    pub(super) story: Option<Arc<Story>>,
}

/// The first answer to a call.
pub(super) enum Begun {
    Answered(Result<Outcome<Value>, Refusal>),
    Waits(Arc<OneShot<Landed>>),
}

/// What is to be done once the table is unlocked.
#[derive(Default)]
pub(super) struct Outbox {
    answers: Vec<(Arc<OneShot<Landed>>, Landed)>,
    rung: Vec<Arc<OneShot<()>>>,
    released: Vec<u64>,
    leases: Vec<Key>,
}

impl Outbox {
    #[inline(never)]
    pub(super) fn deliver(mut self) {
        let later = self.answers.split_off(self.answers.len().min(PORTION));
        self.answers.into_iter().for_each(|(waiter, landed)| waiter.send(landed));
        if !later.is_empty() {
            wit_bindgen::spawn_local(deliver_in_portions(later));
        }
        self.rung.into_iter().for_each(|sleeper| sleeper.send(()));
        self.released.into_iter().for_each(crate::bindings::tideover::cache::loader::release);
        self.leases.iter().for_each(|key| crate::bindings::tideover::cache::store::release_lease(key));
    }
}

async fn deliver_in_portions(answers: Vec<(Arc<OneShot<Landed>>, Landed)>) {
    for (number, (waiter, landed)) in answers.into_iter().enumerate() {
        if number % PORTION == 0 {
            wit_bindgen::yield_async().await;
        }
        waiter.send(landed);
    }
}

impl Table {
    pub(super) fn new(cache: Cache<Key, Value>, seed: u64, writer: u64) -> Self {
        let policy = cache.policy();
        let direct = Direct::new(policy, policy.store, seed);
        Self {
            cache,
            direct,
            unpaid: BTreeMap::new(),
            writer,
            flights: BTreeMap::new(),
            leading: BTreeMap::new(),
            waiting: BTreeMap::new(),
            due: BTreeSet::new(),
            alarms: BTreeSet::new(),
            resting: Vec::new(),
            outbox: Outbox::default(),
        }
    }

    pub(super) fn outbox(&mut self) -> Outbox {
        self.after_direct();
        self.ring_if_idle();
        mem::take(&mut self.outbox)
    }

    /// What the machine of direct operations wants done beside its answer.
    #[inline(never)]
    fn after_direct(&mut self) {
        for launch in self.direct.launches() {
            wit_bindgen::spawn_local(direct::fly(launch.work, launch.step));
        }
        if self.direct.take_paid() {
            for (work, (until, waiter)) in mem::take(&mut self.unpaid) {
                self.due.remove(&(until, Due::Unpaid(work)));
                self.outbox.rung.push(waiter);
            }
        }
    }

    /// Answers as soon as something is paid, or then.
    pub(super) fn wait_until_paid(&mut self, work: WorkId, until: Instant) -> Arc<OneShot<()>> {
        let waiter = Arc::<OneShot<()>>::default();
        self.unpaid.insert(work, (until, Arc::clone(&waiter)));
        self.remind(until, Due::Unpaid(work));
        waiter
    }

    /// The flights that the calls of these contexts lead.
    pub(super) fn led_by(&self, contexts: &[u64]) -> Vec<FlightId> {
        contexts.iter().filter_map(|context| self.leading.get(context).copied()).collect()
    }

    pub(super) fn leader(&self, flight: FlightId) -> Option<u64> {
        self.flights.get(&flight)?.leader
    }

    /// Flies what the machine launches for a call, and makes the call wait if it has to.
    pub(super) fn begin(&mut self, context: u64, lookup: Lookup<Key, Value>) -> Begun {
        if let Some(launch) = lookup.launch {
            self.flights.entry(launch.flight).or_default().leader = Some(context);
            self.leading.insert(context, launch.flight);
            wit_bindgen::spawn_local(fly(launch.flight, launch.step));
        }
        match lookup.answer {
            Answer::Now(outcome) => Begun::Answered(Ok(outcome)),
            Answer::Refused(refusal) => Begun::Answered(Err(refusal)),
            Answer::Pending { flight, until, deadline } => Begun::Waits(self.wait(context, flight, until, deadline)),
        }
    }

    fn wait(&mut self, context: u64, flight: FlightId, until: Instant, deadline: Instant) -> Arc<OneShot<Landed>> {
        // A host that gives a number twice loses the first of the two calls, and nothing else.
        self.dismiss(context, Failure::Abandoned);
        let answer = Arc::<OneShot<Landed>>::default();
        self.flights.entry(flight).or_default().waiters.insert(context);
        self.waiting.insert(context, Waiting { flight, until, deadline, answer: Arc::clone(&answer) });
        self.remind(until, Due::Waiter(context));
        answer
    }

    /// Flies what belongs to no call.
    pub(super) fn launch(&mut self, launch: Launch<Key, Value>) {
        self.flights.entry(launch.flight).or_default();
        wit_bindgen::spawn_local(fly(launch.flight, launch.step));
    }

    /// Launches a flight that a step of another one named.
    pub(super) fn launch_next(&mut self, next: Option<FlightId>, now: Instant) {
        let Some(flight) = next else { return };
        let step = self.cache.resume(flight, Event::Launched, now);
        self.launch(Launch { flight, step });
    }

    /// Hands the outcome to everybody who waits for the flight.
    pub(super) fn land(&mut self, flight: FlightId, outcome: &Outcome<Value>, store: Option<StoreUse>) {
        let Some(row) = self.flights.get_mut(&flight) else { return };
        let (leader, waiters) = (row.leader, mem::take(&mut row.waiters));
        let story = self.cache.story(Some(flight)).map(Arc::new);
        for context in waiters {
            if let Some(waiting) = self.waiting.remove(&context) {
                self.due.remove(&(waiting.until, Due::Waiter(context)));
                let landed = Landed { outcome: outcome.clone(), store, leader, story: story.clone() };
                self.outbox.answers.push((waiting.answer, landed));
            }
        }
    }

    /// The flight is over. Gives the one that flies in its place, with its step. A refresh that follows a load uses the
    /// same loader.
    pub(super) fn hand_over(
        &mut self,
        flight: FlightId,
        next: Option<FlightId>,
        now: Instant,
    ) -> Option<(FlightId, Step<Key, Value>)> {
        self.land(flight, &Outcome::Failed(Failure::Abandoned), None);
        let over = self.flights.remove(&flight);
        if let Some((until, sleeper)) = over.as_ref().and_then(|row| row.asleep.clone()) {
            self.due.remove(&(until, Due::Sleeper(flight)));
            self.outbox.rung.push(sleeper);
        }
        let (leader, lease) = over.map_or((None, None), |row| (row.leader, row.lease));
        self.outbox.leases.extend(lease);
        let mut leader = leader.filter(|context| self.leading.get(context) == Some(&flight));
        let next = next.map(|next| {
            let step = self.cache.resume(next, Event::Launched, now);
            let row = self.flights.entry(next).or_default();
            if let (Step::Load { .. } | Step::Wait, None, Some(context)) = (&step, row.leader, leader) {
                row.leader = leader.take();
                self.leading.insert(context, next);
            }
            (next, step)
        });
        if let Some(context) = leader {
            self.leading.remove(&context);
            self.outbox.released.push(context);
        }
        next
    }

    /// The caller goes away. A flight that nobody is interested in any more is over at once; its task finds out when
    /// the step that it is at comes back.
    pub(super) fn leave(&mut self, context: u64, now: Instant) {
        let Some(flight) = self.dismiss(context, Failure::Abandoned) else { return };
        self.let_go(flight, now);
    }

    /// One waits for the flight no more.
    fn let_go(&mut self, flight: FlightId, now: Instant) {
        if self.cache.leave(flight) == Left::Stays {
            return;
        }
        // With nobody to answer there is nothing to land.
        let next = match self.cache.resume(flight, Event::Abandoned, now) {
            Step::Done { next } => next,
            _ => None,
        };
        if let Some((flight, step)) = self.hand_over(flight, next, now) {
            self.launch(Launch { flight, step });
        }
    }

    /// Answers the call of that context with a failure, and says what it waited for.
    fn dismiss(&mut self, context: u64, failure: Failure) -> Option<FlightId> {
        let Waiting { flight, until, answer, .. } = self.waiting.remove(&context)?;
        self.due.remove(&(until, Due::Waiter(context)));
        if let Some(row) = self.flights.get_mut(&flight) {
            row.waiters.remove(&context);
        }
        let outcome = Outcome::Failed(failure);
        self.outbox.answers.push((answer, Landed { outcome, store: None, leader: None, story: None }));
        Some(flight)
    }

    /// Wakes the flight then, or as soon as it is over.
    pub(super) fn sleep(&mut self, flight: FlightId, until: Instant) -> Arc<OneShot<()>> {
        let sleeper = Arc::<OneShot<()>>::default();
        match self.flights.get_mut(&flight) {
            Some(row) => {
                row.asleep = Some((until, Arc::clone(&sleeper)));
                self.remind(until, Due::Sleeper(flight));
            }
            None => self.outbox.rung.push(Arc::clone(&sleeper)),
        }
        sleeper
    }

    /// The flight has the lease on `key` until it is over, which it may be already.
    pub(super) fn hold_lease(&mut self, flight: FlightId, key: Key) {
        match self.flights.get_mut(&flight) {
            Some(row) => row.lease = Some(key),
            None => self.outbox.leases.push(key),
        }
    }

    /// Answers as soon as nothing is under way.
    pub(super) fn rest(&mut self) -> Arc<OneShot<()>> {
        let rested = Arc::<OneShot<()>>::default();
        self.resting.push(Arc::clone(&rested));
        rested
    }

    /// Answers those who wait until no flight and no direct operation is under way.
    fn ring_if_idle(&mut self) {
        if !self.resting.is_empty() && self.flights.is_empty() && self.direct.is_idle() {
            self.outbox.rung.append(&mut self.resting);
        }
    }

    /// Sets an alarm if none rings early enough. None is ever cancelled: to cancel a call of the host suspends the
    /// whole instance.
    fn remind(&mut self, at: Instant, due: Due) {
        self.due.insert((at, due));
        if self.alarms.first().is_none_or(|first| at < *first) {
            self.alarms.insert(at);
            wit_bindgen::spawn_local(alarm(at));
        }
    }

    /// The alarm set for `at` rings: does a portion of what is due, and says when this alarm is to ring again if it is
    /// needed.
    pub(super) fn ring(&mut self, at: Instant, now: Instant) -> Option<Instant> {
        for _ in 0..PORTION {
            match self.pop_due(now) {
                Some(Due::Waiter(context)) => self.expire(context, now),
                Some(Due::Sleeper(flight)) => {
                    let asleep = self.flights.get_mut(&flight).and_then(|row| row.asleep.take());
                    self.outbox.rung.extend(asleep.map(|(_, sleeper)| sleeper));
                }
                Some(Due::Unpaid(work)) => {
                    let waiter = self.unpaid.remove(&work);
                    self.outbox.rung.extend(waiter.map(|(_, waiter)| waiter));
                }
                None => break,
            }
        }
        self.alarms.remove(&at);
        let &(next, _) = self.due.first()?;
        let needed = self.alarms.first().is_none_or(|first| next < *first);
        needed.then(|| {
            self.alarms.insert(next);
            next
        })
    }

    fn pop_due(&mut self, now: Instant) -> Option<Due> {
        let (until, _) = self.due.first()?;
        if now < *until {
            return None;
        }
        self.due.pop_first().map(|(_, due)| due)
    }

    /// The call has waited as long as it was told: it gets what there is instead, or waits on.
    fn expire(&mut self, context: u64, now: Instant) {
        let Some(waiting) = self.waiting.get_mut(&context) else { return };
        let flight = waiting.flight;
        let outcome = match self.cache.expire(flight, waiting.deadline, now) {
            Answer::Now(outcome) => outcome,
            Answer::Pending { until, .. } => {
                waiting.until = until;
                return self.remind(until, Due::Waiter(context));
            }
            Answer::Refused(_) => {
                self.dismiss(context, Failure::DeadlinePassed);
                return self.let_go(flight, now);
            }
        };
        let leader = self.flights.get_mut(&flight).and_then(|row| {
            row.waiters.remove(&context);
            row.leader
        });
        if let Some(waiting) = self.waiting.remove(&context) {
            let story = self.cache.story(Some(flight)).map(Arc::new);
            self.outbox.answers.push((waiting.answer, Landed { outcome, store: None, leader, story }));
        }
    }
}
