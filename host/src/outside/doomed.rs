//! Patterns whose keys are to be removed from the shared store, which takes a walk over all of its keys, or has to wait until
//! the store is back. Until it is done, what is found there under such a key, and is not newer, counts as removed.
//!
//! It does not know how keys are found or removed.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tideover_core::WallTime;
use tideover_core::envelope::{TOMBSTONE_BYTES, stamp_of, tombstone};
use tideover_core::pattern::Pattern;
use tideover_core::stamp::{Stamp, Version};
use tokio::time::Instant;

use crate::cache::random_seed;

/// How many may be under way or owed at once.
pub(crate) const DOOMED_MAX: u32 = 64;

/// By how much the civil clocks of two machines may differ. What another has written so soon after counts as older: that costs
/// a load.
const SKEW: Duration = Duration::from_secs(5);

/// By how much a change that was owed may seem to be earlier than it was. What a cache has written so shortly before a pattern is
/// still known to it, and was removed by its key.
const ROUNDING: Duration = Duration::from_millis(100);

/// How long after a failure one is taken up again: twice as long each time, up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// All that are under way or owed.
#[derive(Default)]
pub(crate) struct Doomed {
    all: Mutex<Vec<Doom>>,
    /// As whom patterns are carried out, and how many times something was removed so.
    walker: OnceLock<u64>,
    removals: AtomicU64,
    /// Who writes for this cache, of whose clock nothing is to be doubted; zero for nobody yet.
    writer: AtomicU64,
    /// Somebody carries out what is owed.
    paying: AtomicBool,
    /// How many there are, for those who read.
    count: AtomicUsize,
}

struct Doom {
    text: Arc<str>,
    pattern: Pattern,
    at: WallTime,
    /// Nobody takes it up before; `None` while somebody is at work on it.
    due: Option<Instant>,
    pause: Duration,
    /// It was not carried out at once.
    is_owed: bool,
}

/// The right to carry one out, and the duty. Dropped before it is [done](Self::done), it is owed.
pub(crate) struct Warrant {
    doomed: Arc<Doomed>,
    pub(crate) text: Arc<str>,
    pub(crate) at: WallTime,
    is_done: bool,
}

impl Doomed {
    /// Dooms what matches at the moment `at`; `None` if too many are doomed already.
    pub(crate) fn doom(self: &Arc<Self>, text: &str, at: WallTime) -> Option<Warrant> {
        let mut all = self.lock();
        let text: Arc<str> = text.into();
        // Whoever owes the same owes this instead.
        all.retain(|doom| doom.due.is_none() || doom.text != text);
        let has_room = all.len() < DOOMED_MAX as usize;
        if has_room {
            let (text, pattern) = (Arc::clone(&text), Pattern::new(&text));
            all.push(Doom { text, pattern, at, due: None, pause: PAUSE.0, is_owed: false });
        }
        self.count.store(all.len(), Ordering::Release);
        has_room.then(|| self.warrant(text, at))
    }

    /// One that is owed and due, to be carried out.
    pub(crate) fn take_up(self: &Arc<Self>, now: Instant) -> Option<Warrant> {
        let mut all = self.lock();
        let doom = all.iter_mut().find(|doom| doom.due.is_some_and(|due| due <= now))?;
        doom.due = None;
        Some(self.warrant(Arc::clone(&doom.text), doom.at))
    }

    /// The moment at which `key` was doomed last, if it is.
    pub(crate) fn at(&self, key: &str) -> Option<WallTime> {
        if self.len() == 0 {
            return None;
        }
        self.lock().iter().filter(|doom| doom.pattern.matches(key)).map(|doom| doom.at).max()
    }

    /// What there is under a key that was doomed at the moment `at`, of which `found` was found in the shared store: a tombstone
    /// in its place if it is older, so that it may be replaced.
    pub(crate) fn judge(&self, found: Option<Bytes>, at: WallTime) -> Option<Bytes> {
        let found = found?;
        let stamp = stamp_of(&found);
        if self.is_older(stamp, at) { stamp.map(|stamp| tombstone(&stamp).into()) } else { Some(found) }
    }

