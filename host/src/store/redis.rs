//! The store on Redis, Valkey, or anything else that speaks their protocol.
//!
//! The `redis` crate speaks the protocol; here is decided when to connect, when to give a connection up, and what an
//! error means. Its `ConnectionManager` is not used: the first call after a loss fails there, and so does the first
//! after a failed reconnect, with the old error.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError, RedisResult,
    ServerErrorKind, Value, cmd, from_redis_value,
};
use tokio::time::Instant;

use super::{Store, StoreError};

/// Keys that one step of [`Store::clear`] looks at; Redis serves other clients between two steps.
const SCAN_COUNT: usize = 1_000;

/// Commands that wait in the client for their turn on the socket; past it, callers wait to hand theirs over.
const QUEUE_MAX: usize = 1_024;

/// The longest expiry that Redis takes is `i64::MAX` milliseconds after 1970; this is 146 million years.
const TTL_MILLIS_MAX: u64 = i64::MAX as u64 / 2;

/// Where the server is and how long to wait for it.
///
/// ```
/// use tideover::store::RedisConfig;
///
/// let config = RedisConfig { namespace: "shop:".into(), ..RedisConfig::new("redis://app:secret@cache.internal/2") };
/// assert!(!format!("{config:?}").contains("secret"));
/// ```
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://[user][:password@]host[:port][/database]` (port 6379, database 0), or
    /// `redis+unix:///path[?db=1&user=…&pass=…]`. Special characters in user and password are percent-encoded.
    /// `?protocol=resp3` changes the protocol, to no effect on this store.
    pub url: String,
    /// What every key of this store begins with; default `tideover:`. It must not be empty, and of two
    /// namespaces in one database neither may begin with the other: clearing `a:` clears `a:b:` too.
    pub namespace: String,
    /// How long making a connection may take: name lookup, connect, log in; default 1 s.
    pub connect_timeout: Duration,
    /// How long the answer to one command may take; default 1 s. A last resort: the driver's deadlines are tighter.
    pub response_timeout: Duration,
    /// How long the peer may leave everything unanswered before the connection counts as broken; default 15 s.
    /// Holds for calls, for data that the peer's kernel does not acknowledge (Linux), and for the TCP keep-alive
    /// probes that are sent on an idle connection. Should a server that was given up come back to life, it may still
    /// run the writes that it was left with, after newer ones.
    pub silence_max: Duration,
}

impl RedisConfig {
    /// The defaults, on the server at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            namespace: "tideover:".into(),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            silence_max: Duration::from_secs(15),
        }
    }
}

/// Names the server, never user and password.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = parse_url(&self.url).map_or_else(|error| error.to_string(), |info| address(&info));
        f.debug_struct("RedisConfig")
            .field("server", &server)
            .field("namespace", &self.namespace)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("silence_max", &self.silence_max)
            .finish()
    }
}

/// Why a [`RedisConfig`] cannot be used. The text quotes nothing of the URL, as that may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedisConfigError {
    /// The URL is not of a form that this store understands.
    #[error("the Redis URL cannot be used: {0}")]
    Url(String),
    /// The namespace is empty, so clearing it would clear what others keep in the database.
    #[error("the Redis namespace must not be empty: clearing it would clear the whole database")]
    EmptyNamespace,
    /// The named duration is zero.
    #[error("{0} must be longer than zero")]
    ZeroDuration(&'static str),
}

/// A [`Store`] on one Redis or Valkey server.
///
/// All callers share one connection. The first call that needs it makes it; calls that arrive meanwhile wait for the
/// same attempt and share its outcome. Nothing here sleeps or backs off: when to try again is for the breaker in the
/// policy to decide, so a call on a dead server fails at once and the first call on a server that is back succeeds.
/// A call takes at most `connect_timeout` and twice `response_timeout`; `clear` takes the latter for each of its steps.
///
/// The connection is not replaced after a time-out. What was written to it stays queued, and a frozen server works
/// that off when it thaws; newer writes on a second connection could be overtaken by it, and an old value be back.
/// One connection keeps them in order. It is replaced when it breaks, when the server has become a read-only replica,
/// and when nothing at all came back for [`RedisConfig::silence_max`].
///
/// Calls need a tokio runtime with I/O and time. Dropping one is harmless: its answer is discarded when it comes.
pub struct RedisStore {
    client: Client,
    options: AsyncConnectionConfig,
    namespace: String,
    silence_max: Duration,
    slot: Mutex<Slot>,
}

enum Slot {
    /// The latest attempt: under way, or done with a connection or an error.
    Open(Option<Attempt>),
    Closed,
}

type Attempt = Shared<BoxFuture<'static, Result<Arc<Link>, StoreError>>>;

