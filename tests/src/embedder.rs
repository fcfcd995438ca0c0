//! A host of one's own for the component of world `cache`: plain wasmtime, what `wit/` says, and a store. It has direct
//! operations and no loader.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tideover::engine::CACHE_COMPONENT;
use tideover::store::{Cursor, DIRECT_PREFIX, Remaining, Store, StoreError, When};
use tokio::time::{Instant, sleep_until, timeout_at};
use wasmtime::component::{Accessor, Component, HasSelf, Linker};
use wasmtime::{Config, Engine};

use self::generated::Cache as World;
use self::generated::exports::tideover::cache::direct::Guest;
use self::generated::tideover::cache::{clock, direct_store, direct_types, loader, store, types};

/// What wasmtime generates from `wit/`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]
pub mod generated {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "cache",
        exports: { default: async | store },
        additional_derives: [PartialEq],
    });
}

/// What the component imports.
pub struct Host {
    store: Arc<dyn Store>,
    /// The zero of its clock.
    began: Instant,
}

/// An instance at work.
#[derive(Clone, Copy)]
pub struct Instance<'a> {
    guest: &'a Guest,
    caching: &'a generated::exports::tideover::cache::caching::Guest,
    accessor: &'a Accessor<Host>,
}

/// The component, compiled once for this process.
fn compiled() -> &'static (Engine, Component) {
    static COMPILED: OnceLock<(Engine, Component)> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let engine = Engine::new(&Config::new()).expect("an engine");
        let component = Component::new(&engine, CACHE_COMPONENT).expect("a component");
        (engine, component)
    })
}

/// Runs `life` with an instance that has these settings, while a round a second pays what is owed.
///
/// # Panics
///
/// Panics if the component cannot be made, or traps.
pub async fn embed<R>(
    store: impl Store,
    settings: &[(&str, &str)],
    seed: u64,
    life: impl AsyncFnOnce(Instance<'_>) -> R,
) -> R {
    let (engine, component) = compiled();
    let mut linker = Linker::new(engine);
    World::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host).expect("it is all there");
    let mut instance = wasmtime::Store::new(engine, Host { store: Arc::new(store), began: Instant::now() });
    let world = World::instantiate_async(&mut instance, component, &linker).await.expect("an instance");
    let setting =
        |(name, value): &(&str, &str)| types::Setting { name: (*name).to_owned(), value: (*value).to_owned() };
    let settings = settings.iter().chain(&[("store", "true")]).map(setting).collect();
    let run = async |accessor: &Accessor<Host>| {
        let (guest, caching) = (world.tideover_cache_direct(), world.tideover_cache_caching());
        let configured = caching.call_configure(accessor, settings, seed, 1).await.expect("no trap");
        configured.expect("good settings");
        let rounds = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                caching.call_maintain(accessor).await.expect("no trap");
            }
        };
        tokio::select! {
            biased;
            result = life(Instance { guest, caching, accessor }) => result,
            never = rounds => never,
        }
    };
    instance.run_concurrent(run).await.expect("no trap")
}

/// As [`Direct`](tideover::Direct) does it: what was answered, and by whom. A trap is none of its answers.
type Answered<T> = Result<(T, types::Source), direct_types::Unanswered>;

macro_rules! operations {
    ($($name:ident = $call:ident($($argument:ident: $type:ty),*) -> $answer:ty;)+) => {
        impl Instance<'_> {
            $(
                /// See `wit/direct.wit`.
                ///
                /// # Errors
                ///
                /// As there.
                ///
                /// # Panics
                ///
                /// Panics if the instance traps.
                pub async fn $name(&self, $($argument: $type),*) -> $answer {
                    self.guest.$call(self.accessor, $($argument),*).await.expect("no trap")
                }
            )+
        }
    };
}

