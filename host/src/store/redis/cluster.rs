//! A Cluster: who serves a key, and what to do when that changes.
//!
//! Each node has one connection of its own, made when it is first needed. Redirections are followed within the call;
//! `MOVED` is believed at once for its slot and has the whole map read anew behind the call. A node that fails has the
//! map read anew, too, at most every [`REFRESH_GAP`]; if the slot has another master by then, the call goes on there.
//! Replicas are asked only over connections that are there, and made up for by the master.
//! When slots go over to a master to which there is no connection yet, or were all that a master had, changes count as missed
//! at once, whoever says so.
//! Nothing here sleeps.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, select_ok};
use tokio::time::{Instant, timeout_at};

use super::failure::{Fault, unexpected};
use super::log::head;
use super::node::{Line, Named, Node, Plan, Whereabouts};
use super::reply::Reply;
use super::request::{Body, Effect, Request};
use super::slots::{SlotMap, redirection};
use super::url::Address;
use super::wire::Answered;
use super::{lock, may_lag};
use crate::store::StoreError;

/// Redirections that one call follows; a cluster that sends it further than that is not settled.
const REDIRECTIONS_MAX: usize = 5;

/// The map is read anew at most this often on account of failures.
const REFRESH_GAP: Duration = Duration::from_millis(100);

/// Nodes that are asked for the map at once; the first answer counts, so one that hangs delays nobody.
const ASKED_MAX: usize = 4;

pub(super) struct Cluster {
    plan: Arc<Plan>,
    seeds: Vec<Address>,
    replicas: bool,
    /// Where the log lies.
    log_slot: u16,
    turn: AtomicUsize,
    state: Mutex<State>,
    this: Weak<Self>,
}

#[derive(Default)]
struct State {
    closed: bool,
    /// Connections by node, and whether as a replica.
    nodes: HashMap<(Address, bool), Arc<Node>>,
    map: Option<SlotMap>,
    refresh: Option<Refresh>,
    refreshed_at: Option<Instant>,
}

impl State {
    /// Whether with `newer` as the map something may be changed that nobody tells: slots have gone from a master that was to
    /// tell it to one that cannot be heard at present. Or they were its last, so that it is let go of with what it
    /// has still to say.
    fn loses_word(&self, newer: &SlotMap) -> bool {
        let Some(map) = &self.map else { return false };
        let masters = newer.masters();
        let node = |address: &Address| self.nodes.get(&(address.clone(), false));
        let was_told_by = |address: &Address| node(address).is_some_and(|node| node.is_to_tell());
        let is_told_by = |address: &Address| node(address).is_some_and(|node| node.is_to_tell() && node.sees());
        map.moves(newer).any(|(from, to)| was_told_by(from) && !(masters.contains(from) && to.is_some_and(is_told_by)))
    }
}

type Refresh = Shared<BoxFuture<'static, Result<(), StoreError>>>;

/// A node and the connection that there is to it.
type Talking = (Arc<Node>, Arc<Line>);

impl Cluster {
    pub(super) fn new(plan: Arc<Plan>, seeds: Vec<Address>, replicas: bool, log_slot: u16) -> Arc<Self> {
        let (turn, state) = (AtomicUsize::new(0), Mutex::default());
        Arc::new_cyclic(|this| Self { plan, seeds, replicas, log_slot, turn, state, this: Weak::clone(this) })
    }

    /// Whether the end of the log can travel with a request, as far as is known.
    pub(super) fn has_log_with(&self, slot: u16, request: &Request) -> bool {
        if self.replicas && may_lag(request) {
            return false;
        }
        let state = lock(&self.state);
        let Some(map) = &state.map else { return false };
        let master = |slot| map.shard(slot).map(|shard| &shard.master);
        slot == self.log_slot || master(slot) == master(self.log_slot)
    }

    /// The answer to `request`, whose key lies in `slot`; with the end of the log if that lies on the same node.
    pub(super) async fn answer(&self, slot: u16, request: &Request, deadline: Instant) -> Result<Answered, Fault> {
        if self.replicas
            && may_lag(request)
            && let Some(answered) = self.answer_of_replica(slot, request, deadline).await?
        {
            return Ok(answered);
        }
        let mut address = self.master_of(slot, deadline).await?;
        let (mut asking, mut moved_on) = (false, false);
        for _ in 0..=REDIRECTIONS_MAX {
            let fault = match self.answer_of(&address, request, asking, deadline).await {
                Ok(answered) => return Ok(answered),
                Err(fault) => fault,
            };
            match (fault.code(), &fault) {
                (_, Fault::Congested) => return Err(fault),
                (Some(code @ ("MOVED" | "ASK")), Fault::Refused(refusal)) => {
                    let Some((slot, next)) = redirection(refusal.text(), &address) else { return Err(fault) };
                    asking = code == "ASK";
                    if !asking {
                        self.learn(slot, &next);
                    }
                    address = next;
                }
                (Some("READONLY" | "CLUSTERDOWN"), _) | (None, _) => {
                    let again = self.may_go_elsewhere(&fault, request);
                    let refresh = self.refresh_for_failure()?;
                    if moved_on || !again {
                        return Err(fault);
                    }
                    if let Some(refresh) = refresh {
                        // It only matters where the slot is now; whether all went well shows there.
                        let _ = timeout_at(deadline, refresh).await;
                    }
                    let next = self.known_master_of(slot)?;
                    if next.as_ref().is_none_or(|next| *next == address) {
                        return Err(fault);
                    }
                    (moved_on, asking) = (true, false);
                    address = next.unwrap_or(address);
                }
                _ => return Err(fault),
            }
        }
        Err(StoreError::Unavailable("the cluster sends this key from node to node".into()).into())
    }

