//! One load among all processes: a lease in the shared store.
//!
//! ```text
//!  ReadStore --> AcquireLease --+-- held: ReadStore once more, and Load
//!      ^                        +-- elsewhere: AwaitLease --+
//!      +----------------------------------------------------+   until lease_wait_max: then Load without
//! ```
//!
//! Who holds the lease reads the store once more: whoever had it before may have brought the value meanwhile. A lease is a
//! wish for less work, not a lock: where the store is away, or the holder takes too long, each process loads for itself, and
//! what is written late is refused by its version.

use core::hash::Hash;

use super::settle::verdict;
use super::work::{Kind, Lease, Stage};
use super::{Machine, Shards};
use crate::breaker::Verdict;
use crate::failure::StoreFailure;
use crate::flight::Flight;
use crate::step::{FlightId, Leased, Step};
use crate::storage::Profile;
use crate::time::Instant;
use crate::value::Value;

impl<K: Clone + Hash + Eq, V: Value, P: Profile> Machine<K, V, P> {
    /// The step by which the flight gets the right to load, if it is to have one first.
    pub(super) fn ask_for_lease(&mut self, id: FlightId, now: Instant) -> Option<Step<K, V>> {
        if !self.policy.lease || !self.policy.store || self.flights.is_fenced(id) {
            return None;
        }
        let flight = self.flights.get(id).filter(|flight| flight.work.kind == Kind::Load)?;
        let (key, lease) = (flight.key.clone()?, flight.work.lease);
        let patient = match lease {
            Lease::Unasked => true,
            Lease::Awaited(until) => now < until,
            Lease::Held | Lease::Forgone => return None,
        };
        let deadline = now + self.policy.store_write_deadline;
        let permit = if patient && self.journal.trusts(&key) {
            self.store_breaker.try_acquire(now, deadline).ok()
        } else {
            None
        };
        self.stats.leases_forgone += u64::from(permit.is_none());
        let work = &mut self.flights.get_mut(id)?.work;
        let Some(permit) = permit else {
            work.lease = Lease::Forgone;
            return None;
        };
        work.permit = Some(permit);
        work.asked_at = now;
        work.stage = Stage::Leasing;
        Some(Step::AcquireLease { key, ttl: self.policy.lease_ttl, hold_for: self.policy.leader_age_max, deadline })
    }

    /// The store has not answered the flight's read: nobody is to wait for it a second time.
    pub(super) fn forgo_lease(&mut self, id: FlightId) {
        let Some(Flight { work, .. }) = self.flights.get_mut(id).filter(|_| self.policy.lease) else { return };
        if work.kind == Kind::Load && matches!(work.lease, Lease::Unasked | Lease::Awaited(_)) {
            work.lease = Lease::Forgone;
            self.stats.leases_forgone += 1;
        }
    }

    pub(super) fn on_lease_answered(
        &mut self,
        shards: &mut impl Shards<K, V, P>,
        id: FlightId,
        result: Result<Leased, StoreFailure>,
        now: Instant,
    ) -> Step<K, V> {
        self.give_back(id, result.as_ref().map_or_else(|failure| verdict(*failure), |_| Verdict::Success), now);
        let (wait_max, key) = (self.policy.lease_wait_max, self.key(id));
        let (Some(flight), Some(key)) = (self.flights.get_mut(id), key) else { return Step::Done { next: None } };
        match result {
            Ok(Leased::Held) => {
                flight.work.lease = Lease::Held;
                self.stats.leases += 1;
                self.read_store(shards, id, now)
            }
            Ok(Leased::Elsewhere { free_in }) => {
                let patience = match flight.work.lease {
                    Lease::Awaited(until) => until,
                    _ => now + wait_max,
                };
                flight.work.lease = Lease::Awaited(patience);
                flight.work.stage = Stage::AwaitingLease;
                self.stats.leases_awaited += 1;
                Step::AwaitLease { key, until: patience.min(now + free_in) }
            }
            Err(_) => {
                flight.work.lease = Lease::Forgone;
                self.stats.store_failures += 1;
                self.stats.leases_forgone += 1;
                self.attempt_load(shards, id, now)
            }
        }
    }
}
