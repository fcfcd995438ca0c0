//! What a scripted store does when the weather lets it: what the store in memory does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tideover_core::stamp::{Condition, Written};
use tideover_core::{Note, WallTime};

use super::{Asked, ScriptedStore};
use crate::store::{Abilities, Cursor, Ear, Leased, Page, Remaining, Store, StoreError, When};

impl Store for ScriptedStore {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn abilities(&self) -> Abilities {
        self.held.abilities()
    }

    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(self.weathered_read(key))
    }

    fn write<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.weathered(Asked::Write, self.held.write(key, value, ttl)))
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.weathered(Asked::Write, self.held.remove(key)))
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.weathered(Asked::Write, self.held.clear()))
    }

    fn replace<'a>(
        &'a self,
        key: &'a str,
        envelope: Bytes,
        ttl: Option<Duration>,
        condition: Condition,
    ) -> BoxFuture<'a, Result<Written, StoreError>> {
        Box::pin(self.weathered(Asked::Write, self.held.replace(key, envelope, ttl, condition)))
    }

    fn note(&self, writer: u64, note: Note, made_at: WallTime) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.weathered(Asked::Other, self.held.note(writer, note, made_at)))
    }

    fn lease<'a>(
        &'a self,
        key: &'a str,
        ttl: Duration,
        hold_for: Duration,
    ) -> BoxFuture<'a, Result<Leased, StoreError>> {
        Box::pin(self.weathered(Asked::Other, self.held.lease(key, ttl, hold_for)))
    }

    fn listen(&self, ear: &Arc<dyn Ear>) {
        self.held.listen(ear);
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.weathered(Asked::Other, self.held.ping()))
    }

    /// Its other users go on.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn write_when<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Option<Duration>,
        when: When,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.weathered(Asked::Write, self.held.write_when(key, value, ttl, when)))
    }

    fn take<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(self.weathered(Asked::Write, self.held.take(key)))
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.weathered(Asked::Write, self.held.delete(key)))
    }

    fn remove_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.weathered(Asked::Write, self.held.remove_many(keys)))
    }

    fn exists<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.weathered(Asked::Read, self.held.exists(key)))
    }

    fn read_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        Box::pin(self.weathered(Asked::Read, self.held.read_many(keys)))
    }

    fn write_many<'a>(
        &'a self,
        entries: &'a [(&'a str, Bytes)],
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.weathered(Asked::Write, self.held.write_many(entries, ttl)))
    }

    fn increment<'a>(&'a self, key: &'a str, by: i64, ttl: Option<Duration>) -> BoxFuture<'a, Result<i64, StoreError>> {
        Box::pin(self.weathered(Asked::Write, self.held.increment(key, by, ttl)))
    }

    fn expire<'a>(&'a self, key: &'a str, ttl: Option<Duration>) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.weathered(Asked::Write, self.held.expire(key, ttl)))
    }

    fn remaining<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Remaining, StoreError>> {
        Box::pin(self.weathered(Asked::Read, self.held.remaining(key)))
    }

    fn scan<'a>(
        &'a self,
        pattern: &'a str,
        cursor: &'a Cursor,
        count: usize,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        Box::pin(self.weathered(Asked::Read, self.held.scan(pattern, cursor, count)))
    }

    fn remove_matching<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.weathered(Asked::Write, self.held.remove_matching(pattern)))
    }
}