    /// What a replica says, if one is there and answers in its part of the time.
    async fn answer_of_replica(
        &self,
        slot: u16,
        request: &Request,
        deadline: Instant,
    ) -> Result<Option<Answered>, Fault> {
        let Some((replica, line)) = self.replica_of(slot)? else { return Ok(None) };
        match replica.ask_half_way(&line, request, deadline).await {
            Ok(reply) => return Ok(Some(reply.into())),
            // Our own doing, or that of what lies there.
            Err(Fault::Congested | Fault::Full(_)) => {}
            Err(fault) if fault.code() == Some("WRONGTYPE") => {}
            Err(_) => drop(self.refresh_for_failure()?),
        }
        Ok(None)
    }

    /// What the master at `address` says. The end of the log comes along if it lies there, as far as is known; who asks for
    /// that alone is refused as by any other command.
    async fn answer_of(
        &self,
        address: &Address,
        request: &Request,
        asking: bool,
        deadline: Instant,
    ) -> Result<Answered, Fault> {
        let node = self.node(address, false)?;
        if !matches!(request.body, Body::Head) {
            let heeds = request.heeds && self.known_master_of(self.log_slot)?.is_some_and(|master| master == *address);
            return node.answer(&Request { heeds, ..request.clone() }, asking, deadline).await;
        }
        if asking {
            // Right behind the word that asks for it, which holds for one command: not at the end of a batch.
            let body = Body::Packed(self.plan.dialer.keeping.head.clone());
            let reply = node.ask(&Request { body, ..request.unheeding() }, true, deadline).await?;
            return Ok(Answered { head: Some(head(&reply)), reply: Reply::Nil });
        }
        match node.answer(request, false, deadline).await? {
            Answered { head: Some(Err(fault)), .. } => Err(fault),
            answered => Ok(answered),
        }
    }

    /// Whether a request may be sent to another node after this. One that timed out may not: it may still be run.
    fn may_go_elsewhere(&self, fault: &Fault, request: &Request) -> bool {
        match fault {
            Fault::Refused(_) => true,
            Fault::Store(StoreError::Unavailable(_) | StoreError::TimedOut(_)) => true,
            fault => fault.may_repeat(request.effect != Effect::Once),
        }
    }

    /// All masters, in a fixed order.
    pub(super) async fn masters(&self, deadline: Instant) -> Result<Vec<Named>, Fault> {
        let known = lock(&self.state).map.as_ref().map(SlotMap::masters);
        let masters = match known {
            Some(masters) => masters,
            None => {
                self.wait_for_map(deadline).await?;
                lock(&self.state).map.as_ref().map(SlotMap::masters).unwrap_or_default()
            }
        };
        masters.into_iter().map(|address| Ok((address.clone(), self.node(&address, false)?))).collect()
    }

    async fn master_of(&self, slot: u16, deadline: Instant) -> Result<Address, Fault> {
        if lock(&self.state).map.is_none() {
            self.wait_for_map(deadline).await?;
        }
        if let Some(master) = self.known_master_of(slot)? {
            return Ok(master);
        }
        self.refresh_for_failure()?;
        Err(StoreError::Unavailable("no node of the cluster serves this key now".into()).into())
    }

    fn known_master_of(&self, slot: u16) -> Result<Option<Address>, StoreError> {
        let state = self.open()?;
        Ok(state.map.as_ref().and_then(|map| Some(map.shard(slot)?.master.clone())))
    }

    /// A replica of the shard that can be asked at once, each in turn. The others are connected to meanwhile.
    fn replica_of(&self, slot: u16) -> Result<Option<Talking>, StoreError> {
        let replicas = self.open()?.map.as_ref().and_then(|map| Some(map.shard(slot)?.replicas.clone()));
        let mut replicas = replicas.unwrap_or_default();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % replicas.len().max(1);
        replicas.rotate_left(turn);
        for address in replicas {
            let node = self.node(&address, true)?;
            if let Some(line) = node.ready() {
                return Ok(Some((node, line)));
            }
        }
        Ok(None)
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = lock(&self.state);
        if state.closed { Err(StoreError::Closed) } else { Ok(state) }
    }

