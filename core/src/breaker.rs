//! The circuit breaker: whether a dependency may be asked now.
//!
//! ```text
//!             a rule is tripped            the wait is over
//!   closed ----------------------> open ---------------------> half-open
//!     ^                           ^    ^                         |    |
//!     |                           |    +--- a probe failed, or --+    |
//!     |   a rule is tripped again |         too many were slow        |
//!     |                           |                                   |
//!     +------- recovering --------+                                   |
//!   recovery     ^                 all permitted probes succeeded     |
//!   is over      +----------------------------------------------------+
//! ```
//!
//! Recovering is a closed state too; without `recovery_for` it is over at once.
//!
//! **Opening.** Three rules, each can be switched off, any may open: failures in a row, failure rate, slow-call rate.
//! The rates are taken over a sliding window, either of time (it moves in tenths) or of the last so many calls, and
//! count for nothing before it holds `minimum_calls`. A call is slow by its duration alone; a slow success is no
//! failure and ends a row of failures. The rules are looked at after each call that was counted, successes included:
//! the one that completes the minimum may trip a rate.
//!
//! **Permits** are leases with an epoch and a deadline. Every permit is answered with one of three verdicts; "no
//! verdict" gives it back. Each transition starts a new epoch, and a report from an older one changes nothing. A
//! probe whose lease ran out, [`LEASE_GRACE`] after its deadline, is given back too, so half-open always drains.
//!
//! **Coming back.** Half-open admits exactly `probes` calls. One failure reopens, and so do slow probes as soon as
//! they reach the slow-call rate of all that are permitted. Each such wait in open is twice the one before, up to a
//! limit and moved by jitter. When all probes succeeded, an optional recovery admits a growing share of the calls;
//! a trip during it takes the longer wait too.
//!
//! **Overrides.** See [`Mode`]. A change of mode and a [`Breaker::reset`] start over: closed, nothing counted, a new
//! epoch. Under [`Mode::MetricsOnly`] the machine runs as ever, and what it refuses passes all the same.
//!
//! | choice | default |
//! |---|---|
//! | failures in a row / failure rate / slow-call rate | 5 / 50 % / off |
//! | window, minimum calls | 10 s, 20 |
//! | wait in open | 1 s, doubling to 30 s, ±20 % |
//! | probes | 1 |
//! | recovery | off; from 10 % if on |
//!
//! Words and thresholds follow the documentation of resilience4j ("CircuitBreaker"). The three states are those of
//! Nygard, "Release It!" (2nd edition, chapter 5). That a dependency which comes back gets its load in growing shares
//! follows "Addressing Cascading Failures" in "Site Reliability Engineering" (chapter 22). Leases, growing waits and
//! promised moments are ours.
//!
//! It allocates nothing, knows no clock and no lock: whoever shares a breaker brings the lock.

#[cfg(test)]
mod enumeration;
mod probes;
mod recovery;
mod rules;
mod saved;
#[cfg(test)]
mod tests;
mod window;

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::entropy::{Entropy, scale};
use crate::time::Instant;

use self::probes::Probes;
pub use self::probes::{LEASE_GRACE, PROBES_MAX};
use self::recovery::{Recovery, Share};
pub use self::rules::{BreakerPolicy, Mode, Unfit};
pub use self::saved::Saved;
pub use self::window::WINDOW_CALLS_MAX;
use self::window::{Sample, Window};

/// The right to one call. Give it back through [`Breaker::report`], whatever happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a permit that is never reported keeps its slot until its lease runs out"]
pub struct Permit {
    epoch: u32,
    lease: u32,
}

/// The lease of a call that passed a closed circuit.
const NO_LEASE: u32 = 0;
/// The lease of a call that the rules refused and metrics-only let pass: it is counted and decides nothing.
const REFUSED: u32 = u32::MAX;

/// What a permitted call says of the dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It answered.
    Success,
    /// It did not answer, or not in time.
    Failure,
    /// Nothing can be said: the call was cancelled before it told anything. Gives the permit back.
    None,
}

