//! SIEVE: one queue in order of arrival and a hand that walks from the oldest to the newest, sparing each row once that
//! was hit since the hand last passed. A hit writes one mark, and that only once.
//!
//! Zhang, Yang, Yue, Vigfusson, Rashmi, "SIEVE is Simpler than LRU", NSDI 2024.

use super::Evict;
use crate::storage::{Column, Links, Queue, Storage};

#[derive(Clone)]
pub(crate) struct Sieve<S: Storage> {
    links: Links<S>,
    queue: Queue,
    visited: Column<bool, S>,
    /// The row to look at next; none: the oldest.
    hand: Option<u32>,
}

impl<S: Storage> Sieve<S> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { links: Links::new(capacity), queue: Queue::default(), visited: Column::new(capacity), hand: None }
    }
}

impl<S: Storage> Evict for Sieve<S> {
    #[inline]
    fn inserted(&mut self, row: u32, _hash: u64) {
        self.visited.set(row, false);
        self.links.push(&mut self.queue, row);
    }

    #[inline]
    fn hit(&mut self, row: u32, _hash: u64) {
        if !self.visited.get(row) {
            self.visited.set(row, true);
        }
    }

    fn removed(&mut self, row: u32) {
        if self.hand == Some(row) {
            self.hand = self.links.newer(row);
        }
        self.links.remove(&mut self.queue, row);
    }

    /// Walks at most once round the queue. Each step pays back a hit.
    #[inline]
    fn victim(&mut self, hash_of: impl Fn(u32) -> u64) -> Option<(u32, u64)> {
        let mut row = self.hand.or(self.queue.oldest())?;
        while self.visited.get(row) {
            self.visited.set(row, false);
            row = self.links.newer(row).or(self.queue.oldest())?;
        }
        self.hand = self.links.newer(row);
        self.links.remove(&mut self.queue, row);
        Some((row, hash_of(row)))
    }

    fn clear(&mut self) {
        self.links.clear();
        self.visited.clear();
        (self.queue, self.hand) = (Queue::default(), None);
    }

    fn bytes(&self) -> usize {
        self.links.bytes() + self.visited.bytes()
    }
}
