//! What world `cache` imports: stores, loaders and clocks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tideover_core::time::nanos;
use tideover_core::{Class, Clock, LoadFailure, WallTime};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;
use wasmtime::StoreLimits;
use wasmtime::component::{Accessor, HasSelf};

use super::bindings::cache::tideover::cache::{clock, loader, store};
use super::bindings::types;
use super::calls::Calls;
use super::convert::instant;
use super::hearsay::Hearsay;
use super::limits;
use crate::cache::random_seed;
use crate::clock::HostClock;
use crate::loader::LoadContext;
use crate::outside::{CacheId, Stores, say_corrupt};
use crate::store::{Elsewhere, Lease, Leased};

/// What the instances of one cache see of the world, one after the other.
pub(super) struct Outside {
    pub(super) id: CacheId,
    pub(super) stores: Stores,
    pub(super) clock: HostClock,
}

/// What belongs to one instance on this side.
pub(super) struct Host {
    pub(super) outside: Arc<Outside>,
    pub(super) limits: StoreLimits,
    pub(super) calls: Calls,
    /// Who writes, to other processes: no other instance has this number.
    pub(super) writer: u64,
    /// What it has not been told yet of other processes.
    pub(super) hearsay: Arc<Hearsay>,
    leases: Leases,
}

/// The leases of an instance, which are given back when it is gone.
#[derive(Default)]
struct Leases {
    held: HashMap<String, Lease>,
    /// Those that others have, and for which it may wait.
    elsewhere: HashMap<String, Elsewhere>,
}

impl Host {
    /// What belongs to an instance to be made, which will hear the log of the shared store from its beginning.
    pub(super) fn new(outside: Arc<Outside>) -> Self {
        let writer = random_seed();
        let hearsay = Hearsay::of(&outside.stores, writer);
        Self { outside, limits: limits(), calls: Calls::default(), writer, hearsay, leases: Leases::default() }
    }

    /// The instance has forgotten what it knew of the log: it hears all of it anew.
    pub(super) fn listen_anew(&mut self) {
        self.hearsay = Hearsay::of(&self.outside.stores, self.writer);
    }
}

type Access = Accessor<Host, HasSelf<Host>>;

fn outside(access: &Access) -> Arc<Outside> {
    access.with(|mut access| Arc::clone(&access.get().outside))
}

fn writer(access: &Access) -> u64 {
    access.with(|mut access| access.get().writer)
}

impl types::Host for Host {}

impl store::Host for Host {
    fn release_lease(&mut self, key: String) {
        self.leases.held.remove(&key);
    }

    fn found_corrupt(&mut self, _tier: types::Tier, key: String, reason: String) {
        say_corrupt(&key, &reason);
    }

    fn take_news(&mut self) -> Vec<types::Tidings> {
        self.hearsay.take(self.outside.clock.wall()).map(Into::into).collect()
    }
}

impl store::HostWithStore<Host> for HasSelf<Host> {
    async fn read(
        access: &Access,
        tier: types::Tier,
        key: String,
        deadline: u64,
    ) -> Result<Option<Vec<u8>>, types::StoreFailure> {
        let outside = outside(access);
        let read = outside.stores.read(tier.into(), &key, &outside.clock.deadline(instant(deadline))).await;
        read.map(|bytes| bytes.map(Into::into)).map_err(Into::into)
    }

    async fn write(
        access: &Access,
        tier: types::Tier,
        key: String,
        value: Vec<u8>,
        ttl: Option<u64>,
        condition: types::Condition,
        deadline: u64,
    ) -> Result<types::Written, types::StoreFailure> {
        let outside = outside(access);
        let (ttl, deadline) = (ttl.map(Duration::from_nanos), outside.clock.deadline(instant(deadline)));
        let written = outside.stores.write(tier.into(), &key, value.into(), ttl, condition.into(), &deadline).await;
        written.map(Into::into).map_err(Into::into)
    }

    async fn remove(
        access: &Access,
        tier: types::Tier,
        key: String,
        tombstone: Vec<u8>,
        fence_for: u64,
        condition: types::Condition,
        deadline: u64,
    ) -> Result<types::Written, types::StoreFailure> {
        let outside = outside(access);
        let (tombstone, fence_for) = (tombstone.into(), Duration::from_nanos(fence_for));
        let (condition, deadline) = (condition.into(), outside.clock.deadline(instant(deadline)));
        let removed = outside.stores.remove(tier.into(), &key, tombstone, fence_for, condition, &deadline).await;
        removed.map(Into::into).map_err(Into::into)
    }

