//! The store of the demo: a Redis of its own where one is installed, else a store in memory that hangs on demand.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tideover::Builder;
use tideover::store::{MemoryStore, RedisConfig, RedisStore, Store, StoreError};
use tokio::process::{Child, Command};

use super::Failure;

/// How long a Redis may take to start.
const START_MAX: Duration = Duration::from_secs(5);

pub(super) enum DemoStore {
    Redis(Box<OwnRedis>),
    Moody(Arc<AtomicBool>),
}

/// A server that belongs to this demo. It ends with it.
pub(super) struct OwnRedis {
    port: u16,
    folder: PathBuf,
    process: Option<Child>,
}

impl DemoStore {
    pub(super) async fn start() -> Result<Self, Failure> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().await.is_err() {
            return Ok(Self::Moody(Arc::new(AtomicBool::new(false))));
        }
        let mut redis = OwnRedis::new().map_err(|error| Failure::World(format!("no port for Redis: {error}")))?;
        redis.start().await?;
        Ok(Self::Redis(Box::new(redis)))
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Redis(redis) => format!("redis://127.0.0.1:{} (its own, to be killed)", redis.port),
            Self::Moody(_) => "in memory, to hang (install redis-server to see a real one killed)".to_owned(),
        }
    }

    pub(super) fn attach(&self, builder: Builder) -> Result<Builder, Failure> {
        match self {
            Self::Redis(redis) => {
                let store = RedisStore::new(RedisConfig::new(format!("redis://127.0.0.1:{}", redis.port)));
                Ok(builder.store(store.map_err(|error| Failure::World(error.to_string()))?))
            }
            Self::Moody(away) => {
                Ok(builder.store(MoodyStore { inner: MemoryStore::new(10_000), away: Arc::clone(away) }))
            }
        }
    }

    pub(super) async fn take_away(&mut self) -> Result<(), Failure> {
        match self {
            Self::Redis(redis) => redis.kill().await,
            Self::Moody(away) => away.store(true, Ordering::Relaxed),
        }
        Ok(())
    }

    pub(super) async fn bring_back(&mut self) -> Result<(), Failure> {
        match self {
            Self::Redis(redis) => redis.start().await,
            Self::Moody(away) => {
                away.store(false, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    pub(super) async fn stop(&mut self) {
        if let Self::Redis(redis) = self {
            redis.kill().await;
            // The folder of a store without persistence is empty; one that stays harms nobody.
            let _ = std::fs::remove_dir_all(&redis.folder);
        }
    }
}

impl OwnRedis {
    fn new() -> std::io::Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let folder = std::env::temp_dir().join(format!("tideover-demo-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self { port, folder, process: None })
    }

    async fn start(&mut self) -> Result<(), Failure> {
        let process = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(&self.folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.process = Some(process.map_err(|error| Failure::World(format!("cannot start redis-server: {error}")))?);
        let listening = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let started = tokio::time::timeout(START_MAX, listening).await;
        started.map_err(|_| Failure::World(format!("redis-server did not start within {START_MAX:?}")))
    }

    /// SIGKILL, as an out-of-memory killer would.
    async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // One that is dead already is as good.
            let _ = process.kill().await;
        }
    }
}

/// A store in memory that never answers while it is away.
struct MoodyStore {
    inner: MemoryStore,
    away: Arc<AtomicBool>,
}

impl MoodyStore {
    fn unless_away<'a, T: Send + 'a>(
        &'a self,
        operation: BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        async move {
            if self.away.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            operation.await
        }
        .boxed()
    }
}

impl Store for MoodyStore {
    fn name(&self) -> &'static str {
        "moody"
    }

    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.unless_away(self.inner.read(key))
    }

    fn write<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), StoreError>> {
        self.unless_away(self.inner.write(key, value, ttl))
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.unless_away(self.inner.remove(key))
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.unless_away(self.inner.clear())
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.unless_away(self.inner.ping())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}
