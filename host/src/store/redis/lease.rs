//! Leases at the server: `SET NX PX` with a token, renewed and deleted only by who has that. Who waits is woken by what the
//! server tells of the lease's key when it is deleted or ends; where nothing is told, it asks again now and then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::backplane::{Backplane, Deed};
use super::failure::{Fault, unexpected};
use super::operations::ttl_millis;
use super::reply::Reply;
use super::request::Effect;
use super::script::Script;
use super::{Deployment, RedisStore, lock};
use crate::cache::random_seed;
use crate::store::StoreError;
use crate::store::lease::{Elsewhere, Keeper, Lease, Leased};

/// How often who waits asks again where nothing is told.
const POLL: Duration = Duration::from_millis(50);

/// Waiting rooms that may be empty before they are looked through.
const ROOMS_MAX: usize = 1_024;

/// `KEYS`: the lease. `ARGV`: the token, the milliseconds to live. -1: it is ours (a retry finds itself); else for how long
/// it is somebody else's.
static ACQUIRE: Script = Script::new(
    Effect::Write,
    "if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return -1 end \
     if redis.call('GET', KEYS[1]) == ARGV[1] then return -1 end \
     return math.max(redis.call('PTTL', KEYS[1]), 1)",
);

/// `KEYS`: the lease. `ARGV`: the token, the milliseconds to live.
static RENEW: Script = Script::new(
    Effect::Write,
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
     return redis.call('PEXPIRE', KEYS[1], ARGV[2])",
);

/// `KEYS`: the lease. `ARGV`: the token; and where to publish what, or nothing more.
static RELEASE: Script = Script::new(
    Effect::Write,
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
     redis.call('DEL', KEYS[1]) \
     if ARGV[2] then redis.pcall('PUBLISH', ARGV[2], ARGV[3]) end \
     return 1",
);

/// Who waits for which lease.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<Box<str>, Weak<Notify>>>);

impl Waiting {
    /// Where those wait who want the lease on `key`.
    fn room(&self, key: &str) -> Arc<Notify> {
        let mut rooms = lock(&self.0);
        if let Some(room) = rooms.get(key).and_then(Weak::upgrade) {
            return room;
        }
        if rooms.len() >= ROOMS_MAX {
            rooms.retain(|_, room| room.strong_count() > 0);
        }
        let room = Arc::<Notify>::default();
        rooms.insert(key.into(), Arc::downgrade(&room));
        room
    }

    /// The lease on `key` may be free.
    pub(super) fn wake(&self, key: &str) {
        let room = lock(&self.0).get(key).and_then(Weak::upgrade);
        if let Some(room) = room {
            room.notify_waiters();
        }
    }
}

/// What keeps a lease.
struct Held {
    deployment: Arc<Deployment>,
    backplane: Arc<Backplane>,
    key: Box<str>,
    place: Bytes,
    token: String,
    ttl: Duration,
    call_timeout: Duration,
    /// Closing waits until it is given back.
    _under_way: TaskTrackerToken,
}

impl Held {
    async fn run(&self, script: &Script, arguments: &[&[u8]]) -> Result<Reply, Fault> {
        let deadline = Instant::now() + self.call_timeout;
        let ask = |request| async move { self.deployment.ask(&self.place, &request, deadline).await };
        script.run(&self.place, arguments, ask).await
    }
}

impl Keeper for Held {
    fn renew(&self) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let millis = ttl_millis(self.ttl).to_string();
            // What fails is tried again at the next turn, which is before its end.
            self.run(&RENEW, &[self.token.as_bytes(), millis.as_bytes()]).await.unwrap_or(Reply::Int(1))
                == Reply::Int(1)
        })
    }

    fn release(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let deed = Deed::Freed(&self.key);
            let mut arguments = vec![self.token.as_bytes()];
            let message = self.backplane.message(&deed);
            if let Some((channel, message)) = &message {
                arguments.extend([&channel[..], message]);
            }
            if let Err(fault) = self.run(&RELEASE, &arguments).await {
                tracing::debug!(?fault, "a lease was not given back and ends by itself");
            }
            self.backplane.tell_here(&deed);
        })
    }
}

impl RedisStore {
    pub(super) async fn lease_on(&self, key: &str, ttl: Duration, hold_for: Duration) -> Result<Leased, StoreError> {
        let place = self.namespace.internal(&["lease:", key].concat());
        let token = format!("{:016x}{:016x}", random_seed(), random_seed());
        let room = self.backplane.leases.room(key);
        // From here on, so that nothing is missed between the answer and the waiting.
        let woken = Arc::clone(&room).notified_owned();
        let millis = ttl_millis(ttl).to_string();
        let answer = self.script(&ACQUIRE, &place, &[token.as_bytes(), millis.as_bytes()]).await?;
        match answer {
            Reply::Int(-1) => {
                let held = Held {
                    deployment: Arc::clone(&self.deployment),
                    backplane: Arc::clone(&self.backplane),
                    key: key.into(),
                    place,
                    token,
                    ttl,
                    call_timeout: self.call_timeout,
                    _under_way: self.calls.token(),
                };
                Ok(Leased::Held(Lease::new(ttl, hold_for, held)))
            }
            Reply::Int(millis) => {
                let free_in = Duration::from_millis(u64::try_from(millis).unwrap_or(1));
                let tells = self.backplane.tells();
                Ok(Leased::Elsewhere(Elsewhere::new(free_in, async move {
                    let _in_use = room;
                    if tells { woken.await } else { sleep(POLL).await }
                })))
            }
            _ => Err(unexpected("EVALSHA")),
        }
    }
}
