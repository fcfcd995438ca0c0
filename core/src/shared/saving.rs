//! What needs an allocator: stories and snapshots.

use alloc::vec::Vec;
use core::hash::Hash;

use serde::{Serialize, de::DeserializeOwned};

use super::{Locked, Shared};
use crate::cache::explain::Story;
use crate::cache::snapshot::{Restored, SnapshotError, Taken};
use crate::step::FlightId;
use crate::storage::Profile;
use crate::time::{Instant, WallTime};
use crate::value::Value;

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Shared<K, V, P> {
    /// See [`Machine::story`](crate::Machine::story). Between a lookup that was answered at once and this, another one
    /// may take its place.
    pub fn story(&self, flight: Option<FlightId>) -> Option<Story> {
        self.machine.lock().story(flight)
    }

    /// See [`Machine::snapshot`](crate::Machine::snapshot).
    pub fn snapshot(&self, now: Instant, wall: WallTime) -> Vec<u8>
    where
        K: Serialize,
        V: Serialize,
    {
        self.machine.lock().snapshot(&mut Locked(&self.memory), now, wall)
    }

    /// See [`Machine::restore`](crate::Machine::restore).
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]; the cache is as it was.
    pub fn restore(&self, bytes: &[u8], taken: Taken, now: Instant, wall: WallTime) -> Result<Restored, SnapshotError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        self.machine.lock().restore(&mut Locked(&self.memory), bytes, taken, now, wall)
    }
}
