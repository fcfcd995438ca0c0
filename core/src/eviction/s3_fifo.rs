//! S3-FIFO: what arrives stands in a small queue, a tenth of all, and only what is hit twice there moves to the main
//! one; most keys are asked for once and leave quickly. Who left the small queue is remembered by a ghost, and enters
//! the main queue if it comes back. The main queue gives each row as many further rounds as it had hits, three at most.
//! A hit writes two bits, and those only until they are full.
//!
//! Yang, Zhang, Qiu, Yue, Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023.

use super::Evict;
use super::ghost::Ghost;
use crate::storage::{Column, Links, Queue, Storage};

/// Hits in the small queue that move a row to the main one.
const PROMOTION: u8 = 2;
/// Hits that are counted, at most.
const HITS_MAX: u8 = 3;
/// The share of the small queue is one in so many.
const SMALL: u32 = 10;
/// Marks a row of the main queue.
const MAIN: u8 = 1 << 7;

#[derive(Clone)]
pub(crate) struct S3Fifo<S: Storage> {
    links: Links<S>,
    small: Queue,
    main: Queue,
    /// Hits of the row, and whether it stands in the main queue.
    marks: Column<u8, S>,
    ghost: Ghost<S>,
}

impl<S: Storage> S3Fifo<S> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            links: Links::new(capacity),
            small: Queue::default(),
            main: Queue::default(),
            marks: Column::new(capacity),
            ghost: Ghost::new(capacity - capacity / SMALL as usize),
        }
    }

    fn enter(&mut self, row: u32, main: bool, hits: u8) {
        let queue = if main { &mut self.main } else { &mut self.small };
        self.links.push(queue, row);
        self.marks.set(row, if main { MAIN | hits } else { hits });
    }

    /// Gives up the oldest of the small queue that was not hit often enough; the others on the way move on.
    fn victim_of_small(&mut self, hash_of: impl Fn(u32) -> u64) -> Option<(u32, u64)> {
        while let Some(row) = self.small.oldest() {
            self.links.remove(&mut self.small, row);
            if self.marks.get(row) < PROMOTION {
                let hash = hash_of(row);
                self.ghost.add(hash);
                return Some((row, hash));
            }
            self.enter(row, true, 0);
        }
        None
    }

    /// Gives up the oldest of the main queue that has used up its hits.
    fn victim_of_main(&mut self) -> Option<u32> {
        while let Some(row) = self.main.oldest() {
            self.links.remove(&mut self.main, row);
            let hits = self.marks.get(row) & HITS_MAX;
            if hits == 0 {
                return Some(row);
            }
            self.enter(row, true, hits - 1);
        }
        None
    }
}

impl<S: Storage> Evict for S3Fifo<S> {
    #[inline(never)]
    fn inserted(&mut self, row: u32, hash: u64) {
        let known = self.ghost.take(hash);
        self.enter(row, known, 0);
    }

    #[inline]
    fn hit(&mut self, row: u32, _hash: u64) {
        let marks = self.marks.get(row);
        if marks & HITS_MAX < HITS_MAX {
            self.marks.set(row, marks + 1);
        }
    }

    fn removed(&mut self, row: u32) {
        let queue = if self.marks.get(row) & MAIN == 0 { &mut self.small } else { &mut self.main };
        self.links.remove(queue, row);
    }

    /// Each step beyond the first pays back a hit. Shares are of what is held, not of the capacity, so that they are
    /// right also where weight is what limits.
    #[inline(never)]
    fn victim(&mut self, hash_of: impl Fn(u32) -> u64) -> Option<(u32, u64)> {
        let all = self.small.len() + self.main.len();
        if self.main.len() <= all - all / SMALL
            && let Some(victim) = self.victim_of_small(&hash_of)
        {
            return Some(victim);
        }
        self.victim_of_main().map(|row| (row, hash_of(row)))
    }

    fn clear(&mut self) {
        self.links.clear();
        self.marks.clear();
        self.ghost.clear();
        (self.small, self.main) = (Queue::default(), Queue::default());
    }

    fn bytes(&self) -> usize {
        self.links.bytes() + self.marks.bytes() + self.ghost.bytes()
    }
}