/// The breaker refuses, and says until when.
///
/// Nothing passes before that instant. At it a call passes, unless another has taken the place: the one slot of
/// half-open, or the last of recovery's next tenth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotUntil(
    /// The first instant at which a call may be let through. In half-open with all probes out: the moment at
    /// which the first lease runs out. [`Instant::NEVER`] if forced open.
    pub Instant,
);

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are refused until the instant given.
    Open {
        /// When the first probe may pass.
        until: Instant,
    },
    /// A few probes decide.
    HalfOpen,
}

impl State {
    /// The state as a gauge of metrics: 0 closed, 1 open, 2 half-open.
    ///
    /// ```
    /// use tideover_core::breaker::State;
    ///
    /// assert_eq!((State::Closed.gauge(), State::HalfOpen.gauge()), (0, 2));
    /// ```
    #[must_use]
    pub const fn gauge(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Open { .. } => 1,
            Self::HalfOpen => 2,
        }
    }
}

/// What a breaker has counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BreakerStats {
    /// Times it went from closed to open.
    pub trips: u64,
    /// Times it went from half-open to closed.
    pub recoveries: u64,
    /// Calls it refused.
    pub refused: u64,
    /// Calls it would have refused, had it not been for metrics-only.
    pub would_refuse: u64,
    /// Successes reported and counted.
    pub successes: u64,
    /// Failures reported and counted.
    pub failures: u64,
    /// Slow calls among both.
    pub slow: u64,
}

impl BreakerStats {
    const fn turned_away(&self) -> u64 {
        self.refused + self.would_refuse
    }

    fn each_mut(&mut self) -> [&mut u64; 7] {
        let Self { trips, recoveries, refused, would_refuse, successes, failures, slow } = self;
        [trips, recoveries, refused, would_refuse, successes, failures, slow]
    }
}

/// A look at a breaker, for health reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerReport {
    /// Where it stands, as callers find it; see [`Breaker::state`].
    pub state: State,
    /// Who decides.
    pub mode: Mode,
    /// Since when; see [`Breaker::state_since`].
    pub since: Instant,
    /// When the next probe may pass, at once if that is over; `None` if the rules have not opened the circuit. Under
    /// metrics-only it says what would be.
    pub next_probe: Option<Instant>,
    /// Until when a growing share of the calls is let through, if it has come back from an outage.
    pub recovers_until: Option<Instant>,
    /// What it has counted.
    pub stats: BreakerStats,
}

/// One dependency's breaker; see the [module](self).
///
/// ```
/// use core::time::Duration;
/// use tideover_core::Instant;
/// use tideover_core::breaker::{Breaker, BreakerPolicy, State, Verdict};
///
/// let policy = BreakerPolicy { consecutive_failures: 2, open_jitter: 0, ..BreakerPolicy::default() };
/// let mut breaker = Breaker::new(policy, 1);
/// let now = Instant::ZERO;
/// for _ in 0..2 {
///     let permit = breaker.try_acquire(now, now).unwrap();
///     breaker.report(permit, Verdict::Failure, Duration::ZERO, now);
/// }
/// let refusal = breaker.try_acquire(now, now).unwrap_err();
/// assert_eq!(refusal.0, now + Duration::from_secs(1));
/// assert!(breaker.try_acquire(refusal.0, refusal.0).is_ok());
/// assert_eq!(breaker.state(), State::HalfOpen);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// Whether every call passes without further question: what most calls find.
    unguarded: bool,
    mode: Mode,
    epoch: u32,
    consecutive: u32,
    stats: BreakerStats,
    window: Window,
    phase: Phase,
    since: Instant,
    policy: BreakerPolicy,
    entropy: Entropy,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "the breaker allocates nothing")]
enum Phase {
    Closed { recovery: Option<Recovery> },
    Open { until: Instant, outage: Outage },
    HalfOpen { probes: Probes, outage: Outage },
}

/// What is remembered from one wait in open to the next, and to recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outage {
    /// Waits before the present one.
    reopened: u32,
    /// How long the present wait lasts, and how many calls had been turned away when it began.
    wait: Duration,
    turned_away: u64,
}

