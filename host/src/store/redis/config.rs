//! What a user says about the Redis store, and why it cannot be used.

use std::fmt;
use std::time::Duration;

use super::tls::{RedisTls, Tls};
use super::url::Target;
use crate::store::check_namespace;

/// Where the server or servers are, how to talk to them, and how long to wait for them.
///
/// | URL | what it leads to |
/// |---|---|
/// | `redis://[user][:password@]host[:port][/database]` | one server (port 6379, database 0) |
/// | `redis+unix:///path[?db=1&user=…&pass=…]` | one server, by unix socket |
/// | `redis://a:7000,b:7001,c` or `redis+cluster://a:7000` | a Cluster, of which at least one named node must be there |
/// | `redis+sentinel://a:26379,b:26379/name[/database]` | the primary that these Sentinels know by that name (port 26379) |
///
/// With `rediss` in place of `redis` all connections use TLS; `valkey` and `valkeys` mean the same. User and password
/// are those of the servers, each of them. Special characters in them are percent-encoded. The protocol is RESP3 where
/// `backplane` needs it and the server speaks it; `?protocol=resp3` insists, `?protocol=resp2` does without.
///
/// ```
/// use tideover::store::RedisConfig;
///
/// let config = RedisConfig { namespace: "shop:".into(), ..RedisConfig::new("redis://app:secret@cache.internal/2") };
/// assert!(!format!("{config:?}").contains("secret"));
/// ```
#[derive(Clone)]
pub struct RedisConfig {
    /// Where and what, as in the table above.
    pub url: String,
    /// What every key of this store begins with; default `tideover:`. It has one colon, at its end, so that no namespace
    /// is the beginning of another, which clearing it would clear, too.
    pub namespace: String,
    /// Certificates for a URL with TLS; default none of one's own.
    pub tls: RedisTls,
    /// With whom to log in at the Sentinels; default nobody. The URL's user and password are not shown to them.
    pub sentinel_username: Option<String>,
    /// See `sentinel_username`, which may be absent.
    pub sentinel_password: Option<String>,
    /// Whether values may be read from replicas (Cluster and Sentinel only), which lag behind the primary: a read may
    /// miss what this very process has written, and find what another has replaced and `backplane` has told of. Whether
    /// a key is there, and when it ends, the primary is asked. A replica that fails is made up for by the primary: it is
    /// asked only over a connection that is there and not silent, has half of the time that is left to a read, and is
    /// connected to in the background alone. Default `false`.
    pub read_from_replicas: bool,
    /// How long making a connection may take: name lookup, connect, TLS, log in; default 1 s.
    pub connect_timeout: Duration,
    /// How long the answer to one command may take; default 1 s. A last resort: the driver's deadlines are tighter.
    /// After a quarter of it without a word, Sentinels and other nodes of a Cluster are asked whether someone else has
    /// taken over, and reads leave a silent replica alone.
    pub response_timeout: Duration,
    /// The same for commands that change something; default `None`: as `response_timeout`.
    pub write_timeout: Option<Duration>,
    /// How long one call may take in all: connecting, redirections and a second try included; default 3 s. `clear`,
    /// `remove_matching` and calls with many keys may take it for each of their steps.
    pub call_timeout: Duration,
    /// How long the peer may leave everything unanswered before the connection counts as broken; default 15 s.
    /// Holds for calls, for data that the peer's kernel does not acknowledge (Linux), and for the TCP keep-alive
    /// probes that are sent on an idle connection. Should a server that was given up come back to life, it may still
    /// run the writes that it was left with, after newer ones.
    pub silence_max: Duration,
    /// After how much idleness a connection is tested with a ping, which `connect_timeout` limits; default 10 s.
    pub idle_ping_after: Duration,
    /// The longest wait between two attempts to restore a lost connection in the background; the first comes within
    /// 100 ms, and each wait is drawn evenly from zero to twice the previous limit; default 5 s. Calls never wait for
    /// it: on a lost connection they make attempts of their own.
    pub reconnect_wait_max: Duration,
    /// Whether writes of a cache compare what is there with what they bring, in one step, by a script; default `true`.
    /// Without it a late load of one process may undo the newer write or removal of another; a user that may not run
    /// scripts (`EVALSHA`, `EVAL`) needs it so.
    pub compare: bool,
    /// Whether invalidated tags and clears are told to other processes, by a stream under the key `NAMESPACE!log` that
    /// keeps about the last 10 000 of them; default `true`. Without it values with tags are not shared: each process
    /// keeps its own in memory. All processes with one namespace are to choose the same. Needs `XADD`, `XDEL`,
    /// `XRANGE`, `XREVRANGE` and `XINFO`; evicting the stream (`maxmemory-policy allkeys-*`) loses what it knows.
    pub log: bool,
    /// How this process learns what others change as they change it, so that memory lets go of it at once; default
    /// [`RedisBackplane::Tracking`]. It takes RESP3, and so does not go with `?protocol=resp2`. A server that refuses it is
    /// used without: [`Store::abilities`](crate::store::Store::abilities) say so.
    pub backplane: RedisBackplane,
    /// How long the connection may be lost, or silent, before changes count as missed, and all of memory as stale; default
    /// 5 s. When it is back they do in any case, and memory is asked about; so in an outage of this length the origin is not
    /// asked for what is fresh here. Zero: at once.
    pub backplane_grace: Duration,
    /// How many operations may be without an answer on one connection, sent or not; default 65 536. Past it they are
    /// refused with [`StoreError::Overloaded`](crate::store::StoreError::Overloaded).
    pub queue_max: usize,
    /// How long closing waits for calls under way; default 1 s. Zero: not at all.
    pub close_timeout: Duration,
}

