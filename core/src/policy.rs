//! Everything that can be chosen, in one flat table: field, type, default and documentation are written once, and
//! the struct, [`Policy::OPTIONS`], [`Policy::set`] and [`Policy::write`] are made from it.

mod text;

#[cfg(feature = "alloc")]
use alloc::string::String;
use core::fmt::{self, Write};
use core::time::Duration;

use self::text::OptionText;
use crate::backoff::{Backoff, Jitter};
use crate::breaker::{BreakerPolicy, LEASE_GRACE, Mode, Unfit};
use crate::budget::BudgetPolicy;
use crate::entry::Windows;
use crate::eviction::Eviction;
use crate::failure::Refusal;
use crate::limit::LimitPolicy;
use crate::memory::MemoryPolicy;
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

            /// Writes the value of the option `name` as [`Policy::set`] reads it; nothing if there is no such option.
            ///
            /// # Errors
            ///
            /// That of the writer.
            pub fn write(&self, name: &str, to: &mut dyn Write) -> fmt::Result {
                match name {
                    $(stringify!($name) => self.$name.write(to),)+
                    _ => Ok(()),
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
    /// Entries in memory; past it one leaves for each that comes.
    entries_max: u32 = 10_000;
    /// Whether the story of every answer is told, not only where a call asks for it.
    explain: bool = false;
    /// What all values in memory may weigh together, and their copies in the fallback, in bytes unless the values say
    /// otherwise; 0 is no limit.
    weight_max: u64 = 0;
    /// Whom a full memory gives up: lru, s3-fifo, sieve or w-tinylfu.
    eviction: Eviction = Eviction::Lru;
    /// Reports of removals from memory that are kept until they are taken; 0 switches reports off.
    removals_max: u32 = 0;
    /// Tags whose invalidation is remembered; past it the oldest counts against every tagged entry that is older still.
    tags_max: u32 = 10_000;
    /// Whether the shared store keeps a log of invalidations that every process reads; whoever opens the store knows. Without it what bears tags is kept in memory only.
    store_log: bool = false;
    /// A fresh entry is refreshed behind a hit from this percentage of its ttl on; 0 switches this off.
    refresh_ahead: u8 = 0;
    /// Percentage by which chance refreshes fresh entries the earlier, the longer their load takes; 100 is the usual, 0 switches this off.
    early_refresh: u32 = 0;
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
    /// How long the shared store remembers a removal, so that nothing older comes back: no load that began before it, and no change owed by a process that was cut off. What has been owed for longer is paid as a removal. At least leader_age_max and store_write_deadline together.
    tombstone_for: Duration = Duration::from_secs(600);
    /// Whether a load first takes a lease on its key in the shared store, so that of all processes one loads and the others wait for what it brings. Needs a store that can lease.
    lease: bool = false;
    /// How long a lease outlives the process that holds it; it is renewed each third of that.
    lease_ttl: Duration = Duration::from_secs(3);
    /// How long a load waits for that of another process; then it loads itself.
    lease_wait_max: Duration = Duration::from_secs(5);
    /// Attempts at a store operation in all.
    store_attempts: u32 = 2;
    /// Limit of one attempt to load.
    load_deadline: Duration = Duration::from_secs(10);
    /// Attempts at a load in all.
    load_attempts: u32 = 1;
    /// Wait before the second attempt, spread by retry_jitter; 0 is no wait before any.
    retry_base: Duration = Duration::from_millis(100);
    /// What the wait is multiplied by with each further attempt; 1 is a constant wait.
    retry_factor: u32 = 2;
    /// No wait between attempts is longer.
    retry_cap: Duration = Duration::from_secs(10);
    /// How waits between attempts are spread: none, full, equal or decorrelated.
    retry_jitter: Jitter = Jitter::Full;
    /// Retries of loads per hundred first attempts, all callers together; 0 switches the budget off: every attempt that load_attempts allows is made.
    retry_budget: u8 = 20;
    /// So many retries in the budget's window are allowed whatever it says.
    retry_budget_minimum: u32 = 3;
    /// How long a first attempt counts for the budget.
    retry_budget_window: Duration = Duration::from_secs(10);
    /// Loads under way at once; 0 is no limit.
    loads_max: u32 = 0;
    /// Whether the limit of loads is learnt from how long they take, between loads_min and loads_max.
    loads_adaptive: bool = false;
    /// A learnt limit of loads is never lower.
    loads_min: u32 = 1;
    /// Loads that may wait for one of those under way to end; past it the load is refused.
    load_queue_max: u32 = 1_000;
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
    /// Keys whose writes and removals are remembered while the store is away; past it the whole namespace is cleared when the store is back. Direct operations have as many of their own, and refuse what is beyond.
    journal_max: u32 = 10_000;
    /// Whether the store has a circuit breaker.
    store_breaker: bool = true;
    /// Who decides about the store's circuit: automatic, forced-open, forced-closed, disabled or metrics-only.
    store_breaker_mode: Mode = Mode::Automatic;
    /// The store's circuit opens after so many failures in a row; 0 switches this rule off.
    store_breaker_failures: u32 = 5;
    /// The store's circuit opens when this percentage of the calls in the window failed; 0 switches this rule off.
    store_breaker_rate: u8 = 50;
    /// A call to the store that took so long or longer was slow; 0: no call is.
    store_breaker_slow_call: Duration = Duration::ZERO;
    /// The store's circuit opens when this percentage of the calls in the window was slow; 0 switches this rule off.
    store_breaker_slow_rate: u8 = 0;
    /// First wait in open of the store's circuit; doubles with each failed probe.
    store_breaker_open_for: Duration = Duration::from_secs(1);
    /// Longest wait in open of the store's circuit.
    store_breaker_open_for_max: Duration = Duration::from_secs(30);
    /// Probes of the store permitted at once in half-open; all must succeed.
    store_breaker_probes: u32 = 1;
    /// Whether the loader has a circuit breaker.
    load_breaker: bool = true;
    /// Who decides about the loader's circuit: automatic, forced-open, forced-closed, disabled or metrics-only.
    load_breaker_mode: Mode = Mode::Automatic;
    /// The loader's circuit opens after so many failures in a row; 0 switches this rule off.
    load_breaker_failures: u32 = 5;
    /// The loader's circuit opens when this percentage of the calls in the window failed; 0 switches this rule off.
    load_breaker_rate: u8 = 50;
    /// A load that took so long or longer was slow; 0: no load is.
    load_breaker_slow_call: Duration = Duration::ZERO;
    /// The loader's circuit opens when this percentage of the calls in the window was slow; 0 switches this rule off.
    load_breaker_slow_rate: u8 = 0;
    /// First wait in open of the loader's circuit; doubles with each failed probe.
    load_breaker_open_for: Duration = Duration::from_secs(1);
    /// Longest wait in open of the loader's circuit.
    load_breaker_open_for_max: Duration = Duration::from_secs(30);
    /// Probes of the loader permitted at once in half-open; all must succeed.
    load_breaker_probes: u32 = 1;
    /// Loaders with a name that have a circuit of their own; what comes beyond shares that of loaders without one.
    loaders_max: u32 = 64;
    /// The rate of either breaker counts for nothing before the window holds so many calls.
    breaker_minimum_calls: u32 = 20;
    /// Length of the sliding window of either breaker's rate.
    breaker_window: Duration = Duration::from_secs(10);
    /// If not 0, the window of either breaker's rates is the last so many calls instead, at most 1024.
    breaker_window_calls: u32 = 0;
    /// After an outage a growing share of the calls is let through for so long; 0: all at once.
    breaker_recovery_for: Duration = Duration::ZERO;
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
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn default_text(&self) -> String {
        Policy::default().text(self.name).unwrap_or_default()
    }
}

/// Bytes of an option's name that an error repeats.
const NAME_MAX: usize = 48;

/// A choice that cannot be: which option, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    option: heapless::String<NAME_MAX>,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl PolicyError {
    fn new(option: &str, reason: &'static str) -> Self {
        Self::of(&[option], reason)
    }

    /// For the option whose name is put together from `parts`.
    fn of(parts: &[&str], reason: &'static str) -> Self {
        let mut option = heapless::String::new();
        for letter in parts.iter().flat_map(|part| part.chars()) {
            // No option of ours is longer than that; of what is none, the beginning will do.
            let _cut = option.push(letter);
        }
        Self { option, reason }
    }

    /// The option's name as it was given, or the beginning of it.
    #[must_use]
    pub fn option(&self) -> &str {
        &self.option
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.option, self.reason)
    }
}

