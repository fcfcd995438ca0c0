//! Single flight: at most one flight that others can join for each key and purpose, and who waits for it.
//!
//! A flight is *current* while its key leads to it. It stops being current when it lands, when it is fenced (a put,
//! removal or clear won over it) and when its leader has grown too old; from then on nobody joins it and nothing it
//! brings is kept, but those who wait for it still get their answer.

use core::hash::Hash;
use core::time::Duration;

use crate::failure::Refusal;
use crate::step::{FlightId, Left};
use crate::storage::{Map, Storage};
use crate::time::Instant;

/// What a flight is for. Only flights of the same purpose are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Bring the value, from the origin if need be.
    Load,
    /// See whether the store has the value.
    Read,
}

/// Why a flight keeps nothing of what it brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Fence {
    /// A change won over it.
    Change,
    /// It grew too old.
    Age,
    /// Nobody can find it, so no change can.
    Alone,
}

/// Limits of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) waiters_max: usize,
    pub(crate) flights_max: usize,
    pub(crate) leader_age_max: Duration,
}

/// All flights under way, each with the work `W` that it carries.
#[derive(Clone)]
pub(crate) struct Flights<K: Clone + Hash + Eq, W: Clone, S: Storage> {
    rows: S::Map<FlightId, Flight<K, W>>,
    current: S::Map<(K, Purpose), FlightId>,
    limits: Limits,
    next: u64,
}

#[derive(Clone)]
pub(crate) struct Flight<K, W> {
    /// `None` for a flight about the whole namespace.
    pub(crate) key: Option<K>,
    pub(crate) started_at: Instant,
    pub(crate) work: W,
    pub(crate) purpose: Option<Purpose>,
    waiters: usize,
    /// Goes on although nobody waits: a refresh, a write, a load whose waiters ran out of time.
    kept: bool,
    pub(crate) fence: Option<Fence>,
    landed: bool,
}

impl<K: Clone + Hash + Eq, W: Clone, S: Storage> Flights<K, W, S> {
    pub(crate) fn new(limits: Limits) -> Self {
        let limits = Limits { flights_max: S::room_for(limits.flights_max), ..limits };
        Self { rows: Default::default(), current: Default::default(), limits, next: 1 }
    }

