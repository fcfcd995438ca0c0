//! Echoes: the server tells a process of what its own scripts have changed, too, since it takes a script for somebody else
//! (`NOLOOP` is about plain commands only). It tells once for all changes of the same moment, so whether another process
//! was among them nobody can say without a look at what is there now.

use std::collections::HashMap;
use std::sync::Mutex;

use tideover_core::stamp::Version;

use super::lock;

/// Writes whose echo may be awaited at once. Past it an echo is taken for another's change, which costs a hit.
const AWAITED_MAX: usize = 65_536;

/// What a script of our own leaves under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// This write.
    Written(Version),
    /// This tombstone, or nothing where there was no room for one.
    Removed(Version),
    /// Nothing: it was cleared.
    Swept,
}

impl Own {
    /// Whether what is `found` there now is of our own making. A later write of ours has an echo of its own.
    pub(super) fn is(self, found: Option<Version>) -> bool {
        match (self, found) {
            (Self::Written(own) | Self::Removed(own), Some(found)) => own.writer == found.writer,
            (Self::Removed(_) | Self::Swept, None) => true,
            (Self::Written(_), None) | (Self::Swept, Some(_)) => false,
        }
    }
}

#[derive(Default)]
pub(super) struct Echoes(Mutex<State>);

#[derive(Default)]
struct State {
    /// The newest write of ours under each key whose echo has not come yet.
    awaited: HashMap<Box<str>, Own>,
    /// Those that were awaited when the present connection began: it has told most of them, or none will come.
    before: HashMap<Box<str>, Own>,
    /// Echoes that have come and are yet to be looked into, and whether a task is at it.
    heard: Vec<(Box<str>, Own)>,
    at_work: bool,
}

impl Echoes {
    /// A script of ours is about to write under `key`.
    pub(super) fn expect(&self, key: &str, own: Own) {
        let awaited = &mut lock(&self.0).awaited;
        if let Some(version) = awaited.get_mut(key) {
            *version = own;
        } else if awaited.len() < AWAITED_MAX {
            awaited.insert(key.into(), own);
        }
    }

    /// It has not written after all.
    pub(super) fn withdraw(&self, key: &str, own: Own) {
        let awaited = &mut lock(&self.0).awaited;
        if awaited.get(key) == Some(&own) {
            awaited.remove(key);
        }
    }

    /// There is a new connection. Of what was awaited on the one before nothing will come.
    pub(super) fn begin(&self) {
        let state = &mut *lock(&self.0);
        state.before = std::mem::take(&mut state.awaited);
    }

    /// Whether the word that `key` was changed may be an echo, and is to be looked into.
    pub(super) fn hear(&self, key: &str) -> bool {
        let state = &mut *lock(&self.0);
        let Some(heard) = state.awaited.remove_entry(key).or_else(|| state.before.remove_entry(key)) else {
            return false;
        };
        state.heard.push(heard);
        true
    }

    /// What could not be looked into is to be tried again.
    pub(super) fn put_back(&self, heard: (Box<str>, Own)) {
        lock(&self.0).heard.push(heard);
    }

    /// Whether somebody is to begin to look into them.
    pub(super) fn want_work(&self) -> bool {
        let state = &mut *lock(&self.0);
        !state.heard.is_empty() && !std::mem::replace(&mut state.at_work, true)
    }

    /// What is to be looked into next; nothing ends the work.
    pub(super) fn next(&self) -> Vec<(Box<str>, Own)> {
        let state = &mut *lock(&self.0);
        state.at_work = !state.heard.is_empty();
        std::mem::take(&mut state.heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn own(number: u64) -> Own {
        Own::Written(Version { writer: 1, number })
    }

    #[test]
    fn what_is_found_is_ours_or_anothers() {
        let (ours, theirs) = (Version { writer: 1, number: 5 }, Version { writer: 2, number: 5 });
        let later = Version { number: 6, ..ours };
        let is = |own: Own| [None, Some(ours), Some(later), Some(theirs)].map(|found| own.is(found));
        assert_eq!(is(Own::Written(ours)), [false, true, true, false]);
        assert_eq!(is(Own::Removed(ours)), [true, true, true, false]);
        assert_eq!(is(Own::Swept), [true, false, false, false]);
    }

    #[test]
    fn each_write_is_looked_into_once_as_the_newest() {
        let echoes = Echoes::default();
        echoes.expect("k", own(1));
        echoes.expect("k", own(2));
        echoes.expect("refused", own(3));
        echoes.withdraw("refused", own(3));
        echoes.withdraw("k", own(1));
        assert!(!echoes.want_work());
        assert_eq!(["k", "k", "refused", "another's"].map(|key| echoes.hear(key)), [true, false, false, false]);
        assert_eq!([echoes.want_work(), echoes.want_work()], [true, false]);
        assert_eq!(echoes.next(), [("k".into(), own(2))]);
        assert!(echoes.next().is_empty());
        echoes.expect("k", own(4));
        echoes.begin();
        assert!(echoes.hear("k"), "it waited for this very connection");
        echoes.expect("k", own(5));
        echoes.begin();
        echoes.begin();
        assert!(!echoes.hear("k"));
    }
}
