//! What is owed to the store: the changes of each key made while it was away, and the patterns whose keys are to go.
//!
//! It is bounded, and full it refuses what is new: nothing in it is ever given up for room. Patterns are paid first:
//! what was owed for their keys before is no longer, and what is owed for them now came after. So no step of a key is
//! sent while a pattern is owed that it matches, whenever that came.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;

use super::debt::{Ends, Step, Steps};
use super::turns::{Turn, Turns, Waits};
use super::words::{Octets, text};
use crate::pattern::Pattern;
use crate::time::Instant;

/// What is under a key, as far as is known here.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct State<V> {
    pub(super) value: Option<V>,
    pub(super) end: End,
}

/// When it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    At(Ends),
    /// Nobody has asked.
    Unknown,
}

impl<V: Clone> State<V> {
    pub(super) const ABSENT: Self = Self { value: None, end: End::At(Instant::NEVER) };

    pub(super) const fn ending(value: V, ends: Ends) -> Self {
        Self { value: Some(value), end: End::At(ends) }
    }

    /// When it ends by itself, if that is known.
    pub(super) const fn until(&self) -> Ends {
        match self.end {
            End::At(ends) => ends,
            End::Unknown => Instant::NEVER,
        }
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.value.is_some() && matches!(self.end, End::At(ends) if ends <= now)
    }

    fn at(&self, now: Instant) -> Self {
        if self.has_ended(now) { Self::ABSENT } else { self.clone() }
    }
}

/// Why a change was not taken on; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotOwed {
    Full,
    /// The counts of the key do not fit into 64 bits.
    TooLarge,
}

/// What a key owes.
struct Row<V> {
    /// The step that is on its way.
    sent: Option<Step<V>>,
    steps: Steps<V>,
    /// What callers are told is there.
    state: State<V>,
    /// What is there in the store may be something else.
    is_doubtful: bool,
    /// Of the newest change.
    number: u64,
    turn: Turn,
    refusals: u8,
}

impl<V: Octets> Row<V> {
    /// Lets go of what has ended.
    fn settle(&mut self, now: Instant) {
        if self.sent.is_none() && self.state.has_ended(now) {
            self.steps.end();
            self.state = State::ABSENT;
        }
    }
}

/// A pattern whose keys are to go.
struct Sweep {
    pattern: Arc<str>,
    glob: Pattern,
    turn: Turn,
}

/// What is to be paid next.
pub(super) enum Due {
    Nothing,
    Sweep {
        number: u64,
        pattern: Arc<str>,
        /// It has not failed yet.
        is_first_try: bool,
    },
    /// Keys that have not failed yet, the last of them with that number.
    FirstTries(u64, Vec<Arc<str>>),
    /// Keys that have.
    Retries(Vec<Arc<str>>),
}

pub(super) struct Journal<V> {
    rows: HashMap<Arc<str>, Row<V>>,
    turns: Turns,
    sweeps: BTreeMap<u64, Sweep>,
    newest: u64,
    max: usize,
    /// Changes that were taken on since it was made.
    taken: u64,
}

impl<V: Octets> Journal<V> {
    pub(super) fn new(max: usize) -> Self {
        Self { rows: HashMap::new(), turns: Turns::default(), sweeps: BTreeMap::new(), newest: 0, max, taken: 0 }
    }

    /// How many keys and patterns owe something.
    pub(super) fn len(&self) -> usize {
        self.rows.len() + self.sweeps.len()
    }

    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the store is not to be trusted about `key`.
    pub(super) fn owes(&self, key: &str) -> bool {
        self.rows.contains_key(key) || self.sweeps_of(key).next().is_some()
    }

    fn sweeps_of(&self, key: &str) -> impl Iterator<Item = &Sweep> {
        self.sweeps.values().filter(move |sweep| sweep.glob.matches(key))
    }

    /// What is there, if the key owes something.
    pub(super) fn state(&self, key: &str, now: Instant) -> Option<State<V>> {
        let row = self.rows.get(key).map(|row| row.state.at(now));
        row.or_else(|| self.owes(key).then_some(State::ABSENT))
    }

