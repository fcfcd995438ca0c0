//! The adaptive limit before a simulated origin: so many loads at once, the rest wait there in order.
//! The figures are printed by `cargo test -p tideover-core simulation -- --nocapture`.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use super::{Limit, LimitPolicy, Saved, Slot};
use crate::breaker::Verdict;
use crate::entropy::Entropy;
use crate::time::Instant;

const MILLI: Duration = Duration::from_millis(1);

/// How long the origin works at a load, waiting aside.
#[derive(Clone, Copy)]
enum Service {
    Constant,
    Exponential,
}

struct World {
    limit: Limit,
    now: Instant,
    dice: Entropy,
    service: Service,
    base: Duration,
    /// When each of the origin's servers is free; their number is its capacity.
    servers: Vec<Instant>,
    /// Callers that would have a load under way if they were let.
    demand: u32,
    deadline: Duration,
    /// Percentage of loads that fail, out of no fault of the limit.
    failing: u64,
    /// Ends by time; the number finds the slot.
    under_way: BinaryHeap<Reverse<(Instant, u64)>>,
    slots: Vec<Option<(Slot, Instant, Verdict)>>,
    answers: u64,
}

impl World {
    fn new(capacity: usize, service: Service, seed: u64) -> Self {
        let policy = LimitPolicy { adaptive: true, ..LimitPolicy::default() };
        Self {
            limit: Limit::new(policy),
            now: Instant::ZERO,
            dice: Entropy::from_seed(seed),
            service,
            base: MILLI * 100,
            servers: alloc::vec![Instant::ZERO; capacity],
            demand: 1_000,
            deadline: MILLI * 10_000,
            failing: 0,
            under_way: BinaryHeap::new(),
            slots: Vec::new(),
            answers: 0,
        }
    }

    fn set_capacity(&mut self, capacity: usize) {
        self.servers.resize(capacity, self.now);
    }

    fn send(&mut self, slot: Slot) {
        let took = match self.service {
            Service::Constant => self.base,
            Service::Exponential => self.dice.exponential(self.base),
        };
        let answer_at = match self.servers.iter_mut().min() {
            Some(server) => {
                *server = (*server).max(self.now) + took;
                *server
            }
            None => Instant::NEVER,
        };
        let times_out_at = self.now + self.deadline;
        let unlucky = self.dice.bits() % 100 < self.failing;
        let failed = unlucky || answer_at > times_out_at;
        let verdict = if failed { Verdict::Failure } else { Verdict::Success };
        self.under_way.push(Reverse((answer_at.min(times_out_at), self.slots.len() as u64)));
        self.slots.push(Some((slot, self.now, verdict)));
    }

    /// Until so many more loads are over.
    fn run(&mut self, answers: u64) {
        for _ in 0..answers {
            while self.limit.in_flight() < self.demand
                && let Ok(slot) = self.limit.try_acquire(self.now)
            {
                self.send(slot);
            }
            let Some(Reverse((at, number))) = self.under_way.pop() else { return };
            self.now = at;
            let Some((slot, since, verdict)) = self.slots[number as usize].take() else { return };
            self.limit.release(slot, at - since, verdict, at);
            self.answers += 1;
        }
    }

    /// The limit that probes halve.
    fn learnt(&self) -> u32 {
        (self.limit.save().limit / 256) as u32
    }

    /// The mean limit over so many answers, and the throughput as a share of what the origin can do.
    fn watch(&mut self, answers: u64) -> (f64, f64) {
        let (before, mut sum) = (self.now, 0);
        for _ in 0..answers {
            self.run(1);
            sum += u64::from(self.learnt());
        }
        let possible = self.servers.len() as f64 / self.base.as_secs_f64();
        let rate = answers as f64 / (self.now - before).as_secs_f64();
        (sum as f64 / answers as f64, rate / possible)
    }

    /// How many answers it takes until the limit is inside the range.
    fn until(&mut self, range: core::ops::RangeInclusive<u32>) -> u64 {
        let answers = self.answers;
        while !range.contains(&self.learnt()) {
            self.run(1);
            assert!(self.answers - answers < 20_000, "the limit stays at {}", self.learnt());
        }
        self.answers - answers
    }
}

/// C + √C is where the formula comes to rest.
fn rest(capacity: usize) -> f64 {
    capacity as f64 + (capacity as f64).sqrt()
}

const SERVICES: [Service; 2] = [Service::Constant, Service::Exponential];

#[test]
fn it_comes_to_rest_a_few_above_what_the_origin_can_do() {
    for capacity in [1, 2, 4, 10, 30, 100, 300] {
        let mut world = World::new(capacity, Service::Constant, 0);
        world.run(10_000);
        let (limit, throughput) = world.watch(20_000);
        std::println!("capacity {capacity}, constant: limit {limit:.1}, throughput {throughput:.3}");
        assert!((limit - rest(capacity)).abs() < 1.0, "capacity {capacity}: {limit}");
        assert!(throughput > 0.97, "capacity {capacity}: {throughput}");
    }
}

#[test]
fn times_that_differ_by_themselves_do_not_look_like_overload() {
    for capacity in [1, 2, 4, 10, 30, 100, 300] {
        let (mut limits, mut throughputs) = (0.0, 0.0);
        for seed in 0..8 {
            let mut world = World::new(capacity, Service::Exponential, seed);
            world.run(40_000);
            let (limit, throughput) = world.watch(40_000);
            assert!(limit > 0.8 * rest(capacity) && limit < 1.4 * rest(capacity), "{capacity}, seed {seed}: {limit}");
            (limits, throughputs) = (limits + limit / 8.0, throughputs + throughput / 8.0);
        }
        std::println!("capacity {capacity}, exponential: limit {limits:.1}, throughput {throughputs:.3}");
        assert!(throughputs > 0.95, "capacity {capacity}: {throughputs}");
    }
}

