//! What a flight asks of the stores, as envelopes and leases.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tideover_core as core_;
use tideover_core::envelope::Opened;
use tideover_core::stamp::{Intent, Written};
use tideover_core::{Clock, Entry, Found, Instant, StoreFailure, Tier, WallTime, envelope};

use super::{Driver, Luggage};
use crate::engine::Payload;
use crate::outside::say_corrupt;
use crate::store::Leased;

impl Driver {
    pub(super) async fn read(&self, tier: Tier, key: &str, deadline: Instant) -> Result<Found<Payload>, StoreFailure> {
        let bytes = self.stores.read(tier, key, &self.clock.deadline(deadline)).await?;
        let found = bytes.map_or(Ok(Found::NOTHING), |bytes| found(key, &bytes, self.clock.wall()))?;
        let faces = self.faces.load(Ordering::Relaxed);
        Ok(if faces { found.map(Payload::with_room_for_face) } else { found })
    }

    pub(super) async fn write(
        &self,
        tier: Tier,
        key: &str,
        entry: Entry<Payload>,
        intent: Intent,
        deadline: Instant,
    ) -> Result<Written, StoreFailure> {
        let wall = self.clock.wall();
        let envelope = envelope::encode(&entry, &intent.stamp(self.writer, wall), wall).into();
        let (ttl, deadline) = (entry.remaining(), self.clock.deadline(deadline));
        self.stores.write(tier, key, envelope, ttl, intent.condition, &deadline).await
    }

    pub(super) async fn remove(
        &self,
        tier: Tier,
        key: &str,
        intent: Intent,
        fence_for: Duration,
        deadline: Instant,
    ) -> Result<Written, StoreFailure> {
        let tombstone = envelope::tombstone(&intent.stamp(self.writer, self.clock.wall())).into();
        self.stores.remove(tier, key, tombstone, fence_for, intent.condition, &self.clock.deadline(deadline)).await
    }

    pub(super) async fn lease(
        &self,
        key: &str,
        ttl: Duration,
        hold_for: Duration,
        deadline: Instant,
        luggage: &mut Luggage,
    ) -> Result<core_::Leased, StoreFailure> {
        match self.stores.lease(key, ttl, hold_for, &self.clock.deadline(deadline)).await? {
            Leased::Held(lease) => {
                luggage.lease = Some(lease);
                Ok(core_::Leased::Held)
            }
            Leased::Elsewhere(elsewhere) => {
                let free_in = elsewhere.free_in;
                luggage.elsewhere = Some(elsewhere);
                Ok(core_::Leased::Elsewhere { free_in })
            }
        }
    }
}

/// What an envelope holds; its value shares the envelope's bytes.
fn found(key: &str, bytes: &Bytes, wall: WallTime) -> Result<Found<Payload>, StoreFailure> {
    match envelope::decode(bytes, wall) {
        Ok(Opened { stamp, entry, tags }) => {
            let entry = entry.map(|entry| entry.map(|value| Payload::from(bytes.slice_ref(value)).tagged(tags)));
            Ok(Found { entry, version: Some(stamp.version), born: stamp.born })
        }
        Err(reason) => {
            say_corrupt(key, &reason);
            Err(StoreFailure::Corrupt { version: envelope::stamp_of(bytes).map(|stamp| stamp.version) })
        }
    }
}
