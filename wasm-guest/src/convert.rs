//! Between the types of the WIT package and those of the core.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tideover_core as core_;
use tideover_core::breaker::{BreakerReport, Mode, State};
use tideover_core::cache::Dependency;
use tideover_core::cache::explain::Story;
use tideover_core::cache::snapshot::{Restored, SnapshotError, Taken};
use tideover_core::memory::Reason;
use tideover_core::pattern::Pattern;
use tideover_core::stamp::{Condition, Version, Written};
use tideover_core::value::{TAGS_MAX, saved};
use tideover_core::{Class, Instant, LoaderId, Policy, PolicyError, Refusal, Tag};

use crate::bindings::tideover::cache::types as wit;

/// Keys are shared by reference inside the instance; they are copied where they cross its border.
pub(crate) type Key = Arc<str>;

/// Values likewise, each with the tags that invalidate it.
#[derive(Clone, Default)]
pub(crate) struct Value {
    bytes: Arc<[u8]>,
    tags: Option<Arc<[Tag]>>,
}

impl Value {
    pub(crate) fn new(bytes: Vec<u8>, tags: Vec<u64>) -> Self {
        Self::tagged(bytes, tags.into_iter().map(Tag).collect())
    }

    pub(crate) fn tagged(bytes: impl Into<Arc<[u8]>>, tags: Vec<Tag>) -> Self {
        let tags = if tags.is_empty() { None } else { Some(tags.into()) };
        Self { bytes: bytes.into(), tags }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        saved::serialize(&self.bytes, core_::Value::tags(self), to)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        saved::deserialize(from).map(|(bytes, tags)| Self::tagged(bytes, tags))
    }
}

