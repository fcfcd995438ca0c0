//! World `cache`: the machine, its memory and its driver inside one instance, which any number of calls are in at once.
//!
//! The driver is a loop around one `match` for each flight, as the host's is. A flight is a task beside the call that
//! launched it and outlives that call; every call is only a waiter. The tasks of an instance take turns, and a turn
//! ends only at an `await`: the lock of the [`Table`] is never contended, and nobody holds it across an `await` or a
//! call of the host.

mod direct;
mod one_shot;
mod table;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use spin::Mutex;
use tideover_core::envelope::Opened;
use tideover_core::stamp::{Intent, Written};
use tideover_core::{
    Cache, Call, Class, Command, Entry, Event, FlightId, Found, Instant, Leased, LoadFailure, Loaded, LoaderId, Lookup,
    Policy, Refusal, Step, StoreFailure, Tag, Tidings, Tier, Value as _, WallTime, envelope,
};

use self::table::{Begun, Landed, Table};
use crate::bindings::exports::tideover::cache::caching as wit;
use crate::bindings::tideover::cache::{clock, loader, store, types};
use crate::convert::{self, Key, Value, instant};

/// The one cache of this instance.
static TABLE: Mutex<Option<Table>> = Mutex::new(None);

struct Component;

crate::bindings::export!(Component with_types_in crate::bindings);

/// Runs `work` on the table, made with default settings if nobody has configured it, and then tells others what they
/// are to know of it.
fn with<R>(work: impl FnOnce(&mut Table) -> R) -> R {
    let (result, outbox) = {
        let mut table = TABLE.lock();
        let table = table.get_or_insert_with(default_table);
        (work(table), table.outbox())
    };
    outbox.deliver();
    result
}

#[cold]
fn default_table() -> Table {
    match Cache::new(Policy::default(), 0) {
        Ok(cache) => Table::new(cache, 0, 0),
        Err(_) => unreachable!("the default settings are valid"),
    }
}

fn now() -> Instant {
    instant(clock::now())
}

/// The present moment, at which the machine knows what is known of other processes: to be asked for before the machine
/// decides anything. What was noted in the shared store's log before an operation of the store took effect is known when
/// its flight goes on.
fn up_to_date() -> Instant {
    if !with(|table| table.cache.policy().store) {
        return now();
    }
    let (news, now) = (store::take_news(), now());
    with(|table| news.into_iter().for_each(|tidings| table.cache.learn(Tidings::<Key>::from(tidings), now)));
    now
}

fn wall() -> WallTime {
    WallTime::from_unix_millis(clock::wall())
}

impl wit::Guest for Component {
    fn configure(settings: Vec<types::Setting>, seed: u64, writer: u64) -> Result<(), types::PolicyError> {
        let cache = Cache::new(convert::policy(settings)?, seed)?;
        let mut table = TABLE.lock();
        if table.is_some() {
            return Err(types::PolicyError { name: "configure".into(), reason: "the cache is in use".into() });
        }
        *table = Some(Table::new(cache, seed, writer));
        Ok(())
    }

    async fn get_or_load(
        key: String,
        context: u64,
        deadline: Option<u64>,
        max_age: Option<u64>,
        explain: bool,
        loader: u64,
        within: Vec<u64>,
    ) -> wit::Reply {
        look_up(key, context, Wishes { deadline, max_age, explain, loader: LoaderId(loader) }, Some(&within)).await
    }

    async fn get(key: String, context: u64, deadline: Option<u64>, max_age: Option<u64>, explain: bool) -> wit::Reply {
        let wishes = Wishes { deadline, max_age, explain, loader: LoaderId::UNNAMED };
        look_up(key, context, wishes, None).await
    }

    async fn put(
        key: String,
        context: u64,
        value: Vec<u8>,
        tags: Vec<u64>,
        windows: Option<types::Windows>,
    ) -> wit::Reply {
        let value = Value::new(value, tags);
        let command = Command::Put { key: key.into(), value, windows: windows.map(Into::into) };
        change(context, command).await
    }

    async fn remove(key: String, context: u64) -> wit::Reply {
        change(context, Command::Remove { key: key.into() }).await
    }

    async fn expire(key: String, context: u64) -> wit::Reply {
        change(context, Command::Expire { key: key.into() }).await
    }

    async fn invalidate_tag(tag: u64, how: types::Invalidation, context: u64) -> wit::Reply {
        change(context, Command::Invalidate { tag: Tag(tag), how: how.into() }).await
    }

    fn tag_named(name: String) -> Result<u64, types::Refusal> {
        with(|table| convert::tag_named(table.cache.policy(), &name))
    }

    async fn clear(context: u64) -> wit::Reply {
        change(context, Command::Clear).await
    }

    async fn leave(context: u64) {
        let now = now();
        with(|table| table.leave(context, now));
    }

    async fn maintain() {
        let now = up_to_date();
        with(|table| {
            let next = table.cache.maintain(now);
            table.launch_next(next, now);
            table.direct.maintain(now);
        });
    }

    async fn idle() {
        with(Table::rest).receive().await;
    }