operations! {
    get = call_get(key: String) -> Answered<Option<Vec<u8>>>;
    get_many = call_get_many(keys: Vec<String>) -> Answered<Vec<Option<Vec<u8>>>>;
    exists = call_exists(key: String) -> Answered<bool>;
    put = call_put(key: String, value: Vec<u8>, ttl: Option<u64>, when: direct_types::When) -> Answered<bool>;
    put_many = call_put_many(entries: Vec<(String, Vec<u8>)>, ttl: Option<u64>)
        -> Result<types::Source, direct_types::Unanswered>;
    take = call_take(key: String) -> Answered<Option<Vec<u8>>>;
    remove = call_remove(key: String) -> Answered<bool>;
    remove_many = call_remove_many(keys: Vec<String>) -> Answered<u64>;
    increment = call_increment(key: String, by: i64, ttl: Option<u64>) -> Answered<i64>;
    set_ttl = call_set_ttl(key: String, ttl: Option<u64>) -> Answered<bool>;
    remaining = call_remaining(key: String) -> Answered<direct_types::Lifetime>;
    scan = call_scan(pattern: String, cursor: String, count: u32) -> Answered<direct_types::Page>;
    remove_matching = call_remove_matching(pattern: String) -> Answered<u64>;
    clear = call_clear() -> Result<types::Source, direct_types::Unanswered>;
    ping = call_ping() -> Result<types::Source, direct_types::Unanswered>;
    pay_up = call_pay_up() -> u64;
    stats = call_stats() -> Vec<types::Count>;
    circuit = call_circuit() -> types::Breaker;
    set_circuit_mode = call_set_circuit_mode(mode: types::BreakerMode) -> ();
    reset_circuit = call_reset_circuit() -> ();
}

impl Instance<'_> {
    /// Answers when nothing is under way.
    ///
    /// # Panics
    ///
    /// Panics if the instance traps.
    pub async fn idle(&self) {
        self.caching.call_idle(self.accessor).await.expect("no trap");
    }
}

type Access = Accessor<Host>;
type Asked<T> = Result<T, direct_types::Fault>;

/// Asks the store, until the deadline.
async fn ask<T, F: Future<Output = Result<T, StoreError>>>(
    access: &Access,
    deadline: u64,
    work: impl FnOnce(Arc<dyn Store>) -> F,
) -> Asked<T> {
    let (store, began) = access.with(|mut access| (Arc::clone(&access.get().store), access.get().began));
    let until = began + Duration::from_nanos(deadline);
    let asked = std::panic::AssertUnwindSafe(work(store)).catch_unwind();
    let answered = timeout_at(until, asked).await.map_err(|_elapsed| direct_types::Fault::TimedOut)?;
    answered.map_err(|_panic| direct_types::Fault::Uncertain)?.map_err(|error| fault(&error))
}

fn fault(error: &StoreError) -> direct_types::Fault {
    match error {
        StoreError::Unavailable(_) => direct_types::Fault::Unavailable,
        StoreError::Uncertain(_) => direct_types::Fault::Uncertain,
        StoreError::TimedOut(_) => direct_types::Fault::TimedOut,
        StoreError::Congested => direct_types::Fault::Congested,
        StoreError::Unsupported(_) => direct_types::Fault::Unsupported,
        StoreError::Rejected(_) | StoreError::Foreign(_) => direct_types::Fault::Refused,
        _ => direct_types::Fault::Overloaded,
    }
}

fn place(key: &str) -> String {
    format!("{DIRECT_PREFIX}{key}")
}

fn borrowed(places: &[String]) -> Vec<&str> {
    places.iter().map(String::as_str).collect()
}

fn ttl(nanos: Option<u64>) -> Option<Duration> {
    nanos.map(Duration::from_nanos)
}

fn lifetime(left: Remaining) -> direct_types::Lifetime {
    match left {
        Remaining::NoSuchKey => direct_types::Lifetime::NoSuchKey,
        Remaining::Forever => direct_types::Lifetime::Forever,
        Remaining::Left(left) => direct_types::Lifetime::Left(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)),
    }
}

/// When the key ends, if that is asked.
async fn end(store: &dyn Store, key: &str, is_asked: bool) -> Option<direct_types::Lifetime> {
    if is_asked { store.remaining(key).await.ok().map(lifetime) } else { None }
}

