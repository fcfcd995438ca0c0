//! The backplane: what other processes change is told on the connection to the server as it happens.
//!
//! With client tracking the server itself names each key of the namespace that another connection has changed, and the log's
//! place among them when something was noted
//! (<https://redis.io/docs/latest/develop/reference/client-side-caching/>, broadcasting mode). With a channel those who
//! write tell. Either takes RESP3, in which what is told comes between the answers. On each new connection it begins anew,
//! and what was changed meanwhile was missed. Caches that share a store are on one connection, of which the server says
//! nothing to themselves: what one of them changes is told to the others here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use tideover_core::stamp::Version;
use tokio::time::sleep;

use super::RedisBackplane;
use super::echoes::{Echoes, Heard, Own};
use super::failure::Fault;
use super::keys::Namespace;
use super::lease::Waiting;
use super::reply::Reply;
use super::request::{Effect, Request};
use crate::store::log::Ears;
use crate::store::{Ear, StoreError, is_direct};

/// Before a look at the store that failed is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// Messages that name no key: something was noted in the log, and many keys were changed.
const NOTED: &[u8] = b"n";
const MANY: &[u8] = b"*";

/// What was done to a store.
pub(super) enum Deed<'a> {
    /// The key was changed, by that writer if it is known.
    Changed(&'a str, Option<u64>),
    /// Who knows which ones were changed.
    Many,
    /// Something was noted in the log.
    Noted,
    /// The lease on the key was given back.
    Freed(&'a str),
}

/// In the place of a writer: the lease on the key was given back.
const FREED: u64 = u64::MAX;

pub(super) struct Backplane {
    how: RedisBackplane,
    namespace: Namespace,
    channel: Bytes,
    log_place: Bytes,
    lease_prefix: Bytes,
    /// How long after the loss of a connection nothing counts as missed yet.
    pub(super) grace: Duration,
    ears: Ears,
    /// The server does not do it.
    refused: AtomicBool,
    echoes: Echoes,
    /// Those who are to be woken when a lease may be free.
    pub(super) leases: Waiting,
    /// How to ask the store, and whether its log is to be asked already.
    reach: OnceLock<Box<dyn Reach>>,
    is_wanted: AtomicBool,
    this: Weak<Self>,
}

/// What is asked of the store because of what was told.
pub(super) trait Reach: Send + Sync {
    /// Tells what is in the log by now. `false` if it could not be asked and is to be asked again.
    fn catch_up(&self) -> BoxFuture<'_, bool>;

    /// Whose write it is that lies under `key`, entry or tombstone.
    fn version<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Version>, Fault>>;
}

impl Backplane {
    pub(super) fn new(how: RedisBackplane, namespace: &Namespace, log_place: &[u8], grace: Duration) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            how,
            namespace: namespace.clone(),
            channel: namespace.internal("changed"),
            log_place: Bytes::copy_from_slice(log_place),
            lease_prefix: namespace.internal("lease:"),
            grace,
            ears: Ears::default(),
            refused: AtomicBool::new(false),
            echoes: Echoes::default(),
            leases: Waiting::default(),
            reach: OnceLock::new(),
            is_wanted: AtomicBool::new(false),
            this: Weak::clone(this),
        })
    }

    /// From now on the store can be asked.
    pub(super) fn reach_by(&self, reach: impl Reach + 'static) {
        let _only_once = self.reach.set(Box::new(reach));
    }

    /// What a new connection is asked for; `None`: nothing is told.
    pub(super) fn request(&self) -> Option<Request> {
        match self.how {
            RedisBackplane::Tracking => {
                let prefix = self.namespace.0.as_bytes();
                let words = [&b"CLIENT"[..], b"TRACKING", b"ON", b"BCAST", b"PREFIX", prefix, b"NOLOOP"];
                Some(Request::new(Effect::Once, &words))
            }
            RedisBackplane::PubSub => Some(Request::subscription(&self.channel)),
            RedisBackplane::Off => None,
        }
    }

    /// Whether changes are told, as far as is known.
    pub(super) fn tells(&self) -> bool {
        self.how != RedisBackplane::Off && !self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn listen(&self, ear: &Arc<dyn Ear>) {
        if self.how != RedisBackplane::Off {
            self.ears.add(ear);
            ear.missed();
        }
    }

    /// There is a new connection, on which changes are told from now on, or will not be.
    pub(super) fn begin(&self, tells: bool) {
        if self.how == RedisBackplane::Off {
            return;
        }
        if !tells && !self.refused.swap(true, Ordering::Relaxed) {
            tracing::warn!("the server does not tell what others change; memory keeps it until its freshness ends");
        }
        if tells {
            self.refused.store(false, Ordering::Relaxed);
        }
        self.missed();
    }

    /// Changes may have been missed.
    pub(super) fn missed(&self) {
        self.ears.tell(|ear| ear.missed());
    }

    /// Takes in what came between answers.
    pub(super) fn take_in(&self, pushed: &[Reply]) {
        match pushed {
            [kind, Reply::List(places)] if is_word(kind, b"invalidate") => {
                places.iter().filter_map(bytes).for_each(|place| self.take_in_place(place));
                self.look_into_echoes();
            }
            // The whole database was emptied.
            [kind, Reply::Nil] if is_word(kind, b"invalidate") => self.missed(),
            [kind, _channel, Reply::Bytes(message)] if is_word(kind, b"message") => self.take_in_message(message),
            _ => {}
        }
    }

    fn take_in_place(&self, place: &[u8]) {
        if *place == *self.log_place {
            self.hear_log();
        } else if let Some(key) = place.strip_prefix(&*self.lease_prefix).and_then(|key| std::str::from_utf8(key).ok())
        {
            self.leases.wake(key);
        } else if let Some(key) = self.namespace.key(place).filter(|key| !is_direct(key) && !self.echoes.hear(key)) {
            self.ears.tell(|ear| ear.changed(key, None));
        }
    }

    fn take_in_message(&self, message: &[u8]) {
        if message == NOTED {
            return self.hear_log();
        }
        let changed =
            message.split_first_chunk::<8>().and_then(|(writer, key)| Some((writer, std::str::from_utf8(key).ok()?)));
        // Many, or what is not understood and may be anything.
        let Some((writer, key)) = changed else { return self.missed() };
        let writer = u64::from_be_bytes(*writer);
        if writer == FREED {
            return self.leases.wake(key);
        }
        let writer = Some(writer).filter(|writer| *writer != 0);
        self.ears.tell(|ear| ear.changed(key, writer));
    }

    /// Has what was noted told, in a task of its own: the connection's must go on.
    fn hear_log(&self) {
        if self.is_wanted.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(this) = self.this.upgrade() else { return };
        tokio::spawn(async move {
            loop {
                this.is_wanted.store(false, Ordering::Release);
                let Some(reach) = this.reach.get() else { return };
                // Whoever was told of more meanwhile looks, too.
                if reach.catch_up().await || this.is_wanted.swap(true, Ordering::AcqRel) {
                    return;
                }
                sleep(PAUSE).await;
            }
        });
    }

    /// A script of our own is about to write under `key`: the server will tell of it as of another's. Where nobody listens,
    /// nobody is told.
    pub(super) fn expect_echo(&self, key: &str, own: Own) {
        if self.has_echoes() {
            self.echoes.expect(key, own);
        }
    }

    /// It has written nothing. Had it been heard all the same, that may have been of another's change.
    pub(super) fn withdraw_echo(&self, key: &str) {
        if self.has_echoes() {
            self.echoes.withdraw(key);
            self.look_into_echoes();
        }
    }

    fn has_echoes(&self) -> bool {
        self.how == RedisBackplane::Tracking && !self.ears.is_empty()
    }

    /// Tells of what was changed here and, at the same moment, elsewhere.
    fn look_into_echoes(&self) {
        let Some(this) = self.this.upgrade().filter(|_| self.echoes.want_work()) else { return };
        // From now on, also if the runtime ends before the task has begun.
        let mut look = Look { this, batch: Vec::new(), is_over: false };
        tokio::spawn(async move {
            loop {
                look.batch = look.this.echoes.next();
                if look.batch.is_empty() {
                    return look.end();
                }
                let all_went_well = join_all(look.batch.iter().map(|heard| look.this.look_into(heard))).await;
                look.batch.clear();
                if all_went_well.contains(&false) {
                    sleep(PAUSE).await;
                }
            }
        });
    }

    /// `false`: the store does not answer, and has it tried again, for as long as there is one.
    async fn look_into(&self, heard: &Heard) -> bool {
        let Some(reach) = self.reach.get() else { return true };
        match reach.version(&heard.key).await {
            Ok(found) if self.echoes.is_own(heard, found) => {}
            Ok(_) => self.ears.tell(|ear| ear.changed(&heard.key, None)),
            Err(Fault::Store(StoreError::Closed)) => {}
            // Nothing of ours is there, or nobody will ever be able to say.
            Err(fault) if matches!(fault.code(), Some("WRONGTYPE" | "NOPERM")) => {
                self.ears.tell(|ear| ear.changed(&heard.key, None));
            }
            Err(_) => {
                self.echoes.put_back([heard.clone()]);
                return false;
            }
        }
        true
    }

    /// Caches on this store are told what one of them, or a service, has done. What it noted they have heard.
    pub(super) fn tell_here(&self, deed: &Deed<'_>) {
        match (self.how, deed) {
            (RedisBackplane::Tracking, Deed::Changed(key, writer)) => self.ears.tell(|ear| ear.changed(key, *writer)),
            (RedisBackplane::Tracking, Deed::Many) => self.missed(),
            (_, Deed::Freed(key)) => self.leases.wake(key),
            _ => {}
        }
    }

    /// Where to publish that, and in which words; `None` if the server tells by itself, or nobody does.
    pub(super) fn message(&self, deed: &Deed<'_>) -> Option<(&Bytes, Bytes)> {
        if self.how != RedisBackplane::PubSub {
            return None;
        }
        let message = match deed {
            Deed::Changed(key, writer) => [&writer.unwrap_or(0).to_be_bytes(), key.as_bytes()].concat().into(),
            Deed::Many => Bytes::from_static(MANY),
            Deed::Noted => Bytes::from_static(NOTED),
            Deed::Freed(key) => [&FREED.to_be_bytes(), key.as_bytes()].concat().into(),
        };
        Some((&self.channel, message))
    }
}

