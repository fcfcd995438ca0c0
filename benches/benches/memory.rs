//! `cargo bench -p tideover-benches --bench memory`: what a hit and an insertion cost, beside peers in one process.
//!
//! Candidates take turns in rounds; shown is the median over the rounds, with the ratio to the first candidate of the
//! row, since on a shared machine only ratios say anything. One thread. `Memory` has no lock of its own: "locked" is one
//! behind a `std` mutex, as a driver with threads has it for each shard. It is given the time; "reads the clock" asks
//! the operating system for it at each call. Keys of 24 bytes or `u64`, values of 100 bytes shared by reference count.

use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cached::{Cached, LruCache, LruTtlCache};
use tideover_core::memory::{Memory, MemoryPolicy};
use tideover_core::{Entry, Eviction, Instant, Value, Windows};

const ROUNDS: usize = 9;
const HOT: u64 = 1_000;
const COLD: u64 = 100_000;
const TTL: Duration = Duration::from_secs(300);

#[derive(Clone)]
struct Shared(Arc<[u8; 100]>);

impl Value for Shared {
    fn weight(&self) -> u32 {
        self.0.len() as u32
    }
}

type Candidate<'a> = (&'a str, Box<dyn FnMut(u64) + 'a>);

fn main() {
    // `cargo test --benches` runs this program too: once through is enough to see that it works.
    let calls = if std::env::args().any(|argument| argument == "--bench") { 400_000 } else { 1_000 };
    println!("| workload | candidate | ns | ratio |\n|---|---|---|---|");
    let numbers: Vec<u64> = (0..HOT).collect();
    hot("hot get, u64", calls, &numbers);
    let texts: Vec<String> = (0..HOT).map(text).collect();
    hot("hot get, string", calls, &texts);
    with_ttl(calls, &texts);
    let many: Vec<String> = (0..COLD).map(text).collect();
    hot("get out of cache, string", calls, &many);
    insert_and_evict("insert and evict, u64", calls, |number| number);
    insert_and_evict("insert and evict, string", calls, text);
}

fn text(number: u64) -> String {
    format!("user:{number:019}")
}

fn value() -> Shared {
    Shared(Arc::new([7; 100]))
}

fn entry(value: Shared) -> Entry<Shared> {
    Entry::new(value, Windows { ttl: Some(TTL), ..Windows::FOREVER })
}

fn memory<K: Clone + std::hash::Hash + Eq>(entries: usize, eviction: Eviction, keys: &[K]) -> Memory<K, Shared> {
    let mut memory = Memory::new(MemoryPolicy { entries_max: entries as u32, eviction, ..MemoryPolicy::default() });
    for key in keys {
        memory.insert(key.clone(), entry(value()), 0, Instant::ZERO);
    }
    memory
}

/// The same walk for everybody, in an order that no prefetcher guesses.
fn shuffle<T>(items: &mut [T]) {
    let mut entropy = tideover_core::entropy::Entropy::from_seed(7);
    for at in (1..items.len()).rev() {
        items.swap(at, (entropy.bits() % (at as u64 + 1)) as usize);
    }
}

/// Calls `get` for keys in turn.
fn turns<'a, K, R>(keys: &'a [K], mut get: impl FnMut(&K) -> R + 'a) -> Box<dyn FnMut(u64) + 'a> {
    let mut at = 0;
    Box::new(move |calls| {
        for _ in 0..calls {
            at = if at + 1 == keys.len() { 0 } else { at + 1 };
            drop(black_box(get(&keys[at])));
        }
    })
}

/// Everybody holds all of `keys`, inserted in their order, and is asked for them in another.
fn hot<K: Clone + std::hash::Hash + Eq + Send + Sync + 'static>(workload: &str, calls: u64, keys: &[K]) {
    let size = 2 * keys.len();
    let quick = quick_cache::sync::Cache::new(size);
    let quick_unsync = std::cell::RefCell::new(quick_cache::unsync::Cache::new(size));
    let moka = moka::sync::Cache::new(size as u64);
    let mut cached = LruCache::builder().max_size(size).build().expect("a size");
    for key in keys {
        quick.insert(key.clone(), value());
        quick_unsync.borrow_mut().insert(key.clone(), value());
        moka.insert(key.clone(), value());
        cached.cache_set(key.clone(), value());
    }
    let mut lru = memory(size, Eviction::Lru, keys);
    let mut s3 = memory(size, Eviction::S3Fifo, keys);
    let mut sieve = memory(size, Eviction::Sieve, keys);
    let mut tiny = memory(size, Eviction::WTinyLfu, keys);
    let locked = Mutex::new(memory(size, Eviction::Lru, keys));
    let mut walk = keys.to_vec();
    shuffle(&mut walk);
    let keys = &walk;
    compare(
        workload,
        calls,
        vec![
            ("quick_cache sync", turns(keys, |key| quick.get(key))),
            ("quick_cache unsync", turns(keys, |key| quick_unsync.borrow().get(key).cloned())),
            ("cached", turns(keys, |key| cached.cache_get(key).cloned())),
            ("moka", turns(keys, |key| moka.get(key))),
            ("tideover lru, TTL on", turns(keys, |key| lru.fresh(key, Instant::ZERO).map(|entry| entry.value))),
            ("tideover s3-fifo, TTL on", turns(keys, |key| s3.fresh(key, Instant::ZERO).map(|entry| entry.value))),
            ("tideover sieve, TTL on", turns(keys, |key| sieve.fresh(key, Instant::ZERO).map(|entry| entry.value))),
            ("tideover w-tinylfu, TTL on", turns(keys, |key| tiny.fresh(key, Instant::ZERO).map(|entry| entry.value))),
            (
                "tideover lru, TTL on, locked",
                turns(keys, |key| locked.lock().ok()?.fresh(key, Instant::ZERO).map(|entry| entry.value)),
            ),
        ],
    );
}

