//! Troubles that last, and the few log lines that tell of them.
//!
//! However often something fails, it writes one line when that begins, a summary now and then while it goes on, and one
//! line when it is over. Trouble that comes and goes keeps to the same pace.

use std::fmt::Display;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

/// The least time between two lines of one trouble that goes on.
pub(crate) const SUMMARY_EVERY: Duration = Duration::from_secs(30);

/// A trouble is over when something has gone well, and nothing has failed for so long.
const CALM: Duration = Duration::from_secs(5);

/// One of which nothing ever says that it has gone well is over when it was not heard of for so long.
const SILENCE: Duration = Duration::from_secs(60);

/// What can go wrong again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Operations of the shared store.
    Store,
    /// Loads.
    Load,
    /// The store's circuit opens.
    StoreCircuit,
    /// The circuit of direct operations opens.
    DirectCircuit,
    /// The circuit of a loader opens.
    LoaderCircuit,
    /// Removals and invalidations of which callers do not know whether they hold.
    Invalidation,
    /// What is cached is no value of the type that was asked for.
    Undecodable,
    /// What a loader has brought is no value that its codec can keep.
    Unkept,
    /// Bytes in the store are no envelope of ours.
    Corrupt,
    /// The engine breaks and is replaced.
    Engine,
}

impl Trouble {
    /// Every trouble.
    pub(crate) const ALL: [Self; 10] = [
        Self::Store,
        Self::Load,
        Self::StoreCircuit,
        Self::DirectCircuit,
        Self::LoaderCircuit,
        Self::Invalidation,
        Self::Undecodable,
        Self::Unkept,
        Self::Corrupt,
        Self::Engine,
    ];

    /// The name, as the field `trouble` of log lines has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Load => "load",
            Self::StoreCircuit => "store_circuit",
            Self::DirectCircuit => "direct_circuit",
            Self::LoaderCircuit => "loader_circuit",
            Self::Invalidation => "invalidation",
            Self::Undecodable => "undecodable",
            Self::Unkept => "unkept",
            Self::Corrupt => "corrupt",
            Self::Engine => "engine",
        }
    }

    /// What the lines say when it begins, while it goes on, and when it is over.
    pub(crate) const fn words(self) -> [&'static str; 3] {
        match self {
            Self::Store => ["the store fails", "the store still fails", "the store is back"],
            Self::Load => ["loads fail", "loads still fail", "loads succeed again"],
            Self::StoreCircuit => [
                "the circuit of the store opened",
                "the circuit of the store opens again",
                "the circuit of the store closed",
            ],
            Self::DirectCircuit => [
                "the circuit of direct operations opened",
                "the circuit of direct operations opens again",
                "the circuit of direct operations closed",
            ],
            Self::LoaderCircuit => [
                "the circuit of a loader opened",
                "circuits of loaders open again",
                "the circuits of all loaders are closed",
            ],
            Self::Invalidation => ["invalidations fail", "invalidations still fail", "invalidations succeed again"],
            Self::Undecodable => [
                "what is cached cannot be decoded",
                "what is cached still cannot be decoded",
                "nothing undecodable was met for a while",
            ],
            Self::Unkept => [
                "a loaded value cannot be kept by its codec",
                "loaded values still cannot be kept by their codecs",
                "nothing was loaded for a while that its codec cannot keep",
            ],
            Self::Corrupt => [
                "bytes in the store are no entry of ours",
                "bytes in the store are still no entries of ours",
                "nothing foreign was met in the store for a while",
            ],
            Self::Engine => ["the engine broke and was replaced", "the engine breaks again", "the engine holds"],
        }
    }

    /// Whether somebody says when it goes well.
    const fn is_known_to_end(self) -> bool {
        !matches!(self, Self::Undecodable | Self::Unkept | Self::Corrupt | Self::Engine)
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Begins,
    /// So many failures since the last line.
    GoesOn(u64),
    /// So many failures in all, and how long it took until something went well; until the last failure, where nobody says so.
    Over(u64, Duration),
}

/// What became of a trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Turn {
    began: bool,
    over: Option<Over>,
    line: Option<Line>,
}

/// A trouble that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) failures: u64,
    pub(super) lasted: Duration,
}

