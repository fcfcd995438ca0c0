//! The core itself: memory in shards, each behind a lock of its own, so that a hit takes one lock and touches nothing
//! else; everything that a miss needs behind one more.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tideover_core::breaker::Mode;
use tideover_core::cache::Dependency;
use tideover_core::cache::explain::Story;
use tideover_core::cache::snapshot::{Restored, SnapshotError, Taken};
use tideover_core::memory::{KeyHasher, Memory, MemoryPolicy, MemoryStats, Reason};
use tideover_core::pattern::Pattern;
use tideover_core::{
    Answer, Call, Command, Entry, Event, FlightId, Instant, Left, Lookup, Machine, Policy, PolicyError, Served, Shards,
    Step, Tidings, WallTime,
};

use super::{Engine, EngineError, Key, Payload, Report};

/// With fewer entries than this for each shard, recency would be a matter of luck.
const ENTRIES_PER_SHARD_MIN: usize = 1_024;

/// With less weight than this for each shard, a heavy value might not fit into its shard.
const WEIGHT_PER_SHARD_MIN: u64 = 64 << 20;

/// The engine that is compiled into the host.
pub struct NativeEngine {
    machine: Mutex<Machine<Key, Payload>>,
    memory: ShardedMemory,
}

struct ShardedMemory {
    shards: Box<[Mutex<Memory<Key, Payload>>]>,
    /// That of every shard.
    hasher: KeyHasher,
}

impl NativeEngine {
    /// An empty engine. Its memory is one shard up to 2 047 entries or 128 MiB of weight, and up to four shards for each
    /// core beyond; a value heavier than its shard's part of the weight is not kept.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] as [`Policy::validate`](tideover_core::Policy::validate) finds it.
    pub fn new(policy: Policy, seed: u64) -> Result<Self, PolicyError> {
        let entries = policy.entries_max as usize;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let whole = policy.memory(seed);
        let by_weight = if whole.weight_max == 0 { u64::MAX } else { whole.weight_max / WEIGHT_PER_SHARD_MIN };
        let by_entries = entries / ENTRIES_PER_SHARD_MIN;
        let count = by_entries.min(usize::try_from(by_weight).unwrap_or(usize::MAX)).clamp(1, 4 * cores);
        let share = MemoryPolicy {
            entries_max: whole.entries_max / count as u32,
            weight_max: whole.weight_max.div_ceil(count as u64),
            removals_max: whole.removals_max.div_ceil(count as u32),
            ..whole
        };
        let shard = |_| Mutex::new(Memory::new(share));
        let memory = ShardedMemory { shards: (0..count).map(shard).collect(), hasher: share.hasher() };
        Ok(Self { machine: Mutex::new(Machine::new(policy, seed)?), memory })
    }

    fn machine(&self) -> MutexGuard<'_, Machine<Key, Payload>> {
        locked(&self.machine)
    }
}

impl ShardedMemory {
    fn shard(&self, hash: u64) -> MutexGuard<'_, Memory<Key, Payload>> {
        // The tables inside look at the highest bits and at the lowest.
        let middle = (hash >> 24) as u32;
        let index = (u64::from(middle) * self.shards.len() as u64) >> 32;
        locked(&self.shards[index as usize])
    }
}

/// The machines do not panic, and were one to, its state is still a state.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shards<Key, Payload> for &ShardedMemory {
    fn with<R>(&mut self, key: &Key, access: impl FnOnce(&mut Memory<Key, Payload>) -> R) -> R {
        access(&mut self.shard(self.hasher.hash_one(key)))
    }

    fn each(&mut self, mut access: impl FnMut(&mut Memory<Key, Payload>)) {
        self.shards.iter().for_each(|shard| access(&mut locked(shard)));
    }
}

impl Engine for NativeEngine {
    fn name(&self) -> &'static str {
        "native"
    }

    fn hit(&self, key: &str, now: Instant) -> Option<Served<Payload>> {
        let hash = self.memory.hasher.hash_one(key);
        self.memory.shard(hash).fresh_hashed(hash, key, now).map(Entry::hit)
    }

    fn lookup(&self, key: &Key, call: Call<'_>, now: Instant) -> Result<Lookup<Key, Payload>, EngineError> {
        Ok(self.machine().lookup(&mut &self.memory, key, call, now))
    }

    fn command(&self, command: Command<Key, Payload>, now: Instant) -> Result<Lookup<Key, Payload>, EngineError> {
        Ok(self.machine().command(&mut &self.memory, command, now))
    }

    fn resume(&self, flight: FlightId, event: Event<Payload>, now: Instant) -> Result<Step<Key, Payload>, EngineError> {
        Ok(self.machine().resume(&mut &self.memory, flight, event, now))
    }

    fn leave(&self, flight: FlightId) -> Result<Left, EngineError> {
        Ok(self.machine().leave(flight))
    }

    fn learn(&self, tidings: Tidings<Key>, now: Instant) -> Result<(), EngineError> {
        self.machine().learn(&mut &self.memory, tidings, now);
        Ok(())
    }

    fn expire(&self, flight: FlightId, deadline: Instant, now: Instant) -> Result<Answer<Payload>, EngineError> {
        Ok(self.machine().expire(&mut &self.memory, flight, deadline, now))
    }

    fn maintain(&self, now: Instant) -> Result<Option<FlightId>, EngineError> {
        Ok(self.machine().maintain(now))
    }

    fn story(&self, flight: Option<FlightId>) -> Result<Option<Story>, EngineError> {
        Ok(self.machine().story(flight))
    }

    fn snapshot(&self, now: Instant, wall: WallTime) -> Result<Vec<u8>, EngineError> {
        Ok(self.machine().snapshot(&mut &self.memory, now, wall))
    }

    fn restore(
        &self,
        bytes: &[u8],
        taken: Taken,
        now: Instant,
        wall: WallTime,
    ) -> Result<Result<Restored, SnapshotError>, EngineError> {
        Ok(self.machine().restore(&mut &self.memory, bytes, taken, now, wall))
    }

    fn set_breaker_mode(&self, of: Dependency, mode: Mode, now: Instant) -> Result<(), EngineError> {
        self.machine().set_breaker_mode(of, mode, now);
        Ok(())
    }

    fn reset_breaker(&self, of: Dependency, now: Instant) -> Result<(), EngineError> {
        self.machine().reset_breaker(of, now);
        Ok(())
    }

    fn keys_matching(&self, pattern: &str) -> Result<BTreeSet<Key>, EngineError> {
        let pattern = Pattern::new(pattern);
        // What is being loaded first: what lands meanwhile is then found in memory.
        let mut found: BTreeSet<Key> = self.machine().keys().filter(|key| pattern.matches(key)).cloned().collect();
        for shard in &self.memory.shards {
            found.extend(locked(shard).keys().filter(|key| pattern.matches(key)).cloned());
        }
        Ok(found)
    }

    fn take_removals(&self) -> Result<Vec<(Key, Reason)>, EngineError> {
        Ok(self.memory.shards.iter().flat_map(|shard| locked(shard).take_removals()).collect())
    }

    fn report(&self) -> Result<Report, EngineError> {
        let mut memory = MemoryStats::default();
        self.memory.shards.iter().for_each(|shard| memory.add(&locked(shard).stats()));
        let machine = self.machine();
        Ok(Report::of(&machine.health(), machine.loaders(), &memory))
    }
}
