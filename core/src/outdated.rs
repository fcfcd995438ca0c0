//! Which copies in the fallback are out of date, because other processes have changed their keys since.
//!
//! The fallback is read while the shared store is away, when nobody can be asked. What another process is known to have
//! changed is not served from there until it has been copied anew; where changes may have been missed, what is older than
//! that is in doubt. The table is bounded: what is forgotten counts as missed.

use core::hash::Hash;
use core::time::Duration;

use crate::storage::{Keyed, Storage};
use crate::tags::Verdict;
use crate::time::Instant;

#[derive(Clone)]
pub(crate) struct Outdated<K: Clone + Hash + Eq, S: Storage> {
    /// When each was changed.
    keys: Keyed<K, Instant, S>,
    /// Until when changes may have been missed.
    missed_at: Option<Instant>,
}

impl<K: Clone + Hash + Eq, S: Storage> Outdated<K, S> {
    pub(crate) fn new(max: usize) -> Self {
        Self { keys: Keyed::new(max), missed_at: None }
    }

    /// Another process has changed `key`.
    pub(crate) fn note(&mut self, key: K, now: Instant) {
        self.keys.remove(&key);
        if self.keys.is_full()
            && let Some((_, forgotten)) = self.keys.pop_oldest()
        {
            self.missed(forgotten);
        }
        if self.keys.insert(key, now).is_err() {
            self.missed(now);
        }
    }

    /// Changes up to that moment may have been missed.
    pub(crate) fn missed(&mut self, at: Instant) {
        self.missed_at = Some(self.missed_at.map_or(at, |known| known.max(at)));
    }

    /// The fallback has what is there now.
    pub(crate) fn settle(&mut self, key: &K) {
        self.keys.remove(key);
    }

    /// How a copy of that age stands.
    pub(crate) fn verdict(&self, key: &K, age: Duration, now: Instant) -> Verdict {
        if self.keys.contains_key(key) {
            return Verdict::Invalid;
        }
        self.missed_at.filter(|at| now - *at <= age).map_or(Verdict::Valid, |_| Verdict::Doubted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Growing;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    /// How a copy stands that was new at `born`.
    fn verdict(outdated: &Outdated<&str, Growing>, key: &'static str, born: u64, now: u64) -> Verdict {
        outdated.verdict(&key, at(now) - at(born), at(now))
    }

    #[test]
    fn what_another_process_has_changed_is_not_served_until_it_is_copied_anew() {
        let mut outdated = Outdated::new(4);
        outdated.note("a", at(10));
        assert_eq!(verdict(&outdated, "a", 5, 11), Verdict::Invalid);
        assert_eq!(verdict(&outdated, "b", 5, 11), Verdict::Valid);
        outdated.settle(&"a");
        assert_eq!(verdict(&outdated, "a", 5, 11), Verdict::Valid);
    }

    #[test]
    fn what_is_older_than_a_gap_is_in_doubt() {
        let mut outdated = Outdated::new(4);
        outdated.missed(at(10));
        outdated.missed(at(8));
        assert_eq!(verdict(&outdated, "a", 9, 12), Verdict::Doubted);
        assert_eq!(verdict(&outdated, "a", 11, 12), Verdict::Valid);
    }

    #[test]
    fn what_is_forgotten_counts_as_missed() {
        let mut outdated = Outdated::new(2);
        for (key, seconds) in [("a", 10), ("b", 11), ("c", 12)] {
            outdated.note(key, at(seconds));
        }
        assert_eq!(verdict(&outdated, "a", 9, 20), Verdict::Doubted);
        assert_eq!(verdict(&outdated, "a", 11, 20), Verdict::Valid);
        assert_eq!(verdict(&outdated, "b", 9, 20), Verdict::Invalid);
    }
}
