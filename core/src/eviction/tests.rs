//! Each policy against a naive model of its paper that keeps plain vectors, over long random walks on both storages.

use alloc::vec::Vec;

use super::*;
use crate::entropy::Entropy;
use crate::storage::{Growing, Room};

const CAPACITY: usize = 16;

/// A policy as its paper tells it: no numbers of rows, no links, keys alone.
trait Model {
    fn inserted(&mut self, key: u64);
    fn hit(&mut self, key: u64);
    fn removed(&mut self, key: u64);
    fn victim(&mut self) -> u64;
}

#[derive(Default)]
struct NaiveLru(Vec<u64>);

impl Model for NaiveLru {
    fn inserted(&mut self, key: u64) {
        self.0.push(key);
    }
    fn hit(&mut self, key: u64) {
        self.removed(key);
        self.0.push(key);
    }
    fn removed(&mut self, key: u64) {
        self.0.retain(|other| *other != key);
    }
    fn victim(&mut self) -> u64 {
        self.0.remove(0)
    }
}

/// The oldest first; the hand is a position.
#[derive(Default)]
struct NaiveSieve {
    queue: Vec<(u64, bool)>,
    hand: usize,
}

impl Model for NaiveSieve {
    fn inserted(&mut self, key: u64) {
        // A hand beyond the newest starts anew at the oldest.
        if self.hand == self.queue.len() {
            self.hand = 0;
        }
        self.queue.push((key, false));
    }
    fn hit(&mut self, key: u64) {
        self.queue.iter_mut().filter(|(other, _)| *other == key).for_each(|(_, visited)| *visited = true);
    }
    fn removed(&mut self, key: u64) {
        let at = self.queue.iter().position(|(other, _)| *other == key).expect("it is there");
        self.queue.remove(at);
        self.hand -= usize::from(at < self.hand);
    }
    fn victim(&mut self) -> u64 {
        loop {
            self.hand %= self.queue.len();
            match &mut self.queue[self.hand] {
                (_, visited @ true) => {
                    *visited = false;
                    self.hand += 1;
                }
                (key, false) => {
                    let key = *key;
                    self.queue.remove(self.hand);
                    return key;
                }
            }
        }
    }
}

/// Keys with their hits, the oldest first; of the ghost, also places whose key came back count.
#[derive(Default)]
struct NaiveS3Fifo {
    small: Vec<(u64, u8)>,
    main: Vec<(u64, u8)>,
    ghost: Vec<Option<u64>>,
}

impl Model for NaiveS3Fifo {
    fn inserted(&mut self, key: u64) {
        match self.ghost.iter_mut().find(|ghost| **ghost == Some(key)) {
            Some(ghost) => {
                *ghost = None;
                self.main.push((key, 0));
            }
            None => self.small.push((key, 0)),
        }
    }
    fn hit(&mut self, key: u64) {
        let all = self.small.iter_mut().chain(&mut self.main);
        all.filter(|(other, _)| *other == key).for_each(|(_, hits)| *hits = (*hits + 1).min(3));
    }
    fn removed(&mut self, key: u64) {
        self.small.retain(|(other, _)| *other != key);
        self.main.retain(|(other, _)| *other != key);
    }
    fn victim(&mut self) -> u64 {
        let all = self.small.len() + self.main.len();
        if self.main.len() <= all - all / 10 {
            while !self.small.is_empty() {
                match self.small.remove(0) {
                    (key, 2..) => self.main.push((key, 0)),
                    (key, _) => {
                        self.ghost.push(Some(key));
                        if self.ghost.len() > CAPACITY - CAPACITY / 10 {
                            self.ghost.remove(0);
                        }
                        return key;
                    }
                }
            }
        }
        loop {
            match self.main.remove(0) {
                (key, 0) => return key,
                (key, hits) => self.main.push((key, hits - 1)),
            }
        }
    }
}

/// Keys under small numbers; hot ones are asked for more often. Returns the keys given up.
fn walk<S: Storage>(eviction: Eviction, mut model: Option<&mut dyn Model>) -> Vec<u64> {
    let mut order: Order<S> = Order::new(eviction, CAPACITY);
    let mut entropy = Entropy::from_seed(17);
    let mut rows: [Option<u64>; CAPACITY] = [None; CAPACITY];
    let mut given_up = Vec::new();
    let hash = |key: u64| key.wrapping_add(1).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    for _ in 0..20_000 {
        let dice = entropy.bits();
        let key = (dice >> 8) % (1 + (dice >> 32) % 64);
        let held = rows.iter().position(|row| *row == Some(key));
        match (held, dice % 16) {
            (Some(row), 0) => {
                rows[row] = None;
                order.removed(row as u32);
                model.iter_mut().for_each(|model| model.removed(key));
            }
            (Some(row), _) => {
                order.hit(row as u32, hash(key));
                model.iter_mut().for_each(|model| model.hit(key));
            }
            (None, _) => {
                if rows.iter().all(Option::is_some) {
                    let hash_of = |row: u32| rows[row as usize].map_or(0, hash);
                    let (row, hashed) = order.victim(hash_of).expect("there are rows");
                    let row = row as usize;
                    let victim = rows[row].take().expect("a victim was there");
                    assert_eq!(hashed, hash(victim));
                    model.iter_mut().for_each(|model| assert_eq!(model.victim(), victim));
                    given_up.push(victim);
                }
                let free = rows.iter().position(Option::is_none).expect("there is room");
                rows[free] = Some(key);
                order.inserted(free as u32, hash(key));
                model.iter_mut().for_each(|model| model.inserted(key));
            }
        }
    }
    assert!(given_up.len() > 1_000, "{} is a short walk", given_up.len());
    given_up
}

