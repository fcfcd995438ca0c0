//! The removal of all keys that match a pattern, page by page.

use core::mem;

use super::words::{Cursor, Key, Reply, Request};

/// Keys that one step looks at.
const PAGE: usize = 1_000;

pub(super) struct Walk {
    pub(super) pattern: Key,
    cursor: Cursor,
    /// What is being removed is not the last of it.
    more_follow: bool,
    /// How many there were.
    pub(super) removed: u64,
}

impl Walk {
    /// A walk, and what the store is asked first.
    pub(super) fn begin<V>(pattern: Key) -> (Self, Request<V>) {
        let walk = Self { pattern, cursor: Cursor::default(), more_follow: true, removed: 0 };
        let first = walk.scan();
        (walk, first)
    }

    fn scan<V>(&self) -> Request<V> {
        Request::Scan { pattern: Key::clone(&self.pattern), cursor: self.cursor.clone(), count: PAGE }
    }

    /// What is asked next; `None`: it is over.
    pub(super) fn next<V>(&mut self, reply: Reply<V>) -> Option<Request<V>> {
        match reply {
            Reply::Page(page) => {
                self.more_follow = page.next.is_some();
                self.cursor = page.next.unwrap_or_default();
                let keys = page.keys;
                if !keys.is_empty() {
                    return Some(Request::RemoveMany { keys: keys.into_iter().map(Key::from).collect() });
                }
            }
            Reply::Count(removed) => self.removed += removed,
            _ => {}
        }
        mem::replace(&mut self.more_follow, false).then(|| self.scan())
    }
}
