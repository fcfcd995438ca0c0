//! The shared second level: what the driver asks of it, and the stores that come with tideover.
//!
//! A store keeps bytes under text keys for a time. It knows nothing of freshness, breakers, retries or
//! deadlines: the machine decides those, the driver enforces them and an [envelope](tideover_core::envelope)
//! inside the bytes carries the age of a value from one process to the next.

mod memory;
#[cfg(feature = "redis")]
mod redis;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

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

    /// One round trip that proves the store answers.
    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Lets go of connections. Calls after it fail with [`StoreError::Closed`]; a second close does nothing.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Why a store operation did not do its work. The text never holds a key's value or a password.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No connection could be made, or it broke, or the server says that it does not serve us now: it is loading its
    /// data, a read-only replica, or wants another password. Time can heal it, and then the operation is worth repeating.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// A limit of the store client passed before the answer came. Time can heal it.
    #[error("store timed out: {0}")]
    TimedOut(String),
    /// The server answered and refused this one operation: it is out of memory, or does not know the command. A value
    /// that is refused for good is not kept: in time its older version is removed instead.
    #[error("store refused: {0}")]
    Rejected(String),
    /// What lies under the key was not written by a store of this kind. To be read as nothing, and replaced by the next
    /// write; it says nothing against the store.
    #[error("foreign value in the store: {0}")]
    Foreign(String),
    /// The store was closed by [`Store::close`].
    #[error("store closed")]
    Closed,
}
