//! When the keys that owe something are tried: the oldest change first; one that has failed, when its wait is over. A
//! wait is as long as one of an open circuit, so that a key which nobody can reach costs the others nothing.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::policy::Policy;
use crate::time::Instant;

/// No wait is shorter, so that nothing is tried twice in a round.
const SHORTEST: Duration = Duration::from_millis(1);

/// How long what has failed waits: twice as long each time, up to a limit.
#[derive(Clone, Copy)]
pub(super) struct Waits {
    first: Duration,
    longest: Duration,
}

impl Waits {
    pub(super) fn of(policy: &Policy) -> Self {
        let circuit = policy.store_breaker_policy();
        Self { first: circuit.open_for, longest: circuit.open_for_max }
    }
}

/// When something is tried next.
#[derive(Clone, Copy, Default)]
pub(super) struct Turn {
    /// After its last failure; `None`: it is its turn.
    pub(super) waits_until: Option<Instant>,
    failures: u8,
}

impl Turn {
    /// Whether it is its turn, in a round that has begun then.
    pub(super) fn has_come(&self, began: Instant) -> bool {
        self.waits_until.is_none_or(|until| until <= began)
    }

    pub(super) const fn has_failed(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn failed(&mut self, now: Instant, waits: Waits) {
        let wait = waits.first.saturating_mul(1 << self.failures.min(30)).min(waits.longest);
        self.failures = self.failures.saturating_add(1);
        self.waits_until = Some(now + wait.max(SHORTEST));
    }

    /// Something of it was done: what fails next is its first failure.
    pub(super) const fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// The keys by their turns. Each has the number of its newest change.
#[derive(Default)]
pub(super) struct Turns {
    first_tries: BTreeMap<u64, Arc<str>>,
    waiting: BTreeMap<(Instant, u64), Arc<str>>,
}

impl Turns {
    pub(super) fn insert(&mut self, key: Arc<str>, number: u64, turn: Turn) {
        match turn.waits_until {
            None => self.first_tries.insert(number, key),
            Some(until) => self.waiting.insert((until, number), key),
        };
    }

    pub(super) fn remove(&mut self, number: u64, turn: Turn) {
        match turn.waits_until {
            None => self.first_tries.remove(&number),
            Some(until) => self.waiting.remove(&(until, number)),
        };
    }

    pub(super) fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.first_tries.retain(|_, key| is_kept(key));
        self.waiting.retain(|_, key| is_kept(key));
    }

    pub(super) fn clear(&mut self) {
        self.first_tries.clear();
        self.waiting.clear();
    }

    /// The next keys after that number that have not failed, the oldest change first.
    pub(super) fn first_tries(&self, after: u64, count: usize) -> Vec<(u64, Arc<str>)> {
        let newer = self.first_tries.range(after + 1..).take(count);
        newer.map(|(number, key)| (*number, Arc::clone(key))).collect()
    }

    /// Keys that have failed and whose wait was over when the round began, the longest over first.
    pub(super) fn retries(&self, began: Instant, count: usize) -> Vec<Arc<str>> {
        self.waiting.range(..=(began, u64::MAX)).take(count).map(|(_, key)| Arc::clone(key)).collect()
    }

    pub(super) fn is_any(&self, now: Instant) -> bool {
        let first = self.waiting.first_key_value();
        !self.first_tries.is_empty() || first.is_some_and(|((until, _), _)| *until <= now)
    }

    /// Whether some key waits for longer than that.
    pub(super) fn any_waits(&self, now: Instant) -> bool {
        self.waiting.last_key_value().is_some_and(|((until, _), _)| *until > now)
    }
}
