//! World `policy`: the machine as synchronous functions.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use spin::Mutex;
use tideover_core as core_;
use tideover_core::stamp::Intent;
use tideover_core::value::TAGS_MAX;
use tideover_core::{Cache, FlightId, LoaderId, Policy, StoreFailure, Tag, WallTime};

use crate::bindings::exports::tideover::cache::machine as wit;
use crate::bindings::tideover::cache::types;
use crate::convert::{self, Key, Value, instant};

/// The one machine of this instance.
static MACHINE: Mutex<Option<Cache<Key, Value>>> = Mutex::new(None);

struct Component;

crate::bindings::export!(Component with_types_in crate::bindings);

/// Runs `work` on the machine, made with default settings if nobody has configured it.
fn with<R>(work: impl FnOnce(&mut Cache<Key, Value>) -> R) -> Option<R> {
    let mut machine = MACHINE.lock();
    if machine.is_none() {
        *machine = Cache::new(Policy::default(), 0).ok();
    }
    machine.as_mut().map(work)
}

impl wit::Guest for Component {
    fn configure(settings: Vec<types::Setting>, seed: u64, first_flight: u64) -> Result<(), types::PolicyError> {
        let made = Cache::new(convert::policy(settings)?, seed)?;
        *MACHINE.lock() = Some(made.numbered_from(FlightId(first_flight)));
        Ok(())
    }

    fn lookup(key: String, call: wit::Call, now: u64) -> wit::LookedUp {
        let within: Vec<FlightId> = call.within.into_iter().map(FlightId).collect();
        let call = core_::Call {
            deadline: call.deadline.map(instant),
            read_only: call.read_only,
            max_age: call.max_age.map(Duration::from_nanos),
            explain: call.explain,
            loader: LoaderId(call.loader),
            within: &within,
        };
        with(|cache| match cache.policy().check_key(&key) {
            Ok(()) => cache.lookup(&key.into(), call, instant(now)).into(),
            Err(refusal) => refusal.into(),
        })
        .unwrap_or_else(abandoned)
    }

    fn command(command: wit::Change, now: u64) -> wit::LookedUp {
        with(|cache| {
            let (key, bytes, tags) = match &command {
                wit::Change::Put(put) => (put.key.as_str(), put.value.len(), put.tags.len()),
                wit::Change::Remove(key) | wit::Change::Expire(key) => (key.as_str(), 0, 0),
                wit::Change::Invalidate(_) | wit::Change::Clear => ("", 0, 0),
            };
            match convert::check(cache.policy(), key, bytes, tags) {
                Ok(()) => cache.command(command.into(), instant(now)).into(),
                Err(refusal) => refusal.into(),
            }
        })
        .unwrap_or_else(abandoned)
    }

    fn resume(flight: u64, event: wit::Event, now: u64) -> wit::Step {
        let step = with(|cache| cache.resume(FlightId(flight), event.into(), instant(now)));
        step.unwrap_or(core_::Step::Done { next: None }).into()
    }

    fn learn(tidings: types::Tidings, now: u64) {
        with(|cache| cache.learn(core_::Tidings::<Key>::from(tidings), instant(now)));
    }

    fn leave(flight: u64) -> wit::Left {
        match with(|cache| cache.leave(FlightId(flight))) {
            Some(core_::Left::Abandon) => wit::Left::Abandon,
            Some(core_::Left::Stays) | None => wit::Left::Stays,
        }
    }

    fn expire(flight: u64, deadline: u64, now: u64) -> wit::Answer {
        with(|cache| cache.expire(FlightId(flight), instant(deadline), instant(now)))
            .map_or_else(|| abandoned().answer, Into::into)
    }

    fn maintain(now: u64) -> Option<u64> {
        with(|cache| cache.maintain(instant(now))).flatten().map(|next| next.0)
    }

    fn tag_named(name: String) -> Result<u64, types::Refusal> {
        with(|cache| convert::tag_named(cache.policy(), &name)).unwrap_or_else(|| unreachable!())
    }

    fn story_of(flight: Option<u64>) -> Option<types::Story> {
        with(|cache| cache.story(flight.map(FlightId))).flatten().as_ref().map(Into::into)
    }