    async fn clear(access: &Access, tier: types::Tier, deadline: u64) -> Result<(), types::StoreFailure> {
        let (outside, writer) = (outside(access), writer(access));
        let (wall, deadline) = (outside.clock.wall(), outside.clock.deadline(instant(deadline)));
        outside.stores.clear(tier.into(), writer, wall, &deadline).await.map_err(Into::into)
    }

    async fn acquire_lease(
        access: &Access,
        key: String,
        ttl: u64,
        hold_for: u64,
        deadline: u64,
    ) -> Result<types::Leased, types::StoreFailure> {
        let outside = outside(access);
        let (ttl, hold_for) = (Duration::from_nanos(ttl), Duration::from_nanos(hold_for));
        match outside.stores.lease(&key, ttl, hold_for, &outside.clock.deadline(instant(deadline))).await? {
            Leased::Held(lease) => {
                access.with(|mut access| access.get().leases.held.insert(key, lease));
                Ok(types::Leased::Held)
            }
            Leased::Elsewhere(elsewhere) => {
                let free_in = nanos(elsewhere.free_in);
                access.with(|mut access| access.get().leases.elsewhere.insert(key, elsewhere));
                Ok(types::Leased::Elsewhere(free_in))
            }
        }
    }

    async fn await_lease(access: &Access, key: String, until: u64) {
        let outside = outside(access);
        if let Some(elsewhere) = access.with(|mut access| access.get().leases.elsewhere.remove(&key)) {
            let freed = elsewhere.freed_by(outside.clock.at(instant(until)));
            let _freed_or_not = outside.clock.deadline(instant(until)).limit(freed).await;
        }
    }

    async fn add_note(
        access: &Access,
        note: types::Note,
        made_at: u64,
        deadline: u64,
    ) -> Result<(), types::StoreFailure> {
        let (outside, writer) = (outside(access), writer(access));
        let (made_at, deadline) = (WallTime::from_unix_millis(made_at), outside.clock.deadline(instant(deadline)));
        outside.stores.note(writer, note.into(), made_at, &deadline).await.map_err(Into::into)
    }
}

impl loader::Host for Host {
    fn release(&mut self, context: u64) {
        self.calls.release(context);
    }
}

impl loader::HostWithStore<Host> for HasSelf<Host> {
    async fn load(
        access: &Access,
        key: String,
        context: u64,
        attempt: u32,
        deadline: u64,
        previous: Option<types::Entry>,
    ) -> Result<types::Loaded, types::LoadFailure> {
        let nothing = || types::LoadFailure::from(LoadFailure::from(Class::Unavailable));
        let outside = outside(access);
        let origin = access.with(|mut access| access.get().calls.origin(context).cloned());
        let Some(origin) = origin else { return Err(nothing()) };
        let deadline = outside.clock.deadline(instant(deadline));
        let load = LoadContext::new(key.into(), attempt, deadline.at(), previous.map(Into::into));
        // A task of its own: however long a loader computes, the cache goes on.
        let span = origin.span().clone();
        let load = async move { origin.load(outside.id, context, load, &deadline, &outside.stores.observed).await };
        let task = tokio::spawn(load.instrument(span));
        let task = AbortOnDropHandle::new(task);
        access.with(|mut access| access.get().calls.load_begins(context, task.abort_handle()));
        // Nobody waits for a load that was dropped.
        let Ok(result) = task.await else { return Err(nothing()) };
        access.with(|mut access| access.get().calls.load_ends(context, result.as_ref().err().cloned()));
        result.map(|loaded| loaded.into_core().into()).map_err(|error| error.failure().into())
    }
}

impl clock::Host for Host {
    fn now(&mut self) -> u64 {
        self.outside.clock.now().as_nanos()
    }

    fn wall(&mut self) -> u64 {
        self.outside.clock.wall().as_unix_millis()
    }
}

impl clock::HostWithStore<Host> for HasSelf<Host> {
    async fn wait_until(access: &Access, until: u64) {
        outside(access).clock.sleep_until(instant(until)).await;
    }
}
