//! A Cluster on loopback.

use std::collections::BTreeSet;

use super::{Certificates, RedisServer, free_port, plain, wait_until};

/// Milliseconds after which the nodes give one up.
const NODE_TIMEOUT: &str = "1000";

/// Slots of any Cluster.
const SLOTS: usize = 16_384;

/// Three masters that share the slots evenly, with or without a replica each. Slots of a node that is away are not
/// served, all others are.
pub struct RedisCluster {
    /// The masters at the start, in the order of their slots; then those that were [added](Self::add_master).
    pub masters: Vec<RedisServer>,
    /// A replica of each, in the same order; or none.
    pub replicas: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts three masters and waits until they agree.
    ///
    /// # Panics
    ///
    /// When they do not, within half a minute.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// As [`start`](Self::start), with nodes that speak TLS with each other, and with clients on ports of their own.
    #[must_use]
    pub fn start_with_tls(certificates: &Certificates) -> Self {
        Self::start_with(Some(certificates))
    }

    fn start_with(certificates: Option<&Certificates>) -> Self {
        let cluster = Self { masters: (0..3).map(|_| node(certificates)).collect(), replicas: Vec::new() };
        for (number, master) in cluster.masters.iter().enumerate() {
            let (first, next) = (SLOTS * number / 3, SLOTS * (number + 1) / 3);
            let range = ["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(next - 1).to_string()];
            assert_eq!(master.command(&range), "OK");
            // Else all begin in the same epoch, and failovers wait for that to be sorted out.
            assert_eq!(master.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]), "OK");
        }
        cluster.masters[1..].iter().for_each(|master| cluster.masters[0].meet(master));
        cluster.wait_until_settled();
        cluster
    }

    /// As [`start`](Self::start), with a replica for each master that takes over when it is away.
    #[must_use]
    pub fn start_with_replicas() -> Self {
        let mut cluster = Self::start();
        cluster.replicas = (0..3).map(|_| node(None)).collect();
        cluster.replicas.iter().for_each(|replica| cluster.masters[0].meet(replica));
        for (master, replica) in cluster.masters.iter().zip(&cluster.replicas) {
            let id = master.command(&["CLUSTER", "MYID"]);
            // It has to have heard of its master first.
            wait_until("a replica", || replica.command(&["CLUSTER", "REPLICATE", &id]) == "OK");
        }
        for replica in &cluster.replicas {
            wait_until("replication", || replica.command(&["INFO", "replication"]).contains("link_status:up"));
        }
        cluster.wait_until_settled();
        for master in &cluster.masters {
            wait_until("all replicas known", || {
                master.command(&["CLUSTER", "SLOTS"]).lines().filter(|line| line.len() == 40).count() == 6
            });
        }
        cluster
    }

    /// Adds a master that serves no slots yet, and tells its number.
    pub fn add_master(&mut self) -> usize {
        let newcomer = node(None);
        self.masters[0].meet(&newcomer);
        self.masters.push(newcomer);
        self.wait_until_settled();
        self.masters.len() - 1
    }

    /// The URL for clients: all masters.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.masters.iter().map(|master| format!("127.0.0.1:{}", master.port())).collect();
        format!("redis://{}", hosts.join(","))
    }

    /// Waits until all nodes that run say that all is well and know the same nodes.
    pub fn wait_until_settled(&self) {
        for server in self.masters.iter().chain(&self.replicas) {
            wait_until("the cluster is well", || {
                let info = server.command(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
            });
        }
        wait_until("all nodes know the same", || {
            let views = self.masters.iter().chain(&self.replicas).map(known_nodes);
            views.collect::<BTreeSet<_>>().len() == 1
        });
    }

    /// The number of the master that serves `slot`.
    ///
    /// # Panics
    ///
    /// When none of [`masters`](Self::masters) does.
    #[must_use]
    pub fn master_of(&self, slot: u16) -> usize {
        let owns = |master: &RedisServer| slots_of(master).iter().any(|(first, last)| (*first..=*last).contains(&slot));
        self.masters.iter().position(owns).expect("a master that serves the slot")
    }

    /// The slot that a key lies in.
    #[must_use]
    pub fn slot_of(&self, key: &str) -> u16 {
        self.masters[0].command(&["CLUSTER", "KEYSLOT", key]).parse().expect("a number")
    }

    /// Begins to move `slot` to the master `to`: keys that are not there yet are served by the old one, and asked for at
    /// the new one once they have been moved.
    pub fn begin_move(&self, slot: u16, to: usize) {
        let (source, target, slot) = (&self.masters[self.master_of(slot)], &self.masters[to], slot.to_string());
        let id = |server: &RedisServer| server.command(&["CLUSTER", "MYID"]);
        assert_eq!(target.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(source)]), "OK");
        assert_eq!(source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(target)]), "OK");
    }

    /// Moves one key that lies in a slot that is being moved.
    pub fn move_key(&self, key: &str, to: usize) {
        let source = &self.masters[self.master_of(self.slot_of(key))];
        let port = self.masters[to].port().to_string();
        assert_eq!(source.command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]), "OK");
    }

    /// Moves what is left in `slot`, and tells all masters that it has moved.
    pub fn finish_move(&self, slot: u16, to: usize) {
        let source = self.master_of(slot);
        let text = slot.to_string();
        loop {
            let keys = self.masters[source].command(&["CLUSTER", "GETKEYSINSLOT", &text, "100"]);
            if keys.is_empty() {
                break;
            }
            keys.lines().for_each(|key| self.move_key(key, to));
        }
        let id = self.masters[to].command(&["CLUSTER", "MYID"]);
        // The new one first: else both point to each other for a moment.
        for number in [to, source].into_iter().chain(0..self.masters.len()) {
            assert_eq!(self.masters[number].command(&["CLUSTER", "SETSLOT", &text, "NODE", &id]), "OK");
        }
    }
}

