//! Who listens to a store's log, and writes down what is heard.

use std::sync::{Arc, Mutex, PoisonError};

use tideover::store::{Ear, Heard, Store};

/// What was heard so far.
#[derive(Default)]
pub struct Diary(Mutex<Vec<Heard>>);

impl Diary {
    /// Listens to the log of `store` for as long as it is held.
    #[must_use]
    pub fn on(store: &dyn Store) -> Arc<Self> {
        let diary = Arc::new(Self::default());
        store.listen(&(Arc::clone(&diary) as Arc<dyn Ear>));
        diary
    }

    /// Everything that was heard, in the order in which it came.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Ear for Diary {
    fn hear(&self, heard: Heard) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(heard);
    }
}