    /// Every key that owes something, and whether anything is there.
    pub(super) fn keys(&self, now: Instant) -> impl Iterator<Item = (&Arc<str>, bool)> {
        self.rows.iter().map(move |(key, row)| (key, row.state.at(now).value.is_some()))
    }

    /// Every key that owes something, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rows.keys()
    }

    /// Whether there is room for changes of these keys.
    pub(super) fn has_room_for<'a>(&self, keys: impl Iterator<Item = &'a str>) -> bool {
        let new = keys.filter(|key| !self.rows.contains_key(*key)).count();
        new == 0 || self.len() + new <= self.max
    }

    /// Owes `step`, after which `state` is there.
    ///
    /// # Errors
    ///
    /// [`NotOwed`].
    pub(super) fn push(&mut self, key: &str, step: Step<V>, state: State<V>, now: Instant) -> Result<(), NotOwed> {
        if !self.has_room_for([key].into_iter()) {
            return Err(NotOwed::Full);
        }
        if let Some(row) = self.rows.get_mut(key) {
            row.settle(now);
            row.steps.push(step).map_err(|_too_large| NotOwed::TooLarge)?;
            (row.state, row.refusals) = (state, 0);
        } else {
            let mut steps = Steps::default();
            steps.push(step).map_err(|_too_large| NotOwed::TooLarge)?;
            let row =
                Row { sent: None, steps, state, is_doubtful: false, number: 0, turn: Turn::default(), refusals: 0 };
            self.rows.insert(key.into(), row);
        }
        self.taken += 1;
        self.is_newest(key);
        Ok(())
    }

    fn is_newest(&mut self, key: &str) {
        self.newest += 1;
        let Some((key, _)) = self.rows.get_key_value(key) else { return };
        let key = Arc::clone(key);
        if let Some(row) = self.rows.get_mut(&key) {
            self.turns.remove(row.number, row.turn);
            row.number = self.newest;
            self.turns.insert(key, row.number, row.turn);
        }
    }

    /// Owes the removal of all keys that match, and none of what was owed for them before.
    ///
    /// # Errors
    ///
    /// [`NotOwed::Full`].
    pub(super) fn sweep(&mut self, pattern: &str) -> Result<(), NotOwed> {
        let glob = Pattern::new(pattern);
        let matching = self.rows.keys().filter(|key| glob.matches(key)).count();
        let same = self.sweeps.iter().find(|(_, sweep)| *sweep.pattern == *pattern).map(|(number, _)| *number);
        if matching == 0 && same.is_none() && self.len() >= self.max {
            return Err(NotOwed::Full);
        }
        let same = same.and_then(|same| self.sweeps.remove(&same));
        self.rows.retain(|key, _| !glob.matches(key));
        self.turns.retain(|key| !glob.matches(key));
        self.taken += 1;
        self.newest += 1;
        let turn = same.map(|same| same.turn).unwrap_or_default();
        self.sweeps.insert(self.newest, Sweep { pattern: pattern.into(), glob, turn });
        Ok(())
    }

    /// Owes that everything goes, and nothing else.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.turns.clear();
        self.sweeps.clear();
        self.taken += 1;
        self.newest += 1;
        let all = Sweep { pattern: "*".into(), glob: Pattern::new("*"), turn: Turn::default() };
        self.sweeps.insert(self.newest, all);
    }
}

