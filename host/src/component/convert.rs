//! Between the types of the WIT package and those of the core.

use std::time::Duration;

use tideover_core as core_;
use tideover_core::breaker::{BreakerStats, Mode, State};
use tideover_core::cache::Dependency;
use tideover_core::cache::explain::Story;
use tideover_core::cache::snapshot::{Restored, SnapshotError, Taken};
use tideover_core::memory::Reason;
use tideover_core::stamp::{Condition, Version, Written};
use tideover_core::time::nanos;
use tideover_core::{Class, LoaderId, Tag, Value};

use super::bindings::types as wit;
use crate::engine::{BreakerReport, Key, Payload, Report};

pub(super) fn instant(nanos: u64) -> core_::Instant {
    core_::Instant::from_nanos(nanos)
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

impl From<wit::Entry> for core_::Entry<Payload> {
    fn from(entry: wit::Entry) -> Self {
        let wit::Entry { value, tags, age, windows, load_time, doubted } = entry;
        Self {
            value: Payload::from(value).tagged(tags.into_iter().map(Tag)),
            age: Duration::from_nanos(age),
            windows: windows.into(),
            load_time: Duration::from_nanos(load_time),
            doubted,
        }
    }
}

impl From<core_::Entry<Payload>> for wit::Entry {
    fn from(entry: core_::Entry<Payload>) -> Self {
        let core_::Entry { value, age, windows, load_time, doubted } = entry;
        Self {
            tags: tags(&value),
            value: value.bytes.into(),
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

impl From<wit::Condition> for Condition {
    fn from(condition: wit::Condition) -> Self {
        match condition {
            wit::Condition::Always => Self::Always,
            wit::Condition::Unchanged(seen) => Self::Unchanged(seen.map(Into::into)),
            wit::Condition::Newest => Self::Newest,
        }
    }
}

impl From<Written> for wit::Written {
    fn from(written: Written) -> Self {
        match written {
            Written::Kept => Self::Kept,
            Written::Overtaken => Self::Overtaken,
        }
    }
}

impl From<wit::Note> for core_::Note {
    fn from(note: wit::Note) -> Self {
        match note {
            wit::Note::Invalidated(wit::Invalidated { tag, how }) => Self::Invalidated(Tag(tag), how.into()),
            wit::Note::Cleared => Self::Cleared,
            wit::Note::Unknown => Self::Unknown,
        }
    }
}

impl From<core_::Leased> for wit::Leased {
    fn from(leased: core_::Leased) -> Self {
        match leased {
            core_::Leased::Held => Self::Held,
            core_::Leased::Elsewhere { free_in } => Self::Elsewhere(nanos(free_in)),
        }
    }
}

impl From<core_::Tidings<Key>> for wit::Tidings {
    fn from(tidings: core_::Tidings<Key>) -> Self {
        match tidings {
            core_::Tidings::Noted(news) => Self::Noted(news.into()),
            core_::Tidings::Changed(key) => Self::Changed(key.as_ref().into()),
            core_::Tidings::Missed => Self::Missed,
        }
    }
}

impl From<core_::News> for wit::News {
    fn from(core_::News { number, ago, own, note }: core_::News) -> Self {
        let note = match note {
            core_::Note::Invalidated(tag, how) => {
                wit::Note::Invalidated(wit::Invalidated { tag: tag.0, how: how.into() })
            }
            core_::Note::Cleared => wit::Note::Cleared,
            core_::Note::Unknown => wit::Note::Unknown,
        };
        Self { number, ago: nanos(ago), own, note }
    }
}

/// The numbers of a value's tags.
pub(super) fn tags(value: &Payload) -> Vec<u64> {
    value.tags().iter().map(|Tag(number)| *number).collect()
}

impl From<core_::Loaded<Payload>> for wit::Loaded {
    fn from(loaded: core_::Loaded<Payload>) -> Self {
        match loaded {
            core_::Loaded::Value { value, age, windows, sharing } => Self::Value(wit::LoadedValue {
                tags: tags(&value),
                value: value.bytes.into(),
                age: nanos(age),
                windows: windows.map(Into::into),
                sharing: match sharing {
                    core_::Sharing::Store => wit::Sharing::Store,
                    core_::Sharing::Share => wit::Sharing::Share,
                    core_::Sharing::Private => wit::Sharing::Private,
                },
            }),
            core_::Loaded::NotModified { age, windows } => {
                Self::NotModified(wit::Revalidated { age: nanos(age), windows: windows.map(Into::into) })
            }
            core_::Loaded::Absent { ttl, tags } => {
                let tags = tags.as_slice().iter().map(|tag| tag.0).collect();
                Self::Absent(wit::Nothing { ttl: ttl.map(nanos), tags })
            }
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

impl From<wit::Invalidation> for core_::Invalidation {
    fn from(how: wit::Invalidation) -> Self {
        match how {
            wit::Invalidation::Remove => Self::Remove,
            wit::Invalidation::Expire => Self::Expire,
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

impl From<wit::FailureClass> for Class {
    fn from(class: wit::FailureClass) -> Self {
        match class {
            wit::FailureClass::Unavailable => Self::Unavailable,
            wit::FailureClass::TimedOut => Self::TimedOut,
            wit::FailureClass::Answer => Self::Answer,
            wit::FailureClass::Panicked => Self::Panicked,
            wit::FailureClass::Isolated => Self::Isolated,
        }
    }
}

impl From<core_::LoadFailure> for wit::LoadFailure {
    fn from(failure: core_::LoadFailure) -> Self {
        Self { class: failure.class.into(), retry_after: failure.retry_after.map(nanos) }
    }
}

impl From<core_::StoreFailure> for wit::StoreFailure {
    fn from(failure: core_::StoreFailure) -> Self {
        match failure {
            core_::StoreFailure::Unavailable => Self::Unavailable,
            core_::StoreFailure::TimedOut => Self::TimedOut,
            core_::StoreFailure::Rejected => Self::Rejected,
            core_::StoreFailure::Overloaded => Self::Overloaded,
            core_::StoreFailure::Corrupt { version } => Self::Corrupt(version.map(Into::into)),
        }
    }
}

impl From<wit::Tier> for core_::Tier {
    fn from(tier: wit::Tier) -> Self {
        match tier {
            wit::Tier::Primary => Self::Primary,
            wit::Tier::Fallback => Self::Fallback,
        }
    }
}

impl From<wit::StoreUse> for core_::StoreUse {
    fn from(store: wit::StoreUse) -> Self {
        match store {
            wit::StoreUse::Unasked => Self::Unasked,
            wit::StoreUse::Answered => Self::Answered,
            wit::StoreUse::Skipped => Self::Skipped,
            wit::StoreUse::Failed => Self::Failed,
        }
    }
}

impl From<wit::Served> for core_::Served<Payload> {
    fn from(served: wit::Served) -> Self {
        Self {
            value: served.value.into(),
            age: Duration::from_nanos(served.age),
            ttl: served.ttl.map(Duration::from_nanos),
            stale: served.stale.map(|stale| match stale {
                wit::Stale::WhileRevalidate => core_::Stale::WhileRevalidate,
                wit::Stale::IfError => core_::Stale::IfError,
            }),
            source: match served.source {
                wit::Source::Memory => core_::Source::Memory,
                wit::Source::Store => core_::Source::Store,
                wit::Source::Fallback => core_::Source::Fallback,
                wit::Source::Load => core_::Source::Load,
            },
        }
    }
}

impl From<wit::Failure> for core_::Failure {
    fn from(failure: wit::Failure) -> Self {
        match failure {
            wit::Failure::Load(class) => Self::Load(class.into()),
            wit::Failure::Open(until) => Self::Open { until: instant(until) },
            wit::Failure::Remembered(wit::RememberedFailure { class, until }) => {
                Self::Remembered { class: class.into(), until: instant(until) }
            }
            wit::Failure::Overloaded => Self::Overloaded,
            wit::Failure::DeadlinePassed => Self::DeadlinePassed,
            wit::Failure::Abandoned => Self::Abandoned,
        }
    }
}

impl From<wit::Outcome> for core_::Outcome<Payload> {
    fn from(outcome: wit::Outcome) -> Self {
        match outcome {
            wit::Outcome::Served(served) => Self::Served(served.into()),
            wit::Outcome::Private(served) => Self::Private(served.into()),
            wit::Outcome::Absent(absence) => Self::Absent(match absence {
                wit::Absence::NotLoaded => core_::Absence::NotLoaded,
                wit::Absence::Confirmed => core_::Absence::Confirmed,
                wit::Absence::Remembered(until) => core_::Absence::Remembered { until: instant(until) },
            }),
            wit::Outcome::Settled(settled) => Self::Settled(match settled {
                wit::Settled::Memory => core_::Settled::Memory,
                wit::Settled::Store => core_::Settled::Store,
                wit::Settled::Journaled => core_::Settled::Journaled,
                wit::Settled::Overtaken => core_::Settled::Overtaken,
            }),
            wit::Outcome::Failed(failure) => Self::Failed(failure.into()),
            wit::Outcome::Again => Self::Again,
        }
    }
}

impl From<wit::Refusal> for core_::Refusal {
    fn from(refusal: wit::Refusal) -> Self {
        let size = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        match refusal {
            wit::Refusal::KeyTooLong(wit::Limit { brought, max }) => {
                Self::KeyTooLong { bytes: size(brought), max: size(max) }
            }
            wit::Refusal::ValueTooLarge(wit::Limit { brought, max }) => {
                Self::ValueTooLarge { bytes: size(brought), max: size(max) }
            }
            wit::Refusal::TooManyTags(wit::Limit { brought, max }) => {
                Self::TooManyTags { tags: size(brought), max: size(max) }
            }
            wit::Refusal::TagTooLong(wit::Limit { brought, max }) => {
                Self::TagTooLong { bytes: size(brought), max: size(max) }
            }
            wit::Refusal::TooManyWaiters(wit::Limit { brought: _, max }) => Self::TooManyWaiters { max: size(max) },
            wit::Refusal::TooManyFlights(wit::Limit { brought: _, max }) => Self::TooManyFlights { max: size(max) },
            wit::Refusal::Reentrant => Self::Reentrant,
        }
    }
}

impl From<wit::Breaker> for BreakerReport {
    fn from(breaker: wit::Breaker) -> Self {
        let wit::Breaker { trips, recoveries, refused, would_refuse, successes, failures, slow, .. } = breaker;
        Self {
            state: match breaker.state {
                wit::BreakerState::Closed => State::Closed,
                wit::BreakerState::Open(until) => State::Open { until: instant(until) },
                wit::BreakerState::HalfOpen => State::HalfOpen,
            },
            mode: match breaker.mode {
                wit::BreakerMode::Automatic => Mode::Automatic,
                wit::BreakerMode::ForcedOpen => Mode::ForcedOpen,
                wit::BreakerMode::ForcedClosed => Mode::ForcedClosed,
                wit::BreakerMode::Disabled => Mode::Disabled,
                wit::BreakerMode::MetricsOnly => Mode::MetricsOnly,
            },
            since: instant(breaker.since),
            next_probe: breaker.next_probe.map(instant),
            recovers_until: breaker.recovers_until.map(instant),
            stats: BreakerStats { trips, recoveries, refused, would_refuse, successes, failures, slow },
        }
    }
}

impl From<Mode> for wit::BreakerMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Automatic => Self::Automatic,
            Mode::ForcedOpen => Self::ForcedOpen,
            Mode::ForcedClosed => Self::ForcedClosed,
            Mode::Disabled => Self::Disabled,
            Mode::MetricsOnly => Self::MetricsOnly,
        }
    }
}

impl From<Dependency> for wit::Dependency {
    fn from(of: Dependency) -> Self {
        match of {
            Dependency::Store => Self::Store,
            Dependency::Loader => Self::Loader,
            Dependency::Named(loader) => Self::NamedLoader(loader.0),
        }
    }
}

impl From<Taken> for wit::Taken {
    fn from(taken: Taken) -> Self {
        match taken {
            Taken::Last => Self::Last,
            Taken::Earlier => Self::Earlier,
        }
    }
}

impl From<wit::SnapshotError> for SnapshotError {
    fn from(error: wit::SnapshotError) -> Self {
        match error {
            wit::SnapshotError::Foreign => Self::Foreign,
            wit::SnapshotError::Version(version) => Self::Version(version),
            wit::SnapshotError::Checksum => Self::Checksum,
            wit::SnapshotError::Unreadable => Self::Unreadable,
            wit::SnapshotError::InUse => Self::InUse,
        }
    }
}

impl From<wit::Restored> for Restored {
    fn from(restored: wit::Restored) -> Self {
        let wit::Restored { entries, debts, age } = restored;
        let size = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        Self { entries: size(entries), debts: size(debts), age: Duration::from_nanos(age) }
    }
}

/// `None` if the bytes are not of this build.
pub(super) fn story(story: wit::Story) -> Option<Story> {
    Story::from_bytes(&story.bytes)
}

pub(super) fn removed(removal: wit::Removal) -> (Key, Reason) {
    let reason = match removal.reason {
        wit::RemovalReason::Expired => Reason::Expired,
        wit::RemovalReason::Evicted => Reason::Evicted,
        wit::RemovalReason::Replaced => Reason::Replaced,
        wit::RemovalReason::Removed => Reason::Removed,
        wit::RemovalReason::Invalidated => Reason::Invalidated,
        wit::RemovalReason::Cleared => Reason::Cleared,
    };
    (removal.key.into(), reason)
}

impl From<wit::Report> for Report {
    fn from(report: wit::Report) -> Self {
        Self {
            store_breaker: report.store_breaker.into(),
            load_breaker: report.load_breaker.into(),
            loaders: report.loaders.into_iter().map(|named| (LoaderId(named.loader), named.breaker.into())).collect(),
            owes_clear: report.owes_clear,
            counts: report.counts.into_iter().map(|count| (count.name, count.value)).collect(),
        }
    }
}
