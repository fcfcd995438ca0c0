//! `cargo bench -p tideover-benches --bench redis_store`: the Redis store beside a plain client, on a server that this
//! starts on a free port. Keys of 24 bytes, values of 100 bytes, all present; one runtime with one worker.
//!
//! The store is measured with nobody who listens to its log; with somebody, as a cache does; and writes with and without
//! comparing.
//!
//! Candidates take turns in rounds, and what is shown is the median over the rounds, with the ratio to the first
//! candidate of the row. Smaller is better; "64 callers" is the time of one read when 64 are under way.
//!
//! That time is much about how long it takes to wake a core that sleeps. What a read costs is in the rows "processor": the time
//! that client and server were at work for it, to ten milliseconds in all. It is what remains on a machine that has other things
//! to do; `taskset -c 0` in front of the program shows it.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use redis::AsyncCommands;
use redis::aio::{ConnectionManager, MultiplexedConnection};
use tideover::core::stamp::{Condition, Stamp, Version};
use tideover::core::{Invalidation, Note, Tag, WallTime, envelope};
use tideover::store::{Ear, Heard, RedisConfig, RedisStore, Store, StoreError};
use tideover_benches::compare;
use tideover_tests::redis_server::RedisServer;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

const KEYS: u64 = 1_000;
const CALLERS: u64 = 64;

/// What is compared, on one server.
#[derive(Clone)]
struct Peers {
    manager: ConnectionManager,
    multiplexed: MultiplexedConnection,
    /// Nobody listens to its log.
    store: Arc<RedisStore>,
    heeding: Arc<RedisStore>,
    ear: Arc<dyn Ear>,
}

/// Listens, and does nothing about it.
struct Deaf;

impl Ear for Deaf {
    fn hear(&self, heard: Heard) {
        black_box(heard);
    }
}

fn main() {
    // `cargo test --benches` runs this program too: once through is enough to see that it works.
    let calls = if std::env::args().any(|argument| argument == "--bench") { 20_000 } else { 640 };
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let Ok(runtime) = runtime else { return };
    match runtime.block_on(peers(&server.url())) {
        Ok(peers) => {
            sequential(runtime.handle(), calls / 4, &peers);
            concurrent(runtime.handle(), calls, &peers);
            processor(runtime.handle(), calls * 8, &peers, server.pid());
            writes(runtime.handle(), calls / 4, &peers);
            // Who listens is heard of for as long as it is held.
            drop(peers.ear);
        }
        Err(why) => println!("left out: {why}"),
    }
}

async fn peers(url: &str) -> Result<Peers, Box<dyn std::error::Error>> {
    let client = redis::Client::open(url)?;
    let (manager, multiplexed) =
        (client.get_connection_manager().await?, client.get_multiplexed_async_connection().await?);
    let store = RedisStore::connect(RedisConfig::new(url)).await?;
    for number in 0..KEYS {
        store.write(&key(number), vec![7; 100].into(), None).await?;
    }
    let ear: Arc<dyn Ear> = Arc::new(Deaf);
    let heeding = RedisStore::connect(RedisConfig::new(url)).await?;
    heeding.note(1, Note::Invalidated(Tag(1), Invalidation::Remove), WallTime::default()).await?;
    heeding.listen(&ear);
    let [store, heeding] = [store, heeding].map(Arc::new);
    Ok(Peers { manager, multiplexed, store, heeding, ear })
}

fn key(number: u64) -> String {
    format!("user:{:019}", number % KEYS)
}

fn sequential(handle: &Handle, calls: u64, peers: &Peers) {
    let Peers { manager, multiplexed, store, heeding, .. } = peers;
    compare(
        "GET, one after another",
        calls,
        vec![
            ("ConnectionManager", Box::new(|n| drop(handle.block_on(handle.spawn(ask(manager.clone(), 0, n)))))),
            (
                "MultiplexedConnection",
                Box::new(|n| drop(handle.block_on(handle.spawn(ask(multiplexed.clone(), 0, n))))),
            ),
            ("tideover", Box::new(|n| drop(handle.block_on(handle.spawn(read(Arc::clone(store), 0, n)))))),
            ("tideover, log", Box::new(|n| drop(handle.block_on(handle.spawn(read(Arc::clone(heeding), 0, n)))))),
        ],
    );
}

fn writes(handle: &Handle, calls: u64, peers: &Peers) {
    let (manager, store, heeding) = (&peers.manager, &peers.store, &peers.heeding);
    let compared = |store: &Arc<RedisStore>, n| drop(handle.block_on(handle.spawn(replace(Arc::clone(store), 0, n))));
    compare(
        "SET, one after another",
        calls,
        vec![
            ("ConnectionManager", Box::new(|n| drop(handle.block_on(handle.spawn(set(manager.clone(), 0, n)))))),
            ("tideover", Box::new(|n| drop(handle.block_on(handle.spawn(write(Arc::clone(store), 0, n)))))),
            ("tideover, compared", Box::new(|n| compared(store, n))),
            ("tideover, compared, log", Box::new(|n| compared(heeding, n))),
        ],
    );
    compare(
        "SET, 64 callers",
        calls * 4 / CALLERS * CALLERS,
        vec![
            ("ConnectionManager", Box::new(|n| all(handle, |caller| set(manager.clone(), caller, n / CALLERS)))),
            ("tideover", Box::new(|n| all(handle, |caller| write(Arc::clone(store), caller, n / CALLERS)))),
            ("tideover, compared", Box::new(|n| all(handle, |caller| replace(Arc::clone(store), caller, n / CALLERS)))),
            (
                "tideover, compared, log",
                Box::new(|n| all(handle, |caller| replace(Arc::clone(heeding), caller, n / CALLERS))),
            ),
        ],
    );
}

