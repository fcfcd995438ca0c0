//! How the engine hears the log of the shared store: from its beginning, and anew when it has forgotten what it heard.

use std::borrow::Borrow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

use tideover_core::{Clock, Tidings};

use super::Driver;
use crate::engine::{EngineError, Key};
use crate::store::{Ear, Heard, is_direct};

impl Driver {
    /// Lets the engine hear the log of the shared store, from its beginning.
    pub(super) fn listen(self: &Arc<Self>) {
        let ear: Arc<dyn Ear> = Arc::new(Hearing(Arc::downgrade(self)));
        self.stores.listen(&ear);
        *self.ear.lock().unwrap_or_else(PoisonError::into_inner) = Some(ear);
    }

    /// The store may be somebody else's, too, and go on telling.
    pub(super) fn stop_listening(&self) {
        drop(self.ear.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Whatever takes the place of an engine that broke knows nothing of the log, and is told when no lock is held.
    pub(super) fn hearing<T, E: Borrow<EngineError>>(&self, result: Result<T, E>) -> Result<T, E> {
        if let Err(broken) = &result {
            self.stores.observed.engine_replaced(broken.borrow());
            self.deaf.store(true, Ordering::Release);
        }
        result
    }

    pub(super) fn listen_if_deaf(self: &Arc<Self>) {
        if self.deaf.swap(false, Ordering::AcqRel) {
            self.listen();
        }
    }
}

/// Hears for a driver what a store has to tell.
struct Hearing(Weak<Driver>);

impl Hearing {
    fn learn(&self, tidings: impl FnOnce(&Driver) -> Option<Tidings<Key>>) {
        let Some(driver) = self.0.upgrade() else { return };
        let Some(tidings) = tidings(&driver) else { return };
        // An engine that breaks by it knows nothing, and will hear all of it anew.
        let _heard = driver.hearing(driver.engine.learn(tidings, driver.clock.now()));
    }
}

impl Ear for Hearing {
    fn hear(&self, heard: Heard) {
        self.learn(|driver| Some(heard.news(driver.writer, driver.clock.wall()).into()));
    }

    fn changed(&self, key: &str, writer: Option<u64>) {
        // A store of somebody else may tell of these, too.
        if is_direct(key) {
            return;
        }
        self.learn(|driver| Some(Tidings::Changed(key.into())).filter(|_| writer != Some(driver.writer)));
    }

    fn missed(&self) {
        self.learn(|_| Some(Tidings::Missed));
    }
}
