//! The choices of a breaker and the arithmetic of its opening rules. It knows nothing of permits.

use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::PROBES_MAX;
use super::window::{Tally, WINDOW_CALLS_MAX, Window};
use crate::time::Instant;

/// Who decides whether calls pass: the rules or the operator (the special states of resilience4j, and forced closed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Mode {
    /// The rules decide. The default.
    #[default]
    Automatic,
    /// Every call is refused, for ever.
    ForcedOpen,
    /// Every call passes; calls are counted, and the circuit never opens.
    ForcedClosed,
    /// Every call passes and nothing is counted.
    Disabled,
    /// Every call passes; what the rules would have done is counted.
    MetricsOnly,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 5] =
        [Self::Automatic, Self::ForcedOpen, Self::ForcedClosed, Self::Disabled, Self::MetricsOnly];

    /// The name as options and metrics write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::ForcedOpen => "forced-open",
            Self::ForcedClosed => "forced-closed",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics-only",
        }
    }

    /// The mode of that name.
    ///
    /// ```
    /// use tideover_core::breaker::Mode;
    ///
    /// assert!(Mode::ALL.iter().all(|mode| Mode::from_name(mode.name()) == Some(*mode)));
    /// assert_eq!(Mode::from_name("ajar"), None);
    /// ```
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// Whether the opening rules move the circuit.
    pub(super) const fn follows_rules(self) -> bool {
        matches!(self, Self::Automatic | Self::MetricsOnly)
    }
}

/// When a breaker opens, and how it comes back.
///
/// ```
/// use core::time::Duration;
/// use tideover_core::breaker::{BreakerPolicy, Unfit};
///
/// let policy = BreakerPolicy { slow_call_rate: 50, ..BreakerPolicy::default() };
/// assert_eq!(policy.validate(), Err(Unfit::SlowCall));
/// assert_eq!(BreakerPolicy { slow_call: Duration::from_secs(2), ..policy }.validate(), Ok(()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Who decides at first. Default: automatic.
    pub mode: Mode,
    /// Opens after so many failures in a row; zero switches this rule off. Default: 5.
    pub consecutive_failures: u32,
    /// Opens when this percentage of the calls in the window failed; zero switches this rule off. Default: 50.
    pub failure_rate: u8,
    /// Opens when this percentage of the calls in the window was slow; zero switches this rule off. Default: 0.
    pub slow_call_rate: u8,
    /// A call that took so long or longer was slow, whatever came of it; zero: no call is. Default: 0.
    pub slow_call: Duration,
    /// The rates are not looked at before the window holds so many calls. Default: 20.
    pub minimum_calls: u32,
    /// Length of the sliding window of the rates; it moves in tenths. Default: 10 s.
    pub window: Duration,
    /// If not zero, the window is the last so many calls instead, at most [`WINDOW_CALLS_MAX`]. Default: 0.
    pub window_calls: u32,
    /// Wait in open after the first trip; doubles with each failed probe. Default: 1 s.
    pub open_for: Duration,
    /// No wait in open is longer, jitter aside. Default: 30 s.
    pub open_for_max: Duration,
    /// Each wait is moved by up to this percentage to either side. Default: 20.
    pub open_jitter: u8,
    /// Permitted calls in half-open, at most [`PROBES_MAX`]; all must succeed. Default: 1.
    pub probes: u32,
    /// After half-open a growing share of the calls is let through for so long; zero: all at once. Default: 0.
    pub recovery_for: Duration,
    /// The share in percent that recovery starts from. Default: 10.
    pub recovery_start: u8,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            mode: Mode::Automatic,
            consecutive_failures: 5,
            failure_rate: 50,
            slow_call_rate: 0,
            slow_call: Duration::ZERO,
            minimum_calls: 20,
            window: Duration::from_secs(10),
            window_calls: 0,
            open_for: Duration::from_secs(1),
            open_for_max: Duration::from_secs(30),
            open_jitter: 20,
            probes: 1,
            recovery_for: Duration::ZERO,
            recovery_start: 10,
        }
    }
}

/// Why a [`BreakerPolicy`] cannot be: which of its fields, and the sentence is its `Display`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfit {
    /// The rules are to decide, and all are off: it could never open.
    NoRule,
    /// `failure_rate`, `slow_call_rate`, `open_jitter` or `recovery_start` exceeds 100.
    Percentage,
    /// There is a slow-call rate, but no duration from which a call is slow.
    SlowCall,
    /// `minimum_calls` is zero, or more than the window holds.
    MinimumCalls,
    /// The time window has no length.
    Window,
    /// `window_calls` is more than [`WINDOW_CALLS_MAX`].
    WindowCalls,
    /// `open_for` is zero.
    OpenFor,
    /// `open_for_max` is shorter than `open_for`.
    OpenForMax,
    /// `probes` is zero or more than [`PROBES_MAX`].
    Probes,
    /// Recovery starts from no calls at all.
    RecoveryStart,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl core::error::Error for Unfit {}

