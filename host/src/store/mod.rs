//! The shared second level: what the driver asks of it, and the stores that come with tideover.
//!
//! A store keeps bytes under text keys for a time. It knows nothing of freshness, breakers, retries or
//! deadlines: the machine decides those, the driver enforces them and an [envelope](tideover_core::envelope)
//! inside the bytes carries the age of a value from one process to the next.

mod kinds;
mod lease;
mod log;
mod memory;
#[cfg(feature = "redis")]
mod redis;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
pub use tideover_core::direct::{Cursor, Page, Remaining, When};
use tideover_core::stamp::{Condition, Written};
use tideover_core::{Note, WallTime};
use tokio::task_local;
use tokio::time::Instant;

pub use self::kinds::{Abilities, Guarantees, Reach};
pub use self::lease::{Elsewhere, Keeper, Lease, Leased};
pub use self::log::{Ear, Heard};
pub use self::memory::MemoryStore;
#[cfg(feature = "redis")]
pub use self::redis::{RedisBackplane, RedisConfig, RedisConfigError, RedisStartError, RedisStore, RedisTls};

/// A shared key-value level with expiry: bytes under text keys, as the driver sees it and as a service may use it.
///
/// Every operation may be dropped before it completes (the driver does so at the step's deadline);
/// an implementation MUST stay usable after that. Keys arrive without namespace; the store adds its own.
///
/// A store of one's own needs only the six operations without a default and [`name`](Self::name): those are all that
/// the driver asks for. The others fail with [`StoreError::Unsupported`] where a store does not have them, and
/// [`abilities`](Self::abilities) says beforehand which those are. They mean the same on every store that has them.
/// A time to live of zero ends at once.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::store::StoreError> {
/// use tideover::store::{MemoryStore, Remaining, Store, When};
///
/// let store = MemoryStore::new(10_000);
/// assert!(store.write_when("lock", "me".into(), None, When::Absent).await?);
/// assert!(!store.write_when("lock", "you".into(), None, When::Absent).await?);
/// assert_eq!(store.remaining("lock").await?, Remaining::Forever);
/// assert_eq!(store.increment("visits", 2, None).await?, 2);
/// assert_eq!(store.remove_matching("v*").await?, 1);
/// assert_eq!(store.take("lock").await?, Some("me".into()));
/// # Ok(())
/// # }
/// ```
pub trait Store: Send + Sync + 'static {
    /// A short name for logs and health reports: `redis`, `memory`.
    fn name(&self) -> &'static str;

    /// The bytes under `key`, or `None` when there are none.
    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;

    /// Keeps `value` under `key`, replacing what is there, for `ttl` (`None`: until removed).
    fn write<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes `key`; removing what is not there is a success.
    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes every key of this store's own namespace, and no other; keys of [direct operations](DIRECT_PREFIX) SHOULD
    /// stay.
    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// What this store can do beyond the above; default: nothing. A cache makes its plans by it.
    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    /// As [`Store::write`], for an [envelope](tideover_core::envelope) that `condition` allows to replace the one that is
    /// there; see [`tideover_core::stamp`]. Comparing and writing MUST be one step. By default, for stores that cannot
    /// compare, it is a plain write. A store that has no room for a tombstone MAY remove what is there instead.
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

    /// Puts `note`, of what was done at the civil time `made_at`, at the end of the log, and with [`Note::Cleared`]
    /// removes what was there before, at once or by and by, but not keys of [direct operations](DIRECT_PREFIX). Whoever
    /// listens has heard it before this completes.
    ///
    /// # Errors
    ///
    /// By default, for stores that keep no log, [`StoreError::Unsupported`].
    fn note(&self, writer: u64, note: Note, made_at: WallTime) -> BoxFuture<'_, Result<(), StoreError>> {
        let _no_log = (writer, note, made_at);
        unsupported("note")
    }

    /// Takes the lease on `key`, the right of one among all who share the store, for `ttl`, unless somebody has it. It is
    /// renewed until it is dropped, for `hold_for` at most. It is a wish, not a lock: what must not be done twice is to be
    /// compared when it is written. The lease has nothing to do with what lies under the key.
    ///
    /// # Errors
    ///
    /// By default, for stores that cannot, [`StoreError::Unsupported`].
    fn lease<'a>(
        &'a self,
        _key: &'a str,
        _ttl: Duration,
        _hold_for: Duration,
    ) -> BoxFuture<'a, Result<Leased, StoreError>> {
        unsupported("lease")
    }

    /// From now on `ear` hears the log, for as long as somebody holds it: first [`Note::Unknown`] with the number of
    /// what was forgotten, then everything that is in the log, then what is noted. What was noted before an operation on a
    /// key took effect is heard before that operation completes (if it fails, it may not be); where keys and log lie on
    /// different servers, what was noted before the operation began. When notes were missed, [`Note::Unknown`] comes again,
    /// with a greater number than any before. A store that tracks changes tells those, too, and [`Ear::missed`] when it
    /// begins to and whenever some may have escaped it. By default nothing is ever heard.
    fn listen(&self, ear: &Arc<dyn Ear>) {
        let _no_log = ear;
    }

    /// One round trip that proves the store answers.
    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Lets go of connections. Calls after it fail with [`StoreError::Closed`]; a second close does nothing.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// As [`write`](Self::write), on a condition. `false`: it did not hold, and nothing was changed.
    fn write_when<'a>(
        &'a self,
        _key: &'a str,
        _value: Bytes,
        _ttl: Option<Duration>,
        _when: When,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        unsupported("write_when")
    }

    /// Removes `key` and returns what was there.
    fn take<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        unsupported("take")
    }

    /// As [`remove`](Self::remove), and tells whether something was there.
    fn delete<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        unsupported("delete")
    }

    /// Removes these keys and tells how many were there. It is not one step: if it fails, some may be gone.
    fn remove_many<'a>(&'a self, _keys: &'a [&'a str]) -> BoxFuture<'a, Result<u64, StoreError>> {
        unsupported("remove_many")
    }

    /// Whether something is under `key`, without reading it.
    fn exists<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        unsupported("exists")
    }

    /// The bytes under each of these keys, in their order. It is not one step: others may write in between.
    fn read_many<'a>(&'a self, _keys: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        unsupported("read_many")
    }

    /// Writes these entries, each for `ttl`. It is not one step: if it fails, some may be written.
    fn write_many<'a>(
        &'a self,
        _entries: &'a [(&'a str, Bytes)],
        _ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        unsupported("write_many")
    }

    /// Adds `by` to the whole number under `key` (decimal text; zero if nothing is there) and returns the sum. What is
    /// there keeps its end; `ttl` is for a number that this creates.
    ///
    /// # Errors
    ///
    /// [`StoreError::Rejected`] when something else than a number of 64 bits is there, or the sum would not be one, and
    /// [`StoreError::Foreign`] when it is no text at all; nothing is changed then, nor by [`StoreError::Unavailable`]
    /// and [`StoreError::Overloaded`]. Where nobody knows whether it was done, it is [`StoreError::Uncertain`].
    fn increment<'a>(
        &'a self,
        _key: &'a str,
        _by: i64,
        _ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<i64, StoreError>> {
        unsupported("increment")
    }

    /// Lets `key` end after `ttl` from now (`None`: never). `false`: it is not there.
    fn expire<'a>(&'a self, _key: &'a str, _ttl: Option<Duration>) -> BoxFuture<'a, Result<bool, StoreError>> {
        unsupported("expire")
    }

    /// How long `key` will still be there.
    fn remaining<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, Result<Remaining, StoreError>> {
        unsupported("remaining")
    }

    /// Some of the keys that match `pattern`, from `cursor` on; about `count` keys are looked at. In the pattern `*`
    /// stands for any characters and `\\` makes the character after it data; all else, `?` and `[` included, is data.
    ///
    /// From the first page to the last, every key that is there all the time comes at least once; it may come
    /// twice. One that comes or goes meanwhile may be among them or not. This does not hold if a server is replaced or a
    /// Cluster moves keys meanwhile.
    fn scan<'a>(
        &'a self,
        _pattern: &'a str,
        _cursor: &'a Cursor,
        _count: usize,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        unsupported("scan")
    }

    /// Removes the keys that match `pattern`, as [`scan`](Self::scan) finds them, and tells how many there were.
    fn remove_matching<'a>(&'a self, _pattern: &'a str) -> BoxFuture<'a, Result<u64, StoreError>> {
        unsupported("remove_matching")
    }
}