    fn node(&self, address: &Address, replica: bool) -> Result<Arc<Node>, StoreError> {
        let mut state = self.open()?;
        let node = state.nodes.entry((address.clone(), replica)).or_insert_with(|| self.new_node(address, replica));
        Ok(Arc::clone(node))
    }

    fn new_node(&self, address: &Address, replica: bool) -> Arc<Node> {
        let this = Weak::clone(&self.this);
        let troubled = move || {
            // Callers may have left long before; this is how a failover is noticed all the same.
            let _ = this.upgrade().map(|cluster| cluster.refresh_for_failure());
        };
        Node::new(Arc::clone(&self.plan), Whereabouts::At(address.clone()), replica, Some(Box::new(troubled)))
    }

    /// Believes a node that says who serves a slot, and asks for the rest.
    fn learn(&self, slot: u16, master: &Address) {
        let state = lock(&self.state);
        // Each of those who asked at the same time is told the same.
        let is_news = |map: &&SlotMap| map.shard(slot).is_none_or(|shard| shard.master != *master);
        match state.map.as_ref().filter(is_news).cloned() {
            Some(mut map) => {
                map.learn(slot, master.clone());
                self.believe(state, map);
            }
            None => drop(state),
        }
        let _ = self.refresh_for_failure();
    }

    /// From now on the map is this.
    fn believe(&self, mut state: MutexGuard<'_, State>, map: SlotMap) {
        let loses_word = state.loses_word(&map);
        // Nodes that have left take their connections with them, once the calls on those have ended.
        let named: HashSet<&Address> = map.nodes().chain(&self.seeds).collect();
        state.nodes.retain(|(address, _), _| named.contains(address));
        state.map = Some(map);
        drop(state);
        if loses_word {
            self.plan.backplane.missed();
        }
    }

    async fn wait_for_map(&self, deadline: Instant) -> Result<(), Fault> {
        let refresh = self.refresh()?;
        timeout_at(deadline, refresh).await.map_err(|_| Fault::TimedOut)?.map_err(Fault::Store)
    }

    /// Has the map read anew, unless that was done only just now; whoever wants to may wait for it.
    fn refresh_for_failure(&self) -> Result<Option<Refresh>, StoreError> {
        let lately = self.open()?.refreshed_at.is_some_and(|at| at.elapsed() < REFRESH_GAP);
        if lately { Ok(None) } else { self.refresh().map(Some) }
    }

    /// The reading of the map that is under way, or a new one.
    fn refresh(&self) -> Result<Refresh, StoreError> {
        let mut state = self.open()?;
        if let Some(refresh) = state.refresh.as_ref().filter(|refresh| refresh.peek().is_none()) {
            return Ok(refresh.clone());
        }
        let this = Weak::clone(&self.this);
        let deadline = Instant::now() + self.plan.dialer.connect_timeout + self.plan.read_timeout;
        let refresh = async move {
            let closed = || StoreError::Closed;
            let nodes = this.upgrade().ok_or_else(closed)?.nodes_to_ask()?;
            let asked = nodes.into_iter().map(|(address, node)| read_map(address, node, deadline).boxed());
            let result = select_ok(asked).await;
            this.upgrade().ok_or_else(closed)?.take_map(result.map(|(map, _others)| map))
        };
        let refresh = refresh.boxed().shared();
        drop(tokio::spawn(refresh.clone()));
        Ok(state.refresh.insert(refresh).clone())
    }

    /// Some nodes that may know: masters and those that the URL names, others each time.
    fn nodes_to_ask(&self) -> Result<Vec<Named>, StoreError> {
        let known: Vec<Address> = self.open()?.map.as_ref().map(SlotMap::masters).unwrap_or_default();
        let mut addresses = known;
        for seed in &self.seeds {
            if !addresses.contains(seed) {
                addresses.push(seed.clone());
            }
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len().max(1);
        addresses.rotate_left(turn);
        addresses.truncate(ASKED_MAX);
        addresses.into_iter().map(|address| Ok((address.clone(), self.node(&address, false)?))).collect()
    }

    fn take_map(&self, result: Result<SlotMap, StoreError>) -> Result<(), StoreError> {
        let mut state = self.open()?;
        state.refreshed_at = Some(Instant::now());
        self.believe(state, result?);
        Ok(())
    }

    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.nodes.drain().for_each(|(_, node)| node.close());
    }
}

async fn read_map(address: Address, node: Arc<Node>, deadline: Instant) -> Result<SlotMap, StoreError> {
    let reply = node.ask(&Request::new(Effect::Read, &[b"CLUSTER", b"SLOTS"]), false, deadline).await?;
    SlotMap::read(&reply, &address)
        .filter(|map| map.nodes().next().is_some())
        .ok_or_else(|| unexpected("CLUSTER SLOTS"))
}
