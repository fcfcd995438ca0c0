//! What an instance of world `cache` is yet to be told of the shared store's log.

use std::sync::{Arc, Mutex, PoisonError};

use tideover_core::{Note, WallTime};

use crate::outside::Stores;
use crate::store::{Ear, Heard};

/// Notes that wait for an instance; more than a log has in the beginning.
const WAITING_MAX: usize = 16_384;

/// Hears the log until the instance asks for the news. What it does not ask for in time is given up, and known to be
/// unknown.
#[derive(Default)]
pub(super) struct Hearsay(Mutex<Vec<Heard>>);

impl Hearsay {
    /// Hears the log of the primary store from its beginning, if it has one.
    pub(super) fn of(stores: &Stores) -> Arc<Self> {
        let hearsay = Arc::<Self>::default();
        let ear: Arc<dyn Ear> = hearsay.clone();
        stores.listen(&ear);
        hearsay
    }

    /// What was heard since the last time.
    pub(super) fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Ear for Hearsay {
    fn hear(&self, heard: Heard) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING_MAX {
            waiting.push(heard);
        } else {
            *waiting = vec![Heard { made_at: WallTime::default(), writer: 0, note: Note::Unknown, ..heard }];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, Store};

    #[tokio::test]
    async fn what_is_not_asked_for_in_time_is_unknown() {
        let store = Arc::new(MemoryStore::new(1));
        let stores = Stores { primary: Some(store.clone()), fallback: Arc::new(MemoryStore::new(1)) };
        let hearsay = Hearsay::of(&stores);
        let first = hearsay.take();
        assert_eq!(first.iter().map(|heard| (heard.number, heard.note)).collect::<Vec<_>>(), [(0, Note::Unknown)]);
        for _ in 0..WAITING_MAX + 3 {
            store.note(1, Note::Cleared, WallTime::default()).await.expect("open");
        }
        let heard: Vec<_> = hearsay.take().iter().map(|heard| (heard.number, heard.note)).collect();
        let given_up = WAITING_MAX as u64 + 1;
        assert_eq!(heard, [(given_up, Note::Unknown), (given_up + 1, Note::Cleared), (given_up + 2, Note::Cleared),]);
        assert!(hearsay.take().is_empty());
    }
}
