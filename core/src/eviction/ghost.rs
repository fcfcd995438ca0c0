//! The memory of a policy for keys that left: a fingerprint of each, in order of leaving, the oldest making room.
//!
//! The order is kept in each of many short sets, one of which the hash of a key chooses: remembering and asking touch
//! one line of cache, nothing is ever moved further than within it, and there is no table beside it to be searched,
//! cleaned or grown. Keys fall evenly but not exactly evenly, so one is forgotten a little sooner than another.

use crate::storage::{List, Storage};

/// Fingerprints in a set, at most.
const SET: usize = 16;
/// No fingerprint.
const NONE: u16 = 0;

/// The last so many keys, each as 16 bits: one new key in four thousand is taken for one that was here, which costs
/// nothing but a better place.
#[derive(Clone)]
pub(super) struct Ghost<S: Storage> {
    /// Set after set, in each the newest first.
    prints: S::List<u16>,
    sets: usize,
    /// Fingerprints in a set.
    set: usize,
}

impl<S: Storage> Ghost<S> {
    pub(super) fn new(max: usize) -> Self {
        let max = S::room_for(max);
        let sets = max.div_ceil(SET);
        Self { prints: Default::default(), sets, set: max.div_ceil(sets.max(1)) }
    }

    /// Remembers a key that left.
    #[inline]
    pub(super) fn add(&mut self, hash: u64) {
        if self.prints.is_empty() {
            self.furnish();
        }
        let (set, print) = self.place(hash);
        if let Some(last) = set.len().checked_sub(1) {
            set.copy_within(..last, 1);
        }
        if let Some(newest) = set.first_mut() {
            *newest = print;
        }
    }

    /// Whether the key left lately; if so, it is forgotten.
    #[inline]
    pub(super) fn take(&mut self, hash: u64) -> bool {
        let (set, print) = self.place(hash);
        let found = set.iter().fold(false, |found, other| found | (*other == print));
        if found && let Some(place) = set.iter_mut().find(|other| **other == print) {
            *place = NONE;
        }
        found
    }

    /// The set of a key, empty if there are none yet, and the fingerprint.
    #[inline]
    fn place(&mut self, hash: u64) -> (&mut [u16], u16) {
        let spread = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // The high half of a product maps 32 bits onto the sets (Lemire 2019).
        let start = (((spread >> 32) * self.sets as u64) >> 32) as usize * self.set;
        let print = ((spread >> 16) as u16).max(NONE + 1);
        (self.prints.get_mut(start..start + self.set).unwrap_or_default(), print)
    }

    #[cold]
    fn furnish(&mut self) {
        let wanted = self.sets * self.set;
        while self.prints.len() < wanted {
            self.prints.grow_towards(wanted);
            if self.prints.push(NONE).is_err() {
                return;
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.prints.clear();
    }

    pub(super) fn bytes(&self) -> usize {
        self.prints.bytes()
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Growing, Room};

    fn the_last_so_many_are_remembered<S: Storage>() {
        let mut ghost: Ghost<S> = Ghost::new(3);
        let hash = |key: u64| key.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        (0..5).for_each(|key| ghost.add(hash(key)));
        assert!(!ghost.take(hash(1)), "older than the last three");
        assert!(ghost.take(hash(3)));
        assert!(!ghost.take(hash(3)), "taken once");
        ghost.add(hash(9));
        assert!(!ghost.take(hash(2)), "it has made room");
        assert!(ghost.take(hash(4)) && ghost.take(hash(9)));
    }

    #[test]
    fn ghosts_leave_in_the_order_in_which_they_came() {
        the_last_so_many_are_remembered::<Growing>();
        the_last_so_many_are_remembered::<Room<4>>();
    }
}
