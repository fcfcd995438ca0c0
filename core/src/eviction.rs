//! Whom a full memory gives up.
//!
//! A policy sees rows as numbers: which one arrived, was hit, or left; asked for a victim, it names one and forgets it.
//! Its lists lie beside the rows, not in them, so that a row carries nothing of them, and each policy pays for what it
//! needs and no more. It knows nothing of keys, values, weights or time.

mod ghost;
mod lru;
mod s3_fifo;
mod sieve;
mod sketch;
mod w_tiny_lfu;

use self::lru::Lru;
use self::s3_fifo::S3Fifo;
use self::sieve::Sieve;
use self::w_tiny_lfu::WTinyLfu;
use crate::storage::Storage;

/// The policies to choose from. As text: `lru`, `s3-fifo`, `sieve`, `w-tinylfu`.
///
/// `docs/eviction.md` compares them on real traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Eviction {
    /// The least recently used entry leaves.
    #[default]
    Lru,
    /// Two queues, a small one that filters what is asked for once. The best choice for most traffic.
    S3Fifo,
    /// One queue and a hand that spares what was hit. The cheapest.
    Sieve,
    /// A window before a main part that admits by frequency; the window's size follows the traffic.
    WTinyLfu,
}

impl Eviction {
    /// Every policy there is.
    pub const ALL: &'static [Self] = &[Self::Lru, Self::S3Fifo, Self::Sieve, Self::WTinyLfu];

    /// The name as option text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::S3Fifo => "s3-fifo",
            Self::Sieve => "sieve",
            Self::WTinyLfu => "w-tinylfu",
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
    /// Whom to give up now, with the hash of its key, which counts as gone from here on. `hash_of` gives the hash of any
    /// row's key. There is one as long as there are rows.
    fn victim(&mut self, hash_of: impl Fn(u32) -> u64) -> Option<(u32, u64)>;
    /// Forgets everything.
    fn clear(&mut self);
    /// Bytes of heap taken.
    fn bytes(&self) -> usize;
}

/// The policy in force.
#[derive(Clone)]
pub(crate) enum Order<S: Storage> {
    Lru(Lru<S>),
    S3Fifo(S3Fifo<S>),
    Sieve(Sieve<S>),
    WTinyLfu(WTinyLfu<S>),
}

macro_rules! each {
    ($order:expr, $policy:ident => $do:expr) => {
        match $order {
            Order::Lru($policy) => $do,
            Order::S3Fifo($policy) => $do,
            Order::Sieve($policy) => $do,
            Order::WTinyLfu($policy) => $do,
        }
    };
}

impl<S: Storage> Order<S> {
    pub(crate) fn new(eviction: Eviction, capacity: usize) -> Self {
        match eviction {
            Eviction::Lru => Self::Lru(Lru::new(capacity)),
            Eviction::S3Fifo => Self::S3Fifo(S3Fifo::new(capacity)),
            Eviction::Sieve => Self::Sieve(Sieve::new(capacity)),
            Eviction::WTinyLfu => Self::WTinyLfu(WTinyLfu::new(capacity)),
        }
    }
}

/// An insertion into a full memory asks for a victim and lets its row arrive: both become part of it, all but the long
/// work of the two policies with several queues, which is called.
impl<S: Storage> Evict for Order<S> {
    #[inline(always)]
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

    #[inline(always)]
    fn victim(&mut self, hash_of: impl Fn(u32) -> u64) -> Option<(u32, u64)> {
        each!(self, policy => policy.victim(hash_of))
    }

    fn clear(&mut self) {
        each!(self, policy => policy.clear());
    }

    fn bytes(&self) -> usize {
        each!(self, policy => policy.bytes())
    }
}

#[cfg(test)]
mod tests;
