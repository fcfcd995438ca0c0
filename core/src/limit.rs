//! How many loads may be under way at once: fixed, or learnt from how long they take.
//!
//! Past what an origin can do in parallel, more at once does not give more per second, only longer waits, until
//! everything runs into its deadline. A limit keeps the waiting on this side, where it can be bounded, counted and
//! answered with something stale.
//!
//! ```text
//!  a load --> try_acquire --> a slot --> the load runs --> release(took, verdict)
//!                  | full                                        |
//!                  +--> try_queue --> waits --> try_dequeue <----+
//!                            | queue full
//!                            +--> refused, or served stale
//! ```
//!
//! *Fixed* is a bulkhead (Nygard, *Release It!*, 2007): at most [`LimitPolicy::max`]. *Adaptive* finds the number:
//! see [`gradient`] for the formula, what it converges to and how fast.
//!
//! A slot is a lease. One that was not given back for [`LimitPolicy::lease_for`] (counted in eighths, so up to an
//! eighth later) belonged to a load that was lost, and comes back by itself; what its holder reports later changes
//! nothing. So a limit cannot fill up with the dead.
//!
//! The limit counts who queues; the queue itself, its order and its deadlines, are its user's. Newcomers do not
//! overtake: while anybody queues, only [`Limit::try_dequeue`] gives slots. It does not know what is loaded, nor
//! whether the origin should be asked at all: that is the [breaker](crate::breaker)'s.

pub mod gradient;
#[cfg(test)]
mod simulation;

use core::time::Duration;

use serde::{Deserialize, Serialize};

use self::gradient::Gradient;
use crate::breaker::Verdict;
use crate::time::{Instant, nanos};

/// Parts of a lease that slots are counted in.
const EIGHTHS: u64 = 8;
/// The epochs in which a living slot can have been acquired: the present one, and the eighths of a whole lease.
const EPOCHS: u64 = EIGHTHS + 1;

/// How many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitPolicy {
    /// Never more at once. Default: 0, which is no limit (and, when adaptive, no other than the measured).
    pub max: u32,
    /// Whether the limit is learnt from how long loads take. Default: no.
    pub adaptive: bool,
    /// An adaptive limit is never lower, at least 1. Default: 1.
    pub min: u32,
    /// Where an adaptive limit starts. Default: 20.
    pub initial: u32,
    /// So many may queue. Default: 1 000.
    pub queue_max: u32,
    /// A slot that was not given back for so long is lost. Must be longer than any load. Default: 11 s, one more
    /// than a load's deadline.
    pub lease_for: Duration,
}

impl Default for LimitPolicy {
    fn default() -> Self {
        let lease_for = Duration::from_secs(11);
        Self { max: 0, adaptive: false, min: 1, initial: 20, queue_max: 1_000, lease_for }
    }
}

/// The right to one load. Give it back through [`Limit::release`], whatever happened.
///
/// It can be cloned because machines can; of a slot and its clones one may be given back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a slot that is never released is taken until its lease runs out"]
pub struct Slot {
    epoch: u64,
    number: u64,
}

/// As many loads as allowed are under way, or others queue already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// If no slot is given back, the first runs out here. [`Instant::NEVER`] if none is out.
    pub until: Instant,
}

/// As many as [`LimitPolicy::queue_max`] already queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull {
    /// The limit.
    pub max: u32,
}

counts! {
    /// What a limit has counted since it was made.
    pub struct LimitStats {
        /// Slots given.
        acquired,
        /// Times no slot was free.
        full,
        /// Times the queue was full, too.
        refused,
        /// Slots whose lease ran out.
        lost,
        /// Times the limit was cut because loads failed.
        cuts,
        /// Times the limit was halved for a moment to measure the origin at rest.
        probes,
    }
}

/// What is kept of a limit across a restart. Slots and queue are not: their loads died with the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The limit in 256ths.
    limit: u64,
    /// What a load takes when the origin is at rest; zero if unknown.
    base: Duration,
}