fn bytes(reply: &Reply) -> Option<&[u8]> {
    match reply {
        Reply::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

fn is_word(reply: &Reply, word: &[u8]) -> bool {
    bytes(reply) == Some(word)
}

/// The task that looks into echoes. Whatever it is ended by, the next has what it has not come to.
struct Look {
    this: Arc<Backplane>,
    batch: Vec<Heard>,
    is_over: bool,
}

impl Look {
    /// Nothing is left.
    const fn end(&mut self) {
        self.is_over = true;
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        if !self.is_over {
            self.this.echoes.put_back(std::mem::take(&mut self.batch));
            self.this.echoes.stop_work();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::lock;
    use super::*;
    use crate::store::Heard;

    /// A key and its writer; `None`: missed.
    type Word = Option<(String, Option<u64>)>;

    /// What was told.
    #[derive(Default)]
    struct Diary(Mutex<Vec<Word>>);

    impl Ear for Diary {
        fn hear(&self, _heard: Heard) {}

        fn changed(&self, key: &str, writer: Option<u64>) {
            lock(&self.0).push(Some((key.into(), writer)));
        }

        fn missed(&self) {
            lock(&self.0).push(None);
        }
    }

    fn told(how: RedisBackplane, work: impl FnOnce(&Backplane)) -> Vec<Word> {
        let namespace = Namespace("a:".into());
        let backplane = Backplane::new(how, &namespace, &namespace.internal("log"), Duration::ZERO);
        let diary = Arc::new(Diary::default());
        backplane.listen(&(Arc::clone(&diary) as Arc<dyn Ear>));
        lock(&diary.0).clear();
        work(&backplane);
        std::mem::take(&mut *lock(&diary.0))
    }

    fn word(word: &str) -> Reply {
        Reply::Bytes(Bytes::copy_from_slice(word.as_bytes()))
    }

    #[test]
    fn keys_of_the_namespace_that_others_have_changed_are_told() {
        let places = vec![word("a:k"), word("a:!!k"), word("a:!lease:k"), word("a:!direct:k"), word("b:k"), Reply::Nil];
        let heard = told(RedisBackplane::Tracking, |backplane| {
            backplane.take_in(&[word("invalidate"), Reply::List(places)]);
            backplane.take_in(&[word("invalidate"), Reply::Nil]);
            backplane.take_in(&[word("something"), word("else")]);
            backplane.tell_here(&Deed::Changed("own", Some(7)));
        });
        assert_eq!(heard, [Some(("k".into(), None)), Some(("!k".into(), None)), None, Some(("own".into(), Some(7)))]);
    }

    #[test]
    fn what_is_published_names_writer_and_key() {
        let heard = told(RedisBackplane::PubSub, |backplane| {
            for deed in [Deed::Changed("k", Some(7)), Deed::Changed("raw", None), Deed::Many] {
                let (channel, message) = backplane.message(&deed).expect("it is to be published");
                assert_eq!(channel, "a:!changed");
                backplane.take_in(&[word("message"), word("a:!changed"), Reply::Bytes(message)]);
            }
            backplane.take_in(&[word("message"), word("a:!changed"), word("odd")]);
            backplane.tell_here(&Deed::Changed("own", Some(7)));
        });
        assert_eq!(heard, [Some(("k".into(), Some(7))), Some(("raw".into(), None)), None, None]);
    }

    #[test]
    fn a_new_connection_has_missed_what_was_before_it() {
        let heard = told(RedisBackplane::Tracking, |backplane| {
            backplane.begin(true);
            assert!(backplane.tells());
            backplane.begin(false);
            assert!(!backplane.tells());
        });
        assert_eq!(heard, [None, None]);
        assert!(told(RedisBackplane::Off, |backplane| backplane.begin(true)).is_empty());
    }
}