impl core_::Value for Value {
    fn weight(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn tags(&self) -> &[Tag] {
        self.tags.as_deref().unwrap_or_default()
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Whether a change that a caller asks for is within the limits: its key, the bytes of its value, its tags.
pub(crate) fn check(policy: &Policy, key: &str, bytes: usize, tags: usize) -> Result<(), Refusal> {
    policy.check_key(key)?;
    policy.check_value(bytes)?;
    policy.check_tags(tags)
}

pub(crate) fn tag_named(policy: &Policy, name: &str) -> Result<u64, wit::Refusal> {
    policy.check_tag(name.len())?;
    Ok(Tag::named(name).0)
}

pub(crate) fn policy(settings: Vec<wit::Setting>) -> Result<Policy, PolicyError> {
    let mut policy = Policy::default();
    for setting in settings {
        policy.set(&setting.name, &setting.value)?;
    }
    Ok(policy)
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    core_::time::nanos(duration)
}

impl From<PolicyError> for wit::PolicyError {
    fn from(error: PolicyError) -> Self {
        Self { name: error.option().to_string(), reason: error.reason.to_string() }
    }
}

impl From<wit::Windows> for core_::Windows {
    fn from(windows: wit::Windows) -> Self {
        Self {
            ttl: windows.ttl.map(Duration::from_nanos),
            stale_while_revalidate: Duration::from_nanos(windows.stale_while_revalidate),
            stale_if_error: Duration::from_nanos(windows.stale_if_error),
            keep: Duration::from_nanos(windows.keep),
        }
    }
}

impl From<core_::Windows> for wit::Windows {
    fn from(windows: core_::Windows) -> Self {
        Self {
            ttl: windows.ttl.map(nanos),
            stale_while_revalidate: nanos(windows.stale_while_revalidate),
            stale_if_error: nanos(windows.stale_if_error),
            keep: nanos(windows.keep),
        }
    }
}

impl From<core_::Entry<Value>> for wit::Entry {
    fn from(entry: core_::Entry<Value>) -> Self {
        let core_::Entry { value, age, windows, load_time, doubted } = entry;
        Self {
            value: value.bytes.to_vec(),
            tags: core_::Value::tags(&value).iter().map(|Tag(number)| *number).collect(),
            age: nanos(age),
            windows: windows.into(),
            load_time: nanos(load_time),
            doubted,
        }
    }
}

impl From<wit::Version> for Version {
    fn from(wit::Version { writer, number }: wit::Version) -> Self {
        Self { writer, number }
    }
}

impl From<Version> for wit::Version {
    fn from(Version { writer, number }: Version) -> Self {
        Self { writer, number }
    }
}

impl From<Condition> for wit::Condition {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Always => Self::Always,
            Condition::Unchanged(seen) => Self::Unchanged(seen.map(Into::into)),
            Condition::Newest => Self::Newest,
        }
    }
}

impl From<wit::Written> for Written {
    fn from(written: wit::Written) -> Self {
        match written {
            wit::Written::Kept => Self::Kept,
            wit::Written::Overtaken => Self::Overtaken,
        }
    }
}

impl From<wit::News> for core_::News {
    fn from(news: wit::News) -> Self {
        let note = match news.note {
            wit::Note::Invalidated(wit::Invalidated { tag, how }) => core_::Note::Invalidated(Tag(tag), how.into()),
            wit::Note::Cleared => core_::Note::Cleared,
            wit::Note::Unknown => core_::Note::Unknown,
        };
        Self { number: news.number, ago: Duration::from_nanos(news.ago), own: news.own, note }
    }
}

impl From<wit::Leased> for core_::Leased {
    fn from(leased: wit::Leased) -> Self {
        match leased {
            wit::Leased::Held => Self::Held,
            wit::Leased::Elsewhere(free_in) => Self::Elsewhere { free_in: Duration::from_nanos(free_in) },
        }
    }
}

impl From<wit::Tidings> for core_::Tidings<Key> {
    fn from(tidings: wit::Tidings) -> Self {
        match tidings {
            wit::Tidings::Noted(news) => Self::Noted(news.into()),
            wit::Tidings::Changed(key) => Self::Changed(key.into()),
            wit::Tidings::Missed => Self::Missed,
        }
    }
}

impl From<wit::Loaded> for core_::Loaded<Value> {
    fn from(loaded: wit::Loaded) -> Self {
        match loaded {
            wit::Loaded::Value(wit::LoadedValue { value, tags, age, windows, sharing }) => Self::Value {
                sharing: match sharing {
                    // Without all of its tags it could not be invalidated.
                    wit::Sharing::Store if tags.len() > TAGS_MAX => core_::Sharing::Share,
                    wit::Sharing::Store => core_::Sharing::Store,
                    wit::Sharing::Share => core_::Sharing::Share,
                    wit::Sharing::Private => core_::Sharing::Private,
                },
                value: Value::new(value, tags),
                age: Duration::from_nanos(age),
                windows: windows.map(Into::into),
            },
            wit::Loaded::NotModified(wit::Revalidated { age, windows }) => {
                Self::NotModified { age: Duration::from_nanos(age), windows: windows.map(Into::into) }
            }
            wit::Loaded::Absent(wit::Nothing { ttl, tags }) => {
                let tags: Vec<Tag> = tags.into_iter().map(Tag).collect();
                Self::absent(ttl.map(Duration::from_nanos), &tags)
            }
        }
    }
}

impl From<wit::Invalidation> for core_::Invalidation {
    fn from(how: wit::Invalidation) -> Self {
        match how {
            wit::Invalidation::Remove => Self::Remove,
            wit::Invalidation::Expire => Self::Expire,
        }
    }
}

impl From<core_::Invalidation> for wit::Invalidation {
    fn from(how: core_::Invalidation) -> Self {
        match how {
            core_::Invalidation::Remove => Self::Remove,
            core_::Invalidation::Expire => Self::Expire,
        }
    }
}

impl From<wit::LoadFailure> for core_::LoadFailure {
    fn from(failure: wit::LoadFailure) -> Self {
        let class = match failure.class {
            wit::FailureClass::Unavailable => Class::Unavailable,
            wit::FailureClass::TimedOut => Class::TimedOut,
            wit::FailureClass::Answer => Class::Answer,
            wit::FailureClass::Panicked => Class::Panicked,
            wit::FailureClass::Isolated => Class::Isolated,
        };
        Self { class, retry_after: failure.retry_after.map(Duration::from_nanos) }
    }
}

impl From<wit::StoreFailure> for core_::StoreFailure {
    fn from(failure: wit::StoreFailure) -> Self {
        match failure {
            wit::StoreFailure::Unavailable => Self::Unavailable,
            wit::StoreFailure::TimedOut => Self::TimedOut,
            wit::StoreFailure::Rejected => Self::Rejected,
            wit::StoreFailure::Overloaded => Self::Overloaded,
            wit::StoreFailure::Corrupt(version) => Self::Corrupt { version: version.map(Into::into) },
        }
    }
}

impl From<core_::Tier> for wit::Tier {
    fn from(tier: core_::Tier) -> Self {
        match tier {
            core_::Tier::Primary => Self::Primary,
            core_::Tier::Fallback => Self::Fallback,
        }
    }
}

impl From<core_::StoreUse> for wit::StoreUse {
    fn from(store: core_::StoreUse) -> Self {
        match store {
            core_::StoreUse::Unasked => Self::Unasked,
            core_::StoreUse::Answered => Self::Answered,
            core_::StoreUse::Skipped => Self::Skipped,
            core_::StoreUse::Failed => Self::Failed,
        }
    }
}

impl From<core_::Served<Value>> for wit::Served {
    fn from(served: core_::Served<Value>) -> Self {
        Self {
            value: served.value.bytes.to_vec(),
            age: nanos(served.age),
            ttl: served.ttl.map(nanos),
            stale: served.stale.map(|stale| match stale {
                core_::Stale::WhileRevalidate => wit::Stale::WhileRevalidate,
                core_::Stale::IfError => wit::Stale::IfError,
            }),
            source: served.source.into(),
        }
    }
}

impl From<core_::Source> for wit::Source {
    fn from(source: core_::Source) -> Self {
        match source {
            core_::Source::Memory => Self::Memory,
            core_::Source::Store => Self::Store,
            core_::Source::Fallback => Self::Fallback,
            core_::Source::Load => Self::Load,
        }
    }
}

impl From<Class> for wit::FailureClass {
    fn from(class: Class) -> Self {
        match class {
            Class::Unavailable => Self::Unavailable,
            Class::TimedOut => Self::TimedOut,
            Class::Answer => Self::Answer,
            Class::Panicked => Self::Panicked,
            Class::Isolated => Self::Isolated,
        }
    }
}

impl From<core_::Failure> for wit::Failure {
    fn from(failure: core_::Failure) -> Self {
        match failure {
            core_::Failure::Load(class) => Self::Load(class.into()),
            core_::Failure::Open { until } => Self::Open(until.as_nanos()),
            core_::Failure::Remembered { class, until } => {
                Self::Remembered(wit::RememberedFailure { class: class.into(), until: until.as_nanos() })
            }
            core_::Failure::Overloaded => Self::Overloaded,
            core_::Failure::DeadlinePassed => Self::DeadlinePassed,
            core_::Failure::Abandoned => Self::Abandoned,
        }
    }
}

impl From<Refusal> for wit::Refusal {
    fn from(refusal: Refusal) -> Self {
        let limit = |brought, max| wit::Limit { brought: brought as u64, max: max as u64 };
        match refusal {
            Refusal::KeyTooLong { bytes, max } => Self::KeyTooLong(limit(bytes, max)),
            Refusal::ValueTooLarge { bytes, max } => Self::ValueTooLarge(limit(bytes, max)),
            Refusal::TooManyTags { tags, max } => Self::TooManyTags(limit(tags, max)),
            Refusal::TagTooLong { bytes, max } => Self::TagTooLong(limit(bytes, max)),
            Refusal::TooManyWaiters { max } => Self::TooManyWaiters(limit(0, max)),
            Refusal::TooManyFlights { max } => Self::TooManyFlights(limit(0, max)),
            Refusal::Reentrant => Self::Reentrant,
        }
    }
}

impl From<core_::Outcome<Value>> for wit::Outcome {
    fn from(outcome: core_::Outcome<Value>) -> Self {
        match outcome {
            core_::Outcome::Served(served) => Self::Served(served.into()),
            core_::Outcome::Private(served) => Self::Private(served.into()),
            core_::Outcome::Absent(absence) => Self::Absent(match absence {
                core_::Absence::NotLoaded => wit::Absence::NotLoaded,
                core_::Absence::Confirmed => wit::Absence::Confirmed,
                core_::Absence::Remembered { until } => wit::Absence::Remembered(until.as_nanos()),
            }),
            core_::Outcome::Settled(settled) => Self::Settled(match settled {
                core_::Settled::Memory => wit::Settled::Memory,
                core_::Settled::Store => wit::Settled::Store,
                core_::Settled::Journaled => wit::Settled::Journaled,
                core_::Settled::Overtaken => wit::Settled::Overtaken,
            }),
            core_::Outcome::Failed(failure) => Self::Failed(failure.into()),
            core_::Outcome::Again => Self::Again,
        }
    }
}

impl From<BreakerReport> for wit::Breaker {
    fn from(breaker: BreakerReport) -> Self {
        let BreakerReport { state, mode, since, next_probe, recovers_until, stats } = breaker;
        Self {
            state: match state {
                State::Closed => wit::BreakerState::Closed,
                State::Open { until } => wit::BreakerState::Open(until.as_nanos()),
                State::HalfOpen => wit::BreakerState::HalfOpen,
            },
            mode: match mode {
                Mode::Automatic => wit::BreakerMode::Automatic,
                Mode::ForcedOpen => wit::BreakerMode::ForcedOpen,
                Mode::ForcedClosed => wit::BreakerMode::ForcedClosed,
                Mode::Disabled => wit::BreakerMode::Disabled,
                Mode::MetricsOnly => wit::BreakerMode::MetricsOnly,
            },
            since: since.as_nanos(),
            next_probe: next_probe.map(Instant::as_nanos),
            recovers_until: recovers_until.map(Instant::as_nanos),
            trips: stats.trips,
            recoveries: stats.recoveries,
            refused: stats.refused,
            would_refuse: stats.would_refuse,
            successes: stats.successes,
            failures: stats.failures,
            slow: stats.slow,
        }
    }
}

impl From<wit::BreakerMode> for Mode {
    fn from(mode: wit::BreakerMode) -> Self {
        match mode {
            wit::BreakerMode::Automatic => Self::Automatic,
            wit::BreakerMode::ForcedOpen => Self::ForcedOpen,
            wit::BreakerMode::ForcedClosed => Self::ForcedClosed,
            wit::BreakerMode::Disabled => Self::Disabled,
            wit::BreakerMode::MetricsOnly => Self::MetricsOnly,
        }
    }
}

impl From<wit::Dependency> for Dependency {
    fn from(of: wit::Dependency) -> Self {
        match of {
            wit::Dependency::Store => Self::Store,
            wit::Dependency::Loader => Self::Loader,
            wit::Dependency::NamedLoader(loader) => Self::Named(LoaderId(loader)),
        }
    }
}

impl From<wit::Taken> for Taken {
    fn from(taken: wit::Taken) -> Self {
        match taken {
            wit::Taken::Last => Self::Last,
            wit::Taken::Earlier => Self::Earlier,
        }
    }
}

impl From<SnapshotError> for wit::SnapshotError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Foreign => Self::Foreign,
            SnapshotError::Version(version) => Self::Version(version),
            SnapshotError::Checksum => Self::Checksum,
            SnapshotError::Unreadable => Self::Unreadable,
            SnapshotError::InUse => Self::InUse,
        }
    }
}

