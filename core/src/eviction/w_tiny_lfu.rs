//! W-TinyLFU: what arrives stands in a window, least recently used first; who leaves the window enters the main part
//! only if it was asked for more often than who would leave there. The main part keeps apart who was hit in it
//! (protected, four fifths) and who was not (probation).
//!
//! Einziger, Friedman, Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM TOS 2017. A window of fixed size
//! fails where keys are reused soon and then never again; so its size climbs towards the better hit ratio (Einziger,
//! Eytan, Friedman, Manes, "Adaptive Software Cache Management", Middleware 2018).

use super::Evict;
use super::sketch::Sketch;
use crate::storage::{Column, Links, Queue, Storage};

/// Shares are counted in so many parts of the whole.
const WHOLE: i64 = 10_000;
/// The window's share at first: a window that is too large costs little until it has shrunk, one that is too small may
/// cost everything until it has grown.
const WINDOW: i64 = 2_000;
const WINDOW_MIN: i64 = 100;
const WINDOW_MAX: i64 = 8_000;
/// The share of the protected in the main part, in percent.
const PROTECTED: u64 = 80;
/// The first step of a climb.
const STEP: i64 = 625;
/// Each step is so many percent of the one before.
const STEP_DECAY: i64 = 98;
/// A change of the hit ratio by so much starts the climb anew.
const RESTART: i64 = 500;
/// Requests for each entry held between two steps.
const SAMPLE: u64 = 10;
/// Rows that move from a window that has become too large, at each arrival.
const MOVES: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Part {
    #[default]
    Window,
    Probation,
    Protected,
}

#[derive(Clone)]
pub(crate) struct WTinyLfu<S: Storage> {
    links: Links<S>,
    parts: Column<Part, S>,
    window: Queue,
    probation: Queue,
    protected: Queue,
    sketch: Sketch<S>,
    climb: Climb,
    capacity: u32,
}

/// The search for the window's size.
#[derive(Debug, Clone)]
struct Climb {
    window: i64,
    step: i64,
    /// The hit ratio of the sample before.
    ratio: i64,
    hits: u64,
    misses: u64,
}

impl Climb {
    fn new() -> Self {
        Self { window: WINDOW, step: STEP, ratio: 0, hits: 0, misses: 0 }
    }

    /// Takes a step when the sample is full: on if the last one did good, back if it did harm.
    fn step(&mut self, held: u64) {
        let requests = self.hits + self.misses;
        if requests < SAMPLE * held.max(1) {
            return;
        }
        let ratio = (self.hits.saturating_mul(WHOLE as u64) / requests) as i64;
        let change = ratio - self.ratio;
        let step = if change >= 0 { self.step } else { -self.step };
        self.window = (self.window + step).clamp(WINDOW_MIN, WINDOW_MAX);
        self.step = if change.abs() >= RESTART { STEP * step.signum() } else { step * STEP_DECAY / 100 };
        (self.ratio, self.hits, self.misses) = (ratio, 0, 0);
    }
}

impl<S: Storage> WTinyLfu<S> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            links: Links::new(capacity),
            parts: Column::new(capacity),
            window: Queue::default(),
            probation: Queue::default(),
            protected: Queue::default(),
            sketch: Sketch::new(capacity),
            climb: Climb::new(),
            capacity: capacity as u32,
        }
    }

    fn main(&self) -> u64 {
        u64::from(self.probation.len()) + u64::from(self.protected.len())
    }

    /// How many rows the window should have. Its share is of what is held, so that it is right also where weight is
    /// what limits.
    fn window_max(&self) -> u32 {
        let held = u64::from(self.window.len()) + self.main();
        ((held * self.climb.window as u64 / WHOLE as u64) as u32).max(1)
    }

    fn enter(&mut self, row: u32, part: Part) {
        self.parts.set(row, part);
        let queue = match part {
            Part::Window => &mut self.window,
            Part::Probation => &mut self.probation,
            Part::Protected => &mut self.protected,
        };
        self.links.push(queue, row);
    }

    /// From the window to probation, without comparison.
    fn move_on(&mut self) {
        for _ in 0..MOVES {
            if self.window.len() <= self.window_max() {
                return;
            }
            if let Some(row) = self.window.oldest() {
                self.removed(row);
                self.enter(row, Part::Probation);
            }
        }
    }

    fn protect(&mut self, row: u32) {
        self.removed(row);
        self.enter(row, Part::Protected);
        if u64::from(self.protected.len()) > (self.main() * PROTECTED / 100).max(1)
            && let Some(oldest) = self.protected.oldest()
        {
            self.removed(oldest);
            self.enter(oldest, Part::Probation);
        }
    }
}

impl<S: Storage> Evict for WTinyLfu<S> {
    #[inline(never)]
    fn inserted(&mut self, row: u32, hash: u64) {
        self.sketch.count(hash);
        self.climb.misses += 1;
        self.enter(row, Part::Window);
        self.move_on();
        self.climb.step(u64::from(self.window.len()) + self.main());
    }

    fn hit(&mut self, row: u32, hash: u64) {
        self.sketch.count(hash);
        self.climb.hits += 1;
        match self.parts.get(row) {
            Part::Window => self.links.renew(&mut self.window, row),
            Part::Probation => self.protect(row),
            Part::Protected => self.links.renew(&mut self.protected, row),
        }
    }

    fn removed(&mut self, row: u32) {
        let queue = match self.parts.get(row) {
            Part::Window => &mut self.window,
            Part::Probation => &mut self.probation,
            Part::Protected => &mut self.protected,
        };
        self.links.remove(queue, row);
    }

    #[inline(never)]
    fn victim(&mut self, hash_of: impl Fn(u32) -> u64) -> Option<(u32, u64)> {
        let incumbent = self.probation.oldest().or(self.protected.oldest());
        // One more is about to enter the window.
        let candidate = self.window.oldest().filter(|_| self.window.len() + 1 > self.window_max());
        let with_hash = |row| (row, hash_of(row));
        let victim = match (candidate, incumbent) {
            (Some(candidate), Some(incumbent)) => {
                let (candidate, incumbent) = (with_hash(candidate), with_hash(incumbent));
                if self.sketch.frequency(candidate.1) > self.sketch.frequency(incumbent.1) {
                    self.removed(candidate.0);
                    self.enter(candidate.0, Part::Probation);
                    incumbent
                } else {
                    candidate
                }
            }
            (candidate, incumbent) => with_hash(candidate.or(incumbent).or(self.window.oldest())?),
        };
        self.removed(victim.0);
        Some(victim)
    }

    fn clear(&mut self) {
        *self = Self::new(self.capacity as usize);
    }

    fn bytes(&self) -> usize {
        self.links.bytes() + self.parts.bytes() + self.sketch.bytes()
    }
}