/// One trouble's present.
#[derive(Debug, Default)]
struct Spell {
    ongoing: Option<Ongoing>,
    /// When the last line was written.
    told_at: Option<Instant>,
    /// Failures since.
    untold: u64,
}

#[derive(Debug)]
struct Ongoing {
    began_at: Instant,
    failed_at: Instant,
    /// When something first went well since.
    well_at: Option<Instant>,
    failures: u64,
    /// A line of it was written.
    is_told: bool,
}

impl Spell {
    fn failed(&mut self, times: u64, now: Instant) -> Turn {
        self.untold += times;
        let began = self.ongoing.is_none();
        let fresh = Ongoing { began_at: now, failed_at: now, well_at: None, failures: 0, is_told: false };
        let ongoing = self.ongoing.get_or_insert(fresh);
        ongoing.failures += times;
        (ongoing.failed_at, ongoing.well_at) = (now, None);
        Turn { began, over: None, line: self.summary(now) }
    }

    /// The next line while it goes on, if one is due.
    fn summary(&mut self, now: Instant) -> Option<Line> {
        let ongoing = self.ongoing.as_mut()?;
        let is_due = self.told_at.is_none_or(|told_at| now - told_at >= SUMMARY_EVERY);
        if self.untold == 0 || !is_due {
            return None;
        }
        self.told_at = Some(now);
        let untold = std::mem::take(&mut self.untold);
        let is_first = !std::mem::replace(&mut ongoing.is_told, true);
        Some(if is_first { Line::Begins } else { Line::GoesOn(untold) })
    }

    fn went_well(&mut self, now: Instant) {
        if let Some(ongoing) = &mut self.ongoing {
            ongoing.well_at.get_or_insert(now);
        }
    }

    fn look(&mut self, is_known_to_end: bool, now: Instant) -> Turn {
        let is_over = |ongoing: &Ongoing| {
            let quiet = now - ongoing.failed_at;
            if is_known_to_end { ongoing.well_at.is_some() && quiet >= CALM } else { quiet >= SILENCE }
        };
        let Some(ended) = self.ongoing.take_if(|ongoing| is_over(ongoing)) else {
            return Turn { line: self.summary(now), ..Turn::default() };
        };
        let ended_at = ended.well_at.unwrap_or(ended.failed_at);
        let over = Over { failures: ended.failures, lasted: ended_at - ended.began_at };
        let line = ended.is_told.then(|| {
            (self.told_at, self.untold) = (Some(now), 0);
            Line::Over(over.failures, over.lasted)
        });
        Turn { began: false, over: Some(over), line }
    }
}

/// All troubles of one cache.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    spells: [Mutex<Spell>; Trouble::ALL.len()],
    /// Those that go on, by their bits, so that nobody takes a lock to say that all is well.
    ongoing: AtomicU32,
}

impl Troubles {
    /// It failed so often; says whether that begins it. `reason` names no key and no value.
    pub(super) fn failed(&self, trouble: Trouble, times: u64, cache: &str, reason: &dyn Display) -> bool {
        let mut spell = self.spell(trouble);
        let Turn { began, line, .. } = spell.failed(times, Instant::now());
        self.ongoing.fetch_or(trouble.bit(), Ordering::Relaxed);
        drop(spell);
        if let Some(line) = line {
            write(trouble, line, cache, Some(reason));
        }
        began
    }

    /// It went well once.
    pub(super) fn went_well(&self, trouble: Trouble) {
        if self.goes_on(trouble) {
            self.spell(trouble).went_well(Instant::now());
        }
    }

    /// Whether it has begun and is not over.
    pub(super) fn goes_on(&self, trouble: Trouble) -> bool {
        self.ongoing.load(Ordering::Relaxed) & trouble.bit() != 0
    }

    /// Whether the last that is known of it is a failure, of the last minute.
    pub(super) fn is_acute(&self, trouble: Trouble) -> bool {
        let acute = |ongoing: &Ongoing| ongoing.well_at.is_none() && ongoing.failed_at.elapsed() < SILENCE;
        self.goes_on(trouble) && self.spell(trouble).ongoing.as_ref().is_some_and(acute)
    }