    /// The version of the next removal for a pattern. All are of one writer: the store's client remembers each.
    pub(crate) fn next_version(&self) -> Version {
        let writer = *self.walker.get_or_init(random_seed);
        Version { writer, number: self.removals.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// An envelope that this cache writes.
    pub(crate) fn wrote(&self, envelope: &[u8]) {
        if let Some(stamp) = stamp_of(envelope) {
            self.writer.store(stamp.version.writer, Ordering::Relaxed);
        }
    }

    /// Whether what has this stamp was changed before that moment, as far as is known. What this cache itself has written
    /// just before was removed by its key.
    fn is_older(&self, stamp: Option<Stamp>, at: WallTime) -> bool {
        let Some(stamp) = stamp else { return true };
        let own = self.writer.load(Ordering::Relaxed);
        if own > 0 && stamp.version.writer == own {
            return stamp.changed_at.after(ROUNDING) < at;
        }
        stamp.changed_at <= at.after(SKEW)
    }

    /// Runs `work` unless somebody does already.
    pub(crate) async fn alone(&self, work: impl Future<Output = ()>) {
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Release);
            }
        }
        if !self.paying.swap(true, Ordering::AcqRel) {
            let _over = Over(&self.paying);
            work.await;
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// How many of them are owed.
    pub(crate) fn owed(&self) -> usize {
        if self.len() == 0 { 0 } else { self.lock().iter().filter(|doom| doom.is_owed).count() }
    }

    /// All was cleared.
    pub(crate) fn clear(&self) {
        self.lock().clear();
        self.count.store(0, Ordering::Release);
    }

    fn warrant(self: &Arc<Self>, text: Arc<str>, at: WallTime) -> Warrant {
        Warrant { doomed: Arc::clone(self), text, at, is_done: false }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Doom>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Warrant {
    /// The stamp of what was found under a key that matches, if it is a value to be removed.
    pub(crate) fn concerns(&self, found: &[u8]) -> Option<Stamp> {
        let stamp = stamp_of(found).filter(|_| found.len() != TOMBSTONE_BYTES)?;
        self.doomed.is_older(Some(stamp), self.at).then_some(stamp)
    }

    /// Nothing older is left in the shared store.
    pub(crate) fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Warrant {
    fn drop(&mut self) {
        let mut all = self.doomed.lock();
        let mine = |doom: &Doom| doom.due.is_none() && doom.text == self.text && doom.at == self.at;
        let Some(index) = all.iter().position(mine) else { return };
        if self.is_done {
            all.swap_remove(index);
        } else {
            let doom = &mut all[index];
            doom.due = Some(Instant::now() + doom.pause);
            doom.pause = (doom.pause * 2).min(PAUSE.1);
            doom.is_owed = true;
        }
        self.doomed.count.store(all.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: WallTime = WallTime::from_unix_millis(43_200_000);

    fn written(minutes: u64) -> Bytes {
        let changed_at = WallTime::from_unix_millis(NOON.as_unix_millis() + minutes * 60_000);
        let mut bytes = tombstone(&Stamp { changed_at, born: 7, ..Stamp::default() });
        bytes.push(1);
        bytes.into()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_doomed_counts_as_removed_until_it_is() {
        let doomed = Arc::new(Doomed::default());
        let judge = |key, minutes| match doomed.at(key) {
            Some(at) => doomed.judge(Some(written(minutes)), at).expect("something"),
            None => written(minutes),
        };
        let warrant = doomed.doom("user:*", NOON).expect("room");
        assert_eq!(judge("user:7", 0).len(), written(0).len() - 1, "a tombstone");
        assert_eq!(stamp_of(&judge("user:7", 0)), stamp_of(&written(0)), "with the stamp of what is there");
        assert_eq!(judge("user:7", 1), written(1), "it was written later");
        assert_eq!(warrant.concerns(&written(0)), stamp_of(&written(0)));
        assert_eq!(warrant.concerns(&written(1)), None);
        assert_eq!(warrant.concerns(&tombstone(&Stamp::default())), None, "it is removed already");
        assert_eq!(judge("page:7", 0), written(0));
        assert_eq!(doomed.judge(None, NOON), None);
        assert_eq!(doomed.judge(Some("foreign".into()), NOON), None);
        warrant.done();
        assert_eq!((judge("user:7", 0), doomed.len()), (written(0), 0));
    }

    #[test]
    fn no_two_removals_have_the_same_version_and_all_have_one_writer() {
        let doomed = Doomed::default();
        let (one, other) = (doomed.next_version(), doomed.next_version());
        assert!(one.writer == other.writer && one.number < other.number);
    }

    #[test]
    fn of_its_own_writes_a_cache_knows_which_came_first() {
        let doomed = Arc::new(Doomed::default());
        let written = |writer, at: u64| {
            let changed_at = WallTime::from_unix_millis(NOON.as_unix_millis() + at);
            let version = Version { writer, number: 1 };
            let mut bytes = tombstone(&Stamp { changed_at, version, born: 7 });
            bytes.push(1);
            Bytes::from(bytes)
        };
        doomed.wrote(&written(3, 0));
        let early = doomed.doom("early:*", NOON.after(ROUNDING * 2)).expect("room");
        assert!(early.concerns(&written(3, 0)).is_some(), "long before");
        let warrant = doomed.doom("user:*", NOON).expect("room");
        for (writer, at, is_left) in [(3, 0, true), (3, 99, true), (4, 0, false), (4, 5_000, false), (4, 5_001, true)] {
            let found = written(writer, at);
            assert_eq!(warrant.concerns(&found).is_none(), is_left, "{writer} {at}");
            assert_eq!(doomed.judge(Some(found.clone()), NOON) == Some(found), is_left, "{writer} {at}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_carried_out_is_owed_and_taken_up_again() {
        let doomed = Arc::new(Doomed::default());
        drop(doomed.doom("user:*", NOON).expect("room"));
        assert!(doomed.take_up(Instant::now()).is_none(), "just tried");
        assert_eq!(doomed.owed(), 1);
        let at_once = doomed.doom("page:*", NOON).expect("room");
        assert_eq!((doomed.len(), doomed.owed()), (2, 1), "it may yet be carried out at once");
        at_once.done();
        tokio::time::advance(PAUSE.0).await;
        let warrant = doomed.take_up(Instant::now()).expect("due");
        assert_eq!(&*warrant.text, "user:*");
        assert!(doomed.take_up(Instant::now()).is_none(), "somebody is at work on it");
        drop(warrant);
        tokio::time::advance(PAUSE.0).await;
        assert!(doomed.take_up(Instant::now()).is_none(), "each pause is longer");
        tokio::time::advance(PAUSE.0).await;
        doomed.take_up(Instant::now()).expect("due").done();
        tokio::time::advance(PAUSE.1).await;
        assert!(doomed.take_up(Instant::now()).is_none() && doomed.len() == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn their_number_is_bounded_and_the_same_counts_once() {
        let doomed = Arc::new(Doomed::default());
        for number in 0..DOOMED_MAX {
            drop(doomed.doom(&format!("{number}:*"), NOON).expect("room"));
        }
        assert!(doomed.doom("one:*", NOON).is_none());
        drop(doomed.doom("7:*", NOON).expect("in the place of the other"));
        assert_eq!(doomed.len(), DOOMED_MAX as usize);
        doomed.clear();
        assert!(doomed.doom("one:*", NOON).is_some());
    }
}