/// What the keys of [direct operations](crate::Direct) begin with in a store. No key of a cache begins so: a cache
/// refuses those ([`Error::ReservedKey`](crate::Error::ReservedKey)). Nobody who [listens](Store::listen) needs to be
/// told of them, and what clears the entries of a cache SHOULD leave them where they are; the stores of this crate do.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::store::StoreError> {
/// use tideover::store::{DIRECT_PREFIX, MemoryStore, Store};
///
/// let (store, visits) = (MemoryStore::new(100), format!("{DIRECT_PREFIX}visits"));
/// store.increment(&visits, 7, None).await?;
/// store.write("entry", "v".into(), None).await?;
/// store.clear().await?;
/// assert_eq!((store.read(&visits).await?, store.read("entry").await?), (Some("7".into()), None));
/// # Ok(())
/// # }
/// ```
pub const DIRECT_PREFIX: &str = "!direct:";

/// Whether a key of a store is one of direct operations.
pub(crate) fn is_direct(key: &str) -> bool {
    key.starts_with(DIRECT_PREFIX)
}

/// Why a namespace is none. It has one colon, at its end: so of no two is one the beginning of the other, which clearing
/// and patterns would reach, too.
#[cfg(any(feature = "redis", feature = "config"))]
pub(crate) fn check_namespace(namespace: &str) -> Result<(), String> {
    let name = namespace.trim_matches(':');
    if name.is_empty() {
        return Err("must not be empty: clearing it would clear the whole database".to_owned());
    }
    if namespace.find(':') != Some(namespace.len() - 1) {
        let name = name.replace(':', ".");
        return Err(format!("must have one colon, at its end, else one might reach into another: write {name}:"));
    }
    Ok(())
}

