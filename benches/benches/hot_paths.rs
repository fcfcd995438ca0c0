//! `cargo bench -p tideover-benches`: what a hit, an insertion and a breaker cost, beside peers in one process.
//!
//! Candidates take turns in rounds, and what is shown is the median over the rounds, with the ratio to the first
//! candidate of the row: on a shared machine only ratios say anything. Rows are those of the project's performance
//! goals: keys of 24 bytes or `u64`, values of 100 bytes shared by reference count, 1 000 entries.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use tideover::engine::Payload;
use tideover_benches::compare;
use tideover_core::breaker::{Breaker, BreakerPolicy, Verdict};
use tideover_core::memory::{Memory, MemoryPolicy};
use tideover_core::{Entry, Instant, Windows};

const ENTRIES: u64 = 1_000;
const CALLS: u64 = 200_000;

fn main() {
    // `cargo test --benches` runs this program too: once through is enough to see that it works.
    let calls = if std::env::args().any(|argument| argument == "--bench") { CALLS } else { 1_000 };
    hot_get_number(calls);
    hot_get_text(calls);
    insert_and_evict(calls);
    breaker(calls);
    whole_hit(calls);
}

fn value() -> Bytes {
    Bytes::from(vec![7; 100])
}

fn text(number: u64) -> String {
    format!("user:{number:019}")
}

fn entry(value: Bytes) -> Entry<Payload> {
    Entry::new(value.into(), Windows { ttl: Some(Duration::from_secs(300)), ..Windows::FOREVER })
}

fn hot_get_number(calls: u64) {
    let mut memory: Memory<u64, Bytes> = Memory::new(MemoryPolicy { entries_max: 2_000, ..MemoryPolicy::default() });
    let quick = quick_cache::sync::Cache::new(2_000);
    let moka = moka::sync::Cache::new(2_000);
    for key in 0..ENTRIES {
        memory.insert(key, entry(value()), 0, Instant::ZERO);
        quick.insert(key, value());
        moka.insert(key, value());
    }
    compare(
        "hot get, u64",
        calls,
        vec![
            ("quick_cache", Box::new(|n| (0..n).for_each(|i| drop(black_box(quick.get(&(i % ENTRIES))))))),
            (
                "tideover memory, TTL on",
                Box::new(|n| {
                    (0..n).for_each(|i| drop(black_box(memory.fresh(&(i % ENTRIES), Instant::ZERO))));
                }),
            ),
            ("moka", Box::new(|n| (0..n).for_each(|i| drop(black_box(moka.get(&(i % ENTRIES))))))),
        ],
    );
}

fn hot_get_text(calls: u64) {
    let keys: Vec<String> = (0..ENTRIES).map(text).collect();
    let key = |i: u64| keys[(i % ENTRIES) as usize].as_str();
    let mut memory: Memory<String, Payload> =
        Memory::new(MemoryPolicy { entries_max: 2_000, ..MemoryPolicy::default() });
    let quick = quick_cache::sync::Cache::<String, Bytes>::new(2_000);
    let moka = moka::sync::Cache::<String, Bytes>::new(2_000);
    for key in &keys {
        memory.insert(key.clone(), entry(value()), 0, Instant::ZERO);
        quick.insert(key.clone(), value());
        moka.insert(key.clone(), value());
    }
    compare(
        "hot get, 24-byte text",
        calls,
        vec![
            ("quick_cache", Box::new(|n| (0..n).for_each(|i| drop(black_box(quick.get(key(i))))))),
            (
                "tideover memory, TTL on",
                Box::new(|n| {
                    (0..n).for_each(|i| drop(black_box(memory.fresh(key(i), Instant::ZERO))));
                }),
            ),
            ("moka", Box::new(|n| (0..n).for_each(|i| drop(black_box(moka.get(key(i))))))),
        ],
    );
}

fn insert_and_evict(calls: u64) {
    let mut memory: Memory<u64, Bytes> =
        Memory::new(MemoryPolicy { entries_max: ENTRIES as u32, ..MemoryPolicy::default() });
    let quick = quick_cache::sync::Cache::new(ENTRIES as usize);
    let shared = value();
    compare(
        "insert and evict, u64",
        calls,
        vec![
            ("quick_cache", Box::new(|n| (0..n).for_each(|i| quick.insert(i, shared.clone())))),
            (
                "tideover memory, TTL on",
                Box::new(|n| {
                    (0..n).for_each(|i| _ = memory.insert(i, entry(shared.clone()), 0, Instant::ZERO));
                }),
            ),
        ],
    );
}

fn breaker(calls: u64) {
    let now = Instant::from_nanos(1_000_000_000);
    let mut closed = Breaker::new(BreakerPolicy::default(), 1);
    let mut open = Breaker::new(BreakerPolicy { consecutive_failures: 1, ..BreakerPolicy::default() }, 1);
    if let Ok(permit) = open.try_acquire(now, now) {
        open.report(permit, Verdict::Failure, Duration::ZERO, now);
    }
    let mut sum = 0_u64;
    compare(
        "breaker",
        calls,
        vec![
            ("bare call", Box::new(|n| (0..n).for_each(|i| sum = black_box(sum.wrapping_add(i))))),
            (
                "closed, success",
                Box::new(|n| {
                    (0..n).for_each(|_| {
                        if let Ok(permit) = closed.try_acquire(now, now) {
                            closed.report(black_box(permit), Verdict::Success, Duration::ZERO, now);
                        }
                    });
                }),
            ),
            ("open, refusal", Box::new(|n| (0..n).for_each(|_| _ = black_box(open.try_acquire(now, now))))),
        ],
    );
}

/// The whole of `get_or_load` on a hit, flights, breakers and stale rules configured.
fn whole_hit(calls: u64) {
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() else {
        return;
    };
    runtime.block_on(async {
        let Ok(cache) = tideover::Cache::builder().stale_if_error(Duration::from_secs(60)).build() else { return };
        let keys: Vec<String> = (0..ENTRIES).map(text).collect();
        for key in &keys {
            if cache.put(key, value(), None).await.is_err() {
                return;
            }
        }
        let quick = quick_cache::sync::Cache::<String, Bytes>::new(2_000);
        keys.iter().for_each(|key| quick.insert(key.clone(), value()));
        let hit = |i: u64| keys[(i % ENTRIES) as usize].as_str();
        let handle = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            compare(
                "get_or_load, hit",
                calls,
                vec![
                    (
                        "quick_cache",
                        Box::new(|n| {
                            handle.block_on(async {
                                for i in 0..n {
                                    let load = std::future::ready(Ok::<_, ()>(value()));
                                    drop(black_box(quick.get_or_insert_async(hit(i), load).await));
                                }
                            });
                        }),
                    ),
                    (
                        "tideover, all on",
                        Box::new(|n| {
                            handle.block_on(async {
                                for i in 0..n {
                                    let load = |_| async { Ok(tideover::Loaded::new("not asked")) };
                                    drop(black_box(cache.get_or_load(hit(i), load).await));
                                }
                            });
                        }),
                    ),
                ],
            );
        });
    });
}