    fn snapshot(now: u64, wall: u64) -> Vec<u8> {
        with(|cache| cache.snapshot(instant(now), WallTime::from_unix_millis(wall))).unwrap_or_default()
    }

    fn restore(
        bytes: Vec<u8>,
        taken: types::Taken,
        now: u64,
        wall: u64,
    ) -> Result<types::Restored, types::SnapshotError> {
        with(|cache| cache.restore(&bytes, taken.into(), instant(now), WallTime::from_unix_millis(wall)))
            .unwrap_or_else(|| unreachable!())
            .map(Into::into)
            .map_err(Into::into)
    }

    fn set_breaker_mode(of: types::Dependency, mode: types::BreakerMode, now: u64) {
        with(|cache| cache.set_breaker_mode(of.into(), mode.into(), instant(now)));
    }

    fn reset_breaker(of: types::Dependency, now: u64) {
        with(|cache| cache.reset_breaker(of.into(), instant(now)));
    }

    fn keys_matching(pattern: String) -> Vec<String> {
        with(|cache| convert::keys_matching(cache, &pattern)).unwrap_or_default()
    }

    fn take_removals() -> Vec<types::Removal> {
        with(|cache| cache.take_removals().map(Into::into).collect()).unwrap_or_default()
    }

    fn health() -> types::Report {
        // An empty report would lie; the machine with default settings always exists.
        with(|cache| convert::health(cache)).unwrap_or_else(|| unreachable!())
    }
}

fn abandoned() -> wit::LookedUp {
    let outcome = types::Outcome::Failed(types::Failure::Abandoned);
    wit::LookedUp { answer: wit::Answer::Now(outcome), launch: None }
}

impl From<core_::Launch<Key, Value>> for wit::Launch {
    fn from(launch: core_::Launch<Key, Value>) -> Self {
        Self { flight: launch.flight.0, step: launch.step.into() }
    }
}

impl From<core_::Refusal> for wit::LookedUp {
    fn from(refusal: core_::Refusal) -> Self {
        Self { answer: wit::Answer::Refused(refusal.into()), launch: None }
    }
}

impl From<core_::Lookup<Key, Value>> for wit::LookedUp {
    fn from(lookup: core_::Lookup<Key, Value>) -> Self {
        Self { answer: lookup.answer.into(), launch: lookup.launch.map(Into::into) }
    }
}

impl From<core_::Answer<Value>> for wit::Answer {
    fn from(answer: core_::Answer<Value>) -> Self {
        match answer {
            core_::Answer::Now(outcome) => Self::Now(outcome.into()),
            core_::Answer::Pending { flight, until, deadline } => {
                Self::Pending(wit::Pending { flight: flight.0, until: until.as_nanos(), deadline: deadline.as_nanos() })
            }
            core_::Answer::Refused(refusal) => Self::Refused(refusal.into()),
        }
    }
}

impl From<wit::Change> for core_::Command<Key, Value> {
    fn from(command: wit::Change) -> Self {
        match command {
            wit::Change::Put(wit::Put { key, value, tags, windows }) => {
                Self::Put { key: key.into(), value: Value::new(value, tags), windows: windows.map(Into::into) }
            }
            wit::Change::Remove(key) => Self::Remove { key: key.into() },
            wit::Change::Expire(key) => Self::Expire { key: key.into() },
            wit::Change::Invalidate(wit::Invalidate { tag, how }) => {
                Self::Invalidate { tag: Tag(tag), how: how.into() }
            }
            wit::Change::Clear => Self::Clear,
        }
    }
}

