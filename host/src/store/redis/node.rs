//! One server, or whatever server is the primary now: the connection to it, made when needed and replaced when lost.
//!
//! Decides when to connect and when a request is sent a second time. All callers share one connection. Who needs it
//! first makes it; calls that arrive meanwhile wait for the same attempt and share its outcome. No call sleeps: on a
//! dead server it fails at once, and the first call on a server that is back succeeds. Apart from calls, a connection
//! that was lost is restored in the background, with growing and randomly spread waits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tideover_core::backoff::{Backoff, Jitter};
use tokio::time::{Instant, sleep};

use super::backplane::Backplane;
use super::dial::Dialer;
use super::failure::Fault;
use super::lock;
use super::pulse::{Attention, by};
use super::reply::Reply;
use super::request::{Effect, Request};
use super::sentinel::Sentinels;
use super::url::{Address, Login};
use super::wire::{Answered, Link, News};
use crate::cache::random_seed;
use crate::store::{StoreError, began};

/// The step before the first attempt in the background.
const RECONNECT_BASE: Duration = Duration::from_millis(100);

/// Connections so far.
static LINES: AtomicU64 = AtomicU64::new(1);

/// How a server is found.
pub(super) enum Whereabouts {
    At(Address),
    /// The primary, or a replica of it, that Sentinels know.
    Known(Arc<Sentinels>),
}

/// How long things may take and what connections are made of.
pub(super) struct Plan {
    pub(super) dialer: Dialer,
    pub(super) login: Login,
    pub(super) read_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) reconnect_wait_max: Duration,
    /// Told what a primary says between answers.
    pub(super) backplane: Arc<Backplane>,
}

/// A server, to callers.
pub(super) struct Node {
    plan: Arc<Plan>,
    whereabouts: Whereabouts,
    replica: bool,
    slot: Mutex<Slot>,
    /// What its attempts to connect have got.
    attention: Arc<Attention>,
    /// A task is restoring the connection.
    restoring: AtomicBool,
    /// A task is waiting for what the primary tells to go on.
    blind: AtomicBool,
    /// The number of the latest connection.
    newest: AtomicU64,
    /// A task is looking whether the primary is another one by now.
    doubting: AtomicBool,
    /// Told when a connection is lost or silent.
    troubled: Option<Troubled>,
    this: Weak<Self>,
}

/// What is to be done when a server is in trouble. It must not take long.
pub(super) type Troubled = Box<dyn Fn() + Send + Sync>;

/// A server and a name of it that stays.
pub(super) type Named = (Address, Arc<Node>);

enum Slot {
    /// The latest attempt: under way, or done with a connection or an error.
    Open(Option<Attempt>),
    Closed,
}

type Attempt = Shared<BoxFuture<'static, Result<Arc<Line>, StoreError>>>;

/// A connection and where it leads.
pub(super) struct Line {
    pub(super) link: Link,
    /// No other connection of this process has it.
    pub(super) number: u64,
    address: Address,
}

