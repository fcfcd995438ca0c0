//! What happens although nobody calls: debts are paid, and changes of a circuit are logged.

use std::time::Duration;

use tideover_core::breaker::State;
use tracing::{info, warn};

use crate::cache::Cache;
use crate::engine::{BreakerReport, Report};

/// How often the machine is asked.
const PERIOD: Duration = Duration::from_millis(500);

/// Watches the cache until it is dropped or shut down.
pub(crate) fn spawn(cache: &Cache) {
    let weak = cache.downgrade();
    tokio::spawn(async move {
        let mut seen = None;
        loop {
            tokio::time::sleep(PERIOD).await;
            let Some(cache) = weak.upgrade() else { return };
            cache.maintain();
            if let Ok(report) = cache.stats().await {
                log_changes(seen.as_ref(), &report);
                seen = Some(report);
            }
        }
    });
}

fn log_changes(before: Option<&Report>, now: &Report) {
    log_breaker("store", before.map(|before| &before.store_breaker), &now.store_breaker);
    log_breaker("loader", before.map(|before| &before.load_breaker), &now.load_breaker);
    let overflows = now.count("journal_overflows");
    if before.is_some_and(|before| before.count("journal_overflows") < overflows) {
        warn!("the journal of the outage is full: the store's namespace will be cleared when it is back");
    }
}

/// One line for each trip and each recovery, however often the circuit is probed in between.
fn log_breaker(name: &str, before: Option<&BreakerReport>, now: &BreakerReport) {
    let (trips, recoveries) = before.map_or((0, 0), |before| (before.stats.trips, before.stats.recoveries));
    if now.stats.trips > trips {
        warn!(circuit = name, trips = now.stats.trips, "circuit opened");
    }
    if now.stats.recoveries > recoveries && now.state == State::Closed {
        info!(circuit = name, recoveries = now.stats.recoveries, "circuit closed");
    }
}
