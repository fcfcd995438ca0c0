//! `cargo run --release -p tideover-benches --example bytes_per_entry`: heap bytes of each entry, counted at the allocator,
//! for 100 000 entries with keys of 24 bytes and values of 100, TTL included.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cached::{Cached, LruCache, LruTtlCache};
use tideover_core::memory::{Memory, MemoryPolicy};
use tideover_core::{Entry, Eviction, Instant, Value, Windows};

const ENTRIES: usize = 100_000;
const TTL: Duration = Duration::from_secs(300);

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is the system allocator's own, with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Clone)]
struct Shared(Arc<[u8; 100]>);

impl Value for Shared {
    fn weight(&self) -> u32 {
        self.0.len() as u32
    }
}

fn main() {
    println!("| cache | key | bytes per entry | with churn |\n|---|---|---|---|");
    with_key("String", |number| format!("user:{number:019}"));
    with_key("Box<str>", |number| format!("user:{number:019}").into_boxed_str());
    with_key("Arc<str>", |number| Arc::<str>::from(format!("user:{number:019}")));
    with_key("[u8; 24]", |number| {
        let mut key = [b'0'; 24];
        key[16..].copy_from_slice(&(number as u64).to_be_bytes());
        key
    });
}

fn with_key<K: Clone + Hash + Eq + Send + Sync + 'static>(name: &str, key: fn(usize) -> K) {
    for &eviction in Eviction::ALL {
        let policy = MemoryPolicy { entries_max: ENTRIES as u32, eviction, ..MemoryPolicy::default() };
        let windows = Windows { ttl: Some(TTL), ..Windows::FOREVER };
        measure(
            &format!("tideover {}, TTL", eviction.name()),
            name,
            key,
            || Memory::new(policy),
            |memory: &mut Memory<K, Shared>, key, value| {
                memory.insert(key, Entry::new(value, windows), 0, Instant::ZERO);
            },
        );
    }
    let quick = || quick_cache::unsync::Cache::new(ENTRIES);
    measure("quick_cache, no TTL", name, key, quick, quick_cache::unsync::Cache::insert);
    let cached = || LruCache::builder().max_size(ENTRIES).build().expect("a size");
    measure("cached, no TTL", name, key, cached, |cache, key, value| _ = cache.cache_set(key, value));
    let cached = || LruTtlCache::builder().max_size(ENTRIES).ttl(TTL).build().expect("a size");
    measure("cached, TTL", name, key, cached, |cache, key, value| _ = cache.cache_set(key, value));
    let map = std::collections::HashMap::new;
    measure("a plain map", name, key, map, |map, key, value| _ = map.insert(key, value));
}

/// Bytes with just as many entries as fit, and after twice as many more have come and gone.
fn measure<C, K>(
    cache: &str,
    name: &str,
    key: fn(usize) -> K,
    make: impl FnOnce() -> C,
    insert: impl Fn(&mut C, K, Shared),
) {
    let before = BYTES.load(Ordering::Relaxed);
    let mut held = make();
    let mut fill = |numbers: std::ops::Range<usize>| {
        numbers.for_each(|number| insert(&mut held, key(number), Shared(Arc::new([7; 100]))));
        (BYTES.load(Ordering::Relaxed) - before + size_of::<C>()) as f64 / ENTRIES as f64
    };
    let full = fill(0..ENTRIES);
    let churned = fill(ENTRIES..3 * ENTRIES);
    let churned = if cache == "a plain map" { String::new() } else { format!("{churned:.1}") };
    println!("| {cache} | {name} | {full:.1} | {churned} |");
}
