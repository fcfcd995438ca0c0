//! Who is asked for values: loaders by name, each with a circuit breaker of its own, so that one that fails does not close
//! off the others.
//!
//! What has no name shares one breaker, and so do names beyond the limit. A name that has a breaker keeps it.

use crate::breaker::{Breaker, BreakerPolicy, BreakerReport, Mode, NotUntil};
use crate::step::LoaderId;
use crate::storage::{Map, Storage};
use crate::time::Instant;

#[derive(Clone)]
pub(super) struct Loaders<S: Storage> {
    policy: BreakerPolicy,
    seed: u64,
    max: usize,
    unnamed: Breaker,
    named: S::Map<LoaderId, Breaker>,
}

impl<S: Storage> Loaders<S> {
    /// No name is known yet. All jitter follows from `seed`; at most `max` names get breakers of their own.
    pub(super) fn new(policy: BreakerPolicy, max: usize, seed: u64) -> Self {
        Self { policy, seed, max: S::room_for(max), unnamed: Breaker::new(policy, seed), named: S::Map::default() }
    }

    /// The breaker of loaders without a name.
    pub(super) const fn unnamed(&self) -> &Breaker {
        &self.unnamed
    }

    /// What the breaker of `loader` would say now, without asking: `None` if it would let a load pass. A name that is new has
    /// nothing to do with the failures of others.
    pub(super) fn refusal(&self, loader: LoaderId, now: Instant) -> Option<NotUntil> {
        match self.named.get(&loader) {
            Some(breaker) => breaker.refusal(now),
            None if self.has_room_for(loader) => self.new_breaker(loader).refusal(now),
            None => self.unnamed.refusal(now),
        }
    }

    /// The breaker that answers for `loader`: a new name gets one of its own, if there is room.
    pub(super) fn of_mut(&mut self, loader: LoaderId) -> &mut Breaker {
        if !self.named.contains_key(&loader) && self.has_room_for(loader) {
            // It was not there; should there be no room after all, the one without a name answers.
            let _none_or_no_room = self.named.insert(loader, self.new_breaker(loader));
        }
        self.named.get_mut(&loader).unwrap_or(&mut self.unnamed)
    }

    /// In the place of the one that is there.
    #[cfg(feature = "alloc")]
    pub(super) fn put(&mut self, loader: LoaderId, breaker: Breaker) {
        if loader == LoaderId::UNNAMED {
            self.unnamed = breaker;
        } else if self.named.contains_key(&loader) || self.has_room_for(loader) {
            // Without room its name shares the breaker that has none.
            let _old_or_no_room = self.named.insert(loader, breaker);
        }
    }

    fn new_breaker(&self, loader: LoaderId) -> Breaker {
        Breaker::new(self.policy, self.seed ^ loader.0)
    }

    fn has_room_for(&self, loader: LoaderId) -> bool {
        loader != LoaderId::UNNAMED && self.named.len() < self.max
    }

    /// Overrules all of them, those of names to come included.
    pub(super) fn set_mode(&mut self, mode: Mode, now: Instant) {
        self.policy.mode = mode;
        self.each(|breaker| breaker.set_mode(mode, now));
    }

    /// Closes all of them.
    pub(super) fn reset(&mut self, now: Instant) {
        self.each(|breaker| breaker.reset(now));
    }

    fn each(&mut self, mut change: impl FnMut(&mut Breaker)) {
        change(&mut self.unnamed);
        self.named.values_mut().for_each(change);
    }

    /// Those that have names, in no particular order.
    pub(super) fn named(&self) -> impl Iterator<Item = (LoaderId, &Breaker)> {
        self.named.iter().map(|(loader, breaker)| (*loader, breaker))
    }

    /// How those that have names are, in no particular order.
    pub(super) fn reports(&self) -> impl Iterator<Item = (LoaderId, BreakerReport)> {
        self.named().map(|(loader, breaker)| (loader, breaker.look()))
    }
}
