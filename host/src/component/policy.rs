//! World `policy`: the machine in a sandbox, under the driver of this crate.

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tideover_core as core_;
use tideover_core::breaker::Mode;
use tideover_core::cache::Dependency;
use tideover_core::cache::explain::Story;
use tideover_core::cache::snapshot::{Restored, SnapshotError, Taken};
use tideover_core::memory::Reason;
use tideover_core::stamp::Intent;
use tideover_core::time::nanos;
use tideover_core::{
    Answer, Call, Command, Event, FlightId, Found, Instant, Left, Lookup, Policy, Served, Step, Tag, Tidings, WallTime,
};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Store, StoreLimits};

use super::bindings::policy::exports::tideover::cache::machine as wit;
use super::bindings::policy::{Policy as World, PolicyPre as WorldPre};
use super::bindings::types;
use super::convert::{instant, removed, story, tags};
use super::{POLICY_COMPONENT, TICKS_MAX, broken, engine, limits, refused, settings};
use crate::engine::{Engine, EngineError, Key, Payload, Report};

/// How many flights and writes an instance may number. The one that replaces it begins with the number after those. At
/// ten thousand a second they last for two months; and a hundred thousand instances stay below 2^53, where the numbers of
/// writes end.
const NUMBERS_OF_AN_INSTANCE: u64 = 1 << 36;

/// The engine in a sandbox: the machine as a component without imports. Calls take turns, and a hit goes through the
/// component like everything else.
pub struct PolicyEngine {
    settings: Vec<types::Setting>,
    seed: u64,
    instance: Mutex<Instance>,
}

struct Instance {
    store: Store<StoreLimits>,
    world: World,
    /// How many instances there were before.
    generation: u64,
}

impl PolicyEngine {
    /// An empty engine.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) for choices that cannot be, [`Error::Engine`](crate::Error::Engine) if
    /// the component cannot be made.
    pub fn new(policy: Policy, seed: u64) -> Result<Self, crate::Error> {
        policy.validate()?;
        let settings = settings(&policy);
        let instance = Mutex::new(Instance::new(&settings, seed, 0)?);
        Ok(Self { settings, seed, instance })
    }

    fn call<R>(
        &self,
        work: impl FnOnce(&wit::Guest, &mut Store<StoreLimits>) -> wasmtime::Result<R>,
    ) -> Result<R, EngineError> {
        let mut instance = self.instance.lock().unwrap_or_else(PoisonError::into_inner);
        let Instance { store, world, generation } = &mut *instance;
        store.set_epoch_deadline(TICKS_MAX);
        let trap = match work(world.tideover_cache_machine(), store) {
            Ok(result) => return Ok(result),
            Err(trap) => broken(&trap),
        };
        // If no other can be made, the broken one stays, and the next call comes here again.
        *instance = Instance::new(&self.settings, self.seed, *generation + 1)?;
        Err(trap)
    }
}

impl Instance {
    fn new(settings: &[types::Setting], seed: u64, generation: u64) -> Result<Self, EngineError> {
        let prepared = prepared()?;
        let mut store = Store::new(prepared.engine(), limits());
        store.limiter(|limits| limits);
        store.set_epoch_deadline(TICKS_MAX);
        let world = prepared.instantiate(&mut store).map_err(|error| broken(&error))?;
        let first_flight = generation * NUMBERS_OF_AN_INSTANCE;
        let configured = world.tideover_cache_machine().call_configure(&mut store, settings, seed, first_flight);
        configured.map_err(|trap| broken(&trap))?.map_err(|error| refused(&error))?;
        Ok(Self { store, world, generation })
    }
}

/// The component, compiled once for this process.
fn prepared() -> Result<&'static WorldPre<StoreLimits>, EngineError> {
    static PREPARED: OnceLock<Result<WorldPre<StoreLimits>, EngineError>> = OnceLock::new();
    let prepare = || {
        let engine = engine(Config::new().concurrency_support(false))?;
        let component = Component::new(&engine, POLICY_COMPONENT)?;
        WorldPre::new(Linker::new(&engine).instantiate_pre(&component)?)
    };
    PREPARED.get_or_init(|| prepare().map_err(|error| broken(&error))).as_ref().map_err(Clone::clone)
}

