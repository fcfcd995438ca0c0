//! Least recently used: one queue, in which a hit moves its row to the new end.
//!
//! A move reads and writes neighbours that lie anywhere. So hits are noted, and a handful of moves is made together, in
//! the order of the hits, when there is no room for more notes or the order is about to matter: out of cache their misses
//! then overlap, and nobody can tell the difference.

use super::Evict;
use crate::storage::{Links, Queue, Storage};

/// Hits that are noted before their moves are made.
const NOTES: usize = 32;

#[derive(Clone)]
pub(crate) struct Lru<S: Storage> {
    links: Links<S>,
    queue: Queue,
    notes: [u32; NOTES],
    noted: usize,
}

impl<S: Storage> Lru<S> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { links: Links::new(capacity), queue: Queue::default(), notes: [0; NOTES], noted: 0 }
    }

    /// Makes the moves that were noted.
    #[inline]
    fn settle(&mut self) {
        if self.noted > 0 {
            self.settle_noted();
        }
    }

    fn settle_noted(&mut self) {
        let noted = core::mem::take(&mut self.noted);
        for &row in self.notes.iter().take(noted) {
            self.links.renew(&mut self.queue, row);
        }
    }
}

impl<S: Storage> Evict for Lru<S> {
    #[inline]
    fn inserted(&mut self, row: u32, _hash: u64) {
        self.settle();
        self.links.push(&mut self.queue, row);
    }

    #[inline]
    fn hit(&mut self, row: u32, _hash: u64) {
        if self.noted == NOTES {
            self.settle();
        }
        if let Some(note) = self.notes.get_mut(self.noted) {
            *note = row;
            self.noted += 1;
        }
    }

    fn removed(&mut self, row: u32) {
        self.settle();
        self.links.remove(&mut self.queue, row);
    }

    #[inline]
    fn victim(&mut self, hash_of: impl Fn(u32) -> u64) -> Option<(u32, u64)> {
        self.settle();
        let row = self.queue.oldest()?;
        self.links.remove(&mut self.queue, row);
        Some((row, hash_of(row)))
    }

    fn clear(&mut self) {
        self.links.clear();
        (self.queue, self.noted) = (Queue::default(), 0);
    }

    fn bytes(&self) -> usize {
        self.links.bytes()
    }
}
