//! Stores that do as they are told.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tideover::core::stamp::{Condition, Written};
use tideover::core::{Note, WallTime};
use tideover::store::{Abilities, Ear, MemoryStore, Store, StoreError};
use tokio::time::sleep;

use super::ms;

/// A store whose every operation does as told. All clones are the same store, so that several caches can share it.
#[derive(Clone)]
pub(super) struct Scripted {
    pub(super) memory: Arc<MemoryStore>,
    conduct: Conduct,
    pub(super) closed: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Conduct {
    Works,
    Hangs,
    Panics,
}

impl Scripted {
    pub(super) fn new(conduct: Conduct) -> Self {
        Self { memory: Arc::new(MemoryStore::new(100)), conduct, closed: Arc::default() }
    }

    async fn conducted<T>(&self, operation: Stored<'_, T>) -> Result<T, StoreError> {
        match self.conduct {
            Conduct::Works => sleep(ms(10)).await,
            Conduct::Hangs => pending().await,
            Conduct::Panics => panic!("on purpose"),
        }
        operation.await
    }
}

type Stored<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

impl Store for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn read<'a>(&'a self, key: &'a str) -> Stored<'a, Option<Bytes>> {
        Box::pin(self.conducted(self.memory.read(key)))
    }

    fn write<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> Stored<'a, ()> {
        Box::pin(self.conducted(self.memory.write(key, value, ttl)))
    }

    fn remove<'a>(&'a self, key: &'a str) -> Stored<'a, ()> {
        Box::pin(self.conducted(self.memory.remove(key)))
    }

    fn clear(&self) -> Stored<'_, ()> {
        Box::pin(self.conducted(self.memory.clear()))
    }

    fn abilities(&self) -> Abilities {
        self.memory.abilities()
    }

    fn replace<'a>(
        &'a self,
        key: &'a str,
        envelope: Bytes,
        ttl: Option<Duration>,
        condition: Condition,
    ) -> Stored<'a, Written> {
        Box::pin(self.conducted(self.memory.replace(key, envelope, ttl, condition)))
    }

    fn note(&self, writer: u64, note: Note, made_at: WallTime) -> Stored<'_, ()> {
        Box::pin(self.conducted(self.memory.note(writer, note, made_at)))
    }

    fn listen(&self, ear: &Arc<dyn Ear>) {
        self.memory.listen(ear);
    }

    fn ping(&self) -> Stored<'_, ()> {
        self.memory.ping()
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.closed.fetch_add(1, Ordering::SeqCst);
        self.memory.close()
    }
}
