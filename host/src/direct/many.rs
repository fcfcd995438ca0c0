//! Direct operations on many keys: those that are named, and those that match a pattern.

use std::time::Duration;

use bytes::Bytes;
use tideover_core::pattern::Pattern;

use super::Direct;
use super::answer::Answer;
use super::fallback::{Fallback, Undone};
use super::journal::State;
use super::pay::Sweeping;
use super::place::{Place, page_of_here, page_of_store, place, places};
use super::shared::{Call, Concerns, Fate, Unanswered};
use crate::error::Error;
use crate::store::{Abilities, Cursor, Page, When};

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
        let (mut call, places) = (self.shared.reading("get_many", keys)?, places(keys));
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let work = self.shared.store().map(|store| store.read_many(&places));
        let asked = self.shared.ask(&mut call, Concerns::Keys(keys), work).await;
        let seen = |fallback: &mut Fallback, values: Vec<Option<Bytes>>, now| {
            for (key, value) in keys.iter().zip(&values) {
                fallback.mirror_read(key, value.as_ref(), None, call.number, now);
            }
            values
        };
        let instead = |fallback: &mut Fallback, _, now| Ok(keys.iter().map(|key| fallback.read(key, now)).collect());
        self.shared.answer(&call, asked, seen, instead)
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
        let keys: Vec<&str> = entries.iter().map(|(key, _)| *key).collect();
        entries.iter().try_for_each(|(_, value)| self.checked(value.clone()).map(drop))?;
        let (mut call, ends) = (self.shared.writing("put_many", &keys, |store| store.batch)?, self.shared.ends(ttl));
        let places = places(&keys);
        let values = entries.iter().map(|(_, value)| value.clone());
        let placed: Vec<(&str, Bytes)> = places.iter().map(String::as_str).zip(values).collect();
        let work = self.shared.store().map(|store| store.write_many(&placed, ttl));
        let asked = self.shared.ask(&mut call, Concerns::Keys(&keys), work).await;
        let seen = |fallback: &mut Fallback, (), now| {
            for (key, value) in entries {
                fallback.mirror(key, State::ending(value.clone(), ends), call.number, now);
            }
        };
        let instead = |fallback: &mut Fallback, _, now| {
            has_room(fallback, &keys)?;
            let mut each = entries.iter();
            each.try_for_each(|(key, value)| fallback.write(key, value.clone(), ends, When::Always, now).map(drop))
        };
        self.shared.answer(&call, asked, seen, instead)
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
        let (mut call, places) = (self.shared.writing("remove_many", keys, |store| store.batch)?, places(keys));
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let work = self.shared.store().map(|store| store.remove_many(&places));
        let asked = self.shared.ask(&mut call, Concerns::Keys(keys), work).await;
        let seen = |fallback: &mut Fallback, count, now| {
            keys.iter().for_each(|key| fallback.mirror(key, State::ABSENT, call.number, now));
            count
        };
        let instead = |fallback: &mut Fallback, _, now| {
            has_room(fallback, keys)?;
            let mut count = 0;
            for key in keys {
                count += u64::from(fallback.remove(key, now)?.is_some());
            }
            Ok(count)
        };
        self.shared.answer(&call, asked, seen, instead)
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
        let (mut call, place) = (self.shared.reading("scan", &[pattern])?, place(pattern));
        let from = Place::of(cursor).map_err(|error| Error::StoreRefused { operation: "scan", error })?;
        let (in_store, count) = (from.in_store(), count.max(1));
        let work = self.shared.store().map(|store| store.scan(&place, &in_store, count));
        let asked = self.shared.ask(&mut call, Concerns::Everything, work).await;
        let instead = |fallback: &mut Fallback, _, now| {
            Ok(page_of_here(fallback.page(&Pattern::new(pattern), from.here(), count, now)))
        };
        self.shared.answer(&call, asked, |_, page, _| page_of_store(page), instead)
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
        let call = self.shared.writing("remove_matching", &[pattern], sweeps)?;
        let asked = self.swept(&call, pattern).await;
        let instead = |fallback: &mut Fallback, _, now| fallback.remove_matching(pattern, now);
        self.shared.answer(&call, asked, |_, count, _| count, instead)
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
        let call = self.shared.writing("clear", &[], sweeps)?;
        let asked = self.swept(&call, "*").await.map(drop);
        let instead = |fallback: &mut Fallback, _, _| {
            fallback.clear();
            Ok(())
        };
        self.shared.answer(&call, asked, |_, (), _| (), instead)
    }

    async fn swept(&self, call: &Call, pattern: &str) -> Result<u64, Unanswered> {
        let Some(store) = self.shared.store() else { return Err(Unanswered::Away(Fate::Skipped)) };
        if !self.shared.is_settled(call, &Concerns::Everything).await {
            return Err(Unanswered::Away(Fate::Skipped));
        }
        self.shared.sweep(store, Sweeping::Called(call.operation), pattern).await
    }
}

fn has_room(fallback: &Fallback, keys: &[&str]) -> Result<(), Undone> {
    if fallback.has_room_for(keys.iter().copied()) { Ok(()) } else { Err(Undone::Full) }
}

/// Whether a store can remove by pattern.
fn sweeps(store: Abilities) -> bool {
    store.scan && store.batch
}