    pub(crate) fn number_from(&mut self, first: FlightId) {
        self.next = self.next.max(first.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The flight to join for `key`. One whose leader is too old is fenced instead.
    pub(crate) fn current(&mut self, key: &K, purpose: Purpose, now: Instant) -> Option<FlightId> {
        let id = *self.current.get(&(key.clone(), purpose))?;
        let flight = self.rows.get(&id)?;
        if now - flight.started_at < self.limits.leader_age_max {
            return Some(id);
        }
        self.fence_one(id, Fence::Age);
        None
    }

    /// Whether there is one to join.
    #[cfg(feature = "alloc")]
    pub(crate) fn is_current(&self, key: &K, purpose: Purpose, now: Instant) -> bool {
        let flight = self.current.get(&(key.clone(), purpose)).and_then(|id| self.rows.get(id));
        flight.is_some_and(|flight| now - flight.started_at < self.limits.leader_age_max)
    }

    /// A new flight. With a purpose it becomes the current one of its key; without, nobody can join it, and as no
    /// change can find it either, it counts as fenced from the beginning.
    pub(crate) fn open(
        &mut self,
        key: Option<K>,
        purpose: Option<Purpose>,
        work: W,
        now: Instant,
    ) -> Result<FlightId, Refusal> {
        self.admits()?;
        let id = FlightId(self.next);
        let place = key.clone().zip(purpose);
        let fence = if purpose.is_none() { Some(Fence::Alone) } else { None };
        let flight = Flight { key, started_at: now, work, purpose, waiters: 0, kept: false, fence, landed: false };
        let full = Refusal::TooManyFlights { max: self.limits.flights_max };
        if self.rows.insert(id, flight).is_err() {
            return Err(full);
        }
        if let Some(place) = place
            && self.current.insert(place, id).is_err()
        {
            self.rows.remove(&id);
            return Err(full);
        }
        self.next += 1;
        Ok(id)
    }

    /// Whether there is room for one more flight.
    pub(crate) fn admits(&self) -> Result<(), Refusal> {
        let max = self.limits.flights_max;
        if self.rows.len() >= max { Err(Refusal::TooManyFlights { max }) } else { Ok(()) }
    }

    /// Whether there is room for one more waiter.
    pub(crate) fn admits_waiter(&self, id: FlightId) -> Result<(), Refusal> {
        let max = self.limits.waiters_max;
        match self.rows.get(&id) {
            Some(flight) if flight.waiters < max => Ok(()),
            _ => Err(Refusal::TooManyWaiters { max }),
        }
    }

    /// One more waiter.
    pub(crate) fn join(&mut self, id: FlightId) -> Result<(), Refusal> {
        self.admits_waiter(id)?;
        if let Some(flight) = self.rows.get_mut(&id) {
            flight.waiters += 1;
        }
        Ok(())
    }

    /// One waiter less. The flight is to be abandoned when that was the last one and nothing else keeps it.
    pub(crate) fn leave(&mut self, id: FlightId) -> Left {
        let Some(flight) = self.rows.get_mut(&id).filter(|flight| !flight.landed) else { return Left::Stays };
        flight.waiters = flight.waiters.saturating_sub(1);
        if flight.waiters > 0 || flight.kept { Left::Stays } else { Left::Abandon }
    }

    /// Lets a flight go on to its end, whoever waits.
    pub(crate) fn keep(&mut self, id: FlightId) {
        if let Some(flight) = self.rows.get_mut(&id) {
            flight.kept = true;
        }
    }

    /// Whatever flies for `key` has lost: it keeps nothing, and nobody joins it any more.
    pub(crate) fn fence(&mut self, key: &K) {
        for id in self.of(key).into_iter().flatten() {
            self.fence_one(id, Fence::Change);
        }
    }

    /// The flights of `key` that others can join.
    pub(crate) fn of(&self, key: &K) -> [Option<FlightId>; 2] {
        [Purpose::Load, Purpose::Read].map(|purpose| self.current.get(&(key.clone(), purpose)).copied())
    }

    /// Shows all flights under way, to be changed.
    pub(crate) fn for_each(&mut self, change: impl FnMut(&mut Flight<K, W>)) {
        self.rows.values_mut().for_each(change);
    }

    /// The key of each flight under way that has one.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.rows.iter().filter_map(|(_, flight)| flight.key.as_ref())
    }

    /// Fences everything.
    pub(crate) fn fence_all(&mut self) {
        self.current.clear();
        self.rows.values_mut().for_each(|flight| flight.fence = Some(Fence::Change));
    }

    /// Takes the flight off its key: it has its outcome, nobody joins it any more.
    pub(crate) fn land(&mut self, id: FlightId) {
        self.take_off_key(id);
        if let Some(flight) = self.rows.get_mut(&id) {
            flight.landed = true;
        }
    }

    /// Whether the flight has its outcome.
    pub(crate) fn has_landed(&self, id: FlightId) -> bool {
        self.rows.get(&id).is_none_or(|flight| flight.landed)
    }

    /// Whether a change won over this flight.
    pub(crate) fn is_fenced(&self, id: FlightId) -> bool {
        self.rows.get(&id).is_none_or(|flight| flight.fence.is_some())
    }

    /// How many are still to be answered.
    pub(crate) fn waiters(&self, id: FlightId) -> usize {
        self.rows.get(&id).filter(|flight| !flight.landed).map_or(0, |flight| flight.waiters)
    }

    pub(crate) fn get(&self, id: FlightId) -> Option<&Flight<K, W>> {
        self.rows.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: FlightId) -> Option<&mut Flight<K, W>> {
        self.rows.get_mut(&id)
    }

    /// Forgets the flight.
    pub(crate) fn close(&mut self, id: FlightId) -> Option<Flight<K, W>> {
        self.take_off_key(id);
        self.rows.remove(&id)
    }

    pub(crate) fn fence_one(&mut self, id: FlightId, fence: Fence) {
        self.take_off_key(id);
        if let Some(flight) = self.rows.get_mut(&id) {
            flight.fence.get_or_insert(fence);
        }
    }

    fn take_off_key(&mut self, id: FlightId) {
        let Some(flight) = self.rows.get(&id) else { return };
        let (Some(key), Some(purpose)) = (&flight.key, flight.purpose) else { return };
        let place = (key.clone(), purpose);
        if self.current.get(&place) == Some(&id) {
            self.current.remove(&place);
        }
    }
}
