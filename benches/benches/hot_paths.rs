//! `cargo bench -p tideover-benches`: what the whole of a hit costs, beside a plain cache in the same process.
//!
//! Candidates take turns in rounds, and what is shown is the median over the rounds, with the ratio to the first
//! candidate of the row: on a shared machine only ratios say anything. Keys of 24 bytes, values of 100 bytes shared by
//! reference count, 1 000 entries. What memory and breakers cost by themselves: `cargo bench -p tideover-core`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tideover_benches::{Candidate, compare};

const ENTRIES: u64 = 1_000;
const CALLS: u64 = 200_000;

fn main() {
    // `cargo test --benches` runs this program too: once through is enough to see that it works.
    let calls = if std::env::args().any(|argument| argument == "--bench") { CALLS } else { 1_000 };
    whole_hit(calls);
    typed_hit(calls);
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct User {
    id: u64,
    name: String,
    roles: Vec<String>,
}

impl User {
    fn new(id: u64) -> Self {
        Self { id, name: format!("user {id}"), roles: vec!["reader".into(), "writer".into()] }
    }
}

/// A hit of a value with a type, as each cache shares it: none of them copies it.
fn typed_hit(calls: u64) {
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() else {
        return;
    };
    runtime.block_on(async {
        let Ok(cache) = tideover::Cache::builder().stale_if_error(Duration::from_secs(60)).build() else { return };
        let users = cache.typed::<User>();
        let moka: moka::future::Cache<String, Arc<User>> =
            moka::future::Cache::builder().max_capacity(2_000).time_to_live(Duration::from_secs(300)).build();
        let quick = quick_cache::sync::Cache::<String, Arc<User>>::new(2_000);
        let keys: Vec<String> = (0..ENTRIES).map(text).collect();
        for (key, id) in keys.iter().zip(0..) {
            if users.put(key, &User::new(id)).await.is_err() {
                return;
            }
            moka.insert(key.clone(), Arc::new(User::new(id))).await;
            quick.insert(key.clone(), Arc::new(User::new(id)));
        }
        let hit = |i: u64| keys[(i % ENTRIES) as usize].as_str();
        let handle = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            let quick_cache = |n| {
                handle.block_on(async {
                    for i in 0..n {
                        let load = std::future::ready(Ok::<_, ()>(Arc::new(User::new(0))));
                        drop(black_box(quick.get_or_insert_async(hit(i), load).await));
                    }
                });
            };
            let moka = |n| {
                handle.block_on(async {
                    for i in 0..n {
                        let load = async { Ok::<_, ()>(Arc::new(User::new(0))) };
                        drop(black_box(moka.try_get_with_by_ref(hit(i), load).await));
                    }
                });
            };
            let tideover = |n| {
                handle.block_on(async {
                    for i in 0..n {
                        let load = |_| async { Ok::<_, String>(User::new(0)) };
                        drop(black_box(users.get_or_load(hit(i), load).await));
                    }
                });
            };
            let candidates: Vec<Candidate<'_>> = vec![
                ("quick_cache, no TTL", Box::new(quick_cache)),
                ("moka, TTL", Box::new(moka)),
                ("tideover, all on", Box::new(tideover)),
            ];
            compare("typed get_or_load, hit", calls, candidates);
        });
    });
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
