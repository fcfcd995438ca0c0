//! Queues of rows: doubly linked lists of numbers, so that any row leaves or moves in constant time.

use super::{Column, NIL, Slab, Storage};

/// The neighbours of each row, in whatever queue it stands.
#[derive(Clone)]
pub struct Links<S: Storage>(Column<Link, S>);

#[derive(Debug, Clone, Copy)]
struct Link {
    newer: u32,
    older: u32,
}

impl Default for Link {
    fn default() -> Self {
        Self { newer: NIL, older: NIL }
    }
}

/// The ends of one queue. Several queues may share [`Links`], as long as no row stands in two of them.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    newest: u32,
    oldest: u32,
    len: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self { newest: NIL, oldest: NIL, len: 0 }
    }
}

impl Queue {
    /// The row that entered last.
    #[must_use]
    #[inline]
    pub fn newest(&self) -> Option<u32> {
        Some(self.newest).filter(|&row| row != NIL)
    }

    /// The row that entered first.
    #[must_use]
    #[inline]
    pub fn oldest(&self) -> Option<u32> {
        Some(self.oldest).filter(|&row| row != NIL)
    }

    /// Rows in the queue.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether no row is in the queue.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<S: Storage> Links<S> {
    /// Links for rows below `max`.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self(Column::new(max))
    }

    /// The row that entered the queue next after `row`.
    #[must_use]
    #[inline]
    pub fn newer(&self, row: u32) -> Option<u32> {
        Some(self.0.get(row).newer).filter(|&row| row != NIL)
    }

    /// The row that entered the queue just before `row`.
    #[must_use]
    #[inline]
    pub fn older(&self, row: u32) -> Option<u32> {
        Some(self.0.get(row).older).filter(|&row| row != NIL)
    }

    /// Puts `row`, which stands in no queue, at the new end.
    #[inline]
    pub fn push(&mut self, queue: &mut Queue, row: u32) {
        let older = core::mem::replace(&mut queue.newest, row);
        self.0.set(row, Link { newer: NIL, older });
        match self.0.get_mut(older) {
            Some(link) => link.newer = row,
            None => queue.oldest = row,
        }
        queue.len += 1;
    }

    /// Takes `row`, which stands in this queue, out.
    #[inline]
    pub fn remove(&mut self, queue: &mut Queue, row: u32) {
        let Link { newer, older } = self.0.get(row);
        match self.0.get_mut(newer) {
            Some(link) => link.older = older,
            None => queue.newest = older,
        }
        match self.0.get_mut(older) {
            Some(link) => link.newer = newer,
            None => queue.oldest = newer,
        }
        queue.len = queue.len.saturating_sub(1);
    }

    /// Moves `row`, which stands in this queue, to the new end.
    #[inline]
    pub fn renew(&mut self, queue: &mut Queue, row: u32) {
        if queue.newest != row {
            self.remove(queue, row);
            self.push(queue, row);
        }
    }

    /// The rows of the queue, the oldest first.
    pub fn iter(&self, queue: &Queue) -> impl Iterator<Item = u32> {
        core::iter::successors(queue.oldest(), |&row| self.newer(row))
    }

    /// Forgets all links.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Bytes of heap taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

/// A queue of items of its own: any of them is reached by its number and leaves in constant time.
///
/// ```
/// use tideover_core::storage::{Growing, Linked};
///
/// let mut debts: Linked<&str, Growing> = Linked::new(10);
/// let first = debts.push_back("a").expect("there is room");
/// debts.push_back("b").expect("there is room");
/// debts.remove(first);
/// debts.push_back("c").expect("there is room");
/// assert_eq!(debts.iter().map(|(_, debt)| *debt).collect::<Vec<_>>(), ["b", "c"]);
/// ```
#[derive(Clone)]
pub struct Linked<T: Clone, S: Storage> {
    items: Slab<T, S>,
    links: Links<S>,
    queue: Queue,
}

impl<T: Clone, S: Storage> Linked<T, S> {
    /// An empty queue for `max` items, or as many as the storage has room for.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { items: Slab::new(max), links: Links::new(max), queue: Queue::default() }
    }

    /// Adds an item at the new end, and gives its number.
    ///
    /// # Errors
    ///
    /// The item, when there is no room.
    pub fn push_back(&mut self, item: T) -> Result<u32, T> {
        let index = self.items.insert(item)?;
        self.links.push(&mut self.queue, index);
        Ok(index)
    }

    /// Takes an item out.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let item = self.items.remove(index)?;
        self.links.remove(&mut self.queue, index);
        Some(item)
    }

    /// Takes the oldest item out.
    pub fn pop_front(&mut self) -> Option<T> {
        self.remove(self.queue.oldest()?)
    }

    /// Moves an item to the new end.
    pub fn renew(&mut self, index: u32) {
        if self.items.get(index).is_some() {
            self.links.renew(&mut self.queue, index);
        }
    }

    /// The item of that number.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&T> {
        self.items.get(index)
    }

    /// The item of that number, to be changed.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.items.get_mut(index)
    }

    /// The oldest item and its number.
    #[must_use]
    pub fn front(&self) -> Option<(u32, &T)> {
        let index = self.queue.oldest()?;
        Some((index, self.items.get(index)?))
    }

    /// Items with their numbers, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.links.iter(&self.queue).filter_map(|index| Some((index, self.items.get(index)?)))
    }

    /// Items held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many items fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.items.capacity()
    }

    /// Drops all items.
    pub fn clear(&mut self) {
        self.items.clear();
        self.links.clear();
        self.queue = Queue::default();
    }

    /// Bytes of heap taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.items.bytes() + self.links.bytes()
    }
}