#[test]
fn lru_gives_up_whom_the_model_gives_up() {
    walk::<Growing>(Eviction::Lru, Some(&mut NaiveLru::default()));
}

#[test]
fn sieve_gives_up_whom_the_model_gives_up() {
    walk::<Growing>(Eviction::Sieve, Some(&mut NaiveSieve::default()));
}

#[test]
fn s3_fifo_gives_up_whom_the_model_gives_up() {
    walk::<Growing>(Eviction::S3Fifo, Some(&mut NaiveS3Fifo::default()));
}

#[test]
fn every_policy_decides_alike_with_an_allocator_and_without() {
    for &eviction in Eviction::ALL {
        assert_eq!(walk::<Growing>(eviction, None), walk::<Room<CAPACITY>>(eviction, None), "{}", eviction.name());
    }
}

#[test]
fn every_policy_gives_up_every_row_in_the_end_and_then_none() {
    for &eviction in Eviction::ALL {
        let mut order: Order<Growing> = Order::new(eviction, CAPACITY);
        for row in 0..CAPACITY as u32 {
            order.inserted(row, u64::from(row));
            (0..row).for_each(|_| order.hit(row, u64::from(row)));
        }
        let mut gone: Vec<u32> = core::iter::from_fn(|| order.victim(u64::from)).map(|(row, _)| row).collect();
        gone.sort_unstable();
        assert!(gone.into_iter().eq(0..CAPACITY as u32), "{}", eviction.name());
        order.inserted(3, 3);
        order.clear();
        assert_eq!(order.victim(u64::from), None, "{}", eviction.name());
    }
}

#[test]
fn a_loop_larger_than_the_cache_is_seen_through_by_w_tiny_lfu() {
    let hits = |eviction| {
        let mut order: Order<Growing> = Order::new(eviction, 100);
        let mut rows: Vec<u64> = Vec::new();
        let mut hits = 0;
        for key in (0..120_u64).cycle().take(120 * 200) {
            let hash = key.wrapping_add(1).wrapping_mul(0xD6E8_FEB8_6659_FD93);
            if let Some(row) = rows.iter().position(|row| *row == key) {
                order.hit(row as u32, hash);
                hits += 1;
                continue;
            }
            let hash_of = |row: u32| rows[row as usize].wrapping_add(1).wrapping_mul(0xD6E8_FEB8_6659_FD93);
            let row = if rows.len() < 100 { rows.len() } else { order.victim(hash_of).expect("a row").0 as usize };
            if row == rows.len() {
                rows.push(key);
            }
            rows[row] = key;
            order.inserted(row as u32, hash);
        }
        hits * 100 / (120 * 200)
    };
    assert_eq!(hits(Eviction::Lru), 0);
    assert!(hits(Eviction::WTinyLfu) > 50, "{} %", hits(Eviction::WTinyLfu));
}

/// Rows are reused; who stands in one is told by its hash.
#[test]
fn keys_asked_for_once_push_nobody_out_of_w_tiny_lfus_main_part() {
    let mut order: Order<Growing> = Order::new(Eviction::WTinyLfu, 100);
    let mut entropy = Entropy::from_seed(9);
    let mut rows: Vec<u64> = (0..100).map(|_| entropy.bits()).collect();
    let first = rows.clone();
    (0..100).for_each(|row| order.inserted(row as u32, rows[row]));
    for _ in 0..100 {
        let (row, _) = order.victim(|row| rows[row as usize]).expect("it is full");
        rows[row as usize] = entropy.bits();
        order.inserted(row, rows[row as usize]);
    }
    let stayed = first.iter().zip(&rows).filter(|(one, other)| one == other).count();
    assert!(stayed >= 75, "{stayed}: of equals, who is in stays in, but for a few that the sketch mistakes");
}

#[test]
fn names_are_read_back() {
    for &eviction in Eviction::ALL {
        assert_eq!(Eviction::named(eviction.name()), Some(eviction));
    }
    assert_eq!(Eviction::named("random"), None);
}