impl RedisServer {
    fn meet(&self, other: &Self) {
        let bus = other.bus_port().to_string();
        let port = other.tls_port.unwrap_or(other.port).to_string();
        assert_eq!(self.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]), "OK");
    }

    fn bus_port(&self) -> u16 {
        let position = self.arguments.iter().position(|argument| argument == "--cluster-port");
        let position = position.expect("a node of a cluster");
        self.arguments[position + 1].parse().expect("a port")
    }
}

fn node(certificates: Option<&Certificates>) -> RedisServer {
    let tls_port = certificates.map(|_| free_port());
    let mut server = RedisServer::start_as(None, &|port, folder| {
        let bus = free_port().to_string();
        let more = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", NODE_TIMEOUT];
        let rest = ["--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0"];
        // Else a master that gives away its last slot becomes a replica.
        let stay = ["--cluster-allow-replica-migration", "no"];
        let more = more.into_iter().chain(rest).chain(stay).map(str::to_owned);
        let mut arguments: Vec<String> = plain(port, folder).into_iter().chain(more).collect();
        if let (Some(certificates), Some(tls_port)) = (certificates, tls_port) {
            arguments.extend(certificates.arguments(tls_port, folder));
            arguments.extend(["--tls-cluster", "yes"].map(str::to_owned));
        }
        arguments
    });
    server.tls_port = tls_port;
    server
}

/// The ids, addresses and slots of the nodes that `server` knows.
fn known_nodes(server: &RedisServer) -> BTreeSet<(String, String)> {
    let nodes = server.command(&["CLUSTER", "NODES"]);
    let fields = nodes.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.map(|fields| (fields[0].to_owned(), fields.get(8..).unwrap_or_default().join(" "))).collect()
}

fn slots_of(server: &RedisServer) -> Vec<(u16, u16)> {
    let nodes = server.command(&["CLUSTER", "NODES"]);
    let own = nodes.lines().find(|line| line.contains("myself")).expect("every node knows itself");
    let ranges = own.split(' ').skip(8).filter(|word| !word.starts_with('['));
    let range = |word: &str| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    ranges.filter_map(range).collect()
}
