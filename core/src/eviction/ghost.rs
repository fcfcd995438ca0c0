//! The memory of a policy for keys that left: their hashes only, in order of leaving, the oldest making room.

use crate::storage::{Index, List, Storage};

/// The last so many hashes, each cut to 32 bits: of a hundred thousand ghosts one new key in forty thousand is taken
/// for one that was here, which costs nothing but a better place.
#[derive(Clone)]
pub(super) struct Ghost<S: Storage> {
    ring: S::List<u32>,
    index: S::Index,
    next: usize,
    max: usize,
}

impl<S: Storage> Ghost<S> {
    pub(super) fn new(max: usize) -> Self {
        Self { ring: Default::default(), index: Default::default(), next: 0, max: S::room_for(max) }
    }

    /// Remembers a key that left.
    pub(super) fn add(&mut self, hash: u64) {
        if self.max == 0 {
            return;
        }
        let ghost = cut(hash);
        if let Some(place) = self.ring.get_mut(self.next) {
            // A ghost that was taken is not there any more, and nothing is removed.
            self.index.remove(spread(*place), self.next as u32);
            *place = ghost;
        } else {
            self.ring.grow_towards(self.max);
            if self.ring.push(ghost).is_err() {
                return;
            }
        }
        let ring = &self.ring;
        let rehash = |place| ring.get(place as usize).copied().map_or(0, spread);
        // The ring's places are below the index's room.
        let _ = self.index.insert(spread(ghost), self.next as u32, rehash);
        self.next = (self.next + 1) % self.max;
    }

    /// Whether the key left lately; if so, it is forgotten.
    pub(super) fn take(&mut self, hash: u64) -> bool {
        let ghost = cut(hash);
        let found = self.index.find(spread(ghost), |place| self.ring.get(place as usize) == Some(&ghost));
        found.is_some_and(|place| self.index.remove(spread(ghost), place))
    }

    pub(super) fn clear(&mut self) {
        self.ring.clear();
        self.index.clear();
        self.next = 0;
    }

    pub(super) fn bytes(&self) -> usize {
        self.ring.bytes() + self.index.bytes()
    }
}

fn cut(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}

/// A hash of all 64 bits again, for the index.
fn spread(ghost: u32) -> u64 {
    u64::from(ghost).wrapping_mul(0x9E37_79B9_7F4A_7C15)
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