/// Who tells a process what others change; see [`RedisConfig::backplane`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RedisBackplane {
    /// The server, by client tracking of the namespace (`CLIENT TRACKING`, Redis 6): whoever changes a key, however. It
    /// tells of keys that end and keys that it evicts, too.
    #[default]
    Tracking,
    /// Those who write, by a channel `NAMESPACE!changed`, for servers without client tracking: what caches and stores of
    /// this crate change, if all processes with the namespace choose it. Each write costs a `PUBLISH`; what is written
    /// while a process dies may go untold.
    PubSub,
    /// Nobody: what is in memory stays there until its freshness ends. Tags and clears reach it with the next operation of
    /// the store.
    Off,
}

impl RedisConfig {
    /// The defaults, on the server at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            namespace: "tideover:".into(),
            tls: RedisTls::default(),
            sentinel_username: None,
            sentinel_password: None,
            read_from_replicas: false,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            write_timeout: None,
            call_timeout: Duration::from_secs(3),
            silence_max: Duration::from_secs(15),
            idle_ping_after: Duration::from_secs(10),
            reconnect_wait_max: Duration::from_secs(5),
            compare: true,
            log: true,
            backplane: RedisBackplane::default(),
            backplane_grace: Duration::from_secs(5),
            queue_max: 65_536,
            close_timeout: Duration::from_secs(1),
        }
    }

    /// Refuses what [`RedisStore::new`](super::RedisStore::new) refuses, without making a store. Whether servers exist is
    /// not looked at.
    ///
    /// # Errors
    ///
    /// [`RedisConfigError`], for the first thing that cannot work.
    pub fn validate(&self) -> Result<(), RedisConfigError> {
        let target = self.target()?;
        if target.tls && self.tls.is_set() {
            Tls::new(&self.tls)?;
        }
        Ok(())
    }

    /// Refuses what cannot work, and says where the URL leads.
    pub(super) fn target(&self) -> Result<Target, RedisConfigError> {
        let durations = [
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
            ("write_timeout", self.write_limit()),
            ("call_timeout", self.call_timeout),
            ("silence_max", self.silence_max),
            ("idle_ping_after", self.idle_ping_after),
            ("reconnect_wait_max", self.reconnect_wait_max),
        ];
        if let Some((name, _)) = durations.into_iter().find(|(_, duration)| duration.is_zero()) {
            return Err(RedisConfigError::ZeroDuration(name));
        }
        let waits = [("backplane_grace", self.backplane_grace), ("close_timeout", self.close_timeout)];
        if let Some((name, _)) = durations.into_iter().chain(waits).find(|(_, duration)| *duration > DURATION_MAX) {
            return Err(RedisConfigError::LongDuration(name));
        }
        let bad_namespace = |why| RedisConfigError::Namespace { namespace: self.namespace.clone(), why };
        check_namespace(&self.namespace).map_err(bad_namespace)?;
        if self.queue_max == 0 {
            return Err(RedisConfigError::NoQueue);
        }
        let target = Target::parse(&self.url)?;
        self.check_against(&target)?;
        Ok(target)
    }

    fn check_against(&self, target: &Target) -> Result<(), RedisConfigError> {
        let contradiction = |what| Err(RedisConfigError::Contradiction(what));
        if self.tls.is_set() && !target.tls {
            return contradiction("tls is set, but the URL does not ask for TLS: write rediss://");
        }
        if self.read_from_replicas && !target.place.has_replicas() {
            return contradiction("read_from_replicas is set, but the URL leads to one server only");
        }
        let sentinel_login = self.sentinel_username.is_some() || self.sentinel_password.is_some();
        if sentinel_login && !target.place.is_sentinel() {
            return contradiction("a login for Sentinels is set, but the URL leads to none");
        }
        if self.sentinel_username.is_some() && self.sentinel_password.is_none() {
            return contradiction("sentinel_username is set without sentinel_password");
        }
        Ok(())
    }

    pub(super) fn write_limit(&self) -> Duration {
        self.write_timeout.unwrap_or(self.response_timeout)
    }
}

