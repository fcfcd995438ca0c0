//! What is offered beside a cached function: a look at what is cached, its removal, its health.

use std::sync::Arc;

use super::counts::{Function, FunctionHealth};
use crate::codec::Codec;
use crate::error::Error;
use crate::writes::{Invalidate, Recache, invalidate as invalidate_set};
use crate::{Cache, Cacheable, Fetched};

/// The value under `key` if memory or store has it. Nothing is loaded, and nothing counted.
///
/// # Errors
///
/// As [`Typed::get`](crate::Typed::get).
pub async fn peek<V: Cacheable>(
    cache: Result<Cache, Error>,
    codec: Option<Codec>,
    key: String,
) -> Result<Option<Fetched<Arc<V>>>, Error> {
    let typed = cache?.typed::<V>();
    let typed = match codec {
        Some(codec) => typed.codec(codec),
        None => typed,
    };
    typed.get(&key).await
}

/// Removes `key`; inside a transaction, when that commits.
///
/// # Errors
///
/// As [`Cache::remove`].
pub async fn invalidate(cache: Result<Cache, Error>, key: String) -> Result<(), Error> {
    invalidate_set(&cache?, Invalidate::new().key(key), Recache::new()).await.into_result().map(drop)
}

/// How a function and its cache are.
///
/// # Errors
///
/// As [`Cache::stats`].
pub async fn health(function: &'static Function, cache: Result<Cache, Error>) -> Result<FunctionHealth, Error> {
    function.health(&cache?).await
}

/// As [`peek`].
///
/// # Errors
///
/// As [`peek`].
pub fn peek_blocking<V: Cacheable>(
    cache: Result<Cache, Error>,
    codec: Option<Codec>,
    key: String,
) -> Result<Option<Fetched<Arc<V>>>, Error> {
    let cache = cache?;
    cache.blocking()?.wait(peek(Ok(cache), codec, key))
}

/// As [`invalidate`].
///
/// # Errors
///
/// As [`invalidate`].
pub fn invalidate_blocking(cache: Result<Cache, Error>, key: String) -> Result<(), Error> {
    let cache = cache?;
    cache.blocking()?.wait(invalidate(Ok(cache), key))
}

/// As [`health`].
///
/// # Errors
///
/// As [`health`].
pub fn health_blocking(function: &'static Function, cache: Result<Cache, Error>) -> Result<FunctionHealth, Error> {
    let cache = cache?;
    cache.blocking()?.wait(health(function, Ok(cache)))
}

/// Warms with a function that blocks, and says whether that succeeded.
pub async fn warm_blocking(warm: impl FnOnce() -> bool + Send + 'static) -> bool {
    tokio::task::spawn_blocking(warm).await.unwrap_or(false)
}