impl Breaker {
    /// A closed breaker whose jitter follows from `seed`. Limits that `policy` exceeds are kept all the same;
    /// [`BreakerPolicy::validate`] names them.
    #[must_use]
    pub fn new(policy: BreakerPolicy, seed: u64) -> Self {
        let policy = policy.within_limits();
        Self {
            unguarded: policy.mode != Mode::ForcedOpen,
            mode: policy.mode,
            epoch: 0,
            consecutive: 0,
            stats: BreakerStats::default(),
            window: policy.empty_window(Instant::ZERO),
            phase: Phase::Closed { recovery: None },
            since: Instant::ZERO,
            policy,
            entropy: Entropy::from_seed(seed),
        }
    }

    /// A breaker that gives just this answer, for replays.
    #[cfg(feature = "alloc")]
    pub(crate) fn answering(policy: BreakerPolicy, refusal: Option<NotUntil>) -> Self {
        let mode = if refusal.is_some() { Mode::Automatic } else { Mode::Disabled };
        let mut breaker = Self::new(BreakerPolicy { mode, ..policy }, 0);
        if let Some(NotUntil(until)) = refusal {
            let outage = Outage { reopened: 0, wait: Duration::ZERO, turned_away: 0 };
            breaker.enter(Phase::Open { until, outage }, Instant::ZERO);
        }
        breaker
    }

    /// What [`Breaker::try_acquire`] would say now, without asking: `None` if it would let a call pass.
    #[must_use]
    pub fn refusal(&self, now: Instant) -> Option<NotUntil> {
        if self.unguarded { None } else { self.clone().try_acquire(now, now).err() }
    }

    /// Asks for the right to one call that will be over by `deadline`.
    ///
    /// # Errors
    ///
    /// [`NotUntil`] while open, in half-open while all probes are out, and in recovery when the tenth's share has
    /// passed.
    #[inline]
    pub fn try_acquire(&mut self, now: Instant, deadline: Instant) -> Result<Permit, NotUntil> {
        if self.unguarded {
            return Ok(Permit { epoch: self.epoch, lease: NO_LEASE });
        }
        self.ask(now, deadline)
    }

    #[inline(never)]
    fn ask(&mut self, now: Instant, deadline: Instant) -> Result<Permit, NotUntil> {
        if self.mode == Mode::ForcedOpen {
            self.stats.refused += 1;
            return Err(NotUntil(Instant::NEVER));
        }
        match self.ask_rules(now, deadline) {
            Ok(lease) => Ok(Permit { epoch: self.epoch, lease }),
            Err(_) if self.mode == Mode::MetricsOnly => {
                self.stats.would_refuse += 1;
                Ok(Permit { epoch: self.epoch, lease: REFUSED })
            }
            Err(until) => {
                self.stats.refused += 1;
                Err(NotUntil(until))
            }
        }
    }

    fn ask_rules(&mut self, now: Instant, deadline: Instant) -> Result<u32, Instant> {
        if let Phase::Open { until, outage } = self.phase {
            if now < until {
                return Err(until);
            }
            self.enter(Phase::HalfOpen { probes: Probes::default(), outage }, now);
        }
        match &mut self.phase {
            Phase::HalfOpen { probes, .. } => probes.lease(self.policy.probes, now, deadline),
            Phase::Closed { recovery } => match recovery.as_mut().map_or(Share::All, |recovery| recovery.ask(now)) {
                Share::Passes => Ok(NO_LEASE),
                Share::NotUntil(until) => Err(until),
                Share::All => {
                    *recovery = None;
                    self.unguarded = true;
                    Ok(NO_LEASE)
                }
            },
            Phase::Open { until, .. } => Err(*until),
        }
    }

