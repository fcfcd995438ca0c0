//! Each operation of a store as the server's commands.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, try_join_all};
use tideover_core::pattern::Pattern;
use tideover_core::stamp::{Condition, Written};
use tideover_core::{Note, WallTime};

use super::RedisStore;
use super::backplane::Deed;
use super::failure::{Fault, unexpected};
use super::reply::Reply;
use super::request::{Effect, Request};
use super::script::Script;
use crate::store::{Abilities, Cursor, Ear, Leased, Page, Remaining, Store, StoreError, When};

/// The longest expiry that Redis takes is `i64::MAX` milliseconds after 1970; this is 146 million years.
const TTL_MILLIS_MAX: u64 = i64::MAX as u64 / 2;

/// Operations of one call with many keys that are under way at once.
const MANY_AT_ONCE: usize = 1_024;

/// Counts, and gives a time to live to what was not there.
static INCREMENT: Script = Script::new(
    Effect::Once,
    "local found = redis.call('EXISTS', KEYS[1]) \
     local number = redis.call('INCRBY', KEYS[1], ARGV[1]) \
     if found == 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end \
     return number",
);

impl RedisStore {
    async fn read_entry(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let place = self.namespace.entry(key);
        bytes(self.ask(&place, Request::get(place.clone())).await, "GET")
    }

    pub(super) async fn set(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        when: When,
    ) -> Result<bool, StoreError> {
        let place = self.namespace.entry(key);
        let millis = ttl.map(|ttl| ttl_millis(ttl).to_string());
        let mut words: Vec<&[u8]> = vec![b"SET", &place, value];
        match &millis {
            // In the past, so it is never seen.
            Some(_) if ttl == Some(Duration::ZERO) => words.extend([&b"PXAT"[..], b"1"]),
            Some(millis) => words.extend([&b"PX"[..], millis.as_bytes()]),
            None => {}
        }
        let effect = match when {
            When::Always => Effect::Write,
            When::Absent | When::Present => Effect::Once,
        };
        match when {
            When::Always => {}
            When::Absent => words.push(b"NX"),
            When::Present => words.push(b"XX"),
        }
        Ok(self.ask(&place, Request::new(effect, &words)).await? != Reply::Nil)
    }

    /// A command on one key whose answer is a number.
    async fn count(&self, effect: Effect, command: &str, key: &str, rest: &[&[u8]]) -> Result<i64, StoreError> {
        let place = self.namespace.entry(key);
        let request = Request::new(effect, &[&[command.as_bytes(), &place], rest].concat());
        number(self.ask(&place, request).await?, command)
    }