impl From<Restored> for wit::Restored {
    fn from(restored: Restored) -> Self {
        let Restored { entries, debts, age } = restored;
        Self { entries: entries as u64, debts: debts as u64, age: nanos(age) }
    }
}

impl From<&Story> for wit::Story {
    fn from(story: &Story) -> Self {
        Self { lines: story.to_string().lines().map(String::from).collect(), bytes: story.to_bytes() }
    }
}

impl From<(Key, Reason)> for wit::Removal {
    fn from((key, reason): (Key, Reason)) -> Self {
        let reason = match reason {
            Reason::Expired => wit::RemovalReason::Expired,
            Reason::Evicted => wit::RemovalReason::Evicted,
            Reason::Replaced => wit::RemovalReason::Replaced,
            Reason::Invalidated => wit::RemovalReason::Invalidated,
            Reason::Cleared => wit::RemovalReason::Cleared,
            // And whatever the core may come to tell apart.
            _ => wit::RemovalReason::Removed,
        };
        Self { key: String::from(&*key), reason }
    }
}

pub(crate) fn keys_matching(cache: &core_::Cache<Key, Value>, pattern: &str) -> Vec<String> {
    let pattern = Pattern::new(pattern);
    cache.keys().filter(|key| pattern.matches(key)).map(|key| String::from(&**key)).collect()
}

pub(crate) fn health(cache: &core_::Cache<Key, Value>) -> wit::Report {
    let (health, memory) = (cache.health(), cache.memory_stats());
    let named =
        |(loader, breaker): (LoaderId, BreakerReport)| wit::NamedBreaker { loader: loader.0, breaker: breaker.into() };
    let counts = health.stats.counts().chain(memory.counts());
    wit::Report {
        store_breaker: health.store_breaker.into(),
        load_breaker: health.load_breaker.into(),
        loaders: cache.loaders().map(named).collect(),
        owes_clear: health.owes_clear,
        counts: counts.map(|(name, value)| wit::Count { name: String::from(name), value }).collect(),
    }
}

pub(crate) fn instant(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}