    /// Gives a permit back with what its call says and how long it `took`. Late reports, from an older epoch or
    /// after the lease ran out, change nothing.
    #[inline]
    pub fn report(&mut self, permit: Permit, verdict: Verdict, took: Duration, now: Instant) {
        if permit.epoch != self.epoch || self.mode == Mode::Disabled {
            return;
        }
        let sample = Sample { failed: verdict == Verdict::Failure, slow: self.policy.is_slow(took) };
        // What nearly all calls are is told apart first, so that the rest of it is compiled away.
        if permit.lease == NO_LEASE && verdict == Verdict::Success && !sample.slow {
            return self.count_call(Sample { failed: false, slow: false }, now);
        }
        self.report_unusual(permit.lease, (verdict != Verdict::None).then_some(sample), now);
    }

    #[inline(never)]
    fn report_unusual(&mut self, lease: u32, sample: Option<Sample>, now: Instant) {
        match (lease, sample) {
            (NO_LEASE, None) => {}
            (NO_LEASE, Some(sample)) => self.count_call(sample, now),
            (lease, sample) => self.count_leased(lease, sample, now),
        }
    }

    /// A call that passed a closed circuit.
    #[inline]
    fn count_call(&mut self, sample: Sample, now: Instant) {
        self.count(sample);
        if sample.failed {
            self.consecutive = self.consecutive.saturating_add(1);
        } else if self.consecutive > 0 {
            self.consecutive = 0;
        }
        self.window.count(sample, now);
        if sample.failed || self.window.is_blemished() {
            self.apply_rules(now);
        }
    }

    #[inline(never)]
    fn apply_rules(&mut self, now: Instant) {
        let in_a_row = self.policy.consecutive_failures;
        let is_row_full = in_a_row > 0 && self.consecutive >= in_a_row;
        if self.mode.follows_rules() && (is_row_full || self.policy.is_tripped_by(self.window.tally())) {
            self.trip(now);
        }
    }

    fn trip(&mut self, now: Instant) {
        let recovery = if let Phase::Closed { recovery } = &self.phase { recovery.as_ref() } else { None };
        let relapse = recovery.filter(|recovery| now < recovery.ends);
        let reopened = relapse.map_or(0, |recovery| recovery.reopened.saturating_add(1));
        self.stats.trips += 1;
        self.open(reopened, now);
    }

    /// A probe, or a call that only metrics-only let pass.
    fn count_leased(&mut self, lease: u32, sample: Option<Sample>, now: Instant) {
        let is_probe = lease != REFUSED;
        if let Phase::HalfOpen { probes, .. } = &mut self.phase
            && is_probe
            && !probes.give_back(lease, now)
        {
            return;
        }
        let Some(sample) = sample else { return };
        self.count(sample);
        if is_probe {
            self.judge(sample, now);
        }
    }

    /// What a probe means for the circuit.
    fn judge(&mut self, sample: Sample, now: Instant) {
        let Phase::HalfOpen { probes, outage } = &mut self.phase else { return };
        probes.slow += u32::from(sample.slow);
        if sample.failed || self.policy.is_reopened_by(probes.slow) {
            let reopened = outage.reopened.saturating_add(1);
            return self.open(reopened, now);
        }
        probes.succeeded += 1;
        if probes.succeeded == self.policy.probes {
            let outage = *outage;
            self.stats.recoveries += 1;
            self.enter(Phase::Closed { recovery: self.recovery_after(outage, now) }, now);
        }
    }

    fn recovery_after(&self, outage: Outage, now: Instant) -> Option<Recovery> {
        let BreakerPolicy { recovery_for, recovery_start, .. } = self.policy;
        let asked = self.stats.turned_away() - outage.turned_away;
        let fresh = Recovery::new(recovery_for, recovery_start, now, asked, outage.wait);
        (!recovery_for.is_zero()).then_some(Recovery { reopened: outage.reopened, ..fresh })
    }

    #[inline]
    const fn count(&mut self, sample: Sample) {
        if sample.failed {
            self.stats.failures += 1;
        } else {
            self.stats.successes += 1;
        }
        if sample.slow {
            self.stats.slow += 1;
        }
    }

