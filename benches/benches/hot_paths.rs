//! `cargo bench -p tideover-benches`: what the whole of a hit costs, beside a plain cache in the same process.
//!
//! Candidates take turns in rounds, and what is shown is the median over the rounds, with the ratio to the first
//! candidate of the row: on a shared machine only ratios say anything. Keys of 24 bytes, values of 100 bytes shared by
//! reference count, 1 000 entries. What memory and breakers cost by themselves: `cargo bench -p tideover-core`.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use tideover_benches::compare;

const ENTRIES: u64 = 1_000;
const CALLS: u64 = 200_000;

fn main() {
    // `cargo test --benches` runs this program too: once through is enough to see that it works.
    let calls = if std::env::args().any(|argument| argument == "--bench") { CALLS } else { 1_000 };
    whole_hit(calls);
}

fn value() -> Bytes {
    Bytes::from(vec![7; 100])
}

fn text(number: u64) -> String {
    format!("user:{number:019}")
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
