//! The windows of rows, each kind kept once: rows by the thousand have the same, and so carry a number only.

use core::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::entry::Windows;
use crate::storage::{Index, NIL, Slab, Storage};
use crate::time::nanos;

/// Windows, and what follows from them for every row that has them.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) windows: Windows,
    /// The age from which a hit has more to think about: the end of freshness, or the start of refresh-ahead.
    pub(super) quiet: u64,
    /// The age from which the row is of no use; `u64::MAX`: never.
    pub(super) lifetime: u64,
    rows: u32,
}

/// The percentage of `ttl`, rounded down to the nanosecond.
pub(super) const fn share(ttl: u64, percent: u64) -> u64 {
    ttl / 100 * percent + ttl % 100 * percent / 100
}

#[derive(Clone)]
pub(super) struct Shapes<S: Storage> {
    shapes: Slab<Shape, S>,
    index: S::Index,
    hasher: FixedState,
    refresh_ahead: u8,
    /// The shape of the newest row: most likely that of the next.
    recent: u32,
}

impl<S: Storage> Shapes<S> {
    pub(super) fn new(max: usize, hasher: FixedState, refresh_ahead: u8) -> Self {
        Self { shapes: Slab::new(max), index: S::Index::default(), hasher, refresh_ahead, recent: NIL }
    }

    #[inline]
    pub(super) fn get(&self, shape: u32) -> Option<&Shape> {
        self.shapes.get(shape)
    }

    /// The shape for one more row with these windows. There is room for as many shapes as for rows.
    #[inline]
    pub(super) fn take(&mut self, windows: &Windows) -> Option<u32> {
        match self.shapes.get_mut(self.recent) {
            Some(shape) if shape.windows == *windows => {
                shape.rows += 1;
                Some(self.recent)
            }
            _ => self.take_another(windows),
        }
    }

    #[cold]
    fn take_another(&mut self, windows: &Windows) -> Option<u32> {
        let hash = self.hasher.hash_one(windows);
        let shapes = &self.shapes;
        let is_it = |shape| shapes.get(shape).is_some_and(|shape| shape.windows == *windows);
        let found = self.index.find(hash, is_it);
        self.recent = match found {
            Some(shape) => shape,
            None => self.add(hash, windows)?,
        };
        self.shapes.get_mut(self.recent)?.rows += 1;
        Some(self.recent)
    }

    fn add(&mut self, hash: u64, windows: &Windows) -> Option<u32> {
        let lifetime = windows.lifetime().map_or(u64::MAX, nanos);
        let ttl = windows.ttl.map(nanos);
        let quiet = match (ttl, u64::from(self.refresh_ahead)) {
            (None, _) => u64::MAX,
            (Some(ttl), 0 | 100..) => ttl,
            (Some(ttl), percent) => share(ttl, percent),
        };
        let shape = self.shapes.insert(Shape { windows: *windows, quiet, lifetime, rows: 0 }).ok()?;
        let (shapes, hasher) = (&self.shapes, &self.hasher);
        let rehash = |shape| shapes.get(shape).map_or(0, |shape| hasher.hash_one(shape.windows));
        self.index.insert(hash, shape, rehash).ok()?;
        Some(shape)
    }

    /// One row less has that shape.
    #[inline]
    pub(super) fn release(&mut self, number: u32) {
        match self.shapes.get_mut(number) {
            Some(shape) if shape.rows > 1 => shape.rows -= 1,
            _ => self.forget(number),
        }
    }

    #[cold]
    fn forget(&mut self, number: u32) {
        if let Some(shape) = self.shapes.remove(number) {
            self.index.remove(self.hasher.hash_one(shape.windows), number);
        }
    }

    pub(super) fn clear(&mut self) {
        self.shapes.clear();
        self.index.clear();
        self.recent = NIL;
    }

    pub(super) fn bytes(&self) -> usize {
        self.shapes.bytes() + self.index.bytes()
    }
}