fn concurrent(handle: &Handle, calls: u64, peers: &Peers) {
    let Peers { manager, multiplexed, store, heeding, .. } = peers;
    compare(
        "GET, 64 callers",
        calls / CALLERS * CALLERS,
        vec![
            ("ConnectionManager", Box::new(|n| all(handle, |caller| ask(manager.clone(), caller, n / CALLERS)))),
            (
                "MultiplexedConnection",
                Box::new(|n| all(handle, |caller| ask(multiplexed.clone(), caller, n / CALLERS))),
            ),
            ("tideover", Box::new(|n| all(handle, |caller| read(Arc::clone(store), caller, n / CALLERS)))),
            ("tideover, log", Box::new(|n| all(handle, |caller| read(Arc::clone(heeding), caller, n / CALLERS)))),
        ],
    );
}

/// How long client and server were at work for one read of 64 callers.
fn processor(handle: &Handle, calls: u64, peers: &Peers, server: u32) {
    let Peers { manager, store, heeding, .. } = peers;
    let calls_each = calls / CALLERS;
    let candidates: [(&str, &dyn Fn()); 3] = [
        ("ConnectionManager", &|| all(handle, |caller| ask(manager.clone(), caller, calls_each))),
        ("tideover", &|| all(handle, |caller| read(Arc::clone(store), caller, calls_each))),
        ("tideover, log", &|| all(handle, |caller| read(Arc::clone(heeding), caller, calls_each))),
    ];
    let at_work = || [std::process::id(), server].map(|process| ticks(process).unwrap_or(0) as f64);
    let mut first = None;
    for (name, run) in candidates {
        let before = at_work();
        run();
        let after = at_work();
        // A tick is a hundredth of a second to every program, whatever the kernel's own is.
        let nanos = [0, 1].map(|which| (after[which] - before[which]) * 1e7 / (calls_each * CALLERS) as f64);
        let sum = nanos[0] + nanos[1];
        let ratio = sum / *first.get_or_insert(sum);
        let [client, server] = nanos;
        println!(
            "{:<28} {name:<24} {sum:>8.1} ns {ratio:>6.2}x  client {client:.0}, server {server:.0}",
            "GET, 64 callers, processor"
        );
    }
}

/// For how many ticks a process was at work (`man 5 proc_pid_stat`: the 14th and 15th field; the second is in parentheses).
fn ticks(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Runs the callers, each as a task of its own.
fn all<F: Future<Output: Send> + Send + 'static>(handle: &Handle, caller: impl Fn(u64) -> F) {
    handle.block_on(async {
        let mut tasks = JoinSet::new();
        (0..CALLERS).for_each(|number| drop(tasks.spawn(caller(number))));
        while tasks.join_next().await.is_some() {}
    });
}

async fn ask(mut connection: impl AsyncCommands, caller: u64, calls: u64) -> redis::RedisResult<()> {
    for call in 0..calls {
        let place = ["tideover:", &key(caller * 31 + call)].concat();
        let value: Option<Vec<u8>> = connection.get(place).await?;
        black_box(value);
    }
    Ok(())
}

async fn read(store: Arc<RedisStore>, caller: u64, calls: u64) -> Result<(), StoreError> {
    for call in 0..calls {
        black_box(store.read(&key(caller * 31 + call)).await?);
    }
    Ok(())
}

async fn set(mut connection: impl AsyncCommands, caller: u64, calls: u64) -> redis::RedisResult<()> {
    let value = envelope(0);
    for call in 0..calls {
        let place = ["tideover:", &key(caller * 31 + call)].concat();
        let () = connection.set(place, &value[..]).await?;
    }
    Ok(())
}

async fn write(store: Arc<RedisStore>, caller: u64, calls: u64) -> Result<(), StoreError> {
    let value = envelope(0);
    for call in 0..calls {
        store.write(&key(caller * 31 + call), value.clone(), None).await?;
    }
    Ok(())
}

async fn replace(store: Arc<RedisStore>, caller: u64, calls: u64) -> Result<(), StoreError> {
    for call in 0..calls {
        let value = envelope(caller << 32 | call);
        black_box(store.replace(&key(caller * 31 + call), value, None, Condition::Always).await?);
    }
    Ok(())
}

/// As it lies in the store, a hundred bytes in all.
fn envelope(number: u64) -> Bytes {
    let stamp = Stamp { version: Version { writer: number, number }, ..Stamp::default() };
    let mut bytes = envelope::tombstone(&stamp);
    bytes.resize(100, 7);
    bytes.into()
}
