//! A store whose behaviour a test changes while it is in use.

use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tideover::core::stamp::{Condition, Written};
use tideover::core::{Note, WallTime, envelope};
use tideover::store::{Abilities, Ear, Leased, MemoryStore, Store, StoreError};

/// What a store operation is, to who awaits it.
pub type Operation<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How the store is at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// It does what it is asked for, at once.
    Fair,
    /// It does, after so long.
    Slow(Duration),
    /// It answers nothing.
    Hung,
    /// There is no connection.
    Away,
    /// It refuses everything.
    Refusing,
    /// Its client panics.
    Panicking,
}

/// A store in memory with [`Weather`]. All clones are the same store, as one Redis is to many processes.
#[derive(Clone)]
pub struct ScriptedStore {
    held: Arc<MemoryStore>,
    weather: Arc<Mutex<Weather>>,
    operations: Arc<AtomicUsize>,
}

impl Default for ScriptedStore {
    fn default() -> Self {
        Self {
            held: Arc::new(MemoryStore::new(10_000)),
            weather: Arc::new(Mutex::new(Weather::Fair)),
            operations: Arc::default(),
        }
    }
}

impl ScriptedStore {
    /// An empty one in that weather.
    #[must_use]
    pub fn with(weather: Weather) -> Self {
        Self { weather: Arc::new(Mutex::new(weather)), ..Self::default() }
    }

    /// From here on it is like this. Operations under way go on as they began.
    pub fn set(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// How often it was asked for anything.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.operations.load(Ordering::Relaxed)
    }

    /// What it holds under `key`, whatever the weather; a tombstone is nothing.
    ///
    /// # Panics
    ///
    /// If what it holds is no envelope.
    pub async fn value(&self, key: &str) -> Option<Bytes> {
        let bytes = self.held.read(key).await.expect("a store in memory")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = WallTime::from_unix_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        envelope::decode(&bytes, now).expect("an envelope").entry.map(|entry| Bytes::copy_from_slice(entry.value))
    }

    async fn weathered<T>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.operations.fetch_add(1, Ordering::Relaxed);
        let weather = *self.weather.lock().unwrap_or_else(PoisonError::into_inner);
        match weather {
            Weather::Fair => {}
            Weather::Slow(time) => tokio::time::sleep(time).await,
            Weather::Hung => pending().await,
            Weather::Away => return Err(StoreError::Unavailable("as the test wants it".to_owned())),
            Weather::Refusing => return Err(StoreError::Rejected("as the test wants it".to_owned())),
            Weather::Panicking => panic!("as the test wants it"),
        }
        operation.await
    }
}

impl Store for ScriptedStore {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn read<'a>(&'a self, key: &'a str) -> Operation<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(self.weathered(self.held.read(key)))
    }

    fn write<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> Operation<'a, Result<(), StoreError>> {
        Box::pin(self.weathered(self.held.write(key, value, ttl)))
    }

    fn remove<'a>(&'a self, key: &'a str) -> Operation<'a, Result<(), StoreError>> {
        Box::pin(self.weathered(self.held.remove(key)))
    }

    fn clear(&self) -> Operation<'_, Result<(), StoreError>> {
        Box::pin(self.weathered(self.held.clear()))
    }

    fn abilities(&self) -> Abilities {
        self.held.abilities()
    }

    fn replace<'a>(
        &'a self,
        key: &'a str,
        envelope: Bytes,
        ttl: Option<Duration>,
        condition: Condition,
    ) -> Operation<'a, Result<Written, StoreError>> {
        Box::pin(self.weathered(self.held.replace(key, envelope, ttl, condition)))
    }

    fn note(&self, writer: u64, note: Note, made_at: WallTime) -> Operation<'_, Result<(), StoreError>> {
        Box::pin(self.weathered(self.held.note(writer, note, made_at)))
    }

    fn lease<'a>(
        &'a self,
        key: &'a str,
        ttl: Duration,
        hold_for: Duration,
    ) -> Operation<'a, Result<Leased, StoreError>> {
        Box::pin(self.weathered(self.held.lease(key, ttl, hold_for)))
    }

    fn listen(&self, ear: &Arc<dyn Ear>) {
        self.held.listen(ear);
    }

    fn ping(&self) -> Operation<'_, Result<(), StoreError>> {
        Box::pin(self.weathered(self.held.ping()))
    }

    /// Its other users go on.
    fn close(&self) -> Operation<'_, ()> {
        Box::pin(async {})
    }
}