    fn open(&mut self, reopened: u32, now: Instant) {
        let doubled = scale(self.policy.open_for, 1 << reopened.min(30), 1);
        let wait = self.entropy.around(doubled.min(self.policy.open_for_max), self.policy.open_jitter);
        let outage = Outage { reopened, wait, turned_away: self.stats.turned_away() };
        self.enter(Phase::Open { until: now + wait, outage }, now);
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.unguarded = match self.mode {
            Mode::Automatic | Mode::MetricsOnly => matches!(phase, Phase::Closed { recovery: None }),
            Mode::ForcedClosed | Mode::Disabled => true,
            Mode::ForcedOpen => false,
        };
        self.phase = phase;
        self.epoch = self.epoch.wrapping_add(1);
        self.consecutive = 0;
        self.window = self.policy.empty_window(now);
        self.since = now;
    }

    /// Lets the operator decide, or the rules again. A change starts over as [`Breaker::reset`] does; the mode that
    /// it is in already changes nothing.
    ///
    /// ```
    /// use tideover_core::Instant;
    /// use tideover_core::breaker::{Breaker, BreakerPolicy, Mode};
    ///
    /// let mut breaker = Breaker::new(BreakerPolicy::default(), 1);
    /// breaker.set_mode(Mode::ForcedOpen, Instant::ZERO);
    /// assert_eq!(breaker.try_acquire(Instant::ZERO, Instant::ZERO).unwrap_err().0, Instant::NEVER);
    /// breaker.set_mode(Mode::Automatic, Instant::ZERO);
    /// assert!(breaker.try_acquire(Instant::ZERO, Instant::ZERO).is_ok());
    /// ```
    pub fn set_mode(&mut self, mode: Mode, now: Instant) {
        if mode != self.mode {
            self.mode = mode;
            self.reset(now);
        }
    }

    /// Starts over: closed, nothing counted in the window, a new epoch. The mode stays, and so do the stats.
    pub fn reset(&mut self, now: Instant) {
        self.enter(Phase::Closed { recovery: None }, now);
    }

    /// Where the breaker stands, as callers find it: forced open is open for ever; forced closed, disabled and
    /// metrics-only are closed. Open stays open until a call is let through as a probe.
    #[must_use]
    pub const fn state(&self) -> State {
        match self.mode {
            Mode::Automatic => self.state_by_rules(),
            Mode::ForcedOpen => State::Open { until: Instant::NEVER },
            Mode::ForcedClosed | Mode::Disabled | Mode::MetricsOnly => State::Closed,
        }
    }

    /// Where the rules have brought it. Differs from [`Breaker::state`] under metrics-only, where it says what would
    /// be, and is closed while the operator decides.
    #[must_use]
    pub const fn state_by_rules(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until, .. } => State::Open { until },
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Since when it has been in the state of [`Breaker::state_by_rules`], or in a mode that has none.
    #[must_use]
    pub const fn state_since(&self) -> Instant {
        self.since
    }

    /// Whether it is closed and admits a growing share of the calls.
    #[must_use]
    pub fn is_recovering(&self, now: Instant) -> bool {
        matches!(&self.phase, Phase::Closed { recovery: Some(recovery) } if now < recovery.ends)
    }

    /// When the next probe may pass, `now` if it may already; `None` if the rules have not opened the circuit.
    #[must_use]
    pub fn next_probe(&self, now: Instant) -> Option<Instant> {
        match &self.phase {
            Phase::Closed { .. } => None,
            Phase::Open { until, .. } => Some(now.max(*until)),
            Phase::HalfOpen { probes, .. } => Some(probes.free_at(self.policy.probes, now).unwrap_or(now)),
        }
    }

    /// A look at all of it.
    #[must_use]
    pub fn look(&self) -> BreakerReport {
        let recovers_until = match &self.phase {
            Phase::Closed { recovery } => recovery.as_ref().map(|recovery| recovery.ends),
            _ => None,
        };
        // Seen from the beginning of time every lease is still held, so that this names the first one to run out.
        let next_probe = self.next_probe(Instant::ZERO);
        let (state, mode, since, stats) = (self.state(), self.mode, self.since, self.stats);
        BreakerReport { state, mode, since, next_probe, recovers_until, stats }
    }

    /// Who decides.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The counts.
    #[must_use]
    pub const fn stats(&self) -> BreakerStats {
        self.stats
    }
}