fn with_ttl(calls: u64, keys: &[String]) {
    let size = 2 * keys.len();
    let moka = moka::sync::Cache::builder().max_capacity(size as u64).time_to_live(TTL).build();
    let mut cached = LruTtlCache::builder().max_size(size).ttl(TTL).build().expect("a size");
    for key in keys {
        moka.insert(key.clone(), value());
        cached.cache_set(key.clone(), value());
    }
    let mut given = memory(size, Eviction::Lru, keys);
    let mut reads = memory(size, Eviction::Lru, keys);
    let mut forever = memory(size, Eviction::Lru, &[]);
    for key in keys {
        forever.insert(key.clone(), Entry::new(value(), Windows::FOREVER), 0, Instant::ZERO);
    }
    let start = std::time::Instant::now();
    let clock = || Instant::ZERO + start.elapsed();
    compare(
        "hot get, string, TTL on",
        calls,
        vec![
            ("cached", turns(keys, |key| cached.cache_get(key).cloned())),
            ("moka", turns(keys, |key| moka.get(key))),
            ("tideover, no TTL", turns(keys, |key| forever.fresh(key, Instant::ZERO).map(|entry| entry.value))),
            ("tideover", turns(keys, |key| given.fresh(key, Instant::ZERO).map(|entry| entry.value))),
            ("tideover, reads the clock", turns(keys, |key| reads.fresh(key, clock()).map(|entry| entry.value))),
        ],
    );
}

fn insert_and_evict<K: Clone + std::hash::Hash + Eq + Send + Sync + 'static>(
    workload: &str,
    calls: u64,
    key: impl Fn(u64) -> K + Copy,
) {
    let size = HOT as usize;
    let shared = value();
    let quick = quick_cache::sync::Cache::new(size);
    let mut quick_unsync = quick_cache::unsync::Cache::new(size);
    let moka = moka::sync::Cache::new(size as u64);
    let mut cached = LruCache::builder().max_size(size).build().expect("a size");
    let fresh = |mut insert: Box<dyn FnMut(K, Shared)>| -> Box<dyn FnMut(u64)> {
        let (mut next, shared) = (0, shared.clone());
        Box::new(move |calls| {
            for _ in 0..calls {
                next += 1;
                insert(key(next), shared.clone());
            }
        })
    };
    let ours = |eviction| {
        let mut memory = memory(size, eviction, &[]);
        fresh(Box::new(move |key, value| _ = black_box(memory.insert(key, entry(value), 0, Instant::ZERO))))
    };
    compare(
        workload,
        calls,
        vec![
            ("quick_cache sync", fresh(Box::new(move |key, value| quick.insert(key, value)))),
            ("quick_cache unsync", fresh(Box::new(move |key, value| quick_unsync.insert(key, value)))),
            ("cached", fresh(Box::new(move |key, value| _ = cached.cache_set(key, value)))),
            ("moka", fresh(Box::new(move |key, value| moka.insert(key, value)))),
            ("making the key", fresh(Box::new(|key, value| drop(black_box((key, value)))))),
            ("tideover lru, TTL on", ours(Eviction::Lru)),
            ("tideover s3-fifo, TTL on", ours(Eviction::S3Fifo)),
            ("tideover sieve, TTL on", ours(Eviction::Sieve)),
            ("tideover w-tinylfu, TTL on", ours(Eviction::WTinyLfu)),
        ],
    );
}

fn compare(workload: &str, calls: u64, mut candidates: Vec<Candidate<'_>>) {
    let mut took = vec![Vec::new(); candidates.len()];
    for round in 0..=ROUNDS {
        for turn in 0..candidates.len() {
            let at = (round + turn) % candidates.len();
            let start = std::time::Instant::now();
            candidates[at].1(calls);
            let nanos = start.elapsed().as_nanos() as f64 / calls as f64;
            // The first round warms up.
            if round > 0 {
                took[at].push(nanos);
            }
        }
    }
    let medians: Vec<f64> = took.iter_mut().map(|rounds| median(rounds)).collect();
    for ((name, _), nanos) in candidates.iter().zip(&medians) {
        println!("| {workload} | {name} | {nanos:.1} | {:.2} |", nanos / medians[0]);
    }
}

fn median(rounds: &mut [f64]) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}