impl core::error::Error for PolicyError {}

impl Policy {
    /// The value of the option `name` as [`Policy::set`] reads it; `None` if there is no such option.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        let mut text = String::new();
        let known = Self::OPTIONS.iter().any(|option| option.name == name);
        self.write(name, &mut text).ok().filter(|()| known).map(|()| text)
    }

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
            ("retry_factor", self.retry_factor),
            ("loads_min", self.loads_min),
            ("waiters_max", self.waiters_max),
            ("flights_max", self.flights_max),
            ("journal_max", self.journal_max),
            ("tags_max", self.tags_max),
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
            ("retry_budget_window", self.retry_budget_window),
            ("refresh_gap", self.refresh_gap),
            ("lease_ttl", self.lease_ttl),
            ("store_breaker_open_for", self.store_breaker_open_for),
            ("load_breaker_open_for", self.load_breaker_open_for),
            ("breaker_window", self.breaker_window),
        ];
        let percentages = [
            ("ttl_jitter", self.ttl_jitter),
            ("refresh_ahead", self.refresh_ahead),
            ("wait_jitter", self.wait_jitter),
            ("retry_budget", self.retry_budget),
            ("store_breaker_rate", self.store_breaker_rate),
            ("load_breaker_rate", self.load_breaker_rate),
            ("store_breaker_slow_rate", self.store_breaker_slow_rate),
            ("load_breaker_slow_rate", self.load_breaker_slow_rate),
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
        self.validate_loads()?;
        self.validate_breakers()
    }

    fn validate_loads(&self) -> Result<(), PolicyError> {
        if self.loads_adaptive && self.loads_max > 0 && self.loads_max < self.loads_min {
            return Err(PolicyError::new("loads_max", "is lower than loads_min"));
        }
        Ok(())
    }

    fn validate_breakers(&self) -> Result<(), PolicyError> {
        let overruled = |mode| !matches!(mode, Mode::Automatic | Mode::Disabled);
        for (on, option, mode) in [
            (self.store_breaker, "store_breaker_mode", self.store_breaker_mode),
            (self.load_breaker, "load_breaker_mode", self.load_breaker_mode),
        ] {
            if !on && overruled(mode) {
                return Err(PolicyError::new(option, "says who decides, but the breaker is switched off"));
            }
        }
        let breakers = [("store_breaker", self.store_breaker_policy()), ("load_breaker", self.load_breaker_policy())];
        let unfit = breakers.iter().find_map(|(option, breaker)| Some((option, breaker.validate().err()?)));
        unfit.map_or(Ok(()), |(option, unfit)| Err(unfit_breaker(option, unfit)))
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

    /// The choices of its memory, whose hashes follow from `seed`.
    #[must_use]
    pub fn memory(&self, seed: u64) -> MemoryPolicy {
        MemoryPolicy {
            entries_max: self.entries_max,
            weight_max: self.weight_max,
            time_to_idle: self.time_to_idle,
            eviction: self.eviction,
            refresh_ahead: self.refresh_ahead,
            early_refresh: self.early_refresh,
            removals_max: self.removals_max,
            tags_max: self.tags_max,
            seed,
        }
    }

    /// For how long a removal leaves a tombstone: `tombstone_for`, and as long as a load may take that began before it,
    /// with its write.
    #[must_use]
    pub fn fence_for(&self) -> Duration {
        self.tombstone_for.max(self.leader_age_max.saturating_add(self.store_write_deadline))
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
        Backoff { base: self.retry_base, factor: self.retry_factor, cap: self.retry_cap, jitter: self.retry_jitter }
    }

    /// The choices of the loads' [budget](crate::budget).
    #[must_use]
    pub fn budget_policy(&self) -> BudgetPolicy {
        BudgetPolicy {
            percent: self.retry_budget.into(),
            minimum: self.retry_budget_minimum,
            window: self.retry_budget_window,
        }
    }

    /// The choices of the loads' [limit](crate::limit).
    #[must_use]
    pub fn limit_policy(&self) -> LimitPolicy {
        LimitPolicy {
            max: self.loads_max,
            adaptive: self.loads_adaptive,
            min: self.loads_min,
            queue_max: self.load_queue_max,
            // A slot is held over all attempts and the waits between them.
            lease_for: self.leader_age_max.saturating_add(LEASE_GRACE),
            ..LimitPolicy::default()
        }
    }

    /// What both breakers have in common.
    fn breaker_policy(&self) -> BreakerPolicy {
        BreakerPolicy {
            minimum_calls: self.breaker_minimum_calls,
            window: self.breaker_window,
            window_calls: self.breaker_window_calls,
            recovery_for: self.breaker_recovery_for,
            open_jitter: self.wait_jitter,
            ..BreakerPolicy::default()
        }
    }

    /// The choices of the store's [breaker](crate::breaker), for whoever else asks the same store.
    #[must_use]
    pub fn store_breaker_policy(&self) -> BreakerPolicy {
        BreakerPolicy {
            mode: if self.store_breaker { self.store_breaker_mode } else { Mode::Disabled },
            consecutive_failures: self.store_breaker_failures,
            failure_rate: self.store_breaker_rate,
            slow_call: self.store_breaker_slow_call,
            slow_call_rate: self.store_breaker_slow_rate,
            open_for: self.store_breaker_open_for,
            open_for_max: self.store_breaker_open_for_max,
            probes: self.store_breaker_probes,
            ..self.breaker_policy()
        }
    }

    pub(crate) fn load_breaker_policy(&self) -> BreakerPolicy {
        BreakerPolicy {
            mode: if self.load_breaker { self.load_breaker_mode } else { Mode::Disabled },
            consecutive_failures: self.load_breaker_failures,
            failure_rate: self.load_breaker_rate,
            slow_call: self.load_breaker_slow_call,
            slow_call_rate: self.load_breaker_slow_rate,
            open_for: self.load_breaker_open_for,
            open_for_max: self.load_breaker_open_for_max,
            probes: self.load_breaker_probes,
            ..self.breaker_policy()
        }
    }
}

