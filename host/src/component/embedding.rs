//! World `cache`: the whole cache in a sandbox.
//!
//! One task owns the instance and everything that belongs to it. Calls reach it over a bounded channel and are in the
//! instance side by side; a caller that goes away is noticed because its end of the answer's channel closes. When the
//! instance traps, the task tells everybody who was in it, and makes another one.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tideover_core::breaker::Mode;
use tideover_core::cache::Dependency;
use tideover_core::cache::snapshot::{Restored, Taken};
use tideover_core::memory::Reason;
use tideover_core::time::nanos;
use tideover_core::{Command, Instant, LoaderId, Policy};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::unconstrained;
use tokio_util::task::TaskTracker;
use wasmtime::component::{Accessor, Component, HasSelf, Linker};
use wasmtime::{AsContextMut, Config, Store};

use super::bindings::cache::CachePre as WorldPre;
use super::bindings::cache::exports::tideover::cache::caching::{self as wit, Guest};
use super::bindings::cache::tideover::cache::{clock, loader, store};
use super::bindings::types;
use super::calls::{Answer, CALLS_MAX};
use super::convert::{removed, tags};
use super::imports::{Host, Outside};
use super::{CACHE_COMPONENT, TICKS_MAX, broken, engine, refused, settings};
use crate::clock::HostClock;
use crate::driver::Reply;
use crate::engine::{EngineError, Key, Payload, Report};
use crate::error::Error;
use crate::outside::{Ask, CacheId, Chain, Origin, Stores};

/// Requests on their way to the instance. Beyond that callers wait before it.
const INBOX_MAX: usize = 1_024;

/// What a call and the flight that it may lead have open in the instance: sets, streams, subtasks.
const HANDLES_OF_A_CALL: usize = 8;

/// The least time from one instance to the next, so that a cache that breaks at once does nothing worse than that.
const REPLACEMENT_PAUSE: Duration = Duration::from_millis(10);

/// How long the flights of a cache that nobody holds any more may go on.
const DROPPED_GRACE: Duration = Duration::from_secs(5);

/// A cache inside a component.
pub(crate) struct Embedding {
    requests: mpsc::Sender<Request>,
    contexts: AtomicU64,
    outside: Arc<Outside>,
    /// The one task of [`Owner`].
    owner: TaskTracker,
}

enum Request {
    Get {
        call: Call,
        lookup: Lookup,
        origin: Option<Origin>,
    },
    Change {
        call: Call,
        command: Command<Key, Payload>,
    },
    Report(oneshot::Sender<Result<Report, Error>>),
    Snapshot(oneshot::Sender<Result<Vec<u8>, Error>>),
    Restore {
        bytes: Vec<u8>,
        taken: Taken,
        answer: oneshot::Sender<Result<Restored, Error>>,
    },
    /// Without a mode the breaker is reset.
    Breaker {
        of: Dependency,
        mode: Option<Mode>,
        answer: oneshot::Sender<Result<(), Error>>,
    },
    KeysMatching {
        pattern: Box<str>,
        answer: oneshot::Sender<Result<BTreeSet<Key>, Error>>,
    },
    TakeRemovals(oneshot::Sender<Result<Vec<(Key, Reason)>, Error>>),
    Maintain,
    Shutdown {
        grace: Duration,
    },
}

/// What a lookup asks for.
struct Lookup {
    key: Key,
    deadline: Instant,
    max_age: Option<Duration>,
    explain: bool,
    of: LoaderId,
    /// The contexts inside whose loaders it is made.
    within: Vec<u64>,
}

struct Call {
    context: u64,
    answer: Answer,
}

impl Embedding {
    /// An empty cache.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for choices that cannot be, [`Error::Engine`] if the component cannot be compiled.
    pub(crate) fn new(policy: &Policy, seed: u64, stores: Stores, clock: HostClock) -> Result<Arc<Self>, Error> {
        policy.validate()?;
        Self::configured(settings(policy), seed, stores, clock)
    }

    fn configured(
        settings: Vec<types::Setting>,
        seed: u64,
        stores: Stores,
        clock: HostClock,
    ) -> Result<Arc<Self>, Error> {
        let (requests, inbox) = mpsc::channel(INBOX_MAX);
        let outside = Arc::new(Outside { id: CacheId::new(), stores, clock });
        let prepared = prepared()?;
        let owner = Owner { prepared, settings, seed, outside: Arc::clone(&outside), inbox, serving: false };
        let tasks = TaskTracker::new();
        tasks.spawn(owner.run());
        tasks.close();
        Ok(Arc::new(Self { requests, contexts: AtomicU64::new(0), outside, owner: tasks }))
    }

    pub(crate) fn stores(&self) -> &Stores {
        &self.outside.stores
    }

    pub(crate) fn clock(&self) -> &HostClock {
        &self.outside.clock
    }

