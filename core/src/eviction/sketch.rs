//! How often keys were asked for lately, in four bits each: a count-min sketch that forgets.
//!
//! Each key has four counters in one block of eight words, so that counting touches one cache line. After ten requests
//! for each entry of the capacity all counters are halved (the "reset" of Einziger, Friedman, Manes, "TinyLFU: A Highly
//! Efficient Cache Admission Policy", ACM TOS 2017). Here that is done block by block, when one is next met: the first
//! word of a block is the number of halvings that it has seen, so a halving costs nothing at the moment it is due.

use crate::storage::{List, Storage};

/// Words of a block, the count of halvings included.
const BLOCK: usize = 8;
/// Counters of a key.
const ROWS: u32 = 4;
/// Requests for each entry of the capacity between two halvings.
const SAMPLE: u64 = 10;
const COUNT_MAX: u64 = 15;

#[derive(Clone)]
pub(super) struct Sketch<S: Storage> {
    words: S::List<u64>,
    /// Words of a block: less than [`BLOCK`] where the room is smaller than that.
    block: usize,
    /// How often everything was halved.
    halvings: u64,
    counted: u64,
    sample: u64,
}

impl<S: Storage> Sketch<S> {
    pub(super) fn new(capacity: usize) -> Self {
        let wanted = capacity.next_multiple_of(BLOCK);
        let mut words: S::List<u64> = Default::default();
        words.grow_towards(wanted);
        for _ in 0..S::room_for(wanted) {
            words.grow_towards(wanted);
            // Bounded by the room.
            let _ = words.push(0);
        }
        let block = BLOCK.min(words.len());
        Self { words, block, halvings: 0, counted: 0, sample: SAMPLE * capacity.max(1) as u64 }
    }

    /// Counts a request for the key of that hash.
    pub(super) fn count(&mut self, hash: u64) {
        let (block, halvings) = (self.block_of(hash), self.halvings);
        let Some(words) = self.words.get_mut(block..block + self.block) else { return };
        let Some((seen, counters)) = words.split_first_mut() else { return };
        let behind = halvings - core::mem::replace(seen, halvings);
        if behind > 0 {
            counters.iter_mut().for_each(|word| *word = halved(*word, behind));
        }
        let mut counted = false;
        for (word, shift) in places(hash, counters.len()) {
            if let Some(word) = counters.get_mut(word).filter(|word| (**word >> shift) & COUNT_MAX < COUNT_MAX) {
                *word += 1 << shift;
                counted = true;
            }
        }
        self.counted += u64::from(counted);
        if self.counted >= self.sample {
            self.halvings += 1;
            self.counted /= 2;
        }
    }

    /// How often the key of that hash was asked for lately: 15 at most, and rather too much than too little.
    pub(super) fn frequency(&self, hash: u64) -> u64 {
        let block = self.block_of(hash);
        let Some((seen, counters)) = self.words.get(block..block + self.block).and_then(<[u64]>::split_first) else {
            return 0;
        };
        let behind = (self.halvings - seen).min(63);
        let count = |(word, shift): (usize, u32)| counters.get(word).map_or(0, |word| (word >> shift) & COUNT_MAX);
        places(hash, counters.len()).map(count).min().unwrap_or(0) >> behind
    }

    pub(super) fn bytes(&self) -> usize {
        self.words.bytes()
    }

    /// Where the block of a hash begins.
    fn block_of(&self, hash: u64) -> usize {
        let blocks = (self.words.len() / self.block.max(1)) as u64;
        (((hash >> 32) * blocks) >> 32) as usize * self.block
    }
}

/// Word and shift of each of the key's counters.
fn places(hash: u64, words: usize) -> impl Iterator<Item = (usize, u32)> {
    let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (0..ROWS).map(move |row| {
        let bits = mixed >> (16 * row);
        ((((bits >> 4) & 0xFFF) as usize * words) >> 12, (bits & 15) as u32 * 4)
    })
}

/// All sixteen counters of a word, halved so many times.
fn halved(word: u64, times: u64) -> u64 {
    (0..times.min(4)).fold(word, |word, _| (word >> 1) & 0x7777_7777_7777_7777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;
    use crate::storage::{Growing, Room};

    fn what_is_asked_for_more_often_counts_more<S: Storage>() {
        let mut sketch: Sketch<S> = Sketch::new(512);
        let mut entropy = Entropy::from_seed(1);
        let keys: [u64; 40] = core::array::from_fn(|_| entropy.bits());
        for (times, key) in keys.iter().enumerate() {
            (0..times % 8).for_each(|_| sketch.count(*key));
        }
        let exact = keys.iter().enumerate().filter(|(times, key)| sketch.frequency(**key) == *times as u64 % 8).count();
        assert!(exact >= 36, "{exact} of 40 are exact");
        assert!(keys.iter().enumerate().all(|(times, key)| sketch.frequency(*key) >= times as u64 % 8));
        (0..100).for_each(|_| sketch.count(keys[0]));
        assert_eq!(sketch.frequency(keys[0]), COUNT_MAX);
    }

    #[test]
    fn counts_are_nearly_exact_and_never_too_small() {
        what_is_asked_for_more_often_counts_more::<Growing>();
        what_is_asked_for_more_often_counts_more::<Room<512>>();
    }

    #[test]
    fn all_counts_are_halved_when_the_sample_is_full_also_those_not_met_since() {
        let mut sketch: Sketch<Growing> = Sketch::new(8);
        let key = 0x1234_5678_9ABC_DEF0;
        (0..9).for_each(|_| sketch.count(key));
        assert_eq!(sketch.frequency(key), 9);
        sketch.counted = sketch.sample - 1;
        sketch.count(!key);
        assert_eq!(sketch.frequency(key), 4);
        sketch.halvings += 100;
        assert_eq!(sketch.frequency(key), 0);
        sketch.count(key);
        assert_eq!(sketch.frequency(key), 1);
    }

    #[test]
    fn the_smallest_rooms_count_too() {
        let mut sketch: Sketch<Room<2>> = Sketch::new(2);
        sketch.count(77);
        assert_eq!(sketch.frequency(77), 1);
    }
}
