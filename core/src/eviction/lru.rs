//! Least recently used: one queue; a hit moves its row to the new end, and touches its neighbours only.

use super::Evict;
use crate::storage::{Links, Queue, Storage};

#[derive(Clone)]
pub(crate) struct Lru<S: Storage> {
    links: Links<S>,
    queue: Queue,
}

impl<S: Storage> Lru<S> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { links: Links::new(capacity), queue: Queue::default() }
    }
}

impl<S: Storage> Evict for Lru<S> {
    #[inline]
    fn inserted(&mut self, row: u32, _hash: u64) {
        self.links.push(&mut self.queue, row);
    }

    #[inline]
    fn hit(&mut self, row: u32, _hash: u64) {
        self.links.renew(&mut self.queue, row);
    }

    fn removed(&mut self, row: u32) {
        self.links.remove(&mut self.queue, row);
    }

    fn victim(&mut self, _hash_of: impl Fn(u32) -> u64) -> Option<u32> {
        let row = self.queue.oldest()?;
        self.links.remove(&mut self.queue, row);
        Some(row)
    }

    fn clear(&mut self) {
        self.links.clear();
        self.queue = Queue::default();
    }

    fn bytes(&self) -> usize {
        self.links.bytes()
    }
}
