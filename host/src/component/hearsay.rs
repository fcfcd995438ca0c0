//! What an instance of world `cache` is yet to be told of other processes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tideover_core::{Note, Tidings, WallTime};

use crate::engine::Key;
use crate::outside::Stores;
use crate::store::{Ear, Heard, is_direct};

/// Notes that wait for an instance, more than a log has in the beginning; and changed keys.
const WAITING_MAX: usize = 16_384;

/// Hears what a store has to tell until the instance asks for the news. What it does not ask for in time is given up, and known to be
/// unknown.
pub(super) struct Hearsay {
    /// As whom the instance writes.
    writer: u64,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    notes: Vec<Heard>,
    /// Keys that others have changed, each once.
    changed: HashSet<Key>,
    missed: bool,
}

impl Hearsay {
    /// Hears what the primary store has to tell, for an instance that writes as `writer`: its log from the beginning, if it
    /// has one.
    pub(super) fn of(stores: &Stores, writer: u64) -> Arc<Self> {
        let hearsay = Arc::new(Self { writer, waiting: Mutex::default() });
        let ear: Arc<dyn Ear> = hearsay.clone();
        stores.listen(&ear);
        hearsay
    }

    /// What was heard since the last time, at the civil time `now`.
    pub(super) fn take(&self, now: WallTime) -> impl Iterator<Item = Tidings<Key>> {
        let Waiting { notes, changed, missed } = std::mem::take(&mut *self.waiting());
        let notes = notes.into_iter().map(move |heard| Tidings::Noted(heard.news(self.writer, now)));
        missed.then_some(Tidings::Missed).into_iter().chain(changed.into_iter().map(Tidings::Changed)).chain(notes)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ear for Hearsay {
    fn hear(&self, heard: Heard) {
        let notes = &mut self.waiting().notes;
        if notes.len() < WAITING_MAX {
            notes.push(heard);
        } else {
            *notes = vec![Heard { made_at: WallTime::default(), writer: 0, note: Note::Unknown, ..heard }];
        }
    }

    fn changed(&self, key: &str, writer: Option<u64>) {
        let mut waiting = self.waiting();
        if writer == Some(self.writer) || is_direct(key) {
            return;
        }
        if waiting.changed.len() < WAITING_MAX {
            waiting.changed.insert(key.into());
        } else {
            waiting.changed.clear();
            waiting.missed = true;
        }
    }

    fn missed(&self) {
        self.waiting().missed = true;
    }
}

#[cfg(test)]
mod tests {
    use tideover_core::News;

    use super::*;
    use crate::store::{MemoryStore, Store};

    #[tokio::test]
    async fn what_is_not_asked_for_in_time_is_unknown() {
        let store = Arc::new(MemoryStore::new(1));
        let stores = Stores::new(Some(store.clone()), Arc::new(MemoryStore::new(1)), Arc::default());
        let hearsay = Hearsay::of(&stores, 7);
        let noted = |tidings| match tidings {
            Tidings::Noted(News { number, note, .. }) => Some((number, note)),
            _ => None,
        };
        let heard = || hearsay.take(WallTime::default()).filter_map(noted).collect::<Vec<_>>();
        assert_eq!(heard(), [(0, Note::Unknown)]);
        for _ in 0..WAITING_MAX + 3 {
            store.note(1, Note::Cleared, WallTime::default()).await.expect("open");
        }
        let given_up = WAITING_MAX as u64 + 1;
        assert_eq!(heard(), [(given_up, Note::Unknown), (given_up + 1, Note::Cleared), (given_up + 2, Note::Cleared)]);
        assert!(heard().is_empty());
    }

    #[test]
    fn keys_are_told_once_and_too_many_of_them_are_missed() {
        let hearsay = Hearsay { writer: 7, waiting: Mutex::default() };
        let told = || hearsay.take(WallTime::default()).collect::<Vec<_>>();
        hearsay.changed("a", Some(8));
        hearsay.changed("a", None);
        hearsay.changed("own", Some(7));
        assert_eq!(told(), [Tidings::Changed("a".into())]);
        (0..=WAITING_MAX).for_each(|number| hearsay.changed(&number.to_string(), None));
        assert_eq!(told(), [Tidings::Missed]);
        assert_eq!(told(), []);
    }
}
