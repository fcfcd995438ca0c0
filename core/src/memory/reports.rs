//! Removals that nobody has been told of yet: a bounded queue, the newest reports winning.

use crate::storage::{List, Storage};

/// Why an entry is no longer there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Its time was over, or nobody read it for the idle time.
    Expired,
    /// It was pushed out by others.
    Evicted,
    /// Another value took its place.
    Replaced,
    /// It was removed by its key.
    Removed,
    /// One of its tags, or everything, was invalidated.
    Invalidated,
    /// Memory was cleared.
    Cleared,
}

#[derive(Clone)]
pub(super) struct Reports<K: Clone, S: Storage> {
    reports: S::List<(K, Reason)>,
    /// Where the oldest report lies once the list is full and goes round.
    oldest: usize,
    max: usize,
    pub(super) lost: u64,
}

impl<K: Clone, S: Storage> Reports<K, S> {
    /// `max` of 0 switches reports off.
    pub(super) fn new(max: usize) -> Self {
        Self { reports: Default::default(), oldest: 0, max: S::room_for(max), lost: 0 }
    }

    pub(super) fn are_wanted(&self) -> bool {
        self.max > 0
    }

    pub(super) fn add(&mut self, key: K, reason: Reason) {
        if self.reports.len() < self.max {
            self.reports.grow_towards(self.max);
            // There is room for `max`.
            let _ = self.reports.push((key, reason));
        } else if let Some(report) = self.reports.get_mut(self.oldest) {
            *report = (key, reason);
            self.oldest = (self.oldest + 1) % self.max;
            self.lost += 1;
        }
    }

    pub(super) fn take(&mut self) -> impl Iterator<Item = (K, Reason)> + use<K, S> {
        let mut reports = core::mem::take(&mut self.reports);
        reports.rotate_left(core::mem::take(&mut self.oldest));
        reports.into_iter()
    }

    pub(super) fn bytes(&self) -> usize {
        self.reports.bytes()
    }
}
