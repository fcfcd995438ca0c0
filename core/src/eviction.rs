//! Whom a full memory gives up.
//!
//! A policy sees rows as numbers: which one arrived, was hit, or left; asked for a victim, it names one and forgets it.
//! Its lists lie beside the rows, not in them, so that a row carries nothing of them, and each policy pays for what it
//! needs and no more. It knows nothing of keys, values, weights or time.

mod lru;

use self::lru::Lru;
use crate::storage::Storage;

/// The policies to choose from. As text: `lru`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Eviction {
    /// The least recently used entry leaves.
    #[default]
    Lru,
}

impl Eviction {
    /// Every policy there is.
    pub const ALL: &'static [Self] = &[Self::Lru];

    /// The name as option text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lru => "lru",
        }
    }

    /// The policy of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|policy| policy.name() == name)
    }
}

/// What a policy does. Rows are numbers below the capacity it was made for.
pub(crate) trait Evict {
    /// `row`, whose key has that hash, arrived.
    fn inserted(&mut self, row: u32, hash: u64);
    /// `row`, whose key has that hash, was read or overwritten.
    fn hit(&mut self, row: u32, hash: u64);
    /// `row` left, for another reason than eviction.
    fn removed(&mut self, row: u32);
    /// Whom to give up now; it counts as gone from here on. `hash_of` gives the hash of any row's key. There is one as
    /// long as there are rows.
    fn victim(&mut self, hash_of: impl Fn(u32) -> u64) -> Option<u32>;
    /// Forgets everything.
    fn clear(&mut self);
    /// Bytes of heap taken.
    fn bytes(&self) -> usize;
}

/// The policy in force.
#[derive(Clone)]
pub(crate) enum Order<S: Storage> {
    Lru(Lru<S>),
}

macro_rules! each {
    ($order:expr, $policy:ident => $do:expr) => {
        match $order {
            Order::Lru($policy) => $do,
        }
    };
}

impl<S: Storage> Order<S> {
    pub(crate) fn new(eviction: Eviction, capacity: usize) -> Self {
        match eviction {
            Eviction::Lru => Self::Lru(Lru::new(capacity)),
        }
    }
}

impl<S: Storage> Evict for Order<S> {
    #[inline]
    fn inserted(&mut self, row: u32, hash: u64) {
        each!(self, policy => policy.inserted(row, hash));
    }

    #[inline]
    fn hit(&mut self, row: u32, hash: u64) {
        each!(self, policy => policy.hit(row, hash));
    }

    #[inline]
    fn removed(&mut self, row: u32) {
        each!(self, policy => policy.removed(row));
    }

    #[inline]
    fn victim(&mut self, hash_of: impl Fn(u32) -> u64) -> Option<u32> {
        each!(self, policy => policy.victim(hash_of))
    }

    fn clear(&mut self) {
        each!(self, policy => policy.clear());
    }

    fn bytes(&self) -> usize {
        each!(self, policy => policy.bytes())
    }
}
