//! What happens although nobody calls: debts are paid, and the machine is looked at, for those who watch it.

use std::time::Duration;

use crate::cache::Cache;
use crate::writes;

/// How often the machine is asked.
const PERIOD: Duration = Duration::from_millis(500);

/// How long after a failure, or the first success after one, the machine is looked at: by then it knows of it, and of
/// whatever else came with it.
const SETTLING: Duration = Duration::from_millis(50);

/// Watches the cache until it is dropped or shut down.
pub(crate) fn spawn(cache: &Cache) {
    let (weak, observed) = (cache.downgrade(), cache.shared_observed());
    tokio::spawn(async move {
        let mut next = tokio::time::Instant::now() + PERIOD;
        while !observed.is_closed() {
            let is_due = tokio::select! {
                biased;
                () = tokio::time::sleep_until(next) => true,
                () = observed.stirred() => {
                    tokio::time::sleep(SETTLING).await;
                    false
                }
            };
            let Some(cache) = weak.upgrade() else { break };
            if is_due {
                next = tokio::time::Instant::now() + PERIOD;
                cache.maintain();
                if cache.stores().doomed.len() > 0 {
                    tokio::spawn(writes::pay(cache.clone()));
                }
            }
            // An engine that broke is told of where it broke.
            let _next_time = cache.update_metrics().await;
        }
        observed.close();
    });
}
