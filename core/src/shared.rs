//! A cache that threads share where there is no standard library: the machine and its memory behind two spin locks.
//!
//! A hit takes the memory's lock alone. Whoever waits for a lock spins, so this is for short holders on few cores; an
//! interrupt handler must not use a cache that the code it interrupts uses, or it spins for ever. With a standard library
//! a driver of shards behind its own locks does better.

use core::borrow::Borrow;
use core::hash::Hash;

use spin::Mutex;

use crate::breaker::{BreakerReport, Mode};
use crate::cache::{Dependency, Health, Machine, Shards};
use crate::entry::Entry;
use crate::memory::{Memory, MemoryStats, Reason};
use crate::policy::{Policy, PolicyError};
use crate::step::{Answer, Call, Command, Event, FlightId, Left, LoaderId, Lookup, Step, Tidings};
use crate::storage::{Profile, Usual};
use crate::time::Instant;
use crate::value::Value;

#[cfg(feature = "alloc")]
mod saving;

/// A [`Cache`](crate::Cache) for many threads; see the [module](self).
///
/// ```
/// use tideover_core::shared::Shared;
/// use tideover_core::{Command, Fixed, Instant, Policy};
///
/// type Small = Fixed<8, 4, 4, 4>;
/// let cache: Shared<&str, u32, Small> = Shared::new(Policy::default(), 1)?;
/// std::thread::scope(|threads| {
///     threads.spawn(|| cache.command(Command::Put { key: "answer", value: 42, windows: None }, Instant::ZERO));
/// });
/// assert_eq!(cache.hit("answer", Instant::ZERO).map(|entry| entry.value), Some(42));
/// # Ok::<(), tideover_core::PolicyError>(())
/// ```
pub struct Shared<K: Clone + Hash + Eq, V: Value, P: Profile = Usual> {
    machine: Mutex<Machine<K, V, P>>,
    memory: Mutex<Memory<K, V, P>>,
}

struct Locked<'a, K: Clone + Hash + Eq, V: Value, P: Profile>(&'a Mutex<Memory<K, V, P>>);

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Shards<K, V, P> for Locked<'_, K, V, P> {
    fn with<R>(&mut self, _key: &K, access: impl FnOnce(&mut Memory<K, V, P>) -> R) -> R {
        access(&mut self.0.lock())
    }

    fn each(&mut self, mut access: impl FnMut(&mut Memory<K, V, P>)) {
        access(&mut self.0.lock());
    }
}

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Shared<K, V, P> {
    /// See [`Machine::new`].
    ///
    /// # Errors
    ///
    /// [`PolicyError`] as [`Policy::validate`] finds it.
    pub fn new(policy: Policy, seed: u64) -> Result<Self, PolicyError> {
        let machine = Machine::new(policy, seed)?;
        Ok(Self { memory: Mutex::new(machine.new_memory()), machine: Mutex::new(machine) })
    }

    /// The hit path; see [`Memory::fresh`].
    pub fn hit<Q>(&self, key: &Q, now: Instant) -> Option<Entry<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.memory.lock().fresh(key, now)
    }

    /// See [`Machine::lookup`].
    pub fn lookup(&self, key: &K, call: Call<'_>, now: Instant) -> Lookup<K, V> {
        self.machine.lock().lookup(&mut Locked(&self.memory), key, call, now)
    }

    /// See [`Machine::command`].
    pub fn command(&self, command: Command<K, V>, now: Instant) -> Lookup<K, V> {
        self.machine.lock().command(&mut Locked(&self.memory), command, now)
    }

    /// See [`Machine::resume`].
    pub fn resume(&self, flight: FlightId, event: Event<V>, now: Instant) -> Step<K, V> {
        self.machine.lock().resume(&mut Locked(&self.memory), flight, event, now)
    }

    /// See [`Machine::leave`].
    pub fn leave(&self, flight: FlightId) -> Left {
        self.machine.lock().leave(flight)
    }

    /// See [`Machine::expire`].
    pub fn expire(&self, flight: FlightId, deadline: Instant, now: Instant) -> Answer<V> {
        self.machine.lock().expire(&mut Locked(&self.memory), flight, deadline, now)
    }

    /// See [`Machine::learn`].
    pub fn learn(&self, tidings: impl Into<Tidings<K>>, now: Instant) {
        self.machine.lock().learn(&mut Locked(&self.memory), tidings, now);
    }

    /// See [`Machine::maintain`].
    pub fn maintain(&self, now: Instant) -> Option<FlightId> {
        self.machine.lock().maintain(now)
    }

    /// See [`Machine::set_breaker_mode`].
    pub fn set_breaker_mode(&self, of: Dependency, mode: Mode, now: Instant) {
        self.machine.lock().set_breaker_mode(of, mode, now);
    }

    /// See [`Machine::reset_breaker`].
    pub fn reset_breaker(&self, of: Dependency, now: Instant) {
        self.machine.lock().reset_breaker(of, now);
    }

    /// Shows the keys of what the machine [knows of](Machine::keys), then those in memory. What lands meanwhile is shown once
    /// at least, and one key may be shown several times. `tell` must not call the cache: its locks are held.
    pub fn each_key(&self, mut tell: impl FnMut(&K)) {
        self.machine.lock().keys().for_each(&mut tell);
        self.memory.lock().keys().for_each(tell);
    }

    /// See [`Memory::take_removals`].
    pub fn take_removals(&self) -> impl Iterator<Item = (K, Reason)> + use<K, V, P> {
        self.memory.lock().take_removals()
    }

    /// See [`Machine::health`].
    pub fn health(&self) -> Health {
        self.machine.lock().health()
    }

    /// See [`Machine::loaders`]; `see` is not to call the cache.
    pub fn each_loader(&self, mut see: impl FnMut(LoaderId, BreakerReport)) {
        self.machine.lock().loaders().for_each(|(loader, breaker)| see(loader, breaker));
    }

    /// What the memory has counted.
    pub fn memory_stats(&self) -> MemoryStats {
        self.memory.lock().stats()
    }
}