    /// The value under a key; without a loader, only if memory or a store has it. To drop the call is to leave it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] at a limit, [`Error::Engine`] if the instance broke meanwhile, [`Error::Closed`].
    pub(crate) async fn get(&self, ask: Ask) -> Result<Reply, Error> {
        let Ask { key, loader, of, deadline, max_age, explain } = ask;
        let chain = Chain::here();
        let within = chain.of(self.outside.id).collect();
        let origin = loader.map(|loader| Origin::new(loader, chain));
        let lookup = Lookup { key, deadline, max_age, explain, of, within };
        self.call(|call| Request::Get { call, lookup, origin }).await
    }

    /// Makes a change, and waits until it is in the stores or known not to get there.
    ///
    /// # Errors
    ///
    /// As [`Embedding::get`].
    pub(crate) async fn change(&self, command: Command<Key, Payload>) -> Result<Reply, Error> {
        self.call(|call| Request::Change { call, command }).await
    }

    async fn call(&self, request: impl FnOnce(Call) -> Request) -> Result<Reply, Error> {
        let context = self.contexts.fetch_add(1, Ordering::Relaxed);
        self.ask(|answer| request(Call { context, answer })).await
    }

    /// How the cache is.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] if the instance broke meanwhile, [`Error::Closed`].
    pub(crate) async fn report(&self) -> Result<Report, Error> {
        self.ask(Request::Report).await
    }

    /// The cache as bytes.
    ///
    /// # Errors
    ///
    /// As [`Embedding::report`].
    pub(crate) async fn snapshot(&self) -> Result<Vec<u8>, Error> {
        self.ask(Request::Snapshot).await
    }

    /// Brings back what the bytes hold.
    ///
    /// # Errors
    ///
    /// [`Error::Snapshot`], and as [`Embedding::report`].
    pub(crate) async fn restore(&self, bytes: Vec<u8>, taken: Taken) -> Result<Restored, Error> {
        self.ask(|answer| Request::Restore { bytes, taken, answer }).await
    }

    /// Overrules a breaker; without a mode, resets it.
    ///
    /// # Errors
    ///
    /// As [`Embedding::report`].
    pub(crate) async fn breaker(&self, of: Dependency, mode: Option<Mode>) -> Result<(), Error> {
        self.ask(|answer| Request::Breaker { of, mode, answer }).await
    }

    /// Which keys match.
    ///
    /// # Errors
    ///
    /// As [`Embedding::report`].
    pub(crate) async fn keys_matching(&self, pattern: &str) -> Result<BTreeSet<Key>, Error> {
        self.ask(|answer| Request::KeysMatching { pattern: pattern.into(), answer }).await
    }

    /// What has left memory.
    ///
    /// # Errors
    ///
    /// As [`Embedding::report`].
    pub(crate) async fn take_removals(&self) -> Result<Vec<(Key, Reason)>, Error> {
        self.ask(Request::TakeRemovals).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_closed| Error::Closed)?;
        answered.await.unwrap_or(Err(Error::Abandoned))
    }

    /// What the machine wants done although nobody calls; to be called now and then. It never waits: an instance with
    /// a full inbox is not idle.
    pub(crate) fn maintain(&self) {
        let _full = self.requests.try_send(Request::Maintain);
    }

    /// Takes no more calls, lets flights end for `grace`, and closes the stores. A second call waits for the same end.
    pub(crate) async fn shutdown(&self, grace: Duration) {
        let _closed_already = self.requests.send(Request::Shutdown { grace }).await;
        self.owner.wait().await;
        self.outside.stores.close().await;
    }
}

impl Request {
    /// Answers without an instance.
    fn fail(self, error: &Error) {
        match self {
            Self::Get { call, .. } | Self::Change { call, .. } => drop(call.answer.send(Err(error.clone()))),
            Self::Report(answer) => drop(answer.send(Err(error.clone()))),
            Self::Snapshot(answer) => drop(answer.send(Err(error.clone()))),
            Self::Restore { answer, .. } => drop(answer.send(Err(error.clone()))),
            Self::Breaker { answer, .. } => drop(answer.send(Err(error.clone()))),
            Self::KeysMatching { answer, .. } => drop(answer.send(Err(error.clone()))),
            Self::TakeRemovals(answer) => drop(answer.send(Err(error.clone()))),
            Self::Maintain | Self::Shutdown { .. } => {}
        }
    }
}

