//! How the engine hears the log of the shared store: from its beginning, and anew when it has forgotten what it heard.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

use tideover_core::Clock;
use tracing::error;

use super::Driver;
use crate::store::{Ear, Heard};

impl Driver {
    /// Lets the engine hear the log of the shared store, from its beginning.
    pub(super) fn listen(self: &Arc<Self>) {
        let ear: Arc<dyn Ear> = Arc::new(Hearing(Arc::downgrade(self)));
        self.stores.listen(&ear);
        *self.ear.lock().unwrap_or_else(PoisonError::into_inner) = Some(ear);
    }

    /// Whatever takes the place of an engine that broke knows nothing of the log, and is told when no lock is held.
    pub(super) fn hearing<T, E>(&self, result: Result<T, E>) -> Result<T, E> {
        if result.is_err() {
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

/// Hears the log of the shared store for a driver.
struct Hearing(Weak<Driver>);

impl Ear for Hearing {
    fn hear(&self, heard: Heard) {
        let Some(driver) = self.0.upgrade() else { return };
        let (news, now) = (heard.news(driver.writer, driver.clock.wall()), driver.clock.now());
        if let Err(broken) = driver.hearing(driver.engine.learn(news, now)) {
            error!(error = %broken, "news of the shared store");
        }
    }
}
