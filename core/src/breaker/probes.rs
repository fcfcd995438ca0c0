//! The probes of half-open: who is out, until when, and what came back.

use core::time::Duration;

use crate::time::Instant;

/// Permitted calls in half-open are at most so many: their leases lie in a fixed array.
pub const PROBES_MAX: u32 = 16;

/// A probe that has not reported this long after its deadline has lost its lease. Drivers report a time-out a
/// little after the deadline it is about; without this grace such a report would come too late to count.
pub const LEASE_GRACE: Duration = Duration::from_secs(1);

/// Leases are numbered from one to this, and then anew.
const LEASES: u32 = u32::MAX - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    number: u32,
    ends: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Probes {
    leases: [Option<Lease>; PROBES_MAX as usize],
    /// Leases granted so far; the number of the newest.
    granted: u32,
    pub(super) succeeded: u32,
    pub(super) slow: u32,
}

impl Probes {
    /// Leases one of `permitted` slots until shortly after `deadline`, or says when the first may be free.
    pub(super) fn lease(&mut self, permitted: u32, now: Instant, deadline: Instant) -> Result<u32, Instant> {
        self.free_at(permitted, now).map_or(Ok(()), Err)?;
        let free = self.leases.iter_mut().find(|slot| slot.is_none_or(|lease| now >= lease.ends));
        self.granted = self.granted % LEASES + 1;
        if let Some(slot) = free {
            *slot = Some(Lease { number: self.granted, ends: deadline.max(now) + LEASE_GRACE });
        }
        Ok(self.granted)
    }

    /// When the first slot may be free; `None` if one is.
    pub(super) fn free_at(&self, permitted: u32, now: Instant) -> Option<Instant> {
        let held = || self.leases.iter().flatten().map(|lease| lease.ends).filter(|ends| now < *ends);
        if held().count() as u32 + self.succeeded < permitted { None } else { held().min() }
    }

    /// Takes the lease `number` back; `false` if it was lost.
    pub(super) fn give_back(&mut self, number: u32, now: Instant) -> bool {
        let is_held = |lease: Lease| lease.number == number && now < lease.ends;
        self.leases.iter_mut().find(|slot| slot.is_some_and(is_held)).and_then(Option::take).is_some()
    }
}
