//! Which of a Cluster's 16 384 slots a key lies in, and which node serves it.

use super::reply::Reply;
use super::url::Address;

pub(super) const SLOTS: u16 = 16_384;

/// The slot of `key`: of what stands between its first `{` and the next `}`, if anything does, else of all of it.
pub(super) fn slot(key: &[u8]) -> u16 {
    crc16(tag(key)) % SLOTS
}

fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else { return key };
    let inner = &key[open + 1..];
    match inner.iter().position(|byte| *byte == b'}') {
        None | Some(0) => key,
        Some(close) => &inner[..close],
    }
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const TABLE: [u16; 256] = {
    let mut table = [0_u16; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// A master and its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) master: Address,
    pub(super) replicas: Vec<Address>,
}

/// Who serves what, as a node told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotMap {
    /// For each slot, one more than the number of its shard; zero where nobody serves it.
    owners: Vec<u16>,
    shards: Vec<Shard>,
}

impl SlotMap {
    /// Reads the answer to `CLUSTER SLOTS` of the node at `asked`; `None` if it is not one.
    pub(super) fn read(reply: &Reply, asked: &Address) -> Option<Self> {
        let Reply::List(ranges) = reply else { return None };
        let mut map = Self { owners: vec![0; usize::from(SLOTS)], shards: Vec::new() };
        for range in ranges {
            let Reply::List(parts) = range else { return None };
            let [Reply::Int(first), Reply::Int(last), nodes @ ..] = &parts[..] else { return None };
            let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
            let mut nodes = nodes.iter().map(|node| node_address(node, asked));
            let shard = Shard { master: nodes.next()??, replicas: nodes.flatten().collect() };
            let number = map.number_of(shard);
            map.owners.get_mut(first..=last)?.fill(number);
        }
        Some(map)
    }

    fn number_of(&mut self, shard: Shard) -> u16 {
        let known = self.shards.iter().position(|known| *known == shard);
        let index = known.unwrap_or_else(|| {
            self.shards.push(shard);
            self.shards.len() - 1
        });
        u16::try_from(index + 1).unwrap_or(0)
    }

    pub(super) fn shard(&self, slot: u16) -> Option<&Shard> {
        self.numbered(*self.owners.get(usize::from(slot))?)
    }

    fn numbered(&self, number: u16) -> Option<&Shard> {
        self.shards.get(usize::from(number.checked_sub(1)?))
    }

    /// From which masters to which others slots have gone in the `newer` map; to none if nobody serves them there.
    pub(super) fn moves<'a>(&'a self, newer: &'a Self) -> impl Iterator<Item = (&'a Address, Option<&'a Address>)> {
        let mut owners: Vec<(u16, u16)> = self.owners.iter().copied().zip(newer.owners.iter().copied()).collect();
        // Of neighbours most have the same, and the rest is little to sort.
        owners.dedup();
        owners.sort_unstable();
        owners.dedup();
        owners.into_iter().filter_map(|(old, new)| {
            let (from, to) = (&self.numbered(old)?.master, newer.numbered(new).map(|shard| &shard.master));
            (to != Some(from)).then_some((from, to))
        })
    }

    /// Notes that `slot` is served by `master` now.
    pub(super) fn learn(&mut self, slot: u16, master: Address) {
        let known = self.shards.iter().find(|shard| shard.master == master).cloned();
        let number = self.number_of(known.unwrap_or(Shard { master, replicas: Vec::new() }));
        if let Some(owner) = self.owners.get_mut(usize::from(slot)) {
            *owner = number;
        }
    }

    /// All masters that serve something, in a fixed order.
    pub(super) fn masters(&self) -> Vec<Address> {
        let mut serves = vec![false; self.shards.len() + 1];
        self.owners.iter().for_each(|owner| serves[usize::from(*owner)] = true);
        let shards = self.shards.iter().zip(&serves[1..]).filter(|(_, serves)| **serves);
        let mut masters: Vec<Address> = shards.map(|(shard, _)| shard.master.clone()).collect();
        masters.sort();
        masters.dedup();
        masters
    }

    /// All nodes that it names.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Address> {
        self.shards.iter().flat_map(|shard| std::iter::once(&shard.master).chain(&shard.replicas))
    }
}

fn node_address(node: &Reply, asked: &Address) -> Option<Address> {
    let Reply::List(parts) = node else { return None };
    let [host, Reply::Int(port), ..] = &parts[..] else { return None };
    let host = match host {
        Reply::Bytes(host) => std::str::from_utf8(host).ok()?,
        _ => "",
    };
    Some(Address::Tcp(known_host(host, asked)?, u16::try_from(*port).ok()?))
}

/// A node that does not know its own name means the one that it was asked by.
fn known_host(host: &str, asked: &Address) -> Option<String> {
    match host {
        "" | "?" => asked.host().map(str::to_owned),
        host => Some(host.to_owned()),
    }
}

/// Where a redirection by the node at `asked` leads: `MOVED 3999 127.0.0.1:6381`, and the same with `ASK`.
pub(super) fn redirection(text: &str, asked: &Address) -> Option<(u16, Address)> {
    let mut words = text.split(' ').skip(1);
    let slot = words.next()?.parse().ok().filter(|slot| *slot < SLOTS)?;
    let Address::Tcp(host, port) = Address::announced(words.next()?)? else { return None };
    Some((slot, Address::Tcp(known_host(&host, asked)?, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Address {
        Address::Tcp("a".into(), port)
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
    }

    #[test]
    fn a_redirection_names_a_slot_and_a_node() {
        assert_eq!(redirection("MOVED 3999 b:6381", &at(1)), Some((3_999, Address::Tcp("b".into(), 6_381))));
        assert_eq!(redirection("ASK 1 :6381", &at(1)), Some((1, at(6_381))));
        assert_eq!(redirection("ASK 1 ::1:6381", &at(1)), Some((1, Address::Tcp("::1".into(), 6_381))));
        for text in ["MOVED", "MOVED 1", "MOVED 16384 b:1", "MOVED x b:1", "MOVED 1 b"] {
            assert_eq!(redirection(text, &at(1)), None, "{text}");
        }
    }

    #[test]
    fn the_map_knows_who_serves_what_and_learns() {
        let node = |port| Reply::List(vec![Reply::Bytes("".into()), Reply::Int(port), Reply::Bytes("id".into())]);
        let range =
            |first, last, nodes: Vec<Reply>| Reply::List([vec![Reply::Int(first), Reply::Int(last)], nodes].concat());
        let reply = Reply::List(vec![range(0, 99, vec![node(2), node(3)]), range(100, 200, vec![node(1)])]);
        let mut map = SlotMap::read(&reply, &at(9)).expect("a map");
        assert_eq!(map.shard(99), Some(&Shard { master: at(2), replicas: vec![at(3)] }));
        assert_eq!((map.shard(201), map.masters()), (None, vec![at(1), at(2)]));
        map.learn(99, at(1));
        assert_eq!(map.shard(99).map(|shard| &shard.master), Some(&at(1)));
        let newer = SlotMap::read(&Reply::List(vec![range(0, 99, vec![node(4)])]), &at(9)).expect("a map");
        assert_eq!(map.moves(&map).count(), 0);
        let moves: Vec<_> = map.moves(&newer).collect();
        assert_eq!(moves, [(&at(2), Some(&at(4))), (&at(1), None), (&at(1), Some(&at(4)))]);
        assert_eq!(SlotMap::read(&Reply::List(vec![range(0, 16_384, vec![node(1)])]), &at(9)), None);
        assert_eq!(SlotMap::read(&Reply::Int(1), &at(9)), None);
    }
}