/// Names the servers, never user and password.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = Target::parse(&self.url).map_or_else(|error| error.to_string(), |target| target.to_string());
        f.debug_struct("RedisConfig")
            .field("server", &server)
            .field("namespace", &self.namespace)
            .field("tls", &self.tls)
            .field("read_from_replicas", &self.read_from_replicas)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("write_timeout", &self.write_timeout)
            .field("call_timeout", &self.call_timeout)
            .field("silence_max", &self.silence_max)
            .field("idle_ping_after", &self.idle_ping_after)
            .field("reconnect_wait_max", &self.reconnect_wait_max)
            .field("compare", &self.compare)
            .field("log", &self.log)
            .field("backplane", &self.backplane)
            .field("backplane_grace", &self.backplane_grace)
            .field("queue_max", &self.queue_max)
            .field("close_timeout", &self.close_timeout)
            .finish_non_exhaustive()
    }
}

/// The longest of all durations. Systems keep connections by less (on Linux an idle one is looked at after 32 767 s at most).
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// Why a [`RedisConfig`] cannot be used. The text quotes nothing of the URL, as that may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedisConfigError {
    /// The URL is not of a form that this store understands.
    #[error("the Redis URL cannot be used: {0}")]
    Url(String),
    /// The namespace might reach into others, or others into it.
    #[error("the Redis namespace {namespace:?} {why}")]
    #[allow(missing_docs, reason = "the fields are named for what they are")]
    Namespace { namespace: String, why: String },
    /// The named duration is zero.
    #[error("{0} must be longer than zero")]
    ZeroDuration(&'static str),
    /// The named duration is longer than a day, which is more than systems keep connections by.
    #[error("{0} must be a day at most")]
    LongDuration(&'static str),
    /// `queue_max` is zero, so every call would be refused.
    #[error("queue_max must be at least one")]
    NoQueue,
    /// Options that do not go together, or not with the URL.
    #[error("the Redis options contradict each other: {0}")]
    Contradiction(&'static str),
    /// The certificates or keys cannot be used.
    #[error("the TLS options cannot be used: {0}")]
    Tls(&'static str),
}