    fn snapshot() -> Vec<u8> {
        let (now, wall) = (now(), wall());
        with(|table| table.cache.snapshot(now, wall))
    }

    fn restore(bytes: Vec<u8>, taken: types::Taken) -> Result<types::Restored, types::SnapshotError> {
        let (now, wall) = (now(), wall());
        let restored = with(|table| table.cache.restore(&bytes, taken.into(), now, wall));
        restored.map(Into::into).map_err(Into::into)
    }

    fn set_breaker_mode(of: types::Dependency, mode: types::BreakerMode) {
        let now = now();
        with(|table| table.cache.set_breaker_mode(of.into(), mode.into(), now));
    }

    fn reset_breaker(of: types::Dependency) {
        let now = now();
        with(|table| table.cache.reset_breaker(of.into(), now));
    }

    fn keys_matching(pattern: String) -> Vec<String> {
        with(|table| convert::keys_matching(&table.cache, &pattern))
    }

    fn take_removals() -> Vec<types::Removal> {
        with(|table| table.cache.take_removals().map(Into::into).collect())
    }

    fn health() -> types::Report {
        with(|table| convert::health(&table.cache))
    }
}

/// What a caller asks for beside the key.
struct Wishes {
    deadline: Option<u64>,
    max_age: Option<u64>,
    explain: bool,
    loader: LoaderId,
}

/// The value under `key`; without contexts that it is asked for within, there is no loader.
async fn look_up(key: String, context: u64, wishes: Wishes, within: Option<&[u64]>) -> wit::Reply {
    let key: Key = key.into();
    let (deadline, max_age) = (wishes.deadline.map(instant), wishes.max_age.map(Duration::from_nanos));
    let explain = wishes.explain || with(|table| table.cache.policy().explain);
    // Over however many rounds the call goes, this is its end.
    let patience = now() + with(|table| table.cache.policy().call_deadline);
    let deadline = deadline.map_or(patience, |own| own.min(patience));
    loop {
        let now = up_to_date();
        let reply = ask(context, explain, |table| {
            table.cache.policy().check_key(&key)?;
            let flights = table.led_by(within.unwrap_or_default());
            let read_only = within.is_none();
            let loader = wishes.loader;
            let call = Call { deadline: Some(deadline), read_only, max_age, explain, loader, within: &flights };
            Ok(table.cache.lookup(&key, call, now))
        })
        .await;
        match reply.answer {
            // What is for another caller alone is not for this one: it asks again, for itself.
            Ok(types::Outcome::Private(_)) if !reply.led => {}
            Ok(types::Outcome::Again) => {}
            _ => return reply,
        }
    }
}

async fn change(context: u64, command: Command<Key, Value>) -> wit::Reply {
    let now = up_to_date();
    ask(context, false, |table| {
        let policy = table.cache.policy();
        match &command {
            Command::Put { key, value, .. } => {
                convert::check(policy, key, value.as_ref().len(), value.tags().len())?;
            }
            Command::Remove { key } | Command::Expire { key } => policy.check_key(key)?,
            Command::Invalidate { .. } | Command::Clear => {}
        }
        Ok(table.cache.command(command, now))
    })
    .await
}

/// Asks the machine for a caller, who waits for the flight if there is one to wait for.
async fn ask(
    context: u64,
    explain: bool,
    question: impl FnOnce(&mut Table) -> Result<Lookup<Key, Value>, Refusal>,
) -> wit::Reply {
    let (led, begun, story) = with(|table| match question(table) {
        Ok(lookup) => {
            let led = lookup.launch.is_some();
            let begun = table.begin(context, lookup);
            let told = explain && matches!(begun, Begun::Answered(_));
            (led, begun, told.then(|| table.cache.story(None)).flatten())
        }
        Err(refusal) => (false, Begun::Answered(Err(refusal)), None),
    });
    match begun {
        Begun::Answered(answer) => wit::Reply {
            answer: answer.map(Into::into).map_err(Into::into),
            leader: None,
            led,
            store: Some(wit::StoreUse::Unasked),
            story: story.as_ref().map(Into::into),
        },
        Begun::Waits(waiter) => {
            let Landed { outcome, store, leader, story } = waiter.receive().await;
            let (answer, store) = (Ok(outcome.into()), store.map(Into::into));
            wit::Reply { answer, leader, led, store, story: story.filter(|_| explain).as_deref().map(Into::into) }
        }
    }
}

