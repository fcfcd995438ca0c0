//! Between the types of the WIT package and those of the core.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use tideover_core as core_;
use tideover_core::breaker::{BreakerStats, State};
use tideover_core::memory::MemoryStats;
use tideover_core::{Class, Instant, Policy, PolicyError};

use crate::bindings::tideover::cache::types as wit;

/// Values are shared by reference inside the instance; they are copied where they cross its border.
pub(crate) type Value = Arc<[u8]>;
/// Keys likewise.
pub(crate) type Key = Arc<str>;

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
        Self { name: error.option, reason: error.reason.to_string() }
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
        Self { value: entry.value.to_vec(), age: nanos(entry.age), windows: entry.windows.into() }
    }
}

impl From<wit::Loaded> for core_::Loaded<Value> {
    fn from(loaded: wit::Loaded) -> Self {
        Self {
            value: loaded.value.into(),
            age: Duration::from_nanos(loaded.age),
            windows: loaded.windows.map(Into::into),
            sharing: match loaded.sharing {
                wit::Sharing::Store => core_::Sharing::Store,
                wit::Sharing::Share => core_::Sharing::Share,
                wit::Sharing::Private => core_::Sharing::Private,
            },
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
            wit::StoreFailure::Corrupt => Self::Corrupt,
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

impl From<core_::Served<Value>> for wit::Served {
    fn from(served: core_::Served<Value>) -> Self {
        Self {
            value: served.value.to_vec(),
            age: nanos(served.age),
            ttl: served.ttl.map(nanos),
            stale: served.stale.map(|stale| match stale {
                core_::Stale::WhileRevalidate => wit::Stale::WhileRevalidate,
                core_::Stale::IfError => wit::Stale::IfError,
            }),
            source: match served.source {
                core_::Source::Memory => wit::Source::Memory,
                core_::Source::Store => wit::Source::Store,
                core_::Source::Fallback => wit::Source::Fallback,
                core_::Source::Load => wit::Source::Load,
            },
        }
    }
}

impl From<core_::Failure> for wit::Failure {
    fn from(failure: core_::Failure) -> Self {
        match failure {
            core_::Failure::Load(Class::Unavailable) => Self::Load(wit::FailureClass::Unavailable),
            core_::Failure::Load(Class::TimedOut) => Self::Load(wit::FailureClass::TimedOut),
            core_::Failure::Load(Class::Answer) => Self::Load(wit::FailureClass::Answer),
            core_::Failure::Load(Class::Panicked) => Self::Load(wit::FailureClass::Panicked),
            core_::Failure::Open { until } => Self::Open(until.as_nanos()),
            core_::Failure::DeadlinePassed => Self::DeadlinePassed,
            core_::Failure::Abandoned => Self::Abandoned,
        }
    }
}

impl From<core_::Refusal> for wit::Refusal {
    fn from(refusal: core_::Refusal) -> Self {
        let limit = |bytes, max| wit::Limit { bytes: bytes as u64, max: max as u64 };
        match refusal {
            core_::Refusal::KeyTooLong { bytes, max } => Self::KeyTooLong(limit(bytes, max)),
            core_::Refusal::ValueTooLarge { bytes, max } => Self::ValueTooLarge(limit(bytes, max)),
            core_::Refusal::TooManyWaiters { max } => Self::TooManyWaiters(limit(0, max)),
            core_::Refusal::TooManyFlights { max } => Self::TooManyFlights(limit(0, max)),
            core_::Refusal::Reentrant => Self::Reentrant,
        }
    }
}

impl From<core_::Outcome<Value>> for wit::Outcome {
    fn from(outcome: core_::Outcome<Value>) -> Self {
        match outcome {
            core_::Outcome::Served(served) => Self::Served(served.into()),
            core_::Outcome::Private(served) => Self::Private(served.into()),
            core_::Outcome::Absent => Self::Absent,
            core_::Outcome::Settled(settled) => Self::Settled(match settled {
                core_::Settled::Memory => wit::Settled::Memory,
                core_::Settled::Store => wit::Settled::Store,
                core_::Settled::Journaled => wit::Settled::Journaled,
            }),
            core_::Outcome::Failed(failure) => Self::Failed(failure.into()),
        }
    }
}

fn breaker(state: State, stats: BreakerStats) -> wit::Breaker {
    wit::Breaker {
        state: match state {
            State::Closed => wit::BreakerState::Closed,
            State::Open { until } => wit::BreakerState::Open(until.as_nanos()),
            State::HalfOpen => wit::BreakerState::HalfOpen,
        },
        trips: stats.trips,
        recoveries: stats.recoveries,
        refused: stats.refused,
        failures: stats.failures,
    }
}

pub(crate) fn health(health: &core_::cache::Health, memory: &MemoryStats) -> wit::Report {
    let counts = health.stats.counts().chain(memory.counts());
    wit::Report {
        store_breaker: breaker(health.store_breaker, health.store_breaker_stats),
        load_breaker: breaker(health.load_breaker, health.load_breaker_stats),
        owes_clear: health.owes_clear,
        counts: counts.map(|(name, value)| wit::Count { name: String::from(name), value }).collect(),
    }
}

pub(crate) fn instant(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}
