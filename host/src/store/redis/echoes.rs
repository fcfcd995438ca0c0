//! Echoes: the server tells a process of what its own scripts have changed, too, since it takes a script for somebody else
//! (`NOLOOP` is about plain commands only). It tells once for all changes of the same moment, so whether another process
//! was among them nobody can say without a look at what is there now.

use std::collections::HashSet;
use std::sync::Mutex;

use tideover_core::stamp::Version;
use tideover_core::storage::{Growing, Keyed};

use super::lock;
use crate::engine::Key;

/// Keys whose echo may be awaited at once. Past it the oldest is taken for another's change, which costs a hit.
const AWAITED_MAX: usize = 65_536;

pub(super) struct Echoes(Mutex<State>);

struct State {
    /// Keys that scripts of ours write, with how many echoes may come. Several changes of one moment have one, so some
    /// are awaited in vain, until they are the oldest.
    awaited: Keyed<Key, Awaited, Growing>,
    /// As whom we write.
    writers: HashSet<u64>,
    /// Echoes that have come and are yet to be looked into, and whether a task is at it.
    heard: Vec<Heard>,
    at_work: bool,
}

#[derive(Clone, Copy)]
struct Awaited {
    count: u32,
    /// The newest leaves an entry; otherwise a tombstone or nothing.
    writes: bool,
    /// So it was before a sweep that may leave what is there.
    wrote: bool,
}

/// An echo that is to be looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) key: Key,
    writes: bool,
}

/// What a script of our own leaves under a key, as which writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// This write.
    Written(u64),
    /// This tombstone, or nothing where there was no room for one.
    Removed(u64),
    /// Nothing: it was cleared.
    Swept,
}

impl Default for Echoes {
    fn default() -> Self {
        let awaited = Keyed::new(AWAITED_MAX);
        Self(Mutex::new(State { awaited, writers: HashSet::new(), heard: Vec::new(), at_work: false }))
    }
}

impl Echoes {
    /// A script of ours is about to change what is under `key`.
    pub(super) fn expect(&self, key: &str, own: Own) {
        let state = &mut *lock(&self.0);
        let writes = matches!(own, Own::Written(_));
        if let Own::Written(writer) | Own::Removed(writer) = own {
            state.writers.insert(writer);
        }
        let key = Key::from(key);
        if let Some(awaited) = state.awaited.get_mut(&key) {
            *awaited = Awaited { count: awaited.count + 1, writes, wrote: own == Own::Swept && awaited.writes };
            return;
        }
        if state.awaited.is_full() {
            state.awaited.pop_oldest();
        }
        // There is room now.
        let _ = state.awaited.insert(key, Awaited { count: 1, writes, wrote: false });
    }

    /// One of them has changed nothing. If its echo was heard all the same, that may have been of another's change, as may be
    /// that nothing is there: it is to be looked into once more.
    pub(super) fn withdraw(&self, key: &str) {
        let state = &mut *lock(&self.0);
        let key = key.into();
        let taken = take_one(&mut state.awaited, &key);
        match (taken, state.awaited.get_mut(&key)) {
            (Some(_), Some(left)) => left.writes |= left.wrote,
            (Some(Awaited { wrote: false, .. }), None) => {}
            (None, _) | (Some(_), None) => state.heard.push(Heard { key, writes: true }),
        }
    }

    /// Whether the word that `key` was changed may be an echo, and is to be looked into.
    pub(super) fn hear(&self, key: &str) -> bool {
        let state = &mut *lock(&self.0);
        let key = key.into();
        let Some(Awaited { writes, .. }) = take_one(&mut state.awaited, &key) else { return false };
        state.heard.push(Heard { key, writes });
        true
    }

    /// Whether what is `found` there now is of our own making.
    pub(super) fn is_own(&self, heard: &Heard, found: Option<Version>) -> bool {
        found.map_or(!heard.writes, |found| lock(&self.0).writers.contains(&found.writer))
    }

    /// What could not be looked into is to be tried again.
    pub(super) fn put_back(&self, heard: impl IntoIterator<Item = Heard>) {
        lock(&self.0).heard.extend(heard);
    }

    /// Nobody is at work any more.
    pub(super) fn stop_work(&self) {
        lock(&self.0).at_work = false;
    }

    /// Whether somebody is to begin to look into them.
    pub(super) fn want_work(&self) -> bool {
        let state = &mut *lock(&self.0);
        !state.heard.is_empty() && !std::mem::replace(&mut state.at_work, true)
    }

