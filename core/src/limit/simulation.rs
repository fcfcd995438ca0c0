//! The adaptive limit before a simulated origin: so many loads at once, the rest wait there in order.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use super::{Limit, LimitPolicy, Saved, Slot};
use crate::breaker::Verdict;
use crate::entropy::Entropy;
use crate::time::{Instant, nanos};

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

    /// Lowest, mean and highest limit over so many answers.
    fn watch(&mut self, answers: u64) -> (u32, f64, u32) {
        let (mut low, mut sum, mut high) = (u32::MAX, 0, 0);
        for _ in 0..answers {
            self.run(1);
            let limit = (self.limit.save().limit / 256) as u32;
            (low, sum, high) = (low.min(limit), sum + u64::from(limit), high.max(limit));
        }
        (low, sum as f64 / answers as f64, high)
    }

    /// How many answers it takes until the limit is inside the range, and how long.
    fn until(&mut self, range: core::ops::RangeInclusive<u32>) -> (u64, Duration) {
        let (answers, now) = (self.answers, self.now);
        while !range.contains(&((self.limit.save().limit / 256) as u32)) {
            self.run(1);
            assert!(self.answers - answers < 100_000, "the limit stays at {}", self.limit.limit());
        }
        (self.answers - answers, self.now - now)
    }
}

#[test]
fn figures() {
    for service in [Service::Constant, Service::Exponential] {
        for capacity in [1, 4, 10, 30, 100, 300] {
            for seed in 0..(if matches!(service, Service::Constant) { 1 } else { 6 }) {
                let mut world = World::new(capacity, service, seed);
                world.run(10_000);
                let before = world.now;
                let (low, mean, high) = world.watch(20_000);
                let rate = 20_000.0 / (world.now - before).as_secs_f64();
                let possible = capacity as f64 / world.base.as_secs_f64();
                std::println!(
                    "C {capacity:4}: limit {low:4} {mean:7.1} {high:4}  ideal {:.1} throughput {:.3}  base {} probes {}",
                    capacity as f64 + (capacity as f64).sqrt(),
                    rate / possible,
                    world.limit.save().base.as_millis(),
                    world.limit.stats().probes
                );
                let _ = nanos(MILLI);
                let _ = world.limit.save() == Saved { limit: 0, base: MILLI };
            }
        }
    }
}
