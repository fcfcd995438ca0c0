//! What the cached functions of these tests read: a database that counts what it is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use tideover::{Cache, EngineKind, Error};
use tideover_tests::driving::{exact, seconds};
use tokio::time::sleep;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct User {
    pub id: u64,
    pub org: u64,
    pub read: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DbError {
    NoSuchUser,
    Away,
    Cache(String),
}

impl From<Error> for DbError {
    fn from(error: Error) -> Self {
        Self::Cache(error.to_string())
    }
}

/// A database and a cache for what is read from it. Each question takes a second.
#[derive(Clone)]
pub(crate) struct Db {
    pub cache: Cache,
    asked: Arc<AtomicUsize>,
    away: Arc<AtomicBool>,
}

impl Db {
    pub(crate) fn new() -> Self {
        Self::with(&[("ttl", "10s")])
    }

    pub(crate) fn with(options: &[(&str, &str)]) -> Self {
        let cache = exact(EngineKind::Native, options).build().expect("a cache");
        Self { cache, asked: Arc::default(), away: Arc::default() }
    }

    /// Nobody has the number 0; those up to 9 are in the organisation 0, and so on.
    pub(crate) async fn user(&self, id: u64) -> Result<User, DbError> {
        let read = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        sleep(seconds(1)).await;
        match id {
            _ if self.away.load(Ordering::Relaxed) => Err(DbError::Away),
            0 => Err(DbError::NoSuchUser),
            _ => Ok(User { id, org: id / 10, read }),
        }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }
}