    /// What is to be looked into next; nothing ends the work.
    pub(super) fn next(&self) -> Vec<Heard> {
        let state = &mut *lock(&self.0);
        state.at_work = !state.heard.is_empty();
        std::mem::take(&mut state.heard)
    }
}

fn take_one(awaited: &mut Keyed<Key, Awaited, Growing>, key: &Key) -> Option<Awaited> {
    let found = awaited.get_mut(key)?;
    found.count -= 1;
    let found = *found;
    if found.count == 0 {
        awaited.remove(key);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Version = Version { writer: 1, number: 5 };
    const THEIRS: Version = Version { writer: 2, number: 5 };

    /// Whether nothing, a write of ours and one of theirs would be of our own making.
    fn own(echoes: &Echoes, key: &str) -> Option<[bool; 3]> {
        assert_eq!(echoes.hear(key), echoes.want_work());
        let heard = echoes.next().pop()?;
        assert!(echoes.next().is_empty());
        Some([None, Some(OURS), Some(THEIRS)].map(|found| echoes.is_own(&heard, found)))
    }

    #[test]
    fn what_is_found_is_ours_or_anothers() {
        let echoes = Echoes::default();
        echoes.expect("k", Own::Written(OURS.writer));
        assert_eq!(own(&echoes, "k"), Some([false, true, false]));
        echoes.expect("k", Own::Removed(OURS.writer));
        assert_eq!(own(&echoes, "k"), Some([true, true, false]));
        echoes.expect("k", Own::Swept);
        assert_eq!(own(&echoes, "k"), Some([true, true, false]));
        assert_eq!(own(&echoes, "another's"), None);
    }

    #[test]
    fn each_of_several_is_looked_into_as_the_newest() {
        let echoes = Echoes::default();
        echoes.expect("k", Own::Swept);
        echoes.expect("k", Own::Written(OURS.writer));
        echoes.expect("k", Own::Written(OURS.writer));
        echoes.withdraw("k");
        for _ in 0..2 {
            assert_eq!(own(&echoes, "k"), Some([false, true, false]));
        }
        assert_eq!(own(&echoes, "k"), None);
    }

    #[test]
    fn a_sweep_that_leaves_our_write_has_it_looked_into_as_a_write() {
        let echoes = Echoes::default();
        echoes.expect("k", Own::Written(OURS.writer));
        echoes.expect("k", Own::Swept);
        echoes.withdraw("k");
        assert_eq!(own(&echoes, "k"), Some([false, true, false]));

        // One word for the write and for another's removal in the same moment.
        echoes.expect("k", Own::Written(OURS.writer));
        echoes.expect("k", Own::Swept);
        assert!(echoes.hear("k"));
        echoes.next();
        echoes.withdraw("k");
        let [heard] = &echoes.next()[..] else { panic!("one is to be looked into") };
        assert!(echoes.is_own(heard, Some(OURS)) && !echoes.is_own(heard, None));
    }

    #[test]
    fn what_a_task_that_was_ended_has_not_come_to_is_for_the_next() {
        let echoes = Echoes::default();
        echoes.expect("k", Own::Written(OURS.writer));
        assert!(echoes.hear("k") && echoes.want_work() && !echoes.want_work());
        let batch = echoes.next();
        echoes.put_back(batch);
        echoes.stop_work();
        assert!(echoes.want_work());
        assert_eq!(echoes.next().len(), 1);
    }

    #[test]
    fn a_sweep_that_removes_our_write_is_our_own() {
        let echoes = Echoes::default();
        echoes.expect("k", Own::Written(OURS.writer));
        echoes.expect("k", Own::Swept);
        assert_eq!(own(&echoes, "k"), Some([true, true, false]), "nothing is there any more");
    }

    #[test]
    fn what_is_heard_of_while_a_script_of_ours_leaves_it_is_looked_into() {
        let echoes = Echoes::default();
        echoes.expect("k", Own::Swept);
        assert!(echoes.hear("k"));
        echoes.next();
        echoes.withdraw("k");
        let [heard] = &echoes.next()[..] else { panic!("one is to be looked into") };
        assert!(!echoes.is_own(heard, Some(THEIRS)) && !echoes.is_own(heard, None), "it was not our script");
    }

    #[test]
    fn what_is_awaited_in_vain_makes_room() {
        let echoes = Echoes::default();
        (0..=AWAITED_MAX).for_each(|number| echoes.expect(&number.to_string(), Own::Swept));
        assert_eq!(own(&echoes, "0"), None);
        assert_eq!(own(&echoes, "1"), Some([true, false, false]));
    }
}