/// The task of a flight, which ends with the flight, or when it is to wait: then the table keeps it until it is named.
/// When everybody has left it, the flight is over without its task: then the machine knows it no more, and answers with
/// `Done`.
async fn fly(mut flight: FlightId, mut step: Step<Key, Value>) {
    loop {
        let event = match step {
            Step::ReadStore { tier, key, deadline } => Event::StoreRead(read(tier, &key, deadline).await),
            Step::Load { key, attempt, deadline, previous } => {
                Event::Loaded(load(flight, &key, attempt, deadline, previous).await)
            }
            Step::Sleep { until } => {
                with(|table| table.sleep(flight, until)).receive().await;
                Event::Slept
            }
            Step::Wait => return,
            Step::Land { outcome, store, next } => {
                let now = now();
                with(|table| {
                    table.land(flight, &outcome, Some(store));
                    table.launch_next(next, now);
                });
                Event::Landed
            }
            Step::WriteStore { tier, key, entry, intent, deadline } => {
                Event::StoreWritten(write(tier, &key, &entry, intent, deadline).await)
            }
            Step::RemoveStore { tier, key, intent, fence_for, deadline } => {
                Event::StoreRemoved(remove(tier, &key, intent, fence_for, deadline).await)
            }
            Step::AcquireLease { key, ttl, hold_for, deadline } => {
                let (ttl, hold_for) = (convert::nanos(ttl), convert::nanos(hold_for));
                let answer = store::acquire_lease(String::from(&*key), ttl, hold_for, deadline.as_nanos()).await;
                let answer = answer.map(Into::into).map_err(Into::into);
                if answer == Ok(Leased::Held) {
                    with(|table| table.hold_lease(flight, key));
                }
                Event::LeaseAnswered(answer)
            }
            Step::AwaitLease { key, until } => {
                store::await_lease(String::from(&*key), until.as_nanos()).await;
                Event::LeaseAwaited
            }
            Step::ClearStore { tier, deadline } => {
                let cleared = store::clear(tier.into(), deadline.as_nanos()).await;
                Event::StoreCleared(cleared.map_err(Into::into))
            }
            Step::InvalidateStore { tag, how, made_ago, deadline } => {
                let note = types::Note::Invalidated(types::Invalidated { tag: tag.0, how: how.into() });
                let made_at = wall().before(made_ago).as_unix_millis();
                let noted = store::add_note(note, made_at, deadline.as_nanos()).await;
                Event::StoreInvalidated(noted.map_err(Into::into))
            }
            Step::Done { next } => {
                let now = now();
                let Some(next) = with(|table| table.hand_over(flight, next, now)) else { return };
                (flight, step) = next;
                continue;
            }
        };
        let now = up_to_date();
        step = with(|table| table.cache.resume(flight, event, now));
    }
}

async fn load(
    flight: FlightId,
    key: &str,
    attempt: u32,
    deadline: Instant,
    previous: Option<Entry<Value>>,
) -> Result<Loaded<Value>, LoadFailure> {
    let Some(context) = with(|table| table.leader(flight)) else { return Err(Class::Unavailable.into()) };
    let previous = previous.map(Into::into);
    let loaded = loader::load(String::from(key), context, attempt, deadline.as_nanos(), previous).await;
    loaded.map(Into::into).map_err(Into::into)
}

async fn read(tier: Tier, key: &str, deadline: Instant) -> Result<Found<Value>, StoreFailure> {
    let read = store::read(tier.into(), String::from(key), deadline.as_nanos()).await;
    let Some(bytes) = read.map_err(StoreFailure::from)? else { return Ok(Found::NOTHING) };
    let Opened { stamp, entry, tags } = envelope::decode(&bytes, wall()).map_err(|reason| {
        store::found_corrupt(tier.into(), key, &reason.to_string());
        StoreFailure::Corrupt { version: envelope::stamp_of(&bytes).map(|stamp| stamp.version) }
    })?;
    let entry = entry.map(|entry| entry.map(|value| Value::tagged(value, tags.collect())));
    Ok(Found { entry, version: Some(stamp.version), born: stamp.born })
}

async fn write(
    tier: Tier,
    key: &str,
    entry: &Entry<Value>,
    intent: Intent,
    deadline: Instant,
) -> Result<Written, StoreFailure> {
    let (wall, writer) = (wall(), with(|table| table.writer));
    let bytes = envelope::encode(entry, &intent.stamp(writer, wall), wall);
    let (ttl, condition, deadline) =
        (entry.remaining().map(convert::nanos), intent.condition.into(), deadline.as_nanos());
    let written = store::write(tier.into(), String::from(key), bytes, ttl, condition, deadline).await;
    written.map(Into::into).map_err(Into::into)
}

async fn remove(
    tier: Tier,
    key: &str,
    intent: Intent,
    fence_for: Duration,
    deadline: Instant,
) -> Result<Written, StoreFailure> {
    let tombstone = envelope::tombstone(&intent.stamp(with(|table| table.writer), wall()));
    let (fence_for, condition, deadline) = (convert::nanos(fence_for), intent.condition.into(), deadline.as_nanos());
    let removed = store::remove(tier.into(), String::from(key), tombstone, fence_for, condition, deadline).await;
    removed.map(Into::into).map_err(Into::into)
}

/// Rings at that instant, and again for as long as there is something to wait for. It is a task beside the call that
/// set it.
async fn alarm(mut at: Instant) {
    loop {
        clock::wait_until(at.as_nanos()).await;
        let now = up_to_date();
        let Some(next) = with(|table| table.ring(at, now)) else { return };
        if next <= now {
            wit_bindgen::yield_async().await;
        }
        at = next;
    }
}