/// One origin's limit; see the [module](self).
///
/// ```
/// use core::time::Duration;
/// use tideover_core::Instant;
/// use tideover_core::breaker::Verdict;
/// use tideover_core::limit::{Limit, LimitPolicy};
///
/// let mut limit = Limit::new(LimitPolicy { max: 1, queue_max: 1, ..LimitPolicy::default() });
/// let now = Instant::ZERO;
/// let first = limit.try_acquire(now).expect("one is allowed");
/// assert!(limit.try_acquire(now).is_err());
/// assert!(limit.try_queue().is_ok());
/// assert!(limit.try_queue().is_err());
///
/// let later = now + Duration::from_millis(80);
/// limit.release(first, later - now, Verdict::Success, later);
/// assert!(limit.try_acquire(later).is_err(), "nobody overtakes the queue");
/// let second = limit.try_dequeue(later).expect("the slot that came back");
/// assert_eq!((limit.in_flight(), limit.queued()), (1, 0));
/// # limit.release(second, Duration::ZERO, Verdict::None, later);
/// ```
#[derive(Debug, Clone)]
pub struct Limit {
    policy: LimitPolicy,
    gradient: Gradient,
    leases: Leases,
    queued: u32,
    stats: LimitStats,
}

impl Limit {
    /// A limit with no slot out.
    #[must_use]
    pub fn new(policy: LimitPolicy) -> Self {
        Self::restore(policy, &Saved { limit: gradient::parts(policy.initial), base: Duration::ZERO })
    }

    /// A limit with no slot out that goes on from what was learnt before.
    #[must_use]
    pub fn restore(policy: LimitPolicy, saved: &Saved) -> Self {
        let ceiling = if policy.max == 0 { u32::MAX } else { policy.max };
        let gradient =
            Gradient::new(gradient::parts(policy.min.max(1)), gradient::parts(ceiling), saved.limit, nanos(saved.base));
        Self { policy, gradient, leases: Leases::new(policy.lease_for), queued: 0, stats: LimitStats::default() }
    }

    /// What was learnt, for [`Limit::restore`].
    #[must_use]
    pub fn save(&self) -> Saved {
        Saved { limit: self.gradient.limit_in_parts(), base: Duration::from_nanos(self.gradient.base()) }
    }

    /// Asks for a slot.
    ///
    /// # Errors
    ///
    /// [`Full`] if none is free, or others queue.
    pub fn try_acquire(&mut self, now: Instant) -> Result<Slot, Full> {
        self.look_for_lost(now);
        if self.queued > 0 { self.full() } else { self.take() }
    }

    /// Asks for a place in the queue after [`Full`]. Who has one leaves it through [`Limit::try_dequeue`] or
    /// [`Limit::leave_queue`].
    ///
    /// # Errors
    ///
    /// [`QueueFull`].
    pub fn try_queue(&mut self) -> Result<(), QueueFull> {
        let max = self.policy.queue_max;
        if self.queued >= max {
            self.stats.refused += 1;
            return Err(QueueFull { max });
        }
        self.queued += 1;
        Ok(())
    }

    /// A slot for the first in the queue, and its place is free. To be asked after each [`Limit::release`], until
    /// it refuses, and at [`Full::until`], since lost slots say nothing.
    ///
    /// # Errors
    ///
    /// [`Full`] if no slot is free or nobody queues.
    pub fn try_dequeue(&mut self, now: Instant) -> Result<Slot, Full> {
        self.look_for_lost(now);
        if self.queued == 0 {
            return self.full();
        }
        let slot = self.take()?;
        self.queued -= 1;
        Ok(slot)
    }

    /// One of those in the queue waits no longer.
    pub fn leave_queue(&mut self) {
        self.queued = self.queued.saturating_sub(1);
    }