impl direct_types::Host for Host {}

impl direct_store::Host for Host {
    fn can(&mut self) -> direct_types::Abilities {
        use direct_types::Abilities;
        let abilities = self.store.abilities();
        let able = [
            (abilities.conditional, Abilities::CONDITIONAL),
            (abilities.batch, Abilities::BATCH),
            (abilities.counters, Abilities::COUNTERS),
            (abilities.ttl, Abilities::TTL),
            (abilities.scan, Abilities::SCAN),
        ];
        able.into_iter().filter(|(is_able, _)| *is_able).fold(Abilities::empty(), |all, (_, ability)| all | ability)
    }
}

impl direct_store::HostWithStore<Host> for HasSelf<Host> {
    async fn get(
        access: &Access,
        key: String,
        with_end: bool,
        deadline: u64,
    ) -> Asked<(Option<Vec<u8>>, Option<direct_types::Lifetime>)> {
        let at = place(&key);
        ask(access, deadline, move |store| async move {
            let (value, left) = tokio::join!(store.read(&at), end(&*store, &at, with_end));
            Ok((value?.map(Into::into), left))
        })
        .await
    }

    async fn get_many(access: &Access, keys: Vec<String>, deadline: u64) -> Asked<Vec<Option<Vec<u8>>>> {
        let places: Vec<_> = keys.iter().map(|key| place(key)).collect();
        let values =
            ask(access, deadline, move |store| async move { store.read_many(&borrowed(&places)).await }).await?;
        Ok(values.into_iter().map(|value| value.map(Into::into)).collect())
    }

    async fn exists(access: &Access, key: String, deadline: u64) -> Asked<bool> {
        ask(access, deadline, move |store| async move { store.exists(&place(&key)).await }).await
    }

    async fn put(
        access: &Access,
        key: String,
        value: Vec<u8>,
        lives: Option<u64>,
        when: direct_types::When,
        deadline: u64,
    ) -> Asked<bool> {
        let (at, value, lives) = (place(&key), Bytes::from(value), ttl(lives));
        ask(access, deadline, move |store| async move {
            match when {
                direct_types::When::Always => store.write(&at, value, lives).await.map(|()| true),
                direct_types::When::Absent => store.write_when(&at, value, lives, When::Absent).await,
                direct_types::When::Present => store.write_when(&at, value, lives, When::Present).await,
            }
        })
        .await
    }

    async fn put_many(
        access: &Access,
        entries: Vec<(String, Vec<u8>)>,
        lives: Option<u64>,
        deadline: u64,
    ) -> Asked<()> {
        let placed: Vec<_> = entries.into_iter().map(|(key, value)| (place(&key), Bytes::from(value))).collect();
        let placed: Vec<_> = placed.iter().map(|(at, value)| (at.as_str(), value.clone())).collect();
        ask(access, deadline, move |store| async move { store.write_many(&placed, ttl(lives)).await }).await
    }

    async fn take(access: &Access, key: String, deadline: u64) -> Asked<Option<Vec<u8>>> {
        let taken = ask(access, deadline, move |store| async move { store.take(&place(&key)).await }).await?;
        Ok(taken.map(Into::into))
    }

    async fn remove(access: &Access, key: String, deadline: u64) -> Asked<bool> {
        ask(access, deadline, move |store| async move {
            if store.abilities().conditional {
                return store.delete(&place(&key)).await;
            }
            store.remove(&place(&key)).await.map(|()| true)
        })
        .await
    }

    async fn remove_many(access: &Access, keys: Vec<String>, deadline: u64) -> Asked<u64> {
        let places: Vec<_> = keys.iter().map(|key| place(key)).collect();
        ask(access, deadline, move |store| async move { store.remove_many(&borrowed(&places)).await }).await
    }

    async fn increment(
        access: &Access,
        key: String,
        by: i64,
        lives: Option<u64>,
        with_end: bool,
        deadline: u64,
    ) -> Asked<(i64, Option<direct_types::Lifetime>)> {
        let at = place(&key);
        ask(access, deadline, move |store| async move {
            let (sum, left) = tokio::join!(store.increment(&at, by, ttl(lives)), end(&*store, &at, with_end));
            Ok((sum?, left))
        })
        .await
    }