/// The option that is to blame: one of the breaker's own, or one that both breakers share.
fn unfit_breaker(breaker: &str, unfit: Unfit) -> PolicyError {
    let own = |field| PolicyError::of(&[breaker, field], unfit.reason());
    let shared = |option| PolicyError::new(option, unfit.reason());
    match unfit {
        Unfit::NoRule => own(""),
        Unfit::Percentage => own("_rate"),
        Unfit::SlowCall => own("_slow_call"),
        Unfit::OpenFor => own("_open_for"),
        Unfit::OpenForMax => own("_open_for_max"),
        Unfit::Probes => own("_probes"),
        Unfit::MinimumCalls => shared("breaker_minimum_calls"),
        Unfit::Window => shared("breaker_window"),
        Unfit::WindowCalls => shared("breaker_window_calls"),
        Unfit::RecoveryStart => shared("breaker_recovery_for"),
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
            ("retry_factor", "0"),
            ("retry_budget", "101"),
            ("retry_budget_window", "0"),
            ("loads_min", "0"),
            ("store_breaker_probes", "17"),
            ("store_breaker_slow_rate", "101"),
            ("breaker_window_calls", "1025"),
        ] {
            let mut policy = Policy::default();
            policy.set(option, text).expect(option);
            assert_eq!(policy.validate().expect_err(option).option(), option);
        }
        let mut policy = Policy::default();
        assert_eq!(policy.set("ttl", "soon").expect_err("no duration").option(), "ttl");
        assert_eq!(policy.set("load_attempts", "-1").expect_err("negative").option(), "load_attempts");
        (policy.loads_adaptive, policy.loads_min, policy.loads_max) = (true, 9, 8);
        assert_eq!(policy.validate().expect_err("an empty range").option(), "loads_max");
        policy.loads_max = 0;
        assert_eq!(policy.set("load_breaker_mode", "ajar").expect_err("no mode").option(), "load_breaker_mode");
        policy.load_breaker_slow_rate = 50;
        assert_eq!(policy.validate().expect_err("slow from when on?").option(), "load_breaker_slow_call");
        policy.load_breaker_slow_call = Duration::from_secs(1);
        assert_eq!(policy.validate(), Ok(()));
        policy.breaker_window_calls = policy.breaker_minimum_calls - 1;
        assert_eq!(policy.validate().expect_err("never enough calls").option(), "breaker_minimum_calls");
        policy.breaker_window_calls = 0;
        (policy.store_breaker_failures, policy.store_breaker_rate) = (0, 0);
        assert_eq!(policy.validate().expect_err("never opens").option(), "store_breaker");
        policy.store_breaker_mode = Mode::ForcedClosed;
        assert_eq!(policy.validate(), Ok(()), "who is forced closed is not to open");
        policy.store_breaker = false;
        assert_eq!(policy.validate().expect_err("off and forced").option(), "store_breaker_mode");
    }

    #[test]
    fn the_machines_get_what_was_chosen() {
        let policy = Policy::default();
        assert_eq!(policy.retry(), Backoff::default());
        assert_eq!(policy.budget_policy(), BudgetPolicy::default());
        let held_over_all_attempts = Duration::from_secs(31);
        assert_eq!(policy.limit_policy(), LimitPolicy { lease_for: held_over_all_attempts, ..LimitPolicy::default() });
        let steady = Policy { retry_factor: 1, ..Policy::default() };
        assert_eq!(steady.retry(), Backoff { factor: 1, ..Backoff::default() });
    }
}
