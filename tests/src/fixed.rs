//! The core without an allocator's help, as an engine: what small devices run, driven by the same tests as the others.

use std::collections::BTreeSet;

use tideover::core::breaker::Mode;
use tideover::core::cache::Dependency;
use tideover::core::cache::explain::Story;
use tideover::core::cache::snapshot::{Restored, SnapshotError, Taken};
use tideover::core::memory::Reason;
use tideover::core::pattern::Pattern;
use tideover::core::{
    Answer, Call, Command, Entry, Event, Fixed, FlightId, Instant, Left, Lookup, Policy, PolicyError, Served, Step,
    Tidings, WallTime,
};
use tideover::engine::{Engine, EngineError, Key, Payload, Report};
use tideover_core::shared::Shared;

/// Rooms in every part of a [`FixedEngine`].
pub const ROOMS: usize = 64;

type Machine = Shared<Key, Payload, Fixed<ROOMS, ROOMS, ROOMS, ROOMS>>;

/// The machine of the profile `Fixed`, behind its two spin locks.
pub struct FixedEngine(Box<Machine>);

impl FixedEngine {
    /// An empty engine.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] as [`Policy::validate`] finds it.
    pub fn new(policy: Policy, seed: u64) -> Result<Self, PolicyError> {
        Shared::new(policy, seed).map(Box::new).map(Self)
    }
}

impl Engine for FixedEngine {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn hit(&self, key: &str, now: Instant) -> Option<Served<Payload>> {
        self.0.hit(key, now).map(Entry::hit)
    }

    fn lookup(&self, key: &Key, call: Call<'_>, now: Instant) -> Result<Lookup<Key, Payload>, EngineError> {
        Ok(self.0.lookup(key, call, now))
    }

    fn command(&self, command: Command<Key, Payload>, now: Instant) -> Result<Lookup<Key, Payload>, EngineError> {
        Ok(self.0.command(command, now))
    }

    fn resume(&self, flight: FlightId, event: Event<Payload>, now: Instant) -> Result<Step<Key, Payload>, EngineError> {
        Ok(self.0.resume(flight, event, now))
    }

    fn leave(&self, flight: FlightId) -> Result<Left, EngineError> {
        Ok(self.0.leave(flight))
    }

    fn learn(&self, tidings: Tidings<Key>, now: Instant) -> Result<(), EngineError> {
        self.0.learn(tidings, now);
        Ok(())
    }

    fn expire(&self, flight: FlightId, deadline: Instant, now: Instant) -> Result<Answer<Payload>, EngineError> {
        Ok(self.0.expire(flight, deadline, now))
    }

    fn maintain(&self, now: Instant) -> Result<Option<FlightId>, EngineError> {
        Ok(self.0.maintain(now))
    }

    fn story(&self, flight: Option<FlightId>) -> Result<Option<Story>, EngineError> {
        Ok(self.0.story(flight))
    }

    fn snapshot(&self, now: Instant, wall: WallTime) -> Result<Vec<u8>, EngineError> {
        Ok(self.0.snapshot(now, wall))
    }

    fn restore(
        &self,
        bytes: &[u8],
        taken: Taken,
        now: Instant,
        wall: WallTime,
    ) -> Result<Result<Restored, SnapshotError>, EngineError> {
        Ok(self.0.restore(bytes, taken, now, wall))
    }

    fn set_breaker_mode(&self, of: Dependency, mode: Mode, now: Instant) -> Result<(), EngineError> {
        self.0.set_breaker_mode(of, mode, now);
        Ok(())
    }

    fn reset_breaker(&self, of: Dependency, now: Instant) -> Result<(), EngineError> {
        self.0.reset_breaker(of, now);
        Ok(())
    }

    fn keys_matching(&self, pattern: &str) -> Result<BTreeSet<Key>, EngineError> {
        let pattern = Pattern::new(pattern);
        let mut found = BTreeSet::new();
        self.0.each_key(|key| {
            if pattern.matches(key) {
                found.insert(Key::clone(key));
            }
        });
        Ok(found)
    }

    fn take_removals(&self) -> Result<Vec<(Key, Reason)>, EngineError> {
        Ok(self.0.take_removals().collect())
    }

    fn report(&self) -> Result<Report, EngineError> {
        let (health, memory) = (self.0.health(), self.0.memory_stats());
        let mut loaders = Vec::new();
        self.0.each_loader(|loader, breaker| loaders.push((loader, breaker)));
        Ok(Report::of(&health, loaders.into_iter(), &memory))
    }
}
