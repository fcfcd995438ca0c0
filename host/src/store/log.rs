//! The log of invalidations that processes with one store share: who notes, who hears, and in which order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tideover_core::{News, Note, WallTime};

/// Notes that a log keeps; past it the oldest is forgotten.
pub(crate) const NOTES_MAX: usize = 10_000;

/// A note in the log of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Its place: numbers grow.
    pub number: u64,
    /// When it was done, by the civil clock of who did it.
    pub made_at: WallTime,
    /// Who noted it.
    pub writer: u64,
    /// What was noted.
    pub note: Note,
}

impl Heard {
    /// The note as news for a cache that writes as `writer`, at the civil time `now`.
    pub(crate) fn news(&self, writer: u64, now: WallTime) -> News {
        let own = self.writer == writer && self.note != Note::Unknown;
        News { number: self.number, ago: now.since(self.made_at), own, note: self.note }
    }
}

/// Who listens to a store's log. A cache listens to the store that it is given.
pub trait Ear: Send + Sync {
    /// Takes one note. Called for one note after the other, in the order of their numbers; it must not block.
    fn hear(&self, heard: Heard);

    /// What lies under `key` was changed, or has left the store, after every answer that has been given so far. By the
    /// writer of that number, if that is known; writers hear of their own changes, too, or not. It must not block. By default
    /// nobody cares.
    fn changed(&self, key: &str, writer: Option<u64>) {
        let _nobody_cares = (key, writer);
    }

    /// Anything may have been changed until now, and could not be told. It must not block. By default nobody cares.
    fn missed(&self) {}
}

/// Who listens, for as long as somebody holds them.
#[derive(Default)]
pub(crate) struct Ears(Mutex<Vec<Weak<dyn Ear>>>);

impl Ears {
    pub(crate) fn add(&self, ear: &Arc<dyn Ear>) {
        self.lock().push(Arc::downgrade(ear));
    }

    #[cfg(feature = "redis")]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Tells all of them. Not under the lock: who is told may be long about it, or listen anew.
    pub(crate) fn tell(&self, tell: impl Fn(&dyn Ear)) {
        let ears: Vec<Arc<dyn Ear>> = {
            let mut ears = self.lock();
            ears.retain(|ear| ear.strong_count() > 0);
            ears.iter().filter_map(Weak::upgrade).collect()
        };
        ears.iter().for_each(|ear| tell(&**ear));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<dyn Ear>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log in the memory of this process.
#[derive(Default)]
pub(crate) struct Log {
    notes: VecDeque<Heard>,
    newest: u64,
    /// The newest of those that were forgotten.
    forgotten: u64,
}

impl Log {
    /// Notes something, and tells all who listen: under the log's lock, so that they hear notes in their order.
    pub(crate) fn note(&mut self, ears: &Ears, writer: u64, note: Note, made_at: WallTime) {
        self.newest += 1;
        let heard = Heard { number: self.newest, made_at, writer, note };
        if self.notes.len() >= NOTES_MAX
            && let Some(oldest) = self.notes.pop_front()
        {
            self.forgotten = oldest.number;
        }
        self.notes.push_back(heard);
        ears.tell(|ear| ear.hear(heard));
    }

    /// Tells `ear` what is in the log, before it is one of those who hear what is noted.
    pub(crate) fn listen(&self, ears: &Ears, ear: &Arc<dyn Ear>) {
        let made_at = WallTime::default();
        ear.hear(Heard { number: self.forgotten, made_at, writer: 0, note: Note::Unknown });
        self.notes.iter().for_each(|heard| ear.hear(*heard));
        ear.missed();
        ears.add(ear);
    }
}

#[cfg(test)]
mod tests {
    use tideover_core::{Invalidation, Tag};

    use super::*;

    #[derive(Default)]
    struct Diary(Mutex<Vec<(u64, Note)>>);

    impl Ear for Diary {
        fn hear(&self, heard: Heard) {
            self.0.lock().expect("no panic").push((heard.number, heard.note));
        }
    }

    const NOW: WallTime = WallTime::from_unix_millis(7);

    #[test]
    fn who_listens_hears_what_was_noted_before_and_after_in_order() {
        let (mut log, ears) = (Log::default(), Ears::default());
        let said = Note::Invalidated(Tag(3), Invalidation::Remove);
        log.note(&ears, 1, said, NOW);
        let diary = Arc::new(Diary::default());
        log.listen(&ears, &(Arc::clone(&diary) as Arc<dyn Ear>));
        log.note(&ears, 2, Note::Cleared, NOW);
        assert_eq!(*diary.0.lock().expect("no panic"), [(0, Note::Unknown), (1, said), (2, Note::Cleared)]);
        drop(diary);
        log.note(&ears, 2, Note::Cleared, NOW);
        assert!(ears.is_empty(), "who is gone is forgotten");
    }

    #[test]
    fn what_was_forgotten_is_told_as_unknown() {
        let (mut log, ears) = (Log::default(), Ears::default());
        (0..NOTES_MAX + 5).for_each(|_| log.note(&ears, 1, Note::Cleared, NOW));
        let diary = Arc::new(Diary::default());
        log.listen(&ears, &(Arc::clone(&diary) as Arc<dyn Ear>));
        let heard = diary.0.lock().expect("no panic");
        assert_eq!((heard.len(), heard[0], heard[1].0), (NOTES_MAX + 1, (5, Note::Unknown), 6));
    }
}