    async fn increment_by(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, StoreError> {
        let by = by.to_string();
        let Some(ttl) = ttl else { return self.count(Effect::Once, "INCRBY", key, &[by.as_bytes()]).await };
        let millis = millis_from_now(ttl).to_string();
        let arguments = [by.as_bytes(), millis.as_bytes()];
        number(self.script(&INCREMENT, &self.namespace.entry(key), &arguments).await?, "INCRBY")
    }

    async fn remaining_time(&self, key: &str) -> Result<Remaining, StoreError> {
        Ok(match self.count(Effect::Read, "PTTL", key, &[]).await? {
            -2 => Remaining::NoSuchKey,
            -1 => Remaining::Forever,
            millis => Remaining::Left(Duration::from_millis(u64::try_from(millis).unwrap_or(0))),
        })
    }

    async fn expire_after(&self, key: &str, ttl: Option<Duration>) -> Result<bool, StoreError> {
        match ttl {
            Some(ttl) => {
                let millis = millis_from_now(ttl).to_string();
                Ok(self.count(Effect::Write, "PEXPIRE", key, &[millis.as_bytes()]).await? == 1)
            }
            // PERSIST says the same of a key without an end and of no key.
            None => {
                let persisted = self.count(Effect::Write, "PERSIST", key, &[]);
                let exists = self.count(Effect::Write, "EXISTS", key, &[]);
                let (persisted, exists) = tokio::join!(persisted, exists);
                Ok(persisted? == 1 || exists? == 1)
            }
        }
    }
}

impl Store for RedisStore {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            compare: self.compare,
            log: self.log.is_kept(),
            tracking: self.backplane.tells(),
            lease: self.compare,
            ..Abilities::ALL
        }
    }

    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(self.call(move || self.read_entry(key)))
    }

    fn write<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.call(move || async move {
            self.set(key, &value, ttl, When::Always).await?;
            self.tell_changed(&[key], None).await;
            Ok(())
        }))
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.call(move || async move {
            self.count(Effect::Write, "UNLINK", key, &[]).await?;
            self.tell_changed(&[key], None).await;
            Ok(())
        }))
    }

    /// Keys that others write meanwhile may stay. The log stays: who listens to it would take its loss for that of notes.
    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.call(move || async move {
            self.remove_all(None).await?;
            self.tell(Deed::Many).await;
            Ok(self.log.catch_up(&self.deployment, self.deadline()).await?)
        }))
    }

    fn replace<'a>(
        &'a self,
        key: &'a str,
        envelope: Bytes,
        ttl: Option<Duration>,
        condition: Condition,
    ) -> BoxFuture<'a, Result<Written, StoreError>> {
        Box::pin(self.call(move || self.replace_entry(key, envelope, ttl, condition)))
    }

    fn note(&self, writer: u64, note: Note, made_at: WallTime) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.call(move || self.put_note(writer, note, made_at)))
    }

    fn lease<'a>(
        &'a self,
        key: &'a str,
        ttl: Duration,
        hold_for: Duration,
    ) -> BoxFuture<'a, Result<Leased, StoreError>> {
        Box::pin(self.call(move || self.lease_on(key, ttl, hold_for)))
    }

    fn listen(&self, ear: &Arc<dyn Ear>) {
        self.log.listen(ear);
        self.backplane.listen(ear);
    }

    /// In a Cluster every master has to answer.
    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.call(move || async move {
            let deadline = self.deadline();
            let masters = self.deployment.masters(deadline).await?;
            let ping = &Request::new(Effect::Read, &[b"PING"]);
            try_join_all(masters.iter().map(|(_, node)| node.ask(ping, false, deadline))).await?;
            Ok(())
        }))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.drain())
    }

    fn write_when<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Option<Duration>,
        when: When,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.call(move || async move {
            let written = self.set(key, &value, ttl, when).await?;
            if written {
                self.tell_changed(&[key], None).await;
            }
            Ok(written)
        }))
    }

    fn take<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(self.call(move || async move {
            let place = self.namespace.entry(key);
            let taken = bytes(self.ask(&place, Request::new(Effect::Once, &[b"GETDEL", &place])).await, "GETDEL")?;
            self.tell_changed(&[key], None).await;
            Ok(taken)
        }))
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.call(move || async move {
            let deleted = self.count(Effect::Once, "UNLINK", key, &[]).await? == 1;
            self.tell_changed(&[key], None).await;
            Ok(deleted)
        }))
    }

    fn remove_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.call(move || async move {
            let mut removed = 0;
            for keys in keys.chunks(MANY_AT_ONCE) {
                let each = keys.iter().map(|key| self.count(Effect::Write, "UNLINK", key, &[]));
                removed += try_join_all(each).await?.into_iter().filter(|count| *count == 1).count() as u64;
                self.tell_changed(keys, None).await;
            }
            Ok(removed)
        }))
    }

    fn exists<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.call(move || async move { Ok(self.count(Effect::Read, "EXISTS", key, &[]).await? == 1) }))
    }

    fn read_many<'a>(&'a self, keys: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        Box::pin(self.call(move || async move {
            let mut values = Vec::with_capacity(keys.len());
            for keys in keys.chunks(MANY_AT_ONCE) {
                values.extend(try_join_all(keys.iter().map(|key| self.read_entry(key))).await?);
            }
            Ok(values)
        }))
    }

    fn write_many<'a>(
        &'a self,
        entries: &'a [(&'a str, Bytes)],
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.call(move || async move {
            for entries in entries.chunks(MANY_AT_ONCE) {
                let each = entries.iter().map(|(key, value)| self.set(key, value, ttl, When::Always));
                try_join_all(each).await?;
                let keys: Vec<&str> = entries.iter().map(|(key, _)| *key).collect();
                self.tell_changed(&keys, None).await;
            }
            Ok(())
        }))
    }

    fn increment<'a>(&'a self, key: &'a str, by: i64, ttl: Option<Duration>) -> BoxFuture<'a, Result<i64, StoreError>> {
        Box::pin(self.call(move || async move {
            let sum = self.increment_by(key, by, ttl).await?;
            self.tell_changed(&[key], None).await;
            Ok(sum)
        }))
    }

    fn expire<'a>(&'a self, key: &'a str, ttl: Option<Duration>) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.call(move || self.expire_after(key, ttl)))
    }

    fn remaining<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Remaining, StoreError>> {
        Box::pin(self.call(move || self.remaining_time(key)))
    }

    fn scan<'a>(
        &'a self,
        pattern: &'a str,
        cursor: &'a Cursor,
        count: usize,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        Box::pin(self.call(move || self.scan_page(pattern, cursor, count)))
    }

    fn remove_matching<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.call(move || async move {
            let removed = self.remove_all(Some(&Pattern::new(pattern))).await?;
            self.tell(Deed::Many).await;
            Ok(removed)
        }))
    }
}

/// What was found: bytes, nothing, or something of another kind, which is nothing of ours.
fn bytes(answer: Result<Reply, Fault>, command: &str) -> Result<Option<Bytes>, StoreError> {
    match answer {
        Ok(Reply::Bytes(bytes)) => Ok(Some(bytes)),
        Ok(Reply::Nil) => Ok(None),
        Ok(_) => Err(unexpected(command)),
        Err(fault) if fault.code() == Some("WRONGTYPE") => Ok(None),
        Err(fault) => Err(fault.into()),
    }
}

fn number(reply: Reply, command: &str) -> Result<i64, StoreError> {
    match reply {
        Reply::Int(number) => Ok(number),
        _ => Err(unexpected(command)),
    }
}

/// Rounded down, so that nothing outlives its time; but zero is refused by Redis.
pub(super) fn ttl_millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, TTL_MILLIS_MAX)
}

/// As [`ttl_millis`], for `PEXPIRE`, which takes zero: what is there ends at once.
fn millis_from_now(ttl: Duration) -> u64 {
    if ttl.is_zero() { 0 } else { ttl_millis(ttl) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_are_whole_milliseconds_that_redis_takes() {
        assert_eq!(ttl_millis(Duration::ZERO), 1);
        assert_eq!(ttl_millis(Duration::from_micros(2_999)), 2);
        assert_eq!((millis_from_now(Duration::ZERO), millis_from_now(Duration::from_nanos(1))), (0, 1));
        assert_eq!(ttl_millis(Duration::MAX), TTL_MILLIS_MAX);
    }
}