impl Engine for PolicyEngine {
    fn name(&self) -> &'static str {
        "policy"
    }

    fn hit(&self, _key: &str, _now: Instant) -> Option<Served<Payload>> {
        None
    }

    fn lookup(&self, key: &Key, call: Call<'_>, now: Instant) -> Result<Lookup<Key, Payload>, EngineError> {
        let call = wit::Call {
            deadline: call.deadline.map(Instant::as_nanos),
            read_only: call.read_only,
            max_age: call.max_age.map(nanos),
            explain: call.explain,
            loader: call.loader.0,
            within: call.within.iter().map(|flight| flight.0).collect(),
        };
        self.call(|machine, store| machine.call_lookup(store, key, &call, now.as_nanos())).map(Into::into)
    }

    fn command(&self, command: Command<Key, Payload>, now: Instant) -> Result<Lookup<Key, Payload>, EngineError> {
        let change = command.into();
        self.call(|machine, store| machine.call_command(store, &change, now.as_nanos())).map(Into::into)
    }

    fn resume(&self, flight: FlightId, event: Event<Payload>, now: Instant) -> Result<Step<Key, Payload>, EngineError> {
        let event = event.into();
        self.call(|machine, store| machine.call_resume(store, flight.0, &event, now.as_nanos())).map(Into::into)
    }

    fn learn(&self, tidings: Tidings<Key>, now: Instant) -> Result<(), EngineError> {
        let tidings = tidings.into();
        self.call(|machine, store| machine.call_learn(store, &tidings, now.as_nanos()))
    }

    fn leave(&self, flight: FlightId) -> Result<Left, EngineError> {
        let left = self.call(|machine, store| machine.call_leave(store, flight.0))?;
        Ok(match left {
            wit::Left::Stays => Left::Stays,
            wit::Left::Abandon => Left::Abandon,
        })
    }

    fn expire(&self, flight: FlightId, deadline: Instant, now: Instant) -> Result<Answer<Payload>, EngineError> {
        let (deadline, now) = (deadline.as_nanos(), now.as_nanos());
        self.call(|machine, store| machine.call_expire(store, flight.0, deadline, now)).map(Into::into)
    }

    fn maintain(&self, now: Instant) -> Result<Option<FlightId>, EngineError> {
        let next = self.call(|machine, store| machine.call_maintain(store, now.as_nanos()))?;
        Ok(next.map(FlightId))
    }

    fn story(&self, flight: Option<FlightId>) -> Result<Option<Story>, EngineError> {
        let told = self.call(|machine, store| machine.call_story_of(store, flight.map(|flight| flight.0)))?;
        Ok(told.and_then(story))
    }

    fn snapshot(&self, now: Instant, wall: WallTime) -> Result<Vec<u8>, EngineError> {
        self.call(|machine, store| machine.call_snapshot(store, now.as_nanos(), wall.as_unix_millis()))
    }

    fn restore(
        &self,
        bytes: &[u8],
        taken: Taken,
        now: Instant,
        wall: WallTime,
    ) -> Result<Result<Restored, SnapshotError>, EngineError> {
        let (taken, now, wall) = (taken.into(), now.as_nanos(), wall.as_unix_millis());
        let restored = self.call(|machine, store| machine.call_restore(store, bytes, taken, now, wall))?;
        Ok(restored.map(Into::into).map_err(Into::into))
    }

    fn set_breaker_mode(&self, of: Dependency, mode: Mode, now: Instant) -> Result<(), EngineError> {
        let (of, mode, now) = (of.into(), mode.into(), now.as_nanos());
        self.call(|machine, store| machine.call_set_breaker_mode(store, of, mode, now))
    }

    fn reset_breaker(&self, of: Dependency, now: Instant) -> Result<(), EngineError> {
        let of = of.into();
        self.call(|machine, store| machine.call_reset_breaker(store, of, now.as_nanos()))
    }

    fn keys_matching(&self, pattern: &str) -> Result<BTreeSet<Key>, EngineError> {
        let keys = self.call(|machine, store| machine.call_keys_matching(store, pattern))?;
        Ok(keys.into_iter().map(Key::from).collect())
    }

    fn take_removals(&self) -> Result<Vec<(Key, Reason)>, EngineError> {
        let removals = self.call(|machine, store| machine.call_take_removals(store))?;
        Ok(removals.into_iter().map(removed).collect())
    }

    fn report(&self) -> Result<Report, EngineError> {
        self.call(|machine, store| machine.call_health(store)).map(Into::into)
    }
}

impl From<wit::LookedUp> for Lookup<Key, Payload> {
    fn from(lookup: wit::LookedUp) -> Self {
        Self { answer: lookup.answer.into(), launch: lookup.launch.map(Into::into) }
    }
}

impl From<wit::Answer> for Answer<Payload> {
    fn from(answer: wit::Answer) -> Self {
        match answer {
            wit::Answer::Now(outcome) => Self::Now(outcome.into()),
            wit::Answer::Pending(wit::Pending { flight, until, deadline }) => {
                Self::Pending { flight: FlightId(flight), until: instant(until), deadline: instant(deadline) }
            }
            wit::Answer::Refused(refusal) => Self::Refused(refusal.into()),
        }
    }
}

impl From<wit::Launch> for core_::Launch<Key, Payload> {
    fn from(launch: wit::Launch) -> Self {
        Self { flight: FlightId(launch.flight), step: launch.step.into() }
    }
}

