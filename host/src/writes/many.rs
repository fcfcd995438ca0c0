//! Many keys and tags at once: a bounded number is under way at a time, and a store takes those together where it can.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tideover_core::Windows;

use super::apply::{AT_ONCE, Applied, Changes, apply};
use super::invalidate::Invalidate;
use crate::cache::{Cache, Fetched};
use crate::engine::Payload;
use crate::error::Error;
use crate::loader::Tags;
use crate::typed::{Cacheable, Typed};

impl Cache {
    /// The values under these keys, in their order; see [`Cache::get`]. 256 are looked for at a time.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// use tideover::Cache;
    ///
    /// let cache = Cache::builder().build()?;
    /// cache.put_many([("a", "1"), ("b", "2")], None).await?.into_result()?;
    /// let found = cache.get_many(["b", "c", "a"]).await?;
    /// let values: Vec<_> = found.into_iter().map(|found| found.map(|found| found.value)).collect();
    /// assert_eq!(values, [Some("2".into()), None, Some("1".into())]);
    /// cache.remove_many(["a", "b"]).await.into_result()?;
    /// assert_eq!(cache.get_many(["a", "b"]).await?, [None, None]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Cache::get`], of the first that fails.
    pub async fn get_many(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Vec<Option<Fetched>>, Error> {
        let found = stream::iter(owned(keys)).map(|key| {
            let cache = self.clone();
            async move { cache.get(&key).await }
        });
        found.buffered(AT_ONCE).try_collect().await
    }

    /// Keeps these values for the windows given, `None` for the cache's own; see [`Cache::put`]. Of a key that comes twice
    /// the last value is kept.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if a key or value is past a limit: then nothing was changed.
    pub async fn put_many(
        &self,
        entries: impl IntoIterator<Item = (impl AsRef<str>, impl Into<Bytes>)>,
        windows: Option<Windows>,
    ) -> Result<Applied, Error> {
        let mut changes = Changes::default();
        for (key, value) in entries {
            changes.put(self, key.as_ref(), Payload::from(value.into()), windows, Tags::default())?;
        }
        Ok(apply(vec![(self.clone(), changes)], vec![]).await)
    }

    /// Removes these keys, at once also inside a [`transaction`](super::transaction); see [`Cache::remove`].
    pub async fn remove_many(&self, keys: impl IntoIterator<Item = impl AsRef<str>>) -> Applied {
        self.invalidate_now(Invalidate::new().keys(keys)).await
    }

    /// Removes every value that bears one of these tags, at once also inside a [`transaction`](super::transaction); see
    /// [`Cache::invalidate_tag`].
    pub async fn invalidate_tags(&self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Applied {
        self.invalidate_now(Invalidate::new().tags(names)).await
    }

    /// Removes every key that matches the pattern, at once also inside a [`transaction`](super::transaction); see
    /// [`Invalidate::matching`]. [`Applied::done`] counts patterns, not keys.
    pub async fn remove_matching(&self, pattern: impl AsRef<str>) -> Applied {
        self.invalidate_now(Invalidate::new().matching(pattern)).await
    }

    /// Invalidates all of it, at once also inside a [`transaction`](super::transaction).
    pub(crate) async fn invalidate_now(&self, set: Invalidate) -> Applied {
        let mut changes = Changes::default();
        changes.invalidate(set);
        apply(vec![(self.clone(), changes)], vec![]).await
    }
}

impl<V: Cacheable> Typed<V> {
    /// The values under these keys, in their order; see [`Typed::get`] and [`Cache::get_many`].
    ///
    /// # Errors
    ///
    /// As [`Cache::get_many`].
    pub async fn get_many(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Vec<Option<Fetched<Arc<V>>>>, Error> {
        let found = stream::iter(owned(keys)).map(|key| {
            let typed = self.clone();
            async move { typed.get(&key).await }
        });
        found.buffered(AT_ONCE).try_collect().await
    }

    /// Keeps these values for the windows given, `None` for the cache's own; see [`Cache::put_many`].
    ///
    /// # Errors
    ///
    /// As [`Cache::put_many`], and [`Error::Codec`] for a value that the codec cannot keep exactly: then nothing was
    /// changed.
    pub async fn put_many<'a>(
        &self,
        entries: impl IntoIterator<Item = (impl AsRef<str>, &'a V)>,
        windows: Option<Windows>,
    ) -> Result<Applied, Error> {
        let mut changes = Changes::default();
        for (key, value) in entries {
            let key = key.as_ref();
            changes.put(self.cache(), key, self.payload(key, value)?, windows, Tags::default())?;
        }
        Ok(apply(vec![(self.cache().clone(), changes)], vec![]).await)
    }

    /// Removes these keys; see [`Cache::remove_many`].
    pub async fn remove_many(&self, keys: impl IntoIterator<Item = impl AsRef<str>>) -> Applied {
        self.cache().remove_many(keys).await
    }
}

fn owned(keys: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<Box<str>> {
    keys.into_iter().map(|key| key.as_ref().into()).collect()
}