    async fn set_ttl(access: &Access, key: String, lives: Option<u64>, deadline: u64) -> Asked<bool> {
        ask(access, deadline, move |store| async move { store.expire(&place(&key), ttl(lives)).await }).await
    }

    async fn remaining(access: &Access, key: String, deadline: u64) -> Asked<direct_types::Lifetime> {
        ask(access, deadline, move |store| async move { store.remaining(&place(&key)).await.map(lifetime) }).await
    }

    async fn scan(
        access: &Access,
        pattern: String,
        cursor: String,
        count: u32,
        deadline: u64,
    ) -> Asked<direct_types::Page> {
        let (pattern, cursor) = (place(&pattern), Cursor::new(cursor));
        let page =
            ask(access, deadline, move |store| async move { store.scan(&pattern, &cursor, count as usize).await })
                .await?;
        let keys = page.keys.iter().filter_map(|key| key.strip_prefix(DIRECT_PREFIX).map(str::to_owned));
        Ok(direct_types::Page { keys: keys.collect(), next: page.next.map(|next| next.as_str().to_owned()) })
    }

    async fn ping(access: &Access, deadline: u64) -> Asked<()> {
        ask(access, deadline, move |store| async move { store.ping().await }).await
    }
}

impl types::Host for Host {}

impl clock::Host for Host {
    fn now(&mut self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn wall(&mut self) -> u64 {
        0
    }
}

impl clock::HostWithStore<Host> for HasSelf<Host> {
    async fn wait_until(access: &Access, until: u64) {
        let began = access.with(|mut access| access.get().began);
        sleep_until(began + Duration::from_nanos(until)).await;
    }
}

/// Of cached values this host has no store.
impl store::Host for Host {
    fn release_lease(&mut self, _key: String) {}

    fn found_corrupt(&mut self, _tier: types::Tier, _key: String, _reason: String) {}

    fn take_news(&mut self) -> Vec<types::Tidings> {
        Vec::new()
    }
}

type Stored<T> = Result<T, types::StoreFailure>;

impl store::HostWithStore<Host> for HasSelf<Host> {
    async fn read(_: &Access, _: types::Tier, _: String, _: u64) -> Stored<Option<Vec<u8>>> {
        Err(types::StoreFailure::Unavailable)
    }

    async fn write(
        _: &Access,
        _: types::Tier,
        _: String,
        _: Vec<u8>,
        _: Option<u64>,
        _: types::Condition,
        _: u64,
    ) -> Stored<types::Written> {
        Err(types::StoreFailure::Unavailable)
    }

    async fn remove(
        _: &Access,
        _: types::Tier,
        _: String,
        _: Vec<u8>,
        _: u64,
        _: types::Condition,
        _: u64,
    ) -> Stored<types::Written> {
        Err(types::StoreFailure::Unavailable)
    }

    async fn clear(_: &Access, _: types::Tier, _: u64) -> Stored<()> {
        Err(types::StoreFailure::Unavailable)
    }

    async fn acquire_lease(_: &Access, _: String, _: u64, _: u64, _: u64) -> Stored<types::Leased> {
        Err(types::StoreFailure::Unavailable)
    }

    async fn await_lease(_: &Access, _: String, _: u64) {}

    async fn add_note(_: &Access, _: types::Note, _: u64, _: u64) -> Stored<()> {
        Err(types::StoreFailure::Unavailable)
    }
}

impl loader::Host for Host {
    fn release(&mut self, _context: u64) {}
}

impl loader::HostWithStore<Host> for HasSelf<Host> {
    async fn load(
        _: &Access,
        _: String,
        _: u64,
        _: u32,
        _: u64,
        _: Option<types::Entry>,
    ) -> Result<types::Loaded, types::LoadFailure> {
        Err(types::LoadFailure { class: types::FailureClass::Unavailable, retry_after: None })
    }
}