impl Node {
    pub(super) fn new(
        plan: Arc<Plan>,
        whereabouts: Whereabouts,
        replica: bool,
        troubled: Option<Troubled>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            plan,
            whereabouts,
            replica,
            slot: Mutex::new(Slot::Open(None)),
            attention: Arc::default(),
            restoring: AtomicBool::new(false),
            blind: AtomicBool::new(false),
            newest: AtomicU64::new(0),
            doubting: AtomicBool::new(false),
            troubled,
            this: Weak::clone(this),
        })
    }

    /// The answer to `request` by `deadline`, from the connection at hand, or from the next one if that was broken
    /// already. That a peer is gone shows only when something is sent, so without the second try the first call after
    /// a restart of the server would fail.
    pub(super) async fn answer(&self, request: &Request, asking: bool, deadline: Instant) -> Result<Answered, Fault> {
        let mut repeated = false;
        loop {
            let (line, found) = self.line(deadline).await?;
            let fault = match line.link.answer(request.clone(), asking, self.limit(request.effect, deadline)).await {
                Ok(answered) => return Ok(answered),
                Err(fault) => fault,
            };
            if fault.code() == Some("READONLY") && !self.replica {
                self.forget(&line);
            }
            if repeated || !found || !fault.may_repeat(request.effect != Effect::Once) {
                return Err(fault);
            }
            repeated = true;
        }
    }

    /// As [`answer`](Self::answer), for who does not heed the log.
    pub(super) async fn ask(&self, request: &Request, asking: bool, deadline: Instant) -> Result<Reply, Fault> {
        self.answer(request, asking, deadline).await.map(|answered| answered.reply)
    }

    /// The connection, if it is there and talks. Otherwise one is made in the background: the first at once, others as lost
    /// ones are.
    pub(super) fn ready(&self) -> Option<Arc<Line>> {
        match self.latest() {
            Some(line) if line.link.is_open() => return (!line.link.is_silent()).then_some(line),
            _ if matches!(&*lock(&self.slot), Slot::Open(None)) => drop(self.attempt()),
            _ => self.restore(),
        }
        None
    }

    /// The answer of a replica over `line`, by half of the time that is left: the rest is the primary's, should it fail.
    pub(super) async fn ask_half_way(&self, line: &Line, request: &Request, deadline: Instant) -> Result<Reply, Fault> {
        let half = deadline.saturating_duration_since(Instant::now()) / 2;
        let limit = self.limit(request.effect, Instant::now() + half);
        line.link.ask(request.unheeding(), false, limit).await
    }

    pub(super) fn limit(&self, effect: Effect, deadline: Instant) -> Instant {
        let limit = if effect == Effect::Read { self.plan.read_timeout } else { self.plan.write_timeout };
        deadline.min(Instant::now() + limit)
    }

    /// The connection, and whether it was there before.
    pub(super) async fn line(&self, deadline: Instant) -> Result<(Arc<Line>, bool), Fault> {
        let (attempt, found) = self.attempt()?;
        if let (Some(Ok(line)), true) = (attempt.peek(), found) {
            return Ok((Arc::clone(line), true));
        }
        // Rare, and large.
        Ok((Box::pin(self.wait(attempt, deadline)).await?, found))
    }

    /// The connection that `attempt` makes.
    async fn wait(&self, attempt: Attempt, deadline: Instant) -> Result<Arc<Line>, Fault> {
        let (asked_at, paid) = (began().unwrap_or_else(Instant::now), self.attention.paid());
        match by(deadline, attempt).await {
            Some(result) => Ok(result?),
            None if self.attention.was_paid(paid, asked_at, Instant::now()) => Err(Fault::TimedOut),
            None => Err(Fault::Congested),
        }
    }

    /// The attempt to wait for, and whether it had succeeded before: the latest one, unless it failed or its
    /// connection has ended.
    fn attempt(&self) -> Result<(Attempt, bool), StoreError> {
        let mut slot = lock(&self.slot);
        let Slot::Open(latest) = &mut *slot else { return Err(StoreError::Closed) };
        if let Some(attempt) = latest.as_ref() {
            match attempt.peek() {
                None => return Ok((attempt.clone(), false)),
                Some(Ok(line)) if line.link.is_open() => return Ok((attempt.clone(), true)),
                Some(_) => {}
            }
        }
        let attempt = self.connect().boxed().shared();
        // Callers may leave before the attempt ends; the task sees it through, so that no later caller
        // finds one that was left half-way and long ago.
        let (attention, seen_through, this) = (Arc::clone(&self.attention), attempt.clone(), Weak::clone(&self.this));
        drop(tokio::spawn(async move {
            let failed = attention.pay(seen_through).await.is_err();
            if let Some(node) = this.upgrade().filter(|node| failed && node.replica) {
                // Nobody waits for a replica who could see to it. The one that has left is not tried again.
                node.tell_trouble();
            }
        }));
        Ok((latest.insert(attempt).clone(), false))
    }

    fn connect(&self) -> impl Future<Output = Result<Arc<Line>, StoreError>> + Send + 'static {
        let (plan, this, replica) = (Arc::clone(&self.plan), Weak::clone(&self.this), self.replica);
        let deadline = Instant::now() + plan.dialer.connect_timeout;
        let whereabouts = match &self.whereabouts {
            Whereabouts::At(address) => Whereabouts::At(address.clone()),
            Whereabouts::Known(sentinels) => Whereabouts::Known(Arc::clone(sentinels)),
        };
        async move {
            let address = match &whereabouts {
                Whereabouts::At(address) => address.clone(),
                Whereabouts::Known(sentinels) if replica => sentinels.replica(deadline).await?,
                Whereabouts::Known(sentinels) => sentinels.master(deadline).await?,
            };
            let watched = Weak::clone(&this);
            let watcher = move |news: News| {
                if let Some(node) = watched.upgrade() {
                    node.hear(news);
                }
            };
            let wanted = if replica { None } else { plan.backplane.request() };
            let (link, tells) =
                plan.dialer.dial(&address, &plan.login, replica, wanted, deadline, Box::new(watcher)).await?;
            if matches!(whereabouts, Whereabouts::Known(_)) && !replica {
                super::sentinel::is_master(&link, &address, deadline).await?;
            }
            if !replica {
                plan.backplane.begin(tells);
            }
            let number = LINES.fetch_add(1, Ordering::Relaxed);
            if let Some(node) = this.upgrade() {
                node.newest.store(number, Ordering::Release);
            }
            Ok(Arc::new(Line { link, number, address }))
        }
    }

    /// Tries to have a connection again, until there is one or nobody wants it.
    fn restore(&self) {
        if self.restoring.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = Weak::clone(&self.this);
        let shape =
            Backoff { base: RECONNECT_BASE, factor: 2, cap: self.plan.reconnect_wait_max, jitter: Jitter::Full };
        // Each schedule has a seed of its own, so that the clients of a server do not come back in step.
        let waits = shape.schedule(random_seed());
        tokio::spawn(async move {
            for wait in waits {
                sleep(wait).await;
                let Some(node) = this.upgrade() else { return };
                let attempt = node.attempt();
                // The store may be dropped while the attempt lasts.
                drop(node);
                let done = match attempt {
                    Ok((attempt, _)) => attempt.await.is_ok(),
                    Err(_closed) => true,
                };
                if done {
                    break;
                }
            }
            if let Some(node) = this.upgrade() {
                node.restoring.store(false, Ordering::Release);
                if node.latest().is_some_and(|line| !line.link.is_open()) {
                    // Lost in this very moment, when it seemed to be seen to.
                    node.restore();
                }
            }
        });
    }

    /// Sees to it that the next call connects anew, or that it is done without one, unless another has seen to it already.
    /// The connection itself says no word of its end.
    pub(super) fn forget(&self, line: &Arc<Line>) {
        if self.let_go_of(line) {
            tracing::debug!(server = %line.address, "giving up the connection");
            self.restore();
            self.go_blind();
        }
    }

    fn let_go_of(&self, line: &Arc<Line>) -> bool {
        let mut slot = lock(&self.slot);
        let Slot::Open(latest) = &mut *slot else { return false };
        let is_latest = matches!(latest.as_ref().map(Shared::peek), Some(Some(Ok(known))) if Arc::ptr_eq(known, line));
        if is_latest {
            *latest = None;
        }
        is_latest
    }

    /// Deals with what a connection tells, whether or not a caller is still there to see it.
    fn hear(&self, news: News) {
        match news {
            News::Ended(loss) => {
                tracing::debug!(?loss, "connection lost");
                self.restore();
                self.go_blind();
            }
            News::Silent => {
                self.doubt();
                self.go_blind();
            }
            News::Pushed(pushed) => return self.plan.backplane.take_in(&pushed),
        }
        self.tell_trouble();
    }

    fn tell_trouble(&self) {
        if let Some(troubled) = &self.troubled {
            troubled();
        }
    }

    /// What the primary has to tell does not come any more. If that lasts, changes count as missed; a new connection has
    /// missed them anyway.
    fn go_blind(&self) {
        if self.replica || !self.plan.backplane.tells() || self.blind.swap(true, Ordering::AcqRel) {
            return;
        }
        let (this, grace) = (Weak::clone(&self.this), self.plan.backplane.grace);
        tokio::spawn(async move {
            // The connection whose loss was told.
            let mut told = None;
            sleep(grace).await;
            loop {
                let Some(node) = this.upgrade() else { return };
                if node.sees() || node.is_closed() {
                    node.blind.store(false, Ordering::Release);
                    if !node.sees() && !node.is_closed() {
                        // Lost in this very moment, when it seemed to be seen to.
                        node.go_blind();
                    }
                    return;
                }
                let newest = Some(node.newest.load(Ordering::Acquire));
                // It may have been back for a moment, and lost anew.
                if told != newest {
                    told = newest;
                    node.plan.backplane.missed();
                }
                drop(node);
                // So often, that it is seen to be back before it is lost again, which has a grace of its own.
                sleep(RECONNECT_BASE).await;
            }
        });
    }

    /// Whether what the primary tells comes, as far as is known.
    pub(super) fn sees(&self) -> bool {
        self.latest().is_some_and(|line| line.link.is_open() && !line.link.is_silent())
    }

    /// Whether it is on this server to tell what others change, as far as is known.
    pub(super) fn is_to_tell(&self) -> bool {
        let was_asked_to = self.newest.load(Ordering::Acquire) > 0;
        !self.replica && self.plan.backplane.tells() && was_asked_to
    }

    fn is_closed(&self) -> bool {
        matches!(&*lock(&self.slot), Slot::Closed)
    }

    /// Where Sentinels say who is primary: looks whether a primary that is silent still is. If it is not, the connection
    /// is given up; what it is left with is lost with its role. A silent replica is left for any other.
    fn doubt(&self) {
        let Whereabouts::Known(sentinels) = &self.whereabouts else { return };
        let Some(line) = self.latest() else { return };
        if self.doubting.swap(true, Ordering::AcqRel) {
            return;
        }
        let (this, sentinels, replica) = (Weak::clone(&self.this), Arc::clone(sentinels), self.replica);
        let deadline = Instant::now() + self.plan.dialer.connect_timeout;
        tokio::spawn(async move {
            let other = replica || sentinels.master(deadline).await.is_ok_and(|master| master != line.address);
            if let Some(node) = this.upgrade() {
                if other {
                    node.forget(&line);
                }
                node.doubting.store(false, Ordering::Release);
            }
        });
    }

    /// The connection that there is.
    fn latest(&self) -> Option<Arc<Line>> {
        match &*lock(&self.slot) {
            Slot::Open(Some(attempt)) => attempt.peek()?.as_ref().ok().map(Arc::clone),
            _ => None,
        }
    }

    /// Calls under way keep the connection until they end.
    pub(super) fn close(&self) {
        *lock(&self.slot) = Slot::Closed;
    }
}