/// The component, compiled once for this process.
fn prepared() -> Result<&'static WorldPre<Host>, EngineError> {
    static PREPARED: OnceLock<Result<WorldPre<Host>, EngineError>> = OnceLock::new();
    let prepare = || {
        let engine = engine(&mut Config::new())?;
        let component = Component::new(&engine, CACHE_COMPONENT)?;
        let mut linker = Linker::new(&engine);
        store::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?;
        loader::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?;
        clock::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?;
        // The direct operations of this crate's caches are beside the instance, so that what they owe outlives it. Those of
        // the instance are never called, and ask for nothing.
        linker.define_unknown_imports_as_traps(&component)?;
        WorldPre::new(linker.instantiate_pre(&component)?)
    };
    PREPARED.get_or_init(|| prepare().map_err(|error| broken(&error))).as_ref().map_err(Clone::clone)
}

/// Owns the instances of one cache, one after the other.
struct Owner {
    prepared: &'static WorldPre<Host>,
    settings: Vec<types::Setting>,
    seed: u64,
    outside: Arc<Outside>,
    inbox: mpsc::Receiver<Request>,
    /// The present instance has come so far as to take requests.
    serving: bool,
}

impl Owner {
    async fn run(mut self) {
        loop {
            let mut store = self.store();
            let Err(trap) = self.live(&mut store).await else { return };
            let trap = broken(&trap);
            self.outside.stores.observed.engine_replaced(&trap);
            let trap = Error::Engine(trap);
            store.data_mut().calls.fail(&trap);
            drop(store);
            if !self.serving && !self.turn_away(&trap) {
                return;
            }
            tokio::time::sleep(REPLACEMENT_PAUSE).await;
        }
    }

    /// No instance can be made at present, and nobody is to wait for one. Says whether more requests may come.
    fn turn_away(&mut self, error: &Error) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(Request::Shutdown { .. }) => self.inbox.close(),
                Ok(request) => request.fail(error),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn store(&self) -> Store<Host> {
        let mut store = Store::new(self.prepared.engine(), Host::new(Arc::clone(&self.outside)));
        store.limiter(|host| &mut host.limits);
        store.set_max_component_handles(CALLS_MAX * HANDLES_OF_A_CALL);
        store.set_epoch_deadline(TICKS_MAX);
        store
    }

    /// One instance, from its birth to the end of requests or to a trap.
    async fn live(&mut self, store: &mut Store<Host>) -> wasmtime::Result<()> {
        self.serving = false;
        let world = self.prepared.instantiate_async(&mut *store).await?;
        let (guest, writer) = (world.tideover_cache_caching(), store.data().writer);
        let mut life = async |accessor: &Accessor<Host>| {
            let configured = guest.call_configure(accessor, self.settings.clone(), self.seed, writer).await?;
            configured.map_err(|error| refused(&error))?;
            self.serving = true;
            Instance { guest, accessor }.serve(&mut self.inbox).await
        };
        // What traps in the background ends `run_concurrent`, what traps in a call ends that call.
        store.run_concurrent(async |accessor| paced(accessor, life(accessor)).await).await?
    }
}

/// Polls `life`, and each time, which is before each turn of the guest, grants the guest its ticks anew.
async fn paced<R>(accessor: &Accessor<Host>, life: impl Future<Output = R>) -> R {
    let mut life = pin!(life);
    poll_fn(|cx| {
        accessor.with(|mut access| access.as_context_mut().set_epoch_deadline(TICKS_MAX));
        life.as_mut().poll(cx)
    })
    .await
}

/// An instance at work.
#[derive(Clone, Copy)]
struct Instance<'a> {
    guest: &'a Guest,
    accessor: &'a Accessor<Host>,
}

