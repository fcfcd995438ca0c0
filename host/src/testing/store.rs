//! A store whose behaviour a test changes while it is in use.

mod operations;

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use tideover_core::{WallTime, envelope};
use tokio::time::Instant;

use crate::store::{MemoryStore, Store, StoreError};

/// How a store is, to who asks it for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weather {
    /// It does what it is asked for, at once.
    Fair,
    /// It does, after so long.
    Slow(Duration),
    /// It answers nothing.
    Hung,
    /// There is no connection.
    Away,
    /// It does what it is asked for, but the connection breaks before it has answered.
    AnswerLost,
    /// It refuses everything.
    Refusing,
    /// What it reads has one bit wrong; it does everything else.
    Corrupting,
    /// Its client panics.
    Panicking,
}

/// What a store is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Asked {
    /// To read or look for keys.
    Read,
    /// To write, change or remove keys, or to clear everything.
    Write,
    /// All else: notes in its log, leases, pings.
    Other,
}

/// Weather that passes: after so many operations, after a time, or for operations of one kind only.
///
/// ```
/// use std::time::Duration;
/// use tideover::testing::{Asked, ScriptedStore, Spell, Weather};
///
/// let store = ScriptedStore::default();
/// store.script([
///     Spell::of(Weather::Away).times(3),
///     Spell::of(Weather::Hung).on(Asked::Write).lasting(Duration::from_secs(1)),
/// ]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Spell {
    weather: Weather,
    times: Option<usize>,
    lasting: Option<Duration>,
    /// Set when it begins.
    until: Option<Instant>,
    on: Option<Asked>,
}

impl Spell {
    /// This weather, until it is changed.
    #[must_use]
    pub const fn of(weather: Weather) -> Self {
        Self { weather, times: None, lasting: None, until: None, on: None }
    }

    /// It passes after so many operations.
    #[must_use]
    pub const fn times(self, operations: usize) -> Self {
        Self { times: Some(operations), ..self }
    }

    /// It passes after so long by tokio's clock, counted from the first operation that meets it.
    #[must_use]
    pub const fn lasting(self, time: Duration) -> Self {
        Self { lasting: Some(time), ..self }
    }

    /// Only what is asked like this meets it; for the rest it is as if it were not there.
    #[must_use]
    pub const fn on(self, asked: Asked) -> Self {
        Self { on: Some(asked), ..self }
    }

    fn has_passed(&self, now: Instant) -> bool {
        self.times == Some(0) || self.until.is_some_and(|until| now >= until)
    }
}

/// A store in memory with [`Weather`]: what Redis is to many processes, all clones of it are the same store. It lies behind a
/// cache as any other does ([`Builder::store`](crate::Builder::store)).
///
/// ```
/// use tideover::testing::{self, ScriptedStore, Spell, Weather};
/// use tideover::{Loaded, Settled};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tideover::Error> {
/// let store = ScriptedStore::default();
/// let cache = testing::builder().store(store.clone()).build()?;
///
/// store.set(Weather::Away);
/// assert_eq!(cache.put("k", "v", None).await?, Settled::Journaled);
/// assert_eq!(store.value("k").await, None);
///
/// // Reads fail twice, then all is well again.
/// store.script([Spell::of(Weather::Away).times(2)]);
/// let loaded = cache.get_or_load("other", |_| async { Ok(Loaded::new("v")) }).await?;
/// assert_eq!(loaded.value, "v", "no failure of a store fails a load");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ScriptedStore {
    held: Arc<MemoryStore>,
    script: Arc<Mutex<VecDeque<Spell>>>,
    operations: Arc<AtomicUsize>,
}

impl Default for ScriptedStore {
    fn default() -> Self {
        Self { held: Arc::new(MemoryStore::new(10_000)), script: Arc::default(), operations: Arc::default() }
    }
}

impl ScriptedStore {
    /// An empty one in that weather.
    #[must_use]
    pub fn with(weather: Weather) -> Self {
        let store = Self::default();
        store.set(weather);
        store
    }

    /// From here on it is like this, whatever was scripted. Operations under way go on as they began.
    pub fn set(&self, weather: Weather) {
        self.script([Spell::of(weather)]);
    }

    /// From here on one spell after the other meets whatever is asked, in the place of what was scripted before; when all
    /// have passed, the weather is fair. An operation meets the first spell that concerns it.
    pub fn script(&self, spells: impl IntoIterator<Item = Spell>) {
        *self.spells() = spells.into_iter().collect();
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
    /// If what it holds is not what caches write.
    pub async fn value(&self, key: &str) -> Option<Bytes> {
        let bytes = self.bytes(key).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = WallTime::from_unix_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        match envelope::decode(&bytes, now) {
            Ok(opened) => opened.entry.map(|entry| Bytes::copy_from_slice(entry.value)),
            Err(reason) => panic!("what the store holds under this key was not written by a cache: {reason}"),
        }
    }

    /// Puts bytes under `key` as they are, which no cache has written: rubbish, or what another program left there.
    pub async fn plant(&self, key: &str, bytes: impl Into<Bytes>) {
        let _closed = self.held.write(key, bytes.into(), None).await;
    }

    /// Turns over one bit in the middle of what it holds under `key`; `false` if it holds nothing.
    pub async fn corrupt(&self, key: &str) -> bool {
        let Some(bytes) = self.bytes(key).await else { return false };
        self.plant(key, corrupted(&bytes)).await;
        true
    }

    async fn bytes(&self, key: &str) -> Option<Bytes> {
        self.held.read(key).await.ok().flatten()
    }

    /// The weather that an operation meets.
    fn weather(&self, asked: Asked) -> Weather {
        self.operations.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut spells = self.spells();
        spells.retain(|spell| !spell.has_passed(now));
        let Some(spell) = spells.iter_mut().find(|spell| spell.on.is_none_or(|on| on == asked)) else {
            return Weather::Fair;
        };
        spell.times = spell.times.map(|left| left.saturating_sub(1));
        spell.until = spell.until.or_else(|| spell.lasting.map(|lasting| now + lasting));
        spell.weather
    }

    fn spells(&self) -> MutexGuard<'_, VecDeque<Spell>> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn weathered<T>(
        &self,
        asked: Asked,
        operation: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.met(self.weather(asked), operation).await
    }

    async fn met<T>(
        &self,
        weather: Weather,
        operation: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match weather {
            Weather::Fair | Weather::Corrupting => {}
            Weather::AnswerLost => {
                operation.await?;
                return Err(StoreError::Uncertain("as the test wants it".to_owned()));
            }
            Weather::Slow(time) => tokio::time::sleep(time).await,
            Weather::Hung => pending().await,
            Weather::Away => return Err(StoreError::Unavailable("as the test wants it".to_owned())),
            Weather::Refusing => return Err(StoreError::Rejected("as the test wants it".to_owned())),
            Weather::Panicking => panic!("as the test wants it"),
        }
        operation.await
    }

    async fn weathered_read(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let weather = self.weather(Asked::Read);
        let bytes = self.met(weather, self.held.read(key)).await?;
        Ok(if weather == Weather::Corrupting { bytes.map(|bytes| corrupted(&bytes)) } else { bytes })
    }
}

fn corrupted(bytes: &Bytes) -> Bytes {
    let mut wrong = BytesMut::from(&bytes[..]);
    let middle = wrong.len() / 2;
    if let Some(byte) = wrong.get_mut(middle) {
        *byte ^= 1;
    }
    wrong.freeze()
}
