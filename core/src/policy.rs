//! Everything that can be chosen, in one flat table: field, type, default and documentation are written once, and
//! the struct, [`Policy::OPTIONS`], [`Policy::set`] and [`Policy::text`] are made from it.

use alloc::string::{String, ToString};
use core::time::Duration;

use crate::backoff::{Backoff, Jitter};
use crate::breaker::BreakerPolicy;
use crate::entry::Windows;
use crate::failure::Refusal;
use crate::time::{Text, parse_duration};
use crate::value::TAGS_MAX;

macro_rules! policy {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr;)+) => {
        /// The choices of a cache. Every field is also an option of that name, as text; see [`Policy::set`].
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Policy {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for Policy {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Policy {
            /// Name, default and meaning of each option.
            pub const OPTIONS: &'static [OptionDoc] = &[
                $(OptionDoc { name: stringify!($name), doc: concat!($($doc,)+) },)+
            ];

            /// Sets the option `name` from text: durations as `1h30m`, numbers, percentages, `true` or `false`.
            ///
            /// # Errors
            ///
            /// [`PolicyError`] naming the option when it does not exist or the text is not of its form. What is
            /// contradictory as a whole is refused by [`Policy::validate`].
            ///
            /// ```
            /// use core::time::Duration;
            /// use tideover_core::Policy;
            ///
            /// let mut policy = Policy::default();
            /// policy.set("stale_if_error", "1h")?;
            /// assert_eq!(policy.stale_if_error, Duration::from_secs(3600));
            /// assert_eq!(policy.set("tll", "1h").unwrap_err().to_string(), "tll: there is no such option");
            /// # Ok::<(), tideover_core::PolicyError>(())
            /// ```
            pub fn set(&mut self, name: &str, text: &str) -> Result<(), PolicyError> {
                match name {
                    $(stringify!($name) => match OptionText::read(text) {
                        Ok(value) => self.$name = value,
                        Err(reason) => return Err(PolicyError::new(stringify!($name), reason)),
                    },)+
                    _ => return Err(PolicyError::new(name, "there is no such option")),
                }
                Ok(())
            }

            /// The value of the option `name` as [`Policy::set`] reads it; `None` if there is no such option.
            #[must_use]
            pub fn text(&self, name: &str) -> Option<String> {
                match name {
                    $(stringify!($name) => Some(OptionText::write(&self.$name)),)+
                    _ => None,
                }
            }
        }
    };
}

