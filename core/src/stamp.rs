//! Who wrote what lies in a shared store, and when: what processes compare before one overwrites another's change.
//!
//! Each write has a [`Version`] that no other write has, ever. A load remembers which version it found before it went to
//! the origin, and its result is kept only over that one: whatever another process put or removed meanwhile is newer,
//! and wins. A removal leaves a stamp without a value behind (a tombstone), for as long as a load may take that began
//! before it, so that it can be told from a key that never was.
//!
//! Comparing is for the store to do, at the moment of writing ([`Condition::admits`] says how); a store that cannot
//! compare keeps everything.

use core::time::Duration;

use crate::time::WallTime;

/// The bytes of a [`Stamp`].
pub const STAMP_BYTES: usize = 32;

/// Which write: no two are alike, and those of one writer are in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Version {
    /// Who wrote: a number drawn at random by each driver when it starts.
    pub writer: u64,
    /// The how manieth write of that writer it is, below 2^53.
    pub number: u64,
}

/// What a value or a tombstone in a store says of how it got there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Which write it was.
    pub version: Version,
    /// When the change was made that it brought, or the load began, by its writer's civil clock: of what was changed while
    /// the store was away, the newest wins by this time.
    pub changed_at: WallTime,
    /// The newest invalidation in the store's log that the writer knew when the value was new; zero for none.
    pub born: u64,
}

/// What a write says of itself to other processes, as far as the machine knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Intent {
    /// Which write of this machine it is.
    pub number: u64,
    /// How long ago the change was made that it brings.
    pub made_ago: Duration,
    /// See [`Stamp::born`].
    pub born: u64,
    /// What it may replace.
    pub condition: Condition,
}

/// What must be true of a store's copy for a write to replace it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Condition {
    /// Nothing; only a newer write of the same writer is not undone by an older one that comes late.
    Always,
    /// It is still the version that was seen before the load, or none. Without having seen any: there is none.
    Unchanged(Option<Version>),
    /// It was not changed later, by civil time: for a change that had to wait.
    Newest,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub enum Written {
    /// The store has it.
    #[default]
    Kept,
    /// The store has something newer, and keeps that.
    Overtaken,
}

impl Intent {
    /// The stamp of the write, made by `writer` at the civil time `now`.
    #[must_use]
    pub fn stamp(&self, writer: u64, now: WallTime) -> Stamp {
        let version = Version { writer, number: self.number };
        Stamp { version, changed_at: now.before(self.made_ago), born: self.born }
    }
}

impl Stamp {
    /// As it lies in a store: four big-endian numbers of eight bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; STAMP_BYTES] {
        let Self { version: Version { writer, number }, changed_at, born } = *self;
        let mut bytes = [0; STAMP_BYTES];
        let numbers = [writer, number, changed_at.as_unix_millis(), born];
        bytes.chunks_exact_mut(8).zip(numbers).for_each(|(place, number)| place.copy_from_slice(&number.to_be_bytes()));
        bytes
    }

    /// The stamp in those bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; STAMP_BYTES]) -> Self {
        let mut numbers =
            bytes.chunks_exact(8).map(|number| number.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)));
        let mut next = || numbers.next().unwrap_or_default();
        let version = Version { writer: next(), number: next() };
        Self { version, changed_at: WallTime::from_unix_millis(next()), born: next() }
    }
}

impl Condition {
    /// Whether a write with the stamp `new` may replace a copy with the stamp `held`; `None`: there is none, or none of
    /// ours.
    ///
    /// ```
    /// use tideover_core::stamp::{Condition, Stamp, Version};
    ///
    /// let stamp = |writer, number| Stamp { version: Version { writer, number }, ..Stamp::default() };
    /// let (theirs, ours) = (stamp(1, 8), stamp(2, 5));
    /// // A load that has seen their eighth write brings something newer, but nothing newer than their ninth.
    /// let after_load = Condition::Unchanged(Some(theirs.version));
    /// assert!(after_load.admits(Some(&theirs), &ours));
    /// assert!(!after_load.admits(Some(&stamp(1, 9)), &ours));
    /// // A put replaces whatever there is, but for a newer write of its own writer.
    /// assert!(Condition::Always.admits(Some(&theirs), &ours));
    /// assert!(!Condition::Always.admits(Some(&stamp(2, 6)), &ours));
    /// ```
    #[must_use]
    pub fn admits(&self, held: Option<&Stamp>, new: &Stamp) -> bool {
        let Some(held) = held else { return true };
        if held.version.writer == new.version.writer {
            // Whoever writes a key writes it in order, so what is later is newer; a retry finds itself.
            return held.version.number <= new.version.number;
        }
        match self {
            Self::Always => true,
            Self::Unchanged(seen) => *seen == Some(held.version),
            Self::Newest => held.changed_at <= new.changed_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(writer: u64, number: u64, changed: u64) -> Stamp {
        let changed_at = WallTime::from_unix_millis(changed);
        Stamp { version: Version { writer, number }, changed_at, born: 0 }
    }

    #[test]
    fn bytes_are_read_back_as_written() {
        let stamp = Stamp { born: u64::MAX - 3, ..stamp(0x0102_0304_0506_0708, 9, 1_700_000_000_000) };
        assert_eq!(Stamp::from_bytes(&stamp.to_bytes()), stamp);
        assert_eq!(stamp.to_bytes()[..9], [1, 2, 3, 4, 5, 6, 7, 8, 0]);
    }

    #[test]
    fn of_one_writer_the_later_write_is_newer_whatever_is_asked() {
        let all = [Condition::Always, Condition::Unchanged(None), Condition::Newest];
        for condition in all {
            assert!(condition.admits(None, &stamp(1, 5, 5)));
            assert!(condition.admits(Some(&stamp(1, 4, 9)), &stamp(1, 5, 5)), "{condition:?}: its own older one");
            assert!(condition.admits(Some(&stamp(1, 5, 5)), &stamp(1, 5, 5)), "{condition:?}: a retry");
            assert!(!condition.admits(Some(&stamp(1, 6, 0)), &stamp(1, 5, 5)), "{condition:?}: its own newer one");
        }
    }

    #[test]
    fn of_two_writers_a_load_wins_over_what_it_has_seen_only() {
        let (held, new) = (stamp(2, 1, 9), stamp(1, 5, 5));
        assert!(Condition::Unchanged(Some(held.version)).admits(Some(&held), &new));
        assert!(!Condition::Unchanged(Some(stamp(2, 2, 9).version)).admits(Some(&held), &new));
        assert!(!Condition::Unchanged(None).admits(Some(&held), &new));
    }

    #[test]
    fn of_two_writers_a_late_payment_wins_over_what_is_not_newer() {
        let admits = |held| Condition::Newest.admits(Some(&stamp(2, 1, held)), &stamp(1, 5, 5));
        assert_eq!([4, 5, 6].map(admits), [true, true, false]);
    }
}
