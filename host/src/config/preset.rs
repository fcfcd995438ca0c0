//! Choices that go together, by the name of where a service runs.

use std::str::FromStr;

/// A set of choices to start from. Whatever anybody says beside it overrules it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Preset {
    /// A programmer's machine: what was changed shows at once, and every answer can say why.
    Development,
    /// A service with many instances before a database, and a shared store that may be away.
    Production,
    /// A small instance far from store and origin, which may be cut off from both.
    Edge,
}

/// One choice of a preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PresetChoice {
    /// The option.
    pub option: &'static str,
    /// What it is set to.
    pub value: &'static str,
    /// Why.
    pub why: &'static str,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Development, Self::Production, Self::Edge];

    /// `development`, `production` or `edge`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
            Self::Edge => "edge",
        }
    }

    /// For whom it is.
    #[must_use]
    pub const fn doc(self) -> &'static str {
        match self {
            Self::Development => {
                "A programmer's machine: what was changed shows at once, and every answer can say why."
            }
            Self::Production => "A service with many instances before a database, and a shared store that may be away.",
            Self::Edge => "A small instance far from store and origin, which may be cut off from both.",
        }
    }

    /// What it chooses.
    ///
    /// ```
    /// use tideover::config::Preset;
    ///
    /// let lease = Preset::Production.choices().iter().find(|choice| choice.option == "lease");
    /// assert_eq!(lease.map(|choice| choice.value), Some("true"));
    /// ```
    #[must_use]
    pub const fn choices(self) -> &'static [PresetChoice] {
        match self {
            Self::Development => DEVELOPMENT,
            Self::Production => PRODUCTION,
            Self::Edge => EDGE,
        }
    }
}

/// Reads what [`Preset::name`] writes.
impl FromStr for Preset {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|preset| preset.name() == name);
        named.ok_or("expected development, production or edge")
    }
}

const fn choice(option: &'static str, value: &'static str, why: &'static str) -> PresetChoice {
    PresetChoice { option, value, why }
}

const DEVELOPMENT: &[PresetChoice] = &[
    choice("ttl.short", "1s", "nobody waits for an old value while trying things out"),
    choice("ttl", "10s", "the same"),
    choice("ttl.long", "1m", "the same"),
    choice("negative_ttl", "1s", "what was just created is found"),
    choice("entries_max", "1000", "a laptop has other things to keep"),
    choice("explain", "true", "each answer tells its story, which costs more than a service should pay"),
];

const PRODUCTION: &[PresetChoice] = &[
    choice(
        "stale_while_revalidate",
        "1m",
        "a hot key that expires is refreshed behind its readers, who wait for nothing",
    ),
    choice("stale_if_error", "1h", "an outage of the origin shows as old values, marked as stale, not as errors"),
    choice("soft_deadline", "1s", "an origin that hangs is as good as away while there is something stale"),
    choice("ttl_jitter", "10", "what was written together, by a deployment or a warm-up, does not expire together"),
    choice(
        "early_refresh",
        "100",
        "keys that are slow to load are refreshed before they expire, at moments that chance spreads",
    ),
    choice("lease", "true", "of all instances one loads a key; without a shared store it is off"),
    choice("load_attempts", "2", "a load that fails once is tried again, within the budget of retries"),
    choice("breaker_recovery_for", "10s", "an origin that is back is not run over by all instances at once"),
    choice("entries_max", "100000", "a server has the room"),
    choice("weight_max", "268435456", "and 256 MiB are enough, however large the values are"),
    choice("eviction", "w-tinylfu", "it keeps what is asked for often, whatever scans pass by"),
];

const EDGE: &[PresetChoice] = &[
    choice("ttl.short", "1m", "each question goes a long way: fewer of them"),
    choice("stale_while_revalidate", "10m", "nobody at the edge waits for the long way as long as there is something"),
    choice("stale_if_error", "1d", "cut off for a night, the edge still answers"),
    choice("soft_deadline", "500ms", "a line that hangs is as good as cut"),
    choice("negative_ttl", "30s", "what is not there is asked for by many who guess"),
    choice("store_read_deadline", "150ms", "the store is far: it helps soon, or the origin is asked"),
    choice("store_attempts", "1", "a second attempt over the same line comes too late"),
    choice("load_deadline", "5s", "visitors do not wait longer"),
    choice("call_deadline", "8s", "the same"),
    choice("leader_age_max", "10s", "a load that was lost on the line does not hold its key for long"),
    choice("entries_max", "5000", "instances are small"),
    choice("weight_max", "33554432", "32 MiB of values"),
    choice("value_bytes_max", "1048576", "one large value does not push out all others"),
    choice("eviction", "s3-fifo", "most keys are asked for once, by someone passing: they leave first"),
    choice("flights_max", "10000", "instances are small"),
    choice("waiters_max", "10000", "the same"),
    choice("journal_max", "2000", "the same; past it the namespace is cleared when the store is back"),
];
