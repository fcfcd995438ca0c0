//! What holds for every history, every policy of eviction and both profiles. The seed is fixed and printed with what
//! fails; proptest shrinks the history.

use alloc::collections::BTreeMap;
use alloc::vec;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::*;

const ENTRIES: u32 = 8;
const WEIGHT: u64 = 40;
const SEED: u64 = 20_261_121;

/// A value that weighs what it says, and bears the tag of its parity.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stone {
    number: u32,
    weight: u32,
}

impl Value for Stone {
    fn weight(&self) -> u32 {
        self.weight
    }
    fn tags(&self) -> &[Tag] {
        match self.number % 3 {
            0 => &[],
            1 => &[Tag(1)],
            _ => &[Tag(1), Tag(2)],
        }
    }
}

#[derive(Debug, Clone)]
enum Deed {
    Insert { key: u8, weight: u32, ttl: u64, stale: u64 },
    Fresh(u8),
    Find(u8),
    Peek(u8),
    Remove(u8),
    Expire(u8),
    Failed(u8),
    Invalidate(u64, bool),
    InvalidateAll,
    Clear,
    Sweep,
    Pass(u64),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let key = 0..16_u8;
    let insert = (key.clone(), 0..50_u32, 0..20_u64, 0..10_u64);
    let deed = prop_oneof![
        12 => insert.prop_map(|(key, weight, ttl, stale)| Deed::Insert { key, weight, ttl, stale }),
        10 => key.clone().prop_map(Deed::Fresh),
        6 => key.clone().prop_map(Deed::Find),
        2 => key.clone().prop_map(Deed::Peek),
        2 => key.clone().prop_map(Deed::Remove),
        1 => key.clone().prop_map(Deed::Expire),
        1 => key.prop_map(Deed::Failed),
        1 => (1..5_u64, any::<bool>()).prop_map(|(tag, remove)| Deed::Invalidate(tag, remove)),
        1 => Just(Deed::InvalidateAll),
        1 => Just(Deed::Clear),
        1 => Just(Deed::Sweep),
        2 => (0..8_u64).prop_map(Deed::Pass),
    ];
    proptest::collection::vec(deed, 1..200)
}

/// A memory with what must be true of it.
struct World<P: Profile> {
    memory: Memory<u8, Stone, P>,
    now: u64,
    clock: u64,
    /// The newest value put under each key that nothing has forbidden to serve since, and when it was born.
    allowed: BTreeMap<u8, (Stone, u64)>,
    reported: BTreeMap<Reason, u64>,
}

impl Ord for Reason {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (*self as u8).cmp(&(*other as u8))
    }
}

impl PartialOrd for Reason {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<P: Profile> World<P> {
    fn new(policy: MemoryPolicy) -> Self {
        let memory = Memory::new(policy);
        Self { memory, now: 0, clock: 0, allowed: BTreeMap::new(), reported: BTreeMap::new() }
    }

    /// Does it, checks what must hold, and says what was seen.
    fn act(&mut self, step: usize, deed: &Deed) -> String {
        let now = at(self.now);
        let seen = match *deed {
            Deed::Insert { key, weight, ttl, stale } => {
                self.insert(key, Stone { number: step as u32, weight }, ttl, stale)
            }
            Deed::Fresh(key) => self.served(key, self.now, |memory| memory.fresh(&key, now)),
            Deed::Find(key) => self.served(key, self.now, |memory| memory.find(&key, now).map(|seen| seen.entry)),
            Deed::Peek(key) => self.served(key, self.now, |memory| memory.peek(&key, now)),
            Deed::Remove(key) => {
                self.allowed.remove(&key);
                format!("{}", self.memory.remove(&key))
            }
            Deed::Expire(key) => format!("{}", self.memory.expire(&key, now)),
            Deed::Failed(key) => {
                self.memory.refresh_failed(&key, now, |failures| Duration::from_secs(u64::from(failures)));
                format!("{:?}", self.memory.find(&key, now).map(|seen| seen.refresh_after))
            }
            Deed::Invalidate(tag, remove) => {
                self.clock += 1;
                let how = if remove { Invalidation::Remove } else { Invalidation::Expire };
                self.memory.invalidate(Tag(tag), how, self.clock, now);
                self.allowed.retain(|_, (stone, _)| !remove || !stone.tags().contains(&Tag(tag)));
                String::new()
            }
            Deed::InvalidateAll => {
                self.clock += 1;
                self.memory.invalidate_all(Invalidation::Remove, self.clock, now);
                self.allowed.clear();
                String::new()
            }
            Deed::Clear => {
                let held = self.memory.len();
                self.memory.clear();
                let cleared = self.memory.take_removals().filter(|(_, reason)| *reason == Reason::Cleared).count();
                assert_eq!(cleared, held);
                (self.allowed, self.reported) = Default::default();
                String::new()
            }
            Deed::Sweep => {
                self.memory.sweep(3, now);
                String::new()
            }
            Deed::Pass(seconds) => {
                self.now += seconds;
                String::new()
            }
        };
        self.check();
        self.count_reports();
        format!("{seen} {} {} {:?}", self.memory.len(), self.memory.stats().weight, self.reported)
    }