    /// Gives a slot back with what its load took and says: [`Verdict::Success`] that the time is a measurement,
    /// [`Verdict::Failure`] that the origin did not bear it (no answer, overload, our time-out), [`Verdict::None`]
    /// nothing (cancelled; an answer that is an error and came quickly). Late reports change nothing.
    pub fn release(&mut self, slot: Slot, took: Duration, verdict: Verdict, now: Instant) {
        self.look_for_lost(now);
        if !self.leases.end(&slot) || !self.policy.adaptive {
            return;
        }
        let in_flight = self.leases.in_flight;
        match verdict {
            Verdict::Success => {
                let probes = self.gradient.measured(nanos(took), in_flight);
                self.stats.probes += u64::from(probes);
            }
            Verdict::Failure => {
                let cut = self.gradient.failed(slot.number, self.leases.granted, in_flight);
                self.stats.cuts += u64::from(cut);
            }
            Verdict::None => self.gradient.passed(),
        }
    }

    /// How many are allowed at once at present; `u32::MAX` if there is no limit.
    #[must_use]
    pub fn limit(&self) -> u32 {
        match self.policy {
            LimitPolicy { adaptive: true, .. } => self.gradient.allowed(),
            LimitPolicy { max: 0, .. } => u32::MAX,
            LimitPolicy { max, .. } => max,
        }
    }

    /// How many are under way.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.leases.in_flight
    }

    /// How many queue.
    #[must_use]
    pub const fn queued(&self) -> u32 {
        self.queued
    }

    /// The counts.
    #[must_use]
    pub const fn stats(&self) -> LimitStats {
        self.stats
    }

    fn take(&mut self) -> Result<Slot, Full> {
        if self.leases.in_flight >= self.limit() {
            return self.full();
        }
        self.stats.acquired += 1;
        let slot = self.leases.begin();
        self.gradient.acquired(self.leases.in_flight);
        Ok(slot)
    }

    fn full(&mut self) -> Result<Slot, Full> {
        self.stats.full += 1;
        Err(Full { until: self.leases.first_end() })
    }

    fn look_for_lost(&mut self, now: Instant) {
        self.stats.lost += u64::from(self.leases.turn(now));
    }
}

/// The slots that are out, counted by the eighth of a lease in which they were acquired: bounded whatever the limit.
#[derive(Debug, Clone)]
struct Leases {
    /// An eighth of a lease in nanoseconds.
    width: u64,
    epoch: u64,
    out: [u32; EPOCHS as usize],
    in_flight: u32,
    granted: u64,
}

impl Leases {
    fn new(lease_for: Duration) -> Self {
        let width = nanos(lease_for).div_ceil(EIGHTHS).max(1);
        Self { width, epoch: 0, out: [0; EPOCHS as usize], in_flight: 0, granted: 0 }
    }

    fn begin(&mut self) -> Slot {
        self.out[(self.epoch % EPOCHS) as usize] += 1;
        self.in_flight += 1;
        self.granted += 1;
        Slot { epoch: self.epoch, number: self.granted }
    }

    /// Whether the slot was still out.
    fn end(&mut self, slot: &Slot) -> bool {
        let out = &mut self.out[(slot.epoch % EPOCHS) as usize];
        let alive = slot.epoch <= self.epoch && self.epoch - slot.epoch < EPOCHS && *out > 0;
        *out -= u32::from(alive);
        self.in_flight -= u32::from(alive);
        alive
    }

    /// Turns to the epoch that holds `now`, and says how many leases ran out on the way.
    fn turn(&mut self, now: Instant) -> u32 {
        let epoch = now.as_nanos() / self.width;
        let passed = epoch.saturating_sub(self.epoch).min(EPOCHS);
        let mut lost = 0;
        for step in 1..=passed {
            lost += core::mem::take(&mut self.out[((self.epoch + step) % EPOCHS) as usize]);
        }
        self.epoch = self.epoch.max(epoch);
        self.in_flight -= lost;
        lost
    }

