//! A program without a runtime: threads that ask for the same, one load, and stale that stands in when the origin is gone.
//!
//! ```sh
//! cargo run -p tideover-examples --example blocking
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tideover::Cache;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache =
        Cache::builder().ttl(Duration::from_millis(200)).stale_if_error(Duration::from_secs(60)).build_blocking()?;
    let prices = cache.typed::<u32>();
    let loads = Arc::new(AtomicUsize::new(0));

    let began = Instant::now();
    let threads: Vec<_> = (0..100)
        .map(|_| {
            let (prices, loads) = (prices.clone(), Arc::clone(&loads));
            thread::spawn(move || {
                let load = move |_| {
                    loads.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(100)); // a slow origin
                    Ok::<_, std::io::Error>(42)
                };
                prices.get_or_load("price:7", load).map(|price| *price.value).unwrap_or_default()
            })
        })
        .collect();
    let right = threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|price| *price == 42).count();
    println!("{right} threads have the price after {:?}, {} load", began.elapsed(), loads.load(Ordering::Relaxed));

    thread::sleep(Duration::from_millis(300));
    let down = |_| Err::<u32, _>(std::io::Error::other("the origin is gone"));
    let price = prices.get_or_load("price:7", down)?;
    println!("the origin is gone: {} all the same, {:?} old, {:?}", price.value, price.age, price.stale);
    cache.shutdown();
    Ok(())
}