/// A connection, and since when it has left a command unanswered.
struct Link {
    connection: MultiplexedConnection,
    silent_since: Mutex<Option<Instant>>,
}

impl RedisStore {
    /// A store that will connect when it is first used.
    ///
    /// # Errors
    ///
    /// When the URL is of no known form or asks for what this build lacks (TLS), when the namespace is empty, or when
    /// a duration is zero. Whether the server exists is not looked at.
    pub fn new(config: RedisConfig) -> Result<Self, RedisConfigError> {
        let RedisConfig { url, namespace, connect_timeout, response_timeout, silence_max } = config;
        let durations = [
            ("connect_timeout", connect_timeout),
            ("response_timeout", response_timeout),
            ("silence_max", silence_max),
        ];
        if let Some((name, _)) = durations.into_iter().find(|(_, duration)| duration.is_zero()) {
            return Err(RedisConfigError::ZeroDuration(name));
        }
        if namespace.is_empty() {
            return Err(RedisConfigError::EmptyNamespace);
        }
        let info = parse_url(&url)?.set_tcp_settings(tcp_settings(silence_max));
        let named = info.redis_settings().clone().set_lib_name("tideover", env!("CARGO_PKG_VERSION"));
        let client = Client::open(info.set_redis_settings(named)).map_err(|error| url_error(&error))?;
        let options = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect_timeout))
            .set_response_timeout(Some(response_timeout))
            .set_pipeline_buffer_size(QUEUE_MAX);
        Ok(Self { client, options, namespace, silence_max, slot: Mutex::new(Slot::Open(None)) })
    }

    fn key(&self, key: &str) -> String {
        [&self.namespace, key].concat()
    }

    async fn call(&self, command: Cmd) -> Result<Value, StoreError> {
        let command = &command;
        self.run(move |link| async move { link.ask(command).await }).await
    }

    /// Runs `work` on the shared connection, and once more on the next one if the one it found was already broken.
    ///
    /// That a peer is gone shows only when something is sent, so without the second run the first call after
    /// a restart of the server would fail. All of `work` is repeated, hence it must do no harm twice.
    async fn run<T, W>(&self, work: impl Fn(Arc<Link>) -> W) -> Result<T, StoreError>
    where
        W: Future<Output = RedisResult<T>>,
    {
        let mut repeated = false;
        loop {
            let attempt = self.attempt()?;
            let found = attempt.peek().is_some();
            let error = match work(attempt.clone().await?).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if error.is_unrecoverable_error() || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) {
                tracing::debug!(server = self.address(), "giving up the connection");
                self.forget(&attempt);
            }
            if repeated || !found || !error.is_connection_dropped() {
                return Err(command_error(&error));
            }
            repeated = true;
        }
    }

    /// The attempt to wait for: the latest one, unless it failed or its connection went silent.
    fn attempt(&self) -> Result<Attempt, StoreError> {
        let mut slot = lock(&self.slot);
        let Slot::Open(latest) = &mut *slot else { return Err(StoreError::Closed) };
        let usable = |attempt: &Attempt| match attempt.peek() {
            None => true,
            Some(Ok(link)) => !link.is_silent_for(self.silence_max),
            Some(Err(_)) => false,
        };
        if let Some(attempt) = latest.as_ref().filter(|attempt| usable(attempt)) {
            return Ok(attempt.clone());
        }
        let attempt = connect(self.client.clone(), self.options.clone()).boxed().shared();
        // Callers may leave before the attempt ends; the task sees it through, so that no later caller
        // finds one that was left half-way and long ago.
        drop(tokio::spawn(attempt.clone()));
        Ok(latest.insert(attempt).clone())
    }

    /// Sees to it that the next call connects anew, unless another has seen to it already.
    fn forget(&self, attempt: &Attempt) {
        if let Slot::Open(latest) = &mut *lock(&self.slot)
            && latest.as_ref().is_some_and(|latest| latest.ptr_eq(attempt))
        {
            *latest = None;
        }
    }

    fn address(&self) -> String {
        address(self.client.get_connection_info())
    }
}