impl From<wit::Step> for Step<Key, Payload> {
    fn from(step: wit::Step) -> Self {
        match step {
            wit::Step::ReadStore(wit::Keyed { tier, key, deadline }) => {
                Self::ReadStore { tier: tier.into(), key: key.into(), deadline: instant(deadline) }
            }
            wit::Step::Load(wit::Load { key, attempt, deadline, previous }) => {
                Self::Load { key: key.into(), attempt, deadline: instant(deadline), previous: previous.map(Into::into) }
            }
            wit::Step::Sleep(until) => Self::Sleep { until: instant(until) },
            wit::Step::Wait => Self::Wait,
            wit::Step::Land(wit::Landing { outcome, store, next }) => {
                Self::Land { outcome: outcome.into(), store: store.into(), next: next.map(FlightId) }
            }
            wit::Step::WriteStore(wit::Write { tier, key, entry, intent, deadline }) => Self::WriteStore {
                tier: tier.into(),
                key: key.into(),
                entry: entry.into(),
                intent: intent.into(),
                deadline: instant(deadline),
            },
            wit::Step::RemoveStore(wit::Remove { tier, key, intent, fence_for, deadline }) => Self::RemoveStore {
                tier: tier.into(),
                key: key.into(),
                intent: intent.into(),
                fence_for: Duration::from_nanos(fence_for),
                deadline: instant(deadline),
            },
            wit::Step::AcquireLease(wit::Leasing { key, ttl, hold_for, deadline }) => Self::AcquireLease {
                key: key.into(),
                ttl: Duration::from_nanos(ttl),
                hold_for: Duration::from_nanos(hold_for),
                deadline: instant(deadline),
            },
            wit::Step::AwaitLease(wit::Awaiting { key, until }) => {
                Self::AwaitLease { key: key.into(), until: instant(until) }
            }
            wit::Step::ClearStore(wit::Clear { tier, deadline }) => {
                Self::ClearStore { tier: tier.into(), deadline: instant(deadline) }
            }
            wit::Step::InvalidateStore(wit::Noting { tag, how, made_ago, deadline }) => Self::InvalidateStore {
                tag: Tag(tag),
                how: how.into(),
                made_ago: Duration::from_nanos(made_ago),
                deadline: instant(deadline),
            },
            wit::Step::Done(next) => Self::Done { next: next.map(FlightId) },
        }
    }
}

impl From<types::Intent> for Intent {
    fn from(types::Intent { number, made_ago, born, condition }: types::Intent) -> Self {
        Self { number, made_ago: Duration::from_nanos(made_ago), born, condition: condition.into() }
    }
}

impl From<Found<Payload>> for wit::Found {
    fn from(Found { entry, version, born }: Found<Payload>) -> Self {
        Self { entry: entry.map(Into::into), version: version.map(Into::into), born }
    }
}

impl From<Command<Key, Payload>> for wit::Change {
    fn from(command: Command<Key, Payload>) -> Self {
        match command {
            Command::Put { key, value, windows } => Self::Put(wit::Put {
                key: String::from(&*key),
                tags: tags(&value),
                value: value.bytes.into(),
                windows: windows.map(Into::into),
            }),
            Command::Remove { key } => Self::Remove(String::from(&*key)),
            Command::Expire { key } => Self::Expire(String::from(&*key)),
            Command::Invalidate { tag, how } => Self::Invalidate(wit::Invalidate { tag: tag.0, how: how.into() }),
            Command::Clear => Self::Clear,
        }
    }
}

impl From<Event<Payload>> for wit::Event {
    fn from(event: Event<Payload>) -> Self {
        match event {
            Event::StoreRead(read) => Self::StoreRead(read.map(Into::into).map_err(Into::into)),
            Event::Loaded(loaded) => Self::Loaded(loaded.map(Into::into).map_err(Into::into)),
            Event::Slept => Self::Slept,
            Event::Launched => Self::Launched,
            Event::Landed => Self::Landed,
            Event::StoreWritten(written) => Self::StoreWritten(written.map(Into::into).map_err(Into::into)),
            Event::StoreRemoved(removed) => Self::StoreRemoved(removed.map(Into::into).map_err(Into::into)),
            Event::LeaseAnswered(answer) => Self::LeaseAnswered(answer.map(Into::into).map_err(Into::into)),
            Event::LeaseAwaited => Self::LeaseAwaited,
            Event::StoreCleared(cleared) => Self::StoreCleared(cleared.map_err(Into::into)),
            Event::StoreInvalidated(noted) => Self::StoreInvalidated(noted.map_err(Into::into)),
            Event::Resigned => Self::Resigned,
            Event::Abandoned => Self::Abandoned,
        }
    }
}