#[test]
fn it_follows_what_the_origin_can_do_up_and_down() {
    for (service, seed) in SERVICES.into_iter().flat_map(|service| (0..8).map(move |seed| (service, seed))) {
        let mut world = World::new(10, service, seed);
        let mut took = alloc::vec![world.until(10..=20)];
        for capacity in [40, 10, 100, 20, 1, 10] {
            world.run(5_000);
            world.set_capacity(capacity);
            took.push(world.until(capacity as u32..=rest(capacity) as u32 + 4));
        }
        std::println!("10, 40, 10, 100, 20, 1, 10 take {took:?} answers");
        assert!(took.iter().all(|answers| *answers <= 2_000), "seed {seed}: {took:?}");
    }
}

#[test]
fn a_start_far_off_finds_home() {
    for (service, seed) in SERVICES.into_iter().flat_map(|service| (0..8).map(move |seed| (service, seed))) {
        for (start, most) in [(1, 250), (400, 4_000)] {
            let mut world = World::new(10, service, seed);
            world.limit = Limit::restore(world.limit.policy, &Saved { limit: start * 256, base: Duration::ZERO });
            let took = world.until(10..=16);
            std::println!("from {start} to 10: {took} answers");
            assert!(took <= most, "seed {seed}, from {start}: {took}");
        }
    }
}

#[test]
fn an_origin_that_becomes_slower_but_can_do_as_much_keeps_its_limit() {
    for (service, seed) in SERVICES.into_iter().flat_map(|service| (0..8).map(move |seed| (service, seed))) {
        let mut world = World::new(100, service, seed);
        world.run(20_000);
        world.base = MILLI * 300;
        world.run(4_000);
        let (limit, throughput) = world.watch(10_000);
        std::println!("three times slower: limit {limit:.1}, throughput {throughput:.3}");
        assert!(limit > 80.0 && throughput > 0.85, "seed {seed}: limit {limit}, throughput {throughput}");
        world.base = MILLI * 100;
        world.run(20_000);
        let (limit, _) = world.watch(10_000);
        assert!(limit < 160.0, "seed {seed}: limit {limit} when it is quick again");
    }
}

#[test]
fn it_falls_in_an_outage_and_is_back_within_a_few_thousand_answers() {
    for (service, seed) in SERVICES.into_iter().flat_map(|service| (0..8).map(move |seed| (service, seed))) {
        let mut world = World::new(100, service, seed);
        world.run(20_000);
        world.failing = 100;
        let fall = world.until(1..=1);
        world.run(500);
        assert_eq!(world.learnt(), 1);
        world.failing = 0;
        let back = world.until(100..=130);
        std::println!("outage: to 1 in {fall} answers, back at 100 in {back}");
        assert!(fall <= 4_000 && back <= 4_000, "seed {seed}: {fall}, {back}");
    }
}

#[test]
fn an_origin_that_hangs_is_let_alone_and_found_again() {
    let mut world = World::new(20, Service::Constant, 0);
    world.run(5_000);
    world.set_capacity(0);
    world.until(1..=1);
    world.set_capacity(20);
    assert!(world.until(20..=26) <= 500);
}

#[test]
fn bad_luck_is_not_overload() {
    for seed in 0..8 {
        let mut world = World::new(100, Service::Exponential, seed);
        world.failing = 10;
        world.run(20_000);
        let (limit, _) = world.watch(20_000);
        assert!(limit > 90.0, "seed {seed}: limit {limit} with a tenth failing");
    }
}

#[test]
fn a_limit_that_is_not_used_does_not_grow() {
    for demand in [1, 5, 12, 19] {
        let mut world = World::new(100, Service::Constant, 0);
        world.demand = demand;
        world.run(200);
        let probes = world.limit.stats().probes;
        world.run(20_000);
        assert_eq!(world.learnt(), 20, "with {demand} in flight");
        assert_eq!(world.limit.save().base, world.base);
        assert!(demand > 10 || world.limit.stats().probes == probes, "quiet rounds need no probes");
        world.demand = 50;
        world.run(20_000);
        assert!((50..60).contains(&world.learnt()), "{} where 50 are wanted", world.learnt());
    }
}

#[test]
fn the_bounds_hold_whatever_is_measured() {
    for (capacity, min, max, expected) in [(1, 15, 50, 15..=15), (300, 15, 50, 50..=50), (10, 0, 0, 13..=15)] {
        let mut world = World::new(capacity, Service::Constant, 0);
        world.limit = Limit::new(LimitPolicy { min, max, initial: min, ..world.limit.policy });
        world.run(20_000);
        assert!(expected.contains(&world.learnt()), "{} between {min} and {max}", world.learnt());
    }
}

#[test]
fn what_was_learnt_survives_a_restart() {
    let mut world = World::new(100, Service::Constant, 0);
    world.run(20_000);
    let (learnt, policy) = (world.learnt(), world.limit.policy);
    let bytes = postcard::to_allocvec(&world.limit.save()).expect("plain data");
    let mut restarted = World::new(100, Service::Constant, 0);
    restarted.limit = Limit::restore(policy, &postcard::from_bytes(&bytes).expect("what was written"));
    assert_eq!(restarted.limit.limit(), learnt, "no probe is needed");
    assert!(restarted.watch(5_000).1 > 0.97);
}