impl Store for RedisStore {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            match self.call(cmd("GET").arg(self.key(key)).take()).await? {
                Value::Nil => Ok(None),
                Value::BulkString(bytes) => Ok(Some(bytes.into())),
                _ => Err(StoreError::Rejected("the answer to GET was neither bytes nor nil".into())),
            }
        })
    }

    fn write<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut set = cmd("SET");
            set.arg(self.key(key)).arg(&value[..]);
            if let Some(ttl) = ttl {
                set.arg("PX").arg(ttl_millis(ttl));
            }
            self.call(set).await.map(drop)
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.call(cmd("UNLINK").arg(self.key(key)).take()).await.map(drop) })
    }

    /// Keys that others write meanwhile may stay.
    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let pattern = &(escape_glob(&self.namespace) + "*");
            self.run(move |link| async move { link.unlink_matching(pattern).await }).await
        })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.call(cmd("PING")).await.map(drop) })
    }

    /// Calls under way keep the connection until they end.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { *lock(&self.slot) = Slot::Closed })
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("server", &self.address())
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Link {
    async fn ask(&self, command: &Cmd) -> RedisResult<Value> {
        lock(&self.silent_since).get_or_insert_with(Instant::now);
        let reply = self.connection.clone().send_packed_command(command).await;
        if reply.is_ok() {
            *lock(&self.silent_since) = None;
        }
        reply?.extract_error()
    }

    /// Whether commands have been sent for `patience` without a single answer.
    fn is_silent_for(&self, patience: Duration) -> bool {
        lock(&self.silent_since).is_some_and(|since| since.elapsed() >= patience)
    }

    /// Walks the key space with one cursor. The cursor is worth something to the server that gave it only,
    /// so the walk stays on this connection.
    async fn unlink_matching(&self, pattern: &str) -> RedisResult<()> {
        let mut cursor = 0_u64;
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_COUNT);
            let (next, keys): (u64, Vec<Vec<u8>>) = from_redis_value(self.ask(&scan).await?)?;
            if !keys.is_empty() {
                self.ask(cmd("UNLINK").arg(keys)).await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }
}

async fn connect(client: Client, options: AsyncConnectionConfig) -> Result<Arc<Link>, StoreError> {
    let server = address(client.get_connection_info());
    match client.get_multiplexed_async_connection_with_config(&options).await {
        Ok(connection) => {
            tracing::debug!(server, "connected");
            Ok(Arc::new(Link { connection, silent_since: Mutex::new(None) }))
        }
        Err(error) => {
            let error = connect_error(&server, &error);
            tracing::debug!(server, %error, "not connected");
            Err(error)
        }
    }
}

/// Where the server is, without user and password.
fn address(info: &ConnectionInfo) -> String {
    format!("{}/{}", info.addr(), info.redis_settings().db())
}

fn parse_url(url: &str) -> Result<ConnectionInfo, RedisConfigError> {
    let refuse = |why: &str| Err(RedisConfigError::Url(why.into()));
    let Some(url) = redis::parse_redis_url(url) else {
        return refuse("expected redis://[user][:password@]host[:port][/database] or redis+unix:///path");
    };
    // An unescaped `#` or `?` in a password ends the address there; without these checks the wrong server is asked.
    if url.fragment().is_some() {
        return refuse("it has a fragment; a `#` in user or password is written %23");
    }
    let known: &[&str] =
        if url.scheme().ends_with("unix") { &["protocol", "db", "user", "pass"] } else { &["protocol"] };
    if url.query_pairs().any(|(name, _)| !known.contains(&&*name)) {
        return refuse("it has an unknown parameter; a `?` in user or password is written %3F");
    }
    let info = url.into_connection_info().map_err(|error| url_error(&error))?;
    if info.redis_settings().db() < 0 {
        return refuse("the database number is negative");
    }
    Ok(info)
}

/// Keeps of the client's text what is constant: `description - kind: detail`.
fn url_error(error: &RedisError) -> RedisConfigError {
    let text = error.to_string();
    RedisConfigError::Url(text.split(" - ").next().unwrap_or_default().to_owned())
}

fn tcp_settings(silence_max: Duration) -> TcpSettings {
    // Three probes fit into the time; the resolution of the option is a second.
    let probe = (silence_max / 3).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(probe).with_interval(probe);
    limit_unacknowledged(TcpSettings::default().set_nodelay(true).set_keepalive(keepalive), silence_max)
}

/// Without it, the kernel sends into the void for a quarter of an hour before it reports that the peer is gone.
#[cfg(target_os = "linux")]
fn limit_unacknowledged(settings: TcpSettings, silence_max: Duration) -> TcpSettings {
    settings.set_user_timeout(silence_max)
}

#[cfg(not(target_os = "linux"))]
fn limit_unacknowledged(settings: TcpSettings, _: Duration) -> TcpSettings {
    settings
}

/// Rounded down, so that nothing outlives its time; but zero is refused by Redis.
fn ttl_millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, TTL_MILLIS_MAX)
}

