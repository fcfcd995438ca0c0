//! What belongs to writes: what they invalidate and when, what is loaded again after them, and many keys at once.
//!
//! A write to the origin makes what is cached of it wrong. What it makes wrong is said as a set, [`Invalidate`], and takes
//! effect after the write has succeeded: at once, or at the end of the [`transaction`] that it is a part of.
//!
//! ```
//! use tideover::writes::{self, Invalidate, Recache};
//! use tideover::{Cache, Error, Loaded};
//!
//! async fn user(cache: &Cache) -> Result<tideover::Fetched, Error> {
//!     cache.get_or_load("user:7", |_| async { Ok(Loaded::new("Ada").tags(["users"])) }).await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let cache = Cache::builder().build()?;
//! user(&cache).await?;
//!
//! // Both writes succeed, then their invalidations take effect, once, and the user is loaded again.
//! let written = writes::transaction(async {
//!     for _row in ["name", "address"] {
//!         // Here the database is written to.
//!         let again = cache.clone();
//!         let recache = Recache::new().with("user", async move { user(&again).await.map(drop) });
//!         writes::invalidate(&cache, Invalidate::new().tag("users"), recache.wait()).await;
//!     }
//!     assert!(cache.get("user:7").await?.is_some(), "nothing has been committed yet");
//!     Ok::<_, Error>("two rows")
//! })
//! .await?;
//! assert_eq!((written.value, written.applied.done, written.applied.failed), ("two rows", 1, 0));
//! assert!(cache.get("user:7").await?.is_some(), "it has been loaded again");
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here is policy: all of it is calls of [`Cache`](crate::Cache), in an order.

mod apply;
mod invalidate;
mod many;
mod matching;
mod recache;
mod resource;
mod stages;
mod transaction;
mod warm;

pub use self::apply::Applied;
pub use self::invalidate::{Invalidate, escape_pattern};
pub(crate) use self::matching::pay;
pub use self::recache::{Recache, RecacheError, RecacheReason, Recached};
pub use self::resource::{Resource, TemplateError, View};
pub use self::stages::{MemoryStage, Stages, StoreStage, Write};
#[cfg(feature = "macros")]
pub(crate) use self::transaction::is_collecting;
pub use self::transaction::{Committed, Transaction, Uncommitted, collect, invalidate, transaction};
pub use self::warm::{Progress, WarmEnd, Warmed, Warming};