    /// When the oldest lease runs out.
    fn first_end(&self) -> Instant {
        let ages = (0..EPOCHS.min(self.epoch + 1)).rev();
        let oldest = ages.map(|age| self.epoch - age).find(|epoch| self.out[(epoch % EPOCHS) as usize] > 0);
        oldest.map_or(Instant::NEVER, |epoch| Instant::from_nanos((epoch + EPOCHS).saturating_mul(self.width)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;
    use alloc::vec::Vec;

    const NANO: Duration = Duration::from_nanos(1);

    fn fixed(max: u32) -> LimitPolicy {
        LimitPolicy { max, queue_max: 2, lease_for: Duration::from_secs(8), ..LimitPolicy::default() }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn just_before(instant: Instant) -> Instant {
        Instant::from_nanos(instant.as_nanos() - 1)
    }

    fn give_back(limit: &mut Limit, slot: Slot, now: Instant) {
        limit.release(slot, Duration::ZERO, Verdict::Success, now);
    }

    #[test]
    fn a_bulkhead_admits_exactly_its_number() {
        let mut limit = Limit::new(fixed(3));
        let mut slots: Vec<_> = (0..5).filter_map(|_| limit.try_acquire(at(0)).ok()).collect();
        assert_eq!((slots.len(), limit.in_flight(), limit.stats().full), (3, 3, 2));
        give_back(&mut limit, slots.pop().expect("one of three"), at(0));
        assert!(limit.try_acquire(at(0)).is_ok() && limit.try_acquire(at(0)).is_err());
    }

    #[test]
    fn a_bulkhead_learns_nothing() {
        let mut limit = Limit::new(fixed(30));
        for verdict in core::iter::repeat_n([Verdict::Failure, Verdict::Success], 1_000).flatten() {
            let slot = limit.try_acquire(at(0)).expect("free");
            limit.release(slot, Duration::from_secs(1), verdict, at(0));
        }
        assert_eq!((limit.limit(), limit.stats().cuts, limit.stats().probes), (30, 0, 0));
    }

    #[test]
    fn without_a_number_everybody_is_admitted_and_counted() {
        let mut limit = Limit::new(fixed(0));
        assert!((0..100_000).all(|_| limit.try_acquire(at(0)).is_ok()));
        assert_eq!((limit.limit(), limit.in_flight()), (u32::MAX, 100_000));
    }

    #[test]
    fn who_queues_is_not_overtaken() {
        let mut limit = Limit::new(fixed(1));
        let first = limit.try_acquire(at(0)).expect("free");
        assert_eq!(limit.try_queue(), Ok(()));
        assert_eq!(limit.try_queue(), Ok(()));
        assert_eq!(limit.try_queue(), Err(QueueFull { max: 2 }));
        assert!(limit.try_dequeue(at(0)).is_err(), "no slot is free");
        assert_eq!(limit.queued(), 2, "and the place is kept");
        give_back(&mut limit, first, at(0));
        assert!(limit.try_acquire(at(0)).is_err(), "the slot is for the queue");
        let second = limit.try_dequeue(at(0)).expect("the first in the queue");
        limit.leave_queue();
        give_back(&mut limit, second, at(0));
        assert!(limit.try_dequeue(at(0)).is_err(), "nobody queues");
        assert!(limit.try_acquire(at(0)).is_ok());
        assert_eq!(limit.stats().refused, 1);
    }

    #[test]
    fn a_lost_slot_comes_back_when_its_lease_has_run_out() {
        // Eighths of a second-long lease are a second each: what was acquired in second 3 runs out at 12.
        for acquired_at in [at(3), just_before(at(4))] {
            let mut limit = Limit::new(fixed(1));
            let lost = limit.try_acquire(acquired_at).expect("free");
            assert_eq!(limit.try_acquire(acquired_at), Err(Full { until: at(12) }));
            assert_eq!(limit.try_acquire(just_before(at(12))), Err(Full { until: at(12) }));
            let taker = limit.try_acquire(at(12)).expect("the lost slot");
            give_back(&mut limit, lost, at(12));
            assert_eq!((limit.in_flight(), limit.stats().lost), (1, 1), "what comes after the lease changes nothing");
            give_back(&mut limit, taker, at(12));
            assert_eq!(limit.in_flight(), 0);
        }
    }

    #[test]
    fn a_slot_that_is_given_back_in_time_is_not_lost() {
        let mut limit = Limit::new(fixed(2));
        let slow = limit.try_acquire(at(0)).expect("free");
        let quick = limit.try_acquire(at(5)).expect("free");
        assert_eq!(limit.try_acquire(at(5)), Err(Full { until: at(9) }), "the older runs out first");
        give_back(&mut limit, slow, just_before(at(9)));
        assert_eq!(limit.try_dequeue(at(13)), Err(Full { until: at(14) }));
        give_back(&mut limit, quick, at(13));
        assert_eq!(limit.try_dequeue(at(1_000)), Err(Full { until: Instant::NEVER }));
        assert_eq!((limit.in_flight(), limit.stats().lost), (0, 0));
    }

    #[test]
    fn a_clock_that_steps_back_loses_nothing() {
        let mut limit = Limit::new(fixed(1));
        let slot = limit.try_acquire(at(100)).expect("free");
        assert!(limit.try_acquire(at(1)).is_err());
        give_back(&mut limit, slot, at(1));
        assert_eq!((limit.in_flight(), limit.stats().lost), (0, 0));
    }

    #[test]
    fn absurd_values_saturate() {
        let policy = LimitPolicy {
            max: u32::MAX,
            adaptive: true,
            min: u32::MAX,
            initial: u32::MAX,
            queue_max: 0,
            lease_for: Duration::MAX,
        };
        for lease_for in [Duration::ZERO, NANO, Duration::MAX] {
            let saved = Saved { limit: u64::MAX, base: Duration::MAX };
            let mut limit = Limit::restore(LimitPolicy { lease_for, ..policy }, &saved);
            for (now, took) in [(Instant::NEVER, Duration::MAX), (at(0), Duration::ZERO), (Instant::NEVER, NANO)] {
                for verdict in [Verdict::Success, Verdict::Failure, Verdict::None] {
                    let slot = limit.try_acquire(now).expect("four billion are allowed");
                    limit.release(slot, took, verdict, now);
                }
            }
            limit.leave_queue();
            assert_eq!((limit.in_flight(), limit.queued()), (0, 0));
        }
        let none = LimitPolicy { min: 0, initial: 0, ..policy };
        assert!(Limit::new(none).try_acquire(at(0)).is_ok(), "an adaptive limit is at least one");
    }

    /// Slots against a list of them: whatever happens, exactly the living are in flight.
    #[test]
    fn seeded_walks_count_exactly_the_living() {
        for seed in 0..200 {
            let mut dice = Entropy::from_seed(seed);
            let mut limit = Limit::new(fixed(5));
            let (mut now, mut out): (_, Vec<(Slot, Instant)>) = (at(0), Vec::new());
            for step in 0..1_000 {
                match dice.bits() % 4 {
                    0 => now = now + Duration::from_nanos(dice.bits() % 4_000_000_000),
                    1 | 2 => out.extend(limit.try_acquire(now).map(|slot| (slot, now))),
                    _ if out.is_empty() => {}
                    _ => {
                        let (slot, _) = out.swap_remove((dice.bits() % out.len() as u64) as usize);
                        give_back(&mut limit, slot, now);
                    }
                }
                limit.look_for_lost(now);
                let second = |instant: Instant| instant.as_nanos() / 1_000_000_000;
                let living = out.iter().filter(|(_, since)| second(now) - second(*since) < 9).count();
                assert_eq!(limit.in_flight() as usize, living, "seed {seed}, step {step}");
                assert!(living <= 5);
            }
        }
    }
}
