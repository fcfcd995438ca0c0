//! The circuit breaker between direct operations and the store. It is made from the same choices as the cache's own,
//! and judges by what direct operations meet alone.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tideover_core::breaker::{Breaker, BreakerPolicy, BreakerReport, Mode, Permit, State, Verdict};
use tideover_core::{Clock, Instant};

use crate::clock::HostClock;

pub(super) struct Circuit {
    breaker: Mutex<Breaker>,
    clock: HostClock,
}

impl Circuit {
    pub(super) fn new(policy: BreakerPolicy, seed: u64, clock: HostClock) -> Self {
        Self { breaker: Mutex::new(Breaker::new(policy, seed)), clock }
    }

    /// The right to one call that is over by `deadline`.
    pub(super) fn acquire(&self, deadline: Instant) -> Option<Permitted<'_>> {
        let now = self.clock.now();
        let permit = self.breaker().try_acquire(now, deadline).ok()?;
        Some(Permitted { circuit: self, permit: Some(permit), began: now })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.breaker().state() == State::Closed
    }

    /// Whether a call may be let through now.
    pub(super) fn may_pass(&self) -> bool {
        let State::Open { until } = self.breaker().state() else { return true };
        until <= self.clock.now()
    }

    pub(super) fn look(&self) -> BreakerReport {
        self.breaker().look()
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        self.breaker().set_mode(mode, self.clock.now());
    }

    pub(super) fn reset(&self) {
        self.breaker().reset(self.clock.now());
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that was let through. Dropped without a verdict, it gives its permit back.
pub(super) struct Permitted<'a> {
    circuit: &'a Circuit,
    permit: Option<Permit>,
    began: Instant,
}

impl Permitted<'_> {
    pub(super) fn report(mut self, verdict: Verdict) {
        self.give_back(verdict);
    }

    fn give_back(&mut self, verdict: Verdict) {
        if let Some(permit) = self.permit.take() {
            let now = self.circuit.clock.now();
            self.circuit.breaker().report(permit, verdict, now - self.began, now);
        }
    }
}

impl Drop for Permitted<'_> {
    fn drop(&mut self) {
        self.give_back(Verdict::None);
    }
}