policy! {
    /// Freshness lifetime of entries that bring none of their own; 0 never expires.
    ttl: Option<Duration> = Some(Duration::from_secs(300));
    /// How long after ttl stale is served at once while one refresh runs (RFC 5861 section 3).
    stale_while_revalidate: Duration = Duration::ZERO;
    /// How long after ttl stale stands in when the origin is unavailable (RFC 5861 section 4).
    stale_if_error: Duration = Duration::ZERO;
    /// How long after ttl an entry is kept as the base of a conditional refresh.
    keep: Duration = Duration::ZERO;
    /// Each ttl is moved by up to this percentage to either side, so that what was written together does not expire together.
    ttl_jitter: u8 = 0;
    /// An entry that is not read for so long leaves memory; 0 switches this off.
    time_to_idle: Option<Duration> = None;
    /// Entries in memory; past it the least recently used leaves.
    entries_max: u32 = 10_000;
    /// Longest key in bytes.
    key_bytes_max: u32 = 1_024;
    /// Largest value in bytes.
    value_bytes_max: u32 = 8 * 1024 * 1024;
    /// No caller waits longer, whatever hangs.
    call_deadline: Duration = Duration::from_secs(30);
    /// A caller that waits this long gets something stale if there is any inside its stale-if-error window, and the load goes on behind it; 0 switches this off.
    soft_deadline: Option<Duration> = None;
    /// How long the origin's word that there is no such thing is remembered, if it says nothing else; 0 forgets it at once.
    negative_ttl: Duration = Duration::from_secs(10);
    /// How long it is remembered that the origin answered with an error; 0 switches this off.
    answer_ttl: Duration = Duration::ZERO;
    /// How long it is remembered that a key could not be loaded; 0 switches this off.
    unavailable_ttl: Duration = Duration::ZERO;
    /// Whether there is a shared store behind memory.
    store: bool = false;
    /// Whether a bounded fallback store stands in while the shared one is away.
    fallback: bool = true;
    /// Limit of a store read, attempts and waits included.
    store_read_deadline: Duration = Duration::from_millis(250);
    /// Limit of a store write or removal, attempts and waits included.
    store_write_deadline: Duration = Duration::from_secs(1);
    /// Attempts at a store operation in all.
    store_attempts: u32 = 2;
    /// Limit of one attempt to load.
    load_deadline: Duration = Duration::from_secs(10);
    /// Attempts at a load in all.
    load_attempts: u32 = 1;
    /// Wait before the second attempt; doubles with each further one.
    retry_base: Duration = Duration::from_millis(100);
    /// No wait between attempts is longer.
    retry_cap: Duration = Duration::from_secs(10);
    /// How waits between attempts are spread: none, full, equal or decorrelated.
    retry_jitter: Jitter = Jitter::Full;
    /// A flight that is older has lost its right to the key: a new leader is elected.
    leader_age_max: Duration = Duration::from_secs(30);
    /// Callers that may wait for one flight.
    waiters_max: u32 = 100_000;
    /// Flights under way at once, writes included.
    flights_max: u32 = 100_000;
    /// Pause after a failed refresh; doubles with each further failure in a row.
    refresh_gap: Duration = Duration::from_secs(1);
    /// No pause after a failed refresh is longer.
    refresh_gap_max: Duration = Duration::from_secs(30);
    /// How long a key is remembered whose result must not be shared.
    private_for: Duration = Duration::from_secs(10);
    /// Keys whose writes and removals are remembered while the store is away; past it the whole namespace is cleared when the store is back.
    journal_max: u32 = 10_000;
    /// Whether the store has a circuit breaker.
    store_breaker: bool = true;
    /// The store's circuit opens after so many failures in a row; 0 switches this rule off.
    store_breaker_failures: u32 = 5;
    /// The store's circuit opens when this percentage of the calls in the window failed; 0 switches this rule off.
    store_breaker_rate: u8 = 50;
    /// First wait in open of the store's circuit; doubles with each failed probe.
    store_breaker_open_for: Duration = Duration::from_secs(1);
    /// Longest wait in open of the store's circuit.
    store_breaker_open_for_max: Duration = Duration::from_secs(30);
    /// Probes of the store permitted at once in half-open; all must succeed.
    store_breaker_probes: u32 = 1;
    /// Whether the loader has a circuit breaker.
    load_breaker: bool = true;
    /// The loader's circuit opens after so many failures in a row; 0 switches this rule off.
    load_breaker_failures: u32 = 5;
    /// The loader's circuit opens when this percentage of the calls in the window failed; 0 switches this rule off.
    load_breaker_rate: u8 = 50;
    /// First wait in open of the loader's circuit; doubles with each failed probe.
    load_breaker_open_for: Duration = Duration::from_secs(1);
    /// Longest wait in open of the loader's circuit.
    load_breaker_open_for_max: Duration = Duration::from_secs(30);
    /// Probes of the loader permitted at once in half-open; all must succeed.
    load_breaker_probes: u32 = 1;
    /// The rate of either breaker counts for nothing before the window holds so many calls.
    breaker_minimum_calls: u32 = 20;
    /// Length of the sliding window of either breaker's rate.
    breaker_window: Duration = Duration::from_secs(10);
    /// Waits in open and pauses after failed refreshes are moved by up to this percentage to either side.
    wait_jitter: u8 = 20;
}

/// One row of the table of options.
#[derive(Debug, Clone, Copy)]
pub struct OptionDoc {
    /// The name, as in [`Policy`].
    pub name: &'static str,
    /// What it means.
    pub doc: &'static str,
}

impl OptionDoc {
    /// The default as text.
    #[must_use]
    pub fn default_text(&self) -> String {
        Policy::default().text(self.name).unwrap_or_default()
    }
}

/// A choice that cannot be: which option, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// The option's name as it was given.
    pub option: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl PolicyError {
    fn new(option: &str, reason: &'static str) -> Self {
        Self { option: option.to_string(), reason }
    }
}

impl core::fmt::Display for PolicyError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.option, self.reason)
    }
}

impl core::error::Error for PolicyError {}