    /// Writes what is due although nothing happens; says whether it is over.
    pub(super) fn look(&self, trouble: Trouble, cache: &str) -> Option<Over> {
        if !self.goes_on(trouble) {
            return None;
        }
        let mut spell = self.spell(trouble);
        let Turn { over, line, .. } = spell.look(trouble.is_known_to_end(), Instant::now());
        if over.is_some() {
            self.ongoing.fetch_and(!trouble.bit(), Ordering::Relaxed);
        }
        drop(spell);
        if let Some(line) = line {
            write(trouble, line, cache, None);
        }
        over
    }

    fn spell(&self, trouble: Trouble) -> MutexGuard<'_, Spell> {
        self.spells[trouble as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(trouble: Trouble, line: Line, cache: &str, reason: Option<&dyn Display>) {
    let ([begins, goes_on, over], trouble) = (trouble.words(), trouble.name());
    let reason = reason.map(tracing::field::display);
    match line {
        Line::Begins => warn!(cache, trouble, reason, "{begins}"),
        Line::GoesOn(failures) => warn!(cache, trouble, reason, failures, "{goes_on}"),
        Line::Over(failures, lasted) => info!(cache, trouble, failures, ?lasted, "{over}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of failures and successes at these milliseconds, with a look each half second until the end.
    fn lines(failures: &[u64], successes: &[u64], end: u64, is_known_to_end: bool) -> Vec<(u64, Line)> {
        let (began, mut spell, mut lines) = (Instant::now(), Spell::default(), Vec::new());
        for millis in 0..=end {
            let now = began + Duration::from_millis(millis);
            if successes.contains(&millis) {
                spell.went_well(now);
            }
            let failed = failures.contains(&millis).then(|| spell.failed(1, now));
            let looked = (millis % 500 == 0).then(|| spell.look(is_known_to_end, now));
            lines
                .extend([failed, looked].into_iter().flatten().filter_map(|turn| turn.line).map(|line| (millis, line)));
        }
        lines
    }

    #[test]
    fn trouble_is_told_when_it_begins_now_and_then_and_when_it_is_over() {
        let failures: Vec<u64> = (0..700).map(|number| number * 100 + 1).collect();
        let told = lines(&failures, &[71_000], 100_000, true);
        let lasted = Duration::from_millis(70_999);
        let expected = [
            (1, Line::Begins),
            (30_001, Line::GoesOn(300)),
            (60_001, Line::GoesOn(300)),
            (75_000, Line::Over(700, lasted)),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_comes_and_goes_is_told_no_more_often() {
        let failures: Vec<u64> = (0..60).map(|number| number * 10_000).collect();
        let successes: Vec<u64> = failures.iter().map(|at| at + 1).collect();
        let told = lines(&failures, &successes, 600_000, true);
        assert!(told.len() <= 2 * 600 / 30, "{told:?}");
        assert_eq!(told.iter().filter(|(_, line)| *line == Line::Begins).count(), told.len() / 2);
    }

    #[test]
    fn a_circuit_that_was_open_once_was_open_until_it_closed() {
        let over = Line::Over(1, Duration::from_secs(7));
        assert_eq!(lines(&[1], &[7_001, 8_000], 20_000, true), [(1, Line::Begins), (7_500, over)]);
    }

    #[test]
    fn a_failure_without_a_success_after_it_is_never_over() {
        assert_eq!(lines(&[1], &[], 300_000, true), [(1, Line::Begins)]);
    }

    #[test]
    fn what_nobody_says_to_go_well_is_over_when_it_was_not_heard_of_for_a_minute() {
        let told = lines(&[1, 2], &[], 100_000, false);
        let over = Line::Over(2, Duration::from_millis(1));
        assert_eq!(told, [(1, Line::Begins), (30_500, Line::GoesOn(1)), (60_500, over)]);
    }

    #[test]
    fn numbers_and_bits_are_each_troubles_own() {
        let troubles = Troubles::default();
        for (number, trouble) in Trouble::ALL.into_iter().enumerate() {
            assert_eq!(trouble as usize, number);
            assert!(!troubles.goes_on(trouble) && troubles.failed(trouble, 1, "a", &"b") && troubles.goes_on(trouble));
        }
    }
}
