//! What a clear leaves to be done: what was there before it is of no use to any cache, and is removed by and by.
//!
//! One walk over the keys at a time, at half of what the server could do, in the background. A newer clear has it
//! begin anew. It ends with the store.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::backplane::Backplane;
use super::echoes::Own;
use super::failure::Fault;
use super::keys::Namespace;
use super::node::Node;
use super::reply::Reply;
use super::stamped::SWEEP;
use super::walk::{STEP, found, scan};
use super::{Deployment, lock};

/// How often a walk is begun anew after a failure, and the first wait before that. What is left then ends with its time
/// to live.
const TRIES_MAX: u32 = 8;
const WAIT: Duration = Duration::from_secs(1);

pub(super) struct Sweeper {
    broom: Arc<Broom>,
    ended: CancellationToken,
}

/// What the task holds.
struct Broom {
    deployment: Arc<Deployment>,
    namespace: Namespace,
    backplane: Arc<Backplane>,
    call_timeout: Duration,
    wanted: Mutex<Wanted>,
}

#[derive(Default)]
struct Wanted {
    /// The newest clear; what is older than that goes.
    before: u64,
    at_work: bool,
}

impl Sweeper {
    pub(super) fn new(
        deployment: Arc<Deployment>,
        namespace: Namespace,
        backplane: Arc<Backplane>,
        call_timeout: Duration,
    ) -> Self {
        let broom = Broom { deployment, namespace, backplane, call_timeout, wanted: Mutex::default() };
        Self { broom: Arc::new(broom), ended: CancellationToken::new() }
    }

    /// Has everything removed that is older than the clear of this number.
    pub(super) fn sweep(&self, before: u64) {
        let mut wanted = lock(&self.broom.wanted);
        wanted.before = wanted.before.max(before);
        if !std::mem::replace(&mut wanted.at_work, true) {
            let (broom, ended) = (Arc::clone(&self.broom), self.ended.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = ended.cancelled() => {}
                    () = broom.work() => {}
                }
            });
        }
    }

    pub(super) fn end(&self) {
        self.ended.cancel();
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.end();
    }
}

impl Broom {
    async fn work(&self) {
        let (mut done, mut failed) = (0, 0);
        while let Some(before) = self.next(done) {
            match self.walk(before).await {
                Ok(()) => (done, failed) = (before, 0),
                Err(fault) => {
                    tracing::debug!(?fault, "removing what was cleared");
                    failed += 1;
                    if failed == TRIES_MAX {
                        (done, failed) = (before, 0);
                    } else {
                        sleep(WAIT * (1 << failed)).await;
                    }
                }
            }
        }
    }

    /// The clear that is to be worked on after `done`.
    fn next(&self, done: u64) -> Option<u64> {
        let mut wanted = lock(&self.wanted);
        wanted.at_work = wanted.before > done;
        wanted.at_work.then_some(wanted.before)
    }

    async fn walk(&self, before: u64) -> Result<(), Fault> {
        for (_, node) in self.deployment.masters(self.deadline()).await? {
            self.walk_over(&node, &before.to_be_bytes()).await?;
        }
        Ok(())
    }

    async fn walk_over(&self, node: &Node, before: &[u8]) -> Result<(), Fault> {
        let pattern = self.namespace.everything();
        let mut position = 0;
        loop {
            let began = Instant::now();
            let reply = node.ask(&scan(position, &pattern, STEP), false, self.deadline()).await?;
            let (next, places) = found(&reply)?;
            let places = places.iter().filter(|place| !self.namespace.is_own(place));
            try_join_all(places.map(|place| self.remove(place, before))).await?;
            if next == 0 {
                return Ok(());
            }
            position = next;
            sleep(began.elapsed()).await;
        }
    }

    async fn remove(&self, place: &Bytes, before: &[u8]) -> Result<(), Fault> {
        let key = self.namespace.key(place);
        if let Some(key) = key {
            self.backplane.expect_echo(key, Own::Swept);
        }
        let ask = |request| async move { self.deployment.ask(place, &request, self.deadline()).await };
        let swept = SWEEP.run(place, &[before], ask).await?;
        if let (Reply::Int(0), Some(key)) = (swept, key) {
            // What is there is newer, so the next word about it is another's, and so was one that has come meanwhile.
            self.backplane.withdraw_echo(key);
        }
        Ok(())
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.call_timeout
    }
}
