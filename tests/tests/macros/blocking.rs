//! Cached functions without `async`: on threads with and without a runtime. They wait on the real clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tideover::{Error, Source, cached};

static LOADS: AtomicUsize = AtomicUsize::new(0);

#[cached(key = "slow:{id}")]
fn slow(id: u64) -> Result<u64, Error> {
    LOADS.fetch_add(1, Ordering::Relaxed);
    thread::sleep(Duration::from_millis(200));
    Ok(id)
}

#[test]
fn five_hundred_threads_are_one_load() {
    let answers: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..500).map(|_| scope.spawn(|| slow(7))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(answers.iter().all(|answer| matches!(answer, Ok(7))));
    assert_eq!(LOADS.load(Ordering::Relaxed), 1);
    assert_eq!(slow::fetch(7).expect("a number").source, Source::Memory);
}

#[cached(key = "name:{name}")]
fn length(name: &str) -> usize {
    name.len()
}

/// Asks the cache for everything that stands beside the function.
fn ask_for_all() {
    assert_eq!((length("Ada"), length("Ada")), (3, 3));
    assert_eq!(length::peek("Ada").expect("an answer").map(|fetched| *fetched.value), Some(3));
    length::invalidate("Ada").expect("it is removed");
    assert_eq!((length::refresh("Ada"), *length::fetch("Ada").value, length::uncached("Ada")), (3, 3, 3));
    assert!(length::health().expect("a report").is_healthy());
}

#[test]
fn a_thread_without_a_runtime_may_call() {
    ask_for_all();
}

#[tokio::test]
async fn a_thread_of_a_runtime_with_one_thread_may_call() {
    ask_for_all();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_of_a_runtime_with_several_may_call() {
    tokio::spawn(async { ask_for_all() }).await.expect("no panic");
    tokio::task::spawn_blocking(ask_for_all).await.expect("no panic");
}

#[cached]
fn fibonacci(n: u64) -> u64 {
    if n < 2 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }
}

#[test]
fn a_function_may_call_itself() {
    assert_eq!(fibonacci(60), 1_548_008_755_920);
    assert_eq!(fibonacci::stats().loads, 61);
}

#[cached]
fn panicking(id: u64) -> u64 {
    assert!(id > 0, "nobody has the number 0");
    id
}

#[test]
fn a_panic_reaches_the_caller_and_nobody_else() {
    let panic = thread::spawn(|| panicking(0)).join().expect_err("it panics");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"nobody has the number 0"));
    assert_eq!(panicking(1), 1);
}
