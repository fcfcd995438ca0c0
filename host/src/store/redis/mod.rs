//! The store on Redis, Valkey, or anything else that speaks their protocol, in every deployment.
//!
//! From the bottom: `reply` and `request` are what is on the wire, `wire` is one connection, `dial` makes it, `node`
//! keeps one to a server, `sentinel` and `cluster` know which server. `operations`, `stamped` and `walk` put a store's
//! operations into commands; `log` is what processes tell each other, `backplane` what the server tells of them, `sweep`
//! what a clear leaves to be done.
//!
//! The protocol is spoken here, not by a client crate: which requests leave together, when a connection is given up
//! and whether a request is sent again are what this store is about, and a general client decides them otherwise. It
//! reconnects with back-off inside calls, fails the first call after a loss, and sends each request by itself.

mod backplane;
mod cluster;
mod config;
mod dial;
mod echoes;
mod failure;
mod keys;
mod lease;
mod log;
mod node;
mod operations;
mod pulse;
mod reply;
mod request;
mod script;
mod sentinel;
mod slots;
mod stamped;
mod sweep;
mod tls;
mod url;
mod walk;
mod wire;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tideover_core::envelope::stamp_of;
use tideover_core::stamp::Version;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

pub use self::config::{RedisBackplane, RedisConfig, RedisConfigError};
pub use self::tls::RedisTls;

use self::backplane::{Backplane, Deed, Reach};
use self::cluster::Cluster;
use self::dial::Dialer;
use self::failure::Fault;
use self::keys::Namespace;
use self::log::Log;
use self::node::{Named, Node, Plan, Whereabouts};
use self::reply::Reply;
use self::request::{Body, Effect, Request};
use self::script::Script;
use self::sentinel::Sentinels;
use self::sweep::Sweeper;
use self::tls::Tls;
use self::url::{Address, Login, Place, Target};
use self::wire::{Answered, Keeping};
use super::{Store, StoreError, deadline, is_direct};

/// A [`Store`] on Redis or Valkey: one server, a Cluster, or whatever server Sentinels say is the primary.
///
/// **Connections.** All callers share one connection to each server. The first call that needs it makes it; calls that
/// arrive meanwhile wait for the same attempt and share its outcome. No call waits for its turn to try again: that is
/// for the breaker in the policy to decide, so a call on a dead server fails at once and the first call on a server
/// that is back succeeds. Apart from calls, a lost connection is restored in the background. A call takes at most
/// [`RedisConfig::call_timeout`].
///
/// **Pipelines.** Requests that are made while others are unanswered gather and leave together, reads as one `MGET`
/// (each by itself in a Cluster). Past [`RedisConfig::queue_max`] without an answer they are refused.
///
/// **Order.** The connection is not replaced after a time-out. What was written to it stays queued, and a frozen server
/// works that off when it thaws; newer writes on a second connection could be overtaken by it, and an old value be back.
/// One connection keeps them in order. It is replaced when it breaks, when the server has become a read-only replica,
/// when nothing at all came back for [`RedisConfig::silence_max`], when nothing but a ping is unanswered for
/// `connect_timeout`, and when Sentinels say that another server is the primary. In a Cluster the order holds for
/// each node; writes that a frozen master was left with are lost with its role if a replica takes over.
///
/// **Repeating.** When a connection turns out to have been broken, the call is made once more on the next one. Commands
/// that do the same when run twice are; conditional writes, `take`, `delete` and `increment` only if they had not been
/// sent. Otherwise they report [`StoreError::Uncertain`]: nobody knows whether they were done.
///
/// **Other processes.** Writes of a cache compare what is there, as a script; invalidations are told by a stream, whose end
/// is asked for with each batch of requests while somebody [listens](Store::listen). What others change is told by the
/// server as it happens. See [`RedisConfig::compare`], [`RedisConfig::log`] and [`RedisConfig::backplane`].
///
/// **Foreign data.** What lies under a key and is no plain value is not of this store: reading it is a miss.
///
/// Calls need a tokio runtime with I/O and time. Dropping one is harmless: what was not sent yet is not sent, and an
/// answer is discarded when it comes.
pub struct RedisStore {
    deployment: Arc<Deployment>,
    namespace: Namespace,
    target: Target,
    /// Whether writes compare.
    compare: bool,
    log: Arc<Log>,
    backplane: Arc<Backplane>,
    sweeper: Sweeper,
    call_timeout: Duration,
    close_timeout: Duration,
    closing: AtomicBool,
    calls: TaskTracker,
}