/// Paying.
impl<V: Octets> Journal<V> {
    /// Whether anything can be paid now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.turns.is_any(now) || self.sweeps.values().any(|sweep| sweep.turn.has_come(now))
    }

    /// Whether `key` is not paid before its wait, or that of a pattern which it matches, is over.
    pub(super) fn waits(&self, key: &str, now: Instant) -> bool {
        let row = self.rows.get(key);
        row.is_some_and(|row| !row.turn.has_come(now)) || self.sweeps_of(key).any(|sweep| !sweep.turn.has_come(now))
    }

    /// Whether anything waits.
    pub(super) fn any_waits(&self, now: Instant) -> bool {
        self.turns.any_waits(now) || self.sweeps.values().any(|sweep| !sweep.turn.has_come(now))
    }

    /// What is to be paid next in a round that has begun then and tried all first tries up to that number: the oldest
    /// pattern, unless one has failed in this round, or so many keys. What fails in a round waits for another.
    pub(super) fn due(&mut self, after: u64, count: usize, began: Instant, may_sweep: bool) -> Due {
        let sweep = self.sweeps.iter().find(|(_, sweep)| may_sweep && sweep.turn.has_come(began));
        if let Some((number, sweep)) = sweep {
            let (pattern, is_first_try) = (Arc::clone(&sweep.pattern), !sweep.turn.has_failed());
            return Due::Sweep { number: *number, pattern, is_first_try };
        }
        let mut after = after;
        loop {
            let found = self.turns.first_tries(after, count);
            let Some((last, _)) = found.last() else { break };
            after = *last;
            let keys = self.unhindered(found.into_iter().map(|(_, key)| key));
            if !keys.is_empty() {
                return Due::FirstTries(after, keys);
            }
        }
        loop {
            let found = self.turns.retries(began, count);
            if found.is_empty() {
                return Due::Nothing;
            }
            let keys = self.unhindered(found.into_iter());
            if !keys.is_empty() {
                return Due::Retries(keys);
            }
        }
    }

    /// Those that no pattern hinders; the others wait as that does.
    fn unhindered(&mut self, keys: impl Iterator<Item = Arc<str>>) -> Vec<Arc<str>> {
        let hindered_until =
            |journal: &Self, key: &str| journal.sweeps_of(key).map(|sweep| sweep.turn.waits_until).max();
        let is_unhindered = |key: &Arc<str>| {
            let until = hindered_until(self, key);
            if let Some(waits_until) = until {
                self.turn_of(key, |turn| turn.waits_until = waits_until);
            }
            until.is_none()
        };
        keys.filter(is_unhindered).collect()
    }

    fn turn_of(&mut self, key: &Arc<str>, change: impl FnOnce(&mut Turn)) {
        if let Some(row) = self.rows.get_mut(key) {
            self.turns.remove(row.number, row.turn);
            change(&mut row.turn);
            self.turns.insert(Arc::clone(key), row.number, row.turn);
        }
    }

    /// The store has not answered about `key`, or has refused: it is tried again after a wait.
    pub(super) fn failed(&mut self, key: &Arc<str>, now: Instant, waits: Waits) {
        self.turn_of(key, |turn| turn.failed(now, waits));
    }

    /// The same for the pattern with that number. All whose turn it is wait as long: each takes a walk over the same servers.
    pub(super) fn sweep_failed(&mut self, number: u64, now: Instant, waits: Waits) {
        let Some(sweep) = self.sweeps.get_mut(&number) else { return };
        sweep.turn.failed(now, waits);
        let waits_until = sweep.turn.waits_until;
        let others = self.sweeps.values_mut().filter(|sweep| sweep.turn.has_come(now));
        others.for_each(|other| other.turn.waits_until = waits_until);
    }

    /// Nothing waits any more.
    pub(super) fn retry_all(&mut self) {
        self.turns.clear();
        for (key, row) in &mut self.rows {
            row.turn = Turn::default();
            self.turns.insert(Arc::clone(key), row.number, row.turn);
        }
        self.sweeps.values_mut().for_each(|sweep| sweep.turn = Turn::default());
    }

    /// The keys of the pattern with that number are gone.
    pub(super) fn swept(&mut self, number: u64) {
        self.sweeps.remove(&number);
    }

    /// The next step of `key` goes on its way; `None` if there is none, and then the key owes nothing, or if a pattern
    /// has come that has to be paid before it.
    pub(super) fn send(&mut self, key: &str, now: Instant) -> Option<Step<V>> {
        if self.sweeps_of(key).next().is_some() {
            return None;
        }
        let row = self.rows.get_mut(key)?;
        row.settle(now);
        row.sent = row.steps.next();
        let sent = row.sent.clone();
        if sent.is_none() {
            self.forget(key);
        }
        sent
    }

    /// The step that was on its way is done, unless a pattern has taken it along meanwhile; `sum` is what it counted to,
    /// `held` whether its condition did. When nothing more is owed: what is there, if that is known.
    pub(super) fn done(&mut self, key: &str, sum: Option<i64>, held: bool) -> Option<Option<State<V>>> {
        let row = self.rows.get_mut(key)?;
        let has_written = matches!(row.sent.take()?, Step::Write { .. });
        row.turn.succeeded();
        if row.steps.are_absolute() || has_written && held {
            row.is_doubtful = false;
        } else {
            row.is_doubtful |= !held;
            if let (Some(sum), Some(value)) = (sum, &mut row.state.value) {
                *value = text(sum.saturating_add(row.steps.counted()));
                row.is_doubtful = false;
            }
        }
        if !row.steps.is_empty() {
            return None;
        }
        let row = self.forget(key)?;
        Some((!row.is_doubtful).then_some(row.state))
    }

    /// The step that was on its way was not done, or does the same if it is done once more.
    pub(super) fn put_back(&mut self, key: &str) {
        if let Some(row) = self.rows.get_mut(key)
            && let Some(step) = row.sent.take()
        {
            row.steps.put_back(step);
        }
    }

    /// The store has refused the step that was on its way. It gets a second chance; then it is given up, and where that
    /// was to replace something older, the older value is to go at least. `true`: it was given up.
    pub(super) fn refused(&mut self, key: &str) -> bool {
        let Some(row) = self.rows.get_mut(key).filter(|row| row.sent.is_some()) else { return false };
        row.refusals += 1;
        if row.refusals == 1 {
            self.put_back(key);
            return false;
        }
        let replaces = matches!(row.sent, Some(Step::Write { .. }));
        row.sent = None;
        if row.steps.are_absolute() {
            return true;
        }
        if replaces {
            (row.steps, row.state) = (Steps::default(), State::ABSENT);
            // One removal fits.
            let _pushed = row.steps.push(Step::Remove);
        } else {
            row.is_doubtful = true;
            if row.steps.is_empty() {
                self.forget(key);
            }
        }
        true
    }

    /// Nobody knows what became of the step that was on its way, and it must not be done twice: it is given up.
    pub(super) fn lost(&mut self, key: &str) {
        let Some(row) = self.rows.get_mut(key).filter(|row| row.sent.is_some()) else { return };
        (row.sent, row.is_doubtful) = (None, true);
        if row.steps.is_empty() {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: &str) -> Option<Row<V>> {
        let row = self.rows.remove(key)?;
        self.turns.remove(row.number, row.turn);
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::borrow::ToOwned;
    use std::format;
    use std::string::{String, ToString};

    use super::*;
    use crate::direct::words::When;

    type Bytes = Vec<u8>;
    type Journal = super::Journal<Bytes>;

    const NOW: Instant = Instant::ZERO;

    fn add(journal: &mut Journal, key: &str, by: i64) -> Result<(), NotOwed> {
        let ends = Instant::NEVER;
        journal.push(key, Step::Add { by, ends }, State::ending(by.to_string().into(), ends), NOW)
    }

    fn put(journal: &mut Journal, key: &str, value: &'static str, ends: Instant) -> Result<(), NotOwed> {
        let step = Step::Write { value: value.into(), ends, when: When::Always, until: Instant::NEVER };
        journal.push(key, step, State::ending(value.into(), ends), NOW)
    }

    fn value(journal: &Journal, key: &str, now: Instant) -> Option<Bytes> {
        journal.state(key, now).and_then(|state| state.value)
    }

    const WAITS: fn() -> Waits = || Waits::of(&crate::policy::Policy::default());

    /// What is due, as text.
    fn due(journal: &mut Journal, after: u64, began: Instant) -> String {
        match journal.due(after, 9, began, true) {
            Due::Nothing => "nothing".to_owned(),
            Due::Sweep { number, pattern, .. } => format!("{number} pattern {pattern}"),
            Due::FirstTries(last, keys) => format!("{last} {}", keys.join(" ")),
            Due::Retries(keys) => format!("again {}", keys.join(" ")),
        }
    }

    #[test]
    fn a_pattern_goes_before_what_is_owed_after_it_whenever_it_comes() {
        let mut journal = Journal::new(9);
        put(&mut journal, "user:7", "old", Instant::NEVER).expect("there is room");
        assert_eq!(due(&mut journal, 0, NOW), "1 user:7");
        assert!(journal.send("user:7", NOW).is_some());
        journal.sweep("user:*").expect("there is room");
        put(&mut journal, "user:7", "new", Instant::NEVER).expect("there is room");
        assert!(journal.done("user:7", None, true).is_none(), "that was the step before the pattern");
        assert!(journal.send("user:7", NOW).is_none());
        assert_eq!((value(&journal, "user:7", NOW), journal.len()), (Some("new".into()), 2));
        assert_eq!(due(&mut journal, 1, NOW), "2 pattern user:*");
        journal.swept(2);
        assert_eq!(due(&mut journal, 1, NOW), "3 user:7");
        assert!(journal.send("user:7", NOW).is_some());
    }

    #[test]
    fn patterns_that_come_while_one_cannot_be_paid_hold_up_no_key() {
        let mut journal = Journal::new(9);
        for pattern in ["a:*", "b:*"] {
            journal.sweep(pattern).expect("there is room");
        }
        put(&mut journal, "k", "1", Instant::NEVER).expect("there is room");
        put(&mut journal, "c:1", "1", Instant::NEVER).expect("there is room");
        assert_eq!(due(&mut journal, 0, NOW), "1 pattern a:*");
        journal.sweep_failed(1, NOW, WAITS());
        journal.sweep("c:*").expect("there is room");
        put(&mut journal, "c:1", "2", Instant::NEVER).expect("there is room");
        let Due::FirstTries(_, keys) = journal.due(0, 9, NOW, false) else { panic!("keys are due") };
        assert_eq!(keys.iter().map(|key| &**key).collect::<Vec<_>>(), ["k"], "what waits for a pattern does");
        assert!(journal.send("k", NOW).is_some() && journal.send("c:1", NOW).is_none());
        // In the next round the new one goes first; the others wait.
        assert!(due(&mut journal, 0, NOW).ends_with("pattern c:*"));
    }

    #[test]
    fn what_fails_waits_and_holds_up_nothing_else() {
        let mut journal = Journal::new(9);
        for key in ["lost", "k", "user:7"] {
            put(&mut journal, key, "1", Instant::NEVER).expect("there is room");
        }
        journal.sweep("user:*").expect("there is room");
        put(&mut journal, "user:7", "2", Instant::NEVER).expect("there is room");
        journal.sweep_failed(4, NOW, WAITS());
        journal.failed(&"lost".into(), NOW, WAITS());
        assert_eq!((due(&mut journal, 0, NOW), due(&mut journal, 5, NOW)), ("5 k".into(), "nothing".into()));
        assert!(journal.waits("lost", NOW) && journal.waits("user:7", NOW) && !journal.waits("k", NOW));
        put(&mut journal, "lost", "2", Instant::NEVER).expect("there is room");
        assert_eq!(due(&mut journal, 0, NOW), "2 k", "a new change does not end the wait");

        let second = NOW + Duration::from_secs(1);
        assert_eq!(due(&mut journal, 5, second), "4 pattern user:*");
        journal.swept(4);
        assert_eq!(due(&mut journal, 5, second), "again user:7 lost");
        journal.failed(&"lost".into(), second, WAITS());
        assert!(journal.waits("lost", second + Duration::from_millis(1_999)), "the second wait is twice as long");
        journal.retry_all();
        assert_eq!(due(&mut journal, 0, second), "6 k user:7 lost");
        ["k", "user:7", "lost"].iter().for_each(|key| drop(journal.forget(key)));
        assert!(journal.is_empty() && !journal.is_due(Instant::NEVER) && !journal.any_waits(NOW));
    }

    #[test]
    fn it_is_bounded_by_keys_and_refuses_only_what_is_new() {
        let mut journal = Journal::new(2);
        for key in ["a", "b", "a"] {
            put(&mut journal, key, "1", Instant::NEVER).expect("there is room");
        }
        assert_eq!(put(&mut journal, "c", "1", Instant::NEVER), Err(NotOwed::Full));
        assert_eq!(journal.sweep("x*"), Err(NotOwed::Full));
        assert_eq!((journal.len(), journal.owes("c")), (2, false));
        journal.sweep("a*").expect("what it removes makes room");
        assert_eq!((journal.len(), journal.owes("a"), journal.owes("abc")), (2, true, true));
    }

    #[test]
    fn what_is_paid_is_as_new_as_the_newest_change_and_older_is_paid_first() {
        let mut journal = Journal::new(9);
        for key in ["a", "b", "a"] {
            put(&mut journal, key, "1", Instant::NEVER).expect("there is room");
        }
        assert_eq!(due(&mut journal, 0, NOW), "3 b a");
    }

    #[test]
    fn a_change_while_another_is_on_its_way_is_owed_after_it() {
        let mut journal = Journal::new(9);
        add(&mut journal, "n", 1).expect("there is room");
        assert!(matches!(journal.send("n", NOW), Some(Step::Add { by: 1, .. })));
        add(&mut journal, "n", 2).expect("there is room");
        assert!(journal.done("n", Some(11), true).is_none(), "two more are owed");
        assert_eq!(value(&journal, "n", NOW), Some("13".into()));
        assert!(matches!(journal.send("n", NOW), Some(Step::Add { by: 2, .. })));
        journal.put_back("n");
        assert!(matches!(journal.send("n", NOW), Some(Step::Add { by: 2, .. })), "it was not done");
        let state = journal.done("n", Some(20), true).flatten().expect("it is known");
        assert_eq!((state.value, journal.is_empty()), (Some("20".into()), true));
    }

    #[test]
    fn what_ends_while_it_is_owed_is_removed_exactly_then() {
        let mut journal = Journal::new(9);
        let end = NOW + Duration::from_secs(5);
        put(&mut journal, "k", "1", end).expect("there is room");
        let before = NOW + Duration::from_nanos(4_999_999_999);
        assert_eq!((value(&journal, "k", before), value(&journal, "k", end)), (Some("1".into()), None));
        assert!(matches!(journal.send("k", end), Some(Step::Remove)));
    }

    #[test]
    fn what_is_refused_twice_is_given_up_and_nothing_older_comes_back() {
        let mut journal = Journal::new(9);
        put(&mut journal, "k", "1", Instant::NEVER).expect("there is room");
        for is_given_up in [false, true] {
            assert!(journal.send("k", NOW).is_some());
            assert_eq!(journal.refused("k"), is_given_up);
        }
        assert!(matches!(journal.send("k", NOW), Some(Step::Remove)));
        add(&mut journal, "n", 1).expect("there is room");
        for is_given_up in [false, true] {
            assert!(journal.send("n", NOW).is_some());
            assert_eq!(journal.refused("n"), is_given_up);
        }
        assert!(!journal.owes("n"));
    }

    #[test]
    fn a_clear_takes_the_place_of_everything_that_was_owed() {
        let mut journal = Journal::new(1);
        put(&mut journal, "k", "1", Instant::NEVER).expect("there is room");
        journal.clear();
        assert_eq!((journal.len(), value(&journal, "k", NOW)), (1, None));
        assert_eq!(due(&mut journal, 0, NOW), "2 pattern *");
        journal.swept(2);
        assert!(journal.is_empty());
    }
}