impl Policy {
    /// Refuses what contradicts itself or could wait for ever.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] naming the first option that cannot be.
    pub fn validate(&self) -> Result<(), PolicyError> {
        let at_least_one = [
            ("entries_max", self.entries_max),
            ("key_bytes_max", self.key_bytes_max),
            ("store_attempts", self.store_attempts),
            ("load_attempts", self.load_attempts),
            ("waiters_max", self.waiters_max),
            ("flights_max", self.flights_max),
            ("journal_max", self.journal_max),
            ("store_breaker_probes", self.store_breaker_probes),
            ("load_breaker_probes", self.load_breaker_probes),
            ("breaker_minimum_calls", self.breaker_minimum_calls),
        ];
        let more_than_zero = [
            ("call_deadline", self.call_deadline),
            ("store_read_deadline", self.store_read_deadline),
            ("store_write_deadline", self.store_write_deadline),
            ("load_deadline", self.load_deadline),
            ("leader_age_max", self.leader_age_max),
            ("refresh_gap", self.refresh_gap),
            ("store_breaker_open_for", self.store_breaker_open_for),
            ("load_breaker_open_for", self.load_breaker_open_for),
            ("breaker_window", self.breaker_window),
        ];
        let percentages = [
            ("ttl_jitter", self.ttl_jitter),
            ("wait_jitter", self.wait_jitter),
            ("store_breaker_rate", self.store_breaker_rate),
            ("load_breaker_rate", self.load_breaker_rate),
        ];
        let refuse = |option, reason| Err(PolicyError::new(option, reason));
        if let Some((option, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return refuse(option, "must be at least 1");
        }
        if let Some((option, _)) = more_than_zero.iter().find(|(_, value)| value.is_zero()) {
            return refuse(option, "must be longer than zero");
        }
        if let Some((option, _)) = percentages.iter().find(|(_, value)| *value > 100) {
            return refuse(option, "is a percentage, at most 100");
        }
        self.validate_breakers()
    }

    fn validate_breakers(&self) -> Result<(), PolicyError> {
        let refuse = |option, reason| Err(PolicyError::new(option, reason));
        if self.store_breaker && self.store_breaker_failures == 0 && self.store_breaker_rate == 0 {
            return refuse("store_breaker", "is on, but both of its rules are off: it could never open");
        }
        if self.load_breaker && self.load_breaker_failures == 0 && self.load_breaker_rate == 0 {
            return refuse("load_breaker", "is on, but both of its rules are off: it could never open");
        }
        if self.store_breaker_open_for > self.store_breaker_open_for_max {
            return refuse("store_breaker_open_for_max", "is shorter than store_breaker_open_for");
        }
        if self.load_breaker_open_for > self.load_breaker_open_for_max {
            return refuse("load_breaker_open_for_max", "is shorter than load_breaker_open_for");
        }
        Ok(())
    }

    /// The windows of entries that bring none of their own.
    #[must_use]
    pub fn windows(&self) -> Windows {
        Windows {
            ttl: self.ttl,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            keep: self.keep,
        }
    }

    /// Refuses keys that are too long.
    ///
    /// # Errors
    ///
    /// [`Refusal::KeyTooLong`].
    pub fn check_key(&self, key: &str) -> Result<(), Refusal> {
        let (bytes, max) = (key.len(), self.key_bytes_max as usize);
        if bytes > max { Err(Refusal::KeyTooLong { bytes, max }) } else { Ok(()) }
    }

    /// Refuses values that are too large.
    ///
    /// # Errors
    ///
    /// [`Refusal::ValueTooLarge`].
    pub fn check_value(&self, bytes: usize) -> Result<(), Refusal> {
        let max = self.value_bytes_max as usize;
        if bytes > max { Err(Refusal::ValueTooLarge { bytes, max }) } else { Ok(()) }
    }

    /// Refuses values with too many tags.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooManyTags`].
    pub fn check_tags(&self, tags: usize) -> Result<(), Refusal> {
        if tags > TAGS_MAX { Err(Refusal::TooManyTags { tags, max: TAGS_MAX }) } else { Ok(()) }
    }

    /// Refuses names of tags that are too long.
    ///
    /// # Errors
    ///
    /// [`Refusal::TagTooLong`].
    pub fn check_tag(&self, name_bytes: usize) -> Result<(), Refusal> {
        let max = self.key_bytes_max as usize;
        if name_bytes > max { Err(Refusal::TagTooLong { bytes: name_bytes, max }) } else { Ok(()) }
    }

    pub(crate) fn retry(&self) -> Backoff {
        Backoff { base: self.retry_base, factor: 2, cap: self.retry_cap, jitter: self.retry_jitter }
    }

    pub(crate) fn store_breaker_policy(&self) -> BreakerPolicy {
        BreakerPolicy {
            enabled: self.store_breaker,
            consecutive_failures: self.store_breaker_failures,
            failure_rate: self.store_breaker_rate,
            minimum_calls: self.breaker_minimum_calls,
            window: self.breaker_window,
            open_for: self.store_breaker_open_for,
            open_for_max: self.store_breaker_open_for_max,
            open_jitter: self.wait_jitter,
            probes: self.store_breaker_probes,
        }
    }

    pub(crate) fn load_breaker_policy(&self) -> BreakerPolicy {
        BreakerPolicy {
            enabled: self.load_breaker,
            consecutive_failures: self.load_breaker_failures,
            failure_rate: self.load_breaker_rate,
            minimum_calls: self.breaker_minimum_calls,
            window: self.breaker_window,
            open_for: self.load_breaker_open_for,
            open_for_max: self.load_breaker_open_for_max,
            open_jitter: self.wait_jitter,
            probes: self.load_breaker_probes,
        }
    }
}

/// How an option is written as text.
trait OptionText: Sized {
    fn read(text: &str) -> Result<Self, &'static str>;
    fn write(&self) -> String;
}

macro_rules! number {
    ($($type:ty: $expected:literal,)+) => {
        $(impl OptionText for $type {
            fn read(text: &str) -> Result<Self, &'static str> {
                text.trim().parse().map_err(|_| $expected)
            }
            fn write(&self) -> String {
                self.to_string()
            }
        })+
    };
}