    fn insert(&mut self, key: u8, value: Stone, ttl: u64, stale: u64) -> String {
        // Zero stands for ever.
        let ttl = Some(Duration::from_secs(ttl)).filter(|ttl| !ttl.is_zero());
        let windows = Windows { ttl, stale_if_error: Duration::from_secs(stale), ..Windows::FOREVER };
        let kept = self.memory.insert(key, Entry::new(value, windows), self.clock, at(self.now));
        let too_heavy = self.memory.policy().weight_max > 0 && u64::from(value.weight) > WEIGHT;
        assert_eq!(kept, if too_heavy { Kept::TooHeavy } else { Kept::Yes });
        let present = self.memory.peek(&key, at(self.now)).map(|entry| entry.value);
        assert_eq!(present, Some(value).filter(|_| !too_heavy), "the newest is there");
        self.allowed.insert(key, (value, self.clock));
        format!("{kept:?}")
    }

    /// Whatever is served is the newest put under its key, and nothing has removed or invalidated it.
    fn served(
        &mut self,
        key: u8,
        now: u64,
        look: impl FnOnce(&mut Memory<u8, Stone, P>) -> Option<Entry<Stone>>,
    ) -> String {
        let entry = look(&mut self.memory);
        if let Some(entry) = &entry {
            assert_eq!(self.allowed.get(&key).map(|(stone, _)| *stone), Some(entry.value), "at {now}");
            assert!(entry.zone() != Zone::Gone);
        }
        format!("{:?}", entry.map(|entry| (entry.value, entry.age, entry.windows)))
    }

    fn check(&self) {
        let stats = self.memory.stats();
        assert!(stats.entries <= u64::from(ENTRIES), "never more entries than fit");
        assert!(stats.weight_max == 0 || stats.weight <= WEIGHT, "never heavier than allowed");
        let left = stats.evictions + stats.expirations + stats.replacements + stats.removals + stats.invalidated;
        assert_eq!(stats.insertions, stats.entries + left, "who came is there or has left for a reason");
        let rows = self.memory.rows.iter();
        let weight: u64 = rows.map(|(_, row)| u64::from(row.value.weight)).sum();
        assert_eq!(stats.weight, weight);
        let paused = self.memory.rows.iter().filter(|(_, row)| row.kind.is_paused()).count();
        assert_eq!(self.memory.pauses.len(), paused, "no pause outlives its row");
    }

    /// Every removal is reported once.
    fn count_reports(&mut self) {
        for (_, reason) in self.memory.take_removals() {
            *self.reported.entry(reason).or_default() += 1;
        }
        let (stats, of) = (self.memory.stats(), |reason| self.reported.get(&reason).copied().unwrap_or(0));
        let counted = [stats.evictions, stats.expirations, stats.replacements, stats.removals, stats.invalidated];
        let reasons = [Reason::Evicted, Reason::Expired, Reason::Replaced, Reason::Removed, Reason::Invalidated];
        assert_eq!(reasons.map(of), counted);
        assert_eq!(stats.removals_lost, 0);
    }
}

fn for_every_history(test: impl Fn(Vec<Deed>)) {
    let config = Config { cases: 512, rng_seed: RngSeed::Fixed(SEED), failure_persistence: None, ..Config::default() };
    std::println!("seed {SEED}");
    let ran = TestRunner::new(config).run(&deeds(), |deeds| {
        test(deeds);
        Ok(())
    });
    ran.unwrap_or_else(|failure| panic!("{failure}"));
}

fn policies() -> impl Iterator<Item = MemoryPolicy> {
    let base = MemoryPolicy { entries_max: ENTRIES, removals_max: 16, tags_max: 2, ..MemoryPolicy::default() };
    Eviction::ALL.iter().flat_map(move |&eviction| {
        let idle = Some(Duration::from_secs(9));
        [
            MemoryPolicy { eviction, ..base },
            MemoryPolicy { eviction, weight_max: WEIGHT, ..base },
            MemoryPolicy { eviction, weight_max: WEIGHT, time_to_idle: idle, refresh_ahead: 50, ..base },
        ]
    })
}

/// Both profiles act the same history out, side by side.
#[test]
fn every_history_keeps_the_promises_and_is_the_same_with_an_allocator_and_without() {
    for_every_history(|deeds| {
        for policy in policies() {
            let (mut growing, mut fixed) = (World::<Usual>::new(policy), World::<Fixed<8, 2, 2, 2>>::new(policy));
            for (step, deed) in deeds.iter().enumerate() {
                let (one, other) = (growing.act(step, deed), fixed.act(step, deed));
                assert_eq!(one, other, "step {step}, {deed:?}, {policy:?}");
            }
        }
    });
}