/// The pattern that matches `text` and nothing else.
fn escape_glob(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for char in text.chars() {
        if matches!(char, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(char);
    }
    pattern
}

/// What a failed attempt to connect means. No key is in play yet, so the server's own words may be passed on, and a
/// refusal to log in says nothing against any value: it stays owed until the server takes the password.
fn connect_error(server: &str, error: &RedisError) -> StoreError {
    match error.kind() {
        ErrorKind::AuthenticationFailed => {
            StoreError::Unavailable(format!("{server} refused to log in: wrong user or password"))
        }
        ErrorKind::Server(_) => StoreError::Unavailable(format!("{server}: {error}")),
        _ if error.is_timeout() => StoreError::TimedOut(format!("no connection to {server} in time")),
        ErrorKind::Io => StoreError::Unavailable(format!("no connection to {server}: {error}")),
        _ => command_error(error),
    }
}

/// What a failed command means. Of a refusal only the code is kept, as the rest may quote the key.
fn command_error(error: &RedisError) -> StoreError {
    match (error.kind(), error.code()) {
        (_, Some(code)) => refusal(code),
        (ErrorKind::Io, _) if error.is_timeout() => StoreError::TimedOut("no answer in time".into()),
        (ErrorKind::Io, _) => StoreError::Unavailable(format!("connection lost: {error}")),
        (ErrorKind::Parse, _) => StoreError::Unavailable("the answer is not of the Redis protocol".into()),
        _ => StoreError::Rejected(error.category().into()),
    }
}

/// Sorts the codes with which a server refuses: into those of a server that cannot serve us now, and all others.
fn refusal(code: &str) -> StoreError {
    let unavailable = |why| StoreError::Unavailable(format!("{code}: {why}"));
    let rejected = |why| StoreError::Rejected(format!("{code}: {why}"));
    match code {
        "LOADING" => unavailable("the server is loading its data"),
        "BUSY" => unavailable("a script occupies the server"),
        "CLUSTERDOWN" => unavailable("the cluster does not serve this key now"),
        "MASTERDOWN" => unavailable("the replica has lost its primary"),
        "TRYAGAIN" => unavailable("the cluster is moving this key"),
        "READONLY" => unavailable("the server is a read-only replica"),
        "MISCONF" => unavailable("the server fails to persist and takes no writes"),
        "NOREPLICAS" => unavailable("the server has too few replicas and takes no writes"),
        "NOAUTH" => unavailable("the server wants a password"),
        "NOPERM" => unavailable("the user lacks the permission"),
        "WRONGTYPE" => StoreError::Foreign(format!("{code}: the key holds something that is not plain bytes")),
        "OOM" => rejected("the server is at its memory limit and may evict nothing"),
        "MOVED" | "ASK" => rejected("the key lives on another node of the cluster"),
        _ => rejected("the server refused the command"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_with(line: &str) -> StoreError {
        let reply = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("a whole reply");
        command_error(&reply.extract_error().expect_err("an error reply"))
    }

    #[test]
    fn a_server_that_cannot_serve_now_is_unavailable() {
        for line in ["LOADING Redis is loading", "BUSY a script", "CLUSTERDOWN", "MASTERDOWN Link", "TRYAGAIN later"] {
            assert!(matches!(refused_with(line), StoreError::Unavailable(_)), "{line}");
        }
        for line in ["READONLY k3y", "NOAUTH k3y", "NOPERM k3y", "MISCONF k3y", "NOREPLICAS k3y"] {
            let StoreError::Unavailable(text) = refused_with(line) else { panic!("{line}") };
            assert!(!text.contains("k3y"), "{text}");
        }
    }

    #[test]
    fn a_refusal_is_named_by_its_code_and_quotes_nothing() {
        for line in ["OOM k3y", "MOVED k3y", "ERR unknown command, args 'k3y'"] {
            let StoreError::Rejected(text) = refused_with(line) else { panic!("{line}") };
            let code = line.split(' ').next().expect("a code");
            assert!(text.starts_with(code) && !text.contains("k3y"), "{text}");
        }
    }

    #[test]
    fn what_is_not_plain_bytes_is_foreign() {
        let StoreError::Foreign(text) = refused_with("WRONGTYPE k3y") else { panic!("not foreign") };
        assert!(!text.contains("k3y"), "{text}");
    }

    #[test]
    fn a_pattern_matches_the_namespace_to_the_letter() {
        assert_eq!(escape_glob(r"a*b?[c]\:"), r"a\*b\?\[c\]\\:");
    }

    #[test]
    fn times_to_live_are_whole_milliseconds_that_redis_takes() {
        assert_eq!(ttl_millis(Duration::ZERO), 1);
        assert_eq!(ttl_millis(Duration::from_micros(2_999)), 2);
        assert_eq!(ttl_millis(Duration::MAX), TTL_MILLIS_MAX);
    }
}