number! {
    u8: "expected a whole number from 0 to 100",
    u32: "expected a whole number",
    bool: "expected true or false",
}

impl OptionText for Duration {
    fn read(text: &str) -> Result<Self, &'static str> {
        parse_duration(text)
    }
    fn write(&self) -> String {
        Text(*self).to_string()
    }
}

impl OptionText for Option<Duration> {
    fn read(text: &str) -> Result<Self, &'static str> {
        parse_duration(text).map(|duration| Some(duration).filter(|duration| !duration.is_zero()))
    }
    fn write(&self) -> String {
        Text(self.unwrap_or_default()).to_string()
    }
}

impl OptionText for Jitter {
    fn read(text: &str) -> Result<Self, &'static str> {
        match text.trim() {
            "none" => Ok(Self::None),
            "full" => Ok(Self::Full),
            "equal" => Ok(Self::Equal),
            "decorrelated" => Ok(Self::Decorrelated),
            _ => Err("expected none, full, equal or decorrelated"),
        }
    }
    fn write(&self) -> String {
        match self {
            Self::None => "none",
            Self::Full => "full",
            Self::Equal => "equal",
            Self::Decorrelated => "decorrelated",
        }
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_read_back_as_written() {
        let mut policy = Policy::default();
        for option in Policy::OPTIONS {
            let text = policy.text(option.name).expect(option.name);
            policy.set(option.name, &text).expect(option.name);
            assert!(!option.doc.trim().is_empty(), "{} has no documentation", option.name);
        }
        assert_eq!(policy, Policy::default());
        assert_eq!(policy.validate(), Ok(()));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (option, text) in [
            ("entries_max", "0"),
            ("call_deadline", "0"),
            ("wait_jitter", "101"),
            ("load_breaker_probes", "0"),
            ("store_breaker_open_for_max", "1ms"),
        ] {
            let mut policy = Policy::default();
            policy.set(option, text).expect(option);
            assert_eq!(policy.validate().expect_err(option).option, option);
        }
        let mut policy = Policy::default();
        assert_eq!(policy.set("ttl", "soon").expect_err("no duration").option, "ttl");
        assert_eq!(policy.set("load_attempts", "-1").expect_err("negative").option, "load_attempts");
        (policy.store_breaker_failures, policy.store_breaker_rate) = (0, 0);
        assert_eq!(policy.validate().expect_err("never opens").option, "store_breaker");
    }
}