impl From<wit::Event> for core_::Event<Value> {
    fn from(event: wit::Event) -> Self {
        match event {
            wit::Event::StoreRead(result) => Self::StoreRead(result.map_err(Into::into).and_then(found)),
            wit::Event::Loaded(result) => Self::Loaded(result.map(Into::into).map_err(Into::into)),
            wit::Event::Slept => Self::Slept,
            wit::Event::Launched => Self::Launched,
            wit::Event::Landed => Self::Landed,
            wit::Event::StoreWritten(result) => Self::StoreWritten(result.map(Into::into).map_err(Into::into)),
            wit::Event::StoreRemoved(result) => Self::StoreRemoved(result.map(Into::into).map_err(Into::into)),
            wit::Event::LeaseAnswered(result) => Self::LeaseAnswered(result.map(Into::into).map_err(Into::into)),
            wit::Event::LeaseAwaited => Self::LeaseAwaited,
            wit::Event::StoreCleared(result) => Self::StoreCleared(result.map_err(Into::into)),
            wit::Event::StoreInvalidated(result) => Self::StoreInvalidated(result.map_err(Into::into)),
            wit::Event::Resigned => Self::Resigned,
            wit::Event::Abandoned => Self::Abandoned,
        }
    }
}

/// What the host has found. An entry with more tags than one may bear is none of this package's.
fn found(found: wit::Found) -> Result<core_::Found<Value>, StoreFailure> {
    let version = found.version.map(Into::into);
    let entry = found.entry.map(|entry| {
        if entry.tags.len() > TAGS_MAX {
            return Err(StoreFailure::Corrupt { version });
        }
        let wit::Entry { value, tags, age, windows, load_time, doubted } = entry;
        Ok(core_::Entry {
            value: Value::new(value, tags),
            age: Duration::from_nanos(age),
            windows: windows.into(),
            load_time: Duration::from_nanos(load_time),
            doubted,
        })
    });
    Ok(core_::Found { entry: entry.transpose()?, version, born: found.born })
}

impl From<Intent> for types::Intent {
    fn from(Intent { number, made_ago, born, condition }: Intent) -> Self {
        Self { number, made_ago: convert::nanos(made_ago), born, condition: condition.into() }
    }
}

impl From<core_::Step<Key, Value>> for wit::Step {
    fn from(step: core_::Step<Key, Value>) -> Self {
        use core_::Step;
        match step {
            Step::ReadStore { tier, key, deadline } => Self::ReadStore(wit::Keyed {
                tier: tier.into(),
                key: String::from(&*key),
                deadline: deadline.as_nanos(),
            }),
            Step::Load { key, attempt, deadline, previous } => Self::Load(wit::Load {
                key: String::from(&*key),
                attempt,
                deadline: deadline.as_nanos(),
                previous: previous.map(Into::into),
            }),
            Step::Sleep { until } => Self::Sleep(until.as_nanos()),
            Step::Wait => Self::Wait,
            Step::Land { outcome, store, next } => {
                Self::Land(wit::Landing { outcome: outcome.into(), store: store.into(), next: next.map(|next| next.0) })
            }
            Step::WriteStore { tier, key, entry, intent, deadline } => Self::WriteStore(wit::Write {
                tier: tier.into(),
                key: String::from(&*key),
                entry: entry.into(),
                intent: intent.into(),
                deadline: deadline.as_nanos(),
            }),
            Step::RemoveStore { tier, key, intent, fence_for, deadline } => Self::RemoveStore(wit::Remove {
                tier: tier.into(),
                key: String::from(&*key),
                intent: intent.into(),
                fence_for: convert::nanos(fence_for),
                deadline: deadline.as_nanos(),
            }),
            Step::AcquireLease { key, ttl, hold_for, deadline } => Self::AcquireLease(wit::Leasing {
                key: String::from(&*key),
                ttl: convert::nanos(ttl),
                hold_for: convert::nanos(hold_for),
                deadline: deadline.as_nanos(),
            }),
            Step::AwaitLease { key, until } => {
                Self::AwaitLease(wit::Awaiting { key: String::from(&*key), until: until.as_nanos() })
            }
            Step::ClearStore { tier, deadline } => {
                Self::ClearStore(wit::Clear { tier: tier.into(), deadline: deadline.as_nanos() })
            }
            Step::InvalidateStore { tag, how, made_ago, deadline } => Self::InvalidateStore(wit::Noting {
                tag: tag.0,
                how: how.into(),
                made_ago: convert::nanos(made_ago),
                deadline: deadline.as_nanos(),
            }),
            Step::Done { next } => Self::Done(next.map(|next| next.0)),
        }
    }
}