/// Why a store that must be ready is not.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RedisStartError {
    /// It cannot be used as it is described.
    #[error(transparent)]
    Config(#[from] RedisConfigError),
    /// It does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The servers behind a store.
enum Deployment {
    Single { primary: Arc<Node>, replica: Option<Arc<Node>>, address: Address },
    Cluster(Arc<Cluster>),
}

impl RedisStore {
    /// A store that will connect when it is first used.
    ///
    /// # Errors
    ///
    /// When the URL is of no known form, when options contradict it or each other, when certificates cannot be used,
    /// when the namespace is empty, or when a limit is zero. Whether servers exist is not looked at.
    pub fn new(config: RedisConfig) -> Result<Self, RedisConfigError> {
        let target = config.target()?;
        let namespace = Namespace(config.namespace.clone());
        let log = Arc::new(Log::new(&namespace, config.log));
        let backplane = Backplane::new(config.backplane, &namespace, log.place(), config.backplane_grace);
        let deployment = Arc::new(Deployment::new(&config, &target, &log, &backplane)?);
        backplane.reach_by(Hands {
            log: Arc::clone(&log),
            deployment: Arc::downgrade(&deployment),
            namespace: namespace.clone(),
            call_timeout: config.call_timeout,
        });
        let sweeper =
            Sweeper::new(Arc::clone(&deployment), namespace.clone(), Arc::clone(&backplane), config.call_timeout);
        Ok(Self {
            deployment,
            namespace,
            target,
            compare: config.compare,
            log,
            backplane,
            sweeper,
            call_timeout: config.call_timeout,
            close_timeout: config.close_timeout,
            closing: AtomicBool::new(false),
            calls: TaskTracker::new(),
        })
    }

    /// A store that has connected and got an answer, in a Cluster from every master.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and when there is no answer within [`RedisConfig::call_timeout`].
    pub async fn connect(config: RedisConfig) -> Result<Self, RedisStartError> {
        let store = Self::new(config)?;
        store.ping().await?;
        Ok(store)
    }

    /// Runs a script on one key of this store, wherever that lies.
    async fn script(&self, script: &Script, place: &[u8], arguments: &[&[u8]]) -> Result<Reply, Fault> {
        script.run(place, arguments, |request| self.ask(place, request)).await
    }

    /// Counts a call as under way, unless the store is closing. `work` makes the future here, since one that is handed over
    /// would be there twice.
    async fn call<T, W>(&self, work: impl FnOnce() -> W) -> Result<T, StoreError>
    where
        W: Future<Output = Result<T, StoreError>>,
    {
        let _under_way = self.calls.token();
        if self.closing.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        work().await
    }

    /// The answer to a request on the key at `place`. If somebody listens to the log, what was noted before the request
    /// took effect has been told.
    /// What is noted there is about entries of caches, so who asks for keys of direct operations needs none of it.
    async fn ask(&self, place: &[u8], request: Request) -> Result<Reply, Fault> {
        let deadline = self.deadline();
        let is_once = request.effect == Effect::Once;
        let answer = match self.log.listened().filter(|_| !self.namespace.is_direct(place)) {
            None => self.deployment.ask(place, &request, deadline).await,
            Some(before) => self.log.heed(&self.deployment, before, place, request, deadline).await,
        };
        answer.map_err(|fault| if is_once { fault.of_once() } else { fault })
    }

    /// Tells others that these keys were changed.
    async fn tell_changed(&self, keys: &[&str], writer: Option<u64>) {
        let of_caches = keys.iter().filter(|key| !is_direct(key));
        join_all(of_caches.map(|key| self.tell(Deed::Changed(key, writer)))).await;
    }

    /// Tells other caches on this store, and other processes where the server does not. Should that fail, memory elsewhere
    /// keeps what it has until its freshness ends.
    async fn tell(&self, deed: Deed<'_>) {
        self.backplane.tell_here(&deed);
        let Some((channel, message)) = self.backplane.message(&deed) else { return };
        let request = Request::new(Effect::Write, &[b"PUBLISH", channel, &message]);
        if let Err(fault) = self.deployment.ask(channel, &request, self.deadline()).await {
            tracing::debug!(?fault, "a change was not published");
        }
    }

    /// When a call that begins now has to be over.
    fn deadline(&self) -> Instant {
        let limit = Instant::now() + self.call_timeout;
        deadline().map_or(limit, |deadline| deadline.min(limit))
    }

    /// Refuses new calls, waits for those under way as long as is allowed, and lets go of connections.
    async fn drain(&self) {
        self.closing.store(true, Ordering::Release);
        self.sweeper.end();
        self.calls.close();
        if timeout(self.close_timeout, self.calls.wait()).await.is_err() {
            tracing::debug!(calls = self.calls.len(), "closing with calls under way");
        }
        self.deployment.close();
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("server", &self.target.to_string())
            .field("namespace", &self.namespace.0)
            .finish_non_exhaustive()
    }
}

/// What the backplane asks the store with, for as long as that lives.
struct Hands {
    log: Arc<Log>,
    deployment: Weak<Deployment>,
    namespace: Namespace,
    call_timeout: Duration,
}

impl Reach for Hands {
    fn catch_up(&self) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let Some(deployment) = self.deployment.upgrade() else { return true };
            let Err(fault) = self.log.catch_up(&deployment, Instant::now() + self.call_timeout).await else {
                return true;
            };
            tracing::debug!(?fault, "news of the log");
            let error = StoreError::from(fault);
            !matches!(error, StoreError::Unavailable(_) | StoreError::TimedOut(_) | StoreError::Congested)
        })
    }

    fn version<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Version>, Fault>> {
        Box::pin(async move {
            let deployment = self.deployment.upgrade().ok_or(StoreError::Closed)?;
            let place = self.namespace.entry(key);
            // As the primary has it.
            let request = Request::new(Effect::Write, &[b"GETRANGE", &place, b"0", b"38"]);
            match deployment.ask(&place, &request, Instant::now() + self.call_timeout).await? {
                Reply::Bytes(begin) => Ok(stamp_of(&begin).map(|stamp| stamp.version)),
                _ => Err(failure::unexpected("GETRANGE").into()),
            }
        })
    }
}

