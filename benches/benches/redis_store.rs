//! `cargo bench -p tideover-benches --bench redis_store`: the Redis store beside a plain client, on a server that this
//! starts on a free port. Keys of 24 bytes, values of 100 bytes, all present; one runtime with one worker.
//!
//! Candidates take turns in rounds, and what is shown is the median over the rounds, with the ratio to the first
//! candidate of the row. Smaller is better; "64 callers" is the time of one read when 64 are under way.

use std::hint::black_box;
use std::sync::Arc;

use redis::AsyncCommands;
use redis::aio::{ConnectionManager, MultiplexedConnection};
use tideover::store::{RedisConfig, RedisStore, Store, StoreError};
use tideover_benches::compare;
use tideover_tests::redis_server::RedisServer;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

const KEYS: u64 = 1_000;
const CALLERS: u64 = 64;

/// The three that are compared, on one server.
#[derive(Clone)]
struct Peers {
    manager: ConnectionManager,
    multiplexed: MultiplexedConnection,
    store: Arc<RedisStore>,
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
    Ok(Peers { manager, multiplexed, store: Arc::new(store) })
}

fn key(number: u64) -> String {
    format!("user:{:019}", number % KEYS)
}

fn sequential(handle: &Handle, calls: u64, peers: &Peers) {
    let (manager, multiplexed, store) = (&peers.manager, &peers.multiplexed, &peers.store);
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
        ],
    );
}

fn concurrent(handle: &Handle, calls: u64, peers: &Peers) {
    let (manager, multiplexed, store) = (&peers.manager, &peers.multiplexed, &peers.store);
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
        ],
    );
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
