//! Direct operations on many keys: those that are named, and those that match a pattern.

use std::time::Duration;

use bytes::Bytes;
use tideover_core::direct::{Key, Operation, Reply, Request};

use super::Direct;
use super::answer::Answer;
use crate::error::Error;
use crate::store::{Cursor, Page};

impl Direct {
    /// The bytes under each of these keys, in their order. It is not one step: others may write in between.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let direct = tideover::Cache::builder().build()?.direct();
    /// direct.put_many(&[("a", "1".into()), ("b", "2".into())], None).await?;
    /// assert_eq!(direct.get_many(&["b", "c"]).await?.value, [Some("2".into()), None]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_many(&self, keys: &[&str]) -> Result<Answer<Vec<Option<Bytes>>>, Error> {
        let get = Request::GetMany { keys: keys.iter().map(|key| Key::from(*key)).collect() };
        Ok(self.shared.call(get).await?.map(Reply::values))
    }

    /// Keeps these entries, each for `ttl`. It is not one step; but if the journal of an outage has no room for all of
    /// them, none is kept.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let direct = tideover::Cache::builder().build()?.direct();
    /// direct.put_many(&[("a", "1".into()), ("b", "2".into())], None).await?;
    /// assert!(direct.exists("b").await?.value);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn put_many(&self, entries: &[(&str, Bytes)], ttl: Option<Duration>) -> Result<Answer<()>, Error> {
        let entries = entries.iter().map(|(key, value)| (Key::from(*key), value.clone())).collect();
        Ok(self.shared.call(Request::PutMany { entries, ttl }).await?.map(drop))
    }

    /// Removes these keys, and tells how many were there. It is not one step; but if the journal of an outage has no
    /// room for all of them, none is removed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let direct = tideover::Cache::builder().build()?.direct();
    /// direct.put("a", "1", None).await?;
    /// assert_eq!(direct.remove_many(&["a", "b"]).await?.value, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn remove_many(&self, keys: &[&str]) -> Result<Answer<u64>, Error> {
        let remove = Request::RemoveMany { keys: keys.iter().map(|key| Key::from(*key)).collect() };
        Ok(self.shared.call(remove).await?.map(Reply::count))
    }

    /// Some of the keys that match `pattern`, from `cursor` on; about `count` keys are looked at. In the pattern `*`
    /// stands for any characters and `\\` makes the character after it data; all else is data.
    ///
    /// From the first page to the last, every key that is there all the time comes at least once; it may come twice,
    /// also where the store goes away or comes back meanwhile. While it is away, it is the keys that are known here.
    ///
    /// ```
    /// use tideover::store::Cursor;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let direct = tideover::Cache::builder().build()?.direct();
    /// direct.put_many(&[("user:1", "a".into()), ("user:2", "b".into()), ("job:1", "c".into())], None).await?;
    /// let (mut found, mut next) = (Vec::new(), Some(Cursor::default()));
    /// while let Some(cursor) = next {
    ///     let page = direct.scan("user:*", &cursor, 100).await?.value;
    ///     found.extend(page.keys);
    ///     next = page.next;
    /// }
    /// found.sort();
    /// assert_eq!(found, ["user:1", "user:2"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`Error::StoreRefused`] for a cursor that no scan has given.
    pub async fn scan(&self, pattern: &str, cursor: &Cursor, count: usize) -> Result<Answer<Page>, Error> {
        let scan = Request::Scan { pattern: pattern.into(), cursor: cursor.clone(), count };
        Ok(self.shared.call(scan).await?.map(Reply::page))
    }

    /// Removes the keys that match `pattern`, as [`scan`](Self::scan) finds them, and tells how many there were. It
    /// goes from page to page, each with deadlines of its own, for as long as there are more.
    ///
    /// While the store is away it tells of how many it is known here; all that match go from the store when it is back.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let direct = tideover::Cache::builder().build()?.direct();
    /// direct.put_many(&[("user:1", "a".into()), ("user:*", "b".into())], None).await?;
    /// assert_eq!(direct.remove_matching("user:\\*").await?.value, 1, "that star is data");
    /// assert!(direct.exists("user:1").await?.value);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn remove_matching(&self, pattern: &str) -> Result<Answer<u64>, Error> {
        Ok(self.shared.call(Operation::RemoveMatching { pattern: pattern.into() }).await?.map(Reply::count))
    }

    /// Removes all keys of direct operations, and no cached value. What was owed is not any more.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tideover::Error> {
    /// let cache = tideover::Cache::builder().build()?;
    /// cache.put("k", "cached", None).await?;
    /// cache.direct().put("k", "direct", None).await?;
    /// cache.direct().clear().await?;
    /// assert!(!cache.direct().exists("k").await?.value);
    /// assert!(cache.get("k").await?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); the journal has room for it in any case.
    pub async fn clear(&self) -> Result<Answer<()>, Error> {
        Ok(self.shared.call(Operation::Clear).await?.map(drop))
    }
}