impl Deployment {
    fn new(
        config: &RedisConfig,
        target: &Target,
        log: &Log,
        backplane: &Arc<Backplane>,
    ) -> Result<Self, RedisConfigError> {
        let tls = if target.tls { Some(Tls::new(&config.tls)?) } else { None };
        let keeping = Keeping {
            queue_max: config.queue_max,
            silence_max: config.silence_max,
            idle_max: config.idle_ping_after,
            ping_max: config.connect_timeout,
            doubt_after: config.response_timeout.min(config.silence_max) / 4,
            merges: !matches!(target.place, Place::Cluster(_)),
            head: log.head_command(),
        };
        let dialer = Dialer { tls, keeping, connect_timeout: config.connect_timeout };
        let plan = Arc::new(Plan {
            dialer: dialer.clone(),
            login: target.login.clone(),
            read_timeout: config.response_timeout,
            write_timeout: config.write_limit(),
            reconnect_wait_max: config.reconnect_wait_max,
            backplane: Arc::clone(backplane),
        });
        Ok(match &target.place {
            Place::Single(address) => {
                let primary = Node::new(plan, Whereabouts::At(address.clone()), false, None);
                Self::Single { primary, replica: None, address: address.clone() }
            }
            Place::Cluster(seeds) => {
                let log_slot = slots::slot(log.place());
                Self::Cluster(Cluster::new(plan, seeds.clone(), config.read_from_replicas, log_slot))
            }
            Place::Sentinel { sentinels, master } => {
                let (username, password) = (config.sentinel_username.clone(), config.sentinel_password.clone());
                let login = Login { username, password, ..Login::default() };
                let (addresses, master) = (sentinels.clone(), master.clone());
                let sentinels = Arc::new(Sentinels { dialer, login, addresses, master: master.clone() });
                let known =
                    |replica| Node::new(Arc::clone(&plan), Whereabouts::Known(Arc::clone(&sentinels)), replica, None);
                let replica = config.read_from_replicas.then(|| known(true));
                Self::Single { primary: known(false), replica, address: Address::Tcp(master, 0) }
            }
        })
    }

    /// The answer to a request on the key at `place`.
    async fn ask(&self, place: &[u8], request: &Request, deadline: Instant) -> Result<Reply, Fault> {
        self.answer(place, request, deadline).await.map(|answered| answered.reply)
    }

    /// The answer to a request on the key at `place`. A request that heeds the log gets the log's end with it, if that is
    /// to be had from the same server.
    async fn answer(&self, place: &[u8], request: &Request, deadline: Instant) -> Result<Answered, Fault> {
        match self {
            Self::Cluster(cluster) => Box::pin(cluster.answer(slots::slot(place), request, deadline)).await,
            Self::Single { primary, replica, .. } => {
                if may_lag(request)
                    && let Some(replica) = replica
                    && let Some(line) = replica.ready()
                    && let Ok(reply) = Box::pin(replica.ask_half_way(&line, request, deadline)).await
                {
                    return Ok(reply.into());
                }
                primary.answer(request, false, deadline).await
            }
        }
    }

    /// Whether the log's end comes with the answer to a request on the key at `place`, as far as is known.
    fn has_log_with(&self, place: &[u8], request: &Request) -> bool {
        match self {
            Self::Cluster(cluster) => cluster.has_log_with(slots::slot(place), request),
            Self::Single { replica, .. } => replica.is_none() || !may_lag(request),
        }
    }

    /// The servers that share the keys among them, each with a name that stays.
    async fn masters(&self, deadline: Instant) -> Result<Vec<Named>, Fault> {
        match self {
            Self::Single { primary, address, .. } => Ok(vec![(address.clone(), Arc::clone(primary))]),
            Self::Cluster(cluster) => cluster.masters(deadline).await,
        }
    }

    fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    fn close(&self) {
        match self {
            Self::Cluster(cluster) => cluster.close(),
            Self::Single { primary, replica, .. } => {
                primary.close();
                replica.iter().for_each(|replica| replica.close());
            }
        }
    }
}

/// Whether a replica may answer. Of values it may; whether a key is there, and how long it will be, is asked about what was
/// written or counted only just now.
fn may_lag(request: &Request) -> bool {
    request.effect == Effect::Read && matches!(request.body, Body::Get(_))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
