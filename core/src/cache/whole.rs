//! The machine with one memory of its own.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::hash::Hash;

#[cfg(feature = "alloc")]
use serde::{Serialize, de::DeserializeOwned};

#[cfg(feature = "alloc")]
use super::explain::Story;
#[cfg(feature = "alloc")]
use super::snapshot::{Restored, SnapshotError, Taken};
use super::{Dependency, Health, Machine};
use crate::breaker::{BreakerReport, Mode};
use crate::memory::{Memory, MemoryStats, Reason};
use crate::policy::{Policy, PolicyError};
use crate::step::{Answer, Call, Command, Event, FlightId, Left, LoaderId, Lookup, Step, Tidings};
use crate::storage::{Profile, Usual};
use crate::time::Instant;
#[cfg(feature = "alloc")]
use crate::time::WallTime;
use crate::value::Value;

/// A [`Machine`] with one [`Memory`]: the whole cache, for a single thread. The protocol is explained at the
/// [top of the crate](crate).
#[derive(Clone)]
pub struct Cache<K: Clone + Hash + Eq, V: Value, P: Profile = Usual> {
    machine: Machine<K, V, P>,
    memory: Memory<K, V, P>,
}

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Cache<K, V, P> {
    /// See [`Machine::new`].
    ///
    /// # Errors
    ///
    /// [`PolicyError`] as [`Policy::validate`] finds it.
    pub fn new(policy: Policy, seed: u64) -> Result<Self, PolicyError> {
        Machine::new(policy, seed).map(|machine| Self { memory: machine.new_memory(), machine })
    }

    /// See [`Machine::numbered_from`].
    #[must_use]
    pub fn numbered_from(self, first: FlightId) -> Self {
        Self { machine: self.machine.numbered_from(first), ..self }
    }

    /// The choices this cache was made with.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        self.machine.policy()
    }

    /// See [`Machine::lookup`].
    pub fn lookup(&mut self, key: &K, call: Call<'_>, now: Instant) -> Lookup<K, V> {
        self.machine.lookup(&mut self.memory, key, call, now)
    }

    /// See [`Machine::command`].
    pub fn command(&mut self, command: Command<K, V>, now: Instant) -> Lookup<K, V> {
        self.machine.command(&mut self.memory, command, now)
    }

    /// See [`Machine::resume`].
    pub fn resume(&mut self, flight: FlightId, event: Event<V>, now: Instant) -> Step<K, V> {
        self.machine.resume(&mut self.memory, flight, event, now)
    }

    /// See [`Machine::leave`].
    pub fn leave(&mut self, flight: FlightId) -> Left {
        self.machine.leave(flight)
    }

    /// See [`Machine::expire`].
    pub fn expire(&mut self, flight: FlightId, deadline: Instant, now: Instant) -> Answer<V> {
        self.machine.expire(&mut self.memory, flight, deadline, now)
    }

    /// See [`Machine::learn`].
    pub fn learn(&mut self, tidings: impl Into<Tidings<K>>, now: Instant) {
        self.machine.learn(&mut self.memory, tidings, now);
    }

    /// See [`Machine::maintain`].
    pub fn maintain(&mut self, now: Instant) -> Option<FlightId> {
        self.machine.maintain(now)
    }

    /// See [`Machine::set_breaker_mode`].
    pub fn set_breaker_mode(&mut self, of: Dependency, mode: Mode, now: Instant) {
        self.machine.set_breaker_mode(of, mode, now);
    }

    /// See [`Machine::reset_breaker`].
    pub fn reset_breaker(&mut self, of: Dependency, now: Instant) {
        self.machine.reset_breaker(of, now);
    }

    /// See [`Memory::take_removals`].
    pub fn take_removals(&mut self) -> impl Iterator<Item = (K, Reason)> + use<K, V, P> {
        self.memory.take_removals()
    }

    /// The keys of the rows in memory, and [those beside it](Machine::keys). One may come several times.
    ///
    /// ```
    /// use tideover_core::{Cache, Call, Command, Instant, Policy};
    ///
    /// let mut cache: Cache<String, String> = Cache::new(Policy::default(), 1)?;
    /// cache.command(Command::Put { key: "a".to_owned(), value: "1".to_owned(), windows: None }, Instant::ZERO);
    /// cache.lookup(&"b".to_owned(), Call::default(), Instant::ZERO);
    /// let mut keys: Vec<_> = cache.keys().collect();
    /// keys.sort();
    /// assert_eq!(keys, ["a", "b"], "in memory, and being loaded");
    /// # Ok::<(), tideover_core::PolicyError>(())
    /// ```
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.machine.keys().chain(self.memory.keys())
    }

    /// See [`Machine::health`].
    #[must_use]
    pub fn health(&self) -> Health {
        self.machine.health()
    }

    /// See [`Machine::loaders`].
    pub fn loaders(&self) -> impl Iterator<Item = (LoaderId, BreakerReport)> {
        self.machine.loaders()
    }

    /// What the memory has counted.
    #[must_use]
    pub fn memory_stats(&self) -> MemoryStats {
        self.memory.stats()
    }
}

/// What needs an allocator.
#[cfg(feature = "alloc")]
impl<K: Clone + Hash + Eq, V: Value, P: Profile> Cache<K, V, P> {
    /// See [`Machine::story`].
    pub fn story(&mut self, flight: Option<FlightId>) -> Option<Story> {
        self.machine.story(flight)
    }

    /// See [`Machine::snapshot`].
    pub fn snapshot(&mut self, now: Instant, wall: WallTime) -> Vec<u8>
    where
        K: Serialize,
        V: Serialize,
    {
        self.machine.snapshot(&mut self.memory, now, wall)
    }

    /// See [`Machine::restore`].
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]; the cache is as it was.
    pub fn restore(
        &mut self,
        bytes: &[u8],
        taken: Taken,
        now: Instant,
        wall: WallTime,
    ) -> Result<Restored, SnapshotError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        self.machine.restore(&mut self.memory, bytes, taken, now, wall)
    }
}