impl Instance<'_> {
    /// Passes requests on until there are no more, and then lets flights end for a while.
    async fn serve(self, inbox: &mut mpsc::Receiver<Request>) -> wasmtime::Result<()> {
        let mut requests = FuturesUnordered::new();
        let mut grace = DROPPED_GRACE;
        loop {
            tokio::select! {
                biased;
                Some(done) = requests.next() => done?,
                request = inbox.recv() => match request {
                    Some(Request::Shutdown { grace: granted }) => {
                        grace = granted;
                        inbox.close();
                    }
                    // A share in tokio's budget for this task would leave most of many callers that go away at once
                    // unheard, to be polled again and again. The inbox keeps its share, so that the task yields.
                    Some(request) => requests.push(unconstrained(self.handle(request))),
                    None => break,
                },
            }
        }
        let end = async {
            while let Some(done) = requests.next().await {
                done?;
            }
            self.guest.call_idle(self.accessor).await
        };
        tokio::time::timeout(grace, end).await.unwrap_or(Ok(()))
    }

    async fn handle(self, request: Request) -> wasmtime::Result<()> {
        match request {
            Request::Get { call, lookup, origin } => self.get(call, lookup, origin).await,
            Request::Change { call, command } => self.change(call, command).await,
            Request::Report(answer) => {
                let report = self.guest.call_health(self.accessor).await?;
                // Whoever asked may have gone away, here and below.
                let _sent = answer.send(Ok(report.into()));
                Ok(())
            }
            Request::Snapshot(answer) => {
                let _sent = answer.send(Ok(self.guest.call_snapshot(self.accessor).await?));
                Ok(())
            }
            Request::Restore { bytes, taken, answer } => {
                let restored = self.guest.call_restore(self.accessor, bytes, taken.into()).await?;
                self.accessor.with(|mut access| access.get().listen_anew());
                let _sent = answer.send(restored.map(Into::into).map_err(|error| Error::Snapshot(error.into())));
                Ok(())
            }
            Request::Breaker { of, mode, answer } => {
                match mode {
                    Some(mode) => self.guest.call_set_breaker_mode(self.accessor, of.into(), mode.into()).await?,
                    None => self.guest.call_reset_breaker(self.accessor, of.into()).await?,
                }
                let _sent = answer.send(Ok(()));
                Ok(())
            }
            Request::KeysMatching { pattern, answer } => {
                let keys = self.guest.call_keys_matching(self.accessor, pattern.into()).await?;
                let _sent = answer.send(Ok(keys.into_iter().map(Key::from).collect()));
                Ok(())
            }
            Request::TakeRemovals(answer) => {
                let removals = self.guest.call_take_removals(self.accessor).await?;
                let _sent = answer.send(Ok(removals.into_iter().map(removed).collect()));
                Ok(())
            }
            Request::Maintain => self.guest.call_maintain(self.accessor).await,
            Request::Shutdown { .. } => Ok(()),
        }
    }

    async fn get(self, call: Call, lookup: Lookup, origin: Option<Origin>) -> wasmtime::Result<()> {
        let Self { guest, accessor } = self;
        let Lookup { key, deadline, max_age, explain, of, within } = lookup;
        let (key, context, deadline) = (String::from(&*key), call.context, Some(deadline.as_nanos()));
        let max_age = max_age.map(nanos);
        match origin {
            Some(_) => {
                let reply = guest.call_get_or_load(accessor, key, context, deadline, max_age, explain, of.0, within);
                self.pass(call, origin, reply).await
            }
            None => {
                let reply = guest.call_get(accessor, key, context, deadline, max_age, explain);
                self.pass(call, None, reply).await
            }
        }
    }

    async fn change(self, call: Call, command: Command<Key, Payload>) -> wasmtime::Result<()> {
        let Self { guest, accessor } = self;
        let context = call.context;
        match command {
            Command::Put { key, value, windows } => {
                let (key, tags, windows) = (String::from(&*key), tags(&value), windows.map(Into::into));
                let put = guest.call_put(accessor, key, context, value.bytes.into(), tags, windows);
                self.pass(call, None, put).await
            }
            Command::Remove { key } => {
                self.pass(call, None, guest.call_remove(accessor, String::from(&*key), context)).await
            }
            Command::Expire { key } => {
                self.pass(call, None, guest.call_expire(accessor, String::from(&*key), context)).await
            }
            Command::Invalidate { tag, how } => {
                self.pass(call, None, guest.call_invalidate_tag(accessor, tag.0, how.into(), context)).await
            }
            Command::Clear => self.pass(call, None, guest.call_clear(accessor, context)).await,
        }
    }

    /// Makes a call of the instance, and tells the instance if the caller goes away before the answer comes.
    async fn pass(
        self,
        Call { context, answer }: Call,
        origin: Option<Origin>,
        reply: impl Future<Output = wasmtime::Result<wit::Reply>>,
    ) -> wasmtime::Result<()> {
        let Self { guest, accessor } = self;
        if !accessor.with(|mut access| access.get().calls.begin(context, answer, origin)) {
            return Ok(());
        }
        let mut reply = pin!(reply);
        let gone = poll_fn(|cx| accessor.with(|mut access| access.get().calls.poll_gone(context, cx)));
        let reply = tokio::select! {
            biased;
            reply = &mut reply => reply?,
            () = gone => {
                guest.call_leave(accessor, context).await?;
                reply.await?
            }
        };
        accessor.with(|mut access| access.get().calls.answer(context, reply));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn nobody_waits_for_an_instance_that_cannot_be_made() {
        let nonsense = types::Setting { name: "nonsense".to_owned(), value: "1".to_owned() };
        let stores = Stores::new(None, Arc::new(MemoryStore::new(1)), Arc::default());
        let cache = Embedding::configured(vec![nonsense], 1, stores, HostClock::new()).expect("it compiles");
        for _ in 0..3 {
            let error = cache.report().await.expect_err("there is no instance");
            assert!(matches!(&error, Error::Engine(EngineError(reason)) if reason.contains("nonsense")), "{error}");
        }
        cache.shutdown(Duration::from_secs(60)).await;
        assert!(matches!(cache.report().await, Err(Error::Closed)));
    }
}
