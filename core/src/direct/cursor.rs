//! How far a scan has come: in the store, or among what is known here. Whoever goes on elsewhere begins there anew, so
//! that no key is left out.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::words::{Cursor, Page};

/// A place that a scan has come to.
#[derive(Clone)]
pub(super) enum Place {
    Beginning,
    Store(Cursor),
    /// Behind this key.
    Here(String),
}

impl Place {
    /// `None` for what no scan has given.
    pub(super) fn of(cursor: &Cursor) -> Option<Self> {
        let text = cursor.as_str();
        if text.is_empty() {
            return Some(Self::Beginning);
        }
        match (text.strip_prefix('@'), text.strip_prefix('>')) {
            (Some(of_store), _) => Some(Self::Store(Cursor::new(of_store))),
            (_, Some(key)) => Some(Self::Here(key.to_owned())),
            _ => None,
        }
    }

    pub(super) fn in_store(&self) -> Cursor {
        if let Self::Store(cursor) = self { cursor.clone() } else { Cursor::default() }
    }

    pub(super) fn here(&self) -> Option<&str> {
        if let Self::Here(key) = self { Some(key) } else { None }
    }
}

/// A page of the store, with a cursor that says so.
pub(super) fn page_of_store(page: Page) -> Page {
    let next = page.next.map(|next| Cursor::new(format!("@{}", next.as_str())));
    Page { next, ..page }
}

/// A page of what is known here.
pub(super) fn page_of_here((keys, more_follow): (Vec<Arc<str>>, bool)) -> Page {
    let last = keys.last().filter(|_| more_follow);
    let next = last.map(|last| Cursor::new(format!(">{last}")));
    Page { keys: keys.iter().map(|key| key.as_ref().to_owned()).collect(), next }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn whoever_goes_on_elsewhere_begins_there_anew() {
        let of_store = page_of_store(Page { keys: vec!["a".into()], next: Some(Cursor::new("7")) });
        let of_here = page_of_here((vec!["a".into()], true));
        let [store, here] =
            [of_store, of_here].map(|page| Place::of(&page.next.expect("more follow")).expect("they are ours"));
        assert_eq!((store.in_store().as_str(), store.here()), ("7", None));
        assert_eq!((here.in_store().as_str(), here.here()), ("", Some("a")));
        assert!(Place::of(&Cursor::new("7")).is_none());
    }
}
