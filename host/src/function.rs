//! What `#[cached]` and `#[invalidates]` expand to.
//!
//! The attributes know a function's text: its arguments, its templates, the shape of what it returns. What is done with
//! them is here, as ordinary code: which cache it is, what a key looks like, what is counted, who waits where. Whether a
//! value is fresh or who loads it is not known here either; that is the cache's.

mod beside;
mod call;
mod counts;
mod global;
mod key;
mod lend;
mod shape;
mod write;

pub use self::beside::{health, health_blocking, invalidate, invalidate_blocking, peek, peek_blocking, warm_blocking};
pub use self::call::{AsCache, Begun, Call, begin, cache_of};
pub use self::counts::{Function, FunctionHealth, FunctionStats};
pub use self::global::{Global, InstallError, install};
pub use self::key::{KeyPart, Placeholder, Signature, insert, insert_literal};
pub use self::lend::{
    Argument, Fallible, Lendable, Owner, ReturnedError, ReturnedValue, argument, error_of, holds, lent, own, owner,
    value_of,
};
pub use self::shape::{Perhaps, Shape, Value};
pub use self::write::{Always, Checked, Write, Written, is_named};

/// Caches what a function returns: however many call it with the same arguments, it runs once, and then not until what it
/// brought is no longer fresh.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tideover::{Cache, CallError, Source, cached};
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct User {
///     name: String,
///     org: u64,
/// }
///
/// #[derive(Debug, Clone, thiserror::Error)]
/// enum DbError {
///     #[error("there is no such user")]
///     NoSuchUser,
///     #[error("the database is away")]
///     Away,
///     #[error(transparent)]
///     Cache(#[from] tideover::Error),
/// }
///
/// #[derive(Clone)]
/// struct Users {
///     cache: Cache,
/// }
///
/// impl Users {
///     /// A user.
///     #[cached(
///         cache = self.cache,
///         key = "user:{id}",
///         ttl = "5m",
///         stale_while_revalidate = "30s",
///         stale_if_error = "1h",
///         tags = ["users", "org:{result.org}"],
///         unavailable_if = |error: &DbError| matches!(error, DbError::Away),
///     )]
///     async fn user(&self, id: u64) -> Result<User, DbError> {
///         if id == 7 { Ok(User { name: "Ada".into(), org: 1 }) } else { Err(DbError::NoSuchUser) }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let users = Users { cache: Cache::builder().build()? };
/// assert_eq!(users.user(7).await?.name, "Ada");
/// assert_eq!(users.fetch_user(7).await?.source, Source::Memory);
/// assert!(matches!(users.user(8).await, Err(DbError::NoSuchUser)));
///
/// users.cache.invalidate_tag("org:1").await?;
/// assert!(users.peek_user(7).await?.is_none());
/// # Ok(())
/// # }
/// ```
pub use tideover_macros::cached;

/// Invalidates what a write has outdated, when it has succeeded.
///
/// ```
/// use tideover::{Cache, cached, invalidates};
///
/// #[cached(key = "name:{id}", cache = cache)]
/// async fn name(cache: &Cache, id: u64) -> String {
///     format!("user {id}")
/// }
///
/// #[invalidates(keys = ["name:{id}"], recache = [name(cache, id)], recache_wait = true, cache = cache)]
/// async fn rename(cache: &Cache, id: u64, name: &str) -> Result<(), String> {
///     if name.is_empty() { Err("a name is needed".to_owned()) } else { Ok(()) }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = Cache::builder().build()?;
/// name(&cache, 7).await;
/// assert!(rename(&cache, 7, "").await.is_err());
/// assert_eq!(name::stats().loads, 1, "it failed: nothing was invalidated");
/// rename(&cache, 7, "Ada").await?;
/// assert_eq!(name::stats().loads, 2);
/// # Ok(())
/// # }
/// ```
pub use tideover_macros::invalidates;