impl Unfit {
    /// What is wrong, as a sentence whose subject is the field.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoRule => "is on, but all of its rules are off: it could never open",
            Self::Percentage => "is a percentage, at most 100",
            Self::SlowCall => "is zero, but there is a slow-call rate: say from when a call is slow",
            Self::MinimumCalls => "must be at least 1, and no more than the window holds",
            Self::Window => "must be longer than zero",
            Self::WindowCalls => "must be at most 1024",
            Self::OpenFor => "must be longer than zero",
            Self::OpenForMax => "is shorter than the first wait in open",
            Self::Probes => "must be from 1 to 16",
            Self::RecoveryStart => "must be from 1 to 100",
        }
    }
}

impl BreakerPolicy {
    /// Refuses what contradicts itself or exceeds a limit.
    ///
    /// # Errors
    ///
    /// [`Unfit`] with the first that cannot be.
    pub fn validate(&self) -> Result<(), Unfit> {
        let no_rule = self.consecutive_failures == 0 && self.failure_rate == 0 && self.slow_call_rate == 0;
        let percentages = [self.failure_rate, self.slow_call_rate, self.open_jitter, self.recovery_start];
        let held = if self.window_calls == 0 { u32::MAX } else { self.window_calls };
        let refusals = [
            (self.mode.follows_rules() && no_rule, Unfit::NoRule),
            (percentages.into_iter().any(|percentage| percentage > 100), Unfit::Percentage),
            (self.slow_call_rate > 0 && self.slow_call.is_zero(), Unfit::SlowCall),
            (self.window_calls > WINDOW_CALLS_MAX, Unfit::WindowCalls),
            (self.window_calls == 0 && self.window.is_zero(), Unfit::Window),
            (self.minimum_calls == 0 || self.minimum_calls > held, Unfit::MinimumCalls),
            (self.open_for.is_zero(), Unfit::OpenFor),
            (self.open_for_max < self.open_for, Unfit::OpenForMax),
            (self.probes == 0 || self.probes > PROBES_MAX, Unfit::Probes),
            (!self.recovery_for.is_zero() && self.recovery_start == 0, Unfit::RecoveryStart),
        ];
        refusals.into_iter().find(|(refused, _)| *refused).map_or(Ok(()), |(_, unfit)| Err(unfit))
    }

    /// What a breaker that was not validated works with: every limit is kept, nothing divides by zero.
    pub(super) fn within_limits(mut self) -> Self {
        self.window_calls = self.window_calls.min(WINDOW_CALLS_MAX);
        let held = if self.window_calls == 0 { u32::MAX } else { self.window_calls };
        self.minimum_calls = self.minimum_calls.clamp(1, held);
        self.open_jitter = self.open_jitter.min(100);
        self.probes = self.probes.clamp(1, PROBES_MAX);
        self.recovery_start = self.recovery_start.min(100);
        self
    }

    #[inline]
    pub(super) fn is_slow(&self, took: Duration) -> bool {
        !self.slow_call.is_zero() && took >= self.slow_call
    }

    /// An empty window as the rates need it, `from` some moment on.
    pub(super) fn empty_window(&self, from: Instant) -> Window {
        if self.failure_rate == 0 && self.slow_call_rate == 0 {
            return Window::Off;
        }
        Window::new(self.window, self.window_calls, from)
    }

    /// Whether a rate over the window has reached its threshold (resilience4j: equal or greater).
    pub(super) const fn is_tripped_by(&self, window: Tally) -> bool {
        window.calls >= self.minimum_calls
            && (reaches(window.failures, window.calls, self.failure_rate)
                || reaches(window.slow, window.calls, self.slow_call_rate))
    }

    /// Whether so many slow probes are too many, measured against all that half-open permits.
    pub(super) const fn is_reopened_by(&self, slow_probes: u32) -> bool {
        reaches(slow_probes, self.probes, self.slow_call_rate)
    }
}

/// Whether `some` are at least `percentage` of `all`; a percentage of zero is a rule switched off.
const fn reaches(some: u32, all: u32, percentage: u8) -> bool {
    percentage > 0 && some as u64 * 100 >= all as u64 * percentage as u64
}
