//! Where keys of direct operations lie in a store, and how far a scan of them has come.

use std::sync::Arc;

use crate::store::{Cursor, DIRECT_PREFIX, Page, StoreError};

/// The store's key, or pattern, for a key or pattern of direct operations.
pub(super) fn place(key: &str) -> String {
    // Nothing in the prefix has a meaning in patterns.
    [DIRECT_PREFIX, key].concat()
}

pub(super) fn places(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| place(key)).collect()
}

/// How far a scan has come: in the store, or among what is known here. Whoever goes on elsewhere begins there anew, so
/// that no key is left out.
pub(super) enum Place {
    Beginning,
    Store(Cursor),
    /// Behind this key.
    Here(String),
}

impl Place {
    /// # Errors
    ///
    /// [`StoreError::Rejected`] for what no scan has given.
    pub(super) fn of(cursor: &Cursor) -> Result<Self, StoreError> {
        let text = cursor.as_str();
        if text.is_empty() {
            return Ok(Self::Beginning);
        }
        match (text.strip_prefix('@'), text.strip_prefix('>')) {
            (Some(of_store), _) => Ok(Self::Store(Cursor::new(of_store))),
            (_, Some(key)) => Ok(Self::Here(key.to_owned())),
            _ => Err(StoreError::Rejected("the cursor is not one that a scan of direct operations gave".into())),
        }
    }

    pub(super) fn in_store(&self) -> Cursor {
        if let Self::Store(cursor) = self { cursor.clone() } else { Cursor::default() }
    }

    pub(super) fn here(&self) -> Option<&str> {
        if let Self::Here(key) = self { Some(key) } else { None }
    }
}

/// A page of the store, with callers' keys.
pub(super) fn page_of_store(page: Page) -> Page {
    let keys = page.keys.into_iter().filter_map(|key| key.strip_prefix(DIRECT_PREFIX).map(str::to_owned));
    let next = page.next.map(|next| Cursor::new(format!("@{}", next.as_str())));
    Page { keys: keys.collect(), next }
}

/// A page of what is known here.
pub(super) fn page_of_here((keys, more_follow): (Vec<Arc<str>>, bool)) -> Page {
    let last = keys.last().filter(|_| more_follow);
    let next = last.map(|last| Cursor::new(format!(">{last}")));
    Page { keys: keys.iter().map(|key| key.as_ref().to_owned()).collect(), next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_goes_on_elsewhere_begins_there_anew() {
        let of_store = page_of_store(Page { keys: vec!["!direct:a".into()], next: Some(Cursor::new("7")) });
        let of_here = page_of_here((vec!["a".into()], true));
        assert_eq!((&of_store.keys, &of_here.keys), (&vec!["a".to_owned()], &vec!["a".to_owned()]));
        let [store, here] =
            [of_store, of_here].map(|page| Place::of(&page.next.expect("more follow")).expect("they are ours"));
        assert_eq!((store.in_store().as_str(), store.here()), ("7", None));
        assert_eq!((here.in_store().as_str(), here.here()), ("", Some("a")));
        assert!(Place::of(&Cursor::new("7")).is_err());
    }
}
