//! What is seen of a cache while its origin is away: metrics as Prometheus reads them, events, log lines, and a health
//! report for a route of one's own.
//!
//! ```sh
//! cargo run -p tideover-examples --example observability
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use tideover::{Cache, Events, Fetched, LoadError, Loaded};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    tracing_subscriber::fmt().with_target(false).init();
    // Before the cache is made: what is counted earlier, nobody is told.
    let prometheus = PrometheusBuilder::new().install_recorder()?;

    let builder = Cache::builder().name("users").ttl(Duration::from_secs(1));
    let users = builder.stale_if_error(Duration::from_secs(3600)).build()?;
    tokio::spawn(print(users.events()));

    let origin_is_away = Arc::new(AtomicBool::new(false));
    ask(&users, "user:7", &origin_is_away).await?;
    ask(&users, "user:7", &origin_is_away).await?;
    origin_is_away.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let stale = ask(&users, "user:7", &origin_is_away).await?;
    println!("served {:?} old, {:?}", stale.age, stale.stale);
    for number in 0..1_000 {
        let _failed = ask(&users, &format!("cold:{number}"), &origin_is_away).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;

    // What a route `/metrics` answers. Without the first line it may be half a second old.
    users.update_metrics().await?;
    for line in prometheus.render().lines().filter(|line| line.contains("hits") || line.contains("circuit_state")) {
        println!("{line}");
    }
    // What a route `/health` answers, with 503 unless `is_serving`: a cache in an outage does what it is there for.
    let health = users.health().await;
    println!("serving: {}, {}", health.is_serving(), serde_json::to_string_pretty(&health)?);
    users.shutdown().await;
    Ok(())
}

async fn ask(users: &Cache, key: &str, origin_is_away: &Arc<AtomicBool>) -> Result<Fetched, tideover::Error> {
    let is_away = Arc::clone(origin_is_away);
    let load = move |_| {
        let is_away = is_away.load(Ordering::Relaxed);
        async move { if is_away { Err(LoadError::unavailable("it is away")) } else { Ok(Loaded::new("Ada")) } }
    };
    users.get_or_load(key, load).await
}

/// Prints what happens, but for what single calls cause.
async fn print(mut events: Events) {
    while let Some(event) = events.recv().await {
        if !matches!(event.what.name(), "load_failed" | "stale_served") {
            println!("{}: {:?}", event.cache, event.what);
        }
    }
}