fn unsupported<'a, T: Send + 'a>(operation: &'static str) -> BoxFuture<'a, Result<T, StoreError>> {
    Box::pin(std::future::ready(Err(StoreError::Unsupported(operation))))
}

task_local! {
    /// When the operation began, and when it has to be over.
    static TIME: (Instant, Instant);
}

/// Until when the cache waits for the operation of a store inside which this is called; `None` outside of any, and in tasks
/// that it spawns. The operation is dropped then, and that counts against the store. One that knows better, because it has
/// not been able to ask its server, answers [`StoreError::Congested`] when the clock ([`tokio::time::Instant::now`]) says
/// that this has passed.
#[must_use]
pub fn deadline() -> Option<Instant> {
    TIME.try_with(|(_, deadline)| *deadline).ok()
}

/// When the operation of a store began inside which this is called.
#[cfg(feature = "redis")]
fn began() -> Option<Instant> {
    TIME.try_with(|(began, _)| *began).ok()
}

/// Runs an operation of a store inside which [`deadline`] says this.
pub(crate) fn due<F: Future>(deadline: Instant, operation: F) -> impl Future<Output = F::Output> {
    TIME.scope((Instant::now(), deadline), operation)
}

/// Why a store operation did not do its work. The text never holds a key's value or a password.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No connection could be made, or it broke, or the server says that it does not serve us now: it is loading its
    /// data, a read-only replica, or wants another password. Time can heal it, and then the operation is worth repeating.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// The connection broke after an operation was sent that must not be sent twice, a count for example. Nobody knows
    /// whether it was done.
    #[error("store unavailable, and the operation may have been done: {0}")]
    Uncertain(String),
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
    /// So many operations are without an answer already that this one was not taken on. Time can heal it.
    #[error("store overloaded: {queue_max} operations wait for an answer")]
    Overloaded {
        /// The limit.
        queue_max: usize,
    },
    /// A limit passed before this process had asked the store, or had looked at its answer, because of all that it had to do
    /// before. It says nothing against the store, and is not to be repeated at once.
    #[error("store not asked in time: this process is too busy")]
    Congested,
    /// The store does not have the named operation.
    #[error("the store cannot {0}")]
    Unsupported(&'static str),
    /// The store was closed by [`Store::close`].
    #[error("store closed")]
    Closed,
}
