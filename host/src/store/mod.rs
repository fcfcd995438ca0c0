//! The shared second level: what the driver asks of it, and the stores that come with tideover.
//!
//! A store keeps bytes under text keys for a time. It knows nothing of freshness, breakers, retries or
//! deadlines: the machine decides those, the driver enforces them and an [envelope](tideover_core::envelope)
//! inside the bytes carries the age of a value from one process to the next.

mod log;
mod memory;
#[cfg(feature = "redis")]
mod redis;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tideover_core::stamp::{Condition, Written};
use tideover_core::{Note, WallTime};

pub use self::log::{Ear, Heard};
pub use self::memory::MemoryStore;
#[cfg(feature = "redis")]
pub use self::redis::{RedisConfig, RedisConfigError, RedisStore};

/// A shared key-value level with expiry, as the driver sees it.
///
/// Every operation may be dropped before it completes (the driver does so at the step's deadline);
/// an implementation MUST stay usable after that. Keys arrive without namespace; the store adds its own.
pub trait Store: Send + Sync + 'static {
    /// A short name for logs and health reports: `redis`, `memory`.
    fn name(&self) -> &'static str;

    /// The bytes under `key`, or `None` when there are none.
    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;

    /// Keeps `value` under `key`, replacing what is there, for `ttl` (`None`: until removed).
    fn write<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes `key`; removing what is not there is a success.
    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes every key of this store's own namespace, and no other.
    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// What this store can do beyond the above; default: nothing. A cache makes its plans by it.
    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    /// As [`Store::write`], for an [envelope](tideover_core::envelope) that `condition` allows to replace the one that is
    /// there; see [`tideover_core::stamp`]. Comparing and writing MUST be one step. By default, for stores that cannot
    /// compare, it is a plain write.
    fn replace<'a>(
        &'a self,
        key: &'a str,
        envelope: Bytes,
        ttl: Option<Duration>,
        condition: Condition,
    ) -> BoxFuture<'a, Result<Written, StoreError>> {
        let _cannot_compare = condition;
        Box::pin(async move { self.write(key, envelope, ttl).await.map(|()| Written::Kept) })
    }

    /// Puts `note`, of what was done at the civil time `made_at`, at the end of the log, and with [`Note::Cleared`] removes what was there before, at once or by and by.
    /// Whoever listens has heard it before this completes.
    ///
    /// # Errors
    ///
    /// By default, for stores that keep no log, [`StoreError::Unsupported`].
    fn note(&self, writer: u64, note: Note, made_at: WallTime) -> BoxFuture<'_, Result<(), StoreError>> {
        let _no_log = (writer, note, made_at);
        Box::pin(async { Err(StoreError::Unsupported("a log of invalidations")) })
    }

    /// From now on `ear` hears the log, for as long as somebody holds it: first [`Note::Unknown`] with the number of
    /// what was forgotten, then everything that is in the log, then what is noted. What was noted before an operation of
    /// this store took effect is heard before that operation completes. When notes were missed, [`Note::Unknown`] comes
    /// again. By default, for stores that keep no log, nothing is ever heard.
    fn listen(&self, ear: &Arc<dyn Ear>) {
        let _no_log = ear;
    }

    /// One round trip that proves the store answers.
    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Lets go of connections. Calls after it fail with [`StoreError::Closed`]; a second close does nothing.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What a store can do, as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Abilities {
    /// [`Store::replace`] compares, in one step with the write. Then a late load of one process never undoes the newer
    /// write or removal of another.
    pub compare: bool,
    /// [`Store::note`] and [`Store::listen`] work. Then tags reach what other processes have put, and a clear is one note.
    pub log: bool,
}

/// Why a store operation did not do its work. The text never holds a key's value or a password.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No connection could be made, or it broke. Time can heal it.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// A limit of the store client passed before the answer came. Time can heal it.
    #[error("store timed out: {0}")]
    TimedOut(String),
    /// The server answered and refused: wrong type, out of memory, read-only, no permission.
    #[error("store refused: {0}")]
    Rejected(String),
    /// This store cannot do that.
    #[error("the store does not support {0}")]
    Unsupported(&'static str),
    /// The store was closed by [`Store::close`].
    #[error("store closed")]
    Closed,
}
